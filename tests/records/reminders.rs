//! Reminders: that they follow their activity, and that each is sent once however many workers
//! there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::activities::{World, at, faults, world};
use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use serde_json::json;

/// How long workers have.
fn lease() -> TimeDelta {
    TimeDelta::minutes(2)
}

impl World {
    async fn meeting(&self, begins: &str) -> Arc<Record<Activity>> {
        let meeting = Activity {
            scheduled_at: Some(at(begins)),
            ..Activity::new(ActivityType::Meeting, "Meet", self.account, self.owner)
        };
        self.session.activities().create(meeting).await.unwrap()
    }

    fn reminder(&self, meeting: Id<Activity>, offset: u32) -> ActivityReminder {
        ActivityReminder {
            recipient_id: Some(self.owner),
            ..ActivityReminder::new(meeting, ReminderType::Email, offset)
        }
    }

    async fn remind(&self, meeting: Id<Activity>, offset: u32) -> Id<ActivityReminder> {
        let reminder = self.reminder(meeting, offset);
        self.session.reminders().create(reminder).await.unwrap().id
    }

    async fn get(&self, id: Id<ActivityReminder>) -> Arc<Record<ActivityReminder>> {
        self.session.reminders().get(id).await.unwrap()
    }

    async fn claim(&self, worker: &str) -> Vec<Arc<Record<ActivityReminder>>> {
        self.session
            .reminders()
            .claim_due(worker, 100, lease())
            .await
            .unwrap()
    }
}

/// , R-149 to.
#[tokio::test]
async fn reminders_keep_their_rules() {
    let w = world().await;
    let meeting = w.meeting("2026-03-02T12:00:00Z").await;
    // At the start itself, which is allowed.
    let id = w.remind(meeting.id, 0).await;
    let reminder = w.get(id).await;
    assert_eq!(reminder.reminder_time, meeting.scheduled_at);
    assert_eq!(reminder.status, ReminderStatus::Pending);
    let activity = w.session.activities().get(meeting.id).await.unwrap();
    assert_eq!(
        activity.version, 2,
        "the activity changes with its reminders"
    );
    let nobody = ActivityReminder::new(meeting.id, ReminderType::Sms, 5_u32);
    let error = w.session.reminders().create(nobody).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("recipient_id", codes::REQUIRED),
            ("recipient_email", codes::REQUIRED)
        ]
    );
    let by_mail = ActivityReminder {
        recipient_email: Some("hank@globex.example".parse().unwrap()),
        ..ActivityReminder::new(meeting.id, ReminderType::Email, 5_u32)
    };
    w.session.reminders().create(by_mail).await.unwrap();
    let body = json!({
        "activity_id": meeting.id, "reminder_type": "pigeon", "offset_minutes": -1,
        "recipient_id": w.owner, "status": "sent",
    });
    let error = w
        .session
        .reminders()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    let mut found = faults(&error);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("offset_minutes", codes::OUT_OF_RANGE),
            ("reminder_type", codes::NOT_AN_OPTION),
            ("status", codes::READ_ONLY),
        ]
    );
    let task = Activity::new(ActivityType::Task, "Some day", w.account, w.owner);
    let task = w.session.activities().create(task).await.unwrap();
    let error = w
        .session
        .reminders()
        .create(w.reminder(task.id, 5))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("activity_id", codes::INCONSISTENT)]);
}

