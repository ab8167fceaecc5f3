//! C-035, C-037, R-070, R-072, R-199, R-200, R-290 to: lookups,
//! parts and their wholes, and links between records of built-in and custom objects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};

use crate::common::{crm, rows_of, tenant};
use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldType, CustomObject, CustomObjectsExt, CustomRelationship,
    CustomValuesExt, LinksExt, RelationshipKind, RemovalOfObject, linked_from, linked_to,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::value::ApiName;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

const NOBODY: Uuid = Uuid::from_u128(7);

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

async fn object(session: &Session, api_name: &str) -> Id<CustomObject> {
    let object = CustomObject::new(name(api_name), api_name, format!("{api_name}s"));
    let objects = session.records::<CustomObject>().create(object).await;
    objects.unwrap().id
}

fn relation(from: &str, api_name: &str, to: &str, kind: RelationshipKind) -> CustomRelationship {
    let cardinality = match kind {
        RelationshipKind::ManyToMany => Cardinality::ManyToMany,
        _ => Cardinality::ManyToOne,
    };
    CustomRelationship::new(name(api_name), name(from), name(to), kind, cardinality)
}

async fn relate(session: &Session, relationship: CustomRelationship) -> Id<CustomRelationship> {
    let relationships = &mut session.records::<CustomRelationship>();
    relationships.create(relationship).await.unwrap().id
}

async fn try_create(session: &Session, object: &str, custom: Json) -> Result<Row> {
    let body = json!({"name": "One", "custom_fields": custom});
    let mut records = session.object(object).await?;
    records.create(body.as_object().unwrap()).await
}

async fn create(session: &Session, object: &str, custom: Json) -> Uuid {
    try_create(session, object, custom).await.unwrap().id()
}

async fn set(session: &Session, object: &str, id: Uuid, custom: Json) -> Result<Row> {
    let mut records = session.object(object).await?;
    let version = records.get(id).await?.version();
    let patch = json!({"custom_fields": custom});
    records.merge(id, version, patch.as_object().unwrap()).await
}

async fn delete(session: &Session, object: &str, id: Uuid) -> Result<()> {
    session.object(object).await?.delete(id).await
}

async fn restore(session: &Session, object: &str, id: Uuid) -> Result<Row> {
    session.object(object).await?.restore(id).await
}

async fn account(session: &Session, called: &str) -> Uuid {
    let made = session.accounts().create(Account::new(called)).await;
    made.unwrap().id.uuid()
}

/// The value of a custom field of a record that is there.
async fn value(session: &Session, object: &str, id: Uuid, field: &str) -> Json {
    let row = session.object(object).await.unwrap().get(id).await.unwrap();
    let document = row.get("custom_fields").to_json();
    document.get(field).cloned().unwrap_or(Json::Null)
}

async fn is_live(session: &Session, object: &str, id: Uuid) -> bool {
    session.object(object).await.unwrap().get(id).await.is_ok()
}

async fn found(session: &Session, object: &str, filter: Filter) -> BTreeSet<Uuid> {
    let find = Find::<()>::new().filter_by_name(filter);
    let records = session.object(object).await.unwrap();
    let page = records.find(&find).await.unwrap();
    page.items.iter().map(|row| row.id()).collect()
}

fn filter(json: Json) -> Filter {
    serde_json::from_value(json).unwrap()
}

/// The faults of what is refused.
fn faults<T: std::fmt::Debug>(result: Result<T>) -> Vec<(String, &'static str)> {
    match result.unwrap_err() {
        Error::Validation(error) => error
            .into_errors()
            .into_iter()
            .map(|fault| (fault.path, fault.code))
            .collect(),
        other => panic!("refused otherwise: {other}"),
    }
}

/// A tenant with projects that may have an account, and parts of parts of them.
async fn projects(session: &Session) {
    for api_name in ["project", "phase", "task"] {
        object(session, api_name).await;
    }
    let lookup = relation("project", "customer", "account", RelationshipKind::Lookup);
    relate(session, lookup).await;
    let part = RelationshipKind::MasterDetail;
    relate(session, relation("phase", "of_project", "project", part)).await;
    relate(session, relation("task", "of_phase", "phase", part)).await;
    let involved = relation(
        "project",
        "involved",
        "account",
        RelationshipKind::ManyToMany,
    );
    relate(session, involved).await;
}

