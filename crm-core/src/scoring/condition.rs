//! The condition of a rule, bound to the schema of leads.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use serde_json::Value as Json;

use super::entity::{ACTIVITY_COUNT, LeadScoringRule, ScoringOperator};
use super::settings::{ActivityCount, DAYS, Decay, is_days};
use crate::error::{Faults, FieldError, codes};
use crate::leads::Lead;
use crate::query::{
    Comparison, Condition, Criteria, FieldAt, Filter, ListMatch, NoRelated, TextMatch, locate,
};
use crate::schema::{AnyRecord, Entity, FieldSet, Registry, StorageKind, Value, ValueRef};

/// The microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What a rule asks of a lead.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    /// A condition over one field.
    Field(Condition),
    /// A list has entries, or none.
    Entries { field: FieldAt, has: bool },
    /// How long ago a moment is.
    Age { field: FieldAt, range: Range },
    /// How many activities there are.
    Count {
        counted: ActivityCount,
        range: Range,
    },
}

/// What a rule asks of a whole number: an age in microseconds, or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// It is one of these, or none of them.
    Among { numbers: Vec<i64>, negated: bool },
    /// It is greater.
    Above(i64),
    /// It is less.
    Below(i64),
    /// It is between these, both included.
    Between(Option<i64>, Option<i64>),
}

impl Range {
    pub(super) fn contains(&self, number: i64) -> bool {
        match self {
            Self::Among { numbers, negated } => numbers.contains(&number) != *negated,
            Self::Above(limit) => number > *limit,
            Self::Below(limit) => number < *limit,
            Self::Between(from, to) => {
                from.is_none_or(|from| number >= from) && to.is_none_or(|to| number <= to)
            }
        }
    }
}

/// What scores rest on besides the lead itself.
pub(super) struct Circumstances<'a> {
    /// How many activities the lead has, one number for each count that the rule set asks for.
    pub(super) counts: &'a [i64],
    /// The counts that the rule set asks for.
    pub(super) counted: &'a [ActivityCount],
    /// The time.
    pub(super) now: DateTime<Utc>,
}

impl Test {
    /// Whether a lead meets it; the plain meaning of a rule, one by one.
    pub(super) fn is_met(&self, lead: &dyn AnyRecord, around: &Circumstances<'_>) -> bool {
        match self {
            Self::Field(condition) => condition.matches(lead, &NoRelated),
            Self::Entries { field, has } => field.with(lead, |value| has_entries(&value)) == *has,
            Self::Age { field, range } => {
                moment_at(lead, field).is_some_and(|moment| range.contains(age(moment, around.now)))
            }
            Self::Count { counted, range } => {
                let place = around.counted.iter().position(|other| other == counted);
                let count = place.and_then(|place| around.counts.get(place));
                range.contains(count.copied().unwrap_or_default())
            }
        }
    }
}

pub(super) fn has_entries(value: &ValueRef<'_>) -> bool {
    matches!(value, ValueRef::List(entries) if !entries.is_empty())
}

/// How long ago a moment is, in microseconds; less than none where it is still to come.
pub(super) fn age(moment: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    let age = now - moment;
    // More than 292,000 years.
    age.num_microseconds().unwrap_or(i64::MAX)
}

/// The moment that a field of a lead names, or a member of a JSON field.
pub(super) fn moment_at(lead: &dyn AnyRecord, field: &FieldAt) -> Option<DateTime<Utc>> {
    match (lead.value(field.index), &field.member) {
        (ValueRef::Json(json), Some(member)) if field.is_untyped() => {
            json.get(&**member).and_then(moment_in)
        }
        _ => field.with(lead, |value| moment_of(&value)),
    }
}

/// The moment that a value names; a day begins at its midnight in UTC.
fn moment_of(value: &ValueRef<'_>) -> Option<DateTime<Utc>> {
    match value {
        ValueRef::Timestamp(at) => Some(*at),
        ValueRef::Date(day) => Some(day.and_time(NaiveTime::MIN).and_utc()),
        _ => None,
    }
}

/// The moment that a member of a JSON field names: RFC 3339, or a day.
fn moment_in(json: &Json) -> Option<DateTime<Utc>> {
    let text = json.as_str()?;
    let at = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    at.ok().or_else(|| {
        let day: NaiveDate = text.parse().ok()?;
        moment_of(&ValueRef::Date(day))
    })
}

/// A rule bound to the schema.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) test: Test,
    /// The fields of leads that it looks at.
    pub(super) fields: FieldSet,
}

