//! exchange rates by day, conversions that name their rate, and the rate that a deal keeps
//! when it is closed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod common;

use chrono::NaiveDate;
use common::{crm, rows_of, tenant};
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
