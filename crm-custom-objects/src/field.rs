//! [`CustomField`]: a field that a tenant adds to an object.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use crm_core::Id;
use crm_core::error::{Faults, FieldError, ValidationError, codes};
use crm_core::schema::{Entity, FieldSchema, FieldType, Privacy, Value};
use crm_core::value::{ApiName, TextValue as _};
use serde_json::{Value as Json, json};

use crate::validator::check_default;
use crate::{CustomFieldType, CustomObject, CustomRelationship, IndexState};

/// A field that a tenant adds to an object, of its own or of the engine's (R-287).
///
/// Its values stand in the document `custom_fields` of a record under the [key](Self::key), which never
/// changes. The API name may: former ones and the key stay reserved and lead to the same field.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{CustomField, CustomFieldType};
///
/// // A field of the engine's own deals.
/// let renewal = CustomField {
///     is_indexed: true,
///     help_text: Some("When the contract ends unless it is renewed".into()),
///     ..CustomField::new(
///         ApiName::parse("deal")?,
///         ApiName::parse("renewal_date")?,
///         "Renewal date",
///         CustomFieldType::Date,
///     )
/// };
/// let json = serde_json::to_value(&renewal)?;
/// assert_eq!(json["field_type"]["type"], "date");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_field",
    table = "custom_field_definitions",
    unique(object, key),
    unique(object, api_name; live),
    unique(object, name; live),
    check = check_field
)]
pub struct CustomField {
    /// The object that has the field, by its API name (R-071). It stays.
    #[field(required)]
    pub object: ApiName,
    /// The definition of the object, where the tenant made it (R-071, R-287). Fields go with it
    /// (R-504, R-531).
    #[field(
        references = "custom_object",
        on_delete = "cascade",
        read_only,
        indexed
    )]
    pub object_id: Option<Id<CustomObject>>,
    /// The relationship that the field is made by, and goes with. What the relationship says of it is
    /// changed there.
    #[field(
        references = "custom_relationship",
        on_delete = "cascade",
        read_only,
        indexed
    )]
    pub relationship_id: Option<Id<CustomRelationship>>,
    /// The name in lists of the object's fields, of which an object has only one (R-197, R-320,
    /// R-350); the API name unless given.
    pub name: Option<ApiName>,
    /// The name in filters, JSON and formulas (R-194, R-319).
    #[field(required)]
    pub api_name: ApiName,
    /// The name under which values stand in the documents of records: the first API name.
    #[field(read_only)]
    pub key: Option<ApiName>,
    /// Earlier API names, which still lead to the field.
    #[field(read_only)]
    pub former_names: Vec<String>,
    /// The name as people read it.
    #[field(required, max_len = 255, searchable)]
    pub label: String,
    /// What the field holds.
    #[field(multiline)]
    pub description: Option<String>,
    /// What its values may be.
    #[field(required)]
    pub field_type: CustomFieldType,
    /// For a picklist, the picklist or boolean field of the same object whose value decides which
    /// options may be chosen.
    #[field(references = "custom_field", on_delete = "set_null", indexed)]
    pub controlling_field_id: Option<Id<CustomField>>,
    /// Whether a record always has a value.
    pub is_required: bool,
    /// Whether no two records have the same value.
    pub is_unique: bool,
    /// Whether backends keep an index on it.
    pub is_indexed: bool,
    /// Whether the values have the typed rows that unique fields, indexed fields and references are
    /// served by.
    #[field(read_only)]
    pub index_state: IndexState,
    /// Whether the text search looks into it, where its values are texts (R-472).
    #[field(default = true)]
    pub is_searchable: bool,
    /// Whether the text search covers the values of all records.
    #[field(read_only)]
    pub search_state: IndexState,
    /// Whether the values are about a person, and so kept out of logs and erased on request.
    #[field(default = true)]
    pub is_personal: bool,
    /// Whether the field belongs to the engine and cannot be removed.
    #[field(read_only)]
    pub is_system: bool,
    /// Whether values can be written (R-496).
    #[field(default = true)]
    pub is_active: bool,
    /// The value of a new record that names none; options of picklists say themselves whether new
    /// records start with them.
    pub default_value: Option<Json>,
    /// How to show it, in the terms of the host.
    #[field(default = json!({}))]
    pub display_options: Json,
    /// Its place in forms, from 0 (R-196).
    pub display_order: u32,
    /// Since when not all records have the present value of a formula or roll-up: it was defined or
    /// changed, or more records followed from a change than one commit takes. None once
    /// [`Computed::recompute`](crate::Computed::recompute) has brought them in step.
    #[field(read_only)]
    pub stale_since: Option<DateTime<Utc>>,
    /// What to tell people who fill it in.
    #[field(max_len = 1000)]
    pub help_text: Option<String>,
}

