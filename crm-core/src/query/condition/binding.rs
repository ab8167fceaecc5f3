//! How a filter is bound to a schema: fields are found, and values made those of their fields.

use std::borrow::Cow;

use super::{Condition, FieldAt, fold_case};
use crate::query::tree::parent_of;
use crate::query::{Comparison, Filter, QueryError, Tree};
use crate::schema::{FieldSchema, FieldType, ObjectRef, Registry, StorageKind, Value, system};

/// Binds a filter; see [`Condition::bind`].
pub(super) fn bind(
    filter: &Filter,
    object: &ObjectRef,
    registry: &Registry,
) -> Result<Condition, QueryError> {
    let mut binder = Binder {
        registry,
        conditions: 0,
    };
    binder.bind(filter, &registry.described(object), 1)
}

/// Binds one filter, and counts its conditions.
struct Binder<'a> {
    registry: &'a Registry,
    conditions: usize,
}

impl Binder<'_> {
    fn bind(
        &mut self,
        filter: &Filter,
        object: &ObjectRef,
        depth: usize,
    ) -> Result<Condition, QueryError> {
        if depth > Filter::MAX_DEPTH {
            return Err(QueryError::TooDeep {
                max: Filter::MAX_DEPTH,
            });
        }
        self.conditions += 1;
        if self.conditions > Filter::MAX_CONDITIONS {
            return Err(too_large("conditions", Filter::MAX_CONDITIONS));
        }
        Ok(match filter {
            Filter::Compare { field, op, value } => {
                let (mut at, schema) = locate(object, field)?;
                let ordered = !matches!(op, Comparison::Eq | Comparison::Ne);
                // Texts have one order, that of their bytes.
                at.ignore_case &= !ordered;
                if !comparable(schema, &at, ordered) {
                    return Err(unsupported(field, op.name()));
                }
                if value.is_null() {
                    return match op {
                        Comparison::Eq => Ok(Condition::Null {
                            field: at,
                            is_null: true,
                        }),
                        Comparison::Ne => Ok(Condition::Null {
                            field: at,
                            is_null: false,
                        }),
                        _ => Err(wrong_type(field, "must not be null")),
                    };
                }
                let value = operand(schema, &at, field, value)?;
                Condition::Compare {
                    field: at,
                    op: *op,
                    value,
                }
            }
            Filter::In { field, values } => {
                let (at, schema) = locate(object, field)?;
                if !comparable(schema, &at, false) {
                    return Err(unsupported(field, "in"));
                }
                check_values(values.len())?;
                let values = values
                    .iter()
                    .map(|value| match value {
                        Value::Null => Err(wrong_type(field, "must not be null; use `is_null`")),
                        value => operand(schema, &at, field, value),
                    })
                    .collect::<Result<_, _>>()?;
                Condition::In { field: at, values }
            }
            Filter::Between { field, from, to } => {
                let bound = |op, value: &Value| Filter::Compare {
                    field: field.clone(),
                    op,
                    value: value.clone(),
                };
                Condition::And(vec![
                    self.bind(&bound(Comparison::Ge, from), object, depth + 1)?,
                    self.bind(&bound(Comparison::Le, to), object, depth + 1)?,
                ])
            }
            Filter::Null { field, is_null } => Condition::Null {
                field: locate(object, field)?.0,
                is_null: *is_null,
            },
            Filter::Text { field, op, text } => {
                let (at, schema) = locate(object, field)?;
                if !at.is_untyped() && schema.storage_kind() != StorageKind::Text {
                    return Err(unsupported(field, op.name()));
                }
                Condition::Text {
                    field: at,
                    op: *op,
                    folded: fold_case(text),
                }
            }
            Filter::List { field, op, values } => {
                let (at, schema) = locate(object, field)?;
                if schema.storage_kind() != StorageKind::List {
                    return Err(unsupported(field, op.name()));
                }
                check_values(values.len())?;
                Condition::List {
                    field: at,
                    op: *op,
                    values: values.clone(),
                }
            }
            Filter::Has { field, filter } => {
                let (at, schema) = locate(object, field)?;
                let Some((target, _)) = schema.reference() else {
                    return Err(unsupported(field, "has"));
                };
                let target = self
                    .registry
                    .object(target)
                    .ok_or_else(|| QueryError::UnknownObject(target.to_owned()))?;
                let condition = Box::new(self.bind(filter, &target, depth + 1)?);
                Condition::Has {
                    field: at,
                    object: target,
                    condition,
                }
            }
            Filter::Any {
                object: name,
                by,
                filter,
            } => {
                let from = self
                    .registry
                    .object(name)
                    .ok_or_else(|| QueryError::UnknownObject(name.clone().into_owned()))?;
                let field = reference_to(&from, by, object)?;
                let condition = Box::new(self.bind(filter, &from, depth + 1)?);
                Condition::Any {
                    object: from,
                    field,
                    condition,
                }
            }
            Filter::InTree {
                field,
                part,
                of,
                by,
            } => {
                let (at, schema) = locate(object, field)?;
                let target = match schema.reference() {
                    Some((target, _)) => self
                        .registry
                        .object(target)
                        .ok_or_else(|| QueryError::UnknownObject(target.to_owned()))?,
                    None if at == FieldAt::new(system::ID) => object.clone(),
                    None => return Err(unsupported(field, part.name())),
                };
                let Some(parent) = parent_of(&target, by.as_deref()) else {
                    let named = by.as_ref().unwrap_or(field);
                    return Err(unsupported(named, part.name()));
                };
                Condition::InTree {
                    field: at,
                    tree: Tree {
                        object: target,
                        parent,
                        part: *part,
                        of: *of,
                    },
                }
            }
            Filter::And(all) => Condition::And(self.bind_all(all, object, depth)?),
            Filter::Or(all) => Condition::Or(self.bind_all(all, object, depth)?),
            Filter::Not(filter) => {
                Condition::Not(Box::new(self.bind(filter, object, depth + 1)?))
            }
        })
    }

    fn bind_all(
        &mut self,
        all: &[Filter],
        object: &ObjectRef,
        depth: usize,
    ) -> Result<Vec<Condition>, QueryError> {
        all.iter()
            .map(|filter| self.bind(filter, object, depth + 1))
            .collect()
    }
}

