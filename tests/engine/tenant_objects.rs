//! C-032, C-036, R-071, R-072: objects that tenants define at run time are objects like the built-in
//! ones, in the engine and on both backends, and nobody else's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common::backend;
use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::TimeDelta;
use crm_engine::audit::{AuditExt, AuditKind};
use crm_engine::custom_objects::CustomSchema;
use crm_engine::engine::{ManualClock, SCHEMA_VERSION, TenantObjects, TenantSchema};
use crm_engine::error::{Error, Faults, Result, codes};
use crm_engine::exchange::tenant::{TenantExport, TenantImport};
use crm_engine::prelude::*;
use crm_engine::query::{Aggregate, Comparison, Condition, Filter, Find, Query, Sort};
use crm_engine::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity, FieldSchema,
    FieldType, ObjectRef, OnDelete, Row, Value,
};
use crm_engine::storage::Storage;
use crm_engine::tenancy::Onboarding;
use crm_engine::{Actor, Crm, EntityRef, Id, Session};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

/// What a tenant says: an object of things, or of ties between two objects.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "definition", table = "definitions")]
struct Definition {
    /// The object's name.
    #[field(required, max_len = 100)]
    api_name: String,
    /// The object of the first record of a tie.
    #[field(max_len = 100)]
    from_object: Option<String>,
    /// The object of the second record of a tie.
    #[field(max_len = 100)]
    to_object: Option<String>,
    /// A custom field that must have a value.
    #[field(max_len = 100)]
    wanted: Option<String>,
}

/// The template of things.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "thing",
    table = "things",
    template(definition_id),
    unique(code; ignore_case, live)
)]
struct Thing {
    /// The object.
    #[field(required, read_only, references = "definition", on_delete = "cascade")]
    definition_id: Id<Definition>,
    /// Name.
    #[field(required, max_len = 255, searchable)]
    name: String,
    /// Unique in the object.
    #[field(max_len = 60)]
    code: Option<String>,
    /// Who is responsible.
    #[field(references = "user", on_delete = "set_null", indexed)]
    owner_id: Option<Id<User>>,
    /// Tags.
    tags: Vec<String>,
    /// Values of the tenant's fields.
    #[field(default = json!({}))]
    custom_fields: Json,
}

/// The template of ties.
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "tie",
    table = "ties",
    template(definition_id),
    unique(definition_id, from_id, to_id; live)
)]
struct Tie {
    /// The object.
    #[field(required, read_only, references = "definition", on_delete = "cascade")]
    definition_id: Id<Definition>,
    /// The first record.
    #[field(required, indexed)]
    from_id: Uuid,
    /// The second record.
    #[field(required, indexed)]
    to_id: Uuid,
}

/// Asks for one custom field.
#[derive(Debug)]
struct Wanted(String);

impl CheckCustomFields for Wanted {
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json> {
        let document = write.after.value(write.document).into_owned();
        if !matches!(&document, Value::Json(json) if json.get(&self.0).is_some()) {
            let path = format!("custom_fields.{}", self.0);
            faults.add(path, codes::REQUIRED, "must have a value");
        }
        None
    }
}

/// Reads definitions.
#[derive(Debug)]
struct Definitions;

#[async_trait]
impl TenantSchema for Definitions {
    async fn load(&self, work: &crm_engine::UnitOfWork) -> Result<TenantObjects> {
        let all = Query::new(Definition::schema(), Condition::not_deleted());
        let rows = work.select(&all).await?;
        let version = Query::new(CustomSchema::schema(), Condition::all());
        let version = work.select(&version).await?.pop();
        let objects = rows.iter().filter_map(object_of).collect();
        Ok(TenantObjects {
            objects,
            version,
            ..TenantObjects::default()
        })
    }
}

