//! [`Table`]: how the records of one object lie in a table, worked out from the object's schema.
//!
//! The DDL, every statement, the decoding of rows and the drift check read this one description.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use crm_core::schema::{
    FieldSchema, FieldType, Lifecycle, ObjectRef, ObjectScope, Privacy, StorageKind, system,
};
use crm_core::storage::ChangeSet;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The most bytes PostgreSQL keeps of a name.
pub(crate) const NAME_BYTES: usize = 63;

/// The most bytes of the name of a constraint or index: a distributed table adds `_<number>` to it.
const MADE_NAME_BYTES: usize = 52;

/// The greatest length of a varchar.
const VARCHAR: u32 = 10_485_760;

/// A name as it stands in SQL: quoted, so that no name can be anything but a name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as it stands in DDL. Never for values: those are bound.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\\') {
        let escaped = text.replace('\\', "\\\\").replace('\'', "''");
        format!(" E'{escaped}'")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The name of a constraint or index, by the one rule for all of them: the table, the columns, what
/// it is. A name that would be too long keeps its beginning and gets a fingerprint of the whole.
pub(crate) fn constraint_name(table: &str, columns: &[&str], suffix: &str) -> String {
    let mut name = table.to_owned();
    for column in columns {
        name.push('_');
        name.push_str(column);
    }
    name.push('_');
    name.push_str(suffix);
    shortened(name, MADE_NAME_BYTES)
}

/// The name itself, or its beginning with a fingerprint where it would be too long.
fn shortened(name: String, most: usize) -> String {
    if name.len() <= most {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let mut fingerprint = String::new();
    for byte in digest.iter().take(5) {
        let _ = write!(fingerprint, "{byte:02x}");
    }
    let mut end = most - fingerprint.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}_{fingerprint}", name.get(..end).unwrap_or_default())
}

/// What a column holds of its field's values. All but the values themselves are worked out by the
/// library, so that all backends agree, and can be looked up under row-level security, where an
/// index serves only operators that are leakproof: those of `text` and `double precision` are, those
/// of `numeric`, and functions such as `lower()`, are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// The value itself.
    Value,
    /// The text with its case folded.
    Folded,
    /// The decimal number as the nearest floating-point number: what narrows a search down, before
    /// the number itself decides.
    Rounded,
}

/// A column of a table besides `tenant_id` and the search vector.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its name, as it is in the catalog.
    pub(crate) name: String,
    /// Its name as it stands in SQL.
    pub(crate) sql: String,
    /// The field whose values it holds, by its place in the schema.
    pub(crate) field: usize,
    /// What it holds of the field's values.
    pub(crate) holds: Holds,
    /// How the values are held.
    pub(crate) kind: StorageKind,
    /// The column's type, with its collation.
    pub(crate) sql_type: String,
    /// Whether the column may be null.
    pub(crate) nullable: bool,
}

/// A unique key: a unique index, partial where only some rows count.
#[derive(Clone, Debug)]
pub(crate) struct Unique {
    /// The index's name.
    pub(crate) name: String,
    /// The key's place among the schema's.
    pub(crate) key: usize,
    /// The columns after the tenant, by their place in [`Table::columns`].
    pub(crate) columns: Vec<usize>,
    /// Which rows count; empty for all.
    pub(crate) predicate: String,
}

/// How an index finds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// A B-tree over the tenant and the columns.
    Btree,
    /// An inverted index over one column.
    Gin,
}

/// An index that is not a unique key.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// Its name.
    pub(crate) name: String,
    /// The names of its columns, after the tenant for a B-tree.
    pub(crate) columns: Vec<String>,
    /// Its kind.
    pub(crate) method: Method,
    /// Which rows it holds; empty for all.
    pub(crate) predicate: String,
}

/// An index over the rows that people work with every day, or over those that have a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartialIndex {
    /// The object.
    pub(crate) object: &'static str,
    /// The columns after the tenant.
    pub(crate) columns: &'static [&'static str],
    /// A word for the rows that it holds, for its name.
    pub(crate) rows: &'static str,
    /// Which rows it holds.
    pub(crate) predicate: &'static str,
}

const OPEN_ACTIVITIES: &str = "\"status\" IN ('planned', 'in_progress') AND \"deleted_at\" IS NULL";

