//! Writes the deals, each step at the time at which it happened.
//!
//! ```text
//!  each day of the source   09:00  new deals enter Prospecting   one commit for all of them
//!                           12:00  deals move to Engaging        one commit for all of them
//!                           12:00  deals are won or lost         one commit for all of them
//! ```
//!
//! A unit of work has one time, so what happened together is one unit of work. The stage history
//! then tells how long each deal was in each stage, and the audit trail tells every step. When a
//! deal entered Prospecting the source does not say: here it is the morning of the day on which it
//! moved on, or the source's last day if it never did.
//!
//! The days do not wait for each other: first all deals enter, a few days at once, then all move on,
//! then all are closed. Over a network that is several times as fast as one day after the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};

use super::clean::{Journey, Opportunity};
use super::import::{Log, Staff, Stages, find_by};

/// Where a deal keeps what the source calls it.
pub(crate) const OPPORTUNITY_ID: &str = "custom_fields.opportunity_id";

/// How many units of work are under way at once: fewer than the storage opens connections.
const AT_ONCE: usize = 8;

const MORNING: NaiveTime = NaiveTime::from_hms_opt(9, 0, 0).unwrap();
const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).unwrap();

/// The steps of a deal, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Enter,
    Engage,
    Close,
}

impl Step {
    const ALL: [Self; 3] = [Self::Enter, Self::Engage, Self::Close];

    const fn time(self) -> NaiveTime {
        match self {
            Self::Enter => MORNING,
            Self::Engage | Self::Close => NOON,
        }
    }
}

/// What happens on which day.
#[derive(Debug, Default)]
pub(crate) struct Diary<'a> {
    days: BTreeMap<(Step, NaiveDate), Vec<&'a Opportunity>>,
}

impl<'a> Diary<'a> {
    pub(crate) fn of(opportunities: &'a [Opportunity]) -> Self {
        let dates = |o: &Opportunity| [o.journey.engaged(), o.journey.closed()];
        let last_day = opportunities
            .iter()
            .flat_map(dates)
            .flatten()
            .max()
            .unwrap_or_default();
        let mut diary = Self::default();
        for opportunity in opportunities {
            let [engaged, closed] = dates(opportunity);
            let entered = engaged.unwrap_or(last_day);
            for (step, day) in Step::ALL.into_iter().zip([Some(entered), engaged, closed]) {
                if let Some(day) = day {
                    diary.days.entry((step, day)).or_default().push(opportunity);
                }
            }
        }
        diary
    }

    /// The day before the first one, on which the tenant comes in.
    pub(crate) fn eve(&self) -> DateTime<Utc> {
        let first = self.days.keys().map(|(_, day)| *day).min();
        let first = first.unwrap_or_default();
        let eve = first.checked_sub_days(Days::new(1)).unwrap_or(first);
        eve.and_time(MORNING).and_utc()
    }
}

/// The deals on their way.
#[derive(Debug)]
pub(crate) struct Deals {
    session: Session,
    stages: Stages,
    staff: Staff,
    accounts: HashMap<String, Id<Account>>,
    /// By the source's id of the opportunity, as they are now.
    known: HashMap<String, Arc<Record<Deal>>>,
    log: Log,
}

/// What came of a unit of work.
#[derive(Debug, Default)]
struct Done {
    deals: Vec<(String, Arc<Record<Deal>>)>,
    log: Log,
}

impl Deals {
    pub(crate) fn new(
        session: Session,
        stages: Stages,
        staff: Staff,
        accounts: HashMap<String, Id<Account>>,
        log: Log,
    ) -> Self {
        Self {
            session,
            stages,
            staff,
            accounts,
            known: HashMap::new(),
            log,
        }
    }

