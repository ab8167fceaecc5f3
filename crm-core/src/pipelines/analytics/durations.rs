//! [`Durations`]: the average and the median of lengths of time, in bounded memory.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

/// How many different lengths are kept apart.
const MOST: usize = 65_536;

/// Lengths of time in whole seconds: how many, their average and their median.
///
/// The average is exact. The median is exact for up to 65,536 different lengths; with more of them
/// lengths are counted in classes of two, four, eight.. seconds, whichever is needed to keep as few.
///
/// ```
/// use crm_core::pipelines::analytics::Durations;
///
/// let mut times = Durations::default();
/// [60, 120, 600].into_iter().for_each(|seconds| times.add(seconds));
/// assert_eq!(times.count(), 3);
/// assert_eq!(times.average(), Some(260));
/// assert_eq!(times.median(), Some(120));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    count: u64,
    sum: i128,
    /// By the exponent of their width: a length of `n` seconds is in class `n >> shift`.
    classes: BTreeMap<i64, u64>,
    shift: u32,
}

impl Durations {
    /// Adds a length in seconds; a negative one, as clocks that differ may give, counts as none.
    pub fn add(&mut self, seconds: i64) {
        let seconds = seconds.max(0);
        self.count += 1;
        self.sum += i128::from(seconds);
        *self.classes.entry(seconds >> self.shift).or_default() += 1;
        while self.classes.len() > MOST {
            self.shift += 1;
            let mut wider = BTreeMap::new();
            for (class, count) in std::mem::take(&mut self.classes) {
                *wider.entry(class >> 1).or_default() += count;
            }
            self.classes = wider;
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The sum in seconds.
    pub(crate) const fn sum(&self) -> i128 {
        self.sum
    }

    /// The average in seconds, rounded down; none of no lengths.
    #[must_use]
    pub fn average(&self) -> Option<i64> {
        let average = self.sum.checked_div(i128::from(self.count))?;
        i64::try_from(average).ok()
    }

    /// The average in days, to four decimals half to even; none of no lengths.
    ///
    /// ```
    /// use crm_core::pipelines::analytics::Durations;
    ///
    /// let mut times = Durations::default();
    /// times.add(36 * 3_600);
    /// assert_eq!(times.average_days().unwrap().to_string(), "1.5000");
    /// ```
    #[must_use]
    pub fn average_days(&self) -> Option<Decimal> {
        let sum = Decimal::try_from_i128_with_scale(self.sum, 0).ok()?;
        let days = sum.checked_div(Decimal::from(86_400_u32).checked_mul(self.count.into())?)?;
        let mut days = days.round_dp(4);
        days.rescale(4);
        Some(days)
    }

    /// The median in seconds: the length in the middle, of an even number the average of the two,
    /// rounded down; none of no lengths.
    #[must_use]
    pub fn median(&self) -> Option<i64> {
        let last = self.count.checked_sub(1)?;
        let (low, high) = (self.at(last / 2)?, self.at(last.div_ceil(2))?);
        Some(low + (high - low) / 2)
    }

    /// The length at a place in their order.
    fn at(&self, place: u64) -> Option<i64> {
        let mut before = 0;
        self.classes.iter().find_map(|(class, count)| {
            before += count;
            (before > place).then_some(*class << self.shift)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn average_and_median_are_those_of_the_sorted_lengths(
            mut lengths in prop::collection::vec(0..1_000_000_i64, 1..60)
        ) {
            let mut times = Durations::default();
            lengths.iter().for_each(|length| times.add(*length));
            lengths.sort_unstable();
            let middle = lengths.len() / 2;
            let median = if lengths.len() % 2 == 1 {
                lengths[middle]
            } else {
                i64::midpoint(lengths[middle - 1], lengths[middle])
            };
            prop_assert_eq!(times.median(), Some(median));
            let sum: i64 = lengths.iter().sum();
            prop_assert_eq!(times.average(), Some(sum / lengths.len() as i64));
        }
    }

    #[test]
    fn memory_is_bounded_and_the_median_stays_close() {
        let mut times = Durations::default();
        let most = 4 * MOST as i64;
        (0..most).for_each(|length| times.add(length));
        assert!(times.classes.len() <= MOST);
        let median = times.median().unwrap();
        assert!((median - most / 2).abs() <= 8);
        assert_eq!(times.average(), Some((most - 1) / 2));
        assert_eq!(Durations::default().median(), None);
        assert_eq!(Durations::default().average_days(), None);
    }
}
