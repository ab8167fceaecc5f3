//! [`CompiledRule`]: a rule bound to the schema of its object, ready to compare records.

use std::sync::Arc;

use rust_decimal::Decimal;
use uuid::Uuid;

use super::normal::Form;
use super::rule::{BlockingKey, Criterion, FieldComparison, KeyForm, KeyPart, MatchRule, Method};
use crate::error::{Faults, ValidationError, codes};
use crate::query::locate;
use crate::schema::{FieldSet, FieldType, ObjectRef, Privacy, StorageKind};
use crate::storage::Digests;

/// A [`MatchRule`] bound to the schema of an object: names are places, and all that can be computed
/// once for a record is told apart from what is computed for a pair.
///
/// ```
/// use crm_core::contacts::Contact;
/// use crm_core::duplicates::{CompiledRule, Criterion, MatchRule, Method};
/// use crm_core::schema::{Entity, Meta};
/// use crm_core::{Actor, Record, Stamp};
/// use uuid::Uuid;
///
/// let rule = MatchRule::new(Criterion::field("last_name", Method::JaroWinkler { at_least: 0.9 }));
/// let rule = CompiledRule::new(&rule, Uuid::nil(), Contact::schema())?;
/// let stamp = Stamp { at: chrono::DateTime::UNIX_EPOCH, by: Actor::System };
/// let record = |last| Record::new(Meta::first(Uuid::nil(), stamp), Contact::named("A", last));
/// let (a, b) = (rule.prepare(&record("Lovelace")), rule.prepare(&record("Lovelase")));
/// assert!(rule.score(&a, &b).unwrap() > 0.9);
/// assert_eq!(rule.explain(&a, &b).comparisons[0].field, "last_name");
/// # Ok::<(), crm_core::Error>(())
/// ```
#[derive(Debug)]
pub struct CompiledRule {
    pub(super) id: Uuid,
    pub(super) object: ObjectRef,
    pub(super) slots: Vec<Slot>,
    pub(super) root: Node,
    pub(super) keys: Vec<CompiledKey>,
    pub(super) digests: Option<Arc<dyn Digests>>,
    fields: FieldSet,
}

/// A form of some fields, computed once for each record.
#[derive(Debug, PartialEq)]
pub(super) struct Slot {
    pub(super) places: Vec<Place>,
    pub(super) form: Form,
}

/// Where a value stands.
#[derive(Debug, PartialEq)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) member: Option<Box<str>>,
    /// How the member's values are held, where the tenant defined it.
    pub(super) kind: Option<StorageKind>,
    /// Where its canonical form stands, if it is a telephone number.
    pub(super) e164: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Mean {
        at_least: f64,
        present: f64,
        terms: Vec<Term>,
    },
    Leaf(Leaf),
}

#[derive(Debug)]
pub(super) struct Term {
    pub(super) leaf: Leaf,
    pub(super) weight: f64,
    pub(super) missing: Option<f64>,
}

#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) slot: usize,
    pub(super) metric: Metric,
    pub(super) at_least: f64,
    pub(super) field: String,
    pub(super) method: &'static str,
}

/// How two forms are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Metric {
    Equal,
    JaroWinkler,
    Levenshtein,
    Number { within: Decimal },
    Date { within_days: u32, swapped: bool },
}

#[derive(Debug)]
pub(super) struct CompiledKey {
    pub(super) slots: Vec<usize>,
    /// Tells this key from the others of the rule.
    pub(super) signature: String,
    /// Whether records that share it are duplicates without further comparison.
    pub(super) is_decisive: bool,
}

