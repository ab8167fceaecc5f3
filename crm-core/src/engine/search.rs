//! Text search over the records of an object.

use std::collections::HashMap;

use uuid::Uuid;

use super::Session;
use crate::error::Result;
use crate::query::TextSearch;
use crate::schema::{ObjectScope, Row};

/// How many records one search gives at most.
pub const MAX_FOUND: usize = 200;

/// How many records a storage names at most where of fewer ones too many were not found.
const MAX_NAMED: usize = 1_000;

/// What a text search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The records, the best first.
    pub records: Vec<FoundRecord>,
    /// The names of the custom fields that the search may not have looked into on all records: they
    /// became searchable when there were records, and the rows that they are found by are not made
    /// yet. A record that is missing may have been missed for one of them. Empty says that the search
    /// looked everywhere.
    pub incomplete: Vec<String>,
}

/// A record that a text was found in.
#[derive(Clone, Debug)]
pub struct FoundRecord {
    /// The record.
    pub row: Row,
    /// How well it fits, the more the better; comparable within one object.
    pub rank: u32,
}

impl Session {
    /// The live records of an object, archived ones too, in whose searchable fields every word of a
    /// text is found, or begins a word that is: at most `limit`, which is cut to [`MAX_FOUND`], the best
    /// first (C-036, C-135).
    ///
    /// Words are runs of letters and digits; case and accents do not count. Searchable custom fields of
    /// texts are looked into like the object's own (R-472), those out of use too, deleted ones not; of
    /// records of custom objects also the tags. The first searchable field weighs most. Of a text that
    /// very many records have, the best of some of them come. The first 256 characters and 16 words
    /// count.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let found = session.search("contact", "smi will", 20).await?;
    /// let names = found.records.iter().map(|found| found.row.get("last_name").into_owned());
    /// if !found.incomplete.is_empty() {
    ///     // Tell the user that older records may be missing.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`QueryError::UnknownObject`](crate::query::QueryError::UnknownObject).
    pub async fn search(&self, object: &str, text: &str, limit: usize) -> Result<Found> {
        let object = self.describe(object).await?;
        let limit = limit.min(MAX_FOUND);
        let fields = object.custom_fields().iter();
        let incomplete = fields
            .filter(|custom| custom.field.searchable && !custom.search_complete)
            .map(|custom| custom.field.name.to_string());
        let mut found = Found {
            records: Vec::new(),
            incomplete: incomplete.collect(),
        };
        let mut search = TextSearch::new(&object, text, MAX_FOUND);
        if limit == 0 || object.scope() != ObjectScope::Tenant || !search.finds_anything() {
            return Ok(found);
        }
        loop {
            let storage = self.engine().storage();
            let named = storage.search(self.scope(), &search).await?;
            found.records = self.ranked(&search, &named).await?;
            let is_all = named.len() < search.limit || search.limit == MAX_NAMED;
            if is_all || found.records.len() >= limit {
                break;
            }
            search.limit = MAX_NAMED;
        }
        found.records.truncate(limit);
        if !found.records.is_empty() && self.tells_reads(&object).await? {
            let read = found.records.iter();
            let read: Vec<_> = read
                .map(|found| (found.row.id(), found.row.version()))
                .collect();
            self.tell_reads(&object, &read).await?;
        }
        Ok(found)
    }

    /// Those of some records that a search finds, the best first.
    async fn ranked(&self, search: &TextSearch, ids: &[Uuid]) -> Result<Vec<FoundRecord>> {
        let storage = self.engine().storage();
        let rows = storage.get(self.scope(), search.object(), ids).await?;
        let rows: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id(), row)).collect();
        let found = rows.into_values().filter(|row| !row.is_deleted());
        let found = found.filter_map(|row| {
            let rank = search.rank(&*row)?;
            Some(FoundRecord { row, rank })
        });
        let mut found: Vec<FoundRecord> = found.collect();
        found.sort_unstable_by_key(|found| (std::cmp::Reverse(found.rank), found.row.id()));
        Ok(found)
    }
}
