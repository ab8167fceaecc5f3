//! C-013, C-209, R-040, R-041, R-085: products and their prices, lines of deals, their totals, and
//! the amount of a deal that follows its lines, whichever way they are written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::sync::Arc;

use crate::common::{assert_trail_tells_every_record, crm, rows_of, tenant};
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::imports::ImportMode;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

const USD: Currency = Currency::USD;
const EUR: Currency = Currency::EUR;
const JPY: Currency = Currency::JPY;

fn number(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A tenant with a pipeline.
struct Shop {
    session: Session,
    pipeline: Id<Pipeline>,
    stages: Vec<Id<PipelineStage>>,
}

impl Shop {
    async fn new() -> Self {
        let (onboarded, session) = tenant(&crm(), "acme").await;
        Self {
            session,
            pipeline: onboarded.pipeline,
            stages: onboarded.stages,
        }
    }

    async fn deal(&self, currency: Currency) -> Id<Deal> {
        let deal = Deal {
            currency,
            ..Deal::new("Rollout", self.pipeline)
        };
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn product(&self, name: &str, price: &str) -> Id<Product> {
        let product = Product {
            sku: Some(format!("{name}-1")),
            unit_price: Some(number(price)),
            ..Product::new(name)
        };
        self.session.products().create(product).await.unwrap().id
    }

    /// A line without a product.
    async fn line(&self, deal: Id<Deal>, quantity: &str, price: &str) -> Arc<Record<DealLine>> {
        let line = free(deal, quantity, price);
        self.session.deals().add_line(line).await.unwrap()
    }

    async fn amount(&self, deal: Id<Deal>) -> Option<Decimal> {
        self.session.deals().get(deal).await.unwrap().amount
    }

    async fn places(&self, deal: Id<Deal>) -> Vec<(u32, Id<DealLine>)> {
        let lines = self.session.deals().lines(deal).await.unwrap();
        lines.iter().map(|line| (line.position, line.id)).collect()
    }
}

fn free(deal: Id<Deal>, quantity: &str, price: &str) -> DealLine {
    DealLine {
        product_name: Some("Work".into()),
        quantity: number(quantity),
        unit_price: Some(number(price)),
        ..DealLine::new(deal)
    }
}

/// The faults of an error as path and code, sorted.
fn faults(error: &Error) -> Vec<(String, &'static str)> {
    let faults = error.field_errors().iter();
    let mut faults: Vec<_> = faults
        .map(|fault| (fault.path.clone(), fault.code))
        .collect();
    faults.sort();
    faults
}

fn fault(path: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(path.to_owned(), code)]
}

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

/// C-209: lines copy name, code and price at the time, and keep them.
#[tokio::test]
async fn a_line_copies_its_product() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    let licence = shop.product("Licence", "12.3456").await;
    let (deals, products) = (|| shop.session.deals(), || shop.session.products());
    let line = deals()
        .add_line(DealLine {
            quantity: 10.into(),
            ..DealLine::of_product(deal, licence)
        })
        .await
        .unwrap();
    let copied = |line: &DealLine| {
        let name = line.product_name.clone().unwrap();
        (name, line.product_code.clone(), line.unit_price.unwrap())
    };
    let wanted = (
        "Licence".to_owned(),
        Some("Licence-1".to_owned()),
        number("12.3456"),
    );
    assert_eq!(copied(&line), wanted);
    assert_eq!(line.line_total, number("123.46"));
    // What is given counts.
    let own = deals()
        .add_line(DealLine {
            product_name: Some("Licence, special".into()),
            unit_price: Some(1.into()),
            ..DealLine::of_product(deal, licence)
        })
        .await
        .unwrap();
    assert_eq!(
        copied(&own),
        ("Licence, special".to_owned(), None, 1.into())
    );

    products()
        .update(licence, |product| {
            product.name = "Subscription".into();
            product.unit_price = Some(99.into());
            product.is_active = false;
        })
        .await
        .unwrap();
    let changed = deals()
        .update_line(line.id, |line| line.quantity = 2.into())
        .await
        .unwrap();
    assert_eq!(copied(&changed), wanted);
    assert_eq!(changed.line_total, number("24.69"));
    // Out of use, and later archived: not on new lines.
    for step in ["inactive", "archived"] {
        let error = deals()
            .add_line(DealLine::of_product(deal, licence))
            .await
            .unwrap_err();
        assert_eq!(
            faults(&error),
            fault("product_id", "inconsistent"),
            "{step}"
        );
        let error = deals()
            .update_line(own.id, |line| line.product_id = Some(Id::new(Uuid::nil())))
            .await
            .unwrap_err();
        assert_eq!(faults(&error), fault("product_id", "not_found"));
        products()
            .update(licence, |product| product.is_active = true)
            .await
            .unwrap();
        products().archive(licence).await.unwrap();
    }
    // Another product takes its place, with its own name and price.
    let support = shop.product("Support", "5").await;
    let other = deals()
        .update_line(line.id, |line| line.product_id = Some(support))
        .await
        .unwrap();
    assert_eq!(
        copied(&other),
        ("Support".to_owned(), Some("Support-1".to_owned()), 5.into())
    );
    assert_eq!(shop.amount(deal).await, Some(11.into()));
    // A patch empties what shall be copied anew.
    let patch = json!({
        "product_id": licence, "product_name": null, "product_code": null, "unit_price": "2",
    });
    let refused = shop
        .session
        .records::<DealLine>()
        .merge(line.id, other.version, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&refused), fault("product_id", "inconsistent"));
    products().unarchive(licence).await.unwrap();
    let patched = shop
        .session
        .records::<DealLine>()
        .merge(line.id, other.version, patch.as_object().unwrap())
        .await
        .unwrap();
    let code = Some("Licence-1".to_owned());
    assert_eq!(
        copied(&patched),
        ("Subscription".to_owned(), code, 2.into())
    );
    let back = |line: &mut DealLine| line.product_id = Some(support);
    let other = deals().update_line(line.id, back).await.unwrap();
    // A deleted product leaves its lines as they are.
    products().delete(support).await.unwrap();
    let kept = shop
        .session
        .records::<DealLine>()
        .get(line.id)
        .await
        .unwrap();
    assert_eq!((kept.product_id, copied(&kept)), (None, copied(&other)));
    assert_eq!(shop.amount(deal).await, Some(11.into()));
}

