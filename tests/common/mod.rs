//! What the tests of the whole engine share: tenants with a record of every object, pictures of
//! everything that a tenant has, and the comparison of records with their audit trail.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests, of which no test file needs all"
)]

pub(crate) mod backend;
pub(crate) mod figures;
pub(crate) mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use crm_engine::activities::{ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::audit::encryption::{Key, KeyStore, MasterKeys};
use crm_engine::audit::webhook::{
    Transport, TransportError, WebhookRequest, WebhookResponse, WebhookSecret,
};
use crm_engine::audit::{ApiCall, AuthEvent, AuthKind, AuthOutcome};
use crm_engine::automation::{Action, Actions, AutomationRule, RuleType, TriggerEvent};
use crm_engine::campaigns::{Campaign, CampaignMember};
use crm_engine::contacts::{ContactAffiliation, ContactRelationship, RelationshipType};
use crm_engine::currencies::ExchangeRate;
use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomFieldsExt,
    CustomObject, CustomRelationship, RelationshipKind,
};
use crm_engine::deals::{CloseOutcome, CloseReason, DealCompetitor, DealContact};
use crm_engine::exports::{ExportFormat, ExportJob};
use crm_engine::forecasts::{AdjustmentKind, ForecastAdjustment};
use crm_engine::imports::{
    ImportBatch, ImportJob, ImportLease, ImportMapping, RowOutcome, RowResult,
};
use crm_engine::leads::assignment::{AssignmentMethod, LeadAssignee, LeadAssignmentRule};
use crm_engine::leads::{ConversionPlan, ConversionTarget, LeadConversionMapping};
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::privacy::{
    Consent, ConsentEvidence, DeletionLog, DeletionMethod, DeletionReason, Grant, LegalHold,
    ProcessingActivity, RetentionPolicy,
};
use crm_engine::products::ProductPrice;
use crm_engine::schema::{FieldType, Lifecycle, ObjectRef, Row};
use crm_engine::scoring::{LeadScoringRule, LeadScoringRuleSet};
use crm_engine::storage::{DroppedEntries, FeedPosition};
use crm_engine::tenancy::{ConfigValue, Onboarded, TenantConfiguration};
use crm_engine::value::ApiName;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value as Json, json};
use tokio::sync::Barrier;
use uuid::Uuid;

/// A flat or house on offer: an object of the host.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "property",
    table = "properties",
    unique(reference; ignore_case, live)
)]
pub(crate) struct Property {
    /// The agency's own number.
    #[field(required, max_len = 20, searchable)]
    pub(crate) reference: String,
    /// Who sells it.
    #[field(references = "account", on_delete = "set_null", indexed)]
    pub(crate) seller_id: Option<Id<Account>>,
    /// Living space in square metres.
    #[field(min = 1)]
    pub(crate) square_metres: Option<i32>,
    /// Asking price.
    #[field(precision = 12, scale = 2, min = 0)]
    pub(crate) price: Option<rust_decimal::Decimal>,
    /// The id that another system gave it.
    pub(crate) foreign_id: Option<Uuid>,
}

/// A CRM that knows the host's object.
pub(crate) fn crm() -> Crm {
    Crm::builder(backend::storage(&[Property::schema()]))
        .object::<Property>()
        .build()
}

/// How many random cases a test tries: as many as `PROPTEST_CASES` says, else as many as usual.
pub(crate) fn cases(usual: u32) -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    said.map_or(usual, |number| number.parse().unwrap())
}

/// Tries random values, each with the name of a tenant of its own: usually so many in memory, and so
/// many where each takes its time.
pub(crate) fn try_all<S: Strategy>(
    values: &S,
    [in_memory, on_postgres]: [u32; 2],
    run: impl AsyncFn(&Crm, &str, S::Value),
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let usual = if backend::is_postgres() {
        on_postgres
    } else {
        in_memory
    };
    let config = Config {
        cases: cases(usual),
        ..Config::default()
    };
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(values, |value| {
            number.set(number.get() + 1);
            runtime.block_on(run(&crm, &format!("w{}", number.get()), value));
            Ok(())
        })
        .unwrap();
}

