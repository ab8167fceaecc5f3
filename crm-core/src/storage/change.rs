//! [`ChangeSet`]: a commit as data.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Guard;
use crate::query::{Condition, SortKey};
use crate::record::Stamp;
use crate::schema::{FieldType, ObjectRef, Row, StorageKind, Value};

/// One commit: everything that is written together, and what it relied on.
///
/// A backend checks, and writes nothing if one check fails:
///
/// 1. every [`Expectation`], every `before` of an update or delete: the stored row has that
///    version, else [`Conflict`](super::StorageError::Conflict);
/// 2. no inserted id is there already, else [`Duplicate`](super::StorageError::Duplicate) of `id`;
/// 3. with all changes applied, no two rows have the same values in a unique key, else `Duplicate`
///    of its fields;
/// 4. every reference that was inserted or changed leads to a row of the same tenant that is not
///    deleted, with all changes applied, else [`Reference`](super::StorageError::Reference);
/// 5. nothing refers to a removed row, with all changes applied, else
///    [`Referenced`](super::StorageError::Referenced);
/// 6. what [`Unreferenced`] says of deleted rows: with all changes applied, no row that is not
///    deleted refers to one of them in the field named, else
///    [`Conflict`](super::StorageError::Conflict) with the object that the reference leads to and
///    the id of the row that is referred to;
/// 7. no [`Guard`] refuses a row that answers its query, with all changes applied and what others
///    committed while this commit waited for its rows, else
///    [`Conflict`](super::StorageError::Conflict) with that row.
///
/// [`check_references`](super::check_references) and [`unique_value`](super::unique_value) say
/// exactly what counts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeSet {
    /// The commit's id, which its events carry.
    pub id: Uuid,
    /// The commit's time.
    pub at: DateTime<Utc>,
    /// What is written; at most one change for each row.
    pub changes: Vec<Change>,
    /// What was relied on besides the changed rows.
    pub expects: Vec<Expectation>,
    /// What nothing may refer to any more.
    pub unreferenced: Vec<Unreferenced>,
    /// The tenant's own objects ([`ObjectRef::instance`]) that references of the changes lead to, and
    /// those that may refer to a removed row: a storage was not told of them before.
    pub objects: Vec<ObjectRef>,
    /// What rows have to be like.
    pub guards: Vec<Arc<dyn Guard>>,
}

impl ChangeSet {
    /// A commit with these changes.
    #[must_use]
    pub const fn new(
        id: Uuid,
        at: DateTime<Utc>,
        changes: Vec<Change>,
        expects: Vec<Expectation>,
    ) -> Self {
        Self {
            id,
            at,
            changes,
            expects,
            unreferenced: Vec::new(),
            objects: Vec::new(),
            guards: Vec::new(),
        }
    }

    /// The same commit with what rows have to be like.
    #[must_use]
    pub fn with_guards(mut self, guards: Vec<Arc<dyn Guard>>) -> Self {
        self.guards = guards;
        self
    }

    /// The tenant's own object of this name, where the commit writes rows of it or names it in
    /// [`objects`](Self::objects).
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&ObjectRef> {
        let written = self.changes.iter().map(Change::object);
        let mut own = self.objects.iter().chain(written);
        own.find(|object| object.template().is_some() && object.name() == name)
    }

    /// The same commit with the tenant's own objects that it has to do with.
    #[must_use]
    pub fn with_objects(mut self, objects: Vec<ObjectRef>) -> Self {
        self.objects = objects;
        self
    }

    /// The object of the row that must not be referred to: the one that the reference leads to, or,
    /// where the field holds ids of records of any object, the one that this commit deletes. `None`
    /// only where the field holds no ids, or the commit does not delete the row.
    #[must_use]
    pub fn target_of<'a>(&'a self, wanted: &'a Unreferenced) -> Option<&'a str> {
        let field = wanted.object.fields().get(wanted.field)?;
        if let Some((target, _)) = field.reference() {
            return Some(target);
        }
        if field.storage_kind() != StorageKind::Uuid {
            return None;
        }
        let mut deleted = self
            .changes
            .iter()
            .filter(|change| change.id() == wanted.id);
        deleted.next().map(|change| change.object().name())
    }

    /// The same commit with what nothing may refer to any more.
    #[must_use]
    pub fn with_unreferenced(mut self, unreferenced: Vec<Unreferenced>) -> Self {
        self.unreferenced = unreferenced;
        self
    }
}

/// One row written by a commit.
#[derive(Clone, Debug)]
pub enum Change {
    /// A row that was not there.
    Insert {
        /// The row.
        row: Row,
    },
    /// A row that takes the place of another version.
    Update {
        /// The row as it was read; its version is the one expected in storage.
        before: Row,
        /// The row as it shall be, with the next version.
        after: Row,
    },
    /// A row that is removed for good.
    Delete {
        /// The row as it was read; its version is the one expected in storage.
        before: Row,
    },
}

impl Change {
    /// The object of the row.
    #[must_use]
    pub fn object(&self) -> &ObjectRef {
        self.any().object()
    }

    /// The row's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.any().id()
    }

    /// The row as it was, unless it is new.
    #[must_use]
    pub const fn before(&self) -> Option<&Row> {
        match self {
            Self::Insert { .. } => None,
            Self::Update { before, .. } | Self::Delete { before } => Some(before),
        }
    }

    /// The row as it shall be, unless it is removed.
    #[must_use]
    pub const fn after(&self) -> Option<&Row> {
        match self {
            Self::Insert { row } => Some(row),
            Self::Update { after, .. } => Some(after),
            Self::Delete { .. } => None,
        }
    }

    const fn any(&self) -> &Row {
        match self {
            Self::Insert { row } => row,
            Self::Update { after, .. } => after,
            Self::Delete { before } => before,
        }
    }
}

