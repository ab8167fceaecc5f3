//! [`Webhooks`]: takes events from the feed, and sends what is due.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_core::engine::UnitOfWork;
use crm_core::error::{Error, Result};
use crm_core::query::{Condition, Cursor, Find, MAX_LIMIT, Page, Query, SortKey, Where, WhereExt};
use crm_core::schema::{Entity, Registry, Row, Value};
use crm_core::storage::{Claim, FeedPosition};
use crm_core::{Id, Record, Session, Stamp};
use serde_json::json;
use uuid::Uuid;

use super::address::Destination;
use super::delivery::{DeliveryStatus, WebhookDelivery};
use super::schedule::RetrySchedule;
use super::subscription::WebhookSubscription;
use super::transport::{Transport, WebhookRequest};
use crate::archive;
use crate::event::AuditEvent;
use crate::feed::{Feed, FeedEvent, FeedPolicy};

/// The consumer of the feed that deliveries are made by.
const CONSUMER: &str = "crm.webhooks";

/// How many deliveries a worker has at once.
const CHUNK: usize = 16;

/// How long a worker has them.
const LEASE: TimeDelta = TimeDelta::minutes(10);

/// The answer of a receiver that wants nothing any more.
const GONE: u16 = 410;

/// Gives sessions their webhooks.
pub trait WebhookExt {
    /// The webhooks of the session's tenant.
    fn webhooks(&self) -> Webhooks<'_>;
}

impl WebhookExt for Session {
    fn webhooks(&self) -> Webhooks<'_> {
        Webhooks {
            session: self,
            schedule: RetrySchedule::default(),
            past_dropped: false,
        }
    }
}

/// Sends the events of a tenant to its subscriptions.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Webhooks<'a> {
    session: &'a Session,
    schedule: RetrySchedule,
    past_dropped: bool,
}

/// What one call of [`Webhooks::deliver_due`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// How many deliveries were made of new events.
    pub queued: usize,
    /// How many were taken by their receivers.
    pub delivered: usize,
    /// How many failed and are tried again later.
    pub failed: usize,
    /// How many were given up.
    pub dead: usize,
}

impl DeliveryReport {
    /// Whether there was nothing to do: time to wait a while.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Delivered {
        status: u16,
    },
    Failed {
        status: Option<u16>,
        code: &'static str,
        pause: Option<TimeDelta>,
    },
    GivenUp {
        status: Option<u16>,
        code: &'static str,
    },
}

