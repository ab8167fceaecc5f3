//! Which plans the server makes for what the storage sends: over 300,000 rows of several tenants, as
//! the application role, under row-level security.
//!
//! Looked at are the shape of the plans, and the rows and blocks that they touch; never time.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use crm_audit::AuditEvent;
use crm_core::query::{Aggregate, AggregateQuery, Find, Group, Query};
use crm_core::schema::{Entity as _, ObjectRef, Row, Value};
use crm_core::storage::{ChangeSet, Claim, Committed, Scope, Storage, StorageError};
use crm_core::{Actor, Engine, Id, Session};
use crm_storage_postgres::PostgresStorage;
use crm_test_postgres::Database;
use serde_json::{Value as Json, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// What fills the database.
const SEED: &str = include_str!("explain/seed.sql");

/// The tenant of five rows in eight.
const LARGE: Uuid = Uuid::from_u128(0);
/// A tenant of one row in a hundred and sixty.
const SMALL: Uuid = Uuid::from_u128(0x10);

/// The tables that are too large to be read from end to end.
const LARGE_TABLES: &[&str] = &["accounts", "contacts", "deals", "leads", "activities"];

/// The database with its rows, which the first test of all processes puts there.
async fn database() -> Database {
    let database = Database::shared("explain", &[])
        .await
        .expect("the tests need PostgreSQL");
    let mut owner = database.owner().await.expect("the owner's connection");
    seed(&mut owner).await.expect("the rows");
    owner.close().await.expect("the end");
    database
}

async fn seed(owner: &mut PgConnection) -> Result<(), sqlx::Error> {
    owner
        .execute("SELECT pg_advisory_lock(73042002)")
        .await?;
    owner
        .execute("CREATE TABLE IF NOT EXISTS public.seed (text text)")
        .await?;
    let is_there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM public.seed WHERE text = $1)")
        .bind(SEED)
        .fetch_one(&mut *owner)
        .await?;
    if is_there {
        return Ok(());
    }
    let first = chrono::NaiveDate::from_ymd_opt(2025, 1, 1).expect("a day");
    let _ = first;
    let mut all_or_nothing = owner.begin().await?;
    all_or_nothing
        .execute("TRUNCATE crm.tenants, crm.users, public.seed CASCADE")
        .await?;
    all_or_nothing.execute(SEED).await?;
    sqlx::query("INSERT INTO public.seed VALUES ($1)")
        .bind(SEED)
        .execute(&mut *all_or_nothing)
        .await?;
    all_or_nothing.commit().await?;
    owner.execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// The storage, which tells the plan of everything that the engine asks.
#[derive(Clone, Debug)]
struct Explained {
    storage: PostgresStorage,
    seen: Arc<Mutex<Vec<(Option<Query>, Plan)>>>,
}

#[async_trait]
impl Storage for Explained {
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, StorageError> {
        self.storage.get(scope, object, ids).await
    }

    async fn select(&self, scope: &Scope, query: &Query) -> Result<Vec<Row>, StorageError> {
        let plan = Plan::of(&self.storage.explain(scope, query).await?);
        let seen = (Some(query.clone()), plan);
        self.seen.lock().expect("a lock").push(seen);
        Ok(Vec::new())
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> Result<Vec<Group>, StorageError> {
        let plan = Plan::of(&self.storage.explain_aggregate(scope, query).await?);
        self.seen.lock().expect("a lock").push((None, plan));
        Ok(Vec::new())
    }

    async fn commit(&self, scope: &Scope, changes: &ChangeSet) -> Result<Committed, StorageError> {
        self.storage.commit(scope, changes).await
    }

    async fn claim(&self, scope: &Scope, claim: &Claim) -> Result<Vec<Row>, StorageError> {
        self.storage.claim(scope, claim).await
    }
}

/// What a plan does with tables.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// The tables that are read from end to end.
    scanned: Vec<String>,
    /// The indexes that are used.
    indexes: Vec<String>,
    /// The kinds of the nodes.
    nodes: Vec<String>,
    /// How many rows are looked at, whether they are taken or not.
    rows: u64,
    /// How many blocks are looked at, in memory or not.
    blocks: u64,
    text: String,
}

impl Plan {
    fn of(explained: &Json) -> Self {
        let root = &explained[0]["Plan"];
        let mut plan = Self {
            blocks: number(root, "Shared Hit Blocks") + number(root, "Shared Read Blocks"),
            ..Self::default()
        };
        plan.text = serde_json::to_string_pretty(explained).expect("a text");
        plan.add(root);
        plan
    }

    fn add(&mut self, node: &Json) {
        let text = |name: &str| node[name].as_str().map(str::to_owned);
        let kind = text("Node Type").unwrap_or_default();
        if kind == "Seq Scan" {
            self.scanned.extend(text("Relation Name"));
        }
        self.indexes.extend(text("Index Name"));
        if node["Relation Name"].is_string() {
            let each = number(node, "Actual Rows")
                + number(node, "Rows Removed by Filter")
                + number(node, "Rows Removed by Index Recheck");
            self.rows += each * number(node, "Actual Loops");
        }
        self.nodes.push(kind);
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}

fn number(node: &Json, name: &str) -> u64 {
    node[name].as_f64().map_or(0, |number| number.round() as u64)
}

/// Asks the engine, and tells what the server would do.
struct Asker {
    database: Database,
    explained: Explained,
    engine: Engine,
}

impl Asker {
    async fn new() -> Self {
        let database = database().await;
        let pool = database.pool(1).await.expect("a pool");
        let explained = Explained {
            storage: PostgresStorage::new(pool),
            seen: Arc::default(),
        };
        let engine = Engine::builder(explained.clone())
            .named_object(AuditEvent::schema())
            .build();
        Self {
            database,
            explained,
            engine,
        }
    }

    fn session(&self, tenant: Uuid) -> Session {
        self.engine.session(Id::new(tenant), Actor::System)
    }

    async fn find(&self, tenant: Uuid, object: &str, find: Json) -> (Query, Plan) {
        let find: Find<()> = serde_json::from_value(find).expect("a request");
        let session = self.session(tenant);
        let records = session.object(object).expect("an object");
        records.find(&find).await.expect("a page");
        let (query, plan) = self.last();
        (query.expect("a query"), plan)
    }

    async fn count(&self, tenant: Uuid, object: &str, filter: &Json) -> Plan {
        let count = json!({"filter": filter, "measures": ["count"]});
        let count: Aggregate<()> = serde_json::from_value(count).expect("a request");
        let session = self.session(tenant);
        let records = session.object(object).expect("an object");
        records.aggregate(&count).await.expect("groups");
        self.last().1
    }

    fn last(&self) -> (Option<Query>, Plan) {
        let mut seen = self.explained.seen.lock().expect("a lock");
        seen.pop().expect("something that was sent")
    }
}

fn eq(field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": "eq", "value": value.into()})
}

fn ge(field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": "gte", "value": value.into()})
}

/// A record of the large tenant: one of those that `key` of the seed makes.
fn key(kind: u128, number: u128) -> String {
    let id = (number << 96) | 0x7000_8000_0000_0000_0000 | kind;
    Uuid::from_u128(id).to_string()
}

struct Family {
    rule: &'static str,
    object: &'static str,
    filter: Json,
    sort: &'static [&'static str],
    /// The indexes of which one must serve.
    index: &'static str,
}

fn families() -> Vec<Family> {
    let mut all = Vec::new();
    let mut add = |rule, object, filter, sort, index| {
        all.push(Family { rule, object, filter, sort, index });
    };
    // Foreign keys
    for (object, field, kind, number, index) in [
        ("user", "manager_id", 2, 0, "users_manager_id_idx"),
        ("account", "parent_account_id", 5, 160, "accounts_parent_account_id_idx"),
        ("account", "owner_id", 2, 160, "accounts_owner_id_status_idx"),
        ("account", "account_manager_id", 2, 160, "accounts_account_manager_id_idx"),
        ("contact", "account_id", 5, 160, "contacts_account_id_status_idx"),
        ("contact", "owner_id", 2, 160, "contacts_owner_id_created_at_idx"),
        ("deal", "pipeline_id", 3, 0, "deals_pipeline_id_stage_id_idx"),
        ("deal", "stage_id", 4, 160, "deals_stage_id_idx"),
        ("deal", "account_id", 5, 160, "deals_account_id_idx"),
        ("deal", "contact_id", 1, 160, "deals_contact_id_idx"),
        ("deal", "owner_id", 2, 160, "deals_owner_id_status_idx"),
        ("deal", "team_id", 7, 160, "deals_team_id_idx"),
        ("deal_stage_change", "deal_id", 8, 160, "deal_stage_history_deal_id_idx"),
        ("lead", "owner_id", 2, 160, "leads_owner_id_status_idx"),
        ("lead", "converted_contact_id", 1, 160, "leads_converted_contact_id_idx"),
        ("lead", "converted_account_id", 5, 160, "leads_converted_account_id_idx"),
        ("lead", "converted_deal_id", 8, 160, "leads_converted_deal_id_idx"),
        ("activity", "account_id", 5, 160, "activities_account_id_idx"),
        ("activity", "contact_id", 1, 160, "activities_contact_id_idx"),
        ("activity", "deal_id", 8, 160, "activities_deal_id_idx"),
        ("activity", "lead_id", 9, 160, "activities_lead_id_idx"),
        ("activity", "owner_id", 2, 160, "activities_owner_id_status_idx"),
        ("activity", "assigned_to", 2, 160, "activities_assigned_to_due_date_idx"),
    ] {
        add("C-129", object, eq(field, key(kind, number)), &[], index);
    }
    all
}

#[tokio::test]
async fn explore() {
    let asker = Asker::new().await;
    for family in families() {
        for tenant in [LARGE, SMALL] {
            let list = json!({"filter": family.filter, "sort": family.sort});
            let (_, list) = asker.find(tenant, family.object, list).await;
            let count = asker.count(tenant, family.object, &family.filter).await;
            println!(
                "{} {} {} {:?} | LIST {:?} rows {} blocks {} {:?} | COUNT {:?} rows {} blocks {} {:?}",
                family.rule, family.object, family.filter["field"], family.sort,
                list.indexes, list.rows, list.blocks, list.scanned,
                count.indexes, count.rows, count.blocks, count.scanned,
            );
        }
    }
}
