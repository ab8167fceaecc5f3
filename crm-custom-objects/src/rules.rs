//! What is checked when definitions are written.

use std::sync::Arc;

use async_trait::async_trait;
use crm_core::activities::{Activity, ActivityLinks, ActivitySeries};
use crm_core::engine::{CommitHook, SCHEMA_VERSION, StagedChange, UnitOfWork, Write, WriteRule};
use crm_core::error::{FieldError, Result, codes};
use crm_core::query::{Condition, Query, Where, WhereExt};
use crm_core::schema::{CUSTOM_FIELDS, Entity, LIST_ENTRY_LENGTH, ObjectRef};
use crm_core::tenancy::Tenant;
use crm_core::value::{ApiName, TextValue};
use crm_core::{Id, Record};

use crate::computed;
use crate::field_type::MAX_SELECTIONS;
use crate::values::state::{keep_state, leave_state};
use crate::{
    CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomObject, CustomRecord,
    CustomRelationship, CustomSchema, FieldChange, RelationshipKind,
};

/// The code of a name that something else has.
const TAKEN: &str = "name_taken";

/// Words of the language of expressions, which cannot be names of fields.
const RESERVED: [&str; 12] = [
    "and", "else", "false", "if", "in", "is", "let", "not", "null", "or", "then", "true",
];

/// At most so many fields control each other in a row.
const CHAIN: usize = 10;

/// An object by its API name.
enum Known {
    /// One of the engine's or the host's.
    Engine(ObjectRef),
    /// One of the tenant's.
    Custom(Arc<Record<CustomObject>>),
}

impl Known {
    fn id(&self) -> Option<Id<CustomObject>> {
        match self {
            Self::Engine(_) => None,
            Self::Custom(object) => Some(object.id),
        }
    }

    /// The description of the fields that every record has.
    fn schema(&self) -> &ObjectRef {
        match self {
            Self::Engine(object) => object,
            Self::Custom(_) => CustomRecord::schema(),
        }
    }
}

/// A filter over definitions, deleted ones included.
///
/// Names in it are those of the engine: what the tenant says of objects is being written, and would be
/// read and compiled anew with each definition of a commit.
fn bound<E: Entity>(work: &UnitOfWork, filter: Where<E>) -> Result<Condition> {
    let registry = work.session().engine().registry();
    Ok(Condition::bind(
        &filter.into_filter(),
        E::schema(),
        registry,
    )?)
}

/// The live definitions that fulfil a filter, archived ones too, by id.
async fn live<E: Entity>(
    work: &UnitOfWork,
    filter: Where<E>,
    limit: usize,
) -> Result<Vec<Arc<Record<E>>>> {
    let condition = Condition::not_deleted().and(bound(work, filter)?);
    let query = Query::new(E::schema(), condition).limit(limit);
    let rows = work.select(&query).await?.into_iter();
    Ok(rows.filter_map(Record::from_row).collect())
}

/// The tenant's object of a name.
async fn custom_object(
    work: &UnitOfWork,
    name: &ApiName,
) -> Result<Option<Arc<Record<CustomObject>>>> {
    let named = CustomObject::API_NAME.eq(name.clone());
    Ok(live(work, named, 1).await?.pop())
}

/// The object of a name, the engine's or the tenant's. The commit relies on the latter.
async fn known(work: &mut UnitOfWork, name: &ApiName) -> Result<Option<Known>> {
    if let Some(object) = engine_object(work, name) {
        return Ok(Some(Known::Engine(object)));
    }
    let Some(object) = custom_object(work, name).await? else {
        return Ok(None);
    };
    work.rely_on(&*object);
    Ok(Some(Known::Custom(object)))
}

fn engine_object(work: &UnitOfWork, name: &ApiName) -> Option<ObjectRef> {
    work.session().engine().registry().object(name.as_str())
}

/// Whether something of the engine, or what definitions are kept in, has a name.
fn is_engines(work: &UnitOfWork, name: &ApiName) -> bool {
    let mut tables = crate::objects().into_iter();
    engine_object(work, name).is_some() || tables.any(|table| table.name() == name.as_str())
}

