//! Pages of the audit views stay as they are, whoever writes meanwhile (C-103, C-104): a page that is
//! read twice is the same, and a walk through pages meets each entry exactly once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::audit::{
    ApiCall, AuthEvent, AuthKind, AuthOutcome, LoginKey, StreamsExt as _, Window,
};
use crm_engine::engine::ManualClock;
use crm_engine::prelude::*;
use crm_engine::query::Cursor;
use uuid::Uuid;

use crate::common;

const WRITERS: i64 = 16;
const STEPS: i64 = 4;
/// How many entries a page has.
const LIMIT: usize = 20;
/// How many walks through a view begin while others write.
const WALKS: usize = 4;

fn start() -> DateTime<Utc> {
    "2026-03-02T09:00:00Z".parse().unwrap()
}

fn always() -> Window {
    let reach = TimeDelta::days(400);
    Window::new(start() - reach, start() + reach)
}

async fn office() -> (Crm, Session, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(start()));
    let crm = Crm::builder(common::backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let (_, session) = common::tenant(&crm, "acme").await;
    (crm, session, clock)
}

/// The views that come in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum View {
    Actor,
    Found,
    Record,
    Versions,
    Field,
    SignIns,
    SignInsOfLogin,
    Calls,
}

const VIEWS: [View; 8] = [
    View::Actor,
    View::Found,
    View::Record,
    View::Versions,
    View::Field,
    View::SignIns,
    View::SignInsOfLogin,
    View::Calls,
];

/// What a page tells, in its order, and where it goes on.
async fn page(
    session: &Session,
    shared: Id<Account>,
    view: View,
    after: Option<Cursor>,
) -> (Vec<String>, Option<Cursor>) {
    let audit = session.audit();
    match view {
        View::Actor => {
            let page = audit.by_actor(session.actor(), LIMIT, after).await.unwrap();
            (
                page.items
                    .iter()
                    .map(|event| event.id.to_string())
                    .collect(),
                page.next,
            )
        }
        View::Found => {
            let find = Find::from(AuditEvent::OBJECT.eq("account"));
            let find = find.sort(AuditEvent::CREATED_AT.desc()).limit(LIMIT);
            let page = audit.find_page(find, after).await.unwrap();
            (
                page.items
                    .iter()
                    .map(|event| event.id.to_string())
                    .collect(),
                page.next,
            )
        }
        View::Record => {
            let page = audit.trail_page(shared, LIMIT, after).await.unwrap();
            (
                page.items
                    .iter()
                    .map(|event| event.id.to_string())
                    .collect(),
                page.next,
            )
        }
        View::Versions => {
            let page = audit.versions(shared, LIMIT, after).await.unwrap();
            let told = |entry: &crm_engine::audit::VersionEntry| {
                format!("{} {}", entry.version, entry.commit_id)
            };
            (page.items.iter().map(told).collect(), page.next)
        }
        View::Field => {
            let page = audit.field_history(shared, "employee_count", LIMIT, after);
            let page = page.await.unwrap();
            let told = |entry: &crm_engine::audit::FieldVersion| {
                format!("{} {}", entry.version, entry.commit_id)
            };
            (page.items.iter().map(told).collect(), page.next)
        }
        View::SignIns | View::SignInsOfLogin => {
            let key = LoginKey::Login("ada@example.com".into());
            let key = (view == View::SignInsOfLogin).then_some(&key);
            let security = session.security();
            let page = security.events(key, always(), LIMIT, after);
            let page = page.await.unwrap();
            (
                page.items
                    .iter()
                    .map(|event| event.id.to_string())
                    .collect(),
                page.next,
            )
        }
        View::Calls => {
            let calls = session.api_calls();
            let page = calls.of_endpoint("/deals/{id}", always(), LIMIT, after);
            let page = page.await.unwrap();
            (
                page.items
                    .iter()
                    .map(|event| event.id.to_string())
                    .collect(),
                page.next,
            )
        }
    }
}

/// Walks through a view from a cursor on, and reads each page once more when the next one is read.
async fn walk(
    session: &Session,
    shared: Id<Account>,
    view: View,
    from: Option<Cursor>,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut after = from;
    let mut is_first = after.is_none();
    loop {
        let (told, next) = page(session, shared, view, after.clone()).await;
        tokio::task::yield_now().await;
        if !is_first {
            let again = page(session, shared, view, after).await;
            assert_eq!(again, (told.clone(), next.clone()), "{view:?} read twice");
        }
        is_first = false;
        all.extend(told);
        match next {
            Some(cursor) => after = Some(cursor),
            None => return all,
        }
    }
}

