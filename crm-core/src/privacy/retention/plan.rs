//! A policy bound to the schema: which records are due, and which are held.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AUDIT_OBJECT, LegalHold, RetentionPolicy, Upkeep};
use crate::engine::UnitOfWork;
use crate::error::{FieldError, Result, codes};
use crate::privacy::DeletionMethod;
use crate::query::{Comparison, Condition, Criteria, FieldAt, NoRelated, Query};
use crate::schema::{
    Entity as _, FieldSchema, Lifecycle, ObjectRef, ObjectScope, Privacy, Registry, Row,
    SYSTEM_FIELDS, StorageKind, Value, month_of, system,
};
use crate::storage::{Guard, Judge};
use crate::tenancy::Tenant;

/// Whatever has to do with the audit trail is kept whole, by this beginning of its objects' names.
const AUDIT_PREFIX: &str = "audit_";

/// A policy bound to the schema.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) object: ObjectRef,
    pub(super) upkeep: Upkeep,
    /// The archive that months of the log are moved to and removed from, if it has one.
    pub(super) archive: Option<ObjectRef>,
    /// Which records are due, those that are held included.
    pub(super) due: Condition,
}

/// Binds a policy to the schema; gives everything that does not fit.
pub(super) fn bind(
    policy: &RetentionPolicy,
    registry: &Registry,
    now: DateTime<Utc>,
) -> Result<Plan, Vec<FieldError>> {
    let fault =
        |field: &str, code, message: String| FieldError::new(field.to_owned(), code, message);
    let Some(object) = registry.object(&policy.object) else {
        let message = "there is no such object".to_owned();
        let field = RetentionPolicy::OBJECT.name();
        return Err(vec![fault(&field, codes::NOT_FOUND, message)]);
    };
    let mut faults = Vec::new();
    let upkeep = match upkeep(policy, &object, registry) {
        Ok(upkeep) => upkeep,
        Err((field, message)) => {
            faults.push(fault(&field, "unsupported", message.to_owned()));
            Upkeep::Records
        }
    };
    let cutoff = match upkeep {
        // A month is over as a whole, or not yet.
        Upkeep::Months => month_of(policy.cutoff(now)),
        _ => policy.cutoff(now),
    };
    let archive = archive_of(&object, registry).filter(|_| upkeep == Upkeep::Months);
    let basis = RetentionPolicy::BASIS_FIELD.name();
    let mut before = |name: &str, told: &str| match moment(&object, name, cutoff) {
        Ok(found) => Some(found),
        Err(message) => {
            faults.push(fault(told, "unsupported", message));
            None
        }
    };
    let first = before(&policy.basis_field, &basis);
    let other = policy
        .basis_if_empty
        .as_deref()
        .and_then(|name| before(name, &RetentionPolicy::BASIS_IF_EMPTY.name()));
    let criteria = match &policy.criteria {
        Some(criteria) => match Condition::bind(&criteria.0, &object, registry) {
            Ok(condition) => condition,
            Err(error) => {
                let field = RetentionPolicy::CRITERIA.name();
                faults.push(fault(&field, error.code(), error.to_string()));
                Condition::all()
            }
        },
        None => Condition::all(),
    };
    let Some(first) = first.filter(|_| faults.is_empty()) else {
        return Err(faults);
    };
    let is_over = match other {
        Some(other) => Condition::Or(vec![
            first.is_before(),
            first.is_empty().and(other.is_before()),
        ]),
        None => first.is_before(),
    };
    let visible = match policy.method {
        _ if upkeep == Upkeep::Months => Condition::all(),
        DeletionMethod::Archive => Condition::not_deleted().and(Condition::not_archived()),
        DeletionMethod::SoftDelete | DeletionMethod::Anonymize => Condition::not_deleted(),
        DeletionMethod::HardDelete => Condition::all(),
    };
    Ok(Plan {
        object,
        upkeep,
        archive,
        due: visible.and(is_over).and(criteria),
    })
}

/// The archive of a log: the object that is a copy of it.
fn archive_of(log: &ObjectRef, registry: &Registry) -> Option<ObjectRef> {
    let objects = registry.objects();
    let mut copies = objects.values().filter(|other| {
        other.origin() == log.name() && other.name() != log.name() && other.is_monthly()
    });
    copies.next().cloned()
}

