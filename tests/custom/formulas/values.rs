//! Values follow what they are computed from, are explained, and computed anew.

use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::custom_objects::{
    Computed, CustomField, CustomFieldType, DataType, Explanation, MAX_DEPENDENTS, RollUp,
    RollUpFunction,
};
use crm_engine::engine::ManualClock;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use serde_json::{Value as Json, json};
use tokio::sync::Barrier;

use super::{Shop, define, faults, formula, name, roll_up};
use crate::common::{assert_trail_tells, backend, crm, rows_of, tenant};

/// C-038: values of formulas and roll-ups are there in the commit that changes what they follow from,
/// are filtered and sorted by like others, and the audit trail tells of them.
#[tokio::test]
async fn values_follow_in_the_same_commit() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    assert_eq!(shop.account(0, "total_margin").await, json!("0"));
    assert_eq!(shop.account(0, "best").await, Json::Null);
    let deal = shop.create_deal(0, 300, 100).await;
    assert_eq!(
        session.deals().get(deal).await.unwrap().custom_fields["margin"],
        json!("200")
    );
    assert_eq!(shop.account(0, "score").await, json!("210"));
    let project = shop.create_project(0, 50).await;
    let stored = project.get("custom_fields").to_json();
    assert_eq!(stored["customer_score"], json!("210"));
    assert_eq!(stored["customer_name"], json!("GLOBEX"));
    assert_eq!(stored["is_rich"], json!(true));
    assert_eq!(shop.account(0, "rich_projects").await, json!(1));
    assert_eq!(shop.account(0, "mean_budget").await, json!("50"));

    // Down to the depth of the graph: deal, account, project, account.
    let cheaper = |deal: &mut Deal| deal.amount = Some(120.into());
    session.deals().update(deal, cheaper).await.unwrap();
    assert_eq!(shop.account(0, "score").await, json!("20"));
    assert_eq!(shop.account(0, "rich_projects").await, json!(0));
    shop.assert_right().await;

    // Reparented, archived, deleted, restored, purged.
    let to = shop.accounts[1];
    let move_it = |deal: &mut Deal| deal.account_id = Some(to);
    session.deals().update(deal, move_it).await.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("0"));
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().archive(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().delete(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("0"));
    session.deals().restore(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().delete(deal).await.unwrap();
    session.deals().purge(deal).await.unwrap();
    shop.assert_right().await;

    // A field that a formula names through a reference.
    let rename = |account: &mut Account| account.name = "Globex Europe".into();
    session
        .accounts()
        .update(shop.accounts[0], rename)
        .await
        .unwrap();
    let projects = session.object("project").await.unwrap();
    let by_name = Find::new().filter_by_name(Filter::eq("customer_name", "GLOBEX EUROPE"));
    assert_eq!(projects.find(&by_name).await.unwrap().items.len(), 1);
    let by_score = Find::new().filter_by_name(Filter::eq("custom_fields.score", 0_i64));
    let accounts = session.object("account").await.unwrap();
    assert_eq!(accounts.count(&by_score).await.unwrap(), 3);

    // Nobody else writes them.
    let forge = |deal: &mut Deal| deal.custom_fields["margin"] = json!("1000000");
    let deal = shop.create_deal(0, 1, 0).await;
    let refused = session.deals().update(deal, forge).await;
    assert_eq!(
        faults(refused),
        [("custom_fields.margin".into(), "read_only".into())]
    );
    shop.assert_right().await;
    for object in ["account", "deal"] {
        for row in rows_of(session, object).await {
            assert_trail_tells(session, &row).await;
        }
    }
}

/// Merged and unmerged parents have what their children come to.
#[tokio::test]
async fn merges_and_their_undoing_keep_figures_right() {
    let shop = Shop::new(&crm()).await;
    shop.create_deal(0, 300, 0).await;
    shop.create_deal(1, 500, 0).await;
    shop.create_project(1, 100).await;
    let grade = |account: &mut Account| account.custom_fields["grade"] = json!(4);
    let mut accounts = shop.session.accounts();
    accounts.update(shop.accounts[1], grade).await.unwrap();
    let (survivor, loser) = (shop.accounts[0], shop.accounts[1]);
    let merged = accounts
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await;
    let merged = merged.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("800"));
    shop.assert_right().await;
    shop.create_deal(0, 7, 0).await;
    for merge in merged.merges.iter().rev() {
        shop.session.merges().undo(*merge).await.unwrap();
    }
    assert_eq!(shop.account(0, "total_margin").await, json!("307"));
    // What the survivor got of the loser's own fields went back.
    assert_eq!(shop.account(0, "grade").await, Json::Null);
    assert_eq!(shop.account(1, "grade").await, json!("4"));
    assert_eq!(shop.account(1, "total_margin").await, json!("500"));
    shop.assert_right().await;
}

