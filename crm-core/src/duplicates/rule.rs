//! [`MatchRule`]: when two records are taken for the same, as data.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::error::{Faults, ValidationError, codes};
use crate::schema::{FieldType, FieldValue, Value, ValueRef};
use crate::value::{Country, ValueError};

/// When two records of one object are taken for the same, and by which keys such records are found.
///
/// In JSON:
///
/// ```
/// use crm_core::duplicates::MatchRule;
///
/// let rule = MatchRule::from_json(&serde_json::json!({
///     "when": {"any": [
///         {"field": "email", "method": "email"},
///         {"all": [
///             {"field": "last_name", "method": "jaro_winkler", "at_least": 0.92},
///             {"field": "custom_fields.member_number", "method": "exact"}
///         ]}
///     ]},
///     "keys": [
///         [{"field": "email", "form": "email"}],
///         [{"field": "last_name", "form": "phonetic", "algorithm": "soundex"}]
///     ]
/// }))?;
/// assert_eq!(rule.keys.len(), 2);
/// let again: MatchRule = serde_json::from_str(&serde_json::to_string(&rule).unwrap()).unwrap();
/// assert_eq!(again, rule);
/// # Ok::<(), crm_core::error::ValidationError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MatchRule {
    /// What must hold.
    pub when: Criterion,
    /// The keys; only records that share one are ever compared. Where there is none, keys are
    /// derived from the comparisons. A comparison for equality that is enough on its own always has
    /// a key.
    pub keys: Vec<BlockingKey>,
}

/// What must hold between two records.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Criterion {
    /// All of these; the score is that of the weakest.
    All(Vec<Criterion>),
    /// Any of these; the score is that of the best that holds.
    Any(Vec<Criterion>),
    /// The weighted mean of several similarities reaches a threshold; it is the score.
    Mean(WeightedMean),
    /// The values of one field are alike; where a record has no value, they are not.
    Compare(FieldComparison),
}

/// A weighted mean of similarities: how persons are matched, where any one field may be wrong.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedMean {
    /// The least mean that is a match, from 0 to 1.
    pub at_least: f64,
    /// The least share of the weights whose fields both records have, from 0 to 1: so that two
    /// nearly empty records are not taken for the same.
    #[serde(default)]
    pub present: f64,
    /// What is compared.
    pub of: Vec<WeightedComparison>,
}

/// A comparison within a mean.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct WeightedComparison {
    /// The comparison. A similarity below its threshold, if it has one, counts as 0.
    #[serde(flatten)]
    pub comparison: FieldComparison,
    /// How much it weighs.
    pub weight: f64,
    /// What counts where a record has no value: a similarity from 0 to 1, or nothing, and then the
    /// comparison is left out of the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<f64>,
}

/// How the values of a field are compared.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FieldComparison {
    /// The field, named as in a [`Filter`](crate::query::Filter): `custom_fields.region` names a
    /// member of a JSON field.
    pub field: Cow<'static, str>,
    /// Other fields that hold the same kind of value, such as `mobile` beside `phone`: a value of
    /// any of them in one record is compared with that of any in the other, and the best counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Cow<'static, str>>,
    /// How.
    #[serde(flatten)]
    pub method: Method,
}

/// A way to compare two values. Similarities go from 0 to 1.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Method {
    /// The same value.
    Exact,
    /// The same text but for case, width and spaces.
    CaseFolded,
    /// The same e-mail address: case and what follows a `+` in the local part (RFC 5233) are
    /// ignored.
    Email,
    /// The same telephone number in E.164 form, however typed; the same digits where it has none.
    Phone {
        /// The country in which numbers without a country code are read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<Country>,
    },
    /// The same domain of a web site or e-mail address, without `www.`.
    Domain {
        /// Domains that say nothing, such as those of mail providers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        except: Vec<String>,
    },
    /// Jaro-Winkler similarity (Winkler 1990, prefix weight 0.1) of the texts without case and
    /// accents: good for names.
    JaroWinkler {
        /// The least similarity that passes.
        #[serde(default)]
        at_least: f64,
    },
    /// Normalised Levenshtein similarity, 1 - distance / longer length, of the texts without case
    /// and accents: good for codes, numbers and longer texts.
    Levenshtein {
        /// The least similarity that passes.
        #[serde(default)]
        at_least: f64,
    },
    /// The texts sound the same.
    Phonetic {
        /// In which language.
        algorithm: PhoneticAlgorithm,
    },
    /// Jaro-Winkler similarity of company names without legal form, punctuation, case and `&`.
    CompanyName {
        /// The least similarity that passes.
        #[serde(default)]
        at_least: f64,
    },
    /// Numbers that differ by at most `within`; the similarity falls evenly to 0 just beyond it.
    Number {
        /// The greatest difference that passes.
        #[serde(default)]
        within: Decimal,
    },
    /// Days that differ by at most `within_days`; the similarity falls evenly to 0 just beyond it.
    Date {
        /// The greatest difference that passes.
        #[serde(default)]
        within_days: u32,
        /// Whether day and month may be swapped, which counts as 0.9.
        #[serde(default)]
        swapped: bool,
    },
}

