//! The rules that keep every statement right behind a transaction-mode pooler and on a database
//! distributed by tenant, over the text of all statements that this module can write.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::query::{
    AggregateQuery, Comparison, Condition, Filter, ListMatch, Query, SortKey, TextMatch, TreePart,
};
use crm_core::schema::{
    Dynamic, Entity as _, FieldSchema, FieldType, Meta, ObjectRef, Registry, Row, StorageKind,
    Value,
};
use crm_core::storage::{Change, ChangeSet, Claim, Expectation, FeedQuery, Scope, Snapshot};
use crm_core::{Actor, Id, Stamp};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Statement, aggregate, feed, select, write};
use crate::commit::Plan;
use crate::layout::Tables;

/// What is wrong with a statement: nothing, if it may be sent.
fn faults(text: &str, tables: &Tables) -> Vec<String> {
    let mut faults = Vec::new();
    // Outside of quoted names.
    let lower: String = text
        .split('"')
        .step_by(2)
        .collect::<Vec<_>>()
        .join("\"\"")
        .to_lowercase();
    // 3: time and ids come from Rust. 5: locks end with the transaction. 7: no session state.
    let forbidden = [
        "now()",
        "current_timestamp",
        "clock_timestamp",
        "gen_random_uuid",
        "random()",
        "advisory",
        "temp ",
        "temporary",
        "listen",
        "prepare ",
        "declare ",
        "set session",
        "discard",
        "nextval",
        "default",
        "on conflict",
        "--",
        "/*",
        ";",
    ];
    for word in forbidden {
        if lower.contains(word) {
            faults.push(format!("has `{word}`"));
        }
    }
    for setting in lower.match_indices("set_config(") {
        let rest = lower.get(setting.0..).unwrap_or_default();
        if !rest
            .split(" is not null")
            .next()
            .is_some_and(|call| call.ends_with(", true)"))
        {
            faults.push("a setting outlives the transaction".to_owned());
        }
    }
    // 4: every mention of a table comes with its tenant, on the bind.
    for table in tables.all() {
        let own = if table.has_tenant() {
            "\"tenant_id\" = $1"
        } else {
            "\"id\" = $1"
        };
        for (place, mention) in text.match_indices(&table.sql) {
            let rest = text.get(place + mention.len()..).unwrap_or_default();
            if let Some(columns) = rest.strip_prefix(" (") {
                let tenant_first = columns.starts_with("\"tenant_id\", ")
                    && (columns.contains(" VALUES ($1, ") || columns.contains(" SELECT $1, "));
                if table.has_tenant() && !tenant_first {
                    faults.push(format!("inserts into {} without its tenant", table.name));
                }
                continue;
            }
            let Some(alias) = rest.strip_prefix(" AS ").and_then(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
            }) else {
                faults.push(format!("mentions {} without an alias", table.name));
                continue;
            };
            // Up to the next table of the same alias.
            let until = rest
                .match_indices(&format!("\" AS {alias} "))
                .next()
                .map(|(end, _)| end);
            let part = rest.get(..until.unwrap_or(rest.len())).unwrap_or_default();
            if !part.contains(&format!("{alias}.{own}")) {
                faults.push(format!("mentions {} without its tenant", table.name));
            }
            // Of a table that several objects share, every mention says which.
            if let Some(lead) = table.lead().filter(|_| table.object.is_template()) {
                let told = format!("{alias}.{own} AND {alias}.\"{lead}\" = $");
                if !part.contains(&told) && !part.contains(&format!("{alias}.{own} AND false")) {
                    faults.push(format!("mentions {} without its object", table.name));
                }
            }
        }
    }
    faults
}

fn tenant() -> Scope {
    Scope::Tenant(Id::new(Uuid::from_u128(1)))
}

