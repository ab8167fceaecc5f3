//! Unique keys: what counts as the same, which rows count, and when it is checked.

use super::expect::expect_duplicate;
use super::fixtures::bare;
use super::harness::{
    Bench, deleted, deletion, insertion, next, purge, replacement, restored, row, row_with, update,
};
use super::objects::{Laboratory, Part, Specimen};
use super::{Harness, Outcome};
use crate::Id;
use crate::schema::{Entity, Row};

fn coded(code: &str) -> Row {
    row(Specimen {
        code: Some(code.into()),
        ..bare("Coded")
    })
}

fn serial(serial: i64) -> Row {
    row(Specimen {
        serial: Some(serial),
        ..bare("Serial")
    })
}

fn shelved(shelf: Option<&str>, slot: Option<i32>) -> Row {
    row(Specimen {
        shelf: shelf.map(Into::into),
        slot,
        ..bare("Shelved")
    })
}

fn default_of(room: Option<&str>, is_default: bool) -> Row {
    row(Specimen {
        room: room.map(Into::into),
        is_default,
        ..bare("Default")
    })
}

async fn expect_taken(bench: &Bench, new: Row, fields: &[&str], what: &str) -> Outcome {
    let came = bench.commit(vec![insertion(new.clone())]).await;
    expect_duplicate(&came, Specimen::schema(), fields, what)?;
    bench.expect_gone(&new).await
}

pub(super) async fn unique_one_field(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (one, two) = (serial(1), serial(2));
    bench.insert([one.clone(), two.clone()]).await?;
    expect_taken(
        &bench,
        serial(1),
        &["serial"],
        "a serial number that is taken",
    )
    .await?;
    // By an update too.
    let change = update::<Specimen>(&two, |data| data.serial = Some(1))?;
    let came = bench.commit(vec![change]).await;
    expect_duplicate(
        &came,
        Specimen::schema(),
        &["serial"],
        "an update to a taken number",
    )?;
    bench.expect_stored(&two).await?;
    // A row does not stand in its own way.
    bench
        .apply(vec![update::<Specimen>(&one, |data| {
            data.name = "Renamed".into();
        })?])
        .await?;
    bench
        .insert([serial(3), serial(-1), serial(i64::MAX)])
        .await
}

pub(super) async fn unique_case(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench
        .insert([coded("Abc-1"), shelved(Some("North"), Some(1))])
        .await?;
    for code in ["Abc-1", "ABC-1", "abc-1", "aBC-1"] {
        expect_taken(&bench, coded(code), &["code"], "a code in another case").await?;
    }
    // The key over shelf and slot does not ignore case.
    bench
        .insert([
            shelved(Some("NORTH"), Some(1)),
            shelved(Some("north"), Some(1)),
        ])
        .await?;
    expect_taken(
        &bench,
        shelved(Some("North"), Some(1)),
        &["shelf", "slot"],
        "the same case",
    )
    .await
}

pub(super) async fn unique_case_beyond_ascii(h: &Harness) -> Outcome {
    let bench = h.bench();
    for (stored, same, other) in [
        ("Österreich", "ÖSTERREICH", "Osterreich"),
        ("ЖУК", "жук", "жуки"),
        ("Ærø", "ærØ", "Aero"),
        ("straße", "STRAßE", "strasse"),
        // A sigma at the end of a word has a form of its own.
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς", "οδυσσευσ"),
        ("Ǆ", "ǆ", "DZ"),
        ("ÉTÉ", "été", "ETE"),
    ] {
        bench.insert([coded(stored)]).await?;
        expect_taken(&bench, coded(same), &["code"], "a code in another case").await?;
        bench.insert([coded(other)]).await?;
    }
    Ok(())
}

pub(super) async fn unique_nulls_never_collide(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench
        .insert((0..5).map(|_| row(bare("Without any key"))))
        .await?;
    // One missing field takes a row out of a key over two.
    bench
        .insert((0..3).map(|_| shelved(Some("North"), None)))
        .await?;
    bench.insert((0..3).map(|_| shelved(None, Some(1)))).await?;
    bench.insert((0..3).map(|_| default_of(None, true))).await?;
    // A value and no value are not the same.
    bench.insert([shelved(Some("North"), Some(0))]).await
}

