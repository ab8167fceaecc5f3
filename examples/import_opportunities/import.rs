//! Writes what was cleaned into the CRM: tenant, pipeline, staff and accounts here, the deals at
//! [`deals`](super::deals). Tenant, pipeline, staff and accounts are one commit each.
//!
//! What is there already is found by what the source calls it, and stays as it is:
//!
//! | record                           | is found again by                               |
//! |----------------------------------|-------------------------------------------------|
//! | tenant                           | its subdomain                                   |
//! | pipeline, stage, team, account   | its name                                        |
//! | user                             | the e-mail address                              |
//! | member of a team                 | team and user                                   |
//! | deal                             | the opportunity's id, in a custom field         |
//! | step of a deal                   | the stage in which the deal is                  |
//!
//! So a second import of the same files writes nothing, and one of newer files, or after an import
//! that was stopped, does the rest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crm_engine::prelude::*;
use crm_engine::query::MAX_LIMIT;
use crm_engine::schema::Value;
use indicatif::ProgressBar;

use super::clean::{Agent, Cleaned, Company};
use super::deals::{Deals, Diary};
use super::read::{AgentRow, CsvRow, Line, Rejected};
use super::{Failure, Target};

const SUBDOMAIN: &str = "hardware-sales";
const PIPELINE: &str = "Opportunities";
const STAGES: [(&str, u8, StageType); 4] = [
    ("Prospecting", 10, StageType::Open),
    ("Engaging", 50, StageType::Open),
    ("Won", 100, StageType::ClosedWon),
    ("Lost", 0, StageType::ClosedLost),
];

/// The tenant as the import left it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) session: Session,
    pub(crate) stages: Stages,
    /// The names of the products, with which deals are tagged.
    pub(crate) products: Vec<String>,
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
    target.clock.set(diary.eve());
    let session = open_tenant(&target.crm, &mut log).await?;
    let stages = create_pipeline(&session, &mut log).await?;
    let staff = create_staff(&session, agents, &mut log).await?;
    let accounts = create_accounts(&session, companies, &mut log).await?;

    let deals = Deals::new(session.clone(), stages, staff, accounts, log);
    let log = deals.import(&diary, &target.clock, bar).await?;
    let products = products.into_iter().map(|product| product.name).collect();
    Ok(Imported {
        session,
        stages,
        products,
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
    for (name, probability, stage_type) in STAGES {
        if let Some(stage) = known.iter().find(|stage| stage.name == name) {
            log.found::<PipelineStage>();
            stages.push(stage.id);
            continue;
        }
        let stage = PipelineStage {
            default_probability: Percent::from_whole(probability)?,
            stage_type,
            // `add_stage` puts each stage behind the others.
            ..PipelineStage::new(pipeline, name, 1_u32)
        };
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

/// Who sells where, by the sales agent's name.
pub(crate) type Staff = HashMap<String, (Id<User>, Id<Team>)>;

/// The agents, the managers whom they report to, and a team for each region.
async fn create_staff(
    session: &Session,
    agents: Vec<Agent>,
    log: &mut Log,
) -> Result<Staff, Failure> {
    let mut office = Office::open(session, &agents, log).await?;
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
        // Whoever has a manager keeps that one.
        let reports = users
            .update(agent, |user| {
                user.manager_id.get_or_insert(leader);
            })
            .await;
        office
            .log
            .keep(reports, &line, "the agent has no manager")?;
        office.join(team, leader, TeamRole::Lead).await?;
        office.join(team, agent, TeamRole::Member).await?;
        staff.insert(sales_agent.clone(), (agent, team));
    }
    office.work.commit().await?;
    Ok(staff)
}

/// Creates each user, team and membership once.
#[derive(Debug)]
struct Office<'a> {
    work: UnitOfWork,
    log: &'a mut Log,
    users: HashMap<String, Id<User>>,
    teams: HashMap<String, Id<Team>>,
    members: HashSet<(Id<Team>, Id<User>)>,
    joined: HashSet<(Id<Team>, Id<User>)>,
}

impl<'a> Office<'a> {
    async fn open(session: &Session, agents: &[Agent], log: &'a mut Log) -> Result<Self> {
        let emails = agents
            .iter()
            .flat_map(|agent| [agent.email.as_str(), agent.manager_email.as_str()]);
        let regions = agents
            .iter()
            .map(|agent| agent.line.row.regional_office.as_str());
        let users = find_by::<User>(session, "email", emails).await?;
        let teams = find_by::<Team>(session, "name", regions).await?;
        let members = all::<TeamMember>(session, Find::new().with_archived()).await?;
        users.iter().for_each(|_| log.found::<User>());
        teams.iter().for_each(|_| log.found::<Team>());
        Ok(Self {
            work: session.begin(),
            log,
            users: users
                .iter()
                .map(|user| (user.email.as_str().to_owned(), user.id))
                .collect(),
            teams: teams
                .iter()
                .map(|team| (team.name.clone(), team.id))
                .collect(),
            members: members
                .iter()
                .map(|member| (member.team_id, member.user_id))
                .collect(),
            joined: HashSet::new(),
        })
    }

    async fn user(&mut self, name: &str, email: EmailAddress, job: &str) -> Result<Id<User>> {
        if let Some(user) = self.users.get(email.as_str()) {
            return Ok(*user);
        }
        let address = email.as_str().to_owned();
        let user = User {
            name: PersonName::split(name),
            display_name: Some(name.to_owned()),
            job_title: Some(job.to_owned()),
            ..User::new(email)
        };
        let user = self.work.users().create(user).await?.id;
        self.log.created::<User>();
        self.users.insert(address, user);
        Ok(user)
    }

    async fn team(&mut self, region: &str) -> Result<Id<Team>> {
        if let Some(team) = self.teams.get(region) {
            return Ok(*team);
        }
        let team = self.work.teams().create(Team::new(region)).await?.id;
        self.log.created::<Team>();
        self.teams.insert(region.to_owned(), team);
        Ok(team)
    }

    async fn join(&mut self, team: Id<Team>, user: Id<User>, role: TeamRole) -> Result<()> {
        if !self.joined.insert((team, user)) {
            return Ok(());
        }
        if self.members.contains(&(team, user)) {
            self.log.found::<TeamMember>();
            return Ok(());
        }
        self.work.teams().add_member(team, user, role).await?;
        self.log.created::<TeamMember>();
        Ok(())
    }
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