fn object_of(row: &Row) -> Option<ObjectRef> {
    let text = |field: &str| row.get(field).as_text().map(str::to_owned);
    let name = text("api_name")?;
    let (from, to) = (text("from_object"), text("to_object"));
    let template = match from {
        Some(_) => Tie::schema(),
        None => Thing::schema(),
    };
    let refine = |field: &mut FieldSchema| {
        let target = match &*field.name {
            "from_id" => from.clone(),
            "to_id" => to.clone(),
            _ => None,
        };
        if let Some(object) = target {
            field.field_type = FieldType::Reference {
                object: object.into(),
                on_delete: OnDelete::Cascade,
            };
        }
    };
    let object = template.instance(name, "", "definition_id", row.id(), refine)?;
    let Some(wanted) = text("wanted") else {
        return Some(object);
    };
    let field = CustomFieldSchema {
        id: Uuid::from_u128(1),
        key: wanted.clone().into(),
        former_names: Vec::new(),
        field: FieldSchema::new(wanted.clone(), FieldType::text(100)),
        unique: false,
        options: Vec::new(),
        currency: None,
        active: true,
        search_complete: true,
    };
    let fields = CustomFields::new(vec![field], Arc::new(Wanted(wanted)));
    Some(object.with_custom_fields(fields))
}

fn storage() -> Arc<dyn Storage> {
    backend::storage(&[Definition::schema(), Thing::schema(), Tie::schema()])
}

fn crm_over(storage: &Arc<dyn Storage>, clock: &Arc<ManualClock>) -> Crm {
    Crm::builder(storage.clone())
        .clock(clock.clone())
        .object::<Definition>()
        .object::<Thing>()
        .object::<Tie>()
        .tenant_schema(Definitions)
        .build()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-03-02T08:00:00Z".parse().unwrap()))
}

async fn tenant(crm: &Crm, name: &str) -> Session {
    let email = format!("ada@{name}.example");
    let onboarded = crm
        .onboard(Onboarding::new(name, name, email))
        .await
        .unwrap();
    crm.session(onboarded.tenant, Actor::User(onboarded.admin))
}

async fn say(work: &mut crm_engine::UnitOfWork, definition: Definition) -> Result<Uuid> {
    let id = work
        .records::<Definition>()
        .create(definition)
        .await?
        .id
        .uuid();
    bump(work).await?;
    Ok(id)
}

async fn bump(work: &mut crm_engine::UnitOfWork) -> Result<()> {
    let known = work.records::<CustomSchema>().find_one(Find::new()).await?;
    let revision = known.as_ref().map_or(0, |known| known.revision);
    let id = work.session().tenant().unwrap().uuid();
    let before = known.map(|known| known as Row);
    work.keep_derived(id, before, CustomSchema::new(revision + 1));
    Ok(())
}

/// Defines an object of things, or of ties.
async fn define(
    session: &Session,
    name: &str,
    wanted: Option<&str>,
    ends: Option<(&str, &str)>,
) -> Uuid {
    let mut work = session.begin();
    let definition = Definition {
        from_object: ends.map(|(from, _)| from.to_owned()),
        to_object: ends.map(|(_, to)| to.to_owned()),
        wanted: wanted.map(str::to_owned),
        ..Definition::new(name)
    };
    let id = say(&mut work, definition).await.unwrap();
    work.commit().await.unwrap();
    id
}

