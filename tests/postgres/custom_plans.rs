//! C-034, C-095, C-136, C-164, R-073: the plans of what is asked about records of custom objects, their
//! references, links and figures, as the application role under row-level security, among the records
//! of many other custom objects and of another tenant. Looked at are the shape of the plans and the
//! rows that they touch; never time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::storage::{Call, Watch, Watched};
use std::sync::Mutex;

use async_trait::async_trait;
use crm_engine::PostgresStorage;
use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldType, CustomFieldsExt, CustomObject, CustomRelationship,
    IntegerLimits, LinksExt, RelationshipKind, linked_from, linked_to,
};
use crm_engine::prelude::*;
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{Scope, StorageError};
use crm_engine::value::ApiName;
use crm_test_postgres::Database;
use serde_json::{Value as Json, json};
use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

/// How many records each custom object gets.
const RECORDS: i32 = 3_000;

/// The custom objects of each tenant.
const OBJECTS: [&str; 6] = ["project", "phase", "site", "permit", "tool", "visit"];

/// What the plan of one question does.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// What is asked for.
    object: String,
    /// The tables that are read from end to end.
    scanned: Vec<String>,
    /// The indexes that are used.
    indexes: Vec<String>,
    /// How many rows are looked at, whether they are taken or not.
    rows: f64,
    whole: Json,
}

impl Plan {
    fn of(object: &ObjectRef, explained: Json) -> Self {
        let mut plan = Self {
            object: object.name().to_owned(),
            ..Self::default()
        };
        plan.add(&explained[0]["Plan"]);
        plan.whole = explained;
        plan
    }

