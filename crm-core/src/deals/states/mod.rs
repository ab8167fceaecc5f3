//! What a deal was at any moment: one [`DealState`] for each period in which nothing changed that
//! reports look at.
//!
//! The state of a deal as of a moment is the one row whose period holds it, so the whole pipeline of
//! a past day is one aggregate over [`DealState::as_of`]. States are kept in the commit that
//! changes the deal, whichever way it comes: the state that was is closed and a new one begins.
//! Within one commit, and between commits at the same moment, only the last word counts. (What a
//! commit hook of the host changes in a deal comes after that: its state follows with the next change
//! that states tell of, or with [`begin_states`](Records::begin_states).)
//!
//! | deal | its states |
//! |---|---|
//! | live | periods without gaps or overlaps, the last one without an end |
//! | archived | the same, but not [counted](DealState::is_counted) |
//! | deleted | the last one ended when the deal was deleted; another begins if it is restored |
//! | purged | none |

mod keep;

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

pub(crate) use keep::DealStateHook;
pub use keep::StatesBegun;

use super::{Deal, DealStatus};
use crate::Id;
use crate::accounts::Account;
use crate::engine::Records;
use crate::error::{Faults, Result, codes};
use crate::forecasts::ForecastCategory;
use crate::identity::{Team, User};
use crate::pipelines::{Pipeline, PipelineStage};
use crate::query::{Where, WhereExt};
use crate::record::Record;
use crate::schema::{AnyRecord, Entity, Row, SYSTEM_FIELDS};
use crate::value::{Currency, Percent};

/// What a deal was from one moment until another. The engine keeps it.
///
/// A field with the name of a field of [`Deal`] is copied from it: for another one, a line here is
/// all. Records are named by id without being references: what is deleted since was there then.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "deal_state",
    table = "deal_states",
    derived,
    index(deal_id, valid_from),
    index(pipeline_id, valid_until),
    index(pipeline_id, valid_from),
    index(valid_until),
    index(status, expected_close_date, valid_from),
    index(status, actual_close_date, valid_from),
    check = check_period
)]
pub struct DealState {
    /// The deal.
    #[field(required, references = "deal", on_delete = "cascade")]
    pub deal_id: Id<Deal>,
    /// When the deal was created.
    #[field(required)]
    pub deal_created_at: DateTime<Utc>,
    /// Since when this was so.
    #[field(required)]
    pub valid_from: DateTime<Utc>,
    /// Since when it is no more so; none if it is so now.
    pub valid_until: Option<DateTime<Utc>>,
    /// Whether the deal was in use: false while it is archived.
    pub is_counted: bool,
    /// The pipeline.
    #[field(required)]
    pub pipeline_id: Id<Pipeline>,
    /// The stage.
    #[field(required)]
    pub stage_id: Id<PipelineStage>,
    /// When it entered the stage.
    pub stage_entered_at: Option<DateTime<Utc>>,
    /// The place that the stage had in its pipeline when the deal came there.
    pub stage_order: Option<u32>,
    /// The place that the stage had then in which it was in the period before, if there was one.
    pub previous_stage_order: Option<u32>,
    /// The outcome of the stage.
    pub status: DealStatus,
    /// What it was worth.
    #[field(currency = "currency")]
    pub amount: Option<Decimal>,
    /// The currency of the amount.
    pub currency: Currency,
    /// The probability that counted.
    pub win_probability: Percent,
    /// The forecast category that counted.
    pub counting_category: ForecastCategory,
    /// When it would probably be decided.
    pub expected_close_date: Option<NaiveDate>,
    /// When it was decided.
    pub actual_close_date: Option<NaiveDate>,
    /// The user who owned it.
    pub owner_id: Option<Id<User>>,
    /// The team that worked on it.
    pub team_id: Option<Id<Team>>,
    /// The account.
    pub account_id: Option<Id<Account>>,
    /// The currency into which a rate was kept when it was decided.
    pub locked_currency: Option<Currency>,
    /// That rate.
    #[field(precision = 28, scale = 14, min = 0)]
    pub locked_rate: Option<Decimal>,
    /// Since when that rate held.
    pub locked_rate_date: Option<NaiveDate>,
    /// What it was worth by that rate.
    #[field(currency = "locked_currency", min = 0)]
    pub locked_amount: Option<Decimal>,
}

