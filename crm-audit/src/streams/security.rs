//! [`Security`]: who tried to sign in, and failed (C-059).

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_core::engine::RequestContext;
use crm_core::error::Result;
use crm_core::identity::User;
use crm_core::query::{Aggregate, Cursor, Find, Group, MAX_LIMIT, Page, Where, WhereExt as _};
use crm_core::schema::Value;
use crm_core::{Id, Record, Session};
use serde::Serialize;
use uuid::Uuid;

use crate::pages;

use super::lockout::{Attempt, Lockout, LockoutPolicy, lockout};
use super::{AuthEvent, AuthKind, AuthOutcome, Window, record_all, shortened};

/// How many failures are read at once to learn whether somebody is locked out.
const ATTEMPTS: usize = MAX_LIMIT;

/// The auth events of a tenant.
///
/// ```
/// # use crm_core::{Session, Result, identity::User, Id};
/// use crm_audit::{AuthEvent, AuthKind, AuthOutcome, Lockout, LockoutPolicy, LoginKey, StreamsExt};
/// # async fn example(session: &Session, at: chrono::DateTime<chrono::Utc>) -> Result<()> {
/// let failed = AuthEvent {
///     login: Some("Ada@Example.com".into()),
///     ip: Some("203.0.113.7".into()),
///     reason: Some("wrong_password".into()),
///     ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, at)
/// };
/// session.security().record(failed).await?;
/// let key = LoginKey::Login("ada@example.com".into());
/// let answer = session.security().lockout(key, &LockoutPolicy::default()).await?;
/// assert!(matches!(answer, Lockout::Open { left: Some(4) }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Security<'a> {
    pub(super) session: &'a Session,
}

/// Who failed, or from where.
#[derive(Clone, PartialEq, Eq)]
pub enum LoginKey {
    /// A user.
    User(Id<User>),
    /// An e-mail address or name that was tried, whether a user has it or not; case does not count.
    Login(String),
    /// A network address.
    Address(IpAddr),
}

impl std::fmt::Debug for LoginKey {
    /// Names and addresses lead to a person: they are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(id) => f.debug_tuple("User").field(id).finish(),
            Self::Login(_) => f.write_str("Login(..)"),
            Self::Address(_) => f.write_str("Address(..)"),
        }
    }
}

impl LoginKey {
    fn filter(&self) -> Where<AuthEvent> {
        match self {
            Self::User(id) => AuthEvent::USER_ID.eq(id.uuid()),
            Self::Login(login) => AuthEvent::LOGIN.eq(folded(login)),
            Self::Address(ip) => AuthEvent::IP.eq(ip.to_canonical().to_string()),
        }
    }
}

/// By what failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginSource {
    /// By the user.
    User,
    /// By the e-mail address or name that was tried.
    Login,
    /// By the network address.
    Address,
}

/// The failures of one user, name or address.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FailedLogins {
    /// The user, where that is what was counted by.
    pub user: Option<Uuid>,
    /// The name or network address, where that is what was counted by.
    pub source: Option<String>,
    /// How many failures.
    pub failures: u64,
    /// The first of them.
    pub first: DateTime<Utc>,
    /// The last of them.
    pub last: DateTime<Utc>,
}

