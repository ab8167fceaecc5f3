//! What cannot be merged, and what merges exclude.

use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{Remark, account, acme, assert_same, crm, merge, remark, state, tenant};

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
