//! [`Definitions`]: what a tenant defined, as the engine sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::{TenantObjects, TenantSchema};
use crm_core::error::{Faults, FieldError, Result, codes};
use crm_core::query::{Condition, Query};
use crm_core::schema::{
    CUSTOM_FIELDS, CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity,
    FieldSchema, FieldType, ObjectRef, OnDelete, Registry, ValueRef,
};
use crm_core::tenancy::Tenant;
use crm_core::value::{TextValue as _, TimeZone};
use crm_core::{Id, Record, UnitOfWork};
use serde_json::Value as Json;

use crate::computed::{Local, Program};
use crate::{
    CompiledFields, CustomField, CustomFieldOption, CustomFieldRule, CustomLink, CustomObject,
    CustomRecord, CustomRelationship, CustomSchema, Definition, RelationshipKind, Writer,
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
    pub(crate) options: Vec<Arc<Record<CustomFieldOption>>>,
    pub(crate) relationships: Vec<Arc<Record<CustomRelationship>>>,
    pub(crate) rules: Vec<Arc<Record<CustomFieldRule>>>,
}

/// The live records of an object, in the order in which they were made.
async fn all<E: Entity>(work: &UnitOfWork) -> Result<Vec<Arc<Record<E>>>> {
    let query = Query::new(E::schema(), Condition::not_deleted());
    let rows = work.select(&query).await?;
    Ok(rows.into_iter().filter_map(Record::from_row).collect())
}

impl Defined {
    pub(crate) async fn load(work: &UnitOfWork) -> Result<Self> {
        Ok(Self {
            objects: all(work).await?,
            fields: all(work).await?,
            options: all(work).await?,
            relationships: all(work).await?,
            rules: all(work).await?,
        })
    }

    /// The definitions of the fields of an object, with their options in order.
    pub(crate) fn of_object(&self, object: &str) -> Vec<Definition> {
        let fields = self.fields.iter();
        let fields = fields.filter(|field| field.object.as_str() == object);
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by_key(|field| (field.display_order, field.id));
        let options = |id: Id<CustomField>| {
            let options = self.options.iter().filter(|option| option.field_id == id);
            let mut options: Vec<_> = options.collect();
            options.sort_by_key(|option| (option.position, option.id));
            options
                .into_iter()
                .map(|option| option.data.clone())
                .collect()
        };
        let definition = |field: &Arc<Record<CustomField>>| Definition {
            id: field.id,
            options: options(field.id),
            field: field.data.clone(),
        };
        fields.into_iter().map(definition).collect()
    }

    /// The tenant's objects, described by a function.
    fn objects(
        &self,
        base: &Registry,
        describe: &dyn Fn(&ObjectRef) -> ObjectRef,
    ) -> Vec<ObjectRef> {
        let mut objects = Vec::new();
        let active = self.objects.iter().filter(|object| object.is_active);
        for object in active {
            let help = object
                .description
                .clone()
                .unwrap_or_else(|| object.label.clone());
            let name = object.api_name.to_string();
            let id = object.id.uuid();
            let instance = CustomRecord::schema().instance(name, help, "object_id", id, |_| {});
            objects.extend(instance.map(|instance| describe(&instance)));
        }
        let with_fields = self.fields.iter().map(|field| field.object.as_str());
        let with_rules = self.rules.iter().map(|rule| rule.object.as_str());
        let extended: BTreeSet<&str> = with_fields.chain(with_rules).collect();
        let extended = extended.into_iter().filter_map(|name| base.object(name));
        objects.extend(extended.map(|object| describe(&object)));
        let links = self.relationships.iter();
        let links = links.filter(|link| link.kind == RelationshipKind::ManyToMany);
        objects.extend(links.filter_map(|link| link_object(link)));
        objects
    }

    /// The tenant's objects over those of the engine, to bind names to: nothing is written by them.
    pub(crate) fn registry(&self, work: &UnitOfWork) -> Registry {
        let base = work.session().engine().registry();
        let objects = self.objects(base, &|object| {
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
        let check: Arc<dyn CheckCustomFields> = match CompiledFields::new(&definitions) {
            Ok(fields) => Arc::new(Compiled {
                fields,
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
        active: field.is_active,
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
            return Ok(TenantObjects::default());
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
        let objects = defined.objects(base, &|object| defined.described(object, &program));
        Ok(TenantObjects {
            objects,
            version: Some(version),
            extension: Some(Arc::new(program)),
        })
    }
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
struct Compiled {
    fields: CompiledFields,
    /// What follows from the record alone, and rules.
    local: Option<Arc<Local>>,
}

impl CheckCustomFields for Compiled {
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json> {
        let document = |value| match value {
            ValueRef::Json(json) => json.into_owned(),
            _ => Json::Null,
        };
        let after = document(write.after.value(write.document));
        let before = write.before.map(|row| document(row.value(write.document)));
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
        (*document != after).then(|| document.into_owned())
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
