//! What an erasure leaves, and to whom it applies.

use crm_engine::audit::{AuditKind, Erasure, is_erased};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::privacy::{
    Consent, ConsentEvidence, DeletionLog, DeletionMethod, DeletionReason, Grant, Withdrawal,
};
use serde_json::json;

use super::{ADDRESS, ada};
use crate::common::{assert_trail_tells, crm, rows_of, tenant};

/// R-056, C-081: the forms of what is left, an event and an entry without personal data; and others
/// keep what is theirs.
#[tokio::test]
async fn what_is_left_of_a_person() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let erasure = Erasure::new(DeletionReason::Objection).by("file 17");
    let report = session.privacy().erase(ada.contact, erasure).await.unwrap();
    assert!(report.is_complete, "{report:?}");
    assert_eq!(report.persons, [EntityRef::from(ada.contact)]);

    let left = session.contacts().get(ada.contact).await.unwrap();
    assert_eq!(left.name, PersonName::new("Erased", "Erased"));
    let placeholder = format!("erased-{}@erased.invalid", ada.contact);
    assert_eq!(left.email.as_ref().unwrap().as_str(), placeholder);
    assert_eq!(left.description.as_deref(), Some("[erased]"));
    assert!(left.phone.is_none() && left.job_title.is_none() && left.tags.is_empty());
    // Whoever is erased is never approached again.
    assert!(left.preferences.do_not_call && left.preferences.do_not_email);
    let call = session.activities().get(ada.call).await.unwrap();
    assert_eq!(
        (call.subject.as_str(), call.links.contact_id),
        ("[erased]", Some(ada.contact))
    );
    let deal = session.deals().get(ada.deal).await.unwrap();
    assert_eq!(
        (deal.name.as_str(), &deal.next_step),
        ("[erased]", &Some("[erased]".to_owned()))
    );
    assert_eq!(deal.amount, Some(100.into()));

    // The meeting is another's, and so is the other guest.
    let meeting = session.activities().get(ada.meeting).await.unwrap();
    assert_eq!(meeting.subject, "Plans of Charles");
    let guests = session
        .activities()
        .participants(ada.meeting)
        .await
        .unwrap();
    let names: Vec<_> = guests.iter().map(|guest| guest.name.as_deref()).collect();
    assert!(
        names.contains(&Some("Mary")) && !names.contains(&Some("Lady Ada")),
        "{names:?}"
    );

    let trail = session.audit().trail(ada.contact).await.unwrap();
    let told = trail.last().unwrap();
    assert_eq!(told.event, AuditKind::Erase);
    for event in &trail {
        let text = event.changes.to_json().to_string();
        assert!(
            !text.contains("Lovelace") && !text.contains("analytical"),
            "{text}"
        );
    }
    let created = trail[0].changes.field("last_name").unwrap();
    assert!(is_erased(created.new.as_ref().unwrap()));
    for object in ["contact", "activity", "deal", "consent", "comment"] {
        for row in rows_of(&session, object).await {
            assert_trail_tells(&session, &row).await;
        }
    }

    let log = session
        .records::<DeletionLog>()
        .find(Find::new())
        .await
        .unwrap()
        .items;
    assert_eq!(log.len(), 1);
    assert_eq!(
        (log[0].object.as_str(), log[0].record_id),
        ("contact", ada.contact.uuid())
    );
    assert_eq!(log[0].method, DeletionMethod::Anonymize);
    assert_eq!(log[0].reason, DeletionReason::Objection);
    assert_eq!(log[0].legal_reference.as_deref(), Some("file 17"));
    assert!(log[0].value_count > 10 && log[0].record_count > 4);
    assert_eq!(log[0].created.by, session.actor());

    // The record lives on, and its later changes are judged as ever.
    let edit = |contact: &mut Contact| contact.preferences.language = "de".parse().unwrap();
    session.contacts().update(ada.contact, edit).await.unwrap();

    // C-081: repeat is harmless.
    let before = rows_of(&session, "audit_event").await.len();
    let again = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await
        .unwrap();
    assert!(
        again.is_complete && again.values == 0 && again.events == 0,
        "{again:?}"
    );
    assert_eq!(rows_of(&session, "audit_event").await.len(), before);
    assert_eq!(rows_of(&session, "deletion_log").await.len(), 1);
}

