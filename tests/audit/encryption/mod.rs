//! Field encryption: the whole CRM over a storage that sees no personal value (R-006, R-007, C-078 to
//! C-080, C-110, C-149). On both backends.

#![allow(
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod dump;
mod exchange;
mod suite;

use std::sync::Arc;

use crm_engine::Crm;
use crm_engine::audit::encryption::{
    EncryptedStorage, EncryptionError, Key, KeyError, KeyProvider, MasterKeys, WrappedKey,
};
use crm_engine::audit::{AuthEvent, AuthKind, AuthOutcome, Erasure, LoginSource, Window};
use crm_engine::custom_objects::{CustomField, CustomFieldType};
use crm_engine::engine::ReadHook;
use crm_engine::prelude::*;
use crm_engine::query::{QueryError, Sort};
use crm_engine::schema::{Dynamic, ObjectRef, Row};
use crm_engine::storage::{Change, ChangeSet, Storage, StorageError};
use crm_engine::tenancy::Tenant;
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::common::{
    Property, assert_trail_tells_every_record, backend, picture, populate, rows_of, tenant,
};

type Encrypted = EncryptedStorage<Arc<dyn Storage>>;

/// A CRM over an encrypted storage, with the storage behind it.
fn crm() -> (Crm, Arc<dyn Storage>) {
    let inner = backend::plain(&[Property::schema()]);
    let crm = crm_over(backend::encrypted(inner.clone()).build());
    (crm, inner)
}

