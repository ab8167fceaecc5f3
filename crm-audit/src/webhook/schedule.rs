//! [`RetrySchedule`]: when a delivery that failed is tried again.

use chrono::TimeDelta;
use uuid::Uuid;

/// When a delivery that failed is tried again: after a pause that doubles or more each time, up to a
/// longest one, until there were enough attempts.
///
/// ```
/// use chrono::TimeDelta;
/// use crm_audit::webhook::RetrySchedule;
///
/// let schedule = RetrySchedule::default();
/// let id = uuid::Uuid::nil();
/// assert!(schedule.after(1, id).unwrap() >= TimeDelta::seconds(5));
/// assert!(schedule.after(8, id).unwrap() <= TimeDelta::hours(30));
/// assert_eq!(schedule.after(schedule.attempts, id), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    /// The pause after the first attempt.
    pub first: TimeDelta,
    /// How many times longer each pause is than the one before; 1 at least.
    pub factor: u32,
    /// The longest pause.
    pub longest: TimeDelta,
    /// How often a delivery is tried in all; 1 at least.
    pub attempts: u32,
}

impl RetrySchedule {
    /// How long to wait after the attempt of this number, the first being 1; `None` once there were
    /// enough. Up to a quarter more than the pause, by the id of the delivery, so that what failed
    /// together is not tried again together.
    #[must_use]
    pub fn after(&self, attempt: u32, delivery: Uuid) -> Option<TimeDelta> {
        if attempt >= self.attempts {
            return None;
        }
        let longest = self.longest.num_milliseconds().max(0);
        let factor = i64::from(self.factor.max(1));
        let mut pause = self.first.num_milliseconds().clamp(0, longest);
        for _ in 1..attempt {
            if pause >= longest {
                break;
            }
            pause = pause.saturating_mul(factor).min(longest);
            if factor == 1 {
                break;
            }
        }
        let more = spread(attempt, delivery) % (pause / 4 + 1);
        TimeDelta::try_milliseconds(pause.saturating_add(more))
    }
}

/// 9 attempts over about two and a half days: pauses of 5 seconds, 30 seconds, 3 minutes, 18 minutes,
/// nearly 2 hours, nearly 11 hours, and twice a day.
impl Default for RetrySchedule {
    fn default() -> Self {
        Self {
            first: TimeDelta::seconds(5),
            factor: 6,
            longest: TimeDelta::days(1),
            attempts: 9,
        }
    }
}

/// A number that follows from the attempt and the delivery and looks like none does.
fn spread(attempt: u32, delivery: Uuid) -> i64 {
    let (high, low) = delivery.as_u64_pair();
    let mixed = (high ^ low.rotate_left(attempt % 64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    i64::try_from(mixed >> 24).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_up_to_the_longest(
            first in 0_i64..100_000, factor in 0_u32..20, longest in 0_i64..1_000_000_000,
            attempts in 1_u32..40, id: u128,
        ) {
            let schedule = RetrySchedule {
                first: TimeDelta::milliseconds(first),
                factor,
                longest: TimeDelta::milliseconds(longest),
                attempts,
            };
            let id = Uuid::from_u128(id);
            let mut least = 0;
            for attempt in 1..attempts {
                let pause = schedule.after(attempt, id).unwrap().num_milliseconds();
                prop_assert!(pause >= least && pause <= longest + longest / 4);
                prop_assert_eq!(schedule.after(attempt, id).unwrap().num_milliseconds(), pause);
                // The pause itself never shrinks; only what is added to it differs.
                least = pause * 4 / 5 - 1;
            }
            prop_assert_eq!(schedule.after(attempts, id), None);
            prop_assert_eq!(schedule.after(u32::MAX, id), None);
        }
    }

    #[test]
    fn no_number_is_too_great() {
        let schedule = RetrySchedule {
            first: TimeDelta::MAX,
            factor: u32::MAX,
            longest: TimeDelta::MAX,
            attempts: u32::MAX,
        };
        // A pause that no moment lies behind is none.
        let _ = schedule.after(1_000, Uuid::max());
    }
}
