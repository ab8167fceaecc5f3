//! The marker test: every text of every object that can concern a person holds a marker of its own,
//! and after the erasure none is found anywhere in what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crm_engine::activities::{ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::audit::{AuthEvent, AuthKind, AuthOutcome, Erasure};
use crm_engine::contacts::RelationshipType;
use crm_engine::custom_objects::{CustomField, CustomFieldType, LinksExt as _};
use crm_engine::engine::UnitOfWork;
use crm_engine::exports::{ExportFormat, ExportJob};
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::privacy::LegalHold;
use crm_engine::privacy::held::Tie;
use crm_engine::query::{Condition, Query};
use crm_engine::schema::{
    FieldSchema, FieldType, Lifecycle, ObjectRef, ObjectScope, Row, SYSTEM_FIELDS, Value,
};
use crm_engine::storage::{Change, ChangeSet, Storage};
use crm_engine::value::ApiName;
use crm_engine::{Crm, MemoryStorage, PostgresStorage};
use crm_test_postgres::Database;
use serde_json::{Value as Json, json};
use sqlx::AssertSqlSafe;

use crate::common::{Populated, Property, populate, rows_of};

/// What every marker begins with: long enough that no hash or signature holds it by chance.
pub(crate) const MARKER: &str = "zqmkj";

/// The objects of which no record can concern a customer: settings, the tenant's own people, companies
/// and goods; and rows that the engine makes of others. Every other object of the engine has to hold markers, so a new one is thought of.
const CONCERN_NOBODY: [&str; 58] = [
    "account",
    "activity_roll_up",
    "activity_template",
    "api_call",
    "archived_audit_event",
    "audit_event",
    "audit_seal",
    "campaign",
    "close_reason",
    "custom_field",
    "custom_field_option",
    "custom_field_rule",
    "custom_field_usage",
    "custom_link",
    "custom_object",
    "custom_record",
    "custom_relationship",
    "custom_schema",
    "custom_text",
    "custom_value",
    "data_key",
    "deal_state",
    "deletion_log",
    "dropped_entries",
    "duplicate_key",
    "duplicate_rule",
    "exchange_rate",
    "export_job",
    "feed_consumer",
    "forecast_adjustment",
    "import_job",
    "import_mapping",
    "lead_assignee",
    "lead_assignment_rule",
    "lead_assignment_state",
    "lead_conversion_mapping",
    "lead_scoring_rule",
    "lead_scoring_rule_set",
    "legal_hold",
    "merge_link",
    "pipeline",
    "pipeline_automation_rule",
    "pipeline_metric",
    "pipeline_stage",
    "processing_activity",
    "product",
    "product_price",
    "property",
    "quota",
    "retention_policy",
    "team",
    "team_member",
    "tenant",
    "tenant_configuration",
    "territory",
    "user",
    "webhook_delivery",
    "webhook_subscription",
];

/// A storage, and the database behind it where there is one.
fn storage() -> (Arc<dyn Storage>, Option<Database>) {
    match std::env::var("CRM_TEST_STORAGE").as_deref() {
        Ok("postgres") => {
            let objects = [Property::schema().clone()];
            let database = Database::fresh(&objects).unwrap();
            let pool = database.lazy_pool(10).unwrap();
            let builder = PostgresStorage::builder().named_object(&objects[0]);
            (Arc::new(builder.build(pool)), Some(database))
        }
        _ => (Arc::new(MemoryStorage::new()), None),
    }
}

/// Plants markers.
pub(crate) struct Planter<'p> {
    pub(crate) storage: &'p Arc<dyn Storage>,
    pub(crate) session: &'p Session,
    pub(crate) count: usize,
    /// Every marker there was, with the object and field.
    pub(crate) all: BTreeMap<String, (String, String)>,
    /// The markers that are in records now, with the object and field.
    pub(crate) planted: BTreeMap<String, (String, String)>,
    /// Texts that have a form of their own, which no marker has.
    pub(crate) formed: BTreeSet<String>,
    pub(crate) objects: BTreeSet<String>,
    pub(crate) by_rules: usize,
}