impl std::fmt::Debug for FailedLogins {
    /// Names and addresses lead to a person: they are left out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailedLogins")
            .field("user", &self.user)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

fn folded(login: &str) -> String {
    login.trim().to_lowercase()
}

/// The entry as it is stored: what it leaves out is taken from the request.
fn prepared(mut event: AuthEvent, context: Option<&RequestContext>) -> AuthEvent {
    if let Some(context) = context {
        event.ip = event.ip.or_else(|| context.ip.map(|ip| ip.to_string()));
        event.user_agent = event.user_agent.or_else(|| context.user_agent.clone());
        event.session_id = event.session_id.or_else(|| context.session_id.clone());
    }
    // One form of each address, by which it is found again.
    let canonical = event
        .ip
        .as_deref()
        .and_then(|ip| ip.trim().parse::<IpAddr>().ok());
    event.ip = canonical.map(|ip| ip.to_canonical().to_string());
    event.login = shortened(event.login.as_deref().map(folded), 320);
    event.user_agent = shortened(event.user_agent, 1_000);
    event.session_id = shortened(event.session_id, 255);
    event.reason = shortened(event.reason, 100);
    event.method = shortened(event.method, 50);
    event
}

impl Security<'_> {
    /// Records an event. What it leaves out of address, program and session is taken from the
    /// session's [context](Session::with_context); an address that is none is left out.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn record(&self, event: AuthEvent) -> Result<()> {
        self.record_all(vec![event]).await
    }

    /// Records many events, some hundred in one commit. Those before an error stay.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn record_all(&self, events: Vec<AuthEvent>) -> Result<()> {
        let context = self.session.context();
        let prepared = events.into_iter().map(|event| prepared(event, context));
        record_all(self.session, prepared.collect()).await
    }

    /// Failed attempts to sign in within a window, counted by user, name or address: at most `most`,
    /// those with the most failures first (C-059). Attempts of nobody known have no user, and count
    /// by no user.
    ///
    /// The storage counts; one row comes for each user, name or address that failed.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn failed_logins(
        &self,
        by: LoginSource,
        window: Window,
        most: usize,
    ) -> Result<Vec<FailedLogins>> {
        let failures = failures().and(window.filter(AuthEvent::OCCURRED_AT));
        let counted = Aggregate::<AuthEvent>::new();
        let counted = match by {
            LoginSource::User => counted
                .filter(failures.and(AuthEvent::USER_ID.is_not_null()))
                .group_by(AuthEvent::USER_ID),
            LoginSource::Login => counted
                .filter(failures.and(AuthEvent::LOGIN.is_not_null()))
                .group_by(AuthEvent::LOGIN),
            LoginSource::Address => counted
                .filter(failures.and(AuthEvent::IP.is_not_null()))
                .group_by(AuthEvent::IP),
        };
        let counted = counted
            .count()
            .min(AuthEvent::OCCURRED_AT)
            .max(AuthEvent::OCCURRED_AT);
        let groups = self
            .session
            .records::<AuthEvent>()
            .aggregate(counted)
            .await?;
        let mut found: Vec<FailedLogins> = groups.iter().filter_map(failed).collect();
        // Groups come in the order of their keys, which breaks ties.
        found.sort_by_key(|one| std::cmp::Reverse(one.failures));
        found.truncate(most);
        Ok(found)
    }

    /// How many attempts of one user, name or address failed within a window.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn count_failed(&self, key: &LoginKey, window: Window) -> Result<u64> {
        let failures = failures().and(window.filter(AuthEvent::OCCURRED_AT));
        self.session
            .records::<AuthEvent>()
            .count(key.filter().and(failures))
            .await
    }

    /// One page of the events of one user, name or address, or of all, the newest first. The first page
    /// fixes which events are there, so a page that was read stays as it is, also where events of the
    /// past are recorded meanwhile; see [`AuditTrail::front`](crate::AuditTrail::front).
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn events(
        &self,
        key: Option<&LoginKey>,
        window: Window,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<AuthEvent>>>> {
        let within = window.filter(AuthEvent::OCCURRED_AT);
        let filter = match key {
            Some(key) => key.filter().and(within),
            None => within,
        };
        let find = Find::from(filter)
            .sort(AuthEvent::OCCURRED_AT.desc())
            .limit(limit);
        pages::entries(self.session, find, after).await
    }

    /// Whether a user, name or address is locked out now; see [`lockout`].
    ///
    /// Failures of signing in and of its second factor count alike. Signing in clears the failures of
    /// signing in before it, and none of a second factor: who knows a password may not guess the
    /// second factor without end. The right second factor, [`AuthKind::Unlock`] and
    /// [`AuthKind::PasswordReset`] clear both. What clears the failures of one user or name leaves
    /// those of others as they are, so that a network address cannot try the passwords of many behind
    /// one that is right; an `Unlock` with a network address that names nobody clears all from there.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn lockout(&self, key: LoginKey, policy: &LockoutPolicy) -> Result<Lockout> {
        let now = self.session.engine().clock().now();
        if policy.failures == 0 {
            return Ok(lockout(&[], policy, now));
        }
        let reach = policy.within.checked_add(&policy.lasting);
        let from = reach.and_then(|reach| now.checked_sub_signed(reach));
        let from = from.unwrap_or(DateTime::UNIX_EPOCH);
        let within = || {
            let at = AuthEvent::OCCURRED_AT;
            key.filter().and(at.ge(from)).and(at.le(now))
        };
        let clearings = self.clearings(within()).await?;
        let counts = |event: &AuthEvent| !clearings.iter().any(|one| one.clears(event));
        let mut attempts = Vec::new();
        let mut after = None;
        loop {
            // The newest first: what is read decides as soon as it locks out.
            let mut find = Find::from(within().and(failures()))
                .sort(AuthEvent::OCCURRED_AT.desc())
                .limit(ATTEMPTS);
            if let Some(after) = after {
                find = find.after(after);
            }
            let page = self.session.records::<AuthEvent>().find(find).await?;
            let failed = page.items.iter().filter(|event| counts(event));
            attempts.extend(failed.map(|event| Attempt::Failed(event.occurred_at)));
            let answer = lockout(&attempts, policy, now);
            match page.next {
                Some(next) if matches!(answer, Lockout::Open { .. }) => after = Some(next),
                _ => return Ok(answer),
            }
        }
    }

    /// What cleared failures last, for each user and name, among the events of a filter.
    async fn clearings(&self, filter: Where<AuthEvent>) -> Result<Vec<Clearing>> {
        let clearing = AuthEvent::KIND.one_of([
            AuthKind::Login,
            AuthKind::SecondFactor,
            AuthKind::Unlock,
            AuthKind::PasswordReset,
        ]);
        let done = AuthEvent::OUTCOME.eq(AuthOutcome::Success).and(clearing);
        let last = Aggregate::<AuthEvent>::new()
            .filter(filter.and(done))
            .group_by(AuthEvent::KIND)
            .group_by(AuthEvent::USER_ID)
            .group_by(AuthEvent::LOGIN)
            .max(AuthEvent::OCCURRED_AT);
        let groups = self.session.records::<AuthEvent>().aggregate(last).await?;
        Ok(groups.iter().filter_map(Clearing::of).collect())
    }
}

