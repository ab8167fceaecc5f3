//! The objects that the suite stores: a small museum's laboratory.
//!
//! A backend that makes its tables from the schema makes them from [`objects`]; between them they
//! have a field of every kind, a unique key of every sort and a reference of every sort.

use std::sync::{Arc, LazyLock, OnceLock};

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::Id;
use crate::schema::{
    Entity, FieldGroup, FieldSchema, FieldType, ObjectRef, OnDelete, Picklist, Registry,
};
use crate::value::{
    ApiName, Color, Country, Currency, DomainName, EmailAddress, HttpUrl, LanguageTag, Percent,
    PhoneNumber, Score, Subdomain, TimeZone,
};

/// Where a specimen is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Picklist)]
pub enum State {
    /// Just dug up.
    #[default]
    Found,
    /// Cleaned and dated.
    Cleaned,
    /// Lent to another house.
    OnLoan,
    /// Nobody knows.
    Lost,
}

/// How large a specimen is.
#[derive(Clone, PartialEq, FieldGroup)]
pub struct Extent {
    /// Width in millimetres.
    pub width: Option<i32>,
    /// Height in millimetres.
    pub height: Option<i32>,
}

/// One field of every kind, nullable and required; every sort of unique key.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "specimen",
    table = "specimens",
    unique(code; ignore_case, live),
    unique(serial),
    unique(shelf, slot; live),
    unique(room; live, only_if(is_default)),
    index(state, made_on),
    index(amount)
)]
pub struct Specimen {
    /// A required text.
    #[field(required, max_len = 200, searchable)]
    pub name: String,
    /// Unique among live rows, whatever the case of its letters.
    #[field(max_len = 60, personal)]
    pub code: Option<String>,
    /// Unique among all rows, deleted ones included.
    pub serial: Option<i64>,
    /// Unique among live rows together with the slot.
    #[field(max_len = 40)]
    pub shelf: Option<String>,
    /// See the shelf.
    pub slot: Option<i32>,
    /// Has at most one live default specimen.
    #[field(max_len = 40)]
    pub room: Option<String>,
    /// Whether this is the default specimen of its room.
    pub is_default: bool,
    /// A text of several lines.
    #[field(multiline)]
    pub notes: Option<String>,
    /// A nullable text of one line.
    #[field(max_len = 100, indexed)]
    pub origin: Option<String>,
    /// A required whole number of the full range.
    pub quantity: i64,
    /// A nullable whole number of the full range.
    pub balance: Option<i64>,
    /// A small whole number.
    pub level: Option<i32>,
    /// A whole number that is not negative.
    pub visitors: Option<u32>,
    /// An amount of money.
    #[field(currency = "currency")]
    pub amount: Option<Decimal>,
    /// The currency of the amount.
    pub currency: Option<Currency>,
    /// A required decimal of 19 digits, 4 of them decimals.
    pub price: Decimal,
    /// A decimal with 8 decimals.
    #[field(precision = 16, scale = 8)]
    pub rate: Option<Decimal>,
    /// A decimal of 28 digits without decimals.
    #[field(precision = 28, scale = 0)]
    pub wide: Option<Decimal>,
    /// A boolean that may be unknown.
    pub is_genuine: Option<bool>,
    /// A calendar day.
    #[field(indexed)]
    pub made_on: Option<NaiveDate>,
    /// A moment.
    #[field(indexed)]
    pub seen_at: Option<DateTime<Utc>>,
    /// A UUID that refers to nothing.
    pub token: Option<Uuid>,
    /// An e-mail address.
    #[field(personal)]
    pub email: Option<EmailAddress>,
    /// A telephone number, which is two fields.
    #[field(flatten, prefix = "phone")]
    pub phone: Option<PhoneNumber>,
    /// A URL.
    pub homepage: Option<HttpUrl>,
    /// A percentage.
    pub share: Option<Percent>,
    /// A nullable score.
    pub score: Option<Score>,
    /// A required score.
    pub rank: Score,
    /// A required picklist.
    pub state: State,
    /// A nullable picklist.
    #[field(personal)]
    pub former_state: Option<State>,
    /// A country.
    pub country: Option<Country>,
    /// A language.
    pub language: Option<LanguageTag>,
    /// A time zone.
    pub time_zone: Option<TimeZone>,
    /// A color.
    pub color: Option<Color>,
    /// A name for programs.
    pub api_name: Option<ApiName>,
    /// A subdomain.
    pub subdomain: Option<Subdomain>,
    /// A domain.
    pub domain: Option<DomainName>,
    /// A list that may be empty but not missing.
    pub tags: Vec<String>,
    /// A list that may be missing.
    pub labels: Option<Vec<String>>,
    /// A JSON document that may be missing.
    pub details: Option<Json>,
    /// A required JSON document.
    #[field(default = serde_json::Value::Object(serde_json::Map::new()))]
    pub extra: Json,
    /// What tenants added: a document whose members have types of their own.
    pub custom_fields: Option<Json>,
    /// A group of fields that may be missing as a whole.
    #[field(flatten, prefix = "extent_")]
    pub extent: Option<Extent>,
    /// A secret.
    #[field(sensitive, max_len = 100)]
    pub secret: Option<String>,
    /// Refers to another specimen, or to itself.
    #[field(references = "specimen", on_delete = "set_null")]
    pub parent_id: Option<Id<Specimen>>,
}

