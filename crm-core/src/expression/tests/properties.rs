//! Sources and values by chance: what is checked can be computed, and nothing panics.

use super::*;

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
