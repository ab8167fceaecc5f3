//! Every kind of field comes back as it was written, at its limits too.

use serde_json::json;

use super::expect::{expect_same, expect_same_rows};
use super::fixtures::{bare, full};
use super::harness::{at, day, dec, row};
use super::objects::{Extent, Specimen};
use super::{Failure, Harness, Outcome, ensure_eq};
use crate::schema::{Entity, FieldType};

/// Inserts a specimen and checks that it comes back by id and by query.
async fn round_trip(h: &Harness, specimen: Specimen) -> Outcome {
    let bench = h.bench();
    let written = row(specimen);
    bench.insert([written.clone()]).await?;
    bench.expect_stored(&written).await?;
    let selected = bench.all(Specimen::schema()).await?;
    expect_same_rows(&selected, &[written], "what a query finds")
}

pub(super) async fn crud_every_field(h: &Harness) -> Outcome {
    round_trip(h, full()?).await
}

pub(super) async fn crud_no_values(h: &Harness) -> Outcome {
    round_trip(h, bare("Nothing known")).await
}

pub(super) async fn crud_integers(h: &Harness) -> Outcome {
    for (quantity, balance, level, visitors) in [
        (
            i64::MAX,
            Some(i64::MIN),
            Some(i32::MAX),
            Some(i32::MAX.unsigned_abs()),
        ),
        (i64::MIN, Some(i64::MAX), Some(i32::MIN), Some(0)),
        (0, Some(0), Some(0), Some(1)),
        (-1, Some((1 << 53) + 1), Some(-1), None),
    ] {
        let specimen = Specimen {
            quantity,
            balance,
            level,
            visitors,
            ..bare("Integers")
        };
        round_trip(h, specimen).await?;
    }
    Ok(())
}

pub(super) async fn crud_decimals(h: &Harness) -> Outcome {
    for (price, rate, wide) in [
        (
            "999999999999999.9999",
            "99999999.99999999",
            "9999999999999999999999999999",
        ),
        (
            "-999999999999999.9999",
            "-99999999.99999999",
            "-9999999999999999999999999999",
        ),
        ("0.0001", "0.00000001", "1"),
        ("-0.0001", "-0.00000001", "-1"),
        ("0", "0", "0"),
        // What a binary fraction cannot hold.
        ("0.1", "0.3", "9007199254740993"),
        ("1.5000", "2.50000000", "100"),
    ] {
        let specimen = Specimen {
            price: dec(price)?,
            amount: Some(dec(price)?),
            rate: Some(dec(rate)?),
            wide: Some(dec(wide)?),
            share: Some("33.33".parse()?),
            ..bare("Decimals")
        };
        round_trip(h, specimen).await?;
    }
    Ok(())
}

pub(super) async fn crud_days_and_moments(h: &Harness) -> Outcome {
    for (made_on, seen_at) in [
        ("0001-01-01", "0001-01-01T00:00:00Z"),
        ("9999-12-31", "9999-12-31T23:59:59.999999Z"),
        ("2024-02-29", "2024-02-29T12:00:00.000001Z"),
        ("1969-12-31", "1969-12-31T23:59:59.999999Z"),
        ("1582-10-10", "1582-10-10T10:10:10.101010Z"),
        ("2026-10-25", "2026-10-25T01:30:00.5Z"),
    ] {
        let specimen = Specimen {
            made_on: Some(day(made_on)?),
            seen_at: Some(at(seen_at)?),
            ..bare("Days and moments")
        };
        round_trip(h, specimen).await?;
    }
    Ok(())
}

pub(super) async fn crud_texts(h: &Harness) -> Outcome {
    // 32,768 characters of four bytes each.
    let long: String = "\u{1F995}".repeat(32_768);
    for text in [
        "plain",
        "Ærøskøbing Łódź Ελλάδα Владивосток 北京 עברית",
        "emoji \u{1F469}\u{200D}\u{1F52C} and e\u{0301}\u{0323} marks".trim(),
        "it's \"quoted\"; DROP TABLE specimens; -- \\ \\n $1 %s {} ?",
        "two\nlines\r\nand a\ttab",
        "a\u{1}control\u{7F}character",
        "null",
        "\u{FFFD}\u{10FFFF}",
        &long,
    ] {
        let notes = FieldType::multiline()
            .coerce(text.into())
            .map_err(|fault| Failure::new(fault.at("notes").to_string()))?;
        let notes = notes.as_ref().as_text().map(str::to_owned);
        round_trip(
            h,
            Specimen {
                notes,
                ..bare("Texts")
            },
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn crud_value_types(h: &Harness) -> Outcome {
    let specimen = full()?;
    let bench = h.bench();
    let written = row(specimen);
    bench.insert([written.clone()]).await?;
    let stored = bench.again(&written).await?;
    // The case of letters stays as it was given where it means nothing to comparisons.
    for (field, text) in [
        ("email", "Curator@Museum.example"),
        ("currency", "EUR"),
        ("state", "on_loan"),
        ("former_state", "cleaned"),
        ("code", "TRI-1"),
    ] {
        ensure_eq!(
            stored.get(field).as_text(),
            Some(text),
            "the stored text of `{field}`"
        );
    }
    expect_same(&stored, &written, "the stored row")
}

pub(super) async fn crud_lists(h: &Harness) -> Outcome {
    let list = |entries: &[&str]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
    let many: Vec<String> = (0..100).map(|n| format!("entry {n}")).collect();
    for (tags, labels) in [
        (list(&[]), None),
        (list(&[]), Some(list(&[]))),
        (list(&["one"]), Some(list(&["b", "a"]))),
        (
            list(&["a,b", "{c}", "\"d\"", "e\\f", "NULL", "null", "ü"]),
            None,
        ),
        (many.clone(), Some(many)),
    ] {
        round_trip(
            h,
            Specimen {
                tags,
                labels,
                ..bare("Lists")
            },
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn crud_json(h: &Harness) -> Outcome {
    let mut deep = json!("bottom");
    for level in 0..30 {
        deep = json!({"level": level, "inner": deep, "list": [null, true]});
    }
    for document in [
        json!({}),
        json!([]),
        json!({"null": null, "empty": {}, "list": [], "text": ""}),
        json!({"ключ": "значение", "a.b": {"c d": "'\"\\"}, "": "no name"}),
        json!([1, -1, 1.5, i64::MAX, i64::MIN, u64::MAX, 0.25, "1.50"]),
        json!("a text"),
        json!(true),
        json!(17),
        json!(1.5),
        deep,
        json!({"long": "x".repeat(100_000)}),
    ] {
        let specimen = Specimen {
            details: Some(document.clone()),
            extra: document,
            ..bare("JSON")
        };
        round_trip(h, specimen).await?;
    }
    Ok(())
}

pub(super) async fn crud_groups(h: &Harness) -> Outcome {
    for extent in [
        None,
        Some(Extent {
            width: Some(1),
            height: None,
        }),
        Some(Extent {
            width: None,
            height: Some(2),
        }),
    ] {
        round_trip(
            h,
            Specimen {
                extent,
                ..bare("Groups")
            },
        )
        .await?;
    }
    Ok(())
}
