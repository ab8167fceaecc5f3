//! Commits that are undone, and undone commits that are undone.

use std::collections::BTreeSet;

use crm_engine::audit::{ObstacleReason, UndoReport};
use crm_engine::custom_objects::{CustomField, CustomFieldType};
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::Where;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::{Office, account, api_name, last_commit, members, projects, rename, staged};
use crate::common::{assert_trail_tells_every_record, populate};

async fn undo(session: &Session, commit: Uuid) -> Uuid {
    let report = session.audit().undo_commit(commit).await.unwrap();
    assert!(report.is_complete(), "{:?}", report.obstacles);
    report.undone_by.unwrap()
}

fn told(report: &UndoReport) -> Vec<(String, Option<&str>, &ObstacleReason)> {
    let obstacles = report.obstacles.iter();
    obstacles
        .map(|one| (one.record.object.clone(), one.field.as_deref(), &one.why))
        .collect()
}

#[tokio::test]
async fn all_that_a_commit_did_is_reversed_in_one() {
    let office = Office::new().await;
    let session = &office.session;
    let globex = account(session, "Globex").await;
    let old = account(session, "Old").await;
    let hank = Contact {
        account_id: Some(old),
        ..Contact::named("Hank", "Scorpio")
    };
    let hank = session.contacts().create(hank).await.unwrap().id;
    let mut work = session.begin();
    let made = staged(&mut work, "New").await;
    let part = Account {
        parent_account_id: Some(made),
        ..Account::new("Part")
    };
    let part = work.accounts().create(part).await.unwrap().id;
    work.accounts()
        .update(globex, |account| {
            account.name = "Initech".into();
            account.parent_account_id = Some(made);
        })
        .await
        .unwrap();
    work.accounts().archive(globex).await.unwrap();
    // Empties the reference of the contact.
    work.accounts().delete(old).await.unwrap();
    let commit = work.commit().await.unwrap();
    assert_eq!(session.contacts().get(hank).await.unwrap().account_id, None);

    let undone = undo(session, commit.id).await;
    let count = async |commit| session.audit().of_commit(commit).await.unwrap().len();
    assert_eq!(count(undone).await, count(commit.id).await, "one commit");
    let accounts = session.accounts();
    for id in [made, part] {
        assert_eq!(accounts.get(id).await.unwrap_err().code(), "not_found");
    }
    let now = accounts.get(globex).await.unwrap();
    assert_eq!((now.name.as_str(), now.parent_account_id), ("Globex", None));
    assert_eq!(now.archived_at, None);
    accounts.get(old).await.unwrap();
    assert_eq!(
        session.contacts().get(hank).await.unwrap().account_id,
        Some(old)
    );

    let redone = undo(session, undone).await;
    let now = accounts.get(globex).await.unwrap();
    assert_eq!(
        (now.name.as_str(), now.parent_account_id),
        ("Initech", Some(made))
    );
    assert_eq!(now.archived_at, Some(commit.at));
    assert_eq!(
        accounts.get(part).await.unwrap().parent_account_id,
        Some(made)
    );
    assert_eq!(accounts.get(old).await.unwrap_err().code(), "not_found");
    assert_eq!(session.contacts().get(hank).await.unwrap().account_id, None);
    undo(session, redone).await;
    assert_trail_tells_every_record(session).await;
    // Once undone and done again, later commits stand in the way.
    let report = session.audit().undo_commit(commit.id).await.unwrap();
    assert!(!report.is_complete() && report.undone_by.is_none());
    let error = session
        .audit()
        .undo_commit(Uuid::from_u128(1))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
}

