//! C-032, C-036, R-071: every service of the engine takes records of defined objects, and custom
//! fields of the engine's own objects, as it takes the built-in ones.

use std::io::Cursor;

use crm_engine::audit::{AuditExt, AuditKind};
use crm_engine::custom_objects::{
    Cardinality, CustomField, CustomFieldType, CustomObject, CustomRelationship, RelationshipKind,
};
use crm_engine::duplicates::{DuplicateMode, MatchRule};
use crm_engine::exchange::export::{Export, Format, Xlsx};
use crm_engine::exchange::import::{Import, ImportExt, ReadOptions, Source};
use crm_engine::exchange::tenant::{TenantExport, TenantImport};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{add, body, common, define, define_projects, find, make, name, names, office};

/// Four projects: numbers and days whose texts are in another order than they are.
async fn projects(session: &Session, customer: Id<Account>) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for (name, custom) in [
        (
            "Bridge",
            json!({"code": "B", "phase": "build", "budget": "9.5", "hours": 10,
                "starts": "2026-03-01", "customer": customer}),
        ),
        (
            "Road",
            json!({"code": "R", "phase": "idea", "budget": "10", "hours": 9, "starts": "2025-12-31"}),
        ),
        (
            "Tower",
            json!({"code": "T", "phase": "build", "budget": "100.25", "hours": 100,
                "starts": "2026-01-15"}),
        ),
        ("Shed", json!({})),
    ] {
        let json = json!({"name": name, "tags": ["new"], "custom_fields": custom});
        ids.push(make(session, "project", json).await.id());
    }
    ids
}

async fn account(session: &Session, name: &str) -> Id<Account> {
    let account = session.accounts().create(Account::new(name)).await;
    account.unwrap().id
}

#[tokio::test]
async fn records_are_found_and_counted_by_their_fields() {
    let crm = common::crm();
    let (_, session) = office(&crm, "acme").await;
    let globex = account(&session, "Globex").await;
    projects(&session, globex).await;
    for (filter, sort, known) in [
        // As texts, "9.5" would be more than "10".
        (
            json!({"field": "budget", "op": "gt", "value": "9.75"}),
            "budget",
            vec!["Road", "Tower"],
        ),
        (
            json!({"field": "hours", "op": "gte", "value": 10}),
            "custom_fields.hours",
            vec!["Bridge", "Tower"],
        ),
        (
            json!({"field": "custom_fields.starts", "op": "between", "value": ["2025-12-31", "2026-01-31"]}),
            "starts",
            vec!["Road", "Tower"],
        ),
        (
            json!({"not": {"field": "starts", "op": "is_null"}}),
            "starts",
            vec!["Road", "Tower", "Bridge"],
        ),
        (
            json!({"field": "phase", "op": "in", "value": ["build", "done"]}),
            "name",
            vec!["Bridge", "Tower"],
        ),
        (
            json!({"field": "customer", "has": {"field": "name", "op": "eq", "value": "Globex"}}),
            "name",
            vec!["Bridge"],
        ),
        // The text search.
        (
            json!({"field": "name", "op": "contains", "value": "RO"}),
            "name",
            vec!["Road"],
        ),
        (
            json!({"field": "code", "op": "starts_with", "value": "t"}),
            "name",
            vec!["Tower"],
        ),
    ] {
        assert_eq!(
            names(&session, "project", find(filter.clone(), sort)).await,
            known,
            "{filter}"
        );
    }
    let records = session.object("project").await.unwrap();
    let wrong = find(
        json!({"field": "hours", "op": "gt", "value": "many"}),
        "name",
    );
    assert!(matches!(records.find(&wrong).await, Err(Error::Query(_))));
    let unknown = find(json!({"field": "size", "op": "gt", "value": 1}), "name");
    assert!(matches!(
        records.count(&unknown).await,
        Err(Error::Query(_))
    ));

    let by_phase: Aggregate<()> = serde_json::from_value(json!({
        "group_by": [{"field": "phase"}],
        "measures": ["count", {"sum": "hours"}, {"max": "starts"}],
    }))
    .unwrap();
    let groups = records.aggregate(&by_phase).await.unwrap();
    let build = groups
        .iter()
        .find(|group| group.key(0).as_text() == Some("build"));
    let build = build.unwrap();
    assert_eq!((build.count(0), build.number(1)), (2, Some(110.into())));
    assert_eq!(build.measures[2].to_json(), json!("2026-03-01"));
}

