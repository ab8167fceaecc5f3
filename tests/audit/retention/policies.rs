//! Policies of retention: what they do to records that are old enough, and what they leave.

use std::ops::ControlFlow;

use crm_engine::prelude::*;
use crm_engine::privacy::{
    ConsentEvidence, DeletionMethod, DeletionReason, Grant, LegalHold, PeriodUnit, RetentionPolicy,
    Upkeep, anonymized,
};
use crm_engine::query::Criteria;
use serde_json::json;

use super::{log, moment, policy, timed};
use crate::common;
use crate::common::{picture, populate, rows_of, tenant};

/// C-170, R-036, R-055, R-057: the defaults are there once, and what they do.
#[tokio::test]
async fn the_defaults_archive_old_activities_and_idle_leads() {
    let (crm, clock) = timed("2018-01-01T00:00:00Z");
    let (onboarded, session) = tenant(&crm, "acme").await;
    let made = session.retention().install_defaults().await.unwrap();
    assert_eq!(made.len(), 4);
    assert!(
        session
            .retention()
            .install_defaults()
            .await
            .unwrap()
            .is_empty()
    );

    let lead = |company: &str| Lead {
        company: Some(company.into()),
        ..Lead::default()
    };
    let idle = session.leads().create(lead("Idle")).await.unwrap();
    let gone = Lead {
        status: LeadStatus::Lost,
        ..lead("Lost")
    };
    let lost = session.leads().create(gone).await.unwrap();
    let call = Activity::new(ActivityType::Call, "Hello", idle.id, onboarded.admin);
    let old = session.activities().create(call.clone()).await.unwrap();
    clock.set(moment("2024-06-01T00:00:00Z"));
    let fresh = session.leads().create(lead("Fresh")).await.unwrap();
    let recent = Activity::new(ActivityType::Call, "Hello", fresh.id, onboarded.admin);
    let recent = session.activities().create(recent).await.unwrap();
    clock.set(moment("2025-01-02T00:00:00Z"));

    let before = picture(&session).await;
    let expected = session.retention().dry_run_all().await.unwrap();
    assert!(
        picture(&session).await == before,
        "a dry run wrote something"
    );
    let told: Vec<_> = expected
        .iter()
        .map(|run| (run.name.as_str(), run.upkeep, run.method))
        .collect();
    assert_eq!(
        told,
        [
            ("activities", Upkeep::Records, DeletionMethod::Archive),
            ("audit archive", Upkeep::Months, DeletionMethod::Archive),
            ("audit deletion", Upkeep::Months, DeletionMethod::HardDelete),
            ("idle leads", Upkeep::Records, DeletionMethod::Archive),
        ]
    );
    assert_eq!(expected[1].cutoff, moment("2024-01-02T00:00:00Z"));
    assert!(expected[1].done > 0, "events of 2018 are due");
    let done = session.retention().run_all(&()).await.unwrap();
    assert_eq!(done, expected);
    assert_eq!(done[0].first, [old.id.uuid()]);
    // An activity archived long ago keeps no lead alive: both idle leads went.
    let archived = [idle.id, lost.id];
    for id in archived {
        assert!(session.leads().get(id).await.unwrap().archived_at.is_some());
    }
    assert!(
        session
            .leads()
            .get(fresh.id)
            .await
            .unwrap()
            .archived_at
            .is_none()
    );
    assert!(
        session
            .activities()
            .get(recent.id)
            .await
            .unwrap()
            .archived_at
            .is_none()
    );
    let entries = log(&session).await;
    assert_eq!(entries.len(), 4, "the month of events has one");
    for entry in &entries {
        assert_eq!(entry.reason, DeletionReason::RetentionEnded);
        assert_eq!(entry.method, DeletionMethod::Archive);
    }
    let again = session.retention().run_all(&()).await.unwrap();
    assert_eq!(again[0].done + again[3].done, 0);
}

