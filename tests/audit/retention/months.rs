//! Logs by months: a tenant's retention moves and removes its entries of whole months, seals over
//! them still hold, and the maintenance of the storage drops months of all tenants (C-070, C-082, C-106).

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::MemoryStorage;
use crm_engine::audit::{
    ApiCall, AuditCategory, AuthEvent, AuthKind, AuthOutcome, Sealing, Verification, Window,
    archived_events,
};
use crm_engine::prelude::*;
use crm_engine::privacy::{
    DeletionMethod, DeletionReason, LegalHold, PeriodUnit, PolicyRun, RetentionPolicy, Upkeep,
};
use crm_engine::query::Criteria;
use crm_engine::storage::FeedQuery;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::{log, moment, policy, timed};
use crate::common;
use crate::common::{rows_of, tenant};

/// A policy that keeps entries for some months.
fn months(object: &str, method: DeletionMethod, count: i32) -> RetentionPolicy {
    RetentionPolicy {
        period_unit: PeriodUnit::Months,
        ..RetentionPolicy::new(format!("{object} {method}"), object, method, count)
    }
}

/// The months of a run, each with what went and what stayed.
fn told(run: &PolicyRun) -> Vec<(String, u64, u64)> {
    let month = |one: &crm_engine::privacy::PolicyMonth| {
        (one.month.format("%Y-%m").to_string(), one.entries, one.held)
    };
    run.months.iter().map(month).collect()
}

async fn events(session: &Session) -> Vec<(Uuid, DateTime<Utc>, bool)> {
    let find = Find::<AuditEvent>::new().limit(1_000).with_archived();
    let mut events: Vec<_> = session
        .audit()
        .find(find)
        .await
        .unwrap()
        .items
        .iter()
        .map(|event| {
            (
                event.id.uuid(),
                event.created.at,
                event.archived_at.is_some(),
            )
        })
        .collect();
    events.sort_unstable();
    events
}

