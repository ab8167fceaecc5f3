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

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use common::{rows_of, tenant};
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

/// C-014: worked out by hand, over two currencies, two teams in a tree and a tree of territories.
#[tokio::test]
async fn forecasts_are_what_one_reckons_by_hand() {
    let office = Office::new().await;
    office.deals().await;
    let forecasts = office.session.forecasts();
    let quarter = office.period("FY2027-Q1").await;
    assert_eq!(
        (quarter.start(), quarter.end()),
        (day("2026-04-01"), day("2026-06-30"))
    );
    assert_eq!(
        forecasts.current_period(PeriodKind::Quarter).await.unwrap(),
        quarter
    );
    let query = ForecastQuery::of(quarter);
    let all = office.forecast(&query).await;
    let wanted = table([
        ("pipeline", "1: 1000.00 EUR / 100.00 EUR"),
        ("best_case", "1: 500.00 USD / 250.00 USD"),
        ("commit", "1: 2000.00 EUR / 1600.00 EUR"),
        ("worst_case", "1: 400.00 EUR / 40.00 EUR"),
        ("closed", "1: 700.00 EUR / 700.00 EUR"),
        ("omitted", "1: 300.00 EUR / 30.00 EUR"),
    ]);
    assert_eq!(told(&all), wanted);
    assert_eq!(
        all.at_least(Commit).unwrap().amount.to_string(),
        "3100.00 EUR"
    );
    assert_eq!(
        all.expected().unwrap().to_string(),
        "2440.00 EUR, 250.00 USD"
    );
    let open = all.open().unwrap();
    assert_eq!(
        (open.deals, open.amount.to_string()),
        (4, "3400.00 EUR, 500.00 USD".into())
    );

    // Of all times, undated ones included.
    let ever = office.forecast(&ForecastQuery::default()).await;
    assert_eq!(ever.of(InPipeline).amount.to_string(), "6050.00 EUR");
    let sum: u64 = ever.categories.values().map(|one| one.deals).sum();
    assert_eq!(sum, 8, "all but the lost one");

    let by_owner = forecasts.by_owner(&query).await.unwrap();
    assert_eq!(by_owner.len(), 2);
    let ada = table([
        ("pipeline", "1: 1000.00 EUR / 100.00 EUR"),
        ("commit", "1: 2000.00 EUR / 1600.00 EUR"),
        ("closed", "1: 700.00 EUR / 700.00 EUR"),
    ]);
    let bob = table([
        ("best_case", "1: 500.00 USD / 250.00 USD"),
        ("worst_case", "1: 400.00 EUR / 40.00 EUR"),
        ("omitted", "1: 300.00 EUR / 30.00 EUR"),
    ]);
    assert_eq!(told(of(&by_owner, Some(office.ada))), ada);
    assert_eq!(told(of(&by_owner, Some(office.bob))), bob);
    let own = ForecastQuery {
        owner: Some(office.bob),
        ..query.clone()
    };
    assert_eq!(told(&office.forecast(&own).await), bob);

    let by_team = forecasts.by_team(&query).await.unwrap();
    assert_eq!(by_team.len(), 4, "three teams and no team");
    assert_eq!(told(of(&by_team, Some(office.north))), ada);
    let mut south = bob.clone();
    let omitted = south.remove("omitted").unwrap();
    assert_eq!(told(of(&by_team, Some(office.south))), south);
    assert_eq!(told(of(&by_team, None)), table([("omitted", &omitted)]));
    let mut sales = wanted.clone();
    sales.remove("omitted");
    assert_eq!(told(of(&by_team, Some(office.sales))), sales);
    for (team, wanted) in [(office.sales, &sales), (office.south, &south)] {
        let query = ForecastQuery {
            team: Some(team),
            ..query.clone()
        };
        assert_eq!(told(&office.forecast(&query).await), *wanted);
        let parts = forecasts.by_team(&query).await.unwrap();
        assert_eq!(told(of(&parts, Some(team))), *wanted);
        assert_eq!(parts.len(), if team == office.sales { 3 } else { 1 });
    }

    let by_territory = forecasts.by_territory(&query).await.unwrap();
    assert_eq!(by_territory.len(), 2);
    let europe = table([
        ("pipeline", "1: 1000.00 EUR / 100.00 EUR"),
        ("best_case", "1: 500.00 USD / 250.00 USD"),
        ("commit", "1: 2000.00 EUR / 1600.00 EUR"),
        ("closed", "1: 700.00 EUR / 700.00 EUR"),
        ("omitted", "1: 300.00 EUR / 30.00 EUR"),
    ]);
    assert_eq!(told(of(&by_territory, Some(office.europe))), europe);
    let nowhere = table([("worst_case", "1: 400.00 EUR / 40.00 EUR")]);
    assert_eq!(told(of(&by_territory, None)), nowhere);
    let within = ForecastQuery {
        territory: Some(office.europe),
        ..query.clone()
    };
    assert_eq!(told(&office.forecast(&within).await), europe);
    let parts = forecasts.by_territory(&within).await.unwrap();
    assert_eq!(told(of(&parts, Some(office.alps))), ada);
    let rest = table([
        ("best_case", "1: 500.00 USD / 250.00 USD"),
        ("omitted", "1: 300.00 EUR / 30.00 EUR"),
    ]);
    assert_eq!(told(of(&parts, Some(office.europe))), rest);

    let by_pipeline = forecasts.by_pipeline(&query).await.unwrap();
    assert_eq!(by_pipeline.len(), 1);
    assert_eq!(told(of(&by_pipeline, Some(office.pipeline))), wanted);

    // in one currency only with the rate.
    let mut rates = office.session.exchange_rates();
    let from = day("2026-01-01");
    let rate = Decimal::new(125, 2);
    rates
        .set(Currency::EUR, Currency::USD, from, rate, None)
        .await
        .unwrap();
    let rates = rates.on(quarter.start()).await.unwrap();
    let converted = all
        .converted(&rates, Currency::EUR, quarter.start())
        .unwrap();
    let best = &converted.categories[&BestCase];
    assert_eq!(best.amount.total.to_string(), "400.00 EUR");
    assert_eq!(best.weighted.total.to_string(), "200.00 EUR");
    assert_eq!(best.amount.parts[0].rate_date, from);
    let json = serde_json::to_value(&all).unwrap();
    assert_eq!(json["period"]["name"], json!("FY2027-Q1"));
    assert_eq!(
        json["categories"]["commit"]["amount"],
        json!({"EUR": "2000.00"})
    );
    assert!(serde_json::to_value(&converted).is_ok());
}

