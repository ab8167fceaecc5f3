//! C-032 to C-035, R-069 to,
//! definitions of custom objects, fields, options, relationships and rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::{crm, rows_of, tenant};
use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomFieldsExt,
    CustomObject, CustomRelationship, CustomSchema, IntegerLimits, RelationshipKind, TextLimits,
};
use crm_engine::prelude::*;
use crm_engine::value::ApiName;
use serde_json::json;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn text() -> CustomFieldType {
    CustomFieldType::Text(TextLimits::default())
}

fn field(object: &str, api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField::new(name(object), name(api_name), "Field", field_type)
}

/// The faults of what is refused.
fn faults<T: std::fmt::Debug>(result: Result<T>) -> Vec<(String, &'static str)> {
    match result.unwrap_err() {
        Error::Validation(error) => error
            .into_errors()
            .into_iter()
            .map(|fault| (fault.path, fault.code))
            .collect(),
        other => panic!("refused otherwise: {other}"),
    }
}

fn one(path: &str, code: &'static str) -> Vec<(String, &'static str)> {
    vec![(path.to_owned(), code)]
}

async fn revision(session: &Session) -> i64 {
    let schemas = session.records::<CustomSchema>();
    let found = schemas.find_one(Find::new()).await.unwrap();
    found.map_or(0, |schema| schema.revision)
}

async fn create(session: &Session, definition: CustomField) -> Result<Id<CustomField>> {
    let created = session.records().create(definition).await;
    created.map(|field| field.id)
}

/// a field belongs to an object that there is, the engine's or the tenant's.
#[tokio::test]
async fn fields_belong_to_objects() {
    let (_, session) = tenant(&crm(), "acme").await;
    assert_eq!(revision(&session).await, 0);
    let missing = create(&session, field("project", "budget", text())).await;
    assert_eq!(faults(missing), one("object", "not_found"));
    // Settings have no document for custom values.
    let setting = create(&session, field("custom_field", "colour", text())).await;
    assert_eq!(faults(setting), one("object", "not_found"));
    assert_eq!(revision(&session).await, 0);

    let project = CustomObject::new(name("project"), "Project", "Projects");
    let project = session.records().create(project).await.unwrap();
    assert_eq!(project.name, Some(name("project")));
    let budget = create(&session, field("project", "budget", text()))
        .await
        .unwrap();
    let budget = session.records::<CustomField>().get(budget).await.unwrap();
    assert_eq!(budget.object_id, Some(project.id));
    assert_eq!(budget.key, Some(name("budget")));
    let region = create(&session, field("contact", "region", text()))
        .await
        .unwrap();
    let region = session.records::<CustomField>().get(region).await.unwrap();
    assert_eq!(region.object_id, None);
    assert_eq!(revision(&session).await, 3);

    // fields go with their object.
    session
        .records::<CustomObject>()
        .delete(project.id)
        .await
        .unwrap();
    assert_eq!(revision(&session).await, 4);
    let left = session
        .records::<CustomField>()
        .count(Find::new())
        .await
        .unwrap();
    assert_eq!(left, 1);
}

/// names are unambiguous.
#[tokio::test]
async fn names_are_taken_once() {
    let (_, session) = tenant(&crm(), "acme").await;
    let of = |api_name: &str| CustomObject::new(name(api_name), "Thing", "Things");
    let contact = session.records().create(of("contact")).await;
    assert_eq!(faults(contact), one("api_name", "name_taken"));
    session.records().create(of("project")).await.unwrap();
    let link = |link: &str| {
        CustomRelationship::new(
            name(link),
            name("project"),
            name("contact"),
            RelationshipKind::ManyToMany,
            Cardinality::ManyToMany,
        )
    };
    let clash = session.records().create(link("project")).await;
    assert_eq!(faults(clash), one("name", "name_taken"));
    session.records().create(link("members")).await.unwrap();
    let clash = session.records().create(of("members")).await;
    assert_eq!(faults(clash), one("api_name", "name_taken"));

    for taken in ["email", "created_at", "custom_fields", "null"] {
        let taken = create(&session, field("contact", taken, text())).await;
        assert_eq!(faults(taken), one("api_name", "name_taken"));
    }
}