/// Refers to specimens in every way.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "part", table = "parts", unique(specimen_id, place; live))]
pub struct Part {
    /// A required reference that forbids deletion.
    #[field(required, references = "specimen")]
    pub specimen_id: Id<Specimen>,
    /// A reference that deletion empties.
    #[field(references = "specimen", on_delete = "set_null")]
    pub copy_of_id: Option<Id<Specimen>>,
    /// A reference that deletion follows.
    #[field(references = "specimen", on_delete = "cascade")]
    pub owner_id: Option<Id<Specimen>>,
    /// The part that this one stands for.
    #[field(references = "part", on_delete = "set_null")]
    pub replaces_id: Option<Id<Part>>,
    /// The object of the record that the part was made for.
    #[field(max_len = 50)]
    pub made_for_object: Option<String>,
    /// The record that the part was made for.
    #[field(record_of = "made_for_object")]
    pub made_for_id: Option<Uuid>,
    /// The order among the parts of a specimen.
    pub place: Option<i32>,
    /// How many there are.
    pub quantity: i64,
}

/// Work that workers claim.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "chore", table = "chores", index(queue, run_at))]
pub struct Chore {
    /// Which workers it is for.
    #[field(required, max_len = 40)]
    pub queue: String,
    /// When it is due.
    pub run_at: Option<DateTime<Utc>>,
    /// Until when it belongs to a worker.
    pub claimed_until: Option<DateTime<Utc>>,
    /// The worker.
    #[field(max_len = 40)]
    pub worker: Option<String>,
    /// Which chores first.
    pub urgency: i32,
    /// For whom it is done.
    #[field(max_len = 100, personal)]
    pub client: Option<String>,
}

/// A log: written once.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "reading",
    table = "readings",
    log,
    fed,
    index(specimen_id, read_at)
)]
pub struct Reading {
    /// What was measured.
    #[field(references = "specimen", on_delete = "cascade")]
    pub specimen_id: Option<Id<Specimen>>,
    /// When.
    #[field(required)]
    pub read_at: DateTime<Utc>,
    /// The measured value.
    pub celsius: Option<Decimal>,
    /// Who measured it.
    #[field(max_len = 100, personal)]
    pub observer: Option<String>,
}

/// A log by months.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "alarm", table = "alarms", log, fed, monthly, index(code))]
pub struct Alarm {
    /// Which alarm.
    #[field(required, max_len = 20)]
    pub code: String,
    /// Who heard it.
    #[field(max_len = 100, personal)]
    pub heard_by: Option<String>,
}

/// The archive of the log by months.
#[must_use]
pub fn archived_alarms() -> &'static ObjectRef {
    static ARCHIVE: LazyLock<ObjectRef> = LazyLock::new(|| {
        Alarm::schema().copied_as("archived_alarm", "alarms_archive", "An alarm of long ago.")
    });
    &ARCHIVE
}