/// The partial indexes beyond those that the objects declare (C-131, C-139).
///
/// Every index costs each insert about a twentieth, so there is one only where the declared ones
/// do not serve: where the rows that are looked for are few and the others stand in front of them
/// in every full index. Open deals need none: `(owner_id, status)`, `(pipeline_id, stage_id)` and
/// `(status, expected_close_date)` begin with what tells them apart. Nor do active contacts, which
/// are nearly all contacts.
pub(crate) const PARTIAL_INDEXES: &[PartialIndex] = &[
    // "My open activities by due date": the oldest due dates are those of the completed ones.
    PartialIndex {
        object: "activity",
        columns: &["assigned_to", "due_date", "id"],
        rows: "open",
        predicate: OPEN_ACTIVITIES,
    },
    // What is overdue, and which reminders come next.
    PartialIndex {
        object: "activity",
        columns: &["due_date", "id"],
        rows: "open",
        predicate: OPEN_ACTIVITIES,
    },
    // "Best leads first": the best scores of all are those of the converted ones.
    PartialIndex {
        object: "lead",
        columns: &["lead_score", "id"],
        rows: "unconverted",
        predicate: "\"converted_at\" IS NULL AND \"deleted_at\" IS NULL",
    },
    // Who is calling? Many have no number, and then these cost nothing.
    PartialIndex {
        object: "contact",
        columns: &["phone_e164"],
        rows: "set",
        predicate: "\"phone_e164\" IS NOT NULL",
    },
    PartialIndex {
        object: "contact",
        columns: &["mobile_e164"],
        rows: "set",
        predicate: "\"mobile_e164\" IS NOT NULL",
    },
    // Contacts are also known by the name of a company that is no account.
    PartialIndex {
        object: "contact",
        columns: &["company"],
        rows: "set",
        predicate: "\"company\" IS NOT NULL",
    },
    // The best contacts: few have a score.
    PartialIndex {
        object: "contact",
        columns: &["lead_score", "id"],
        rows: "scored",
        predicate: "\"lead_score\" > 0",
    },
    PartialIndex {
        object: "lead",
        columns: &["phone_e164"],
        rows: "set",
        predicate: "\"phone_e164\" IS NOT NULL",
    },
];

/// A reference: a composite foreign key that cannot leave the tenant.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKey {
    /// The constraint's name.
    pub(crate) name: String,
    /// The field, by its place in the schema.
    pub(crate) field: usize,
    /// The object that it leads to.
    pub(crate) target: String,
}

/// A CHECK.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// The constraint's name.
    pub(crate) name: String,
    /// What must hold.
    pub(crate) expression: String,
}

/// The table of one object.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The object: where a tenant described it, as it did.
    pub(crate) object: ObjectRef,
    /// How its records lie: as those of the object's template, where it has one.
    layout: Arc<Layout>,
}

impl Deref for Table {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl Table {
    /// Works out the table of `object` in the database schema `schema`.
    pub(crate) fn of(schema: &str, object: &ObjectRef) -> Self {
        Self {
            object: object.clone(),
            layout: Arc::new(Layout::of(schema, object)),
        }
    }

    /// The column that tells the records of this object from others in the table, and what stands
    /// there.
    pub(crate) fn discriminator(&self) -> Option<(&Column, Uuid)> {
        let template = self.object.template()?;
        Some((self.column(template.field)?, template.id))
    }
}

/// How the records of one object lie in a table: nothing of it is a tenant's.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The object.
    object: ObjectRef,
    /// The table's name in the catalog.
    pub(crate) name: String,
    /// The table with its schema, as it stands in SQL.
    pub(crate) sql: String,
    /// One column for each field, in the schema's order, then those derived from them.
    pub(crate) columns: Vec<Column>,
    /// The unique keys.
    pub(crate) uniques: Vec<Unique>,
    /// The other indexes.
    pub(crate) indexes: Vec<Index>,
    /// The references.
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// The CHECKs.
    pub(crate) checks: Vec<Check>,
    /// For each field, the place of the column derived from it.
    derived: Vec<Option<usize>>,
}

/// The name of the table whose rows are partitioned by month.
pub(crate) const PARTITIONED: &str = "audit_events";

/// The name of the table to which its months are moved.
pub(crate) const ARCHIVE: &str = "audit_events_archive";

/// The column that tells the tenant.
pub(crate) const TENANT: &str = "tenant_id";

/// The stored full-text vector.
pub(crate) const SEARCH: &str = "search_vector";

