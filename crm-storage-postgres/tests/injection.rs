//! No name and no value changes a statement: whatever objects, tables, fields and members are
//! called and whatever they hold, rows come back as they were written, and nothing else of the
//! database changes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails in a test fails the test"
)]

use std::error::Error as _;

use chrono::{DateTime, Utc};
use crm_core::query::{
    AggregateQuery, Comparison, Condition, CustomMember, FieldAt, Grouping, ListMatch, Measure,
    Query, SortKey, TextMatch, Tree, TreePart, fold_case,
};
use crm_core::schema::{
    FieldSchema, FieldType, Meta, ObjectRef, ObjectSchema, OnDelete, Row, SYSTEM_FIELDS,
    StorageKind, Value, system,
};
use crm_core::storage::conformance::NaiveStorage;
use crm_core::storage::{Change, ChangeSet, Claim, Scope, Storage, StorageError};
use crm_core::{Actor, Id, Stamp};
use crm_storage_postgres::{PostgresFault, PostgresStorage, SchemaError, ddl};
use crm_test_postgres::Database;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use tokio::runtime::Runtime;
use uuid::Uuid;

type Outcome<T = ()> = Result<T, TestCaseError>;

const TENANT: u128 = 1;

/// A database with something in it that nobody may touch.
struct Bench {
    owner: PgConnection,
    pool: PgPool,
}

impl Bench {
    async fn open() -> Self {
        let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
        let mut owner = database.owner().await.unwrap();
        execute(
            &mut owner,
            "CREATE TABLE crm.canary (song text); INSERT INTO crm.canary VALUES ('tweet')"
                .to_owned(),
        )
        .await
        .unwrap();
        let pool = database.pool(1).await.unwrap();
        Self { owner, pool }
    }

    fn storage(&self, object: &ObjectRef) -> PostgresStorage {
        PostgresStorage::builder()
            .named_object(object)
            .build(self.pool.clone())
    }

    /// Everything that can be changed in the database, save the rows of `except`.
    async fn picture(&mut self) -> String {
        const CATALOG: &str = r#"
            SELECT md5(string_agg(line, E'\n' ORDER BY line COLLATE pg_catalog."C")) FROM (
                SELECT concat_ws(' ', 'class', n.nspname, c.relname, c.relkind, c.relrowsecurity,
                    c.relforcerowsecurity, c.relowner, c.relacl) AS line
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                UNION ALL
                SELECT concat_ws(' ', 'column', a.attrelid::regclass, a.attname, a.atttypid, a.atttypmod,
                    a.attnotnull, a.attgenerated, a.attcollation)
                FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                UNION ALL
                SELECT concat_ws(' ', 'constraint', conname, conrelid::regclass,
                    pg_get_constraintdef(oid)) FROM pg_constraint
                UNION ALL
                SELECT concat_ws(' ', 'index', indexrelid::regclass, pg_get_indexdef(indexrelid))
                FROM pg_index WHERE indrelid >= 16384
                UNION ALL
                SELECT concat_ws(' ', 'policy', polname, polrelid::regclass,
                    pg_get_expr(polqual, polrelid)) FROM pg_policy
                UNION ALL
                SELECT concat_ws(' ', 'function', proname, md5(prosrc), proacl) FROM pg_proc
                UNION ALL
                SELECT concat_ws(' ', 'trigger', tgname, tgrelid::regclass) FROM pg_trigger
                WHERE NOT tgisinternal
                UNION ALL
                SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace
                WHERE nspname !~ '^pg_(temp|toast_temp)'
                UNION ALL
                SELECT concat_ws(' ', 'canary', count(*), max(song)) FROM crm.canary
            ) AS lines"#;
        sqlx::query_scalar(trusted(CATALOG.to_owned()))
            .fetch_one(&mut self.owner)
            .await
            .unwrap()
    }

    /// The tables of the schema.
    async fn tables(&mut self) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'crm'::regnamespace \
             AND c.relkind IN ('r', 'p') ORDER BY 1",
        )
        .fetch_all(&mut self.owner)
        .await
        .unwrap()
    }
}

