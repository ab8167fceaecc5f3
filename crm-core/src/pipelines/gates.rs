//! What a stage asks of deals: the values of its fields that are documents.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::PipelineStage;
use crate::Id;
use crate::identity::{TeamRole, User};
use crate::schema::document_value;

/// The most stages or users that one list names.
const MOST: usize = 200;

/// Stages by their ids; in JSON a list of ids.
///
/// ```
/// use crm_core::{Id, pipelines::StageIds};
///
/// let proposal = Id::new(uuid::Uuid::from_u128(7));
/// let next = StageIds::from([proposal]);
/// assert!(next.0.contains(&proposal));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageIds(pub Vec<Id<PipelineStage>>);

impl<I: IntoIterator<Item = Id<PipelineStage>>> From<I> for StageIds {
    fn from(ids: I) -> Self {
        Self(ids.into_iter().collect())
    }
}

document_value!(StageIds);

impl StageIds {
    /// Whether a deal may go to a stage: no list says nothing.
    pub(crate) fn lets_through(&self, to: Id<PipelineStage>) -> bool {
        self.0.is_empty() || self.0.contains(&to)
    }

    /// The stages that `before` did not name; `None` if there are too many in all.
    pub(super) fn added(&self, before: Option<&Self>) -> Option<Vec<Id<PipelineStage>>> {
        added(&self.0, before.map_or(&[], |before| &before.0))
    }
}

/// Who approves that a deal enters a stage: any of these users, and whoever has the role in the
/// team of the deal. In JSON:
///
/// ```
/// use crm_core::{identity::TeamRole, pipelines::ApprovalPolicy};
///
/// let policy: ApprovalPolicy = serde_json::from_value(serde_json::json!({"team_role": "lead"}))?;
/// assert_eq!(policy, ApprovalPolicy::by_role(TeamRole::Lead));
/// assert!(!policy.allows_own);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// Users who may approve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<Id<User>>,
    /// Who has this role or a higher one in the team of the deal may approve: an admin is above a
    /// lead, a lead above a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team_role: Option<TeamRole>,
    /// Whether somebody who may approve may also approve what he requested himself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allows_own: bool,
}

document_value!(ApprovalPolicy);

impl ApprovalPolicy {
    /// Whoever has the role, or a higher one, in the team of the deal.
    #[must_use]
    pub fn by_role(role: TeamRole) -> Self {
        Self {
            team_role: Some(role),
            ..Self::default()
        }
    }

    /// One of these users.
    #[must_use]
    pub fn by_users(users: impl IntoIterator<Item = Id<User>>) -> Self {
        Self {
            users: users.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Whether a user with this role in the team of the deal, if any, may approve.
    #[must_use]
    pub fn lets_approve(&self, user: Id<User>, role: Option<TeamRole>) -> bool {
        let rank = |role: TeamRole| match role {
            TeamRole::Member => 0,
            TeamRole::Lead => 1,
            TeamRole::Admin => 2,
        };
        let has_role = match (self.team_role, role) {
            (Some(least), Some(role)) => rank(role) >= rank(least),
            _ => false,
        };
        has_role || self.users.contains(&user)
    }

    /// Whether nobody could ever approve.
    pub(super) const fn is_nobody(&self) -> bool {
        self.users.is_empty() && self.team_role.is_none()
    }

    /// The users that `before` did not name; `None` if there are too many in all.
    pub(super) fn added(&self, before: Option<&Self>) -> Option<Vec<Id<User>>> {
        added(&self.users, before.map_or(&[], |before| &before.users))
    }
}

fn added<E>(after: &[Id<E>], before: &[Id<E>]) -> Option<Vec<Id<E>>> {
    if after.len() > MOST {
        return None;
    }
    let before: BTreeSet<_> = before.iter().collect();
    let new = after.iter().filter(|id| !before.contains(id));
    Some(new.copied().collect())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn users_and_roles_from_the_one_named_upwards_approve() {
        let (ada, bob) = (Id::new(Uuid::from_u128(1)), Id::new(Uuid::from_u128(2)));
        let policy = ApprovalPolicy {
            users: vec![ada],
            ..ApprovalPolicy::by_role(TeamRole::Lead)
        };
        assert!(policy.lets_approve(ada, None));
        assert!(!policy.lets_approve(bob, None));
        assert!(!policy.lets_approve(bob, Some(TeamRole::Member)));
        assert!(policy.lets_approve(bob, Some(TeamRole::Lead)));
        assert!(policy.lets_approve(bob, Some(TeamRole::Admin)));
        let named = ApprovalPolicy::by_users([ada]);
        assert!(!named.lets_approve(bob, Some(TeamRole::Admin)));
    }
}