#[tokio::test]
async fn what_later_commits_touched_is_told_precisely() {
    let office = Office::new().await;
    let session = &office.session;
    let mut ids = Vec::new();
    for name in ["A", "B", "C", "D", "E"] {
        ids.push(account(session, name).await);
    }
    let mut work = session.begin();
    for id in &ids {
        let patch = json!({"industry": "mining", "website": "https://x.example", "custom_fields": {"a": 1, "b": 1}});
        work.accounts()
            .merge(*id, 1, &members(patch))
            .await
            .unwrap();
    }
    let commit = work.commit().await.unwrap().id;
    let mut accounts = session.accounts();
    accounts
        .update(ids[0], |account| account.industry = None)
        .await
        .unwrap();
    // Changed and changed back is changed too.
    for industry in ["software", "mining"] {
        accounts
            .update(ids[1], |account| account.industry = Some(industry.into()))
            .await
            .unwrap();
    }
    accounts
        .merge(ids[2], 2, &members(json!({"custom_fields": {"b": 2}})))
        .await
        .unwrap();
    accounts.delete(ids[3]).await.unwrap();
    // Another field is in nobody's way.
    accounts
        .update(ids[4], |account| account.name = "Echo".into())
        .await
        .unwrap();
    let mut by = Vec::new();
    for id in &ids {
        by.push(last_commit(session, *id).await);
    }
    let audit = session.audit();
    let report = audit.undo_commit(commit).await.unwrap();
    let found: BTreeSet<_> = report
        .obstacles
        .iter()
        .map(|one| {
            (
                one.record.id,
                one.field.clone(),
                one.by_commit,
                one.why.clone(),
            )
        })
        .collect();
    let field = |name: &str| Some(name.to_owned());
    let wanted = BTreeSet::from([
        (
            ids[0].uuid(),
            field("industry"),
            Some(by[0]),
            ObstacleReason::Changed,
        ),
        (
            ids[1].uuid(),
            field("industry"),
            Some(by[1]),
            ObstacleReason::Changed,
        ),
        (
            ids[2].uuid(),
            field("custom_fields.b"),
            Some(by[2]),
            ObstacleReason::Changed,
        ),
        (ids[3].uuid(), None, Some(by[3]), ObstacleReason::Deleted),
    ]);
    assert_eq!(found, wanted);
    assert!(report.undone.is_empty() && report.undone_by.is_none());
    assert_eq!(
        accounts.get(ids[4]).await.unwrap().industry.as_deref(),
        Some("mining")
    );

    // The rest goes back.
    let report = audit.undo_what_is_untouched(commit).await.unwrap();
    assert_eq!((report.undone.len(), report.obstacles.len()), (4, 4));
    for (place, industry) in [(0, None), (1, Some("mining")), (2, None), (4, None)] {
        let now = accounts.get(ids[place]).await.unwrap();
        assert_eq!(now.industry.as_deref(), industry);
        assert_eq!(now.website, None);
        let custom = if place == 2 {
            json!({"b": 2})
        } else {
            json!({})
        };
        assert_eq!(now.custom_fields, custom);
    }
    assert_eq!(accounts.get(ids[4]).await.unwrap().name, "Echo");
    assert_trail_tells_every_record(session).await;
}

#[tokio::test]
async fn what_came_to_belong_to_a_new_record_stands_in_the_way() {
    let office = Office::new().await;
    let session = &office.session;
    let mut work = session.begin();
    let globex = staged(&mut work, "Globex").await;
    let hank = Contact {
        account_id: Some(globex),
        ..Contact::named("Hank", "Scorpio")
    };
    let hank = work.contacts().create(hank).await.unwrap().id;
    let commit = work.commit().await.unwrap().id;
    let deal = Deal {
        account_id: Some(globex),
        ..Deal::new("Rollout", office.onboarded.pipeline)
    };
    let deal = session.deals().create(deal).await.unwrap().id;
    let comment = session.comments().write(hank, "Call him").await.unwrap();
    let audit = session.audit();
    let report = audit.undo_commit(commit).await.unwrap();
    let by_deal = ObstacleReason::ReferredTo {
        by: deal.into(),
        field: "account_id".into(),
    };
    let by_comment = ObstacleReason::ReferredTo {
        by: comment.id.into(),
        field: "record_id".into(),
    };
    let wanted = vec![
        ("account".to_owned(), None, &by_deal),
        ("contact".to_owned(), None, &by_comment),
    ];
    assert_eq!(told(&report), wanted);
    let made_by = [
        last_commit(session, deal).await,
        last_commit(session, comment.id).await,
    ];
    let by: Vec<_> = report
        .obstacles
        .iter()
        .map(|one| one.by_commit.unwrap())
        .collect();
    assert_eq!(by, made_by);
    session.deals().delete(deal).await.unwrap();
    session.comments().delete(comment.id).await.unwrap();
    undo(session, commit).await;
    assert_eq!(
        session.contacts().get(hank).await.unwrap_err().code(),
        "not_found"
    );

    // What stays because of something else keeps what it leads to.
    let mut work = session.begin();
    let whole = staged(&mut work, "Whole").await;
    let part = Account {
        parent_account_id: Some(whole),
        ..Account::new("Part")
    };
    let part = work.accounts().create(part).await.unwrap().id;
    let lone = staged(&mut work, "Lone").await;
    let commit = work.commit().await.unwrap().id;
    session.comments().write(part, "Call them").await.unwrap();
    let report = audit.undo_commit(commit).await.unwrap();
    let records: Vec<_> = report.obstacles.iter().map(|one| one.record.id).collect();
    assert_eq!(
        records,
        [part.uuid()],
        "the comment is all that is in the way"
    );
    let report = audit.undo_what_is_untouched(commit).await.unwrap();
    let records: BTreeSet<_> = report.obstacles.iter().map(|one| one.record.id).collect();
    assert_eq!(records, BTreeSet::from([whole.uuid(), part.uuid()]));
    assert_eq!(report.undone, [lone.into()]);
    session.accounts().get(whole).await.unwrap();
}

