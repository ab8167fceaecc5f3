//! Writes the deals, each step at the time at which it happened.
//!
//! ```text
//!  each day of the source   noon          new deals enter Prospecting   one commit for all of them
//!                           noon + 1 ms   deals move to Engaging        one commit for all of them
//!                           noon + 2 ms   deals are won or lost         one commit for all of them
//! ```
//!
//! A unit of work has one time, so what happened together is one unit of work. History and states of
//! the deals then tell how long each one was in each stage, and the audit trail tells every step.
//!
//! The source knows days and no hours. That the steps of a day are a moment apart keeps their order,
//! and the time from one step to another is whole days, as its own figures count them. When a deal
//! entered Prospecting the source does not say: here it is just before it moved on, so that its cycle
//! begins when it was engaged, or the source's last day if it never was.
//!
//! A deal sells one unit of its product: a line at the list price, by which the deal gets its amount,
//! and at the price that was agreed once it is won.
//!
//! First all deals enter, then all move on, then all are closed. A deal that enters or is closed
//! changes the figures that its account keeps of its deals, so the days of these steps wait for each
//! other: at once they would only be conflicts. Moving on changes no figure of an account: a few days
//! do so at once, which over a network is several times as fast as one after the other.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};
use crm_engine::engine::{ManualClock, Savepoint};
use crm_engine::prelude::*;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};

use super::clean::{Journey, Opportunity};
use super::import::{Log, Stages, all, find_by};
use super::staff::Staff;

/// Where a deal keeps what the source calls it.
pub(crate) const OPPORTUNITY_ID: &str = "custom_fields.opportunity_id";

