//! [`Action`]: what a rule does, as data, and what is wrong with it as far as the schema tells.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::Id;
use crate::activities::{Activity, ActivityTemplate, ActivityType};
use crate::deals::{Deal, Priority};
use crate::error::{Faults, FieldError, codes};
use crate::identity::User;
use crate::pipelines::PipelineStage;
use crate::schema::{Access, Entity, SYSTEM_FIELDS, StorageKind, ValueRef, document_value};

/// How many actions a rule has at most.
const MOST_ACTIONS: usize = 50;
/// In how many days something is due at most.
const MOST_DAYS: u32 = 3_660;

/// What a rule does, in this order.
///
/// ```
/// use crm_core::automation::{Action, Actions};
/// use serde_json::json;
///
/// let actions: Actions = serde_json::from_value(json!([
///     {"do": "set_fields", "fields": {"next_step": "call", "custom_fields.segment": "large"}},
///     {"do": "assign_owner", "to": "account_owner"},
///     {"do": "create_activity", "activity_type": "task", "subject": "Ask", "due_in_days": 3},
/// ]))?;
/// assert!(matches!(actions.0[1], Action::AssignOwner { .. }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actions(pub Vec<Action>);

document_value!(Actions);

/// Does not show the actions: they hold values of users.
impl std::fmt::Debug for Actions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actions")
            .field("count", &self.0.len())
            .finish_non_exhaustive()
    }
}

/// One thing that a rule does. In JSON, `do` says which; see [`Actions`].
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Gives fields of the deal values, as a user may: `null` empties one, `custom_fields.segment`
    /// names a field of the tenant's own.
    SetFields {
        /// The values by field.
        fields: Map<String, Json>,
    },
    /// Moves the deal to a stage of its pipeline, if the gates of the stage let it in. Rules that do
    /// so belong to the pipeline.
    MoveToStage {
        /// The stage.
        stage_id: Id<PipelineStage>,
    },
    /// Gives the deal another owner.
    AssignOwner {
        /// Whom.
        to: Assignee,
    },
    /// Adds tags to the deal; those that it has stay.
    AddTags {
        /// The tags.
        tags: Vec<String>,
    },
    /// Takes tags from the deal.
    RemoveTags {
        /// The tags.
        tags: Vec<String>,
    },
    /// Creates an activity of the deal, its account and its contact.
    CreateActivity(NewActivity),
    /// Creates an activity of the deal from a template that the actor may use.
    ApplyTemplate {
        /// The template.
        template_id: Id<ActivityTemplate>,
    },
    /// Writes a comment on the deal. Whoever is mentioned, by user name in the text or in `notify`,
    /// finds it among the unread mentions.
    AddComment {
        /// What is said.
        body: String,
        /// Who is told.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notify: Vec<Assignee>,
    },
    /// Writes a note on the deal.
    AddNote {
        /// What it is about.
        title: String,
        /// What is noted.
        body: String,
    },
}

/// Does not show values of users.
impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SetFields { .. } => "SetFields",
            Self::MoveToStage { .. } => "MoveToStage",
            Self::AssignOwner { .. } => "AssignOwner",
            Self::AddTags { .. } => "AddTags",
            Self::RemoveTags { .. } => "RemoveTags",
            Self::CreateActivity(_) => "CreateActivity",
            Self::ApplyTemplate { .. } => "ApplyTemplate",
            Self::AddComment { .. } => "AddComment",
            Self::AddNote { .. } => "AddNote",
        })
    }
}

/// A user, found when the rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Assignee {
    /// This one.
    User(Id<User>),
    /// Who owns the deal.
    DealOwner,
    /// Whom the owner of the deal reports to.
    OwnersManager,
    /// Who owns the deal's account.
    AccountOwner,
    /// Who looks after the deal's account.
    AccountManager,
    /// Who owns the deal's contact.
    ContactOwner,
}

/// An activity that a rule creates.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct NewActivity {
    /// What kind it is.
    pub activity_type: ActivityType,
    /// What it is about.
    pub subject: String,
    /// Notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// In how many days it is due; it has no time if there is nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in_days: Option<u32>,
    /// Who does it: the owner of the deal, unless somebody else is named.
    #[serde(default = "deal_owner")]
    pub owner: Assignee,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
}

