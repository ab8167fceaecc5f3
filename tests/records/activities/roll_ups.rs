//! What linked records tell of their activities, whatever happens to them.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::error::codes;
use crm_engine::prelude::*;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Map, Value as Json, json};

use super::{World, at, faults, world};

/// Linked records know when something was last done with them and what is next; only links count.
#[tokio::test]
async fn linked_records_follow_their_activities() {
    let w = world().await;
    let mut activities = w.session.activities();
    let hank = Contact {
        account_id: Some(w.account),
        ..Contact::named("Hank", "Scorpio")
    };
    let hank = w.session.contacts().create(hank).await.unwrap().id;
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.pipeline))
        .await
        .unwrap()
        .id;
    let lead = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let lead = w.session.leads().create(lead).await.unwrap().id;
    let call = Activity {
        scheduled_at: Some(at("2026-03-05T10:00:00Z")),
        ..Activity::new(ActivityType::Call, "Ask", hank, w.owner)
    };
    let call = w.create(call).await;
    let contact = async || w.session.contacts().get(hank).await.unwrap();
    assert_eq!(
        contact().await.next_activity_at,
        Some(at("2026-03-05T10:00:00Z"))
    );
    // Told by the trail, as a change of the contact.
    let event = w.session.audit().trail(hank).await.unwrap().pop().unwrap();
    assert_eq!((event.record_version, contact().await.version), (2, 2));
    // The contact's account is not touched: the call is not linked to it.
    assert_eq!(
        w.session.accounts().get(w.account).await.unwrap().version,
        1
    );

    w.clock.advance(TimeDelta::hours(1));
    activities.complete(call.id, None).await.unwrap();
    let known = contact().await;
    assert_eq!(known.next_activity_at, None);
    assert_eq!(known.last_activity_at, Some(at("2026-03-02T10:00:00Z")));
    assert_eq!(known.last_contacted_at, Some(at("2026-03-02T10:00:00Z")));
    w.clock.advance(TimeDelta::hours(1));
    let note = Activity {
        status: ActivityStatus::Completed,
        ..Activity::new(ActivityType::Note, "Likes tea", hank, w.owner)
    };
    let note = w.create(note).await;
    let known = contact().await;
    assert_eq!(known.last_activity_at, Some(at("2026-03-02T11:00:00Z")));
    assert_eq!(known.last_contacted_at, Some(at("2026-03-02T10:00:00Z")));

    // Moved to a deal and a lead.
    let moved = activities
        .update(note.id, |note| {
            note.links = ActivityLinks {
                lead_id: Some(lead),
                ..ActivityLinks::from(deal)
            };
        })
        .await;
    moved.unwrap();
    assert_eq!(
        contact().await.last_activity_at,
        Some(at("2026-03-02T10:00:00Z"))
    );
    let latest = Some(at("2026-03-02T11:00:00Z"));
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        latest
    );
    assert_eq!(
        w.session.leads().get(lead).await.unwrap().last_activity_at,
        latest
    );
    activities.delete(note.id).await.unwrap();
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        None
    );
    activities.restore(note.id).await.unwrap();
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        latest
    );
    // What has no time changes nothing.
    let version = contact().await.version;
    w.create(Activity::new(ActivityType::Task, "Some day", hank, w.owner))
        .await;
    assert_eq!(contact().await.version, version);
    // Nobody else writes these fields.
    let now = w.clock.clone();
    let forge = |contact: &mut Contact| {
        contact.last_activity_at = Some(crm_engine::engine::Clock::now(&*now));
    };
    let error = w.session.contacts().update(hank, forge).await.unwrap_err();
    assert_eq!(faults(&error), [("last_activity_at", codes::READ_ONLY)]);
    for wrong in [
        activities.recompute(hank).await.unwrap(),
        activities.recompute(deal).await.unwrap(),
        activities.recompute(w.account).await.unwrap(),
    ] {
        assert!(!wrong);
    }
    let error = activities.recompute(w.owner).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
}

/// A step of the property below; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create {
        links: u8,
        kind: u8,
        status: u8,
        hour: Option<u8>,
        due: Option<u8>,
    },
    Move {
        which: u8,
        links: u8,
    },
    Reschedule {
        which: u8,
        hour: Option<u8>,
        due: Option<u8>,
    },
    SetStatus {
        which: u8,
        status: u8,
    },
    SetKind {
        which: u8,
        kind: u8,
    },
    Delete(u8),
    Restore(u8),
    Archive(u8),
    Unarchive(u8),
    DeleteRecord(u8),
    RestoreRecord(u8),
}

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let hour = || prop::option::of(1_u8..100);
    let step = prop_oneof![
        4 => (any::<u8>(), any::<u8>(), any::<u8>(), hour(), hour())
            .prop_map(|(links, kind, status, hour, due)| Step::Create { links, kind, status, hour, due }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(which, links)| Step::Move { which, links }),
        2 => (any::<u8>(), hour(), hour())
            .prop_map(|(which, hour, due)| Step::Reschedule { which, hour, due }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(which, status)| Step::SetStatus { which, status }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(which, kind)| Step::SetKind { which, kind }),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::Restore),
        1 => any::<u8>().prop_map(Step::Archive),
        1 => any::<u8>().prop_map(Step::Unarchive),
        1 => any::<u8>().prop_map(Step::DeleteRecord),
        1 => any::<u8>().prop_map(Step::RestoreRecord),
    ];
    // Now and then the unit of work is committed.
    prop::collection::vec((step, prop::bool::weighted(0.6)), 1..30)
}

