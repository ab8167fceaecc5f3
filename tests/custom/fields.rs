//! C-033, C-034, R-069, R-071, R-073: definitions of custom fields change safely: what records have
//! stands against it, names change without touching them, values of deleted fields stay until they
//! are purged, and what names a field is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::ops::ControlFlow;

use crate::common::{crm, tenant};
use crm_engine::audit::AuditExt;
use crm_engine::contacts::Contact;
use crm_engine::custom_objects::{
    CustomField, CustomFieldOption, CustomFieldRule, CustomFieldType, CustomFieldsExt,
    CustomObject, CustomSchema, FieldChange, TextLimits,
};
use crm_engine::prelude::*;
use crm_engine::query::{Comparison, Filter};
use crm_engine::schema::{DefinitionInUse, Row};
use crm_engine::scoring::{LeadScoringRule, LeadScoringRuleSet, ScoringOperator, ScoringRuleType};
use crm_engine::value::ApiName;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn text(most: u32) -> CustomFieldType {
    CustomFieldType::Text(TextLimits {
        max_length: Some(most),
        ..TextLimits::default()
    })
}

fn field(object: &str, api_name: &str, field_type: CustomFieldType) -> CustomField {
    CustomField::new(name(object), name(api_name), "Field", field_type)
}

async fn define(session: &Session, definition: CustomField) -> Id<CustomField> {
    session.records().create(definition).await.unwrap().id
}

async fn option(session: &Session, field: Id<CustomField>, value: &str) -> Id<CustomFieldOption> {
    let option = CustomFieldOption::new(field, value, value);
    session.records().create(option).await.unwrap().id
}

async fn contact(session: &Session, last_name: &str, values: Json) -> Id<Contact> {
    let contact = Contact {
        custom_fields: values,
        ..Contact::named("Ada", last_name)
    };
    session.contacts().create(contact).await.unwrap().id
}

async fn values(session: &Session, id: Id<Contact>) -> Json {
    let contact = session.contacts().get(id).await.unwrap();
    contact.custom_fields.clone()
}

async fn update(
    session: &Session,
    id: Id<CustomField>,
    change: impl Fn(&mut CustomField) + Send + Sync,
) -> Result<()> {
    let mut fields = session.records::<CustomField>();
    fields.update(id, change).await.map(|_| ())
}

fn in_use<T: std::fmt::Debug>(result: Result<T>) -> DefinitionInUse {
    match result.unwrap_err() {
        Error::DefinitionInUse(found) => *found,
        other => panic!("refused otherwise: {other}"),
    }
}

/// The checks that failed, with how many records and which.
fn failed<T: std::fmt::Debug>(result: Result<T>) -> Vec<(&'static str, u64, Vec<Uuid>)> {
    let found = in_use(result);
    let failed = found.failed.into_iter();
    failed
        .map(|failed| {
            let ids = failed.records.iter().map(|record| record.id).collect();
            (failed.check, failed.count, ids)
        })
        .collect()
}

