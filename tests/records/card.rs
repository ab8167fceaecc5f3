//! Address cards (vCard, RFC 6350) as contacts, and back: each once, however often it is imported.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::{crm, rows_of, tenant};
use crm_engine::duplicates::DuplicateRule;
use crm_engine::exchange::card::{
    CardImport, CardOptions, CardReport, CardVersion, Refusal, import, to_vcard,
};
use crm_engine::imports::DuplicateHandling;
use crm_engine::prelude::*;

const CARDS: &str = "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Ada Lovelace\r\nN:Lovelace;Ada;;;\r\n\
    EMAIL:ada@x.example\r\nTITLE:Analyst\r\nTEL;TYPE=CELL:+1 650-253-0000\r\nEND:VCARD\r\n\
    BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Hank Scorpio\r\nORG:Globex\r\nEMAIL:hank@x.example\r\nPHOTO:data:,\r\nEND:VCARD\r\n\
    BEGIN:VCARD\r\nVERSION:4.0\r\nEND:VCARD\r\n\
    BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Ada again\r\nEMAIL:ADA@x.example\r\nEND:VCARD\r\n";

fn figures(report: &CardReport) -> [u64; 5] {
    let refused = report.refused.len() as u64;
    [
        report.created,
        report.updated,
        report.unchanged,
        report.skipped,
        refused,
    ]
}

async fn by_email(session: &Session, email: &str) -> std::sync::Arc<Record<Contact>> {
    let email: EmailAddress = email.parse().unwrap();
    let found = session.contacts().find_one(Contact::EMAIL.eq(email)).await;
    found.unwrap().unwrap()
}

async fn versions(session: &Session) -> Vec<(uuid::Uuid, i64)> {
    let rows = rows_of(session, "contact").await;
    rows.iter().map(|row| (row.id(), row.version())).collect()
}

/// a card creates a contact, changes it, and changes nothing when it comes again.
#[tokio::test]
async fn cards_land_once() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let options = CardImport {
        owner: Some(acme.admin),
        ..CardImport::default()
    };
    let report = import(&session, CARDS, &options).await.unwrap();
    assert_eq!(figures(&report), [2, 0, 1, 0, 1]);
    assert_eq!(report.refused[0].place, 2);
    assert!(matches!(report.refused[0].reason, Refusal::Unreadable(_)));
    assert_eq!(
        (report.not_taken[0].0, report.not_taken[0].1.code),
        (1, "no_place")
    );
    let ada = by_email(&session, "ada@x.example").await;
    assert_eq!(ada.name, PersonName::new("Ada", "Lovelace"));
    assert_eq!(ada.owner_id, Some(acme.admin));
    assert!(ada.mobile.is_some());

    let before = versions(&session).await;
    let again = import(&session, CARDS, &options).await.unwrap();
    assert_eq!(figures(&again), [0, 0, 3, 0, 1]);
    assert_eq!(versions(&session).await, before);

    // What the card does not tell stays, what it tells takes its place.
    let promoted = CARDS.replace("TITLE:Analyst", "TITLE:Countess");
    let report = import(&session, &promoted, &options).await.unwrap();
    assert_eq!(figures(&report), [0, 1, 2, 0, 1]);
    let ada = by_email(&session, "ada@x.example").await;
    assert_eq!(ada.job_title.as_deref(), Some("Countess"));
    assert!(ada.mobile.is_some());
    let trail = session.audit().trail(ada.id).await.unwrap();
    assert_eq!(trail.len(), 2, "created and changed once");
}