/// C-082: a run is done in batches, can be stopped, and run again does the rest.
#[tokio::test]
async fn a_stopped_run_goes_on_where_it_was() {
    let (crm, clock) = timed("2020-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let accounts = (0..450)
        .map(|number| Account::new(format!("A{number}")))
        .collect();
    session.accounts().create_all(accounts).await.unwrap();
    clock.set(moment("2021-02-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy {
            legal_reference: Some("§ 257 HGB".into()),
            ..RetentionPolicy::new("accounts", "account", DeletionMethod::HardDelete, 1)
        },
    )
    .await;
    let expected = session.retention().dry_run(id).await.unwrap();
    assert_eq!((expected.done, expected.first.len()), (450, 20));
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let first = session.retention().run(id, &stop).await.unwrap();
    assert!(first.is_stopped && first.done == 200);
    let rest = session.retention().run(id, &()).await.unwrap();
    assert_eq!((rest.done, rest.is_stopped), (250, false));
    assert!(rows_of(&session, "account").await.is_empty());
    let entries = log(&session).await;
    assert_eq!(entries.len(), 450);
    assert!(
        entries
            .iter()
            .all(|entry| entry.legal_reference.as_deref() == Some("§ 257 HGB"))
    );
    // what the records were is told by the trail.
    let gone = session
        .audit()
        .trail(EntityRef::new("account", entries[0].record_id))
        .await
        .unwrap();
    assert_eq!(gone.last().unwrap().event, AuditKind::Purge);
    assert!(gone.last().unwrap().changes.field("name").is_some());
}

/// anonymized records have nothing personal, stay, and are not touched again.
#[tokio::test]
async fn anonymized_contacts_have_no_person_any_more() {
    let (crm, clock) = timed("2020-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    for number in 0..3 {
        let ada = Contact {
            email: Some(EmailAddress::parse(&format!("ada{number}@example.com")).unwrap()),
            phone: Some(PhoneNumber::parse("+43 1 5880131").unwrap()),
            tags: vec!["key".into()],
            ..Contact::named("Ada", "Lovelace")
        };
        session.contacts().create(ada).await.unwrap();
    }
    clock.set(moment("2023-02-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::Anonymize, 3),
    )
    .await;
    let expected = session.retention().dry_run(id).await.unwrap();
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(expected, done);
    assert_eq!((done.done, done.refused), (3, 0));
    for row in rows_of(&session, "contact").await {
        assert!(anonymized(row.object(), &row).is_empty());
        let text = serde_json::to_string(&row.to_json()).unwrap();
        for personal in ["Ada", "Lovelace", "example.com", "5880131"] {
            assert!(!text.contains(personal), "{personal} is left: {text}");
        }
        assert_eq!(
            row.get("tags").to_json(),
            json!(["key"]),
            "tags are not personal"
        );
    }
    for entry in rows_of(&session, "deletion_log").await {
        let entry = serde_json::to_string(&entry.to_json()).unwrap();
        assert!(!entry.contains("Ada") && !entry.contains("example.com"));
    }
    let again = session.retention().run(id, &()).await.unwrap();
    assert_eq!((again.done, again.refused), (0, 0));
}

/// A held record stays, and so does one that it would go with.
#[tokio::test]
async fn what_is_held_stays() {
    let (crm, clock) = timed("2020-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let mut ids = Vec::new();
    for name in ["Ada", "Bob", "Cleo"] {
        let contact = Contact {
            job_title: Some(name.into()),
            ..Contact::named(name, "Example")
        };
        ids.push(session.contacts().create(contact).await.unwrap().id);
    }
    let grant = Grant::new(
        "marketing_email".parse().unwrap(),
        ConsentEvidence::default(),
    );
    let consent = session.consents().grant(ids[0], grant).await.unwrap();
    let hold = |object: &str| LegalHold::new("lawsuit", object);
    let of_consent = LegalHold {
        record_id: Some(consent.id.uuid()),
        ..hold("consent")
    };
    session.legal_holds().create(of_consent).await.unwrap();
    let of_bob = LegalHold {
        criteria: Some(Criteria::from(Contact::JOB_TITLE.eq("Bob"))),
        ..hold("contact")
    };
    let of_bob = session.legal_holds().create(of_bob).await.unwrap();
    let neither = session
        .legal_holds()
        .create(hold("contact"))
        .await
        .unwrap_err();
    assert_eq!(neither.field_errors()[0].path, "record_id");
    clock.set(moment("2022-01-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::SoftDelete, 1),
    )
    .await;
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(done.first, [ids[2].uuid()]);
    let codes: Vec<_> = done.refusals.iter().map(|one| (one.id, one.code)).collect();
    assert_eq!(
        codes,
        [(ids[0].uuid(), "legal_hold"), (ids[1].uuid(), "legal_hold")]
    );
    // Lifted, the hold no longer counts.
    session
        .legal_holds()
        .update(of_bob.id, |hold| hold.is_active = false)
        .await
        .unwrap();
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!((done.first, done.refused), (vec![ids[1].uuid()], 1));
}

/// C-065: policies are checked by the schema, with every fault; objects of tenants have policies too.
#[tokio::test]
async fn policies_fit_the_schema_or_are_refused() {
    let crm = common::crm();
    let populated = populate(&crm, "acme").await;
    let session = &populated.session;
    let refused = |policy: RetentionPolicy| async move {
        let refused = session
            .retention_policies()
            .create(policy)
            .await
            .unwrap_err();
        let errors = refused.field_errors().iter();
        errors.map(|fault| fault.path.clone()).collect::<Vec<_>>()
    };
    let archive = |object: &str| RetentionPolicy::new("p", object, DeletionMethod::Archive, 1);
    assert_eq!(refused(archive("unheard_of")).await, ["object"]);
    assert_eq!(refused(archive("deal_state")).await, ["object"]);
    assert_eq!(refused(archive("api_call")).await, ["method"]);
    let wrong = RetentionPolicy {
        basis_field: "name".into(),
        criteria: Some(Criteria::from(Filter::eq("nonsense", 1))),
        period: 0,
        ..archive("account")
    };
    let mut faults = refused(wrong).await;
    faults.sort();
    assert_eq!(faults, ["basis_field", "criteria", "period"]);

    let id = policy(
        session,
        RetentionPolicy {
            criteria: Some(Criteria::from(Filter::eq("name", "Kept for nobody"))),
            period_unit: PeriodUnit::Days,
            ..RetentionPolicy::new("viewings", "viewing", DeletionMethod::HardDelete, 1)
        },
    )
    .await;
    let expected = session.retention().dry_run(id).await.unwrap();
    assert_eq!((expected.done, expected.object.as_str()), (0, "viewing"));
}
