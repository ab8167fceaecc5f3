//! The roll-ups of a whole tenant, for rows that were written past the engine.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{ActivityRollUp, Contribution, entry, keeps, values};
use crate::EntityRef;
use crate::activities::entity::RELATED;
use crate::activities::{Activity, ActivityLinks};
use crate::engine::workspace::Settle;
use crate::engine::{Progress, Records, in_work};
use crate::error::{Error, Result};
use crate::query::{Condition, Filter, Query, SortKey};
use crate::record::Record;
use crate::schema::{Entity, ObjectRef, Value};

/// How many activities are read at once, and for how many records one commit is made.
const BATCH: usize = 500;

/// What a rebuilding of roll-ups did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollUpsRebuilt {
    /// How many records have activities.
    pub records: u64,
    /// Of how many of them the engine did not know, or knew something wrong.
    pub mended: u64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// What became of the roll-ups of some records.
struct Kept {
    written: u64,
    /// Those that say something else.
    wrong: Vec<EntityRef>,
}

impl Settle for Kept {}

impl Records<'_, Activity> {
    /// Works out anew what the engine keeps of the activities of every record, after rows were
    /// written past it, as by the import of a tenant. A record that was never known to have
    /// activities keeps its own fields as they are; one of which something wrong was known is mended
    /// as by [`recompute`](Self::recompute).
    ///
    /// Activities are read once for each kind of record that they are linked to, in the order of the
    /// links, in bounded memory. Others may write meanwhile, and it may be run again at any time:
    /// what is right stays as it is.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// # async fn example(session: &Session) -> Result<()> {
    /// let rebuilt = session.activities().rebuild_roll_ups(&()).await?;
    /// println!("{} of {} records were mended", rebuilt.mended, rebuilt.records);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn rebuild_roll_ups(&mut self, progress: &dyn Progress) -> Result<RollUpsRebuilt> {
        let mut rebuilt = RollUpsRebuilt::default();
        let [_, related] = RELATED;
        let own = ActivityLinks::objects().zip(ActivityLinks::FIELDS);
        let own = own.map(|(object, field)| (Some(object), *field));
        for (object, field) in own.chain([(None, related)]) {
            let mut whole = Vec::new();
            let mut open: Option<(EntityRef, Contribution)> = None;
            let mut after = None;
            loop {
                let (said, next) = self.said(object, field, after).await?;
                for (record, says) in said {
                    open = Some(match open {
                        Some((known, so_far)) if known == record => (record, so_far.and(says)),
                        before => {
                            whole.extend(before);
                            (record, says)
                        }
                    });
                }
                if next.is_none() {
                    whole.extend(open.take());
                }
                while whole.len() >= BATCH || (next.is_none() && !whole.is_empty()) {
                    let some = whole.drain(..whole.len().min(BATCH)).collect();
                    self.keep(some, &mut rebuilt).await?;
                    if progress.report(rebuilt.records, None).is_break() {
                        rebuilt.stopped = true;
                        return Ok(rebuilt);
                    }
                }
                after = next;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(rebuilt)
    }

    /// A page of activities in the order of a link, each with the linked record that knows of its
    /// activities and what it says; and where the next page begins. Without an object, that of the
    /// record stands beside the link.
    async fn said(
        &self,
        object: Option<&ObjectRef>,
        field: &'static str,
        after: Option<Vec<Value>>,
    ) -> Result<(Vec<(EntityRef, Contribution)>, Option<Vec<Value>>)> {
        let schema = Activity::schema();
        let registry = &*self.workspace.registry().await?;
        let linked = Filter::Null {
            field: field.into(),
            is_null: false,
        };
        let condition = Condition::not_deleted().and(Condition::bind(&linked, schema, registry)?);
        let sort = schema.field_index(field).map(|index| SortKey {
            index,
            descending: false,
        });
        let mut query = Query::new(schema, condition)
            .sort(sort.into_iter().collect())
            .limit(BATCH);
        query.after = after;
        let rows = self.workspace.select(&query).await?;
        let next = rows.last().filter(|_| rows.len() == BATCH).map(|row| {
            let keys = query.sort.iter();
            keys.map(|key| row.value(key.index).into_owned()).collect()
        });
        let says = rows.into_iter().filter_map(|row| {
            let id = row.get(field).as_uuid()?;
            let activity = Record::<Activity>::from_row(row)?;
            let record = match object {
                Some(object) => EntityRef::new(object.name(), id),
                None => activity.links.related()?,
            };
            let is_kept = registry
                .any_object(&record.object)
                .is_some_and(|it| keeps(&it));
            is_kept.then(|| (record, Contribution::of(&activity)))
        });
        Ok((says.collect(), next))
    }

    /// Sees to it that the roll-ups of some records say this.
    async fn keep(
        &mut self,
        known: Vec<(EntityRef, Contribution)>,
        rebuilt: &mut RollUpsRebuilt,
    ) -> Result<()> {
        rebuilt.records += known.len() as u64;
        let ids: Vec<Uuid> = known.iter().map(|(record, _)| record.id).collect();
        let known = known.into_iter();
        let known: BTreeMap<Uuid, (EntityRef, Contribution)> = known
            .map(|(record, says)| (record.id, (record, says)))
            .collect();
        // A roll-up that is there follows its activities, and what was read may be older: it is
        // worked out on its own. One that is not there yet comes with the first commit that changes
        // an activity, which then is in the way of this one.
        let outcome: Result<Kept> = in_work!(self.workspace, |work| {
            let rows = work.rows(ActivityRollUp::schema(), &ids).await?;
            let mut missing = known.clone();
            let mut wrong = Vec::new();
            for row in rows {
                let id = row.id();
                let stored = Record::<ActivityRollUp>::from_row(row);
                let stored = stored.map(|record| values(&record));
                if let Some((record, says)) = missing.remove(&id)
                    && Some(says) != stored
                {
                    wrong.push(record);
                }
            }
            let written = missing.len() as u64;
            for (id, (record, says)) in missing {
                work.contend("activity_roll_up", &["id"]);
                work.keep_derived(id, None, entry(&record.object, says));
            }
            Ok(Kept { written, wrong })
        });
        let Kept { written, wrong } = outcome?;
        rebuilt.mended += written;
        for record in wrong {
            match self.recompute(record).await {
                Ok(was_wrong) => rebuilt.mended += u64::from(was_wrong),
                // A deleted record is seen to when it is restored.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
