//! Writes what was cleaned into the CRM, each step at the time at which it happened.
//!
//! ```text
//!  the day before the first    tenant, pipeline, staff, accounts      one commit for each
//!  each day of the source      09:00  new deals enter Prospecting     one commit for all of them
//!                              12:00  deals move to Engaging          one commit for all of them
//!                              12:00  deals are won or lost           one commit for all of them
//! ```
//!
//! A unit of work has one time, so what happened together is one unit of work. The stage history
//! then tells how long each deal was in each stage, and the audit trail tells every step. When a
//! deal entered Prospecting the source does not say: here it is the morning of the day on which it
//! moved on, or the source's last day if it never did.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{Days, NaiveDate, NaiveTime};
use crm_engine::MemoryStorage;
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::prelude::*;
use indicatif::ProgressBar;
use serde_json::json;

use super::Failure;
use super::clean::{Agent, Cleaned, Company, Journey, Opportunity, Product};
use super::read::{AgentRow, CsvRow, Line, OpportunityRow, Rejected};

const MORNING: NaiveTime = NaiveTime::from_hms_opt(9, 0, 0).unwrap();
const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).unwrap();

/// The tenant as the import left it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) session: Session,
    pub(crate) stages: Stages,
    /// The names of the products, with which deals are tagged.
    pub(crate) products: Vec<String>,
    pub(crate) rejected: Vec<Rejected>,
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

pub(crate) async fn import(cleaned: Cleaned, bar: &ProgressBar) -> Result<Imported, Failure> {
    let Cleaned {
        companies,
        products,
        agents,
        opportunities,
        mut rejected,
    } = cleaned;
    let diary = Diary::of(&opportunities);
    let clock = Arc::new(ManualClock::new(diary.eve().and_time(MORNING).and_utc()));
    let crm = Crm::builder(MemoryStorage::new())
        .clock(clock.clone())
        .build();
    let onboarding = Onboarding::new("Hardware Sales", "hardware-sales", "admin@example.com");
    let tenant = crm.onboard(onboarding).await?.tenant;
    // The audit trail says of everything below that this import did it.
    let session = crm.session(tenant, Actor::Import(crm.ids().next(clock.now())));

    let stages = create_pipeline(&session).await?;
    let staff = create_staff(&session, agents, &mut rejected).await?;
    let accounts = create_accounts(&session, companies, &mut rejected).await?;

    bar.set_length(diary.steps());
    let mut deals = Deals {
        session,
        stages,
        staff,
        accounts,
        ids: HashMap::new(),
        rejected,
    };
    for (day, steps) in &diary.days {
        clock.set(day.and_time(MORNING).and_utc());
        deals.enter(&steps.entering).await?;
        clock.set(day.and_time(NOON).and_utc());
        deals.engage(&steps.engaging).await?;
        deals.close(&steps.closing).await?;
        bar.inc(steps.count());
    }
    bar.finish_and_clear();
    let products = products.into_iter().map(|product| product.name).collect();
    Ok(Imported {
        session: deals.session,
        stages,
        products,
        rejected: deals.rejected,
    })
}

/// What happens on which day.
#[derive(Debug)]
struct Diary<'a> {
    days: BTreeMap<NaiveDate, Steps<'a>>,
}

#[derive(Debug, Default)]
struct Steps<'a> {
    entering: Vec<&'a Opportunity>,
    engaging: Vec<&'a Opportunity>,
    closing: Vec<&'a Opportunity>,
}

impl Steps<'_> {
    const fn count(&self) -> u64 {
        (self.entering.len() + self.engaging.len() + self.closing.len()) as u64
    }
}

impl<'a> Diary<'a> {
    fn of(opportunities: &'a [Opportunity]) -> Self {
        let dates = |o: &Opportunity| [o.journey.engaged(), o.journey.closed()];
        let last_day = opportunities
            .iter()
            .flat_map(dates)
            .flatten()
            .max()
            .unwrap_or_default();
        let mut days: BTreeMap<NaiveDate, Steps<'a>> = BTreeMap::new();
        for opportunity in opportunities {
            let engaged = opportunity.journey.engaged();
            days.entry(engaged.unwrap_or(last_day))
                .or_default()
                .entering
                .push(opportunity);
            if let Some(day) = engaged {
                days.entry(day).or_default().engaging.push(opportunity);
            }
            if let Some(day) = opportunity.journey.closed() {
                days.entry(day).or_default().closing.push(opportunity);
            }
        }
        Self { days }
    }

