//! What a tenant says of objects at run time: its own fields and objects, as the engine sees them.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Remembered, Session, UnitOfWork};
use crate::error::Result;
use crate::schema::{ObjectRef, Registry, Row};

/// The object of the one row of a tenant whose version rises with every change of what the tenant
/// says of objects.
pub const SCHEMA_VERSION: &str = "custom_schema";

/// Reads what a tenant says of objects; given to the engine once, with
/// [`EngineBuilder::tenant_schema`](super::EngineBuilder::tenant_schema).
///
/// What was read is kept until a commit writes the object [`SCHEMA_VERSION`], and for at most five
/// seconds where another process did. Writes of records whose object the tenant described rely on
/// that row, so a write that was decided by what another process has changed meanwhile is a
/// conflict and runs again.
#[async_trait]
pub trait TenantSchema: Debug + Send + Sync + 'static {
    /// Reads it, with what is staged in the unit of work.
    ///
    /// # Errors
    /// Those of the storage.
    async fn load(&self, work: &UnitOfWork) -> Result<TenantObjects>;
}

/// What a tenant says of objects.
#[derive(Clone, Debug, Default)]
pub struct TenantObjects {
    /// The engine's objects with the tenant's fields, and the tenant's own objects.
    pub objects: Vec<ObjectRef>,
    /// The row of [`SCHEMA_VERSION`], where the tenant ever said anything.
    pub version: Option<Row>,
    /// What the hooks of the [`TenantSchema`] need of it, ready to use; see
    /// [`UnitOfWork::schema_extension`].
    pub extension: Option<Arc<dyn Any + Send + Sync>>,
}

/// The objects of one tenant, by name, and the row to rely on.
pub(crate) struct Described {
    pub(crate) registry: Arc<Registry>,
    pub(crate) version: Option<Row>,
    pub(crate) extension: Option<Arc<dyn Any + Send + Sync>>,
}

#[async_trait]
impl Remembered for Described {
    const OBJECTS: &'static [&'static str] = &[SCHEMA_VERSION, "tenant"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let shared = &work.session().engine().shared;
        let base = shared.registry.clone();
        let objects = match &shared.tenant_schema {
            Some(schema) => schema.load(work).await?,
            None => TenantObjects::default(),
        };
        let registry = match objects.objects.is_empty() {
            true => base,
            false => Arc::new(Registry::over(base, objects.objects)),
        };
        Ok(Self {
            registry,
            version: objects.version,
            extension: objects.extension,
        })
    }
}

impl Session {
    /// The objects that the tenant knows, by name: the engine's, with the fields that the tenant
    /// added, and the tenant's own.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn registry(&self) -> Result<Arc<Registry>> {
        match self.described().await? {
            Some(described) => Ok(described.registry.clone()),
            None => Ok(self.engine().shared.registry.clone()),
        }
    }

    /// `None` where no tenant says anything.
    async fn described(&self) -> Result<Option<Arc<Described>>> {
        if self.engine().shared.tenant_schema.is_none() || self.tenant().is_none() {
            return Ok(None);
        }
        self.remembered().await.map(Some)
    }
}

impl UnitOfWork {
    /// Like [`Session::registry`], with what is staged here.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn registry(&self) -> Result<Arc<Registry>> {
        match self.described().await? {
            Some(described) => Ok(described.registry.clone()),
            None => Ok(self.session().engine().shared.registry.clone()),
        }
    }

    /// What the [`TenantSchema`] keeps for its own hooks, with what is staged here; `None` where it
    /// keeps nothing of this type.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn schema_extension<T: Send + Sync + 'static>(&self) -> Result<Option<Arc<T>>> {
        let described = self.described().await?;
        let extension = described.and_then(|described| described.extension.clone());
        Ok(extension.and_then(|extension| extension.downcast().ok()))
    }

    pub(crate) async fn described(&self) -> Result<Option<Arc<Described>>> {
        let session = self.session();
        if session.engine().shared.tenant_schema.is_none() || session.tenant().is_none() {
            return Ok(None);
        }
        self.remembered().await.map(Some)
    }
}