/// How the policy is carried out, if it can be.
fn upkeep(
    policy: &RetentionPolicy,
    object: &ObjectRef,
    registry: &Registry,
) -> Result<Upkeep, (std::borrow::Cow<'static, str>, &'static str)> {
    let of_object = |message| Err((RetentionPolicy::OBJECT.name(), message));
    if object.scope() == ObjectScope::Platform || object.is_template() {
        return of_object("its records are not removed one by one");
    }
    let method = policy.method;
    match object.lifecycle() {
        Lifecycle::Derived => of_object("its records follow from others, and go with these"),
        Lifecycle::Log if object.name() == AUDIT_OBJECT => {
            if !matches!(method, DeletionMethod::Archive | DeletionMethod::HardDelete) {
                let message = "the event log is archived or deleted by whole months";
                return Err((RetentionPolicy::METHOD.name(), message));
            }
            let created_at = object.field_name(system::CREATED_AT);
            if policy.basis_field != created_at || policy.basis_if_empty.is_some() {
                let message = "months of the event log count from `created_at`";
                return Err((RetentionPolicy::BASIS_FIELD.name(), message));
            }
            if policy.criteria.is_some() {
                let message = "months of the event log go as a whole";
                return Err((RetentionPolicy::CRITERIA.name(), message));
            }
            if archive_of(object, registry).is_none() {
                return of_object("its archive is not known to the engine");
            }
            Ok(Upkeep::Months)
        }
        Lifecycle::Log if object.name().starts_with(AUDIT_PREFIX) => {
            of_object("what proves the event log is kept with it")
        }
        Lifecycle::Log if object.origin() != object.name() => {
            of_object("what is archived of a log goes with the log: name that")
        }
        Lifecycle::Log if object.is_monthly() && method == DeletionMethod::Archive => {
            if archive_of(object, registry).is_none() {
                let message = "the log has no archive: its entries can only be deleted for good";
                return Err((RetentionPolicy::METHOD.name(), message));
            }
            match is_by_months(policy, object) {
                true => Ok(Upkeep::Months),
                false => Err((
                    RetentionPolicy::CRITERIA.name(),
                    "months of a log are archived as a whole, counted from `created_at`",
                )),
            }
        }
        Lifecycle::Log if method == DeletionMethod::HardDelete && is_by_months(policy, object) => {
            Ok(Upkeep::Months)
        }
        Lifecycle::Log if method == DeletionMethod::HardDelete => Ok(Upkeep::Log),
        Lifecycle::Log => Err((
            RetentionPolicy::METHOD.name(),
            "entries of a log can only be deleted for good",
        )),
        Lifecycle::Full => {
            let mut fields = object.fields().iter();
            let has_personal = fields.any(|field| field.privacy != Privacy::Public);
            if method == DeletionMethod::Anonymize && !has_personal {
                let message = "no field of the object is personal";
                return Err((RetentionPolicy::METHOD.name(), message));
            }
            Ok(Upkeep::Records)
        }
    }
}

/// Whether a policy lets whole months of a log by months go; else it picks entries.
fn is_by_months(policy: &RetentionPolicy, object: &ObjectRef) -> bool {
    object.is_monthly()
        && policy.criteria.is_none()
        && policy.basis_if_empty.is_none()
        && policy.basis_field == object.field_name(system::CREATED_AT)
}

/// A date or moment of a record, with what it is compared to.
struct Moment {
    at: FieldAt,
    cutoff: Value,
}

impl Moment {
    fn is_before(&self) -> Condition {
        Condition::Compare {
            field: self.at.clone(),
            op: Comparison::Lt,
            value: self.cutoff.clone(),
        }
    }

    fn is_empty(&self) -> Condition {
        Condition::Null {
            field: self.at.clone(),
            is_null: true,
        }
    }
}

fn moment(object: &ObjectRef, name: &str, cutoff: DateTime<Utc>) -> Result<Moment, String> {
    let (at, field) = FieldAt::named(object, name).map_err(|error| error.to_string())?;
    let cutoff = match field.storage_kind() {
        _ if at.is_untyped() => None,
        StorageKind::Timestamp => Some(Value::Timestamp(cutoff)),
        StorageKind::Date => Some(Value::Date(cutoff.date_naive())),
        _ => None,
    };
    match cutoff {
        Some(cutoff) => Ok(Moment { at, cutoff }),
        None => Err("must be a date or a moment".to_owned()),
    }
}