impl CompiledRule {
    /// Binds a rule to the schema of its object. `id` tells the keys of one rule from those of
    /// others.
    ///
    /// # Errors
    /// Every unknown field, method that does not fit its field, threshold out of range, and part of
    /// the rule without a key, each with its path.
    pub fn new(rule: &MatchRule, id: Uuid, object: &ObjectRef) -> Result<Self, ValidationError> {
        let mut compiler = Compiler {
            object,
            slots: Vec::new(),
            faults: Faults::default(),
            comparisons: 0,
        };
        let root = compiler.node(&rule.when, "when", 1);
        if compiler.comparisons > MatchRule::MAX_COMPARISONS {
            compiler.fault("when", codes::TOO_MANY, "has too many comparisons");
        }
        if rule.keys.len() > MatchRule::MAX_KEYS {
            compiler.fault("keys", codes::TOO_MANY, "has too many keys");
        }
        let decisive = decisive_keys(&rule.when);
        let mut wanted = rule.keys.clone();
        if wanted.is_empty() {
            wanted = compiler.derived_keys(&rule.when, "when");
        }
        wanted.extend(decisive.iter().cloned());
        let mut keys: Vec<CompiledKey> = Vec::new();
        for (place, key) in wanted.iter().enumerate() {
            let is_decisive = decisive.contains(key);
            let key = compiler.key(key, &format!("keys[{place}]"), is_decisive);
            if keys.iter().all(|known| known.signature != key.signature) {
                keys.push(key);
            }
        }
        let Compiler { slots, faults, .. } = compiler;
        faults.into_result()?;
        let mut fields = FieldSet::default();
        for place in slots.iter().flat_map(|slot| &slot.places) {
            fields.insert(place.index);
            place.e164.iter().for_each(|index| fields.insert(*index));
        }
        Ok(Self {
            id,
            object: object.clone(),
            slots,
            root: root.unwrap_or(Node::Any(Vec::new())),
            keys,
            digests: None,
            fields,
        })
    }

    /// Makes keys with digests of a tenant: those of its storage, where that encrypts what keys are made
    /// of ([`Storage::digests`](crate::storage::Storage::digests)).
    #[must_use]
    pub fn with_digests(mut self, digests: Option<Arc<dyn Digests>>) -> Self {
        self.digests = digests;
        self
    }

    /// The id that tells its keys from those of other rules.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The object whose records it compares.
    #[must_use]
    pub const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The fields that it looks at.
    #[must_use]
    pub const fn fields(&self) -> &FieldSet {
        &self.fields
    }
}

struct Compiler<'a> {
    object: &'a ObjectRef,
    slots: Vec<Slot>,
    faults: Faults,
    comparisons: usize,
}

