//! The tables, as SQL: what migrations are made of, and what a host runs for objects of its own.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};

use crm_core::privacy::RetentionPolicy;
use crm_core::schema::{Entity as _, FieldSchema, ObjectRef, StorageKind, search_texts};
use sqlx::SqlSafeStr as _;

use crate::layout::{
    ARCHIVE_OF, MONTH_BYTES, Method, NAME_BYTES, SEALED, SEARCH, TENANT, TRANSACTION, Table,
    constraint_name, default_partition, is_searched, literal, month_of, quoted,
};
use crate::migrate::objects;

/// The columns that PostgreSQL itself gives every table.
const SYSTEM_COLUMNS: &[&str] = &["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// What stands between the words of a text, besides blanks.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// The functions that filters and searches call.
const FUNCTIONS: &str = include_str!("functions.sql");

/// The functions that commits call.
const COMMIT_FUNCTIONS: &str = include_str!("commit.sql");

/// The policy by which all tenants are seen where the transaction says so.
const PLATFORM_POLICY: &str = "platform";

/// The policy that keeps a tenant's rows from all others.
const TENANT_POLICY: &str = "tenant_isolation";

/// The policy that lets the search functions see what they look through.
const SEARCH_POLICY: &str = "search";

/// The tenant of the transaction; null if there is none, and then no row is its own.
const TENANT_SETTING: &str = "NULLIF(current_setting('crm.tenant_id', true), '')::uuid";

/// Why a schema can't be written, put in place, or compared.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A schema or role whose name PostgreSQL would not take as it is.
    #[error("`{name}` can't be the name of a schema or role: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A table, or one of its columns, has a name that is taken or can't be one.
    #[error("`{name}` of object `{object}` can't be the name of a table or column: {reason}")]
    Reserved {
        /// The object.
        object: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two tables, indexes or constraints get the same name.
    #[error("`{name}` would be made twice, for `{object}` the second time")]
    Duplicate {
        /// The object that comes second.
        object: String,
        /// The name.
        name: String,
    },
    /// A reference to an object that is not known, or that can't be referred to.
    #[error("field `{field}` of object `{object}` can't refer to `{target}`: {reason}")]
    Reference {
        /// The object.
        object: String,
        /// The field.
        field: String,
        /// The object referred to.
        target: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no such month, or no table to make partitions of.
    #[error("no partitions can be made: {reason}")]
    Partition {
        /// What is wrong.
        reason: &'static str,
    },
    /// A migration failed, or what ran before is not what would run now.
    #[error("a migration failed")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database refused.
    #[error("the database refused")]
    Database(#[from] sqlx::Error),
}

/// The message alone: what a server says besides may repeat rows.
impl fmt::Debug for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaError({self})")
    }
}

/// SQL that was made here: names quoted, no value in it.
#[allow(
    clippy::disallowed_types,
    reason = "DDL takes no bound values; its names come from schemas and are quoted"
)]
pub(crate) fn trusted(text: String) -> sqlx::SqlStr {
    sqlx::AssertSqlSafe(text).into_sql_str()
}

/// The DDL of the tables of `objects`, in the database schema `schema`, for the role that the
/// application runs as: tables, keys, indexes, row-level security and rights.
///
/// The engine's own tables are made by [`Migrations`](crate::Migrations). This is for a host's own
/// objects: print it once, and put it into a migration of the host that runs after those of the
/// engine. It runs as it is, in psql for example.
///
/// # Errors
/// A name that is taken or too long; a reference to an object that is neither among `objects` nor
/// one of the engine's.
///
/// ```
/// use crm_core::schema::{FieldSchema, FieldType, ObjectSchema};
///
/// let project = ObjectSchema::builder("project", "projects")
///     .field(FieldSchema { required: true, ..FieldSchema::new("title", FieldType::text(100)) })
///     .build();
/// let ddl = crm_storage_postgres::ddl("crm", "crm_app", &[project])?;
/// assert!(ddl.contains(r#"CREATE TABLE "crm"."projects" ("#));
/// # Ok::<(), crm_storage_postgres::SchemaError>(())
/// ```
pub fn ddl(
    schema: &str,
    application_role: &str,
    objects: &[ObjectRef],
) -> Result<String, SchemaError> {
    let names = Names::new(schema, application_role)?;
    let ddl = Ddl::new(&names, objects)?;
    Ok(ddl.tables())
}

