//! The same figures once more, in the plainest way: from pictures of all deals at every moment, by
//! looking at what differs between one and the next.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDate;
use crm_engine::pipelines::analytics::{
    Cohort, CohortPoint, Durations, Fates, Outcomes, StageFigures, StageSummary, Tally,
};
use uuid::Uuid;

use super::*;

/// What deals were at each moment at which anything happened.
#[derive(Default)]
pub(crate) struct Past {
    pictures: BTreeMap<DateTime<Utc>, BTreeMap<Uuid, Arc<Record<Deal>>>>,
    there: HashSet<Uuid>,
}

/// What a deal was in view before and after a moment.
type Step = (
    DateTime<Utc>,
    Option<Arc<Record<Deal>>>,
    Option<Arc<Record<Deal>>>,
);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Went {
    Advanced,
    Back,
    Won,
    Lost,
    Elsewhere,
}

/// A period and what is known, all ends excluded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) known: DateTime<Utc>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) stages: BTreeMap<Id<PipelineStage>, StageFigures>,
    pub(crate) outcomes: BTreeMap<Currency, Outcomes>,
}

impl Past {
    pub(crate) async fn remember(&mut self, world: &World) {
        let deals = world.live_deals().await.into_iter();
        let picture = deals.map(|deal| (deal.id.uuid(), deal)).collect();
        self.pictures.insert(world.clock.now(), picture);
    }

    /// Deals that are removed for good are removed from the past too.
    pub(crate) async fn close(&mut self, world: &World) {
        self.there = world
            .rows("deal")
            .await
            .iter()
            .map(|row| row.id())
            .collect();
    }

    fn at(&self, deal: Uuid, at: DateTime<Utc>) -> Option<Arc<Record<Deal>>> {
        let (_, picture) = self.pictures.range(..=at).next_back()?;
        picture.get(&deal).cloned()
    }

    fn steps(&self, deal: Uuid, sees: &dyn Fn(&Record<Deal>) -> bool) -> Vec<Step> {
        let mut before = None;
        let mut steps = Vec::new();
        for (moment, picture) in &self.pictures {
            let after = picture.get(&deal).filter(|deal| sees(deal)).cloned();
            steps.push((*moment, before, after.clone()));
            before = after;
        }
        steps
    }

    /// The figures of a period. `sees` says which deals are in view.
    pub(crate) fn figures(
        &self,
        world: &World,
        span: Span,
        sees: &dyn Fn(&Record<Deal>) -> bool,
    ) -> Figures {
        let sees = |deal: &Record<Deal>| {
            sees(deal) && (deal.archived_at.is_none() || deal.status != DealStatus::Open)
        };
        let mut all = Figures::default();
        for deal in &self.there {
            let steps = self.steps(*deal, &sees);
            let steps: Vec<Step> = steps
                .into_iter()
                .filter(|step| step.0 < span.known)
                .collect();
            self.add(world, span, &steps, &mut all);
        }
        all
    }

    fn add(&self, world: &World, span: Span, steps: &[Step], all: &mut Figures) {
        let inside = |at: DateTime<Utc>| span.start <= at && at < span.end;
        let mut entered = BTreeSet::new();
        let mut counted = false;
        let last_before = |end: DateTime<Utc>| {
            let step = steps.iter().rev().find(|step| step.0 < end);
            step.and_then(|step| step.2.clone())
        };
        if let Some(deal) = last_before(span.start) {
            let figures = all.stages.entry(deal.stage_id.unwrap()).or_default();
            figures.at_start += 1;
            if deal.status == DealStatus::Open {
                counted = true;
                figures
                    .outcomes
                    .entry(deal.currency)
                    .or_default()
                    .opportunities += 1;
                all.outcomes.entry(deal.currency).or_default().opportunities += 1;
            }
        }
        if let Some(deal) = last_before(span.end) {
            let figures = all.stages.entry(deal.stage_id.unwrap()).or_default();
            figures.flow.still += 1;
        }
        for (place, (at, before, after)) in steps.iter().enumerate() {
            let stage =
                |deal: &Option<Arc<Record<Deal>>>| deal.as_ref().and_then(|deal| deal.stage_id);
            if !inside(*at) || stage(before) == stage(after) {
                continue;
            }
            if let Some(left) = before {
                let went = went(world, left, after.as_deref());
                let figures = all.stages.entry(left.stage_id.unwrap()).or_default();
                count(&mut figures.flow, Some(went));
                tally(&mut figures.exited, left);
                if went != Went::Elsewhere {
                    figures
                        .time
                        .add((*at - left.stage_entered_at.unwrap()).num_seconds());
                }
            }
            let Some(deal) = after else { continue };
            let figures = all.stages.entry(deal.stage_id.unwrap()).or_default();
            let enters = before.is_some() || deal.stage_entered_at == Some(*at);
            if enters {
                tally(&mut figures.entered, deal);
                figures.deals += u64::from(entered.insert(deal.stage_id));
                // What becomes of it later.
                let fate = steps[place + 1..]
                    .iter()
                    .find(|step| stage(&step.2) != deal.stage_id)
                    .map(|step| went(world, step.1.as_ref().unwrap(), step.2.as_deref()));
                count(&mut figures.funnel, fate);
                let next = steps[place + 1..]
                    .iter()
                    .find(|step| stage(&step.2) != deal.stage_id)
                    .and_then(|step| stage(&step.2));
                if let Some(next) = next {
                    *figures.next.entry(next).or_default() += 1;
                }
            } else {
                figures.appeared += 1;
            }
            let is_open = deal.status == DealStatus::Open;
            let decided = enters
                && !is_open
                && before
                    .as_ref()
                    .is_none_or(|before| before.status != deal.status);
            if is_open {
                figures
                    .outcomes
                    .entry(deal.currency)
                    .or_default()
                    .opportunities += 1;
            }
            if !counted && (is_open || decided) {
                counted = true;
                all.outcomes.entry(deal.currency).or_default().opportunities += 1;
            }
            if decided {
                let from = before.as_ref().unwrap_or(deal).stage_id.unwrap();
                let figures = all.stages.entry(from).or_default();
                let is_won = deal.status == DealStatus::Won;
                tally(
                    if is_won {
                        &mut figures.won
                    } else {
                        &mut figures.lost
                    },
                    deal,
                );
                for outcomes in [
                    figures.outcomes.entry(deal.currency).or_default(),
                    all.outcomes.entry(deal.currency).or_default(),
                ] {
                    let cycle = (*at - deal.created.at).num_seconds();
                    if is_won {
                        outcomes.won += 1;
                        outcomes.won_amount += deal.amount.unwrap_or_default();
                        outcomes.won_cycle.add(cycle);
                    } else {
                        outcomes.lost += 1;
                        outcomes.lost_amount += deal.amount.unwrap_or_default();
                        outcomes.lost_cycle.add(cycle);
                    }
                }
            }
        }
    }

