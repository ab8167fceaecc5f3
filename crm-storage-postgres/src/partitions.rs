//! The monthly partitions of logs.

use chrono::{Datelike as _, Months, NaiveDate};
use crm_core::schema::{Entity as _, ObjectRef};
use crm_core::storage::DroppedEntries;
use sqlx::{Acquire as _, PgConnection};

use crate::ddl::{SchemaError, trusted, write_row_level_security};
use crate::layout::{
    ARCHIVE_OF, TENANT, TRANSACTION, default_partition, literal, month_of, month_partition, quoted,
};
use crate::migrate::objects;

/// Makes the partitions of every log by months ([`ObjectSchema::is_monthly`
/// ](crm_core::schema::ObjectSchema::is_monthly)) for `months` months, that of `from` the first, and
/// returns the names of those that were not there before: the audit events, the auth events, the API
/// calls, and a host's own logs in the same schema.
///
/// Call it as the owner of the tables, from time to time and with some months to spare: the library
/// starts no clock of its own. Four months are a good number to begin with. An entry of a month
/// without a partition goes into the default one; when the month gets its own, its entries move
/// there, in the transaction that makes it.
///
/// Months in UTC. Calling it again, or from several places at once, does nothing more. While it
/// makes a partition, entries that would go to the default one wait; one of that very month is then
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
    let first = first_of_month(from);
    let mut made = Vec::new();
    for log in logs(connection, schema).await? {
        for month in 0..months {
            let month = later(first, month)?;
            if log.ensure(connection, month).await? {
                made.push(month_partition(&log.name, month));
            }
        }
    }
    Ok(made)
}

/// A month of a log that was moved or dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MonthOfEvents {
    /// The table of the log.
    pub log: String,
    /// The first day of the month.
    pub month: NaiveDate,
    /// The name of its partition.
    pub partition: String,
    /// How many entries it has, of all tenants.
    pub events: u64,
}

/// Moves the months of logs in front of that of `before` to their archives (C-070, C-106), and tells
/// which: the partition as a whole, so no entry is copied, and each is in one of the two at every
/// moment. The audit events have an archive, which [`AuditTrail`](crm_audit::AuditTrail) reads with
/// them; so have logs of a host of which it made a copy ([`ObjectRef::copied_as`
/// ](crm_core::schema::ObjectRef::copied_as)). The others are [dropped](drop_partitions).
///
/// It is for the database as a whole: whatever the policies of tenants say, all of them read and
/// restore archived events as before.
///
/// Call it as the owner of the tables. Each month is a transaction of its own, in which writers of
/// the log wait for as long as it takes to look through the month; calling it again, or from several
/// places, does nothing more. Entries in the default partition get partitions of their own months
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
///     println!("{} of {}: {} entries", month.month, month.log, month.events);
/// }
/// # Ok(())
/// # }
/// ```
pub async fn archive_partitions(
    connection: &mut PgConnection,
    schema: &str,
    before: NaiveDate,
) -> Result<Vec<MonthOfEvents>, SchemaError> {
    let mut moved = Vec::new();
    for log in logs(connection, schema).await? {
        let Some(archive) = &log.archive else {
            continue;
        };
        log.settle_strays(connection, before).await?;
        for month in log.months(connection, &log.name, before).await? {
            let name = month_partition(&log.name, month);
            let mut transaction = connection.begin().await?;
            log.lock(&mut transaction).await?;
            if !log.has(&mut transaction, &log.name, month).await? {
                continue;
            }
            let (live, kept, partition) = (log.sql(&log.name), log.sql(archive), log.sql(&name));
            let detach = format!("ALTER TABLE {live} DETACH PARTITION {partition}");
            run(&mut transaction, detach).await?;
            // What tenants archived of the month before.
            let default = log.sql(&default_partition(archive));
            log.move_rows(&mut transaction, &default, &partition, month)
                .await?;
            let events = count(&mut transaction, &partition).await?;
            let attach = format!(
                "ALTER TABLE {kept} ATTACH PARTITION {partition} {}",
                bounds(month)?
            );
            run(&mut transaction, attach).await?;
            transaction.commit().await?;
            moved.push(log.told(month, events));
        }
    }
    Ok(moved)
}