/// C-209: prices in several currencies, and codes that are unique.
#[tokio::test]
async fn products_have_prices_in_several_currencies() {
    let shop = Shop::new().await;
    let licence = shop.product("Licence", "100").await;
    let products = || shop.session.products();
    let twin = Product {
        sku: Some("LICENCE-1".into()),
        ..Product::new("Twin")
    };
    let error = products().create(twin.clone()).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");

    let deal = shop.deal(EUR).await;
    let line = || DealLine::of_product(deal, licence);
    let error = shop.session.deals().add_line(line()).await.unwrap_err();
    assert_eq!(faults(&error), fault("unit_price", "required"));
    for amount in ["80 EUR", "90 EUR", "110 USD"] {
        let price = amount.parse().unwrap();
        products().set_price(licence, price).await.unwrap();
    }
    assert_eq!(products().prices(licence).await.unwrap().len(), 1);
    for (currency, wanted) in [
        (EUR, Some("90.00 EUR")),
        (USD, Some("110.00 USD")),
        (JPY, None),
    ] {
        let price = products().price_in(licence, currency).await.unwrap();
        assert_eq!(price.map(|price| price.to_string()).as_deref(), wanted);
    }
    let added = shop.session.deals().add_line(line()).await.unwrap();
    assert_eq!((added.unit_price, added.currency), (Some(90.into()), EUR));
    let error = products()
        .set_price(licence, "-1 EUR".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&error), fault("unit_price", "out_of_range"));
    // A deleted product gives its code free, and its prices go with it.
    products().delete(licence).await.unwrap();
    products().create(twin).await.unwrap();
    let prices = rows_of(&shop.session, "product_price").await;
    assert!(prices.iter().all(|price| price.is_deleted()));
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