/// C-014: the quarters and years of a fiscal year from April, and months of the calendar.
#[tokio::test]
async fn periods_are_those_of_the_fiscal_year() {
    let office = Office::new().await;
    office.deals().await;
    let forecasts = office.session.forecasts();
    let by_period = async |kind, from, to| {
        let found = forecasts
            .by_period(&ForecastQuery::default(), kind, day(from), day(to))
            .await;
        let told = found.unwrap().into_iter().map(|forecast| {
            let open = forecast.open().unwrap().amount.to_string();
            let closed = forecast.closed().to_string();
            (forecast.period.unwrap().to_string(), open, closed)
        });
        told.collect::<Vec<_>>()
    };
    let line = |name: &str, open: &str, closed: &str| (name.into(), open.into(), closed.into());
    assert_eq!(
        by_period(PeriodKind::Quarter, "2026-02-01", "2026-07-15").await,
        [
            line("FY2026-Q4", "", ""),
            line("FY2027-Q1", "3400.00 EUR, 500.00 USD", "700.00 EUR"),
            line("FY2027-Q2", "5000.00 EUR", ""),
        ]
    );
    assert_eq!(
        by_period(PeriodKind::Year, "2026-03-31", "2026-04-01").await,
        [
            line("FY2026", "", ""),
            line("FY2027", "8400.00 EUR, 500.00 USD", "700.00 EUR"),
        ]
    );
    assert_eq!(
        by_period(PeriodKind::Month, "2026-04-30", "2026-06-01").await,
        [
            line("2026-04", "400.00 EUR", "700.00 EUR"),
            line("2026-05", "1000.00 EUR", ""),
            line("2026-06", "2000.00 EUR, 500.00 USD", ""),
        ]
    );
    assert_eq!(
        by_period(PeriodKind::Month, "2026-06-01", "2026-05-01").await,
        []
    );
    let many = forecasts.by_period(
        &ForecastQuery::default(),
        PeriodKind::Month,
        day("2000-01-01"),
        day("2026-01-01"),
    );
    let error = many.await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "out_of_range");
    let error = forecasts.named_period("Q1").await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "invalid_period");
    // A unit of work sees the fiscal year that is set in it.
    let mut work = office.session.begin();
    work.configurations()
        .set_fiscal_year(FiscalYear::CALENDAR)
        .await
        .unwrap();
    let quarter = work.forecasts().named_period("FY2026-Q1").await.unwrap();
    assert_eq!(quarter.start(), day("2026-01-01"));
    let wrong = json!({"plain": "April"});
    let setting = office.session.configurations();
    let setting = setting
        .record(ConfigCategory::BusinessRules, "fiscal_year")
        .await
        .unwrap();
    let mut settings = office.session.object("tenant_configuration").unwrap();
    let (id, version) = setting.map(|one| (one.id.uuid(), one.version)).unwrap();
    let patch = json!({"value": wrong});
    settings
        .merge(id, version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(
        forecasts.fiscal_year().await.unwrap_err().code(),
        "validation"
    );
}

/// C-014, R-109: the category of the stage, unless the deal has its own; won and lost whatever
/// anybody said. By every way of writing.
#[tokio::test]
async fn the_category_that_counts_follows_stage_and_outcome() {
    let office = Office::new().await;
    let deals = || office.session.deals();
    let deal = office.create(office.of_ada("Rollout")).await;
    assert_eq!(office.counting(deal).await, InPipeline);
    deals().move_to(deal, office.offer).await.unwrap();
    assert_eq!(office.counting(deal).await, Commit);
    let own = deals()
        .update(deal, |deal| deal.forecast_category = Some(BestCase))
        .await
        .unwrap();
    assert_eq!(own.counting_category, BestCase);
    deals().move_to(deal, office.lead).await.unwrap();
    assert_eq!(
        office.counting(deal).await,
        BestCase,
        "its own goes with it"
    );
    deals().win(deal).await.unwrap();
    assert_eq!(office.counting(deal).await, Closed);
    let reopened = deals().reopen(deal, Some(office.offer)).await.unwrap();
    assert_eq!(reopened.counting_category, BestCase);
    let patch = json!({"forecast_category": null});
    let patch = patch.as_object().unwrap();
    let merged = deals().merge(deal, reopened.version, patch).await.unwrap();
    assert_eq!(merged.counting_category, Commit);
    let lost = deals().lose(deal, "price").await.unwrap();
    assert_eq!(lost.counting_category, Omitted);
    let lost = deals()
        .update(deal, |deal| deal.forecast_category = Some(Commit))
        .await
        .unwrap();
    assert_eq!(lost.counting_category, Omitted, "lost deals never count");

    // Nobody closes a deal by its category, nor writes the one that counts.
    let open = office.create(office.of_ada("Open")).await;
    let closed = |deal: &mut Deal| deal.forecast_category = Some(Closed);
    let error = deals().update(open, closed).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "forecast_category");
    assert_eq!(error.field_errors()[0].code, "inconsistent");
    let counts = |deal: &mut Deal| deal.counting_category = Commit;
    let error = deals().update(open, counts).await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
    // A stage says what fits its type.
    for (stage, category) in [
        (office.lead, Closed),
        (office.won, Commit),
        (office.lost, Closed),
        (office.lost, InPipeline),
    ] {
        let say = |stage: &mut PipelineStage| stage.forecast_category = Some(category);
        let error = office
            .session
            .pipelines()
            .update_stage(stage, say)
            .await
            .unwrap_err();
        assert_eq!(error.field_errors()[0].path, "forecast_category");
        let say = office
            .session
            .forecasts()
            .categorize_stage(stage, Some(category), &())
            .await;
        assert_eq!(say.unwrap_err().field_errors()[0].code, "inconsistent");
    }
    // A deal that was deleted while its stage changed.
    deals().delete(open).await.unwrap();
    let say = |stage: &mut PipelineStage| stage.forecast_category = Some(WorstCase);
    office
        .session
        .pipelines()
        .update_stage(office.lead, say)
        .await
        .unwrap();
    let restored = deals().restore(open).await.unwrap();
    assert_eq!(restored.counting_category, WorstCase);
}

