//! [`WebhookDelivery`]: one event on its way to one subscription.

use chrono::{DateTime, Utc};
use crm_core::Id;
use crm_core::schema::{Entity, Picklist};
use uuid::Uuid;

use super::subscription::WebhookSubscription;

/// One event on its way to one subscription. Kept by the sender, without events of its own. It has
/// ids and no payload: that is made of the event when it is sent, so that what an erasure took out of the
/// event is not sent any more, however long the delivery waited.
#[allow(
    clippy::duplicated_attributes,
    reason = "two indexes are over the status"
)]
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "webhook_delivery",
    table = "webhook_deliveries",
    derived,
    unique(event_id, subscription_id; live),
    index(status, next_attempt_at),
    index(subscription_id, status, queued_at)
)]
pub struct WebhookDelivery {
    /// Where it goes.
    #[field(required, references = "webhook_subscription", on_delete = "cascade")]
    pub subscription_id: Id<WebhookSubscription>,
    /// The event.
    #[field(required)]
    pub event_id: Uuid,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// When it was taken from the feed.
    #[field(required)]
    pub queued_at: DateTime<Utc>,
    /// When it is tried next, or was tried last.
    #[field(required)]
    pub next_attempt_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// Until when one worker has it.
    pub claimed_until: Option<DateTime<Utc>>,
    /// Tells workers apart.
    pub claim_token: Option<Uuid>,
    /// What the receiver answered last.
    pub last_status: Option<u32>,
    /// The code of what went wrong last.
    #[field(max_len = 50)]
    pub last_error: Option<String>,
    /// When the receiver took it.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum DeliveryStatus {
    /// To be sent.
    #[default]
    Pending,
    /// The receiver took it.
    Delivered,
    /// Given up: a dead letter.
    Dead,
}