#[tokio::test]
async fn records_have_a_life_and_a_trail() {
    let crm = common::crm();
    let (acme, session) = office(&crm, "acme").await;
    let globex = account(&session, "Globex").await;
    let bridge = projects(&session, globex).await[0];
    let record = EntityRef::new("project", bridge);
    let mut records = session.object("project").await.unwrap();

    // Every fault at once, by its path.
    let faulty = json!({"name": "", "custom_fields": {
        "hours": "many", "phase": "ruin", "starts": "2026-02-30", "customer": bridge, "size": 1,
    }});
    let refused = records.merge(bridge, 1, body(&faulty)).await.unwrap_err();
    let mut paths: Vec<&str> = refused
        .field_errors()
        .iter()
        .map(|fault| fault.path.as_str())
        .collect();
    paths.sort_unstable();
    for path in ["hours", "phase", "size", "starts"] {
        let path = format!("custom_fields.{path}");
        assert!(paths.contains(&path.as_str()), "{paths:?}");
    }
    assert!(paths.contains(&"name"), "{paths:?}");

    let patch = json!({"custom_fields": {"budget": 12, "code": null}});
    let row = records.merge(bridge, 1, body(&patch)).await.unwrap();
    assert_eq!(row.version(), 2);
    let stale = records.merge(bridge, 1, body(&patch)).await.unwrap_err();
    assert_eq!(stale.code(), "conflict");
    records.archive(bridge).await.unwrap();
    assert_eq!(records.count(&Find::new()).await.unwrap(), 3);
    records.unarchive(bridge).await.unwrap();
    records.delete(bridge).await.unwrap();
    records.restore(bridge).await.unwrap();

    // The trail names the fields that changed, not the document.
    let trail = session.audit().trail(record.clone()).await.unwrap();
    let kinds: Vec<_> = trail.iter().map(|event| event.event).collect();
    assert_eq!(
        (trail.len(), kinds[0], kinds[4]),
        (6, AuditKind::Create, AuditKind::Delete)
    );
    assert_eq!(
        trail[1].changes.fields(),
        ["custom_fields.budget", "custom_fields.code"]
    );
    let budget = trail[1].changes.field("custom_fields.budget").unwrap();
    let side = |value: &Option<crm_engine::schema::Value>| value.as_ref().map(|it| it.to_json());
    assert_eq!(
        (side(&budget.old), side(&budget.new)),
        (Some(json!("9.5")), Some(json!("12")))
    );
    let first = session.audit().version_of("project", bridge, 1).await;
    let first = first.unwrap().unwrap().row.get("custom_fields").to_json();
    assert_eq!(
        (&first["budget"], &first["code"]),
        (&json!("9.5"), &json!("B"))
    );

    // Tags, followers, comments with mentions.
    let tags = session.tags();
    assert_eq!(tags.counts().await.unwrap()[0].of("project"), 4);
    assert_eq!(tags.rename("new", "fresh", &()).await.unwrap(), 4);
    let row = session.object("project").await.unwrap().get(bridge).await;
    assert_eq!(row.unwrap().get("tags").to_json(), json!(["fresh"]));
    session
        .followers()
        .follow(record.clone(), acme.admin)
        .await
        .unwrap();
    assert_eq!(
        session.followers().of(record.clone()).await.unwrap(),
        [acme.admin]
    );
    let grace = User {
        username: Some("grace".into()),
        ..User::new(EmailAddress::parse("grace@acme.example").unwrap())
    };
    let grace = session.users().create(grace).await.unwrap();
    let comment = session
        .comments()
        .write(record.clone(), "@grace, look")
        .await;
    let comment = comment.unwrap();
    let unread = session.records::<crm_engine::collaboration::Mention>();
    let unread = unread.unread(grace.id, None).await.unwrap();
    assert_eq!(unread.items[0].comment_id, comment.id);

    let mut records = session.object("project").await.unwrap();
    let refused = records.purge(bridge).await.unwrap_err();
    assert_eq!(refused.code(), "not_deleted");
    records.delete(bridge).await.unwrap();
    records.purge(bridge).await.unwrap();
    let comments = session.comments().of(record, None).await.unwrap();
    assert!(comments.items.is_empty());
}

