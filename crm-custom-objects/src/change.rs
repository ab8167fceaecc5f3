//! What a change of a definition means for the records that there are.

use crm_core::value::Currency;
use rust_decimal::Decimal;

use crate::{CustomField, CustomFieldType, DataType, TextLimits};

/// What a change of a definition means for the values that records have.
///
/// A change of names, labels, help or order means nothing to them; neither does a limit that allows
/// more. Others hold only if every record agrees, which is to be found out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldChange {
    /// Every value stays what it is.
    Harmless,
    /// It holds if these checks find no record.
    Narrowing(Vec<Check>),
    /// The values would have to become others: make a new field instead.
    Refused(&'static str),
}

/// What records have to be checked for before a definition changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// That each has a value.
    HasValue,
    /// That no two have the same value.
    Unique,
    /// That each value, where there is one, is taken by the new definition as it is:
    /// [`CompiledFields::check`](crate::CompiledFields::check) of a document with nothing but the
    /// value, as that of a new record, has no fault and gives it back unchanged.
    Valid,
}

/// The types among which a field may change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family<'a> {
    Text,
    Whole,
    Decimal,
    Money(Currency),
    Boolean,
    Date,
    Timestamp,
    Selections,
    Reference(&'a str),
    Formula(DataType),
    RollUp(DataType),
    File,
    Json,
}

fn family(field_type: &CustomFieldType) -> Family<'_> {
    use crm_core::value::TextValue as _;
    match field_type {
        CustomFieldType::Text(_)
        | CustomFieldType::Textarea(_)
        | CustomFieldType::Email
        | CustomFieldType::Url
        | CustomFieldType::Phone
        | CustomFieldType::Picklist => Family::Text,
        CustomFieldType::Number(_) => Family::Whole,
        CustomFieldType::Decimal(_) | CustomFieldType::Percent(_) => Family::Decimal,
        CustomFieldType::Currency { currency, .. } => Family::Money(*currency),
        CustomFieldType::Boolean => Family::Boolean,
        CustomFieldType::Date => Family::Date,
        CustomFieldType::Datetime => Family::Timestamp,
        CustomFieldType::Multipicklist => Family::Selections,
        CustomFieldType::Lookup { object, .. } | CustomFieldType::MasterDetail { object } => {
            Family::Reference(object.as_str())
        }
        CustomFieldType::Formula { result, .. } => Family::Formula(*result),
        CustomFieldType::RollUp(roll_up) => Family::RollUp(roll_up.result),
        CustomFieldType::File => Family::File,
        CustomFieldType::Json { .. } => Family::Json,
    }
}

impl FieldChange {
    /// What becomes of the values of a field when its definition changes.
    ///
    /// A change that is called harmless never makes a value wrong, nor another one, that was right
    /// before.
    ///
    /// ```
    /// use crm_core::value::{ApiName, TextValue};
    /// use crm_custom_objects::{Check, CustomField, CustomFieldType, FieldChange, TextLimits};
    ///
    /// let (deal, code) = (ApiName::parse("deal")?, ApiName::parse("code")?);
    /// let text = |max| CustomFieldType::Text(TextLimits { max_length: Some(max), ..TextLimits::default() });
    /// let before = CustomField::new(deal, code, "Code", text(20));
    ///
    /// let longer = CustomField { field_type: text(40), ..before.clone() };
    /// assert_eq!(FieldChange::between(&before, &longer), FieldChange::Harmless);
    /// let shorter = CustomField { field_type: text(10), is_required: true, ..before.clone() };
    /// assert_eq!(
    ///     FieldChange::between(&before, &shorter),
    ///     FieldChange::Narrowing(vec![Check::HasValue, Check::Valid]),
    /// );
    /// let day = CustomField { field_type: CustomFieldType::Date, ..before.clone() };
    /// assert!(matches!(FieldChange::between(&before, &day), FieldChange::Refused(_)));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn between(before: &CustomField, after: &CustomField) -> Self {
        if before.object != after.object {
            return Self::Refused("a field stays with its object");
        }
        if before.key.is_some() && before.key != after.key {
            return Self::Refused("the key of a field stays");
        }
        if family(&before.field_type) != family(&after.field_type) {
            return Self::Refused("values of the type are of another kind: make a new field");
        }
        let mut checks = Vec::new();
        if after.needs_value() && !before.needs_value() {
            checks.push(Check::HasValue);
        }
        if after.is_unique && !before.is_unique {
            checks.push(Check::Unique);
        }
        if narrows(&before.field_type, &after.field_type) {
            checks.push(Check::Valid);
        }
        if checks.is_empty() {
            Self::Harmless
        } else {
            Self::Narrowing(checks)
        }
    }

    /// What records have to be checked for.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        match self {
            Self::Narrowing(checks) => checks,
            Self::Harmless | Self::Refused(_) => &[],
        }
    }
}

