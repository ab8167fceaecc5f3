//! R-044: what stands between a deal and a stage. Everything here is computed from values alone.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{Deal, StageApproval};
use crate::Id;
use crate::engine::Answer;
use crate::error::{FieldError, codes};
use crate::pipelines::{Entrance, PipelineStage, StageType, Step, Way};
use crate::query::{FieldAt, NoRelated};
use crate::record::Record;
use crate::schema::ValueRef;

/// One reason why a deal may not enter a stage (R-044). A refused move tells all of them, each as a
/// [`FieldError`] with its [`code`](Self::code).
///
/// | code | what stands in the way | field |
/// |---|---|---|
/// | `required` | a field that the stage requires is not filled | that field |
/// | `stage_order` | the pipeline's order, see [`is_in_order`] | `stage_id` |
/// | `stage_not_next` | the stage that it is in does not name this one as a next | `stage_id` |
/// | `stage_too_early` | it has not been long enough where it is | `stage_id` |
/// | `stage_criteria` | it does not fulfil the criteria of the stage | `stage_id` |
/// | `stage_condition` | the condition of the stage is not true of it; with the parameter `reason` | `stage_id` |
/// | `stage_not_approved` | nobody has approved it, or its amount changed since | `stage_id` |
/// | `inconsistent` | the stage is not in use, or is one of another pipeline | `stage_id` |
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Obstacle {
    /// A field must be filled.
    Missing {
        /// The field, such as `amount` or `custom_fields.budget`.
        field: String,
    },
    /// The pipeline keeps an order, in which this stage is not next.
    OutOfOrder {
        /// The open stage that is next, if there is one.
        next: Option<Id<PipelineStage>>,
    },
    /// The stage that the deal is in lets deals go to other stages only.
    NotNext,
    /// The deal must stay longer where it is.
    TooEarly {
        /// When it may go on.
        until: DateTime<Utc>,
    },
    /// The deal does not fulfil the criteria of the stage.
    Criteria,
    /// The [condition](PipelineStage::entry_condition) of the stage is not true of the deal.
    Condition {
        /// Why not: `false`; `unknown`, as a field is empty; `unsound`, as a field that it names is no
        /// more; or the code of the [`Problem`](crate::expression::Problem), such as
        /// `division_by_zero`.
        reason: &'static str,
        /// What the stage says of it.
        message: Option<String>,
    },
    /// Nobody has approved that the deal, with its amount, enters the stage.
    NotApproved,
    /// The stage is not in use.
    NotInUse,
    /// The stage is one of another pipeline.
    OtherPipeline,
}

impl Obstacle {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => codes::REQUIRED,
            Self::OutOfOrder { .. } => "stage_order",
            Self::NotNext => "stage_not_next",
            Self::TooEarly { .. } => "stage_too_early",
            Self::Criteria => "stage_criteria",
            Self::Condition { .. } => "stage_condition",
            Self::NotApproved => "stage_not_approved",
            Self::NotInUse | Self::OtherPipeline => codes::INCONSISTENT,
        }
    }

    /// The field to change: the missing one, or `stage_id`.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Missing { field } => field,
            _ => "stage_id",
        }
    }

    /// What a refused write tells of it; with the parameter `until` when it may go on, `next` which
    /// stage is next, or `reason` why a condition is not true.
    #[must_use]
    pub fn fault(&self) -> FieldError {
        let message = match self {
            Self::Missing { .. } => "must be filled before the deal enters the stage",
            Self::OutOfOrder { .. } => {
                "the pipeline keeps its order: go to the next stage, fall back, or lose the deal"
            }
            Self::NotNext => "the stage that the deal is in does not lead there",
            Self::TooEarly { .. } => "the deal must stay longer in the stage that it is in",
            Self::Criteria => "the deal does not fulfil the criteria of the stage",
            Self::Condition { .. } => "the condition of the stage is not true of the deal",
            Self::NotApproved => {
                "needs an approval for the deal with its present amount; request it"
            }
            Self::NotInUse => "the stage is not in use",
            Self::OtherPipeline => "must be a stage of the deal's pipeline",
        };
        let message = match self {
            Self::Condition {
                message: Some(told),
                ..
            } => Cow::Owned(told.clone()),
            _ => Cow::Borrowed(message),
        };
        let fault = FieldError::new(self.field(), self.code(), message);
        match self {
            Self::TooEarly { until } => fault.with("until", *until),
            Self::OutOfOrder { next: Some(next) } => fault.with("next", next.uuid()),
            Self::Condition { reason, .. } => fault.with("reason", *reason),
            _ => fault,
        }
    }
}

