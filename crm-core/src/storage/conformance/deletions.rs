//! Deletions that keep the row: what must not refer to it when they are written.

use uuid::Uuid;

use super::expect::{expect_conflict, expect_reference};
use super::fixtures::bare;
use super::harness::{
    Bench, archived, deleted, deletion, insertion, new_id, next, purge, replacement, restored, row,
    row_with, unreferenced, update,
};
use super::objects::{Part, Specimen};
use super::{Harness, Outcome, ensure_eq};
use crate::Id;
use crate::schema::{Entity, Row};
use crate::storage::Unreferenced;

/// That no row refers to a specimen, by whatever reference.
pub(super) fn no_references_to(id: Uuid) -> Outcome<Vec<Unreferenced>> {
    Ok(vec![
        unreferenced(Part::schema(), "specimen_id", id)?,
        unreferenced(Part::schema(), "copy_of_id", id)?,
        unreferenced(Part::schema(), "owner_id", id)?,
        unreferenced(Part::schema(), "made_for_id", id)?,
        unreferenced(Specimen::schema(), "parent_id", id)?,
    ])
}

/// A row for each way of referring to `target`, with the name of the reference; where a part must
/// have another specimen, it has `other`.
fn referring_rows(target: &Row, other: &Row) -> Vec<(Row, &'static str)> {
    let id = || Some(Id::new(target.id()));
    let base = || Part::new(Id::<Specimen>::new(other.id()));
    vec![
        (
            row(Part::new(Id::<Specimen>::new(target.id()))),
            "specimen_id",
        ),
        (
            row(Part {
                copy_of_id: id(),
                ..base()
            }),
            "copy_of_id",
        ),
        (
            row(Part {
                owner_id: id(),
                ..base()
            }),
            "owner_id",
        ),
        (
            row(Part {
                made_for_object: Some(Specimen::schema().name().to_owned()),
                made_for_id: Some(target.id()),
                ..base()
            }),
            "made_for_id",
        ),
        (
            row(Specimen {
                parent_id: id(),
                ..bare("Child")
            }),
            "parent_id",
        ),
    ]
}

/// Two specimens: one to delete, one that stays.
async fn two_specimens(bench: &Bench) -> Outcome<(Row, Row)> {
    let (target, other) = (row(bare("Target")), row(bare("Other")));
    bench.insert([target.clone(), other.clone()]).await?;
    Ok((target, other))
}

pub(super) async fn references_deletion_beside_live_ones(h: &Harness) -> Outcome {
    for number in 0..5 {
        let bench = h.bench();
        let (target, other) = two_specimens(&bench).await?;
        let Some((holder, field)) = referring_rows(&target, &other).into_iter().nth(number) else {
            continue;
        };
        bench.insert([holder.clone()]).await?;
        let asked = unreferenced(holder.object(), field, target.id())?;
        let fine = row(bare("Beside"));
        for holder_now in [holder.clone(), archived(&holder)] {
            if holder_now.version() > holder.version() {
                let change = replacement(&holder, holder_now.clone());
                bench.apply(vec![change]).await?;
            }
            for asked in [vec![asked.clone()], no_references_to(target.id())?] {
                let changes = vec![insertion(fine.clone()), deletion(&target)];
                let came = bench.commit_leaving(changes, asked).await;
                let what =
                    format!("a deletion of a row to which the `{field}` of a live one leads");
                expect_conflict(&came, &target, &what)?;
                for row in [&target, &other, &holder_now] {
                    bench.expect_stored(row).await?;
                }
                bench.expect_gone(&fine).await?;
            }
        }
        // Only what is asked for counts: without a question a deletion is an update like others.
        let others: Vec<Unreferenced> = no_references_to(target.id())?
            .into_iter()
            .filter(|other| *other != asked)
            .collect();
        let after = deleted(&target);
        let change = replacement(&target, after.clone());
        bench.commit_leaving(vec![change], others).await?;
        bench.expect_stored(&after).await?;
    }
    Ok(())
}

