//! Every statement that the backend sends, generated from the schema.
//!
//! Names come from the schema and are quoted; values are bound; columns are listed. This is the
//! only module whose text reaches the server.

pub(crate) mod aggregate;
pub(crate) mod condition;
mod custom;
pub(crate) mod feed;
#[cfg(test)]
mod lint;
mod place;
pub(crate) mod select;
mod value;
pub(crate) mod write;

use std::fmt::Write as _;

use crm_core::schema::{StorageKind, ValueRef};
use crm_core::storage::Scope;
use sqlx::PgConnection;
use sqlx::postgres::{PgArguments, PgRow};

use crate::layout::Table;
use sqlx::{Arguments as _, Encode, Postgres, Type};

/// From how many values on rows are looked up with a plan that does not depend on the values.
const LARGE_LOOK_UP: usize = 100;

/// A statement while it is written: its text, and the values bound in it.
#[derive(Debug, Default)]
pub(crate) struct Statement {
    tenant: Option<String>,
    is_platform: bool,
    is_large_look_up: bool,
    text: String,
    arguments: PgArguments,
    failed: Option<sqlx::error::BoxDynError>,
}

impl Statement {
    /// A statement whose first part, the CTE `scope`, tells the server whose rows may be seen, for
    /// this transaction only. Everything that touches a table must depend on `scope.is_set`, so
    /// that row-level security is asked after it is set.
    ///
    /// The text ends behind the CTE: more CTEs may follow after a comma.
    pub(crate) fn scoped(scope: &Scope) -> Self {
        Self::begun(scope, "")
    }

    /// A statement that writes. It also says, for itself only, that its changes are recorded, for
    /// the triggers of [`raw_sql_triggers`](crate::raw_sql_triggers), where a host has them.
    pub(crate) fn writing(scope: &Scope) -> Self {
        Self::begun(
            scope,
            " AND set_config('crm.recorded', statement_timestamp()::text, true) IS NOT NULL",
        )
    }

    fn begun(scope: &Scope, also: &str) -> Self {
        let mut statement = Self {
            text: String::with_capacity(4_096),
            ..Self::default()
        };
        statement.arguments.reserve(96, 2_048);
        match scope.tenant() {
            Some(tenant) => {
                let tenant = statement.argument(tenant.uuid());
                statement.push(&format!(
                    "WITH scope AS MATERIALIZED \
                     (SELECT set_config('crm.tenant_id', {tenant}::text, true) IS NOT NULL{also} AS is_set)"
                ));
                statement.tenant = Some(tenant);
            }
            None => {
                statement.is_platform = true;
                statement.push(
                    "WITH scope AS MATERIALIZED \
                     (SELECT set_config('crm.platform', 'on', true) IS NOT NULL AS is_set)",
                );
            }
        }
        statement
    }

    /// What every mention of a table must be accompanied by: the rows are those of the scope.
    /// `alias` is the table's alias in the statement. Of a table that several objects share, they are
    /// the object's: which one is bound, so that the text is the same for all of them.
    pub(crate) fn own(&mut self, table: &Table, alias: &str) -> String {
        if table.object.is_template() {
            return format!("{alias}.\"tenant_id\" = {} AND false", self.tenant());
        }
        let discriminator = table.discriminator();
        let discriminator = discriminator.map(|(column, id)| (&column.sql, self.argument(id)));
        let own = match &self.tenant {
            Some(tenant) if table.has_tenant() => format!("{alias}.\"tenant_id\" = {tenant}"),
            Some(tenant) => format!("{alias}.\"id\" = {tenant}"),
            None => (self.is_platform && !table.has_tenant()).to_string(),
        };
        match discriminator {
            Some((column, id)) => format!("{own} AND {alias}.{column} = {id}"),
            None => own,
        }
    }

    /// The placeholders of the discriminator's column and of its value, for our functions: nulls where
    /// the table is one object's.
    pub(crate) fn discriminator(&mut self, table: &Table) -> (String, String) {
        let discriminator = table.discriminator();
        let name = discriminator.map(|(column, _)| column.name.as_str());
        let id = discriminator.map(|(_, id)| id);
        (self.argument(name), self.argument(id))
    }

    /// The placeholder of the tenant, in a tenant's scope.
    pub(crate) fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("NULL::uuid")
    }

    /// Adds text that was made from the schema.
    pub(crate) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Binds a value and writes its placeholder.
    pub(crate) fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.add(value);
        self.push_last();
        self
    }

    /// Binds a value without writing anything.
    fn add<'q, T>(&mut self, value: T)
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        if let Err(error) = self.arguments.add(value) {
            self.failed = Some(error);
        }
    }

    /// Writes the placeholder of the value that was bound last.
    fn push_last(&mut self) {
        let _ = write!(self.text, "${}", self.arguments.len());
    }

    /// Binds a value and returns its placeholder, to be written where it is needed.
    pub(crate) fn argument<'q, T>(&mut self, value: T) -> String
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.add(value);
        format!("${}", self.arguments.len())
    }

    /// Binds a field's value, null included, with the type that its kind has, and writes its
    /// placeholder.
    pub(crate) fn bind_value(&mut self, kind: StorageKind, value: &ValueRef<'_>) -> &mut Self {
        value::add(self, kind, value);
        self.push_last();
        self
    }

    /// Like [`bind_value`](Self::bind_value), but returns the placeholder.
    pub(crate) fn value_argument(&mut self, kind: StorageKind, value: &ValueRef<'_>) -> String {
        value::add(self, kind, value);
        format!("${}", self.arguments.len())
    }

    /// Says that rows are looked up by so many values of a field.
    pub(crate) const fn looks_up(&mut self, values: usize) {
        self.is_large_look_up |= values >= LARGE_LOOK_UP;
    }

    /// Whether the server must not plan for the very values: it would count on finding next to
    /// nothing in a tenant that its statistics do not know yet, and read all of it instead of going
    /// by the index.
    pub(crate) const fn is_large_look_up(&self) -> bool {
        self.is_large_look_up
    }

    /// Binds the values of one column of many rows as an array, and returns what stands for the
    /// array in SQL.
    pub(crate) fn array_argument<'v>(
        &mut self,
        kind: StorageKind,
        values: impl Iterator<Item = ValueRef<'v>>,
    ) -> String {
        value::array(self, kind, values)
    }

    /// The text so far.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Runs the statement and returns its rows.
    ///
    /// # Errors
    /// What the server says; a value that has no form in PostgreSQL.
    pub(crate) async fn fetch(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let (text, arguments) = self.finish()?;
        #[allow(
            clippy::disallowed_types,
            reason = "the one place where generated SQL is sent: names come from the schema, values are bound"
        )]
        let text = sqlx::AssertSqlSafe(text);
        sqlx::query_with(text, arguments)
            .fetch_all(connection)
            .await
    }

    /// The text and the bound values.
    ///
    /// # Errors
    /// A value that has no form in PostgreSQL.
    pub(crate) fn finish(self) -> Result<(String, PgArguments), sqlx::Error> {
        match self.failed {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None => Ok((self.text, self.arguments)),
        }
    }
}
