//! Services: each operation of each, with the ids of another tenant.

use std::collections::BTreeMap;

use chrono::DateTime;
use crm_engine::audit::Erasure;
use crm_engine::audit::webhook::WebhookDelivery;
use crm_engine::custom_objects::{CustomField, CustomFieldOption, CustomFieldsExt};
use crm_engine::engine::UsageCount;
use crm_engine::imports::{ImportJob, ImportLease};
use crm_engine::prelude::*;
use crm_engine::value::ApiName;

use super::activities::attack_activities;
use super::deals::{attack_deals, attack_forecasts, attack_people_of_deals, attack_pipelines};
use super::leads::{attack_conversions, attack_leads_and_campaigns, attack_scores};
use super::{GHOST, Scene};
use crate::common;
use crate::common::{picture, populate, rows_of};

/// The feed, its consumers and webhooks.
async fn attack_feeds(scene: &Scene) {
    let (session, victim) = (&scene.attacker.session, &scene.victim.session);
    let deliveries = victim.records::<WebhookDelivery>();
    let delivery = deliveries.find_one(Find::new()).await.unwrap().unwrap();
    let before = victim
        .audit()
        .feed("crm.webhooks")
        .position()
        .await
        .unwrap();
    // By the name of the victim's consumer one's own events come.
    let feed = session.audit().feed("stolen");
    while let Some(batch) = feed.next(1_000).await.unwrap() {
        let ids = batch.events.iter().map(|event| event.event.id);
        let ids: Vec<_> = ids.collect();
        assert_eq!(
            victim.records::<AuditEvent>().get_all(&ids).await.unwrap(),
            []
        );
        feed.acknowledge(batch.until).await.unwrap();
    }
    feed.forget().await.unwrap();
    let webhooks = session.webhooks();
    same!("replay", delivery.id, |id| webhooks.replay(id).await);
    let dead = webhooks
        .dead_letters(delivery.subscription_id, 10, None)
        .await
        .unwrap();
    assert_eq!(dead.items, []);
    let later = delivery.queued_at + chrono::TimeDelta::days(1);
    assert_eq!(webhooks.forget_delivered(later, 1_000).await.unwrap(), 0);
    assert_eq!(
        victim
            .audit()
            .feed("crm.webhooks")
            .position()
            .await
            .unwrap(),
        before
    );
}

#[tokio::test]
async fn services_find_nothing_of_another_tenant() {
    let scene = Scene::new().await;
    let before = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    Box::pin(attack_imports(&scene)).await;
    Box::pin(attack_feeds(&scene)).await;
    Box::pin(attack_deals(&scene)).await;
    Box::pin(attack_people_of_deals(&scene)).await;
    Box::pin(attack_conversions(&scene)).await;
    Box::pin(attack_leads_and_campaigns(&scene)).await;
    Box::pin(attack_scores(&scene)).await;
    Box::pin(attack_pipelines(&scene)).await;
    Box::pin(attack_forecasts(&scene)).await;
    Box::pin(attack_activities(&scene)).await;
    Box::pin(attack_custom_fields(&scene)).await;
    Box::pin(attack_privacy(&scene)).await;
    let after = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    assert!(before == after, "an attack left a trace");
}

async fn attack_custom_fields(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let fields = own.session.custom_fields();
    let first = async |session: &Session, object: &str| rows_of(session, object).await[0].id();
    let field: Id<CustomField> = Id::new(first(&victim.session, "custom_field").await);
    let option: Id<CustomFieldOption> =
        Id::new(first(&victim.session, "custom_field_option").await);
    let own_field: Id<CustomField> = Id::new(first(&own.session, "custom_field").await);
    let name = || ApiName::parse("stolen").unwrap();
    same!("check", field, |id| fields.check_change(id, |_| {}).await);
    same!("rename", field, |id| fields.rename(id, name()).await);
    same!("reorder", field, |id| fields.reorder_options(id, &[]).await);
    same!("reorder by", option, |id| fields
        .reorder_options(own_field, &[id])
        .await);
    same!("impact", field, |id| fields.impact(id).await);
    same!("delete", field, |id| fields.delete(id).await);
    same!("delete used", field, |id| fields
        .delete_though_used(id)
        .await);
    same!("restore", field, |id| fields.restore(id).await);
    same!("purge", field, |id| fields.purge(id, &()).await);
    // Uses are counted and recorded in the tenant of the session, whatever they name.
    drop(own.session.take_field_usage());
    own.session.give_back_field_usage(BTreeMap::from([(
        field.uuid(),
        UsageCount {
            written: 1,
            queried: 1,
            last_used_at: DateTime::UNIX_EPOCH,
        },
    )]));
    assert_eq!(fields.record_usage().await.unwrap(), 0);
    assert!(victim.session.take_field_usage().is_empty());
    let names_of = async |object: &str| {
        let usage = fields.usage(object).await.unwrap();
        usage.into_iter().map(|one| one.field).collect::<Vec<_>>()
    };
    for object in victim.session.registry().await.unwrap().objects().keys() {
        if own.session.describe(object).await.is_ok() {
            assert!(!names_of(object).await.contains(&field), "{object}");
        }
    }
}