fn no_object(path: impl Into<String>) -> FieldError {
    FieldError::new(
        path,
        codes::NOT_FOUND,
        "names an object that does not exist",
    )
}

fn stays(write: &mut Write, path: impl Into<String>) {
    let message = "stays what it is: make a new definition instead";
    write.faults().add(path, codes::INCONSISTENT, message);
}

/// Raises the version of the tenant's definitions, once in a commit (contract of every write that is
/// decided by them).
pub(crate) async fn raise_version(work: &mut UnitOfWork) -> Result<()> {
    let Some(tenant) = work.session().tenant() else {
        return Ok(());
    };
    let id = tenant.uuid();
    let mut staged = work.staged().iter();
    let is_own =
        |change: &&StagedChange| change.id() == id && change.object() == CustomSchema::schema();
    let staged = staged.find(is_own).map(|change| change.before().cloned());
    let before = match staged.clone() {
        Some(before) => before,
        None => work.row(CustomSchema::schema(), id).await?,
    };
    if before.is_none() {
        // Whoever says something first at the same time: the other one runs again.
        work.contend(SCHEMA_VERSION, &["id"]);
    }
    if before.is_none() && staged.is_none() {
        // Whoever decided by there being no definitions relied on the tenant.
        if let Some(row) = work.row(Tenant::schema(), id).await? {
            work.touch_row(row);
        }
    }
    let known = before.clone().and_then(Record::<CustomSchema>::from_row);
    let revision = known.map_or(0, |known| known.revision);
    let raised = CustomSchema {
        closed_objects: closed_objects(work).await?,
        ..CustomSchema::new(revision.saturating_add(1))
    };
    work.keep_derived(id, before, raised);
    Ok(())
}

/// [`CustomSchema::closed_objects`] as they are, or shall be after the commit.
pub(crate) async fn closed_objects(work: &UnitOfWork) -> Result<Vec<String>> {
    let Some(tenant) = work.session().tenant() else {
        return Ok(Vec::new());
    };
    let known = work.row(CustomSchema::schema(), tenant.uuid()).await?;
    let known = known.and_then(Record::<CustomSchema>::from_row);
    Ok(known.map_or_else(Vec::new, |known| known.closed_objects.clone()))
}

/// How an object is called among them.
pub(crate) fn closed_name(field: &CustomField) -> String {
    let own = field.object_id.map(|id| id.uuid().to_string());
    own.unwrap_or_else(|| field.object.to_string())
}

/// Definitions that were changed in a way that no rule saw, as by removing them for good, count too.
#[derive(Debug)]
pub(crate) struct SchemaVersion;

#[async_trait]
impl CommitHook for SchemaVersion {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let definitions = [
            CustomObject::schema(),
            CustomField::schema(),
            CustomFieldOption::schema(),
            CustomRelationship::schema(),
            CustomFieldRule::schema(),
        ];
        let changes = work.staged().iter();
        let is_changed = changes
            .map(|change| change.object())
            .any(|object| definitions.contains(&object));
        let is_raised = work
            .staged()
            .iter()
            .any(|change| change.object() == CustomSchema::schema());
        if is_changed && !is_raised {
            raise_version(work).await?;
        }
        Ok(())
    }
}

/// objects have names of their own, which stay.
#[derive(Debug)]
pub(crate) struct ObjectRules;

#[async_trait]
impl WriteRule for ObjectRules {
    fn object(&self) -> &'static str {
        CustomObject::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        raise_version(work).await?;
        let Some(after) = write.after::<CustomObject>().filter(|_| !write.deletes()) else {
            return Ok(());
        };
        let api_name = after.api_name.clone();
        let before = write.before::<CustomObject>();
        let is_renamed = before.is_some_and(|before| before.api_name != api_name);
        if after.name.is_none() {
            let name = Some(api_name.clone());
            write.edit(|object: &mut CustomObject| object.name = name);
        }
        let path = CustomObject::API_NAME.name();
        if is_renamed {
            stays(write, path);
        } else if write.is_new() {
            let named = CustomRelationship::NAME.eq(api_name.clone());
            let links = live(work, named, 1).await?;
            if is_engines(work, &api_name) || !links.is_empty() {
                let message = "another object or relationship has this name";
                write.faults().add(path, TAKEN, message);
            }
        }
        Ok(())
    }
}

