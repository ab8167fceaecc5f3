//! Regular expressions of tenants: the whole text matches, in linear time.

use regex::{Regex, RegexBuilder};

/// The code of a pattern that cannot be used.
pub(crate) const INVALID: &str = "invalid_pattern";

/// The most characters of a pattern.
const MOST: usize = 1000;

/// The most bytes that one compiled pattern takes.
pub(crate) const SIZE_LIMIT: usize = 1 << 18;

/// The pattern that JSON Schema has: there, a pattern may match anywhere in a text.
pub(crate) fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// Compiles a pattern that the whole text is to match.
///
/// It is read as JSON Schema reads it, in the notation of ECMA 262: `\d` is one of ten digits, `\w` a
/// letter without marks, a digit or `_`. What cannot be matched in linear time is refused.
///
/// # Errors
/// What to do about it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, &'static str> {
    if pattern.chars().count() > MOST {
        return Err("use a pattern of at most 1000 characters");
    }
    // On its own first: it must not close the group that is put around it.
    build(pattern)?;
    build(&anchored(pattern))
}

fn build(pattern: &str) -> Result<Regex, &'static str> {
    let unreadable = "use a regular expression of ECMA 262 without look-around and back references";
    let pattern = jsonschema_regex::to_rust_regex(pattern).map_err(|()| unreadable)?;
    RegexBuilder::new(&pattern)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "use a smaller pattern, with smaller repetitions",
            _ => unreadable,
        })
}
