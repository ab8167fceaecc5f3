//! What strict rules refuse.

use crm_engine::prelude::*;

use super::{by_phone, contact, create, ids, like, rule, session};

/// A strict rule refuses a new record, a change and a restoration, and nothing else.
#[tokio::test]
async fn a_strict_rule_refuses_duplicates() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    let number = Some("+49 30 901820");
    let ada = create(&session, "Ada", "Lovelace", number).await;
    let error = session
        .contacts()
        .create(contact("Countess", "L.", number))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    let Error::DuplicateFound(found) = &error else {
        panic!("{error}")
    };
    assert_eq!(ids(&found.matches), [ada.uuid()]);
    assert!(!error.to_string().contains("901820") && !error.is_retryable());

    let other = create(&session, "Grace", "Hopper", None).await;
    let change = |contact: &mut Contact| contact.mobile = Some("+4930901820".parse().unwrap());
    let error = session.contacts().update(other, change).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    // What the rule does not look at may change, on either record.
    for id in [ada, other] {
        let change = |contact: &mut Contact| contact.job_title = Some("Analyst".into());
        session.contacts().update(id, change).await.unwrap();
    }
    // An archived record is still one; a deleted one is not.
    session.contacts().archive(ada).await.unwrap();
    assert!(
        session
            .contacts()
            .create(contact("A", "B", number))
            .await
            .is_err()
    );
    session.contacts().delete(ada).await.unwrap();
    let second = create(&session, "Countess", "L.", number).await;
    let error = session.contacts().restore(ada).await.unwrap_err();
    assert_eq!(error.code(), "duplicate_found");
    let change = |contact: &mut Contact| contact.phone = None;
    session.contacts().update(second, change).await.unwrap();
    session.contacts().restore(ada).await.unwrap();
    assert_eq!(like(&session, number).await, [ada.uuid()]);
}

/// Two new records of one unit of work; numbers that change hands within one.
#[tokio::test]
async fn a_unit_of_work_is_one_for_strict_rules() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    let (one, other) = (Some("+49 30 901820"), Some("+49 30 901821"));
    let mut work = session.begin();
    work.contacts()
        .create(contact("Ada", "Lovelace", one))
        .await
        .unwrap();
    work.contacts()
        .create(contact("Countess", "L.", one))
        .await
        .unwrap();
    assert_eq!(work.commit().await.unwrap_err().code(), "duplicate_found");
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 0);

    let mut work = session.begin();
    let ada = work
        .contacts()
        .create(contact("Ada", "Lovelace", one))
        .await
        .unwrap()
        .id;
    let grace = work
        .contacts()
        .create(contact("Grace", "Hopper", other))
        .await
        .unwrap()
        .id;
    work.commit().await.unwrap();
    let set = |number: Option<&str>| {
        let number: Option<PhoneNumber> = number.map(|number| number.parse().unwrap());
        move |contact: &mut Contact| contact.phone.clone_from(&number)
    };
    let mut work = session.begin();
    work.contacts().update(ada, set(other)).await.unwrap();
    work.contacts().update(grace, set(one)).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(like(&session, one).await, [grace.uuid()]);

    // Deleted and taken over in one commit.
    let mut work = session.begin();
    work.contacts().delete(grace).await.unwrap();
    let heir = work
        .contacts()
        .create(contact("Heir", "H.", one))
        .await
        .unwrap()
        .id;
    work.commit().await.unwrap();
    assert_eq!(like(&session, one).await, [heir.uuid()]);
    // Purged for good.
    session.contacts().delete(heir).await.unwrap();
    session.contacts().purge(heir).await.unwrap();
    assert!(like(&session, one).await.is_empty());
}

/// Of sessions that create the same at the same moment, one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sessions_that_race_one_creates_the_record() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Strict, by_phone()).await;
    for round in 0..5 {
        let number = format!("+49 30 90182{round}");
        let runs = (0..4).map(|place| {
            let (session, number) = (session.clone(), number.clone());
            tokio::spawn(async move {
                let new = contact(&format!("Ada {place}"), "Lovelace", Some(&number));
                session.contacts().create(new).await
            })
        });
        let mut created = 0;
        for run in runs.collect::<Vec<_>>() {
            match run.await.unwrap() {
                Ok(_) => created += 1,
                Err(error) => assert_eq!(error.code(), "duplicate_found", "{error}"),
            }
        }
        assert_eq!(created, 1);
    }
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 5);
}
