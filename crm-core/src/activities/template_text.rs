//! Texts with variables: `Call {{ contact.first_name }} about {{ deal.name }}`.
//!
//! Templates are written by users, so they can do little and cost little: they print variables,
//! through a few filters, and leave parts out with `if`. There are no loops, no assignments, no
//! arithmetic, no joining and nothing from files, so that a template takes steps in proportion to
//! its length; steps and output are limited besides.

use std::collections::BTreeSet;
use std::io::{self, Write};

use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value as Json};

/// The most steps of one template.
const FUEL: u64 = 50_000;
/// The deepest nesting of expressions and conditions.
const DEPTH: usize = 32;
/// What a block may begin with.
const BLOCKS: [&str; 4] = ["if", "elif", "else", "endif"];
/// What an expression is made of besides names, numbers and texts. Others could make a short text
/// long: `*`, `+` and `~` do, and braces would end an expression where it does not seem to end.
const REFUSED: [char; 6] = ['*', '+', '~', '{', '[', '\\'];

/// What is wrong with a template, and where: line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) line: usize,
    pub(super) column: Option<usize>,
}

/// What comes of rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unrendered {
    /// These variables have no value.
    Unknown(BTreeSet<String>),
    /// The text would be longer than this many bytes.
    TooLong,
    /// Something else.
    Faulty(Fault),
}

/// Where something stands in a source.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

/// Refuses what templates may not do, before anything is compiled.
///
/// Whatever the compiler takes for a block or an expression begins with one of these marks in the
/// source, so that none is missed; a mark inside of a quoted text ends the text for this check and
/// makes it stricter, never laxer.
fn check_language(source: &str) -> Result<(), Fault> {
    let fault = |offset: usize, message: String| {
        let (line, column) = position(source, offset);
        Err(Fault {
            message,
            line,
            column: Some(column),
        })
    };
    let mut rest = source;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let offset = source.len() - rest.len() + start;
        let inner_at = offset + 2;
        let inner = source.get(inner_at..).unwrap_or_default();
        let is_block = source.get(offset..inner_at) == Some("{%");
        let end = inner.find(if is_block { "%}" } else { "}}" });
        let Some(end) = end else {
            return fault(offset, "is not closed".to_owned());
        };
        let inner = inner.get(..end).unwrap_or_default();
        // `{%+` and `{{-` say what becomes of the space around.
        let trimmed = inner.strip_prefix(['-', '+']).unwrap_or(inner);
        let trimmed = trimmed.strip_suffix('+').unwrap_or(trimmed);
        let skipped = if trimmed.len() < inner.len() && !inner.starts_with(trimmed) {
            1
        } else {
            0
        };
        if let Some(found) = outside_quotes(trimmed, &REFUSED) {
            let letter = trimmed.get(found..).and_then(|text| text.chars().next());
            let letter = letter.unwrap_or_default();
            return fault(
                inner_at + skipped + found,
                format!("`{letter}` is not allowed here"),
            );
        }
        if is_block {
            let word = trimmed.trim_start();
            let word = word
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next();
            let word = word.unwrap_or_default();
            if !BLOCKS.contains(&word) {
                let known = BLOCKS.join("`, `");
                return fault(offset, format!("`{word}` is not allowed; use `{known}`"));
            }
        }
        rest = source.get(inner_at + end + 2..).unwrap_or_default();
    }
    Ok(())
}

/// The first of some letters that is outside of quotes.
fn outside_quotes(text: &str, letters: &[char]) -> Option<usize> {
    let mut quote = None;
    for (offset, letter) in text.char_indices() {
        match quote {
            // A backslash could make the end of a text look like another place.
            Some(_) if letter == '\\' => return Some(offset),
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None if letters.contains(&letter) => return Some(offset),
            None => {}
        }
    }
    None
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("upper", |text: &str| text.to_uppercase());
    environment.add_filter("lower", |text: &str| text.to_lowercase());
    environment.add_filter("trim", |text: &str| text.trim().to_owned());
    environment.add_filter("join", join);
    environment.add_filter("default", |value: Value, other: Value| {
        if value.is_undefined() || value.is_none() {
            other
        } else {
            value
        }
    });
    // What has no value is nothing, and texts are taken as they are.
    environment.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if !value.is_none() {
            write!(out, "{value}").map_err(|_| Error::from(ErrorKind::WriteFailure))?;
        }
        Ok(())
    });
    environment
}

/// The entries of a list, one after the other.
fn join(list: Value, between: &str) -> Result<String, Error> {
    let mut joined = String::new();
    for entry in list.try_iter()? {
        if !joined.is_empty() {
            joined.push_str(between);
        }
        joined.push_str(&entry.to_string());
        if joined.len() > crate::schema::MULTILINE_LENGTH as usize {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the list is too long",
            ));
        }
    }
    Ok(joined)
}

fn fault(error: &Error) -> Fault {
    let mut message = error.kind().to_string();
    // Faults of the source; those of values could tell of a person.
    let is_of_source = matches!(
        error.kind(),
        ErrorKind::SyntaxError | ErrorKind::UnknownFilter | ErrorKind::UnknownTest
    );
    if is_of_source && let Some(detail) = error.detail() {
        message = format!("{message}: {detail}");
    }
    Fault {
        message,
        line: error.line().unwrap_or(1),
        column: None,
    }
}

/// The variables of a template, with the members that are asked of them: `contact.first_name`.
///
/// # Errors
/// What is wrong with the template.
pub(super) fn variables(source: &str) -> Result<BTreeSet<String>, Fault> {
    check_language(source)?;
    let environment = environment();
    let template = environment.template_from_str(source);
    let template = template.map_err(|error| fault(&error))?;
    Ok(template.undeclared_variables(true).into_iter().collect())
}

