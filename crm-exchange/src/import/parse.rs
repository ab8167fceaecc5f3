//! From a cell to the value of a field: pure functions over the field's schema.
//!
//! Every format is decided once for a column (stated, or found in a sample by [`detect`](super::detect)); no cell is
//! guessed at on its own. Messages never repeat a value.

use std::collections::HashMap;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;
use crm_core::error::{FieldError, codes};
use crm_core::schema::{FieldSchema, FieldType, StorageKind, Value};
use crm_core::value::{Currency, TextValue as _};
use isocountry::CountryCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::read::Cell;

/// The mark before the decimals of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalMark {
    /// `1,234.5`
    Point,
    /// `1.234,5`
    Comma,
}

/// What the values of a member of a document, such as `custom_fields.renewal`, are. Without it they
/// are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberType {
    /// A text.
    Text,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A calendar day, kept as in `2026-01-31`.
    Date,
    /// A list of texts.
    List,
}

/// How the cells of a column are written. What is not said is found in a sample of the column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnFormat {
    /// Dates and moments: `DD.MM.YYYY`, `MM/DD/YYYY HH:mm`, or a pattern of chrono with `%`. Dates
    /// as in ISO 8601 are always understood too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The zone of moments that name none, such as `Europe/Berlin`; UTC if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// The mark before the decimals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimal: Option<DecimalMark>,
    /// Whether percentages are fractions: 0.5 for 50 percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<bool>,
    /// What stands between the entries of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<char>,
    /// What the values of a member of a document are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberType>,
}

/// A [`ColumnFormat`] that is complete and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Format {
    /// A pattern of chrono.
    pub(crate) date: Option<String>,
    pub(crate) zone: Tz,
    pub(crate) decimal: DecimalMark,
    pub(crate) fraction: bool,
    pub(crate) separator: char,
    pub(crate) member: MemberType,
}

impl Format {
    /// Completes a format; `Err` names the part that is not valid.
    pub(crate) fn new(said: &ColumnFormat) -> Result<Self, &'static str> {
        let zone = match &said.timezone {
            Some(name) => name.parse().map_err(|_| "timezone")?,
            None => Tz::UTC,
        };
        let date = said.date.as_deref().map(pattern);
        if date.as_deref().is_some_and(|date| !is_pattern(date)) {
            return Err("date");
        }
        Ok(Self {
            date,
            zone,
            decimal: said.decimal.unwrap_or(DecimalMark::Point),
            fraction: said.fraction.unwrap_or_default(),
            separator: said.separator.unwrap_or(';'),
            member: said.member.unwrap_or(MemberType::Text),
        })
    }
}

