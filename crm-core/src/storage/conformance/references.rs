//! References: where they must lead, which ones a commit checks, and what they protect.

use super::expect::{expect_duplicate, expect_reference, expect_referenced};
use super::fixtures::bare;
use super::harness::{
    Bench, deleted, deletion, insertion, new_id, next, purge, replacement, restored, row, row_with,
    update,
};
use super::objects::{Part, Specimen};
use super::{Harness, Outcome};
use crate::Id;
use crate::schema::{Entity, Row};

fn part_of(specimen: &Row) -> Row {
    row(Part::new(Id::<Specimen>::new(specimen.id())))
}

fn child_of(parent: &Row) -> Row {
    row(Specimen {
        parent_id: Some(Id::new(parent.id())),
        ..bare("Child")
    })
}

async fn stored_specimen(bench: &Bench) -> Outcome<Row> {
    let specimen = row(bare("Target"));
    bench.insert([specimen.clone()]).await?;
    Ok(specimen)
}

async fn expect_dangling(bench: &Bench, new: Row, field: &str, what: &str) -> Outcome {
    let came = bench.commit(vec![insertion(new.clone())]).await;
    expect_reference(&came, new.object(), field, what)?;
    bench.expect_gone(&new).await
}

/// Unique keys come before references, whichever of several rows is at fault.
pub(super) async fn references_after_unique_keys(h: &Harness) -> Outcome {
    let bench = h.bench();
    let numbered = |serial| {
        row(Specimen {
            serial: Some(serial),
            ..bare("numbered")
        })
    };
    let stored = numbered(1);
    bench.insert([stored.clone()]).await?;
    let dangling = row(Part::new(Id::<Specimen>::new(new_id())));
    let changes = vec![
        insertion(dangling.clone()),
        insertion(numbered(2)),
        insertion(numbered(1)),
    ];
    let came = bench.commit(changes).await;
    let what = "a commit with a duplicate in its last row and a missing reference in its first";
    expect_duplicate(&came, stored.object(), &["serial"], what)?;
    bench.expect_gone(&dangling).await
}

pub(super) async fn references_missing_target(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    let nowhere: Id<Specimen> = Id::new(new_id());
    let what = "a reference to a row that never was";
    expect_dangling(&bench, row(Part::new(nowhere)), "specimen_id", what).await?;
    // Whatever a deletion of the target would do, it must be there first.
    let fine = Part::new(Id::<Specimen>::new(specimen.id()));
    let copy = row(Part {
        copy_of_id: Some(nowhere),
        ..fine.clone()
    });
    expect_dangling(&bench, copy, "copy_of_id", what).await?;
    let owned = row(Part {
        owner_id: Some(nowhere),
        ..fine.clone()
    });
    expect_dangling(&bench, owned, "owner_id", what).await?;
    // A row of another object with this id is not the target.
    let part = row(fine.clone());
    bench.insert([part.clone()]).await?;
    let wrong = row(Part {
        copy_of_id: Some(Id::new(part.id())),
        ..fine
    });
    expect_dangling(
        &bench,
        wrong,
        "copy_of_id",
        "a reference to another object's row",
    )
    .await?;
    // By an update.
    let change = update::<Part>(&part, |data| data.specimen_id = nowhere)?;
    let came = bench.commit(vec![change]).await;
    expect_reference(
        &came,
        Part::schema(),
        "specimen_id",
        "an update to a missing target",
    )?;
    bench.expect_stored(&part).await
}

pub(super) async fn references_nulls_and_good_ones(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (one, two) = (
        stored_specimen(&bench).await?,
        stored_specimen(&bench).await?,
    );
    let part = part_of(&one);
    bench.insert([part.clone()]).await?;
    let id = |row: &Row| Some(Id::new(row.id()));
    let linked = next::<Part>(&part, |data| {
        data.copy_of_id = id(&two);
        data.owner_id = id(&one);
    })?;
    bench
        .apply(vec![replacement(&part, linked.clone())])
        .await?;
    let unlinked = next::<Part>(&linked, |data| {
        (data.copy_of_id, data.owner_id) = (None, None);
    })?;
    bench
        .apply(vec![replacement(&linked, unlinked.clone())])
        .await?;
    bench.expect_stored(&unlinked).await
}

pub(super) async fn references_deleted_target(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    bench.apply(vec![deletion(&specimen)]).await?;
    let what = "a reference to a deleted row";
    expect_dangling(&bench, part_of(&specimen), "specimen_id", what).await?;
    expect_dangling(&bench, child_of(&specimen), "parent_id", what).await?;
    // An archived one is as good as any.
    let kept = stored_specimen(&bench).await?;
    bench
        .apply(vec![replacement(&kept, super::harness::archived(&kept))])
        .await?;
    bench.insert([part_of(&kept)]).await
}