fn crm_over(storage: Encrypted) -> Crm {
    Crm::builder(storage).object::<Property>().build()
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn ada() -> Contact {
    Contact {
        email: Some(email("Ada@Analytical.example")),
        phone: Some(PhoneNumber::parse("+1 202 555 0188").unwrap()),
        department: Some("Engines".into()),
        ..Contact::named("Ada", "Lovelace")
    }
}

/// The row as the storage behind has it.
async fn stored(inner: &Arc<dyn Storage>, session: &Session, object: &ObjectRef, id: Uuid) -> Row {
    let rows = inner.get(session.scope(), object, &[id]).await.unwrap();
    rows.into_iter().next().unwrap()
}

/// Writes a row past the encryption, as whoever has the database can.
async fn tamper(inner: &Arc<dyn Storage>, session: &Session, before: &Row, after: Row) {
    let engine = session.engine();
    let now = engine.clock().now();
    let update = Change::Update {
        before: before.clone(),
        after,
    };
    let changes = ChangeSet::new(engine.ids().next(now), now, vec![update], Vec::new());
    inner.commit(session.scope(), &changes).await.unwrap();
}

fn encryption_error(error: &Error) -> Option<&EncryptionError> {
    match error {
        Error::Storage(error) => EncryptionError::of(error),
        _ => None,
    }
}

/// a tenant with a record of every object works as without encryption: everything is read, told
/// by the trail, changed, merged, exported, erased.
#[tokio::test]
async fn the_whole_crm_works_over_it() {
    let (crm, inner) = crm();
    let world = populate(&crm, "acme").await;
    let session = &world.session;
    let all = picture(session).await;
    assert!(all.values().filter(|rows| !rows.is_empty()).count() > 50);
    assert_trail_tells_every_record(session).await;
    let contact = session.contacts().get(world.contact).await.unwrap();
    assert_eq!(contact.name, PersonName::new("Hank", "Scorpio"));

    let mut contacts = session.contacts();
    let changed = contacts.update(world.contact, |contact| {
        contact.job_title = Some("Founder".into());
    });
    assert_eq!(changed.await.unwrap().job_title.as_deref(), Some("Founder"));
    let before = session
        .audit()
        .version(world.contact, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(before.record.job_title, None);
    let double = session.contacts().create(ada()).await.unwrap();
    let choices = crm_engine::merging::Choices::new();
    session
        .contacts()
        .merge_into(world.contact, &[double.id], &choices, Some("one person"))
        .await
        .unwrap();
    let merged = session.contacts().get(world.contact).await.unwrap();
    assert_eq!(merged.department.as_deref(), Some("Engines"));
    let export = session
        .privacy()
        .access_export(world.contact)
        .await
        .unwrap();
    assert!(export.to_json().to_string().contains("Scorpio"));
    let row = stored(&inner, session, Contact::schema(), world.contact.uuid()).await;
    assert!(row.sealed().is_some() && !format!("{row:?}").contains("Scorpio"));
    let before = row;

    crate::privacy::marker::lift_holds(session).await;
    let report = session
        .privacy()
        .erase(world.contact, Erasure::default())
        .await
        .unwrap();
    assert!(report.is_complete, "{report:?}");
    let row = stored(&inner, session, Contact::schema(), world.contact.uuid()).await;
    let left = session.contacts().get(world.contact).await.unwrap();
    assert_ne!(left.email, contact.email);
    assert_ne!(row.get("email"), before.get("email"));
}

/// C-080: by e-mail address and telephone number people are found as before, addresses stay unique, and
/// doubles are noticed.
#[tokio::test]
async fn equality_search_and_uniqueness_still_work() {
    let (crm, inner) = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut contacts = session.contacts();
    let ada_ = contacts.create(ada()).await.unwrap();
    contacts
        .create(Contact::named("Bob", "Builder"))
        .await
        .unwrap();
    let ids = async |filter: crm_engine::query::Where<Contact>| {
        let page = session.contacts().find(Find::from(filter)).await.unwrap();
        page.items
            .iter()
            .map(|contact| contact.id)
            .collect::<Vec<_>>()
    };
    let phone = |name: &'static str, value: &str| {
        Find::<Contact>::new().filter_by_name(Filter::eq(name, value))
    };
    assert_eq!(
        ids(Contact::EMAIL.eq(email("ADA@analytical.EXAMPLE"))).await,
        [ada_.id]
    );
    assert_eq!(
        ids(Contact::EMAIL.one_of([email("ada@analytical.example")])).await,
        [ada_.id]
    );
    assert_eq!(
        ids(Contact::EMAIL.ne(email("ada@analytical.example")))
            .await
            .len(),
        1
    );
    assert_eq!(ids(Contact::EMAIL.is_null()).await.len(), 1);
    for (field, value) in [("phone", "+1 202 555 0188"), ("phone_e164", "+12025550188")] {
        let page = contacts.find(phone(field, value)).await.unwrap();
        assert_eq!(page.items.len(), 1, "{field}");
    }
    let mut users = session.users();
    users
        .create(User::new(email("grace@acme.example")))
        .await
        .unwrap();
    let found = users.find(Find::from(User::EMAIL.eq(email("Grace@acme.example"))));
    assert_eq!(found.await.unwrap().items.len(), 1);
    let lead = Lead {
        company: Some("Initech".into()),
        email: Some(email("lead@acme.example")),
        ..Lead::default()
    };
    session.leads().create(lead).await.unwrap();
    let leads = session.leads();
    let found = leads.find(Find::from(Lead::EMAIL.eq(email("lead@acme.example"))));
    assert_eq!(found.await.unwrap().items.len(), 1);

    let again = Contact {
        email: Some(email("ada@ANALYTICAL.example")),
        ..Contact::named("Augusta", "King")
    };
    let refused = contacts.create(again).await.unwrap_err();
    assert!(
        matches!(refused.code(), "duplicate" | "duplicate_found"),
        "{refused:?}"
    );

    // a value that is taken away is taken out of what is sealed.
    let full = stored(&inner, &session, Contact::schema(), ada_.id.uuid()).await;
    let cleared = contacts.update(ada_.id, |ada| {
        (ada.email, ada.phone) = (None, None);
    });
    cleared.await.unwrap();
    let row = stored(&inner, &session, Contact::schema(), ada_.id.uuid()).await;
    assert!(!full.get("email").is_null() && row.get("email").is_null());
    assert!(row.sealed().unwrap().len() + 40 < full.sealed().unwrap().len());
    let nameless = contacts.update(ada_.id, |ada| {
        (ada.name, ada.department) = (PersonName::default(), None);
        ada.company = Some("Analytical Engines".into());
    });
    if nameless.await.is_ok() {
        let row = stored(&inner, &session, Contact::schema(), ada_.id.uuid()).await;
        assert_eq!(row.sealed(), None);
    }
}

/// Custom values of people are found by equality, whether indexed or not, and stay unique.
#[tokio::test]
async fn custom_values_are_found_by_equality() {
    let (crm, inner) = crm();
    let (_, session) = tenant(&crm, "acme").await;
    for (field, indexed, unique) in [
        ("nickname", true, false),
        ("badge", true, true),
        ("note", false, false),
    ] {
        let kind = CustomFieldType::Text(Default::default());
        let field = CustomField {
            is_indexed: indexed,
            is_unique: unique,
            ..CustomField::new(name("contact"), name(field), field, kind)
        };
        session
            .records::<CustomField>()
            .create(field)
            .await
            .unwrap();
    }
    let with = |said: Json| Contact {
        custom_fields: said,
        ..Contact::named("Ada", "Lovelace")
    };
    let said = json!({"nickname": "Enchantress", "badge": "B-7000", "note": "likes numbers"});
    let ada = session.contacts().create(with(said)).await.unwrap();
    for (field, value) in [
        ("nickname", "Enchantress"),
        ("badge", "B-7000"),
        ("note", "likes numbers"),
    ] {
        for (filter, wanted) in [
            (Filter::eq(field, value), 1),
            (Filter::eq(field, "nobody"), 0),
        ] {
            let find = Find::<Contact>::new().filter_by_name(filter);
            let page = session.contacts().find(find).await.unwrap();
            assert_eq!(page.items.len(), wanted, "{field}");
        }
    }
    let refused = session
        .contacts()
        .create(with(json!({"badge": "B-7000"})))
        .await;
    assert_eq!(refused.unwrap_err().code(), "duplicate");
    let row = stored(&inner, &session, Contact::schema(), ada.id.uuid()).await;
    let shown = row.to_json()["custom_fields"].to_string();
    assert!(
        !shown.contains("Enchantress") && !shown.contains("nickname"),
        "{shown}"
    );
    for value in rows_of(&session, "custom_value").await {
        let object = value.object().clone();
        let raw = stored(&inner, &session, &object, value.id()).await;
        assert!(
            raw.get("text_value").is_null() || raw.get("text_value") != value.get("text_value")
        );
    }
}

/// What a storage cannot say of tokens is looked up in opened records, as many as the host allows.
#[tokio::test]
async fn other_questions_are_answered_from_opened_records_within_a_bound() {
    let inner = backend::plain(&[Property::schema()]);
    let bounded = crm_over(backend::encrypted(inner.clone()).build());
    let strict = crm_over(backend::encrypted(inner).scan_at_most(0).build());
    let (onboarded, session) = tenant(&bounded, "acme").await;
    for last in ["Noether", "Lovelace", "Hopper"] {
        let contact = Contact {
            department: Some(
                if last == "Hopper" {
                    "Navy"
                } else {
                    "Mathematics"
                }
                .into(),
            ),
            ..Contact::named("A", last)
        };
        session.contacts().create(contact).await.unwrap();
    }
    let by_name = || Find::<Contact>::new().sort(Sort::asc("last_name")).limit(2);
    let page = session.contacts().find(by_name()).await.unwrap();
    let last = |contact: &Contact| contact.name.last_name.clone().unwrap();
    let names: Vec<_> = page.items.iter().map(|contact| last(contact)).collect();
    assert_eq!(names, ["Hopper", "Lovelace"]);
    let rest = session
        .contacts()
        .find(by_name().after(page.next.unwrap()))
        .await
        .unwrap();
    assert_eq!(last(&rest.items[0]), "Noether");
    let like = || Find::from(Contact::DEPARTMENT.contains("math"));
    assert_eq!(
        session.contacts().find(like()).await.unwrap().items.len(),
        2
    );
    let counted = Aggregate::<Contact>::new()
        .group_by(Contact::DEPARTMENT)
        .count();
    let groups = session.contacts().aggregate(counted.clone()).await.unwrap();
    let counts: Vec<_> = groups
        .iter()
        .map(|group| (group.key(0).as_text().unwrap(), group.count(0)))
        .collect();
    assert_eq!(counts, [("Mathematics", 2), ("Navy", 1)]);
    assert_eq!(
        session
            .search("contact", "lovel", 10)
            .await
            .unwrap()
            .records
            .len(),
        1
    );

    let strict = strict.session(onboarded.tenant, Actor::User(onboarded.admin));
    for find in [by_name(), like()] {
        let refused = strict.contacts().find(find).await.unwrap_err();
        assert!(
            matches!(
                refused,
                Error::Storage(StorageError::Query(QueryError::Unsupported { .. }))
            ),
            "{refused:?}"
        );
    }
    // Of equal values tokens are equal: they are grouped by the storage.
    assert_eq!(strict.contacts().aggregate(counted).await.unwrap(), groups);
}

/// C-059 over encrypted addresses.
#[tokio::test]
async fn failed_logins_are_counted() {
    let (crm, _) = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let now = session.engine().clock().now();
    for (login, ip) in [
        ("ada@acme.example", "203.0.113.7"),
        ("ada@acme.example", "203.0.113.9"),
        ("bob@acme.example", "203.0.113.7"),
    ] {
        let failed = AuthEvent {
            login: Some(login.into()),
            ip: Some(ip.into()),
            ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, now)
        };
        session.security().record(failed).await.unwrap();
    }
    let hour = || {
        Window::new(
            now - chrono::TimeDelta::hours(1),
            now + chrono::TimeDelta::hours(1),
        )
    };
    for (by, first) in [
        (LoginSource::Login, "ada@acme.example"),
        (LoginSource::Address, "203.0.113.7"),
    ] {
        let failed = session
            .security()
            .failed_logins(by, hour(), 10)
            .await
            .unwrap();
        assert_eq!((failed.len(), failed[0].failures), (2, 2));
        assert_eq!(failed[0].source.as_deref(), Some(first));
    }
}

