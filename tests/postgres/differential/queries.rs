//! Random filters, sorts and aggregates, and what both storages read by them.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use crm_engine::query::{
    AggregateQuery, CalendarUnit, Comparison, Condition, Filter, Grouping, ListMatch, Measure,
    Query, QueryError, SortKey, TextMatch, TreePart,
};
use crm_engine::schema::{FieldSchema, FieldType, ObjectRef, StorageKind, Value};
use crm_engine::storage::{Scope, Storage as _, StorageError};
use crm_engine::value::TimeZone;
use rust_decimal::Decimal;
use serde_json::Value as Json;

use super::compare::{explain, same_answers, same_groups, same_rows, show_query};
use super::values::{Random, key, number, text, value};
use super::world::{Difference, World};

impl World {
    /// A value to compare a field with: mostly one that a row has, or one beside it.
    fn operand(&mut self, tenant: usize, object: &ObjectRef, index: usize) -> Value {
        let field = object.fields()[index].clone();
        if self.random.below(3) > 0
            && let Some(row) = self.some_row(tenant, object)
        {
            let value = row.value(index).into_owned();
            return match value {
                Value::Integer(number) if self.random.one_in(4) => {
                    Value::Decimal(Decimal::from(number) + Decimal::new(5, 1))
                }
                Value::Integer(number) if self.random.one_in(4) => {
                    Value::Integer(number.wrapping_add(1))
                }
                Value::Decimal(number) if self.random.one_in(4) => {
                    Value::Decimal(number.checked_add(Decimal::new(1, 9)).unwrap_or(number))
                }
                Value::Text(text) if self.random.one_in(3) => {
                    Value::Text(match self.random.below(3) {
                        0 => text.to_uppercase(),
                        1 => text.to_lowercase(),
                        _ => format!("{text}\0"),
                    })
                }
                Value::Timestamp(at) if self.random.one_in(4) => {
                    Value::Timestamp(at + TimeDelta::nanoseconds(1))
                }
                value => value,
            };
        }
        match self.random.below(12) {
            0 => Value::Null,
            1 => Value::Decimal(Decimal::MAX),
            2 => Value::Date(self.random.of(&[NaiveDate::MIN, NaiveDate::MAX])),
            3 => Value::Timestamp(
                self.random
                    .of(&[DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC]),
            ),
            _ => value(&mut self.random, &field.field_type),
        }
    }

    /// A scalar to compare a document's member with.
    fn member(&mut self, tenant: usize, object: &ObjectRef, index: usize) -> (String, Value) {
        let document = self
            .some_row(tenant, object)
            .map(|row| row.value(index).to_json());
        if let Some(Json::Object(members)) = document
            && !members.is_empty()
        {
            let members: Vec<_> = members.into_iter().collect();
            let (name, member) = self.random.pick(&members).cloned().unwrap();
            if !self.random.one_in(3) {
                return (name, Value::from_json(member));
            }
            return (name, Value::from_json(document_scalar(&mut self.random)));
        }
        (
            key(&mut self.random),
            Value::from_json(document_scalar(&mut self.random)),
        )
    }

    /// A condition over the records that lead to one by some reference.
    fn any(&mut self, tenant: usize, object: &ObjectRef) -> Option<Filter> {
        let references = self.registry.referring_to(object.name());
        let (from, index, _) = self.random.pick(&references).cloned()?;
        Some(Filter::Any {
            object: from.name().to_owned().into(),
            by: from.fields()[index].name.clone(),
            filter: Box::new(if self.random.one_in(4) {
                Filter::all()
            } else {
                self.filter(tenant, &from, 1)
            }),
        })
    }

