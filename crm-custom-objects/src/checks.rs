//! What the records that there are have to be like before definitions change.
//!
//! A [`Pass`] is one look at the records of an object, page by page, for everything that a commit
//! changes about its fields: what is kept meanwhile does not grow with the number of records. The same
//! pass is made twice: before the commit, to list what fails, and by the storage within the commit
//! ([`Guard`]), so that nothing slips in between.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crm_core::error::Result;
use crm_core::query::{AggregateQuery, Comparison, Condition, FieldAt, Query, fold_case};
use crm_core::schema::{AnyRecord, CUSTOM_FIELDS, FailedCheck, ObjectRef, Value, ValueRef};
use crm_core::storage::{Guard, Judge};
use crm_core::{EntityRef, Id, UnitOfWork};
use serde_json::{Map, Value as Json};

use crate::{Check, CompiledFields, CustomField, Definition, Writer};

/// How many records are read at once.
const PAGE: usize = 500;

/// How many failing records are listed.
pub(crate) const LISTED: usize = 100;

/// How many values are compared with each other at once: of more, several passes are made.
const COMPARED: u64 = 100_000;

/// What is to be found out about one field.
pub(crate) struct Asked {
    pub(crate) definition: Definition,
    /// The definition of the field that decides which options may be chosen.
    pub(crate) controlling: Option<Definition>,
    pub(crate) checks: Vec<Check>,
}

/// One look at all records of an object that there is something to find out about.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    object: ObjectRef,
    document: usize,
    looks: Vec<Look>,
    values: Option<Arc<Values>>,
    /// The members that documents may have, where others are looked for too.
    known: Option<Arc<BTreeSet<Box<str>>>>,
    /// Of values that have to differ, only those of this part are compared, of so many.
    part: u64,
    parts: u64,
}

/// What a pass asks about one field.
#[derive(Clone, Debug)]
struct Look {
    field: Option<Id<CustomField>>,
    key: Box<str>,
    asks: Asks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    HasValue,
    Unique { ignore_case: bool },
    Valid,
    Empty,
}

impl Asks {
    const fn name(self) -> &'static str {
        match self {
            Self::HasValue => "has_value",
            Self::Unique { .. } => "unique",
            Self::Valid => "valid",
            Self::Empty => "empty",
        }
    }
}

/// What takes the values of the fields that are asked whether theirs are valid, all at once.
#[derive(Debug)]
struct Values {
    fields: CompiledFields,
    /// The keys of those fields, by their API names.
    keys: HashMap<Box<str>, Box<str>>,
    /// The keys of all compiled fields: those that decide which options may be chosen, too.
    members: BTreeSet<Box<str>>,
}

/// A definition by which values are judged that records have already: every option counts that there
/// is, active or not, since records keep those that are no longer chosen.
fn usable(definition: &Definition, is_controlled: bool) -> Definition {
    let mut definition = definition.clone();
    definition.field.is_active = true;
    definition.field.is_required = false;
    definition.field.default_value = None;
    if !is_controlled {
        definition.field.controlling_field_id = None;
    }
    for option in &mut definition.options {
        option.is_active = true;
        option.is_default = false;
    }
    definition
}

impl Values {
    fn new(asked: &[&Asked]) -> Option<Self> {
        let own = |asked: &&Asked| usable(&asked.definition, asked.controlling.is_some());
        let mut own: Vec<Definition> = asked.iter().map(own).collect();
        let with_controlling = |own: &[Definition]| {
            let mut all = own.to_vec();
            for controlling in asked.iter().filter_map(|one| one.controlling.as_ref()) {
                if !all.iter().any(|known| known.id == controlling.id) {
                    all.push(usable(controlling, false));
                }
            }
            all
        };
        let mut all = with_controlling(&own);
        let fields = CompiledFields::new(&all).or_else(|_| {
            // What does not compile is told by those who compile it.
            own.retain(|one| CompiledFields::new(std::slice::from_ref(one)).is_ok());
            all = with_controlling(&own);
            CompiledFields::new(&all)
        });
        let key = |one: &Definition| Box::from(one.field.document_key());
        Some(Self {
            fields: fields.ok()?,
            keys: own
                .iter()
                .map(|one| (Box::from(&*one.field.api_name.to_string()), key(one)))
                .collect(),
            members: all.iter().map(key).collect(),
        })
    }