    /// The day before the first one, on which the tenant comes in.
    fn eve(&self) -> NaiveDate {
        let first = self.days.keys().next().copied().unwrap_or_default();
        first.checked_sub_days(Days::new(1)).unwrap_or(first)
    }

    fn steps(&self) -> u64 {
        self.days.values().map(Steps::count).sum()
    }
}

/// The tenant has a pipeline from onboarding; this one takes its place as the default.
async fn create_pipeline(session: &Session) -> Result<Stages, Failure> {
    let mut work = session.begin();
    let pipeline = Pipeline {
        is_default: true,
        ..Pipeline::new("Opportunities")
    };
    let pipeline = work.pipelines().create(pipeline).await?.id;
    let mut stages = Vec::new();
    for (name, probability, stage_type) in [
        ("Prospecting", 10, StageType::Open),
        ("Engaging", 50, StageType::Open),
        ("Won", 100, StageType::ClosedWon),
        ("Lost", 0, StageType::ClosedLost),
    ] {
        let stage = PipelineStage {
            default_probability: Percent::from_whole(probability)?,
            stage_type,
            // `add_stage` puts each stage behind the others.
            ..PipelineStage::new(pipeline, name, 1_u32)
        };
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

/// Who sells where, by the sales agent's name.
type Staff = HashMap<String, (Id<User>, Id<Team>)>;

/// The agents, the managers whom they report to, and a team for each region.
async fn create_staff(
    session: &Session,
    agents: Vec<Agent>,
    rejected: &mut Vec<Rejected>,
) -> Result<Staff, Failure> {
    let mut office = Office::new(session);
    let mut staff = Staff::new();
    for Agent {
        line,
        email,
        manager_email,
    } in agents
    {
        let AgentRow {
            sales_agent,
            manager,
            regional_office,
        } = &line.row;
        let leader = office.user(manager, manager_email, "Sales manager").await?;
        let agent = office.user(sales_agent, email, "Sales agent").await?;
        let team = office.team(regional_office).await?;
        let mut users = office.work.users();
        let reports = users
            .update(agent, |user| user.manager_id = Some(leader))
            .await;
        keep(reports, &line, "the agent has no manager", rejected)?;
        office
            .work
            .teams()
            .add_member(team, leader, TeamRole::Lead)
            .await?;
        office
            .work
            .teams()
            .add_member(team, agent, TeamRole::Member)
            .await?;
        staff.insert(sales_agent.clone(), (agent, team));
    }
    office.work.commit().await?;
    Ok(staff)
}

/// Creates each user and each team once.
#[derive(Debug)]
struct Office {
    work: UnitOfWork,
    users: HashMap<String, Id<User>>,
    teams: HashMap<String, Id<Team>>,
}

impl Office {
    fn new(session: &Session) -> Self {
        Self {
            work: session.begin(),
            users: HashMap::new(),
            teams: HashMap::new(),
        }
    }

    async fn user(&mut self, name: &str, email: EmailAddress, job: &str) -> Result<Id<User>> {
        if let Some(user) = self.users.get(name) {
            return Ok(*user);
        }
        let user = User {
            name: PersonName::split(name),
            display_name: Some(name.to_owned()),
            job_title: Some(job.to_owned()),
            ..User::new(email)
        };
        let user = self.work.users().create(user).await?.id;
        self.users.insert(name.to_owned(), user);
        Ok(user)
    }

    async fn team(&mut self, region: &str) -> Result<Id<Team>> {
        if let Some(team) = self.teams.get(region) {
            return Ok(*team);
        }
        let team = self.work.teams().create(Team::new(region)).await?.id;
        self.teams.insert(region.to_owned(), team);
        Ok(team)
    }
}

/// The accounts by name; first all of them, then who belongs to whom.
async fn create_accounts(
    session: &Session,
    companies: Vec<Company>,
    rejected: &mut Vec<Rejected>,
) -> Result<HashMap<String, Id<Account>>, Failure> {
    let mut work = session.begin();
    let mut accounts = HashMap::new();
    for company in &companies {
        let created = work.accounts().create(account(company)).await;
        if let Some(account) = keep(created, &company.line, "not taken over", rejected)? {
            accounts.insert(company.line.row.account.clone(), account.id);
        }
    }
    for Company { line, .. } in &companies {
        let (child, parent) = (accounts.get(&line.row.account), &line.row.subsidiary_of);
        let Some(child) = child.filter(|_| !parent.is_empty()) else {
            continue;
        };
        let Some(parent) = accounts.get(parent) else {
            rejected.push(line.reject("the account has no parent: unknown `subsidiary_of`"));
            continue;
        };
        let linked = work.accounts().set_parent(*child, Some(*parent)).await;
        keep(linked, line, "the account has no parent", rejected)?;
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

/// The deals, which go their way day by day.
#[derive(Debug)]
struct Deals {
    session: Session,
    stages: Stages,
    staff: Staff,
    accounts: HashMap<String, Id<Account>>,
    /// By the source's id of the opportunity.
    ids: HashMap<String, Id<Deal>>,
    rejected: Vec<Rejected>,
}

impl Deals {
    async fn enter(&mut self, opportunities: &[&Opportunity]) -> Result<(), Failure> {
        let mut work = self.session.begin();
        for Opportunity { line, product, .. } in opportunities {
            let Some(deal) = self.deal(&line.row, product) else {
                self.rejected
                    .push(line.reject("its account was not taken over"));
                continue;
            };
            let created = work.deals().create(deal).await;
            if let Some(deal) = keep(created, line, "not taken over", &mut self.rejected)? {
                self.ids.insert(line.row.opportunity_id.clone(), deal.id);
            }
        }
        work.commit().await?;
        Ok(())
    }

    /// The deal as it enters the pipeline, worth the list price until a better figure is known.
    fn deal(&self, row: &OpportunityRow, product: &Product) -> Option<Deal> {
        let (owner, team) = *self.staff.get(&row.sales_agent)?;
        let (name, account) = match row.account.as_str() {
            "" => (product.name.clone(), None),
            account => (
                format!("{} for {account}", product.name),
                Some(*self.accounts.get(account)?),
            ),
        };
        Some(Deal {
            stage_id: Some(self.stages.prospecting),
            amount: Some(product.list_price),
            currency: Currency::USD,
            account_id: account,
            owner_id: Some(owner),
            team_id: Some(team),
            tags: vec![product.name.clone(), product.series.clone()],
            custom_fields: json!({"opportunity_id": row.opportunity_id}),
            ..Deal::new(name, self.stages.pipeline)
        })
    }

    async fn engage(&mut self, opportunities: &[&Opportunity]) -> Result<(), Failure> {
        let mut work = self.session.begin();
        for Opportunity { line, .. } in opportunities {
            if let Some(deal) = self.ids.get(&line.row.opportunity_id) {
                let moved = work.deals().move_to(*deal, self.stages.engaging).await;
                keep(
                    moved,
                    line,
                    "the deal stays in Prospecting",
                    &mut self.rejected,
                )?;
            }
        }
        work.commit().await?;
        Ok(())
    }

    async fn close(&mut self, opportunities: &[&Opportunity]) -> Result<(), Failure> {
        let mut work = self.session.begin();
        for Opportunity { line, journey, .. } in opportunities {
            let Some(deal) = self.ids.get(&line.row.opportunity_id).copied() else {
                continue;
            };
            let mut deals = work.deals();
            let closed = match *journey {
                // Stage and price in one step; the rules of a move hold for every write.
                Journey::Won { value, .. } => {
                    let won = self.stages.won;
                    let win = move |deal: &mut Deal| {
                        deal.amount = Some(value);
                        deal.stage_id = Some(won);
                    };
                    deals.update(deal, win).await
                }
                _ => deals.move_to(deal, self.stages.lost).await,
            };
            keep(
                closed,
                line,
                "the deal stays in Engaging",
                &mut self.rejected,
            )?;
        }
        work.commit().await?;
        Ok(())
    }
}

/// Notes what the engine refuses because of the row, and goes on; any other failure ends the import.
fn keep<T, R: CsvRow>(
    outcome: Result<T>,
    line: &Line<R>,
    consequence: &str,
    rejected: &mut Vec<Rejected>,
) -> Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error @ (Error::Validation(_) | Error::Rule(_))) => {
            rejected.push(line.reject(format!("{consequence}: {error}")));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
