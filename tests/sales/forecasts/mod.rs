//! C-014, R-085, R-109 to: forecast categories, fiscal periods, forecasts
//! of owners, teams and territories, adjustments, quotas, snapshots, and the forecast of a past
//! moment compared with what came.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod categories;
mod past;
mod plans;
mod reckoned;
mod sequences;
mod snapshots;

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{rows_of, tenant};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::forecasts::{
    AdjustmentEffect, AdjustmentKind, CategoryForecast, Comparison, DealForecast, DealOutcome,
    FiscalYear, Forecast, ForecastAdjustment, Period, Slice,
};
use crm_engine::prelude::*;
use crm_engine::value::Totals;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::json;

use ForecastCategory::{BestCase, Closed, Commit, Omitted, Pipeline as InPipeline, WorstCase};

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn percent(whole: u8) -> Percent {
    Percent::from_whole(whole).unwrap()
}

/// A tenant whose fiscal year begins in April, with a clock that the test sets: it is 10 April 2026.
struct Office {
    crm: Crm,
    clock: Arc<ManualClock>,
    session: Session,
    pipeline: Id<Pipeline>,
    /// 10 %, no category of its own.
    lead: Id<PipelineStage>,
    /// 80 %, commit.
    offer: Id<PipelineStage>,
    won: Id<PipelineStage>,
    lost: Id<PipelineStage>,
    /// All sales, with the teams of the north and the south below it.
    sales: Id<Team>,
    north: Id<Team>,
    south: Id<Team>,
    ada: Id<User>,
    bob: Id<User>,
    /// Europe, with the Alps in it.
    europe: Id<Territory>,
    alps: Id<Territory>,
    /// In the Alps, in Europe otherwise, and nowhere.
    globex: Id<Account>,
    initech: Id<Account>,
    hooli: Id<Account>,
}

