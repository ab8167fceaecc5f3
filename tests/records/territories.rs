//! C-020, R-086, R-132, R-133, R-305, R-375, R-456: territories as a tree with criteria and
//! boundaries; accounts are matched when they are written and all at once; what is given by hand
//! stays.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{crm, rows_of, tenant};
use crm_engine::engine::{Clock, ManualClock, SystemClock};
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::territories::{Area, Boundaries, TerritoryType};
use crm_engine::value::Country;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uuid::Uuid;

fn area(country: &str) -> Area {
    Area::of(Country::parse(country).unwrap())
}

fn within(country: &str) -> Option<Boundaries> {
    Some(Boundaries(vec![area(country)]))
}

fn at_least(staff: i32) -> Option<Criteria> {
    Some(Account::EMPLOYEE_COUNT.ge(staff).into())
}

fn company(staff: i32, country: &str, postal_code: &str) -> Account {
    Account {
        employee_count: Some(staff),
        billing_address: Some(Address {
            country: Some(Country::parse(country).unwrap()),
            postal_code: Some(postal_code.into()),
            ..Address::default()
        }),
        ..Account::new("Globex")
    }
}

async fn make(session: &Session, territory: Territory) -> Id<Territory> {
    session.territories().create(territory).await.unwrap().id
}

/// Europe with Switzerland, in it Zürich and large accounts.
struct Map {
    session: Session,
    switzerland: Id<Territory>,
    zurich: Id<Territory>,
    large: Id<Territory>,
}

impl Map {
    async fn new(crm: &Crm) -> Self {
        let (_, session) = tenant(crm, "acme").await;
        let europe = make(&session, Territory::new("Europe")).await;
        let switzerland = make(
            &session,
            Territory {
                parent_territory_id: Some(europe),
                boundaries: within("CH"),
                ..Territory::new("Switzerland")
            },
        )
        .await;
        let zurich = Boundaries(vec![
            area("CH").with_prefix("80").with_range("8100", "8199"),
        ]);
        let zurich = Territory {
            parent_territory_id: Some(switzerland),
            boundaries: Some(zurich),
            ..Territory::new("Zürich")
        };
        let zurich = make(&session, zurich).await;
        let large = Territory {
            territory_type: TerritoryType::AccountSize,
            criteria: at_least(500),
            ..Territory::new("Large")
        };
        let large = make(&session, large).await;
        Self {
            session,
            switzerland,
            zurich,
            large,
        }
    }

    async fn create(&self, account: Account) -> Arc<Record<Account>> {
        self.session.accounts().create(account).await.unwrap()
    }
}

