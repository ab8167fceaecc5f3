//! Erased values, the archive, and the seals that outlive both.

use std::sync::Arc;

use crm_engine::audit::seal::SealProblem;
use crm_engine::audit::{Erasure, Verification, is_erased, redact};
use crm_engine::prelude::*;
use crm_engine::schema::Value;

use super::World;

async fn redact_all(world: &World, id: Id<Contact>, field: &str) {
    let mut work = world.session.begin();
    for event in world.session.audit().trail(id).await.unwrap() {
        redact(&mut work, &event, |name| name.starts_with(field)).unwrap();
    }
    work.commit().await.unwrap();
}

#[tokio::test]
async fn an_erasure_leaves_the_seals_and_nothing_of_the_values() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.contact("Byron").await;
    world.seal().await;
    let all = world.verify().await.intact;
    for field in [
        "job_title",
        "last_name",
        "custom_fields.motto",
        "custom_fields",
    ] {
        redact_all(&world, id, field).await;
        let report = world.verify().await;
        assert!(report.is_intact(), "{field}: {report:?}");
        assert_eq!((report.erased, report.intact), (2, all - 2));
    }
    let trail = world.session.audit().trail(id).await.unwrap();
    for event in &trail {
        let text = event.changes.to_json().to_string();
        for secret in ["Lovelace", "job of", "motto of", "2.5", "engineer"] {
            assert!(!text.contains(secret), "{secret} is left in {text}");
        }
        assert_eq!(
            (&event.ip, &event.user_agent, &event.session_id, event.salt),
            (&None, &None, &None, None)
        );
        assert_eq!(event.endpoint.as_deref(), Some("POST /contacts"));
    }
    let title = trail[1].changes.field("job_title").unwrap();
    assert!(is_erased(title.old.as_ref().unwrap()) && is_erased(title.new.as_ref().unwrap()));
    assert_eq!(
        trail[0].changes.field("first_name").unwrap().new,
        Some(Value::from("Ada"))
    );
    // Again it changes nothing, and nobody comes back as somebody else.
    let versions = |trail: &[Arc<Record<AuditEvent>>]| -> Vec<i64> {
        trail.iter().map(|e| e.version).collect()
    };
    redact_all(&world, id, "job_title").await;
    assert_eq!(
        versions(&world.session.audit().trail(id).await.unwrap()),
        versions(&trail)
    );

    // Two at once do not lose what one of them erased.
    let id = world.contact("Babbage").await;
    let event = world.session.audit().trail(id).await.unwrap().remove(0);
    let (mut one, mut two) = (world.session.begin(), world.session.begin());
    redact(&mut one, &event, |name| name == "job_title").unwrap();
    redact(&mut two, &event, |name| name == "last_name").unwrap();
    one.commit().await.unwrap();
    assert!(matches!(
        two.commit().await,
        Err(crm_engine::Error::Conflict { .. })
    ));
}

#[tokio::test]
async fn the_archive_is_read_sealed_and_redacted_like_the_log() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.seal().await;
    world.clock.advance(chrono::TimeDelta::days(40));
    let change = |contact: &mut Contact| contact.job_title = Some("countess".into());
    world.session.contacts().update(id, change).await.unwrap();
    world.seal().await;
    let audit = world.session.audit();
    let before = audit.trail(id).await.unwrap();
    let all = world.events().await;
    let january = all
        .iter()
        .filter(|event| {
            event.created.at
                < "2026-02-01T00:00:00Z"
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap()
        })
        .count() as u64;
    let page = audit.trail_page(id, 2, None).await.unwrap();

    assert_eq!(world.archive().await, january);
    assert_eq!(world.archive().await, 0, "nothing more");
    let told = |events: &[Arc<Record<AuditEvent>>]| -> Vec<String> {
        let told = events.iter().map(|event| {
            (
                event.id,
                event.created,
                event.record_version,
                event.changes.fields().join(" "),
            )
        });
        told.map(|told| format!("{told:?}")).collect()
    };
    let after = audit.trail(id).await.unwrap();
    assert_eq!(told(&after), told(&before));
    assert_eq!(
        after
            .iter()
            .filter(|event| event.archived_at.is_some())
            .count(),
        2
    );
    assert_eq!(told(&world.events().await), told(&all));
    // A page that was begun before goes on behind it.
    let rest = audit.trail_page(id, 2, page.next).await.unwrap();
    assert_eq!(rest.items.len(), 1);
    assert_eq!(rest.items[0].record_version, 1);
    let first = audit.version(id, 1).await.unwrap().unwrap();
    assert_eq!(first.record.job_title.as_deref(), Some("job of Lovelace"));
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!(report.intact, all.len() as u64);

    redact_all(&world, id, "job_title").await;
    let report = world.verify().await;
    assert!(report.is_intact() && report.erased == 3, "{report:?}");
    assert!(is_erased(
        audit.trail(id).await.unwrap()[0]
            .changes
            .field("job_title")
            .unwrap()
            .new
            .as_ref()
            .unwrap()
    ));
    redact_all(&world, id, "last_name").await;
    assert!(world.verify().await.is_intact());

    assert_eq!(world.drop_archive().await, january);
    assert_eq!(world.drop_archive().await, 0);
    assert_eq!(audit.trail(id).await.unwrap().len(), 1);
    let report = world.verify().await;
    assert_eq!(report.found, january);
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.problem == SealProblem::Removed)
    );
    assert!(
        audit
            .verify(Verification::new().seals(2, 2))
            .await
            .unwrap()
            .is_intact()
    );
}

/// the erasure of a person reaches the log and the archive, and the seals over both still hold.
#[tokio::test]
async fn a_person_is_erased_from_sealed_and_archived_events() {
    let world = World::new().await;
    let id = world.contact("Lovelace").await;
    world.seal().await;
    world.clock.advance(chrono::TimeDelta::days(40));
    let change = |contact: &mut Contact| contact.job_title = Some("countess of Lovelace".into());
    world.session.contacts().update(id, change).await.unwrap();
    world.seal().await;
    let sealed = world.verify().await.intact;
    assert!(world.archive().await > 0);
    let privacy = world.session.privacy();
    privacy.erase(id, Erasure::default()).await.unwrap();
    for event in world.events().await {
        let text = event.changes.to_json().to_string();
        assert!(!text.contains("Lovelace"), "{text}");
    }
    let report = world.verify().await;
    assert!(report.is_intact(), "{report:?}");
    assert_eq!((report.erased, report.intact), (3, sealed - 3));
}
