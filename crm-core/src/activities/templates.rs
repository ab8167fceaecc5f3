//! [`ActivityTemplate`]: activities that are made again and again.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Days, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};

use super::days::{add_business_hours, local_date, start_of_day};
use super::template_text::{Fault, Unrendered, render, variables};
use super::{Activity, ActivityLinks, ActivityType};
use crate::Id;
use crate::deals::Priority;
use crate::engine::{Records, UnitOfWork, Write, WriteRule, in_work};
use crate::error::{Error, Faults, FieldError, Result, codes};
use crate::identity::User;
use crate::query::{Cursor, Find, Page, Where, WhereExt};
use crate::record::{Actor, Record};
use crate::schema::{Entity, FieldSchema, MULTILINE_LENGTH, ObjectRef, Privacy, Row};
use crate::value::TimeZone;

/// The variable that names the user who owns the new activity.
const OWNER: &str = "owner";
/// The variable with the moment, in the owner's time zone.
const NOW: &str = "now";
/// The variable with the day, in the owner's time zone.
const TODAY: &str = "today";

/// An activity to make again and again (C-017). Its texts, and the texts in its custom fields, are
/// templates: `Call {{ contact.first_name }} about {{ deal.name }}`.
///
/// They see the records that the new activity is linked to, by object and field (`account`,
/// `contact`, `deal`, `lead`), its `owner`, `now` and `today` in the owner's time zone, and the
/// variables of the caller. Fields that hold secrets are not there. A field without a value is
/// printed as nothing; the filters are `upper`, `lower`, `trim`, `default(..)` and `join(..)`, and
/// `{% if contact.job_title %}..{% endif %}` leaves parts out.
///
/// A template that is not global is for its owner to use, and for nobody else: only
/// [`usable`](Records::usable) and [`from_template`](Records::from_template) keep to that. It is no
/// secret: `get`, `find` and `update` work on every template of the tenant, as they do on every
/// record, for whoever administers them. Show users the list of `usable`.
///
/// ```
/// # use crm_core::{Id, Session, error::Result, activities::*, deals::Deal};
/// # async fn example(session: &Session, deal: Id<Deal>) -> Result<()> {
/// let template = ActivityTemplate {
///     subject_template: Some("Ask about {{ deal.name }}".into()),
///     due_in_days: Some(3),
///     is_global: true,
///     ..ActivityTemplate::new("First call", ActivityType::Call)
/// };
/// let template = session.activity_templates().create(template).await?;
/// let none = serde_json::Map::new();
/// let call = session.activities().from_template(template.id, deal, &none).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "activity_template",
    table = "activity_templates",
    unique(name; live),
    check = check_template
)]
pub struct ActivityTemplate {
    /// Name (R-306).
    #[field(required, max_len = 100, searchable)]
    pub name: String,
    /// What kind of activity it makes (R-147).
    #[field(required)]
    pub activity_type: ActivityType,
    /// What the activity is about; the template's name, if there is nothing here.
    #[field(max_len = 255)]
    pub subject_template: Option<String>,
    /// The activity's notes.
    #[field(multiline)]
    pub description_template: Option<String>,
    /// How long it takes, in minutes; more than none (R-145).
    #[field(min = 1)]
    pub duration_minutes: Option<u32>,
    /// How urgent it is (R-146, R-459).
    pub default_priority: Priority,
    /// Values of the tenant's own fields; texts are templates.
    #[field(default = json!({}))]
    pub custom_fields_template: Json,
    /// Tags.
    pub tags: Vec<String>,
    /// How many minutes before it to remind of it.
    pub reminder_minutes: Option<u32>,
    /// In how many days it is due: at the end of that day where the owner lives.
    #[field(max = 3660)]
    pub due_in_days: Option<u32>,
    /// In how many working hours it is due, instead; see
    /// [`add_business_hours`](super::add_business_hours).
    #[field(max = 20000)]
    pub due_in_business_hours: Option<u32>,
    /// Whether it is in use.
    #[field(default = true)]
    pub is_active: bool,
    /// Whether everybody may use it.
    pub is_global: bool,
    /// Whose it is; who creates it, if nobody else is named.
    #[field(references = "user", on_delete = "set_null")]
    pub owner_id: Option<Id<User>>,
}

