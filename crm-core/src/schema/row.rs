//! A record without its Rust type, as storage backends see it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::object::system;
use super::{ObjectRef, SYSTEM_FIELDS, Value, ValueRef};
use crate::record::Stamp;

/// A record of any object: shared, immutable, cheap to clone.
///
/// Where the object has a Rust type, a row *is* the typed [`Record`](crate::Record) behind a trait,
/// so that a backend which keeps rows in memory never converts them.
pub type Row = Arc<dyn AnyRecord>;

/// What every record has, whatever its type.
pub trait AnyRecord: Any + fmt::Debug + Send + Sync {
    /// The object that the record belongs to.
    fn object(&self) -> &ObjectRef;

    /// What the system keeps about the record.
    fn meta(&self) -> Meta;

    /// The value of the field at `index` of the object's schema; [`ValueRef::Null`] past its end.
    fn value(&self, index: usize) -> ValueRef<'_>;

    /// The fields in which `other`, a record of the same object, differs. Of the system's fields
    /// only `archived_at` and `deleted_at` count: the others differ after every write.
    fn differing(&self, other: &dyn AnyRecord) -> FieldSet;

    /// Adds what is wrong between the fields of the record: rules that need nothing else.
    fn check(&self, faults: &mut crate::error::Faults);

    /// The same record with other system values.
    fn with_meta(&self, meta: Meta) -> Row;

    /// The same record with the changes of `meta` and of `values`, which hold every field of the
    /// object but the system's, in the order of the schema.
    ///
    /// # Errors
    /// The fields whose value does not fit.
    fn with_values(&self, meta: Meta, values: Vec<Value>) -> Result<Row, crate::error::Faults> {
        self.object().build(meta, values)
    }

    /// What stands beside the values of a row whose personal values are sealed: bytes that a storage
    /// keeps and gives back as they are. The values of such a row are those that may stand in the
    /// storage, and need not fit the Rust type of its object, so it is a [`Dynamic`].
    fn sealed(&self) -> Option<&[u8]> {
        None
    }
}

impl dyn AnyRecord {
    /// The record's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.meta().id
    }

    /// How often the record was written, from 1.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.meta().version
    }

    /// Whether the record is neither deleted nor archived.
    #[must_use]
    pub fn is_active(&self) -> bool {
        let meta = self.meta();
        meta.deleted_at.is_none() && meta.archived_at.is_none()
    }

    /// Whether the record is deleted but not purged.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.meta().deleted_at.is_some()
    }

    /// The value of the field called `name`; [`ValueRef::Null`] where there is no such field.
    #[must_use]
    pub fn get(&self, name: &str) -> ValueRef<'_> {
        self.object()
            .field_index(name)
            .map_or(ValueRef::Null, |index| self.value(index))
    }

    /// Every value but the system's, in the order of the schema.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        (SYSTEM_FIELDS..self.object().fields().len())
            .map(|index| self.value(index).into_owned())
            .collect()
    }

    /// The record as one flat JSON object, field by field, the system's fields included.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.object()
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| (field.name.to_string(), self.value(index).to_json()))
            .collect()
    }
}

/// What the system keeps about every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The id, unique in the tenant and object.
    pub id: Uuid,
    /// How often the record was written, from 1.
    pub version: i64,
    /// When and by whom it was created.
    pub created: Stamp,
    /// When and by whom it was last written.
    pub updated: Stamp,
    /// Since when it is archived: kept, but out of the way.
    pub archived_at: Option<DateTime<Utc>>,
    /// Since when it is deleted: hidden, but can be restored.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl Meta {
    /// The first version of a record.
    #[must_use]
    pub const fn first(id: Uuid, stamp: Stamp) -> Self {
        Self {
            id,
            version: 1,
            created: stamp,
            updated: stamp,
            archived_at: None,
            deleted_at: None,
        }
    }

    /// The next version of a record.
    #[must_use]
    pub const fn next(self, stamp: Stamp) -> Self {
        Self {
            version: self.version + 1,
            updated: stamp,
            ..self
        }
    }

    /// The value of a system field.
    pub(crate) fn value(&self, index: usize) -> ValueRef<'static> {
        fn at(at: Option<DateTime<Utc>>) -> ValueRef<'static> {
            at.map_or(ValueRef::Null, ValueRef::Timestamp)
        }
        fn id(id: Option<Uuid>) -> ValueRef<'static> {
            id.map_or(ValueRef::Null, ValueRef::Uuid)
        }
        match index {
            system::ID => ValueRef::Uuid(self.id),
            system::VERSION => ValueRef::Integer(self.version),
            system::CREATED_AT => ValueRef::Timestamp(self.created.at),
            system::CREATED_BY => ValueRef::Text(self.created.by.kind()),
            system::CREATED_BY_ID => id(self.created.by.id()),
            system::UPDATED_AT => ValueRef::Timestamp(self.updated.at),
            system::UPDATED_BY => ValueRef::Text(self.updated.by.kind()),
            system::UPDATED_BY_ID => id(self.updated.by.id()),
            system::ARCHIVED_AT => at(self.archived_at),
            system::DELETED_AT => at(self.deleted_at),
            _ => ValueRef::Null,
        }
    }

    /// The system fields in which `other` differs, as far as they count as changes.
    pub(crate) fn differing(&self, other: &Self) -> FieldSet {
        let mut set = FieldSet::default();
        if self.archived_at != other.archived_at {
            set.insert(system::ARCHIVED_AT);
        }
        if self.deleted_at != other.deleted_at {
            set.insert(system::DELETED_AT);
        }
        set
    }
}

