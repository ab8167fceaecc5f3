//! [`Remembered`]: what rules look up for every write and which seldom changes, such as the
//! tenant's duplicate rules, without a round trip each time.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::tenant_schema::SCHEMA_VERSION;
use super::{Session, UnitOfWork};
use crate::error::Result;
use crate::storage::Scope;

/// For how long what was loaded is taken for true, in seconds, by the engine's clock: so late may
/// another process see a change. The process that made it sees it at once.
const SECONDS: i64 = 5;

/// Settings of one tenant, ready to use, that are kept for a few seconds.
///
/// A rule that must not miss a change made by another process relies on the records it decided by
/// ([`UnitOfWork::rely_on`]): a change then is a conflict, which drops what was remembered, and the
/// call runs again.
#[async_trait]
pub(crate) trait Remembered: Send + Sync + Sized + 'static {
    /// The objects that it is made of.
    const OBJECTS: &'static [&'static str];

    /// Reads it.
    async fn load(work: &UnitOfWork) -> Result<Self>;
}

/// What an engine remembers.
#[derive(Default)]
pub(super) struct Memory {
    tenants: Mutex<HashMap<Scope, Tenant>>,
}

#[derive(Default)]
struct Tenant {
    /// Rises with every change, so that what was loaded before it is not kept.
    generation: u64,
    known: HashMap<TypeId, Known>,
}

struct Known {
    at: DateTime<Utc>,
    objects: &'static [&'static str],
    value: Arc<dyn Any + Send + Sync>,
}

impl Memory {
    fn with<T>(&self, scope: &Scope, run: impl FnOnce(&mut Tenant) -> T) -> T {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        run(tenants.entry(*scope).or_default())
    }

    /// Forgets what is made of objects that a commit wrote, or all after a conflict. All settings
    /// may name the tenant's own fields.
    pub(super) fn forget(&self, scope: &Scope, wrote: impl Fn(&str) -> bool) {
        let wrote = |object: &str| wrote(object) || wrote(SCHEMA_VERSION);
        self.with(scope, |tenant| {
            tenant.generation += 1;
            if tenant.known.is_empty() {
                return;
            }
            let keeps = |known: &Known| !known.objects.iter().any(|object| wrote(object));
            tenant.known.retain(|_, known| keeps(known));
        });
    }
}

/// Settings by their type, each with the number of changes that it was loaded after.
type OwnKnown = HashMap<TypeId, (u64, Arc<dyn Any + Send + Sync>)>;

/// What one unit of work knows of settings that it changes itself: loaded anew only after it staged
/// another change of them, however many records it writes meanwhile.
#[derive(Default)]
pub(super) struct Own {
    /// How often rows of an object were staged or taken back.
    changes: HashMap<String, u64>,
    known: Mutex<OwnKnown>,
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Own");
        shown
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

impl Own {
    /// Says that a row of an object is staged or taken back.
    pub(super) fn changes(&mut self, object: &str) {
        match self.changes.get_mut(object) {
            Some(count) => *count += 1,
            None => {
                self.changes.insert(object.to_owned(), 1);
            }
        }
    }

    /// How often rows of these objects were staged or taken back.
    fn count(&self, objects: &[&str]) -> u64 {
        let own = objects.iter().filter(|name| **name != SCHEMA_VERSION);
        let counts = own.chain([&SCHEMA_VERSION]);
        counts.filter_map(|name| self.changes.get(*name)).sum()
    }

    fn known(&self) -> MutexGuard<'_, OwnKnown> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Forgets what the engine remembers of the tenant's settings, such as its duplicate rules: for
    /// whoever wrote rows past the engine, straight into the storage. Other processes of the host
    /// see such rows within five seconds.
    pub fn forget_settings(&self) {
        let memory = &self.engine().shared.remembered;
        memory.forget(self.scope(), |_| true);
    }
}

impl Session {
    /// The tenant's `T`.
    pub(crate) async fn remembered<T: Remembered>(&self) -> Result<Arc<T>> {
        let memory = &self.engine().shared.remembered;
        let now = self.engine().clock().now();
        let (known, generation) = memory.with(self.scope(), |tenant| {
            let known = tenant.known.get(&TypeId::of::<T>());
            let fresh = known.filter(|known| (now - known.at).abs() < TimeDelta::seconds(SECONDS));
            (fresh.map(|known| known.value.clone()), tenant.generation)
        });
        if let Some(known) = known.and_then(|known| known.downcast::<T>().ok()) {
            return Ok(known);
        }
        let value = Arc::new(T::load(&self.begin()).await?);
        memory.with(self.scope(), |tenant| {
            if tenant.generation == generation {
                let known = Known {
                    at: now,
                    objects: T::OBJECTS,
                    value: value.clone(),
                };
                tenant.known.insert(TypeId::of::<T>(), known);
            }
        });
        Ok(value)
    }
}

impl UnitOfWork {
    /// The tenant's `T`, with the changes staged here.
    pub(crate) async fn remembered<T: Remembered>(&self) -> Result<Arc<T>> {
        let changes = self.own.count(T::OBJECTS);
        if changes == 0 {
            return self.session().remembered().await;
        }
        let known = self.own.known().get(&TypeId::of::<T>()).cloned();
        let fresh = known.filter(|(count, _)| *count == changes);
        if let Some(known) = fresh.and_then(|(_, known)| known.downcast::<T>().ok()) {
            return Ok(known);
        }
        let value = Arc::new(T::load(self).await?);
        let known = (changes, value.clone() as Arc<dyn Any + Send + Sync>);
        self.own.known().insert(TypeId::of::<T>(), known);
        Ok(value)
    }
}

impl UnitOfWork {
    /// What [`cache`](Self::cache) was given of this type.
    #[must_use]
    pub fn cached<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let (_, known) = self.own.known().get(&TypeId::of::<T>()).cloned()?;
        known.downcast().ok()
    }

    /// Keeps something for the rules and hooks that come later in this unit of work, such as stored
    /// rows that it would otherwise read for each record that is written. Whoever takes it up has to
    /// know until when it holds: nothing that is staged changes it.
    pub fn cache<T: Any + Send + Sync>(&self, value: Arc<T>) {
        self.own.known().insert(TypeId::of::<T>(), (0, value));
    }
}
