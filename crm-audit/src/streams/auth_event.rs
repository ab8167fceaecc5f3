//! [`AuthEvent`]: somebody tried to sign in, or something changed about how somebody does.

use chrono::{DateTime, Utc};
use crm_core::schema::{Entity, Picklist};
use uuid::Uuid;

/// Somebody tried to sign in, or something changed about how somebody does (C-059).
///
/// When it was recorded is told by `created`; that may be later than it happened.
#[allow(
    clippy::duplicated_attributes,
    reason = "all indexes end with the moment"
)]
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "auth_event",
    table = "auth_events",
    log,
    fed,
    monthly,
    index(user_id, occurred_at),
    index(ip, occurred_at),
    index(login, occurred_at),
    index(outcome, occurred_at),
    index(occurred_at)
)]
pub struct AuthEvent {
    /// What it was about.
    #[field(required)]
    pub kind: AuthKind,
    /// How it went.
    #[field(required)]
    pub outcome: AuthOutcome,
    /// When it happened.
    #[field(required)]
    pub occurred_at: DateTime<Utc>,
    /// The user, where the name that was tried is one's.
    pub user_id: Option<Uuid>,
    /// The e-mail address or name that was tried, in lower case. Kept as given, since nobody may have
    /// it.
    #[field(max_len = 320, personal)]
    pub login: Option<String>,
    /// The address of the caller.
    #[field(max_len = 45, personal)]
    pub ip: Option<String>,
    /// What the caller's program says it is.
    #[field(max_len = 1000, personal)]
    pub user_agent: Option<String>,
    /// The session at the host that it began, ended or belongs to.
    #[field(max_len = 255, personal)]
    pub session_id: Option<String>,
    /// How it was tried, such as `password`, `passkey` or `sso`.
    #[field(max_len = 50)]
    pub method: Option<String>,
    /// Why it went so, such as `wrong_password`; never what was typed.
    #[field(max_len = 100)]
    pub reason: Option<String>,
}

/// What an auth event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum AuthKind {
    /// Signing in.
    Login,
    /// Signing out.
    Logout,
    /// The second factor of signing in.
    SecondFactor,
    /// A second factor was set up or taken away.
    SecondFactorChange,
    /// The password was changed.
    PasswordChange,
    /// The password was forgotten and replaced.
    PasswordReset,
    /// A session ended because its time was over or somebody ended it.
    SessionEnd,
    /// A key or token was given out.
    TokenIssue,
    /// A key or token was taken back.
    TokenRevoke,
    /// The user was locked out.
    Lock,
    /// The user was let in again.
    Unlock,
}

/// How an auth event went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum AuthOutcome {
    /// It was done.
    Success,
    /// It was tried and failed.
    Failure,
    /// It was not even tried, as the user or the address was locked out.
    Blocked,
}
