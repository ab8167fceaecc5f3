//! Reads of sensitive objects in the trail: one event for each record that is handed out.

use async_trait::async_trait;
use crm_core::Session;
use crm_core::engine::ReadHook;
use crm_core::error::Result;
use crm_core::schema::ObjectRef;
use uuid::Uuid;

use crate::event::{AuditCategory, AuditKind};
use crate::recorder::{Recorder, event};

/// Records who read which record, when and from where, and no values. All records of a call are one
/// commit, made before they are handed out.
#[async_trait]
impl ReadHook for Recorder {
    async fn before_hand_out(
        &self,
        session: &Session,
        object: &ObjectRef,
        read: &[(Uuid, i64)],
    ) -> Result<()> {
        let mut work = session.begin();
        for (id, version) in read {
            let mut event = event(&work, object, *id, AuditKind::Read, *version);
            event.category = AuditCategory::DataAccess;
            work.append_entry(event)?;
        }
        work.commit().await?;
        Ok(())
    }
}
