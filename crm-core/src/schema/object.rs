//! [`ObjectSchema`]: an object, its fields, unique keys and indexes.

mod builder;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

pub(super) use builder::ObjectBuilder;

use super::{
    AnyRecord, CUSTOM_FIELDS, CustomFieldSchema, CustomFields, Dynamic, Entity, FieldList,
    FieldReader, FieldSchema, FieldType, Meta, OnDelete, Row, StorageKind, Template, Value,
    ValueRef, custom_value,
};
use crate::Record;
use crate::error::{Faults, FieldError, codes};
use crate::record::Actor;

/// How many fields of the system every object has, in front of its own.
pub const SYSTEM_FIELDS: usize = 10;

/// The places of the system's fields in every schema.
pub mod system {
    /// `id`.
    pub const ID: usize = 0;
    /// `version`.
    pub const VERSION: usize = 1;
    /// `created_at`.
    pub const CREATED_AT: usize = 2;
    /// `created_by`: the kind of [`Actor`](crate::Actor).
    pub const CREATED_BY: usize = 3;
    /// `created_by_id`.
    pub const CREATED_BY_ID: usize = 4;
    /// `updated_at`.
    pub const UPDATED_AT: usize = 5;
    /// `updated_by`: the kind of [`Actor`](crate::Actor).
    pub const UPDATED_BY: usize = 6;
    /// `updated_by_id`.
    pub const UPDATED_BY_ID: usize = 7;
    /// `archived_at`.
    pub const ARCHIVED_AT: usize = 8;
    /// `deleted_at`.
    pub const DELETED_AT: usize = 9;

    /// Whether every write changes the field, whatever it is about.
    #[must_use]
    pub const fn is_stamp(index: usize) -> bool {
        matches!(index, VERSION | UPDATED_AT | UPDATED_BY | UPDATED_BY_ID)
    }
}

fn system_fields() -> Vec<FieldSchema> {
    let actor = FieldType::Picklist {
        options: Cow::Borrowed(Actor::KINDS),
    };
    let fields = [
        ("id", FieldType::Uuid, true, false),
        (
            "version",
            FieldType::Integer {
                min: 1,
                max: i64::MAX,
            },
            true,
            false,
        ),
        ("created_at", FieldType::Timestamp, true, true),
        ("created_by", actor.clone(), true, false),
        ("created_by_id", FieldType::Uuid, false, false),
        ("updated_at", FieldType::Timestamp, true, true),
        ("updated_by", actor, true, false),
        ("updated_by_id", FieldType::Uuid, false, false),
        ("archived_at", FieldType::Timestamp, false, false),
        ("deleted_at", FieldType::Timestamp, false, false),
    ];
    fields
        .into_iter()
        .map(|(name, field_type, required, indexed)| FieldSchema {
            required,
            indexed,
            read_only: true,
            system: true,
            ..FieldSchema::new(name, field_type)
        })
        .collect()
}

/// Whether the records of an object belong to one tenant or to the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectScope {
    /// Each record belongs to one tenant.
    #[default]
    Tenant,
    /// The records are the tenants themselves: unique over all tenants, and a tenant sees only its
    /// own.
    Platform,
}

/// What may happen to the records of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Created, changed, archived, deleted, restored and purged.
    #[default]
    Full,
    /// Written once by the engine, together with the change that it tells of, and never changed.
    Log,
    /// Kept by the engine in step with other records, such as the keys by which duplicates are
    /// found: it can be made again from them, so it has no events and no caller writes it.
    Derived,
}

/// Fields whose values together belong to one record only. Records in which one of the fields is
/// empty do not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UniqueKey {
    /// The fields, by their place in the schema.
    pub fields: Vec<usize>,
    /// Whether letter case is ignored (R-088).
    pub ignore_case: bool,
    /// Whether deleted records do not count.
    pub live: bool,
    /// A boolean field that must be true for a record to count: "at most one default".
    pub only_if: Option<usize>,
}

/// Fields by which backends find and sort records without a scan, after the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexSchema {
    /// The fields, by their place in the schema.
    pub fields: Vec<usize>,
}

/// Two fields of an object that together lead to a record of any object: its id, and the name of
/// the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLink {
    /// The place of the field with the id.
    pub id: usize,
    /// The place of the field with the object's name.
    pub object: usize,
}