/// An object of the platform: each row is one tenant's and has the tenant's id.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "laboratory",
    table = "laboratories",
    platform,
    unique(subdomain; ignore_case, live)
)]
pub struct Laboratory {
    /// Name.
    #[field(required, max_len = 100, personal)]
    pub name: String,
    /// Unique over all tenants.
    pub subdomain: Option<Subdomain>,
}

/// A template: its table holds the records of the objects that tenants define. It has none itself.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "collection_record",
    table = "collection_records",
    template(collection_id),
    unique(code; ignore_case, live),
    index(level)
)]
pub struct CollectionRecord {
    /// The object that it is a record of.
    #[field(required, read_only)]
    pub collection_id: Uuid,
    /// A required text.
    #[field(required, max_len = 200, searchable)]
    pub name: String,
    /// Unique among the live records of an object, whatever the case of its letters.
    #[field(max_len = 60)]
    pub code: Option<String>,
    /// A whole number.
    pub level: Option<i32>,
    /// A decimal number.
    pub worth: Option<Decimal>,
    /// A list.
    pub tags: Vec<String>,
    /// A document.
    #[field(personal, default = serde_json::Value::Object(serde_json::Map::new()))]
    pub custom_fields: Json,
    /// Until when it belongs to a worker.
    pub claimed_until: Option<DateTime<Utc>>,
    /// A record of whatever object the definition says.
    #[field(indexed)]
    pub linked_id: Option<Uuid>,
    /// A record of the same object.
    #[field(indexed)]
    pub parent_id: Option<Uuid>,
    /// A reference that all objects over the template have.
    #[field(references = "specimen", on_delete = "set_null")]
    pub specimen_id: Option<Id<Specimen>>,
}

/// Two objects over the template [`CollectionRecord`], as a tenant would define them: exhibits, which
/// belong to specimens, and loans, which belong to exhibits. Storages are not told of them.
///
/// ```
/// use crm_core::storage::conformance::instances;
///
/// for object in instances() {
///     assert_eq!(object.table(), "collection_records");
/// }
/// ```
#[must_use]
pub fn instances() -> Vec<ObjectRef> {
    static INSTANCES: OnceLock<Vec<ObjectRef>> = OnceLock::new();
    INSTANCES
        .get_or_init(|| {
            let instance = |name: &'static str, target: &'static str, id: u128| {
                let refine = |field: &mut FieldSchema| {
                    let (object, on_delete) = match &*field.name {
                        "linked_id" => (target, OnDelete::Cascade),
                        "parent_id" => (name, OnDelete::SetNull),
                        _ => return,
                    };
                    field.field_type = FieldType::Reference {
                        object: object.into(),
                        on_delete,
                    };
                };
                let template = CollectionRecord::schema();
                template.instance(name, "", "collection_id", Uuid::from_u128(id), refine)
            };
            let all = [
                instance("exhibit", "specimen", 0xE1),
                instance("loan", "exhibit", 0x10A),
            ];
            all.into_iter().flatten().collect()
        })
        .clone()
}

/// The objects that a backend must know before the suite runs against it.
///
/// ```
/// let tables: Vec<String> = crm_core::storage::conformance::objects()
///     .iter()
///     .map(|object| object.table().to_owned())
///     .collect();
/// assert_eq!(tables, [
///     "specimens", "parts", "chores", "readings", "laboratories", "collection_records", "alarms",
///     "alarms_archive",
/// ]);
/// ```
#[must_use]
pub fn objects() -> Vec<ObjectRef> {
    [
        Specimen::schema(),
        Part::schema(),
        Chore::schema(),
        Reading::schema(),
        Laboratory::schema(),
        CollectionRecord::schema(),
        Alarm::schema(),
        archived_alarms(),
    ]
    .into_iter()
    .cloned()
    .collect()
}

/// The registry by which the suite binds its filters.
pub(super) fn registry() -> Registry {
    let registry = Registry::default();
    for object in objects() {
        registry.add(&object);
    }
    Registry::over(Arc::new(registry), instances())
}