/// A contact that was written as a card finds itself by its UID, with another address too, and is
/// the same in another tenant.
#[tokio::test]
async fn a_card_of_a_contact_is_that_contact() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    import(&session, CARDS, &CardImport::default())
        .await
        .unwrap();
    for version in [CardVersion::V3, CardVersion::V4] {
        let ada = by_email(&session, "ada@x.example").await;
        let options = CardOptions {
            version,
            ..CardOptions::default()
        };
        let text = to_vcard(&ada, &options);
        let report = import(&session, &text, &CardImport::default())
            .await
            .unwrap();
        assert_eq!(figures(&report), [0, 0, 1, 0, 0], "{text}");
        let moved = text.replace("ada@x.example", "countess@x.example");
        let report = import(&session, &moved, &CardImport::default())
            .await
            .unwrap();
        assert_eq!(figures(&report), [0, 1, 0, 0, 0]);
        assert_eq!(by_email(&session, "countess@x.example").await.id, ada.id);
        import(&session, &text, &CardImport::default())
            .await
            .unwrap();
    }
    // The id of another tenant's contact is nobody's here.
    let (_, other) = tenant(&crm, "other").await;
    let ada = by_email(&session, "ada@x.example").await;
    let text = to_vcard(&ada, &CardOptions::default());
    let report = import(&other, &text, &CardImport::default()).await.unwrap();
    assert_eq!(figures(&report), [1, 0, 0, 0, 0]);
    let copy = by_email(&other, "ada@x.example").await;
    assert_ne!(copy.id, ada.id);
    assert!(
        copy.data == Contact { ..ada.data.clone() },
        "{:?} {:?}",
        copy.data,
        ada.data
    );
}

/// The tenant's duplicate rules are asked before a contact is created; one card that is refused does
/// not keep the others from landing.
#[tokio::test]
async fn cards_like_known_contacts_are_left_out_or_refused() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let rules = session.duplicate_rules();
    let mut rules = rules;
    let rule = rules.create(DuplicateRule::contacts()).await.unwrap();
    session
        .duplicates()
        .rebuild_keys(rule.id, None, &())
        .await
        .unwrap();
    let known = Contact {
        phone: Some("+49 30 901820".parse().unwrap()),
        mailing_address: Some(Address {
            street: Some("Unter den Linden 1".into()),
            city: Some("Berlin".into()),
            postal_code: Some("10117".into()),
            ..Address::default()
        }),
        ..Contact::named("Ada", "Lovelace")
    };
    let known = session.contacts().create(known).await.unwrap();
    let double = to_vcard(&known, &CardOptions::default());
    let double: String = double
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("UID"))
        .collect();
    let too_long = "x".repeat(300);
    let text = format!(
        "{double}BEGIN:VCARD\r\nFN:Grace Hopper\r\nEMAIL:grace@x.example\r\nNOTE:{too_long}\r\nEND:VCARD\r\n"
    );
    let report = import(&session, &text, &CardImport::default())
        .await
        .unwrap();
    assert_eq!(figures(&report), [1, 0, 0, 1, 0]);
    let with = |duplicates| CardImport {
        duplicates,
        ..CardImport::default()
    };
    let refuse = with(DuplicateHandling::Refuse);
    let report = import(&session, &text, &refuse).await.unwrap();
    assert_eq!(figures(&report), [0, 0, 1, 0, 1]);
    assert_eq!(report.refused[0].reason, Refusal::Duplicate(known.id));
    let keep = with(DuplicateHandling::Keep);
    let report = import(&session, &text, &keep).await.unwrap();
    assert_eq!(figures(&report), [1, 0, 1, 0, 0]);
}

/// Many cards take few round trips and all land.
#[tokio::test]
async fn hundreds_of_cards_land() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let text: String = (0..450)
        .map(|n| format!("BEGIN:VCARD\nFN:Person {n}\nEMAIL:p{n}@x.example\nEND:VCARD\n"))
        .collect();
    let report = import(&session, &text, &CardImport::default())
        .await
        .unwrap();
    assert_eq!(figures(&report), [450, 0, 0, 0, 0]);
    let report = import(&session, &text, &CardImport::default())
        .await
        .unwrap();
    assert_eq!(figures(&report), [0, 0, 450, 0, 0]);
}