#[allow(
    clippy::disallowed_types,
    reason = "DDL and fixed statements of a test"
)]
fn trusted(sql: String) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(sql)
}

async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(trusted(sql)).execute(connection).await?;
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Texts that would like to be more than a text.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "\"; DROP TABLE crm.canary; --",
        "'; DROP TABLE crm.canary; --",
        "\"",
        "'",
        "\\",
        "$do$",
        "$$",
        "$1",
        "{schema}",
        "{schema_literal}",
        "/*",
        "*/",
        "--",
        ";",
        "%s",
        "%I",
        ".",
        ",",
        "(",
        ")",
        "::",
        "\n",
        "\r",
        "\t",
        " ",
        "\u{FEFF}",
        "\u{202E}",
        "U&'\\0041'",
        "E'\\n'",
        "a",
        "A",
        "ä",
        "Σ",
        "\u{10FFFF}",
        "NULL",
        "select",
        "user",
        "tenant_id",
        "id",
        "_folded",
        "c",
        "r",
        "u",
        "v",
        "t1",
        "scope",
        "is_set",
        "{",
        "}",
        "[",
        "]",
        "?",
        "@>",
        ":a",
    ]);
    prop_oneof![
        3 => prop::collection::vec(pieces, 1..5).prop_map(|pieces| pieces.concat()),
        2 => "\\PC{1,20}",
        2 => prop::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter),
        1 => "[a-z]{60,70}",
        1 => prop::sample::select(vec!["ctid", "xmin", "search_vector", "tenant_id", "version", ""])
            .prop_map(str::to_owned),
    ]
}

/// The fields of a hostile object, by what they hold.
const TEXT: usize = SYSTEM_FIELDS;
const FOLDED: usize = SYSTEM_FIELDS + 1;
const NUMBER: usize = SYSTEM_FIELDS + 2;
const LIST: usize = SYSTEM_FIELDS + 3;
const DOCUMENT: usize = SYSTEM_FIELDS + 4;
const CHOICE: usize = SYSTEM_FIELDS + 5;
const REFERENCE: usize = SYSTEM_FIELDS + 6;

const CHOICES: &[&str] = &["'", "\\", "a\"b", "'); DROP TABLE crm.canary; --", "\\' --"];

fn object(name: &str, table: &str, fields: &[String]) -> ObjectRef {
    let kinds = [
        FieldType::text(500),
        FieldType::text(500),
        FieldType::Integer {
            min: -9,
            max: i64::MAX,
        },
        FieldType::List,
        FieldType::Json,
        FieldType::Picklist {
            options: CHOICES.into(),
        },
        FieldType::Reference {
            object: name.to_owned().into(),
            on_delete: OnDelete::SetNull,
        },
    ];
    // The builder takes the names of keys for as long as the program runs.
    let fields: Vec<&'static str> = fields.iter().map(|name| &*name.clone().leak()).collect();
    let mut builder = ObjectSchema::builder(name.to_owned(), table.to_owned());
    for (place, (name, kind)) in fields.iter().zip(kinds).enumerate() {
        builder = builder.field(FieldSchema {
            searchable: place < 2,
            indexed: place == 2,
            ..FieldSchema::new(*name, kind)
        });
    }
    builder
        .unique(&[fields[1]], true)
        .index(&[fields[0], fields[2]])
        .build()
}

fn stamp(second: i64) -> Stamp {
    Stamp {
        at: DateTime::<Utc>::from_timestamp(second, 0).unwrap(),
        by: Actor::System,
    }
}

