//! Which field of a lead gives which field of the records that it becomes (C-006).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};

use crate::accounts::Account;
use crate::contacts::Contact;
use crate::deals::Deal;
use crate::engine::{Remembered, UnitOfWork, Write, WriteRule};
use crate::error::{Faults, Result, ValidationError, codes};
use crate::leads::Lead;
use crate::merging::units;
use crate::query::locate;
use crate::schema::{
    Entity, FieldSchema, FieldType, ObjectRef, Picklist, Privacy, Registry, Row, StorageKind,
};

/// What a lead becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Picklist)]
pub enum ConversionTarget {
    /// The person.
    Contact,
    /// The company.
    Account,
    /// The sale.
    Deal,
}

impl ConversionTarget {
    pub(super) fn object(self) -> &'static ObjectRef {
        match self {
            Self::Contact => Contact::schema(),
            Self::Account => Account::schema(),
            Self::Deal => Deal::schema(),
        }
    }
}

/// One pair of fields of the tenant's own: when a lead is converted, `source_field` of the lead gives
/// `target_field` of the record that it becomes, instead of what [`FieldMapping::standard`] says. Both
/// may be custom fields.
///
/// A pair without `source_field` leaves the target field alone. Deleted and archived pairs do not
/// count.
///
/// ```
/// # use crm_core::{Session, error::Result};
/// use crm_core::leads::{ConversionTarget, LeadConversionMapping};
/// # async fn example(session: &Session) -> Result<()> {
/// let segment = LeadConversionMapping {
///     source_field: Some("custom_fields.segment".into()),
///     ..LeadConversionMapping::new(ConversionTarget::Account, "custom_fields.customer_segment")
/// };
/// session.records::<LeadConversionMapping>().create(segment).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "lead_conversion_mapping",
    table = "lead_conversion_mappings",
    unique(target, target_field; live)
)]
pub struct LeadConversionMapping {
    /// What the lead becomes.
    #[field(required)]
    pub target: ConversionTarget,
    /// The field of it, such as `job_title` or `custom_fields.segment`.
    #[field(required, max_len = 200)]
    pub target_field: String,
    /// The field of the lead; none to leave the target field alone.
    #[field(max_len = 200)]
    pub source_field: Option<String>,
}

/// Pairs that no two names tell: the company of a lead is the name of its account.
const STATED: [(&str, ConversionTarget, &str); 1] =
    [("company", ConversionTarget::Account, "name")];

/// Which field of a lead gives which field of the records that it becomes.
///
/// ```
/// use crm_core::leads::{ConversionTarget, FieldMapping};
///
/// let standard = FieldMapping::standard();
/// assert_eq!(standard.source(ConversionTarget::Account, "name"), Some("company"));
/// assert_eq!(standard.source(ConversionTarget::Contact, "job_title"), Some("job_title"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldMapping {
    pairs: BTreeMap<(ConversionTarget, String), String>,
}

impl FieldMapping {
    /// What the schemas say: fields of the same name and type, and the lead's company as the name of
    /// the account. What is personal does not become the value of a field that is not, and custom
    /// fields are the tenant's to pair.
    #[must_use]
    pub fn standard() -> Self {
        let lead = Lead::schema();
        let mut pairs = BTreeMap::new();
        for target in ConversionTarget::ALL {
            let object = target.object();
            for (index, field) in object.fields().iter().enumerate() {
                let source = lead.field(&field.name);
                if source.is_some_and(|source| is_same(source, field)) && !object.is_derived(index)
                {
                    let name = field.name.to_string();
                    pairs.insert((*target, name.clone()), name);
                }
            }
        }
        for (source, target, field) in STATED {
            pairs.insert((target, field.to_owned()), source.to_owned());
        }
        Self { pairs }
    }