/// Seals everything: on a server that others use, what they have open has to end first.
async fn seal(session: &Session) {
    let all = events(session).await.len();
    for _ in 0..3_000 {
        let mut settled = 0;
        for object in [AuditEvent::schema(), archived_events()] {
            let query = FeedQuery::new(object, None, 10_000);
            let storage = session.engine().storage();
            let page = storage.feed(session.scope(), &query).await.unwrap();
            settled += page.entries.len();
        }
        if settled == all {
            session.audit().seal(Sealing::new()).await.unwrap();
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a transaction runs for half a minute");
}

async fn account(session: &Session, name: &str) -> Id<Account> {
    session
        .accounts()
        .create(Account::new(name))
        .await
        .unwrap()
        .id
}

/// Each tenant keeps its events for as long as it wants: what one lets go stays with the other, is
/// read by the same calls while it is archived, and is no fault of a seal once it is removed.
#[tokio::test]
async fn events_go_by_months_and_tenants() {
    let (crm, clock) = timed("2026-01-31T23:59:59Z");
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, umbrella) = tenant(&crm, "umbrella").await;
    account(&acme, "January").await;
    account(&umbrella, "January").await;
    clock.set(moment("2026-02-01T00:00:00Z"));
    account(&acme, "February").await;
    clock.set(moment("2026-03-02T00:00:00Z"));
    account(&acme, "March").await;
    account(&umbrella, "March").await;
    seal(&acme).await;
    seal(&umbrella).await;
    let others = events(&umbrella).await;
    let before = events(&acme).await;
    let in_january = before
        .iter()
        .filter(|(_, at, _)| *at < moment("2026-02-01T00:00:00Z"));
    let january = in_january.count() as u64;

    clock.set(moment("2026-04-15T00:00:00Z"));
    let archive = months("audit_event", DeletionMethod::Archive, 1);
    let archive = policy(&acme, archive).await;
    let expected = acme.retention().dry_run(archive).await.unwrap();
    assert_eq!(expected.upkeep, Upkeep::Months);
    assert_eq!(
        told(&expected),
        [("2026-01".into(), january, 0), ("2026-02".into(), 1, 0)],
        "the month of the cutoff stays"
    );
    let done = acme.retention().run(archive, &()).await.unwrap();
    assert_eq!(done, expected);
    let after = events(&acme).await;
    let is_old = |at: DateTime<Utc>| at < moment("2026-03-01T00:00:00Z");
    for (id, at, _) in &before {
        assert!(after.contains(&(*id, *at, is_old(*at))), "{at}");
    }
    assert_eq!(events(&umbrella).await, others);
    seal(&acme).await;
    let report = acme.audit().verify(Verification::new()).await.unwrap();
    assert!(report.is_intact() && report.removed == 0, "{report:?}");
    assert!(acme.audit().removals().await.unwrap().is_empty());
    let again = acme.retention().run(archive, &()).await.unwrap();
    assert_eq!((again.done, again.months.len()), (0, 0));

    // For good: out of the archive, and out of the log.
    clock.set(moment("2026-05-15T00:00:00Z"));
    let deletion = months("audit_event", DeletionMethod::HardDelete, 1);
    let deletion = policy(&acme, deletion).await;
    let expected = acme.retention().dry_run(deletion).await.unwrap();
    let names: Vec<String> = told(&expected).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["2026-01", "2026-02", "2026-03"]);
    let done = acme.retention().run(deletion, &()).await.unwrap();
    assert_eq!(done, expected);
    assert_eq!(done.done, january + 2);
    let left = events(&acme).await;
    assert!(
        left.iter()
            .all(|(_, at, _)| *at >= moment("2026-04-01T00:00:00Z"))
    );
    seal(&acme).await;
    let report = acme.audit().verify(Verification::new()).await.unwrap();
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(
        (report.removed, report.intact),
        (done.done, left.len() as u64)
    );
    let removals = acme.audit().removals().await.unwrap();
    assert_eq!(removals.len(), 3, "one for each month");
    assert_eq!(removals[0].by, acme.actor());
    let last = removals.iter().map(|removal| removal.before).max();
    assert_eq!(last, Some(moment("2026-04-01T00:00:00Z")));
    // The other tenant has lost nothing.
    assert_eq!(events(&umbrella).await, others);
    let report = umbrella.audit().verify(Verification::new()).await.unwrap();
    assert!(report.is_intact() && report.removed == 0, "{report:?}");
    // the deletion log tells how many, when and by which policy.
    let entries = log(&acme).await;
    for (id, method) in [
        (archive, DeletionMethod::Archive),
        (deletion, DeletionMethod::HardDelete),
    ] {
        let own = entries.iter().filter(|entry| entry.record_id == id.uuid());
        let own: Vec<_> = own.collect();
        assert!(own.iter().all(|entry| entry.method == method));
        assert!(
            own.iter()
                .all(|entry| entry.reason == DeletionReason::RetentionEnded)
        );
        let count: i64 = own.iter().map(|entry| entry.record_count).sum();
        let wanted = match method {
            DeletionMethod::Archive => january + 1,
            _ => january + 2,
        };
        assert_eq!(count, wanted as i64);
    }
}

/// Nobody removes events past a policy, nor any that seals would miss.
#[tokio::test]
async fn what_is_younger_than_a_removal_is_missed() {
    let memory = MemoryStorage::new();
    let clock = std::sync::Arc::new(crm_engine::engine::ManualClock::new(moment(
        "2026-01-10T00:00:00Z",
    )));
    let crm = Crm::builder(memory.clone()).clock(clock.clone()).build();
    let (_, session) = tenant(&crm, "acme").await;
    account(&session, "January").await;
    clock.set(moment("2026-02-10T00:00:00Z"));
    account(&session, "February").await;
    clock.set(moment("2026-03-10T00:00:00Z"));
    seal(&session).await;
    let deletion = months("audit_event", DeletionMethod::HardDelete, 1);
    let deletion = policy(&session, deletion).await;
    let done = session.retention().run(deletion, &()).await.unwrap();
    assert_eq!(told(&done).len(), 1);
    let report = session.audit().verify(Verification::new()).await.unwrap();
    assert!(
        report.is_intact() && report.removed == done.done,
        "{report:?}"
    );
    // Another one drops February past the policy.
    let log = AuditEvent::schema();
    let dropped = memory
        .drop_entries(log, moment("2026-03-05T00:00:00Z"))
        .unwrap();
    assert_eq!(dropped, 1, "whole months");
    let report = session.audit().verify(Verification::new()).await.unwrap();
    assert_eq!((report.found, report.removed), (1, done.done));
}

