//! [`WebhookSubscription`]: where a tenant wants which events.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use crm_core::Record;
use crm_core::engine::{UnitOfWork, Write, WriteRule};
use crm_core::error::{Faults, Result, codes};
use crm_core::schema::Entity;
use crm_core::value::HttpUrl;

use super::address::Destination;
use super::signature::WebhookSecret;
use crate::event::{AuditEvent, AuditKind};
use crate::feed::{FeedPolicy, Treatment};

/// Where a tenant wants which events. One without a secret, such as one that came with the import
/// of a tenant, gets nothing until it has one.
///
/// ```
/// # use crm_core::{Session, Result};
/// use crm_audit::webhook::{WebhookSecret, WebhookSubscription};
/// # async fn example(session: &Session, random: [u8; 32]) -> Result<(), Box<dyn std::error::Error>> {
/// let secret = WebhookSecret::from_bytes(&random)?; // from the host's source of randomness
/// let url: crm_core::value::HttpUrl = "https://hooks.example.com/crm".parse()?;
/// let subscription = WebhookSubscription {
///     objects: vec!["deal".into()],
///     events: vec!["update".into()],
///     secret: Some(secret.expose()),
///     ..WebhookSubscription::new("Billing", url)
/// };
/// session.records::<WebhookSubscription>().create(subscription).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "webhook_subscription",
    table = "webhook_subscriptions",
    unique(name; ignore_case, live),
    check = check_subscription
)]
pub struct WebhookSubscription {
    /// What it is for.
    #[field(required, max_len = 100)]
    pub name: String,
    /// Where events are sent: `https`, to a public address. Put no secret into it.
    #[field(required)]
    pub url: HttpUrl,
    /// The objects whose events are sent; all of them if there is none.
    pub objects: Vec<String>,
    /// The kinds of events that are sent, such as `create`; all of them if there is none.
    pub events: Vec<String>,
    /// What becomes of values about persons; secrets are never sent.
    pub personal_values: Treatment,
    /// The [`WebhookSecret`] by which requests are signed.
    #[field(sensitive, max_len = 100)]
    pub secret: Option<String>,
    /// The secret before: while there is one, requests are signed with both, so that a receiver can
    /// change without a gap.
    #[field(sensitive, max_len = 100)]
    pub previous_secret: Option<String>,
    /// Whether events are sent.
    #[field(default = true)]
    pub is_active: bool,
    /// Since when; what happened before is not sent.
    #[field(read_only)]
    pub active_since: Option<DateTime<Utc>>,
}

impl WebhookSubscription {
    /// Whether an event is one of those that are sent.
    #[must_use]
    pub fn wants(&self, event: &Record<AuditEvent>) -> bool {
        let names = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == name)
        };
        self.is_active
            && self.secret.is_some()
            && self
                .active_since
                .is_some_and(|since| event.created.at >= since)
            && names(&self.objects, &event.object)
            && names(&self.events, event.event.as_str())
    }

    /// What is sent of an event.
    pub(super) fn policy(&self) -> FeedPolicy {
        FeedPolicy {
            personal: self.personal_values,
            sensitive: Treatment::Drop,
        }
    }

    /// The secrets that requests are signed with.
    pub(super) fn secrets(&self) -> impl Iterator<Item = WebhookSecret> {
        let secrets = [&self.secret, &self.previous_secret];
        let parsed = secrets.map(|secret| WebhookSecret::parse(secret.as_deref()?).ok());
        parsed.into_iter().flatten()
    }
}

/// What can be told without any other record. No message repeats a secret or an address.
fn check_subscription(subscription: &WebhookSubscription, faults: &mut Faults) {
    if let Err(refused) = Destination::of(&subscription.url) {
        faults.add("url", refused.code(), refused.to_string());
    }
    for (field, secret) in [
        ("secret", &subscription.secret),
        ("previous_secret", &subscription.previous_secret),
    ] {
        if let Some(Err(invalid)) = secret.as_deref().map(WebhookSecret::parse) {
            faults.add(field, "invalid_secret", invalid.to_string());
        }
    }
    let faulty = subscription
        .events
        .iter()
        .find_map(|event| event.parse::<AuditKind>().err());
    if let Some(error) = faulty {
        faults.add("events", codes::NOT_AN_OPTION, error.to_string());
    }
}

/// Objects are known, and it is known since when a subscription is active.
#[derive(Debug)]
pub(crate) struct SubscriptionRules;

#[async_trait]
impl WriteRule for SubscriptionRules {
    fn object(&self) -> &'static str {
        "webhook_subscription"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<WebhookSubscription>() else {
            return Ok(());
        };
        let before = write.before::<WebhookSubscription>();
        let was_active =
            before.is_some_and(|before| before.is_active && before.deleted_at.is_none());
        let is_active = after.is_active && !write.deletes();
        let since = match (was_active, is_active) {
            (true, true) => after.active_since.or(Some(work.now())),
            (false, true) => Some(work.now()),
            (_, false) => None,
        };
        let is_changed = before.is_none_or(|before| before.objects != after.objects);
        let objects = after.objects.clone();
        write.edit::<WebhookSubscription>(|subscription| subscription.active_since = since);
        if is_changed && !objects.is_empty() {
            let registry = work.registry().await?;
            if objects
                .iter()
                .any(|name| registry.any_object(name).is_none())
            {
                write.faults().add(
                    "objects",
                    codes::NOT_FOUND,
                    "must be names of objects, such as `deal`",
                );
            }
        }
        Ok(())
    }
}
