//! Scanning the stored records of an object for duplicates, in bounded memory.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::block::{BLOCK_LIMIT, CutBlock, Member, Walk};
use super::compare::Explanation;
use super::entity::{ActiveRule, DuplicateRule, KeyState};
use super::keys::{self, PAGE, live_rows};
use super::service::Duplicates;
use crate::engine::Progress;
use crate::error::{Error, Result};
use crate::schema::Entity;
use crate::{EntityRef, Id};

/// Two stored records that match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DuplicatePair {
    /// The one with the lesser id, which is the older one.
    pub first: EntityRef,
    /// The other.
    pub second: EntityRef,
    /// The first rule that says so.
    pub rule: Id<DuplicateRule>,
    /// Why.
    pub explanation: Explanation,
}

/// What a scan did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DuplicateScan {
    /// How many keys were walked.
    pub keys: u64,
    /// How many pairs were compared.
    pub compared: u64,
    /// How many pairs match.
    pub pairs: u64,
    /// The blocks that were too large to compare each record with each other, those of earlier
    /// parts of the scan included.
    pub cut: Vec<CutBlock>,
    /// The rules whose keys are still being built: their duplicates are not all found.
    pub building: Vec<Id<DuplicateRule>>,
    /// Where to go on, if it was stopped before the end.
    pub next: Option<ScanCursor>,
}

/// Where a scan goes on. It holds no personal data and carries no authority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanCursor {
    rule: Id<DuplicateRule>,
    key: Option<Uuid>,
    cut: Vec<CutBlock>,
}

impl Duplicates<'_> {
    /// Finds the pairs of duplicates among the stored records of an object, each once, and hands
    /// each to `found`.
    ///
    /// The keys of each rule are walked in their order, a page at a time; of a block that has more
    /// than [`BLOCK_LIMIT`] records, the first so many are compared with all others, which
    /// [`DuplicateScan::cut`] tells. So the memory is bounded by that limit and by the number of such
    /// blocks. Progress counts keys. After a [`ControlFlow::Break`], of the progress or of `found`,
    /// the pairs of the block that is walked are still handed over, and the scan can go on from
    /// [`DuplicateScan::next`] later without a pair twice.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let mut pairs = Vec::new();
    /// let scan = session
    ///     .duplicates()
    ///     .scan("contact", None, &(), &mut |pair| {
    ///         pairs.push((pair.first, pair.second));
    ///         ControlFlow::Continue(())
    ///     })
    ///     .await?;
    /// assert_eq!(scan.pairs, pairs.len() as u64);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject); [`Error::NotFound`] if
    /// the rule that the cursor stands in is not applied any more.
    pub async fn scan(
        &self,
        object: &str,
        from: Option<ScanCursor>,
        progress: &dyn Progress,
        found: &mut (dyn FnMut(DuplicatePair) -> ControlFlow<()> + Send),
    ) -> Result<DuplicateScan> {
        let object = self.session.describe(object).await?;
        let all = self.rules().await?;
        let rules: Vec<&ActiveRule> = all.of(object.name());
        let (mut place, mut behind, cut) = match from {
            Some(cursor) => {
                let place = rules.iter().position(|rule| rule.id() == cursor.rule);
                let place = place.ok_or_else(|| Error::NotFound {
                    object: DuplicateRule::schema().name().to_owned(),
                    id: cursor.rule.uuid(),
                })?;
                (place, cursor.key, cursor.cut)
            }
            None => (0, None, Vec::new()),
        };
        let mut scan = DuplicateScan::default();
        let mut total = 0;
        for rule in &rules {
            total += keys::count(self.session, rule.id().uuid()).await?;
            if rule.record.state == KeyState::Building {
                scan.building.push(rule.id());
            }
        }
        let mut walk: Walk<Arc<Member>> = Walk::new(BLOCK_LIMIT, cut);
        let mut is_stopping = false;
        'rules: while let Some(rule) = rules.get(place) {
            let mut after = None;
            let mut block: Option<Uuid> = None;
            loop {
                let rows =
                    keys::page(self.session, rule.id().uuid(), behind, after.as_deref()).await?;
                let mut ids: Vec<Uuid> = rows.iter().map(|row| row.record_id).collect();
                ids.sort_unstable();
                ids.dedup();
                let records = live_rows(self.session, &object, ids).await?;
                let seen = rules.iter().take(place + 1).map(|rule| &rule.compiled);
                let members: HashMap<Uuid, Arc<Member>> = records
                    .iter()
                    .map(|(id, row)| (*id, Arc::new(Member::new(*id, &**row, seen.clone()))))
                    .collect();
                for row in &rows {
                    if is_stopping && block != Some(row.key) {
                        // The block before is done.
                        walk.finish(&rules);
                        scan.next = Some(ScanCursor {
                            rule: rule.id(),
                            key: block.or(behind),
                            cut: walk.cut.values().copied().collect(),
                        });
                        break 'rules;
                    }
                    block = Some(row.key);
                    scan.keys += 1;
                    // A record whose key changed since the page was read has no place here.
                    let member = members.get(&row.record_id);
                    let Some(member) =
                        member.filter(|member| member.keys(place).contains(&row.key))
                    else {
                        continue;
                    };
                    let pairs = &mut scan.pairs;
                    let _ = walk.feed(&rules, place, row.key, member.clone(), |a, b, why| {
                        *pairs += 1;
                        let heard = found(DuplicatePair {
                            first: EntityRef::new(object.name(), a.id()),
                            second: EntityRef::new(object.name(), b.id()),
                            rule: rule.id(),
                            explanation: why,
                        });
                        is_stopping |= heard.is_break();
                        ControlFlow::Continue(())
                    });
                }
                is_stopping |= progress.report(scan.keys, Some(total)).is_break();
                let is_last = rows.len() < PAGE;
                after = rows.last().cloned();
                if is_last {
                    break;
                }
            }
            walk.finish(&rules);
            place += 1;
            behind = None;
            if is_stopping && let Some(next) = rules.get(place) {
                scan.next = Some(ScanCursor {
                    rule: next.id(),
                    key: None,
                    cut: walk.cut.values().copied().collect(),
                });
                break;
            }
        }
        scan.compared = walk.compared;
        scan.cut = walk.cut.into_values().collect();
        Ok(scan)
    }
}