/// A phonetic algorithm; names that sound the same in its language have the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PhoneticAlgorithm {
    /// American Soundex: coarse, English.
    Soundex,
    /// Double Metaphone (Philips 2000): English with names of many origins.
    DoubleMetaphone,
    /// Kölner Phonetik (Postel 1969): German.
    Cologne,
    /// NYSIIS (Taft 1970): English surnames.
    Nysiis,
}

/// A key under which a record is found: its parts joined. A record in which a part is empty has no
/// such key.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct BlockingKey(pub Vec<KeyPart>);

/// A part of a key.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeyPart {
    /// The field.
    pub field: Cow<'static, str>,
    /// Other fields of the same kind; each value makes a key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Cow<'static, str>>,
    /// What is taken of the value.
    #[serde(flatten)]
    pub form: KeyForm,
}

/// What a key takes of a value.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "form", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyForm {
    /// The value.
    Exact,
    /// The text without case, width and double spaces.
    CaseFolded,
    /// The first letters and digits, without case and accents.
    First {
        /// How many.
        length: u32,
    },
    /// The last letters and digits, without case and accents.
    Last {
        /// How many.
        length: u32,
    },
    /// Letters and digits alone, without case and accents.
    Compact,
    /// Digits alone.
    Digits,
    /// The digits in ascending order, so that swapped ones don't matter.
    SortedDigits,
    /// Each word of at least two letters, without case and accents: a key for every one.
    Words,
    /// The phonetic code.
    Phonetic {
        /// In which language.
        algorithm: PhoneticAlgorithm,
    },
    /// The e-mail address, as [`Method::Email`] compares it.
    Email,
    /// The telephone number, as [`Method::Phone`] compares it.
    Phone {
        /// The country in which numbers without a country code are read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<Country>,
    },
    /// The domain, as [`Method::Domain`] compares it.
    Domain {
        /// Domains that say nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        except: Vec<String>,
    },
    /// The company name, as [`Method::CompanyName`] compares it.
    CompanyName,
}

impl MatchRule {
    /// The greatest depth of nesting.
    pub const MAX_DEPTH: usize = 8;
    /// The most comparisons.
    pub const MAX_COMPARISONS: usize = 50;
    /// The most keys.
    pub const MAX_KEYS: usize = 16;
    /// The most parts of one key.
    pub const MAX_PARTS: usize = 8;

    /// A rule with keys derived from its comparisons.
    #[must_use]
    pub const fn new(when: Criterion) -> Self {
        Self {
            when,
            keys: Vec::new(),
        }
    }

    /// Reads the JSON form.
    ///
    /// ```
    /// use crm_core::duplicates::MatchRule;
    ///
    /// let error = MatchRule::from_json(&serde_json::json!({
    ///     "when": {"any": [{"field": "email", "method": "telepathy"}, {"all": 5}]},
    /// }))
    /// .unwrap_err();
    /// let paths: Vec<_> = error.errors().iter().map(|fault| fault.path.as_str()).collect();
    /// assert_eq!(paths, ["when.any[0]", "when.any[1].all"]);
    /// ```
    ///
    /// # Errors
    /// Every fault with its path. Whether the fields exist is told when the rule meets an object:
    /// [`CompiledRule::new`](super::CompiledRule::new).
    pub fn from_json(json: &Json) -> Result<Self, ValidationError> {
        let mut faults = Faults::default();
        let rule = read_rule(json, &mut faults);
        faults.into_result()?;
        rule.ok_or_else(|| {
            crate::error::FieldError::new("when", codes::REQUIRED, "a value is required").into()
        })
    }

    fn to_json(&self) -> Json {
        let mut json = Map::new();
        json.insert("when".to_owned(), self.when.to_json());
        if !self.keys.is_empty() {
            json.insert("keys".to_owned(), document(&self.keys));
        }
        Json::Object(json)
    }
}

impl Criterion {
    /// A comparison of one field.
    #[must_use]
    pub const fn field(field: &'static str, method: Method) -> Self {
        Self::Compare(FieldComparison {
            field: Cow::Borrowed(field),
            also: Vec::new(),
            method,
        })
    }

    fn to_json(&self) -> Json {
        let each = |all: &[Self]| Json::Array(all.iter().map(Self::to_json).collect());
        match self {
            Self::All(all) => json!({"all": each(all)}),
            Self::Any(any) => json!({"any": each(any)}),
            Self::Mean(mean) => json!({"mean": document(mean)}),
            Self::Compare(comparison) => document(comparison),
        }
    }
}

