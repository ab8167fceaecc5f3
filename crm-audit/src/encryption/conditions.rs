//! How what is asked for becomes what can be asked of a storage that has tokens in the place of values.
//! Pure.
//!
//! A value can be compared with its token, so what asks for equal values is asked of the tokens. All else
//! that asks for an encrypted value, such as an order, a part of a text or a sum, is unsupported: the
//! caller has to look at opened rows.

use std::borrow::Cow;

use crm_core::query::{
    AggregateQuery, Comparison, Condition, CustomMember, FieldAt, Grouping, Measure, Query,
    QueryError, SortKey, Tree,
};
use crm_core::schema::{Lifecycle, ObjectRef, StorageKind, Value, system};

use super::Keyring;
use super::coverage::{Coverage, Extent, Stand, TypedRows, place};
use super::rows::{field_token, member_token, text_token};

/// Translates for one tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translator<'a> {
    pub(super) coverage: &'a Coverage,
    /// The keys; there are none outside of a tenant, where nothing has a token.
    pub(super) ring: Option<&'a Keyring>,
}

type Translated<T> = Result<T, QueryError>;

fn unsupported<T>(object: &ObjectRef, index: usize, operation: &'static str) -> Translated<T> {
    Err(QueryError::Unsupported {
        field: object.path_at(index),
        operation: Cow::Borrowed(operation),
    })
}

/// What a comparison with an encrypted field asks for.
enum Wanted {
    Equal(Vec<Value>),
    Different(Value),
}

