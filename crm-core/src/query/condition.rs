//! [`Condition`]: a filter bound to a schema, and the matcher that answers it for one row.

use std::borrow::Cow;
use std::cmp::Ordering;

use uuid::Uuid;

use super::tree::parent_of;
use super::{Comparison, Filter, ListMatch, QueryError, RelatedRows, TextMatch, Tree};
use crate::schema::{
    AnyRecord, CustomFieldSchema, FieldSchema, FieldType, ObjectRef, ObjectSchema, Registry,
    StorageKind, Value, ValueRef, custom_value, system,
};

/// A field of a bound condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldAt {
    /// The field's place in the schema.
    pub index: usize,
    /// The member of a JSON field.
    pub member: Option<Box<str>>,
    /// What a member is, where the tenant defined it: its values are read as this kind. Members
    /// that nobody defined may hold anything.
    pub custom: Option<CustomMember>,
    /// Whether `eq`, `ne` and `in` ignore case; the values of the condition are folded then.
    pub ignore_case: bool,
}

/// What a custom field is that a condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomMember {
    /// The definition.
    pub field: Uuid,
    /// How its values are held.
    pub kind: StorageKind,
    /// Whether it is served by typed rows.
    pub indexed: bool,
}

impl FieldAt {
    /// The field at `index` itself.
    #[must_use]
    pub const fn new(index: usize) -> Self {
        Self {
            index,
            member: None,
            custom: None,
            ignore_case: false,
        }
    }

    /// Whether the field is a member of a document of which nobody said what it holds.
    #[must_use]
    pub const fn is_untyped(&self) -> bool {
        self.member.is_some() && self.custom.is_none()
    }

    /// The field of this name: one of the object's own, one that the tenant added (`region`, or
    /// `custom_fields.region`), or a member of a document.
    ///
    /// # Errors
    /// [`QueryError::UnknownField`].
    pub fn named<'o>(
        object: &'o ObjectRef,
        name: &str,
    ) -> Result<(Self, &'o FieldSchema), QueryError> {
        locate(object, name)
    }

    /// The place of the field, where queries can sort, group and compute by it: of one of the
    /// object's own, or of a custom field as
    /// [`ObjectSchema::custom_at`](crate::schema::ObjectSchema::custom_at) counts.
    #[must_use]
    pub fn place(&self, object: &ObjectSchema) -> Option<usize> {
        match &self.member {
            None => Some(self.index),
            Some(key) if self.custom.is_some() => object.custom_place(key),
            Some(_) => None,
        }
    }

    /// The field at a place, as [`place`](Self::place) gave it.
    #[must_use]
    pub fn at_place(object: &ObjectSchema, place: usize) -> Option<Self> {
        if let Some(field) = object.fields().get(place) {
            return Some(Self {
                ignore_case: field.ignore_case,
                ..Self::new(place)
            });
        }
        Some(Self::of_custom(
            object.custom_document()?,
            object.custom_at(place)?,
        ))
    }

    fn of_custom(document: usize, custom: &CustomFieldSchema) -> Self {
        Self {
            index: document,
            member: Some(custom.key.clone()),
            custom: Some(CustomMember {
                field: custom.id,
                kind: custom.field.storage_kind(),
                indexed: custom.field.indexed,
            }),
            ignore_case: custom.field.ignore_case,
        }
    }

    /// The id that a row has in the field. A member of a document that nobody defined holds it as a
    /// text, in lower case and with hyphens.
    #[must_use]
    pub fn id(&self, row: &dyn AnyRecord) -> Option<Uuid> {
        self.with(row, |value| match value {
            ValueRef::Text(text) if self.is_untyped() => {
                let id = Uuid::parse_str(text).ok()?;
                let mut canonical = Uuid::encode_buffer();
                (id.hyphenated().encode_lower(&mut canonical) == text).then_some(id)
            }
            value => value.as_uuid(),
        })
    }

    /// The value of a row, copied.
    #[must_use]
    pub fn value(&self, row: &dyn AnyRecord) -> Value {
        self.with(row, |value| value.into_owned())
    }

    /// The value of a member of a document, as it is in a row that has the document.
    #[must_use]
    pub fn member_of(&self, document: &serde_json::Value) -> Value {
        let member = self.member.as_ref().and_then(|name| document.get(&**name));
        match (member, &self.custom) {
            (None, _) => Value::Null,
            (Some(json), None) => Value::from_json(json.clone()),
            (Some(json), Some(custom)) => {
                custom_value(json, custom.kind, |value| value.into_owned())
            }
        }
    }

    /// Hands over the value of a row.
    pub fn with<R>(&self, row: &dyn AnyRecord, answer: impl FnOnce(ValueRef<'_>) -> R) -> R {
        let value = row.value(self.index);
        let Some(member) = &self.member else {
            return answer(value);
        };
        let ValueRef::Json(json) = value else {
            return answer(ValueRef::Null);
        };
        let Some(value) = json.get(&**member) else {
            return answer(ValueRef::Null);
        };
        match &self.custom {
            Some(custom) => custom_value(value, custom.kind, answer),
            None => answer(Value::from_json(value.clone()).as_ref()),
        }
    }
}

