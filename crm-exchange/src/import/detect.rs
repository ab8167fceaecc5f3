//! The format of a column, found in a sample of it: once for the column, never cell by cell.

use chrono::NaiveDateTime;
use crm_core::schema::{FieldType, StorageKind};

use super::parse::{ColumnFormat, DecimalMark, MemberType, by_pattern, digits};
use super::read::Cell;

/// The ways of writing a day that are looked for; the first of those that fit equally well and
/// always mean the same.
const DAYS: [&str; 13] = [
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%d.%m.%y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d-%b-%Y",
];
const TIMES: [&str; 5] = ["", " %H:%M:%S", " %H:%M", "T%H:%M:%S", " %I:%M %p"];

/// What a sample leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// Day and month may be either way round.
    Date,
    /// A mark may stand before decimals or between groups.
    Decimal,
}

/// Completes what is not said of a column's format; `Err` where the sample fits two formats that mean
/// different values.
pub(crate) fn complete(
    said: &ColumnFormat,
    field_type: &FieldType,
    cells: &[&Cell],
) -> Result<ColumnFormat, Unclear> {
    let mut format = said.clone();
    let kind = match (field_type.storage_kind(), said.member) {
        (StorageKind::Json, Some(MemberType::Number)) => StorageKind::Decimal,
        (StorageKind::Json, Some(MemberType::Date)) => StorageKind::Date,
        (StorageKind::Json, Some(MemberType::List)) => StorageKind::List,
        (kind, _) => kind,
    };
    let texts: Vec<&str> = cells
        .iter()
        .filter_map(|cell| match cell {
            Cell::Text(text) if !text.trim().is_empty() => Some(text.trim()),
            _ => None,
        })
        .collect();
    match kind {
        StorageKind::Date | StorageKind::Timestamp if said.date.is_none() => {
            format.date = date_format(&texts)?;
        }
        StorageKind::Decimal | StorageKind::Integer => {
            if said.decimal.is_none() {
                let whole = kind == StorageKind::Integer;
                format.decimal = Some(decimal_mark(&texts, whole)?);
            }
            if *field_type == FieldType::Percent && said.fraction.is_none() {
                format.fraction = Some(are_fractions(cells));
            }
        }
        StorageKind::List if said.separator.is_none() => {
            let has = |mark: char| texts.iter().any(|text| text.contains(mark));
            let found = [';', '|', '\n'].into_iter().find(|mark| has(*mark));
            format.separator = Some(found.unwrap_or(','));
        }
        _ => {}
    }
    Ok(format)
}

/// The format that fits most of the texts; none where ISO 8601 does, or nothing.
fn date_format(texts: &[&str]) -> Result<Option<String>, Unclear> {
    let mut best: Vec<(String, Vec<Option<NaiveDateTime>>)> = Vec::new();
    let mut most = 0;
    for day in DAYS {
        for time in TIMES {
            let pattern = format!("{day}{time}");
            let read: Vec<_> = texts
                .iter()
                .map(|text| by_pattern(text, &pattern))
                .collect();
            let count = read.iter().flatten().count();
            if count > most {
                most = count;
                best.clear();
            }
            if count == most && count > 0 {
                best.push((pattern, read));
            }
        }
    }
    // Two orders of day and month that both fit: never guessed.
    let order = |pattern: &str| pattern.find("%d") < pattern.find("%m");
    let both_orders = best
        .iter()
        .any(|(pattern, _)| pattern.contains("%m") && order(pattern))
        && best
            .iter()
            .any(|(pattern, _)| pattern.contains("%m") && !order(pattern));
    if both_orders {
        return Err(Unclear::Date);
    }
    let first = best.into_iter().next().map(|(pattern, _)| pattern);
    Ok(first.filter(|pattern| pattern != DAYS[0]))
}

/// The decimal mark by what the numbers show: the mark that comes last of both, one before other than
/// three digits, one that comes twice.
fn decimal_mark(texts: &[&str], whole: bool) -> Result<DecimalMark, Unclear> {
    let (mut point, mut comma, mut unclear_point, mut unclear_comma) = (0, 0, 0, 0);
    for (_, digits) in texts.iter().filter_map(|text| digits(text)) {
        let last = digits.rfind(['.', ',']);
        let Some(last) = last else { continue };
        let is_point = digits.get(last..).is_some_and(|rest| rest.starts_with('.'));
        let marks = |mark: char| digits.matches(mark).count();
        let (own, other) = if is_point {
            (marks('.'), marks(','))
        } else {
            (marks(','), marks('.'))
        };
        let behind = digits.len() - last - 1;
        let counts = if own > 1 {
            // Between groups: the other one stands before decimals.
            if is_point { &mut comma } else { &mut point }
        } else if other > 0 || behind != 3 {
            if is_point { &mut point } else { &mut comma }
        } else if is_point {
            &mut unclear_point
        } else {
            &mut unclear_comma
        };
        *counts += 1;
    }
    if point > 0 || comma > 0 {
        return Ok(if point >= comma {
            DecimalMark::Point
        } else {
            DecimalMark::Comma
        });
    }
    // Every mark stands before exactly three digits.
    match (unclear_point, unclear_comma) {
        (0, _) => Ok(DecimalMark::Point),
        (_, 0) if whole => Ok(DecimalMark::Comma),
        _ => Err(Unclear::Decimal),
    }
}

/// Whether percentages are fractions: none is above 1, none has a percent sign, and one is between.
fn are_fractions(cells: &[&Cell]) -> bool {
    let mut between = false;
    for cell in cells.iter().filter(|cell| !cell.is_empty()) {
        let number: Option<f64> = match cell {
            Cell::Number(number) => Some(*number),
            Cell::Text(text) => text.trim().replace(',', ".").parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (0.0..=1.0).contains(&number) => {
                between |= number > 0.0 && number < 1.0;
            }
            _ => return false,
        }
    }
    between
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_date_decides_for_the_column() {
        assert_eq!(
            date_format(&["01/02/2026", "31/01/2026"]),
            Ok(Some("%d/%m/%Y".into()))
        );
        assert_eq!(
            date_format(&["01/02/2026", "01/31/2026"]),
            Ok(Some("%m/%d/%Y".into()))
        );
        assert_eq!(
            date_format(&["01/02/2026", "03/04/2026"]),
            Err(Unclear::Date)
        );
        assert_eq!(date_format(&["2026-01-31", "bad"]), Ok(None));
        assert_eq!(
            date_format(&["31.01.2026 09:30"]),
            Ok(Some("%d.%m.%Y %H:%M".into()))
        );
    }

    #[test]
    fn one_number_decides_for_the_column() {
        use DecimalMark::{Comma, Point};
        assert_eq!(decimal_mark(&["1.234", "1,5"], false), Ok(Comma));
        assert_eq!(decimal_mark(&["1,234", "12"], false), Ok(Point));
        assert_eq!(decimal_mark(&["1.234.567"], false), Ok(Comma));
        assert_eq!(decimal_mark(&["1.234"], true), Ok(Comma));
        assert_eq!(decimal_mark(&["1.234"], false), Err(Unclear::Decimal));
    }
}
