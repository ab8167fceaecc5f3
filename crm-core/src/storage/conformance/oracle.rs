//! What queries must answer, written plainly and apart from the code that answers them.
//!
//! Nothing here calls the matcher or the comparisons of [`crate::query`]: two spellings of one
//! meaning find each other's mistakes.

use std::cmp::Ordering;

use uuid::Uuid;

use super::Outcome;
use super::fixtures::bare;
use super::harness::{at, day, dec, new_id, row_with};
use super::objects::{Extent, Specimen, State};
use crate::query::{Comparison, TextMatch};
use crate::schema::{Row, Value, ValueRef};
use crate::value::{PhoneNumber, Score};

/// The fields of specimens whose `eq`, `ne` and `in` ignore the case of letters: e-mail addresses
/// and domain names by their type, the code by its unique key.
pub(super) const IGNORE_CASE: &[&str] = &["code", "email", "subdomain", "domain"];

/// The order of two values of one field. No value comes after every value; texts go by their bytes.
pub(super) fn order(a: &ValueRef<'_>, b: &ValueRef<'_>) -> Ordering {
    match (a, b) {
        (ValueRef::Null, ValueRef::Null) => Ordering::Equal,
        (ValueRef::Null, _) => Ordering::Greater,
        (_, ValueRef::Null) => Ordering::Less,
        (ValueRef::Boolean(a), ValueRef::Boolean(b)) => u8::from(*a).cmp(&u8::from(*b)),
        (ValueRef::Integer(a), ValueRef::Integer(b)) => a.cmp(b),
        (ValueRef::Decimal(a), ValueRef::Decimal(b)) => a.cmp(b),
        (ValueRef::Text(a), ValueRef::Text(b)) => a.bytes().cmp(b.bytes()),
        (ValueRef::Date(a), ValueRef::Date(b)) => a.cmp(b),
        (ValueRef::Timestamp(a), ValueRef::Timestamp(b)) => {
            a.timestamp_micros().cmp(&b.timestamp_micros())
        }
        (ValueRef::Uuid(a), ValueRef::Uuid(b)) => a.as_bytes().cmp(b.as_bytes()),
        _ => Ordering::Equal,
    }
}

/// Whether a field fulfils a comparison. No value fulfils nothing but `ne`.
pub(super) fn compares(field: &str, own: &ValueRef<'_>, op: Comparison, with: &Value) -> bool {
    if own.is_null() {
        return matches!(op, Comparison::Ne);
    }
    let same = match (own, with) {
        (ValueRef::Text(own), Value::Text(with)) if IGNORE_CASE.contains(&field) => {
            own.to_lowercase() == with.to_lowercase()
        }
        _ => order(own, &with.as_ref()) == Ordering::Equal,
    };
    let order = order(own, &with.as_ref());
    match op {
        Comparison::Eq => same,
        Comparison::Ne => !same,
        Comparison::Lt => order == Ordering::Less,
        Comparison::Le => order == Ordering::Less || order == Ordering::Equal,
        Comparison::Gt => order == Ordering::Greater,
        Comparison::Ge => order == Ordering::Greater || order == Ordering::Equal,
    }
}

/// Whether a text begins with another or contains it, in whatever case.
pub(super) fn text_matches(own: &ValueRef<'_>, op: TextMatch, needle: &str) -> bool {
    let ValueRef::Text(own) = own else {
        return false;
    };
    let (own, needle) = (own.to_lowercase(), needle.to_lowercase());
    match op {
        TextMatch::StartsWith => own.as_bytes().starts_with(needle.as_bytes()),
        TextMatch::Contains => own.matches(needle.as_str()).next().is_some(),
    }
}

/// The ids of the rows that fulfil a predicate, by id.
pub(super) fn ids_where(rows: &[Row], fulfils: impl Fn(&Row) -> bool) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = rows
        .iter()
        .filter(|row| fulfils(row))
        .map(|row| row.id())
        .collect();
    ids.sort_unstable();
    ids
}

/// Texts that a backend may get wrong: case, accents, wildcards, quotes.
pub(super) const TEXTS: &[&str] = &[
    "anna",
    "Anna",
    "ANNA",
    "Änna",
    "änna",
    "Zed",
    "zed",
    "a",
    "50%",
    "5_0",
    "back\\slash",
    "it's",
    "~",
    "ΟΔΟΣ",
    "İzmir",
    "\u{1F995}",
    "hannah",
];

/// How many specimens [`population`] makes.
const POPULATION: usize = 18;

