//! activities belong to records of any object.

use crm_engine::activities::{ActivityLinks, LocalDateTime, Recurrence};
use crm_engine::custom_objects::CustomObject;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::schema::ValueRef;
use serde_json::{Map, json};
use uuid::Uuid;

use super::{define, make, office};
use crate::common::{self, Property};

fn task(links: impl Into<ActivityLinks>, owner: Id<User>) -> Activity {
    Activity::new(ActivityType::Task, "Ask", links, owner)
}

fn paths(error: &Error) -> Vec<(&str, &str)> {
    let faults = error.field_errors().iter();
    faults
        .map(|fault| (fault.path.as_str(), fault.code))
        .collect()
}

#[tokio::test]
async fn activities_belong_to_records_of_any_object() {
    let crm = common::crm();
    let (acme, session) = office(&crm, "acme").await;
    let owner = acme.admin;
    let bridge = make(&session, "project", json!({"name": "Bridge"})).await;
    let bridge = EntityRef::new("project", bridge.id());
    let house = Property::new("B-17");
    let house = session.records::<Property>().create(house).await.unwrap();
    let globex = session.accounts().create(Account::new("Globex")).await;
    let globex = globex.unwrap().id;

    let mut activities = session.activities();
    let first = activities
        .create(task(bridge.clone(), owner))
        .await
        .unwrap();
    assert_eq!(first.links.related(), Some(bridge.clone()));
    let second = ActivityLinks {
        account_id: Some(globex),
        ..ActivityLinks::from(bridge.clone())
    };
    let second = activities.create(task(second, owner)).await.unwrap();
    let of_house = EntityRef::from(house.id);
    let third = activities.create(task(of_house.clone(), owner)).await;
    let third = third.unwrap();
    let by_account = EntityRef::from(globex);
    let fourth = activities.create(task(by_account.clone(), owner)).await;
    let fourth = fourth.unwrap();
    assert_eq!(fourth.links.account_id, Some(globex));

    for (record, known) in [
        (bridge.clone(), vec![second.id, first.id]),
        (of_house, vec![third.id]),
        (by_account, vec![fourth.id, second.id]),
        (EntityRef::new("account", bridge.id), vec![]),
        (EntityRef::new("project", globex), vec![]),
    ] {
        let page = activities.of(record.clone(), None).await.unwrap();
        let mut found: Vec<_> = page.items.iter().map(|it| it.id).collect();
        let mut known = known;
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known, "{record:?}");
    }

    // What is linked is there, and named as a whole.
    let related = |object: Option<&str>, id| ActivityLinks {
        related_object: object.map(str::to_owned),
        related_id: id,
        ..ActivityLinks::default()
    };
    for (links, fault) in [
        (related(Some("project"), None), ("related_id", "required")),
        (
            related(None, Some(bridge.id)),
            ("related_object", "required"),
        ),
        (
            related(Some("account"), Some(globex.uuid())),
            ("related_object", "inconsistent"),
        ),
        (
            related(Some("project"), Some(globex.uuid())),
            ("related_id", "not_found"),
        ),
        (
            related(Some("nothing"), Some(bridge.id)),
            ("related_id", "not_found"),
        ),
    ] {
        let refused = activities.create(task(links.clone(), owner)).await;
        let refused = refused.unwrap_err();
        assert!(paths(&refused).contains(&fault), "{refused:?}");
    }
    let refused = activities
        .create(task(ActivityLinks::default(), owner))
        .await;
    assert_eq!(paths(&refused.unwrap_err()).len(), 4);

    // A series, and a template that names fields of the record.
    let monday = LocalDateTime::parse("2100-01-04T09:00").unwrap();
    let weekly = Recurrence::parse("FREQ=WEEKLY;COUNT=2").unwrap();
    let series = crm_engine::activities::ActivitySeries::new(
        Activity::new(ActivityType::Meeting, "Review", bridge.clone(), owner),
        weekly,
        monday,
    );
    let series = session.activity_series().create(series).await.unwrap();
    assert_eq!(series.pattern.links.related(), Some(bridge.clone()));
    let template = ActivityTemplate {
        subject_template: Some("Look at {{ project.name }}".into()),
        ..ActivityTemplate::new("Look", ActivityType::Task)
    };
    let template = session.activity_templates().create(template).await.unwrap();
    let made = session
        .activities()
        .from_template(template.id, bridge.clone(), &Map::new())
        .await
        .unwrap();
    assert_eq!(made.subject, "Look at Bridge");
}

