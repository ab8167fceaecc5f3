//! Amounts, discounts and totals: what the lines say, the deal says.

use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::imports::ImportMode;
use crm_engine::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

use super::{EUR, Shop, USD, fault, faults, free, number};
use crate::common::assert_trail_tells_every_record;

/// C-013: lines are added, changed and taken off, and the amount of the deal follows.
#[tokio::test]
async fn the_amount_follows_the_lines() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    let deals = || shop.session.deals();
    deals()
        .update(deal, |deal| deal.amount = Some(7.into()))
        .await
        .unwrap();
    let one = shop.line(deal, "3", "19.9950").await;
    assert_eq!(
        one.line_total,
        number("59.98"),
        "rounded once, half to even"
    );
    assert_eq!((one.position, one.currency), (1, USD));
    assert_eq!(shop.amount(deal).await, Some(number("59.98")));
    let two = shop.line(deal, "0.5", "80").await;
    assert_eq!(two.position, 2);
    assert_eq!(shop.amount(deal).await, Some(number("99.98")));

    let changed = deals()
        .update_line(one.id, |line| line.quantity = 1.into())
        .await
        .unwrap();
    assert_eq!(changed.line_total, number("20"));
    assert_eq!(shop.amount(deal).await, Some(number("60")));
    // A change that the total does not hang on is none of the deal.
    let version = deals().get(deal).await.unwrap().version;
    deals()
        .update_line(one.id, |line| line.description = Some("first".into()))
        .await
        .unwrap();
    assert_eq!(deals().get(deal).await.unwrap().version, version);

    deals().remove_line(one.id).await.unwrap();
    assert_eq!(shop.amount(deal).await, Some(number("40")));
    assert_eq!(shop.places(deal).await, [(2, two.id)]);
    // The last one taken off leaves the amount, which is free then.
    deals().remove_line(two.id).await.unwrap();
    assert_eq!(shop.amount(deal).await, Some(number("40")));
    deals()
        .update(deal, |deal| deal.amount = None)
        .await
        .unwrap();
    // What is restored counts again.
    shop.session
        .records::<DealLine>()
        .restore(two.id)
        .await
        .unwrap();
    assert_eq!(shop.amount(deal).await, Some(number("40")));
    assert_trail_tells_every_record(&shop.session).await;
}

/// one stated kind of discount, or both in the stated order.
#[tokio::test]
async fn discounts_are_of_the_stated_kind() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    let deals = || shop.session.deals();
    let tenth = Percent::from_whole(10).ok();
    let line = |kind, percent, amount: Option<i64>| DealLine {
        discount_kind: kind,
        discount_percent: percent,
        discount_amount: amount.map(Decimal::from),
        ..free(deal, "2", "50")
    };
    for (line, total) in [
        (line(DiscountKind::None, None, None), 100),
        (line(DiscountKind::Percent, tenth, None), 90),
        (line(DiscountKind::Amount, None, Some(15)), 85),
        (line(DiscountKind::PercentThenAmount, tenth, Some(15)), 75),
        (line(DiscountKind::PercentThenAmount, tenth, Some(90)), 0),
    ] {
        let added = deals().add_line(line).await.unwrap();
        assert_eq!(added.line_total, total.into());
    }
    assert_eq!(shop.amount(deal).await, Some(350.into()));
    let wrong = [
        (
            line(DiscountKind::None, tenth, Some(1)),
            vec![
                ("discount_amount", "inconsistent"),
                ("discount_percent", "inconsistent"),
            ],
        ),
        (
            line(DiscountKind::Percent, None, Some(1)),
            vec![
                ("discount_amount", "inconsistent"),
                ("discount_percent", "required"),
            ],
        ),
        (
            line(DiscountKind::PercentThenAmount, None, None),
            vec![
                ("discount_amount", "required"),
                ("discount_percent", "required"),
            ],
        ),
        (
            line(DiscountKind::Amount, None, Some(101)),
            vec![("discount_amount", "out_of_range")],
        ),
        (
            line(DiscountKind::Amount, None, Some(-1)),
            vec![("discount_amount", "out_of_range")],
        ),
    ];
    for (line, wanted) in wrong {
        let error = deals().add_line(line).await.unwrap_err();
        let wanted: Vec<_> = wanted
            .into_iter()
            .map(|(path, code)| (path.to_owned(), code))
            .collect();
        assert_eq!(faults(&error), wanted);
    }
    // All faults of a line at once, and none of them written.
    let error = deals()
        .add_line(DealLine {
            product_name: None,
            ..free(deal, "0", "-1")
        })
        .await
        .unwrap_err();
    let paths: Vec<_> = faults(&error).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["product_name", "quantity", "unit_price"]);
    assert_eq!(shop.places(deal).await.len(), 5);
}

