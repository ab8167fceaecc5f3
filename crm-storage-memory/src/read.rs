//! Queries over a [`View`].

use std::ops::ControlFlow;

use crm_core::query::{AggregateQuery, Aggregator, Condition, Group, Query};
use crm_core::schema::{ObjectRef, Row};
use crm_core::storage::StorageError;
use uuid::Uuid;

use crate::plan::{Plan, Wanted};
use crate::space::View;

impl View {
    /// The rows with these ids.
    pub(crate) fn get(&self, object: &ObjectRef, ids: &[Uuid]) -> Vec<Row> {
        let Some(table) = self.table(object) else { return Vec::new() };
        let only = self.only(object);
        let mut rows = Vec::with_capacity(ids.len());
        for id in ids {
            if only.is_none_or(|only| only == *id)
                && let Some(row) = table.row(*id)
            {
                rows.push(row.clone());
            }
        }
        rows
    }

    /// The rows that answer a query.
    pub(crate) fn select(&self, query: &Query) -> Vec<Row> {
        let Some(table) = self.table(&query.object) else { return Vec::new() };
        if query.limit == 0 {
            return Vec::new();
        }
        let plan = match self.only(&query.object) {
            Some(id) => Plan::only(id),
            None => Plan::of(
                table,
                &Wanted {
                    condition: &query.condition,
                    sort: &query.sort,
                    after: query.after.as_deref(),
                    limit: query.limit,
                },
            ),
        };
        let most = if plan.is_ordered() { query.limit } else { usize::MAX };
        let mut found: Vec<&Row> = Vec::with_capacity(most.min(64));
        plan.visit(table, &mut |row| {
            if query.is_after(&**row) && self.fulfils(&query.condition, row) {
                found.push(row);
                if found.len() >= most {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        if !plan.is_ordered() {
            let order = |a: &&Row, b: &&Row| query.order(&***a, &***b);
            if found.len() > query.limit {
                found.select_nth_unstable_by(query.limit, order);
                found.truncate(query.limit);
            }
            found.sort_unstable_by(order);
        }
        found.into_iter().cloned().collect()
    }

    /// The groups that answer a query.
    ///
    /// # Errors
    /// A sum with too many digits.
    pub(crate) fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<Group>, StorageError> {
        let mut aggregator = Aggregator::new(query);
        if let Some(table) = self.table(&query.object) {
            let wanted = Wanted {
                condition: &query.condition,
                sort: &[],
                after: None,
                limit: usize::MAX,
            };
            let plan = match self.only(&query.object) {
                Some(id) => Plan::only(id),
                None => Plan::of(table, &wanted),
            };
            plan.visit(table, &mut |row| {
                if self.fulfils(&query.condition, row) {
                    aggregator.add(&**row);
                }
                ControlFlow::Continue(())
            });
        }
        Ok(aggregator.finish()?)
    }

    fn fulfils(&self, condition: &Condition, row: &Row) -> bool {
        condition.matches(&**row, &|object, id| self.row(object, id).cloned())
    }
}
