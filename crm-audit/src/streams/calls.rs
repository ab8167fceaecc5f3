//! [`ApiCalls`]: the calls of the host's API, and figures over them (C-060).

use std::collections::BTreeMap;
use std::sync::Arc;

use crm_core::error::Result;
use crm_core::identity::User;
use crm_core::query::{Aggregate, Cursor, Find, Page, Where, WhereExt as _};
use crm_core::schema::ValueRef;
use crm_core::{Id, Record, Session};
use serde::Serialize;

use crate::pages;

use super::histogram::percentile;
use super::{ApiCall, CallOutcome, Window, check_moments, record_all, shortened};

/// The calls of the host's API in a tenant.
///
/// ```
/// # use crm_core::{Session, Result};
/// use crm_audit::{ApiCall, StreamsExt, Window};
/// # async fn example(session: &Session, calls: Vec<ApiCall>, window: Window) -> Result<()> {
/// session.api_calls().record_all(calls).await?;
/// for endpoint in session.api_calls().by_endpoint(window).await? {
///     println!(
///         "{} {}: {} calls, {:.1} % failed, p95 {} µs",
///         endpoint.method, endpoint.endpoint, endpoint.calls, endpoint.error_rate() * 100.0,
///         endpoint.p95,
///     );
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct ApiCalls<'a> {
    pub(super) session: &'a Session,
}

/// The calls of one endpoint in figures. Durations are in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointFigures {
    /// The method.
    pub method: String,
    /// The endpoint.
    pub endpoint: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed through the host: a status of 500 or more.
    pub server_errors: u64,
    /// How many of them failed through the caller: a status from 400 to 499.
    pub client_errors: u64,
    /// The mean duration, exact to the microsecond.
    pub mean: i64,
    /// What half of the calls did not exceed; off by at most a 64th, like the others.
    pub p50: i64,
    /// What 95 % of the calls did not exceed.
    pub p95: i64,
    /// What 99 % of the calls did not exceed.
    pub p99: i64,
}

impl EndpointFigures {
    /// Which part of the calls failed through the host, from 0 to 1.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        part(self.server_errors, self.calls)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate needs no 64 bits")]
fn part(some: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        some as f64 / all as f64
    }
}

/// What is added up of the groups of one endpoint.
#[derive(Debug, Default)]
struct Sums {
    calls: u64,
    server_errors: u64,
    client_errors: u64,
    duration: i128,
    classes: BTreeMap<i64, u64>,
}

impl Sums {
    fn figures(self, method: String, endpoint: String) -> EndpointFigures {
        let classes: Vec<(i64, u64)> = self.classes.into_iter().collect();
        let at = |percent| percentile(&classes, percent).unwrap_or_default();
        let mean = self.duration / i128::from(self.calls.max(1));
        EndpointFigures {
            method,
            endpoint,
            calls: self.calls,
            server_errors: self.server_errors,
            client_errors: self.client_errors,
            mean: i64::try_from(mean).unwrap_or(i64::MAX),
            p50: at(50),
            p95: at(95),
            p99: at(99),
        }
    }
}

impl ApiCalls<'_> {
    /// Records a call.
    ///
    /// # Errors
    /// [`Error::Validation`](crm_core::Error::Validation) for a status that is none, and for a call that is
    /// to come more than a day later.
    pub async fn record(&self, call: ApiCall) -> Result<()> {
        self.record_all(vec![call]).await
    }

    /// Records many calls, some hundred in one commit: a host collects them and hands them over from
    /// time to time. Those before an error stay.
    ///
    /// # Errors
    /// [`Error::Validation`](crm_core::Error::Validation) for a status that is none, and for a call that is
    /// to come more than a day later.
    pub async fn record_all(&self, calls: Vec<ApiCall>) -> Result<()> {
        check_moments(self.session, calls.iter().map(|call| call.occurred_at))?;
        let prepared = calls.into_iter().map(|call| {
            let mut call = call.prepared();
            call.client = shortened(call.client, 150);
            call.ip = shortened(call.ip, 45);
            call
        });
        record_all(self.session, prepared.collect()).await
    }

    /// The calls within a window by endpoint: how many, how many failed, and how long they took, by
    /// method and endpoint (C-060).
    ///
    /// The storage adds up, in one query: what comes is a row for each status and class of durations
    /// that an endpoint had, however many calls there were. The mean is exact, percentiles are off by
    /// at most a 64th of the duration.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn by_endpoint(&self, window: Window) -> Result<Vec<EndpointFigures>> {
        let wanted = Aggregate::<ApiCall>::new()
            .filter(window.filter(ApiCall::OCCURRED_AT, ApiCall::CREATED_AT))
            .group_by(ApiCall::ENDPOINT)
            .group_by(ApiCall::METHOD)
            .group_by(ApiCall::STATUS)
            .group_by(ApiCall::DURATION_CLASS)
            .count()
            .sum(ApiCall::DURATION);
        let groups = self.session.records::<ApiCall>().aggregate(wanted).await?;
        let mut endpoints: BTreeMap<(String, String), Sums> = BTreeMap::new();
        for group in &groups {
            let text = |place: usize| group.key(place).as_text().unwrap_or_default().to_owned();
            let sums = endpoints.entry((text(0), text(1))).or_default();
            let (ValueRef::Integer(status), ValueRef::Integer(class)) =
                (group.key(2), group.key(3))
            else {
                continue;
            };
            let count = group.count(0);
            sums.calls += count;
            match CallOutcome::of(i32::try_from(status).unwrap_or_default()) {
                CallOutcome::ServerError => sums.server_errors += count,
                CallOutcome::ClientError => sums.client_errors += count,
                CallOutcome::Success => {}
            }
            let sum = group.number(1).unwrap_or_default().trunc().mantissa();
            sums.duration = sums.duration.saturating_add(sum);
            *sums.classes.entry(class).or_default() += count;
        }
        let figures = endpoints.into_iter();
        Ok(figures
            .map(|((endpoint, method), sums)| sums.figures(method, endpoint))
            .collect())
    }

    /// One page of the calls of an endpoint within a window, the newest first. The first page fixes which
    /// calls are there, as with all pages here, so a page that was read stays as it is; see
    /// [`AuditTrail::front`](crate::AuditTrail::front).
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn of_endpoint(
        &self,
        endpoint: &str,
        window: Window,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<ApiCall>>>> {
        self.page(ApiCall::ENDPOINT.eq(endpoint), window, limit, after)
            .await
    }

    /// One page of the calls of a user within a window, the newest first.
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn of_user(
        &self,
        user: Id<User>,
        window: Window,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<ApiCall>>>> {
        self.page(ApiCall::USER_ID.eq(user.uuid()), window, limit, after)
            .await
    }

    /// One page of the calls of a program within a window, the newest first.
    ///
    /// # Errors
    /// Those of the storage; a cursor of another query.
    pub async fn of_client(
        &self,
        client: &str,
        window: Window,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<ApiCall>>>> {
        self.page(ApiCall::CLIENT.eq(client), window, limit, after)
            .await
    }

    async fn page(
        &self,
        filter: Where<ApiCall>,
        window: Window,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<ApiCall>>>> {
        let find = Find::from(filter.and(window.filter(ApiCall::OCCURRED_AT, ApiCall::CREATED_AT)))
            .sort(ApiCall::OCCURRED_AT.desc())
            .limit(limit);
        pages::entries(self.session, find, after).await
    }
}
