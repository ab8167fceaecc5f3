//! What has to hold of any rows and conditions.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, TimeDelta};
use crm_core::query::{
    Comparison, Condition, CustomMember, FieldAt, ListMatch, NoRelated, TextMatch, fold_case,
};
use crm_core::schema::{
    Entity as _, FieldSchema, FieldType, Meta, ObjectRef, Row, SYSTEM_FIELDS, StorageKind, Value,
};
use crm_core::{Actor, Stamp};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::conditions::Translator;
use super::coverage::{Coverage, Extent};
use super::rows::{open_row, seal_row};
use super::{EncryptionError, Key, Keyring};

/// A source of choices that a seed decides (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.roll(list.len() as u64)).unwrap()]
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_u128((u128::from(self.roll(u64::MAX)) << 64) | u128::from(self.roll(u64::MAX)))
    }

    /// A word; of few ones, so that some are equal, or of very many.
    fn word(&mut self, few: bool) -> String {
        if few {
            return (*self.of(&["Ada Lovelace", "ada lovelace", "ÉTÉ", "été", "Ünal"])).to_owned();
        }
        let letters = ["qu", "ze", "vo", "xi", "wy", "ju", "ÿs", "Øk"];
        (0..6).map(|_| *self.of(&letters)).collect()
    }

    fn value(&mut self, field: &FieldSchema, few: bool) -> Value {
        let text = |text: &str| Value::Text(text.to_owned());
        match &field.field_type {
            FieldType::Text { max_length, .. } => {
                let word = self.word(few);
                Value::Text(word.chars().take(*max_length as usize).collect())
            }
            FieldType::Integer { .. } | FieldType::Score => {
                Value::Integer(i64::try_from(self.roll(90)).unwrap())
            }
            FieldType::Decimal { .. } | FieldType::Percent => {
                Value::Decimal(Decimal::new(i64::try_from(self.roll(9_000)).unwrap(), 2))
            }
            FieldType::Boolean => Value::Boolean(self.roll(2) == 0),
            FieldType::Date => {
                let first = NaiveDate::from_ymd_opt(1950, 1, 1).unwrap();
                Value::Date(first + Days::new(self.roll(if few { 3 } else { 30_000 })))
            }
            FieldType::Timestamp => {
                let micros = i64::try_from(self.roll(1 << 50)).unwrap();
                Value::Timestamp(DateTime::UNIX_EPOCH + TimeDelta::microseconds(micros))
            }
            FieldType::Uuid | FieldType::Reference { .. } => Value::Uuid(self.id()),
            FieldType::Email | FieldType::Domain if few => {
                text(self.of::<&str>(&["Ada@Example.com", "ada@example.com", "bob@example.com"]))
            }
            FieldType::Email => {
                let (name, host) = (self.roll(1 << 40), self.roll(1 << 40));
                Value::Text(format!("Q{name:x}@w{host:x}.example"))
            }
            FieldType::Phone => Value::Text(format!("+1 202 555 01{:02}", self.roll(100))),
            FieldType::Url { .. } => {
                Value::Text(format!("https://w{:x}.example/", self.roll(1 << 40)))
            }
            FieldType::Currency => text("EUR"),
            FieldType::Country => text("DE"),
            FieldType::Language => text("de"),
            FieldType::TimeZone => text("Europe/Berlin"),
            FieldType::Color => text("#aabbcc"),
            FieldType::ApiName => text("some_name"),
            FieldType::Subdomain => text("acme"),
            FieldType::Domain => text("acme.example"),
            FieldType::Picklist { options } => text(self.of::<&str>(options)),
            FieldType::List => Value::List((0..self.roll(3)).map(|_| self.word(few)).collect()),
            _ => Value::Json(self.document(few)),
        }
    }

    fn document(&mut self, few: bool) -> Json {
        let mut document = serde_json::Map::new();
        for name in ["nick", "born", "size", "deep", "tags", "none", "flag"] {
            if self.roll(3) == 0 {
                continue;
            }
            document.insert(
                name.to_owned(),
                match name {
                    "nick" => json!(self.word(few)),
                    "born" => json!(format!("2000-01-0{}", 1 + self.roll(3))),
                    "size" => json!(self.roll(4)),
                    "deep" => json!({"said": [self.word(few)]}),
                    "tags" => json!([self.word(few)]),
                    "flag" => json!(true),
                    _ => Json::Null,
                },
            );
        }
        Json::Object(document)
    }

    /// A row with as many values as its type takes.
    fn row(&mut self, object: &ObjectRef, few: bool) -> Row {
        let at = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let meta = Meta::first(
            self.id(),
            Stamp {
                at,
                by: Actor::System,
            },
        );
        let mut values = object.defaults();
        // What is required comes first; no row is possible before.
        for (slot, field) in object.own_fields().iter().enumerate() {
            if field.required && values[slot].is_null() {
                values[slot] = self.value(field, few);
            }
        }
        for (slot, field) in object.own_fields().iter().enumerate() {
            if self.roll(5) == 0 {
                continue;
            }
            let value = self.value(field, few);
            let old = std::mem::replace(&mut values[slot], value);
            if object.build(meta, values.clone()).is_err() {
                values[slot] = old;
            }
        }
        match object.build(meta, values.clone()) {
            Ok(row) => row,
            // Values of a form of their own.
            Err(faults) => {
                let faulty = faults.into_result().unwrap_err().into_errors();
                for fault in faulty {
                    let name = fault.path.split(['.', '[']).next().unwrap().to_owned();
                    let index = object.field_index(&name).unwrap() - SYSTEM_FIELDS;
                    values[index] = match object.own_fields()[index].storage_kind() {
                        StorageKind::Json => Value::Json(json!([])),
                        _ if name.contains("recur") => Value::from("FREQ=DAILY"),
                        _ => Value::from("2027-01-04T09:00"),
                    };
                }
                object
                    .build(meta, values)
                    .unwrap_or_else(|faults| panic!("{}: {faults:?}", object.name()))
            }
        }
    }
}

