//! [`RequestContext`]: from where something was done.

use std::fmt;
use std::net::IpAddr;

use uuid::Uuid;

/// From where something was done: what the audit trail keeps of the request behind a change.
///
/// ```
/// use crm_core::engine::RequestContext;
///
/// let context = RequestContext {
///     ip: Some([203, 0, 113, 7].into()),
///     endpoint: Some("PATCH /deals/17".into()),
///     ..RequestContext::default()
/// };
/// assert!(context.session_id.is_none());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The user's session at the host, at most 255 characters.
    pub session_id: Option<String>,
    /// The address of the caller.
    pub ip: Option<IpAddr>,
    /// What the caller's program says it is, at most 1,000 characters.
    pub user_agent: Option<String>,
    /// The host's endpoint, at most 500 characters.
    pub endpoint: Option<String>,
    /// The host's id of the request.
    pub request_id: Option<Uuid>,
}

impl fmt::Debug for RequestContext {
    /// Session, address and user agent lead to a person: they are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("endpoint", &self.endpoint)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}
