//! [`StandingHolds`]: which legal holds keep a record.

use std::fmt;

use uuid::Uuid;

use super::LegalHold;
use super::plan::{Holds, bind_hold};
use crate::engine::UnitOfWork;
use crate::error::Result;
use crate::query::{Condition, NoRelated};
use crate::schema::Row;
use crate::{EntityRef, Id};

/// The legal holds that are active, for those parts of the engine that take data away.
#[doc(hidden)]
pub struct StandingHolds {
    holds: Holds,
    standing: Vec<Standing>,
}

struct Standing {
    id: Id<LegalHold>,
    object: String,
    record: Option<Uuid>,
    held: Condition,
}

/// Without what they ask for, which may be personal.
impl fmt::Debug for StandingHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandingHolds")
            .field("count", &self.standing.len())
            .finish_non_exhaustive()
    }
}

impl StandingHolds {
    /// Those that are active.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn load(work: &UnitOfWork) -> Result<Self> {
        // One that is set between the two reads is among those that stand, so nothing is missed.
        let holds = Holds::load(work).await?;
        let registry = &*work.registry().await?;
        let active = LegalHold::IS_ACTIVE.eq(true);
        let standing = work.find_all(active, Vec::new()).await?;
        let standing = standing.iter().map(|hold| Standing {
            id: hold.id,
            object: hold.object.clone(),
            record: hold.record_id,
            // One whose criteria no longer fit the schema holds all records of the object.
            held: bind_hold(hold, registry).unwrap_or_else(|_| Condition::all()),
        });
        Ok(Self {
            standing: standing.collect(),
            holds,
        })
    }

    /// Lets the commit be a conflict where another hold is set until then.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn rely_on(&self, work: &mut UnitOfWork) -> Result<()> {
        self.holds.rely_on(work).await
    }

    /// Whether records of an object may be held.
    #[must_use]
    pub fn concern(&self, object: &str) -> bool {
        self.standing.iter().any(|hold| hold.object == object)
    }

    /// The holds that keep a record.
    pub fn of_row<'h>(&'h self, row: &'h Row) -> impl Iterator<Item = Id<LegalHold>> + 'h {
        let of_object = |hold: &&Standing| hold.object == row.object().name();
        let held = self.standing.iter().filter(of_object);
        held.filter(|hold| hold.held.matches(&**row, &NoRelated))
            .map(|hold| hold.id)
    }

    /// The holds that name a record, which may be no more.
    pub fn of_record<'h>(
        &'h self,
        record: &'h EntityRef,
    ) -> impl Iterator<Item = Id<LegalHold>> + 'h {
        let named =
            |hold: &&Standing| hold.record == Some(record.id) && hold.object == record.object;
        self.standing.iter().filter(named).map(|hold| hold.id)
    }
}
