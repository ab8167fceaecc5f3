//! A tenant as a file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;

use crm_core::Session;
use crm_core::engine::Progress;
use crm_core::error::Faults;
use crm_core::exports::{ExportFormat, ExportJob, ExportOutcome};
use crm_core::query::{Comparison, Filter, Find, MAX_LIMIT};
use crm_core::schema::{
    FieldSchema, Lifecycle, ObjectRef, ObjectScope, Row, SYSTEM_FIELDS, StorageKind, Value,
    ValueRef,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::line::{RecordLine, is_carried};
use super::manifest::{FORMAT, Head, Manifest, ObjectSummary, Tail};
use super::{TransferError, order};
use crate::secret::is_secret;

/// How many records are read at once.
const PAGE: usize = 500;

/// Writes a tenant as a file; see the [module](super).
///
/// ```
/// # async fn example(session: &crm_core::Session) -> Result<(), crm_exchange::tenant::TransferError> {
/// use crm_exchange::tenant::{TenantExport, verify};
///
/// let mut file = Vec::new();
/// let manifest = TenantExport::new().run(session, &mut file, &()).await?;
/// assert_eq!(verify(&mut file.as_slice())?, manifest);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an export writes nothing until it runs"]
pub struct TenantExport {
    archived: bool,
    deleted: bool,
    logs: bool,
    file_name: Option<String>,
}

impl Default for TenantExport {
    fn default() -> Self {
        Self::new()
    }
}

impl TenantExport {
    /// Everything: archived and deleted records and logs too.
    pub const fn new() -> Self {
        Self {
            archived: true,
            deleted: true,
            logs: true,
            file_name: None,
        }
    }

    /// Leaves archived records out, and what cannot be without them; other references to them are
    /// emptied.
    pub const fn without_archived(mut self) -> Self {
        self.archived = false;
        self
    }

    /// Leaves deleted records out.
    pub const fn without_deleted(mut self) -> Self {
        self.deleted = false;
        self
    }

    /// Leaves logs out: the history of stages, the audit trail. Versions before the move cannot be
    /// built again then.
    pub const fn without_logs(mut self) -> Self {
        self.logs = false;
        self
    }

    /// How the file is called, for the record of the export.
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// Writes the file, and gives its manifest. An entry of a log that belongs to a deleted record
    /// stays behind: no backend takes a new reference to a deleted record.
    ///
    /// # Errors
    /// [`TransferError::Cancelled`] when `progress` says so: the file has no manifest then and
    /// [`verify`](super::verify) refuses it.
    pub async fn run(
        &self,
        session: &Session,
        mut writer: impl Write + Send,
        progress: &dyn Progress,
    ) -> Result<Manifest, TransferError> {
        let tenants = session.object("tenant").await?;
        let tenant = match session.tenant() {
            Some(tenant) => tenants.get(tenant.uuid()).await?,
            None => {
                return Err(crm_core::Error::Forbidden {
                    reason: "only a tenant's session exports it".into(),
                }
                .into());
            }
        };
        let at = session.engine().clock().now();
        let job = session
            .exports()
            .begin(ExportJob {
                has_personal: true,
                file_name: self.file_name.clone(),
                ..ExportJob::new(tenant.object().name(), ExportFormat::Tenant)
            })
            .await?;
        let registry = session.registry().await?.all_objects();
        let carried: Vec<ObjectRef> = registry
            .values()
            .filter(|object| match object.lifecycle() {
                Lifecycle::Full => {
                    object.scope() == ObjectScope::Tenant || *object == tenant.object()
                }
                Lifecycle::Log => self.logs,
                Lifecycle::Derived => false,
            })
            .cloned()
            .collect();
        let groups = order::groups(&carried);
        let names = |group: &Vec<ObjectRef>| {
            let names = group.iter().map(|object| object.name().to_owned());
            names.collect()
        };
        let head = Head {
            format: FORMAT,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            export: job.id.uuid(),
            tenant: tenant.id(),
            name: tenant.get("name").as_text().unwrap_or_default().to_owned(),
            at,
            archived: self.archived,
            deleted: self.deleted,
            logs: self.logs,
            objects: groups.iter().map(names).collect(),
        };
        let mut walk = Walk {
            session,
            options: self,
            head: &head,
            behind: objects_behind(&groups),
            left_out: HashSet::new(),
            done: 0,
        };
        let written = walk.write(&groups, &mut writer, progress).await;
        let outcome = match &written {
            Ok(_) => ExportOutcome::Completed,
            Err(TransferError::Cancelled { .. }) => ExportOutcome::Cancelled,
            Err(error) => ExportOutcome::Failed(error.code()),
        };
        let done = walk.done;
        let finished = session.exports().finish(job.id, outcome, done).await;
        let manifest = written?;
        finished?;
        Ok(manifest)
    }
}

/// The objects whose records stay behind: they cannot be without a secret, or without a record that
/// stays behind.
fn objects_behind(groups: &[Vec<ObjectRef>]) -> HashSet<String> {
    let mut behind = HashSet::new();
    loop {
        let before = behind.len();
        for object in groups.iter().flatten() {
            let stays = |field: &FieldSchema| {
                let is_secret = !is_carried(field) && field.default.is_null();
                let is_lost = field
                    .reference()
                    .is_some_and(|(target, _)| behind.contains(target));
                field.required && (is_secret || is_lost)
            };
            if object.own_fields().iter().any(stays) {
                behind.insert(object.name().to_owned());
            }
        }
        if behind.len() == before {
            return behind;
        }
    }
}

/// An export on its way through the objects.
struct Walk<'a> {
    session: &'a Session,
    options: &'a TenantExport,
    head: &'a Head,
    behind: HashSet<String>,
    /// Records that others may refer to and that stay behind for a reason of their own. Few: the
    /// options decide about all others, and they are asked again.
    left_out: HashSet<Uuid>,
    done: u64,
}