/// Runs futures at the same time, each as a task of its own, all begun at one moment.
pub(crate) async fn race<T, F>(calls: Vec<F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(calls.len()));
    let tasks: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait().await;
                call.await
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// Takes a tenant in and opens a session of its first user.
pub(crate) async fn tenant(crm: &Crm, subdomain: &str) -> (Onboarded, Session) {
    let email = format!("admin@{subdomain}.example");
    let onboarded = crm
        .onboard(Onboarding::new(subdomain, subdomain, email))
        .await
        .unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    (onboarded, session)
}

/// A tenant with at least one record of every object.
#[derive(Debug)]
pub(crate) struct Populated {
    pub(crate) onboarded: Onboarded,
    pub(crate) session: Session,
    pub(crate) user: Id<User>,
    pub(crate) team: Id<Team>,
    pub(crate) territory: Id<Territory>,
    pub(crate) account: Id<Account>,
    pub(crate) contact: Id<Contact>,
    pub(crate) lead: Id<Lead>,
    pub(crate) converted_lead: Id<Lead>,
    pub(crate) campaign: Id<Campaign>,
    pub(crate) assignment_rule: Id<LeadAssignmentRule>,
    pub(crate) deal: Id<Deal>,
    pub(crate) won_deal: Id<Deal>,
    pub(crate) product: Id<Product>,
    pub(crate) line: Id<DealLine>,
    pub(crate) approval: Id<StageApproval>,
    pub(crate) activity: Id<Activity>,
    pub(crate) participant: Id<ActivityParticipant>,
    pub(crate) template: Id<ActivityTemplate>,
    pub(crate) reminder: Id<ActivityReminder>,
    pub(crate) rule: Id<AutomationRule>,
}

