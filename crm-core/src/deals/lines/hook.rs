//! The amount of a deal follows its lines, in the commit that changes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rust_decimal::Decimal;

use super::totals::sum_of_lines;
use super::{DealLine, lines_of};
use crate::Id;
use crate::deals::Deal;
use crate::engine::{CommitHook, Purpose, StagedChange, UnitOfWork};
use crate::error::{FieldError, Result, codes};
use crate::record::Record;
use crate::schema::{Access, Entity, Row};

/// Gives lines their places, and deals the amounts that their lines come to.
///
/// The deals are read before their lines, and get a new version: whoever changes another line of
/// one meanwhile makes the commit a conflict, or finds what was committed here.
#[derive(Debug)]
pub(crate) struct LineHook;

#[async_trait]
impl CommitHook for LineHook {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let touched = touched(work.staged());
        if touched.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = touched.iter().map(|id| id.uuid()).collect();
        let mut deals = Vec::with_capacity(ids.len());
        for row in work.rows(Deal::schema(), &ids).await? {
            if let Some(deal) = live::<Deal>(Some(&row)) {
                work.touch_row(row);
                deals.push(deal.id);
            }
        }
        let lines = lines_of(work, &deals).await?;
        for own in lines.chunk_by(|one, next| one.deal_id == next.deal_id) {
            place(work, own).await?;
            follow(work, own).await?;
        }
        Ok(())
    }
}

/// The deals whose lines a commit adds, removes, prices anew, moves, or has to place.
fn touched(staged: &[StagedChange]) -> BTreeSet<Id<Deal>> {
    let mut touched = BTreeSet::new();
    for change in staged {
        if change.object() != DealLine::schema() {
            continue;
        }
        let [before, after] = [change.before(), change.after()].map(live::<DealLine>);
        let seen = |line: &Arc<Record<DealLine>>| (line.deal_id, line.position, line.line_total);
        let to_place = after.as_ref().is_some_and(|line| line.position == 0);
        if to_place || before.as_ref().map(seen) != after.as_ref().map(seen) {
            let lines = [before, after].into_iter().flatten();
            touched.extend(lines.map(|line| line.deal_id));
        }
    }
    touched
}

/// The record, if it is not deleted.
fn live<E: Entity>(row: Option<&Row>) -> Option<Arc<Record<E>>> {
    let row = row.filter(|row| !row.is_deleted())?;
    Record::from_row(row.clone())
}

/// Puts the lines of a deal that have no place behind those that have one.
async fn place(work: &mut UnitOfWork, lines: &[Arc<Record<DealLine>>]) -> Result<()> {
    let last = lines.iter().map(|line| line.position).max();
    let mut next = last.unwrap_or_default();
    for line in lines.iter().filter(|line| line.position == 0) {
        next = next.saturating_add(1);
        let set = |line: &mut DealLine| line.position = next;
        work.update_record(line.clone(), &set).await?;
    }
    Ok(())
}

/// the amount of the deal is what its lines come to, if that is more than nothing.
async fn follow(work: &mut UnitOfWork, lines: &[Arc<Record<DealLine>>]) -> Result<()> {
    let Some(deal) = lines.first().map(|line| line.deal_id) else {
        return Ok(());
    };
    let sum = sum_of_lines(lines.iter().map(|line| line.line_total)).map_err(|fault| {
        FieldError::new(Deal::AMOUNT.name(), codes::OUT_OF_RANGE, fault.to_string())
    })?;
    if sum <= Decimal::ZERO {
        return Ok(());
    }
    let set = |deal: &mut Deal| deal.amount = Some(sum);
    work.change_for(Purpose::Lines, Access::Engine, deal, None, &set)
        .await
        .map(|_| ())
}
