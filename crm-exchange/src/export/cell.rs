//! What all formats share: how values become texts, and where rows go.

use std::fmt::Write as _;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use chrono_tz::Tz;
use crm_core::schema::Value;

use super::{Column, ExportError};
use crate::spreadsheet::defuse;

/// Where the rows of an export go.
pub(super) trait Sink: Send {
    /// Writes what stands in front of the rows.
    fn header(&mut self, columns: &[Column]) -> Result<(), ExportError>;
    /// Writes one row, a value for each column.
    fn row(&mut self, columns: &[Column], values: &[Value]) -> Result<(), ExportError>;
    /// Writes what stands behind the rows, and gives how many cells were cut.
    fn finish(self: Box<Self>) -> Result<u64, ExportError>;
}

/// How values are written as texts.
#[derive(Clone, Debug)]
pub(super) struct Formats {
    pub(super) zone: Tz,
    /// Empty for ISO 8601.
    pub(super) date: String,
    /// Empty for RFC 3339 with microseconds.
    pub(super) timestamp: String,
    pub(super) decimal_comma: bool,
}

impl Default for Formats {
    fn default() -> Self {
        Self {
            zone: Tz::UTC,
            date: String::new(),
            timestamp: String::new(),
            decimal_comma: false,
        }
    }
}

impl Formats {
    /// Refuses formats that say nothing to `strftime`, before anything is written.
    pub(super) fn check(&self) -> Result<(), ExportError> {
        let is_wrong =
            |format: &str| StrftimeItems::new(format).any(|item| matches!(item, Item::Error));
        let epoch = DateTime::<Utc>::default();
        if is_wrong(&self.date)
            || is_wrong(&self.timestamp)
            || self.date(epoch.date_naive()).is_none()
            || self.timestamp(epoch).is_none()
        {
            return Err(ExportError::TimeFormat);
        }
        Ok(())
    }

    /// The day as a text; none where the format asks for what a day does not have.
    fn date(&self, date: NaiveDate) -> Option<String> {
        let mut text = String::new();
        if self.date.is_empty() {
            write!(text, "{date}").ok()?;
        } else {
            write!(text, "{}", date.format(&self.date)).ok()?;
        }
        Some(text)
    }

    fn timestamp(&self, at: DateTime<Utc>) -> Option<String> {
        let local = at.with_timezone(&self.zone);
        if self.timestamp.is_empty() {
            return Some(local.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
        let mut text = String::new();
        write!(text, "{}", local.format(&self.timestamp)).ok()?;
        Some(text)
    }

    /// The value as the text of a cell, safe for spreadsheet programs. Only numbers and booleans
    /// are left as they are: a text such as `-1` may be the beginning of a formula, the number is
    /// none.
    pub(super) fn text(&self, value: &Value) -> String {
        match value {
            Value::Null => String::new(),
            Value::Boolean(value) => value.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Decimal(number) => {
                let text = number.normalize().to_string();
                if self.decimal_comma {
                    text.replace('.', ",")
                } else {
                    text
                }
            }
            other => defuse(&self.plain(other)).into_owned(),
        }
    }

    /// The text of a value that is no number, not yet defused.
    pub(super) fn plain(&self, value: &Value) -> String {
        match value {
            Value::Text(text) => text.clone(),
            Value::Date(date) => self.date(*date).unwrap_or_default(),
            Value::Timestamp(at) => self.timestamp(*at).unwrap_or_default(),
            Value::Uuid(id) => id.to_string(),
            // One entry a line would break rows in two for many programs.
            Value::List(entries) => entries.join(", "),
            other => other.to_json().to_string(),
        }
    }
}
