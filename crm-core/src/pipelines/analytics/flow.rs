//! What the states of deals tell of a pipeline in a period: who came into each stage, who left it
//! and how, what was won and lost. Pure: values in, figures out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::Durations;
use crate::Id;
use crate::deals::{DealState, DealStatus};
use crate::error::{Error, Result};
use crate::pipelines::PipelineStage;
use crate::query::QueryError;
use crate::value::{Currency, Money, Percent, Totals};

/// A period, and the moment up to which anything is known. All ends are excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) known: DateTime<Utc>,
}

impl Window {
    fn holds(&self, at: DateTime<Utc>) -> bool {
        self.start <= at && at < self.end.min(self.known)
    }
}

/// How a deal leaves a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// To an open stage further on.
    Advanced,
    /// To a stage before it, or open again.
    Back,
    Won,
    Lost,
    /// Deleted or archived, into another pipeline, or out of what the filters take.
    Elsewhere,
}

/// A deal in a stage, from one moment until another.
#[derive(Debug)]
struct Stay<'a> {
    /// As it was when it came.
    first: &'a DealState,
    /// As it was at last.
    last: &'a DealState,
    /// Whether it entered the stage then; else it was in it already when it came into view, such as
    /// a deal that is restored.
    entered: bool,
    /// What it was in the stage before, if it came from there.
    from: Option<&'a DealState>,
    left: Option<(DateTime<Utc>, Exit)>,
    /// The stage that it went to, if it left for one.
    to: Option<Id<PipelineStage>>,
}

/// What became of some deals in a stage. Together they are all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// They moved to an open stage further on.
    pub advanced: u64,
    /// They moved back, or were opened again.
    pub back: u64,
    /// They were won.
    pub won: u64,
    /// They were lost.
    pub lost: u64,
    /// They were deleted or archived, moved to another pipeline, or are not taken by the filters any
    /// more.
    pub elsewhere: u64,
    /// They are still there.
    pub still: u64,
}

impl Fates {
    fn count(&mut self, exit: Option<Exit>) {
        let slot = match exit {
            Some(Exit::Advanced) => &mut self.advanced,
            Some(Exit::Back) => &mut self.back,
            Some(Exit::Won) => &mut self.won,
            Some(Exit::Lost) => &mut self.lost,
            Some(Exit::Elsewhere) => &mut self.elsewhere,
            None => &mut self.still,
        };
        *slot += 1;
    }

    /// How many left, whichever way.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.advanced + self.back + self.won + self.lost + self.elsewhere
    }

    /// How many went on: to a stage further on, or won.
    #[must_use]
    pub const fn went_on(&self) -> u64 {
        self.advanced + self.won
    }
}

/// What was won and lost in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// How many deals were open at some time of the period, or were decided in it.
    pub opportunities: u64,
    /// How many were won.
    pub won: u64,
    /// How many were lost.
    pub lost: u64,
    /// What those won were worth together; a deal without an amount is worth nothing.
    pub won_amount: Decimal,
    /// What those lost were worth together.
    pub lost_amount: Decimal,
    /// How long those won took, from creation to closing.
    pub won_cycle: Durations,
    /// How long those lost took.
    pub lost_cycle: Durations,
}

impl Outcomes {
    /// Of those decided, how many were won; none if nothing was decided.
    #[must_use]
    pub fn win_rate(&self) -> Option<Percent> {
        share(
            self.won.into(),
            Decimal::from(self.won).checked_add(self.lost.into())?,
        )
    }

    /// Of the worth of those decided, how much was won; none if they were worth nothing.
    #[must_use]
    pub fn win_rate_by_amount(&self) -> Option<Percent> {
        share(
            self.won_amount,
            self.won_amount.checked_add(self.lost_amount)?,
        )
    }

    /// What a deal that was won was worth on average, to two decimals half to even; none if none
    /// was won.
    #[must_use]
    pub fn average_value(&self) -> Option<Decimal> {
        let average = self.won_amount.checked_div(self.won.into())?;
        Some(average.round_dp(2))
    }

