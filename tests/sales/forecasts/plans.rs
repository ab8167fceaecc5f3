//! What people say beside what is computed: adjustments and quotas. C-014.

use super::*;

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
    let more = ForecastAdjustment {
        amount: Decimal::from(-900),
        ..add.clone()
    };
    assert_eq!(refused(manager, more).await.code(), "not_own_forecast");
    let less = ForecastAdjustment {
        note: "much less".into(),
        ..by_manager.clone()
    };
    assert_eq!(refused(&as_ada, less).await.code(), "own_forecast");
    // Nor does anybody pass the own words off as those of another one.
    let to_bob = |one: &mut ForecastAdjustment| one.subject = ForecastSubject::user(office.bob);
    let own = &seen.adjustments[0];
    let moved = as_ada.forecast_adjustments().update(own.id, to_bob).await;
    assert_eq!(moved.unwrap_err().code(), "not_own_forecast");
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
