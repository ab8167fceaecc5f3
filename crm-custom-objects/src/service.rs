//! [`CustomFieldService`]: changes of custom fields that take more than one write, and what is known
//! of their use.

use std::sync::Arc;

use crm_core::engine::Progress;
use crm_core::error::{Error, Result, RuleViolation};
use crm_core::query::{Find, QueryError};
use crm_core::schema::{AnyRecord, Entity as _, FailedCheck, FieldUse, ObjectRef, Value, ValueRef};
use crm_core::storage::Guard as _;
use crm_core::value::ApiName;
use crm_core::{Id, Record, Session, UnitOfWork};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::checks::{Asked, count_of_values, make, pass_for_values, passes};
use crate::safe::refuse;
use crate::tenant::Defined;
use crate::usage::{self, FieldUsage, UsageFigures};
use crate::uses::{field_of, in_definitions, in_settings, object_of};
use crate::{CompiledFields, CustomField, CustomFieldOption, FieldChange};

/// How many records lose their values in one commit of a purge.
const BATCH: usize = 200;

/// How often a commit that lost against another is tried.
pub(crate) const ATTEMPTS: usize = 32;

/// Gives sessions what is done with custom fields.
pub trait CustomFieldsExt {
    /// The custom fields of the session's tenant.
    fn custom_fields(&self) -> CustomFieldService<'_>;
}

impl CustomFieldsExt for Session {
    fn custom_fields(&self) -> CustomFieldService<'_> {
        CustomFieldService { session: self }
    }
}

/// What is done with custom fields beyond creating and updating their definitions.
///
/// Definitions are records: they are made and changed with `session.records::<CustomField>()` too, and
/// are as safe there. A change that narrows what values may be, or asks for them, or for different
/// ones, is refused with [`Error::DefinitionInUse`] where a record stands against it.
///
/// ```
/// # use crm_core::{Id, Session, error::Result};
/// # use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{CustomField, CustomFieldsExt};
///
/// # async fn example(session: &Session, region: Id<CustomField>) -> Result<()> {
/// let fields = session.custom_fields();
/// let preview = fields.check_change(region, |field| field.is_required = true).await?;
/// for failed in &preview.failed {
///     println!("{} records are not {}", failed.count, failed.check);
/// }
/// fields.rename(region, ApiName::parse("sales_region")?).await?;
///
/// let impact = fields.impact(region).await?;
/// if impact.used_by.is_empty() {
///     fields.delete(region).await?;
///     fields.purge(region, &()).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CustomFieldService<'a> {
    session: &'a Session,
}

/// What a change of a definition would come to.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangePreview {
    /// What it means for the values of records.
    pub change: FieldChange,
    /// The records that stand against it.
    pub failed: Vec<FailedCheck>,
}

/// What hangs on a field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldImpact {
    /// How many records have a value, deleted ones included.
    pub records: u64,
    /// What names the field: formulas, roll-ups, rules between fields, dependent picklists; and
    /// settings such as scoring rules, the gates of stages, automation, territories, mappings.
    pub used_by: Vec<FieldUse>,
    /// Those of them that cannot do without it: the field is not deleted before they are changed.
    pub blocked_by: Vec<FieldUse>,
    /// Whether no two records may have the same value.
    pub is_unique: bool,
    /// Whether filters are served by an index on it.
    pub is_indexed: bool,
    /// How often it was used, and when last, as far as that is
    /// [recorded](CustomFieldService::record_usage).
    pub usage: UsageFigures,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldPurge {
    /// How many records lost their value.
    pub records: u64,
    /// Whether the definition is gone too. A purge that was stopped goes on when it is called again.
    pub is_complete: bool,
}

/// The custom values of a record by the API names of their fields, as a web API shows them. Documents
/// have them by keys, which stay when a field is renamed. Values of deleted fields are left out; where
/// the object has no definitions, the document is given as it is.
///
/// `object` is the object as the tenant knows it: [`Session::describe`].
#[must_use]
pub fn custom_values(object: &ObjectRef, row: &dyn AnyRecord) -> Map<String, Json> {
    let document = object.custom_document().map(|index| row.value(index));
    let Some(ValueRef::Json(document)) = document else {
        return Map::new();
    };
    let Some(members) = document.as_object() else {
        return Map::new();
    };
    let Some(custom) = object.custom() else {
        return members.clone();
    };
    let fields = custom.fields().iter();
    let named = fields.filter_map(|custom| {
        let value = members.get(&*custom.key)?;
        Some((custom.field.name.to_string(), value.clone()))
    });
    named.collect()
}