/// totals have the minor units of the deal's currency, and extremes are faults.
#[tokio::test]
async fn totals_are_in_minor_units_of_the_deals_currency() {
    let shop = Shop::new().await;
    for (currency, total) in [
        ("JPY", "4"),
        ("KWD", "3.704"),
        ("EUR", "3.70"),
        ("CLF", "3.7035"),
    ] {
        let deal = shop.deal(Currency::parse(currency).unwrap()).await;
        let line = shop.line(deal, "3", "1.2345").await;
        assert_eq!(line.line_total, number(total), "{currency}");
        assert_eq!(line.currency.code(), currency);
        assert_eq!(shop.amount(deal).await, Some(number(total)));
    }
    let deal = shop.deal(USD).await;
    let most = "999999999999999";
    for (quantity, price) in [("99999999999", most), ("2", most)] {
        let line = free(deal, quantity, price);
        let error = shop.session.deals().add_line(line).await.unwrap_err();
        assert_eq!(faults(&error), fault("line_total", "out_of_range"));
    }
    shop.line(deal, "1", most).await;
    let error = shop.session.deals().add_line(free(deal, "1", "1")).await;
    assert_eq!(faults(&error.unwrap_err()), fault("amount", "out_of_range"));
    assert_eq!(shop.places(deal).await.len(), 1);
    // Only the engine writes what follows.
    let mut forged = free(deal, "1", "1");
    forged.line_total = 5.into();
    forged.currency = EUR;
    let error = shop.session.records::<DealLine>().create(forged).await;
    let read_only = |path: &str| (path.to_owned(), "read_only");
    assert_eq!(
        faults(&error.unwrap_err()),
        [read_only("currency"), read_only("line_total")]
    );
}

/// an amount that contradicts the lines is refused on every path, with what it would have to
/// be.
#[tokio::test]
async fn a_contradicting_amount_is_refused_on_every_path() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    shop.line(deal, "4", "25").await;
    let deals = || shop.session.deals();
    let version = deals().get(deal).await.unwrap().version;
    let patch =
        |amount: serde_json::Value| json!({ "amount": amount }).as_object().unwrap().clone();
    let wrong = || number("100.02");

    let mut errors = Vec::new();
    errors.push(
        deals()
            .update(deal, |deal| deal.amount = Some(wrong()))
            .await
            .unwrap_err(),
    );
    errors.push(
        deals()
            .update(deal, |deal| deal.amount = None)
            .await
            .unwrap_err(),
    );
    errors.push(
        deals()
            .merge(deal, version, &patch(json!("99.98")))
            .await
            .unwrap_err(),
    );
    errors.push(
        deals()
            .merge(deal, version, &patch(json!(null)))
            .await
            .unwrap_err(),
    );
    let mut by_name = shop.session.object("deal").await.unwrap();
    errors.push(
        by_name
            .merge(deal.uuid(), version, &patch(json!(1)))
            .await
            .unwrap_err(),
    );
    let record = deals().get(deal).await.unwrap();
    errors.push(
        deals()
            .update_record(&record, |deal| deal.amount = Some(wrong()))
            .await
            .unwrap_err(),
    );
    let mut work = shop.session.begin();
    work.accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    errors.push(
        work.deals()
            .update(deal, |deal| deal.amount = Some(wrong()))
            .await
            .unwrap_err(),
    );
    // A line that is not committed yet counts too.
    work.deals().add_line(free(deal, "1", "50")).await.unwrap();
    let error = work
        .deals()
        .update(deal, |deal| deal.amount = Some(149.into()))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), fault("amount", "inconsistent"));
    work.deals()
        .update(deal, |deal| deal.amount = Some(150.into()))
        .await
        .unwrap();
    drop(work);
    for error in errors {
        assert_eq!(faults(&error), fault("amount", "inconsistent"));
        let expected = &error.field_errors()[0].params["expected"];
        assert_eq!(expected.to_json(), json!("100"));
    }
    // An import.
    deals()
        .update(deal, |deal| deal.name = "Pilot".into())
        .await
        .unwrap();
    let source = Source::bytes("deals.csv", b"name,amount\nPilot,7\n".to_vec());
    let mapping = Mapping::new("deal")
        .column("name", "name")
        .column("amount", "amount");
    let import = Import {
        mode: ImportMode::Update,
        keys: vec!["name".into()],
        ..Import::new(mapping)
    };
    let job = shop.session.import().start(&source, &import).await.unwrap();
    let done = shop.session.import().run(job.id, &source, &()).await;
    assert_eq!(done.unwrap().counts.failed_rows, 1);
    assert_eq!(shop.amount(deal).await, Some(100.into()));

    // One hundredth is near enough, and the next change of a line puts it right.
    for near in ["100.01", "99.99"] {
        let set = |deal: &mut Deal| deal.amount = Some(number(near));
        assert_eq!(
            deals().update(deal, set).await.unwrap().amount,
            Some(number(near))
        );
    }
    let line = shop.line(deal, "1", "1").await;
    assert_eq!(shop.amount(deal).await, Some(101.into()));
    // Lines that come to nothing leave the amount free.
    let gift = shop.deal(USD).await;
    shop.line(gift, "1", "0").await;
    let set = |deal: &mut Deal| deal.amount = Some(5.into());
    deals().update(gift, set).await.unwrap();
    assert_eq!(shop.amount(gift).await, Some(5.into()));

    // lines keep the deal's currency.
    let error = deals()
        .update(deal, |deal| deal.currency = EUR)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), fault("currency", "inconsistent"));
    let other = shop.deal(EUR).await;
    let error = deals()
        .update_line(line.id, |line| line.deal_id = other)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), fault("deal_id", "inconsistent"));
    // Taken off, a line does not come back into another currency.
    let lonely = shop.deal(USD).await;
    let line = shop.line(lonely, "1", "1").await;
    deals().remove_line(line.id).await.unwrap();
    deals()
        .update(lonely, |deal| deal.currency = EUR)
        .await
        .unwrap();
    let error = shop
        .session
        .records::<DealLine>()
        .restore(line.id)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), fault("deal_id", "inconsistent"));
}