/// Fills a new tenant.
pub(crate) async fn populate(crm: &Crm, subdomain: &str) -> Populated {
    let (onboarded, session) = tenant(crm, subdomain).await;
    let user = session
        .users()
        .create(User {
            name: PersonName::new("Grace", "Hopper"),
            username: Some("grace".into()),
            manager_id: Some(onboarded.admin),
            ..User::new(EmailAddress::parse(&format!("grace@{subdomain}.example")).unwrap())
        })
        .await
        .unwrap();
    let team = session
        .teams()
        .create(Team::new("Field sales"))
        .await
        .unwrap();
    session
        .teams()
        .add_member(team.id, user.id, TeamRole::Lead)
        .await
        .unwrap();
    let territory = Territory {
        manager_id: Some(user.id),
        criteria: Some(Filter::eq("industry", "nuclear power").into()),
        ..Territory::new("Springfield")
    };
    let territory = session.territories().create(territory).await.unwrap();
    let account = session
        .accounts()
        .create(Account {
            account_number: Some("A-1".into()),
            owner_id: Some(user.id),
            tags: vec!["key".into()],
            ..Account::new("Globex")
        })
        .await
        .unwrap();
    let labs = Account {
        parent_account_id: Some(account.id),
        ..Account::new("Globex Labs")
    };
    session.accounts().create(labs).await.unwrap();
    let contact = session
        .contacts()
        .create(Contact {
            email: Some(EmailAddress::parse(&format!("hank@{subdomain}.example")).unwrap()),
            account_id: Some(account.id),
            owner_id: Some(user.id),
            ..Contact::named("Hank", "Scorpio")
        })
        .await
        .unwrap();
    let manager = session
        .contacts()
        .create(Contact::named("Mindy", "Simmons"))
        .await
        .unwrap();
    session
        .contacts()
        .relate(contact.id, manager.id, RelationshipType::ReportsTo)
        .await
        .unwrap();
    let newsletter = Grant::new(
        "marketing_email".parse().unwrap(),
        ConsentEvidence::default(),
    );
    session
        .consents()
        .grant(contact.id, newsletter)
        .await
        .unwrap();
    let fair = Campaign {
        budget: Some(20_000.into()),
        ..Campaign::new("Spring fair")
    };
    let campaign = session.campaigns().create(fair).await.unwrap();
    let by_turns = LeadAssignmentRule {
        criteria: Some(Filter::eq("industry", "software").into()),
        ..LeadAssignmentRule::new("Software", AssignmentMethod::RoundRobin)
    };
    let assignment_rule = session
        .lead_assignment_rules()
        .create(by_turns)
        .await
        .unwrap();
    session
        .lead_assignment_rules()
        .add_assignee(assignment_rule.id, user.id)
        .await
        .unwrap();
    // The rule gives it to the user; it came by the campaign.
    let mut lead = Lead {
        company: Some("Initech".into()),
        industry: Some("software".into()),
        ..Lead::default()
    };
    lead.source.campaign_id = Some(campaign.id);
    let lead = session.leads().create(lead).await.unwrap();
    assert_eq!(lead.owner_id, Some(user.id));
    let double = Lead {
        company: Some("Initech Inc.".into()),
        ..Lead::default()
    };
    let double = session.leads().create(double).await.unwrap();
    let question = Activity::new(ActivityType::Email, "Ask for the size", double.id, user.id);
    session.activities().create(question).await.unwrap();
    session
        .leads()
        .merge_into(lead.id, &[double.id], &Choices::new(), Some("the same"))
        .await
        .unwrap();
    session
        .exchange_rates()
        .set(
            Currency::EUR,
            Currency::USD,
            "2020-01-01".parse().unwrap(),
            rust_decimal::Decimal::new(125, 2),
            Some("bank"),
        )
        .await
        .unwrap();
    session
        .leads()
        .adjust(lead.id, 5, "met at the fair")
        .await
        .unwrap();
    session
        .scoring_rule_sets()
        .create_standard("Standard")
        .await
        .unwrap();
    let greet = AutomationRule::new(
        "Greet new deals",
        RuleType::StageEntry,
        TriggerEvent::DealCreated,
        Filter::all(),
        Actions(vec![Action::SetFields {
            fields: Map::from_iter([("next_step".to_owned(), json!("Say hello"))]),
        }]),
    );
    let rule = session.automation_rules().create(greet).await.unwrap();
    let deal = session
        .deals()
        .create(Deal {
            amount: Some(12_000.into()),
            account_id: Some(account.id),
            contact_id: Some(contact.id),
            owner_id: Some(user.id),
            team_id: Some(team.id),
            expected_close_date: Some("2100-02-28".parse().unwrap()),
            ..Deal::new("Rollout", onboarded.pipeline)
        })
        .await
        .unwrap();
    session
        .deals()
        .move_to(deal.id, onboarded.stages[1])
        .await
        .unwrap();
    let product = Product {
        sku: Some("LIC-1".into()),
        unit_price: Some(4_000.into()),
        ..Product::new("Licence")
    };
    let product = session.products().create(product).await.unwrap();
    let euros = Money::new(3_500.into(), Currency::EUR);
    session
        .products()
        .set_price(product.id, euros)
        .await
        .unwrap();
    let line = DealLine {
        quantity: 3.into(),
        ..DealLine::of_product(deal.id, product.id)
    };
    let line = session.deals().add_line(line).await.unwrap();
    let won = session
        .deals()
        .create(Deal::new("Pilot", onboarded.pipeline))
        .await
        .unwrap();
    session.deals().win(won.id).await.unwrap();
    let day = chrono::NaiveDate::from_ymd_opt(2025, 1, 1).unwrap();
    session.pipelines().record_day(day, &()).await.unwrap();
    forecasts(&session, user.id, deal.id).await;
    oversight(&session, contact.id).await;
    let approval = StageApproval {
        request_note: Some("they are in a hurry".into()),
        ..StageApproval::new(deal.id, onboarded.stages[3])
    };
    let approval = session.stage_approvals().create(approval).await.unwrap();
    let rival = DealCompetitor {
        account_id: Some(account.id),
        ..DealCompetitor::new(deal.id, "Initech")
    };
    session.deals().add_competitor(rival).await.unwrap();
    let reason = CloseReason::new(CloseOutcome::Won, "Best product");
    session.close_reasons().create(reason).await.unwrap();
    let pair = LeadConversionMapping {
        source_field: Some("grade".into()),
        ..LeadConversionMapping::new(ConversionTarget::Contact, "department")
    };
    session
        .records::<LeadConversionMapping>()
        .create(pair)
        .await
        .unwrap();
    let bill = Lead {
        name: Some(PersonName::new("Bill", "Lumbergh")),
        ..Lead::default()
    };
    let bill = session.leads().create(bill).await.unwrap();
    session
        .leads()
        .convert(bill.id, ConversionPlan::new())
        .await
        .unwrap();
    let activity = session
        .activities()
        .create(Activity::new(
            ActivityType::Call,
            "Ask for the order",
            deal.id,
            user.id,
        ))
        .await
        .unwrap();
    let review = Activity::new(ActivityType::Meeting, "Review", deal.id, user.id);
    let weekly = Recurrence::parse("FREQ=WEEKLY;BYDAY=MO").unwrap();
    let monday = LocalDateTime::parse("2027-01-04T09:00").unwrap();
    session
        .activity_series()
        .create(ActivitySeries::new(review, weekly, monday))
        .await
        .unwrap();
    let meeting = Activity {
        scheduled_at: Some("2100-01-01T10:00:00Z".parse().unwrap()),
        ..Activity::new(ActivityType::Meeting, "Kick off", deal.id, user.id)
    };
    let meeting = session.activities().create(meeting).await.unwrap();
    let participant = session
        .activities()
        .invite(meeting.id, contact.id, Some("guest"))
        .await
        .unwrap();
    let reminder = ActivityReminder {
        recipient_id: Some(user.id),
        ..ActivityReminder::new(meeting.id, ReminderType::Email, 30_u32)
    };
    let reminder = session.reminders().create(reminder).await.unwrap();
    let template = ActivityTemplate {
        subject_template: Some("Ask about {{ deal.name }}".into()),
        ..ActivityTemplate::new("First call", ActivityType::Call)
    };
    let template = session.activity_templates().create(template).await.unwrap();
    let persons = session
        .duplicate_rules()
        .create(DuplicateRule::contacts())
        .await
        .unwrap();
    session
        .duplicates()
        .rebuild_keys(persons.id, None, &())
        .await
        .unwrap();
    let property = Property {
        seller_id: Some(account.id),
        ..Property::new("B-17")
    };
    session
        .records::<Property>()
        .create(property)
        .await
        .unwrap();
    session
        .configurations()
        .set(
            ConfigCategory::General,
            "greeting",
            &json!({"text": "hello"}),
        )
        .await
        .unwrap();
    definitions(&session).await;
    let comment = session
        .comments()
        .write(contact.id, "@grace, call him back")
        .await
        .unwrap();
    session.comments().reply(comment.id, "Done.").await.unwrap();
    session
        .followers()
        .follow(contact.id, user.id)
        .await
        .unwrap();
    let mapping = ImportMapping::new(
        "contact",
        "Fair",
        json!({"object": "contact", "columns": []}),
    );
    session
        .records::<ImportMapping>()
        .create(mapping)
        .await
        .unwrap();
    import_job(&session).await;
    webhook(&session).await;
    keys(&session).await;
    let mut work = session.begin();
    let entry = DeletionLog::new(
        "contact",
        Uuid::from_u128(7),
        DeletionMethod::Anonymize,
        DeletionReason::ErasureRequest,
        1_i64,
        9_i64,
    );
    work.append_entry(entry).unwrap();
    let gone = FeedPosition::BEGINNING.to_string();
    let gone = DroppedEntries::new("audit_event", gone, 1_i64, chrono::DateTime::UNIX_EPOCH);
    work.append_entry(gone).unwrap();
    work.commit().await.unwrap();
    session
        .exports()
        .create(ExportJob::new("contact", ExportFormat::Csv))
        .await
        .unwrap();
    session.custom_fields().record_usage().await.unwrap();
    Populated {
        user: user.id,
        team: team.id,
        territory: territory.id,
        account: account.id,
        contact: contact.id,
        lead: lead.id,
        converted_lead: bill.id,
        campaign: campaign.id,
        assignment_rule: assignment_rule.id,
        deal: deal.id,
        won_deal: won.id,
        product: product.id,
        line: line.id,
        approval: approval.id,
        activity: activity.id,
        participant: participant.id,
        template: template.id,
        reminder: reminder.id,
        rule: rule.id,
        onboarded,
        session,
    }
}

