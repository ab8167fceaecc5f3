//! What goes wrong on the way to PostgreSQL and in it: each fault comes back as its error, none
//! tells a value, what can be sent again is sent again and applied once, and every call is one
//! round trip.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod common;
mod connections;
mod constraints;
mod locks;
mod relay;
mod round_trips;
mod secrecy;
mod server;
