//! What fits together: faults of types, their messages, and the table of functions.

use super::*;

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
            include_str!("../functions.md"),
            list,
            "run with CRM_WRITE_FUNCTIONS=yes"
        );
    }
}
