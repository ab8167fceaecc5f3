//! The traits behind the derives: how Rust types become fields.

use std::borrow::Cow;
use std::marker::PhantomData;

use chrono::{DateTime, NaiveDate, SubsecRound, Utc};
use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{SerializeMap, Serializer};
use uuid::Uuid;

use super::coerce::{normalize_list, normalize_text};
use super::object::Access;
use super::{FieldSchema, FieldSet, FieldType, ObjectRef, Value, ValueRef};
use crate::Id;
use crate::error::{Faults, FieldError, ValidationError, codes};
use crate::value::{
    ApiName, Color, Country, Currency, DomainName, EmailAddress, HttpUrl, LanguageTag,
    NonBlankText, Percent, Score, Subdomain, TextValue, TimeZone, ValueError,
};

/// A Rust type that is one field of an entity.
///
/// Implement it for a newtype of your own by handing on to a type that has it.
pub trait FieldValue: Sized + Clone + PartialEq + Send + Sync + 'static {
    /// The type without its `Option`: what filters compare with.
    type Operand: FieldValue;

    /// Whether the type can say "no value".
    const NULLABLE: bool = false;

    /// What the values may be.
    fn field_type() -> FieldType;

    /// The value as storage and filters see it.
    fn value(&self) -> ValueRef<'_>;

    /// The value from what storage gave back, which was checked when it was written.
    ///
    /// # Errors
    /// If the value is not one of this type.
    fn from_value(value: Value) -> Result<Self, ValueError>;

    /// Like [`from_value`](Self::from_value), with each fault at its place: a document may have
    /// several, at paths below `path`, which is the field's name.
    ///
    /// # Errors
    /// Every fault.
    fn from_value_at(value: Value, path: &str) -> Result<Self, Vec<FieldError>> {
        Self::from_value(value).map_err(|error| {
            let message = error.message().to_owned();
            vec![FieldError::new(path, error.code(), message)]
        })
    }

    /// Puts the value into its one stored form; see [`FieldType::coerce`].
    fn normalize(&mut self) {}
}

/// A field value that is a text whose length an attribute may limit.
#[diagnostic::on_unimplemented(message = "`{Self}` has no length that could be limited")]
pub trait LengthLimited {}

/// A field value that is a number whose range an attribute may limit.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a number whose range could be limited")]
pub trait NumberLimited {}

/// A field value that may be the id of a record of any object.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a `Uuid`, so it is no id of any record")]
pub trait RecordId {}

/// A group of fields that belong together, such as a person's name; `#[derive(FieldGroup)]`.
///
/// An entity takes a group in with `#[field(flatten)]`: the group's fields become fields of the
/// entity. An `Option` of a group is `None` exactly when every field of it is empty.
pub trait FieldGroup: Sized + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// How many fields the group has, those of inner groups included.
    const COUNT: usize;

    /// Lists the fields.
    fn describe(fields: &mut FieldList);

    /// The value of the field at `index`, counted from the group's first.
    fn value(&self, index: usize) -> ValueRef<'_>;

    /// Takes the values of the group's fields from the reader; `None` where one of them is faulty,
    /// which the reader then knows.
    fn read(reader: &mut FieldReader<'_>) -> Option<Self>;

    /// Puts every value into its one stored form.
    fn normalize(&mut self);

    /// Adds the fields in which `other` differs; `start` is the place of the group's first field.
    fn differing(&self, other: &Self, start: usize, set: &mut FieldSet);
}

/// An object of the engine; `#[derive(Entity)]`.
pub trait Entity: FieldGroup {
    /// The description of the object.
    fn schema() -> &'static ObjectRef;

    /// Adds what is wrong between the fields of one record: a rule that needs nothing else.
    fn check(&self, faults: &mut Faults);

