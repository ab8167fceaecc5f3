//! [`Facts`]: what a condition says about single fields, for choosing an index.

use crm_core::query::{Comparison, Condition, FieldAt};
use crm_core::schema::Value;
use smallvec::SmallVec;

/// The value of "no value", for facts that borrow their values.
static NULL: [Value; 1] = [Value::Null];

/// What every row that fulfils a condition has in common: the parts of the condition that say
/// something about one field, and that must all be true.
///
/// Facts only ever narrow the candidates: a fact may say less than the part it comes from, never
/// more.
#[derive(Debug)]
pub(crate) struct Facts<'q>(SmallVec<[Fact<'q>; 8]>);

#[derive(Debug)]
struct Fact<'q> {
    field: usize,
    says: Says<'q>,
}

#[derive(Clone, Copy, Debug)]
enum Says<'q> {
    /// The field has one of these values, or a text that is one of them when its case is folded.
    OneOf { values: &'q [Value], folded: bool },
    /// The field is not less than the value, or greater.
    From(Limit<'q>),
    /// The field is not greater than the value, or less.
    To(Limit<'q>),
    /// The field has a value.
    Present,
}

/// Where the values of a field begin or end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit<'q> {
    pub(crate) value: &'q Value,
    /// Whether the value itself is left out.
    pub(crate) strict: bool,
}

impl<'q> Facts<'q> {
    /// The facts of a condition.
    pub(crate) fn of(condition: &'q Condition) -> Self {
        let mut facts = Self(SmallVec::new());
        facts.add(condition);
        facts
    }

    /// Adds the facts of another condition that all rows fulfil.
    pub(crate) fn add(&mut self, condition: &'q Condition) {
        if let Condition::And(all) = condition {
            for one in all {
                self.add(one);
            }
        } else if let Some(fact) = Fact::of(condition) {
            self.0.push(fact);
        }
    }

    fn about(&self, field: usize) -> impl Iterator<Item = Says<'q>> {
        self.0
            .iter()
            .filter(move |fact| fact.field == field)
            .map(|fact| fact.says)
    }

    /// The values of which the field has one, as few as are known.
    pub(crate) fn values(&self, field: usize) -> Option<&'q [Value]> {
        self.one_of(field, false)
    }

    /// The values of which the field has one when its case is folded.
    pub(crate) fn folded_values(&self, field: usize) -> Option<&'q [Value]> {
        self.one_of(field, true)
    }

    fn one_of(&self, field: usize, fold: bool) -> Option<&'q [Value]> {
        self.about(field)
            .filter_map(|says| match says {
                Says::OneOf { values, folded } if fold || !folded => Some(values),
                _ => None,
            })
            .min_by_key(|values| values.len())
    }

    /// The one value that the field has in all rows.
    pub(crate) fn constant(&self, field: usize) -> Option<&'q Value> {
        match self.values(field) {
            Some([value]) => Some(value),
            _ => None,
        }
    }

    /// Where the values of the field begin.
    pub(crate) fn lower(&self, field: usize) -> impl Iterator<Item = Limit<'q>> {
        self.about(field).filter_map(|says| match says {
            Says::From(limit) => Some(limit),
            _ => None,
        })
    }

    /// Where the values of the field end.
    pub(crate) fn upper(&self, field: usize) -> impl Iterator<Item = Limit<'q>> {
        self.about(field).filter_map(|says| match says {
            Says::To(limit) => Some(limit),
            _ => None,
        })
    }

    /// Whether the field has a value, though not which.
    pub(crate) fn is_present(&self, field: usize) -> bool {
        self.about(field)
            .any(|says| matches!(says, Says::From(_) | Says::Present))
    }

    /// Whether the field's values are limited on one side at least.
    pub(crate) fn is_limited(&self, field: usize) -> bool {
        self.about(field)
            .any(|says| !matches!(says, Says::OneOf { .. }))
    }
}

impl<'q> Fact<'q> {
    /// What a condition says, if it says something about one field.
    fn of(condition: &'q Condition) -> Option<Self> {
        let (field, says) = match condition {
            Condition::Compare { field, op, value } if has_order(value) => {
                let folded = field.ignore_case && matches!(value, Value::Text(_));
                let says = match op {
                    Comparison::Eq => Says::OneOf {
                        values: std::slice::from_ref(value),
                        folded,
                    },
                    Comparison::Gt => Says::From(Limit {
                        value,
                        strict: true,
                    }),
                    Comparison::Ge => Says::From(Limit {
                        value,
                        strict: false,
                    }),
                    Comparison::Lt => Says::To(Limit {
                        value,
                        strict: true,
                    }),
                    Comparison::Le => Says::To(Limit {
                        value,
                        strict: false,
                    }),
                    Comparison::Ne => return None,
                };
                (field, says)
            }
            Condition::In { field, values } if values.iter().all(has_order) => {
                let is_text = |value: &Value| matches!(value, Value::Text(_));
                let folded = field.ignore_case && values.iter().any(is_text);
                (field, Says::OneOf { values, folded })
            }
            Condition::Null {
                field,
                is_null: true,
            } => (
                field,
                Says::OneOf {
                    values: &NULL,
                    folded: false,
                },
            ),
            Condition::Null {
                field,
                is_null: false,
            } => (field, Says::Present),
            _ => return None,
        };
        match field {
            FieldAt {
                index,
                member: None,
                ..
            } => Some(Self {
                field: *index,
                says,
            }),
            // A member of a document is not indexed.
            FieldAt {
                member: Some(_), ..
            } => None,
        }
    }
}

/// The field that a condition gives one of some values, and these values; `None` where it says
/// anything else or more.
pub(crate) fn fixed_by(condition: &Condition) -> Option<(usize, &[Value])> {
    match Fact::of(condition)? {
        Fact {
            field,
            says: Says::OneOf {
                values,
                folded: false,
            },
        } => Some((field, values)),
        _ => None,
    }
}

/// Whether values of this kind can be looked up. Lists and documents compare in ways of their own.
const fn has_order(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::List(_) | Value::Json(_))
}