pub(super) async fn references_removed_target(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    bench.apply(vec![purge(&specimen)]).await?;
    let what = "a reference to a removed row";
    expect_dangling(&bench, part_of(&specimen), "specimen_id", what).await
}

pub(super) async fn references_target_of_same_commit(h: &Harness) -> Outcome {
    // Only the state after the whole commit counts, so the order does not.
    for turned in [false, true] {
        let bench = h.bench();
        let specimen = row(bare("New"));
        let child = child_of(&specimen);
        let grandchild = child_of(&child);
        let mut rows = vec![part_of(&specimen), grandchild, specimen, child];
        if turned {
            rows.reverse();
        }
        bench.insert(rows.clone()).await?;
        for row in &rows {
            bench.expect_stored(row).await?;
        }
    }
    Ok(())
}

pub(super) async fn references_target_deleted_in_same_commit(h: &Harness) -> Outcome {
    for turned in [false, true] {
        let bench = h.bench();
        let specimen = stored_specimen(&bench).await?;
        let what = "a reference to a row that the same commit deletes";
        for leaving in [deletion(&specimen), purge(&specimen)] {
            let part = part_of(&specimen);
            let mut changes = vec![insertion(part.clone()), leaving];
            if turned {
                changes.reverse();
            }
            let came = bench.commit(changes).await;
            expect_reference(&came, Part::schema(), "specimen_id", what)?;
            bench.expect_gone(&part).await?;
            bench.expect_stored(&specimen).await?;
        }
        // A target that the same commit restores is there.
        let hidden = deleted(&specimen);
        bench
            .apply(vec![replacement(&specimen, hidden.clone())])
            .await?;
        let mut changes = vec![
            insertion(part_of(&specimen)),
            replacement(&hidden, restored(&hidden)),
        ];
        if turned {
            changes.reverse();
        }
        bench.apply(changes).await?;
    }
    Ok(())
}

pub(super) async fn references_to_itself(h: &Harness) -> Outcome {
    let bench = h.bench();
    let id = new_id();
    let own = row_with(
        id,
        Specimen {
            parent_id: Some(Id::new(id)),
            ..bare("Own parent")
        },
    );
    bench.insert([own.clone()]).await?;
    bench.expect_stored(&own).await?;
    // It does not stand in its own way.
    bench.apply(vec![purge(&own)]).await?;
    bench.expect_gone(&own).await?;
    // Two that refer to each other come and go together.
    let (one, two) = (new_id(), new_id());
    let pair = [
        row_with(
            one,
            Specimen {
                parent_id: Some(Id::new(two)),
                ..bare("One")
            },
        ),
        row_with(
            two,
            Specimen {
                parent_id: Some(Id::new(one)),
                ..bare("Two")
            },
        ),
    ];
    bench.insert(pair.clone()).await?;
    bench.apply(pair.iter().map(purge).collect()).await
}

pub(super) async fn references_unchanged_ones(h: &Harness) -> Outcome {
    // A target may be deleted under a reference; the referring row can still be edited.
    let bench = h.bench();
    let (target, other) = (
        stored_specimen(&bench).await?,
        stored_specimen(&bench).await?,
    );
    let part = part_of(&target);
    bench.insert([part.clone()]).await?;
    bench.apply(vec![deletion(&target)]).await?;
    let edited = next::<Part>(&part, |data| data.quantity = 9)?;
    bench
        .apply(vec![replacement(&part, edited.clone())])
        .await?;
    bench.expect_stored(&edited).await?;
    // Away from the deleted target is fine, back to it is not.
    let moved = next::<Part>(&edited, |data| data.specimen_id = Id::new(other.id()))?;
    bench
        .apply(vec![replacement(&edited, moved.clone())])
        .await?;
    let back = update::<Part>(&moved, |data| data.specimen_id = Id::new(target.id()))?;
    let what = "a reference changed to a deleted row";
    expect_reference(
        &bench.commit(vec![back]).await,
        Part::schema(),
        "specimen_id",
        what,
    )?;
    bench.expect_stored(&moved).await
}

pub(super) async fn references_of_deleted_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (target, other) = (
        stored_specimen(&bench).await?,
        stored_specimen(&bench).await?,
    );
    let part = part_of(&target);
    bench.insert([part.clone()]).await?;
    // A whole family is deleted by one commit, ...
    let hidden = deleted(&part);
    let hidden_target = deleted(&target);
    bench
        .apply(vec![
            replacement(&target, hidden_target.clone()),
            replacement(&part, hidden.clone()),
        ])
        .await?;
    // ... a deleted row may refer to a deleted one, also anew, ...
    let hidden_other = deleted(&other);
    bench
        .apply(vec![replacement(&other, hidden_other.clone())])
        .await?;
    let moved = next::<Part>(&hidden, |data| data.specimen_id = Id::new(other.id()))?;
    bench
        .apply(vec![replacement(&hidden, moved.clone())])
        .await?;
    // ... but it comes back only to one that is there: all its references count as new.
    let back = restored(&moved);
    let came = bench.commit(vec![replacement(&moved, back.clone())]).await;
    let what = "a restored row that refers to a deleted one";
    expect_reference(&came, Part::schema(), "specimen_id", what)?;
    bench.expect_stored(&moved).await?;
    bench
        .apply(vec![
            replacement(&moved, back.clone()),
            replacement(&hidden_other, restored(&hidden_other)),
        ])
        .await?;
    bench.expect_stored(&back).await
}