/// C-013: lines imported from a file, some at fault, some out of order.
#[tokio::test]
async fn lines_are_imported() {
    let shop = Shop::new().await;
    let (one, two) = (shop.deal(USD).await, shop.deal(JPY).await);
    let licence = shop.product("Licence", "2.50").await;
    let csv = format!(
        "deal,product,name,quantity,price\n\
         {one},{licence},,4,\n\
         {two},,Work,3,99.5\n\
         {one},,Work,0,1\n\
         {one},,Travel,1,5.25\n",
        one = one.uuid(),
        two = two.uuid(),
        licence = licence.uuid(),
    );
    let mapping = Mapping::new("deal_line")
        .column("deal", "deal_id")
        .column("product", "product_id")
        .column("name", "product_name")
        .column("quantity", "quantity")
        .column("price", "unit_price");
    let source = Source::bytes("lines.csv", csv.into_bytes());
    let import = shop.session.import();
    let job = import.start(&source, &Import::new(mapping)).await.unwrap();
    import.run(job.id, &source, &()).await.unwrap();
    assert_eq!(shop.amount(one).await, Some(number("15.25")));
    assert_eq!(shop.amount(two).await, Some(298.into()));
    let places: Vec<_> = shop
        .places(one)
        .await
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(places, [1, 2]);
}

/// C-013: a deal with all its lines in one commit; lines go where their deal goes.
#[tokio::test]
async fn lines_go_with_their_deal() {
    let shop = Shop::new().await;
    let mut work = shop.session.begin();
    let deal = work
        .deals()
        .create(Deal::new("Rollout", shop.pipeline))
        .await
        .unwrap()
        .id;
    let one = work.deals().add_line(free(deal, "1", "10")).await.unwrap();
    let mut second = free(deal, "2", "10");
    second.position = 7;
    let two = work.records::<DealLine>().create(second).await.unwrap();
    let three = work.deals().add_line(free(deal, "3", "10")).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(shop.amount(deal).await, Some(60.into()));
    assert_eq!(
        shop.places(deal).await,
        [(7, two.id), (8, one.id), (9, three.id)]
    );

    let deals = || shop.session.deals();
    deals().remove_line(two.id).await.unwrap();
    deals().delete(deal).await.unwrap();
    assert_eq!(deals().lines(deal).await.unwrap_err().code(), "not_found");
    deals().restore(deal).await.unwrap();
    assert_eq!(shop.amount(deal).await, Some(40.into()));
    assert_eq!(shop.places(deal).await.len(), 2);
    // To another deal in the same currency.
    let other = shop.deal(USD).await;
    deals()
        .update_line(three.id, |line| line.deal_id = other)
        .await
        .unwrap();
    assert_eq!(shop.amount(deal).await, Some(10.into()));
    assert_eq!(shop.amount(other).await, Some(30.into()));
    deals().delete(deal).await.unwrap();
    deals().purge(deal).await.unwrap();
    assert_eq!(rows_of(&shop.session, "deal_line").await.len(), 1);
    let error = deals().add_line(free(deal, "1", "1")).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
    assert_trail_tells_every_record(&shop.session).await;
}