/// Where a deal comes from, for the order of a pipeline.
#[derive(Clone, Copy, Debug)]
pub enum CameFrom<'a> {
    /// It is new in the pipeline: created, or from another one.
    Outside,
    /// An open stage.
    Open(&'a PipelineStage),
    /// A closed stage, and the open one that it was closed from, if that is still there.
    Closed(&'a PipelineStage, Option<&'a PipelineStage>),
}

/// Whether a pipeline that keeps its order lets a deal go to a stage (R-044). `open` are the open
/// stages in use, in their order.
///
/// | from \ to | the first open stage | an earlier one | the next | a later one | won | lost |
/// |---|---|---|---|---|---|---|
/// | outside (created, or from another pipeline) | yes | | no | no | no | no |
/// | an open stage | yes | yes | yes | no | from the last open stage | yes |
/// | a won stage | yes | up to the stage that it was closed from | so | so | another won one | yes |
/// | a lost stage | yes | up to the stage that it was closed from | so | so | no: reopen it first | yes |
///
/// ```
/// use crm_core::Id;
/// use crm_core::deals::{CameFrom, is_in_order};
/// use crm_core::pipelines::{PipelineStage, StageType};
///
/// let pipeline = Id::new(uuid::Uuid::from_u128(1));
/// let [first, second] = [1, 2_u32].map(|place| PipelineStage::new(pipeline, "Open", place));
/// let won = PipelineStage {
///     stage_type: StageType::ClosedWon,
///     ..PipelineStage::new(pipeline, "Won", 3_u32)
/// };
/// let open = [&first, &second];
/// assert!(is_in_order(&open, CameFrom::Open(&first), &second));
/// assert!(!is_in_order(&open, CameFrom::Open(&first), &won));
/// assert!(is_in_order(&open, CameFrom::Open(&second), &won));
/// assert!(!is_in_order(&open, CameFrom::Outside, &second));
/// ```
#[must_use]
pub fn is_in_order(open: &[&PipelineStage], from: CameFrom<'_>, to: &PipelineStage) -> bool {
    let place = to.stage_order;
    let is_first = open.first().is_some_and(|first| first.stage_order == place);
    let next = |from: &PipelineStage| next_of(open, from).map(|next| next.stage_order);
    match (from, to.stage_type) {
        (CameFrom::Outside, StageType::Open) => is_first,
        (CameFrom::Outside, _) => false,
        (_, StageType::ClosedLost) => true,
        (CameFrom::Open(from), StageType::Open) => {
            place <= from.stage_order || next(from) == Some(place)
        }
        (CameFrom::Open(from), StageType::ClosedWon) => next(from).is_none(),
        (CameFrom::Closed(_, left), StageType::Open) => {
            is_first || left.is_some_and(|left| place <= left.stage_order)
        }
        (CameFrom::Closed(from, _), StageType::ClosedWon) => from.is_won(),
    }
}

/// The open stage behind another one.
fn next_of<'a>(open: &[&'a PipelineStage], from: &PipelineStage) -> Option<&'a PipelineStage> {
    let mut behind = open
        .iter()
        .filter(|stage| stage.stage_order > from.stage_order);
    behind.next().copied()
}

