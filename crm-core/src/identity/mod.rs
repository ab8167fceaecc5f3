//! Users and teams of a tenant.
//!
//! Managers and parent teams form trees without cycles (R-086). Users are not removed while
//! records name them; they are deactivated, or deleted so that they can be restored.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value as Json, json};

use crate::Id;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Faults, Result, codes};
use crate::hierarchy::ensure_no_cycle;
use crate::query::{Find, WhereExt};
use crate::record::Record;
use crate::schema::{Entity, Picklist};
use crate::value::{
    Address, Currency, EmailAddress, HttpUrl, LanguageTag, PersonName, PhoneNumber, TimeZone,
};

/// A person who works with the host application, for one tenant.
///
/// ```
/// use crm_core::{identity::User, value::{EmailAddress, TextValue}};
///
/// let ada = User::new(EmailAddress::parse("ada@acme.example").unwrap());
/// assert_eq!(ada.status.as_str(), "active");
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "user",
    table = "users",
    unique(email; ignore_case, live),
    unique(username; ignore_case, live),
    unique(employee_id; live)
)]
pub struct User {
    /// E-mail address; no two live users have the same (R-088).
    #[field(required, personal, searchable)]
    pub email: EmailAddress,
    /// Name to log in with.
    #[field(max_len = 100, personal)]
    pub username: Option<String>,
    /// When the e-mail address was verified.
    #[field(read_only)]
    pub email_verified_at: Option<DateTime<Utc>>,
    /// The password, hashed.
    #[field(max_len = 255, sensitive, read_only)]
    pub password_hash: Option<String>,
    /// Name.
    #[field(flatten, personal)]
    pub name: PersonName,
    /// Name to show.
    #[field(max_len = 201, personal)]
    pub display_name: Option<String>,
    /// Picture.
    #[field(max_len = 500, personal)]
    pub avatar_url: Option<HttpUrl>,
    /// Telephone.
    #[field(flatten, prefix = "phone", personal)]
    pub phone: Option<PhoneNumber>,
    /// Mobile telephone.
    #[field(flatten, prefix = "mobile", personal)]
    pub mobile: Option<PhoneNumber>,
    /// Job title.
    #[field(max_len = 150, personal)]
    pub job_title: Option<String>,
    /// Department.
    #[field(max_len = 100)]
    pub department: Option<String>,
    /// The user's manager (R-086).
    #[field(references = "user", on_delete = "set_null")]
    pub manager_id: Option<Id<User>>,
    /// The employer's number of the user.
    #[field(max_len = 50, personal)]
    pub employee_id: Option<String>,
    /// When the user was hired.
    #[field(personal)]
    pub hire_date: Option<NaiveDate>,
    /// When the user was born.
    #[field(personal)]
    pub birth_date: Option<NaiveDate>,
    /// Where the user lives.
    #[field(flatten, prefix = "address_", personal)]
    pub address: Option<Address>,
    /// Where the user's days begin.
    pub timezone: TimeZone,
    /// The user's language.
    pub language: LanguageTag,
    /// How numbers and dates are written for the user.
    pub locale: LanguageTag,
    /// How dates are written for the user.
    #[field(max_len = 20, default = "MM/DD/YYYY")]
    pub date_format: String,
    /// How times are written for the user.
    pub time_format: TimeFormat,
    /// The currency in which the user reckons.
    pub currency: Currency,
    /// Preferences that the host keeps here.
    #[field(default = json!({}))]
    pub preferences: Json,
    /// Values of the tenant's own fields.
    #[field(personal, default = json!({}))]
    pub custom_fields: Json,
    /// Whether the user works.
    #[field(indexed)]
    pub status: UserStatus,
    /// How many open leads the rules of [assignment](crate::leads::assignment) may bring the user to;
    /// any number if there is none.
    #[field(min = 0)]
    pub lead_capacity: Option<u32>,
    /// When the user last logged in.
    #[field(read_only)]
    pub last_login_at: Option<DateTime<Utc>>,
    /// When the user last did something.
    #[field(read_only)]
    pub last_activity_at: Option<DateTime<Utc>>,
    /// When the password was last changed.
    #[field(read_only)]
    pub password_changed_at: Option<DateTime<Utc>>,
    /// Whether the user must change the password.
    pub must_change_password: bool,
    /// How often a login failed since the last one that did not.
    #[field(read_only)]
    pub failed_login_attempts: u32,
    /// Until when the user cannot log in.
    #[field(read_only)]
    pub locked_until: Option<DateTime<Utc>>,
}

/// Whether a user works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum UserStatus {
    /// Yes.
    #[default]
    Active,
    /// Not at the moment.
    Inactive,
    /// Not allowed to.
    Suspended,
    /// No more.
    Archived,
}

/// How times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum TimeFormat {
    /// 9:30 pm.
    #[default]
    #[option("12h")]
    TwelveHours,
    /// 21:30.
    #[option("24h")]
    TwentyFourHours,
}

/// A group of users.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "team", table = "teams", unique(name; live))]
pub struct Team {
    /// Name.
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// What the team does.
    #[field(multiline)]
    pub description: Option<String>,
    /// What kind of team it is.
    pub team_type: TeamType,
    /// The team that it belongs to (R-086).
    #[field(references = "team", on_delete = "set_null")]
    pub parent_team_id: Option<Id<Team>>,
    /// Who leads it.
    #[field(references = "user", on_delete = "set_null")]
    pub manager_id: Option<Id<User>>,
    /// Whether it is in use.
    #[field(default = true)]
    pub is_active: bool,
}

