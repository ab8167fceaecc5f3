//! The forecast of a past moment, and what came of it. C-014.

use super::*;

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
        "0.753"
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
