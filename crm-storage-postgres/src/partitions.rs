//! The monthly partitions of the event log.

use chrono::{Datelike as _, Months, NaiveDate};
use crm_audit::archived_events;
use crm_core::schema::Entity as _;
use crm_core::storage::DroppedEntries;
use sqlx::{Acquire as _, PgConnection};

use crate::ddl::{SchemaError, default_partition, trusted, write_row_level_security};
use crate::layout::{ARCHIVE, PARTITIONED, TENANT, TRANSACTION, literal, quoted};

/// Makes the partitions of the event log for `months` months, that of `from` the first, and returns
/// the names of those that were not there before.
///
/// Call it as the owner of the tables, from time to time and with some months to spare: the library
/// starts no clock of its own. Four months are a good number to begin with. An event of a month
/// without a partition goes into the default one; when the month gets its own, its events move
/// there, in the transaction that makes it.
///
/// Months in UTC. Calling it again, or from several places at once, does nothing more. While it
/// makes a partition, events that would go to the default one wait; one of that very month is then
/// refused by the server and sent again by the storage.
///
/// # Errors
/// The database's; a month past the end of the calendar.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// # let today = chrono::NaiveDate::default();
/// let mut connection = pool.acquire().await?;
/// crm_storage_postgres::ensure_partitions(&mut connection, "crm", today, 4).await?;
/// # Ok(())
/// # }
/// ```
pub async fn ensure_partitions(
    connection: &mut PgConnection,
    schema: &str,
    from: NaiveDate,
    months: u32,
) -> Result<Vec<String>, SchemaError> {
    let first = from.with_day(1).unwrap_or(from);
    let mut made = Vec::new();
    for month in 0..months {
        let end = |month: u32| {
            first
                .checked_add_months(Months::new(month))
                // PostgreSQL writes later years like this, but not earlier ones.
                .filter(|day| (1..=9999).contains(&day.year()))
                .ok_or(SchemaError::Partition {
                    reason: "the month is past the end of the calendar",
                })
        };
        let partition = Partition {
            schema,
            first: end(month)?,
            end: end(month + 1)?,
        };
        if partition.ensure(connection).await? {
            made.push(partition.name());
        }
    }
    Ok(made)
}

/// A month of events that was moved or dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonthOfEvents {
    /// The first day of the month.
    pub month: NaiveDate,
    /// The name of its partition.
    pub partition: String,
    /// How many events it has, of all tenants.
    pub events: u64,
}

/// Moves the months of the event log in front of that of `before` to the archive (C-070, C-106), and
/// tells which: the partition as a whole, so no event is copied, and each is in one of the two at
/// every moment. [`AuditTrail`](crm_audit::AuditTrail) reads both.
///
/// Call it as the owner of the tables. Each month is a transaction of its own, in which writers of
/// events wait for as long as it takes to look through the month; calling it again, or from several
/// places, does nothing more. Events in the default partition get partitions of their own months
/// first; those of a month that is in the archive already stay where they are.
///
/// # Errors
/// The database's.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// # let a_year_ago = chrono::NaiveDate::default();
/// let mut connection = pool.acquire().await?;
/// for month in crm_storage_postgres::archive_partitions(&mut connection, "crm", a_year_ago).await? {
///     println!("{}: {} events", month.month, month.events);
/// }
/// # Ok(())
/// # }
/// ```
pub async fn archive_partitions(
    connection: &mut PgConnection,
    schema: &str,
    before: NaiveDate,
) -> Result<Vec<MonthOfEvents>, SchemaError> {
    for month in strays(connection, schema, before).await? {
        ensure_partitions(connection, schema, month, 1).await?;
    }
    let mut moved = Vec::new();
    for (name, month) in months(connection, schema, PARTITIONED, before).await? {
        let table = |name: &str| format!("{}.{}", quoted(schema), quoted(name));
        let (live, archive, partition) = (table(PARTITIONED), table(ARCHIVE), table(&name));
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, schema).await?;
        let known = months(&mut transaction, schema, PARTITIONED, before).await?;
        if !known.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let bounds = bounds(month)?;
        let detach = format!("ALTER TABLE {live} DETACH PARTITION {partition}");
        run(&mut transaction, detach).await?;
        let events = count(&mut transaction, &partition).await?;
        let attach = format!("ALTER TABLE {archive} ATTACH PARTITION {partition} {bounds}");
        run(&mut transaction, attach).await?;
        transaction.commit().await?;
        moved.push(MonthOfEvents {
            month,
            partition: name,
            events,
        });
    }
    Ok(moved)
}