impl CustomField {
    /// The name under which values stand in the documents of records.
    #[must_use]
    pub fn document_key(&self) -> &str {
        self.key.as_ref().unwrap_or(&self.api_name).as_str()
    }

    /// Whether its values are texts that a search can look into.
    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self.field_type.field_type(false),
            FieldType::Text { .. } | FieldType::Email | FieldType::Phone | FieldType::Url { .. }
        )
    }

    /// Whether the text search looks into it.
    pub(crate) fn is_searched(&self) -> bool {
        self.is_searchable && self.is_text()
    }

    /// Whether every record has a value.
    pub(crate) fn needs_value(&self) -> bool {
        let is_part = matches!(self.field_type, CustomFieldType::MasterDetail { .. });
        self.is_active && (self.is_required || is_part)
    }

    /// Other names that lead to the field: the key, where it is no longer the API name, and earlier
    /// API names.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        let key = self.document_key();
        let former = self.former_names.iter().map(String::as_str);
        let former = former.filter(move |name| *name != key);
        std::iter::once(key)
            .chain(former)
            .filter(|name| *name != self.api_name.as_str())
    }

    /// What filters, sorting, import and forms know of the field: a field of the object like the
    /// engine's own, called by its API name.
    ///
    /// ```
    /// use crm_core::schema::FieldType;
    /// use crm_core::value::{ApiName, TextValue};
    /// use crm_custom_objects::{CustomField, CustomFieldType};
    ///
    /// let (deal, renewal) = (ApiName::parse("deal")?, ApiName::parse("renewal_date")?);
    /// let field = CustomField::new(deal, renewal, "Renewal date", CustomFieldType::Date);
    /// let schema = field.field_schema();
    /// assert_eq!(schema.name, "renewal_date");
    /// assert_eq!(schema.field_type, FieldType::Date);
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn field_schema(&self) -> FieldSchema {
        let is_required =
            self.is_required || matches!(self.field_type, CustomFieldType::MasterDetail { .. });
        let field_type = self.field_type.field_type(is_required);
        let help = self.help_text.as_ref().or(self.description.as_ref());
        let default = self.default_value.clone().map(Value::from_json);
        FieldSchema {
            title: Some(Cow::Owned(self.label.clone())),
            help: Cow::Owned(help.cloned().unwrap_or_default()),
            required: is_required,
            read_only: self.field_type.is_computed(),
            privacy: if self.is_personal {
                Privacy::Personal
            } else {
                Privacy::Public
            },
            searchable: self.is_searched(),
            indexed: self.index_state == IndexState::Ready,
            default: default
                .and_then(|value| field_type.coerce(value).ok())
                .unwrap_or_default(),
            ..FieldSchema::new(self.api_name.to_string(), field_type)
        }
    }
}

/// Adds what is wrong with a definition on its own.
fn check_field(field: &CustomField, faults: &mut Faults) {
    let at = |name: Cow<'static, str>| name.into_owned();
    let kind = &field.field_type;
    let mut own = Faults::default();
    kind.check(&CustomField::FIELD_TYPE.name(), &mut own);
    let is_sound = own.is_empty();
    for fault in own
        .into_result()
        .err()
        .into_iter()
        .flat_map(ValidationError::into_errors)
    {
        faults.push(fault);
    }
    for (is_set, name) in [
        (field.is_required, CustomField::IS_REQUIRED.name()),
        (field.is_unique, CustomField::IS_UNIQUE.name()),
        (
            field.default_value.is_some(),
            CustomField::DEFAULT_VALUE.name(),
        ),
    ] {
        if is_set && kind.is_computed() {
            let message = "must not be set for a value that the engine computes";
            faults.add(at(name), codes::INCONSISTENT, message);
        }
    }
    let is_document = matches!(
        kind,
        CustomFieldType::File | CustomFieldType::Json { .. } | CustomFieldType::Multipicklist
    );
    for (is_set, name) in [
        (field.is_unique, CustomField::IS_UNIQUE.name()),
        (field.is_indexed, CustomField::IS_INDEXED.name()),
    ] {
        if is_set && is_document {
            let message = "must not be set for documents and lists, which have no order";
            faults.add(at(name), codes::INCONSISTENT, message);
        }
    }
    if field.controlling_field_id.is_some() && !kind.has_options() {
        let name = at(CustomField::CONTROLLING_FIELD_ID.name());
        faults.add(name, codes::INCONSISTENT, "only picklists are controlled");
    }
    let Some(default) = &field.default_value else {
        return;
    };
    let name = at(CustomField::DEFAULT_VALUE.name());
    if kind.has_options() {
        let message = "mark the option as the default";
        faults.add(name, codes::INCONSISTENT, message);
    } else if !kind.is_computed()
        && is_sound
        && let Err(fault) = check_default(field, default)
    {
        faults.push(FieldError {
            path: name,
            ..fault
        });
    }
}