/// Whether the full-text vector of a row holds a field.
pub(crate) fn is_searched(field: &FieldSchema) -> bool {
    field.searchable && field.storage_kind() == StorageKind::Text
}

/// The transaction that wrote an entry of a log, by which a feed knows what is settled. The server
/// fills it; nobody else may.
pub(crate) const TRANSACTION: &str = "transaction_id";

/// The sealed values of a row whose personal fields hold only what may stand in the storage: bytes
/// that mean nothing here.
pub(crate) const SEALED: &str = "sealed";

impl Layout {
    fn of(schema: &str, object: &ObjectRef) -> Self {
        // A name that PostgreSQL would cut leads to no table, rather than to another's: the DDL
        // refuses such names.
        let name = shortened(object.table().to_owned(), NAME_BYTES);
        let mut columns: Vec<Column> = object
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| Column {
                name: field.name.to_string(),
                sql: quoted(&shortened(field.name.to_string(), NAME_BYTES)),
                field: index,
                holds: Holds::Value,
                kind: field.storage_kind(),
                sql_type: sql_type(&field.field_type),
                nullable: !field.required,
            })
            .collect();
        let mut derived = vec![None; columns.len()];
        for (index, field) in object.fields().iter().enumerate() {
            if field.ignore_case && field.storage_kind() == StorageKind::Text {
                let name = format!("{}_folded", field.name);
                if let Some(slot) = derived.get_mut(index) {
                    *slot = Some(columns.len());
                }
                columns.push(Column {
                    sql: quoted(&name),
                    name,
                    field: index,
                    holds: Holds::Folded,
                    kind: StorageKind::Text,
                    // Folding may lengthen a text.
                    sql_type: "text COLLATE \"C\"".to_owned(),
                    nullable: !field.required,
                });
            }
            let is_indexed = object
                .indexes()
                .iter()
                .any(|other| other.fields.contains(&index));
            if is_indexed && field.storage_kind() == StorageKind::Decimal {
                let name = format!("{}_rounded", field.name);
                if let Some(slot) = derived.get_mut(index) {
                    *slot = Some(columns.len());
                }
                columns.push(Column {
                    sql: quoted(&name),
                    name,
                    field: index,
                    holds: Holds::Rounded,
                    kind: StorageKind::Decimal,
                    sql_type: "double precision".to_owned(),
                    nullable: !field.required,
                });
            }
        }
        let mut table = Self {
            object: object.clone(),
            sql: format!("{}.{}", quoted(schema), quoted(&name)),
            name,
            columns,
            uniques: Vec::new(),
            indexes: Vec::new(),
            foreign_keys: Vec::new(),
            checks: Vec::new(),
            derived,
        };
        table.add_uniques();
        table.add_indexes();
        table.add_foreign_keys();
        table.add_checks();
        table
    }

    /// Whether the rows belong to tenants; else the rows are the tenants.
    pub(crate) fn has_tenant(&self) -> bool {
        self.object.scope() == ObjectScope::Tenant
    }

    /// Whether the table is partitioned by month.
    pub(crate) fn is_partitioned(&self) -> bool {
        let is_one = [PARTITIONED, ARCHIVE].contains(&self.name.as_str());
        is_one && self.object.lifecycle() == Lifecycle::Log
    }

    /// The columns of an entry that never changes but for what it tells of persons: those, and the
    /// ones that say that it was done.
    pub(crate) fn redactable(&self) -> Vec<&str> {
        let stamp = [
            system::VERSION,
            system::UPDATED_AT,
            system::UPDATED_BY,
            system::UPDATED_BY_ID,
        ];
        let columns = self
            .columns
            .iter()
            .filter(|column| self.is_personal(column) || stamp.contains(&column.field));
        let columns = columns.map(|column| column.name.as_str());
        columns.chain(self.sealed()).collect()
    }

    /// Whether a column holds what may be told of a person, or is secret: what may be sealed.
    pub(crate) fn is_personal(&self, column: &Column) -> bool {
        let field = self.object.fields().get(column.field);
        field.is_some_and(|field| field.privacy != Privacy::Public)
    }

    /// The column of sealed values, of a table that has any to seal.
    pub(crate) fn sealed(&self) -> Option<&'static str> {
        let any = self.columns.iter().any(|column| self.is_personal(column));
        any.then_some(SEALED)
    }

    /// The columns that a row is read from, after each other: those of the fields, and the sealed
    /// values.
    pub(crate) fn read_columns(&self, alias: &str) -> String {
        let fields = self.field_columns().iter().map(|column| column.sql.clone());
        let all = fields.chain(self.sealed().map(quoted));
        let all: Vec<String> = all.map(|column| format!("{alias}.{column}")).collect();
        all.join(", ")
    }

    /// Whether the table is a log whose entries can be followed in the order of their commits.
    pub(crate) fn is_fed(&self) -> bool {
        self.object.is_fed() && self.has_tenant()
    }

    /// Whether the text search looks into any field.
    pub(crate) fn is_searchable(&self) -> bool {
        self.object.fields().iter().any(is_searched)
    }

    /// Whether a tenant may add fields that the text search looks into.
    pub(crate) fn has_custom_fields(&self) -> bool {
        self.has_tenant() && self.object.custom_document().is_some()
    }

    /// The column of a field.
    pub(crate) fn column(&self, field: usize) -> Option<&Column> {
        self.columns
            .get(field)
            .filter(|column| column.holds == Holds::Value)
    }

    /// The column that holds a field's text with its case folded.
    pub(crate) fn folded(&self, field: usize) -> Option<&Column> {
        self.derived(field)
            .filter(|column| column.holds == Holds::Folded)
    }

    /// The column that holds a field's number rounded.
    pub(crate) fn rounded(&self, field: usize) -> Option<&Column> {
        self.derived(field)
            .filter(|column| column.holds == Holds::Rounded)
    }

    fn derived(&self, field: usize) -> Option<&Column> {
        self.columns.get((*self.derived.get(field)?)?)
    }

    /// The columns that hold the fields, in the schema's order.
    pub(crate) fn field_columns(&self) -> &[Column] {
        self.columns
            .get(..self.object.fields().len())
            .unwrap_or_default()
    }

    /// The primary key's columns.
    pub(crate) fn primary_key(&self) -> Vec<&str> {
        if self.is_partitioned() {
            vec![TENANT, "created_at", "id"]
        } else if let Some(name) = self.lead() {
            vec![TENANT, name, "id"]
        } else if self.has_tenant() {
            vec![TENANT, "id"]
        } else {
            vec!["id"]
        }
    }

    /// The primary key's name.
    pub(crate) fn primary_key_name(&self) -> String {
        constraint_name(&self.name, &[], "pkey")
    }

    /// The column that leads every key of a template's table, after the tenant: what is unique, and
    /// what is looked for, is so among the records of one object.
    pub(crate) fn lead(&self) -> Option<&str> {
        let column = self.column(self.object.discriminator()?)?;
        Some(&column.name)
    }

    fn add_uniques(&mut self) {
        let object = self.object.clone();
        for (place, key) in object.unique_keys().iter().enumerate() {
            let fields = object.discriminator().into_iter();
            let fields = fields.filter(|field| !key.fields.contains(field));
            let columns: Vec<usize> = fields
                .chain(key.fields.iter().copied())
                .map(|field| {
                    self.derived
                        .get(field)
                        .copied()
                        .flatten()
                        .filter(|_| key.ignore_case)
                        .unwrap_or(field)
                })
                .collect();
            let mut names: Vec<&str> = columns
                .iter()
                .filter_map(|index| self.columns.get(*index))
                .map(|column| column.name.as_str())
                .collect();
            let mut predicate = Vec::new();
            if key.live {
                predicate.push(format!("{} IS NULL", quoted("deleted_at")));
            }
            if let Some(flag) = key.only_if {
                let flag = self.object.field_name(flag);
                predicate.push(quoted(flag));
                names.extend(["if", flag]);
            }
            self.uniques.push(Unique {
                name: constraint_name(&self.name, &names, "key"),
                key: place,
                columns,
                predicate: predicate.join(" AND "),
            });
        }
    }

    fn add_indexes(&mut self) {
        let object = self.object.clone();
        for index in object.indexes() {
            let columns: Vec<&Column> = index
                .fields
                .iter()
                .filter_map(|field| self.derived(*field).or_else(|| self.column(*field)))
                .collect();
            let pages = columns
                .last()
                .is_some_and(|column| is_paged(&object, column));
            let mut columns: Vec<String> =
                columns.iter().map(|column| column.name.clone()).collect();
            if pages {
                // The number itself, where the index is over the rounded one.
                let last = index.fields.last().copied().unwrap_or_default();
                if self.rounded(last).is_some()
                    && let Some(column) = self.column(last)
                {
                    columns.push(column.name.clone());
                }
                columns.push("id".to_owned());
            }
            let is_list = index.fields.first().is_some_and(|field| {
                self.column(*field)
                    .is_some_and(|column| column.kind == StorageKind::List)
            });
            let method = if is_list { Method::Gin } else { Method::Btree };
            if let Some(lead) = self.lead()
                && method == Method::Btree
                && columns.first().is_none_or(|first| first != lead)
            {
                columns.retain(|column| column != lead);
                columns.insert(0, lead.to_owned());
            }
            self.push_index(columns, method);
        }
        if self.is_partitioned() {
            self.push_index(vec!["id".to_owned()], Method::Btree);
        }
        if self.is_fed() {
            self.push_index(vec![TRANSACTION.to_owned(), "id".to_owned()], Method::Btree);
        }
        if let Some(lead) = self.lead().map(ToOwned::to_owned) {
            // What is referred to may belong to records of all objects over the template.
            let references = object.references().iter();
            let names = references.map(|field| object.field_name(*field).to_owned());
            for name in names.filter(|name| *name != lead) {
                self.push_index(vec![name], Method::Btree);
            }
        }
        let lists: Vec<String> = self
            .columns
            .iter()
            .filter(|column| column.kind == StorageKind::List)
            .map(|column| column.name.clone())
            .collect();
        for list in lists {
            self.push_index(vec![list], Method::Gin);
        }
        if self.is_searchable() {
            self.push_index(vec![SEARCH.to_owned()], Method::Gin);
        }
        for partial in PARTIAL_INDEXES {
            if partial.object == object.name() && has_columns(&object, partial.columns) {
                let mut words = partial.columns.to_vec();
                words.extend(["if", partial.rows]);
                self.indexes.push(Index {
                    name: constraint_name(&self.name, &words, "idx"),
                    columns: partial.columns.iter().map(|&name| name.into()).collect(),
                    method: Method::Btree,
                    predicate: partial.predicate.to_owned(),
                });
            }
        }
    }

    fn push_index(&mut self, columns: Vec<String>, method: Method) {
        // The primary key serves as well as an index over its columns.
        let key = self.primary_key();
        let is_key = self.has_tenant() && key.get(1..).is_some_and(|key| columns == key);
        if is_key && method == Method::Btree
            || self.indexes.iter().any(|index| index.columns == columns)
        {
            return;
        }
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        self.indexes.push(Index {
            name: constraint_name(&self.name, &names, "idx"),
            columns,
            method,
            predicate: String::new(),
        });
    }

    fn add_foreign_keys(&mut self) {
        let object = self.object.clone();
        for field in object.references() {
            let Some(schema) = object.fields().get(*field) else {
                continue;
            };
            if let Some((target, _)) = schema.reference() {
                self.foreign_keys.push(ForeignKey {
                    name: constraint_name(&self.name, &[&schema.name], "fkey"),
                    field: *field,
                    target: target.to_owned(),
                });
            }
        }
    }

    fn add_checks(&mut self) {
        let object = self.object.clone();
        for (index, field) in object.fields().iter().enumerate() {
            let Some(column) = self.columns.get(index) else {
                continue;
            };
            if let Some(mut expression) = check(field, index, &column.sql) {
                if field.privacy != Privacy::Public {
                    // What stands in place of a sealed value is none of the field's.
                    expression = format!("{} IS NOT NULL OR {expression}", quoted(SEALED));
                }
                // A month that is moved to the archive brings its own with it.
                let table = match self.name.as_str() {
                    ARCHIVE => PARTITIONED,
                    own => own,
                };
                self.checks.push(Check {
                    name: constraint_name(table, &[&column.name], "check"),
                    expression,
                });
            }
        }
    }
}

