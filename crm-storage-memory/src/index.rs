//! [`Layout`]: what a table keeps besides its rows, so that they are found without a scan.

use crm_core::schema::{AnyRecord, ObjectRef, UniqueKey, ValueRef, system};
use uuid::Uuid;

use crate::key::Key;

/// Which rows an index holds, and under which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexKind {
    /// All rows, by the values of these fields and the id.
    Fields(Vec<usize>),
    /// The rows that count in a unique key, by their values in it and the id. More than one row
    /// may have the same values: a key that joins a table later finds whatever is there.
    Unique(UniqueKey),
}

impl IndexKind {
    /// The indexed fields.
    pub(crate) fn fields(&self) -> &[usize] {
        match self {
            Self::Fields(fields) => fields,
            Self::Unique(key) => &key.fields,
        }
    }

    /// The key of a row; empty where the index does not hold the row.
    pub(crate) fn key(&self, row: &dyn AnyRecord, id: Uuid) -> Key {
        let mut key = match self {
            Self::Fields(fields) => {
                let mut key = Key::default();
                for field in fields {
                    key.push(&row.value(*field));
                }
                key
            }
            Self::Unique(unique) => match unique_prefix(unique, row) {
                Some(key) => key,
                None => return Key::default(),
            },
        };
        key.push_id(id);
        key
    }
}

/// The values of a row in a unique key as bytes; `None` where the row does not count. Two rows
/// have the same bytes where [`unique_value`](crm_core::storage::unique_value) gives the same
/// values.
pub(crate) fn unique_prefix(unique: &UniqueKey, row: &dyn AnyRecord) -> Option<Key> {
    if unique.live && !row.value(system::DELETED_AT).is_null() {
        return None;
    }
    if unique
        .only_if
        .is_some_and(|field| row.value(field) != ValueRef::Boolean(true))
    {
        return None;
    }
    let mut key = Key::default();
    for field in &unique.fields {
        match row.value(*field) {
            ValueRef::Null => return None,
            ValueRef::Text(text) if unique.ignore_case => key.push_folded(text),
            value => key.push_exact(&value),
        }
    }
    Some(key)
}

/// A field that leads to rows of another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) field: usize,
    /// The object it leads to.
    pub(crate) target: String,
    /// The place of an index that begins with the field.
    pub(crate) index: usize,
}

/// The indexes and references of a table.
///
/// The description of a custom object changes while its rows stay, and a row brings the description
/// it was made with. So a table keeps whatever any description asked for; which unique keys hold is
/// said by the description that a change brings.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    object: ObjectRef,
    indexes: Vec<IndexKind>,
    references: Vec<Reference>,
}

impl Layout {
    pub(crate) fn new(object: &ObjectRef) -> Self {
        let mut layout = Self {
            object: object.clone(),
            indexes: Vec::new(),
            references: Vec::new(),
        };
        layout.take_in(object);
        layout
    }

    /// The object, as it was described last.
    pub(crate) const fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(crate) fn indexes(&self) -> &[IndexKind] {
        &self.indexes
    }

    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Whether the layout has all that `object` asks for.
    pub(crate) fn covers(&self, object: &ObjectRef) -> bool {
        same(&self.object, object)
            || self.object == *object
                && object
                    .indexes()
                    .iter()
                    .all(|index| self.has_fields(&index.fields))
                && object
                    .unique_keys()
                    .iter()
                    .all(|unique| self.has_unique(unique))
                && object.references().iter().all(|field| {
                    self.references
                        .iter()
                        .any(|own| own.field == *field && target_of(object, *field) == own.target)
                })
    }

    /// Adds what `object` asks for.
    pub(crate) fn take_in(&mut self, object: &ObjectRef) {
        self.object = object.clone();
        for index in object.indexes() {
            self.add(IndexKind::Fields(index.fields.clone()));
        }
        for unique in object.unique_keys() {
            self.add(IndexKind::Unique(unique.clone()));
        }
        for field in object.references() {
            let index = match self.led_by(*field) {
                Some(index) => index,
                None => self.add(IndexKind::Fields(vec![*field])),
            };
            let target = target_of(object, *field).to_owned();
            let reference = Reference {
                field: *field,
                target,
                index,
            };
            if !self.references.contains(&reference) {
                self.references.push(reference);
            }
        }
    }

    /// The place of an index that begins with the field.
    pub(crate) fn led_by(&self, field: usize) -> Option<usize> {
        let led = |kind: &IndexKind| matches!(kind, IndexKind::Fields(fields) if fields.first() == Some(&field));
        self.indexes.iter().position(led)
    }

    fn has_fields(&self, wanted: &[usize]) -> bool {
        self.indexes
            .iter()
            .any(|kind| matches!(kind, IndexKind::Fields(fields) if fields == wanted))
    }

    fn has_unique(&self, wanted: &UniqueKey) -> bool {
        self.indexes
            .iter()
            .any(|kind| matches!(kind, IndexKind::Unique(unique) if unique == wanted))
    }

    /// Adds an index unless it is there; gives its place.
    fn add(&mut self, kind: IndexKind) -> usize {
        match self.indexes.iter().position(|own| *own == kind) {
            Some(place) => place,
            None => {
                self.indexes.push(kind);
                self.indexes.len() - 1
            }
        }
    }
}

/// Whether two are the same description, not only descriptions of the same object.
pub(crate) fn same(a: &ObjectRef, b: &ObjectRef) -> bool {
    std::ptr::eq(&raw const **a, &raw const **b)
}

/// The object that a reference leads to; empty where the field is none.
pub(crate) fn target_of(object: &ObjectRef, field: usize) -> &str {
    object
        .fields()
        .get(field)
        .and_then(|field| field.reference())
        .map_or("", |(target, _)| target)
}
