//! What is written down of calls, reads and logins, and how long.

use std::time::Duration;

use chrono::TimeDelta;
use crm_engine::audit::{
    ApiCall, AuditCategory, AuthEvent, AuthKind, AuthOutcome, Lockout, LockoutPolicy, LoginKey,
    LoginSource, Window,
};
use crm_engine::engine::{ReadHook, RequestContext};
use crm_engine::prelude::*;
use crm_engine::privacy::{DeletionMethod, PeriodUnit, RetentionPolicy, Upkeep};
use crm_engine::schema::ObjectRef;
use uuid::Uuid;

use super::{log, moment, policy, timed};
use crate::common;
use crate::common::{backend, rows_of, tenant};

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
    clock.set(moment("2026-03-30T00:00:00Z"));
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

/// C-059: what a blocked user goes on trying, and what others get right, opens no lock.
#[tokio::test]
async fn a_lock_cannot_be_crowded_out() {
    let (crm, clock) = timed("2026-05-01T12:00:00Z");
    let (onboarded, session) = tenant(&crm, "acme").await;
    let noon = moment("2026-05-01T12:00:00Z");
    let at = |second: i64| noon + TimeDelta::seconds(second);
    let event = |second: i64, kind, outcome| AuthEvent {
        login: Some("ada@acme.example".into()),
        user_id: Some(onboarded.admin.uuid()),
        ip: Some("203.0.113.7".into()),
        ..AuthEvent::new(kind, outcome, at(second))
    };
    let policy = LockoutPolicy::default();
    let keys = [
        LoginKey::User(onboarded.admin),
        LoginKey::Login("ada@acme.example".into()),
        LoginKey::Address("203.0.113.7".parse().unwrap()),
    ];
    let (security, keys) = (session.security(), &keys);
    let answers = async || {
        let mut answers = Vec::new();
        for key in keys {
            answers.push(security.lockout(key.clone(), &policy).await.unwrap());
        }
        answers
    };
    // Five failures of the second factor by somebody who knows the password, who then signs in up to
    // it again and again, and goes on while blocked.
    let failed = (0..5).map(|n| event(n, AuthKind::SecondFactor, AuthOutcome::Failure));
    security.record_all(failed.collect()).await.unwrap();
    clock.set(at(60));
    let locked = Lockout::Locked {
        until: at(4) + policy.lasting,
    };
    assert_eq!(answers().await, vec![locked; 3]);
    let again = (0..1_001).map(|_| event(10, AuthKind::Login, AuthOutcome::Success));
    security.record_all(again.collect()).await.unwrap();
    let blocked = (0..1_001).map(|_| event(11, AuthKind::Login, AuthOutcome::Blocked));
    security.record_all(blocked.collect()).await.unwrap();
    let other = (0..1_001).map(|_| event(12, AuthKind::TokenIssue, AuthOutcome::Failure));
    security.record_all(other.collect()).await.unwrap();
    assert_eq!(answers().await, vec![locked; 3]);
    // More failures than one page has, all cleared but by nobody who may clear the first ones.
    let own = |second: i64, outcome| AuthEvent {
        login: Some("mallory@acme.example".into()),
        user_id: None,
        ..event(second, AuthKind::Login, outcome)
    };
    let more = (0..1_001).map(|_| own(20, AuthOutcome::Failure));
    security.record_all(more.collect()).await.unwrap();
    security
        .record(own(21, AuthOutcome::Success))
        .await
        .unwrap();
    assert_eq!(answers().await, vec![locked; 3]);
    // The right second factor, or somebody who may, clears all.
    let passed = event(30, AuthKind::SecondFactor, AuthOutcome::Success);
    security.record(passed).await.unwrap();
    assert_eq!(answers().await, vec![Lockout::Open { left: Some(5) }; 3]);
}

/// C-059: a password of one's own clears no tries of the passwords of others.
#[tokio::test]
async fn an_address_clears_only_the_failures_of_who_signed_in() {
    let (crm, clock) = timed("2026-05-01T12:00:00Z");
    let (_, session) = tenant(&crm, "acme").await;
    let noon = moment("2026-05-01T12:00:00Z");
    let at = |second: i64| noon + TimeDelta::seconds(second);
    let event = |second: i64, login: &str, outcome| AuthEvent {
        login: Some(login.into()),
        ip: Some("203.0.113.7".into()),
        ..AuthEvent::new(AuthKind::Login, outcome, at(second))
    };
    let security = session.security();
    for second in 0..3 {
        let victim = format!("victim{second}@acme.example");
        let tried = event(second, &victim, AuthOutcome::Failure);
        security.record(tried).await.unwrap();
    }
    let mistyped = event(3, "mallory@acme.example", AuthOutcome::Failure);
    security.record(mistyped).await.unwrap();
    clock.set(at(60));
    let answer = async || {
        let from = LoginKey::Address("203.0.113.7".parse().unwrap());
        let policy = LockoutPolicy::default();
        security.lockout(from, &policy).await.unwrap()
    };
    assert_eq!(answer().await, Lockout::Open { left: Some(1) });
    let own = event(10, "mallory@acme.example", AuthOutcome::Success);
    security.record(own).await.unwrap();
    assert_eq!(answer().await, Lockout::Open { left: Some(2) });
    // Somebody who may lets the address in again.
    let unlock = AuthEvent {
        ip: Some("203.0.113.7".into()),
        ..AuthEvent::new(AuthKind::Unlock, AuthOutcome::Success, at(20))
    };
    security.record(unlock).await.unwrap();
    assert_eq!(answer().await, Lockout::Open { left: Some(5) });
}

