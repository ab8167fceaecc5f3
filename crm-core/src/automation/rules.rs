//! What is checked when rules are written.

use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use super::action::patch;
use super::compile::{Watched, bind, require};
use super::{Action, Assignee, AutomationRule, RuleType};
use crate::Id;
use crate::activities::ActivityTemplate;
use crate::deals::Deal;
use crate::engine::{UnitOfWork, Write, WriteRule};
use crate::error::{Faults, FieldError, Result, codes};
use crate::identity::User;
use crate::pipelines::{Pipeline, PipelineStage};
use crate::schema::{CUSTOM_FIELDS, CustomFieldSchema, Entity, ObjectRef, Value};

/// what goes together within one rule.
pub(super) fn check_rule(rule: &AutomationRule, faults: &mut Faults) {
    if !rule.rule_type.allows(rule.trigger_event) {
        faults.add(
            AutomationRule::TRIGGER_EVENT.name(),
            codes::INCONSISTENT,
            "does not go with the type of the rule",
        );
    }
    let is_timed = rule.rule_type == RuleType::TimeBased;
    let timed = [
        (AutomationRule::TIME_BASIS.name(), rule.time_basis.is_some()),
        (AutomationRule::AFTER_DAYS.name(), rule.after_days.is_some()),
    ];
    for (field, is_given) in timed {
        match (is_timed, is_given) {
            (true, false) => {
                let told = "a rule that is based on time says how many days since when";
                faults.add(field, codes::REQUIRED, told);
            }
            (false, true) => {
                let told = "only for rules that are based on time";
                faults.add(field, codes::INCONSISTENT, told);
            }
            _ => {}
        }
    }
    if is_timed && rule.conditions_before.is_some() {
        faults.add(
            AutomationRule::CONDITIONS_BEFORE.name(),
            codes::INCONSISTENT,
            "nothing changes when time passes; use `conditions`",
        );
    }
    if rule.rule_type != RuleType::FieldChange && !rule.watched_fields.is_empty() {
        faults.add(
            AutomationRule::WATCHED_FIELDS.name(),
            codes::INCONSISTENT,
            "only for rules that wait for changes of fields",
        );
    }
    rule.actions.check(&AutomationRule::ACTIONS.name(), faults);
}

/// C-022: conditions fit the schema of deals, the stage is one of the pipeline, and what actions name
/// is there. A record that is deleted later makes the action fail, which is written down.
#[derive(Debug)]
pub(crate) struct AutomationRules;

#[async_trait]
impl WriteRule for AutomationRules {
    fn object(&self) -> &'static str {
        "pipeline_automation_rule"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let Some(after) = write.after::<AutomationRule>() else {
            return Ok(());
        };
        if write.deletes() {
            return Ok(());
        }
        let before = write.before::<AutomationRule>();
        let mut rule = after.data.clone();
        let registry = &*work.registry().await?;
        let watched = rule.watched_fields.iter();
        let mut faults: Vec<FieldError> = watched
            .filter_map(|name| Watched::new(name, registry).err())
            .collect();
        let same =
            |same: &dyn Fn(&AutomationRule) -> bool| before.is_some_and(|before| same(before));
        if !same(&|before| before.conditions == rule.conditions)
            && let Err(refusal) = bind(&rule.conditions, registry)
        {
            let field = AutomationRule::CONDITIONS.name();
            faults.push(FieldError::new(field, refusal.code, refusal.message));
        }
        if let Some(wanted) = &rule.conditions_before
            && !same(&|before| before.conditions_before == rule.conditions_before)
            && let Err(refusal) = bind(wanted, registry)
        {
            let field = AutomationRule::CONDITIONS_BEFORE.name();
            faults.push(FieldError::new(field, refusal.code, refusal.message));
        }
        if let Some(source) = &rule.condition_expression
            && !same(&|before| before.condition_expression == rule.condition_expression)
            && let Err(refused) = require(source, registry)
        {
            faults.extend(refused);
        }
        let same_place = same(&|before| {
            before.stage_id == rule.stage_id && before.pipeline_id == rule.pipeline_id
        });
        let same_actions = same(&|before| before.actions == rule.actions);
        if let Some(stage) = rule.stage_id
            && !same_place
            && let Some(stage) = work.lookup(stage).await?
        {
            let pipeline = *rule.pipeline_id.get_or_insert(stage.pipeline_id);
            if pipeline != stage.pipeline_id {
                faults.push(FieldError::new(
                    AutomationRule::STAGE_ID.name(),
                    codes::INCONSISTENT,
                    "must be a stage of the rule's pipeline",
                ));
            }
        }
        if !(same_actions && same_place) {
            let deals = registry.described(Deal::schema());
            for (index, action) in rule.actions.0.iter().enumerate() {
                let path = format!("{}.{index}", AutomationRule::ACTIONS.name());
                if let Action::SetFields { fields } = action
                    && !same_actions
                {
                    check_custom(&deals, fields, &path, &mut faults);
                }
                check_links(work, rule.pipeline_id, action, &path, &mut faults).await?;
            }
        }
        for fault in faults {
            write.faults().push(fault);
        }
        let pipeline = rule.pipeline_id;
        if write.after::<AutomationRule>().map(|rule| rule.pipeline_id) != Some(pipeline) {
            write.edit(|rule: &mut AutomationRule| rule.pipeline_id = pipeline);
        }
        Ok(())
    }
}

