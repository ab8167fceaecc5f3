//! [`CompiledFields`]: the definitions of one object, compiled into a validator.

mod value;

use std::borrow::Cow;

use crm_core::Id;
use crm_core::error::{Faults, FieldError, ValidationError, codes};
use crm_core::schema::{AnyRecord, CUSTOM_FIELDS, CheckCustomFields, CustomWrite, ValueRef};
use crm_core::value::TextValue as _;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json};

use self::value::{Form, ValueCheck};
pub(crate) use self::value::{depth_exceeds, document_fault};
use crate::{CustomField, CustomFieldOption, CustomFieldType, json_schema};

/// The code of a value for a field that is no longer in use.
const INACTIVE: &str = "inactive_field";

/// A definition with its id and, where it is a picklist, its options in their order.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The id of the definition.
    pub id: Id<CustomField>,
    /// The definition.
    pub field: CustomField,
    /// The options of a picklist.
    pub options: Vec<CustomFieldOption>,
}

/// Who writes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A caller, who does not write computed values.
    Caller,
    /// The engine, which does.
    Engine,
}

/// What became of a document.
#[derive(Debug)]
pub struct Checked<'a> {
    /// The document in its stored form: values by the keys of their fields, each in the one form of
    /// its type, without empty ones, and with the defaults of a new record. Borrowed where it is the
    /// one that was given.
    pub document: Cow<'a, Json>,
    /// Everything that is wrong with it, each fault at `custom_fields.<api name>`.
    pub faults: Faults,
}

/// The custom fields of one object, compiled once for a version of the definitions.
///
/// [`check`](Self::check) brings a document of values into its stored form and tells every fault at
/// once. It is a plain function: it never panics, takes time linear in the document, and what it
/// gives is a fixed point: checked again, it stays as it is.
///
/// An object without definitions takes any document as it is.
///
/// ```
/// use crm_core::Id;
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{
///     CompiledFields, CustomField, CustomFieldType, DecimalLimits, Definition, Writer,
/// };
/// use serde_json::json;
///
/// let (deal, name) = (ApiName::parse("deal")?, ApiName::parse("margin")?);
/// let margin = CustomFieldType::Percent(DecimalLimits::default());
/// let definition = Definition {
///     id: Id::new("01932c07-209c-7a4b-8000-000000000001".parse()?),
///     field: CustomField::new(deal, name, "Margin", margin),
///     options: Vec::new(),
/// };
/// let fields = CompiledFields::new(&[definition]).expect("a sound definition");
///
/// let given = json!({"margin": 12.50});
/// let checked = fields.check(&given, None, Writer::Caller);
/// assert!(checked.faults.is_empty());
/// assert_eq!(*checked.document, json!({"margin": "12.5"}));
///
/// let given = json!({"margin": 101, "marign": 3});
/// let faults = fields.check(&given, None, Writer::Caller).faults;
/// assert!(faults.has("custom_fields.margin") && faults.has("custom_fields.marign"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct CompiledFields {
    /// In the order of their keys, which is that of the members of a document.
    fields: Vec<CompiledField>,
    /// Where the field of a name is: keys, API names and former ones.
    names: FxHashMap<Box<str>, usize>,
    /// How many fields a record always has.
    required: usize,
    has_defaults: bool,
    has_computed: bool,
    /// The fields whose options depend on another, and on which.
    dependent: Vec<(usize, usize)>,
    json_schema: Json,
}

#[derive(Debug)]
struct CompiledField {
    key: Box<str>,
    /// `custom_fields.<api name>`.
    path: Box<str>,
    check: ValueCheck,
    is_required: bool,
    is_computed: bool,
    is_active: bool,
    /// In its stored form.
    default: Option<Json>,
}

/// Checks the default value of a field without options.
///
/// # Errors
/// The first fault of the value.
pub(crate) fn check_default(field: &CustomField, default: &Json) -> Result<(), FieldError> {
    if default.is_null() {
        return Ok(());
    }
    let check = ValueCheck::new(&field.field_type, &[])?;
    let (_, faults) = check.take(default, None);
    faults.into_iter().next().map_or(Ok(()), Err)
}

