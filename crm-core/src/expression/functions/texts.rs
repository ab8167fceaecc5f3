//! Functions over texts and lists.

use std::borrow::Cow;

use uuid::Uuid;

use super::{Arguments, Making};
use crate::expression::datum::Datum;
use crate::expression::fault::Problem;

type Given<'a> = Result<Datum<'a>, Problem>;

/// A part of a text by bytes, which must begin and end between characters; borrowed where the text
/// is.
fn part(text: Cow<'_, str>, start: usize, end: usize) -> Datum<'_> {
    match text {
        Cow::Borrowed(text) => Datum::from(text.get(start..end).unwrap_or_default()),
        Cow::Owned(text) => Datum::from(text.get(start..end).unwrap_or_default().to_owned()),
    }
}

/// Where the character at a place begins, or the text ends.
fn begin(text: &str, character: usize) -> usize {
    let mut places = text.char_indices().skip(character);
    places.next().map_or(text.len(), |(begin, _)| begin)
}

/// A number of characters; more than there can be is all.
fn characters(arguments: &Arguments<'_, '_>, place: usize) -> Result<usize, Problem> {
    usize::try_from(arguments.whole(place)?).map_err(|_| Problem::OutOfRange)
}

pub(super) fn upper<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let mut made = Making::new(arguments.budget);
    made.push(&arguments.text(0)?.to_uppercase())?;
    made.done()
}

pub(super) fn lower<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let mut made = Making::new(arguments.budget);
    made.push(&arguments.text(0)?.to_lowercase())?;
    made.done()
}

pub(super) fn trim<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let text = arguments.taken_text(0)?;
    let end = text.trim_end().len();
    let start = text.len() - text.trim_start().len();
    Ok(part(text, start.min(end), end))
}

pub(super) fn length<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    Ok(Datum::Number(arguments.text(0)?.chars().count().into()))
}

pub(super) fn left<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let count = characters(arguments, 1)?;
    let text = arguments.taken_text(0)?;
    let end = begin(&text, count);
    Ok(part(text, 0, end))
}

pub(super) fn right<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let count = characters(arguments, 1)?;
    let text = arguments.taken_text(0)?;
    let skipped = text.chars().count().saturating_sub(count);
    let (start, end) = (begin(&text, skipped), text.len());
    Ok(part(text, start, end))
}

pub(super) fn substring<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let first = characters(arguments, 1)?
        .checked_sub(1)
        .ok_or(Problem::OutOfRange)?;
    let count = match arguments.is_given(2) {
        true => characters(arguments, 2)?,
        false => usize::MAX,
    };
    let text = arguments.taken_text(0)?;
    let start = begin(&text, first);
    let end = start + begin(text.get(start..).unwrap_or_default(), count);
    Ok(part(text, start, end))
}

pub(super) fn contains<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let part = arguments.text(1)?;
    let contains = match arguments.get(0) {
        Datum::Text(text) => text.contains(part),
        Datum::List(list) => list.iter().any(|entry| entry == part),
        _ => return Err(Problem::WrongType),
    };
    Ok(Datum::Boolean(contains))
}

pub(super) fn starts_with<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let starts = arguments.text(0)?.starts_with(arguments.text(1)?);
    Ok(Datum::Boolean(starts))
}

pub(super) fn ends_with<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let ends = arguments.text(0)?.ends_with(arguments.text(1)?);
    Ok(Datum::Boolean(ends))
}

pub(super) fn replace<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let (what, by) = (arguments.text(1)?, arguments.text(2)?);
    if what.is_empty() {
        return Ok(arguments.take(0));
    }
    let mut made = Making::new(arguments.budget);
    for (number, between) in arguments.text(0)?.split(what).enumerate() {
        if number > 0 {
            made.push(by)?;
        }
        made.push(between)?;
    }
    made.done()
}

pub(super) fn concat<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let mut made = Making::new(arguments.budget);
    for value in &*arguments.values {
        match value {
            Datum::Text(text) => made.push(text)?,
            Datum::Null => {}
            _ => return Err(Problem::WrongType),
        }
    }
    made.done()
}

pub(super) fn join<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let Some((separator, parts)) = arguments.values.split_first() else {
        return Err(Problem::WrongType);
    };
    let separator = match separator {
        Datum::Text(separator) => separator.as_ref(),
        Datum::Null => return Ok(Datum::Null),
        _ => return Err(Problem::WrongType),
    };
    let mut made = Making::new(arguments.budget);
    let mut is_first = true;
    let mut push = |part: &str| {
        if !std::mem::take(&mut is_first) {
            made.push(separator)?;
        }
        made.push(part)
    };
    for part in parts {
        match part {
            Datum::Text(text) => push(text)?,
            Datum::List(list) => list.iter().try_for_each(|entry| push(entry))?,
            Datum::Null => {}
            _ => return Err(Problem::WrongType),
        }
    }
    made.done()
}

pub(super) fn count<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    match arguments.get(0) {
        Datum::List(list) => Ok(Datum::Number(list.len().into())),
        _ => Err(Problem::WrongType),
    }
}

pub(super) fn text<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let text = match arguments.take(0) {
        same @ Datum::Text(_) => return Ok(same),
        Datum::Number(number) => number.normalize().to_string(),
        Datum::Boolean(value) => value.to_string(),
        Datum::Date(date) => date.to_string(),
        // The form in which a moment is stored.
        Datum::DateTime(at) => at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        Datum::Money(money) => money.to_string(),
        Datum::Id(id) => id.to_string(),
        Datum::List(_) | Datum::Null => return Err(Problem::WrongType),
    };
    Ok(Datum::from(text))
}

pub(super) fn id<'a>(arguments: &mut Arguments<'_, 'a>) -> Given<'a> {
    let id = Uuid::parse_str(arguments.text(0)?.trim());
    id.map(Datum::Id).map_err(|_| Problem::NotAnId)
}
