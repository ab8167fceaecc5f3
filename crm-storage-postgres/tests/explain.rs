//! Which plans the server makes for what the storage sends: over 300,000 rows of several tenants, as
//! the application role, under row-level security.
//!
//! Looked at are the shape of the plans, and the rows and blocks that they touch; never time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::NaiveDate;
use crm_audit::AuditEvent;
use crm_core::query::{
    Aggregate, AggregateQuery, Comparison, Condition, FieldAt, Find, Group, Query,
};
use crm_core::schema::{Entity as _, ObjectRef, Row, Value};
use crm_core::storage::{
    ChangeSet, Claim, Committed, FeedPage, FeedPosition, FeedQuery, Scope, Storage, StorageError,
};
use crm_core::{Actor, Engine, Id, Session};
use crm_storage_postgres::{PostgresStorage, ensure_partitions};
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
const LARGE_TABLES: &[&str] = &[
    "accounts",
    "contacts",
    "deals",
    "leads",
    "activities",
    "duplicate_keys",
    "deal_states",
];

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
    // The rows of some months lie in partitions, those of the last in none of their own.
    let first = NaiveDate::from_ymd_opt(2025, 1, 1).expect("a day");
    ensure_partitions(&mut *owner, "crm", first, 3)
        .await
        .expect("partitions");
    let mut all_or_nothing = owner.begin().await?;
    all_or_nothing
        .execute(
            "TRUNCATE crm.tenants, crm.users, crm.pipelines, crm.audit_events, public.seed CASCADE",
        )
        .await?;
    // The references are right as the seed makes them; to check each costs a third of the time.
    all_or_nothing
        .execute("SET LOCAL session_replication_role = replica")
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

/// What was asked, unless it was a count, and the plan for it.
type Seen = (Option<Query>, Plan);

/// The storage, which tells the plan of everything that the engine asks.
#[derive(Clone, Debug)]
struct Explained {
    storage: PostgresStorage,
    seen: Arc<Mutex<Vec<Seen>>>,
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

    async fn feed(&self, scope: &Scope, query: &FeedQuery) -> Result<FeedPage, StorageError> {
        self.storage.feed(scope, query).await
    }

    async fn reseal(&self, scope: &Scope, rows: &[Row]) -> Result<usize, StorageError> {
        self.storage.reseal(scope, rows).await
    }
}

/// What a plan does with tables.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// The tables that are read from end to end.
    scanned: Vec<String>,
    /// The indexes that are used.
    indexes: Vec<String>,
    /// How many rows are looked at, whether they are taken or not.
    rows: u64,
    /// How many blocks are looked at, in memory or not.
    blocks: u64,
}

impl Plan {
    fn of(explained: &Json) -> Self {
        let root = &explained[0]["Plan"];
        let mut plan = Self {
            blocks: number(root, "Shared Hit Blocks") + number(root, "Shared Read Blocks"),
            ..Self::default()
        };
        plan.add(root);
        plan
    }

    fn add(&mut self, node: &Json) {
        let text = |name: &str| node[name].as_str().map(str::to_owned);
        let kind = text("Node Type").unwrap_or_default();
        if kind == "Seq Scan" && number(node, "Actual Loops") > 0 {
            self.scanned.extend(text("Relation Name"));
        }
        self.indexes.extend(text("Index Name"));
        if node["Relation Name"].is_string() {
            let each = number(node, "Actual Rows")
                + number(node, "Rows Removed by Filter")
                + number(node, "Rows Removed by Index Recheck");
            self.rows += each * number(node, "Actual Loops");
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.add(child);
        }
    }
}

impl Plan {
    /// Whether no large table is read from end to end.
    fn is_without_scan(&self) -> bool {
        let is_large = |table: &String| {
            LARGE_TABLES.contains(&table.as_str()) || table.starts_with("audit_events")
        };
        !self.scanned.iter().any(is_large)
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
        let records = session.object(object).await.expect("an object");
        records.find(&find).await.expect("a page");
        let (query, plan) = self.last();
        (query.expect("a query"), plan)
    }

    async fn count(&self, tenant: Uuid, object: &str, filter: &Json) -> Plan {
        let count = json!({"filter": filter, "measures": ["count"]});
        let count: Aggregate<()> = serde_json::from_value(count).expect("a request");
        let session = self.session(tenant);
        let records = session.object(object).await.expect("an object");
        records.aggregate(&count).await.expect("groups");
        self.last().1
    }

