//! C-036, C-095, C-164: what definitions cost where contacts are many. 2,000 contacts of two tenants,
//! or as many as `CRM_SCALE_CONTACTS` says; benches/README.md has the figures of 200,000.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test says what went wrong by stopping, and prints what was measured"
)]

use std::time::{Duration, Instant};

use crm_engine::PostgresStorage;
use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomValuesExt, IndexState, TextLimits,
};
use crm_engine::prelude::*;
use crm_engine::query::{Condition, Query};
use crm_engine::storage::Scope;
use crm_engine::value::ApiName;
use crm_test_postgres::Database;
use serde_json::{Map, Value as Json, json};
use sqlx::{Connection as _, PgConnection};

/// How many fields contacts have before the measured ones: few, unless figures are wanted.
fn fields() -> usize {
    match std::env::var_os("CRM_SCALE_CONTACTS") {
        Some(_) => 198,
        None => 38,
    }
}

fn contacts() -> i64 {
    let said = std::env::var("CRM_SCALE_CONTACTS").ok();
    said.map_or(2_000, |number| number.parse().unwrap())
}

fn text(api_name: &str) -> CustomField {
    CustomField::new(
        ApiName::parse("contact").unwrap(),
        ApiName::parse(api_name).unwrap(),
        api_name,
        CustomFieldType::Text(TextLimits::default()),
    )
}

async fn define(session: &Session, field: CustomField) -> (Id<CustomField>, Duration) {
    let begun = Instant::now();
    let field = session.records().create(field).await.unwrap();
    (field.id, begun.elapsed())
}

/// Copies the tenant's one contact, with a code of its own for each.
async fn multiply(owner: &mut PgConnection, tenant: uuid::Uuid, count: i64) {
    sqlx::query(
        "SELECT set_config('scale.count', $1, false), set_config('scale.tenant', $2, false)",
    )
    .bind(count.to_string())
    .bind(tenant.to_string())
    .execute(&mut *owner)
    .await
    .unwrap();
    sqlx::raw_sql(
        "DO $$ DECLARE own text; BEGIN \
           SELECT string_agg(quote_ident(column_name), ', ') INTO own \
           FROM information_schema.columns WHERE table_schema = 'crm' \
             AND table_name = 'contacts' AND is_generated = 'NEVER' \
             AND column_name NOT IN ('id', 'custom_fields'); \
           EXECUTE format('INSERT INTO crm.contacts (id, custom_fields, %1$s) \
             SELECT gen_random_uuid(), \
               jsonb_set(custom_fields, ''{code}'', to_jsonb(''C-'' || n)), %1$s \
             FROM (SELECT * FROM crm.contacts WHERE tenant_id = %2$L LIMIT 1) AS t \
             CROSS JOIN generate_series(1, %3$s) AS n', \
             own, current_setting('scale.tenant'), current_setting('scale.count')); \
         END $$",
    )
    .execute(owner)
    .await
    .unwrap();
}

async fn file_of_contacts(owner: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT pg_relation_filenode('crm.contacts')::bigint")
        .fetch_one(owner)
        .await
        .unwrap()
}