/// Existence, on every way of writing.
#[tokio::test]
async fn a_lookup_leads_to_a_live_record_of_the_tenant() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let other = tenant(&crm, "other").await.1;
    let foreign = account(&other, "Foreign").await;
    let globex = account(&session, "Globex").await;
    let expected = vec![("custom_fields.customer".to_owned(), "not_found")];

    let project = create(&session, "project", json!({"customer": globex})).await;
    assert_eq!(
        value(&session, "project", project, "customer").await,
        json!(globex)
    );
    for nowhere in [NOBODY, foreign, project] {
        let body = json!({"customer": nowhere});
        let refused = try_create(&session, "project", body.clone()).await;
        assert_eq!(faults(refused), expected);
        let refused = set(&session, "project", project, body).await;
        assert_eq!(faults(refused), expected);
    }
    // Together with everything else that is wrong.
    let refused = try_create(&session, "project", json!({"customer": NOBODY, "none": 1})).await;
    let told: BTreeSet<_> = faults(refused).into_iter().map(|fault| fault.0).collect();
    let both = ["custom_fields.customer", "custom_fields.none"];
    assert_eq!(told, both.map(str::to_owned).into());

    // In either order within a unit of work, and of a record that it deletes.
    let mut work = session.begin();
    let initech = work
        .accounts()
        .create(Account::new("Initech"))
        .await
        .unwrap();
    let body = json!({"name": "Two", "custom_fields": {"customer": initech.id}});
    let mut named = work.object("project").await.unwrap();
    named.create(body.as_object().unwrap()).await.unwrap();
    work.commit().await.unwrap();
    let mut work = session.begin();
    work.accounts().delete(initech.id).await.unwrap();
    let mut named = work.object("project").await.unwrap();
    named.create(body.as_object().unwrap()).await.unwrap();
    assert_eq!(faults(work.commit().await), expected);

    // Through a field of a built-in object, defined without a relationship.
    let sponsor = CustomField::new(
        name("deal"),
        name("sponsor"),
        "Sponsor",
        CustomFieldType::Lookup {
            object: name("contact"),
            cascade: false,
        },
    );
    session
        .records::<CustomField>()
        .create(sponsor)
        .await
        .unwrap();
    let pipeline = rows_of(&session, "pipeline").await[0].id();
    let mut deal = Deal::new("Rollout", Id::new(pipeline));
    deal.custom_fields = json!({"sponsor": NOBODY});
    let refused = session.deals().create(deal.clone()).await;
    assert_eq!(
        faults(refused),
        [("custom_fields.sponsor".to_owned(), "not_found")]
    );
    let ada = Contact::named("Ada", "Lovelace");
    let ada = session.contacts().create(ada).await.unwrap();
    deal.custom_fields = json!({"sponsor": ada.id});
    let deal = session.deals().create(deal).await.unwrap();
    session.contacts().delete(ada.id).await.unwrap();
    let deal = session.deals().get(deal.id).await.unwrap();
    assert_eq!(deal.custom_fields, json!({}));
}

///
#[tokio::test]
async fn deletion_empties_restricts_or_cascades() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let globex = account(&session, "Globex").await;
    let project = create(&session, "project", json!({"customer": globex})).await;
    let phase = create(&session, "phase", json!({"of_project": project})).await;
    let own = create(&session, "phase", json!({"of_project": project})).await;
    let task = create(&session, "task", json!({"of_phase": phase})).await;
    let refused = try_create(&session, "task", json!({})).await;
    assert_eq!(
        faults(refused),
        [("custom_fields.of_phase".to_owned(), "required")]
    );

    // A lookup is emptied.
    delete(&session, "account", globex).await.unwrap();
    assert_eq!(
        value(&session, "project", project, "customer").await,
        Json::Null
    );
    // Parts go with the whole, to any depth, and come back with it; not what was deleted before.
    delete(&session, "phase", own).await.unwrap();
    delete(&session, "project", project).await.unwrap();
    assert!(!is_live(&session, "phase", phase).await);
    assert!(!is_live(&session, "task", task).await);
    let refused = restore(&session, "task", task).await;
    assert_eq!(
        faults(refused),
        [("custom_fields.of_phase".to_owned(), "not_found")]
    );
    restore(&session, "project", project).await.unwrap();
    assert!(is_live(&session, "task", task).await);
    assert!(!is_live(&session, "phase", own).await);
    delete(&session, "project", project).await.unwrap();
    let mut records = session.object("project").await.unwrap();
    records.purge(project).await.unwrap();
    for object in ["project", "phase", "task", "custom_value"] {
        assert!(rows_of(&session, object).await.is_empty(), "{object}");
    }

    // A required lookup keeps its record; one that cascades goes with it.
    object(&session, "bill").await;
    let payer = CustomRelationship {
        is_required: true,
        ..relation("bill", "payer", "account", RelationshipKind::Lookup)
    };
    relate(&session, payer).await;
    let sent = CustomRelationship {
        cascade_delete: true,
        ..relation("bill", "sent_to", "contact", RelationshipKind::Lookup)
    };
    relate(&session, sent).await;
    let initech = account(&session, "Initech").await;
    let ada = Contact::named("Ada", "Lovelace");
    let ada = session.contacts().create(ada).await.unwrap().id.uuid();
    let bill = create(&session, "bill", json!({"payer": initech, "sent_to": ada})).await;
    match delete(&session, "account", initech).await.unwrap_err() {
        Error::Reference { object, by, field } => {
            assert_eq!(
                (&*object, &*by, &*field),
                ("account", "bill", "custom_fields.payer")
            );
        }
        other => panic!("refused otherwise: {other}"),
    }
    delete(&session, "contact", ada).await.unwrap();
    assert!(!is_live(&session, "bill", bill).await);
    delete(&session, "account", initech).await.unwrap();
}

