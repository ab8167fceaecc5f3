//! Defects in the answer to a condition.

use std::cmp::Ordering;

use uuid::Uuid;

use super::writing::float;
use super::{BrokenStorage, Defect};
use crate::query::{
    Comparison, Condition, FieldAt, ListMatch, RelatedBy, RelatedRows, TextMatch, Tree, TreePart,
    fold_case,
};
use crate::schema::{AnyRecord, Meta, ObjectRef, Row, Value, ValueRef, system};

impl BrokenStorage {
    pub(super) fn matches(
        &self,
        condition: &Condition,
        row: &dyn AnyRecord,
        related: &RelatedRows<'_>,
    ) -> bool {
        let truth = condition.matches(row, related);
        match condition {
            Condition::And(all) => all.iter().all(|one| self.matches(one, row, related)),
            Condition::Or(all) if all.is_empty() => self.has(Defect::EmptyOrIsTrue),
            Condition::Or(all) => all.iter().any(|one| self.matches(one, row, related)),
            Condition::Not(inner) if self.has(Defect::NotAnyAsAnyNot) => match &**inner {
                Condition::Any {
                    object,
                    field,
                    condition,
                } => {
                    let opposite = Condition::Not(condition.clone());
                    related.any(object, field, row.id(), &opposite)
                }
                _ => truth,
            },
            Condition::Not(inner) => {
                let unknown = self.has(Defect::ThreeValuedNot) && is_unknown(inner, row);
                !unknown && !self.matches(inner, row, related)
            }
            Condition::Has {
                field,
                object,
                condition,
            } => {
                let Some(id) = field.id(row) else {
                    return false;
                };
                related.get(object, id).is_some_and(|target| {
                    let hidden = target.is_deleted() && !self.has(Defect::HasSeesDeleted);
                    let archived = !target.value(system::ARCHIVED_AT).is_null();
                    let skipped = archived && self.has(Defect::HasSkipsArchived);
                    !hidden && !skipped && self.matches(condition, &*target, related)
                })
            }
            Condition::Any {
                object,
                field,
                condition,
            } => self
                .any(object, field, condition, row, related)
                .unwrap_or(truth),
            Condition::InTree { field, tree } => match field.id(row) {
                Some(id) => self.contains(tree, id, related).unwrap_or(truth),
                None => truth,
            },
            Condition::Compare { field, op, value } => {
                self.compares(field, row, *op, value).unwrap_or(truth)
            }
            Condition::In { values, .. } if values.is_empty() => self.has(Defect::EmptyInIsTrue),
            Condition::In { field, values } => {
                let known = if self.has(Defect::CutsSets) {
                    values.len().min(100)
                } else {
                    values.len()
                };
                values.iter().take(known).any(|value| {
                    let op = Comparison::Eq;
                    let plain = Condition::Compare {
                        field: field.clone(),
                        op,
                        value: value.clone(),
                    };
                    self.compares(field, row, op, value)
                        .unwrap_or_else(|| plain.matches(row, related))
                })
            }
            Condition::Null { field, is_null } => {
                let missing = field.member.as_ref().is_some_and(|member| {
                    !matches!(row.value(field.index), ValueRef::Json(json)
                        if json.get(&**member).is_some())
                });
                let is_ill_typed = field.custom.is_some() && !missing && field.value(row).is_null();
                if missing && self.has(Defect::MissingMembersAreValues)
                    || is_ill_typed && self.has(Defect::IllTypedMembersAreValues)
                {
                    !is_null
                } else {
                    truth
                }
            }
            Condition::Text { field, op, folded } if field.member.is_none() => {
                let ValueRef::Text(text) = row.value(field.index) else {
                    return truth;
                };
                self.searches(text, *op, folded).unwrap_or(truth)
            }
            Condition::List { field, op, values } => {
                let ValueRef::List(entries) = row.value(field.index) else {
                    return truth;
                };
                match self.defect {
                    Defect::AllOfIsAnyOf if *op == ListMatch::All => {
                        values.iter().any(|value| entries.contains(value))
                    }
                    Defect::EmptyListsFulfilNothing if entries.is_empty() => false,
                    _ => truth,
                }
            }
            _ => truth,
        }
    }

    /// What a defective look at the rows that lead to one answers; nothing where the defect is
    /// elsewhere.
    fn any(
        &self,
        object: &ObjectRef,
        by: &FieldAt,
        condition: &Condition,
        row: &dyn AnyRecord,
        related: &RelatedRows<'_>,
    ) -> Option<bool> {
        let any =
            |by: &FieldAt, condition: &Condition| related.any(object, by, row.id(), condition);
        match self.defect {
            Defect::AnyAsEach => {
                let opposite = Condition::Not(Box::new(condition.clone()));
                Some(any(by, condition) && !any(by, &opposite))
            }
            Defect::AnySplitsConditions => {
                let mut all = condition.conjuncts().iter();
                Some(any(by, &Condition::all()) && all.all(|one| any(by, one)))
            }
            Defect::AnyByAnyReference => {
                let leads_here = |index: &&usize| {
                    let field = object.fields().get(**index);
                    let reference = field.and_then(|field| field.reference());
                    reference.is_some_and(|(target, _)| target == row.object().name())
                };
                let mut references = object.references().iter().filter(leads_here);
                Some(references.any(|index| any(&FieldAt::new(*index), condition)))
            }
            _ => None,
        }
    }

