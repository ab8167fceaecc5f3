//! [`ReadHook`]: who is told of records that are read, and before they are handed out.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Session, Workspace};
use crate::error::Result;
use crate::privacy::SensitiveObjects;
use crate::record::Record;
use crate::schema::{Entity, Lifecycle, ObjectRef};

/// Is told which records a caller reads, of the objects that the tenant names as sensitive
/// ([`Configurations::set_sensitive_objects`](crate::tenancy::Configurations::set_sensitive_objects)).
///
/// It is told before the records are handed out, once for all records of a call: whoever has a record
/// was told of, and a read that cannot be told fails. What the engine and its hooks read to decide, as
/// by [`UnitOfWork::select`](super::UnitOfWork::select), is handed to nobody and not told.
#[async_trait]
pub trait ReadHook: Debug + Send + Sync + 'static {
    /// The session reads records of an object, each in a version.
    ///
    /// # Errors
    /// Whatever makes it impossible to tell: the read then fails with it.
    async fn before_hand_out(
        &self,
        session: &Session,
        object: &ObjectRef,
        read: &[(Uuid, i64)],
    ) -> Result<()>;
}

impl Workspace<'_> {
    /// Tells that records are handed out, where the tenant wants that.
    pub(crate) async fn hand_out<E: Entity>(&self, records: &[Arc<Record<E>>]) -> Result<()> {
        if records.is_empty() || !self.tells_reads(E::schema()).await? {
            return Ok(());
        }
        let read = records.iter().map(|one| (one.id.uuid(), one.version));
        self.tell_reads(E::schema(), read.collect()).await
    }

    /// Whether reads of an object are told. Costs one look at what is remembered of the tenant.
    pub(crate) async fn tells_reads(&self, object: &ObjectRef) -> Result<bool> {
        self.session().tells_reads(object).await
    }

    /// Tells that records are read, but for those that are only staged here.
    pub(crate) async fn tell_reads(
        &self,
        object: &ObjectRef,
        mut read: Vec<(Uuid, i64)>,
    ) -> Result<()> {
        if let Workspace::Unit(work) = self {
            read.retain(|(id, _)| {
                let staged = work.place(object, *id);
                staged.is_none_or(|change| change.before().is_some())
            });
        }
        self.session().tell_reads(object, &read).await
    }
}

impl Session {
    /// Tells that a caller is handed values of records, where the tenant wants that: for crates of the
    /// engine that read in their own ways.
    ///
    /// # Errors
    /// Whatever makes it impossible to tell.
    #[doc(hidden)]
    pub async fn hand_out(&self, object: &ObjectRef, read: &[(Uuid, i64)]) -> Result<()> {
        match self.tells_reads(object).await? {
            true => self.tell_reads(object, read).await,
            false => Ok(()),
        }
    }

    pub(crate) async fn tells_reads(&self, object: &ObjectRef) -> Result<bool> {
        if self.engine().shared.read_hooks.is_empty()
            || self.tenant().is_none()
            || object.lifecycle() != Lifecycle::Full
        {
            return Ok(false);
        }
        let named = self.remembered::<SensitiveObjects>().await?;
        Ok(named.has(object.name()))
    }

    pub(crate) async fn tell_reads(&self, object: &ObjectRef, read: &[(Uuid, i64)]) -> Result<()> {
        if read.is_empty() {
            return Ok(());
        }
        for hook in &self.engine().shared.read_hooks {
            hook.before_hand_out(self, object, read).await?;
        }
        Ok(())
    }
}
