//! The tables of the objects of the engine and of hosts, and the names that they may have.

use std::collections::BTreeSet;

use crm_core::Engine;
use crm_core::schema::{FieldSchema, FieldType, ObjectRef, ObjectSchema, OnDelete};
use crm_storage_postgres::{PostgresStorage, SchemaError, ddl, drift, lint, objects};
use sqlx::PgPool;

use crate::common::{Database, run};
use crate::drift::drifts;

fn project() -> ObjectRef {
    let reference = |object: &'static str| FieldType::Reference {
        object: object.into(),
        on_delete: OnDelete::Restrict,
    };
    let field = FieldSchema::new;
    ObjectSchema::builder("project", "projects")
        .field(FieldSchema {
            required: true,
            searchable: true,
            ..field("title", FieldType::text(100))
        })
        .field(field("contact_id", reference("contact")))
        .field(field("tenant", reference("tenant")))
        .field(field("part_of", reference("project")))
        .field(field(
            "order",
            FieldType::Integer {
                min: i64::MIN,
                max: 10,
            },
        ))
        .field(field("labels", FieldType::List))
        .field(field("transaction_id", FieldType::text(10)))
        .field(field(
            "it's \"odd\"",
            FieldType::Picklist {
                options: vec!["a'b", "c\\d"].into(),
            },
        ))
        .unique(&["title"], true)
        .build()
}

#[tokio::test]
async fn the_ddl_of_a_hosts_object_runs_as_it_is() {
    let database = Database::migrated("host").await;
    let mut connection = database.connection().await;
    let text = ddl("crm", "crm_app", &[project()]).unwrap();
    run(&mut connection, &text).await;
    let found = drift(&mut connection, "crm", &[project()]).await.unwrap();
    assert_eq!(found, []);
    assert_eq!(drifts(&mut connection).await, []);
    let found = lint(&mut connection, "crm").await.unwrap();
    assert_eq!(
        found,
        ["1: the foreign key projects_tenant_fkey of projects leaves the tenant"]
    );
    run(&mut connection, "DROP TABLE crm.projects").await;
    let found = drift(&mut connection, "crm", &[project()]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].what.as_str(), &found[0].found), ("table", &None));
    drop(connection);
    database.drop().await;
}

#[test]
fn names_that_are_taken_are_refused() {
    let with = |name: &'static str| {
        let field = FieldSchema::new(name, FieldType::text(10));
        ObjectSchema::builder("project", "projects").field(field)
    };
    for name in [
        "tenant_id",
        "search_vector",
        "ctid",
        "xmin",
        "id",
        "",
        "nul\0",
    ] {
        let refused = ddl("crm", "crm_app", &[with(name).build()]);
        assert!(
            matches!(refused, Err(SchemaError::Reserved { .. })),
            "{name}: {refused:?}"
        );
    }
    let long = ObjectSchema::builder("long", "x".repeat(64)).build();
    assert!(matches!(
        ddl("crm", "crm_app", &[long]),
        Err(SchemaError::Reserved { .. })
    ));
    let partition = ObjectSchema::builder("events", "audit_events_2026_01").build();
    assert!(matches!(
        ddl("crm", "crm_app", &[partition]),
        Err(SchemaError::Reserved { .. })
    ));
    let migrations = ObjectSchema::builder("m", "_migrations").build();
    assert!(matches!(
        ddl("crm", "crm_app", &[migrations]),
        Err(SchemaError::Duplicate { .. })
    ));

    // The folded column of `email` is called like another.
    let folded = with("email_folded")
        .field(FieldSchema::new("email", FieldType::Email))
        .build();
    assert!(matches!(
        ddl("crm", "crm_app", &[folded]),
        Err(SchemaError::Reserved { .. })
    ));
    let twice = with("a").build();
    let refused = ddl("crm", "crm_app", &[twice.clone(), twice]);
    assert!(matches!(refused, Err(SchemaError::Duplicate { .. })));
    let same_index = with("a")
        .field(FieldSchema::new("b", FieldType::text(9)))
        .field(FieldSchema::new("a_b", FieldType::text(9)))
        .index(&["a", "b"])
        .index(&["a_b"])
        .build();
    let refused = ddl("crm", "crm_app", &[same_index]);
    assert!(matches!(refused, Err(SchemaError::Duplicate { .. })));
    for target in ["nobody", "audit_event"] {
        let refers = FieldType::Reference {
            object: target.into(),
            on_delete: OnDelete::Restrict,
        };
        let object = with("a").field(FieldSchema::new("b", refers)).build();
        let refused = ddl("crm", "crm_app", &[object]);
        assert!(
            matches!(refused, Err(SchemaError::Reference { .. })),
            "{target}"
        );
    }
}

/// All objects that an engine knows from the start have a table.
#[tokio::test]
async fn every_object_of_the_engine_is_there() {
    let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1/none").unwrap();
    let engine = Engine::builder(PostgresStorage::new(pool)).build();
    for (name, object) in &*engine.registry().objects() {
        assert!(objects().contains(object), "{name}");
    }
    let listed: BTreeSet<String> = objects().iter().map(|o| o.name().to_owned()).collect();
    assert_eq!(listed.len(), objects().len());
    // Each comes after those that it refers to, but for circles within one object.
    let mut before = BTreeSet::new();
    for object in objects() {
        for field in object.references() {
            let (target, _) = object.fields()[*field].reference().unwrap();
            assert!(
                target == object.name() || before.contains(target),
                "{target}"
            );
        }
        before.insert(object.name().to_owned());
    }
}
