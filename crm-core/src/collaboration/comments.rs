//! [`Comment`]: what users say about a record, and [`Mention`]: whom they call.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::mentioned_usernames;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Result, codes};
use crate::identity::User;
use crate::query::{Filter, Find, Page, WhereExt};
use crate::record::{Actor, Record};
use crate::schema::{Entity, Picklist};
use crate::{EntityRef, Id};

/// A comment, or a note, on a record of any object (C-210).
///
/// Whoever is mentioned in it by user name, as in `@ada`, finds it among his mentions. Its text is
/// changed by its author only.
///
/// ```
/// # use crm_core::{Id, Session, contacts::Contact, error::Result};
/// # async fn example(session: &Session, contact: Id<Contact>) -> Result<()> {
/// let asked = session.comments().write(contact, "@grace, do you know her?").await?;
/// session.comments().reply(asked.id, "We met in London.").await?;
/// let page = session.comments().of(contact, None).await?;
/// assert_eq!(page.items.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "comment", table = "comments", index(record_id, created_at))]
pub struct Comment {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required, record_of = "object")]
    pub record_id: Uuid,
    /// What is said.
    #[field(required, multiline, personal, searchable)]
    pub body: String,
    /// Whether it is part of a conversation or stands for itself.
    pub kind: CommentKind,
    /// What a note is about.
    #[field(max_len = 255, personal, searchable)]
    pub title: Option<String>,
    /// The comment that it answers, on the same record.
    #[field(references = "comment", on_delete = "set_null")]
    pub reply_to_id: Option<Id<Comment>>,
    /// Whether it is shown before the others.
    pub is_pinned: bool,
    /// When its text was last changed.
    #[field(read_only)]
    pub edited_at: Option<DateTime<Utc>>,
}

/// Whether a text is part of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum CommentKind {
    /// Said to others.
    #[default]
    Comment,
    /// Written down to be found again.
    Note,
}

/// That a comment mentions a user. Kept in step with the comment's text; a host may add others, such
/// as the members of a team.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "mention",
    table = "mentions",
    unique(comment_id, user_id; live),
    index(user_id, read_at)
)]
pub struct Mention {
    /// The comment.
    #[field(required, references = "comment", on_delete = "cascade")]
    pub comment_id: Id<Comment>,
    /// The user.
    #[field(required, references = "user", on_delete = "cascade")]
    pub user_id: Id<User>,
    /// When the user saw it.
    pub read_at: Option<DateTime<Utc>>,
}

impl Records<'_, Comment> {
    /// Comments on a record.
    ///
    /// # Errors
    /// [`Error::Validation`] if there is no such record or the text is blank.
    pub async fn write(
        &mut self,
        record: impl Into<EntityRef>,
        body: &str,
    ) -> Result<Arc<Record<Comment>>> {
        let record = record.into();
        self.create(Comment::new(record.object, record.id, body))
            .await
    }

    /// Writes a note on a record.
    ///
    /// # Errors
    /// Like [`write`](Self::write).
    pub async fn note(
        &mut self,
        record: impl Into<EntityRef>,
        title: &str,
        body: &str,
    ) -> Result<Arc<Record<Comment>>> {
        let record = record.into();
        self.create(Comment {
            kind: CommentKind::Note,
            title: Some(title.to_owned()),
            ..Comment::new(record.object, record.id, body)
        })
        .await
    }

    /// Answers a comment.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such comment; [`Error::Validation`].
    pub async fn reply(&mut self, to: Id<Comment>, body: &str) -> Result<Arc<Record<Comment>>> {
        in_work!(self.workspace, |work| {
            let answered = work.get(to).await?;
            work.create(Comment {
                reply_to_id: Some(to),
                ..Comment::new(&*answered.object, answered.record_id, body)
            })
            .await
        })
    }

    /// Changes the text of a comment; whom it mentions follows.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for anybody but the author; [`Error::NotFound`]; [`Error::Validation`].
    pub async fn edit(&mut self, id: Id<Comment>, body: &str) -> Result<Arc<Record<Comment>>> {
        self.update(id, |comment| body.clone_into(&mut comment.body))
            .await
    }

    /// Shows a comment before the others, or no more.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn pin(&mut self, id: Id<Comment>, pinned: bool) -> Result<Arc<Record<Comment>>> {
        self.update(id, |comment| comment.is_pinned = pinned).await
    }

    /// The comments and notes on a record: pinned ones first, then in the order in which they were
    /// written, fifty at once; `after` is the cursor of the page before.
    ///
    /// # Errors
    /// [`Error::Query`] for a cursor of another query.
    pub async fn of(
        &self,
        record: impl Into<EntityRef>,
        after: Option<crate::query::Cursor>,
    ) -> Result<Page<Arc<Record<Comment>>>> {
        let record = record.into();
        let find = Find::from(
            Comment::RECORD_ID
                .eq(record.id)
                .and(Comment::OBJECT.eq(record.object)),
        )
        .sort(Comment::IS_PINNED.desc())
        .sort(Comment::CREATED_AT.asc());
        self.find(match after {
            Some(cursor) => find.after(cursor),
            None => find,
        })
        .await
    }
}