/// The names that a host chooses, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) schema: String,
    pub(crate) application_role: String,
}

impl Names {
    /// # Errors
    /// A name that PostgreSQL would refuse or change. A dollar sign could end the body of a
    /// function.
    pub(crate) fn new(schema: &str, application_role: &str) -> Result<Self, SchemaError> {
        for name in [schema, application_role] {
            let reason = if name.is_empty() {
                "it is empty"
            } else if name.len() > NAME_BYTES {
                "it is longer than 63 bytes"
            } else if name.starts_with("pg_") {
                "PostgreSQL keeps names that begin with `pg_` to itself"
            } else if name.contains(['\0', '$']) {
                "it has a character that can't stand in it"
            } else {
                continue;
            };
            return Err(SchemaError::Name {
                name: name.to_owned(),
                reason,
            });
        }
        let names = Self {
            schema: schema.to_owned(),
            application_role: application_role.to_owned(),
        };
        let is_taken = ["public", "none"].contains(&application_role)
            || names.search_role() == application_role;
        if is_taken {
            return Err(SchemaError::Name {
                name: names.application_role,
                reason: "it means another role",
            });
        }
        Ok(names)
    }

    /// The role that the search functions belong to.
    pub(crate) fn search_role(&self) -> String {
        constraint_name(&self.schema, &[], "search")
    }
}

/// Writes the DDL of some objects.
#[derive(Debug)]
pub(crate) struct Ddl<'a> {
    names: &'a Names,
    search_role: String,
    tables: Vec<Table>,
    /// The tables that may be referred to, by object.
    targets: HashMap<String, Table>,
}

impl<'a> Ddl<'a> {
    /// # Errors
    /// Names that clash, references that lead nowhere.
    pub(crate) fn new(names: &'a Names, of: &[ObjectRef]) -> Result<Self, SchemaError> {
        let mut targets: HashMap<String, Table> = HashMap::new();
        for object in objects().iter().chain(of) {
            let table = Table::of(&names.schema, object);
            targets.insert(object.name().to_owned(), table);
        }
        let ddl = Self {
            names,
            search_role: names.search_role(),
            tables: of.iter().map(|o| Table::of(&names.schema, o)).collect(),
            targets,
        };
        ddl.check_names()?;
        ddl.check_references()?;
        Ok(ddl)
    }

    /// Has the search functions belong to another role than that of the schema's name.
    pub(crate) fn with_search_role(mut self, role: String) -> Self {
        self.search_role = role;
        self
    }

    /// All that the engine needs of a schema: roles, functions, tables, rights.
    #[cfg(test)]
    pub(crate) fn everything(&self) -> String {
        [
            self.roles(),
            self.functions(),
            self.tables(),
            self.function_rights(),
        ]
        .concat()
    }

    /// What undoes [`everything`](Self::everything), but for the roles, which other databases of
    /// the server may use.
    #[cfg(test)]
    pub(crate) fn nothing(&self) -> String {
        let mut text = String::new();
        let tables: Vec<&str> = self.tables.iter().rev().map(|t| t.sql.as_str()).collect();
        if !tables.is_empty() {
            let _ = writeln!(text, "DROP TABLE\n    {};\n", tables.join(",\n    "));
        }
        for name in self.function_names().iter().rev() {
            let _ = writeln!(text, "DROP FUNCTION {}.{name};", quoted(&self.names.schema));
        }
        for role in [&self.names.application_role, &self.search_role] {
            let _ = write!(
                text,
                "\nREVOKE USAGE ON SCHEMA {} FROM {};",
                quoted(&self.names.schema),
                quoted(role)
            );
        }
        text.push('\n');
        text
    }

    /// The roles and the schema.
    #[cfg(test)]
    fn roles(&self) -> String {
        let schema = quoted(&self.names.schema);
        let application = quoted(&self.names.application_role);
        let search = quoted(&self.search_role);
        let mut text = format!(
            "-- The schema, unless it was made before, perhaps by somebody who may.\n\
             DO $do$\nBEGIN\n    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {name}) THEN\n        \
             CREATE SCHEMA {schema};\n    END IF;\nEND\n$do$;\n\n\
             -- The role of the application, and the one that the search functions belong to. Roles are\n\
             -- shared by all databases of a server: another may make them at the same time.\n",
            name = literal(&self.names.schema),
        );
        for role in [&self.names.application_role, &self.search_role] {
            text.push_str(&create_role(role));
        }
        let _ = write!(
            text,
            "GRANT USAGE ON SCHEMA {schema} TO {application};\nGRANT USAGE ON SCHEMA {schema} TO {search};\n\n"
        );
        text
    }

