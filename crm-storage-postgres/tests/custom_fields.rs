//! Indexed custom fields: filters narrow by the typed rows, and find what they find without.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::sync::Arc;

use chrono::DateTime;
use crm_core::error::Faults;
use crm_core::query::{Condition, Filter, Query};
use crm_core::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, FieldSchema, FieldType, Meta,
    ObjectRef, ObjectSchema, Registry, Row, TypedValue, Value, typed_values,
};
use crm_core::storage::{Change, ChangeSet, Scope, Storage};
use crm_core::{Actor, Id, Stamp};
use crm_storage_postgres::PostgresStorage;
use crm_test_postgres::Database;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<Json> {
        None
    }
}

fn gadget() -> ObjectRef {
    ObjectSchema::builder("gadget", "gadgets")
        .field(FieldSchema::new("custom_fields", FieldType::Json))
        .build()
}

/// The object of the typed values, where the engine has none of that name.
fn stand_in() -> ObjectRef {
    let text = || FieldType::text(255);
    let number = FieldType::decimal().with_digits(28, 10);
    ObjectSchema::builder(typed_values::OBJECT, "custom_field_values")
        .field(FieldSchema::new("object", text()))
        .field(FieldSchema::new(typed_values::RECORD, FieldType::Uuid))
        .field(FieldSchema::new(typed_values::FIELD, FieldType::Uuid))
        .field(FieldSchema::new(typed_values::TEXT, text()))
        .field(FieldSchema::new(typed_values::NUMBER, number))
        .unique(&[typed_values::RECORD, typed_values::FIELD], false)
        .index(&[typed_values::FIELD, typed_values::TEXT])
        .index(&[typed_values::FIELD, typed_values::NUMBER])
        .build()
}

const FIELDS: [(&str, FieldType); 6] = [
    ("tier", FieldType::text(1_000)),
    ("Name", FieldType::text(1_000)),
    ("size", FieldType::decimal()),
    ("made", FieldType::Date),
    ("seen", FieldType::Timestamp),
    ("flag", FieldType::Boolean),
];

fn described(indexed: bool) -> ObjectRef {
    let fields = FIELDS.into_iter().enumerate();
    let fields = fields.map(|(number, (name, field_type))| {
        let mut field = FieldSchema::new(name.to_lowercase(), field_type);
        field.ignore_case = name == "Name";
        field.indexed = indexed;
        CustomFieldSchema {
            id: Uuid::from_u128(number as u128 + 1),
            key: format!("k_{name}").into(),
            former_names: Vec::new(),
            field,
            unique: false,
            options: Vec::new(),
            currency: None,
            active: true,
            search_complete: true,
        }
    });
    gadget().with_custom_fields(CustomFields::new(fields.collect(), Arc::new(Anything)))
}

struct World {
    storage: PostgresStorage,
    database: Database,
    scope: Scope,
    tenant: Uuid,
}

async fn world(name: &str) -> World {
    let own = crm_storage_postgres::objects();
    let own = own
        .iter()
        .any(|object| object.name() == typed_values::OBJECT);
    let objects: Vec<ObjectRef> = match own {
        true => vec![gadget()],
        false => vec![gadget(), stand_in()],
    };
    let database = Database::shared(name, &objects)
        .await
        .expect("the tests need PostgreSQL");
    let pool = database.pool(3).await.expect("a pool");
    let builder = PostgresStorage::builder();
    let builder = objects
        .iter()
        .fold(builder, |builder, object| builder.named_object(object));
    let storage = builder.build(pool);
    let tenant: Uuid = sqlx::query_scalar("SELECT gen_random_uuid()")
        .fetch_one(storage.pool())
        .await
        .expect("an id");
    World {
        storage,
        database,
        scope: Scope::Tenant(Id::new(tenant)),
        tenant,
    }
}

async fn owner(database: &Database) -> PgConnection {
    let mut owner = database.owner().await.expect("a connection");
    // Typed values refer to definitions, which these tests do without.
    owner
        .execute("SET session_replication_role = replica")
        .await
        .expect("a setting");
    owner
}

impl World {
    async fn insert(&self, rows: &[Row]) {
        let changes = rows.iter().map(|row| Change::Insert { row: row.clone() });
        let changes = ChangeSet::new(
            Uuid::nil(),
            DateTime::UNIX_EPOCH,
            changes.collect(),
            Vec::new(),
        );
        let committed = self.storage.commit(&self.scope, &changes).await;
        committed.expect("a commit");
        let object = described(true);
        let mut owner = owner(&self.database).await;
        for row in rows {
            for (number, custom) in object.custom_fields().iter().enumerate() {
                let place = object.fields().len() + number;
                let typed = object.read(&**row, place, |value| TypedValue::of(&value));
                let (text, number): (Option<String>, Option<Decimal>) = match typed {
                    Some(TypedValue::Text(text)) => (Some(text), None),
                    Some(TypedValue::Number(number)) => (None, Some(number)),
                    None => continue,
                };
                sqlx::query(
                    "INSERT INTO crm.custom_field_values (tenant_id, id, version, created_at, \
                     created_by, updated_at, updated_by, object, record_id, field_id, text_value, \
                     number_value, number_value_rounded) VALUES ($1, gen_random_uuid(), 1, now(), \
                     'system', now(), 'system', 'gadget', $2, $3, $4, $5, $5)",
                )
                .bind(self.tenant)
                .bind(row.id())
                .bind(custom.id)
                .bind(text)
                .bind(number)
                .execute(&mut owner)
                .await
                .expect("a typed row");
            }
        }
    }

