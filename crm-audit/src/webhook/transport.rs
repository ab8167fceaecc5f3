//! [`Transport`]: how a host sends what the sender made.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;

/// How a host resolves names and sends requests, with the HTTP client that it has anyway.
///
/// ```
/// use std::net::IpAddr;
/// use crm_audit::webhook::{Transport, TransportError, WebhookRequest, WebhookResponse};
///
/// #[derive(Debug)]
/// struct Client; // such as a `reqwest::Client`
///
/// #[async_trait::async_trait]
/// impl Transport for Client {
///     async fn resolve(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, TransportError> {
///         // tokio::net::lookup_host((host, port)).await, say
/// #       let _ = (host, port);
///         Ok(vec![[93, 184, 215, 14].into()])
///     }
///
///     async fn post(&self, request: &WebhookRequest) -> Result<WebhookResponse, TransportError> {
///         // With reqwest: a client made with `resolve(&request.host, request.address)`, no proxy,
///         // `redirect::Policy::none()` and a timeout; then `post(&request.url)` with the headers
///         // and the body.
/// #       assert!(request.headers.iter().any(|(name, _)| *name == "webhook-signature"));
///         Ok(WebhookResponse::new(204))
///     }
/// }
/// # use crm_core::{Session, Result};
/// # use crm_audit::webhook::WebhookExt;
///
/// # async fn example(session: &Session) -> Result<()> {
/// // A worker of the host does this again and again.
/// let report = session.webhooks().deliver_due(&Client, 100).await?;
/// println!("{} delivered, {} to try again", report.delivered, report.failed);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Transport: Send + Sync {
    /// The addresses of a host. They are checked, and one of them is in the request.
    ///
    /// # Errors
    /// A name that is not known, or cannot be asked for.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<IpAddr>, TransportError>;

    /// Sends a request and waits for the answer.
    ///
    /// It must connect to [`address`](WebhookRequest::address) and nothing else, with TLS for
    /// [`host`](WebhookRequest::host), follow no redirect, use no proxy that resolves names by
    /// itself, and give up after some seconds: a lease of ten minutes is shared by up to sixteen
    /// requests.
    ///
    /// # Errors
    /// No answer came.
    async fn post(&self, request: &WebhookRequest) -> Result<WebhookResponse, TransportError>;
}

/// A request, signed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookRequest {
    /// Where to: scheme, host, port, path and query.
    pub url: String,
    /// The host, for the certificate and the header `host`.
    pub host: String,
    /// The address to connect to, which was checked.
    pub address: SocketAddr,
    /// The headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body: JSON.
    pub body: Vec<u8>,
}

impl WebhookRequest {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(own, _)| *own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The body may hold personal values, and an address a token of the receiver: neither is shown.
impl fmt::Debug for WebhookRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookRequest")
            .field("host", &self.host)
            .field("address", &self.address)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What a receiver answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookResponse {
    /// The status: 200 to 299 for "received".
    pub status: u16,
    /// When it wants the next attempt at the earliest (`retry-after`).
    pub retry_after: Option<Duration>,
}

impl WebhookResponse {
    /// An answer with this status.
    #[must_use]
    pub const fn new(status: u16) -> Self {
        Self {
            status,
            retry_after: None,
        }
    }

    /// The same answer with a wish for the next attempt.
    #[must_use]
    pub const fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }
}

/// Why no answer came, as a code: it is kept, and must not tell of a person or a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request could not be sent: {code}")]
#[non_exhaustive]
pub struct TransportError {
    /// Small letters, digits and underscores, such as `timeout`.
    pub code: &'static str,
}

impl TransportError {
    /// A failure with this code; `failed` where the code has other characters or more than 50.
    #[must_use]
    pub fn new(code: &'static str) -> Self {
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        let is_code = (1..=50).contains(&code.len()) && code.bytes().all(fits);
        Self {
            code: if is_code { code } else { "failed" },
        }
    }
}