/// C-078: tokens and ciphers of tenants have nothing in common, and what is put into another place does
/// not open.
#[tokio::test]
async fn sealed_values_open_only_where_they_belong() {
    let (crm, inner) = crm();
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "globex").await;
    let object = Contact::schema();
    let mut rows = Vec::new();
    for session in [&acme, &acme, &other] {
        let contact = Contact {
            email: None,
            ..ada()
        };
        let contact = session.contacts().create(contact).await.unwrap();
        rows.push((
            contact.id,
            stored(&inner, session, object, contact.id.uuid()).await,
        ));
    }
    assert_eq!(rows[0].1.get("last_name"), rows[1].1.get("last_name"));
    assert_ne!(rows[0].1.get("last_name"), rows[2].1.get("last_name"));
    assert_ne!(rows[0].1.sealed(), rows[1].1.sealed());

    let swapped = |into: &Row, sealed: &[u8]| -> Row {
        let meta = into.meta();
        let row = Dynamic::new(object.clone(), meta.next(meta.updated), into.values());
        Arc::new(row.with_sealed(sealed))
    };
    let mut broken = rows[0].1.sealed().unwrap().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let foreign = [
        rows[1].1.sealed().unwrap(),
        rows[2].1.sealed().unwrap(),
        &broken,
    ];
    let mut before = rows[0].1.clone();
    for sealed in foreign {
        let after = swapped(&before, sealed);
        tamper(&inner, &acme, &before, after).await;
        before = stored(&inner, &acme, object, before.id()).await;
        let refused = acme.contacts().get(rows[0].0).await.unwrap_err();
        assert!(
            matches!(
                encryption_error(&refused),
                Some(EncryptionError::Locked { .. })
            ),
            "{refused:?}"
        );
    }
    // Put back, it opens.
    let after = swapped(&before, rows[0].1.sealed().unwrap());
    tamper(&inner, &acme, &before, after).await;
    let back = acme.contacts().get(rows[0].0).await.unwrap();
    assert_eq!(back.name, PersonName::new("Ada", "Lovelace"));
}

