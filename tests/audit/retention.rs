//! C-059, C-060: auth events and API calls. C-063, C-065, C-066, C-082, C-105, R-055 to R-061: what
//! is kept for how long, what went, and what a tenant answers for. Reads of sensitive objects are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{backend, picture, populate, rows_of, tenant};
use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::audit::{
    ApiCall, AuditCategory, AuthEvent, AuthKind, AuthOutcome, Lockout, LockoutPolicy, LoginKey,
    LoginSource, Sealing, Verification, Window,
};
use crm_engine::engine::{CommitHook, ManualClock, ReadHook, RequestContext, UnitOfWork};
use crm_engine::prelude::*;
use crm_engine::privacy::{
    ConsentEvidence, DeletionLog, DeletionMethod, DeletionReason, Grant, LawfulBasis, LegalHold,
    PeriodUnit, ProcessingActivity, RetentionPolicy, Upkeep, anonymized,
};
use crm_engine::query::Criteria;
use crm_engine::schema::{ObjectRef, Row};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uuid::Uuid;

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A CRM whose time stands still until it is set.
fn timed(at: &str) -> (Crm, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(moment(at)));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    (crm, clock)
}

async fn policy(session: &Session, policy: RetentionPolicy) -> Id<RetentionPolicy> {
    session
        .retention_policies()
        .create(policy)
        .await
        .unwrap()
        .id
}

async fn log(session: &Session) -> Vec<Arc<Record<DeletionLog>>> {
    let find = Find::<DeletionLog>::new().limit(1_000);
    session
        .records::<DeletionLog>()
        .find(find)
        .await
        .unwrap()
        .items
}

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
    assert_eq!(entries.len(), 3);
    for entry in &entries {
        assert_eq!(entry.reason, DeletionReason::RetentionEnded);
        assert_eq!(entry.method, DeletionMethod::Archive);
    }
    let again = session.retention().run_all(&()).await.unwrap();
    assert_eq!(again[0].done + again[3].done, 0);
}

/// One territory of a random tree: which one is above, in days its age, and whether it is held.
type Plan = (Option<usize>, i64, bool);

/// C-065, C-082: what a dry run tells is what the run then does, also where records stand against
/// each other or are held; a second run does nothing.
#[test]
fn a_dry_run_tells_what_the_run_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let number = AtomicUsize::new(0);
    let (crm, clock) = runtime.block_on(async { timed("2020-01-01T00:00:00Z") });
    let plan = (
        prop::option::of(0_usize..12),
        0_i64..100,
        prop::bool::weighted(0.1),
    );
    let methods = prop::sample::select(vec![
        DeletionMethod::Archive,
        DeletionMethod::SoftDelete,
        DeletionMethod::HardDelete,
    ]);
    let strategy = (prop::collection::vec(plan, 1..12), methods, 1_i32..100);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |(plans, method, days)| {
        let subdomain = format!("kept-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            clock.set(moment("2020-01-01T00:00:00Z"));
            let (_, session) = tenant(&crm, &subdomain).await;
            let mut plans: Vec<Plan> = plans;
            plans.sort_by_key(|(_, age, _)| -age);
            let mut ids: Vec<Id<Territory>> = Vec::new();
            for (place, (above, age, held)) in plans.iter().enumerate() {
                clock.set(moment("2020-06-01T00:00:00Z") - TimeDelta::days(*age));
                let territory = Territory {
                    parent_territory_id: above.and_then(|above| ids.get(above).copied()),
                    ..Territory::new(format!("T{place}"))
                };
                let made = session.territories().create(territory).await.unwrap();
                if *held {
                    let hold = LegalHold {
                        record_id: Some(made.id.uuid()),
                        ..LegalHold::new("lawsuit", "territory")
                    };
                    session.legal_holds().create(hold).await.unwrap();
                }
                ids.push(made.id);
            }
            clock.set(moment("2020-06-01T00:00:00Z"));
            let id = policy(
                &session,
                RetentionPolicy {
                    period_unit: PeriodUnit::Days,
                    ..RetentionPolicy::new("t", "territory", method, days)
                },
            )
            .await;
            let before = picture(&session).await;
            let expected = session.retention().dry_run(id).await.unwrap();
            assert!(
                picture(&session).await == before,
                "a dry run wrote something"
            );
            let done = session.retention().run(id, &()).await.unwrap();
            assert_eq!(expected, done);
            let due = plans
                .iter()
                .filter(|(_, age, _)| *age > i64::from(days))
                .count();
            assert_eq!(done.done + done.refused, due as u64);
            let entries = log(&session).await;
            assert_eq!(entries.len() as u64, done.done);
            // What is left is what was refused and what is not due, the held ones among them.
            let left: BTreeMap<Uuid, Row> = rows_of(&session, "territory")
                .await
                .into_iter()
                .filter(|row| row.is_active())
                .map(|row| (row.id(), row))
                .collect();
            assert_eq!(left.len() as u64, plans.len() as u64 - done.done);
            for ((_, age, held), id) in plans.iter().zip(&ids) {
                let stays = *held || *age <= i64::from(days);
                assert!(!stays || left.contains_key(&id.uuid()));
            }
            for entry in &entries {
                assert!(!left.contains_key(&entry.record_id));
            }
        });
        Ok(())
    });
    outcome.unwrap();
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

