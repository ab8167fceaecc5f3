//! What the records that there are have to be like before a definition changes.
//!
//! A check is one look at the records that may fail it, page by page: what is kept meanwhile does not
//! grow with the number of records. The same look is made twice: before the commit, to list what
//! fails, and by the storage within the commit ([`Guard`]), so that nothing slips in between.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use crm_core::error::Result;
use crm_core::query::{AggregateQuery, Condition, FieldAt, Query, fold_case};
use crm_core::schema::{AnyRecord, CUSTOM_FIELDS, FailedCheck, ObjectRef, Value, ValueRef};
use crm_core::storage::{Guard, Judge};
use crm_core::{EntityRef, UnitOfWork};
use serde_json::{Map, Value as Json};

use crate::{Check, CompiledFields, CustomField, Definition, Writer};

/// How many records are read at once.
const PAGE: usize = 500;

/// How many failing records are listed.
pub(crate) const LISTED: usize = 100;

/// How many values are compared with each other at once: of more, several looks are made.
const COMPARED: u64 = 100_000;

/// One look at the records of an object.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    object: ObjectRef,
    document: usize,
    key: Box<str>,
    asks: Asks,
}

/// What a look asks.
#[derive(Clone, Debug)]
enum Asks {
    HasValue,
    /// Of the values that fall into one of so many parts.
    Unique {
        part: u64,
        parts: u64,
        ignore_case: bool,
    },
    Valid(Arc<Values>),
    Empty,
}

/// What takes the values of one field.
#[derive(Debug)]
struct Values {
    fields: CompiledFields,
    path: String,
    controlling: Option<String>,
}

impl Values {
    /// Every option counts that there is, active or not: records keep those that are no longer chosen
    ///
    fn new(definition: &Definition, controlling: Option<&Definition>) -> Option<Self> {
        let usable = |definition: &Definition| {
            let mut definition = definition.clone();
            definition.field.is_active = true;
            definition.field.is_required = false;
            definition.field.default_value = None;
            for option in &mut definition.options {
                option.is_active = true;
                option.is_default = false;
            }
            definition
        };
        let mut own = usable(definition);
        let mut fields = Vec::new();
        match controlling {
            Some(controlling) => {
                let mut controlling = usable(controlling);
                controlling.field.controlling_field_id = None;
                fields.push(controlling);
            }
            None => own.field.controlling_field_id = None,
        }
        let path = format!("{CUSTOM_FIELDS}.{}", own.field.api_name);
        fields.push(own);
        Some(Self {
            fields: CompiledFields::new(&fields).ok()?,
            path,
            controlling: controlling.map(|field| field.field.document_key().to_owned()),
        })
    }

    fn takes(&self, key: &str, document: &Map<String, Json>) -> bool {
        let Some(value) = document.get(key) else {
            return true;
        };
        let mut given = Map::new();
        given.insert(key.to_owned(), value.clone());
        if let Some(controlling) = &self.controlling
            && let Some(under) = document.get(controlling)
        {
            given.insert(controlling.clone(), under.clone());
        }
        let given = Json::Object(given);
        let checked = self.fields.check(&given, None, Writer::Engine);
        let is_same = checked.document.get(key) == Some(value);
        let faults = checked.faults.into_result().err();
        let is_faulty = faults.is_some_and(|faults| {
            let mut own = faults.errors().iter();
            own.any(|fault| fault.path.starts_with(&self.path))
        });
        is_same && !is_faulty
    }
}

impl Look {
    fn at(&self) -> FieldAt {
        let mut at = FieldAt::new(self.document);
        at.member = Some(self.key.clone());
        at
    }

    /// The records that may fail.
    pub(crate) fn condition(&self) -> Condition {
        let null = |is_null| Condition::Null {
            field: self.at(),
            is_null,
        };
        match &self.asks {
            Asks::HasValue => Condition::not_deleted().and(null(true)),
            Asks::Unique { .. } | Asks::Valid(_) => Condition::not_deleted().and(null(false)),
            // Deleted records have values too.
            Asks::Empty => null(false),
        }
    }

    const fn name(&self) -> &'static str {
        match &self.asks {
            Asks::HasValue => "has_value",
            Asks::Unique { .. } => "unique",
            Asks::Valid(_) => "valid",
            Asks::Empty => "empty",
        }
    }

    /// Looks at all records there are, with what is staged.
    async fn run(&self, work: &UnitOfWork, failed: &mut FailedCheck) -> Result<()> {
        let mut refuses = self.judge();
        let mut query = self.query().limit(PAGE);
        loop {
            let rows = work.select(&query).await?;
            for row in &rows {
                if refuses(&**row) {
                    failed.count += 1;
                    if failed.records.len() < LISTED {
                        let record = EntityRef::new(self.object.name(), row.id());
                        failed.records.push(record);
                    }
                }
            }
            match rows.last().filter(|_| rows.len() == PAGE) {
                Some(last) => query.after = Some(vec![Value::Uuid(last.id())]),
                None => return Ok(()),
            }
        }
    }
}

