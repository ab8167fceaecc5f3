//! Reading, checking, printing and evaluating an expression neither panics nor hangs, and what fits
//! never fails for its types.

use chrono::{DateTime, NaiveDate, Utc};
use crm_core::expression::{
    Context, Datum, Dependency, Expression, FUNCTIONS, Field, MAX_SOURCE_BYTES, Path, PathFault,
    Problem, Scope, Type, Values,
};
use crm_core::value::TimeZone;
use uuid::Uuid;

use crate::bytes::{Bytes, TEXTS};

/// A field for each type, and one of each without a value: `n` and `n_none`.
struct Fields;

fn value_type(name: &str) -> Option<Type> {
    Some(match name.strip_suffix("_none").unwrap_or(name) {
        "n" => Type::Number,
        "t" => Type::Text,
        "b" => Type::Boolean,
        "d" => Type::Date,
        "at" => Type::DateTime,
        "price" => Type::Money,
        "labels" => Type::List,
        "ref" => Type::Id,
        _ => return None,
    })
}

impl Scope for Fields {
    fn field(&self, path: &Path) -> Result<Field, PathFault> {
        let known = value_type(&path.to_string()).map(Field::new);
        known.ok_or(PathFault::Unknown {
            at: 0,
            suggestion: None,
        })
    }
}

impl Values for Fields {
    fn value<'v>(&'v self, dependency: &Dependency) -> Datum<'v> {
        if dependency.path.to_string().ends_with("_none") {
            return Datum::Null;
        }
        match dependency.field.value_type {
            Type::Number => Datum::Number("79228162514264337593.5".parse().unwrap()),
            Type::Text => Datum::from("Zürich ß 12.5"),
            Type::Boolean => Datum::Boolean(true),
            Type::Date => Datum::Date(NaiveDate::MAX),
            Type::DateTime => Datum::DateTime(DateTime::<Utc>::MIN_UTC),
            Type::Money => Datum::Money("12.50 EUR".parse().unwrap()),
            Type::List => Datum::List(vec!["key".to_owned()].into()),
            _ => Datum::Id(Uuid::nil()),
        }
    }
}

/// What an expression is written with.
const WORDS: &[&str] = &[
    "n",
    "n_none",
    "t",
    "t_none",
    "b",
    "b_none",
    "d",
    "at",
    "price",
    "price_none",
    "labels",
    "ref",
    "0",
    "1",
    "-1",
    "2.5",
    "79228162514264337593543950335",
    "true",
    "false",
    "null",
    "and",
    "or",
    "not",
    "in",
    "is null",
    "is not null",
    "+",
    "-",
    "*",
    "/",
    "%",
    "&",
    "=",
    "!=",
    "<",
    "<=",
    ">",
    "(",
    ")",
    ",",
    "'",
    "\"x\"",
];

/// A source that is made of words, or the input as it is.
fn source(input: &[u8]) -> String {
    let Some(mut bytes) = Bytes::of(input) else {
        return String::from_utf8_lossy(input).into_owned();
    };
    let mut source = String::new();
    for _ in 0..bytes.one_of(120) {
        match bytes.one_of(8) {
            0 => {
                source.push_str(FUNCTIONS[bytes.one_of(FUNCTIONS.len())].name);
                source.push('(');
            }
            1 => {
                let text = bytes.pick(TEXTS).replace('\'', "''");
                source.push_str(&format!("'{text}'"));
            }
            _ => source.push_str(bytes.pick(WORDS)),
        }
        source.push(' ');
    }
    source
}

pub(crate) fn run(input: &[u8]) {
    let Ok(expression) = Expression::parse(&source(input)) else {
        return;
    };
    let printed = expression.to_string();
    if printed.len() <= MAX_SOURCE_BYTES {
        let again = Expression::parse(&printed).expect("what is printed reads back");
        assert_eq!(again, expression);
    }
    let Ok(typed) = expression.check(&Fields) else {
        return;
    };
    let context = Context::at(DateTime::UNIX_EPOCH, TimeZone::UTC);
    match typed.evaluate(&Fields, &context) {
        Ok(value) => assert!(value.is_null() || value.value_type() == Some(typed.result_type())),
        Err(error) => assert_ne!(error.problem, Problem::WrongType),
    }
}
