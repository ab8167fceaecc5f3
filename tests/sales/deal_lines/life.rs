//! Lines that are imported, moved, merged, closed, and gone with their deal.

use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{EUR, JPY, Shop, USD, fault, faults, free, number};
use crate::common::{assert_trail_tells_every_record, rows_of};

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
