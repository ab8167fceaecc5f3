//! Logs by months: their partitions, and the transaction that wrote each event.

use chrono::NaiveDate;
use crm_core::Id;
use crm_core::query::{Comparison, Condition, FieldAt, Query};
use crm_core::schema::{FieldSchema, FieldType, ObjectRef, ObjectSchema, Value, system};
use crm_core::storage::Scope;
use crm_storage_postgres::{
    MonthOfEvents, PostgresStorage, SchemaError, archive_partitions, ddl, drift,
    drop_archived_partitions, drop_partitions, ensure_partitions, lint, objects,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::common::{
    ACME, Database, GLOBEX, become_application, count, event, insert, object, refusal, run, strings,
};
use crate::drift::drifts;

#[tokio::test]
async fn an_event_knows_the_transaction_that_wrote_it() {
    let database = Database::migrated("feed").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(ACME)).await;
    run(&mut work, &event(ACME, 1, "2026-01-01")).await;
    let same = "SELECT count(*) FROM crm.audit_events WHERE transaction_id = pg_current_xact_id()";
    assert_eq!(count(&mut work, same).await, 1);
    work.commit().await.unwrap();
    // Which one it was is the server's to say: an event could otherwise be put in front of what was
    // read already, or behind everything.
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(ACME)).await;
    let forged = event(ACME, 2, "2026-01-01")
        .replacen(
            "(\"tenant_id\", ",
            "(\"transaction_id\", \"tenant_id\", ",
            1,
        )
        .replacen("VALUES (", "VALUES ('7', ", 1);
    assert!(
        forged.contains("transaction_id") && forged.contains("'7'"),
        "{forged}"
    );
    assert_eq!(refusal(&mut work, &forged).await.as_deref(), Some("42501"));
    work.rollback().await.unwrap();
    run(&mut connection, &forged).await;
    // A right that is more than that is found.
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    run(
        &mut connection,
        "GRANT INSERT ON crm.audit_events TO crm_app",
    )
    .await;
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        ["crm_app may write audit_events.transaction_id"]
    );
    drop(connection);
    database.drop().await;
}

/// Makes the partitions of every log by months, and tells those of the audit events.
async fn made_of_events(
    connection: &mut PgConnection,
    from: NaiveDate,
    months: u32,
) -> Vec<String> {
    let made = ensure_partitions(connection, "crm", from, months).await;
    let mut made = made.unwrap();
    let all = made.len();
    made.retain(|name| name.starts_with("audit_events"));
    assert_eq!(
        all,
        3 * made.len(),
        "audit events, auth events and API calls"
    );
    made
}

