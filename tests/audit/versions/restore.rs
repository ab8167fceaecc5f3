//! Versions and fields that records are given back.

use crm_engine::audit::MASK;
use crm_engine::prelude::*;
use crm_engine::schema::Value;
use rust_decimal::Decimal;
use serde_json::json;

use super::{Office, account, last_commit, members, projects, rename, text_field};

/// What users write may look like a mask, or like what is left of an erased value.
#[tokio::test]
async fn a_value_that_looks_like_a_mask_comes_back() {
    let office = Office::new().await;
    let session = &office.session;
    let odd = || Account {
        industry: Some(MASK.into()),
        tags: vec!["key".into(), MASK.into()],
        custom_fields: json!({"erased": {"by": MASK, "all": [MASK, {"verbatim": 1.5}]}}),
        ..Account::new(MASK)
    };
    let first = session.accounts().create(odd()).await.unwrap();
    let id = first.id;
    let plain = Account {
        custom_fields: json!({"region": {"erased": "north"}, "note": MASK}),
        ..Account::new("Globex")
    };
    session
        .accounts()
        .update(id, |account| *account = plain.clone())
        .await
        .unwrap();
    let changed = last_commit(session, id).await;
    let second = session.accounts().get(id).await.unwrap();
    let audit = session.audit();
    for (version, stored) in [(1, &first), (2, &second)] {
        let built = audit.version(id, version).await.unwrap().unwrap();
        assert!(built.masked.is_empty(), "{:?}", built.masked);
        assert_eq!(built.record.data, stored.data);
    }
    let differing = audit.diff(id, 1, 2).await.unwrap();
    let name = differing.iter().find(|change| change.field == "name");
    assert_eq!(name.unwrap().to_string(), "Name: *** → Globex");
    assert!(differing.iter().all(|change| !change.masked));
    let history = audit.field_history(id, "custom_fields.erased", 9, None);
    let history = history.await.unwrap().items;
    assert_eq!(history.len(), 2);
    assert!(history.iter().all(|entry| !entry.change.masked));
    // All of it comes back, however it is asked for.
    let data = async || session.accounts().get(id).await.unwrap().data.clone();
    for (wanted, other) in [(&first, &second), (&second, &first)] {
        assert_eq!(data().await, other.data);
        let commit = match wanted.version == 1 {
            true => changed,
            false => last_commit(session, id).await,
        };
        let report = audit.undo_commit(commit).await.unwrap();
        assert!(report.is_complete(), "{:?}", report.obstacles);
        assert_eq!(data().await, wanted.data);
    }
    audit.restore_version(id, 1).await.unwrap();
    assert_eq!(data().await, first.data);
    audit.restore_version(id, 2).await.unwrap();
    assert_eq!(data().await, second.data);
    audit.restore_field(id, "name", 1).await.unwrap();
    audit
        .restore_field(id, "custom_fields.erased", 1)
        .await
        .unwrap();
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!(&*now.name, MASK);
    assert_eq!(now.custom_fields["erased"], first.custom_fields["erased"]);
}

#[tokio::test]
async fn a_version_comes_back_as_an_ordinary_change() {
    let office = Office::new().await;
    let session = &office.session;
    let ada = Contact {
        email: Some("ada@x.example".parse().unwrap()),
        phone: Some("+49 30 123456".parse().unwrap()),
        tags: vec!["vip".into()],
        ..Contact::named("Ada", "Lovelace")
    };
    let first = session.contacts().create(ada).await.unwrap();
    let id = first.id;
    let patch = json!({"email": null, "phone": "+49 30 999999", "tags": [], "last_name": "King",
        "job_title": "Countess"});
    session
        .contacts()
        .merge(id, 1, &members(patch))
        .await
        .unwrap();
    session.contacts().archive(id).await.unwrap();
    let row = session.audit().restore_version(id, 1).await.unwrap();
    assert_eq!(row.version(), 4);
    let now = session.contacts().get(id).await.unwrap();
    assert_eq!(now.data, first.data);
    assert_eq!(now.archived_at, None);
    let trail = session.audit().trail(id).await.unwrap();
    let event = trail.last().unwrap();
    assert_eq!(event.event, AuditKind::Restore);
    assert_eq!(
        event.changes.field("last_name").unwrap().old,
        Some(Value::from("King"))
    );
    assert_eq!(
        event.changes.field("last_name").unwrap().new,
        Some(Value::from("Lovelace"))
    );
    // The versions in between are still told, and the new one too.
    let third = session.audit().version(id, 3).await.unwrap().unwrap();
    assert_eq!(third.record.name.last_name.as_deref(), Some("King"));
    let fourth = session.audit().version(id, 4).await.unwrap().unwrap();
    assert_eq!(*fourth.record, *now);
    // There is nothing to do twice.
    let again = session.audit().restore_version(id, 1).await.unwrap();
    assert_eq!(again.version(), 4);
}

