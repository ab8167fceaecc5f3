//! What earlier rows of the same file did: the keys they took, the records they made.
//!
//! A run could ask the storage for most of it, a dry run cannot: nothing is written. Both ask here,
//! so that both find the same. It holds some 40 bytes for each key of a row that landed.

use std::collections::{HashMap, HashSet};

use crm_core::query::fold_case;
use crm_core::schema::{ObjectRef, Row, UniqueKey, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What landed rows did.
#[derive(Default)]
pub(crate) struct Seen {
    /// The row that took a key.
    taken: HashMap<u128, u64>,
    /// Values that a record had in a unique key, and has no more.
    freed: HashSet<u128>,
    /// Records that are named by later rows, by the column and the text.
    named: HashMap<(usize, String), Vec<Uuid>>,
}

impl Seen {
    pub(crate) fn take(&mut self, key: u128, row: u64) {
        self.taken.entry(key).or_insert(row);
    }

    pub(crate) fn free(&mut self, key: u128) {
        self.freed.insert(key);
    }

    pub(crate) fn name(&mut self, column: usize, text: String, id: Uuid) {
        self.named.entry((column, text)).or_default().push(id);
    }

    /// Adds what a batch did, once it landed.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (key, row) in other.taken {
            self.take(key, row);
        }
        self.freed.extend(other.freed);
        for (name, ids) in other.named {
            self.named.entry(name).or_default().extend(ids);
        }
    }
}

/// What the rows before this one did: those of earlier batches and those of this one.
pub(crate) struct Before<'a>(pub(crate) &'a Seen, pub(crate) &'a Seen);

impl Before<'_> {
    /// The row that took a key.
    pub(crate) fn taken(&self, key: u128) -> Option<u64> {
        let own = self.1.taken.get(&key);
        self.0.taken.get(&key).or(own).copied()
    }

    pub(crate) fn is_freed(&self, key: u128) -> bool {
        self.0.freed.contains(&key) || self.1.freed.contains(&key)
    }

    /// The records that rows made under a name.
    pub(crate) fn named(&self, column: usize, text: &str) -> Vec<Uuid> {
        let name = (column, text.to_owned());
        let ids = [&self.0.named, &self.1.named].map(|named| named.get(&name));
        ids.into_iter().flatten().flatten().copied().collect()
    }
}

/// The fingerprint of the values of a key.
pub(crate) fn fingerprint(key: &str, values: &[Value]) -> u128 {
    let mut digest = Sha256::new();
    digest.update(key.as_bytes());
    for value in values {
        let text = value.to_json().to_string();
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
    let bytes = digest.finalize();
    bytes
        .iter()
        .take(16)
        .fold(0, |number, byte| (number << 8) | u128::from(*byte))
}

/// The values that a row will have in a unique key, as far as that can be told before the rules of
/// the object run; `None` where the row does not count.
pub(crate) fn unique_values(
    object: &ObjectRef,
    key: &UniqueKey,
    before: Option<&Row>,
    given: &[(usize, Value)],
) -> Option<Vec<Value>> {
    let value = |index: usize| -> Value {
        let default = || {
            object
                .fields()
                .get(index)
                .map(|field| field.default.clone())
        };
        match given.iter().rev().find(|(place, _)| *place == index) {
            Some((_, Value::Null)) => default().unwrap_or_default(),
            Some((_, value)) => value.clone(),
            None => match before {
                Some(row) => row.value(index).into_owned(),
                None => default().unwrap_or_default(),
            },
        }
    };
    if key
        .only_if
        .is_some_and(|index| value(index) != Value::Boolean(true))
    {
        return None;
    }
    let folded = |index: &usize| match value(*index) {
        Value::Null => None,
        Value::Text(text) if key.ignore_case => Some(Value::Text(fold_case(&text))),
        value => Some(value),
    };
    key.fields.iter().map(folded).collect()
}
