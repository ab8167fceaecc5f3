//! The objects that an engine knows.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::{AnyRecord, CustomFieldSchema, Entity, ObjectRef, OnDelete, Value, ValueRef};
use crate::query::{Comparison, Condition, FieldAt};

/// A field by which the records of one object lead to those of another: a reference, or the id of a
/// record of any object.
#[derive(Clone, Debug)]
pub struct Link {
    /// The object whose records have the field.
    pub object: ObjectRef,
    /// The field, by its place in the schema; of a custom field as
    /// [`custom_at`](super::ObjectSchema::custom_at) counts.
    pub field: usize,
    /// What the deletion of a record does to those that lead to it.
    pub on_delete: OnDelete,
    /// For a link to records of any object: the field with the object's name, and that name.
    named: Option<(usize, String)>,
}

impl Link {
    /// That a record leads to one of these by this field.
    #[must_use]
    pub fn to(&self, ids: &[Uuid]) -> Condition {
        let field = FieldAt::at_place(&self.object, self.field);
        let field = field.unwrap_or_else(|| FieldAt::new(self.field));
        let leads = match ids {
            [id] => Condition::Compare {
                field,
                op: Comparison::Eq,
                value: Value::Uuid(*id),
            },
            _ => Condition::In {
                field,
                values: ids.iter().copied().map(Value::Uuid).collect(),
            },
        };
        match &self.named {
            Some((field, name)) => leads.and(Condition::equals(*field, Value::Text(name.clone()))),
            None => leads,
        }
    }

    /// The fields that say where the link leads: one, or with the object's name two.
    pub fn fields(&self) -> impl Iterator<Item = usize> {
        let named = self.named.as_ref().map(|(field, _)| *field);
        std::iter::once(self.field).chain(named)
    }

    /// The record that `row` leads to by this field.
    #[must_use]
    pub fn target(&self, row: &dyn AnyRecord) -> Option<Uuid> {
        let is_meant = match &self.named {
            Some((field, name)) => row.value(*field) == ValueRef::Text(name),
            None => true,
        };
        let id = self.object.read(row, self.field, |value| value.as_uuid());
        id.filter(|_| is_meant)
    }

    /// The custom field that leads, where it is one.
    #[must_use]
    pub fn custom(&self) -> Option<&CustomFieldSchema> {
        self.object.custom_at(self.field)
    }
}

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
    /// What lies below the objects of a tenant.
    base: Option<Arc<Self>>,
    objects: RwLock<Arc<BTreeMap<String, ObjectRef>>>,
    /// What the tenant put out of use.
    hidden: BTreeMap<String, ObjectRef>,
}

impl Registry {
    /// Adds `E`.
    pub fn register<E: Entity>(&self) {
        self.add(E::schema());
    }

    /// The objects of a tenant over those of the engine: where both have one of the same name, the
    /// tenant's counts if it is the engine's with more fields. An object of the tenant's own never
    /// takes the place of an engine's.
    #[must_use]
    pub fn over(base: Arc<Self>, objects: impl IntoIterator<Item = ObjectRef>) -> Self {
        let known = base.objects();
        let hides =
            |object: &ObjectRef| object.template().is_some() && known.contains_key(object.name());
        let objects = objects.into_iter().filter(|object| !hides(object));
        let by_name = objects.map(|object| (object.name().to_owned(), object));
        Self {
            base: Some(base),
            objects: RwLock::new(Arc::new(by_name.collect())),
            hidden: BTreeMap::new(),
        }
    }

    /// The same with objects of the tenant's own that are out of use: nobody finds them by name, and
    /// their records stay as they are and are kept in step with those that they lead to.
    #[must_use]
    pub fn hiding(mut self, objects: impl IntoIterator<Item = ObjectRef>) -> Self {
        let by_name = objects
            .into_iter()
            .map(|object| (object.name().to_owned(), object));
        self.hidden = by_name
            .filter(|(name, _)| self.object(name).is_none())
            .collect();
        self
    }