impl Planter<'_> {
    fn marker(&mut self, field: &FieldSchema) -> Option<(String, Value)> {
        self.count += 1;
        let marker = format!("{MARKER}{:03x}", self.count);
        let fits = |length: usize| {
            let most = field.field_type.max_length().unwrap_or(u32::MAX);
            length <= most as usize
        };
        let value = match &field.field_type {
            FieldType::Text { .. } if fits(marker.len()) => Value::Text(marker.clone()),
            FieldType::Email => Value::Text(format!("{marker}@marker.example")),
            FieldType::Url { .. } => Value::Text(format!("https://{marker}.example/")),
            FieldType::List => Value::List(vec![marker.clone()]),
            FieldType::Json if field.name != "custom_fields" => {
                Value::Json(json!({"deep": [{"said": marker}]}))
            }
            _ => return None,
        };
        Some((marker, value))
    }

    /// Writes a value through all rules, or past them where they refuse.
    async fn write(&mut self, object: &ObjectRef, row: &Row, index: usize, value: Value) -> bool {
        let mut work = self.session.begin();
        let current = work.row(object, row.id()).await.unwrap().unwrap();
        let written = match work
            .set_row_values(&current, vec![(index, value.clone())])
            .await
        {
            Ok(_) => work.commit().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if written.is_ok() {
            self.by_rules += 1;
            return true;
        }
        self.write_raw(&current, index, value).await
    }

    async fn write_raw(&self, current: &Row, index: usize, value: Value) -> bool {
        let mut values = current.values();
        values[index - SYSTEM_FIELDS] = value;
        let engine = self.session.engine();
        let now = engine.clock().now();
        let meta = current.meta();
        let Ok(after) = current.with_values(meta.next(meta.updated), values) else {
            return false;
        };
        let update = Change::Update {
            before: current.clone(),
            after,
        };
        let changes = ChangeSet::new(engine.ids().next(now), now, vec![update], Vec::new());
        self.storage
            .commit(self.session.scope(), &changes)
            .await
            .unwrap();
        true
    }

    /// Plants a marker in every text of a record, twice, so that the first is in the trail.
    pub(crate) async fn plant(&mut self, object: &ObjectRef, row: &Row, address: &str) {
        for (index, field) in object.fields().iter().enumerate() {
            let registry = self.session.registry().await.unwrap();
            let is_link = object
                .record_links()
                .iter()
                .any(|link| link.object == index);
            let old = row.value(index).into_owned();
            let names_object = matches!(&old, Value::Text(text) if registry.object(text).is_some());
            // By its address a guest is known to be the person.
            let is_tie = matches!(&old, Value::Text(text) if text.as_str() == address);
            // What the engine keeps about business, such as a grade or a sum, is no text of people.
            let is_kept = field.read_only
                && field.privacy == crm_engine::schema::Privacy::Public
                && object.lifecycle() == Lifecycle::Full;
            if field.system || is_link || names_object || is_tie || is_kept {
                continue;
            }
            for _ in 0..2 {
                let Some((marker, value)) = self.marker(field) else {
                    break;
                };
                if self.write(object, row, index, value).await {
                    let place = (object.name().to_owned(), field.name.to_string());
                    self.planted.retain(|_, known| *known != place);
                    self.all.insert(marker.clone(), place.clone());
                    self.planted.insert(marker, place);
                    self.objects.insert(object.name().to_owned());
                } else {
                    self.formed
                        .insert(format!("{}.{}", object.name(), field.name));
                    break;
                }
            }
        }
    }
}

/// Everything that is stored of a tenant, as text, by object.
async fn everything(storage: &Arc<dyn Storage>, session: &Session) -> Vec<(String, String)> {
    let mut objects = crm_engine::objects();
    objects.extend(crm_engine::custom_objects::objects());
    objects.push(AuditEvent::schema().clone());
    objects.push(Property::schema().clone());
    let mut all = Vec::new();
    for object in objects {
        let rows = storage
            .select(session.scope(), &Query::new(&object, Condition::all()))
            .await
            .unwrap();
        for row in rows {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            all.push((object.name().to_owned(), text));
        }
    }
    all
}

/// Every row of every table that holds a text, as the owner of the database sees it.
pub(crate) async fn tables_with(database: &Database, text: &str) -> Vec<String> {
    let mut owner = database.owner().await.unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = 'crm' AND c.relkind IN ('r', 'p', 'm')",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(tables.len() > 50, "{tables:?}");
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("SELECT t::text FROM {table} AS t WHERE t::text ILIKE '%' || $1 || '%'");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(text)
            .fetch_all(&mut owner)
            .await
            .unwrap();
        found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    found
}

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

