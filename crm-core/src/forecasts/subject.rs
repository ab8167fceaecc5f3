//! [`ForecastSubject`]: whose forecast or quota it is.

use serde::Serialize;

use crate::Id;
use crate::error::{Faults, codes};
use crate::identity::{Team, User};
use crate::query::Where;
use crate::schema::{Entity, FieldGroup, FieldOf};
use crate::territories::Territory;

/// Whose forecast or quota it is: exactly one of a user, a team with those below it, and a
/// territory with those below it. Goes with its owner when that is deleted.
///
/// ```
/// use crm_core::forecasts::ForecastSubject;
/// use crm_core::{Id, identity::User};
///
/// # let ada: Id<User> = Id::new(uuid::Uuid::from_u128(1));
/// let subject = ForecastSubject::user(ada);
/// assert_eq!(subject.user_id, Some(ada));
/// assert!(subject.is_one());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FieldGroup, Serialize)]
pub struct ForecastSubject {
    /// The user.
    #[field(references = "user", on_delete = "cascade")]
    pub user_id: Option<Id<User>>,
    /// The team.
    #[field(references = "team", on_delete = "cascade")]
    pub team_id: Option<Id<Team>>,
    /// The territory.
    #[field(references = "territory", on_delete = "cascade")]
    pub territory_id: Option<Id<Territory>>,
}

impl ForecastSubject {
    /// A user.
    #[must_use]
    pub fn user(user: Id<User>) -> Self {
        Self {
            user_id: Some(user),
            ..Self::default()
        }
    }

    /// A team, with those below it.
    #[must_use]
    pub fn team(team: Id<Team>) -> Self {
        Self {
            team_id: Some(team),
            ..Self::default()
        }
    }

    /// A territory, with those below it.
    #[must_use]
    pub fn territory(territory: Id<Territory>) -> Self {
        Self {
            territory_id: Some(territory),
            ..Self::default()
        }
    }

    /// Whether it is exactly one.
    #[must_use]
    pub const fn is_one(&self) -> bool {
        matches!(
            (self.user_id, self.team_id, self.territory_id),
            (Some(_), None, None) | (None, Some(_), None) | (None, None, Some(_))
        )
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        if !self.is_one() {
            faults.add(
                Self::USER_ID.name(),
                codes::INCONSISTENT,
                "name a user, a team or a territory, and only one of them",
            );
        }
    }

    /// The records of this subject; `field` is the group in them.
    pub(super) fn of<E: Entity>(&self, field: FieldOf<E, Self>) -> Option<Where<E>> {
        let user = self.user_id.map(|id| field.at(Self::USER_ID).eq(id));
        let team = || self.team_id.map(|id| field.at(Self::TEAM_ID).eq(id));
        let territory = || {
            self.territory_id
                .map(|id| field.at(Self::TERRITORY_ID).eq(id))
        };
        user.or_else(team).or_else(territory)
    }
}