/// A record is no part of itself; what merely looks up may go in a circle.
#[tokio::test]
async fn trees_of_parts_have_no_circles() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    object(&session, "area").await;
    let parts = CustomRelationship {
        cascade_delete: true,
        ..relation("area", "within", "area", RelationshipKind::Lookup)
    };
    relate(&session, parts).await;
    relate(
        &session,
        relation("area", "twin", "area", RelationshipKind::Lookup),
    )
    .await;
    let top = create(&session, "area", json!({})).await;
    let middle = create(&session, "area", json!({"within": top})).await;
    let low = create(&session, "area", json!({"within": middle, "twin": top})).await;
    let aside = create(&session, "area", json!({})).await;
    for above in [top, middle, low] {
        let refused = set(&session, "area", top, json!({"within": above})).await;
        assert_eq!(
            faults(refused),
            [("custom_fields.within".to_owned(), "cycle")]
        );
    }
    set(&session, "area", top, json!({"twin": low}))
        .await
        .unwrap();

    let below = |of: Uuid| filter(json!({"field": "id", "within": of, "by": "within"}));
    assert_eq!(
        found(&session, "area", below(middle)).await,
        [middle, low].into()
    );
    let above = filter(json!({"field": "id", "path_to": low, "by": "within"}));
    assert_eq!(
        found(&session, "area", above).await,
        [top, middle, low].into()
    );
    let of_child = filter(
        json!({"any": "area", "by": "within", "where": {"field": "id", "op": "eq", "value": low}}),
    );
    assert_eq!(found(&session, "area", of_child).await, [middle].into());

    delete(&session, "area", top).await.unwrap();
    assert!(is_live(&session, "area", aside).await);
    assert!(!is_live(&session, "area", low).await);
    restore(&session, "area", top).await.unwrap();
    assert_eq!(
        found(&session, "area", below(top)).await,
        [top, middle, low].into()
    );
}

/// Neither of two commits at the same moment leaves a value that leads nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_and_the_deletion_of_its_record_do_not_cross() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    for _ in 0..12 {
        let globex = account(&session, "Globex").await;
        let project = create(&session, "project", json!({})).await;
        let linking = session.clone();
        let deleting = session.clone();
        let leading = tokio::spawn(async move {
            let links = linking.links("involved");
            let linked = links.link(project, globex).await.is_ok();
            let led = set(&linking, "project", project, json!({"customer": globex})).await;
            (linked, led.is_ok())
        });
        let gone = tokio::spawn(async move { delete(&deleting, "account", globex).await });
        leading.await.unwrap();
        gone.await.unwrap().unwrap();
        assert_eq!(
            value(&session, "project", project, "customer").await,
            Json::Null
        );
        let links = session.links("involved");
        let left = links.from(project, &Find::new()).await.unwrap();
        assert!(left.items.is_empty());
        assert!(links.get(project, globex).await.unwrap().is_none());
    }
}

///
#[tokio::test]
async fn the_field_of_a_relationship_follows_it() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    object(&session, "project").await;
    // One account has many projects: the projects hold the reference.
    let mut many = relation("account", "orders", "project", RelationshipKind::Lookup);
    many.cardinality = Cardinality::OneToMany;
    many.to_field = Some(name("ordered_by"));
    let orders = relate(&session, many).await;
    let fields = || async {
        let page = session.records::<CustomField>().find(Find::new()).await;
        page.unwrap().items
    };
    let field = fields().await.remove(0);
    assert_eq!(
        (field.object.as_str(), field.api_name.as_str()),
        ("project", "ordered_by")
    );
    assert_eq!(field.relationship_id, Some(orders));
    let globex = account(&session, "Globex").await;
    let project = create(&session, "project", json!({"ordered_by": globex})).await;

    // It changes with its relationship, and not on its own.
    let relationships = || session.records::<CustomRelationship>();
    let mut all = relationships();
    let stay = all
        .update(orders, |one| one.cardinality = Cardinality::ManyToOne)
        .await;
    assert_eq!(faults(stay), [("cardinality".to_owned(), "inconsistent")]);
    all.update(orders, |one| one.is_required = true)
        .await
        .unwrap();
    assert!(fields().await[0].is_required);
    let mut own = session.records::<CustomField>();
    let refused = own
        .update(field.id, |field| field.is_required = false)
        .await;
    assert_eq!(
        faults(refused),
        [("is_required".to_owned(), "inconsistent")]
    );
    let refused = own.delete(field.id).await.unwrap_err();
    assert_eq!(refused.code(), "relationship_field");
    own.update(field.id, |field| field.label = "Ordered by".into())
        .await
        .unwrap();
    all.update(orders, |one| one.to_field = Some(name("buyer")))
        .await
        .unwrap();
    assert_eq!(fields().await[0].api_name.as_str(), "buyer");
    let by_either = |name: &str| filter(json!({"field": name, "op": "eq", "value": globex}));
    assert_eq!(
        found(&session, "project", by_either("buyer")).await,
        [project].into()
    );
    assert_eq!(
        found(&session, "project", by_either("ordered_by")).await,
        [project].into()
    );

    // It goes with its relationship, and comes back; values stay as they were.
    all.delete(orders).await.unwrap();
    assert!(fields().await.is_empty());
    all.restore(orders).await.unwrap();
    assert_eq!(fields().await.len(), 1);
    assert_eq!(
        value(&session, "project", project, "ordered_by").await,
        json!(globex)
    );

    let mut pair = relation("project", "badge", "contact", RelationshipKind::Lookup);
    pair.cardinality = Cardinality::OneToOne;
    relate(&session, pair).await;
    let badge = fields().await;
    assert!(
        badge
            .iter()
            .any(|field| field.api_name.as_str() == "badge" && field.is_unique)
    );
}