/// A stage changes its category: few open deals follow in the commit, many in parts, and those with
/// a category of their own never.
#[tokio::test]
async fn deals_follow_the_category_of_their_stage() {
    let office = Office::new().await;
    let session = &office.session;
    let own = office
        .create(Deal {
            forecast_category: Some(Omitted),
            ..office.of_ada("Own")
        })
        .await;
    let archived = office.create(office.of_ada("Archived")).await;
    session.deals().archive(archived).await.unwrap();
    let other = office.of_ada("Elsewhere");
    let other = Deal {
        stage_id: Some(office.offer),
        ..other
    };
    let other = office.create(other).await;
    let say = |category| move |stage: &mut PipelineStage| stage.forecast_category = category;
    session
        .pipelines()
        .update_stage(office.lead, say(Some(BestCase)))
        .await
        .unwrap();
    assert_eq!(office.counting(own).await, Omitted);
    assert_eq!(office.counting(archived).await, BestCase);
    assert_eq!(office.counting(other).await, Commit);
    // One commit with deals that come into the stage.
    let mut work = session.begin();
    let coming = work.deals().create(office.of_ada("Coming")).await.unwrap();
    assert_eq!(coming.counting_category, BestCase);
    work.pipelines()
        .update_stage(office.lead, say(None))
        .await
        .unwrap();
    work.deals().move_to(other, office.lead).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(office.counting(coming.id).await, InPipeline);
    assert_eq!(office.counting(other).await, InPipeline);
    // Too many for one commit.
    let many = (0..520).map(|number| office.of_ada(&format!("Deal {number}")));
    session.deals().create_all(many.collect()).await.unwrap();
    let change = session
        .pipelines()
        .update_stage(office.lead, say(Some(WorstCase)))
        .await;
    assert_eq!(change.unwrap_err().code(), "too_many_deals");
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let forecasts = || session.forecasts();
    let stopped = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &stop)
        .await
        .unwrap();
    assert!(stopped.is_stopped);
    assert_eq!(stopped.deals, 500);
    let rest = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &())
        .await
        .unwrap();
    assert!(!rest.is_stopped);
    assert_eq!(rest.deals, 23);
    let all = office.forecast(&ForecastQuery::default()).await;
    assert_eq!(all.of(WorstCase).deals, 522);
    assert_eq!(all.of(Omitted).deals, 1);
    assert_eq!(office.counting(archived).await, WorstCase);
    let again = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &())
        .await
        .unwrap();
    assert_eq!(again.deals, 0);
    let mut work = session.begin();
    let error = work
        .forecasts()
        .categorize_stage(office.lead, None, &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// Another process changed the category of a stage a moment ago: who relies on the old one writes
/// nothing wrong.
#[tokio::test]
async fn an_outdated_category_is_noticed() {
    let office = Office::new().await;
    let storage = office.crm.storage().clone();
    let other = Crm::builder(storage).clock(office.clock.clone()).build();
    let other = other.session(office.session.tenant().unwrap(), office.session.actor());
    // The other one remembers the stages, and time stands still.
    other.deals().create(office.of_ada("Before")).await.unwrap();
    let say = |stage: &mut PipelineStage| stage.forecast_category = Some(WorstCase);
    office
        .session
        .pipelines()
        .update_stage(office.lead, say)
        .await
        .unwrap();
    let after = other.deals().create(office.of_ada("After")).await.unwrap();
    assert_eq!(after.counting_category, WorstCase);
}

/// Custom fields and whatever else deals have narrow a forecast; a unit of work sees what is staged
/// in it.
#[tokio::test]
async fn a_filter_narrows_a_forecast() {
    let office = Office::new().await;
    let segment = |name: &str, amount: i64| Deal {
        amount: Some(amount.into()),
        custom_fields: json!({"segment": name}),
        ..office.of_ada(name)
    };
    office.create(segment("enterprise", 10)).await;
    office.create(segment("public", 7)).await;
    let enterprise = ForecastQuery {
        filter: Some(Filter::eq("custom_fields.segment", "enterprise").into()),
        ..ForecastQuery::default()
    };
    let amount = |forecast: &Forecast| forecast.open().unwrap().amount.to_string();
    assert_eq!(amount(&office.forecast(&enterprise).await), "10.00 EUR");
    let now = office.clock.now();
    let then = office
        .session
        .forecasts()
        .as_of(&enterprise, now)
        .await
        .unwrap();
    assert_eq!(amount(&then), "10.00 EUR");
    let unknown = ForecastQuery {
        filter: Some(Filter::eq("no_such_field", 1).into()),
        ..ForecastQuery::default()
    };
    let error = office
        .session
        .forecasts()
        .forecast(&unknown)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "unknown_field");
    let mut work = office.session.begin();
    work.deals().create(segment("enterprise", 5)).await.unwrap();
    let staged = work.forecasts().forecast(&enterprise).await.unwrap();
    assert_eq!(amount(&staged), "15.00 EUR");
    let by_owner = work.forecasts().by_owner(&enterprise).await.unwrap();
    assert_eq!(amount(of(&by_owner, Some(office.ada))), "15.00 EUR");
}

