//! [`CustomValues`]: makes the typed rows of records that were there before a field was indexed.

use crm_core::engine::{Progress, Session, UnitOfWork};
use crm_core::error::{Error, Result};
use crm_core::query::{AggregateQuery, Condition, Query};
use crm_core::schema::{Entity, FieldValue as _, ObjectRef, Row, Value};
use crm_core::{Id, Record};
use uuid::Uuid;

use super::form::{IndexState, KeptField};
use super::hook::{self, FIELD_ID};
use super::texts;
use crate::{CustomField, CustomValue};

/// How many records have their rows made in one commit.
const BATCH: usize = 500;
/// How often a batch is tried, each time with fewer records.
const TRIES: usize = 32;

/// The way to the typed values of custom fields.
pub trait CustomValuesExt {
    /// The typed values of custom fields.
    fn custom_values(&self) -> CustomValues<'_>;
}

impl CustomValuesExt for Session {
    fn custom_values(&self) -> CustomValues<'_> {
        CustomValues { session: self }
    }
}

/// The typed values of custom fields that are unique, indexed or lead to a record (C-038, C-164).
///
/// They are kept in the commits of the records. There is nothing to do for them but to
/// [rebuild](Self::rebuild) them where a field became unique or indexed later than records had
/// values: [`CustomField::index_state`] says so. Filters on the field find the same records
/// before and after (C-095); after, by an index.
///
/// The same goes for what [text searches](Session::search) find of searchable fields, only that a
/// search is sure to find all records after it: [`CustomField::search_state`] says so, and the search
/// names the fields that it does not wholly cover.
///
/// ```
/// use crm_core::contacts::Contact;
/// use crm_core::query::{Filter, Find};
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{CustomField, CustomFieldType, CustomValuesExt, IndexState, TextLimits};
/// use serde_json::json;
///
/// # fn main() -> crm_core::Result<()> { pollster::block_on(async {
/// # let storage = crm_core::storage::conformance::NaiveStorage::default();
/// # let engine = crm_custom_objects::install(crm_core::Engine::builder(storage)).build();
/// # let onboarding = crm_core::tenancy::Onboarding::new("acme", "acme", "admin@acme.example");
/// # let tenant = engine.onboard(onboarding).await?;
/// # let session = engine.session(tenant.tenant, crm_core::Actor::User(tenant.admin));
/// let member = CustomField {
///     is_unique: true,
///     ..CustomField::new(
///         ApiName::parse("contact")?,
///         ApiName::parse("member_number")?,
///         "Member number",
///         CustomFieldType::Text(TextLimits::default()),
///     )
/// };
/// let member = session.records::<CustomField>().create(member).await?;
/// // Contacts may have held anything before the first field was defined for them.
/// assert_eq!(member.index_state, IndexState::Building);
/// session.custom_values().rebuild(member.id, None, &()).await?;
///
/// let ada = Contact {
///     custom_fields: json!({"member_number": "M-1"}),
///     ..Contact::named("Ada", "Lovelace")
/// };
/// session.contacts().create(ada.clone()).await?;
/// let taken = session.contacts().create(ada).await.unwrap_err();
/// assert_eq!(taken.to_string(), "another contact has the same custom_fields.member_number");
///
/// // Found by an index.
/// let find = Find::new().filter_by_name(Filter::eq("member_number", "M-1"));
/// assert_eq!(session.contacts().find(find).await?.items.len(), 1);
/// # Ok(()) }) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CustomValues<'a> {
    session: &'a Session,
}

/// What a rebuilding did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuiltValues {
    /// How many records were looked at.
    pub records: u64,
    /// How many typed rows were written or removed.
    pub rows: u64,
    /// Of how many records it was written anew what a text search finds.
    pub texts: u64,
    /// Where to go on, if it was stopped before the end.
    pub next: Option<RebuildPlace>,
}

/// Where a rebuilding was stopped. It is good for as long as the definition stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildPlace {
    definition: i64,
    after: Uuid,
}

/// What became of a batch.
struct Batch {
    records: usize,
    rows: usize,
    texts: usize,
    last: Option<Uuid>,
}

