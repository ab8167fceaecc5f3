//! [`SafeChanges`]: definitions change only where records and other definitions allow it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::{CommitHook, UnitOfWork};
use crm_core::error::{Error, Result};
use crm_core::schema::{
    DefinitionInUse, Entity as _, FailedCheck, FieldUse, LIST_ENTRIES, ObjectRef, Row,
};
use crm_core::value::TextValue as _;
use crm_core::{Id, Record};

use crate::checks::{Asked, make, pass_for_values, passes};
use crate::rules::{closed_name, closed_objects};
use crate::tenant::Defined;
use crate::uses::{in_definitions, object_of};
use crate::{
    Check, CustomField, CustomFieldOption, CustomFieldRule, CustomSchema, Definition, FieldChange,
};

/// Checks every commit that changes fields or options, whichever way they were written: as they are
/// when everything is staged, so that a commit may mend what stands against it.
#[derive(Debug)]
pub(crate) struct SafeChanges;

/// What a commit does to a field.
#[derive(Default)]
struct Touched {
    field: Written,
    /// Whether a value may be none any more because of what options become.
    loses_options: bool,
}

/// Whether a commit writes a field, and what it was before.
#[derive(Default)]
enum Written {
    /// Not at all: only its options.
    #[default]
    No,
    /// It is new.
    New,
    /// It was this.
    From {
        before: Arc<Record<CustomField>>,
        is_purged: bool,
    },
}

/// What is to be found out about the records of one object.
struct Planned {
    object: ObjectRef,
    asked: Vec<Asked>,
    /// The new fields: values are looked for that were there before them.
    new: BTreeSet<Id<CustomField>>,
    /// The fields that are removed for good.
    purged: Vec<Arc<Record<CustomField>>>,
}

#[async_trait]
impl CommitHook for SafeChanges {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let touched = touched(work);
        if touched.is_empty() {
            return Ok(());
        }
        let defined = Defined::load(work).await?;
        let known: BTreeSet<String> = closed_objects(work).await?.into_iter().collect();
        let mut planned = BTreeMap::new();
        for (id, touched) in &touched {
            plan(work, &defined, &known, *id, touched, &mut planned).await?;
        }
        let mut closed = known.clone();
        for (name, planned) in planned {
            if look(work, &defined, planned).await? {
                closed.insert(name);
            }
        }
        // Without a field, documents take any member again.
        let with_fields = defined.fields.iter().map(|field| closed_name(field));
        let with_fields: BTreeSet<String> = with_fields.collect();
        closed.retain(|name| with_fields.contains(name));
        if closed != known {
            keep_closed(work, closed);
        }
        Ok(())
    }
}

/// Notes in the row that the commit writes in any case of which objects it is known that no record
/// has a value but of defined fields. Of those beyond the length of a list it is found out again.
fn keep_closed(work: &mut UnitOfWork, closed: BTreeSet<String>) {
    let mut staged = work.staged().iter();
    let own = staged.find(|change| change.object() == CustomSchema::schema());
    let own = own.and_then(|own| {
        let after = Record::<CustomSchema>::from_row(own.after()?.clone())?;
        Some((own.id(), own.before().cloned(), after.data.clone()))
    });
    if let Some((id, before, schema)) = own {
        let closed_objects = closed.into_iter().take(LIST_ENTRIES).collect();
        let schema = CustomSchema {
            closed_objects,
            ..schema
        };
        work.keep_derived(id, before, schema);
    }
}

fn touched(work: &UnitOfWork) -> BTreeMap<Id<CustomField>, Touched> {
    let mut all: BTreeMap<Id<CustomField>, Touched> = BTreeMap::new();
    for change in work.staged() {
        if change.object() == CustomField::schema() {
            let before = change.before().cloned().and_then(Record::from_row);
            let entry = all.entry(Id::new(change.id())).or_default();
            entry.field = before.map_or(Written::New, |before| Written::From {
                before,
                is_purged: change.after().is_none(),
            });
        } else if change.object() == CustomFieldOption::schema() {
            let option = |row: Option<&Row>| {
                let row = row.filter(|row| !row.is_deleted())?;
                Record::<CustomFieldOption>::from_row(row.clone())
            };
            let (before, after) = (option(change.before()), option(change.after()));
            if let Some(before) = before {
                let loses = after.is_none_or(|after| narrows_control(&before, &after));
                all.entry(before.field_id).or_default().loses_options |= loses;
            }
        }
    }
    all
}

/// Whether an option may no longer be chosen under a value under which it could.
fn narrows_control(before: &CustomFieldOption, after: &CustomFieldOption) -> bool {
    let (old, new) = (&before.controlling_values, &after.controlling_values);
    !new.is_empty() && (old.is_empty() || old.iter().any(|value| !new.contains(value)))
}

async fn plan(
    work: &UnitOfWork,
    defined: &Defined,
    closed: &BTreeSet<String>,
    id: Id<CustomField>,
    touched: &Touched,
    planned: &mut BTreeMap<String, Planned>,
) -> Result<()> {
    let mut of = |field: &CustomField, add: &mut dyn FnMut(&mut Planned)| {
        if let Some(object) = object_of(work, field) {
            add(planned
                .entry(closed_name(field))
                .or_insert_with(|| Planned {
                    object,
                    asked: Vec::new(),
                    new: BTreeSet::new(),
                    purged: Vec::new(),
                }));
        }
    };
    let Some(definition) = defined.definition(id) else {
        let Written::From { before, is_purged } = &touched.field else {
            return Ok(());
        };
        if *is_purged {
            of(before, &mut |planned| planned.purged.push(before.clone()));
        } else if before.deleted_at.is_none() {
            let uses = in_definitions(work, id, before, defined).await?;
            refuse(
                before,
                Vec::new(),
                uses.into_iter().filter(is_computed).collect(),
            )?;
        }
        return Ok(());
    };
    let is_closed = closed.contains(&closed_name(&definition.field));
    let checks = checks(touched, &definition, is_closed);
    if checks.is_empty() {
        return Ok(());
    }
    let controlling = definition.field.controlling_field_id;
    let mut asked = Some(Asked {
        controlling: controlling.and_then(|id| defined.definition(id)),
        definition: definition.clone(),
        checks,
    });
    let is_new = matches!(touched.field, Written::New);
    of(&definition.field, &mut |planned| {
        planned.new.extend((is_new && !is_closed).then_some(id));
        planned.asked.extend(asked.take());
    });
    Ok(())
}

