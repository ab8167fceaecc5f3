//! [`Criteria`]: which records something takes, as a filter that a field holds.

use std::borrow::Cow;

use super::{Condition, FieldAt, Filter, Where};
use crate::schema::{
    Entity, FieldSet, FieldType, FieldValue, ObjectRef, ObjectSchema, Registry, Value, ValueRef,
    from_json, system,
};
use crate::value::ValueError;

/// Which records something takes, such as a territory accounts: a filter over a record's own fields,
/// custom fields included. It is kept in a field, as JSON.
///
/// ```
/// use crm_core::accounts::{Account, AccountType};
/// use crm_core::query::{Criteria, Filter, WhereExt};
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

impl<E: Entity> From<Where<E>> for Criteria {
    fn from(filter: Where<E>) -> Self {
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
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    fn unsupported(message: String) -> Self {
        Self {
            code: "unsupported",
            message,
        }
    }
}

impl Criteria {
    /// Binds criteria to the schema of the object; gives the fields that they look at besides.
    /// `own` names the fields that are set where the criteria fit.
    ///
    /// # Errors
    /// What does not fit the schema. Conditions over other records: a change of those would change
    /// what fits without a write to it. Fields that change with every write or are among `own`.
    pub(crate) fn bind(
        &self,
        object: &ObjectRef,
        registry: &Registry,
        own: &[&str],
    ) -> Result<(Condition, FieldSet), Refusal> {
        let condition = Condition::bind(&self.0, object, registry).map_err(|error| Refusal {
            code: error.code(),
            message: error.to_string(),
        })?;
        look_at(object, &condition)?;
        let mut fields = FieldSet::default();
        for field in own_fields(&condition) {
            fields.insert(field.index);
        }
        for index in fields.iter() {
            let name = object.field_name(index);
            if system::is_stamp(index) || own.contains(&name) {
                return Err(Refusal::unsupported(format!(
                    "must not look at `{name}`, which changes with what it decides"
                )));
            }
        }
        Ok((condition, fields))
    }
}

/// The fields of the record itself that a condition looks at.
pub(crate) fn own_fields(condition: &Condition) -> Vec<&FieldAt> {
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Null { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. } => vec![field],
        Condition::And(all) | Condition::Or(all) => all.iter().flat_map(own_fields).collect(),
        Condition::Not(one) => own_fields(one),
        Condition::Has { .. } | Condition::InTree { .. } | Condition::Any { .. } => Vec::new(),
    }
}

fn look_at(object: &ObjectSchema, condition: &Condition) -> Result<(), Refusal> {
    match condition {
        Condition::Compare { .. }
        | Condition::In { .. }
        | Condition::Null { .. }
        | Condition::Text { .. }
        | Condition::List { .. } => Ok(()),
        Condition::Has { field, .. } | Condition::InTree { field, .. } => {
            let name = field.place(object).unwrap_or(field.index);
            let name = object.field_name(name);
            Err(Refusal::unsupported(format!(
                "must look at the record itself, not through `{name}` at other records"
            )))
        }
        Condition::Any { object, .. } => Err(Refusal::unsupported(format!(
            "must look at the record itself, not at records of `{}` that lead to it",
            object.name()
        ))),
        Condition::And(all) | Condition::Or(all) => {
            all.iter().try_for_each(|one| look_at(object, one))
        }
        Condition::Not(one) => look_at(object, one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Account;
    use crate::deals::Deal;
    use crate::query::WhereExt;

    /// Where one record is at hand, conditions over others are refused however deep they stand.
    #[test]
    fn criteria_over_other_records_are_refused() {
        let registry = Registry::default();
        registry.register::<Account>();
        registry.register::<Deal>();
        let refusal = |criteria: Criteria| {
            let bound = criteria.bind(Account::schema(), &registry, &[]);
            bound.map(|_| ()).unwrap_err()
        };
        let with_deals = || Deal::ACCOUNT_ID.any(Where::all());
        let without = Account::NAME.is_null().or(with_deals().negate());
        for criteria in [with_deals(), without] {
            let refused = refusal(criteria.into());
            assert_eq!(refused.code, "unsupported");
            assert!(refused.message.contains("records of `deal`"));
        }
        let parent = Account::PARENT_ACCOUNT_ID.has(with_deals());
        assert!(
            refusal(parent.into())
                .message
                .contains("`parent_account_id`")
        );
    }
}