/// The object that another is a copy of.
#[derive(Clone, Debug)]
struct Origin {
    name: Cow<'static, str>,
    table: Cow<'static, str>,
}

/// Builds a typed row from values.
type Build = fn(&ObjectRef, Meta, Vec<Value>) -> Result<Row, Faults>;

/// The description of an object.
///
/// ```
/// use crm_core::{contacts::Contact, schema::Entity};
///
/// let schema = Contact::schema();
/// assert_eq!(schema.name(), "contact");
/// assert_eq!(schema.table(), "contacts");
/// assert!(schema.field("created_at").unwrap().system);
/// ```
#[derive(Clone, Serialize)]
pub struct ObjectSchema {
    name: Cow<'static, str>,
    #[serde(skip)]
    copy_of: Option<Origin>,
    table: Cow<'static, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    help: Cow<'static, str>,
    scope: ObjectScope,
    lifecycle: Lifecycle,
    #[serde(skip)]
    is_fed: bool,
    #[serde(skip)]
    is_monthly: bool,
    fields: Vec<FieldSchema>,
    unique: Vec<UniqueKey>,
    indexes: Vec<IndexSchema>,
    #[serde(rename = "custom_fields", skip_serializing_if = "Option::is_none")]
    custom: Option<CustomFields>,
    #[serde(skip)]
    discriminator: Option<usize>,
    #[serde(skip)]
    template: Option<Template>,
    #[serde(skip)]
    by_name: HashMap<String, usize>,
    #[serde(skip)]
    references: Vec<usize>,
    #[serde(skip)]
    record_links: Vec<RecordLink>,
    #[serde(skip)]
    build: Build,
}

impl ObjectSchema {
    /// Starts the description of an object that has no Rust type.
    ///
    /// ```
    /// use crm_core::schema::{FieldSchema, FieldType, ObjectSchema};
    ///
    /// let project = ObjectSchema::builder("project", "projects")
    ///     .field(FieldSchema { required: true, ..FieldSchema::new("title", FieldType::text(100)) })
    ///     .unique(&["title"], true)
    ///     .build();
    /// assert_eq!(project.unique_keys().len(), 1);
    /// ```
    pub fn builder(
        name: impl Into<Cow<'static, str>>,
        table: impl Into<Cow<'static, str>>,
    ) -> ObjectBuilder {
        ObjectBuilder {
            schema: Self {
                name: name.into(),
                copy_of: None,
                table: table.into(),
                help: Cow::Borrowed(""),
                scope: ObjectScope::default(),
                lifecycle: Lifecycle::default(),
                is_fed: false,
                is_monthly: false,
                fields: system_fields(),
                unique: Vec::new(),
                indexes: Vec::new(),
                custom: None,
                discriminator: None,
                template: None,
                by_name: HashMap::new(),
                references: Vec::new(),
                record_links: Vec::new(),
                build: |object, meta, values| {
                    Ok(Arc::new(Dynamic::new(object.clone(), meta, values)))
                },
            },
            unique: Vec::new(),
            indexes: Vec::new(),
            template: None,
        }
    }