/// A period lasts.
fn check_period(state: &DealState, faults: &mut Faults) {
    if state
        .valid_until
        .is_some_and(|until| until <= state.valid_from)
    {
        faults.add(
            "valid_until",
            codes::INCONSISTENT,
            "a state ends after it began",
        );
    }
}

/// The fields that states copy: each by its place in [`Deal`] and in [`DealState`].
static COPIED: LazyLock<Vec<(usize, usize)>> = LazyLock::new(|| {
    let (deal, state) = (Deal::schema(), DealState::schema());
    let places = state.fields().iter().enumerate().skip(SYSTEM_FIELDS);
    places
        .filter_map(|(place, field)| Some((deal.field_index(&field.name)?, place)))
        .collect()
});

impl DealState {
    /// What a deal is, from a moment on.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) for a deal without what every deal has.
    pub(crate) fn of(deal: &Arc<Record<Deal>>, from: DateTime<Utc>) -> Result<Self> {
        let meta = deal.meta();
        let mut state = Self::new(
            deal.id,
            deal.created.at,
            from,
            deal.pipeline_id,
            // Every stored deal has a stage, which is copied below.
            deal.stage_id.unwrap_or_else(|| Id::new(deal.id.uuid())),
        );
        state.is_counted = meta.archived_at.is_none();
        let row: Row = Arc::new(Record::new(meta, state.clone()));
        let mut values = row.values();
        for (in_deal, in_state) in COPIED.iter() {
            let slot = in_state.checked_sub(SYSTEM_FIELDS);
            if let Some(slot) = slot.and_then(|place| values.get_mut(place)) {
                *slot = deal.value(*in_deal).into_owned();
            }
        }
        match row.with_values(meta, values) {
            Ok(row) => {
                Ok(Record::<Self>::from_row(row).map_or(state, |record| record.data.clone()))
            }
            Err(faults) => {
                faults.into_result()?;
                Ok(state)
            }
        }
    }

    /// The states of all deals as of a moment, one for each deal that was there and not deleted.
    /// Those of archived deals are among them: [`IS_COUNTED`](Self::IS_COUNTED) tells.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::deals::DealState;
    /// use crm_core::query::{Aggregate, WhereExt};
    /// # async fn example(session: &Session) -> Result<()> {
    /// // The pipeline as it stood when the year began.
    /// let year = "2026-01-01T00:00:00Z".parse().unwrap();
    /// let then = DealState::as_of(year).and(DealState::IS_COUNTED.eq(true));
    /// let by_stage = Aggregate::new()
    ///     .filter(then)
    ///     .group_by(DealState::STAGE_ID)
    ///     .group_by(DealState::CURRENCY)
    ///     .count()
    ///     .sum(DealState::AMOUNT);
    /// let groups = session.records::<DealState>().aggregate(by_stage).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_of(at: DateTime<Utc>) -> Where<Self> {
        let lasts = Self::VALID_UNTIL.is_null().or(Self::VALID_UNTIL.gt(at));
        Self::VALID_FROM.le(at).and(lasts)
    }

    /// Whether this was so at a moment.
    #[must_use]
    pub fn holds(&self, at: DateTime<Utc>) -> bool {
        self.valid_from <= at && self.valid_until.is_none_or(|until| until > at)
    }

    /// Whether it says the same of the deal, whenever and wherever the deal came from.
    fn says_the_same(&self, other: &Self) -> bool {
        let same_time = Self {
            valid_from: other.valid_from,
            valid_until: other.valid_until,
            stage_order: other.stage_order,
            previous_stage_order: other.previous_stage_order,
            ..self.clone()
        };
        same_time == *other
    }

    /// Tells where the stage stands by `order`, and where the one that the deal came from; `known` is
    /// the last state, of which nothing is left unless it lasted until `at`.
    fn tell_places(
        &mut self,
        known: Option<&Self>,
        at: DateTime<Utc>,
        order: impl Fn(Id<PipelineStage>) -> Option<u32>,
    ) {
        self.stage_order = order(self.stage_id);
        self.previous_stage_order = known.and_then(|known| {
            if known.valid_from < at {
                order(known.stage_id).or(known.stage_order)
            } else {
                known.previous_stage_order
            }
        });
    }
}

/// Whether two versions of a deal differ in what its states tell.
fn differ(before: &dyn AnyRecord, after: &dyn AnyRecord) -> bool {
    before.meta().archived_at.is_some() != after.meta().archived_at.is_some()
        || COPIED
            .iter()
            .any(|(in_deal, _)| before.value(*in_deal) != after.value(*in_deal))
}

