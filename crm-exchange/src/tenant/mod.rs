//! A whole tenant as one file, and back as a new tenant: between environments, backends and shards
//! (C-086, C-087, C-168).
//!
//! ```text
//!  {"crm_tenant_export":1,"engine":"0.1.0",..}                       the head
//!  {"object":"tenant","id":..,"meta":{..},"values":{..}}             the records, an object after those
//!  {"object":"user","id":..,"meta":{..},"values":{..}}               that it refers to, by id
//!  {"manifest":{"objects":[{"object":"user","count":2,"sha256":..}]}}  counts and checksums
//! ```
//!
//! # What goes along
//!
//! Every object that the engine knows, those of the host too, with versions and stamps; archived and
//! deleted records and logs unless they are left out. What the engine derives from other records is
//! not in the file: the import makes it again, and what a host derives is made by [`AfterImport`].
//!
//! No secret goes along: fields marked sensitive (password hashes, payment data) and encrypted
//! values stay behind, and the manifest tells which. **Users set new passwords after a move**, and
//! integrations get their keys anew. A record that cannot be without its secret stays behind as a
//! whole and is counted, so is what cannot be without it.
//!
//! # While others write
//!
//! Nothing is locked. The file has the records that were created before the export began, each as
//! it is when its page is read. References to later records are emptied, so that the file is whole
//! in itself; a record removed for good (purged) meanwhile may leave a reference to it, which the import
//! then names. For a picture of one moment, export while nobody writes.
//!
//! # Ids
//!
//! Every id becomes another one, computed from the new tenant's id and the old id
//! ([`moved_id`]): no table of ids is kept however large the tenant is, and running an import
//! again makes the same ids, so that one that broke off goes on where it stopped. The time in a
//! version 7 id stays, since lists are sorted by it.

mod error;
mod export;
mod identity;
mod import;
mod line;
mod manifest;
mod order;
mod verify;

pub use error::TransferError;
pub use export::TenantExport;
pub use identity::moved_id;
pub use import::{AfterImport, ImportReport, TenantImport};
pub use manifest::{FORMAT, Head, Manifest, ObjectSummary};
pub use verify::verify;