    /// The same with pairs of the tenant's own.
    #[must_use]
    pub fn with<'a>(mut self, own: impl IntoIterator<Item = &'a LeadConversionMapping>) -> Self {
        for pair in own {
            let key = (pair.target, pair.target_field.clone());
            match &pair.source_field {
                Some(source) => self.pairs.insert(key, source.clone()),
                None => self.pairs.remove(&key),
            };
        }
        self
    }

    /// The field of the lead that gives this one.
    #[must_use]
    pub fn source(&self, target: ConversionTarget, field: &str) -> Option<&str> {
        let key = (target, field.to_owned());
        self.pairs.get(&key).map(String::as_str)
    }

    /// The pairs, as target, its field and the field of the lead.
    pub fn pairs(&self) -> impl Iterator<Item = (ConversionTarget, &str, &str)> {
        let pairs = self.pairs.iter();
        pairs.map(|((target, field), source)| (*target, field.as_str(), source.as_str()))
    }

    /// What a lead, as flat JSON, gives to what it becomes: what is empty is left out.
    pub(super) fn body(
        &self,
        target: ConversionTarget,
        lead: &Map<String, Json>,
    ) -> Map<String, Json> {
        let mut body = Map::new();
        for (_, field, source) in self.pairs().filter(|(of, ..)| *of == target) {
            if let Some(value) = read(lead, source).filter(|value| !is_empty(value)) {
                write(&mut body, field, value.clone());
            }
        }
        body
    }
}

/// Whether a field of the lead gives one of the same name.
fn is_same(source: &FieldSchema, target: &FieldSchema) -> bool {
    let writable = !target.read_only && !target.system;
    let is_document = target.storage_kind() == StorageKind::Json;
    let keeps_private = match source.privacy {
        Privacy::Public => true,
        privacy => privacy == target.privacy,
    };
    writable && !is_document && keeps_private && source.field_type == target.field_type
}

/// A value by the path of its field: a field of the schema, or a member of a JSON field.
fn read<'a>(record: &'a Map<String, Json>, path: &str) -> Option<&'a Json> {
    match record.get(path) {
        Some(value) => Some(value),
        None => {
            let (field, member) = path.split_once('.')?;
            record.get(field)?.get(member)
        }
    }
}

fn write(body: &mut Map<String, Json>, path: &str, value: Json) {
    let Some((field, member)) = path.split_once('.') else {
        body.insert(path.to_owned(), value);
        return;
    };
    let document = body
        .entry(field)
        .or_insert_with(|| Json::Object(Map::new()));
    if let Json::Object(members) = document {
        members.insert(member.to_owned(), value);
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(entries) => entries.is_empty(),
        Json::String(text) => text.is_empty(),
        _ => false,
    }
}

/// What a record takes of what a lead gives it: only what it has not. Fields that belong together,
/// such as those of an address, are taken together where all are empty; a list takes the entries that
/// it lacks, a JSON document the members.
pub(super) fn filling(
    object: &ObjectRef,
    record: &Map<String, Json>,
    body: &Map<String, Json>,
) -> Map<String, Json> {
    let units = units(object);
    let is_free = |index: usize| {
        let unit = units.get(index);
        let members = units.iter().enumerate().filter(|(_, of)| Some(*of) == unit);
        members
            .filter_map(|(place, _)| record.get(object.field_name(place)))
            .all(is_empty)
    };
    let mut taken = Map::new();
    for (name, given) in body {
        let Some(index) = object.field_index(name) else {
            continue;
        };
        let now = record.get(name).unwrap_or(&Json::Null);
        match (given, now) {
            (Json::Object(given), Json::Object(now)) => {
                let lacks = |key: &str| now.get(key).is_none_or(is_empty);
                let members = given.iter().filter(|(key, _)| lacks(key));
                let members: Map<_, _> = members.map(|(k, v)| (k.clone(), v.clone())).collect();
                if !members.is_empty() {
                    taken.insert(name.clone(), Json::Object(members));
                }
            }
            (Json::Array(given), Json::Array(now)) => {
                let new = given.iter().filter(|entry| !now.contains(entry));
                let all: Vec<Json> = now.iter().chain(new).cloned().collect();
                if all.len() > now.len() {
                    taken.insert(name.clone(), Json::Array(all));
                }
            }
            _ if is_free(index) => {
                taken.insert(name.clone(), given.clone());
            }
            _ => {}
        }
    }
    taken
}

/// Where a path leads: the field, and whether to a member of it of which nobody said what it holds.
fn place<'a>(object: &'a ObjectRef, path: &str) -> Option<(usize, &'a FieldSchema, bool)> {
    let (at, field) = locate(object, path).ok()?;
    let is_blank = at.member.as_deref().is_some_and(str::is_empty);
    (!is_blank).then_some((at.index, field, at.is_untyped()))
}