    /// What lay where at a moment.
    pub(crate) fn summary(
        &self,
        at: DateTime<Utc>,
        sees: &dyn Fn(&Record<Deal>) -> bool,
    ) -> Vec<StageSummary> {
        let mut groups: BTreeMap<_, StageSummary> = BTreeMap::new();
        for deal in self.there.iter().filter_map(|deal| self.at(*deal, at)) {
            if deal.archived_at.is_some() || !sees(&deal) {
                continue;
            }
            let (stage, month) = (deal.stage_id.unwrap(), month_of(deal.created.at));
            let key = (stage, deal.owner_id, month, deal.currency);
            let group = groups.entry(key).or_insert(StageSummary {
                stage,
                owner: deal.owner_id,
                month,
                currency: deal.currency,
                deals: 0,
                amount: 0.into(),
                weighted: 0.into(),
            });
            let amount = deal.amount.unwrap_or_default();
            group.deals += 1;
            group.amount += amount;
            group.weighted += deal.win_probability.of(amount);
        }
        groups.into_values().collect()
    }

    /// What had become of the deals of some months.
    pub(crate) fn cohorts(&self, months: &[NaiveDate], known: DateTime<Utc>) -> Vec<Cohort> {
        let begins = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
        let reported = &months[..months.len() - 1];
        let begun = reported.iter().filter(|month| begins(**month) < known);
        let sees =
            |deal: &Record<Deal>| deal.archived_at.is_none() || deal.status != DealStatus::Open;
        begun
            .map(|month| {
                let deals: Vec<Uuid> = self
                    .there
                    .iter()
                    .filter(|deal| {
                        let seen = self.steps(**deal, &sees).into_iter();
                        seen.filter(|step| step.0 < known)
                            .filter_map(|step| step.2)
                            .next()
                            .is_some_and(|deal| month_of(deal.created.at) == *month)
                    })
                    .copied()
                    .collect();
                let later = months.windows(2).filter(|pair| pair[0] >= *month);
                let later = later.filter(|pair| begins(pair[0]) < known);
                let points = later.map(|pair| {
                    let end = begins(pair[1]).min(known) - TimeDelta::microseconds(1);
                    let mut point = CohortPoint::default();
                    for deal in &deals {
                        let deal = self.at(*deal, end).filter(|deal| sees(deal));
                        match deal.map(|deal| deal.status) {
                            Some(DealStatus::Won) => point.won += 1,
                            Some(DealStatus::Lost) => point.lost += 1,
                            Some(DealStatus::Open) => point.open += 1,
                            None => point.elsewhere += 1,
                        }
                    }
                    point
                });
                Cohort {
                    month: *month,
                    deals: deals.len() as u64,
                    points: points.collect(),
                }
            })
            .collect()
    }
}

fn month_of(at: DateTime<Utc>) -> NaiveDate {
    chrono::Datelike::with_day(&at.date_naive(), 1).unwrap()
}

fn went(world: &World, from: &Record<Deal>, to: Option<&Record<Deal>>) -> Went {
    let Some(to) = to else { return Went::Elsewhere };
    match (from.status, to.status) {
        (DealStatus::Open | DealStatus::Lost, DealStatus::Won) => Went::Won,
        (DealStatus::Open | DealStatus::Won, DealStatus::Lost) => Went::Lost,
        (_, DealStatus::Open) if from.status != DealStatus::Open => Went::Back,
        _ => {
            let place = |deal: &Record<Deal>| {
                let stages = world.onboarded.stages.iter();
                stages
                    .map(Some)
                    .position(|stage| stage == deal.stage_id.as_ref())
            };
            if place(to) > place(from) {
                Went::Advanced
            } else {
                Went::Back
            }
        }
    }
}

fn count(fates: &mut Fates, went: Option<Went>) {
    match went {
        Some(Went::Advanced) => fates.advanced += 1,
        Some(Went::Back) => fates.back += 1,
        Some(Went::Won) => fates.won += 1,
        Some(Went::Lost) => fates.lost += 1,
        Some(Went::Elsewhere) => fates.elsewhere += 1,
        None => fates.still += 1,
    }
}

fn tally(tally: &mut Tally, deal: &Record<Deal>) {
    tally.deals += 1;
    if let Some(money) = deal.money() {
        tally.amounts.add(&money).unwrap();
    }
}

/// Lengths of time, for what is compared with them.
pub(crate) fn durations(seconds: &[i64]) -> Durations {
    let mut durations = Durations::default();
    seconds.iter().for_each(|length| durations.add(*length));
    durations
}