/// Figures are exact whoever writes children of one parent at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn figures_are_exact_under_sixteen_writers() {
    let shop = Arc::new(Shop::new(&crm()).await);
    let mut own = Vec::new();
    for number in 0..16 {
        own.push(shop.create_deal(0, 100 + number, 0).await);
    }
    let barrier = Arc::new(Barrier::new(own.len()));
    let mut tasks = Vec::new();
    for (number, deal) in own.into_iter().enumerate() {
        let (shop, barrier) = (shop.clone(), barrier.clone());
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            let deals = || shop.session.deals();
            match number % 3 {
                0 => deals().delete(deal).await.unwrap(),
                1 => {
                    let change = |deal: &mut Deal| deal.amount = Some(1.into());
                    deals().update(deal, change).await.unwrap();
                }
                _ => {
                    let to = shop.accounts[1];
                    let change = move |deal: &mut Deal| deal.account_id = Some(to);
                    deals().update(deal, change).await.unwrap();
                }
            }
            shop.create_project(0, 10).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(shop.account(0, "projects").await, json!(16));
    shop.assert_right().await;
}

/// A value that cannot be computed is none, and why is told; a changed definition is computed for the
/// records that there are.
#[tokio::test]
async fn values_are_explained_and_recomputed() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let deal = shop.create_deal(0, 100, 0).await;
    for _ in 0..3 {
        shop.create_deal(0, 100, 50).await;
    }
    let ratio = formula("amount(amount) / cost", DataType::Decimal);
    let ratio = define(session, "deal", "ratio", ratio).await.unwrap();
    let fields = || session.records::<CustomField>();
    assert!(fields().get(ratio).await.unwrap().stale_since.is_some());
    let computed = Computed::new(session);
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let stopped = computed.recompute(ratio, &stop).await.unwrap();
    assert!(!stopped.is_complete);
    let run = computed.recompute(ratio, &()).await.unwrap();
    assert_eq!((run.checked, run.mended, run.is_complete), (4, 0, true));
    assert!(fields().get(ratio).await.unwrap().stale_since.is_none());
    let row = session
        .object("deal")
        .await
        .unwrap()
        .get(deal.uuid())
        .await
        .unwrap();
    assert_eq!(row.get("custom_fields").to_json().get("ratio"), None);
    let explained = computed.explain(&row, "ratio").await.unwrap();
    let Explanation::Failed(problem) = explained else {
        panic!("{explained:?}");
    };
    assert_eq!(problem.code(), "division_by_zero");

    // The roll-ups over it follow a changed definition.
    let margin = CustomField::API_NAME.eq(name("margin"));
    let margin = fields().find_one(margin).await.unwrap().unwrap();
    let dearer = |field: &mut CustomField| {
        field.field_type = formula("amount(amount) - 2 * cost", DataType::Decimal);
    };
    fields().update(margin.id, dearer).await.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("250"));
    let run = computed.recompute(margin.id, &()).await.unwrap();
    assert_eq!((run.mended, run.is_complete), (3, true));
    assert_eq!(shop.account(0, "total_margin").await, json!("100"));
    let again = computed.recompute(margin.id, &()).await.unwrap();
    assert_eq!((again.mended, again.is_complete), (0, true));
}

