//! Filters, sorts, pages and aggregates over any object.
//!
//! A host asks with typed handles, which the compiler checks, or by name, as its web API receives
//! it; both become the same [`Filter`]. Before it reaches a backend it is bound to the schema: names
//! become places, values become the kind that the field holds, and whatever does not fit is a
//! [`QueryError`] that says what would. Backends see only the bound [`Query`] and
//! [`AggregateQuery`].
//!
//! ```
//! use crm_core::query::{Filter, Find, WhereExt};
//! use crm_core::{accounts::Account, contacts::Contact};
//!
//! // Typed:
//! let typed = Find::<Contact>::new()
//!     .filter(Contact::JOB_TITLE.contains("engineer").and(Contact::ACCOUNT_ID.is_not_null()))
//!     .sort(Contact::CREATED_AT.desc())
//!     .limit(20);
//! // By name:
//! let by_name: Find<Contact> = serde_json::from_value(serde_json::json!({
//!     "filter": {"and": [
//!         {"field": "job_title", "op": "contains", "value": "engineer"},
//!         {"field": "account_id", "op": "is_not_null"},
//!     ]},
//!     "sort": ["-created_at"],
//!     "limit": 20,
//! }))?;
//! assert_eq!(serde_json::to_value(&typed)?, serde_json::to_value(&by_name)?);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What comparisons mean
//!
//! - A field without a value fulfils no comparison but `ne` and `is_null`; `not` turns an answer
//!   into its opposite, so `not (amount > 5)` includes records without an amount.
//! - `eq`, `ne` and `in` ignore letter case on e-mail addresses, domains, user names and other fields
//!   that their schema marks (R-088); `starts_with` and `contains` always ignore it.
//! - `within` and `path_to` take a part of a tree: a record and all that is below or above it. Deleted
//!   records belong to no tree.
//! - `has` asks about the record that a reference leads to, `any` about the records that lead here by a
//!   reference: an account with an open deal, `{"any": "deal", "by": "account_id", "where": {"field":
//!   "status", "op": "eq", "value": "open"}}`. Both stand within each other as deep as a filter may be;
//!   all that one `where` demands holds for one record. Deleted records count in neither, archived ones
//!   in both. `not` makes of `any` that there is none.
//! - Texts sort by their UTF-8 bytes. A field without a value sorts after all values, before them in
//!   descending order.

mod aggregate;
mod condition;
mod criteria;
mod cursor;
mod error;
mod filter;
mod find;
mod related;
mod search;
mod tree;

pub use aggregate::{
    Aggregate, AggregateQuery, Aggregator, CalendarUnit, Group, Grouping, Measure,
};
pub use condition::{Condition, CustomMember, FieldAt, fold_case};
pub use criteria::Criteria;
pub use cursor::Cursor;
pub use error::QueryError;
pub use filter::{Comparison, Filter, ListMatch, TextMatch, Where, WhereExt};
pub use find::{Find, MAX_LIMIT, Page, Query, Sort, SortKey};
pub use related::{NoRelated, Related, RelatedBy, RelatedRows};
pub use search::{TextSearch, search_text, search_words};
pub use tree::{Tree, TreePart};

pub(crate) use condition::locate;
pub(crate) use criteria::{Refusal, own_fields};
pub(crate) use find::page_of;
pub(crate) use search::best;
