//! The engine: sessions, units of work, and what runs when something is written.
//!
//! ```text
//!  session.deals().update(..)         one call, or several in one session.begin()
//!        │
//!        ▼
//!  UnitOfWork    stages the change: normalise, check each field, rules between fields,
//!        │       rules that need other records (WriteRule)
//!        ▼
//!  CommitHooks   custom fields, roll-ups, automation, audit last
//!        │
//!        ▼
//!  Storage::commit(ChangeSet)    everything or nothing; a conflict runs the call again
//! ```
//!
//! No transaction is open while host code runs: a unit of work holds its changes as values and
//! hands them over at the end, together with the versions of what it relied on.

mod around;
mod clock;
mod context;
mod delete;
mod hooks;
mod named;
mod progress;
mod read;
mod reads;
mod records;
mod remembered;
mod requirement;
mod search;
mod session;
mod tenant_schema;
mod unsealed;
mod usage;
mod work;
pub(crate) mod workspace;

use std::fmt;
use std::sync::Arc;

pub use around::Around;
pub use clock::{Clock, IdGenerator, ManualClock, RandomIds, SequentialIds, SystemClock};
pub use context::RequestContext;
pub use hooks::{CommitHook, Write, WriteRule};
pub use named::NamedRecords;
pub use progress::Progress;
pub use reads::ReadHook;
pub use records::Records;
pub use search::{Found, FoundRecord, MAX_FOUND};
pub use session::Session;
pub use tenant_schema::{SCHEMA_VERSION, TenantObjects, TenantSchema};
pub use usage::UsageCount;
pub use work::{Commit, Savepoint, StagedChange, UnitOfWork};
pub use workspace::Workspace;

pub(crate) use delete::BY_DELETION;
pub(crate) use hooks::Purpose;
pub(crate) use remembered::Remembered;
pub(crate) use requirement::{Answer, Requirement, computed_among};
pub(crate) use workspace::{Settle, in_work};

use crate::Id;
use crate::record::Actor;
use crate::schema::{Entity, ObjectRef, Registry};
use crate::storage::{Scope, Storage};
use crate::tenancy::Tenant;

/// How often a call is run again after a conflict, unless the builder says otherwise.
const RETRIES: u32 = 32;

/// The engine over one storage. Cheap to clone; one per process is enough.
///
/// Most hosts use the facade's `Crm`, which puts an engine together with the audit recorder.
///
/// ```ignore
/// let engine = Engine::builder(storage).object::<Property>().build();
/// let session = engine.session(tenant, Actor::User(user));
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    registry: Arc<Registry>,
    tenant_schema: Option<Arc<dyn TenantSchema>>,
    rules: Vec<Arc<dyn WriteRule>>,
    hooks: Vec<Arc<dyn CommitHook>>,
    read_hooks: Vec<Arc<dyn ReadHook>>,
    retries: u32,
    remembered: remembered::Memory,
    usage: usage::Usage,
    /// Calls that lost against another commit run again one after the other, so that they do not
    /// keep making each other lose.
    turns: Arc<async_lock::Mutex<()>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("storage", &self.shared.storage)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts an engine over `storage`, with all objects and rules of the domain.
    pub fn builder(storage: impl Storage) -> EngineBuilder {
        EngineBuilder::new(Arc::new(storage))
    }

    /// Opens a session of `actor` in a tenant: everything below it belongs to that tenant.
    ///
    /// The host has made sure that the actor may act there; a session is cheap, one per request.
    #[must_use]
    pub fn session(&self, tenant: Id<Tenant>, actor: Actor) -> Session {
        Session::new(self.clone(), Scope::Tenant(tenant), actor)
    }

    /// A session over the platform's objects, for finding tenants.
    pub(crate) fn platform(&self) -> Session {
        Session::new(self.clone(), Scope::Platform, Actor::System)
    }

    /// The storage.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// The objects that the engine knows, whatever tenants add to them; see
    /// [`Session::registry`].
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Whether tenants may describe fields and objects of their own.
    #[must_use]
    pub fn has_tenant_schema(&self) -> bool {
        self.shared.tenant_schema.is_some()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Where ids come from.
    #[must_use]
    pub fn ids(&self) -> &Arc<dyn IdGenerator> {
        &self.shared.ids
    }
}

