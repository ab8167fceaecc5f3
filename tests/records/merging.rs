//! Records become one, and can become several again (C-021, R-018); links to records of any object.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::backend;
use std::collections::BTreeMap;

use crm_engine::audit::{AuditExt, AuditKind};
use crm_engine::merging::{Choices, KeptReason, LinkFate, Merge, MergeLink, Winner};
use crm_engine::prelude::*;
use crm_engine::schema::{Lifecycle, Row, Value};
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// Two accounts that have to do with each other.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "relation",
    table = "relations",
    unique(left_id, right_id, kind; live)
)]
struct Relation {
    /// The one.
    #[field(required, references = "account", on_delete = "cascade")]
    left_id: Id<Account>,
    /// The other.
    #[field(required, references = "account", on_delete = "cascade")]
    right_id: Id<Account>,
    /// What they have to do with each other.
    #[field(required, max_len = 20)]
    kind: String,
}

/// A word about a record of any object.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "remark",
    table = "remarks",
    unique(object, record_id, topic; live)
)]
struct Remark {
    /// The object of the record.
    #[field(required, max_len = 50)]
    object: String,
    /// The record.
    #[field(required, record_of = "object")]
    record_id: Uuid,
    /// What it is about; one of a kind for each record.
    #[field(required, max_len = 20)]
    topic: String,
}

/// A flat or house on offer.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    /// The agency's own number.
    #[field(required, max_len = 20)]
    reference: String,
    /// Who sells it.
    #[field(references = "account", on_delete = "set_null")]
    seller_id: Option<Id<Account>>,
    /// Asking price.
    #[field(currency = "currency")]
    price: Option<rust_decimal::Decimal>,
    /// Its currency.
    currency: Currency,
}

fn crm() -> Crm {
    let storage = backend::storage(&[Relation::schema(), Remark::schema(), Property::schema()]);
    Crm::builder(storage)
        .object::<Relation>()
        .object::<Remark>()
        .object::<Property>()
        .build()
}

async fn tenant(crm: &Crm, subdomain: &str) -> (Onboarded, Session) {
    let email = format!("admin@{subdomain}.example");
    let onboarded = crm
        .onboard(Onboarding::new(subdomain, subdomain, email))
        .await
        .unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    (onboarded, session)
}

async fn acme() -> (Onboarded, Session) {
    tenant(&crm(), "acme").await
}

async fn account(session: &Session, name: &str) -> Id<Account> {
    let created = session.accounts().create(Account::new(name)).await;
    created.unwrap().id
}

fn remark(object: &str, id: Uuid, topic: &str) -> Remark {
    Remark::new(object, id, topic)
}

async fn merge(session: &Session, survivor: Id<Account>, losers: &[Id<Account>]) -> Vec<Id<Merge>> {
    let merged = session
        .accounts()
        .merge_into(survivor, losers, &Choices::new(), Some("the same company"))
        .await;
    merged.unwrap().merges
}

/// Every row of the objects that have a life, without what every write changes.
async fn state(session: &Session) -> BTreeMap<(String, Uuid), Map<String, Json>> {
    let mut state = BTreeMap::new();
    let objects = session.engine().registry().objects();
    for object in objects.values() {
        if object.lifecycle() != Lifecycle::Full || object.name() == "merge" {
            continue;
        }
        for row in rows(session, object.name()).await {
            let mut json = row.to_json();
            for stamp in ["version", "updated_at", "updated_by", "updated_by_id"] {
                json.remove(stamp);
            }
            state.insert((object.name().to_owned(), row.id()), json);
        }
    }
    state
}

async fn rows(session: &Session, object: &str) -> Vec<Row> {
    let find = Find::<()>::new().with_archived().with_deleted().limit(500);
    let records = session.object(object).await.unwrap();
    let mut page = records.find(&find).await.unwrap();
    let mut rows = std::mem::take(&mut page.items);
    while let Some(next) = page.next {
        page = records.find(&find.clone().after(next)).await.unwrap();
        rows.append(&mut page.items);
    }
    rows
}

fn assert_same(
    after: &BTreeMap<(String, Uuid), Map<String, Json>>,
    before: &BTreeMap<(String, Uuid), Map<String, Json>>,
) {
    for (place, row) in before {
        assert_eq!(after.get(place), Some(row), "{place:?} differs");
    }
    assert_eq!(after.len(), before.len());
}

// Links to records of any object.

/// A link to a record of any object leads to a live record of the tenant or is a fault of its field.
#[tokio::test]
async fn a_link_leads_to_a_live_record_of_any_object() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "other").await;
    let globex = account(&session, "Globex").await;
    let foreign = account(&other, "Globex").await;
    let gone = account(&session, "Gone").await;
    session.accounts().delete(gone).await.unwrap();
    let mut remarks = session.records::<Remark>();
    for (object, id) in [
        ("account", foreign.uuid()),
        ("account", gone.uuid()),
        ("contact", globex.uuid()),
        ("unicorn", globex.uuid()),
    ] {
        let error = remarks.create(remark(object, id, "a")).await.unwrap_err();
        let fault = &error.field_errors()[0];
        assert_eq!(
            (fault.path.as_str(), fault.code),
            ("record_id", "not_found")
        );
    }
    let made = remarks
        .create(remark("account", globex.uuid(), "a"))
        .await
        .unwrap();
    let error = remarks
        .update(made.id, |remark| remark.object = "contact".into())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "record_id");
    assert_eq!(session.accounts().get(globex).await.unwrap().version, 1);
}

