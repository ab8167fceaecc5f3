//! [`ObjectBuilder`]: how the description of an object is made.

use std::borrow::Cow;
use std::sync::Arc;

use super::{IndexSchema, Lifecycle, ObjectRef, ObjectSchema, ObjectScope, RecordLink, UniqueKey};
use crate::schema::FieldSchema;

/// Makes an [`ObjectSchema`].
#[derive(Debug)]
pub struct ObjectBuilder {
    pub(super) schema: ObjectSchema,
    pub(super) unique: Vec<NamedKey>,
    pub(super) indexes: Vec<Vec<Cow<'static, str>>>,
    pub(super) template: Option<Cow<'static, str>>,
}

#[derive(Debug)]
pub(super) struct NamedKey {
    fields: Vec<Cow<'static, str>>,
    ignore_case: bool,
    live: bool,
    only_if: Option<Cow<'static, str>>,
}

impl ObjectBuilder {
    /// Says in one sentence what the object is.
    #[must_use]
    pub fn help(mut self, help: impl Into<Cow<'static, str>>) -> Self {
        self.schema.help = help.into();
        self
    }

    /// The records are the platform's, not a tenant's.
    #[must_use]
    pub const fn platform(mut self) -> Self {
        self.schema.scope = ObjectScope::Platform;
        self
    }

    /// The records are written once and never changed.
    #[must_use]
    pub const fn log(mut self) -> Self {
        self.schema.lifecycle = Lifecycle::Log;
        self
    }

    /// The records are a log that can be followed in the order of commits; see
    /// [`ObjectSchema::is_fed`].
    #[must_use]
    pub const fn fed(mut self) -> Self {
        self.schema.lifecycle = Lifecycle::Log;
        self.schema.is_fed = true;
        self
    }

    /// The records are a log that lies by months; see [`ObjectSchema::is_monthly`].
    #[must_use]
    pub const fn monthly(mut self) -> Self {
        self.schema.lifecycle = Lifecycle::Log;
        self.schema.is_monthly = true;
        self
    }

    /// The records are kept by the engine in step with others.
    #[must_use]
    pub const fn derived(mut self) -> Self {
        self.schema.lifecycle = Lifecycle::Derived;
        self
    }

    /// The table holds the records of the objects that tenants define over this one, told apart by
    /// the UUID in this field; see [`ObjectRef::instance`].
    #[must_use]
    pub fn template(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.template = Some(field.into());
        self
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, field: FieldSchema) -> Self {
        self.schema.fields.push(field);
        self
    }

    /// No two live records have the same values in these fields.
    #[must_use]
    pub fn unique(self, fields: &[&'static str], ignore_case: bool) -> Self {
        self.unique_key(fields, ignore_case, true, None)
    }

    /// Adds a unique key; see [`UniqueKey`].
    #[must_use]
    pub fn unique_key(
        mut self,
        fields: &[&'static str],
        ignore_case: bool,
        live: bool,
        only_if: Option<&'static str>,
    ) -> Self {
        self.unique.push(NamedKey {
            fields: fields.iter().map(|name| Cow::Borrowed(*name)).collect(),
            ignore_case,
            live,
            only_if: only_if.map(Cow::Borrowed),
        });
        self
    }

    /// Adds an index over these fields, in this order.
    #[must_use]
    pub fn index(mut self, fields: &[&'static str]) -> Self {
        self.indexes
            .push(fields.iter().map(|name| Cow::Borrowed(*name)).collect());
        self
    }

    /// Finishes the description. Keys and indexes over fields that the object does not have are
    /// left out; the derive refuses them when it compiles.
    #[must_use]
    pub fn build(self) -> ObjectRef {
        let Self {
            mut schema,
            unique,
            indexes,
            template,
        } = self;
        schema.by_name = schema
            .fields
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name.to_string(), index))
            .collect();
        let place = |name: &Cow<'static, str>| schema.by_name.get(&**name).copied();
        let is_uuid = |index: &usize| {
            let field = schema.fields.get(*index);
            field.is_some_and(|field| field.storage_kind() == super::StorageKind::Uuid)
        };
        schema.discriminator = template.as_ref().and_then(place).filter(is_uuid);
        let places = |names: &[Cow<'static, str>]| -> Option<Vec<usize>> {
            names.iter().map(place).collect()
        };
        schema.unique = unique
            .iter()
            .filter_map(|key| {
                Some(UniqueKey {
                    fields: places(&key.fields)?,
                    ignore_case: key.ignore_case,
                    live: key.live,
                    only_if: match &key.only_if {
                        Some(name) => Some(place(name)?),
                        None => None,
                    },
                })
            })
            .collect();
        let mut all: Vec<IndexSchema> = indexes
            .iter()
            .filter_map(|names| {
                Some(IndexSchema {
                    fields: places(names)?,
                })
            })
            .collect();
        for (index, field) in schema.fields.iter().enumerate() {
            let led = all.iter().any(|other| other.fields.first() == Some(&index));
            let leads = field.reference().is_some() || field.record_of.is_some();
            let is_listed = match schema.lifecycle {
                Lifecycle::Full => true,
                // An entry never changes: when it was made says the same.
                Lifecycle::Log => &*field.name != "updated_at",
                // What the engine keeps in step is found by what it stands for, not by time.
                Lifecycle::Derived => !field.system,
            };
            if (field.indexed && is_listed || leads) && !led {
                all.push(IndexSchema {
                    fields: vec![index],
                });
            }
        }
        schema.indexes = all;
        schema.references = (0..schema.fields.len())
            .filter(|index| {
                schema
                    .fields
                    .get(*index)
                    .is_some_and(|field| field.reference().is_some())
            })
            .collect();
        let links = schema.fields.iter().enumerate().filter_map(|(id, field)| {
            let object = place(field.record_of.as_ref()?)?;
            Some(RecordLink { id, object })
        });
        schema.record_links = links.collect();
        for key in &schema.unique {
            if key.ignore_case {
                for index in &key.fields {
                    if let Some(field) = schema.fields.get_mut(*index)
                        && field.storage_kind() == super::StorageKind::Text
                    {
                        field.ignore_case = true;
                    }
                }
            }
        }
        ObjectRef(Arc::new(schema))
    }
}