    fn last(&self) -> Seen {
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

fn gt(field: &str, value: impl Into<Json>) -> Json {
    json!({"field": field, "op": "gt", "value": value.into()})
}

/// The id of a record, as `key` of the seed makes it: of the large tenant where `number` is a
/// multiple of 160.
fn key(kind: u128, number: u128) -> String {
    let id = (number << 96) | 0x7000_8000_0000_0000_0000 | kind;
    Uuid::from_u128(id).to_string()
}

/// A kind of question that an index must answer.
struct Family {
    rule: &'static str,
    object: &'static str,
    filter: Json,
    sort: &'static [&'static str],
    /// The first columns, after the tenant, of the index that must serve; empty where several may.
    by: &'static str,
}

impl Family {
    /// Whether it is about all records, so that only the order can be answered by an index.
    fn is_of_all(&self) -> bool {
        self.filter == json!({"and": []})
    }
}

/// Open activities, as the partial indexes know them.
fn open() -> Json {
    json!({"field": "status", "op": "in", "value": ["planned", "in_progress"]})
}

fn between(field: &str, from: &str, to: &str) -> Json {
    json!({"field": field, "op": "between", "value": [from, to]})
}

fn lt(field: &str, value: &str) -> Json {
    json!({"field": field, "op": "lt", "value": value})
}

fn tagged(op: &str, tags: &[&str]) -> Json {
    json!({"field": "tags", "op": op, "value": tags})
}

fn all_of(filters: &[Json]) -> Json {
    json!({"and": filters})
}

/// C-129: what refers to a record is found by an index.
fn references() -> Vec<Family> {
    [
        ("user", "manager_id", key(2, 160)),
        ("team", "manager_id", key(2, 160)),
        ("account", "parent_account_id", key(5, 160)),
        ("account", "owner_id", key(2, 160)),
        ("account", "account_manager_id", key(2, 160)),
        ("account", "territory_id", key(6, 160)),
        ("contact", "account_id", key(5, 160)),
        ("contact", "owner_id", key(2, 160)),
        ("deal", "pipeline_id", key(3, 0)),
        ("deal", "stage_id", key(4, 160)),
        ("deal", "account_id", key(5, 160)),
        ("deal", "contact_id", key(1, 160)),
        ("deal", "owner_id", key(2, 160)),
        ("deal", "team_id", key(7, 160)),
        ("deal_stage_change", "deal_id", key(8, 160)),
        ("lead", "owner_id", key(2, 160)),
        ("lead", "converted_contact_id", key(1, 160)),
        ("lead", "converted_account_id", key(5, 160)),
        ("lead", "converted_deal_id", key(8, 160)),
        ("activity", "account_id", key(5, 160)),
        ("activity", "contact_id", key(1, 160)),
        ("activity", "deal_id", key(8, 160)),
        ("activity", "lead_id", key(9, 160)),
        ("activity", "owner_id", key(2, 160)),
        ("activity", "assigned_to", key(2, 160)),
    ]
    .into_iter()
    .map(|(object, field, id)| Family {
        rule: "C-129",
        object,
        filter: eq(field, id),
        sort: &[],
        by: field,
    })
    .collect()
}

/// C-130 to C-141, without those that are searched for texts or custom fields.
fn lists() -> Vec<Family> {
    let mut all = Vec::new();
    let mut add = |rule, object, filter, sort, by| {
        all.push(Family {
            rule,
            object,
            filter,
            sort,
            by,
        });
    };
    let none = || all_of(&[]);
    for (object, recent) in [
        ("account", "2025-01-27T00:00:00Z"),
        ("contact", "2025-10-20T00:00:00Z"),
        ("deal", "2025-07-20T00:00:00Z"),
        ("lead", "2025-03-10T00:00:00Z"),
        ("activity", "2025-03-25T00:00:00Z"),
    ] {
        add(
            "C-130",
            object,
            ge("created_at", recent),
            &["-created_at"],
            "created_at",
        );
        add("C-130", object, none(), &["-created_at"], "created_at");
        add(
            "C-130",
            object,
            ge("updated_at", recent),
            &["updated_at"],
            "updated_at",
        );
        add("C-130", object, none(), &["-updated_at"], "updated_at");
        if ["account", "contact", "lead"].contains(&object) {
            let by = "last_activity_at";
            add("C-130", object, ge(by, recent), &["-last_activity_at"], by);
            // Those without any come first.
            add("C-130", object, none(), &["-last_activity_at"], by);
            add("C-130", object, none(), &["last_activity_at"], by);
        }
        for tags in [
            tagged("any_of", &["rare7"]),
            tagged("all_of", &["tag1", "rare7"]),
        ] {
            add("C-138", object, tags, &[], "");
        }
        for tags in [
            tagged("any_of", &["tag1"]),
            tagged("any_of", &["tag1", "tag2"]),
        ] {
            add("C-138 of many", object, tags, &["-created_at"], "");
        }
    }
    let both =
        json!({"field": "email", "op": "in", "value": ["P160@mail.example", "p320@MAIL.example"]});
    let begins = json!({"field": "email", "op": "starts_with", "value": "P160"});
    add(
        "C-131",
        "contact",
        eq("email", "p160@MAIL.example"),
        &[],
        "email_folded",
    );
    add("C-131", "contact", both, &[], "email_folded");
    add("C-131", "contact", begins, &[], "email_folded");
    add(
        "C-131",
        "account",
        eq("email", "OFFICE160@account.example"),
        &[],
        "email_folded",
    );
    add(
        "C-131",
        "lead",
        eq("email", "l160@MAIL.example"),
        &[],
        "email_folded",
    );
    add(
        "C-131",
        "user",
        eq("email", "U160@t.example"),
        &[],
        "email_folded",
    );
    add(
        "C-131",
        "contact",
        eq("phone_e164", "+49301000160"),
        &[],
        "phone_e164",
    );
    add(
        "C-131",
        "contact",
        eq("mobile_e164", "+4915115000160"),
        &[],
        "mobile_e164",
    );
    add(
        "C-131",
        "lead",
        eq("phone_e164", "+49301000160"),
        &[],
        "phone_e164",
    );
    add("C-131", "lead", eq("company", "Company 7"), &[], "company");
    add(
        "C-131",
        "contact",
        eq("company", "Company 7"),
        &[],
        "company",
    );
    add("C-131", "contact", eq("last_name", "Afl"), &[], "last_name");
    add("C-131", "lead", eq("last_name", "Afl"), &[], "last_name");
    add("C-131", "account", eq("name", "Afl Ltd"), &[], "name");
    for (object, field, value) in [
        ("contact", "status", json!("deceased")),
        ("contact", "lead_source", json!("fair")),
        ("deal", "status", json!("open")),
        ("deal", "lead_source", json!("fair")),
        ("lead", "status", json!("qualified")),
        ("lead", "qualification_status", json!("sales_accepted")),
        ("lead", "lead_source", json!("fair")),
        ("lead", "industry", json!("industry 3")),
        ("lead", "campaign_id", json!(key(10, 160))),
        ("lead", "lead_score", json!(100)),
        ("contact", "lead_score", json!(100)),
        ("account", "account_type", json!("competitor")),
        ("account", "industry", json!("industry 3")),
        ("account", "territory_id", json!(key(6, 160))),
        ("account", "health_score", json!(100)),
        ("activity", "activity_type", json!("demo")),
        ("activity", "status", json!("no_show")),
    ] {
        add("C-132", object, eq(field, value), &[], field);
    }
    add(
        "C-132",
        "contact",
        eq("status", "inactive"),
        &["-created_at"],
        "status",
    );
    add("C-132", "account", eq("status", "inactive"), &[], "");
    add(
        "C-132",
        "lead",
        ge("lead_score", 98),
        &["-lead_score"],
        "lead_score",
    );
    add(
        "C-132",
        "account",
        ge("health_score", 98),
        &["-health_score"],
        "health_score",
    );
    add("C-133", "deal", eq("amount", "4711"), &[], "amount_rounded");
    add(
        "C-133",
        "deal",
        ge("amount", "999000"),
        &["-amount"],
        "amount_rounded",
    );
    add(
        "C-133",
        "deal",
        between("amount", "500000", "501000"),
        &["amount"],
        "amount_rounded",
    );
    add("C-133", "deal", none(), &["-amount"], "amount_rounded");
    let (closing, closed) = ("expected_close_date", "actual_close_date");
    add(
        "C-133",
        "deal",
        between(closing, "2026-11-01", "2026-11-03"),
        &["expected_close_date"],
        closing,
    );
    add(
        "C-133",
        "deal",
        between(closed, "2025-03-01", "2025-03-03"),
        &["actual_close_date"],
        closed,
    );
    add("C-133", "deal", none(), &["-expected_close_date"], closing);
    let first = || eq("owner_id", key(2, 0));
    let another = || eq("owner_id", key(2, 160));
    for (object, status) in [
        ("deal", "open"),
        ("lead", "qualified"),
        ("account", "inactive"),
        ("activity", "planned"),
    ] {
        for owner in [first(), another()] {
            add(
                "C-134",
                object,
                all_of(&[owner, eq("status", status)]),
                &[],
                "",
            );
        }
    }
    let stage = all_of(&[eq("pipeline_id", key(3, 0)), eq("stage_id", key(4, 160))]);
    add("C-134", "deal", stage, &["-updated_at"], "");
    // Deals that rot: each stage has its days.
    let rotten = |stage: String, since: &str| {
        let before = |field| json!({"field": field, "op": "lte", "value": since});
        let idle = [
            before("last_activity_at"),
            json!({"field": "last_activity_at", "op": "is_null"}),
        ];
        let here = json!({"field": "stage_id", "op": "in", "value": [stage]});
        all_of(&[here, before("stage_entered_at"), json!({"or": idle})])
    };
    let early = rotten(key(4, 0), "2025-02-01T00:00:00Z");
    let late = rotten(key(4, 160), "2025-02-08T00:00:00Z");
    let rotten = all_of(&[eq("status", "open"), json!({"or": [early, late]})]);
    add(
        "C-012",
        "deal",
        rotten,
        &["stage_entered_at"],
        "stage_id,stage_entered_at",
    );
    let due = all_of(&[eq("status", "open"), lt(closing, "2025-02-01")]);
    add(
        "C-134",
        "deal",
        due,
        &["expected_close_date"],
        "status,expected_close_date",
    );
    let best = all_of(&[eq("status", "qualified"), ge("lead_score", 50)]);
    add("C-134", "lead", best, &["-lead_score"], "status,lead_score");
    let idle = "2025-01-20T00:00:00Z";
    let is_null = |field: &str| json!({"field": field, "op": "is_null"});
    let stale = all_of(&[eq("status", "lost"), lt("last_activity_at", idle)]);
    let by = "status,last_activity_at,created_at";
    add("R-036", "lead", stale, &["last_activity_at"], by);
    let never = [
        eq("status", "lost"),
        is_null("last_activity_at"),
        lt("created_at", idle),
    ];
    add("R-036", "lead", all_of(&never), &["created_at"], by);
    add(
        "C-134",
        "contact",
        another(),
        &["-created_at"],
        "owner_id,created_at",
    );
    let active = all_of(&[eq("account_id", key(5, 160)), eq("status", "active")]);
    add("C-134", "contact", active, &[], "account_id");
    let mine = all_of(&[first(), eq("status", "open")]);
    add("C-139", "deal", mine, &["expected_close_date"], "");
    let mine = all_of(&[eq("assigned_to", key(2, 0)), open()]);
    add(
        "C-139",
        "activity",
        mine,
        &["due_date"],
        "assigned_to,due_date",
    );
    let overdue = all_of(&[lt("due_date", "2025-01-20T00:00:00Z"), open()]);
    add("C-139", "activity", overdue, &["due_date"], "due_date");
    let unconverted = json!({"field": "converted_at", "op": "is_null"});
    add(
        "C-139 of many",
        "lead",
        unconverted.clone(),
        &["-lead_score"],
        "lead_score",
    );
    add(
        "C-139",
        "lead",
        all_of(&[first(), unconverted]),
        &["-lead_score"],
        "",
    );
    let active = all_of(&[eq("status", "active"), another()]);
    add("C-139", "contact", active, &["-last_activity_at"], "");
    let event = "audit_event";
    add("C-141", event, none(), &["-created_at"], "created_at");
    add(
        "C-141",
        event,
        between("created_at", "2025-03-25T00:00:00Z", "2025-03-26T00:00:00Z"),
        &["created_at"],
        "created_at",
    );
    add(
        "C-141",
        event,
        eq("record_id", key(1, 160)),
        &["record_version"],
        "record_id",
    );
    add(
        "C-141",
        event,
        eq("record_id", key(1, 160)),
        &["-created_at"],
        "record_id",
    );
    add(
        "C-141",
        event,
        eq("created_by_id", key(2, 160)),
        &["-created_at"],
        "created_by_id",
    );
    add(
        "C-141",
        event,
        eq("commit_id", key(14, 160)),
        &[],
        "commit_id",
    );
    add("C-141", event, eq("id", key(13, 160)), &[], "id");
    // The keys of a new record, and those of one that changes.
    let keys: Vec<String> = (1..9).map(|number| key(16, 160 * number)).collect();
    let held = json!({"field": "key", "op": "in", "value": keys});
    let by_key = &["key", "record_id"];
    add("duplicates", "duplicate_key", held, by_key, "key,record_id");
    let behind = ge("key", key(16, 160 * 400));
    add(
        "duplicates of many",
        "duplicate_key",
        behind,
        by_key,
        "key,record_id",
    );
    let of_one = eq("record_id", key(1, 160));
    add("duplicates", "duplicate_key", of_one, &[], "record_id");
    // A pipeline as of a past moment, and what changed in it on a day.
    let state = "deal_state";
    let pipeline = || eq("pipeline_id", key(3, 0));
    let at = "2025-05-01T00:00:00Z";
    let begun = |at| json!({"field": "valid_from", "op": "lte", "value": at});
    let lasts =
        |at| json!({"or": [{"field": "valid_until", "op": "is_null"}, gt("valid_until", at)]});
    let then = all_of(&[pipeline(), begun(at), lasts(at)]);
    add("C-023", state, then, &[], "");
    let (from, until) = (at, "2025-05-02T00:00:00Z");
    let on_day = |field| all_of(&[ge(field, from), lt(field, until)]);
    let changed = json!({"or": [on_day("valid_from"), on_day("valid_until")]});
    let walk = &["deal_id", "valid_from"];
    add("C-023", state, all_of(&[pipeline(), changed]), walk, "");
    let whole = all_of(&[begun(at), lasts(at)]);
    add("C-023 of many", state, whole, &[], "");
    let of_deal = eq("deal_id", key(8, 160));
    add(
        "C-023",
        state,
        of_deal,
        &["valid_from"],
        "deal_id,valid_from",
    );
    all
}

/// The most rows that a page of 50 may look at, whatever it is filtered by: one row in forty of the
/// largest table.
const MOST_ROWS: u64 = 3_000;

/// The columns of every index, after the tenant.
async fn indexes(owner: &mut PgConnection) -> HashMap<String, String> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT i.relname::text, string_agg(a.attname, ',' ORDER BY a.attnum) \
         FROM pg_class AS i JOIN pg_attribute AS a ON a.attrelid = i.oid \
         WHERE i.relkind IN ('i', 'I') AND i.relnamespace = 'crm'::regnamespace \
             AND a.attname <> 'tenant_id' \
         GROUP BY i.oid",
    )
    .fetch_all(owner)
    .await
    .expect("the indexes");
    rows.into_iter().collect()
}

