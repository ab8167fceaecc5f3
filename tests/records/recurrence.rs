//! Series of activities (C-015): single occurrences, this and the following, all; across changes of
//! the clock; made activities once, whoever does it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use crm_engine::activities::{
    ActivitySeries, ActivityStatus, LocalDateTime, Recurrence, SeriesOccurrence,
};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;

struct World {
    session: Session,
    clock: Arc<ManualClock>,
    admin: Id<User>,
    deal: Id<Deal>,
}

/// A tenant on Friday, 1 January 2027.
async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2027-01-01T12:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
    let onboarded = crm.onboard(onboarding).await.unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    let deal = Deal::new("Rollout", onboarded.pipeline);
    let deal = session.deals().create(deal).await.unwrap();
    World {
        session,
        clock,
        admin: onboarded.admin,
        deal: deal.id,
    }
}

impl World {
    fn activity(&self, kind: ActivityType) -> Activity {
        Activity {
            duration_minutes: Some(30),
            ..Activity::new(kind, "Review", self.deal, self.admin)
        }
    }

    /// Every Monday at nine in Berlin, from 4 January 2027.
    fn weekly(&self, rule: &str) -> ActivitySeries {
        ActivitySeries {
            time_zone: TimeZone::parse("Europe/Berlin").unwrap(),
            ..ActivitySeries::new(
                self.activity(ActivityType::Meeting),
                Recurrence::parse(rule).unwrap(),
                LocalDateTime::parse("2027-01-04T09:00").unwrap(),
            )
        }
    }

    async fn create(&self, series: ActivitySeries) -> Arc<Record<ActivitySeries>> {
        self.session.activity_series().create(series).await.unwrap()
    }

    async fn materialize(&self, until: &str) -> u64 {
        let done = self
            .session
            .activity_series()
            .materialize(at(until), &())
            .await;
        done.unwrap().occurrences
    }

    async fn shown(
        &self,
        series: Id<ActivitySeries>,
        window: Range<DateTime<Utc>>,
    ) -> Vec<SeriesOccurrence> {
        let found = self
            .session
            .activity_series()
            .occurrences(series, &window)
            .await
            .unwrap();
        assert!(found.complete);
        found.items
    }

    async fn starts(&self, series: Id<ActivitySeries>, from: &str, to: &str) -> Vec<String> {
        let items = self.shown(series, at(from)..at(to)).await;
        items.iter().map(|item| text(item.starts_at)).collect()
    }

