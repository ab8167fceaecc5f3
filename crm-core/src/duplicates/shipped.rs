//! Rules to begin with.

use std::borrow::Cow;

use super::entity::DuplicateRule;
use super::rule::{
    BlockingKey, Criterion, FieldComparison, KeyForm, KeyPart, MatchRule, Method,
    PhoneticAlgorithm, WeightedComparison, WeightedMean,
};

/// Mail providers whose domain says nothing of a company.
const MAIL_PROVIDERS: &[&str] = &[
    "aol.com",
    "gmail.com",
    "gmx.de",
    "gmx.net",
    "googlemail.com",
    "hotmail.com",
    "icloud.com",
    "live.com",
    "mail.ru",
    "me.com",
    "msn.com",
    "outlook.com",
    "proton.me",
    "protonmail.com",
    "qq.com",
    "t-online.de",
    "web.de",
    "yahoo.com",
    "yandex.ru",
];

fn mail_providers() -> Vec<String> {
    MAIL_PROVIDERS.iter().map(ToString::to_string).collect()
}

fn comparison(field: &'static str, also: &[&'static str], method: Method) -> FieldComparison {
    FieldComparison {
        field: Cow::Borrowed(field),
        also: also.iter().map(|field| Cow::Borrowed(*field)).collect(),
        method,
    }
}

fn part(field: &'static str, form: KeyForm) -> KeyPart {
    KeyPart {
        field: Cow::Borrowed(field),
        also: Vec::new(),
        form,
    }
}

fn weighted(field: &'static str, method: Method, weight: f64) -> WeightedComparison {
    WeightedComparison {
        comparison: comparison(field, &[], method),
        weight,
        missing: None,
    }
}

impl DuplicateRule {
    /// Persons, for `contact` or `lead`: the same e-mail address, or the same telephone number and a
    /// like family name, or like names at a like company.
    ///
    /// It only warns; make it strict if nothing shall be created twice.
    #[must_use]
    pub fn persons(object: impl Into<String>) -> Self {
        let like = |at_least| Method::JaroWinkler { at_least };
        let sound = KeyForm::Phonetic {
            algorithm: PhoneticAlgorithm::Soundex,
        };
        let phone = comparison("phone", &["mobile"], Method::Phone { region: None });
        let names = WeightedMean {
            at_least: 0.92,
            present: 1.0,
            of: vec![
                weighted("first_name", like(0.8), 1.0),
                weighted("last_name", like(0.85), 1.2),
                weighted("company", Method::CompanyName { at_least: 0.85 }, 1.0),
            ],
        };
        let rule = MatchRule {
            when: Criterion::Any(vec![
                Criterion::field("email", Method::Email),
                Criterion::All(vec![
                    Criterion::Compare(phone.clone()),
                    Criterion::field("last_name", like(0.85)),
                ]),
                Criterion::Mean(names),
            ]),
            keys: vec![
                BlockingKey(vec![part("email", KeyForm::Email)]),
                BlockingKey(vec![KeyPart {
                    field: phone.field,
                    also: phone.also,
                    form: KeyForm::Phone { region: None },
                }]),
                BlockingKey(vec![
                    part("last_name", sound.clone()),
                    part("company", KeyForm::First { length: 3 }),
                ]),
                BlockingKey(vec![
                    part("first_name", sound),
                    part("last_name", KeyForm::Compact),
                ]),
            ],
        };
        let object = object.into();
        Self::new(format!("Persons ({object})"), object, rule)
    }

    /// Companies, for `account`: like names without their legal form, in the same country if both
    /// say one; or the same web site and names that are not too different.
    ///
    /// It only warns; make it strict if nothing shall be created twice.
    #[must_use]
    pub fn companies() -> Self {
        let domain = Method::Domain {
            except: mail_providers(),
        };
        let name = |at_least| Method::CompanyName { at_least };
        let rule = MatchRule {
            when: Criterion::Any(vec![
                Criterion::Mean(WeightedMean {
                    at_least: 0.94,
                    present: 0.5,
                    of: vec![
                        weighted("name", name(0.88), 3.0),
                        weighted("billing_country", Method::Exact, 1.0),
                    ],
                }),
                Criterion::All(vec![
                    Criterion::Compare(comparison("website", &["email"], domain.clone())),
                    Criterion::field("name", name(0.7)),
                ]),
            ]),
            keys: vec![
                BlockingKey(vec![part("name", KeyForm::CompanyName)]),
                BlockingKey(vec![part("name", KeyForm::First { length: 5 })]),
                BlockingKey(vec![KeyPart {
                    field: Cow::Borrowed("website"),
                    also: vec![Cow::Borrowed("email")],
                    form: KeyForm::Domain {
                        except: mail_providers(),
                    },
                }]),
            ],
        };
        Self::new("Companies", "account", rule)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::duplicates::CompiledRule;

    #[test]
    fn the_shipped_rules_fit_their_objects() {
        for rule in [
            DuplicateRule::persons("contact"),
            DuplicateRule::persons("lead"),
            DuplicateRule::companies(),
        ] {
            let objects = crate::objects();
            let object = objects.iter().find(|object| object.name() == rule.object);
            CompiledRule::new(&rule.rule, Uuid::nil(), object.unwrap()).unwrap();
        }
    }
}
