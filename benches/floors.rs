//! What the engine costs over the least that would do the same work by hand, in memory.
//!
//! `cargo bench --bench floors -- --quick` prints one line for each bench; `benches/README.md`
//! tells what they mean.
#![allow(missing_docs, reason = "a program: nothing here is an interface")]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has to stop")]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::ops::Bound;
use std::pin::pin;
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use crm_engine::audit::changes_between;
use crm_engine::prelude::*;
use crm_engine::schema::{FieldValue, Meta, Row, Value};
use crm_engine::{Stamp, contacts::ContactMethod};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

fn main() {
    let options = Options::read();
    options.run("mem_create", mem_create);
    options.run("mem_update", mem_update);
    options.run("mem_get", mem_get);
    options.run("mem_page", mem_page);
    options.run("audit_diff", audit_diff);
}

// ---- Measuring ------------------------------------------------------------------------------

struct Options {
    quick: bool,
    filter: Option<String>,
}

impl Options {
    /// `--quick` and a part of a bench's name; what else cargo says, such as `--bench`, is nothing.
    fn read() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        Self {
            quick: arguments.iter().any(|argument| argument == "--quick"),
            filter: arguments.into_iter().find(|argument| !argument.starts_with('-')),
        }
    }

    fn run(&self, name: &str, bench: fn(&Self) -> Medians) {
        if self.filter.as_ref().is_some_and(|filter| !name.contains(filter)) {
            return;
        }
        let Medians { ours, floor } = bench(self);
        let ratio = ours / floor;
        println!("bench={name} ours={ours:.0} floor={floor:.0} ratio={ratio:.2}");
    }

    /// How many records a bench reads from.
    const fn records(&self) -> usize {
        if self.quick { 10_000 } else { 100_000 }
    }

    /// Lets batches of both sides take turns. Each side works `count` times and says how long it
    /// took, without what it had to get ready before.
    fn measure(
        &self,
        mut ours: impl FnMut(usize) -> Duration,
        mut floor: impl FnMut(usize) -> Duration,
    ) -> Medians {
        let (lasting, batch) = if self.quick { (800, 500) } else { (4_000, 2_000) };
        let (lasting, batch) = (Duration::from_millis(lasting), Duration::from_micros(batch));
        // Warms up, and finds a batch that is long against the reading of the clock.
        let mut count = 8;
        while ours(count) < batch {
            floor(count);
            count *= 2;
        }
        let mut batches = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < lasting || batches.0.len() < 10 {
            batches.0.push(ours(count));
            batches.1.push(floor(count));
        }
        Medians { ours: median(batches.0, count), floor: median(batches.1, count) }
    }
}

/// Nanoseconds for one piece of work.
struct Medians {
    ours: f64,
    floor: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts of batches are small")]
fn median(mut batches: Vec<Duration>, count: usize) -> f64 {
    batches.sort_unstable();
    let middle = batches.get(batches.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e9 / count as f64
}

fn timed(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

/// Polls a future until it is ready. In memory nothing waits, so no runtime is measured.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// Places below `below` in an order without pattern, the same in every run.
struct Places(u64);

impl Places {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap_or_default()
    }

    fn some<T: Copy>(&mut self, of: &[T], count: usize) -> Vec<T> {
        (0..count).map(|_| of[self.next(of.len())]).collect()
    }
}

// ---- Contacts -------------------------------------------------------------------------------

/// A tenant with an account, to make contacts in.
struct Office {
    session: Session,
    account: Id<Account>,
    owner: Id<User>,
}

impl Office {
    fn open() -> Self {
        let crm = Crm::in_memory();
        let acme = ready(crm.onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))).unwrap();
        let session = crm.session(acme.tenant, Actor::User(acme.admin));
        let account = ready(session.accounts().create(Account::new("Globex"))).unwrap().id;
        Self { session, account, owner: acme.admin }
    }

    /// A contact as they come from a form: some twenty of its fields are filled.
    fn contact(&self, number: usize) -> Contact {
        Contact {
            account_id: Some(self.account),
            email: Some(format!("maria.lopez.{number}@globex.example").parse().unwrap()),
            phone: Some(PhoneNumber::from_stored(
                "+34 912 34 56 78".into(),
                Some("+34912345678".into()),
            )),
            company: Some("Globex Corporation".into()),
            job_title: Some("Head of Procurement".into()),
            department: Some("Operations".into()),
            mailing_address: Some(Address {
                street: Some("Calle Mayor 17".into()),
                city: Some("Madrid".into()),
                postal_code: Some("28013".into()),
                country: Some("ES".parse().unwrap()),
                ..Address::default()
            }),
            lead_source: Some("trade fair".into()),
            description: Some("Met at the fair; wants an offer for three sites by spring.".into()),
            owner_id: Some(self.owner),
            custom_fields: json!({"region": "south", "segment": "mid-market"}),
            tags: vec!["key-account".into(), "fair-2026".into()],
            ..Contact::named("Maria", "Lopez")
        }
    }

    /// Stores contacts, one commit each, so that they have times of their own.
    fn fill(&self, count: usize, mut edit: impl FnMut(usize, &mut Contact)) -> Stored {
        (0..count)
            .map(|number| {
                let mut contact = self.contact(number);
                edit(number, &mut contact);
                ready(self.session.contacts().create(contact)).unwrap()
            })
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

fn text<T: ToString>(value: &Option<T>) -> Value {
    value.as_ref().map_or(Value::Null, |value| Value::Text(value.to_string()))
}

/// Every field that a form would have filled, written down field by field.
fn filled(contact: &Contact) -> Vec<PlainChange> {
    let address = contact.mailing_address.clone().unwrap_or_default();
    let own = |value: &dyn Fn() -> Value| value();
    [
        ("first_name", text(&contact.name.first_name)),
        ("last_name", text(&contact.name.last_name)),
        ("account_id", contact.account_id.map_or(Value::Null, |id| Value::Uuid(id.uuid()))),
        ("email", text(&contact.email)),
        ("phone", text(&contact.phone.as_ref().map(PhoneNumber::raw))),
        ("phone_e164", text(&contact.phone.as_ref().and_then(PhoneNumber::e164))),
        ("company", text(&contact.company)),
        ("job_title", text(&contact.job_title)),
        ("department", text(&contact.department)),
        ("mailing_street", address.street.map_or(Value::Null, Value::Text)),
        ("mailing_city", address.city.map_or(Value::Null, Value::Text)),
        ("mailing_postal_code", address.postal_code.map_or(Value::Null, Value::Text)),
        ("mailing_country", text(&address.country)),
        ("lead_source", text(&contact.lead_source)),
        ("preferred_contact_method", own(&|| contact.preferences.preferred_contact_method.value().into_owned())),
        ("status", contact.status.value().into_owned()),
        ("description", text(&contact.description)),
        ("owner_id", contact.owner_id.map_or(Value::Null, |id| Value::Uuid(id.uuid()))),
        ("custom_fields", Value::Json(contact.custom_fields.clone())),
        ("tags", Value::List(contact.tags.clone())),
    ]
    .into_iter()
    .map(|(field, new)| PlainChange { field, old: Value::Null, new })
    .collect()
}
