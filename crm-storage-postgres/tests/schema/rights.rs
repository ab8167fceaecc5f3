//! What the application may see and write: its tenant's rows.

use crm_storage_postgres::objects;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

use crate::common::{
    ACME, Database, GLOBEX, become_application, contact, count, event, insert, object, refusal,
    run, strings,
};

#[tokio::test]
async fn rows_are_seen_and_written_by_their_tenant_only() {
    let database = Database::migrated("tenants").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    run(&mut work, &contact(ACME, 1, &[])).await;
    run(&mut work, &contact(GLOBEX, 2, &[])).await;
    run(&mut work, &event(ACME, 3, "2026-01-01")).await;
    for (id, name) in [(ACME, "acme"), (GLOBEX, "globex")] {
        let tenant = insert(
            &object("tenant"),
            id,
            &[
                ("id", &format!("'{id}'")),
                ("subdomain", &format!("'{name}'")),
                ("subdomain_folded", &format!("'{name}'")),
            ],
        )
        .replace("(\"tenant_id\", ", "(")
        .replace(&format!("VALUES ('{id}', "), "VALUES (");
        run(&mut work, &tenant).await;
    }
    let objects = objects();
    let tables: Vec<&str> = objects.iter().map(|object| object.table()).collect();

    // No tenant: no rows, no error, and nothing can be written. The setting may never have been made.
    let mut none = work.begin().await.unwrap();
    run(&mut none, "SET LOCAL ROLE crm_app").await;
    for table in &tables {
        assert_eq!(
            count(&mut none, &format!("SELECT count(*) FROM crm.{table}")).await,
            0,
            "{table}"
        );
    }
    become_application(&mut none, None).await;
    for table in &tables {
        assert_eq!(
            count(&mut none, &format!("SELECT count(*) FROM crm.{table}")).await,
            0,
            "{table}"
        );
    }
    let refused = refusal(&mut none, &contact(ACME, 4, &[])).await;
    assert_eq!(refused.as_deref(), Some("42501"));
    // The platform sees the tenants, and nothing of theirs.
    run(&mut none, "SET LOCAL crm.platform = 'on'").await;
    assert_eq!(
        count(&mut none, "SELECT count(*) FROM crm.tenants").await,
        2
    );
    assert_eq!(
        count(&mut none, "SELECT count(*) FROM crm.contacts").await,
        0
    );
    // It changes none of them.
    for change in [
        "UPDATE crm.tenants SET name = 'x'",
        "DELETE FROM crm.tenants",
    ] {
        let done = sqlx::query(AssertSqlSafe(change)).execute(&mut *none).await;
        assert_eq!(done.unwrap().rows_affected(), 0, "{change}");
    }
    none.rollback().await.unwrap();

    let mut acme = work.begin().await.unwrap();
    become_application(&mut acme, Some(ACME)).await;
    let ids = strings(&mut acme, "SELECT id::text FROM crm.contacts").await;
    assert_eq!(ids, [Uuid::from_u128(1).to_string()]);
    assert_eq!(
        count(&mut acme, "SELECT count(*) FROM crm.tenants").await,
        1
    );
    run(&mut acme, "UPDATE crm.tenants SET name = 'Acme'").await;
    run(&mut acme, &contact(ACME, 5, &[])).await;
    for refused in [
        contact(GLOBEX, 6, &[]),
        format!("UPDATE crm.contacts SET tenant_id = '{GLOBEX}'"),
    ] {
        assert_eq!(
            refusal(&mut acme, &refused).await.as_deref(),
            Some("42501"),
            "{refused}"
        );
    }
    let changed = sqlx::query("UPDATE crm.contacts SET version = 9 WHERE tenant_id = $1")
        .bind(GLOBEX)
        .execute(&mut *acme)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 0);
    // A reference can't leave the tenant either.
    let owner = format!("'{}'", Uuid::from_u128(2));
    let refused = insert(&object("activity"), ACME, &[("contact_id", &owner)]);
    assert_eq!(refusal(&mut acme, &refused).await.as_deref(), Some("23503"));

    // What happened stays, but for what it tells of persons.
    assert_eq!(
        count(&mut acme, "SELECT count(*) FROM crm.audit_events").await,
        1
    );
    run(&mut acme, &event(ACME, 7, "2026-01-02")).await;
    let changeable = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'crm.audit_events'::regclass \
                      AND attnum > 0 AND has_column_privilege('crm_app', attrelid, attnum, 'UPDATE') \
                      ORDER BY attname";
    assert_eq!(
        strings(&mut acme, changeable).await,
        [
            "changes",
            "ip",
            "redaction",
            "salt",
            "sealed",
            "session_id",
            "updated_at",
            "updated_by",
            "updated_by_id",
            "user_agent",
            "version"
        ]
    );
    let archive = changeable.replace("crm.audit_events", "crm.audit_events_archive");
    assert_eq!(
        strings(&mut acme, &archive).await,
        strings(&mut acme, changeable).await
    );
    run(
        &mut acme,
        "UPDATE crm.audit_events SET ip = NULL, version = 2",
    )
    .await;
    for refused in [
        "UPDATE crm.audit_seals SET hash = ''",
        "UPDATE crm.audit_seals SET version = 2",
        "DELETE FROM crm.audit_seals",
        "TRUNCATE crm.audit_seals",
        "UPDATE crm.audit_events SET record_version = 2",
        "DELETE FROM crm.audit_events",
        "TRUNCATE crm.audit_events",
        "SELECT * FROM crm.audit_events_default",
        "DELETE FROM crm.audit_events_default",
        "ALTER TABLE crm.contacts DISABLE ROW LEVEL SECURITY",
        "DROP TABLE crm.contacts",
        "CREATE TABLE crm.mine (id int)",
        "SELECT * FROM crm._migrations",
    ] {
        assert_eq!(
            refusal(&mut acme, refused).await.as_deref(),
            Some("42501"),
            "{refused}"
        );
    }
    acme.rollback().await.unwrap();
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// Events leave the log where a policy of their tenant says so, in no other way, and none of another
/// tenant's.
#[tokio::test]
async fn events_are_taken_where_a_policy_lets_them_go() {
    let database = Database::migrated("taken").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    for (tenant, id) in [(ACME, 1), (ACME, 2), (ACME, 3), (GLOBEX, 4)] {
        run(&mut work, &event(tenant, id, "2026-01-10")).await;
    }
    run(&mut work, &event(ACME, 5, "2026-02-10")).await;
    run(
        &mut work,
        &insert(&object("api_call"), GLOBEX, &[("status", "200")]),
    )
    .await;
    let policy = |tenant, id: u128, object: &str, method: &str| {
        let id = format!("'{}'", Uuid::from_u128(id));
        let (object, method) = (format!("'{object}'"), format!("'{method}'"));
        let with = [
            ("id", id.as_str()),
            ("name", id.as_str()),
            ("name_folded", id.as_str()),
            ("object", object.as_str()),
            ("method", method.as_str()),
            ("period", "1"),
        ];
        insert(&crate::common::object("retention_policy"), tenant, &with)
    };
    run(&mut work, &policy(GLOBEX, 11, "audit_event", "hard_delete")).await;
    run(&mut work, &policy(ACME, 12, "account", "hard_delete")).await;
    let take = |tenant: Uuid, log: &str, archive: &str, id: u128| {
        let id = Uuid::from_u128(id);
        format!(
            "SELECT crm.take_entries('{tenant}', 'audit_event', '{log}', {archive}, '2026-01-31', \
             ARRAY['{id}']::uuid[])"
        )
    };
    let archive = "'audit_events_archive'";
    become_application(&mut work, Some(ACME)).await;
    let denied = Some("42501".to_owned());
    for refused in [
        take(ACME, "audit_events", "NULL", 1),
        take(ACME, "audit_events", archive, 1),
        // Of another tenant.
        take(GLOBEX, "audit_events", "NULL", 4),
        take(ACME, "contacts", "NULL", 1),
        take(ACME, "audit_seals", "NULL", 1),
        take(ACME, "audit_events_default", "NULL", 1),
        take(ACME, "api_calls", archive, 1),
        take(GLOBEX, "api_calls", "NULL", 7),
    ] {
        assert_eq!(refusal(&mut work, &refused).await, denied, "{refused}");
    }
    let calls = take(ACME, "api_calls", "NULL", 7);
    assert_eq!(refusal(&mut work, &calls).await.as_deref(), Some("CRM03"));
    run(&mut work, &policy(ACME, 13, "audit_event", "archive")).await;
    let deleted = take(ACME, "audit_events", "NULL", 1);
    assert_eq!(refusal(&mut work, &deleted).await, denied);
    let before =
        "SELECT id || ' ' || transaction_id FROM crm.audit_events WHERE id::text LIKE '%1'";
    let before = strings(&mut work, before).await;
    assert_eq!(
        count(&mut work, &take(ACME, "audit_events", archive, 1)).await,
        1
    );
    let after = "SELECT id || ' ' || transaction_id FROM crm.audit_events_archive";
    assert_eq!(strings(&mut work, after).await, before);
    // Another month, and one that is gone.
    for id in [5, 1, 4] {
        let refused = take(ACME, "audit_events", archive, id);
        assert_eq!(refusal(&mut work, &refused).await.as_deref(), Some("CRM03"));
    }
    run(&mut work, &policy(ACME, 14, "audit_event", "hard_delete")).await;
    assert_eq!(
        count(&mut work, &take(ACME, "audit_events", "NULL", 2)).await,
        1
    );
    assert_eq!(
        count(&mut work, &take(ACME, "audit_events_archive", "NULL", 1)).await,
        1
    );
    assert_eq!(
        count(&mut work, "SELECT count(*) FROM crm.audit_events").await,
        2
    );
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}