/// Drops the months of archives in front of that of `before`, with all their entries, for good, and
/// tells which. Entries that are still in the log are not touched: archive them first.
///
/// It is for the database as a whole, whatever the policies and legal holds of tenants say: give it the
/// longest time for which any tenant keeps its events, and let
/// [`Retention::run`](crm_core::privacy::Retention::run) remove those of the tenants that keep them for
/// less.
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
    for log in logs(connection, schema).await? {
        let Some(archive) = &log.archive else {
            continue;
        };
        for month in log.months(connection, archive, before).await? {
            dropped.extend(log.drop_month(connection, archive, month).await?);
        }
        // What tenants archived of months that are no partitions there.
        let default = log.sql(&default_partition(archive));
        for month in log.stray_months(connection, &default, before).await? {
            let mut transaction = connection.begin().await?;
            log.lock(&mut transaction).await?;
            run(&mut transaction, forced(&default, false)).await?;
            let [first, end] = ends(month)?;
            let of_month = format!("\"created_at\" >= {first} AND \"created_at\" < {end}");
            tell_dropped(&mut transaction, schema, archive, &default, &of_month).await?;
            let deleted = sqlx::raw_sql(trusted(format!("DELETE FROM {default} WHERE {of_month}")))
                .execute(&mut *transaction)
                .await?;
            run(&mut transaction, forced(&default, true)).await?;
            transaction.commit().await?;
            if deleted.rows_affected() > 0 {
                dropped.push(log.told(month, deleted.rows_affected()));
            }
        }
    }
    Ok(dropped)
}

/// Drops the months in front of that of `before` of a log that has no archive, such as `auth_events`,
/// `api_calls` or a host's own, with all their entries, for good, and tells which. `log` is the name of
/// its table.
///
/// It is for the database as a whole, like [`drop_archived_partitions`]: give it the longest time for
/// which any tenant keeps the entries. Call it as the owner of the tables. Entries in the default
/// partition get partitions of their own months first, and go with these.
///
/// # Errors
/// The database's; [`SchemaError::Partition`] for a table that is no log by months, and for a log that
/// has an archive: its months are archived, and dropped there.
///
/// ```no_run
/// # async fn example(pool: sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// # let two_years_ago = chrono::NaiveDate::default();
/// let mut connection = pool.acquire().await?;
/// crm_storage_postgres::drop_partitions(&mut connection, "crm", "api_calls", two_years_ago).await?;
/// # Ok(())
/// # }
/// ```
pub async fn drop_partitions(
    connection: &mut PgConnection,
    schema: &str,
    log: &str,
    before: NaiveDate,
) -> Result<Vec<MonthOfEvents>, SchemaError> {
    let mut all = logs(connection, schema).await?.into_iter();
    let Some(log) = all.find(|one| one.name == log) else {
        let reason = "the table is no log by months";
        return Err(SchemaError::Partition { reason });
    };
    if log.archive.is_some() {
        let reason = "the log has an archive: its months are dropped there";
        return Err(SchemaError::Partition { reason });
    }
    log.settle_strays(connection, before).await?;
    let mut dropped = Vec::new();
    for month in log.months(connection, &log.name, before).await? {
        dropped.extend(log.drop_month(connection, &log.name, month).await?);
    }
    Ok(dropped)
}