    /// The name in filters, references and audit events: `contact`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object whose rows these are: the object itself or, of a [copy](ObjectRef::copied_as) into
    /// which rows are moved as they are, the one that they come from.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.copy_of
            .as_ref()
            .map_or(&*self.name, |origin| &*origin.name)
    }

    /// The table of the [origin](Self::origin).
    #[must_use]
    pub fn origin_table(&self) -> &str {
        self.copy_of
            .as_ref()
            .map_or(&*self.table, |origin| &*origin.table)
    }

    /// The name of the table: `contacts`.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// One sentence on what the object is, from the struct's docs.
    #[must_use]
    pub fn help(&self) -> &str {
        &self.help
    }

    /// The name as a person reads it: `Deal stage change`.
    #[must_use]
    pub fn label(&self) -> String {
        super::label(&self.name)
    }

    /// Whether records belong to one tenant.
    #[must_use]
    pub const fn scope(&self) -> ObjectScope {
        self.scope
    }

    /// What may happen to records.
    #[must_use]
    pub const fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// Whether the object is a log whose entries can be followed in the order of their commits; see
    /// [`Storage::feed`](crate::storage::Storage::feed).
    #[must_use]
    pub const fn is_fed(&self) -> bool {
        self.is_fed
    }

    /// Whether the object is a log whose entries lie together by the month, in UTC, in which they were
    /// made: backends find those of some time without a look at the other months, and move or drop a
    /// month as a whole. Nothing can refer to an entry, and it has no unique key but its id.
    #[must_use]
    pub const fn is_monthly(&self) -> bool {
        self.is_monthly
    }

    /// The fields, the system's first.
    #[must_use]
    pub fn fields(&self) -> &[FieldSchema] {
        &self.fields
    }

    /// The fields that the object adds to the system's.
    #[must_use]
    pub fn own_fields(&self) -> &[FieldSchema] {
        self.fields.get(SYSTEM_FIELDS..).unwrap_or_default()
    }

    /// The field called `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldSchema> {
        self.fields.get(self.field_index(name)?)
    }

    /// The place of the field called `name`.
    #[must_use]
    pub fn field_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The name of the field at `index`, which may be the place of a custom field; empty past the
    /// end.
    #[must_use]
    pub fn field_name(&self, index: usize) -> &str {
        self.placed(index).map_or("", |field| &field.name)
    }

    /// The field at a place: one of the object's own, or behind these, in their order, one that the
    /// tenant added.
    #[must_use]
    pub fn placed(&self, place: usize) -> Option<&FieldSchema> {
        let own = self.fields.get(place);
        own.or_else(|| Some(&self.custom_at(place)?.field))
    }

    /// The custom field at a place, which is behind those of the object's own fields. Queries name
    /// custom fields by such places, to sort, group and compute by; they are good for as long as the
    /// query's object is.
    #[must_use]
    pub fn custom_at(&self, place: usize) -> Option<&CustomFieldSchema> {
        let position = place.checked_sub(self.fields.len())?;
        self.custom_fields().get(position)
    }

    /// The place of the custom field of this name, former name or key, behind those of the object's
    /// own fields.
    #[must_use]
    pub fn custom_place(&self, name: &str) -> Option<usize> {
        Some(self.fields.len() + self.custom()?.position(name)?)
    }

    /// The custom fields that refer to other objects, by their places: where each leads, and what the
    /// deletion of that record does.
    pub fn custom_references(&self) -> impl Iterator<Item = (usize, &str, OnDelete)> {
        let count = self.fields.len();
        let custom = self.custom_fields().iter().enumerate();
        custom.filter_map(move |(position, custom)| {
            let (target, on_delete) = custom.field.reference()?;
            Some((count + position, target, on_delete))
        })
    }

    /// Lays a value at a place over the values of a record, the system's left out: over one of the
    /// object's own fields, or a custom field.
    pub(crate) fn lay(&self, values: &mut [Value], place: usize, value: Value) {
        let custom = self.custom_at(place).zip(self.custom_document());
        let index = custom.map_or(place, |(_, document)| document);
        let slot = index.checked_sub(SYSTEM_FIELDS);
        let Some(slot) = slot.and_then(|slot| values.get_mut(slot)) else {
            return;
        };
        let Some((custom, _)) = custom else {
            *slot = value;
            return;
        };
        if !matches!(slot, Value::Json(serde_json::Value::Object(_))) {
            *slot = Value::Json(serde_json::Value::Object(serde_json::Map::new()));
        }
        if let Value::Json(serde_json::Value::Object(members)) = slot {
            match value {
                Value::Null => members.remove(&*custom.key),
                value => members.insert(custom.key.to_string(), value.to_json()),
            };
        }
    }

    /// The id at a place among the values of a record, the system's left out.
    pub(crate) fn id_among(&self, values: &[Value], place: usize) -> Option<Uuid> {
        let custom = self.custom_at(place).zip(self.custom_document());
        let index = custom.map_or(place, |(_, document)| document);
        let value = values.get(index.checked_sub(SYSTEM_FIELDS)?)?;
        match (custom, value) {
            (None, value) => value.as_ref().as_uuid(),
            (Some((custom, _)), Value::Json(json)) => {
                let member = json.get(&*custom.key)?;
                custom_value(member, StorageKind::Uuid, |value| value.as_uuid())
            }
            _ => None,
        }
    }

    /// The path of the field at a place in errors and in what is kept of changes:
    /// `custom_fields.region` for a custom field.
    #[must_use]
    pub fn path_at(&self, place: usize) -> String {
        match self.custom_at(place) {
            Some(custom) => format!("{CUSTOM_FIELDS}.{}", custom.field.name),
            None => self.field_name(place).to_owned(),
        }
    }

    /// Hands over the value that a record has at a place: of one of the object's own fields, or of a
    /// custom field as the kind that it holds; null past the end.
    pub fn read<R>(
        &self,
        row: &dyn AnyRecord,
        place: usize,
        answer: impl FnOnce(ValueRef<'_>) -> R,
    ) -> R {
        if place < self.fields.len() {
            return answer(row.value(place));
        }
        let Some((custom, document)) = self.custom_at(place).zip(self.custom_document()) else {
            return answer(ValueRef::Null);
        };
        match row.value(document) {
            ValueRef::Json(json) => match json.get(&*custom.key) {
                Some(value) => custom_value(value, custom.field.storage_kind(), answer),
                None => answer(ValueRef::Null),
            },
            _ => answer(ValueRef::Null),
        }
    }

    /// Whether the field at `index` is derived from the one before it, as the canonical form of a
    /// telephone number is.
    #[must_use]
    pub fn is_derived(&self, index: usize) -> bool {
        let before = index
            .checked_sub(1)
            .and_then(|before| self.fields.get(before));
        before.is_some_and(|field| field.field_type == FieldType::Phone)
    }

    /// The unique keys.
    #[must_use]
    pub fn unique_keys(&self) -> &[UniqueKey] {
        &self.unique
    }

    /// The indexes, the ones on single fields included.
    #[must_use]
    pub fn indexes(&self) -> &[IndexSchema] {
        &self.indexes
    }

    /// The places of the fields that refer to other objects.
    #[must_use]
    pub fn references(&self) -> &[usize] {
        &self.references
    }

    /// The fields that lead to records of any object; see [`FieldSchema::record_of`].
    #[must_use]
    pub fn record_links(&self) -> &[RecordLink] {
        &self.record_links
    }

    /// The fields that the tenant added, where it added any.
    #[must_use]
    pub fn custom(&self) -> Option<&CustomFields> {
        self.custom.as_ref()
    }

    /// The fields that the tenant added, in the order to show them.
    #[must_use]
    pub fn custom_fields(&self) -> &[CustomFieldSchema] {
        self.custom().map_or(&[], CustomFields::fields)
    }

    /// The field that the tenant added under this name.
    #[must_use]
    pub fn custom_field(&self, name: &str) -> Option<&CustomFieldSchema> {
        self.custom()?.field(name)
    }

    /// The place of the document with custom values, on an object that may have them.
    #[must_use]
    pub fn custom_document(&self) -> Option<usize> {
        let index = self.field_index(CUSTOM_FIELDS)?;
        let field = self.fields.get(index)?;
        (field.field_type == FieldType::Json).then_some(index)
    }

    /// Where the records lie, if a tenant defined the object.
    #[must_use]
    pub const fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// The field that tells the objects of one template apart, on the template and on the objects
    /// over it.
    #[must_use]
    pub const fn discriminator(&self) -> Option<usize> {
        self.discriminator
    }

    /// Whether the object is only a template: it has no records of its own, since each in its table
    /// is one of an object over it.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        self.discriminator.is_some() && self.template.is_none()
    }

    /// The names of the fields of a key or index.
    pub fn names(&self, fields: &[usize]) -> Vec<String> {
        fields
            .iter()
            .map(|index| self.field_name(*index).to_owned())
            .collect()
    }

    /// Reads one flat JSON object as the values of a new record: every field's default where none
    /// is given, every fault at once.
    ///
    /// # Errors
    /// Unknown and read-only fields, and every value that does not fit.
    pub fn parse(
        &self,
        json: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Vec<Value>, Faults> {
        let (values, faults) = self.overlay(self.defaults(), json, Access::User);
        if faults.is_empty() {
            Ok(values)
        } else {
            Err(faults)
        }
    }

    /// The values of a new record, in the order of the schema, the system's fields left out.
    #[must_use]
    pub fn defaults(&self) -> Vec<Value> {
        self.own_fields()
            .iter()
            .map(|field| field.default.clone())
            .collect()
    }

    /// Lays the members of a flat JSON object over `values`; `null` empties a field or gives it its
    /// default. JSON fields are merged member by member (RFC 7396). Returns every fault, with the
    /// faulty fields left as they were.
    pub(crate) fn overlay(
        &self,
        mut values: Vec<Value>,
        json: &serde_json::Map<String, serde_json::Value>,
        access: Access,
    ) -> (Vec<Value>, Faults) {
        let mut faults = Faults::default();
        for (name, member) in json {
            let Some(index) = self.field_index(name) else {
                faults.add(name, codes::UNKNOWN_FIELD, "there is no such field");
                continue;
            };
            let (Some(field), Some(place)) =
                (self.fields.get(index), index.checked_sub(SYSTEM_FIELDS))
            else {
                faults.add(name, codes::READ_ONLY, "only the engine writes this field");
                continue;
            };
            if field.read_only && access == Access::User {
                faults.add(name, codes::READ_ONLY, "only the engine writes this field");
                continue;
            }
            let Some(slot) = values.get_mut(place) else {
                continue;
            };
            match self.overlay_one(field, slot, member) {
                Ok(value) => *slot = value,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            }
            // What is derived from the field is derived again.
            if field.field_type == FieldType::Phone
                && access == Access::User
                && let Some(derived) = values.get_mut(place + 1)
            {
                *derived = Value::Null;
            }
        }
        (values, faults)
    }

    fn overlay_one(
        &self,
        field: &FieldSchema,
        old: &Value,
        member: &serde_json::Value,
    ) -> Result<Value, FieldError> {
        if let (Value::Json(old), serde_json::Value::Object(_)) = (old, member) {
            let mut merged = old.clone();
            json_patch::merge(&mut merged, member);
            return field
                .field_type
                .coerce(Value::Json(merged))
                .map_err(|fault| fault.at(&field.name));
        }
        let value = field
            .field_type
            .coerce(Value::from_json(member.clone()))
            .map_err(|fault| fault.at(&field.name))?;
        if !value.is_null() {
            return Ok(value);
        }
        if !member.is_null() && field.required {
            return Err(FieldError::new(
                &*field.name,
                codes::BLANK,
                "must not be blank",
            ));
        }
        Ok(field.default.clone())
    }
}

