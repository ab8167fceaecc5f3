//! Formulas: what an expression gives for a lead, over the same computation by hand.

use std::hint::black_box;
use std::time::Duration;

use chrono::DateTime;
use crm_engine::Stamp;
use crm_engine::expression::{Context, Expression, ObjectScope, RowValues, Typed};
use crm_engine::leads::InterestLevel;
use crm_engine::prelude::*;
use crm_engine::schema::{Meta, Registry, Value};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};
use crate::scoring::random_lead;

/// How many leads are computed with; few enough to stay in the processor's cache.
const LEADS: usize = 256;

fn leads() -> Vec<Record<Lead>> {
    let mut places = Places(0x5EED);
    let lead = |number: usize| {
        let at = DateTime::UNIX_EPOCH;
        let by = Actor::System;
        let meta = Meta::first(Uuid::from_u128(number as u128 + 1), Stamp { at, by });
        Record::new(meta, random_lead(&mut places))
    };
    (0..LEADS).map(lead).collect()
}

fn typed(source: &str) -> Typed {
    let registry = Registry::default();
    let scope = ObjectScope::new(Lead::schema(), &registry);
    Expression::parse(source).unwrap().check(&scope).unwrap()
}

fn each(
    leads: &[Record<Lead>],
    places: &mut Places,
    count: usize,
    one: impl Fn(&Record<Lead>),
) -> Duration {
    let chosen: Vec<usize> = (0..count).map(|_| places.next(LEADS)).collect();
    timed(|| {
        for place in chosen {
            one(black_box(&leads[place]));
        }
    })
}

/// A number of four operations: two products, a sum and a difference.
pub(crate) fn formula(options: &Options) -> Medians {
    let formula = typed("annual_revenue * 0.05 + employee_count * 12.5 - 1000");
    let context = Context::at(DateTime::UNIX_EPOCH, TimeZone::UTC);
    let (rate, staff) = (Decimal::new(5, 2), Decimal::new(125, 1));
    let less = Decimal::from(1_000);
    let by_hand = |lead: &Record<Lead>| -> Option<Decimal> {
        let revenue = lead.annual_revenue?.checked_mul(rate)?;
        let staff = Decimal::from(lead.employee_count?).checked_mul(staff)?;
        revenue.checked_add(staff)?.checked_sub(less)
    };
    let leads = leads();
    for lead in &leads {
        let values = RowValues::new(lead);
        let value = formula.evaluate(&values, &context).unwrap();
        assert_eq!(value.into_value(), Value::Decimal(by_hand(lead).unwrap()));
    }
    let (mut one, mut other) = (Places(0x5EED), Places(0x5EED));
    options.measure(
        |count| {
            each(&leads, &mut one, count, |lead| {
                let values = RowValues::new(lead);
                black_box(formula.evaluate(&values, &context).is_ok());
            })
        },
        |count| {
            each(&leads, &mut other, count, |lead| {
                black_box(by_hand(lead));
            })
        },
    )
}

/// A rule of four conditions: over a number, a text, a truth and an amount.
pub(crate) fn formula_rule(options: &Options) -> Medians {
    let rule = typed(
        "employee_count > 100 and interest_level != 'low' and (decision_maker or industry = 'retail')",
    );
    let context = Context::at(DateTime::UNIX_EPOCH, TimeZone::UTC);
    let by_hand = |lead: &Record<Lead>| {
        lead.employee_count.is_some_and(|staff| staff > 100)
            && lead.interest_level != InterestLevel::Low
            && (lead.decision_maker || lead.industry.as_deref() == Some("retail"))
    };
    let leads = leads();
    for lead in &leads {
        let answer = rule.decide(&RowValues::new(lead), &context).unwrap();
        assert_eq!(answer == Some(true), by_hand(lead));
    }
    let (mut one, mut other) = (Places(0x5EED), Places(0x5EED));
    options.measure(
        |count| {
            each(&leads, &mut one, count, |lead| {
                black_box(rule.decide(&RowValues::new(lead), &context).ok());
            })
        },
        |count| {
            each(&leads, &mut other, count, |lead| {
                black_box(by_hand(lead));
            })
        },
    )
}