    /// The velocity of sales, in money a day to two decimals half to even: the number of
    /// opportunities × the win rate × the average value of a deal won ÷ the average cycle of deals
    /// won in days. None if nothing was won, or in no time.
    ///
    /// ```
    /// use crm_core::pipelines::analytics::Outcomes;
    ///
    /// let mut quarter = Outcomes { opportunities: 40, won: 5, lost: 15, ..Outcomes::default() };
    /// quarter.won_amount = 10_000.into();
    /// (0..5).for_each(|_| quarter.won_cycle.add(20 * 86_400));
    /// // 40 × 25 % × 2,000 ÷ 20 days.
    /// assert_eq!(quarter.velocity().unwrap().to_string(), "1000.00");
    /// ```
    #[must_use]
    pub fn velocity(&self) -> Option<Decimal> {
        let seconds = Decimal::try_from_i128_with_scale(self.won_cycle.sum(), 0).ok()?;
        let decided = Decimal::from(self.won).checked_add(self.lost.into())?;
        let value = self.won_amount.checked_div(decided)?;
        // Won deals stand in the rate, under the value and under the cycle: once is left.
        let deals = Decimal::from(self.opportunities).checked_mul(self.won.into())?;
        let days = seconds.checked_div(86_400.into())?;
        let mut velocity = value.checked_mul(deals)?.checked_div(days)?.round_dp(2);
        velocity.rescale(2);
        Some(velocity)
    }

    fn decide(&mut self, state: &DealState, is_won: bool, at: DateTime<Utc>) -> Result<()> {
        let seconds = (at - state.deal_created_at).num_seconds();
        let (count, amount, cycle) = if is_won {
            (&mut self.won, &mut self.won_amount, &mut self.won_cycle)
        } else {
            (&mut self.lost, &mut self.lost_amount, &mut self.lost_cycle)
        };
        *count += 1;
        *amount = amount
            .checked_add(state.amount.unwrap_or_default())
            .ok_or_else(overflow)?;
        cycle.add(seconds);
        Ok(())
    }
}

/// A part of a whole, to two decimals half to even; none of nothing.
pub(super) fn share(part: Decimal, whole: Decimal) -> Option<Percent> {
    let share = part.checked_div(whole)?.checked_mul(Decimal::ONE_HUNDRED)?;
    Percent::new(share.round_dp(2)).ok()
}

/// A sum is too great to be told.
pub(super) fn overflow() -> Error {
    Error::Query(QueryError::Overflow {
        field: "amount".to_owned(),
    })
}

/// A number of deals and what they were worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub deals: u64,
    /// What they were worth together, each currency on its own.
    pub amounts: Totals,
}

impl Tally {
    fn add(&mut self, state: &DealState) -> Result<()> {
        self.deals += 1;
        if let Some(amount) = state.amount {
            let money = Money::new(amount, state.currency);
            self.amounts.add(&money).map_err(|_| overflow())?;
        }
        Ok(())
    }
}

/// What happened in one stage in a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageFigures {
    /// How many deals were in it when the period began.
    pub at_start: u64,
    /// The deals that entered it; one that comes back counts again.
    pub entered: Tally,
    /// How many different deals entered it.
    pub deals: u64,
    /// How many came into view in it without entering it: restored, brought back from the archive,
    /// or taken by the filters only now.
    pub appeared: u64,
    /// How those that left it in the period did so; `still` is those that are in it at its end, so
    /// `at_start + entered + appeared = left() + still`.
    pub flow: Fates,
    /// The deals that left it, whichever way.
    pub exited: Tally,
    /// The deals that were won from it; one that was created as won counts in its own stage.
    pub won: Tally,
    /// The deals that were lost from it.
    pub lost: Tally,
    /// What became of those that entered it in the period, as far as is known: `entered` is the sum.
    pub funnel: Fates,
    /// Into which stages those that entered it in the period went next, as far as is known: those of
    /// `funnel` that are neither still there nor elsewhere.
    pub next: BTreeMap<Id<PipelineStage>, u64>,
    /// How long those that moved on, or back, in the period had been in it.
    pub time: Durations,
    /// What was won and lost from it, by currency.
    pub outcomes: BTreeMap<Currency, Outcomes>,
}

