//! A file as a tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use async_trait::async_trait;
use crm_core::engine::Progress;
use crm_core::query::{AggregateQuery, Condition, Find, MAX_LIMIT};
use crm_core::schema::{FieldSchema, Lifecycle, ObjectRef, ObjectScope, Row};
use crm_core::storage::{Change, ChangeSet, Scope};
use crm_core::tenancy::Tenant;
use crm_core::value::{Subdomain, TextValue};
use crm_core::{Actor, Engine, Id, Record, Session};
use uuid::Uuid;

use super::identity::{Move, moved_id};
use super::line::RecordLine;
use super::manifest::{Head, Manifest, ObjectSummary};
use super::verify::{Lines, scan};
use super::{TransferError, order};

/// How many records a commit has.
const BATCH: usize = 500;
/// How many records may refer to one another in one tangle that no order resolves.
const TANGLE: usize = 10_000;

/// What is done after the records are there, such as making a host's own derived records again. May
/// run twice, if the import is run again.
#[async_trait]
pub trait AfterImport: Debug + Send + Sync {
    /// Does it, in the new tenant.
    ///
    /// # Errors
    /// Whatever goes wrong; the records stay, and the import can be run again.
    async fn after_import(&self, session: &Session) -> crm_core::Result<()>;
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// The tenant.
    pub tenant: Id<Tenant>,
    /// What the file said of itself. The tenant has just as many records of each object, which was
    /// counted.
    pub manifest: Manifest,
    /// How many records were written.
    pub written: u64,
    /// How many were there already, from an attempt that broke off.
    pub already_there: u64,
}

/// Makes a tenant from a file that [`TenantExport`](super::TenantExport) wrote.
///
/// The file is read and checked as a whole, every value against the schema, before the first record
/// is written. Rules, hooks and the audit trail take no part: records come as they were. They are written in commits
/// of 500; if one fails, what was written stays, and running the same import again goes on from
/// there, since ids are always the same. Let nobody work in the tenant before the import has
/// returned.
///
/// What the engine derives from records is made anew at the end: the keys of every duplicate rule
/// that is in use, so that checks find the moved records, and what linked records know of their
/// activities, so that it goes on from there. After that, each [`AfterImport`] runs.
///
/// ```
/// # async fn example(engine: &crm_core::Engine) -> Result<(), crm_exchange::tenant::TransferError> {
/// use crm_exchange::tenant::TenantImport;
///
/// let file = std::fs::File::open("acme.jsonl")?;
/// let report = TenantImport::new("Acme Europe", "acme-eu").run(engine, file, &()).await?;
/// println!("{} records", report.written);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an import does nothing until it runs"]
pub struct TenantImport {
    target: Target,
    kept: BTreeSet<(String, String)>,
    after: Vec<Arc<dyn AfterImport>>,
}

#[derive(Clone, Debug)]
enum Target {
    New { name: String, subdomain: String },
    Existing(Id<Tenant>),
}

impl TenantImport {
    /// Makes a new tenant with this name and subdomain. Its id follows from the export and the
    /// subdomain; a domain of its own it has to get anew.
    pub fn new(name: impl Into<String>, subdomain: impl Into<String>) -> Self {
        Self::with(Target::New {
            name: name.into(),
            subdomain: subdomain.into(),
        })
    }

    /// Fills a tenant that is there and has no records. Its own row stays as it is.
    pub const fn into_tenant(tenant: Id<Tenant>) -> Self {
        Self::with(Target::Existing(tenant))
    }

    const fn with(target: Target) -> Self {
        Self {
            target,
            kept: BTreeSet::new(),
            after: Vec::new(),
        }
    }

    /// Leaves the ids in a field as they are: those of a host's own tables that do not move along.
    /// Without this every id is taken for one of a record, see [`moved_id`].
    pub fn keep_ids(mut self, object: impl Into<String>, field: impl Into<String>) -> Self {
        self.kept.insert((object.into(), field.into()));
        self
    }

    /// Does this when the records are there.
    pub fn then(mut self, after: Arc<dyn AfterImport>) -> Self {
        self.after.push(after);
        self
    }