/// The pattern of chrono for a format such as `DD.MM.YYYY`.
fn pattern(said: &str) -> String {
    const TOKENS: [(&str, &str); 18] = [
        ("YYYY", "%Y"),
        ("yyyy", "%Y"),
        ("YY", "%y"),
        ("yy", "%y"),
        ("MMMM", "%B"),
        ("MMM", "%b"),
        ("MM", "%m"),
        ("M", "%m"),
        ("DD", "%d"),
        ("dd", "%d"),
        ("D", "%d"),
        ("d", "%d"),
        ("HH", "%H"),
        ("H", "%H"),
        ("hh", "%I"),
        ("mm", "%M"),
        ("ss", "%S"),
        ("A", "%p"),
    ];
    if said.contains('%') {
        return said.to_owned();
    }
    let mut pattern = String::new();
    let mut rest = said;
    while let Some(first) = rest.chars().next() {
        match TOKENS.iter().find(|(token, _)| rest.starts_with(token)) {
            Some((token, replacement)) => {
                pattern.push_str(replacement);
                rest = rest.get(token.len()..).unwrap_or_default();
            }
            None => {
                pattern.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    pattern
}

/// Whether a pattern says at least a day.
fn is_pattern(pattern: &str) -> bool {
    use chrono::format::{Item, StrftimeItems};
    let valid = StrftimeItems::new(pattern).all(|item| !matches!(item, Item::Error));
    let has = |any: &[&str]| any.iter().any(|part| pattern.contains(part));
    let whole = has(&["%F", "%D", "%s", "%x", "%c", "%+"]);
    valid && (whole || (has(&["%Y", "%y"]) && has(&["%m", "%b", "%B"]) && has(&["%d", "%e"])))
}

fn wrong(path: &str, wanted: &'static str) -> FieldError {
    FieldError::new(path, codes::WRONG_TYPE, format!("must be {wanted}"))
}

/// The value of a field that a cell says. An empty cell is no value.
pub(crate) fn parse(
    cell: &Cell,
    field: &FieldSchema,
    format: &Format,
) -> Result<Value, FieldError> {
    let path = &*field.name;
    readable(cell, path)?;
    if cell.is_empty() {
        return Ok(Value::Null);
    }
    let value = match field.storage_kind() {
        StorageKind::Boolean => Value::Boolean(
            boolean(cell).ok_or_else(|| wrong(path, "yes or no, true or false, 1 or 0"))?,
        ),
        StorageKind::Integer => {
            let number = number(cell, format.decimal).filter(Decimal::is_integer);
            Value::Decimal(number.ok_or_else(|| wrong(path, "a whole number"))?)
        }
        StorageKind::Decimal => {
            let percent = field.field_type == FieldType::Percent;
            let number = number(cell, format.decimal)
                .filter(|_| percent || !cell.text().contains('%'))
                .ok_or_else(|| wrong(path, "a number"))?;
            let said_in_percent = matches!(cell, Cell::Text(text) if text.contains('%'));
            if percent && format.fraction && !said_in_percent {
                Value::Decimal(number * Decimal::ONE_HUNDRED)
            } else {
                Value::Decimal(number)
            }
        }
        StorageKind::Date => {
            let moment = moment(cell, format).ok_or_else(|| wrong_date(path, format))?;
            Value::Date(moment.date_naive_in(format.zone))
        }
        StorageKind::Timestamp => {
            let moment = moment(cell, format).ok_or_else(|| wrong_date(path, format))?;
            let at = moment.in_zone(format.zone);
            Value::Timestamp(at.ok_or_else(|| {
                wrong(
                    path,
                    "a time that exists in its zone: clocks were set forward then",
                )
            })?)
        }
        StorageKind::List => Value::List(entries(cell, format.separator)),
        StorageKind::Json => Value::Json(
            serde_json::from_str(&cell.text()).map_err(|_| wrong(path, "a JSON document"))?,
        ),
        StorageKind::Uuid | StorageKind::Text => Value::Text(text_of(cell, &field.field_type)),
    };
    let coerced = field.field_type.coerce(value);
    coerced.map_err(|fault| fault.at(path))
}

/// The value of a member of a document.
pub(crate) fn parse_member(
    cell: &Cell,
    path: &str,
    format: &Format,
) -> Result<serde_json::Value, FieldError> {
    use serde_json::Value as Json;
    readable(cell, path)?;
    if cell.is_empty() {
        return Ok(Json::Null);
    }
    Ok(match format.member {
        MemberType::Text => Json::String(cell.text().trim().to_owned()),
        MemberType::Number => {
            let number = number(cell, format.decimal).ok_or_else(|| wrong(path, "a number"))?;
            serde_json::from_str(&number.normalize().to_string()).unwrap_or_default()
        }
        MemberType::Boolean => Json::Bool(
            boolean(cell).ok_or_else(|| wrong(path, "yes or no, true or false, 1 or 0"))?,
        ),
        MemberType::Date => {
            let moment = moment(cell, format).ok_or_else(|| wrong_date(path, format))?;
            Json::String(moment.date_naive_in(format.zone).to_string())
        }
        MemberType::List => entries(cell, format.separator).into(),
    })
}

/// What must hold before a cell is looked at.
fn readable(cell: &Cell, path: &str) -> Result<(), FieldError> {
    match cell {
        Cell::Fault => Err(FieldError::new(
            path,
            "formula_error",
            "the formula of the cell failed or gave a duration",
        )),
        Cell::Garbled(_) => Err(FieldError::new(
            path,
            "undecodable",
            "could not be decoded; state the encoding of the file",
        )),
        _ => Ok(()),
    }
}

fn wrong_date(path: &str, format: &Format) -> FieldError {
    let error = wrong(path, "a date in the format of the column");
    match &format.date {
        Some(pattern) => error.with("format", pattern.as_str()),
        None => error.with("format", "%Y-%m-%d"),
    }
}

/// The text that a text field of some type takes.
fn text_of(cell: &Cell, field_type: &FieldType) -> String {
    let text = cell.text();
    match field_type {
        FieldType::Picklist { options } => {
            let wanted = plain(&text);
            let found = options.iter().find(|option| plain(option) == wanted);
            found.map_or(text, ToString::to_string)
        }
        FieldType::Country => country(&text).unwrap_or(text),
        _ => text,
    }
}

/// Letters and digits in lower case, anything else as one blank: how labels and headers are compared.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut after_lower = false;
    for letter in text.trim().chars() {
        if letter.is_alphanumeric() {
            // A word begins: "firstName".
            if letter.is_uppercase() && after_lower {
                plain.push(' ');
            }
            after_lower = letter.is_lowercase();
            plain.extend(letter.to_lowercase());
        } else {
            after_lower = false;
            if !plain.is_empty() && !plain.ends_with(' ') {
                plain.push(' ');
            }
        }
    }
    plain.truncate(plain.trim_end().len());
    plain
}

/// The codes of the countries by their three-letter codes and English names, in the form in which
/// they are looked up.
static COUNTRIES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut countries = HashMap::new();
    for (name, code) in [
        ("usa", "US"),
        ("united states", "US"),
        ("uk", "GB"),
        ("great britain", "GB"),
        ("united kingdom", "GB"),
        ("south korea", "KR"),
        ("korea", "KR"),
        ("russia", "RU"),
        ("vietnam", "VN"),
    ] {
        countries.insert(name.to_owned(), code);
    }
    for code in CountryCode::as_array() {
        for name in [code.alpha3().to_ascii_lowercase(), plain(code.name())] {
            countries.entry(name).or_insert(code.alpha2());
        }
    }
    countries
});