#[tokio::test]
async fn records_are_merged_and_known_as_duplicates() {
    let crm = common::crm();
    let (_, session) = office(&crm, "acme").await;
    let globex = account(&session, "Globex").await;
    let ids = projects(&session, globex).await;
    let note = EntityRef::new("project", ids[1]);
    session.comments().write(note, "Ours too").await.unwrap();
    let mut records = session.object("project").await.unwrap();
    let merged = records
        .merge_into(ids[3], &[ids[1]], &Choices::new(), Some("one"))
        .await
        .unwrap();
    // The survivor has what it lacked.
    let shed = merged.survivor.get("custom_fields").to_json();
    assert_eq!((&shed["hours"], &shed["budget"]), (&json!(9), &json!("10")));
    let there = session
        .comments()
        .of(EntityRef::new("project", ids[3]), None)
        .await;
    assert_eq!(there.unwrap().items.len(), 1);
    session.merges().undo(merged.merges[0]).await.unwrap();
    let shed = session.object("project").await.unwrap().get(ids[3]).await;
    assert_eq!(shed.unwrap().get("custom_fields").to_json(), json!({}));

    // Rules of duplicates over custom fields: of an object of the tenant's, and of the engine's.
    let member = ("Member number", CustomFieldType::Text(Default::default()));
    add(&session, "contact", "member_number", member, &[]).await;
    for (object, field) in [
        ("project", "code"),
        ("contact", "custom_fields.member_number"),
    ] {
        let rule = json!({"when": {"any": [{"field": field, "method": "exact"}]}});
        let rule = DuplicateRule {
            mode: DuplicateMode::Strict,
            ..DuplicateRule::new(object, object, MatchRule::from_json(&rule).unwrap())
        };
        let rule = session.duplicate_rules().create(rule).await.unwrap();
        let duplicates = session.duplicates();
        duplicates.rebuild_keys(rule.id, None, &()).await.unwrap();
    }
    let double = json!({"name": "Another", "custom_fields": {"code": "R"}});
    let mut records = session.object("project").await.unwrap();
    let refused = records.create(body(&double)).await.unwrap_err();
    assert_eq!(refused.code(), "duplicate_found", "{refused:?}");
    let contact = |number: &str| Contact {
        custom_fields: json!({"member_number": number}),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(contact("17")).await.unwrap();
    let refused = session.contacts().create(contact("17")).await;
    assert_eq!(refused.unwrap_err().code(), "duplicate_found");
    session.contacts().create(contact("18")).await.unwrap();
}

/// C-004, C-032: columns are known by the names and labels of custom fields.
#[tokio::test]
async fn records_come_and_go_in_files() {
    let crm = common::crm();
    let (_, session) = office(&crm, "acme").await;
    let globex = account(&session, "Globex").await;
    let text = "Name,Phase,Budget,Kick-off day,Hours,Customer\n\
                Bridge,BUILD,9.50,2026-03-01,10,Globex\n\
                Road,idea,10,2025-12-31,many,\n\
                Tower,ruin,100.25,2026-01-15,100,Nobody\n";
    let source = Source::bytes("projects.csv", text.as_bytes().to_vec());
    let read = ReadOptions::default();
    let preview = session.import().preview("project", &source, &read).await;
    let mapping = preview.unwrap().mapping;
    let fields: Vec<&str> = mapping.columns.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "name",
            "custom_fields.phase",
            "custom_fields.budget",
            "custom_fields.starts",
            "custom_fields.hours",
            "custom_fields.customer"
        ]
    );
    let job = session.import().start(&source, &Import::new(mapping)).await;
    let job = job.unwrap();
    let done = session.import().run(job.id, &source, &()).await.unwrap();
    assert_eq!((done.counts.created_rows, done.counts.failed_rows), (1, 2));
    let records = session.object("project").await.unwrap();
    let row = records.find(&Find::new()).await.unwrap().items[0].clone();
    assert_eq!(
        row.get("custom_fields").to_json(),
        json!({"phase": "build", "budget": "9.5", "starts": "2026-03-01", "hours": 10, "customer": globex})
    );

    // Into a workbook, and from there into another tenant.
    projects(&session, globex).await;
    let columns = [
        "name",
        "phase",
        "budget",
        "starts",
        "hours",
        "customer.name",
    ];
    let mut workbook = Vec::new();
    Export::named(
        "project",
        find(json!({"field": "hours", "op": "gt", "value": 0}), "starts"),
    )
    .columns(columns)
    .format(Format::Xlsx(Xlsx::default()))
    .run(&session, &mut workbook, &())
    .await
    .unwrap();
    let (_, other) = office(&crm, "other").await;
    let source = Source::bytes("projects.xlsx", workbook);
    let preview = other.import().preview("project", &source, &read).await;
    let mut mapping = preview.unwrap().mapping;
    mapping
        .columns
        .retain(|column| column.column != "customer.name");
    assert_eq!(mapping.columns.len(), 5);
    let job = other.import().start(&source, &Import::new(mapping)).await;
    let done = other.import().run(job.unwrap().id, &source, &()).await;
    assert_eq!(done.unwrap().counts.created_rows, 4);
    let all = find(
        json!({"not": {"field": "starts", "op": "is_null"}}),
        "starts",
    );
    assert_eq!(
        names(&other, "project", all).await,
        ["Road", "Tower", "Bridge", "Bridge"]
    );
}