impl StageFigures {
    /// Of those that entered in the period, how many went on to a stage further on or were won, as
    /// far as is known; none if none entered.
    #[must_use]
    pub fn conversion(&self) -> Option<Percent> {
        share(self.funnel.went_on().into(), self.entered.deals.into())
    }

    /// Of those that entered in the period, how many went next into another stage, as far as is
    /// known; none if none entered.
    ///
    /// ```
    /// # use crm_core::{Id, pipelines::PipelineStage};
    /// use crm_core::pipelines::analytics::StageFigures;
    ///
    /// # let proposal: Id<PipelineStage> = Id::new(uuid::Uuid::from_u128(1));
    /// let mut figures = StageFigures::default();
    /// figures.entered.deals = 4;
    /// figures.next.insert(proposal, 3);
    /// assert_eq!(figures.conversion_to(proposal).unwrap().to_string(), "75%");
    /// ```
    #[must_use]
    pub fn conversion_to(&self, stage: Id<PipelineStage>) -> Option<Percent> {
        let went = self.next.get(&stage).copied().unwrap_or_default();
        share(went.into(), self.entered.deals.into())
    }

    /// Of those that moved away in the period, wherever they came from, how many went on; none if
    /// none moved.
    #[must_use]
    pub fn passed_on(&self) -> Option<Percent> {
        let moved = self.flow.left().checked_sub(self.flow.elsewhere)?;
        share(self.flow.went_on().into(), moved.into())
    }
}

/// The figures of a pipeline in a period, deal by deal.
#[derive(Debug)]
pub(super) struct Flow {
    window: Window,
    places: HashMap<Id<PipelineStage>, u32>,
    pub(super) stages: BTreeMap<Id<PipelineStage>, StageFigures>,
    pub(super) outcomes: BTreeMap<Currency, Outcomes>,
    pub(super) won_cycle: Durations,
    pub(super) lost_cycle: Durations,
}

impl Flow {
    /// Without deals; `places` says where stages stand in the pipeline, for moves of which the states
    /// do not tell how they stood.
    pub(super) fn new(window: Window, places: HashMap<Id<PipelineStage>, u32>) -> Self {
        Self {
            window,
            places,
            stages: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            won_cycle: Durations::default(),
            lost_cycle: Durations::default(),
        }
    }

    /// So many deals were in a stage, in a currency, when the period began.
    pub(super) fn begin(
        &mut self,
        stage: Id<PipelineStage>,
        currency: Currency,
        is_open: bool,
        deals: u64,
    ) {
        let figures = self.stages.entry(stage).or_default();
        figures.at_start += deals;
        if is_open {
            figures.outcomes.entry(currency).or_default().opportunities += deals;
            self.outcomes.entry(currency).or_default().opportunities += deals;
        }
    }

    /// So many deals were in a stage when the period ended.
    pub(super) fn end(&mut self, stage: Id<PipelineStage>, deals: u64) {
        self.stages.entry(stage).or_default().flow.still += deals;
    }

    /// Adds a deal: its states in view that begin or end in the period or later, in their order.
    pub(super) fn add(&mut self, states: &[DealState]) -> Result<()> {
        let stays = self.stays(states);
        let mut entered = BTreeSet::new();
        let mut is_counted = stays.first().is_some_and(|stay| {
            stay.first.valid_from < self.window.start && stay.first.status == DealStatus::Open
        });
        for stay in &stays {
            let (at, stage) = (stay.first.valid_from, stay.first.stage_id);
            if self.window.holds(at) {
                // A deal that was in the stage already when it came into view has not entered it.
                let is_first = stay.entered && entered.insert(stage);
                self.come(stay, is_first, &mut is_counted)?;
            }
            if let Some((at, exit)) = stay.left.filter(|(at, _)| self.window.holds(*at)) {
                self.leave(stay, at, exit)?;
            }
        }
        Ok(())
    }

