//! C-013, C-209, R-040, R-041, R-085: products and their prices, lines of deals, their totals, and
//! the amount of a deal that follows its lines, whichever way they are written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod amounts;
mod concurrency;
mod life;
mod products;
mod properties;

use std::sync::Arc;

use crm_engine::prelude::*;
use rust_decimal::Decimal;

use crate::common::{crm, tenant};

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