    /// Reads one flat JSON object as a new record, as a host's web API receives it.
    ///
    /// ```
    /// use crm_core::{contacts::Contact, schema::Entity};
    ///
    /// let body = serde_json::json!({"first_name": "Ada", "email": "ada@", "lead_score": 99});
    /// let error = Contact::from_json(body.as_object().unwrap()).unwrap_err();
    /// let codes: Vec<_> = error.errors().iter().map(|e| (e.path.as_str(), e.code)).collect();
    /// assert_eq!(codes, [("email", "invalid_email"), ("lead_score", "read_only")]);
    /// ```
    ///
    /// # Errors
    /// Every unknown, read-only or faulty field at once.
    fn from_json(
        json: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, ValidationError> {
        read_json(json, Access::User).and_then(|(entity, faults)| {
            faults.into_result()?;
            entity.ok_or_else(|| unreadable::<Self>())
        })
    }
}

/// Reads a flat JSON object as far as possible, with every fault.
fn read_json<E: Entity>(
    json: &serde_json::Map<String, serde_json::Value>,
    access: Access,
) -> Result<(Option<E>, Faults), ValidationError> {
    let schema = E::schema();
    let (values, mut faults) = schema.overlay(schema.defaults(), json, access);
    let mut reader = FieldReader::new(schema.own_fields(), values);
    let entity = E::read(&mut reader);
    for fault in reader
        .into_faults()
        .into_result()
        .err()
        .into_iter()
        .flat_map(|e| e.into_errors())
    {
        // A field that was refused above is missing only because of that.
        if !faults.has(&fault.path) {
            faults.push(fault);
        }
    }
    Ok((entity, faults))
}

fn unreadable<E: Entity>() -> ValidationError {
    FieldError::new(E::schema().name(), codes::WRONG_TYPE, "could not be read").into()
}

/// Writes an entity as one flat JSON object.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_entity<E: Entity, S: Serializer>(
    entity: &E,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let fields = E::schema().own_fields();
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for (index, field) in fields.iter().enumerate() {
        map.serialize_entry(&field.name, &entity.value(index))?;
    }
    map.end()
}

/// Reads an entity from the flat JSON object that [`serialize_entity`] writes.
///
/// # Errors
/// Those of the deserializer, and the faulty fields in one message.
pub fn deserialize_entity<'de, E: Entity, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<E, D::Error> {
    use serde::de::Error;
    let json = serde_json::Map::deserialize(deserializer)?;
    let (entity, faults) = read_json::<E>(&json, Access::Engine).map_err(D::Error::custom)?;
    faults.into_result().map_err(D::Error::custom)?;
    entity.ok_or_else(|| D::Error::custom(unreadable::<E>()))
}

/// The fields of an object in the making.
#[derive(Debug, Default)]
pub struct FieldList {
    fields: Vec<FieldSchema>,
    prefix: String,
    optional: bool,
}

impl FieldList {
    /// Adds a field, with the prefix of the groups around it.
    pub fn push(&mut self, mut field: FieldSchema) {
        if !self.prefix.is_empty() {
            field.name = Cow::Owned(format!("{}{}", self.prefix, field.name));
            if let FieldType::Decimal {
                currency_field: Some(name),
                ..
            } = &mut field.field_type
            {
                *name = Cow::Owned(format!("{}{name}", self.prefix));
            }
            if let Some(name) = &mut field.record_of {
                *name = Cow::Owned(format!("{}{name}", self.prefix));
            }
        }
        if self.optional {
            field.required = false;
            field.default = Value::Null;
        }
        self.fields.push(field);
    }

    /// Adds the fields of a group, each name with `prefix` in front.
    pub fn group<G: FieldGroup>(&mut self, prefix: &str) {
        let outer = self.prefix.len();
        self.prefix.push_str(prefix);
        G::describe(self);
        self.prefix.truncate(outer);
    }

    /// Changes the fields added since there were `count`: what the attributes of a group say of
    /// all its fields.
    pub fn since(&mut self, count: usize) -> &mut [FieldSchema] {
        self.fields.get_mut(count..).unwrap_or_default()
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The fields.
    #[must_use]
    pub fn into_fields(self) -> Vec<FieldSchema> {
        self.fields
    }
}

/// Hands out the values of a record, field by field, and gathers what is wrong with them.
#[derive(Debug)]
pub struct FieldReader<'a> {
    fields: std::slice::Iter<'a, FieldSchema>,
    values: std::vec::IntoIter<Value>,
    faults: Faults,
}

impl<'a> FieldReader<'a> {
    /// Reads `values`, one for each of `fields`.
    #[must_use]
    pub fn new(fields: &'a [FieldSchema], values: Vec<Value>) -> Self {
        Self {
            fields: fields.iter(),
            values: values.into_iter(),
            faults: Faults::default(),
        }
    }

    /// The next field.
    pub fn field<T: FieldValue>(&mut self) -> Option<T> {
        let field = self.fields.next();
        let value = self.values.next().unwrap_or_default();
        let name = field.map_or("", |field| &*field.name);
        if value.is_null() && !T::NULLABLE {
            self.faults
                .add(name, codes::REQUIRED, "a value is required");
            return None;
        }
        match T::from_value_at(value, name) {
            Ok(value) => Some(value),
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.faults.push(fault));
                None
            }
        }
    }

    /// The fields of a group that may be missing as a whole.
    pub fn optional_group<G: FieldGroup>(&mut self) -> Option<Option<G>> {
        if self
            .values
            .as_slice()
            .iter()
            .take(G::COUNT)
            .all(Value::is_null)
        {
            for _ in 0..G::COUNT {
                self.fields.next();
                self.values.next();
            }
            return Some(None);
        }
        G::read(self).map(Some)
    }

    /// What was wrong.
    #[must_use]
    pub fn into_faults(self) -> Faults {
        self.faults
    }
}

