//! Checks that several definitions share.

use crm_core::error::{Faults, ValidationError, codes};

/// The most characters of a label.
pub(crate) const LABEL_LENGTH: usize = 255;

/// Checks a text that people read: not blank, and no longer than `most` characters.
pub(crate) fn label(faults: &mut Faults, path: &str, text: &str, most: usize) {
    if text.trim().is_empty() {
        faults.add(path, codes::BLANK, "must not be blank");
    }
    if text.chars().count() > most {
        faults.add(
            path,
            codes::TOO_LONG,
            format!("use at most {most} characters"),
        );
    }
    if text.contains('\0') {
        faults.add(
            path,
            codes::NUL_CHARACTER,
            "must not contain the NUL character",
        );
    }
}

/// The value, unless there are faults.
pub(crate) fn checked<T>(value: T, faults: Faults) -> Result<T, ValidationError> {
    faults.into_result().map(|()| value)
}
