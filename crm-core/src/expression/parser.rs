//! From words to a tree: a parser by binding powers (Pratt, "Top down operator precedence", 1973).

use super::fault::{ExpressionError, Found, Span, codes, located};
use super::lexer::{Symbol, Token, Word, tokens};
use super::tree::{Among, Kind, Node, Operator, Path, power};
use super::{MAX_DEPTH, MAX_LIST, MAX_NODES, MAX_SOURCE_BYTES};

/// The words that are not names of fields, in lower case; they are read in any case.
pub(super) const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "is", "null", "true", "false"];

type Parsed<T> = Result<T, Found>;

/// Reads a source; also tells how many parts it has.
pub(super) fn parse(source: &str) -> Result<(Node, usize), ExpressionError> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!("the expression has more than {MAX_SOURCE_BYTES} bytes; shorten it");
        let fault = Found::new(Span::new(0, source.len()), codes::TOO_LONG, message);
        return Err(located(source, vec![fault]));
    }
    let (tokens, faults) = tokens(source);
    if !faults.is_empty() {
        return Err(located(source, faults));
    }
    let mut parser = Parser {
        tokens: &tokens,
        depth: 0,
        nodes: 0,
    };
    match parser.whole() {
        Ok(tree) => Ok((tree, parser.nodes)),
        Err(fault) => Err(located(source, vec![fault])),
    }
}

struct Parser<'a> {
    /// What is not yet read.
    tokens: &'a [Token],
    depth: usize,
    nodes: usize,
}

/// What may stand behind an operand.
#[derive(Clone, Copy)]
enum Infix {
    Operator(Operator),
    In { is_in: bool },
    Is,
}

impl Infix {
    const fn power(self) -> u8 {
        match self {
            Self::Operator(operator) => operator.power(),
            Self::In { .. } | Self::Is => power::COMPARISON,
        }
    }
}

impl<'a> Parser<'a> {
    fn whole(&mut self) -> Parsed<Node> {
        if matches!(self.word(), Word::End) {
            return Err(self.fault("the expression is empty; write a field, value or function"));
        }
        let node = self.expression(0)?;
        match self.word() {
            Word::End => Ok(node),
            Word::Symbol(Symbol::Close) => Err(self.fault("there is no `(` for this `)`")),
            _ => Err(self.fault("an operator is missing in front of this")),
        }
    }

