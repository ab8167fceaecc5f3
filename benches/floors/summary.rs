//! Deals by stage, in memory: over a loop through the same deals.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::prelude::*;
use crm_engine::schema::{Meta, Row, Value};
use crm_engine::storage::{Change, ChangeSet, Scope, Storage as _};
use crm_engine::{MemoryStorage, Stamp};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::measure::{Medians, Options, timed};
use crate::office::{Office, ready};

/// How many deals are summed up.
pub(crate) const fn deals(options: &Options) -> usize {
    if options.quick { 20_000 } else { 1_000_000 }
}

/// Deals in euros by stage: how many, what they are worth, and what as far as they are probable.
pub(crate) fn by_stage(euro: Currency) -> Aggregate<Deal> {
    Aggregate::<Deal>::new()
        .filter(Deal::CURRENCY.eq(euro))
        .group_by(Deal::STAGE_ID)
        .count()
        .sum(Deal::AMOUNT)
        .weighted_sum(Deal::AMOUNT, Deal::WIN_PROBABILITY)
}

#[derive(Default)]
struct Sums {
    count: i64,
    amount: Decimal,
    weighted: Decimal,
}

fn by_hand(deals: &[Arc<Record<Deal>>], euro: Currency) -> BTreeMap<Uuid, Sums> {
    let mut stages: BTreeMap<Uuid, Sums> = BTreeMap::new();
    for deal in deals {
        if deal.currency != euro || deal.deleted_at.is_some() || deal.archived_at.is_some() {
            continue;
        }
        let sums = stages.entry(deal.stage_id.unwrap().uuid()).or_default();
        sums.count += 1;
        if let Some(amount) = deal.amount {
            sums.amount += amount;
            sums.weighted += amount * deal.win_probability.value();
        }
    }
    for sums in stages.values_mut() {
        sums.weighted *= Decimal::new(1, 2);
    }
    stages
}

/// The deals are put into the storage without the engine, which would write a history of each.
pub(crate) fn mem_summary(options: &Options) -> Medians {
    let storage = MemoryStorage::new();
    let crm = Crm::builder(storage.clone()).build();
    let (office, made) = ready(Office::enter(&crm, "summary"));
    let [euro, dollar]: [Currency; 2] = ["EUR", "USD"].map(|code| code.parse().unwrap());
    let model = Deal {
        amount: Some(1_000.into()),
        owner_id: Some(office.owner),
        ..Deal::new("Rollout", made.pipeline)
    };
    let model = ready(office.session.deals().create(model)).unwrap();
    let scope = Scope::Tenant(made.tenant);
    let now = crm.clock().now();
    let numbers: Vec<usize> = (0..deals(options)).collect();
    let mut copies = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(10_000) {
        let insert = |number: &usize| {
            let mut deal = model.data.clone();
            deal.stage_id = Some(made.stages[number % made.stages.len()]);
            deal.amount = Some(Decimal::from(100 + number % 9_901));
            deal.currency = if number.is_multiple_of(5) {
                dollar
            } else {
                euro
            };
            deal.win_probability = Percent::new(Decimal::from(10 + number % 80)).unwrap();
            let by = Actor::User(office.owner);
            let at = now - TimeDelta::seconds(i64::try_from(*number).unwrap());
            let deal = Record::new(Meta::first(crm.ids().next(at), Stamp { at, by }), deal);
            copies.push(Arc::new(deal.clone()));
            let row: Row = Arc::new(deal);
            Change::Insert { row }
        };
        let changes = some.iter().map(insert).collect();
        let set = ChangeSet::new(crm.ids().next(now), now, changes, Vec::new());
        ready(storage.commit(&scope, &set)).unwrap();
    }
    copies.push(Arc::new(Record::clone(&model)));
    let ours = ready(office.session.deals().aggregate(by_stage(euro))).unwrap();
    let theirs = by_hand(&copies, euro);
    assert_eq!(ours.len(), theirs.len());
    for (ours, (stage, sums)) in ours.iter().zip(theirs) {
        assert_eq!(ours.keys, [Value::Uuid(stage)]);
        let measures = [
            Value::Integer(sums.count),
            Value::Decimal(sums.amount.normalize()),
            Value::Decimal(sums.weighted.normalize()),
        ];
        assert_eq!(ours.measures, measures);
    }
    options.measure_rows(
        1,
        || {
            timed(|| {
                let groups = ready(office.session.deals().aggregate(by_stage(euro)));
                assert_eq!(black_box(groups.unwrap()).len(), 6);
            })
        },
        || {
            timed(|| {
                assert_eq!(black_box(by_hand(&copies, euro)).len(), 6);
            })
        },
    )
}
