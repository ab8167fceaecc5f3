//! A converted lead stays as it is.

use async_trait::async_trait;

use crate::engine::{BY_DELETION, UnitOfWork, Write, WriteRule};
use crate::error::{Result, RuleViolation, codes};
use crate::leads::Lead;
use crate::merging::BY_MERGE;
use crate::schema::{AnyRecord, Entity};

/// a converted lead is read-only, whichever way it is written. The engine still keeps its own
/// fields, empties references to what is deleted, leads them on where a record is merged, and
/// undoes the conversion.
#[derive(Debug)]
pub(crate) struct ConvertedLeadRule;

#[async_trait]
impl WriteRule for ConvertedLeadRule {
    fn object(&self) -> &'static str {
        "lead"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let (Some(before), Some(after)) = (write.before::<Lead>(), write.after::<Lead>()) else {
            return Ok(());
        };
        // No caller writes the conversion: who takes it away undoes it.
        if before.conversion.is_none() || after.conversion.is_none() {
            return Ok(());
        }
        let note = work.note(after.id.uuid());
        if write.deletes() && note == Some(BY_MERGE) {
            let message = "a converted lead is not merged into another; undo the conversion first";
            return Err(RuleViolation::new("converted", "R-034", message).into());
        }
        let follows = matches!(note, Some(BY_DELETION | BY_MERGE));
        let changed = AnyRecord::differing(after, before);
        for index in changed.iter() {
            let Some(field) = Lead::schema().fields().get(index) else {
                continue;
            };
            let is_engines = field.system || field.read_only;
            if is_engines || (follows && field.reference().is_some()) {
                continue;
            }
            let message =
                "the lead is converted and stays as it is; undo the conversion to change it";
            write.faults().add(&*field.name, codes::READ_ONLY, message);
        }
        Ok(())
    }
}
