//! The lists of a user: overdue, today, and what comes.

use crm_engine::activities::ActivityCounts;
use crm_engine::error::codes;
use crm_engine::prelude::*;

use super::{at, faults, world};

/// The lists of a user, by the days of the user's time zone.
#[tokio::test]
async fn lists_go_by_the_users_days() {
    let w = world().await;
    // In Apia it is Monday, 22:00.
    let sina = w.user("sina@acme.example", "Pacific/Apia").await;
    let tom = w.user("tom@acme.example", "America/Los_Angeles").await;
    let task = |subject: &str, due: &str| Activity {
        due_date: Some(at(due)),
        assigned_to: Some(sina),
        ..w.activity(ActivityType::Task, subject)
    };
    w.create(task("tonight", "2026-03-02T10:30:00Z")).await;
    w.create(task("after midnight", "2026-03-02T11:00:00Z"))
        .await;
    w.create(task("in a week", "2026-03-09T10:59:59Z")).await;
    w.create(task("in eight days", "2026-03-09T11:00:00Z"))
        .await;
    w.create(Activity {
        is_all_day: true,
        ..task("all Monday", "2026-03-02T00:00:00Z")
    })
    .await;
    w.create(Activity {
        is_all_day: true,
        ..task("all Tuesday", "2026-03-03T00:00:00Z")
    })
    .await;
    w.create(Activity {
        status: ActivityStatus::Completed,
        ..task("done", "2026-03-02T10:30:00Z")
    })
    .await;
    let archived = w.create(task("archived", "2026-03-02T10:30:00Z")).await;
    w.session.activities().archive(archived.id).await.unwrap();
    let meeting = Activity {
        due_date: None,
        scheduled_at: Some(at("2026-03-02T10:15:00Z")),
        ..task("meeting", "2026-03-02T10:15:00Z")
    };
    w.create(meeting).await;
    // Given to somebody else, or owned and given to nobody.
    w.create(Activity {
        assigned_to: Some(tom),
        owner_id: sina,
        ..task("tom's", "2026-03-02T10:30:00Z")
    })
    .await;
    w.create(Activity {
        assigned_to: None,
        owner_id: sina,
        ..task("own", "2026-03-02T10:40:00Z")
    })
    .await;

    let names = async |user: Id<User>, list: ActivityList| {
        let page = w
            .session
            .activities()
            .list(user, list, 50, None)
            .await
            .unwrap();
        page.items
            .iter()
            .map(|one| one.subject.clone())
            .collect::<Vec<_>>()
    };
    let week = ActivityList::Upcoming { days: 7 };
    assert_eq!(
        names(sina, ActivityList::Overdue).await,
        Vec::<String>::new()
    );
    assert_eq!(
        names(sina, ActivityList::Today).await,
        ["meeting", "all Monday", "tonight", "own"]
    );
    assert_eq!(
        names(sina, week).await,
        ["after midnight", "all Tuesday", "in a week"]
    );
    let counts = w.session.activities().list_counts(sina, 7).await.unwrap();
    assert_eq!(
        counts,
        ActivityCounts {
            overdue: 0,
            today: 4,
            upcoming: 3
        }
    );
    // In Los Angeles it is one in the morning of Monday.
    assert_eq!(names(tom, ActivityList::Today).await, ["tom's"]);

    // It is Tuesday in Apia; the whole Monday is over there.
    w.clock.set(at("2026-03-02T11:00:01Z"));
    assert_eq!(
        names(sina, ActivityList::Overdue).await,
        ["all Monday", "tonight", "own", "after midnight", "meeting"]
    );
    assert_eq!(
        names(sina, ActivityList::Today).await,
        ["after midnight", "all Tuesday"]
    );

    let activities = w.session.activities();
    let mut paged = Vec::new();
    let mut page = activities.overdue(sina, 2, None).await.unwrap();
    loop {
        paged.extend(page.items.iter().map(|one| one.subject.clone()));
        let Some(next) = page.next else { break };
        page = activities.overdue(sina, 2, Some(next)).await.unwrap();
    }
    assert_eq!(paged, names(sina, ActivityList::Overdue).await);
    assert_eq!(
        activities.today(sina, 10, None).await.unwrap().items.len(),
        2
    );
    assert_eq!(
        activities
            .upcoming(sina, 7, 10, None)
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    let error = activities
        .upcoming(sina, u32::MAX, 10, None)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("days", codes::OUT_OF_RANGE)]);
    let error = activities
        .today(Id::new(uuid::Uuid::from_u128(3)), 10, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
}
