//! What names a field: other definitions, and settings of the engine and of hosts.

use std::sync::Arc;

use crm_core::error::Result;
use crm_core::query::{Condition, Query};
use crm_core::schema::{
    Entity as _, FieldSchema, FieldUse, Lifecycle, ObjectRef, Privacy, Row, StorageKind, Value,
    ValueRef,
};
use crm_core::value::TextValue as _;
use crm_core::{EntityRef, Id, Record, UnitOfWork};
use serde_json::Value as Json;

use crate::tenant::Defined;
use crate::{CustomField, CustomFieldRule, CustomFieldType, CustomObject};

/// How many settings are read at once.
const PAGE: usize = 500;

/// The names that lead to a field: its API name, its key and former names.
pub(crate) struct Names<'a> {
    field: &'a CustomField,
}

impl<'a> Names<'a> {
    pub(crate) const fn of(field: &'a CustomField) -> Self {
        Self { field }
    }

    fn is_one(&self, name: &str) -> bool {
        self.field.api_name.as_str() == name || self.field.aliases().any(|alias| alias == name)
    }

    /// Whether a text names the field, plainly or as a member of the document of custom values.
    fn is_path(&self, text: &str) -> bool {
        let name = text.trim_start_matches(['-', '+']);
        let member = name.strip_prefix("custom_fields.");
        self.is_one(member.unwrap_or(name))
    }

    /// Whether an expression names the field; in those of other objects, behind a relation.
    fn is_in_expression(&self, source: &str, is_own: bool) -> bool {
        let mut quote = None;
        let mut word = String::new();
        let mut follows_dot = false;
        // The end is a character like others that end a word.
        for character in source.chars().chain(std::iter::once(' ')) {
            if let Some(open) = quote {
                if character == open {
                    quote = None;
                }
                continue;
            }
            if character.is_alphanumeric() || character == '_' {
                word.push(character);
                continue;
            }
            if !word.is_empty() {
                if (is_own || follows_dot) && self.is_one(&word) {
                    return true;
                }
                word.clear();
                follows_dot = false;
            }
            match character {
                '"' | '\'' => quote = Some(character),
                '.' => follows_dot = true,
                other if !other.is_whitespace() => follows_dot = false,
                _ => {}
            }
        }
        false
    }

    /// Whether a document of settings names the field: as the value of a member about fields, in a
    /// list of such a member, or by the path of a custom value anywhere.
    fn is_in_document(&self, json: &Json, is_about_fields: bool) -> bool {
        match json {
            Json::String(text) => {
                (is_about_fields || text.contains("custom_fields.")) && self.is_path(text)
            }
            Json::Array(entries) => entries
                .iter()
                .any(|entry| self.is_in_document(entry, is_about_fields)),
            Json::Object(members) => members.iter().any(|(name, value)| {
                let is_about_fields = is_about_fields_name(name);
                (name.starts_with("custom_fields.") && self.is_path(name))
                    || self.is_in_document(value, is_about_fields)
            }),
            _ => false,
        }
    }
}

/// Whether a member or a field with this name holds names of fields.
fn is_about_fields_name(name: &str) -> bool {
    let words = ["field", "sort", "group", "column", "path", "by"];
    name.split('_')
        .any(|word| words.contains(&word.trim_end_matches('s')))
}

/// The definitions that compute or judge by a field, or take their choices from it.
pub(crate) async fn in_definitions(
    work: &UnitOfWork,
    id: Id<CustomField>,
    field: &CustomField,
    defined: &Defined,
) -> Result<Vec<FieldUse>> {
    let names = Names::of(field);
    let mut uses = Vec::new();
    let mut add = |record: EntityRef, at: &str| {
        uses.push(FieldUse {
            record,
            at: at.to_owned(),
        });
    };
    for other in defined.fields.iter().filter(|other| other.id != id) {
        let is_own = other.object == field.object;
        let is_named = match &other.field_type {
            CustomFieldType::Formula { expression, .. } => {
                names.is_in_expression(expression, is_own)
            }
            CustomFieldType::RollUp(roll_up) if roll_up.object == field.object => {
                let plain = [Some(&roll_up.by), roll_up.field.as_ref()];
                let filter = serde_json::to_value(&roll_up.filter).unwrap_or_default();
                plain
                    .into_iter()
                    .flatten()
                    .any(|name| names.is_path(name.as_str()))
                    || names.is_in_document(&filter, false)
            }
            _ => false,
        };
        if is_named {
            add(other.id.into(), &CustomField::FIELD_TYPE.name());
        }
        if other.controlling_field_id == Some(id) {
            add(other.id.into(), &CustomField::CONTROLLING_FIELD_ID.name());
        }
    }
    let rules = Query::new(CustomFieldRule::schema(), Condition::not_deleted());
    let rules = work.select(&rules).await?.into_iter();
    let rules = rules.filter_map(Record::<CustomFieldRule>::from_row);
    for rule in rules {
        let is_own = rule.object == field.object;
        if names.is_in_expression(&rule.expression, is_own) {
            add(rule.id.into(), &CustomFieldRule::EXPRESSION.name());
        }
        let told = rule.field.as_ref().filter(|_| is_own);
        if told.is_some_and(|name| names.is_path(name.as_str())) {
            add(rule.id.into(), &CustomFieldRule::FIELD.name());
        }
    }
    for object in &defined.objects {
        let shown = object.record_name_field.as_ref();
        let is_own = object.api_name == field.object;
        if is_own && shown.is_some_and(|name| names.is_path(name.as_str())) {
            add(object.id.into(), &CustomObject::RECORD_NAME_FIELD.name());
        }
    }
    Ok(uses)
}

