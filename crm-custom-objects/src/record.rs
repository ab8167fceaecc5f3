//! The rows behind custom objects: records, links between records, and typed values to find them by.

use chrono::{DateTime, Utc};
use crm_core::Id;
use crm_core::identity::User;
use crm_core::schema::Entity;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::{CustomField, CustomObject, CustomRelationship};

/// What a record of every custom object is made of: the fields that each of them has, and the table
/// that keeps them all.
///
/// A tenant's object is known by its own name; this is the template that its description is made from.
#[allow(
    clippy::duplicated_attributes,
    reason = "both indexes begin with the object"
)]
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_record",
    table = "custom_records",
    template(object_id),
    index(object_id, name),
    index(object_id, owner_id)
)]
pub struct CustomRecord {
    /// The object that it is a record of. Records go with their object.
    #[field(
        required,
        read_only,
        references = "custom_object",
        on_delete = "cascade"
    )]
    pub object_id: Id<CustomObject>,
    /// Name.
    #[field(required, max_len = 255, searchable)]
    pub name: String,
    /// Who is responsible.
    #[field(references = "user", on_delete = "set_null", indexed)]
    pub owner_id: Option<Id<User>>,
    /// Tags.
    #[field(searchable)]
    pub tags: Vec<String>,
    /// When something was last done about it: the latest completion of an activity.
    #[field(read_only)]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When something is planned next: the earliest moment of an open activity.
    #[field(read_only)]
    pub next_activity_at: Option<DateTime<Utc>>,
    /// Values of the object's fields, by their keys.
    #[field(personal, default = json!({}))]
    pub custom_fields: Json,
}

/// What a link of every many-to-many relationship is made of.
///
/// A relationship is known by its own name, with real references to its two objects; this is the
/// template that its description is made from, and the table that keeps all links.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_link",
    table = "custom_links",
    template(relationship_id),
    unique(relationship_id, from_id, to_id; live),
    index(relationship_id, to_id),
    index(to_id)
)]
pub struct CustomLink {
    /// The relationship. Links go with it.
    #[field(
        required,
        read_only,
        references = "custom_relationship",
        on_delete = "cascade"
    )]
    pub relationship_id: Id<CustomRelationship>,
    /// The record of the first object.
    #[field(required, indexed)]
    pub from_id: Uuid,
    /// The record of the second object.
    #[field(required)]
    pub to_id: Uuid,
    /// What is told about the link itself, in the terms of the host.
    #[field(personal, default = json!({}))]
    pub data: Json,
}

/// The typed value of one custom field of one record, kept in step with its document, and deleted and
/// restored with the record: what filters on indexed fields, unique fields and references are served
/// by (C-038, C-164). What leads to a record that is deleted or removed is found by it too.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_value",
    table = "custom_field_values",
    derived,
    unique(record_id, field_id),
    unique(field_id, unique_key; live),
    index(field_id, text_value),
    index(field_id, number_value),
    index(target_id, field_id)
)]
pub struct CustomValue {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// The field. Values go with it.
    #[field(required, references = "custom_field", on_delete = "cascade")]
    pub field_id: Id<CustomField>,
    /// The value as a text with folded letters, cut to the length that an index takes.
    #[field(max_len = 255, personal)]
    pub text_value: Option<String>,
    /// The value as a number; of a day or a moment, the microseconds since 1970.
    #[field(personal, precision = 28, scale = 10)]
    pub number_value: Option<Decimal>,
    /// The whole value in the form in which no two records have the same, where the field is unique.
    #[field(max_len = 255, personal)]
    pub unique_key: Option<String>,
    /// The record that a reference leads to.
    pub target_id: Option<Uuid>,
}

/// What a text search finds of one record beside its own text fields: the words of its searchable custom
/// fields and, of records of custom objects, its tags; and those of its own fields too, since all words
/// of a search have to be found in one place.
///
/// Kept in the commit of the record, where it has such words; [`CustomValues::rebuild`
/// ](crate::CustomValues::rebuild) makes those of records that were there before a field became
/// searchable.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_text",
    table = "custom_field_texts",
    derived,
    unique(record_id; live)
)]
pub struct CustomText {
    /// The object of the record: its name, or the definition of a custom object.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required)]
    pub record_id: Uuid,
    /// The words, each once.
    #[field(required, personal, searchable, max_len = 100_000)]
    pub words: String,
}