#[tokio::test]
async fn a_deleted_record_comes_back_with_a_version() {
    let office = Office::new().await;
    let session = &office.session;
    let id = account(session, "Globex").await;
    rename(session, id, "Initech").await;
    session.accounts().delete(id).await.unwrap();
    let audit = session.audit();
    let error = audit.restore_version(id, 3).await.unwrap_err();
    assert_eq!(error.code(), "version_deleted");
    let error = audit.restore_field(id, "name", 1).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
    audit.restore_version(id, 1).await.unwrap();
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!((now.name.as_str(), now.version), ("Globex", 4));
    for version in 1..=4 {
        assert!(audit.version(id, version).await.unwrap().is_some());
    }
    let error = audit.restore_version(id, 9).await.unwrap_err();
    assert_eq!(error.code(), "no_version");
    session.accounts().delete(id).await.unwrap();
    session.accounts().purge(id).await.unwrap();
    let error = audit.restore_version(id, 1).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
}

#[tokio::test]
async fn a_version_that_breaks_a_rule_stays_where_it_is() {
    let office = Office::new().await;
    let session = &office.session;
    let mut first = Contact::named("Ada", "Lovelace");
    first.email = Some("ada@x.example".parse().unwrap());
    let ada = session.contacts().create(first.clone()).await.unwrap().id;
    session
        .contacts()
        .update(ada, |contact| contact.email = None)
        .await
        .unwrap();
    // Somebody else has the address by now.
    session.contacts().create(first).await.unwrap();
    let error = session.audit().restore_version(ada, 1).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
    let error = session
        .audit()
        .restore_field(ada, "email", 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate");
    // What it led to is gone.
    let globex = account(session, "Globex").await;
    let bob = Contact {
        account_id: Some(globex),
        ..Contact::named("Bob", "Terwilliger")
    };
    let bob = session.contacts().create(bob).await.unwrap().id;
    session.accounts().delete(globex).await.unwrap();
    let error = session.audit().restore_version(bob, 1).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "account_id");
    assert_eq!(session.contacts().get(bob).await.unwrap().account_id, None);
}

/// What only the engine writes follows from what is given back.
#[tokio::test]
async fn a_deal_goes_back_by_the_rules_of_deals() {
    let office = Office::new().await;
    let session = &office.session;
    let deal = Deal {
        amount: Some(Decimal::from(500)),
        ..Deal::new("Rollout", office.onboarded.pipeline)
    };
    let id = session.deals().create(deal).await.unwrap().id;
    session.deals().win(id).await.unwrap();
    let won = session.deals().get(id).await.unwrap();
    assert!(won.actual_close_date.is_some());
    office.hours_pass(1);
    session.audit().restore_version(id, 1).await.unwrap();
    let now = session.deals().get(id).await.unwrap();
    assert!(!now.is_closed());
    assert_eq!(now.actual_close_date, None);
    assert_eq!(now.stage_entered_at, Some(office.now()));
    crate::common::assert_trail_tells_every_record(session).await;
}

#[tokio::test]
async fn one_field_comes_back_and_no_other() {
    let office = Office::new().await;
    let session = &office.session;
    for name in ["region", "segment"] {
        text_field(session, "account", name).await;
    }
    let globex = Account {
        industry: Some("mining".into()),
        custom_fields: json!({"region": "north", "segment": "a"}),
        ..Account::new("Globex")
    };
    let id = session.accounts().create(globex).await.unwrap().id;
    let patch = json!({"industry": "software", "name": "Initech",
        "custom_fields": {"region": "south", "segment": null}});
    session
        .accounts()
        .merge(id, 1, &members(patch))
        .await
        .unwrap();
    let audit = session.audit();
    audit.restore_field(id, "region", 1).await.unwrap();
    let trail = session.audit().trail(id).await.unwrap();
    assert_eq!(trail[2].changes.fields(), ["custom_fields.region"]);
    assert_eq!(trail[2].event, AuditKind::Restore);
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!(now.custom_fields, json!({"region": "north"}));
    assert_eq!(now.name, "Initech");
    audit
        .restore_field(id, "custom_fields.segment", 1)
        .await
        .unwrap();
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!(
        now.custom_fields,
        json!({"region": "north", "segment": "a"})
    );
    audit
        .restore_field(id, "custom_fields.segment", 2)
        .await
        .unwrap();
    audit.restore_field(id, "industry", 1).await.unwrap();
    let now = session.accounts().get(id).await.unwrap();
    assert_eq!(now.custom_fields, json!({"region": "north"}));
    assert_eq!(now.industry.as_deref(), Some("mining"));
    assert_eq!(now.name, "Initech");
    for (field, code) in [
        ("nothing", "unknown_field"),
        ("deal_count", "read_only"),
        ("version", "read_only"),
    ] {
        let error = audit.restore_field(id, field, 1).await.unwrap_err();
        assert_eq!(error.field_errors()[0].code, code, "{field}");
    }
}