impl CompiledField {
    fn new(definition: &Definition) -> Result<Self, FieldError> {
        let field = &definition.field;
        let check = ValueCheck::new(&field.field_type, &definition.options)?;
        let chosen = |option: &&CustomFieldOption| option.is_default && option.is_active;
        let mut chosen = definition.options.iter().filter(chosen);
        let default = match &field.field_type {
            CustomFieldType::Picklist => chosen.next().map(|option| Json::from(&*option.value)),
            CustomFieldType::Multipicklist => {
                let chosen: Vec<Json> = chosen.map(|option| Json::from(&*option.value)).collect();
                (!chosen.is_empty()).then_some(Json::Array(chosen))
            }
            other if other.is_computed() => None,
            _ => field.default_value.clone().filter(|value| !value.is_null()),
        };
        let default = match default {
            None => None,
            Some(default) => match check.take(&default, None) {
                (_, faults) if !faults.is_empty() => {
                    let fault = faults.into_iter().next();
                    return Err(FieldError {
                        path: "default_value".to_owned(),
                        ..fault.unwrap_or_else(|| FieldError::new("", codes::INCONSISTENT, ""))
                    });
                }
                (Form::Same, _) => Some(default),
                (Form::Absent, _) => None,
                (Form::Other(normal), _) => Some(normal),
            },
        };
        let is_part = matches!(field.field_type, CustomFieldType::MasterDetail { .. });
        let is_computed = field.field_type.is_computed();
        Ok(Self {
            key: field.document_key().into(),
            path: format!("{CUSTOM_FIELDS}.{}", field.api_name).into(),
            check,
            is_required: (field.is_required || is_part) && field.is_active && !is_computed,
            is_computed,
            is_active: field.is_active,
            default: default.filter(|_| field.is_active),
        })
    }

    fn fault(&self, faults: &mut Faults, code: &'static str, message: &'static str) {
        faults.add(&*self.path, code, message);
    }
}