impl CustomFieldService<'_> {
    /// What a change of a definition would come to, without making it: it looks at the records page
    /// by page.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the storage.
    pub async fn check_change(
        &self,
        id: Id<CustomField>,
        change: impl FnOnce(&mut CustomField) + Send,
    ) -> Result<ChangePreview> {
        let work = self.session.begin();
        let before = self.live(&work, id).await?;
        let defined = Defined::load(&work).await?;
        let mut definition = defined.definition(id).ok_or_else(|| not_found(id))?;
        change(&mut definition.field);
        let change = FieldChange::between(&before, &definition.field);
        let controlling = definition.field.controlling_field_id;
        let controlling = controlling.and_then(|id| defined.definition(id));
        let failed = match object_of(&work, &before) {
            Some(object) => {
                let asked = Asked {
                    definition,
                    controlling,
                    checks: change.checks().to_vec(),
                };
                let mut passes = passes(&work, &object, &[asked], None).await?;
                let mut found = make(&work, &mut passes).await?;
                found.failed.remove(&id).unwrap_or_default()
            }
            None => Vec::new(),
        };
        Ok(ChangePreview { change, failed })
    }

    /// Renames a field. No record is touched; the old name still leads to it.
    ///
    /// # Errors
    /// [`Error::Validation`] if another field has or had the name.
    pub async fn rename(
        &self,
        id: Id<CustomField>,
        name: ApiName,
    ) -> Result<Arc<Record<CustomField>>> {
        let mut fields = self.session.records::<CustomField>();
        fields
            .update(id, |field| field.api_name = name.clone())
            .await
    }

    /// Puts the options of a picklist into an order: those named come first, in this order, the others
    /// after them as they were.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an option that the field does not have.
    pub async fn reorder_options(
        &self,
        id: Id<CustomField>,
        order: &[Id<CustomFieldOption>],
    ) -> Result<()> {
        let mut attempt = 1;
        loop {
            let mut work = self.session.begin();
            self.live(&work, id).await?;
            place_options(&mut work, id, order).await?;
            match work.commit().await {
                Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                done => return done.map(|_| ()),
            }
        }
    }

    /// What hangs on a field, deleted or not, before it is deleted or purged.
    ///
    /// # Errors
    /// [`Error::NotFound`]; those of the storage.
    pub async fn impact(&self, id: Id<CustomField>) -> Result<FieldImpact> {
        let work = self.session.begin();
        let field = field_of(&work, id).await?.ok_or_else(|| not_found(id))?;
        let defined = Defined::load(&work).await?;
        let mut used_by = in_definitions(&work, id, &field, &defined).await?;
        let blocking = used_by.iter().filter(|by| crate::safe::is_computed(by));
        let blocked_by = blocking.cloned().collect();
        used_by.extend(in_settings(&work, &field).await?);
        let records = match object_of(&work, &field) {
            Some(object) => count_of_values(&work, &object, &field).await?,
            None => 0,
        };
        Ok(FieldImpact {
            records,
            used_by,
            blocked_by,
            is_unique: field.is_unique,
            is_indexed: field.is_indexed,
            usage: usage::figures(&work, id).await?,
        })
    }

    /// Adds the uses of custom fields that this process has counted to their figures (R-073, C-102);
    /// how many fields were used. A host calls it now and then, such as every minute, for each tenant
    /// that it serves.
    ///
    /// A record that is committed with another value of a field, and a query of a caller that names
    /// the field, are each one use. They are counted in memory, with no round trip of their own, and
    /// written here in batches, apart from the commits of users: no definition gets a new version by
    /// it, and the audit trail tells nothing of it.
    ///
    /// Counts of several processes add up. What was counted since the last call is lost when the
    /// process ends, and what is being written when the storage fails in the middle of the commit;
    /// otherwise what could not be written is counted again with what follows, and nothing is counted
    /// twice. A tenant that moves to another engine does not take its figures along: there they start
    /// anew.
    ///
    /// ```
    /// use crm_core::contacts::Contact;
    /// use crm_core::value::{ApiName, TextValue};
    /// use crm_custom_objects::{CustomField, CustomFieldType, CustomFieldsExt};
    /// use serde_json::json;
    ///
    /// # fn main() -> crm_core::Result<()> { pollster::block_on(async {
    /// # let storage = crm_core::storage::conformance::NaiveStorage::default();
    /// # let engine = crm_custom_objects::install(crm_core::Engine::builder(storage)).build();
    /// # let onboarding = crm_core::tenancy::Onboarding::new("acme", "acme", "admin@acme.example");
    /// # let tenant = engine.onboard(onboarding).await?;
    /// # let session = engine.session(tenant.tenant, crm_core::Actor::User(tenant.admin));
    /// for name in ["vip", "forgotten"] {
    ///     let (contact, name) = (ApiName::parse("contact")?, ApiName::parse(name)?);
    ///     let field = CustomField::new(contact, name, "Field", CustomFieldType::Boolean);
    ///     session.records::<CustomField>().create(field).await?;
    /// }
    /// let ada = Contact {
    ///     custom_fields: json!({"vip": true}),
    ///     ..Contact::named("Ada", "Lovelace")
    /// };
    /// session.contacts().create(ada).await?;
    ///
    /// session.custom_fields().record_usage().await?;
    /// let usage = session.custom_fields().usage("contact").await?;
    /// assert_eq!((usage[0].figures.usage_count, usage[0].records), (1, 1));
    /// assert_eq!((usage[1].figures.usage_count, usage[1].figures.last_used_at), (0, None));
    /// # Ok(()) }) }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn record_usage(&self) -> Result<u64> {
        usage::record(self.session).await
    }

    /// How often each field of an object was used and when last, as far as that is
    /// [recorded](Self::record_usage), and how many records have a value now: also of fields that
    /// were never used, so that dead ones show. Fields come in the order to show them.
    ///
    /// Values with an index are counted by it, all fields at once; those of each other field by a look
    /// at the records of the object.
    ///
    /// # Errors
    /// [`Error::Query`] if there is no such object.
    pub async fn usage(&self, object: &str) -> Result<Vec<FieldUsage>> {
        let object = self.session.describe(object).await?;
        usage::of_object(&self.session.begin(), object.name()).await
    }

    /// Deletes a field that nothing names. Its values stay in the records, where they are neither
    /// checked nor written nor found by filters, until the field is restored or purged.
    ///
    /// # Errors
    /// [`Error::DefinitionInUse`] with everything that [`impact`](Self::impact) lists.
    pub async fn delete(&self, id: Id<CustomField>) -> Result<()> {
        let work = self.session.begin();
        let field = self.live(&work, id).await?;
        let used_by = self.impact(id).await?.used_by;
        refuse(&field, Vec::new(), used_by)?;
        self.delete_though_used(id).await
    }

    /// Deletes a field though settings name it, which no longer find it. Formulas, roll-ups and rules
    /// between fields still stand against it.
    ///
    /// # Errors
    /// [`Error::DefinitionInUse`].
    pub async fn delete_though_used(&self, id: Id<CustomField>) -> Result<()> {
        self.session.records::<CustomField>().delete(id).await
    }

    /// Brings a deleted field back, with its options and the values that records have.
    ///
    /// # Errors
    /// [`Error::DefinitionInUse`] if it needs a value and records are without one.
    pub async fn restore(&self, id: Id<CustomField>) -> Result<Arc<Record<CustomField>>> {
        self.session.records::<CustomField>().restore(id).await
    }

    /// Removes the values of a deleted field from all records, and then its definition: its names are
    /// free again. Each batch of records is a commit with its events of the audit trail; a purge that
    /// stops goes on when it is called again.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Rule`] (`not_deleted`) of a field that is not deleted.
    pub async fn purge(&self, id: Id<CustomField>, progress: &dyn Progress) -> Result<FieldPurge> {
        let work = self.session.begin();
        let field = field_of(&work, id).await?.ok_or_else(|| not_found(id))?;
        if field.deleted_at.is_none() {
            let message = "delete the field before it is removed for good";
            return Err(RuleViolation::new("not_deleted", "G-16", message).into());
        }
        let mut purge = FieldPurge {
            records: 0,
            is_complete: false,
        };
        if let Some(object) = object_of(&work, &field) {
            let total = count_of_values(&work, &object, &field).await?;
            let mut attempt = 1;
            loop {
                match self.purge_batch(&object, &field).await {
                    Ok(0) => break,
                    Ok(count) => {
                        attempt = 1;
                        purge.records += count;
                    }
                    Err(Error::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
                    Err(error) => return Err(error),
                }
                if progress.report(purge.records, Some(total)).is_break() {
                    return Ok(purge);
                }
            }
        }
        self.session.records::<CustomField>().purge(id).await?;
        purge.is_complete = true;
        Ok(purge)
    }

    async fn purge_batch(&self, object: &ObjectRef, field: &CustomField) -> Result<u64> {
        let Some(pass) = pass_for_values(object, [(None, field)]) else {
            return Ok(0);
        };
        let Some(document) = object.custom_document() else {
            return Ok(0);
        };
        let mut work = self.session.begin();
        let rows = work.select(&pass.query().limit(BATCH)).await?;
        for row in &rows {
            let Value::Json(mut values) = row.value(document).into_owned() else {
                continue;
            };
            if let Some(members) = values.as_object_mut() {
                members.remove(field.document_key());
            }
            work.keep_custom_values(row, values).await?;
        }
        work.commit().await?;
        Ok(rows.len() as u64)
    }

    /// The custom values of a record by the API names of their fields: [`custom_values`].
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn values(&self, row: &dyn AnyRecord) -> Result<Map<String, Json>> {
        let object = self.session.registry().await?.described(row.object());
        Ok(custom_values(&object, row))
    }

    /// The custom fields of an object as JSON Schema (draft 2020-12): see
    /// [`CompiledFields::json_schema`].
    ///
    /// # Errors
    /// [`Error::Query`] if there is no such object.
    pub async fn json_schema(&self, object: &str) -> Result<Json> {
        self.session.describe(object).await?;
        let work = self.session.begin();
        let defined = Defined::load(&work).await?;
        let fields = CompiledFields::new(&defined.of_object(object))
            .map_err(|_| QueryError::UnknownObject(object.to_owned()))?;
        Ok(fields.json_schema().clone())
    }

    async fn live(
        &self,
        work: &UnitOfWork,
        id: Id<CustomField>,
    ) -> Result<Arc<Record<CustomField>>> {
        let field = field_of(work, id).await?;
        let field = field.filter(|field| field.deleted_at.is_none());
        field.ok_or_else(|| not_found(id))
    }
}