/// C-013: reorder and copy.
#[tokio::test]
async fn lines_are_reordered_and_copied() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    let licence = shop.product("Licence", "10").await;
    let deals = || shop.session.deals();
    let discounted = DealLine {
        discount_kind: DiscountKind::Amount,
        discount_amount: Some(4.into()),
        ..DealLine::of_product(deal, licence)
    };
    let a = deals().add_line(discounted).await.unwrap().id;
    let b = shop.line(deal, "1", "1").await.id;
    let c = shop.line(deal, "2", "1").await.id;
    let ordered = deals().reorder_lines(deal, &[c, a, b]).await.unwrap();
    assert_eq!(
        ordered.iter().map(|line| line.id).collect::<Vec<_>>(),
        [c, a, b]
    );
    assert_eq!(shop.places(deal).await, [(1, c), (2, a), (3, b)]);
    assert_eq!(shop.amount(deal).await, Some(9.into()));
    for wrong in [
        vec![],
        vec![a, b],
        vec![a, b, b],
        vec![a, b, c, c],
        vec![a, b, Id::new(Uuid::nil())],
    ] {
        let error = deals().reorder_lines(deal, &wrong).await.unwrap_err();
        assert_eq!(faults(&error), fault("order", "inconsistent"));
    }

    let other = shop.deal(USD).await;
    shop.line(other, "1", "100").await;
    shop.session
        .products()
        .update(licence, |product| product.unit_price = Some(77.into()))
        .await
        .unwrap();
    let copies = deals().copy_lines(deal, other).await.unwrap();
    assert_eq!(
        copies.iter().map(|line| line.position).collect::<Vec<_>>(),
        [2, 3, 4]
    );
    assert_eq!(
        copies[1].unit_price,
        Some(10.into()),
        "the price of the time"
    );
    assert_eq!(copies[1].line_total, 6.into());
    assert_eq!(shop.amount(other).await, Some(109.into()));
    assert_eq!(shop.amount(deal).await, Some(9.into()));
    // Within one deal they are doubled.
    deals().copy_lines(deal, deal).await.unwrap();
    assert_eq!(shop.amount(deal).await, Some(18.into()));
    let euros = shop.deal(EUR).await;
    let error = deals().copy_lines(deal, euros).await.unwrap_err();
    assert_eq!(faults(&error), fault("to", "inconsistent"));
    assert_eq!(shop.amount(euros).await, None);
}

/// C-021: merged deals have the lines of all, merged products leave lines as they are.
#[tokio::test]
async fn merging_brings_lines_together() {
    let shop = Shop::new().await;
    let deals = || shop.session.deals();
    let (one, two) = (shop.deal(USD).await, shop.deal(USD).await);
    let (licence, support) = (
        shop.product("Licence", "10").await,
        shop.product("Support", "3").await,
    );
    deals()
        .add_line(DealLine::of_product(one, licence))
        .await
        .unwrap();
    let line = deals()
        .add_line(DealLine::of_product(two, support))
        .await
        .unwrap();
    shop.session
        .products()
        .merge_into(licence, &[support], &Choices::new(), None)
        .await
        .unwrap();
    let kept = shop
        .session
        .records::<DealLine>()
        .get(line.id)
        .await
        .unwrap();
    assert_eq!(kept.product_id, Some(licence));
    assert_eq!(
        (kept.product_name.as_deref(), kept.line_total),
        (Some("Support"), 3.into())
    );

    let version = deals().get(one).await.unwrap().version;
    let merged = deals()
        .merge_into(one, &[two], &Choices::new(), None)
        .await
        .unwrap();
    assert!(deals().get(one).await.unwrap().version > version);
    assert_eq!(shop.amount(one).await, Some(13.into()));
    assert_eq!(shop.places(one).await.len(), 2);
    let merges: Vec<_> = merged.merges.clone();
    shop.session.merges().undo(merges[0]).await.unwrap();
    assert_eq!(shop.amount(one).await, Some(10.into()));
    assert_eq!(shop.amount(two).await, Some(3.into()));
}

/// C-013: lines of a closed deal are put right like its amount; the rate that was locked stays.
#[tokio::test]
async fn lines_of_a_closed_deal_are_put_right() {
    let shop = Shop::new().await;
    let deal = shop.deal(EUR).await;
    let rates = || shop.session.exchange_rates();
    let day = "2020-01-01".parse().unwrap();
    rates()
        .set(EUR, USD, day, number("1.25"), None)
        .await
        .unwrap();
    let line = shop.line(deal, "1", "100").await;
    let won = shop.session.deals().win(deal).await.unwrap();
    assert_eq!(won.locked_amount, Some(125.into()));
    rates().set(EUR, USD, day, number("2"), None).await.unwrap();
    shop.session
        .deals()
        .update_line(line.id, |line| line.quantity = 2.into())
        .await
        .unwrap();
    let put_right = shop.session.deals().get(deal).await.unwrap();
    assert_eq!(put_right.amount, Some(200.into()));
    assert_eq!(put_right.locked_amount, Some(250.into()));
    assert_eq!(put_right.locked_rate, Some(number("1.25")));
    let open = shop
        .session
        .deals()
        .move_to(deal, shop.stages[1])
        .await
        .unwrap();
    assert_eq!((open.amount, open.locked_rate), (Some(200.into()), None));
}