/// The fields that scoring writes.
pub(super) fn own_fields() -> [String; 4] {
    [
        Lead::LEAD_SCORE.name(),
        Lead::SCORE_TOTAL.name(),
        Lead::SCORE_ADJUSTMENT.name(),
        Lead::GRADE.name(),
    ]
    .map(|name| name.into_owned())
}

/// Binds the condition of a rule, or says what is wrong with which field of the rule.
pub(super) fn bind(rule: &LeadScoringRule, registry: &Registry) -> Result<Bound, FieldError> {
    let value = rule.condition_value.clone().unwrap_or_default();
    if rule.condition_field == ACTIVITY_COUNT {
        let counted = rule.activities.unwrap_or_default();
        if counted.within_days.is_some_and(|days| !is_days(days)) {
            return Err(FieldError::new("activities", codes::OUT_OF_RANGE, DAYS));
        }
        let range = count_range(rule.condition_operator, &value)?;
        return Ok(Bound {
            test: Test::Count { counted, range },
            fields: FieldSet::default(),
        });
    }
    let object = &registry.described(Lead::schema());
    let refused =
        |code: &'static str, message: String| FieldError::new("condition_field", code, message);
    let (at, schema) = locate(object, &rule.condition_field)
        .map_err(|error| refused(error.code(), error.to_string()))?;
    let is_list = schema.storage_kind() == StorageKind::List;
    // Binds any test of the field, to learn whether a rule may look at it.
    let looks = Criteria(Filter::Null {
        field: rule.condition_field.clone().into(),
        is_null: true,
    });
    let own = own_fields();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let (_, fields) = looks
        .bind(object, registry, &own)
        .map_err(|refusal| refused(refusal.code, refusal.message))?;
    let operator = rule.condition_operator;
    let test = match operator {
        ScoringOperator::OlderThan | ScoringOperator::NewerThan => {
            let is_time = matches!(
                schema.storage_kind(),
                StorageKind::Timestamp | StorageKind::Date
            );
            if !is_time && !at.is_untyped() {
                return Err(FieldError::new(
                    "condition_operator",
                    "unsupported",
                    "asks how long ago something is: name a field that holds a moment or a day",
                ));
            }
            let limit = days(&value)?;
            let range = match operator {
                ScoringOperator::OlderThan => Range::Above(limit),
                _ => Range::Below(limit),
            };
            Test::Age { field: at, range }
        }
        ScoringOperator::Exists | ScoringOperator::NotExists if is_list => Test::Entries {
            field: at,
            has: operator == ScoringOperator::Exists,
        },
        _ => {
            let filter = filter(rule, is_list, value)?;
            let condition = Condition::bind(&filter, object, registry).map_err(|error| {
                let field = match error {
                    crate::query::QueryError::Unsupported { .. } => "condition_operator",
                    _ => "condition_value",
                };
                FieldError::new(field, error.code(), error.to_string())
            })?;
            Test::Field(condition)
        }
    };
    Ok(Bound { test, fields })
}

/// The filter that says what a rule says.
fn filter(rule: &LeadScoringRule, is_list: bool, value: Json) -> Result<Filter, FieldError> {
    let name = || rule.condition_field.clone().into();
    let compare = |op, value: Json| Filter::Compare {
        field: name(),
        op,
        value: Value::from_json(value),
    };
    let not = |filter| Filter::Not(Box::new(filter));
    let contains = |value: &Json| {
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        let text = text.ok_or_else(|| wrong("must be a text"))?.to_owned();
        Ok(if is_list {
            Filter::List {
                field: name(),
                op: ListMatch::Any,
                values: vec![text],
            }
        } else {
            Filter::Text {
                field: name(),
                op: TextMatch::Contains,
                text,
            }
        })
    };
    let among = |value: Json| {
        let values = entries(value)?;
        Ok(if is_list {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            let texts: Option<Vec<String>> = texts.collect();
            Filter::List {
                field: name(),
                op: ListMatch::Any,
                values: texts.ok_or_else(|| wrong("must be a list of texts"))?,
            }
        } else {
            Filter::In {
                field: name(),
                values: values.into_iter().map(Value::from_json).collect(),
            }
        })
    };
    Ok(match rule.condition_operator {
        ScoringOperator::Equals => compare(Comparison::Eq, value),
        ScoringOperator::NotEquals => compare(Comparison::Ne, value),
        ScoringOperator::Contains => contains(&value)?,
        ScoringOperator::NotContains => not(contains(&value)?),
        ScoringOperator::GreaterThan => compare(Comparison::Gt, value),
        ScoringOperator::LessThan => compare(Comparison::Lt, value),
        ScoringOperator::In => among(value)?,
        ScoringOperator::NotIn => not(among(value)?),
        ScoringOperator::Between => match ends(value)? {
            (from, Json::Null) => compare(Comparison::Ge, from),
            (Json::Null, to) => compare(Comparison::Le, to),
            (from, to) => Filter::Between {
                field: name(),
                from: Value::from_json(from),
                to: Value::from_json(to),
            },
        },
        ScoringOperator::NotExists => Filter::Null {
            field: name(),
            is_null: true,
        },
        // Ages are not asked of the query language.
        ScoringOperator::Exists | ScoringOperator::OlderThan | ScoringOperator::NewerThan => {
            Filter::Null {
                field: name(),
                is_null: false,
            }
        }
    })
}

