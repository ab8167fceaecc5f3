//! What a row becomes that is sealed anew.

use crate::error::ValidationError;
use crate::schema::{Privacy, Row};

use super::StorageError;

/// The stored row with the personal values of `row`, and with what is sealed of them: what
/// [`Storage::reseal`](super::Storage::reseal) puts in its place, at the same version. All else stays
/// as it is stored. `None` where the object has no personal or sensitive field.
///
/// # Errors
/// [`StorageError::Corrupt`] with the fields whose value does not fit, of a row without sealed values.
pub fn resealed(stored: &Row, row: &Row) -> Result<Option<Row>, StorageError> {
    let object = row.object();
    let own = object.own_fields();
    if own.iter().all(|field| field.privacy == Privacy::Public) {
        return Ok(None);
    }
    let mut values = stored.values();
    for ((value, new), field) in values.iter_mut().zip(row.values()).zip(own) {
        if field.privacy != Privacy::Public {
            *value = new;
        }
    }
    let sealed = row.sealed().map(<[u8]>::to_vec);
    let built = object.build_sealed(stored.meta(), values, sealed);
    built.map(Some).map_err(|faults| {
        let faults = faults.into_result().err().into_iter();
        let faults = faults.flat_map(ValidationError::into_errors);
        StorageError::Corrupt {
            object: object.name().to_owned(),
            fields: faults.map(|fault| fault.path).collect(),
        }
    })
}