fn row(object: &ObjectRef, id: u128, texts: &[String], member: &str) -> Row {
    let values = vec![
        Value::from(texts[0].as_str()),
        Value::from(format!("{id}{}", texts[1])),
        Value::from(id as i64),
        Value::List(vec![texts[2].clone(), "x".to_owned()]),
        Value::Json(json!({member: texts[0], "x": {member: [texts[1]]}})),
        Value::from(CHOICES[id as usize % CHOICES.len()]),
        Value::Null,
    ];
    let meta = Meta::first(Uuid::from_u128(id), stamp(1_000 + id as i64));
    object.build(meta, values).unwrap()
}

fn at(index: usize, member: Option<&str>) -> FieldAt {
    FieldAt {
        index,
        member: member.map(Into::into),
        custom: None,
        ignore_case: index == FOLDED,
    }
}

/// A member that a tenant defined as a text.
fn custom(member: &str) -> FieldAt {
    FieldAt {
        custom: Some(CustomMember {
            field: Uuid::nil(),
            kind: StorageKind::Text,
            indexed: false,
        }),
        ..at(DOCUMENT, Some(member))
    }
}

/// Every kind of condition, over these texts.
fn conditions(object: &ObjectRef, texts: &[String], member: &str) -> Vec<Condition> {
    let mut all = Vec::new();
    for text in texts {
        let value = || Value::from(text.as_str());
        for op in [
            Comparison::Eq,
            Comparison::Ne,
            Comparison::Lt,
            Comparison::Ge,
        ] {
            for field in [at(TEXT, None), at(DOCUMENT, Some(member)), custom(member)] {
                all.push(Condition::Compare {
                    field,
                    op,
                    value: value(),
                });
            }
        }
        let folded = fold_case(text);
        all.push(Condition::Compare {
            field: at(FOLDED, None),
            op: Comparison::Eq,
            value: Value::from(folded.as_str()),
        });
        for op in [TextMatch::StartsWith, TextMatch::Contains] {
            for field in [
                at(TEXT, None),
                at(FOLDED, None),
                at(DOCUMENT, Some(member)),
                custom(member),
            ] {
                all.push(Condition::Text {
                    field,
                    op,
                    folded: folded.clone(),
                });
            }
        }
        for op in [ListMatch::Any, ListMatch::All] {
            all.push(Condition::List {
                field: at(LIST, None),
                op,
                values: vec![text.clone()],
            });
        }
        for field in [
            at(TEXT, None),
            at(CHOICE, None),
            at(DOCUMENT, Some(text)),
            custom(text),
        ] {
            all.push(Condition::In {
                field: field.clone(),
                values: vec![value(), value()],
            });
            all.push(Condition::Null {
                field,
                is_null: true,
            });
        }
    }
    all.push(Condition::Has {
        field: FieldAt::new(REFERENCE),
        object: object.clone(),
        condition: Box::new(Condition::all()),
    });
    let members = texts.iter().map(|text| at(DOCUMENT, Some(text)));
    for field in std::iter::once(at(REFERENCE, None)).chain(members) {
        all.push(Condition::Any {
            object: object.clone(),
            field,
            condition: Box::new(Condition::all()),
        });
    }
    for part in [TreePart::Within, TreePart::PathTo] {
        all.push(Condition::InTree {
            field: FieldAt::new(system::ID),
            tree: Tree {
                object: object.clone(),
                parent: REFERENCE,
                part,
                of: Uuid::from_u128(1),
            },
        });
    }
    all
}

fn name_of(error: &StorageError) -> String {
    let fault = error
        .source()
        .and_then(|source| source.downcast_ref::<PostgresFault>());
    format!("{error:?} {fault:?}")
}

/// The same answer, or the same refusal by variant and names.
fn same<T>(
    expected: Result<T, StorageError>,
    came: Result<T, StorageError>,
    show: impl Fn(&T) -> String,
    what: &str,
) -> Outcome {
    let text = |answer: Result<T, StorageError>| match answer {
        Ok(answer) => show(&answer),
        Err(error) => name_of(&error),
    };
    prop_assert_eq!(text(came), text(expected), "{}", what);
    Ok(())
}

fn show_rows(rows: &Vec<Row>) -> String {
    rows.iter()
        .map(|row| format!("{:?} {:?}\n", row.meta(), row.values()))
        .collect()
}