/// A row that a decision relied on without changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The object.
    pub object: ObjectRef,
    /// The row.
    pub id: Uuid,
    /// The version that was read.
    pub version: i64,
}

/// That nothing refers to a row any more that the commit deletes so that it can be restored.
///
/// Whoever deletes a row reads which rows refer to it, and deletes them too, empties their
/// references or gives up. A row that another commit inserts, restores or points there between that
/// read and the commit was not read. So the commit names each reference by which there may be such
/// a row, and is a conflict if there is one; then it is decided again. The other order needs
/// nothing: a reference to a row that is deleted already is refused as it is made.
///
/// What counts are the rows of the tenant that are not deleted, archived ones too, as they are with
/// all changes of the commit applied. It is not asked of logs: their entries are never deleted so
/// that they can be restored, and a deletion leaves them as they are.
///
/// ```
/// use crm_core::storage::{ChangeSet, Unreferenced};
/// use crm_core::{accounts::Account, contacts::Contact, schema::Entity};
///
/// /// Lets the commit fail if contacts of the account appeared meanwhile.
/// fn without_contacts(changes: ChangeSet, account: crm_core::Id<Account>) -> ChangeSet {
///     let contacts = Contact::schema();
///     let unreferenced = contacts.field_index("account_id").map(|field| Unreferenced {
///         object: contacts.clone(),
///         field,
///         id: account.uuid(),
///     });
///     changes.with_unreferenced(unreferenced.into_iter().collect())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreferenced {
    /// The object whose rows might refer to it.
    pub object: ObjectRef,
    /// The reference, by its place in the schema; or a field with ids of records of any object, of
    /// which the id alone is compared, as no two records have the same. Such a field need not say so
    /// ([`FieldSchema::record_of`](crate::schema::FieldSchema::record_of)): that of
    /// [typed rows](crate::schema::typed_values) is followed by the engine alone.
    pub field: usize,
    /// The row that must not be referred to: one that the commit deletes.
    pub id: Uuid,
}

/// A request of one worker for rows that no other worker gets.
///
/// The assignments must make the row stop fulfilling the condition, as setting `claimed_until` to a
/// later moment does: that is what keeps the next claim from taking it again. A claim is
/// bookkeeping of workers and leaves no audit event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claim {
    /// The object.
    pub object: ObjectRef,
    /// Which rows.
    pub condition: Condition,
    /// Which rows first.
    pub sort: Vec<SortKey>,
    /// The most rows.
    pub limit: usize,
    /// What to write into each row: fields by their place in the schema, none of them the system's,
    /// none of them in a unique key, and none that is right only together with others, such as one
    /// form of a telephone number.
    pub assign: Vec<(usize, Value)>,
    /// When and by whom; becomes the rows' `updated`, and their version rises by one.
    pub stamp: Stamp,
}

impl Claim {
    /// A claim of up to `limit` rows that fulfil `condition`.
    #[must_use]
    pub const fn new(
        object: ObjectRef,
        condition: Condition,
        sort: Vec<SortKey>,
        limit: usize,
        assign: Vec<(usize, Value)>,
        stamp: Stamp,
    ) -> Self {
        Self {
            object,
            condition,
            sort,
            limit,
            assign,
            stamp,
        }
    }

    /// Checks the assignments: what a backend does before it looks at any row.
    ///
    /// # Errors
    /// [`Corrupt`](super::StorageError::Corrupt) with the fields whose value does not fit, and those
    /// of telephone numbers, whose two forms go together.
    pub fn check(&self) -> Result<(), super::StorageError> {
        let fields = self.object.fields();
        let is_phone = |index: Option<usize>| {
            let field = index.and_then(|index| fields.get(index));
            field.is_some_and(|field| field.field_type == FieldType::Phone)
        };
        let wrong: Vec<String> = self
            .assign
            .iter()
            .filter_map(|(index, value)| {
                let field = fields
                    .get(*index)
                    .filter(|_| *index >= crate::schema::SYSTEM_FIELDS)?;
                let fits = if is_phone(Some(*index)) || is_phone(index.checked_sub(1)) {
                    false
                } else if value.is_null() {
                    !field.required
                } else {
                    field.field_type.check(&value.as_ref()).is_ok()
                };
                (!fits).then(|| field.name.to_string())
            })
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(super::StorageError::Corrupt {
            object: self.object.name().to_owned(),
            fields: wrong,
        })
    }

    /// The row as the claim leaves it.
    ///
    /// # Errors
    /// [`Corrupt`](super::StorageError::Corrupt) where an assigned value does not fit its field.
    pub fn apply(&self, row: &Row) -> Result<Row, super::StorageError> {
        let mut values = row.values();
        for (index, value) in &self.assign {
            let slot = index.checked_sub(crate::schema::SYSTEM_FIELDS);
            if let Some(slot) = slot.and_then(|place| values.get_mut(place)) {
                slot.clone_from(value);
            }
        }
        row.with_values(row.meta().next(self.stamp), values)
            .map_err(|faults| super::StorageError::Corrupt {
                object: self.object.name().to_owned(),
                fields: faults
                    .into_result()
                    .err()
                    .into_iter()
                    .flat_map(crate::error::ValidationError::into_errors)
                    .map(|error| error.path)
                    .collect(),
            })
    }
}

/// What a backend says of a commit that was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// How many rows were written.
    pub rows: usize,
}

impl Committed {
    /// A commit that wrote so many rows.
    #[must_use]
    pub const fn new(rows: usize) -> Self {
        Self { rows }
    }
}
