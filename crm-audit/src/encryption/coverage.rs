//! [`Coverage`]: which values are encrypted, and what stands in their place. Pure.

use std::collections::{BTreeSet, HashMap};

use crm_core::schema::{
    AnyRecord, Entity as _, FieldSchema, FieldType, ObjectRef, ObjectSchema, Privacy, StorageKind,
    search_texts, typed_values,
};
use uuid::Uuid;

use super::DataKey;
use super::keyring::TOKEN_LEAST;

/// What stands in the place of an encrypted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// A token of at most so many characters: of the value, with its case folded where case does not
    /// count.
    Token { length: usize, folded: bool },
    /// A document with a token for each text in it.
    Tokens,
    /// An empty document or list.
    Empty,
    /// Nothing.
    Nothing,
}

/// How the rows of an object are encrypted in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// In no row.
    None,
    /// In every row.
    All(Stand),
    /// In the rows that are made of records whose own documents are encrypted.
    Some(Stand),
}

/// The typed rows of custom fields, by which records are found that a reference in an encrypted
/// document leads to.
#[derive(Clone, Debug)]
pub(super) struct TypedRows {
    pub(super) object: ObjectRef,
    pub(super) record: usize,
    pub(super) field: usize,
    pub(super) target: usize,
}

/// What is encrypted of the rows that the engine makes of records with custom fields.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Typed values: where the document is encrypted.
    values: bool,
    /// Words to be found by: where any of the texts is that they come from.
    words: bool,
}

/// Objects that nobody told of are encrypted.
impl Default for Made {
    fn default() -> Self {
        Self {
            values: true,
            words: true,
        }
    }
}

/// Which fields are encrypted: those that are personal or sensitive, but for the ones that the host
/// leaves plain.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    except: BTreeSet<(String, String)>,
    /// What of the rows that are made of an object's records is encrypted.
    made: HashMap<String, Made>,
    /// The same of the objects that tenants define.
    made_elsewhere: Made,
    typed: Option<TypedRows>,
}

impl Coverage {
    /// Leaves a field plain.
    pub(super) fn except(&mut self, object: &str, field: &str) {
        self.except.insert((object.to_owned(), field.to_owned()));
    }

    /// Learns of an object of the engine.
    pub(super) fn learn(&mut self, object: &ObjectRef) {
        if object.name() == typed_values::OBJECT {
            let place = |name| object.field_index(name);
            let places = place(typed_values::RECORD)
                .zip(place(typed_values::FIELD))
                .zip(place(typed_values::TARGET));
            self.typed = places.map(|((record, field), target)| TypedRows {
                object: object.clone(),
                record,
                field,
                target,
            });
        }
        let Some(document) = object.custom_document() else {
            return;
        };
        let values = self.extent(object, document) != Extent::None;
        let mut fields = object.fields().iter().enumerate();
        let is_searched = |(index, field): (usize, &FieldSchema)| {
            field.searchable && self.extent(object, index) != Extent::None
        };
        let words = values || fields.any(is_searched);
        let made = Made { values, words };
        if object.is_template() {
            self.made_elsewhere = made;
        }
        self.made.insert(object.name().to_owned(), made);
    }

    pub(super) const fn typed(&self) -> Option<&TypedRows> {
        self.typed.as_ref()
    }

    /// Whether any field of the object is encrypted.
    pub(super) fn covers(&self, object: &ObjectSchema) -> bool {
        (0..object.fields().len()).any(|index| self.extent(object, index) != Extent::None)
    }

    /// Whether a search for words looks into encrypted values.
    pub(super) fn covers_search(&self, object: &ObjectSchema) -> bool {
        let fields = object.fields().iter().enumerate();
        let mut covered = fields.filter(|(index, _)| self.stand(object, *index).is_some());
        covered.any(|(index, field)| {
            let is_searched = || {
                let mut custom = object.custom_fields().iter();
                custom.any(|custom| custom.field.searchable)
            };
            field.searchable || object.custom_document() == Some(index) && is_searched()
        })
    }

    /// How a field is encrypted.
    pub(super) fn extent(&self, object: &ObjectSchema, index: usize) -> Extent {
        let Some(field) = object.fields().get(index) else {
            return Extent::None;
        };
        // A key is encrypted by the one above it.
        let is_key = object.name() == DataKey::schema().name();
        let is_plain = field.privacy == Privacy::Public || field.system || is_key;
        if is_plain || self.is_except(object, field) {
            return Extent::None;
        }
        let stand = if object.custom_document() == Some(index) {
            Stand::Tokens
        } else {
            stand_for(field)
        };
        match document_field(object) {
            Some(_) => Extent::Some(stand),
            None => Extent::All(stand),
        }
    }

    /// What stands for a value where the field is encrypted in every row, or in some.
    pub(super) fn stand(&self, object: &ObjectSchema, index: usize) -> Option<Stand> {
        match self.extent(object, index) {
            Extent::None => None,
            Extent::All(stand) | Extent::Some(stand) => Some(stand),
        }
    }

    /// What stands for the value of one row.
    pub(super) fn stand_in(&self, row: &dyn AnyRecord, index: usize) -> Option<Stand> {
        let object = row.object();
        match self.extent(object, index) {
            Extent::None => None,
            Extent::All(stand) => Some(stand),
            Extent::Some(stand) => {
                let of = row.get(document_field(object)?);
                let made = of.as_text().and_then(|name| self.made.get(name));
                // Objects that a tenant defined are told of by nobody.
                let made = made.unwrap_or(&self.made_elsewhere);
                let is_covered = match object.name() {
                    search_texts::OBJECT => made.words,
                    _ => made.values,
                };
                is_covered.then_some(stand)
            }
        }
    }

    fn is_except(&self, object: &ObjectSchema, field: &FieldSchema) -> bool {
        let is_named = |name: &str| {
            let key = (name.to_owned(), field.name.to_string());
            self.except.contains(&key)
        };
        !self.except.is_empty()
            && (is_named(object.name())
                || is_named(object.origin())
                || object
                    .template()
                    .is_some_and(|template| is_named(template.object.name())))
    }
}

/// The field that names the object whose values a derived row of custom fields is made of.
fn document_field(object: &ObjectSchema) -> Option<&'static str> {
    match object.name() {
        typed_values::OBJECT => Some(typed_values::OF),
        search_texts::OBJECT => Some(search_texts::RECORD_OBJECT),
        _ => None,
    }
}

fn stand_for(field: &FieldSchema) -> Stand {
    match field.storage_kind() {
        StorageKind::Text => match field.field_type {
            // It has to be one of the options.
            FieldType::Picklist { .. } => Stand::Nothing,
            _ => {
                let length = field.field_type.max_length();
                let length = length.map_or(usize::MAX, |length| length as usize);
                if length < TOKEN_LEAST {
                    return Stand::Nothing;
                }
                Stand::Token {
                    length,
                    folded: field.ignore_case,
                }
            }
        },
        StorageKind::List | StorageKind::Json => Stand::Empty,
        _ => Stand::Nothing,
    }
}

/// Where values are compared with one another, and nowhere else: a field of an object, whatever it is
/// called now.
pub(super) fn place(object: &ObjectSchema, field: &str) -> String {
    match object.template() {
        Some(template) => place_of(&template.id, field),
        None => format!("{}.{field}", object.origin()),
    }
}

fn place_of(definition: &Uuid, field: &str) -> String {
    format!("{}.{field}", definition.simple())
}