/// The texts of a template, each with the name of its field.
fn texts(template: &ActivityTemplate) -> Vec<(String, &str)> {
    let mut texts = Vec::new();
    for (field, text) in [
        (
            ActivityTemplate::SUBJECT_TEMPLATE.name(),
            &template.subject_template,
        ),
        (
            ActivityTemplate::DESCRIPTION_TEMPLATE.name(),
            &template.description_template,
        ),
    ] {
        texts.extend(text.as_deref().map(|text| (field.into_owned(), text)));
    }
    let custom = ActivityTemplate::CUSTOM_FIELDS_TEMPLATE.name();
    let members = template.custom_fields_template.as_object();
    for (name, value) in members.into_iter().flatten() {
        texts.extend(
            value
                .as_str()
                .map(|text| (format!("{custom}.{name}"), text)),
        );
    }
    texts
}

fn faulty(field: &str, fault: Fault) -> FieldError {
    let mut error = FieldError::new(field, "invalid_template", fault.message)
        .with("line", i64::try_from(fault.line).unwrap_or(i64::MAX));
    if let Some(column) = fault.column {
        error = error.with("column", i64::try_from(column).unwrap_or(i64::MAX));
    }
    error
}

/// What a field of a record is to templates: nothing, where it holds a secret.
fn is_shown(field: &FieldSchema) -> bool {
    field.privacy != Privacy::Sensitive
}

/// Every text compiles, and names fields that the linked records have.
fn check_template(template: &ActivityTemplate, faults: &mut Faults) {
    for (field, text) in texts(template) {
        match variables(text) {
            Err(fault) => faults.push(faulty(&field, fault)),
            Ok(names) => {
                for name in names {
                    if let Some(unknown) = unknown_field(&name) {
                        let message = format!("there is no field `{unknown}`");
                        faults.push(FieldError::new(&field, "unknown_variable", message));
                    }
                }
            }
        }
    }
    if !template.custom_fields_template.is_object() {
        let field = ActivityTemplate::CUSTOM_FIELDS_TEMPLATE.name();
        faults.add(field, codes::WRONG_TYPE, "must be an object");
    }
    if template.due_in_days.is_some() && template.due_in_business_hours.is_some() {
        faults.add(
            ActivityTemplate::DUE_IN_BUSINESS_HOURS.name(),
            codes::INCONSISTENT,
            "give days or working hours, not both",
        );
    }
    if !template.is_global && template.owner_id.is_none() {
        faults.add(
            ActivityTemplate::OWNER_ID.name(),
            codes::REQUIRED,
            "a template that is not global has an owner",
        );
    }
}

/// The path, if it leads to a field that a linked record does not have.
fn unknown_field(path: &str) -> Option<&str> {
    let mut steps = path.split('.');
    let (record, member) = (steps.next()?, steps.next()?);
    let object = known_objects().find(|(name, _)| *name == record)?.1;
    let is_known = object.field(member).is_some_and(is_shown);
    (!is_known).then_some(path)
}

/// The records that templates see, by the names of their variables.
fn known_objects() -> impl Iterator<Item = (&'static str, &'static ObjectRef)> {
    ActivityLinks::objects()
        .map(|object| (object.name(), object))
        .chain([(OWNER, User::schema())])
}

/// C-017: who creates a template owns it.
#[derive(Debug)]
pub(crate) struct TemplateRules;

#[async_trait]
impl WriteRule for TemplateRules {
    fn object(&self) -> &'static str {
        "activity_template"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let actor = work.session().actor();
        let lacks_owner = write
            .after::<ActivityTemplate>()
            .is_some_and(|template| template.owner_id.is_none());
        if write.is_new() && lacks_owner {
            write.edit::<ActivityTemplate>(|template| template.owner_id = actor.user());
        }
        Ok(())
    }
}