/// Writes and reads rows of the object in both storages.
async fn use_object(
    storage: &dyn Storage,
    object: &ObjectRef,
    texts: &[String],
    member: &str,
) -> Outcome {
    let naive = NaiveStorage::default();
    let scope = Scope::Tenant(Id::new(Uuid::from_u128(TENANT)));
    let rows: Vec<Row> = (1..=3).map(|id| row(object, id, texts, member)).collect();
    let with = |row: &Row, index: usize, value: Value| {
        let mut values = row.values();
        values[index - SYSTEM_FIELDS] = value;
        row.with_values(row.meta().next(stamp(2_000)), values)
            .unwrap()
    };
    let insert = |row: &Row| Change::Insert { row: row.clone() };
    let update = |before: &Row, after: Row| Change::Update {
        before: before.clone(),
        after,
    };
    let second = with(&rows[0], REFERENCE, Value::from(rows[1].id()));
    let third = row(object, 4, texts, member);
    let commits = [
        vec![insert(&rows[0])],
        vec![insert(&rows[1]), insert(&rows[2])],
        vec![update(&rows[0], second.clone())],
        // What is refused names objects and fields.
        vec![insert(&rows[1])],
        vec![insert(&with(
            &third,
            FOLDED,
            rows[1].value(FOLDED).into_owned(),
        ))],
        vec![insert(&with(
            &third,
            REFERENCE,
            Value::from(Uuid::from_u128(77)),
        ))],
        vec![Change::Delete {
            before: rows[1].clone(),
        }],
        vec![update(
            &rows[0],
            rows[0].with_meta(rows[0].meta().next(stamp(3_000))),
        )],
        // Unique values change hands.
        vec![
            update(
                &rows[1],
                with(&rows[1], FOLDED, rows[2].value(FOLDED).into_owned()),
            ),
            update(
                &rows[2],
                with(&rows[2], FOLDED, rows[1].value(FOLDED).into_owned()),
            ),
        ],
    ];
    for (place, changes) in commits.into_iter().enumerate() {
        let id = Uuid::from_u128(place as u128);
        let changes = ChangeSet::new(id, DateTime::UNIX_EPOCH, changes, Vec::new());
        same(
            naive.commit(&scope, &changes).await,
            storage.commit(&scope, &changes).await,
            |committed| format!("{committed:?}"),
            &format!("commit {place}"),
        )?;
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id()).collect();
    same(
        naive.get(&scope, object, &ids).await,
        storage.get(&scope, object, &ids).await,
        show_rows,
        "get",
    )?;
    for condition in conditions(object, texts, member) {
        let mut query = Query::new(object, condition).limit(2).sort(vec![
            SortKey {
                index: TEXT,
                descending: true,
            },
            SortKey {
                index: FOLDED,
                descending: false,
            },
        ]);
        for after in [None, Some(texts[0].as_str()), Some(texts[1].as_str())] {
            query.after = after.map(|text| {
                vec![
                    Value::from(text),
                    Value::from(text),
                    Value::from(Uuid::from_u128(1)),
                ]
            });
            same(
                naive.select(&scope, &query).await,
                storage.select(&scope, &query).await,
                show_rows,
                &format!("select {:?} behind {:?}", query.condition, query.after),
            )?;
        }
        let mut query = AggregateQuery::count(object, query.condition);
        query.groups = vec![Grouping::Field(TEXT), Grouping::Field(CHOICE)];
        query.measures = vec![
            Measure::Sum(NUMBER),
            Measure::Max(FOLDED),
            Measure::Min(TEXT),
            Measure::Count,
        ];
        same(
            naive.aggregate(&scope, &query).await,
            storage.aggregate(&scope, &query).await,
            |groups| format!("{groups:?}"),
            &format!("aggregate {:?}", query.condition),
        )?;
    }
    let claim = Claim::new(
        object.clone(),
        Condition::all(),
        vec![
            SortKey {
                index: TEXT,
                descending: false,
            },
            SortKey {
                index: 0,
                descending: false,
            },
        ],
        2,
        vec![
            (TEXT, Value::from(texts[2].as_str())),
            (LIST, Value::List(texts.to_vec())),
        ],
        stamp(4_000),
    );
    same(
        naive.claim(&scope, &claim).await,
        storage.claim(&scope, &claim).await,
        show_rows,
        "claim",
    )?;
    let all = Query::new(object, Condition::all());
    same(
        naive.select(&scope, &all).await,
        storage.select(&scope, &all).await,
        show_rows,
        "all rows in the end",
    )
}