/// C-093, C-153.
#[tokio::test]
async fn partitions_are_made_ahead_and_take_their_events_over() {
    let database = Database::migrated("partitions").await;
    let mut connection = database.connection().await;
    let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap();
    let times = [
        "2025-12-31 23:59:59.999999+00",
        "2026-01-01 00:00:00+00",
        "2026-01-31 23:59:59.999999+00",
        "2026-02-01 00:00:00+00",
        "2026-02-28 23:30:00-02",
        "1999-01-01 00:00:00+00",
    ];
    for (number, time) in times.iter().enumerate() {
        run(&mut connection, &event(ACME, number as u128, time)).await;
    }
    let before = strings(
        &mut connection,
        "SELECT e::text FROM crm.audit_events AS e ORDER BY 1",
    )
    .await;
    // Bounds are in UTC, whatever the session's zone.
    run(&mut connection, "SET TimeZone = 'Pacific/Auckland'").await;
    let made = made_of_events(&mut connection, day(2025, 12, 17), 4).await;
    assert_eq!(
        made,
        [
            "audit_events_2025_12",
            "audit_events_2026_01",
            "audit_events_2026_02",
            "audit_events_2026_03"
        ]
    );
    let made = made_of_events(&mut connection, day(2026, 1, 31), 3).await;
    assert_eq!(made, Vec::<String>::new());
    let made = made_of_events(&mut connection, day(2026, 2, 28), 3).await;
    assert_eq!(made, ["audit_events_2026_04"]);
    run(&mut connection, "SET TimeZone = 'UTC'").await;

    let after = strings(
        &mut connection,
        "SELECT e::text FROM crm.audit_events AS e ORDER BY 1",
    )
    .await;
    assert_eq!(before, after);
    let places = strings(
        &mut connection,
        "SELECT tableoid::regclass::text || ' ' || count(*) FROM crm.audit_events GROUP BY tableoid ORDER BY 1",
    )
    .await;
    assert_eq!(
        places,
        [
            "crm.audit_events_2025_12 1",
            "crm.audit_events_2026_01 2",
            "crm.audit_events_2026_02 1",
            "crm.audit_events_2026_03 1",
            "crm.audit_events_default 1",
        ]
    );
    let bounds = strings(
        &mut connection,
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'audit_events_2026_02'",
    )
    .await;
    assert_eq!(
        bounds,
        ["FOR VALUES FROM ('2026-02-01 00:00:00+00') TO ('2026-03-01 00:00:00+00')"]
    );
    // Written through the table, an event finds its month; the transaction that wrote it stays known.
    run(
        &mut connection,
        &event(GLOBEX, 99, "2026-04-30 23:59:59+00"),
    )
    .await;
    let unknown = "SELECT count(*) FROM crm.audit_events WHERE transaction_id IS NULL";
    assert_eq!(count(&mut connection, unknown).await, 0);
    assert_eq!(drifts(&mut connection).await, []);
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );

    // As the application, through the table only, and only what is its own.
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(GLOBEX)).await;
    assert_eq!(
        count(&mut work, "SELECT count(*) FROM crm.audit_events").await,
        1
    );
    let refused = refusal(&mut work, "SELECT * FROM crm.audit_events_2026_04").await;
    assert_eq!(refused.as_deref(), Some("42501"));
    work.rollback().await.unwrap();

    // In a transaction of the caller's, and none at all.
    let mut work = connection.begin().await.unwrap();
    let made = ensure_partitions(&mut work, "crm", day(2027, 12, 1), 2)
        .await
        .unwrap();
    assert_eq!(made.len(), 3 * 2);
    work.rollback().await.unwrap();
    let made = ensure_partitions(&mut connection, "crm", day(2027, 12, 1), 0)
        .await
        .unwrap();
    assert_eq!(made, Vec::<String>::new());
    let refused = ensure_partitions(&mut connection, "crm", day(9999, 12, 1), 1).await;
    assert!(matches!(refused, Err(SchemaError::Partition { .. })));
    let refused = ensure_partitions(&mut connection, "nowhere", day(2026, 1, 1), 1).await;
    assert!(matches!(refused, Err(SchemaError::Partition { .. })));
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn partitions_can_be_made_from_several_places_while_events_are_written() {
    let database = Database::migrated("busy").await;
    let day = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    let writers = (0..3_u128).map(|writer| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            let mut written = 0_i64;
            for number in 0..100 {
                let time = format!("2026-{:02}-10", number % 6 + 1);
                let sql = event(ACME, writer * 1_000 + number, &time);
                // A row that was on its way to the default partition while its month got its own
                // is refused, and is written again.
                loop {
                    match sqlx::raw_sql(AssertSqlSafe(sql.clone()))
                        .execute(&pool)
                        .await
                    {
                        Ok(_) => break,
                        Err(error) => assert!(
                            error.to_string().contains("violates partition constraint"),
                            "{error}"
                        ),
                    }
                }
                written += 1;
            }
            written
        })
    });
    let writers: Vec<_> = writers.collect();
    let makers = (0..3).map(|_| {
        let pool = database.pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.unwrap();
            ensure_partitions(&mut connection, "crm", day, 6)
                .await
                .unwrap()
                .len()
        })
    });
    let mut made = 0;
    for maker in makers.collect::<Vec<_>>() {
        made += maker.await.unwrap();
    }
    assert_eq!(made, 3 * 6);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    let mut connection = database.connection().await;
    assert_eq!(
        count(&mut connection, "SELECT count(*) FROM crm.audit_events").await,
        written
    );
    let left = "SELECT count(*) FROM crm.audit_events_default";
    assert_eq!(count(&mut connection, left).await, 0);
    drop(connection);
    database.drop().await;
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// An entry of a log.
fn entry(log: &ObjectRef, tenant: Uuid, id: u128, created_at: &str) -> String {
    let id = format!("'{}'", Uuid::from_u128(id));
    let created_at = format!("'{created_at}'");
    let mut with = vec![("id", id.as_str()), ("created_at", created_at.as_str())];
    if log.field("status").is_some() {
        with.push(("status", "200"));
    }
    insert(log, tenant, &with)
}

