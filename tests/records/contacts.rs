//! Contacts among each other and at accounts, and whether they may be approached: on both backends.

#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common;
use crate::common::tenant;
use chrono::{NaiveDate, TimeDelta};
use crm_engine::contacts::{BuyingRole, ContactAffiliation, ContactRelationship, RelationshipType};
use crm_engine::prelude::*;
use crm_engine::privacy::{
    Channel, Consent, ConsentEvidence, ConsentStatus, ContactingPolicy, Grant, LawfulBasis, OptIn,
    Permission, Purpose, Reason, Withdrawal,
};
use crm_engine::value::ApiName;
use futures::future::join_all;

async fn session() -> Session {
    tenant(&common::crm(), "acme").await.1
}

async fn contact(session: &Session, name: &str) -> Id<Contact> {
    let contact = Contact::named(name, "Test");
    session.contacts().create(contact).await.unwrap().id
}

async fn account(session: &Session, name: &str) -> Id<Account> {
    session
        .accounts()
        .create(Account::new(name))
        .await
        .unwrap()
        .id
}

/// Two of them.
async fn accounts(session: &Session) -> [Id<Account>; 2] {
    let first = account(session, "Globex").await;
    [first, account(session, "Initech").await]
}

/// Somebody who works for an account.
async fn contact_at(session: &Session, account: Id<Account>) -> Id<Contact> {
    let contact = Contact {
        account_id: Some(account),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(contact).await.unwrap().id
}

fn today(session: &Session) -> NaiveDate {
    session.engine().clock().now().date_naive()
}

async fn kinds(session: &Session, contact: Id<Contact>) -> Vec<(RelationshipType, Id<Contact>)> {
    let page = session
        .contacts()
        .relationships(contact, Find::new())
        .await
        .unwrap();
    page.into_iter()
        .map(|relation| (relation.kind, relation.contact.id))
        .collect()
}

/// C-005, R-095: each end reads the relationship with its own name.
#[tokio::test]
async fn relationships_are_seen_from_both_ends() {
    let session = session().await;
    for kind in RelationshipType::ALL.iter().copied() {
        let (a, b) = (contact(&session, "A").await, contact(&session, "B").await);
        session.contacts().relate(a, b, kind).await.unwrap();
        assert_eq!(kinds(&session, a).await, [(kind, b)]);
        assert_eq!(kinds(&session, b).await, [(kind.inverse(), a)]);
        session
            .contacts()
            .unrelate(b, a, kind.inverse())
            .await
            .unwrap();
        assert_eq!(kinds(&session, a).await, []);
    }
}

/// the same relationship is refused from both ends, also after a change of its kind.
#[tokio::test]
async fn a_relationship_is_told_once() {
    let session = session().await;
    let (a, b) = (contact(&session, "A").await, contact(&session, "B").await);
    for kind in RelationshipType::ALL.iter().copied() {
        if kind == RelationshipType::Manages || kind == RelationshipType::Customer {
            // The inverse of an earlier one.
            continue;
        }
        session.contacts().relate(a, b, kind).await.unwrap();
        for (one, other, kind) in [(a, b, kind), (b, a, kind.inverse())] {
            let error = session
                .contacts()
                .relate(one, other, kind)
                .await
                .unwrap_err();
            assert_eq!(error.code(), "duplicate", "{kind:?}");
        }
    }
    let colleagues = ContactRelationship::RELATIONSHIP_TYPE.eq(RelationshipType::Colleague);
    let records = || session.records::<ContactRelationship>();
    let stored = records().find_one(colleagues).await.unwrap().unwrap();
    assert!(stored.is_mutual);
    let partner = |one: &mut ContactRelationship| one.relationship_type = RelationshipType::Partner;
    let error = records().update(stored.id, partner).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
}

/// nobody relates to himself, and nobody to a contact that is not there.
#[tokio::test]
async fn a_relationship_needs_two_contacts() {
    let session = session().await;
    let a = contact(&session, "A").await;
    let ghost = Id::new(uuid::Uuid::from_u128(1));
    for (other, code) in [(a, "inconsistent"), (ghost, "not_found")] {
        for kind in [RelationshipType::ReportsTo, RelationshipType::Colleague] {
            let error = session.contacts().relate(a, other, kind).await.unwrap_err();
            assert_eq!(error.field_errors()[0].code, code, "{kind:?}: {error}");
        }
    }
}

/// of both ends telling the same at the same time, one succeeds.
#[tokio::test]
async fn both_ends_at_the_same_time_store_it_once() {
    let session = session().await;
    let (a, b) = (contact(&session, "A").await, contact(&session, "B").await);
    let calls = (0..8).map(|number| {
        let session = session.clone();
        async move {
            let mut contacts = session.contacts();
            match number % 2 {
                0 => contacts
                    .relate(a, b, RelationshipType::Vendor)
                    .await
                    .map(|_| ()),
                _ => contacts
                    .relate(b, a, RelationshipType::Customer)
                    .await
                    .map(|_| ()),
            }
        }
    });
    let told = join_all(calls).await;
    assert_eq!(told.iter().filter(|told| told.is_ok()).count(), 1);
    assert_eq!(kinds(&session, a).await, [(RelationshipType::Vendor, b)]);
}

/// managers have no cycles, over any number of levels, whichever end tells it.
#[tokio::test]
async fn managers_have_no_cycle() {
    let session = session().await;
    let (a, b, c) = (
        contact(&session, "A").await,
        contact(&session, "B").await,
        contact(&session, "C").await,
    );
    let reports = RelationshipType::ReportsTo;
    session.contacts().relate(a, b, reports).await.unwrap();
    session
        .contacts()
        .relate(c, b, RelationshipType::Manages)
        .await
        .unwrap();
    for (one, other, kind) in [
        (c, a, reports),
        (a, c, RelationshipType::Manages),
        (b, a, reports),
    ] {
        let error = session
            .contacts()
            .relate(one, other, kind)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cycle");
    }
    let levels = session.contacts().managers(a).await.unwrap();
    let levels: Vec<Vec<_>> = levels
        .iter()
        .map(|level| level.iter().map(|one| one.id).collect())
        .collect();
    assert_eq!(levels, [[b], [c]]);
    let below = session
        .contacts()
        .direct_reports(b, Find::new())
        .await
        .unwrap();
    assert_eq!(below.items.len(), 1);
    assert_eq!(below.items[0].contact.id, a);
    assert_eq!(below.items[0].kind, RelationshipType::Manages);
}

/// of changes at the same time that together would close a cycle, one is refused.
#[tokio::test]
async fn managers_have_no_cycle_under_concurrency() {
    let session = session().await;
    for _ in 0..5 {
        let mut people = Vec::new();
        for name in ["A", "B", "C"] {
            people.push(contact(&session, name).await);
        }
        let calls = (0..3).map(|index| {
            let (session, people) = (session.clone(), people.clone());
            async move {
                let (one, next) = (people[index], people[(index + 1) % 3]);
                session
                    .contacts()
                    .relate(one, next, RelationshipType::ReportsTo)
                    .await
            }
        });
        let told = join_all(calls).await;
        let refused: Vec<_> = told.iter().filter_map(|told| told.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].code(), "cycle");
    }
}

