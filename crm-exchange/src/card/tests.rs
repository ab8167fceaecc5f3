//! Cards written and read again, cards of other programs, and hostile ones.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crm_core::contacts::Contact;
use crm_core::schema::{FieldGroup, Meta};
use crm_core::value::{Address, Country, PersonName, SocialNetwork};
use crm_core::{Actor, Record, Stamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn record(contact: Contact) -> Record<Contact> {
    let at = "2026-01-31T09:00:00Z".parse().unwrap();
    let by = Actor::System;
    Record::new(Meta::first(Uuid::from_u128(7), Stamp { at, by }), contact)
}

fn one(text: &str) -> CardContact {
    let mut cards = parse_vcards(text);
    assert_eq!(cards.len(), 1);
    cards.remove(0).unwrap()
}

/// A text of one line, without white space at its ends or twice in a row.
fn words() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[a-zA-ZäöüßΩж語;,:\\\\\"'=.]{1,30}( [a-zA-Zé;,\\\\]{1,30}){0,2}")
}

prop_compose! {
    fn contact()(
        last_name in "[A-Za-zäß;,\\\\]{1,20}",
        first_name in words(),
        (company, department, job_title) in (words(), words(), words()),
        description in proptest::option::of("[a-z;,\\\\:é]{1,90}(\n[a-z ]{0,3}x){0,3}"),
        (street, city, region, postal_code) in (words(), words(), words(), proptest::option::of("[0-9]{5}")),
        country in proptest::option::of(proptest::sample::select(Country::all().collect::<Vec<_>>())),
        (has_email, has_phone, has_mobile, has_profile) in any::<(bool, bool, bool, bool)>(),
        tags in proptest::collection::btree_set("[a-zö;,\\\\]{1,20}", 0..4),
        zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York"]),
        language in proptest::sample::select(vec!["en", "de", "pt-BR"]),
    ) -> Contact {
        let mut contact = Contact {
            name: PersonName { first_name, last_name: Some(last_name) },
            email: has_email.then(|| "ada@analytical.example".parse().unwrap()),
            phone: has_phone.then(|| "+49 30 901820".parse().unwrap()),
            mobile: has_mobile.then(|| "+1 650-253-0000".parse().unwrap()),
            company,
            department,
            job_title,
            description,
            mailing_address: Some(Address { street, city, region, postal_code, country }),
            tags: tags.into_iter().collect(),
            ..Contact::default()
        };
        contact.preferences.timezone = zone.parse().unwrap();
        contact.preferences.language = language.parse().unwrap();
        if has_profile {
            contact.social_profiles.set(SocialNetwork::LinkedIn, "ada").unwrap();
            contact.social_profiles.set(SocialNetwork::parse("guild").unwrap(), "ada").unwrap();
        }
        contact.normalize();
        contact
    }
}

proptest! {
    /// What the format carries comes back as it was, escaped and folded as it may be.
    #[test]
    fn contact_to_card_and_back(contact in contact()) {
        let record = record(contact.clone());
        let text = to_vcard(&record, &CardOptions::default());
        prop_assert!(text.split("\r\n").all(|line| line.len() <= 76), "{}", text);
        let read = one(&text);
        prop_assert_eq!(read.id(), Some(record.id));
        prop_assert_eq!(&read.not_taken, &[]);
        for (index, field) in <Contact as crm_core::schema::Entity>::schema().own_fields().iter().enumerate() {
            // The two forms of a number are equal when the canonical one is.
            if field.name == "phone" || field.name == "mobile" {
                continue;
            }
            prop_assert_eq!(FieldGroup::value(&read.contact, index), FieldGroup::value(&contact, index), "{} in {}", field.name, text);
        }
        prop_assert!(read.contact == contact);
    }

    /// Version 3.0 carries everything but the language.
    #[test]
    fn older_cards_too(contact in contact()) {
        let options = CardOptions { version: CardVersion::V3, ..CardOptions::default() };
        let mut read = one(&to_vcard(&record(contact.clone()), &options)).contact;
        read.preferences.language = contact.preferences.language.clone();
        prop_assert!(read == contact);
    }

    /// Whatever the text, reading it ends.
    #[test]
    fn hostile_text_never_panics(text in "\\PC{0,200}", lines in proptest::collection::vec(
        "(N|FN|TEL|EMAIL|ADR|ORG|TZ|PHOTO|CATEGORIES|X-SOCIALPROFILE|item1\\.URL|BEGIN|END|VERSION)(;(TYPE=[A-Za-z,\"]{0,9}|ENCODING=(b|QUOTED-PRINTABLE)|CHARSET=[a-z0-9-]{0,9}|VALUE=[a-z-]{0,9}|[^:]{0,9}))?[:;=]?[^\r]{0,40}\r?\n? ?",
        0..12,
    )) {
        let _ = parse_vcards(&text);
        let _ = parse_vcards(&format!("BEGIN:VCARD\r\n{text}"));
        let _ = parse_vcards(&format!("BEGIN:VCARD\r\n{}END:VCARD\r\n", lines.concat()));
    }
}