/// a tenant moves with its definitions, the records of its objects and what leads to them, and
/// is judged by the definitions at once.
#[tokio::test]
async fn a_tenant_moves_with_its_definitions() {
    let here = common::crm();
    let (acme, session) = office(&here, "acme").await;
    let globex = account(&session, "Globex").await;
    let serial = CustomFieldType::Text(Default::default());
    let serial = CustomField {
        is_unique: true,
        ..CustomField::new(name("project"), name("serial"), "Serial", serial)
    };
    session
        .records::<CustomField>()
        .create(serial)
        .await
        .unwrap();
    let bridge = projects(&session, globex).await[0];
    let patch = json!({"custom_fields": {"serial": "S-1"}});
    let mut records = session.object("project").await.unwrap();
    records.merge(bridge, 1, body(&patch)).await.unwrap();
    let relationship = CustomRelationship::new(
        name("project_accounts"),
        name("project"),
        name("account"),
        RelationshipKind::ManyToMany,
        Cardinality::ManyToMany,
    );
    let relationships = session.records::<CustomRelationship>();
    { relationships }.create(relationship).await.unwrap();
    let tie = json!({"from_id": bridge, "to_id": globex});
    make(&session, "project_accounts", tie).await;
    let task = Activity::new(
        ActivityType::Task,
        "Ask",
        EntityRef::new("project", bridge),
        acme.admin,
    );
    session.activities().create(task).await.unwrap();
    // One that is out of use goes along.
    let attic = define(&session, "attic").await;
    make(&session, "attic", json!({"name": "Box"})).await;
    let hide = |object: &mut CustomObject| object.is_active = false;
    session.records().update(attic.id, hide).await.unwrap();
    let mut file = Vec::new();
    let export = TenantExport::new()
        .run(&session, &mut file, &())
        .await
        .unwrap();
    assert_eq!(export.object("project").unwrap().count, 4);

    let there = common::crm();
    let import = TenantImport::new("Acme", "acme-two");
    let report = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    let again = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    assert_eq!(again.written, 0);
    let moved = there.session(report.tenant, Actor::System);
    let of_globex =
        json!({"field": "customer", "has": {"field": "name", "op": "eq", "value": "Globex"}});
    let found = session.object("project").await.unwrap();
    let find_it = find(of_globex, "name");
    assert_eq!(found.count(&find_it).await.unwrap(), 1);
    let records = moved.object("project").await.unwrap();
    let found = records.find(&find_it).await.unwrap().items;
    let bridge = found[0].id();
    let related = EntityRef::new("project", bridge);
    assert_eq!(
        moved
            .activities()
            .of(related, None)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    let ties = moved.object("project_accounts").await.unwrap();
    let ties = ties.find(&Find::new()).await.unwrap().items;
    assert_eq!(ties[0].get("from_id").as_uuid(), Some(bridge));
    // Fields that are found by an index are so there, too, and unique values are taken.
    for (filter, count) in [
        (json!({"field": "budget", "op": "gt", "value": "9.75"}), 2),
        (json!({"field": "serial", "op": "eq", "value": "S-1"}), 1),
    ] {
        let records = moved.object("project").await.unwrap();
        let found = records.count(&find(filter.clone(), "name")).await;
        assert_eq!(found.unwrap(), count, "{filter}");
    }
    let taken = json!({"name": "X", "custom_fields": {"serial": "S-1"}});
    let mut records = moved.object("project").await.unwrap();
    assert_eq!(
        records.create(body(&taken)).await.unwrap_err().code(),
        "duplicate"
    );
    let faulty = json!({"name": "X", "custom_fields": {"hours": "many"}});
    let mut records = moved.object("project").await.unwrap();
    assert_eq!(
        records.create(body(&faulty)).await.unwrap_err().code(),
        "validation"
    );
    assert!(moved.object("attic").await.is_err());
    let objects = moved.records::<CustomObject>();
    let attic = objects
        .find(CustomObject::API_NAME.eq(name("attic")))
        .await
        .unwrap();
    let show = |object: &mut CustomObject| object.is_active = true;
    moved
        .records()
        .update(attic.items[0].id, show)
        .await
        .unwrap();
    assert_eq!(names(&moved, "attic", Find::new()).await, ["Box"]);
}

/// an object out of use is found by nobody and comes back as it was.
#[tokio::test]
async fn an_object_is_put_out_of_use_and_back() {
    let crm = common::crm();
    let (_, session) = common::tenant(&crm, "acme").await;
    let object = define_projects(&session).await;
    let globex = account(&session, "Globex").await;
    let ids = projects(&session, globex).await;
    let grace = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    let grace = session.users().create(grace).await.unwrap().id;
    let mut records = session.object("project").await.unwrap();
    let owned = json!({"owner_id": grace});
    records.merge(ids[0], 1, body(&owned)).await.unwrap();
    let record = EntityRef::new("project", ids[0]);
    session
        .comments()
        .write(record.clone(), "Kept")
        .await
        .unwrap();
    let described = session.describe("project").await.unwrap();

    let hide = |object: &mut CustomObject| object.is_active = false;
    session.records().update(object.id, hide).await.unwrap();
    assert!(session.object("project").await.is_err());
    assert!(session.describe("project").await.is_err());
    assert!(
        !session
            .registry()
            .await
            .unwrap()
            .objects()
            .contains_key("project")
    );
    let field = described.field_index("name").unwrap();
    let mut work = session.begin();
    let made = work
        .create_values(&described, &[(field, "New".into())])
        .await;
    assert!(matches!(made, Err(Error::Query(_))));
    drop(work);
    let refused = session.comments().write(record.clone(), "More").await;
    assert_eq!(refused.unwrap_err().code(), "validation");
    // What its records lead to may go: they are kept in step.
    session.users().delete(grace).await.unwrap();

    let show = |object: &mut CustomObject| object.is_active = true;
    session.records().update(object.id, show).await.unwrap();
    let back = session
        .object("project")
        .await
        .unwrap()
        .get(ids[0])
        .await
        .unwrap();
    assert!(back.get("owner_id").is_null());
    assert_eq!(back.get("custom_fields").to_json()["budget"], json!("9.5"));
    let comments = session.comments().of(record, None).await.unwrap();
    assert_eq!(comments.items.len(), 1);
}

/// names that an object cannot have.
#[tokio::test]
async fn names_of_objects_are_sound() {
    let crm = common::crm();
    let (_, session) = office(&crm, "acme").await;
    for taken in [
        "project",
        "account",
        "custom_record",
        "custom_link",
        "custom_value",
    ] {
        let object = CustomObject::new(name(taken), "Thing", "Things");
        let refused = session.records::<CustomObject>().create(object).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused.code(), "validation" | "duplicate"),
            "{taken}: {refused:?}"
        );
    }
    for bad in ["", "1st", "Two words", "a-b", "__", "projekt\u{e4}"] {
        let json = json!({"api_name": bad, "label": "Thing", "plural_label": "Things"});
        let mut objects = session.object("custom_object").await.unwrap();
        let refused = objects.create(body(&json)).await.unwrap_err();
        assert_eq!(refused.code(), "validation", "{bad:?}");
    }
}
