//! What follows from other values: a formula, roll-ups over the tasks of a project (one over their
//! formula), a rule between fields, and a gate that asks about the customer of a deal.

use crm_engine::custom_objects::{
    Computed, CustomFieldRule, CustomFieldType, DataType, RollUp, RollUpFunction,
};
use crm_engine::pipelines::PipelineStage;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};

use super::{BoxError, add, field, find, make, members, name, refusal, value};

pub(super) async fn show(session: &Session, acme: &Onboarded) -> Result<(), BoxError> {
    println!("Values that follow from others");
    describe(session).await?;
    tell("at first", &project(session, "Bridge").await?);

    // One commit: the task, its cost, and what both come to for the project.
    let build = named(session, "project_task", "Build").await?;
    change(session, "project_task", &build, json!({"hours": 500})).await?;
    let bridge = project(session, "Bridge").await?;
    tell("more hours", &bridge);
    let survey = json!({"name": "Survey", "custom_fields": {"project": bridge.id(), "hours": 16}});
    let survey = make(session, "project_task", survey).await?;
    tell("another task", &project(session, "Bridge").await?);
    let mut tasks = session.object("project_task").await?;
    tasks.delete(survey.id()).await?;
    let bridge = project(session, "Bridge").await?;
    tell("without it", &bridge);

    let too_early = json!({"end_date": "2026-02-28"});
    if let Err(error) = change(session, "project", &bridge, too_early).await {
        println!("  refused: {error}");
    }
    gate(session, acme).await
}

/// Fields that are computed, for the records that there are too.
async fn describe(session: &Session) -> Result<(), BoxError> {
    let formula = |expression: &str| CustomFieldType::Formula {
        expression: expression.to_owned(),
        result: DataType::Decimal,
    };
    let over = |function, object: &str, by: &str, of: Option<&str>| -> Result<_, BoxError> {
        Ok(RollUp {
            function,
            object: ApiName::parse(object)?,
            by: ApiName::parse(by)?,
            field: of.map(ApiName::parse).transpose()?,
            filter: None,
            result: match function {
                RollUpFunction::Count => DataType::Integer,
                _ => DataType::Decimal,
            },
        })
    };
    let (sum, count) = (RollUpFunction::Sum, RollUpFunction::Count);
    let tasks = over(count, "project_task", "project", None)?;
    let planned = over(sum, "project_task", "project", Some("cost"))?;
    let running = RollUp {
        filter: Some(Filter::eq("status", "running")),
        ..over(count, "project", "customer", None)?
    };
    let computed = Computed::new(session);
    for (object, api_name, label, field_type) in [
        ("project_task", "cost", "Cost", formula("hours * 120")),
        ("project", "tasks", "Tasks", CustomFieldType::RollUp(tasks)),
        (
            "project",
            "planned",
            "Planned cost",
            CustomFieldType::RollUp(planned),
        ),
        (
            "project",
            "left",
            "Left of the budget",
            formula("amount(budget) - planned"),
        ),
        (
            "account",
            "running",
            "Running projects",
            CustomFieldType::RollUp(running),
        ),
    ] {
        let field = field(object, api_name, label, field_type)?;
        let id = add(session, field).await?;
        computed.recompute(id, &()).await?;
    }
    let rule = CustomFieldRule {
        field: Some(ApiName::parse("end_date")?),
        ..CustomFieldRule::new(
            ApiName::parse("project")?,
            "Ends after it starts",
            "end_date >= start_date",
            "must not be before the start",
        )
    };
    session.records().create(rule).await?;
    Ok(())
}

/// A proposal needs a customer for whom something is done already.
async fn gate(session: &Session, acme: &Onboarded) -> Result<(), BoxError> {
    let stages = session.pipelines().stages(acme.pipeline).await?;
    let proposal = stages.iter().find(|stage| stage.name == "Proposal");
    let proposal = proposal.ok_or("the default pipeline has this stage")?.id;
    let condition = "account_id.running >= 2 or amount(amount) < 1000";
    session
        .pipelines()
        .update_stage(proposal, |stage: &mut PipelineStage| {
            stage.entry_condition = Some(condition.to_owned());
            stage.entry_condition_message = Some("needs two running projects".to_owned());
        })
        .await?;
    let globex = Account::NAME.eq("Globex");
    let globex = session.accounts().find_one(globex).await?;
    let globex = globex.ok_or("the projects are for this account")?;
    let tunnel = Deal {
        account_id: Some(globex.id),
        amount: Some(80_000.into()),
        ..Deal::new("Tunnel", acme.pipeline)
    };
    let tunnel = session.deals().create(tunnel).await?.id;
    let paused = project(session, "Road").await?;
    change(session, "project", &paused, json!({"status": "paused"})).await?;
    if let Err(error) = session.deals().move_to(tunnel, proposal).await {
        println!("  refused: {}", refusal(&error));
    }
    let paused = project(session, "Road").await?;
    change(session, "project", &paused, json!({"status": "running"})).await?;
    let moved = session.deals().move_to(tunnel, proposal).await?;
    println!("  {} is a proposal", moved.name);
    // A condition that does not fit deals is never stored.
    let faulty = session
        .pipelines()
        .update_stage(proposal, |stage: &mut PipelineStage| {
            stage.entry_condition = Some("account_id.runing >= 2".to_owned());
        })
        .await;
    if let Err(error) = faulty {
        println!("  refused: {}", refusal(&error));
    }
    Ok(())
}

fn tell(when: &str, project: &Row) {
    println!(
        "  {when:<12} {}: {} tasks for {} EUR, {} EUR left",
        name(project),
        value(project, "tasks"),
        value(project, "planned"),
        value(project, "left"),
    );
}

async fn project(session: &Session, name: &str) -> Result<Row, BoxError> {
    named(session, "project", name).await
}

async fn named(session: &Session, object: &str, name: &str) -> Result<Row, BoxError> {
    let filter = json!({"field": "name", "op": "eq", "value": name});
    let mut found = find(session, object, &filter, "name").await?;
    Ok(found.pop().ok_or("it was made before")?)
}

/// Writes custom values of a record; the others stay.
async fn change(session: &Session, object: &str, row: &Row, values: Json) -> Result<(), BoxError> {
    let patch = json!({"custom_fields": values});
    let mut records = session.object(object).await?;
    let changed = records.merge(row.id(), row.version(), members(&patch)?);
    changed.await.map_err(|error| refusal(&error))?;
    Ok(())
}
