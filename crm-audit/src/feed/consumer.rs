//! [`Feed`]: the feed as one consumer reads it; [`FeedConsumer`], its place.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_core::error::{Error, FieldError, Result, RuleViolation, codes};
use crm_core::query::{Condition, Find, Query, Where, WhereExt};
use crm_core::schema::{Entity, Value};
use crm_core::storage::{Claim, DroppedEntries, FeedPosition};
use crm_core::{Record, Session, Stamp};
use uuid::Uuid;

use super::policy::{FeedEvent, FeedPolicy};
use crate::archive::places;
use crate::entries::{Entries, entries};
use crate::event::AuditEvent;

/// The longest name of a consumer, in characters.
const NAME_LENGTH: u32 = 100;

/// The most events of one batch.
const MOST: usize = 1_000;

/// How far a consumer is. Kept by the engine: a place tells nothing of any record, and rows of this
/// kind have no events, or each would be the cause of the next.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "feed_consumer",
    table = "feed_consumers",
    derived,
    unique(name; live)
)]
pub struct FeedConsumer {
    /// The name, unique in the tenant.
    #[field(required, max_len = 100)]
    pub name: String,
    /// Up to where it has acknowledged; none for one that begins with the first event. Texts sort
    /// as positions do.
    #[field(max_len = 48)]
    pub position: Option<String>,
    /// Until when one worker has it.
    pub claimed_until: Option<DateTime<Utc>>,
    /// Tells workers apart.
    pub claim_token: Option<Uuid>,
}

/// Events for one worker, and where to go on behind them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FeedBatch {
    /// The events, in commit order; never empty.
    pub events: Vec<FeedEvent>,
    /// What to [acknowledge](Feed::acknowledge) when all of them are done.
    pub until: FeedPosition,
}

