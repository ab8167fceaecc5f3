//! Links of many to many, in both directions.

use std::collections::BTreeSet;

use crm_engine::custom_objects::{
    CustomRelationship, LinksExt, RelationshipKind, linked_from, linked_to,
};
use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{
    NOBODY, account, create, delete, faults, filter, found, name, object, projects, relate,
    relation, restore, set, try_create,
};
use crate::common::{crm, rows_of, tenant};

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