#[tokio::test]
async fn activities_follow_what_becomes_of_the_record() {
    let crm = common::crm();
    let (acme, session) = office(&crm, "acme").await;
    let owner = acme.admin;
    let globex = session.accounts().create(Account::new("Globex")).await;
    let globex = globex.unwrap().id;
    let bridge = make(&session, "project", json!({"name": "Bridge"}))
        .await
        .id();
    let double = make(&session, "project", json!({"name": "Bridge 2"}))
        .await
        .id();
    let of = |id: Uuid| EntityRef::new("project", id);
    let mut activities = session.activities();
    let only = activities.create(task(of(double), owner)).await.unwrap();
    let both = ActivityLinks {
        account_id: Some(globex),
        ..ActivityLinks::from(of(double))
    };
    let both = activities.create(task(both, owner)).await.unwrap();

    // A merge takes them along, and back.
    let mut projects = session.object("project").await.unwrap();
    let merged = projects
        .merge_into(bridge, &[double], &Choices::new(), Some("the same"))
        .await
        .unwrap();
    let there = session.activities().of(of(bridge), None).await.unwrap();
    assert_eq!(there.items.len(), 2);
    session.merges().undo(merged.merges[0]).await.unwrap();
    let there = session.activities().of(of(bridge), None).await.unwrap();
    assert!(there.items.is_empty());

    // An activity that belongs to nothing else goes with the record and comes back with it.
    let mut projects = session.object("project").await.unwrap();
    projects.delete(double).await.unwrap();
    let gone = session.activities().get(only.id).await.unwrap_err();
    assert_eq!(gone.code(), "not_found");
    let kept = session.activities().get(both.id).await.unwrap();
    assert_eq!(kept.links, ActivityLinks::from(globex));
    projects.restore(double).await.unwrap();
    let back = session.activities().get(only.id).await.unwrap();
    assert_eq!(back.links.related(), Some(of(double)));
    projects.delete(double).await.unwrap();
    projects.purge(double).await.unwrap();
    let gone = session.activities().get(only.id).await.unwrap_err();
    assert_eq!(gone.code(), "not_found");
}

///
#[tokio::test]
async fn an_object_may_refuse_activities() {
    let crm = common::crm();
    let (acme, session) = common::tenant(&crm, "acme").await;
    let ledger = define(&session, "ledger").await;
    let entry = make(&session, "ledger", json!({"name": "2026"})).await.id();
    let entry = EntityRef::new("ledger", entry);
    let mut activities = session.activities();
    let known = activities.create(task(entry.clone(), acme.admin)).await;
    let known = known.unwrap();
    session
        .records::<CustomObject>()
        .update(ledger.id, |object| object.allow_activities = false)
        .await
        .unwrap();
    let refused = activities.create(task(entry.clone(), acme.admin)).await;
    assert_eq!(
        paths(&refused.unwrap_err()),
        [("related_object", "inconsistent")]
    );
    // What there is stays, and is gone on with.
    let done = activities.complete(known.id, Some("done")).await.unwrap();
    assert_eq!(done.links.related(), Some(entry));
}

/// R-050 on custom objects: a record knows when something was last done about it and what is next, in
/// the commit of the activity, through its archive and back.
#[tokio::test]
async fn custom_records_know_of_their_activities() {
    let crm = common::crm();
    let (acme, session) = office(&crm, "acme").await;
    let owner = acme.admin;
    let bridge = make(&session, "project", json!({"name": "Bridge"}))
        .await
        .id();
    let tunnel = make(&session, "project", json!({"name": "Tunnel"}))
        .await
        .id();
    let known = async |id: Uuid| {
        let project = session
            .object("project")
            .await
            .unwrap()
            .get(id)
            .await
            .unwrap();
        let at = |name: &str| match project.get(name) {
            ValueRef::Timestamp(at) => Some(at),
            _ => None,
        };
        (at("last_activity_at"), at("next_activity_at"))
    };
    let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let due = at("2100-01-04T09:00:00Z");
    let call = |id: Uuid| Activity {
        due_date: Some(due),
        ..task(EntityRef::new("project", id), owner)
    };
    let mut activities = session.activities();
    let first = activities.create(call(bridge)).await.unwrap().id;
    assert_eq!(known(bridge).await, (None, Some(due)));
    assert_eq!(known(tunnel).await, (None, None));
    let done = activities.complete(first, None).await.unwrap();
    assert_eq!(known(bridge).await, (done.completed_at, None));

    // It moves to another record, and is deleted.
    let moved = |activity: &mut Activity| activity.links.related_id = Some(tunnel);
    activities.update(first, moved).await.unwrap();
    assert_eq!(known(bridge).await, (None, None));
    assert_eq!(known(tunnel).await, (done.completed_at, None));
    activities.delete(first).await.unwrap();
    assert_eq!(known(tunnel).await, (None, None));
    activities.restore(first).await.unwrap();

    // What happens to activities while the record is deleted is known when it is back.
    let second = activities.create(call(tunnel)).await.unwrap().id;
    let mut projects = session.object("project").await.unwrap();
    projects.delete(tunnel).await.unwrap();
    projects.restore(tunnel).await.unwrap();
    assert_eq!(known(tunnel).await, (done.completed_at, Some(due)));
    activities.delete(second).await.unwrap();
    assert_eq!(known(tunnel).await, (done.completed_at, None));
    let record = EntityRef::new("project", tunnel);
    assert!(!activities.recompute(record).await.unwrap());
    let rebuilt = activities.rebuild_roll_ups(&()).await.unwrap();
    assert_eq!((rebuilt.records, rebuilt.mended), (1, 0));

    // Nobody else writes them, and lists are sorted by them.
    let projects = session.object("project").await.unwrap();
    let version = projects.get(tunnel).await.unwrap().version();
    let patch = json!({"last_activity_at": "2026-01-01T00:00:00Z"});
    let mut projects = session.object("project").await.unwrap();
    let refused = projects
        .merge(tunnel, version, patch.as_object().unwrap())
        .await;
    assert_eq!(
        paths(&refused.unwrap_err()),
        [("last_activity_at", "read_only")]
    );
    let sorted: Find<()> = serde_json::from_value(json!({"sort": ["last_activity_at"]})).unwrap();
    let page = projects.find(&sorted).await.unwrap();
    assert_eq!(page.items[0].id(), tunnel);
}
