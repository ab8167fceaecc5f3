//! [`Migrations`]: how the schema gets into a database, and from one version to the next.

use std::borrow::Cow;

use crm_core::schema::ObjectRef;
use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, PgPool};

use crate::ddl::{Names, SchemaError, trusted};
use crate::layout::{literal, quoted};

/// The name of the schema unless the host chooses another.
const SCHEMA: &str = "crm";

/// The role of the application unless the host chooses another.
const APPLICATION_ROLE: &str = "crm_app";

/// One step: its number, what it does, how, and how it is undone. The text is frozen once it is
/// released; it is written for the names above.
struct Step {
    version: i64,
    description: &'static str,
    up: &'static str,
    down: &'static str,
}

const STEPS: &[Step] = &[Step {
    version: 1,
    description: "objects",
    up: include_str!("../migrations/0001_objects.up.sql"),
    down: include_str!("../migrations/0001_objects.down.sql"),
}];

/// The objects of the engine, in an order in which each comes after those that it refers to.
///
/// ```
/// let objects = crm_storage_postgres::objects();
/// assert!(objects.iter().any(|object| object.name() == "contact"));
/// ```
#[must_use]
pub fn objects() -> Vec<ObjectRef> {
    let mut objects = crm_core::objects();
    objects.extend(crm_custom_objects::objects());
    objects.extend(crm_audit::objects());
    objects
}

/// The migrations of the engine's schema.
///
/// They make the schema, the tables, the functions, and two roles if they are missing: that of the
/// application, which may read and write rows under row-level security and nothing else, and one
/// that the functions belong to which search, and which take entries out of logs for retention. Neither
/// can log in. Give the first to the user that the
/// application connects as, and do not let it own the tables:
///
/// ```sql
/// GRANT crm_app TO shop;
/// ```
///
/// Run them as the user that shall own the tables; it needs to be allowed to make schemas, unless
/// the schema is there and its own, and to make roles, unless both are there and it is a member of
/// the second, `crm_search`. Running them again does nothing, and several may run them at the
/// same time: they wait for each other with a lock of the session, so connect to the server itself
/// or to a pooler in session mode. The table that tells what ran is `_migrations` in the schema; a
/// host's own is left alone.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), crm_storage_postgres::SchemaError> {
/// use crm_storage_postgres::Migrations;
///
/// Migrations::new().run(&pool).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Migrations {
    schema: String,
    application_role: String,
}

impl Default for Migrations {
    fn default() -> Self {
        Self::new()
    }
}