    /// The keys whose values the definitions do not take as they are.
    fn wrong(&self, document: &Json, members: &Map<String, Json>) -> HashSet<&str> {
        let mut wrong = HashSet::new();
        if !members.keys().any(|name| self.members.contains(&**name)) {
            return wrong;
        }
        let given = if members.keys().all(|name| self.members.contains(&**name)) {
            Cow::Borrowed(document)
        } else {
            let known = members.iter();
            let known = known.filter(|(name, _)| self.members.contains(&***name));
            let known = known.map(|(name, value)| (name.clone(), value.clone()));
            Cow::Owned(Json::Object(known.collect()))
        };
        let checked = self.fields.check(&given, None, Writer::Engine);
        if let Cow::Owned(stored) = &checked.document {
            let keys = self.keys.values().map(|key| &**key);
            wrong.extend(keys.filter(|key| stored.get(*key) != given.get(*key)));
        }
        if let Err(faults) = checked.faults.into_result() {
            for fault in faults.errors() {
                let name = fault.path.strip_prefix(CUSTOM_FIELDS);
                let name = name.and_then(|rest| rest.strip_prefix('.'));
                let name = name.and_then(|rest| rest.split(['.', '[']).next());
                let key = name.and_then(|name| self.keys.get(name));
                wrong.extend(key.map(|key| &**key));
            }
        }
        wrong
    }
}

/// What a pass came to.
#[derive(Default)]
pub(crate) struct Found {
    /// The records that stand against a change, by the field.
    pub(crate) failed: BTreeMap<Id<CustomField>, Vec<FailedCheck>>,
    /// Whether a record has a member that nobody defined.
    pub(crate) has_unknown: bool,
}

/// A pass while it is made.
struct Judgement {
    pass: Pass,
    seen: HashSet<(usize, String)>,
}

impl Judgement {
    fn new(pass: &Pass) -> Self {
        Self {
            pass: pass.clone(),
            seen: HashSet::new(),
        }
    }

    /// The looks that a record fails, by their places.
    fn failing(&mut self, row: &dyn AnyRecord) -> Vec<usize> {
        let document = row.value(self.pass.document);
        let document = match &document {
            ValueRef::Json(json) => Some(&**json),
            _ => None,
        };
        let members = document.and_then(Json::as_object);
        let wrong = match (&self.pass.values, document, members) {
            (Some(values), Some(document), Some(members)) => values.wrong(document, members),
            _ => HashSet::new(),
        };
        let is_deleted = row.is_deleted();
        let (part, parts) = (self.pass.part, self.pass.parts);
        let mut failing = Vec::new();
        for (place, look) in self.pass.looks.iter().enumerate() {
            let value = members.and_then(|members| members.get(&*look.key));
            let value = value.filter(|value| !value.is_null());
            let fails = match (look.asks, value) {
                // Deleted records have values too.
                (Asks::Empty, value) => value.is_some(),
                _ if is_deleted => false,
                (Asks::HasValue, value) => value.is_none(),
                (Asks::Valid, Some(_)) => wrong.contains(&*look.key),
                (Asks::Unique { ignore_case }, Some(value)) => {
                    let value = match value {
                        Json::String(text) if ignore_case => fold_case(text),
                        other => other.to_string(),
                    };
                    part_of(&value, parts) == part && !self.seen.insert((place, value))
                }
                (Asks::Valid | Asks::Unique { .. }, None) => false,
            };
            if fails {
                failing.push(place);
            }
        }
        failing
    }

    /// Whether a record has a member that nobody defined, where that is asked.
    fn has_unknown(&self, row: &dyn AnyRecord) -> bool {
        let Some(known) = &self.pass.known else {
            return false;
        };
        match row.value(self.pass.document) {
            ValueRef::Json(json) => json
                .as_object()
                .is_some_and(|members| members.keys().any(|name| !known.contains(&**name))),
            _ => false,
        }
    }
}

