//! Dry runs and figures over records by chance.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use crm_engine::audit::{ApiCall, Window};
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionMethod, LegalHold, PeriodUnit, RetentionPolicy};
use crm_engine::schema::Row;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::{log, moment, policy, timed};
use crate::common;
use crate::common::{picture, rows_of, tenant};

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