fn not_found(id: Id<CustomField>) -> Error {
    Error::NotFound {
        object: CustomField::schema().name().to_owned(),
        id: id.uuid(),
    }
}

async fn place_options(
    work: &mut UnitOfWork,
    id: Id<CustomField>,
    order: &[Id<CustomFieldOption>],
) -> Result<()> {
    let mut options = Vec::new();
    let mut find = Find::new()
        .filter(CustomFieldOption::FIELD_ID.eq(id))
        .sort(CustomFieldOption::POSITION.asc())
        .with_archived()
        .limit(200);
    loop {
        let page = work
            .records::<CustomFieldOption>()
            .find(find.clone())
            .await?;
        options.extend(page.items);
        match page.next {
            Some(next) => find = find.after(next),
            None => break,
        }
    }
    for wanted in order {
        if !options.iter().any(|option| option.id == *wanted) {
            return Err(Error::NotFound {
                object: CustomFieldOption::schema().name().to_owned(),
                id: wanted.uuid(),
            });
        }
    }
    let place = |option: &Record<CustomFieldOption>| {
        let place = order.iter().position(|wanted| *wanted == option.id);
        place.unwrap_or(order.len())
    };
    // Stable: the others keep their order.
    options.sort_by_key(|option| place(option));
    for (position, option) in (0_u32..).zip(&options) {
        if option.position != position {
            let mut records = work.records::<CustomFieldOption>();
            records
                .update(option.id, |option| option.position = position)
                .await?;
        }
    }
    Ok(())
}