/// An engine without encryption shows no tokens for values.
#[tokio::test]
async fn without_the_keys_nothing_is_shown() {
    let (crm, inner) = crm();
    let (onboarded, session) = tenant(&crm, "acme").await;
    let contact = session.contacts().create(ada()).await.unwrap();
    let plain = Crm::builder(inner).object::<Property>().build();
    let plain = plain.session(onboarded.tenant, Actor::User(onboarded.admin));
    let refused = plain.contacts().get(contact.id).await.unwrap_err();
    assert!(matches!(refused, Error::Storage(_)), "{refused:?}");
}

/// Shows contacts to one user only.
#[derive(Debug)]
struct OnlyFor(Actor);

#[async_trait::async_trait]
impl ReadHook for OnlyFor {
    async fn before_hand_out(
        &self,
        session: &Session,
        _: &ObjectRef,
        _: &[(Uuid, i64)],
    ) -> crm_engine::Result<()> {
        if session.actor() == self.0 {
            return Ok(());
        }
        Err(Error::Forbidden {
            reason: "the contacts are not yours to read".into(),
        })
    }
}

/// C-079: who opens values is the host's decision, and is told.
#[tokio::test]
async fn reads_need_permission_and_are_told() {
    let inner = backend::plain(&[Property::schema()]);
    let (onboarded, session) =
        tenant(&crm_over(backend::encrypted(inner.clone()).build()), "acme").await;
    let contact = session.contacts().create(ada()).await.unwrap();
    let mut settings = session.configurations();
    settings.set_sensitive_objects(&["contact"]).await.unwrap();
    let admin = Actor::User(onboarded.admin);
    let crm = Crm::builder(backend::encrypted(inner).build())
        .object::<Property>()
        .read_hook(OnlyFor(admin))
        .build();
    let refused = crm
        .session(onboarded.tenant, Actor::System)
        .contacts()
        .get(contact.id)
        .await;
    assert_eq!(refused.unwrap_err().code(), "forbidden");
    let own = crm.session(onboarded.tenant, admin);
    own.contacts().get(contact.id).await.unwrap();
    let trail = own.audit().trail(contact.id).await.unwrap();
    let reads: Vec<_> = trail
        .iter()
        .filter(|event| event.event == AuditKind::Read)
        .collect();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].created.by, admin);
}

