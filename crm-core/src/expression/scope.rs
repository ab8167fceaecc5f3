//! [`Scope`]: which fields an expression may name, and [`Values`]: what they hold for one record.

use rapidfuzz::distance::osa;
use serde_json::Value as Json;
use uuid::Uuid;

use super::MAX_REFERENCES;
use super::datum::{Datum, Type};
use super::tree::Path;
use crate::query::RelatedRows;
use crate::schema::{
    AnyRecord, FieldSchema, FieldType, ObjectRef, Privacy, Registry, Row, ValueRef, system,
};
use crate::value::{Currency, Money, TextValue};

/// The name of the document field that holds the values of a tenant's own fields.
const CUSTOM_FIELDS: &str = "custom_fields";

/// Says which fields an expression may name.
///
/// [`ObjectScope`] does so for the records of an object. A host that evaluates expressions over
/// something else implements it together with [`Values`].
///
/// ```
/// use crm_core::expression::{
///     Context, Datum, Dependency, Expression, Field, Path, PathFault, Scope, Type, Values,
/// };
///
/// /// One number, called `x`.
/// struct Number(i64);
///
/// impl Scope for Number {
///     fn field(&self, path: &Path) -> Result<Field, PathFault> {
///         match path.to_string().as_str() {
///             "x" => Ok(Field::new(Type::Number)),
///             _ => Err(PathFault::Unknown { at: 0, suggestion: None }),
///         }
///     }
/// }
///
/// impl Values for Number {
///     fn value<'v>(&'v self, _: &Dependency) -> Datum<'v> {
///         Datum::Number(self.0.into())
///     }
/// }
///
/// let square = Expression::parse("x * x")?.check(&Number(0))?;
/// # let context = Context::at(chrono::DateTime::UNIX_EPOCH, crm_core::value::TimeZone::UTC);
/// assert_eq!(square.evaluate(&Number(7), &context), Ok(Datum::Number(49.into())));
/// # Ok::<(), crm_core::expression::ExpressionError>(())
/// ```
pub trait Scope {
    /// The field that a path leads to.
    ///
    /// # Errors
    /// If it leads to none, or to one that has no type.
    fn field(&self, path: &Path) -> Result<Field, PathFault>;
}

/// What an expression must know about a field.
#[derive(Clone, Debug)]
pub struct Field {
    /// The type of its values.
    pub value_type: Type,
    /// Whether it may be without a value.
    pub is_nullable: bool,
    /// Whether `=`, `!=` and `in` ignore case (R-088).
    pub ignore_case: bool,
    /// The only texts that it may hold; a comparison with another one is a fault.
    pub options: Option<Vec<String>>,
    /// Whom its values are about.
    pub privacy: Privacy,
    /// Where [`RowValues`] finds it.
    pub place: Option<Place>,
}

impl Field {
    /// A field that may be without a value.
    #[must_use]
    pub const fn new(value_type: Type) -> Self {
        Self {
            value_type,
            is_nullable: true,
            ignore_case: false,
            options: None,
            privacy: Privacy::Public,
            place: None,
        }
    }
}

impl Field {
    /// The same field of numbers as amounts of money that are all in one currency. Anything but a
    /// number stays what it is.
    #[must_use]
    pub fn in_currency(mut self, currency: Currency) -> Self {
        if let (Type::Number, Some(place)) = (self.value_type, &mut self.place) {
            self.value_type = Type::Money;
            place.currency = Some(Denomination::Always(currency));
        }
        self
    }
}

/// Why a path leads to no field; `at` is the place of the faulty name in the path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// There is no such field.
    Unknown {
        /// The place of the name.
        at: usize,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The member of the document has no definition.
    Undefined {
        /// The place of the name.
        at: usize,
    },
    /// The field is a document, which has no type as a whole.
    Untyped {
        /// The place of the name.
        at: usize,
    },
    /// The path goes on behind a field that is not a reference.
    NotAReference {
        /// The place of the name.
        at: usize,
    },
    /// The path follows more than [`MAX_REFERENCES`] references.
    TooManyReferences,
    /// The field must not be looked at; see [`ObjectScope::without`].
    Withheld {
        /// The place of the name.
        at: usize,
    },
}

/// A field that an expression reads.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// As the expression names it.
    pub path: Path,
    /// What is known about it.
    pub field: Field,
}

impl Dependency {
    /// The references that lead to the field, and the objects that they lead to; none for a field
    /// of the record itself. Known where the scope is an [`ObjectScope`].
    pub fn references(&self) -> impl Iterator<Item = (&At, &ObjectRef)> {
        let steps = self.field.place.iter().flat_map(|place| &place.steps);
        steps.map(|step| (&step.reference, &step.object))
    }

