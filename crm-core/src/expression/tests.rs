//! What holds for every expression: by examples, and over random sources and values.

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

// ---- A record that is a map -------------------------------------------------------------------

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

fn truth(source: &str) -> Option<bool> {
    typed(source)
        .decide(&fields(), &context())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
}

/// The codes of the faults of a source.
fn faults(source: &str) -> Vec<&'static str> {
    let checked = Expression::parse(source).and_then(|read| read.check(&fields()));
    let refused = checked.expect_err(source);
    refused.faults().iter().map(|fault| fault.code).collect()
}

// ---- The source -------------------------------------------------------------------------------

/// Each source with what it means in parentheses.
#[test]
fn operators_bind_as_the_table_says() {
    for (source, meant) in [
        ("b or c and b", "b or (c and b)"),
        ("not b and c", "(not b) and c"),
        ("not n = 7", "not (n = 7)"),
        ("n + m * 2 = 12", "(n + (m * 2)) = 12"),
        ("n - m - 1", "(n - m) - 1"),
        ("n / m / 2", "(n / m) / 2"),
        ("n % m * 2", "(n % m) * 2"),
        ("-n * m", "(-n) * m"),
        ("- - n", "-(-n)"),
        ("t & s = t", "(t & s) = t"),
        ("n > 1 and m < 3 or b", "((n > 1) and (m < 3)) or b"),
        ("n + 1 in (8, 9) and b", "((n + 1) in (8, 9)) and b"),
        ("n + 1 is null or b", "((n + 1) is null) or b"),
        ("not t in labels", "not (t in labels)"),
    ] {
        let (read, meant) = (Expression::parse(source), Expression::parse(meant));
        assert_eq!(read.unwrap(), meant.unwrap(), "{source}");
    }
}