/// However many records lead to one of what a commit made, those that lead to another one are seen, by
/// references and custom fields alike.
#[tokio::test]
async fn a_crowd_around_one_record_hides_no_other() {
    let office = Office::new().await;
    let session = &office.session;
    let kind = CustomFieldType::Lookup {
        object: api_name("account"),
        cascade: false,
    };
    let field = CustomField::new(api_name("contact"), api_name("supplier"), "Supplier", kind);
    session
        .records::<CustomField>()
        .create(field)
        .await
        .unwrap();
    for is_custom in [false, true] {
        let mut work = session.begin();
        let crowded = staged(&mut work, "Crowded").await;
        let led = staged(&mut work, "Led").await;
        let lone = staged(&mut work, "Lone").await;
        let commit = work.commit().await.unwrap().id;
        let contact = |name: String, account: Id<Account>| match is_custom {
            true => Contact {
                custom_fields: json!({"supplier": account}),
                ..Contact::named("Hank", &name)
            },
            false => Contact {
                account_id: Some(account),
                ..Contact::named("Hank", &name)
            },
        };
        for part in 0..11 {
            let mut work = session.begin();
            for number in 0..100 {
                let one = contact(format!("Crowd {part} {number}"), crowded);
                work.contacts().create(one).await.unwrap();
            }
            work.commit().await.unwrap();
        }
        // The one with the greatest id.
        let last = contact("Last".to_owned(), led);
        let last = session.contacts().create(last).await.unwrap().id;
        let report = session
            .audit()
            .undo_what_is_untouched(commit)
            .await
            .unwrap();
        assert_eq!(report.undone, [lone.into()], "{is_custom}");
        let of_led = report
            .obstacles
            .iter()
            .filter(|one| one.record.id == led.uuid());
        let mut by = of_led.map(|one| &one.why);
        let is_last = |why: &ObstacleReason| matches!(why, ObstacleReason::ReferredTo { by, .. } if by.id == last.uuid());
        assert!(by.any(is_last), "{is_custom}");
        session.accounts().get(led).await.unwrap();
        session.accounts().get(crowded).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_gone_or_not_kept_cannot_come_back() {
    let office = Office::new().await;
    let session = &office.session;
    let globex = account(session, "Globex").await;
    let part = Account {
        parent_account_id: Some(globex),
        ..Account::new("Part")
    };
    let part = session.accounts().create(part).await.unwrap().id;
    session
        .accounts()
        .update(part, |account| account.parent_account_id = None)
        .await
        .unwrap();
    let left = last_commit(session, part).await;
    session.accounts().delete(globex).await.unwrap();
    let gone = last_commit(session, globex).await;
    let audit = session.audit();
    let report = audit.undo_commit(left).await.unwrap();
    assert_eq!(
        told(&report),
        [(
            "account".to_owned(),
            Some("parent_account_id"),
            &ObstacleReason::TargetGone
        )]
    );
    assert_eq!(report.obstacles[0].by_commit, Some(gone));
    session.accounts().purge(globex).await.unwrap();
    let purged = last_commit(session, globex).await;
    for commit in [gone, purged] {
        let report = audit.undo_commit(commit).await.unwrap();
        assert_eq!(
            told(&report),
            [("account".to_owned(), None, &ObstacleReason::Purged)]
        );
        assert_eq!(report.obstacles[0].by_commit, Some(purged));
    }
    let tenant = office.onboarded.tenant;
    for iban in ["one", "two"] {
        session
            .records::<Tenant>()
            .update(tenant, |tenant| {
                tenant.billing_info = Some(json!({"iban": iban}));
            })
            .await
            .unwrap();
    }
    let commit = last_commit(session, tenant).await;
    let report = audit.undo_commit(commit).await.unwrap();
    assert_eq!(
        told(&report),
        [(
            "tenant".to_owned(),
            Some("billing_info"),
            &ObstacleReason::NotKept
        )]
    );
}

/// C-061 and the figures that follow: deals, their histories and what accounts know of them.
#[tokio::test]
async fn what_follows_from_other_records_follows_the_undo() {
    let office = Office::new().await;
    let session = &office.session;
    let globex = account(session, "Globex").await;
    let deal = |name: &str, amount: i64| Deal {
        amount: Some(Decimal::from(amount)),
        account_id: Some(globex),
        ..Deal::new(name, office.onboarded.pipeline)
    };
    let first = session.deals().create(deal("First", 100)).await.unwrap().id;
    let made = last_commit(session, first).await;
    let second = session.deals().create(deal("Second", 50)).await.unwrap().id;
    session.deals().win(second).await.unwrap();
    let won = last_commit(session, second).await;
    let entered = session.deals().get(second).await.unwrap().stage_entered_at;
    office.hours_pass(1);
    // The figures of the account were written since, which is in nobody's way.
    let undone = undo(session, made).await;
    let account = session.accounts().get(globex).await.unwrap();
    assert_eq!(
        (
            account.deal_stats.deal_count,
            account.deal_stats.won_deal_count
        ),
        (1, 1)
    );
    undo(session, won).await;
    let account = session.accounts().get(globex).await.unwrap();
    assert_eq!(
        (
            account.deal_stats.deal_count,
            account.deal_stats.won_deal_count
        ),
        (1, 0)
    );
    let now = session.deals().get(second).await.unwrap();
    assert!(!now.is_closed() && now.actual_close_date.is_none());
    undo(session, undone).await;
    let account = session.accounts().get(globex).await.unwrap();
    assert_eq!(account.deal_stats.deal_count, 2);
    let redone = last_commit(session, second).await;
    undo(session, redone).await;
    let now = session.deals().get(second).await.unwrap();
    assert!(now.is_closed());
    assert_eq!(
        now.stage_entered_at, entered,
        "the moment is the one of the first closing"
    );
    assert_trail_tells_every_record(session).await;
}

#[tokio::test]
async fn a_merge_and_a_conversion_are_undone_like_other_commits() {
    let office = Office::new().await;
    let session = &office.session;
    let mut ids = Vec::new();
    for name in ["Globex", "Globex Inc."] {
        let account = Account {
            tags: vec![name.to_lowercase()],
            ..Account::new(name)
        };
        ids.push(session.accounts().create(account).await.unwrap().id);
    }
    let hank = Contact {
        account_id: Some(ids[1]),
        ..Contact::named("Hank", "Scorpio")
    };
    let hank = session.contacts().create(hank).await.unwrap().id;
    session
        .accounts()
        .merge_into(ids[0], &[ids[1]], &Choices::new(), None)
        .await
        .unwrap();
    let merge = last_commit(session, ids[1]).await;
    let undone = undo(session, merge).await;
    session.accounts().get(ids[1]).await.unwrap();
    assert_eq!(
        session.contacts().get(hank).await.unwrap().account_id,
        Some(ids[1])
    );
    undo(session, undone).await;
    assert_eq!(
        session.accounts().get(ids[1]).await.unwrap_err().code(),
        "not_found"
    );
    assert_eq!(
        session.contacts().get(hank).await.unwrap().account_id,
        Some(ids[0])
    );
    assert_eq!(session.accounts().get(ids[0]).await.unwrap().tags.len(), 2);

    let bill = Lead {
        name: Some(PersonName::new("Bill", "Lumbergh")),
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let bill = session.leads().create(bill).await.unwrap();
    session
        .leads()
        .convert(bill.id, ConversionPlan::new())
        .await
        .unwrap();
    let conversion = last_commit(session, bill.id).await;
    undo(session, conversion).await;
    let now = session.leads().get(bill.id).await.unwrap();
    assert_eq!(now.data, bill.data);
    session
        .leads()
        .convert(bill.id, ConversionPlan::new())
        .await
        .unwrap();
    assert_trail_tells_every_record(session).await;
}

#[tokio::test]
async fn records_of_the_tenants_own_objects_are_undone_too() {
    let office = Office::new().await;
    let session = &office.session;
    projects(session).await;
    let mut work = session.begin();
    let dome = json!({"name": "Dome", "custom_fields": {"site": "north", "city": "Berlin"}});
    let made = work
        .object("project")
        .await
        .unwrap()
        .create(&members(dome))
        .await
        .unwrap();
    let created = work.commit().await.unwrap().id;
    let mut records = session.object("project").await.unwrap();
    let patch = json!({"custom_fields": {"site": "south"}});
    records.merge(made.id(), 1, &members(patch)).await.unwrap();
    let project = EntityRef::new("project", made.id());
    let moved = last_commit(session, project.clone()).await;
    let patch = json!({"custom_fields": {"city": "Bonn"}});
    records.merge(made.id(), 2, &members(patch)).await.unwrap();
    let undone = undo(session, moved).await;
    let now = records.get(made.id()).await.unwrap();
    let document = now.get("custom_fields").to_json();
    assert_eq!(document, json!({"site": "north", "city": "Bonn"}));
    let report = session.audit().undo_commit(created).await.unwrap();
    let fields: Vec<_> = report
        .obstacles
        .iter()
        .map(|one| one.field.as_deref())
        .collect();
    assert_eq!(
        fields,
        [Some("custom_fields.city"), Some("custom_fields.site")]
    );
    undo(session, undone).await;
    let now = records.get(made.id()).await.unwrap();
    let document = now.get("custom_fields").to_json();
    assert_eq!(document, json!({"site": "south", "city": "Bonn"}));
}

/// A thousand records: created, changed, deleted; each undone and done again.
#[tokio::test]
async fn bulk_commits_are_undone() {
    let office = Office::new().await;
    let session = &office.session;
    let mut work = session.begin();
    let parent = staged(&mut work, "All").await;
    let mut ids = Vec::new();
    for number in 0..1_000 {
        let contact = Contact {
            account_id: Some(parent),
            ..Contact::named("Contact", format!("{number}"))
        };
        ids.push(work.contacts().create(contact).await.unwrap().id);
    }
    let created = work.commit().await.unwrap().id;
    let mut work = session.begin();
    for id in &ids {
        work.contacts()
            .update(*id, |contact| contact.department = Some("Sales".into()))
            .await
            .unwrap();
    }
    let changed = work.commit().await.unwrap().id;
    let count = async |filter: Where<Contact>| session.contacts().count(filter).await.unwrap();
    let in_sales = || Contact::DEPARTMENT.eq("Sales");
    let undone = undo(session, changed).await;
    assert_eq!(count(in_sales()).await, 0);
    undo(session, undone).await;
    assert_eq!(count(in_sales()).await, 1_000);
    let last = last_commit(session, ids[0]).await;
    undo(session, last).await;
    // All those commits stand in the way of the first one.
    let report = session.audit().undo_commit(created).await.unwrap();
    assert_eq!(report.obstacles.len(), 1_000);

    let mut work = session.begin();
    let mut more = Vec::new();
    for number in 0..1_000 {
        let account = Account {
            parent_account_id: more.last().copied().filter(|_| number % 10 > 0),
            ..Account::new(format!("Account {number}"))
        };
        more.push(work.accounts().create(account).await.unwrap().id);
    }
    let created = work.commit().await.unwrap().id;
    let undone = undo(session, created).await;
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 1);
    undo(session, undone).await;
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 1_001);
    let last = session.accounts().get(more[999]).await.unwrap();
    assert_eq!(last.parent_account_id, Some(more[998]));
}

/// Two undo the same commit at the same time: one does, the other finds it done.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_several_undoes() {
    let office = Office::new().await;
    let session = &office.session;
    let id = account(session, "Globex").await;
    rename(session, id, "Initech").await;
    let commit = last_commit(session, id).await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.audit().undo_commit(commit).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += usize::from(task.await.unwrap().is_complete());
    }
    assert_eq!(done, 1);
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!((now.name.as_str(), now.version), ("Globex", 3));
}

/// What a whole office did in one commit: the onboarding stays, as a tenant cannot be removed.
#[tokio::test]
async fn what_rules_refuse_is_told() {
    let office = Office::new().await;
    let populated = populate(&office.crm, "busy").await;
    let session = &populated.session;
    let commit = last_commit(session, populated.onboarded.pipeline).await;
    let report = session.audit().undo_commit(commit).await.unwrap();
    assert!(!report.is_complete());
    let before = crate::common::picture(session).await;
    let report = session.audit().undo_commit(commit).await.unwrap();
    assert!(report.undone.is_empty());
    assert_eq!(crate::common::picture(session).await, before);
}
