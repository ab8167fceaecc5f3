//! The days of a tenant: which one it is, by the clocks of the tenant.

use async_trait::async_trait;
use chrono::NaiveDate;

use super::Tenant;
use crate::activities::local_date;
use crate::engine::{Remembered, UnitOfWork};
use crate::error::Result;
use crate::value::TimeZone;

/// Where the days of a tenant begin.
struct Zone(TimeZone);

#[async_trait]
impl Remembered for Zone {
    const OBJECTS: &'static [&'static str] = &["tenant"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let tenant = match work.session().tenant() {
            Some(tenant) => work.lookup::<Tenant>(tenant).await?,
            None => None,
        };
        Ok(Self(tenant.map_or(TimeZone::UTC, |tenant| tenant.timezone)))
    }
}

/// Where the days of the tenant begin, without a round trip each time; UTC for the platform.
pub(crate) async fn zone(work: &UnitOfWork) -> Result<TimeZone> {
    Ok(work.remembered::<Zone>().await?.0)
}

/// Which day it is where the tenant is.
pub(crate) async fn today(work: &UnitOfWork) -> Result<NaiveDate> {
    Ok(local_date(work.now(), zone(work).await?))
}
