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

    /// Records of one object with the present values of some of their computed fields, and of those
    /// that these follow from, in their documents; `keys` are those of the fields. Nothing is staged.
    ///
    /// # Errors
    /// Those of the storage.
    async fn compute(
        &self,
        _work: &UnitOfWork,
        rows: Vec<Row>,
        _keys: &[Box<str>],
    ) -> Result<Vec<Row>> {
        Ok(rows)
    }

    /// Makes what [`load`](Self::load) needs and is not carried with a tenant, after the tenant's
    /// definitions were written past the engine. It may be done twice.
    ///
    /// # Errors
    /// Those of the storage.
    async fn defined(&self, _work: &mut UnitOfWork) -> Result<()> {
        Ok(())
    }

    /// Makes what is derived from the tenant's records, after they were written past the engine. It
    /// may be done twice.
    ///
    /// # Errors
    /// Those of the storage.
    async fn imported(&self, _session: &Session) -> Result<()> {
        Ok(())
    }
}

/// What a tenant says of objects.
#[derive(Clone, Debug, Default)]
pub struct TenantObjects {
    /// The engine's objects with the tenant's fields, and the tenant's own objects.
    pub objects: Vec<ObjectRef>,
    /// Objects of the tenant's own that are out of use. See [`Registry::hiding`].
    pub hidden: Vec<ObjectRef>,
    /// The row to rely on: that of [`SCHEMA_VERSION`], where the tenant ever said anything; before
    /// that one that the first definition changes, such as the tenant's own.
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
    /// The row of a tenant that defined nothing yet may be the tenant's own.
    const OBJECTS: &'static [&'static str] = &[SCHEMA_VERSION, "tenant"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let shared = &work.session().engine().shared;
        let base = shared.registry.clone();
        let objects = match &shared.tenant_schema {
            Some(schema) => schema.load(work).await?,
            None => TenantObjects::default(),
        };
        let registry = match objects.objects.is_empty() && objects.hidden.is_empty() {
            true => base,
            false => Arc::new(Registry::over(base, objects.objects).hiding(objects.hidden)),
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

    /// Makes what follows from the tenant's definitions and, if they are all there, its records, after
    /// they were written past the engine.
    ///
    /// # Errors
    /// Those of the storage.
    #[doc(hidden)]
    pub async fn restore_schema(&self, with_records: bool) -> Result<()> {
        let Some(schema) = self.engine().shared.tenant_schema.clone() else {
            return Ok(());
        };
        let mut work = self.begin();
        schema.defined(&mut work).await?;
        work.commit().await?;
        match with_records {
            true => schema.imported(self).await,
            false => Ok(()),
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

    /// The row that rises with every change of what the tenant says of objects: who decides by that
    /// [relies on](Self::rely_on) it. `None` where no tenant says anything.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn tenant_version(&self) -> Result<Option<Row>> {
        let described = self.described().await?;
        Ok(described.and_then(|described| described.version.clone()))
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