/// A field is renamed without its key; former names and keys stay its own until it is purged.
#[tokio::test]
async fn names_change_and_keys_stay() {
    let (_, session) = tenant(&crm(), "acme").await;
    let region = create(&session, field("contact", "region", text()))
        .await
        .unwrap();
    for new_name in ["area", "district"] {
        let rename = |field: &mut CustomField| field.api_name = name(new_name);
        session
            .records::<CustomField>()
            .update(region, rename)
            .await
            .unwrap();
    }
    let renamed = session.records::<CustomField>().get(region).await.unwrap();
    assert_eq!(renamed.key, Some(name("region")));
    assert_eq!(renamed.former_names, ["area"]);
    for taken in ["region", "area", "district"] {
        let taken = create(&session, field("contact", taken, text())).await;
        assert_eq!(faults(taken)[0], ("api_name".to_owned(), "name_taken"));
    }
    // Another object may have them.
    create(&session, field("account", "region", text()))
        .await
        .unwrap();

    session
        .records::<CustomField>()
        .delete(region)
        .await
        .unwrap();
    let taken = create(&session, field("contact", "area", text())).await;
    assert_eq!(faults(taken), one("api_name", "name_taken"));
    session
        .records::<CustomField>()
        .purge(region)
        .await
        .unwrap();
    create(&session, field("contact", "area", text()))
        .await
        .unwrap();
}

/// What values rest on is not changed.
#[tokio::test]
async fn objects_keys_and_kinds_of_values_stay() {
    let (_, session) = tenant(&crm(), "acme").await;
    let id = create(&session, field("contact", "region", text()))
        .await
        .unwrap();
    let records = || session.records::<CustomField>();
    let moved = records()
        .update(id, |field| field.object = name("account"))
        .await;
    assert_eq!(faults(moved), one("object", "inconsistent"));
    let day = |field: &mut CustomField| field.field_type = CustomFieldType::Date;
    let changed = records().update(id, day).await;
    assert_eq!(faults(changed), one("field_type", "inconsistent"));
    let key = |field: &mut CustomField| field.key = Some(name("other"));
    let rekeyed = records().update(id, key).await;
    assert!(faults(rekeyed).contains(&("key".to_owned(), "read_only")));
    let longer = CustomFieldType::Textarea(TextLimits::default());
    records()
        .update(id, |field| field.field_type = longer.clone())
        .await
        .unwrap();
}

/// Every fault of a definition at once.
#[tokio::test]
async fn definitions_are_sound() {
    let (_, session) = tenant(&crm(), "acme").await;
    let limits = IntegerLimits {
        min: Some(2),
        max: Some(1),
    };
    let faulty = CustomField {
        label: " ".into(),
        ..field("contact", "stars", CustomFieldType::Number(limits))
    };
    let found = faults(create(&session, faulty).await);
    assert!(found.contains(&("label".to_owned(), "blank")), "{found:?}");
    assert!(
        found.contains(&("field_type.min".to_owned(), "out_of_range")),
        "{found:?}"
    );
    let limits = IntegerLimits {
        min: Some(1),
        max: Some(5),
    };
    let faulty = CustomField {
        default_value: Some(9.into()),
        ..field("contact", "stars", CustomFieldType::Number(limits))
    };
    let found = faults(create(&session, faulty).await);
    assert_eq!(found, one("default_value", "out_of_range"));
    let lookup = CustomFieldType::Lookup {
        object: name("nothing"),
        cascade: false,
    };
    let found = faults(create(&session, field("contact", "place", lookup)).await);
    assert_eq!(found, one("field_type.object", "not_found"));
}