/// C-020: an account is matched when it is created and when what territories look at changes.
#[tokio::test]
async fn accounts_are_matched_when_they_are_written() {
    let map = Map::new(&crm()).await;
    let account = map.create(company(20, "CH", "8001")).await;
    assert_eq!(account.territory_id, Some(map.zurich));
    assert!(!account.territory_is_manual);
    let accounts = || map.session.accounts();
    let stored = accounts().get(account.id).await.unwrap();
    assert_eq!(stored.territory_id, Some(map.zurich));
    // It moves away.
    let moved = accounts()
        .update(account.id, |account| {
            account.billing_address.as_mut().unwrap().postal_code = Some("3000".into());
        })
        .await
        .unwrap();
    assert_eq!(moved.territory_id, Some(map.switzerland));
    let patch = json!({"billing_postal_code": "81 50"});
    let merged = accounts()
        .merge(account.id, moved.version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(merged.territory_id, Some(map.zurich));
    let abroad = accounts()
        .update(account.id, |account| {
            account.billing_address.as_mut().unwrap().country = Country::parse("FR").ok();
        })
        .await
        .unwrap();
    assert_eq!(abroad.territory_id, None);
    let grown = accounts()
        .update(account.id, |account| account.employee_count = Some(700))
        .await
        .unwrap();
    assert_eq!(grown.territory_id, Some(map.large));
    // The tree of territories is a filter like any other.
    map.create(company(1, "CH", "8001")).await;
    map.create(company(1, "CH", "1000")).await;
    let swiss = Account::TERRITORY_ID.within(map.switzerland);
    assert_eq!(accounts().count(swiss).await.unwrap(), 2);
}

/// C-020: what is given by hand stays until it is released or taken away.
#[tokio::test]
async fn what_is_given_by_hand_stays() {
    let map = Map::new(&crm()).await;
    let accounts = || map.session.accounts();
    let account = map.create(company(20, "CH", "8001")).await;
    let by_hand = accounts()
        .update(account.id, |account| account.territory_id = Some(map.large))
        .await
        .unwrap();
    assert_eq!(
        (by_hand.territory_id, by_hand.territory_is_manual),
        (Some(map.large), true)
    );
    let moved = accounts()
        .update(account.id, |account| {
            account.billing_address.as_mut().unwrap().postal_code = Some("3000".into());
        })
        .await
        .unwrap();
    assert_eq!(
        (moved.territory_id, moved.territory_is_manual),
        (Some(map.large), true)
    );
    let run = map.session.territories().assign_all(&()).await.unwrap();
    assert_eq!((run.checked, run.moved, run.manual), (1, 0, 1));
    assert_eq!(
        map.session
            .territories()
            .matching(account.id)
            .await
            .unwrap()
            .unwrap()
            .id,
        map.switzerland
    );
    let released = map.session.territories().release(account.id).await.unwrap();
    assert_eq!(
        (released.territory_id, released.territory_is_manual),
        (Some(map.switzerland), false)
    );
    // The same territory that the match gives, by hand.
    let pinned = map
        .session
        .territories()
        .assign(account.id, map.switzerland)
        .await
        .unwrap();
    assert!(pinned.territory_is_manual);
    let again = accounts()
        .update(account.id, |account| account.employee_count = Some(700))
        .await
        .unwrap();
    assert_eq!(again.territory_id, Some(map.switzerland));
    // Taken away: the next match decides.
    let taken = accounts()
        .update(account.id, |account| account.territory_id = None)
        .await
        .unwrap();
    assert_eq!(
        (taken.territory_id, taken.territory_is_manual),
        (None, false)
    );
    let run = map.session.territories().assign_all(&()).await.unwrap();
    assert_eq!((run.checked, run.moved, run.manual), (1, 1, 0));
    // A new account that brings its territory.
    let given = Account {
        territory_id: Some(map.large),
        ..company(1, "CH", "8001")
    };
    assert!(map.create(given).await.territory_is_manual);
    // The flag itself is the engine's.
    let patch = json!({"territory_is_manual": true});
    let version = accounts().get(account.id).await.unwrap().version;
    let error = accounts()
        .merge(account.id, version, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "territory_is_manual");
    let nowhere = Id::<Territory>::new(Uuid::from_u128(3));
    let error = map
        .session
        .territories()
        .assign(account.id, nowhere)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "territory_id");
}

