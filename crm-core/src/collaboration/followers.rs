//! [`Follower`]: who wants to hear of a record.

use std::sync::Arc;

use uuid::Uuid;

use crate::engine::{Records, UnitOfWork, in_work};
use crate::error::Result;
use crate::identity::User;
use crate::query::{Cursor, Find, MAX_LIMIT, Page, Where, WhereExt};
use crate::record::Record;
use crate::schema::Entity;
use crate::{EntityRef, Id};

/// That a user follows a record of any object (C-210).
///
/// ```
/// # use crm_core::{Id, Session, deals::Deal, error::Result, identity::User};
/// # async fn example(session: &Session, deal: Id<Deal>, ada: Id<User>) -> Result<()> {
/// session.followers().follow(deal, ada).await?;
/// assert_eq!(session.followers().of(deal).await?, [ada]);
/// session.followers().unfollow(deal, ada).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "follower",
    table = "followers",
    unique(record_id, object, user_id; live),
    index(user_id, created_at)
)]
pub struct Follower {
    /// The object of the record.
    #[field(required, max_len = 100)]
    pub object: String,
    /// The record.
    #[field(required, record_of = "object")]
    pub record_id: Uuid,
    /// Who follows it.
    #[field(required, references = "user", on_delete = "cascade")]
    pub user_id: Id<User>,
}

impl Records<'_, Follower> {
    /// Lets a user follow a record; one who does already goes on to.
    ///
    /// # Errors
    /// [`Error::Validation`](crate::Error::Validation) if there is no such record or user.
    pub async fn follow(
        &mut self,
        record: impl Into<EntityRef>,
        user: Id<User>,
    ) -> Result<Arc<Record<Follower>>> {
        let record = record.into();
        in_work!(self.workspace, |work| {
            if let Some(follower) = find_follower(work, &record, user).await? {
                return Ok(follower);
            }
            work.contend("follower", &["record_id", "object", "user_id"]);
            work.create(Follower::new(&*record.object, record.id, user))
                .await
        })
    }

    /// Lets a user follow a record no more; one who does not is left as he is. Returns whether he
    /// did.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn unfollow(&mut self, record: impl Into<EntityRef>, user: Id<User>) -> Result<bool> {
        let record = record.into();
        in_work!(self.workspace, |work| {
            let Some(follower) = find_follower(work, &record, user).await? else {
                return Ok(false);
            };
            work.delete(Follower::schema(), follower.id.uuid()).await?;
            Ok(true)
        })
    }

    /// Who follows a record, in the order in which they began; at most [`MAX_LIMIT`].
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn of(&self, record: impl Into<EntityRef>) -> Result<Vec<Id<User>>> {
        let find = Find::from(on(&record.into()))
            .sort(Follower::CREATED_AT.asc())
            .limit(MAX_LIMIT);
        let followers = self.find(find).await?.items;
        Ok(followers.iter().map(|follower| follower.user_id).collect())
    }

    /// What a user follows, the latest first.
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query) for a cursor of another query.
    pub async fn followed_by(
        &self,
        user: Id<User>,
        after: Option<Cursor>,
    ) -> Result<Page<EntityRef>> {
        let find = Find::from(Follower::USER_ID.eq(user)).sort(Follower::CREATED_AT.desc());
        let page = self
            .find(match after {
                Some(cursor) => find.after(cursor),
                None => find,
            })
            .await?;
        Ok(page.map(|follower| EntityRef::new(&*follower.object, follower.record_id)))
    }
}

fn on(record: &EntityRef) -> Where<Follower> {
    Follower::RECORD_ID
        .eq(record.id)
        .and(Follower::OBJECT.eq(&*record.object))
}

async fn find_follower(
    work: &UnitOfWork,
    record: &EntityRef,
    user: Id<User>,
) -> Result<Option<Arc<Record<Follower>>>> {
    let wanted = on(record).and(Follower::USER_ID.eq(user));
    Ok(work.find_all(wanted, Vec::new()).await?.pop())
}