    /// The live activities of the tenant: their beginning, subject and version.
    async fn activities(&self) -> Vec<(String, String, Id<Activity>)> {
        let find = Find::<Activity>::new()
            .sort(Activity::SCHEDULED_AT.asc())
            .limit(500);
        let page = self.session.activities().find(find).await.unwrap();
        let one = |activity: &Arc<Record<Activity>>| {
            (
                text(activity.scheduled_at.unwrap()),
                activity.subject.clone(),
                activity.id,
            )
        };
        page.items.iter().map(one).collect()
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn text(at: DateTime<Utc>) -> String {
    at.format("%m-%d %H:%M").to_string()
}

const WEEKLY: &str = "FREQ=WEEKLY;BYDAY=MO";

#[tokio::test]
async fn occurrences_keep_the_time_of_the_clock_across_daylight_saving() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    let starts = w
        .starts(series.id, "2027-03-20T00:00:00Z", "2027-04-06T00:00:00Z")
        .await;
    assert_eq!(starts, ["03-22 08:00", "03-29 07:00", "04-05 07:00"]);
    assert_eq!(series.first_at, Some(at("2027-01-04T08:00:00Z")));
    assert_eq!(series.last_at, None);
}

#[tokio::test]
async fn whole_days_stay_on_their_day_across_daylight_saving() {
    let w = world().await;
    let mut series = w.weekly("FREQ=DAILY;COUNT=3");
    series.pattern.is_all_day = true;
    series.starts_at = LocalDateTime::parse("2027-03-27T00:00").unwrap();
    let series = w.create(series).await;
    assert_eq!(w.materialize("2027-04-10T00:00:00Z").await, 3);
    let days: Vec<String> = w.activities().await.into_iter().map(|one| one.0).collect();
    assert_eq!(days, ["03-27 00:00", "03-28 00:00", "03-29 00:00"]);
    let series = w.session.activity_series().get(series.id).await.unwrap();
    assert!(series.is_exhausted);
}

#[tokio::test]
async fn occurrences_become_activities_once() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    w.create(w.weekly("FREQ=DAILY;COUNT=5")).await;
    assert_eq!(w.materialize("2027-02-01T00:00:00Z").await, 4 + 5);
    assert_eq!(w.materialize("2027-02-01T00:00:00Z").await, 0);
    assert_eq!(w.materialize("2027-02-09T00:00:00Z").await, 2);
    assert_eq!(w.activities().await.len(), 11);
    // The window shows activities and computed ones alike.
    let shown = w
        .shown(
            series.id,
            at("2027-01-30T00:00:00Z")..at("2027-02-20T00:00:00Z"),
        )
        .await;
    let known: Vec<bool> = shown.iter().map(|item| item.activity.is_some()).collect();
    assert_eq!(known, [true, true, false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_at_the_same_time_make_each_occurrence_once() {
    let w = world().await;
    for _ in 0..3 {
        w.create(w.weekly("FREQ=DAILY;COUNT=20")).await;
    }
    let runs = (0..4).map(|_| {
        let session = w.session.clone();
        tokio::spawn(async move {
            let until = at("2027-02-01T00:00:00Z");
            session
                .activity_series()
                .materialize(until, &())
                .await
                .unwrap()
        })
    });
    let mut made = 0;
    for run in runs.collect::<Vec<_>>() {
        made += run.await.unwrap().occurrences;
    }
    assert_eq!(made, 60);
    assert_eq!(w.activities().await.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn editors_of_one_occurrence_at_the_same_time_share_one_activity() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    let runs = (0..4).map(|place| {
        let (session, id) = (w.session.clone(), series.id);
        tokio::spawn(async move {
            let key = at("2027-01-11T08:00:00Z");
            let change = move |activity: &mut Activity| activity.tags.push(format!("tag {place}"));
            session
                .activity_series()
                .edit_one(id, key, change)
                .await
                .unwrap()
                .id
        })
    });
    let mut ids = Vec::new();
    for run in runs.collect::<Vec<_>>() {
        ids.push(run.await.unwrap());
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(
        w.session.activities().get(ids[0]).await.unwrap().tags.len(),
        4
    );
}

#[tokio::test]
async fn a_run_stops_when_told_and_goes_on_later() {
    let w = world().await;
    w.create(w.weekly("FREQ=DAILY;COUNT=5")).await;
    w.create(w.weekly("FREQ=DAILY;COUNT=5")).await;
    let stop = |_done: u64, _total: Option<u64>| ControlFlow::Break(());
    let until = at("2027-02-01T00:00:00Z");
    let done = w
        .session
        .activity_series()
        .materialize(until, &stop)
        .await
        .unwrap();
    assert!(done.is_stopped);
    assert_eq!(done.occurrences, 5);
    assert_eq!(w.materialize("2027-02-01T00:00:00Z").await, 5);
    let far = at("2030-01-01T00:00:00Z");
    let error = w
        .session
        .activity_series()
        .materialize(far, &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "too_far_ahead");
}

/// an occurrence is planned by its series, whenever it becomes an activity.
#[tokio::test]
async fn past_occurrences_of_tasks_become_activities() {
    let w = world().await;
    let mut series = w.weekly("FREQ=WEEKLY;COUNT=3");
    series.pattern = w.activity(ActivityType::Task).into();
    w.create(series).await;
    w.clock.set(at("2027-01-13T00:00:00Z"));
    assert_eq!(w.materialize("2027-02-01T00:00:00Z").await, 3);
    let task = w
        .session
        .activities()
        .find_one(Activity::SUBJECT.eq("Review"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(task.due_date, Some(at("2027-01-04T08:30:00Z")));
}

#[tokio::test]
async fn a_moved_occurrence_is_at_its_new_time_only() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    let key = at("2027-01-11T08:00:00Z");
    let to = at("2027-01-13T10:00:00Z");
    let mut all = w.session.activity_series();
    let moved = all
        .edit_one(series.id, key, |one| one.scheduled_at = Some(to))
        .await
        .unwrap();
    assert!(moved.occurrence.is_individual);
    assert_eq!(moved.occurrence.occurrence_at, Some(key));
    let window = ("2027-01-10T00:00:00Z", "2027-01-20T00:00:00Z");
    assert_eq!(
        w.starts(series.id, window.0, window.1).await,
        ["01-13 10:00", "01-18 08:00"]
    );
    // Also where only one of the two times is in the window, and once all are activities.
    assert!(
        w.starts(series.id, "2027-01-11T00:00:00Z", "2027-01-12T00:00:00Z")
            .await
            .is_empty()
    );
    assert_eq!(
        w.starts(series.id, "2027-01-13T00:00:00Z", "2027-01-14T00:00:00Z")
            .await,
        ["01-13 10:00"]
    );
    assert_eq!(w.materialize("2027-01-20T00:00:00Z").await, 2);
    assert_eq!(
        w.starts(series.id, window.0, window.1).await,
        ["01-13 10:00", "01-18 08:00"]
    );
    // By its old name it is still found.
    let again = all
        .edit_one(series.id, key, |one| one.subject = "Moved".into())
        .await
        .unwrap();
    assert_eq!(again.id, moved.id);
    let nothing = all.edit_one(series.id, to, |_| {}).await.unwrap_err();
    assert_eq!(nothing.field_errors()[0].code, "no_occurrence");
}

#[tokio::test]
async fn cancelled_and_deleted_occurrences_do_not_come_back() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    let mut all = w.session.activity_series();
    let cancelled = all
        .cancel_one(series.id, at("2027-01-11T08:00:00Z"))
        .await
        .unwrap();
    assert_eq!(cancelled.status, ActivityStatus::Cancelled);
    let deleted = all
        .edit_one(series.id, at("2027-01-18T08:00:00Z"), |_| {})
        .await
        .unwrap();
    w.session.activities().delete(deleted.id).await.unwrap();
    let left = ["01-04 08:00", "01-25 08:00"];
    let window = ("2027-01-01T00:00:00Z", "2027-01-30T00:00:00Z");
    assert_eq!(w.starts(series.id, window.0, window.1).await, left);
    assert_eq!(w.materialize("2027-01-30T00:00:00Z").await, 2);
    assert_eq!(w.starts(series.id, window.0, window.1).await, left);
    // Restored, it is there again.
    w.session.activities().restore(deleted.id).await.unwrap();
    assert_eq!(w.starts(series.id, window.0, window.1).await.len(), 3);
}

#[tokio::test]
async fn a_change_of_all_passes_by_what_is_finished_or_individual() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    w.materialize("2027-02-05T00:00:00Z").await;
    let before = w.activities().await;
    assert_eq!(before.len(), 5);
    w.session
        .activities()
        .complete(before[1].2, None)
        .await
        .unwrap();
    let renamed = |one: &mut Activity| one.subject = "With the board".into();
    w.session
        .activities()
        .update(before[2].2, renamed)
        .await
        .unwrap();
    w.clock.set(at("2027-01-06T00:00:00Z"));
    let change = |series: &mut ActivitySeries| {
        series.pattern.subject = "Weekly".into();
        series.starts_at = LocalDateTime::parse("2027-01-04T11:00").unwrap();
    };
    w.session
        .activity_series()
        .edit_all(series.id, change)
        .await
        .unwrap();
    let after: Vec<(String, String)> = w
        .activities()
        .await
        .into_iter()
        .map(|one| (one.0, one.1))
        .collect();
    let wanted = [
        ("01-04 08:00", "Review"),         // past
        ("01-11 08:00", "Review"),         // done
        ("01-18 08:00", "With the board"), // changed alone
        ("01-25 10:00", "Weekly"),
        ("02-01 10:00", "Weekly"),
    ];
    let wanted: Vec<(String, String)> = wanted
        .iter()
        .map(|(at, subject)| ((*at).to_owned(), (*subject).to_owned()))
        .collect();
    assert_eq!(after, wanted);
}

/// Whatever becomes of one occurrence is about its day: a series that moves to another time of the
/// day does not take place a second time on it, be it an activity already or not.
#[tokio::test]
async fn a_day_does_not_get_a_second_occurrence() {
    let w = world().await;
    let series = ActivitySeries {
        excluded: [at("2027-01-25T08:00:00Z")].into_iter().collect(),
        ..w.weekly(WEEKLY)
    };
    let series = w.create(series).await;
    let mut all = w.session.activity_series();
    // Today's is done, one is cancelled, one deleted; one is left out.
    w.clock.set(at("2027-01-04T09:00:00Z"));
    let monday = |day: &str| at(&format!("2027-{day}T08:00:00Z"));
    let today = all.edit_one(series.id, monday("01-04"), |it| {
        it.subject = "First".into();
    });
    let today = today.await.unwrap().id;
    w.session.activities().complete(today, None).await.unwrap();
    all.cancel_one(series.id, monday("01-11")).await.unwrap();
    let deleted = all.edit_one(series.id, monday("01-18"), |_| {}).await;
    let deleted = deleted.unwrap().id;
    w.session.activities().delete(deleted).await.unwrap();
    for hour in ["17:00", "07:00", "09:00"] {
        let change = |series: &mut ActivitySeries| {
            let starts_at = format!("2027-01-04T{hour}");
            series.starts_at = LocalDateTime::parse(&starts_at).unwrap();
        };
        all.edit_all(series.id, change).await.unwrap();
        let window = ("2027-01-01T00:00:00Z", "2027-02-07T00:00:00Z");
        let starts = w.starts(series.id, window.0, window.1).await;
        let days: Vec<&str> = starts.iter().map(|start| &start[..5]).collect();
        assert_eq!(days, ["01-04", "02-01"], "at {hour}");
    }
    w.materialize("2027-02-05T00:00:00Z").await;
    let live = w.activities().await;
    let starts: Vec<&str> = live.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(starts, ["01-04 08:00", "01-11 08:00", "02-01 08:00"]);
}

#[tokio::test]
async fn a_change_of_the_pattern_alone_keeps_every_activity() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    w.materialize("2027-02-05T00:00:00Z").await;
    let before: Vec<Id<Activity>> = w.activities().await.iter().map(|one| one.2).collect();
    let change = |series: &mut ActivitySeries| series.pattern.location = Some("Room 2".into());
    w.session
        .activity_series()
        .update(series.id, change)
        .await
        .unwrap();
    let find = Find::from(Activity::LOCATION.eq("Room 2"));
    assert_eq!(w.session.activities().count(find).await.unwrap(), 5);
    let after: Vec<Id<Activity>> = w.activities().await.iter().map(|one| one.2).collect();
    assert_eq!(before, after);
    // Another hour moves them, and they stay the same activities.
    let change = |series: &mut ActivitySeries| {
        series.starts_at = LocalDateTime::parse("2027-01-04T10:00").unwrap();
    };
    w.session
        .activity_series()
        .update(series.id, change)
        .await
        .unwrap();
    let after = w.activities().await;
    assert_eq!(before, after.iter().map(|one| one.2).collect::<Vec<_>>());
    assert_eq!(after[0].0, "01-04 09:00");
    // Fewer occurrences: those that are too much go; back again, they are made anew.
    let fortnightly = |series: &mut ActivitySeries| {
        series.recurrence = Recurrence::parse("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO").unwrap();
    };
    w.session
        .activity_series()
        .update(series.id, fortnightly)
        .await
        .unwrap();
    assert_eq!(w.activities().await.len(), 3);
    let weekly =
        |series: &mut ActivitySeries| series.recurrence = Recurrence::parse(WEEKLY).unwrap();
    w.session
        .activity_series()
        .update(series.id, weekly)
        .await
        .unwrap();
    assert_eq!(w.activities().await.len(), 5);
}

#[tokio::test]
async fn this_and_the_following_become_a_series_of_their_own() {
    let w = world().await;
    let series = w.create(w.weekly("FREQ=WEEKLY;BYDAY=MO;COUNT=8")).await;
    w.materialize("2027-02-05T00:00:00Z").await;
    let before = w.activities().await;
    let renamed = |one: &mut Activity| one.subject = "With the board".into();
    w.session
        .activities()
        .update(before[3].2, renamed)
        .await
        .unwrap();
    w.session.activities().delete(before[4].2).await.unwrap();
    let split = at("2027-01-18T08:00:00Z");
    let mut all = w.session.activity_series();
    let next = all
        .edit_following(series.id, split, |series| {
            series.starts_at = LocalDateTime::parse("2027-01-18T10:00").unwrap();
        })
        .await
        .unwrap();
    assert_ne!(next.id, series.id);
    assert_eq!(next.recurrence.as_str(), "FREQ=WEEKLY;COUNT=6;BYDAY=MO");
    let window = ("2027-01-01T00:00:00Z", "2027-03-30T00:00:00Z");
    assert_eq!(
        w.starts(series.id, window.0, window.1).await,
        ["01-04 08:00", "01-11 08:00"]
    );
    assert_eq!(
        w.starts(next.id, window.0, window.1).await,
        [
            "01-18 09:00",
            "01-25 08:00", // changed alone: the one of that day
            "02-08 09:00", // that of 1 February was deleted
            "02-15 09:00",
            "02-22 09:00"
        ]
    );
    // The same activity at its new time, and the one changed alone as it was left.
    let moved = w.session.activities().get(before[2].2).await.unwrap();
    assert_eq!(moved.scheduled_at, Some(at("2027-01-18T09:00:00Z")));
    assert_eq!(moved.occurrence.series_id, Some(next.id));
    let individual = w.session.activities().get(before[3].2).await.unwrap();
    assert_eq!(individual.occurrence.series_id, Some(next.id));
    assert_eq!(individual.subject, "With the board");
    // From its first occurrence on, it is the series itself.
    let same = all
        .edit_following(series.id, at("2027-01-04T08:00:00Z"), |series| {
            series.pattern.subject = "Start".into();
        })
        .await
        .unwrap();
    assert_eq!(same.id, series.id);
}

#[tokio::test]
async fn cancelling_the_following_ends_a_series() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    w.materialize("2027-02-05T00:00:00Z").await;
    let mut all = w.session.activity_series();
    all.cancel_following(series.id, at("2027-01-18T08:00:00Z"))
        .await
        .unwrap();
    let window = ("2027-01-01T00:00:00Z", "2027-12-30T00:00:00Z");
    assert_eq!(
        w.starts(series.id, window.0, window.1).await,
        ["01-04 08:00", "01-11 08:00"]
    );
    let cancelled = Activity::STATUS.eq(ActivityStatus::Cancelled);
    assert_eq!(w.session.activities().count(cancelled).await.unwrap(), 3);
    let series = all.get(series.id).await.unwrap();
    assert_eq!(series.last_at, Some(at("2027-01-11T08:00:00Z")));
    all.cancel_following(series.id, at("2027-01-04T08:00:00Z"))
        .await
        .unwrap();
    assert!(matches!(
        all.get(series.id).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_deleted_series_leaves_what_happened() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    w.materialize("2027-02-05T00:00:00Z").await;
    let all = w.activities().await;
    w.session
        .activities()
        .complete(all[2].2, None)
        .await
        .unwrap();
    w.clock.set(at("2027-01-06T00:00:00Z"));
    w.session
        .activity_series()
        .delete_all(series.id)
        .await
        .unwrap();
    let left = w.activities().await;
    let starts: Vec<&str> = left.iter().map(|one| one.0.as_str()).collect();
    assert_eq!(starts, ["01-04 08:00", "01-18 08:00"]);
    let done = w.session.activities().get(all[2].2).await.unwrap();
    assert_eq!(done.occurrence.series_id, None);
}

#[tokio::test]
async fn a_user_sees_what_is_the_users_to_do() {
    let w = world().await;
    let grace = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    let grace = w.session.users().create(grace).await.unwrap().id;
    let mut of_grace = w.weekly("FREQ=DAILY;COUNT=2");
    of_grace.pattern.assigned_to = Some(grace);
    w.create(of_grace).await;
    let own = w.create(w.weekly(WEEKLY)).await;
    let mut all = w.session.activity_series();
    let give = |one: &mut Activity| one.assigned_to = Some(grace);
    all.edit_one(own.id, at("2027-01-11T08:00:00Z"), give)
        .await
        .unwrap();
    let window = at("2027-01-01T00:00:00Z")..at("2027-01-20T00:00:00Z");
    let starts = |found: crm_engine::activities::SeriesOccurrences| -> Vec<String> {
        found
            .items
            .iter()
            .map(|item| text(item.starts_at))
            .collect()
    };
    let ada = all.occurrences_of(w.admin, &window).await.unwrap();
    assert_eq!(starts(ada), ["01-04 08:00", "01-18 08:00"]);
    let grace = all.occurrences_of(grace, &window).await.unwrap();
    assert_eq!(starts(grace), ["01-04 08:00", "01-05 08:00", "01-11 08:00"]);
}

#[tokio::test]
async fn what_cannot_be_a_series_is_refused_field_by_field() {
    let w = world().await;
    let mut series = w.weekly("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30");
    let never = w
        .session
        .activity_series()
        .create(series.clone())
        .await
        .unwrap_err();
    assert_eq!(never.field_errors()[0].path, "recurrence");
    assert_eq!(never.field_errors()[0].code, "never_occurs");
    series.recurrence = Recurrence::parse(WEEKLY).unwrap();
    series.pattern.is_all_day = true;
    let error = w
        .session
        .activity_series()
        .create(series)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "starts_at");
    let json = serde_json::json!({
        "activity_type": "call", "subject": "Ask", "owner_id": w.admin, "deal_id": w.deal,
        "recurrence": "FREQ=SECONDLY", "starts_at": "tomorrow", "excluded": ["x"],
    });
    let error = w
        .session
        .activity_series()
        .create_json(json.as_object().unwrap())
        .await
        .unwrap_err();
    let paths: Vec<&str> = error
        .field_errors()
        .iter()
        .map(|fault| fault.path.as_str())
        .collect();
    assert!(
        paths.contains(&"starts_at") && paths.contains(&"excluded"),
        "{paths:?}"
    );
}

/// What is said of an activity of a series is written by the engine alone.
#[tokio::test]
async fn nobody_else_makes_an_activity_an_occurrence() {
    let w = world().await;
    let series = w.create(w.weekly(WEEKLY)).await;
    let mut forged = w.activity(ActivityType::Meeting);
    forged.occurrence.series_id = Some(series.id);
    let error = w.session.activities().create(forged).await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
}