/// Asks every question in the large tenant and in a small one; returns what is wrong.
async fn check(families: &[Family]) -> Vec<String> {
    let asker = Asker::new().await;
    let mut owner = asker
        .database
        .owner()
        .await
        .expect("the owner's connection");
    let indexes = indexes(&mut owner).await;
    let mut faults = Vec::new();
    for family in families {
        for tenant in [LARGE, SMALL] {
            let list = json!({"filter": family.filter, "sort": family.sort});
            let (_, list) = asker.find(tenant, family.object, list).await;
            let count = asker.count(tenant, family.object, &family.filter).await;
            // All records, and a large part of them, are read from end to end when they are counted.
            let is_counted = !family.is_of_all() && !family.rule.ends_with("of many");
            let decisive = if is_counted { &count } else { &list };
            let serves = |index: &String| {
                let columns = indexes.get(index).map(String::as_str).unwrap_or_default();
                format!("{columns},").starts_with(&format!("{},", family.by))
            };
            let fault = if list.rows > MOST_ROWS {
                "looks at too many rows"
            } else if !list.is_without_scan() || (is_counted && !count.is_without_scan()) {
                "reads a table from end to end"
            } else if tenant == LARGE
                && !family.by.is_empty()
                && !decisive.indexes.iter().any(serves)
            {
                "does not use its index"
            } else {
                continue;
            };
            faults.push(format!(
                "{} {} by {} sorted by {:?} {fault}: page {:?} {} rows {} blocks, count {:?} {} rows {} blocks",
                family.rule,
                family.object,
                family.filter,
                family.sort,
                list.indexes,
                list.rows,
                list.blocks,
                count.indexes,
                count.rows,
                count.blocks,
            ));
        }
    }
    faults
}

