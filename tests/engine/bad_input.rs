//! Every kind of bad input, in every field of every object, is told by the path of the field and a
//! code, all of it at once, without the value, and nothing is written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeSet;

use crate::common::{Populated, body_like, picture, populate, rows_of, writable_objects};
use crm_engine::prelude::*;
use crm_engine::schema::{FieldSchema, FieldType, LIST_ENTRIES, LIST_ENTRY_LENGTH, ObjectRef, Row};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// A part of every bad text, which no message repeats.
const MARK: &str = "Zq7";

/// An id that no record ever had.
const GHOST: Uuid = Uuid::from_u128(0x0193_2c07_209c_7a4b_8000_0000_dead_beef);

/// A text of so many characters.
fn long(length: usize) -> String {
    MARK.chars().cycle().take(length).collect()
}

/// Every bad value of a field with the code that tells what is wrong with it.
fn bad_values(field: &FieldSchema) -> Vec<(Json, &'static str)> {
    let mut bad = match &field.field_type {
        FieldType::Text {
            max_length,
            multiline,
        } => {
            let mut bad = vec![
                (json!(true), "wrong_type"),
                (json!([MARK]), "wrong_type"),
                (json!({"a": MARK}), "wrong_type"),
                (json!(long(*max_length as usize + 1)), "too_long"),
                (json!(format!("{MARK}\0")), "nul_character"),
            ];
            if !multiline {
                bad.push((json!(format!("{MARK}\nx")), "line_break"));
            }
            if field.required {
                bad.push((json!(" \t "), "blank"));
            }
            bad
        }
        FieldType::Email => vec![
            (json!(format!("{MARK}@")), "invalid_email"),
            (json!(format!("{}@example.com", long(250))), "too_long"),
            (json!(format!("{MARK}\0@example.com")), "invalid_email"),
        ],
        FieldType::Phone => {
            vec![
                (json!(MARK), "invalid_phone"),
                (json!(format!("+1{MARK}\n")), "invalid_phone"),
            ]
        }
        FieldType::Url { max_length } => {
            let path = long(*max_length as usize);
            vec![
                (json!(format!("{MARK} is no address")), "invalid_url"),
                (json!(format!("https://example.com/{path}")), "too_long"),
            ]
        }
        FieldType::Currency => vec![(json!(MARK), "invalid_currency")],
        FieldType::Country => vec![(json!(MARK), "invalid_country")],
        FieldType::Language => vec![(json!(format!("{MARK}_{MARK}!")), "invalid_language")],
        FieldType::TimeZone => vec![(json!(format!("Mars/{MARK}")), "invalid_time_zone")],
        FieldType::Color => vec![(json!(MARK), "invalid_color")],
        FieldType::ApiName => vec![(json!(format!("{MARK} x")), "invalid_api_name")],
        FieldType::Subdomain => vec![(json!(format!("{MARK} x")), "invalid_subdomain")],
        FieldType::Domain => vec![(json!(format!("{MARK} x")), "invalid_domain")],
        FieldType::Picklist { .. } => {
            vec![(json!(MARK), "not_an_option"), (json!(""), "not_an_option")]
        }
        FieldType::Integer { min, max } => {
            let mut bad = vec![(json!(1.5), "wrong_type")];
            bad.extend(
                min.checked_sub(1)
                    .map(|least| (json!(least), "out_of_range")),
            );
            bad.extend(
                max.checked_add(1)
                    .map(|greatest| (json!(greatest), "out_of_range")),
            );
            bad
        }
        FieldType::Score => vec![
            (json!(1.5), "wrong_type"),
            (json!(-1), "out_of_range"),
            (json!(101), "out_of_range"),
        ],
        FieldType::Percent => {
            vec![
                (json!(-1), "out_of_range"),
                (json!("100.5"), "out_of_range"),
            ]
        }
        FieldType::Decimal {
            precision,
            scale,
            min,
            ..
        } => {
            let too_large = format!("1{}", "0".repeat((precision - scale) as usize));
            let too_fine = format!("0.{}1", "0".repeat(*scale as usize));
            let mut bad = vec![
                (json!(too_large), "out_of_range"),
                (json!(too_fine), "too_many_decimals"),
            ];
            bad.extend(min.map(|min| (json!((min - Decimal::ONE).to_string()), "out_of_range")));
            bad
        }
        FieldType::Boolean => vec![(json!(1), "wrong_type"), (json!("true"), "wrong_type")],
        FieldType::Date => {
            vec![
                (json!("31.01.2026"), "wrong_type"),
                (json!("0000-01-01"), "out_of_range"),
            ]
        }
        FieldType::Timestamp => vec![
            (json!("2026-01-31 09:00"), "wrong_type"),
            (json!("0000-01-01T00:00:00Z"), "out_of_range"),
        ],
        FieldType::Uuid => vec![(json!("0193"), "wrong_type")],
        FieldType::Reference { .. } => {
            vec![(json!("0193"), "wrong_type"), (json!(GHOST), "not_found")]
        }
        FieldType::List => {
            let many: Vec<_> = (0..=LIST_ENTRIES)
                .map(|number| number.to_string())
                .collect();
            vec![
                (json!({"a": MARK}), "wrong_type"),
                (json!([1]), "wrong_type"),
                (json!(many), "too_many"),
                (json!([long(LIST_ENTRY_LENGTH + 1)]), "too_long"),
                (json!([" "]), "blank"),
                (json!([format!("{MARK}\0")]), "nul_character"),
            ]
        }
        FieldType::Json => vec![(json!({"a": [format!("{MARK}\0")]}), "nul_character")],
        other => panic!("say above what is bad input of the type {other:?}"),
    };
    match field.field_type {
        FieldType::Json => {}
        FieldType::Text { .. }
        | FieldType::Picklist { .. }
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Url { .. }
        | FieldType::Currency
        | FieldType::Country
        | FieldType::Language
        | FieldType::TimeZone
        | FieldType::Color
        | FieldType::ApiName
        | FieldType::Subdomain
        | FieldType::Domain => bad.push((json!(5), "wrong_type")),
        _ => bad.push((json!(MARK), "wrong_type")),
    }
    // What the engine fills where it is missing.
    let filled = matches!(
        &*field.name,
        "stage_id" | "display_name" | "product_name" | "unit_price"
    );
    if field.required && field.default.is_null() && !filled {
        bad.push((Json::Null, "required"));
    }
    bad
}

