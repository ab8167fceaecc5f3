//! What the rows of a batch are about: the records that they refer to, those that have their keys,
//! and those that have what they want in unique keys. One query for all rows of the batch.

use std::collections::{BTreeSet, HashMap, HashSet};

use crm_core::error::Result;
use crm_core::imports::{ImportMode, RowFault};
use crm_core::query::{Filter, Find, MAX_LIMIT};
use crm_core::schema::{Row, Value};
use crm_core::storage::unique_value;
use uuid::Uuid;

use super::batch::Run;
use super::candidate::{Candidate, joined, key_values, row_fault};
use super::lookup::Named;
use super::plan::ParsedRow;
use super::seen::{Before, Seen, fingerprint, unique_values};

/// Into how many parts a question is divided whose answer is too long.
pub(super) const PARTS: usize = 4;

/// The values that some keys have in one field, each once.
fn distinct(keys: &[Vec<Value>], place: usize) -> Vec<Value> {
    let mut known = HashSet::new();
    let values = keys.iter().filter_map(|values| values.get(place));
    let new = values.filter(|value| known.insert(value.to_json().to_string()));
    new.cloned().collect()
}

impl Run<'_> {
    /// Finds what the references of all rows name, column by column.
    pub(super) async fn look_up(&mut self, rows: &[ParsedRow]) -> Result<()> {
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
    pub(super) fn resolve(&self, candidate: &mut Candidate<'_>, delta: &Seen, early: bool) {
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

    /// Finds the records that the keys of the rows name, in one query unless many others have parts of
    /// them.
    pub(super) async fn find_matches(&self, candidates: &mut [Candidate<'_>]) -> Result<()> {
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
        let mut by_key: HashMap<String, Vec<Row>> =
            wanted.iter().map(|key| (joined(key), Vec::new())).collect();
        let keys = &self.plan.keys;
        let names: Vec<String> = keys.iter().map(|key| key.path.clone()).collect();
        self.find_keys(&Find::new(), &names, wanted, |row| {
            let values: Option<Vec<Value>> = keys.iter().map(|key| key.value_of(&row)).collect();
            let known = values.and_then(|values| by_key.get_mut(&joined(&values)));
            // That there are several is all that is asked.
            if let Some(rows) = known.filter(|rows| rows.len() < 2) {
                rows.push(row);
            }
        })
        .await?;
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

    /// Hands over every record that has one of some keys in these fields, and others that have parts of
    /// several: archived ones too, a page at a time.
    ///
    /// A storage is asked for the values of each field, not for pairs of them. Of first and last names,
    /// say, that finds many that nobody asked for; where they are more than a page, the keys are divided
    /// until they are not, since a quarter of them finds a sixteenth.
    async fn find_keys(
        &self,
        find: &Find<()>,
        names: &[String],
        mut keys: Vec<Vec<Value>>,
        mut take: impl FnMut(Row) + Send,
    ) -> Result<()> {
        // Neighbours have first values in common.
        keys.sort_by_cached_key(|key| joined(key));
        keys.dedup();
        let records = self.session.object(self.plan.object.name()).await?;
        let mut open = vec![keys];
        while let Some(keys) = open.pop() {
            let filters = names.iter().enumerate().map(|(place, name)| Filter::In {
                field: name.clone().into(),
                values: distinct(&keys, place),
            });
            let filter = Filter::And(filters.collect());
            let find = find.clone().filter_by_name(filter).with_archived();
            let find = find.limit(MAX_LIMIT);
            let mut page = records.find(&find).await?;
            if page.next.is_some() && names.len() > 1 && keys.len() > 1 {
                let part = keys.len().div_ceil(PARTS);
                open.extend(keys.chunks(part).map(<[_]>::to_vec));
                continue;
            }
            loop {
                page.items.drain(..).for_each(&mut take);
                let Some(next) = page.next else { break };
                page = records.find(&find.clone().after(next)).await?;
            }
        }
        Ok(())
    }

    /// Every live record that a filter finds, archived ones too.
    pub(super) async fn find_all(&self, find: Find<()>) -> Result<Vec<Row>> {
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
    pub(super) async fn find_taken(
        &self,
        candidates: &[Candidate<'_>],
    ) -> Result<HashMap<u128, Uuid>> {
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
            let mut wanted = Vec::new();
            for candidate in candidates {
                let before = candidate.before.as_ref();
                let given = candidate.given(before.is_none());
                let Some(values) = unique_values(object, key, before, &given) else {
                    continue;
                };
                if before.and_then(|row| unique_value(key, &**row)).as_ref() == Some(&values) {
                    continue;
                }
                wanted.push(values);
            }
            if wanted.is_empty() {
                continue;
            }
            let mut find = Find::new();
            if !key.live {
                find = find.with_deleted();
            }
            let label = names.join(",");
            self.find_keys(&find, &names, wanted, |row| {
                if let Some(values) = unique_value(key, &*row) {
                    stored.insert(fingerprint(&label, &values), row.id());
                }
            })
            .await?;
        }
        Ok(stored)
    }
}