/// Every node of a plan.
fn nodes(plan: &Json, found: &mut Vec<Json>) {
    found.push(plan.clone());
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_leave_the_table_alone_and_filters_use_the_index() {
    let count = contacts();
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let storage = PostgresStorage::new(database.pool(6).await.unwrap());
    let crm = Crm::builder(storage.clone()).build();
    let mut owner = database.owner().await.unwrap();
    let mut sessions = Vec::new();
    for subdomain in ["acme", "other"] {
        let email = format!("ada@{subdomain}.example");
        let onboarding = Onboarding::new(subdomain, subdomain, email);
        let office = crm.onboard(onboarding).await.unwrap();
        let session = crm.session(office.tenant, Actor::User(office.admin));
        let custom: Map<String, Json> = (0..fields())
            .map(|number| (format!("field_{number}"), json!(format!("value {number}"))))
            .chain([("code".to_owned(), json!("C-0"))])
            .collect();
        let ada = Contact {
            custom_fields: Json::Object(custom),
            ..Contact::named("Ada", "Lovelace")
        };
        session.contacts().create(ada).await.unwrap();
        let copies = if sessions.is_empty() {
            count
        } else {
            count / 10
        };
        multiply(&mut owner, office.tenant.uuid(), copies).await;
        sessions.push((office, session));
    }
    sqlx::raw_sql("VACUUM ANALYZE crm.contacts")
        .execute(&mut owner)
        .await
        .unwrap();
    let (office, session) = &sessions[0];
    let begun = Instant::now();
    let mut work = session.begin();
    for number in 0..fields() {
        let field = text(&format!("field_{number}"));
        work.records().create(field).await.unwrap();
    }
    work.commit().await.unwrap();
    let batch = begun.elapsed();
    let file = file_of_contacts(&mut owner).await;

    // A field more, while somebody holds a lock that lets others only read: nothing waits.
    let mut holder = owner.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE crm.contacts IN EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let (_, plain) = define(session, text("plain")).await;
    holder.rollback().await.unwrap();
    // The next is indexed, over values that were there before; writers hold locks of their own.
    let mut holder = owner.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE crm.contacts IN SHARE ROW EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let indexed = |api_name: &str| CustomField {
        is_indexed: true,
        ..text(api_name)
    };
    // It is the last member that nobody defined: that none is left is found out, and kept.
    let (code, over_values) = define(session, indexed("code")).await;
    holder.rollback().await.unwrap();
    // So that from then on no record is read, though somebody keeps others from reading.
    let mut holder = owner.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE crm.contacts IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let (_, known) = define(session, text("known")).await;
    let (tier, without_values) = define(session, indexed("tier")).await;
    holder.rollback().await.unwrap();
    let state = async |field: Id<CustomField>| {
        let field = session.records::<CustomField>().get(field).await.unwrap();
        field.index_state
    };
    assert_eq!(state(code).await, IndexState::Building);
    assert_eq!(state(tier).await, IndexState::Ready);

    // Rows are built while others write.
    let filter = |code: &str| Filter::eq("custom_fields.code", code);
    let writer = {
        let session = session.clone();
        let find = Find::<Contact>::new().filter_by_name(filter("C-7"));
        let id = session.contacts().find(find).await.unwrap().items[0].id;
        async move {
            let mut slowest = Duration::ZERO;
            for number in 0..50 {
                let begun = Instant::now();
                let change = |contact: &mut Contact| contact.company = Some(number.to_string());
                session.contacts().update(id, change).await.unwrap();
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        }
    };
    let writer = tokio::spawn(writer);
    let begun = Instant::now();
    let rebuilt = session
        .custom_values()
        .rebuild(code, None, &())
        .await
        .unwrap();
    let building = begun.elapsed();
    let slowest = writer.await.unwrap();
    assert_eq!(rebuilt.rows, count.unsigned_abs() + 1);
    assert_eq!(state(code).await, IndexState::Ready);
    assert_eq!(file_of_contacts(&mut owner).await, file);

    sqlx::raw_sql("VACUUM ANALYZE crm.contacts, crm.custom_field_values")
        .execute(&mut owner)
        .await
        .unwrap();
    let registry = session.registry().await.unwrap();
    let object = registry.object("contact").unwrap();
    let condition = Condition::bind(&filter("C-1234"), &object, &registry).unwrap();
    let query = Query::new(&object, condition.and(Condition::not_deleted())).limit(50);
    let plan = storage
        .explain(&Scope::Tenant(office.tenant), &query)
        .await
        .unwrap();
    let mut all = Vec::new();
    nodes(&plan[0]["Plan"], &mut all);
    let is_read_whole = |node: &Json| node["Node Type"] == "Seq Scan";
    assert!(!all.iter().any(is_read_whole), "{plan:#}");
    let by_value = all.iter().filter_map(|node| node["Index Name"].as_str());
    let by_value = by_value.filter(|name| name.starts_with("custom_field_values_field_id_"));
    assert_eq!(by_value.count(), 1, "{plan:#}");
    let begun = Instant::now();
    let find = Find::<Contact>::new().filter_by_name(filter("C-1234"));
    assert_eq!(session.contacts().find(find).await.unwrap().items.len(), 1);
    println!(
        "{count} contacts; defined: {} fields over values {batch:?}, one more {plain:?}, an indexed one \
         over values {over_values:?}, after it one {known:?}, an indexed one {without_values:?}; rows \
         built in {building:?}, the slowest write meanwhile {slowest:?}; filter {:?}",
        fields(),
        begun.elapsed()
    );
    owner.close().await.unwrap();
}
