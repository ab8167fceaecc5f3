//! [`Cohort`]: what became of the deals that were created in a month.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};

use super::calendar_day;
use super::view::{PipelineView, before, behind};
use crate::activities::{local_date, start_of_day};
use crate::deals::{DealState, DealStatus};
use crate::engine::Records;
use crate::error::{FieldError, Result, codes};
use crate::pipelines::Pipeline;
use crate::query::{Filter, WhereExt};
use crate::value::TimeZone;

/// The most months at once.
const MOST: u32 = 120;

/// The deals that were created in one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cohort {
    /// The first day of the month.
    pub month: NaiveDate,
    /// How many deals were ever in view.
    pub deals: u64,
    /// What had become of them at the end of this month, of the next one, and so on, up to the month
    /// of the report, which may not be over.
    pub points: Vec<CohortPoint>,
}

/// What had become of the deals of a cohort at the end of a month. Together they are all of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CohortPoint {
    /// They were won.
    pub won: u64,
    /// They were lost.
    pub lost: u64,
    /// They were open.
    pub open: u64,
    /// They were not in view: deleted, archived while open, in another pipeline, or not taken by
    /// the filters, then.
    pub elsewhere: u64,
}

/// The months of a report, as moments.
#[derive(Debug)]
struct Calendar {
    /// The first day of each month and when it begins, one month more than are reported.
    months: Vec<(NaiveDate, DateTime<Utc>)>,
    known: DateTime<Utc>,
    zone: TimeZone,
}

impl Calendar {
    /// The months from one on up to what is known.
    fn new(first: NaiveDate, known: DateTime<Utc>, zone: TimeZone) -> Self {
        let months = (0..).map_while(|number| {
            let day = first.checked_add_months(Months::new(number))?;
            Some((day, start_of_day(day, zone)))
        });
        let mut all = Vec::new();
        for month in months {
            let is_over = month.1 < known;
            all.push(month);
            if !is_over {
                break;
            }
        }
        Self {
            months: all,
            known,
            zone,
        }
    }

    /// The last moments of a month and of those after it.
    fn ends(&self, month: NaiveDate) -> impl Iterator<Item = DateTime<Utc>> {
        let later = self.months.iter().filter(move |(day, _)| *day > month);
        later.map(|(_, begins)| before((*begins).min(self.known)))
    }
}

/// Adds a deal to its cohort.
fn add(cohorts: &mut BTreeMap<NaiveDate, Cohort>, calendar: &Calendar, states: &[DealState]) {
    let Some(first) = states.first() else {
        return;
    };
    let created = local_date(first.deal_created_at, calendar.zone);
    let month = created.with_day(1).unwrap_or(created);
    let Some(cohort) = cohorts.get_mut(&month) else {
        return;
    };
    cohort.deals += 1;
    for (point, end) in cohort.points.iter_mut().zip(calendar.ends(month)) {
        let state = states.iter().find(|state| state.holds(end));
        let slot = match state.map(|state| state.status) {
            Some(DealStatus::Won) => &mut point.won,
            Some(DealStatus::Lost) => &mut point.lost,
            Some(DealStatus::Open) => &mut point.open,
            None => &mut point.elsewhere,
        };
        *slot += 1;
    }
}

impl Records<'_, Pipeline> {
    /// What became of the deals created in each of some months, month after month: how many were
    /// won, lost and still open at the end of the month of their creation, of the one after it, and
    /// so on. Months that had not begun yet are left out.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, pipelines::Pipeline};
    /// use chrono::NaiveDate;
    /// use crm_core::pipelines::analytics::PipelineView;
    /// # async fn example(session: &Session, pipeline: Id<Pipeline>) -> Result<()> {
    /// let january = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
    /// let view = PipelineView::of(pipeline);
    /// for cohort in session.pipelines().cohorts(&view, january, 6).await? {
    ///     let won: Vec<u64> = cohort.points.iter().map(|point| point.won).collect();
    ///     println!("{}: {} deals, won {won:?}", cohort.month, cohort.deals);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such pipeline;
    /// [`Error::Validation`](crate::Error::Validation) for more than 120 months;
    /// [`Error::Query`](crate::Error::Query) for a filter that does not fit.
    pub async fn cohorts(
        &self,
        view: &PipelineView,
        first: NaiveDate,
        months: u32,
    ) -> Result<Vec<Cohort>> {
        if months > MOST {
            return Err(FieldError::new(
                "months",
                codes::OUT_OF_RANGE,
                "ask for at most 120 months at once",
            )
            .with("max", i64::from(MOST))
            .into());
        }
        calendar_day("first", first)?;
        self.known_pipeline(view.pipeline).await?;
        let zone = self.zone(view.time_zone).await?;
        let known = behind(view.as_of.unwrap_or_else(|| self.moment()));
        let first = first.with_day(1).unwrap_or(first);
        let calendar = Calendar::new(first, known, zone);
        let mut cohorts: BTreeMap<NaiveDate, Cohort> = BTreeMap::new();
        for (month, begins) in calendar.months.iter().take(months as usize) {
            if *begins < known {
                let points = vec![CohortPoint::default(); calendar.ends(*month).count()];
                let cohort = Cohort {
                    month: *month,
                    deals: 0,
                    points,
                };
                cohorts.insert(*month, cohort);
            }
        }
        let last = first.checked_add_months(Months::new(months));
        let (start, end) = (
            start_of_day(first, zone),
            start_of_day(last.unwrap_or(first), zone),
        );
        let created = DealState::DEAL_CREATED_AT
            .ge(start)
            .and(DealState::DEAL_CREATED_AT.lt(end));
        // No state is older than its deal.
        let begun = DealState::VALID_FROM
            .ge(start)
            .and(DealState::VALID_FROM.lt(known));
        let filter = Filter::And(vec![view.states(), created.and(begun).into_filter()]);
        self.each_deal(&filter, &mut |states| {
            add(&mut cohorts, &calendar, states);
            Ok(())
        })
        .await?;
        Ok(cohorts.into_values().collect())
    }
}
