//! Specimens that several groups use.

use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::Outcome;
use super::harness::{at, day, dec};
use super::objects::{Extent, Specimen, State};
use crate::value::{PhoneNumber, Score};

/// A specimen without any value that may be missing.
pub(super) fn bare(name: &str) -> Specimen {
    Specimen::new(name)
}

/// A specimen in which every field has a value.
pub(super) fn full() -> Outcome<Specimen> {
    Ok(Specimen {
        name: "Trilobite".into(),
        code: Some("TRI-1".into()),
        serial: Some(17),
        shelf: Some("North".into()),
        slot: Some(4),
        room: Some("Hall".into()),
        is_default: true,
        notes: Some("Found by A. O'Neill\nin \"grey\" shale; 100% intact \\ signed".into()),
        origin: Some("Bohemia".into()),
        quantity: 3,
        balance: Some(-12),
        level: Some(-4),
        visitors: Some(120_000),
        amount: Some(dec("1234.56")?),
        currency: Some("EUR".parse()?),
        price: dec("99.9")?,
        rate: Some(dec("0.12345678")?),
        wide: Some(dec("1234567890123456789012345678")?),
        is_genuine: Some(false),
        made_on: Some(day("1977-05-25")?),
        seen_at: Some(at("2026-03-29T00:59:59.999999Z")?),
        token: Some(Uuid::from_u128(0x1234_5678_9ABC_DEF0)),
        email: Some("Curator@Museum.example".parse()?),
        phone: Some(PhoneNumber::parse("+49 30 901820")?),
        homepage: Some("https://museum.example/t?a=1&b=%20".parse()?),
        share: Some("12.5".parse()?),
        score: Some(Score::new(88)?),
        rank: Score::new(7)?,
        state: State::OnLoan,
        former_state: Some(State::Cleaned),
        country: Some("CZ".parse()?),
        language: Some("cs".parse()?),
        time_zone: Some("Europe/Prague".parse()?),
        color: Some("#A0B1C2".parse()?),
        api_name: Some("trilobite_one".parse()?),
        subdomain: Some("trilobite".parse()?),
        domain: Some("museum.example".parse()?),
        tags: vec!["fossil".into(), "Paleozoic".into()],
        labels: Some(vec!["fragile".into()]),
        details: Some(json!({"weight": 12.5, "found": {"by": "Ada", "on": null}, "n": [1, 2]})),
        extra: json!({"region": "Praha", "rating": 5}),
        custom_fields: Some(json!({"region": "Praha"})),
        extent: Some(Extent {
            width: Some(40),
            height: Some(65),
        }),
        secret: Some("vault 7".into()),
        parent_id: None,
    })
}

/// A specimen with an amount.
pub(super) fn worth(name: &str, amount: impl Into<Option<Decimal>>) -> Specimen {
    Specimen {
        amount: amount.into(),
        ..bare(name)
    }
}