    /// Whether the field is one of the record itself. Known where the scope is an [`ObjectScope`].
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.references().next().is_none()
    }

    /// Where the field is in its own record: the record itself, or the last one that
    /// [`references`](Self::references) lead to.
    #[must_use]
    pub fn at(&self) -> Option<&At> {
        self.field.place.as_ref().map(|place| &place.at)
    }
}

/// Where a field is in a row: its place in the schema and, of a document, the member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// The place of the field in the schema.
    pub index: usize,
    /// The key of the member, for a field of the tenant's own.
    pub member: Option<Box<str>>,
}

impl At {
    /// The id that a reference at this place of a row holds.
    #[must_use]
    pub fn id_in(&self, row: &dyn AnyRecord) -> Option<Uuid> {
        match self.read(Laid::plain(row), Type::Id) {
            Datum::Id(id) => Some(id),
            _ => None,
        }
    }

    /// The value of the field in a row, as one of a type; null where it is none.
    #[inline]
    fn read<'r>(&self, row: Laid<'r>, value_type: Type) -> Datum<'r> {
        let value = row.value(self.index);
        let Some(member) = &self.member else {
            return Datum::from_value(value, value_type);
        };
        member_of(value, member, value_type)
    }
}

/// A row, perhaps with another document than the one it has.
#[derive(Clone, Copy)]
struct Laid<'r> {
    row: &'r dyn AnyRecord,
    document: Option<(usize, &'r Json)>,
}

impl<'r> Laid<'r> {
    const fn plain(row: &'r dyn AnyRecord) -> Self {
        Self {
            row,
            document: None,
        }
    }

    #[inline]
    fn value(self, index: usize) -> ValueRef<'r> {
        match self.document {
            Some((place, json)) if place == index => {
                ValueRef::Json(std::borrow::Cow::Borrowed(json))
            }
            _ => self.row.value(index),
        }
    }
}

fn member_of<'r>(value: ValueRef<'r>, member: &str, value_type: Type) -> Datum<'r> {
    use std::borrow::Cow;
    let ValueRef::Json(document) = value else {
        return Datum::Null;
    };
    match document {
        Cow::Borrowed(document) => document
            .get(member)
            .map_or(Datum::Null, |json| Datum::from_json(json, value_type)),
        Cow::Owned(document) => document.get(member).map_or(Datum::Null, |json| {
            Datum::from_json(json, value_type).into_owned()
        }),
    }
}

/// Where [`RowValues`] finds a field: references to follow, and the field behind them.
#[derive(Clone, Debug)]
pub struct Place {
    steps: Vec<Step>,
    at: At,
    /// Of money, what the currency is.
    currency: Option<Denomination>,
}

/// The currency of an amount.
#[derive(Clone, Debug)]
enum Denomination {
    /// That of another field.
    Field(At),
    /// One for all records.
    Always(Currency),
}

/// A reference to follow.
#[derive(Clone, Debug)]
struct Step {
    reference: At,
    object: ObjectRef,
}

impl Place {
    #[inline]
    fn read<'r>(&self, row: Laid<'r>, value_type: Type) -> Datum<'r> {
        let Some(currency) = &self.currency else {
            return self.at.read(row, value_type);
        };
        let Datum::Number(amount) = self.at.read(row, Type::Number) else {
            return Datum::Null;
        };
        let currency = match currency {
            Denomination::Field(at) => at.read(row, Type::Text),
            Denomination::Always(currency) => {
                return Datum::Money(Money::new(amount, *currency));
            }
        };
        let Datum::Text(currency) = currency else {
            return Datum::Null;
        };
        match Currency::parse(&currency) {
            Ok(currency) => Datum::Money(Money::new(amount, currency)),
            Err(_) => Datum::Null,
        }
    }
}

/// Tells what the fields hold for one record.
pub trait Values {
    /// The value of a field: of the type that the scope promised, or null.
    fn value<'v>(&'v self, dependency: &Dependency) -> Datum<'v>;
}

/// The values of one row, and of those that its references lead to.
///
/// A stored value that is not one of the field's type, such as a member of a document from before
/// the field was defined, counts as none, and so does an amount without a currency.
#[derive(Clone, Copy)]
pub struct RowValues<'a> {
    row: Laid<'a>,
    related: Option<&'a RelatedRows<'a>>,
}

impl std::fmt::Debug for RowValues<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowValues")
            .field("object", &self.row.row.object().name())
            .finish_non_exhaustive()
    }
}

impl<'a> RowValues<'a> {
    /// The values of a row; its references lead to nothing.
    #[must_use]
    pub const fn new(row: &'a dyn AnyRecord) -> Self {
        Self {
            row: Laid::plain(row),
            related: None,
        }
    }

    /// The same, with what finds the rows that references lead to. A row that is not found, as one
    /// that is deleted, has no values.
    #[must_use]
    pub const fn with_related(row: &'a dyn AnyRecord, related: &'a RelatedRows<'a>) -> Self {
        Self {
            row: Laid::plain(row),
            related: Some(related),
        }
    }

