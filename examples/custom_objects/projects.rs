//! Projects for customers: fields of many types, tasks of a project, a lookup to the account,
//! activities, comments, and what became of a record.

use crm_engine::audit::AuditExt;
use crm_engine::custom_objects::{CustomFieldType, CustomObject, DecimalLimits};
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use serde_json::json;

use super::{
    BoxError, add, add_picklist, define, field, find, make, members, name, refusal, required, value,
};

pub(super) async fn show(session: &Session, acme: &Onboarded) -> Result<(), BoxError> {
    println!("Projects");
    describe(session).await?;
    let globex = session.accounts().create(Account::new("Globex")).await?;
    let bridge = fill(session, &globex).await?;
    query(session).await?;
    work_on(session, acme, bridge.clone()).await?;
    grow(session).await?;

    // The trail names the fields that changed.
    for event in session.audit().trail(bridge).await? {
        println!(
            "  trail: {} {}",
            event.event,
            event.changes.fields().join(", ")
        );
    }
    Ok(())
}

/// What a project is.
async fn describe(session: &Session) -> Result<(), BoxError> {
    let project = CustomObject {
        description: Some("What we do for a customer".into()),
        ..CustomObject::new(ApiName::parse("project")?, "Project", "Projects")
    };
    define(session, project).await?;
    let budget = CustomFieldType::Currency {
        currency: Currency::EUR,
        min: Some(0.into()),
        max: None,
    };
    let customer = CustomFieldType::Lookup {
        object: ApiName::parse("account")?,
        cascade: false,
    };
    let progress = CustomFieldType::Percent(DecimalLimits::default());
    for definition in [
        required(field(
            "project",
            "start_date",
            "Start",
            CustomFieldType::Date,
        )?),
        field("project", "end_date", "End", CustomFieldType::Date)?,
        field("project", "budget", "Budget", budget)?,
        field("project", "progress", "Progress", progress)?,
        field("project", "website", "Website", CustomFieldType::Url)?,
        required(field("project", "customer", "Customer", customer)?),
    ] {
        add(session, definition).await?;
    }
    let status = field("project", "status", "Status", CustomFieldType::Picklist)?;
    let options = [
        ("planning", "In planning"),
        ("running", "Running"),
        ("paused", "Paused"),
        ("done", "Done"),
    ];
    add_picklist(session, required(status), &options).await?;

    // What a project is made of.
    let task = CustomObject::new(ApiName::parse("project_task")?, "Task", "Tasks");
    define(session, task).await?;
    let whole = CustomFieldType::MasterDetail {
        object: ApiName::parse("project")?,
    };
    add(session, field("project_task", "project", "Project", whole)?).await?;
    let hours = CustomFieldType::Number(Default::default());
    add(session, field("project_task", "hours", "Hours", hours)?).await?;

    for field in session.describe("project").await?.custom_fields() {
        let need = if field.field.required {
            "required"
        } else {
            "optional"
        };
        println!(
            "  {:<12} {:<10} {need}",
            field.field.name,
            field.field.label()
        );
    }
    Ok(())
}

/// Two projects, the tasks of one, and one that is refused.
async fn fill(session: &Session, globex: &Record<Account>) -> Result<EntityRef, BoxError> {
    let body = json!({"name": "Bridge", "custom_fields": {
        "start_date": "2026-03-01", "end_date": "2026-09-30", "budget": "125000.00",
        "progress": 10, "website": "https://bridge.example/", "customer": globex.id,
    }});
    let bridge = make(session, "project", body).await?;
    println!("  {} begins as {}", name(&bridge), value(&bridge, "status"));
    let body = json!({"name": "Road", "custom_fields": {
        "start_date": "2026-01-15", "budget": "9000.00", "customer": globex.id, "status": "running",
    }});
    make(session, "project", body).await?;
    for (task, hours) in [("Plan", 40), ("Build", 400)] {
        let custom = json!({"project": bridge.id(), "hours": hours});
        make(
            session,
            "project_task",
            json!({"name": task, "custom_fields": custom}),
        )
        .await?;
    }
    let faulty = json!({"name": "Tunnel", "custom_fields": {
        "start_date": "soon", "budget": "-1", "status": "lost", "depth": 7,
    }});
    let mut projects = session.object("project").await?;
    if let Err(error) = projects.create(members(&faulty)?).await {
        println!("  refused: {}", refusal(&error));
    }
    Ok(EntityRef::new("project", bridge.id()))
}

/// Values are compared as what they are: 9000 is less than 125000, and days have their order.
async fn query(session: &Session) -> Result<(), BoxError> {
    let large = json!({"field": "budget", "op": "gt", "value": "10000"});
    for project in find(session, "project", &large, "name").await? {
        println!(
            "  large: {}, {} EUR",
            name(&project),
            value(&project, "budget")
        );
    }
    let of_globex =
        json!({"field": "customer", "has": {"field": "name", "op": "eq", "value": "Globex"}});
    for project in find(session, "project", &of_globex, "start_date").await? {
        println!(
            "  for Globex: {} from {}",
            name(&project),
            value(&project, "start_date")
        );
    }
    let by_project: Aggregate<()> = serde_json::from_value(json!({
        "group_by": [{"field": "project"}], "measures": ["count", {"sum": "hours"}],
    }))?;
    for group in session
        .object("project_task")
        .await?
        .aggregate(&by_project)
        .await?
    {
        let hours = group.number(1).unwrap_or_default();
        println!("  {} tasks of {hours} hours", group.count(0));
    }
    Ok(())
}

/// Activities and comments belong to a project as to any record.
async fn work_on(session: &Session, acme: &Onboarded, bridge: EntityRef) -> Result<(), BoxError> {
    let kick_off = Activity::new(
        ActivityType::Meeting,
        "Kick off",
        bridge.clone(),
        acme.admin,
    );
    let kick_off = session.activities().create(kick_off).await?;
    session
        .activities()
        .complete(kick_off.id, Some("All agree"))
        .await?;
    session
        .comments()
        .write(bridge.clone(), "The river is high")
        .await?;
    for activity in session.activities().of(bridge.clone(), None).await?.items {
        println!(
            "  {}: {} ({})",
            activity.activity_type, activity.subject, activity.status
        );
    }
    for comment in session.comments().of(bridge.clone(), None).await?.items {
        println!("  comment: {}", comment.body);
    }
    let mut projects = session.object("project").await?;
    let version = projects.get(bridge.id).await?.version();
    let patch = json!({"custom_fields": {"status": "running", "progress": "12.5"}});
    projects.merge(bridge.id, version, members(&patch)?).await?;
    Ok(())
}

/// A field is added while everybody works; records that were there have no value yet.
async fn grow(session: &Session) -> Result<(), BoxError> {
    let risk = field("project", "risk", "Risk", CustomFieldType::Picklist)?;
    add_picklist(session, risk, &[("low", "Low"), ("high", "High")]).await?;
    let unknown = json!({"field": "risk", "op": "is_null"});
    let projects = find(session, "project", &unknown, "name").await?;
    println!("  {} projects have no risk yet", projects.len());
    Ok(())
}