///
#[tokio::test]
async fn links_lead_both_ways() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let links = session.links("involved");
    let (globex, initech) = (
        account(&session, "Globex").await,
        account(&session, "Initech").await,
    );
    let project = create(&session, "project", json!({})).await;
    let link = links.link(project, globex).await.unwrap();
    // The same two once: the answer is the link that there is.
    assert_eq!(links.link(project, globex).await.unwrap().id(), link.id());
    let told = links
        .link_with(project, globex, json!({"role": "buyer"}))
        .await
        .unwrap();
    assert_eq!(
        (told.id(), told.get("data").to_json()),
        (link.id(), json!({"role": "buyer"}))
    );
    links.link(project, initech).await.unwrap();
    let refused = links.link(project, NOBODY).await;
    assert_eq!(faults(refused), [("to_id".to_owned(), "not_found")]);

    let first = links.from(project, &Find::new().limit(1)).await.unwrap();
    let next = Find::new().limit(1).after(first.next.unwrap());
    let second = links.from(project, &next).await.unwrap();
    let records = first.items.iter().chain(&second.items);
    let ids: BTreeSet<Uuid> = records.map(|linked| linked.record.id()).collect();
    assert_eq!(ids, [globex, initech].into());
    let back = links.to(globex, &Find::new()).await.unwrap().items;
    assert_eq!((back.len(), back[0].record.id()), (1, project));

    // Queries through links, from both ends, and through a lookup.
    let named = |called: &str| Filter::eq("name", called);
    let with_globex = linked_to("involved", named("Globex"));
    assert_eq!(
        found(&session, "project", with_globex).await,
        [project].into()
    );
    let of_project = linked_from(
        "involved",
        filter(json!({"field": "id", "op": "eq", "value": project})),
    );
    assert_eq!(
        found(&session, "account", of_project).await,
        [globex, initech].into()
    );
    assert!(
        found(&session, "project", linked_to("involved", named("None")))
            .await
            .is_empty()
    );
    set(&session, "project", project, json!({"customer": globex}))
        .await
        .unwrap();
    let has = filter(
        json!({"field": "customer", "has": {"field": "name", "op": "eq", "value": "Globex"}}),
    );
    assert_eq!(found(&session, "project", has).await, [project].into());
    let any = filter(
        json!({"any": "project", "by": "customer", "where": {"field": "name", "op": "eq", "value": "One"}}),
    );
    assert_eq!(found(&session, "account", any).await, [globex].into());

    // Links go and come with their ends.
    delete(&session, "account", globex).await.unwrap();
    assert_eq!(
        links.from(project, &Find::new()).await.unwrap().items.len(),
        1
    );
    restore(&session, "account", globex).await.unwrap();
    assert_eq!(
        links.from(project, &Find::new()).await.unwrap().items.len(),
        2
    );
    assert!(links.unlink(project, initech).await.unwrap());
    assert!(!links.unlink(project, initech).await.unwrap());
    delete(&session, "project", project).await.unwrap();
    session
        .object("project")
        .await
        .unwrap()
        .purge(project)
        .await
        .unwrap();
    assert!(rows_of(&session, "involved").await.is_empty());

    // Nothing of another tenant.
    let other = tenant(&crm, "other").await.1;
    assert!(other.links("involved").link(project, globex).await.is_err());
    projects(&other).await;
    let own = create(&other, "project", json!({})).await;
    let refused = other.links("involved").link(own, globex).await;
    assert_eq!(faults(refused), [("to_id".to_owned(), "not_found")]);
    assert!(
        other
            .links("involved")
            .to(globex, &Find::new())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        session
            .links("account")
            .link(globex, initech)
            .await
            .is_err()
    );
}

/// Many at once make one link; a relationship that is not active takes none.
#[tokio::test(flavor = "multi_thread")]
async fn many_make_one_link() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let globex = account(&session, "Globex").await;
    let project = create(&session, "project", json!({})).await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let session = session.clone();
        tasks.push(tokio::spawn(async move {
            session
                .links("involved")
                .link(project, globex)
                .await
                .unwrap()
                .id()
        }));
    }
    let mut ids = BTreeSet::new();
    for task in tasks {
        ids.insert(task.await.unwrap());
    }
    assert_eq!(ids.len(), 1);

    let named = Find::new().filter(CustomRelationship::NAME.eq(name("involved")));
    let mut definitions = session.records::<CustomRelationship>();
    let id = definitions.find_one(named).await.unwrap().unwrap().id;
    definitions
        .update(id, |one| one.is_active = false)
        .await
        .unwrap();
    let links = session.links("involved");
    let initech = account(&session, "Initech").await;
    let refused = links.link(project, initech).await.unwrap_err();
    assert_eq!(refused.code(), "inactive_relationship");
    assert!(links.unlink(project, globex).await.unwrap());
}