fn body(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

async fn make(session: &Session, object: &str, json: Json) -> Row {
    let mut records = session.object(object).await.unwrap();
    records.create(&body(json)).await.unwrap()
}

async fn names(session: &Session, object: &str) -> Vec<String> {
    let find = Find::new().sort(Sort::asc("name"));
    let page = session
        .object(object)
        .await
        .unwrap()
        .find(&find)
        .await
        .unwrap();
    let name = |row: &Row| row.get("name").as_text().unwrap().to_owned();
    page.items.iter().map(name).collect()
}

/// everything that a record of a built-in object can do.
#[tokio::test]
async fn records_of_a_tenants_object_do_what_records_do() {
    let session = tenant(&crm_over(&storage(), &clock()), "acme").await;
    let id = define(&session, "project", Some("code"), None).await;

    let refused = session.object("project").await.unwrap();
    let refused = { refused }
        .create(&body(json!({"name": "Bridge"})))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, Error::Validation(faults) if faults.errors()[0].path == "custom_fields.code")
    );

    let bridge = make(
        &session,
        "project",
        json!({"name": "Bridge", "tags": ["steel"], "custom_fields": {"code": "B"}}),
    )
    .await;
    assert_eq!(bridge.object().name(), "project");
    assert_eq!(bridge.get("definition_id").as_uuid(), Some(id));
    let mut projects = session.object("project").await.unwrap();
    // Nobody sets or changes what tells the objects apart.
    let other =
        json!({"name": "X", "definition_id": Uuid::from_u128(9), "custom_fields": {"code": "X"}});
    assert_eq!(
        projects
            .create(&body(other.clone()))
            .await
            .unwrap_err()
            .code(),
        "validation"
    );
    let patch = body(json!({"definition_id": Uuid::from_u128(9)}));
    assert_eq!(
        projects
            .merge(bridge.id(), 1, &patch)
            .await
            .unwrap_err()
            .code(),
        "validation"
    );

    let bridge = projects
        .merge(
            bridge.id(),
            1,
            &body(json!({"name": "Long bridge", "custom_fields": {"span": 400}})),
        )
        .await
        .unwrap();
    assert_eq!(
        bridge.get("custom_fields").into_owned(),
        Value::Json(json!({"code": "B", "span": 400}))
    );
    let stale = projects
        .merge(bridge.id(), 1, &body(json!({"name": "Late"})))
        .await;
    assert_eq!(stale.unwrap_err().code(), "conflict");

    make(
        &session,
        "project",
        json!({"name": "Road", "code": "R1", "custom_fields": {"code": "R"}}),
    )
    .await;
    let taken = projects
        .create(&body(
            json!({"name": "Road 2", "code": "r1", "custom_fields": {"code": "R"}}),
        ))
        .await
        .unwrap_err();
    assert!(
        matches!(&taken, Error::Duplicate { object, .. } if object == "project"),
        "{taken:?}"
    );

    assert_eq!(names(&session, "project").await, ["Long bridge", "Road"]);
    let steel = Filter::Compare {
        field: "custom_fields.code".into(),
        op: Comparison::Eq,
        value: "B".into(),
    };
    let found = projects
        .find(&Find::new().filter_by_name(steel))
        .await
        .unwrap();
    assert_eq!(found.items[0].id(), bridge.id());
    assert_eq!(projects.count(&Find::new()).await.unwrap(), 2);
    let groups = projects
        .aggregate(&Aggregate::new().group_by_name("tags"))
        .await
        .unwrap();
    assert_eq!(groups.len(), 1);
    let page = projects.find(&Find::new().limit(1)).await.unwrap();
    let next = Find::new().limit(1).after(page.next.unwrap());
    let next = projects.find(&next).await.unwrap();
    assert!(next.next.is_none() && next.items[0].id() != page.items[0].id());

    projects.archive(bridge.id()).await.unwrap();
    assert_eq!(names(&session, "project").await, ["Road"]);
    projects.unarchive(bridge.id()).await.unwrap();
    projects.delete(bridge.id()).await.unwrap();
    assert_eq!(
        projects.get(bridge.id()).await.unwrap_err().code(),
        "not_found"
    );
    projects.restore(bridge.id()).await.unwrap();
    let trail = session
        .audit()
        .trail(EntityRef::new("project", bridge.id()))
        .await
        .unwrap();
    let kinds: Vec<AuditKind> = trail.iter().map(|event| event.event).collect();
    assert_eq!(kinds.len(), 6);
    assert_eq!((kinds[0], kinds[4]), (AuditKind::Create, AuditKind::Delete));
    let first = session
        .audit()
        .version_of("project", bridge.id(), 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(first.row.get("name").as_text(), Some("Bridge"));
    assert_eq!(first.row.get("definition_id").as_uuid(), Some(id));

    let comment = session
        .comments()
        .write(EntityRef::new("project", bridge.id()), "Good")
        .await
        .unwrap();
    projects.delete(bridge.id()).await.unwrap();
    assert_eq!(
        session.comments().get(comment.id).await.unwrap_err().code(),
        "not_found"
    );
    projects.purge(bridge.id()).await.unwrap();
    assert_eq!(names(&session, "project").await, ["Road"]);

    // The template is nobody's to write, and the engine's own objects know nothing of the tenant.
    let mut things = session.object("thing").await.unwrap();
    let refused = things
        .create(&body(json!({"name": "Thing"})))
        .await
        .unwrap_err();
    assert!(
        matches!(refused.code(), "forbidden" | "validation"),
        "{refused:?}"
    );
    assert_eq!(things.count(&Find::new()).await.unwrap(), 0);
    assert!(session.engine().registry().object("project").is_none());
}