/// What becomes of the last state of a deal.
#[derive(Debug, PartialEq)]
struct Succession {
    /// The state that ended, if another comes after it.
    ended: Option<DealState>,
    /// The last one: open, or ended with the deal.
    last: Option<DealState>,
}

/// At a moment the last state of a deal ends, if it has not ended yet, and another one may begin.
/// One that began at that very moment, or by the clock of another machine later, lasted no time:
/// nothing is left of it.
fn succeed(known: Option<DealState>, next: Option<DealState>, at: DateTime<Utc>) -> Succession {
    let Some(known) = known else {
        return Succession {
            ended: None,
            last: next,
        };
    };
    let at = at.max(known.valid_until.unwrap_or(known.valid_from));
    let next = next.map(|next| DealState {
        valid_from: at,
        valid_until: None,
        ..next
    });
    let known = match known.valid_until {
        Some(_) => Some(known),
        None if known.valid_from < at => Some(DealState {
            valid_until: Some(at),
            ..known
        }),
        None => None,
    };
    match next {
        Some(next) => Succession {
            ended: known,
            last: Some(next),
        },
        None => Succession {
            ended: None,
            last: known,
        },
    }
}

impl Records<'_, Deal> {
    /// What a deal was, period by period, the first one first; also of a deal that is deleted.
    ///
    /// # Errors
    /// Those of the storage. A deal that is not there has no states.
    pub async fn states(&self, deal: Id<Deal>) -> Result<Vec<Arc<Record<DealState>>>> {
        let states = self.workspace.find_all(DealState::DEAL_ID.eq(deal)).await;
        let mut states: Vec<Arc<Record<DealState>>> = states?;
        states.sort_by_key(|state| state.valid_from);
        Ok(states)
    }

    /// What a deal was at a moment; `None` if it was not there yet, or was deleted.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, deals::Deal};
    /// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
    /// let new_year = "2026-01-01T00:00:00Z".parse().unwrap();
    /// if let Some(then) = session.deals().state_at(deal, new_year).await? {
    ///     println!("{:?} in {} at {}", then.amount, then.currency, then.win_probability);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn state_at(
        &self,
        deal: Id<Deal>,
        at: DateTime<Utc>,
    ) -> Result<Option<Arc<Record<DealState>>>> {
        let then = DealState::DEAL_ID.eq(deal).and(DealState::as_of(at));
        Ok(self.workspace.find_all(then).await?.pop())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn id<E>(number: u128) -> Id<E> {
        Id::new(Uuid::from_u128(number))
    }

    fn state(amount: i64, from: DateTime<Utc>) -> DealState {
        DealState {
            amount: Some(amount.into()),
            ..DealState::new(id(1), at(0), from, id(2), id(3))
        }
    }

    #[test]
    fn what_a_state_names_like_a_deal_is_copied() {
        let names: Vec<&str> = COPIED
            .iter()
            .map(|(_, place)| DealState::schema().field_name(*place))
            .collect();
        assert_eq!(
            names,
            [
                "pipeline_id",
                "stage_id",
                "stage_entered_at",
                "status",
                "amount",
                "currency",
                "win_probability",
                "counting_category",
                "expected_close_date",
                "actual_close_date",
                "owner_id",
                "team_id",
                "account_id",
                "locked_currency",
                "locked_rate",
                "locked_rate_date",
                "locked_amount",
            ]
        );
    }

    #[test]
    fn a_state_is_what_the_deal_is() {
        let deal = Deal {
            stage_id: Some(id(7)),
            amount: Some(500.into()),
            owner_id: Some(id(8)),
            win_probability: Percent::from_whole(30).unwrap(),
            ..Deal::new("Rollout", id(6))
        };
        let stamp = crate::Stamp {
            at: at(3),
            by: crate::Actor::System,
        };
        let meta = crate::schema::Meta::first(Uuid::from_u128(1), stamp);
        let deal = Arc::new(Record::new(meta, deal));
        let state = DealState::of(&deal, at(9)).unwrap();
        assert_eq!((state.valid_from, state.valid_until), (at(9), None));
        assert_eq!(state.deal_created_at, at(3));
        assert_eq!(state.stage_id, id(7));
        assert_eq!(state.pipeline_id, id(6));
        assert_eq!(state.owner_id, Some(id(8)));
        assert_eq!(state.amount, Some(500.into()));
        assert_eq!(state.win_probability, deal.win_probability);
        assert!(state.is_counted);
        let same: Row = deal.clone();
        assert!(!differ(&*same, &*same));
        let archived = same.with_meta(crate::schema::Meta {
            archived_at: Some(at(10)),
            ..meta
        });
        assert!(differ(&*same, &*archived));
    }

    #[test]
    fn what_lasted_no_time_leaves_nothing() {
        let first = state(1, at(5));
        let done = succeed(Some(first.clone()), Some(state(2, at(5))), at(5));
        assert_eq!((done.ended, done.last), (None, Some(state(2, at(5)))));
        // By a clock that is behind.
        let done = succeed(Some(first.clone()), Some(state(2, at(4))), at(4));
        assert_eq!((done.ended, done.last), (None, Some(state(2, at(5)))));
        let done = succeed(Some(first.clone()), None, at(5));
        assert_eq!((done.ended, done.last), (None, None));
    }

    /// Whatever becomes of the order of stages later.
    #[test]
    fn a_state_tells_the_places_of_the_two_stages_at_the_move() {
        let in_stage = |number, from| DealState {
            stage_id: id(number),
            ..state(1, from)
        };
        let order = |stage: Id<PipelineStage>| {
            let place = [4_u128, 9, 7].into_iter().position(|one| id(one) == stage);
            place.and_then(|place| u32::try_from(place).ok())
        };
        let told = |state: &DealState| (state.previous_stage_order, state.stage_order);
        let mut first = in_stage(9, at(1));
        first.tell_places(None, at(1), order);
        assert_eq!(told(&first), (None, Some(1)));
        let mut second = in_stage(7, at(5));
        second.tell_places(Some(&first), at(5), order);
        assert_eq!(told(&second), (Some(1), Some(2)));
        // On at the same moment: it came from the first one.
        let mut third = in_stage(4, at(5));
        third.tell_places(Some(&second), at(5), order);
        assert_eq!(told(&third), (Some(1), Some(0)));
        // The stage that it came from is gone by then.
        let mut gone = in_stage(8, at(5));
        gone.stage_order = Some(3);
        let mut last = in_stage(7, at(9));
        last.tell_places(Some(&gone), at(9), order);
        assert_eq!(told(&last), (Some(3), Some(2)));
    }

    #[test]
    fn a_deal_that_was_deleted_goes_on_after_a_gap() {
        let first = state(1, at(5));
        let done = succeed(Some(first.clone()), None, at(6));
        let ended = DealState {
            valid_until: Some(at(6)),
            ..first
        };
        assert_eq!((done.ended, &done.last), (None, &Some(ended.clone())));
        let again = succeed(done.last, Some(state(1, at(9))), at(9));
        let all = (Some(ended), Some(state(1, at(9))));
        assert_eq!((again.ended, again.last), all);
    }

    proptest! {
        /// Periods follow one another without gaps or overlaps, and each past moment is told as it
        /// was by the last change up to it.
        #[test]
        fn periods_are_gapless_and_tell_what_was(
            changes in prop::collection::vec((0..4_i64, prop::option::weighted(0.9, 0..5_i64)), 1..40)
        ) {
            let mut ended: Vec<DealState> = Vec::new();
            let mut last = None;
            let mut now = 0;
            // What was written last at each minute.
            let mut log: Vec<(i64, Option<i64>)> = Vec::new();
            for (minutes, amount) in changes {
                now += minutes;
                let next = amount.map(|amount| state(amount, at(now)));
                let done = succeed(last.take(), next, at(now));
                ended.extend(done.ended);
                last = done.last;
                log.retain(|(when, _)| *when != now);
                log.push((now, amount));
            }
            let all: Vec<DealState> = ended.into_iter().chain(last).collect();
            for minute in -1..=now + 1 {
                let found: Vec<_> = all.iter().filter(|state| state.holds(at(minute))).collect();
                prop_assert!(found.len() <= 1);
                let was = log.iter().rev().find(|(when, _)| *when <= minute);
                let was = was.and_then(|(_, amount)| *amount).map(Decimal::from);
                prop_assert_eq!(found.first().and_then(|state| state.amount), was);
            }
            prop_assert!(all.iter().all(|state| state.valid_until.is_none_or(|until| until > state.valid_from)));
        }
    }
}
