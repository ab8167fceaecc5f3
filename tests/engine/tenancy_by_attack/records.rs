//! Records: by their ids, references, cursors, conditions, and with their types.

use crm_engine::activities::ActivityRollUp;
use crm_engine::imports::{ImportJob, ImportMapping, ImportRow};
use crm_engine::merging::{Merge, MergeLink};
use crm_engine::prelude::*;
use crm_engine::schema::Lifecycle;
use crm_engine::scoring::LeadScoringRuleSet;
use crm_engine::tenancy::TenantConfiguration;
use serde_json::{Map, json};
use uuid::Uuid;

use super::{GHOST, OPERATIONS, Scene, operate, told};
use crate::common;
use crate::common::{body_like, picture, rows_of};

/// every operation by name, on every object, on a session and in a unit of work.
#[tokio::test]
async fn an_id_of_another_tenant_is_an_id_that_never_existed() {
    let scene = Scene::new().await;
    let before = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    let session = &scene.attacker.session;
    for (name, ids) in scene.targets().await {
        for operation in OPERATIONS {
            let mut records = session.object(&name).await.unwrap();
            let ghost = operate(&mut records, operation, GHOST).await;
            for id in &ids {
                let foreign = operate(&mut records, operation, *id).await;
                assert_eq!(foreign, ghost, "{operation} of a {name}");

                let mut work = session.begin();
                work.accounts()
                    .create(Account::new("Not committed"))
                    .await
                    .unwrap();
                let mut records = work.object(&name).await.unwrap();
                let foreign = operate(&mut records, operation, *id).await;
                assert_eq!(foreign, ghost, "{operation} of a {name} in a unit of work");
            }
        }
    }
    let after = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    assert!(before == after, "an attack left a trace");
}

/// a record of another tenant is no target of a reference, in no object and no field.
#[tokio::test]
async fn no_reference_leads_into_another_tenant() {
    let scene = Scene::new().await;
    let before = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    let targets = scene.targets().await;
    let session = &scene.attacker.session;
    let mut tried = 0;
    for object in common::writable_objects(session) {
        if object.name() == "tenant" {
            continue;
        }
        let own = rows_of(session, object.name()).await.pop().unwrap();
        for field in object.own_fields().iter().filter(|field| !field.read_only) {
            let Some((target, _)) = field.reference() else {
                continue;
            };
            let id = targets[target][0];
            let place = format!("{}.{}", object.name(), field.name);
            let mut outcomes = Vec::new();
            for id in [id, GHOST] {
                let mut body = body_like(&own);
                body.insert(field.name.to_string(), json!(id));
                let patch: Map<_, _> = [(field.name.to_string(), json!(id))].into_iter().collect();
                let mut records = session.object(object.name()).await.unwrap();
                outcomes.push([
                    told(records.create(&body).await, id),
                    told(records.merge(own.id(), own.version(), &patch).await, id),
                ]);
            }
            assert_eq!(outcomes[0], outcomes[1], "{place}");
            assert!(
                outcomes[0][0].contains("(not_found)"),
                "{place}: {}",
                outcomes[0][0]
            );
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} references were tried");
    let after = (
        picture(&scene.victim.session).await,
        picture(&scene.attacker.session).await,
    );
    assert!(before == after, "an attack left a trace");
}

/// a cursor carries no authority: it is a place among one's own records.
#[tokio::test]
async fn a_cursor_of_another_tenant_leads_to_ones_own_records() {
    let scene = Scene::new().await;
    for name in scene.victim.session.engine().registry().objects().keys() {
        let everything = Find::<()>::new().with_archived().with_deleted();
        let victim = scene.victim.session.object(name).await.unwrap();
        let Some(cursor) = victim
            .find(&everything.clone().limit(1))
            .await
            .unwrap()
            .next
        else {
            continue;
        };
        let place = rows_of(&scene.victim.session, name).await[0].id();
        let own: Vec<_> = rows_of(&scene.attacker.session, name)
            .await
            .iter()
            .map(|row| row.id())
            .collect();
        let attacker = scene.attacker.session.object(name).await.unwrap();
        let ids = |page: Page<crm_engine::schema::Row>| -> Vec<Uuid> {
            page.items.iter().map(|row| row.id()).collect()
        };
        let all = everything.limit(1_000);
        let behind = ids(attacker
            .find(&all.clone().after(cursor.clone()))
            .await
            .unwrap());
        let in_front = ids(attacker.find(&all.before(cursor)).await.unwrap());
        let (wanted_behind, wanted_in_front): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|id| *id > place);
        assert_eq!(behind, wanted_behind, "{name}");
        assert_eq!(in_front, wanted_in_front, "{name}");
    }
}