impl CompiledFields {
    /// Compiles the definitions of one object.
    ///
    /// # Errors
    /// What is wrong with definitions, at `<api name>.<field of the definition>`: a pattern or a JSON
    /// Schema that cannot be used, a default that the type does not take, a name of two fields.
    pub fn new(definitions: &[Definition]) -> Result<Self, Vec<FieldError>> {
        let mut order: Vec<&Definition> = definitions.iter().collect();
        order.sort_by(|a, b| a.field.document_key().cmp(b.field.document_key()));
        let mut faults = Vec::new();
        let mut compiled = Self::default();
        for definition in &order {
            let name = definition.field.api_name.as_str();
            let at = |fault: FieldError| FieldError {
                path: format!("{name}.{}", fault.path),
                ..fault
            };
            match CompiledField::new(definition) {
                Ok(field) => compiled.fields.push(field),
                Err(fault) => faults.push(at(fault)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut places = FxHashMap::default();
        for (index, definition) in order.iter().enumerate() {
            let field = &definition.field;
            places.insert(definition.id, index);
            let names = std::iter::once(field.api_name.as_str()).chain(field.aliases());
            for name in names {
                let known = compiled.names.insert(name.into(), index);
                if known.is_some_and(|known| known != index) {
                    faults.push(FieldError::new(
                        format!("{}.api_name", field.api_name),
                        codes::INCONSISTENT,
                        "another field has or had this name",
                    ));
                }
            }
        }
        for (index, definition) in order.iter().enumerate() {
            let controlling = definition.field.controlling_field_id;
            let place = controlling.and_then(|id| places.get(&id).copied());
            let place = place.filter(|place| {
                let controlling = compiled.fields.get(*place);
                *place != index && controlling.is_some_and(|field| field.is_active)
            });
            if let Some(place) = place
                && definition.field.field_type.has_options()
            {
                compiled.dependent.push((index, place));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let fields = &compiled.fields;
        compiled.required = fields.iter().filter(|field| field.is_required).count();
        compiled.has_defaults = fields.iter().any(|field| field.default.is_some());
        compiled.has_computed = fields.iter().any(|field| field.is_computed);
        let has_default = |index: usize| {
            let field = fields.get(index);
            field.is_some_and(|field| field.default.is_some())
        };
        compiled.json_schema = json_schema::of_object(&order, &compiled.dependent, has_default);
        Ok(compiled)
    }

    /// Whether the object has no definitions: then it takes any document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The document of a new record, as JSON Schema (draft 2020-12): it fits exactly those documents,
    /// in their [normal form](Self::normal_form), that [`check`](Self::check) accepts.
    ///
    /// What JSON Schema cannot say stands in two keywords and three formats whose names begin with
    /// `crm`: the limits of decimal numbers, which are texts (`crmDecimal`), the size of documents
    /// (`crmDocument`), and what makes an e-mail address, a telephone number or an address of the web
    /// (`crm-email`, `crm-phone`, `crm-url`). [`json_schema_options`](crate::json_schema_options) knows
    /// them; validators that do not, pass over them and so accept more.
    #[must_use]
    pub const fn json_schema(&self) -> &Json {
        &self.json_schema
    }

    /// Checks the values of a record, and brings them into their stored form. `before` is the
    /// document that the record has, unless it is new: what is as it was stays, even where the
    /// definitions would no longer take it, as an option that is not active any more (R-069).
    #[must_use]
    pub fn check<'a>(&self, after: &'a Json, before: Option<&Json>, writer: Writer) -> Checked<'a> {
        let mut faults = Faults::default();
        let document = self.run(after, before, writer, true, &mut faults);
        Checked { document, faults }
    }

    /// The document with its values by the keys of their fields and each in the one form of its type,
    /// as far as it has one; empty values are left out. Nothing is checked, no default is added.
    #[must_use]
    pub fn normal_form<'a>(&self, document: &'a Json) -> Cow<'a, Json> {
        self.run(
            document,
            None,
            Writer::Caller,
            false,
            &mut Faults::default(),
        )
    }

    fn run<'a>(
        &self,
        after: &'a Json,
        before: Option<&Json>,
        writer: Writer,
        completes: bool,
        faults: &mut Faults,
    ) -> Cow<'a, Json> {
        if self.fields.is_empty() {
            return Cow::Borrowed(after);
        }
        let empty;
        let members = match after {
            Json::Object(members) => members,
            Json::Null => {
                empty = Map::new();
                &empty
            }
            _ => {
                faults.add(CUSTOM_FIELDS, codes::WRONG_TYPE, "must be a JSON object");
                return Cow::Borrowed(after);
            }
        };
        let old = before.and_then(Json::as_object);
        // The document as it becomes, once it differs from the one given.
        let mut changed = after.is_null().then(Map::new);
        let mut filled = 0;
        let mut next = 0;
        for (name, value) in members {
            let expected = self.fields.get(next).filter(|field| *field.key == **name);
            let place = match expected {
                Some(_) => Some(next),
                None => self.names.get(name.as_str()).copied(),
            };
            let Some((place, field)) =
                place.and_then(|place| Some((place, self.fields.get(place)?)))
            else {
                let was = old.and_then(|old| old.get(name));
                if was == Some(value) {
                    continue;
                }
                if value.is_null() {
                    changed.get_or_insert_with(|| members.clone()).remove(name);
                } else {
                    let message = "the object has no such custom field";
                    faults.add(
                        format!("{CUSTOM_FIELDS}.{name}"),
                        codes::UNKNOWN_FIELD,
                        message,
                    );
                }
                continue;
            };
            next = place + 1;
            let is_key = *field.key == **name;
            let has = |members: &Map<String, Json>| {
                members
                    .get(&*field.key)
                    .is_some_and(|value| !value.is_null())
            };
            if is_key && value.is_null() && changed.as_ref().is_some_and(has) {
                // It was given under another name.
                continue;
            }
            if !is_key {
                let document = changed.get_or_insert_with(|| members.clone());
                if value.is_null() && document.contains_key(&*field.key) {
                    document.remove(name);
                    continue;
                }
                if has(members) || has(document) {
                    field.fault(faults, codes::INCONSISTENT, "give the value under one name");
                    continue;
                }
                if let Some(value) = document.remove(name) {
                    document.insert(field.key.to_string(), value);
                }
            }
            let was = old.and_then(|old| old.get(&*field.key));
            if was == Some(value) {
                filled += usize::from(field.is_required && !value.is_null());
                continue;
            }
            let (form, found) = if value.is_null() {
                (Form::Absent, Vec::new())
            } else {
                field.check.take(value, was)
            };
            let is_same = match &form {
                Form::Same => false,
                Form::Absent => was.is_none_or(Json::is_null),
                Form::Other(normal) => was == Some(normal),
            };
            match form {
                Form::Same => filled += usize::from(field.is_required),
                Form::Absent => {
                    let document = changed.get_or_insert_with(|| members.clone());
                    document.remove(&*field.key);
                }
                Form::Other(normal) => {
                    filled += usize::from(field.is_required);
                    let document = changed.get_or_insert_with(|| members.clone());
                    document.insert(field.key.to_string(), normal);
                }
            }
            if is_same {
                continue;
            }
            if field.is_computed && writer == Writer::Caller {
                field.fault(
                    faults,
                    codes::READ_ONLY,
                    "only the engine writes this field",
                );
            } else if !field.is_active {
                // Its value may be taken away, though.
                if !value.is_null() {
                    field.fault(faults, INACTIVE, "the field is no longer in use");
                }
            } else {
                for fault in found {
                    faults.push(FieldError {
                        path: format!("{}{}", field.path, fault.path),
                        ..fault
                    });
                }
            }
        }
        if completes {
            self.complete(members, old, before.is_none(), writer, &mut changed);
            let document = changed.as_ref().unwrap_or(members);
            if filled < self.required {
                self.check_required(document, old, before.is_none(), faults);
            }
            for (place, controlling) in &self.dependent {
                self.check_dependent(*place, *controlling, document, old, faults);
            }
        }
        changed.map_or(Cow::Borrowed(after), |document| {
            Cow::Owned(Json::Object(document))
        })
    }

    /// A new record starts with the defaults; computed values that a caller left out stay.
    fn complete(
        &self,
        members: &Map<String, Json>,
        old: Option<&Map<String, Json>>,
        is_new: bool,
        writer: Writer,
        changed: &mut Option<Map<String, Json>>,
    ) {
        if is_new && self.has_defaults {
            for field in &self.fields {
                let Some(default) = &field.default else {
                    continue;
                };
                let document = changed.as_ref().unwrap_or(members);
                if document.contains_key(&*field.key) {
                    continue;
                }
                let document = changed.get_or_insert_with(|| members.clone());
                document.insert(field.key.to_string(), default.clone());
            }
        }
        if let Some(old) = old.filter(|_| self.has_computed && writer == Writer::Caller) {
            for field in self.fields.iter().filter(|field| field.is_computed) {
                let document = changed.as_ref().unwrap_or(members);
                if !document.contains_key(&*field.key)
                    && !self.is_given(members, field)
                    && let Some(value) = old.get(&*field.key)
                {
                    let value = value.clone();
                    let document = changed.get_or_insert_with(|| members.clone());
                    document.insert(field.key.to_string(), value);
                }
            }
        }
    }

    /// Whether a document names a field, if only to say that it has no value.
    fn is_given(&self, members: &Map<String, Json>, field: &CompiledField) -> bool {
        members.keys().any(|name| {
            let place = self.names.get(name.as_str());
            place.is_some_and(|place| {
                let named = self.fields.get(*place);
                named.is_some_and(|named| named.key == field.key)
            })
        })
    }

    /// A record that has been without a value all along is judged when somebody gives one.
    fn check_required(
        &self,
        document: &Map<String, Json>,
        old: Option<&Map<String, Json>>,
        is_new: bool,
        faults: &mut Faults,
    ) {
        let has = |members: &Map<String, Json>, field: &CompiledField| {
            members
                .get(&*field.key)
                .is_some_and(|value| !value.is_null())
        };
        for field in self.fields.iter().filter(|field| field.is_required) {
            let had = old.is_some_and(|old| has(old, field));
            if !has(document, field) && (is_new || had) {
                field.fault(faults, codes::REQUIRED, "a value is required");
            }
        }
    }

    /// An option is chosen under one of its controlling values.
    fn check_dependent(
        &self,
        place: usize,
        controlling: usize,
        document: &Map<String, Json>,
        old: Option<&Map<String, Json>>,
        faults: &mut Faults,
    ) {
        let (Some(field), Some(controlling)) =
            (self.fields.get(place), self.fields.get(controlling))
        else {
            return;
        };
        let Some(chosen) = document.get(&*field.key) else {
            return;
        };
        let under = document.get(&*controlling.key);
        let is_as_it_was = old.is_some_and(|old| {
            old.get(&*field.key) == Some(chosen) && old.get(&*controlling.key) == under
        });
        if is_as_it_was {
            return;
        }
        let fits = |value: &Json| {
            let choice = value.as_str().and_then(|value| {
                let options = field.check.options()?;
                options.get(value)
            });
            // Something that is no option is told elsewhere.
            choice.is_none_or(|choice| {
                choice.controlling.is_empty()
                    || choice
                        .controlling
                        .iter()
                        .any(|value| is_chosen(under, value))
            })
        };
        let all_fit = match chosen {
            Json::Array(chosen) => chosen.iter().all(fits),
            one => fits(one),
        };
        if !all_fit {
            let message = "choose an option that goes with the controlling field";
            field.fault(faults, codes::NOT_AN_OPTION, message);
        }
    }
}

impl CheckCustomFields for CompiledFields {
    fn check(&self, write: &CustomWrite<'_>, faults: &mut Faults) -> Option<Json> {
        let document = |record: &dyn AnyRecord| match record.value(write.document) {
            ValueRef::Json(document) => document.into_owned(),
            _ => Json::Null,
        };
        let after = document(write.after);
        let before = write.before.map(document);
        let writer = if write.by_engine {
            Writer::Engine
        } else {
            Writer::Caller
        };
        let checked = Self::check(self, &after, before.as_ref(), writer);
        let found = checked.faults.into_result().err();
        for fault in found.into_iter().flat_map(ValidationError::into_errors) {
            faults.push(fault);
        }
        match checked.document {
            Cow::Owned(document) => Some(document),
            Cow::Borrowed(_) => None,
        }
    }
}

/// Whether the controlling field has a value, or has it among others.
fn is_chosen(under: Option<&Json>, value: &str) -> bool {
    match under {
        Some(Json::String(under)) => under == value,
        Some(Json::Array(under)) => under.iter().any(|entry| entry.as_str() == Some(value)),
        Some(Json::Bool(under)) => (if *under { "true" } else { "false" }) == value,
        _ => false,
    }
}
