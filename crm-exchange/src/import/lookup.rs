//! References by name, e-mail address or any other field: one query for each column and batch.

use std::collections::HashMap;

use crm_core::Session;
use crm_core::error::Result;
use crm_core::query::{FieldAt, Filter, Find, MAX_LIMIT, fold_case};
use crm_core::schema::{ObjectRef, Row, Value, ValueRef};
use uuid::Uuid;

use super::find::PARTS;
use super::mapping::FULL_NAME;
use super::parse::split_name;
use super::plan::{Plan, Reference};

/// How many texts are remembered for a column before they are forgotten again.
const REMEMBERED: usize = 20_000;
/// How many texts one query asks for.
const ASKED: usize = 500;

/// What is known of the records that columns of references name.
#[derive(Default)]
pub(crate) struct Lookups {
    /// By the column's place, then by the text in the form in which texts are compared.
    known: HashMap<usize, HashMap<String, Vec<Row>>>,
}

impl Lookups {
    /// Finds what the texts of a column name, as far as that is not yet known.
    pub(crate) async fn load(
        &mut self,
        session: &Session,
        plan: &Plan,
        column: usize,
        texts: &[&str],
    ) -> Result<()> {
        let Some(reference) = plan
            .columns
            .get(column)
            .and_then(|column| column.reference())
        else {
            return Ok(());
        };
        let known = self.known.entry(column).or_default();
        if known.len() > REMEMBERED {
            known.clear();
        }
        let mut wanted: Vec<(String, &str)> = Vec::new();
        for text in texts {
            let folded = reference.folded(text);
            if !known.contains_key(&folded) {
                known.insert(folded.clone(), Vec::new());
                wanted.push((folded, text));
            }
        }
        let mut open: Vec<&[(String, &str)]> = wanted.chunks(ASKED).collect();
        while let Some(part) = open.pop() {
            let Some(filter) = reference.filter(part) else {
                continue;
            };
            let mut find = Find::<()>::new().filter_by_name(filter).limit(MAX_LIMIT);
            if reference.lookup.by == "id" {
                find = find.with_archived();
            }
            let records = session.object(reference.object.name()).await?;
            let mut page = records.find(&find).await?;
            // Given and family names are asked for alone, which finds many that have parts of several.
            let is_divided = reference.lookup.by == FULL_NAME && part.len() > 1;
            if page.next.is_some() && is_divided {
                open.extend(part.chunks(part.len().div_ceil(PARTS)));
                continue;
            }
            loop {
                for row in page.items.drain(..) {
                    if let Some(rows) = known.get_mut(&reference.text_of(&row)) {
                        rows.push(row);
                    }
                }
                let Some(next) = page.next else { break };
                page = records.find(&find.clone().after(next)).await?;
            }
        }
        Ok(())
    }

    /// The records that a text names.
    pub(crate) fn rows(&self, column: usize, folded: &str) -> &[Row] {
        let rows = self.known.get(&column).and_then(|known| known.get(folded));
        rows.map_or(&[], Vec::as_slice)
    }

    /// Forgets what was found, after others changed something.
    pub(crate) fn forget(&mut self) {
        self.known.clear();
    }
}

impl Reference {
    /// The text in the form in which texts are compared.
    pub(crate) fn folded(&self, text: &str) -> String {
        let by = self.lookup.by.as_str();
        if by == FULL_NAME {
            let (first, last) = split_name(text);
            return full_name(first.as_deref(), last.as_deref());
        }
        match self.coerced(text) {
            Some(Value::Text(text)) => self.fold(&text),
            Some(Value::Uuid(id)) => id.to_string(),
            Some(Value::Integer(number)) => number.to_string(),
            _ => text.to_owned(),
        }
    }

    fn fold(&self, text: &str) -> String {
        let field = FieldAt::named(&self.object, &self.lookup.by);
        if field.is_ok_and(|(at, _)| at.ignore_case) {
            fold_case(text)
        } else {
            text.to_owned()
        }
    }

    /// The value of the other object's field; `None` where a text can never be one.
    pub(crate) fn coerced(&self, text: &str) -> Option<Value> {
        match FieldAt::named(&self.object, &self.lookup.by) {
            Ok((at, field)) if !at.is_untyped() => field.field_type.coerce(Value::from(text)).ok(),
            // A member of a document.
            _ => Some(Value::from(text)),
        }
    }

    /// The text that names a record.
    pub(crate) fn text_of(&self, row: &Row) -> String {
        let by = self.lookup.by.as_str();
        if by == FULL_NAME {
            let part = |name: &str| row.get(name).as_text().map(ToOwned::to_owned);
            return full_name(part("first_name").as_deref(), part("last_name").as_deref());
        }
        let custom = FieldAt::named(&self.object, by).ok();
        if let Some((at, _)) = custom.filter(|(at, _)| at.custom.is_some()) {
            return at.with(&**row, |value| self.text_in(&value));
        }
        if let Some((name, member)) = by.split_once('.') {
            let ValueRef::Json(json) = row.get(name) else {
                return String::new();
            };
            return match json.get(member) {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
        }
        self.text_in(&row.get(by))
    }

    fn text_in(&self, value: &ValueRef<'_>) -> String {
        match value {
            ValueRef::Text(text) => self.fold(text),
            ValueRef::Uuid(id) => id.to_string(),
            ValueRef::Integer(number) => number.to_string(),
            _ => String::new(),
        }
    }

    fn filter(&self, wanted: &[(String, &str)]) -> Option<Filter> {
        if self.lookup.by == FULL_NAME {
            let names: Vec<_> = wanted.iter().map(|(_, text)| split_name(text)).collect();
            let first = names
                .iter()
                .filter_map(|(first, _)| first.as_deref())
                .map(Value::from);
            let last = names
                .iter()
                .filter_map(|(_, last)| last.as_deref())
                .map(Value::from);
            let (first, last): (Vec<_>, Vec<_>) = (first.collect(), last.collect());
            let mut filters = vec![Filter::In {
                field: "last_name".into(),
                values: last,
            }];
            // Names of one word only have no given name.
            if first.len() == names.len() {
                filters.push(Filter::In {
                    field: "first_name".into(),
                    values: first,
                });
            }
            return Some(Filter::And(filters));
        }
        let values: Vec<Value> = wanted
            .iter()
            .filter_map(|(_, text)| self.coerced(text))
            .collect();
        let field = self.lookup.by.clone().into();
        (!values.is_empty()).then_some(Filter::In { field, values })
    }

    /// Of several records, those that agree with the row in what both objects refer to: a stage of
    /// the row's own pipeline.
    pub(crate) fn narrowed<'r>(
        &self,
        object: &ObjectRef,
        values: &[(usize, Value)],
        rows: &'r [Row],
    ) -> Vec<&'r Row> {
        let agrees = |row: &&Row| {
            self.object.references().iter().all(|index| {
                let name = self.object.field_name(*index);
                let own = object.field_index(name);
                let given = values.iter().rev().find(|(index, _)| Some(*index) == own);
                let wanted = given.and_then(|(_, value)| value.as_ref().as_uuid());
                wanted.is_none() || row.value(*index).as_uuid() == wanted
            })
        };
        rows.iter().filter(agrees).collect()
    }
}

fn full_name(first: Option<&str>, last: Option<&str>) -> String {
    let parts = first
        .into_iter()
        .chain(last)
        .flat_map(str::split_whitespace);
    fold_case(&parts.collect::<Vec<_>>().join(" "))
}

/// What a text of a reference turned out to name.
pub(crate) enum Named {
    One(Uuid),
    Missing,
    Several,
}