/// ties are checked, cascade with either end, and are re-pointed by merges.
#[tokio::test]
async fn ties_hold_records_of_all_objects_together() {
    let session = tenant(&crm_over(&storage(), &clock()), "acme").await;
    define(&session, "project", None, None).await;
    define(
        &session,
        "project_accounts",
        None,
        Some(("project", "account")),
    )
    .await;
    let (globex, hooli) = (
        session
            .accounts()
            .create(Account::new("Globex"))
            .await
            .unwrap(),
        session
            .accounts()
            .create(Account::new("Hooli"))
            .await
            .unwrap(),
    );
    let bridge = make(&session, "project", json!({"name": "Bridge"})).await;
    let road = make(&session, "project", json!({"name": "Road"})).await;
    let tie = |project: Uuid, account: Uuid| json!({"from_id": project, "to_id": account});
    let mut ties = session.object("project_accounts").await.unwrap();
    for (from, to, field) in [
        (Uuid::from_u128(5), globex.id.uuid(), "from_id"),
        (bridge.id(), Uuid::from_u128(5), "to_id"),
        (globex.id.uuid(), globex.id.uuid(), "from_id"),
        (bridge.id(), bridge.id(), "to_id"),
    ] {
        let refused = ties.create(&body(tie(from, to))).await.unwrap_err();
        assert!(
            matches!(&refused, Error::Validation(faults) if faults.errors()[0].path == field),
            "{refused:?}"
        );
    }
    let first = make(
        &session,
        "project_accounts",
        tie(bridge.id(), globex.id.uuid()),
    )
    .await;
    let second = make(
        &session,
        "project_accounts",
        tie(road.id(), globex.id.uuid()),
    )
    .await;
    let again = ties
        .create(&body(tie(bridge.id(), globex.id.uuid())))
        .await
        .unwrap_err();
    assert!(matches!(&again, Error::Duplicate { object, .. } if object == "project_accounts"));

    // Through the tie, in a filter.
    let of_globex = Filter::Has {
        field: "to_id".into(),
        filter: Box::new(Filter::eq("name", "Globex")),
    };
    assert_eq!(
        ties.count(&Find::new().filter_by_name(of_globex))
            .await
            .unwrap(),
        2
    );

    // A merge of accounts takes the ties along.
    session
        .accounts()
        .merge_into(hooli.id, &[globex.id], &Default::default(), None)
        .await
        .unwrap();
    let moved = ties.get(first.id()).await.unwrap();
    assert_eq!(moved.get("to_id").as_uuid(), Some(hooli.id.uuid()));

    let mut projects = session.object("project").await.unwrap();
    projects.delete(bridge.id()).await.unwrap();
    assert_eq!(ties.get(first.id()).await.unwrap_err().code(), "not_found");
    projects.restore(bridge.id()).await.unwrap();
    ties.get(first.id()).await.unwrap();
    session.accounts().delete(hooli.id).await.unwrap();
    assert_eq!(ties.count(&Find::new()).await.unwrap(), 0);
    session.accounts().purge(hooli.id).await.unwrap();
    assert_eq!(ties.count(&Find::new().with_deleted()).await.unwrap(), 0);
    assert_eq!(ties.get(second.id()).await.unwrap_err().code(), "not_found");
}

