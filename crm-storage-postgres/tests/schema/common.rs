//! An empty database of a test's own, statements on it, and rows for it.

use std::sync::atomic::{AtomicU32, Ordering};

use crm_core::schema::{FieldType, ObjectRef, StorageKind};
use crm_storage_postgres::{Migrations, objects};
use crm_test_postgres::Server;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use uuid::Uuid;

/// An empty database of a test's own.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) pool: PgPool,
}

impl Database {
    pub(crate) async fn new(label: &str) -> Self {
        Self::with(label, "C", None).await
    }

    /// `owner` is a role that all connections take on.
    pub(crate) async fn with(label: &str, locale: &str, owner: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "crm_schema_{label}_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let server = Server::shared().unwrap();
        let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
        run(&mut maintenance, &format!("DROP DATABASE IF EXISTS {name}")).await;
        run(
            &mut maintenance,
            &format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE '{locale}'"),
        )
        .await;
        let set_role = match owner {
            Some(owner) => {
                run(
                    &mut maintenance,
                    &format!("GRANT CREATE ON DATABASE {name} TO {owner}"),
                )
                .await;
                format!("SET ROLE {owner}")
            }
            None => String::from("RESET ROLE"),
        };
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .after_connect(move |connection, _| {
                let set_role = set_role.clone();
                Box::pin(async move {
                    sqlx::raw_sql(AssertSqlSafe(set_role))
                        .execute(connection)
                        .await?;
                    Ok(())
                })
            })
            .connect(&server.url_of(&name, None))
            .await
            .unwrap();
        Self { name, pool }
    }

    pub(crate) async fn migrated(label: &str) -> Self {
        let database = Self::new(label).await;
        Migrations::new().run(&database.pool).await.unwrap();
        database
    }

    pub(crate) async fn connection(&self) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
        self.pool.acquire().await.unwrap()
    }

    pub(crate) async fn drop(self) {
        self.pool.close().await;
        let server = Server::shared().unwrap();
        let mut maintenance = PgConnection::connect(server.url()).await.unwrap();
        run(
            &mut maintenance,
            &format!("DROP DATABASE {} (FORCE)", self.name),
        )
        .await;
    }
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) {
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
    {
        panic!("{error}: {sql}");
    }
}

/// The code with which the server refuses a statement; none if it does not.
pub(crate) async fn refusal(connection: &mut PgConnection, sql: &str) -> Option<String> {
    let mut savepoint = connection.begin().await.unwrap();
    let error = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut *savepoint)
        .await
        .err()?;
    savepoint.rollback().await.unwrap();
    let code = error.as_database_error().and_then(|error| error.code());
    Some(code.expect("an error of the server").into_owned())
}

pub(crate) async fn strings(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

pub(crate) async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {sql}"))
}

/// From here to the end of the transaction, all is done by the application for this tenant.
pub(crate) async fn become_application(connection: &mut PgConnection, tenant: Option<Uuid>) {
    run(connection, "SET LOCAL ROLE crm_app").await;
    let tenant = tenant.map(|tenant| tenant.to_string()).unwrap_or_default();
    run(
        connection,
        &format!("SELECT set_config('crm.tenant_id', '{tenant}', true)"),
    )
    .await;
}

pub(crate) fn object(name: &str) -> ObjectRef {
    let objects = objects();
    objects.into_iter().find(|o| o.name() == name).unwrap()
}

/// An INSERT with the least that a row needs; `with` are columns and what they get, as SQL.
pub(crate) fn insert(object: &ObjectRef, tenant: Uuid, with: &[(&str, &str)]) -> String {
    let mut columns = vec!["tenant_id".to_owned()];
    let mut values = vec![format!("'{tenant}'")];
    for field in object.fields() {
        let given = with.iter().find(|(column, _)| *column == field.name);
        let value = match (given, &field.field_type) {
            (Some((_, value)), _) => (*value).to_owned(),
            (None, _) if !field.required => continue,
            (None, FieldType::Picklist { options }) => format!("'{}'", options[0]),
            (None, FieldType::Integer { min, .. }) => (*min).max(0).to_string(),
            (None, _) => match field.storage_kind() {
                StorageKind::Text => "'x'".to_owned(),
                StorageKind::Integer | StorageKind::Decimal => "0".to_owned(),
                StorageKind::Boolean => "false".to_owned(),
                StorageKind::Date | StorageKind::Timestamp => "'2026-01-15 12:00+00'".to_owned(),
                StorageKind::Uuid => format!("'{}'", Uuid::from_u128(7)),
                StorageKind::List | StorageKind::Json => "'{}'".to_owned(),
            },
        };
        columns.push(field.name.to_string());
        values.push(value);
    }
    for (column, value) in with
        .iter()
        .filter(|(column, _)| column.ends_with("_folded") || *column == "sealed")
    {
        columns.push((*column).to_owned());
        values.push((*value).to_owned());
    }
    format!(
        "INSERT INTO crm.{} (\"{}\") VALUES ({});",
        object.table(),
        columns.join("\", \""),
        values.join(", ")
    )
}

pub(crate) fn contact(tenant: Uuid, id: u128, with: &[(&str, &str)]) -> String {
    let id = format!("'{}'", Uuid::from_u128(id));
    let mut all = vec![("id", id.as_str())];
    all.extend(with);
    insert(&object("contact"), tenant, &all)
}

pub(crate) fn event(tenant: Uuid, id: u128, created_at: &str) -> String {
    let id = format!("'{}'", Uuid::from_u128(id));
    let created_at = format!("'{created_at}'");
    insert(
        &object("audit_event"),
        tenant,
        &[("id", &id), ("created_at", &created_at)],
    )
}

pub(crate) const ACME: Uuid = Uuid::from_u128(0xacce);
pub(crate) const GLOBEX: Uuid = Uuid::from_u128(0x910b);