    /// Imports a file.
    ///
    /// # Errors
    /// What is wrong with the file, before anything is written;
    /// [`Duplicate`](crm_core::Error::Duplicate) if the subdomain is taken;
    /// [`TransferError::NotEmpty`].
    pub async fn run(
        &self,
        engine: &Engine,
        file: impl Read + Seek + Send,
        progress: &dyn Progress,
    ) -> Result<ImportReport, TransferError> {
        let mut file = BufReader::new(file);
        let head = first_line(&mut file)?;
        let mut ids = Move {
            from: head.tenant,
            to: Id::new(Uuid::nil()),
        };
        ids.to = match &self.target {
            Target::Existing(tenant) => *tenant,
            Target::New { subdomain, .. } => {
                let subdomain = Subdomain::parse(subdomain).map_err(crm_core::Error::from)?;
                new_tenant(head.export, &subdomain)
            }
        };
        let (objects, own) = known_objects(engine, &head)?;
        let mut run = Run {
            import: self,
            session: engine.session(ids.to, Actor::System),
            ids,
            objects,
            own,
            progress,
            total: 0,
            written: 0,
            already_there: 0,
        };
        file.seek(SeekFrom::Start(0))?;
        let mut places = BTreeMap::new();
        // Everything is read and built once before anything is written.
        let manifest = scan(&mut file, &mut |record, line, offset| {
            let object = record.object.clone();
            if !run.own.contains(&object) {
                run.build(record, line)?;
            }
            places.entry(object).or_insert((line, offset));
            Ok(())
        })?;
        run.total = manifest.records();
        run.learn().await?;
        run.check_empty(&mut file, &manifest, &places).await?;
        // As the schema orders them now, so that a file cannot say otherwise.
        let listed = run
            .objects
            .values()
            .filter(|object| object.template().is_none());
        let listed: Vec<ObjectRef> = listed.cloned().collect();
        for group in order::groups(&listed) {
            run.group(&mut file, &group, &manifest, &places).await?;
        }
        // Now it is known what the tenant says of its own objects.
        run.learn().await?;
        let listed: Result<Vec<ObjectRef>, TransferError> = run
            .own
            .iter()
            .map(|name| run.objects.get(name).cloned().ok_or_else(|| unknown(name)))
            .collect();
        for group in order::groups(&listed?) {
            run.group(&mut file, &group, &manifest, &places).await?;
        }
        run.compare_counts(&manifest).await?;
        run.derive().await?;
        for after in &self.after {
            after.after_import(&run.session).await?;
        }
        tracing::info!(tenant = %ids.to, records = run.written, "imported a tenant");
        Ok(ImportReport {
            tenant: ids.to,
            manifest,
            written: run.written,
            already_there: run.already_there,
        })
    }
}

/// The id of the tenant that an export becomes under a subdomain.
fn new_tenant(export: Uuid, subdomain: &Subdomain) -> Id<Tenant> {
    let text = subdomain.as_str().to_ascii_lowercase();
    let id = text.as_bytes().chunks(16).fold(export, |id, chunk| {
        let mut bytes = [0; 16];
        for (slot, byte) in bytes.iter_mut().zip(chunk) {
            *slot = *byte;
        }
        moved_id(Id::new(id), Uuid::from_bytes(bytes))
    });
    Id::new(moved_id(Id::new(id), export))
}

/// The head; the scan of the whole file reads it again.
fn first_line(file: &mut (impl BufRead + Seek)) -> Result<Head, TransferError> {
    let mut lines = Lines::new(file, 0, 0);
    let line = lines.next()?.ok_or(TransferError::NotAnExport)?;
    super::verify::read_head(line)
}

/// The objects of the file that the engine knows, and the names of those that the tenant defined:
/// what they are is known when their definitions are there.
fn known_objects(
    engine: &Engine,
    head: &Head,
) -> Result<(BTreeMap<String, ObjectRef>, BTreeSet<String>), TransferError> {
    let (mut known, mut own) = (BTreeMap::new(), BTreeSet::new());
    for name in head.objects.iter().flatten() {
        match engine.registry().object(name) {
            Some(object) if object.lifecycle() != Lifecycle::Derived => {
                known.insert(name.clone(), object);
            }
            None if engine.has_tenant_schema() => {
                own.insert(name.clone());
            }
            _ => return Err(unknown(name)),
        }
    }
    Ok((known, own))
}

fn unknown(name: &str) -> TransferError {
    TransferError::UnknownObject {
        object: name.to_owned(),
    }
}

/// A row and the line it came from.
type Numbered = (u64, Row);

