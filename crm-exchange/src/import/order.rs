//! [`Order`]: in which order the rows of a file land.
//!
//! Rows land as they stand in the file, except that a row which names a record that a later row
//! makes, as an account may stand before its parent, waits for that row. Such rows land in further
//! passes over the file: the order depends on nothing but the file and the mapping, so a job that is
//! resumed finds its place again by the number of rows that are done.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crm_core::schema::Value;

use super::plan::Plan;
use super::read::{ReadError, ReadOptions, Table, TableRow};
use super::seen::fingerprint;
use super::source::Source;

/// The most passes over a file: as deep rows may name rows further down one after the other.
const MOST_PASSES: u32 = 100;

/// In which pass over the file each row lands.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// How many rows there are.
    pub(crate) total: u64,
    /// The rows that do not land in the first pass.
    later: HashMap<u64, u32>,
    last_pass: u32,
}

impl Order {
    /// Reads the file once. Where rows may name each other, that takes some hundred bytes for a row.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn of(source: &Source, read: &ReadOptions, plan: &Plan) -> Result<Self, ReadError> {
        let mut table = Table::open(source, read)?;
        let mut order = Self::default();
        let mut names = Names::default();
        let among_themselves = plan.names_own_records();
        while let Some(row) = table.next_row()? {
            order.total += 1;
            if among_themselves {
                names.add(plan, row);
            }
        }
        order.later = passes(&names.edges());
        order.last_pass = order.later.values().copied().max().unwrap_or_default();
        Ok(order)
    }

    fn pass_of(&self, row: u64) -> u32 {
        self.later.get(&row).copied().unwrap_or_default()
    }
}

/// The names of records in the rows of a file.
#[derive(Default)]
struct Names {
    /// The first row that makes the record of a name.
    made: HashMap<u128, u64>,
    /// Which rows name which records, in the order of the file.
    named: Vec<(u64, u128)>,
}

impl Names {
    fn add(&mut self, plan: &Plan, row: TableRow) {
        let number = row.number;
        let row = plan.parse(row);
        let draft = plan.draft(None, &row.values);
        let own = |(place, reference): (usize, &super::plan::Reference)| {
            let name = reference.text_of(&draft);
            (!name.is_empty()).then(|| key(place, name))
        };
        for made in plan.own_references().filter_map(own) {
            self.made.entry(made).or_insert(number);
        }
        for (place, text) in row.references {
            let reference = plan.own_references().find(|(own, _)| *own == place);
            if let Some((_, reference)) = reference {
                self.named
                    .push((number, key(place, reference.folded(&text))));
            }
        }
    }

    /// The rows that name records of other rows, each with that row; nothing if none of these stands
    /// further down.
    fn edges(self) -> Vec<(u64, u64)> {
        let Self { made, named } = self;
        let edge = |(row, name): (u64, u128)| {
            let other = made.get(&name).copied()?;
            (other != row).then_some((row, other))
        };
        let edges: Vec<_> = named.into_iter().filter_map(edge).collect();
        if edges.iter().any(|(row, other)| other > row) {
            edges
        } else {
            Vec::new()
        }
    }
}

fn key(place: usize, name: String) -> u128 {
    fingerprint(&place.to_string(), &[Value::Text(name)])
}

/// In which pass each row lands, unless in the first: after all the rows that it needs. `edges` are
/// rows with a row that each needs. Rows that need each other do not wait: they are refused.
fn passes(edges: &[(u64, u64)]) -> HashMap<u64, u32> {
    let mut needs: HashMap<u64, usize> = HashMap::new();
    let mut needed_by: HashMap<u64, Vec<u64>> = HashMap::new();
    for (row, other) in edges {
        *needs.entry(*row).or_default() += 1;
        needs.entry(*other).or_default();
        needed_by.entry(*other).or_default().push(*row);
    }
    let free = needs.iter().filter(|(_, count)| **count == 0);
    let mut open: Vec<u64> = free.map(|(row, _)| *row).collect();
    let mut passes: HashMap<u64, u32> = HashMap::new();
    while let Some(done) = open.pop() {
        let pass = passes.get(&done).copied().unwrap_or_default();
        for row in needed_by.remove(&done).unwrap_or_default() {
            // Behind a row of the same pass, or in the next.
            let least = (pass + u32::from(done > row)).min(MOST_PASSES - 1);
            match passes.entry(row) {
                Entry::Occupied(mut known) => {
                    let pass = least.max(*known.get());
                    known.insert(pass);
                }
                Entry::Vacant(slot) => {
                    slot.insert(least);
                }
            }
            if let Some(count) = needs.get_mut(&row) {
                *count -= 1;
                if *count == 0 {
                    open.push(row);
                }
            }
        }
    }
    passes.retain(|_, pass| *pass > 0);
    passes
}

/// The rows of a file in the order in which they land.
pub(crate) struct Feed<'a> {
    source: &'a Source,
    read: &'a ReadOptions,
    order: Order,
    pass: u32,
    table: Table,
    /// The first rows, which were read before.
    ahead: std::vec::IntoIter<TableRow>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(
        source: &'a Source,
        read: &'a ReadOptions,
        order: Order,
        table: Table,
        ahead: Vec<TableRow>,
    ) -> Self {
        Self {
            source,
            read,
            order,
            pass: 0,
            table,
            ahead: ahead.into_iter(),
        }
    }

    /// How many rows there are.
    pub(crate) const fn total(&self) -> u64 {
        self.order.total
    }

    /// The next row.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<TableRow>, ReadError> {
        loop {
            let row = match self.ahead.next() {
                Some(row) => Some(row),
                None => self.table.next_row()?,
            };
            match row {
                Some(row) if self.order.pass_of(row.number) == self.pass => return Ok(Some(row)),
                Some(_) => {}
                None if self.pass < self.order.last_pass => {
                    self.pass += 1;
                    self.table = Table::open(self.source, self.read)?;
                }
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_wait_for_the_rows_they_name() {
        let of = |edges: &[(u64, u64)]| {
            let mut passes: Vec<_> = passes(edges).into_iter().collect();
            passes.sort_unstable();
            passes
        };
        assert_eq!(of(&[(2, 1), (3, 2)]), [], "parents first");
        // 1 needs 2, 2 needs 3; 4 needs 1 and stands behind it.
        assert_eq!(of(&[(1, 2), (2, 3), (4, 1)]), [(1, 2), (2, 1), (4, 2)]);
        // 1 and 2 need each other; 3 does not wait for them in vain.
        assert_eq!(of(&[(1, 2), (2, 1), (3, 4)]), [(3, 1)]);
    }

    proptest! {
        /// Whatever the tree and the order of its rows: each row lands behind the one that it needs.
        #[test]
        fn every_row_lands_behind_the_one_it_needs(
            parents in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
            turn in any::<u64>(),
        ) {
            // Row `place` of the tree hangs on an earlier one; the rows are shuffled by a bijection.
            let count = parents.len() as u64 + 1;
            let step = (0..count).map(|n| 2 * n + 1).find(|n| gcd(*n, count) == 1).unwrap();
            let shuffled = |place: u64| (place * step + turn % count) % count + 1;
            let edges: Vec<(u64, u64)> = parents
                .iter()
                .enumerate()
                .map(|(place, parent)| {
                    let parent = parent.index(place + 1) as u64;
                    (shuffled(place as u64 + 1), shuffled(parent))
                })
                .collect();
            let passes = passes(&edges);
            let place = |row: u64| (passes.get(&row).copied().unwrap_or_default(), row);
            for (row, needed) in &edges {
                prop_assert!(place(*needed) < place(*row));
            }
        }
    }

    fn gcd(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
}
