//! The months by which logs lie.

use chrono::{DateTime, Datelike as _, NaiveTime, Utc};

/// The first moment of the month, in UTC, that a moment is in: entries of a log by months
/// ([`ObjectSchema::is_monthly`](super::ObjectSchema::is_monthly)) that were made in front of it are in earlier months.
///
/// ```
/// use crm_core::schema::month_of;
///
/// let at = "2026-03-31T23:59:59.5Z".parse().unwrap();
/// assert_eq!(month_of(at).to_rfc3339(), "2026-03-01T00:00:00+00:00");
/// ```
#[must_use]
pub fn month_of(at: DateTime<Utc>) -> DateTime<Utc> {
    let day = at.date_naive();
    day.with_day(1)
        .unwrap_or(day)
        .and_time(NaiveTime::MIN)
        .and_utc()
}
