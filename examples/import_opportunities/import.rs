//! Writes what was cleaned into the CRM: tenant, pipeline, products and accounts here, users and teams
//! at [`staff`](super::staff), the deals at [`deals`](super::deals). Tenant, pipeline, staff, products
//! and accounts are one commit each.
//!
//! What is there already is found by what the source calls it, and stays as it is:
//!
//! | record                           | is found again by                               |
//! |----------------------------------|-------------------------------------------------|
//! | tenant                           | its subdomain                                   |
//! | pipeline, stage, team            | its name                                        |
//! | product, account                 | its name                                        |
//! | user                             | the e-mail address                              |
//! | member of a team                 | team and user                                   |
//! | deal, with its line              | the opportunity's id, in a custom field         |
//! | step of a deal                   | the stage in which the deal is                  |
//!
//! So a second import of the same files writes nothing, and one of newer files, or after an import
//! that was stopped, does the rest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{Days, NaiveDate, NaiveTime};
use crm_engine::prelude::*;
use crm_engine::query::MAX_LIMIT;
use crm_engine::schema::Value;
use indicatif::ProgressBar;

use super::clean::{Cleaned, Company, Product as Sold};
use super::deals::{Deals, Diary};
use super::read::{CsvRow, Line, Rejected};
use super::staff::create_staff;
use super::{Failure, Target};

const SUBDOMAIN: &str = "hardware-sales";
const PIPELINE: &str = "Opportunities";
/// After so many days in Engaging without an activity a deal is no more worked on.
pub(crate) const ROTTING_AFTER_DAYS: i32 = 90;

/// The tenant as the import left it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) session: Session,
    pub(crate) stages: Stages,
    /// The first and the last day of the source.
    pub(crate) days: RangeInclusive<NaiveDate>,
    pub(crate) log: Log,
}

/// The stages of the pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub(crate) pipeline: Id<Pipeline>,
    pub(crate) prospecting: Id<PipelineStage>,
    pub(crate) engaging: Id<PipelineStage>,
    pub(crate) won: Id<PipelineStage>,
    pub(crate) lost: Id<PipelineStage>,
}

pub(crate) async fn import(
    target: &Target,
    cleaned: Cleaned,
    bar: &ProgressBar,
) -> Result<Imported, Failure> {
    let Cleaned {
        companies,
        products,
        agents,
        opportunities,
        rejected,
    } = cleaned;
    let mut log = Log {
        rejected,
        ..Log::default()
    };
    let diary = Diary::of(&opportunities);
    let days = diary.days();
    let midnight = |day: Option<NaiveDate>| Some(day?.and_time(NaiveTime::MIN).and_utc());
    let eve = midnight(days.start().checked_sub_days(Days::new(1)));
    let end = midnight(days.end().checked_add_days(Days::new(1)));
    let (eve, end) = eve.zip(end).ok_or("the calendar ends")?;
    target.clock.set(eve);
    let session = open_tenant(&target.crm, &mut log).await?;
    let stages = create_pipeline(&session, &mut log).await?;
    let staff = create_staff(&session, agents, &mut log).await?;
    let products = create_products(&session, &products, &mut log).await?;
    let accounts = create_accounts(&session, companies, &mut log).await?;

    let deals = Deals::new(session.clone(), stages, staff, products, accounts, log);
    let log = deals.import(&diary, &target.clock, bar).await?;
    // The report looks back at the end of the last day.
    target.clock.set(end);
    Ok(Imported {
        session,
        stages,
        days,
        log,
    })
}

/// What the import did.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// How many records of each object it created.
    pub(crate) created: BTreeMap<&'static str, u64>,
    /// How many it would have created, but found.
    pub(crate) already_there: BTreeMap<&'static str, u64>,
    pub(crate) rejected: Vec<Rejected>,
}

impl Log {
    pub(crate) fn created<E: Entity>(&mut self) {
        *self.created.entry(E::schema().name()).or_default() += 1;
    }

    pub(crate) fn found<E: Entity>(&mut self) {
        *self.already_there.entry(E::schema().name()).or_default() += 1;
    }