/// Who lays values over a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// A caller, who may not touch read-only fields.
    User,
    /// The engine, which gives back what it wrote.
    Engine,
}

impl fmt::Debug for ObjectSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSchema")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A shared [`ObjectSchema`]; two are equal if their objects have the same name.
#[derive(Clone, Debug)]
pub struct ObjectRef(Arc<ObjectSchema>);

impl ObjectRef {
    /// The description of `E`, as the derive makes it.
    pub fn of<E: Entity>(builder: ObjectBuilder) -> Self {
        let mut list = FieldList::default();
        E::describe(&mut list);
        let mut builder = builder;
        builder.schema.fields.extend(list.into_fields());
        builder.schema.build = |object, meta, values| {
            let mut reader = FieldReader::new(object.own_fields(), values);
            match E::read(&mut reader) {
                Some(data) => Ok(Arc::new(Record::new(meta, data))),
                None => Err(reader.into_faults()),
            }
        };
        builder.build()
    }

    /// Builds a row of the object: typed, where the object has a Rust type. `values` hold every
    /// field but the system's, in the schema's order, as they were read from a row before.
    ///
    /// # Errors
    /// The fields whose value does not fit.
    pub fn build(&self, meta: Meta, values: Vec<Value>) -> Result<Row, Faults> {
        (self.0.build)(self, meta, values)
    }