/// An amount without its currency would be another amount.
#[tokio::test]
async fn fields_that_are_decided_together_come_back_together() {
    let office = Office::new().await;
    let session = &office.session;
    let deal = Deal {
        amount: Some(Decimal::from(500)),
        currency: Currency::EUR,
        ..Deal::new("Rollout", office.onboarded.pipeline)
    };
    let id = session.deals().create(deal).await.unwrap().id;
    let patch = json!({"amount": "700", "currency": "USD", "name": "Roll-out"});
    session.deals().merge(id, 1, &members(patch)).await.unwrap();
    session
        .audit()
        .restore_field(id, "amount", 1)
        .await
        .unwrap();
    let now = session.deals().get(id).await.unwrap();
    assert_eq!(
        now.money(),
        Some(Money::new(Decimal::from(500), Currency::EUR))
    );
    assert_eq!(now.name, "Roll-out");
}

#[tokio::test]
async fn records_of_the_tenants_own_objects_come_back_too() {
    let office = Office::new().await;
    let session = &office.session;
    projects(session).await;
    let mut records = session.object("project").await.unwrap();
    let first = json!({"name": "Dome", "custom_fields": {"site": "north", "city": "Berlin"}});
    let id = records.create(&members(first)).await.unwrap().id();
    let patch = json!({"name": "Hall", "custom_fields": {"site": "south", "city": "Bonn"}});
    records.merge(id, 1, &members(patch)).await.unwrap();
    let audit = session.audit();
    let project = || EntityRef::new("project", id);
    let row = audit.restore_field(project(), "city", 1).await.unwrap();
    let document = row.get("custom_fields").to_json();
    assert_eq!(document, json!({"site": "south", "city": "Berlin"}));
    records.delete(id).await.unwrap();
    let row = audit.restore_version(project(), 1).await.unwrap();
    assert_eq!(row.get("name").as_text(), Some("Dome"));
    let document = row.get("custom_fields").to_json();
    assert_eq!(document, json!({"site": "north", "city": "Berlin"}));
    let then = audit.as_of_row("project", id, office.now()).await.unwrap();
    assert_eq!(then.unwrap().row.version(), row.version());
}

/// A secret that the trail does not keep is never replaced by its mask.
#[tokio::test]
async fn what_the_trail_does_not_keep_stays() {
    let office = Office::new().await;
    let (session, tenant) = (&office.session, office.onboarded.tenant);
    let set = async |key: &str, color: &str| {
        let settings =
            json!({"smtp": {"password": key, "host": "mx"}, "api_key": key, "color": color});
        let mut tenants = session.records::<Tenant>();
        tenants
            .update(tenant, |tenant| tenant.settings = settings.clone())
            .await
    };
    set("one", "red").await.unwrap();
    let version = session
        .records::<Tenant>()
        .get(tenant)
        .await
        .unwrap()
        .version;
    set("one", "blue").await.unwrap();
    // The secrets are the same since, so they stay.
    session
        .audit()
        .restore_version(tenant, version)
        .await
        .unwrap();
    let now = session.records::<Tenant>().get(tenant).await.unwrap();
    let wanted =
        json!({"smtp": {"password": "one", "host": "mx"}, "api_key": "one", "color": "red"});
    assert_eq!(now.settings, wanted);
    set("two", "blue").await.unwrap();
    let error = session
        .audit()
        .restore_version(tenant, version)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_kept");
    session
        .audit()
        .restore_field(tenant, "settings.color", version)
        .await
        .unwrap();
    let now = session.records::<Tenant>().get(tenant).await.unwrap();
    let wanted =
        json!({"smtp": {"password": "two", "host": "mx"}, "api_key": "two", "color": "red"});
    assert_eq!(now.settings, wanted);
}

/// Two that restore and write at the same time: each is a version of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_comes_back_among_other_writers() {
    let office = Office::new().await;
    let session = &office.session;
    let id = account(session, "Globex").await;
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    session.audit().restore_version(id, 1).await.map(|_| ())
                } else {
                    let mut accounts = session.accounts();
                    let named = accounts.update(id, |account| account.name = format!("N{number}"));
                    named.await.map(|_| ())
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    crate::common::assert_trail_tells_every_record(session).await;
}