const fn deal_owner() -> Assignee {
    Assignee::DealOwner
}

impl NewActivity {
    /// An activity without a time, for the owner of the deal.
    #[must_use]
    pub fn new(activity_type: ActivityType, subject: impl Into<String>) -> Self {
        Self {
            activity_type,
            subject: subject.into(),
            description: None,
            due_in_days: None,
            owner: Assignee::DealOwner,
            priority: Priority::default(),
        }
    }
}

/// Does not show the texts.
impl std::fmt::Debug for NewActivity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewActivity")
            .field("activity_type", &self.activity_type)
            .field("due_in_days", &self.due_in_days)
            .finish_non_exhaustive()
    }
}

/// Values by field as a merge patch: `custom_fields.segment` becomes a member of `custom_fields`.
pub(super) fn patch(fields: &Map<String, Json>) -> Map<String, Json> {
    let mut patch = Map::new();
    for (name, value) in fields {
        let member = name.split_once('.').filter(|(field, _)| {
            let field = Deal::schema().field(field);
            field.is_some_and(|field| field.storage_kind() == StorageKind::Json)
        });
        match member {
            None => {
                patch.insert(name.clone(), value.clone());
            }
            Some((field, member)) => {
                let document = patch
                    .entry(field)
                    .or_insert_with(|| Json::Object(Map::new()));
                if let Json::Object(document) = document {
                    document.insert(member.to_owned(), value.clone());
                }
            }
        }
    }
    patch
}

impl Actions {
    /// What is wrong with the actions as far as values and the schema tell; `path` is the field that
    /// holds them.
    pub(super) fn check(&self, path: &str, faults: &mut Faults) {
        if self.0.is_empty() {
            faults.add(path, codes::REQUIRED, "a rule does at least one thing");
        }
        if self.0.len() > MOST_ACTIONS {
            faults.push(
                FieldError::new(path, codes::OUT_OF_RANGE, "a rule does at most 50 things")
                    .with("max", MOST_ACTIONS as i64),
            );
        }
        for (index, action) in self.0.iter().enumerate() {
            action.check(&format!("{path}.{index}"), faults);
        }
    }
}

impl Action {
    fn check(&self, path: &str, faults: &mut Faults) {
        match self {
            Self::SetFields { fields } => check_fields(fields, &format!("{path}.fields"), faults),
            Self::AddTags { tags } | Self::RemoveTags { tags } => {
                let path = format!("{path}.tags");
                if tags.is_empty() {
                    faults.add(&*path, codes::REQUIRED, "name at least one tag");
                }
                check_value::<Deal>(&Deal::TAGS.name(), &ValueRef::List(tags), &path, faults);
            }
            Self::CreateActivity(activity) => {
                let subject = ValueRef::Text(&activity.subject);
                let place = format!("{path}.subject");
                check_text(&activity.subject, &place, faults);
                check_value::<Activity>(&Activity::SUBJECT.name(), &subject, &place, faults);
                if let Some(text) = &activity.description {
                    let field = Activity::DESCRIPTION.name();
                    let place = format!("{path}.description");
                    check_value::<Activity>(&field, &ValueRef::Text(text), &place, faults);
                }
                if activity.due_in_days.is_some_and(|days| days > MOST_DAYS) {
                    let place = format!("{path}.due_in_days");
                    faults.push(
                        FieldError::new(place, codes::OUT_OF_RANGE, "use at most 3660 days")
                            .with("max", i64::from(MOST_DAYS)),
                    );
                }
            }
            Self::AddComment { body, .. } => check_text(body, &format!("{path}.body"), faults),
            Self::AddNote { title, body } => {
                check_text(title, &format!("{path}.title"), faults);
                check_text(body, &format!("{path}.body"), faults);
            }
            Self::MoveToStage { .. } | Self::AssignOwner { .. } | Self::ApplyTemplate { .. } => {}
        }
    }
}

fn check_text(text: &str, path: &str, faults: &mut Faults) {
    if text.trim().is_empty() {
        faults.add(path, codes::BLANK, "must not be blank");
    }
}