#[test]
fn sources_print_in_one_form() {
    for (source, printed) in [
        ("n==7", "n = 7"),
        ("n<>7", "n != 7"),
        ("NOT (b AND c)", "not (b and c)"),
        ("(n - (m - 1))", "n - (m - 1)"),
        ("'it''s \"so\"'", "\"it's \"\"so\"\"\""),
        ("IF(b,1,2)", "if(b, 1, 2)"),
        ("(n is null) = c", "(n is null) = c"),
        ("c = (not b)", "c = (not b)"),
        ("a . b", "a.b"),
        ("n not in(1,2)", "n not in (1, 2)"),
        ("t NOT IN labels", "t not in labels"),
        ("n IS NOT NULL", "n is not null"),
        ("(n & m) is null", "n & m is null"),
        ("1.50", "1.50"),
    ] {
        let read = Expression::parse(source).unwrap();
        assert_eq!(read.to_string(), printed, "{source}");
        assert_eq!(Expression::parse(printed).unwrap(), read, "{source}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (source, column, code) in [
        ("", 1, "syntax"),
        ("  ", 3, "syntax"),
        ("n +", 4, "syntax"),
        ("n n", 3, "syntax"),
        ("(n", 3, "syntax"),
        ("n)", 2, "syntax"),
        ("'open", 1, "syntax"),
        ("n ? m", 3, "syntax"),
        ("n && m", 3, "syntax"),
        ("b || c", 3, "syntax"),
        ("!b", 1, "syntax"),
        ("1.", 1, "syntax"),
        ("1.2.3", 1, "syntax"),
        ("12abc", 1, "syntax"),
        ("n.", 3, "syntax"),
        (".n", 1, "syntax"),
        ("n.5", 3, "syntax"),
        ("n in 5", 6, "syntax"),
        ("n in ()", 7, "syntax"),
        ("n is 5", 6, "syntax"),
        ("n is not", 9, "syntax"),
        ("and b", 1, "syntax"),
        ("c = not b", 5, "syntax"),
        ("left(t 3)", 8, "syntax"),
        ("1 < n < 3", 7, "chained_comparison"),
        ("n = 1 is null", 7, "chained_comparison"),
        ("99999999999999999999999999999999", 1, "syntax"),
        ("'\0'", 1, "syntax"),
    ] {
        let refused = Expression::parse(source).expect_err(source);
        let fault = &refused.faults()[0];
        assert_eq!(
            (fault.column, fault.code),
            (column, code),
            "{source}: {fault}"
        );
        assert_eq!(fault.line, 1);
    }
    let refused = Expression::parse("n +\n  ü").unwrap_err();
    assert_eq!(
        (refused.faults()[0].line, refused.faults()[0].column),
        (2, 3)
    );
}

#[test]
fn limits_hold() {
    let code = |source: &str| Expression::parse(source).map_or_else(|e| e.faults()[0].code, |_| "");
    assert_eq!(code(&"n".repeat(MAX_SOURCE_BYTES)), "");
    assert_eq!(code(&"n".repeat(MAX_SOURCE_BYTES + 1)), codes::TOO_LONG);
    let nested = |depth| format!("{}n{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(code(&nested(MAX_DEPTH - 1)), "");
    assert_eq!(code(&nested(MAX_DEPTH)), codes::TOO_DEEP);
    assert_eq!(code(&nested(4_000)), codes::TOO_DEEP);
    assert_eq!(code(&format!("{}n", "-".repeat(8_000))), codes::TOO_DEEP);
    assert_eq!(code(&format!("{}b", "not ".repeat(2_000))), codes::TOO_DEEP);
    let chain = |count| vec!["n"; count].join("+");
    assert_eq!(code(&chain(MAX_DEPTH)), "");
    assert_eq!(code(&chain(MAX_DEPTH + 1)), codes::TOO_DEEP);
    let list = |count| format!("n in ({})", vec!["1"; count].join(","));
    assert_eq!(code(&list(MAX_LIST)), "");
    assert_eq!(code(&list(MAX_LIST + 1)), codes::TOO_MANY);
    let wide = vec![list(MAX_LIST); 6].join(" or ");
    assert_eq!(code(&wide), codes::TOO_MANY_NODES);

    // Texts that grow, and steps that add up.
    let longer = |times| {
        let mut source = "t & t".to_owned();
        for _ in 0..times {
            source = format!("replace(replace({source}, 'G', 'GGGGGGGG'), 'G', 'GGGGGGGG')");
        }
        source
    };
    assert!(value(&longer(2)).is_ok());
    assert_eq!(value(&longer(4)), Err("text_too_long"));
    let mut much = longer(2);
    for _ in 0..30 {
        much = format!("upper(lower({much}) & '{}')", "x".repeat(100));
    }
    assert_eq!(value(&much), Err("too_many_steps"));
}

#[test]
fn json_is_the_source() {
    let expression = Expression::parse("n  =  7").unwrap();
    let json = serde_json::to_string(&expression).unwrap();
    assert_eq!(json, "\"n  =  7\"");
    assert_eq!(
        serde_json::from_str::<Expression>(&json).unwrap(),
        expression
    );
    assert!(serde_json::from_str::<Expression>("\"n =\"").is_err());
}

// ---- Types ------------------------------------------------------------------------------------

#[test]
fn what_does_not_fit_is_refused() {
    for (source, codes) in [
        ("x", vec!["unknown_field"]),
        ("x + y", vec!["unknown_field", "unknown_field"]),
        ("x + 1 > t", vec!["unknown_field"]),
        ("uper(t)", vec!["unknown_function"]),
        ("uper(x)", vec!["unknown_function", "unknown_field"]),
        ("left(t)", vec!["wrong_number_of_arguments"]),
        ("today(1)", vec!["wrong_number_of_arguments"]),
        ("left(n, t)", vec!["wrong_type", "wrong_type"]),
        ("n + t", vec!["wrong_type"]),
        ("t - s", vec!["wrong_type"]),
        ("n and b", vec!["wrong_type"]),
        ("not n", vec!["wrong_type"]),
        ("-t", vec!["wrong_type"]),
        ("n & t", vec!["wrong_type"]),
        ("n = t", vec!["wrong_type"]),
        ("d = at", vec!["wrong_type"]),
        ("b < c", vec!["wrong_type"]),
        ("labels = labels", vec!["wrong_type"]),
        ("ref = t", vec!["wrong_type"]),
        ("price > 5", vec!["wrong_type"]),
        ("price + 5", vec!["wrong_type"]),
        ("price * cost", vec!["wrong_type"]),
        ("at + 1", vec!["wrong_type"]),
        ("n in (1, 'a')", vec!["wrong_type"]),
        ("n in labels", vec!["wrong_type"]),
        ("t in t", vec!["wrong_type"]),
        ("if(n, 1, 2)", vec!["wrong_type"]),
        ("if(b, 1, 'a')", vec!["wrong_type"]),
        ("coalesce(n, t)", vec!["wrong_type"]),
        ("max(n, d)", vec!["wrong_type"]),
        ("n = null", vec!["null_comparison"]),
        ("n in (1, null)", vec!["null_comparison"]),
        ("null", vec!["no_type"]),
        ("null + null", vec!["no_type"]),
        ("1 / 0", vec!["division_by_zero"]),
        ("date('2026-02-30')", vec!["not_a_date"]),
        ("date('12026-02-03')", vec!["not_a_date"]),
        ("number('many')", vec!["not_a_number"]),
        ("number('1_000')", vec!["not_a_number"]),
        ("money(n, 'EURO')", vec!["unknown_currency"]),
        ("date(at, 'Berlin')", vec!["unknown_time_zone"]),
        ("round(1.5, -1)", vec!["out_of_range"]),
        ("round(1.5, 29)", vec!["out_of_range"]),
        ("power(2, 65)", vec!["out_of_range"]),
        ("power(99999, 64)", vec!["overflow"]),
        ("power(2, 0.5)", vec!["not_whole"]),
        ("substring('a', 0)", vec!["out_of_range"]),
        ("left('a', -1)", vec!["out_of_range"]),
        ("d + 99999999", vec!["out_of_range"]),
    ] {
        if source == "d + 99999999" {
            assert_eq!(value(source), Err("out_of_range"));
            continue;
        }
        assert_eq!(faults(source), codes, "{source}");
    }
    let expected = Expression::parse("n + 1").unwrap();
    let refused = expected.check_as(&fields(), Type::Boolean).unwrap_err();
    assert_eq!(refused.faults()[0].code, codes::WRONG_TYPE);
    let null = Expression::parse("null").unwrap();
    let null = null.check_as(&fields(), Type::Date).unwrap();
    assert_eq!(null.result_type(), Type::Date);
}

#[test]
fn messages_say_what_to_do() {
    let message = |source: &str| {
        let checked = Expression::parse(source).and_then(|read| read.check(&fields()));
        checked.expect_err(source).faults()[0].message.clone()
    };
    assert_eq!(
        message("uper(t)"),
        "there is no function `uper`; did you mean `upper`?"
    );
    assert_eq!(
        message("left(t)"),
        "write left(text: text, count: number) -> text"
    );
    assert_eq!(
        message("upper(n)"),
        "`upper` (text) takes text, not number; use `text` to make it one"
    );
    assert_eq!(
        message("n & 'a'"),
        "`&` takes text, not number; use `text` to make it one"
    );
}

// ---- Values -----------------------------------------------------------------------------------

/// Every function, by its own example.
#[test]
fn examples_of_functions_hold() {
    for function in FUNCTIONS {
        let (example, gives) = function.example;
        assert_eq!(value(example), value(gives), "{example}");
        assert!(
            example.contains(&format!("{}(", function.name)),
            "{example}"
        );
        let names = FUNCTIONS.iter().filter(|other| other.name == function.name);
        assert_eq!(names.count(), 1, "{}", function.name);
    }
}

/// The list in the docs; `CRM_WRITE_FUNCTIONS=yes` writes it anew.
#[test]
fn the_docs_list_every_function() {
    let mut list = "| function | what it gives | example |\n|---|---|---|\n".to_owned();
    for function in FUNCTIONS {
        let (example, gives) = function.example;
        list += &format!(
            "| `{}` | {} | `{example}` is `{gives}` |\n",
            function.signature().replace('|', "or"),
            function.help,
        );
    }
    if std::env::var_os("CRM_WRITE_FUNCTIONS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/expression/functions.md");
        std::fs::write(path, &list).unwrap();
    } else {
        assert_eq!(
            include_str!("functions.md"),
            list,
            "run with CRM_WRITE_FUNCTIONS=yes"
        );
    }
}

#[test]
fn values_are_as_in_this_table() {
    for (source, expected) in [
        ("n + m * 2", "12"),
        ("n / 2", "3.5"),
        ("-n % 4", "-3"),
        ("t + '!' = 'Globex!'", "true"),
        ("'a' & 'b' & 'c'", "'abc'"),
        ("price - cost", "money(60, 'EUR')"),
        ("price * 1.5", "money(150, 'EUR')"),
        ("2 * price", "money(200, 'EUR')"),
        ("price / 8", "money(12.5, 'EUR')"),
        ("price / cost", "2.5"),
        ("-price", "money(-100, 'EUR')"),
        ("price > 0 and 0 < price", "true"),
        ("price >= money(100, 'eur')", "true"),
        ("max(price, cost)", "price"),
        ("round(price / 3, 2)", "money(33.33, 'EUR')"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("ceil(-2.5)", "-2"),
        ("d + 29", "e"),
        ("e - 29", "d"),
        ("e - d", "29"),
        ("d < e", "true"),
        ("today() - d", "59"),
        ("days_between(e, d)", "-29"),
        ("months_between(e, d)", "-1"),
        ("months_between(d, e)", "1"),
        (
            "months_between(date('2026-01-31'), date('2026-02-28'))",
            "1",
        ),
        ("add_months(date('2024-02-29'), 12)", "date('2025-02-28')"),
        ("add_months(date('2026-03-31'), -1)", "date('2026-02-28')"),
        ("end_of_month(date('2024-02-01'))", "date('2024-02-29')"),
        ("end_of_month(date('9999-12-01'))", "date('9999-12-31')"),
        ("date(at)", "date('2026-02-01')"),
        ("date(at, 'UTC')", "date('2026-01-31')"),
        ("day(at) & ''", "error"),
        ("day(at)", "1"),
        ("hour(at)", "0"),
        ("year(at, 'America/New_York')", "2026"),
        ("hour(at, 'America/New_York')", "18"),
        ("hours_between(at, then)", "0.5"),
        ("add_days(at, -1) < at", "true"),
        ("text(at)", "'2026-01-31T23:30:00.000000Z'"),
        ("text(d) & text(b)", "'2026-01-31true'"),
        ("n in (1, 7)", "true"),
        ("n not in (1, 2)", "true"),
        ("'key' in labels", "true"),
        ("'KEY' not in labels", "true"),
        ("contains(labels, 'new')", "true"),
        ("join('/', t, labels, 'z')", "'Globex/key/new/z'"),
        ("substring(t, 3)", "'obex'"),
        ("substring(t, 9)", "''"),
        ("substring(t, 5, 9)", "'ex'"),
        ("left(t, 99)", "t"),
        ("right(t, 0)", "''"),
        ("right('Zürich', 5)", "'ürich'"),
        ("replace(t, '', 'x')", "t"),
        (
            "is_blank(s) and is_blank(n_none) and not is_blank(n)",
            "true",
        ),
        ("case(c, 'a', n > 5, 'b')", "'b'"),
        ("case(c, 'a', n > 9, 'b', 'z')", "'z'"),
        ("if(b, n, 1 / c_number)", "error"),
        ("if(c, 1 / (n - 7), 2)", "2"),
        ("ref = id('00000000-0000-0000-0000-000000000007')", "true"),
        ("b = true", "true"),
        ("power(2, -2)", "0.25"),
        ("power(0, 0)", "1"),
        ("currency(cost) & text(amount(cost))", "'EUR40'"),
        ("text(money(5, 'JPY'))", "'5 JPY'"),
    ] {
        if expected == "error" {
            assert!(!faults(source).is_empty(), "{source}");
            continue;
        }
        assert_eq!(value(source), value(expected), "{source}");
        assert!(value(source).is_ok(), "{source}");
    }
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    for (source, code) in [
        ("1 / (n - 7)", "division_by_zero"),
        ("n % (n - 7)", "division_by_zero"),
        ("mod(1, n - 7)", "division_by_zero"),
        ("power(n - 7, -1)", "division_by_zero"),
        ("price + money(n, 'USD')", "currency_mismatch"),
        ("price < money(n, 'USD')", "currency_mismatch"),
        ("price = money(n, 'USD')", "currency_mismatch"),
        ("max(price, money(n, 'USD'))", "currency_mismatch"),
        ("price / money(n, 'USD')", "currency_mismatch"),
        ("number(t)", "not_a_number"),
        ("date(t)", "not_a_date"),
        ("datetime(t)", "not_a_date"),
        ("id(t)", "not_an_id"),
        ("money(n, t)", "unknown_currency"),
        ("hour(at, t)", "unknown_time_zone"),
        ("add_days(d, 0.5 * n)", "not_whole"),
        ("d + m", "not_whole"),
        ("add_months(d, 99999999 * n)", "out_of_range"),
        ("add_days(d, 99999999999999999999 * n)", "out_of_range"),
        ("add_hours(at, 99999999999999 * n)", "out_of_range"),
        ("79228162514264337593543950335 + n", "overflow"),
        ("79228162514264337593543950335 * n", "overflow"),
    ] {
        assert_eq!(value(source), Err(code), "{source}");
    }
    let span = typed("1 + 2 * (1 / (n - 7))")
        .evaluate(&fields(), &context())
        .unwrap_err()
        .span;
    assert_eq!((span.start, span.end), (8, 21));
}

#[test]
fn null_is_as_in_sql() {
    let (yes, no, null) = ("(n = 7)", "(n = 8)", "(n_none = 7)");
    for (left, right, both, either) in [
        (yes, yes, Some(true), Some(true)),
        (yes, no, Some(false), Some(true)),
        (yes, null, None, Some(true)),
        (no, no, Some(false), Some(false)),
        (no, null, Some(false), None),
        (null, null, None, None),
    ] {
        for (left, right) in [(left, right), (right, left)] {
            assert_eq!(truth(&format!("{left} and {right}")), both);
            assert_eq!(truth(&format!("{left} or {right}")), either);
            let negated = format!("not {left} or not {right}");
            assert_eq!(truth(&negated), both.map(|both| !both), "De Morgan");
        }
    }
    assert_eq!(truth(&format!("not {null}")), None);
    for source in [
        "n + n_none",
        "n_none * 0",
        "-n_none",
        "t & t_none",
        "upper(t_none)",
        "max(n, n_none)",
        "price_none + price",
        "d_none + 1",
        "if(n_none > 1, 2)",
        "coalesce(n_none, null)",
        "left(t, n_none)",
        "1 / n_none",
        "join(t_none, t)",
    ] {
        assert_eq!(value(source), Ok(Datum::Null), "{source}");
        assert!(typed(source).is_nullable(), "{source}");
    }
    assert_eq!(truth("n_none in (1, 2)"), None);
    assert_eq!(truth("n in (1, n_none)"), None);
    assert_eq!(truth("n in (7, n_none)"), Some(true));
    assert_eq!(truth("n not in (1, n_none)"), None);
    assert_eq!(truth("t in labels_none"), None);
    assert_eq!(truth("n_none is null and n is not null"), Some(true));
    assert_eq!(value("concat(t_none, t)"), value("t"));
    assert_eq!(value("if(n_none > 1, 2, 3)"), value("3"));
    assert_eq!(value("coalesce(n_none, n)"), value("7"));
    assert!(!typed("coalesce(n_none, n)").is_nullable());
}

#[test]
fn only_clocks_are_volatile() {
    assert!(typed("days_between(d, today()) > 3").is_volatile());
    assert!(typed("now() > at").is_volatile());
    assert!(!typed("date(at) > d").is_volatile());
}

// ---- Rows -------------------------------------------------------------------------------------

fn meta(number: u128) -> Meta {
    let by = Actor::System;
    let at = DateTime::UNIX_EPOCH;
    Meta::first(Uuid::from_u128(number), Stamp { at, by })
}

fn deal() -> Record<Deal> {
    let deal = Deal {
        amount: Some(Decimal::from(12_000)),
        currency: Currency::EUR,
        account_id: Some(Id::from(Uuid::from_u128(2))),
        status: DealStatus::Open,
        custom_fields: json!({ "c_1": "North", "c_2": "12.50", "c_3": 7, "c_4": "soon" }),
        tags: vec!["key".to_owned()],
        ..Deal::new("Rollout", Id::from(Uuid::from_u128(3)))
    };
    Record::new(meta(1), deal)
}

fn defined(object: &ObjectRef, name: &str) -> Option<(Box<str>, FieldSchema)> {
    let (key, field_type) = match (object.name(), name) {
        ("deal", "region") => ("c_1", FieldType::text(50)),
        ("deal", "margin") => ("c_2", FieldType::decimal().with_currency("currency")),
        ("deal", "seats") => ("c_3", FieldType::decimal()),
        ("deal", "renewal") => ("c_4", FieldType::Date),
        ("account", "tier") => ("c_1", FieldType::text(50)),
        _ => return None,
    };
    Some((key.into(), FieldSchema::new(name.to_owned(), field_type)))
}

fn with_row<R>(then: impl FnOnce(&ObjectScope<'_>, &RowValues<'_>) -> R) -> R {
    let registry = Registry::default();
    registry.register::<Account>();
    registry.register::<crate::identity::User>();
    let scope = ObjectScope::new(Deal::schema(), &registry).with_custom_fields(&defined);
    let parent = Record::new(meta(4), Account::new("Globex Holding"));
    let account = Account {
        industry: Some("software".to_owned()),
        parent_account_id: Some(Id::from(Uuid::from_u128(4))),
        custom_fields: json!({ "c_1": "gold" }),
        ..Account::new("Globex")
    };
    let account = Record::new(meta(2), account);
    let rows: Vec<Row> = vec![std::sync::Arc::new(account), std::sync::Arc::new(parent)];
    let get = |_: &ObjectRef, id: Uuid| rows.iter().find(|row| row.id() == id).cloned();
    let related = RelatedBy::new(get, |_: &ObjectRef| rows.clone());
    let deal = deal();
    then(&scope, &RowValues::with_related(&deal, &related))
}

#[test]
fn fields_of_rows_and_of_what_they_lead_to() {
    with_row(|scope, row| {
        for (source, expected) in [
            ("name", Datum::from("Rollout")),
            ("amount", euros(12_000)),
            ("amount / 1000 > money(11, 'EUR')", Datum::Boolean(true)),
            ("version", Datum::Number(1.into())),
            ("status = 'open'", Datum::Boolean(true)),
            ("tags", Datum::List(vec!["key".to_owned()].into())),
            ("custom_fields.region & region", Datum::from("NorthNorth")),
            ("text(margin)", Datum::from("12.50 EUR")),
            ("seats + 1", Datum::Number(8.into())),
            // Not a date, from before the field was defined.
            ("renewal", Datum::Null),
            ("account_id.industry", Datum::from("software")),
            (
                "account_id.parent_account_id.name",
                Datum::from("Globex Holding"),
            ),
            (
                "account_id.parent_account_id.parent_account_id.name",
                Datum::Null,
            ),
            ("account_id.tier", Datum::from("gold")),
            ("account_id.custom_fields.tier", Datum::from("gold")),
            ("owner_id.email", Datum::Null),
            ("owner_id is null", Datum::Boolean(true)),
            ("campaign_id", Datum::Null),
        ] {
            let typed = Expression::parse(source)
                .unwrap()
                .check(scope)
                .expect(source);
            let context = context();
            let value = typed.evaluate(row, &context);
            assert_eq!(value, Ok(expected), "{source}");
        }
    });
}

#[test]
fn paths_that_lead_nowhere() {
    with_row(|scope, _| {
        for (source, code, message) in [
            (
                "naem",
                "unknown_field",
                "there is no field `naem`; did you mean `name`?",
            ),
            (
                "account.name",
                "unknown_field",
                "there is no field `account`; did you mean `account_id`?",
            ),
            (
                "account_id.industri",
                "unknown_field",
                "there is no field `industri`; did you mean `industry`?",
            ),
            (
                "custom_fields.colour",
                "undefined_field",
                "`colour` has no definition, so its type is not known; define the field first",
            ),
            (
                "custom_fields",
                "untyped_field",
                "`custom_fields` is a document; name one of its members",
            ),
            (
                "name.first",
                "not_a_reference",
                "`name` is not a reference, so nothing can be named behind it",
            ),
            (
                "status = 'opne'",
                "not_an_option",
                "`status` has no such option; did you mean \"open\"?",
            ),
            (
                "account_id.parent_account_id.parent_account_id.parent_account_id.parent_account_id.parent_account_id.name",
                "too_many_references",
                "the path follows more than 5 references",
            ),
        ] {
            let refused = Expression::parse(source).unwrap().check(scope).unwrap_err();
            let fault = &refused.faults()[0];
            assert_eq!(
                (fault.code, fault.message.as_str()),
                (code, message),
                "{source}"
            );
        }
    });
}

/// addresses are the same in any letter case, as in filters.
#[test]
fn letter_case_is_ignored_where_filters_do() {
    with_row(|scope, _| {
        let typed = Expression::parse("owner_id.email = 'Ada@Globex.example'").unwrap();
        let typed = typed.check(scope).unwrap();
        struct One;
        impl Values for One {
            fn value<'v>(&'v self, _: &Dependency) -> Datum<'v> {
                Datum::from("ada@globex.EXAMPLE")
            }
        }
        assert_eq!(typed.decide(&One, &context()), Ok(Some(true)));
        assert_eq!(typed.privacy(), Privacy::Personal);
    });
}