/// C-034, R-069, R-352, R-532.
#[tokio::test]
async fn options_are_rows_of_picklists() {
    let (_, session) = tenant(&crm(), "acme").await;
    let note = create(&session, field("contact", "note", text()))
        .await
        .unwrap();
    let options = || session.records::<CustomFieldOption>();
    let found = options()
        .create(CustomFieldOption::new(note, "a", "A"))
        .await;
    assert_eq!(faults(found), one("field_id", "inconsistent"));

    let picklist = || CustomFieldType::Picklist;
    let country = create(&session, field("contact", "land", picklist()))
        .await
        .unwrap();
    let germany = CustomFieldOption {
        is_default: true,
        ..CustomFieldOption::new(country, "de", "Germany")
    };
    let germany = options().create(germany).await.unwrap();
    let twice = CustomFieldOption {
        is_default: true,
        ..CustomFieldOption::new(country, "fr", "France")
    };
    assert_eq!(
        faults(options().create(twice).await),
        one("is_default", "too_many")
    );
    let again = CustomFieldOption::new(country, "de", "Again");
    assert!(options().create(again).await.is_err());
    let other = options()
        .update(germany.id, |option| option.value = "at".into())
        .await;
    assert_eq!(faults(other), one("value", "inconsistent"));
    options()
        .update(germany.id, |option| {
            option.position = 7;
            option.is_active = false;
        })
        .await
        .unwrap();

    // Dependent picklists.
    let city = CustomField {
        controlling_field_id: Some(country),
        ..field("contact", "town", picklist())
    };
    let city = create(&session, city).await.unwrap();
    let under = |values: &[&str]| CustomFieldOption {
        controlling_values: values.iter().map(ToString::to_string).collect(),
        ..CustomFieldOption::new(city, "berlin", "Berlin")
    };
    let unknown = options().create(under(&["de", "pl"])).await;
    assert_eq!(faults(unknown), one("controlling_values", "not_an_option"));
    options().create(under(&["de"])).await.unwrap();
    let circle = |field: &mut CustomField| field.controlling_field_id = Some(city);
    let circle = session
        .records::<CustomField>()
        .update(country, circle)
        .await;
    assert_eq!(faults(circle), one("controlling_field_id", "cycle"));

    session.records::<CustomField>().delete(city).await.unwrap();
    let left = rows_of(&session, "custom_field_option").await;
    assert_eq!(left.iter().filter(|row| !row.is_deleted()).count(), 1);
}

///
#[tokio::test]
async fn parts_have_a_whole() {
    let (_, session) = tenant(&crm(), "acme").await;
    let rooms = |cardinality| {
        CustomRelationship::new(
            name("rooms"),
            name("account"),
            name("contact"),
            RelationshipKind::MasterDetail,
            cardinality,
        )
    };
    let wrong = session
        .records()
        .create(rooms(Cardinality::ManyToMany))
        .await;
    assert_eq!(faults(wrong), one("cardinality", "inconsistent"));
    let rooms = session
        .records()
        .create(rooms(Cardinality::OneToMany))
        .await
        .unwrap();
    assert!(rooms.is_required && rooms.cascade_delete);
    let kind = |parts: &mut CustomRelationship| parts.kind = RelationshipKind::Lookup;
    let changed = session.records().update(rooms.id, kind).await;
    assert_eq!(faults(changed), one("kind", "inconsistent"));
    let rule = CustomFieldRule::new(name("nothing"), "Rule", "true", "never");
    let rule = session.records().create(rule).await;
    assert_eq!(faults(rule), one("object", "not_found"));
}

/// How a field is shown is the host's: it is kept as it was given, described to sessions and told by
/// the JSON Schema, and the order is that of forms.
#[tokio::test]
async fn what_fields_show_is_described() {
    let (_, session) = tenant(&crm(), "acme").await;
    let shown = CustomField {
        label: "Renewal".into(),
        help_text: Some("when the contract ends".into()),
        display_options: json!({"widget": "calendar", "columns": 2}),
        display_order: 2,
        default_value: Some(json!("open")),
        ..field("contact", "renewal", text())
    };
    let id = create(&session, shown).await.unwrap();
    let first = CustomField {
        display_order: 1,
        ..field("contact", "region", text())
    };
    create(&session, first).await.unwrap();
    let kept = session.records::<CustomField>().get(id).await.unwrap();
    assert_eq!(
        kept.display_options,
        json!({"widget": "calendar", "columns": 2})
    );
    let contact = session.describe("contact").await.unwrap();
    let fields = contact.custom_fields().iter();
    let fields: Vec<_> = fields.map(|one| &one.field).collect();
    assert_eq!(
        fields.iter().map(|one| &*one.name).collect::<Vec<_>>(),
        ["region", "renewal"]
    );
    assert_eq!(fields[1].title.as_deref(), Some("Renewal"));
    assert_eq!(fields[1].help, "when the contract ends");
    let schema = session.custom_fields().json_schema("contact").await;
    let schema = schema.unwrap().to_string();
    assert!(schema.contains("https://json-schema.org/draft/2020-12/schema"));
    assert!(schema.contains("when the contract ends"), "{schema}");
    let ada = Contact::named("Ada", "Lovelace");
    let ada = session.contacts().create(ada).await.unwrap();
    assert_eq!(ada.custom_fields, json!({"renewal": "open"}));
}