/// Checks a value like one of a field of `E`, and tells faults at `path`.
fn check_value<E: Entity>(field: &str, value: &ValueRef<'_>, path: &str, faults: &mut Faults) {
    if let Some(field) = E::schema().field(field)
        && let Err(fault) = field.check(value)
        && !faults.has(path)
    {
        faults.push(FieldError {
            path: path.to_owned(),
            ..fault
        });
    }
}

/// The fields exist, users may write them, and the values are such as they take.
fn check_fields(fields: &Map<String, Json>, path: &str, faults: &mut Faults) {
    if fields.is_empty() {
        faults.add(path, codes::REQUIRED, "name at least one field");
    }
    let schema = Deal::schema();
    for (name, value) in fields {
        let place = format!("{path}.{name}");
        let one: Map<String, Json> = [(name.clone(), value.clone())].into_iter().collect();
        let one = patch(&one);
        let (values, refused) = schema.overlay(schema.defaults(), &one, Access::User);
        if let Err(refused) = refused.into_result() {
            for fault in refused.into_errors() {
                faults.push(FieldError {
                    path: place.clone(),
                    ..fault
                });
            }
            continue;
        }
        let index = one.keys().next().and_then(|name| schema.field_index(name));
        let own = index.and_then(|index| values.get(index.checked_sub(SYSTEM_FIELDS)?));
        if let (Some(field), Some(own)) = (index.and_then(|index| schema.fields().get(index)), own)
            && let Err(fault) = field.check(&own.as_ref())
        {
            faults.push(FieldError {
                path: place,
                ..fault
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(actions: Json) -> Vec<(String, String)> {
        let actions: Actions = serde_json::from_value(actions).unwrap();
        let mut faults = Faults::default();
        actions.check("actions", &mut faults);
        let errors = faults.into_result().err();
        let errors = errors.into_iter().flat_map(|all| all.into_errors());
        errors
            .map(|fault| (fault.path, fault.code.to_string()))
            .collect()
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let told = faults(json!([
            {"do": "set_fields", "fields": {
                "nothing": 1, "status": "won", "priority": "soon", "amount": -1, "version": 3,
                "next_step": "call", "custom_fields.segment": "large", "name": null,
            }},
            {"do": "set_fields", "fields": {}},
            {"do": "add_tags", "tags": []},
            {"do": "create_activity", "activity_type": "task", "subject": " ", "due_in_days": 9999},
            {"do": "add_comment", "body": ""},
        ]));
        let paths: Vec<&str> = told.iter().map(|(path, _)| path.as_str()).collect();
        for path in [
            "actions.0.fields.nothing",
            "actions.0.fields.status",
            "actions.0.fields.priority",
            "actions.0.fields.amount",
            "actions.0.fields.version",
            "actions.0.fields.name",
            "actions.1.fields",
            "actions.2.tags",
            "actions.3.subject",
            "actions.3.due_in_days",
            "actions.4.body",
        ] {
            assert!(paths.contains(&path), "{path} is not among {told:?}");
        }
        assert_eq!(told.len(), 11, "{told:?}");
        assert_eq!(faults(json!([]))[0].1, "required");
    }

    #[test]
    fn custom_fields_are_members_of_their_document() {
        let fields = json!({"custom_fields.a": 1, "custom_fields.b": null, "name": "x"});
        assert_eq!(
            Json::Object(patch(fields.as_object().unwrap())),
            json!({"custom_fields": {"a": 1, "b": null}, "name": "x"})
        );
    }

    #[test]
    fn actions_read_back_as_they_were_written() {
        let user = Id::new(uuid::Uuid::from_u128(7));
        let actions = Actions(vec![
            Action::AssignOwner {
                to: Assignee::User(user),
            },
            Action::CreateActivity(NewActivity::new(ActivityType::Call, "Call")),
            Action::AddComment {
                body: "Look".into(),
                notify: vec![Assignee::OwnersManager],
            },
        ]);
        let json = serde_json::to_value(&actions).unwrap();
        assert_eq!(serde_json::from_value::<Actions>(json).unwrap(), actions);
        assert!(!format!("{actions:?}").contains("Look"));
    }
}