/// Makes one pass over the records of an object for all that is to be found out, and lets the commit
/// make it again; whether it is known from now on that no record has a value but of defined fields.
async fn look(work: &mut UnitOfWork, defined: &Defined, planned: Planned) -> Result<bool> {
    let object = &planned.object;
    // A definition is removed for good once no record has a value: then its name is free.
    let purged = planned.purged.iter();
    let purged = purged.map(|field| (Some(field.id), &field.data));
    if !planned.purged.is_empty()
        && let Some(pass) = pass_for_values(object, purged)
    {
        let found = make(work, &mut [pass]).await?;
        for field in &planned.purged {
            let failed = found.failed.get(&field.id).cloned();
            refuse(field, failed.unwrap_or_default(), Vec::new())?;
        }
    }
    let looks_for_values = !planned.new.is_empty();
    let members = looks_for_values.then(|| {
        let fields = defined.fields.iter().chain(&defined.deleted);
        let own = fields.filter(|field| field.object.as_str() == object.name());
        own.map(|field| field.document_key().into()).collect()
    });
    let mut passes = passes(work, object, &planned.asked, members).await?;
    let mut found = make(work, &mut passes).await?;
    for asked in &planned.asked {
        let definition = &asked.definition;
        let failed = found.failed.remove(&definition.id).unwrap_or_default();
        refuse(&definition.field, failed, Vec::new())?;
    }
    let is_closed = looks_for_values && !passes.is_empty() && !found.has_unknown;
    // An object that has fields already takes no other members, so nobody writes such values meanwhile
    // and the commit need not hold up others while it looks again.
    let takes_members = !had_fields(work, defined, object);
    for pass in passes {
        let guard = match takes_members {
            true => Some(pass),
            false => pass.but_values_of(|field| planned.new.contains(&field)),
        };
        if let Some(guard) = guard {
            work.guard(guard);
        }
    }
    Ok(is_closed)
}

/// Whether the object has fields as definitions are stored, before this commit.
fn had_fields(work: &UnitOfWork, defined: &Defined, object: &ObjectRef) -> bool {
    let staged = work.staged().iter();
    let staged = staged.filter(|change| change.object() == CustomField::schema());
    let staged: BTreeMap<_, _> = staged
        .map(|change| (change.id(), change.before()))
        .collect();
    let mut fields = defined.fields.iter().chain(&defined.deleted);
    fields.any(|field| {
        let is_live = match staged.get(&field.id.uuid()) {
            Some(before) => before.is_some_and(|before| !before.is_deleted()),
            None => field.deleted_at.is_none(),
        };
        is_live && field.object.as_str() == object.name()
    })
}

/// What records are to be checked for; `is_closed` says that none has a value but of fields that were
/// defined before.
fn checks(touched: &Touched, definition: &Definition, is_closed: bool) -> Vec<Check> {
    let field = &definition.field;
    let mut checks = match &touched.field {
        Written::No => Vec::new(),
        Written::From { before, .. } if before.deleted_at.is_none() => {
            let mut checks = FieldChange::between(before, field).checks().to_vec();
            let is_controlled = field.controlling_field_id.is_some()
                && before.controlling_field_id != field.controlling_field_id;
            if is_controlled && !checks.contains(&Check::Valid) {
                checks.push(Check::Valid);
            }
            checks
        }
        written => {
            let mut checks = Vec::new();
            if field.needs_value() {
                checks.push(Check::HasValue);
            }
            let is_new = matches!(written, Written::New);
            if field.is_unique && !(is_new && is_closed) {
                checks.push(Check::Unique);
            }
            // Values of a deleted field were not written meanwhile. Of a new one there may be some
            // from the time when the object had no definitions.
            if is_new && !is_closed && !field.field_type.is_computed() {
                checks.push(Check::Valid);
            }
            checks
        }
    };
    let may_have_values = !(is_closed && matches!(touched.field, Written::New));
    if touched.loses_options && may_have_values && !checks.contains(&Check::Valid) {
        checks.push(Check::Valid);
    }
    checks
}

/// Whether it computes or judges by the field, which it cannot do without.
pub(crate) fn is_computed(by: &FieldUse) -> bool {
    let object = by.record.object.as_str();
    object == CustomFieldRule::schema().name()
        || object == CustomField::schema().name() && by.at == CustomField::FIELD_TYPE.name()
}

pub(crate) fn refuse(
    field: &CustomField,
    failed: Vec<FailedCheck>,
    used_by: Vec<FieldUse>,
) -> Result<()> {
    if failed.is_empty() && used_by.is_empty() {
        return Ok(());
    }
    Err(Error::DefinitionInUse(Box::new(DefinitionInUse {
        object: field.object.as_str().to_owned(),
        field: field.api_name.as_str().to_owned(),
        failed,
        used_by,
    })))
}