#[tokio::test]
async fn what_refers_to_a_record_is_found_by_an_index() {
    let faults = check(&references()).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// C-019: a tree is walked along the index of parents, whatever is found in it.
#[tokio::test]
async fn trees_are_walked_along_the_index_of_parents() {
    let tree = |object, field: &str, part: &str, of: u128, by| Family {
        rule: "C-019",
        object,
        filter: json!({"field": field, part: key(5, of)}),
        sort: &[],
        by,
    };
    let families = [
        tree("account", "id", "within", 160, "parent_account_id"),
        tree("account", "id", "within", 160 * 40, "parent_account_id"),
        tree("account", "id", "path_to", 160 * 900, "id"),
        tree(
            "deal",
            "account_id",
            "within",
            160 * 40,
            "parent_account_id",
        ),
        tree("deal", "account_id", "within", 160 * 40, "account_id"),
        tree("contact", "account_id", "within", 160 * 40, "account_id"),
    ];
    let faults = check(&families).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What leads to a record is found by the index of the reference where many records lead to few, and
/// by what it must fulfil itself where only few records do so.
#[tokio::test]
async fn what_leads_to_a_record_is_found_by_an_index() {
    let any =
        |object: &str, by: &str, filter: Json| json!({"any": object, "by": by, "where": filter});
    let all = || json!({"and": []});
    let not = |filter: Json| json!({"not": filter});
    let below = || eq("parent_account_id", key(5, 0));
    let family = |object, filter, sort, by| Family {
        rule: "any",
        object,
        filter,
        sort,
        by,
    };
    let of_many = |object, filter, sort, by| Family {
        rule: "any of many",
        ..family(object, filter, sort, by)
    };
    let deals = |filter| any("deal", "account_id", filter);

    let families = [
        // Many records lead to few.
        family(
            "account",
            all_of(&[below(), deals(all())]),
            &[],
            "account_id",
        ),
        family(
            "account",
            all_of(&[below(), deals(eq("status", "open"))]),
            &["name"],
            "account_id",
        ),
        family(
            "account",
            all_of(&[below(), not(deals(all()))]),
            &[],
            "account_id",
        ),
        family(
            "account",
            all_of(&[
                below(),
                any("contact", "account_id", eq("status", "inactive")),
            ]),
            &[],
            "account_id",
        ),
        family(
            "contact",
            all_of(&[
                eq("account_id", key(5, 160)),
                not(any("deal", "contact_id", eq("status", "won"))),
            ]),
            &[],
            "contact_id",
        ),
        // Few records lead to any.
        family(
            "account",
            deals(eq("contact_id", key(1, 160))),
            &[],
            "contact_id",
        ),
        family(
            "account",
            deals(all_of(&[
                eq("team_id", key(7, 160)),
                gt("amount", "500000"),
            ])),
            &["-created_at"],
            "team_id",
        ),
        family(
            "account",
            any(
                "account",
                "parent_account_id",
                eq("territory_id", key(6, 160)),
            ),
            &[],
            "territory_id",
        ),
        // Through two of them.
        family(
            "account",
            any(
                "contact",
                "account_id",
                any("deal", "contact_id", eq("team_id", key(7, 160))),
            ),
            &[],
            "team_id",
        ),
        // Many records lead to many: a page of them is found in its order.
        of_many("account", deals(eq("status", "open")), &["-created_at"], ""),
        of_many(
            "contact",
            any("deal", "contact_id", all()),
            &["-created_at"],
            "",
        ),
        of_many(
            "account",
            not(deals(eq("status", "open"))),
            &["-created_at"],
            "",
        ),
        of_many(
            "contact",
            not(any("deal", "contact_id", all())),
            &["-created_at"],
            "",
        ),
    ];
    let faults = check(&families).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // There and back, counted.
    let back = all_of(&[below(), deals(eq("status", "lost"))]);
    let back = json!({"field": "account_id", "has": back});
    let count = Asker::new().await.count(LARGE, "deal", &back).await;
    assert!(
        count.is_without_scan() && count.rows <= MOST_ROWS,
        "{count:?}"
    );
}

#[tokio::test]
async fn filters_and_orders_are_answered_by_indexes() {
    let faults = check(&lists()).await;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// C-129, from the catalog: every reference has an index whose first columns are the reference's.
#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let mut owner = database().await.owner().await.expect("a connection");
    let keys: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'crm'::regnamespace",
    )
    .fetch_one(&mut owner)
    .await
    .expect("a count");
    assert!(keys >= 28, "{keys} references");
    let without: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s %s', k.conrelid::regclass, k.conname) FROM pg_constraint AS k \
         WHERE k.contype = 'f' AND k.connamespace = 'crm'::regnamespace AND NOT EXISTS ( \
             SELECT FROM pg_index AS i WHERE i.indrelid = k.conrelid AND i.indisvalid \
             AND (i.indpred IS NULL) \
             AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] = k.conkey)",
    )
    .fetch_all(&mut owner)
    .await
    .expect("the references");
    assert!(without.is_empty(), "{}", without.join("\n"));
}

