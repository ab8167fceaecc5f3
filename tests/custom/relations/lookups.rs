//! Lookups and parts: where they lead, what a deletion makes of them, and their fields.

use std::collections::BTreeSet;

use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldType, CustomRelationship, LinksExt, RelationshipKind,
};
use crm_engine::prelude::*;
use crm_engine::storage::ChangeSet;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    NOBODY, account, create, delete, faults, filter, found, is_live, name, object, projects,
    relate, relation, restore, set, try_create, value,
};
use crate::common::storage::{Beside, Watched};
use crate::common::{crm, rows_of, tenant};

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

/// A lookup that is written behind all that the deletion of its record read, and before that is
/// committed: the deletion looks again, and empties it.
#[tokio::test]
async fn a_lookup_is_written_right_before_the_deletion_of_its_record() {
    let storage = Watched::new(Beside::default());
    let crm = Crm::builder(storage.clone()).build();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let globex = account(&session, "Globex").await;
    let project = create(&session, "project", json!({})).await;
    let other = session.clone();
    storage.watch.before(deletes_an_account, async move {
        let led = set(&other, "project", project, json!({"customer": globex})).await;
        led.unwrap();
    });
    delete(&session, "account", globex).await.unwrap();
    assert!(storage.watch.was_met());
    assert_eq!(
        value(&session, "project", project, "customer").await,
        Json::Null
    );
    assert!(!is_live(&session, "account", globex).await);
}

fn deletes_an_account(changes: &ChangeSet) -> bool {
    let mut changes = changes.changes.iter();
    changes.any(|change| {
        let is_deleted = change.after().is_some_and(|row| row.is_deleted());
        change.object().name() == "account" && is_deleted
    })
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
