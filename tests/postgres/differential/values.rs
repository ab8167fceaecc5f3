//! Random values of every type, those that databases, languages and formats disagree about.

use chrono::{DateTime, Utc};
use crm_engine::schema::{FieldType, ObjectRef, Value};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    pub(crate) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Characters that case, order, quoting and normal forms disagree about.
#[rustfmt::skip]
const CHARACTERS: &[char] = &[
    'a', 'A', 'b', 'B', 'a', 'A', 'z', 'Z', '0', '9', ' ', '\t', '\'', '"', '\\', '%', '_',
    '$', '`', ';', '{', '}', ',', '(', ')', '\u{1}', '\u{7F}', '\u{85}', '\u{A0}', 'ä', 'Ä',
    'ß', 'ẞ', 'σ', 'ς', 'Σ', 'İ', 'I', 'i', 'ı', 'ŉ', 'ǰ', 'ΐ', 'ΰ', 'ﬁ', 'ﬀ', 'ᾳ', 'ᾼ', 'ᾈ',
    'Ω', 'K', 'Å', 'Ǆ', 'ǅ', 'ǆ', 'Ⅷ', 'ⅷ', 'Ⓐ', 'ⓐ', 'Ა', 'ა', 'Ꭰ', 'ꭰ', 'Ᲊ', 'Ꟑ', '\u{300}',
    '\u{301}', '\u{307}', '\u{345}', '\u{5D0}', '\u{FEFF}', '\u{200D}', '\u{200B}', '\u{202E}',
    '漢', '가', '\u{1100}', '\u{1161}', '\u{D7FF}', '\u{E000}', '\u{FFFD}', '\u{FFFF}',
    '\u{10400}', '\u{10428}', '\u{1F600}', '\u{1E900}', '\u{1E922}', '\u{10D50}', '\u{10FFFF}',
    '\u{1A7CB}', '\u{A7CB}', '\u{A7DC}', '\u{1C89}', '\u{1C8A}', '\u{16EA0}',
];

/// Texts that mean something to somebody.
#[rustfmt::skip]
const PHRASES: &[&str] = &[
    "", "null", "NULL", "true", "'; DROP TABLE users; --", "$1", "{}", "{a,b}", "{\"a\"}",
    "\\x41", "\\", "\\\\", "''", "%", "_", "a%b", "a_b", "ΑΣ", "ας", "ΑΣ.", "Σ", "İstanbul",
    "i\u{307}", "straße", "STRASSE", "é", "e\u{301}", "A\u{30A}", "ﬀ", "1e5", "1.0", "0", "-0",
    "2026-01-31", "NaN", "Infinity", "\u{1F468}\u{200D}\u{1F469}", "a\tb", " a ", "AΣ\u{301}",
    "ΣΣ", "Σa",
];

pub(crate) fn text(random: &mut Random, max: usize) -> String {
    let mut text: String = match random.below(10) {
        0 | 1 => random.of(PHRASES).to_owned(),
        // The whole length, in characters of four bytes that do not repeat.
        2 if random.one_in(6) => (0..max.min(3_000))
            .map(|_| char::from_u32(0x20000 + random.below(0xA000) as u32).unwrap_or('x'))
            .collect(),
        3 => {
            let mut any = || char::from_u32((random.next() % 0x11_0000) as u32).unwrap_or('\u{1}');
            let (a, b) = (any(), any());
            [a, b].into_iter().filter(|c| *c != '\0').collect()
        }
        // Few different ones, so that they meet.
        4..=6 => (0..=random.below(2))
            .map(|_| random.of(&['a', 'A', 'b', 'ä', 'Ä', 'σ', 'ς', 'Σ']))
            .collect(),
        _ => (0..random.below(9))
            .map(|_| random.of(CHARACTERS))
            .collect(),
    };
    if random.one_in(40) {
        text = text.repeat(max / text.chars().count().max(1));
    }
    text.chars().take(max).collect()
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], "")
}

pub(crate) fn number(random: &mut Random) -> Json {
    #[rustfmt::skip]
    const NUMBERS: &[&str] = &[
        "0", "-0", "-0.0", "1", "1.0", "1.50", "-1", "1e300", "1e-30", "1e15", "1e16", "1e17",
        "123456789012345680000", "9223372036854775807", "9223372036854775808",
        "18446744073709551615", "-9223372036854775808", "0.1", "0.30000000000000004", "5e-324",
        "1.7976931348623157e308", "79228162514264337593543950335", "1e28", "1e29", "3.14159",
        "100", "2", "1e2", "0.0000001", "12345678.875",
    ];
    serde_json::from_str(random.of(NUMBERS)).unwrap()
}