fn body(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

fn equals(field: &str, value: &str) -> Find<Contact> {
    Find::new().filter_by_name(Filter::Compare {
        field: field.to_owned().into(),
        op: Comparison::Eq,
        value: value.into(),
    })
}

/// Narrowing, requiring and making unique ask the records that there are, on every way of writing.
#[tokio::test]
async fn a_change_is_refused_with_the_records_that_stand_against_it() {
    let (_, session) = tenant(&crm(), "acme").await;
    let region = define(&session, field("contact", "region", text(20))).await;
    let long = contact(&session, "Long", json!({"region": "north and west"})).await;
    let north = contact(&session, "North", json!({"region": "north"})).await;
    let again = contact(&session, "Again", json!({"region": "north"})).await;
    let empty = contact(&session, "Empty", json!({})).await;
    let gone = contact(&session, "Gone", json!({"region": "far too long for it"})).await;
    session.contacts().delete(gone).await.unwrap();
    // Archived records count, deleted ones do not.
    session.contacts().archive(long).await.unwrap();

    let shorter = |field: &mut CustomField| field.field_type = text(5);
    let all = |field: &mut CustomField| {
        field.field_type = text(5);
        field.is_required = true;
        field.is_unique = true;
    };
    let wanted = vec![("valid", 1, vec![long.uuid()])];
    assert_eq!(failed(update(&session, region, shorter).await), wanted);
    let mut wanted_all = vec![
        ("has_value", 1, vec![empty.uuid()]),
        ("unique", 1, vec![again.uuid()]),
    ];
    wanted_all.extend(wanted.clone());
    assert_eq!(failed(update(&session, region, all).await), wanted_all);

    // A merge patch, a unit of work, and the preview that writes nothing.
    let before = session.records::<CustomField>().get(region).await.unwrap();
    let patch = body(json!({"field_type": {"type": "text", "max_length": 5}}));
    let mut definitions = session.object("custom_field").await.unwrap();
    let merged = definitions
        .merge(region.uuid(), before.version, &patch)
        .await;
    assert_eq!(failed(merged), wanted);
    let mut work = session.begin();
    work.records().update(region, shorter).await.unwrap();
    let error = work.commit().await;
    assert!(!format!("{error:?} {}", error.as_ref().unwrap_err()).contains("north"));
    assert_eq!(failed(error), wanted);
    let preview = session.custom_fields().check_change(region, all).await;
    let preview = preview.unwrap();
    assert!(matches!(preview.change, FieldChange::Narrowing(_)));
    assert_eq!(preview.failed.len(), 3);
    let now = session.records::<CustomField>().get(region).await.unwrap();
    assert_eq!(now, before);

    // A commit may mend what stands against it.
    let mut work = session.begin();
    work.records().update(region, all).await.unwrap();
    for (id, value) in [(long, "west"), (again, "east"), (empty, "south")] {
        let give = |contact: &mut Contact| contact.custom_fields = json!({ "region": value });
        work.contacts().update(id, give).await.unwrap();
    }
    work.commit().await.unwrap();
    let refused = session
        .contacts()
        .update(north, |contact| contact.custom_fields = json!({}))
        .await
        .unwrap_err();
    assert_eq!(refused.field_errors()[0].path, "custom_fields.region");
    // More is always allowed.
    update(&session, region, |field| {
        field.field_type = text(50);
        field.is_required = false;
    })
    .await
    .unwrap();
}

/// A field may have a key under which documents had free-form values; a required one needs them.
#[tokio::test]
async fn a_new_field_asks_the_values_that_are_there() {
    let (_, session) = tenant(&crm(), "acme").await;
    let good = contact(&session, "Good", json!({"size": "large", "other": 7})).await;
    let bad = contact(&session, "Bad", json!({"size": 12})).await;
    let wanted = vec![("valid", 1, vec![bad.uuid()])];
    let size = || field("contact", "size", text(9));
    assert_eq!(failed(session.records().create(size()).await), wanted);
    let schemas = session.records::<CustomSchema>();
    assert_eq!(schemas.count(Find::new()).await.unwrap(), 0);
    let required = CustomField {
        is_required: true,
        ..field("contact", "shape", text(9))
    };
    let refused = in_use(session.records().create(required).await);
    assert_eq!(refused.failed[0].count, 2);
    session
        .contacts()
        .update(bad, |contact| contact.custom_fields = json!({}))
        .await
        .unwrap();
    define(&session, field("contact", "size", text(9))).await;
    assert_eq!(
        values(&session, good).await,
        json!({"size": "large", "other": 7})
    );
    // Of a picklist, the options of the same commit count.
    contact(&session, "Third", json!({"size": "small"})).await;
    let mut work = session.begin();
    let other = work
        .records()
        .create(field("contact", "other", CustomFieldType::Picklist))
        .await
        .unwrap();
    work.records()
        .create(CustomFieldOption::new(other.id, "7", "Seven"))
        .await
        .unwrap();
    // A number is no option.
    let refused = failed(work.commit().await);
    assert_eq!(refused, vec![("valid", 1, vec![good.uuid()])]);
}

/// A record that is written while a definition is narrowed is never left behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_slips_in_while_a_definition_is_narrowed() {
    let (_, session) = tenant(&crm(), "acme").await;
    for round in 0..12 {
        let key = format!("code_{round}");
        let id = define(&session, field("contact", &key, text(20))).await;
        let writers: Vec<_> = (0..3)
            .map(|number| {
                let (session, key) = (session.clone(), key.clone());
                tokio::spawn(async move {
                    let contact = Contact {
                        custom_fields: json!({ key: "longer than five" }),
                        ..Contact::named("Ada", format!("Writer {round} {number}"))
                    };
                    session.contacts().create(contact).await.is_ok()
                })
            })
            .collect();
        let shorter = |field: &mut CustomField| field.field_type = text(5);
        let narrowed = update(&session, id, shorter).await;
        let mut written = 0;
        for writer in writers {
            written += u32::from(writer.await.unwrap());
        }
        match narrowed {
            Ok(()) => assert_eq!(written, 0, "round {round}"),
            Err(error) => {
                assert_eq!(error.code(), "definition_in_use");
                assert!(written > 0);
            }
        }
    }
}