/// Entries of a log go some hundred at once, and the deletion log tells how many.
#[tokio::test]
async fn old_api_calls_go() {
    let (crm, clock) = timed("2026-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let call = |at| ApiCall::done("get", "/deals", 200, Duration::from_millis(3), at);
    let calls = (0..700)
        .map(|_| call(moment("2026-01-01T00:00:00Z")))
        .collect();
    session.api_calls().record_all(calls).await.unwrap();
    session
        .api_calls()
        .record(call(moment("2026-03-30T00:00:00Z")))
        .await
        .unwrap();
    clock.set(moment("2026-04-05T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy {
            period_unit: PeriodUnit::Days,
            basis_field: "occurred_at".into(),
            ..RetentionPolicy::new("calls", "api_call", DeletionMethod::HardDelete, 90)
        },
    )
    .await;
    let expected = session.retention().dry_run(id).await.unwrap();
    assert_eq!((expected.done, expected.upkeep), (700, Upkeep::Log));
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(done.done, 700);
    assert_eq!(rows_of(&session, "api_call").await.len(), 1);
    let entries = log(&session).await;
    let counts: i64 = entries.iter().map(|entry| entry.record_count).sum();
    assert_eq!((entries.len(), counts), (2, 700));
    assert!(entries.iter().all(|entry| entry.record_id == id.uuid()));
}

async fn reads(session: &Session) -> Vec<(Uuid, String)> {
    let find = Find::from(AuditEvent::EVENT.eq(AuditKind::Read)).limit(1_000);
    let events = session.audit().find(find).await.unwrap().items;
    for event in &events {
        assert_eq!(event.category, AuditCategory::DataAccess);
        assert!(event.changes.is_empty(), "a read tells no values");
        assert_eq!(event.created.by, session.actor());
    }
    let told = events.iter();
    told.map(|event| (event.record_id, event.object.clone()))
        .collect()
}

/// Every way to read a record of a sensitive object is told, who, when and from where; others are
/// not.
#[tokio::test]
async fn reads_of_sensitive_objects_are_told() {
    let crm = common::crm();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "umbrella").await;
    let session = session.with_context(RequestContext {
        ip: Some([203, 0, 113, 7].into()),
        ..RequestContext::default()
    });
    let ada = Contact {
        job_title: Some("Analyst".into()),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap();
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    session.contacts().get(ada.id).await.unwrap();
    assert!(reads(&session).await.is_empty(), "nobody asked for it yet");

    let refused = session
        .configurations()
        .set_sensitive_objects(&["audit_event"])
        .await;
    assert_eq!(refused.unwrap_err().code(), "validation");
    session
        .configurations()
        .set_sensitive_objects(&["contact"])
        .await
        .unwrap();
    assert_eq!(
        session.configurations().sensitive_objects().await.unwrap(),
        ["contact"]
    );
    let mut wanted = 0;
    let mut told = async |what: &str, more: usize| {
        wanted += more;
        let told = reads(&session).await;
        assert_eq!(told.len(), wanted, "{what}");
        assert!(
            told.iter()
                .all(|one| *one == (ada.id.uuid(), "contact".to_owned()))
        );
    };
    session.contacts().get(ada.id).await.unwrap();
    told("get", 1).await;
    session
        .contacts()
        .get_all(&[ada.id, Id::new(Uuid::nil())])
        .await
        .unwrap();
    told("get all", 1).await;
    session
        .contacts()
        .find(Contact::JOB_TITLE.eq("Analyst"))
        .await
        .unwrap();
    told("find", 1).await;
    session
        .contacts()
        .find_one(Contact::JOB_TITLE.eq("Analyst"))
        .await
        .unwrap();
    told("find one", 1).await;
    let named = session.object("contact").await.unwrap();
    named.get(ada.id.uuid()).await.unwrap();
    named.find(&Find::new()).await.unwrap();
    told("by name", 2).await;
    session.search("contact", "lovelace", 10).await.unwrap();
    told("search", 1).await;
    let mut work = session.begin();
    work.contacts().get(ada.id).await.unwrap();
    drop(work);
    told("in a unit of work that is dropped", 1).await;
    // Nothing is handed out here.
    session
        .contacts()
        .find(Contact::JOB_TITLE.eq("Nobody"))
        .await
        .unwrap();
    session.contacts().count(Find::new()).await.unwrap();
    session
        .contacts()
        .get(Id::new(Uuid::nil()))
        .await
        .unwrap_err();
    session.accounts().get(globex.id).await.unwrap();
    told("nothing", 0).await;
    let trail = session.audit().trail(ada.id).await.unwrap();
    assert_eq!(trail.last().unwrap().ip.as_deref(), Some("203.0.113.7"));
    // Reads are no versions.
    session
        .contacts()
        .update(ada.id, |ada| ada.job_title = Some("Countess".into()))
        .await
        .unwrap();
    let second = session.audit().version(ada.id, 2).await.unwrap().unwrap();
    assert_eq!(second.record.job_title.as_deref(), Some("Countess"));
    // Another tenant tells nothing.
    let bob = other
        .contacts()
        .create(Contact::named("Bob", "Builder"))
        .await
        .unwrap();
    other.contacts().get(bob.id).await.unwrap();
    assert!(reads(&other).await.is_empty());
}

/// Refuses to be told of anything.
#[derive(Debug)]
struct Deaf;

#[async_trait::async_trait]
impl ReadHook for Deaf {
    async fn before_hand_out(
        &self,
        _: &Session,
        _: &ObjectRef,
        _: &[(Uuid, i64)],
    ) -> crm_engine::Result<()> {
        Err(Error::Forbidden {
            reason: "nobody listens".into(),
        })
    }
}

/// Nothing is handed out that could not be told, and a setting that nobody understands lets nothing
/// go untold.
#[tokio::test]
async fn a_read_that_cannot_be_told_fails() {
    let crm = Crm::builder(backend::storage(&[])).read_hook(Deaf).build();
    let (_, session) = tenant(&crm, "acme").await;
    let ada = Contact::named("Ada", "Lovelace");
    let ada = session.contacts().create(ada).await.unwrap();
    session.contacts().get(ada.id).await.unwrap();
    let mut settings = session.configurations();
    settings.set_sensitive_objects(&["contact"]).await.unwrap();
    let refused = session.contacts().get(ada.id).await.unwrap_err();
    assert_eq!(refused.code(), "forbidden");
    let refused = session.contacts().find(Find::new()).await.unwrap_err();
    assert_eq!(refused.code(), "forbidden");
    settings
        .set(ConfigCategory::Security, "sensitive_objects", &"contact")
        .await
        .unwrap();
    let refused = session.accounts().create(Account::new("Globex")).await;
    let refused = session.accounts().get(refused.unwrap().id).await;
    assert_eq!(refused.unwrap_err().code(), "validation");
}

/// C-059: failures by user, name and address in a window, and who is locked out.
#[tokio::test]
async fn failed_logins_are_counted_and_lock_out() {
    let (crm, clock) = timed("2026-05-01T12:00:00Z");
    let (onboarded, session) = tenant(&crm, "acme").await;
    let noon = moment("2026-05-01T12:00:00Z");
    let at = |minute: i64| noon + TimeDelta::minutes(minute);
    let failed = |minute: i64, login: &str, ip: &str| AuthEvent {
        login: Some(login.into()),
        ip: Some(ip.into()),
        user_id: (login == "Ada@acme.example").then(|| onboarded.admin.uuid()),
        reason: Some("wrong_password".into()),
        ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, at(minute))
    };
    let mut events: Vec<AuthEvent> = (0..5)
        .map(|m| failed(m, "Ada@acme.example", "203.0.113.7"))
        .collect();
    events.push(failed(2, "nobody@acme.example", "2001:db8:0::1"));
    events.push(failed(-90, "nobody@acme.example", "2001:db8::1"));
    events.push(AuthEvent::new(
        AuthKind::Login,
        AuthOutcome::Success,
        at(-1),
    ));
    events.push(AuthEvent {
        ip: Some("no address".into()),
        ..AuthEvent::new(AuthKind::SecondFactorChange, AuthOutcome::Failure, at(1))
    });
    session.security().record_all(events).await.unwrap();
    clock.set(at(5));
    let hour = Window::new(at(-55), at(5));
    let by = async |by| {
        let found = session
            .security()
            .failed_logins(by, hour, 10)
            .await
            .unwrap();
        let told = found
            .iter()
            .map(|one| (one.source.clone(), one.failures, one.last));
        told.collect::<Vec<_>>()
    };
    let named = |text: &str| Some(text.to_owned());
    assert_eq!(by(LoginSource::User).await, [(None, 5, at(4))]);
    assert_eq!(
        by(LoginSource::Login).await,
        [
            (named("ada@acme.example"), 5, at(4)),
            (named("nobody@acme.example"), 1, at(2))
        ]
    );
    assert_eq!(
        by(LoginSource::Address).await,
        [
            (named("203.0.113.7"), 5, at(4)),
            (named("2001:db8::1"), 1, at(2))
        ]
    );
    let top = session
        .security()
        .failed_logins(LoginSource::Login, hour, 1)
        .await
        .unwrap();
    assert_eq!((top.len(), top[0].first), (1, at(0)));

    let ada = LoginKey::User(onboarded.admin);
    let policy = LockoutPolicy::default();
    let until = at(19);
    let answer = async |key: &LoginKey| {
        session
            .security()
            .lockout(key.clone(), &policy)
            .await
            .unwrap()
    };
    assert_eq!(answer(&ada).await, Lockout::Locked { until });
    let from = LoginKey::Address("203.0.113.7".parse().unwrap());
    assert_eq!(answer(&from).await, Lockout::Locked { until });
    let nobody = LoginKey::Login(" NOBODY@acme.example".into());
    assert_eq!(answer(&nobody).await, Lockout::Open { left: Some(4) });
    assert_eq!(
        session
            .security()
            .count_failed(&nobody, hour)
            .await
            .unwrap(),
        1
    );
    let unlock = AuthEvent {
        user_id: Some(onboarded.admin.uuid()),
        ..AuthEvent::new(AuthKind::Unlock, AuthOutcome::Success, at(5))
    };
    session.security().record(unlock).await.unwrap();
    assert_eq!(answer(&ada).await, Lockout::Open { left: Some(5) });

    // Pages are stable while events come in.
    let page = session
        .security()
        .events(Some(&ada), hour, 2, None)
        .await
        .unwrap();
    assert_eq!(
        page.items
            .iter()
            .map(|event| event.occurred_at)
            .collect::<Vec<_>>(),
        [at(4), at(3)]
    );
    session
        .security()
        .record(failed(4, "Ada@acme.example", "203.0.113.9"))
        .await
        .unwrap();
    let next = session
        .security()
        .events(Some(&ada), hour, 2, page.next)
        .await
        .unwrap();
    assert_eq!(
        next.items
            .iter()
            .map(|event| event.occurred_at)
            .collect::<Vec<_>>(),
        [at(2), at(1)]
    );
}