fn document(random: &mut Random, depth: usize) -> Json {
    match random.below(if depth == 0 { 6 } else { 10 }) {
        0 => Json::Null,
        1 => Json::Bool(random.one_in(2)),
        2 | 3 => number(random),
        4 | 5 => text(random, 20).into(),
        6 => (0..random.below(4))
            .map(|_| document(random, depth - 1))
            .collect(),
        7 if random.one_in(10) => (0..60).fold(json!("deep"), |inner, level| match level % 2 {
            0 => json!([inner]),
            _ => json!({"": inner}),
        }),
        _ => Json::Object(members(random, depth - 1)),
    }
}

/// Few keys, so that conditions meet them.
pub(crate) fn key(random: &mut Random) -> String {
    const KEYS: &[&str] = &[
        "a",
        "b",
        "c",
        "A",
        "",
        "a.b",
        "quo\"te",
        "back\\slash",
        "'",
        "ключ",
        "0",
    ];
    if random.one_in(8) {
        text(random, 12)
    } else {
        random.of(KEYS).to_owned()
    }
}

fn members(random: &mut Random, depth: usize) -> Map<String, Json> {
    (0..random.below(6))
        .map(|_| (key(random), document(random, depth)))
        .collect()
}

pub(crate) fn moment(random: &mut Random) -> DateTime<Utc> {
    #[rustfmt::skip]
    const MOMENTS: &[&str] = &[
        "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z", "2000-01-01T00:00:00.000001Z", "2026-03-29T01:00:00Z",
        "2026-03-29T00:59:59.999999Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z",
        "2024-02-29T12:00:00Z", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59.999999Z",
        "1582-10-10T00:00:00Z",
    ];
    if random.one_in(3) {
        random.of(MOMENTS).parse().unwrap()
    } else {
        let micros = random.next() % 4_000_000_000_000_000;
        DateTime::from_timestamp_micros(micros as i64).unwrap()
    }
}

/// Texts of the special types, in the one form in which fields hold them.
fn special(random: &mut Random, field_type: &FieldType) -> String {
    let n = random.below(9);
    match field_type {
        FieldType::Email => random
            .pick(&[
                format!("a{n}@b.example"),
                format!("A{n}@b.example"),
                format!("a{n}@B.example"),
                "o'neill@x.example".into(),
                "ä@x.example".into(),
                "Ä@x.example".into(),
                "a_b%c@x.example".into(),
                format!("{}@x.example", "l".repeat(60)),
            ])
            .cloned()
            .unwrap_or_default(),
        FieldType::Phone => random
            .of(&[
                "+49 30 901820",
                "+420 601 123 456",
                "+1 (202) 555-0143",
                "+44 20 7946 0018",
            ])
            .to_owned(),
        FieldType::Url { max_length } => match n {
            0 => format!(
                "https://x.example/{}",
                "p".repeat(*max_length as usize - 18)
            ),
            1 => "https://x.example/?q='\"%20_&b=ä".to_owned(),
            _ => format!("https://x{n}.example/"),
        },
        FieldType::Currency => random.of(&["EUR", "USD", "JPY"]).to_owned(),
        FieldType::Country => random.of(&["CZ", "DE", "US"]).to_owned(),
        FieldType::Language => random.of(&["cs", "de-AT", "zh-Hant-TW"]).to_owned(),
        FieldType::TimeZone => random
            .of(&["Europe/Prague", "UTC", "America/New_York"])
            .to_owned(),
        FieldType::Color => random.of(&["#A0B1C2", "#000000", "#FFFFFF"]).to_owned(),
        FieldType::ApiName => random.of(&["a", "trilobite_one", "b_2"]).to_owned(),
        FieldType::Domain => random
            .of(&["museum.example", "a.example", "xn--4ca.example"])
            .to_owned(),
        FieldType::Subdomain => format!("s{n}"),
        FieldType::Picklist { options } => random.of(options).to_owned(),
        _ => String::new(),
    }
}

fn decimal(random: &mut Random, precision: u32, scale: u32) -> Decimal {
    let precision = precision.min(28);
    let most = 10_i128.pow(precision) - 1;
    let unscaled = match random.below(8) {
        0 => most,
        1 => -most,
        2 => 1,
        3 => -1,
        4 => 0,
        5 => most / 3,
        6 => i128::from(random.below(20) as i64 - 10) * 10_i128.pow(scale.min(precision - 1)),
        _ => i128::from(random.below(2_000) as i64 - 1_000),
    };
    Decimal::from_i128_with_scale(unscaled, scale)
}

/// A value that is not null and that a field of the type may hold.
pub(crate) fn value(random: &mut Random, field_type: &FieldType) -> Value {
    for _ in 0..20 {
        let value = raw_value(random, field_type);
        if field_type.check(&value.as_ref()).is_ok() {
            return value;
        }
    }
    match field_type {
        FieldType::Integer { min, .. } => Value::Integer(*min),
        FieldType::Decimal { min, .. } => Value::Decimal(min.unwrap_or_default()),
        _ => Value::Null,
    }
}