/// Two tenants mean different things by one name, and a third nothing.
#[tokio::test]
async fn tenants_know_nothing_of_each_others_objects() {
    let crm = crm_over(&storage(), &clock());
    let (acme, globex, hooli) = (
        tenant(&crm, "acme").await,
        tenant(&crm, "globex").await,
        tenant(&crm, "hooli").await,
    );
    define(&acme, "project", Some("code"), None).await;
    define(&globex, "project", Some("phase"), None).await;
    let ours = make(
        &acme,
        "project",
        json!({"name": "Bridge", "custom_fields": {"code": "B"}}),
    )
    .await;
    make(
        &globex,
        "project",
        json!({"name": "Film", "custom_fields": {"phase": "cut"}}),
    )
    .await;
    assert_eq!(names(&acme, "project").await, ["Bridge"]);
    assert_eq!(names(&globex, "project").await, ["Film"]);
    assert!(matches!(
        hooli.object("project").await,
        Err(Error::Query(_))
    ));

    let mut theirs = globex.object("project").await.unwrap();
    assert_eq!(theirs.get(ours.id()).await.unwrap_err().code(), "not_found");
    assert_eq!(
        theirs.delete(ours.id()).await.unwrap_err().code(),
        "not_found"
    );
    assert_eq!(
        theirs
            .merge(ours.id(), 1, &Map::new())
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    assert_eq!(
        theirs.purge(ours.id()).await.unwrap_err().code(),
        "not_found"
    );
    assert!(
        globex
            .comments()
            .write(EntityRef::new("project", ours.id()), "Mine")
            .await
            .is_err()
    );
    // Whoever got hold of the description of somebody else's object.
    let described = acme.describe("project").await.unwrap();
    for session in [&globex, &hooli] {
        let mut work = session.begin();
        let name = described.field_index("name").unwrap();
        let stolen = work
            .create_values(&described, &[(name, "Stolen".into())])
            .await;
        assert!(matches!(stolen, Err(Error::Query(_))), "{stolen:?}");
        assert!(work.row(&described, ours.id()).await.unwrap().is_none());
        let all = Query::new(&described, Condition::all());
        assert!(work.select(&all).await.unwrap().is_empty());
    }
    assert_eq!(names(&acme, "project").await, ["Bridge"]);
}

/// Contract of staged definitions: what defines an object may use it in the same commit.
#[tokio::test]
async fn a_staged_object_is_used_before_it_is_committed() {
    let session = tenant(&crm_over(&storage(), &clock()), "acme").await;
    let mut work = session.begin();
    say(&mut work, Definition::new("project")).await.unwrap();
    let bridge = work
        .object("project")
        .await
        .unwrap()
        .create(&body(json!({"name": "Bridge"})))
        .await
        .unwrap();
    let found = work
        .object("project")
        .await
        .unwrap()
        .find(&Find::new())
        .await
        .unwrap();
    assert_eq!(found.items[0].id(), bridge.id());
    assert!(session.object("project").await.is_err());
    work.commit().await.unwrap();
    assert_eq!(names(&session, "project").await, ["Bridge"]);
}

/// What was said meanwhile is a conflict for a write that was decided before; another engine over the
/// same storage learns of it within five seconds, and with its next write.
#[tokio::test]
async fn a_write_is_decided_by_what_the_tenant_says_now() {
    let (storage, clock) = (storage(), clock());
    let crm = crm_over(&storage, &clock);
    let session = tenant(&crm, "acme").await;
    let other = crm_over(&storage, &clock);
    let other = other.session(session.tenant().unwrap(), Actor::System);
    define(&session, "project", None, None).await;
    make(&other, "project", json!({"name": "Known there too"})).await;

    let mut work = session.begin();
    work.object("project")
        .await
        .unwrap()
        .create(&body(json!({"name": "Early"})))
        .await
        .unwrap();
    define(&session, "ledger", None, None).await;
    let late = work.commit().await.unwrap_err();
    assert!(
        matches!(&late, Error::Conflict { object, .. } if object == SCHEMA_VERSION),
        "{late:?}"
    );

    drop(session.object("ledger").await.unwrap());
    assert!(other.object("ledger").await.is_err());
    clock.advance(TimeDelta::seconds(6));
    drop(other.object("ledger").await.unwrap());

    // A write there before the five seconds are over runs again by itself.
    let definition = session
        .records::<Definition>()
        .find(Definition::API_NAME.eq("project"))
        .await
        .unwrap();
    let mut work = session.begin();
    work.records::<Definition>()
        .update(definition.items[0].id, |it| it.wanted = Some("code".into()))
        .await
        .unwrap();
    bump(&mut work).await.unwrap();
    work.commit().await.unwrap();
    let mut projects = other.object("project").await.unwrap();
    let refused = projects
        .create(&body(json!({"name": "No code"})))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), "validation");
}