impl Walk<'_> {
    async fn write(
        &mut self,
        groups: &[Vec<ObjectRef>],
        writer: &mut (impl Write + Send),
        progress: &dyn Progress,
    ) -> Result<Manifest, TransferError> {
        let mut total = 0;
        for object in groups.iter().flatten() {
            let records = self.session.rows_of(object.clone());
            total += records.count(&self.find()).await?;
        }
        write_line(writer, self.head, None)?;
        let mut objects = Vec::new();
        for object in groups.iter().flatten() {
            objects.push(self.object(object, writer, progress, total).await?);
        }
        let manifest = Manifest {
            head: self.head.clone(),
            objects,
        };
        let tail = Tail { manifest };
        write_line(writer, &tail, None)?;
        writer.flush()?;
        Ok(tail.manifest)
    }

    /// The records that were there when the export began, by id.
    fn find(&self) -> Find<()> {
        let before = Filter::Compare {
            field: "created_at".into(),
            op: Comparison::Le,
            value: Value::Timestamp(self.head.at),
        };
        let mut find = Find::new().filter_by_name(before).limit(PAGE);
        if self.options.archived {
            find = find.with_archived();
        }
        if self.options.deleted {
            find = find.with_deleted();
        }
        find
    }

    async fn object(
        &mut self,
        object: &ObjectRef,
        writer: &mut (impl Write + Send),
        progress: &dyn Progress,
        total: u64,
    ) -> Result<ObjectSummary, TransferError> {
        let registry = &*self.session.registry().await?;
        let is_referred_to = !registry.referring_to(object.name()).is_empty();
        let stays_behind = self.behind.contains(object.name());
        let records = self.session.rows_of(object.clone());
        let (mut count, mut left_out, mut hash) = (0, 0, Sha256::new());
        let mut next = None;
        loop {
            let find = match next.take() {
                Some(cursor) => self.find().after(cursor),
                None => self.find(),
            };
            let page = records.find(&find).await?;
            let targets = self.targets(object, &page.items).await?;
            for row in &page.items {
                if self.tells_of_this_export(row) {
                    continue;
                }
                match self.carried(row, &targets).filter(|_| !stays_behind) {
                    Some(row) => {
                        write_line(writer, &RecordLine::of(&row), Some(&mut hash))?;
                        count += 1;
                        self.done += 1;
                    }
                    None => {
                        left_out += 1;
                        if is_referred_to && !stays_behind {
                            self.left_out.insert(row.id());
                        }
                    }
                }
            }
            if progress.report(self.done, Some(total)).is_break() {
                return Err(TransferError::Cancelled { records: self.done });
            }
            match page.next {
                Some(cursor) => next = Some(cursor),
                None => break,
            }
        }
        let secrets = object
            .own_fields()
            .iter()
            .filter(|field| !is_carried(field));
        Ok(ObjectSummary {
            object: object.name().to_owned(),
            count,
            sha256: hexadecimal(hash),
            left_out,
            fields_left_out: secrets.map(|field| field.name.to_string()).collect(),
        })
    }

    /// Whether the row is the record of this export, or an entry about it: it came with the export.
    fn tells_of_this_export(&self, row: &Row) -> bool {
        let own = row.object().fields().iter().enumerate();
        row.id() == self.head.export
            || own
                .skip(SYSTEM_FIELDS)
                .filter(|(_, field)| field.storage_kind() == StorageKind::Uuid)
                .any(|(index, _)| row.value(index).as_uuid() == Some(self.head.export))
    }

    /// What the references of a page lead to: one call for each object.
    async fn targets(
        &self,
        object: &ObjectRef,
        page: &[Row],
    ) -> Result<HashMap<(String, Uuid), Row>, TransferError> {
        let mut wanted: BTreeMap<&str, HashSet<Uuid>> = BTreeMap::new();
        for index in object.references() {
            let field = object.fields().get(*index);
            if let Some((target, _)) = field.and_then(FieldSchema::reference) {
                let ids = page.iter().filter_map(|row| row.value(*index).as_uuid());
                wanted.entry(target).or_default().extend(ids);
            }
        }
        let mut found = HashMap::new();
        for (name, ids) in wanted {
            let target = self.session.describe(name).await?;
            let ids: Vec<Uuid> = ids.into_iter().collect();
            let storage = self.session.engine().storage();
            for some in ids.chunks(MAX_LIMIT) {
                for row in storage.get(self.session.scope(), &target, some).await? {
                    found.insert((name.to_owned(), row.id()), row);
                }
            }
        }
        Ok(found)
    }

    /// The record as it goes into the file: without encrypted values, and without references to
    /// records that are not in it. None where it cannot be without them.
    fn carried(&self, row: &Row, targets: &HashMap<(String, Uuid), Row>) -> Option<Row> {
        let mut emptied = Vec::new();
        let fields = row.object().fields().iter().enumerate();
        for (index, field) in fields.skip(SYSTEM_FIELDS) {
            let value = row.value(index);
            let is_lost = match (field.reference(), &value) {
                (Some((target, _)), ValueRef::Uuid(id)) => {
                    let known = targets.get(&(target.to_owned(), *id));
                    !known.is_some_and(|other| self.is_there(row, other))
                }
                _ => is_carried(field) && is_secret(&value),
            };
            if is_lost && field.required {
                return None;
            }
            if is_lost {
                emptied.push(index - SYSTEM_FIELDS);
            }
        }
        if emptied.is_empty() {
            return Some(row.clone());
        }
        let mut values = row.values();
        for place in emptied {
            *values.get_mut(place)? = Value::Null;
        }
        let row = row.with_values(row.meta(), values).ok()?;
        let mut faults = Faults::default();
        row.check(&mut faults);
        faults.is_empty().then_some(row)
    }

    /// Whether a record that `row` refers to is in the file, where the reference can be kept.
    fn is_there(&self, row: &Row, target: &Row) -> bool {
        let meta = target.meta();
        meta.created.at <= self.head.at
            && (meta.deleted_at.is_none() || (self.options.deleted && row.is_deleted()))
            && (meta.archived_at.is_none() || self.options.archived)
            && !self.behind.contains(target.object().name())
            && !self.left_out.contains(&meta.id)
    }
}

fn write_line<T: Serialize>(
    writer: &mut impl Write,
    line: &T,
    hash: Option<&mut Sha256>,
) -> Result<(), TransferError> {
    let mut bytes = serde_json::to_vec(line).map_err(std::io::Error::from)?;
    bytes.push(b'\n');
    if let Some(hash) = hash {
        hash.update(&bytes);
    }
    Ok(writer.write_all(&bytes)?)
}

/// The digest in hexadecimal digits.
pub(super) fn hexadecimal(hash: Sha256) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
