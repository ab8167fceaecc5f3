//! [`SensitiveObjects`]: the objects of which a tenant wants every read to be told.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde::Deserialize as _;

use crate::engine::{Remembered, UnitOfWork};
use crate::error::{FieldError, Result, codes};
use crate::query::WhereExt as _;
use crate::tenancy::{ConfigCategory, ConfigValue, SENSITIVE_OBJECTS, TenantConfiguration};

/// The objects of which a tenant wants every read to be told.
#[derive(Debug, Default)]
pub(crate) struct SensitiveObjects(BTreeSet<String>);

impl SensitiveObjects {
    /// Whether reads of an object are told.
    pub(crate) fn has(&self, object: &str) -> bool {
        self.0.contains(object)
    }
}

#[async_trait]
impl Remembered for SensitiveObjects {
    const OBJECTS: &'static [&'static str] = &["tenant_configuration"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        // Past everything that tells of reads, which asks for this.
        let wanted = TenantConfiguration::CATEGORY
            .eq(ConfigCategory::Security)
            .and(TenantConfiguration::KEY.eq(SENSITIVE_OBJECTS));
        let Some(setting) = work.find_all(wanted, Vec::new()).await?.pop() else {
            return Ok(Self::default());
        };
        let names = match &setting.value {
            ConfigValue::Plain(value) => BTreeSet::deserialize(value).ok(),
            ConfigValue::Encrypted(_) => None,
        };
        // What cannot be understood must not let reads go untold.
        let message = "the setting `sensitive_objects` must be a list of names of objects";
        let names = names.ok_or_else(|| FieldError::new("value", codes::WRONG_TYPE, message))?;
        Ok(Self(names))
    }
}