/// An object goes with its records, and one of the same name that comes later has none of them.
#[tokio::test]
async fn an_object_of_the_same_name_is_another() {
    let session = tenant(&crm_over(&storage(), &clock()), "acme").await;
    let old = define(&session, "project", None, None).await;
    let bridge = make(&session, "project", json!({"name": "Bridge"})).await;
    let mut work = session.begin();
    work.records::<Definition>()
        .delete(Id::new(old))
        .await
        .unwrap();
    bump(&mut work).await.unwrap();
    work.commit().await.unwrap();
    assert!(session.object("project").await.is_err());
    // The trail still tells of its records.
    let trail = session
        .audit()
        .trail(EntityRef::new("project", bridge.id()))
        .await
        .unwrap();
    assert_eq!(trail.len(), 2);
    assert!(
        session
            .audit()
            .version_of("project", bridge.id(), 1)
            .await
            .is_err()
    );

    define(&session, "project", None, None).await;
    let projects = session.object("project").await.unwrap();
    let all = Find::new().with_deleted().with_archived();
    assert_eq!(projects.count(&all).await.unwrap(), 0);
    make(&session, "project", json!({"name": "Road"})).await;
    assert_eq!(names(&session, "project").await, ["Road"]);

    // An object that gets another name keeps its records.
    let id = session
        .records::<Definition>()
        .find(Find::new())
        .await
        .unwrap()
        .items[0]
        .id;
    let mut work = session.begin();
    work.records::<Definition>()
        .update(id, |it| it.api_name = "endeavour".into())
        .await
        .unwrap();
    bump(&mut work).await.unwrap();
    work.commit().await.unwrap();
    let road = session
        .object("endeavour")
        .await
        .unwrap()
        .find(&Find::new())
        .await
        .unwrap();
    assert_eq!(road.items[0].object().name(), "endeavour");
    let mut endeavours = session.object("endeavour").await.unwrap();
    endeavours
        .merge(road.items[0].id(), 1, &body(json!({"name": "Street"})))
        .await
        .unwrap();
    assert_eq!(names(&session, "endeavour").await, ["Street"]);
}

/// A record is not deleted beside a tie that nobody saw when the deletion was decided.
#[tokio::test]
async fn a_tie_that_appears_meanwhile_stops_a_deletion() {
    let session = tenant(&crm_over(&storage(), &clock()), "acme").await;
    define(&session, "project", None, None).await;
    define(&session, "team_work", None, Some(("project", "project"))).await;
    let bridge = make(&session, "project", json!({"name": "Bridge"})).await;
    let road = make(&session, "project", json!({"name": "Road"})).await;
    let mut work = session.begin();
    let mut projects = work.object("project").await.unwrap();
    projects.delete(bridge.id()).await.unwrap();
    let tie = json!({"from_id": road.id(), "to_id": bridge.id()});
    make(&session, "team_work", tie).await;
    let late = work.commit().await.unwrap_err();
    assert!(
        matches!(&late, Error::Conflict { object, id } if object == "project" && *id == bridge.id()),
        "{late:?}"
    );
    // Decided again, the tie goes too.
    let mut projects = session.object("project").await.unwrap();
    projects.delete(bridge.id()).await.unwrap();
    let ties = session.object("team_work").await.unwrap();
    assert_eq!(ties.count(&Find::new()).await.unwrap(), 0);
}

/// a tenant moves with what it defined and the records of it.
#[tokio::test]
async fn a_tenant_moves_with_its_own_objects() {
    let here = crm_over(&storage(), &clock());
    let session = tenant(&here, "acme").await;
    define(&session, "project", Some("code"), None).await;
    define(&session, "team_work", None, Some(("project", "project"))).await;
    let make_project = |name: &str| json!({"name": name, "custom_fields": {"code": name}});
    let bridge = make(&session, "project", make_project("Bridge")).await;
    let road = make(&session, "project", make_project("Road")).await;
    let tie = json!({"from_id": road.id(), "to_id": bridge.id()});
    make(&session, "team_work", tie).await;
    let mut file = Vec::new();
    let export = TenantExport::new().run(&session, &mut file, &()).await;
    assert_eq!(export.unwrap().object("project").unwrap().count, 2);

    let there = crm_over(&storage(), &clock());
    let import = TenantImport::new("Acme", "acme-two");
    let report = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    let again = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    assert_eq!(again.written, 0);
    let moved = there.session(report.tenant, Actor::System);
    assert_eq!(names(&moved, "project").await, ["Bridge", "Road"]);
    let ties = moved.object("team_work").await.unwrap();
    let ties = ties.find(&Find::new()).await.unwrap().items;
    let projects = moved.object("project").await.unwrap();
    let from = ties[0].get("from_id").as_uuid().unwrap();
    let from = projects.get(from).await.unwrap();
    assert_eq!(from.get("name").as_text(), Some("Road"));
}