impl Compiler<'_> {
    fn fault(&mut self, path: &str, code: &'static str, message: &'static str) {
        self.faults.add(path, code, message);
    }

    fn node(&mut self, criterion: &Criterion, path: &str, depth: usize) -> Option<Node> {
        if depth > MatchRule::MAX_DEPTH {
            self.fault(path, codes::TOO_MANY, "is nested too deeply");
            return None;
        }
        match criterion {
            Criterion::All(all) => Some(Node::All(self.nodes(all, "all", path, depth))),
            Criterion::Any(any) => Some(Node::Any(self.nodes(any, "any", path, depth))),
            Criterion::Mean(mean) => {
                let path = format!("{path}.mean");
                self.share(mean.at_least, false, &format!("{path}.at_least"));
                self.share(mean.present, true, &format!("{path}.present"));
                if mean.of.is_empty() {
                    self.fault(&format!("{path}.of"), codes::REQUIRED, "compares nothing");
                }
                let mut terms = Vec::with_capacity(mean.of.len());
                for (place, term) in mean.of.iter().enumerate() {
                    let path = format!("{path}.of[{place}]");
                    if !(term.weight > 0.0 && term.weight.is_finite()) {
                        let path = format!("{path}.weight");
                        self.fault(&path, codes::OUT_OF_RANGE, "must be greater than 0");
                    }
                    if let Some(missing) = term.missing {
                        self.share(missing, true, &format!("{path}.missing"));
                    }
                    terms.extend(self.leaf(&term.comparison, &path, true).map(|leaf| Term {
                        leaf,
                        weight: term.weight,
                        missing: term.missing,
                    }));
                }
                Some(Node::Mean {
                    at_least: mean.at_least,
                    present: mean.present,
                    terms,
                })
            }
            Criterion::Compare(comparison) => self.leaf(comparison, path, false).map(Node::Leaf),
        }
    }

    fn nodes(&mut self, all: &[Criterion], name: &str, path: &str, depth: usize) -> Vec<Node> {
        let path = format!("{path}.{name}");
        if all.is_empty() {
            self.fault(&path, codes::REQUIRED, "compares nothing");
        }
        let mut nodes = Vec::with_capacity(all.len());
        for (place, one) in all.iter().enumerate() {
            nodes.extend(self.node(one, &format!("{path}[{place}]"), depth + 1));
        }
        nodes
    }

    /// Checks a number from 0 to 1.
    fn share(&mut self, share: f64, zero: bool, path: &str) {
        if !(0.0..=1.0).contains(&share) || (share == 0.0 && !zero) {
            let message = if zero {
                "must be from 0 to 1"
            } else {
                "must be greater than 0 and at most 1"
            };
            self.fault(path, codes::OUT_OF_RANGE, message);
        }
    }

    fn leaf(&mut self, comparison: &FieldComparison, path: &str, weighs: bool) -> Option<Leaf> {
        self.comparisons += 1;
        let (form, metric, at_least) = match &comparison.method {
            Method::Exact => (Form::Exact, Metric::Equal, None),
            Method::CaseFolded => (Form::CaseFolded, Metric::Equal, None),
            Method::Email => (Form::Email, Metric::Equal, None),
            Method::Phone { region } => (Form::Phone(*region), Metric::Equal, None),
            Method::Domain { except } => (domain_form(except), Metric::Equal, None),
            Method::JaroWinkler { at_least } => (Form::Plain, Metric::JaroWinkler, Some(*at_least)),
            Method::Levenshtein { at_least } => (Form::Plain, Metric::Levenshtein, Some(*at_least)),
            Method::Phonetic { algorithm } => (Form::Phonetic(*algorithm), Metric::Equal, None),
            Method::CompanyName { at_least } => {
                (Form::CompanyName, Metric::JaroWinkler, Some(*at_least))
            }
            Method::Number { within } => {
                if within.is_sign_negative() {
                    let path = format!("{path}.within");
                    self.fault(&path, codes::OUT_OF_RANGE, "must not be negative");
                }
                (Form::Number, Metric::Number { within: *within }, None)
            }
            Method::Date {
                within_days,
                swapped,
            } => {
                let metric = Metric::Date {
                    within_days: *within_days,
                    swapped: *swapped,
                };
                (Form::Date, metric, None)
            }
        };
        if let Some(at_least) = at_least {
            self.share(at_least, weighs, &format!("{path}.at_least"));
        }
        let slot = self.slot(&comparison.field, &comparison.also, form, path)?;
        // A number or day that passes may be less alike than any threshold; the others that have
        // no threshold are alike or not.
        let at_least = match metric {
            Metric::Equal => 1.0,
            Metric::Number { .. } | Metric::Date { .. } => f64::MIN_POSITIVE,
            _ => at_least.unwrap_or_default(),
        };
        Some(Leaf {
            slot,
            metric,
            at_least,
            field: comparison.field.to_string(),
            method: comparison.method.name(),
        })
    }

    /// The place of a slot of these fields in this form.
    fn slot(
        &mut self,
        field: &str,
        also: &[std::borrow::Cow<'static, str>],
        form: Form,
        path: &str,
    ) -> Option<usize> {
        let mut places = Vec::with_capacity(1 + also.len());
        places.extend(self.place(field, &form, &format!("{path}.field")));
        for (number, field) in also.iter().enumerate() {
            places.extend(self.place(field, &form, &format!("{path}.also[{number}]")));
        }
        if places.len() != 1 + also.len() {
            return None;
        }
        let slot = Slot { places, form };
        let known = self.slots.iter().position(|known| *known == slot);
        Some(known.unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        }))
    }

    fn place(&mut self, name: &str, form: &Form, path: &str) -> Option<Place> {
        let Ok((at, field)) = locate(self.object, name) else {
            self.fault(path, codes::UNKNOWN_FIELD, "there is no such field");
            return None;
        };
        if field.system || field.privacy == Privacy::Sensitive {
            let message = "fields of the system and secrets are not compared";
            self.fault(path, codes::WRONG_TYPE, message);
            return None;
        }
        let kind = field.storage_kind();
        let fits = match form {
            _ if at.is_untyped() => true,
            _ if kind == StorageKind::Json => {
                let message = "is a document: name a member of it";
                self.fault(path, codes::WRONG_TYPE, message);
                return None;
            }
            Form::Exact => true,
            Form::Number => matches!(
                kind,
                StorageKind::Integer | StorageKind::Decimal | StorageKind::Text
            ),
            Form::Date => matches!(
                kind,
                StorageKind::Date | StorageKind::Timestamp | StorageKind::Text
            ),
            Form::Email | Form::Phone(_) | Form::Domain(_) | Form::CompanyName => {
                matches!(kind, StorageKind::Text | StorageKind::List)
            }
            _ => kind != StorageKind::Boolean,
        };
        if !fits {
            let message = "the values of this field cannot be compared in this way";
            self.fault(path, codes::WRONG_TYPE, message);
            return None;
        }
        let is_phone = at.member.is_none() && field.field_type == FieldType::Phone;
        let e164 = (is_phone && self.object.is_derived(at.index + 1)).then_some(at.index + 1);
        Some(Place {
            index: at.index,
            member: at.member,
            kind: at.custom.map(|custom| custom.kind),
            e164,
        })
    }

    fn key(&mut self, key: &BlockingKey, path: &str, is_decisive: bool) -> CompiledKey {
        if key.0.is_empty() {
            self.fault(path, codes::REQUIRED, "has no part");
        }
        if key.0.len() > MatchRule::MAX_PARTS {
            self.fault(path, codes::TOO_MANY, "has too many parts");
        }
        let mut slots = Vec::with_capacity(key.0.len());
        for (place, part) in key.0.iter().enumerate() {
            let path = format!("{path}[{place}]");
            let form = match &part.form {
                KeyForm::Exact => Form::Exact,
                KeyForm::CaseFolded => Form::CaseFolded,
                KeyForm::First { length } | KeyForm::Last { length } if *length == 0 => {
                    let path = format!("{path}.length");
                    self.fault(&path, codes::OUT_OF_RANGE, "must be greater than 0");
                    continue;
                }
                KeyForm::First { length } => Form::First(*length as usize),
                KeyForm::Last { length } => Form::Last(*length as usize),
                KeyForm::Compact => Form::Compact,
                KeyForm::Digits => Form::Digits,
                KeyForm::SortedDigits => Form::SortedDigits,
                KeyForm::Words => Form::Words,
                KeyForm::Phonetic { algorithm } => Form::Phonetic(*algorithm),
                KeyForm::Email => Form::Email,
                KeyForm::Phone { region } => Form::Phone(*region),
                KeyForm::Domain { except } => domain_form(except),
                KeyForm::CompanyName => Form::CompanyName,
            };
            slots.extend(self.slot(&part.field, &part.also, form, &path));
        }
        CompiledKey {
            slots,
            signature: serde_json::to_string(key).unwrap_or_default(),
            is_decisive,
        }
    }

    /// The keys that a criterion needs so that records which fulfil it are found: all of them where
    /// it compares for equality, most of them where it does not.
    fn derived_keys(&mut self, criterion: &Criterion, path: &str) -> Vec<BlockingKey> {
        let keys = match criterion {
            Criterion::Compare(comparison) => keys_of(comparison),
            Criterion::Mean(mean) => {
                let keys = mean.of.iter().flat_map(|term| keys_of(&term.comparison));
                keys.collect()
            }
            Criterion::Any(any) => {
                let mut keys = Vec::new();
                for (place, one) in any.iter().enumerate() {
                    keys.extend(self.derived_keys(one, &format!("{path}.any[{place}]")));
                }
                return keys;
            }
            // One of them is enough: one for equality if there is one.
            Criterion::All(all) => {
                let mut best: Vec<BlockingKey> = Vec::new();
                let mut faults = std::mem::take(&mut self.faults);
                for one in all {
                    let keys = self.derived_keys(one, path);
                    let is_equality = matches!(one, Criterion::Compare(comparison)
                        if equality_form(&comparison.method).is_some());
                    if best.is_empty() || is_equality && !keys.is_empty() {
                        best = keys;
                    }
                    if is_equality {
                        break;
                    }
                }
                std::mem::swap(&mut self.faults, &mut faults);
                best
            }
        };
        if keys.is_empty() {
            let message = "no key can be derived from it: name `keys`";
            self.fault(path, codes::REQUIRED, message);
        }
        keys
    }
}