/// C-018: a reminder moves with its activity, ends with it, and comes back with it.
#[tokio::test]
async fn reminders_follow_their_activity() {
    let w = world().await;
    let mut activities = w.session.activities();
    let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
    let id = w.remind(meeting, 30).await;
    let other = w.meeting("2026-03-02T12:00:00Z").await.id;
    let untouched = w.remind(other, 30).await;
    assert_eq!(
        w.get(id).await.reminder_time,
        Some(at("2026-03-02T11:30:00Z"))
    );
    let later = |activity: &mut Activity| activity.scheduled_at = Some(at("2026-03-02T15:00:00Z"));
    activities.update(meeting, later).await.unwrap();
    assert_eq!(
        w.get(id).await.reminder_time,
        Some(at("2026-03-02T14:30:00Z"))
    );
    w.session
        .reminders()
        .update(id, |it| it.offset_minutes = 60)
        .await
        .unwrap();
    assert_eq!(
        w.get(id).await.reminder_time,
        Some(at("2026-03-02T14:00:00Z"))
    );
    activities.cancel(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Cancelled);
    activities.reopen(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Pending);
    activities.archive(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Cancelled);
    activities.unarchive(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Pending);

    // What was sent is sent again for a later time, not for the same one.
    w.clock.set(at("2026-03-02T14:10:00Z"));
    let claimed = w.claim("a").await;
    let claimed = claimed.iter().find(|one| one.id == id).unwrap();
    w.session.reminders().mark_sent(claimed).await.unwrap();
    activities.complete(meeting, None).await.unwrap();
    activities.reopen(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Sent);
    let tomorrow =
        |activity: &mut Activity| activity.scheduled_at = Some(at("2026-03-03T15:00:00Z"));
    activities.update(meeting, tomorrow).await.unwrap();
    let again = w.get(id).await;
    assert_eq!(
        (again.status, again.sent_at),
        (ReminderStatus::Pending, None)
    );
    // Its moment passes while the meeting is cancelled: nothing is left to remind of.
    activities.cancel(meeting).await.unwrap();
    w.clock.set(at("2026-03-03T14:30:00Z"));
    activities.reopen(meeting).await.unwrap();
    assert_eq!(w.get(id).await.status, ReminderStatus::Cancelled);
    assert_eq!(
        w.get(untouched).await.reminder_time,
        Some(at("2026-03-02T11:30:00Z"))
    );
}

/// C-018: `reminder_minutes` keep one reminder for whoever does it.
#[tokio::test]
async fn an_activity_keeps_its_own_reminder() {
    let w = world().await;
    let eve = w
        .session
        .users()
        .create(User::new(
            "eve@acme.example".parse::<EmailAddress>().unwrap(),
        ))
        .await;
    let eve = eve.unwrap().id;
    let mut activities = w.session.activities();
    let task = Activity {
        reminder_minutes: Some(10),
        ..Activity::new(ActivityType::Task, "Some day", w.account, w.owner)
    };
    let task = activities.create(task).await.unwrap().id;
    let own = async || {
        let page = w.session.reminders().find(Find::new()).await.unwrap();
        assert!(page.items.len() < 2);
        page.items.into_iter().next()
    };
    assert!(own().await.is_none(), "there is no time to remind of");
    activities
        .update(task, |it| it.due_date = Some(at("2026-03-02T12:00:00Z")))
        .await
        .unwrap();
    let reminder = own().await.unwrap();
    assert_eq!(reminder.reminder_time, Some(at("2026-03-02T11:50:00Z")));
    assert_eq!(
        (reminder.recipient_id, reminder.is_default),
        (Some(w.owner), true)
    );
    activities
        .update(task, |it| {
            it.assigned_to = Some(eve);
            it.reminder_minutes = Some(60);
        })
        .await
        .unwrap();
    let changed = own().await.unwrap();
    assert_eq!((changed.id, changed.recipient_id), (reminder.id, Some(eve)));
    assert_eq!(changed.reminder_time, Some(at("2026-03-02T11:00:00Z")));
    activities
        .update(task, |it| it.reminder_minutes = None)
        .await
        .unwrap();
    assert!(own().await.is_none());
    activities
        .update(task, |it| it.reminder_minutes = Some(0))
        .await
        .unwrap();
    assert_eq!(
        own().await.unwrap().reminder_time,
        Some(at("2026-03-02T12:00:00Z"))
    );

    // A whole day begins where the person lives.
    let zone = |user: &mut User| user.timezone = TimeZone::parse("America/New_York").unwrap();
    w.session.users().update(eve, zone).await.unwrap();
    let whole = |it: &mut Activity| {
        it.is_all_day = true;
        it.due_date = Some(at("2026-03-04T00:00:00Z"));
    };
    activities.update(task, whole).await.unwrap();
    assert_eq!(
        own().await.unwrap().reminder_time,
        Some(at("2026-03-04T05:00:00Z"))
    );
    // And goes along when they move, but not when somebody else does.
    let zone = |user: &mut User| user.timezone = TimeZone::parse("Asia/Tokyo").unwrap();
    let before = own().await.unwrap();
    w.session.users().update(w.owner, zone).await.unwrap();
    assert_eq!(own().await.unwrap().version, before.version);
    w.session.users().update(eve, zone).await.unwrap();
    let moved = own().await.unwrap();
    assert_eq!(moved.reminder_time, Some(at("2026-03-03T15:00:00Z")));
    assert_eq!(moved.recipient_id, Some(eve));
}

