//! What is written comes back: every kind of field, every system value, in the order asked for.

use chrono::TimeDelta;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::expect::expect_same_rows;
use super::fixtures::{bare, full};
use super::harness::{
    archived, at, deleted, deletion, ids, insertion, new_id, next, now, purge, record, replacement,
    restored, row, row_with, stamp, update,
};
use super::objects::{Chore, Part, Reading, Specimen, State};
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{Condition, Query};
use crate::record::{Actor, Stamp};
use crate::schema::{Entity, Meta, Row};
use crate::value::Score;

pub(super) async fn crud_typed_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = row(full()?);
    let part = row(Part {
        place: Some(1),
        ..Part::new(Id::<Specimen>::new(specimen.id()))
    });
    bench.insert([specimen.clone(), part.clone()]).await?;
    // From `get` and from `select`, as records of the Rust type.
    let came = record::<Specimen>(&bench.again(&specimen).await?)?;
    ensure_eq!(
        came.data.state,
        State::OnLoan,
        "the state of the typed record"
    );
    ensure!(
        came.data == record::<Specimen>(&specimen)?.data,
        "expected equal typed data"
    );
    for row in bench.all(Part::schema()).await? {
        let came = record::<Part>(&row)?;
        ensure_eq!(
            came.data.specimen_id.uuid(),
            specimen.id(),
            "the typed reference"
        );
        ensure_eq!(came.id.uuid(), part.id(), "the typed id");
    }
    Ok(())
}

pub(super) async fn crud_get_by_ids(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows: Vec<Row> = (0..300)
        .map(|n| row(bare(&format!("Number {n}"))))
        .collect();
    bench.insert(rows.clone()).await?;
    let object = Specimen::schema();
    ensure_eq!(bench.get(object, &[]).await?.len(), 0, "rows for no ids");

    let mut wanted: Vec<Row> = rows.clone();
    super::random::Random::new(7).shuffle(&mut wanted);
    let came = bench.get(object, &ids(&wanted)).await?;
    expect_same_rows(&came, &wanted, "rows in the order of the ids")?;

    // Unknown ids are left out, wherever they stand.
    let some: Vec<Row> = wanted.into_iter().take(5).collect();
    let mut asked: Vec<Uuid> = vec![new_id()];
    for row in &some {
        asked.push(row.id());
        asked.push(new_id());
    }
    let came = bench.get(object, &asked).await?;
    expect_same_rows(&came, &some, "the known ones of the ids")?;
    ensure_eq!(
        bench.get(object, &[new_id()]).await?.len(),
        0,
        "rows for an unknown id"
    );
    // A part is not a specimen.
    let as_parts = bench.get(Part::schema(), &ids(&some)).await?;
    ensure_eq!(as_parts.len(), 0, "parts with the ids of specimens");
    Ok(())
}

pub(super) async fn crud_same_id_in_two_objects(h: &Harness) -> Outcome {
    let bench = h.bench();
    let id = new_id();
    let specimen = row_with(id, bare("One"));
    let chore = row_with(id, Chore::new("two"));
    bench.insert([specimen.clone(), chore.clone()]).await?;
    bench.expect_stored(&specimen).await?;
    bench.expect_stored(&chore).await?;
    bench.apply(vec![purge(&specimen)]).await?;
    bench.expect_gone(&specimen).await?;
    bench.expect_stored(&chore).await
}

pub(super) async fn crud_actors_and_stamps(h: &Harness) -> Outcome {
    let bench = h.bench();
    let actors = [
        Actor::User(Id::new(new_id())),
        Actor::System,
        Actor::ApiClient(new_id()),
        Actor::Import(new_id()),
        Actor::Anonymous,
    ];
    for created_by in actors {
        for updated_by in actors {
            let created = Stamp {
                at: at("2020-02-29T23:59:59.000001Z")?,
                by: created_by,
            };
            let updated = Stamp {
                at: created.at + TimeDelta::days(40),
                by: updated_by,
            };
            let first = row(bare("Stamped")).with_meta(Meta::first(new_id(), created));
            let second = first.with_meta(first.meta().next(updated));
            bench.insert([first.clone()]).await?;
            bench.expect_stored(&first).await?;
            bench
                .apply(vec![replacement(&first, second.clone())])
                .await?;
            bench.expect_stored(&second).await?;
        }
    }
    Ok(())
}

pub(super) async fn crud_update(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (one, two) = (row(full()?), row(bare("Bystander")));
    bench.insert([one.clone(), two.clone()]).await?;

    // Every value away, ...
    let emptied = next::<Specimen>(&one, |data| *data = bare("Emptied"))?;
    bench
        .apply(vec![replacement(&one, emptied.clone())])
        .await?;
    bench.expect_stored(&emptied).await?;
    // ... every value back, ...
    let whole = full()?;
    let filled = next::<Specimen>(&emptied, |data| *data = whole)?;
    bench
        .apply(vec![replacement(&emptied, filled.clone())])
        .await?;
    bench.expect_stored(&filled).await?;
    ensure_eq!(filled.version(), 3, "the version after two updates");
    // ... and nothing but the system's values.
    let touched = filled.with_meta(filled.meta().next(stamp()));
    bench
        .apply(vec![replacement(&filled, touched.clone())])
        .await?;
    bench.expect_stored(&touched).await?;
    bench.expect_stored(&two).await
}