/// C-014: what owners and managers make of a forecast stands beside what was computed.
#[tokio::test]
async fn adjustments_stand_beside_what_was_computed() {
    let office = Office::new().await;
    office.deals().await;
    let quarter = office.period("FY2027-Q1").await;
    let ada = ForecastSubject::user(office.ada);
    let adjustment = |subject, category, kind, amount: i64, note: &str| ForecastAdjustment {
        subject,
        ..ForecastAdjustment::new(
            quarter.kind(),
            quarter.start(),
            category,
            kind,
            Currency::EUR,
            amount,
            note,
        )
    };
    let as_ada = office
        .crm
        .session(office.session.tenant().unwrap(), Actor::User(office.ada));
    let manager = &office.session;
    let owner = AdjustmentKind::Owner;
    let add = ForecastAdjustment {
        effect: AdjustmentEffect::Add,
        ..adjustment(ada, Commit, owner, -500, "they wait for their budget")
    };
    as_ada.forecasts().adjust(add.clone()).await.unwrap();
    let replace = adjustment(ada, InPipeline, owner, 1_500, "another one is coming");
    let first = as_ada.forecasts().adjust(replace.clone()).await.unwrap();
    let kind = AdjustmentKind::Manager;
    let by_manager = adjustment(ada, Commit, kind, 1_200, "less than that");
    manager
        .forecasts()
        .adjust(by_manager.clone())
        .await
        .unwrap();

    let query = ForecastQuery::of_subject(ada, quarter);
    let seen = manager.forecasts().adjusted(&query).await.unwrap();
    assert_eq!(seen.computed.of(Commit).amount.to_string(), "2000.00 EUR");
    assert_eq!(seen.owner_adjusted[&Commit].to_string(), "1500.00 EUR");
    assert_eq!(seen.manager_adjusted[&Commit].to_string(), "1200.00 EUR");
    assert_eq!(seen.owner_adjusted[&InPipeline].to_string(), "1500.00 EUR");
    assert_eq!(
        seen.manager_adjusted[&InPipeline].to_string(),
        "1500.00 EUR"
    );
    assert_eq!(seen.manager_adjusted[&Closed].to_string(), "700.00 EUR");
    let notes: Vec<_> = seen
        .adjustments
        .iter()
        .map(|one| (one.note.as_str(), one.by))
        .collect();
    let (of_ada, of_manager) = (as_ada.actor(), manager.actor());
    assert_eq!(
        notes,
        [
            ("another one is coming", of_ada),
            ("they wait for their budget", of_ada),
            ("less than that", of_manager),
        ]
    );
    assert!(
        !format!("{seen:?}").contains("budget"),
        "notes are nobody else's"
    );
    assert!(serde_json::to_value(&seen).is_ok());
    let by_owner = manager
        .forecasts()
        .by_owner(&ForecastQuery::of(quarter))
        .await
        .unwrap();
    let slice = by_owner
        .iter()
        .find(|slice| slice.of == Some(office.ada))
        .unwrap();
    assert_eq!(slice.forecast, seen);
    // An adjustment is of its subject alone, and of no part of its forecast.
    let team = ForecastQuery {
        team: Some(office.north),
        ..ForecastQuery::of(quarter)
    };
    assert!(
        manager
            .forecasts()
            .adjusted(&team)
            .await
            .unwrap()
            .adjustments
            .is_empty()
    );
    let part = ForecastQuery {
        pipeline: Some(office.pipeline),
        ..query.clone()
    };
    assert!(
        manager
            .forecasts()
            .adjusted(&part)
            .await
            .unwrap()
            .adjustments
            .is_empty()
    );
    let next = ForecastQuery::of_subject(ada, office.period("FY2027-Q2").await);
    assert!(
        manager
            .forecasts()
            .adjusted(&next)
            .await
            .unwrap()
            .adjustments
            .is_empty()
    );

    // Again: the same adjustment is changed. Deleted: it is withdrawn.
    let again = ForecastAdjustment {
        amount: 1_700.into(),
        ..replace.clone()
    };
    let again = as_ada.forecasts().adjust(again).await.unwrap();
    assert_eq!((again.id, again.version), (first.id, 2));
    as_ada
        .forecast_adjustments()
        .delete(again.id)
        .await
        .unwrap();
    let seen = manager.forecasts().adjusted(&query).await.unwrap();
    assert_eq!(seen.owner_adjusted[&InPipeline].to_string(), "1000.00 EUR");
    as_ada.forecasts().adjust(replace).await.unwrap();

    // A team without deals of its own in another currency.
    let sales = ForecastSubject::team(office.sales);
    let in_yen = ForecastAdjustment {
        currency: Currency::JPY,
        ..adjustment(sales, BestCase, kind, 90, "a gift")
    };
    manager.forecasts().adjust(in_yen).await.unwrap();
    let teams = manager
        .forecasts()
        .by_team(&ForecastQuery::of(quarter))
        .await
        .unwrap();
    let slice = teams
        .iter()
        .find(|slice| slice.of == Some(office.sales))
        .unwrap();
    let best = &slice.forecast.manager_adjusted[&BestCase];
    assert_eq!(best.to_string(), "90 JPY, 500.00 USD");

    // Who is who, and what makes no sense.
    let refused = async |session: &Session, one: ForecastAdjustment| {
        session.forecasts().adjust(one).await.unwrap_err()
    };
    assert_eq!(
        refused(manager, add.clone()).await.code(),
        "not_own_forecast"
    );
    assert_eq!(
        refused(&as_ada, by_manager.clone()).await.code(),
        "own_forecast"
    );
    let both = ForecastSubject {
        user_id: Some(office.ada),
        team_id: Some(office.sales),
        territory_id: None,
    };
    let in_may = ForecastAdjustment {
        period_start: day("2026-05-01"),
        ..by_manager.clone()
    };
    for (field, one) in [
        (
            "user_id",
            adjustment(ForecastSubject::default(), Commit, kind, 1, "x"),
        ),
        ("user_id", adjustment(both, Commit, kind, 1, "x")),
        ("category", adjustment(sales, Closed, kind, 1, "x")),
        ("category", adjustment(sales, Omitted, kind, 1, "x")),
        ("amount", adjustment(sales, Commit, kind, -1, "x")),
        ("note", adjustment(sales, Commit, kind, 1, " ")),
        ("period_start", in_may),
    ] {
        let error = refused(manager, one).await;
        let paths: Vec<_> = error
            .field_errors()
            .iter()
            .map(|one| one.path.as_str())
            .collect();
        assert_eq!(paths, [field]);
    }
}

/// C-014: quotas of users, teams and territories, and how much of them is done.
#[tokio::test]
async fn quotas_are_compared_with_what_was_won() {
    let office = Office::new().await;
    office.deals().await;
    let forecasts = || office.session.forecasts();
    let quarter = office.period("FY2027-Q1").await;
    let amount = |text: &str| text.parse::<Money>().unwrap();
    let ada = ForecastSubject::user(office.ada);
    let quota = |subject, text| Quota::of(subject, &quarter, amount(text));
    let sales = ForecastSubject::team(office.sales);
    let south = ForecastSubject::team(office.south);
    let europe = ForecastSubject::territory(office.europe);
    let first = forecasts().set_quota(quota(ada, "900 EUR")).await.unwrap();
    let second = forecasts().set_quota(quota(ada, "1000 EUR")).await.unwrap();
    assert_eq!((second.id, second.version), (first.id, 2));
    for one in [
        quota(sales, "7000 EUR"),
        quota(south, "100 EUR"),
        quota(europe, "350 EUR"),
        quota(ada, "100 USD"),
        Quota::of(ada, &office.period("2026-04").await, amount("1 EUR")),
    ] {
        forecasts().set_quota(one).await.unwrap();
    }
    // A deal in dollars is won too: 90 USD.
    let dollars = office.create(Deal {
        amount: Some(90.into()),
        currency: Currency::USD,
        stage_id: Some(office.won),
        ..office.of_ada("Dollars")
    });
    dollars.await;
    let found = forecasts().attainment(ada, &quarter, None).await.unwrap();
    let told = |one: &crm_engine::forecasts::Attainment| {
        (
            one.quota.to_string(),
            one.closed.to_string(),
            one.attained.to_string(),
        )
    };
    let mut all: Vec<_> = found.iter().map(told).collect();
    all.sort();
    let line = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        all,
        [
            line("100.00 USD", "90.00 USD", "0.9"),
            line("1000.00 EUR", "700.00 EUR", "0.7")
        ]
    );
    let euros = found
        .iter()
        .find(|one| one.quota.currency() == Currency::EUR)
        .unwrap();
    assert_eq!(euros.gap.to_string(), "300.00 EUR");
    // Ten of ninety-one days are over.
    assert_eq!(euros.pace.expected.to_string(), "109.89 EUR");
    assert_eq!(euros.pace.ahead.to_string(), "590.11 EUR");
    assert_eq!(euros.pace.projected.unwrap().to_string(), "6370.00 EUR");

    let everybody = forecasts().attainments(&quarter, None).await.unwrap();
    let attained: BTreeMap<_, _> = everybody
        .iter()
        .map(|one| {
            (
                (one.subject, one.quota.currency().to_string()),
                one.attained.to_string(),
            )
        })
        .collect();
    let wanted = [
        ((ada, "EUR"), "0.7"),
        ((ada, "USD"), "0.9"),
        ((sales, "EUR"), "0.1"),
        ((south, "EUR"), "0"),
        ((europe, "EUR"), "2"),
    ];
    let wanted: BTreeMap<_, _> = wanted
        .into_iter()
        .map(|((subject, currency), part)| ((subject, currency.to_owned()), part.to_owned()))
        .collect();
    assert_eq!(attained, wanted);
    for one in &everybody {
        let own = forecasts()
            .attainment(one.subject, &quarter, None)
            .await
            .unwrap();
        assert!(own.contains(one), "asked for alone it is the same");
    }

    // With rates everything counts, and each part names its rate.
    let from = day("2026-04-01");
    let mut rates = office.session.exchange_rates();
    rates
        .set(
            Currency::EUR,
            Currency::USD,
            from,
            Decimal::new(125, 2),
            None,
        )
        .await
        .unwrap();
    let rates = rates.on(quarter.end()).await.unwrap();
    let found = forecasts()
        .attainment(sales, &quarter, Some(&rates))
        .await
        .unwrap();
    assert_eq!(found[0].closed.to_string(), "772.00 EUR");
    let parts = &found[0].converted.as_ref().unwrap().parts;
    assert_eq!(parts.len(), 2);
    assert!(serde_json::to_value(&found).is_ok());

    let other = Quota::of(ada, &quarter, amount("5 CHF"));
    let zero = Quota {
        amount: Decimal::ZERO,
        ..other.clone()
    };
    let below = Quota {
        amount: Decimal::NEGATIVE_ONE,
        ..other.clone()
    };
    let nobody = Quota {
        subject: ForecastSubject::default(),
        ..other.clone()
    };
    let shifted = Quota {
        period_start: day("2026-01-02"),
        ..other
    };
    for (field, one) in [
        ("amount", zero),
        ("amount", below),
        ("user_id", nobody),
        ("period_start", shifted),
    ] {
        let error = forecasts().set_quota(one).await.unwrap_err();
        let paths: Vec<_> = error
            .field_errors()
            .iter()
            .map(|one| one.path.as_str())
            .collect();
        assert_eq!(paths, [field]);
    }
    // The quota of a team that is no more goes with it.
    office.session.teams().delete(office.south).await.unwrap();
    assert!(
        forecasts()
            .attainment(south, &quarter, None)
            .await
            .unwrap()
            .is_empty()
    );
}