/// What the tenant adds: texts on contacts and leads, and an object whose records refer to contacts.
async fn custom(session: &Session, contact: Id<Contact>) {
    let text = || CustomFieldType::Text(Default::default());
    let lookup = || CustomFieldType::Lookup {
        object: name("contact"),
        cascade: false,
    };
    for (object, field, kind, indexed) in [
        ("contact", "nickname", text(), true),
        ("lead", "nickname", text(), false),
        ("viewing", "remark", text(), true),
        ("viewing", "buyer", lookup(), false),
        ("deal", "remark", text(), false),
    ] {
        let field = CustomField {
            is_indexed: indexed,
            is_searchable: kind == text(),
            ..CustomField::new(name(object), name(field), field, kind)
        };
        session
            .records::<CustomField>()
            .create(field)
            .await
            .unwrap();
    }
    let said = || json!({"nickname": format!("{MARKER}nick")});
    let set = |contact: &mut Contact| contact.custom_fields = said();
    session.contacts().update(contact, set).await.unwrap();
    let body = json!({"name": format!("{MARKER}view"), "tags": [format!("{MARKER}tag")], "custom_fields":
        {"buyer": contact, "remark": format!("{MARKER}remark"), "outcome": "liked"}});
    let viewing = session
        .object("viewing")
        .await
        .unwrap()
        .create(body.as_object().unwrap())
        .await;
    let told = json!({"said": format!("{MARKER}linked")});
    let linked = session.links("viewing_visitors");
    let viewing = viewing.unwrap().id();
    if linked.link_with(viewing, contact, told).await.is_err() {
        linked.link(viewing, contact).await.unwrap();
    }
}

/// Makes the contact one that everything concerns: once a lead, merged with another, in a series, a
/// participant by id and by address, in an export's query.
pub(crate) async fn concern_everything(world: &Populated, address: &str) -> Id<Contact> {
    let session = &world.session;
    let contact = world.contact;
    let email = EmailAddress::parse(address).unwrap();
    let set = |contact: &mut Contact| contact.email = Some(email.clone());
    session.contacts().update(contact, set).await.unwrap();
    custom(session, contact).await;
    let double = session
        .contacts()
        .create(Contact::named("H.", "Scorpio"))
        .await
        .unwrap();
    session
        .comments()
        .write(double.id, "A double")
        .await
        .unwrap();
    session
        .contacts()
        .merge_into(contact, &[double.id], &Choices::new(), Some("the same man"))
        .await
        .unwrap();
    session
        .leads()
        .convert(
            world.lead,
            ConversionPlan::new()
                .into_contact(contact)
                .without_account(),
        )
        .await
        .unwrap();
    let review = Activity::new(ActivityType::Meeting, "Review", contact, world.user);
    let weekly = Recurrence::parse("FREQ=WEEKLY;BYDAY=MO").unwrap();
    let monday = LocalDateTime::parse("2027-01-04T09:00").unwrap();
    let series = ActivitySeries::new(review, weekly, monday);
    session.activity_series().create(series).await.unwrap();
    let meeting = Activity {
        scheduled_at: Some("2100-01-01T10:00:00Z".parse().unwrap()),
        ..Activity::new(ActivityType::Meeting, "Kick off", contact, world.user)
    };
    let meeting = session.activities().create(meeting).await.unwrap();
    let guest = Invitee::External {
        email,
        name: "Hank himself".into(),
    };
    session
        .activities()
        .invite(meeting.id, guest, Some("guest"))
        .await
        .unwrap();
    let reminder = ActivityReminder {
        recipient_id: Some(world.user),
        ..ActivityReminder::new(meeting.id, ReminderType::Email, 30_u32)
    };
    session.reminders().create(reminder).await.unwrap();
    let export = ExportJob {
        query: json!({"filter": {"field": "email", "op": "eq", "value": address}}),
        ..ExportJob::new("contact", ExportFormat::Csv)
    };
    session.exports().create(export).await.unwrap();
    let now = session.engine().clock().now();
    let tried = AuthEvent {
        login: Some(address.to_owned()),
        ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, now)
    };
    session.security().record(tried).await.unwrap();
    lift_holds(session).await;
    contact
}

/// Lets nothing be held.
pub(crate) async fn lift_holds(session: &Session) {
    let holds = session.legal_holds().find(Find::new()).await.unwrap();
    for hold in holds.items {
        let lift = |hold: &mut LegalHold| hold.is_active = false;
        session.legal_holds().update(hold.id, lift).await.unwrap();
    }
}