/// Finds a field by name: one of the object's own, one that the tenant added (`region`, or
/// `custom_fields.region`), or a member of a JSON field by `field.member`.
pub(crate) fn locate<'a>(
    object: &'a ObjectRef,
    name: &str,
) -> Result<(FieldAt, &'a FieldSchema), QueryError> {
    let unknown = || QueryError::UnknownField {
        object: object.name().to_owned(),
        field: name.to_owned(),
    };
    let (field, member) = match name.split_once('.') {
        Some((field, member)) => (field, Some(member)),
        None => (name, None),
    };
    let own = object.field_index(field);
    let is_custom = own.is_none() || member.is_some() && own == object.custom_document();
    // Where an object of the engine has rules but no fields of the tenant, its document stays free.
    let is_free = object.custom_fields().is_empty() && object.template().is_none();
    if let (true, Some(custom), Some(document)) = (
        is_custom && !is_free,
        object.custom(),
        object.custom_document(),
    ) {
        let name = match (own, member) {
            (None, Some(_)) => return Err(unknown()),
            (_, Some(member)) => member,
            (_, None) => field,
        };
        let custom = custom.field(name).ok_or_else(unknown)?;
        return Ok((FieldAt::of_custom(document, custom), &custom.field));
    }
    let index = own.ok_or_else(unknown)?;
    let schema = object.fields().get(index).ok_or_else(unknown)?;
    if member.is_some() && schema.storage_kind() != StorageKind::Json {
        return Err(unknown());
    }
    let at = FieldAt {
        index,
        member: member.map(Into::into),
        custom: None,
        ignore_case: member.is_none() && schema.ignore_case,
    };
    Ok((at, schema))
}

/// The reference `by` of the object `from`, which must lead to records of `target`.
fn reference_to(from: &ObjectRef, by: &str, target: &ObjectRef) -> Result<FieldAt, QueryError> {
    let leads_here = |schema: &FieldSchema| {
        let reference = schema.reference();
        reference.is_some_and(|(name, _)| name == target.name())
    };
    match locate(from, by) {
        Ok((at, schema)) if leads_here(schema) => Ok(at),
        _ => {
            let fitting = from.fields().iter().filter(|schema| leads_here(schema));
            Err(QueryError::NoReference {
                object: from.name().to_owned(),
                field: by.to_owned(),
                target: target.name().to_owned(),
                fitting: fitting.map(|schema| schema.name.to_string()).collect(),
            })
        }
    }
}

fn comparable(schema: &FieldSchema, at: &FieldAt, ordered: bool) -> bool {
    at.is_untyped()
        || match schema.storage_kind() {
            StorageKind::List | StorageKind::Json => false,
            StorageKind::Boolean => !ordered,
            _ => true,
        }
}

fn operand(
    schema: &FieldSchema,
    at: &FieldAt,
    name: &str,
    value: &Value,
) -> Result<Value, QueryError> {
    if at.is_untyped() {
        return match value {
            Value::List(_) | Value::Json(_) => Err(wrong_type(name, "must be a single value")),
            // The forms in which JSON fields hold these.
            Value::Date(_) | Value::Timestamp(_) | Value::Uuid(_) => {
                Ok(Value::from_json(value.to_json()))
            }
            other => Ok(other.clone()),
        };
    }
    let coerced = coerce(&schema.field_type, value)
        .map_err(|fault| wrong_type(name, fault.at(name).message))?;
    Ok(match coerced {
        Value::Null => wrong_type_blank(name)?,
        Value::Text(text) if at.ignore_case => Value::Text(fold_case(&text)),
        other => other,
    })
}

fn wrong_type_blank(name: &str) -> Result<Value, QueryError> {
    Err(wrong_type(name, "must not be blank; use `is_null`"))
}

/// Gives a filter's value the kind of its field. A value outside the field's limits is still a
/// value to compare with: it only matches nothing.
fn coerce(field_type: &FieldType, value: &Value) -> Result<Value, crate::schema::Fault> {
    let lenient = match field_type {
        FieldType::Text { .. } => FieldType::Text {
            max_length: u32::MAX,
            multiline: true,
        },
        FieldType::Url { .. } => FieldType::Url {
            max_length: u32::MAX,
        },
        FieldType::Integer { .. } | FieldType::Score => FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        FieldType::Decimal { .. } | FieldType::Percent => FieldType::Decimal {
            precision: 57,
            scale: 28,
            min: None,
            max: None,
            currency_field: None,
        },
        other => return other.coerce(value.clone()),
    };
    lenient.coerce(value.clone())
}

fn unsupported(field: &str, operation: impl Into<Cow<'static, str>>) -> QueryError {
    QueryError::Unsupported {
        field: field.to_owned(),
        operation: operation.into(),
    }
}

fn wrong_type(field: &str, reason: impl Into<Cow<'static, str>>) -> QueryError {
    QueryError::WrongType {
        field: field.to_owned(),
        reason: reason.into(),
    }
}

fn too_large(what: &'static str, max: usize) -> QueryError {
    QueryError::TooLarge { what, max }
}

fn check_values(count: usize) -> Result<(), QueryError> {
    if count > Filter::MAX_VALUES {
        return Err(too_large("values", Filter::MAX_VALUES));
    }
    Ok(())
}