/// C-005: relationships go and come back with their contacts, and are read page by page.
#[tokio::test]
async fn relationships_follow_their_contacts() {
    let session = session().await;
    let a = contact(&session, "A").await;
    let mut others = Vec::new();
    for name in ["B", "C", "D"] {
        let other = contact(&session, name).await;
        session
            .contacts()
            .relate(a, other, RelationshipType::Colleague)
            .await
            .unwrap();
        others.push(other);
    }
    session.contacts().delete(others[0]).await.unwrap();
    assert_eq!(kinds(&session, a).await.len(), 2);
    session.contacts().restore(others[0]).await.unwrap();
    let mut find = Find::new().limit(2);
    let mut seen = Vec::new();
    loop {
        let page = session
            .contacts()
            .relationships(a, find.clone())
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|relation| relation.contact.id));
        let Some(next) = page.next else { break };
        find = find.after(next);
    }
    assert_eq!(seen, others);
}

async fn primary(session: &Session, contact: Id<Contact>) -> Vec<Id<Account>> {
    let all = session
        .contacts()
        .affiliations(contact, None)
        .await
        .unwrap();
    all.iter()
        .filter(|one| one.is_primary)
        .map(|one| one.account_id)
        .collect()
}

/// The contact's account and its primary affiliation are in step.
async fn assert_account(session: &Session, contact: Id<Contact>, account: Option<Id<Account>>) {
    assert_eq!(
        session.contacts().get(contact).await.unwrap().account_id,
        account
    );
    assert_eq!(
        primary(session, contact).await,
        account.into_iter().collect::<Vec<_>>()
    );
}

