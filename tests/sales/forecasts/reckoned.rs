//! Forecasts worked out by hand, by the periods of a fiscal year from April. C-014, R-085.

use crm_engine::tenancy::Tenant;
use crm_engine::value::{TextValue, TimeZone};

use super::*;

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
    let ever = ForecastQuery::default();
    let (from, to) = (day("2000-01-01"), day("2026-01-01"));
    let many = forecasts
        .by_period(&ever, PeriodKind::Month, from, to)
        .await;
    let error = many.unwrap_err();
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
    let mut settings = office.session.object("tenant_configuration").await.unwrap();
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

/// what is won counts by the rate that it keeps, whatever rates come later; what is in a
/// currency already needs none.
#[tokio::test]
async fn what_is_won_keeps_its_rate() {
    let office = Office::new().await;
    let session = &office.session;
    let quarter = office.period("FY2027-Q1").await;
    let set = async |on, rate: &str| {
        let mut rates = session.exchange_rates();
        let (from, to) = (Currency::EUR, Currency::USD);
        let rate = rate.parse().unwrap();
        rates.set(from, to, day(on), rate, None).await.unwrap();
    };
    set("2026-04-01", "1.25").await;
    let of_ada = |amount: i64, currency| Deal {
        amount: Some(amount.into()),
        currency,
        expected_close_date: Some(day("2026-06-01")),
        ..office.of_ada("Rollout")
    };
    let won = office.create(of_ada(100, Currency::EUR)).await;
    session.deals().win(won).await.unwrap();
    let dollars = office.create(of_ada(7, Currency::USD)).await;
    session.deals().win(dollars).await.unwrap();
    office.create(of_ada(40, Currency::EUR)).await;
    office.clock.set(at("2026-05-10T09:00:00Z"));
    set("2026-05-01", "2").await;
    let later = office.create(of_ada(10, Currency::EUR)).await;
    session.deals().win(later).await.unwrap();

    let on = day("2026-05-10");
    let rates = session.exchange_rates().on(on).await.unwrap();
    let query = ForecastQuery::of(quarter);
    let forecast = office.forecast(&query).await;
    let told = forecast.converted(&rates, Currency::USD, on).unwrap();
    let closed = &told.categories[&Closed];
    // 100 at 1.25, 10 at 2, and 7.
    assert_eq!(closed.amount.total.to_string(), "152.00 USD");
    assert_eq!(closed.weighted.total.to_string(), "152.00 USD");
    let parts: Vec<_> = closed.amount.parts.iter().collect();
    let named: Vec<_> = parts
        .iter()
        .map(|part| (part.from.to_string(), part.rate.to_string()))
        .collect();
    let line = |from: &str, rate: &str| (from.to_owned(), rate.to_owned());
    assert_eq!(
        named,
        [
            line("100.00 EUR", "1.25"),
            line("10.00 EUR", "2"),
            line("7.00 USD", "1")
        ]
    );
    let open = &told.categories[&InPipeline].amount.total;
    assert_eq!(open.to_string(), "80.00 USD", "by the rate of the day");
    let euros = forecast.converted(&rates, Currency::EUR, on).unwrap();
    let closed = &euros.categories[&Closed].amount.total;
    assert_eq!(closed.to_string(), "113.50 EUR");

    // The same sum as that of the deals, in every part of the forecast and as of a past moment.
    let in_all = Deal::STATUS.eq(DealStatus::Won);
    let total = session.deals().total_in(in_all, Currency::USD, on).await;
    let total = total.unwrap().converted.total;
    let closed_in = |forecast: &Forecast| {
        let closed = forecast.of(Closed);
        closed
            .amount_in(&rates, Currency::USD, on)
            .unwrap()
            .total
            .to_string()
    };
    assert_eq!(closed_in(&forecast), total.to_string());
    let forecasts = || session.forecasts();
    let by_team = forecasts().by_team(&query).await.unwrap();
    assert_eq!(closed_in(of(&by_team, Some(office.sales))), "152.00 USD");
    let (kind, on_day) = (PeriodKind::Quarter, quarter.start());
    let periods = forecasts().by_period(&query, kind, on_day, on_day).await;
    assert_eq!(closed_in(&periods.unwrap()[0]), "152.00 USD");
    let now = office.clock.now();
    let past = forecasts().as_of(&query, now).await.unwrap();
    assert_eq!(past, forecast);
    let before = at("2026-05-01T00:00:00Z");
    let past = forecasts().as_of(&query, before).await.unwrap();
    assert_eq!(closed_in(&past), "132.00 USD");
    let json = serde_json::to_value(&forecast).unwrap();
    let locked = &json["categories"]["closed"]["locked"];
    assert_eq!(locked.as_array().map(Vec::len), Some(2));

    let ada = ForecastSubject::user(office.ada);
    let quota = Quota::of(ada, &quarter, "304 USD".parse().unwrap());
    forecasts().set_quota(quota).await.unwrap();
    let found = forecasts().attainment(ada, &quarter, Some(&rates)).await;
    let found = found.unwrap();
    assert_eq!(found[0].closed.to_string(), "152.00 USD");
    assert_eq!(found[0].attained.to_string(), "0.5");
}

/// A deal that is won on the last evening of a quarter, by the clocks of the tenant, is one of that
/// quarter, though it is the next day in London.
#[tokio::test]
async fn days_are_those_of_the_tenant() {
    let office = Office::new().await;
    let session = &office.session;
    let tenant = session.tenant().unwrap();
    let zone = TimeZone::parse("America/New_York").unwrap();
    let in_new_york = |tenant: &mut Tenant| tenant.timezone = zone;
    let mut tenants = session.records::<Tenant>();
    tenants.update(tenant, in_new_york).await.unwrap();
    office.clock.set(at("2026-07-01T02:00:00Z"));
    let deal = office.create(Deal {
        amount: Some(100.into()),
        expected_close_date: Some(day("2026-06-30")),
        ..office.of_ada("Rollout")
    });
    let deal = deal.await;
    let mut forecasts = session.forecasts();
    let quarter = forecasts.current_period(PeriodKind::Quarter).await.unwrap();
    assert_eq!(quarter.to_string(), "FY2027-Q1");
    let kept = forecasts.record(deal, PeriodKind::Quarter, 80, None).await;
    assert_eq!(kept.unwrap().forecast_date, day("2026-06-30"));
    let taken = forecasts.snapshot(&quarter, &()).await.unwrap();
    assert_eq!((taken.deals, taken.taken), (1, 0), "it is the same day");
    let won = session.deals().win(deal).await.unwrap();
    assert_eq!(won.actual_close_date, Some(day("2026-06-30")));
    let forecast = office.forecast(&ForecastQuery::of(quarter)).await;
    assert_eq!(forecast.closed().to_string(), "100.00 EUR");
    // Two hours after midnight there it is July.
    office.clock.set(at("2026-07-01T06:00:00Z"));
    let quarter = session
        .forecasts()
        .current_period(PeriodKind::Quarter)
        .await;
    assert_eq!(quarter.unwrap().to_string(), "FY2027-Q2");
}
