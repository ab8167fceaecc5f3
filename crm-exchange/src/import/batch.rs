//! One batch of rows: what each row does is decided, staged, and written in one commit with the
//! rows' outcomes and how far the job is; or, in a dry run, validated and dropped.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crm_core::error::{Error, FieldError, Result, codes};
use crm_core::imports::{
    DuplicateHandling, ImportBatch, ImportJob, ImportMode, RowFault, RowOutcome, RowResult,
};
use crm_core::query::{FieldAt, Filter, Find, MAX_LIMIT, fold_case};
use crm_core::schema::{Row, Value};
use crm_core::storage::unique_value;
use crm_core::{Record, Session, UnitOfWork};
use serde_json::Value as Json;
use uuid::Uuid;

use super::lookup::{Lookups, Named};
use super::plan::{Key, ParsedRow, Plan, Reference, fault_of};
use super::seen::{Before, Seen, fingerprint, unique_values};

/// The name under which the keys of rows are remembered.
const MATCH: &str = "match";

/// What the rows of one import have in common while they run.
pub(crate) struct Run<'a> {
    pub(crate) session: Session,
    pub(crate) plan: &'a Plan,
    pub(crate) lookups: Lookups,
    pub(crate) seen: Seen,
    /// None in a dry run.
    pub(crate) job: Option<Arc<Record<ImportJob>>>,
    /// Whether the tenant has duplicate rules for the object.
    pub(crate) has_rules: bool,
}

/// What became of an attempt at some rows.
pub(crate) enum Attempt {
    /// They landed, each in its way.
    Done(Vec<RowResult>),
    /// Somebody else wrote at the same time.
    Conflict,
    /// One of them cannot be written, which only the commit found out.
    Refused(Error),
}

/// Values, each once, in the order in which they came.
#[derive(Default)]
struct Distinct {
    values: Vec<Value>,
    known: HashSet<String>,
}

impl Distinct {
    fn add(&mut self, value: Value) {
        if self.known.insert(value.to_json().to_string()) {
            self.values.push(value);
        }
    }
}

/// A row on its way.
struct Candidate<'r> {
    row: &'r ParsedRow,
    values: Vec<(usize, Value)>,
    constants: Vec<(usize, Value)>,
    /// Names of records to create first: the place of the column, and the text.
    missing: Vec<(usize, String)>,
    before: Option<Row>,
    faults: Vec<RowFault>,
    /// The record that the row doubles, and the reason.
    double: Option<(Option<Uuid>, RowFault)>,
    taken: Vec<u128>,
    freed: Vec<u128>,
}

fn result_of(
    row: &ParsedRow,
    outcome: RowOutcome,
    record: Option<Uuid>,
    faults: Vec<RowFault>,
) -> RowResult {
    RowResult {
        number: row.number,
        outcome,
        record,
        faults,
        related: Vec::new(),
    }
}

/// A row's fault that concerns no single column.
fn row_fault(code: &str, message: impl Into<String>) -> RowFault {
    RowFault {
        column: None,
        field: None,
        code: code.to_owned(),
        message: message.into(),
    }
}