/// A quota, what a manager makes of a forecast, and what is forecast of a deal.
async fn forecasts(session: &Session, user: Id<User>, deal: Id<Deal>) {
    let month = session.forecasts().named_period("2100-02").await.unwrap();
    let subject = ForecastSubject::user(user);
    let amount = Money::new(50_000.into(), Currency::EUR);
    let quota = Quota::of(subject, &month, amount);
    session.forecasts().set_quota(quota).await.unwrap();
    let adjustment = ForecastAdjustment {
        subject,
        ..ForecastAdjustment::new(
            month.kind(),
            month.start(),
            ForecastCategory::Commit,
            AdjustmentKind::Manager,
            Currency::EUR,
            10_000,
            "the tender slips",
        )
    };
    session.forecasts().adjust(adjustment).await.unwrap();
    session
        .forecasts()
        .record(deal, PeriodKind::Month, 70, Some("they are eager"))
        .await
        .unwrap();
}

/// The keys that its values would be sealed with, unless it has some.
async fn keys(session: &Session) {
    let storage = session.engine().storage().clone();
    let keys = KeyStore::new(storage, MasterKeys::new("tests", Key::new([5; 32])));
    let tenant = session.tenant().unwrap();
    if keys.keys(tenant).await.unwrap().is_empty() {
        keys.rotate(tenant).await.unwrap();
    }
}