/// The logs by months of a schema, archives apart.
async fn logs(connection: &mut PgConnection, schema: &str) -> Result<Vec<Log>, SchemaError> {
    let tables: Vec<(String, String, Option<String>)> = sqlx::query_as(
        "SELECT c.relname::text, d.relname::text, pg_catalog.obj_description(c.oid, 'pg_class') \
         FROM pg_catalog.pg_partitioned_table AS p \
         JOIN pg_catalog.pg_class AS c ON c.oid = p.partrelid \
         JOIN pg_catalog.pg_class AS d ON d.oid = p.partdefid \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND pg_catalog.pg_get_partkeydef(c.oid) = 'RANGE (created_at)' \
         ORDER BY c.relname COLLATE \"C\"",
    )
    .bind(schema)
    .fetch_all(&mut *connection)
    .await?;
    let own = |(name, default, _): &(String, String, _)| *default == default_partition(name);
    let archived_log = |comment: &Option<String>| {
        let comment = comment.as_deref()?;
        comment.strip_prefix(ARCHIVE_OF).map(ToOwned::to_owned)
    };
    let mut logs: Vec<Log> = Vec::new();
    let mut archives = Vec::new();
    for (name, _, comment) in tables.into_iter().filter(own) {
        match archived_log(&comment) {
            Some(log) => archives.push((log, name)),
            None => logs.push(Log {
                schema: schema.to_owned(),
                name,
                archive: None,
            }),
        }
    }
    for (log, archive) in archives {
        if let Some(log) = logs.iter_mut().find(|other| other.name == log) {
            log.archive = Some(archive);
        }
    }
    if logs.is_empty() {
        return Err(SchemaError::Partition {
            reason: "the tables of the logs are missing: run the migrations",
        });
    }
    Ok(logs)
}

fn first_of_month(day: NaiveDate) -> NaiveDate {
    day.with_day(1).unwrap_or(day)
}

/// So many months later.
fn later(month: NaiveDate, months: u32) -> Result<NaiveDate, SchemaError> {
    month
        .checked_add_months(Months::new(months))
        // PostgreSQL writes later years like this, but not earlier ones.
        .filter(|day| (1..=9999).contains(&day.year()))
        .ok_or(SchemaError::Partition {
            reason: "the month is past the end of the calendar",
        })
}

/// The first moment of a month, and of the next, as they stand in SQL.
fn ends(month: NaiveDate) -> Result<[String; 2], SchemaError> {
    Ok([month, later(month, 1)?].map(midnight))
}

/// From which moment to which the partition of a month has rows.
fn bounds(month: NaiveDate) -> Result<String, SchemaError> {
    let [first, end] = ends(month)?;
    Ok(format!("FOR VALUES FROM ({first}) TO ({end})"))
}

/// The beginning of a day.
fn midnight(day: NaiveDate) -> String {
    literal(&day.format("%Y-%m-%d 00:00:00+00").to_string())
}

/// Row-level security for the owner too, or not: without a tenant not even the owner would see rows.
fn forced(table: &str, is_forced: bool) -> String {
    let no = if is_forced { "" } else { "NO " };
    format!("ALTER TABLE {table} {no}FORCE ROW LEVEL SECURITY")
}

async fn run(connection: &mut PgConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(trusted(text)).execute(connection).await?;
    Ok(())
}