/// Somebody signed in, or was let in again: failures before it no longer count.
struct Clearing {
    at: DateTime<Utc>,
    kind: String,
    user: Option<Uuid>,
    login: Option<String>,
}

impl Clearing {
    fn of(group: &Group) -> Option<Self> {
        let Some(Value::Timestamp(at)) = group.measures.first() else {
            return None;
        };
        Some(Self {
            at: *at,
            kind: group.key(0).as_text()?.to_owned(),
            user: group.key(1).as_uuid(),
            login: group.key(2).as_text().map(str::to_owned),
        })
    }

    /// Whether it clears a failure: of the same user or name, or where neither says whose it is.
    fn clears(&self, failure: &AuthEvent) -> bool {
        let is = |kind: AuthKind| self.kind == kind.to_string();
        let names_nobody = self.user.is_none() && self.login.is_none();
        let is_same_user = self.user.is_some() && self.user == failure.user_id;
        let is_same_login = self.login.is_some() && self.login == failure.login;
        let is_of_nobody = failure.user_id.is_none() && failure.login.is_none();
        let is_meant =
            is_same_user || is_same_login || names_nobody && (is_of_nobody || is(AuthKind::Unlock));
        let is_reached = !is(AuthKind::Login) || failure.kind == AuthKind::Login;
        failure.occurred_at <= self.at && is_meant && is_reached
    }
}

fn failures() -> Where<AuthEvent> {
    AuthEvent::OUTCOME
        .eq(AuthOutcome::Failure)
        .and(AuthEvent::KIND.one_of([AuthKind::Login, AuthKind::SecondFactor]))
}

fn failed(group: &Group) -> Option<FailedLogins> {
    let at = |place: usize| match group.measures.get(place) {
        Some(Value::Timestamp(at)) => Some(*at),
        _ => None,
    };
    Some(FailedLogins {
        user: group.key(0).as_uuid(),
        source: group.key(0).as_text().map(str::to_owned),
        failures: group.count(0),
        first: at(1)?,
        last: at(2)?,
    })
}