/// The path by which a value stands in a record: a custom field's key behind the document's name,
/// whatever the field is called by now.
fn stored_path(object: &ObjectRef, path: &str) -> String {
    match locate(object, path) {
        Ok((at, _)) if at.custom.is_some() => {
            let key = at.member.as_deref().unwrap_or_default();
            format!("{}.{key}", object.field_name(at.index))
        }
        _ => path.to_owned(),
    }
}

/// Whether values of one type can be values of the other. What does not fit in the single case, such
/// as a text that is too long, is told when a lead is converted.
fn fits(source: &FieldType, target: &FieldType) -> bool {
    use FieldType as T;
    match (source, target) {
        (T::Text { multiline, .. }, T::Text { multiline: may, .. }) => !multiline || *may,
        (T::Picklist { options: from }, T::Picklist { options: to }) => from == to,
        (T::Reference { object: from, .. }, T::Reference { object: to, .. }) => from == to,
        (other, T::Text { .. }) => other.storage_kind() == StorageKind::Text,
        (from, to) => std::mem::discriminant(from) == std::mem::discriminant(to),
    }
}

/// What is wrong with a pair, by the schemas.
fn check_pair(pair: &LeadConversionMapping, registry: &Registry, faults: &mut Faults) {
    let unknown = |object: &ObjectRef| format!("a {} has no such field", object.name());
    let object = &registry.described(pair.target.object());
    let lead = &registry.described(Lead::schema());
    let target = place(object, &pair.target_field);
    match target {
        None => faults.add("target_field", codes::UNKNOWN_FIELD, unknown(object)),
        Some((index, field, _)) if field.system || field.read_only || object.is_derived(index) => {
            let message = "must be a field that users write";
            faults.add("target_field", codes::READ_ONLY, message);
        }
        Some(_) => {}
    }
    let Some(path) = &pair.source_field else {
        return;
    };
    let Some((_, source, source_is_member)) = place(lead, path) else {
        let message = unknown(lead);
        faults.add("source_field", codes::UNKNOWN_FIELD, message);
        return;
    };
    if let Some((_, target, target_is_member)) = target
        && !source_is_member
        && !target_is_member
        && !fits(&source.field_type, &target.field_type)
    {
        let message = "must be of the type of `target_field`";
        faults.add("source_field", codes::WRONG_TYPE, message);
    }
}

/// Pairs of fields fit the schemas; every fault is told at once.
#[derive(Debug)]
pub(crate) struct MappingRules;

