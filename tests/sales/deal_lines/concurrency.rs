//! Lines and amounts that are written at once.

use std::sync::Arc;

use crm_engine::prelude::*;

use super::{EUR, Shop, USD, faults};

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