impl Translator<'_> {
    /// The condition over stored rows that the rows fulfil whose true values fulfil `condition`.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`]: it asks for more of an encrypted value than whether it is equal.
    pub(super) fn condition(
        &self,
        object: &ObjectRef,
        condition: &Condition,
    ) -> Translated<Condition> {
        Ok(match condition {
            Condition::And(all) => Condition::And(self.all(object, all)?),
            Condition::Or(all) => Condition::Or(self.all(object, all)?),
            Condition::Not(not) => Condition::Not(Box::new(self.condition(object, not)?)),
            Condition::Compare { field, op, value } => {
                if self.is_plain(object, field) {
                    return Ok(condition.clone());
                }
                let wanted = match op {
                    Comparison::Eq => Wanted::Equal(vec![value.clone()]),
                    Comparison::Ne => Wanted::Different(value.clone()),
                    _ => return unsupported(object, field.index, "an order of encrypted values"),
                };
                self.compared(object, field, &wanted)?
            }
            Condition::In { field, values } => {
                if self.is_plain(object, field) {
                    return Ok(condition.clone());
                }
                self.compared(object, field, &Wanted::Equal(values.clone()))?
            }
            Condition::Null { field, is_null } => self.null(object, field, *is_null)?,
            Condition::Text { field, .. } => {
                if !self.is_plain(object, field) {
                    return unsupported(object, field.index, "a part of an encrypted text");
                }
                condition.clone()
            }
            Condition::List { field, .. } => {
                if !self.is_plain(object, field) {
                    return unsupported(object, field.index, "the entries of an encrypted list");
                }
                condition.clone()
            }
            Condition::Has {
                field,
                object: target,
                condition,
            } => {
                let condition = self.condition(target, condition)?;
                self.leads_to(object, field, |field| Condition::Has {
                    field,
                    object: target.clone(),
                    condition: Box::new(condition.clone()),
                })?
            }
            Condition::InTree { field, tree } => {
                if self.is_covered(&tree.object, tree.parent) {
                    return unsupported(&tree.object, tree.parent, "a tree of encrypted values");
                }
                self.leads_to(object, field, |field| Condition::InTree {
                    field,
                    tree: Tree::clone(tree),
                })?
            }
            Condition::Any {
                object: from,
                field,
                condition,
            } => self.led_to_by(from, field, self.condition(from, condition)?)?,
            _ => return unsupported(object, system::ID, "encryption"),
        })
    }

    fn all(&self, object: &ObjectRef, all: &[Condition]) -> Translated<Vec<Condition>> {
        all.iter()
            .map(|condition| self.condition(object, condition))
            .collect()
    }

    /// Whether the field is encrypted in any row.
    fn is_covered(&self, object: &ObjectRef, place: usize) -> bool {
        let index = match object.custom_at(place) {
            Some(_) => object.custom_document(),
            None => Some(place),
        };
        index.is_some_and(|index| self.coverage.extent(object, index) != Extent::None)
    }

    fn is_plain(&self, object: &ObjectRef, field: &FieldAt) -> bool {
        !self.is_covered(object, field.index)
    }

    /// The two conditions by which equal values and different ones are found.
    fn compared(
        &self,
        object: &ObjectRef,
        field: &FieldAt,
        wanted: &Wanted,
    ) -> Translated<Condition> {
        let (values, is_different) = match wanted {
            Wanted::Equal(values) => (values.as_slice(), false),
            Wanted::Different(value) => (std::slice::from_ref(value), true),
        };
        let mut tokens = Vec::with_capacity(values.len());
        let mut at = None;
        for value in values {
            let (found_at, token) = self.token(object, field, value)?;
            at = Some(found_at);
            tokens.push(Value::Text(token));
        }
        // Rows that are made of public values have these as they are.
        if matches!(self.coverage.extent(object, field.index), Extent::Some(_)) {
            tokens.extend(values.iter().cloned());
        }
        let field = at.unwrap_or_else(|| field.clone());
        Ok(match (is_different, tokens.as_slice()) {
            (true, [token]) => Condition::Compare {
                field,
                op: Comparison::Ne,
                value: token.clone(),
            },
            (false, [token]) => Condition::Compare {
                field,
                op: Comparison::Eq,
                value: token.clone(),
            },
            (false, _) => Condition::In {
                field,
                values: tokens,
            },
            (true, _) => Condition::Not(Box::new(Condition::In {
                field,
                values: tokens,
            })),
        })
    }

    /// The field that has the token of a value in stored rows, and the token.
    fn token(
        &self,
        object: &ObjectRef,
        field: &FieldAt,
        value: &Value,
    ) -> Translated<(FieldAt, String)> {
        let what = "values that have no token";
        let Some((stand, ring)) = self.coverage.stand(object, field.index).zip(self.ring) else {
            return unsupported(object, field.index, what);
        };
        let at = place(object, object.field_name(field.index));
        let token = match (stand, &field.member, value) {
            (Stand::Token { length, folded }, None, Value::Text(text)) => {
                field_token(ring, &at, text, length, folded).map(|token| (field.clone(), token))
            }
            (Stand::Tokens, Some(member), value) => {
                let is_text = match field.custom {
                    None => matches!(value, Value::Text(_)),
                    Some(custom) => has_tokens(custom),
                };
                let folded = field.ignore_case;
                let text = value.to_json();
                let text = text.as_str().filter(|_| is_text);
                let token = text.and_then(|text| text_token(ring, &at, member, text, folded));
                member_token(ring, &at, member, folded)
                    .map(|member| document_member(field.index, member))
                    .zip(token)
            }
            _ => None,
        };
        match token {
            Some(token) => Ok(token),
            None => unsupported(object, field.index, what),
        }
    }

    fn null(&self, object: &ObjectRef, field: &FieldAt, is_null: bool) -> Translated<Condition> {
        let of = |field| Condition::Null { field, is_null };
        let Some(stand) = self.coverage.stand(object, field.index) else {
            return Ok(of(field.clone()));
        };
        match (stand, &field.member) {
            (Stand::Token { .. } | Stand::Tokens | Stand::Empty, None) => Ok(of(field.clone())),
            (Stand::Tokens, Some(member)) => {
                let at = place(object, object.field_name(field.index));
                let member = self
                    .ring
                    .and_then(|ring| member_token(ring, &at, member, false));
                match member {
                    Some(member) => Ok(of(document_member(field.index, member))),
                    None => unsupported(object, field.index, "values that have no token"),
                }
            }
            _ => unsupported(object, field.index, "whether an encrypted value is there"),
        }
    }

    /// A condition over what a reference leads to. One that stands in an encrypted document is followed
    /// by the typed rows of custom fields, which have the ids of both records.
    fn leads_to(
        &self,
        object: &ObjectRef,
        field: &FieldAt,
        of: impl FnOnce(FieldAt) -> Condition,
    ) -> Translated<Condition> {
        if self.is_plain(object, field) {
            return Ok(of(field.clone()));
        }
        let (typed, custom) = self.typed(object, field)?;
        let known = Condition::equals(typed.field, Value::Uuid(custom.field));
        Ok(Condition::Any {
            object: typed.object.clone(),
            field: FieldAt::new(typed.record),
            condition: Box::new(known.and(of(FieldAt::new(typed.target)))),
        })
    }

    /// A condition over what leads to a record by a reference of `from`.
    fn led_to_by(
        &self,
        from: &ObjectRef,
        field: &FieldAt,
        condition: Condition,
    ) -> Translated<Condition> {
        if self.is_plain(from, field) {
            return Ok(Condition::Any {
                object: from.clone(),
                field: field.clone(),
                condition: Box::new(condition),
            });
        }
        let (typed, custom) = self.typed(from, field)?;
        let known = Condition::equals(typed.field, Value::Uuid(custom.field));
        Ok(Condition::Any {
            object: typed.object.clone(),
            field: FieldAt::new(typed.target),
            condition: Box::new(known.and(Condition::Has {
                field: FieldAt::new(typed.record),
                object: from.clone(),
                condition: Box::new(condition),
            })),
        })
    }

    fn typed(&self, object: &ObjectRef, field: &FieldAt) -> Translated<(&TypedRows, CustomMember)> {
        let custom = field
            .custom
            .filter(|custom| custom.kind == StorageKind::Uuid);
        match self.coverage.typed().zip(custom) {
            Some(found) => Ok(found),
            None => unsupported(object, field.index, "an encrypted reference"),
        }
    }

    /// The query over stored rows.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`]; also where it sorts by an encrypted field, but for logs and derived
    /// rows, of which any order will do.
    pub(super) fn query(&self, query: &Query) -> Translated<Query> {
        let mut stored = query.clone();
        stored.condition = self.condition(&query.object, &query.condition)?;
        for (position, key) in query.sort.iter().enumerate() {
            let after = stored
                .after
                .as_mut()
                .and_then(|after| after.get_mut(position));
            self.sort(&query.object, key, after)?;
        }
        Ok(stored)
    }

    /// Checks what rows are sorted by, and turns the position into one among stored rows.
    pub(super) fn sort(
        &self,
        object: &ObjectRef,
        key: &SortKey,
        after: Option<&mut Value>,
    ) -> Translated<()> {
        if !self.is_covered(object, key.index) {
            return Ok(());
        }
        let what = "sort by encrypted values";
        let extent = self.coverage.extent(object, key.index);
        let any_order = object.lifecycle() != Lifecycle::Full;
        let (true, Extent::All(Stand::Token { .. })) = (any_order, extent) else {
            return unsupported(object, key.index, what);
        };
        if let Some(value) = after.filter(|value| !value.is_null()) {
            let field = FieldAt::new(key.index);
            *value = Value::Text(self.token(object, &field, value)?.1);
        }
        Ok(())
    }

    /// The aggregate over stored rows.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`]; also where it groups by encrypted values or computes with them.
    pub(super) fn aggregate(&self, query: &AggregateQuery) -> Translated<AggregateQuery> {
        let mut stored = query.clone();
        stored.condition = self.condition(&query.object, &query.condition)?;
        self.measures(query)?;
        for grouping in &query.groups {
            let index = match grouping {
                Grouping::Field(index)
                | Grouping::Entry(index)
                | Grouping::Calendar { index, .. } => *index,
                _ => continue,
            };
            if self.is_covered(&query.object, index) {
                return unsupported(&query.object, index, "groups of encrypted values");
            }
        }
        Ok(stored)
    }

    /// Checks that nothing encrypted is computed with.
    pub(super) fn measures(&self, query: &AggregateQuery) -> Translated<()> {
        for measure in &query.measures {
            let indexes = match measure {
                Measure::Sum(index)
                | Measure::Average(index)
                | Measure::Min(index)
                | Measure::Max(index) => [*index, *index],
                Measure::WeightedSum { amount, percent } => [*amount, *percent],
                _ => continue,
            };
            for index in indexes {
                if self.is_covered(&query.object, index) {
                    return unsupported(&query.object, index, "figures over encrypted values");
                }
            }
        }
        Ok(())
    }

    /// Whether the groups of stored rows by this field are those of the true values.
    pub(super) fn groups_alike(&self, object: &ObjectRef, grouping: &Grouping) -> bool {
        let Grouping::Field(index) = grouping else {
            return false;
        };
        let extent = self.coverage.extent(object, *index);
        matches!(extent, Extent::All(Stand::Token { folded: false, .. }))
    }

    /// The part of a condition that can be asked of stored rows, and what has to be asked of opened ones:
    /// all of it that is about the rows alone.
    ///
    /// # Errors
    /// [`QueryError::Unsupported`]: what is left asks about other rows.
    pub(super) fn split(
        &self,
        object: &ObjectRef,
        condition: &Condition,
    ) -> Translated<(Condition, Condition)> {
        let (mut stored, mut opened) = (Vec::new(), Vec::new());
        for one in condition.conjuncts() {
            match self.condition(object, one) {
                Ok(one) => stored.push(one),
                Err(error) if asks_others(one) => return Err(error),
                Err(_) => opened.push(one.clone()),
            }
        }
        Ok((Condition::And(stored), Condition::And(opened)))
    }
}

/// Whether values of a custom field are texts in its document.
const fn has_tokens(custom: CustomMember) -> bool {
    matches!(
        custom.kind,
        StorageKind::Text | StorageKind::Uuid | StorageKind::Date | StorageKind::Timestamp
    )
}

/// A member of a document of tokens: nobody defined it.
fn document_member(index: usize, member: String) -> FieldAt {
    FieldAt {
        member: Some(member.into_boxed_str()),
        ..FieldAt::new(index)
    }
}

/// Whether a condition is about other rows too.
pub(super) fn asks_others(condition: &Condition) -> bool {
    match condition {
        Condition::And(all) | Condition::Or(all) => all.iter().any(asks_others),
        Condition::Not(not) => asks_others(not),
        Condition::Compare { .. }
        | Condition::In { .. }
        | Condition::Null { .. }
        | Condition::Text { .. }
        | Condition::List { .. } => false,
        _ => true,
    }
}
