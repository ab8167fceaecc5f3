//! [`Criteria`]: which accounts a territory takes, as a filter.

use std::borrow::Cow;

use crate::accounts::Account;
use crate::query::{Condition, Filter, Where};
use crate::schema::{
    Entity, FieldSet, FieldType, FieldValue, Registry, Value, ValueRef, from_json, system,
};
use crate::value::ValueError;

/// Which accounts a territory takes: a filter over the account's own fields, custom fields included.
///
/// ```
/// use crm_core::accounts::{Account, AccountType};
/// use crm_core::query::{Filter, WhereExt};
/// use crm_core::territories::Criteria;
///
/// let large = Criteria::from(
///     Account::ACCOUNT_TYPE.eq(AccountType::Customer).and(Account::EMPLOYEE_COUNT.ge(500)),
/// );
/// let by_name = Criteria::from(Filter::eq("custom_fields.segment", "enterprise"));
/// ```
#[derive(Clone, PartialEq)]
pub struct Criteria(pub Filter);

impl From<Filter> for Criteria {
    fn from(filter: Filter) -> Self {
        Self(filter)
    }
}

impl From<Where<Account>> for Criteria {
    fn from(filter: Where<Account>) -> Self {
        Self(filter.into_filter())
    }
}

/// Does not show the filter: its values may be personal.
impl std::fmt::Debug for Criteria {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Criteria").finish_non_exhaustive()
    }
}

impl FieldValue for Criteria {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Json(Cow::Owned(
            serde_json::to_value(&self.0).unwrap_or_default(),
        ))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        let json: serde_json::Value = from_json(value)?;
        Filter::from_json(&json)
            .map(Self)
            .map_err(|error| ValueError::new(error.code(), error.to_string()))
    }

    fn normalize(&mut self) {
        // As it comes back from its stored form.
        if let Ok(stored) = Self::from_value(self.value().into_owned()) {
            *self = stored;
        }
    }
}

/// What is wrong with criteria: a code and a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    fn unsupported(message: String) -> Self {
        Self {
            code: "unsupported",
            message,
        }
    }
}

/// Binds criteria to the schema of accounts; gives the fields that they look at besides.
///
/// # Errors
/// What does not fit the schema. Conditions over other records: a change of those would move
/// accounts that nobody wrote. Fields that change with every write or that the match itself sets.
pub(super) fn bind(
    criteria: &Criteria,
    registry: &Registry,
) -> Result<(Condition, FieldSet), Refusal> {
    let object = Account::schema();
    let condition = Condition::bind(&criteria.0, object, registry).map_err(|error| Refusal {
        code: error.code(),
        message: error.to_string(),
    })?;
    let mut fields = FieldSet::default();
    look_at(&condition, &mut fields)?;
    let own = [
        Account::TERRITORY_ID.name(),
        Account::TERRITORY_IS_MANUAL.name(),
    ];
    for index in fields.iter() {
        let name = object.field_name(index);
        let is_stamp = matches!(
            index,
            system::VERSION | system::UPDATED_AT | system::UPDATED_BY | system::UPDATED_BY_ID
        );
        if is_stamp || own.iter().any(|own| own == name) {
            return Err(Refusal::unsupported(format!(
                "must not look at `{name}`, which the match itself changes"
            )));
        }
    }
    Ok((condition, fields))
}

fn look_at(condition: &Condition, fields: &mut FieldSet) -> Result<(), Refusal> {
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Null { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. } => {
            fields.insert(field.index);
            Ok(())
        }
        Condition::Has { index, .. } | Condition::InTree { index, .. } => {
            let name = Account::schema().field_name(*index);
            Err(Refusal::unsupported(format!(
                "must look at the account itself, not through `{name}` at other records"
            )))
        }
        Condition::And(all) | Condition::Or(all) => {
            all.iter().try_for_each(|one| look_at(one, fields))
        }
        Condition::Not(one) => look_at(one, fields),
    }
}