/// The code of a country that is given by its three-letter code or its English name.
fn country(text: &str) -> Option<String> {
    let known = COUNTRIES.get(&plain(text));
    let known = known.or_else(|| COUNTRIES.get(&text.trim().to_ascii_lowercase()));
    known.map(|code| (*code).to_owned())
}

/// True or false in the ways of spreadsheets and forms.
fn boolean(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Boolean(value) => Some(*value),
        Cell::Number(number) if *number == 1.0 => Some(true),
        Cell::Number(number) if *number == 0.0 => Some(false),
        Cell::Text(text) => match plain(text).as_str() {
            "true" | "t" | "yes" | "y" | "1" | "on" | "x" | "ja" | "j" | "wahr" | "oui"
            | "vrai" | "si" | "sí" | "sim" | "vero" => Some(true),
            "false" | "f" | "no" | "n" | "0" | "off" | "nein" | "falsch" | "non" | "faux"
            | "não" | "falso" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A number of a spreadsheet with the fifteen digits that spreadsheets keep.
pub(crate) fn decimal_of(number: f64) -> Option<Decimal> {
    let text = format!("{number:.14e}");
    Decimal::from_scientific(&text)
        .ok()
        .map(|decimal| decimal.normalize())
}

/// The digits, marks and sign of a number, without blanks, currency signs and the like.
pub(crate) fn digits(text: &str) -> Option<(bool, String)> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let text = without_dash(bare(text));
    let (negative, text) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (true, rest),
        None => match text.strip_suffix(['-', '\u{2212}']) {
            Some(rest) => (true, rest),
            None => (negative, text.strip_prefix('+').unwrap_or(text)),
        },
    };
    let text = bare(text);
    let mut digits = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' | '.' | ',' => digits.push(letter),
            '\'' | '\u{2019}' => {}
            blank if blank.is_whitespace() => {}
            _ => return None,
        }
    }
    digits
        .contains(|c: char| c.is_ascii_digit())
        .then_some((negative, digits))
}

/// A text without what may stand around a number: a currency's sign or code, a percent sign, blanks.
/// Other letters stay, and then it is no number: `A1` is none.
fn bare(text: &str) -> &str {
    let is_sign = |letter: char| letter.is_whitespace() || "$€£¥₹%".contains(letter);
    let mut text = text;
    loop {
        let less = behind_currency(text.trim_start_matches(is_sign));
        let less = before_currency(less.trim_end_matches(is_sign));
        if less.len() == text.len() {
            return text;
        }
        text = less;
    }
}