/// what a field is, what it is called,
/// and that values stay what they are.
#[derive(Debug)]
pub(crate) struct FieldRules;

#[async_trait]
impl WriteRule for FieldRules {
    fn object(&self) -> &'static str {
        CustomField::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        raise_version(work).await?;
        if write.deletes() {
            leave_state(write);
        }
        let Some(after) = write.after::<CustomField>().filter(|_| !write.deletes()) else {
            return Ok(());
        };
        let (id, after) = (after.id, after.data.clone());
        let before = write.before::<CustomField>();
        let before = before.map(|before| before.data.clone());
        if let Some(before) = &before {
            check_change(before, &after, write);
        }
        let object = known(work, &after.object).await?;
        let object = object.filter(|object| object.schema().field(CUSTOM_FIELDS).is_some());
        match &object {
            Some(object) => {
                name_field(before.as_ref(), &after, object, write);
                let is_new_name =
                    before.as_ref().map(|field| &field.api_name) != Some(&after.api_name);
                if is_new_name {
                    check_name(work, id, &after, object, write).await?;
                }
            }
            None => write.faults().push(no_object(CustomField::OBJECT.name())),
        }
        if let Some(object) = &object {
            keep_state(work, write, object.id().is_some()).await?;
        }
        let target = after.field_type.target();
        let is_new_type = before.as_ref().map(|field| &field.field_type) != Some(&after.field_type);
        if let Some(target) = target.filter(|_| is_new_type)
            && known(work, target).await?.is_none()
        {
            let path = format!("{}.object", CustomField::FIELD_TYPE.name());
            write.faults().push(no_object(path));
        }
        if let CustomFieldType::RollUp(roll_up) = &after.field_type
            && is_new_type
            && known(work, &roll_up.object).await?.is_none()
        {
            let path = format!("{}.object", CustomField::FIELD_TYPE.name());
            write.faults().push(no_object(path));
        }
        let was_computed = before
            .as_ref()
            .is_some_and(|before| before.is_active && before.field_type.is_computed());
        let is_computed = after.is_active && after.field_type.is_computed();
        if is_computed && (is_new_type || !was_computed) && write.faults().is_empty() {
            let field = write.after::<CustomField>().cloned();
            if let Some(field) = field {
                computed::check_field(work, &field, write).await?;
            }
        }
        let controlling = after.controlling_field_id;
        let is_new_control =
            before.as_ref().and_then(|field| field.controlling_field_id) != controlling;
        if let Some(controlling) = controlling.filter(|_| is_new_control) {
            check_controlling(work, id, &after, controlling, write).await?;
        }
        Ok(())
    }
}

/// What a change may not touch. Checks of the records that there are belong to who makes the change:
/// [`FieldChange::checks`] says which.
fn check_change(before: &CustomField, after: &CustomField, write: &mut Write) {
    if before.object != after.object {
        stays(write, CustomField::OBJECT.name());
    } else if let FieldChange::Refused(message) = FieldChange::between(before, after) {
        let path = CustomField::FIELD_TYPE.name();
        write.faults().add(path, codes::INCONSISTENT, message);
    }
}

/// Fills in what follows from the names: the key is the first API name, and former ones stay.
fn name_field(
    before: Option<&CustomField>,
    after: &CustomField,
    object: &Known,
    write: &mut Write,
) {
    let api_name = after.api_name.clone();
    let object_id = object.id();
    let former = before.filter(|before| before.api_name != api_name);
    let former = former.map(|before| before.api_name.to_string());
    write.edit(|field: &mut CustomField| {
        field.object_id = object_id;
        let key = field
            .key
            .get_or_insert_with(|| api_name.clone())
            .to_string();
        field.name.get_or_insert_with(|| api_name.clone());
        field.former_names.extend(former);
        let mut known = Vec::new();
        field.former_names.retain(|name| {
            let is_other = *name != key && *name != api_name.as_str() && !known.contains(name);
            known.push(name.clone());
            is_other
        });
    });
}