/// Whether a name is one that the database can hold.
fn fits(name: &str) -> bool {
    !name.is_empty() && name.len() <= 63 && !name.contains('\0')
}

fn check(
    cases: u32,
    strategy: impl Strategy<Value = Case>,
    test: impl AsyncFn(&mut Bench, Case) -> Outcome,
) {
    let runtime = Runtime::new().unwrap();
    let bench = std::cell::RefCell::new(runtime.block_on(Bench::open()));
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&strategy, |case| {
        runtime.block_on(test(&mut bench.borrow_mut(), case))
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[derive(Clone, Debug)]
struct Case {
    object: String,
    table: String,
    fields: Vec<String>,
    member: String,
    texts: Vec<String>,
}

impl Case {
    /// Whether no name stands in the way of another or of the database's own.
    fn is_plain(&self) -> bool {
        const TAKEN: &[&str] = &[
            "tenant_id",
            "search_vector",
            "tableoid",
            "xmin",
            "cmin",
            "xmax",
            "cmax",
            "ctid",
            "version",
            "id",
        ];
        let folded = format!("{}_folded", self.fields[1]);
        let mut names: Vec<&str> = self.fields.iter().map(String::as_str).collect();
        names.push(&folded);
        let is_free = names.iter().all(|name| fits(name) && !TAKEN.contains(name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        is_free && names.len() == count && fits(&self.table)
    }
}

/// Without what no row can hold.
fn held(text: String) -> String {
    text.replace(['\0', '\n', '\r'], "")
}

fn cases(name: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Case> {
    (
        name.clone(),
        name.clone(),
        prop::collection::vec(name, 7),
        hostile().prop_map(held),
        prop::collection::vec(
            hostile().prop_map(held).prop_map(|text| format!("{text}x")),
            3,
        ),
    )
        .prop_map(|(object, table, fields, member, texts)| Case {
            object,
            table,
            fields,
            member,
            texts,
        })
}

#[test]
fn every_name_is_a_name_or_refused() {
    let name = hostile().boxed();
    check(96, cases(name), async |bench, case| {
        let object = object(
            &case.object.replace(['.', '\0'], ""),
            &case.table,
            &case.fields,
        );
        let before = bench.picture().await;
        let tables = bench.tables().await;
        let made = match ddl("crm", "crm_app", std::slice::from_ref(&object)) {
            Ok(made) => made,
            // Two indexes may come to the same name.
            Err(SchemaError::Duplicate { .. }) => return Ok(()),
            Err(SchemaError::Reserved { name, .. }) => {
                prop_assert!(!case.is_plain(), "{} was refused", name);
                return Ok(());
            }
            Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert!(fits(&case.table) && case.fields.iter().all(|field| fits(field)));
        execute(&mut bench.owner, made.clone())
            .await
            .map_err(|error| TestCaseError::fail(format!("{error}\n{made}")))?;
        let mut expected = tables.clone();
        expected.push(case.table.clone());
        expected.sort();
        let mut came = bench.tables().await;
        came.sort();
        prop_assert_eq!(came, expected);
        let with_table = bench.picture().await;
        let used = use_object(&bench.storage(&object), &object, &case.texts, &case.member).await;
        let after = bench.picture().await;
        let drop = format!("DROP TABLE crm.{}", quoted(&case.table));
        execute(&mut bench.owner, drop).await.unwrap();
        used?;
        prop_assert_eq!(after, with_table);
        prop_assert_eq!(bench.picture().await, before);
        prop_assert_eq!(bench.tables().await, tables);
        Ok(())
    });
}

#[test]
fn every_value_is_a_value() {
    let plain = Just(String::new()).boxed();
    check(96, cases(plain), async |bench, case| {
        let object = plain_object();
        let made = ddl("crm", "crm_app", std::slice::from_ref(&object)).unwrap();
        execute(&mut bench.owner, made).await.unwrap();
        let before = bench.picture().await;
        let used = use_object(&bench.storage(&object), &object, &case.texts, &case.member).await;
        let after = bench.picture().await;
        execute(&mut bench.owner, "DROP TABLE crm.notes".to_owned())
            .await
            .unwrap();
        used?;
        prop_assert_eq!(after, before);
        Ok(())
    });
}

fn plain_object() -> ObjectRef {
    let fields = [
        "text", "code", "number", "list", "document", "choice", "note_id",
    ];
    object("note", "notes", &fields.map(str::to_owned))
}

/// What no row can hold is refused before it is sent, or by the server as a value.
#[tokio::test]
async fn a_value_with_nul_is_refused() {
    let mut bench = Bench::open().await;
    let object = plain_object();
    let made = ddl("crm", "crm_app", std::slice::from_ref(&object)).unwrap();
    execute(&mut bench.owner, made).await.unwrap();
    let before = bench.picture().await;
    let scope = Scope::Tenant(Id::new(Uuid::from_u128(TENANT)));
    let storage = bench.storage(&object);
    let texts = ["a", "b", "c"].map(str::to_owned);
    let good = row(&object, 1, &texts, "m");
    for (field, value) in [
        (TEXT, Value::from("a\0b")),
        (FOLDED, Value::from("\0")),
        (LIST, Value::List(vec!["\0".to_owned()])),
        (DOCUMENT, Value::Json(json!({"a": "\0"}))),
        (DOCUMENT, Value::Json(json!({"\0": 1}))),
        (CHOICE, Value::from("none of them")),
        (NUMBER, Value::from(-10_i64)),
    ] {
        let mut values = good.values();
        values[field - SYSTEM_FIELDS] = value;
        let row = good.with_values(good.meta(), values).unwrap();
        let changes = ChangeSet::new(
            row.id(),
            DateTime::UNIX_EPOCH,
            vec![Change::Insert { row }],
            Vec::new(),
        );
        let error = storage.commit(&scope, &changes).await.unwrap_err();
        let StorageError::Failed(source) = &error else {
            panic!("{error:?}");
        };
        let fault = source
            .downcast_ref::<PostgresFault>()
            .expect("a fault of the server");
        assert!(
            ["22021", "22P05", "23514"].contains(&fault.code()),
            "{fault:?}"
        );
    }
    let rows = storage
        .select(&scope, &Query::new(&object, Condition::all()))
        .await
        .unwrap();
    assert!(rows.is_empty());
    assert_eq!(bench.picture().await, before);
}

/// Objects whose names the database cannot hold as they are.
fn misnamed() -> Vec<(&'static str, ObjectRef)> {
    let long = |end: &str| format!("{}{end}", "n".repeat(63));
    let with = |table: &str, fields: &[&str]| {
        let builder = ObjectSchema::builder("misnamed", table.to_owned());
        fields
            .iter()
            .fold(builder, |builder, field| {
                let field = FieldSchema::new((*field).to_owned(), FieldType::text(9));
                builder.field(FieldSchema {
                    ignore_case: true,
                    ..field
                })
            })
            .build()
    };
    vec![
        ("an empty table", with("", &["a"])),
        ("an empty field", with("things", &[""])),
        ("NUL in a table", with("th\0ings", &["a"])),
        ("NUL in a field", with("things", &["a\0b"])),
        ("a long table", with(&long("o"), &["a"])),
        (
            "two fields with the same 63 bytes",
            with("things", &[&long("1"), &long("2")]),
        ),
        ("a long field", with("things", &[&"ä".repeat(32)])),
        (
            "a field whose folded column is too long",
            with("things", &[&"n".repeat(60)]),
        ),
        ("the tenant's column", with("things", &["tenant_id"])),
        ("the search vector", with("things", &["search_vector"])),
        ("a column of every table", with("things", &["ctid"])),
        ("the same column twice", with("things", &["a", "a"])),
        ("a folded column", with("things", &["a", "a_folded"])),
        ("a system field", with("things", &["version"])),
        ("a table of the engine's index", with("things_pkey", &["a"])),
    ]
}

#[test]
fn what_the_database_cannot_hold_gets_no_table() {
    for (what, object) in misnamed() {
        let made = ddl("crm", "crm_app", std::slice::from_ref(&object));
        if what == "a table of the engine's index" {
            // Only beside the table `things`.
            let things = ObjectSchema::builder("thing", "things").build();
            let both = ddl("crm", "crm_app", &[things, object]);
            assert!(
                matches!(both, Err(SchemaError::Duplicate { .. })),
                "{what}: {both:?}"
            );
        } else {
            assert!(
                matches!(made, Err(SchemaError::Reserved { .. })),
                "{what}: {made:?}"
            );
        }
    }
}

/// PostgreSQL cuts names: a storage that is given an object whose table has a longer one must not
/// come upon the table that has the beginning of it.
#[tokio::test]
async fn a_cut_name_leads_to_no_other_table() {
    let mut bench = Bench::open().await;
    let named = |name: &'static str, table: String, field: String| {
        let field = FieldSchema::new(field, FieldType::text(9));
        ObjectSchema::builder(name, table).field(field).build()
    };
    let (table, field) = ("t".repeat(63), "f".repeat(63));
    let short = named("short", table.clone(), field.clone());
    let made = ddl("crm", "crm_app", std::slice::from_ref(&short)).unwrap();
    execute(&mut bench.owner, made).await.unwrap();
    let scope = Scope::Tenant(Id::new(Uuid::from_u128(TENANT)));
    let meta = Meta::first(Uuid::from_u128(1), stamp(1));
    let row = short.build(meta, vec![Value::from("mine")]).unwrap();
    let insert = |row: Row| {
        ChangeSet::new(
            Uuid::nil(),
            DateTime::UNIX_EPOCH,
            vec![Change::Insert { row }],
            Vec::new(),
        )
    };
    bench
        .storage(&short)
        .commit(&scope, &insert(row))
        .await
        .unwrap();
    for long in [
        named("long", format!("{table}t"), field.clone()),
        named("long", table.clone(), format!("{field}f")),
    ] {
        let storage = bench.storage(&long);
        let read = storage
            .select(&scope, &Query::new(&long, Condition::all()))
            .await;
        assert!(matches!(read, Err(StorageError::Failed(_))), "{read:?}");
        let meta = Meta::first(Uuid::from_u128(2), stamp(1));
        let row = long.build(meta, vec![Value::from("theirs")]).unwrap();
        let written = storage.commit(&scope, &insert(row)).await;
        assert!(
            matches!(written, Err(StorageError::Failed(_))),
            "{written:?}"
        );
    }
}

/// The name of an object stands in no statement, but it comes back in errors.
#[tokio::test]
async fn errors_name_an_object_with_a_point() {
    let mut bench = Bench::open().await;
    let fields = [
        "text", "code", "number", "list", "document", "choice", "re.fers",
    ];
    let object = object("no.te", "no.tes", &fields.map(str::to_owned));
    let made = ddl("crm", "crm_app", std::slice::from_ref(&object)).unwrap();
    execute(&mut bench.owner, made).await.unwrap();
    let texts = ["a", "b", "c"].map(str::to_owned);
    use_object(&bench.storage(&object), &object, &texts, "m.n")
        .await
        .unwrap();
}