fn call(at: DateTime<Utc>) -> ApiCall {
    ApiCall::done("get", "/deals", 200, Duration::from_millis(3), at)
}

/// C-059, C-060: auth events and API calls go by whole months, some at once; a run that is stopped
/// goes on where it was.
#[tokio::test]
async fn streams_go_by_whole_months() {
    let (crm, clock) = timed("2026-01-10T00:00:00Z");
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, umbrella) = tenant(&crm, "umbrella").await;
    for session in [&acme, &umbrella] {
        let calls = (0..1_300).map(|_| call(moment("2026-01-10T00:00:00Z")));
        session
            .api_calls()
            .record_all(calls.collect())
            .await
            .unwrap();
    }
    clock.set(moment("2026-02-28T23:59:59Z"));
    acme.api_calls()
        .record(call(moment("2026-02-28T23:59:59Z")))
        .await
        .unwrap();
    let failed = AuthEvent::new(
        AuthKind::Login,
        AuthOutcome::Failure,
        moment("2026-02-01T00:00:00Z"),
    );
    acme.security().record(failed.clone()).await.unwrap();
    clock.set(moment("2026-03-01T00:00:00Z"));
    acme.api_calls()
        .record(call(moment("2026-01-01T00:00:00Z")))
        .await
        .unwrap();
    acme.security().record(failed).await.unwrap();

    clock.set(moment("2026-04-30T00:00:00Z"));
    let calls = policy(&acme, months("api_call", DeletionMethod::HardDelete, 1)).await;
    let logins = policy(&acme, months("auth_event", DeletionMethod::HardDelete, 1)).await;
    let expected = acme.retention().dry_run(calls).await.unwrap();
    assert_eq!(
        told(&expected),
        [("2026-01".into(), 1_300, 0), ("2026-02".into(), 1, 0)],
        "what was recorded in March stays, whenever it happened"
    );
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let first = acme.retention().run(calls, &stop).await.unwrap();
    assert_eq!((first.done, first.is_stopped), (1_000, true));
    let rest = acme.retention().run(calls, &()).await.unwrap();
    assert_eq!((rest.done, rest.is_stopped), (301, false));
    let done = acme.retention().run(logins, &()).await.unwrap();
    assert_eq!(told(&done), [("2026-02".into(), 1, 0)]);
    assert_eq!(rows_of(&acme, "api_call").await.len(), 1);
    assert_eq!(rows_of(&acme, "auth_event").await.len(), 1);
    let of_umbrella = Aggregate::<ApiCall>::new().count();
    let count = umbrella
        .records::<ApiCall>()
        .aggregate(of_umbrella)
        .await
        .unwrap();
    assert_eq!(count[0].count(0), 1_300);
    let entries = log(&acme).await;
    let counts: i64 = entries.iter().map(|entry| entry.record_count).sum();
    assert_eq!((entries.len(), counts), (4, 1_302));
    // Windows find what is left, by when it happened.
    let window = Window::new(
        moment("2025-12-31T00:00:00Z"),
        moment("2026-01-02T00:00:00Z"),
    );
    let figures = acme.api_calls().by_endpoint(window).await.unwrap();
    assert_eq!(figures[0].calls, 1);
}