fn told(months: &[MonthOfEvents]) -> Vec<(&str, u64)> {
    let month = |one: &'_ MonthOfEvents| one.events;
    months
        .iter()
        .map(|one| (one.partition.as_str(), month(one)))
        .collect()
}

/// C-059, C-060, C-106: months of a log without an archive are dropped as a whole, those without a
/// partition too; a log with an archive is not.
#[tokio::test]
async fn months_of_streams_are_dropped() {
    let database = Database::migrated("streams").await;
    let mut connection = database.connection().await;
    ensure_partitions(&mut connection, "crm", day("2026-02-01"), 2)
        .await
        .unwrap();
    let times = [
        "2026-01-31 23:59:59.9+00",
        "2026-02-01",
        "2026-02-28",
        "2026-03-01",
    ];
    for name in ["auth_event", "api_call"] {
        for (number, time) in times.iter().enumerate() {
            for tenant in [ACME, GLOBEX] {
                let text = entry(&object(name), tenant, number as u128, time);
                run(&mut connection, &text).await;
            }
        }
    }
    for table in ["auth_events", "api_calls"] {
        // The month of the day stays.
        let dropped = drop_partitions(&mut connection, "crm", table, day("2026-03-31"))
            .await
            .unwrap();
        let partition = |month: &str| format!("{table}_{month}");
        let (january, february) = (partition("2026_01"), partition("2026_02"));
        assert_eq!(
            told(&dropped),
            [(january.as_str(), 2), (february.as_str(), 4)]
        );
        assert!(dropped.iter().all(|month| month.log == table));
        let left = format!("SELECT count(*) FROM crm.{table}");
        assert_eq!(count(&mut connection, &left).await, 2);
        let again = drop_partitions(&mut connection, "crm", table, day("2026-03-31"))
            .await
            .unwrap();
        assert_eq!(again, []);
        // A late entry of a month that is gone is not lost.
        let name = if table == "api_calls" {
            "api_call"
        } else {
            "auth_event"
        };
        run(
            &mut connection,
            &entry(&object(name), ACME, 77, "2026-01-05"),
        )
        .await;
        assert_eq!(count(&mut connection, &left).await, 3);
    }
    for table in [
        "audit_events",
        "audit_events_archive",
        "contacts",
        "nothing",
    ] {
        let refused = drop_partitions(&mut connection, "crm", table, day("2026-03-31")).await;
        assert!(
            matches!(refused, Err(SchemaError::Partition { .. })),
            "{table}"
        );
    }
    assert_eq!(drifts(&mut connection).await, []);
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    drop(connection);
    database.drop().await;
}

/// What tenants archived of a month and the month itself come together, and go together.
#[tokio::test]
async fn what_tenants_archived_joins_its_month() {
    let database = Database::migrated("joined").await;
    let mut connection = database.connection().await;
    ensure_partitions(&mut connection, "crm", day("2026-01-01"), 1)
        .await
        .unwrap();
    let archived =
        |id, time| event(ACME, id, time).replace("crm.audit_events ", "crm.audit_events_archive ");
    run(&mut connection, &event(GLOBEX, 1, "2026-01-10")).await;
    run(&mut connection, &archived(2, "2026-01-11")).await;
    run(&mut connection, &archived(3, "2025-12-31")).await;
    let moved = archive_partitions(&mut connection, "crm", day("2026-02-01"))
        .await
        .unwrap();
    assert_eq!(told(&moved), [("audit_events_2026_01", 2)]);
    let all = "SELECT count(*) FROM crm.audit_events_archive";
    assert_eq!(count(&mut connection, all).await, 3);
    assert_eq!(drifts(&mut connection).await, []);
    let dropped = drop_archived_partitions(&mut connection, "crm", day("2026-02-01"))
        .await
        .unwrap();
    assert_eq!(
        told(&dropped),
        [("audit_events_2026_01", 2), ("audit_events_2025_12", 1)]
    );
    assert_eq!(count(&mut connection, all).await, 0);
    assert_eq!(drifts(&mut connection).await, []);
    drop(connection);
    database.drop().await;
}