/// Whether a field of a deal is filled: it has a value that is no blank text and no empty list or
/// document. A field that deals do not have is not filled.
pub(super) fn is_filled(deal: &Record<Deal>, field: Option<&FieldAt>) -> bool {
    let is_text = |text: &str| !text.trim().is_empty();
    field.is_some_and(|field| {
        field.with(deal, |value| match value {
            ValueRef::Null => false,
            ValueRef::Json(json) => match &*json {
                serde_json::Value::Null => false,
                serde_json::Value::String(text) => is_text(text),
                serde_json::Value::Array(items) => !items.is_empty(),
                serde_json::Value::Object(members) => !members.is_empty(),
                _ => true,
            },
            ValueRef::Text(text) => is_text(text),
            ValueRef::List(items) => !items.is_empty(),
            _ => true,
        })
    })
}

/// A deal before a stage.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The deal as it would be in the stage.
    pub(super) deal: &'a Record<Deal>,
    /// The stage and its pipeline.
    pub(super) to: &'a Step,
    pub(super) way: &'a Way,
    /// The stage that it leaves, if it is there.
    pub(super) left: Option<Left<'a>>,
    /// What the condition of the stage comes to for the deal, if it has one.
    pub(super) answer: Option<Answer>,
    /// What was approved for the deal and the stage, and not used.
    pub(super) approvals: &'a [&'a StageApproval],
    pub(super) now: DateTime<Utc>,
}

/// The stage that a deal leaves.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) stage: &'a Record<PipelineStage>,
    /// Since when it was there.
    pub(super) since: DateTime<Utc>,
    /// The open stage that it was closed from.
    pub(super) closed_from: Option<&'a PipelineStage>,
}

impl Entry<'_> {
    /// Everything that stands in the way.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        if !self.to.stage.is_active {
            found.push(Obstacle::NotInUse);
        }
        self.add_order(&mut found);
        if let Some(left) = self.left {
            if !left
                .stage
                .allowed_next_stages
                .lets_through(self.to.stage.id)
            {
                found.push(Obstacle::NotNext);
            }
            if let Some(until) = self.stays_until(left).filter(|until| *until > self.now) {
                found.push(Obstacle::TooEarly { until });
            }
        }
        self.add_state(&mut found);
        found
    }

    /// What stands in the way because of the deal as it is, not of where it comes from: what must
    /// still be so when the commit that brings it into the stage changes it further.
    pub(super) fn state(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        self.add_state(&mut found);
        found
    }

    fn add_order(&self, found: &mut Vec<Obstacle>) {
        if !self.way.pipeline.stage_order_enforced {
            return;
        }
        let to = &self.to.stage;
        let open: Vec<&PipelineStage> = self.way.open().map(|stage| &stage.data).collect();
        let left = self
            .left
            .filter(|left| left.stage.pipeline_id == to.pipeline_id);
        let from = match left {
            None => CameFrom::Outside,
            Some(left) if left.stage.is_closed() => CameFrom::Closed(left.stage, left.closed_from),
            Some(left) => CameFrom::Open(left.stage),
        };
        if is_in_order(&open, from, to) {
            return;
        }
        let next = match from {
            CameFrom::Open(from) => next_of(&open, from).map(|next| next.stage_order),
            CameFrom::Outside => open.first().map(|first| first.stage_order),
            CameFrom::Closed(..) => None,
        };
        let next = self
            .way
            .open()
            .find(|stage| Some(stage.stage_order) == next);
        found.push(Obstacle::OutOfOrder {
            next: next.map(|next| next.id),
        });
    }

    /// Until when the stage that it leaves keeps the deal from going on.
    fn stays_until(&self, left: Left<'_>) -> Option<DateTime<Utc>> {
        let to = &self.to.stage;
        let goes_on = match to.stage_type {
            StageType::ClosedLost => false,
            _ if to.pipeline_id != left.stage.pipeline_id => true,
            StageType::ClosedWon => !left.stage.is_closed(),
            StageType::Open => to.stage_order > left.stage.stage_order,
        };
        let hours = left.stage.minimum_hours.filter(|_| goes_on)?;
        let least = TimeDelta::try_hours(i64::from(hours))?;
        left.since.checked_add_signed(least)
    }

    fn add_state(&self, found: &mut Vec<Obstacle>) {
        let required = self.to.stage.required_fields.iter();
        for (name, field) in required.zip(&self.to.required) {
            if !is_filled(self.deal, field.as_ref()) {
                let field = name.clone();
                found.push(Obstacle::Missing { field });
            }
        }
        let is_let_in = match &self.to.criteria {
            Entrance::Open => true,
            Entrance::Where(condition) => condition.matches(self.deal, &NoRelated),
            Entrance::Shut => false,
        };
        if !is_let_in {
            found.push(Obstacle::Criteria);
        }
        found.extend(unfulfilled(self.to, self.answer));
        let is_approved = |approval: &&StageApproval| approval.is_for(self.deal);
        if self.to.stage.approval.is_some() && !self.approvals.iter().any(is_approved) {
            found.push(Obstacle::NotApproved);
        }
    }
}

