//! Working together on records: comments with mentions, notes, followers (C-210), and the tags that
//! a tenant uses.
//!
//! Comments and followers belong to a record of any object, the host's own included, and go and
//! come back with it.

mod comments;
mod followers;
mod mention;
mod tags;

pub use comments::{Comment, CommentKind, Mention};
pub use followers::Follower;
pub use mention::mentioned_usernames;
pub use tags::{TagCount, Tags};

pub(crate) use comments::CommentRules;
