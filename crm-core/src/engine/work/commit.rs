//! The end of a unit of work: hooks, the changes as the storage gets them, and what its answers mean.

use std::collections::HashSet;

use tracing::Instrument;

use super::{Commit, StagedChange, UnitOfWork};
use crate::engine::delete::kept_references;
use crate::error::{Error, Faults, FieldError, Result};
use crate::schema::ObjectRef;
use crate::storage::{Change, ChangeSet, StorageError, check_references};

impl UnitOfWork {
    /// Runs the hooks and writes everything, or nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a record changed since it was read here: begin again. What hooks
    /// refuse; what the storage finds against uniqueness and references.
    pub async fn commit(mut self) -> Result<Commit> {
        self.finish().await
    }

    /// Runs the hooks and gives what [`commit`](Self::commit) would write, for hosts that write it
    /// in a transaction of their own: a backend may offer to join one, as
    /// `PostgresStorage::commit_in` does. Nothing is written yet.
    ///
    /// ```
    /// # use crm_core::engine::ManualClock;
    /// use crm_core::accounts::Account;
    /// # pollster::block_on(async {
    /// # let engine = crm_core::Engine::builder(crm_core::storage::conformance::NaiveStorage::default()).build();
    /// # let tenant = crm_core::Id::new(uuid::Uuid::from_u128(1));
    /// let session = engine.session(tenant, crm_core::Actor::System);
    /// let mut work = session.begin();
    /// work.records::<Account>().create(Account::new("Globex")).await?;
    /// let changes = work.prepare().await?;
    /// assert_eq!(changes.changes.len(), 1);
    /// # Ok::<(), crm_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// What hooks refuse.
    pub async fn prepare(mut self) -> Result<ChangeSet> {
        let changes = self.change_set().await?;
        let written = self.written_fields().await?;
        self.forget_written(&changes);
        self.count_written(written);
        Ok(changes)
    }

    async fn change_set(&mut self) -> Result<ChangeSet> {
        let engine = self.session.engine().clone();
        self.in_hooks = true;
        let is_erasure = self.is_erasure();
        for hook in &engine.shared.hooks {
            if !is_erasure || hook.follows_erasure() {
                hook.before_commit(self).await?;
            }
        }
        self.check_custom_references().await?;
        let unreferenced = self.unreferenced().await?;
        let staged = self.staged.clone();
        let changes: Vec<Change> = staged
            .into_iter()
            .filter_map(StagedChange::into_change)
            .collect();
        let changes = ChangeSet::new(
            self.commit.id,
            self.commit.at,
            changes,
            std::mem::take(&mut self.expects),
        );
        let objects = self.tenant_objects(&changes).await?;
        Ok(changes
            .with_unreferenced(unreferenced)
            .with_guards(std::mem::take(&mut self.guards))
            .with_taken(std::mem::take(&mut self.taken))
            .with_objects(objects))
    }

    /// The tenant's own objects that the storage must know of to check the references of a commit.
    async fn tenant_objects(&self, changes: &ChangeSet) -> Result<Vec<ObjectRef>> {
        let registry = self.registry().await?;
        if !registry.has_tenant_objects() {
            return Ok(Vec::new());
        }
        let is_removal = |change: &&Change| matches!(change, Change::Delete { .. });
        let removed: HashSet<&str> = changes
            .changes
            .iter()
            .filter(is_removal)
            .map(|change| change.object().name())
            .collect();
        let referring = removed.iter().flat_map(|name| registry.referring_to(name));
        let referring = referring.map(|(object, ..)| object);
        let targets: HashSet<String> = check_references(changes)
            .into_iter()
            .map(|(_, _, target, _)| target)
            .collect();
        let targets = targets.iter().filter_map(|name| registry.any_object(name));
        let mut objects: Vec<ObjectRef> = Vec::new();
        for object in referring.chain(targets) {
            if object.template().is_some() && !objects.contains(&object) {
                objects.push(object);
            }
        }
        Ok(objects)
    }

    pub(in crate::engine) async fn finish(&mut self) -> Result<Commit> {
        if self.staged.is_empty() {
            return Ok(self.commit);
        }
        let changes = self.change_set().await?;
        let written = self.written_fields().await?;
        let engine = self.session.engine().clone();
        // Ids and counts only: nothing here tells of a person.
        let span = tracing::debug_span!(
            "crm.commit",
            commit = %self.commit.id,
            tenant = ?self.session.tenant(),
            changes = changes.changes.len(),
        );
        let committed = engine.storage().commit(self.session.scope(), &changes);
        let committed = committed.instrument(span).await;
        match committed {
            Ok(committed) => {
                self.forget_written(&changes);
                self.count_written(written);
                tracing::debug!(commit = %self.commit.id, rows = committed.rows, "committed");
                Ok(self.commit)
            }
            Err(error) => {
                if matches!(error, StorageError::Conflict { .. }) {
                    let memory = &engine.shared.remembered;
                    memory.forget(self.session.scope(), |_| true);
                }
                Err(self.explain(error, &changes).await)
            }
        }
    }

    /// What was remembered of the objects that are written is not true any more.
    fn forget_written(&self, changes: &ChangeSet) {
        let memory = &self.session.engine().shared.remembered;
        memory.forget(self.session.scope(), |object| {
            let mut written = changes.changes.iter().map(|change| change.object().name());
            written.any(|name| name == object)
        });
    }

    /// Turns what the storage refused into what the caller can do about it.
    async fn explain(&mut self, error: StorageError, changes: &ChangeSet) -> Error {
        match error {
            StorageError::Reference { .. } => {
                // All of them, not only the first that the storage found.
                let missing = self.missing_references(changes).await;
                missing_records(missing.unwrap_or_default()).unwrap_or_else(|| error.into())
            }
            StorageError::Conflict { .. } => {
                missing_records(kept_references(changes)).unwrap_or_else(|| error.into())
            }
            StorageError::Duplicate { object, fields }
                if self
                    .contended
                    .iter()
                    .any(|(name, key)| *name == object && key.is_none_or(|key| fields == key)) =>
            {
                tracing::debug!(%object, ?fields, "somebody else was faster");
                Error::Conflict {
                    object,
                    id: self.commit.id,
                }
            }
            StorageError::Duplicate { object, fields } => {
                let engine = self.session.engine().clone();
                for hook in &engine.shared.hooks {
                    if let Some(told) = hook.explain_duplicate(self, &object, &fields).await {
                        return told;
                    }
                }
                StorageError::Duplicate { object, fields }.into()
            }
            other => other.into(),
        }
    }
}

/// The references that lead nowhere as one error, if there are any.
fn missing_records(missing: Vec<FieldError>) -> Option<Error> {
    let mut faults = Faults::default();
    missing.into_iter().for_each(|fault| faults.push(fault));
    faults.into_result().err().map(Error::from)
}