impl Office {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(at("2026-04-10T09:00:00Z")));
        let crm = Crm::builder(common::backend::storage(&[]))
            .clock(clock.clone())
            .build();
        Self::of(crm, clock, "acme").await
    }

    async fn of(crm: Crm, clock: Arc<ManualClock>, subdomain: &str) -> Self {
        let (_, session) = tenant(&crm, subdomain).await;
        let april = FiscalYear::from_month(4).unwrap();
        let mut settings = session.configurations();
        settings.set_fiscal_year(april).await.unwrap();
        let pipeline = session.pipelines().create(Pipeline::new("Sales")).await;
        let pipeline = pipeline.unwrap().id;
        let stage = async |name: &str, percentage, stage_type, forecast_category| {
            let stage = PipelineStage {
                default_probability: percent(percentage),
                stage_type,
                forecast_category,
                ..PipelineStage::new(pipeline, name, 1_u32)
            };
            session.pipelines().add_stage(stage).await.unwrap().id
        };
        let lead = stage("Lead", 10, StageType::Open, None).await;
        let offer = stage("Offer", 80, StageType::Open, Some(Commit)).await;
        let won = stage("Won", 100, StageType::ClosedWon, None).await;
        let lost = stage("Lost", 0, StageType::ClosedLost, None).await;
        let team = async |name: &str, parent_team_id| {
            let team = Team {
                parent_team_id,
                ..Team::new(name)
            };
            session.teams().create(team).await.unwrap().id
        };
        let sales = team("Sales", None).await;
        let north = team("North", Some(sales)).await;
        let south = team("South", Some(sales)).await;
        let user = async |name: &str| {
            let email = EmailAddress::parse(&format!("{name}@{subdomain}.example")).unwrap();
            session.users().create(User::new(email)).await.unwrap().id
        };
        let (ada, bob) = (user("ada").await, user("bob").await);
        let territory = async |name: &str, parent_territory_id| {
            let territory = Territory {
                parent_territory_id,
                ..Territory::new(name)
            };
            session.territories().create(territory).await.unwrap().id
        };
        let europe = territory("Europe", None).await;
        let alps = territory("Alps", Some(europe)).await;
        let account = async |name: &str, territory_id| {
            let account = Account {
                territory_id,
                ..Account::new(name)
            };
            session.accounts().create(account).await.unwrap().id
        };
        Self {
            globex: account("Globex", Some(alps)).await,
            initech: account("Initech", Some(europe)).await,
            hooli: account("Hooli", None).await,
            crm,
            clock,
            pipeline,
            lead,
            offer,
            won,
            lost,
            sales,
            north,
            south,
            ada,
            bob,
            europe,
            alps,
            session,
        }
    }

    fn of_ada(&self, name: &str) -> Deal {
        Deal {
            stage_id: Some(self.lead),
            currency: Currency::EUR,
            owner_id: Some(self.ada),
            team_id: Some(self.north),
            account_id: Some(self.globex),
            ..Deal::new(name, self.pipeline)
        }
    }

    fn of_bob(&self, name: &str) -> Deal {
        Deal {
            owner_id: Some(self.bob),
            team_id: Some(self.south),
            account_id: Some(self.initech),
            ..self.of_ada(name)
        }
    }

    async fn create(&self, deal: Deal) -> Id<Deal> {
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn counting(&self, deal: Id<Deal>) -> ForecastCategory {
        self.session
            .deals()
            .get(deal)
            .await
            .unwrap()
            .counting_category
    }

    async fn period(&self, name: &str) -> Period {
        self.session.forecasts().named_period(name).await.unwrap()
    }

    async fn forecast(&self, query: &ForecastQuery) -> Forecast {
        self.session.forecasts().forecast(query).await.unwrap()
    }

    /// Nine deals, of which six close in the first quarter of the fiscal year 2027.
    async fn deals(&self) {
        for deal in [
            Deal {
                amount: Some(1_000.into()),
                expected_close_date: Some(day("2026-05-01")),
                ..self.of_ada("pipeline")
            },
            Deal {
                amount: Some(2_000.into()),
                stage_id: Some(self.offer),
                expected_close_date: Some(day("2026-06-30")),
                ..self.of_ada("commit")
            },
            Deal {
                amount: Some(500.into()),
                currency: Currency::USD,
                stage_id: Some(self.offer),
                forecast_category: Some(BestCase),
                probability: Some(percent(50)),
                expected_close_date: Some(day("2026-06-01")),
                ..self.of_bob("best case")
            },
            Deal {
                amount: Some(400.into()),
                forecast_category: Some(WorstCase),
                expected_close_date: Some(day("2026-04-01")),
                account_id: Some(self.hooli),
                ..self.of_bob("worst case")
            },
            Deal {
                amount: Some(300.into()),
                forecast_category: Some(Omitted),
                expected_close_date: Some(day("2026-05-05")),
                team_id: None,
                ..self.of_bob("omitted")
            },
            Deal {
                amount: Some(700.into()),
                stage_id: Some(self.won),
                // Where it was expected does not count any more.
                expected_close_date: Some(day("2027-01-01")),
                ..self.of_ada("won")
            },
            Deal {
                amount: Some(900.into()),
                currency: Currency::USD,
                stage_id: Some(self.lost),
                forecast_category: Some(Commit),
                expected_close_date: Some(day("2026-05-01")),
                ..self.of_bob("lost")
            },
            Deal {
                amount: Some(5_000.into()),
                expected_close_date: Some(day("2026-07-01")),
                ..self.of_ada("second quarter")
            },
            Deal {
                amount: Some(50.into()),
                team_id: Some(self.sales),
                ..self.of_ada("without a date")
            },
        ] {
            self.create(deal).await;
        }
    }
}

/// Categories as text: deals, amount, weighted amount.
fn told(forecast: &Forecast) -> BTreeMap<&'static str, String> {
    let tell = |one: &CategoryForecast| {
        let CategoryForecast {
            deals,
            amount,
            weighted,
            ..
        } = one;
        format!("{deals}: {amount} / {weighted}")
    };
    let categories = forecast.categories.iter();
    categories
        .map(|(category, one)| (category.as_str(), tell(one)))
        .collect()
}

fn table<const N: usize>(lines: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    lines
        .into_iter()
        .map(|(name, line)| (name, line.to_owned()))
        .collect()
}

fn of<T: Clone>(slices: &[Slice<T>], id: Option<Id<T>>) -> &Forecast {
    let slice = slices.iter().find(|slice| slice.of == id);
    &slice.unwrap().forecast.computed
}