/// How many rows a partition has, in the transaction that has it to itself.
async fn count(connection: &mut PgConnection, partition: &str) -> Result<u64, sqlx::Error> {
    run(connection, forced(partition, false)).await?;
    let rows: i64 = sqlx::query_scalar(trusted(format!("SELECT count(*) FROM {partition}")))
        .fetch_one(&mut *connection)
        .await?;
    run(connection, forced(partition, true)).await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// Writes down, for each tenant, up to which position of the feed entries are gone: those of a table, or
/// partition of one, that fulfil a condition. Row-level security must not be forced there.
async fn tell_dropped(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    from: &str,
    condition: &str,
) -> Result<(), sqlx::Error> {
    let is_it = |object: &ObjectRef| object.table() == table && object.is_fed();
    let Some(object) = objects().into_iter().find(is_it) else {
        return Ok(());
    };
    let told = format!(
        "{}.{}",
        quoted(schema),
        quoted(DroppedEntries::schema().table())
    );
    run(connection, forced(&told, false)).await?;
    let tenant = quoted(TENANT);
    let transaction = quoted(TRANSACTION);
    let position = format!(
        "lpad(to_hex({transaction}::text::bigint), 16, '0') || replace(\"id\"::text, '-', '')"
    );
    let object = literal(object.name());
    run(
        connection,
        format!(
            "INSERT INTO {told} ({tenant}, \"id\", \"version\", \"created_at\", \"created_by\", \
             \"updated_at\", \"updated_by\", \"object\", \"until_position\", \"entries\", \"last_at\") \
             SELECT {tenant}, gen_random_uuid(), 1, now(), 'system', now(), 'system', {object}, max(({position}) COLLATE \"C\"), count(*), \
             max(\"created_at\") FROM {from} WHERE {condition} GROUP BY {tenant}"
        ),
    )
    .await?;
    run(connection, forced(&told, true)).await
}

/// A log by months.
#[derive(Debug)]
struct Log {
    schema: String,
    name: String,
    archive: Option<String>,
}

impl Log {
    /// A table of the schema as it stands in SQL.
    fn sql(&self, table: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(table))
    }

    fn told(&self, month: NaiveDate, events: u64) -> MonthOfEvents {
        MonthOfEvents {
            log: self.name.clone(),
            month,
            partition: month_partition(&self.name, month),
            events,
        }
    }

    /// Waits until nobody else changes partitions of the log.
    async fn lock(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}.{} partitions", self.schema, self.name))
            .execute(connection)
            .await?;
        Ok(())
    }

    /// The months in front of that of a day that are partitions of a table, the log's own or its
    /// archive; the oldest first.
    async fn months(
        &self,
        connection: &mut PgConnection,
        table: &str,
        before: NaiveDate,
    ) -> Result<Vec<NaiveDate>, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_catalog.pg_inherits AS i \
             JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
             JOIN pg_catalog.pg_class AS p ON p.oid = i.inhparent \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = p.relnamespace \
             WHERE n.nspname = $1 AND p.relname = $2 AND c.relnamespace = n.oid",
        )
        .bind(&self.schema)
        .bind(table)
        .fetch_all(connection)
        .await?;
        let months = names.iter().filter_map(|name| month_of(&self.name, name));
        let mut months: Vec<NaiveDate> = months
            .filter(|month| *month < first_of_month(before))
            .collect();
        months.sort_unstable();
        Ok(months)
    }

    /// Whether a month is a partition of a table.
    async fn has(
        &self,
        connection: &mut PgConnection,
        table: &str,
        month: NaiveDate,
    ) -> Result<bool, SchemaError> {
        let until = later(month, 1)?;
        let months = self.months(connection, table, until).await?;
        Ok(months.contains(&month))
    }

    /// The months in front of that of a day of which rows are in a default partition.
    async fn stray_months(
        &self,
        connection: &mut PgConnection,
        default: &str,
        before: NaiveDate,
    ) -> Result<Vec<NaiveDate>, SchemaError> {
        let mut transaction = connection.begin().await?;
        self.lock(&mut transaction).await?;
        run(&mut transaction, forced(default, false)).await?;
        let found: Vec<NaiveDate> = sqlx::query_scalar(trusted(format!(
            "SELECT DISTINCT date_trunc('month', \"created_at\" AT TIME ZONE 'UTC')::date \
             FROM {default} WHERE \"created_at\" < {} ORDER BY 1",
            midnight(first_of_month(before))
        )))
        .fetch_all(&mut *transaction)
        .await?;
        // Nothing was changed but that.
        transaction.rollback().await?;
        Ok(found)
    }

    /// Gives the months in front of that of a day partitions of their own, whose entries are in the
    /// default one.
    async fn settle_strays(
        &self,
        connection: &mut PgConnection,
        before: NaiveDate,
    ) -> Result<(), SchemaError> {
        let default = self.sql(&default_partition(&self.name));
        for month in self.stray_months(connection, &default, before).await? {
            self.ensure(connection, month).await?;
        }
        Ok(())
    }

    /// Drops a month of a table, if nobody else did.
    async fn drop_month(
        &self,
        connection: &mut PgConnection,
        table: &str,
        month: NaiveDate,
    ) -> Result<Option<MonthOfEvents>, SchemaError> {
        let partition = self.sql(&month_partition(&self.name, month));
        let mut transaction = connection.begin().await?;
        self.lock(&mut transaction).await?;
        if !self.has(&mut transaction, table, month).await? {
            return Ok(None);
        }
        let events = count(&mut transaction, &partition).await?;
        run(&mut transaction, forced(&partition, false)).await?;
        tell_dropped(&mut transaction, &self.schema, table, &partition, "true").await?;
        run(&mut transaction, format!("DROP TABLE {partition}")).await?;
        transaction.commit().await?;
        Ok(Some(self.told(month, events)))
    }

    /// Makes the partition of a month if it is not there. Each month is a transaction of its own, so
    /// that the locks are held for a short time.
    ///
    /// The table is filled before it becomes a partition: then every entry is in one place only, and
    /// the log is locked against nothing but other changes of its partitions.
    async fn ensure(
        &self,
        connection: &mut PgConnection,
        month: NaiveDate,
    ) -> Result<bool, SchemaError> {
        let bounds = bounds(month)?;
        if self.is_there(connection, month).await? {
            return Ok(false);
        }
        let mut transaction = connection.begin().await?;
        // Whoever comes second waits here, and then finds it made.
        self.lock(&mut transaction).await?;
        if self.is_there(&mut transaction, month).await? {
            return Ok(false);
        }
        let log = self.sql(&self.name);
        let default = self.sql(&default_partition(&self.name));
        let partition = self.sql(&month_partition(&self.name, month));
        let mut text = format!(
            "CREATE TABLE {partition} (LIKE {log} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED);\n"
        );
        write_row_level_security(&mut text, &partition);
        text.push_str(&format!("LOCK TABLE {default} IN ACCESS EXCLUSIVE MODE;\n"));
        run(&mut transaction, text).await?;
        self.move_rows(&mut transaction, &default, &partition, month)
            .await?;
        let attach = format!("ALTER TABLE {log} ATTACH PARTITION {partition} {bounds}");
        run(&mut transaction, attach).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Whether a month has its partition. Of one that is archived, late entries stay in the default
    /// partition of the log.
    async fn is_there(
        &self,
        connection: &mut PgConnection,
        month: NaiveDate,
    ) -> Result<bool, SchemaError> {
        for table in [Some(&self.name), self.archive.as_ref()]
            .into_iter()
            .flatten()
        {
            if self.has(connection, table, month).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Moves the rows of a month from one table into another, as they are.
    async fn move_rows(
        &self,
        connection: &mut PgConnection,
        from: &str,
        to: &str,
        month: NaiveDate,
    ) -> Result<(), SchemaError> {
        let columns = self.columns(connection).await?.join(", ");
        let [first, end] = ends(month)?;
        let text = format!(
            "{};\n{};\n\
             WITH moved AS (\n    \
                 DELETE FROM {from} WHERE \"created_at\" >= {first} AND \"created_at\" < {end}\n    \
                 RETURNING {columns}\n)\n\
             INSERT INTO {to} ({columns}) SELECT {columns} FROM moved;\n{};\n{};\n",
            forced(from, false),
            forced(to, false),
            forced(from, true),
            forced(to, true),
        );
        run(connection, text).await?;
        Ok(())
    }

    /// The columns of the log, as they stand in SQL.
    async fn columns(&self, connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_catalog.pg_attribute AS a \
             JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum",
        )
        .bind(&self.schema)
        .bind(&self.name)
        .fetch_all(connection)
        .await?;
        Ok(names.iter().map(|name| quoted(name)).collect())
    }
}
