//! Passing over rows that an earlier worker did: what later rows are compared with is found again.

use std::collections::HashMap;

use crm_core::error::Result;
use crm_core::imports::{ImportPhase, ImportRow, RowOutcome};
use crm_core::query::{Filter, Find, MAX_LIMIT, WhereExt};
use crm_core::schema::{Row, Value};
use serde_json::Value as Json;
use uuid::Uuid;

use super::batch::{MATCH, Run};
use super::candidate::{Candidate, key_values};
use super::error::ImportError;
use super::importer::next_batch;
use super::order::Feed;
use super::plan::ParsedRow;
use super::seen::{Seen, fingerprint, unique_values};

impl Run<'_> {
    /// Passes over the rows that an earlier worker did, and notes their keys. Gives the rows of the
    /// last batch read that are still to be done.
    pub(super) async fn pass(
        &mut self,
        feed: &mut Feed<'_>,
        done: i64,
    ) -> Result<Vec<ParsedRow>, ImportError> {
        let done = usize::try_from(done).unwrap_or_default();
        let mut left = done;
        while left > 0 {
            let mut passed = next_batch(self.plan, feed)?;
            if passed.is_empty() {
                break;
            }
            let rest = passed.split_off(left.min(passed.len()));
            self.note_keys(&passed).await?;
            self.note_landed(&passed, done - left).await?;
            if !rest.is_empty() {
                return Ok(rest);
            }
            left -= passed.len();
        }
        Ok(Vec::new())
    }

    /// Notes the keys of rows that are done.
    pub(super) async fn note_keys(&mut self, rows: &[ParsedRow]) -> Result<()> {
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

    /// Notes what rows that are done took in unique keys, as far as they landed. `before` is how many
    /// rows were done before them.
    async fn note_landed(&mut self, rows: &[ParsedRow], before: usize) -> Result<()> {
        let object = &self.plan.object;
        let Some(job) = self.job.as_ref().map(|job| job.id) else {
            return Ok(());
        };
        if object.unique_keys().is_empty() {
            return Ok(());
        }
        self.look_up(rows).await?;
        let mut before = i64::try_from(before).unwrap_or(i64::MAX);
        for rows in rows.chunks(MAX_LIMIT) {
            let last = before.saturating_add(i64::try_from(rows.len()).unwrap_or(i64::MAX));
            let entries = ImportRow::JOB_ID
                .eq(job)
                .and(ImportRow::PHASE.eq(ImportPhase::Run))
                .and(ImportRow::SEQUENCE.gt(before))
                .and(ImportRow::SEQUENCE.le(last))
                .and(ImportRow::PLACE.eq(0_u32));
            before = last;
            let records = self.session.records::<ImportRow>();
            let entries = records.find(Find::from(entries).limit(MAX_LIMIT)).await?;
            let entries = entries.items.iter();
            let entries: HashMap<i64, &ImportRow> = entries
                .map(|entry| (entry.row_number, &entry.data))
                .collect();
            let updated = entries.values();
            let updated = updated.filter(|entry| entry.outcome == RowOutcome::Updated);
            let updated = updated.filter_map(|entry| entry.record_id.map(Value::Uuid));
            let updated = self.records(updated.collect()).await?;
            for row in rows {
                let number = i64::try_from(row.number).unwrap_or(i64::MAX);
                if let Some(entry) = entries.get(&number) {
                    let known = entry.record_id.and_then(|id| updated.get(&id));
                    self.note_unique(row, entry, known);
                }
            }
        }
        Ok(())
    }

    async fn records(&self, ids: Vec<Value>) -> Result<HashMap<Uuid, Row>> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let filter = Filter::In {
            field: "id".into(),
            values: ids,
        };
        let rows = self.find_all(Find::new().filter_by_name(filter)).await?;
        Ok(rows.into_iter().map(|row| (row.id(), row)).collect())
    }

    /// Notes what a row took in unique keys; `known` is the record that it changed.
    fn note_unique(&mut self, row: &ParsedRow, entry: &ImportRow, known: Option<&Row>) {
        let is_new = entry.outcome == RowOutcome::Created;
        if !is_new && known.is_none() {
            return;
        }
        let object = &self.plan.object;
        let mut candidate = Candidate::new(row);
        self.resolve(&mut candidate, &Seen::default(), true);
        let given = candidate.given(is_new);
        let former = entry.former.as_ref().and_then(Json::as_object);
        for key in object.unique_keys() {
            let names = object.names(&key.fields);
            let changed = names
                .iter()
                .any(|name| former.is_some_and(|former| former.contains_key(name)));
            if (is_new || changed)
                && let Some(values) = unique_values(object, key, known, &given)
            {
                self.seen
                    .take(fingerprint(&names.join(","), &values), row.number);
            }
        }
    }
}
