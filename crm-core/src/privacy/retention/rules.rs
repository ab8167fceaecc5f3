//! What is checked when policies and holds are written: that they fit the schema.

use async_trait::async_trait;

use super::plan::{bind, bind_hold, keep_out_of_runs};
use super::{LegalHold, RetentionPolicy};
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::Result;

/// a policy names an object, a date of it, and fields that there are.
#[derive(Debug)]
pub(crate) struct PolicyRules;

#[async_trait]
impl WriteRule for PolicyRules {
    fn object(&self) -> &'static str {
        "retention_policy"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(policy) = write.after::<RetentionPolicy>() else {
            return Ok(());
        };
        // One that is no longer followed may name what is no more.
        if write.deletes() || !policy.is_active && !write.is_new() {
            return Ok(());
        }
        let registry = &*work.registry().await?;
        if let Err(faults) = bind(policy, registry, work.now()) {
            for fault in faults {
                write.faults().push(fault);
            }
        }
        Ok(())
    }
}

/// A hold names an object, and its criteria look at records themselves.
#[derive(Debug)]
pub(crate) struct HoldRules;

#[async_trait]
impl WriteRule for HoldRules {
    fn object(&self) -> &'static str {
        "legal_hold"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(hold) = write.after::<LegalHold>() else {
            return Ok(());
        };
        if write.deletes() || !hold.is_active && !write.is_new() {
            return Ok(());
        }
        let registry = &*work.registry().await?;
        let is_active = hold.is_active;
        if let Err(fault) = bind_hold(hold, registry) {
            write.faults().push(fault);
        }
        match is_active {
            true => keep_out_of_runs(work).await,
            false => Ok(()),
        }
    }
}