fn sample(field: &FieldSchema) -> Value {
    let at: DateTime<Utc> = DateTime::UNIX_EPOCH;
    match (&field.field_type, field.storage_kind()) {
        (FieldType::Picklist { options }, _) => Value::from(options[0]),
        (FieldType::Email, _) => Value::from("ada@acme.example"),
        (FieldType::Phone, _) => Value::from("+41446681800"),
        (FieldType::Url { .. }, _) => Value::from("https://acme.example/"),
        (FieldType::Currency, _) => Value::from("EUR"),
        (FieldType::Country, _) => Value::from("CH"),
        (FieldType::Language, _) => Value::from("de"),
        (FieldType::TimeZone, _) => Value::from("Europe/Zurich"),
        (FieldType::Color, _) => Value::from("#102030"),
        (FieldType::Domain, _) => Value::from("acme.example"),
        (_, StorageKind::Text) => Value::from("acme"),
        (FieldType::Integer { min, .. }, _) => Value::Integer((*min).max(1)),
        (_, StorageKind::Integer) => Value::Integer(1),
        (_, StorageKind::Decimal) => Value::Decimal(Decimal::ONE),
        (_, StorageKind::Boolean) => Value::Boolean(true),
        (_, StorageKind::Date) => Value::Date(NaiveDate::default()),
        (_, StorageKind::Timestamp) => Value::Timestamp(at),
        (_, StorageKind::Uuid) => Value::Uuid(Uuid::from_u128(7)),
        (_, StorageKind::List) => Value::List(vec!["key".to_owned()]),
        (_, StorageKind::Json) => Value::Json(serde_json::json!({})),
    }
}

/// A row with a value in every field.
fn row(object: &ObjectRef, id: u128) -> Row {
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let meta = Meta::first(Uuid::from_u128(id), stamp);
    let values = object.own_fields().iter().map(sample).collect();
    Arc::new(Dynamic::new(object.clone(), meta, values))
}

fn filters(object: &ObjectRef, registry: &Registry) -> Vec<Filter> {
    let mut filters = Vec::new();
    for field in object.fields() {
        let name = field.name.clone();
        let value = sample(field);
        let ops = [
            Comparison::Eq,
            Comparison::Ne,
            Comparison::Lt,
            Comparison::Le,
            Comparison::Gt,
            Comparison::Ge,
        ];
        for op in ops {
            filters.push(Filter::Compare {
                field: name.clone(),
                op,
                value: value.clone(),
            });
        }
        filters.push(Filter::In {
            field: name.clone(),
            values: vec![value.clone(), value.clone()],
        });
        for is_null in [true, false] {
            filters.push(Filter::Null {
                field: name.clone(),
                is_null,
            });
        }
        for op in [TextMatch::StartsWith, TextMatch::Contains] {
            filters.push(Filter::Text {
                field: name.clone(),
                op,
                text: "x".to_owned(),
            });
        }
        for op in [ListMatch::Any, ListMatch::All] {
            filters.push(Filter::List {
                field: name.clone(),
                op,
                values: vec!["x".to_owned()],
            });
        }
        if field.storage_kind() == StorageKind::Json {
            let member = format!("{name}.tier");
            for value in [Value::from("x"), Value::Integer(1), Value::Boolean(true)] {
                for op in ops {
                    let field = member.clone().into();
                    filters.push(Filter::Compare {
                        field,
                        op,
                        value: value.clone(),
                    });
                }
            }
        }
        if let Some((target, _)) = field.reference()
            && registry.object(target).is_some()
        {
            let inner = Filter::Compare {
                field: "version".into(),
                op: Comparison::Gt,
                value: Value::Integer(0),
            };
            filters.push(Filter::Has {
                field: name.clone(),
                filter: Box::new(Filter::Not(Box::new(inner))),
            });
        }
        if let Some((target, _)) = field.reference()
            && registry.object(target).is_some()
        {
            // What leads to the same record as this one does, and to what leads there.
            let any = |filter| Filter::Any {
                object: object.name().to_owned().into(),
                by: name.clone(),
                filter: Box::new(filter),
            };
            let live = Filter::Compare {
                field: "version".into(),
                op: Comparison::Gt,
                value: Value::Integer(0),
            };
            let deeper = Filter::Not(Box::new(Filter::Has {
                field: name.clone(),
                filter: Box::new(any(live)),
            }));
            filters.push(Filter::Has {
                field: name.clone(),
                filter: Box::new(any(deeper)),
            });
        }
        for part in [TreePart::Within, TreePart::PathTo] {
            let in_tree = Filter::InTree {
                field: name.clone(),
                part,
                of: Uuid::from_u128(7),
                by: None,
            };
            if let Some((target, _)) = field.reference()
                && registry.object(target).is_some()
            {
                // A tree of another object, and one of records that lead there.
                filters.push(Filter::Has {
                    field: name.clone(),
                    filter: Box::new(Filter::Or(vec![
                        Filter::InTree {
                            field: "id".into(),
                            part,
                            of: Uuid::from_u128(8),
                            by: None,
                        },
                        Filter::Not(Box::new(in_tree.clone())),
                    ])),
                });
            }
            filters.push(in_tree);
        }
    }
    filters
}