/// What stands behind the code of a currency, or letters that belong to a dollar sign: `EUR 5`,
/// `US$5`.
fn behind_currency(text: &str) -> &str {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let (code, rest) = text.split_at_checked(letters).unwrap_or(("", text));
    let is_dollar = (1..=3).contains(&letters) && rest.starts_with('$');
    if is_dollar || Currency::parse(code).is_ok() {
        rest
    } else {
        text
    }
}

/// What stands before the code of a currency: `5 EUR`.
fn before_currency(text: &str) -> &str {
    let letters = text
        .bytes()
        .rev()
        .take_while(u8::is_ascii_uppercase)
        .count();
    let place = text.len().saturating_sub(letters);
    match text.split_at_checked(place) {
        Some((rest, code)) if Currency::parse(code).is_ok() => rest,
        _ => text,
    }
}

/// A whole amount of which a dash stands for the decimals: `12,-` is 12, while `12-` is less than
/// nothing.
fn without_dash(text: &str) -> &str {
    let whole = text.trim_end_matches(['-', '\u{2212}', '\u{2013}', '\u{2014}']);
    let has_dash = whole.len() < text.len();
    match whole.strip_suffix([',', '.']) {
        Some(whole) if has_dash => whole,
        _ => text,
    }
}

/// The number that a cell says.
fn number(cell: &Cell, mark: DecimalMark) -> Option<Decimal> {
    let text = match cell {
        Cell::Number(number) => return decimal_of(*number),
        Cell::Text(text) => text,
        _ => return None,
    };
    if text.contains(['e', 'E'])
        && let Ok(number) = Decimal::from_scientific(text.trim())
    {
        return Some(number);
    }
    let (negative, digits) = digits(text)?;
    let (point, group) = match mark {
        DecimalMark::Point => ('.', ','),
        DecimalMark::Comma => (',', '.'),
    };
    let (whole, decimals) = match digits.split_once(point) {
        Some((whole, decimals)) => (whole, decimals),
        None => (digits.as_str(), ""),
    };
    if decimals.contains([point, group]) {
        return None;
    }
    // Groups of three, in India of two: anything else is a number in the other way of writing.
    let mut groups = whole.split(group);
    let first = groups.next().unwrap_or_default();
    let rest: Vec<&str> = groups.collect();
    let well_grouped = rest.last().is_none_or(|last| last.len() == 3)
        && rest.iter().all(|group| matches!(group.len(), 2 | 3))
        && (rest.is_empty() || (1..=3).contains(&first.len()));
    if !well_grouped {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    let plain = format!("{sign}{}.{decimals}", whole.replace(group, ""));
    Decimal::from_str_exact(plain.trim_end_matches('.')).ok()
}

/// A moment as a cell says it.
enum Moment {
    Zoned(DateTime<Utc>),
    Local(NaiveDateTime),
}

impl Moment {
    fn date_naive_in(&self, zone: Tz) -> NaiveDate {
        match self {
            Self::Zoned(at) => at.with_timezone(&zone).date_naive(),
            Self::Local(at) => at.date(),
        }
    }

    /// The earlier one of two, when clocks are set back; none, when they skip the hour.
    fn in_zone(&self, zone: Tz) -> Option<DateTime<Utc>> {
        match self {
            Self::Zoned(at) => Some(*at),
            Self::Local(at) => {
                let at = zone.from_local_datetime(at).earliest()?;
                Some(at.with_timezone(&Utc))
            }
        }
    }
}

fn moment(cell: &Cell, format: &Format) -> Option<Moment> {
    let text = match cell {
        Cell::Moment(at) => return Some(Moment::Local(*at)),
        Cell::Text(text) => text.trim(),
        // A day as digits: 20260131.
        Cell::Number(_) => &cell.text(),
        _ => return None,
    };
    if let Some(pattern) = &format.date
        && let Some(at) = by_pattern(text, pattern)
    {
        return Some(Moment::Local(at));
    }
    if let Some(pattern) = format
        .date
        .as_deref()
        .filter(|p| p.contains("%z") || p.contains('+'))
    {
        let at = DateTime::parse_from_str(text, pattern).ok()?;
        return Some(Moment::Zoned(at.with_timezone(&Utc)));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Moment::Zoned(at.with_timezone(&Utc)));
    }
    const ISO: [&str; 5] = [
        "%Y-%m-%d",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M",
    ];
    let found = ISO.iter().find_map(|pattern| by_pattern(text, pattern));
    found.map(Moment::Local)
}