    /// A deal comes into a stage in the period.
    fn come(&mut self, stay: &Stay<'_>, is_first: bool, is_counted: &mut bool) -> Result<()> {
        let state = stay.first;
        let decided = stay.decided();
        let figures = self.stages.entry(state.stage_id).or_default();
        if stay.entered {
            figures.entered.add(state)?;
            figures.deals += u64::from(is_first);
            figures.funnel.count(stay.left.map(|(_, exit)| exit));
            if let Some(next) = stay.to {
                *figures.next.entry(next).or_default() += 1;
            }
        } else {
            figures.appeared += 1;
        }
        let is_open = state.status == DealStatus::Open;
        if is_open {
            let outcomes = figures.outcomes.entry(state.currency).or_default();
            outcomes.opportunities += 1;
        }
        if !*is_counted && (is_open || decided) {
            *is_counted = true;
            let outcomes = self.outcomes.entry(state.currency).or_default();
            outcomes.opportunities += 1;
        }
        if decided {
            let is_won = state.status == DealStatus::Won;
            let at = state.valid_from;
            let stage = stay.from.map_or(state.stage_id, |from| from.stage_id);
            let figures = self.stages.entry(stage).or_default();
            if is_won {
                figures.won.add(state)?;
            } else {
                figures.lost.add(state)?;
            }
            let outcomes = figures.outcomes.entry(state.currency).or_default();
            outcomes.decide(state, is_won, at)?;
            let outcomes = self.outcomes.entry(state.currency).or_default();
            outcomes.decide(state, is_won, at)?;
            let cycle = if is_won {
                &mut self.won_cycle
            } else {
                &mut self.lost_cycle
            };
            cycle.add((at - state.deal_created_at).num_seconds());
        }
        Ok(())
    }

    /// A deal leaves a stage in the period.
    fn leave(&mut self, stay: &Stay<'_>, at: DateTime<Utc>, exit: Exit) -> Result<()> {
        let figures = self.stages.entry(stay.last.stage_id).or_default();
        figures.flow.count(Some(exit));
        figures.exited.add(stay.last)?;
        if exit != Exit::Elsewhere {
            let since = stay.last.stage_entered_at.unwrap_or(stay.first.valid_from);
            figures.time.add((at - since).num_seconds());
        }
        Ok(())
    }

    /// The stays in stages that the states of a deal tell of, as far as is known.
    fn stays<'a>(&self, states: &'a [DealState]) -> Vec<Stay<'a>> {
        let mut stays: Vec<Stay<'a>> = Vec::new();
        for state in states {
            let before = stays.last_mut();
            let follows = before.filter(|stay| stay.last.valid_until == Some(state.valid_from));
            let mut from = None;
            if let Some(stay) = follows {
                if stay.last.stage_id == state.stage_id {
                    stay.last = state;
                    stay.left = self.left(state);
                    continue;
                }
                stay.left = Some((state.valid_from, self.exit(stay.last, state)));
                stay.to = Some(state.stage_id);
                from = Some(stay.last);
            }
            stays.push(Stay {
                first: state,
                last: state,
                entered: from.is_some()
                    || state
                        .stage_entered_at
                        .is_none_or(|entered| entered >= state.valid_from),
                from,
                left: self.left(state),
                to: None,
            });
        }
        stays
    }

    /// When the deal went out of view, if it did and that is known.
    fn left(&self, state: &DealState) -> Option<(DateTime<Utc>, Exit)> {
        let until = state.valid_until.filter(|until| *until < self.window.known);
        until.map(|until| (until, Exit::Elsewhere))
    }

    /// How a deal leaves a stage for another.
    fn exit(&self, from: &DealState, to: &DealState) -> Exit {
        match (from.status, to.status) {
            (DealStatus::Won | DealStatus::Lost, DealStatus::Open) => Exit::Back,
            (from, to) if from != to => {
                if to == DealStatus::Won {
                    Exit::Won
                } else {
                    Exit::Lost
                }
            }
            _ => {
                let place = |state: &DealState| self.places.get(&state.stage_id);
                let is_on = match (to.previous_stage_order, to.stage_order) {
                    (Some(was), Some(is)) => is > was,
                    // The deal was written past the engine.
                    _ => place(to) > place(from),
                };
                if is_on { Exit::Advanced } else { Exit::Back }
            }
        }
    }
}

impl Stay<'_> {
    /// Whether the deal was won or lost when it came.
    fn decided(&self) -> bool {
        let status = self.first.status;
        self.entered
            && status != DealStatus::Open
            && self.from.is_none_or(|from| from.status != status)
    }
}