    /// Notes what the engine refuses because of the row, and goes on; any other failure ends the
    /// import.
    pub(crate) fn keep<T, R: CsvRow>(
        &mut self,
        outcome: Result<T>,
        line: &Line<R>,
        consequence: &str,
    ) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error @ (Error::Validation(_) | Error::Rule(_))) => {
                let reason = format!("{consequence}: {error}");
                self.rejected.push(line.reject(reason));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        for (object, count) in other.created {
            *self.created.entry(object).or_default() += count;
        }
        for (object, count) in other.already_there {
            *self.already_there.entry(object).or_default() += count;
        }
        self.rejected.extend(other.rejected);
    }
}

/// Every record that a request finds, page by page.
pub(crate) async fn all<E: Entity>(
    session: &Session,
    mut find: Find<E>,
) -> Result<Vec<Arc<Record<E>>>> {
    find = find.limit(MAX_LIMIT);
    let mut records = Vec::new();
    loop {
        let page = session.records::<E>().find(find.clone()).await?;
        records.extend(page.items);
        match page.next {
            Some(next) => find = find.after(next),
            None => return Ok(records),
        }
    }
}

/// The records in which `field` is one of these texts: one question for a thousand of them.
pub(crate) async fn find_by<E: Entity>(
    session: &Session,
    field: &'static str,
    texts: impl IntoIterator<Item = &str> + Send,
) -> Result<Vec<Arc<Record<E>>>> {
    let texts: HashSet<&str> = texts.into_iter().collect();
    let values: Vec<Value> = texts.into_iter().map(Value::from).collect();
    let mut records = Vec::new();
    for values in values.chunks(Filter::MAX_VALUES) {
        let one_of = Filter::In {
            field: field.into(),
            values: values.to_vec(),
        };
        // What was put out of the way is there as well.
        let find = Find::new().filter_by_name(one_of).with_archived();
        records.extend(all(session, find).await?);
    }
    Ok(records)
}

async fn open_tenant(crm: &Crm, log: &mut Log) -> Result<Session> {
    let tenant = match crm.tenant_by_subdomain(SUBDOMAIN).await {
        Ok(tenant) => {
            log.found::<Tenant>();
            tenant.id
        }
        Err(Error::NotFound { .. }) => {
            let onboarding = Onboarding::new("Hardware Sales", SUBDOMAIN, "admin@example.com");
            log.created::<Tenant>();
            crm.onboard(onboarding).await?.tenant
        }
        Err(error) => return Err(error),
    };
    // The audit trail says of everything below that this import did it.
    let import = crm.ids().next(crm.clock().now());
    Ok(crm.session(tenant, Actor::Import(import)))
}

/// The tenant has a pipeline from onboarding; this one takes its place as the default.
async fn create_pipeline(session: &Session, log: &mut Log) -> Result<Stages, Failure> {
    let mut work = session.begin();
    let known = find_by::<Pipeline>(session, "name", [PIPELINE]).await?;
    let pipeline = match known.first() {
        Some(pipeline) => {
            log.found::<Pipeline>();
            pipeline.id
        }
        None => {
            let pipeline = Pipeline {
                is_default: true,
                ..Pipeline::new(PIPELINE)
            };
            log.created::<Pipeline>();
            work.pipelines().create(pipeline).await?.id
        }
    };
    let known = work.pipelines().stages(pipeline).await?;
    let mut stages = Vec::new();
    for stage in wanted_stages(pipeline)? {
        if let Some(stage) = known.iter().find(|known| known.name == stage.name) {
            log.found::<PipelineStage>();
            stages.push(stage.id);
            continue;
        }
        log.created::<PipelineStage>();
        stages.push(work.pipelines().add_stage(stage).await?.id);
    }
    work.commit().await?;
    let [prospecting, engaging, won, lost] = stages[..] else {
        return Err("four stages".into());
    };
    Ok(Stages {
        pipeline,
        prospecting,
        engaging,
        won,
        lost,
    })
}

