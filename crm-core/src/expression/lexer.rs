//! The words of a source.

use rust_decimal::Decimal;

use super::fault::{Found, Span, codes};

/// One word of a source.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    Number(Decimal),
    Text(String),
    /// A keyword or a part of the path of a field, or the name of a function.
    Name(String),
    Symbol(Symbol),
    End,
}

/// A sign of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Ampersand,
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Open,
    Close,
    Comma,
    Dot,
}

/// A word and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) span: Span,
}

/// The word at the begin of a text and how many bytes it has, or what is wrong with these.
type Read = Result<(Word, usize), (usize, &'static str)>;

/// The words of a source, the last of them its end, and every fault.
pub(super) fn tokens(source: &str) -> (Vec<Token>, Vec<Found>) {
    let (mut tokens, mut faults) = (Vec::new(), Vec::new());
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let start = source.len() - rest.len();
        let read = match first {
            '"' | '\'' => text(rest, first),
            '0'..='9' => number(rest),
            'a'..='z' | 'A'..='Z' | '_' => Ok(name(rest)),
            _ => symbol(rest, first),
        };
        let length = match read {
            Ok((word, length)) => {
                let span = Span::new(start, start + length);
                tokens.push(Token { word, span });
                length
            }
            Err((length, message)) => {
                let span = Span::new(start, start + length);
                faults.push(Found::new(span, codes::SYNTAX, message));
                length
            }
        };
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    tokens.push(Token {
        word: Word::End,
        span: Span::new(source.len(), source.len()),
    });
    (tokens, faults)
}

fn text(rest: &str, quote: char) -> Read {
    let mut value = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == '\0' {
            return Err((rest.len(), "a text must not contain the NUL character"));
        }
        if character != quote {
            value.push(character);
        } else if characters.next_if(|(_, next)| *next == quote).is_some() {
            value.push(quote);
        } else {
            return Ok((Word::Text(value), at + 1));
        }
    }
    Err((
        rest.len(),
        "the text does not end; close it with the quote that it begins with",
    ))
}

fn number(rest: &str) -> Read {
    let digits = |from: &str| from.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(rest);
    if let Some(fraction) = rest.get(length..).and_then(|rest| rest.strip_prefix('.')) {
        let decimals = digits(fraction);
        if decimals == 0 {
            return Err((length + 1, "write digits behind the point, such as 12.5"));
        }
        length += 1 + decimals;
    }
    let (number, behind) = rest.split_at(length);
    if behind.starts_with(is_of_name) || behind.starts_with('.') {
        let more = behind.find(|c| !is_of_name(c) && c != '.');
        let length = length + more.unwrap_or(behind.len());
        return Err((
            length,
            "write a number with digits and a point, such as 12.5",
        ));
    }
    match Decimal::from_str_exact(number) {
        Ok(number) => Ok((Word::Number(number), length)),
        Err(_) => Err((length, "give a number of at most 28 digits")),
    }
}

fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn name(rest: &str) -> (Word, usize) {
    let length = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
    let name = rest.get(..length).unwrap_or_default();
    (Word::Name(name.to_owned()), length)
}

fn symbol(rest: &str, first: char) -> Read {
    const SYMBOLS: [(&str, Symbol); 18] = [
        ("==", Symbol::Equal),
        ("!=", Symbol::NotEqual),
        ("<>", Symbol::NotEqual),
        ("<=", Symbol::AtMost),
        (">=", Symbol::AtLeast),
        ("=", Symbol::Equal),
        ("<", Symbol::Less),
        (">", Symbol::Greater),
        ("+", Symbol::Plus),
        ("-", Symbol::Minus),
        ("*", Symbol::Star),
        ("/", Symbol::Slash),
        ("%", Symbol::Percent),
        ("&", Symbol::Ampersand),
        ("(", Symbol::Open),
        (")", Symbol::Close),
        (",", Symbol::Comma),
        (".", Symbol::Dot),
    ];
    for (wrong, advice) in [
        ("&&", "write `and`"),
        ("||", "write `or`, or `&` to join texts"),
        ("!", "write `not`, or `!=`"),
    ] {
        if rest.starts_with(wrong) && !rest.starts_with("!=") {
            return Err((wrong.len(), advice));
        }
    }
    for (sign, symbol) in SYMBOLS {
        if rest.starts_with(sign) {
            return Ok((Word::Symbol(symbol), sign.len()));
        }
    }
    Err((
        first.len_utf8(),
        "this character is not part of the language",
    ))
}