pub(super) async fn references_protect_targets(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    let other = stored_specimen(&bench).await?;
    let removed = Specimen::schema();
    let id = || Some(Id::new(specimen.id()));
    let base = Part::new(Id::<Specimen>::new(other.id()));
    // Whatever the schema says of deletion: that is the engine's work, done by other changes.
    for (row, field) in [
        (part_of(&specimen), "specimen_id"),
        (
            row(Part {
                copy_of_id: id(),
                ..base.clone()
            }),
            "copy_of_id",
        ),
        (
            row(Part {
                owner_id: id(),
                ..base.clone()
            }),
            "owner_id",
        ),
        (child_of(&specimen), "parent_id"),
    ] {
        bench.insert([row.clone()]).await?;
        let came = bench.commit(vec![purge(&specimen)]).await;
        let what = "a removal of a row that is referred to";
        expect_referenced(&came, removed, row.object(), field, what)?;
        bench.expect_stored(&specimen).await?;
        // A deleted row refers to it all the same.
        let hidden = deleted(&row);
        bench.apply(vec![replacement(&row, hidden.clone())]).await?;
        let came = bench.commit(vec![purge(&specimen)]).await;
        let what = "a removal of a row that a deleted one refers to";
        expect_referenced(&came, removed, row.object(), field, what)?;
        bench.apply(vec![purge(&hidden)]).await?;
    }
    bench.apply(vec![purge(&specimen)]).await?;
    bench.expect_gone(&specimen).await?;
    // Deletion that keeps the row is no removal.
    let held = stored_specimen(&bench).await?;
    bench.insert([part_of(&held)]).await?;
    bench.apply(vec![deletion(&held)]).await
}

pub(super) async fn references_removed_together(h: &Harness) -> Outcome {
    for turned in [false, true] {
        let bench = h.bench();
        let specimen = stored_specimen(&bench).await?;
        let (gone, emptied, child) = (
            part_of(&specimen),
            row(Part {
                copy_of_id: Some(Id::new(specimen.id())),
                ..Part::new(Id::<Specimen>::new(stored_specimen(&bench).await?.id()))
            }),
            child_of(&specimen),
        );
        bench
            .insert([gone.clone(), emptied.clone(), child.clone()])
            .await?;
        let mut changes = vec![
            purge(&gone),
            update::<Part>(&emptied, |data| data.copy_of_id = None)?,
            purge(&specimen),
            purge(&child),
        ];
        if turned {
            changes.reverse();
        }
        bench.apply(changes).await?;
        for row in [&specimen, &gone, &child] {
            bench.expect_gone(row).await?;
        }
    }
    Ok(())
}

pub(super) async fn references_one_left_behind(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    let (gone, stays) = (part_of(&specimen), part_of(&specimen));
    bench.insert([gone.clone(), stays.clone()]).await?;
    let came = bench.commit(vec![purge(&gone), purge(&specimen)]).await;
    let what = "a removal with one of two referring rows";
    expect_referenced(
        &came,
        Specimen::schema(),
        Part::schema(),
        "specimen_id",
        what,
    )?;
    for row in [&specimen, &gone, &stays] {
        bench.expect_stored(row).await?;
    }
    // An update that keeps the reference does not free the target.
    let touched = update::<Part>(&stays, |data| data.quantity = 2)?;
    let came = bench
        .commit(vec![purge(&gone), purge(&specimen), touched])
        .await;
    expect_referenced(
        &came,
        Specimen::schema(),
        Part::schema(),
        "specimen_id",
        what,
    )?;
    bench.expect_stored(&specimen).await
}

pub(super) async fn references_chain(h: &Harness) -> Outcome {
    let bench = h.bench();
    let specimen = stored_specimen(&bench).await?;
    let first = part_of(&specimen);
    let second = row(Part {
        replaces_id: Some(Id::new(first.id())),
        ..Part::new(Id::<Specimen>::new(specimen.id()))
    });
    bench.insert([first.clone(), second.clone()]).await?;
    let came = bench.commit(vec![purge(&first)]).await;
    let what = "a removal of a part that another replaces";
    expect_referenced(&came, Part::schema(), Part::schema(), "replaces_id", what)?;
    bench.apply(vec![purge(&second)]).await?;
    bench.apply(vec![purge(&first)]).await?;
    bench.apply(vec![purge(&specimen)]).await
}
