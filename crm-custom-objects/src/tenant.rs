//! [`Definitions`]: what a tenant defined, as the engine sees it.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::{TenantObjects, TenantSchema};
use crm_core::error::{Faults, FieldError, Result, codes};
use crm_core::query::{Condition, Query};
use crm_core::schema::{
    CUSTOM_FIELDS, CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity,
    FieldSchema, FieldType, ObjectRef, OnDelete, Registry, Row, ValueRef,
};
use crm_core::tenancy::Tenant;
use crm_core::value::{TextValue as _, TimeZone};
use crm_core::{Id, Record, Session, UnitOfWork};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::computed::{Local, Program, complete};
use crate::values::form::KeptField;
use crate::{
    CompiledFields, CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomLink,
    CustomObject, CustomRecord, CustomRelationship, CustomSchema, CustomValuesExt as _, Definition,
    IndexState, RelationshipKind, Writer,
};

/// Reads the definitions of a tenant and describes its objects by them.
///
/// The facade gives it to its engine; a host that puts an engine together itself does the same:
///
/// ```
/// use crm_core::Engine;
/// use crm_core::storage::conformance::NaiveStorage;
///
/// let builder = Engine::builder(NaiveStorage::default());
/// let engine = crm_custom_objects::install(builder).build();
/// # let _ = engine;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Definitions;

/// Every live definition of a tenant, as it was read.
#[derive(Default)]
pub(crate) struct Defined {
    pub(crate) objects: Vec<Arc<Record<CustomObject>>>,
    pub(crate) fields: Vec<Arc<Record<CustomField>>>,
    /// Fields that are deleted and not yet purged: records may have values of them.
    pub(crate) deleted: Vec<Arc<Record<CustomField>>>,
    pub(crate) options: Vec<Arc<Record<CustomFieldOption>>>,
    pub(crate) relationships: Vec<Arc<Record<CustomRelationship>>>,
    pub(crate) rules: Vec<Arc<Record<CustomFieldRule>>>,
}

/// The definitions of a tenant as they are stored. They are read once in a unit of work, however many
/// of them it writes.
struct Stored {
    /// The version of the tenant's definitions that the unit of work changes.
    version: Option<i64>,
    rows: Vec<(ObjectRef, Vec<Row>)>,
}

impl Stored {
    async fn of(work: &UnitOfWork) -> Result<Arc<Self>> {
        // Once it writes definitions, others that do so make it a conflict.
        let mut staged = work.staged().iter();
        let own = staged.find(|change| change.object() == CustomSchema::schema());
        let version = own.map(|own| own.before().map(|row| row.version()));
        let known = work.cached::<Self>();
        if let Some(known) = known.filter(|known| version == Some(known.version)) {
            return Ok(known);
        }
        let mut rows = Vec::new();
        for object in [
            CustomObject::schema(),
            CustomField::schema(),
            CustomFieldOption::schema(),
            CustomRelationship::schema(),
            CustomFieldRule::schema(),
        ] {
            let condition = match object == CustomField::schema() {
                true => Condition::all(),
                false => Condition::not_deleted(),
            };
            let query = Query::new(object, condition);
            // As they are stored, without what is staged.
            let stored = work.session().begin().select(&query).await?;
            rows.push((object.clone(), stored));
        }
        let stored = Arc::new(Self {
            version: version.flatten(),
            rows,
        });
        if version.is_some() {
            work.cache(stored.clone());
        }
        Ok(stored)
    }

    /// The records of an object with what is staged, deleted ones included, in the order in which
    /// they were made.
    fn with_staged<E: Entity>(
        &self,
        work: &UnitOfWork,
    ) -> impl Iterator<Item = Arc<Record<E>>> + use<E> {
        let stored = self.rows.iter().find(|(object, _)| object == E::schema());
        let stored = stored.map_or(&[][..], |(_, rows)| rows);
        let mut all: BTreeMap<Uuid, Row> =
            stored.iter().map(|row| (row.id(), row.clone())).collect();
        let staged = work.staged().iter();
        for change in staged.filter(|change| change.object() == E::schema()) {
            match change.after() {
                Some(row) => all.insert(change.id(), row.clone()),
                None => all.remove(&change.id()),
            };
        }
        all.into_values().filter_map(Record::from_row)
    }

    fn live<E: Entity>(&self, work: &UnitOfWork) -> Vec<Arc<Record<E>>> {
        let all = self.with_staged::<E>(work);
        all.filter(|record| record.deleted_at.is_none()).collect()
    }
}

/// The definition of a field with its options, brought into order.
fn definition_of(
    field: &Record<CustomField>,
    mut options: Vec<&Record<CustomFieldOption>>,
) -> Definition {
    options.sort_by_key(|option| (option.position, option.id));
    Definition {
        id: field.id,
        options: options
            .into_iter()
            .map(|option| option.data.clone())
            .collect(),
        field: field.data.clone(),
    }
}

