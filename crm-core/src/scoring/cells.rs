//! Cells: what values are worth, by slot, and the line of numbers that they lie on.

use super::compiled::SLOTS;
use super::condition::Range;

/// Where points are added up: a group, and whether they fade.
pub(super) type Slot = usize;

/// What a rule asks for, with the slot of its points and the points.
pub(super) type Weighted<T> = (T, Slot, i64);

/// The points of one cell, by slot. Most cells have one slot, which is held in place.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    first: (Slot, i64),
    others: Box<[(Slot, i64)]>,
}

/// The sums of points, by slot.
pub(super) type Sums = [i64; SLOTS];

impl Cell {
    pub(super) fn of(points: impl Iterator<Item = (Slot, i64)>) -> Self {
        let mut cell: Vec<(Slot, i64)> = Vec::new();
        for (slot, points) in points {
            match cell.iter_mut().find(|(other, _)| *other == slot) {
                Some((_, sum)) => *sum += points,
                None => cell.push((slot, points)),
            }
        }
        cell.retain(|(_, sum)| *sum != 0);
        let mut cell = cell.into_iter();
        Self {
            // No points in the first slot are none.
            first: cell.next().unwrap_or_default(),
            others: cell.collect(),
        }
    }

    #[inline]
    pub(super) fn add_to(&self, sums: &mut Sums) {
        for (slot, points) in std::iter::once(&self.first).chain(&self.others) {
            if let Some(sum) = sums.get_mut(*slot) {
                *sum += points;
            }
        }
    }
}

/// Cells over numbers: one for each number that a rule names, and one for each gap between them.
#[derive(Clone, Debug)]
pub(super) struct Line<T> {
    numbers: Vec<T>,
    /// The cell of the number at `n` is at `2 n + 1`, with the gaps around it.
    cells: Vec<Cell>,
}

/// A place among the numbers of a line, as the place of its cell.
type Place = usize;

impl<T: Ord + Copy> Line<T> {
    pub(super) fn new(mut numbers: Vec<T>, cell: impl Fn(&Mark<'_, T>) -> Cell) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        let cells = (0..=2 * numbers.len())
            .map(|place| {
                cell(&Mark {
                    numbers: &numbers,
                    place,
                })
            })
            .collect();
        Self { numbers, cells }
    }

    #[inline]
    pub(super) fn at(&self, number: T) -> Option<&Cell> {
        let place = match self.numbers.binary_search(&number) {
            Ok(place) => 2 * place + 1,
            Err(place) => 2 * place,
        };
        self.cells.get(place)
    }
}

/// A cell of a line, compared with the numbers of the line.
pub(super) struct Mark<'a, T> {
    numbers: &'a [T],
    place: Place,
}

impl<T: Ord> Mark<'_, T> {
    pub(super) fn cmp(&self, number: &T) -> std::cmp::Ordering {
        // Every number that a rule names is on the line.
        match self.numbers.binary_search(number) {
            Ok(place) => self.place.cmp(&(2 * place + 1)),
            Err(place) => self.place.cmp(&(2 * place)),
        }
    }
}

/// The cells of rules over whole numbers: ages and counts.
impl Line<i64> {
    pub(super) fn of_ranges(rules: &[Weighted<&Range>]) -> Self {
        let mut numbers = Vec::new();
        for (range, ..) in rules {
            match range {
                Range::Among { numbers: among, .. } => numbers.extend(among),
                Range::Above(limit) | Range::Below(limit) => numbers.push(*limit),
                Range::Between(from, to) => numbers.extend([from, to].into_iter().flatten()),
            }
        }
        Self::new(numbers, |mark| {
            let is_met = |range: &Range| match range {
                Range::Among { numbers, negated } => {
                    numbers.iter().any(|number| mark.cmp(number).is_eq()) != *negated
                }
                Range::Above(limit) => mark.cmp(limit).is_gt(),
                Range::Below(limit) => mark.cmp(limit).is_lt(),
                Range::Between(from, to) => {
                    from.is_none_or(|from| mark.cmp(&from).is_ge())
                        && to.is_none_or(|to| mark.cmp(&to).is_le())
                }
            };
            let met = rules.iter().filter(|(range, ..)| is_met(range));
            Cell::of(met.map(|(_, slot, points)| (*slot, *points)))
        })
    }

    #[inline]
    pub(super) fn add(&self, number: i64, sums: &mut Sums) {
        if let Some(cell) = self.at(number) {
            cell.add_to(sums);
        }
    }
}