/// The record is deleted, restored and purged together with the one that it leads to.
#[tokio::test]
async fn a_link_follows_the_record_that_it_leads_to() {
    let (_, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let mut remarks = session.records::<Remark>();
    let early = remarks
        .create(remark("account", globex.uuid(), "early"))
        .await
        .unwrap()
        .id;
    let late = remarks
        .create(remark("account", globex.uuid(), "late"))
        .await
        .unwrap()
        .id;
    remarks.delete(early).await.unwrap();
    session.accounts().delete(globex).await.unwrap();
    assert_eq!(remarks.get(late).await.unwrap_err().code(), "not_found");
    assert_eq!(
        remarks.restore(late).await.unwrap_err().code(),
        "validation"
    );
    session.accounts().restore(globex).await.unwrap();
    assert!(remarks.get(late).await.is_ok());
    assert_eq!(remarks.get(early).await.unwrap_err().code(), "not_found");
    session.accounts().delete(globex).await.unwrap();
    session.accounts().purge(globex).await.unwrap();
    assert!(rows(&session, "remark").await.is_empty());
}

/// A link made while its record is deleted, or the other way round, is a conflict for the second.
#[tokio::test]
async fn a_link_and_the_deletion_of_its_record_exclude_each_other() {
    let (_, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let mut work = session.begin();
    work.records::<Remark>()
        .create(remark("account", globex.uuid(), "a"))
        .await
        .unwrap();
    session.accounts().delete(globex).await.unwrap();
    assert_eq!(work.commit().await.unwrap_err().code(), "conflict");

    session.accounts().restore(globex).await.unwrap();
    let mut work = session.begin();
    work.accounts().delete(globex).await.unwrap();
    let made = session
        .records::<Remark>()
        .create(remark("account", globex.uuid(), "b"))
        .await;
    let made = made.unwrap().id;
    assert_eq!(work.commit().await.unwrap_err().code(), "conflict");
    assert!(session.records::<Remark>().get(made).await.is_ok());
    assert!(session.accounts().get(globex).await.is_ok());
}

// Merging.

/// C-021, R-018: contacts, deals, activities, children, host objects and links go to the survivor;
/// the history holds the data of the loser, reason, time and user.
#[tokio::test]
async fn everything_of_the_loser_goes_to_the_survivor() {
    let (onboarded, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let double = Account {
        industry: Some("Energy".into()),
        tags: vec!["key".into()],
        ..Account::new("Globex Corp.")
    };
    let double = session.accounts().create(double).await.unwrap().id;
    let child = Account {
        parent_account_id: Some(double),
        ..Account::new("Globex Labs")
    };
    let child = session.accounts().create(child).await.unwrap().id;
    let contact = Contact {
        account_id: Some(double),
        ..Contact::named("Hank", "Scorpio")
    };
    let contact = session.contacts().create(contact).await.unwrap().id;
    let gone = Contact {
        account_id: Some(double),
        ..Contact::named("Homer", "Simpson")
    };
    let gone = session.contacts().create(gone).await.unwrap().id;
    session.contacts().delete(gone).await.unwrap();
    let deal = Deal {
        account_id: Some(double),
        ..Deal::new("Rollout", onboarded.pipeline)
    };
    let deal = session.deals().create(deal).await.unwrap().id;
    let call = Activity::new(ActivityType::Call, "Ask", double, onboarded.admin);
    let call = session.activities().create(call).await.unwrap().id;
    let property = Property {
        seller_id: Some(double),
        ..Property::new("B-17")
    };
    let property = session
        .records::<Property>()
        .create(property)
        .await
        .unwrap()
        .id;
    let word = remark("account", double.uuid(), "a");
    let word = session.records::<Remark>().create(word).await.unwrap().id;

    let preview = session
        .accounts()
        .preview_merge(globex, &[double], &Choices::new())
        .await
        .unwrap();
    assert_eq!(
        preview.moved.iter().map(|link| link.count).sum::<usize>(),
        9
    );
    let industry = preview
        .fields
        .iter()
        .find(|field| field.field == "industry")
        .unwrap();
    assert_eq!(industry.winner, Winner::Record(double.uuid()));
    assert!(!format!("{preview:?}").contains("Energy"));

    let merged = session
        .accounts()
        .merge_into(globex, &[double], &Choices::new(), Some("the same company"))
        .await
        .unwrap();
    // The two contacts are affiliated with the account, too.
    assert_eq!((merged.moved, merged.dropped), (9, 0));
    assert_eq!(merged.survivor.name, "Globex");
    assert_eq!(merged.survivor.industry.as_deref(), Some("Energy"));
    assert_eq!(merged.survivor.tags, ["key"]);
    let get = session.accounts().get(child).await.unwrap();
    assert_eq!(get.parent_account_id, Some(globex));
    assert_eq!(
        session.contacts().get(contact).await.unwrap().account_id,
        Some(globex)
    );
    assert_eq!(
        session.deals().get(deal).await.unwrap().account_id,
        Some(globex)
    );
    let call = session.activities().get(call).await.unwrap();
    assert_eq!(call.links.account_id, Some(globex));
    let property = session.records::<Property>().get(property).await.unwrap();
    assert_eq!(property.seller_id, Some(globex));
    let word = session.records::<Remark>().get(word).await.unwrap();
    assert_eq!(word.record_id, globex.uuid());
    let gone = session.contacts().restore(gone).await.unwrap();
    assert_eq!(gone.account_id, Some(globex));

    let entry = session.merges().get(merged.merges[0]).await.unwrap();
    assert_eq!(entry.reason.as_deref(), Some("the same company"));
    assert_eq!(entry.loser_data["industry"], json!("Energy"));
    assert_eq!(entry.created.by, Actor::User(onboarded.admin));
    assert!(!format!("{entry:?}").contains("Energy"));
    // The trail tells each change, in the one commit of the merge.
    let events = session.audit().of_commit(entry.commit_id).await.unwrap();
    let told = |object: &str, kind| {
        events
            .iter()
            .filter(|event| event.object == object && event.event == kind)
            .count()
    };
    assert_eq!(told("account", AuditKind::Delete), 1);
    assert_eq!(told("account", AuditKind::Update), 2);
    assert_eq!(told("merge", AuditKind::Create), 1);
    assert_eq!(events.len(), 12);
}

/// C-021: the id of a loser leads to the survivor, through chains of merges and after their undoing;
/// nothing else reaches the loser.
#[tokio::test]
async fn a_loser_leads_to_the_survivor() {
    let (_, session) = acme().await;
    let [a, b, c, d] = [
        account(&session, "A").await,
        account(&session, "B").await,
        account(&session, "C").await,
        account(&session, "D").await,
    ];
    let first = merge(&session, b, &[a]).await;
    let second = merge(&session, c, &[b]).await;
    let accounts = session.accounts();
    let ghost = Id::new(Uuid::from_u128(7));
    let resolved = accounts.resolve_all(&[a, b, c, d, ghost, a]).await.unwrap();
    assert_eq!(
        resolved,
        [Some(c), Some(c), Some(c), Some(d), None, Some(c)]
    );
    assert_eq!(accounts.get(a).await.unwrap_err().code(), "not_found");
    assert_eq!(accounts.get_or_survivor(a).await.unwrap().id, c);
    assert_eq!(
        session.accounts().restore(a).await.unwrap_err().code(),
        "merged"
    );
    let child = Account {
        parent_account_id: Some(a),
        ..Account::new("Child")
    };
    assert_eq!(
        session.accounts().create(child).await.unwrap_err().code(),
        "validation"
    );

    let error = session.merges().undo(first[0]).await.unwrap_err();
    assert_eq!(error.code(), "merged_since");
    assert!(error.to_string().contains(&second[0].to_string()));
    session.merges().undo(second[0]).await.unwrap();
    assert_eq!(session.accounts().resolve(a).await.unwrap(), b);
    session.merges().undo(first[0]).await.unwrap();
    assert_eq!(session.accounts().resolve(a).await.unwrap(), a);
    assert_eq!(
        session.merges().undo(first[0]).await.unwrap_err().code(),
        "undone"
    );
    // A survivor that is gone is no answer.
    merge(&session, b, &[a]).await;
    session.accounts().delete(b).await.unwrap();
    assert_eq!(
        session.accounts().resolve(a).await.unwrap_err().code(),
        "not_found"
    );
}

/// what cannot be merged is refused with its reason, and looks like nothing where it belongs
/// to another tenant.
#[tokio::test]
async fn what_cannot_be_merged_is_refused() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let (_, other) = tenant(&crm, "other").await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    let foreign = account(&other, "Foreign").await;
    let undone = account(&other, "Double").await;
    let theirs = merge(&other, foreign, &[undone]).await;
    let before = state(&other).await;
    let ghost = Id::<Account>::new(Uuid::from_u128(9));
    let none = Choices::new();
    for (survivor, losers, code) in [
        (a, vec![], "nothing_to_merge"),
        (a, vec![a], "merged_with_itself"),
        (a, vec![b, b], "merged_with_itself"),
        (a, vec![foreign], "not_found"),
        (foreign, vec![a], "not_found"),
        (a, vec![ghost], "not_found"),
    ] {
        let error = session
            .accounts()
            .merge_into(survivor, &losers, &none, None)
            .await;
        assert_eq!(error.unwrap_err().code(), code);
        let error = session
            .accounts()
            .preview_merge(survivor, &losers, &none)
            .await;
        assert_eq!(error.unwrap_err().code(), code);
    }
    assert_eq!(
        session.merges().undo(theirs[0]).await.unwrap_err().code(),
        "not_found"
    );
    assert_eq!(
        session.accounts().resolve(undone).await.unwrap_err().code(),
        "not_found"
    );
    assert_same(&state(&other).await, &before);
    for (choices, code) in [
        (Choices::new().take("nome", b), "unknown_field"),
        (Choices::new().take("last_activity_at", b), "read_only"),
        (Choices::new().take("name", foreign), "not_found"),
        (Choices::new().join("name"), "wrong_type"),
        (
            Choices::new()
                .take("billing_city", a)
                .take("billing_street", b),
            "inconsistent",
        ),
    ] {
        let error = session
            .accounts()
            .merge_into(a, &[b], &choices, None)
            .await
            .unwrap_err();
        assert_eq!(error.field_errors()[0].code, code);
    }
    // The tenant's own record and entries of logs are not merged.
    let mut merges = session.object("merge_link").await.unwrap();
    let error = merges
        .merge_into(a.uuid(), &[b.uuid()], &none, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// what one of the records refused stays refused, whatever is chosen; an address, a telephone
/// number and an amount with its currency come from one record; texts are joined on demand.
#[tokio::test]
async fn fields_follow_their_rules() {
    let (_, session) = acme().await;
    let ada = Contact {
        phone: Some("+1 650 253 0000".parse().unwrap()),
        description: Some("Met in Oslo".into()),
        custom_fields: json!({"x": "ada"}),
        tags: vec!["vip".into(), "math".into()],
        mailing_address: Some(Address {
            city: Some("London".into()),
            ..Address::default()
        }),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let mut double = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        phone: Some("+1 415 555 2671".parse().unwrap()),
        description: Some("Likes tea".into()),
        custom_fields: json!({"x": "other", "y": {"z": 1}}),
        tags: vec!["math".into(), "tea".into()],
        mailing_address: Some(Address {
            street: Some("12 St James's Square".into()),
            city: Some("Paris".into()),
            ..Address::default()
        }),
        ..Contact::named("A.", "Byron")
    };
    double.preferences.do_not_call = true;
    let double = session.contacts().create(double).await.unwrap().id;
    let refused = Choices::new().take("do_not_call", ada);
    let error = session
        .contacts()
        .merge_into(ada, &[double], &refused, None)
        .await;
    assert_eq!(error.unwrap_err().field_errors()[0].code, "inconsistent");

    let choices = Choices::new()
        .take(Contact::NAME.at(PersonName::LAST_NAME).name(), double)
        .take("phone", double)
        .join(Contact::DESCRIPTION.name());
    let merged = session
        .contacts()
        .merge_into(ada, &[double], &choices, None)
        .await
        .unwrap();
    let one = &merged.survivor;
    assert_eq!(one.name.full_name().as_deref(), Some("Ada Byron"));
    assert!(one.preferences.do_not_call && !one.preferences.do_not_email);
    assert_eq!(one.description.as_deref(), Some("Met in Oslo\n\nLikes tea"));
    assert_eq!(one.custom_fields, json!({"x": "ada", "y": {"z": 1}}));
    assert_eq!(one.tags, ["vip", "math", "tea"]);
    assert_eq!(one.phone.as_ref().unwrap().e164(), Some("+14155552671"));
    let address = one.mailing_address.as_ref().unwrap();
    assert_eq!(
        (address.city.as_deref(), address.street.as_deref()),
        (Some("London"), None)
    );
    // The survivor has the loser's address in a unique key, and gives it back in one commit.
    assert_eq!(
        one.email.as_ref().unwrap().as_str(),
        "ada@analytical.example"
    );
    let undone = session.merges().undo(merged.merges[0]).await.unwrap();
    assert!(undone.kept.is_empty());
    let back = session.contacts().get(double).await.unwrap();
    assert_eq!(
        back.email.as_ref().unwrap().as_str(),
        "ada@analytical.example"
    );
    let ada = session.contacts().get(ada).await.unwrap();
    assert_eq!(
        (ada.email.as_ref(), ada.preferences.do_not_call),
        (None, false)
    );

    let priced = |price: Option<i64>, currency: &str| Property {
        price: price.map(Into::into),
        currency: currency.parse().unwrap(),
        ..Property::new("B-17")
    };
    let mut properties = session.records::<Property>();
    let one = properties.create(priced(None, "USD")).await.unwrap().id;
    let two = properties.create(priced(Some(5), "EUR")).await.unwrap().id;
    let merged = properties
        .merge_into(one, &[two], &Choices::new(), None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.price, Some(5.into()));
    assert_eq!(merged.survivor.currency.as_str(), "EUR");
}

/// What only fills a gap gives way to the rules of the object: an open activity does not get the
/// time at which its double was completed.
#[tokio::test]
async fn a_gap_is_not_filled_against_the_rules() {
    let (onboarded, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let call = || Activity::new(ActivityType::Call, "Ask", globex, onboarded.admin);
    let open = session.activities().create(call()).await.unwrap().id;
    let done = session.activities().create(call()).await.unwrap().id;
    session
        .activities()
        .complete(done, Some("yes"))
        .await
        .unwrap();
    let none = Choices::new();
    let merged = session
        .activities()
        .merge_into(open, &[done], &none, None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.completed_at, None);
    assert_eq!(merged.survivor.outcome.as_deref(), Some("yes"));
}

/// R-016, C-019: a survivor below the loser takes its place in the tree; no cycle comes about.
#[tokio::test]
async fn a_survivor_takes_the_place_of_the_loser_in_the_tree() {
    let (_, session) = acme().await;
    let [top, loser, middle, survivor] = [
        account(&session, "Top").await,
        account(&session, "Loser").await,
        account(&session, "Middle").await,
        account(&session, "Survivor").await,
    ];
    for (child, parent) in [(loser, top), (middle, loser), (survivor, middle)] {
        session
            .accounts()
            .set_parent(child, Some(parent))
            .await
            .unwrap();
    }
    let before = state(&session).await;
    let merges = merge(&session, survivor, &[loser]).await;
    let above = session.accounts().ancestors(middle).await.unwrap();
    let above: Vec<_> = above.iter().map(|account| account.id).collect();
    assert_eq!(above, [survivor, top]);
    session.merges().undo(merges[0]).await.unwrap();
    assert_same(&state(&session).await, &before);
    // The other way round: the loser stands below the survivor.
    let merges = merge(&session, loser, &[survivor]).await;
    let above = session.accounts().ancestors(middle).await.unwrap();
    assert_eq!(above.first().unwrap().id, loser);
    session.merges().undo(merges[0]).await.unwrap();
    assert_same(&state(&session).await, &before);
}

/// Links that would lead from the survivor to itself, or say twice what is said already, are dropped,
/// told, and come back.
#[tokio::test]
async fn links_that_say_nothing_new_are_dropped() {
    let (_, session) = acme().await;
    let [a, b, c] = [
        account(&session, "A").await,
        account(&session, "B").await,
        account(&session, "C").await,
    ];
    let mut relations = session.records::<Relation>();
    for (left, right) in [(a, b), (a, c), (b, c), (c, b)] {
        relations
            .create(Relation::new(left, right, "partner"))
            .await
            .unwrap();
    }
    let mut remarks = session.records::<Remark>();
    for (id, topic) in [(a, "x"), (b, "x"), (b, "y")] {
        remarks
            .create(remark("account", id.uuid(), topic))
            .await
            .unwrap();
    }
    let before = state(&session).await;
    let preview = session
        .accounts()
        .preview_merge(a, &[b], &Choices::new())
        .await
        .unwrap();
    let dropped: usize = preview.dropped.iter().map(|link| link.count).sum();
    assert_eq!(dropped, 3);
    let merged = session
        .accounts()
        .merge_into(a, &[b], &Choices::new(), None)
        .await
        .unwrap();
    assert_eq!((merged.moved, merged.dropped), (2, 3));
    let left = relations.find(Find::new()).await.unwrap().items;
    let mut pairs: Vec<_> = left.iter().map(|row| (row.left_id, row.right_id)).collect();
    pairs.sort_unstable();
    let mut wanted = vec![(a, c), (c, a)];
    wanted.sort_unstable();
    assert_eq!(pairs, wanted);
    let entries = rows(&session, "merge_link").await;
    let fates = entries
        .iter()
        .filter(|row| row.get("fate").as_text() == Some("dropped"));
    assert_eq!(fates.count(), 3);
    let undone = session.merges().undo(merged.merges[0]).await.unwrap();
    assert!(undone.kept.is_empty());
    assert_same(&state(&session).await, &before);
}

/// What somebody touched since the merge stays and is listed; the rest goes back.
#[tokio::test]
async fn undoing_leaves_what_was_touched_since() {
    let (_, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let double = Account {
        industry: Some("Energy".into()),
        website: Some("https://globex.example".parse().unwrap()),
        billing_address: Some(Address {
            street: Some("1 Main Street".into()),
            city: Some("Springfield".into()),
            ..Address::default()
        }),
        ..Account::new("Globex Corp.")
    };
    let double = session.accounts().create(double).await.unwrap().id;
    let mut contacts = Vec::new();
    for name in ["Stays", "Moves", "Purged"] {
        let contact = Contact {
            account_id: Some(double),
            ..Contact::named(name, "Scorpio")
        };
        contacts.push(session.contacts().create(contact).await.unwrap().id);
    }
    let merges = merge(&session, globex, &[double]).await;
    let elsewhere = account(&session, "Elsewhere").await;
    session
        .accounts()
        .update(globex, |account| {
            account.industry = Some("Weather".into());
            account.billing_address.as_mut().unwrap().city = Some("Shelbyville".into());
        })
        .await
        .unwrap();
    session
        .contacts()
        .update(contacts[1], |contact| contact.account_id = Some(elsewhere))
        .await
        .unwrap();
    session
        .contacts()
        .update(contacts[0], |contact| {
            contact.job_title = Some("Boss".into());
        })
        .await
        .unwrap();
    session.contacts().delete(contacts[2]).await.unwrap();
    session.contacts().purge(contacts[2]).await.unwrap();

    let undone = session.merges().undo(merges[0]).await.unwrap();
    let mut kept: Vec<_> = undone
        .kept
        .iter()
        .map(|kept| (kept.field.as_str(), kept.why))
        .collect();
    kept.sort_unstable_by_key(|(field, why)| (field.to_string(), format!("{why:?}")));
    assert_eq!(
        kept,
        [
            ("account_id", KeptReason::Changed),
            ("account_id", KeptReason::Gone),
            ("account_id", KeptReason::Gone),
            ("billing_city", KeptReason::Changed),
            ("billing_street", KeptReason::Changed),
            ("industry", KeptReason::Changed),
        ]
    );
    let globex = session.accounts().get(globex).await.unwrap();
    assert_eq!(globex.industry.as_deref(), Some("Weather"));
    assert_eq!(globex.website, None);
    let stays = session.contacts().get(contacts[0]).await.unwrap();
    assert_eq!(
        (stays.account_id, stays.job_title.as_deref()),
        (Some(double), Some("Boss"))
    );
    let moved = session.contacts().get(contacts[1]).await.unwrap();
    assert_eq!(moved.account_id, Some(elsewhere));
    // Two links, and two affiliations with them.
    assert_eq!(undone.given_back, 4);
}

/// A child that appears while its parent is merged away is not lost: the merge is decided again. Of
/// two merges of one loser, one wins.
#[tokio::test]
async fn merges_exclude_what_would_get_lost() {
    let (_, session) = acme().await;
    let [a, b, c] = [
        account(&session, "A").await,
        account(&session, "B").await,
        account(&session, "C").await,
    ];
    let mut work = session.begin();
    let none = Choices::new();
    work.accounts()
        .merge_into(a, &[b], &none, None)
        .await
        .unwrap();
    let late = Contact {
        account_id: Some(b),
        ..Contact::named("Late", "Comer")
    };
    let late = session.contacts().create(late).await.unwrap().id;
    let word = remark("account", b.uuid(), "late");
    session.records::<Remark>().create(word).await.unwrap();
    assert_eq!(work.commit().await.unwrap_err().code(), "conflict");
    assert_eq!(
        session.contacts().get(late).await.unwrap().account_id,
        Some(b)
    );

    let mut work = session.begin();
    work.accounts()
        .merge_into(c, &[b], &none, None)
        .await
        .unwrap();
    merge(&session, a, &[b]).await;
    assert_eq!(work.commit().await.unwrap_err().code(), "conflict");
    assert_eq!(session.accounts().resolve(b).await.unwrap(), a);
    assert_eq!(
        session.contacts().get(late).await.unwrap().account_id,
        Some(a)
    );

    let tasks = (0..4).map(|_| {
        let session = session.clone();
        tokio::spawn(async move {
            session
                .accounts()
                .merge_into(a, &[c], &Choices::new(), None)
                .await
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.code(), "not_found"),
        }
    }
    assert_eq!(won, 1);
}

/// A refused merge leaves nothing in a unit of work that goes on.
#[tokio::test]
async fn a_refused_merge_stages_nothing() {
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    session.accounts().set_parent(b, Some(a)).await.unwrap();
    let contact = Contact {
        account_id: Some(b),
        ..Contact::named("Hank", "Scorpio")
    };
    session.contacts().create(contact).await.unwrap();
    let tags = |from: usize| (from..from + 60).map(|n| n.to_string()).collect::<Vec<_>>();
    session
        .accounts()
        .update(a, |account| account.tags = tags(0))
        .await
        .unwrap();
    session
        .accounts()
        .update(b, |account| account.tags = tags(60))
        .await
        .unwrap();
    let before = state(&session).await;
    let mut work = session.begin();
    let error = work
        .accounts()
        .merge_into(a, &[b], &Choices::new(), None)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "tags");
    work.commit().await.unwrap();
    assert_same(&state(&session).await, &before);
    // A choice is a way out.
    let choices = Choices::new().take("tags", b);
    let merged = session
        .accounts()
        .merge_into(a, &[b], &choices, None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.tags, tags(60));
}

/// The history of a merge goes with the record whose data it holds.
#[tokio::test]
async fn a_purged_loser_takes_its_history_along() {
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    session.accounts().set_parent(a, Some(b)).await.unwrap();
    let contact = Contact {
        account_id: Some(b),
        ..Contact::named("Hank", "Scorpio")
    };
    session.contacts().create(contact).await.unwrap();
    merge(&session, a, &[b]).await;
    // The contact and its affiliation.
    assert_eq!(rows(&session, "merge_link").await.len(), 2);
    session.accounts().purge(b).await.unwrap();
    assert!(rows(&session, "merge").await.is_empty());
    assert!(rows(&session, "merge_link").await.is_empty());
    assert_eq!(
        session.accounts().resolve(b).await.unwrap_err().code(),
        "not_found"
    );
    assert!(session.accounts().get(a).await.is_ok());
}

/// Ten thousand children go to the survivor and back.
#[tokio::test]
async fn ten_thousand_children_move_and_come_back() {
    const CHILDREN: usize = 10_000;
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    let contact = |number: usize| Contact {
        account_id: Some(b),
        ..Contact::named("Child", number.to_string())
    };
    for part in 0..10 {
        let some = (part * CHILDREN / 10..(part + 1) * CHILDREN / 10).map(contact);
        session.contacts().create_all(some.collect()).await.unwrap();
    }
    let merged = session
        .accounts()
        .merge_into(a, &[b], &Choices::new(), None)
        .await
        .unwrap();
    // Each contact and its affiliation.
    assert_eq!(merged.moved, 2 * CHILDREN);
    let of = |id: Id<Account>| Contact::ACCOUNT_ID.eq(id);
    let children = u64::try_from(CHILDREN).unwrap();
    assert_eq!(session.contacts().count(of(a)).await.unwrap(), children);
    let entry = Find::from(MergeLink::FATE.eq(LinkFate::Moved)).limit(1);
    assert_eq!(
        session.records::<MergeLink>().count(entry).await.unwrap(),
        2 * children
    );
    let undone = session.merges().undo(merged.merges[0]).await.unwrap();
    assert_eq!((undone.given_back, undone.kept.len()), (2 * CHILDREN, 0));
    assert_eq!(session.contacts().count(of(b)).await.unwrap(), children);
}

/// C-032: the same by the object's name.
#[tokio::test]
async fn records_are_merged_by_the_name_of_their_object() {
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    let mut accounts = session.object("account").await.unwrap();
    let merged = accounts
        .merge_into(a.uuid(), &[b.uuid()], &Choices::new().take("name", b), None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.get("name").as_text(), Some("B"));
    let resolved = accounts.resolve_all(&[b.uuid()]).await.unwrap();
    assert_eq!(resolved, [Some(a.uuid())]);
}

// The property: a merge and its undoing change nothing.

const ACCOUNTS: usize = 5;

/// A small world, and what is done in it.
#[derive(Clone, Debug)]
struct World {
    /// For each account: parent, and which fields have a value.
    accounts: Vec<(Option<usize>, u8)>,
    /// For each contact: account, e-mail address, refusal, deleted.
    contacts: Vec<(Option<usize>, bool, bool, bool)>,
    deals: Vec<Option<usize>>,
    activities: Vec<usize>,
    relations: Vec<(usize, usize, u8)>,
    remarks: Vec<(usize, u8)>,
    properties: Vec<Option<usize>>,
    merges: Vec<Step>,
}

/// One merge: the survivor, the losers, and whose name counts.
#[derive(Clone, Debug)]
struct Step {
    contacts: bool,
    survivor: usize,
    losers: Vec<usize>,
    choice: Option<usize>,
}

fn worlds() -> impl Strategy<Value = World> {
    let any_account = || 0..ACCOUNTS;
    let maybe = || proptest::option::of(0..ACCOUNTS);
    let step = (
        proptest::bool::weighted(0.25),
        any_account(),
        proptest::collection::vec(any_account(), 1..3),
        proptest::option::of(any_account()),
    );
    let step = step.prop_map(|(contacts, survivor, losers, choice)| Step {
        contacts,
        survivor,
        losers,
        choice,
    });
    (
        proptest::collection::vec((maybe(), any::<u8>()), ACCOUNTS),
        proptest::collection::vec(
            (maybe(), any::<bool>(), any::<bool>(), any::<bool>()),
            ACCOUNTS,
        ),
        proptest::collection::vec(maybe(), 0..3),
        proptest::collection::vec(any_account(), 0..3),
        proptest::collection::vec((any_account(), any_account(), 0..2u8), 0..8),
        proptest::collection::vec((any_account(), 0..2u8), 0..8),
        proptest::collection::vec(maybe(), 0..3),
        proptest::collection::vec(step, 1..4),
    )
        .prop_map(
            |(accounts, contacts, deals, activities, relations, remarks, properties, merges)| {
                World {
                    accounts,
                    contacts,
                    deals,
                    activities,
                    relations,
                    remarks,
                    properties,
                    merges,
                }
            },
        )
}

impl World {
    async fn build(
        &self,
        onboarded: &Onboarded,
        session: &Session,
    ) -> (Vec<Id<Account>>, Vec<Id<Contact>>) {
        let mut accounts = Vec::new();
        for (number, (_, fields)) in self.accounts.iter().enumerate() {
            let has = |bit: u8| fields & (1 << bit) != 0;
            let account = Account {
                account_number: has(0).then(|| format!("N-{number}")),
                industry: has(1).then(|| format!("Industry {number}")),
                billing_address: has(2).then(|| Address {
                    city: Some(format!("City {number}")),
                    street: has(3).then(|| format!("Street {number}")),
                    ..Address::default()
                }),
                phone: has(4).then(|| format!("+1 650 253 000{number}").parse().unwrap()),
                tags: if has(5) {
                    vec!["all".into(), number.to_string()]
                } else {
                    Vec::new()
                },
                custom_fields: if has(6) {
                    json!({"x": number, "all": {"n": null}})
                } else {
                    json!({})
                },
                annual_revenue: has(7).then(|| rust_decimal::Decimal::new(150 + number as i64, 2)),
                ..Account::new(format!("Account {number}"))
            };
            accounts.push(session.accounts().create(account).await.unwrap().id);
        }
        for (number, (parent, _)) in self.accounts.iter().enumerate() {
            if let Some(parent) = parent {
                // What would be a cycle is refused.
                let _ = session
                    .accounts()
                    .set_parent(accounts[number], Some(accounts[*parent]))
                    .await;
            }
        }
        let mut contacts = Vec::new();
        for (number, (account, email, refuses, deleted)) in self.contacts.iter().enumerate() {
            let mut contact = Contact {
                account_id: account.map(|account| accounts[account]),
                email: email.then(|| format!("c{number}@example.com").parse().unwrap()),
                ..Contact::named("Contact", number.to_string())
            };
            contact.preferences.do_not_call = *refuses;
            let id = session.contacts().create(contact).await.unwrap().id;
            if *deleted {
                session.contacts().delete(id).await.unwrap();
            }
            contacts.push(id);
        }
        for account in &self.deals {
            let deal = Deal {
                account_id: account.map(|account| accounts[account]),
                contact_id: Some(contacts[0]).filter(|_| !self.contacts[0].3),
                ..Deal::new("Deal", onboarded.pipeline)
            };
            session.deals().create(deal).await.unwrap();
        }
        for account in &self.activities {
            let call = Activity::new(
                ActivityType::Call,
                "Call",
                accounts[*account],
                onboarded.admin,
            );
            session.activities().create(call).await.unwrap();
        }
        for (left, right, kind) in &self.relations {
            let relation = Relation::new(accounts[*left], accounts[*right], kind.to_string());
            let _ = session.records::<Relation>().create(relation).await;
        }
        for (account, topic) in &self.remarks {
            let word = remark("account", accounts[*account].uuid(), &topic.to_string());
            let _ = session.records::<Remark>().create(word).await;
        }
        for (number, seller) in self.properties.iter().enumerate() {
            let property = Property {
                seller_id: seller.map(|seller| accounts[seller]),
                ..Property::new(number.to_string())
            };
            session
                .records::<Property>()
                .create(property)
                .await
                .unwrap();
        }
        (accounts, contacts)
    }

    async fn live(&self, crm: &Crm, subdomain: &str) {
        let (onboarded, session) = tenant(crm, subdomain).await;
        let (accounts, contacts) = self.build(&onboarded, &session).await;
        let mut undo = Vec::new();
        for step in &self.merges {
            let before = state(&session).await;
            let ids: Vec<Uuid> = if step.contacts {
                contacts.iter().map(|id| id.uuid()).collect()
            } else {
                accounts.iter().map(|id| id.uuid()).collect()
            };
            let object = if step.contacts { "contact" } else { "account" };
            let mut losers: Vec<Uuid> = step.losers.iter().map(|loser| ids[*loser]).collect();
            losers.dedup();
            losers.retain(|loser| *loser != ids[step.survivor]);
            let survivor = ids[step.survivor];
            let chosen = step.choice.map(|choice| ids[choice]);
            let field = if step.contacts { "last_name" } else { "name" };
            let choices = match chosen.filter(|id| *id == survivor || losers.contains(id)) {
                Some(id) => Choices::new().take(field, id),
                None => Choices::new(),
            };
            let mut records = session.object(object).await.unwrap();
            match records.merge_into(survivor, &losers, &choices, None).await {
                Ok(merged) => {
                    let resolved = records.resolve_all(&losers).await.unwrap();
                    assert!(resolved.iter().all(|id| *id == Some(survivor)));
                    self.check_merged(&session, &losers).await;
                    undo.push((before, merged.merges));
                }
                Err(error) => {
                    // Deleted or merged already.
                    assert!(
                        matches!(error.code(), "not_found" | "nothing_to_merge"),
                        "{error}"
                    );
                    assert_same(&state(&session).await, &before);
                }
            }
        }
        for (before, merges) in undo.into_iter().rev() {
            for merge in merges.into_iter().rev() {
                let undone = session.merges().undo(merge).await.unwrap();
                assert!(undone.kept.is_empty(), "{:?}", undone.kept);
            }
            assert_same(&state(&session).await, &before);
        }
    }

    /// Nothing that is not deleted leads to a loser, and no refusal is lost.
    async fn check_merged(&self, session: &Session, losers: &[Uuid]) {
        for object in [
            "account", "contact", "deal", "activity", "relation", "remark", "property",
        ] {
            for row in rows(session, object).await {
                if row.is_deleted() {
                    continue;
                }
                for (index, field) in row.object().fields().iter().enumerate() {
                    let leads = field.reference().is_some() || field.record_of.is_some();
                    let id = row.value(index).as_uuid();
                    assert!(
                        !(leads && id.is_some_and(|id| losers.contains(&id))),
                        "{object}"
                    );
                }
            }
        }
        for loser in losers {
            let merged = session
                .object("contact")
                .await
                .unwrap()
                .resolve_all(&[*loser])
                .await
                .unwrap();
            if let Some(Some(survivor)) = merged.first() {
                let find = Find::<()>::new()
                    .with_deleted()
                    .filter_by_name(Filter::eq("id", *loser));
                let tombstone = session
                    .object("contact")
                    .await
                    .unwrap()
                    .find(&find)
                    .await
                    .unwrap();
                let refused =
                    |row: &Row| row.get("do_not_call").into_owned() == Value::Boolean(true);
                let one = session
                    .object("contact")
                    .await
                    .unwrap()
                    .get(*survivor)
                    .await
                    .unwrap();
                assert!(refused(&one) || !refused(&tombstone.items[0]), "R-026");
            }
        }
    }
}

/// C-021, R-018, R-026: a merge and its undoing are the identity, chains of merges in reverse order
/// too.
#[test]
fn a_merge_and_its_undoing_change_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let usual = match std::env::var("CRM_TEST_STORAGE").as_deref() {
        Ok("postgres") => 8,
        _ => 96,
    };
    let said = std::env::var("PROPTEST_CASES").ok();
    let cases = said.map_or(usual, |number| number.parse().unwrap());
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&worlds(), |world| {
            number.set(number.get() + 1);
            runtime.block_on(world.live(&crm, &format!("w{}", number.get())));
            Ok(())
        })
        .unwrap();
}
