//! A session of one tenant tries everything with the ids of another tenant, and gets exactly what
//! it gets for ids that never existed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::common::{Populated, body_like, picture, populate, rows_of};
use chrono::{DateTime, NaiveDate};
use crm_engine::activities::ActivityRollUp;
use crm_engine::audit::Erasure;
use crm_engine::audit::webhook::WebhookDelivery;
use crm_engine::automation::AutomationRule;
use crm_engine::campaigns::CampaignStatus;
use crm_engine::contacts::BuyingRole;
use crm_engine::custom_objects::{
    CustomField, CustomFieldOption, CustomFieldType, CustomFieldsExt, CustomObject, TextLimits,
};
use crm_engine::deals::{CloseOutcome, CloseReason, CompetitorStatus, DealCompetitor};
use crm_engine::engine::{NamedRecords, UsageCount};
use crm_engine::forecasts::{AdjustmentKind, ForecastAdjustment};
use crm_engine::hierarchy::RollUp;
use crm_engine::imports::{ImportJob, ImportLease, ImportMapping, ImportRow};
use crm_engine::leads::{ConversionPlan, Qualification};
use crm_engine::merging::{Choices, Merge, MergeLink};
use crm_engine::pipelines::analytics::PipelineView;
use crm_engine::pipelines::{ApprovalPolicy, ProbabilityCalculation};
use crm_engine::prelude::*;
use crm_engine::query::{Criteria, Filter};
use crm_engine::schema::Lifecycle;
use crm_engine::scoring::LeadScoringRuleSet;
use crm_engine::tenancy::TenantConfiguration;
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// An id that no record ever had.
const GHOST: Uuid = Uuid::from_u128(0x0193_2c07_209c_7a4b_8000_0000_dead_beef);

/// What a caller is told, without the id that it asked for.
fn told<T: Debug>(outcome: Result<T>, id: Uuid) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{} | {error} | {error:?}", error.code()),
    }
    .replace(&id.to_string(), "ID")
}

/// Two tenants with a record of every object, of which the second attacks the first.
struct Scene {
    victim: Populated,
    attacker: Populated,
}

impl Scene {
    async fn new() -> Self {
        let crm = common::crm();
        let victim = populate(&crm, "victim").await;
        let attacker = populate(&crm, "attacker").await;
        Self { victim, attacker }
    }

    /// The ids of every record of the victim, by object; every object has some.
    async fn targets(&self) -> BTreeMap<String, Vec<Uuid>> {
        let mut targets = BTreeMap::new();
        for name in self.victim.session.engine().registry().objects().keys() {
            if name == crm_engine::audit::archived_events().name() {
                // Only the owner of the database moves events there; `seals` looks at it.
                continue;
            }
            let ids: Vec<_> = rows_of(&self.victim.session, name)
                .await
                .iter()
                .map(|row| row.id())
                .collect();
            assert!(
                !ids.is_empty(),
                "no {name} to attack: add one to the populated tenant"
            );
            targets.insert(name.clone(), ids);
        }
        targets
    }
}

const OPERATIONS: [&str; 12] = [
    "get",
    "find by id",
    "find with everything",
    "aggregate",
    "merge",
    "merge nothing",
    "merge another version",
    "archive",
    "unarchive",
    "delete",
    "restore",
    "purge",
];

/// One operation by name, and what it tells.
async fn operate(records: &mut NamedRecords<'_>, operation: &str, id: Uuid) -> String {
    let field = records
        .schema()
        .own_fields()
        .iter()
        .find(|field| !field.read_only);
    let patch: Map<String, Json> = field
        .map(|field| (field.name.to_string(), json!("Taken over")))
        .into_iter()
        .collect();
    let by_id = Filter::eq("id", id);
    let json = |row: crm_engine::schema::Row| row.to_json();
    match operation {
        "get" => told(records.get(id).await.map(json), id),
        "find by id" => {
            let page = records.find(&Find::new().filter_by_name(by_id)).await;
            told(page.map(|page| page.map(json)), id)
        }
        "find with everything" => {
            let find = Find::new()
                .filter_by_name(by_id)
                .with_archived()
                .with_deleted();
            told(records.find(&find).await.map(|page| page.map(json)), id)
        }
        "aggregate" => {
            let count = Aggregate::new()
                .filter_by_name(by_id)
                .with_deleted()
                .count();
            told(records.aggregate(&count).await, id)
        }
        "merge" => told(records.merge(id, 1, &patch).await.map(json), id),
        "merge nothing" => told(records.merge(id, 1, &Map::new()).await.map(json), id),
        "merge another version" => told(records.merge(id, 99, &patch).await.map(json), id),
        "archive" => told(records.archive(id).await.map(json), id),
        "unarchive" => told(records.unarchive(id).await.map(json), id),
        "delete" => told(records.delete(id).await, id),
        "restore" => told(records.restore(id).await.map(json), id),
        "purge" => told(records.purge(id).await, id),
        other => panic!("no operation is called {other}"),
    }
}

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