/// A date or local time by a pattern. A year of two digits is never taken for one of four.
pub(crate) fn by_pattern(text: &str, pattern: &str) -> Option<NaiveDateTime> {
    use chrono::Datelike as _;
    let at = match NaiveDateTime::parse_from_str(text, pattern) {
        Ok(at) => at,
        Err(_) => NaiveDate::parse_from_str(text, pattern)
            .ok()?
            .and_time(NaiveTime::MIN),
    };
    (at.year() >= 1000).then_some(at)
}

fn entries(cell: &Cell, separator: char) -> Vec<String> {
    let text = cell.text();
    let entries = text.split(separator).map(|entry| entry.trim().to_owned());
    entries.filter(|entry| !entry.is_empty()).collect()
}

/// The given and the family name of a whole one: "Ada King Lovelace", "Lovelace, Ada".
pub(crate) fn split_name(text: &str) -> (Option<String>, Option<String>) {
    let joined = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    if let Some((last, first)) = text.split_once(',') {
        return (some(joined(first)), some(joined(last)));
    }
    let text = joined(text);
    match text.rsplit_once(' ') {
        Some((first, last)) => (some(first.to_owned()), some(last.to_owned())),
        None => (None, some(text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(field_type: FieldType) -> FieldSchema {
        FieldSchema::new("field", field_type)
    }

    fn format(change: impl FnOnce(&mut ColumnFormat)) -> Format {
        let mut said = ColumnFormat::default();
        change(&mut said);
        Format::new(&said).unwrap()
    }

    fn decimal(text: &str, mark: DecimalMark) -> Option<String> {
        number(&Cell::from(text), mark).map(|number| number.normalize().to_string())
    }

    #[test]
    fn numbers_are_read_in_both_ways_of_writing() {
        use DecimalMark::{Comma, Point};
        for (text, mark, wanted) in [
            ("1,234.50", Point, Some("1234.5")),
            ("1.234,50", Comma, Some("1234.5")),
            ("1 234,50 €", Comma, Some("1234.5")),
            ("CHF 1'234.50", Point, Some("1234.5")),
            ("$ -12", Point, Some("-12")),
            ("(12.5)", Point, Some("-12.5")),
            ("12-", Point, Some("-12")),
            ("12,34,567", Point, Some("1234567")),
            ("US$ 12", Point, Some("12")),
            ("-12EUR", Point, Some("-12")),
            // A dash for the decimals makes nothing negative.
            ("1.200,- EUR", Comma, Some("1200")),
            ("CHF 1'200.\u{2013}", Point, Some("1200")),
            ("-5,--", Comma, Some("-5")),
            // Letters that belong to no currency.
            ("A1", Point, None),
            ("Q3", Point, None),
            ("12 PM", Point, None),
            ("XYZ 12", Point, None),
            ("EUR", Point, None),
            ("1.2E+05", Point, Some("120000")),
            (".5", Point, Some("0.5")),
            // Written in the other way: refused, not misread.
            ("1.5", Comma, None),
            ("1,5", Point, None),
            ("1.234.567", Point, None),
            ("twelve", Point, None),
            ("", Point, None),
        ] {
            assert_eq!(decimal(text, mark).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_the_stated_format_or_iso() {
        let german = format(|said| said.date = Some("DD.MM.YYYY".into()));
        let date = |text: &str| parse(&Cell::from(text), &field(FieldType::Date), &german);
        let wanted = Value::Date(NaiveDate::from_ymd_opt(2026, 1, 31).unwrap());
        assert_eq!(date("31.01.2026").unwrap(), wanted);
        assert_eq!(date("2026-01-31").unwrap(), wanted);
        assert_eq!(date("01/31/2026").unwrap_err().code, codes::WRONG_TYPE);
        assert!(date("31.01.26").is_err(), "a year of two digits");
        let berlin = format(|said| {
            said.date = Some("DD.MM.YYYY HH:mm".into());
            said.timezone = Some("Europe/Berlin".into());
        });
        let at = |text: &str| parse(&Cell::from(text), &field(FieldType::Timestamp), &berlin);
        let wanted = Value::Timestamp("2026-07-01T07:30:00Z".parse().unwrap());
        assert_eq!(at("01.07.2026 09:30").unwrap(), wanted);
        assert!(at("29.03.2026 02:30").is_err(), "an hour that was skipped");
        assert!(
            Format::new(&ColumnFormat {
                date: Some("MM/DD".into()),
                ..ColumnFormat::default()
            })
            .is_err()
        );
    }

    #[test]
    fn percentages_picklists_countries_and_names() {
        let fraction = format(|said| said.fraction = Some(true));
        let percent = |cell: Cell| parse(&cell, &field(FieldType::Percent), &fraction).unwrap();
        assert_eq!(percent(Cell::Number(0.5)), Value::Decimal(50.into()));
        assert_eq!(percent(Cell::from("50 %")), Value::Decimal(50.into()));
        let options = FieldType::Picklist {
            options: (&["new_business", "other"]).into(),
        };
        let plain_format = format(|_| {});
        let pick = |text: &str| parse(&Cell::from(text), &field(options.clone()), &plain_format);
        assert_eq!(pick("New Business").unwrap(), Value::from("new_business"));
        assert_eq!(pick("unheard").unwrap_err().code, codes::NOT_AN_OPTION);
        let land = parse(
            &Cell::from("Germany"),
            &field(FieldType::Country),
            &plain_format,
        );
        assert_eq!(land.unwrap(), Value::from("DE"));
        let both = |first: &str, last: &str| (Some(first.to_owned()), Some(last.to_owned()));
        assert_eq!(
            split_name("Ada King Lovelace"),
            both("Ada King", "Lovelace")
        );
        assert_eq!(split_name("Lovelace, Ada"), both("Ada", "Lovelace"));
        assert_eq!(plain("E-Mail_Address "), "e mail address");
        assert_eq!(plain("firstName"), "first name");
    }

    proptest! {
        #[test]
        fn no_cell_makes_it_panic_and_no_message_tells_a_value(text in "\\PC{0,30}") {
            let types = [FieldType::text(20), FieldType::decimal(), FieldType::Boolean, FieldType::Date,
                FieldType::Timestamp, FieldType::Email, FieldType::Phone, FieldType::List, FieldType::Json,
                FieldType::Percent, FieldType::Country, FieldType::Currency, FieldType::Uuid];
            for field_type in types {
                if let Err(error) = parse(&Cell::from(text.as_str()), &field(field_type), &format(|_| {})) {
                    prop_assert!(text.len() < 8 || !error.message.contains(&text));
                }
            }
        }

        #[test]
        fn numbers_written_with_groups_come_back(number in -9_999_999_999_i64..9_999_999_999, comma: bool) {
            let wanted = Decimal::new(number, 2);
            let (mark, point, group) = if comma { (DecimalMark::Comma, ",", ".") } else { (DecimalMark::Point, ".", ",") };
            let whole = (number.abs() / 100).to_string();
            let mut grouped = String::new();
            for (place, digit) in whole.chars().enumerate() {
                if place > 0 && (whole.len() - place).is_multiple_of(3) { grouped.push_str(group); }
                grouped.push(digit);
            }
            let sign = if number < 0 { "-" } else { "" };
            let text = format!("{sign}{grouped}{point}{:02}", number.abs() % 100);
            prop_assert_eq!(super::number(&Cell::Text(text), mark), Some(wanted));
        }

        #[test]
        fn dates_written_in_a_format_come_back(days in 0..400_000_i32, at in 0..4_usize) {
            let date = NaiveDate::from_ymd_opt(1000, 1, 1).unwrap() + chrono::Days::new(days.unsigned_abs().into());
            let said = ["DD.MM.YYYY", "MM/DD/YYYY", "D MMM YYYY", "YYYY/MM/DD"][at];
            let format = format(|format| format.date = Some(said.into()));
            let text = date.format(format.date.as_deref().unwrap()).to_string();
            let parsed = parse(&Cell::Text(text), &field(FieldType::Date), &format);
            prop_assert_eq!(parsed.unwrap(), Value::Date(date));
        }
    }
}