fn has_columns(object: &ObjectRef, columns: &[&str]) -> bool {
    columns.iter().all(|column| object.field(column).is_some())
}

/// Whether lists are paged in the order of an index that ends in this column. Such an index goes on
/// by id: an import gives thousands of records one moment, and without the id all rows of one value,
/// or all without a value, would be sorted for each page. What only tells kinds of records apart, a
/// reference, a picklist or a flag, is no order to page in.
fn is_paged(object: &ObjectRef, column: &Column) -> bool {
    let Some(field) = object.fields().get(column.field) else {
        return false;
    };
    match column.kind {
        StorageKind::Timestamp
        | StorageKind::Date
        | StorageKind::Integer
        | StorageKind::Decimal => true,
        StorageKind::Text => {
            column.holds == Holds::Value && matches!(field.field_type, FieldType::Text { .. })
        }
        _ => false,
    }
}

/// The column type of a field type.
fn sql_type(field_type: &FieldType) -> String {
    match field_type.storage_kind() {
        StorageKind::Text => match field_type.max_length() {
            Some(length) if length <= VARCHAR => format!("varchar({length}) COLLATE \"C\""),
            _ => "text COLLATE \"C\"".to_owned(),
        },
        StorageKind::Integer => "bigint".to_owned(),
        StorageKind::Decimal => match field_type {
            FieldType::Decimal {
                precision, scale, ..
            } => format!("numeric({precision},{scale})"),
            // Percentages have two decimals.
            _ => "numeric(5,2)".to_owned(),
        },
        StorageKind::Boolean => "boolean".to_owned(),
        StorageKind::Date => "date".to_owned(),
        StorageKind::Timestamp => "timestamptz".to_owned(),
        StorageKind::Uuid => "uuid".to_owned(),
        StorageKind::List => "text[] COLLATE \"C\"".to_owned(),
        StorageKind::Json => "jsonb".to_owned(),
    }
}