/// A subscription, with a delivery of the event of its own creation.
async fn webhook(session: &Session) {
    let secret = WebhookSecret::from_bytes(&[7; 32]).unwrap();
    let url = HttpUrl::parse("https://hooks.example.com/crm").unwrap();
    let subscription = WebhookSubscription {
        objects: vec![WebhookSubscription::schema().name().to_owned()],
        secret: Some(secret.expose()),
        ..WebhookSubscription::new("Billing", url)
    };
    let subscriptions = session.records::<WebhookSubscription>();
    { subscriptions }.create(subscription).await.unwrap();
    for _ in 0..20_000 {
        let report = session.webhooks().deliver_due(&Nobody, 1_000).await;
        if report.unwrap().queued > 0 {
            return;
        }
        pause().await;
    }
    panic!("the feed stands still");
}

/// Lets others go on before a feed is asked once more: on PostgreSQL a transaction of anybody on the
/// server, such as the making of another test's database, holds it up.
pub(crate) async fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(1));
    tokio::task::yield_now().await;
}

/// A transport that reaches nobody.
struct Nobody;

#[async_trait::async_trait]
impl Transport for Nobody {
    async fn resolve(
        &self,
        _host: &str,
        _port: u16,
    ) -> std::result::Result<Vec<std::net::IpAddr>, TransportError> {
        Err(TransportError::new("no_such_host"))
    }

    async fn post(
        &self,
        _request: &WebhookRequest,
    ) -> std::result::Result<WebhookResponse, TransportError> {
        Err(TransportError::new("no_such_host"))
    }
}

