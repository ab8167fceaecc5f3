//! Forecasts of sales: what deals will bring in which period, as users see it and as it came
//! (C-014).
//!
//! | category | which deals |
//! |---|---|
//! | `pipeline`, `best_case`, `commit`, `worst_case` | open ones, from the least sure to the surest |
//! | `closed` | those that were won, whatever anybody said |
//! | `omitted` | open ones that are left out; they count nowhere |
//!
//! A deal is in [the category of its stage](crate::pipelines::PipelineStage::forecast_category),
//! unless it has [one of its own](crate::deals::Deal::forecast_category); which one counts is told
//! by [`counting_category`](crate::deals::Deal::counting_category), so that lists and reports can
//! filter by it. Deals that were lost are in no forecast. Archived deals are out of the way while
//! they are open; what was won stays won.
//!
//! An open deal is forecast for the [period](Period) of its expected close date, a won one for that
//! of the day on which it was closed. Periods are cut by the tenant's
//! [fiscal year](crate::tenancy::Configurations::fiscal_year).
//!
//! [`Forecasts`] answers, each with one or two aggregates however many deals there are:
//!
//! - [`forecast`](Forecasts::forecast) of everything, an owner, a team or a territory with all below
//!   it, a pipeline, a filter; and broken down [by owner](Forecasts::by_owner),
//!   [team](Forecasts::by_team), [territory](Forecasts::by_territory),
//!   [pipeline](Forecasts::by_pipeline) and [period](Forecasts::by_period);
//! - what owners and managers [make of it](ForecastAdjustment), beside what was computed;
//! - [quotas](Quota) and [how much of them is done](Forecasts::attainment);
//! - [snapshots](Forecasts::snapshot) of each deal and their [trend](Forecasts::trend);
//! - the forecast [as of a past moment](Forecasts::as_of), [compared](Forecasts::compare) with what
//!   came.
//!
//! Sums are per currency (R-085); [`Forecast::converted`] tells them in one, with the rates.
//!
//! ```
//! # use crm_core::{Id, Session, error::Result, identity::User};
//! use crm_core::forecasts::{ForecastCategory, ForecastQuery, ForecastSubject, PeriodKind, Quota};
//! # async fn example(session: &Session, ada: Id<User>) -> Result<()> {
//! let quarter = session.forecasts().current_period(PeriodKind::Quarter).await?;
//! let forecast = session.forecasts().forecast(&ForecastQuery::of(quarter)).await?;
//! let committed = forecast.at_least(ForecastCategory::Commit)?;
//! println!("{} won, {} with what is committed", forecast.closed(), committed.amount);
//!
//! let quota = Quota::of(ForecastSubject::user(ada), &quarter, "250000 EUR".parse()?);
//! session.forecasts().set_quota(quota).await?;
//! for one in session.forecasts().attainments(&quarter, None).await? {
//!     println!("{} of {}, {} missing", one.closed, one.quota, one.gap);
//! }
//! # Ok(())
//! # }
//! ```

mod adjustment;
mod amounts;
mod attainment;
mod category;
mod compare;
mod periods;
mod query;
mod quota;
mod rules;
mod service;
mod snapshot;
mod subject;

pub(crate) use adjustment::AdjustmentRules;
pub use adjustment::{
    AdjustedForecast, AdjustmentEffect, AdjustmentKind, AppliedAdjustment, ForecastAdjustment,
};
pub use amounts::{CategoryForecast, ConvertedCategory, ConvertedForecast, Forecast};
pub use category::ForecastCategory;
pub use compare::{CategoryResult, ComparedDeal, Comparison, DealOutcome, OutcomeTotals};
pub use periods::{FiscalYear, Period, PeriodKind};
pub use query::ForecastQuery;
pub(crate) use quota::QuotaRules;
pub use quota::{Attainment, Pace, Quota};
pub(crate) use rules::{DealCategoryRule, StageCategoryRule};
pub use service::{Categorized, Forecasts, Slice};
pub use snapshot::{DatedForecast, DealForecast, Snapshot};
pub use subject::ForecastSubject;
