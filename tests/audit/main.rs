//! The audit trail, versions, undo, the change feed, seals; privacy and retention.

#[path = "../common/mod.rs"]
mod common;
mod encryption;
mod events;
mod feed;
mod keys;
mod pages;
mod privacy;
mod retention;
mod seals;
mod versions;