/// The fields of an object in which settings may name fields: documents, lists, names and conditions
/// that are not about people.
fn naming_fields(object: &ObjectRef) -> Vec<usize> {
    let names = |field: &FieldSchema| {
        let is_public = field.privacy == Privacy::Public && !field.system;
        is_public
            && match field.storage_kind() {
                StorageKind::Json => true,
                StorageKind::List | StorageKind::Text => {
                    is_about_fields_name(&field.name) || field.condition_of.is_some()
                }
                _ => false,
            }
    };
    let fields = object.fields().iter().enumerate();
    fields
        .filter(|(_, field)| names(field))
        .map(|(index, _)| index)
        .collect()
}

/// Whether a setting names the field.
pub(crate) fn is_named(names: &Names<'_>, row: &Row) -> bool {
    let object = row.object();
    naming_fields(object).into_iter().any(|index| {
        let field = object.fields().get(index);
        field.is_some_and(|field| names_field(names, row, index, field))
    })
}

fn names_field(names: &Names<'_>, row: &Row, index: usize, field: &FieldSchema) -> bool {
    match row.value(index) {
        ValueRef::Text(source) if field.condition_of.is_some() => {
            let is_own = field.condition_of.as_deref() == Some(names.field.object.as_str());
            names.is_in_expression(source, is_own)
        }
        ValueRef::Json(json) => names.is_in_document(&json, is_about_fields_name(&field.name)),
        ValueRef::List(entries) => entries.iter().any(|entry| names.is_path(entry)),
        ValueRef::Text(text) => names.is_path(text),
        _ => false,
    }
}

/// The settings of the tenant, the engine's and hosts', that name a field: every object without
/// custom values of its own is looked through for the fields in which it may name fields.
pub(crate) async fn in_settings(work: &UnitOfWork, field: &CustomField) -> Result<Vec<FieldUse>> {
    let names = Names::of(field);
    let own = crate::objects();
    let registry = work.registry().await?;
    let objects: Vec<ObjectRef> = registry.objects().values().cloned().collect();
    let is_setting = |object: &&ObjectRef| {
        object.lifecycle() == Lifecycle::Full
            && !object.is_template()
            && object.custom_document().is_none()
            && !own.contains(object)
    };
    let mut uses = Vec::new();
    for object in objects.iter().filter(is_setting) {
        let fields = naming_fields(object);
        if fields.is_empty() {
            continue;
        }
        let mut query = Query::new(object, Condition::not_deleted()).limit(PAGE);
        loop {
            let rows = work.select(&query).await?;
            for row in &rows {
                let named = fields.iter().filter_map(|index| {
                    let schema = object.fields().get(*index)?;
                    names_field(&names, row, *index, schema).then(|| schema.name.to_string())
                });
                uses.extend(named.map(|at| FieldUse {
                    record: EntityRef::new(object.name(), row.id()),
                    at,
                }));
            }
            match rows.last().filter(|_| rows.len() == PAGE) {
                Some(last) => query.after = Some(vec![Value::Uuid(last.id())]),
                None => break,
            }
        }
    }
    Ok(uses)
}

/// The object that has a field, whoever made it, in use or not.
pub(crate) fn object_of(work: &UnitOfWork, field: &CustomField) -> Option<ObjectRef> {
    let name = field.object.as_str();
    match field.object_id {
        Some(id) => {
            let template = crate::CustomRecord::schema();
            template.instance(name.to_owned(), "", "object_id", id.uuid(), |_| {})
        }
        None => work.session().engine().registry().object(name),
    }
}

/// The record of a field, deleted or not.
pub(crate) async fn field_of(
    work: &UnitOfWork,
    id: Id<CustomField>,
) -> Result<Option<Arc<Record<CustomField>>>> {
    let row = work.row(CustomField::schema(), id.uuid()).await?;
    Ok(row.and_then(Record::from_row))
}

#[cfg(test)]
mod tests {
    use crm_core::value::ApiName;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_where_fields_are_named() {
        let name = |text| ApiName::parse(text).unwrap();
        let mut field = CustomField::new(
            name("deal"),
            name("margin"),
            "Margin",
            CustomFieldType::Boolean,
        );
        field.key = Some(name("rate"));
        let names = Names::of(&field);
        for own in ["margin * 2", "(rate)", "if(margin>1,1,2)"] {
            assert!(names.is_in_expression(own, true), "{own}");
            assert!(!names.is_in_expression(own, false), "{own}");
        }
        assert!(names.is_in_expression("deal_id . margin + 1", false));
        for other in ["margins", "\"margin\"", "'rate' + x", ""] {
            assert!(!names.is_in_expression(other, true), "{other}");
        }
        for document in [
            json!({"and": [{"field": "custom_fields.rate", "op": "is_null"}]}),
            json!({"field": "margin", "op": "is_null"}),
            json!({"required_fields": ["amount", "margin"]}),
            json!({"any": "deal", "where": {"not": {"field": "margin"}}}),
            json!(["custom_fields.margin"]),
        ] {
            assert!(names.is_in_document(&document, false), "{document}");
        }
        for document in [
            json!({"field": "name", "op": "eq", "value": "margin"}),
            json!({"name": "margin"}),
            json!({"field": "margins"}),
        ] {
            assert!(!names.is_in_document(&document, false), "{document}");
        }
    }
}