/// Drops the months of the archive in front of that of `before`, with all their events, for good, and
/// tells which. Events that are still in the log are not touched: archive them first.
///
/// Seals over dropped events then tell that they are missing; verify from the first seal that is
/// wanted on. A consumer of the feed that has not read up to there is told so, by
/// [`DroppedEntries`] that each tenant then has. Versions of records from before are not built any
/// more.
///
/// # Errors
/// The database's.
pub async fn drop_archived_partitions(
    connection: &mut PgConnection,
    schema: &str,
    before: NaiveDate,
) -> Result<Vec<MonthOfEvents>, SchemaError> {
    let mut dropped = Vec::new();
    for (name, month) in months(connection, schema, ARCHIVE, before).await? {
        let partition = format!("{}.{}", quoted(schema), quoted(&name));
        let mut transaction = connection.begin().await?;
        lock(&mut transaction, schema).await?;
        let known = months(&mut transaction, schema, ARCHIVE, before).await?;
        if !known.iter().any(|(other, _)| *other == name) {
            continue;
        }
        let events = count(&mut transaction, &partition).await?;
        tell_dropped(&mut transaction, schema, &partition).await?;
        run(&mut transaction, format!("DROP TABLE {partition}")).await?;
        transaction.commit().await?;
        dropped.push(MonthOfEvents {
            month,
            partition: name,
            events,
        });
    }
    Ok(dropped)
}

/// Waits until nobody else changes partitions of the log.
async fn lock(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(format!("{schema}.{PARTITIONED} partitions"))
        .execute(connection)
        .await?;
    Ok(())
}

async fn run(connection: &mut PgConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(trusted(text)).execute(connection).await?;
    Ok(())
}

/// The monthly partitions of a table in front of the month of a day, the oldest first.
async fn months(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    before: NaiveDate,
) -> Result<Vec<(String, NaiveDate)>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_catalog.pg_inherits AS i \
         JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
         JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace \
         WHERE n.nspname = $1 AND p.relname = $2 AND c.relnamespace = n.oid ORDER BY 1",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(connection)
    .await?;
    let end = before.with_day(1).unwrap_or(before);
    let month = |name: String| {
        let digits = name.strip_prefix(PARTITIONED)?.strip_prefix('_')?;
        let day = NaiveDate::parse_from_str(&format!("{digits}_01"), "%Y_%m_%d").ok()?;
        (day < end).then_some((name, day))
    };
    Ok(names.into_iter().filter_map(month).collect())
}

/// The months in front of that of a day of which events are in the default partition.
async fn strays(
    connection: &mut PgConnection,
    schema: &str,
    before: NaiveDate,
) -> Result<Vec<NaiveDate>, SchemaError> {
    let default = format!(
        "{}.{}",
        quoted(schema),
        quoted(&default_partition(PARTITIONED))
    );
    let end = before.with_day(1).unwrap_or(before);
    let mut transaction = connection.begin().await?;
    lock(&mut transaction, schema).await?;
    // Without a tenant not even the owner would see the rows.
    let open = format!("ALTER TABLE {default} NO FORCE ROW LEVEL SECURITY");
    run(&mut transaction, open).await?;
    let found: Vec<NaiveDate> = sqlx::query_scalar(trusted(format!(
        "SELECT DISTINCT date_trunc('month', \"created_at\" AT TIME ZONE 'UTC')::date \
         FROM {default} WHERE \"created_at\" < {} ORDER BY 1",
        literal(&midnight(end))
    )))
    .fetch_all(&mut *transaction)
    .await?;
    // Nothing was changed but that.
    transaction.rollback().await?;
    Ok(found)
}