/// The feed as one worker of a consumer reads it; made by
/// [`AuditTrail::feed`](crate::AuditTrail::feed).
///
/// ```
/// # use crm_core::{Session, Result};
/// # use crm_audit::{AuditExt, FeedEvent};
/// # async fn index(event: &FeedEvent) -> Result<()> { Ok(()) }
/// # async fn example(session: &Session) -> Result<()> {
/// let feed = session.audit().feed("search-index");
/// while let Some(batch) = feed.next(500).await? {
///     for event in &batch.events {
///         index(event).await?; // once for each `event.idempotency_key()`
///     }
///     feed.acknowledge(batch.until).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Feed<'a> {
    session: &'a Session,
    name: String,
    token: Uuid,
    lease: TimeDelta,
    policy: FeedPolicy,
    filter: Option<Where<AuditEvent>>,
    from_now: bool,
    since: Option<DateTime<Utc>>,
    past_dropped: bool,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(session: &'a Session, name: String) -> Self {
        let engine = session.engine();
        Self {
            session,
            name,
            token: engine.ids().next(engine.clock().now()),
            lease: TimeDelta::minutes(5),
            policy: FeedPolicy::default(),
            filter: None,
            from_now: false,
            since: None,
            past_dropped: false,
        }
    }

    /// What the consumer gets to see; personal values masked and secrets left out if nothing is
    /// said.
    pub const fn policy(mut self, policy: FeedPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Only events that fulfil a filter. Others are passed: a filter that is changed later does not
    /// bring them back.
    pub fn filter(mut self, filter: Where<AuditEvent>) -> Self {
        self.filter = Some(filter);
        self
    }

    /// How long nobody else gets the consumer's events after [`next`](Self::next); 5 minutes if
    /// nothing is said, a second at least. A batch that takes longer may be done twice.
    pub fn lease(mut self, lease: TimeDelta) -> Self {
        self.lease = lease.max(TimeDelta::seconds(1));
        self
    }

    /// A consumer that does not exist yet begins with what happens from its first
    /// [`next`](Self::next) on, not with the first event of the tenant.
    pub const fn from_now(mut self) -> Self {
        self.from_now = true;
        self
    }

    /// Goes on behind events that were dropped from the archive before the consumer read them, and not
    /// with an error: for one that does without them, or has what they told from elsewhere, such as
    /// from the records as they are now.
    pub const fn past_dropped(mut self) -> Self {
        self.past_dropped = true;
        self
    }

    /// Only events of a time on.
    pub(crate) fn since(mut self, since: DateTime<Utc>) -> Self {
        self.since = Some(since);
        self.filter(AuditEvent::CREATED_AT.ge(since))
    }

    /// Up to `limit` events (at most 1,000) behind what the consumer has acknowledged, for this
    /// worker alone while its lease runs. `None` where there is nothing new, or another worker has
    /// the consumer.
    ///
    /// Where nothing is new this writes nothing. It asks the storage three times then, else five times.
    ///
    /// # Errors
    /// [`Error::Validation`] for a name that is empty or longer than 100 characters;
    /// [`Error::Forbidden`] outside of a tenant; [`Error::Query`] where the consumer's position is of
    /// another database; [`Error::Rule`] `events_dropped` where events that the consumer has not read
    /// were dropped from the archive (see [`past_dropped`](Self::past_dropped)).
    pub async fn next(&self, limit: usize) -> Result<Option<FeedBatch>> {
        check_name(&self.name)?;
        let limit = limit.clamp(1, MOST);
        let consumer = match self.stored().await? {
            Some(consumer) => consumer,
            None => self.begin().await?,
        };
        let now = self.session.engine().clock().now();
        let is_others = consumer.claimed_until.is_some_and(|until| until > now)
            && consumer.claim_token != Some(self.token);
        if is_others {
            return Ok(None);
        }
        let position = position_of(&consumer)?;
        let page = self.page(position, self.condition()?, limit).await?;
        if page.events.is_empty() {
            // Without a filter nothing was passed, and what is settled needs no place.
            if self.filter.is_some() && position.is_none_or(|position| page.until > position) {
                self.check_dropped(position).await?;
                let free = self.free(&consumer, now);
                self.write(free, self.place(page.until, None, None)).await?;
            }
            return Ok(None);
        }
        // After the events were read: what is dropped later was still among them.
        self.check_dropped(position).await?;
        // Only from the place that was read: another worker may have gone on meanwhile.
        let until = now.checked_add_signed(self.lease).unwrap_or(now);
        let free = self.free(&consumer, now);
        let mine = [
            (FeedConsumer::CLAIMED_UNTIL.name(), until.into()),
            (FeedConsumer::CLAIM_TOKEN.name(), self.token.into()),
        ];
        if self.write(free, mine.to_vec()).await?.is_none() {
            return Ok(None);
        }
        let registry = self.session.registry().await?;
        let events = page
            .events
            .iter()
            .map(|(position, event)| FeedEvent::new(*position, event, &registry, self.policy));
        Ok(Some(FeedBatch {
            events: events.collect(),
            until: page.until,
        }))
    }

    /// Says that everything up to a position is done, and lets other workers go on. The position of
    /// a batch's event acknowledges the events up to it; the others come again.
    ///
    /// # Errors
    /// [`Error::Rule`] `claim_lost` where the lease ran out and another worker has gone on: what was
    /// done here may be done twice.
    pub async fn acknowledge(&self, until: FeedPosition) -> Result<()> {
        let text = until.to_string();
        let behind = FeedConsumer::POSITION
            .is_null()
            .or(FeedConsumer::POSITION.lt(text.clone()));
        let mine = self.mine().and(behind);
        if self
            .write(mine, self.place(until, None, None))
            .await?
            .is_some()
        {
            return Ok(());
        }
        let stored = self.stored().await?;
        let place = stored.as_ref().and_then(|stored| stored.position.as_ref());
        if place.is_some_and(|place| *place >= text) {
            return self.release().await;
        }
        Err(RuleViolation::new(
            "claim_lost",
            "",
            "another worker has the consumer: its events may be done twice",
        )
        .into())
    }

    /// Lets other workers have the consumer without having done anything.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn release(&self) -> Result<()> {
        let freed = [
            (FeedConsumer::CLAIMED_UNTIL.name(), Value::Null),
            (FeedConsumer::CLAIM_TOKEN.name(), Value::Null),
        ];
        self.write(self.mine(), freed.to_vec()).await?;
        Ok(())
    }

    /// Up to where the consumer has acknowledged; `None` for one that has not yet.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn position(&self) -> Result<Option<FeedPosition>> {
        match self.stored().await? {
            Some(consumer) => position_of(&consumer),
            None => Ok(None),
        }
    }

    /// Forgets the consumer: one of its name begins anew.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn forget(&self) -> Result<()> {
        if let Some(consumer) = self.stored().await? {
            let mut work = self.session.begin();
            let row = work.row(FeedConsumer::schema(), consumer.id.uuid()).await?;
            if let Some(row) = row {
                work.remove_derived(&row);
                work.commit().await?;
            }
        }
        Ok(())
    }

    async fn stored(&self) -> Result<Option<Arc<Record<FeedConsumer>>>> {
        let named = FeedConsumer::NAME.eq(self.name.as_str());
        self.session.records::<FeedConsumer>().find_one(named).await
    }

    /// Makes the consumer's row, or finds the one that another worker has just made.
    async fn begin(&self) -> Result<Arc<Record<FeedConsumer>>> {
        if self.session.tenant().is_none() {
            return Err(Error::Forbidden {
                reason: "a feed is read in a tenant".into(),
            });
        }
        let mut consumer = FeedConsumer::new(self.name.as_str());
        if self.from_now {
            // No entry fulfils this, so the page reaches to the end of what is settled.
            let end = self.page(None, Condition::Or(Vec::new()), 1).await?.until;
            consumer.position = Some(end.to_string());
        }
        let mut work = self.session.begin();
        let id = self.session.engine().ids().next(work.now());
        work.keep_derived(id, None, consumer);
        match work.commit().await {
            Ok(_) | Err(Error::Duplicate { .. } | Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        self.stored().await?.ok_or_else(|| Error::NotFound {
            object: FeedConsumer::schema().name().to_owned(),
            id,
        })
    }

    async fn page(
        &self,
        after: Option<FeedPosition>,
        condition: Condition,
        limit: usize,
    ) -> Result<Entries> {
        let mut page = entries(self.session, after, &condition, limit).await?;
        if page.events.len() > limit {
            page.events.truncate(limit);
            let last = page.events.last();
            page.until = last.map_or(page.until, |(position, _)| *position);
        }
        Ok(page)
    }

    /// Refuses to go on where events behind a place are gone that nobody can read any more.
    async fn check_dropped(&self, after: Option<FeedPosition>) -> Result<()> {
        if self.past_dropped {
            return Ok(());
        }
        let logs = places().map(|object| object.name().to_owned());
        let after = after.unwrap_or_default().to_string();
        let mut gone = DroppedEntries::OBJECT
            .one_of(logs)
            .and(DroppedEntries::UNTIL_POSITION.gt(after));
        if let Some(since) = self.since {
            gone = gone.and(DroppedEntries::LAST_AT.ge(since));
        }
        let find = Find::from(gone).limit(1);
        let found = self.session.records::<DroppedEntries>().find(find).await?;
        if found.items.is_empty() {
            return Ok(());
        }
        Err(RuleViolation::new(
            "events_dropped",
            "C-070",
            "events that the consumer has not read were dropped from the archive: build what follows \
             them from the records as they are now, then go on with `past_dropped`",
        )
        .into())
    }

    fn condition(&self) -> Result<Condition> {
        match &self.filter {
            Some(filter) => self.bound::<AuditEvent>(filter.clone()),
            None => Ok(Condition::all()),
        }
    }

    fn bound<E: Entity>(&self, filter: Where<E>) -> Result<Condition> {
        let registry = self.session.engine().registry();
        Ok(Condition::bind(
            &filter.into_filter(),
            E::schema(),
            registry,
        )?)
    }

    /// The consumer as it was read, if nobody else has it.
    fn free(&self, consumer: &FeedConsumer, now: DateTime<Utc>) -> Where<FeedConsumer> {
        let place = match &consumer.position {
            Some(position) => FeedConsumer::POSITION.eq(position.as_str()),
            None => FeedConsumer::POSITION.is_null(),
        };
        let unclaimed = FeedConsumer::CLAIMED_UNTIL
            .is_null()
            .or(FeedConsumer::CLAIMED_UNTIL.le(now))
            .or(FeedConsumer::CLAIM_TOKEN.eq(self.token));
        FeedConsumer::NAME
            .eq(self.name.as_str())
            .and(place)
            .and(unclaimed)
    }

    /// The consumer, if this worker has it.
    fn mine(&self) -> Where<FeedConsumer> {
        FeedConsumer::NAME
            .eq(self.name.as_str())
            .and(FeedConsumer::CLAIM_TOKEN.eq(self.token))
    }

    fn place(
        &self,
        position: FeedPosition,
        until: Option<DateTime<Utc>>,
        token: Option<Uuid>,
    ) -> Vec<(Cow<'static, str>, Value)> {
        vec![
            (FeedConsumer::POSITION.name(), position.to_string().into()),
            (
                FeedConsumer::CLAIMED_UNTIL.name(),
                until.map_or(Value::Null, Value::from),
            ),
            (
                FeedConsumer::CLAIM_TOKEN.name(),
                token.map_or(Value::Null, Value::from),
            ),
        ]
    }

    /// Writes the consumer's row if it fulfils a condition, in one step.
    async fn write(
        &self,
        filter: Where<FeedConsumer>,
        values: Vec<(Cow<'static, str>, Value)>,
    ) -> Result<Option<()>> {
        let object = FeedConsumer::schema();
        let engine = self.session.engine();
        let assign = values
            .into_iter()
            .filter_map(|(field, value)| Some((object.field_index(&field)?, value)))
            .collect();
        let stamp = Stamp {
            at: engine.clock().now(),
            by: self.session.actor(),
        };
        let condition = self.bound(filter)?;
        let sort = Query::new(object, Condition::all()).sort(Vec::new()).sort;
        let claim = Claim::new(object.clone(), condition, sort, 1, assign, stamp);
        let rows = engine.storage().claim(self.session.scope(), &claim).await?;
        Ok((!rows.is_empty()).then_some(()))
    }
}

fn check_name(name: &str) -> Result<()> {
    let fault = if name.trim().is_empty() {
        (codes::BLANK, "must not be blank")
    } else if name.chars().count() > NAME_LENGTH as usize {
        (codes::TOO_LONG, "must have at most 100 characters")
    } else {
        return Ok(());
    };
    Err(FieldError::new("name", fault.0, fault.1).into())
}

fn position_of(consumer: &FeedConsumer) -> Result<Option<FeedPosition>> {
    let position = consumer.position.as_deref().map(str::parse).transpose();
    position.map_err(|_| {
        Error::Storage(crm_core::storage::StorageError::Corrupt {
            object: FeedConsumer::schema().name().to_owned(),
            fields: vec![FeedConsumer::POSITION.name().into_owned()],
        })
    })
}
