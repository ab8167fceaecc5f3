//! What is an expression: precedence, the form in which it is printed, faults with their place, limits.

use super::*;

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
