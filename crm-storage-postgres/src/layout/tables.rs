//! [`Tables`]: the tables of all objects that a storage knows.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crm_core::schema::ObjectRef;
use crm_core::storage::ChangeSet;

use super::{Layout, Table};

/// The tables of all objects that a storage knows, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Tables {
    schema: String,
    known: RwLock<HashMap<String, Arc<Table>>>,
}

impl Tables {
    /// No tables yet, in the database schema `schema`.
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            known: RwLock::default(),
        }
    }

    /// The database schema's name.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// The table of an object. What a tenant says of the object is not kept.
    pub(crate) fn of(&self, object: &ObjectRef) -> Arc<Table> {
        let base = object
            .template()
            .map_or(object, |template| &template.object);
        let is_described = object.custom().is_some() || object.template().is_some();
        if !is_described {
            return self.engines(object);
        }
        let known = match object.template() {
            Some(_) => self.engines(base),
            // The same object, only that the tenant added fields.
            None => match self.named(object.name()) {
                Some(known) => known,
                None => return Arc::new(Table::of(&self.schema, object)),
            },
        };
        Arc::new(Table {
            object: object.clone(),
            layout: known.layout.clone(),
        })
    }

    /// The table of an object that no tenant described.
    fn engines(&self, object: &ObjectRef) -> Arc<Table> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known.get(object.name())
            && std::ptr::eq(&*table.object as *const _, &**object as *const _)
        {
            return table.clone();
        }
        drop(known);
        let table = Arc::new(Table {
            object: object.clone(),
            layout: Arc::new(Layout::of(&self.schema, object)),
        });
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.name().to_owned(), table.clone());
        table
    }

    /// The table of the object called `name`, to which a commit leads.
    pub(crate) fn target(&self, changes: &ChangeSet, name: &str) -> Option<Arc<Table>> {
        match changes.object(name) {
            Some(object) => Some(self.of(object)),
            None => self.named(name),
        }
    }

    /// The table of the object called `name`, if it was needed before.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Table>> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All tables that were needed so far.
    pub(crate) fn all(&self) -> Vec<Arc<Table>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
