//! The PostgreSQL backend beside the one in memory: the same random operations on both, the same
//! answers after each.
//!
//! Rows are made from the schema of every object, with the values that databases, languages and
//! formats disagree about. Each operation has a seed of its own, so that a failing run is cut down
//! to the operations that it takes. `CRM_SEED` names another seed, `CRM_STEPS` another length.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails in a test fails the test"
)]

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::BuildHasher as _;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use crm_engine::identity::User;
use crm_engine::query::{
    AggregateQuery, CalendarUnit, Comparison, Condition, Filter, Group, Grouping, ListMatch,
    Measure, Query, QueryError, SortKey, TextMatch,
};
use crm_engine::schema::{
    FieldSchema, FieldType, Lifecycle, Meta, ObjectRef, ObjectScope, Registry, Row, SYSTEM_FIELDS,
    StorageKind, UniqueKey, Value, ValueRef,
};
use crm_engine::storage::conformance;
use crm_engine::storage::{
    Change, ChangeSet, Claim, Expectation, Scope, Storage, StorageError, check_references,
    unique_value,
};
use crm_engine::value::TimeZone;
use crm_engine::{Actor, Id, MemoryStorage, PostgresStorage, Stamp};
use crm_test_postgres::Database;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// How many operations a run takes, over each of the two sets of objects.
const STEPS: usize = 2_000;
/// The rows of an object that a tenant has at most, about.
const ROWS: usize = 24;
/// How often a failing run is repeated to cut it down.
const REPEATS: usize = 40;

/// Whether a tenant tries to insert the platform's row of another: see
/// [`a_tenant_inserts_no_other_tenant`].
const FOREIGN_PLATFORM_ROWS: bool = true;
/// Whether claims leave ties to the id: see [`a_claim_breaks_ties_as_a_query_does`].
const TIES_OF_CLAIMS: bool = true;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

// --- Values ---------------------------------------------------------------------------------

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