/// The faults of an error as path and code; no message repeats the input.
fn faults(error: &Error) -> Vec<(String, &'static str)> {
    assert_eq!(error.code(), "validation", "{error}");
    let errors = serde_json::to_string(error.field_errors()).unwrap();
    for text in [error.to_string(), format!("{error:?}"), errors] {
        assert!(
            !text.contains(MARK),
            "the message repeats the input: {text}"
        );
    }
    error
        .field_errors()
        .iter()
        .map(|error| (error.path.clone(), error.code))
        .collect()
}

/// The faults of one field with a bad value, when a record is created and when one is changed.
struct Attempt<'a> {
    session: &'a Session,
    object: ObjectRef,
    row: Row,
    body: Map<String, Json>,
}

impl<'a> Attempt<'a> {
    async fn new(acme: &'a Populated, object: ObjectRef) -> Self {
        let row = rows_of(&acme.session, object.name()).await.remove(0);
        let mut body = body_like(&row);
        if object.name() == "deal" {
            // The first stage, whichever pipeline it is.
            body.remove("stage_id");
        }
        Self {
            session: &acme.session,
            object,
            row,
            body,
        }
    }

    /// Whether sessions create records of the object.
    fn creates(&self) -> bool {
        let mut fields = self.object.own_fields().iter();
        self.object.name() != "tenant" && fields.any(|field| !field.read_only)
    }

    async fn create(&self, bad: &Map<String, Json>) -> Vec<(String, &'static str)> {
        let mut body = self.body.clone();
        body.extend(bad.clone());
        let mut records = self.session.object(self.object.name()).await.unwrap();
        self.told(&records.create(&body).await.expect_err(self.object.name()))
    }

    /// The faults of an error. That a participant of one type has the reference of another one too,
    /// a consent both a contact and a lead, a relationship one contact twice, or that
    /// a quota is of two, is told besides what is wrong with that reference.
    fn told(&self, error: &Error) -> Vec<(String, &'static str)> {
        let mut told = faults(error);
        let goes_together = [
            "activity_participant",
            "consent",
            "contact_relationship",
            "forecast_adjustment",
            "quota",
        ];
        if goes_together.contains(&self.object.name()) {
            told.retain(|(_, code)| *code != "inconsistent");
        }
        if self.object.name() == "campaign_member" {
            told.retain(|fault| *fault != ("lead_id".to_owned(), "required"));
        }
        told
    }

    async fn refused(&self, bad: &Map<String, Json>) -> Error {
        let mut records = self.session.object(self.object.name()).await.unwrap();
        let (id, version) = (self.row.id(), self.row.version());
        records
            .merge(id, version, bad)
            .await
            .expect_err(self.object.name())
    }

    async fn merge(&self, bad: &Map<String, Json>) -> Vec<(String, &'static str)> {
        self.told(&self.refused(bad).await)
    }

