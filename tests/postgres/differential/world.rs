//! What both storages hold, and random rows for it.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use crm_engine::identity::User;
use crm_engine::schema::{
    Dynamic, FieldSchema, FieldType, Meta, ObjectRef, ObjectScope, Privacy, Registry, Row,
    SYSTEM_FIELDS, StorageKind, UniqueKey, Value,
};
use crm_engine::storage::Scope;
use crm_engine::{Actor, Id, MemoryStorage, PostgresStorage, Stamp};
use serde_json::json;
use uuid::Uuid;

use super::values::{Random, moment, typed_document, typed_text, value};

/// Whether a tenant tries to insert the platform's row of another: see
/// [`super::cases::a_tenant_inserts_no_other_tenant`].
const FOREIGN_PLATFORM_ROWS: bool = true;

type Rows = BTreeMap<Uuid, Row>;

/// What differed.
pub(crate) type Difference = String;

pub(crate) struct World {
    pub(crate) memory: MemoryStorage,
    pub(crate) postgres: PostgresStorage,
    pub(crate) objects: Vec<ObjectRef>,
    pub(crate) registry: Registry,
    pub(crate) tenants: [Uuid; 2],
    /// What both storages hold, by tenant and object.
    pub(crate) rows: [BTreeMap<String, Rows>; 2],
    /// The run's part of every id.
    run: u128,
    pub(crate) clock: i64,
    pub(crate) random: Random,
    pub(crate) counts: BTreeMap<&'static str, usize>,
}

/// Whether the object has anything to seal.
pub(crate) fn has_secrets(object: &ObjectRef) -> bool {
    let own = object.own_fields();
    own.iter().any(|field| field.privacy != Privacy::Public)
}

