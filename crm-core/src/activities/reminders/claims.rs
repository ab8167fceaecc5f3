//! Claiming reminders that are due, and saying what became of them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{ActivityReminder, ReminderStatus, release, retry_after};
use crate::Id;
use crate::engine::{Records, Session, UnitOfWork, Workspace, in_work};
use crate::error::{Error, Faults, FieldError, Result, RuleViolation, codes};
use crate::query::{Condition, Query, SortKey, WhereExt};
use crate::record::{Record, Stamp};
use crate::schema::{Entity, FieldOf, Value};
use crate::storage::Claim;

/// The code of the failure of a reminder whose last worker did not come back.
const WORKER_LOST: &str = "worker_lost";
/// How many lost claims one commit counts.
const MOST_LOST: usize = 500;

impl Records<'_, ActivityReminder> {
    /// Takes up to `limit` reminders that are due, the longest due first, for one worker. Nobody
    /// else gets them while the lease runs, or ever if the worker marks them. The call is a commit
    /// of its own, also in a unit of work: a claim must be known before anything is sent.
    ///
    /// A claim whose lease ran out before the worker said anything is counted as a failed attempt
    /// first, in a commit of its own; after as many as [`retry_after`] allows the reminder has failed
    /// with the code `worker_lost`.
    ///
    /// ```
    /// # use chrono::TimeDelta;
    /// # use crm_core::{Session, error::Result};
    /// # async fn send(message: Option<&str>) -> bool { true }
    /// # async fn example(session: &Session) -> Result<()> {
    /// let lease = TimeDelta::minutes(2);
    /// for reminder in session.reminders().claim_due("worker-1", 100, lease).await? {
    ///     if send(reminder.message.as_deref()).await {
    ///         session.reminders().mark_sent(&reminder).await?;
    ///     } else {
    ///         session.reminders().mark_failed(&reminder, "smtp_timeout").await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Validation`] for a worker without a name or with one of more than 100 characters, or
    /// a lease of less than a second.
    pub async fn claim_due(
        &self,
        worker: &str,
        limit: usize,
        lease: TimeDelta,
    ) -> Result<Vec<Arc<Record<ActivityReminder>>>> {
        let session = self.workspace.session();
        if session.tenant().is_none() {
            return Err(Error::Forbidden {
                reason: "reminders are claimed in a tenant".into(),
            });
        }
        let engine = session.engine();
        let now = engine.clock().now();
        let until = now.checked_add_signed(lease);
        let until = until.filter(|_| lease >= TimeDelta::seconds(1));
        let (until, worker) = check_claim(until, worker)?;
        count_lost(session, limit.min(MOST_LOST)).await?;
        let schema = ActivityReminder::schema();
        let free = ActivityReminder::CLAIMED_UNTIL
            .is_null()
            .or(ActivityReminder::CLAIMED_UNTIL.le(now));
        let due = ActivityReminder::STATUS
            .eq(ReminderStatus::Pending)
            .and(ActivityReminder::REMINDER_TIME.le(now))
            .and(free);
        let condition =
            Condition::not_deleted()
                .and(Condition::not_archived())
                .and(Condition::bind(
                    &due.into_filter(),
                    schema,
                    engine.registry(),
                )?);
        let sort = place(ActivityReminder::REMINDER_TIME).map(|index| SortKey {
            index,
            descending: false,
        });
        let assign = [
            (
                place(ActivityReminder::CLAIMED_UNTIL),
                Value::Timestamp(until),
            ),
            (place(ActivityReminder::CLAIMED_BY), Value::Text(worker)),
            (
                place(ActivityReminder::CLAIM_TOKEN),
                Value::Uuid(engine.ids().next(now)),
            ),
        ];
        let assign = assign
            .into_iter()
            .filter_map(|(place, value)| place.map(|place| (place, value)))
            .collect();
        let sort = Query::new(schema, Condition::all()).sort(sort.into_iter().collect());
        let stamp = Stamp {
            at: now,
            by: session.actor(),
        };
        let claim = Claim::new(schema.clone(), condition, sort.sort, limit, assign, stamp);
        let rows = engine.storage().claim(session.scope(), &claim).await?;
        Ok(rows.into_iter().filter_map(Record::from_row).collect())
    }

    /// Says that a claimed reminder was sent.
    ///
    /// # Errors
    /// [`Error::Rule`] `claim_lost` if the reminder was claimed by somebody else since, or its
    /// activity changed; [`Error::NotFound`].
    pub async fn mark_sent(
        &mut self,
        claimed: &Record<ActivityReminder>,
    ) -> Result<Arc<Record<ActivityReminder>>> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            still_claimed(work, claimed).await?;
            work.update(claimed.id, &|reminder: &mut ActivityReminder| {
                reminder.status = ReminderStatus::Sent;
                reminder.sent_at = Some(now);
                reminder.attempts += 1;
                reminder.last_error = None;
                release(reminder);
            })
            .await
        })
    }

    /// Says that a claimed reminder could not be sent, with a code for why, such as `smtp_timeout`.
    /// It is due again after a pause ([`retry_after`]) or, after enough attempts, has failed.
    ///
    /// # Errors
    /// Like [`mark_sent`](Self::mark_sent); [`Error::Validation`] for a code that is more than
    /// small letters, digits and underscores: it must not tell of a person.
    pub async fn mark_failed(
        &mut self,
        claimed: &Record<ActivityReminder>,
        code: &str,
    ) -> Result<Arc<Record<ActivityReminder>>> {
        let is_code = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if code.is_empty() || !code.chars().all(is_code) {
            return Err(FieldError::new(
                "last_error",
                "invalid_code",
                "use small letters, digits and underscores",
            )
            .into());
        }
        in_work!(self.workspace, |work| {
            let now = work.now();
            still_claimed(work, claimed).await?;
            work.update(claimed.id, &|reminder: &mut ActivityReminder| {
                reminder.attempts += 1;
                reminder.last_error = Some(code.to_owned());
                release(reminder);
                match retry_after(reminder.attempts) {
                    Some(pause) => reminder.claimed_until = now.checked_add_signed(pause),
                    None => reminder.status = ReminderStatus::Failed,
                }
            })
            .await
        })
    }
}

