//! The tree of a source, and the one way to print it.

use std::fmt;

use rust_decimal::Decimal;

use super::fault::Span;

/// The way from a record to a field: the field's name, behind references to follow.
///
/// `amount`, `custom_fields.region`, `account_id.industry`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Box<[Box<str>]>);

impl Path {
    pub(super) fn new(names: Vec<Box<str>>) -> Self {
        Self(names.into())
    }

    /// The names, one behind the other.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// The name at a place.
    pub(super) fn name(&self, at: usize) -> Option<&str> {
        self.0.get(at).map(|name| &**name)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Join,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How strongly operators bind, from the weakest.
pub(super) mod power {
    pub(in super::super) const OR: u8 = 1;
    pub(in super::super) const AND: u8 = 2;
    pub(in super::super) const NOT: u8 = 3;
    pub(in super::super) const COMPARISON: u8 = 4;
    pub(in super::super) const JOIN: u8 = 5;
    pub(in super::super) const SUM: u8 = 6;
    pub(in super::super) const PRODUCT: u8 = 7;
    pub(in super::super) const NEGATION: u8 = 8;
    pub(in super::super) const PRIMARY: u8 = 9;
}

impl Operator {
    pub(super) const fn power(self) -> u8 {
        match self {
            Self::Or => power::OR,
            Self::And => power::AND,
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::AtMost
            | Self::Greater
            | Self::AtLeast => power::COMPARISON,
            Self::Join => power::JOIN,
            Self::Add | Self::Subtract => power::SUM,
            Self::Multiply | Self::Divide | Self::Remainder => power::PRODUCT,
        }
    }

    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::Join => "&",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// A part of a source. Equal parts are equal wherever they stand.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) span: Span,
    /// How deep the tree below is, this part included.
    pub(super) depth: usize,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Boolean(bool),
    Number(Decimal),
    Text(Box<str>),
    Field(Path),
    Negate(Box<Node>),
    Not(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    IsNull {
        value: Box<Node>,
        is_null: bool,
    },
    In {
        value: Box<Node>,
        among: Among,
        is_in: bool,
    },
    Call {
        name: Box<str>,
        arguments: Vec<Node>,
    },
}

/// What `in` looks into.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Among {
    /// Values between parentheses.
    Values(Vec<Node>),
    /// A list.
    List(Box<Node>),
}

impl Kind {
    fn power(&self) -> u8 {
        match self {
            Self::Binary(operator, ..) => operator.power(),
            Self::Not(_) => power::NOT,
            Self::IsNull { .. } | Self::In { .. } => power::COMPARISON,
            Self::Negate(_) => power::NEGATION,
            _ => power::PRIMARY,
        }
    }

    /// The parts right below.
    pub(super) fn children(&self) -> Vec<&Node> {
        match self {
            Self::Null | Self::Boolean(_) | Self::Number(_) | Self::Text(_) | Self::Field(_) => {
                Vec::new()
            }
            Self::Negate(one) | Self::Not(one) | Self::IsNull { value: one, .. } => vec![one],
            Self::Binary(_, left, right) => vec![left, right],
            Self::In { value, among, .. } => match among {
                Among::Values(values) => std::iter::once(&**value).chain(values).collect(),
                Among::List(list) => vec![value, list],
            },
            Self::Call { arguments, .. } => arguments.iter().collect(),
        }
    }
}

/// Prints a part, in parentheses where it binds less strongly than it must.
struct Operand<'a>(&'a Node, u8);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.kind.power() < self.1 {
            write!(f, "({})", self.0)
        } else {
            self.0.fmt(f)
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, nodes: &[Node]) -> fmt::Result {
    for (number, node) in nodes.iter().enumerate() {
        if number > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{node}")?;
    }
    Ok(())
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Null => f.write_str("null"),
            Kind::Boolean(value) => value.fmt(f),
            Kind::Number(number) => number.fmt(f),
            Kind::Text(text) => write!(f, "\"{}\"", text.replace('"', "\"\"")),
            Kind::Field(path) => path.fmt(f),
            Kind::Negate(value) => write!(f, "-{}", Operand(value, power::NEGATION)),
            Kind::Not(value) => write!(f, "not {}", Operand(value, power::NOT)),
            Kind::Binary(operator, left, right) => {
                let power = operator.power();
                // Comparisons are not chained.
                let of_left = power + u8::from(power == power::COMPARISON);
                let (left, right) = (Operand(left, of_left), Operand(right, power + 1));
                write!(f, "{left} {} {right}", operator.sign())
            }
            Kind::IsNull { value, is_null } => {
                let is = if *is_null { "is" } else { "is not" };
                write!(f, "{} {is} null", Operand(value, power::COMPARISON + 1))
            }
            Kind::In {
                value,
                among,
                is_in,
            } => {
                let is_in = if *is_in { "in" } else { "not in" };
                write!(f, "{} {is_in} ", Operand(value, power::COMPARISON + 1))?;
                match among {
                    Among::List(list) => list.fmt(f),
                    Among::Values(values) => {
                        f.write_str("(")?;
                        write_list(f, values)?;
                        f.write_str(")")
                    }
                }
            }
            Kind::Call { name, arguments } => {
                write!(f, "{name}(")?;
                write_list(f, arguments)?;
                f.write_str(")")
            }
        }
    }
}
