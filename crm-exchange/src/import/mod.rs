//! Importing files of rows into any object (C-004): CSV, XLSX, XLSB, XLS and ODS.
//!
//! ```text
//!  Source ──► Table          encoding, delimiter and header found; rows of typed cells, as a stream
//!                │
//!             Mapping        suggested from headers and values, kept for files of the same form
//!                │
//!              Plan          bound to the object's schema; each column's format decided once
//!                │
//!   batch of rows: parse, look up references, match keys, find duplicates, stage
//!                │
//!   one commit: the records, what became of each row, how far the job is
//! ```
//!
//! - Good rows land; bad rows are told with the reason for each cell, and come back as a file
//!   ([`ErrorsFile`]) (R-077).
//! - A row whose key an earlier row of the file had is a duplicate, so an upsert that is repeated
//!   changes nothing.
//! - A job that was stopped or killed goes on exactly where it was ([`Importer::resume`]), and can be
//!   taken back as a whole ([`Importer::revert`]).
//! - A dry run says of each row what the import would do ([`Importer::dry_run`]); neither that nor the
//!   size of the batches nor a stop in between changes what becomes of a row.
//! - Memory does not grow with the file, apart from some 40 bytes for each key of a row; in a dry run
//!   under duplicate rules, also by what the rules look at in each row that would land.

mod batch;
mod candidate;
mod detect;
mod error;
mod errors_file;
mod find;
mod importer;
mod lookup;
mod mapping;
mod order;
mod parse;
mod pass;
mod plan;
mod read;
mod seen;
mod source;
mod suggest;

pub use error::{ImportError, MappingProblem};
pub use errors_file::ErrorsFile;
pub use importer::{Import, ImportExt, Importer, Outcome, Preview, RowReport};
pub use mapping::{ColumnMapping, EmptyCell, FULL_NAME, Lookup, Mapping, headers_fingerprint};
pub use parse::{ColumnFormat, DecimalMark, MemberType};
pub use read::{Cell, HeaderRow, ReadError, ReadOptions, Table, TableRow};
pub use source::{Inspection, Source};
pub use suggest::suggest;