/// What must hold of a column beyond its type: the options of a picklist, the range of a number.
fn check(field: &FieldSchema, index: usize, column: &str) -> Option<String> {
    let between = |least: Option<String>, greatest: Option<String>| match (least, greatest) {
        (Some(least), Some(greatest)) => Some(format!("{column} BETWEEN {least} AND {greatest}")),
        (Some(least), None) => Some(format!("{column} >= {least}")),
        (None, Some(greatest)) => Some(format!("{column} <= {greatest}")),
        (None, None) => None,
    };
    match &field.field_type {
        FieldType::Picklist { options } => {
            let options: Vec<String> = options.iter().map(|option| literal(option)).collect();
            Some(format!("{column} IN ({})", options.join(", ")))
        }
        FieldType::Integer { min, max } => between(
            (*min != i64::MIN).then(|| min.to_string()),
            (*max != i64::MAX).then(|| max.to_string()),
        ),
        FieldType::Score | FieldType::Percent => between(Some("0".into()), Some("100".into())),
        FieldType::Decimal { min, max, .. } => between(
            min.map(|min| min.to_string()),
            max.map(|max| max.to_string()),
        ),
        _ if index == system::VERSION => Some(format!("{column} >= 1")),
        _ => None,
    }
}

/// The tables of all objects that a storage knows, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Tables {
    schema: String,
    known: RwLock<HashMap<String, Arc<Table>>>,
}