/// C-020: in one unit of work a new territory takes the accounts that come after it.
#[tokio::test]
async fn a_unit_of_work_matches_with_its_own_territories() {
    let (_, session) = tenant(&crm(), "acme").await;
    let mut work = session.begin();
    let before = work
        .accounts()
        .create(company(1, "AT", "1010"))
        .await
        .unwrap();
    let austria = Territory {
        boundaries: within("AT"),
        ..Territory::new("Austria")
    };
    let austria = work.territories().create(austria).await.unwrap();
    let after = work
        .accounts()
        .create(company(1, "AT", "1010"))
        .await
        .unwrap();
    assert_eq!(
        (before.territory_id, after.territory_id),
        (None, Some(austria.id))
    );
    let released = work.territories().release(before.id).await.unwrap();
    assert_eq!(released.territory_id, Some(austria.id));
    // A later change by hand is one by hand.
    let by_hand = work
        .accounts()
        .update(before.id, |account| account.territory_id = None)
        .await;
    assert_eq!(by_hand.unwrap().territory_id, None);
    let error = work.territories().assign_all(&()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
    work.commit().await.unwrap();
    let matched = Account::TERRITORY_ID.eq(austria.id);
    assert_eq!(session.accounts().count(matched).await.unwrap(), 1);
}

/// and what criteria may be: each fault at its field.
#[tokio::test]
async fn faulty_territories_are_refused() {
    let map = Map::new(&crm()).await;
    let territories = || map.session.territories();
    let new = territories().get(map.zurich).await.unwrap();
    assert!(new.is_active);
    assert_eq!(new.territory_type, TerritoryType::Geographic);
    let error = territories()
        .create(Territory::new("Large"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate");
    for parent in [map.switzerland, map.zurich] {
        let error = territories()
            .set_parent(map.switzerland, Some(parent))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cycle");
    }
    // Its parts would take what it kept from them.
    let error = territories().delete(map.switzerland).await.unwrap_err();
    assert_eq!(error.code(), "referenced");
    let faulty = [
        json!({"field": "colour", "op": "eq", "value": 1}),
        json!({"field": "employee_count", "op": "eq", "value": "many"}),
        json!({"field": "name", "op": "like", "value": "G%"}),
        json!({"field": "owner_id", "has": {"field": "status", "op": "eq", "value": "active"}}),
        json!({"any": "deal", "by": "account_id"}),
        json!({"not": {"or": [{"any": "contact", "by": "account_id"}]}}),
        json!({"not": {"field": "parent_account_id", "within": Uuid::from_u128(1)}}),
        json!({"field": "territory_id", "op": "is_null"}),
        json!({"field": "updated_at", "op": "gt", "value": "2026-01-01T00:00:00Z"}),
    ];
    for criteria in faulty {
        let body = json!({"name": "Faulty", "criteria": criteria});
        let object = map
            .session
            .object("territory")
            .await
            .unwrap()
            .create(body.as_object().unwrap())
            .await;
        let error = object.unwrap_err();
        assert_eq!(
            error.field_errors()[0].path,
            "criteria",
            "{criteria}: {error}"
        );
    }
    let faulty = [
        json!([]),
        json!([{"country": "Atlantis"}]),
        json!([{"country": "CH", "postal_codes": [{"prefix": " "}]}]),
        json!([{"country": "CH", "postal_codes": [{"from": "9000", "to": "80"}]}]),
        json!([{"country": "CH", "post": 1}]),
        json!({"country": "CH"}),
    ];
    for boundaries in faulty {
        let body = json!({"name": "Faulty", "boundaries": boundaries, "territory_type": "planet"});
        let object = map
            .session
            .object("territory")
            .await
            .unwrap()
            .create(body.as_object().unwrap())
            .await;
        let error = object.unwrap_err();
        let paths: Vec<&str> = error
            .field_errors()
            .iter()
            .map(|error| &*error.path)
            .collect();
        assert!(paths.contains(&"boundaries"), "{boundaries}: {error}");
        assert!(paths.contains(&"territory_type"), "R-133: {error}");
    }
    let body = json!({
        "name": "By name",
        "criteria": {"field": "custom_fields.segment", "op": "eq", "value": "enterprise"},
        "boundaries": [{"country": "DE", "postal_codes": [{"prefix": "12"}]}],
    });
    let made = map
        .session
        .object("territory")
        .await
        .unwrap()
        .create(body.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(made.get("criteria").to_json(), body["criteria"]);
    assert_eq!(made.get("boundaries").to_json(), body["boundaries"]);
    let mut account = company(1, "DE", "1200");
    account.custom_fields = json!({"segment": "enterprise"});
    assert_eq!(
        map.create(account).await.territory_id.map(|id| id.uuid()),
        Some(made.id())
    );
}

/// A deleted territory leaves its accounts without one, to be matched again; a restored account is
/// matched to what is there then.
#[tokio::test]
async fn accounts_outlive_their_territory() {
    let map = Map::new(&crm()).await;
    let automatic = map.create(company(20, "CH", "8001")).await;
    let away = map.create(company(20, "CH", "8002")).await;
    let by_hand = map.create(company(20, "FR", "75001")).await;
    map.session
        .territories()
        .assign(by_hand.id, map.zurich)
        .await
        .unwrap();
    map.session.accounts().delete(away.id).await.unwrap();
    map.session.territories().delete(map.zurich).await.unwrap();
    for id in [automatic.id, by_hand.id] {
        let account = map.session.accounts().get(id).await.unwrap();
        assert_eq!(
            (account.territory_id, account.territory_is_manual),
            (None, false)
        );
    }
    let restored = map.session.accounts().restore(away.id).await.unwrap();
    assert_eq!(restored.territory_id, Some(map.switzerland));
    let run = map.session.territories().assign_all(&()).await.unwrap();
    assert_eq!((run.checked, run.moved, run.unmatched), (3, 1, 1));
}

/// C-020: a preview writes nothing and tells what the run does; the run reports, can be stopped, goes
/// on, and changes nothing when it is run again.
#[tokio::test]
async fn all_accounts_are_matched_in_steps() {
    let (_, session) = tenant(&crm(), "acme").await;
    for chunk in 0..3 {
        let accounts = (0..400).map(|number| company(number + 400 * chunk, "CH", "8001"));
        session
            .accounts()
            .create_all(accounts.collect())
            .await
            .unwrap();
    }
    let nobody = session.territories().assign_all(&()).await.unwrap();
    assert_eq!(
        (nobody.checked, nobody.moved, nobody.unmatched),
        (1_200, 0, 1_200)
    );
    let large = Territory {
        criteria: at_least(100),
        ..Territory::new("Large")
    };
    let large = make(&session, large).await;
    let before = rows_of(&session, "account").await;
    let preview = session.territories().preview(5, &()).await.unwrap();
    assert_eq!(preview.assignments.moved, 1_100);
    assert_eq!(preview.moves.len(), 5);
    assert!(
        preview
            .moves
            .iter()
            .all(|one| one.from.is_none() && one.to == Some(large))
    );
    let after = rows_of(&session, "account").await;
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(a, b)| a.version() == b.version())
    );

    let reports = Mutex::new(Vec::new());
    let stop = |done: u64, total: Option<u64>| {
        reports.lock().unwrap().push((done, total));
        ControlFlow::Break(())
    };
    let stopped = session.territories().assign_all(&stop).await.unwrap();
    assert!(stopped.is_stopped);
    assert_eq!((stopped.checked, stopped.moved), (500, 400));
    let go_on = |done: u64, total: Option<u64>| {
        reports.lock().unwrap().push((done, total));
        ControlFlow::Continue(())
    };
    let rest = session.territories().assign_all(&go_on).await.unwrap();
    assert_eq!(
        (rest.checked, rest.moved, rest.is_stopped),
        (1_200, 700, false)
    );
    let steps = [500, 500, 1_000, 1_200].map(|done| (done, Some(1_200)));
    assert_eq!(*reports.lock().unwrap(), steps);
    let again = session.territories().assign_all(&()).await.unwrap();
    assert_eq!((again.checked, again.moved), (1_200, 0));
    let matched = Account::TERRITORY_ID.eq(large);
    assert_eq!(session.accounts().count(matched).await.unwrap(), 1_100);
}

/// Another process that has not yet seen that a territory changed does not give it accounts that it
/// takes no more.
#[tokio::test]
async fn an_outdated_territory_is_noticed() {
    let storage = common::backend::storage(&[]);
    // Time stands still: what was remembered stays remembered.
    let clock = Arc::new(ManualClock::new(Clock::now(&SystemClock)));
    let one = Crm::builder(storage.clone()).clock(clock.clone()).build();
    let two = Crm::builder(storage).clock(clock).build();
    let (onboarded, session) = tenant(&one, "acme").await;
    let other = two.session(onboarded.tenant, Actor::User(onboarded.admin));
    let large = Territory {
        criteria: at_least(100),
        ..Territory::new("Large")
    };
    let large = make(&session, large).await;
    let account = other
        .accounts()
        .create(company(500, "CH", "8001"))
        .await
        .unwrap();
    assert_eq!(account.territory_id, Some(large));
    session
        .territories()
        .update(large, |territory| territory.criteria = at_least(1_000))
        .await
        .unwrap();
    let account = other
        .accounts()
        .create(company(500, "CH", "8001"))
        .await
        .unwrap();
    assert_eq!(account.territory_id, None);
}

/// A territory to make: the place of the one above, the least staff, a country, the rank.
type Plan = (Option<usize>, Option<i32>, Option<usize>, i32, bool);

const COUNTRIES: [&str; 3] = ["CH", "AT", "DE"];

/// C-020: whatever the territories and in which order accounts and territories come: all at once
/// gives each account what it gets alone, what is given by hand stays, and a second run changes
/// nothing.
#[test]
fn all_at_once_is_each_one_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = AtomicUsize::new(0);
    let territory = (
        prop::option::of(0..6_usize),
        prop::option::of(0..6_i32),
        prop::option::of(0..3_usize),
        -1..2_i32,
        prop::bool::weighted(0.85),
    );
    let account = (
        0..7_i32,
        0..3_usize,
        prop::option::weighted(0.3, 0..6_usize),
    );
    let strategy = (
        prop::collection::vec(territory, 0..7),
        prop::collection::vec(account, 1..8),
        0..8_usize,
    );
    let mut runner = TestRunner::new(Config {
        cases: common::cases(24),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |(territories, accounts, early)| {
        let subdomain = format!("map-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (_, session) = tenant(&crm, &subdomain).await;
            let mut made: Vec<Id<Account>> = Vec::new();
            // Some accounts are there before the territories, which they meet only in the run.
            let (first, last) = accounts.split_at(early.min(accounts.len()));
            for (staff, country, _) in first {
                let account = company(*staff, COUNTRIES[*country], "1000");
                made.push(session.accounts().create(account).await.unwrap().id);
            }
            let mut ids: Vec<Id<Territory>> = Vec::new();
            for (place, plan) in territories.iter().enumerate() {
                let (above, staff, country, rank, is_active): Plan = *plan;
                let territory = Territory {
                    parent_territory_id: above.and_then(|above| ids.get(above).copied()),
                    criteria: staff.and_then(at_least),
                    boundaries: country.and_then(|country| within(COUNTRIES[country])),
                    rank,
                    is_active,
                    ..Territory::new(format!("T{place}"))
                };
                ids.push(make(&session, territory).await);
            }
            for (staff, country, _) in last {
                let account = company(*staff, COUNTRIES[*country], "1000");
                made.push(session.accounts().create(account).await.unwrap().id);
            }
            let mut by_hand = BTreeMap::new();
            for ((_, _, hand), account) in accounts.iter().zip(&made) {
                if let Some(territory) = hand.and_then(|hand| ids.get(hand)) {
                    session
                        .territories()
                        .assign(*account, *territory)
                        .await
                        .unwrap();
                    by_hand.insert(account.uuid(), *territory);
                }
            }
            let preview = session.territories().preview(100, &()).await.unwrap();
            let run = session.territories().assign_all(&()).await.unwrap();
            assert_eq!(run, preview.assignments);
            assert_eq!(run.manual, by_hand.len() as u64);
            for (place, id) in made.iter().enumerate() {
                let stored = session.accounts().get(*id).await.unwrap();
                let alone = session.territories().matching(*id).await.unwrap();
                let expected = match by_hand.get(&id.uuid()) {
                    Some(territory) => Some(*territory),
                    None => alone.as_ref().map(|territory| territory.id),
                };
                assert_eq!(stored.territory_id, expected);
                // A new account like it gets the same.
                let (staff, country, _) = accounts[place];
                let twin = company(staff, COUNTRIES[country], "1000");
                let twin = session.accounts().create(twin).await.unwrap();
                assert_eq!(twin.territory_id, alone.map(|territory| territory.id));
            }
            let again = session.territories().assign_all(&()).await.unwrap();
            assert_eq!(again.moved, 0);
        });
        Ok(())
    });
    outcome.unwrap();
}
