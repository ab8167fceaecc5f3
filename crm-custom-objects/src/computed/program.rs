//! [`Program`]: the formulas, roll-ups and rules of a tenant, compiled and in their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crm_core::error::{FieldError, codes};
use crm_core::expression::{
    Datum, Dependency, ObjectScope, Problem, Type, Typed, compile, evaluation_order,
};
use crm_core::query::{Comparison, Condition, FieldAt};
use crm_core::schema::{FieldSchema, FieldType, ObjectRef, Privacy, Registry, StorageKind, Value};
use crm_core::value::{TextValue as _, TimeZone};
use crm_core::{Id, Record};
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::Value as Json;
use uuid::Uuid;

use super::local::{Local, Rule};
use super::{MAX_CHAIN, MAX_COMPUTED};
use crate::tenant::Defined;
use crate::{CustomField, CustomFieldRule, CustomFieldType, DataType, RollUp, RollUpFunction};

/// The code of a definition that follows from too many others in a row.
const TOO_DEEP: &str = "too_deep";

/// The most decimals of a computed number.
const DECIMALS: u32 = 10;

/// Everything that is computed for a tenant.
#[derive(Debug)]
pub(crate) struct Program {
    /// Formulas and roll-ups, each behind those that it follows from.
    pub(super) nodes: Vec<Arc<Node>>,
    /// What is computed from a record alone, by its object.
    locals: BTreeMap<String, Arc<Local>>,
    /// What is wrong with definitions, by their ids.
    faults: HashMap<Uuid, Vec<FieldError>>,
    /// Where the days of the tenant begin.
    pub(super) zone: TimeZone,
}

/// A formula or roll-up.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: Id<CustomField>,
    /// The object whose records have the value, with its custom fields.
    pub(super) object: ObjectRef,
    /// The place of the document.
    pub(super) document: usize,
    /// The member of the document.
    pub(super) key: Box<str>,
    field_type: FieldType,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Formula(Typed),
    RollUp(Plan),
}

/// How a roll-up is computed.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) function: RollUpFunction,
    /// The object whose records are taken, with its custom fields.
    pub(super) object: ObjectRef,
    /// Their reference, and its place.
    pub(super) by: FieldAt,
    pub(super) by_place: usize,
    /// The place of the field that is taken.
    pub(super) field: Option<usize>,
    /// Which are taken.
    pub(super) condition: Condition,
    /// The keys of the custom fields that it looks at.
    members: Vec<Box<str>>,
}

impl Node {
    /// Whether the value follows from the record alone.
    pub(super) fn is_local(&self) -> bool {
        match &self.kind {
            Kind::Formula(typed) => typed.dependencies().iter().all(Dependency::is_own),
            Kind::RollUp(_) => false,
        }
    }

    /// A computed value in its stored form; none where the type does not hold it.
    pub(super) fn stored(&self, value: Value) -> Result<Option<Json>, Problem> {
        let value = match value {
            Value::Null => return Ok(None),
            Value::Text(text) if text.trim().is_empty() => return Ok(None),
            Value::Decimal(number) => {
                let rounded =
                    number.round_dp_with_strategy(DECIMALS, RoundingStrategy::MidpointNearestEven);
                if self.field_type.storage_kind() == StorageKind::Integer && !rounded.is_integer() {
                    return Err(Problem::NotWhole);
                }
                Value::Decimal(rounded)
            }
            other => other,
        };
        let is_text = matches!(value, Value::Text(_));
        match self.field_type.coerce(value) {
            Ok(value) => Ok(Some(value.to_json())),
            Err(_) if is_text => Err(Problem::TextTooLong),
            Err(_) => Err(Problem::OutOfRange),
        }
    }

    /// What a formula came to, in its stored form.
    pub(super) fn stored_datum(&self, datum: Datum<'_>) -> Result<Option<Json>, Problem> {
        self.stored(match datum {
            Datum::Null => Value::Null,
            Datum::Boolean(value) => Value::Boolean(value),
            Datum::Number(number) => Value::Decimal(number),
            Datum::Text(text) => Value::Text(text.into_owned()),
            Datum::Date(day) => Value::Date(day),
            Datum::DateTime(at) => Value::Timestamp(at),
            Datum::Id(id) => Value::Uuid(id),
            Datum::Money(_) | Datum::List(_) => return Err(Problem::WrongType),
        })
    }

    pub(super) fn label(&self) -> String {
        label(&self.object, &self.key)
    }

    /// The labels of the members of documents that the value follows from, computed ones or not.
    pub(super) fn needs(&self) -> Vec<String> {
        match &self.kind {
            Kind::Formula(typed) => {
                let dependencies = typed.dependencies().iter();
                dependencies
                    .filter_map(|one| {
                        let object = one.references().last().map_or(&self.object, |last| last.1);
                        Some(label(object, one.at()?.member.as_deref()?))
                    })
                    .collect()
            }
            Kind::RollUp(plan) => {
                let members = plan.members.iter();
                members.map(|key| label(&plan.object, key)).collect()
            }
        }
    }
}