pub(super) async fn references_deletion_beside_plain_ids(h: &Harness) -> Outcome {
    // A field with ids that says nothing of what they are of, and has no index, is asked for like
    // one that does.
    let bench = h.bench();
    let (target, other) = two_specimens(&bench).await?;
    let naming = |id: Uuid| {
        row(Specimen {
            token: Some(id),
            ..bare("Naming")
        })
    };
    let (holder, beside) = (naming(target.id()), naming(other.id()));
    bench.insert([holder.clone(), beside.clone()]).await?;
    let asked = vec![unreferenced(Specimen::schema(), "token", target.id())?];
    let came = bench
        .commit_leaving(vec![deletion(&target)], asked.clone())
        .await;
    let what = "a deletion of a row whose id stands in a plain field of a live one";
    expect_conflict(&came, &target, what)?;
    // One that the commit itself leaves there counts, and one that it takes away does not.
    let touched = holder.with_meta(holder.meta().next(super::harness::stamp()));
    let changes = vec![replacement(&holder, touched), deletion(&target)];
    let came = bench.commit_leaving(changes, asked.clone()).await;
    let what = "a deletion with an update that keeps the id in a plain field";
    expect_conflict(&came, &target, what)?;
    bench.expect_stored(&target).await?;
    bench.expect_stored(&holder).await?;
    let emptied = next::<Specimen>(&holder, |data| data.token = None)?;
    let after = deleted(&target);
    let changes = vec![
        replacement(&holder, emptied.clone()),
        replacement(&target, after.clone()),
    ];
    bench.commit_leaving(changes, asked).await?;
    bench.expect_stored(&emptied).await?;
    bench.expect_stored(&after).await?;
    bench.expect_stored(&beside).await
}

pub(super) async fn references_deletion_beside_others_rows(h: &Harness) -> Outcome {
    // Rows that refer to another row, and rows of another object that the question is not about.
    let bench = h.bench();
    let (target, other) = two_specimens(&bench).await?;
    let holders: Vec<Row> = referring_rows(&other, &other)
        .into_iter()
        .map(|(row, _)| row)
        .collect();
    bench.insert(holders).await?;
    let part = row(Part::new(Id::<Specimen>::new(other.id())));
    bench.insert([part.clone()]).await?;
    let after = deleted(&target);
    let changes = vec![replacement(&target, after.clone())];
    bench
        .commit_leaving(changes, no_references_to(target.id())?)
        .await?;
    bench.expect_stored(&after).await?;
    // The part is referred to by no other, whatever else there is.
    let asked = vec![unreferenced(Part::schema(), "replaces_id", part.id())?];
    bench.commit_leaving(vec![deletion(&part)], asked).await?;
    Ok(())
}

pub(super) async fn references_deletion_beside_deleted_ones(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (target, other) = two_specimens(&bench).await?;
    let mut hidden = Vec::new();
    for (holder, _) in referring_rows(&target, &other) {
        bench.insert([holder.clone()]).await?;
        let after = deleted(&holder);
        bench
            .apply(vec![replacement(&holder, after.clone())])
            .await?;
        hidden.push(after);
    }
    let after = deleted(&target);
    let changes = vec![replacement(&target, after.clone())];
    bench
        .commit_leaving(changes, no_references_to(target.id())?)
        .await?;
    bench.expect_stored(&after).await?;
    // One that comes back first does count.
    let back = restored(&after);
    bench.apply(vec![replacement(&after, back.clone())]).await?;
    for before in hidden {
        let live = restored(&before);
        bench
            .apply(vec![replacement(&before, live.clone())])
            .await?;
        let asked = no_references_to(target.id())?;
        let came = bench.commit_leaving(vec![deletion(&back)], asked).await;
        expect_conflict(&came, &back, "a deletion beside a restored row")?;
        bench.apply(vec![purge(&live)]).await?;
    }
    let asked = no_references_to(target.id())?;
    bench.commit_leaving(vec![deletion(&back)], asked).await?;
    Ok(())
}

