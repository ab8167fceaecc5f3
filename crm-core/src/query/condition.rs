//! [`Condition`]: a filter bound to a schema, and the matcher that answers it for one row.

mod binding;

use std::borrow::Cow;
use std::cmp::Ordering;

use uuid::Uuid;

pub(crate) use binding::locate;

use super::{Comparison, Filter, ListMatch, QueryError, RelatedRows, TextMatch, Tree};
use crate::schema::{
    AnyRecord, CustomFieldSchema, FieldSchema, ObjectRef, ObjectSchema, Registry, StorageKind,
    Value, ValueRef, custom_value, system,
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
        binding::bind(filter, object, registry)
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