/// The name of a computed field in messages: by its present name.
fn label(object: &ObjectRef, key: &str) -> String {
    let field = object.custom_field(key);
    let name = field.map_or(key, |field| &*field.field.name);
    format!("{}.{name}", object.name())
}

impl Program {
    /// Compiles the definitions of a tenant; `registry` knows its objects with their fields.
    pub(crate) fn new(defined: &Defined, registry: &Registry, zone: TimeZone) -> Self {
        let names = Names { registry };
        let mut program = Self {
            nodes: Vec::new(),
            locals: BTreeMap::new(),
            faults: HashMap::new(),
            zone,
        };
        let mut nodes: BTreeMap<String, Arc<Node>> = BTreeMap::new();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let computed = defined.fields.iter();
        let computed = computed.filter(|field| field.is_active && field.field_type.is_computed());
        for field in computed {
            let count = counts.entry(field.object.as_str()).or_default();
            *count += 1;
            let compiled = if *count > MAX_COMPUTED {
                let message = format!("an object has at most {MAX_COMPUTED} computed fields");
                Err(vec![FieldError::new(
                    "field_type",
                    codes::TOO_MANY,
                    message,
                )])
            } else {
                names.node(field)
            };
            match compiled {
                Ok(node) => {
                    nodes.insert(node.label(), Arc::new(node));
                }
                Err(faults) => {
                    program.faults.insert(field.id.uuid(), faults);
                }
            }
        }
        program.nodes = program.ordered(nodes);
        let mut locals: BTreeMap<String, Local> = BTreeMap::new();
        for node in program.nodes.iter().filter(|node| node.is_local()) {
            let local = locals.entry(node.object.name().to_owned()).or_default();
            local.formulas.push(node.clone());
        }
        for rule in defined.rules.iter().filter(|rule| rule.is_active) {
            match names.rule(rule) {
                Ok(compiled) => {
                    let local = locals.entry(rule.object.to_string()).or_default();
                    local.rules.push(compiled);
                }
                Err(faults) => {
                    program.faults.insert(rule.id.uuid(), faults);
                }
            }
        }
        for local in locals.values_mut() {
            local.zone = zone;
        }
        let locals = locals.into_iter();
        program.locals = locals
            .map(|(name, local)| (name, Arc::new(local)))
            .collect();
        program
    }

    /// What is computed from a record of the object alone.
    pub(crate) fn local(&self, object: &str) -> Option<Arc<Local>> {
        self.locals.get(object).cloned()
    }

    /// What is wrong with definitions, by their ids.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&Uuid, &Vec<FieldError>)> {
        self.faults.iter()
    }

    /// What is wrong with a definition.
    pub(crate) fn faults_of(&self, id: Uuid) -> &[FieldError] {
        self.faults.get(&id).map_or(&[], Vec::as_slice)
    }

    /// That some definition stands too far from what was written.
    pub(crate) fn too_deep(&self) -> Option<&FieldError> {
        let mut faults = self.faults.values().flatten();
        faults.find(|fault| fault.code == TOO_DEEP)
    }

    /// Puts nodes in order, without those in a circle or too far from what was written.
    fn ordered(&mut self, mut nodes: BTreeMap<String, Arc<Node>>) -> Vec<Arc<Node>> {
        let order = loop {
            let needs: Vec<(&str, Vec<String>)> = nodes
                .iter()
                .map(|(label, node)| (label.as_str(), node.needs()))
                .collect();
            let graph = needs
                .iter()
                .map(|(label, needs)| (*label, needs.iter().map(String::as_str)));
            let circle = match evaluation_order(graph) {
                Ok(order) => break order.into_iter().map(str::to_owned).collect::<Vec<_>>(),
                Err(circle) => circle,
            };
            for label in &circle.path {
                if let Some(node) = nodes.remove(label) {
                    let fault = FieldError::new("field_type", "cycle", circle.to_string());
                    self.faults.insert(node.id.uuid(), vec![fault]);
                }
            }
        };
        let mut depths: HashMap<String, usize> = HashMap::new();
        let mut ordered = Vec::with_capacity(order.len());
        for label in order {
            let Some(node) = nodes.get(&label) else {
                continue;
            };
            let needs = node.needs();
            let below = needs.iter().filter_map(|needed| depths.get(needed)).max();
            let depth = below.map_or(1, |depth| depth + 1);
            depths.insert(label, depth);
            if depth > MAX_CHAIN {
                let message =
                    format!("at most {MAX_CHAIN} computed fields may follow from each other");
                let fault = FieldError::new("field_type", TOO_DEEP, message);
                self.faults.insert(node.id.uuid(), vec![fault]);
            } else {
                ordered.push(node.clone());
            }
        }
        ordered
    }
}