fn objects() -> Vec<ObjectRef> {
    let mut objects = crm_core::objects();
    objects.extend(crate::objects());
    objects
}

fn coverage() -> Coverage {
    let mut coverage = Coverage::default();
    objects().iter().for_each(|object| coverage.learn(object));
    coverage
}

fn ring(tenant: u128) -> Keyring {
    let key = Uuid::from_u128(7);
    let data = BTreeMap::from([(key, Key::new([3; 32]))]);
    Keyring::new(Uuid::from_u128(tenant), data, key, &Key::new([9; 32])).unwrap()
}

fn covered(coverage: &Coverage, row: &Row) -> Vec<usize> {
    (0..row.object().fields().len())
        .filter(|index| coverage.stand_in(&**row, *index).is_some())
        .collect()
}

/// Every text that is in a value, or stands for it.
fn texts(json: &Json, found: &mut Vec<String>) {
    match json {
        Json::String(text) => found.push(text.clone()),
        Json::Array(entries) => entries.iter().for_each(|entry| texts(entry, found)),
        Json::Object(members) => members.values().for_each(|member| texts(member, found)),
        _ => {}
    }
}

/// A condition over one field, of values that the rows have.
fn condition(dice: &mut Dice, object: &ObjectRef, rows: &[Row], depth: u32) -> Condition {
    if depth > 0 {
        let mut some = || {
            let count = 1 + dice.roll(2);
            (0..count)
                .map(|_| condition(dice, object, rows, depth - 1))
                .collect::<Vec<_>>()
        };
        let some = some();
        return match dice.roll(4) {
            0 => Condition::And(some),
            1 => Condition::Or(some),
            2 => Condition::Not(Box::new(some[0].clone())),
            _ => condition(dice, object, rows, 0),
        };
    }
    let index = usize::try_from(dice.roll(object.fields().len() as u64)).unwrap();
    let schema = &object.fields()[index];
    let mut field = FieldAt {
        ignore_case: schema.ignore_case,
        ..FieldAt::new(index)
    };
    if schema.field_type == FieldType::Json {
        let member = *dice.of(&["nick", "born", "size", "deep", "none", "flag"]);
        field.member = Some(member.into());
        let kind = match member {
            "nick" => Some(StorageKind::Text),
            "born" => Some(StorageKind::Date),
            _ => None,
        };
        field.custom = kind.filter(|_| dice.roll(2) == 0).map(|kind| CustomMember {
            field: Uuid::from_u128(1),
            kind,
            indexed: true,
        });
        field.ignore_case = field.custom.is_some() && member == "nick" && dice.roll(2) == 0;
    }
    let mut value = |field: &FieldAt| {
        let value = field.value(&**dice.of(rows));
        match value {
            Value::Text(text) if field.ignore_case => Value::Text(fold_case(&text)),
            Value::Null => Value::Text("nobody".to_owned()),
            value => value,
        }
    };
    let (one, other) = (value(&field), value(&field));
    match dice.roll(7) {
        0 | 1 => Condition::Compare {
            field,
            op: *dice.of(&[Comparison::Eq, Comparison::Ne]),
            value: one,
        },
        2 | 3 => Condition::In {
            field,
            values: vec![one, other],
        },
        4 => Condition::Null {
            field,
            is_null: dice.roll(2) == 0,
        },
        5 => Condition::Compare {
            field: FieldAt {
                ignore_case: false,
                ..field
            },
            op: *dice.of(&[Comparison::Lt, Comparison::Ge]),
            value: one,
        },
        _ if schema.storage_kind() == StorageKind::List => Condition::List {
            field,
            op: ListMatch::Any,
            values: vec!["ÉTÉ".to_owned()],
        },
        _ => Condition::Text {
            field,
            op: TextMatch::Contains,
            folded: "ada".to_owned(),
        },
    }
}