fn count_range(operator: ScoringOperator, value: &Json) -> Result<Range, FieldError> {
    let number = |value: &Json| {
        value
            .as_i64()
            .ok_or_else(|| wrong("must be a whole number"))
    };
    let numbers = |value: &Json| -> Result<Vec<i64>, FieldError> {
        entries(value.clone())?.iter().map(number).collect()
    };
    let among = |numbers, negated| Range::Among { numbers, negated };
    Ok(match operator {
        ScoringOperator::Equals => among(vec![number(value)?], false),
        ScoringOperator::NotEquals => among(vec![number(value)?], true),
        ScoringOperator::In => among(numbers(value)?, false),
        ScoringOperator::NotIn => among(numbers(value)?, true),
        ScoringOperator::GreaterThan => Range::Above(number(value)?),
        ScoringOperator::LessThan => Range::Below(number(value)?),
        ScoringOperator::Between => {
            let (from, to) = ends(value.clone())?;
            let end = |end: Json| match end {
                Json::Null => Ok(None),
                end => number(&end).map(Some),
            };
            Range::Between(end(from)?, end(to)?)
        }
        _ => {
            return Err(FieldError::new(
                "condition_operator",
                "unsupported",
                "a count is compared with whole numbers",
            ));
        }
    })
}

fn wrong(message: &'static str) -> FieldError {
    FieldError::new("condition_value", codes::WRONG_TYPE, message)
}

fn entries(value: Json) -> Result<Vec<Json>, FieldError> {
    match value {
        Json::Array(values) if !values.is_empty() => Ok(values),
        _ => Err(wrong("must be a list of values")),
    }
}

/// The two ends of a range, of which one may be open.
fn ends(value: Json) -> Result<(Json, Json), FieldError> {
    let Ok([from, to]) = <[Json; 2]>::try_from(entries(value)?) else {
        return Err(wrong("must be a list of two values"));
    };
    if from.is_null() && to.is_null() {
        return Err(wrong("must name one end of the range, or both"));
    }
    Ok((from, to))
}

fn days(value: &Json) -> Result<i64, FieldError> {
    let days = value.as_u64().and_then(|days| u32::try_from(days).ok());
    match days.filter(|days| is_days(*days)) {
        Some(days) => Ok(i64::from(days) * DAY),
        None => Err(FieldError::new(
            "condition_value",
            codes::OUT_OF_RANGE,
            DAYS,
        )),
    }
}

/// The place of the moment from which on points fade.
pub(super) fn bind_decay(decay: &Decay, registry: &Registry) -> Result<FieldAt, FieldError> {
    let object = &registry.described(Lead::schema());
    let refused = |code: &'static str, message: String| FieldError::new("decay", code, message);
    let (at, schema) =
        locate(object, &decay.since).map_err(|error| refused(error.code(), error.to_string()))?;
    let is_time = matches!(
        schema.storage_kind(),
        StorageKind::Timestamp | StorageKind::Date
    );
    if !at.is_untyped() && !is_time {
        return Err(refused(
            codes::WRONG_TYPE,
            "`since` must name a field of leads that holds a moment or a day".to_owned(),
        ));
    }
    let looks = Criteria(Filter::Null {
        field: decay.since.clone().into(),
        is_null: true,
    });
    looks
        .bind(object, registry, &[])
        .map_err(|refusal| refused(refusal.code, refusal.message))?;
    Ok(at)
}

/// Adds what is wrong with the condition of a rule.
pub(super) fn add_faults(rule: &LeadScoringRule, registry: &Registry, faults: &mut Faults) {
    // What is missing is told by the check of the record.
    let has_value = rule
        .condition_value
        .as_ref()
        .is_some_and(|value| !value.is_null());
    if rule.condition_operator.stands_alone() != has_value
        && let Err(fault) = bind(rule, registry)
    {
        faults.push(fault);
    }
}