/// C-057: what hands out records of sensitive objects beside the usual ways tells it as well, and so
/// does what hands out their former values.
#[tokio::test]
async fn every_way_to_sensitive_values_is_told() {
    let crm = common::crm();
    let (onboarded, session) = tenant(&crm, "acme").await;
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let labs = Account {
        parent_account_id: Some(globex),
        ..Account::new("Globex Labs")
    };
    let labs = session.accounts().create(labs).await.unwrap().id;
    let ada = Contact {
        account_id: Some(globex),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let boss = Contact::named("Charles", "Babbage");
    let boss = session.contacts().create(boss).await.unwrap().id;
    let mut contacts = session.contacts();
    let reports = crm_engine::contacts::RelationshipType::ReportsTo;
    contacts.relate(ada, boss, reports).await.unwrap();
    let title = |ada: &mut Contact| ada.job_title = Some("Countess".into());
    let commit = contacts.update(ada, title).await.unwrap().updated.at;
    let engine = Deal {
        contact_id: Some(ada),
        ..Deal::new("Engine", onboarded.pipeline)
    };
    let engine = session.deals().create(engine).await.unwrap().id;
    let known = session.deals().contacts_of(engine).await.unwrap();
    if known.is_empty() {
        let mut deals = session.deals();
        deals.add_contact(engine, ada, None).await.unwrap();
    }
    session
        .configurations()
        .set_sensitive_objects(&["contact", "deal", "account"])
        .await
        .unwrap();
    let mut before = 0;
    let mut told = async |what: &str, wanted: &[(&str, Uuid)]| {
        let all = reads(&session).await;
        let mut new: Vec<(String, Uuid)> = all
            .iter()
            .skip(before)
            .map(|(id, object)| (object.clone(), *id))
            .collect();
        before = all.len();
        new.sort();
        let mut wanted: Vec<(String, Uuid)> = wanted
            .iter()
            .map(|(object, id)| ((*object).to_owned(), *id))
            .collect();
        wanted.sort();
        assert_eq!(new, wanted, "{what}");
    };
    let of_ada = ("contact", ada.uuid());
    let of_deal = ("deal", engine.uuid());
    let (top, below) = (("account", globex.uuid()), ("account", labs.uuid()));
    let deals = session.deals();
    assert_eq!(deals.contacts_of(engine).await.unwrap().len(), 1);
    told("people of a deal", &[of_ada]).await;
    let page = deals.deals_with(ada, Find::new()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    told("deals of a person", &[of_deal]).await;
    deals.rotting(Find::new()).await.unwrap();
    told("no deal rots", &[]).await;
    let accounts = session.accounts();
    accounts.path(labs).await.unwrap();
    told("path", &[top, below]).await;
    accounts.ancestors(labs).await.unwrap();
    told("ancestors", &[top]).await;
    accounts.root(labs).await.unwrap();
    told("root", &[top]).await;
    accounts.depth(labs).await.unwrap();
    told("depth", &[]).await;
    accounts.subtree(globex).await.unwrap();
    told("subtree", &[top, below]).await;
    accounts.children(globex, Find::new()).await.unwrap();
    told("children", &[below]).await;
    accounts.descendants(globex, Find::new()).await.unwrap();
    told("descendants", &[below]).await;
    let contacts = session.contacts();
    contacts.managers(ada).await.unwrap();
    told("managers", &[("contact", boss.uuid())]).await;
    contacts.direct_reports(boss, Find::new()).await.unwrap();
    told("reports", &[of_ada]).await;
    contacts.people(globex, None, Find::new()).await.unwrap();
    told("people of an account", &[of_ada]).await;

    let audit = session.audit();
    assert!(audit.version(ada, 1).await.unwrap().is_some());
    told("version", &[of_ada]).await;
    audit.version_of("contact", ada.uuid(), 2).await.unwrap();
    told("version by name", &[of_ada]).await;
    assert!(audit.version(ada, 9).await.unwrap().is_none());
    told("no version", &[]).await;
    assert!(audit.as_of(ada, commit).await.unwrap().is_some());
    told("as of", &[of_ada]).await;
    audit
        .as_of_row("deal", engine.uuid(), commit)
        .await
        .unwrap();
    told("before there was any", &[]).await;
    audit.diff(ada, 1, 2).await.unwrap();
    told("diff", &[of_ada]).await;
    audit.versions(ada, 10, None).await.unwrap();
    told("versions", &[of_ada]).await;
    audit.trail(ada).await.unwrap();
    told("trail", &[of_ada]).await;
    audit.trail_page(ada, 10, None).await.unwrap();
    told("page of the trail", &[of_ada]).await;
    audit
        .field_history(ada, "job_title", 10, None)
        .await
        .unwrap();
    told("history of a field", &[of_ada]).await;
    let of_labs = AuditEvent::RECORD_ID.eq(labs.uuid());
    let event = audit.find(of_labs).await.unwrap().items.remove(0);
    told("events", &[below]).await;
    audit.of_commit(event.commit_id).await.unwrap();
    told("events of a commit", &[below]).await;
}