fn found(condition: &Condition, rows: &[Row]) -> Vec<Uuid> {
    rows.iter()
        .filter(|row| condition.matches(&***row, &NoRelated))
        .map(|row| row.id())
        .collect()
}

fn is_same(a: &Row, b: &Row) -> bool {
    a.meta() == b.meta() && a.to_json() == b.to_json() && a.differing(&**b).is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// C-078: opened, a sealed row is what it was; sealed twice, it looks different; no text of it is
    /// in what is stored.
    #[test]
    fn sealed_rows_open_and_tell_nothing(seed: u64) {
        let (coverage, ring, mut dice) = (coverage(), ring(1), Dice(seed));
        for object in objects().iter().filter(|object| coverage.covers(object)) {
            let row = dice.row(object, false);
            let sealed = seal_row(&coverage, &ring, &row).unwrap();
            let covered = covered(&coverage, &row);
            let stored = format!("{sealed:?} {}", Json::Object(sealed.to_json()));
            let mut secret = Vec::new();
            for index in &covered {
                texts(&row.value(*index).to_json(), &mut secret);
            }
            let public: String = (0..object.fields().len())
                .filter(|index| !covered.contains(index))
                .map(|index| row.value(index).to_json().to_string())
                .collect();
            for text in secret {
                let tells = text.chars().count() >= 4 && !public.contains(&text);
                prop_assert!(!(tells && stored.contains(&text)), "{} {text} {stored}", object.name());
            }
            let Some(opened) = open_row(&ring, &*sealed).unwrap() else {
                prop_assert!(is_same(&row, &sealed));
                continue;
            };
            prop_assert!(is_same(&row, &opened), "{row:?}\n{opened:?}");
            let again = seal_row(&coverage, &ring, &row).unwrap();
            prop_assert_ne!(again.sealed(), sealed.sealed());
            prop_assert_eq!(again.to_json(), sealed.to_json());
            // Another tenant opens nothing, and has other tokens.
            let locked = matches!(open_row(&self::ring(2), &*sealed), Err(EncryptionError::Locked { .. }));
            prop_assert!(locked);
        }
    }

    /// C-080: a condition asked of stored rows finds what it finds in the true ones; where it cannot be
    /// asked, its two parts together do.
    #[test]
    fn conditions_find_the_same_rows(seed: u64) {
        let (coverage, ring, mut dice) = (coverage(), ring(1), Dice(seed));
        let translator = Translator { coverage: &coverage, ring: Some(&ring) };
        let mut supported = 0;
        for object in objects().iter().filter(|object| coverage.covers(object)) {
            let rows: Vec<Row> = (0..8).map(|_| dice.row(object, true)).collect();
            let sealed: Vec<Row> = rows
                .iter()
                .map(|row| seal_row(&coverage, &ring, row).unwrap())
                .collect();
            for _ in 0..20 {
                let condition = condition(&mut dice, object, &rows, 2);
                let wanted = found(&condition, &rows);
                if let Ok(stored) = translator.condition(object, &condition) {
                    supported += 1;
                    prop_assert_eq!(found(&stored, &sealed), wanted.clone(), "{:?}\n{:?}", condition, stored);
                }
                let (stored, opened) = translator.split(object, &condition).unwrap();
                let candidates = found(&stored, &sealed);
                let both: Vec<Uuid> = found(&opened, &rows)
                    .into_iter()
                    .filter(|id| candidates.contains(id))
                    .collect();
                prop_assert_eq!(both, wanted);
            }
        }
        prop_assert!(supported > 50, "{}", supported);
    }
}

