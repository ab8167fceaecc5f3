//! What holds for every expression: by examples, and over random sources and values.

mod checking;
mod evaluation;
mod paths;
mod properties;
mod syntax;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::accounts::Account;
use crate::deals::{Deal, DealStatus};
use crate::query::RelatedBy;
use crate::schema::{Entity, FieldSchema, FieldType, Meta, ObjectRef, Registry, Row};
use crate::value::{Currency, Money, TextValue, TimeZone};
use crate::{Actor, Id, Record, Stamp};

/// A field for each type, `.._none` for one without a value.
#[derive(Clone, Debug)]
struct Fields(HashMap<String, Datum<'static>>);

fn type_of(name: &str) -> Option<Type> {
    let name = name.strip_suffix("_none").unwrap_or(name);
    Some(match name {
        "n" | "m" => Type::Number,
        "t" | "s" => Type::Text,
        "b" | "c" => Type::Boolean,
        "d" | "e" => Type::Date,
        "at" | "then" => Type::DateTime,
        "price" | "cost" => Type::Money,
        "labels" => Type::List,
        "ref" => Type::Id,
        _ => return None,
    })
}

impl Scope for Fields {
    fn field(&self, path: &Path) -> Result<Field, PathFault> {
        let name = path.to_string();
        let value_type = type_of(&name).ok_or(PathFault::Unknown {
            at: 0,
            suggestion: None,
        })?;
        Ok(Field {
            is_nullable: name.ends_with("_none"),
            ..Field::new(value_type)
        })
    }
}

impl Values for Fields {
    fn value<'v>(&'v self, dependency: &Dependency) -> Datum<'v> {
        let value = self.0.get(&dependency.path.to_string());
        value.map_or(Datum::Null, Datum::borrowed)
    }
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn moment(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn euros(amount: i64) -> Datum<'static> {
    Datum::Money(Money::new(amount.into(), Currency::EUR))
}

fn fields() -> Fields {
    let labels = vec!["key".to_owned(), "new".to_owned()];
    let fields = [
        ("n", Datum::Number(7.into())),
        ("m", Datum::Number(Decimal::new(25, 1))),
        ("t", Datum::from("Globex")),
        ("s", Datum::from("")),
        ("b", Datum::Boolean(true)),
        ("c", Datum::Boolean(false)),
        ("d", Datum::Date(date("2026-01-31"))),
        ("e", Datum::Date(date("2026-03-01"))),
        ("at", Datum::DateTime(moment("2026-01-31T23:30:00Z"))),
        ("then", Datum::DateTime(moment("2026-02-01T00:00:00Z"))),
        ("price", euros(100)),
        ("cost", euros(40)),
        ("labels", Datum::List(labels.into())),
        ("ref", Datum::Id(Uuid::from_u128(7))),
    ];
    Fields(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn context() -> Context {
    let zone = TimeZone::parse("Europe/Berlin").unwrap();
    Context::at(moment("2026-03-31T20:30:00Z"), zone)
}

fn typed(source: &str) -> Typed {
    let expression = Expression::parse(source).unwrap_or_else(|fault| panic!("{source}: {fault}"));
    expression
        .check(&fields())
        .unwrap_or_else(|fault| panic!("{source}: {fault}"))
}

/// The value of a source, or the code of the problem.
fn value(source: &str) -> Result<Datum<'static>, &'static str> {
    typed(source)
        .evaluate(&fields(), &context())
        .map(Datum::into_owned)
        .map_err(|error| error.problem.code())
}

/// The codes of the faults of a source.
fn faults(source: &str) -> Vec<&'static str> {
    let checked = Expression::parse(source).and_then(|read| read.check(&fields()));
    let refused = checked.expect_err(source);
    refused.faults().iter().map(|fault| fault.code).collect()
}