impl Tables {
    /// No tables yet, in the database schema `schema`.
    pub(crate) fn new(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            known: RwLock::default(),
        }
    }

    /// The database schema's name.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// The table of an object. What a tenant says of the object is not kept.
    pub(crate) fn of(&self, object: &ObjectRef) -> Arc<Table> {
        let base = object
            .template()
            .map_or(object, |template| &template.object);
        let is_described = object.custom().is_some() || object.template().is_some();
        if !is_described {
            return self.engines(object);
        }
        let known = match object.template() {
            Some(_) => self.engines(base),
            // The same object, only that the tenant added fields.
            None => match self.named(object.name()) {
                Some(known) => known,
                None => return Arc::new(Table::of(&self.schema, object)),
            },
        };
        Arc::new(Table {
            object: object.clone(),
            layout: known.layout.clone(),
        })
    }

    /// The table of an object that no tenant described.
    fn engines(&self, object: &ObjectRef) -> Arc<Table> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = known.get(object.name())
            && std::ptr::eq(&*table.object as *const _, &**object as *const _)
        {
            return table.clone();
        }
        drop(known);
        let table = Arc::new(Table {
            object: object.clone(),
            layout: Arc::new(Layout::of(&self.schema, object)),
        });
        self.known
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(object.name().to_owned(), table.clone());
        table
    }

    /// The table of the object called `name`, to which a commit leads.
    pub(crate) fn target(&self, changes: &ChangeSet, name: &str) -> Option<Arc<Table>> {
        match changes.object(name) {
            Some(object) => Some(self.of(object)),
            None => self.named(name),
        }
    }

    /// The table of the object called `name`, if it was needed before.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Table>> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All tables that were needed so far.
    pub(crate) fn all(&self) -> Vec<Arc<Table>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}