/// a record that needs a link always has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_required_link_is_kept() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    object(&session, "visit").await;
    let visited = CustomRelationship {
        is_required: true,
        ..relation("visit", "visited", "account", RelationshipKind::ManyToMany)
    };
    relate(&session, visited).await;
    let expected = vec![("visited".to_owned(), "required")];
    let refused = try_create(&session, "visit", json!({})).await;
    assert_eq!(faults(refused), expected);
    let (globex, initech) = (
        account(&session, "Globex").await,
        account(&session, "Initech").await,
    );
    let mut work = session.begin();
    let body = json!({"name": "Monday"});
    let mut visits = work.object("visit").await.unwrap();
    let visit = visits.create(body.as_object().unwrap()).await.unwrap().id();
    for to in [globex, initech] {
        let body = json!({"from_id": visit, "to_id": to});
        let mut links = work.object("visited").await.unwrap();
        links.create(body.as_object().unwrap()).await.unwrap();
    }
    work.commit().await.unwrap();

    // Two people remove the last two links at once: one of them is refused.
    let mut tasks = Vec::new();
    for to in [globex, initech] {
        let session = session.clone();
        tasks.push(tokio::spawn(async move {
            session.links("visited").unlink(visit, to).await.is_ok()
        }));
    }
    let mut removed = 0;
    for task in tasks {
        removed += usize::from(task.await.unwrap());
    }
    assert_eq!(removed, 1);
    let links = session.links("visited");
    let left = links.from(visit, &Find::new()).await.unwrap().items;
    let left = left[0].record.id();
    assert_eq!(faults(links.unlink(visit, left).await), expected);
    assert_eq!(faults(delete(&session, "account", left).await), expected);
    delete(&session, "visit", visit).await.unwrap();
    restore(&session, "visit", visit).await.unwrap();
    assert!(links.get(visit, left).await.unwrap().is_some());
}

/// what leads to a record that is merged leads on, and back again.
#[tokio::test]
async fn lookups_and_links_follow_a_merge() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let (globex, double) = (
        account(&session, "Globex").await,
        account(&session, "Globex Inc").await,
    );
    let one = create(&session, "project", json!({"customer": double})).await;
    let two = create(&session, "project", json!({"customer": globex})).await;
    let links = session.links("involved");
    links.link(one, double).await.unwrap();
    links.link(two, double).await.unwrap();
    links.link(two, globex).await.unwrap();
    let merged = session
        .accounts()
        .merge_into(Id::new(globex), &[Id::new(double)], &Choices::new(), None)
        .await
        .unwrap();
    for project in [one, two] {
        assert_eq!(
            value(&session, "project", project, "customer").await,
            json!(globex)
        );
        assert_eq!(
            links.from(project, &Find::new()).await.unwrap().items.len(),
            1
        );
    }
    assert_eq!(links.to(globex, &Find::new()).await.unwrap().items.len(), 2);
    session.merges().undo(merged.merges[0]).await.unwrap();
    assert_eq!(
        value(&session, "project", one, "customer").await,
        json!(double)
    );
    assert_eq!(
        value(&session, "project", two, "customer").await,
        json!(globex)
    );
    assert_eq!(links.to(globex, &Find::new()).await.unwrap().items.len(), 1);
    assert_eq!(links.to(double, &Find::new()).await.unwrap().items.len(), 2);
}