/// C-060: figures by endpoint are those of all calls, percentiles within a 64th.
#[test]
fn figures_by_endpoint_are_those_of_all_calls() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let number = AtomicUsize::new(0);
    let (crm, _) = runtime.block_on(async { timed("2026-05-01T12:00:00Z") });
    let noon = moment("2026-05-01T12:00:00Z");
    let call = (
        0_usize..3,
        prop::sample::select(vec![200, 201, 404, 500, 503]),
        0_u64..5_000_000,
        -90_i64..10,
    );
    let strategy = prop::collection::vec(call, 1..60);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(16),
        failure_persistence: None,
        ..Config::default()
    });
    const ENDPOINTS: [&str; 3] = ["/contacts/{id}", "/deals", "/deals/{id}"];
    let outcome = runner.run(&strategy, |calls| {
        let subdomain = format!("api-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (_, session) = tenant(&crm, &subdomain).await;
            let entries = calls.iter().map(|(endpoint, status, took, minute)| {
                let took = Duration::from_micros(*took);
                ApiCall::done(
                    "get",
                    ENDPOINTS[*endpoint],
                    *status,
                    took,
                    noon + TimeDelta::minutes(*minute),
                )
            });
            session
                .api_calls()
                .record_all(entries.collect())
                .await
                .unwrap();
            let hour = Window::new(noon - TimeDelta::minutes(60), noon);
            let told = session.api_calls().by_endpoint(hour).await.unwrap();
            let mut wanted: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
            for (endpoint, status, took, minute) in &calls {
                if (-60..0).contains(minute) {
                    let took = i64::try_from(*took).unwrap();
                    wanted
                        .entry(ENDPOINTS[*endpoint])
                        .or_default()
                        .push((*status, took));
                }
            }
            assert_eq!(told.len(), wanted.len());
            for (told, (endpoint, mut calls)) in told.iter().zip(wanted) {
                assert_eq!(
                    (told.method.as_str(), told.endpoint.as_str()),
                    ("GET", endpoint)
                );
                assert_eq!(told.calls, calls.len() as u64);
                let failed = calls.iter().filter(|(status, _)| *status >= 500).count();
                assert_eq!(told.server_errors, failed as u64);
                assert_eq!(
                    told.client_errors,
                    calls.iter().filter(|(status, _)| *status == 404).count() as u64
                );
                assert!((told.error_rate() - failed as f64 / calls.len() as f64).abs() < 1e-9);
                assert_eq!(
                    told.mean,
                    calls.iter().map(|(_, took)| took).sum::<i64>() / calls.len() as i64
                );
                calls.sort_by_key(|(_, took)| *took);
                for (percent, told) in [(50, told.p50), (95, told.p95), (99, told.p99)] {
                    let (_, exact) = calls[(calls.len() * percent).div_ceil(100) - 1];
                    assert!(
                        (told - exact).abs() * 64 <= exact,
                        "{exact} is told as {told}"
                    );
                }
                let page = session
                    .api_calls()
                    .of_endpoint(endpoint, hour, 100, None)
                    .await
                    .unwrap();
                assert_eq!(page.items.len(), calls.len());
                assert!(
                    page.items
                        .is_sorted_by(|a, b| a.occurred_at >= b.occurred_at)
                );
            }
        });
        Ok(())
    });
    outcome.unwrap();
    runtime.block_on(async {
        let (_, session) = tenant(&crm, "wrong").await;
        let wrong = ApiCall::done("GET", "/deals", 7, Duration::ZERO, noon);
        let refused = session.api_calls().record(wrong).await.unwrap_err();
        assert_eq!(refused.field_errors()[0].path, "status");
    });
}

