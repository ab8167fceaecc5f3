//! Accounts: their names and figures, their tree, and what their deletion leaves.

use crm_engine::activities::ActivityLinks;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use rust_decimal::Decimal;

use super::{faults, world};

/// and blank text in optional fields.
#[tokio::test]
async fn accounts_need_a_name_and_sensible_figures() {
    let w = world().await;
    let error = w
        .session
        .accounts()
        .create(Account {
            annual_revenue: Some(Decimal::from(-1)),
            employee_count: Some(-1),
            industry: Some("x".repeat(101)),
            ..Account::new("  ")
        })
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("name", codes::BLANK),
            ("industry", codes::TOO_LONG),
            ("annual_revenue", codes::OUT_OF_RANGE),
            ("employee_count", codes::OUT_OF_RANGE),
        ]
    );
    let body = serde_json::json!({"name": "Globex", "website": "ftp://globex.example"});
    let error = w
        .session
        .accounts()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("website", "invalid_url")]);
    let trimmed = w
        .session
        .accounts()
        .create(Account {
            industry: Some(" ".into()),
            ..Account::new(" Globex ")
        })
        .await
        .unwrap();
    assert_eq!(
        (trimmed.name.as_str(), &trimmed.industry),
        ("Globex", &None)
    );
}

///
#[tokio::test]
async fn trees_have_no_cycles() {
    let w = world().await;
    let mut ids = Vec::new();
    for name in ["A", "B", "C"] {
        ids.push(
            w.session
                .accounts()
                .create(Account::new(name))
                .await
                .unwrap()
                .id,
        );
    }
    w.session
        .accounts()
        .set_parent(ids[1], Some(ids[0]))
        .await
        .unwrap();
    w.session
        .accounts()
        .set_parent(ids[2], Some(ids[1]))
        .await
        .unwrap();
    for parent in [ids[0], ids[1], ids[2]] {
        let error = w
            .session
            .accounts()
            .set_parent(ids[0], Some(parent))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cycle");
    }
    // No other way around the rule: a merge patch, a unit of work.
    let patch = serde_json::json!({"parent_account_id": ids[2]});
    let version = w.session.accounts().get(ids[0]).await.unwrap().version;
    let error = w
        .session
        .accounts()
        .merge(ids[0], version, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    let mut work = w.session.begin();
    work.accounts().set_parent(ids[1], None).await.unwrap();
    work.accounts()
        .set_parent(ids[0], Some(ids[2]))
        .await
        .unwrap();
    let error = work
        .accounts()
        .set_parent(ids[1], Some(ids[0]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    drop(work);
    let above = w.session.accounts().ancestors(ids[2]).await.unwrap();
    assert_eq!(
        above.iter().map(|account| account.id).collect::<Vec<_>>(),
        [ids[1], ids[0]]
    );

    let manager = w
        .session
        .users()
        .create(User::new("m@acme.example".parse::<EmailAddress>().unwrap()))
        .await;
    let manager = manager.unwrap().id;
    let admin = w.onboarded.admin;
    w.session
        .users()
        .update(manager, |user| user.manager_id = Some(admin))
        .await
        .unwrap();
    let error = w
        .session
        .users()
        .update(admin, |user| user.manager_id = Some(manager))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    let team = w
        .session
        .teams()
        .create(Team::new("North"))
        .await
        .unwrap()
        .id;
    let error = w
        .session
        .teams()
        .update(team, |t| t.parent_team_id = Some(team))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
}

/// what the deletion of an account does to others, and what its restoring undoes.
#[tokio::test]
async fn deleting_an_account_leaves_its_contacts_without_account() {
    let w = world().await;
    let globex = w
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let contact = Contact {
        account_id: Some(globex),
        ..Contact::named("Ada", "Lovelace")
    };
    let contact = w.session.contacts().create(contact).await.unwrap().id;
    let owner = w.onboarded.admin;
    let only = Activity::new(ActivityType::Task, "only for the account", globex, owner);
    let only = w.session.activities().create(only).await.unwrap().id;
    let both = Activity::new(
        ActivityType::Task,
        "also for the contact",
        ActivityLinks {
            contact_id: Some(contact),
            ..ActivityLinks::from(globex)
        },
        owner,
    );
    let both = w.session.activities().create(both).await.unwrap().id;

    w.session.accounts().delete(globex).await.unwrap();
    assert_eq!(
        w.session.contacts().get(contact).await.unwrap().account_id,
        None
    );
    assert_eq!(
        w.session
            .activities()
            .get(both)
            .await
            .unwrap()
            .links
            .account_id,
        None
    );
    assert_eq!(
        w.session.activities().get(only).await.unwrap_err().code(),
        "not_found"
    );

    w.session.accounts().restore(globex).await.unwrap();
    assert_eq!(
        w.session
            .activities()
            .get(only)
            .await
            .unwrap()
            .links
            .account_id,
        Some(globex)
    );

    let error = w.session.accounts().purge(globex).await.unwrap_err();
    assert_eq!(error.code(), "not_deleted");
    w.session.accounts().delete(globex).await.unwrap();
    w.session.accounts().purge(globex).await.unwrap();
    assert_eq!(
        w.session
            .accounts()
            .restore(globex)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    // The trail outlives the record.
    let trail = w.session.audit().trail(globex).await.unwrap();
    assert_eq!(trail.last().unwrap().event, AuditKind::Purge);
}