    /// The functions.
    pub(crate) fn functions(&self) -> String {
        let mut text = String::new();
        for source in [FUNCTIONS, COMMIT_FUNCTIONS] {
            text.push_str(
                &source
                    .replace("{schema_literal}", literal(&self.names.schema).trim_start())
                    .replace("{schema}", &quoted(&self.names.schema)),
            );
            text.push('\n');
        }
        text
    }

    /// The names of the functions, in the order in which they are made.
    pub(crate) fn function_names(&self) -> Vec<String> {
        [FUNCTIONS, COMMIT_FUNCTIONS]
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| {
                let name = line
                    .strip_prefix("CREATE FUNCTION {schema}.")
                    .or_else(|| line.strip_prefix("CREATE OR REPLACE FUNCTION {schema}."))?;
                Some(name.split('(').next()?.trim().to_owned())
            })
            .collect()
    }

    /// Who may call the functions, and whose the search functions are.
    #[cfg(test)]
    fn function_rights(&self) -> String {
        let schema = quoted(&self.names.schema);
        let application = quoted(&self.names.application_role);
        let search = quoted(&self.search_role);
        let mut text = String::from("-- Functions are everybody's until that is taken back.\n");
        for name in self.function_names() {
            let _ = write!(
                text,
                "REVOKE ALL ON FUNCTION {schema}.{name} FROM PUBLIC;\n\
                 GRANT EXECUTE ON FUNCTION {schema}.{name} TO {application};\n"
            );
        }
        let _ = write!(
            text,
            "GRANT EXECUTE ON FUNCTION {schema}.search_text, {schema}.refuse TO {search};\n\n\
             -- To give a function away one must belong to the role that gets it, and that role must be\n\
             -- allowed to make functions: both for as long as this takes.\n\
             DO $do$\n\
             DECLARE\n    \
                 is_member boolean := pg_has_role({search_literal}, 'USAGE');\n\
             BEGIN\n    \
                 IF NOT is_member THEN\n        GRANT {search} TO CURRENT_USER;\n    END IF;\n    \
                 GRANT CREATE ON SCHEMA {schema} TO {search};\n    \
                 ALTER FUNCTION {schema}.search OWNER TO {search};\n    \
                 ALTER FUNCTION {schema}.tagged OWNER TO {search};\n    \
                 ALTER FUNCTION {schema}.take_entries OWNER TO {search};\n    \
                 GRANT EXECUTE ON FUNCTION {schema}.search, {schema}.tagged, {schema}.take_entries TO CURRENT_USER;\n    \
                 REVOKE CREATE ON SCHEMA {schema} FROM {search};\n    \
                 IF NOT is_member THEN\n        REVOKE {search} FROM CURRENT_USER;\n    END IF;\n\
             END\n$do$;\n",
            search_literal = literal(&self.search_role),
        );
        text
    }

    /// The tables with all that belongs to them; references last, so that the order is free.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            text.push_str(&self.table(table));
        }
        for table in &self.tables {
            self.write_foreign_keys(&mut text, table);
        }
        text
    }

    fn table(&self, table: &Table) -> String {
        let mut text = String::new();
        let mut lines = Vec::new();
        if table.has_tenant() {
            lines.push(format!("{} uuid NOT NULL", quoted(TENANT)));
        }
        for column in &table.columns {
            let null = if column.nullable { "" } else { " NOT NULL" };
            lines.push(format!("{} {}{null}", column.sql, column.sql_type));
        }
        if let Some(sealed) = table.sealed() {
            lines.push(format!("{} bytea", quoted(sealed)));
        }
        if table.is_fed() {
            lines.push(format!(
                "{} xid8 NOT NULL DEFAULT pg_current_xact_id()",
                quoted(TRANSACTION)
            ));
        }
        if table.is_searchable() {
            lines.push(format!(
                "{} tsvector GENERATED ALWAYS AS (\n{}\n    ) STORED",
                quoted(SEARCH),
                self.search_vector(table)
            ));
        }
        lines.push(format!(
            "CONSTRAINT {} PRIMARY KEY ({})",
            quoted(&constraint_name(&table.name, &[], "pkey")),
            quoted_list(table.primary_key())
        ));
        for check in &table.checks {
            lines.push(format!(
                "CONSTRAINT {} CHECK ({})",
                quoted(&check.name),
                check.expression
            ));
        }
        let partition = if table.is_partitioned() {
            format!(" PARTITION BY RANGE ({})", quoted("created_at"))
        } else {
            String::new()
        };
        let _ = write!(
            text,
            "CREATE TABLE {} (\n    {}\n){partition};\n",
            table.sql,
            lines.join(",\n    ")
        );
        if let Some(log) = table.archive_of() {
            // The maintenance of the months reads it.
            let _ = writeln!(
                text,
                "COMMENT ON TABLE {} IS {};",
                table.sql,
                literal(&format!("{ARCHIVE_OF}{log}"))
            );
        }
        self.write_indexes(&mut text, table);
        self.write_security(&mut text, table);
        if table.is_partitioned() {
            let default = format!(
                "{}.{}",
                quoted(&self.names.schema),
                quoted(&default_partition(&table.name))
            );
            let _ = writeln!(
                text,
                "CREATE TABLE {default} PARTITION OF {} DEFAULT;",
                table.sql
            );
            write_row_level_security(&mut text, &default);
        }
        text.push('\n');
        text
    }

    /// The full-text vector: the first searchable field weighs most.
    fn search_vector(&self, table: &Table) -> String {
        let searchable = |field: &&FieldSchema| is_searched(field);
        let parts: Vec<String> = table
            .object
            .fields()
            .iter()
            .filter(searchable)
            .zip(["A", "B", "C"].into_iter().chain(std::iter::repeat("D")))
            .map(|(field, weight)| {
                let column = quoted(&field.name);
                format!(
                    "        setweight(to_tsvector('simple'::regconfig, CASE WHEN \
                     octet_length({column}) <> length({column}) THEN {}.search_text({column}) \
                     ELSE translate(coalesce({column}, ''), {punctuation}, {blanks}) END), '{weight}')",
                    quoted(&self.names.schema),
                    punctuation = literal(PUNCTUATION).trim_start(),
                    blanks = literal(&" ".repeat(PUNCTUATION.len())).trim_start(),
                )
            })
            .collect();
        parts.join("\n        || ")
    }

    fn write_indexes(&self, text: &mut String, table: &Table) {
        for unique in &table.uniques {
            let mut columns: Vec<&str> = table.has_tenant().then_some(TENANT).into_iter().collect();
            columns.extend(
                unique
                    .columns
                    .iter()
                    .filter_map(|index| table.columns.get(*index))
                    .map(|column| column.name.as_str()),
            );
            let _ = writeln!(
                text,
                "CREATE UNIQUE INDEX {} ON {} ({}){};",
                quoted(&unique.name),
                table.sql,
                quoted_list(columns),
                condition(&unique.predicate)
            );
        }
        for index in &table.indexes {
            let lead = table.has_tenant() && index.method == Method::Btree;
            let mut columns: Vec<&str> = lead.then_some(TENANT).into_iter().collect();
            columns.extend(index.columns.iter().map(String::as_str));
            let method = match index.method {
                Method::Btree => "",
                Method::Gin => "USING gin ",
            };
            let _ = writeln!(
                text,
                "CREATE INDEX {} ON {} {method}({}){};",
                quoted(&index.name),
                table.sql,
                quoted_list(columns),
                condition(&index.predicate)
            );
        }
    }

    /// Row-level security, and who may do what.
    fn write_security(&self, text: &mut String, table: &Table) {
        write_row_level_security(text, &table.sql);
        let policy = quoted(TENANT_POLICY);
        let _ = if table.has_tenant() {
            let own = format!("{} = {TENANT_SETTING}", quoted(TENANT));
            writeln!(
                text,
                "CREATE POLICY {policy} ON {}\n    USING ({own})\n    WITH CHECK ({own});",
                table.sql
            )
        } else {
            let own = format!("{} = {TENANT_SETTING}", quoted("id"));
            writeln!(
                text,
                "CREATE POLICY {policy} ON {table}\n    USING ({own})\n    WITH CHECK ({own});\n\
                 CREATE POLICY {platform} ON {table} FOR SELECT\n    \
                 USING (current_setting('crm.platform', true) = 'on');",
                platform = quoted(PLATFORM_POLICY),
                table = table.sql
            )
        };
        // What happened is written once: not even the application can change or remove it.
        // Which transaction wrote an entry is the server's to say, so the column is left out.
        let columns = table.is_fed().then(|| {
            let own = table.columns.iter().map(|column| column.name.as_str());
            let all = [TENANT].into_iter().chain(own).chain(table.sealed());
            format!(" ({})", quoted_list(all))
        });
        let columns = columns.unwrap_or_default();
        let rights = if table.is_trail() {
            // But for what it tells of persons, which an erasure takes out.
            let redactable = quoted_list(table.redactable());
            format!("SELECT, INSERT{columns}, UPDATE ({redactable})")
        } else if table.is_proof() {
            format!("SELECT, INSERT{columns}")
        } else {
            format!("SELECT, INSERT{columns}, UPDATE{columns}, DELETE")
        };
        let _ = writeln!(
            text,
            "GRANT {rights} ON {} TO {};",
            table.sql,
            quoted(&self.names.application_role)
        );
        self.write_upkeep_rights(text, table);
        let searched = searched_columns(table);
        if !searched.is_empty() {
            let search = quoted(&self.search_role);
            let _ = write!(
                text,
                "CREATE POLICY {} ON {table} FOR SELECT TO {search} USING (true);\n\
                 GRANT SELECT ({}) ON {table} TO {search};\n",
                quoted(SEARCH_POLICY),
                quoted_list(searched),
                table = table.sql,
            );
        }
    }

    /// What the function needs that takes entries out of logs by months.
    fn write_upkeep_rights(&self, text: &mut String, table: &Table) {
        let rights = if table.archive_of().is_some() {
            "SELECT, INSERT, DELETE"
        } else if table.is_partitioned() {
            "SELECT, DELETE"
        } else if table.object == *RetentionPolicy::schema() {
            "SELECT (tenant_id, object, method, deleted_at)"
        } else {
            return;
        };
        let role = quoted(&self.search_role);
        let _ = writeln!(text, "GRANT {rights} ON {} TO {role};", table.sql);
    }

    fn write_foreign_keys(&self, text: &mut String, table: &Table) {
        for key in &table.foreign_keys {
            let Some(target) = self.targets.get(&key.target) else {
                continue;
            };
            let Some(column) = table.column(key.field) else {
                continue;
            };
            let (from, to) = if target.has_tenant() {
                (
                    vec![TENANT, column.name.as_str()],
                    quoted_list([TENANT, "id"]),
                )
            } else {
                (vec![column.name.as_str()], quoted("id"))
            };
            let _ = writeln!(
                text,
                "ALTER TABLE {} ADD CONSTRAINT {}\n    FOREIGN KEY ({}) REFERENCES {} ({to});",
                table.sql,
                quoted(&key.name),
                quoted_list(from),
                target.sql
            );
        }
    }

    fn check_names(&self) -> Result<(), SchemaError> {
        // Tables and indexes share one space of names in a schema.
        let mut relations = HashSet::from(["_migrations".to_owned()]);
        let mut take = |object: &ObjectRef, name: &str| {
            if relations.insert(name.to_owned()) {
                Ok(())
            } else {
                Err(SchemaError::Duplicate {
                    object: object.name().to_owned(),
                    name: name.to_owned(),
                })
            }
        };
        for table in &self.tables {
            let object = &table.object;
            let reserved = |name: &str, reason| SchemaError::Reserved {
                object: object.name().to_owned(),
                name: name.to_owned(),
                reason,
            };
            let names = object.fields().iter().map(|field| &*field.name);
            for name in names.chain([object.table()]) {
                check_name(name).map_err(|reason| reserved(name, reason))?;
            }
            // It is bound as a value, wherever it is needed.
            if object.name().contains('\0') {
                let reason = "it has a character that can't stand in it";
                return Err(reserved(object.name(), reason));
            }
            take(object, &table.name)?;
            if table.is_partitioned() {
                take(object, &default_partition(&table.name))?;
                if !table.uniques.is_empty() {
                    let reason = "a log by months can have no unique key";
                    return Err(SchemaError::Partition { reason });
                }
                if table.name.len() + MONTH_BYTES > NAME_BYTES {
                    let reason = "it is longer than 55 bytes, and names its months";
                    return Err(reserved(&table.name, reason));
                }
            }
            let mut logs = self.targets.values().filter(|other| other.is_partitioned());
            if logs.any(|log| month_of(&log.name, &table.name).is_some()) {
                return Err(reserved(&table.name, "it would look like a partition"));
            }
            take(object, &constraint_name(&table.name, &[], "pkey"))?;
            for index in &table.indexes {
                take(object, &index.name)?;
            }
            for unique in &table.uniques {
                take(object, &unique.name)?;
            }
            let mut columns = HashSet::new();
            for column in &table.columns {
                check_name(&column.name).map_err(|reason| reserved(&column.name, reason))?;
                let is_taken = match column.name.as_str() {
                    TENANT => true,
                    SEARCH => true,
                    SEALED => table.sealed().is_some(),
                    TRANSACTION => table.is_fed(),
                    name => SYSTEM_COLUMNS.contains(&name),
                };
                if is_taken {
                    return Err(reserved(&column.name, "the database has a column of it"));
                }
                if !columns.insert(column.name.as_str()) {
                    return Err(reserved(&column.name, "another column has it"));
                }
            }
            let mut constraints = HashSet::new();
            let keys = table.foreign_keys.iter().map(|key| &key.name);
            for name in table.checks.iter().map(|check| &check.name).chain(keys) {
                if !constraints.insert(name.as_str()) {
                    return Err(SchemaError::Duplicate {
                        object: object.name().to_owned(),
                        name: name.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_references(&self) -> Result<(), SchemaError> {
        for table in &self.tables {
            for key in &table.foreign_keys {
                let reason = match self.targets.get(&key.target) {
                    None => "there is no such object",
                    Some(target) if target.is_partitioned() => {
                        "nothing can refer to an entry of a log by months"
                    }
                    Some(target) if target.has_tenant() && !table.has_tenant() => {
                        "it belongs to a tenant, and this object does not"
                    }
                    Some(_) => continue,
                };
                return Err(SchemaError::Reference {
                    object: table.object.name().to_owned(),
                    field: table.object.field_name(key.field).to_owned(),
                    target: key.target.clone(),
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// Makes a role unless it is there.
pub(crate) fn create_role(name: &str) -> String {
    format!(
        "DO $do$\nBEGIN\n    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN\n        \
         CREATE ROLE {} NOLOGIN;\n    END IF;\nEXCEPTION\n    \
         WHEN duplicate_object OR unique_violation THEN NULL;\nEND\n$do$;\n",
        literal(name),
        quoted(name),
    )
}

/// The columns that the search functions need; empty if there is nothing to search.
fn searched_columns(table: &Table) -> Vec<&str> {
    let lists = table
        .columns
        .iter()
        .filter(|column| column.kind == StorageKind::List)
        .map(|column| column.name.as_str());
    let mut columns: Vec<&str> = lists.collect();
    if table.is_searchable() {
        columns.push(SEARCH);
    }
    if table.object.name() == search_texts::OBJECT {
        columns.extend([search_texts::RECORD_OBJECT, search_texts::RECORD]);
    }
    let is_looked_at = !columns.is_empty() || table.has_custom_fields();
    if !is_looked_at || !table.has_tenant() {
        return Vec::new();
    }
    columns.splice(0..0, [TENANT, "id", "deleted_at"]);
    columns.extend(table.lead());
    columns
}

/// Row-level security on, also for the owner.
pub(crate) fn write_row_level_security(text: &mut String, table: &str) {
    let _ = writeln!(
        text,
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    );
}

fn condition(predicate: &str) -> String {
    if predicate.is_empty() {
        String::new()
    } else {
        format!(" WHERE {predicate}")
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > NAME_BYTES {
        Err("it is longer than 63 bytes")
    } else if name.contains('\0') {
        Err("it has a character that can't stand in it")
    } else {
        Ok(())
    }
}

fn quoted_list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(quoted).collect();
    quoted.join(", ")
}