/// C-064: a consent is carried through conversion and merge, and outlives its person as proof of what
/// was allowed, on which basis and when, without who.
#[tokio::test]
async fn consents_outlive_the_person() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let purpose = "marketing_email".parse().unwrap();
    let lead = Lead {
        name: Some(PersonName::new("Ada", "Lovelace")),
        email: Some(EmailAddress::parse(ADDRESS).unwrap()),
        ..Lead::default()
    };
    let lead = session.leads().create(lead).await.unwrap().id;
    let evidence = ConsentEvidence {
        source: Some("Ada's letter".into()),
        text_version: Some("for Ada".into()),
        ip_address: Some("203.0.113.7".into()),
        user_agent: Some("Ada's loom".into()),
        details: json!({"who": "Ada"}),
    };
    let given = session
        .consents()
        .grant(lead, Grant::new(purpose, evidence))
        .await
        .unwrap();
    let converted = session
        .leads()
        .convert(lead, ConversionPlan::new())
        .await
        .unwrap();
    let survivor = session
        .contacts()
        .create(Contact::named("A.", "Lovelace"))
        .await
        .unwrap();
    session
        .contacts()
        .merge_into(
            survivor.id,
            &[converted.contact],
            &Choices::new(),
            Some("Ada twice"),
        )
        .await
        .unwrap();
    let purpose = "marketing_email".parse().unwrap();
    assert!(
        session
            .consents()
            .has_consent(survivor.id, &purpose)
            .await
            .unwrap()
    );
    let phone = "marketing_phone".parse().unwrap();
    let grant = Grant::new(phone, ConsentEvidence::default());
    session.consents().grant(survivor.id, grant).await.unwrap();
    let phone = "marketing_phone".parse().unwrap();
    let how = Withdrawal {
        method: Some("Ada wrote".into()),
        at: None,
    };
    session
        .consents()
        .withdraw(survivor.id, &phone, how)
        .await
        .unwrap();

    // By whichever of the person's records: the lead, the contact that it became, the survivor.
    let report = session
        .privacy()
        .erase(lead, Erasure::default())
        .await
        .unwrap();
    let expected = [lead.into(), converted.contact.into(), survivor.id.into()];
    for person in &expected {
        assert!(report.persons.contains(person), "{person:?}");
    }
    assert!(
        session
            .consents()
            .has_consent(survivor.id, &purpose)
            .await
            .unwrap()
    );
    assert!(
        !session
            .consents()
            .has_consent(survivor.id, &phone)
            .await
            .unwrap()
    );
    let proof = session.consents().get(given.id).await.unwrap();
    assert_eq!(proof.evidence, ConsentEvidence::default());
    assert_eq!(
        (proof.lawful_basis, proof.granted_at),
        (given.lawful_basis, given.granted_at)
    );
    let rows = rows_of(&session, Consent::schema().name()).await;
    assert_eq!(rows.len(), 2);
    let withdrawn = rows
        .iter()
        .find(|row| !row.get("withdrawn_at").is_null())
        .unwrap();
    assert!(withdrawn.get("withdrawal_method").is_null());
    for object in session.engine().registry().objects().keys() {
        for row in rows_of(&session, object).await {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            assert!(
                !text.contains("Lovelace") && !text.contains("Ada"),
                "{object}: {text}"
            );
        }
    }
}

/// Whoever was deleted, or removed for good, is erased too: links that the deletion cut are found in
/// the trail.
#[tokio::test]
async fn deleted_and_purged_persons_are_erased() {
    for is_purged in [false, true] {
        let crm = crm();
        let (acme, session) = tenant(&crm, "acme").await;
        let ada = ada(&session, acme.pipeline).await;
        let comment = session
            .comments()
            .write(ada.call, "Ada hums")
            .await
            .unwrap()
            .id;
        session.comments().delete(comment).await.unwrap();
        session.comments().purge(comment).await.unwrap();
        session.contacts().delete(ada.contact).await.unwrap();
        if is_purged {
            session.contacts().purge(ada.contact).await.unwrap();
        }
        let report = session
            .privacy()
            .erase(ada.contact, Erasure::default())
            .await
            .unwrap();
        assert!(report.is_complete && report.events > 0, "{report:?}");
        for object in session.engine().registry().objects().keys() {
            for row in rows_of(&session, object).await {
                let text = serde_json::to_string(&row.to_json()).unwrap();
                let is_left = ["Ada", ADDRESS, "442079460018"]
                    .iter()
                    .any(|one| text.contains(one));
                assert!(!is_left, "{object}, purged: {is_purged}: {text}");
            }
        }
        assert_eq!(rows_of(&session, "deletion_log").await.len(), 1);
    }
}