    /// Builds a row as it was stored: as [`build`](Self::build) does, or, of a row with sealed values, as
    /// a [`Dynamic`] that carries them.
    ///
    /// # Errors
    /// The fields whose value does not fit.
    pub fn build_sealed(
        &self,
        meta: Meta,
        values: Vec<Value>,
        sealed: Option<Vec<u8>>,
    ) -> Result<Row, Faults> {
        match sealed {
            None => self.build(meta, values),
            Some(sealed) => Ok(Arc::new(
                Dynamic::new(self.clone(), meta, values).with_sealed(sealed),
            )),
        }
    }
}

impl ObjectRef {
    /// An object with the same fields, keys and indexes under another name, in another table and
    /// without a Rust type: for rows that are moved out of the way as they are.
    #[must_use]
    pub fn copied_as(
        &self,
        name: impl Into<Cow<'static, str>>,
        table: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut schema = ObjectSchema::clone(self);
        schema.copy_of = Some(Origin {
            name: self.origin().to_owned().into(),
            table: self.origin_table().to_owned().into(),
        });
        schema.name = name.into();
        schema.table = table.into();
        schema.help = help.into();
        schema.build = |object, meta, values| {
            let row: Row = Arc::new(Dynamic::new(object.clone(), meta, values));
            Ok(row)
        };
        Self(Arc::new(schema))
    }