impl Run<'_> {
    /// Tries some rows in one commit. `refused` says why a single row cannot be written, once that
    /// is known: then only its outcome is.
    pub(crate) async fn attempt(
        &mut self,
        rows: &[ParsedRow],
        refused: Option<&Error>,
    ) -> Result<Attempt> {
        let mut work = self.session.begin();
        let mut delta = Seen::default();
        let results = match refused {
            Some(error) => {
                self.note_keys(rows).await?;
                rows.iter().map(|row| self.refusal(row, error)).collect()
            }
            None => {
                self.look_up(rows).await?;
                let mut candidates: Vec<_> = rows.iter().map(Candidate::new).collect();
                for candidate in &mut candidates {
                    // Names that only earlier rows of the batch explain come later.
                    self.resolve(candidate, &Seen::default(), true);
                }
                self.find_matches(&mut candidates).await?;
                let stored = self.find_taken(&candidates).await?;
                work.accept_duplicates(self.find_duplicates(&mut candidates).await?);
                let mut results = Vec::with_capacity(rows.len());
                for candidate in candidates {
                    results.push(self.land(&mut work, candidate, &stored, &mut delta).await?);
                }
                results
            }
        };
        let Some(job) = &self.job else {
            return match work.prepare().await {
                Ok(_) => {
                    self.seen.absorb(delta);
                    Ok(Attempt::Done(results))
                }
                Err(error) => refusal_of(error),
            };
        };
        let batch = ImportBatch {
            rows: results.clone(),
            ..ImportBatch::default()
        };
        let job = work.settle_import_batch(job, batch).await?;
        match work.commit().await {
            Ok(_) => {
                self.job = Some(job);
                self.seen.absorb(delta);
                Ok(Attempt::Done(results))
            }
            Err(Error::Conflict { .. }) => {
                self.lookups.forget();
                Ok(Attempt::Conflict)
            }
            Err(error) => refusal_of(error),
        }
    }

    /// Notes the keys of rows that are done.
    pub(crate) async fn note_keys(&mut self, rows: &[ParsedRow]) -> Result<()> {
        if self.plan.keys.is_empty() {
            return Ok(());
        }
        self.look_up(rows).await?;
        for row in rows {
            let mut candidate = Candidate::new(row);
            self.resolve(&mut candidate, &Seen::default(), true);
            if let Some(values) = key_values(&self.plan.keys, &candidate.values) {
                self.seen.take(fingerprint(MATCH, &values), row.number);
            }
        }
        Ok(())
    }

    fn refusal(&self, row: &ParsedRow, error: &Error) -> RowResult {
        let faults = self.faults_of(error);
        let is_double = matches!(error, Error::Duplicate { .. } | Error::DuplicateFound(_));
        result_of(row, self.outcome(is_double), None, faults)
    }

    const fn outcome(&self, is_double: bool) -> RowOutcome {
        if is_double && matches!(self.plan.duplicates, DuplicateHandling::Skip) {
            RowOutcome::Skipped
        } else {
            RowOutcome::Failed
        }
    }

    /// Finds what the references of all rows name, column by column.
    async fn look_up(&mut self, rows: &[ParsedRow]) -> Result<()> {
        let mut texts: HashMap<usize, BTreeSet<&str>> = HashMap::new();
        for (column, text) in rows.iter().flat_map(|row| &row.references) {
            texts.entry(*column).or_default().insert(text);
        }
        for (column, texts) in texts {
            let texts: Vec<&str> = texts.into_iter().collect();
            self.lookups
                .load(&self.session, self.plan, column, &texts)
                .await?;
        }
        Ok(())
    }

    /// Puts the ids of references among the values. `early` is before the rows of the same batch
    /// were staged: what is not found then may still be found.
    fn resolve(&self, candidate: &mut Candidate<'_>, delta: &Seen, early: bool) {
        candidate.missing.clear();
        let row = candidate.row;
        for (place, text) in &row.references {
            let Some(column) = self.plan.columns.get(*place) else {
                continue;
            };
            let Some(reference) = column.reference() else {
                continue;
            };
            let named = self.named(*place, text, candidate, delta);
            let fault = match named {
                Named::One(id) => {
                    candidate.set(reference, Value::Uuid(id), column.is_constant());
                    continue;
                }
                Named::Missing if early => continue,
                Named::Missing if reference.lookup.create_missing => {
                    candidate.missing.push((*place, text.clone()));
                    continue;
                }
                Named::Several if early => continue,
                Named::Missing => ("not_found", "names a record that does not exist"),
                Named::Several => (
                    "ambiguous",
                    "names several records; use a key that only one has",
                ),
            };
            let name = &reference.path;
            candidate.faults.push(RowFault {
                column: column.header.clone(),
                field: Some(name.to_owned()),
                code: fault.0.to_owned(),
                message: fault.1.to_owned(),
            });
        }
    }

    fn named(&self, place: usize, text: &str, row: &Candidate<'_>, delta: &Seen) -> Named {
        let reference = self
            .plan
            .columns
            .get(place)
            .and_then(|column| column.reference());
        let Some(reference) = reference else {
            return Named::Missing;
        };
        let folded = reference.folded(text);
        let rows = self.lookups.rows(place, &folded);
        let mut ids = Before(&self.seen, delta).named(place, &folded);
        if rows.len() + ids.len() > 1 {
            let values = row.given(true);
            let narrowed = reference.narrowed(&self.plan.object, &values, rows);
            ids.extend(narrowed.iter().map(|row| row.id()));
        } else {
            ids.extend(rows.iter().map(|row| row.id()));
        }
        ids.sort_unstable();
        ids.dedup();
        match ids.as_slice() {
            [] => Named::Missing,
            [id] => Named::One(*id),
            _ => Named::Several,
        }
    }

    /// Finds the records that the keys of the rows name, in one query.
    async fn find_matches(&self, candidates: &mut [Candidate<'_>]) -> Result<()> {
        if self.plan.mode == ImportMode::Create {
            return Ok(());
        }
        let mut wanted: Vec<Vec<Value>> = Vec::new();
        for candidate in candidates.iter() {
            wanted.extend(key_values(&self.plan.keys, &candidate.values));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let filters = self.plan.keys.iter().enumerate().map(|(place, key)| {
            let values = wanted.iter().filter_map(|values| values.get(place));
            let mut column = Distinct::default();
            values.for_each(|value| column.add(value.clone()));
            Filter::In {
                field: key.path.clone().into(),
                values: column.values,
            }
        });
        let filter = Filter::And(filters.collect());
        let found = self.find_all(Find::new().filter_by_name(filter)).await?;
        let mut by_key: HashMap<String, Vec<Row>> = HashMap::new();
        for row in found {
            let values: Option<Vec<Value>> = self
                .plan
                .keys
                .iter()
                .map(|key| key.value_of(&row))
                .collect();
            if let Some(values) = values {
                by_key.entry(joined(&values)).or_default().push(row);
            }
        }
        for candidate in candidates.iter_mut() {
            let Some(values) = key_values(&self.plan.keys, &candidate.values) else {
                continue;
            };
            match by_key
                .get(&joined(&values))
                .map_or(&[] as &[Row], Vec::as_slice)
            {
                [] => {}
                [row] => candidate.before = Some(row.clone()),
                _ => candidate.faults.push(row_fault(
                    "ambiguous",
                    "several records have the keys of the row; use a key that only one has",
                )),
            }
        }
        Ok(())
    }

    /// Every live record that a filter finds, archived ones too.
    async fn find_all(&self, find: Find<()>) -> Result<Vec<Row>> {
        let records = self.session.object(self.plan.object.name()).await?;
        let find = find.with_archived().limit(MAX_LIMIT);
        let mut page = records.find(&find).await?;
        let mut rows = Vec::new();
        loop {
            rows.append(&mut page.items);
            let Some(next) = page.next else {
                return Ok(rows);
            };
            page = records.find(&find.clone().after(next)).await?;
        }
    }

    /// The stored records that have what rows want in unique keys: one query for each key.
    async fn find_taken(&self, candidates: &[Candidate<'_>]) -> Result<HashMap<u128, Uuid>> {
        let mut stored = HashMap::new();
        let object = &self.plan.object;
        for key in object.unique_keys() {
            let names = object.names(&key.fields);
            let own_key = self.plan.keys.iter().map(|key| key.path.as_str());
            if self.plan.mode != ImportMode::Create && own_key.eq(names.iter().map(String::as_str))
            {
                // A row without a match found nobody with its key.
                continue;
            }
            let mut columns: Vec<Distinct> = Vec::new();
            columns.resize_with(key.fields.len(), Distinct::default);
            for candidate in candidates {
                let before = candidate.before.as_ref();
                let given = candidate.given(before.is_none());
                let Some(values) = unique_values(object, key, before, &given) else {
                    continue;
                };
                if before.and_then(|row| unique_value(key, &**row)).as_ref() == Some(&values) {
                    continue;
                }
                for (column, value) in columns.iter_mut().zip(values) {
                    column.add(value);
                }
            }
            if columns.iter().any(|column| column.values.is_empty()) {
                continue;
            }
            let filters = names.iter().zip(columns).map(|(name, column)| Filter::In {
                field: name.clone().into(),
                values: column.values,
            });
            let mut find = Find::new().filter_by_name(Filter::And(filters.collect()));
            if !key.live {
                find = find.with_deleted();
            }
            let label = names.join(",");
            for row in self.find_all(find).await? {
                if let Some(values) = unique_value(key, &*row) {
                    stored.insert(fingerprint(&label, &values), row.id());
                }
            }
        }
        Ok(stored)
    }

    /// Finds the stored records that new rows are like by the tenant's duplicate rules: one check for
    /// the batch. What is like another row of the batch under a strict rule, the commit tells. Gives
    /// the records that may be doubled, as rows land all the same.
    async fn find_duplicates(&self, candidates: &mut [Candidate<'_>]) -> Result<Vec<Uuid>> {
        let mut accepted = Vec::new();
        if !self.has_rules {
            return Ok(accepted);
        }
        let keeps = matches!(self.plan.duplicates, DuplicateHandling::Keep);
        let mut places = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for (place, candidate) in candidates.iter().enumerate() {
            if candidate.before.is_none() && candidate.faults.is_empty() {
                places.push(place);
                rows.push(self.plan.draft(&candidate.given(true)));
            }
        }
        let found = self.session.duplicates().check_rows(&rows).await?;
        for (place, matches) in places.into_iter().zip(found) {
            if keeps {
                accepted.extend(matches.iter().map(|found| found.record.id));
            } else if let (Some(candidate), Some(first)) =
                (candidates.get_mut(place), matches.first())
            {
                let message = "is like a stored record by a duplicate rule";
                let fault = row_fault("duplicate_found", message);
                candidate.double = Some((Some(first.record.id), fault));
            }
        }
        Ok(accepted)
    }

    /// Decides what a row does, and stages it.
    async fn land(
        &self,
        work: &mut UnitOfWork,
        mut candidate: Candidate<'_>,
        stored: &HashMap<u128, Uuid>,
        delta: &mut Seen,
    ) -> Result<RowResult> {
        self.resolve(&mut candidate, delta, false);
        self.check_keys(&mut candidate, stored, delta);
        if !candidate.faults.is_empty() {
            let faults = std::mem::take(&mut candidate.faults);
            return Ok(result_of(candidate.row, RowOutcome::Failed, None, faults));
        }
        if let Some((record, fault)) = candidate.double.take() {
            return Ok(result_of(
                candidate.row,
                self.outcome(true),
                record,
                vec![fault],
            ));
        }
        let savepoint = work.savepoint();
        match self.stage(work, &mut candidate, delta).await {
            Ok(mut result) => {
                work.release(savepoint);
                for key in &candidate.taken {
                    delta.take(*key, candidate.row.number);
                }
                for key in &candidate.freed {
                    delta.free(*key);
                }
                if result.outcome == RowOutcome::Unchanged {
                    result.record = None;
                }
                Ok(result)
            }
            Err(error @ (Error::Storage(_) | Error::Query(_))) => Err(error),
            Err(error) => {
                work.roll_back(savepoint);
                Ok(self.refusal(candidate.row, &error))
            }
        }
    }

    /// The keys of a row against those of earlier rows and of stored records.
    fn check_keys(
        &self,
        candidate: &mut Candidate<'_>,
        stored: &HashMap<u128, Uuid>,
        delta: &mut Seen,
    ) {
        let plan = self.plan;
        if plan.mode != ImportMode::Create {
            match key_values(&plan.keys, &candidate.values) {
                Some(values) => {
                    let key = fingerprint(MATCH, &values);
                    if let Some(row) = Before(&self.seen, delta).taken(key) {
                        candidate.doubles_row(row);
                    }
                    // Whatever becomes of the row: the first one of a key counts, so that the file
                    // means the same each time it is imported.
                    delta.take(key, candidate.row.number);
                    if candidate.before.is_none() && plan.mode == ImportMode::Update {
                        candidate
                            .faults
                            .push(row_fault("not_found", "no record has the keys of the row"));
                    }
                }
                // A key that could not be read has its own fault.
                None if candidate.faults.is_empty() => {
                    let names: Vec<&str> = plan.keys.iter().map(|key| key.path.as_str()).collect();
                    let message = format!("a value is required in each key: {}", names.join(", "));
                    candidate.faults.push(row_fault("required", message));
                }
                None => {}
            }
        }
        let seen = Before(&self.seen, delta);
        let before = candidate.before.clone();
        let given = candidate.given(before.is_none());
        let keys = plan.object.unique_keys().iter();
        let keys = keys.map(|key| {
            (
                key,
                unique_values(&plan.object, key, before.as_ref(), &given),
            )
        });
        let keys: Vec<_> = keys.collect();
        for (key, values) in keys {
            let had = before.as_ref().and_then(|row| unique_value(key, &**row));
            if had == values {
                continue;
            }
            let names = plan.object.names(&key.fields);
            let label = names.join(",");
            candidate
                .freed
                .extend(had.map(|had| fingerprint(&label, &had)));
            let Some(values) = values else { continue };
            let key = fingerprint(&label, &values);
            candidate.taken.push(key);
            if let Some(row) = seen.taken(key) {
                candidate.doubles_row(row);
            } else if let Some(id) = stored.get(&key)
                && before.as_ref().is_none_or(|row| row.id() != *id)
                && !seen.is_freed(key)
                && candidate.double.is_none()
            {
                let fault = RowFault {
                    column: names
                        .first()
                        .and_then(|name| plan.header_of(name))
                        .map(ToOwned::to_owned),
                    field: names.first().cloned(),
                    code: "duplicate".to_owned(),
                    message: format!("another record has the same {}", names.join(" and ")),
                };
                candidate.double = Some((Some(*id), fault));
            }
        }
    }

    async fn stage(
        &self,
        work: &mut UnitOfWork,
        candidate: &mut Candidate<'_>,
        delta: &mut Seen,
    ) -> Result<RowResult> {
        let mut related = Vec::new();
        let mut made = Vec::new();
        for (place, text) in std::mem::take(&mut candidate.missing) {
            let column = self.plan.columns.get(place);
            let Some((column, reference)) = column.and_then(|c| Some((c, c.reference()?))) else {
                continue;
            };
            let field = reference.object.field_index(&reference.lookup.by);
            let values: Vec<_> = field.zip(reference.coerced(&text)).into_iter().collect();
            let row = work.create_values(&reference.object, &values).await?;
            candidate.set(reference, Value::Uuid(row.id()), column.is_constant());
            related.push((reference.object.name().to_owned(), row.id()));
            made.push((place, reference.folded(&text), row.id()));
        }
        let (row, outcome) = match &candidate.before {
            None => {
                let values = candidate.given(true);
                let row = work.create_values(&self.plan.object, &values).await?;
                (row, RowOutcome::Created)
            }
            Some(before) => {
                let row = work.change_values(before, &candidate.values).await?;
                let outcome = if row.version() == before.version() {
                    RowOutcome::Unchanged
                } else {
                    RowOutcome::Updated
                };
                (row, outcome)
            }
        };
        for (place, text, id) in made {
            delta.name(place, text, id);
        }
        if outcome == RowOutcome::Created {
            for (place, column) in self.plan.columns.iter().enumerate() {
                if let Some(reference) = column.reference()
                    && reference.object == self.plan.object
                {
                    delta.name(place, reference.text_of(&row), row.id());
                }
            }
        }
        let mut result = result_of(candidate.row, outcome, Some(row.id()), Vec::new());
        result.related = related;
        Ok(result)
    }

    /// What an error says about a row, with the columns that are at fault.
    fn faults_of(&self, error: &Error) -> Vec<RowFault> {
        let fields = error.field_errors();
        if !fields.is_empty() {
            // Every reference was looked up before: in a dry run, one to a record that an earlier row
            // would have created is not missing.
            let is_told = |error: &&FieldError| {
                let field = FieldAt::named(&self.plan.object, &error.path);
                let is_reference = field.is_ok_and(|(_, field)| field.reference().is_some());
                self.job.is_some() || error.code != codes::NOT_FOUND || !is_reference
            };
            let fault = |error: &FieldError| fault_of(error, self.plan.header_of(&error.path));
            return fields.iter().filter(is_told).map(fault).collect();
        }
        vec![row_fault(error.code(), error.to_string())]
    }
}

/// An error that one row may be the reason of, or one of the whole run.
fn refusal_of(error: Error) -> Result<Attempt> {
    match error {
        Error::Storage(_) | Error::Query(_) => Err(error),
        error => Ok(Attempt::Refused(error)),
    }
}

impl<'r> Candidate<'r> {
    fn new(row: &'r ParsedRow) -> Self {
        Self {
            row,
            values: row.values.clone(),
            constants: row.constants.clone(),
            missing: Vec::new(),
            before: None,
            faults: row.faults.clone(),
            double: None,
            taken: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// Sets a reference.
    fn set(&mut self, reference: &Reference, id: Value, is_constant: bool) {
        let values = if is_constant {
            &mut self.constants
        } else {
            &mut self.values
        };
        reference.set(values, id);
    }

    /// The values of the row, with the constants where it is to be a new record.
    fn given(&self, is_new: bool) -> Cow<'_, [(usize, Value)]> {
        if !is_new || self.constants.is_empty() {
            return Cow::Borrowed(&self.values);
        }
        let mut values = self.values.clone();
        for (index, constant) in &self.constants {
            let known = values.iter_mut().find(|(known, _)| known == index);
            match (known, constant) {
                (None, constant) => values.push((*index, constant.clone())),
                // The members of a document that no cell says.
                (Some((_, Value::Json(Json::Object(own)))), Value::Json(Json::Object(more))) => {
                    for (name, value) in more {
                        own.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
                (Some(_), _) => {}
            }
        }
        Cow::Owned(values)
    }

    fn doubles_row(&mut self, row: u64) {
        if self.double.is_none() {
            let message = format!("row {row} of the file has the same key");
            self.double = Some((None, row_fault("duplicate_in_file", message)));
        }
    }
}

impl Key {
    /// The value of a stored record in the key, in the form in which values are compared.
    fn value_of(&self, row: &Row) -> Option<Value> {
        let value = self.field.value(&**row);
        (!value.is_null()).then(|| self.fold(value))
    }

    fn fold(&self, value: Value) -> Value {
        match value {
            Value::Text(text) if self.field.ignore_case => Value::Text(fold_case(&text)),
            value => value,
        }
    }
}

/// The values of a row in the keys; `None` where one is missing.
fn key_values(keys: &[Key], values: &[(usize, Value)]) -> Option<Vec<Value>> {
    let value = |key: &Key| {
        let (_, value) = values.iter().find(|(index, _)| *index == key.field.index)?;
        let value = match (&key.field.member, value) {
            (None, value) => value.clone(),
            (Some(_), Value::Json(json)) => key.field.member_of(json),
            (Some(_), _) => return None,
        };
        (!value.is_null()).then(|| key.fold(value))
    };
    keys.iter().map(value).collect()
}

fn joined(values: &[Value]) -> String {
    let texts: Vec<Json> = values.iter().map(Value::to_json).collect();
    Json::Array(texts).to_string()
}