/// Two who set the same quota for the first time: one of them changes the other's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_quota_is_set_once() {
    let office = Office::new().await;
    let quarter = office.period("FY2027-Q1").await;
    let ada = ForecastSubject::user(office.ada);
    let mut all = tokio::task::JoinSet::new();
    for number in 1..=8_i64 {
        let session = office.session.clone();
        all.spawn(async move {
            let quota = Quota::of(ada, &quarter, Money::new(number.into(), Currency::EUR));
            session.forecasts().set_quota(quota).await.unwrap().id
        });
    }
    let ids: BTreeSet<_> = all.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(office.session.quotas().count(Find::new()).await.unwrap(), 1);
}

/// C-014, R-301, R-369, R-452: a snapshot of a day keeps every deal once, however often it is taken.
#[tokio::test]
async fn snapshots_keep_each_deal_once_a_day() {
    let office = Office::new().await;
    office.deals().await;
    let session = &office.session;
    let quarter = office.period("FY2027-Q1").await;
    let query = ForecastQuery::of(quarter);
    let forecasts = || session.forecasts();
    let taken = forecasts().snapshot(&quarter, &()).await.unwrap();
    assert_eq!((taken.deals, taken.taken, taken.is_stopped), (4, 4, false));
    let again = forecasts().snapshot(&quarter, &()).await.unwrap();
    assert_eq!((again.deals, again.taken), (4, 0));
    let stored = session
        .deal_forecasts()
        .find(Find::new())
        .await
        .unwrap()
        .items;
    assert_eq!(stored.len(), 4);
    for one in &stored {
        let deal = session.deals().get(one.deal_id).await.unwrap();
        assert_eq!(Some(one.amount), deal.amount);
        assert_eq!(
            (one.category, one.probability),
            (deal.counting_category, deal.win_probability)
        );
        assert_eq!(
            (one.owner_id, one.close_date),
            (deal.owner_id, deal.expected_close_date)
        );
        assert_eq!(
            (one.period, one.period_start),
            (PeriodKind::Quarter, quarter.start())
        );
        assert_eq!(
            (one.confidence_level, one.forecast_date),
            (50, day("2026-04-10"))
        );
    }
    // The next day things have changed; somebody says something about one deal first.
    office.clock.advance(TimeDelta::days(1));
    let commit = stored
        .iter()
        .find(|one| one.category == Commit)
        .unwrap()
        .deal_id;
    session
        .deals()
        .update(commit, |deal| deal.amount = Some(2_500.into()))
        .await
        .unwrap();
    let said = forecasts()
        .record(commit, PeriodKind::Quarter, 90, Some("signed soon"))
        .await;
    assert_eq!(said.unwrap().confidence_level, 90);
    let twice = forecasts()
        .record(commit, PeriodKind::Quarter, 80, None)
        .await
        .unwrap_err();
    assert_eq!(twice.code(), "duplicate");
    forecasts()
        .record(commit, PeriodKind::Month, 80, None)
        .await
        .unwrap();
    let too_sure = forecasts()
        .record(commit, PeriodKind::Year, 101, None)
        .await
        .unwrap_err();
    assert_eq!(too_sure.field_errors()[0].path, "confidence_level");
    let taken = forecasts().snapshot(&quarter, &()).await.unwrap();
    assert_eq!((taken.deals, taken.taken), (4, 3));

    // The trend is the forecast of each day.
    let trend = forecasts().trend(&quarter, &query).await.unwrap();
    let dates: Vec<_> = trend.iter().map(|one| one.date.to_string()).collect();
    assert_eq!(dates, ["2026-04-10", "2026-04-11"]);
    let open = |forecast: &Forecast| forecast.open().unwrap();
    let today = office.forecast(&query).await;
    assert_eq!(open(&trend[1].forecast), open(&today));
    assert_eq!(
        open(&trend[0].forecast).amount.to_string(),
        "3400.00 EUR, 500.00 USD"
    );
    for narrowed in [
        ForecastQuery {
            owner: Some(office.bob),
            ..query.clone()
        },
        ForecastQuery {
            team: Some(office.sales),
            pipeline: Some(office.pipeline),
            ..query.clone()
        },
        ForecastQuery {
            territory: Some(office.europe),
            ..query.clone()
        },
    ] {
        let trend = forecasts().trend(&quarter, &narrowed).await.unwrap();
        let now = office.forecast(&narrowed).await;
        assert_eq!(open(&trend[1].forecast), open(&now));
    }
    let won = session.deals().create(Deal {
        stage_id: Some(office.won),
        ..office.of_ada("Won")
    });
    let won = won.await.unwrap().id;
    let undated = office.create(office.of_ada("Undated")).await;
    for deal in [won, undated] {
        let error = forecasts()
            .record(deal, PeriodKind::Month, 50, None)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "not_forecast");
    }
    // they go with their deal.
    session.deals().delete(commit).await.unwrap();
    assert_eq!(rows_of(session, "deal_forecast").await.len(), 9);
    session.deals().purge(commit).await.unwrap();
    assert_eq!(rows_of(session, "deal_forecast").await.len(), 6);
}