/// C-081: the marker test.
#[tokio::test]
async fn no_marker_is_left() {
    let (storage, database) = storage();
    let crm = Crm::builder(storage.clone()).object::<Property>().build();
    let world = populate(&crm, "acme").await;
    let session = &world.session;
    let address = format!("{MARKER}.hank@markers.example");
    let contact = concern_everything(&world, &address).await;

    // Somebody else, beside the person in a meeting and a relationship.
    let mut other = Contact::named("Keepme", "Person");
    other.email = Some(EmailAddress::parse("keepme@markers.example").unwrap());
    let other = session.contacts().create(other).await.unwrap().id;
    session
        .contacts()
        .relate(contact, other, RelationshipType::ReportsTo)
        .await
        .unwrap();
    session
        .comments()
        .write(other, "keepme: a comment")
        .await
        .unwrap();
    let call = Activity::new(ActivityType::Call, "keepme: a call", other, world.user);
    let call = session.activities().create(call).await.unwrap().id;
    session
        .activities()
        .invite(call, contact, Some("guest"))
        .await
        .unwrap();
    session
        .activities()
        .invite(call, other, Some("host"))
        .await
        .unwrap();
    let others = || async {
        let mut rows = Vec::new();
        for (object, id) in [("contact", other.uuid()), ("activity", call.uuid())] {
            let row = session.object(object).await.unwrap().get(id).await.unwrap();
            rows.push(serde_json::to_string(&row.to_json()).unwrap());
            for event in session
                .audit()
                .trail(EntityRef::new(object, id))
                .await
                .unwrap()
            {
                rows.push(event.changes.to_json().to_string());
            }
        }
        for comment in session.comments().of(other, None).await.unwrap().items {
            rows.push(comment.body.clone());
        }
        rows
    };
    let before = others().await;

    // An import that changed the contact.
    let import = rows_of(session, "import_row").await.remove(0);
    let mut planter = Planter {
        storage: &storage,
        session,
        count: 0,
        all: BTreeMap::new(),
        planted: BTreeMap::new(),
        formed: BTreeSet::new(),
        objects: BTreeSet::new(),
        by_rules: 0,
    };
    let place = import.object().field_index("record_id").unwrap();
    assert!(
        planter
            .write_raw(&import, place, Value::Uuid(contact.uuid()))
            .await
    );

    let held = session.privacy().held_about(contact).await.unwrap();
    let mut closest = held.records.clone();
    // The person last, as rules forbid much to a lead that was converted, and by address is found.
    closest.reverse();
    for one in &closest {
        let work: UnitOfWork = session.begin();
        let row = work.row(&one.object, one.id).await.unwrap().unwrap();
        if !matches!(one.tie, Tie::Quote | Tie::Address) && row.id() != other.uuid() {
            let is_trace = one.tie == Tie::Trace;
            if is_trace && one.object.name() == "merge" {
                // What the merge kept holds what the double was called.
                assert!(row.get("loser_data").to_json().to_string().len() > 2);
            }
            planter.plant(&one.object, &row, &address).await;
        }
    }
    assert!(planter.by_rules > 60, "only {} by rules", planter.by_rules);
    for object in session.engine().registry().objects().values() {
        let is_known = CONCERN_NOBODY.contains(&object.name());
        let has_texts = object.own_fields().iter().any(|field| {
            matches!(
                field.field_type,
                FieldType::Text { .. } | FieldType::Json | FieldType::List
            ) && !field.read_only
        });
        let is_meant = !is_known && has_texts && object.scope() == ObjectScope::Tenant;
        let is_planted = planter.objects.contains(object.name());
        // These name an object, or a stage, and have no other text.
        let is_only_names = ["follower", "mention"].contains(&object.name());
        assert!(
            !is_meant || is_planted || is_only_names,
            "no marker in {}: does it concern a person?",
            object.name()
        );
    }
    // Rules of recurrences, local times and the like: forms that hold no words.
    let formed: Vec<&str> = planter.formed.iter().map(String::as_str).collect();
    for field in &formed {
        let forms = [
            "_e164",
            "recurrence",
            "starts_at",
            "excluded",
            "added",
            "ip_address",
            "points_given",
            "social_profiles",
        ];
        let is_form = forms.iter().any(|form| field.ends_with(form));
        assert!(is_form, "{field} refuses every text: {formed:?}");
    }

    // Everything that was planted is in what the person gets to read.
    let export = session
        .privacy()
        .access_export(contact)
        .await
        .unwrap()
        .to_json()
        .to_string();
    let missing: Vec<_> = planter
        .planted
        .iter()
        .filter(|(marker, (object, _))| {
            !export.contains(*marker) && !["import_row", "merge"].contains(&object.as_str())
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");

    let report = session
        .privacy()
        .erase(contact, Erasure::default())
        .await
        .unwrap();
    assert!(report.is_complete, "{report:?}");
    let left: Vec<_> = everything(&storage, session)
        .await
        .into_iter()
        .filter(|(_, text)| text.contains(MARKER) || text.contains("Scorpio"))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    if let Some(database) = &database {
        for text in [MARKER, "Scorpio"] {
            let left = tables_with(database, text).await;
            assert!(left.is_empty(), "{left:#?}");
        }
        assert!(!tables_with(database, "keepme").await.is_empty());
    }
    assert_eq!(others().await, before);
    assert_eq!(
        session.contacts().get(other).await.unwrap().name,
        PersonName::new("Keepme", "Person")
    );
    let kept: Json = json!(report.records.len());
    assert!(kept.as_u64().unwrap() > 10, "{report:?}");
    let again = session
        .privacy()
        .erase(contact, Erasure::default())
        .await
        .unwrap();
    assert!(
        again.is_complete && again.values == 0 && again.events == 0,
        "{again:?}"
    );
}
