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
const SMALL: Uuid = Uuid::from_u128(0x3);

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
    owner.execute("SELECT pg_advisory_lock(73042002)").await?;
    owner
        .execute("CREATE TABLE IF NOT EXISTS public.seed (text text)")
        .await?;
    let is_there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM public.seed WHERE text = $1)")
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
    node[name]
        .as_f64()
        .map_or(0, |number| number.round() as u64)
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
        all.push(Family {
            rule,
            object,
            filter,
            sort,
            index,
        });
    };
    // Foreign keys
    for (object, field, kind, number, index) in [
        ("user", "manager_id", 2, 0, "users_manager_id_idx"),
        (
            "account",
            "parent_account_id",
            5,
            160,
            "accounts_parent_account_id_idx",
        ),
        (
            "account",
            "owner_id",
            2,
            160,
            "accounts_owner_id_status_idx",
        ),
        (
            "account",
            "account_manager_id",
            2,
            160,
            "accounts_account_manager_id_idx",
        ),
        (
            "contact",
            "account_id",
            5,
            160,
            "contacts_account_id_status_idx",
        ),
        (
            "contact",
            "owner_id",
            2,
            160,
            "contacts_owner_id_created_at_idx",
        ),
        (
            "deal",
            "pipeline_id",
            3,
            0,
            "deals_pipeline_id_stage_id_idx",
        ),
        ("deal", "stage_id", 4, 160, "deals_stage_id_idx"),
        ("deal", "account_id", 5, 160, "deals_account_id_idx"),
        ("deal", "contact_id", 1, 160, "deals_contact_id_idx"),
        ("deal", "owner_id", 2, 160, "deals_owner_id_status_idx"),
        ("deal", "team_id", 7, 160, "deals_team_id_idx"),
        (
            "deal_stage_change",
            "deal_id",
            8,
            160,
            "deal_stage_history_deal_id_idx",
        ),
        ("lead", "owner_id", 2, 160, "leads_owner_id_status_idx"),
        (
            "lead",
            "converted_contact_id",
            1,
            160,
            "leads_converted_contact_id_idx",
        ),
        (
            "lead",
            "converted_account_id",
            5,
            160,
            "leads_converted_account_id_idx",
        ),
        (
            "lead",
            "converted_deal_id",
            8,
            160,
            "leads_converted_deal_id_idx",
        ),
        (
            "activity",
            "account_id",
            5,
            160,
            "activities_account_id_idx",
        ),
        (
            "activity",
            "contact_id",
            1,
            160,
            "activities_contact_id_idx",
        ),
        ("activity", "deal_id", 8, 160, "activities_deal_id_idx"),
        ("activity", "lead_id", 9, 160, "activities_lead_id_idx"),
        (
            "activity",
            "owner_id",
            2,
            160,
            "activities_owner_id_status_idx",
        ),
        (
            "activity",
            "assigned_to",
            2,
            160,
            "activities_assigned_to_due_date_idx",
        ),
    ] {
        add("C-129", object, eq(field, key(kind, number)), &[], index);
    }
    let recent = "2025-10-20T00:00:00Z";
    let mar = "2025-03-25T00:00:00Z";
    for (object, table, after) in [
        ("account", "accounts", "2025-01-27T00:00:00Z"),
        ("contact", "contacts", recent),
        ("deal", "deals", "2025-07-20T00:00:00Z"),
        ("lead", "leads", "2025-03-10T00:00:00Z"),
        ("activity", "activities", mar),
    ] {
        add(
            "C-130",
            object,
            ge("created_at", after),
            &["-created_at"],
            "created_at",
        );
        add(
            "C-130",
            object,
            json!({"and": []}),
            &["-created_at"],
            "created_at",
        );
        add(
            "C-130",
            object,
            json!({"and": []}),
            &["-updated_at"],
            "updated_at",
        );
        if !["deals", "activities"].contains(&table) {
            add(
                "C-130",
                object,
                json!({"and": []}),
                &["-last_activity_at"],
                "last_activity_at",
            );
            add(
                "C-130",
                object,
                json!({"and": []}),
                &["last_activity_at"],
                "last_activity_at",
            );
            add(
                "C-130",
                object,
                ge("last_activity_at", after),
                &["-last_activity_at"],
                "last_activity_at",
            );
        }
    }
    add(
        "C-131",
        "contact",
        eq("email", "p160@MAIL.example"),
        &[],
        "",
    );
    add(
        "C-131",
        "contact",
        json!({"field":"email","op":"in","value":["p160@MAIL.example", "p320@mail.example"]}),
        &[],
        "",
    );
    add(
        "C-131",
        "contact",
        json!({"field":"email","op":"starts_with","value":"p160"}),
        &[],
        "",
    );
    add(
        "C-131",
        "account",
        eq("email", "office160@ACCOUNT.example"),
        &[],
        "",
    );
    add("C-131", "lead", eq("email", "l160@MAIL.example"), &[], "");
    add("C-131", "user", eq("email", "U160@t.example"), &[], "");
    add(
        "C-131",
        "contact",
        eq("phone_e164", "+49301000160"),
        &[],
        "",
    );
    add(
        "C-131",
        "contact",
        eq("mobile_e164", "+4915115000160"),
        &[],
        "",
    );
    add("C-131", "lead", eq("phone_e164", "+49301000160"), &[], "");
    add("C-131", "lead", eq("company", "Company 7"), &[], "");
    add("C-131", "contact", eq("company", "Company 7"), &[], "");
    add("C-131", "contact", eq("last_name", "Afl"), &[], "");
    add("C-131", "account", eq("name", "Afl Ltd"), &[], "");
    add(
        "C-131",
        "account",
        json!({"field":"name","op":"starts_with","value":"afl"}),
        &[],
        "",
    );
    add("C-132", "contact", eq("status", "deceased"), &[], "");
    add("C-132", "contact", eq("status", "inactive"), &[], "");
    add("C-132", "contact", eq("lead_source", "fair"), &[], "");
    add("C-132", "contact", ge("lead_score", 100), &[], "");
    add("C-132", "deal", eq("status", "open"), &[], "");
    add("C-132", "deal", eq("lead_source", "fair"), &[], "");
    add("C-132", "lead", eq("status", "qualified"), &[], "");
    add(
        "C-132",
        "lead",
        eq("qualification_status", "sales_accepted"),
        &[],
        "",
    );
    add("C-132", "lead", eq("lead_source", "fair"), &[], "");
    add("C-132", "lead", eq("industry", "industry 3"), &[], "");
    add("C-132", "lead", eq("campaign_id", key(10, 160)), &[], "");
    add("C-132", "lead", ge("lead_score", 100), &["-lead_score"], "");
    add(
        "C-132",
        "account",
        eq("account_type", "competitor"),
        &[],
        "",
    );
    add("C-132", "account", eq("industry", "industry 3"), &[], "");
    add("C-132", "account", eq("territory_id", key(6, 160)), &[], "");
    add("C-132", "account", eq("status", "inactive"), &[], "");
    add("C-132", "account", ge("health_score", 100), &[], "");
    add("C-132", "activity", eq("activity_type", "demo"), &[], "");
    add("C-132", "activity", eq("status", "no_show"), &[], "");
    add("C-133", "deal", ge("amount", "999000"), &["-amount"], "");
    add("C-133", "deal", json!({"and": []}), &["-amount"], "");
    add(
        "C-133",
        "deal",
        json!({"field":"expected_close_date","op":"between","value":["2026-11-01","2026-11-03"]}),
        &["expected_close_date"],
        "",
    );
    add(
        "C-133",
        "deal",
        json!({"field":"actual_close_date","op":"between","value":["2025-03-01","2025-03-03"]}),
        &["actual_close_date"],
        "",
    );
    add(
        "C-134",
        "deal",
        json!({"and":[eq("owner_id", key(2,0)), eq("status","open")]}),
        &[],
        "",
    );
    add(
        "C-134",
        "lead",
        json!({"and":[eq("owner_id", key(2,0)), eq("status","qualified")]}),
        &[],
        "",
    );
    add(
        "C-134",
        "account",
        json!({"and":[eq("owner_id", key(2,0)), eq("status","inactive")]}),
        &[],
        "",
    );
    add(
        "C-134",
        "activity",
        json!({"and":[eq("owner_id", key(2,0)), eq("status","planned")]}),
        &[],
        "",
    );
    add(
        "C-134",
        "deal",
        json!({"and":[eq("pipeline_id", key(3,0)), eq("stage_id",key(4,160))]}),
        &["-updated_at"],
        "",
    );
    add(
        "C-134",
        "deal",
        json!({"and":[eq("status", "open"), json!({"field":"expected_close_date","op":"lte","value":"2025-02-01"})]}),
        &["expected_close_date"],
        "",
    );
    add(
        "C-134",
        "lead",
        json!({"and":[eq("status", "qualified"), ge("lead_score", 50)]}),
        &["-lead_score"],
        "",
    );
    add(
        "C-134",
        "contact",
        json!({"and":[eq("owner_id", key(2,0))]}),
        &["-created_at"],
        "",
    );
    add(
        "C-134",
        "contact",
        json!({"and":[eq("account_id", key(5,160)), eq("status", "active")]}),
        &[],
        "",
    );
    for (object) in ["account", "contact", "deal", "lead", "activity"] {
        add(
            "C-138",
            object,
            json!({"field":"tags","op":"any_of","value":["rare7"]}),
            &[],
            "",
        );
        add(
            "C-138",
            object,
            json!({"field":"tags","op":"all_of","value":["tag1","rare7"]}),
            &[],
            "",
        );
    }
    add(
        "C-139",
        "deal",
        json!({"and":[eq("owner_id", key(2,0)), eq("status","open")]}),
        &["expected_close_date"],
        "",
    );
    add(
        "C-139",
        "activity",
        json!({"and":[eq("assigned_to", key(2,0)), json!({"field":"status","op":"in","value":["planned","in_progress"]})]}),
        &["due_date"],
        "",
    );
    add(
        "C-139",
        "activity",
        json!({"and":[json!({"field":"due_date","op":"lt","value":"2025-01-20T00:00:00Z"}), json!({"field":"status","op":"in","value":["planned","in_progress"]})]}),
        &["due_date"],
        "",
    );
    add(
        "C-139",
        "activity",
        json!({"and":[json!({"field":"due_date","op":"lt","value":"2025-01-20T00:00:00Z"}), eq("status","planned")]}),
        &["due_date"],
        "",
    );
    add(
        "C-139",
        "lead",
        json!({"field":"converted_at","op":"is_null"}),
        &["-lead_score"],
        "",
    );
    add(
        "C-139",
        "lead",
        json!({"and":[eq("owner_id", key(2,0)), json!({"field":"converted_at","op":"is_null"})]}),
        &["-lead_score"],
        "",
    );
    add(
        "C-139",
        "contact",
        json!({"and":[eq("status","active"), eq("owner_id", key(2,0))]}),
        &["-last_activity_at"],
        "",
    );
    add(
        "C-139",
        "contact",
        json!({"and":[eq("status","active")]}),
        &["-created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        json!({"and":[]}),
        &["-created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        ge("created_at", mar),
        &["created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        eq("record_id", key(1, 160)),
        &["record_version"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        eq("record_id", key(1, 160)),
        &["-created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        eq("created_by_id", key(2, 160)),
        &["-created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        eq("created_by_id", key(2, 0)),
        &["-created_at"],
        "",
    );
    add(
        "C-141",
        "audit_event",
        eq("commit_id", key(14, 160)),
        &[],
        "",
    );
    add("C-141", "audit_event", eq("id", key(13, 160)), &[], "");
    all
}

/// The place in a list at which its thousandth page of 50 begins.
const DEEP: i64 = 49_950;

impl Asker {
    /// The blocks that the first page of a list costs, and the one behind the row number `place`.
    async fn pages(&self, object: &str, find: Json, place: i64, whose: &str) -> [Plan; 2] {
        let (mut query, _) = self.find(LARGE, object, find).await;
        let (_, first) = self.again(&query).await;
        let fields = query.object.fields();
        let order: Vec<String> = query
            .sort
            .iter()
            .map(|key| {
                let down = if key.descending { " DESC" } else { "" };
                format!("{}{down}", fields[key.index].name)
            })
            .collect();
        let row = format!(
            "SELECT id FROM crm.{} WHERE tenant_id = $1 AND deleted_at IS NULL \
             AND archived_at IS NULL AND {whose} ORDER BY {} OFFSET $2 LIMIT 1",
            query.object.table(),
            order.join(", ")
        );
        let mut owner = self.database.owner().await.expect("the owner's connection");
        let id: Uuid = sqlx::query_scalar(trusted(row))
            .bind(LARGE)
            .bind(place - 1)
            .fetch_one(&mut owner)
            .await
            .expect("a list that is long enough");
        let scope = Scope::Tenant(Id::new(LARGE));
        let storage = &self.explained.storage;
        let row = storage
            .get(&scope, &query.object, &[id])
            .await
            .expect("a row");
        let position = query
            .sort
            .iter()
            .map(|key| row[0].value(key.index).into_owned());
        query.after = Some(position.collect());
        let (_, deep) = self.again(&query).await;
        [first, deep]
    }

    /// The plan of a query that ran before, so that nothing is done for the first time.
    async fn again(&self, query: &Query) -> (Query, Plan) {
        let scope = Scope::Tenant(Id::new(LARGE));
        let storage = &self.explained.storage;
        storage.explain(&scope, query).await.expect("a plan");
        let plan = storage.explain(&scope, query).await.expect("a plan");
        (query.clone(), Plan::of(&plan))
    }
}

#[allow(
    clippy::disallowed_types,
    reason = "statements of tests, made of constants and the schema"
)]
fn trusted(text: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(text)
}

#[tokio::test]
async fn explore_pages() {
    let asker = Asker::new().await;
    let mine = eq("owner_id", key(2, 0));
    let whose = format!("owner_id = '{}'", key(2, 0));
    for (object, find, place, whose) in [
        (
            "contact",
            json!({"filter": mine, "sort": ["-created_at"]}),
            DEEP,
            whose.as_str(),
        ),
        ("contact", json!({"sort": ["-created_at"]}), DEEP, "true"),
        ("contact", json!({"sort": ["-created_at"]}), 40_000, "true"),
        ("contact", json!({"sort": ["created_at"]}), DEEP, "true"),
        ("contact", json!({"sort": []}), DEEP, "true"),
        ("contact", json!({"sort": ["last_name"]}), DEEP, "true"),
        ("contact", json!({"sort": ["-last_name"]}), DEEP, "true"),
        (
            "contact",
            json!({"sort": ["last_name", "first_name"]}),
            DEEP,
            "true",
        ),
        (
            "contact",
            json!({"sort": ["last_name", "-created_at"]}),
            DEEP,
            "true",
        ),
        (
            "contact",
            json!({"sort": ["-last_activity_at"]}),
            DEEP,
            "true",
        ),
        (
            "contact",
            json!({"sort": ["last_activity_at"]}),
            DEEP,
            "true",
        ),
        (
            "deal",
            json!({"sort": ["expected_close_date"]}),
            20_000,
            "true",
        ),
        (
            "deal",
            json!({"sort": ["expected_close_date"]}),
            32_600,
            "true",
        ),
        (
            "deal",
            json!({"sort": ["expected_close_date"]}),
            DEEP,
            "true",
        ),
        (
            "deal",
            json!({"sort": ["-expected_close_date"]}),
            DEEP,
            "true",
        ),
        ("deal", json!({"sort": ["-amount"]}), DEEP, "true"),
        ("deal", json!({"sort": ["amount"]}), DEEP, "true"),
        (
            "contact",
            json!({"sort": ["status", "-created_at"]}),
            DEEP,
            "true",
        ),
    ] {
        let sort = find["sort"].to_string();
        let [first, deep] = asker.pages(object, find, place, whose).await;
        println!(
            "PAGE {object} {sort} {place} {whose}: {} rows {} blocks {:?} -> {} rows {} blocks {:?} {:?}",
            first.rows,
            first.blocks,
            first.indexes,
            deep.rows,
            deep.blocks,
            deep.indexes,
            deep.nodes
        );
    }
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
                family.rule,
                family.object,
                family.filter,
                family.sort,
                list.indexes,
                list.rows,
                list.blocks,
                list.scanned,
                count.indexes,
                count.rows,
                count.blocks,
                count.scanned,
            );
        }
    }
}