pub(super) async fn references_deletion_with_its_own_changes(h: &Harness) -> Outcome {
    // What refers as stored and no more after the commit: deleted, removed, emptied, pointed away.
    for turned in [false, true] {
        let bench = h.bench();
        let (target, other) = two_specimens(&bench).await?;
        let (id, away) = (target.id(), Id::<Specimen>::new(other.id()));
        let part = || Part::new(Id::<Specimen>::new(id));
        let copy = Part {
            copy_of_id: Some(Id::new(id)),
            ..Part::new(away)
        };
        let child = Specimen {
            parent_id: Some(Id::new(id)),
            ..bare("Child")
        };
        let (gone, removed, moved) = (row(part()), row(part()), row(part()));
        let (emptied, orphan, child) = (row(copy), row(child.clone()), row(child));
        let holders = [&gone, &removed, &moved, &emptied, &orphan, &child];
        bench.insert(holders.map(Clone::clone)).await?;
        let after = [
            (&gone, deleted(&gone)),
            (
                &moved,
                next::<Part>(&moved, |data| data.specimen_id = away)?,
            ),
            (
                &emptied,
                next::<Part>(&emptied, |data| data.copy_of_id = None)?,
            ),
            (
                &orphan,
                next::<Specimen>(&orphan, |data| data.parent_id = None)?,
            ),
            (
                &child,
                next::<Specimen>(&child, |data| data.parent_id = Some(away))?,
            ),
            (&target, deleted(&target)),
        ];
        let mut changes = vec![purge(&removed)];
        changes.extend(
            after
                .iter()
                .map(|(before, after)| replacement(before, after.clone())),
        );
        if turned {
            changes.reverse();
        }
        let asked = no_references_to(target.id())?;
        bench.commit_leaving(changes, asked).await?;
        for (_, row) in &after {
            bench.expect_stored(row).await?;
        }
        bench.expect_gone(&removed).await?;
    }
    Ok(())
}

pub(super) async fn references_deletion_of_families(h: &Harness) -> Outcome {
    // Rows that refer to each other, and one that refers to itself, go together.
    let bench = h.bench();
    let relative = |id, parent| {
        let data = Specimen {
            parent_id: Some(Id::new(parent)),
            ..bare("Relative")
        };
        row_with(id, data)
    };
    let (first, second, third) = (new_id(), new_id(), new_id());
    let [one, two, own] = [
        relative(first, second),
        relative(second, first),
        relative(third, third),
    ];
    let other = row(bare("Other"));
    let part = row(Part::new(Id::<Specimen>::new(first)));
    let spare = row(Part {
        replaces_id: Some(Id::new(part.id())),
        ..Part::new(Id::<Specimen>::new(other.id()))
    });
    let all = [&one, &two, &part, &spare, &own];
    bench.insert([other]).await?;
    bench.insert(all.map(Clone::clone)).await?;
    let mut asked = Vec::new();
    for specimen in [&one, &two, &own] {
        asked.extend(no_references_to(specimen.id())?);
    }
    for part in [&part, &spare] {
        asked.push(unreferenced(Part::schema(), "replaces_id", part.id())?);
    }
    // One that stays behind holds the one that it refers to.
    for (left, held) in [(&one, &two), (&two, &one), (&part, &one), (&spare, &part)] {
        let going = all.iter().filter(|row| row.id() != left.id());
        let changes = going.map(|row| deletion(row)).collect();
        let asked = asked.iter().filter(|wanted| wanted.id != left.id());
        let came = bench
            .commit_leaving(changes, asked.cloned().collect())
            .await;
        expect_conflict(&came, held, "a deletion that leaves one of a family")?;
        for row in all {
            bench.expect_stored(row).await?;
        }
    }
    let after = all.map(deleted);
    let changes = all.into_iter().zip(&after);
    let changes = changes.map(|(before, after)| replacement(before, after.clone()));
    bench.commit_leaving(changes.collect(), asked).await?;
    for row in &after {
        bench.expect_stored(row).await?;
    }
    Ok(())
}

pub(super) async fn references_deletion_with_new_ones(h: &Harness) -> Outcome {
    for turned in [false, true] {
        let bench = h.bench();
        let (target, other) = two_specimens(&bench).await?;
        // A reference that is made or changed is refused as one, which is told first.
        let part = row(Part::new(Id::<Specimen>::new(target.id())));
        let elsewhere = row(Part::new(Id::<Specimen>::new(other.id())));
        bench.insert([elsewhere.clone()]).await?;
        let pointed = update::<Part>(&elsewhere, |data| data.specimen_id = Id::new(target.id()))?;
        for new in [insertion(part.clone()), pointed] {
            let mut changes = vec![new, deletion(&target)];
            if turned {
                changes.reverse();
            }
            let came = bench
                .commit_leaving(changes, no_references_to(target.id())?)
                .await;
            let what = "a reference to a row that the same commit deletes";
            expect_reference(&came, Part::schema(), "specimen_id", what)?;
        }
        bench.expect_gone(&part).await?;
        bench.expect_stored(&elsewhere).await?;
        // One that the commit writes and leaves as it is was not made by it, but is there.
        for (holder, field) in referring_rows(&target, &other) {
            bench.insert([holder.clone()]).await?;
            let touched = holder.with_meta(holder.meta().next(super::harness::stamp()));
            let mut changes = vec![replacement(&holder, touched), deletion(&target)];
            if turned {
                changes.reverse();
            }
            let came = bench
                .commit_leaving(changes, no_references_to(target.id())?)
                .await;
            let what = format!("a deletion with an update that keeps the `{field}`");
            expect_conflict(&came, &target, &what)?;
            bench.expect_stored(&holder).await?;
            bench.expect_stored(&target).await?;
            bench.apply(vec![purge(&holder)]).await?;
        }
    }
    Ok(())
}

