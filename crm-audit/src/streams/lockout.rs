//! Whether somebody is locked out: so many failures in so much time. Pure.

use chrono::{DateTime, TimeDelta, Utc};

/// After how many failures somebody is locked out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// How many failures lock out; 0 never does.
    pub failures: usize,
    /// In how much time.
    pub within: TimeDelta,
    /// For how long, counted from the failure that locked out.
    pub lasting: TimeDelta,
}

impl Default for LockoutPolicy {
    /// Five failures within a quarter of an hour lock out for a quarter of an hour.
    fn default() -> Self {
        Self {
            failures: 5,
            within: TimeDelta::minutes(15),
            lasting: TimeDelta::minutes(15),
        }
    }
}

/// What counts of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It failed.
    Failed(DateTime<Utc>),
    /// It went well, or somebody lifted the lock: what was before no longer counts. That a password
    /// was right is none while failures of a second factor count.
    Cleared(DateTime<Utc>),
}

impl Attempt {
    /// When it was.
    #[must_use]
    pub const fn at(self) -> DateTime<Utc> {
        match self {
            Self::Failed(at) | Self::Cleared(at) => at,
        }
    }
}

/// Whether somebody is locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockout {
    /// May try, and that many more failures lock out.
    Open {
        /// How many failures are left; `None` where none lock out.
        left: Option<usize>,
    },
    /// Is locked out.
    Locked {
        /// Until when.
        until: DateTime<Utc>,
    },
}

/// Whether somebody is locked out at a moment, by the attempts there were, in whatever order.
///
/// A failure locks out if it is the last of so many within the time. Failures during a lock make it
/// longer; attempts that were blocked are none.
///
/// ```
/// use chrono::{DateTime, TimeDelta, Utc};
/// use crm_audit::{Attempt, Lockout, LockoutPolicy, lockout};
///
/// let noon: DateTime<Utc> = "2026-05-01T12:00:00Z".parse().unwrap();
/// let minute = |number| noon + TimeDelta::minutes(number);
/// let policy = LockoutPolicy { failures: 2, ..LockoutPolicy::default() };
/// let failed = [Attempt::Failed(minute(0)), Attempt::Failed(minute(3))];
/// let until = minute(18);
/// assert_eq!(lockout(&failed, &policy, minute(5)), Lockout::Locked { until });
/// assert_eq!(lockout(&failed, &policy, minute(30)), Lockout::Open { left: Some(2) });
/// ```
#[must_use]
pub fn lockout(attempts: &[Attempt], policy: &LockoutPolicy, now: DateTime<Utc>) -> Lockout {
    if policy.failures == 0 {
        return Lockout::Open { left: None };
    }
    let mut attempts: Vec<Attempt> = attempts
        .iter()
        .copied()
        .filter(|one| one.at() <= now)
        .collect();
    // Of what happened at the same moment, what clears comes last.
    attempts.sort_by_key(|one| (one.at(), matches!(one, Attempt::Cleared(_))));
    let last_cleared = attempts
        .iter()
        .rposition(|one| matches!(one, Attempt::Cleared(_)));
    let since = last_cleared.map_or(0, |place| place + 1);
    let failures: Vec<DateTime<Utc>> = attempts.iter().skip(since).map(|one| one.at()).collect();
    let mut until = None;
    for run in failures.windows(policy.failures) {
        if let (Some(first), Some(last)) = (run.first(), run.last())
            && *last - *first <= policy.within
        {
            until = last.checked_add_signed(policy.lasting);
        }
    }
    if let Some(until) = until.filter(|until| *until > now) {
        return Lockout::Locked { until };
    }
    let counted = failures.iter().filter(|at| now - **at <= policy.within);
    let left = policy.failures.saturating_sub(counted.count()).max(1);
    Lockout::Open { left: Some(left) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    const POLICY: LockoutPolicy = LockoutPolicy {
        failures: 3,
        within: TimeDelta::seconds(60),
        lasting: TimeDelta::seconds(100),
    };

    #[test]
    fn a_success_clears_what_was_before() {
        let failed = [0, 10].map(|second| Attempt::Failed(at(second)));
        let mut attempts = failed.to_vec();
        attempts.push(Attempt::Cleared(at(20)));
        attempts.push(Attempt::Failed(at(30)));
        assert_eq!(
            lockout(&attempts, &POLICY, at(31)),
            Lockout::Open { left: Some(2) }
        );
    }

    #[test]
    fn failures_spread_over_time_do_not_lock() {
        let spread: Vec<_> = (0..20).map(|nth| Attempt::Failed(at(nth * 31))).collect();
        assert!(matches!(
            lockout(&spread, &POLICY, at(20 * 31)),
            Lockout::Open { .. }
        ));
    }

    proptest! {
        /// C-059: locked exactly if one of the failures not long ago was the last of so many.
        #[test]
        fn locks_are_what_their_definition_says(
            seconds in prop::collection::vec(0_i64..600, 0..30),
            now in 0_i64..700,
        ) {
            let attempts: Vec<_> = seconds.iter().map(|second| Attempt::Failed(at(*second))).collect();
            let locking = |last: &i64| {
                let earlier = seconds.iter().filter(|one| **one <= *last && last - **one <= 60);
                *last <= now && earlier.count() >= 3
            };
            let until = seconds.iter().filter(|one| locking(one)).max().map(|last| last + 100);
            let wanted = until.filter(|until| *until > now).map(at);
            match lockout(&attempts, &POLICY, at(now)) {
                Lockout::Locked { until } => prop_assert_eq!(Some(until), wanted),
                Lockout::Open { left } => {
                    prop_assert_eq!(wanted, None);
                    prop_assert!(matches!(left, Some(1..=3)));
                }
            }
        }
    }
}