fn statements(object: &ObjectRef, registry: &Registry, tables: &Tables) -> Vec<Statement> {
    let table = tables.of(object);
    let scope = tenant();
    let mut statements = Vec::new();
    let bound: Vec<Condition> = filters(object, registry)
        .iter()
        .filter_map(|filter| Condition::bind(filter, object, registry).ok())
        .collect();
    assert!(bound.len() > 4 * object.fields().len(), "{}", object.name());
    let sortable: Vec<usize> = (0..object.fields().len())
        .filter(|index| object.fields()[*index].is_sortable())
        .collect();
    for (number, condition) in bound.iter().enumerate() {
        let descending = number % 2 == 0;
        let first = sortable[number % sortable.len()];
        let second = sortable[(number / 3) % sortable.len()];
        let sort = vec![
            SortKey {
                index: first,
                descending,
            },
            SortKey {
                index: second,
                descending: number % 3 == 0,
            },
        ];
        let mut query = Query::new(object, condition.clone()).sort(sort).limit(10);
        if number % 2 == 1 {
            let position = query
                .sort
                .iter()
                .map(|key| sample(&object.fields()[key.index]));
            query.after = Some(position.collect());
        }
        statements.extend(select::select(tables, &table, &scope, &query));
        let mut grouped = AggregateQuery::count(object, condition.clone());
        grouped.groups = vec![crm_core::query::Grouping::Field(first)];
        statements.extend(aggregate::aggregate(tables, &table, &scope, &grouped));
        let stamp = Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let claim = Claim::new(
            object.clone(),
            condition.clone(),
            query.sort.clone(),
            3,
            Vec::new(),
            stamp,
        );
        statements.push(write::claim(tables, &table, &scope, &claim));
        if object.is_fed() {
            let feed = FeedQuery::new(object, None, 10).filter(condition.clone());
            statements.extend(feed::feed(tables, &table, &scope, &feed));
            query.snapshot = Some(Snapshot::of_text("3:5:4"));
            statements.extend(select::select(tables, &table, &scope, &query));
        }
    }
    let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
    statements.extend(select::get(&table, &scope, &ids));
    statements.extend(select::get(&table, &scope, &ids[..1]));
    statements.push(write::versions(&scope, &table, &ids));
    for rows in [vec![row(object, 1)], vec![row(object, 1), row(object, 2)]] {
        let next = |row: &Row| row.with_meta(row.meta().next(row.meta().updated));
        let expects = rows
            .iter()
            .map(|row| Expectation {
                object: object.clone(),
                id: row.id(),
                version: 1,
            })
            .collect();
        let inserts = rows
            .iter()
            .map(|row| Change::Insert { row: row.clone() })
            .collect();
        let updates = rows
            .iter()
            .map(|row| Change::Update {
                before: row.clone(),
                after: next(row),
            })
            .collect();
        let deletes = rows
            .iter()
            .map(|row| Change::Delete {
                before: row.clone(),
            })
            .collect();
        for (changes, expects) in [
            (inserts, expects),
            (updates, Vec::new()),
            (deletes, Vec::new()),
        ] {
            let changes =
                ChangeSet::new(Uuid::from_u128(9), DateTime::UNIX_EPOCH, changes, expects)
                    .with_objects(crm_core::storage::conformance::instances());
            let plan = Plan::new(&changes);
            statements.extend(plan.statements(tables, &scope).expect("a plan"));
        }
    }
    statements
}