/// A lead that is converted stays what it was: lookups and links that lead to it are valid, are
/// followed both ways, and their records can be written.
#[tokio::test]
async fn lookups_and_links_to_a_lead_outlive_its_conversion() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    object(&session, "project").await;
    let source = relation("project", "source", "lead", RelationshipKind::Lookup);
    relate(&session, source).await;
    let many = RelationshipKind::ManyToMany;
    relate(&session, relation("project", "interested", "lead", many)).await;
    let lead = Lead {
        name: Some(PersonName::new("Ada", "Lovelace")),
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let lead = session.leads().create(lead).await.unwrap().id;
    let project = create(&session, "project", json!({"source": lead})).await;
    let later = create(&session, "project", json!({})).await;
    let links = session.links("interested");
    links.link(project, lead.uuid()).await.unwrap();
    let plan = crm_engine::leads::ConversionPlan::new();
    session.leads().convert(lead, plan).await.unwrap();

    assert_eq!(
        value(&session, "project", project, "source").await,
        json!(lead)
    );
    let by_name = filter(json!({"field": "source", "has": {
        "field": "last_name", "op": "eq", "value": "Lovelace",
    }}));
    assert_eq!(
        found(&session, "project", by_name).await,
        BTreeSet::from([project])
    );
    let page = links.from(project, &Find::new()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let page = links.to(lead.uuid(), &Find::new()).await.unwrap();
    assert_eq!(page.items.len(), 1);
    // Records that lead there are written like others, and new ones may lead there too.
    set(&session, "project", project, json!({"source": lead}))
        .await
        .unwrap();
    set(&session, "project", later, json!({"source": lead}))
        .await
        .unwrap();
    links.link(later, lead.uuid()).await.unwrap();
    delete(&session, "project", project).await.unwrap();
    restore(&session, "project", project).await.unwrap();
    assert_eq!(
        value(&session, "project", project, "source").await,
        json!(lead)
    );
}

/// A merge is undone though custom fields led to what is gone since: those stay empty, which is told, and
/// the other values come back.
#[tokio::test]
async fn a_merge_is_undone_though_a_lookup_leads_nowhere() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    object(&session, "project").await;
    let main = relation(
        "account",
        "main_project",
        "project",
        RelationshipKind::Lookup,
    );
    relate(&session, main).await;
    let segment = CustomFieldType::Text(Default::default());
    let segment = CustomField::new(name("account"), name("segment"), "Segment", segment);
    session.records().create(segment).await.unwrap();
    for purged in [false, true] {
        let (old, new) = (
            create(&session, "project", json!({})).await,
            create(&session, "project", json!({})).await,
        );
        let globex = account(&session, "Globex").await;
        let double = account(&session, "Globex Inc").await;
        let own = json!({"main_project": old, "segment": "old"});
        set(&session, "account", globex, own).await.unwrap();
        let theirs = json!({"main_project": new, "segment": "new"});
        set(&session, "account", double, theirs.clone())
            .await
            .unwrap();
        let choices = Choices::new().take("custom_fields", Id::<Account>::new(double));
        let merged = session
            .accounts()
            .merge_into(Id::new(globex), &[Id::new(double)], &choices, None)
            .await
            .unwrap();
        assert_eq!(
            value(&session, "account", globex, "main_project").await,
            json!(new)
        );
        // What the survivor led to before goes.
        delete(&session, "project", old).await.unwrap();
        if purged {
            session
                .object("project")
                .await
                .unwrap()
                .purge(old)
                .await
                .unwrap();
        }
        let undone = session.merges().undo(merged.merges[0]).await.unwrap();
        let kept: Vec<(&str, Uuid)> = undone
            .kept
            .iter()
            .map(|kept| (kept.field.as_str(), kept.id))
            .collect();
        assert_eq!(kept, [("custom_fields.main_project", globex)]);
        assert_eq!(
            value(&session, "account", globex, "main_project").await,
            Json::Null
        );
        assert_eq!(value(&session, "account", globex, "segment").await, "old");
        for field in ["main_project", "segment"] {
            assert_eq!(
                value(&session, "account", double, field).await,
                theirs[field]
            );
        }
        // What it leads to now goes, after it was merged: nothing is refused either.
        let merged = session
            .accounts()
            .merge_into(Id::new(globex), &[Id::new(double)], &choices, None)
            .await
            .unwrap();
        delete(&session, "project", new).await.unwrap();
        let undone = session.merges().undo(merged.merges[0]).await.unwrap();
        assert!(is_live(&session, "account", double).await);
        assert_eq!(
            value(&session, "account", globex, "segment").await,
            "old",
            "{undone:?}"
        );
        for id in [globex, double] {
            assert_eq!(
                value(&session, "account", id, "main_project").await,
                Json::Null
            );
        }
    }
}

/// what goes with an object is told before, and goes.
#[tokio::test]
async fn an_object_is_removed_with_all_that_it_has() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let favourite = CustomField::new(
        name("contact"),
        name("favourite"),
        "Favourite",
        CustomFieldType::Lookup {
            object: name("project"),
            cascade: false,
        },
    );
    session
        .records::<CustomField>()
        .create(favourite)
        .await
        .unwrap();
    let globex = account(&session, "Globex").await;
    let mut last = Uuid::nil();
    for _ in 0..3 {
        last = create(&session, "project", json!({"customer": globex})).await;
        session.links("involved").link(last, globex).await.unwrap();
    }
    let phase = create(&session, "phase", json!({"of_project": last})).await;
    let mut ada = Contact::named("Ada", "Lovelace");
    ada.custom_fields = json!({"favourite": last});
    let ada = session.contacts().create(ada).await.unwrap();
    let named = Find::new().filter(CustomObject::API_NAME.eq(name("project")));
    let objects = session.records::<CustomObject>();
    let project = objects.find_one(named).await.unwrap().unwrap().id;

    let contents = session.contents_of_object(project).await.unwrap();
    assert_eq!(contents.records, 3);
    assert_eq!(contents.links, BTreeMap::from([("involved".to_owned(), 3)]));
    assert_eq!(contents.fields, [name("customer")]);
    assert_eq!(contents.led_to_by, [(name("contact"), name("favourite"))]);
    let removal = RemovalOfObject::IfUnused;
    let refused = session
        .remove_object(project, removal, &())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "object_in_use");
    let removal = RemovalOfObject::WithRecords;
    assert!(session.remove_object(project, removal, &()).await.unwrap());
    assert!(session.object("project").await.is_err());
    assert!(session.object("involved").await.is_err());
    assert!(!is_live(&session, "phase", phase).await);
    let ada = session.contacts().get(ada.id).await.unwrap();
    assert_eq!(ada.custom_fields, json!({}));
    let other = tenant(&crm, "other").await.1;
    assert!(other.contents_of_object(project).await.is_err());
    assert!(other.remove_object(project, removal, &()).await.is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Project,
    Phase(usize),
    Customer(usize, Option<usize>),
    Link(usize, usize),
    Unlink(usize, usize),
    DeleteAccount(usize),
    RestoreAccount(usize),
    DeleteProject(usize),
    RestoreProject(usize),
    DeletePhase(usize),
    RestorePhase(usize),
    PurgeProject(usize),
    Merge(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        Just(Step::Project),
        any::<usize>().prop_map(Step::Phase),
        (any::<usize>(), any::<Option<usize>>()).prop_map(|(a, b)| Step::Customer(a, b)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Link(a, b)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Unlink(a, b)),
        any::<usize>().prop_map(Step::DeleteAccount),
        any::<usize>().prop_map(Step::RestoreAccount),
        any::<usize>().prop_map(Step::DeleteProject),
        any::<usize>().prop_map(Step::RestoreProject),
        any::<usize>().prop_map(Step::DeletePhase),
        any::<usize>().prop_map(Step::RestorePhase),
        any::<usize>().prop_map(Step::PurgeProject),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Merge(a, b)),
    ];
    prop::collection::vec(one, 1..24)
}

