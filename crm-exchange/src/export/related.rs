//! The records that the references of one page lead to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crm_core::Session;
use crm_core::query::{Filter, Find, MAX_LIMIT};
use crm_core::schema::{ObjectRef, Row, Value};
use uuid::Uuid;

use super::{Column, ExportError};

/// The records that the columns of one page look at, by object and id.
#[derive(Default)]
pub(super) struct Related {
    /// None for an id that leads nowhere.
    rows: HashMap<(String, Uuid), Option<Row>>,
}

impl Related {
    /// Reads them: one query for each object and each step of the way, however many columns and
    /// records there are (a page has fewer records than a filter may have values).
    pub(super) async fn load(
        session: &Session,
        columns: &[Column],
        page: &[Row],
    ) -> Result<Self, ExportError> {
        let mut related = Self::default();
        let depth = columns.iter().map(|column| column.hops.len()).max();
        for step in 0..depth.unwrap_or_default() {
            let mut wanted: BTreeMap<String, BTreeSet<Uuid>> = BTreeMap::new();
            for column in columns {
                let Some(hop) = column.hops.get(step) else {
                    continue;
                };
                let ids = wanted.entry(hop.target.name().to_owned()).or_default();
                for row in page {
                    let mut before = column.hops.iter().take(step);
                    let row = before.try_fold(row.clone(), |row, hop| {
                        related.row(&hop.target, hop.field.id(&*row)?)
                    });
                    let id = row.and_then(|row| hop.field.id(&*row));
                    ids.extend(id.filter(|id| !related.knows(&hop.target, *id)));
                }
            }
            for (object, ids) in wanted {
                related.read(session, &object, ids).await?;
            }
        }
        Ok(related)
    }

    async fn read(
        &mut self,
        session: &Session,
        object: &str,
        ids: BTreeSet<Uuid>,
    ) -> Result<(), ExportError> {
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let records = session.object(object).await?;
        for some in ids.chunks(MAX_LIMIT) {
            let filter = Filter::In {
                field: "id".into(),
                values: some.iter().copied().map(Value::Uuid).collect(),
            };
            let find = Find::new()
                .filter_by_name(filter)
                .with_archived()
                .limit(MAX_LIMIT);
            for id in some {
                self.rows.insert((object.to_owned(), *id), None);
            }
            for row in records.find(&find).await?.items {
                self.rows.insert((object.to_owned(), row.id()), Some(row));
            }
        }
        Ok(())
    }

    fn knows(&self, object: &ObjectRef, id: Uuid) -> bool {
        self.rows.contains_key(&(object.name().to_owned(), id))
    }

    /// The record, unless there is none or it is deleted.
    pub(super) fn row(&self, object: &ObjectRef, id: Uuid) -> Option<Row> {
        self.rows
            .get(&(object.name().to_owned(), id))
            .cloned()
            .flatten()
    }
}
