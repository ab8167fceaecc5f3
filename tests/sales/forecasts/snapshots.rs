//! What is kept of each deal on a day. C-014, R-301, R-369, R-452, R-519.

use super::*;

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
    // A deal that passes to another team stays in what was forecast of the old one.
    let of_team = |team| ForecastQuery {
        team: Some(team),
        ..query.clone()
    };
    let north = forecasts().trend(&quarter, &of_team(office.north)).await;
    let pass_on = |deal: &mut Deal| deal.team_id = Some(office.south);
    session.deals().update(commit, pass_on).await.unwrap();
    let again = forecasts().trend(&quarter, &of_team(office.north)).await;
    assert_eq!(again.unwrap(), north.unwrap());
    let won = Deal {
        stage_id: Some(office.won),
        ..office.of_ada("Won")
    };
    let won = office.create(won).await;
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