impl ActivityTemplate {
    /// Whether an actor may use the template: a global one anybody, any other its owner. What runs
    /// for no user, such as a job of the host, may use all.
    #[must_use]
    pub fn is_visible_to(&self, actor: Actor) -> bool {
        self.is_global
            || actor == Actor::System
            || (self.owner_id.is_some() && self.owner_id == actor.user())
    }
}

impl Records<'_, ActivityTemplate> {
    /// One page of the active templates that the session's actor may use, by name.
    ///
    /// # Errors
    /// [`Error::Query`] for a cursor of another list.
    pub async fn usable(
        &self,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<Page<Arc<Record<ActivityTemplate>>>> {
        let find = Find::from(ActivityTemplate::IS_ACTIVE.eq(true))
            .sort(ActivityTemplate::NAME.asc())
            .limit(limit);
        let global = ActivityTemplate::IS_GLOBAL.eq(true);
        let seen: Option<Where<ActivityTemplate>> = match self.workspace.session().actor() {
            Actor::System => None,
            actor => Some(match actor.user() {
                Some(user) => global.or(ActivityTemplate::OWNER_ID.eq(user)),
                None => global,
            }),
        };
        let find = match seen {
            Some(seen) => find.filter(seen),
            None => find,
        };
        self.find(match after {
            Some(cursor) => find.after(cursor),
            None => find,
        })
        .await
    }
}

impl Records<'_, Activity> {
    /// Makes an activity from a template, for the session's user or, where no user acts, for the
    /// template's owner. Line breaks in the subject become spaces.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such template, or it is somebody else's;
    /// [`Error::Validation`] with every variable that has no value, and what
    /// [`create`](Records::create) refuses; [`Error::Rule`] if the template is not in use.
    pub async fn from_template(
        &mut self,
        template: Id<ActivityTemplate>,
        links: impl Into<ActivityLinks>,
        variables: &Map<String, Json>,
    ) -> Result<Arc<Record<Activity>>> {
        let links = links.into();
        in_work!(self.workspace, |work| {
            let actor = work.session().actor();
            let template = work.get(template).await?;
            if !template.is_visible_to(actor) {
                return Err(Error::NotFound {
                    object: ActivityTemplate::schema().name().to_owned(),
                    id: template.id.uuid(),
                });
            }
            if !template.is_active {
                return Err(crate::error::RuleViolation::new(
                    "not_active",
                    "C-017",
                    "the template is not in use; make it active",
                )
                .into());
            }
            // Rules apply it to many deals in one commit: it is read once.
            work.rely_on_row(template.clone());
            let owner = actor.user().or(template.owner_id);
            let owner = owner.ok_or_else(|| FieldError::missing_record("owner_id"))?;
            let owner = work.get(owner).await?;
            let context = context(work, &links, &owner, variables).await?;
            let activity = instance(&template, &links, &owner, &context, work.now())?;
            work.activities().create(activity).await
        })
    }
}

/// What templates see.
async fn context(
    work: &UnitOfWork,
    links: &ActivityLinks,
    owner: &Arc<Record<User>>,
    variables: &Map<String, Json>,
) -> Result<Map<String, Json>> {
    let mut faults = Faults::default();
    let mut context = Map::new();
    for object in ActivityLinks::objects() {
        context.insert(object.name().to_owned(), Json::Null);
    }
    for (object, id) in links.records() {
        match work.row(object, id).await? {
            Some(row) if !row.is_deleted() => {
                context.insert(object.name().to_owned(), shown(&row));
            }
            _ => faults.push(FieldError::missing_record(format!("{}_id", object.name()))),
        }
    }
    if let Some(related) = links.related() {
        let object = work.registry().await?.object(&related.object);
        let row = match object {
            Some(object) => work.row(&object, related.id).await?,
            None => None,
        };
        match row.filter(|row| !row.is_deleted()) {
            Some(row) => {
                context.insert(related.object, shown(&row));
            }
            None => faults.push(FieldError::missing_record("related_id")),
        }
    }
    let row: Row = owner.clone();
    context.insert(OWNER.to_owned(), shown(&row));
    let local = work.now().with_timezone(&owner.timezone.tz());
    let now = local.to_rfc3339_opts(SecondsFormat::Secs, true);
    context.insert(NOW.to_owned(), Json::String(now));
    context.insert(
        TODAY.to_owned(),
        Json::String(local.date_naive().to_string()),
    );
    for (name, value) in variables {
        if context.contains_key(name) {
            let path = format!("variables.{name}");
            faults.add(path, codes::READ_ONLY, "the engine gives this variable");
        } else {
            context.insert(name.clone(), value.clone());
        }
    }
    faults.into_result()?;
    Ok(context)
}

