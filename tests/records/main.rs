//! Accounts, contacts, activities, and what users do with records daily.

mod activities;
mod calendar;
mod card;
mod collaboration;
#[path = "../common/mod.rs"]
mod common;
mod contacts;
mod duplicates;
mod hierarchy;
mod merging;
mod recurrence;
mod reminders;
mod territories;