pub(super) async fn references_deletion_of_one_of_many(h: &Harness) -> Outcome {
    // Of many rows that a commit deletes one is held, and that one is named.
    let bench = h.bench();
    let rows: Vec<Row> = (0..40).map(|n| row(bare(&format!("Row {n}")))).collect();
    bench.insert(rows.clone()).await?;
    let mut asked = Vec::new();
    for row in &rows {
        asked.extend(no_references_to(row.id())?);
    }
    for held in [rows.first(), rows.get(17), rows.last()]
        .into_iter()
        .flatten()
    {
        let part = row(Part::new(Id::<Specimen>::new(held.id())));
        bench.insert([part.clone()]).await?;
        let changes = rows.iter().map(deletion).collect();
        let came = bench.commit_leaving(changes, asked.clone()).await;
        expect_conflict(&came, held, "a deletion of many rows, one of them held")?;
        for row in &rows {
            bench.expect_stored(row).await?;
        }
        bench.apply(vec![deletion(&part)]).await?;
    }
    let changes = rows.iter().map(deletion).collect();
    let committed = bench.commit_leaving(changes, asked).await?;
    ensure_eq!(committed.rows, rows.len(), "the number of rows deleted");
    Ok(())
}

pub(super) async fn references_deletion_after_stale_versions(h: &Harness) -> Outcome {
    // What was checked before is still told before.
    let bench = h.bench();
    let (target, other) = two_specimens(&bench).await?;
    let part = row(Part::new(Id::<Specimen>::new(target.id())));
    bench.insert([part]).await?;
    let fresh = next::<Specimen>(&other, |data| data.quantity = 1)?;
    bench
        .apply(vec![replacement(&other, fresh.clone())])
        .await?;
    let stale = update::<Specimen>(&other, |data| data.quantity = 2)?;
    let asked = no_references_to(target.id())?;
    let came = bench
        .commit_leaving(vec![deletion(&target), stale], asked.clone())
        .await;
    expect_conflict(&came, &other, "a deletion with a stale update")?;
    let nowhere = row(Part::new(Id::<Specimen>::new(new_id())));
    let came = bench
        .commit_leaving(vec![deletion(&target), insertion(nowhere)], asked)
        .await;
    let what = "a deletion with a reference to nothing";
    expect_reference(&came, Part::schema(), "specimen_id", what)?;
    bench.expect_stored(&target).await?;
    bench.expect_stored(&fresh).await
}

pub(super) async fn references_deletion_per_tenant(h: &Harness) -> Outcome {
    // Both tenants have a specimen with this id; only one of them has rows that refer to it.
    let (bench, theirs) = (h.bench(), h.bench());
    let id = new_id();
    let target = row_with(id, bare("Ours"));
    bench.insert([target.clone()]).await?;
    let (same, other) = (row_with(id, bare("Theirs")), row(bare("Other")));
    theirs.insert([same.clone(), other.clone()]).await?;
    let holders = referring_rows(&same, &other).into_iter();
    theirs.insert(holders.map(|(row, _)| row)).await?;
    let came = theirs
        .commit_leaving(vec![deletion(&same)], no_references_to(same.id())?)
        .await;
    expect_conflict(&came, &same, "a deletion beside the tenant's own rows")?;
    let after = deleted(&target);
    let changes = vec![replacement(&target, after.clone())];
    bench
        .commit_leaving(changes, no_references_to(target.id())?)
        .await?;
    bench.expect_stored(&after).await?;
    theirs.expect_stored(&same).await
}