impl Guard for Look {
    fn query(&self) -> Query {
        Query::new(&self.object, self.condition())
    }

    fn judge(&self) -> Judge {
        let (document, key) = (self.document, self.key.clone());
        match &self.asks {
            // That they answer the query says it all.
            Asks::HasValue | Asks::Empty => Box::new(|_| true),
            Asks::Valid(values) => {
                let values = values.clone();
                Box::new(move |row| {
                    with_document(row, document, |members| !values.takes(&key, members))
                })
            }
            Asks::Unique {
                part,
                parts,
                ignore_case,
            } => {
                let (part, parts, ignore_case) = (*part, *parts, *ignore_case);
                let mut seen = HashSet::new();
                Box::new(move |row| {
                    with_document(row, document, |members| {
                        let value = members.get(&*key).map(|value| match value {
                            Json::String(text) if ignore_case => fold_case(text),
                            other => other.to_string(),
                        });
                        value.is_some_and(|value| {
                            part_of(&value, parts) == part && !seen.insert(value)
                        })
                    })
                })
            }
        }
    }
}

fn part_of(value: &str, parts: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish().checked_rem(parts).unwrap_or_default()
}

fn with_document(
    row: &dyn AnyRecord,
    document: usize,
    ask: impl FnOnce(&Map<String, Json>) -> bool,
) -> bool {
    match row.value(document) {
        ValueRef::Json(json) => json.as_object().is_some_and(ask),
        _ => false,
    }
}

/// What to look for, over the records of one object.
pub(crate) struct Looks<'a> {
    pub(crate) object: &'a ObjectRef,
    pub(crate) definition: &'a Definition,
    pub(crate) controlling: Option<&'a Definition>,
}

impl Looks<'_> {
    /// The looks that some checks take.
    pub(crate) async fn of(&self, work: &UnitOfWork, checks: &[Check]) -> Result<Vec<Look>> {
        let Some(look) = look_for(self.object, &self.definition.field, Asks::HasValue) else {
            return Ok(Vec::new());
        };
        let mut looks = Vec::new();
        for check in checks {
            match check {
                Check::HasValue => looks.push(look.clone()),
                Check::Valid => {
                    // What does not compile is told by those who compile it.
                    let values = Values::new(self.definition, self.controlling);
                    looks.extend(values.map(|values| Look {
                        asks: Asks::Valid(Arc::new(values)),
                        ..look.clone()
                    }));
                }
                Check::Unique => {
                    let count = count_of_values(work, self.object, &self.definition.field).await?;
                    let parts = count / COMPARED + 1;
                    let ignore_case = self.definition.field.field_schema().ignore_case;
                    looks.extend((0..parts).map(|part| Look {
                        asks: Asks::Unique {
                            part,
                            parts,
                            ignore_case,
                        },
                        ..look.clone()
                    }));
                }
            }
        }
        Ok(looks)
    }
}

fn look_for(object: &ObjectRef, field: &CustomField, asks: Asks) -> Option<Look> {
    Some(Look {
        object: object.clone(),
        document: object.custom_document()?,
        key: field.document_key().into(),
        asks,
    })
}

/// That no record, deleted ones included, has a value of a field.
pub(crate) fn look_for_values(object: &ObjectRef, field: &CustomField) -> Option<Look> {
    look_for(object, field, Asks::Empty)
}

/// How many records have a value of a field, deleted ones included.
pub(crate) async fn count_of_values(
    work: &UnitOfWork,
    object: &ObjectRef,
    field: &CustomField,
) -> Result<u64> {
    let Some(look) = look_for_values(object, field) else {
        return Ok(0);
    };
    let query = AggregateQuery::count(object, look.condition());
    let groups = work.aggregate(&query).await?;
    Ok(groups.first().map_or(0, |group| group.count(0)))
}

/// What fails of some looks, those of one check together.
pub(crate) async fn failures(work: &UnitOfWork, looks: &[Look]) -> Result<Vec<FailedCheck>> {
    let mut all: Vec<FailedCheck> = Vec::new();
    for look in looks {
        let known = all.iter().position(|failed| failed.check == look.name());
        let mut failed = known.map_or_else(
            || FailedCheck {
                check: look.name(),
                count: 0,
                records: Vec::new(),
            },
            |place| all.swap_remove(place),
        );
        look.run(work, &mut failed).await?;
        all.push(failed);
    }
    all.retain(|failed| failed.count > 0);
    all.sort_by_key(|failed| failed.check);
    Ok(all)
}