    async fn expect(&self, field: &str, value: &Json, code: &'static str) {
        let bad: Map<_, _> = [(field.to_owned(), value.clone())].into_iter().collect();
        let wanted = vec![(field.to_owned(), code)];
        let place = format!("{}.{field}", self.object.name());
        if self.creates() {
            let mut wanted = wanted.clone();
            if (self.object.name(), field, code) == ("deal", "pipeline_id", "not_found") {
                // A pipeline that is not there has no first stage to begin in either.
                wanted.push(("stage_id".to_owned(), "required"));
            }
            let told = self.create(&bad).await;
            assert_eq!(told, wanted, "{place} created with {value}");
        }
        // a consent stays as it was given, whatever else is wrong with a change.
        let is_proof = self.object.name() == "consent";
        if is_proof && self.refused(&bad).await.code() == "consent_is_proof" {
            return;
        }
        let stays = matches!(
            (self.object.name(), field),
            ("pipeline_stage", _)
                | ("stage_approval", "stage_id")
                | ("activity_participant" | "activity_reminder", "activity_id")
        );
        if stays && code == "not_found" {
            // a stage stays in its pipeline, as what belongs to an activity stays with it, and
            // an approval with its stage.
            let wanted = (field.to_owned(), "read_only");
            assert!(self.merge(&bad).await.contains(&wanted), "{place}");
            return;
        }
        assert_eq!(self.merge(&bad).await, wanted, "{place} changed to {value}");
    }
}

/// one bad value is told by its path and code, and nothing else is.
#[tokio::test]
async fn every_bad_value_of_every_field_is_told_by_path_and_code() {
    let acme = populate(&common::crm(), "acme").await;
    let before = picture(&acme.session).await;
    for object in writable_objects(&acme.session) {
        let attempt = Attempt::new(&acme, object.clone()).await;
        for field in object.own_fields().iter().filter(|field| !field.read_only) {
            for (value, code) in bad_values(field) {
                attempt.expect(&field.name, &value, code).await;
            }
        }
        assert!(before == picture(&acme.session).await, "{}", object.name());
    }
}

/// what only the engine writes is refused, the system's fields too, and so are fields that
/// are not there.
#[tokio::test]
async fn read_only_and_unknown_fields_are_refused() {
    let acme = populate(&common::crm(), "acme").await;
    let before = picture(&acme.session).await;
    for object in writable_objects(&acme.session) {
        let attempt = Attempt::new(&acme, object.clone()).await;
        for field in object.fields().iter().filter(|field| field.read_only) {
            for value in [json!(MARK), attempt.row.get(&field.name).to_json()] {
                attempt.expect(&field.name, &value, "read_only").await;
            }
        }
        for unknown in ["no_such_field", "", "custom_fields.a", "Name", "tenant_id"] {
            attempt.expect(unknown, &json!(MARK), "unknown_field").await;
        }
    }
    assert!(before == picture(&acme.session).await);
}

/// all faults of a call come back together, one for each field.
#[tokio::test]
async fn faults_of_all_fields_come_back_together() {
    let acme = populate(&common::crm(), "acme").await;
    let before = picture(&acme.session).await;
    for object in writable_objects(&acme.session) {
        let attempt = Attempt::new(&acme, object.clone()).await;
        let mut bad: Map<String, Json> = Map::new();
        let mut wanted = BTreeSet::new();
        for field in object.fields() {
            let (value, code) = if field.read_only {
                (json!(MARK), "read_only")
            } else {
                bad_values(field).remove(0)
            };
            bad.insert(field.name.to_string(), value);
            wanted.insert((field.name.to_string(), code));
        }
        bad.insert("no_such_field".into(), json!(MARK));
        wanted.insert(("no_such_field".into(), "unknown_field"));
        let mut outcomes = vec![attempt.merge(&bad).await];
        if attempt.creates() {
            outcomes.push(attempt.create(&bad).await);
        }
        for told in outcomes {
            assert_eq!(
                told.len(),
                wanted.len(),
                "{}: a field is told twice",
                object.name()
            );
            assert_eq!(
                told.into_iter().collect::<BTreeSet<_>>(),
                wanted,
                "{}",
                object.name()
            );
        }
    }
    assert!(before == picture(&acme.session).await);
}

/// references that lead nowhere are told together with all other faults.
#[tokio::test]
async fn missing_references_come_back_together_with_other_faults() {
    let acme = populate(&common::crm(), "acme").await;
    let before = picture(&acme.session).await;
    for object in writable_objects(&acme.session) {
        let attempt = Attempt::new(&acme, object.clone()).await;
        // Those that only the engine writes do not come from callers.
        let mut given = object.own_fields().iter().filter(|field| !field.read_only);
        if !attempt.creates() || !given.any(|field| field.reference().is_some()) {
            continue;
        }
        let mut bad: Map<String, Json> = Map::new();
        let mut wanted = BTreeSet::new();
        for field in object.own_fields().iter().filter(|field| !field.read_only) {
            let required_text =
                field.required && matches!(field.field_type, FieldType::Text { .. });
            if field.reference().is_some() {
                bad.insert(field.name.to_string(), json!(GHOST));
                wanted.insert((field.name.to_string(), "not_found"));
            } else if required_text {
                bad.insert(field.name.to_string(), json!(" "));
                wanted.insert((field.name.to_string(), "blank"));
            }
        }
        let told: BTreeSet<_> = attempt.create(&bad).await.into_iter().collect();
        assert_eq!(told, wanted, "{}", object.name());
    }
    assert!(before == picture(&acme.session).await);
}

