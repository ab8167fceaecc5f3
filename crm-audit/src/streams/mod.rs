//! The streams beside the trail: who tried to sign in (C-059), and which calls the host's API got
//! (C-060). The host records both, one by one or many at once.

mod api_call;
mod auth_event;
mod calls;
mod histogram;
mod lockout;
mod security;

use chrono::{DateTime, TimeDelta, Utc};
use crm_core::Session;
use crm_core::error::{Faults, Result, codes};
use crm_core::query::{Where, WhereExt as _};
use crm_core::schema::{Entity, FieldOf};

pub use api_call::{ApiCall, CallOutcome};
pub use auth_event::{AuthEvent, AuthKind, AuthOutcome};
pub use calls::{ApiCalls, EndpointFigures};
pub use histogram::{PERCENTILE_ERROR, bucket_of, percentile, value_of};
pub use lockout::{Attempt, Lockout, LockoutPolicy, lockout};
pub use security::{FailedLogins, LoginKey, LoginSource, Security};

/// How many entries are written in one commit.
const AT_ONCE: usize = 500;

/// Gives sessions their streams.
pub trait StreamsExt {
    /// Who tried to sign in.
    fn security(&self) -> Security<'_>;

    /// The calls of the host's API.
    fn api_calls(&self) -> ApiCalls<'_>;
}

impl StreamsExt for Session {
    fn security(&self) -> Security<'_> {
        Security { session: self }
    }

    fn api_calls(&self) -> ApiCalls<'_> {
        ApiCalls { session: self }
    }
}

/// From one moment until another, the first included and the second not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// From when on.
    pub from: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
}

impl Window {
    /// From one moment until another.
    #[must_use]
    pub const fn new(from: DateTime<Utc>, until: DateTime<Utc>) -> Self {
        Self { from, until }
    }

    /// The entries whose moment is in the window.
    fn filter<E: Entity>(
        self,
        at: FieldOf<E, DateTime<Utc>>,
        recorded: FieldOf<E, DateTime<Utc>>,
    ) -> Where<E> {
        let within = at.ge(self.from).and(at.lt(self.until));
        within.and(recorded_since(self.from, recorded))
    }
}

/// How far ahead of the engine's clock what happened may be: hosts have clocks of their own.
const AHEAD: TimeDelta = TimeDelta::days(1);

/// What holds of every entry that happened at a moment or later: nothing is recorded more than a day
/// before it happens. It spares a look into the months before.
fn recorded_since<E: Entity>(
    moment: DateTime<Utc>,
    recorded: FieldOf<E, DateTime<Utc>>,
) -> Where<E> {
    recorded.ge(moment.checked_sub_signed(AHEAD).unwrap_or(moment))
}

/// Refuses entries of what has yet to happen.
fn check_moments(
    session: &Session,
    moments: impl IntoIterator<Item = DateTime<Utc>>,
) -> Result<()> {
    let now = session.engine().clock().now();
    let latest = now.checked_add_signed(AHEAD).unwrap_or(now);
    if moments.into_iter().all(|at| at <= latest) {
        return Ok(());
    }
    let mut faults = Faults::default();
    let message = "must not be more than a day ahead of the clock";
    faults.add("occurred_at", codes::OUT_OF_RANGE, message);
    Ok(faults.into_result()?)
}

/// Writes entries of a log, some hundred in one commit.
async fn record_all<E: Entity>(session: &Session, entries: Vec<E>) -> Result<()> {
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut work = session.begin();
        for entry in entries.by_ref().take(AT_ONCE) {
            work.append_entry(entry)?;
        }
        work.commit().await?;
    }
    Ok(())
}

/// What a request says of itself must never stop a recording: too long texts are cut, what cannot be
/// stored is left out.
fn shortened(text: Option<String>, max: usize) -> Option<String> {
    crate::recorder::shortened(text.as_deref(), max)
}