/// What is told of a record of another tenant is what is told of one that never existed.
macro_rules! same {
    ($what:literal, $foreign:expr, |$id:ident| $call:expr) => {{
        let foreign = {
            let $id = $foreign;
            told($call, $foreign.uuid())
        };
        let ghost = {
            #[allow(unused_assignments, reason = "gives the ghost the type of the id")]
            let mut $id = $foreign;
            $id = Id::new(GHOST);
            told($call, GHOST)
        };
        assert_eq!(foreign, ghost, $what);
    }};
}

/// the operations that single objects have.
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

async fn attack_deals(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let own_stage = own.onboarded.stages[1];
    let (deal, stage) = (victim.deal, victim.onboarded.stages[0]);
    same!("move_to", deal, |id| session
        .deals()
        .move_to(id, own_stage)
        .await);
    same!("move_to a stage", stage, |id| session
        .deals()
        .move_to(own.deal, id)
        .await);
    same!("move_with_note", deal, |id| session
        .deals()
        .move_with_note(id, own_stage, "mine")
        .await);
    same!("win", deal, |id| session.deals().win(id).await);
    same!("lose", deal, |id| session.deals().lose(id, "mine").await);
    same!("reopen", victim.won_deal, |id| session
        .deals()
        .reopen(id, None)
        .await);
    same!("reopen in a stage", stage, |id| session
        .deals()
        .reopen(own.won_deal, Some(id))
        .await);
    same!("history", deal, |id| session.deals().history(id).await);
    same!("lock_rate", victim.won_deal, |id| session
        .deals()
        .lock_rate(id)
        .await);
    same!("add_line", deal, |id| session
        .deals()
        .add_line(DealLine::of_product(id, own.product))
        .await);
    let product = victim.product;
    same!("add_line of a product", product, |id| session
        .deals()
        .add_line(DealLine::of_product(own.deal, id))
        .await);
    same!("update_line", victim.line, |id| session
        .deals()
        .update_line(id, |line| line.quantity = 9.into())
        .await);
    same!("update_line to a deal", deal, |id| session
        .deals()
        .update_line(own.line, |line| line.deal_id = id)
        .await);
    same!("remove_line", victim.line, |id| session
        .deals()
        .remove_line(id)
        .await);
    same!("lines", deal, |id| session.deals().lines(id).await);
    same!("reorder_lines", deal, |id| session
        .deals()
        .reorder_lines(id, &[own.line])
        .await);
    same!("reorder_lines with a line", victim.line, |id| session
        .deals()
        .reorder_lines(own.deal, &[id])
        .await);
    same!("copy_lines", deal, |id| session
        .deals()
        .copy_lines(id, own.deal)
        .await);
    same!("copy_lines to", deal, |id| session
        .deals()
        .copy_lines(own.deal, id)
        .await);
    let price = Money::new(1.into(), Currency::EUR);
    same!("set_price", product, |id| session
        .products()
        .set_price(id, price)
        .await);
    same!("price_in", product, |id| session
        .products()
        .price_in(id, Currency::EUR)
        .await);
    same!("prices", product, |id| session.products().prices(id).await);
    let today = session.engine().clock().now().date_naive();
    same!("total", deal, |id| session
        .deals()
        .total(Deal::ID.eq(id))
        .await);
    same!("total_in", deal, |id| session
        .deals()
        .total_in(Deal::ID.eq(id), Currency::EUR, today)
        .await);
    same!("check_move", deal, |id| session
        .deals()
        .check_move(id, own_stage)
        .await);
    same!("check_move to a stage", stage, |id| session
        .deals()
        .check_move(own.deal, id)
        .await);
    same!("allowed_stages", deal, |id| session
        .deals()
        .allowed_stages(id)
        .await);
    same!("stage_times", deal, |id| session
        .deals()
        .stage_times(id)
        .await);
    same!("is_rotting", deal, |id| session
        .deals()
        .is_rotting(id)
        .await);
    same!("request_approval", deal, |id| session
        .deals()
        .request_approval(id, own_stage, None)
        .await);
    same!("request_approval for a stage", stage, |id| session
        .deals()
        .request_approval(own.deal, id, None)
        .await);
    same!("approvals", deal, |id| session.deals().approvals(id).await);
    same!("approve", victim.approval, |id| session
        .stage_approvals()
        .approve(id, None)
        .await);
    same!("reject", victim.approval, |id| session
        .stage_approvals()
        .reject(id, None)
        .await);
}

