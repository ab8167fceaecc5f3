//! An object of the host, one struct with `#[derive(Entity)]` and nothing else, is an object like
//! the built-in ones (C-032, C-036).

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::backend;
use crm_engine::accounts::Account;
use crm_engine::audit::{AuditExt, AuditKind};
use crm_engine::query::{Aggregate, Find};
use crm_engine::schema::{Entity, FieldType, OnDelete, Picklist};
use crm_engine::tenancy::Onboarding;
use crm_engine::value::EmailAddress;
use crm_engine::{Actor, Crm, Id, Session};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};

/// A flat or house on offer.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "property",
    table = "properties",
    unique(reference; ignore_case, live)
)]
pub(crate) struct Property {
    /// The agency's own number.
    #[field(required, max_len = 20, searchable)]
    pub(crate) reference: String,
    /// Who sells it.
    #[field(references = "account", on_delete = "set_null", indexed)]
    pub(crate) seller_id: Option<Id<Account>>,
    /// Living space in square metres.
    #[field(min = 1)]
    pub(crate) square_metres: Option<i32>,
    /// Asking price.
    #[field(precision = 12, scale = 2, min = 0)]
    pub(crate) price: Option<Decimal>,
    /// Whom to ask.
    #[field(personal)]
    pub(crate) caretaker: Option<EmailAddress>,
    /// Where it stands.
    pub(crate) state: State,
    /// What it has.
    pub(crate) features: Vec<String>,
}

/// Where a property stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub(crate) enum State {
    /// On offer.
    #[default]
    OnOffer,
    /// Sold.
    Sold,
}

async fn session() -> Session {
    let crm = Crm::builder(backend::storage(&[Property::schema()])).build();
    let acme = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    crm.session(acme.tenant, Actor::User(acme.admin))
}

fn body(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(members) => members,
        _ => Map::new(),
    }
}