const ENTER: NaiveTime = NaiveTime::from_hms_milli_opt(12, 0, 0, 0).unwrap();
const ENGAGE: NaiveTime = NaiveTime::from_hms_milli_opt(12, 0, 0, 1).unwrap();
const CLOSE: NaiveTime = NaiveTime::from_hms_milli_opt(12, 0, 0, 2).unwrap();

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
            Self::Enter => ENTER,
            Self::Engage => ENGAGE,
            Self::Close => CLOSE,
        }
    }

    /// How many units of work are under way at once: fewer than the storage opens connections.
    const fn at_once(self) -> usize {
        match self {
            Self::Engage => 8,
            Self::Enter | Self::Close => 1,
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

    /// The first and the last day on which something happens.
    pub(crate) fn days(&self) -> RangeInclusive<NaiveDate> {
        let days = || self.days.keys().map(|(_, day)| *day);
        days().min().unwrap_or_default()..=days().max().unwrap_or_default()
    }
}

/// The deals on their way.
#[derive(Debug)]
pub(crate) struct Deals {
    session: Session,
    stages: Stages,
    staff: Staff,
    products: HashMap<String, Id<Product>>,
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
        products: HashMap<String, Id<Product>>,
        accounts: HashMap<String, Id<Account>>,
        log: Log,
    ) -> Self {
        Self {
            session,
            stages,
            staff,
            products,
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
            let units = stream::iter(units).buffered(step.at_once());
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
        let lines = match step {
            Step::Close => self.lines(opportunities).await?,
            Step::Enter | Step::Engage => HashMap::new(),
        };
        for opportunity in opportunities {
            let known = self.known.get(opportunity.id());
            let (outcome, consequence) = match (step, known) {
                (Step::Enter, None) => {
                    let entered = match self.deal(opportunity) {
                        Ok((deal, product)) => {
                            let before = work.savepoint();
                            let entered = enter(&mut work, deal, product).await;
                            whole(&mut work, before, entered)
                        }
                        Err(reason) => {
                            done.log.rejected.push(opportunity.line.reject(reason));
                            continue;
                        }
                    };
                    (entered, "not taken over")
                }
                (Step::Engage, Some(deal)) if self.is_prospecting(deal) => {
                    let engaged = work.deals().move_to(deal.id, self.stages.engaging).await;
                    (engaged, "the deal stays in Prospecting")
                }
                (Step::Close, Some(deal)) if !deal.is_closed() => {
                    let line = lines.get(&deal.id).copied();
                    let before = work.savepoint();
                    let closed = self.close(&mut work, deal.id, line, opportunity).await;
                    let closed = whole(&mut work, before, closed);
                    (closed, "the deal stays in Engaging")
                }
                (_, Some(_)) => {
                    done.log.found::<DealStageChange>();
                    if step == Step::Enter {
                        done.log.found::<Deal>();
                        done.log.found::<DealLine>();
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
                    done.log.created::<DealLine>();
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

    /// The lines of the deals of a day.
    async fn lines(
        &self,
        opportunities: &[&Opportunity],
    ) -> Result<HashMap<Id<Deal>, Id<DealLine>>> {
        let deals = opportunities.iter().filter_map(|o| self.known.get(o.id()));
        let deals: Vec<Id<Deal>> = deals.map(|deal| deal.id).collect();
        let mut lines = HashMap::new();
        for deals in deals.chunks(Filter::MAX_VALUES) {
            let find = Find::from(DealLine::DEAL_ID.one_of(deals.iter().copied()));
            let found = all(&self.session, find).await?;
            lines.extend(found.iter().map(|line| (line.deal_id, line.id)));
        }
        Ok(lines)
    }

    /// The deal as it enters the pipeline, and what it sells; or what it lacks.
    fn deal(&self, opportunity: &Opportunity) -> Result<(Deal, Id<Product>), &'static str> {
        let (row, product) = (&opportunity.line.row, &opportunity.product);
        let staff = self.staff.get(&row.sales_agent);
        let (owner, team) = *staff.ok_or("its agent was not taken over")?;
        let sold = self.products.get(product.name());
        let sold = *sold.ok_or("its product was not taken over")?;
        let (name, account) = match row.account.as_str() {
            "" => (product.name().to_owned(), None),
            name => {
                let account = self.accounts.get(name);
                let account = *account.ok_or("its account was not taken over")?;
                (format!("{} for {name}", product.name()), Some(account))
            }
        };
        let deal = Deal {
            stage_id: Some(self.stages.prospecting),
            currency: Currency::USD,
            account_id: account,
            owner_id: Some(owner),
            team_id: Some(team),
            tags: vec![product.name().to_owned()],
            custom_fields: json!({"opportunity_id": row.opportunity_id}),
            ..Deal::new(name, self.stages.pipeline)
        };
        Ok((deal, sold))
    }

    async fn close(
        &self,
        work: &mut UnitOfWork,
        deal: Id<Deal>,
        line: Option<Id<DealLine>>,
        opportunity: &Opportunity,
    ) -> Result<Arc<Record<Deal>>> {
        let Stages { won, lost, .. } = self.stages;
        let Journey::Won { value, .. } = opportunity.journey else {
            return work.deals().move_to(deal, lost).await;
        };
        if let Some(line) = line {
            let agree = move |line: &mut DealLine| line.unit_price = Some(value);
            work.deals().update_line(line, agree).await?;
        }
        // Stage and price in one step; the rules of a move hold for every write.
        let win = move |deal: &mut Deal| {
            deal.amount = Some(value);
            deal.stage_id = Some(won);
        };
        work.deals().update(deal, win).await
    }
}

/// Takes back what was done of a step that failed; the other deals of the day go on.
fn whole<T>(work: &mut UnitOfWork, before: Savepoint, outcome: Result<T>) -> Result<T> {
    match outcome {
        Ok(_) => work.release(before),
        Err(_) => work.roll_back(before),
    }
    outcome
}

/// A new deal for one unit of a product, worth the list price until a better figure is known.
async fn enter(
    work: &mut UnitOfWork,
    deal: Deal,
    product: Id<Product>,
) -> Result<Arc<Record<Deal>>> {
    let deal = work.deals().create(deal).await?;
    let line = DealLine::of_product(deal.id, product);
    work.deals().add_line(line).await?;
    Ok(deal)
}
