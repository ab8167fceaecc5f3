//! [`MergePlan`]: which value counts in each field, decided over values alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value as Json;
use uuid::Uuid;

use crate::error::{Faults, ValidationError, codes};
use crate::schema::{
    FieldSchema, FieldType, MergeRule, ObjectRef, Privacy, Row, SYSTEM_FIELDS, StorageKind, Value,
};

/// What a person chose for a merge; every other field follows the rules of its
/// [schema](MergeRule).
///
/// ```
/// use crm_core::{Id, contacts::Contact, merging::Choices};
///
/// fn choices(duplicate: Id<Contact>) -> Choices {
///     Choices::new()
///         .take(Contact::JOB_TITLE.name(), duplicate)
///         .join(Contact::DESCRIPTION.name())
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices(BTreeMap<Cow<'static, str>, Choice>);

/// What a person chose for one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// The value of this record.
    Record(Uuid),
    /// The texts of all records, one below the other.
    Joined,
}

impl Choices {
    /// No choice: the rules decide.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a field from one of the records, also where it is empty there. Fields that belong
    /// together, such as those of an address or an amount and its currency, are taken together.
    #[must_use]
    pub fn take(mut self, field: impl Into<Cow<'static, str>>, from: impl Into<Uuid>) -> Self {
        self.0.insert(field.into(), Choice::Record(from.into()));
        self
    }

    /// Joins the texts of all records, the survivor's first: for fields of several lines.
    #[must_use]
    pub fn join(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.insert(field.into(), Choice::Joined);
        self
    }
}

/// Where the value of a field came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// From this record.
    Record(Uuid),
    /// From several.
    Combined,
}

/// Which value counts in each field, once the records are one.
///
/// Losers are taken in one after the other, so that each can be given up again on its own: the plan
/// holds the survivor's values after each.
///
/// ```
/// # use std::sync::Arc;
/// use crm_core::merging::{Choices, MergePlan, Winner};
/// use crm_core::schema::{Entity, Row, Value};
/// use crm_core::{Record, contacts::Contact};
/// # fn example(survivor: Arc<Record<Contact>>, loser: Arc<Record<Contact>>) {
/// let rows: [Row; 2] = [survivor, loser.clone()];
/// let plan = MergePlan::new(Contact::schema(), &rows, &Choices::new(), &Default::default()).unwrap();
/// // R-026: what one of the two refused stays refused.
/// assert_eq!(plan.value("do_not_call"), Some(&Value::Boolean(loser.preferences.do_not_call)));
/// # }
/// ```
#[derive(Clone, PartialEq)]
pub struct MergePlan {
    object: ObjectRef,
    steps: Vec<Vec<Value>>,
    winners: Vec<Winner>,
}

impl std::fmt::Debug for MergePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may be personal.
        f.debug_struct("MergePlan")
            .field("object", &self.object)
            .field("steps", &self.steps.len())
            .field("winners", &self.winners)
            .finish()
    }
}

/// For references of an object to itself: what stands above each value, the value first, by the
/// field's place and the value. A value above which the survivor or one of the losers stands is not
/// taken, as the record would stand above itself.
pub type Above = HashMap<(usize, Uuid), Vec<Uuid>>;

impl MergePlan {
    /// Plans the merge of `rows`, the survivor first.
    ///
    /// # Errors
    /// Every choice that names no field or no record of the merge, that is of a field which only the
    /// engine writes or which holds a secret, that contradicts another choice of fields that belong
    /// together, or that would lose what a person refused (R-026).
    pub fn new(
        object: &ObjectRef,
        rows: &[Row],
        choices: &Choices,
        above: &Above,
    ) -> Result<Self, ValidationError> {
        let mut planner = Planner {
            object,
            units: units(object),
            chosen: HashMap::new(),
            above,
            merged: BTreeSet::new(),
        };
        planner.take_choices(rows, choices)?;
        let mut rows = rows.iter();
        let Some(survivor) = rows.next() else {
            return Ok(Self {
                object: object.clone(),
                steps: Vec::new(),
                winners: Vec::new(),
            });
        };
        planner.merged.insert(survivor.id());
        let mut values = survivor.values();
        let mut winners = vec![Winner::Record(survivor.id()); values.len()];
        let mut steps = vec![values.clone()];
        for loser in rows {
            planner.merged.insert(loser.id());
            planner.take_in(survivor, loser, &mut values, &mut winners);
            steps.push(values.clone());
        }
        Ok(Self {
            object: object.clone(),
            steps,
            winners,
        })
    }