impl Migrations {
    /// The migrations, for the schema `crm` and the role `crm_app`.
    #[must_use]
    pub fn new() -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            application_role: APPLICATION_ROLE.to_owned(),
        }
    }

    /// Puts the tables into another schema. The names are part of what ran: choose before the first
    /// run, and stay with it.
    #[must_use]
    pub fn schema(mut self, name: impl Into<String>) -> Self {
        self.schema = name.into();
        self
    }

    /// Gives the rights to another role.
    #[must_use]
    pub fn application_role(mut self, name: impl Into<String>) -> Self {
        self.application_role = name.into();
        self
    }

    /// The migrations as sqlx runs them, with a table of their own: for a host that wants to run or
    /// look at them itself.
    ///
    /// A host that merges them with its own, in one table, must take care that the numbers do not
    /// meet: those of the engine count from 1.
    ///
    /// # Errors
    /// A name that PostgreSQL would not take.
    pub fn migrator(&self) -> Result<Migrator, SchemaError> {
        let mut migrator = self.without_schema()?;
        migrator.create_schema(quoted(&self.schema));
        Ok(migrator)
    }

    fn without_schema(&self) -> Result<Migrator, SchemaError> {
        let names = Names::new(&self.schema, &self.application_role)?;
        let mut migrations = Vec::new();
        for step in STEPS {
            for (kind, text) in [
                (MigrationType::ReversibleUp, step.up),
                (MigrationType::ReversibleDown, step.down),
            ] {
                migrations.push(Migration::new(
                    step.version,
                    Cow::Borrowed(step.description),
                    kind,
                    trusted(rendered(text, &names)),
                    false,
                ));
            }
        }
        let mut migrator = Migrator::with_migrations(migrations);
        migrator.dangerous_set_table_name(format!(
            "{}.{}",
            quoted(&self.schema),
            quoted("_migrations")
        ));
        Ok(migrator)
    }

    /// Runs what has not run yet.
    ///
    /// Then make partitions for the months to come, with
    /// [`ensure_partitions`](crate::ensure_partitions): without, all events go into one.
    ///
    /// # Errors
    /// The database's; what ran before differs from what would run now.
    pub async fn run(&self, pool: &PgPool) -> Result<(), SchemaError> {
        let mut connection = pool.acquire().await?;
        // The lock of a run that fails is given back by closing the connection.
        connection.close_on_drop();
        // Whoever may not make schemas can run the migrations in one that was made for them.
        let migrator = if self.has_schema(&mut connection).await? {
            self.without_schema()?
        } else {
            self.migrator()?
        };
        up(&migrator, &mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Undoes the newest migration that ran, with all data in what it made.
    ///
    /// The schema with the table that tells what ran stays, and so do the roles, which other
    /// databases of the server may use.
    ///
    /// # Errors
    /// The database's: what other objects, such as a host's tables, depend on is not removed.
    pub async fn rollback(&self, pool: &PgPool) -> Result<(), SchemaError> {
        let mut connection = pool.acquire().await?;
        connection.close_on_drop();
        if !self.has_schema(&mut connection).await? {
            return Ok(());
        }
        let newest: Option<i64> = sqlx::query_scalar(trusted(format!(
            "SELECT max(version) FROM {}.{}",
            quoted(&self.schema),
            quoted("_migrations")
        )))
        .fetch_one(&mut *connection)
        .await?;
        if let Some(newest) = newest {
            let migrator = self.without_schema()?;
            down(&migrator, &mut connection, newest - 1).await?;
        }
        connection.close().await?;
        Ok(())
    }

    /// Undoes all migrations after `version`, the newest first; with 0, all.
    ///
    /// # Errors
    /// As [`rollback`](Self::rollback).
    pub async fn rollback_to(&self, pool: &PgPool, version: i64) -> Result<(), SchemaError> {
        let mut connection = pool.acquire().await?;
        connection.close_on_drop();
        if self.has_schema(&mut connection).await? {
            let migrator = self.without_schema()?;
            down(&migrator, &mut connection, version).await?;
        }
        connection.close().await?;
        Ok(())
    }

    async fn has_schema(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
            .bind(&self.schema)
            .fetch_one(connection)
            .await
    }
}

/// As `Migrator::run`, whose future can't move between threads when it has a connection.
async fn up(migrator: &Migrator, connection: &mut PgConnection) -> Result<(), MigrateError> {
    migrator.run_direct(None, connection, false).await
}

/// As `Migrator::undo`, for the same reason.
async fn down(
    migrator: &Migrator,
    connection: &mut PgConnection,
    target: i64,
) -> Result<(), MigrateError> {
    let table = &*migrator.table_name;
    connection.lock().await?;
    connection.ensure_migrations_table(table).await?;
    if let Some(version) = connection.dirty_version(table).await? {
        return Err(MigrateError::Dirty(version));
    }
    for applied in connection
        .list_applied_migrations(table)
        .await?
        .iter()
        .rev()
    {
        if applied.version <= target {
            break;
        }
        let step = migrator
            .iter()
            .find(|step| step.version == applied.version && step.migration_type.is_down_migration())
            .ok_or(MigrateError::VersionMissing(applied.version))?;
        connection.revert(table, step).await?;
    }
    connection.unlock().await
}

/// The text of a migration with the names that the host chose in place of those that it is
/// written for.
fn rendered(text: &str, names: &Names) -> String {
    let written = Names {
        schema: SCHEMA.to_owned(),
        application_role: APPLICATION_ROLE.to_owned(),
    };
    let pairs = [
        (written.search_role(), names.search_role()),
        (written.application_role, names.application_role.clone()),
        (written.schema, names.schema.clone()),
    ];
    let replacements: Vec<(String, String)> = pairs
        .iter()
        .flat_map(|(from, to)| [(quoted(from), quoted(to)), (literal(from), literal(to))])
        .collect();
    // From left to right, so that what was put in is not looked at again.
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', '\'']) {
        let (before, here) = rest.split_at(at);
        done.push_str(before);
        let found = replacements
            .iter()
            .find_map(|(from, to)| Some((here.strip_prefix(from.as_str())?, to)));
        match found {
            Some((behind, to)) => {
                done.push_str(to);
                rest = behind;
            }
            None => {
                let (quote, behind) = here.split_at(1);
                done.push_str(quote);
                rest = behind;
            }
        }
    }
    done.push_str(rest);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddl::Ddl;

    const HEADER: &str = "-- Made from the schemas of the objects, and frozen once released: then \
                          changes are a new file.\n\n";

    /// The newest migration, as the schemas say it now.
    fn current() -> [(&'static str, String); 2] {
        let names = Names::new(SCHEMA, APPLICATION_ROLE).unwrap();
        let objects = objects();
        let ddl = Ddl::new(&names, &objects).unwrap();
        [
            (
                "0001_objects.up.sql",
                format!("{HEADER}{}", ddl.everything()),
            ),
            (
                "0001_objects.down.sql",
                format!("{HEADER}{}", ddl.nothing()),
            ),
        ]
    }

    fn path(file: &str) -> String {
        format!("{}/migrations/{file}", env!("CARGO_MANIFEST_DIR"))
    }

    /// The migrations end where the schemas of the objects are. With `CRM_WRITE_MIGRATION=yes` the
    /// newest is written anew, which it may be until it is released; afterwards the difference to it
    /// is written by hand into the next.
    #[test]
    fn the_newest_migration_is_what_the_schemas_say() {
        for (file, text) in current() {
            if std::env::var("CRM_WRITE_MIGRATION").as_deref() == Ok("yes") {
                std::fs::write(path(file), &text).unwrap();
            }
            let stored = std::fs::read_to_string(path(file)).unwrap();
            let same = stored
                .lines()
                .zip(text.lines())
                .find(|(stored, text)| stored != text);
            assert_eq!(
                same, None,
                "{file} differs; run: CRM_WRITE_MIGRATION=yes cargo test -p crm-storage-postgres --lib"
            );
            assert_eq!(stored.len(), text.len(), "{file} differs in length");
        }
    }

    #[test]
    fn names_are_put_in_once_and_quoted() {
        let names = Names::new("it's \"crm_app\"", "a \"crm\"").unwrap();
        let text = r#"GRANT ON "crm"."x" TO "crm_app", "crm_search"; 'crm' 'crm.tenant_id' "crmx""#;
        assert_eq!(
            rendered(text, &names),
            r#"GRANT ON "it's ""crm_app"""."x" TO "a ""crm""", "it's ""crm_app""_search"; 'it''s "crm_app"' 'crm.tenant_id' "crmx""#
        );
    }
}