/// The stages of the source. A deal that is engaged may come; one that is not yet is pipeline.
fn wanted_stages(pipeline: Id<Pipeline>) -> Result<[PipelineStage; 4], Failure> {
    let stage = |name: &str, probability, stage_type| {
        Ok::<_, Failure>(PipelineStage {
            default_probability: Percent::from_whole(probability)?,
            stage_type,
            // `add_stage` puts each stage behind the others.
            ..PipelineStage::new(pipeline, name, 1_u32)
        })
    };
    let engaging = PipelineStage {
        forecast_category: Some(ForecastCategory::BestCase),
        rotting_after_days: Some(ROTTING_AFTER_DAYS),
        ..stage("Engaging", 50, StageType::Open)?
    };
    Ok([
        stage("Prospecting", 10, StageType::Open)?,
        engaging,
        stage("Won", 100, StageType::ClosedWon)?,
        stage("Lost", 0, StageType::ClosedLost)?,
    ])
}

/// The catalogue: the products by name, each with its list price and its series.
async fn create_products(
    session: &Session,
    products: &[Arc<Sold>],
    log: &mut Log,
) -> Result<HashMap<String, Id<Product>>, Failure> {
    let names = products.iter().map(|product| product.name());
    let known = find_by::<Product>(session, "name", names).await?;
    let mut catalogue: HashMap<String, Id<Product>> = known
        .iter()
        .map(|product| (product.name.clone(), product.id))
        .collect();
    let mut work = session.begin();
    for sold in products {
        if catalogue.contains_key(sold.name()) {
            log.found::<Product>();
            continue;
        }
        let series = &sold.line.row.series;
        let product = Product {
            category: Some(series.clone()).filter(|series| !series.is_empty()),
            unit_price: Some(sold.list_price),
            currency: Currency::USD,
            ..Product::new(sold.name())
        };
        let created = work.products().create(product).await;
        if let Some(product) = log.keep(created, &sold.line, "not taken over")? {
            log.created::<Product>();
            catalogue.insert(sold.name().to_owned(), product.id);
        }
    }
    work.commit().await?;
    Ok(catalogue)
}

/// The accounts by name; first all of them, then who belongs to whom.
async fn create_accounts(
    session: &Session,
    companies: Vec<Company>,
    log: &mut Log,
) -> Result<HashMap<String, Id<Account>>, Failure> {
    let names = companies
        .iter()
        .map(|company| company.line.row.account.as_str());
    let known = find_by::<Account>(session, "name", names).await?;
    let mut accounts: HashMap<String, Id<Account>> = known
        .iter()
        .map(|account| (account.name.clone(), account.id))
        .collect();
    let mut work = session.begin();
    for company in &companies {
        let name = &company.line.row.account;
        if accounts.contains_key(name) {
            log.found::<Account>();
            continue;
        }
        let created = work.accounts().create(account(company)).await;
        if let Some(account) = log.keep(created, &company.line, "not taken over")? {
            log.created::<Account>();
            accounts.insert(name.clone(), account.id);
        }
    }
    for Company { line, .. } in &companies {
        let (child, parent) = (accounts.get(&line.row.account), &line.row.subsidiary_of);
        let Some(child) = child.filter(|_| !parent.is_empty()) else {
            continue;
        };
        let Some(parent) = accounts.get(parent).copied() else {
            let reason = "the account has no parent: unknown `subsidiary_of`";
            log.rejected.push(line.reject(reason));
            continue;
        };
        // An account that has a parent keeps it.
        let linked = work
            .accounts()
            .update(*child, |account| {
                account.parent_account_id.get_or_insert(parent);
            })
            .await;
        log.keep(linked, line, "the account has no parent")?;
    }
    work.commit().await?;
    Ok(accounts)
}

fn account(company: &Company) -> Account {
    let row = &company.line.row;
    let office = Address {
        country: company.country,
        ..Address::default()
    };
    Account {
        account_type: AccountType::Customer,
        industry: Some(row.sector.clone()).filter(|sector| !sector.is_empty()),
        founded_year: company.founded_year,
        annual_revenue: company.annual_revenue,
        employee_count: company.employee_count,
        billing_address: company.country.map(|_| office),
        ..Account::new(&row.account)
    }
}
