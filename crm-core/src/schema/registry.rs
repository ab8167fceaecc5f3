//! The objects that an engine knows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Entity, ObjectRef, OnDelete};

/// The objects that an engine knows, by name.
///
/// An object with a Rust type joins when it is first used; one that other records may be asked
/// for by name before that is registered when the engine is built.
///
/// ```
/// use crm_core::{accounts::Account, schema::Registry};
///
/// let registry = Registry::default();
/// registry.register::<Account>();
/// assert_eq!(registry.object("account").unwrap().table(), "accounts");
/// ```
#[derive(Debug, Default)]
pub struct Registry {
    objects: RwLock<Arc<BTreeMap<String, ObjectRef>>>,
}

impl Registry {
    /// Adds `E`.
    pub fn register<E: Entity>(&self) {
        self.add(E::schema());
    }

    /// Adds an object, or replaces the one of the same name.
    pub fn add(&self, object: &ObjectRef) {
        let is_known = self
            .objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(object.name())
            .is_some_and(|other| std::ptr::eq(&**other, &**object));
        if is_known {
            return;
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut objects).insert(object.name().to_owned(), object.clone());
    }

    /// The object called `name`.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<ObjectRef> {
        self.objects().get(name).cloned()
    }

    /// All objects, by name.
    #[must_use]
    pub fn objects(&self) -> Arc<BTreeMap<String, ObjectRef>> {
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The fields of all objects that refer to `object`, and what its deletion does to them.
    #[must_use]
    pub fn referring_to(&self, object: &str) -> Vec<(ObjectRef, usize, OnDelete)> {
        let objects = self.objects();
        let mut found = Vec::new();
        for referring in objects.values() {
            for index in referring.references() {
                let reference = referring
                    .fields()
                    .get(*index)
                    .and_then(|field| field.reference());
                if let Some((target, on_delete)) = reference
                    && target == object
                {
                    found.push((referring.clone(), *index, on_delete));
                }
            }
        }
        found
    }
}