    pub(crate) async fn import(
        mut self,
        diary: &Diary<'_>,
        clock: &ManualClock,
        bar: &ProgressBar,
    ) -> Result<Log> {
        self.find_known(diary).await?;
        bar.set_length(diary.days.values().map(|deals| deals.len() as u64).sum());
        for step in Step::ALL {
            let mut units = Vec::new();
            for ((_, day), opportunities) in diary.days.iter().filter(|((s, _), _)| *s == step) {
                // A unit of work takes its time from the clock when it begins.
                clock.set(day.and_time(step.time()).and_utc());
                units.push(self.take(step, self.session.begin(), opportunities, bar));
            }
            let units = stream::iter(units).buffered(AT_ONCE);
            for done in units.try_collect::<Vec<Done>>().await? {
                self.known.extend(done.deals);
                self.log.append(done.log);
            }
        }
        bar.finish_and_clear();
        Ok(self.log)
    }

    /// The deals that an earlier import brought.
    async fn find_known(&mut self, diary: &Diary<'_>) -> Result<()> {
        let ids = diary.days.values().flatten().map(|o| o.id());
        for deal in find_by::<Deal>(&self.session, OPPORTUNITY_ID, ids).await? {
            let id = deal.custom_fields.get("opportunity_id");
            if let Some(id) = id.and_then(Json::as_str) {
                self.known.insert(id.to_owned(), deal.clone());
            }
        }
        Ok(())
    }

    /// Takes a step with all deals of a day, but for those that have taken it before.
    async fn take(
        &self,
        step: Step,
        mut work: UnitOfWork,
        opportunities: &[&Opportunity],
        bar: &ProgressBar,
    ) -> Result<Done> {
        let mut done = Done::default();
        for opportunity in opportunities {
            let known = self.known.get(opportunity.id());
            let (outcome, consequence) = match (step, known) {
                (Step::Enter, None) => {
                    let Some(deal) = self.deal(opportunity) else {
                        let reason = "its account was not taken over";
                        done.log.rejected.push(opportunity.line.reject(reason));
                        continue;
                    };
                    (work.deals().create(deal).await, "not taken over")
                }
                (Step::Engage, Some(deal)) if self.is_prospecting(deal) => {
                    let engaged = work.deals().move_to(deal.id, self.stages.engaging).await;
                    (engaged, "the deal stays in Prospecting")
                }
                (Step::Close, Some(deal)) if !deal.is_closed() => {
                    let closed = self.close(&mut work, deal.id, &opportunity.journey).await;
                    (closed, "the deal stays in Engaging")
                }
                (_, Some(_)) => {
                    done.log.found::<DealStageChange>();
                    if step == Step::Enter {
                        done.log.found::<Deal>();
                    }
                    continue;
                }
                // It did not enter.
                (_, None) => continue,
            };
            if let Some(deal) = done.log.keep(outcome, &opportunity.line, consequence)? {
                done.log.created::<DealStageChange>();
                if step == Step::Enter {
                    done.log.created::<Deal>();
                }
                done.deals.push((opportunity.id().to_owned(), deal));
            }
        }
        work.commit().await?;
        bar.inc(opportunities.len() as u64);
        Ok(done)
    }

    fn is_prospecting(&self, deal: &Deal) -> bool {
        deal.stage_id == Some(self.stages.prospecting)
    }

    /// The deal as it enters the pipeline, worth the list price until a better figure is known.
    fn deal(&self, opportunity: &Opportunity) -> Option<Deal> {
        let (row, product) = (&opportunity.line.row, &opportunity.product);
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

    async fn close(
        &self,
        work: &mut UnitOfWork,
        deal: Id<Deal>,
        journey: &Journey,
    ) -> Result<Arc<Record<Deal>>> {
        let Stages { won, lost, .. } = self.stages;
        match *journey {
            // Stage and price in one step; the rules of a move hold for every write.
            Journey::Won { value, .. } => {
                let win = move |deal: &mut Deal| {
                    deal.amount = Some(value);
                    deal.stage_id = Some(won);
                };
                work.deals().update(deal, win).await
            }
            _ => work.deals().move_to(deal, lost).await,
        }
    }
}