impl CustomValues<'_> {
    /// Makes the typed rows of a field what the values of all records are, and then says that they
    /// are complete: from there on filters on the field are served by the index. For a field that
    /// needs no rows any more, or is deleted, it removes them. Of a searchable field, it makes text
    /// searches find all records.
    ///
    /// Records may be written meanwhile. It works in batches, each a commit, and can be stopped and
    /// gone on with `from`; without it a run that follows one that was stopped only writes what is
    /// missing. On a field whose rows are complete it changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Duplicate`] if two records have the same value of a unique field,
    /// with the rows before them made; [`Error::Conflict`] if the definition changed meanwhile: run
    /// it again.
    pub async fn rebuild(
        &self,
        field: Id<CustomField>,
        from: Option<RebuildPlace>,
        progress: &dyn Progress,
    ) -> Result<RebuiltValues> {
        let mut definition = self.definition(&self.session.begin(), field).await?;
        let mut rebuilt = RebuiltValues::default();
        let is_deleted = definition.deleted_at.is_some();
        if is_deleted || !has_rows(&definition) {
            rebuilt = self.remove(&definition, progress).await?;
            if is_deleted || definition.search_state == IndexState::None {
                return Ok(rebuilt);
            }
            definition = self.definition(&self.session.begin(), field).await?;
        }
        let version = definition.version;
        if from.is_some_and(|from| from.definition != version) {
            return Err(changed(field));
        }
        // What another process changed may not be known here yet; from now on a change shows by the
        // version of the definition.
        self.session.forget_settings();
        // An object that is out of use has records too.
        let registry = self.session.registry().await?;
        let object = registry.any_object(definition.object.as_ref());
        let object = object.ok_or_else(|| changed(field))?;
        let total = self.count(&object, Condition::all()).await?;
        let mut after = from.map(|from| from.after);
        if definition.is_unique && definition.index_state == IndexState::Building && from.is_none()
        {
            rebuilt.rows += self.sweep(&definition).await?;
        }
        loop {
            let batch = self.batch(&definition, after).await?;
            rebuilt.records += batch.records as u64;
            rebuilt.rows += batch.rows as u64;
            rebuilt.texts += batch.texts as u64;
            let Some(last) = batch.last else { break };
            after = Some(last);
            if progress.report(rebuilt.records, Some(total)).is_break() {
                rebuilt.next = Some(RebuildPlace {
                    definition: version,
                    after: last,
                });
                return Ok(rebuilt);
            }
        }
        let is_building = |state| state == IndexState::Building;
        if is_building(definition.index_state) || is_building(definition.search_state) {
            self.mark(&definition, IndexState::Ready).await?;
        }
        Ok(rebuilt)
    }

    /// Makes what text searches find of all records of an object.
    pub(crate) async fn rebuild_texts(&self, object: &str) -> Result<()> {
        self.session.forget_settings();
        let (mut after, mut tries) = (None, 0);
        loop {
            let mut work = self.session.begin();
            let Some(object) = work.registry().await?.any_object(object) else {
                return Ok(());
            };
            let query = page(&object, after, BATCH);
            let records = work.select(&query).await?;
            let Some(last) = records.last().map(|record| record.id()) else {
                return Ok(());
            };
            settle_texts(&mut work, &object, &records).await?;
            match work.commit().await {
                Ok(_) => (after, tries) = (Some(last), 0),
                Err(Error::Conflict { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn definition(
        &self,
        work: &UnitOfWork,
        field: Id<CustomField>,
    ) -> Result<std::sync::Arc<Record<CustomField>>> {
        let row = work.row(CustomField::schema(), field.uuid()).await?;
        row.and_then(Record::from_row).ok_or(Error::NotFound {
            object: CustomField::schema().name().to_owned(),
            id: field.uuid(),
        })
    }

    async fn count(&self, object: &ObjectRef, condition: Condition) -> Result<u64> {
        let query = AggregateQuery::count(object, condition);
        let groups = self.session.begin().aggregate(&query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    /// Removes the rows of a unique field that do not tell what their records have, as rows of before
    /// the field was deleted and restored: they would keep others from having the value.
    async fn sweep(&self, field: &Record<CustomField>) -> Result<u64> {
        let (mut removed, mut after, mut tries) = (0, None, 0);
        loop {
            let mut work = self.session.begin();
            let (object, kept, _) = self.sees(&work, field).await?;
            let kept = kept.ok_or_else(|| changed(field.id))?;
            let own = Condition::equals(FIELD_ID, Value::Uuid(field.id.uuid()));
            let mut query = Query::new(CustomValue::schema(), own).limit(BATCH);
            query.after = after.map(|id| vec![Value::Uuid(id)]);
            let rows = work.select(&query).await?;
            let Some(last) = rows.last().map(|row| row.id()) else {
                return Ok(removed);
            };
            let wrong = hook::remove_wrong(&mut work, &object, &kept, &rows).await?;
            match work.commit().await {
                Ok(_) => (removed, after, tries) = (removed + wrong, Some(last), 0),
                Err(Error::Conflict { .. }) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The definition as it still is, with its object and what is kept of its values.
    async fn sees(
        &self,
        work: &UnitOfWork,
        field: &Record<CustomField>,
    ) -> Result<(
        ObjectRef,
        Option<KeptField>,
        std::sync::Arc<Record<CustomField>>,
    )> {
        let now = self.definition(work, field.id).await?;
        let object = work.registry().await?.any_object(field.object.as_ref());
        let object = object.filter(|_| now.version == field.version);
        let object = object.ok_or_else(|| changed(field.id))?;
        let kept = hook::kept(&object).iter().find(|kept| kept.id == field.id);
        let kept = kept.cloned();
        Ok((object, kept, now))
    }

    /// One batch behind a record; tried again with fewer records where somebody wrote one of them.
    async fn batch(&self, field: &Record<CustomField>, after: Option<Uuid>) -> Result<Batch> {
        let mut size = BATCH;
        for _ in 1..TRIES {
            let mut work = self.session.begin();
            let batch = self.stage(&mut work, field, after, size).await?;
            match work.commit().await {
                Ok(_) => return Ok(batch),
                Err(Error::Conflict { .. }) => size = (size / 2).max(1),
                Err(error) => return Err(error),
            }
        }
        let mut work = self.session.begin();
        let batch = self.stage(&mut work, field, after, 1).await?;
        work.commit().await?;
        Ok(batch)
    }

    async fn stage(
        &self,
        work: &mut UnitOfWork,
        field: &Record<CustomField>,
        after: Option<Uuid>,
        size: usize,
    ) -> Result<Batch> {
        let (object, kept, now) = self.sees(work, field).await?;
        let records = work.select(&page(&object, after, size)).await?;
        let (mut written, mut searched) = (0, 0);
        if let Some(kept) = kept.filter(|_| has_rows(&now)) {
            let rows = hook::settle(work, &object, &kept, &records).await?;
            // The rows are those of the records and the definition as they were read.
            if !rows.is_empty() {
                work.rely_on(&*now);
            }
            for record in &records {
                if rows.contains(&kept.row_id(record.id())) {
                    work.rely_on(&**record);
                }
            }
            written = rows.len();
        }
        if now.search_state != IndexState::None {
            searched = settle_texts(work, &object, &records).await?;
        }
        Ok(Batch {
            records: records.len(),
            rows: written,
            texts: searched,
            last: records.last().map(|record| record.id()),
        })
    }

    /// Removes the rows of a field.
    async fn remove(
        &self,
        field: &Record<CustomField>,
        progress: &dyn Progress,
    ) -> Result<RebuiltValues> {
        let own = Condition::equals(FIELD_ID, Value::Uuid(field.id.uuid()));
        let total = self.count(CustomValue::schema(), own.clone()).await?;
        let mut rebuilt = RebuiltValues::default();
        let mut tries = 0;
        loop {
            let mut work = self.session.begin();
            let now = self.definition(&work, field.id).await?;
            if now.version != field.version {
                return Err(changed(field.id));
            }
            let query = Query::new(CustomValue::schema(), own.clone()).limit(BATCH);
            let rows = work.select(&query).await?;
            for row in &rows {
                work.remove_derived(row);
            }
            work.rely_on(&*now);
            if rows.is_empty() {
                break;
            }
            match work.commit().await {
                Ok(_) => tries = 0,
                Err(Error::Conflict { .. }) if tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            rebuilt.rows += rows.len() as u64;
            if progress.report(rebuilt.rows, Some(total)).is_break() {
                return Ok(rebuilt);
            }
        }
        if field.deleted_at.is_none() && field.index_state == IndexState::Removing {
            self.mark(field, IndexState::None).await?;
        }
        Ok(rebuilt)
    }

    /// Says how far the rows of a field are, those that were not complete, unless its definition
    /// changed.
    async fn mark(&self, field: &Record<CustomField>, state: IndexState) -> Result<()> {
        let mut tries = 0;
        loop {
            let mut work = self.session.begin();
            let now = self.definition(&work, field.id).await?;
            if now.version != field.version {
                return Err(changed(field.id));
            }
            let place = |name: &str| CustomField::schema().field_index(name);
            let states = [
                (CustomField::INDEX_STATE.name(), now.index_state),
                (CustomField::SEARCH_STATE.name(), now.search_state),
            ];
            // Typed rows become complete or none are left; a search only ever becomes complete.
            let before = match state {
                IndexState::Ready => IndexState::Building,
                _ => IndexState::Removing,
            };
            let states = states.into_iter().filter(|(_, now)| *now == before);
            let values =
                states.filter_map(|(name, _)| Some((place(&name)?, state.value().into_owned())));
            let values: Vec<(usize, Value)> = values.collect();
            let row: Row = now;
            work.set_row_values(&row, values).await?;
            match work.commit().await {
                Err(Error::Conflict { .. }) if tries < TRIES => tries += 1,
                done => return done.map(|_| ()),
            }
        }
    }
}

/// Whether the values of a field have typed rows.
fn has_rows(field: &CustomField) -> bool {
    matches!(field.index_state, IndexState::Building | IndexState::Ready)
}

/// The records of an object behind one.
fn page(object: &ObjectRef, after: Option<Uuid>, size: usize) -> Query {
    let mut query = Query::new(object, Condition::all()).limit(size);
    query.after = after.map(|id| vec![Value::Uuid(id)]);
    query
}

/// Makes what text searches find of some records; how many rows are written.
async fn settle_texts(work: &mut UnitOfWork, object: &ObjectRef, records: &[Row]) -> Result<usize> {
    let written = texts::settle(work, object, records).await?;
    if written.is_empty() {
        return Ok(0);
    }
    // The rows are those of the records and all definitions as they were read.
    if let Some(version) = work.tenant_version().await? {
        work.rely_on(&*version);
    }
    for record in records {
        if written.contains(&record.id()) {
            work.rely_on(&**record);
        }
    }
    Ok(written.len())
}

fn changed(field: Id<CustomField>) -> Error {
    Error::Conflict {
        object: CustomField::schema().name().to_owned(),
        id: field.uuid(),
    }
}