impl Webhooks<'_> {
    /// Tries again by another schedule than the default one.
    pub const fn schedule(mut self, schedule: RetrySchedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Goes on behind events that were dropped from the archive before deliveries were made of them, and
    /// not with an error: they are never sent.
    pub const fn past_dropped(mut self) -> Self {
        self.past_dropped = true;
        self
    }

    /// Makes deliveries of up to `limit` new events, and sends up to `limit` that are due, one after
    /// the other. Several workers may do so at the same time. See [`Transport`] for an example.
    ///
    /// Nothing is locked, and no transaction is open, while something is sent. A worker that stops in
    /// the middle leaves what it had to others, some minutes later.
    ///
    /// # Errors
    /// Those of the storage; [`Error::Rule`] `events_dropped` where events that a subscription may want
    /// were dropped from the archive before deliveries were made of them (see
    /// [`past_dropped`](Self::past_dropped)). What goes wrong with a receiver is no error: it is in the
    /// report and at the delivery.
    pub async fn deliver_due(
        &self,
        transport: &dyn Transport,
        limit: usize,
    ) -> Result<DeliveryReport> {
        let mut report = DeliveryReport {
            queued: self.queue(limit).await?,
            ..DeliveryReport::default()
        };
        let mut left = limit.min(MAX_LIMIT);
        while left > 0 {
            let token = self.new_id();
            let claimed = self.claim_due(left.min(CHUNK), token).await?;
            if claimed.is_empty() {
                break;
            }
            left = left.saturating_sub(claimed.len());
            self.send(transport, &claimed, token, &mut report).await?;
        }
        Ok(report)
    }

    /// One page of the deliveries that were given up, those that were queued last first.
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn dead_letters(
        &self,
        subscription: Id<WebhookSubscription>,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<WebhookDelivery>>>> {
        let dead = WebhookDelivery::SUBSCRIPTION_ID
            .eq(subscription)
            .and(WebhookDelivery::STATUS.eq(DeliveryStatus::Dead));
        let mut find = Find::from(dead)
            .sort(WebhookDelivery::QUEUED_AT.desc())
            .limit(limit);
        if let Some(after) = after {
            find = find.after(after);
        }
        self.session.records::<WebhookDelivery>().find(find).await
    }

    /// Has a delivery sent once more, with all attempts before it again: one that was given up, or
    /// one that the receiver lost.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] where a worker has it at the moment.
    pub async fn replay(&self, delivery: Id<WebhookDelivery>) -> Result<()> {
        let mut work = self.session.begin();
        let (row, record) = stored(&work, delivery).await?;
        let now = work.now();
        let is_claimed = record.claimed_until.is_some_and(|until| until > now);
        if is_claimed && record.status == DeliveryStatus::Pending {
            return Err(Error::Conflict {
                object: WebhookDelivery::schema().name().to_owned(),
                id: delivery.uuid(),
            });
        }
        let again = WebhookDelivery {
            next_attempt_at: now,
            ..WebhookDelivery::new(
                record.subscription_id,
                record.event_id,
                record.queued_at,
                now,
            )
        };
        work.keep_derived(delivery.uuid(), Some(row), again);
        work.commit().await?;
        Ok(())
    }

    /// Removes up to `limit` deliveries that were taken by their receivers before a moment; how many
    /// there were. Call it again until it is less than `limit`.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn forget_delivered(&self, before: DateTime<Utc>, limit: usize) -> Result<usize> {
        let old = WebhookDelivery::STATUS
            .eq(DeliveryStatus::Delivered)
            .and(WebhookDelivery::NEXT_ATTEMPT_AT.lt(before));
        let find = Find::from(old).limit(limit.clamp(1, MAX_LIMIT));
        let found = self.session.records::<WebhookDelivery>().find(find).await?;
        let ids: Vec<Uuid> = found.items.iter().map(|one| one.id.uuid()).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let mut work = self.session.begin();
        for row in work.rows(WebhookDelivery::schema(), &ids).await? {
            work.remove_derived(&row);
        }
        work.commit().await?;
        Ok(ids.len())
    }

    /// The consumer of the feed, as far as subscriptions look back.
    fn feed(&self, since: DateTime<Utc>) -> Feed<'_> {
        let feed = Feed::new(self.session, CONSUMER.to_owned())
            .policy(FeedPolicy::INTERNAL)
            .since(since);
        match self.past_dropped {
            true => feed.past_dropped(),
            false => feed,
        }
    }

    /// Makes a delivery for each subscription and event that it wants.
    async fn queue(&self, limit: usize) -> Result<usize> {
        let subscriptions = self.active().await?;
        let since = subscriptions
            .iter()
            .filter_map(|one| one.active_since)
            .min();
        let Some(since) = since.filter(|_| limit > 0) else {
            return Ok(0);
        };
        let feed = self.feed(since);
        let Some(batch) = feed.next(limit.min(MAX_LIMIT)).await? else {
            return Ok(0);
        };
        let mut wanted = Vec::new();
        for event in &batch.events {
            for subscription in &subscriptions {
                if subscription.wants(&event.event) {
                    wanted.push((event.event.id.uuid(), subscription.id));
                }
            }
        }
        let queued = self.insert(&wanted).await?;
        self.done(&feed, batch.until).await?;
        Ok(queued)
    }

    /// Another worker that has gone on meanwhile made the same deliveries: each is there once.
    async fn done(&self, feed: &Feed<'_>, until: FeedPosition) -> Result<()> {
        match feed.acknowledge(until).await {
            Err(Error::Rule(lost)) if lost.code == "claim_lost" => Ok(()),
            other => other,
        }
    }

    async fn active(&self) -> Result<Vec<Arc<Record<WebhookSubscription>>>> {
        let mut found = Vec::new();
        let find = Find::from(WebhookSubscription::IS_ACTIVE.eq(true)).limit(MAX_LIMIT);
        let mut page = self
            .session
            .records::<WebhookSubscription>()
            .find(find.clone())
            .await?;
        loop {
            found.append(&mut page.items);
            let Some(next) = page.next else { break };
            let next = find.clone().after(next);
            page = self
                .session
                .records::<WebhookSubscription>()
                .find(next)
                .await?;
        }
        found.retain(|subscription| subscription.secret.is_some());
        Ok(found)
    }

    /// Inserts the deliveries that are not there yet: a worker that stopped before it acknowledged
    /// may have made some of them.
    async fn insert(&self, wanted: &[(Uuid, Id<WebhookSubscription>)]) -> Result<usize> {
        let mut queued = 0;
        for part in wanted.chunks(MAX_LIMIT) {
            let known = self.known(part).await?;
            let mut work = self.session.begin();
            let now = work.now();
            let new = part.iter().filter(|one| !known.contains(*one));
            let mut count = 0;
            for (event, subscription) in new {
                let delivery = WebhookDelivery::new(*subscription, *event, now, now);
                work.keep_derived(self.new_id(), None, delivery);
                count += 1;
            }
            if count > 0 {
                work.commit().await?;
            }
            queued += count;
        }
        Ok(queued)
    }

    async fn known(
        &self,
        part: &[(Uuid, Id<WebhookSubscription>)],
    ) -> Result<HashSet<(Uuid, Id<WebhookSubscription>)>> {
        let mut events: Vec<Uuid> = part.iter().map(|(event, _)| *event).collect();
        events.dedup();
        let filter = WebhookDelivery::EVENT_ID.one_of(events);
        let condition = self.bound(filter)?;
        let query = Query::new(WebhookDelivery::schema(), condition);
        let storage = self.session.engine().storage();
        let rows = storage.select(self.session.scope(), &query).await?;
        let records = rows
            .into_iter()
            .filter_map(Record::<WebhookDelivery>::from_row);
        Ok(records
            .map(|one| (one.event_id, one.subscription_id))
            .collect())
    }

    /// Takes deliveries that are due, the longest due first.
    async fn claim_due(
        &self,
        limit: usize,
        token: Uuid,
    ) -> Result<Vec<Arc<Record<WebhookDelivery>>>> {
        let now = self.now();
        let free = WebhookDelivery::CLAIMED_UNTIL
            .is_null()
            .or(WebhookDelivery::CLAIMED_UNTIL.le(now));
        let due = WebhookDelivery::STATUS
            .eq(DeliveryStatus::Pending)
            .and(WebhookDelivery::NEXT_ATTEMPT_AT.le(now))
            .and(free);
        let until = now.checked_add_signed(LEASE).unwrap_or(now);
        let assign = vec![
            (WebhookDelivery::CLAIMED_UNTIL.name(), Value::from(until)),
            (WebhookDelivery::CLAIM_TOKEN.name(), Value::from(token)),
        ];
        let rows = self.write(due, limit, assign).await?;
        Ok(rows.into_iter().filter_map(Record::from_row).collect())
    }

    async fn send(
        &self,
        transport: &dyn Transport,
        claimed: &[Arc<Record<WebhookDelivery>>],
        token: Uuid,
        report: &mut DeliveryReport,
    ) -> Result<()> {
        let subscriptions: Vec<_> = claimed.iter().map(|one| one.subscription_id).collect();
        let subscriptions = self
            .session
            .records()
            .get_all(&distinct(subscriptions))
            .await?;
        let subscriptions: HashMap<_, Arc<Record<WebhookSubscription>>> =
            subscriptions.into_iter().map(|one| (one.id, one)).collect();
        let events = distinct(claimed.iter().map(|one| one.event_id).collect());
        let of_deliveries = Find::from(AuditEvent::ID.one_of(events)).limit(claimed.len());
        let events = archive::find(self.session, of_deliveries).await?.items;
        let events: HashMap<_, Arc<Record<AuditEvent>>> =
            events.into_iter().map(|one| (one.id.uuid(), one)).collect();
        let registry = self.session.registry().await?;
        for delivery in claimed {
            let subscription = subscriptions.get(&delivery.subscription_id);
            let event = events.get(&delivery.event_id);
            let attempt = match (subscription, event) {
                (Some(to), Some(event)) if to.is_active && to.deleted_at.is_none() => {
                    self.attempt(transport, to, event, &registry).await
                }
                (_, None) => Attempt::GivenUp {
                    status: None,
                    code: "event_gone",
                },
                _ => Attempt::GivenUp {
                    status: None,
                    code: "not_subscribed",
                },
            };
            self.record(delivery, token, attempt, report).await?;
            let is_gone = matches!(
                attempt,
                Attempt::GivenUp {
                    status: Some(GONE),
                    ..
                }
            );
            if let Some(subscription) = subscription.filter(|_| is_gone) {
                self.stop(subscription.id).await?;
            }
        }
        Ok(())
    }

    /// Sends one event. Whatever goes wrong is a code.
    async fn attempt(
        &self,
        transport: &dyn Transport,
        subscription: &WebhookSubscription,
        event: &Record<AuditEvent>,
        registry: &Registry,
    ) -> Attempt {
        let failed = |code| Attempt::Failed {
            status: None,
            code,
            pause: None,
        };
        let destination = match Destination::of(&subscription.url) {
            Ok(destination) => destination,
            Err(refused) => {
                return Attempt::GivenUp {
                    status: None,
                    code: refused.code(),
                };
            }
        };
        let addresses = transport.resolve(&destination.host, destination.port).await;
        let address = match addresses.map(|addresses| Destination::checked(&addresses)) {
            Ok(Ok(address)) => address,
            Ok(Err(refused)) => return failed(refused.code()),
            Err(error) => return failed(error.code),
        };
        let event = FeedEvent::new(
            FeedPosition::BEGINNING,
            event,
            registry,
            subscription.policy(),
        );
        let Some(request) = self.request(subscription, &destination, address, &event) else {
            return Attempt::GivenUp {
                status: None,
                code: "no_secret",
            };
        };
        match transport.post(&request).await {
            Ok(answer) if (200..300).contains(&answer.status) => Attempt::Delivered {
                status: answer.status,
            },
            Ok(answer) if answer.status == GONE => Attempt::GivenUp {
                status: Some(GONE),
                code: "gone",
            },
            Ok(answer) => Attempt::Failed {
                status: Some(answer.status),
                code: "refused",
                pause: answer
                    .retry_after
                    .and_then(|pause| TimeDelta::from_std(pause).ok()),
            },
            Err(error) => failed(error.code),
        }
    }

    /// The signed request; `None` where there is no secret to sign with.
    fn request(
        &self,
        subscription: &WebhookSubscription,
        destination: &Destination,
        address: std::net::IpAddr,
        event: &FeedEvent,
    ) -> Option<WebhookRequest> {
        let id = event.idempotency_key().to_string();
        let timestamp = self.now().timestamp();
        let kind = format!("{}.{}", event.event.object, event.event.event.as_str());
        let body = json!({
            "type": kind,
            "timestamp": event.event.created.at,
            "data": event.to_json(),
        });
        let body = body.to_string().into_bytes();
        let signatures: Vec<String> = subscription
            .secrets()
            .map(|secret| secret.sign(&id, timestamp, &body))
            .collect();
        if signatures.is_empty() {
            return None;
        }
        Some(WebhookRequest {
            url: subscription.url.to_string(),
            host: destination.host.clone(),
            address: SocketAddr::new(address, destination.port),
            headers: vec![
                ("content-type", "application/json".to_owned()),
                ("webhook-id", id),
                ("webhook-timestamp", timestamp.to_string()),
                ("webhook-signature", signatures.join(" ")),
            ],
            body,
        })
    }

    /// Keeps what became of an attempt, unless another worker has the delivery by now.
    async fn record(
        &self,
        delivery: &Record<WebhookDelivery>,
        token: Uuid,
        attempt: Attempt,
        report: &mut DeliveryReport,
    ) -> Result<()> {
        let now = self.now();
        let attempts = delivery.attempts.saturating_add(1);
        let (status, answer, error, next) = match attempt {
            Attempt::Delivered { status } => {
                report.delivered += 1;
                (DeliveryStatus::Delivered, Some(status), None, now)
            }
            Attempt::GivenUp { status, code } => {
                report.dead += 1;
                (DeliveryStatus::Dead, status, Some(code), now)
            }
            Attempt::Failed {
                status,
                code,
                pause,
            } => {
                let scheduled = self.schedule.after(attempts, delivery.id.uuid());
                let next = scheduled.map(|scheduled| {
                    // A receiver's wish counts up to the longest pause.
                    let wished = pause.unwrap_or_default().min(self.schedule.longest);
                    now.checked_add_signed(scheduled.max(wished)).unwrap_or(now)
                });
                match next {
                    Some(next) => {
                        report.failed += 1;
                        (DeliveryStatus::Pending, status, Some(code), next)
                    }
                    None => {
                        report.dead += 1;
                        (DeliveryStatus::Dead, status, Some(code), now)
                    }
                }
            }
        };
        let is_delivered = status == DeliveryStatus::Delivered;
        let assign = vec![
            (WebhookDelivery::STATUS.name(), Value::from(status.as_str())),
            (
                WebhookDelivery::ATTEMPTS.name(),
                Value::from(i64::from(attempts)),
            ),
            (WebhookDelivery::NEXT_ATTEMPT_AT.name(), Value::from(next)),
            (WebhookDelivery::CLAIMED_UNTIL.name(), Value::Null),
            (WebhookDelivery::CLAIM_TOKEN.name(), Value::Null),
            (
                WebhookDelivery::LAST_STATUS.name(),
                answer.map_or(Value::Null, |answer| Value::from(i64::from(answer))),
            ),
            (
                WebhookDelivery::LAST_ERROR.name(),
                error.map_or(Value::Null, Value::from),
            ),
            (
                WebhookDelivery::DELIVERED_AT.name(),
                if is_delivered {
                    Value::from(now)
                } else {
                    Value::Null
                },
            ),
        ];
        let mine = WebhookDelivery::ID
            .eq(delivery.id)
            .and(WebhookDelivery::CLAIM_TOKEN.eq(token));
        self.write(mine, 1, assign).await?;
        Ok(())
    }

    /// The receiver wants nothing any more.
    async fn stop(&self, subscription: Id<WebhookSubscription>) -> Result<()> {
        let stopped = self
            .session
            .records::<WebhookSubscription>()
            .update(subscription, |subscription| subscription.is_active = false)
            .await;
        match stopped {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.session.engine().clock().now()
    }

    fn new_id(&self) -> Uuid {
        self.session.engine().ids().next(self.now())
    }

    fn bound(&self, filter: Where<WebhookDelivery>) -> Result<Condition> {
        let registry = self.session.engine().registry();
        let object = WebhookDelivery::schema();
        Ok(Condition::bind(&filter.into_filter(), object, registry)?)
    }

    /// Writes deliveries that fulfil a condition, in one step.
    async fn write(
        &self,
        filter: Where<WebhookDelivery>,
        limit: usize,
        values: Vec<(Cow<'static, str>, Value)>,
    ) -> Result<Vec<Row>> {
        let object = WebhookDelivery::schema();
        let place = |field: &str| object.field_index(field);
        let assign = values
            .into_iter()
            .filter_map(|(field, value)| Some((place(&field)?, value)))
            .collect();
        let first = place(&WebhookDelivery::NEXT_ATTEMPT_AT.name()).map(|index| SortKey {
            index,
            descending: false,
        });
        let sort = Query::new(object, Condition::all())
            .sort(first.into_iter().collect())
            .sort;
        let stamp = Stamp {
            at: self.now(),
            by: self.session.actor(),
        };
        let claim = Claim::new(
            object.clone(),
            self.bound(filter)?,
            sort,
            limit,
            assign,
            stamp,
        );
        let storage = self.session.engine().storage();
        Ok(storage.claim(self.session.scope(), &claim).await?)
    }
}

/// A delivery as it is stored.
async fn stored(
    work: &UnitOfWork,
    delivery: Id<WebhookDelivery>,
) -> Result<(Row, Arc<Record<WebhookDelivery>>)> {
    let object = WebhookDelivery::schema();
    let row = work.row(object, delivery.uuid()).await?;
    let record = row.clone().and_then(Record::<WebhookDelivery>::from_row);
    row.zip(record).ok_or_else(|| Error::NotFound {
        object: object.name().to_owned(),
        id: delivery.uuid(),
    })
}

fn distinct<T: Copy + Eq + std::hash::Hash>(ids: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}