/// Puts an [`Engine`] together.
#[derive(Debug)]
pub struct EngineBuilder {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGenerator>,
    registry: Registry,
    tenant_schema: Option<Arc<dyn TenantSchema>>,
    rules: Vec<Arc<dyn WriteRule>>,
    hooks: Vec<Arc<dyn CommitHook>>,
    derived_hooks: Vec<Arc<dyn CommitHook>>,
    read_hooks: Vec<Arc<dyn ReadHook>>,
    retries: u32,
}

impl EngineBuilder {
    fn new(storage: Arc<dyn Storage>) -> Self {
        let registry = Registry::default();
        for object in crate::objects() {
            registry.add(&object);
        }
        Self {
            storage,
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            registry,
            tenant_schema: None,
            rules: crate::write_rules(),
            hooks: crate::commit_hooks(),
            derived_hooks: Vec::new(),
            read_hooks: Vec::new(),
            retries: RETRIES,
        }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<Arc<dyn Clock>>) -> Self {
        self.clock = clock.into();
        self
    }

    /// Takes ids from `ids`.
    #[must_use]
    pub fn ids(mut self, ids: impl Into<Arc<dyn IdGenerator>>) -> Self {
        self.ids = ids.into();
        self
    }

    /// Makes an object of the host known before it is first used: by name, and to the deletion of
    /// records that it refers to.
    #[must_use]
    pub fn object<E: Entity>(self) -> Self {
        self.registry.register::<E>();
        self
    }

    /// Makes an object without a Rust type known.
    #[must_use]
    pub fn named_object(self, object: &ObjectRef) -> Self {
        self.registry.add(object);
        self
    }

    /// Lets tenants describe fields and objects of their own.
    #[must_use]
    pub fn tenant_schema(mut self, schema: impl TenantSchema) -> Self {
        self.tenant_schema = Some(Arc::new(schema));
        self
    }

    /// Adds a rule of the host, after those of the domain.
    #[must_use]
    pub fn rule(mut self, rule: impl WriteRule) -> Self {
        self.rules.push(Arc::new(rule));
        self
    }

    /// Adds a hook, after those added before.
    #[must_use]
    pub fn hook(mut self, hook: impl CommitHook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Adds a hook that only keeps derived rows in step with records. It runs after all others,
    /// whenever they were added, so that it sees records as they are written.
    #[must_use]
    pub fn derived_hook(mut self, hook: impl CommitHook) -> Self {
        self.derived_hooks.push(Arc::new(hook));
        self
    }

    /// Adds a hook before all others, those of the domain too.
    #[must_use]
    pub fn first_hook(mut self, hook: impl CommitHook) -> Self {
        self.hooks.insert(0, Arc::new(hook));
        self
    }

    /// Adds a hook that is told of reads of the objects that tenants name as sensitive.
    #[must_use]
    pub fn read_hook(mut self, hook: impl ReadHook) -> Self {
        self.read_hooks.push(Arc::new(hook));
        self
    }

    /// How often a call is run again after a conflict; 32 if nothing is said.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Finishes the engine.
    #[must_use]
    pub fn build(mut self) -> Engine {
        // What callers wrote is judged before anything follows from it.
        self.hooks
            .insert(0, Arc::new(crate::deals::EntryConditions));
        self.hooks.append(&mut self.derived_hooks);
        for object in self.registry.objects().values() {
            self.storage.register(object);
        }
        Engine {
            shared: Arc::new(Shared {
                storage: Arc::new(unsealed::Unsealed(self.storage)),
                clock: self.clock,
                ids: self.ids,
                registry: Arc::new(self.registry),
                tenant_schema: self.tenant_schema,
                rules: self.rules,
                hooks: self.hooks,
                read_hooks: self.read_hooks,
                retries: self.retries,
                remembered: remembered::Memory::default(),
                usage: usage::Usage::default(),
                turns: Arc::new(async_lock::Mutex::new(())),
            }),
        }
    }
}