/// What stands in the way of a deal for which the condition of a stage comes to this.
pub(super) fn unfulfilled(to: &Step, answer: Option<Answer>) -> Option<Obstacle> {
    let reason = match (&to.condition, answer) {
        (Entrance::Open, _) | (Entrance::Where(_), Some(Ok(Some(true)))) => return None,
        (Entrance::Shut, _) => "unsound",
        (_, Some(Ok(Some(false)))) => "false",
        (_, None | Some(Ok(_))) => "unknown",
        (_, Some(Err(error))) => error.problem.code(),
    };
    Some(Obstacle::Condition {
        reason,
        message: to.stage.entry_condition_message.clone(),
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::pipelines::Pipeline;

    fn stage(place: u32, stage_type: StageType) -> PipelineStage {
        PipelineStage {
            stage_type,
            ..PipelineStage::new(Id::<Pipeline>::new(Uuid::nil()), "Stage", place)
        }
    }

    /// The table at `is_in_order`: from each place, the places that a deal may go to.
    #[test]
    fn the_order_is_that_of_the_table() {
        use StageType::{ClosedLost, ClosedWon, Open};
        // The stage at place 3 is not in use.
        let types = [
            Open, Open, Open, Open, ClosedWon, ClosedWon, ClosedLost, ClosedLost,
        ];
        let stages: Vec<_> = (1..)
            .zip(types)
            .map(|(place, it)| stage(place, it))
            .collect();
        let at = |place: usize| stages.get(place - 1).unwrap();
        let open = [at(1), at(2), at(4)];
        let cases: [(CameFrom<'_>, &[u32]); 9] = [
            (CameFrom::Outside, &[1]),
            (CameFrom::Open(at(1)), &[1, 2, 7, 8]),
            (CameFrom::Open(at(2)), &[1, 2, 4, 7, 8]),
            // Where it is, though no deal may enter any more.
            (CameFrom::Open(at(3)), &[1, 2, 3, 4, 7, 8]),
            (CameFrom::Open(at(4)), &[1, 2, 3, 4, 5, 6, 7, 8]),
            (CameFrom::Closed(at(5), Some(at(2))), &[1, 2, 5, 6, 7, 8]),
            (CameFrom::Closed(at(7), Some(at(2))), &[1, 2, 7, 8]),
            (CameFrom::Closed(at(7), None), &[1, 7, 8]),
            (CameFrom::Closed(at(5), None), &[1, 5, 6, 7, 8]),
        ];
        for (from, expected) in cases {
            let to = stages.iter().filter(|to| is_in_order(&open, from, to));
            let to: Vec<u32> = to.map(|to| to.stage_order).collect();
            assert_eq!(to, expected, "{from:?}");
        }
    }
}
