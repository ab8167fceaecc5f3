//! Classes of durations, so that percentiles are read from counts and not from all calls: pure.
//!
//! Durations below 64 microseconds are classes of their own. From there on each power of two is cut
//! into 32 classes of the same width, so the middle of a class is off by at most a 64th of the
//! duration: [`PERCENTILE_ERROR`]. All durations there are fall into 1,920 classes.

/// How many classes a power of two is cut into: 2 to this.
const BITS: u32 = 5;

/// By how much a percentile is off at most, as a part of the duration: a 64th.
pub const PERCENTILE_ERROR: f64 = 1.0 / 64.0;

/// The class of a duration, in microseconds; of one below 0 that of 0. Classes rise with durations.
///
/// ```
/// use crm_audit::{bucket_of, value_of};
///
/// assert_eq!(value_of(bucket_of(17)), 17);
/// let off = (value_of(bucket_of(1_000_000)) - 1_000_000).abs();
/// assert!(off <= 1_000_000 / 64);
/// ```
#[must_use]
pub const fn bucket_of(duration: i64) -> i64 {
    let value = if duration < 0 {
        0
    } else {
        duration.unsigned_abs()
    };
    let linear = 2 << BITS;
    if value < linear {
        return value.cast_signed();
    }
    // The highest bit and the BITS below it tell the class.
    let shift = 63 - value.leading_zeros() - BITS;
    let class = ((shift as u64) << BITS) + (value >> shift);
    class.cast_signed()
}

/// The middle of a class, in microseconds.
#[must_use]
pub const fn value_of(bucket: i64) -> i64 {
    let class = if bucket < 0 { 0 } else { bucket.unsigned_abs() };
    let linear = 2 << BITS;
    if class < linear {
        return class.cast_signed();
    }
    let shift = (class >> BITS) - 1;
    if shift > 58 {
        return i64::MAX;
    }
    let least = (class - (shift << BITS)) << shift;
    let middle = least + ((1 << shift) >> 1);
    if middle > i64::MAX.unsigned_abs() {
        i64::MAX
    } else {
        middle.cast_signed()
    }
}

/// The duration that `percent` of all durations do not exceed (nearest rank), in microseconds, from
/// how many there are in each class, the least class first. `None` where there are none.
///
/// It is off by at most [`PERCENTILE_ERROR`].
#[must_use]
pub fn percentile(counts: &[(i64, u64)], percent: u32) -> Option<i64> {
    let total: u128 = counts.iter().map(|(_, count)| u128::from(*count)).sum();
    let percent = u128::from(percent.min(100));
    let rank = (total * percent).div_ceil(100).max(1);
    let mut seen = 0;
    counts.iter().find_map(|(class, count)| {
        seen += u128::from(*count);
        (seen >= rank && *count > 0).then(|| value_of(*class))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn duration() -> impl Strategy<Value = i64> {
        (0_u32..62, any::<i64>()).prop_map(|(bits, any)| (any & i64::MAX) >> bits)
    }

    proptest! {
        /// The middle of a class is within the error that is promised.
        #[test]
        fn classes_are_as_narrow_as_promised(duration in duration()) {
            let told = value_of(bucket_of(duration));
            let off = (i128::from(told) - i128::from(duration)).abs();
            prop_assert!(off * 64 <= i128::from(duration), "{duration} is told as {told}");
        }

        #[test]
        fn classes_rise_with_durations(one in duration(), other in duration()) {
            prop_assert_eq!(one.cmp(&other).is_le(), one <= other);
            if one <= other {
                prop_assert!(bucket_of(one) <= bucket_of(other));
            }
        }

        /// C-060: percentiles from counts are those of the sorted durations, within the error.
        #[test]
        fn percentiles_are_those_of_all_durations(
            mut durations in prop::collection::vec(duration(), 1..200),
            percent in 1_u32..=100,
        ) {
            let mut counts = BTreeMap::new();
            for duration in &durations {
                *counts.entry(bucket_of(*duration)).or_insert(0_u64) += 1;
            }
            let counts: Vec<_> = counts.into_iter().collect();
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100).max(1);
            let exact = durations[rank - 1];
            let told = percentile(&counts, percent).unwrap();
            let off = (i128::from(told) - i128::from(exact)).abs();
            prop_assert!(off * 64 <= i128::from(exact), "{exact} is told as {told}");
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[(3, 0)], 50), None);
        assert!(bucket_of(i64::MAX) < 1_920);
    }
}