/// The live records of an object, in the order in which they were made.
async fn all<E: Entity>(work: &UnitOfWork) -> Result<Vec<Arc<Record<E>>>> {
    let query = Query::new(E::schema(), Condition::not_deleted());
    let rows = work.select(&query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

impl Defined {
    pub(crate) async fn load(work: &UnitOfWork) -> Result<Self> {
        let stored = Stored::of(work).await?;
        let fields = stored.with_staged::<CustomField>(work);
        let (deleted, fields) = fields.partition(|field| field.deleted_at.is_some());
        Ok(Self {
            objects: stored.live(work),
            fields,
            deleted,
            options: stored.live(work),
            relationships: stored.live(work),
            rules: stored.live(work),
        })
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.fields.is_empty() && self.relationships.is_empty()
    }

    /// The definitions of the fields of an object, with their options in order.
    pub(crate) fn of_object(&self, object: &str) -> Vec<Definition> {
        let fields = self.fields.iter();
        let fields = fields.filter(|field| field.object.as_str() == object);
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by_key(|field| (field.display_order, field.id));
        let mut options: HashMap<Id<CustomField>, Vec<&Record<CustomFieldOption>>> = HashMap::new();
        for option in &self.options {
            options.entry(option.field_id).or_default().push(option);
        }
        let definition = |field: &Arc<Record<CustomField>>| {
            let options = options.remove(&field.id).unwrap_or_default();
            definition_of(field, options)
        };
        fields.into_iter().map(definition).collect()
    }

    /// The definition of a field, with its options in order.
    pub(crate) fn definition(&self, id: Id<CustomField>) -> Option<Definition> {
        let field = self.fields.iter().find(|field| field.id == id)?;
        let options = self.options.iter().filter(|option| option.field_id == id);
        Some(definition_of(
            field,
            options.map(|option| &**option).collect(),
        ))
    }

    /// The tenant's objects, described by a function: those in use, and the others.
    fn objects(
        &self,
        base: &Registry,
        describe: &dyn Fn(&ObjectRef) -> ObjectRef,
    ) -> (Vec<ObjectRef>, Vec<ObjectRef>) {
        let (mut objects, mut hidden) = (Vec::new(), Vec::new());
        for object in &self.objects {
            let help = object
                .description
                .clone()
                .unwrap_or_else(|| object.label.clone());
            let name = object.api_name.to_string();
            let id = object.id.uuid();
            let instance = CustomRecord::schema().instance(name, help, "object_id", id, |_| {});
            let place = match object.is_active {
                true => &mut objects,
                false => &mut hidden,
            };
            place.extend(instance.map(|instance| describe(&instance)));
        }
        let fields = self.fields.iter().chain(&self.deleted);
        let with_fields = fields.map(|field| field.object.as_str());
        let with_rules = self.rules.iter().map(|rule| rule.object.as_str());
        let extended: BTreeSet<&str> = with_fields.chain(with_rules).collect();
        let extended = extended.into_iter().filter_map(|name| base.object(name));
        objects.extend(extended.map(|object| describe(&object)));
        let links = self.relationships.iter();
        let links = links.filter(|link| link.kind == RelationshipKind::ManyToMany);
        objects.extend(links.filter_map(|link| link_object(link)));
        (objects, hidden)
    }

    /// The tenant's objects over those of the engine, to bind names to: nothing is written by them.
    pub(crate) fn registry(&self, work: &UnitOfWork) -> Registry {
        let base = work.session().engine().registry();
        let (objects, _) = self.objects(base, &|object| {
            let definitions = self.of_object(object.name());
            let fields = definitions.iter().map(schema_of).collect();
            object.with_custom_fields(CustomFields::new(fields, Arc::new(Unsound)))
        });
        let own = Registry::default();
        base.objects().values().for_each(|object| own.add(object));
        Registry::over(Arc::new(own), objects)
    }

    /// The object with the fields that are defined for it.
    fn described(&self, object: &ObjectRef, program: &Program) -> ObjectRef {
        let definitions = self.of_object(object.name());
        let fields = definitions.iter().map(schema_of).collect();
        let kept = definitions.iter().enumerate();
        let kept = kept.filter_map(|(at, one)| KeptField::of(one.id, at, &one.field));
        let kept = kept.collect();
        let check: Arc<dyn CheckCustomFields> = match CompiledFields::new(&definitions) {
            Ok(fields) => Arc::new(Compiled {
                fields,
                kept,
                has_texts: self.has_texts(object.name()),
                deleted: self.deleted_names(object.name()),
                local: program.local(object.name()),
            }),
            Err(faults) => {
                // What a definition says is checked when it is written, so this is what a later
                // version of the library no longer takes.
                tracing::error!(
                    object = object.name(),
                    faults = faults.len(),
                    "unsound definitions"
                );
                Arc::new(Unsound)
            }
        };
        object.with_custom_fields(CustomFields::new(fields, check))
    }
}

impl Defined {
    /// Whether there are, or were, fields of the object that a text search may look into.
    fn has_texts(&self, object: &str) -> bool {
        let mut fields = self.fields.iter().chain(&self.deleted);
        fields.any(|field| field.object.as_str() == object && field.is_text())
    }

    /// The names of the deleted fields of an object: the key and the others.
    fn deleted_names(&self, object: &str) -> Vec<DeletedField> {
        let deleted = self.deleted.iter();
        let deleted = deleted.filter(|field| field.object.as_str() == object);
        let names = |field: &Arc<Record<CustomField>>| {
            let others = std::iter::once(field.api_name.as_str()).chain(field.aliases());
            let key = field.document_key();
            DeletedField {
                key: key.into(),
                names: others.map(Into::into).collect(),
            }
        };
        deleted.map(names).collect()
    }
}

/// What queries, imports and forms know of a field.
fn schema_of(definition: &Definition) -> CustomFieldSchema {
    let field = &definition.field;
    CustomFieldSchema {
        id: definition.id.uuid(),
        key: field.document_key().into(),
        former_names: field
            .former_names
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        field: field.field_schema(),
        unique: field.is_unique,
        options: definition
            .options
            .iter()
            .map(|option| option.value.as_str().into())
            .collect(),
        currency: match &field.field_type {
            CustomFieldType::Currency { currency, .. } => Some(*currency),
            _ => None,
        },
        active: field.is_active,
        search_complete: field.search_state == IndexState::Ready,
    }
}

#[async_trait]
impl TenantSchema for Definitions {
    async fn load(&self, work: &UnitOfWork) -> Result<TenantObjects> {
        let Some(tenant) = work.session().tenant() else {
            return Ok(TenantObjects::default());
        };
        // Read first: whatever changes behind it makes a commit that relies on it a conflict.
        let Some(version) = work.row(CustomSchema::schema(), tenant.uuid()).await? else {
            // The first definition changes the tenant's own row.
            let version = work.row(Tenant::schema(), tenant.uuid()).await?;
            return Ok(TenantObjects {
                version,
                ..TenantObjects::default()
            });
        };
        let defined = Defined::load(work).await?;
        let zone = match work.row(Tenant::schema(), tenant.uuid()).await? {
            Some(row) => Record::<Tenant>::from_row(row).map(|tenant| tenant.timezone),
            None => None,
        };
        let zone = zone.unwrap_or(TimeZone::UTC);
        let program = Program::new(&defined, &defined.registry(work), zone);
        for (id, faults) in program.faults() {
            // What a definition says is checked when it is written; what it looked at is gone.
            tracing::warn!(definition = %id, faults = faults.len(), "nothing to compute it from");
        }
        let base = work.session().engine().registry();
        let (objects, hidden) =
            defined.objects(base, &|object| defined.described(object, &program));
        Ok(TenantObjects {
            objects,
            hidden,
            version: Some(version),
            extension: Some(Arc::new(program)),
        })
    }

    async fn compute(
        &self,
        work: &UnitOfWork,
        rows: Vec<Row>,
        keys: &[Box<str>],
    ) -> Result<Vec<Row>> {
        complete(work, rows, keys).await
    }

    async fn defined(&self, work: &mut UnitOfWork) -> Result<()> {
        // Definitions are read once they have a version.
        let Some(tenant) = work.session().tenant() else {
            return Ok(());
        };
        let version = work.row(CustomSchema::schema(), tenant.uuid()).await?;
        if version.is_none() && !Defined::load(work).await?.is_empty() {
            // The tenant's own row stays as it came: nobody works in it yet.
            work.keep_derived(tenant.uuid(), None, CustomSchema::new(1));
        }
        Ok(())
    }

    async fn imported(&self, session: &Session) -> Result<()> {
        open_objects(session).await?;
        // The typed rows of fields are not carried, and the definitions say that they are there.
        let fields: Vec<Arc<Record<CustomField>>> = all(&session.begin()).await?;
        let mut searched = BTreeSet::new();
        for field in fields {
            // Those of other fields are made by whoever was about to.
            if field.index_state == IndexState::Ready {
                session.custom_values().rebuild(field.id, None, &()).await?;
            }
            if field.search_state == IndexState::Ready {
                searched.insert(field.object.to_string());
            }
        }
        // Records of custom objects are found by their tags too.
        let objects: Vec<Arc<Record<CustomObject>>> = all(&session.begin()).await?;
        searched.extend(objects.iter().map(|object| object.api_name.to_string()));
        for object in searched {
            session.custom_values().rebuild_texts(&object).await?;
        }
        Ok(())
    }
}

/// Forgets of which objects it was known that no record has a value but of defined fields: nobody looked
/// at the records that came past the engine.
async fn open_objects(session: &Session) -> Result<()> {
    let Some(tenant) = session.tenant() else {
        return Ok(());
    };
    let mut work = session.begin();
    let before = work.row(CustomSchema::schema(), tenant.uuid()).await?;
    let known = before.clone().and_then(Record::<CustomSchema>::from_row);
    if let Some(known) = known.filter(|known| !known.closed_objects.is_empty()) {
        let schema = CustomSchema {
            closed_objects: Vec::new(),
            ..known.data.clone()
        };
        work.keep_derived(tenant.uuid(), before, schema);
        work.commit().await?;
    }
    Ok(())
}

/// The object whose records are the links of a many-to-many relationship.
fn link_object(link: &Record<CustomRelationship>) -> Option<ObjectRef> {
    let help = link.description.clone().unwrap_or_default();
    let end = |object: &str| FieldType::Reference {
        object: object.to_owned().into(),
        on_delete: OnDelete::Cascade,
    };
    let refine = |field: &mut FieldSchema| match &*field.name {
        "from_id" => field.field_type = end(link.from_object.as_str()),
        "to_id" => field.field_type = end(link.to_object.as_str()),
        _ => {}
    };
    let name = link.name.to_string();
    CustomLink::schema().instance(name, help, "relationship_id", link.id.uuid(), refine)
}

/// The compiled definitions of one object.
#[derive(Debug)]
pub(crate) struct Compiled {
    fields: CompiledFields,
    /// The fields whose values have typed rows.
    pub(crate) kept: Vec<KeptField>,
    /// Whether a text search may have found records by the fields, those of deleted ones too.
    pub(crate) has_texts: bool,
    deleted: Vec<DeletedField>,
    /// What follows from the record alone, and rules.
    local: Option<Arc<Local>>,
}

/// A field that is deleted and not yet purged.
#[derive(Debug)]
struct DeletedField {
    key: Box<str>,
    /// Every name that led to it, the key among them.
    names: Vec<Box<str>>,
}

impl Compiled {
    /// Values of deleted fields stay as they are: nobody writes them, and a document that is given
    /// without them has them still. Gives the document with them, where it differs.
    fn keep_deleted(
        &self,
        after: &Json,
        before: Option<&Json>,
        faults: &mut Faults,
    ) -> Option<Json> {
        let given = |document: &Json, name: &str| document.get(name).cloned().unwrap_or_default();
        let mut kept: Option<Json> = None;
        for field in &self.deleted {
            for name in &field.names {
                let was = before.map_or(Json::Null, |before| given(before, name));
                let is = given(after, name);
                if is == was {
                    continue;
                }
                if !is.is_null() {
                    let message = "the field was deleted: restore it to write its values";
                    let path = format!("{CUSTOM_FIELDS}.{name}");
                    faults.add(path, codes::UNKNOWN_FIELD, message);
                } else if *name == field.key && (after.is_object() || after.is_null()) {
                    let document = kept.get_or_insert_with(|| match after {
                        Json::Null => Json::Object(serde_json::Map::new()),
                        other => other.clone(),
                    });
                    if let Some(members) = document.as_object_mut() {
                        members.insert(name.to_string(), was);
                    }
                }
            }
        }
        kept
    }
}

impl CheckCustomFields for Compiled {
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json> {
        let document = |value| match value {
            ValueRef::Json(json) => json.into_owned(),
            _ => Json::Null,
        };
        let given = document(write.after.value(write.document));
        let before = write.before.map(|row| document(row.value(write.document)));
        // The engine may take them away.
        let kept = match write.by_engine {
            true => None,
            false => self.keep_deleted(&given, before.as_ref(), faults),
        };
        let after = kept.unwrap_or_else(|| given.clone());
        let writer = if write.by_engine {
            Writer::Engine
        } else {
            Writer::Caller
        };
        let checked = self.fields.check(&after, before.as_ref(), writer);
        for fault in checked
            .faults
            .into_result()
            .err()
            .into_iter()
            .flat_map(|e| e.into_errors())
        {
            faults.push(fault);
        }
        let mut document = checked.document;
        if let Some(local) = &self.local {
            local.run(write, &mut document, faults);
        }
        (*document != given).then(|| document.into_owned())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// Stands for definitions that cannot be compiled: nothing is written by them.
#[derive(Debug)]
struct Unsound;

impl CheckCustomFields for Unsound {
    fn check(&self, _: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json> {
        let message = "the definitions of the object are unsound; mend or remove them first";
        faults.push(FieldError::new(CUSTOM_FIELDS, codes::INCONSISTENT, message));
        None
    }
}
