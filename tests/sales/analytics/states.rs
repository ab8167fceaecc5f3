//! The history of deals: a state for each period in which nothing changed that reports look at.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::deals::DealState;
use crm_engine::schema::SYSTEM_FIELDS;
use serde_json::Value as Json;
use uuid::Uuid;

use super::*;

async fn find(
    world: &World,
    filter: crm_engine::query::Where<DealState>,
) -> Vec<Arc<Record<DealState>>> {
    let find = Find::from(filter).limit(1_000);
    let states = world.session.records::<DealState>();
    states.find(find).await.unwrap().items
}

/// What the fields say that a deal and its states have in common.
fn said(row: &Row) -> BTreeMap<String, Json> {
    let common = DealState::schema().fields().iter().skip(SYSTEM_FIELDS);
    let common = common.filter(|field| Deal::schema().field(&field.name).is_some());
    common
        .map(|field| (field.name.to_string(), row.get(&field.name).to_json()))
        .collect()
}

/// All live deals, with whether each is in use.
async fn picture(world: &World) -> BTreeMap<Uuid, (BTreeMap<String, Json>, bool)> {
    let deals = world.live_deals().await.into_iter();
    deals
        .map(|deal| {
            let is_counted = deal.archived_at.is_none();
            let row: Row = deal;
            (row.id(), (said(&row), is_counted))
        })
        .collect()
}

/// A deal that is created, moved, changed, archived, won.
#[tokio::test]
async fn a_deal_has_a_state_for_each_period() {
    let world = World::new().await;
    let session = &world.session;
    world.set("2026-02-01T09:00:00Z");
    let deal = world.deal(0, 1_000).await;
    world.set("2026-02-02T09:00:00Z");
    world.move_to(deal, 1).await;
    world.set("2026-02-03T09:00:00Z");
    // Nothing that is looked at.
    let rename = |deal: &mut Deal| deal.name = "Another name".into();
    session.deals().update(deal, rename).await.unwrap();
    world.set("2026-02-04T09:00:00Z");
    // Two changes at the same moment, in commits of their own.
    let dearer = |deal: &mut Deal| deal.amount = Some(2_000.into());
    session.deals().update(deal, dearer).await.unwrap();
    world.move_to(deal, 2).await;
    world.set("2026-02-05T09:00:00Z");
    session.deals().archive(deal).await.unwrap();
    world.set("2026-02-06T09:00:00Z");
    session.deals().unarchive(deal).await.unwrap();
    world.set("2026-02-07T09:00:00Z");
    session.deals().win(deal).await.unwrap();

    let states = session.deals().states(deal).await.unwrap();
    let told: Vec<_> = states
        .iter()
        .map(|state| {
            let day = |at: DateTime<Utc>| at.format("%d").to_string();
            let stage = world
                .onboarded
                .stages
                .iter()
                .position(|id| *id == state.stage_id);
            let amount = state.amount.unwrap().to_string();
            let until = state.valid_until.map(day).unwrap_or_default();
            format!(
                "{}-{until} {} {amount} {} {}",
                day(state.valid_from),
                stage.unwrap(),
                state.status,
                state.is_counted
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "01-02 0 1000 open true",
            "02-04 1 1000 open true",
            "04-05 2 2000 open true",
            "05-06 2 2000 open false",
            "06-07 2 2000 open true",
            "07- 4 2000 won true",
        ]
    );
    assert!(
        states
            .iter()
            .all(|state| state.deal_created_at == at("2026-02-01T09:00:00Z"))
    );
    let then = session
        .deals()
        .state_at(deal, at("2026-02-03T00:00:00Z"))
        .await
        .unwrap();
    assert_eq!(then.unwrap().stage_id, world.stage(1));
    let before = session
        .deals()
        .state_at(deal, at("2026-01-31T00:00:00Z"))
        .await
        .unwrap();
    assert!(before.is_none());

    world.set("2026-02-08T09:00:00Z");
    session.deals().delete(deal).await.unwrap();
    let now = find(&world, DealState::as_of(world.clock.now())).await;
    assert!(now.is_empty(), "a deleted deal has no state");
    let then = session
        .deals()
        .state_at(deal, at("2026-02-07T10:00:00Z"))
        .await
        .unwrap();
    assert_eq!(then.unwrap().status, DealStatus::Won, "but had one");
    session.deals().purge(deal).await.unwrap();
    assert!(session.deals().states(deal).await.unwrap().is_empty());
}

/// In one unit of work only what comes out counts; what a stage does to its deals is told too.
#[tokio::test]
async fn states_are_those_of_commits() {
    let world = World::new().await;
    let session = &world.session;
    let mut work = session.begin();
    let deal = Deal::new("Rollout", world.onboarded.pipeline);
    let deal = work.deals().create(deal).await.unwrap().id;
    work.deals().move_to(deal, world.stage(2)).await.unwrap();
    work.commit().await.unwrap();
    let states = session.deals().states(deal).await.unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].stage_id, world.stage(2));
    world.set("2026-02-01T00:00:00Z");
    let change = |stage: &mut PipelineStage| {
        stage.default_probability = Percent::from_whole(60).unwrap();
    };
    let mut pipelines = session.pipelines();
    pipelines
        .update_stage(world.stage(2), change)
        .await
        .unwrap();
    let states = session.deals().states(deal).await.unwrap();
    let probabilities: Vec<_> = states.iter().map(|state| state.win_probability).collect();
    let whole = |percent| Percent::from_whole(percent).unwrap();
    assert_eq!(probabilities, [whole(50), whole(60)]);
    // Nobody writes them but the engine.
    let mut states = session.records::<DealState>();
    let error = states.archive(Id::new(deal.uuid())).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// Deals whose states went missing, as those of a moved tenant: they were what they are since they