/// Several sessions say something first, at the same time: all of it counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_definitions_of_a_tenant_all_land() {
    let (_, session) = tenant(&crm(), "acme").await;
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let session = session.clone();
            let definition = field("contact", &format!("field_{number}"), text(9));
            tokio::spawn(async move { session.records().create(definition).await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let schemas = session.records::<CustomSchema>();
    let schema = schemas.find_one(Find::new()).await.unwrap();
    assert_eq!(schema.unwrap().revision, 6);
    let described = session.describe("contact").await.unwrap();
    assert_eq!(described.custom().unwrap().fields().len(), 6);
}

/// the names of one tenant are nobody else's.
#[tokio::test]
async fn names_of_one_tenant_do_not_block_another() {
    let crm = crm();
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, globex) = tenant(&crm, "globex").await;
    for session in [&acme, &globex] {
        let project = CustomObject::new(name("project"), "Project", "Projects");
        session.records().create(project).await.unwrap();
        define(session, field("project", "budget", text(9))).await;
        define(session, field("contact", "budget", text(9))).await;
        let mut projects = session.object("project").await.unwrap();
        let project = body(json!({"name": "Bridge", "custom_fields": {"budget": "5"}}));
        projects.create(&project).await.unwrap();
    }
}

/// A field is renamed without its records: filters by any of its names find them.
#[tokio::test]
async fn a_rename_touches_no_record() {
    let (_, session) = tenant(&crm(), "acme").await;
    let region = define(&session, field("contact", "region", text(20))).await;
    let id = contact(&session, "North", json!({"region": "north"})).await;
    let before = session.contacts().get(id).await.unwrap();
    for new_name in ["area", "district"] {
        let renamed = session.custom_fields().rename(region, name(new_name)).await;
        assert_eq!(renamed.unwrap().key, Some(name("region")));
    }
    assert_eq!(session.contacts().get(id).await.unwrap(), before);
    assert_eq!(session.audit().trail(id).await.unwrap().len(), 1);
    for named in [
        "district",
        "area",
        "region",
        "custom_fields.district",
        "custom_fields.region",
    ] {
        let found = session
            .contacts()
            .find(equals(named, "north"))
            .await
            .unwrap();
        assert_eq!(found.items.len(), 1, "{named}");
    }
    let shown = session.custom_fields().values(&*before).await.unwrap();
    assert_eq!(Json::Object(shown), json!({"district": "north"}));
    // JSON may be given by the new name, and stands under the key.
    let row: Row = session
        .object("contact")
        .await
        .unwrap()
        .merge(
            id.uuid(),
            1,
            &body(json!({"custom_fields": {"region": null, "district": "south"}})),
        )
        .await
        .unwrap();
    assert_eq!(
        row.get("custom_fields").to_json(),
        json!({"region": "south"})
    );
    let schema = session
        .custom_fields()
        .json_schema("contact")
        .await
        .unwrap();
    assert!(schema["properties"].get("region").is_some(), "{schema}");
}