/// How many rows a partition has, in the transaction that has it to itself.
async fn count(connection: &mut PgConnection, partition: &str) -> Result<u64, sqlx::Error> {
    let open = format!("ALTER TABLE {partition} NO FORCE ROW LEVEL SECURITY");
    run(connection, open).await?;
    let rows: i64 = sqlx::query_scalar(trusted(format!("SELECT count(*) FROM {partition}")))
        .fetch_one(&mut *connection)
        .await?;
    let close = format!("ALTER TABLE {partition} FORCE ROW LEVEL SECURITY");
    run(connection, close).await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// Writes down, for each tenant, up to which position of the feed the events of a partition are gone.
async fn tell_dropped(
    connection: &mut PgConnection,
    schema: &str,
    partition: &str,
) -> Result<(), sqlx::Error> {
    let table = format!(
        "{}.{}",
        quoted(schema),
        quoted(DroppedEntries::schema().table())
    );
    // Without a tenant not even the owner would see or write the rows.
    let open = |table: &str| format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY");
    run(connection, open(&table)).await?;
    run(connection, open(partition)).await?;
    let tenant = quoted(TENANT);
    let transaction = quoted(TRANSACTION);
    let position = format!(
        "lpad(to_hex({transaction}::text::bigint), 16, '0') || replace(\"id\"::text, '-', '')"
    );
    let object = literal(archived_events().name());
    run(
        connection,
        format!(
            "INSERT INTO {table} ({tenant}, \"id\", \"version\", \"created_at\", \"created_by\", \
             \"updated_at\", \"updated_by\", \"object\", \"until_position\", \"entries\", \"last_at\") \
             SELECT {tenant}, (array_agg(\"id\" ORDER BY {transaction} DESC, \"id\" DESC))[1], 1, \
             now(), 'system', now(), 'system', {object}, max(({position}) COLLATE \"C\"), count(*), \
             max(\"created_at\") FROM {partition} GROUP BY {tenant}"
        ),
    )
    .await?;
    let close = format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY");
    run(connection, close).await
}

/// From which moment to which the partition of a month has rows.
fn bounds(month: NaiveDate) -> Result<String, SchemaError> {
    let end = month
        .checked_add_months(Months::new(1))
        .ok_or(SchemaError::Partition {
            reason: "the month is past the end of the calendar",
        })?;
    let [first, end] = [month, end].map(|day| literal(&midnight(day)));
    Ok(format!("FOR VALUES FROM ({first}) TO ({end})"))
}

/// The beginning of a day.
fn midnight(day: NaiveDate) -> String {
    day.format("%Y-%m-%d 00:00:00+00").to_string()
}

/// The partition of one month.
#[derive(Debug)]
struct Partition<'a> {
    schema: &'a str,
    first: NaiveDate,
    end: NaiveDate,
}

impl Partition<'_> {
    fn name(&self) -> String {
        format!("{PARTITIONED}_{}", self.first.format("%Y_%m"))
    }

    /// Makes the partition if it is not there. Each month is a transaction of its own, so that the
    /// locks are held for a short time.
    async fn ensure(&self, connection: &mut PgConnection) -> Result<bool, SchemaError> {
        if self.is_there(connection).await? {
            return Ok(false);
        }
        let mut transaction = connection.begin().await?;
        // Whoever comes second waits here, and then finds it made.
        lock(&mut transaction, self.schema).await?;
        if self.is_there(&mut transaction).await? {
            return Ok(false);
        }
        let columns = self.columns(&mut transaction).await?;
        if columns.is_empty() {
            return Err(SchemaError::Partition {
                reason: "the table of events is missing: run the migrations",
            });
        }
        sqlx::raw_sql(trusted(self.ddl(&columns)))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn is_there(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i \
             JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
             JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace \
             WHERE n.nspname = $1 AND p.relname = ANY($2) AND c.relname = $3 \
             AND c.relnamespace = n.oid)",
        )
        .bind(self.schema)
        // Of a month that is archived, late events stay in the default partition.
        .bind([PARTITIONED, ARCHIVE].as_slice())
        .bind(self.name())
        .fetch_one(connection)
        .await
    }

    /// The columns of the table, as they stand in SQL.
    async fn columns(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_catalog.pg_attribute AS a \
             JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum",
        )
        .bind(self.schema)
        .bind(PARTITIONED)
        .fetch_all(connection)
        .await?;
        Ok(names.iter().map(|name| quoted(name)).collect())
    }

    /// The table is filled before it becomes a partition: then every event is in one place only,
    /// and the table of events is locked against nothing but other changes of its partitions.
    fn ddl(&self, columns: &[String]) -> String {
        let table = |name: &str| format!("{}.{}", quoted(self.schema), quoted(name));
        let parent = table(PARTITIONED);
        let default = table(&default_partition(PARTITIONED));
        let partition = table(&self.name());
        let columns = columns.join(", ");
        let [first, end] = [self.first, self.end].map(|day| literal(&midnight(day)));
        let mut text = format!(
            "CREATE TABLE {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED);\n\
             LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE;\n\
             -- Without a tenant not even the owner would see the rows.\n\
             ALTER TABLE {default} NO FORCE ROW LEVEL SECURITY;\n\
             WITH moved AS (\n    \
                 DELETE FROM {default} WHERE \"created_at\" >= {first} AND \"created_at\" < {end}\n    \
                 RETURNING {columns}\n)\n\
             INSERT INTO {partition} ({columns}) SELECT {columns} FROM moved;\n\
             ALTER TABLE {default} FORCE ROW LEVEL SECURITY;\n"
        );
        write_row_level_security(&mut text, &partition);
        text.push_str(&format!(
            "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end});\n"
        ));
        text
    }
}
