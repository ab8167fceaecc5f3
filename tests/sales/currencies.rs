//! exchange rates by day, conversions that name their rate, and the rate that a deal keeps
//! when it is closed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use crate::common::{crm, rows_of, tenant};
use chrono::NaiveDate;
use crm_engine::currencies::{ExchangeRate, Via};
use crm_engine::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

const USD: Currency = Currency::USD;
const EUR: Currency = Currency::EUR;
const GBP: Currency = Currency::GBP;
const JPY: Currency = Currency::JPY;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn number(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

async fn set(session: &Session, from: Currency, to: Currency, on: &str, rate: &str) {
    session
        .exchange_rates()
        .set(from, to, day(on), number(rate), Some("bank"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_newest_rate_on_or_before_the_day_counts() {
    let (_, session) = tenant(&crm(), "acme").await;
    for (on, rate) in [
        ("2026-01-10", "1.1"),
        ("2026-02-10", "1.2"),
        ("2026-03-10", "1.3"),
    ] {
        set(&session, EUR, USD, on, rate).await;
    }
    let rates = || session.exchange_rates();
    for (on, wanted) in [
        ("2026-01-10", "1.1"),
        ("2026-02-09", "1.1"),
        ("2026-02-10", "1.2"),
        ("2027-01-01", "1.3"),
    ] {
        let rate = rates().rate_on(EUR, USD, day(on)).await.unwrap();
        assert_eq!(rate.rate, number(wanted), "{on}");
    }
    let error = rates()
        .rate_on(EUR, USD, day("2026-01-09"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "missing_rate");
    assert!(error.to_string().contains("from EUR to USD on 2026-01-09"));
    let listed = rates().list(EUR, USD).await.unwrap();
    let days: Vec<_> = listed.iter().map(|rate| rate.effective_date).collect();
    assert_eq!(days, ["2026-03-10", "2026-02-10", "2026-01-10"].map(day));
    assert!(rates().list(USD, EUR).await.unwrap().is_empty());
    // One read that answers for a whole period.
    let period = rates()
        .between(day("2026-02-01"), day("2026-02-28"))
        .await
        .unwrap();
    for (on, wanted) in [("2026-02-01", "1.1"), ("2026-02-28", "1.2")] {
        assert_eq!(period.rate(EUR, USD, day(on)).unwrap().rate, number(wanted));
    }
}

#[tokio::test]
async fn a_rate_is_turned_around_or_found_by_way_of_the_base_currency() {
    let (_, session) = tenant(&crm(), "acme").await;
    set(&session, EUR, USD, "2026-01-01", "1.25").await;
    set(&session, USD, JPY, "2026-01-05", "150").await;
    let rates = || session.exchange_rates();
    let on = day("2026-01-09");
    let back = rates().convert(money("10 USD"), EUR, on).await.unwrap();
    assert_eq!((back.money, back.via), (money("8 EUR"), Via::Inverse));
    let yen = rates().convert(money("8 EUR"), JPY, on).await.unwrap();
    assert_eq!(yen.money, money("1500 JPY"));
    assert_eq!(
        (yen.via, yen.rate_date),
        (Via::Base(USD), day("2026-01-01"))
    );
    // The base currency is a setting; in yen there is no way from euros to pounds.
    session
        .configurations()
        .set_base_currency(GBP)
        .await
        .unwrap();
    assert_eq!(session.configurations().base_currency().await.unwrap(), GBP);
    let error = rates().convert(money("8 EUR"), JPY, on).await.unwrap_err();
    assert_eq!(error.code(), "missing_rate");
    let key = "currency";
    let mut settings = session.configurations();
    settings
        .remove(ConfigCategory::BusinessRules, key)
        .await
        .unwrap();
    let own = session.tenant().unwrap();
    let change = |tenant: &mut Tenant| tenant.currency = USD;
    session
        .records::<Tenant>()
        .update(own, change)
        .await
        .unwrap();
    assert_eq!(session.configurations().base_currency().await.unwrap(), USD);
    assert!(rates().convert(money("8 EUR"), JPY, on).await.is_ok());
}

#[tokio::test]
async fn a_rate_set_again_takes_the_place_of_the_first() {
    let (_, session) = tenant(&crm(), "acme").await;
    set(&session, EUR, USD, "2026-01-01", "1.25").await;
    let today = day("2026-01-01");
    let old = session
        .exchange_rates()
        .convert(money("1 EUR"), USD, today)
        .await;
    assert_eq!(old.unwrap().money, money("1.25 USD"));
    set(&session, EUR, USD, "2026-01-01", "1.5").await;
    assert_eq!(rows_of(&session, "exchange_rate").await.len(), 1);
    let new = session
        .exchange_rates()
        .convert(money("1 EUR"), USD, today)
        .await;
    assert_eq!(new.unwrap().money, money("1.50 USD"));
    // Two for one day are refused, whichever way they come.
    let twin = ExchangeRate::new(EUR, USD, today, number("2"));
    let error = session.exchange_rates().create(twin).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
    // A deleted rate counts no more, also today's, which is remembered.
    let today = session.engine().clock().now().date_naive();
    let rate = session
        .exchange_rates()
        .rate_on(EUR, USD, today)
        .await
        .unwrap();
    assert_eq!(rate.date, day("2026-01-01"));
    let stored = session.exchange_rates().list(EUR, USD).await.unwrap();
    session.exchange_rates().delete(stored[0].id).await.unwrap();
    let error = session
        .exchange_rates()
        .rate_on(EUR, USD, today)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "missing_rate");
}

#[tokio::test]
async fn what_is_no_rate_is_refused_with_every_fault() {
    let (_, session) = tenant(&crm(), "acme").await;
    let on = day("2026-01-01");
    let rates = || session.exchange_rates();
    for (to, rate, paths) in [
        (USD, "0", vec!["rate"]),
        (USD, "-1", vec!["rate"]),
        (USD, "1.00000000001", vec!["rate"]),
        (USD, "1000000000000", vec!["rate"]),
        (EUR, "0", vec!["rate", "to_currency"]),
    ] {
        let error = rates()
            .set(EUR, to, on, number(rate), None)
            .await
            .unwrap_err();
        let mut faulty: Vec<_> = error
            .field_errors()
            .iter()
            .map(|fault| fault.path.as_str())
            .collect();
        faulty.sort_unstable();
        faulty.dedup();
        assert_eq!(faulty, paths, "{rate}");
    }
    for rate in ["0.0000000001", "999999999999.9999999999"] {
        let stored = rates().set(EUR, USD, on, number(rate), None).await.unwrap();
        let read = rates().get(stored.id).await.unwrap();
        assert_eq!(read.rate, number(rate));
        let there = rates().rate_on(EUR, USD, on).await.unwrap();
        assert_eq!(there.rate, number(rate));
        assert!(rates().rate_on(USD, EUR, on).await.unwrap().rate > Decimal::ZERO);
    }
    let body = json!({
        "from_currency": "EUR", "to_currency": "XXXX", "effective_date": "2026-13-01", "rate": "a",
    });
    let error = rates()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors().len(), 3);
}

#[tokio::test]
async fn rates_staged_in_a_unit_of_work_count_there() {
    let (_, session) = tenant(&crm(), "acme").await;
    set(&session, EUR, USD, "2026-01-01", "1.25").await;
    let today = session.engine().clock().now().date_naive();
    let mut work = session.begin();
    work.exchange_rates()
        .set(EUR, USD, today, number("1.5"), None)
        .await
        .unwrap();
    let staged = work
        .exchange_rates()
        .rate_on(EUR, USD, today)
        .await
        .unwrap();
    assert_eq!(staged.rate, number("1.5"));
    drop(work);
    let stored = session
        .exchange_rates()
        .rate_on(EUR, USD, today)
        .await
        .unwrap();
    assert_eq!(stored.rate, number("1.25"));
}

/// Two that set the first rate of a day at the same time leave one rate.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_set_twice_at_once_is_one_rate() {
    let (_, session) = tenant(&crm(), "acme").await;
    let tasks = (1..=8).map(|number| {
        let session = session.clone();
        tokio::spawn(async move {
            let rate = Decimal::from(number);
            session
                .exchange_rates()
                .set(EUR, USD, day("2026-01-01"), rate, None)
                .await
                .unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(rows_of(&session, "exchange_rate").await.len(), 1);
}

/// A deal of the pipeline's first stage.
async fn deal(session: &Session, pipeline: Id<Pipeline>, worth: &str) -> Id<Deal> {
    let worth = money(worth);
    let deal = Deal {
        amount: Some(worth.amount()),
        currency: worth.currency(),
        ..Deal::new("Rollout", pipeline)
    };
    session.deals().create(deal).await.unwrap().id
}

fn lock(deal: &Deal) -> Option<(Currency, Decimal, NaiveDate, Option<Decimal>)> {
    Some((
        deal.locked_currency?,
        deal.locked_rate?,
        deal.locked_rate_date?,
        deal.locked_amount,
    ))
}

/// The rate of the closing day is locked, and later rates change nothing.
#[tokio::test]
async fn the_rate_is_locked_when_a_deal_closes() {
    let (onboarded, session) = tenant(&crm(), "acme").await;
    let deals = || session.deals();
    set(&session, EUR, USD, "2020-01-01", "1.25").await;
    set(&session, EUR, USD, "2020-06-01", "1.5").await;
    let id = deal(&session, onboarded.pipeline, "100 EUR").await;
    assert_eq!(lock(&deals().get(id).await.unwrap()), None);

    let won = deals().win(id).await.unwrap();
    let today = Some((USD, number("1.5"), day("2020-06-01"), Some(150.into())));
    assert_eq!(lock(&won), today);
    set(&session, EUR, USD, "2020-06-01", "3").await;
    session
        .configurations()
        .set_base_currency(GBP)
        .await
        .unwrap();
    let renamed = deals().update(id, |deal| deal.name = "Pilot".into()).await;
    assert_eq!(lock(&renamed.unwrap()), today);
    session
        .configurations()
        .set_base_currency(USD)
        .await
        .unwrap();
    // The amount is put right: by the same rate.
    let dearer = deals()
        .update(id, |deal| deal.amount = Some(200.into()))
        .await;
    assert_eq!(
        lock(&dearer.unwrap()),
        Some((USD, number("1.5"), day("2020-06-01"), Some(300.into())))
    );
    // The day is put right: by the rate of that day.
    let earlier = deals()
        .update(id, |deal| deal.actual_close_date = Some(day("2020-03-01")))
        .await
        .unwrap();
    assert_eq!(
        lock(&earlier),
        Some((USD, number("1.25"), day("2020-01-01"), Some(250.into())))
    );
    // From won to lost is not closing again.
    let lost = deals().lose(id, "budget").await.unwrap();
    assert_eq!(lock(&lost), lock(&earlier));
    let open = deals().reopen(id, None).await.unwrap();
    assert_eq!(lock(&open), None);
    assert_eq!(open.locked_rate_date, None);
    let again = deals().win(id).await.unwrap();
    assert_eq!(
        lock(&again),
        Some((USD, number("3"), day("2020-06-01"), Some(600.into())))
    );

    // In the base currency the rate is one.
    let own = deal(&session, onboarded.pipeline, "7 USD").await;
    let own = deals().win(own).await.unwrap();
    assert_eq!(
        lock(&own),
        Some((
            USD,
            Decimal::ONE,
            own.actual_close_date.unwrap(),
            Some(7.into())
        ))
    );
    // Nobody writes it by hand.
    let error = deals()
        .update(id, |deal| deal.locked_rate = Some(9.into()))
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
    common::assert_trail_tells_every_record(&session).await;
}

/// Without a rate a deal closes all the same, and tells that it has none until it is locked.
#[tokio::test]
async fn a_deal_closes_without_a_rate_and_shows_it() {
    let (onboarded, session) = tenant(&crm(), "acme").await;
    let deals = || session.deals();
    let id = deal(&session, onboarded.pipeline, "100 EUR").await;
    assert_eq!(
        deals().lock_rate(id).await.unwrap_err().code(),
        "not_closed"
    );
    let won = deals().win(id).await.unwrap();
    assert_eq!((won.status, lock(&won)), (DealStatus::Won, None));
    let unlocked = Deal::STATUS
        .eq(DealStatus::Won)
        .and(Deal::LOCKED_RATE.is_null());
    assert_eq!(deals().count(unlocked).await.unwrap(), 1);
    let error = deals().lock_rate(id).await.unwrap_err();
    assert_eq!(error.code(), "missing_rate");
    assert!(error.to_string().contains("from EUR to USD"));

    set(&session, USD, EUR, "2020-01-01", "0.8").await;
    assert_eq!(lock(&deals().get(id).await.unwrap()), None);
    let locked = deals().lock_rate(id).await.unwrap();
    assert_eq!(
        lock(&locked),
        Some((USD, number("1.25"), day("2020-01-01"), Some(125.into())))
    );
    // Without an amount there is a rate, and a worth with the amount.
    let bare = session
        .deals()
        .create(Deal {
            currency: EUR,
            ..Deal::new("Bare", onboarded.pipeline)
        })
        .await
        .unwrap();
    let bare = deals().win(bare.id).await.unwrap();
    assert_eq!(
        (bare.locked_rate, bare.locked_amount),
        (Some(number("1.25")), None)
    );
    let filled = deals()
        .update(bare.id, |deal| deal.amount = Some(8.into()))
        .await;
    assert_eq!(filled.unwrap().locked_amount, Some(10.into()));
}

/// sums are by currency, or in one with every rate named; closed deals keep theirs.
#[tokio::test]
async fn deals_are_summed_by_currency_or_with_rates_named() {
    let (onboarded, session) = tenant(&crm(), "acme").await;
    let deals = || session.deals();
    let pipeline = onboarded.pipeline;
    set(&session, EUR, USD, "2020-01-01", "1.25").await;
    let first = deal(&session, pipeline, "100 EUR").await;
    deals().win(first).await.unwrap();
    set(&session, EUR, USD, "2020-02-01", "1.5").await;
    let second = deal(&session, pipeline, "10 EUR").await;
    deals().win(second).await.unwrap();
    let third = deal(&session, pipeline, "20 EUR").await;
    deals().win(third).await.unwrap();
    deal(&session, pipeline, "40 EUR").await;
    deal(&session, pipeline, "5 USD").await;
    deals().create(Deal::new("Bare", pipeline)).await.unwrap();
    set(&session, EUR, USD, "2020-03-01", "2").await;

    let all = || Deal::PIPELINE_ID.eq(pipeline);
    let totals = deals().total(all()).await.unwrap();
    assert_eq!(totals.count, 6);
    assert_eq!(totals.amounts.to_string(), "170.00 EUR, 5.00 USD");

    let on = day("2020-03-01");
    let dollars = deals().total_in(all(), USD, on).await.unwrap();
    assert_eq!((dollars.count, &dollars.amounts), (6, &totals.amounts));
    // 100 at 1.25, 30 at 1.5, 40 at 2, and 5.
    assert_eq!(dollars.converted.total, money("255 USD"));
    let named: Vec<_> = dollars
        .converted
        .parts
        .iter()
        .map(|part| (part.from.to_string(), part.rate.to_string(), part.via))
        .collect();
    let wanted = [
        ("100.00 EUR", "1.25", Via::Locked),
        ("30.00 EUR", "1.5", Via::Locked),
        ("40.00 EUR", "2", Via::Direct),
        ("5.00 USD", "1", Via::Same),
    ];
    assert_eq!(
        named,
        wanted.map(|(from, rate, via)| (from.to_owned(), rate.to_owned(), via))
    );
    // Open deals by the rate of another day, closed ones as before.
    let earlier = deals()
        .total_in(all(), USD, day("2020-01-15"))
        .await
        .unwrap();
    assert_eq!(earlier.converted.total, money("225 USD"));
    let won = Deal::STATUS.eq(DealStatus::Won);
    let won = deals().total_in(won, EUR, on).await.unwrap();
    assert_eq!(
        won.converted.total,
        money("130 EUR"),
        "what is in euros is told as it is"
    );
    let error = deals().total_in(all(), JPY, on).await.unwrap_err();
    assert_eq!(error.code(), "missing_rate");
    // Custom fields serve like others.
    let in_north = |deal: &mut Deal| deal.custom_fields = json!({"region": "north"});
    deals().update(second, in_north).await.unwrap();
    let north = Filter::eq("custom_fields.region", "north");
    let north = deals().total_in(north, USD, on).await.unwrap();
    assert_eq!(north.converted.total, money("15 USD"));
    // An empty sum is one.
    let nothing = deals()
        .total_in(Deal::NAME.eq("nobody"), JPY, on)
        .await
        .unwrap();
    assert_eq!(
        (nothing.count, nothing.converted.total),
        (0, money("0 JPY"))
    );
    // Uncommitted deals count in their unit of work.
    let mut work = session.begin();
    let staged = Deal {
        amount: Some(1.into()),
        ..Deal::new("Staged", pipeline)
    };
    work.deals().create(staged).await.unwrap();
    let staged = work.deals().total_in(all(), USD, on).await.unwrap();
    assert_eq!(staged.converted.total, money("256 USD"));
}
