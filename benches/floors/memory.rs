//! In memory: the floors are what a program without an engine would keep in a map.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::ops::Bound;
use std::sync::{Arc, Mutex, RwLock};

use chrono::{DateTime, NaiveDate, Utc};
use crm_engine::audit::changes_between;
use crm_engine::prelude::*;
use crm_engine::schema::{FieldValue, Meta, Row, Value};
use crm_engine::{Stamp, contacts::ContactMethod};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};
use crate::office::{Office, ready};

// ---- Contacts -------------------------------------------------------------------------------

impl Office {
    /// Stores contacts, one commit each, so that they have times of their own. Gives copies, so
    /// that no side finds in the processor's cache what the other has just read.
    fn fill(&self, count: usize, mut edit: impl FnMut(usize, &mut Contact)) -> Stored {
        let create = |number| {
            let mut contact = self.contact(number);
            edit(number, &mut contact);
            ready(self.session.contacts().create(contact)).unwrap()
        };
        let stored: Stored = (0..count).map(create).collect();
        stored
            .iter()
            .map(|contact| Arc::new(Record::clone(contact)))
            .collect()
    }
}

type Stored = Vec<Arc<Record<Contact>>>;

/// What a program without an engine would keep: a map and a list behind one lock.
#[derive(Default)]
struct Shelf {
    contacts: HashMap<Uuid, Arc<Record<Contact>>>,
    events: Vec<PlainEvent>,
}

#[allow(dead_code, reason = "kept like a real event, and never read")]
struct PlainEvent {
    id: Uuid,
    record: Uuid,
    version: i64,
    by: Stamp,
    changes: Vec<PlainChange>,
}

#[allow(dead_code, reason = "kept like a real event, and never read")]
struct PlainChange {
    field: &'static str,
    old: Value,
    new: Value,
}

fn text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, |text| Value::Text(text.to_owned()))
}

fn id<E>(value: Option<Id<E>>) -> Value {
    value.map_or(Value::Null, |id| Value::Uuid(id.uuid()))
}

/// What a form has filled, written down field by field.
fn filled(contact: &Contact) -> Vec<PlainChange> {
    let change = |field, new| PlainChange {
        field,
        old: Value::Null,
        new,
    };
    let address = contact.mailing_address.as_ref();
    let street = address.and_then(|address| address.street.as_deref());
    let city = address.and_then(|address| address.city.as_deref());
    let postal_code = address.and_then(|address| address.postal_code.as_deref());
    let country = address.and_then(|address| address.country.as_ref());
    let phone = contact.phone.as_ref();
    vec![
        change("first_name", text(contact.name.first_name.as_deref())),
        change("last_name", text(contact.name.last_name.as_deref())),
        change("email", text(contact.email.as_ref().map(TextValue::as_str))),
        change("phone", text(phone.map(PhoneNumber::raw))),
        change("phone_e164", text(phone.and_then(PhoneNumber::e164))),
        change("company", text(contact.company.as_deref())),
        change("job_title", text(contact.job_title.as_deref())),
        change("department", text(contact.department.as_deref())),
        change("mailing_street", text(street)),
        change("mailing_city", text(city)),
        change("mailing_postal_code", text(postal_code)),
        change("mailing_country", text(country.map(TextValue::as_str))),
        change("lead_source", text(contact.lead_source.as_deref())),
        change("status", contact.status.value().into_owned()),
        change("description", text(contact.description.as_deref())),
        change(
            "do_not_call",
            Value::Boolean(contact.preferences.do_not_call),
        ),
        change("owner_id", id(contact.owner_id)),
        change("custom_fields", Value::Json(contact.custom_fields.clone())),
        change("tags", Value::List(contact.tags.clone())),
    ]
}