/// Custom fields are found by, on products and on lines.
#[tokio::test]
async fn custom_fields_of_products_and_lines_are_found_by() {
    let shop = Shop::new().await;
    let deal = shop.deal(USD).await;
    let product = Product {
        unit_price: Some(1.into()),
        category: Some("Software".into()),
        custom_fields: json!({"family": "core"}),
        ..Product::new("Licence")
    };
    let product = shop.session.products().create(product).await.unwrap().id;
    let line = DealLine {
        custom_fields: json!({"phase": 2}),
        ..DealLine::of_product(deal, product)
    };
    let line = shop.session.deals().add_line(line).await.unwrap();
    let family = Find::new().filter_by_name(Filter::eq("custom_fields.family", "core"));
    let found = shop.session.products().find(family).await.unwrap();
    assert_eq!(found.items[0].id, product);
    let phase = Find::new().filter_by_name(Filter::eq("custom_fields.phase", 2_i64));
    let lines = shop
        .session
        .records::<DealLine>()
        .find(phase)
        .await
        .unwrap();
    assert_eq!(lines.items[0].id, line.id);
    // What was sold of a category, by currency.
    let sold = Aggregate::<DealLine>::new()
        .filter(DealLine::PRODUCT_ID.has(Product::CATEGORY.eq("Software")))
        .group_by(DealLine::CURRENCY)
        .sum(DealLine::LINE_TOTAL);
    let sold = shop
        .session
        .records::<DealLine>()
        .aggregate(sold)
        .await
        .unwrap();
    assert_eq!(sold[0].number(0), Some(1.into()));
}

/// Several who add lines to one deal at once: the amount has all of them, each has its own place.
#[tokio::test(flavor = "multi_thread")]
async fn lines_added_at_once_all_count() {
    let shop = Arc::new(Shop::new().await);
    let deal = shop.deal(USD).await;
    let tasks: Vec<_> = (1..=8)
        .map(|price: i32| {
            let shop = shop.clone();
            tokio::spawn(async move { shop.line(deal, "1", &price.to_string()).await.id })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(shop.amount(deal).await, Some(36.into()));
    let places: Vec<_> = shop
        .places(deal)
        .await
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(places, (1..=8).collect::<Vec<u32>>());
}

/// Whoever sets the amount while a line is added is before it or refused: they never differ.
#[tokio::test(flavor = "multi_thread")]
async fn an_amount_and_a_line_at_once_never_differ() {
    let shop = Arc::new(Shop::new().await);
    for round in 0..8 {
        let deal = shop.deal(USD).await;
        let adds = {
            let shop = shop.clone();
            tokio::spawn(async move { shop.line(deal, "1", "10").await })
        };
        let sets = {
            let shop = shop.clone();
            tokio::spawn(async move {
                let set = |deal: &mut Deal| deal.amount = Some(77.into());
                shop.session.deals().update(deal, set).await.map(|_| ())
            })
        };
        let turns = {
            let shop = shop.clone();
            tokio::spawn(async move {
                let set = |deal: &mut Deal| deal.currency = EUR;
                shop.session.deals().update(deal, set).await.map(|_| ())
            })
        };
        let line = adds.await.unwrap();
        for outcome in [sets.await.unwrap(), turns.await.unwrap()] {
            assert!(outcome.is_ok() || !faults(&outcome.unwrap_err()).is_empty());
        }
        let stored = shop.session.deals().get(deal).await.unwrap();
        assert_eq!(stored.amount, Some(10.into()), "round {round}");
        let line = shop
            .session
            .records::<DealLine>()
            .get(line.id)
            .await
            .unwrap();
        assert_eq!(line.currency, stored.currency, "round {round}");
    }
}

/// One step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Add(usize, i64, i64),
    Change(usize, i64),
    Remove(usize),
    Restore(usize),
    Move(usize, usize),
    Amount(usize, i64),
    Copy(usize, usize),
    Reverse(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 1..500_i64, 0..100_000_i64).prop_map(|(d, q, p)| Step::Add(d, q, p)),
        3 => (0..8_usize, 1..500_i64).prop_map(|(line, q)| Step::Change(line, q)),
        2 => (0..8_usize).prop_map(Step::Remove),
        1 => (0..8_usize).prop_map(Step::Restore),
        1 => (0..8_usize, 0..2_usize).prop_map(|(line, deal)| Step::Move(line, deal)),
        2 => (0..2_usize, 0..1_000_i64).prop_map(|(deal, amount)| Step::Amount(deal, amount)),
        1 => (0..2_usize, 0..2_usize).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => (0..2_usize).prop_map(Step::Reverse),
    ];
    proptest::collection::vec(step, 1..14)
}