/// A record as templates see it.
fn shown(row: &Row) -> Json {
    let fields = row.object().fields().iter().enumerate();
    let shown = fields.filter(|(_, field)| is_shown(field));
    let members = shown.map(|(index, field)| (field.name.to_string(), row.value(index).to_json()));
    Json::Object(members.collect())
}

/// The activity that a template makes.
fn instance(
    template: &ActivityTemplate,
    links: &ActivityLinks,
    owner: &Record<User>,
    context: &Map<String, Json>,
    now: DateTime<Utc>,
) -> Result<Activity> {
    let mut faults = Faults::default();
    let mut filled = |field: &str, text: &str| -> String {
        match render(text, context, MULTILINE_LENGTH as usize) {
            Ok(text) => text,
            Err(unrendered) => {
                refuse(&mut faults, field, unrendered);
                String::new()
            }
        }
    };
    let mut subject = template.name.clone();
    let mut description = None;
    let mut custom = template.custom_fields_template.clone();
    for (field, text) in texts(template) {
        let text = filled(&field, text);
        if field == ActivityTemplate::SUBJECT_TEMPLATE.name() {
            subject = text.split_whitespace().collect::<Vec<_>>().join(" ");
        } else if field == ActivityTemplate::DESCRIPTION_TEMPLATE.name() {
            description = Some(text);
        } else if let Some((_, member)) = field.split_once('.')
            && let Some(value) = custom.get_mut(member)
        {
            *value = Json::String(text);
        }
    }
    faults.into_result()?;
    Ok(Activity {
        description,
        duration_minutes: template.duration_minutes,
        priority: template.default_priority,
        custom_fields: custom,
        tags: template.tags.clone(),
        reminder_minutes: template.reminder_minutes,
        due_date: due_date(template, now, owner.timezone),
        ..Activity::new(template.activity_type, subject, links.clone(), owner.id)
    })
}

fn refuse(faults: &mut Faults, field: &str, unrendered: Unrendered) {
    match unrendered {
        Unrendered::Unknown(names) => {
            let names: Vec<String> = names.into_iter().collect();
            let message = format!("these variables have no value: {}", names.join(", "));
            faults.push(FieldError::new(field, "unknown_variable", message));
        }
        Unrendered::TooLong => faults.push(
            FieldError::new(
                field,
                codes::TOO_LONG,
                "the text that comes of it is too long",
            )
            .with("max_length", i64::from(MULTILINE_LENGTH)),
        ),
        Unrendered::Faulty(fault) => faults.push(faulty(field, fault)),
    }
}

/// When what a template makes is due.
fn due_date(
    template: &ActivityTemplate,
    now: DateTime<Utc>,
    zone: TimeZone,
) -> Option<DateTime<Utc>> {
    if let Some(hours) = template.due_in_business_hours {
        return Some(add_business_hours(now, hours, zone));
    }
    let days = u64::from(template.due_in_days?);
    let next = local_date(now, zone).checked_add_days(Days::new(days + 1))?;
    // The last second of the day.
    start_of_day(next, zone).checked_sub_signed(chrono::TimeDelta::seconds(1))
}