/// C-036, G-16: create, read, update, delete and restore need no more than the struct.
#[tokio::test]
async fn one_struct_is_all_that_a_new_object_needs() {
    let session = session().await;
    let flat = session
        .records::<Property>()
        .create(Property {
            square_metres: Some(72),
            ..Property::new(" B-17 ")
        })
        .await
        .unwrap();
    assert_eq!(
        (flat.reference.as_str(), flat.state, flat.version),
        ("B-17", State::OnOffer, 1)
    );
    assert_eq!(
        session.records::<Property>().get(flat.id).await.unwrap(),
        flat
    );

    let sold = session
        .records::<Property>()
        .update(flat.id, |property| property.state = State::Sold)
        .await
        .unwrap();
    assert_eq!((sold.state, sold.version), (State::Sold, 2));

    session.records::<Property>().delete(flat.id).await.unwrap();
    assert_eq!(
        session
            .records::<Property>()
            .get(flat.id)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    let back = session
        .records::<Property>()
        .restore(flat.id)
        .await
        .unwrap();
    assert_eq!((&back.data, back.version), (&sold.data, 4));
}

/// C-036: filters, sorts and aggregates work on the host's fields, also through a relation.
#[tokio::test]
async fn a_host_object_is_found_like_any_other() {
    let session = session().await;
    let globex = session
        .accounts()
        .create(Account {
            industry: Some("Energy".into()),
            ..Account::new("Globex")
        })
        .await
        .unwrap();
    let hooli = session
        .accounts()
        .create(Account::new("Hooli"))
        .await
        .unwrap();
    for (number, seller, price) in [
        ("A", Some(globex.id), 100),
        ("B", Some(hooli.id), 250),
        ("C", None, 75),
    ] {
        let property = Property {
            seller_id: seller,
            price: Some(Decimal::from(price)),
            features: vec!["garden".into(), number.into()],
            ..Property::new(number)
        };
        session
            .records::<Property>()
            .create(property)
            .await
            .unwrap();
    }
    let records = session.records::<Property>();
    let of_energy = Property::SELLER_ID.has(Account::INDUSTRY.eq("Energy"));
    let found = records.find(of_energy).await.unwrap().items;
    assert_eq!(
        found
            .iter()
            .map(|p| p.reference.as_str())
            .collect::<Vec<_>>(),
        ["A"]
    );

    let sorted = records
        .find(Find::new().sort(Property::PRICE.desc()))
        .await
        .unwrap()
        .items;
    assert_eq!(
        sorted
            .iter()
            .map(|p| p.reference.as_str())
            .collect::<Vec<_>>(),
        ["B", "A", "C"]
    );
    assert_eq!(
        records
            .count(Property::FEATURES.any_of(["B", "C"]))
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        records
            .count(Property::REFERENCE.starts_with("b"))
            .await
            .unwrap(),
        1
    );

    let sum = records
        .aggregate(Aggregate::new().sum(Property::PRICE))
        .await
        .unwrap();
    assert_eq!(sum[0].measures[0].to_json(), json!("425"));
}

/// C-036: a unique key of the host's object holds, in any letter case, among live records.
#[tokio::test]
async fn a_unique_key_of_a_host_object_holds() {
    let session = session().await;
    let first = session
        .records::<Property>()
        .create(Property::new("B-17"))
        .await
        .unwrap();
    let error = session
        .records::<Property>()
        .create(Property::new("b-17"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate");

    session
        .records::<Property>()
        .delete(first.id)
        .await
        .unwrap();
    session
        .records::<Property>()
        .create(Property::new("b-17"))
        .await
        .unwrap();
    let error = session
        .records::<Property>()
        .restore(first.id)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate");
}

/// G-16: what the reference says happens when the record that it leads to is deleted, and both
/// records tell of it.
#[tokio::test]
async fn deleting_an_account_empties_the_reference_of_a_host_object() {
    let session = session().await;
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let flat = Property {
        seller_id: Some(globex.id),
        ..Property::new("B-17")
    };
    let flat = session.records::<Property>().create(flat).await.unwrap();

    session.accounts().delete(globex.id).await.unwrap();
    let flat = session.records::<Property>().get(flat.id).await.unwrap();
    assert_eq!((flat.seller_id, flat.version), (None, 2));

    let trail = session.audit().trail(flat.id).await.unwrap();
    let of_commit = session.audit().of_commit(trail[1].commit_id).await.unwrap();
    assert_eq!(
        of_commit.len(),
        2,
        "the account and the property changed in one commit"
    );
    let change = trail[1].changes.field("seller_id").unwrap();
    assert_eq!(change.old.as_ref().unwrap().to_json(), json!(globex.id));
}

/// C-057, C-061: every change of a host's object leaves an event, from which each version is built again.
#[tokio::test]
async fn a_host_object_is_audited_like_any_other() {
    let session = session().await;
    let mut records = session.records::<Property>();
    let flat = records.create(Property::new("B-17")).await.unwrap();
    records
        .update(flat.id, |property| property.price = Some(Decimal::ONE))
        .await
        .unwrap();
    records.archive(flat.id).await.unwrap();
    records.delete(flat.id).await.unwrap();
    records.restore(flat.id).await.unwrap();

    let trail = session.audit().trail(flat.id).await.unwrap();
    let kinds: Vec<_> = trail.iter().map(|event| event.event).collect();
    assert_eq!(
        kinds,
        [
            AuditKind::Create,
            AuditKind::Update,
            AuditKind::Update,
            AuditKind::Delete,
            AuditKind::Restore
        ]
    );
    let first = session.audit().version(flat.id, 1).await.unwrap().unwrap();
    assert_eq!(first.record.data, flat.data);
    let last = session.audit().version(flat.id, 5).await.unwrap().unwrap();
    assert_eq!(last.record, records.get(flat.id).await.unwrap());
    assert!(session.audit().version(flat.id, 6).await.unwrap().is_none());
}

/// C-032: a web API reaches a host's object by its name, with JSON.
#[tokio::test]
async fn a_host_object_is_reached_by_its_name() {
    let session = session().await;
    // An object joins when it is first used.
    assert_eq!(
        session.describe("property").await.unwrap_err().code(),
        "unknown_object"
    );
    session
        .records::<Property>()
        .create(Property::new("A-1"))
        .await
        .unwrap();

    let mut records = session.object("property").await.unwrap();
    let row = records
        .create(&body(
            json!({"reference": "B-17", "price": "99.50", "state": "sold"}),
        ))
        .await
        .unwrap();
    assert_eq!(row.get("state").as_text(), Some("sold"));
    let typed = session
        .records::<Property>()
        .get(Id::new(row.id()))
        .await
        .unwrap();
    assert_eq!(typed.price, Some(Decimal::new(995, 1)));

    let error = records
        .create(&body(
            json!({"price": -1, "state": "burnt", "caretaker": "nobody", "rooms": 3}),
        ))
        .await
        .unwrap_err();
    let mut faults: Vec<_> = error
        .field_errors()
        .iter()
        .map(|fault| (fault.path.as_str(), fault.code))
        .collect();
    faults.sort_unstable();
    assert_eq!(
        faults,
        [
            ("caretaker", "invalid_email"),
            ("price", "out_of_range"),
            ("reference", "required"),
            ("rooms", "unknown_field"),
            ("state", "not_an_option"),
        ]
    );
}

/// a merge patch changes what it names, empties what it names with null, and needs the
/// version that was read.
#[tokio::test]
async fn a_merge_patch_changes_what_it_names() {
    let session = session().await;
    let mut records = session.records::<Property>();
    let flat = Property {
        square_metres: Some(72),
        price: Some(5.into()),
        ..Property::new("B-17")
    };
    let flat = records.create(flat).await.unwrap();
    let patch = body(json!({"price": null, "features": ["garden", "garden"]}));
    let merged = records.merge(flat.id, 1, &patch).await.unwrap();
    assert_eq!(merged.price, None);
    assert_eq!(merged.square_metres, Some(72));
    assert_eq!(merged.features, ["garden"]);

    assert_eq!(
        records.merge(flat.id, 1, &patch).await.unwrap_err().code(),
        "conflict"
    );
    // What is so already is no change.
    assert_eq!(records.merge(flat.id, 2, &patch).await.unwrap().version, 2);
    let error = records
        .merge(flat.id, 2, &body(json!({"version": 9})))
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
}

/// C-032: the schema tells all that a user interface needs.
#[tokio::test]
async fn a_host_object_describes_itself() {
    let session = session().await;
    session
        .records::<Property>()
        .create(Property::new("A-1"))
        .await
        .unwrap();
    let schema = session.describe("property").await.unwrap();
    assert_eq!((schema.name(), schema.table()), ("property", "properties"));
    assert_eq!(schema.help(), "A flat or house on offer.");
    let seller = schema.field("seller_id").unwrap();
    assert_eq!(seller.reference(), Some(("account", OnDelete::SetNull)));
    assert_eq!(seller.help, "Who sells it.");
    let state = schema.field("state").unwrap();
    let FieldType::Picklist { options } = &state.field_type else {
        unreachable!()
    };
    assert_eq!(options.as_ref(), ["on_offer", "sold"]);
    assert_eq!(state.default.to_json(), json!("on_offer"));
    let names = schema.names(&schema.unique_keys()[0].fields);
    assert_eq!(names, ["reference"]);
}