// ---- Random sources ---------------------------------------------------------------------------

fn literal(of: Type) -> BoxedStrategy<String> {
    match of {
        Type::Number => prop_oneof![
            (-1_000i64..1_000).prop_map(|n| n.to_string()),
            (any::<i64>(), 0u32..=28).prop_map(|(n, scale)| Decimal::new(n, scale).to_string()),
            Just("n".to_owned()),
            Just("m".to_owned()),
            Just("n_none".to_owned()),
        ]
        .boxed(),
        Type::Text => prop_oneof![
            "[a-z'\"ß ]{0,6}".prop_map(|text| format!("\"{}\"", text.replace('"', "\"\""))),
            Just("t".to_owned()),
            Just("s".to_owned()),
            Just("t_none".to_owned()),
        ]
        .boxed(),
        Type::Boolean => prop::sample::select(vec!["true", "false", "b", "c", "b_none"])
            .prop_map(str::to_owned)
            .boxed(),
        Type::Date => prop::sample::select(vec![
            "d",
            "e",
            "d_none",
            "today()",
            "date('0001-01-01')",
            "date('9999-12-31')",
        ])
        .prop_map(str::to_owned)
        .boxed(),
        Type::DateTime => prop::sample::select(vec!["at", "then", "at_none", "now()"])
            .prop_map(str::to_owned)
            .boxed(),
        Type::Money => prop::sample::select(vec!["price", "cost", "price_none"])
            .prop_map(str::to_owned)
            .boxed(),
        Type::List => prop::sample::select(vec!["labels", "labels_none"])
            .prop_map(str::to_owned)
            .boxed(),
        Type::Id => prop::sample::select(vec!["ref", "ref_none"])
            .prop_map(str::to_owned)
            .boxed(),
    }
}