/// The place in a list at which its thousandth page of 50 begins.
const DEEP: i64 = 49_950;
/// A place inside an import, all of one moment, in the list of contacts by age.
const IMPORT: i64 = 40_000;
/// A place shortly before the deals without a day begin, in the list by that day.
const BOUNDARY: i64 = 32_600;
/// What a page may cost more than the first, besides a tenth: rows of several parts lie in blocks of
/// their own.
const SPARE_BLOCKS: u64 = 60;
/// The most rows that a page of an unfiltered list looks at.
const MOST_PAGE_ROWS: u64 = 400;

impl Asker {
    /// The blocks that the first page of a list costs, and the one behind the row number `place`.
    async fn pages(&self, object: &str, find: Json, place: i64, whose: &str) -> [Plan; 2] {
        let (mut query, _) = self.find(LARGE, object, find).await;
        let first = self.again(&query).await;
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
        let deep = self.again(&query).await;
        [first, deep]
    }

    /// The plan of a query that ran before, so that nothing is done for the first time.
    async fn again(&self, query: &Query) -> Plan {
        let scope = Scope::Tenant(Id::new(LARGE));
        let storage = &self.explained.storage;
        storage.explain(&scope, query).await.expect("a plan");
        let plan = storage.explain(&scope, query).await.expect("a plan");
        Plan::of(&plan)
    }
}