    /// The survivor's values before the merge and after each loser, in the order of the schema, the
    /// system's fields left out.
    #[must_use]
    pub fn steps(&self) -> &[Vec<Value>] {
        &self.steps
    }

    /// Where each value came from, in the same order.
    #[must_use]
    pub fn winners(&self) -> &[Winner] {
        &self.winners
    }

    /// The value that a field has in the end.
    #[must_use]
    pub fn value(&self, field: &str) -> Option<&Value> {
        let index = self.object.field_index(field)?;
        self.steps.last()?.get(index.checked_sub(SYSTEM_FIELDS)?)
    }
}

/// The first field of what each field is decided together with, by their places: the fields of a
/// group that is there or missing as a whole, both forms of a telephone number, an amount and its
/// currency, an id and the object that it is of.
#[must_use]
pub fn units(object: &ObjectRef) -> Vec<usize> {
    let fields = object.fields();
    let mut units: Vec<usize> = (0..fields.len()).collect();
    let mut join = |one: usize, other: usize| {
        let (Some(one), Some(other)) = (units.get(one).copied(), units.get(other).copied()) else {
            return;
        };
        let (first, second) = (one.min(other), one.max(other));
        units
            .iter_mut()
            .filter(|unit| **unit == second)
            .for_each(|unit| *unit = first);
    };
    for (index, field) in fields.iter().enumerate() {
        let mut with = |name: &str| {
            if let Some(other) = object.field_index(name) {
                join(index, other);
            }
        };
        if let Some(first) = &field.group {
            with(first);
        }
        if let FieldType::Decimal {
            currency_field: Some(currency),
            ..
        } = &field.field_type
        {
            with(currency);
        }
        if let Some(named) = &field.record_of {
            with(named);
        }
        if object.is_derived(index) {
            join(index, index - 1);
        }
    }
    units
}

/// The places of the fields of a unit.
fn members(units: &[usize], unit: usize) -> impl Iterator<Item = usize> + '_ {
    let is_member = move |(_, of): &(usize, &usize)| **of == unit;
    units
        .iter()
        .enumerate()
        .filter(is_member)
        .map(|(index, _)| index)
}

struct Planner<'a> {
    object: &'a ObjectRef,
    units: Vec<usize>,
    /// The choice for each unit that somebody chose for.
    chosen: HashMap<usize, Choice>,
    above: &'a Above,
    /// The records that are one so far.
    merged: BTreeSet<Uuid>,
}