/// A card as another program writes it: groups, types in lower case, an address book's own names.
#[test]
fn cards_of_other_programs_are_read() {
    let card = one(
        "BEGIN:VCARD\nVERSION:3.0\nN:Lovelace;Ada;King;Countess;\nFN:Countess Ada Lovelace\n\
        ORG:Analytical Engines;Research;Numbers\nitem1.EMAIL;type=INTERNET:old@home.example\n\
        EMAIL;type=INTERNET;type=pref:ada@analytical.example\nTEL;type=CELL:+1 650-253-0000\n\
        TEL;type=HOME;type=FAX:+49 30 901821\nTEL;type=WORK:030 901820\n\
        ADR;type=WORK:;Floor 2;Unter den Linden 1;Berlin;;10117;Germany\n\
        URL:https://github.com/ada\nURL:https://ada.example/\nPHOTO;ENCODING=b;TYPE=JPEG:AAAA\n\
        X-SOCIALPROFILE;type=twitter:http://twitter.com/ada\nUID:4711\nEND:VCARD\n",
    );
    let contact = &card.contact;
    assert_eq!(contact.name, PersonName::new("Ada", "Lovelace"));
    assert_eq!(
        contact.email.as_ref().unwrap().to_string(),
        "ada@analytical.example"
    );
    assert_eq!(
        contact.phone.as_ref().unwrap().e164(),
        Some("+4930901820"),
        "read in its country"
    );
    assert_eq!(contact.department.as_deref(), Some("Research, Numbers"));
    let address = contact.mailing_address.as_ref().unwrap();
    assert_eq!(
        address.street.as_deref(),
        Some("Floor 2\nUnter den Linden 1")
    );
    assert_eq!(address.country, Some("DE".parse().unwrap()));
    assert_eq!(contact.social_profiles.iter().count(), 2);
    assert_eq!((card.uid.as_deref(), card.id()), (Some("4711"), None));
    let left: Vec<_> = card
        .not_taken
        .iter()
        .map(|left| (left.property.as_str(), left.code))
        .collect();
    assert_eq!(
        left,
        [
            ("N", "no_place"),
            ("N", "no_place"),
            ("TEL", "no_place"),
            ("URL", "no_place"),
            ("PHOTO", "no_place"),
            ("EMAIL", "no_place"),
        ]
    );
    assert!(!format!("{card:?}").contains("home.example"));
}

/// A telephone of twenty years ago.
#[test]
fn version_2_1_is_read() {
    let card = one(
        "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;J=C3=BCrgen;;;\r\n\
        TEL;CELL;PREF:+49 30 901820\r\nEND:VCARD\r\n",
    );
    assert_eq!(card.contact.name, PersonName::new("Jürgen", "Müller"));
    assert!(card.contact.mobile.is_some());
}

/// One broken card does not spoil the others, and a value that is too long is left out.
#[test]
fn faults_are_told_card_by_card() {
    let long = "x".repeat(300);
    let text = format!(
        "junk\nmore junk\nBEGIN:VCARD\nVERSION:4.0\nEND:VCARD\nBEGIN:VCARD\nFN:Ada\nTITLE:{long}\nEMAIL:nonsense\nEND:VCARD\nBEGIN:VCARD\nFN:Bob"
    );
    let cards = parse_vcards(&text);
    assert_eq!(cards.len(), 4);
    assert_eq!(cards[0], Err(CardError::NoCard));
    assert_eq!(cards[1], Err(CardError::Empty));
    let ada = cards[2].as_ref().unwrap();
    assert_eq!(ada.contact.job_title, None);
    let left: Vec<_> = ada
        .not_taken
        .iter()
        .map(|left| (left.property.as_str(), left.code))
        .collect();
    assert_eq!(
        left,
        [("EMAIL", "invalid_email"), ("job_title", "too_long")]
    );
    assert!(cards[3].is_ok(), "the text ended before the card");
}

/// A large text is read in one pass.
#[test]
fn a_large_text_is_read() {
    let text = "BEGIN:VCARD\r\nFN:Ada Lovelace\r\nEND:VCARD\r\n".repeat(2_000);
    assert_eq!(parse_vcards(&text).len(), 2_000);
    let note = format!(
        "BEGIN:VCARD\r\nFN:Ada\r\nNOTE:{}\r\nEND:VCARD\r\n",
        "n".repeat(2_000_000)
    );
    assert_eq!(one(&note).not_taken[0].code, "too_long");
}

/// cards find their contact by UID and by e-mail address in any letter case.
#[test]
fn cards_are_planned() {
    pollster::block_on(async {
        let engine = crm_core::Engine::builder(crm_storage_memory::MemoryStorage::new()).build();
        let session = engine.session(crm_core::Id::new(Uuid::from_u128(1)), Actor::System);
        let ada = Contact {
            email: Some("ada@analytical.example".parse().unwrap()),
            job_title: Some("Analyst".into()),
            ..Contact::named("Ada", "Lovelace")
        };
        let ada = session.contacts().create(ada).await.unwrap();
        let bob = session
            .contacts()
            .create(Contact::named("Bob", "Babbage"))
            .await
            .unwrap();
        let text = format!(
            "BEGIN:VCARD\nFN:Ada King\nEMAIL:ADA@analytical.example\nEND:VCARD\n\
             BEGIN:VCARD\nFN:Bob B\nUID:urn:uuid:{}\nCATEGORIES:vip\nEND:VCARD\n\
             BEGIN:VCARD\nFN:Ada again\nEMAIL:ada@analytical.example\nEND:VCARD\n\
             BEGIN:VCARD\nFN:Grace Hopper\nEND:VCARD\n",
            bob.id
        );
        let cards = parse_vcards(&text)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let planned = plan(&session, cards).await.unwrap();
        let CardAction::Update { record, contact } = &planned[0].action else {
            unreachable!()
        };
        assert_eq!(record.id, ada.id);
        assert_eq!(
            contact.job_title.as_deref(),
            Some("Analyst"),
            "what the card does not tell stays"
        );
        assert_eq!(contact.name, PersonName::new("Ada", "King"));
        let CardAction::Update { record, contact } = &planned[1].action else {
            unreachable!()
        };
        assert_eq!(
            (record.id, &*contact.tags),
            (bob.id, &["vip".to_owned()][..])
        );
        assert!(matches!(planned[2].action, CardAction::Repeated));
        assert!(matches!(planned[3].action, CardAction::Create(_)));
    });
}
