//! [`RollUp`]: sums over everything that belongs to a record or to one below it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use rust_decimal::Decimal;

use super::{Hierarchical, in_tree};
use crate::Id;
use crate::error::{Error, Result};
use crate::query::{
    AggregateQuery, Condition, Filter, Group, Grouping, Measure, QueryError, TreePart, Where,
};
use crate::schema::{Entity, FieldOf, FieldType, FieldValue, Registry, StorageKind};
use crate::value::{Currency, Money, TextValue, Totals};

/// What to sum over a tree of `E`: a number of the records of `R`, which refer to `E`.
///
/// ```
/// use crm_core::accounts::Account;
/// use crm_core::deals::{Deal, DealStatus};
/// use crm_core::hierarchy::RollUp;
///
/// let won = RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT).filter(Deal::STATUS.eq(DealStatus::Won));
/// let staff = RollUp::of(Account::ID, Account::EMPLOYEE_COUNT);
/// ```
pub struct RollUp<R, E> {
    by: Cow<'static, str>,
    amount: Cow<'static, str>,
    filter: Filter,
    marker: PhantomData<fn() -> (R, E)>,
}

impl<R: Entity, E: Hierarchical> RollUp<R, E> {
    /// Sums `amount` over the records whose `by` leads into the tree; the field `id` stands for the
    /// records of the tree themselves.
    #[must_use]
    pub fn of<T: FieldValue>(by: FieldOf<R, Id<E>>, amount: FieldOf<R, T>) -> Self {
        Self {
            by: by.name(),
            amount: amount.name(),
            filter: Filter::all(),
            marker: PhantomData,
        }
    }

    /// Only over the records that fulfil a filter, besides filters given before.
    #[must_use]
    pub fn filter(mut self, filter: Where<R>) -> Self {
        self.filter = match self.filter {
            Filter::And(mut all) => {
                all.push(filter.into_filter());
                Filter::And(all)
            }
            before => Filter::And(vec![before, filter.into_filter()]),
        };
        self
    }

    /// The aggregate that answers it: by the amount's currency, where it has one.
    pub(super) fn bind(&self, id: Id<E>, registry: &Registry) -> Result<AggregateQuery> {
        let object = R::schema();
        let unknown = || {
            Error::Query(QueryError::UnknownField {
                object: object.name().to_owned(),
                field: self.amount.to_string(),
            })
        };
        let amount = object.field_index(&self.amount).ok_or_else(unknown)?;
        let field = object.fields().get(amount).ok_or_else(unknown)?;
        if !matches!(
            field.storage_kind(),
            StorageKind::Integer | StorageKind::Decimal
        ) {
            return Err(Error::Query(QueryError::Unsupported {
                field: self.amount.to_string(),
                operation: "roll_up".into(),
            }));
        }
        let currency = match &field.field_type {
            FieldType::Decimal {
                currency_field: Some(name),
                ..
            } => object.field_index(name),
            _ => None,
        };
        let within = in_tree(self.by.clone(), TreePart::Within, id);
        let filter = Filter::And(vec![within, self.filter.clone()]);
        let condition = Condition::bind(&filter, object, registry)?;
        let visible = Condition::not_deleted().and(Condition::not_archived());
        let mut query = AggregateQuery::count(object, visible.and(condition));
        query.measures.push(Measure::Sum(amount));
        query.groups.extend(currency.map(Grouping::Field));
        Ok(query)
    }
}

impl<R, E> Clone for RollUp<R, E> {
    fn clone(&self) -> Self {
        Self {
            by: self.by.clone(),
            amount: self.amount.clone(),
            filter: self.filter.clone(),
            marker: PhantomData,
        }
    }
}

/// Does not show the filter: its values may be personal.
impl<R, E> fmt::Debug for RollUp<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RollUp")
            .field("by", &self.by)
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

/// What a [`RollUp`] comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledUp {
    /// How many records there are, those without the number included.
    pub records: u64,
    /// The sums of amounts of money, each currency on its own.
    pub totals: Totals,
    /// The sum of what has no currency: of every number that is no amount of money.
    pub without_currency: Decimal,
}

impl RolledUp {
    pub(super) fn of(groups: &[Group], by_currency: bool) -> Result<Self> {
        let mut rolled_up = Self::default();
        for group in groups {
            rolled_up.records += group.count(0);
            let sum = group.number(1).unwrap_or_default();
            let code = if by_currency {
                group.key(0).as_text()
            } else {
                None
            };
            match code.map(Currency::parse).transpose()? {
                Some(currency) => rolled_up.totals.add(&Money::new(sum, currency))?,
                // One group at most has no currency.
                None => rolled_up.without_currency = sum,
            }
        }
        Ok(rolled_up)
    }
}