    fn add(&mut self, node: &Json) {
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        let text = |name: &str| node[name].as_str().map(str::to_owned);
        let loops = number("Actual Loops");
        if node["Node Type"] == "Seq Scan" && loops > 0.0 {
            self.scanned.extend(text("Relation Name"));
        }
        self.indexes.extend(text("Index Name"));
        if node["Relation Name"].is_string() {
            let each = number("Actual Rows")
                + number("Rows Removed by Filter")
                + number("Rows Removed by Index Recheck");
            self.rows += each * loops;
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}

/// Keeps the plan of everything that the storage is asked.
#[derive(Debug)]
struct Explained {
    storage: PostgresStorage,
    seen: Mutex<Vec<Plan>>,
}

impl Explained {
    /// The plans since the last time.
    fn take(&self) -> Vec<Plan> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

#[async_trait]
impl Watch for Explained {
    async fn begins(&self, scope: &Scope, call: Call<'_>) -> std::result::Result<(), StorageError> {
        let (object, plan) = match call {
            Call::Select(query) => (&query.object, self.storage.explain(scope, query).await?),
            Call::Aggregate(query) => {
                let plan = self.storage.explain_aggregate(scope, query).await?;
                (&query.object, plan)
            }
            _ => return Ok(()),
        };
        self.seen.lock().unwrap().push(Plan::of(object, plan));
        Ok(())
    }
}

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

/// The definitions of a tenant: objects, a lookup of projects to accounts, the whole that phases are
/// parts of, and the contacts that take part in projects.
async fn define(session: &Session) {
    for object in OBJECTS {
        let object = CustomObject::new(name(object), object, format!("{object}s"));
        session.records().create(object).await.unwrap();
    }
    let relation = |from: &str, api_name: &str, to: &str, kind| {
        let cardinality = match kind {
            RelationshipKind::ManyToMany => Cardinality::ManyToMany,
            _ => Cardinality::ManyToOne,
        };
        CustomRelationship::new(name(api_name), name(from), name(to), kind, cardinality)
    };
    for relationship in [
        relation("project", "customer", "account", RelationshipKind::Lookup),
        relation(
            "phase",
            "of_project",
            "project",
            RelationshipKind::MasterDetail,
        ),
        relation(
            "project",
            "involved",
            "contact",
            RelationshipKind::ManyToMany,
        ),
    ] {
        session.records().create(relationship).await.unwrap();
    }
    let budget = CustomField {
        is_indexed: true,
        ..CustomField::new(
            name("project"),
            name("budget"),
            "Budget",
            CustomFieldType::Number(IntegerLimits::default()),
        )
    };
    session.records().create(budget).await.unwrap();
}

/// What the engine would write for the records of a tenant.
const FILL: &str = "
    CREATE TEMP TABLE account AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM crm.accounts
        WHERE tenant_id = current_setting('plans.tenant')::uuid;
    CREATE TEMP TABLE contact AS SELECT id, row_number() OVER (ORDER BY id) AS n FROM crm.contacts
        WHERE tenant_id = current_setting('plans.tenant')::uuid;
    CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS id, o.id AS object_id, o.api_name, n
        FROM crm.custom_objects AS o, generate_series(1, current_setting('plans.records')::int) AS n
        WHERE tenant_id = current_setting('plans.tenant')::uuid;
    INSERT INTO crm.custom_records (tenant_id, id, version, created_at, created_by, updated_at,
            updated_by, object_id, name, tags, custom_fields)
        SELECT current_setting('plans.tenant')::uuid, m.id, 1, now() - m.n * interval '1 minute',
            'system', now(), 'system', m.object_id, 'Record ' || md5(m.api_name || m.n), '{}',
            CASE m.api_name
                WHEN 'project' THEN jsonb_build_object('customer', a.id, 'budget', m.n)
                WHEN 'phase' THEN jsonb_build_object('of_project', p.id)
                ELSE '{}' END
        FROM made AS m
        JOIN account AS a ON a.n = 1 + m.n % 400
        JOIN made AS p ON p.api_name = 'project' AND p.n = m.n;
    INSERT INTO crm.custom_field_values (tenant_id, id, version, created_at, created_by, updated_at,
            updated_by, object, record_id, field_id, text_value, number_value,
            number_value_rounded, target_id)
        SELECT r.tenant_id, gen_random_uuid(), 1, now(), 'system', now(), 'system', f.object, r.id,
            f.id, r.value, r.number, r.number::float8, r.value::uuid
        FROM crm.custom_field_definitions AS f
        JOIN made AS m ON m.api_name = f.object
        JOIN LATERAL (SELECT r.tenant_id, r.id,
                CASE WHEN f.api_name <> 'budget' THEN custom_fields ->> f.api_name END AS value,
                CASE WHEN f.api_name = 'budget' THEN (custom_fields ->> 'budget')::numeric END AS number
            FROM crm.custom_records AS r WHERE r.tenant_id = f.tenant_id
                AND r.object_id = m.object_id AND r.id = m.id) AS r ON true
        WHERE f.tenant_id = current_setting('plans.tenant')::uuid;
    INSERT INTO crm.custom_links (tenant_id, id, version, created_at, created_by, updated_at,
            updated_by, relationship_id, from_id, to_id, data)
        SELECT r.tenant_id, gen_random_uuid(), 1, now(), 'system', now(), 'system', r.id, m.id, c.id,
            '{}'
        FROM crm.custom_relationships AS r
        JOIN made AS m ON m.api_name = 'project'
        CROSS JOIN generate_series(0, 2) AS k
        JOIN contact AS c ON c.n = 1 + (m.n + k * 7) % 400
        WHERE r.tenant_id = current_setting('plans.tenant')::uuid AND r.name = 'involved';
    DROP TABLE account, contact, made;
";

async fn fill(owner: &mut PgConnection, tenant: Uuid) {
    sqlx::query(
        "SELECT set_config('plans.tenant', $1, false), set_config('plans.records', $2, false)",
    )
    .bind(tenant.to_string())
    .bind(RECORDS.to_string())
    .execute(&mut *owner)
    .await
    .unwrap();
    owner.execute(FILL).await.unwrap();
    // Typed rows have ids that follow from their field and record.
    let rows: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
        "SELECT id, field_id, record_id FROM crm.custom_field_values WHERE tenant_id = $1",
    )
    .bind(tenant)
    .fetch_all(&mut *owner)
    .await
    .unwrap();
    let (ids, wanted): (Vec<Uuid>, Vec<Uuid>) = rows
        .into_iter()
        .map(|(id, field, record)| (id, Uuid::new_v5(&field, record.as_bytes())))
        .unzip();
    sqlx::query(
        "UPDATE crm.custom_field_values AS v SET id = n.wanted \
         FROM unnest($2::uuid[], $3::uuid[]) AS n(id, wanted) \
         WHERE v.tenant_id = $1 AND v.id = n.id",
    )
    .bind(tenant)
    .bind(ids)
    .bind(wanted)
    .execute(owner)
    .await
    .unwrap();
}

/// The tables of which no question reads all.
const LARGE: [&str; 5] = [
    "custom_records",
    "custom_links",
    "custom_field_values",
    "accounts",
    "contacts",
];

/// That a question reads no large table from end to end, looks at few rows, and uses an index whose
/// name begins so for what is asked of an object.
fn assert_served(what: &str, plans: &[Plan], wanted: (&str, &str), most: f64) {
    for plan in plans {
        let whole = plan.scanned.iter();
        let whole: Vec<&String> = whole
            .filter(|table| LARGE.contains(&table.as_str()))
            .collect();
        assert!(whole.is_empty(), "{what} scans {whole:?}: {:#}", plan.whole);
        let rows = plan.rows;
        assert!(rows <= most, "{what} looks at {rows}: {:#}", plan.whole);
    }
    let (object, index) = wanted;
    let own: Vec<&Plan> = plans.iter().filter(|plan| plan.object == object).collect();
    let mut indexes = own.iter().flat_map(|plan| &plan.indexes);
    let is_used = indexes.any(|name| name.starts_with(index));
    assert!(is_used, "{what} uses no {index}: {own:#?}");
}

async fn find(session: &Session, object: &str, find: Json) -> Vec<Row> {
    let find: Find<()> = serde_json::from_value(find).unwrap();
    let records = session.object(object).await.unwrap();
    records.find(&find).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_records_references_links_and_figures_are_served_by_indexes() {
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let storage = PostgresStorage::new(database.pool(4).await.unwrap());
    let explained = Explained {
        storage: storage.clone(),
        seen: Mutex::default(),
    };
    let storage = Watched::over(storage, explained);
    let explained = &storage.watch;
    let crm = Crm::builder(storage.clone()).build();
    let mut owner = database.owner().await.unwrap();
    let mut sessions = Vec::new();
    for subdomain in ["acme", "other"] {
        let email = format!("ada@{subdomain}.example");
        let office = crm
            .onboard(Onboarding::new(subdomain, subdomain, email))
            .await;
        let office = office.unwrap();
        let session = crm.session(office.tenant, Actor::User(office.admin));
        define(&session).await;
        let accounts = (0..RECORDS).map(|number| Account::new(format!("Account {number}")));
        session
            .accounts()
            .create_all(accounts.collect())
            .await
            .unwrap();
        let contacts = (0..RECORDS).map(|number| Contact::named("Ada", format!("Number {number}")));
        session
            .contacts()
            .create_all(contacts.collect())
            .await
            .unwrap();
        fill(&mut owner, office.tenant.uuid()).await;
        sessions.push(session);
    }
    owner.execute("VACUUM ANALYZE").await.unwrap();
    let session = &sessions[0];
    let first = |rows: &[Row]| rows[0].id();

    // A page of one object among many.
    for (sort, index) in [
        ("name", "custom_records_object_id_name_"),
        ("-name", "custom_records_object_id_name_"),
        ("created_at", "custom_records_object_id_created_at_"),
        ("-created_at", "custom_records_object_id_created_at_"),
    ] {
        explained.take();
        let page = find(session, "site", json!({"sort": [sort], "limit": 20})).await;
        assert_eq!(page.len(), 20);
        let plans = explained.take();
        assert_served(sort, &plans, ("site", index), 50.0);
    }

    // What leads to a record by a reference, and what that fulfils.
    let accounts = find(session, "account", json!({"limit": 5})).await;
    let projects = find(session, "project", json!({"limit": 5})).await;
    let project_name = projects[0].get("name").as_text().unwrap().to_owned();
    let eq = |field: &str, value: &dyn ToString| json!({"field": field, "op": "eq", "value": value.to_string()});
    let by_value = "custom_field_values_field_id_text_value_";
    explained.take();
    let of_account = json!({"filter": eq("customer", &first(&accounts)), "limit": 50});
    let led = find(session, "project", of_account).await;
    assert!((5..20).contains(&led.len()), "{}", led.len());
    let plans = explained.take();
    assert_served("a reference", &plans, ("project", by_value), 200.0);
    let of_project = json!({"filter": eq("of_project", &first(&projects)), "limit": 50});
    assert_eq!(find(session, "phase", of_project).await.len(), 1);
    let plans = explained.take();
    assert_served("the parts of a whole", &plans, ("phase", by_value), 50.0);
    let any = json!({"any": "project", "by": "customer", "where": eq("name", &project_name)});
    let found = find(session, "account", json!({"filter": any, "limit": 50})).await;
    assert_eq!(found.len(), 1);
    let plans = explained.take();
    let by_name = "custom_records_object_id_name_";
    assert_served(
        "back through a reference",
        &plans,
        ("account", by_name),
        50.0,
    );
    let name = accounts[0].get("name").as_text().unwrap();
    let has = json!({"field": "customer", "has": eq("name", &name)});
    let through = find(session, "project", json!({"filter": has, "limit": 50})).await;
    assert_eq!(through.len(), led.len());
    let plans = explained.take();
    let by_target = "custom_field_values_target_id_field_id_";
    assert_served("through a reference", &plans, ("project", by_target), 200.0);

    // Links, from both ends, and filters through them.
    let contacts = find(session, "contact", json!({"limit": 5})).await;
    let links = session.links("involved");
    explained.take();
    let from = links.from(first(&projects), &Find::new()).await.unwrap();
    assert_eq!(from.items.len(), 3);
    let by_from = "custom_links_relationship_id_from_id_";
    let plans = explained.take();
    assert_served("links from", &plans, ("involved", by_from), 50.0);
    let to = links
        .to(first(&contacts), &Find::new().limit(50))
        .await
        .unwrap();
    assert!((10..50).contains(&to.items.len()), "{}", to.items.len());
    let by_to = "custom_links_relationship_id_to_id_";
    let plans = explained.take();
    assert_served("links to", &plans, ("involved", by_to), 200.0);
    let is = |id: Uuid| Filter::eq("id", id.to_string());
    for (what, object, filter, index) in [
        (
            "linked to",
            "project",
            linked_to("involved", is(first(&contacts))),
            by_to,
        ),
        (
            "linked from",
            "contact",
            linked_from("involved", is(first(&projects))),
            by_from,
        ),
    ] {
        let request = json!({"filter": filter, "limit": 50});
        explained.take();
        assert!(!find(session, object, request).await.is_empty(), "{what}");
        let plans = explained.take();
        assert_served(what, &plans, (object, index), 400.0);
    }

    // The deletion of a record finds what leads to it; so does that of a whole.
    explained.take();
    session
        .accounts()
        .delete(Id::new(first(&accounts)))
        .await
        .unwrap();
    let plans = explained.take();
    assert_served("a deletion", &plans, ("custom_value", by_target), 200.0);
    let mut records = session.object("project").await.unwrap();
    records.delete(first(&projects)).await.unwrap();
    let plans = explained.take();
    assert_served(
        "that of a whole",
        &plans,
        ("custom_value", by_target),
        200.0,
    );
    let of_project = json!({"filter": eq("of_project", &first(&projects))});
    assert!(find(session, "phase", of_project).await.is_empty());

    // Figures of use: values are counted by the index of their field.
    session.custom_fields().record_usage().await.unwrap();
    explained.take();
    let usage = session.custom_fields().usage("phase").await.unwrap();
    assert_eq!((usage.len(), usage[0].records), (1, 2_999));
    assert!(usage[0].figures.usage_count >= 2);
    let plans = explained.take();
    let count = f64::from(RECORDS) * 1.1;
    assert_served(
        "figures",
        &plans,
        ("custom_value", "custom_field_values_field_id_"),
        count,
    );
}