    /// Adds an object, or replaces the one of the same name. What a tenant says of an object is not
    /// added: it is nobody else's.
    pub fn add(&self, object: &ObjectRef) {
        if let Some(base) = &self.base {
            return base.add(object);
        }
        if object.template().is_some() || object.custom().is_some() {
            return;
        }
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

    /// Whether a tenant's own objects are among them.
    pub(crate) fn has_tenant_objects(&self) -> bool {
        self.base.is_some()
            && self
                .own()
                .values()
                .chain(self.hidden.values())
                .any(|object| object.template().is_some())
    }

    /// The object called `name`.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<ObjectRef> {
        let own = self.own().get(name).cloned();
        own.or_else(|| self.base.as_ref()?.object(name))
    }

    /// The object called `name`, also if it is out of use.
    #[must_use]
    pub fn any_object(&self, name: &str) -> Option<ObjectRef> {
        self.object(name).or_else(|| self.hidden.get(name).cloned())
    }

    /// The object as the tenant knows it: with the fields that it added, where it added any.
    #[must_use]
    pub fn described(&self, object: &ObjectRef) -> ObjectRef {
        let own = self
            .base
            .as_ref()
            .and_then(|_| self.own().get(object.name()).cloned())
            .or_else(|| self.hidden.get(object.name()).cloned());
        own.unwrap_or_else(|| object.clone())
    }

    /// All objects, by name.
    #[must_use]
    pub fn objects(&self) -> Arc<BTreeMap<String, ObjectRef>> {
        let own = self.own();
        let Some(base) = &self.base else {
            return own;
        };
        let mut objects = base.objects();
        let more = own
            .iter()
            .map(|(name, object)| (name.clone(), object.clone()));
        Arc::make_mut(&mut objects).extend(more);
        objects
    }

    /// All objects by name, those that are out of use too: for what takes the whole tenant along.
    #[must_use]
    pub fn all_objects(&self) -> Arc<BTreeMap<String, ObjectRef>> {
        let mut objects = self.objects();
        if !self.hidden.is_empty() {
            let hidden = self.hidden.iter();
            let hidden = hidden.map(|(name, object)| (name.clone(), object.clone()));
            Arc::make_mut(&mut objects).extend(hidden);
        }
        objects
    }

    fn own(&self) -> Arc<BTreeMap<String, ObjectRef>> {
        self.objects
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The fields of all objects that refer to `object`, and what its deletion does to them. A mere
    /// template has no records that could.
    #[must_use]
    pub fn referring_to(&self, object: &str) -> Vec<(ObjectRef, usize, OnDelete)> {
        let objects = self.all_objects();
        let mut found = Vec::new();
        for referring in objects.values().filter(|object| !object.is_template()) {
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

    /// The fields of all objects by which records may lead to those of `object`: its references,
    /// those among custom fields too, and the ids of records of any object.
    #[must_use]
    pub fn links_to(&self, object: &str) -> Vec<Link> {
        let mut links: Vec<Link> = self
            .referring_to(object)
            .into_iter()
            .map(|(object, field, on_delete)| Link {
                object,
                field,
                on_delete,
                named: None,
            })
            .collect();
        let objects = self.all_objects();
        for linking in objects.values().filter(|object| !object.is_template()) {
            links.extend(linking.record_links().iter().map(|link| Link {
                object: linking.clone(),
                field: link.id,
                on_delete: match linking.fields().get(link.id) {
                    Some(field) if !field.required => OnDelete::SetNull,
                    _ => OnDelete::Cascade,
                },
                named: Some((link.object, object.to_owned())),
            }));
            let custom = linking.custom_references();
            let custom = custom.filter(|(_, target, _)| *target == object);
            links.extend(custom.map(|(field, _, on_delete)| Link {
                object: linking.clone(),
                field,
                on_delete,
                named: None,
            }));
        }
        links
    }
}