/// A phase of the model.
#[derive(Clone, Copy, Debug)]
struct Phase {
    project: Uuid,
    is_live: bool,
    /// Whether it was deleted with its project, and so comes back with it.
    went_along: bool,
}

/// What there should be.
#[derive(Default)]
struct Model {
    accounts: BTreeMap<Uuid, bool>,
    projects: BTreeMap<Uuid, (bool, Option<Uuid>)>,
    phases: BTreeMap<Uuid, Phase>,
}

fn pick<T>(all: &BTreeMap<Uuid, T>, number: usize) -> Option<(Uuid, &T)> {
    let count = all.len().max(1);
    all.iter().nth(number % count).map(|(id, one)| (*id, one))
}

async fn run(session: &Session, steps: &[Step]) {
    let mut model = Model::default();
    for called in ["A", "B", "C"] {
        model.accounts.insert(account(session, called).await, true);
    }
    for step in steps {
        apply(session, &mut model, step).await;
    }
    compare(session, &model).await;
}

async fn apply(session: &Session, model: &mut Model, step: &Step) {
    match *step {
        Step::Project => {
            let made = create(session, "project", json!({})).await;
            model.projects.insert(made, (true, None));
        }
        Step::Phase(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let made = try_create(session, "phase", json!({"of_project": project})).await;
            assert_eq!(made.is_ok(), *is_live);
            if let Ok(made) = made {
                let phase = Phase {
                    project,
                    is_live: true,
                    went_along: false,
                };
                model.phases.insert(made.id(), phase);
            }
        }
        Step::Customer(number, target) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let target = target.and_then(|number| pick(&model.accounts, number));
            let id = target.map(|(id, _)| id);
            let fits = *is_live && target.is_none_or(|(_, is_live)| *is_live);
            let written = set(session, "project", project, json!({"customer": id})).await;
            assert_eq!(written.is_ok(), fits, "{written:?}");
            if fits && let Some(entry) = model.projects.get_mut(&project) {
                entry.1 = id;
            }
        }
        Step::Link(number, target) => {
            let Some((project, (live, _))) = pick(&model.projects, number) else {
                return;
            };
            let Some((account, account_live)) = pick(&model.accounts, target) else {
                return;
            };
            let linked = session.links("involved").link(project, account).await;
            assert_eq!(linked.is_ok(), *live && *account_live);
        }
        Step::Unlink(number, target) => {
            let Some((project, _)) = pick(&model.projects, number) else {
                return;
            };
            let Some((account, _)) = pick(&model.accounts, target) else {
                return;
            };
            session
                .links("involved")
                .unlink(project, account)
                .await
                .unwrap();
        }
        Step::DeleteAccount(number) => {
            let Some((account, is_live)) = pick(&model.accounts, number) else {
                return;
            };
            assert_eq!(delete(session, "account", account).await.is_ok(), *is_live);
            model.accounts.insert(account, false);
            for (is_live, customer) in model.projects.values_mut() {
                if *is_live && *customer == Some(account) {
                    *customer = None;
                }
            }
        }
        Step::RestoreAccount(number) => {
            let Some((account, is_live)) = pick(&model.accounts, number) else {
                return;
            };
            let is_live = *is_live;
            // One that was merged away stays.
            if restore(session, "account", account).await.is_ok() {
                assert!(!is_live);
                model.accounts.insert(account, true);
            }
        }
        Step::DeleteProject(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let is_live = *is_live;
            assert_eq!(delete(session, "project", project).await.is_ok(), is_live);
            if let Some(entry) = model.projects.get_mut(&project) {
                entry.0 = false;
            }
            let phases = model.phases.values_mut();
            for phase in phases.filter(|phase| phase.project == project && phase.is_live) {
                (phase.is_live, phase.went_along) = (false, true);
            }
        }
        Step::RestoreProject(number) => {
            let Some((project, (is_live, customer))) = pick(&model.projects, number) else {
                return;
            };
            let there = customer.is_none_or(|id| model.accounts.get(&id) == Some(&true));
            let comes = !is_live && there;
            assert_eq!(restore(session, "project", project).await.is_ok(), comes);
            if comes {
                if let Some(entry) = model.projects.get_mut(&project) {
                    entry.0 = true;
                }
                let phases = model.phases.values_mut();
                for phase in phases.filter(|phase| phase.project == project && phase.went_along) {
                    (phase.is_live, phase.went_along) = (true, false);
                }
            }
        }
        Step::DeletePhase(number) => {
            let Some((id, phase)) = pick(&model.phases, number) else {
                return;
            };
            assert_eq!(delete(session, "phase", id).await.is_ok(), phase.is_live);
            if let Some(phase) = model.phases.get_mut(&id) {
                phase.is_live = false;
            }
        }
        Step::RestorePhase(number) => {
            let Some((id, phase)) = pick(&model.phases, number) else {
                return;
            };
            let whole = model.projects.get(&phase.project);
            let comes = !phase.is_live && whole.is_some_and(|(is_live, _)| *is_live);
            assert_eq!(restore(session, "phase", id).await.is_ok(), comes);
            if comes && let Some(phase) = model.phases.get_mut(&id) {
                phase.is_live = true;
            }
        }
        Step::PurgeProject(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let is_live = *is_live;
            let mut records = session.object("project").await.unwrap();
            assert_eq!(records.purge(project).await.is_ok(), !is_live);
            if !is_live {
                model.projects.remove(&project);
                model.phases.retain(|_, phase| phase.project != project);
            }
        }
        Step::Merge(survivor, loser) => {
            let Some((survivor, one)) = pick(&model.accounts, survivor) else {
                return;
            };
            let Some((loser, other)) = pick(&model.accounts, loser) else {
                return;
            };
            let fits = *one && *other && survivor != loser;
            let merged = session
                .accounts()
                .merge_into(Id::new(survivor), &[Id::new(loser)], &Choices::new(), None)
                .await;
            assert_eq!(merged.is_ok(), fits, "{merged:?}");
            if fits {
                model.accounts.insert(loser, false);
                for (_, customer) in model.projects.values_mut() {
                    if *customer == Some(loser) {
                        *customer = Some(survivor);
                    }
                }
            }
        }
    }
}