pub(super) async fn unique_several_fields(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench
        .insert([
            shelved(Some("North"), Some(1)),
            shelved(Some("North"), Some(2)),
            shelved(Some("South"), Some(1)),
            // Not the same once they are written behind each other.
            shelved(Some("South1"), Some(1)),
            shelved(Some("South"), Some(11)),
        ])
        .await?;
    for (shelf, slot) in [("North", 1), ("North", 2), ("South", 1), ("South", 11)] {
        let what = "a shelf and slot that are taken together";
        expect_taken(
            &bench,
            shelved(Some(shelf), Some(slot)),
            &["shelf", "slot"],
            what,
        )
        .await?;
    }
    Ok(())
}

pub(super) async fn unique_live(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = coded("Free");
    bench.insert([first.clone()]).await?;
    let hidden = deleted(&first);
    bench
        .apply(vec![replacement(&first, hidden.clone())])
        .await?;
    // A deleted row does not count.
    let second = coded("FREE");
    bench.insert([second.clone()]).await?;
    // It counts again once it comes back.
    let back = restored(&hidden);
    let came = bench.commit(vec![replacement(&hidden, back.clone())]).await;
    expect_duplicate(
        &came,
        Specimen::schema(),
        &["code"],
        "a restored row whose code is taken",
    )?;
    bench.expect_stored(&hidden).await?;
    // Several deleted rows may have the same value.
    bench.apply(vec![deletion(&second)]).await?;
    bench
        .apply(vec![replacement(&hidden, back.clone())])
        .await?;
    bench.expect_stored(&back).await?;
    // Archived rows count.
    bench
        .apply(vec![replacement(&back, super::harness::archived(&back))])
        .await?;
    expect_taken(
        &bench,
        coded("free"),
        &["code"],
        "the code of an archived row",
    )
    .await
}

pub(super) async fn unique_deleted_rows_count(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = serial(1);
    bench.insert([first.clone()]).await?;
    let hidden = deleted(&first);
    bench
        .apply(vec![replacement(&first, hidden.clone())])
        .await?;
    let what = "the number of a deleted row, in a key that is not for live rows only";
    expect_taken(&bench, serial(1), &["serial"], what).await?;
    bench.apply(vec![purge(&hidden)]).await?;
    bench.insert([serial(1)]).await
}

pub(super) async fn unique_only_if(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = default_of(Some("Hall"), true);
    let plain = default_of(Some("Hall"), false);
    bench
        .insert([
            first.clone(),
            plain.clone(),
            default_of(Some("Hall"), false),
        ])
        .await?;
    bench.insert([default_of(Some("Attic"), true)]).await?;
    let what = "a second default of a room";
    expect_taken(&bench, default_of(Some("Hall"), true), &["room"], what).await?;
    let made_default = update::<Specimen>(&plain, |data| data.is_default = true)?;
    let came = bench.commit(vec![made_default.clone()]).await;
    expect_duplicate(&came, Specimen::schema(), &["room"], what)?;
    // One commit hands it over.
    let handed = update::<Specimen>(&first, |data| data.is_default = false)?;
    bench.apply(vec![made_default, handed]).await?;
    // A deleted default does not count.
    let holder = bench.again(&plain).await?;
    bench.apply(vec![deletion(&holder)]).await?;
    bench.insert([default_of(Some("Hall"), true)]).await
}

pub(super) async fn unique_within_one_commit(h: &Harness) -> Outcome {
    let bench = h.bench();
    for (pair, fields) in [
        ([coded("Twin"), coded("TWIN")], &["code"][..]),
        ([serial(5), serial(5)], &["serial"]),
        (
            [shelved(Some("A"), Some(1)), shelved(Some("A"), Some(1))],
            &["shelf", "slot"],
        ),
        (
            [default_of(Some("A"), true), default_of(Some("A"), true)],
            &["room"],
        ),
    ] {
        let came = bench
            .commit(pair.iter().cloned().map(insertion).collect())
            .await;
        expect_duplicate(
            &came,
            Specimen::schema(),
            fields,
            "two equal rows in one commit",
        )?;
        for row in &pair {
            bench.expect_gone(row).await?;
        }
    }
    // Two updates that meet.
    let (one, two) = (coded("One"), coded("Two"));
    bench.insert([one.clone(), two.clone()]).await?;
    let to_same = |row: &Row| update::<Specimen>(row, |data| data.code = Some("Same".into()));
    let came = bench.commit(vec![to_same(&one)?, to_same(&two)?]).await;
    expect_duplicate(
        &came,
        Specimen::schema(),
        &["code"],
        "two updates to the same value",
    )
}