/// A provider that refuses.
#[derive(Debug)]
struct Refusing;

#[async_trait::async_trait]
impl KeyProvider for Refusing {
    async fn wrap(&self, _: Id<Tenant>, _: &Key) -> Result<WrappedKey, KeyError> {
        Err(refused())
    }

    async fn unwrap(&self, _: Id<Tenant>, _: &WrappedKey) -> Result<Key, KeyError> {
        Err(refused())
    }
}

fn refused() -> KeyError {
    KeyError::Refused {
        reason: "the tenant is closed".into(),
    }
}

/// C-078, C-079: without the consent of the provider, or with another master key, nothing is shown, and
/// nothing written; the error says why.
#[tokio::test]
async fn without_the_master_key_nothing_is_shown() {
    let inner = backend::plain(&[Property::schema()]);
    let (onboarded, session) =
        tenant(&crm_over(backend::encrypted(inner.clone()).build()), "acme").await;
    let contact = session.contacts().create(ada()).await.unwrap();
    let other = MasterKeys::new("first", Key::new([8; 32]));
    let renamed = MasterKeys::new("second", Key::new([7; 32]));
    let others = [
        EncryptedStorage::new(inner.clone(), other),
        EncryptedStorage::new(inner.clone(), renamed),
        EncryptedStorage::new(inner, Refusing),
    ];
    for (nth, storage) in others.into_iter().enumerate() {
        let session = crm_over(storage).session(onboarded.tenant, Actor::User(onboarded.admin));
        let read = session.contacts().get(contact.id).await.unwrap_err();
        let found = session.contacts().find(Find::new()).await.unwrap_err();
        let written = session.contacts().create(ada()).await.unwrap_err();
        for error in [read, found, written] {
            let Error::Storage(error) = error else {
                panic!("{error:?}");
            };
            let why = KeyError::of(&error);
            assert!(why.is_some(), "{error:?}");
            assert_eq!(
                matches!(why, Some(KeyError::Refused { .. })),
                nth == 2,
                "{why:?}"
            );
        }
    }
}