/// C-063, C-105, R-061: the report has the register, the policies, and counts over all categories.
#[tokio::test]
async fn the_report_tells_what_is_held_and_why() {
    let (crm, clock) = timed("2026-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    session.retention().install_defaults().await.unwrap();
    let unsaid = ProcessingActivity {
        is_transferred: true,
        lawful_basis: LawfulBasis::LegitimateInterests,
        ..ProcessingActivity::new("Newsletter", "To tell of new products")
    };
    let refused = session
        .processing_activities()
        .create(unsaid)
        .await
        .unwrap_err();
    let mut faults: Vec<_> = refused
        .field_errors()
        .iter()
        .map(|fault| fault.path.as_str())
        .collect();
    faults.sort_unstable();
    assert_eq!(faults, ["legitimate_interests", "transfer_safeguards"]);
    for (number, basis) in LawfulBasis::ALL.iter().enumerate() {
        let activity = ProcessingActivity {
            lawful_basis: *basis,
            legitimate_interests: Some("To keep in touch".into()),
            data_categories: vec!["name".into()],
            ..ProcessingActivity::new(format!("Activity {number}"), "To sell")
        };
        session
            .processing_activities()
            .create(activity)
            .await
            .unwrap();
    }
    let ada = session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap();
    let bob = session
        .contacts()
        .create(Contact::named("Bob", "Builder"))
        .await
        .unwrap();
    session.contacts().delete(bob.id).await.unwrap();
    let grant = |name: &str| Grant::new(name.parse().unwrap(), ConsentEvidence::default());
    session
        .consents()
        .grant(ada.id, grant("marketing_email"))
        .await
        .unwrap();
    session
        .consents()
        .grant(ada.id, grant("marketing_phone"))
        .await
        .unwrap();
    let kind = "marketing_phone".parse().unwrap();
    session
        .consents()
        .withdraw(ada.id, &kind, Default::default())
        .await
        .unwrap();
    // What an erasure and an access leave, one in the period and one before it.
    for day in ["2026-02-01T00:00:00Z", "2026-04-01T00:00:00Z"] {
        clock.set(moment(day));
        let mut work = session.begin();
        let entry = DeletionLog::new(
            "contact",
            bob.id.uuid(),
            DeletionMethod::Anonymize,
            DeletionReason::ErasureRequest,
            3,
            9,
        );
        work.append_entry(entry).unwrap();
        let commit = work.commit_stamp().id;
        let read = AuditEvent::new(
            commit,
            AuditKind::Read,
            AuditCategory::DataChange,
            "contact",
            ada.id.uuid(),
            1,
        );
        work.append_entry(read).unwrap();
        work.commit().await.unwrap();
    }
    let quarter = Window::new(
        moment("2026-03-01T00:00:00Z"),
        moment("2026-06-01T00:00:00Z"),
    );
    let report = session.privacy().gdpr_report(quarter).await.unwrap();
    let bases: Vec<_> = report
        .activities
        .iter()
        .map(|activity| activity.lawful_basis)
        .collect();
    assert_eq!(bases, LawfulBasis::ALL);
    assert_eq!(report.retention_policies.len(), 4);
    let consents: Vec<_> = report
        .consents
        .iter()
        .map(|one| (one.consent_type.as_str(), one.status.as_str(), one.count))
        .collect();
    assert_eq!(
        consents,
        [
            ("marketing_email", "granted", 1),
            ("marketing_phone", "withdrawn", 1)
        ]
    );
    let contacts = &report.persons[0];
    assert_eq!(
        (contacts.live, contacts.archived, contacts.deleted),
        (1, 0, 1)
    );
    let held = report
        .held
        .iter()
        .find(|held| held.object == "contact")
        .unwrap();
    assert_eq!(held.records, 2);
    assert!(held.personal_fields.contains(&"email".to_owned()));
    assert!(report.held.iter().any(|held| held.object == "auth_event"));
    assert_eq!((report.erasures, report.access_requests), (1, 1));
    assert_eq!((report.gone[0].entries, report.gone[0].records), (1, 3));
    let json = report.to_json();
    assert_eq!(json["erasures"], 1);
    assert!(
        !json.to_string().contains("Lovelace"),
        "the report tells of no person"
    );
}

/// what is anonymized is not in the versions either; seals over them still hold, and
/// records whose time is not over keep theirs.
#[tokio::test]
async fn what_is_anonymized_is_in_no_version() {
    let (crm, clock) = timed("2020-01-01T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let email = |text: &str| Some(EmailAddress::parse(text).unwrap());
    let ada = Contact {
        email: email("ada@old.example"),
        job_title: Some("Countess".into()),
        description: Some("likes horses".into()),
        custom_fields: json!({"nickname": "Enchantress"}).into(),
        tags: vec!["key".into()],
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let change = |contact: &mut Contact| {
        contact.email = email("ada@new.example");
        contact.job_title = None;
        contact.tags = vec!["first".into()];
    };
    session.contacts().update(ada, change).await.unwrap();
    clock.set(moment("2022-12-01T00:00:00Z"));
    let young = Contact::named("Charles", "Babbage");
    let young = session.contacts().create(young).await.unwrap().id;
    let kept = session.audit().trail(young).await.unwrap();
    // Others may hold up what is settled for a moment.
    let mut sealed = 0;
    while sealed < 1_000 {
        let head = session.audit().seal(Sealing::new()).await.unwrap();
        match head {
            Some(_) => break,
            None => sealed += 1,
        }
        common::pause().await;
    }
    clock.set(moment("2023-02-01T00:00:00Z"));
    let id = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::Anonymize, 3),
    )
    .await;
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(
        (done.first.as_slice(), done.refused),
        (&[ada.uuid()][..], 0)
    );

    let told = |text: &str| {
        let personal = ["Ada", "Lovelace", "old.example", "new.example", "Countess"];
        let mut personal = personal.into_iter().chain(["horses", "Enchantress"]);
        personal.find(|personal| text.contains(personal))
    };
    for event in session.audit().trail(ada).await.unwrap() {
        let text = event.changes.to_json().to_string();
        assert_eq!(told(&text), None, "{text}");
    }
    for version in session.audit().versions(ada, 20, None).await.unwrap() {
        let text = serde_json::to_string(&version).unwrap();
        assert_eq!(told(&text), None, "{text}");
    }
    let first = session.audit().version(ada, 1).await.unwrap().unwrap();
    assert_eq!(first.record.tags, ["key"], "tags are not personal");
    assert_eq!(session.audit().trail(young).await.unwrap(), kept);
    let report = session.audit().verify(Verification::new()).await.unwrap();
    assert!(report.is_intact(), "{report:?}");

    let events = rows_of(&session, "audit_event").await.len();
    let again = session.retention().run(id, &()).await.unwrap();
    assert_eq!((again.done, again.refused), (0, 0));
    assert_eq!(rows_of(&session, "audit_event").await.len(), events);
}

/// Sets a hold while the first commit of a run is under way.
#[derive(Clone, Debug, Default)]
struct HoldsMeanwhile {
    held: Arc<std::sync::Mutex<Option<LegalHold>>>,
}

#[async_trait::async_trait]
impl CommitHook for HoldsMeanwhile {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        let goes = |change: &crm_engine::engine::StagedChange| {
            change.object().name() == "contact"
                && change.after().is_none_or(|after| after.is_deleted())
        };
        if !work.staged().iter().any(goes) {
            return Ok(());
        }
        let hold = self.held.lock().unwrap().take();
        if let Some(hold) = hold {
            work.session().legal_holds().create(hold).await?;
        }
        Ok(())
    }
}