/// counts, sums and filters through relations see nothing of another tenant.
#[tokio::test]
async fn no_aggregate_and_no_relation_reaches_another_tenant() {
    let scene = Scene::new().await;
    let session = &scene.attacker.session;
    for name in session.engine().registry().objects().keys() {
        let own = rows_of(session, name).await.len();
        let count: Aggregate<()> = Aggregate::new().with_archived().with_deleted().count();
        let groups = session
            .object(name)
            .await
            .unwrap()
            .aggregate(&count)
            .await
            .unwrap();
        assert_eq!(groups[0].count(0), own as u64, "{name}");
    }
    for id in [scene.victim.account, Id::new(GHOST)] {
        let at = Deal::ACCOUNT_ID.has(Account::ID.eq(id));
        assert_eq!(session.deals().count(at).await.unwrap(), 0);
        let not_at = Deal::ACCOUNT_ID.has(Account::ID.eq(id)).negate();
        assert_eq!(session.deals().count(not_at).await.unwrap(), 2);
        for in_tree in [Deal::ACCOUNT_ID.within(id), Deal::ACCOUNT_ID.path_to(id)] {
            assert_eq!(session.deals().count(in_tree.clone()).await.unwrap(), 0);
            assert_eq!(session.deals().count(in_tree.negate()).await.unwrap(), 2);
        }
    }
}

/// The typed operations of every object.
async fn attack_records<E: Entity>(session: &Session, ids: &[Uuid]) {
    for id in ids {
        let mut outcomes = Vec::new();
        for id in [*id, GHOST] {
            let typed = Id::<E>::new(id);
            let mut records = session.records::<E>();
            outcomes.push(vec![
                told(records.get(typed).await, id),
                told(records.get_all(&[typed]).await, id),
                told(records.update(typed, |_| {}).await, id),
                told(records.update_version(typed, 1, |_| {}).await, id),
                told(records.merge(typed, 1, &Map::new()).await, id),
                told(records.archive(typed).await, id),
                told(records.unarchive(typed).await, id),
                told(records.delete(typed).await, id),
                told(records.restore(typed).await, id),
                told(records.purge(typed).await, id),
                told(session.audit().trail(typed).await, id),
                told(session.audit().trail_page(typed, 10, None).await, id),
                told(
                    session
                        .audit()
                        .version(typed, 1)
                        .await
                        .map(|version| version.is_some()),
                    id,
                ),
                told(
                    session
                        .audit()
                        .as_of(typed, chrono::DateTime::<chrono::Utc>::MAX_UTC)
                        .await
                        .map(|version| version.is_some()),
                    id,
                ),
                told(session.audit().versions(typed, 10, None).await, id),
                told(session.audit().diff(typed, 1, 1).await, id),
                told(
                    session.audit().field_history(typed, "id", 10, None).await,
                    id,
                ),
                told(session.audit().restore_version(typed, 1).await, id),
                told(session.audit().restore_field(typed, "id", 1).await, id),
            ]);
        }
        assert_eq!(outcomes[0], outcomes[1], "{}", E::schema().name());
    }
}