async fn attack_people_of_deals(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let (contact, champion) = (victim.contact, Some(BuyingRole::Champion));
    same!("win_because", deal, |id| session
        .deals()
        .win_because(id, "Best product")
        .await);
    same!("add_contact to", deal, |id| session
        .deals()
        .add_contact(id, own.contact, champion)
        .await);
    same!("add_contact", contact, |id| session
        .deals()
        .add_contact(own.won_deal, id, champion)
        .await);
    same!("remove_contact from", deal, |id| session
        .deals()
        .remove_contact(id, own.contact)
        .await);
    same!("remove_contact", contact, |id| session
        .deals()
        .remove_contact(own.deal, id)
        .await);
    same!("set_contact_role", deal, |id| session
        .deals()
        .set_contact_role(id, own.contact, None)
        .await);
    same!("set_primary_contact", deal, |id| session
        .deals()
        .set_primary_contact(id, Some(own.contact))
        .await);
    same!("set_primary_contact to", contact, |id| session
        .deals()
        .set_primary_contact(own.won_deal, Some(id))
        .await);
    same!("contacts_of", deal, |id| session
        .deals()
        .contacts_of(id)
        .await);
    same!("deals_with", contact, |id| session
        .deals()
        .deals_with(id, Find::new())
        .await);
    same!("add_competitor", deal, |id| session
        .deals()
        .add_competitor(DealCompetitor::new(id, "Mine"))
        .await);
    same!("add_competitor of", victim.account, |id| session
        .deals()
        .add_competitor(DealCompetitor::account(own.won_deal, id))
        .await);
    same!("competitors_of", deal, |id| session
        .deals()
        .competitors_of(id)
        .await);
    let rival = rows_of(&victim.session, "deal_competitor").await;
    let rival: Id<DealCompetitor> = Id::new(rival[0].id());
    same!("remove_competitor", rival, |id| session
        .deals()
        .remove_competitor(id)
        .await);
    same!("set_competitor_status", rival, |id| session
        .deals()
        .set_competitor_status(id, CompetitorStatus::Chosen)
        .await);
    let reason = rows_of(&victim.session, "close_reason").await;
    let reason: Id<CloseReason> = Id::new(reason[0].id());
    same!("reorder", reason, |id| session
        .close_reasons()
        .reorder(CloseOutcome::Lost, &[id])
        .await);
}

async fn attack_conversions(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let contact = victim.contact;
    let lead = victim.lead;
    let plan = ConversionPlan::new();
    same!("convert", lead, |id| session
        .leads()
        .convert(id, plan.clone())
        .await);
    same!("convert into a contact", contact, |id| session
        .leads()
        .convert(own.lead, plan.clone().into_contact(id))
        .await);
    same!("convert into an account", victim.account, |id| session
        .leads()
        .convert(
            own.lead,
            plan.clone().into_contact(own.contact).into_account(id)
        )
        .await);
    same!("candidates", lead, |id| session
        .leads()
        .candidates(id)
        .await);
    same!("undo_conversion", victim.converted_lead, |id| session
        .leads()
        .undo_conversion(id)
        .await);

    same!("test a rule", victim.rule, |id| session
        .automation()
        .test(id, own.deal)
        .await
        .map(|trial| trial.fits));
    same!("test with a deal", deal, |id| session
        .automation()
        .test(own.rule, id)
        .await
        .map(|trial| trial.fits));
    same!("counts", victim.rule, |id| session
        .automation()
        .counts(&[id])
        .await
        .map(|counts| counts[&id].executed));
    let run = session.automation().run_time_based(&()).await.unwrap();
    assert_eq!(run.due, 0);

    same!("set_parent", victim.account, |id| session
        .accounts()
        .set_parent(id, None)
        .await);
    same!("set_parent to", victim.account, |id| {
        session.accounts().set_parent(own.account, Some(id)).await
    });
    same!("ancestors", victim.account, |id| session
        .accounts()
        .ancestors(id)
        .await);
    same!("path", victim.account, |id| session
        .accounts()
        .path(id)
        .await);
    same!("subtree", victim.account, |id| session
        .accounts()
        .subtree(id)
        .await);
    same!("descendants", victim.account, |id| session
        .accounts()
        .descendants(id, Find::new())
        .await);
    same!("roll_up", victim.account, |id| session
        .accounts()
        .roll_up(id, &RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT))
        .await);
    same!("assign", victim.account, |id| session
        .territories()
        .assign(id, own.territory)
        .await);
    same!("assign to", victim.territory, |id| session
        .territories()
        .assign(own.account, id)
        .await);
    same!("release", victim.account, |id| session
        .territories()
        .release(id)
        .await);
    same!("matching", victim.account, |id| session
        .territories()
        .matching(id)
        .await);
    same!("set_parent of a territory", victim.territory, |id| session
        .territories()
        .set_parent(id, None)
        .await);
    same!("set_parent to a territory", victim.territory, |id| {
        session
            .territories()
            .set_parent(own.territory, Some(id))
            .await
    });
}

