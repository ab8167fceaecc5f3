//! [`PipelineView`]: which deals of a pipeline reports look at, and as of when.

use chrono::{DateTime, TimeDelta, Utc};

use crate::Id;
use crate::deals::{Deal, DealState, DealStatus};
use crate::identity::{Team, User};
use crate::pipelines::Pipeline;
use crate::query::{Filter, Where, WhereExt};
use crate::value::TimeZone;

/// Which deals of a pipeline a report looks at, and as of when.
///
/// Owner and team are those that a deal had at the time: a deal that passes from one owner to
/// another leaves the view of the one and appears in that of the other. The filter looks at deals
/// as they are now, custom fields included, and so takes none that is deleted.
///
/// ```
/// # use crm_core::{Id, pipelines::Pipeline, identity::User};
/// use crm_core::pipelines::analytics::PipelineView;
/// use crm_core::query::Filter;
/// # fn example(pipeline: Id<Pipeline>, grace: Id<User>) -> PipelineView {
/// // Grace's enterprise deals, as they were known on 1 April.
/// PipelineView {
///     owner: Some(grace),
///     deals: Some(Filter::eq("custom_fields.segment", "enterprise")),
///     as_of: Some("2026-04-01T00:00:00Z".parse().unwrap()),
///     ..PipelineView::of(pipeline)
/// }
/// # }
/// ```
#[derive(Clone, PartialEq)]
pub struct PipelineView {
    /// The pipeline.
    pub pipeline: Id<Pipeline>,
    /// Only deals that this user owned.
    pub owner: Option<Id<User>>,
    /// Only deals that this team worked on.
    pub team: Option<Id<Team>>,
    /// Only deals that fulfil this filter now.
    pub deals: Option<Filter>,
    /// What was known at this moment; now, if nothing is said.
    pub as_of: Option<DateTime<Utc>>,
    /// Where days and months begin; in the tenant's time zone, if nothing is said.
    pub time_zone: Option<TimeZone>,
}

/// Does not show the filter: its values may be personal.
impl std::fmt::Debug for PipelineView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineView")
            .field("pipeline", &self.pipeline)
            .field("owner", &self.owner)
            .field("team", &self.team)
            .field("as_of", &self.as_of)
            .field("time_zone", &self.time_zone)
            .finish_non_exhaustive()
    }
}

impl PipelineView {
    /// All deals of a pipeline, as of now.
    #[must_use]
    pub const fn of(pipeline: Id<Pipeline>) -> Self {
        Self {
            pipeline,
            owner: None,
            team: None,
            deals: None,
            as_of: None,
            time_zone: None,
        }
    }

    /// The states that are in view. Open deals in the archive are out of the way; closed ones stay
    /// what they are.
    pub(super) fn states(&self) -> Filter {
        let counts = DealState::IS_COUNTED
            .eq(true)
            .or(DealState::STATUS.ne(DealStatus::Open));
        let view = DealState::PIPELINE_ID.eq(self.pipeline).and(counts);
        self.narrow(view)
    }

    /// The states that are in view and not in the archive.
    pub(super) fn states_in_use(&self) -> Filter {
        let counts = DealState::IS_COUNTED.eq(true);
        self.narrow(DealState::PIPELINE_ID.eq(self.pipeline).and(counts))
    }

    fn narrow(&self, mut view: Where<DealState>) -> Filter {
        if let Some(owner) = self.owner {
            view = view.and(DealState::OWNER_ID.eq(owner));
        }
        if let Some(team) = self.team {
            view = view.and(DealState::TEAM_ID.eq(team));
        }
        match &self.deals {
            Some(deals) => Filter::And(vec![
                view.into_filter(),
                Filter::Has {
                    field: DealState::DEAL_ID.name(),
                    filter: Box::new(deals.clone()),
                },
            ]),
            None => view.into_filter(),
        }
    }

    /// The deals that are in view now.
    pub(super) fn deals_now(&self) -> Filter {
        let mut view = Deal::PIPELINE_ID.eq(self.pipeline);
        if let Some(owner) = self.owner {
            view = view.and(Deal::OWNER_ID.eq(owner));
        }
        if let Some(team) = self.team {
            view = view.and(Deal::TEAM_ID.eq(team));
        }
        let mut all = vec![view.into_filter()];
        all.extend(self.deals.clone());
        Filter::And(all)
    }
}

/// The moment behind one: times have microseconds.
pub(super) fn behind(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_add_signed(TimeDelta::microseconds(1))
        .unwrap_or(at)
}

/// The moment before one.
pub(super) fn before(at: DateTime<Utc>) -> DateTime<Utc> {
    at.checked_sub_signed(TimeDelta::microseconds(1))
        .unwrap_or(at)
}