const TYPES: [Type; 8] = [
    Type::Text,
    Type::Number,
    Type::Boolean,
    Type::Date,
    Type::DateTime,
    Type::Money,
    Type::List,
    Type::Id,
];

/// Calls of all functions that may give a type, with arguments that fit.
fn calls(of: Type, depth: u32) -> Vec<BoxedStrategy<String>> {
    let mut calls = Vec::new();
    for function in FUNCTIONS {
        if matches!(function.name, "if" | "case" | "coalesce") {
            continue;
        }
        let common = matches!(function.returns, Returns::First | Returns::Common);
        let gives = match function.returns {
            Returns::Type(returned) => returned == of,
            Returns::First | Returns::Common => function.parameters[0].types.contains(&of),
        };
        if !gives {
            continue;
        }
        let arguments: Vec<BoxedStrategy<String>> = function
            .parameters
            .iter()
            .enumerate()
            .map(|(place, parameter)| match parameter.name {
                "zone" => Just("'Asia/Tokyo'".to_owned()).boxed(),
                "currency" => Just("'USD'".to_owned()).boxed(),
                _ if common && (place == 0 || function.returns == Returns::Common) => {
                    source(of, depth - 1)
                }
                _ => prop::sample::select(parameter.types.to_vec())
                    .prop_flat_map(move |of| source(of, depth - 1))
                    .boxed(),
            })
            .collect();
        // Only moments have a time zone.
        let arguments: Vec<_> = match function.parameters {
            [first, .., last] if last.name == "zone" && first.types.len() > 1 => {
                arguments.into_iter().take(1).collect()
            }
            _ => arguments,
        };
        let name = function.name;
        calls.push(
            arguments
                .prop_map(move |arguments| format!("{name}({})", arguments.join(", ")))
                .boxed(),
        );
    }
    calls
}