    /// The same, with another document in the place of the one that the row has at `index`: for
    /// values that are being computed.
    #[must_use]
    pub const fn with_document(mut self, index: usize, document: &'a Json) -> Self {
        self.row.document = Some((index, document));
        self
    }

    fn target(&self, step: &Step, id: Uuid) -> Option<Row> {
        self.related
            .and_then(|related| related.get(&step.object, id))
    }
}

impl Values for RowValues<'_> {
    #[inline]
    fn value<'v>(&'v self, dependency: &Dependency) -> Datum<'v> {
        let Some(place) = &dependency.field.place else {
            return Datum::Null;
        };
        let value_type = dependency.field.value_type;
        if place.steps.is_empty() {
            return place.read(self.row, value_type);
        }
        let mut reached: Option<Row> = None;
        for step in &place.steps {
            let row = reached.as_deref().map_or(self.row, Laid::plain);
            let Datum::Id(id) = step.reference.read(row, Type::Id) else {
                return Datum::Null;
            };
            let Some(target) = self.target(step, id) else {
                return Datum::Null;
            };
            reached = Some(target);
        }
        let row = reached.as_deref().map_or(self.row, Laid::plain);
        place.read(row, value_type).into_owned()
    }
}

/// Finds the definition of a field of the tenant's own by its name: the key under which its values
/// stand in the document, and what is known about the field.
pub type CustomFields<'a> = dyn Fn(&ObjectRef, &str) -> Option<(Box<str>, FieldSchema)> + 'a;

/// The fields of an object, and those of the objects that its references lead to.
///
/// A field of the tenant's own is named `custom_fields.region`, or `region` where the object has no
/// field of that name, and needs a definition: without one its type is not known. The definitions are
/// those of the registry, if it is [the tenant's](crate::Session::registry), or given
/// [otherwise](Self::with_custom_fields).
#[derive(Clone, Copy)]
pub struct ObjectScope<'a> {
    object: &'a ObjectRef,
    registry: &'a Registry,
    custom: Option<&'a CustomFields<'a>>,
    withheld: Option<&'a [&'a str]>,
}

impl std::fmt::Debug for ObjectScope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectScope")
            .field("object", &self.object.name())
            .finish_non_exhaustive()
    }
}

/// A field on the way of a path.
struct Reached {
    at: At,
    field: FieldSchema,
    /// The one currency of its values.
    currency: Option<Currency>,
    /// How many names of the path lead here.
    names: usize,
}

impl<'a> ObjectScope<'a> {
    /// The fields of `object`; `registry` knows the objects that references lead to.
    #[must_use]
    pub const fn new(object: &'a ObjectRef, registry: &'a Registry) -> Self {
        Self {
            object,
            registry,
            custom: None,
            withheld: None,
        }
    }

    /// The same, with the definitions of the tenant's own fields of any object.
    ///
    /// ```
    /// use crm_core::expression::{Expression, ObjectScope, Type};
    /// use crm_core::schema::{Entity, FieldSchema, FieldType, ObjectRef, Registry};
    /// use crm_core::accounts::Account;
    ///
    /// let registry = Registry::default();
    /// let defined = |_: &ObjectRef, name: &str| {
    ///     let field = || FieldSchema::new("region", FieldType::text(50));
    ///     (name == "region").then(|| ("c_17".into(), field()))
    /// };
    /// let scope = ObjectScope::new(Account::schema(), &registry).with_custom_fields(&defined);
    /// let region = Expression::parse(r#"upper(region) & custom_fields.region"#)?;
    /// assert_eq!(region.check(&scope)?.result_type(), Type::Text);
    /// # Ok::<(), crm_core::expression::ExpressionError>(())
    /// ```
    #[must_use]
    pub const fn with_custom_fields(self, custom: &'a CustomFields<'a>) -> Self {
        Self {
            custom: Some(custom),
            ..self
        }
    }

