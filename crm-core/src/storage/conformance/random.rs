//! A small random number generator, so that every run of the suite can be repeated.

/// The seed of the suite's random sequences, unless `CRM_SEED` names another.
const SEED: u64 = 0x5EED_0001;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed that this run uses.
    pub(super) fn seed() -> u64 {
        std::env::var("CRM_SEED")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(SEED)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero where that is zero.
    pub(super) const fn below(&mut self, bound: usize) -> usize {
        match (self.next() % u64::MAX).checked_rem(bound as u64) {
            Some(rest) => rest as usize,
            None => 0,
        }
    }

    /// True once in `times`.
    pub(super) const fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `items`.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Puts `items` in another order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            let other = self.below(index + 1);
            items.swap(index, other);
        }
    }
}