#[allow(
    clippy::disallowed_types,
    reason = "statements of tests, made of constants and the schema"
)]
fn trusted(text: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(text)
}

/// A page costs the same wherever it lies: at the head of the list, a thousand pages on, inside a
/// bulk import, and where the records without a value begin.
#[tokio::test]
async fn a_page_costs_the_same_at_any_depth() {
    let asker = Asker::new().await;
    let mine = eq("owner_id", key(2, 0));
    let of_mine = format!("owner_id = '{}'", key(2, 0));
    let mut faults = Vec::new();
    for (object, find, place, whose) in [
        (
            "contact",
            json!({"filter": mine, "sort": ["-created_at"]}),
            DEEP,
            of_mine.as_str(),
        ),
        ("contact", json!({"sort": ["-created_at"]}), DEEP, "true"),
        ("contact", json!({"sort": ["-created_at"]}), IMPORT, "true"),
        ("contact", json!({"sort": ["created_at"]}), DEEP, "true"),
        ("contact", json!({"sort": ["-id"]}), DEEP, "true"),
        ("contact", json!({"sort": []}), DEEP, "true"),
        ("contact", json!({"sort": ["last_name"]}), DEEP, "true"),
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
            DEEP / 2,
            "true",
        ),
        (
            "deal",
            json!({"sort": ["expected_close_date"]}),
            BOUNDARY,
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
        ("deal", json!({"sort": ["amount"]}), DEEP / 2, "true"),
        ("deal", json!({"sort": ["amount"]}), DEEP, "true"),
    ] {
        let sort = find["sort"].to_string();
        let [first, deep] = asker.pages(object, find, place, whose).await;
        let is_level = deep.blocks <= first.blocks + first.blocks / 10 + SPARE_BLOCKS;
        if !is_level || first.rows.max(deep.rows) > MOST_PAGE_ROWS {
            faults.push(format!(
                "{object} sorted by {sort}: the first page {} rows {} blocks {:?}, behind row {place} {} rows {} blocks {:?}",
                first.rows, first.blocks, first.indexes, deep.rows, deep.blocks, deep.indexes,
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What makes contacts `from` to `to` of a tenant, each with an e-mail address of its own.
const CONTACTS: &str = "INSERT INTO crm.contacts (tenant_id, id, version, created_at, created_by, \
    updated_at, updated_by, first_name, email, email_folded, social_profiles, \
    preferred_contact_method, do_not_call, do_not_email, email_opt_out, timezone, language, status, \
    lead_score, deal_count, total_deal_value, won_deal_count, won_deal_value, custom_fields, tags) \
    SELECT $1, gen_random_uuid(), 1, now(), 'system', now(), 'system', 'A', 'a' || n || '@mail.example', \
    'a' || n || '@mail.example', '{}', 'email', false, false, false, 'UTC', 'en', 'active', 0, 0, '{}', 0, \
    '{}', '{}', '{}' FROM generate_series(1, $2) AS n";

/// What was read of the contacts so far: how often by an index, and how many rows.
const READ: &str = "SELECT COALESCE(idx_scan, 0)::bigint, \
    (COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0))::bigint \
    FROM pg_stat_user_tables WHERE schemaname = 'crm' AND relname = 'contacts'";

/// an import looks its rows up by hundreds of values at a time, in a tenant that it just
/// filled, and that the server's statistics do not know: the index must serve all the same.
#[tokio::test]
async fn a_look_up_of_many_values_goes_by_the_index_in_a_tenant_that_no_statistics_know() {
    const ROWS: i32 = 20_000;
    const VALUES: i64 = 500;
    let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let mut owner = database.owner().await.expect("the owner's connection");
    let [known, unknown] = [1, 2].map(Uuid::from_u128);
    owner
        .execute("ALTER TABLE crm.contacts SET (autovacuum_enabled = false)")
        .await
        .unwrap();
    owner
        .execute("SET session_replication_role = replica")
        .await
        .unwrap();
    for tenant in [known, unknown] {
        sqlx::query(CONTACTS)
            .bind(tenant)
            .bind(ROWS)
            .execute(&mut owner)
            .await
            .unwrap();
        if tenant == known {
            owner.execute("ANALYZE crm.contacts").await.unwrap();
        }
    }
    let emails: Vec<Json> = (1..=VALUES)
        .map(|n| format!("a{}@mail.example", n * 40).into())
        .collect();
    let find = json!({"filter": {"field": "email", "op": "in", "value": emails}, "limit": VALUES});
    let find: Find<()> = serde_json::from_value(find).expect("a request");
    let (scans, rows): (i64, i64) = sqlx::query_as(READ).fetch_one(&mut owner).await.unwrap();

    let pool = database.pool(1).await.expect("a pool");
    let engine = Engine::builder(PostgresStorage::new(pool.clone()))
        .named_object(AuditEvent::schema())
        .build();
    let session = engine.session(Id::new(unknown), Actor::System);
    let page = session
        .object("contact")
        .await
        .unwrap()
        .find(&find)
        .await
        .unwrap();
    assert_eq!(page.items.len() as i64, VALUES);

    // A connection that ends tells what it read.
    pool.close().await;
    loop {
        let (after, read): (i64, i64) = sqlx::query_as(READ).fetch_one(&mut owner).await.unwrap();
        if after > scans {
            assert!(
                read - rows < 2 * VALUES,
                "{} rows for {VALUES} values",
                read - rows
            );
            return;
        }
        owner
            .execute("SELECT pg_stat_clear_snapshot()")
            .await
            .unwrap();
    }
}

/// The feed goes on by its index, wherever it is: no more is read than the page has.
#[tokio::test]
async fn a_page_of_the_feed_is_read_by_its_index() {
    let asker = Asker::new().await;
    let storage = &asker.explained.storage;
    let scope = Scope::Tenant(Id::new(LARGE));
    let page = |after| FeedQuery::new(AuditEvent::schema(), after, 50);
    // In the middle of the one transaction that filled the table.
    let within =
        sqlx::query_scalar::<_, String>("SELECT max(transaction_id)::text FROM crm.audit_events");
    let mut owner = asker.database.owner().await.unwrap();
    let within: u64 = within.fetch_one(&mut owner).await.unwrap().parse().unwrap();
    let within = FeedPosition::new(within, key(0x0d, 16_000).parse().unwrap());
    for after in [None, Some(within)] {
        let explained = storage.explain_feed(&scope, &page(after)).await.unwrap();
        let plan = Plan::of(&explained);
        assert!(plan.is_without_scan(), "{plan:?}");
        let by_place = |index: &String| index.contains("transaction_id");
        assert!(
            !plan.indexes.is_empty() && plan.indexes.iter().all(by_place),
            "{plan:?}"
        );
        // Of each month the first one at most, besides those of the page.
        assert!((50..200).contains(&plan.rows), "{plan:?}");
    }
}

/// C-105: how many persons had access in a period is counted over the few events that tell of reads.
#[tokio::test]
async fn reads_of_a_period_are_counted_by_their_index() {
    let asker = Asker::new().await;
    let log = AuditEvent::schema();
    let at = |name: &str| FieldAt::new(log.field_index(name).unwrap());
    let compare = |op, moment: &str| Condition::Compare {
        field: at("created_at"),
        op,
        value: Value::Timestamp(moment.parse().unwrap()),
    };
    let reads = Condition::And(vec![
        Condition::not_deleted(),
        Condition::In {
            field: at("event"),
            values: vec![Value::from("read")],
        },
        compare(Comparison::Ge, "2025-03-01T00:00:00Z"),
        compare(Comparison::Lt, "2025-04-01T00:00:00Z"),
    ]);
    let query = AggregateQuery::count(log, reads);
    let scope = Scope::Tenant(Id::new(LARGE));
    let explained = asker.explained.storage.explain_aggregate(&scope, &query);
    let plan = Plan::of(&explained.await.unwrap());
    assert!(plan.is_without_scan(), "{plan:?}");
    let is_of_reads = |index: &String| !index.contains("pkey") && !index.contains("created_by_id");
    assert!(
        !plan.indexes.is_empty() && plan.indexes.iter().all(is_of_reads),
        "{plan:?}"
    );
}