async fn compare(session: &Session, model: &Model) {
    let text = |row: &Row, field: &str| {
        let document = row.get("custom_fields").to_json();
        let id = document
            .get(field)
            .and_then(Json::as_str)
            .map(str::to_owned);
        id.map(|id| id.parse::<Uuid>().unwrap())
    };
    let mut references = BTreeSet::new();
    let mut keep = |object: &str, row: &Row, target: Option<Uuid>| {
        let reference =
            target.map(|target| (object.to_owned(), row.id(), target, row.is_deleted()));
        references.extend(reference);
    };
    let mut projects = BTreeMap::new();
    for row in rows_of(session, "project").await {
        let customer = text(&row, "customer");
        keep("project", &row, customer);
        projects.insert(row.id(), (!row.is_deleted(), customer));
    }
    assert_eq!(projects, model.projects);
    let mut phases = BTreeMap::new();
    for row in rows_of(session, "phase").await {
        let project = text(&row, "of_project");
        keep("phase", &row, project);
        phases.insert(row.id(), (project.unwrap(), !row.is_deleted()));
    }
    let expected = model
        .phases
        .iter()
        .map(|(id, phase)| (*id, (phase.project, phase.is_live)));
    assert_eq!(phases, expected.collect());
    // The rows by which records are found are those that follow from the records.
    let kept: BTreeSet<_> = rows_of(session, "custom_value")
        .await
        .iter()
        .map(|row| {
            let id = |field: &str| row.get(field).as_uuid().unwrap();
            let object = row.get("object").as_text().unwrap().to_owned();
            (object, id("record_id"), id("target_id"), row.is_deleted())
        })
        .collect();
    assert_eq!(kept, references);
    let fields = session.records::<CustomField>().find(Find::new()).await;
    for field in fields.unwrap().items {
        let rebuilt = session.custom_values().rebuild(field.id, None, &()).await;
        assert_eq!(rebuilt.unwrap().rows, 0);
    }
    let mut pairs = BTreeSet::new();
    for row in rows_of(session, "involved").await {
        let id = |field: &str| row.get(field).as_uuid().unwrap();
        let (from, to) = (id("from_id"), id("to_id"));
        if !row.is_deleted() {
            assert!(
                model.projects[&from].0 && model.accounts[&to],
                "a link leads nowhere"
            );
            assert!(pairs.insert((from, to)), "linked twice");
        }
    }
}

/// Whatever is written, deleted, restored, removed and merged: values lead to live records, parts
/// follow their wholes, and the rows by which they are found follow the records.
#[test]
fn relations_hold_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::sync::atomic::AtomicUsize::new(0);
    let config = ProptestConfig::with_cases(common::cases(24));
    proptest!(config, |(steps in steps())| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        runtime.block_on(async {
            let session = tenant(&crm, &format!("tenant{number}")).await.1;
            projects(&session).await;
            run(&session, &steps).await;
        });
    });
}