async fn attack_leads_and_campaigns(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    same!("set_status of a lead", victim.lead, |id| session
        .leads()
        .set_status(id, LeadStatus::Contacted)
        .await);
    same!("set_qualification", victim.lead, |id| session
        .leads()
        .set_qualification(id, Qualification::SalesQualified)
        .await);
    same!("qualify", victim.lead, |id| session
        .leads()
        .qualify(id, Qualification::SalesQualified)
        .await);
    same!("disqualify", victim.lead, |id| session
        .leads()
        .disqualify(id, "mine")
        .await);
    same!("lose a lead", victim.lead, |id| session
        .leads()
        .lose(id, "mine")
        .await);
    same!("reopen a lead", victim.lead, |id| session
        .leads()
        .reopen(id)
        .await);
    same!("assign a lead", victim.lead, |id| session
        .leads()
        .assign(id)
        .await);
    same!("add_assignee to", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .add_assignee(id, own.user)
        .await);
    same!("add_assignee of a user", victim.user, |id| session
        .lead_assignment_rules()
        .add_assignee(own.assignment_rule, id)
        .await);
    same!("remove_assignee from", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .remove_assignee(id, own.user)
        .await);
    same!("remove_assignee of a user", victim.user, |id| session
        .lead_assignment_rules()
        .remove_assignee(own.assignment_rule, id)
        .await);
    same!("assignees", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .assignees(id)
        .await);
    same!("set_status of a campaign", victim.campaign, |id| session
        .campaigns()
        .set_status(id, CampaignStatus::Active)
        .await);
    same!("add_member to a campaign", victim.campaign, |id| session
        .campaigns()
        .add_member(id, own.contact)
        .await);
    same!("add_member of a lead", victim.lead, |id| session
        .campaigns()
        .add_member(own.campaign, id)
        .await);
    same!("add_member of a contact", victim.contact, |id| session
        .campaigns()
        .add_member(own.campaign, id)
        .await);
    same!("remove_member from a campaign", victim.campaign, |id| {
        session.campaigns().remove_member(id, own.lead).await
    });
    same!("remove_member of a lead", victim.lead, |id| session
        .campaigns()
        .remove_member(own.campaign, id)
        .await);
    same!("respond", victim.campaign, |id| session
        .campaigns()
        .respond(id, own.lead)
        .await);
    same!("respond of a lead", victim.lead, |id| session
        .campaigns()
        .respond(own.campaign, id)
        .await);
    same!("add_members", victim.campaign, |id| session
        .campaigns()
        .add_members::<Lead>(id, Filter::all(), &())
        .await);
    same!("attribution", victim.campaign, |id| session
        .campaigns()
        .attribution(id)
        .await);
    same!("attributions", victim.campaign, |id| session
        .campaigns()
        .attributions(&[id])
        .await);
    // Batches over a tenant's own leads touch no other tenant's.
    assert_eq!(session.leads().count_stale().await.unwrap(), 0);
    assert_eq!(
        session.leads().archive_stale(&()).await.unwrap().archived,
        0
    );
    assert_eq!(
        session.leads().assign_unowned(&()).await.unwrap().checked,
        0
    );
    let by_utm = session.leads().attribution_by_utm(Filter::all()).await;
    assert!(by_utm.unwrap().is_empty());
}

async fn attack_scores(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let lead = victim.lead;
    same!("rescore", lead, |id| session.leads().rescore(id).await);
    same!("adjust", lead, |id| session
        .leads()
        .adjust(id, 5, "mine")
        .await);
    same!("score_history", lead, |id| session
        .leads()
        .score_history(id)
        .await);
    same!("explain", lead, |id| session.leads().explain(id).await);
    let sets = rows_of(&victim.session, "lead_scoring_rule_set").await;
    let set: Id<LeadScoringRuleSet> = Id::new(sets[0].id());
    same!("rules", set, |id| session
        .scoring_rule_sets()
        .rules(id)
        .await);
    same!("copy", set, |id| session
        .scoring_rule_sets()
        .copy(id, "Mine")
        .await);
    same!("publish", set, |id| session
        .scoring_rule_sets()
        .publish(id)
        .await);
    same!("retire", set, |id| session
        .scoring_rule_sets()
        .retire(id)
        .await);
    same!("simulate", set, |id| session
        .scoring_rule_sets()
        .simulate(id, Filter::all(), 10, &())
        .await);
}