/// What the tenant answers for, and the streams beside its trail.
async fn oversight(session: &Session, contact: Id<Contact>) {
    let policy = RetentionPolicy::new("contacts", "contact", DeletionMethod::Anonymize, 10);
    let policy = session.retention_policies().create(policy).await.unwrap();
    let hold = LegalHold {
        record_id: Some(contact.uuid()),
        ..LegalHold::new("lawsuit", "contact")
    };
    session.legal_holds().create(hold).await.unwrap();
    let activity = ProcessingActivity {
        retention_policy_id: Some(policy.id),
        ..ProcessingActivity::new("Sales", "To sell flats")
    };
    session
        .processing_activities()
        .create(activity)
        .await
        .unwrap();
    let mut work = session.begin();
    let entry = DeletionLog::new(
        "lead",
        Uuid::from_u128(7),
        DeletionMethod::HardDelete,
        DeletionReason::RetentionEnded,
        1,
        1,
    );
    work.append_entry(entry).unwrap();
    work.commit().await.unwrap();
    let at = chrono::DateTime::UNIX_EPOCH;
    let failed = AuthEvent {
        login: Some("hank@example.com".into()),
        ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, at)
    };
    session.security().record(failed).await.unwrap();
    let call = ApiCall::done(
        "GET",
        "/deals",
        200,
        std::time::Duration::from_millis(5),
        at,
    );
    session.api_calls().record(call).await.unwrap();
}

/// A job in work, with one refused row.
async fn import_job(session: &Session) {
    let job = ImportJob::new("contact", "fair.csv", "0".repeat(64), json!({}));
    let job = session.records::<ImportJob>().create(job).await.unwrap();
    let lease = ImportLease {
        worker: Uuid::from_u128(1),
        take_over: false,
    };
    let job = session.records::<ImportJob>().claim(job.id, lease).await;
    let row = RowResult {
        number: 2,
        outcome: RowOutcome::Failed,
        record: None,
        faults: Vec::new(),
        related: Vec::new(),
    };
    let batch = ImportBatch {
        rows: vec![row],
        ..ImportBatch::default()
    };
    let mut work = session.begin();
    work.settle_import_batch(&job.unwrap(), batch)
        .await
        .unwrap();
    work.commit().await.unwrap();
}

/// Every record of an object, deleted and archived ones too, by id.
pub(crate) async fn rows_of(session: &Session, object: &str) -> Vec<Row> {
    let records = session.object(object).await.unwrap();
    let find = Find::<()>::new()
        .with_archived()
        .with_deleted()
        .limit(1_000);
    let mut rows = Vec::new();
    let mut page = records.find(&find).await.unwrap();
    loop {
        rows.append(&mut page.items);
        let Some(next) = page.next else { return rows };
        page = records.find(&find.clone().after(next)).await.unwrap();
    }
}

/// Everything that a tenant has, as JSON.
pub(crate) type Picture = BTreeMap<String, Vec<Map<String, Json>>>;

/// Takes a picture of everything that a tenant has.
pub(crate) async fn picture(session: &Session) -> Picture {
    let mut picture = Picture::new();
    for name in session.engine().registry().objects().keys() {
        let rows = rows_of(session, name)
            .await
            .iter()
            .map(|row| row.to_json())
            .collect();
        picture.insert(name.clone(), rows);
    }
    picture
}

/// The body of a new record like `row`: what users may write, with unique values made new.
pub(crate) fn body_like(row: &Row) -> Map<String, Json> {
    let object = row.object();
    let mut body: Map<String, Json> = object
        .own_fields()
        .iter()
        .filter(|field| !field.read_only)
        .map(|field| (field.name.to_string(), row.get(&field.name).to_json()))
        .filter(|(_, value)| !value.is_null())
        .collect();
    let is_named = |name: &str| {
        let fields = object.fields().iter();
        fields
            .filter_map(|field| field.record_of.as_deref())
            .any(|of| of == name)
    };
    for index in object.unique_keys().iter().flat_map(|key| &key.fields) {
        let field = &object.fields()[*index];
        let Some(value) = body.get_mut(&*field.name) else {
            continue;
        };
        match &field.field_type {
            _ if !field.required => {
                body.remove(&*field.name);
            }
            // Such a name goes with the id of the record.
            _ if is_named(&field.name) => {}
            // The object that a definition belongs to.
            FieldType::ApiName if field.name == "object" => {}
            FieldType::ApiName => *value = json!("fresh"),
            FieldType::Email => *value = json!("somebody.new@fresh.example"),
            FieldType::Subdomain => *value = json!("fresh"),
            FieldType::Text { .. } => *value = json!("Fresh"),
            FieldType::Integer { .. } => *value = json!(77),
            FieldType::Boolean => *value = json!(false),
            FieldType::Date => *value = json!("1999-12-31"),
            _ => {}
        }
    }
    if object.name() == "consent" {
        // Another one of the same person, which does not count.
        body.insert("contact_id".into(), row.get("contact_id").to_json());
        body.insert("is_active".into(), json!(false));
    }
    if object.name() == "activity_participant" {
        // Somebody new.
        body.insert("participant_type".into(), json!("external"));
        body.insert("email".into(), json!("somebody.new@fresh.example"));
        body.insert("name".into(), json!("Fresh"));
    }
    if ["quota", "forecast_adjustment"].contains(&object.name()) {
        // The same user in another month.
        body.insert("user_id".into(), row.get("user_id").to_json());
        body.insert("period_start".into(), json!("1999-12-01"));
    }
    if object.name() == "lead_conversion_mapping" {
        // Another field that there is.
        body.insert("target_field".into(), json!("company"));
    }
    if object.name() == "deal" {
        body.remove("actual_close_date");
        body.remove("probability");
    }
    body
}