/// What the names in definitions lead to.
struct Names<'a> {
    registry: &'a Registry,
}

impl Names<'_> {
    /// The object that has a computed field or rule, and the place of its document.
    fn object(&self, name: &str) -> Result<(ObjectRef, usize), Vec<FieldError>> {
        let object = self.registry.object(name);
        let found = object.and_then(|object| {
            let document = object.custom_document()?;
            Some((object, document))
        });
        found.ok_or_else(|| {
            let message = "names an object that does not exist";
            vec![FieldError::new("object", codes::NOT_FOUND, message)]
        })
    }

    fn node(&self, field: &Record<CustomField>) -> Result<Node, Vec<FieldError>> {
        let (object, document) = self.object(field.object.as_str())?;
        let kind = match &field.field_type {
            CustomFieldType::Formula { expression, result } => {
                let typed = self.formula(&object, expression, *result)?;
                if typed.privacy() != Privacy::Public && !field.is_personal {
                    let message = "the value is personal, as a field that the formula names is";
                    let path = CustomField::IS_PERSONAL.name();
                    return Err(vec![FieldError::new(path, codes::INCONSISTENT, message)]);
                }
                Kind::Formula(typed)
            }
            CustomFieldType::RollUp(roll_up) => {
                let plan = self.plan(&object, roll_up);
                Kind::RollUp(plan.map_err(|fault| vec![fault])?)
            }
            _ => return Err(Vec::new()),
        };
        Ok(Node {
            id: field.id,
            key: field.document_key().into(),
            field_type: field.field_type.field_type(false),
            object,
            document,
            kind,
        })
    }

    fn formula(
        &self,
        object: &ObjectRef,
        expression: &str,
        result: DataType,
    ) -> Result<Typed, Vec<FieldError>> {
        let expected = match result {
            DataType::String => Type::Text,
            DataType::Integer | DataType::Decimal => Type::Number,
            DataType::Boolean => Type::Boolean,
            DataType::Date => Type::Date,
            DataType::Timestamp => Type::DateTime,
            DataType::Uuid => Type::Id,
            DataType::Json => {
                let message = "a formula has a single value, no document";
                let path = "field_type.result";
                return Err(vec![FieldError::new(path, codes::INCONSISTENT, message)]);
            }
        };
        self.typed(object, expression, expected, "field_type.expression")
    }

    fn typed(
        &self,
        object: &ObjectRef,
        source: &str,
        expected: Type,
        path: &str,
    ) -> Result<Typed, Vec<FieldError>> {
        let scope = ObjectScope::new(object, self.registry);
        compile(source, &scope, expected, path)
    }

    fn rule(&self, rule: &Record<CustomFieldRule>) -> Result<Rule, Vec<FieldError>> {
        let (object, _) = self.object(rule.object.as_str())?;
        let path = CustomFieldRule::EXPRESSION.name();
        let condition = self.typed(&object, &rule.expression, Type::Boolean, &path)?;
        if !condition.dependencies().iter().all(Dependency::is_own) {
            let message = "a rule looks at the record itself: take a formula over the other record \
                           and look at that";
            return Err(vec![FieldError::new(path, UNSUPPORTED, message)]);
        }
        let at = match &rule.field {
            None => crm_core::schema::CUSTOM_FIELDS.to_owned(),
            Some(field) => match (
                object.field(field.as_str()),
                object.custom_field(field.as_str()),
            ) {
                (Some(own), _) => own.name.to_string(),
                (None, Some(custom)) => {
                    format!("{}.{}", crm_core::schema::CUSTOM_FIELDS, custom.field.name)
                }
                (None, None) => {
                    let path = CustomFieldRule::FIELD.name();
                    let message = "the object has no such field";
                    return Err(vec![FieldError::new(path, codes::UNKNOWN_FIELD, message)]);
                }
            },
        };
        Ok(Rule {
            path: at,
            name: rule.name.clone(),
            message: rule.message.clone(),
            condition,
        })
    }

    fn plan(&self, parent: &ObjectRef, roll_up: &RollUp) -> Result<Plan, FieldError> {
        let fault = |name: &str, code: &'static str, message: String| {
            FieldError::new(format!("field_type.{name}"), code, message)
        };
        let object = self.registry.object(roll_up.object.as_str());
        let object = object
            .filter(|object| !object.is_template())
            .ok_or_else(|| {
                let message = "names an object that does not exist".to_owned();
                fault("object", codes::NOT_FOUND, message)
            })?;
        let by = FieldAt::named(&object, roll_up.by.as_str()).ok();
        let leads_here = |schema: &FieldSchema| {
            let reference = schema.reference();
            reference.is_some_and(|(target, _)| target == parent.name())
        };
        let by = by.filter(|(_, schema)| leads_here(schema));
        let by = by.and_then(|(at, _)| Some((at.place(&object)?, at)));
        let Some((by_place, by)) = by else {
            let message = format!(
                "must be a reference of `{}` to `{}`",
                object.name(),
                parent.name()
            );
            return Err(fault("by", codes::INCONSISTENT, message));
        };
        let condition = match &roll_up.filter {
            None => Condition::all(),
            Some(filter) => Condition::bind(filter, &object, self.registry)
                .map_err(|error| fault("filter", error.code(), error.to_string()))?,
        };
        let mut members: Vec<Box<str>> = by.member.iter().cloned().collect();
        if !own_fields(&condition, &mut members) {
            let message = "must look at the records themselves, not at others".to_owned();
            return Err(fault("filter", UNSUPPORTED, message));
        }
        let field = match &roll_up.field {
            None => None,
            Some(name) => {
                let named = FieldAt::named(&object, name.as_str());
                let named = named.ok().filter(|(at, _)| !at.is_untyped());
                let Some((at, schema)) = named else {
                    let message = format!("`{}` has no such field", object.name());
                    return Err(fault("field", codes::UNKNOWN_FIELD, message));
                };
                if schema.privacy == Privacy::Sensitive {
                    let message = "must not be a field whose values are kept out of sight";
                    return Err(fault("field", UNSUPPORTED, message.to_owned()));
                }
                check_taken(roll_up, schema)
                    .map_err(|message| fault("field", codes::INCONSISTENT, message.to_owned()))?;
                check_currency(&object, schema, &condition)
                    .map_err(|message| fault("filter", "mixed_currencies", message))?;
                members.extend(at.member.clone());
                at.place(&object)
            }
        };
        Ok(Plan {
            function: roll_up.function,
            object,
            by,
            by_place,
            field,
            condition,
            members,
        })
    }
}

