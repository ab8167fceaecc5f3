//! References and links through merges, conversions, and the removal of their object.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomObject, CustomObjectsExt, LinksExt, RelationshipKind,
    RemovalOfObject,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    account, create, delete, filter, found, is_live, name, object, projects, relate, relation,
    restore, set, value,
};
use crate::common::{crm, tenant};

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

/// links that were deleted with their record, and lead to the same since, come back as one.
#[tokio::test]
async fn links_to_what_became_one_come_back_once() {
    let crm = crm();
    let session = tenant(&crm, "acme").await.1;
    projects(&session).await;
    let globex = account(&session, "Globex").await;
    let double = account(&session, "Globex Inc").await;
    let project = create(&session, "project", json!({})).await;
    let links = session.links("involved");
    links.link(project, globex).await.unwrap();
    links.link(project, double).await.unwrap();
    delete(&session, "project", project).await.unwrap();
    session
        .accounts()
        .merge_into(Id::new(globex), &[Id::new(double)], &Choices::new(), None)
        .await
        .unwrap();
    restore(&session, "project", project).await.unwrap();
    let from = links.from(project, &Find::new()).await.unwrap().items;
    assert_eq!(from.len(), 1);
    assert_eq!(links.to(globex, &Find::new()).await.unwrap().items.len(), 1);
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