pub(super) async fn unique_swap(h: &Harness) -> Outcome {
    let bench = h.bench();
    // Only the state after the whole commit counts.
    let rows = [coded("A"), coded("B"), coded("C")];
    bench.insert(rows.clone()).await?;
    let mut turned = Vec::new();
    for (row, code) in rows.iter().zip(["B", "C", "A"]) {
        turned.push(next::<Specimen>(row, |data| data.code = Some(code.into()))?);
    }
    let changes = rows
        .iter()
        .zip(&turned)
        .map(|(before, after)| replacement(before, after.clone()));
    bench.apply(changes.collect()).await?;
    for row in &turned {
        bench.expect_stored(row).await?;
    }
    // Places in an order, as users drag them.
    let specimen = row(bare("With parts"));
    let part = |place| {
        row(Part {
            place: Some(place),
            ..Part::new(Id::new(specimen.id()))
        })
    };
    let (one, two) = (part(1), part(2));
    bench
        .insert([specimen.clone(), one.clone(), two.clone()])
        .await?;
    bench
        .apply(vec![
            update::<Part>(&one, |data| data.place = Some(2))?,
            update::<Part>(&two, |data| data.place = Some(1))?,
        ])
        .await
}

pub(super) async fn unique_taken_over(h: &Harness) -> Outcome {
    // A value that one change gives up and another takes, in either order.
    for turned in [false, true] {
        let bench = h.bench();
        let object = Specimen::schema();
        let (leaves, hides, moves) = (serial(1), coded("Two"), coded("Three"));
        bench
            .insert([leaves.clone(), hides.clone(), moves.clone()])
            .await?;
        let mut changes = vec![
            purge(&leaves),
            insertion(serial(1)),
            deletion(&hides),
            insertion(coded("two")),
            update::<Specimen>(&moves, |data| data.code = Some("Four".into()))?,
            insertion(coded("three")),
        ];
        if turned {
            changes.reverse();
        }
        bench.apply(changes).await?;
        let came = bench.commit(vec![insertion(coded("FOUR"))]).await;
        expect_duplicate(&came, object, &["code"], "the value that a row moved to")?;
    }
    Ok(())
}

pub(super) async fn unique_over_references(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (one, two) = (row(bare("One")), row(bare("Two")));
    let part = |of: &Row, place: i32| -> Row {
        row(Part {
            place: Some(place),
            ..Part::new(Id::new(of.id()))
        })
    };
    bench
        .insert([
            one.clone(),
            two.clone(),
            part(&one, 1),
            part(&one, 2),
            part(&two, 1),
        ])
        .await?;
    let came = bench.commit(vec![insertion(part(&one, 1))]).await;
    expect_duplicate(
        &came,
        Part::schema(),
        &["specimen_id", "place"],
        "a place that is taken",
    )
}

pub(super) async fn unique_per_tenant(h: &Harness) -> Outcome {
    let (one, two) = (h.bench(), h.bench());
    let rows = || {
        [
            coded("Same"),
            serial(1),
            shelved(Some("A"), Some(1)),
            default_of(Some("A"), true),
        ]
    };
    one.insert(rows()).await?;
    two.insert(rows()).await
}

pub(super) async fn unique_over_the_platform(h: &Harness) -> Outcome {
    let (one, two) = (h.bench(), h.bench());
    // Other runs may have used the same storage.
    let subdomain = format!("lab{}", one.tenant.uuid().simple());
    let laboratory = |of: &Bench, subdomain: &str| -> Outcome<Row> {
        let data = Laboratory {
            subdomain: Some(subdomain.parse()?),
            ..Laboratory::new("Laboratory")
        };
        Ok(row_with(of.tenant.uuid(), data))
    };
    let first = laboratory(&one, &subdomain)?;
    one.insert([first.clone()]).await?;
    let same = laboratory(&two, &subdomain)?;
    let came = two.commit(vec![insertion(same.clone())]).await;
    let what = "a subdomain that another tenant has";
    expect_duplicate(&came, Laboratory::schema(), &["subdomain"], what)?;
    two.expect_gone(&same).await?;
    two.insert([laboratory(&two, &format!("{subdomain}b"))?])
        .await?;
    // By an update too, and free again once the other is deleted.
    let other = two.again(&same).await?;
    let moved = || {
        let subdomain = subdomain.parse()?;
        update::<Laboratory>(&other, |data| data.subdomain = Some(subdomain))
    };
    let came = two.commit(vec![moved()?]).await;
    expect_duplicate(&came, Laboratory::schema(), &["subdomain"], what)?;
    one.apply(vec![deletion(&first)]).await?;
    two.apply(vec![moved()?]).await
}