pub(crate) fn mem_create(options: &Options) -> Medians {
    let office = Office::open();
    let shelf: Mutex<Shelf> = Mutex::default();
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::User(office.owner),
    };
    let (mut made, mut shelved) = (0, 0);
    options.measure(
        |count| {
            let contacts: Vec<Contact> = (made..made + count).map(|n| office.contact(n)).collect();
            made += count;
            timed(|| {
                for contact in contacts {
                    black_box(ready(office.session.contacts().create(contact)).unwrap());
                }
            })
        },
        |count| {
            let contacts: Vec<_> = (0..count)
                .map(|n| (key(shelved + n), office.contact(shelved + n)))
                .collect();
            shelved += count;
            timed(|| {
                for (id, contact) in &contacts {
                    let record = Arc::new(Record::new(Meta::first(*id, stamp), contact.clone()));
                    let changes = filled(&record);
                    let mut shelf = shelf.lock().unwrap();
                    let number = shelf.events.len();
                    shelf.events.push(PlainEvent {
                        id: key(number),
                        record: *id,
                        version: 1,
                        by: stamp,
                        changes,
                    });
                    shelf.contacts.insert(*id, Arc::clone(&record));
                    drop(shelf);
                    black_box(record);
                }
            })
        },
    )
}

/// An id; the numbers are spread, as the ends of real ids are.
fn key(number: usize) -> Uuid {
    Uuid::from_u64_pair(
        number as u64,
        (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
    )
}

const TITLES: [&str; 4] = [
    "Head of Procurement",
    "Buyer",
    "Director of Operations",
    "Adviser",
];
const UNITS: [&str; 3] = ["Operations", "Procurement", "Board"];

pub(crate) fn mem_update(options: &Options) -> Medians {
    let office = Office::open();
    let stored = office.fill(options.records(), |_, _| {});
    let ids: Vec<Id<Contact>> = stored.iter().map(|contact| contact.id).collect();
    let contacts = stored
        .into_iter()
        .map(|contact| (contact.id.uuid(), contact))
        .collect();
    let shelf = Mutex::new(Shelf {
        contacts,
        events: Vec::new(),
    });
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::User(office.owner),
    };
    let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
    let (mut turn, mut plain_turn) = (0, 0);
    // The title, the unit and a switch change each time.
    let change = |turn: usize, contact: &mut Contact| {
        let other = |all: &[&'static str], now: &Option<String>| {
            let next = all[turn % all.len()];
            let again = now.as_deref() == Some(next);
            Some(
                if again {
                    all[(turn + 1) % all.len()]
                } else {
                    next
                }
                .to_owned(),
            )
        };
        contact.job_title = other(&TITLES, &contact.job_title);
        contact.department = other(&UNITS, &contact.department);
        contact.preferences.do_not_call = !contact.preferences.do_not_call;
    };
    options.measure(
        |count| {
            let ids = ours.some(&ids, count);
            timed(|| {
                for id in ids {
                    turn += 1;
                    let mut contacts = office.session.contacts();
                    let updated = ready(contacts.update(id, |contact| change(turn, contact)));
                    black_box(updated.unwrap());
                }
            })
        },
        |count| {
            let ids = floor.some(&ids, count);
            timed(|| {
                for id in ids {
                    plain_turn += 1;
                    let mut shelf = shelf.lock().unwrap();
                    let before = Arc::clone(shelf.contacts.get(&id.uuid()).unwrap());
                    let mut after = Record::clone(&before);
                    change(plain_turn, &mut after.data);
                    (after.version, after.updated) = (before.version + 1, stamp);
                    let field = |field, old, new| PlainChange { field, old, new };
                    let (was, is) = (&before.preferences, &after.preferences);
                    let changes = vec![
                        field(
                            "job_title",
                            text(before.job_title.as_deref()),
                            text(after.job_title.as_deref()),
                        ),
                        field(
                            "department",
                            text(before.department.as_deref()),
                            text(after.department.as_deref()),
                        ),
                        field(
                            "do_not_call",
                            Value::Boolean(was.do_not_call),
                            Value::Boolean(is.do_not_call),
                        ),
                    ];
                    let number = shelf.events.len();
                    shelf.events.push(PlainEvent {
                        id: key(number),
                        record: id.uuid(),
                        version: after.version,
                        by: stamp,
                        changes,
                    });
                    let after = Arc::new(after);
                    shelf.contacts.insert(id.uuid(), Arc::clone(&after));
                    drop(shelf);
                    black_box(after);
                }
            })
        },
    )
}