/// A name of a field is that of no other: no built-in one, no word of expressions, and none that
/// another field of the object has or had, until that is removed for good.
async fn check_name(
    work: &mut UnitOfWork,
    id: Id<CustomField>,
    field: &CustomField,
    object: &Known,
    write: &mut Write,
) -> Result<()> {
    let path = CustomField::API_NAME.name();
    let name = field.api_name.as_str();
    if RESERVED.contains(&name) {
        let message = "is a word of expressions: choose another name";
        write.faults().add(path, TAKEN, message);
        return Ok(());
    }
    if object.schema().field(name).is_some() {
        let message = "the object has a field of this name";
        write.faults().add(path, TAKEN, message);
        return Ok(());
    }
    let has_name = CustomField::API_NAME
        .eq(field.api_name.clone())
        .or(CustomField::KEY.eq(field.api_name.clone()))
        .or(CustomField::FORMER_NAMES.any_of([name]));
    let others = CustomField::OBJECT.eq(field.object.clone()).and(has_name);
    let others = Query::new(CustomField::schema(), bound(work, others)?).limit(2);
    let others = work.select(&others).await?;
    if others.iter().any(|other| other.id() != id.uuid()) {
        let message = "another field of the object has or had this name";
        write.faults().add(path, TAKEN, message);
    }
    Ok(())
}

/// The field that decides which options may be chosen is another one of the object, with few
/// values, and not decided by this one in turn.
async fn check_controlling(
    work: &mut UnitOfWork,
    id: Id<CustomField>,
    field: &CustomField,
    controlling: Id<CustomField>,
    write: &mut Write,
) -> Result<()> {
    let path = CustomField::CONTROLLING_FIELD_ID.name();
    let mut next = Some(controlling);
    let mut above = 0;
    while let Some(place) = next {
        above += 1;
        if place == id || above > CHAIN {
            let message = "fields must not control each other in a circle";
            write.faults().add(path, "cycle", message);
            return Ok(());
        }
        let found = work.records::<CustomField>().get_all(&[place]).await?;
        let Some(found) = found.first() else {
            write.faults().push(FieldError::missing_record(path));
            return Ok(());
        };
        if found.object != field.object {
            let message = "choose a field of the same object";
            write.faults().add(path, codes::INCONSISTENT, message);
            return Ok(());
        }
        let decides =
            found.field_type.has_options() || found.field_type == CustomFieldType::Boolean;
        if !decides {
            let message = "choose a picklist or a field of true or false";
            write.faults().add(path, codes::INCONSISTENT, message);
            return Ok(());
        }
        work.rely_on(&**found);
        next = found.controlling_field_id;
    }
    Ok(())
}

/// options belong to picklists, and their values stay.
#[derive(Debug)]
pub(crate) struct OptionRules;

#[async_trait]
impl WriteRule for OptionRules {
    fn object(&self) -> &'static str {
        CustomFieldOption::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        raise_version(work).await?;
        let Some(after) = write
            .after::<CustomFieldOption>()
            .filter(|_| !write.deletes())
        else {
            return Ok(());
        };
        let (id, after) = (after.id, after.data.clone());
        let before = write.before::<CustomFieldOption>();
        let is_moved = before.is_some_and(|before| before.field_id != after.field_id);
        if before.is_some_and(|before| before.value != after.value) {
            stays(write, CustomFieldOption::VALUE.name());
        }
        let fields = work.records::<CustomField>();
        let Some(field) = fields.get_all(&[after.field_id]).await?.into_iter().next() else {
            // That there is none is told by the reference.
            return Ok(());
        };
        if is_moved {
            stays(write, CustomFieldOption::FIELD_ID.name());
        }
        let is_list = field.field_type == CustomFieldType::Multipicklist;
        if !field.field_type.has_options() {
            let message = "only picklists have options";
            let path = CustomFieldOption::FIELD_ID.name();
            write.faults().add(path, codes::INCONSISTENT, message);
            return Ok(());
        }
        if is_list && after.value.chars().count() > LIST_ENTRY_LENGTH {
            let message = format!("use at most {LIST_ENTRY_LENGTH} characters for one of several");
            let path = CustomFieldOption::VALUE.name();
            write.faults().add(path, codes::TOO_LONG, message);
        }
        if after.is_default {
            let most = if is_list { MAX_SELECTIONS } else { 1 };
            let defaults = CustomFieldOption::FIELD_ID
                .eq(after.field_id)
                .and(CustomFieldOption::IS_DEFAULT.eq(true));
            let defaults = live(work, defaults, most + 1).await?;
            let others = defaults.iter().filter(|option| option.id != id);
            if others.count() >= most {
                let path = CustomFieldOption::IS_DEFAULT.name();
                let message = format!("at most {most} options may be defaults");
                write.faults().add(path, codes::TOO_MANY, message);
            }
        }
        check_controlling_values(work, &field, &after, write).await
    }
}