pub(super) async fn crud_archive_delete_restore(h: &Harness) -> Outcome {
    let bench = h.bench();
    let first = row(full()?);
    bench.insert([first.clone()]).await?;
    let steps = [archived as fn(&Row) -> Row, deleted, restored];
    let mut before = first;
    for step in steps {
        let after = step(&before);
        bench
            .apply(vec![replacement(&before, after.clone())])
            .await?;
        // Deleted and archived rows are rows like others for a backend.
        bench.expect_stored(&after).await?;
        let selected = bench.all(Specimen::schema()).await?;
        expect_same_rows(
            &selected,
            std::slice::from_ref(&after),
            "what a query finds",
        )?;
        before = after;
    }
    let seen = bench
        .select(&Query::new(Specimen::schema(), Condition::not_archived()))
        .await?;
    ensure_eq!(seen.len(), 0, "archived rows that are not archived");
    Ok(())
}

pub(super) async fn crud_purge(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (one, two) = (row(full()?), row(bare("Stays")));
    bench.insert([one.clone(), two.clone()]).await?;
    bench.apply(vec![purge(&one)]).await?;
    bench.expect_gone(&one).await?;
    bench.expect_stored(&two).await?;
    // Nothing of it is left: id and unique values are free.
    bench.insert([one.clone()]).await?;
    bench.expect_stored(&one).await?;
    // A deleted row can be purged too.
    let hidden = deleted(&one);
    bench.apply(vec![replacement(&one, hidden.clone())]).await?;
    bench.apply(vec![purge(&hidden)]).await?;
    bench.expect_gone(&hidden).await
}

pub(super) async fn crud_mixed_commit(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (kept, changed, hidden, removed) = (
        row(bare("Kept")),
        row(bare("Changed")),
        row(bare("Hidden")),
        row(bare("Removed")),
    );
    bench
        .insert([
            kept.clone(),
            changed.clone(),
            hidden.clone(),
            removed.clone(),
        ])
        .await?;
    let added = row(bare("Added"));
    let after = next::<Specimen>(&changed, |data| data.rank = Score::MAX)?;
    bench
        .apply(vec![
            purge(&removed),
            insertion(added.clone()),
            deletion(&hidden),
            replacement(&changed, after.clone()),
            insertion(row(Chore::new("after"))),
        ])
        .await?;
    for row in [&kept, &added, &after] {
        bench.expect_stored(row).await?;
    }
    bench.expect_gone(&removed).await?;
    ensure!(
        bench.again(&hidden).await?.is_deleted(),
        "expected the hidden row to be deleted"
    );
    ensure_eq!(bench.all(Chore::schema()).await?.len(), 1, "chores");
    Ok(())
}

pub(super) async fn crud_large_commit(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows: Vec<Row> = (0..1_500)
        .map(|n| {
            row(Specimen {
                quantity: n,
                ..bare("One of many")
            })
        })
        .collect();
    bench.insert(rows.clone()).await?;
    expect_same_rows(
        &bench.all(Specimen::schema()).await?,
        &rows,
        "the rows of a large commit",
    )?;
    let changes = rows
        .iter()
        .map(|row| update::<Specimen>(row, |data| data.quantity += 1))
        .collect::<Outcome<Vec<_>>>()?;
    bench.apply(changes).await?;
    let sum: i64 = bench
        .all(Specimen::schema())
        .await?
        .iter()
        .map(|row| record::<Specimen>(row).map(|record| record.quantity))
        .sum::<Outcome<i64>>()?;
    ensure_eq!(
        sum,
        (1..=1_500).sum::<i64>(),
        "the sum after a large update"
    );
    Ok(())
}

pub(super) async fn crud_empty_commit(h: &Harness) -> Outcome {
    let bench = h.bench();
    bench.apply(Vec::new()).await?;
    ensure_eq!(
        bench.everything().await?.len(),
        0,
        "rows of a tenant that wrote nothing"
    );
    Ok(())
}

pub(super) async fn crud_log(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = row(bare("Measured"));
    let reading = |celsius: i64| -> Row {
        row(Reading {
            specimen_id: Some(Id::new(specimen.id())),
            celsius: Some(Decimal::new(celsius, 1)),
            ..Reading::new(now())
        })
    };
    let first = [reading(205), reading(-17)];
    bench
        .insert([std::slice::from_ref(&specimen), &first[..]].concat())
        .await?;
    let later = [reading(206)];
    bench.insert(later.clone()).await?;
    let stored = bench.all(Reading::schema()).await?;
    expect_same_rows(
        &stored,
        &[&first[..], &later[..]].concat(),
        "the log in its order",
    )
}

pub(super) async fn crud_documents_are_not_merged(h: &Harness) -> Outcome {
    let bench = h.bench();
    let before = row(Specimen {
        extra: json!({"a": 1, "b": {"c": 2}}),
        details: Some(json!({"x": 1})),
        ..bare("Document")
    });
    bench.insert([before.clone()]).await?;
    let after = next::<Specimen>(&before, |data| {
        data.extra = json!({"b": {}});
        data.details = Some(Json::Array(Vec::new()));
    })?;
    bench
        .apply(vec![replacement(&before, after.clone())])
        .await?;
    bench.expect_stored(&after).await
}