/// Whether a value that the one type takes may be none of the other's, or have another form there.
fn narrows(before: &CustomFieldType, after: &CustomFieldType) -> bool {
    use CustomFieldType::{
        Currency, Decimal, Email, Json, Number, Percent, Phone, Picklist, Text, Textarea, Url,
    };
    match (before, after) {
        (Text(before), Text(after)) => narrows_text(before, after, 255, 255),
        (Textarea(before), Textarea(after)) => narrows_text(before, after, 32_768, 32_768),
        (Text(before), Textarea(after)) => narrows_text(before, after, 255, 32_768),
        // Options have one line and no limit but that of a text.
        (Picklist, Text(after)) => narrows_text(&TextLimits::default(), after, 255, 255),
        (Picklist, Textarea(after)) => narrows_text(&TextLimits::default(), after, 255, 32_768),
        (Email, Email) | (Url, Url) | (Phone, Phone) | (Picklist, Picklist) => false,
        (Number(before), Number(after)) => {
            after.min.unwrap_or(i32::MIN) > before.min.unwrap_or(i32::MIN)
                || after.max.unwrap_or(i32::MAX) < before.max.unwrap_or(i32::MAX)
        }
        (Decimal(_) | Currency { .. } | Percent(_), _) => {
            let (least, greatest) = range(before);
            let (new_least, new_greatest) = range(after);
            let is_lower = |old: Option<rust_decimal::Decimal>,
                            new: Option<rust_decimal::Decimal>| {
                new.is_some_and(|new| old.is_none_or(|old| new < old))
            };
            let is_higher = |old: Option<rust_decimal::Decimal>,
                             new: Option<rust_decimal::Decimal>| {
                new.is_some_and(|new| old.is_none_or(|old| new > old))
            };
            is_higher(least, new_least) || is_lower(greatest, new_greatest)
        }
        (Json { schema: before }, Json { schema: after }) => after.is_some() && before != after,
        // One kind of text becomes another.
        (Text(_) | Textarea(_) | Email | Url | Phone | Picklist, _) => true,
        _ => false,
    }
}

fn narrows_text(before: &TextLimits, after: &TextLimits, most: u32, new_most: u32) -> bool {
    after.max_length.unwrap_or(new_most) < before.max_length.unwrap_or(most)
        || after.min_length.unwrap_or(0).max(1) > before.min_length.unwrap_or(0).max(1)
        || (after.pattern.is_some() && after.pattern != before.pattern)
}

/// The least and the greatest value that a type of decimal numbers takes.
fn range(field_type: &CustomFieldType) -> (Option<Decimal>, Option<Decimal>) {
    let limits = field_type.decimal_limits();
    let is_percent = matches!(field_type, CustomFieldType::Percent(_));
    (
        limits.min.or(is_percent.then_some(Decimal::ZERO)),
        limits.max.or(is_percent.then_some(Decimal::ONE_HUNDRED)),
    )
}
