//! What becomes of single occurrences when their series moves to another time of the day.
//!
//! An occurrence that is finished, was changed on its own, was deleted or is left out belongs to its
//! day: when the series takes place at another time of that day from now on, it stands for that
//! occurrence, so that the day does not have two. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{ActivitySeries, Moments, Schedule};
use crate::activities::days::local_date;
use crate::value::TimeZone;

/// How many occurrences of the new schedule are looked at.
const MOST_LOOKED_AT: usize = 20_000;

/// The day on which a schedule has an occurrence, by its own clock.
pub(super) fn day_of(schedule: &Schedule<'_>, at: DateTime<Utc>) -> NaiveDate {
    let zone = if schedule.is_all_day {
        TimeZone::UTC
    } else {
        schedule.time_zone
    };
    local_date(at, zone)
}

/// For each of the moments, with the day that it is on, at which the schedule does not take place any
/// more: the occurrence of the same day that it stands for now, the nearest one that is free. Those in
/// `taken` are not.
pub(super) fn stand_ins(
    schedule: &Schedule<'_>,
    moments: &BTreeMap<DateTime<Utc>, NaiveDate>,
    taken: &BTreeSet<DateTime<Utc>>,
) -> BTreeMap<DateTime<Utc>, DateTime<Utc>> {
    let (Some((first, _)), Some((last, _))) = (moments.first_key_value(), moments.last_key_value())
    else {
        return BTreeMap::new();
    };
    // A day of one clock begins at most so much earlier or later than that of another.
    let around = TimeDelta::days(2);
    let found = schedule.occurrences(&(*first - around..*last + around), MOST_LOOKED_AT);
    let takes_place: BTreeSet<DateTime<Utc>> = found.starts.into_iter().collect();
    let mut free: BTreeMap<NaiveDate, BTreeSet<DateTime<Utc>>> = BTreeMap::new();
    for at in &takes_place {
        if !taken.contains(at) && !moments.contains_key(at) {
            free.entry(day_of(schedule, *at)).or_default().insert(*at);
        }
    }
    let mut stand_ins = BTreeMap::new();
    for (moment, day) in moments.iter().filter(|(at, _)| !takes_place.contains(at)) {
        let Some(of_day) = free.get_mut(day) else {
            continue;
        };
        let nearest = of_day.iter().min_by_key(|at| (**at - *moment).abs());
        if let Some(nearest) = nearest.copied() {
            of_day.remove(&nearest);
            stand_ins.insert(*moment, nearest);
        }
    }
    stand_ins
}

impl ActivitySeries {
    /// The moments that are left out of `before`, which had the same, as this schedule has them.
    pub(super) fn excluded_since(&self, before: &Schedule<'_>) -> Moments {
        let nothing = Moments::default();
        let before = Schedule {
            excluded: &nothing,
            ..*before
        };
        let all = Schedule {
            excluded: &nothing,
            ..self.schedule()
        };
        let (first, last) = (self.excluded.iter().next(), self.excluded.iter().last());
        let Some(window) = first.zip(last) else {
            return Moments::default();
        };
        let window = window.0..window.1 + TimeDelta::seconds(1);
        let known = before.occurrences(&window, MOST_LOOKED_AT).starts;
        let moments = known.into_iter().filter(|at| self.excluded.contains(*at));
        let moments = moments.map(|at| (at, day_of(&before, at))).collect();
        let stand_ins = stand_ins(&all, &moments, &BTreeSet::new());
        let mut excluded = Moments::default();
        for at in self.excluded.iter() {
            excluded.insert(stand_ins.get(&at).copied().unwrap_or(at));
        }
        excluded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activities::{LocalDateTime, Recurrence};
    use crate::value::TextValue;

    fn at(day: i64, hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day) + TimeDelta::hours(hour)
    }

    proptest! {
        /// C-015: whatever times of the day a series moves to, no occurrence stands for two, each
        /// stays on its day, and none is put in the place of another.
        #[test]
        fn everything_stays_on_its_day(
            moments in prop::collection::btree_set((0..10_i64, 0..24_i64), 0..12),
            taken in prop::collection::btree_set((0..10_i64, 0..24_i64), 0..6),
            hours in prop::collection::btree_set(0..24_u32, 1..4),
        ) {
            let hours: Vec<String> = hours.iter().map(ToString::to_string).collect();
            let rule = format!("FREQ=DAILY;BYHOUR={}", hours.join(","));
            let recurrence = Recurrence::parse(&rule).unwrap();
            let starts_at = LocalDateTime::new(at(-5, 0).naive_utc()).unwrap();
            let nothing = Moments::default();
            let schedule = Schedule {
                starts_at: &starts_at,
                time_zone: TimeZone::UTC,
                is_all_day: false,
                recurrence: &recurrence,
                excluded: &nothing,
                added: &nothing,
            };
            let taken: BTreeSet<_> = taken.into_iter().map(|(day, hour)| at(day, hour)).collect();
            let moments: BTreeMap<_, _> = moments
                .into_iter()
                .map(|(day, hour)| (at(day, hour), day_of(&schedule, at(day, hour))))
                .collect();
            let found = stand_ins(&schedule, &moments, &taken);
            let distinct: BTreeSet<_> = found.values().collect();
            prop_assert_eq!(distinct.len(), found.len());
            for (moment, stands_for) in &found {
                prop_assert!(!schedule.occurs_at(*moment) && schedule.occurs_at(*stands_for));
                prop_assert_eq!(moment.date_naive(), stands_for.date_naive());
                prop_assert!(!taken.contains(stands_for) && !moments.contains_key(stands_for));
            }
        }
    }
}
