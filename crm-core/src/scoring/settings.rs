//! What a rule set says besides its rules: groups, grades and decay, as values that fields hold.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::entity::{LeadScoringRuleSet, ScoringRuleType};
use crate::activities::{ActivityStatus, ActivityType};
use crate::error::{Faults, codes};
use crate::schema::document_value;
use crate::value::Score;

/// The most groups of a rule set.
pub const MAX_GROUPS: usize = 30;

/// The longest time that settings may name, in days.
const MAX_DAYS: u32 = 36_500;

/// The groups of a rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScoringGroups(pub Vec<ScoringGroup>);

/// What the rules of a group give together at least and at most, in points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringGroup {
    /// Name; rules name their group by it.
    pub name: String,
    /// The least; also where no rule of the group is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<i32>,
    /// The most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<i32>,
}

impl ScoringGroups {
    /// Adds a group.
    #[must_use]
    pub fn with(
        mut self,
        name: impl Into<String>,
        minimum: Option<i32>,
        maximum: Option<i32>,
    ) -> Self {
        self.0.push(ScoringGroup {
            name: name.into(),
            minimum,
            maximum,
        });
        self
    }
}

/// Which grade a score is: that of the highest band that begins at the score or below it. Without
/// bands the grades of leads are left alone.
///
/// ```
/// use crm_core::scoring::GradeBands;
/// use crm_core::value::Score;
///
/// let bands = GradeBands::default().with("A", 80).with("B", 50);
/// assert_eq!(bands.grade(Score::clamped(80)), Some("A"));
/// assert_eq!(bands.grade(Score::clamped(79)), Some("B"));
/// assert_eq!(bands.grade(Score::clamped(10)), None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GradeBands(pub Vec<GradeBand>);

/// A grade, and the score from which on a lead has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GradeBand {
    /// The grade.
    pub grade: String,
    /// The least score.
    pub from: Score,
}

impl GradeBands {
    /// Adds a band; a `from` above 100 is 100.
    #[must_use]
    pub fn with(mut self, grade: impl Into<String>, from: u8) -> Self {
        self.0.push(GradeBand {
            grade: grade.into(),
            from: Score::clamped(from.into()),
        });
        self
    }

    /// The grade of a score; none below the lowest band.
    #[must_use]
    pub fn grade(&self, score: Score) -> Option<&str> {
        let bands = self.0.iter().filter(|band| band.from <= score);
        bands
            .max_by_key(|band| band.from)
            .map(|band| band.grade.as_str())
    }
}

/// How the points of rules fade with time: see [`points`](Self::points).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decay {
    /// How fast.
    pub method: DecayMethod,
    /// The moment or day of the lead from which on they fade, such as `last_activity_at` or
    /// `custom_fields.visited_at`; a day begins at its midnight in UTC. Where it has none, its creation.
    #[serde(default = "last_activity")]
    pub since: String,
    /// The rules whose points fade, by their type; all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rule_types: Vec<ScoringRuleType>,
}

/// How fast points fade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DecayMethod {
    /// Half of them are gone after so many days, half of the rest after as many days again.
    HalfLife {
        /// The days.
        days: u32,
    },
    /// After every full period of so many days some of them are gone.
    PerPeriod {
        /// The days of a period.
        days: u32,
        /// How many points a period takes.
        points: u32,
    },
}

fn last_activity() -> String {
    crate::leads::Lead::LAST_ACTIVITY_AT.name().into_owned()
}

impl Decay {
    /// Half of all points are gone after so many days without an activity.
    #[must_use]
    pub fn half_life(days: u32) -> Self {
        Self {
            method: DecayMethod::HalfLife { days },
            since: last_activity(),
            rule_types: Vec::new(),
        }
    }

    /// So many points are gone after every so many days without an activity.
    #[must_use]
    pub fn per_period(days: u32, points: u32) -> Self {
        Self {
            method: DecayMethod::PerPeriod { days, points },
            ..Self::half_life(days)
        }
    }

    /// Only the points of rules of this type fade, besides those named before.
    #[must_use]
    pub fn of(mut self, rule_type: ScoringRuleType) -> Self {
        self.rule_types.push(rule_type);
        self
    }

    /// Whether the points of a rule of this type fade.
    #[must_use]
    pub fn fades(&self, rule_type: ScoringRuleType) -> bool {
        self.rule_types.is_empty() || self.rule_types.contains(&rule_type)
    }