/// a hold that is set while a run is deciding keeps what it holds.
#[tokio::test]
async fn a_hold_set_meanwhile_is_kept() {
    let later = HoldsMeanwhile::default();
    let clock = Arc::new(ManualClock::new(moment("2020-01-01T00:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .hook(later.clone())
        .build();
    let (_, session) = tenant(&crm, "acme").await;
    let mut ids = Vec::new();
    for name in ["Ada", "Bob", "Cleo", "Dora"] {
        let contact = Contact {
            job_title: Some(name.into()),
            ..Contact::named(name, "Example")
        };
        ids.push(session.contacts().create(contact).await.unwrap().id);
    }
    clock.set(moment("2022-01-01T00:00:00Z"));
    let of_one = LegalHold {
        record_id: Some(ids[1].uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    let of_some = LegalHold {
        criteria: Some(Criteria::from(Contact::JOB_TITLE.eq("Cleo"))),
        ..LegalHold::new("audit", "contact")
    };
    let first = policy(
        &session,
        RetentionPolicy::new("contacts", "contact", DeletionMethod::SoftDelete, 1),
    )
    .await;
    *later.held.lock().unwrap() = Some(of_one);
    let done = session.retention().run(first, &()).await.unwrap();
    let went = [ids[0].uuid(), ids[2].uuid(), ids[3].uuid()];
    assert_eq!(done.first, went);
    assert_eq!(done.refusals[0].id, ids[1].uuid());
    let held = session.contacts().get(ids[1]).await.unwrap();
    assert!(held.deleted_at.is_none());
    // The same where records go for good, and the hold names none.
    let second = policy(
        &session,
        RetentionPolicy::new("gone", "contact", DeletionMethod::HardDelete, 1),
    )
    .await;
    *later.held.lock().unwrap() = Some(of_some);
    let done = session.retention().run(second, &()).await.unwrap();
    assert_eq!(done.first, [ids[0].uuid(), ids[3].uuid()]);
    let refused: Vec<Uuid> = done.refusals.iter().map(|one| one.id).collect();
    assert_eq!(refused, [ids[1].uuid(), ids[2].uuid()]);
}