fn raw_value(random: &mut Random, field_type: &FieldType) -> Value {
    match field_type {
        FieldType::Text {
            max_length,
            multiline,
        } => {
            let text = text(random, *max_length as usize);
            Value::Text(if *multiline { text } else { one_line(&text) })
        }
        FieldType::Score => Value::Integer(random.below(101) as i64),
        FieldType::Percent => Value::Decimal(Decimal::new(random.below(10_001) as i64, 2)),
        FieldType::Integer { min, max } => {
            let any = random.next() as i64;
            let small = random.below(100) as i64;
            let some = [
                *min,
                *max,
                min.saturating_add(1),
                max - 1,
                0,
                1,
                -1,
                2,
                3,
                7,
                small,
                any,
            ];
            Value::Integer(random.of(&some))
        }
        FieldType::Decimal {
            precision, scale, ..
        } => Value::Decimal(decimal(random, *precision, *scale)),
        FieldType::Boolean => Value::Boolean(random.one_in(2)),
        FieldType::Date => Value::Date(moment(random).date_naive()),
        FieldType::Timestamp => Value::Timestamp(moment(random)),
        FieldType::Uuid | FieldType::Reference { .. } => {
            Value::Uuid(Uuid::from_u128(random.of(&[0, 1, 1 << 127, u128::MAX, 42])))
        }
        FieldType::List => {
            let most = if random.one_in(30) { 100 } else { 5 };
            let mut entries: Vec<String> = Vec::new();
            for _ in 0..random.below(most + 1) {
                let length = if random.one_in(10) { 100 } else { 6 };
                let entry = text(random, length);
                if !entry.is_empty() && !entries.contains(&entry) {
                    entries.push(entry);
                }
            }
            Value::List(entries)
        }
        FieldType::Json => Value::Json(match random.below(6) {
            0 => document(random, 3),
            _ => Json::Object(members(random, 3)),
        }),
        special_type => {
            let text = special(random, special_type);
            special_type
                .coerce(Value::Text(text))
                .unwrap_or(Value::Null)
        }
    }
}

/// A text that the object's own type for it can hold.
pub(crate) fn typed_text(object: &ObjectRef, field: &str) -> Option<&'static str> {
    match (object.name(), field) {
        ("activity_series", "starts_at") => Some("2027-03-28T02:30:00"),
        ("activity_series", "recurrence") => Some("FREQ=WEEKLY;BYDAY=MO"),
        _ => None,
    }
}

/// A document that the object's own type for it can hold.
pub(crate) fn typed_document(object: &ObjectRef, field: &str, random: &mut Random) -> Json {
    match object.name() {
        "audit_event" | "archived_audit_event" if field == "redaction" => json!({
            "salts": {"old:a": text(random, 9)}, "fields": {"ip": text(random, 9)},
        }),
        "audit_event" | "archived_audit_event" => {
            let sides =
                |random: &mut Random| json!({"old": document(random, 2), "new": number(random)});
            (0..random.below(4))
                .map(|_| (key(random), sides(random)))
                .collect::<Map<_, _>>()
                .into()
        }
        "tenant_configuration" if random.one_in(4) => json!({"encrypted": {
            "key_id": text(random, 9), "algorithm": "a", "nonce": "n", "ciphertext": text(random, 99),
        }}),
        "tenant_configuration" => json!({"plain": document(random, 3)}),
        "territory" if field == "boundaries" => json!([
            {"country": "CH", "postal_codes": [{"prefix": random.below(99).to_string()}]},
        ]),
        "territory" => json!(
            {"field": "employee_count", "op": "gte", "value": random.below(99)}
        ),
        "activity_series" if matches!(field, "excluded" | "added") => (0..random.below(4))
            .map(|_| json!(moment(random)))
            .collect(),
        _ if field.contains("criteria") || field.contains("conditions") => json!({"and": []}),
        "pipeline_automation_rule" => json!([{"do": "add_tags", "tags": [text(random, 9)]}]),
        "pipeline_stage" if field == "allowed_next_stages" => (0..random.below(3))
            .map(|_| json!(Uuid::from_u128(random.below(9) as u128)))
            .collect(),
        "pipeline_stage" if field == "approval" => json!({"team_role": "lead"}),
        "lead_scoring_rule_set" if field == "groups" => {
            json!([{"name": "fit", "maximum": random.below(99)}])
        }
        "lead_scoring_rule_set" if field == "grades" => json!([{"grade": "A", "from": 50}]),
        "lead_scoring_rule_set" if field == "decay" => {
            json!({"method": {"half_life": {"days": 1 + random.below(99)}}})
        }
        "custom_field" if field == "field_type" => {
            json!({"type": "text", "max_length": 1 + random.below(99)})
        }
        "duplicate_rule" => json!({"when": {"field": "email", "method": "exact"}}),
        _ => json!({}),
    }
}