/// what has no value has none in the storage either.
#[test]
fn a_row_without_values_is_not_sealed() {
    let (coverage, ring) = (coverage(), ring(1));
    let contact = crm_core::contacts::Contact::default();
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let meta = Meta::first(Uuid::from_u128(1), stamp);
    let row: Row = std::sync::Arc::new(crm_core::Record::new(meta, contact));
    assert_eq!(seal_row(&coverage, &ring, &row).unwrap().sealed(), None);
}

/// Sealed values of a record of one object are not those of another with the same id.
#[test]
fn sealed_values_belong_to_one_object() {
    let (coverage, ring, mut dice) = (coverage(), ring(1), Dice(1));
    let contact = dice.row(crm_core::contacts::Contact::schema(), false);
    let sealed = seal_row(&coverage, &ring, &contact).unwrap();
    let lead = crm_core::leads::Lead::schema();
    let moved = lead
        .build_sealed(
            contact.meta(),
            lead.defaults(),
            sealed.sealed().map(<[u8]>::to_vec),
        )
        .unwrap();
    assert!(matches!(
        open_row(&ring, &*moved),
        Err(EncryptionError::Locked { .. })
    ));
}

/// What is left plain by the host stays plain, and rows that were sealed before open all the same.
#[test]
fn exceptions_are_left_plain() {
    let (mut except, ring, mut dice) = (coverage(), ring(1), Dice(2));
    let object = crm_core::contacts::Contact::schema();
    let name = object.field_index("last_name").unwrap();
    assert!(matches!(except.extent(object, name), Extent::All(_)));
    let row = loop {
        let row = dice.row(object, false);
        if !row.value(name).is_null() {
            break row;
        }
    };
    let before = seal_row(&except, &ring, &row).unwrap();
    assert_ne!(before.value(name), row.value(name));
    except.except("contact", "last_name");
    let after = seal_row(&except, &ring, &row).unwrap();
    assert_eq!(after.value(name), row.value(name));
    for sealed in [before, after] {
        let opened = open_row(&ring, &*sealed).unwrap().unwrap();
        assert!(is_same(&opened, &row));
    }
}
