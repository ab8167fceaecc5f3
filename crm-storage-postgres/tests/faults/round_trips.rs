//! How often the server is asked: once for each call.

use crm_core::query::{AggregateQuery, Condition};
use crm_core::schema::Entity as _;
use crm_core::storage::conformance::{Chore, Part, Reading, Specimen};
use crm_core::storage::{Change, ChangeSet, FeedQuery, Storage as _};
use crm_core::{Actor, Engine, Id};

use crate::common::{
    builder, changes, claim, everything, expectation, insert, new_id, new_scope, now, pool_of, row,
    shared, stored,
};
use crate::relay::Relay;

/// What is asked when a call is made for the second time.
async fn requests_of<F>(relay: &Relay, mut call: impl FnMut() -> F) -> Vec<String>
where
    F: Future<Output = ()>,
{
    // The statement is prepared on the connection.
    call().await;
    relay.requests();
    call().await;
    relay.requests()
}

#[tokio::test]
async fn every_call_is_one_round_trip() {
    let database = shared().await;
    let relay = Relay::start(database.application_url()).await;
    let storage = builder().build(pool_of(relay.options(database.application_url()), 1));
    let scope = new_scope();
    let engine = Engine::builder(storage.clone())
        .object::<Specimen>()
        .object::<crm_audit::AuditEvent>()
        .hook(crm_audit::Recorder)
        .build();
    let session = engine.session(scope.tenant().unwrap(), Actor::System);
    let (storage, session, scope) = (&storage, &session, &scope);
    let anchor = row(Specimen::new("anchor"));
    let chores = [1, 2].map(|_| insert(&row(Chore::new("mail"))));
    storage
        .commit(scope, &changes([insert(&anchor)]))
        .await
        .unwrap();
    storage.commit(scope, &changes(chores)).await.unwrap();
    let id = Id::<Specimen>::new(anchor.id());
    let mut seen = Vec::new();

    let get = async || drop(stored(storage, scope, &anchor).await);
    seen.push(("get", requests_of(&relay, get).await));
    let select = async || drop(storage.select(scope, &everything()).await.unwrap());
    seen.push(("select", requests_of(&relay, select).await));
    let sum = AggregateQuery::count(Specimen::schema(), Condition::all());
    let aggregate = async || drop(storage.aggregate(scope, &sum).await.unwrap());
    seen.push(("aggregate", requests_of(&relay, aggregate).await));
    let take = async || assert_eq!(storage.claim(scope, &claim()).await.unwrap().len(), 1);
    seen.push(("claim", requests_of(&relay, take).await));
    let log = FeedQuery::new(Reading::schema(), None, 100);
    let feed = async || drop(storage.feed(scope, &log).await.unwrap());
    seen.push(("feed", requests_of(&relay, feed).await));

    // With audit events: what an engine sends.
    let create = async || {
        let mut work = session.begin();
        work.records::<Specimen>()
            .create(Specimen::new("new"))
            .await
            .unwrap();
        let changes = work.prepare().await.unwrap();
        assert_eq!(changes.changes.len(), 2, "the record and its event");
        storage.commit(scope, &changes).await.unwrap();
    };
    seen.push(("create", requests_of(&relay, create).await));
    let change = async || {
        let mut work = session.begin();
        let grow = |specimen: &mut Specimen| specimen.quantity += 1;
        work.records::<Specimen>().update(id, grow).await.unwrap();
        let changes = work.prepare().await.unwrap();
        assert_eq!(changes.changes.len(), 2, "the record and its event");
        relay.requests();
        storage.commit(scope, &changes).await.unwrap();
    };
    seen.push(("update", requests_of(&relay, change).await));
    let rely = async || {
        let anchor = stored(storage, scope, &anchor).await;
        relay.requests();
        let commit = ChangeSet::new(
            new_id(),
            now(),
            vec![
                insert(&row(Chore::new("mail"))),
                insert(&row(Reading::new(now()))),
            ],
            vec![expectation(&anchor)],
        );
        storage.commit(scope, &commit).await.unwrap();
    };
    seen.push(("expectation", requests_of(&relay, rely).await));
    let refer = async || {
        let part = row(Part::new(id));
        storage
            .commit(scope, &changes([insert(&part)]))
            .await
            .unwrap();
    };
    seen.push(("reference", requests_of(&relay, refer).await));
    let many = async || {
        let rows: Vec<Change> = (0..20).map(|_| insert(&row(Specimen::new("x")))).collect();
        storage.commit(scope, &changes(rows)).await.unwrap();
    };
    seen.push(("twenty rows", requests_of(&relay, many).await));
    // The engine's own way, with what it reads before.
    let through = async || {
        let mut specimens = session.records::<Specimen>();
        drop(
            specimens
                .create(Specimen::new("by the engine"))
                .await
                .unwrap(),
        );
    };
    seen.push(("create by the engine", requests_of(&relay, through).await));

    for (call, requests) in seen {
        // Bind, execute, close the portal, and the end of the request.
        assert_eq!(requests, ["BECS"], "{call}");
    }
}