    /// What is left of some points after so many full days; a negative number of days is none.
    ///
    /// By half-life it is `points * 2^(-days / half-life)`, rounded to the nearest whole number,
    /// halves away from zero; negative points fade towards zero too. Per period what is taken away
    /// stops at zero, and negative points stay.
    ///
    /// ```
    /// use crm_core::scoring::Decay;
    ///
    /// let halved = Decay::half_life(30);
    /// assert_eq!(halved.points(50, 0), 50);
    /// assert_eq!(halved.points(50, 30), 25);
    /// assert_eq!(halved.points(50, 45), 18); // 17.68
    /// assert_eq!(halved.points(50, 60), 13); // 12.5
    ///
    /// let taken = Decay::per_period(7, 5);
    /// assert_eq!(taken.points(12, 6), 12);
    /// assert_eq!(taken.points(12, 14), 2);
    /// assert_eq!(taken.points(12, 700), 0);
    /// ```
    #[must_use]
    pub fn points(&self, points: i64, days: i64) -> i64 {
        let days = days.max(0);
        match self.method {
            DecayMethod::HalfLife { days: half } => {
                let halvings = days as f64 / f64::from(half.max(1));
                // Points are whole numbers far below 2^52, so both casts are exact.
                (points as f64 * (-halvings).exp2()).round() as i64
            }
            DecayMethod::PerPeriod {
                days: period,
                points: taken,
            } => {
                let periods = days / i64::from(period.max(1));
                let left = points.saturating_sub(periods.saturating_mul(taken.into()));
                if points > 0 { left.max(0) } else { points }
            }
        }
    }
}

/// Which activities of a lead a rule counts; all of them where nothing is named. Deleted ones never
/// count, archived ones do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivityCount {
    /// Only those of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity_type: Option<ActivityType>,
    /// Only those that stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ActivityStatus>,
    /// Only those of the last so many days: completed where the status is `completed`, else created
    /// within them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_days: Option<u32>,
}

document_value!(ScoringGroups);
document_value!(GradeBands);
document_value!(Decay);
document_value!(ActivityCount);

/// Whether a number of days is one that settings may name.
pub(super) fn is_days(days: u32) -> bool {
    (1..=MAX_DAYS).contains(&days)
}

/// The days that settings may name, for messages.
pub(super) const DAYS: &str = "the days must be from 1 to 36500";

/// Limits are in order, names are not used twice, grades fit into the field of leads.
pub(super) fn check_settings(set: &LeadScoringRuleSet, faults: &mut Faults) {
    let crossed = |minimum: Option<i32>, maximum: Option<i32>| match (minimum, maximum) {
        (Some(minimum), Some(maximum)) => minimum > maximum,
        _ => false,
    };
    if crossed(set.minimum, set.maximum) {
        let message = "must not be less than `minimum`";
        faults.add("maximum", codes::INCONSISTENT, message);
    }
    let mut names = HashSet::new();
    for group in &set.groups.0 {
        if group.name.trim().is_empty() || group.name.chars().count() > 50 {
            let message = "the name of a group must have 1 to 50 characters";
            faults.add("groups", codes::INCONSISTENT, message);
        } else if !names.insert(&group.name) || crossed(group.minimum, group.maximum) {
            let message = "each group has a name of its own and no minimum above its maximum";
            faults.add("groups", codes::INCONSISTENT, message);
        }
    }
    if set.groups.0.len() > MAX_GROUPS {
        faults.add(
            "groups",
            codes::TOO_MANY,
            "a rule set has at most 30 groups",
        );
    }
    let mut begins = HashSet::new();
    for band in &set.grades.0 {
        if band.grade.trim().is_empty() || band.grade.chars().count() > 10 {
            let message = "a grade must have 1 to 10 characters";
            faults.add("grades", codes::INCONSISTENT, message);
        } else if !begins.insert(band.from) {
            let message = "no two bands begin at the same score";
            faults.add("grades", codes::INCONSISTENT, message);
        }
    }
    let days = set.decay.as_ref().map(|decay| match decay.method {
        DecayMethod::HalfLife { days } | DecayMethod::PerPeriod { days, .. } => days,
    });
    if days.is_some_and(|days| !is_days(days)) {
        faults.add("decay", codes::OUT_OF_RANGE, DAYS);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The longer ago, the less is left, and never of another sign.
        #[test]
        fn decay_is_monotone(
            points in -5_000_i64..5_000,
            days in 0_i64..4_000,
            more in 0_i64..400,
            speed in 1_u32..400,
            taken in 0_u32..50,
        ) {
            for decay in [Decay::half_life(speed), Decay::per_period(speed, taken)] {
                let (now, later) = (decay.points(points, days), decay.points(points, days + more));
                prop_assert!(later.abs() <= now.abs(), "{now} grew to {later}");
                prop_assert!(now.signum() * points.signum() >= 0);
                prop_assert_eq!(decay.points(points, 0), points);
                prop_assert_eq!(decay.points(points, -days), points);
            }
        }

        #[test]
        fn the_grade_is_that_of_the_highest_band_below(
            froms in prop::collection::hash_set(0_u8..=100, 0..6),
            score in 0_i64..=100,
        ) {
            let bands = froms.iter().fold(GradeBands::default(), |bands, from| {
                bands.with(from.to_string(), *from)
            });
            let score = Score::clamped(score);
            let expected = froms.iter().filter(|from| **from <= score.value()).max();
            let expected = expected.map(ToString::to_string);
            prop_assert_eq!(bands.grade(score), expected.as_deref());
        }
    }
}
