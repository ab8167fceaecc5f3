//! Trees of records have no cycles: accounts, teams, managers, territories.

use super::{Hierarchical, parent_index};
use crate::Id;
use crate::engine::UnitOfWork;
use crate::error::{Result, RuleViolation};
use crate::query::{Tree, TreePart};

/// The most levels a tree may have.
const MAX_DEPTH: usize = 100;

/// Makes sure that `parent` may become the parent of `id`: going up from it never comes to `id`.
///
/// Every record on the way is relied on. Of two changes at the same time that together would close
/// a cycle, the second therefore is a conflict, runs again and sees the cycle.
///
/// # Errors
/// [`RuleViolation`] `cycle` or `too_deep`.
pub(crate) async fn ensure_no_cycle<E: Hierarchical>(
    work: &mut UnitOfWork,
    id: Id<E>,
    parent: Id<E>,
    rule: &'static str,
) -> Result<()> {
    let index = parent_index::<E>()?;
    let path = Tree {
        object: E::schema().clone(),
        parent: index,
        part: TreePart::PathTo,
        of: parent.uuid(),
    };
    let rows = work.path_rows(&path).await?;
    let mut next = Some(parent.uuid());
    for _ in 0..MAX_DEPTH {
        let Some(current) = next else { return Ok(()) };
        if current == id.uuid() {
            let object = E::schema().label().to_lowercase();
            return Err(RuleViolation::new(
                "cycle",
                rule,
                format!("this {object} would be above and below itself; choose another parent"),
            )
            .into());
        }
        // A parent that is not there is told by the reference check.
        let Some(row) = rows.get(&current) else {
            return Ok(());
        };
        work.rely_on_row(row.clone());
        next = row.value(index).as_uuid();
    }
    Err(RuleViolation::new(
        "too_deep",
        rule,
        format!("a tree has at most {MAX_DEPTH} levels"),
    )
    .into())
}
