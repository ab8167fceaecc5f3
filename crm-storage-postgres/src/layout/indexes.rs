//! Unique keys and indexes.

use crm_core::schema::{FieldType, ObjectRef, StorageKind};

use super::{Column, Holds, Layout, SEARCH, TRANSACTION, constraint_name, quoted};

/// A unique key: a unique index, partial where only some rows count.
#[derive(Clone, Debug)]
pub(crate) struct Unique {
    /// The index's name.
    pub(crate) name: String,
    /// The key's place among the schema's.
    pub(crate) key: usize,
    /// The columns after the tenant, by their place in [`Layout::columns`].
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
struct PartialIndex {
    /// The object.
    object: &'static str,
    /// The columns after the tenant.
    columns: &'static [&'static str],
    /// A word for the rows that it holds, for its name.
    rows: &'static str,
    /// Which rows it holds.
    predicate: &'static str,
}

const OPEN_ACTIVITIES: &str = "\"status\" IN ('planned', 'in_progress') AND \"deleted_at\" IS NULL";

/// The partial indexes beyond those that the objects declare (C-131, C-139).
///
/// Every index costs each insert about a twentieth, so there is one only where the declared ones
/// do not serve: where the rows that are looked for are few and the others stand in front of them
/// in every full index. Open deals need none: `(owner_id, status)`, `(pipeline_id, stage_id)` and
/// `(status, expected_close_date)` begin with what tells them apart. Nor do active contacts, which
/// are nearly all contacts.
const PARTIAL_INDEXES: &[PartialIndex] = &[
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
    // How many persons had access to what is held: few events tell of reads.
    PartialIndex {
        object: "audit_event",
        columns: &["created_at", "id"],
        rows: "read",
        predicate: "\"event\" = 'read'",
    },
    PartialIndex {
        object: "lead",
        columns: &["phone_e164"],
        rows: "set",
        predicate: "\"phone_e164\" IS NOT NULL",
    },
];

impl Layout {
    pub(super) fn add_uniques(&mut self) {
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

    pub(super) fn add_indexes(&mut self) {
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
