//! Queries over a [`View`].

use std::ops::ControlFlow;

use crm_core::query::{AggregateQuery, Aggregator, Condition, FieldAt, Group, Query};
use crm_core::schema::{ObjectRef, Row, system};
use crm_core::storage::{FeedPage, FeedPosition, FeedQuery, StorageError, scan_feed};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::index::same;
use crate::plan::{Plan, Wanted};
use crate::space::View;
use crate::table::{State, Table};
use crate::trees::Trees;

/// The row with the description that was asked with: a tenant may say something else of its own
/// objects than when the row was written, even another name.
fn described(object: &ObjectRef, row: &Row) -> Row {
    if object.template().is_none() || same(row.object(), object) {
        return row.clone();
    }
    let sealed = row.sealed().map(<[u8]>::to_vec);
    let built = object.build_sealed(row.meta(), row.values(), sealed);
    built.unwrap_or_else(|_| row.clone())
}

impl View<'_> {
    /// The rows with these ids.
    pub(crate) fn get(&self, object: &ObjectRef, ids: &[Uuid]) -> Vec<Row> {
        let Some(table) = self.table(object) else {
            return Vec::new();
        };
        let only = self.only(object);
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            if only.is_none_or(|only| only == *id)
                && let Some(row) = table.row(*id)
            {
                rows.push(described(object, row));
            }
        }
        rows
    }

    /// The rows that answer a query.
    ///
    /// # Errors
    /// A snapshot that is none, or of an object without a feed.
    pub(crate) fn find(&self, query: &Query) -> Result<Vec<Row>, StorageError> {
        let end = match query.snapshot()? {
            Some(snapshot) => Some(snapshot.end()?),
            None => None,
        };
        Ok(self.select_until(query, end))
    }

    /// The rows that answer a query without a snapshot.
    pub(crate) fn select(&self, query: &Query) -> Vec<Row> {
        self.select_until(query, None)
    }

    fn select_until(&self, query: &Query, end: Option<FeedPosition>) -> Vec<Row> {
        let Some(table) = self.table(&query.object) else {
            return Vec::new();
        };
        let was_there = |row: &Row| {
            end.is_none_or(|end| {
                let commit = table.feed().and_then(|feed| feed.commit_of(row.id()));
                commit.is_some_and(|commit| commit < end.commit())
            })
        };
        if query.limit == 0 {
            return Vec::new();
        }
        let mut trees = Trees::of(*self, &query.condition);
        self.gather(
            table,
            &mut trees,
            &query.object,
            &query.condition,
            query.limit,
        );
        let wanted = Wanted {
            condition: &query.condition,
            trees: &trees,
            sort: &query.sort,
            after: query.after.as_deref(),
            limit: query.limit,
        };
        let plan = self.plan(table, &query.object, &wanted);
        let test = Test::of(*self, &wanted, &plan);
        let is_found = |row: &Row, state: State| {
            (plan.is_behind() || query.is_after(&**row))
                && test.passes(row, state)
                && was_there(row)
        };
        if plan.is_ordered() {
            let mut found: Vec<Row> = Vec::with_capacity(query.limit.min(64));
            plan.visit(table, &mut |row, state| {
                if is_found(row, state) {
                    found.push(described(&query.object, row));
                    if found.len() == query.limit {
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            });
            return found;
        }
        let mut found: Vec<&Row> = Vec::new();
        plan.visit(table, &mut |row, state| {
            if is_found(row, state) {
                found.push(row);
            }
            ControlFlow::Continue(())
        });
        let order = |a: &&Row, b: &&Row| query.order(&***a, &***b);
        if found.len() > query.limit {
            found.select_nth_unstable_by(query.limit, order);
            found.truncate(query.limit);
        }
        found.sort_unstable_by(order);
        let rows = found.into_iter();
        rows.map(|row| described(&query.object, row)).collect()
    }

    /// The groups that answer a query.
    ///
    /// # Errors
    /// A sum with too many digits.
    pub(crate) fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<Group>, StorageError> {
        let mut aggregator = Aggregator::new(query);
        if let Some(table) = self.table(&query.object) {
            let mut trees = Trees::of(*self, &query.condition);
            self.gather(
                table,
                &mut trees,
                &query.object,
                &query.condition,
                usize::MAX,
            );
            let wanted = Wanted {
                condition: &query.condition,
                trees: &trees,
                sort: &[],
                after: None,
                limit: usize::MAX,
            };
            let plan = self.plan(table, &query.object, &wanted);
            let test = Test::of(*self, &wanted, &plan);
            plan.visit(table, &mut |row, state| {
                if test.passes(row, state) {
                    aggregator.add(&**row);
                }
                ControlFlow::Continue(())
            });
        }
        Ok(aggregator.finish()?)
    }

    /// The entries that answer a query to a feed.
    ///
    /// # Errors
    /// An object that is not fed; a position behind the end.
    pub(crate) fn feed(&self, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        let feed = self.table(&query.object).and_then(Table::feed);
        let end = FeedPosition::before(self.next_commit());
        let after = query.after.unwrap_or_default();
        let entries = feed.into_iter().flat_map(|feed| feed.behind(after));
        scan_feed(query, entries, end, self)
    }

    /// Turns conditions over rows that lead here into sets of ids, where that takes fewer looks
    /// than asking for each row.
    fn gather<'q>(
        &self,
        table: &Table,
        trees: &mut Trees<'q>,
        object: &ObjectRef,
        condition: &'q Condition,
        limit: usize,
    ) {
        if self.only(object).is_some() || !asks_what_leads_here(condition) {
            return;
        }
        // How many rows would be asked: the candidates, or about as many as fill a page.
        let wanted = Wanted {
            condition,
            trees,
            sort: &[],
            after: None,
            limit: usize::MAX,
        };
        let page = limit.saturating_mul(table.rows().len()).isqrt();
        let mut most = 0;
        Plan::of(table, &wanted).visit(table, &mut |_, _| {
            most += 1;
            if most < page {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        trees.add_leading(*self, condition, most);
    }

    /// Shows the rows among which those are that fulfil a condition, each with whether it does.
    pub(crate) fn candidates(
        &self,
        object: &ObjectRef,
        condition: &Condition,
        visit: &mut impl FnMut(&Row, bool) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(table) = self.table(object) else {
            return ControlFlow::Continue(());
        };
        let trees = Trees::of(*self, condition);
        let wanted = Wanted {
            condition,
            trees: &trees,
            sort: &[],
            after: None,
            limit: usize::MAX,
        };
        let plan = self.plan(table, object, &wanted);
        let test = Test::of(*self, &wanted, &plan);
        let mut end = ControlFlow::Continue(());
        plan.visit(table, &mut |row, state| {
            end = visit(row, test.passes(row, state));
            end
        });
        end
    }

    fn plan<'q>(&self, table: &Table, object: &ObjectRef, wanted: &Wanted<'q>) -> Plan<'q> {
        match self.only(object) {
            Some(id) => Plan::only(id),
            None => Plan::of(table, wanted),
        }
    }
}

/// Whether all rows of an answer must have rows that lead to them.
fn asks_what_leads_here(condition: &Condition) -> bool {
    match condition {
        Condition::And(all) => all.iter().any(asks_what_leads_here),
        Condition::Any { .. } => true,
        _ => false,
    }
}

/// What is left to ask of a candidate: the parts of a condition that the plan has not answered.
struct Test<'q> {
    view: View<'q>,
    not_deleted: bool,
    not_archived: bool,
    others: SmallVec<[&'q Condition; 8]>,
}

impl<'q> Test<'q> {
    fn of(view: View<'q>, wanted: &Wanted<'q>, plan: &Plan<'q>) -> Self {
        let mut test = Self {
            view,
            not_deleted: false,
            not_archived: false,
            others: SmallVec::new(),
        };
        test.add(wanted.condition, wanted.trees, plan);
        test
    }

    fn add(&mut self, condition: &'q Condition, trees: &Trees<'q>, plan: &Plan<'q>) {
        match condition {
            Condition::And(all) => {
                for one in all {
                    self.add(one, trees, plan);
                }
            }
            Condition::Null {
                field:
                    FieldAt {
                        index,
                        member: None,
                        ..
                    },
                is_null: true,
            } if *index == system::DELETED_AT => {
                self.not_deleted = true;
            }
            Condition::Null {
                field:
                    FieldAt {
                        index,
                        member: None,
                        ..
                    },
                is_null: true,
            } if *index == system::ARCHIVED_AT => {
                self.not_archived = true;
            }
            one if plan.implies(trees.set_of(one).unwrap_or(one)) => {}
            one => self.others.push(one),
        }
    }

    fn passes(&self, row: &Row, state: State) -> bool {
        let is_in_sight =
            !(self.not_deleted && state.is_deleted || self.not_archived && state.is_archived);
        is_in_sight
            && self
                .others
                .iter()
                .all(|condition| condition.matches(&**row, &self.view))
    }
}
