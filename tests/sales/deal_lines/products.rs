//! Lines that copy their product, and prices in several currencies.

use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{EUR, JPY, Shop, USD, fault, faults, number};
use crate::common::rows_of;

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