/// nobody reads of, or erases, a person of another tenant.
async fn attack_privacy(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let privacy = own.session.privacy();
    same!("held", victim.contact, |id| privacy.held_about(id).await);
    same!("access", victim.lead, |id| privacy.access_export(id).await);
    same!("erase", victim.contact, |id| privacy
        .erase(id, Erasure::default())
        .await);
    same!("erase a lead", victim.converted_lead, |id| privacy
        .erase(id, Erasure::default().retaining("deal"))
        .await);
}

async fn attack_imports(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let job = rows_of(&victim.session, "import_job").await;
    let job: Id<ImportJob> = Id::new(job[0].id());
    let lease = ImportLease {
        worker: GHOST,
        take_over: true,
    };
    same!("claim", job, |id| session
        .records::<ImportJob>()
        .claim(id, lease)
        .await);
    same!("cancel", job, |id| session
        .records::<ImportJob>()
        .cancel(id)
        .await);
    same!("revert", job, |id| session
        .records::<ImportJob>()
        .revert(id, &())
        .await);
}

/// C-059, C-060, C-082, C-105: policies of another tenant are not run, and figures tell of one's own.
#[tokio::test]
async fn no_policy_and_no_stream_of_another_tenant_is_reached() {
    use crm_engine::audit::{LoginKey, LoginSource, Window};
    use crm_engine::privacy::{DeletionMethod, RetentionPolicy};

    let crm = common::crm();
    let victim = populate(&crm, "victim").await.session;
    let (_, session) = common::tenant(&crm, "stranger").await;
    let before = picture(&victim).await;
    let theirs = rows_of(&victim, "retention_policy").await[0].id();
    for id in [theirs, GHOST] {
        let id = Id::<RetentionPolicy>::new(id);
        assert_eq!(
            session.retention().dry_run(id).await.unwrap_err().code(),
            "not_found"
        );
        assert_eq!(
            session.retention().run(id, &()).await.unwrap_err().code(),
            "not_found"
        );
    }
    for (object, basis) in [("api_call", "occurred_at"), ("auth_event", "occurred_at")] {
        let all = RetentionPolicy {
            basis_field: basis.into(),
            ..RetentionPolicy::new(object, object, DeletionMethod::HardDelete, 1)
        };
        let all = session.retention_policies().create(all).await.unwrap();
        assert_eq!(session.retention().run(all.id, &()).await.unwrap().done, 0);
    }
    let first = chrono::DateTime::UNIX_EPOCH;
    let ever = Window::new(first, first + chrono::TimeDelta::days(100_000));
    let failures = session
        .security()
        .failed_logins(LoginSource::Login, ever, 10)
        .await
        .unwrap();
    assert!(failures.is_empty());
    let tried = LoginKey::Login("hank@example.com".into());
    assert_eq!(
        session.security().count_failed(&tried, ever).await.unwrap(),
        0
    );
    assert!(
        session
            .security()
            .events(None, ever, 10, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert!(
        session
            .api_calls()
            .by_endpoint(ever)
            .await
            .unwrap()
            .is_empty()
    );
    let report = session.privacy().gdpr_report(ever).await.unwrap();
    assert!(report.activities.is_empty() && report.consents.is_empty() && report.gone.is_empty());
    assert_eq!(report.persons[0].live + report.persons[0].deleted, 0);
    assert!(before == picture(&victim).await, "an attack left a trace");
}