struct Linked {
    accounts: [Id<Account>; 2],
    contact: Id<Contact>,
    deal: Id<Deal>,
    lead: Id<Lead>,
}

impl Linked {
    fn links(&self, bits: u8) -> ActivityLinks {
        let mut links = ActivityLinks {
            account_id: (bits & 1 != 0).then_some(self.accounts[usize::from(bits >> 7)]),
            contact_id: (bits & 2 != 0).then_some(self.contact),
            deal_id: (bits & 4 != 0).then_some(self.deal),
            lead_id: (bits & 8 != 0).then_some(self.lead),
            ..ActivityLinks::default()
        };
        if links.is_empty() {
            links.contact_id = Some(self.contact);
        }
        links
    }

    fn records(&self) -> [EntityRef; 5] {
        [
            self.accounts[0].into(),
            self.accounts[1].into(),
            self.contact.into(),
            self.deal.into(),
            self.lead.into(),
        ]
    }
}

fn pick<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}

async fn apply(
    work: &mut UnitOfWork,
    w: &World,
    linked: &Linked,
    ids: &mut Vec<Id<Activity>>,
    step: &Step,
) -> Result<()> {
    let hour = |hours: Option<u8>| {
        hours.map(|hours| at("2026-03-10T00:00:00Z") + TimeDelta::hours(hours.into()))
    };
    let which = |number: u8| -> Result<Id<Activity>> {
        match ids.len() {
            0 => Err(Error::Forbidden {
                reason: "there is none".into(),
            }),
            _ => Ok(pick(ids, number)),
        }
    };
    match step.clone() {
        Step::Create {
            links,
            kind,
            status,
            hour: begins,
            due,
        } => {
            let activity = Activity {
                status: pick(ActivityStatus::ALL, status),
                scheduled_at: hour(begins),
                due_date: hour(due),
                ..Activity::new(
                    pick(ActivityType::ALL, kind),
                    "x",
                    linked.links(links),
                    w.owner,
                )
            };
            ids.push(work.activities().create(activity).await?.id);
        }
        Step::Move {
            which: number,
            links,
        } => {
            let links = linked.links(links);
            let change = |activity: &mut Activity| activity.links = links.clone();
            work.activities().update(which(number)?, change).await?;
        }
        Step::Reschedule {
            which: number,
            hour: begins,
            due,
        } => {
            let (begins, due) = (hour(begins), hour(due));
            let change = |activity: &mut Activity| {
                activity.scheduled_at = begins;
                activity.due_date = due;
            };
            work.activities().update(which(number)?, change).await?;
        }
        Step::SetStatus {
            which: number,
            status,
        } => {
            let status = pick(ActivityStatus::ALL, status);
            let change = |activity: &mut Activity| activity.status = status;
            work.activities().update(which(number)?, change).await?;
        }
        Step::SetKind {
            which: number,
            kind,
        } => {
            let kind = pick(ActivityType::ALL, kind);
            let change = |activity: &mut Activity| activity.activity_type = kind;
            work.activities().update(which(number)?, change).await?;
        }
        Step::Delete(number) => work.activities().delete(which(number)?).await?,
        Step::Restore(number) => drop(work.activities().restore(which(number)?).await?),
        Step::Archive(number) => drop(work.activities().archive(which(number)?).await?),
        Step::Unarchive(number) => drop(work.activities().unarchive(which(number)?).await?),
        Step::DeleteRecord(number) => match number % 5 {
            0 | 1 => {
                work.accounts()
                    .delete(linked.accounts[usize::from(number % 5)])
                    .await?;
            }
            2 => work.contacts().delete(linked.contact).await?,
            3 => work.deals().delete(linked.deal).await?,
            _ => work.leads().delete(linked.lead).await?,
        },
        Step::RestoreRecord(number) => match number % 5 {
            0 | 1 => drop(
                work.accounts()
                    .restore(linked.accounts[usize::from(number % 5)])
                    .await?,
            ),
            2 => drop(work.contacts().restore(linked.contact).await?),
            3 => drop(work.deals().restore(linked.deal).await?),
            _ => drop(work.leads().restore(linked.lead).await?),
        },
    }
    Ok(())
}

