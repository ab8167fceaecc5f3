//! Data in and out of the CRM engine: files of rows (CSV, XLSX, JSON lines), calendars and address
//! cards, and whole tenants.

pub mod calendar;
/// Address cards (vCard) of contacts.
pub mod card;
pub mod export;
pub mod import;
mod secret;
pub mod spreadsheet;
pub mod tenant;