/// An import on its way.
struct Run<'a> {
    import: &'a TenantImport,
    session: Session,
    ids: Move,
    objects: BTreeMap<String, ObjectRef>,
    /// The names of the objects that the tenant defined.
    own: BTreeSet<String>,
    progress: &'a dyn Progress,
    total: u64,
    written: u64,
    already_there: u64,
}

/// Where the records of each object begin: the number of the first line, and its place.
type Places = BTreeMap<String, (u64, u64)>;

impl Run<'_> {
    const fn scope(&self) -> &Scope {
        self.session.scope()
    }

    /// Looks up what is known by now of the objects that the tenant defined.
    async fn learn(&mut self) -> Result<(), TransferError> {
        if self.own.is_empty() {
            return Ok(());
        }
        // Rows are written past the engine here.
        self.session.forget_settings();
        self.session.restore_schema(false).await?;
        let registry = self.session.registry().await?;
        for name in &self.own {
            if let Some(object) = registry.any_object(name) {
                self.objects.insert(name.clone(), object);
            }
        }
        Ok(())
    }

    /// The row that a line becomes.
    fn build(&self, record: RecordLine, line: u64) -> Result<Row, TransferError> {
        let name = record.object.clone();
        let object = self
            .objects
            .get(&name)
            .ok_or_else(|| TransferError::UnknownObject {
                object: name.clone(),
            })?;
        let keeps = |object: &str, field: &str| {
            let kept = &self.import.kept;
            !kept.is_empty() && kept.contains(&(object.to_owned(), field.to_owned()))
        };
        let faulty = |faults| TransferError::Record {
            line,
            object: name.clone(),
            faults,
        };
        let row = record.build(object, &self.ids, &keeps).map_err(faulty)?;
        match (&self.import.target, Record::<Tenant>::from_row(row.clone())) {
            (Target::New { name, subdomain }, Some(tenant)) => {
                let subdomain = Subdomain::parse(subdomain).map_err(crm_core::Error::from)?;
                let mut tenant = (*tenant).clone();
                if tenant.data.name != *name {
                    tenant.data.name.clone_from(name);
                    tenant.data.display_name = Some(name.clone());
                }
                tenant.data.subdomain = subdomain;
                tenant.data.custom_domain = None;
                Ok(Arc::new(tenant))
            }
            _ => Ok(row),
        }
    }

    /// Whether the line is written: the row of a tenant that is there stays as it is.
    fn is_written(&self, object: &ObjectRef) -> bool {
        object.scope() != ObjectScope::Platform || matches!(self.import.target, Target::New { .. })
    }

    async fn count(&self, object: &ObjectRef) -> Result<u64, TransferError> {
        let query = AggregateQuery::count(object, Condition::all());
        let storage = self.session.engine().storage();
        let groups = storage.aggregate(self.scope(), &query).await?;
        Ok(groups.first().map_or(0, |group| group.count(0)))
    }

    /// Refuses a tenant that has records which are not from this file, before anything is written.
    async fn check_empty(
        &self,
        file: &mut (impl BufRead + Seek + Send),
        manifest: &Manifest,
        places: &Places,
    ) -> Result<(), TransferError> {
        let all = self.session.registry().await?.all_objects();
        for object in all.values() {
            if object.lifecycle() == Lifecycle::Derived || object.scope() == ObjectScope::Platform {
                continue;
            }
            let stored = self.count(object).await?;
            if stored == 0 {
                continue;
            }
            let mut ours = 0;
            if let Some(summary) = manifest.object(object.name()) {
                let mut section = Section::open(file, summary, places)?;
                while let Some(batch) = section.read(file, self)? {
                    let rows: Vec<Row> = batch.into_iter().map(|(_, row)| row).collect();
                    ours += self.stored(object, &rows).await?.len() as u64;
                }
            }
            if ours != stored {
                return Err(TransferError::NotEmpty {
                    object: object.name().to_owned(),
                });
            }
        }
        if let Target::Existing(tenant) = self.import.target {
            self.session.records::<Tenant>().get(tenant).await?;
        }
        Ok(())
    }

    /// Those of the rows that are stored already.
    async fn stored(
        &self,
        object: &ObjectRef,
        rows: &[Row],
    ) -> Result<HashMap<Uuid, Row>, TransferError> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
        let storage = self.session.engine().storage();
        let found = storage.get(self.scope(), object, &ids).await?;
        Ok(found.into_iter().map(|row| (row.id(), row)).collect())
    }

    /// Writes the records of one group. Those that refer to records which are not there yet, as
    /// users to their managers, wait for the next pass.
    async fn group(
        &mut self,
        file: &mut (impl BufRead + Seek + Send),
        group: &[ObjectRef],
        manifest: &Manifest,
        places: &Places,
    ) -> Result<(), TransferError> {
        let mut is_first = true;
        loop {
            let (mut waiting, mut count, mut progress) = (Vec::new(), 0_usize, false);
            for object in group {
                let summary = manifest.object(object.name());
                let Some(summary) = summary.filter(|_| self.is_written(object)) else {
                    continue;
                };
                let mut section = Section::open(file, summary, places)?;
                while let Some(batch) = section.read(file, self)? {
                    let (ready, held) = self.sort(object, batch, is_first).await?;
                    progress |= !ready.is_empty();
                    self.commit(ready).await?;
                    count += held.len();
                    waiting.extend(held);
                    waiting.truncate(TANGLE);
                }
            }
            is_first = false;
            if count == 0 {
                return Ok(());
            }
            if !progress {
                // What is left refers to one another in circles, or to nothing.
                let fits = count == waiting.len();
                let (ready, held) = self.ready(waiting).await?;
                return match held.into_iter().next() {
                    Some((line, row, field)) => Err(TransferError::Dangling {
                        line,
                        object: row.object().name().to_owned(),
                        field,
                    }),
                    None if fits => self.commit(ready).await,
                    None => Err(TransferError::Malformed {
                        line: ready.first().map_or(0, |(line, _)| *line),
                        reason: "begins a circle of more records than one commit takes",
                    }),
                };
            }
        }
    }

    /// Sorts a batch into what can be written now and what has to wait; what is stored already is
    /// neither.
    async fn sort(
        &mut self,
        object: &ObjectRef,
        batch: Vec<Numbered>,
        is_first: bool,
    ) -> Result<(Vec<Numbered>, Vec<Numbered>), TransferError> {
        let rows: Vec<Row> = batch.iter().map(|(_, row)| row.clone()).collect();
        let stored = self.stored(object, &rows).await?;
        let mut open = Vec::new();
        for (line, row) in batch {
            match stored.get(&row.id()) {
                None => open.push((line, row)),
                Some(known) if known.to_json() == row.to_json() => {
                    self.already_there += u64::from(is_first);
                }
                Some(_) => {
                    return Err(TransferError::Changed {
                        object: object.name().to_owned(),
                    });
                }
            }
        }
        let (ready, held) = self.ready(open).await?;
        Ok((
            ready,
            held.into_iter().map(|(line, row, _)| (line, row)).collect(),
        ))
    }

    /// Those of the rows whose references all lead to stored records or to one another; of the
    /// others also the reference that leads nowhere.
    async fn ready(
        &self,
        rows: Vec<Numbered>,
    ) -> Result<(Vec<Numbered>, Vec<(u64, Row, String)>), TransferError> {
        let mut wanted: BTreeMap<String, HashSet<Uuid>> = BTreeMap::new();
        for (_, row) in &rows {
            for (_, target, id) in references(row) {
                wanted.entry(target).or_default().insert(id);
            }
        }
        let mut live: HashSet<(String, Uuid)> = HashSet::new();
        let mut deleted = HashSet::new();
        let registry = self.session.registry().await?;
        for (name, ids) in wanted {
            let ids: Vec<Uuid> = ids.into_iter().collect();
            let target = registry.any_object(&name).ok_or_else(|| unknown(&name))?;
            let storage = self.session.engine().storage();
            for row in storage.get(self.scope(), &target, &ids).await? {
                let place = (name.clone(), row.id());
                if row.is_deleted() {
                    deleted.insert(place);
                } else {
                    live.insert(place);
                }
            }
        }
        let (mut ready, mut held) = (rows, Vec::new());
        loop {
            let mut together: HashMap<(String, Uuid), bool> = HashMap::new();
            for (_, row) in &ready {
                let place = (row.object().name().to_owned(), row.id());
                together.insert(place, row.is_deleted());
            }
            let before = held.len();
            let mut still = Vec::with_capacity(ready.len());
            for (line, row) in ready {
                let lost = references(&row).into_iter().find(|(_, target, id)| {
                    let place = (target.clone(), *id);
                    let is_live =
                        live.contains(&place) || together.get(&place).is_some_and(|gone| !gone);
                    let is_there =
                        is_live || deleted.contains(&place) || together.contains_key(&place);
                    !(is_live || is_there && row.is_deleted())
                });
                match lost {
                    None => still.push((line, row)),
                    Some((field, ..)) => held.push((line, row, field)),
                }
            }
            ready = still;
            if held.len() == before {
                return Ok((ready, held));
            }
        }
    }

    /// Writes rows, all or none.
    async fn commit(&mut self, rows: Vec<Numbered>) -> Result<(), TransferError> {
        if !rows.is_empty() {
            let engine = self.session.engine();
            let at = engine.clock().now();
            let count = rows.len() as u64;
            let changes = rows
                .into_iter()
                .map(|(_, row)| Change::Insert { row })
                .collect();
            let own = self.objects.values();
            let own = own.filter(|object| object.template().is_some());
            let changes = ChangeSet::new(engine.ids().next(at), at, changes, Vec::new())
                .with_objects(own.cloned().collect());
            engine.storage().commit(self.scope(), &changes).await?;
            self.written += count;
        }
        let done = self.written + self.already_there;
        if self.progress.report(done, Some(self.total)).is_break() {
            return Err(TransferError::Cancelled { records: done });
        }
        Ok(())
    }

    /// Makes again what the engine derives from records. The records themselves stay as they came.
    async fn derive(&self) -> Result<(), TransferError> {
        // The rows were written past the engine.
        self.session.forget_settings();
        self.session.restore_schema(true).await?;
        let rules = self.session.duplicate_rules();
        let mut find = Find::new().limit(MAX_LIMIT);
        loop {
            let page = rules.find(find.clone()).await?;
            for rule in page.items.iter().filter(|rule| rule.is_in_use()) {
                let duplicates = self.session.duplicates();
                duplicates.restore_keys(rule.id, &()).await?;
            }
            match page.next {
                Some(next) => find = find.after(next),
                None => break,
            }
        }
        self.session.activities().rebuild_roll_ups(&()).await?;
        self.session.deals().begin_states(&()).await?;
        Ok(())
    }

    /// The tenant has just the records of the file.
    async fn compare_counts(&self, manifest: &Manifest) -> Result<(), TransferError> {
        for summary in &manifest.objects {
            let Some(object) = self.objects.get(&summary.object) else {
                continue;
            };
            if self.is_written(object) && self.count(object).await? != summary.count {
                return Err(TransferError::Altered {
                    object: summary.object.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The references of a row: field, object and id.
fn references(row: &Row) -> Vec<(String, String, Uuid)> {
    let object = row.object();
    let found = object.references().iter().filter_map(|index| {
        let field: &FieldSchema = object.fields().get(*index)?;
        let (target, _) = field.reference()?;
        let id = row.value(*index).as_uuid()?;
        Some((field.name.to_string(), target.to_owned(), id))
    });
    found.collect()
}

/// The lines of one object.
struct Section {
    line: u64,
    offset: u64,
    left: u64,
}

impl Section {
    fn open(
        file: &mut (impl BufRead + Seek),
        summary: &ObjectSummary,
        places: &Places,
    ) -> Result<Self, TransferError> {
        let (line, offset) = places.get(&summary.object).copied().unwrap_or_default();
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self {
            line: line.saturating_sub(1),
            offset,
            left: summary.count,
        })
    }

    /// The next rows; none at the end of the object.
    fn read(
        &mut self,
        file: &mut (impl BufRead + Seek),
        run: &Run<'_>,
    ) -> Result<Option<Vec<Numbered>>, TransferError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut lines = Lines::new(file, self.line, self.offset);
        let mut rows = Vec::new();
        while self.left > 0 && rows.len() < BATCH {
            let line = lines.next()?.ok_or(TransferError::Truncated)?;
            let record: RecordLine =
                serde_json::from_slice(line).map_err(|_| TransferError::Truncated)?;
            rows.push((lines.number, run.build(record, lines.number)?));
            self.left -= 1;
        }
        (self.line, self.offset) = (lines.number, lines.offset);
        Ok(Some(rows))
    }
}