/// Binds what a hold holds to the schema.
pub(super) fn bind_hold(hold: &LegalHold, registry: &Registry) -> Result<Condition, FieldError> {
    let object = registry.object(&hold.object);
    let held = object.filter(|object| object.lifecycle() == Lifecycle::Full);
    let Some(object) = held else {
        let message = "there is no such object, or its records are not deleted one by one";
        return Err(FieldError::new(
            LegalHold::OBJECT.name(),
            codes::NOT_FOUND,
            message,
        ));
    };
    if let Some(id) = hold.record_id {
        return Ok(Condition::equals(system::ID, Value::Uuid(id)));
    }
    let Some(Criteria(filter)) = &hold.criteria else {
        return Ok(Condition::all());
    };
    let field = LegalHold::CRITERIA.name();
    let condition = Condition::bind(filter, &object, registry)
        .map_err(|error| FieldError::new(field.clone(), error.code(), error.to_string()))?;
    if asks_others(&condition) {
        let message = "must look at the record itself, not at other records";
        return Err(FieldError::new(field, "unsupported", message));
    }
    Ok(condition)
}

fn asks_others(condition: &Condition) -> bool {
    match condition {
        Condition::Has { .. } | Condition::Any { .. } | Condition::InTree { .. } => true,
        Condition::And(all) | Condition::Or(all) => all.iter().any(asks_others),
        Condition::Not(one) => asks_others(one),
        _ => false,
    }
}

/// What legal holds keep, by object.
#[derive(Debug, Default)]
pub(super) struct Holds {
    by_object: HashMap<String, Vec<Condition>>,
    /// The object of each hold, and the one record that it holds, if it is one.
    held: Vec<(String, Option<Uuid>)>,
    /// At which versions they were read.
    read: Arc<HashMap<Uuid, i64>>,
}

/// No hold is set, or holds something else, since the holds were read.
#[derive(Debug)]
struct NoOtherHolds {
    read: Arc<HashMap<Uuid, i64>>,
}

impl Guard for NoOtherHolds {
    fn query(&self) -> Query {
        let active = FieldAt::new(
            LegalHold::schema()
                .field_index(&LegalHold::IS_ACTIVE.name())
                .unwrap_or(usize::MAX),
        );
        let is_active = Condition::In {
            field: active,
            values: vec![Value::Boolean(true)],
        };
        let live = Condition::not_deleted().and(Condition::not_archived());
        Query::new(LegalHold::schema(), live.and(is_active))
    }

    fn judge(&self) -> Judge {
        let read = self.read.clone();
        Box::new(move |row| read.get(&row.id()) != Some(&row.version()))
    }
}

/// Keeps a hold that is set from falling into the end of a run's commit, which has looked at the holds
/// by then: it comes before that look, or behind the commit.
pub(super) async fn keep_out_of_runs(work: &mut UnitOfWork) -> Result<()> {
    match work.session().tenant() {
        Some(tenant) => work.touch(Tenant::schema(), tenant.uuid()).await,
        None => Ok(()),
    }
}

impl Holds {
    /// Those that are active.
    pub(super) async fn load(work: &UnitOfWork) -> Result<Self> {
        let registry = &*work.registry().await?;
        let mut by_object: HashMap<String, Vec<Condition>> = HashMap::new();
        let mut read = HashMap::new();
        let mut records = Vec::new();
        let active = LegalHold::IS_ACTIVE.eq(true);
        for hold in work.find_all(active, Vec::new()).await? {
            read.insert(hold.id.uuid(), hold.version);
            records.push((hold.object.clone(), hold.record_id));
            // One whose criteria no longer fit the schema holds all records of the object.
            let held = bind_hold(&hold, registry).unwrap_or_else(|_| Condition::all());
            by_object.entry(hold.object.clone()).or_default().push(held);
        }
        Ok(Self {
            by_object,
            held: records,
            read: Arc::new(read),
        })
    }

    /// Lets the commit be a conflict where another hold is set until then, so that what is decided by
    /// these is decided again. One that is set while the commit ends waits for it, by the row of the
    /// tenant, which [holds change](keep_out_of_runs).
    pub(super) async fn rely_on(&self, work: &mut UnitOfWork) -> Result<()> {
        work.guard(NoOtherHolds {
            read: self.read.clone(),
        });
        if let Some(tenant) = work.session().tenant()
            && let Some(row) = work.row(Tenant::schema(), tenant.uuid()).await?
        {
            work.rely_on(&*row);
        }
        Ok(())
    }