/// A random source of a type.
fn source(of: Type, depth: u32) -> BoxedStrategy<String> {
    if depth == 0 {
        return literal(of);
    }
    let below = move |of| source(of, depth - 1);
    let mut all = vec![
        literal(of),
        (below(Type::Boolean), below(of), below(of))
            .prop_map(|(c, a, b)| format!("if({c}, {a}, {b})"))
            .boxed(),
        (below(of), below(of))
            .prop_map(|(a, b)| format!("coalesce({a}, {b}, null)"))
            .boxed(),
        (below(Type::Boolean), below(of))
            .prop_map(|(c, a)| format!("case({c}, {a}, not ({c}), {a})"))
            .boxed(),
    ];
    // Building a call of each function at each level would take long.
    if depth == 1 {
        let calls = calls(of, depth);
        if !calls.is_empty() {
            all.push(proptest::strategy::Union::new(calls).boxed());
        }
    }
    let between = |left: Type, signs: &'static [&'static str], right: Type| {
        (below(left), prop::sample::select(signs), below(right))
            .prop_map(|(a, sign, b)| format!("({a}) {sign} ({b})"))
            .boxed()
    };
    match of {
        Type::Number => {
            all.push(between(
                Type::Number,
                &["+", "-", "*", "/", "%"],
                Type::Number,
            ));
            all.push(between(Type::Money, &["/"], Type::Money));
            all.push(between(Type::Date, &["-"], Type::Date));
            all.push(below(of).prop_map(|a| format!("-({a})")).boxed());
        }
        Type::Text => all.push(between(Type::Text, &["&", "+"], Type::Text)),
        Type::Date => all.push(between(Type::Date, &["+", "-"], Type::Number)),
        Type::Money => {
            all.push(between(Type::Money, &["+", "-"], Type::Money));
            all.push(between(Type::Money, &["*", "/"], Type::Number));
            all.push(between(Type::Number, &["*"], Type::Money));
        }
        Type::Boolean => {
            all.push(between(
                Type::Boolean,
                &["and", "or", "=", "!="],
                Type::Boolean,
            ));
            for ordered in [
                Type::Number,
                Type::Text,
                Type::Date,
                Type::DateTime,
                Type::Money,
            ] {
                let signs = &["=", "!=", "<", "<=", ">", ">="];
                all.push(between(ordered, signs, ordered));
                all.push(
                    (below(ordered), below(ordered))
                        .prop_map(|(a, b)| format!("({a}) not in ({b}, {b})"))
                        .boxed(),
                );
            }
            all.push(
                below(Type::Boolean)
                    .prop_map(|a| format!("not ({a})"))
                    .boxed(),
            );
            for known in TYPES {
                all.push(below(known).prop_map(|a| format!("({a}) is null")).boxed());
            }
        }
        Type::DateTime | Type::List | Type::Id => {}
    }
    proptest::strategy::Union::new(all).boxed()
}