/// A snapshot of many deals is stopped and goes on, and two at the same time keep nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_taken_in_parts() {
    let office = Office::new().await;
    let month = office.period("2026-05").await;
    let many = (0..1_030).map(|number| Deal {
        expected_close_date: Some(day("2026-05-31")),
        ..office.of_ada(&format!("Deal {number}"))
    });
    office
        .session
        .deals()
        .create_all(many.collect())
        .await
        .unwrap();
    let told = std::sync::Mutex::new(Vec::new());
    let stop = |done: u64, total: Option<u64>| {
        told.lock().unwrap().push((done, total));
        ControlFlow::Break(())
    };
    let stopped = office
        .session
        .forecasts()
        .snapshot(&month, &stop)
        .await
        .unwrap();
    assert_eq!((stopped.taken, stopped.is_stopped), (500, true));
    assert_eq!(*told.lock().unwrap(), [(500, Some(1_030))]);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let session = office.session.clone();
        all.spawn(async move {
            session
                .forecasts()
                .snapshot(&month, &())
                .await
                .unwrap()
                .taken
        });
    }
    let taken: u64 = all.join_all().await.into_iter().sum();
    assert_eq!(taken, 530);
    assert_eq!(
        office
            .session
            .deal_forecasts()
            .count(Find::new())
            .await
            .unwrap(),
        1_030
    );
    let mut work = office.session.begin();
    let error = work.forecasts().snapshot(&month, &()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// C-014: the forecast of a past moment, and what came of it.
#[tokio::test]
async fn a_past_forecast_is_compared_with_what_came() {
    let office = Office::new().await;
    let session = &office.session;
    let deals = || session.deals();
    let quarter = office.period("FY2027-Q1").await;
    let query = ForecastQuery::of(quarter);
    let in_may = |name: &str, amount: i64| Deal {
        amount: Some(amount.into()),
        expected_close_date: Some(day("2026-05-15")),
        ..office.of_ada(name)
    };
    let committed = |name, amount| Deal {
        stage_id: Some(office.offer),
        ..in_may(name, amount)
    };
    let to_win = office.create(committed("To win", 1_000)).await;
    let to_lose = office.create(committed("To lose", 600)).await;
    let to_slip = office.create(in_may("To slip", 300)).await;
    let to_slip_and_win = office.create(in_may("To slip and be won", 40)).await;
    let stays = office.create(in_may("Stays", 20)).await;
    let to_go = office.create(in_may("To go", 10)).await;
    let to_shelve = office.create(in_may("To shelve", 5)).await;
    let before = office.create(in_may("Won before", 7)).await;
    deals().win(before).await.unwrap();
    let left_out = office.create(Deal {
        forecast_category: Some(Omitted),
        ..in_may("Left out", 3)
    });
    let left_out = left_out.await;
    let later = office.create(Deal {
        expected_close_date: Some(day("2026-09-01")),
        ..in_may("Pulled in", 2)
    });
    let pulled_in = later.await;
    let to_forget = office.create(in_may("To forget", 9)).await;
    deals().delete(to_forget).await.unwrap();

    office.clock.set(at("2026-04-20T00:00:00Z"));
    let moment = office.clock.now();
    let forecast_then = office.forecast(&query).await;
    assert_eq!(
        told(&forecast_then),
        table([
            ("pipeline", "5: 375.00 EUR / 37.50 EUR"),
            ("commit", "2: 1600.00 EUR / 1280.00 EUR"),
            ("closed", "1: 7.00 EUR / 7.00 EUR"),
            ("omitted", "1: 3.00 EUR / 0.30 EUR"),
        ])
    );

    office.clock.set(at("2026-06-01T12:00:00Z"));
    deals()
        .update(to_win, |deal| deal.amount = Some(1_100.into()))
        .await
        .unwrap();
    deals().win(to_win).await.unwrap();
    deals().lose(to_lose, "price").await.unwrap();
    let next = |deal: &mut Deal| deal.expected_close_date = Some(day("2026-07-15"));
    deals().update(to_slip, next).await.unwrap();
    deals().delete(to_go).await.unwrap();
    deals().archive(to_shelve).await.unwrap();
    deals().win(left_out).await.unwrap();
    let here = |deal: &mut Deal| deal.expected_close_date = Some(day("2026-06-15"));
    deals().update(pulled_in, here).await.unwrap();
    let fresh = office.create(in_may("Fresh", 100)).await;
    deals().win(fresh).await.unwrap();
    office.clock.set(at("2026-07-20T12:00:00Z"));
    deals().win(to_slip_and_win).await.unwrap();

    let forecasts = session.forecasts();
    assert_eq!(
        forecasts.as_of(&query, moment).await.unwrap(),
        forecast_then
    );
    let came = forecasts.compare(&query, moment, 10, &()).await.unwrap();
    assert_eq!(came.then, forecast_then);
    assert_eq!(came.now.closed().to_string(), "1210.00 EUR");
    let of = |outcome| {
        let ids: BTreeSet<_> = came
            .deals
            .iter()
            .filter(|one| one.outcome == outcome)
            .map(|one| one.deal)
            .collect();
        let totals = &came.outcomes[&outcome];
        assert_eq!(ids.len() as u64, totals.deals);
        (ids, totals.then.to_string(), totals.now.to_string())
    };
    let wanted = |ids: &[Id<Deal>], then: &str, now: &str| {
        (
            ids.iter().copied().collect(),
            then.to_owned(),
            now.to_owned(),
        )
    };
    assert_eq!(
        of(DealOutcome::Closed),
        wanted(&[before], "7.00 EUR", "7.00 EUR")
    );
    assert_eq!(
        of(DealOutcome::Won),
        wanted(&[to_win], "1000.00 EUR", "1100.00 EUR")
    );
    assert_eq!(
        of(DealOutcome::Lost),
        wanted(&[to_lose], "600.00 EUR", "600.00 EUR")
    );
    assert_eq!(
        of(DealOutcome::Slipped),
        wanted(&[to_slip, to_slip_and_win], "340.00 EUR", "340.00 EUR")
    );
    assert_eq!(
        of(DealOutcome::Open),
        wanted(&[stays], "20.00 EUR", "20.00 EUR")
    );
    assert_eq!(
        of(DealOutcome::Gone),
        wanted(&[to_go, to_shelve], "15.00 EUR", "")
    );
    assert_eq!(
        of(DealOutcome::New),
        wanted(&[left_out, pulled_in, fresh], "", "105.00 EUR")
    );
    // 1,600 were committed and 7 closed; 1,210 came.
    assert_eq!(
        came.accuracy(Commit, Currency::EUR)
            .unwrap()
            .unwrap()
            .to_string(),
        "0.7529"
    );
    assert_eq!(came.accuracy(Commit, Currency::USD).unwrap(), None);
    let commit = &came.categories[&Commit];
    assert_eq!((commit.deals, commit.won_deals), (2, 1));
    assert_eq!(
        (commit.then.to_string(), commit.won.to_string()),
        ("1600.00 EUR".into(), "1100.00 EUR".into())
    );
    assert!(serde_json::to_value(&came).is_ok());

    // A few are named, all are counted.
    let few = forecasts.compare(&query, moment, 1, &()).await.unwrap();
    assert_eq!(few.outcomes, came.outcomes);
    assert_eq!(few.deals.len(), 7);
    // The owner of then counts, and who owns it now has it new.
    deals()
        .update(to_win, |deal| deal.owner_id = Some(office.bob))
        .await
        .unwrap();
    let own = |owner| ForecastQuery {
        owner: Some(owner),
        ..query.clone()
    };
    let of_ada = forecasts
        .compare(&own(office.ada), moment, 0, &())
        .await
        .unwrap();
    assert_eq!(of_ada.then, forecast_then);
    assert_eq!(of_ada.outcomes[&DealOutcome::Gone].deals, 3);
    assert!(of_ada.deals.is_empty());
    let of_bob = forecasts
        .compare(&own(office.bob), moment, 0, &())
        .await
        .unwrap();
    assert_eq!(of_bob.outcomes[&DealOutcome::New].deals, 1);
    for query in [
        ForecastQuery {
            team: Some(office.sales),
            ..query.clone()
        },
        ForecastQuery {
            territory: Some(office.alps),
            pipeline: Some(office.pipeline),
            ..query.clone()
        },
    ] {
        let then = forecasts.as_of(&query, moment).await.unwrap();
        let gone = if query.territory.is_some() { 1 } else { 0 };
        // What is deleted since has no account that could be looked up.
        assert_eq!(then.of(InPipeline).deals, 5 - gone);
    }
    let mut work = session.begin();
    let error = work
        .forecasts()
        .compare(&query, moment, 1, &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// What the tests do to deals and stages.
#[derive(Clone, Debug)]
enum Step {
    Create {
        stage: usize,
        own: Option<ForecastCategory>,
        amount: Option<i64>,
        dollars: bool,
        days: Option<i64>,
    },
    Move {
        deal: usize,
        stage: usize,
    },
    Choose {
        deal: usize,
        own: Option<ForecastCategory>,
    },
    Reckon {
        deal: usize,
        amount: Option<i64>,
        days: Option<i64>,
    },
    Categorize {
        stage: usize,
        category: Option<ForecastCategory>,
    },
    Archive {
        deal: usize,
    },
    Delete {
        deal: usize,
    },
    Restore {
        deal: usize,
    },
    Wait {
        hours: i64,
    },
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let own = || {
        let some = [InPipeline, BestCase, Commit, WorstCase, Omitted];
        prop::option::of(prop::sample::select(some.to_vec()))
    };
    let amount = || prop::option::weighted(0.9, 0..1_000_i64);
    let days = || prop::option::weighted(0.9, -100..200_i64);
    let deal = || 0..8_usize;
    let step = prop_oneof![
        5 => (0..4_usize, own(), amount(), any::<bool>(), days()).prop_map(
            |(stage, own, amount, dollars, days)| Step::Create { stage, own, amount, dollars, days }
        ),
        4 => (deal(), 0..4_usize).prop_map(|(deal, stage)| Step::Move { deal, stage }),
        3 => (deal(), own()).prop_map(|(deal, own)| Step::Choose { deal, own }),
        3 => (deal(), amount(), days()).prop_map(|(deal, amount, days)| Step::Reckon { deal, amount, days }),
        2 => (0..2_usize, own()).prop_map(|(stage, category)| Step::Categorize { stage, category }),
        1 => deal().prop_map(|deal| Step::Archive { deal }),
        1 => deal().prop_map(|deal| Step::Delete { deal }),
        1 => deal().prop_map(|deal| Step::Restore { deal }),
        3 => (1..2_000_i64).prop_map(|hours| Step::Wait { hours }),
        3 => Just(Step::Look),
    ];
    prop::collection::vec(step, 6..28)
}

/// The forecast as one reckons it deal by deal.
async fn reckoned(office: &Office, period: Option<Period>) -> Forecast {
    let mut forecast = Forecast::empty(period);
    let stages: BTreeMap<_, _> = office
        .session
        .pipelines()
        .stages(office.pipeline)
        .await
        .unwrap()
        .into_iter()
        .map(|stage| (stage.id, stage))
        .collect();
    for row in rows_of(&office.session, "deal").await {
        let deal = Record::<Deal>::from_row(row).unwrap();
        let stage = &stages[&deal.stage_id.unwrap()];
        let (category, date) = match deal.status {
            DealStatus::Open => {
                let of_stage = stage.forecast_category.unwrap_or(InPipeline);
                (
                    deal.forecast_category.unwrap_or(of_stage),
                    deal.expected_close_date,
                )
            }
            DealStatus::Won => (Closed, deal.actual_close_date),
            DealStatus::Lost => (Omitted, None),
        };
        assert_eq!(
            deal.counting_category, category,
            "whatever happened to the deal"
        );
        let is_out = deal.deleted_at.is_some()
            || deal.status == DealStatus::Lost
            || (deal.archived_at.is_some() && deal.status == DealStatus::Open);
        let is_in = period.is_none_or(|period| date.is_some_and(|date| period.contains(date)));
        if is_out || !is_in {
            continue;
        }
        let one = forecast.categories.entry(category).or_default();
        one.deals += 1;
        let amount = deal.amount.unwrap_or_default();
        one.amount.add(&Money::new(amount, deal.currency)).unwrap();
        let weighted = Money::new(deal.win_probability.of(amount), deal.currency);
        one.weighted.add(&weighted).unwrap();
    }
    forecast
}

async fn take(office: &Office, step: &Step, made: &mut Vec<Id<Deal>>) {
    let session = &office.session;
    let stages = [office.lead, office.offer, office.won, office.lost];
    let today = office.clock.now().date_naive();
    let date = |days: Option<i64>| days.map(|days| today + TimeDelta::days(days));
    let known = |deal: usize| made.get(deal % made.len().max(1)).copied();
    // A deal that is deleted, or not deleted, refuses what is not for it; nothing else may fail.
    let may_miss = |result: Result<()>| match result {
        Ok(()) => {}
        Err(error) => assert_eq!(error.code(), "not_found"),
    };
    match step {
        Step::Create {
            stage,
            own,
            amount,
            dollars,
            days,
        } => {
            let deal = Deal {
                stage_id: Some(stages[*stage]),
                forecast_category: *own,
                amount: amount.map(Decimal::from),
                currency: if *dollars {
                    Currency::USD
                } else {
                    Currency::EUR
                },
                expected_close_date: date(*days),
                ..office.of_ada("Deal")
            };
            let id = office.create(deal).await;
            made.push(id);
        }
        Step::Move { deal, stage } => {
            if let Some(deal) = known(*deal) {
                may_miss(
                    session
                        .deals()
                        .move_to(deal, stages[*stage])
                        .await
                        .map(|_| ()),
                );
            }
        }
        Step::Choose { deal, own } => {
            if let Some(deal) = known(*deal) {
                let choose = |deal: &mut Deal| deal.forecast_category = *own;
                may_miss(session.deals().update(deal, choose).await.map(|_| ()));
            }
        }
        Step::Reckon { deal, amount, days } => {
            if let Some(deal) = known(*deal) {
                let reckon = |deal: &mut Deal| {
                    deal.amount = amount.map(Decimal::from);
                    deal.expected_close_date = date(*days);
                };
                may_miss(session.deals().update(deal, reckon).await.map(|_| ()));
            }
        }
        Step::Categorize { stage, category } => {
            let (stage, category) = (stages[*stage], *category);
            let say = |stage: &mut PipelineStage| stage.forecast_category = category;
            session.pipelines().update_stage(stage, say).await.unwrap();
        }
        Step::Archive { deal } => {
            if let Some(deal) = known(*deal) {
                may_miss(session.deals().archive(deal).await.map(|_| ()));
            }
        }
        Step::Delete { deal } => {
            if let Some(deal) = known(*deal) {
                may_miss(session.deals().delete(deal).await);
            }
        }
        Step::Restore { deal } => {
            if let Some(deal) = known(*deal) {
                may_miss(session.deals().restore(deal).await.map(|_| ()));
            }
        }
        Step::Wait { hours } => office.clock.advance(TimeDelta::hours(*hours)),
        Step::Look => {}
    }
}

/// Every deal of the forecast of then and every new one has one outcome, and what was won is told
/// alike by both sides.
fn assert_adds_up(came: &Comparison) {
    let count = |forecast: &Forecast, category| forecast.of(category).deals;
    let of = |outcome| came.outcomes.get(&outcome).cloned().unwrap_or_default();
    let then: u64 = came.then.categories.values().map(|one| one.deals).sum();
    let forecast = then - count(&came.then, Omitted);
    let all: u64 = came.outcomes.values().map(|one| one.deals).sum();
    assert_eq!(all - of(DealOutcome::New).deals, forecast);
    let new_won = came
        .deals
        .iter()
        .filter(|one| one.outcome == DealOutcome::New && one.category.is_none());
    assert_eq!(new_won.count() as u64, of(DealOutcome::New).deals);
    let still_open = count(&came.now, InPipeline)
        + count(&came.now, BestCase)
        + count(&came.now, Commit)
        + count(&came.now, WorstCase);
    let counted = of(DealOutcome::Closed).deals
        + of(DealOutcome::Won).deals
        + of(DealOutcome::Open).deals
        + of(DealOutcome::New).deals;
    // Deals that were left out since are open all the same.
    assert!(counted >= count(&came.now, Closed) + still_open);
    assert!(counted <= count(&came.now, Closed) + still_open + count(&came.now, Omitted));
    let mut then = Totals::new();
    for (outcome, totals) in &came.outcomes {
        if *outcome != DealOutcome::New {
            then.merge(&totals.then).unwrap();
        }
    }
    let mut expected = came.then.open().unwrap().amount;
    expected.merge(&came.then.closed()).unwrap();
    for currency in [Currency::EUR, Currency::USD] {
        assert_eq!(then.get(currency), expected.get(currency));
    }
}

/// C-014: after any sequence, categories partition the open deals and lost ones never count; a
/// forecast of the past is the one that was computed then; a snapshot is what was forecast, and a
/// second one on the same day keeps nothing.
#[test]
fn forecasts_hold_after_any_sequence() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::new(at("2026-04-10T09:00:00Z")));
    let crm = runtime.block_on(async {
        let storage = common::backend::storage(&[]);
        Crm::builder(storage).clock(clock.clone()).build()
    });
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 20,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&steps(), |steps| {
        let subdomain = format!("office-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            clock.set(at("2026-04-10T09:00:00Z"));
            let office = Office::of(crm.clone(), clock.clone(), &subdomain).await;
            let forecasts = || office.session.forecasts();
            let mut made = Vec::new();
            let mut looked: Vec<(DateTime<Utc>, [(ForecastQuery, Forecast); 2])> = Vec::new();
            for step in steps.iter().chain([&Step::Look]) {
                take(&office, step, &mut made).await;
                if !matches!(step, Step::Look) {
                    continue;
                }
                let now = office.clock.now();
                let period = forecasts()
                    .current_period(PeriodKind::Quarter)
                    .await
                    .unwrap();
                let mut seen = Vec::new();
                for period in [None, Some(period)] {
                    let query = ForecastQuery {
                        period,
                        ..ForecastQuery::default()
                    };
                    let forecast = office.forecast(&query).await;
                    assert_eq!(forecast, reckoned(&office, period).await);
                    seen.push((query, forecast));
                }
                let month = forecasts().current_period(PeriodKind::Month).await.unwrap();
                let first = forecasts().snapshot(&month, &()).await.unwrap();
                let second = forecasts().snapshot(&month, &()).await.unwrap();
                assert_eq!((second.deals, second.taken), (first.deals, 0));
                looked.push((now, seen.try_into().unwrap()));
                // What happens from here on is later.
                office.clock.advance(TimeDelta::seconds(1));
            }
            for (then, seen) in &looked {
                for (query, forecast) in seen {
                    let past = forecasts().as_of(query, *then).await.unwrap();
                    assert_eq!(past, *forecast);
                    let came = forecasts().compare(query, *then, 1_000, &()).await.unwrap();
                    assert_adds_up(&came);
                }
            }
            let kept = office
                .session
                .deal_forecasts()
                .find(Find::new().limit(1_000))
                .await
                .unwrap();
            let keys: BTreeSet<_> = kept
                .items
                .iter()
                .map(|one: &Arc<Record<DealForecast>>| (one.deal_id, one.period, one.forecast_date))
                .collect();
            assert_eq!(keys.len(), kept.items.len(), "R-301");
        });
        Ok(())
    });
    outcome.unwrap();
}