fn text(random: &mut Random, max: usize) -> String {
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

fn number(random: &mut Random) -> Json {
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
fn key(random: &mut Random) -> String {
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

fn moment(random: &mut Random) -> DateTime<Utc> {
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
fn value(random: &mut Random, field_type: &FieldType) -> Value {
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

/// A document that the object's own type for it can hold.
fn typed_document(object: &ObjectRef, random: &mut Random) -> Json {
    match object.name() {
        "audit_event" => {
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
        _ => json!({}),
    }
}

// --- The world ------------------------------------------------------------------------------

type Rows = BTreeMap<Uuid, Row>;

/// What differed.
type Difference = String;

struct World {
    memory: MemoryStorage,
    postgres: PostgresStorage,
    objects: Vec<ObjectRef>,
    registry: Registry,
    tenants: [Uuid; 2],
    /// What both storages hold, by tenant and object.
    rows: [BTreeMap<String, Rows>; 2],
    /// The run's part of every id.
    run: u128,
    clock: i64,
    random: Random,
    counts: BTreeMap<&'static str, usize>,
}

impl World {
    fn new(postgres: PostgresStorage, objects: &[ObjectRef]) -> Self {
        let run = u128::from(RandomState::new().hash_one(0_u8) >> 16) << 80;
        let registry = Registry::default();
        for object in objects {
            registry.add(object);
        }
        Self {
            memory: MemoryStorage::new(),
            postgres,
            objects: objects.to_vec(),
            registry,
            tenants: [Uuid::from_u128(run | 1), Uuid::from_u128(run | 2)],
            rows: Default::default(),
            run,
            clock: 0,
            random: Random(0),
            counts: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn scope(&self, tenant: usize) -> Scope {
        Scope::Tenant(Id::new(self.tenants[tenant]))
    }

    fn new_id(&mut self) -> Uuid {
        let low = u128::from(self.random.next()) << 16 | u128::from(self.random.next() & 0xFFFF);
        Uuid::from_u128(self.run | low)
    }

    fn rows_of(&self, tenant: usize, object: &ObjectRef) -> Vec<Row> {
        let rows = self.rows[tenant].get(object.name());
        rows.map(|rows| rows.values().cloned().collect())
            .unwrap_or_default()
    }

    fn some_row(&mut self, tenant: usize, object: &ObjectRef) -> Option<Row> {
        let rows = self.rows_of(tenant, object);
        self.random.pick(&rows).cloned()
    }

    fn stamp(&mut self) -> Stamp {
        self.clock += 1 + self.random.below(3) as i64;
        let id = Uuid::from_u128(self.random.below(3) as u128);
        let by = [
            Actor::System,
            Actor::Anonymous,
            Actor::ApiClient(id),
            Actor::Import(id),
            Actor::User(Id::<User>::new(id)),
        ];
        let at = if self.random.one_in(30) {
            moment(&mut self.random)
        } else {
            DateTime::from_timestamp(1_768_467_600, 0).unwrap()
                + TimeDelta::microseconds(self.clock)
        };
        Stamp {
            at,
            by: self.random.of(&by),
        }
    }

    /// The id that a reference may hold: mostly that of a live row.
    fn reference(&mut self, tenant: usize, target: &str) -> Uuid {
        let Some(object) = self.registry.object(target) else {
            return Uuid::from_u128(42);
        };
        let from = if self.random.one_in(40) {
            1 - tenant
        } else {
            tenant
        };
        if self.random.one_in(30) {
            return self.new_id();
        }
        let mut rows = self.rows_of(from, &object);
        if !self.random.one_in(40) {
            rows.retain(|row| !row.is_deleted());
        }
        match self.random.pick(&rows) {
            Some(row) => row.id(),
            None => self.new_id(),
        }
    }

    fn field_value(&mut self, tenant: usize, object: &ObjectRef, field: &FieldSchema) -> Value {
        if !field.required && self.random.one_in(3) {
            return Value::Null;
        }
        let place = object.field_index(&field.name);
        let in_key = |key: &UniqueKey| key.fields.iter().any(|index| Some(*index) == place);
        if !field.required && object.unique_keys().iter().any(in_key) && !self.random.one_in(3) {
            return Value::Null;
        }
        if let Some((target, _)) = field.reference() {
            // Now and then: all of them must be right for a commit to pass.
            if !field.required && !self.random.one_in(3) {
                return Value::Null;
            }
            return Value::Uuid(self.reference(tenant, target));
        }
        if object.scope() == ObjectScope::Platform && field.field_type == FieldType::Subdomain {
            // Unique over all tenants, also over those of other runs.
            let run = (self.run >> 80) as u64;
            return Value::Text(format!("r{run:x}-{}", self.random.below(3)));
        }
        if object.scope() == ObjectScope::Platform && field.field_type == FieldType::Domain {
            let run = (self.run >> 80) as u64;
            return Value::Text(format!("r{run:x}-{}.example", self.random.below(3)));
        }
        let made = value(&mut self.random, &field.field_type);
        if field.required && (made.is_null() || made.as_ref().as_text() == Some("")) {
            return Value::Text("x".to_owned());
        }
        made
    }

    /// Builds a row; values that the object's Rust type cannot hold give way.
    fn build(
        &mut self,
        tenant: usize,
        object: &ObjectRef,
        mut meta: Meta,
        mut values: Vec<Value>,
    ) -> Row {
        self.mend_references(tenant, object, &mut meta, &mut values);
        let mut last = String::new();
        for _ in 0..4 {
            let faults = match object.build(meta, values.clone()) {
                Ok(row) => return row,
                Err(faults) => faults,
            };
            let errors = faults.into_result().err().into_iter();
            for error in errors.flat_map(|error| error.into_errors()) {
                let place = object.field_index(&error.path).unwrap() - SYSTEM_FIELDS;
                let _ = write!(last, "{error} {:?}; ", values[place]);
                let field = &object.own_fields()[place];
                values[place] = match field.storage_kind() {
                    StorageKind::Json => Value::Json(typed_document(object, &mut self.random)),
                    // What a group of fields needs.
                    _ if values[place].is_null() => value(&mut self.random, &field.field_type),
                    _ => field.default.clone(),
                };
            }
        }
        panic!("no row of `{}` can be built: {last}", object.name());
    }

    /// A deleted row may refer to deleted rows, but to none that is not there: backends need not
    /// hold that.
    fn mend_references(
        &self,
        tenant: usize,
        object: &ObjectRef,
        meta: &mut Meta,
        values: &mut [Value],
    ) {
        for index in object.references() {
            let field = &object.fields()[*index];
            let Some((target, _)) = field.reference().filter(|_| meta.deleted_at.is_some()) else {
                continue;
            };
            let slot = &mut values[index - SYSTEM_FIELDS];
            let Some(id) = slot.as_ref().as_uuid() else {
                continue;
            };
            if self.rows[tenant]
                .get(target)
                .is_none_or(|rows| !rows.contains_key(&id))
            {
                if field.required {
                    meta.deleted_at = None;
                } else {
                    *slot = Value::Null;
                }
            }
        }
    }

    fn new_row(&mut self, tenant: usize, object: &ObjectRef) -> Row {
        let id = if object.scope() == ObjectScope::Platform {
            let other = FOREIGN_PLATFORM_ROWS && self.random.one_in(12);
            self.tenants[if other { 1 - tenant } else { tenant }]
        } else if object.table() != "audit_events" && self.random.one_in(30) {
            // Taken, or that of the other tenant's row.
            let from = self.random.below(2);
            self.some_row(from, object)
                .map_or(Uuid::from_u128(7), |row| row.id())
        } else {
            self.new_id()
        };
        let mut meta = Meta::first(id, self.stamp());
        if self.random.one_in(15) {
            meta.archived_at = Some(moment(&mut self.random));
        }
        if self.random.one_in(25) {
            meta.deleted_at = Some(moment(&mut self.random));
        }
        let values = object
            .own_fields()
            .iter()
            .map(|field| {
                if self.random.one_in(8) && !field.default.is_null() {
                    return field.default.clone();
                }
                self.field_value(tenant, object, field)
            })
            .collect();
        self.build(tenant, object, meta, values)
    }

    fn next_row(&mut self, tenant: usize, before: &Row) -> Row {
        let object = before.object().clone();
        let mut meta = before.meta().next(self.stamp());
        let now = meta.updated.at;
        match self.random.below(12) {
            0 | 1 => meta.deleted_at = before.meta().deleted_at.is_none().then_some(now),
            2 if before.is_deleted() => meta.deleted_at = None,
            2 => meta.archived_at = before.meta().archived_at.is_none().then_some(now),
            // Nothing but the version.
            3 => {}
            _ => {
                let mut values = before.values();
                let own = object.own_fields().len();
                for _ in 0..=self.random.below(4) {
                    let place = self.random.below(own);
                    values[place] = self.field_value(tenant, &object, &object.own_fields()[place]);
                }
                return self.build(tenant, &object, meta, values);
            }
        }
        before.with_meta(meta)
    }
}

// --- Commits --------------------------------------------------------------------------------

impl World {
    fn some_object(&mut self) -> ObjectRef {
        self.random.pick(&self.objects).cloned().unwrap()
    }

    /// The object itself, or one that its rows need.
    fn ready(&mut self, tenant: usize, mut object: ObjectRef) -> ObjectRef {
        for _ in 0..4 {
            let missing = object.own_fields().iter().find_map(|field| {
                let (target, _) = field.reference().filter(|_| field.required)?;
                let target = self.registry.object(target)?;
                let rows = self.rows_of(tenant, &target);
                rows.iter().all(|row| row.is_deleted()).then_some(target)
            });
            match missing {
                Some(target) => object = target,
                None => break,
            }
        }
        object
    }

    fn change(&mut self, tenant: usize, used: &mut BTreeSet<(String, Uuid)>) -> Option<Change> {
        let object = self.some_object();
        let object = self.ready(tenant, object);
        let rows = self.rows_of(tenant, &object);
        let is_log = object.lifecycle() == Lifecycle::Log;
        let grows = rows.len() < 4 || (rows.len() < ROWS && self.random.one_in(2));
        let change = if grows || (is_log && rows.len() < 3 * ROWS) {
            Change::Insert {
                row: self.new_row(tenant, &object),
            }
        } else if is_log {
            return None;
        } else {
            // Now and then a row of the other tenant.
            let from = if self.random.one_in(40) {
                1 - tenant
            } else {
                tenant
            };
            let mut before = self.some_row(from, &object)?;
            // What was read is what was stored: both tenants may have a row of this id.
            if let Some(own) = self.rows[tenant]
                .get(object.name())
                .and_then(|rows| rows.get(&before.id()))
            {
                before = own.clone();
            }
            if self.random.one_in(30) {
                let meta = before.meta();
                before = before.with_meta(Meta {
                    version: meta.version + 1,
                    ..meta
                });
            }
            if self.random.below(100) < if rows.len() >= ROWS { 60 } else { 15 } {
                Change::Delete { before }
            } else {
                let after = self.next_row(tenant, &before);
                Change::Update { before, after }
            }
        };
        used.insert((object.name().to_owned(), change.id()))
            .then_some(change)
    }

    /// Gives each of two rows the values that the other has in a unique key.
    fn swap(&mut self, tenant: usize, used: &mut BTreeSet<(String, Uuid)>) -> Vec<Change> {
        let object = self.some_object();
        if object.lifecycle() == Lifecycle::Log || object.unique_keys().is_empty() {
            return Vec::new();
        }
        let (Some(a), Some(b)) = (
            self.some_row(tenant, &object),
            self.some_row(tenant, &object),
        ) else {
            return Vec::new();
        };
        let key = self.random.pick(object.unique_keys()).cloned().unwrap();
        if a.id() == b.id() || object.scope() == ObjectScope::Platform {
            return Vec::new();
        }
        let mut pairs = vec![(&a, &b), (&b, &a)];
        if self.random.one_in(4) {
            // Half a swap is a duplicate.
            pairs.truncate(1);
        }
        let mut changes = Vec::new();
        for (before, other) in pairs {
            let mut values = before.values();
            for field in &key.fields {
                if let Some(slot) = field.checked_sub(SYSTEM_FIELDS) {
                    values[slot] = other.value(*field).into_owned();
                }
            }
            let meta = before.meta().next(self.stamp());
            let after = self.build(tenant, &object, meta, values);
            let before = before.clone();
            changes.push(Change::Update { before, after });
        }
        changes
            .into_iter()
            .filter(|change| used.insert((object.name().to_owned(), change.id())))
            .collect()
    }

    fn expectations(&mut self, tenant: usize) -> Vec<Expectation> {
        let mut expects = Vec::new();
        for _ in 0..self.random.below(3) {
            let object = self.some_object();
            let from = if self.random.one_in(10) {
                1 - tenant
            } else {
                tenant
            };
            let (id, version) = match self.some_row(from, &object) {
                Some(row) if !self.random.one_in(40) => (row.id(), row.version()),
                Some(row) => (row.id(), row.version() + 1),
                None if self.random.one_in(20) => (self.new_id(), 1),
                None => continue,
            };
            expects.push(Expectation {
                object,
                id,
                version,
            });
        }
        expects
    }

    fn change_set(&mut self, tenant: usize) -> ChangeSet {
        let mut used = BTreeSet::new();
        let mut changes = Vec::new();
        if self.random.one_in(8) {
            changes = self.swap(tenant, &mut used);
        }
        let most = self.random.of(&[1, 1, 1, 2, 3, 8]);
        for _ in changes.len()..most {
            changes.extend(self.change(tenant, &mut used));
        }
        let expects = if self.random.one_in(5) {
            self.expectations(tenant)
        } else {
            Vec::new()
        };
        let at = DateTime::UNIX_EPOCH + TimeDelta::microseconds(self.clock);
        ChangeSet::new(self.new_id(), at, changes, expects)
    }

    /// Everything that a commit may answer, by the port's five checks.
    fn answers(&self, tenant: usize, changes: &ChangeSet) -> BTreeSet<String> {
        let stored = |object: &ObjectRef, id: Uuid| {
            self.rows[tenant]
                .get(object.name())
                .and_then(|rows| rows.get(&id))
                .cloned()
        };
        let version = |object: &ObjectRef, id| stored(object, id).map(|row| row.version());
        let mut answers = BTreeSet::new();
        for expected in &changes.expects {
            if version(&expected.object, expected.id) != Some(expected.version) {
                answers.insert(format!(
                    "conflict {} {}",
                    expected.object.name(),
                    expected.id
                ));
            }
        }
        for change in &changes.changes {
            let is_right = match change.before() {
                Some(before) => version(change.object(), change.id()) == Some(before.version()),
                None => {
                    change.object().scope() == ObjectScope::Tenant
                        || change.id() == self.tenants[tenant]
                }
            };
            if !is_right {
                answers.insert(format!(
                    "conflict {} {}",
                    change.object().name(),
                    change.id()
                ));
            }
        }
        if !answers.is_empty() {
            return answers;
        }
        let mut after = self.rows.clone();
        for change in &changes.changes {
            let rows = after[tenant]
                .entry(change.object().name().to_owned())
                .or_default();
            if change.before().is_none() && rows.contains_key(&change.id()) {
                answers.insert(format!("duplicate {} id", change.object().name()));
            }
            match change.after() {
                Some(row) => rows.insert(row.id(), row.clone()),
                None => rows.remove(&change.id()),
            };
        }
        let others = |object: &ObjectRef, tenant: usize| {
            after[tenant]
                .get(object.name())
                .into_iter()
                .flat_map(|rows| rows.values())
        };
        for row in changes.changes.iter().filter_map(Change::after) {
            let object = row.object();
            let shared = object.scope() == ObjectScope::Platform;
            for key in object.unique_keys() {
                let Some(own) = unique_value(key, &**row) else {
                    continue;
                };
                let strangers = others(object, 1 - tenant).filter(|_| shared);
                let taken = others(object, tenant).chain(strangers).any(|other| {
                    other.id() != row.id() && unique_value(key, &**other).as_ref() == Some(&own)
                });
                if taken {
                    let fields = object.names(&key.fields).join("+");
                    answers.insert(format!("duplicate {} {fields}", object.name()));
                }
            }
        }
        for (object, field, target, id) in check_references(changes) {
            let row = after[tenant].get(&target).and_then(|rows| rows.get(&id));
            if row.is_none_or(|row| row.is_deleted()) {
                answers.insert(format!(
                    "reference {} {}",
                    object.name(),
                    object.field_name(field)
                ));
            }
        }
        for change in changes
            .changes
            .iter()
            .filter(|change| change.after().is_none())
        {
            let name = change.object().name();
            for (object, field, _) in self.registry.referring_to(name) {
                if others(&object, tenant)
                    .any(|row| row.value(field) == ValueRef::Uuid(change.id()))
                {
                    let field = object.field_name(field);
                    answers.insert(format!("referenced {name} {} {field}", object.name()));
                }
            }
        }
        if answers.is_empty() {
            answers.insert("ok".to_owned());
        }
        answers
    }

    async fn commit(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let changes = self.change_set(tenant);
        let scope = self.scope(tenant);
        let answers = self.answers(tenant, &changes);
        let memory = self.memory.commit(&scope, &changes).await;
        let postgres = self.postgres.commit(&scope, &changes).await;
        let told = || format!("{scope:?} commits{}", show_changes(&changes));
        let (left, right) = (outcome(&memory), outcome(&postgres));
        if !answers.contains(&left) || !answers.contains(&right) {
            return Err(format!(
                "expected one of {answers:?}\nmemory:   {left}\npostgres: {right}\n{}",
                told()
            ));
        }
        if left != right {
            self.count("other fault of several");
        }
        if memory.ok() != postgres.ok() {
            return Err(format!("they count different rows: {}", told()));
        }
        self.count(match left.split(' ').next() {
            Some("ok") => "commit: ok",
            Some("conflict") => "commit: conflict",
            Some("duplicate") => "commit: duplicate",
            Some("reference") => "commit: reference",
            _ => "commit: referenced",
        });
        let mut touched: Vec<ObjectRef> = Vec::new();
        for change in &changes.changes {
            if left == "ok" {
                let rows = self.rows[tenant]
                    .entry(change.object().name().to_owned())
                    .or_default();
                match change.after() {
                    Some(row) => rows.insert(row.id(), row.clone()),
                    None => rows.remove(&change.id()),
                };
            }
            if !touched.contains(change.object()) {
                touched.push(change.object().clone());
            }
        }
        for object in touched {
            self.check_rows(tenant, &object)
                .await
                .map_err(|difference| format!("{difference}\nafter {}", told()))?;
        }
        Ok(())
    }

    /// Both hold exactly the rows that they should.
    async fn check_rows(&mut self, tenant: usize, object: &ObjectRef) -> Result<(), Difference> {
        let query = Query::new(object, Condition::all());
        let scope = self.scope(tenant);
        let expected = self.rows_of(tenant, object);
        for (name, storage) in self.storages() {
            let rows = storage.select(&scope, &query).await;
            let rows = rows.map_err(|error| format!("{name}: {}", explain(&error)))?;
            same_rows(&expected, &rows).map_err(|difference| {
                format!("{name} holds other `{}`: {difference}", object.name())
            })?;
        }
        Ok(())
    }

    fn storages(&self) -> [(&'static str, &dyn Storage); 2] {
        [("memory", &self.memory), ("postgres", &self.postgres)]
    }

    async fn claim(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let in_key = |index: usize| {
            object
                .unique_keys()
                .iter()
                .any(|key| key.fields.contains(&index) || key.only_if == Some(index))
        };
        let free: Vec<usize> = (SYSTEM_FIELDS..object.fields().len())
            .filter(|index| !in_key(*index) && object.fields()[*index].reference().is_none())
            .collect();
        if object.lifecycle() == Lifecycle::Log || free.is_empty() {
            return Ok(());
        }
        let mut assign: BTreeMap<usize, Value> = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            let index = self.random.of(&free);
            let field = object.fields()[index].clone();
            assign.insert(index, self.field_value(tenant, &object, &field));
        }
        let condition = self.condition(tenant, &object);
        let mut sort = self.sort(&object);
        if !TIES_OF_CLAIMS {
            sort.push(SortKey {
                index: 0,
                descending: self.random.one_in(2),
            });
        }
        let (limit, stamp) = (self.random.below(5), self.stamp());
        let assign: Vec<(usize, Value)> = assign.into_iter().collect();
        // An assignment changes its fields and nothing else: what belongs together in the object's
        // Rust type, such as the two forms of a telephone number, is not torn apart.
        let claim = Claim::new(
            object.clone(),
            Condition::all(),
            Vec::new(),
            1,
            assign.clone(),
            stamp,
        );
        let is_whole = |row: &Row| {
            let mut values = row.values();
            for (index, value) in &assign {
                values[index - SYSTEM_FIELDS] = value.clone();
            }
            claim
                .apply(row)
                .is_ok_and(|applied| applied.values() == values)
        };
        if !self.rows_of(tenant, &object).iter().all(is_whole) {
            return Ok(());
        }
        let claim = Claim::new(object.clone(), condition, sort, limit, assign, stamp);
        let scope = self.scope(tenant);
        let memory = self.memory.claim(&scope, &claim).await;
        let postgres = self.postgres.claim(&scope, &claim).await;
        let rows = same_answers(&memory, &postgres, same_rows)
            .map_err(|difference| format!("{difference}\n{scope:?} claims {claim:?}"))?;
        self.count(if rows.is_some_and(|rows| !rows.is_empty()) {
            "claim: some"
        } else {
            "claim: none"
        });
        for row in rows.into_iter().flatten() {
            let all = self.rows[tenant]
                .entry(object.name().to_owned())
                .or_default();
            all.insert(row.id(), row.clone());
        }
        self.check_rows(tenant, &object)
            .await
            .map_err(|difference| format!("{difference}\nafter {scope:?} claims {claim:?}"))
    }
}

fn outcome<T>(result: &Result<T, StorageError>) -> String {
    result.as_ref().map_or_else(explain, |_| "ok".to_owned())
}

/// The variant and the names of an error; what went wrong, where it is none of the port's answers.
fn explain(error: &StorageError) -> String {
    match error {
        StorageError::Conflict { object, id } => format!("conflict {object} {id}"),
        StorageError::Duplicate { object, fields } => {
            format!("duplicate {object} {}", fields.join("+"))
        }
        StorageError::Reference { object, field } => format!("reference {object} {field}"),
        StorageError::Referenced { object, by, field } => {
            format!("referenced {object} {by} {field}")
        }
        StorageError::Query(error) => format!("query {error:?}"),
        StorageError::Corrupt { object, fields } => format!("corrupt {object} {fields:?}"),
        StorageError::Unavailable(source) => format!("unavailable: {source}"),
        StorageError::Failed(source) => format!("failed: {source}"),
        other => format!("{other:?}"),
    }
}

// --- Queries --------------------------------------------------------------------------------

impl World {
    /// A value to compare a field with: mostly one that a row has, or one beside it.
    fn operand(&mut self, tenant: usize, object: &ObjectRef, index: usize) -> Value {
        let field = object.fields()[index].clone();
        if self.random.below(3) > 0
            && let Some(row) = self.some_row(tenant, object)
        {
            let value = row.value(index).into_owned();
            return match value {
                Value::Integer(number) if self.random.one_in(4) => {
                    Value::Decimal(Decimal::from(number) + Decimal::new(5, 1))
                }
                Value::Integer(number) if self.random.one_in(4) => {
                    Value::Integer(number.wrapping_add(1))
                }
                Value::Decimal(number) if self.random.one_in(4) => {
                    Value::Decimal(number.checked_add(Decimal::new(1, 9)).unwrap_or(number))
                }
                Value::Text(text) if self.random.one_in(3) => {
                    Value::Text(match self.random.below(3) {
                        0 => text.to_uppercase(),
                        1 => text.to_lowercase(),
                        _ => format!("{text}\0"),
                    })
                }
                Value::Timestamp(at) if self.random.one_in(4) => {
                    Value::Timestamp(at + TimeDelta::nanoseconds(1))
                }
                value => value,
            };
        }
        match self.random.below(12) {
            0 => Value::Null,
            1 => Value::Decimal(Decimal::MAX),
            2 => Value::Date(self.random.of(&[NaiveDate::MIN, NaiveDate::MAX])),
            3 => Value::Timestamp(
                self.random
                    .of(&[DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC]),
            ),
            _ => value(&mut self.random, &field.field_type),
        }
    }

    /// A scalar to compare a document's member with.
    fn member(&mut self, tenant: usize, object: &ObjectRef, index: usize) -> (String, Value) {
        let document = self
            .some_row(tenant, object)
            .map(|row| row.value(index).to_json());
        if let Some(Json::Object(members)) = document
            && !members.is_empty()
        {
            let members: Vec<_> = members.into_iter().collect();
            let (name, member) = self.random.pick(&members).cloned().unwrap();
            if !self.random.one_in(3) {
                return (name, Value::from_json(member));
            }
            return (name, Value::from_json(document_scalar(&mut self.random)));
        }
        (
            key(&mut self.random),
            Value::from_json(document_scalar(&mut self.random)),
        )
    }

    fn leaf(&mut self, tenant: usize, object: &ObjectRef) -> Filter {
        let index = self.random.below(object.fields().len());
        let field = object.fields()[index].clone();
        let kind = field.storage_kind();
        let (name, value) = if kind == StorageKind::Json {
            let (member, value) = self.member(tenant, object, index);
            (format!("{}.{member}", field.name), value)
        } else {
            (field.name.to_string(), self.operand(tenant, object, index))
        };
        let name: std::borrow::Cow<'static, str> = name.into();
        let another = |world: &mut Self| match kind {
            StorageKind::Json => world.member(tenant, object, index).1,
            _ => world.operand(tenant, object, index),
        };
        match self.random.below(12) {
            0 => Filter::Null {
                field: if self.random.one_in(4) {
                    field.name
                } else {
                    name
                },
                is_null: self.random.one_in(2),
            },
            1 => Filter::In {
                field: name,
                values: (0..self.random.below(5)).map(|_| another(self)).collect(),
            },
            2 => Filter::Between {
                field: name,
                from: value,
                to: another(self),
            },
            3 | 4 if matches!(kind, StorageKind::Text | StorageKind::Json) => {
                let op = self
                    .random
                    .of(&[TextMatch::StartsWith, TextMatch::Contains]);
                let text = value.as_ref().as_text().unwrap_or("a").to_owned();
                let letters: Vec<char> = text.chars().collect();
                let from = if op == TextMatch::Contains {
                    self.random.below(letters.len() + 1)
                } else {
                    0
                };
                let length = self.random.below(4);
                let part: String = letters.iter().skip(from).take(length).collect();
                let text = match self.random.below(4) {
                    0 => part.to_uppercase(),
                    1 => part.to_lowercase(),
                    2 => self::text(&mut self.random, 2),
                    _ => part,
                };
                Filter::Text {
                    field: name,
                    op,
                    text,
                }
            }
            _ if kind == StorageKind::List => {
                let mut values = match another(self) {
                    Value::List(entries) => entries,
                    _ => Vec::new(),
                };
                let keep = self.random.below(4);
                values.truncate(keep);
                if self.random.one_in(4) {
                    values.push(text(&mut self.random, 3));
                }
                let op = self.random.of(&[ListMatch::Any, ListMatch::All]);
                Filter::List {
                    field: name,
                    op,
                    values,
                }
            }
            5 | 6 if field.reference().is_some() => {
                let target = field
                    .reference()
                    .and_then(|(target, _)| self.registry.object(target));
                let filter = match target {
                    Some(target) => self.filter(tenant, &target, 1),
                    None => Filter::all(),
                };
                Filter::Has {
                    field: name,
                    filter: Box::new(filter),
                }
            }
            _ => {
                use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
                let op = self.random.of(&[Eq, Ne, Lt, Le, Gt, Ge]);
                Filter::Compare {
                    field: name,
                    op,
                    value,
                }
            }
        }
    }

    fn filter(&mut self, tenant: usize, object: &ObjectRef, depth: usize) -> Filter {
        let several = |world: &mut Self| -> Vec<Filter> {
            (0..world.random.below(4))
                .map(|_| world.filter(tenant, object, depth - 1))
                .collect()
        };
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            4 => Filter::And(several(self)),
            5 => Filter::Or(several(self)),
            6 => Filter::Not(Box::new(self.filter(tenant, object, depth - 1))),
            _ => loop {
                let leaf = self.leaf(tenant, object);
                if Condition::bind(&leaf, object, &self.registry).is_ok() {
                    return leaf;
                }
            },
        }
    }

    fn condition(&mut self, tenant: usize, object: &ObjectRef) -> Condition {
        if self.random.one_in(5) {
            return Condition::all();
        }
        let filter = self.filter(tenant, object, 3);
        Condition::bind(&filter, object, &self.registry).unwrap_or(Condition::all())
    }

    fn sort(&mut self, object: &ObjectRef) -> Vec<SortKey> {
        let sortable: Vec<usize> = (0..object.fields().len())
            .filter(|index| object.fields()[*index].is_sortable())
            .collect();
        (0..self.random.below(4))
            .map(|_| SortKey {
                index: self.random.of(&sortable),
                descending: self.random.one_in(2),
            })
            .collect()
    }

    /// Whose rows are read: now and then those of the platform, of both tenants.
    fn reading(&mut self, object: &ObjectRef, condition: Condition) -> (Scope, Condition) {
        if !self.random.one_in(20) {
            let tenant = self.random.below(2);
            return (self.scope(tenant), condition);
        }
        // Other runs have tenants of their own in the same database.
        let ours = self.tenants.map(Value::Uuid).to_vec();
        let ours = Filter::In {
            field: "id".into(),
            values: ours,
        };
        let ours = Condition::bind(&ours, object, &self.registry).unwrap();
        (Scope::Platform, ours.and(condition))
    }

    async fn get(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let (scope, _) = self.reading(&object, Condition::all());
        let mut ids = Vec::new();
        for _ in 0..self.random.of(&[0, 1, 1, 2, 5, 30]) {
            let from = if self.random.one_in(6) {
                1 - tenant
            } else {
                tenant
            };
            ids.push(match self.some_row(from, &object) {
                Some(row) if !self.random.one_in(6) => row.id(),
                _ => self.new_id(),
            });
        }
        let memory = self.memory.get(&scope, &object, &ids).await;
        let postgres = self.postgres.get(&scope, &object, &ids).await;
        same_answers(&memory, &postgres, same_rows).map_err(|difference| {
            format!("{difference}\n{scope:?} gets `{}` {ids:?}", object.name())
        })?;
        self.count("get");
        Ok(())
    }

    /// Goes through all pages of a query.
    async fn walk(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let condition = self.condition(tenant, &object);
        let (scope, condition) = self.reading(&object, condition);
        let sort = self.sort(&object);
        let limit = self.random.of(&[0, 1, 2, 3, 7, 20, usize::MAX]);
        let mut query = Query::new(&object, condition).sort(sort).limit(limit);
        if self.random.one_in(6) {
            let keys = query.sort.clone();
            let mut position = |key: &SortKey| loop {
                // As a cursor gives it: of the field's own kind, or none.
                let value = self.operand(tenant, &object, key.index);
                if let Ok(value) = object.fields()[key.index].field_type.coerce(value) {
                    return value;
                }
            };
            query.after = Some(keys.iter().map(&mut position).collect());
        }
        let mut pages = 0;
        loop {
            let memory = self.memory.select(&scope, &query).await;
            let postgres = self.postgres.select(&scope, &query).await;
            let rows = same_answers(&memory, &postgres, same_rows)
                .map_err(|difference| {
                    format!("{difference}\n{scope:?} selects {}", show_query(&query))
                })?
                .cloned()
                .unwrap_or_default();
            pages += 1;
            self.count(if rows.is_empty() {
                "page: empty"
            } else {
                "page"
            });
            let Some(last) = rows.last().filter(|_| rows.len() == limit && pages < 40) else {
                break;
            };
            query.after = Some(
                query
                    .sort
                    .iter()
                    .map(|key| last.value(key.index).into_owned())
                    .collect(),
            );
        }
        self.count("walk");
        Ok(())
    }

    async fn aggregate(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let fields = object.fields();
        let of = |is: fn(&FieldSchema) -> bool| -> Vec<usize> {
            (0..fields.len())
                .filter(|index| is(&fields[*index]))
                .collect()
        };
        let numbers = of(|field| {
            matches!(
                field.storage_kind(),
                StorageKind::Integer | StorageKind::Decimal
            )
        });
        let sortable = of(FieldSchema::is_sortable);
        let days = of(|field| {
            matches!(
                field.storage_kind(),
                StorageKind::Date | StorageKind::Timestamp
            )
        });
        let mut condition = self.condition(tenant, &object);
        let mut groups = Vec::new();
        for _ in 0..self.random.below(3) {
            if self.random.one_in(2) {
                groups.push(Grouping::Field(self.random.of(&sortable)));
                continue;
            }
            let index = self.random.of(&days);
            use CalendarUnit::{Day, Month, Quarter, Week, Year};
            let zones = [
                "UTC",
                "Europe/Prague",
                "America/New_York",
                "Asia/Kolkata",
                "Pacific/Apia",
                "Australia/Lord_Howe",
                "America/St_Johns",
                "CET",
                "EST",
                "Pacific/Kiritimati",
            ];
            let time_zone: TimeZone = self.random.of(&zones).parse().unwrap();
            groups.push(Grouping::Calendar {
                index,
                unit: self.random.of(&[Day, Week, Month, Quarter, Year]),
                time_zone,
            });
            if time_zone != TimeZone::UTC && fields[index].storage_kind() == StorageKind::Timestamp
            {
                // The years for which the two time zone databases agree.
                let known = Filter::Between {
                    field: fields[index].name.clone(),
                    from: "1970-01-03T00:00:00Z".into(),
                    to: "2099-12-29T00:00:00Z".into(),
                };
                let known = Condition::bind(&known, &object, &self.registry).unwrap();
                condition = known.and(condition);
            }
        }
        // Of these the products have no more digits than a decimal holds.
        let amounts = of(|field| match field.field_type {
            FieldType::Decimal { precision, .. } => precision <= 19,
            _ => field.storage_kind() == StorageKind::Integer,
        });
        let percents =
            of(|field| matches!(field.field_type, FieldType::Percent | FieldType::Score));
        let measures = (0..self.random.below(5))
            .map(|_| match self.random.below(6) {
                0 => Measure::Count,
                1 => Measure::Sum(self.random.of(&numbers)),
                2 => Measure::Average(self.random.of(&numbers)),
                3 => Measure::Min(self.random.of(&sortable)),
                4 => Measure::Max(self.random.of(&sortable)),
                _ if percents.is_empty() => Measure::Count,
                _ => Measure::WeightedSum {
                    amount: self.random.of(&amounts),
                    percent: self.random.of(&percents),
                },
            })
            .collect();
        let (scope, condition) = self.reading(&object, condition);
        let mut query = AggregateQuery::count(&object, condition);
        (query.groups, query.measures) = (groups, measures);
        let memory = self.memory.aggregate(&scope, &query).await;
        let postgres = self.postgres.aggregate(&scope, &query).await;
        if let Err(StorageError::Query(QueryError::Overflow { .. })) = &memory {
            // The one adds row by row and gives up on the way; the other need not, or names another
            // of several sums.
            match &postgres {
                Ok(_) | Err(StorageError::Query(QueryError::Overflow { .. })) => {}
                Err(other) => return Err(format!("overflow, {}\n{query:?}", explain(other))),
            }
            self.count("aggregate: overflow");
            return Ok(());
        }
        let groups = same_answers(&memory, &postgres, same_groups)
            .map_err(|difference| format!("{difference}\n{scope:?} aggregates {query:?}"))?
            .map_or(0, |groups| groups.len());
        self.count(if groups > 1 {
            "aggregate: groups"
        } else {
            "aggregate: one"
        });
        Ok(())
    }

    async fn step(&mut self, seed: u64) -> Result<(), Difference> {
        self.random = Random(seed);
        match self.random.below(20) {
            0..=8 => self.commit().await,
            9 => self.get().await,
            10..=14 => self.walk().await,
            15..=18 => self.aggregate().await,
            _ => self.claim().await,
        }
    }
}

fn document_scalar(random: &mut Random) -> Json {
    match random.below(4) {
        0 => Json::Bool(random.one_in(2)),
        1 => text(random, 12).into(),
        _ => number(random),
    }
}

// --- Comparing ------------------------------------------------------------------------------

/// The answer, where both are answers and the same; `None` where both are the same error.
fn same_answers<'a, T>(
    memory: &'a Result<T, StorageError>,
    postgres: &Result<T, StorageError>,
    same: impl Fn(&T, &T) -> Result<(), Difference>,
) -> Result<Option<&'a T>, Difference> {
    match (memory, postgres) {
        (Ok(left), Ok(right)) => same(left, right).map(|()| Some(left)),
        (Err(left), Err(right)) if explain(left) == explain(right) => Ok(None),
        _ => Err(format!(
            "memory: {}\npostgres: {}",
            outcome(memory),
            outcome(postgres)
        )),
    }
}

fn same_rows(left: &Vec<Row>, right: &Vec<Row>) -> Result<(), Difference> {
    let ids = |rows: &[Row]| rows.iter().map(|row| row.id()).collect::<Vec<_>>();
    if ids(left) != ids(right) {
        let only = |a: &[Row], b: &[Row]| {
            let other = ids(b);
            a.iter()
                .filter(|row| !other.contains(&row.id()))
                .map(show_row)
                .collect::<String>()
        };
        return Err(format!(
            "rows differ: {} and {}\nonly on the left:{}\nonly on the right:{}\norder: {:?}\n   and {:?}",
            left.len(),
            right.len(),
            only(left, right),
            only(right, left),
            ids(left),
            ids(right)
        ));
    }
    for (left, right) in left.iter().zip(right) {
        if left.meta() != right.meta() {
            return Err(format!(
                "meta differs: {:?}\nand {:?}",
                left.meta(),
                right.meta()
            ));
        }
        for index in 0..left.object().fields().len() {
            let (a, b) = (left.value(index), right.value(index));
            if a != b {
                let field = left.object().field_name(index);
                return Err(format!("`{field}` of {} differs:\n{a:?}\n{b:?}", left.id()));
            }
        }
        if std::any::Any::type_id(&**left) != std::any::Any::type_id(&**right) {
            return Err(format!("{} is of another type", left.id()));
        }
    }
    Ok(())
}

fn same_groups(left: &Vec<Group>, right: &Vec<Group>) -> Result<(), Difference> {
    if left == right {
        return Ok(());
    }
    let mut text = format!("groups differ: {} and {}", left.len(), right.len());
    for place in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(place), right.get(place));
        if a != b {
            let _ = write!(text, "\n{a:?}\n{b:?}");
        }
    }
    Err(text)
}

fn show_row(row: &Row) -> String {
    let mut text = format!("\n  {}", row.object().name());
    for (index, field) in row.object().fields().iter().enumerate() {
        let value = row.value(index);
        if !value.is_null() {
            let shown: String = format!("{value:?}").chars().take(120).collect();
            let _ = write!(text, " {}={shown}", field.name);
        }
    }
    text
}

fn show_changes(changes: &ChangeSet) -> String {
    let mut text = String::new();
    for change in &changes.changes {
        let what = match change {
            Change::Insert { .. } => "insert",
            Change::Update { .. } => "update",
            Change::Delete { .. } => "delete",
        };
        let _ = write!(text, "\n {what}");
        for row in change.before().into_iter().chain(change.after()) {
            text.push_str(&show_row(row));
        }
    }
    for expected in &changes.expects {
        let _ = write!(text, "\n expect {expected:?}");
    }
    text
}

fn show_query(query: &Query) -> String {
    let sort: Vec<String> = query
        .sort
        .iter()
        .map(|key| {
            format!(
                "{}{}",
                if key.descending { "-" } else { "" },
                query.object.field_name(key.index)
            )
        })
        .collect();
    format!(
        "`{}` where {:?} by {sort:?} behind {:?}, {}",
        query.object.name(),
        query.condition,
        query.after,
        query.limit
    )
}

// --- Running --------------------------------------------------------------------------------

/// Runs the operations with these seeds; the first that differs, and how.
async fn run(
    postgres: &PostgresStorage,
    objects: &[ObjectRef],
    seeds: &[u64],
) -> Result<World, (usize, Difference)> {
    let mut world = World::new(postgres.clone(), objects);
    for (place, seed) in seeds.iter().enumerate() {
        world
            .step(*seed)
            .await
            .map_err(|difference| (place, difference))?;
    }
    for object in objects {
        for tenant in [0, 1] {
            let checked = world.check_rows(tenant, object).await;
            checked.map_err(|difference| (seeds.len() - 1, difference))?;
        }
    }
    Ok(world)
}

/// Leaves out operations for as long as some difference remains.
async fn cut_down(
    postgres: &PostgresStorage,
    objects: &[ObjectRef],
    mut seeds: Vec<u64>,
    mut difference: Difference,
) -> (Vec<u64>, Difference) {
    let mut chunk = seeds.len() / 2;
    let mut repeats = 0;
    while chunk > 0 && repeats < REPEATS {
        let mut start = 0;
        while start < seeds.len() && repeats < REPEATS {
            let mut fewer = seeds.clone();
            fewer.drain(start..(start + chunk).min(seeds.len()));
            repeats += 1;
            match run(postgres, objects, &fewer).await {
                Err((place, other)) if kind(&other) == kind(&difference) => {
                    fewer.truncate(place + 1);
                    (seeds, difference) = (fewer, other);
                }
                _ => start += chunk,
            }
        }
        chunk /= 2;
    }
    (seeds, difference)
}

/// The first words of a difference, without what changes from run to run.
fn kind(difference: &str) -> &str {
    difference.split([':', '{', '`']).next().unwrap_or_default()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

async fn compare(objects: Vec<ObjectRef>, seed: u64) {
    let seed = from_environment("CRM_SEED").unwrap_or(seed);
    let steps = from_environment("CRM_STEPS").map_or(STEPS, |steps| steps as usize);
    let postgres = postgres().await;
    let mut random = Random(seed);
    let seeds: Vec<u64> = (0..steps).map(|_| random.next()).collect();
    match run(&postgres, &objects, &seeds).await {
        Ok(world) => {
            println!("{:#?}", world.counts);
            // The random work must be work.
            for (what, least) in [
                ("commit: ok", steps / 8),
                ("page", steps / 8),
                ("aggregate: groups", steps / 40),
            ] {
                let count = world.counts.get(what).copied().unwrap_or_default();
                assert!(count > least, "{what}: {count} of {steps}");
            }
        }
        Err((place, difference)) => {
            let (fewer, smaller) = cut_down(
                &postgres,
                &objects,
                seeds[..=place].to_vec(),
                difference.clone(),
            )
            .await;
            panic!(
                "the storages differ with CRM_SEED={seed} in operation {place}:\n{difference}\n\n\
                 cut down to {} operations {fewer:?}:\n{smaller}",
                fewer.len()
            );
        }
    }
}

async fn postgres() -> PostgresStorage {
    let database = Database::shared("differential", &conformance::objects())
        .await
        .expect("the tests need PostgreSQL");
    let pool = database.pool(2).await.expect("a pool");
    let builder = conformance::objects()
        .iter()
        .fold(PostgresStorage::builder(), |builder, object| {
            builder.named_object(object)
        });
    // Some members are found by an index, others not.
    [
        ("specimen", "extra.a"),
        ("specimen", "extra."),
        ("specimen", "extra.a.b"),
        ("specimen", "details.b"),
        ("contact", "custom_fields.a"),
        ("contact", "custom_fields.quo\"te"),
        ("deal", "custom_fields.A"),
    ]
    .into_iter()
    .fold(builder, |builder, (object, path)| {
        builder.index_member(object, path)
    })
    .build(pool)
}

#[tokio::test]
async fn the_objects_of_the_engine() {
    compare(crm_engine::postgres::objects(), 0x5EED_0001).await;
}

#[tokio::test]
async fn the_objects_of_the_suite() {
    compare(conformance::objects(), 0x5EED_0002).await;
}

// --- Differences that were found ------------------------------------------------------------

async fn world(objects: Vec<ObjectRef>) -> World {
    let mut world = World::new(postgres().await, &objects);
    world.random = Random(1);
    world
}

impl World {
    fn row_of<E: crm_engine::schema::Entity>(&mut self, data: E) -> Row {
        let meta = Meta::first(self.new_id(), self.stamp());
        std::sync::Arc::new(crm_engine::Record::new(meta, data))
    }

    /// What both answer to a commit.
    async fn both(&self, changes: Vec<Change>) -> [String; 2] {
        let scope = self.scope(0);
        let changes = ChangeSet::new(self.tenants[0], DateTime::UNIX_EPOCH, changes, Vec::new());
        [
            outcome(&self.memory.commit(&scope, &changes).await),
            outcome(&self.postgres.commit(&scope, &changes).await),
        ]
    }
}

/// `1e17` came back as the whole number 100000000000000000, which is no longer equal.
#[tokio::test]
async fn numbers_of_documents_keep_their_kind() {
    let mut world = world(conformance::objects()).await;
    let numbers = json!([
        1e15,
        1e16,
        1e17,
        -1e18,
        1.8e19,
        1.9e19,
        1e300,
        5e-324,
        1.0,
        u64::MAX
    ]);
    let mut rows = Vec::new();
    for name in ["a", "b", "c"] {
        let mut specimen = conformance::Specimen::new(name);
        specimen.details = Some(numbers.clone());
        specimen.extra = json!({"big": 1e17, "all": numbers});
        rows.push(world.row_of(specimen));
    }
    // One row is bound value by value, several are bound as arrays.
    let mut several: Vec<Change> = rows
        .iter()
        .map(|row| Change::Insert { row: row.clone() })
        .collect();
    let one = several.pop().into_iter().collect();
    assert_eq!(world.both(several).await, ["ok", "ok"]);
    assert_eq!(world.both(one).await, ["ok", "ok"]);
    for (_, storage) in world.storages() {
        let query = Query::new(rows[0].object(), Condition::all());
        let stored = storage.select(&world.scope(0), &query).await.unwrap();
        assert_eq!(stored.len(), 3);
        for row in stored {
            assert_eq!(row.get("details").to_json(), numbers);
            assert_eq!(row.get("extra").to_json()["big"], json!(1e17));
        }
    }
}

/// Row-level security refuses the insert before anything is told apart.
#[tokio::test]
async fn a_tenant_inserts_no_other_tenant() {
    let mut world = world(conformance::objects()).await;
    let other = world.tenants[1];
    let laboratory = world.row_of(conformance::Laboratory {
        name: "Theirs".into(),
        subdomain: None,
    });
    let row = laboratory.with_meta(Meta {
        id: other,
        ..laboratory.meta()
    });
    let conflict = format!("conflict laboratory {other}");
    let answers = world.both(vec![Change::Insert { row }]).await;
    assert_eq!(answers, [conflict.as_str(), &conflict]);
}

/// Rows that are equal in the sort come in the order of their ids: descending, where the last key
/// is, as [`Query::sort`] says.
#[tokio::test]
async fn a_claim_breaks_ties_as_a_query_does() {
    let mut world = world(conformance::objects()).await;
    let mut changes = Vec::new();
    for _ in 0..3 {
        let row = world.row_of(conformance::Chore {
            queue: "q".into(),
            run_at: None,
            claimed_until: None,
            worker: None,
            urgency: 1,
        });
        changes.push(Change::Insert { row });
    }
    assert_eq!(world.both(changes).await, ["ok", "ok"]);
    let object = conformance::objects().remove(2);
    let sort = vec![SortKey {
        index: object.field_index("urgency").unwrap(),
        descending: true,
    }];
    let claim = Claim::new(object, Condition::all(), sort, 2, Vec::new(), world.stamp());
    let scope = world.scope(0);
    let memory = world.memory.claim(&scope, &claim).await.unwrap();
    let postgres = world.postgres.claim(&scope, &claim).await.unwrap();
    assert_eq!(same_rows(&memory, &postgres), Ok(()));
}