    fn query(&self, filter: &Json, indexed: bool) -> Query {
        let filter: Filter = serde_json::from_value(filter.clone()).expect("a filter");
        let object = described(indexed);
        let condition = Condition::bind(&filter, &object, &Registry::default()).expect("it binds");
        Query::new(&object, condition)
    }

    /// The ids that a filter finds; the same with and without the index.
    async fn find(&self, filter: Json) -> Vec<u128> {
        let mut found = [Vec::new(), Vec::new()];
        for (indexed, found) in [true, false].into_iter().zip(&mut found) {
            let query = self.query(&filter, indexed);
            let rows = self
                .storage
                .select(&self.scope, &query)
                .await
                .expect("rows");
            *found = rows.iter().map(|row| row.id().as_u128()).collect();
        }
        let [found, scanned] = found;
        assert_eq!(found, scanned, "with and without the index: {filter}");
        found
    }
}

fn row(number: u128, custom_fields: Json) -> Row {
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let meta = Meta::first(Uuid::from_u128(number), stamp);
    gadget()
        .build(meta, vec![Value::Json(custom_fields)])
        .expect("a document fits")
}

fn eq(field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": "eq", "value": value.into()})
}

fn of(op: &str, field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": op, "value": value.into()})
}

#[tokio::test]
async fn found_by_every_kind_of_value() {
    let world = world("custom_fields").await;
    let long = "É".repeat(300);
    let rows = [
        row(
            1,
            json!({"k_tier": "gold", "k_Name": "Ann", "k_size": "1", "k_flag": true}),
        ),
        row(
            2,
            json!({"k_tier": "Gold", "k_Name": "ANN", "k_size": "2.5", "k_flag": false}),
        ),
        row(
            3,
            json!({"k_tier": true, "k_Name": 5, "k_size": "2.50", "k_made": "2026-01-31"}),
        ),
        row(
            4,
            json!({"k_tier": null, "k_size": "x", "k_made": "2026-02-30"}),
        ),
        row(
            5,
            json!({"k_tier": ["gold"], "k_size": 2.5, "k_made": "1969-12-31"}),
        ),
        row(
            6,
            json!({"k_tier": format!("{long}a"), "k_size": "123456789012345678901234567"}),
        ),
        row(
            7,
            json!({"k_tier": format!("{long}b"), "k_size": "-0.00000000001"}),
        ),
        row(
            8,
            json!({"k_seen": "2026-01-31T10:00:00.000001Z", "k_size": "0.000000000011"}),
        ),
        row(
            9,
            json!({"k_tier": "Gold' OR 1=1 --", "k_seen": "2026-01-31T10:00:00.000002Z"}),
        ),
    ];
    world.insert(&rows).await;
    let none: [u128; 0] = [];
    assert_eq!(world.find(eq("tier", "gold")).await, [1]);
    assert_eq!(
        world.find(of("ne", "tier", "gold")).await,
        [2, 3, 4, 5, 6, 7, 8, 9]
    );
    assert_eq!(world.find(eq("name", "aNN")).await, [1, 2]);
    assert_eq!(
        world
            .find(of("in", "tier", json!(["gold", "Gold", "x"])))
            .await,
        [1, 2]
    );
    assert_eq!(
        world.find(of("starts_with", "tier", "gOL")).await,
        [1, 2, 9]
    );
    // Longer than what is kept of a text.
    assert_eq!(world.find(eq("tier", format!("{long}b"))).await, [7]);
    assert_eq!(
        world
            .find(of("starts_with", "tier", format!("{long}A")))
            .await,
        [6]
    );
    assert_eq!(world.find(of("gt", "tier", format!("{long}a"))).await, [7]);
    assert_eq!(world.find(of("gt", "tier", "gold")).await, [6, 7]);
    assert_eq!(world.find(eq("size", "2.5")).await, [2, 3, 5]);
    assert_eq!(
        world.find(of("in", "size", json!([1, "2.5"]))).await,
        [1, 2, 3, 5]
    );
    assert_eq!(world.find(of("gt", "size", "2.5")).await, [6]);
    // More digits than are kept of a number.
    assert_eq!(world.find(of("lt", "size", 0)).await, [7]);
    assert_eq!(
        world.find(of("gt", "size", "0.00000000001")).await,
        [1, 2, 3, 5, 6, 8]
    );
    assert_eq!(
        world.find(eq("size", "123456789012345678901234567")).await,
        [6]
    );
    assert_eq!(
        world.find(eq("size", "123456789012345678901234568")).await,
        none
    );
    assert_eq!(world.find(of("gte", "made", "1969-12-31")).await, [3, 5]);
    assert_eq!(world.find(of("lt", "made", "1970-01-01")).await, [5]);
    assert_eq!(
        world.find(eq("seen", "2026-01-31T10:00:00.000001Z")).await,
        [8]
    );
    assert_eq!(
        world
            .find(of("gt", "seen", "2026-01-31T10:00:00.000001Z"))
            .await,
        [9]
    );
    assert_eq!(world.find(eq("flag", false)).await, [2]);
    assert_eq!(
        world.find(json!({"not": of("lt", "size", 2)})).await,
        [2, 3, 4, 5, 6, 9]
    );
}

