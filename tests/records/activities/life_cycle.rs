//! The life of an activity: from planned to done, and its days.

use crm_engine::activities::allowed;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use serde_json::json;

use super::{at, faults, world};

/// C-015: the table of transitions holds for updates, merge patches, units of work and, through
/// them, imports alike.
#[tokio::test]
async fn transitions_are_the_same_by_every_way() {
    let w = world().await;
    for from in ActivityStatus::ALL.iter().copied() {
        for to in ActivityStatus::ALL.iter().copied() {
            let expected = allowed(from, to).map_err(Error::from);
            let expected = expected.map_err(|error| error.to_string());
            let told = |result: Result<ActivityStatus>| match result {
                Ok(status) => {
                    assert_eq!(status, to);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            let new = || Activity {
                status: from,
                ..w.activity(ActivityType::Call, "Ask")
            };
            let call = w.create(new()).await;
            let change = |activity: &mut Activity| activity.status = to;
            let updated = w.session.activities().update(call.id, change).await;
            assert_eq!(
                told(updated.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );

            let call = w.create(new()).await;
            let patch = json!({"status": to.as_str()});
            let patch = patch.as_object().unwrap();
            let merged = w.session.activities().merge(call.id, 1, patch).await;
            assert_eq!(
                told(merged.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );
            let call = w.create(new()).await;
            let mut named = w.session.object("activity").await.unwrap();
            let merged = named.merge(call.id.uuid(), 1, patch).await;
            assert_eq!(
                merged.map(drop).map_err(|error| error.to_string()),
                expected
            );

            let mut work = w.session.begin();
            let call = work.activities().create(new()).await.unwrap();
            let updated = work.activities().update(call.id, change).await;
            assert_eq!(
                told(updated.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );
            work.commit().await.unwrap();
        }
    }
}

/// C-015, R-052: each step, and that what is finished is only reopened.
#[tokio::test]
async fn activities_are_finished_once_and_reopened() {
    let w = world().await;
    let mut activities = w.session.activities();
    let call = w.create(w.activity(ActivityType::Call, "Ask")).await;
    assert_eq!(call.status, ActivityStatus::Planned);
    let deferred = activities.defer(call.id).await.unwrap();
    assert_eq!(deferred.status, ActivityStatus::Deferred);
    let error = activities.mark_no_show(call.id).await.unwrap_err();
    assert_eq!(error.code(), "transition");
    let begun = activities.start(call.id).await.unwrap();
    assert_eq!(begun.started_at, Some(at("2026-03-02T09:00:00Z")));
    let done = activities.complete(call.id, Some("yes")).await.unwrap();
    assert_eq!(done.completed_at, Some(at("2026-03-02T09:00:00Z")));
    for error in [
        activities.complete(call.id, None).await.unwrap_err(),
        activities.start(call.id).await.unwrap_err(),
        activities.cancel(call.id).await.unwrap_err(),
        activities.mark_no_show(call.id).await.unwrap_err(),
        activities.defer(call.id).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "finished");
        assert!(error.to_string().contains("`completed`"), "{error}");
    }
    let open = activities.reopen(call.id).await.unwrap();
    assert_eq!(
        (open.status, open.completed_at),
        (ActivityStatus::Planned, None)
    );
    assert_eq!(
        open.outcome.as_deref(),
        Some("yes"),
        "what came of it stays"
    );
    let error = activities.reopen(call.id).await.unwrap_err();
    assert_eq!(error.code(), "not_finished");
    activities.cancel(call.id).await.unwrap();
    let meeting = Activity {
        scheduled_at: Some(at("2026-03-03T09:00:00Z")),
        ..w.activity(ActivityType::Meeting, "Meet")
    };
    let meeting = w.create(meeting).await;
    assert_eq!(meeting.status, ActivityStatus::Scheduled);
    activities.mark_no_show(meeting.id).await.unwrap();
    let open = activities.reopen(meeting.id).await.unwrap();
    assert_eq!(open.status, ActivityStatus::Scheduled);
}

/// C-015: the follow-up is created in the commit that completes its origin, or neither is.
#[tokio::test]
async fn an_activity_is_completed_with_its_follow_up() {
    let w = world().await;
    let mut activities = w.session.activities();
    let call = Activity {
        follow_up_required: true,
        follow_up_date: Some(at("2026-03-09T10:00:00Z")),
        ..w.activity(ActivityType::Call, "Ask")
    };
    let call = w.create(call).await;
    let faulty = w.activity(ActivityType::Proposal, " ");
    let error = activities
        .complete_with_follow_up(call.id, None, faulty)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("subject", codes::BLANK)]);
    let still = activities.get(call.id).await.unwrap();
    assert_eq!((still.status, still.version), (ActivityStatus::Planned, 1));

    let offer = Activity::new(
        ActivityType::Proposal,
        "Send the offer",
        ActivityLinks::default(),
        w.owner,
    );
    let (done, offer) = activities
        .complete_with_follow_up(call.id, Some("interested"), offer)
        .await
        .unwrap();
    assert_eq!(done.status, ActivityStatus::Completed);
    assert_eq!(done.outcome.as_deref(), Some("interested"));
    assert_eq!(
        (done.follow_up_required, done.follow_up_date),
        (false, None)
    );
    assert_eq!(offer.follow_up_of, Some(call.id));
    assert_eq!(offer.links.account_id, Some(w.account));
    assert_eq!(offer.due_date, Some(at("2026-03-09T10:00:00Z")));
    assert_eq!((done.version, offer.version), (2, 1));
    let events = w.session.audit();
    let completed = events.trail(call.id).await.unwrap().pop().unwrap();
    let created = events.trail(offer.id).await.unwrap().pop().unwrap();
    assert_eq!(completed.commit_id, created.commit_id);
    let found = activities.follow_ups(call.id).await.unwrap();
    assert_eq!(found.items[0].id, offer.id);
    // Only the engine says what follows what.
    let mut forged = w.activity(ActivityType::Call, "x");
    forged.follow_up_of = Some(call.id);
    let error = activities.create(forged).await.unwrap_err();
    assert_eq!(faults(&error), [("follow_up_of", codes::READ_ONLY)]);
}

/// a whole day is past once it is over everywhere; the day is kept as its midnight in UTC.
#[tokio::test]
async fn whole_days_are_days_of_the_calendar() {
    let w = world().await;
    let whole = |day: &str| Activity {
        is_all_day: true,
        due_date: Some(at(day)),
        ..w.activity(ActivityType::Task, "Tidy")
    };
    let kept = w.create(whole("2026-03-05T17:45:00Z")).await;
    assert_eq!(kept.due_date, Some(at("2026-03-05T00:00:00Z")));
    // It is nine in the morning in London, and still yesterday in Honolulu.
    w.create(whole("2026-03-01T00:00:00Z")).await;
    let past = w
        .session
        .activities()
        .create(whole("2026-02-28T00:00:00Z"))
        .await;
    assert_eq!(faults(&past.unwrap_err()), [("due_date", codes::PAST)]);
}
