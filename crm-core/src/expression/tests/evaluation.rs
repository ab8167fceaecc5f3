//! Values of expressions, what cannot be computed, and null.

use super::*;

fn truth(source: &str) -> Option<bool> {
    typed(source)
        .decide(&fields(), &context())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
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