/// A query over some time looks at the months of that time, and at no other.
#[tokio::test]
async fn windows_look_at_their_months() {
    let database = Database::migrated("windows").await;
    let mut connection = database.connection().await;
    ensure_partitions(&mut connection, "crm", day("2026-01-01"), 6)
        .await
        .unwrap();
    drop(connection);
    let storage = PostgresStorage::new(database.pool.clone());
    for name in ["audit_event", "auth_event", "api_call"] {
        let log = object(name);
        let compare = |op, text: &str| Condition::Compare {
            field: FieldAt::new(system::CREATED_AT),
            op,
            value: Value::Timestamp(text.parse().unwrap()),
        };
        let from = compare(Comparison::Ge, "2026-02-10T00:00:00Z");
        let until = compare(Comparison::Lt, "2026-03-10T00:00:00Z");
        let query = Query::new(&log, from.and(until)).limit(10);
        let plan = storage.explain(&Scope::Tenant(Id::new(ACME)), &query).await;
        let plan = plan.unwrap().to_string();
        let table = log.table();
        for (month, is_read) in [
            (1, false),
            (2, true),
            (3, true),
            (4, false),
            (5, false),
            (6, false),
        ] {
            let partition = format!("\"{table}_2026_{month:02}\"");
            assert_eq!(plan.contains(&partition), is_read, "{partition}: {plan}");
        }
        assert!(!plan.contains(&format!("{table}_default")), "{plan}");
    }
    database.drop().await;
}

fn host_log(name: &'static str, table: &'static str) -> ObjectRef {
    ObjectSchema::builder(name, table)
        .monthly()
        .field(FieldSchema::new("note", FieldType::text(20)))
        .build()
}

/// A log of a host that says so lies by months too, and its archive with it.
#[tokio::test]
async fn logs_of_a_host_lie_by_months() {
    let database = Database::migrated("host_log").await;
    let mut connection = database.connection().await;
    let log = host_log("door_event", "door_events");
    let archive = log.copied_as("archived_door_event", "old_door_events", "Long ago.");
    let own = [log.clone(), archive.clone()];
    let text = ddl("crm", "crm_app", &own).unwrap();
    run(&mut connection, &text).await;
    let made = ensure_partitions(&mut connection, "crm", day("2026-01-01"), 1)
        .await
        .unwrap();
    assert!(made.contains(&"door_events_2026_01".to_owned()), "{made:?}");
    assert_eq!(made.len(), 4);
    run(&mut connection, &entry(&log, ACME, 1, "2026-01-10")).await;
    let moved = archive_partitions(&mut connection, "crm", day("2026-02-01"))
        .await
        .unwrap();
    let own_months: Vec<_> = moved
        .iter()
        .filter(|one| one.log == "door_events")
        .collect();
    assert_eq!(own_months.len(), 1);
    let there = "SELECT count(*) FROM crm.old_door_events";
    assert_eq!(count(&mut connection, there).await, 1);
    let mut all = objects();
    all.extend(own);
    assert_eq!(drift(&mut connection, "crm", &all).await.unwrap(), []);
    assert_eq!(
        lint(&mut connection, "crm").await.unwrap(),
        Vec::<String>::new()
    );
    drop(connection);
    database.drop().await;

    // What cannot lie by months, and names that months have.
    let unique = ObjectSchema::builder("badge", "badges")
        .monthly()
        .field(FieldSchema::new("code", FieldType::text(20)))
        .unique(&["code"], false)
        .build();
    let refused = ddl("crm", "crm_app", &[unique]);
    assert!(
        matches!(refused, Err(SchemaError::Partition { .. })),
        "{refused:?}"
    );
    let month = ObjectSchema::builder("call", "api_calls_2026_01").build();
    let refused = ddl("crm", "crm_app", &[month]);
    assert!(
        matches!(refused, Err(SchemaError::Reserved { .. })),
        "{refused:?}"
    );
    let long = "a_log_with_a_name_that_leaves_no_room_for_the_months_of_it";
    let refused = ddl("crm", "crm_app", &[host_log("long", long)]);
    assert!(
        matches!(refused, Err(SchemaError::Reserved { .. })),
        "{refused:?}"
    );
}