/// The controlling values of an option are values of the controlling field.
async fn check_controlling_values(
    work: &mut UnitOfWork,
    field: &CustomField,
    option: &CustomFieldOption,
    write: &mut Write,
) -> Result<()> {
    if option.controlling_values.is_empty() {
        return Ok(());
    }
    let path = CustomFieldOption::CONTROLLING_VALUES.name();
    let Some(controlling) = field.controlling_field_id else {
        let message = "name the controlling field of the picklist first";
        write.faults().add(path, codes::INCONSISTENT, message);
        return Ok(());
    };
    let found = work
        .records::<CustomField>()
        .get_all(&[controlling])
        .await?;
    let Some(found) = found.first() else {
        return Ok(());
    };
    let known = if found.field_type == CustomFieldType::Boolean {
        let mut values = option.controlling_values.iter();
        values.all(|value| matches!(value.as_str(), "true" | "false"))
    } else {
        let named = CustomFieldOption::FIELD_ID
            .eq(controlling)
            .and(CustomFieldOption::VALUE.one_of(option.controlling_values.iter().cloned()));
        let count = option.controlling_values.len();
        live(work, named, count + 1).await?.len() == count
    };
    if !known {
        let message = "must be values of the controlling field";
        write.faults().add(path, codes::NOT_AN_OPTION, message);
    }
    Ok(())
}

/// relationships join objects that there are, under a name of their
/// own, and stay what they are.
#[derive(Debug)]
pub(crate) struct RelationshipRules;

#[async_trait]
impl WriteRule for RelationshipRules {
    fn object(&self) -> &'static str {
        CustomRelationship::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        raise_version(work).await?;
        let Some(after) = write
            .after::<CustomRelationship>()
            .filter(|_| !write.deletes())
        else {
            return Ok(());
        };
        let after = after.data.clone();
        if let Some(before) = write.before::<CustomRelationship>() {
            let changed = [
                (before.name != after.name, CustomRelationship::NAME.name()),
                (
                    before.from_object != after.from_object,
                    CustomRelationship::FROM_OBJECT.name(),
                ),
                (
                    before.to_object != after.to_object,
                    CustomRelationship::TO_OBJECT.name(),
                ),
                (before.kind != after.kind, CustomRelationship::KIND.name()),
                (
                    holder(&before.data) != holder(&after),
                    CustomRelationship::CARDINALITY.name(),
                ),
            ];
            for (_, path) in changed.into_iter().filter(|(is_changed, _)| *is_changed) {
                stays(write, path);
            }
        } else if is_engines(work, &after.name) || custom_object(work, &after.name).await?.is_some()
        {
            let path = CustomRelationship::NAME.name();
            write.faults().add(path, TAKEN, "an object has this name");
        }
        let mut ids = [None, None];
        let ends = [
            (&after.from_object, CustomRelationship::FROM_OBJECT.name()),
            (&after.to_object, CustomRelationship::TO_OBJECT.name()),
        ];
        for ((object, path), id) in ends.into_iter().zip(&mut ids) {
            match known(work, object).await? {
                Some(object) => *id = object.id(),
                None => write.faults().push(no_object(path)),
            }
        }
        let is_part = after.kind == RelationshipKind::MasterDetail;
        let [from, to] = ids;
        write.edit(|relationship: &mut CustomRelationship| {
            relationship.from_object_id = from;
            relationship.to_object_id = to;
            // parts have a whole, and go with it.
            relationship.is_required |= is_part;
            relationship.cascade_delete |= is_part;
        });
        Ok(())
    }
}

