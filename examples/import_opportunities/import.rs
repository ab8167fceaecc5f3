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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use crm_engine::engine::{Clock, IdGenerator, ManualClock};
use crm_engine::prelude::*;
use crm_engine::MemoryStorage;
use indicatif::ProgressBar;
use serde_json::json;

use super::Failure;
use super::clean::{Agent, Cleaned, Company, Journey, Opportunity};
use super::read::{CsvRow, Line, Rejected};

const MORNING: NaiveTime = NaiveTime::from_hms_opt(9, 0, 0).unwrap();
const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).unwrap();

/// The tenant as the import left it.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) session: Session,
    pub(crate) stages: Stages,
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
    let Cleaned { companies, agents, opportunities, mut rejected, .. } = cleaned;
    let diary = Diary::of(&opportunities);
    let clock = Arc::new(ManualClock::new(diary.eve().and_time(MORNING).and_utc()));
    let crm = Crm::builder(MemoryStorage::new()).clock(clock.clone()).build();
    let onboarding = Onboarding::new("Hardware Sales", "hardware-sales", "admin@example.com");
    let tenant = crm.onboard(onboarding).await?.tenant;
    // The audit trail says of everything below that this import did it.
    let session = crm.session(tenant, Actor::Import(crm.ids().next(clock.now())));

    let stages = create_pipeline(&session).await?;
    let staff = create_staff(&session, &agents).await?;
    let accounts = create_accounts(&session, companies, &mut rejected).await?;

    bar.set_length(diary.steps());
    let known = Known { stages, staff, accounts };
    let mut deals = Deals { session, known, ids: HashMap::new(), rejected };
    for (day, steps) in &diary.days {
        clock.set(day.and_time(MORNING).and_utc());
        deals.enter(&steps.entering).await?;
        clock.set(day.and_time(NOON).and_utc());
        deals.engage(&steps.engaging).await?;
        deals.close(&steps.closing).await?;
        bar.inc(steps.count());
    }
    bar.finish_and_clear();
    Ok(Imported { session: deals.session, stages, rejected: deals.rejected })
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
        let last_day = opportunities.iter().flat_map(dates).flatten().max().unwrap_or_default();
        let mut days: BTreeMap<NaiveDate, Steps<'a>> = BTreeMap::new();
        for opportunity in opportunities {
            let engaged = opportunity.journey.engaged();
            days.entry(engaged.unwrap_or(last_day)).or_default().entering.push(opportunity);
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
    let pipeline = Pipeline { is_default: true, ..Pipeline::new("Opportunities") };
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
            ..PipelineStage::new(pipeline, name, 1)
        };
        stages.push(work.pipelines().add_stage(stage).await?.id);
    }
    work.commit().await?;
    let [prospecting, engaging, won, lost] = stages[..] else { return Err("four stages".into()) };
    Ok(Stages { pipeline, prospecting, engaging, won, lost })
}

/// Where a sales agent works, by the agent's name.
type Staff = HashMap<String, (Id<User>, Id<Team>)>;

/// The managers, the agents who report to them, and a team for each region.
async fn create_staff(session: &Session, agents: &[Agent]) -> Result<Staff, Failure> {
    let mut work = session.begin();
    let mut users: HashMap<&str, Id<User>> = HashMap::new();
    let mut teams: HashMap<&str, Id<Team>> = HashMap::new();
    let mut staff = Staff::new();
    for Agent { line, email, manager_email } in agents {
        for (name, email, job_title) in [
            (&line.row.manager, manager_email, "Sales manager"),
            (&line.row.sales_agent, email, "Sales agent"),
        ] {
            if !users.contains_key(name.as_str()) {
                let user = User {
                    name: PersonName::split(name),
                    display_name: Some(name.clone()),
                    job_title: Some(job_title.to_owned()),
                    ..User::new(email.clone())
                };
                users.insert(name, work.users().create(user).await?.id);
            }
        }
        let (Some(&agent), Some(&manager)) =
            (users.get(line.row.sales_agent.as_str()), users.get(line.row.manager.as_str()))
        else {
            continue;
        };
        work.users().update(agent, |user| user.manager_id = Some(manager)).await?;
        let region = line.row.regional_office.as_str();
        let team = match teams.get(region) {
            Some(team) => *team,
            None => {
                let team = work.teams().create(Team::new(region)).await?.id;
                teams.insert(region, team);
                team
            }
        };
        work.teams().add_member(team, manager, TeamRole::Lead).await?;
        work.teams().add_member(team, agent, TeamRole::Member).await?;
        staff.insert(line.row.sales_agent.clone(), (agent, team));
    }
    work.commit().await?;
    Ok(staff)
}
