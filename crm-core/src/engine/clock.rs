//! Time and ids come from outside, so that every rule is tested and every run repeatable.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, SubsecRound, Utc};
use uuid::{Builder, Uuid};

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The moment, of which the engine keeps the microseconds.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the one place that reads the clock"
        )]
        let now = Utc::now();
        now.trunc_subsecs(6)
    }
}

/// A clock that stands still until it is set: for tests, and for imports that bring their own dates.
///
/// ```
/// use crm_core::engine::{Clock, ManualClock};
///
/// let clock = ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap());
/// clock.advance(chrono::TimeDelta::days(1));
/// assert_eq!(clock.now().to_rfc3339(), "2026-02-01T09:00:00+00:00");
/// ```
#[derive(Debug)]
pub struct ManualClock {
    microseconds: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `at`.
    #[must_use]
    pub const fn new(at: DateTime<Utc>) -> Self {
        Self {
            microseconds: AtomicI64::new(at.timestamp_micros()),
        }
    }

    /// Makes the clock show `at`.
    pub fn set(&self, at: DateTime<Utc>) {
        self.microseconds
            .store(at.timestamp_micros(), Ordering::SeqCst);
    }

    /// Moves the clock.
    pub fn advance(&self, by: chrono::TimeDelta) {
        self.microseconds
            .fetch_add(by.num_microseconds().unwrap_or_default(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.microseconds.load(Ordering::SeqCst))
            .unwrap_or_default()
    }
}

/// Makes the ids of records and commits.
pub trait IdGenerator: Debug + Send + Sync + 'static {
    /// An id that was never made before; `now` is the time of the engine's clock.
    fn next(&self, now: DateTime<Utc>) -> Uuid;

    /// Sixteen bytes that nobody can guess, such as the salt of an audit event: nothing of them
    /// follows from an id that was given out.
    fn secret(&self, now: DateTime<Utc>) -> Uuid {
        self.next(now)
    }
}

/// Ids of UUID version 7 with random bits from the machine: they sort by time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdGenerator for RandomIds {
    fn next(&self, _now: DateTime<Utc>) -> Uuid {
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the one place that makes ids"
        )]
        Uuid::now_v7()
    }

    fn secret(&self, _now: DateTime<Utc>) -> Uuid {
        // The ids of one millisecond count up, so of the next one little is left to guess.
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the one place that makes ids"
        )]
        Uuid::new_v4()
    }
}

/// Ids of UUID version 7 that count up from a seed: the same run makes the same ids.
#[derive(Debug)]
pub struct SequentialIds {
    seed: u16,
    next: AtomicU64,
    secrets: AtomicU64,
}

impl SequentialIds {
    /// Two generators with different seeds never make the same id.
    #[must_use]
    pub const fn new(seed: u16) -> Self {
        Self {
            seed,
            next: AtomicU64::new(1),
            secrets: AtomicU64::new(1),
        }
    }
}

impl IdGenerator for SequentialIds {
    fn next(&self, now: DateTime<Utc>) -> Uuid {
        let count = self.next.fetch_add(1, Ordering::SeqCst);
        let [_, _, b2, b3, b4, b5, b6, b7] = count.to_be_bytes();
        let [s0, s1] = self.seed.to_be_bytes();
        let milliseconds = u64::try_from(now.timestamp_millis()).unwrap_or_default();
        // Ten bytes follow the time: the seed, then the count.
        let bytes = [s0, s1, 0, 0, b2, b3, b4, b5, b6, b7];
        Builder::from_unix_timestamp_millis(milliseconds, &bytes).into_uuid()
    }

    /// Counts too, beside the ids: only tests and repeatable runs may use it.
    fn secret(&self, _now: DateTime<Utc>) -> Uuid {
        let count = self.secrets.fetch_add(1, Ordering::SeqCst);
        Builder::from_custom_bytes((u128::from(self.seed) << 64 | u128::from(count)).to_be_bytes())
            .into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_ids_differ_and_sort() {
        let ids = SequentialIds::new(7);
        let now = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let all: Vec<_> = (0..1_000).map(|_| ids.next(now)).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(all[0].get_version_num(), 7);
    }
}