async fn attack_pipelines(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let own_stage = own.onboarded.stages[1];
    let mut swapped = own.onboarded.stages.clone();
    let stage = victim.onboarded.stages[0];
    let pipeline = victim.onboarded.pipeline;
    same!("set_default", pipeline, |id| session
        .pipelines()
        .set_default(id)
        .await);
    let view = PipelineView::of;
    let (from, until) = (
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap(),
        NaiveDate::from_ymd_opt(2027, 1, 1).unwrap(),
    );
    same!("report", pipeline, |id| session
        .pipelines()
        .report(&view(id), from, until)
        .await);
    same!("cohorts", pipeline, |id| session
        .pipelines()
        .cohorts(&view(id), from, 12)
        .await);
    same!("stage summary", pipeline, |id| session
        .pipelines()
        .stage_summary(&view(id))
        .await);
    let deal = victim.deal;
    same!("states", deal, |id| session.deals().states(id).await);
    same!("state at", deal, |id| session
        .deals()
        .state_at(id, "2100-01-01T00:00:00Z".parse().unwrap())
        .await);
    let foreign = PipelineView {
        owner: Some(victim.user),
        team: Some(victim.team),
        deals: Some(Deal::ID.eq(victim.deal).into_filter()),
        ..PipelineView::of(own.onboarded.pipeline)
    };
    assert_eq!(
        session.pipelines().stage_summary(&foreign).await.unwrap(),
        []
    );
    same!("stages", pipeline, |id| session
        .pipelines()
        .stages(id)
        .await);
    same!("add_stage", pipeline, |id| {
        session
            .pipelines()
            .add_stage(PipelineStage::new(id, "Mine", 1_u32))
            .await
    });
    same!("reorder_stages", pipeline, |id| session
        .pipelines()
        .reorder_stages(id, &swapped)
        .await);
    same!("update_stage", stage, |id| session
        .pipelines()
        .update_stage(id, |stage| {
            stage.name = "Mine".into();
        })
        .await);
    same!("update_stage with a next one", stage, |id| session
        .pipelines()
        .update_stage(own_stage, |stage| {
            stage.allowed_next_stages = [id].into();
        })
        .await);
    same!("update_stage with an approver", victim.user, |id| session
        .pipelines()
        .update_stage(own_stage, |stage| {
            stage.approval = Some(ApprovalPolicy::by_users([id]));
        })
        .await);
    same!("set_probability_mode", pipeline, |id| session
        .pipelines()
        .set_probability_mode(id, ProbabilityCalculation::Automatic, &())
        .await);
    same!("refresh_probabilities", pipeline, |id| session
        .pipelines()
        .refresh_probabilities(id, &())
        .await);
    same!("delete_stage", stage, |id| session
        .pipelines()
        .delete_stage(id, None)
        .await);
    same!("delete_stage to", stage, |id| session
        .pipelines()
        .delete_stage(own_stage, Some(id))
        .await);
    let mut outcomes = Vec::new();
    for id in [stage.uuid(), GHOST] {
        swapped[0] = Id::new(id);
        let order = session
            .pipelines()
            .reorder_stages(own.onboarded.pipeline, &swapped)
            .await;
        outcomes.push(told(order, id));
    }
    assert_eq!(outcomes[0], outcomes[1], "reorder_stages with a stage");
}

async fn attack_forecasts(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let stage = victim.onboarded.stages[0];
    let forecasts = || session.forecasts();
    let month = forecasts().named_period("2100-02").await.unwrap();
    let all = ForecastQuery::of(month);
    let at = session.engine().clock().now();
    macro_rules! forecast {
        ($field:ident, $foreign:expr) => {
            same!("forecast", $foreign, |id| {
                let query = ForecastQuery {
                    $field: Some(id),
                    ..all.clone()
                };
                Ok((
                    forecasts().forecast(&query).await,
                    forecasts().adjusted(&query).await,
                    forecasts().by_owner(&query).await,
                    forecasts().by_team(&query).await,
                    forecasts().by_territory(&query).await,
                    forecasts().by_pipeline(&query).await,
                    forecasts().trend(&month, &query).await,
                    forecasts().as_of(&query, at).await,
                    forecasts().compare(&query, at, 9, &()).await,
                ))
            });
        };
    }
    forecast!(owner, victim.user);
    forecast!(team, victim.team);
    forecast!(territory, victim.territory);
    forecast!(pipeline, victim.onboarded.pipeline);
    macro_rules! subject {
        ($subject:path, $foreign:expr) => {
            same!("attainment", $foreign, |id| forecasts()
                .attainment($subject(id), &month, None)
                .await);
            same!("set_quota", $foreign, |id| {
                let quota = Quota::of($subject(id), &month, "5 EUR".parse().unwrap());
                forecasts().set_quota(quota).await
            });
            same!("adjust", $foreign, |id| {
                let adjustment = ForecastAdjustment {
                    subject: $subject(id),
                    ..ForecastAdjustment::new(
                        month.kind(),
                        month.start(),
                        ForecastCategory::Commit,
                        AdjustmentKind::Manager,
                        Currency::EUR,
                        1,
                        "mine",
                    )
                };
                forecasts().adjust(adjustment).await
            });
        };
    }
    subject!(ForecastSubject::user, victim.user);
    subject!(ForecastSubject::team, victim.team);
    subject!(ForecastSubject::territory, victim.territory);
    same!("record", deal, |id| forecasts()
        .record(id, PeriodKind::Month, 50, None)
        .await);
    same!("categorize_stage", stage, |id| forecasts()
        .categorize_stage(id, Some(ForecastCategory::Commit), &())
        .await);

    same!("add_member", victim.team, |id| {
        session
            .teams()
            .add_member(id, own.user, TeamRole::Admin)
            .await
    });
    same!("add_member of a user", victim.user, |id| {
        session
            .teams()
            .add_member(own.team, id, TeamRole::Admin)
            .await
    });
    same!("remove_member", victim.team, |id| session
        .teams()
        .remove_member(id, own.user)
        .await);
    same!("remove_member of a user", victim.user, |id| {
        session.teams().remove_member(own.team, id).await
    });
    same!("members", victim.team, |id| session
        .teams()
        .members(id)
        .await);

    same!("start", victim.activity, |id| session
        .activities()
        .start(id)
        .await);
    same!("complete", victim.activity, |id| session
        .activities()
        .complete(id, Some("mine"))
        .await);
    same!("cancel", victim.activity, |id| session
        .activities()
        .cancel(id)
        .await);
    same!("mark_no_show", victim.activity, |id| session
        .activities()
        .mark_no_show(id)
        .await);
    same!("defer", victim.activity, |id| session
        .activities()
        .defer(id)
        .await);

    same!("reopen", victim.activity, |id| session
        .activities()
        .reopen(id)
        .await);
}