/// A [`Filter`] bound to the schema of an object: every field exists, every value is of the kind
/// that its field holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Condition {
    /// A field compared with a value that is not null.
    Compare {
        /// The field.
        field: FieldAt,
        /// How.
        op: Comparison,
        /// The value.
        value: Value,
    },
    /// A field has one of several values.
    In {
        /// The field.
        field: FieldAt,
        /// The values.
        values: Vec<Value>,
    },
    /// A field has no value, or has one.
    Null {
        /// The field.
        field: FieldAt,
        /// Whether it must have none.
        is_null: bool,
    },
    /// A text field begins with a text or contains it.
    Text {
        /// The field.
        field: FieldAt,
        /// How.
        op: TextMatch,
        /// The text, with its case folded.
        folded: String,
    },
    /// A list field has any or all of some entries.
    List {
        /// The field.
        field: FieldAt,
        /// How.
        op: ListMatch,
        /// The entries.
        values: Vec<String>,
    },
    /// The live record that a reference leads to fulfils a condition.
    Has {
        /// The reference.
        field: FieldAt,
        /// The other object.
        object: ObjectRef,
        /// The condition over the other object.
        condition: Box<Condition>,
    },
    /// A live record of another object leads to this one and fulfils a condition.
    Any {
        /// The other object.
        object: ObjectRef,
        /// Its reference to this record.
        field: FieldAt,
        /// The condition over the other object.
        condition: Box<Condition>,
    },
    /// A reference, or the record's own id, leads into a part of a tree.
    InTree {
        /// The field.
        field: FieldAt,
        /// The part of the tree.
        tree: Tree,
    },
    /// All of these.
    And(Vec<Condition>),
    /// Any of these.
    Or(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
}

/// Folds the case of a text, for comparisons that ignore it: Unicode's lower case.
///
/// ```
/// assert_eq!(crm_core::query::fold_case("Straße ÉTÉ"), "straße été");
/// ```
#[must_use]
pub fn fold_case(text: &str) -> String {
    text.to_lowercase()
}

fn same_folded(text: &str, folded: &str) -> bool {
    if text.is_ascii() {
        text.eq_ignore_ascii_case(folded)
    } else {
        fold_case(text) == folded
    }
}

impl Condition {
    /// Takes every row.
    #[must_use]
    pub const fn all() -> Self {
        Self::And(Vec::new())
    }

    /// Binds a filter to the schema of `object`; `registry` knows the objects that references lead
    /// to.
    ///
    /// # Errors
    /// Unknown fields, values and operators that do not fit, filters that are too deep or large.
    pub fn bind(
        filter: &Filter,
        object: &ObjectRef,
        registry: &Registry,
    ) -> Result<Self, QueryError> {
        let mut binder = Binder {
            registry,
            conditions: 0,
        };
        binder.bind(filter, &registry.described(object), 1)
    }