/// The code of a filter over what it must not look at.
const UNSUPPORTED: &str = "unsupported";

/// Whether the field holds what the function takes and gives.
fn check_taken(roll_up: &RollUp, field: &FieldSchema) -> Result<(), &'static str> {
    let kind = field.storage_kind();
    let fits = match (roll_up.function, roll_up.result) {
        (RollUpFunction::Count, _) => true,
        (RollUpFunction::Sum | RollUpFunction::Min | RollUpFunction::Max, DataType::Integer) => {
            kind == StorageKind::Integer
        }
        (RollUpFunction::Sum | RollUpFunction::Average, _)
        | (RollUpFunction::Min | RollUpFunction::Max, DataType::Decimal) => {
            matches!(kind, StorageKind::Integer | StorageKind::Decimal)
        }
        (RollUpFunction::Min | RollUpFunction::Max, DataType::Date) => kind == StorageKind::Date,
        (RollUpFunction::Min | RollUpFunction::Max, _) => kind == StorageKind::Timestamp,
    };
    if fits {
        Ok(())
    } else {
        Err("must hold values of the kind that the roll-up takes and gives")
    }
}

/// amounts are taken together only in one currency.
fn check_currency(
    object: &ObjectRef,
    field: &FieldSchema,
    condition: &Condition,
) -> Result<(), String> {
    let FieldType::Decimal {
        currency_field: Some(name),
        ..
    } = &field.field_type
    else {
        return Ok(());
    };
    let currency = object.field_index(name);
    let names_one = |one: &Condition| match one {
        Condition::Compare { field, op, .. } => {
            *op == Comparison::Eq && Some(field.index) == currency && field.member.is_none()
        }
        Condition::In { field, values } => Some(field.index) == currency && values.len() == 1,
        _ => false,
    };
    if condition.conjuncts().iter().any(names_one) {
        Ok(())
    } else {
        Err(format!(
            "amounts of several currencies are not taken together: filter by one `{name}`"
        ))
    }
}

/// Whether a condition looks at the record itself only; notes the custom fields that it looks at.
fn own_fields(condition: &Condition, members: &mut Vec<Box<str>>) -> bool {
    match condition {
        Condition::Compare { field, .. }
        | Condition::In { field, .. }
        | Condition::Null { field, .. }
        | Condition::Text { field, .. }
        | Condition::List { field, .. } => {
            members.extend(field.member.clone());
            true
        }
        Condition::And(all) | Condition::Or(all) => {
            all.iter().all(|condition| own_fields(condition, members))
        }
        Condition::Not(one) => own_fields(one, members),
        _ => false,
    }
}

/// A sum that became too great is none.
pub(super) fn plus(a: Option<Decimal>, b: Decimal) -> Option<Decimal> {
    a?.checked_add(b)
}