#[test]
fn every_statement_keeps_the_rules() {
    let tables = Tables::new("crm");
    let registry = Registry::default();
    let mut objects = crate::objects();
    objects.extend(crm_core::storage::conformance::objects());
    for object in &objects {
        registry.add(object);
        tables.of(object);
    }
    let instances = crm_core::storage::conformance::instances();
    let registry = Registry::over(Arc::new(registry), instances.clone());
    objects.retain(|object| !object.is_template());
    objects.extend(instances);
    let mut count = 0;
    for object in &objects {
        for statement in statements(object, &registry, &tables) {
            let found = faults(statement.text(), &tables);
            assert!(found.is_empty(), "{found:?} in {}", statement.text());
            count += 1;
        }
    }
    assert!(count > 5_000, "only {count} statements");
}

/// The objects that tenants define are no statements of their own, and nothing of them is kept.
#[test]
fn objects_over_one_template_have_the_same_statements() {
    let tables = Tables::new("crm");
    for object in crm_core::storage::conformance::objects() {
        tables.of(&object);
    }
    let template = crm_core::storage::conformance::CollectionRecord::schema();
    let texts = |name: &'static str, id: u128| -> Vec<String> {
        let id = Uuid::from_u128(id);
        let object = template.instance(name, "", "collection_id", id, |_| {});
        let object = object.expect("a template");
        let statements = statements(&object, &Registry::default(), &tables);
        statements.iter().map(|one| one.text().to_owned()).collect()
    };
    let project = texts("project", 1);
    let known = tables.all().len();
    assert_eq!(project, texts("invoice", 2));
    assert_eq!(tables.all().len(), known);
}

#[test]
fn a_bad_statement_is_noticed() {
    let tables = Tables::new("crm");
    for object in crate::objects() {
        tables.of(&object);
    }
    let bad = [
        "SELECT t.\"id\" FROM \"crm\".\"contacts\" AS t WHERE t.\"id\" = $2",
        "SELECT t.\"id\" FROM \"crm\".\"contacts\" AS t WHERE t.\"tenant_id\" = $1 AND EXISTS \
         (SELECT 1 FROM \"crm\".\"accounts\" AS t1 WHERE t1.\"id\" = t.\"account_id\")",
        "INSERT INTO \"crm\".\"contacts\" (\"id\") VALUES ($2)",
        "UPDATE \"crm\".\"contacts\" AS t SET \"updated_at\" = now() WHERE t.\"tenant_id\" = $1",
        "SELECT set_config('crm.tenant_id', $1, false)",
        "SELECT pg_advisory_lock(1)",
    ];
    for text in bad {
        assert!(!faults(text, &tables).is_empty(), "{text}");
    }
}

/// The statements that insert so many accounts.
fn of_accounts(count: u128) -> Vec<String> {
    let tables = Tables::new("crm");
    for object in crate::objects() {
        tables.of(&object);
    }
    let accounts = tables.named("account").expect("accounts");
    let changes = (1_000..1_000 + count)
        .map(|number| Change::Insert {
            row: row(&accounts.object, number),
        })
        .collect();
    let changes = ChangeSet::new(
        Uuid::from_u128(9),
        DateTime::UNIX_EPOCH,
        changes,
        Vec::new(),
    );
    let plan = Plan::new(&changes);
    let statements = plan.statements(&tables, &tenant()).expect("a plan");
    statements.iter().map(|one| one.text().to_owned()).collect()
}

/// A connection keeps a hundred prepared statements: the size of a commit makes no other statement.
#[test]
fn the_number_of_rows_does_not_show() {
    assert_eq!(of_accounts(2), of_accounts(500));
}

/// Accounts refer to accounts, but these do not refer to each other.
#[test]
fn large_commits_go_in_batches() {
    let statements = of_accounts(5_500);
    assert!(statements.len() >= 6, "{}", statements.len());
}