    /// What a defective walk through a tree answers; nothing where the defect is elsewhere.
    fn contains(&self, tree: &Tree, id: Uuid, related: &RelatedRows<'_>) -> Option<bool> {
        match self.defect {
            Defect::TreesWithoutTheirRoot if id == tree.of => Some(false),
            Defect::TreesOfOneLevel => {
                let (from, wanted) = match tree.part {
                    TreePart::Within => (id, tree.of),
                    TreePart::PathTo => (tree.of, id),
                };
                let live = |id| {
                    let row = related.get(&tree.object, id);
                    row.filter(|row| !row.is_deleted())
                };
                let above = live(from).and_then(|row| tree.above(&row));
                let is_above = above == Some(wanted) && live(wanted).is_some();
                Some(is_above || from == wanted && live(wanted).is_some())
            }
            Defect::TreesGoThroughDeleted => {
                let get = |object: &ObjectRef, at: Uuid| {
                    let row = related.get(object, at)?;
                    // The ends count as they are.
                    Some(if at == id || at == tree.of {
                        row
                    } else {
                        not_deleted(&row)
                    })
                };
                let around = RelatedBy::new(get, |_: &ObjectRef| Vec::new());
                Some(tree.contains(id, &around))
            }
            Defect::TreesUpsideDown => {
                let part = match tree.part {
                    TreePart::Within => TreePart::PathTo,
                    TreePart::PathTo => TreePart::Within,
                };
                let turned = Tree {
                    part,
                    ..tree.clone()
                };
                Some(turned.contains(id, related))
            }
            _ => None,
        }
    }

    /// What a defective comparison answers; nothing where the defect is elsewhere.
    fn compares(
        &self,
        field: &FieldAt,
        row: &dyn AnyRecord,
        op: Comparison,
        value: &Value,
    ) -> Option<bool> {
        let own = row.value(field.index);
        if let (Some(member), ValueRef::Json(json)) = (&field.member, &own) {
            let as_texts = match field.custom {
                Some(_) => Defect::CustomFieldsAsTexts,
                None => Defect::MembersAsTexts,
            };
            if !self.has(as_texts) {
                return None;
            }
            let member = json.get(&**member).filter(|member| !member.is_null())?;
            let text = |json: &serde_json::Value| match json {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            return Some(answers(op, text(member).cmp(&text(&value.to_json()))));
        }
        if own.is_null() {
            return (self.has(Defect::NeSkipsNulls) && op == Comparison::Ne).then_some(false);
        }
        let equality = matches!(op, Comparison::Eq | Comparison::Ne);
        let order = match (self.defect, &own, value) {
            (Defect::EqualWithoutCase, ValueRef::Text(own), Value::Text(with)) if equality => {
                fold_case(own).cmp(&fold_case(with))
            }
            (Defect::EqualByCase, ValueRef::Text(own), Value::Text(with)) if equality => {
                (*own).cmp(with.as_str())
            }
            (Defect::ComparesWithoutCase, ValueRef::Text(own), Value::Text(with)) if !equality => {
                fold_case(own).cmp(&fold_case(with))
            }
            (Defect::ComparesFloats, ValueRef::Decimal(own), Value::Decimal(with)) => {
                float(*own).cmp(&float(*with))
            }
            (Defect::ComparesSeconds, ValueRef::Timestamp(own), Value::Timestamp(with)) => {
                own.timestamp().cmp(&with.timestamp())
            }
            _ => return None,
        };
        Some(answers(op, order))
    }

    fn searches(&self, text: &str, op: TextMatch, folded: &str) -> Option<bool> {
        let (text, needle) = match self.defect {
            Defect::SearchesByCase => (text.to_owned(), folded.to_owned()),
            Defect::SearchesByAsciiCase => (text.to_ascii_lowercase(), folded.to_owned()),
            Defect::SearchesByPattern => {
                let open = if op == TextMatch::Contains { "%" } else { "" };
                let pattern: Vec<char> = format!("{open}{folded}%").chars().collect();
                let text: Vec<char> = fold_case(text).chars().collect();
                return Some(is_like(&text, &pattern));
            }
            _ => return None,
        };
        Some(match op {
            TextMatch::StartsWith => text.starts_with(&needle),
            TextMatch::Contains => text.contains(&needle),
        })
    }
}

/// The row as if nobody had deleted it.
pub(super) fn not_deleted(row: &Row) -> Row {
    row.with_meta(Meta {
        deleted_at: None,
        ..row.meta()
    })
}

fn answers(op: Comparison, order: Ordering) -> bool {
    match op {
        Comparison::Eq => order.is_eq(),
        Comparison::Ne => order.is_ne(),
        Comparison::Lt => order.is_lt(),
        Comparison::Le => order.is_le(),
        Comparison::Gt => order.is_gt(),
        Comparison::Ge => order.is_ge(),
    }
}

/// Whether SQL would not know the answer, because a value is missing.
fn is_unknown(condition: &Condition, row: &dyn AnyRecord) -> bool {
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. } => row.value(field.index).is_null(),
        Condition::And(all) | Condition::Or(all) => all.iter().any(|one| is_unknown(one, row)),
        Condition::Not(inner) => is_unknown(inner, row),
        _ => false,
    }
}

/// SQL's `LIKE` without an escape.
fn is_like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => {
            (0..=text.len()).any(|start| text.get(start..).is_some_and(|tail| is_like(tail, rest)))
        }
        [one, rest @ ..] => match text {
            [first, tail @ ..] if *one == '_' || one == first => is_like(tail, rest),
            _ => false,
        },
    }
}