    fn word(&self) -> &'a Word {
        self.tokens.first().map_or(&Word::End, |token| &token.word)
    }

    fn span(&self) -> Span {
        self.tokens
            .first()
            .map_or(Span::default(), |token| token.span)
    }

    fn advance(&mut self) -> Span {
        let span = self.span();
        // The end stays.
        if self.tokens.len() > 1 {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        span
    }

    fn fault(&self, message: impl Into<String>) -> Found {
        Found::new(self.span(), codes::SYNTAX, message)
    }

    fn takes(&mut self, symbol: Symbol) -> bool {
        let is_next = *self.word() == Word::Symbol(symbol);
        if is_next {
            self.advance();
        }
        is_next
    }

    fn is_keyword(&self, at: usize, keyword: &str) -> bool {
        let word = self.tokens.get(at).map(|token| &token.word);
        matches!(word, Some(Word::Name(name)) if name.eq_ignore_ascii_case(keyword))
    }

    fn takes_keyword(&mut self, keyword: &str) -> bool {
        let is_next = self.is_keyword(0, keyword);
        if is_next {
            self.advance();
        }
        is_next
    }

    fn node(&mut self, span: Span, kind: Kind) -> Parsed<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the expression has more than {MAX_NODES} parts; simplify it");
            return Err(Found::new(span, codes::TOO_MANY_NODES, message));
        }
        let below = kind.children().into_iter().map(|node| node.depth).max();
        let depth = below.unwrap_or(0) + 1;
        if depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        Ok(Node { kind, span, depth })
    }

    fn infix(&self) -> Option<Infix> {
        let operator = match self.word() {
            Word::Symbol(symbol) => match symbol {
                Symbol::Plus => Operator::Add,
                Symbol::Minus => Operator::Subtract,
                Symbol::Star => Operator::Multiply,
                Symbol::Slash => Operator::Divide,
                Symbol::Percent => Operator::Remainder,
                Symbol::Ampersand => Operator::Join,
                Symbol::Equal => Operator::Equal,
                Symbol::NotEqual => Operator::NotEqual,
                Symbol::Less => Operator::Less,
                Symbol::AtMost => Operator::AtMost,
                Symbol::Greater => Operator::Greater,
                Symbol::AtLeast => Operator::AtLeast,
                Symbol::Open | Symbol::Close | Symbol::Comma | Symbol::Dot => return None,
            },
            Word::Name(_) if self.is_keyword(0, "and") => Operator::And,
            Word::Name(_) if self.is_keyword(0, "or") => Operator::Or,
            Word::Name(_) if self.is_keyword(0, "is") => return Some(Infix::Is),
            Word::Name(_) if self.is_keyword(0, "in") => return Some(Infix::In { is_in: true }),
            Word::Name(_) if self.is_keyword(0, "not") && self.is_keyword(1, "in") => {
                return Some(Infix::In { is_in: false });
            }
            _ => return None,
        };
        Some(Infix::Operator(operator))
    }

    /// An operand and all operators behind it that bind at least as strongly as `least`.
    fn expression(&mut self, least: u8) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.span()));
        }
        let mut left = self.operand(least)?;
        let mut is_compared = false;
        while let Some(infix) = self.infix() {
            let power = infix.power();
            if power < least {
                break;
            }
            if power == power::COMPARISON {
                if is_compared {
                    let message = "comparisons are not chained; join them with `and`";
                    return Err(Found::new(self.span(), codes::CHAINED_COMPARISON, message));
                }
                is_compared = true;
            }
            self.advance();
            left = self.behind(left, infix)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn behind(&mut self, left: Node, infix: Infix) -> Parsed<Node> {
        let begin = left.span;
        let left = Box::new(left);
        match infix {
            Infix::Operator(operator) => {
                let right = self.expression(operator.power() + 1)?;
                let span = begin.to(right.span);
                self.node(span, Kind::Binary(operator, left, Box::new(right)))
            }
            Infix::Is => {
                let is_null = !self.takes_keyword("not");
                let span = begin.to(self.span());
                if !self.takes_keyword("null") {
                    return Err(self.fault("write `is null` or `is not null`"));
                }
                let value = left;
                self.node(span, Kind::IsNull { value, is_null })
            }
            Infix::In { is_in } => {
                if !is_in {
                    self.advance();
                }
                let value = left;
                let (among, end) = if self.takes(Symbol::Open) {
                    let (values, end) = self.list()?;
                    if values.is_empty() {
                        let message = "write at least one value between the parentheses";
                        return Err(Found::new(end, codes::SYNTAX, message));
                    }
                    (Among::Values(values), end)
                } else {
                    let list = match self.word() {
                        Word::Name(_) => self.primary()?,
                        _ => return Err(self.fault("write values in parentheses behind `in`")),
                    };
                    let end = list.span;
                    (Among::List(Box::new(list)), end)
                };
                let kind = Kind::In {
                    value,
                    among,
                    is_in,
                };
                self.node(begin.to(end), kind)
            }
        }
    }

    fn operand(&mut self, least: u8) -> Parsed<Node> {
        let begin = self.span();
        if self.takes(Symbol::Minus) {
            let value = self.expression(power::NEGATION)?;
            let span = begin.to(value.span);
            return self.node(span, Kind::Negate(Box::new(value)));
        }
        if self.is_keyword(0, "not") {
            if least > power::NOT {
                return Err(self.fault("put `not` and its operand in parentheses"));
            }
            self.advance();
            let value = self.expression(power::NOT)?;
            let span = begin.to(value.span);
            return self.node(span, Kind::Not(Box::new(value)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Parsed<Node> {
        let begin = self.span();
        match self.word() {
            Word::Number(number) => {
                self.advance();
                self.node(begin, Kind::Number(*number))
            }
            Word::Text(text) => {
                self.advance();
                self.node(begin, Kind::Text(text.as_str().into()))
            }
            Word::Symbol(Symbol::Open) => {
                self.advance();
                let mut node = self.expression(0)?;
                let end = self.span();
                if !self.takes(Symbol::Close) {
                    return Err(self.fault("a `)` is missing here"));
                }
                node.span = begin.to(end);
                Ok(node)
            }
            Word::Name(name) => self.named(name),
            Word::End => Err(self.fault("the expression ends too early; a value is missing")),
            Word::Symbol(_) => Err(self.fault("a value is missing in front of this")),
        }
    }

    /// A literal word, the call of a function or a field.
    fn named(&mut self, name: &'a str) -> Parsed<Node> {
        let begin = self.span();
        let lower = name.to_ascii_lowercase();
        let literal = match lower.as_str() {
            "null" => Some(Kind::Null),
            "true" => Some(Kind::Boolean(true)),
            "false" => Some(Kind::Boolean(false)),
            word if KEYWORDS.contains(&word) => {
                return Err(self.fault(format!("a value is missing in front of `{word}`")));
            }
            _ => None,
        };
        self.advance();
        if let Some(literal) = literal {
            return self.node(begin, literal);
        }
        if self.takes(Symbol::Open) {
            let (arguments, end) = self.list()?;
            let name = lower.into();
            return self.node(begin.to(end), Kind::Call { name, arguments });
        }
        let (mut names, mut end): (Vec<Box<str>>, Span) = (vec![name.into()], begin);
        while self.takes(Symbol::Dot) {
            let Word::Name(name) = self.word() else {
                return Err(self.fault("the name of a field is missing behind the point"));
            };
            end = self.advance();
            names.push(name.as_str().into());
        }
        self.node(begin.to(end), Kind::Field(Path::new(names)))
    }

    /// What stands between parentheses, of which the first is read, and where they close.
    fn list(&mut self) -> Parsed<(Vec<Node>, Span)> {
        let mut nodes = Vec::new();
        let end = self.span();
        if self.takes(Symbol::Close) {
            return Ok((nodes, end));
        }
        loop {
            if nodes.len() == MAX_LIST {
                let message = format!("there are more than {MAX_LIST} entries; leave some out");
                return Err(Found::new(self.span(), codes::TOO_MANY, message));
            }
            nodes.push(self.expression(0)?);
            let end = self.span();
            if self.takes(Symbol::Close) {
                return Ok((nodes, end));
            }
            if !self.takes(Symbol::Comma) {
                return Err(self.fault("a `,` or `)` is missing here"));
            }
        }
    }
}

fn too_deep(span: Span) -> Found {
    let message = format!("the expression is nested more than {MAX_DEPTH} deep; simplify it");
    Found::new(span, codes::TOO_DEEP, message)
}