/// What kind of team it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum TeamType {
    /// People who do the same.
    #[default]
    Functional,
    /// People who work on a project.
    Project,
    /// People who do different things.
    CrossFunctional,
    /// People who work together for a while.
    Temporary,
}

/// A user in a team. Who left stays as history.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "team_member",
    table = "team_members",
    unique(team_id, user_id; live),
    index(user_id),
    check = check_member
)]
pub struct TeamMember {
    /// The team.
    #[field(required, references = "team", on_delete = "cascade")]
    pub team_id: Id<Team>,
    /// The user.
    #[field(required, references = "user", on_delete = "cascade")]
    pub user_id: Id<User>,
    /// What the user is in the team.
    pub role: TeamRole,
    /// Since when.
    #[field(required)]
    pub joined_at: DateTime<Utc>,
    /// Until when; nothing while the user is a member.
    pub left_at: Option<DateTime<Utc>>,
}

/// What a user is in a team.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum TeamRole {
    /// One of its members.
    #[default]
    Member,
    /// Who leads the work.
    Lead,
    /// Who looks after the team.
    Admin,
}

impl TeamMember {
    /// Whether the user is in the team now.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.left_at.is_none()
    }
}

fn check_member(member: &TeamMember, faults: &mut Faults) {
    if member.left_at.is_some_and(|left| left < member.joined_at) {
        faults.add(
            "left_at",
            codes::INCONSISTENT,
            "must not be before `joined_at`",
        );
    }
}

impl Records<'_, Team> {
    /// Takes a user into a team. Who is a member already gets the role; who left comes back.
    ///
    /// # Errors
    /// [`Error::Validation`] if there is no such team or user.
    pub async fn add_member(
        &mut self,
        team: Id<Team>,
        user: Id<User>,
        role: TeamRole,
    ) -> Result<Arc<Record<TeamMember>>> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            match find_member(work, team, user).await? {
                Some(member) => {
                    work.update(member.id, &|member: &mut TeamMember| {
                        if member.left_at.take().is_some() {
                            member.joined_at = now;
                        }
                        member.role = role;
                    })
                    .await
                }
                None => {
                    work.contend("team_member", &["team_id", "user_id"]);
                    work.create(TeamMember {
                        role,
                        ..TeamMember::new(team, user, now)
                    })
                    .await
                }
            }
        })
    }

    /// Lets a user leave a team; the membership stays as history.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the user is not in the team.
    pub async fn remove_member(
        &mut self,
        team: Id<Team>,
        user: Id<User>,
    ) -> Result<Arc<Record<TeamMember>>> {
        in_work!(self.workspace, |work| {
            let now = work.now();
            match find_member(work, team, user).await? {
                Some(member) if member.is_active() => {
                    work.rely_on(&*member);
                    work.update(member.id, &|member: &mut TeamMember| {
                        member.left_at = Some(now);
                    })
                    .await
                }
                _ => Err(Error::NotFound {
                    object: TeamMember::schema().name().to_owned(),
                    id: user.uuid(),
                }),
            }
        })
    }

    /// The users who are in a team now, in the order in which they joined; those that are taken in or
    /// left in this unit of work too.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn members(&self, team: Id<Team>) -> Result<Vec<Arc<Record<TeamMember>>>> {
        let find = Find::from(
            TeamMember::TEAM_ID
                .eq(team)
                .and(TeamMember::LEFT_AT.is_null()),
        )
        .sort(TeamMember::JOINED_AT.asc())
        .limit(crate::query::MAX_LIMIT);
        Ok(self.workspace.find(find).await?.items)
    }
}

async fn find_member(
    work: &UnitOfWork,
    team: Id<Team>,
    user: Id<User>,
) -> Result<Option<Arc<Record<TeamMember>>>> {
    let wanted = TeamMember::TEAM_ID
        .eq(team)
        .and(TeamMember::USER_ID.eq(user));
    Ok(work.find_all(wanted, Vec::new()).await?.pop())
}

/// R-086: nobody is his own manager, nor his manager's.
#[derive(Debug)]
pub(crate) struct UserRules;

#[async_trait]
impl WriteRule for UserRules {
    fn object(&self) -> &'static str {
        "user"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<User>() else {
            return Ok(());
        };
        let before = write.before::<User>().and_then(|user| user.manager_id);
        match after.manager_id {
            Some(manager) if before != Some(manager) && !write.deletes() => {
                let id = after.id;
                ensure_no_cycle(work, id, manager, "R-086").await
            }
            _ => Ok(()),
        }
    }
}

/// R-086: no team is above and below itself.
#[derive(Debug)]
pub(crate) struct TeamRules;

#[async_trait]
impl WriteRule for TeamRules {
    fn object(&self) -> &'static str {
        "team"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<Team>() else {
            return Ok(());
        };
        let before = write.before::<Team>().and_then(|team| team.parent_team_id);
        match after.parent_team_id {
            Some(parent) if before != Some(parent) && !write.deletes() => {
                let id = after.id;
                ensure_no_cycle(work, id, parent, "R-086").await
            }
            _ => Ok(()),
        }
    }
}