pub(crate) fn mem_get(options: &Options) -> Medians {
    let office = Office::open();
    let stored = office.fill(options.records(), |_, _| {});
    let ids: Vec<Id<Contact>> = stored.iter().map(|contact| contact.id).collect();
    let map: HashMap<Uuid, Arc<Record<Contact>>> = stored
        .into_iter()
        .map(|contact| (contact.id.uuid(), contact))
        .collect();
    let map = RwLock::new(map);
    let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
    options.measure(
        |count| {
            let ids = ours.some(&ids, count);
            timed(|| {
                for id in ids {
                    black_box(ready(office.session.contacts().get(id)).unwrap());
                }
            })
        },
        |count| {
            let ids = floor.some(&ids, count);
            timed(|| {
                for id in ids {
                    black_box(map.read().unwrap().get(&id.uuid()).cloned().unwrap());
                }
            })
        },
    )
}

/// How many own the contacts among them.
const OWNERS: usize = 20;

pub(crate) fn mem_page(options: &Options) -> Medians {
    let office = Office::open();
    let owners: Vec<Id<User>> = (0..OWNERS)
        .map(|number| {
            let email: EmailAddress = format!("user.{number}@acme.example").parse().unwrap();
            ready(office.session.users().create(User::new(email)))
                .unwrap()
                .id
        })
        .collect();
    let stored = office.fill(options.records(), |number, contact| {
        contact.owner_id = owners.get(number % OWNERS).copied();
    });
    let map: BTreeMap<(Uuid, DateTime<Utc>, Uuid), Arc<Record<Contact>>> = stored
        .into_iter()
        .map(|contact| {
            let owner = contact.owner_id.unwrap().uuid();
            ((owner, contact.created.at, contact.id.uuid()), contact)
        })
        .collect();
    let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
    options.measure(
        |count| {
            let owners = ours.some(&owners, count);
            timed(|| {
                for owner in owners {
                    let newest = Find::from(Contact::OWNER_ID.eq(owner))
                        .sort(Contact::CREATED_AT.desc())
                        .limit(50);
                    let page = ready(office.session.contacts().find(newest)).unwrap();
                    assert_eq!(black_box(page).items.len(), 50);
                }
            })
        },
        |count| {
            let owners = floor.some(&owners, count);
            timed(|| {
                for owner in owners {
                    let from = (owner.uuid(), DateTime::<Utc>::MIN_UTC, Uuid::nil());
                    let to = (owner.uuid(), DateTime::<Utc>::MAX_UTC, Uuid::max());
                    let range = map.range((Bound::Included(from), Bound::Included(to)));
                    let page: Vec<_> = range.rev().take(50).map(|(_, row)| row.clone()).collect();
                    assert_eq!(black_box(page).len(), 50);
                }
            })
        },
    )
}

// ---- The difference of two versions ---------------------------------------------------------

/// An object of a host, with fields of all kinds.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "property", table = "properties")]
struct Property {
    title: Option<String>,
    street: Option<String>,
    city: Option<String>,
    region: Option<String>,
    notes: Option<String>,
    agent: Option<String>,
    registry_number: Option<String>,
    energy_class: Option<String>,
    contact_email: Option<EmailAddress>,
    website: Option<HttpUrl>,
    rooms: i64,
    bathrooms: i64,
    floor: Option<i64>,
    year_built: Option<i64>,
    price: Option<Decimal>,
    deposit: Option<Decimal>,
    area: Option<Decimal>,
    land: Option<Decimal>,
    furnished: bool,
    garden: bool,
    garage: bool,
    listed_on: Option<NaiveDate>,
    available_on: Option<NaiveDate>,
    viewed_at: Option<DateTime<Utc>>,
    signed_at: Option<DateTime<Utc>>,
    account_id: Option<Uuid>,
    manager_id: Option<Uuid>,
    reached_by: ContactMethod,
    features: Vec<String>,
    details: Json,
}