impl Planner<'_> {
    fn take_choices(&mut self, rows: &[Row], choices: &Choices) -> Result<(), ValidationError> {
        let mut faults = Faults::default();
        for (name, choice) in &choices.0 {
            let name = &**name;
            let index = self.object.field_index(name);
            let Some((index, field)) =
                index.and_then(|at| Some((at, self.object.fields().get(at)?)))
            else {
                faults.add(name, codes::UNKNOWN_FIELD, "there is no such field");
                continue;
            };
            if field.read_only || field.privacy == Privacy::Sensitive {
                let told = "nobody chooses what only the engine writes or what is secret";
                faults.add(name, codes::READ_ONLY, told);
                continue;
            }
            match choice {
                Choice::Record(id) => {
                    let Some(row) = rows.iter().find(|row| row.id() == *id) else {
                        let told = "the record is not one of those that are merged";
                        faults.add(name, codes::NOT_FOUND, told);
                        continue;
                    };
                    let says = |row: &Row| row.value(index).into_owned() == Value::Boolean(true);
                    if field.merge == MergeRule::Any && !says(row) && rows.iter().any(says) {
                        // R-026: a refusal is never lost.
                        let told = "stays true, as one of the records says so";
                        faults.add(name, codes::INCONSISTENT, told);
                        continue;
                    }
                }
                Choice::Joined => {
                    let lines = matches!(
                        field.field_type,
                        FieldType::Text {
                            multiline: true,
                            ..
                        }
                    );
                    if !lines || field.group.is_some() {
                        let told = "only texts of several lines are joined; name a record instead";
                        faults.add(name, codes::WRONG_TYPE, told);
                        continue;
                    }
                }
            }
            let unit = self.units.get(index).copied().unwrap_or(index);
            let known = self.chosen.insert(unit, *choice);
            if known.is_some_and(|known| known != *choice) {
                let told = "belongs together with a field that was chosen otherwise";
                faults.add(name, codes::INCONSISTENT, told);
            }
        }
        faults.into_result()
    }

    /// Takes a loser in.
    fn take_in(&self, survivor: &Row, loser: &Row, values: &mut [Value], winners: &mut [Winner]) {
        let before = values.to_vec();
        let old = winners.to_vec();
        let mut filled = BTreeSet::new();
        for unit in self.units.iter().copied().collect::<BTreeSet<_>>() {
            if unit < SYSTEM_FIELDS {
                continue;
            }
            let fields: Vec<usize> = members(&self.units, unit).collect();
            if self.decide(unit, &fields, loser, values, winners) {
                filled.insert(unit);
            }
        }
        // What only filled a gap gives way where the rules between the fields of the record do not
        // allow it: a planned activity does not get the time at which the loser was completed.
        while !filled.is_empty() {
            let mut faults = Faults::default();
            match survivor.with_values(survivor.meta(), values.to_vec()) {
                Ok(row) => row.check(&mut faults),
                Err(found) => faults = found,
            }
            let is_faulty = |unit: &usize| {
                members(&self.units, *unit).any(|index| faults.has(self.object.field_name(index)))
            };
            let Some(unit) = filled.iter().copied().find(is_faulty) else {
                return;
            };
            filled.remove(&unit);
            for place in
                members(&self.units, unit).filter_map(|index| index.checked_sub(SYSTEM_FIELDS))
            {
                if let (Some(value), Some(winner)) = (values.get_mut(place), winners.get_mut(place))
                {
                    value.clone_from(before.get(place).unwrap_or(&Value::Null));
                    *winner = old.get(place).copied().unwrap_or(Winner::Combined);
                }
            }
        }
    }

    /// Decides one unit; tells whether the loser filled a gap.
    fn decide(
        &self,
        unit: usize,
        fields: &[usize],
        loser: &Row,
        values: &mut [Value],
        winners: &mut [Winner],
    ) -> bool {
        let field_at = |index: &usize| self.object.fields().get(*index);
        let take = |values: &mut [Value], winners: &mut [Winner]| {
            for index in fields {
                let place = index.saturating_sub(SYSTEM_FIELDS);
                if let (Some(value), Some(winner)) = (values.get_mut(place), winners.get_mut(place))
                {
                    *value = loser.value(*index).into_owned();
                    *winner = Winner::Record(loser.id());
                }
            }
        };
        let chosen = self.chosen.get(&unit);
        let chosen_here = chosen == Some(&Choice::Record(loser.id()));
        let is_kept = |field: &FieldSchema| {
            field.merge == MergeRule::Survivor || field.privacy == Privacy::Sensitive
        };
        if !chosen_here && fields.iter().filter_map(field_at).any(is_kept) {
            return false;
        }
        if let [index] = fields
            && let Some(field) = field_at(index)
        {
            let place = index.saturating_sub(SYSTEM_FIELDS);
            let (Some(value), Some(winner)) = (values.get_mut(place), winners.get_mut(place))
            else {
                return false;
            };
            let theirs = loser.value(*index).into_owned();
            if field
                .reference()
                .is_some_and(|(target, _)| target == self.object.name())
            {
                return self.decide_own(*index, field, value, theirs, winner, loser.id(), chosen);
            }
            if chosen.is_none() || chosen == Some(&Choice::Joined) {
                let joined = chosen.is_some();
                return self.decide_alone(*index, field, value, theirs, winner, loser.id(), joined);
            }
        }
        if chosen_here {
            take(values, winners);
            return false;
        }
        if chosen.is_some() {
            return false;
        }
        // A group is taken as a whole or not at all.
        let writable = fields
            .iter()
            .filter_map(field_at)
            .any(|field| !field.read_only);
        let empty_here = fields
            .iter()
            .filter(|index| self.weighs(**index))
            .all(|index| {
                values
                    .get(index.saturating_sub(SYSTEM_FIELDS))
                    .is_none_or(Value::is_null)
            });
        let filled_there = fields
            .iter()
            .filter(|index| self.weighs(**index))
            .any(|index| !loser.value(*index).is_null());
        if writable && empty_here && filled_there {
            take(values, winners);
            return true;
        }
        false
    }

    /// Whether the field says that its unit has a value; a currency alone does not.
    fn weighs(&self, index: usize) -> bool {
        self.object
            .fields()
            .get(index)
            .is_some_and(|field| field.field_type != FieldType::Currency)
    }

    /// A reference to another record of the same object: never to one of those that are merged, nor
    /// to one below them.
    #[allow(clippy::too_many_arguments, reason = "what is decided and by what")]
    fn decide_own(
        &self,
        index: usize,
        field: &FieldSchema,
        value: &mut Value,
        theirs: Value,
        winner: &mut Winner,
        loser: Uuid,
        chosen: Option<&Choice>,
    ) -> bool {
        let fits = |value: &Value| {
            let Some(id) = value.as_ref().as_uuid() else {
                return true;
            };
            let above = self.above.get(&(index, id));
            !self.merged.contains(&id)
                && above.is_none_or(|above| above.iter().all(|id| !self.merged.contains(id)))
        };
        if chosen == Some(&Choice::Record(loser)) {
            // A chosen value that closes a cycle is told by the rules of the object.
            let is_own = theirs
                .as_ref()
                .as_uuid()
                .is_some_and(|id| self.merged.contains(&id));
            *value = if is_own { Value::Null } else { theirs };
            *winner = Winner::Record(loser);
            return false;
        }
        let stays = fits(value) && (!value.is_null() || chosen.is_some() || field.read_only);
        if stays {
            return false;
        }
        let gap = value.is_null();
        if fits(&theirs) {
            if !gap || !theirs.is_null() {
                *value = theirs;
                *winner = Winner::Record(loser);
            }
        } else if !gap {
            *value = Value::Null;
            *winner = Winner::Combined;
        }
        gap && !value.is_null()
    }

    /// A field that is decided alone, by its rule or its type.
    #[allow(clippy::too_many_arguments, reason = "what is decided and by what")]
    fn decide_alone(
        &self,
        index: usize,
        field: &FieldSchema,
        value: &mut Value,
        theirs: Value,
        winner: &mut Winner,
        loser: Uuid,
        joined: bool,
    ) -> bool {
        let mut wins = |value: &mut Value, theirs: Value| {
            *value = theirs;
            *winner = Winner::Record(loser);
        };
        match field.merge {
            MergeRule::Any => {
                if theirs == Value::Boolean(true) && *value != theirs {
                    wins(value, theirs);
                }
                return false;
            }
            MergeRule::Greatest | MergeRule::Least => {
                let order = theirs.as_ref().sort_order(&value.as_ref());
                let is_better = match field.merge {
                    MergeRule::Greatest => order.is_gt(),
                    _ => order.is_lt(),
                };
                if value.is_null() || (!theirs.is_null() && is_better) {
                    wins(value, theirs);
                }
                return false;
            }
            MergeRule::Survivor | MergeRule::ByType => {}
        }
        // A key that deleted records keep would still be the loser's.
        let mut keys = self.object.unique_keys().iter();
        let is_held = keys.any(|key| !key.live && key.fields.contains(&index));
        if field.read_only || is_held || theirs.is_null() || *value == theirs {
            return false;
        }
        let combined = match (&*value, &theirs) {
            (Value::List(own), Value::List(others)) => {
                let mut all = own.clone();
                all.extend(others.iter().filter(|entry| !own.contains(entry)).cloned());
                Value::List(all)
            }
            (Value::Json(own), Value::Json(others)) => {
                let mut all = own.clone();
                fill(&mut all, others);
                Value::Json(all)
            }
            (Value::Text(own), Value::Text(others)) if joined => {
                Value::Text(format!("{own}\n\n{others}"))
            }
            (Value::Null, _) => {
                wins(value, theirs);
                return field.storage_kind() != StorageKind::List;
            }
            _ => return false,
        };
        if combined == theirs {
            wins(value, theirs);
        } else if combined != *value {
            *value = combined;
            *winner = Winner::Combined;
        }
        false
    }
}