/// The objects whose records users write, by name.
pub(crate) fn writable_objects(session: &Session) -> Vec<ObjectRef> {
    let objects = session.engine().registry().objects();
    objects
        .values()
        .filter(|object| object.lifecycle() == Lifecycle::Full)
        .cloned()
        .collect()
}

/// What the tenant adds to the model: an object with a picklist, a rule and relationships.
async fn definitions(session: &Session) {
    let name = |text: &str| ApiName::parse(text).unwrap();
    let viewing = CustomObject::new(name("viewing"), "Viewing", "Viewings");
    session
        .records::<CustomObject>()
        .create(viewing)
        .await
        .unwrap();
    let outcome = CustomField::new(
        name("viewing"),
        name("outcome"),
        "Outcome",
        CustomFieldType::Picklist,
    );
    let outcome = session
        .records::<CustomField>()
        .create(outcome)
        .await
        .unwrap();
    session
        .records::<CustomFieldOption>()
        .create(CustomFieldOption::new(outcome.id, "liked", "Liked it"))
        .await
        .unwrap();
    let visitors = CustomRelationship::new(
        name("viewing_visitors"),
        name("viewing"),
        name("contact"),
        RelationshipKind::ManyToMany,
        Cardinality::ManyToMany,
    );
    session
        .records::<CustomRelationship>()
        .create(visitors)
        .await
        .unwrap();
    let supplier = CustomRelationship::new(
        name("supplier"),
        name("product"),
        name("account"),
        RelationshipKind::Lookup,
        Cardinality::ManyToOne,
    );
    session
        .records::<CustomRelationship>()
        .create(supplier)
        .await
        .unwrap();
    let product = rows_of(session, "product").await[0].id();
    let account = rows_of(session, "account").await[0].id();
    session
        .products()
        .update(Id::new(product), |product: &mut Product| {
            product.custom_fields = serde_json::json!({"supplier": account});
        })
        .await
        .unwrap();
    let rule = CustomFieldRule::new(
        name("viewing"),
        "Has an outcome",
        "outcome != 'none'",
        "tell how it went",
    );
    session
        .records::<CustomFieldRule>()
        .create(rule)
        .await
        .unwrap();
    let season = CustomField {
        is_indexed: true,
        ..CustomField::new(
            name("campaign"),
            name("season"),
            "Season",
            CustomFieldType::Text(Default::default()),
        )
    };
    session
        .records::<CustomField>()
        .create(season)
        .await
        .unwrap();
    let in_spring = Campaign {
        custom_fields: json!({"season": "spring"}),
        ..Campaign::new("Open house")
    };
    session.campaigns().create(in_spring).await.unwrap();
    // On a server that others use, it may take a moment until nothing can come in front of an event.
    while session
        .audit()
        .seal(crm_engine::audit::Sealing::new())
        .await
        .unwrap()
        .is_none()
    {
        tokio::task::yield_now().await;
    }
}

