//! C-019, R-016, R-017, R-086: what is above and below a record is right at once, whatever was
//! created, moved, archived, deleted or restored; and a large tree costs few round trips.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::storage::{Calls, Watched};
use crate::common::{backend, crm, rows_of, tenant};
use crm_engine::engine::ManualClock;
use crm_engine::hierarchy::{Hierarchical, RollUp, Subtree};
use crm_engine::prelude::*;
use crm_engine::schema::FieldOf;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use uuid::Uuid;

/// A step in the life of a forest; accounts are named by their place among all, deleted ones too.
#[derive(Clone, Debug)]
enum Step {
    Create(Option<usize>),
    Move(usize, Option<usize>),
    Archive(usize),
    Delete(usize),
    Restore(usize),
    Deal(usize, u32, bool),
}

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let at = || 0..12_usize;
    let step = prop_oneof![
        4 => prop::option::weighted(0.8, at()).prop_map(Step::Create),
        5 => (at(), prop::option::weighted(0.8, at())).prop_map(|(own, above)| Step::Move(own, above)),
        1 => at().prop_map(Step::Archive),
        2 => at().prop_map(Step::Delete),
        2 => at().prop_map(Step::Restore),
        3 => (at(), 1..1_000_u32, any::<bool>()).prop_map(|(own, amount, euro)| Step::Deal(own, amount, euro)),
    ];
    prop::collection::vec(step, count)
}

/// The parents of the live accounts, as they are stored.
type Parents = BTreeMap<Uuid, Option<Uuid>>;

async fn parents(session: &Session) -> Parents {
    let rows = rows_of(session, "account").await;
    let live = rows.iter().filter(|row| !row.is_deleted());
    live.map(|row| (row.id(), row.get("parent_account_id").as_uuid()))
        .collect()
}

/// The way from an account to the top, by following parents.
fn naive_path(parents: &Parents, id: Uuid) -> Vec<Uuid> {
    let mut path = vec![id];
    while let Some(Some(above)) = parents.get(path.last().unwrap()) {
        assert!(!path.contains(above), "R-016: a cycle");
        path.push(*above);
    }
    path
}

fn naive_within(parents: &Parents, root: Uuid) -> BTreeSet<Uuid> {
    let all = parents.keys().copied();
    all.filter(|id| naive_path(parents, *id).contains(&root))
        .collect()
}

fn ids<E>(records: &[Arc<Record<E>>]) -> Vec<Uuid> {
    records.iter().map(|record| record.id.uuid()).collect()
}

/// Takes one step, on a session or in a unit of work.
macro_rules! take {
    ($work:expr, $accounts:expr, $pipeline:expr, $step:expr) => {{
        let pick = |place: usize| -> Option<Id<Account>> {
            let count = $accounts.len();
            (count > 0).then(|| $accounts[place % count])
        };
        match $step {
            Step::Create(above) => {
                let account = Account {
                    parent_account_id: above.and_then(pick),
                    ..Account::new(format!("account {}", $accounts.len()))
                };
                let created = $work.accounts().create(account).await;
                if let Ok(account) = &created {
                    $accounts.push(account.id);
                }
                created.map(|_| ())
            }
            Step::Move(own, above) => match pick(*own) {
                Some(own) => {
                    let above = above.and_then(pick);
                    $work.accounts().set_parent(own, above).await.map(|_| ())
                }
                None => Ok(()),
            },
            Step::Archive(own) => match pick(*own) {
                Some(own) => $work.accounts().archive(own).await.map(|_| ()),
                None => Ok(()),
            },
            Step::Delete(own) => match pick(*own) {
                Some(own) => $work.accounts().delete(own).await,
                None => Ok(()),
            },
            Step::Restore(own) => match pick(*own) {
                Some(own) => $work.accounts().restore(own).await.map(|_| ()),
                None => Ok(()),
            },
            Step::Deal(own, amount, euro) => match pick(*own) {
                Some(own) => {
                    let deal = Deal {
                        account_id: Some(own),
                        amount: Some((*amount).into()),
                        currency: if *euro { Currency::EUR } else { Currency::USD },
                        ..Deal::new("Deal", $pipeline)
                    };
                    $work.deals().create(deal).await.map(|_| ())
                }
                None => Ok(()),
            },
        }
    }};
}