/// A tenant that was there before encryption is sealed by a pass, and once more after a key was exchanged;
/// no record changes, and the key of before can go.
#[tokio::test]
async fn a_tenant_of_before_is_sealed_and_sealed_anew() {
    let inner = backend::plain(&[Property::schema()]);
    let before = Crm::builder(inner.clone()).object::<Property>().build();
    let (onboarded, plain) = tenant(&before, "acme").await;
    for last in ["Noether", "Hopper"] {
        let contact = Contact::named("A", last);
        let contact = plain.contacts().create(contact).await.unwrap();
        plain.comments().write(contact.id, "met her").await.unwrap();
    }
    let contact = plain.contacts().create(ada()).await.unwrap();
    let wanted = picture(&plain).await;

    let storage = Arc::new(backend::encrypted(inner.clone()).build());
    let crm = Crm::builder(storage.clone()).object::<Property>().build();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    // The keys of duplicates are made anew, and events tell of exchanged keys.
    let without_keys = |mut picture: crate::common::Picture| {
        picture.remove("data_key");
        picture.remove("duplicate_key");
        let events = picture.get_mut("audit_event").unwrap();
        events.retain(|event| event["object"] != "data_key");
        picture
    };
    assert_eq!(
        without_keys(picture(&session).await),
        without_keys(wanted.clone())
    );
    let report = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(
        report.is_complete && report.rows["contact"] >= 3,
        "{report:?}"
    );
    assert_eq!(
        without_keys(picture(&session).await),
        without_keys(wanted.clone())
    );
    let by_email = Find::from(Contact::EMAIL.eq(email("ada@analytical.example")));
    let found = session.contacts().find(by_email).await.unwrap();
    assert_eq!(found.items[0].id, contact.id);
    let row = stored(&inner, &session, Contact::schema(), contact.id.uuid()).await;
    assert!(row.sealed().is_some() && !format!("{row:?}").contains("Lovelace"));
    let again = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(again.is_complete && again.rows.is_empty(), "{again:?}");

    storage.keys().rotate(onboarded.tenant).await.unwrap();
    let report = storage.encrypt_tenant(&session, &()).await.unwrap();
    assert!(
        report.is_complete && report.rows["contact"] >= 3,
        "{report:?}"
    );
    let after = stored(&inner, &session, Contact::schema(), contact.id.uuid()).await;
    assert_ne!(row.sealed(), after.sealed());
    assert_eq!((row.to_json(), row.meta()), (after.to_json(), after.meta()));
    assert_eq!(without_keys(picture(&session).await), without_keys(wanted));
    assert_trail_tells_every_record(&session).await;
    // It was retired a moment ago: it stays.
    let dropped = storage.drop_retired_keys(&session, &()).await.unwrap();
    assert!(dropped.is_empty(), "{dropped:?}");
}

/// Storage errors keep their kind behind the encryption.
#[test]
fn errors_are_found_again() {
    let error = StorageError::from(EncryptionError::NoTenant);
    assert_eq!(
        EncryptionError::of(&error),
        Some(&EncryptionError::NoTenant)
    );
    assert!(!error.is_retryable());
}