/// Writes into all views, at times that lie all over: a unit of work may begin early and end late,
/// and a host may say of what it records that it happened long ago.
async fn write(session: Session, shared: Id<Account>, clock: Arc<ManualClock>, writer: i64) {
    for step in 0..STEPS {
        // One that began before the others and ends after them.
        let mut early = session.begin();
        let account = Account::new(format!("{writer} {step}"));
        early.accounts().create(account).await.unwrap();
        clock.advance(TimeDelta::milliseconds(1));
        let more = |account: &mut Account| {
            account.employee_count = Some(account.employee_count.unwrap_or(0) + 1);
        };
        session.accounts().update(shared, more).await.unwrap();
        let at = start() + TimeDelta::seconds((writer * 7919 + step * 104_729) % 5_000);
        let failed = AuthEvent {
            login: Some("ada@example.com".into()),
            ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, at)
        };
        session.security().record(failed).await.unwrap();
        let took = std::time::Duration::from_millis(3);
        let call = ApiCall::done("GET", "/deals/{id}", 200, took, at);
        session.api_calls().record(call).await.unwrap();
        for _ in 0..(writer + step) % 4 {
            tokio::task::yield_now().await;
        }
        early.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_stay_beside_16_writers() {
    let (_crm, session, clock) = office().await;
    let shared = session.accounts().create(Account::new("shared")).await;
    let shared = shared.unwrap().id;
    let open = Arc::new(AtomicUsize::new(usize::try_from(WRITERS).unwrap()));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (session, clock, open) = (session.clone(), clock.clone(), open.clone());
        writers.push(tokio::spawn(async move {
            write(session, shared, clock, writer).await;
            open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    let mut readers = Vec::new();
    for view in VIEWS {
        let (session, open) = (session.clone(), open.clone());
        readers.push(tokio::spawn(async move {
            let mut kept: Vec<(Cursor, Vec<String>)> = Vec::new();
            while open.load(Ordering::SeqCst) > 0 && kept.len() < WALKS {
                let front = session.audit().front().await.unwrap();
                let all = walk(&session, shared, view, Some(front.clone())).await;
                let each: HashSet<&String> = all.iter().collect();
                assert_eq!(each.len(), all.len(), "{view:?} tells each entry once");
                kept.push((front, all));
            }
            kept
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for (view, reader) in VIEWS.into_iter().zip(readers) {
        let last = walk(&session, shared, view, None).await;
        let last: HashSet<String> = last.into_iter().collect();
        let expected = match view {
            View::Actor | View::Found => 1 + 2 * WRITERS * STEPS,
            View::Record | View::Versions => 1 + WRITERS * STEPS,
            _ => WRITERS * STEPS,
        };
        assert_eq!(last.len(), usize::try_from(expected).unwrap(), "{view:?}");
        for (front, all) in reader.await.unwrap().into_iter().step_by(2) {
            // Long after, the walk is still the same.
            let again = walk(&session, shared, view, Some(front)).await;
            assert_eq!(again, all, "{view:?}");
            assert!(all.iter().all(|entry| last.contains(entry)), "{view:?}");
        }
    }
}

/// What somebody wrote is on the next first page, however many others are in the middle of writing.
#[tokio::test]
async fn a_first_page_has_what_was_written_before() {
    let (_crm, session, _) = office().await;
    let shared = session.accounts().create(Account::new("shared")).await;
    let shared = shared.unwrap().id;
    for number in 0..5 {
        let rename = |account: &mut Account| account.name = format!("{number}");
        session.accounts().update(shared, rename).await.unwrap();
        let (told, _) = page(&session, shared, View::Versions, None).await;
        assert_eq!(told.len(), number + 2);
    }
}

/// A cursor of one view is none of another, and a text that nobody gave out is none at all.
#[tokio::test]
async fn cursors_of_other_views_are_refused() {
    let (_crm, session, _) = office().await;
    let id = session.accounts().create(Account::new("one")).await;
    let id = id.unwrap().id;
    for number in 0..9 {
        let rename = |account: &mut Account| account.name = format!("{number}");
        session.accounts().update(id, rename).await.unwrap();
    }
    let audit = session.audit();
    let page = audit.trail_page(id, 3, None).await.unwrap();
    let next = page.next.unwrap();
    let refused = audit.by_actor(session.actor(), 3, Some(next.clone())).await;
    assert!(matches!(refused, Err(Error::Query(_))), "{refused:?}");
    let text = next.as_str();
    let (_, rest) = text.split_once('~').unwrap();
    for wrong in [
        rest.to_owned(),
        format!("x~{rest}"),
        format!("1:2~{rest}"),
        "~".into(),
    ] {
        let refused = audit.trail_page(id, 3, Some(Cursor::from(wrong.clone())));
        let refused = refused.await;
        assert!(
            matches!(refused, Err(Error::Query(_))),
            "{wrong}: {refused:?}"
        );
    }
    let unknown = audit.trail_page(Id::<Account>::from(Uuid::from_u128(1)), 3, None);
    assert!(unknown.await.unwrap().items.is_empty());
}
