//! [`Table`]: how the records of one object lie in a table, worked out from the object's schema.
//!
//! The DDL, every statement, the decoding of rows and the drift check read this one description.

mod columns;
mod constraints;
mod indexes;
mod months;
mod names;
mod tables;

use std::ops::Deref;
use std::sync::Arc;

use crm_core::schema::{Lifecycle, ObjectRef, ObjectScope, Privacy, StorageKind, system};
use uuid::Uuid;

use columns::sql_type;
pub(crate) use columns::{Column, Holds, is_searched};
pub(crate) use constraints::{Check, ForeignKey};
pub(crate) use indexes::{Index, Method, Unique};
pub(crate) use months::{ARCHIVE_OF, MONTH_BYTES, default_partition, month_of, month_partition};
use names::shortened;
pub(crate) use names::{NAME_BYTES, constraint_name, literal, quoted};
pub(crate) use tables::Tables;

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

/// The name of the table of the audit trail: its entries stay as they are.
pub(crate) const TRAIL: &str = "audit_events";

/// The name of the table whose entries prove what the events were: nobody changes one.
pub(crate) const SEALS: &str = "audit_seals";

/// The column that tells the tenant.
pub(crate) const TENANT: &str = "tenant_id";

/// The stored full-text vector.
pub(crate) const SEARCH: &str = "search_vector";

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
        self.object.is_monthly() && self.has_tenant()
    }

    /// The log whose months are moved to this table, if it is such an archive.
    pub(crate) fn archive_of(&self) -> Option<&str> {
        let log = self.object.origin_table();
        (self.is_partitioned() && log != self.object.table()).then_some(log)
    }

    /// Whether the rows are the audit trail, or its archive: what happened, which nobody changes.
    pub(crate) fn is_trail(&self) -> bool {
        self.is_partitioned() && self.object.origin_table() == TRAIL
    }

    /// Whether the rows are proof: they are written once, and neither changed nor removed.
    pub(crate) fn is_proof(&self) -> bool {
        self.name == SEALS && self.object.lifecycle() == Lifecycle::Log
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
}