/// were last written.
#[tokio::test]
async fn states_are_begun_for_deals_that_came_past_the_engine() {
    let source = World::new().await;
    source.set("2026-02-01T00:00:00Z");
    let moved = source.deal(0, 500).await;
    source.set("2026-02-03T00:00:00Z");
    source.move_to(moved, 1).await;
    let session = &source.session;
    // As they come by the import of a tenant: rows without states.
    let rows = source.rows("deal_state").await;
    let changes = rows
        .into_iter()
        .map(|row| crm_engine::storage::Change::Delete { before: row });
    let changes = crm_engine::storage::ChangeSet::new(
        Uuid::from_u128(1),
        source.clock.now(),
        changes.collect(),
        Vec::new(),
    );
    let storage = session.engine().storage();
    storage.commit(session.scope(), &changes).await.unwrap();
    source.set("2026-03-01T00:00:00Z");
    let done = session.deals().begin_states(&()).await.unwrap();
    assert_eq!((done.deals, done.begun, done.stopped), (1, 1, false));
    let again = session.deals().begin_states(&()).await.unwrap();
    assert_eq!((again.deals, again.begun), (1, 0));
    let states = session.deals().states(moved).await.unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].valid_from, at("2026-02-03T00:00:00Z"));
    assert_eq!(states[0].deal_created_at, at("2026-02-01T00:00:00Z"));
    assert_eq!(states[0].stage_id, source.stage(1));
}

/// After any history: the states as of each past moment are what the deals were then; each live
/// deal has exactly one open state; periods neither overlap nor leave gaps.
#[test]
fn states_tell_what_deals_were() {
    let cases = if std::env::var("CRM_TEST_STORAGE").is_ok_and(|name| name == "postgres") {
        10
    } else {
        40
    };
    for_random_histories(cases, 40, |world, steps| async move {
        let second = second_user(&world).await;
        let mut deals = Vec::new();
        // The last picture of each moment.
        let mut past = BTreeMap::new();
        for step in steps {
            take(&world, &mut deals, second, step).await;
            past.insert(world.clock.now(), picture(&world).await);
        }
        let there: BTreeSet<Uuid> = world
            .rows("deal")
            .await
            .iter()
            .map(|row| row.id())
            .collect();
        for (moment, picture) in &past {
            let mut wanted = picture.clone();
            // What is removed for good is removed from the past too.
            wanted.retain(|id, _| there.contains(id));
            let mut found = BTreeMap::new();
            for state in find(&world, DealState::as_of(*moment)).await {
                let (id, is_counted) = (state.deal_id.uuid(), state.is_counted);
                let row: Row = state;
                let twice = found.insert(id, (said(&row), is_counted));
                prop_assert!(twice.is_none(), "two states at the same moment");
            }
            prop_assert_eq!(&found, &wanted, "as of {}", moment);
        }
        let open = find(&world, DealState::VALID_UNTIL.is_null()).await;
        let open: Vec<Uuid> = open.iter().map(|state| state.deal_id.uuid()).collect();
        let mut live: Vec<Uuid> = world
            .live_deals()
            .await
            .iter()
            .map(|deal| deal.id.uuid())
            .collect();
        live.sort_unstable();
        let mut sorted = open.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, live);
        let done = world.session.deals().begin_states(&()).await.unwrap();
        prop_assert_eq!(done.begun, 0);
        Ok(())
    });
}

/// Many that change the same deal at once leave one state after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn states_of_concurrent_changes_follow_one_another() {
    let crm = Crm::builder(common::backend::storage(&[])).build();
    let (onboarded, session) = common::tenant(&crm, "acme").await;
    let deal = session
        .deals()
        .create(Deal::new("Rollout", onboarded.pipeline))
        .await
        .unwrap()
        .id;
    let writers = (1..9_i64).map(|writer| {
        let session = session.clone();
        tokio::spawn(async move {
            for round in 0..4_i64 {
                let amount = Some((writer * 100 + round).into());
                let change = |deal: &mut Deal| deal.amount = amount;
                session.deals().update(deal, change).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let states = session.deals().states(deal).await.unwrap();
    for pair in states.windows(2) {
        assert_eq!(pair[0].valid_until, Some(pair[1].valid_from));
        assert!(pair[0].valid_from < pair[1].valid_from);
    }
    let last = states.last().unwrap();
    assert_eq!(last.valid_until, None);
    let stored = session.deals().get(deal).await.unwrap();
    assert_eq!(last.amount, stored.amount);
}