/// Fills in a template; at most `limit` bytes come of it.
///
/// # Errors
/// See [`Unrendered`].
pub(super) fn render(
    source: &str,
    context: &Map<String, Json>,
    limit: usize,
) -> Result<String, Unrendered> {
    let names = variables(source).map_err(Unrendered::Faulty)?;
    let unknown = |name: &String| -> bool { value_at(context, name).is_none() };
    // A variable that nobody gave is always an error, also where it would not be printed.
    let missing: BTreeSet<String> = names
        .iter()
        .filter(|name| !context.contains_key(name.split('.').next().unwrap_or_default()))
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(Unrendered::Unknown(missing));
    }
    let environment = environment();
    let template = environment.template_from_str(source);
    let template = template.map_err(|error| Unrendered::Faulty(fault(&error)))?;
    let mut out = Limited {
        text: Vec::new(),
        limit,
        is_full: false,
    };
    let done = template.render_captured_to(Value::from(Serde(context)), &mut out);
    if out.is_full {
        return Err(Unrendered::TooLong);
    }
    match done.map(drop) {
        Ok(()) => String::from_utf8(out.text).map_err(|_| Unrendered::TooLong),
        Err(error) if error.kind() == ErrorKind::UndefinedError => {
            let missing = names.into_iter().filter(unknown).collect();
            Err(Unrendered::Unknown(missing))
        }
        Err(error) => Err(Unrendered::Faulty(fault(&error))),
    }
}

/// The value that a path leads to.
fn value_at<'a>(context: &'a Map<String, Json>, path: &str) -> Option<&'a Json> {
    let mut steps = path.split('.');
    let mut value = context.get(steps.next()?)?;
    for step in steps {
        value = value.get(step)?;
    }
    Some(value)
}

/// Takes so many bytes and no more.
struct Limited {
    text: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len().saturating_add(bytes.len()) > self.limit {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn context() -> Map<String, Json> {
        let context = json!({
            "contact": {"first_name": "Ada <&>", "job_title": null, "tags": ["a", "b"]},
            "account": null,
            "today": "2026-02-01",
        });
        context.as_object().unwrap().clone()
    }

    fn rendered(source: &str) -> Result<String, Unrendered> {
        render(source, &context(), 1_000)
    }

    /// C-017.
    #[test]
    fn variables_are_filled_in() {
        let text = "Call {{ contact.first_name }}{% if contact.job_title %} ({{ contact.job_title }})\
                    {% endif %} on {{ today }}: {{ contact.tags | join(', ') | upper }}";
        assert_eq!(rendered(text).unwrap(), "Call Ada <&> on 2026-02-01: A, B");
        assert_eq!(rendered("[{{ contact.job_title }}]").unwrap(), "[]");
        assert_eq!(
            rendered("{{ contact.job_title | default('x') }}").unwrap(),
            "x"
        );
        assert_eq!(
            rendered("{% if account %}{{ account.name }}{% endif %}-").unwrap(),
            "-"
        );
        assert_eq!(rendered("{{- today -}}").unwrap(), "2026-02-01");
        assert_eq!(rendered("50 % * {x} ~ {# no #}").unwrap(), "50 % * {x} ~ ");
    }

    #[test]
    fn all_unknown_variables_are_told() {
        let unknown = |names: &[&str]| {
            Err(Unrendered::Unknown(
                names.iter().map(|name| (*name).to_owned()).collect(),
            ))
        };
        assert_eq!(
            rendered("{{ b }} {{ a.x }} {{ today }}"),
            unknown(&["a.x", "b"])
        );
        assert_eq!(
            rendered("{% if today %}{% else %}{{ hidden }}{% endif %}"),
            unknown(&["hidden"])
        );
        assert_eq!(
            rendered("{{ account.name }} {{ account.industry }} {{ contact.first_name }}"),
            unknown(&["account.industry", "account.name"])
        );
    }

    #[test]
    fn what_could_cost_much_is_refused() {
        for source in [
            "{% for x in contact.tags %}{{ x }}{% endfor %}",
            "{% set x = 'a' %}",
            "{% include 'x' %}",
            "{%- include '/etc/passwd' -%}",
            "{% raw %}{{ x }}{% endraw %}",
            "{% macro x() %}{% endmacro %}",
            "{{ 'a' * 1000000 }}",
            "{{ today ~ today }}",
            "{{ [1, 2] }}",
            "{{ {'a': 1} }}",
            "{{ 'a\\' }} {{ 'b' * 9 }}",
            "{{ today | replace('2', today) }}",
            "{{ range(1000000) }}",
            "{{ today.format() }}",
            "{{ today",
            "{% if today",
            "{% if today %}",
        ] {
            assert!(rendered(source).is_err(), "{source}");
        }
        let long = "{{ today }}".repeat(200);
        assert_eq!(rendered(&long), Err(Unrendered::TooLong));
        let deep = format!("{{{{ {}today{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(rendered(&deep).is_err());
    }

    #[test]
    fn faults_say_where_they_are() {
        let fault = variables("Call\n  {{ today * 3 }}").unwrap_err();
        assert_eq!((fault.line, fault.column), (2, Some(12)));
        let fault = variables("a\n\n{{ today | nonsense( }}").unwrap_err();
        assert_eq!(fault.line, 3);
    }

    proptest! {
        #[test]
        fn no_template_makes_rendering_panic(source in r"([{}%#'a-z .|*~+()\[\]\\-]|\{\{|\}\}|\{%|%\}|today|if ){0,40}") {
            if let Ok(text) = rendered(&source) {
                prop_assert!(text.len() <= 1_000);
            }
        }
    }
}