/// C-018: a reminder that is created while its activity moves has the time that the activity gets.
#[tokio::test(flavor = "multi_thread")]
async fn reminders_and_moves_at_the_same_time_agree() {
    let w = world().await;
    for round in 0..6 {
        let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
        let session = w.session.clone();
        let moved = at("2026-03-05T12:00:00Z") + TimeDelta::hours(round);
        let moving = tokio::spawn(async move {
            let change = |it: &mut Activity| it.scheduled_at = Some(moved);
            session.activities().update(meeting, change).await.map(drop)
        });
        let id = w.remind(meeting, 30).await;
        moving.await.unwrap().unwrap();
        let expected = Some(moved - TimeDelta::minutes(30));
        assert_eq!(w.get(id).await.reminder_time, expected, "round {round}");
    }
}

/// C-018: who claims has it for a while; whose lease ran out has lost it.
#[tokio::test]
async fn claims_run_out_and_are_taken_over() {
    let w = world().await;
    let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
    let id = w.remind(meeting, 30).await;
    assert!(w.claim("a").await.is_empty(), "it is not due");
    w.clock.set(at("2026-03-02T11:30:00Z"));
    let first = w.claim("a").await.remove(0);
    assert_eq!(first.claimed_by.as_deref(), Some("a"));
    assert!(w.claim("b").await.is_empty(), "it is taken");
    w.clock.advance(lease());
    let second = w.claim("b").await.remove(0);
    assert_eq!(second.id, id);
    for error in [
        w.session.reminders().mark_sent(&first).await.unwrap_err(),
        w.session
            .reminders()
            .mark_failed(&first, "late")
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), "claim_lost");
    }
    let sent = w.session.reminders().mark_sent(&second).await.unwrap();
    // The worker that did not come back tried it too.
    assert_eq!((sent.status, sent.attempts), (ReminderStatus::Sent, 2));
    assert_eq!(sent.sent_at, Some(at("2026-03-02T11:32:00Z")));
    assert_eq!(sent.claimed_by, None);
    let error = w.session.reminders().mark_sent(&second).await.unwrap_err();
    assert_eq!(error.code(), "claim_lost", "it is sent once");
    w.clock.advance(TimeDelta::days(1));
    assert!(w.claim("c").await.is_empty());

    // An activity that moves takes its reminder out of the worker's hands.
    let meeting = w.meeting("2026-03-04T12:00:00Z").await.id;
    w.remind(meeting, 30).await;
    w.clock.set(at("2026-03-04T11:30:00Z"));
    let claimed = w.claim("a").await.remove(0);
    let later = |it: &mut Activity| it.scheduled_at = Some(at("2026-03-04T18:00:00Z"));
    w.session.activities().update(meeting, later).await.unwrap();
    let error = w.session.reminders().mark_sent(&claimed).await.unwrap_err();
    assert_eq!(error.code(), "claim_lost");
    w.clock.set(at("2026-03-04T17:30:00Z"));
    assert_eq!(w.claim("a").await.len(), 1);
}

