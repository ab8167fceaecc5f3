//! Duplicates: which records are the same person or company, by rules that tenants set as data.
//!
//! A [`MatchRule`] says when two records of an object match: all or any of several comparisons of
//! fields, or a weighted mean of their similarities. It also names keys, such as the phonetic code of
//! the family name with the first digits of the postcode: only records that share a key are ever
//! compared, so that a check looks keys up in an index instead of reading all records. It works on
//! every object and field that a schema describes, custom fields and the host's objects too.
//!
//! ```text
//! record ── prepare ──> forms of its fields ──┬── keys ──> duplicate_key rows, one for each key
//!                       (once a record)       └── score of two, explanation (once a pair)
//! ```
//!
//! A [`DuplicateRule`] holds such a rule for one tenant and object. A rule that warns makes
//! [`Duplicates::check`] tell of the records that a new one is like, and why. A strict one refuses to
//! create them: [`Error::DuplicateFound`](crate::Error::DuplicateFound), also for two new records of
//! one unit of work, for a change of a compared field and for a restoration.
//!
//! What holds when two sessions create the same person at the same moment: where one comparison for
//! equality is enough (`email` alone, or in an `any`, or several in an `all`), the key is held by one
//! record only, and the slower session is refused. Where only similarity would tell, both may be
//! created, and the next check or scan finds them.
//!
//! [`PendingRecords`] compares records with each other that are decided but not stored yet, such as the
//! rows of an import.
//!
//! The keys of records written before a rule was set are built by [`Duplicates::rebuild_keys`]; until
//! then checks say that they are incomplete. [`Duplicates::scan`] finds the pairs among all stored
//! records; [`Scanner`] those of a file.

mod block;
mod check;
mod compare;
mod compile;
mod entity;
mod hook;
mod keys;
mod normal;
mod pending;
mod rule;
mod scan;
mod service;
mod shipped;

pub use block::{BLOCK_LIMIT, CutBlock, FoundPair, Scanned, Scanner};
pub use check::{CheckGap, DuplicateCheck, DuplicateFound, DuplicateMatch};
pub use compare::{ComparisonResult, Explanation, MAX_KEYS_PER_RECORD, Prepared, RecordKey};
pub use compile::CompiledRule;
pub use entity::{DuplicateKey, DuplicateMode, DuplicateRule, KeyState};
pub use pending::PendingRecords;
pub use rule::{
    BlockingKey, Criterion, FieldComparison, KeyForm, KeyPart, MatchRule, Method,
    PhoneticAlgorithm, WeightedComparison, WeightedMean,
};
pub use scan::{DuplicatePair, DuplicateScan, ScanCursor};
pub use service::{Duplicates, Rebuilt};

pub(crate) use entity::DuplicateRuleRules;
pub(crate) use hook::DuplicateHook;

/// The name of [`DuplicateKey`]'s object.
const DUPLICATE_KEY: &str = "duplicate_key";