/// The values of the tenant's own fields are such as these take. What records make of them besides,
/// such as rules over several fields, is told when the rule runs.
fn check_custom(
    deals: &ObjectRef,
    fields: &Map<String, Json>,
    path: &str,
    faults: &mut Vec<FieldError>,
) {
    if deals.custom_fields().is_empty() {
        // Without fields of the tenant the document takes anything.
        return;
    }
    let patch = patch(fields);
    let given = patch.get(CUSTOM_FIELDS).and_then(Json::as_object);
    for (name, value) in given.into_iter().flatten() {
        let place = format!("{path}.fields.{CUSTOM_FIELDS}.{name}");
        let refused = |code, message: &'static str| FieldError::new(place.clone(), code, message);
        let Some(custom) = deals.custom_field(name) else {
            faults.push(refused(codes::UNKNOWN_FIELD, "a deal has no such field"));
            continue;
        };
        let field = &custom.field;
        if field.read_only {
            let message = "only the engine writes this field";
            faults.push(refused(codes::READ_ONLY, message));
            continue;
        }
        if value.is_null() {
            if field.required {
                let message = "a deal always has a value of this field";
                faults.push(refused(codes::REQUIRED, message));
            }
            continue;
        }
        let taken = field.field_type.coerce(Value::from_json(value.clone()));
        let fault = match taken {
            Err(fault) => Some(fault.at(&place)),
            Ok(value) => match field.check(&value.as_ref()) {
                Err(fault) => Some(FieldError {
                    path: place.clone(),
                    ..fault
                }),
                Ok(()) if !is_option(custom, &value) => {
                    let message = "must be one of the field's options";
                    Some(refused(codes::NOT_AN_OPTION, message))
                }
                Ok(()) => None,
            },
        };
        faults.extend(fault);
    }
}

/// Whether a value is one of the options of a field, or several of them; any value of a field without
/// options is.
fn is_option(custom: &CustomFieldSchema, value: &Value) -> bool {
    let known = |text: &str| custom.options.iter().any(|option| **option == *text);
    custom.options.is_empty()
        || match value {
            Value::Text(text) => known(text),
            Value::List(entries) => entries.iter().all(|entry| known(entry)),
            _ => true,
        }
}

/// The records that an action names are there.
async fn check_links(
    work: &mut UnitOfWork,
    pipeline: Option<Id<Pipeline>>,
    action: &Action,
    path: &str,
    faults: &mut Vec<FieldError>,
) -> Result<()> {
    match action {
        Action::SetFields { fields } => {
            for fault in missing_links(work, fields).await? {
                let path = format!("{path}.fields.{}", fault.path);
                faults.push(FieldError { path, ..fault });
            }
        }
        Action::MoveToStage { stage_id } => {
            let path = format!("{path}.stage_id");
            match (work.lookup::<PipelineStage>(*stage_id).await?, pipeline) {
                (None, _) => faults.push(FieldError::missing_record(path)),
                (Some(stage), Some(pipeline)) if stage.pipeline_id == pipeline => {}
                (Some(_), Some(_)) => faults.push(FieldError::new(
                    path,
                    codes::INCONSISTENT,
                    "must be a stage of the rule's pipeline",
                )),
                (Some(_), None) => faults.push(FieldError::new(
                    AutomationRule::PIPELINE_ID.name(),
                    codes::REQUIRED,
                    "a rule that moves deals belongs to a pipeline",
                )),
            }
        }
        Action::AssignOwner { to } => {
            check_user(work, *to, format!("{path}.to"), faults).await?;
        }
        Action::CreateActivity(activity) => {
            check_user(work, activity.owner, format!("{path}.owner"), faults).await?;
        }
        Action::AddComment { notify, .. } => {
            for (place, to) in notify.iter().enumerate() {
                check_user(work, *to, format!("{path}.notify.{place}"), faults).await?;
            }
        }
        Action::ApplyTemplate { template_id } => {
            if work
                .lookup::<ActivityTemplate>(*template_id)
                .await?
                .is_none()
            {
                faults.push(FieldError::missing_record(format!("{path}.template_id")));
            }
        }
        Action::AddTags { .. } | Action::RemoveTags { .. } | Action::AddNote { .. } => {}
    }
    Ok(())
}

async fn check_user(
    work: &UnitOfWork,
    to: Assignee,
    path: String,
    faults: &mut Vec<FieldError>,
) -> Result<()> {
    if let Assignee::User(user) = to
        && work.lookup::<User>(user).await?.is_none()
    {
        faults.push(FieldError::missing_record(path));
    }
    Ok(())
}

/// The references among values by field that lead nowhere, those of the tenant's own fields included;
/// the others are relied on.
pub(super) async fn missing_links(
    work: &mut UnitOfWork,
    fields: &Map<String, Json>,
) -> Result<Vec<FieldError>> {
    let registry = &*work.registry().await?;
    let deals = registry.described(Deal::schema());
    let patch = patch(fields);
    let own = patch.iter().map(|(name, value)| {
        let target = deals.field(name).and_then(|field| field.reference());
        (name.clone(), target, value)
    });
    let custom = patch.get(CUSTOM_FIELDS).and_then(Json::as_object);
    let custom = custom.into_iter().flatten().map(|(name, value)| {
        let custom = deals.custom_field(name);
        let target = custom.and_then(|custom| custom.field.reference());
        (format!("{CUSTOM_FIELDS}.{name}"), target, value)
    });
    let mut missing = Vec::new();
    for (name, target, value) in own.chain(custom) {
        let Some((target, _)) = target else {
            continue;
        };
        let id = value.as_str().and_then(|id| id.parse::<uuid::Uuid>().ok());
        let (Some(id), Some(object)) = (id, registry.object(target)) else {
            continue;
        };
        match work.row(&object, id).await?.filter(|row| !row.is_deleted()) {
            Some(row) => work.rely_on_row(row),
            None => missing.push(FieldError::missing_record(name)),
        }
    }
    Ok(missing)
}