    /// The same without fields of the record itself that an expression must not look at, as what it
    /// decides changes them: these, and those that every write changes, such as `version`.
    #[must_use]
    pub const fn without(self, fields: &'a [&'a str]) -> Self {
        Self {
            withheld: Some(fields),
            ..self
        }
    }

    fn is_withheld(&self, index: usize) -> bool {
        let name = self.object.field_name(index);
        self.withheld
            .is_some_and(|fields| system::is_stamp(index) || fields.contains(&name))
    }

    /// The definition of a field of the tenant's own, as what `names` names of a path lead to.
    fn defined(&self, object: &ObjectRef, name: &str, names: usize) -> Option<Reached> {
        let index = object.field_index(CUSTOM_FIELDS)?;
        let (key, field, currency) = match self.custom {
            Some(custom) => {
                let (key, field) = custom(object, name)?;
                (key, field, None)
            }
            None => {
                let object = self.registry.described(object);
                let custom = object.custom_field(name)?;
                (custom.key.clone(), custom.field.clone(), custom.currency)
            }
        };
        let member = Some(key);
        Some(Reached {
            at: At { index, member },
            field,
            currency,
            names,
        })
    }

    /// The field of `object` that the names of a path from `from` on lead to.
    fn reach(&self, object: &ObjectRef, path: &Path, from: usize) -> Result<Reached, PathFault> {
        let name = path.name(from).unwrap_or_default();
        let own = object.field_index(name).zip(object.field(name));
        let Some((index, field)) = own else {
            let defined = self.defined(object, name, 1);
            return defined.ok_or_else(|| PathFault::Unknown {
                at: from,
                suggestion: suggestion(&self.registry.described(object), name),
            });
        };
        if field.field_type != FieldType::Json {
            return Ok(Reached {
                at: At {
                    index,
                    member: None,
                },
                field: field.clone(),
                currency: None,
                names: 1,
            });
        }
        let Some(member) = path.name(from + 1) else {
            return Err(PathFault::Untyped { at: from });
        };
        let defined = match name {
            CUSTOM_FIELDS => self.defined(object, member, 2),
            _ => None,
        };
        defined.ok_or(PathFault::Undefined { at: from + 1 })
    }

    /// Where the currency of an amount is.
    fn currency(&self, object: &ObjectRef, field: &FieldType) -> Option<At> {
        let FieldType::Decimal {
            currency_field: Some(name),
            ..
        } = field
        else {
            return None;
        };
        let own = object.field_index(name).map(|index| At {
            index,
            member: None,
        });
        own.or_else(|| Some(self.defined(object, name, 1)?.at))
    }
}

impl Scope for ObjectScope<'_> {
    fn field(&self, path: &Path) -> Result<Field, PathFault> {
        let mut object = self.object.clone();
        let mut steps: Vec<Step> = Vec::new();
        let mut from = 0;
        loop {
            let Reached {
                at,
                field,
                currency,
                names,
            } = self.reach(&object, path, from)?;
            if from + names == path.names().len() {
                if steps.is_empty() && self.is_withheld(at.index) {
                    return Err(PathFault::Withheld { at: from });
                }
                let described = self.described(&object, path, steps, at, field)?;
                return Ok(match currency {
                    Some(currency) => described.in_currency(currency),
                    None => described,
                });
            }
            let target = field
                .reference()
                .and_then(|(target, _)| self.registry.object(target))
                .ok_or(PathFault::NotAReference {
                    at: from + names - 1,
                })?;
            if steps.len() == MAX_REFERENCES {
                return Err(PathFault::TooManyReferences);
            }
            steps.push(Step {
                reference: at,
                object: target.clone(),
            });
            object = target;
            from += names;
        }
    }
}

impl ObjectScope<'_> {
    fn described(
        &self,
        object: &ObjectRef,
        path: &Path,
        steps: Vec<Step>,
        at: At,
        field: FieldSchema,
    ) -> Result<Field, PathFault> {
        let last = path.names().len().saturating_sub(1);
        let stored = Type::of(&field.field_type).ok_or(PathFault::Untyped { at: last })?;
        let currency = self.currency(object, &field.field_type);
        let currency = currency.map(Denomination::Field);
        let options = match &field.field_type {
            FieldType::Picklist { options } => {
                Some(options.iter().map(|option| option.to_string()).collect())
            }
            _ => None,
        };
        Ok(Field {
            value_type: if currency.is_some() {
                Type::Money
            } else {
                stored
            },
            is_nullable: !field.required || at.member.is_some() || !steps.is_empty(),
            ignore_case: field.ignore_case && stored == Type::Text,
            options,
            privacy: field.privacy,
            place: Some(Place {
                steps,
                at,
                currency,
            }),
        })
    }
}

/// The name of a field that was probably meant by another one.
fn suggestion(object: &ObjectRef, name: &str) -> Option<String> {
    // A reference is followed by its own name: `account_id.industry`, not `account.industry`.
    let reference = format!("{name}_id");
    if object.field_index(&reference).is_some() {
        return Some(reference);
    }
    let own = object.fields().iter().map(|field| &*field.name);
    let custom = object.custom_fields().iter();
    let custom = custom.map(|custom| &*custom.field.name);
    nearest(name, own.chain(custom)).map(str::to_owned)
}

/// The name nearest to another one, if one differs in a third of its letters at most.
pub(super) fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let length = name.chars().count();
    // Names as long as this are meant to be another one.
    if length > 100 {
        return None;
    }
    let name = name.to_lowercase();
    names
        .map(|known| (osa::distance(name.chars(), known.chars()), known))
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