impl<G: FieldGroup> FieldGroup for Option<G> {
    const COUNT: usize = G::COUNT;

    fn describe(fields: &mut FieldList) {
        let outer = std::mem::replace(&mut fields.optional, true);
        let count = fields.len();
        G::describe(fields);
        fields.optional = outer;
        // Groups inside of this one are part of it.
        let members = fields.since(count);
        let first = members.first().map(|field| field.name.clone());
        for field in members {
            field.group.clone_from(&first);
        }
    }

    fn value(&self, index: usize) -> ValueRef<'_> {
        self.as_ref()
            .map_or(ValueRef::Null, |group| group.value(index))
    }

    fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
        reader.optional_group()
    }

    fn normalize(&mut self) {
        if let Some(group) = self {
            group.normalize();
            // A group without any value is no group.
            if (0..G::COUNT).all(|index| group.value(index).is_null()) {
                *self = None;
            }
        }
    }

    fn differing(&self, other: &Self, start: usize, set: &mut FieldSet) {
        match (self, other) {
            (Some(own), Some(other)) => own.differing(other, start, set),
            (None, None) => {}
            _ => {
                for index in 0..G::COUNT {
                    if self.value(index) != other.value(index) {
                        set.insert(start + index);
                    }
                }
            }
        }
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    type Operand = T::Operand;
    const NULLABLE: bool = true;

    fn field_type() -> FieldType {
        T::field_type()
    }

    fn value(&self) -> ValueRef<'_> {
        self.as_ref().map_or(ValueRef::Null, FieldValue::value)
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        if value.is_null() {
            Ok(None)
        } else {
            T::from_value(value).map(Some)
        }
    }

    fn from_value_at(value: Value, path: &str) -> Result<Self, Vec<FieldError>> {
        if value.is_null() {
            Ok(None)
        } else {
            T::from_value_at(value, path).map(Some)
        }
    }

    fn normalize(&mut self) {
        if let Some(value) = self {
            value.normalize();
            // A blank text is no value.
            if value.value() == ValueRef::Text("") {
                *self = None;
            }
        }
    }
}

impl<T: LengthLimited> LengthLimited for Option<T> {}
impl<T: NumberLimited> NumberLimited for Option<T> {}
impl<T: RecordId> RecordId for Option<T> {}

/// The error for a value of another kind than the type's.
fn wrong_kind() -> ValueError {
    ValueError::new(codes::WRONG_TYPE, "the stored value is of another kind")
}

macro_rules! field_value {
    ($($type:ty, $field:expr, |$own:ident| $value:expr, $pattern:pat => $from:expr;)*) => {$(
        impl FieldValue for $type {
            type Operand = Self;
            fn field_type() -> FieldType { $field }
            fn value(&self) -> ValueRef<'_> { let $own = self; $value }
            fn from_value(value: Value) -> Result<Self, ValueError> {
                match value {
                    $pattern => $from,
                    _ => Err(wrong_kind()),
                }
            }
        }
    )*};
}

field_value! {
    bool, FieldType::Boolean, |own| ValueRef::Boolean(*own), Value::Boolean(value) => Ok(value);
    i32, FieldType::Integer { min: i32::MIN.into(), max: i32::MAX.into() },
        |own| ValueRef::Integer((*own).into()),
        Value::Integer(value) => value.try_into().map_err(|_| wrong_kind());
    u32, FieldType::Integer { min: 0, max: i32::MAX.into() },
        |own| ValueRef::Integer((*own).into()),
        Value::Integer(value) => value.try_into().map_err(|_| wrong_kind());
    i64, FieldType::Integer { min: i64::MIN, max: i64::MAX },
        |own| ValueRef::Integer(*own), Value::Integer(value) => Ok(value);
    Decimal, FieldType::decimal(), |own| ValueRef::Decimal(*own), Value::Decimal(value) => Ok(value);
    NaiveDate, FieldType::Date, |own| ValueRef::Date(*own), Value::Date(value) => Ok(value);
    Uuid, FieldType::Uuid, |own| ValueRef::Uuid(*own), Value::Uuid(value) => Ok(value);
    Percent, FieldType::Percent, |own| ValueRef::Decimal(Percent::value(own)),
        Value::Decimal(value) => Percent::new(value);
    Score, FieldType::Score, |own| ValueRef::Integer(Score::value(own).into()),
        Value::Integer(value) => Score::new(value);
    serde_json::Value, FieldType::Json, |own| ValueRef::Json(Cow::Borrowed(own)),
        Value::Json(value) => Ok(value);
}