/// Checks that every record of the tenant has one event for each of its versions, that its last
/// version as built from them is the stored record, and that no event is without a record.
pub(crate) async fn assert_trail_tells_every_record(session: &Session) {
    let mut told = BTreeSet::new();
    for object in writable_objects(session) {
        for row in rows_of(session, object.name()).await {
            told.insert((object.name().to_owned(), row.id()));
            assert_trail_tells(session, &row).await;
        }
    }
    let mut last = BTreeMap::new();
    for event in rows_of(session, "audit_event").await {
        let event = Record::<AuditEvent>::from_row(event).unwrap();
        // Of keys it tells what became of them, and not how they came.
        if event.object == "data_key" {
            continue;
        }
        last.insert((event.object.clone(), event.record_id), event.event);
    }
    for (record, event) in last {
        let purged = event == AuditKind::Purge;
        assert_eq!(
            told.contains(&record),
            !purged,
            "events and records of {record:?} differ"
        );
    }
}

/// Checks one record against its trail.
pub(crate) async fn assert_trail_tells(session: &Session, row: &Row) {
    let name = row.object().name();
    let trail = session
        .audit()
        .trail(EntityRef::new(name, row.id()))
        .await
        .unwrap();
    let versions: Vec<i64> = trail.iter().map(|event| event.record_version).collect();
    let wanted: Vec<i64> = (1..=row.version()).collect();
    assert_eq!(
        versions, wanted,
        "the {name} has another number of events than versions"
    );
    let (rebuilt, masked) = rebuilt(session, name, row.id(), row.version()).await;
    let mut stored = row.to_json();
    let mut rebuilt = rebuilt;
    for field in masked {
        let field = field.split('.').next().unwrap_or_default().to_owned();
        stored.remove(&field);
        rebuilt.remove(&field);
    }
    assert_eq!(
        rebuilt, stored,
        "the trail of the {name} tells another story"
    );
}

/// The record at a version, built from its events, and the fields that are masked there.
async fn rebuilt(
    session: &Session,
    object: &str,
    id: Uuid,
    version: i64,
) -> (Map<String, Json>, Vec<String>) {
    macro_rules! by_name {
        ($($entity:ty),* $(,)?) => {$(
            if object == <$entity as Entity>::schema().name() {
                let version = session.audit().version(Id::<$entity>::new(id), version).await;
                let version = version.unwrap().unwrap();
                let row: Row = version.record;
                return (row.to_json(), version.masked);
            }
        )*};
    }
    by_name!(
        Tenant,
        TenantConfiguration,
        User,
        Team,
        TeamMember,
        Territory,
        Account,
        Contact,
        ContactRelationship,
        ContactAffiliation,
        Lead,
        LeadConversionMapping,
        LeadAssignmentRule,
        LeadAssignee,
        Campaign,
        CampaignMember,
        LeadScoringRuleSet,
        LeadScoringRule,
        Consent,
        RetentionPolicy,
        LegalHold,
        ProcessingActivity,
        Pipeline,
        PipelineStage,
        ExchangeRate,
        Product,
        ProductPrice,
        Quota,
        ForecastAdjustment,
        Deal,
        DealLine,
        StageApproval,
        DealContact,
        DealCompetitor,
        CloseReason,
        AutomationRule,
        Activity,
        Comment,
        Mention,
        Follower,
        Merge,
        ActivitySeries,
        ActivityParticipant,
        ActivityTemplate,
        ActivityReminder,
        ImportMapping,
        ImportJob,
        DuplicateRule,
        ExportJob,
        DuplicateRule,
        Property,
        CustomObject,
        CustomField,
        CustomFieldOption,
        CustomRelationship,
        CustomFieldRule,
        WebhookSubscription,
    );
    panic!("the object {object} is not known to this test: add it above");
}

/// A setting, for tests that need a value of this form.
pub(crate) fn setting(key: &str) -> TenantConfiguration {
    TenantConfiguration::new(
        ConfigCategory::General,
        key,
        ConfigValue::Plain(json!(true)),
    )
}