    fn leaf(&mut self, tenant: usize, object: &ObjectRef) -> Filter {
        if self.random.one_in(10)
            && let Some(filter) = self.any(tenant, object)
        {
            return filter;
        }
        let index = self.random.below(object.fields().len());
        let field = object.fields()[index].clone();
        let kind = field.storage_kind();
        let (name, value) = if kind == StorageKind::Json {
            let (member, value) = self.member(tenant, object, index);
            (format!("{}.{member}", field.name), value)
        } else {
            (field.name.to_string(), self.operand(tenant, object, index))
        };
        let name: std::borrow::Cow<'static, str> = name.into();
        let another = |world: &mut Self| match kind {
            StorageKind::Json => world.member(tenant, object, index).1,
            _ => world.operand(tenant, object, index),
        };
        if (field.reference().is_some() || field.name == "id") && self.random.one_in(3) {
            let filter = self.in_tree(tenant, object, &field);
            if Condition::bind(&filter, object, &self.registry).is_ok() {
                return filter;
            }
        }
        match self.random.below(12) {
            0 => Filter::Null {
                field: if self.random.one_in(4) {
                    field.name
                } else {
                    name
                },
                is_null: self.random.one_in(2),
            },
            1 => Filter::In {
                field: name,
                values: (0..self.random.below(5)).map(|_| another(self)).collect(),
            },
            2 => Filter::Between {
                field: name,
                from: value,
                to: another(self),
            },
            3 | 4 if matches!(kind, StorageKind::Text | StorageKind::Json) => {
                let op = self
                    .random
                    .of(&[TextMatch::StartsWith, TextMatch::Contains]);
                let text = value.as_ref().as_text().unwrap_or("a").to_owned();
                let letters: Vec<char> = text.chars().collect();
                let from = if op == TextMatch::Contains {
                    self.random.below(letters.len() + 1)
                } else {
                    0
                };
                let length = self.random.below(4);
                let part: String = letters.iter().skip(from).take(length).collect();
                let text = match self.random.below(4) {
                    0 => part.to_uppercase(),
                    1 => part.to_lowercase(),
                    2 => self::text(&mut self.random, 2),
                    _ => part,
                };
                Filter::Text {
                    field: name,
                    op,
                    text,
                }
            }
            _ if kind == StorageKind::List => {
                let mut values = match another(self) {
                    Value::List(entries) => entries,
                    _ => Vec::new(),
                };
                let keep = self.random.below(4);
                values.truncate(keep);
                if self.random.one_in(4) {
                    values.push(text(&mut self.random, 3));
                }
                let op = self.random.of(&[ListMatch::Any, ListMatch::All]);
                Filter::List {
                    field: name,
                    op,
                    values,
                }
            }
            5 | 6 if field.reference().is_some() => {
                let target = field
                    .reference()
                    .and_then(|(target, _)| self.registry.object(target));
                let filter = match target {
                    Some(target) => self.filter(tenant, &target, 1),
                    None => Filter::all(),
                };
                Filter::Has {
                    field: name,
                    filter: Box::new(filter),
                }
            }
            _ => {
                use Comparison::{Eq, Ge, Gt, Le, Lt, Ne};
                let op = self.random.of(&[Eq, Ne, Lt, Le, Gt, Ge]);
                Filter::Compare {
                    field: name,
                    op,
                    value,
                }
            }
        }
    }

    /// A part of the tree that the field leads into, seen from some record of either tenant.
    fn in_tree(&mut self, tenant: usize, object: &ObjectRef, field: &FieldSchema) -> Filter {
        let target = match field.reference() {
            Some((target, _)) => self.registry.object(target),
            None => Some(object.clone()),
        };
        let from = if self.random.one_in(8) {
            1 - tenant
        } else {
            tenant
        };
        let of = match target.and_then(|target| self.some_row(from, &target)) {
            Some(row) if !self.random.one_in(8) => row.id(),
            _ => self.new_id(),
        };
        Filter::InTree {
            field: field.name.clone(),
            part: self.random.of(&[TreePart::Within, TreePart::PathTo]),
            of,
            by: None,
        }
    }

    fn filter(&mut self, tenant: usize, object: &ObjectRef, depth: usize) -> Filter {
        let several = |world: &mut Self| -> Vec<Filter> {
            (0..world.random.below(4))
                .map(|_| world.filter(tenant, object, depth - 1))
                .collect()
        };
        match self.random.below(if depth == 0 { 4 } else { 8 }) {
            4 => Filter::And(several(self)),
            5 => Filter::Or(several(self)),
            6 => Filter::Not(Box::new(self.filter(tenant, object, depth - 1))),
            _ => loop {
                let leaf = self.leaf(tenant, object);
                if Condition::bind(&leaf, object, &self.registry).is_ok() {
                    return leaf;
                }
            },
        }
    }