    /// Whether these are the same holds.
    pub(super) fn are(&self, others: &Self) -> bool {
        self.read == others.read
    }

    /// Which entries of a log are about a record that is held, or may be: such a month is not deleted.
    /// `None` where none is.
    pub(super) fn entries(&self, log: &ObjectRef) -> Option<Condition> {
        let all: Vec<Condition> = self
            .held
            .iter()
            .flat_map(|(object, record)| held_entries(log, object, *record))
            .collect();
        (!all.is_empty()).then_some(Condition::Or(all))
    }

    /// Whether a record is held.
    pub(super) fn hold(&self, row: &Row) -> bool {
        let held = self.by_object.get(row.object().name());
        held.is_some_and(|held| held.iter().any(|one| one.matches(&**row, &NoRelated)))
    }
}

/// Which entries of a log are about records of an object, or about one of them.
fn held_entries(log: &ObjectRef, object: &str, record: Option<Uuid>) -> Vec<Condition> {
    let fields = log.fields().iter().enumerate().skip(SYSTEM_FIELDS);
    let by_id = fields
        .clone()
        .filter(|(_, field)| field.storage_kind() == StorageKind::Uuid);
    match record {
        // No two records have one id, so any field that holds it tells of the record.
        Some(id) => by_id
            .map(|(place, _)| Condition::equals(place, Value::Uuid(id)))
            .collect(),
        // Which records the hold means is not looked up: every entry about the object counts.
        None => {
            let key = format!("{object}_id");
            let leads = |field: &FieldSchema| {
                field.name == key || field.reference().is_some_and(|(to, _)| to == object)
            };
            let named = fields.filter(|(_, field)| field.name == "object");
            let named = named
                .filter(|(_, field)| field.storage_kind() == StorageKind::Text)
                .map(|(place, _)| Condition::equals(place, Value::Text(object.to_owned())));
            let led = by_id.filter(|(_, field)| leads(field));
            let led = led.map(|(place, _)| Condition::Null {
                field: FieldAt::new(place),
                is_null: false,
            });
            named.chain(led).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Account;
    use crate::leads::Lead;

    fn registry() -> Registry {
        let registry = Registry::default();
        for object in crate::objects() {
            registry.add(&object);
        }
        registry
    }

    /// C-065: a policy that does not fit the schema is told every fault.
    #[test]
    fn every_fault_of_a_policy_is_told() {
        let policy = RetentionPolicy {
            basis_field: "name".into(),
            basis_if_empty: Some("nonsense".into()),
            criteria: Some(Criteria::from(crate::query::Filter::eq("unknown", 1))),
            ..RetentionPolicy::new("p", Account::schema().name(), DeletionMethod::Archive, 1)
        };
        let faults = bind(&policy, &registry(), DateTime::UNIX_EPOCH).unwrap_err();
        let fields: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(fields, ["basis_field", "basis_if_empty", "criteria"]);
    }

    #[test]
    fn logs_and_derived_rows_have_their_own_ways() {
        let bound = |object: &str, method| {
            let policy = RetentionPolicy::new("p", object, method, 1);
            let bound = bind(&policy, &registry(), DateTime::UNIX_EPOCH);
            bound
                .map(|plan| plan.upkeep)
                .map_err(|faults| faults[0].path.clone())
        };
        assert_eq!(
            bound("deal_state", DeletionMethod::HardDelete),
            Err("object".into())
        );
        assert_eq!(
            bound("tenant", DeletionMethod::HardDelete),
            Err("object".into())
        );
        assert_eq!(
            bound("automation_execution", DeletionMethod::HardDelete),
            Ok(Upkeep::Log)
        );
        assert_eq!(
            bound("automation_execution", DeletionMethod::Archive),
            Err("method".into())
        );
        assert_eq!(
            bound("pipeline", DeletionMethod::Anonymize),
            Err("method".into())
        );
        assert_eq!(
            bound(Lead::schema().name(), DeletionMethod::Anonymize),
            Ok(Upkeep::Records)
        );
    }
}