impl Method {
    /// The name in JSON and in explanations.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::CaseFolded => "case_folded",
            Self::Email => "email",
            Self::Phone { .. } => "phone",
            Self::Domain { .. } => "domain",
            Self::JaroWinkler { .. } => "jaro_winkler",
            Self::Levenshtein { .. } => "levenshtein",
            Self::Phonetic { .. } => "phonetic",
            Self::CompanyName { .. } => "company_name",
            Self::Number { .. } => "number",
            Self::Date { .. } => "date",
        }
    }
}

/// A value that serde writes without fail, as JSON.
fn document(value: &impl serde::Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

fn read_rule(json: &Json, faults: &mut Faults) -> Option<MatchRule> {
    let members = object(json, "", faults)?;
    for name in members.keys() {
        if !matches!(name.as_str(), "when" | "keys") {
            unknown(name, faults);
        }
    }
    let when = match members.get("when") {
        Some(when) => read_criterion(when, "when", 1, faults),
        None => {
            faults.add("when", codes::REQUIRED, "a value is required");
            None
        }
    };
    let mut keys = Vec::new();
    match members.get("keys") {
        None | Some(Json::Null) => {}
        Some(Json::Array(all)) => {
            for (place, key) in all.iter().enumerate() {
                keys.extend(read_leaf::<BlockingKey>(
                    key,
                    &format!("keys[{place}]"),
                    faults,
                ));
            }
        }
        Some(_) => faults.add("keys", codes::WRONG_TYPE, "must be a list of keys"),
    }
    Some(MatchRule { when: when?, keys })
}

fn read_criterion(json: &Json, path: &str, depth: usize, faults: &mut Faults) -> Option<Criterion> {
    if depth > MatchRule::MAX_DEPTH {
        faults.add(path, codes::TOO_MANY, "is nested too deeply");
        return None;
    }
    let members = object(json, path, faults)?;
    for name in ["all", "any", "mean"] {
        let Some(inner) = members.get(name) else {
            continue;
        };
        let path = format!("{path}.{name}");
        if let Some(other) = members.keys().find(|other| *other != name) {
            faults.add(
                path.replace(name, other),
                codes::UNKNOWN_FIELD,
                "`all`, `any` and `mean` stand alone",
            );
        }
        if name == "mean" {
            return read_leaf(inner, &path, faults).map(Criterion::Mean);
        }
        let Json::Array(list) = inner else {
            faults.add(path, codes::WRONG_TYPE, "must be a list");
            return None;
        };
        let mut criteria = Vec::with_capacity(list.len());
        for (place, one) in list.iter().enumerate() {
            let path = format!("{path}[{place}]");
            criteria.extend(read_criterion(one, &path, depth + 1, faults));
        }
        return Some(if name == "all" {
            Criterion::All(criteria)
        } else {
            Criterion::Any(criteria)
        });
    }
    read_leaf(json, path, faults).map(Criterion::Compare)
}

/// Reads what has no criteria inside, and finds members that it does not know.
fn read_leaf<T>(json: &Json, path: &str, faults: &mut Faults) -> Option<T>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    match T::deserialize(json) {
        Ok(leaf) => {
            unknown_members(json, &document(&leaf), path, faults);
            Some(leaf)
        }
        Err(error) => {
            faults.add(path, codes::WRONG_TYPE, error.to_string());
            None
        }
    }
}

/// Finds the members that were given but not read. Empty ones may be left out when written.
fn unknown_members(given: &Json, read: &Json, path: &str, faults: &mut Faults) {
    match (given, read) {
        (Json::Object(given), Json::Object(read)) => {
            for (name, value) in given {
                let path = format!("{path}.{name}");
                match read.get(name) {
                    Some(known) => unknown_members(value, known, &path, faults),
                    None if value.is_null() || *value == json!([]) => {}
                    None => unknown(&path, faults),
                }
            }
        }
        (Json::Array(given), Json::Array(read)) => {
            for (place, (given, read)) in given.iter().zip(read).enumerate() {
                unknown_members(given, read, &format!("{path}[{place}]"), faults);
            }
        }
        _ => {}
    }
}

fn object<'a>(json: &'a Json, path: &str, faults: &mut Faults) -> Option<&'a Map<String, Json>> {
    let members = json.as_object();
    if members.is_none() {
        faults.add(path, codes::WRONG_TYPE, "must be an object");
    }
    members
}

fn unknown(path: &str, faults: &mut Faults) {
    faults.add(path, codes::UNKNOWN_FIELD, "there is no such member");
}

impl Serialize for MatchRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MatchRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Self::from_json(&json).map_err(D::Error::custom)
    }
}

/// A rule is one field of the record that holds it, as a JSON document.
impl FieldValue for MatchRule {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Json(Cow::Owned(self.to_json()))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        Self::from_json(&value.to_json())
            .map_err(|error| ValueError::new("invalid_match_rule", error.to_string()))
    }
}