    pub(crate) fn condition(&mut self, tenant: usize, object: &ObjectRef) -> Condition {
        if self.random.one_in(5) {
            return Condition::all();
        }
        let filter = self.filter(tenant, object, 3);
        Condition::bind(&filter, object, &self.registry).unwrap_or(Condition::all())
    }

    pub(crate) fn sort(&mut self, object: &ObjectRef) -> Vec<SortKey> {
        let sortable: Vec<usize> = (0..object.fields().len())
            .filter(|index| object.fields()[*index].is_sortable())
            .collect();
        (0..self.random.below(4))
            .map(|_| SortKey {
                index: self.random.of(&sortable),
                descending: self.random.one_in(2),
            })
            .collect()
    }

    /// Whose rows are read: now and then those of the platform, of both tenants.
    fn reading(&mut self, object: &ObjectRef, condition: Condition) -> (Scope, Condition) {
        if !self.random.one_in(20) {
            let tenant = self.random.below(2);
            return (self.scope(tenant), condition);
        }
        // Other runs have tenants of their own in the same database.
        let ours = self.tenants.map(Value::Uuid).to_vec();
        let ours = Filter::In {
            field: "id".into(),
            values: ours,
        };
        let ours = Condition::bind(&ours, object, &self.registry).unwrap();
        (Scope::Platform, ours.and(condition))
    }

    pub(crate) async fn get(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let (scope, _) = self.reading(&object, Condition::all());
        let mut ids = Vec::new();
        for _ in 0..self.random.of(&[0, 1, 1, 2, 5, 30]) {
            let from = if self.random.one_in(6) {
                1 - tenant
            } else {
                tenant
            };
            ids.push(match self.some_row(from, &object) {
                Some(row) if !self.random.one_in(6) => row.id(),
                _ => self.new_id(),
            });
        }
        let memory = self.memory.get(&scope, &object, &ids).await;
        let postgres = self.postgres.get(&scope, &object, &ids).await;
        same_answers(&memory, &postgres, same_rows).map_err(|difference| {
            format!("{difference}\n{scope:?} gets `{}` {ids:?}", object.name())
        })?;
        self.count("get");
        Ok(())
    }

    /// Goes through all pages of a query.
    pub(crate) async fn walk(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let condition = self.condition(tenant, &object);
        let (scope, condition) = self.reading(&object, condition);
        let sort = self.sort(&object);
        let limit = self.random.of(&[0, 1, 2, 3, 7, 20, usize::MAX]);
        let mut query = Query::new(&object, condition).sort(sort).limit(limit);
        if self.random.one_in(6) {
            let keys = query.sort.clone();
            let mut position = |key: &SortKey| loop {
                // As a cursor gives it: of the field's own kind, or none.
                let value = self.operand(tenant, &object, key.index);
                if let Ok(value) = object.fields()[key.index].field_type.coerce(value) {
                    return value;
                }
            };
            query.after = Some(keys.iter().map(&mut position).collect());
        }
        let mut pages = 0;
        loop {
            let memory = self.memory.select(&scope, &query).await;
            let postgres = self.postgres.select(&scope, &query).await;
            let rows = same_answers(&memory, &postgres, same_rows)
                .map_err(|difference| {
                    format!("{difference}\n{scope:?} selects {}", show_query(&query))
                })?
                .cloned()
                .unwrap_or_default();
            pages += 1;
            self.count(if rows.is_empty() {
                "page: empty"
            } else {
                "page"
            });
            let Some(last) = rows.last().filter(|_| rows.len() == limit && pages < 40) else {
                break;
            };
            query.after = Some(
                query
                    .sort
                    .iter()
                    .map(|key| last.value(key.index).into_owned())
                    .collect(),
            );
        }
        self.count("walk");
        Ok(())
    }

