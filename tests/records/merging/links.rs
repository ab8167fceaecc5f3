//! Links that lead to records of any object, as merges and deletions meet them.

use crm_engine::merging::Choices;
use crm_engine::prelude::*;

use super::{Relation, Remark, account, acme, assert_same, crm, remark, rows, state, tenant};

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