async fn attack_activities(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let follow_up = Activity::new(ActivityType::Task, "x", own.deal, own.user);
    same!("complete_with_follow_up", victim.activity, |id| session
        .activities()
        .complete_with_follow_up(id, None, follow_up.clone())
        .await);
    same!("follow_ups", victim.activity, |id| session
        .activities()
        .follow_ups(id)
        .await);
    same!("invite to", victim.activity, |id| session
        .activities()
        .invite(id, own.user, None)
        .await);
    same!("invite a user", victim.user, |id| session
        .activities()
        .invite(own.activity, id, None)
        .await);
    same!("invite a contact", victim.contact, |id| session
        .activities()
        .invite(own.activity, id, None)
        .await);
    same!("respond", victim.participant, |id| session
        .activities()
        .respond(id, ResponseStatus::Accepted)
        .await);
    same!("attend", victim.participant, |id| session
        .activities()
        .attend(id, AttendanceStatus::Attending)
        .await);
    same!("remove_participant", victim.participant, |id| session
        .activities()
        .remove_participant(id)
        .await);
    same!("participants", victim.activity, |id| session
        .activities()
        .participants(id)
        .await);
    let variables = Map::new();
    same!("from_template", victim.template, |id| session
        .activities()
        .from_template(id, own.deal, &variables)
        .await);
    same!("from_template with a deal", victim.deal, |id| session
        .activities()
        .from_template(own.template, id, &variables)
        .await);
    same!("list", victim.user, |id| session
        .activities()
        .list(id, ActivityList::Today, 10, None)
        .await);
    same!("list_counts", victim.user, |id| session
        .activities()
        .list_counts(id, 7)
        .await
        .map(|counts| counts.today));
    same!("recompute", victim.account, |id| session
        .activities()
        .recompute(id)
        .await);
    let foreign = victim
        .session
        .reminders()
        .get(victim.reminder)
        .await
        .unwrap();
    let error = session.reminders().mark_sent(&foreign).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
    let error = session
        .reminders()
        .mark_failed(&foreign, "x")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");

    same!("by_actor", victim.user, |id| session
        .audit()
        .by_actor(Actor::User(id), 10, None)
        .await);
    let admin = victim.onboarded.admin;
    same!("by_actor", admin, |id| session
        .audit()
        .by_actor(Actor::User(id), 10, None)
        .await);
    let event = victim
        .session
        .audit()
        .trail(victim.deal)
        .await
        .unwrap()
        .remove(0);
    for id in [event.commit_id, GHOST] {
        assert!(session.audit().of_commit(id).await.unwrap().is_empty());
    }
    let tried = async |id: Uuid| {
        let audit = session.audit();
        [
            told(audit.undo_commit(id).await, id),
            told(audit.undo_what_is_untouched(id).await, id),
        ]
    };
    assert_eq!(tried(event.commit_id).await, tried(GHOST).await);
    let window = chrono::DateTime::UNIX_EPOCH..event.created.at + chrono::TimeDelta::days(1);
    same!("activity_summary", victim.user, |id| session
        .audit()
        .activity_summary(Actor::User(id), window.clone())
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

/// A viewing of a tenant, and who came to it: records of an object and of a relationship that both
/// tenants defined with the same names.
async fn viewing(who: &Populated) -> [Uuid; 2] {
    let session = &who.session;
    let body = json!({"name": "First floor", "custom_fields": {"outcome": "liked"}});
    let mut viewings = session.object("viewing").await.unwrap();
    let viewing = viewings
        .create(body.as_object().unwrap())
        .await
        .unwrap()
        .id();
    let body = json!({"from_id": viewing, "to_id": who.contact});
    let mut visitors = session.object("viewing_visitors").await.unwrap();
    let visitor = visitors.create(body.as_object().unwrap()).await.unwrap();
    [viewing, visitor.id()]
}

/// C-036: what two tenants define under one name has nothing to do with each other.
#[tokio::test]
async fn records_of_another_tenants_objects_never_existed() {
    let scene = Scene::new().await;
    let theirs = viewing(&scene.victim).await;
    let own = viewing(&scene.attacker).await;
    let names = ["viewing", "viewing_visitors"];
    let secret = CustomObject::new(ApiName::parse("secret").unwrap(), "Secret", "Secrets");
    let of_victim = scene.victim.session.records::<CustomObject>();
    { of_victim }.create(secret).await.unwrap();
    let about = |id| EntityRef::new("viewing", id);
    let (session, victim) = (&scene.attacker.session, &scene.victim.session);
    let of_theirs = about(theirs[0]);
    victim
        .comments()
        .write(of_theirs.clone(), "Kept")
        .await
        .unwrap();
    let task = |id, owner| Activity::new(ActivityType::Task, "Ask", about(id), owner);
    let known = task(theirs[0], scene.victim.user);
    victim.activities().create(known).await.unwrap();
    let described = victim.describe("viewing").await.unwrap();
    let before = (
        picture(victim).await,
        picture(session).await,
        rows_of(victim, names[0]).await,
        rows_of(victim, names[1]).await,
    );

    for (name, id) in names.into_iter().zip(theirs) {
        for operation in OPERATIONS {
            let mut records = session.object(name).await.unwrap();
            let ghost = operate(&mut records, operation, GHOST).await;
            let foreign = operate(&mut records, operation, id).await;
            assert_eq!(foreign, ghost, "{operation} of a {name}");
        }
        let records = session.object(name).await.unwrap();
        assert_eq!(records.count(&Find::new()).await.unwrap(), 1);
        let mut work = session.begin();
        assert!(work.row(&described, id).await.unwrap().is_none());
        let field = described.field_index("name").unwrap();
        let stolen = work
            .create_values(&described, &[(field, "Stolen".into())])
            .await;
        assert!(stolen.is_err());
    }
    // Links, activities, comments and followers lead to nobody else's records.
    let mut told_of = Vec::new();
    for id in [theirs[0], GHOST] {
        let contact = scene.attacker.contact;
        let link = json!({"from_id": id, "to_id": contact});
        let mut visitors = session.object(names[1]).await.unwrap();
        let link = visitors.create(link.as_object().unwrap()).await;
        let activity = task(id, scene.attacker.user);
        let mut viewings = session.object(names[0]).await.unwrap();
        told_of.push([
            told(link.map(|row| row.to_json()), id),
            told(session.activities().create(activity).await, id),
            told(session.activities().of(about(id), None).await, id),
            told(session.activities().recompute(about(id)).await, id),
            told(session.comments().write(about(id), "Mine").await, id),
            told(session.comments().of(about(id), None).await, id),
            told(
                session
                    .followers()
                    .follow(about(id), scene.attacker.user)
                    .await,
                id,
            ),
            told(
                viewings
                    .merge_into(own[0], &[id], &Choices::new(), None)
                    .await,
                id,
            ),
            told(viewings.resolve_all(&[id]).await, id),
        ]);
    }
    assert_eq!(told_of[0], told_of[1]);
    for (place, outcome) in told_of[0].iter().enumerate() {
        let reads = matches!(place, 2 | 5 | 8);
        assert_eq!(
            !outcome.contains("NotFound") && !outcome.contains("not_found"),
            reads,
            "{outcome}"
        );
    }
    let through = json!({"any": names[1], "by": "to_id", "where":
        {"field": "from_id", "op": "eq", "value": theirs[0]}});
    let through = Find::<()>::new().filter_by_name(Filter::from_json(&through).unwrap());
    let contacts = session.object("contact").await.unwrap();
    assert_eq!(contacts.count(&through).await.unwrap(), 0);
    // The object of which only the other tenant knows is one that never existed.
    let unknown = session.object("secret").await.err().unwrap().to_string();
    let never = session.object("nothing").await.err().unwrap().to_string();
    assert_eq!(unknown.replace("secret", "nothing"), never);
    let after = (
        picture(victim).await,
        picture(session).await,
        rows_of(victim, names[0]).await,
        rows_of(victim, names[1]).await,
    );
    let json = |rows: &[crm_engine::schema::Row]| -> Vec<_> {
        rows.iter().map(|row| row.to_json()).collect()
    };
    assert!(
        before.0 == after.0 && before.1 == after.1,
        "an attack left a trace"
    );
    assert_eq!(json(&before.2), json(&after.2));
    assert_eq!(json(&before.3), json(&after.3));
}

/// no search finds what another tenant wrote, and conditions of stages and
/// rules name neither its fields nor its records: they are refused, or never true, as for names and ids
/// that never existed.
#[tokio::test]
async fn searches_and_conditions_reach_no_other_tenant() {
    let scene = Scene::new().await;
    let (session, victim) = (&scene.attacker.session, &scene.victim.session);
    let name = |name: &str| ApiName::parse(name).unwrap();
    let text = || CustomFieldType::Text(TextLimits::default());
    let vault = CustomObject::new(name("vault"), "Vault", "Vaults");
    victim.records().create(vault).await.unwrap();
    for (object, field) in [
        ("contact", "motto"),
        ("deal", "codename"),
        ("vault", "word"),
    ] {
        let field = CustomField {
            is_searchable: true,
            ..CustomField::new(name(object), name(field), "Field", text())
        };
        victim.records().create(field).await.unwrap();
    }
    // Words of built-in fields, tags, and own fields.
    victim
        .contacts()
        .update(scene.victim.contact, |contact| {
            contact.company = Some("Quastenflosser".into());
            contact.tags = vec!["zwiebelfisch".into()];
            contact.custom_fields = json!({"motto": "plusquamperfekt"});
        })
        .await
        .unwrap();
    let body = json!({"name": "Wolpertinger", "custom_fields": {"word": "sesam"}});
    let mut vaults = victim.object("vault").await.unwrap();
    vaults.create(body.as_object().unwrap()).await.unwrap();
    let before = picture(victim).await;

    let found = async |session: &Session, object: &str, text: &str| {
        let found = session.search(object, text, 100).await;
        found.map(|found| found.records.len())
    };
    assert_eq!(found(victim, "contact", "plusquam").await.unwrap(), 1);
    assert_eq!(found(victim, "vault", "sesam").await.unwrap(), 1);
    let words = [
        "quasten",
        "zwiebelfisch",
        "plusquam",
        "wolpertinger",
        "sesam",
    ];
    for object in session.registry().await.unwrap().objects().keys() {
        for word in words {
            assert_eq!(found(session, object, word).await.unwrap(), 0, "{object}");
        }
    }
    let unknown = found(session, "vault", "sesam").await.unwrap_err();
    let never = found(session, "ghost", "sesam").await.unwrap_err();
    assert_eq!(
        unknown.to_string().replace("vault", "ghost"),
        never.to_string()
    );
    // What both wrote is found by each as its own only.
    let theirs: Vec<Uuid> = scene.targets().await.into_values().flatten().collect();
    for object in ["contact", "account", "deal", "lead"] {
        for row in rows_of(session, object).await {
            for field in session.describe(object).await.unwrap().own_fields() {
                let value = row.get(&field.name).into_owned();
                let Some(text) = value.as_ref().as_text().map(str::to_owned) else {
                    continue;
                };
                let found = session.search(object, &text, 100).await.unwrap();
                assert!(
                    found
                        .records
                        .iter()
                        .all(|one| !theirs.contains(&one.row.id()))
                );
            }
        }
    }

    // Fields: refused in the same words as names that nobody ever gave.
    let stage = scene.attacker.onboarded.stages[1];
    let rule = scene.attacker.rule;
    let stage_asks = async |source: String| {
        let change = |stage: &mut PipelineStage| stage.entry_condition = Some(source.clone());
        session.pipelines().update_stage(stage, change).await
    };
    let stage_filters = async |filter: Json| {
        let filter = Filter::from_json(&filter).unwrap();
        let change =
            |stage: &mut PipelineStage| stage.entry_criteria = Some(Criteria(filter.clone()));
        session.pipelines().update_stage(stage, change).await
    };
    let rule_asks = async |source: String| {
        let change = |rule: &mut AutomationRule| rule.condition_expression = Some(source.clone());
        session.automation_rules().update(rule, change).await
    };
    for pattern in [
        "NAME = 'x'",
        "custom_fields.NAME = 'x'",
        "contact_id.NAME is null",
    ] {
        for stolen in ["codename", "motto", "word"] {
            let outcomes = async |name: &str| {
                let source = pattern.replace("NAME", name);
                let outcomes = [
                    told(stage_asks(source.clone()).await.map(|_| ()), GHOST),
                    told(rule_asks(source).await.map(|_| ()), GHOST),
                ];
                outcomes.map(|told| told.replace(name, "NAME"))
            };
            let outcome = outcomes(stolen).await;
            assert_eq!(outcome, outcomes("never").await, "{pattern}");
            assert!(
                outcome.iter().all(|told| told.contains("validation")),
                "{outcome:?}"
            );
        }
    }
    // Records: the ids are texts to a condition, of which nothing is told, and no deal leads there.
    let (of_victim, own) = (scene.victim.account, scene.attacker.account);
    let mut told_of = Vec::new();
    for id in [of_victim.uuid(), GHOST] {
        let filter = json!({"field": "account_id", "op": "eq", "value": id});
        let through =
            json!({"field": "account_id", "has": {"field": "id", "op": "eq", "value": id}});
        let mut outcomes = Vec::new();
        for change in 0..4 {
            let source = format!("account_id = id('{id}') or account_id.id = id('{id}')");
            let changed = match change {
                0 => stage_asks(source).await.map(|_| ()),
                1 => stage_filters(filter.clone()).await.map(|_| ()),
                2 => stage_filters(through.clone()).await.map(|_| ()),
                _ => rule_asks(source).await.map(|_| ()),
            };
            outcomes.push(told(changed, id));
            let entering = Deal {
                account_id: Some(own),
                stage_id: Some(stage),
                ..Deal::new("Spy", scene.attacker.onboarded.pipeline)
            };
            let entered = session.deals().create(entering).await.map(|_| ());
            outcomes.push(told(entered, id));
            let trial = session.automation().test(rule, scene.attacker.deal).await;
            outcomes.push(told(trial.map(|trial| trial.fits), id));
        }
        told_of.push(outcomes);
        session
            .pipelines()
            .update_stage(stage, |stage| {
                stage.entry_condition = None;
                stage.entry_criteria = None;
            })
            .await
            .unwrap();
        let change = |rule: &mut AutomationRule| rule.condition_expression = None;
        session
            .automation_rules()
            .update(rule, change)
            .await
            .unwrap();
    }
    assert_eq!(told_of[0], told_of[1]);
    assert!(before == picture(victim).await, "an attack left a trace");
}