    pub(crate) async fn aggregate(&mut self) -> Result<(), Difference> {
        let tenant = self.random.below(2);
        let object = self.some_object();
        let fields = object.fields();
        let of = |is: fn(&FieldSchema) -> bool| -> Vec<usize> {
            (0..fields.len())
                .filter(|index| is(&fields[*index]))
                .collect()
        };
        let numbers = of(|field| {
            matches!(
                field.storage_kind(),
                StorageKind::Integer | StorageKind::Decimal
            )
        });
        let sortable = of(FieldSchema::is_sortable);
        let days = of(|field| {
            matches!(
                field.storage_kind(),
                StorageKind::Date | StorageKind::Timestamp
            )
        });
        let lists = of(|field| field.storage_kind() == StorageKind::List);
        let mut condition = self.condition(tenant, &object);
        let mut groups = Vec::new();
        for _ in 0..self.random.below(3) {
            if !lists.is_empty() && self.random.one_in(5) {
                groups.push(Grouping::Entry(self.random.of(&lists)));
                continue;
            }
            if self.random.one_in(2) {
                groups.push(Grouping::Field(self.random.of(&sortable)));
                continue;
            }
            let index = self.random.of(&days);
            use CalendarUnit::{Day, Month, Quarter, Week, Year};
            let zones = [
                "UTC",
                "Europe/Prague",
                "America/New_York",
                "Asia/Kolkata",
                "Pacific/Apia",
                "Australia/Lord_Howe",
                "America/St_Johns",
                "CET",
                "EST",
                "Pacific/Kiritimati",
            ];
            let time_zone: TimeZone = self.random.of(&zones).parse().unwrap();
            groups.push(Grouping::Calendar {
                index,
                unit: self.random.of(&[Day, Week, Month, Quarter, Year]),
                time_zone,
            });
            if time_zone != TimeZone::UTC && fields[index].storage_kind() == StorageKind::Timestamp
            {
                // The years for which the two time zone databases agree.
                let known = Filter::Between {
                    field: fields[index].name.clone(),
                    from: "1970-01-03T00:00:00Z".into(),
                    to: "2099-12-29T00:00:00Z".into(),
                };
                let known = Condition::bind(&known, &object, &self.registry).unwrap();
                condition = known.and(condition);
            }
        }
        // Of these the products have no more digits than a decimal holds.
        let amounts = of(|field| match field.field_type {
            FieldType::Decimal { precision, .. } => precision <= 19,
            _ => field.storage_kind() == StorageKind::Integer,
        });
        let percents =
            of(|field| matches!(field.field_type, FieldType::Percent | FieldType::Score));
        let measures = (0..self.random.below(5))
            .map(|_| match self.random.below(6) {
                0 => Measure::Count,
                1 => Measure::Sum(self.random.of(&numbers)),
                2 => Measure::Average(self.random.of(&numbers)),
                3 => Measure::Min(self.random.of(&sortable)),
                4 => Measure::Max(self.random.of(&sortable)),
                _ if percents.is_empty() => Measure::Count,
                _ => Measure::WeightedSum {
                    amount: self.random.of(&amounts),
                    percent: self.random.of(&percents),
                },
            })
            .collect();
        let (scope, condition) = self.reading(&object, condition);
        let mut query = AggregateQuery::count(&object, condition);
        (query.groups, query.measures) = (groups, measures);
        let memory = self.memory.aggregate(&scope, &query).await;
        let postgres = self.postgres.aggregate(&scope, &query).await;
        if let Err(StorageError::Query(QueryError::Overflow { .. })) = &memory {
            // The one adds row by row and gives up on the way; the other need not, or names another
            // of several sums.
            match &postgres {
                Ok(_) | Err(StorageError::Query(QueryError::Overflow { .. })) => {}
                Err(other) => return Err(format!("overflow, {}\n{query:?}", explain(other))),
            }
            self.count("aggregate: overflow");
            return Ok(());
        }
        let groups = same_answers(&memory, &postgres, same_groups)
            .map_err(|difference| format!("{difference}\n{scope:?} aggregates {query:?}"))?
            .map_or(0, |groups| groups.len());
        self.count(if groups > 1 {
            "aggregate: groups"
        } else {
            "aggregate: one"
        });
        Ok(())
    }
}

fn document_scalar(random: &mut Random) -> Json {
    match random.below(4) {
        0 => Json::Bool(random.one_in(2)),
        1 => text(random, 12).into(),
        _ => number(random),
    }
}
