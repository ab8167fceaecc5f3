//! Import and export.

#[path = "../common/mod.rs"]
mod common;
mod export;
mod import;
mod import_files;
mod import_opportunities;
mod tenant_move;
