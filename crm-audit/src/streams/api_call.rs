//! [`ApiCall`]: one call of the host's API.

use chrono::{DateTime, Utc};
use crm_core::error::{Faults, codes};
use crm_core::schema::Entity;
use uuid::Uuid;

use super::histogram::bucket_of;

/// One call of the host's API (C-060).
///
/// ```
/// use crm_audit::{ApiCall, CallOutcome};
///
/// let call = ApiCall::done("GET", "/deals/{id}", 200, std::time::Duration::from_millis(12), at());
/// assert_eq!(call.outcome(), CallOutcome::Success);
/// # fn at() -> chrono::DateTime<chrono::Utc> { chrono::DateTime::UNIX_EPOCH }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "api_call",
    table = "api_calls",
    log,
    fed,
    monthly,
    index(endpoint, occurred_at),
    index(user_id, occurred_at),
    index(client, occurred_at),
    index(occurred_at),
    check = check_call
)]
pub struct ApiCall {
    /// The method, such as `GET`.
    #[field(required, max_len = 20)]
    pub method: String,
    /// The endpoint as a template, such as `/deals/{id}`: without ids, so that its calls are figures
    /// of one endpoint, and tell of no person.
    #[field(required, max_len = 300)]
    pub endpoint: String,
    /// The status of the answer as HTTP counts them.
    #[field(required, min = 100, max = 599)]
    pub status: i32,
    /// How long it took, in microseconds.
    #[field(required, min = 0)]
    pub duration: i64,
    /// The class of durations that it falls into; see [`bucket_of`].
    #[field(read_only, min = 0)]
    pub duration_class: i64,
    /// When it came.
    #[field(required)]
    pub occurred_at: DateTime<Utc>,
    /// The user.
    pub user_id: Option<Uuid>,
    /// The program that called, such as the name of its key.
    #[field(max_len = 150)]
    pub client: Option<String>,
    /// The host's id of the request, which audit events have too.
    pub request_id: Option<Uuid>,
    /// The address of the caller.
    #[field(max_len = 45, personal)]
    pub ip: Option<String>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// It was answered.
    Success,
    /// The caller was at fault: a status from 400 to 499.
    ClientError,
    /// The host was at fault: a status of 500 or more.
    ServerError,
}

impl CallOutcome {
    /// The outcome of a status.
    #[must_use]
    pub const fn of(status: i32) -> Self {
        match status {
            500.. => Self::ServerError,
            400..=499 => Self::ClientError,
            _ => Self::Success,
        }
    }
}

impl ApiCall {
    /// A call that came at a moment and took so long.
    #[must_use]
    pub fn done(
        method: impl Into<String>,
        endpoint: impl Into<String>,
        status: i32,
        took: std::time::Duration,
        occurred_at: DateTime<Utc>,
    ) -> Self {
        let duration = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        Self {
            duration_class: bucket_of(duration),
            ..Self::new(method, endpoint, status, duration, occurred_at)
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(&self) -> CallOutcome {
        CallOutcome::of(self.status)
    }

    /// The entry as it is stored.
    pub(super) fn prepared(mut self) -> Self {
        self.method.make_ascii_uppercase();
        self.duration_class = bucket_of(self.duration);
        self
    }
}

fn check_call(call: &ApiCall, faults: &mut Faults) {
    if call.duration_class != bucket_of(call.duration) {
        let field = ApiCall::DURATION_CLASS.name();
        faults.add(
            field,
            codes::INCONSISTENT,
            "must be the class of the duration",
        );
    }
}