/// Whether activities may be about the records of an object is said by its definition.
#[derive(Debug)]
pub(crate) struct ActivityLinkRules;

#[async_trait]
impl WriteRule for ActivityLinkRules {
    fn object(&self) -> &'static str {
        Activity::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let before = write.before::<Activity>().map(|before| &before.links);
        let after = write.after::<Activity>().map(|after| &after.links);
        let object = newly_related(before, after).filter(|_| !write.deletes());
        check_allowed(work, object, write).await
    }
}

/// The same for the series of activities.
#[derive(Debug)]
pub(crate) struct SeriesLinkRules;

#[async_trait]
impl WriteRule for SeriesLinkRules {
    fn object(&self) -> &'static str {
        ActivitySeries::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let before = write.before::<ActivitySeries>();
        let before = before.map(|before| &before.pattern.links);
        let after = write.after::<ActivitySeries>();
        let after = after.map(|after| &after.pattern.links);
        let object = newly_related(before, after).filter(|_| !write.deletes());
        check_allowed(work, object, write).await
    }
}

/// The object that an activity was not linked to before.
fn newly_related(before: Option<&ActivityLinks>, after: Option<&ActivityLinks>) -> Option<ApiName> {
    let after = after?.related_object.as_deref()?;
    let known = before.and_then(|links| links.related_object.as_deref());
    let is_new = known != Some(after);
    is_new.then(|| ApiName::parse(after).ok()).flatten()
}

async fn check_allowed(
    work: &mut UnitOfWork,
    object: Option<ApiName>,
    write: &mut Write,
) -> Result<()> {
    // The engine's own and the host's objects have no definition, and take activities.
    let Some(name) = object.filter(|name| engine_object(work, name).is_none()) else {
        return Ok(());
    };
    let Some(object) = custom_object(work, &name).await? else {
        return Ok(());
    };
    work.rely_on(&*object);
    if !object.allow_activities {
        let path = ActivityLinks::RELATED_OBJECT.name();
        let message = "activities about records of this object are not allowed";
        write.faults().add(path, codes::INCONSISTENT, message);
    }
    Ok(())
}

/// The object whose records hold the reference.
fn holder(relationship: &CustomRelationship) -> Option<ApiName> {
    relationship.reference_field().map(|field| field.object)
}

/// Rules between fields belong to objects that there are.
#[derive(Debug)]
pub(crate) struct RuleRules;

#[async_trait]
impl WriteRule for RuleRules {
    fn object(&self) -> &'static str {
        CustomFieldRule::schema().name()
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        raise_version(work).await?;
        let Some(after) = write
            .after::<CustomFieldRule>()
            .filter(|_| !write.deletes())
        else {
            return Ok(());
        };
        let rule = after.clone();
        let object = rule.object.clone();
        let before = write.before::<CustomFieldRule>();
        let is_new = before.is_none_or(|before| {
            before.expression != rule.expression
                || before.field != rule.field
                || before.is_active != rule.is_active
        });
        if before.is_some_and(|before| before.object != object) {
            stays(write, CustomFieldRule::OBJECT.name());
        }
        match known(work, &object).await? {
            Some(known) if known.schema().field(CUSTOM_FIELDS).is_some() => {
                let id = known.id();
                write.edit(|rule: &mut CustomFieldRule| rule.object_id = id);
                if is_new && rule.is_active {
                    computed::check_rule(work, &rule, write).await?;
                }
            }
            _ => {
                let path = CustomFieldRule::OBJECT.name();
                write.faults().push(no_object(path));
            }
        }
        Ok(())
    }
}