/// What has yet to happen is not recorded: windows rely on it.
#[tokio::test]
async fn nothing_is_recorded_before_it_happens() {
    let (crm, _) = timed("2026-01-10T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let ahead = moment("2026-01-11T00:00:00Z");
    session.api_calls().record(call(ahead)).await.unwrap();
    let later = ahead + TimeDelta::seconds(1);
    let refused = session.api_calls().record(call(later)).await.unwrap_err();
    assert_eq!(refused.field_errors()[0].path, "occurred_at");
    let event = AuthEvent::new(AuthKind::Login, AuthOutcome::Success, later);
    let refused = session.security().record(event).await.unwrap_err();
    assert_eq!(refused.field_errors()[0].path, "occurred_at");
    let window = Window::new(ahead, later);
    assert_eq!(
        session.api_calls().by_endpoint(window).await.unwrap().len(),
        1
    );
}

/// a month that tells of a record under legal hold is not deleted.
#[tokio::test]
async fn held_months_stay() {
    let (crm, clock) = timed("2026-01-10T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    clock.set(moment("2026-02-10T00:00:00Z"));
    let held = account(&session, "held").await;
    clock.set(moment("2026-03-10T00:00:00Z"));
    account(&session, "free").await;
    let lead = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    session.leads().create(lead).await.unwrap();
    clock.set(moment("2026-06-10T00:00:00Z"));
    let all = events(&session).await.len() as u64;
    let hold = LegalHold {
        record_id: Some(held.uuid()),
        ..LegalHold::new("lawsuit", "account")
    };
    let hold = session.legal_holds().create(hold).await.unwrap();
    let about_leads = LegalHold {
        criteria: Some(Criteria::from(Lead::COMPANY.eq("Initech"))),
        ..LegalHold::new("audit", "lead")
    };
    let about_leads = session.legal_holds().create(about_leads).await.unwrap();
    let id = policy(
        &session,
        months("audit_event", DeletionMethod::HardDelete, 1),
    )
    .await;
    let expected = session.retention().dry_run(id).await.unwrap();
    let done = session.retention().run(id, &()).await.unwrap();
    assert_eq!(done, expected);
    let months: Vec<_> = told(&done)
        .into_iter()
        .map(|(month, _, held)| (month, held > 0))
        .collect();
    assert_eq!(
        months,
        [
            ("2026-01".into(), false),
            ("2026-02".into(), true),
            ("2026-03".into(), true)
        ]
    );
    assert_eq!(done.done + done.refused, all);
    for hold in [hold.id, about_leads.id] {
        let open = |hold: &mut LegalHold| hold.is_active = false;
        session.legal_holds().update(hold, open).await.unwrap();
    }
    let rest = session.retention().run(id, &()).await.unwrap();
    assert_eq!((rest.done, rest.refused), (done.refused, 0));
}

/// C-082: what a dry run tells is what the run does, for every log by months; what is of another
/// month or tenant stays; a second run does nothing.
#[test]
fn a_dry_run_tells_which_months_go() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let number = AtomicUsize::new(0);
    let (crm, clock) = runtime.block_on(async { timed("2025-01-01T00:00:00Z") });
    let entry = (0_usize..3, 0_i64..200, prop::bool::weighted(0.2));
    let logs = prop::sample::select(vec!["audit_event", "auth_event", "api_call"]);
    let strategy = (
        prop::collection::vec(entry, 1..15),
        logs,
        any::<bool>(),
        1_i32..150,
    );
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |(mut entries, object, archives, days)| {
        let subdomain = format!("months-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let end = moment("2026-01-01T00:00:00Z");
            clock.set(end - TimeDelta::days(250));
            let (_, session) = tenant(&crm, &subdomain).await;
            entries.sort_by_key(|(_, age, _)| -age);
            let mut held = Vec::new();
            for (kind, age, is_held) in entries {
                let at = end - TimeDelta::days(age);
                clock.set(at);
                match kind {
                    0 => {
                        let made = account(&session, "one").await;
                        held.extend(is_held.then_some(made));
                    }
                    1 => session.api_calls().record(call(at)).await.unwrap(),
                    _ => {
                        let event = AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, at);
                        session.security().record(event).await.unwrap();
                    }
                }
            }
            clock.set(end);
            for id in held {
                let hold = LegalHold {
                    record_id: Some(id.uuid()),
                    ..LegalHold::new("lawsuit", "account")
                };
                session.legal_holds().create(hold).await.unwrap();
            }
            let method = match archives && object == "audit_event" {
                true => DeletionMethod::Archive,
                false => DeletionMethod::HardDelete,
            };
            let kept = RetentionPolicy {
                period_unit: PeriodUnit::Days,
                ..RetentionPolicy::new("p", object, method, days)
            };
            let cutoff = end - TimeDelta::days(days.into());
            let id = policy(&session, kept).await;
            let expected = session.retention().dry_run(id).await.unwrap();
            let done = session.retention().run(id, &()).await.unwrap();
            prop_assert_eq!(&done, &expected);
            let months: HashSet<_> = done.months.iter().map(|one| one.month).collect();
            prop_assert_eq!(months.len(), done.months.len());
            let last = crm_engine::schema::month_of(cutoff).date_naive();
            prop_assert!(months.iter().all(|month| *month < last));
            let again = session.retention().run(id, &()).await.unwrap();
            prop_assert_eq!((again.done, again.refused), (0, done.refused));
            let left = rows_of(&session, object).await;
            let due = left.iter().filter(|row| row.meta().created.at < cutoff);
            let due = due.filter(|row| {
                months.is_empty() || {
                    let month = crm_engine::schema::month_of(row.meta().created.at);
                    let of =
                        |one: &&crm_engine::privacy::PolicyMonth| one.month == month.date_naive();
                    done.months.iter().find(of).is_some_and(|one| one.held == 0)
                }
            });
            let is_whole =
                |at| crm_engine::schema::month_of(at) < crm_engine::schema::month_of(cutoff);
            prop_assert_eq!(due.filter(|row| is_whole(row.meta().created.at)).count(), 0);
            Ok(())
        })
    });
    outcome.unwrap();
}