/// whichever of the account and the primary affiliation is written, the other follows.
#[tokio::test]
async fn account_and_primary_affiliation_are_in_step() {
    let session = session().await;
    let [globex, initech] = accounts(&session).await;
    let ada = contact_at(&session, globex).await;
    assert_account(&session, ada, Some(globex)).await;

    session
        .contacts()
        .update(ada, |ada| ada.account_id = Some(initech))
        .await
        .unwrap();
    assert_account(&session, ada, Some(initech)).await;
    let all = session.contacts().affiliations(ada, None).await.unwrap();
    assert_eq!(
        all[0].ended_on,
        Some(today(&session)),
        "who changes the account has left"
    );

    let also = ContactAffiliation {
        buying_role: Some(BuyingRole::Champion),
        ..ContactAffiliation::new(ada, globex)
    };
    let also = session.contacts().affiliate(also).await.unwrap();
    assert_account(&session, ada, Some(initech)).await;
    let affiliations = || session.records::<ContactAffiliation>();
    affiliations()
        .update(also.id, |also| also.is_primary = true)
        .await
        .unwrap();
    assert_account(&session, ada, Some(globex)).await;
    let now = session
        .contacts()
        .affiliations(ada, Some(today(&session)))
        .await
        .unwrap();
    assert_eq!(now.len(), 2, "the other goes on");

    let day = today(&session);
    affiliations()
        .update(also.id, |also| also.ended_on = Some(day))
        .await
        .unwrap();
    assert_account(&session, ada, None).await;
    session
        .contacts()
        .update(ada, |ada| ada.account_id = Some(initech))
        .await
        .unwrap();
    assert_account(&session, ada, Some(initech)).await;
    let all = session.contacts().affiliations(ada, None).await.unwrap();
    assert_eq!(all.len(), 3, "the one that goes on is primary again");
    let last = all.iter().find(|one| one.is_primary).unwrap().id;
    affiliations().delete(last).await.unwrap();
    assert_account(&session, ada, None).await;
}

/// a deleted account leaves its contacts, without account; a restored contact has its own.
#[tokio::test]
async fn affiliations_follow_contacts_and_accounts() {
    let session = session().await;
    let globex = account(&session, "Globex").await;
    let ada = contact_at(&session, globex).await;
    session.contacts().delete(ada).await.unwrap();
    session.contacts().restore(ada).await.unwrap();
    assert_account(&session, ada, Some(globex)).await;
    session.accounts().delete(globex).await.unwrap();
    assert_account(&session, ada, None).await;
    session.accounts().restore(globex).await.unwrap();
    assert_account(&session, ada, None).await;
}

/// Moving keeps the history, and people are found as of a day.
#[tokio::test]
async fn a_contact_moves_from_account_to_account() {
    let session = session().await;
    let [globex, initech] = accounts(&session).await;
    let ada = contact_at(&session, globex).await;
    let day = today(&session) - TimeDelta::days(30);
    session
        .contacts()
        .move_to_account(ada, initech, day)
        .await
        .unwrap();
    assert_account(&session, ada, Some(initech)).await;
    let people = |account, on| {
        let session = session.clone();
        async move {
            let page = session
                .contacts()
                .people(account, on, Find::new())
                .await
                .unwrap();
            page.into_iter()
                .map(|person| person.contact.id)
                .collect::<Vec<_>>()
        }
    };
    let before = day - TimeDelta::days(1);
    assert_eq!(people(globex, Some(before)).await, [ada]);
    assert_eq!(people(globex, Some(day)).await, []);
    assert_eq!(people(globex, None).await, [ada]);
    assert_eq!(people(initech, Some(day)).await, [ada]);
    assert_eq!(people(initech, Some(before)).await, []);

    let future = today(&session) + TimeDelta::days(3);
    let error = session
        .contacts()
        .move_to_account(ada, globex, future)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].code, "out_of_range");
    let error = session
        .contacts()
        .move_to_account(ada, globex, before)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "ended_on", "before it began");
    assert_account(&session, ada, Some(initech)).await;
}