/// More records than one commit takes follow from a change: the field says so until a run.
#[tokio::test]
async fn too_many_dependents_are_marked_and_computed_in_batches() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let industry = formula("account_id.industry", DataType::String);
    let industry = define(&session, "contact", "account_industry", industry)
        .await
        .unwrap();
    let account = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    // Also more than three batches of the run.
    let count = MAX_DEPENDENTS + 501;
    let contacts = (0..count).map(|number| Contact {
        account_id: Some(account.id),
        ..Contact::named("Ada", format!("Example {number}"))
    });
    session
        .contacts()
        .create_all(contacts.collect())
        .await
        .unwrap();
    let change = |account: &mut Account| account.industry = Some("software".into());
    session.accounts().update(account.id, change).await.unwrap();
    let fields = || session.records::<CustomField>();
    assert!(fields().get(industry).await.unwrap().stale_since.is_some());
    let software = || Find::new().filter_by_name(Filter::eq("account_industry", "software"));
    let contacts = session.object("contact").await.unwrap();
    assert_eq!(contacts.count(&software()).await.unwrap(), 0);
    let run = Computed::new(&session)
        .recompute(industry, &())
        .await
        .unwrap();
    assert_eq!(usize::try_from(run.mended).unwrap(), count);
    assert!(run.is_complete);
    assert_eq!(contacts.count(&software()).await.unwrap(), count as u64);

    // Another tenant neither sees nor computes them.
    let (_, other) = tenant(&crm, "other").await;
    let foreign = Computed::new(&other).recompute(industry, &()).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    let row = contacts
        .find(&software().limit(1))
        .await
        .unwrap()
        .items
        .remove(0);
    assert!(
        Computed::new(&other)
            .explain(&row, "account_industry")
            .await
            .is_err()
    );
}

/// One commit with many children asks once for each roll-up, and tells of the parent once.
#[tokio::test]
async fn many_children_in_one_commit_are_one_change_of_the_parent() {
    let shop = Shop::new(&crm()).await;
    let account = || shop.session.accounts();
    let before = account().get(shop.accounts[0]).await.unwrap().version;
    let deals = (0..50).map(|number| shop.deal(0, number, 0)).collect();
    shop.session.deals().create_all(deals).await.unwrap();
    let after = account().get(shop.accounts[0]).await.unwrap().version;
    assert_eq!(after, before + 1);
    assert_eq!(shop.account(0, "total_margin").await, json!("1225"));
    shop.assert_right().await;
}

/// Formulas over the day are those of the day on which their record was written, or of the last
/// refresh; what follows from them follows then, too.
#[tokio::test]
async fn values_follow_the_day_when_they_are_refreshed() {
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let (_, session) = tenant(&crm, "acme").await;
    let late = RollUp {
        filter: Some(Filter::eq("is_late", true)),
        ..roll_up(RollUpFunction::Count, ("contact", "account_id"), None)
    };
    for (object, field, field_type) in [
        ("contact", "due", CustomFieldType::Date),
        (
            "contact",
            "days_left",
            formula("days_between(today(), due)", DataType::Integer),
        ),
        (
            "contact",
            "is_late",
            formula("days_left < 0", DataType::Boolean),
        ),
        ("account", "late", CustomFieldType::RollUp(late)),
    ] {
        define(&session, object, field, field_type).await.unwrap();
    }
    let globex = session.accounts().create(Account::new("Globex")).await;
    let globex = globex.unwrap().id;
    let contact = |due: Json| Contact {
        account_id: Some(globex),
        custom_fields: due,
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = contact(json!({"due": "2026-03-04"}));
    let ada = session.contacts().create(ada).await.unwrap().id;
    session.contacts().create(contact(json!({}))).await.unwrap();
    let told = async || {
        let ada = session.contacts().get(ada).await.unwrap();
        let globex = session.accounts().get(globex).await.unwrap();
        let values = &ada.custom_fields;
        let late = globex.custom_fields["late"].clone();
        (values["days_left"].clone(), values["is_late"].clone(), late)
    };
    let early = (json!(2), json!(false), json!(0));
    assert_eq!(told().await, early);

    clock.advance(TimeDelta::days(3));
    assert_eq!(told().await, early);
    let computed = Computed::new(&session);
    let contacts = session.object("contact").await.unwrap();
    let row = contacts.get(ada.uuid()).await.unwrap();
    let now = computed.evaluate(&row, "days_left").await.unwrap();
    assert_eq!(now, json!(-1));
    let run = computed.refresh_volatile(&()).await.unwrap();
    assert_eq!((run.checked, run.mended, run.is_complete), (2, 1, true));
    let late = (json!(-1), json!(true), json!(1));
    assert_eq!(told().await, late);
    let again = computed.refresh_volatile(&()).await.unwrap();
    assert_eq!((again.mended, again.is_complete), (0, true));
}