/// The data of a record whose object has no Rust type, such as a custom object.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    object: ObjectRef,
    meta: Meta,
    values: Vec<Value>,
    sealed: Option<Box<[u8]>>,
}

impl Dynamic {
    /// A record of `object`; `values` hold every field but the system's, in the schema's order.
    #[must_use]
    pub const fn new(object: ObjectRef, meta: Meta, values: Vec<Value>) -> Self {
        Self {
            object,
            meta,
            values,
            sealed: None,
        }
    }

    /// The same record with what was sealed of its values.
    #[must_use]
    pub fn with_sealed(mut self, sealed: impl Into<Box<[u8]>>) -> Self {
        self.sealed = Some(sealed.into());
        self
    }
}

impl AnyRecord for Dynamic {
    fn object(&self) -> &ObjectRef {
        &self.object
    }

    fn meta(&self) -> Meta {
        self.meta
    }

    fn value(&self, index: usize) -> ValueRef<'_> {
        match index.checked_sub(SYSTEM_FIELDS) {
            None => self.meta.value(index),
            Some(index) => self.values.get(index).map_or(ValueRef::Null, Value::as_ref),
        }
    }

    fn differing(&self, other: &dyn AnyRecord) -> FieldSet {
        let mut set = self.meta.differing(&other.meta());
        for (index, value) in self.values.iter().enumerate() {
            let index = index + SYSTEM_FIELDS;
            if value.as_ref() != other.value(index) {
                set.insert(index);
            }
        }
        set
    }

    fn check(&self, _faults: &mut crate::error::Faults) {}

    fn with_meta(&self, meta: Meta) -> Row {
        Arc::new(Self {
            meta,
            ..self.clone()
        })
    }

    fn with_values(&self, meta: Meta, values: Vec<Value>) -> Result<Row, crate::error::Faults> {
        if self.sealed.is_none() {
            return self.object.build(meta, values);
        }
        Ok(Arc::new(Self {
            object: self.object.clone(),
            meta,
            values,
            sealed: self.sealed.clone(),
        }))
    }

    fn sealed(&self) -> Option<&[u8]> {
        self.sealed.as_deref()
    }
}

/// A set of fields of one object, by their place in the schema.
///
/// ```
/// use crm_core::schema::FieldSet;
///
/// let mut set = FieldSet::default();
/// set.insert(3);
/// set.insert(200);
/// assert_eq!(set.iter().collect::<Vec<_>>(), [3, 200]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet([u64; FieldSet::WORDS]);

impl FieldSet {
    const WORDS: usize = 4;

    /// The most fields an object may have.
    pub const CAPACITY: usize = Self::WORDS * 64;

    /// Adds a field. A place past [`CAPACITY`](Self::CAPACITY) is ignored.
    #[inline]
    pub const fn insert(&mut self, index: usize) {
        if index < Self::CAPACITY {
            #[allow(
                clippy::indexing_slicing,
                reason = "index / 64 is below WORDS, checked above"
            )]
            {
                self.0[index / 64] |= 1 << (index % 64);
            }
        }
    }

    /// Whether the field is in the set.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// Whether no field is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; Self::WORDS]
    }

    /// How many fields are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The fields of either set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
        self
    }

    /// The places of the fields, in the schema's order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(place, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(place * 64 + bit)
            })
        })
    }
}