impl World {
    pub(crate) fn new(postgres: PostgresStorage, objects: &[ObjectRef]) -> Self {
        let run = u128::from(RandomState::new().hash_one(0_u8) >> 16) << 80;
        let registry = Registry::default();
        for object in objects {
            registry.add(object);
        }
        let own = objects.iter().filter(|object| object.template().is_some());
        let registry = Registry::over(Arc::new(registry), own.cloned());
        // A template has no rows.
        let objects = objects.iter().filter(|object| !object.is_template());
        Self {
            memory: MemoryStorage::new(),
            postgres,
            objects: objects.cloned().collect(),
            registry,
            tenants: [Uuid::from_u128(run | 1), Uuid::from_u128(run | 2)],
            rows: Default::default(),
            run,
            clock: 0,
            random: Random(0),
            counts: BTreeMap::new(),
        }
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn scope(&self, tenant: usize) -> Scope {
        Scope::Tenant(Id::new(self.tenants[tenant]))
    }

    pub(crate) fn new_id(&mut self) -> Uuid {
        let low = u128::from(self.random.next()) << 16 | u128::from(self.random.next() & 0xFFFF);
        Uuid::from_u128(self.run | low)
    }

    pub(crate) fn rows_of(&self, tenant: usize, object: &ObjectRef) -> Vec<Row> {
        let rows = self.rows[tenant].get(object.name());
        rows.map(|rows| rows.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn some_row(&mut self, tenant: usize, object: &ObjectRef) -> Option<Row> {
        let rows = self.rows_of(tenant, object);
        self.random.pick(&rows).cloned()
    }

    pub(crate) fn stamp(&mut self) -> Stamp {
        self.clock += 1 + self.random.below(3) as i64;
        let id = Uuid::from_u128(self.random.below(3) as u128);
        let by = [
            Actor::System,
            Actor::Anonymous,
            Actor::ApiClient(id),
            Actor::Import(id),
            Actor::User(Id::<User>::new(id)),
        ];
        let at = if self.random.one_in(30) {
            moment(&mut self.random)
        } else {
            DateTime::from_timestamp(1_768_467_600, 0).unwrap()
                + TimeDelta::microseconds(self.clock)
        };
        Stamp {
            at,
            by: self.random.of(&by),
        }
    }

    /// The id that a reference may hold: mostly that of a live row.
    fn reference(&mut self, tenant: usize, target: &str) -> Uuid {
        let Some(object) = self.registry.object(target) else {
            return Uuid::from_u128(42);
        };
        let from = if self.random.one_in(40) {
            1 - tenant
        } else {
            tenant
        };
        if self.random.one_in(30) {
            return self.new_id();
        }
        let mut rows = self.rows_of(from, &object);
        if !self.random.one_in(40) {
            rows.retain(|row| !row.is_deleted());
        }
        match self.random.pick(&rows) {
            Some(row) => row.id(),
            None => self.new_id(),
        }
    }

    pub(crate) fn field_value(
        &mut self,
        tenant: usize,
        object: &ObjectRef,
        field: &FieldSchema,
    ) -> Value {
        if !field.required && self.random.one_in(3) {
            return Value::Null;
        }
        let place = object.field_index(&field.name);
        let in_key = |key: &UniqueKey| key.fields.iter().any(|index| Some(*index) == place);
        if !field.required && object.unique_keys().iter().any(in_key) && !self.random.one_in(3) {
            return Value::Null;
        }
        if let Some((target, _)) = field.reference() {
            // Now and then: all of them must be right for a commit to pass.
            if !field.required && !self.random.one_in(3) {
                return Value::Null;
            }
            return Value::Uuid(self.reference(tenant, target));
        }
        if object.scope() == ObjectScope::Platform && field.field_type == FieldType::Subdomain {
            // Unique over all tenants, also over those of other runs.
            let run = (self.run >> 80) as u64;
            return Value::Text(format!("r{run:x}-{}", self.random.below(3)));
        }
        if object.scope() == ObjectScope::Platform && field.field_type == FieldType::Domain {
            let run = (self.run >> 80) as u64;
            return Value::Text(format!("r{run:x}-{}.example", self.random.below(3)));
        }
        let made = value(&mut self.random, &field.field_type);
        if field.required && (made.is_null() || made.as_ref().as_text() == Some("")) {
            return Value::Text("x".to_owned());
        }
        made
    }

    /// Builds a row; values that the object's Rust type cannot hold give way.
    pub(crate) fn build(
        &mut self,
        tenant: usize,
        object: &ObjectRef,
        mut meta: Meta,
        mut values: Vec<Value>,
    ) -> Row {
        self.mend_references(tenant, object, &mut meta, &mut values);
        let mut last = String::new();
        for _ in 0..4 {
            let faults = match object.build(meta, values.clone()) {
                Ok(row) if has_secrets(object) && self.random.one_in(4) => {
                    let few = self.random.below(30) as u64;
                    return self.sealed(&row, few);
                }
                Ok(row) => return row,
                Err(faults) => faults,
            };
            let errors = faults.into_result().err().into_iter();
            for error in errors.flat_map(|error| error.into_errors()) {
                let name = error.path.split('.').next().unwrap();
                let place = object.field_index(name).unwrap() - SYSTEM_FIELDS;
                let _ = write!(last, "{error} {:?}; ", values[place]);
                let field = &object.own_fields()[place];
                values[place] = match field.storage_kind() {
                    StorageKind::Json => {
                        Value::Json(typed_document(object, &field.name, &mut self.random))
                    }
                    StorageKind::Text if typed_text(object, &field.name).is_some() => {
                        typed_text(object, &field.name).unwrap().into()
                    }
                    // What a group of fields needs.
                    _ if values[place].is_null() => value(&mut self.random, &field.field_type),
                    _ => field.default.clone(),
                };
            }
        }
        panic!("no row of `{}` can be built: {last}", object.name());
    }

    /// The row with tokens in the place of its personal texts and without its other personal values, as
    /// far as they may be missing, and with bytes for them.
    pub(crate) fn sealed(&mut self, row: &Row, token: u64) -> Row {
        let object = row.object();
        let mut values = row.values();
        for (value, field) in values.iter_mut().zip(object.own_fields()) {
            if field.privacy == Privacy::Public || value.is_null() {
                continue;
            }
            let is_token = field.storage_kind() == StorageKind::Text
                && !matches!(field.field_type, FieldType::Picklist { .. });
            *value = match field.storage_kind() {
                StorageKind::Text if is_token => {
                    let most = field.field_type.max_length().unwrap_or(27) as usize;
                    let text = format!("~{token:026x}");
                    Value::Text(text.chars().rev().take(most).collect())
                }
                StorageKind::Json => Value::Json(json!({ "region": format!("~{token}") })),
                StorageKind::List => Value::List(Vec::new()),
                _ if !field.required => Value::Null,
                _ => continue,
            };
        }
        let bytes = (0..self.random.below(40)).map(|_| self.random.next() as u8);
        let bytes: Vec<u8> = bytes.collect();
        Arc::new(Dynamic::new(object.clone(), row.meta(), values).with_sealed(bytes))
    }

    /// A deleted row may refer to deleted rows, but to none that is not there: backends need not
    /// hold that.
    fn mend_references(
        &self,
        tenant: usize,
        object: &ObjectRef,
        meta: &mut Meta,
        values: &mut [Value],
    ) {
        for index in object.references() {
            let field = &object.fields()[*index];
            let Some((target, _)) = field.reference().filter(|_| meta.deleted_at.is_some()) else {
                continue;
            };
            let slot = &mut values[index - SYSTEM_FIELDS];
            let Some(id) = slot.as_ref().as_uuid() else {
                continue;
            };
            if self.rows[tenant]
                .get(target)
                .is_none_or(|rows| !rows.contains_key(&id))
            {
                if field.required {
                    meta.deleted_at = None;
                } else {
                    *slot = Value::Null;
                }
            }
        }
    }

    pub(crate) fn new_row(&mut self, tenant: usize, object: &ObjectRef) -> Row {
        let id = if object.scope() == ObjectScope::Platform {
            let other = FOREIGN_PLATFORM_ROWS && self.random.one_in(12);
            self.tenants[if other { 1 - tenant } else { tenant }]
        } else if !object.is_monthly() && self.random.one_in(30) {
            // Taken, or that of the other tenant's row.
            let from = self.random.below(2);
            self.some_row(from, object)
                .map_or(Uuid::from_u128(7), |row| row.id())
        } else {
            self.new_id()
        };
        let mut meta = Meta::first(id, self.stamp());
        if self.random.one_in(15) {
            meta.archived_at = Some(moment(&mut self.random));
        }
        if self.random.one_in(25) {
            meta.deleted_at = Some(moment(&mut self.random));
        }
        let values = object
            .own_fields()
            .iter()
            .map(|field| {
                if self.random.one_in(8) && !field.default.is_null() {
                    return field.default.clone();
                }
                self.field_value(tenant, object, field)
            })
            .collect();
        self.build(tenant, object, meta, values)
    }

    pub(crate) fn next_row(&mut self, tenant: usize, before: &Row) -> Row {
        let object = before.object().clone();
        let mut meta = before.meta().next(self.stamp());
        let now = meta.updated.at;
        match self.random.below(12) {
            0 | 1 => meta.deleted_at = before.meta().deleted_at.is_none().then_some(now),
            2 if before.is_deleted() => meta.deleted_at = None,
            2 => meta.archived_at = before.meta().archived_at.is_none().then_some(now),
            // Nothing but the version.
            3 => {}
            _ => {
                let mut values = before.values();
                let own = object.own_fields().len();
                for _ in 0..=self.random.below(4) {
                    let place = self.random.below(own);
                    values[place] = self.field_value(tenant, &object, &object.own_fields()[place]);
                }
                return self.build(tenant, &object, meta, values);
            }
        }
        before.with_meta(meta)
    }
}