    /// The same object with the fields that a tenant added; it is equal to the object without.
    #[must_use]
    pub fn with_custom_fields(&self, custom: CustomFields) -> Self {
        let mut schema = ObjectSchema::clone(self);
        schema.custom = Some(custom);
        Self(Arc::new(schema))
    }

    /// An object that a tenant defined over this one as its template: its records have the fields of
    /// the template, lie in its table, and have `id` in the field `of`, which nobody else writes.
    /// `None` where the object is no template by that field. `refine` may say more of the fields,
    /// such as what a UUID refers to, but not how their values are held.
    ///
    /// Unique keys of the template, and ids, count within the object: two objects over one template
    /// have nothing in common but the table.
    ///
    /// ```
    /// use crm_core::schema::{FieldSchema, FieldType, ObjectSchema};
    /// use uuid::Uuid;
    ///
    /// let record = ObjectSchema::builder("custom_record", "custom_records")
    ///     .template("object_id")
    ///     .field(FieldSchema { required: true, ..FieldSchema::new("object_id", FieldType::Uuid) })
    ///     .field(FieldSchema::new("name", FieldType::text(255)))
    ///     .build();
    /// let id = Uuid::from_u128(7);
    /// let project = record.instance("project", "What is done for customers.", "object_id", id, |_| {});
    /// let project = project.expect("it is a template by that field");
    /// assert_eq!(project.table(), "custom_records");
    /// assert_eq!(project.defaults()[0].as_ref().as_uuid(), Some(id));
    /// ```
    #[must_use]
    pub fn instance(
        &self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        of: &str,
        id: Uuid,
        refine: impl Fn(&mut FieldSchema),
    ) -> Option<Self> {
        let field = self.field_index(of)?;
        if self.discriminator != Some(field) || self.template.is_some() {
            return None;
        }
        let mut schema = ObjectSchema::clone(self);
        schema.name = name.into();
        schema.help = help.into();
        schema.template = Some(Template {
            object: self.clone(),
            field,
            id,
        });
        schema.build = |object, meta, mut values| {
            if let Some(template) = object.template()
                && let Some(place) = template.field.checked_sub(SYSTEM_FIELDS)
                && let Some(slot) = values.get_mut(place)
            {
                *slot = Value::Uuid(template.id);
            }
            Ok(Arc::new(Dynamic::new(object.clone(), meta, values)))
        };
        let own = schema.fields.iter_mut().skip(SYSTEM_FIELDS);
        own.for_each(refine);
        if let Some(field) = schema.fields.get_mut(field) {
            field.read_only = true;
            field.default = Value::Uuid(id);
        }
        let is_reference = |index: &usize| {
            let field = schema.fields.get(*index);
            field.is_some_and(|field| field.reference().is_some())
        };
        schema.references = (0..schema.fields.len()).filter(is_reference).collect();
        Some(Self(Arc::new(schema)))
    }
}

impl Deref for ObjectRef {
    type Target = ObjectSchema;

    fn deref(&self) -> &ObjectSchema {
        &self.0
    }
}

impl PartialEq for ObjectRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.name == other.0.name
    }
}

impl Eq for ObjectRef {}