#[async_trait]
impl WriteRule for MappingRules {
    fn object(&self) -> &'static str {
        "lead_conversion_mapping"
    }

    async fn before_write(&self, work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        if write.deletes() {
            return Ok(());
        }
        if let Some(pair) = write.after::<LeadConversionMapping>().cloned() {
            let mut faults = Faults::default();
            check_pair(&pair, &*work.registry().await?, &mut faults);
            // A text that is none, such as a blank one, is told as that.
            let schema = LeadConversionMapping::schema();
            let row: Row = Arc::new(pair);
            for fault in faults
                .into_result()
                .map_or_else(ValidationError::into_errors, |()| Vec::new())
            {
                let field = schema.field(&fault.path);
                if field.is_none_or(|field| field.check(&row.get(&fault.path)).is_ok()) {
                    write.faults().push(fault);
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Remembered for FieldMapping {
    const OBJECTS: &'static [&'static str] = &["lead_conversion_mapping"];

    async fn load(work: &UnitOfWork) -> Result<Self> {
        let in_use = LeadConversionMapping::ARCHIVED_AT.is_null();
        let own = work.find_all(in_use, Vec::new()).await?;
        let registry = work.registry().await?;
        let lead = registry.described(Lead::schema());
        let pairs: Vec<LeadConversionMapping> = own
            .iter()
            .map(|pair| {
                let target = registry.described(pair.target.object());
                LeadConversionMapping {
                    target_field: stored_path(&target, &pair.target_field),
                    source_field: pair
                        .source_field
                        .as_ref()
                        .map(|path| stored_path(&lead, path)),
                    ..pair.data.clone()
                }
            })
            .collect();
        Ok(Self::standard().with(&pairs))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(json: Json) -> Map<String, Json> {
        json.as_object().unwrap().clone()
    }

    #[test]
    fn the_standard_follows_the_schemas() {
        use ConversionTarget::{Account, Contact, Deal};
        let standard = FieldMapping::standard();
        for (target, field, source) in [
            (Contact, "first_name", Some("first_name")),
            (Contact, "email", Some("email")),
            (Contact, "mailing_city", Some("mailing_city")),
            (Contact, "description", Some("description")),
            (Contact, "tags", Some("tags")),
            (Contact, "lead_score", None),
            (Contact, "status", None),
            (Contact, "custom_fields", None),
            (Account, "name", Some("company")),
            (Account, "industry", Some("industry")),
            (Account, "annual_revenue", Some("annual_revenue")),
            // Notes on a person do not become notes that anybody may see.
            (Account, "description", None),
            (Deal, "lead_source", Some("lead_source")),
            (Deal, "description", None),
        ] {
            assert_eq!(standard.source(target, field), source, "{target} {field}");
        }
    }

    #[test]
    fn every_fault_of_a_pair_is_told() {
        let codes = |source: Option<&str>, target: ConversionTarget, field: &str| {
            let pair = LeadConversionMapping {
                source_field: source.map(str::to_owned),
                ..LeadConversionMapping::new(target, field)
            };
            let mut faults = Faults::default();
            check_pair(&pair, &Registry::default(), &mut faults);
            let errors = faults.into_result().err().map(|error| error.into_errors());
            let errors = errors.unwrap_or_default().into_iter();
            errors
                .map(|error| (error.path, error.code))
                .collect::<Vec<_>>()
        };
        let at = |path: &str, code| (path.to_owned(), code);
        use ConversionTarget::{Account, Contact};
        assert_eq!(codes(Some("grade"), Contact, "department"), []);
        assert_eq!(codes(None, Contact, "description"), []);
        assert_eq!(
            codes(Some("custom_fields.a"), Account, "custom_fields.b"),
            []
        );
        assert_eq!(codes(Some("custom_fields.a"), Account, "sub_industry"), []);
        assert_eq!(codes(Some("rating"), Contact, "department"), []);
        assert_eq!(
            codes(Some("nothing"), Contact, "nowhere"),
            [
                at("target_field", codes::UNKNOWN_FIELD),
                at("source_field", codes::UNKNOWN_FIELD)
            ]
        );
        assert_eq!(
            codes(Some("lead_score"), Contact, "lead_score"),
            [at("target_field", codes::READ_ONLY)]
        );
        assert_eq!(
            codes(Some("tags"), Account, "industry"),
            [at("source_field", codes::WRONG_TYPE)]
        );
        assert_eq!(
            codes(Some("description"), Account, "industry"),
            [at("source_field", codes::WRONG_TYPE)]
        );
    }

    #[test]
    fn a_record_takes_only_what_it_lacks() {
        let account = Account::schema();
        let record = object(json!({
            "industry": "Power",
            "sub_industry": null,
            "billing_city": "Bern",
            "billing_street": null,
            "tags": ["a"],
            "custom_fields": {"x": 1, "y": null},
        }));
        let body = object(json!({
            "industry": "Toys",
            "sub_industry": "Bears",
            "billing_street": "Main Street",
            "tags": ["a", "b"],
            "custom_fields": {"x": 2, "y": 3, "z": 4},
        }));
        let taken = filling(account, &record, &body);
        let wanted = object(json!({
            "sub_industry": "Bears",
            "tags": ["a", "b"],
            "custom_fields": {"y": 3, "z": 4},
        }));
        assert_eq!(taken, wanted);
    }

    proptest! {
        /// What is filled once is not filled again.
        #[test]
        fn filling_twice_changes_nothing(
            now in proptest::option::of("[a-c]{1,3}"),
            given in "[a-c]{1,3}",
            tags in proptest::collection::vec("[a-c]", 0..4),
        ) {
            let object = Contact::schema();
            let mut record = Map::new();
            record.insert("job_title".into(), json!(now));
            record.insert("tags".into(), json!([]));
            let mut body = Map::new();
            body.insert("job_title".into(), json!(given));
            body.insert("tags".into(), json!(tags));
            let taken = filling(object, &record, &body);
            prop_assert_eq!(taken.contains_key("job_title"), now.is_none());
            record.extend(taken);
            let again = filling(object, &record, &body);
            prop_assert!(!again.contains_key("job_title"));
        }
    }
}