/// Every node of a plan.
fn nodes(plan: &Json, found: &mut Vec<Json>) {
    found.push(plan.clone());
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

/// C-095, C-164: as the application role, under row-level security, among 30,000 records of two
/// tenants.
#[tokio::test]
async fn indexed_custom_fields_are_served_by_an_index() {
    let world = world("custom_fields_explain").await;
    let mut owner = owner(&world.database).await;
    let tenants = [world.tenant, Uuid::from_u128(world.tenant.as_u128() ^ 1)];
    for tenant in tenants {
        sqlx::query(
            "INSERT INTO crm.gadgets (tenant_id, id, version, created_at, created_by, updated_at, \
             updated_by, custom_fields) SELECT $1, gen_random_uuid(), 1, now(), 'system', now(), \
             'system', jsonb_build_object('k_tier', 'Value-' || n % 3000, 'k_size', n::text) \
             FROM generate_series(1, 15000) AS n",
        )
        .bind(tenant)
        .execute(&mut owner)
        .await
        .expect("rows");
        for (number, (name, _)) in FIELDS
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 2 == 0)
        {
            sqlx::query(
                "INSERT INTO crm.custom_field_values (tenant_id, id, version, created_at, \
                 created_by, updated_at, updated_by, object, record_id, field_id, text_value, \
                 number_value, number_value_rounded) SELECT tenant_id, gen_random_uuid(), 1, now(), \
                 'system', now(), 'system', 'gadget', id, $2, \
                 CASE WHEN $3 = 'k_tier' THEN lower(custom_fields ->> $3) END, \
                 CASE WHEN $3 = 'k_size' THEN (custom_fields ->> $3)::numeric END, \
                 CASE WHEN $3 = 'k_size' THEN (custom_fields ->> $3)::float8 END \
                 FROM crm.gadgets WHERE tenant_id = $1 AND custom_fields -> $3 IS NOT NULL",
            )
            .bind(tenant)
            .bind(Uuid::from_u128(number as u128 + 1))
            .bind(format!("k_{name}"))
            .execute(&mut owner)
            .await
            .expect("typed rows");
        }
    }
    owner
        .execute("VACUUM ANALYZE crm.gadgets, crm.custom_field_values")
        .await
        .expect("statistics");
    for (filter, count) in [
        (eq("tier", "Value-7"), 5),
        (of("in", "tier", json!(["Value-7", "Value-8"])), 10),
        (of("starts_with", "tier", "value-299"), 55),
        (eq("size", "77"), 1),
        (of("between", "size", json!(["100", "119.5"])), 20),
        (of("gt", "size", 14_990), 10),
    ] {
        let query = world.query(&filter, true).limit(50);
        let found = world
            .storage
            .select(&world.scope, &query)
            .await
            .expect("rows");
        assert_eq!(found.len(), count.min(50), "{filter}");
        let plan = world
            .storage
            .explain(&world.scope, &query)
            .await
            .expect("a plan");
        let mut all = Vec::new();
        nodes(&plan[0]["Plan"], &mut all);
        let is_read_whole = |node: &&Json| node["Node Type"] == "Seq Scan";
        assert!(
            !all.iter().any(|node| is_read_whole(&node)),
            "{filter}: {plan:#}"
        );
        let by_index = all.iter().filter_map(|node| node["Index Name"].as_str());
        let by_value: Vec<&str> = by_index
            .filter(|name| name.starts_with("custom_field_values_field_id_"))
            .collect();
        assert!(!by_value.is_empty(), "{filter}: {plan:#}");
        let touched: f64 = all
            .iter()
            .filter(|node| node["Relation Name"].is_string())
            .map(|node| {
                let each = node["Actual Rows"].as_f64().unwrap_or_default()
                    + node["Rows Removed by Filter"].as_f64().unwrap_or_default();
                each * node["Actual Loops"].as_f64().unwrap_or_default()
            })
            .sum();
        assert!(touched < 500.0, "{filter} touches {touched} rows: {plan:#}");
    }
}
