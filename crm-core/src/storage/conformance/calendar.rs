//! Aggregates by the days, weeks, months, quarters and years of a time zone.

use chrono::NaiveDate;

use super::aggregates::{count, expect_groups, field, query};
use super::fixtures::bare;
use super::harness::{Bench, at, day, row};
use super::objects::Specimen;
use super::{Harness, Outcome};
use crate::query::{CalendarUnit, Grouping, Measure};
use crate::schema::Value;
use crate::value::TimeZone;

async fn expect_calendar(
    bench: &Bench,
    name: &str,
    unit: CalendarUnit,
    zone: &str,
    expected: &[(&str, i64)],
) -> Outcome {
    let time_zone: TimeZone = zone.parse()?;
    let groups = vec![Grouping::Calendar {
        index: field(name)?,
        unit,
        time_zone,
    }];
    let mut wanted = Vec::new();
    for (start, number) in expected {
        let key = if start.is_empty() {
            Value::Null
        } else {
            Value::Date(day(start)?)
        };
        wanted.push((vec![key], vec![count(*number)]));
    }
    let what = format!("`{name}` by {unit:?} in {zone}");
    expect_groups(bench, &query(vec![Measure::Count], groups), wanted, &what).await
}

pub(super) async fn aggregates_by_day_of_a_zone(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = vec![row(bare("Never seen"))];
    for moment in [
        // The last and first moments of days in Berlin, before and after summer time begins.
        "2026-03-28T22:59:59.999999Z",
        "2026-03-28T23:00:00Z",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29T21:59:59.999999Z",
        "2026-03-29T22:00:00Z",
        // The hour that Berlin has twice.
        "2026-10-24T22:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T22:59:59.999999Z",
        "2026-10-25T23:00:00Z",
    ] {
        rows.push(row(Specimen {
            seen_at: Some(at(moment)?),
            ..bare("Seen")
        }));
    }
    bench.insert(rows).await?;
    let day = CalendarUnit::Day;
    let berlin = [
        ("2026-03-28", 1),
        ("2026-03-29", 4),
        ("2026-03-30", 1),
        ("2026-10-25", 4),
        ("2026-10-26", 1),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Europe/Berlin", &berlin).await?;
    let utc = [
        ("2026-03-28", 2),
        ("2026-03-29", 4),
        ("2026-10-24", 1),
        ("2026-10-25", 4),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "UTC", &utc).await?;
    // Half an hour and three quarters off the full hour, and the other side of the world.
    let kathmandu = [
        ("2026-03-29", 4),
        ("2026-03-30", 2),
        ("2026-10-25", 3),
        ("2026-10-26", 2),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Asia/Kathmandu", &kathmandu).await?;
    let pago_pago = [
        ("2026-03-28", 4),
        ("2026-03-29", 2),
        ("2026-10-24", 3),
        ("2026-10-25", 2),
        ("", 1),
    ];
    expect_calendar(&bench, "seen_at", day, "Pacific/Pago_Pago", &pago_pago).await
}

pub(super) async fn aggregates_by_calendar_units(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for made_on in [
        "2024-02-29",
        "2025-12-28",
        "2025-12-29",
        "2026-01-01",
        "2026-01-04",
        "2026-01-05",
        "2026-03-31",
        "2026-04-01",
    ] {
        rows.push(row(Specimen {
            made_on: Some(day(made_on)?),
            ..bare("Made")
        }));
    }
    rows.push(row(bare("Of unknown age")));
    bench.insert(rows).await?;
    let checks: [(CalendarUnit, &[(&str, i64)]); 4] = [
        // Weeks begin on Monday, also across the turn of a year.
        (
            CalendarUnit::Week,
            &[
                ("2024-02-26", 1),
                ("2025-12-22", 1),
                ("2025-12-29", 3),
                ("2026-01-05", 1),
                ("2026-03-30", 2),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Month,
            &[
                ("2024-02-01", 1),
                ("2025-12-01", 2),
                ("2026-01-01", 3),
                ("2026-03-01", 1),
                ("2026-04-01", 1),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Quarter,
            &[
                ("2024-01-01", 1),
                ("2025-10-01", 2),
                ("2026-01-01", 4),
                ("2026-04-01", 1),
                ("", 1),
            ],
        ),
        (
            CalendarUnit::Year,
            &[
                ("2024-01-01", 1),
                ("2025-01-01", 2),
                ("2026-01-01", 5),
                ("", 1),
            ],
        ),
    ];
    for (unit, expected) in checks {
        // A day is a day wherever one is.
        for zone in ["UTC", "Pacific/Kiritimati", "America/New_York"] {
            expect_calendar(&bench, "made_on", unit, zone, expected).await?;
        }
    }
    // Two groupings: by state, then by year.
    let year = Grouping::Calendar {
        index: field("made_on")?,
        unit: CalendarUnit::Year,
        time_zone: TimeZone::UTC,
    };
    let state = Grouping::Field(field("state")?);
    let key = |day: Option<NaiveDate>| vec!["found".into(), day.map_or(Value::Null, Value::from)];
    let expected = vec![
        (key(Some(day("2024-01-01")?)), vec![count(1)]),
        (key(Some(day("2025-01-01")?)), vec![count(2)]),
        (key(Some(day("2026-01-01")?)), vec![count(5)]),
        (key(None), vec![count(1)]),
    ];
    let both = query(vec![Measure::Count], vec![state, year]);
    expect_groups(&bench, &both, expected, "by state and year").await
}

pub(super) async fn aggregates_moments_by_unit_of_a_zone(h: &Harness) -> Outcome {
    let bench = h.bench();
    // New Year in Auckland, thirteen hours before Greenwich.
    for moment in [
        "2025-12-31T10:59:59.999999Z",
        "2025-12-31T11:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        let seen_at = Some(at(moment)?);
        bench
            .insert([row(Specimen {
                seen_at,
                ..bare("Seen")
            })])
            .await?;
    }
    let auckland = "Pacific/Auckland";
    let checks = [
        (
            CalendarUnit::Year,
            auckland,
            [("2025-01-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Quarter,
            auckland,
            [("2025-10-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Month,
            auckland,
            [("2025-12-01", 1), ("2026-01-01", 2)],
        ),
        (
            CalendarUnit::Month,
            "UTC",
            [("2025-12-01", 2), ("2026-01-01", 1)],
        ),
    ];
    for (unit, zone, expected) in checks {
        expect_calendar(&bench, "seen_at", unit, zone, &expected).await?;
    }
    let week = CalendarUnit::Week;
    expect_calendar(&bench, "seen_at", week, auckland, &[("2025-12-29", 3)]).await
}
