//! The monthly partitions of the event log.

use chrono::{Datelike as _, Months, NaiveDate};
use sqlx::{Acquire as _, PgConnection};

use crate::ddl::{SchemaError, default_partition, trusted, write_row_level_security};
use crate::layout::{PARTITIONED, literal, quoted};

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
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(format!("{}.{PARTITIONED} partitions", self.schema))
            .execute(&mut *transaction)
            .await?;
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
             WHERE n.nspname = $1 AND p.relname = $2 AND c.relname = $3 \
             AND c.relnamespace = n.oid)",
        )
        .bind(self.schema)
        .bind(PARTITIONED)
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
        let [first, end] = [self.first, self.end]
            .map(|day| literal(&day.format("%Y-%m-%d 00:00:00+00").to_string()));
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