/// Counts the claims of workers that did not come back as failed attempts.
async fn count_lost(session: &Session, limit: usize) -> Result<()> {
    let mut workspace = Workspace::Session(session);
    in_work!(workspace, |work| {
        let now = work.now();
        let lost = ActivityReminder::STATUS
            .eq(ReminderStatus::Pending)
            .and(ActivityReminder::REMINDER_TIME.le(now))
            .and(ActivityReminder::CLAIM_TOKEN.is_not_null())
            .and(ActivityReminder::CLAIMED_UNTIL.le(now));
        let registry = &*work.registry().await?;
        let schema = ActivityReminder::schema();
        let lost = Condition::bind(&lost.into_filter(), schema, registry)?;
        let query = Query::new(schema, Condition::not_deleted().and(lost)).limit(limit);
        for row in work.select(&query).await? {
            work.update(Id::new(row.id()), &|reminder: &mut ActivityReminder| {
                reminder.attempts += 1;
                release(reminder);
                if retry_after(reminder.attempts).is_none() {
                    reminder.status = ReminderStatus::Failed;
                    reminder.last_error = Some(WORKER_LOST.to_owned());
                }
            })
            .await?;
        }
        Ok(())
    })
}

fn place<T>(field: FieldOf<ActivityReminder, T>) -> Option<usize> {
    ActivityReminder::schema().field_index(&field.name())
}

fn check_claim(until: Option<DateTime<Utc>>, worker: &str) -> Result<(DateTime<Utc>, String)> {
    let mut faults = Faults::default();
    if until.is_none() {
        faults.add("lease", codes::OUT_OF_RANGE, "use at least one second");
    }
    let worker = worker.trim();
    let name = place(ActivityReminder::CLAIMED_BY)
        .and_then(|index| ActivityReminder::schema().fields().get(index));
    if worker.is_empty() {
        faults.add("worker", codes::BLANK, "must not be blank");
    } else if let Some(Err(fault)) =
        name.map(|name| name.check(&crate::schema::ValueRef::Text(worker)))
    {
        faults.push(FieldError {
            path: "worker".to_owned(),
            ..fault
        });
    }
    faults.into_result()?;
    Ok((until.unwrap_or_default(), worker.to_owned()))
}

/// Refuses a worker whose claim was taken over.
async fn still_claimed(work: &UnitOfWork, claimed: &Record<ActivityReminder>) -> Result<()> {
    let current = work.get(claimed.id).await?;
    let is_same = current.claim_token.is_some() && current.claim_token == claimed.claim_token;
    if is_same && current.status == ReminderStatus::Pending {
        return Ok(());
    }
    Err(RuleViolation::new(
        "claim_lost",
        "C-018",
        "the reminder is not claimed by this worker any more; leave it to the next claim",
    )
    .into())
}