/// the typed operations that every object has.
#[tokio::test]
async fn typed_operations_find_nothing_of_another_tenant() {
    let scene = Scene::new().await;
    let before = picture(&scene.victim.session).await;
    let session = &scene.attacker.session;
    let mut targets = scene.targets().await;
    macro_rules! attack {
        ($($entity:ty),* $(,)?) => {$(
            let name = <$entity as Entity>::schema().name();
            attack_records::<$entity>(session, &targets.remove(name).unwrap()).await;
        )*};
    }
    attack!(
        Tenant,
        TenantConfiguration,
        User,
        Team,
        TeamMember,
        Territory,
        Account,
        Contact,
        crm_engine::contacts::ContactRelationship,
        crm_engine::contacts::ContactAffiliation,
        Lead,
        crm_engine::leads::LeadConversion,
        crm_engine::leads::LeadConversionMapping,
        crm_engine::leads::assignment::LeadAssignmentRule,
        crm_engine::leads::assignment::LeadAssignee,
        crm_engine::leads::assignment::LeadAssignmentState,
        crm_engine::campaigns::Campaign,
        crm_engine::campaigns::CampaignMember,
        LeadScoringRuleSet,
        crm_engine::scoring::LeadScoringRule,
        crm_engine::scoring::LeadScoreChange,
        crm_engine::privacy::Consent,
        crm_engine::privacy::DeletionLog,
        crm_engine::storage::DroppedEntries,
        crm_engine::privacy::RetentionPolicy,
        crm_engine::privacy::LegalHold,
        crm_engine::privacy::ProcessingActivity,
        crm_engine::audit::AuthEvent,
        crm_engine::audit::ApiCall,
        Pipeline,
        PipelineStage,
        crm_engine::currencies::ExchangeRate,
        Product,
        crm_engine::products::ProductPrice,
        Deal,
        DealStageChange,
        DealLine,
        DealState,
        crm_engine::pipelines::analytics::PipelineMetric,
        crm_engine::forecasts::DealForecast,
        crm_engine::forecasts::ForecastAdjustment,
        Quota,
        StageApproval,
        crm_engine::deals::DealContact,
        crm_engine::deals::DealCompetitor,
        crm_engine::deals::CloseReason,
        crm_engine::automation::AutomationRule,
        crm_engine::automation::AutomationExecution,
        Activity,
        Comment,
        Mention,
        Follower,
        crm_engine::activities::ActivitySeries,
        ActivityParticipant,
        ActivityTemplate,
        ActivityReminder,
        ActivityRollUp,
        AuditEvent,
        crm_engine::audit::AuditSeal,
        Merge,
        MergeLink,
        crm_engine::exports::ExportJob,
        ImportMapping,
        ImportJob,
        ImportRow,
        DuplicateRule,
        crm_engine::duplicates::DuplicateKey,
        common::Property,
        crm_engine::custom_objects::CustomObject,
        crm_engine::custom_objects::CustomField,
        crm_engine::custom_objects::CustomFieldOption,
        crm_engine::custom_objects::CustomRelationship,
        crm_engine::custom_objects::CustomFieldRule,
        crm_engine::custom_objects::CustomSchema,
        crm_engine::custom_objects::CustomValue,
        crm_engine::custom_objects::CustomText,
        crm_engine::custom_objects::CustomFieldUsage,
        crm_engine::audit::FeedConsumer,
        WebhookSubscription,
        crm_engine::audit::webhook::WebhookDelivery,
        crm_engine::audit::encryption::DataKey,
    );
    assert!(targets.is_empty(), "not attacked: {:?}", targets.keys());
    assert!(
        before == picture(&scene.victim.session).await,
        "an attack left a trace"
    );
}

/// values that are unique in one tenant are free in another.
#[tokio::test]
async fn a_unique_value_of_another_tenant_is_free() {
    let scene = Scene::new().await;
    let taken = EmailAddress::parse("hank@victim.example").unwrap();
    let contact = Contact {
        email: Some(taken),
        ..Contact::named("Hank", "Twin")
    };
    scene
        .attacker
        .session
        .contacts()
        .create(contact)
        .await
        .unwrap();
}

/// C-057: entries of a log are written by the engine alone, whoever asks.
#[tokio::test]
async fn logs_are_written_by_nobody() {
    let scene = Scene::new().await;
    let session = &scene.attacker.session;
    let before = picture(session).await;
    for object in session.engine().registry().objects().values() {
        if object.lifecycle() != Lifecycle::Log {
            continue;
        }
        let row = rows_of(session, object.name()).await.pop();
        let Some(row) = row else {
            // Nothing is archived here, and nobody but the owner of the database does it.
            let event = rows_of(session, "audit_event").await.pop().unwrap();
            let mut archive = session.object(object.name()).await.unwrap();
            let refused = archive.create(&body_like(&event)).await.unwrap_err();
            assert_eq!(refused.code(), "forbidden");
            continue;
        };
        let mut records = session.object(object.name()).await.unwrap();
        let id = row.id();
        let codes = [
            records.create(&body_like(&row)).await.unwrap_err().code(),
            records.archive(id).await.unwrap_err().code(),
            records.delete(id).await.unwrap_err().code(),
            records.purge(id).await.unwrap_err().code(),
        ];
        assert_eq!(codes, ["forbidden"; 4], "{}", object.name());
    }
    assert!(before == picture(session).await);
}
