//! Activities that are made from templates.

use crm_engine::error::codes;
use crm_engine::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::{at, faults, world};

fn template() -> ActivityTemplate {
    ActivityTemplate {
        subject_template: Some(
            "{{ greeting | default('Call') }} {{ contact.first_name }}: {{ deal.name }}".into(),
        ),
        description_template: Some(
            "{{ owner.email }} on {{ today }}{{ contact.job_title }}".into(),
        ),
        duration_minutes: Some(20),
        default_priority: Priority::High,
        custom_fields_template: json!({"topic": "{{ deal.name | upper }}", "round": 1}),
        tags: vec!["first".into()],
        due_in_days: Some(2),
        is_global: true,
        ..ActivityTemplate::new("First call", ActivityType::Call)
    }
}

fn variables(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

/// C-017: variables, type, duration, priority and tags are taken over; days are the owner's.
#[tokio::test]
async fn activities_are_made_from_templates() {
    let w = world().await;
    let zone = |user: &mut User| user.timezone = TimeZone::parse("Pacific/Auckland").unwrap();
    w.session.users().update(w.owner, zone).await.unwrap();
    w.clock.set(at("2026-03-02T20:00:00Z"));
    let hank = w.contact("Hank").await;
    let deal = Deal::new("Big deal", w.pipeline);
    let deal = w.session.deals().create(deal).await.unwrap();
    let made = w
        .session
        .activity_templates()
        .create(template())
        .await
        .unwrap();
    assert_eq!(made.owner_id, Some(w.owner));
    let links = ActivityLinks {
        contact_id: Some(hank),
        ..ActivityLinks::from(deal.id)
    };
    let mut activities = w.session.activities();
    let given = variables(json!({"greeting": "Ring"}));
    let call = activities
        .from_template(made.id, links.clone(), &given)
        .await
        .unwrap();
    assert_eq!(call.subject, "Ring Hank: Big deal");
    assert_eq!(
        call.description.as_deref(),
        Some("ada@acme.example on 2026-03-03")
    );
    assert_eq!(call.activity_type, ActivityType::Call);
    assert_eq!(
        (call.duration_minutes, call.priority),
        (Some(20), Priority::High)
    );
    assert_eq!(call.tags, ["first"]);
    assert!(
        call.custom_fields["topic"]
            .as_str()
            .unwrap()
            .starts_with("BIG")
    );
    assert_eq!(call.custom_fields["round"], 1);
    // The end of March 5 in Auckland.
    assert_eq!(call.due_date, Some(at("2026-03-05T10:59:59Z")));
    assert_eq!(
        (call.owner_id, call.links.contact_id),
        (w.owner, Some(hank))
    );

    // Every variable that has no value is told, at its text.
    let error = activities
        .from_template(made.id, deal.id, &Map::new())
        .await
        .unwrap_err();
    let found = faults(&error);
    assert_eq!(
        found,
        [
            ("subject_template", "unknown_variable"),
            ("description_template", "unknown_variable")
        ]
    );
    let told = error.to_string();
    assert!(
        told.contains("greeting") && told.contains("contact.job_title"),
        "{told}"
    );
    let error = activities
        .from_template(
            made.id,
            links.clone(),
            &variables(json!({"greeting": "x", "today": 1})),
        )
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("variables.today", codes::READ_ONLY)]);
    let nobody = Id::<Contact>::new(uuid::Uuid::from_u128(5));
    let error = activities
        .from_template(made.id, nobody, &given)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("contact_id", codes::NOT_FOUND)]);
    let off = |template: &mut ActivityTemplate| template.is_active = false;
    w.session
        .activity_templates()
        .update(made.id, off)
        .await
        .unwrap();
    let error = activities
        .from_template(made.id, links, &given)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_active");
}

/// C-017: a private template is its owner's alone, a global one everybody's.
#[tokio::test]
async fn private_templates_are_their_owners() {
    let w = world().await;
    let other = w.user("eve@acme.example", "UTC").await;
    let eve = w
        .crm
        .session(w.session.tenant().unwrap(), Actor::User(other));
    let plain = |name: &str| ActivityTemplate::new(name, ActivityType::Task);
    let private = w
        .session
        .activity_templates()
        .create(plain("Private"))
        .await
        .unwrap();
    let global = ActivityTemplate {
        is_global: true,
        ..plain("Global")
    };
    let global = w.session.activity_templates().create(global).await.unwrap();
    let names = async |session: &Session| {
        let page = session.activity_templates().usable(10, None).await.unwrap();
        page.items
            .iter()
            .map(|one| one.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&w.session).await, ["Global", "Private"]);
    assert_eq!(names(&eve).await, ["Global"]);
    let none = Map::new();
    let error = eve
        .activities()
        .from_template(private.id, w.account, &none)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
    let made = eve
        .activities()
        .from_template(global.id, w.account, &none)
        .await
        .unwrap();
    assert_eq!((made.owner_id, made.subject.as_str()), (other, "Global"));
    // What no user does is done for the owner.
    let system = w.crm.session(w.session.tenant().unwrap(), Actor::System);
    let made = system
        .activities()
        .from_template(private.id, w.account, &none)
        .await
        .unwrap();
    assert_eq!(made.owner_id, w.owner);
    let error = system
        .activity_templates()
        .create(plain("Nobody's"))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("owner_id", codes::REQUIRED)]);
}

/// C-017, R-145 to: faults are told when the template is saved.
#[tokio::test]
async fn templates_keep_their_rules() {
    let w = world().await;
    let mut templates = w.session.activity_templates();
    let plain = templates
        .create(ActivityTemplate::new("Plain", ActivityType::Task))
        .await
        .unwrap();
    assert_eq!(
        (plain.default_priority, plain.is_active, plain.is_global),
        (Priority::Medium, true, false)
    );
    let same = ActivityTemplate::new("Plain", ActivityType::Call);
    assert_eq!(
        templates.create(same).await.unwrap_err().code(),
        "duplicate"
    );
    let error = templates
        .create(ActivityTemplate {
            subject_template: Some("a {{ contact.first_nam }}".into()),
            description_template: Some("one\ntwo {{ 'x' * 9 }}".into()),
            custom_fields_template: json!({"a": "{% include 'b' %}"}),
            due_in_days: Some(1),
            due_in_business_hours: Some(1),
            duration_minutes: Some(0),
            ..ActivityTemplate::new("Faulty", ActivityType::Task)
        })
        .await
        .unwrap_err();
    let mut found = faults(&error);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("custom_fields_template.a", "invalid_template"),
            ("description_template", "invalid_template"),
            ("due_in_business_hours", codes::INCONSISTENT),
            ("duration_minutes", codes::OUT_OF_RANGE),
            ("subject_template", "unknown_variable"),
        ]
    );
    let fault = error
        .field_errors()
        .iter()
        .find(|fault| fault.path == "description_template");
    let params = &fault.unwrap().params;
    assert_eq!(params["line"].to_json(), json!(2));
    assert_eq!(params["column"].to_json(), json!(12));
    let secret = ActivityTemplate {
        subject_template: Some("{{ owner.password_hash }}".into()),
        ..ActivityTemplate::new("Secret", ActivityType::Task)
    };
    let error = templates.create(secret).await.unwrap_err();
    assert_eq!(faults(&error), [("subject_template", "unknown_variable")]);
    let body = json!({"name": "x", "activity_type": "dance", "default_priority": "none"});
    let error = templates
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    let found = faults(&error);
    for field in ["activity_type", "default_priority"] {
        assert!(found.contains(&(field, codes::NOT_AN_OPTION)), "{found:?}");
    }
}