/// Values of all fields, some at the ends of their ranges.
fn any_fields() -> impl Strategy<Value = Fields> {
    let number = || {
        prop_oneof![
            (-100i64..100).prop_map(Decimal::from),
            (any::<i64>(), 0u32..=28).prop_map(|(n, scale)| Decimal::new(n, scale)),
            Just(Decimal::MAX),
            Just(Decimal::MIN),
        ]
    };
    let day = || {
        prop_oneof![
            (-200_000i64..200_000)
                .prop_map(|days| { date("2026-01-31") + chrono::TimeDelta::days(days) }),
            Just(NaiveDate::MIN),
            Just(NaiveDate::MAX),
        ]
    };
    let at = || {
        prop_oneof![
            any::<u32>().prop_map(|seconds| {
                DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds.into())
            }),
            Just(DateTime::<Utc>::MIN_UTC),
            Just(DateTime::<Utc>::MAX_UTC),
        ]
    };
    let money = || {
        (
            number(),
            prop::sample::select(vec![Currency::EUR, Currency::USD]),
        )
            .prop_map(|(amount, currency)| Datum::Money(Money::new(amount, currency)))
    };
    (
        [number(), number()],
        [".{0,8}", "[a-zA-Z ]{0,8}"],
        [any::<bool>(), any::<bool>()],
        [day(), day()],
        [at(), at()],
        [money(), money()],
        prop::collection::vec("[a-z]{0,3}", 0..4),
    )
        .prop_map(|(numbers, texts, truths, days, moments, amounts, labels)| {
            let mut fields = fields();
            let mut set = |name: &str, value: Datum<'static>| {
                fields.0.insert(name.to_owned(), value);
            };
            set("n", Datum::Number(numbers[0]));
            set("m", Datum::Number(numbers[1]));
            set("t", Datum::from(texts[0].clone()));
            set("s", Datum::from(texts[1].clone()));
            set("b", Datum::Boolean(truths[0]));
            set("c", Datum::Boolean(truths[1]));
            set("d", Datum::Date(days[0]));
            set("e", Datum::Date(days[1]));
            set("at", Datum::DateTime(moments[0]));
            set("then", Datum::DateTime(moments[1]));
            set("price", amounts[0].clone());
            set("cost", amounts[1].clone());
            set("labels", Datum::List(labels.into()));
            fields
        })
}

