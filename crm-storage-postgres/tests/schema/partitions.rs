//! The table of events: its partitions, and the transaction that wrote each event.

use chrono::NaiveDate;
use crm_storage_postgres::{SchemaError, ensure_partitions, lint};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::common::{
    ACME, Database, GLOBEX, become_application, count, event, refusal, run, strings,
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
    let made = ensure_partitions(&mut connection, "crm", day(2025, 12, 17), 4)
        .await
        .unwrap();
    assert_eq!(
        made,
        [
            "audit_events_2025_12",
            "audit_events_2026_01",
            "audit_events_2026_02",
            "audit_events_2026_03"
        ]
    );
    let made = ensure_partitions(&mut connection, "crm", day(2026, 1, 31), 3)
        .await
        .unwrap();
    assert_eq!(made, Vec::<String>::new());
    let made = ensure_partitions(&mut connection, "crm", day(2026, 2, 28), 3)
        .await
        .unwrap();
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
    assert_eq!(made.len(), 2);
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
    assert_eq!(made, 6);
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