/// Takes a step; what is refused changes nothing.
async fn take(shop: &Shop, deals: [Id<Deal>; 2], lines: &mut Vec<Id<DealLine>>, step: Step) {
    let records = || shop.session.deals();
    match step {
        Step::Add(deal, quantity, price) => {
            let line = DealLine {
                quantity: Decimal::new(quantity, 2),
                unit_price: Some(Decimal::new(price, 4)),
                ..free(deals[deal], "1", "1")
            };
            lines.push(records().add_line(line).await.unwrap().id);
        }
        Step::Change(line, quantity) => {
            if let Some(line) = lines.get(line) {
                let set = |line: &mut DealLine| line.quantity = Decimal::new(quantity, 2);
                let _ = records().update_line(*line, set).await;
            }
        }
        Step::Remove(line) => {
            if let Some(line) = lines.get(line) {
                let _ = records().remove_line(*line).await;
            }
        }
        Step::Restore(line) => {
            if let Some(line) = lines.get(line) {
                let _ = shop.session.records::<DealLine>().restore(*line).await;
            }
        }
        Step::Move(line, deal) => {
            if let Some(line) = lines.get(line) {
                let set = |line: &mut DealLine| line.deal_id = deals[deal];
                let _ = records().update_line(*line, set).await;
            }
        }
        Step::Amount(deal, amount) => {
            let set = |deal: &mut Deal| deal.amount = Some(amount.into());
            let _ = records().update(deals[deal], set).await;
        }
        Step::Copy(from, to) => {
            let copies = records().copy_lines(deals[from], deals[to]).await.unwrap();
            lines.extend(copies.iter().map(|line| line.id));
        }
        Step::Reverse(deal) => {
            let mut order: Vec<_> = shop.places(deals[deal]).await;
            order.reverse();
            let order: Vec<_> = order.into_iter().map(|(_, id)| id).collect();
            records().reorder_lines(deals[deal], &order).await.unwrap();
        }
    }
}

/// after any sequence each line has the total of the formula, and each deal the sum of
/// its lines, or is near it.
#[test]
fn totals_equal_lines_after_any_sequence() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    let shop = runtime.block_on(Shop::new());
    runner
        .run(&steps(), |steps| {
            runtime.block_on(async {
                let deals = [shop.deal(USD).await, shop.deal(USD).await];
                let mut known = Vec::new();
                for step in steps {
                    take(&shop, deals, &mut known, step).await;
                    for deal in deals {
                        let lines = shop.session.deals().lines(deal).await.unwrap();
                        let mut sum = Decimal::ZERO;
                        for line in &lines {
                            let exact = line.quantity * line.unit_price.unwrap();
                            prop_assert_eq!(line.line_total, exact.round_dp(2).normalize());
                            sum += line.line_total;
                        }
                        let amount = shop.amount(deal).await.unwrap_or_default();
                        let near = (amount - sum).abs() <= Decimal::new(1, 2);
                        prop_assert!(sum.is_zero() || near, "{amount} for {sum}");
                        prop_assert!(lines.iter().all(|line| line.position > 0));
                    }
                }
                Ok(())
            })
        })
        .unwrap();
}