/// What a law demands to keep stays, history and all; who may be the same person is told.
#[tokio::test]
async fn what_is_retained_and_who_else_it_may_be() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let twin = Lead {
        email: Some(EmailAddress::parse(ADDRESS).unwrap()),
        company: Some("Analytical".into()),
        ..Lead::default()
    };
    let twin = session.leads().create(twin).await.unwrap().id;
    let erasure = Erasure::default().retaining("deal");
    let report = session.privacy().erase(ada.contact, erasure).await.unwrap();
    assert_eq!(report.retained, [EntityRef::from(ada.deal)]);
    assert_eq!(report.perhaps, [EntityRef::from(twin)]);
    let deal = session.deals().get(ada.deal).await.unwrap();
    assert_eq!(deal.name, "Engine for Ada");
    let trail = session.audit().trail(ada.deal).await.unwrap();
    assert!(!is_erased(
        trail[0]
            .changes
            .field("name")
            .unwrap()
            .new
            .as_ref()
            .unwrap()
    ));
    let twin = session.leads().get(twin).await.unwrap();
    assert_eq!(twin.email.as_ref().unwrap().as_str(), ADDRESS);
}

/// Only persons are erased, and only those of the tenant.
#[tokio::test]
async fn who_can_be_erased() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let (_, other) = tenant(&crm, "globex").await;
    let privacy = other.privacy();
    let foreign = privacy
        .erase(ada.contact, Erasure::default())
        .await
        .unwrap_err();
    let ghost = Id::<Contact>::new(uuid::Uuid::from_u128(7));
    let unknown = privacy.erase(ghost, Erasure::default()).await.unwrap_err();
    assert_eq!((foreign.code(), unknown.code()), ("not_found", "not_found"));
    assert_eq!(
        privacy.access_export(ada.contact).await.unwrap_err().code(),
        "not_found"
    );
    assert_eq!(
        privacy.held_about(ada.contact).await.unwrap_err().code(),
        "not_found"
    );
    let refused = session
        .privacy()
        .erase(ada.deal, Erasure::default())
        .await
        .unwrap_err();
    assert_eq!(refused.field_errors()[0].code, "not_a_person");
    let untouched = session.contacts().get(ada.contact).await.unwrap();
    assert_eq!(untouched.email.as_ref().unwrap().as_str(), ADDRESS);
}

/// Nobody's writing meanwhile is lost on the erasure: what is there when it ends tells of nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_do_not_outrun_an_erasure() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let session = session.clone();
            tokio::spawn(async move {
                for number in 0..8 {
                    let said = format!("Ada said {writer}.{number}");
                    let title = said.clone();
                    let set = |contact: &mut Contact| contact.job_title = Some(title.clone());
                    session.contacts().update(ada.contact, set).await.unwrap();
                    session.comments().write(ada.contact, &said).await.unwrap();
                    let set = |deal: &mut Deal| deal.next_step = Some(said.clone());
                    session.deals().update(ada.deal, set).await.unwrap();
                }
            })
        })
        .collect();
    let meanwhile = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await;
    assert!(meanwhile.unwrap().values > 0);
    for writer in writers {
        writer.await.unwrap();
    }
    // What was written behind its back is found by the next.
    let report = session
        .privacy()
        .erase(ada.contact, Erasure::default())
        .await
        .unwrap();
    assert!(report.is_complete, "{report:?}");
    for object in session.engine().registry().objects().keys() {
        for row in rows_of(&session, object).await {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            assert!(!text.contains("Ada"), "{object}: {text}");
        }
    }
    for object in ["contact", "deal", "comment"] {
        for row in rows_of(&session, object).await {
            assert_trail_tells(&session, &row).await;
        }
    }
}