impl Property {
    fn example(number: usize) -> Self {
        let day = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        let at = DateTime::from_timestamp(1_770_000_000, 0);
        Self {
            title: Some(format!("Town house {number}")),
            street: Some("Calle Mayor 17".into()),
            city: Some("Madrid".into()),
            region: Some("Comunidad de Madrid".into()),
            notes: Some("Quiet street, south-facing, renovated five years ago.".into()),
            agent: Some("Maria Lopez".into()),
            registry_number: Some(format!("28013-{number:06}")),
            energy_class: Some("B".into()),
            contact_email: Some("homes@globex.example".parse().unwrap()),
            website: Some("https://globex.example/homes/17".parse().unwrap()),
            rooms: 5,
            bathrooms: 2,
            floor: Some(1),
            year_built: Some(1964),
            price: Some(Decimal::new(4_250_000, 1)),
            deposit: Some(Decimal::new(42_500, 0)),
            area: Some(Decimal::new(1_325, 1)),
            land: Some(Decimal::new(2_100, 1)),
            furnished: false,
            garden: true,
            garage: true,
            listed_on: Some(day),
            available_on: Some(day),
            viewed_at: at,
            signed_at: None,
            account_id: Some(key(number)),
            manager_id: Some(key(number + 1)),
            reached_by: ContactMethod::Phone,
            features: vec!["balcony".into(), "lift".into(), "cellar".into()],
            details: json!({"heating": "gas", "floors": ["oak", "stone"]}),
        }
    }
}

/// The fields in which two versions differ, compared one by one as a program would by hand.
fn differing(was: &Property, is: &Property) -> Vec<(&'static str, Value, Value)> {
    let mut changes = Vec::new();
    macro_rules! compare {
        ($($field:ident: $value:expr;)*) => {$(
            if was.$field != is.$field {
                changes.push((stringify!($field), $value(&was.$field), $value(&is.$field)));
            }
        )*};
    }
    fn some<T: Copy + Into<Value>>(value: &Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
    let string = |value: &Option<String>| text(value.as_deref());
    compare! {
        title: string;
        street: string;
        city: string;
        region: string;
        notes: string;
        agent: string;
        registry_number: string;
        energy_class: string;
        contact_email: |value: &Option<EmailAddress>| text(value.as_ref().map(TextValue::as_str));
        website: |value: &Option<HttpUrl>| text(value.as_ref().map(TextValue::as_str));
        rooms: |value: &i64| Value::Integer(*value);
        bathrooms: |value: &i64| Value::Integer(*value);
        floor: some;
        year_built: some;
        price: some;
        deposit: some;
        area: some;
        land: some;
        furnished: |value: &bool| Value::Boolean(*value);
        garden: |value: &bool| Value::Boolean(*value);
        garage: |value: &bool| Value::Boolean(*value);
        listed_on: some;
        available_on: some;
        viewed_at: some;
        signed_at: some;
        account_id: some;
        manager_id: some;
        reached_by: |value: &ContactMethod| value.value().into_owned();
        features: |value: &Vec<String>| Value::List(value.clone());
        details: |value: &Json| Value::Json(value.clone());
    }
    changes
}

pub(crate) fn audit_diff(options: &Options) -> Medians {
    let stamp = Stamp {
        at: DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let pairs: Vec<(Property, Property)> = (0..64)
        .map(|number| {
            let was = Property::example(number);
            let is = Property {
                energy_class: Some("A".into()),
                price: Some(Decimal::new(4_100_000, 1)),
                viewed_at: DateTime::from_timestamp(1_771_000_000, 0),
                ..was.clone()
            };
            (was, is)
        })
        .collect();
    let rows: Vec<(Row, Row)> = pairs
        .iter()
        .map(|(was, is)| {
            let meta = Meta::first(key(0), stamp);
            let was: Row = Arc::new(Record::new(meta, was.clone()));
            let is: Row = Arc::new(Record::new(meta.next(stamp), is.clone()));
            (was, is)
        })
        .collect();
    options.measure(
        |count| {
            timed(|| {
                for (was, is) in rows.iter().cycle().take(count) {
                    assert_eq!(
                        black_box(changes_between(black_box(was), black_box(is))).len(),
                        3
                    );
                }
            })
        },
        |count| {
            timed(|| {
                for (was, is) in pairs.iter().cycle().take(count) {
                    assert_eq!(black_box(differing(black_box(was), black_box(is))).len(), 3);
                }
            })
        },
    )
}