/// Values of a deleted field stay, are neither written nor found, and come back with it; a purge
/// takes them away in batches.
#[tokio::test]
async fn deletion_is_soft_and_a_purge_is_not() {
    let (_, session) = tenant(&crm(), "acme").await;
    let fields = session.custom_fields();
    let region = define(&session, field("contact", "region", text(20))).await;
    let id = contact(&session, "North", json!({"region": "north"})).await;
    let gone = contact(&session, "Gone", json!({"region": "south"})).await;
    session.contacts().delete(gone).await.unwrap();
    let mut many = session.begin();
    for number in 0..250 {
        let contact = Contact {
            custom_fields: json!({"region": "many"}),
            ..Contact::named("Ada", format!("Many {number}"))
        };
        many.contacts().create(contact).await.unwrap();
    }
    many.commit().await.unwrap();
    fields.delete(region).await.unwrap();

    assert_eq!(values(&session, id).await, json!({"region": "north"}));
    let found = session.contacts().find(equals("region", "north")).await;
    assert_eq!(found.unwrap_err().code(), "unknown_field");
    for written in [
        json!({"region": "west"}),
        json!({"region": "north", "other": 1}),
    ] {
        let change = |contact: &mut Contact| contact.custom_fields = written.clone();
        let changed = session.contacts().update(id, change).await;
        // The object has no other field, so its document is free-form but for this one.
        assert_eq!(changed.is_ok(), written.get("other").is_some());
    }
    let emptied = session
        .contacts()
        .update(id, |contact| contact.custom_fields = json!({}))
        .await
        .unwrap();
    assert_eq!(emptied.custom_fields, json!({"region": "north"}));

    fields.restore(region).await.unwrap();
    let found = session
        .contacts()
        .find(equals("region", "north"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
    assert_eq!(
        fields.purge(region, &()).await.unwrap_err().code(),
        "not_deleted"
    );
    fields.delete(region).await.unwrap();
    // Its values go first.
    let early = in_use(session.records::<CustomField>().purge(region).await);
    assert_eq!(
        (early.failed[0].check, early.failed[0].count),
        ("empty", 252)
    );
    assert_eq!(fields.impact(region).await.unwrap().records, 252);

    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let begun = fields.purge(region, &stop).await.unwrap();
    assert!(begun.records > 0 && begun.records < 252 && !begun.is_complete);
    let ended = fields.purge(region, &()).await.unwrap();
    assert_eq!(begun.records + ended.records, 252);
    assert!(ended.is_complete);
    assert_eq!(values(&session, id).await, json!({}));
    session.contacts().restore(gone).await.unwrap();
    assert_eq!(values(&session, gone).await, json!({}));
    common::assert_trail_tells_every_record(&session).await;
    // The name is free.
    define(&session, field("contact", "region", CustomFieldType::Date)).await;
}

/// Values of a field that is not active stay and are found; new ones are refused.
#[tokio::test]
async fn inactive_fields_keep_their_values() {
    let (_, session) = tenant(&crm(), "acme").await;
    let region = define(&session, field("contact", "region", text(20))).await;
    let id = contact(&session, "North", json!({"region": "north"})).await;
    update(&session, region, |field| field.is_active = false)
        .await
        .unwrap();
    session
        .contacts()
        .update(id, |contact| contact.job_title = Some("Engineer".into()))
        .await
        .unwrap();
    let found = session
        .contacts()
        .find(equals("region", "north"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
    let changed = session
        .contacts()
        .update(id, |contact| {
            contact.custom_fields = json!({"region": "west"});
        })
        .await
        .unwrap_err();
    assert_eq!(changed.field_errors()[0].code, "inactive_field");
}

/// C-034, R-069: options are reordered, retired and removed; dependent picklists follow.
#[tokio::test]
async fn options_change_safely() {
    let (_, session) = tenant(&crm(), "acme").await;
    let fields = session.custom_fields();
    let land = define(
        &session,
        field("contact", "land", CustomFieldType::Picklist),
    )
    .await;
    let mut ids = Vec::new();
    for value in ["de", "fr", "pl"] {
        ids.push(option(&session, land, value).await);
    }
    fields
        .reorder_options(land, &[ids[2], ids[0]])
        .await
        .unwrap();
    let described = session.describe("contact").await.unwrap();
    let shown = &described.custom().unwrap().field("land").unwrap().options;
    assert_eq!(
        shown.iter().map(|value| &**value).collect::<Vec<_>>(),
        ["pl", "de", "fr"]
    );
    let strange = fields.reorder_options(land, &[Id::new(Uuid::nil())]).await;
    assert_eq!(strange.unwrap_err().code(), "not_found");

    let city = CustomField {
        controlling_field_id: Some(land),
        ..field("contact", "city", CustomFieldType::Picklist)
    };
    let city = define(&session, city).await;
    let berlin = option(&session, city, "berlin").await;
    let german = contact(&session, "German", json!({"land": "de", "city": "berlin"})).await;
    let french = contact(&session, "French", json!({"land": "fr", "city": "berlin"})).await;
    let options = || session.records::<CustomFieldOption>();
    let under = |value: &'static str| {
        move |option: &mut CustomFieldOption| option.controlling_values = vec![value.into()]
    };
    let narrowed = options().update(berlin, under("de")).await;
    assert_eq!(failed(narrowed), vec![("valid", 1, vec![french.uuid()])]);
    session
        .contacts()
        .update(french, |contact| {
            contact.custom_fields = json!({"land": "fr"});
        })
        .await
        .unwrap();
    options().update(berlin, under("de")).await.unwrap();
    let refused = session
        .contacts()
        .update(french, |contact| {
            contact.custom_fields = json!({"land": "fr", "city": "berlin"});
        })
        .await
        .unwrap_err();
    assert_eq!(refused.field_errors()[0].code, "not_an_option");

    // Retired: kept where it is, not chosen anew. Removed: not while it is used.
    let retire = |option: &mut CustomFieldOption| option.is_active = false;
    options().update(ids[0], retire).await.unwrap();
    session
        .contacts()
        .update(german, |contact| {
            contact.job_title = Some("Engineer".into());
        })
        .await
        .unwrap();
    let anew = Contact {
        custom_fields: json!({"land": "de"}),
        ..Contact::named("Ada", "New")
    };
    let refused = session.contacts().create(anew).await.unwrap_err();
    assert_eq!(refused.field_errors()[0].path, "custom_fields.land");
    let removed = options().delete(ids[0]).await;
    assert_eq!(failed(removed), vec![("valid", 1, vec![german.uuid()])]);
    options().delete(ids[2]).await.unwrap();
    // A default option is that of new records.
    options()
        .update(ids[1], |option| option.is_default = true)
        .await
        .unwrap();
    let new = contact(&session, "Default", json!({})).await;
    assert_eq!(values(&session, new).await, json!({"land": "fr"}));
}

/// what names a field is told, and what cannot do without it stands against its deletion.
#[tokio::test]
async fn the_impact_of_a_deletion_is_told() {
    let (_, session) = tenant(&crm(), "acme").await;
    let fields = session.custom_fields();
    let budget = define(&session, field("lead", "budget", text(20))).await;
    let rule = CustomFieldRule::new(
        name("lead"),
        "Has a budget",
        "budget is not null",
        "give one",
    );
    let rule = session.records().create(rule).await.unwrap();
    let set = session
        .scoring_rule_sets()
        .create(LeadScoringRuleSet::new("Fit"))
        .await
        .unwrap();
    let scoring = LeadScoringRule::new(
        set.id,
        "Rich",
        ScoringRuleType::Firmographic,
        "custom_fields.budget",
        ScoringOperator::Exists,
        5,
    );
    let scoring = session.records().create(scoring).await.unwrap();
    let impact = fields.impact(budget).await.unwrap();
    let uses: Vec<Uuid> = impact.used_by.iter().map(|by| by.record.id).collect();
    assert_eq!(uses, [rule.id.uuid(), scoring.id.uuid()]);
    assert_eq!(impact.blocked_by.len(), 1);
    assert_eq!(impact.blocked_by[0].record.id, rule.id.uuid());

    assert_eq!(in_use(fields.delete(budget).await).used_by.len(), 2);
    assert_eq!(
        in_use(fields.delete_though_used(budget).await)
            .used_by
            .len(),
        1
    );
    let raw = session.records::<CustomField>().delete(budget).await;
    assert_eq!(in_use(raw).used_by[0].record.id, rule.id.uuid());
    // In one commit, in any order.
    let mut work = session.begin();
    work.records::<CustomField>().delete(budget).await.unwrap();
    work.records::<CustomFieldRule>()
        .delete(rule.id)
        .await
        .unwrap();
    work.commit().await.unwrap();
    let left = session.records::<CustomField>().count(Find::new()).await;
    assert_eq!(left.unwrap(), 0);
}

/// another tenant's fields look like none.
#[tokio::test]
async fn services_keep_to_their_tenant() {
    let crm = crm();
    let (_, acme) = tenant(&crm, "acme").await;
    let (_, globex) = tenant(&crm, "globex").await;
    let land = define(&acme, field("contact", "land", CustomFieldType::Picklist)).await;
    let de = option(&acme, land, "de").await;
    let fields = globex.custom_fields();
    let told = [
        fields.check_change(land, |_| {}).await.map(|_| ()),
        fields.rename(land, name("other")).await.map(|_| ()),
        fields.reorder_options(land, &[de]).await,
        fields.impact(land).await.map(|_| ()),
        fields.delete(land).await,
        fields.delete_though_used(land).await,
        fields.restore(land).await.map(|_| ()),
        fields.purge(land, &()).await.map(|_| ()),
    ];
    for told in told {
        assert_eq!(told.unwrap_err().code(), "not_found");
    }
    let own = acme.records::<CustomField>().get(land).await.unwrap();
    assert_eq!(own.version, 1);
}

/// A record that was written between the look of a change and its commit is seen by the commit, and
/// one that was decided by the old definition is not written after it: one by one, not by chance.
#[tokio::test]
async fn a_commit_looks_at_the_records_once_more() {
    let (_, session) = tenant(&crm(), "acme").await;
    let region = define(&session, field("contact", "region", text(20))).await;
    let land = define(&session, field("contact", "land", text(20))).await;
    let storage = session.engine().storage().clone();
    let unique = |field: &mut CustomField| field.is_unique = true;
    let shorter = |field: &mut CustomField| field.field_type = text(5);

    let mut narrowing = session.begin();
    narrowing.records().update(region, shorter).await.unwrap();
    let narrowing = narrowing.prepare().await.unwrap();
    let mut making = session.begin();
    making.records().update(land, unique).await.unwrap();
    let making = making.prepare().await.unwrap();
    contact(&session, "One", json!({"region": "north", "land": "de"})).await;
    let late = contact(
        &session,
        "Late",
        json!({"region": "north-west", "land": "de"}),
    )
    .await;
    for changes in [narrowing, making] {
        let refused = storage.commit(session.scope(), &changes).await.unwrap_err();
        assert_eq!(Error::from(refused).code(), "conflict");
    }
    let now = session.records::<CustomField>().get(region).await.unwrap();
    assert_eq!((now.version, &now.field_type), (1, &text(20)));

    // The other order.
    session.contacts().delete(late).await.unwrap();
    let mut writing = session.begin();
    let old = Contact {
        custom_fields: json!({"region": "south-west"}),
        ..Contact::named("Ada", "Old")
    };
    writing.contacts().create(old).await.unwrap();
    let writing = writing.prepare().await.unwrap();
    update(&session, region, shorter).await.unwrap();
    let refused = storage.commit(session.scope(), &writing).await.unwrap_err();
    assert_eq!(Error::from(refused).code(), "conflict");
}