/// typed values are checked like those of a web API.
#[tokio::test]
async fn typed_records_are_checked_like_json() {
    let acme = populate(&common::crm(), "acme").await;
    let before = picture(&acme.session).await;
    let account = Account {
        account_number: Some(format!("{MARK}\n")),
        industry: Some(long(101)),
        employee_count: Some(-1),
        founded_year: Some(99),
        annual_revenue: Some(Decimal::new(1, 3)),
        owner_id: Some(Id::new(GHOST)),
        tags: vec![" ".into()],
        ..Account::new(" ")
    };
    let wanted = [
        ("name", "blank"),
        ("industry", "too_long"),
        ("annual_revenue", "too_many_decimals"),
        ("employee_count", "out_of_range"),
        ("founded_year", "out_of_range"),
        ("tags", "blank"),
        ("owner_id", "not_found"),
    ];
    let told = faults(
        &acme
            .session
            .accounts()
            .create(account.clone())
            .await
            .unwrap_err(),
    );
    assert_eq!(told, wanted.map(|(path, code)| (path.to_owned(), code)));
    let change = |other: &mut Account| {
        *other = Account {
            deal_stats: other.deal_stats.clone(),
            ..account.clone()
        };
    };
    let told = faults(
        &acme
            .session
            .accounts()
            .update(acme.account, change)
            .await
            .unwrap_err(),
    );
    assert_eq!(told, wanted.map(|(path, code)| (path.to_owned(), code)));
    assert!(before == picture(&acme.session).await);
}

/// a faulty onboarding tells every fault and leaves no tenant.
#[tokio::test]
async fn a_faulty_onboarding_tells_every_fault() {
    let crm = common::crm();
    let onboarding = Onboarding::new(" ", format!("{MARK} {MARK}"), format!("{MARK}@"));
    let told = faults(&crm.onboard(onboarding).await.unwrap_err());
    let wanted = [
        ("subdomain", "invalid_subdomain"),
        ("admin_email", "invalid_email"),
        ("name", "blank"),
    ];
    assert_eq!(told, wanted.map(|(path, code)| (path.to_owned(), code)));
}

/// Whatever stands for an object and its reference in a filter, it is refused by a code.
#[tokio::test]
async fn names_in_filters_over_what_leads_to_a_record_do_no_harm() {
    let acme = populate(&common::crm(), "acme").await;
    let long = long(100_000);
    let names = [
        "",
        " ",
        ".",
        "id",
        "deleted_at",
        "custom_fields.account_id",
        "deal.account_id",
        "Deal",
        "account_id ",
        "accounts",
        "a\0b",
        "\u{202E}deal",
        "deal'; DROP TABLE deals; --",
        "\"deals\" AS t WHERE true --",
        "$1",
        "{}",
        &long,
    ];
    for name in names {
        for (object, by, code) in [
            (name, "account_id", "unknown_object"),
            ("deal", name, "no_reference"),
            (name, name, "unknown_object"),
        ] {
            let filter = json!({"any": object, "by": by});
            let filters = [
                filter.clone(),
                json!({"not": {"or": [{"field": "parent_account_id", "has": filter}]}}),
            ];
            for filter in filters {
                let find: Find<()> = serde_json::from_value(json!({"filter": filter})).unwrap();
                let error = acme
                    .session
                    .object("account")
                    .await
                    .unwrap()
                    .find(&find)
                    .await;
                assert_eq!(error.unwrap_err().code(), code, "{object:.40} {by:.40}");
            }
        }
    }
    for malformed in [
        json!({"any": "deal"}),
        json!({"by": "account_id", "where": {}}),
        json!({"any": ["deal"], "by": "account_id"}),
        json!({"any": "deal", "by": null}),
        json!({"any": "deal", "by": "account_id", "where": []}),
        json!({"any": "deal", "by": "account_id", "has": {"and": []}}),
        json!({"any": "deal", "by": "account_id", "and": []}),
    ] {
        let error = Filter::from_json(&malformed).unwrap_err();
        assert_eq!(error.code(), "malformed_filter", "{malformed}");
    }
}