impl Pass {
    fn at(&self, key: &str) -> FieldAt {
        let mut at = FieldAt::new(self.document);
        at.member = Some(key.into());
        at
    }

    /// The records that may fail.
    pub(crate) fn condition(&self) -> Condition {
        let mut live = Vec::new();
        let mut any = Vec::new();
        for look in &self.looks {
            // Whatever has a value has a document.
            if self.known.is_some() && look.asks != Asks::HasValue {
                continue;
            }
            let null = Condition::Null {
                field: self.at(&look.key),
                is_null: look.asks == Asks::HasValue,
            };
            let place = match look.asks {
                Asks::Empty => &mut any,
                _ => &mut live,
            };
            if !place.contains(&null) {
                place.push(null);
            }
        }
        if !live.is_empty() {
            any.push(Condition::not_deleted().and(one_of(live)));
        }
        if self.known.is_some() {
            let has_document = Condition::Null {
                field: FieldAt::new(self.document),
                is_null: false,
            };
            let empty = Condition::Compare {
                field: FieldAt::new(self.document),
                op: Comparison::Eq,
                value: Value::Json(Json::Object(Map::new())),
            };
            any.push(has_document.and(Condition::Not(Box::new(empty))));
        }
        one_of(any)
    }

    /// What the commit has to look at again, where nobody writes members that are not defined: values of
    /// new fields are then all that there will be. None if that is nothing.
    pub(crate) fn but_values_of(
        mut self,
        is_new: impl Fn(Id<CustomField>) -> bool,
    ) -> Option<Self> {
        let is_known = |look: &Look| {
            let of_values = matches!(look.asks, Asks::Valid | Asks::Unique { .. });
            of_values && look.field.is_some_and(&is_new)
        };
        self.looks.retain(|look| !is_known(look));
        self.known = None;
        if !self.looks.iter().any(|look| look.asks == Asks::Valid) {
            self.values = None;
        }
        (!self.looks.is_empty()).then_some(self)
    }

    /// Looks at all records there are, with what is staged. Once a member is found that nobody
    /// defined, only the records are read that the looks are about.
    async fn run(&mut self, work: &UnitOfWork, found: &mut Found) -> Result<()> {
        let mut judgement = Judgement::new(self);
        let mut query = self.query().limit(PAGE);
        loop {
            let rows = work.select(&query).await?;
            for row in &rows {
                for place in judgement.failing(&**row) {
                    if let Some(look) = self.looks.get(place) {
                        self.fail(look, row.id(), found);
                    }
                }
                if judgement.has_unknown(&**row) {
                    found.has_unknown = true;
                    self.known = None;
                    judgement.pass.known = None;
                    query.condition = self.condition();
                }
            }
            match rows.last().filter(|_| rows.len() == PAGE) {
                Some(last) => query.after = Some(vec![Value::Uuid(last.id())]),
                None => return Ok(()),
            }
        }
    }

    fn fail(&self, look: &Look, id: uuid::Uuid, found: &mut Found) {
        let Some(field) = look.field else { return };
        let of_field = found.failed.entry(field).or_default();
        let check = look.asks.name();
        let known = of_field.iter().position(|failed| failed.check == check);
        let place = known.unwrap_or_else(|| {
            of_field.push(FailedCheck {
                check,
                count: 0,
                records: Vec::new(),
            });
            of_field.len() - 1
        });
        if let Some(failed) = of_field.get_mut(place) {
            failed.count += 1;
            if failed.records.len() < LISTED {
                failed.records.push(EntityRef::new(self.object.name(), id));
            }
        }
    }
}

fn one_of(mut conditions: Vec<Condition>) -> Condition {
    match conditions.pop() {
        Some(only) if conditions.is_empty() => only,
        last => {
            conditions.extend(last);
            Condition::Or(conditions)
        }
    }
}

impl Guard for Pass {
    fn query(&self) -> Query {
        Query::new(&self.object, self.condition())
    }

    fn judge(&self) -> Judge {
        let mut judgement = Judgement::new(self);
        Box::new(move |row| judgement.has_unknown(row) || !judgement.failing(row).is_empty())
    }
}