impl Records<'_, Mention> {
    /// The mentions that a user has not seen yet, the latest first.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn unread(
        &self,
        user: Id<User>,
        after: Option<crate::query::Cursor>,
    ) -> Result<Page<Arc<Record<Mention>>>> {
        let find = Find::from(Mention::USER_ID.eq(user).and(Mention::READ_AT.is_null()))
            .sort(Mention::CREATED_AT.desc());
        self.find(match after {
            Some(cursor) => find.after(cursor),
            None => find,
        })
        .await
    }

    /// Says that a user saw mentions; those of other users and unknown ones are left as they are.
    /// Returns how many were unread.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn mark_read(&mut self, user: Id<User>, mentions: &[Id<Mention>]) -> Result<usize> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            let mut marked = 0;
            for mention in work.records::<Mention>().get_all(mentions).await? {
                if mention.user_id == user && mention.read_at.is_none() {
                    let see = |mention: &mut Mention| mention.read_at = Some(now);
                    work.update_record(mention, &see).await?;
                    marked += 1;
                }
            }
            Ok(marked)
        })
    }
}

/// Who may change the text, what it answers, and whom it mentions.
#[derive(Debug)]
pub(crate) struct CommentRules;

#[async_trait]
impl WriteRule for CommentRules {
    fn object(&self) -> &'static str {
        "comment"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Comment>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let (id, body) = (after.id, after.body.clone());
        let (record, reply_to) = (after.record_id, after.reply_to_id);
        let before = write.before::<Comment>();
        let was_deleted = before.is_some_and(|before| before.deleted_at.is_some());
        let text_before = before.map(|before| before.body.clone());
        let author = before.map(|before| before.created.by);
        let answered = before.and_then(|before| before.reply_to_id);
        if reply_to != answered
            && let Some(reply_to) = reply_to
            && let Some(comment) = work.lookup(reply_to).await?
            && comment.record_id != record
        {
            write.faults().add(
                "reply_to_id",
                codes::INCONSISTENT,
                "is a comment on another record",
            );
        }
        let names = match &text_before {
            // What was deleted with the comment comes back with it.
            Some(text) if was_deleted || *text == body => return Ok(()),
            Some(text) => mentioned_usernames(text),
            None => BTreeSet::new(),
        };
        if author.is_some_and(|author| !may_edit(author, work.session().actor())) {
            return Err(Error::Forbidden {
                reason: "the text of a comment is changed by its author only".into(),
            });
        }
        if text_before.is_some() {
            let now = work.now();
            write.edit::<Comment>(|comment| comment.edited_at = Some(now));
        }
        let wanted = mentioned_usernames(&body);
        let added = wanted.difference(&names).cloned().collect();
        let gone = names.difference(&wanted).cloned().collect();
        mention(work, id, text_before.is_some(), added, gone).await
    }
}

fn may_edit(author: Actor, actor: Actor) -> bool {
    author == actor || actor == Actor::System
}

/// Adds and takes back mentions of a comment by user names.
async fn mention(
    work: &mut UnitOfWork,
    comment: Id<Comment>,
    is_edited: bool,
    added: Vec<String>,
    gone: Vec<String>,
) -> Result<()> {
    if added.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = added.iter().chain(&gone).cloned().collect();
    let mut users = Vec::new();
    for some in names.chunks(Filter::MAX_VALUES) {
        let named = User::USERNAME.one_of(some.to_vec());
        users.extend(work.find_all(named, Vec::new()).await?);
    }
    if users.is_empty() {
        return Ok(());
    }
    let known = if is_edited {
        let of_comment = Mention::COMMENT_ID.eq(comment);
        work.find_all(of_comment, Vec::new()).await?
    } else {
        Vec::new()
    };
    for user in users {
        let name = user.username.as_deref().map(crate::query::fold_case);
        let is_added = name.is_some_and(|name| added.contains(&name));
        let mention = known.iter().find(|mention| mention.user_id == user.id);
        match (mention, is_added) {
            (None, true) => {
                work.create(Mention::new(comment, user.id)).await?;
            }
            (Some(mention), false) => {
                work.delete(Mention::schema(), mention.id.uuid()).await?;
            }
            _ => {}
        }
    }
    Ok(())
}