/// What a record should know, worked out from all activities.
async fn expected(session: &Session, record: &EntityRef) -> Map<String, Json> {
    let find = Find::new().with_archived().limit(1_000);
    let all = session.activities().find(find).await.unwrap().items;
    let link = format!("{}_id", record.object);
    let mine = || {
        let all = all.iter().filter(|one| {
            let row: crm_engine::schema::Row = (*one).clone();
            row.get(&link).as_uuid() == Some(record.id)
        });
        all.cloned()
    };
    let contact = [
        ActivityType::Call,
        ActivityType::Email,
        ActivityType::Meeting,
    ];
    let last = mine().filter_map(|one| one.completed_at).max();
    let contacted = mine().filter(|one| contact.contains(&one.activity_type));
    let contacted = contacted.filter_map(|one| one.completed_at).max();
    let open = mine().filter(|one| !one.status.is_finished() && one.archived_at.is_none());
    let next = open
        .filter_map(|one| one.scheduled_at.or(one.due_date))
        .min();
    let mut expected = Map::new();
    expected.insert("last_activity_at".into(), json!(last));
    expected.insert("next_activity_at".into(), json!(next));
    if record.object == "contact" {
        expected.insert("last_contacted_at".into(), json!(contacted));
    }
    expected
}

async fn assert_rolled_up(session: &Session, linked: &Linked) {
    for record in linked.records() {
        let object = session.object(&record.object).await.unwrap();
        let Ok(row) = object.get(record.id).await else {
            continue;
        };
        let expected = expected(session, &record).await;
        for (field, value) in expected {
            let stored: Option<DateTime<Utc>> =
                serde_json::from_value(row.get(&field).to_json()).unwrap();
            let wanted: Option<DateTime<Utc>> = serde_json::from_value(value).unwrap();
            assert_eq!(stored, wanted, "{field} of the {}", record.object);
        }
    }
}

async fn linked(w: &World) -> Linked {
    let second = w
        .session
        .accounts()
        .create(Account::new("Initech"))
        .await
        .unwrap()
        .id;
    let lead = Lead {
        company: Some("Hooli".into()),
        ..Lead::default()
    };
    Linked {
        accounts: [w.account, second],
        contact: w.contact("Hank").await,
        deal: w
            .session
            .deals()
            .create(Deal::new("Rollout", w.pipeline))
            .await
            .unwrap()
            .id,
        lead: w.session.leads().create(lead).await.unwrap().id,
    }
}

async fn run(steps: Vec<(Step, bool)>) {
    let w = world().await;
    let linked = linked(&w).await;
    let mut ids = Vec::new();
    let mut work = w.session.begin();
    for (step, commits) in steps {
        let _refused = apply(&mut work, &w, &linked, &mut ids, &step).await;
        if commits {
            let done = std::mem::replace(&mut work, w.session.begin());
            let _refused = done.commit().await;
            w.clock.advance(TimeDelta::minutes(7));
            work = w.session.begin();
            assert_rolled_up(&w.session, &linked).await;
        }
    }
    let _refused = work.commit().await;
    assert_rolled_up(&w.session, &linked).await;
    for record in linked.records() {
        if let Ok(was_wrong) = w.session.activities().recompute(record.clone()).await {
            assert!(!was_wrong, "{record:?}");
        }
    }
}

/// As many cases as `PROPTEST_CASES` says, else as many as are done in good time.
fn cases() -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    let is_postgres = std::env::var("CRM_TEST_STORAGE").is_ok_and(|it| it == "postgres");
    let usual = if is_postgres { 10 } else { 96 };
    said.map_or(usual, |number| number.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// After any sequence of operations, linked records know what their activities say.
    #[test]
    fn roll_ups_equal_what_is_worked_out_anew(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// Two who count and two who take away at the same time: what is left is told.
#[tokio::test(flavor = "multi_thread")]
async fn roll_ups_are_right_under_concurrency() {
    let w = world().await;
    let linked = Arc::new(linked(&w).await);
    let tasks: Vec<_> = (0_u8..6)
        .map(|task| {
            let (session, linked, owner) = (w.session.clone(), linked.clone(), w.owner);
            tokio::spawn(async move {
                for round in 0_u8..8 {
                    let hour = (i64::from(task) * 37 + i64::from(round) * 11) % 50;
                    let activity = Activity {
                        scheduled_at: Some(at("2026-03-10T00:00:00Z") + TimeDelta::hours(hour)),
                        ..Activity::new(ActivityType::Call, "x", linked.links(task | 2), owner)
                    };
                    let mut activities = session.activities();
                    let id = activities.create(activity).await.unwrap().id;
                    match (task + round) % 3 {
                        0 => activities.delete(id).await.unwrap(),
                        1 => drop(activities.complete(id, None).await.unwrap()),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_rolled_up(&w.session, &linked).await;
}