impl RecordId for Uuid {}
impl NumberLimited for i32 {}
impl NumberLimited for u32 {}
impl NumberLimited for i64 {}
impl NumberLimited for Decimal {}

impl FieldValue for String {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::text(255)
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Text(self)
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Text(text) => Ok(text),
            _ => Err(wrong_kind()),
        }
    }

    fn normalize(&mut self) {
        normalize_text(self);
    }
}

impl LengthLimited for String {}

impl FieldValue for DateTime<Utc> {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Timestamp
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Timestamp(*self)
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Timestamp(at) => Ok(at),
            _ => Err(wrong_kind()),
        }
    }

    fn normalize(&mut self) {
        *self = self.trunc_subsecs(6);
    }
}

impl FieldValue for Vec<String> {
    type Operand = String;

    fn field_type() -> FieldType {
        FieldType::List
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::List(self)
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::List(entries) => Ok(entries),
            _ => Err(wrong_kind()),
        }
    }

    fn normalize(&mut self) {
        normalize_list(self);
    }
}

impl<E: 'static> FieldValue for Id<E> {
    type Operand = Self;

    /// A plain UUID: `references` on the field says which object it refers to.
    fn field_type() -> FieldType {
        FieldType::Uuid
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Uuid(self.uuid())
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        match value {
            Value::Uuid(id) => Ok(Self::new(id)),
            _ => Err(wrong_kind()),
        }
    }
}

macro_rules! text_field {
    ($($type:ty => $field:expr;)*) => {$(
        impl FieldValue for $type {
            type Operand = Self;
            fn field_type() -> FieldType { $field }
            fn value(&self) -> ValueRef<'_> { ValueRef::Text(TextValue::as_str(self)) }
            fn from_value(value: Value) -> Result<Self, ValueError> {
                match value {
                    Value::Text(text) => <$type as TextValue>::from_stored(text),
                    _ => Err(wrong_kind()),
                }
            }
        }
    )*};
}

text_field! {
    ApiName => FieldType::ApiName;
    Color => FieldType::Color;
    Country => FieldType::Country;
    Currency => FieldType::Currency;
    DomainName => FieldType::Domain;
    EmailAddress => FieldType::Email;
    HttpUrl => FieldType::Url { max_length: 2_048 };
    LanguageTag => FieldType::Language;
    NonBlankText => FieldType::text(255);
    Subdomain => FieldType::Subdomain;
    TimeZone => FieldType::TimeZone;
}

impl LengthLimited for HttpUrl {}
impl LengthLimited for NonBlankText {}

/// A typed handle of the field of `E` that holds a `T`; builds filters and sorts that the compiler
/// checks. The derive makes one for each field: `Contact::EMAIL`.
pub struct FieldOf<E, T> {
    prefix: &'static str,
    name: &'static str,
    marker: PhantomData<fn() -> (E, T)>,
}

impl<E, T> FieldOf<E, T> {
    /// The handle of the field called `name`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            prefix: "",
            name,
            marker: PhantomData,
        }
    }

    /// The handle of the group whose fields' names begin with `prefix`.
    #[must_use]
    pub const fn group(prefix: &'static str) -> Self {
        Self {
            prefix,
            name: "",
            marker: PhantomData,
        }
    }

    /// The field's name in filters, JSON and storage.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        if self.prefix.is_empty() {
            Cow::Borrowed(self.name)
        } else {
            Cow::Owned(format!("{}{}", self.prefix, self.name))
        }
    }

    /// The field of a group inside `E`.
    ///
    /// ```
    /// use crm_core::{contacts::Contact, value::PersonName};
    ///
    /// assert_eq!(Contact::NAME.at(PersonName::LAST_NAME).name(), "last_name");
    /// ```
    #[must_use]
    pub const fn at<U>(&self, field: FieldOf<T, U>) -> FieldOf<E, U> {
        FieldOf {
            prefix: self.prefix,
            name: field.name,
            marker: PhantomData,
        }
    }
}

impl<E, T> Clone for FieldOf<E, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, T> Copy for FieldOf<E, T> {}

impl<E, T> std::fmt::Debug for FieldOf<E, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FieldOf({}{})", self.prefix, self.name)
    }
}