/// Fills what is missing in a document with the members of another, at every depth.
fn fill(own: &mut Json, others: &Json) {
    match (own, others) {
        (Json::Object(own), Json::Object(others)) => {
            for (name, theirs) in others {
                match own.get_mut(name) {
                    Some(mine) => fill(mine, theirs),
                    None => {
                        own.insert(name.clone(), theirs.clone());
                    }
                }
            }
        }
        (own @ Json::Null, others) => *own = others.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::Record;
    use crate::contacts::Contact;
    use crate::record::{Actor, Stamp};
    use crate::schema::{Entity, Meta};
    use crate::value::Address;

    fn row(number: u128, contact: Contact) -> Row {
        let stamp = Stamp {
            at: chrono::DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        Arc::new(Record::new(
            Meta::first(Uuid::from_u128(number), stamp),
            contact,
        ))
    }

    fn contacts() -> impl Strategy<Value = Contact> {
        let word = || proptest::option::of("[a-c]{1,2}");
        let flags = (any::<bool>(), any::<bool>());
        let tags = proptest::collection::vec("[a-e]", 0..4);
        (word(), word(), word(), word(), flags, tags).prop_map(
            |(title, company, street, city, (call, email), mut tags)| {
                let mut contact = Contact {
                    job_title: title,
                    company,
                    mailing_address: (street.is_some() || city.is_some()).then(|| Address {
                        street,
                        city,
                        ..Address::default()
                    }),
                    ..Contact::named("Ada", "Lovelace")
                };
                contact.preferences.do_not_call = call;
                contact.preferences.do_not_email = email;
                tags.sort_unstable();
                tags.dedup();
                contact.tags = tags;
                contact
            },
        )
    }

    fn planned(rows: &[Row]) -> MergePlan {
        MergePlan::new(Contact::schema(), rows, &Choices::new(), &Above::new()).unwrap()
    }

    proptest! {
        /// R-026, C-021: what any record refused stays refused, no value of the survivor and no tag
        /// is lost, and an address is that of one record.
        #[test]
        fn nothing_is_lost_and_nothing_is_mixed(all in proptest::collection::vec(contacts(), 2..5)) {
            let rows: Vec<Row> = (1..).zip(&all).map(|(id, one)| row(id, one.clone())).collect();
            let plan = planned(&rows);
            for field in ["do_not_call", "do_not_email"] {
                let any = rows.iter().any(|row| row.get(field).into_owned() == Value::Boolean(true));
                prop_assert_eq!(plan.value(field), Some(&Value::Boolean(any)));
            }
            for field in ["job_title", "company"] {
                let mut values = rows.iter().map(|row| row.get(field).into_owned());
                let first = values.find(|value| !value.is_null()).unwrap_or_default();
                prop_assert_eq!(plan.value(field), Some(&first));
            }
            let address = |of: &dyn Fn(&str) -> Value| (of("mailing_street"), of("mailing_city"));
            let merged = address(&|field| plan.value(field).unwrap().clone());
            let is_whole = rows.iter().any(|row| address(&|field| row.get(field).into_owned()) == merged);
            prop_assert!(is_whole);
            let Some(Value::List(tags)) = plan.value("tags") else { unreachable!() };
            prop_assert!(all.iter().flat_map(|one| &one.tags).all(|tag| tags.contains(tag)));
            prop_assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len());
        }

        /// Losers are taken in one after the other: the plan for the first of them is a step of the
        /// plan for all, and merging a record with one like it changes nothing.
        #[test]
        fn plans_are_made_step_by_step(all in proptest::collection::vec(contacts(), 2..5)) {
            let rows: Vec<Row> = (1..).zip(&all).map(|(id, one)| row(id, one.clone())).collect();
            let plan = planned(&rows);
            for count in 1..=rows.len() {
                let part = planned(&rows[..count]);
                prop_assert_eq!(part.steps().last(), plan.steps().get(count - 1));
            }
            let twin = row(99, all[0].clone());
            let twins = planned(&[rows[0].clone(), twin]);
            prop_assert_eq!(twins.steps().last(), twins.steps().first());
        }

        /// C-021: whatever one record is chosen for comes from it, empty or not.
        #[test]
        fn a_choice_counts(all in proptest::collection::vec(contacts(), 2..5), at in 0..5usize) {
            let rows: Vec<Row> = (1..).zip(&all).map(|(id, one)| row(id, one.clone())).collect();
            let chosen = &rows[at % rows.len()];
            let mut choices = Choices::new();
            for field in ["job_title", "tags", "mailing_city"] {
                choices = choices.take(field, chosen.id());
            }
            let plan = MergePlan::new(Contact::schema(), &rows, &choices, &Above::new()).unwrap();
            for field in ["job_title", "tags", "mailing_city", "mailing_street"] {
                prop_assert_eq!(plan.value(field), Some(&chosen.get(field).into_owned()));
            }
        }
    }
}
