//! What holds after any sequence of changes. C-014, R-301.

use super::*;

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

/// What forecasts were at a moment.
type Seen = Vec<(ForecastQuery, Forecast)>;

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
        if deal.deleted_at.is_none() {
            assert_eq!(
                deal.counting_category, category,
                "whatever happened to the deal; a deleted one is put right when it is restored"
            );
        }
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
        cases: crate::common::cases(24),
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
            let mut looked: Vec<(DateTime<Utc>, Seen)> = Vec::new();
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
                looked.push((now, seen));
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