/// Compares all that is told about one account with what its and the others' parents say.
async fn check(session: &Session, parents: &Parents, id: Uuid) {
    let accounts = session.accounts();
    let own = Id::<Account>::new(id);
    let mut path = naive_path(parents, id);
    let inside = naive_within(parents, id);
    let depth_of = |below: Uuid| {
        let path = naive_path(parents, below);
        path.iter().position(|above| *above == id).unwrap()
    };
    assert_eq!(accounts.depth(own).await.unwrap(), path.len() - 1);
    assert_eq!(ids(&accounts.ancestors(own).await.unwrap()), path[1..]);
    assert_eq!(
        accounts.root(own).await.unwrap().id.uuid(),
        *path.last().unwrap()
    );
    path.reverse();
    assert_eq!(ids(&accounts.path(own).await.unwrap()), path);

    let find = || Find::<Account>::new().with_archived();
    let found = accounts
        .find(find().filter(Account::ID.within(own)).limit(100))
        .await
        .unwrap();
    let found: BTreeSet<Uuid> = ids(&found.items).into_iter().collect();
    assert_eq!(found, inside);
    let above = accounts
        .find(find().filter(Account::ID.path_to(own)).limit(100))
        .await
        .unwrap();
    let above: BTreeSet<Uuid> = ids(&above.items).into_iter().collect();
    assert_eq!(above, path.iter().copied().collect());

    let children = accounts.children(own, find().limit(100)).await.unwrap();
    let expected = parents.iter().filter(|(_, above)| **above == Some(id));
    assert_eq!(
        ids(&children.items),
        expected.map(|(id, _)| *id).collect::<Vec<_>>()
    );

    let mut below = BTreeMap::new();
    let mut page = accounts.descendants(own, find().limit(3)).await.unwrap();
    loop {
        for node in &page.items {
            below.insert(node.record.id.uuid(), node.depth);
        }
        let Some(next) = page.next else { break };
        page = accounts
            .descendants(own, find().limit(3).after(next))
            .await
            .unwrap();
    }
    let expected: BTreeMap<Uuid, usize> = inside
        .iter()
        .filter(|below| **below != id)
        .map(|below| (*below, depth_of(*below)))
        .collect();
    assert_eq!(below, expected);

    let tree = accounts.subtree(own).await.unwrap();
    assert_eq!(tree.len(), inside.len());
    for node in tree.nodes() {
        let below = node.record.id;
        assert_eq!(node.depth, depth_of(below.uuid()));
        let way: Vec<Uuid> = tree
            .path(below)
            .iter()
            .map(|node| node.record.id.uuid())
            .collect();
        let mut expected = naive_path(parents, below.uuid());
        expected.truncate(node.depth + 1);
        expected.reverse();
        assert_eq!(way, expected);
        let children: Vec<Uuid> = tree
            .children(below)
            .map(|node| node.record.id.uuid())
            .collect();
        let expected = parents
            .iter()
            .filter(|(_, above)| **above == Some(below.uuid()));
        assert_eq!(children, expected.map(|(id, _)| *id).collect::<Vec<_>>());
    }

    let rolled_up = accounts
        .roll_up(own, &RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT))
        .await
        .unwrap();
    let mut sums: BTreeMap<String, Decimal> = BTreeMap::new();
    let mut count = 0;
    for deal in rows_of(session, "deal").await {
        let at = deal.get("account_id").as_uuid();
        if !deal.is_deleted() && at.is_some_and(|at| inside.contains(&at)) {
            count += 1;
            let currency = deal.get("currency").as_text().unwrap().to_owned();
            *sums.entry(currency).or_default() += deal.get("amount").as_decimal().unwrap();
        }
    }
    let totals = rolled_up
        .totals
        .iter()
        .map(|money| (money.currency().to_string(), money.amount()));
    assert_eq!(
        (rolled_up.records, totals.collect::<BTreeMap<_, _>>()),
        (count, sums)
    );
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases: common::cases(cases),
        failure_persistence: None,
        ..Config::default()
    })
}