fn domain_form(except: &[String]) -> Form {
    let except = except.iter().map(|domain| domain.to_lowercase());
    Form::Domain(except.collect())
}

/// The keys of one comparison.
fn keys_of(comparison: &FieldComparison) -> Vec<BlockingKey> {
    let forms = match (&comparison.method, equality_form(&comparison.method)) {
        (_, Some(form)) => vec![form],
        (Method::JaroWinkler { .. } | Method::CompanyName { .. }, _) => vec![
            KeyForm::First { length: 4 },
            KeyForm::Phonetic {
                algorithm: super::PhoneticAlgorithm::Soundex,
            },
        ],
        (Method::Levenshtein { .. }, _) => {
            vec![KeyForm::First { length: 4 }, KeyForm::Last { length: 4 }]
        }
        (Method::Number { within }, _) if within.is_zero() => vec![KeyForm::Exact],
        (Method::Date { .. }, _) => vec![KeyForm::SortedDigits],
        _ => Vec::new(),
    };
    let key = |form| {
        BlockingKey(vec![KeyPart {
            field: comparison.field.clone(),
            also: comparison.also.clone(),
            form,
        }])
    };
    forms.into_iter().map(key).collect()
}

/// The form in which equal values are what the method asks for.
fn equality_form(method: &Method) -> Option<KeyForm> {
    Some(match method {
        Method::Exact => KeyForm::Exact,
        Method::CaseFolded => KeyForm::CaseFolded,
        Method::Email => KeyForm::Email,
        Method::Phone { region } => KeyForm::Phone { region: *region },
        Method::Domain { except } => KeyForm::Domain {
            except: except.clone(),
        },
        Method::Phonetic { algorithm } => KeyForm::Phonetic {
            algorithm: *algorithm,
        },
        Method::CompanyName { at_least } if *at_least >= 1.0 => KeyForm::CompanyName,
        _ => return None,
    })
}

/// The keys that are enough on their own: of each alternative that only compares for equality.
fn decisive_keys(criterion: &Criterion) -> Vec<BlockingKey> {
    let part = |criterion: &Criterion| match criterion {
        Criterion::Compare(comparison) => Some(KeyPart {
            field: comparison.field.clone(),
            also: comparison.also.clone(),
            form: equality_form(&comparison.method)?,
        }),
        _ => None,
    };
    match criterion {
        Criterion::Any(any) => any.iter().flat_map(decisive_keys).collect(),
        Criterion::All(all) if !all.is_empty() => {
            let parts: Option<Vec<KeyPart>> = all.iter().map(part).collect();
            parts.map(BlockingKey).into_iter().collect()
        }
        Criterion::Compare(_) => part(criterion)
            .map(|part| BlockingKey(vec![part]))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}