fn part_of(value: &str, parts: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().checked_rem(parts).unwrap_or_default()
}

/// The passes that some checks take: one, unless many values have to differ. None where there is
/// nothing to ask. Where `known` says which members documents may have, others are looked for.
pub(crate) async fn passes(
    work: &UnitOfWork,
    object: &ObjectRef,
    asked: &[Asked],
    known: Option<BTreeSet<Box<str>>>,
) -> Result<Vec<Pass>> {
    let Some(document) = object.custom_document() else {
        return Ok(Vec::new());
    };
    let mut pass = Pass {
        object: object.clone(),
        document,
        looks: Vec::new(),
        values: None,
        known: known.map(Arc::new),
        part: 0,
        parts: 1,
    };
    let valid = asked
        .iter()
        .filter(|one| one.checks.contains(&Check::Valid));
    let valid: Vec<&Asked> = valid.collect();
    if !valid.is_empty() {
        pass.values = Values::new(&valid).map(Arc::new);
    }
    let mut unique = Vec::new();
    for one in asked {
        let field = &one.definition.field;
        let look = |asks| Look {
            field: Some(one.definition.id),
            key: field.document_key().into(),
            asks,
        };
        for check in &one.checks {
            match check {
                Check::HasValue => pass.looks.push(look(Asks::HasValue)),
                Check::Valid => pass.looks.push(look(Asks::Valid)),
                Check::Unique => unique.push(look(Asks::Unique {
                    ignore_case: field.field_schema().ignore_case,
                })),
            }
        }
    }
    if unique.is_empty() {
        let is_idle = pass.looks.is_empty() && pass.known.is_none();
        return Ok(if is_idle { Vec::new() } else { vec![pass] });
    }
    let mut of_unique = Pass {
        looks: unique.clone(),
        values: None,
        known: None,
        ..pass.clone()
    };
    let count = count(work, &of_unique).await?;
    let fields = u64::try_from(unique.len()).unwrap_or(u64::MAX);
    let parts = count.saturating_mul(fields) / COMPARED + 1;
    (pass.parts, of_unique.parts) = (parts, parts);
    pass.looks.extend(unique);
    let others = (1..parts).map(|part| Pass {
        part,
        ..of_unique.clone()
    });
    Ok(std::iter::once(pass.clone()).chain(others).collect())
}

/// That no record, deleted ones included, has a value of these fields of an object.
pub(crate) fn pass_for_values<'a>(
    object: &ObjectRef,
    fields: impl IntoIterator<Item = (Option<Id<CustomField>>, &'a CustomField)>,
) -> Option<Pass> {
    let looks = fields.into_iter().map(|(id, field)| Look {
        field: id,
        key: field.document_key().into(),
        asks: Asks::Empty,
    });
    Some(Pass {
        object: object.clone(),
        document: object.custom_document()?,
        looks: looks.collect(),
        values: None,
        known: None,
        part: 0,
        parts: 1,
    })
}

/// How many records have a value of a field, deleted ones included.
pub(crate) async fn count_of_values(
    work: &UnitOfWork,
    object: &ObjectRef,
    field: &CustomField,
) -> Result<u64> {
    match pass_for_values(object, [(None, field)]) {
        Some(pass) => count(work, &pass).await,
        None => Ok(0),
    }
}

/// How many records a pass reads.
async fn count(work: &UnitOfWork, pass: &Pass) -> Result<u64> {
    let query = AggregateQuery::count(&pass.object, pass.condition());
    let groups = work.aggregate(&query).await?;
    Ok(groups.first().map_or(0, |group| group.count(0)))
}

/// Makes some passes. What a pass found out keeps it from asking again within the commit.
pub(crate) async fn make(work: &UnitOfWork, passes: &mut [Pass]) -> Result<Found> {
    let mut found = Found::default();
    for pass in passes {
        pass.run(work, &mut found).await?;
    }
    for failed in found.failed.values_mut() {
        failed.sort_by_key(|failed| failed.check);
    }
    Ok(found)
}