/// C-018: a reminder that brings down every worker that claims it is given up as well.
#[tokio::test]
async fn a_reminder_that_brings_workers_down_is_given_up() {
    let w = world().await;
    let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
    let id = w.remind(meeting, 30).await;
    w.clock.set(at("2026-03-02T11:30:00Z"));
    let mut tries = 0;
    while !w.claim("a").await.is_empty() {
        tries += 1;
        assert!(tries < 100, "it is claimed without end");
        w.clock.advance(lease());
    }
    assert_eq!(tries, 5);
    let reminder = w.get(id).await;
    assert_eq!(
        (reminder.status, reminder.attempts),
        (ReminderStatus::Failed, 5)
    );
    assert_eq!(reminder.last_error.as_deref(), Some("worker_lost"));
    assert_eq!(reminder.claimed_by, None);
}

/// C-018: what fails is tried again after a pause, and in the end has failed.
#[tokio::test]
async fn failures_are_tried_again_and_end() {
    let w = world().await;
    let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
    let id = w.remind(meeting, 30).await;
    w.clock.set(at("2026-03-02T11:30:00Z"));
    let mut tries = 0;
    loop {
        let claimed = w.claim("a").await.remove(0);
        tries += 1;
        let failed = w
            .session
            .reminders()
            .mark_failed(&claimed, "smtp_timeout")
            .await
            .unwrap();
        assert_eq!(failed.attempts, tries);
        assert_eq!(failed.last_error.as_deref(), Some("smtp_timeout"));
        if failed.status == ReminderStatus::Failed {
            break;
        }
        let pause = crm_engine::activities::retry_after(tries).unwrap();
        w.clock.advance(pause - TimeDelta::seconds(1));
        assert!(w.claim("a").await.is_empty(), "it rests");
        w.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(tries, 5);
    w.clock.advance(TimeDelta::days(30));
    assert!(w.claim("a").await.is_empty());
    let reminder = w.get(id).await;
    let error = w
        .session
        .reminders()
        .mark_failed(&reminder, "Ada's mail")
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("last_error", "invalid_code")]);
    let nobody = w
        .session
        .reminders()
        .claim_due(" ", 1, TimeDelta::zero())
        .await
        .unwrap_err();
    assert_eq!(
        faults(&nobody),
        [("lease", codes::OUT_OF_RANGE), ("worker", codes::BLANK)]
    );
}

/// C-018: eight workers, five hundred reminders, each sent exactly once, though some workers die.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_reminder_is_sent_exactly_once() {
    let w = world().await;
    let mut reminders = Vec::new();
    for _ in 0..5 {
        let meeting = w.meeting("2026-03-02T12:00:00Z").await.id;
        reminders.extend((0..100).map(|offset| w.reminder(meeting, offset)));
    }
    w.session.reminders().create_all(reminders).await.unwrap();
    w.clock.set(at("2026-03-02T12:00:00Z"));
    // These take some and are never heard of again.
    let lost = w
        .session
        .reminders()
        .claim_due("dead", 40, lease())
        .await
        .unwrap();
    assert_eq!(lost.len(), 40);
    let mut sent = BTreeSet::new();
    for round in 0..2 {
        let workers: Vec<_> = (0..8)
            .map(|number| {
                let session = w.session.clone();
                tokio::spawn(async move {
                    let mut sent = Vec::new();
                    let worker = format!("worker-{number}");
                    loop {
                        let mut reminders = session.reminders();
                        let due = reminders.claim_due(&worker, 20, lease()).await.unwrap();
                        if due.is_empty() {
                            return sent;
                        }
                        for reminder in due {
                            reminders.mark_sent(&reminder).await.unwrap();
                            sent.push(reminder.id);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            for id in worker.await.unwrap() {
                assert!(sent.insert(id), "sent twice");
            }
        }
        assert_eq!(sent.len(), [460, 500][round]);
        w.clock.advance(lease());
    }
    let sent = ActivityReminder::STATUS.eq(ReminderStatus::Sent);
    assert_eq!(w.session.reminders().count(sent).await.unwrap(), 500);
    for reminder in &lost {
        let error = w.session.reminders().mark_sent(reminder).await.unwrap_err();
        assert_eq!(error.code(), "claim_lost");
    }
}
