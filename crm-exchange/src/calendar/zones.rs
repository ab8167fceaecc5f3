//! Which IANA time zone a calendar means.

use std::collections::HashMap;
use std::str::FromStr as _;

use calcard::common::timezone::Tz;
use calcard::icalendar::{
    ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarProperty, ICalendarValue,
};
use chrono::{NaiveDate, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _};
use crm_core::value::TimeZone;

/// Zones that are tried before all others where only offsets are known.
const USUAL: [chrono_tz::Tz; 14] = [
    chrono_tz::Europe::Berlin,
    chrono_tz::Europe::London,
    chrono_tz::Europe::Helsinki,
    chrono_tz::America::New_York,
    chrono_tz::America::Chicago,
    chrono_tz::America::Denver,
    chrono_tz::America::Los_Angeles,
    chrono_tz::America::Sao_Paulo,
    chrono_tz::Asia::Kolkata,
    chrono_tz::Asia::Shanghai,
    chrono_tz::Asia::Tokyo,
    chrono_tz::Asia::Dubai,
    chrono_tz::Australia::Sydney,
    chrono_tz::Pacific::Auckland,
];

/// The zones that one calendar names.
#[derive(Debug, Default)]
pub(super) struct Zones {
    known: HashMap<String, TimeZone>,
}

impl Zones {
    /// The zones that a calendar describes: by name (also those of Windows), by `X-LIC-LOCATION`,
    /// or else by their offsets.
    pub(super) fn of(calendar: &ICalendar) -> Self {
        let mut known = HashMap::new();
        for component in calendar.timezones() {
            let named = component
                .timezone()
                .and_then(|(id, tz)| Some((id, iana(tz)?)));
            let id = component
                .property(&ICalendarProperty::Tzid)
                .and_then(|entry| entry.values.first())
                .and_then(ICalendarValue::as_text);
            let found = match (named, id) {
                (Some((id, zone)), _) => Some((id, zone)),
                (None, Some(id)) => by_offsets(calendar, component).map(|zone| (id, zone)),
                (None, None) => None,
            };
            if let Some((id, zone)) = found {
                known.insert(id.to_owned(), zone);
            }
        }
        Self { known }
    }

    /// The zone that a `TZID` means.
    pub(super) fn find(&self, id: &str) -> Option<TimeZone> {
        let known = self.known.get(id).copied();
        known.or_else(|| Tz::from_str(id).ok().and_then(iana))
    }
}

/// A zone as one of the IANA database; a fixed offset of whole hours is one of `Etc`.
fn iana(zone: Tz) -> Option<TimeZone> {
    match zone {
        Tz::Tz(tz) => Some(tz.into()),
        Tz::Fixed(offset) => {
            let seconds = offset.local_minus_utc();
            if seconds == 0 {
                return Some(TimeZone::UTC);
            }
            // `Etc/GMT-2` is two hours ahead.
            let name = format!("Etc/GMT{:+}", -(seconds / 3600));
            let tz = chrono_tz::Tz::from_str(&name).ok()?;
            (seconds % 3600 == 0).then(|| tz.into())
        }
        Tz::Floating => None,
    }
}

fn by_offsets(calendar: &ICalendar, zone: &ICalendarComponent) -> Option<TimeZone> {
    let parts = || {
        let ids = zone.component_ids.iter();
        ids.filter_map(|id| calendar.components.get(usize::try_from(*id).ok()?))
    };
    // Of a zone that tells its history, what holds last: each kind of time by its latest rule.
    let latest = |kind: ICalendarComponentType| {
        let of_kind = parts().filter(|part| part.component_type == kind);
        of_kind.max_by_key(|part| begin(part))
    };
    let standard = latest(ICalendarComponentType::Standard);
    let daylight = latest(ICalendarComponentType::Daylight);
    let daylight = daylight.filter(|daylight| !is_over(daylight, standard));
    let mut offsets: Vec<i32> = [standard, daylight]
        .into_iter()
        .flatten()
        .filter_map(|part| offset(part, &ICalendarProperty::Tzoffsetto))
        .collect();
    offsets.sort_unstable();
    offsets.dedup();
    let day = |month| -> Option<NaiveDateTime> {
        NaiveDate::from_ymd_opt(2026, month, 15)?.and_hms_opt(12, 0, 0)
    };
    let days = [day(1)?, day(7)?];
    let fits = |tz: &chrono_tz::Tz| {
        let mut own: Vec<i32> = days
            .iter()
            .map(|day| tz.offset_from_utc_datetime(day).fix().local_minus_utc())
            .collect();
        own.sort_unstable();
        own.dedup();
        own == offsets
    };
    let all = USUAL.iter().chain(&chrono_tz::TZ_VARIANTS);
    all.copied().find(fits).map(TimeZone::from)
}

/// Since when a part of a zone holds, by the clock.
fn begin(part: &ICalendarComponent) -> Option<NaiveDateTime> {
    let value = part
        .property(&ICalendarProperty::Dtstart)?
        .values
        .first()?
        .as_partial_date_time()?;
    Some(value.to_date_time()?.date_time)
}

/// Whether daylight saving time was given up for standard time.
fn is_over(daylight: &ICalendarComponent, standard: Option<&ICalendarComponent>) -> bool {
    let (Some(from), Some(to)) = (begin(daylight), standard.and_then(begin)) else {
        return false;
    };
    let rule = daylight.property(&ICalendarProperty::Rrule);
    match rule.and_then(|rule| rule.values.first()) {
        Some(ICalendarValue::RecurrenceRule(rule)) => rule.until.is_some() && from < to,
        // Some programs list every change on its own.
        _ => to - from > TimeDelta::days(366),
    }
}

fn offset(part: &ICalendarComponent, name: &ICalendarProperty) -> Option<i32> {
    let value = part
        .property(name)?
        .values
        .first()?
        .as_partial_date_time()?;
    let hours = i32::from(value.tz_hour.or(value.hour)?);
    let minutes = i32::from(value.tz_minute.or(value.minute).unwrap_or(0));
    let seconds = hours * 3600 + minutes * 60;
    Some(if value.tz_minus { -seconds } else { seconds })
}
