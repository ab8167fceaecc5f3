//! Months of logs: which of them a policy lets go, and letting them go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde::Serialize;

use super::plan::{Holds, Plan};
use super::run::{PolicyRun, entry, filled};
use super::{Retention, RetentionPolicy};
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Workspace, in_work};
use crate::error::Result;
use crate::privacy::DeletionMethod;
use crate::query::{AggregateQuery, CalendarUnit, Comparison, Condition, FieldAt, Grouping, Query};
use crate::record::Record;
use crate::schema::{ObjectRef, Value, system};
use crate::storage::Taking;
use crate::value::TimeZone;

/// How many entries go in one commit.
const ENTRIES_AT_ONCE: usize = 1_000;

/// A month of a log that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PolicyMonth {
    /// Its first day.
    pub month: NaiveDate,
    /// How many entries of the tenant go, or would.
    pub entries: u64,
    /// How many entries stay, as a legal hold keeps a record that the month tells of.
    pub held: u64,
}

/// What came of one commit.
#[derive(Debug)]
enum Step {
    /// So many entries went.
    Taken(u64),
    /// Others set or changed a hold: what is held is worked out again.
    OtherHolds,
}

impl Settle for Step {}

impl Plan {
    /// Where entries go from: an archive is emptied by a deletion only.
    fn places(&self, method: DeletionMethod) -> Vec<&ObjectRef> {
        let archive = self.archive.iter();
        let archive = archive.filter(|_| method == DeletionMethod::HardDelete);
        [&self.object].into_iter().chain(archive).collect()
    }

    /// Where entries go to.
    fn goal(&self, method: DeletionMethod) -> Option<&ObjectRef> {
        let archive = self.archive.as_ref();
        archive.filter(|_| method == DeletionMethod::Archive)
    }
}

fn start_of(month: NaiveDate) -> DateTime<Utc> {
    month.and_time(NaiveTime::MIN).and_utc()
}

/// The entries of a month.
fn within(taking: &Taking) -> Condition {
    let compare = |op, at| Condition::Compare {
        field: FieldAt::new(system::CREATED_AT),
        op,
        value: Value::Timestamp(at),
    };
    compare(Comparison::Ge, taking.month).and(compare(Comparison::Lt, taking.end()))
}

impl Retention<'_> {
    /// How many entries each month has that fulfil a condition.
    async fn by_month(
        &self,
        object: &ObjectRef,
        condition: Condition,
    ) -> Result<BTreeMap<NaiveDate, u64>> {
        let mut query = AggregateQuery::count(object, condition);
        query.groups = vec![Grouping::Calendar {
            index: system::CREATED_AT,
            unit: CalendarUnit::Month,
            time_zone: TimeZone::UTC,
        }];
        let groups = Workspace::Session(self.session).aggregate(&query).await?;
        let counts = groups.iter().filter_map(|group| match group.keys.first() {
            Some(Value::Date(month)) => Some((*month, group.count(0))),
            _ => None,
        });
        Ok(counts.collect())
    }

    /// The months that are due, the oldest first, with what is held of them.
    async fn months(
        &self,
        plan: &Plan,
        method: DeletionMethod,
        holds: &Holds,
    ) -> Result<Vec<PolicyMonth>> {
        let mut counts: BTreeMap<NaiveDate, u64> = BTreeMap::new();
        let mut held: BTreeSet<NaiveDate> = BTreeSet::new();
        for place in plan.places(method) {
            for (month, count) in self.by_month(place, plan.due.clone()).await? {
                *counts.entry(month).or_default() += count;
            }
            let entries = holds.entries(place);
            let entries = entries.filter(|_| method == DeletionMethod::HardDelete);
            if let Some(entries) = entries {
                let found = self.by_month(place, plan.due.clone().and(entries)).await?;
                held.extend(found.into_keys());
            }
        }
        let months = counts.into_iter().map(|(month, count)| {
            let is_held = held.contains(&month);
            PolicyMonth {
                month,
                entries: if is_held { 0 } else { count },
                held: if is_held { count } else { 0 },
            }
        });
        Ok(months.collect())
    }

    /// What a policy would do with months of a log.
    pub(super) async fn simulate_months(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        mut run: PolicyRun,
    ) -> Result<PolicyRun> {
        let holds = Holds::load(&self.session.begin()).await?;
        run.months = self.months(plan, policy.method, &holds).await?;
        run.add_months();
        Ok(run)
    }

    /// Lets months of a log go.
    pub(super) async fn take_months(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        mut run: PolicyRun,
        progress: &dyn Progress,
    ) -> Result<PolicyRun> {
        let mut gone: BTreeMap<NaiveDate, u64> = BTreeMap::new();
        let mut kept: BTreeMap<NaiveDate, u64>;
        let mut done = 0;
        'holds: loop {
            let holds = Holds::load(&self.session.begin()).await?;
            let months = self.months(plan, policy.method, &holds).await?;
            let rest: u64 = months.iter().map(|month| month.entries).sum();
            let total = done + rest;
            kept = months
                .iter()
                .map(|month| (month.month, month.held))
                .collect();
            for month in months.iter().filter(|month| month.entries > 0) {
                for place in plan.places(policy.method) {
                    loop {
                        let step = self.take(policy, plan, place, month.month, &holds).await?;
                        let Step::Taken(count) = step else {
                            continue 'holds;
                        };
                        *gone.entry(month.month).or_default() += count;
                        done += count;
                        let answer = match count {
                            0 => ControlFlow::Continue(()),
                            _ => progress.report(done, Some(total.max(done))),
                        };
                        if answer == ControlFlow::Break(()) {
                            run.is_stopped = true;
                            break 'holds;
                        }
                        if count < ENTRIES_AT_ONCE as u64 {
                            break;
                        }
                    }
                }
            }
            break;
        }
        let all: BTreeSet<NaiveDate> = gone.keys().chain(kept.keys()).copied().collect();
        let month = |month| PolicyMonth {
            month,
            entries: gone.get(&month).copied().unwrap_or_default(),
            held: kept.get(&month).copied().unwrap_or_default(),
        };
        run.months = all.into_iter().map(month).collect();
        run.months.retain(|month| month.entries + month.held > 0);
        run.add_months();
        Ok(run)
    }

    /// Takes some entries of a month out of a log, in one commit.
    async fn take(
        &self,
        policy: &Record<RetentionPolicy>,
        plan: &Plan,
        place: &ObjectRef,
        month: NaiveDate,
        known: &Holds,
    ) -> Result<Step> {
        let goal = plan.goal(policy.method).cloned();
        let mut taking = Taking::new(place.clone(), goal, start_of(month), Vec::new());
        let query = Query::new(place, within(&taking)).limit(ENTRIES_AT_ONCE);
        let mut workspace = Workspace::Session(self.session);
        in_work!(workspace, |work| {
            if policy.method == DeletionMethod::HardDelete {
                let holds = Holds::load(work).await?;
                if !holds.are(known) {
                    return Ok(Step::OtherHolds);
                }
                holds.rely_on(work).await?;
            }
            let rows = work.select(&query).await?;
            if rows.is_empty() {
                return Ok(Step::Taken(0));
            }
            let count = rows.len() as u64;
            let values: u64 = match policy.method {
                DeletionMethod::HardDelete => rows.iter().map(filled).sum(),
                _ => 0,
            };
            taking.ids = rows.iter().map(|row| row.id()).collect();
            work.take_entries(taking.clone());
            work.append_entry(entry(policy, policy.id.uuid(), count, values))?;
            Ok(Step::Taken(count))
        })
    }
}