/// Of several who give a contact an account at the same time, the last one stands, in step.
#[tokio::test]
async fn one_primary_affiliation_under_concurrency() {
    let session = session().await;
    let ada = contact(&session, "Ada").await;
    let mut accounts = Vec::new();
    for name in ["A", "B", "C", "D"] {
        accounts.push(account(&session, name).await);
    }
    let calls = accounts.iter().enumerate().map(|(number, account)| {
        let (session, account) = (session.clone(), *account);
        async move {
            if number % 2 == 0 {
                let set = |ada: &mut Contact| ada.account_id = Some(account);
                session.contacts().update(ada, set).await.map(|_| ())
            } else {
                let also = ContactAffiliation {
                    is_primary: true,
                    ..ContactAffiliation::new(ada, account)
                };
                session.contacts().affiliate(also).await.map(|_| ())
            }
        }
    });
    join_all(calls)
        .await
        .into_iter()
        .for_each(|told| told.unwrap());
    let account = session.contacts().get(ada).await.unwrap().account_id;
    assert!(account.is_some());
    assert_account(&session, ada, account).await;
}

/// C-207: profiles are typed, faults stand at the network, and filters find them.
#[tokio::test]
async fn social_profiles_are_checked_and_found() {
    let session = session().await;
    let body = serde_json::json!({
        "first_name": "Ada", "last_name": "Lovelace",
        "social_profiles": {"linkedin": "linkedin.com/in/ada/", "x": "@ada"},
    });
    let ada = session
        .contacts()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap();
    let filter = Filter::eq(
        "social_profiles.linkedin",
        "https://www.linkedin.com/in/ada",
    );
    let found = session
        .contacts()
        .find(Find::new().filter_by_name(filter))
        .await
        .unwrap();
    assert_eq!(found.items[0].id, ada.id);
    let patch =
        serde_json::json!({"social_profiles": {"x": null, "github": "https://evil.example/ada"}});
    let error = session
        .contacts()
        .merge(ada.id, ada.version, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "social_profiles.github");
    assert_eq!(error.field_errors()[0].code, "invalid_url");
    let patch = serde_json::json!({"social_profiles": {"x": null, "github": "ada"}});
    let ada = session
        .contacts()
        .merge(ada.id, ada.version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(
        serde_json::to_value(&ada.social_profiles).unwrap(),
        serde_json::json!({"linkedin": "https://www.linkedin.com/in/ada", "github": "https://github.com/ada"})
    );
}

fn newsletter() -> ApiName {
    "marketing_email".parse().unwrap()
}

fn form() -> Grant {
    let evidence = ConsentEvidence {
        source: Some("web_form".into()),
        text_version: Some("2026-01".into()),
        ip_address: Some("2001:db8::7".into()),
        ..ConsentEvidence::default()
    };
    Grant::new(newsletter(), evidence)
}

/// C-064, R-060: a consent is given, renewed and withdrawn, and nothing of it is overwritten.
#[tokio::test]
async fn consents_are_a_history() {
    let session = session().await;
    let ada = contact(&session, "Ada").await;
    let lead = Lead {
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let lead = session.leads().create(lead).await.unwrap().id;
    let first = session.consents().grant(ada, form()).await.unwrap();
    session.consents().grant(ada, form()).await.unwrap();
    session.consents().grant(lead, form()).await.unwrap();
    assert!(
        session
            .consents()
            .has_consent(ada, &newsletter())
            .await
            .unwrap()
    );
    assert!(
        session
            .consents()
            .has_consent(lead, &newsletter())
            .await
            .unwrap()
    );
    let withdrawal = Withdrawal {
        method: Some("unsubscribe_link".into()),
        at: None,
    };
    let withdrawn = session
        .consents()
        .withdraw(ada, &newsletter(), withdrawal)
        .await
        .unwrap();
    assert_eq!(withdrawn.status, ConsentStatus::Withdrawn);
    assert!(withdrawn.withdrawn_at.is_some());
    assert!(
        !session
            .consents()
            .has_consent(ada, &newsletter())
            .await
            .unwrap()
    );
    assert!(
        session
            .consents()
            .has_consent(lead, &newsletter())
            .await
            .unwrap()
    );
    let again = session
        .consents()
        .withdraw(ada, &newsletter(), Withdrawal::default())
        .await;
    assert_eq!(again.unwrap_err().code(), "not_found");
    let history = session.consents().history(ada, Find::new()).await.unwrap();
    assert_eq!(history.items.len(), 2);

    for change in [
        |consent: &mut Consent| consent.lawful_basis = LawfulBasis::Contract,
        |consent: &mut Consent| consent.evidence.source = None,
        |consent: &mut Consent| consent.is_active = true,
    ] {
        let error = session
            .consents()
            .update(first.id, change)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "consent_is_proof");
    }
}

/// a consent is of one contact or one lead, and its times are in order.
#[tokio::test]
async fn a_consent_has_one_subject() {
    let session = session().await;
    let ada = contact(&session, "Ada").await;
    let now = session.engine().clock().now();
    let consent = Consent::new(newsletter(), now);
    let cases = [
        (consent.clone(), "contact_id"),
        (
            Consent {
                contact_id: Some(ada),
                withdrawn_at: Some(now),
                ..consent.clone()
            },
            "withdrawn_at",
        ),
        (
            Consent {
                contact_id: Some(ada),
                expires_at: Some(now - TimeDelta::days(1)),
                ..consent.clone()
            },
            "expires_at",
        ),
        (
            Consent {
                contact_id: Some(ada),
                evidence: ConsentEvidence {
                    ip_address: Some("here".into()),
                    ..ConsentEvidence::default()
                },
                ..consent
            },
            "ip_address",
        ),
    ];
    for (consent, path) in cases {
        let error = session.consents().create(consent).await.unwrap_err();
        assert_eq!(error.field_errors()[0].path, path);
    }
}

/// C-064: of consents recorded at the same time, one is active.
#[tokio::test]
async fn one_consent_is_active_under_concurrency() {
    let session = session().await;
    let ada = contact(&session, "Ada").await;
    let calls = (0..6).map(|_| {
        let session = session.clone();
        async move { session.consents().grant(ada, form()).await.map(|_| ()) }
    });
    join_all(calls)
        .await
        .into_iter()
        .for_each(|told| told.unwrap());
    let active = Consent::CONTACT_ID.eq(ada).and(Consent::IS_ACTIVE.eq(true));
    assert_eq!(session.consents().count(active).await.unwrap(), 1);
    assert_eq!(
        session
            .consents()
            .count(Consent::CONTACT_ID.eq(ada))
            .await
            .unwrap(),
        6
    );
}

/// R-026, C-206: preferences, consents and the tenant's policy together.
#[tokio::test]
async fn permission_to_contact() {
    let session = session().await;
    let ada = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let ask = |channel, purpose| {
        let session = session.clone();
        async move {
            session
                .contacts()
                .may_contact(ada, channel, purpose)
                .await
                .unwrap()
        }
    };
    let (email, marketing) = (Channel::Email, Purpose::Marketing);
    assert_eq!(ask(email, marketing).await, Permission::Allowed);
    assert_eq!(
        ask(Channel::Sms, Purpose::Service).await.reasons(),
        [Reason::NoAddress]
    );

    let strict = ContactingPolicy {
        email: OptIn::Required,
        ..ContactingPolicy::default()
    };
    session
        .configurations()
        .set_contacting_policy(strict)
        .await
        .unwrap();
    assert_eq!(
        ask(email, marketing).await.reasons(),
        [Reason::ConsentMissing]
    );
    assert_eq!(ask(email, Purpose::Service).await, Permission::Allowed);
    session.consents().grant(ada, form()).await.unwrap();
    assert_eq!(ask(email, marketing).await, Permission::Allowed);
    session
        .contacts()
        .update(ada, |ada| ada.preferences.email_opt_out = true)
        .await
        .unwrap();
    assert_eq!(ask(email, marketing).await.reasons(), [Reason::EmailOptOut]);
    session
        .contacts()
        .update(ada, |ada| ada.preferences.email_opt_out = false)
        .await
        .unwrap();
    session
        .consents()
        .withdraw(ada, &newsletter(), Withdrawal::default())
        .await
        .unwrap();
    session
        .configurations()
        .set_contacting_policy(ContactingPolicy::default())
        .await
        .unwrap();
    assert_eq!(
        ask(email, marketing).await.reasons(),
        [Reason::ConsentWithdrawn]
    );

    let bob = contact(&session, "Bob").await;
    let ghost = Id::new(uuid::Uuid::from_u128(1));
    let answers = session
        .contacts()
        .may_contact_all(&[bob, ghost, ada], email, marketing)
        .await
        .unwrap();
    let ids: Vec<_> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [bob, ada]);
    assert_eq!(answers[0].1.reasons(), [Reason::NoAddress]);
    let error = session
        .contacts()
        .may_contact(ghost, email, marketing)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
}