/// Reads, checks, prints and evaluates whatever comes.
fn survives(source: &str, fields: &Fields) {
    let Ok(expression) = Expression::parse(source) else {
        return;
    };
    let printed = expression.to_string();
    if printed.len() <= MAX_SOURCE_BYTES {
        let again = Expression::parse(&printed);
        assert_eq!(again.as_ref(), Ok(&expression), "{printed}");
        assert_eq!(again.unwrap().to_string(), printed);
    }
    let Ok(typed) = expression.check(fields) else {
        return;
    };
    let context = context();
    match typed.evaluate(fields, &context) {
        Ok(Datum::Null) => assert!(typed.is_nullable(), "{source} is null"),
        Ok(value) => assert_eq!(value.value_type(), Some(typed.result_type()), "{source}"),
        Err(error) => assert_ne!(error.problem, Problem::WrongType, "{source}"),
    }
}

fn words() -> impl Strategy<Value = String> {
    let words = vec![
        "n", "t", "b", "d", "price", "labels", "x", "1", "2.5", "'a'", "\"", "'", "(", ")", ",",
        ".", "+", "-", "*", "/", "%", "&", "=", "!=", "<", ">=", "and", "or", "not", "in", "is",
        "null", "true", "if(", "case(", "max(", "left(", "date(", "round(", "today()", "ü", "\n",
    ];
    prop::collection::vec(prop::sample::select(words), 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_text_makes_anything_panic(source in ".{0,200}") {
        survives(&source, &fields());
    }

    #[test]
    fn no_words_make_anything_panic(source in words(), fields in any_fields()) {
        survives(&source, &fields);
    }

    /// A source that is made of parts that fit is accepted, but for what its constants cannot be
    /// computed to; it is never of a wrong type when it is evaluated, reads back as it is printed,
    /// and is null only if it says so.
    #[test]
    fn what_fits_never_fails_for_its_types(
        source in prop::sample::select(TYPES.to_vec()).prop_flat_map(|of| source(of, 2)),
        fields in any_fields(),
    ) {
        let expression = Expression::parse(&source).unwrap();
        if let Err(refused) = expression.check(&fields) {
            for fault in refused.faults() {
                prop_assert!(
                    !matches!(fault.code, "unknown_function" | "unknown_field"
                        | "wrong_number_of_arguments" | "syntax" | "wrong_type"),
                    "{}: {}", source, fault
                );
            }
        }
        survives(&source, &fields);
    }

    #[test]
    fn arithmetic_is_that_of_decimals(
        (left, right) in ((any::<i64>(), 0u32..20), (any::<i64>(), 0u32..20)),
    ) {
        let (left, right) = (Decimal::new(left.0, left.1), Decimal::new(right.0, right.1));
        let mut fields = fields();
        fields.0.insert("n".to_owned(), Datum::Number(left));
        fields.0.insert("m".to_owned(), Datum::Number(right));
        for (sign, expected) in [
            ("+", left.checked_add(right)),
            ("-", left.checked_sub(right)),
            ("*", left.checked_mul(right)),
            ("/", left.checked_div(right)),
            ("%", left.checked_rem(right)),
        ] {
            let source = format!("n {sign} m");
            let (typed, context) = (typed(&source), context());
            let value = typed.evaluate(&fields, &context).ok();
            prop_assert_eq!(value, expected.map(Datum::Number), "{}", source);
        }
        for (sign, expected) in [
            ("<", left < right), ("<=", left <= right), (">", left > right),
            (">=", left >= right), ("=", left == right), ("!=", left != right),
        ] {
            let typed = typed(&format!("n {sign} m"));
            prop_assert_eq!(typed.decide(&fields, &context()), Ok(Some(expected)));
        }
    }

    /// A constant is worth the same when it is computed at the definition.
    #[test]
    fn constants_are_worth_what_fields_are(left in -1_000i64..1_000, right in -1_000i64..1_000) {
        let mut fields = fields();
        fields.0.insert("n".to_owned(), Datum::Number(left.into()));
        fields.0.insert("m".to_owned(), Datum::Number(right.into()));
        for sign in ["+", "-", "*", "/", "%", "<", "=", ">="] {
            let constant = Expression::parse(&format!("{left} {sign} {right}")).unwrap();
            let (typed, context) = (typed(&format!("n {sign} m")), context());
            let by_fields = typed.evaluate(&fields, &context);
            match constant.check(&fields) {
                Ok(constant) => prop_assert_eq!(constant.evaluate(&fields, &context), by_fields),
                Err(refused) => prop_assert_eq!(
                    refused.faults()[0].code,
                    by_fields.unwrap_err().problem.code()
                ),
            }
        }
    }

    /// `months_between` is the most that `add_months` can add without passing the day.
    #[test]
    fn months_between_undoes_add_months(from in -20_000i64..20_000, days in 0i64..20_000) {
        let from = date("2000-01-31") + chrono::TimeDelta::days(from);
        let to = from + chrono::TimeDelta::days(days);
        let mut fields = fields();
        fields.0.insert("d".to_owned(), Datum::Date(from));
        fields.0.insert("e".to_owned(), Datum::Date(to));
        for law in [
            "add_months(d, months_between(d, e)) <= e",
            "add_months(d, months_between(d, e) + 1) > e",
            "add_months(e, months_between(e, d)) >= d",
            "add_months(e, months_between(e, d) - 1) < d",
            "d + (e - d) = e",
            "days_between(d, e) = e - d",
            "start_of_month(d) <= d and end_of_month(d) >= d",
        ] {
            prop_assert_eq!(typed(law).decide(&fields, &context()), Ok(Some(true)), "{}", law);
        }
    }

    /// The order has every formula once, behind all that it names; else there is a circle.
    #[test]
    fn formulas_are_ordered_or_circular(
        names in prop::collection::vec(prop::collection::vec(0usize..8, 0..3), 0..8),
    ) {
        let label = |number: usize| format!("f{number}");
        let formulas: Vec<(String, Vec<String>)> = names
            .iter()
            .enumerate()
            .map(|(number, names)| (label(number), names.iter().copied().map(label).collect()))
            .collect();
        let given = formulas
            .iter()
            .map(|(name, names)| (name.as_str(), names.iter().map(String::as_str)));
        let named: HashMap<&str, &Vec<String>> =
            formulas.iter().map(|(name, names)| (name.as_str(), names)).collect();
        match evaluation_order(given) {
            Ok(order) => {
                prop_assert_eq!(order.len(), formulas.len());
                for (place, name) in order.iter().enumerate() {
                    for needed in named[name] {
                        if named.contains_key(needed.as_str()) {
                            prop_assert!(order[..place].contains(&needed.as_str()));
                        }
                    }
                }
            }
            Err(circle) => {
                prop_assert_eq!(circle.path.first(), circle.path.last());
                prop_assert!(circle.path.len() > 1);
                for pair in circle.path.windows(2) {
                    prop_assert!(named[pair[0].as_str()].contains(&pair[1]));
                }
            }
        }
    }
}
