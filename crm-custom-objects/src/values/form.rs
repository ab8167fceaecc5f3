//! Which row the value of a field has. Pure.

use chrono::{DateTime, Utc};
use crm_core::Id;
use crm_core::query::fold_case;
use crm_core::schema::{AnyRecord, ObjectSchema, Picklist, TypedValue, ValueRef};
use uuid::Uuid;

use crate::{CustomField, CustomFieldType, CustomValue};

/// Whether the values of a field have their typed rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum IndexState {
    /// They have none: the field is neither unique nor indexed, and no reference.
    #[default]
    None,
    /// Not all have: only those of records written since the field became unique or indexed. Filters
    /// do without, and a new value of a unique field is looked for in all records;
    /// [`rebuild`](crate::CustomValues::rebuild) makes the others.
    Building,
    /// They all have.
    Ready,
    /// They need none any more, and some have. [`rebuild`](crate::CustomValues::rebuild) removes
    /// them.
    Removing,
}

/// What is kept of the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowForm {
    /// Whether no two records have the same value.
    pub(crate) is_unique: bool,
    /// Whether the values lead to records.
    is_reference: bool,
}

impl RowForm {
    /// `None` for fields whose values have no rows.
    pub(crate) fn of(field: &CustomField) -> Option<Self> {
        let is_document = matches!(
            field.field_type,
            CustomFieldType::File | CustomFieldType::Json { .. } | CustomFieldType::Multipicklist
        );
        let is_reference = field.field_type.target().is_some();
        let is_kept = field.is_indexed || field.is_unique || is_reference;
        (is_kept && !is_document).then_some(Self {
            is_unique: field.is_unique,
            is_reference,
        })
    }
}

/// A field of an object whose values have, or had, rows.
#[derive(Clone, Debug)]
pub(crate) struct KeptField {
    pub(crate) id: Id<CustomField>,
    /// Its place among the custom fields of the object.
    pub(crate) position: usize,
    pub(crate) state: IndexState,
    pub(crate) is_unique: bool,
    is_reference: bool,
}

/// A typed row as it is to be, deleted and restored with its record.
#[derive(Clone, PartialEq)]
pub(crate) struct Typed {
    pub(crate) value: CustomValue,
    pub(crate) deleted_at: Option<DateTime<Utc>>,
}

impl KeptField {
    pub(crate) fn of(id: Id<CustomField>, position: usize, field: &CustomField) -> Option<Self> {
        (field.index_state != IndexState::None).then(|| Self {
            id,
            position,
            state: field.index_state,
            is_unique: field.is_unique,
            is_reference: field.field_type.target().is_some(),
        })
    }

    /// The place of the field among all of its object.
    pub(crate) fn place(&self, object: &ObjectSchema) -> usize {
        object.fields().len() + self.position
    }

    /// The id of the row of a record.
    pub(crate) fn row_id(&self, record: Uuid) -> Uuid {
        Uuid::new_v5(&self.id.uuid(), record.as_bytes())
    }

    /// The row that a record has for its value, whatever the state of the field.
    pub(crate) fn row_of(&self, object: &ObjectSchema, record: &dyn AnyRecord) -> Option<Typed> {
        let place = self.place(object);
        let ignore_case = object.custom_at(place)?.field.ignore_case;
        object.read(record, place, |value| {
            let (text_value, number_value) = match TypedValue::of(&value)? {
                TypedValue::Text(text) => (Some(text), None),
                TypedValue::Number(number) => (None, Some(number)),
            };
            let value = CustomValue {
                object: object.name().to_owned(),
                record_id: record.id(),
                field_id: self.id,
                text_value,
                number_value: number_value.map(|number| number.normalize()),
                unique_key: self.is_unique.then(|| unique_key(&value, ignore_case)),
                target_id: value.as_uuid().filter(|_| self.is_reference),
            };
            Some(Typed {
                value,
                deleted_at: record.meta().deleted_at,
            })
        })
    }
}

/// Keys of more characters than these are cut, and told apart by a digest.
const WHOLE: usize = 200;
/// How many characters of a longer one are kept.
const BEGINNING: usize = 180;

/// The form of a value in which it is the same as that of another record just where the two are
/// equal.
fn unique_key(value: &ValueRef<'_>, ignore_case: bool) -> String {
    let text = match value {
        ValueRef::Text(text) if ignore_case => fold_case(text),
        ValueRef::Text(text) => (*text).to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Decimal(number) => number.normalize().to_string(),
        ValueRef::Boolean(value) => value.to_string(),
        ValueRef::Date(day) => day.to_string(),
        ValueRef::Timestamp(at) => at.timestamp_micros().to_string(),
        ValueRef::Uuid(id) => id.to_string(),
        ValueRef::Null | ValueRef::List(_) | ValueRef::Json(_) => String::new(),
    };
    if text.chars().nth(WHOLE).is_none() {
        return text;
    }
    // Longer than any that is whole.
    let beginning: String = text.chars().take(BEGINNING).collect();
    let digest = Uuid::new_v5(&Uuid::nil(), text.as_bytes());
    format!("{beginning}{}", digest.hyphenated())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;

    #[test]
    fn keys_of_equal_values_are_equal() {
        let key = |value: ValueRef<'_>| unique_key(&value, false);
        let number = |text: &str| key(ValueRef::Decimal(text.parse().unwrap()));
        assert_eq!(number("1.50"), number("1.5"));
        assert_eq!(number("-0.0"), number("0"));
        assert_ne!(number("1.5"), number("15"));
        assert_ne!(key(ValueRef::Text("a")), key(ValueRef::Text("A")));
        assert_eq!(
            unique_key(&ValueRef::Text("STRASSE"), true),
            unique_key(&ValueRef::Text("strasse"), true)
        );
    }

    proptest! {
        /// Two values have one key just where they are one value, however long they are; and keys
        /// fit their column.
        #[test]
        fn keys_tell_values_apart(begin in "[aß]{0,2}", end in "[aé]{0,2}", length in 150_usize..260, other in 150_usize..260) {
            let text = |length| format!("{begin}{}{end}", "x".repeat(length));
            let (one, two) = (text(length), text(other));
            let keys = [&one, &two].map(|text| unique_key(&ValueRef::Text(text), false));
            prop_assert_eq!(one == two, keys[0] == keys[1]);
            prop_assert!(keys.iter().all(|key| key.chars().count() <= 255));
        }

        #[test]
        fn numbers_have_one_key(mantissa: i64, scale in 0_u32..10, zeros in 0_u32..5) {
            let number = Decimal::new(mantissa, scale);
            let mut same = number;
            same.rescale(scale + zeros);
            let keys = [number, same].map(|number| unique_key(&ValueRef::Decimal(number), false));
            prop_assert_eq!(&keys[0], &keys[1]);
        }
    }
}