/// C-019, R-016, R-017, R-085: after each of random steps, whatever is told of a hierarchy equals
/// what following the stored parents one by one tells.
#[test]
fn a_hierarchy_is_what_the_parents_say() {
    let runtime = runtime();
    let crm = runtime.block_on(async { crm() });
    let number = AtomicUsize::new(0);
    let outcome = runner(16).run(&(steps(4..18), any::<usize>()), |(steps, first)| {
        let subdomain = format!("forest-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (onboarded, session) = tenant(&crm, &subdomain).await;
            let mut accounts: Vec<Id<Account>> = Vec::new();
            for (place, step) in steps.iter().enumerate() {
                let before = parents(&session).await;
                let outcome = take!(session, accounts, onboarded.pipeline, step);
                let after = parents(&session).await;
                if let (Step::Move(own, Some(above)), false) = (step, accounts.is_empty()) {
                    let of = |place: usize| accounts[place % accounts.len()].uuid();
                    let (own, above) = (of(*own), of(*above));
                    let is_live = before.contains_key(&own) && before.contains_key(&above);
                    if is_live {
                        let closes = naive_path(&before, above).contains(&own);
                        let code = outcome.as_ref().err().map(Error::code);
                        assert_eq!(code, closes.then_some("cycle"), "R-016");
                    }
                }
                let live: Vec<Uuid> = after.keys().copied().collect();
                if let Some(one) = live.get((first.wrapping_add(place)) % live.len().max(1)) {
                    check(&session, &after, *one).await;
                }
            }
            let after = parents(&session).await;
            for id in after.keys() {
                check(&session, &after, *id).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

/// What hierarchies, filters over trees and sums say, inside of a unit of work or outside.
macro_rules! told {
    ($work:expr, $accounts:expr) => {{
        let mut told = Vec::new();
        for id in &$accounts {
            let id: Id<Account> = *id;
            let path = $work.accounts().path(id).await.map(|path| ids(&path));
            let all = Find::new().with_archived().limit(100);
            let below = $work.accounts().descendants(id, all).await;
            let below = below.map(|page| {
                let nodes = page.items.iter().map(|node| (node.record.id, node.depth));
                nodes.collect::<Vec<_>>()
            });
            let tree = $work.accounts().subtree(id).await;
            let tree = tree.map(|tree| {
                tree.nodes()
                    .iter()
                    .map(|node| node.record.id)
                    .collect::<Vec<_>>()
            });
            let sum = RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT);
            let sum = $work.accounts().roll_up(id, &sum).await;
            let not_within = Deal::ACCOUNT_ID.within(id).negate();
            let outside = $work.deals().count(not_within).await.unwrap();
            let above = Deal::ACCOUNT_ID
                .path_to(id)
                .or(Deal::ACCOUNT_ID.has(Account::PARENT_ACCOUNT_ID.within(id)));
            let above = $work.deals().find(above).await.unwrap();
            let above = ids(&above.items);
            told.push(format!(
                "{path:?} {below:?} {tree:?} {sum:?} {outside} {above:?}"
            ));
        }
        told
    }};
}

/// A unit of work sees its own moves, creations and deletions in every tree, as everybody does after
/// the commit.
#[test]
fn a_unit_of_work_sees_the_hierarchy_that_it_makes() {
    let runtime = runtime();
    let crm = runtime.block_on(async { crm() });
    let number = AtomicUsize::new(0);
    let committed = AtomicUsize::new(0);
    let outcome = runner(20).run(&(steps(3..10), steps(1..8)), |(stored, staged)| {
        let subdomain = format!("staged-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (onboarded, session) = tenant(&crm, &subdomain).await;
            let mut accounts: Vec<Id<Account>> = Vec::new();
            for step in &stored {
                // What the rules refuse is no step.
                let _ = take!(session, accounts, onboarded.pipeline, step);
            }
            let mut work = session.begin();
            for step in &staged {
                // That a step refers to a deleted account is only told by the commit.
                if let Step::Create(Some(of)) | Step::Move(_, Some(of)) | Step::Deal(of, ..) = step
                    && let Some(of) = accounts.get(of % accounts.len().max(1))
                    && work.accounts().get(*of).await.is_err()
                {
                    continue;
                }
                let _ = take!(work, accounts, onboarded.pipeline, step);
            }
            let inside = told!(work, accounts);
            if work.commit().await.is_err() {
                // An account was restored whose parent is deleted.
                return;
            }
            committed.fetch_add(1, Ordering::Relaxed);
            let outside = told!(session, accounts);
            assert_eq!(inside, outside);
        });
        Ok(())
    });
    outcome.unwrap();
    assert!(committed.into_inner() > 10, "hardly anything was compared");
}

/// C-019: a tree of 10,000 accounts on 50 levels is read, walked and summed in a few round trips.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_of_ten_thousand_accounts_costs_few_round_trips() {
    let storage = Watched::new(Calls::default());
    // What is remembered of the tenant is read again as time goes by, and here it stands still.
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(storage.clone()).clock(clock).build();
    let (onboarded, session) = tenant(&crm, "large").await;
    let mut work = session.begin();
    let root = work
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let mut level = vec![root];
    let mut count = 1;
    let mut deepest = root;
    for depth in 1..50 {
        let width = if depth == 49 { 10_000 - count } else { 204 };
        let accounts = (0..width).map(|number| Account {
            parent_account_id: Some(level[number * 7 % level.len()]),
            employee_count: Some(1),
            ..Account::new(format!("Level {depth}, number {number}"))
        });
        let created = work
            .accounts()
            .create_all(accounts.collect())
            .await
            .unwrap();
        count += created.len();
        level = created.iter().map(|account| account.id).collect();
        deepest = level[0];
    }
    assert_eq!(count, 10_000);
    for (number, account) in level.iter().enumerate().take(20) {
        let deal = Deal {
            account_id: Some(*account),
            amount: Some(100.into()),
            currency: if number % 4 == 0 {
                Currency::USD
            } else {
                Currency::EUR
            },
            ..Deal::new("Deal", onboarded.pipeline)
        };
        work.deals().create(deal).await.unwrap();
    }
    work.commit().await.unwrap();

    let took = || storage.watch.count(|_| {});
    took();
    let accounts = session.accounts();
    let tree: Subtree<Account> = accounts.subtree(root).await.unwrap();
    assert_eq!((tree.len(), took()), (10_000, 1));
    assert_eq!(tree.nodes().iter().map(|node| node.depth).max(), Some(49));
    assert_eq!(tree.path(deepest).len(), 50);
    assert_eq!((accounts.depth(deepest).await.unwrap(), took()), (49, 1));
    assert_eq!(
        (accounts.path(deepest).await.unwrap().len(), took()),
        (50, 1)
    );
    assert_eq!(
        (accounts.root(deepest).await.unwrap().id, took()),
        (root, 1)
    );
    let inside = accounts.count(Account::ID.within(root)).await.unwrap();
    assert_eq!((inside, took()), (10_000, 1));
    let worth = RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT);
    let worth = accounts.roll_up(root, &worth).await.unwrap();
    assert_eq!(
        (worth.totals.to_string().as_str(), took()),
        ("1500.00 EUR, 500.00 USD", 1)
    );
    let staff = RollUp::of(Account::ID, Account::EMPLOYEE_COUNT);
    let staff = accounts.roll_up(root, &staff).await.unwrap();
    assert_eq!((staff.without_currency, took()), (Decimal::from(9_999), 1));
    let lowest = Find::new().sort(Account::ID.desc()).limit(100);
    let page = accounts.descendants(root, lowest).await.unwrap();
    assert!(page.items.iter().all(|node| node.depth == 49));
    let calls = took();
    assert!(calls <= 50, "{calls} calls for a page of depths");

    // right at once after a move of half a level with all below it.
    let child = accounts
        .children(root, Find::new().limit(1))
        .await
        .unwrap()
        .items[0]
        .id;
    let moved = accounts.count(Account::ID.within(child)).await.unwrap();
    session.accounts().set_parent(child, None).await.unwrap();
    assert_eq!(
        accounts.count(Account::ID.within(root)).await.unwrap(),
        10_000 - moved
    );
    assert_eq!(accounts.depth(child).await.unwrap(), 0);
}

/// teams, managers and objects of the host have the same.
#[tokio::test]
async fn every_tree_has_a_hierarchy() {
    #[derive(Clone, PartialEq, Entity)]
    #[entity(object = "storeroom", table = "storerooms")]
    struct Storeroom {
        /// Name.
        #[field(required, max_len = 100)]
        name: String,
        /// What it is a part of.
        #[field(references = "storeroom", on_delete = "set_null")]
        part_of_id: Option<Id<Storeroom>>,
        /// How much it holds.
        #[field(precision = 12, scale = 2)]
        volume: Option<Decimal>,
    }
    impl Hierarchical for Storeroom {
        const PARENT: FieldOf<Self, Id<Self>> = Self::PART_OF_ID;
    }
    let crm = Crm::builder(backend::storage(&[Storeroom::schema()]))
        .object::<Storeroom>()
        .build();
    let (onboarded, session) = tenant(&crm, "acme").await;
    let make = async |name: &str, part_of, volume: i64| {
        let storeroom = Storeroom {
            part_of_id: part_of,
            volume: Some(volume.into()),
            ..Storeroom::new(name)
        };
        session
            .records::<Storeroom>()
            .create(storeroom)
            .await
            .unwrap()
            .id
    };
    let house = make("House", None, 1).await;
    let cellar = make("Cellar", Some(house), 20).await;
    let shelf = make("Shelf", Some(cellar), 300).await;
    let rooms = session.records::<Storeroom>();
    assert_eq!(rooms.depth(shelf).await.unwrap(), 2);
    assert_eq!(
        ids(&rooms.ancestors(shelf).await.unwrap()),
        [cellar.uuid(), house.uuid()]
    );
    let volume = RollUp::of(Storeroom::ID, Storeroom::VOLUME);
    let volume = rooms.roll_up(cellar, &volume).await.unwrap();
    assert_eq!((volume.records, volume.without_currency), (2, 320.into()));
    // By name, as a web API asks.
    let filter = serde_json::json!({"field": "id", "within": cellar, "by": "part_of_id"});
    let find = Find::new().filter_by_name(serde_json::from_value(filter).unwrap());
    let found = session
        .object("storeroom")
        .await
        .unwrap()
        .find(&find)
        .await
        .unwrap();
    assert_eq!(found.items.len(), 2);

    let email = "grace@acme.example".parse::<EmailAddress>().unwrap();
    let grace = User {
        manager_id: Some(onboarded.admin),
        ..User::new(email)
    };
    let grace = session.users().create(grace).await.unwrap().id;
    assert_eq!(
        session.users().root(grace).await.unwrap().id,
        onboarded.admin
    );
    let team = session.teams().create(Team::new("Sales")).await.unwrap().id;
    let north = Team {
        parent_team_id: Some(team),
        ..Team::new("North")
    };
    let north = session.teams().create(north).await.unwrap().id;
    assert_eq!(
        session
            .teams()
            .subtree(team)
            .await
            .unwrap()
            .path(north)
            .len(),
        2
    );
    let deal = Deal {
        team_id: Some(north),
        amount: Some(70.into()),
        ..Deal::new("Deal", onboarded.pipeline)
    };
    session.deals().create(deal).await.unwrap();
    // A forecast by the tree of teams.
    let worth = RollUp::of(Deal::TEAM_ID, Deal::AMOUNT);
    assert_eq!(
        session
            .teams()
            .roll_up(team, &worth)
            .await
            .unwrap()
            .totals
            .len(),
        1
    );
}

/// What does not fit is an error that names it; what is not there is not found.
#[tokio::test]
async fn wrong_questions_are_answered_clearly() {
    let (_, session) = tenant(&crm(), "acme").await;
    let nobody = Id::<Account>::new(Uuid::from_u128(1));
    let accounts = session.accounts();
    let sum = RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT);
    for code in [
        accounts.path(nobody).await.unwrap_err().code(),
        accounts.ancestors(nobody).await.unwrap_err().code(),
        accounts.depth(nobody).await.unwrap_err().code(),
        accounts.root(nobody).await.unwrap_err().code(),
        accounts.subtree(nobody).await.unwrap_err().code(),
        accounts
            .descendants(nobody, Find::new())
            .await
            .unwrap_err()
            .code(),
        accounts.roll_up(nobody, &sum).await.unwrap_err().code(),
    ] {
        assert_eq!(code, "not_found");
    }
    let ask = async |object: &str, filter: serde_json::Value| {
        let find = Find::new().filter_by_name(serde_json::from_value(filter).unwrap());
        let answer = session.object(object).await.unwrap().find(&find).await;
        answer
            .map(|page| page.items.len())
            .map_err(|error| error.to_string())
    };
    let id = Uuid::from_u128(7);
    let within = |field: &str| serde_json::json!({"field": field, "within": id});
    assert_eq!(ask("account", within("id")).await, Ok(0));
    let refused = |field: &str| Err(format!("`{field}` cannot be used with `within`"));
    assert_eq!(ask("account", within("name")).await, refused("name"));
    // Deals refer to pipelines, which form no tree, and are none themselves.
    assert_eq!(
        ask("deal", within("pipeline_id")).await,
        refused("pipeline_id")
    );
    assert_eq!(ask("deal", within("id")).await, refused("id"));
    let by = serde_json::json!({"field": "id", "within": id, "by": "owner_id"});
    assert_eq!(ask("account", by).await, refused("owner_id"));
    let text = RollUp::of(Deal::ACCOUNT_ID, Deal::NAME);
    let error = accounts.roll_up(nobody, &text).await.unwrap_err();
    assert_eq!(error.code(), "unsupported");
}
