//! Typed value rows: what unique fields, indexed fields and references are served by (C-038, C-095,
//! C-136, C-137, C-163, C-164).
//!
//! The document of a record is where values are kept. Of fields that are unique, indexed or lead to a
//! record, each value also has a [`CustomValue`](crate::CustomValue) row, with columns that backends
//! have indexes on. [`form`] says which row a value has, [`state`] which fields have rows, [`hook`] keeps
//! them in the commit of the record, and [`service`] makes those of records that were there before.
//!
//! [`texts`] keeps one row for each record that has searchable custom values: the words by which a text
//! search finds it.

pub(crate) mod form;
pub(crate) mod hook;
mod rows;
pub(crate) mod service;
pub(crate) mod state;
pub(crate) mod texts;
