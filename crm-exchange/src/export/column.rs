//! The columns of an export: paths through the schema, checked before anything is read.

use crm_core::query::FieldAt;
use crm_core::schema::{
    CUSTOM_FIELDS, FieldSchema, ObjectRef, Privacy, Registry, Row, StorageKind, Value, ValueRef,
};

use super::{ExportError, Headers, Related};
use crate::secret::is_secret;

/// A column: the references to follow, then a field or a member of a JSON field.
#[derive(Debug)]
pub(super) struct Column {
    /// As it was named: `account_id.name`.
    pub(super) path: String,
    /// What stands at its head.
    pub(super) header: String,
    /// The references on the way, from the record on.
    pub(super) hops: Vec<Hop>,
    pub(super) is_personal: bool,
    field: FieldAt,
    /// The members on the way into a document of which nobody said what it holds.
    member: Vec<String>,
}

/// A reference to follow.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) field: FieldAt,
    pub(super) target: ObjectRef,
}

/// Resolves the columns that are named, or takes every field that is no secret.
pub(super) fn resolve(
    object: &ObjectRef,
    registry: &Registry,
    named: Option<&[String]>,
    personal: bool,
    headers: Headers,
) -> Result<Vec<Column>, ExportError> {
    let mut columns: Vec<Column> = Vec::new();
    match named {
        Some(paths) => {
            for path in paths {
                let column = column(object, registry, path, headers)?;
                if column.is_personal && !personal {
                    return Err(ExportError::PersonalColumn {
                        column: path.clone(),
                    });
                }
                if columns.iter().any(|other| other.path == column.path) {
                    return Err(ExportError::RepeatedColumn {
                        column: path.clone(),
                    });
                }
                columns.push(column);
            }
        }
        None => {
            let is_wanted = |field: &FieldSchema| match field.privacy {
                Privacy::Public => true,
                Privacy::Personal => personal,
                Privacy::Sensitive => false,
            };
            let document = object
                .custom_document()
                .filter(|_| object.custom().is_some());
            for (index, field) in object.fields().iter().enumerate() {
                // Of the document with custom fields, each of them, as its definition says.
                if Some(index) == document {
                    let custom = object.custom_fields().iter();
                    for custom in custom.filter(|custom| custom.active && is_wanted(&custom.field))
                    {
                        let path = format!("{}.{}", field.name, custom.field.name);
                        columns.push(column(object, registry, &path, headers)?);
                    }
                } else if is_wanted(field) {
                    columns.push(column(object, registry, &field.name, headers)?);
                }
            }
        }
    }
    if columns.is_empty() {
        return Err(ExportError::ColumnCount {
            max: super::xlsx_file::COLUMNS,
        });
    }
    Ok(columns)
}

fn column(
    object: &ObjectRef,
    registry: &Registry,
    path: &str,
    headers: Headers,
) -> Result<Column, ExportError> {
    let unknown = || ExportError::UnknownColumn {
        column: path.to_owned(),
    };
    let mut hops = Vec::new();
    let mut labels = Vec::new();
    let mut is_personal = false;
    let mut place = object.clone();
    let mut names = path.split('.');
    loop {
        let name = names.next().ok_or_else(unknown)?;
        let own = place.field_index(name);
        // A custom field by its name alone, or behind the name of the document.
        let is_document = own.is_some() && own == place.custom_document();
        let custom = match own {
            None => place.custom_field(name),
            Some(_) if is_document && place.custom().is_some() => match names.clone().next() {
                Some(member) => {
                    names.next();
                    Some(place.custom_field(member).ok_or_else(unknown)?)
                }
                None => None,
            },
            Some(_) => None,
        };
        let (at, field) = match custom {
            Some(custom) => {
                FieldAt::named(&place, &format!("{CUSTOM_FIELDS}.{}", custom.field.name))
            }
            None => FieldAt::named(&place, name),
        }
        .map_err(|_| unknown())?;
        let field: FieldSchema = field.clone();
        match field.privacy {
            Privacy::Public => {}
            Privacy::Personal => is_personal = true,
            Privacy::Sensitive => {
                return Err(ExportError::SensitiveColumn {
                    column: path.to_owned(),
                });
            }
        }
        labels.push(field.label());
        let rest: Vec<String> = names.clone().map(str::to_owned).collect();
        let is_document = custom.is_none() && field.storage_kind() == StorageKind::Json;
        if rest.is_empty() || is_document {
            labels.extend(rest.iter().cloned());
            return Ok(Column {
                path: path.to_owned(),
                header: match headers {
                    Headers::Names => path.to_owned(),
                    Headers::Labels => labels.join(" / "),
                },
                hops,
                is_personal,
                field: at,
                member: rest,
            });
        }
        let (target, _) = field.reference().ok_or_else(unknown)?;
        let target = registry.object(target).ok_or_else(unknown)?;
        hops.push(Hop {
            field: at,
            target: target.clone(),
        });
        place = target;
    }
}

impl Column {
    /// The value of the column for a record; none where a reference is empty or leads to a record
    /// that is deleted, and where the value is a secret.
    pub(super) fn value(&self, row: &Row, related: &Related) -> Value {
        let mut row = row.clone();
        for hop in &self.hops {
            let next = hop.field.id(&*row);
            match next.and_then(|id| related.row(&hop.target, id)) {
                Some(next) => row = next,
                None => return Value::Null,
            }
        }
        self.field.with(&*row, |value| {
            if is_secret(&value) {
                return Value::Null;
            }
            if self.member.is_empty() {
                return value.into_owned();
            }
            let ValueRef::Json(document) = value else {
                return Value::Null;
            };
            let mut member = &*document;
            for name in &self.member {
                match member.get(name) {
                    Some(inner) => member = inner,
                    None => return Value::Null,
                }
            }
            Value::from_json(member.clone())
        })
    }
}