    /// Whether the row fulfils the condition.
    #[must_use]
    pub fn matches(&self, row: &dyn AnyRecord, related: &RelatedRows<'_>) -> bool {
        match self {
            Self::Compare { field, op, value } => {
                field.with(row, |own| compares(&own, *op, value, field.ignore_case))
            }
            Self::In { field, values } => field.with(row, |own| {
                !own.is_null()
                    && values
                        .iter()
                        .any(|value| compares(&own, Comparison::Eq, value, field.ignore_case))
            }),
            Self::Null { field, is_null } => field.with(row, |own| own.is_null() == *is_null),
            Self::Text { field, op, folded } => field.with(row, |own| {
                let Some(text) = own.as_text() else {
                    return false;
                };
                let text: Cow<'_, str> = Cow::Owned(fold_case(text));
                match op {
                    TextMatch::StartsWith => text.starts_with(folded.as_str()),
                    TextMatch::Contains => text.contains(folded.as_str()),
                }
            }),
            Self::List { field, op, values } => field.with(row, |own| {
                let entries = match &own {
                    ValueRef::List(entries) => *entries,
                    _ => return false,
                };
                match op {
                    ListMatch::Any => values.iter().any(|value| entries.contains(value)),
                    ListMatch::All => values.iter().all(|value| entries.contains(value)),
                }
            }),
            Self::Has {
                field,
                object,
                condition,
            } => {
                let Some(id) = field.id(row) else {
                    return false;
                };
                related
                    .get(object, id)
                    .is_some_and(|row| !row.is_deleted() && condition.matches(&*row, related))
            }
            Self::Any {
                object,
                field,
                condition,
            } => related.any(object, field, row.id(), condition),
            Self::InTree { field, tree } => {
                field.id(row).is_some_and(|id| tree.contains(id, related))
            }
            Self::And(all) => all.iter().all(|condition| condition.matches(row, related)),
            Self::Or(all) => all.iter().any(|condition| condition.matches(row, related)),
            Self::Not(condition) => !condition.matches(row, related),
        }
    }

    /// Both conditions.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::And(all), other) if all.is_empty() => other,
            (own, Self::And(all)) if all.is_empty() => own,
            (Self::And(mut all), other) => {
                all.push(other);
                Self::And(all)
            }
            (own, other) => Self::And(vec![own, other]),
        }
    }

    /// The conditions that must all be fulfilled.
    #[must_use]
    pub fn conjuncts(&self) -> &[Self] {
        match self {
            Self::And(all) => all,
            one => std::slice::from_ref(one),
        }
    }

    /// The record is not deleted.
    #[must_use]
    pub const fn not_deleted() -> Self {
        Self::Null {
            field: FieldAt::new(system::DELETED_AT),
            is_null: true,
        }
    }

    /// The record is not archived.
    #[must_use]
    pub const fn not_archived() -> Self {
        Self::Null {
            field: FieldAt::new(system::ARCHIVED_AT),
            is_null: true,
        }
    }

    /// The field at `index` is `value`, in the same case.
    #[must_use]
    pub const fn equals(index: usize, value: Value) -> Self {
        Self::Compare {
            field: FieldAt::new(index),
            op: Comparison::Eq,
            value,
        }
    }
}

fn compares(own: &ValueRef<'_>, op: Comparison, value: &Value, ignore_case: bool) -> bool {
    if own.is_null() {
        return op == Comparison::Ne;
    }
    let value = value.as_ref();
    if let (true, ValueRef::Text(own), ValueRef::Text(folded)) = (ignore_case, own, &value) {
        match op {
            Comparison::Eq => return same_folded(own, folded),
            Comparison::Ne => return !same_folded(own, folded),
            _ => {}
        }
    }
    let same_kind = std::mem::discriminant(own) == std::mem::discriminant(&value)
        || own.as_decimal().is_some() && value.as_decimal().is_some();
    if !same_kind {
        // Members of JSON fields may hold anything.
        return op == Comparison::Ne;
    }
    if let (ValueRef::Json(a), ValueRef::Json(b)) = (own, &value) {
        return match op {
            Comparison::Eq => a == b,
            Comparison::Ne => a != b,
            _ => false,
        };
    }
    let order = own.sort_order(&value);
    match op {
        Comparison::Eq => order == Ordering::Equal,
        Comparison::Ne => order != Ordering::Equal,
        Comparison::Lt => order == Ordering::Less,
        Comparison::Le => order != Ordering::Greater,
        Comparison::Gt => order == Ordering::Greater,
        Comparison::Ge => order != Ordering::Less,
    }
}

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