/// Specimens with all sorts of values, and without them, in every field.
pub(super) fn population() -> Outcome<Vec<Row>> {
    fn nth<T: Clone>(items: &[T], index: usize) -> Option<T> {
        // One more than there are items: every field is empty now and then.
        items.get(index % (items.len() + 1)).cloned()
    }
    let codes = ["Alpha", "BETA", "gamma", "Über", "ΟΔΟΣ", "delta%"];
    let decimals = [
        "0",
        "-0.0001",
        "0.0001",
        "10",
        "10.5",
        "-999999999999999.9999",
        "9.99",
    ];
    let rates = ["0.00000001", "0.1", "0.5", "-0.5", "99999999.99999999"];
    let wides = [
        "9007199254740993",
        "9007199254740992",
        "-5",
        "1234567890123456789012345678",
    ];
    let days = [
        "2024-02-29",
        "0001-01-01",
        "9999-12-31",
        "2026-03-01",
        "2026-02-28",
    ];
    let moments = [
        "2026-03-29T00:59:59.999999Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T01:00:00.000001Z",
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.5Z",
    ];
    let emails = [
        "Ada@Museum.example",
        "bob@museum.example",
        "zoe+x@other.example",
    ];
    let states = [State::Found, State::Cleaned, State::OnLoan, State::Lost];
    let lists: [&[&str]; 5] = [
        &[],
        &["red"],
        &["red", "Blue"],
        &["blue", "a,b"],
        &["red", "green", "Blue"],
    ];
    let documents = documents();
    let mut rows = Vec::with_capacity(POPULATION);
    for index in 0..POPULATION {
        let list = lists.get(index % lists.len()).copied().unwrap_or_default();
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let score = |points: i64| Score::new(points).ok();
        let specimen = Specimen {
            name: nth(TEXTS, index).unwrap_or("Nobody").into(),
            code: codes.get(index).map(ToString::to_string),
            serial: (index % 3 == 0).then_some(index as i64 - 6),
            shelf: nth(&["North", "north", "South"], index).map(Into::into),
            slot: (index % 2 == 0).then_some(index as i32),
            room: (index % 4 < 2).then(|| format!("Room {}", index % 3)),
            is_default: index % 4 == 3,
            notes: nth(TEXTS, index + 3).map(|text| format!("line\n{text}")),
            origin: nth(TEXTS, index * 7).map(Into::into),
            quantity: nth(&[i64::MIN, -1, 0, 1, 41, i64::MAX], index).unwrap_or(7),
            balance: nth(&[i64::MIN, -5, 0, 12, 120, i64::MAX], index),
            level: nth(&[i32::MIN, -2, 3, i32::MAX], index),
            visitors: nth(&[0, 9, 10, i32::MAX.unsigned_abs()], index),
            amount: nth(&decimals, index).map(dec).transpose()?,
            currency: nth(&["EUR", "USD", "CZK"], index)
                .map(str::parse)
                .transpose()?,
            price: dec(nth(&decimals, index + 2).unwrap_or("999999999999999.9999"))?,
            rate: nth(&rates, index).map(dec).transpose()?,
            wide: nth(&wides, index).map(dec).transpose()?,
            is_genuine: nth(&[true, false], index),
            made_on: nth(&days, index).map(day).transpose()?,
            seen_at: nth(&moments, index).map(at).transpose()?,
            token: nth(&[1, u128::MAX, 1 << 127, 255], index).map(Uuid::from_u128),
            email: nth(&emails, index).map(str::parse).transpose()?,
            phone: nth(&["+49 30 901820", "+420 222 012 100"], index)
                .map(PhoneNumber::parse)
                .transpose()?,
            homepage: nth(&["https://a.example/", "https://b.example/x?y=Z"], index)
                .map(str::parse)
                .transpose()?,
            share: nth(&["0", "33.33", "100", "12.5"], index)
                .map(str::parse)
                .transpose()?,
            score: nth(&[0, 50, 100], index).and_then(score),
            rank: score((index % 5 * 25) as i64).unwrap_or_default(),
            state: nth(&states, index).unwrap_or_default(),
            former_state: nth(&states, index + 1),
            country: nth(&["CZ", "DE", "AT"], index)
                .map(str::parse)
                .transpose()?,
            language: nth(&["cs", "de-AT", "en"], index)
                .map(str::parse)
                .transpose()?,
            time_zone: nth(&["Europe/Prague", "UTC"], index)
                .map(str::parse)
                .transpose()?,
            color: nth(&["#000000", "#FFFFFF"], index)
                .map(str::parse)
                .transpose()?,
            api_name: nth(&["one", "two_b"], index).map(str::parse).transpose()?,
            subdomain: nth(&["acme", "beta"], index).map(str::parse).transpose()?,
            domain: nth(&["acme.example", "beta.example"], index)
                .map(str::parse)
                .transpose()?,
            tags: list.clone(),
            labels: (index % 3 != 1).then_some(list),
            details: nth(&documents, index),
            extra: nth(&documents, index + 5).unwrap_or_else(|| serde_json::json!({})),
            extent: nth(
                &[(Some(4), None), (None, Some(-1)), (Some(5), Some(6))],
                index,
            )
            .map(|(width, height)| Extent { width, height }),
            secret: nth(&["s3cret", "S3CRET"], index).map(Into::into),
            ..bare("")
        };
        rows.push(row_with(new_id(), specimen));
    }
    Ok(rows)
}

/// Documents whose members are of every kind, or missing.
pub(super) fn documents() -> Vec<serde_json::Value> {
    use serde_json::json;
    vec![
        json!({"region": "North", "rating": 5, "ok": true}),
        json!({"region": "north", "rating": 4.5, "ok": false}),
        json!({"region": "Ñandú", "rating": -1, "ok": null}),
        json!({"region": null, "rating": "5", "ok": "true"}),
        json!({"rating": {"region": "North"}, "region": ["North"]}),
        json!({}),
        json!(["region", "rating"]),
        json!({"region": "50%_", "rating": 10, "a.b": "dotted", "due": "2026-01-31"}),
        json!({"region": "south", "rating": 5.0, "due": "2026-02-01"}),
    ]
}