/// C-105: accesses count in archived months too.
#[tokio::test]
async fn the_report_counts_accesses_in_archived_months() {
    let (crm, clock) = timed("2026-01-10T00:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    for day in ["2026-01-20T00:00:00Z", "2026-03-20T00:00:00Z"] {
        clock.set(moment(day));
        let mut work = session.begin();
        let commit = work.commit_stamp().id;
        for record in [1, 2] {
            let read = AuditEvent::new(
                commit,
                AuditKind::Read,
                AuditCategory::DataChange,
                "contact",
                Uuid::from_u128(record),
                1,
            );
            work.append_entry(read).unwrap();
        }
        work.commit().await.unwrap();
    }
    let year = Window::new(
        moment("2026-01-01T00:00:00Z"),
        moment("2027-01-01T00:00:00Z"),
    );
    let report = session.privacy().gdpr_report(year).await.unwrap();
    assert_eq!(report.access_requests, 2);
    clock.set(moment("2026-04-10T00:00:00Z"));
    let id = policy(&session, months("audit_event", DeletionMethod::Archive, 2)).await;
    let done = session.retention().run(id, &()).await.unwrap();
    assert!(done.done > 2);
    let report = session.privacy().gdpr_report(year).await.unwrap();
    assert_eq!(report.access_requests, 2);
}

/// In memory, months of a log go as they do in a database: as a whole.
#[tokio::test]
async fn months_of_all_tenants_are_dropped_in_memory() {
    let memory = MemoryStorage::new();
    let clock = std::sync::Arc::new(crm_engine::engine::ManualClock::new(moment(
        "2026-01-10T00:00:00Z",
    )));
    let crm = Crm::builder(memory.clone()).clock(clock.clone()).build();
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, umbrella) = tenant(&crm, "umbrella").await;
    for at in ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"] {
        clock.set(moment(at));
        for session in [&acme, &umbrella] {
            session.api_calls().record(call(moment(at))).await.unwrap();
        }
    }
    let dropped = memory.drop_entries(ApiCall::schema(), moment("2026-02-27T00:00:00Z"));
    assert_eq!(dropped.unwrap(), 2);
    assert_eq!(rows_of(&acme, "api_call").await.len(), 1);
}
