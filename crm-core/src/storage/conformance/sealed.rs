//! Sealed rows: bytes that stay with a row, values that stand in for others, and sealing anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::expect::{
    expect_conflict, expect_duplicate, expect_reference, expect_referenced, expect_same,
    expect_same_rows,
};
use super::fixtures::{bare, full};
use super::harness::{
    Bench, archived, deleted, ids, insertion, moment, new_id, place, purge, record, replacement,
    row, row_with, stamp,
};
use super::instances::twins;
use super::objects::{Chore, Laboratory, Part, Reading, Specimen};
use super::runtime::yield_now;
use super::{BoxFuture, Failure, Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{Comparison, Condition, FieldAt, Query};
use crate::schema::{Dynamic, Entity, Meta, ObjectRef, Row, SYSTEM_FIELDS, Value};
use crate::storage::{Claim, FeedQuery, Scope, StorageError, resealed};

/// What stands in the place of a text: nothing that its type would take.
const TOKEN: &str = "~abcdefghijklmnopqrstuvw234";
/// What stands in the place of another.
const OTHER: &str = "~bcdefghijklmnopqrstuvw2345";

/// The row with other values and sealed bytes, at the same version.
fn sealed(row: &Row, values: &[(&str, Value)], bytes: impl AsRef<[u8]>) -> Outcome<Row> {
    let object = row.object();
    let mut all = row.values();
    for (field, value) in values {
        let place = place(object, field)? - SYSTEM_FIELDS;
        if let Some(slot) = all.get_mut(place) {
            slot.clone_from(value);
        }
    }
    let made = Dynamic::new(object.clone(), row.meta(), all);
    Ok(Arc::new(made.with_sealed(bytes.as_ref())))
}

/// The row without sealed bytes and with the values that it has.
fn plain(row: &Row) -> Outcome<Row> {
    Ok(row.object().build(row.meta(), row.values())?)
}

/// The next version of a row.
fn next(row: &Row) -> Row {
    row.with_meta(row.meta().next(stamp()))
}

/// A specimen whose e-mail address is sealed.
fn specimen(name: &str) -> Outcome<Row> {
    let values = [("email", TOKEN.into()), ("secret", OTHER.into())];
    sealed(&row(bare(name)), &values, name)
}

async fn reseal(bench: &Bench, rows: &[Row]) -> Outcome<usize> {
    Ok(bench.storage().reseal(&bench.scope, rows).await?)
}

/// What a row is after it was sealed anew as another.
fn as_resealed(stored: &Row, row: &Row) -> Outcome<Row> {
    resealed(stored, row)?.ok_or_else(|| Failure::new("the suite seals a row that has no secrets"))
}

/// The ids of the rows with a text in a field.
async fn with_text(
    bench: &Bench,
    object: &ObjectRef,
    field: &str,
    text: &str,
) -> Outcome<Vec<Row>> {
    let field = FieldAt::at_place(object, place(object, field)?);
    let condition = Condition::Compare {
        field: field.ok_or_else(|| Failure::new("the suite names a field that is none"))?,
        op: Comparison::Eq,
        value: text.into(),
    };
    bench.select(&Query::new(object, condition)).await
}

pub(super) async fn sealed_rows_come_back(h: &Harness) -> Outcome {
    let bench = h.bench();
    let laboratory = row_with(bench.tenant.uuid(), Laboratory::new("Lab"));
    let laboratory = sealed(&laboratory, &[("name", TOKEN.into())], [0, 255, 0])?;
    let one = specimen("one")?;
    let long = sealed(&row(bare("long")), &[], vec![7_u8; 40_000])?;
    let nothing = sealed(&row(bare("nothing")), &[], [])?;
    let open = row(full()?);
    bench.insert([one.clone()]).await?;
    let several = [
        long.clone(),
        nothing.clone(),
        open.clone(),
        laboratory.clone(),
    ];
    bench.insert(several).await?;
    for row in [&one, &long, &nothing, &open, &laboratory] {
        bench.expect_stored(row).await?;
    }
    record::<Specimen>(&bench.again(&open).await?)?;
    let mut all = vec![one.clone(), long, nothing, open];
    all.sort_by_key(|row| row.id());
    let found = bench.all(Specimen::schema()).await?;
    expect_same_rows(&found, &all, "sealed rows beside others")?;
    let again = bench.get(Specimen::schema(), &ids(&all)).await?;
    expect_same_rows(&again, &all, "sealed rows by their ids")
}

pub(super) async fn sealed_values_of_any_form(h: &Harness) -> Outcome {
    let bench = h.bench();
    // No address, none of the options, no document that the type would make.
    let values = [
        ("code", TOKEN.into()),
        ("email", TOKEN.into()),
        ("former_state", OTHER.into()),
        ("secret", Value::Null),
    ];
    let odd = sealed(&row(full()?), &values, "odd")?;
    let others: Vec<Row> = (0..3).map(|n| row(bare(&format!("Row {n}")))).collect();
    bench.insert([odd.clone()]).await?;
    bench.insert(others).await?;
    bench.expect_stored(&odd).await?;
    for (field, text) in [("email", TOKEN), ("code", TOKEN), ("former_state", OTHER)] {
        let found = with_text(&bench, Specimen::schema(), field, text).await?;
        expect_same_rows(
            &found,
            std::slice::from_ref(&odd),
            "a row by what stands in it",
        )?;
    }
    let name = [("name", OTHER.into())];
    let after = sealed(&next(&odd), &[values.as_slice(), &name].concat(), "odd")?;
    bench.apply(vec![replacement(&odd, after.clone())]).await?;
    bench.expect_stored(&after).await
}

pub(super) async fn sealed_updates(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows = [
        specimen("a")?,
        specimen("b")?,
        specimen("c")?,
        specimen("d")?,
    ];
    bench.insert(rows.clone()).await?;
    let [a, b, c, d] = rows;
    // One by one: other bytes, none at all, and those that it had.
    let other = sealed(&next(&a), &[("email", OTHER.into())], "other")?;
    bench.apply(vec![replacement(&a, other.clone())]).await?;
    bench.expect_stored(&other).await?;
    let none = plain(&sealed(&next(&other), &[("email", Value::Null)], "")?)?;
    bench.apply(vec![replacement(&other, none.clone())]).await?;
    bench.expect_stored(&none).await?;
    record::<Specimen>(&bench.again(&none).await?)?;
    let back = sealed(&next(&none), &[], "back")?;
    bench.apply(vec![replacement(&none, back.clone())]).await?;
    bench.expect_stored(&back).await?;
    let hidden = deleted(&back);
    bench
        .apply(vec![replacement(&back, hidden.clone())])
        .await?;
    bench.expect_stored(&hidden).await?;
    // Several at once.
    let kept = archived(&b);
    let changed = sealed(&next(&c), &[], "changed")?;
    let opened = plain(&sealed(&next(&d), &[("email", Value::Null)], "")?)?;
    bench
        .apply(vec![
            replacement(&b, kept.clone()),
            replacement(&c, changed.clone()),
            replacement(&d, opened.clone()),
        ])
        .await?;
    for row in [&kept, &changed, &opened] {
        bench.expect_stored(row).await?;
    }
    bench.apply(vec![purge(&kept)]).await?;
    bench.expect_gone(&kept).await
}

/// A caller that seals rows shows the row as it was in the form that it would have now. The stored one
/// may be in the clear, or sealed otherwise: nothing of that is left.
pub(super) async fn sealed_updates_in_another_form(h: &Harness) -> Outcome {
    let bench = h.bench();
    let stored = [row(full()?), row(bare("Bare"))];
    bench.insert(stored.clone()).await?;
    let values = [
        ("code", Value::Null),
        ("email", TOKEN.into()),
        ("former_state", Value::Null),
        ("secret", OTHER.into()),
    ];
    let [one, two] = stored;
    let before = sealed(&one, &values, "before")?;
    let after = sealed(&next(&one), &values, "after")?;
    bench
        .apply(vec![replacement(&before, after.clone())])
        .await?;
    bench.expect_stored(&after).await?;
    // Two at once.
    let values = [("email", OTHER.into()), ("secret", TOKEN.into())];
    let changes = [&after, &two].map(|row| -> Outcome<_> {
        let before = sealed(row, &values, "before")?;
        Ok((before, sealed(&next(row), &values, "later")?))
    });
    let [first, second] = changes;
    let (first, second) = (first?, second?);
    bench
        .apply(vec![
            replacement(&first.0, first.1.clone()),
            replacement(&second.0, second.1.clone()),
        ])
        .await?;
    bench.expect_stored(&first.1).await?;
    bench.expect_stored(&second.1).await
}

pub(super) async fn sealed_unique_keys(h: &Harness) -> Outcome {
    let bench = h.bench();
    let coded = |name: &str, code: &str| sealed(&row(bare(name)), &[("code", code.into())], name);
    let (first, second) = (coded("first", TOKEN)?, coded("second", OTHER)?);
    bench.insert([first.clone(), second.clone()]).await?;
    let came = bench.commit(vec![insertion(coded("again", TOKEN)?)]).await;
    expect_duplicate(&came, Specimen::schema(), &["code"], "a sealed value twice")?;
    let taken = sealed(&next(&second), &[("code", TOKEN.into())], "second")?;
    let came = bench
        .commit(vec![replacement(&second, taken.clone())])
        .await;
    expect_duplicate(&came, Specimen::schema(), &["code"], "a sealed value taken")?;
    // The two may change places.
    let given = sealed(&next(&first), &[("code", OTHER.into())], "first")?;
    let both = vec![
        replacement(&first, given.clone()),
        replacement(&second, taken.clone()),
    ];
    bench.apply(both).await?;
    bench.expect_stored(&given).await?;
    bench.expect_stored(&taken).await
}

pub(super) async fn sealed_references(h: &Harness) -> Outcome {
    let bench = h.bench();
    let target = specimen("target")?;
    bench.insert([target.clone()]).await?;
    let child = |id| sealed(&row(bare("child")), &[("parent_id", Value::Uuid(id))], "c");
    let came = bench.commit(vec![insertion(child(new_id())?)]).await;
    let object = Specimen::schema();
    expect_reference(
        &came,
        object,
        "parent_id",
        "a sealed row that leads nowhere",
    )?;
    let part = row(Part::new(Id::<Specimen>::new(target.id())));
    bench.insert([child(target.id())?, part.clone()]).await?;
    bench.apply(vec![purge(&part)]).await?;
    let came = bench.commit(vec![purge(&target)]).await;
    expect_referenced(
        &came,
        object,
        object,
        "parent_id",
        "what a sealed row leads to",
    )
}

pub(super) async fn sealed_claims(h: &Harness) -> Outcome {
    let bench = h.bench();
    let chores: [Row; 2] = [row(Chore::new("mail")), row(Chore::new("mail"))];
    let one = sealed(&chores[0], &[("client", TOKEN.into())], "for whom")?;
    bench.insert([one.clone(), chores[1].clone()]).await?;
    let urgency = place(Chore::schema(), "urgency")?;
    let stamp = stamp();
    let assign = vec![(urgency, Value::Integer(5))];
    let object = Chore::schema().clone();
    let claim = Claim::new(object, Condition::all(), Vec::new(), 9, assign, stamp);
    let claimed = bench.storage().claim(&bench.scope, &claim).await?;
    let mut expected = Vec::new();
    for row in [&one, &chores[1]] {
        expected.push(claim.apply(row)?);
    }
    expect_same_rows(&claimed, &expected, "sealed rows that a worker gets")?;
    for row in &expected {
        bench.expect_stored(row).await?;
    }
    Ok(())
}

/// The entries of the log, once there are `count`.
async fn entries(bench: &Bench, count: usize) -> Outcome<Vec<(String, Row)>> {
    let begin = Instant::now();
    loop {
        let query = FeedQuery::new(Reading::schema(), None, 100);
        let page = bench.storage().feed(&bench.scope, &query).await?;
        if page.entries.len() >= count || begin.elapsed() > bench.patience() {
            ensure_eq!(page.entries.len(), count, "the entries of the feed");
            let entries = page.entries.into_iter();
            return Ok(entries.map(|(at, row)| (at.to_string(), row)).collect());
        }
        std::thread::sleep(Duration::from_millis(1));
        yield_now().await;
    }
}

pub(super) async fn sealed_feed(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    for number in 0..4 {
        let open = row(Reading::new(moment(number)));
        let entry = match number {
            2 => open,
            _ => sealed(&open, &[("observer", TOKEN.into())], number.to_string())?,
        };
        bench.insert([entry.clone()]).await?;
        rows.push(entry);
    }
    let before = entries(&bench, 4).await?;
    let came: Vec<Row> = before.iter().map(|(_, row)| row.clone()).collect();
    expect_same_rows(&came, &rows, "sealed entries of a feed")?;
    // Sealed anew, they stay where they are.
    let mut expected: Vec<Row> = came.iter().take(1).cloned().collect();
    for row in rows.iter().skip(1) {
        expected.push(sealed(row, &[("observer", OTHER.into())], "anew")?);
    }
    let anew = expected.get(1..).unwrap_or_default();
    ensure_eq!(
        reseal(&bench, anew).await?,
        3,
        "how many entries were sealed anew"
    );
    let after = entries(&bench, 4).await?;
    let came: Vec<Row> = after.iter().map(|(_, row)| row.clone()).collect();
    expect_same_rows(&came, &expected, "entries that were sealed anew")?;
    let places = |all: &[(String, Row)]| -> Vec<String> {
        all.iter().map(|(position, _)| position.clone()).collect()
    };
    ensure_eq!(
        places(&after),
        places(&before),
        "the places of entries that were sealed anew"
    );
    Ok(())
}

pub(super) async fn sealed_anew(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (open, shut) = (row(full()?), specimen("shut")?);
    let clear = specimen("clear")?;
    let chore = row(Chore::new("mail"));
    let part = row(Part::new(Id::<Specimen>::new(open.id())));
    let stored = [&open, &shut, &clear, &chore].map(Row::clone);
    bench.insert(stored.clone()).await?;
    bench.insert([part.clone()]).await?;
    let all = [
        ("code", TOKEN.into()),
        ("email", OTHER.into()),
        ("former_state", Value::Null),
        ("secret", TOKEN.into()),
    ];
    let anew = [
        sealed(&open, &all, "now sealed")?,
        sealed(&shut, &[("email", OTHER.into())], "by another key")?,
        plain(&sealed(
            &clear,
            &[("email", Value::Null), ("secret", "x".into())],
            "",
        )?)?,
        sealed(&chore, &[("client", OTHER.into())], "beside")?,
    ];
    ensure_eq!(
        reseal(&bench, &anew).await?,
        4,
        "how many rows were sealed anew"
    );
    for row in &anew {
        bench.expect_stored(row).await?;
    }
    record::<Specimen>(&bench.again(&clear).await?)?;
    // They are found by what stands in them now.
    let object = Specimen::schema();
    for (field, text, expected) in [
        ("email", TOKEN, vec![]),
        ("code", "TRI-1", vec![]),
        ("code", TOKEN, vec![open.id()]),
        ("secret", OTHER, vec![shut.id()]),
    ] {
        let found = ids(&with_text(&bench, object, field, text).await?);
        ensure_eq!(found, expected, "the rows with `{text}` in `{field}`");
    }
    // What is nobody's secret stays as it is stored.
    let stray = [
        ("name", "Stray".into()),
        ("quantity", Value::Integer(99)),
        ("email", TOKEN.into()),
    ];
    let stray = sealed(&anew[1], &stray, "stray")?;
    let stray = stray.with_meta(Meta {
        updated: stamp(),
        ..stray.meta()
    });
    ensure_eq!(
        reseal(&bench, std::slice::from_ref(&stray)).await?,
        1,
        "one row"
    );
    bench.expect_stored(&as_resealed(&anew[1], &stray)?).await?;
    // Who read a row before it was sealed anew goes on with it.
    let after = sealed(&next(&open), &all, "changed")?;
    bench.apply(vec![replacement(&open, after.clone())]).await?;
    bench.expect_stored(&after).await?;
    bench.expect_stored(&part).await?;
    ensure_eq!(reseal(&bench, &[]).await?, 0, "no rows");
    Ok(())
}

pub(super) async fn sealed_anew_unless_changed(h: &Harness) -> Outcome {
    let bench = h.bench();
    let rows = [specimen("a")?, specimen("b")?, specimen("c")?];
    bench.insert(rows.clone()).await?;
    let [changed, gone, same] = rows;
    let later = sealed(&next(&changed), &[], "later")?;
    bench
        .apply(vec![replacement(&changed, later.clone())])
        .await?;
    bench.apply(vec![purge(&gone)]).await?;
    let never = specimen("never")?;
    let mut anew = Vec::new();
    for row in [&changed, &gone, &never, &same] {
        anew.push(sealed(row, &[("email", OTHER.into())], "anew")?);
    }
    ensure_eq!(
        reseal(&bench, &anew).await?,
        1,
        "how many rows were at their version"
    );
    bench.expect_stored(&later).await?;
    bench.expect_gone(&gone).await?;
    bench.expect_gone(&never).await?;
    bench
        .expect_stored(&sealed(&same, &[("email", OTHER.into())], "anew")?)
        .await?;
    // A version that is not there yet.
    let ahead = sealed(&next(&later), &[], "ahead")?;
    ensure_eq!(
        reseal(&bench, &[ahead]).await?,
        0,
        "a row ahead of the stored one"
    );
    bench.expect_stored(&later).await?;
    let came = bench
        .commit(vec![replacement(&changed, next(&changed))])
        .await;
    expect_conflict(&came, &changed, "a stale row after all that")
}

pub(super) async fn sealed_anew_unique_keys(h: &Harness) -> Outcome {
    let bench = h.bench();
    let coded = |name: &str, code: &str| sealed(&row(bare(name)), &[("code", code.into())], name);
    let (first, second) = (coded("first", TOKEN)?, coded("second", OTHER)?);
    bench.insert([first.clone(), second.clone()]).await?;
    let fine = sealed(&first, &[("email", OTHER.into())], "anew")?;
    let taken = sealed(&second, &[("code", TOKEN.into())], "anew")?;
    let came = bench.storage().reseal(&bench.scope, &[fine, taken]).await;
    let is_duplicate = matches!(
        &came,
        Err(StorageError::Duplicate { object, fields })
            if object == Specimen::schema().name() && *fields == ["code"]
    );
    ensure!(
        is_duplicate,
        "expected a taken value to be a duplicate; {came:?} came"
    );
    bench.expect_stored(&first).await?;
    bench.expect_stored(&second).await
}

pub(super) async fn sealed_anew_per_tenant(h: &Harness) -> Outcome {
    let (victim, attacker) = (h.bench(), h.bench());
    let (theirs, own) = (specimen("theirs")?, specimen("own")?);
    let laboratory = |bench: &Bench| row_with(bench.tenant.uuid(), Laboratory::new("Lab"));
    let (their_lab, own_lab) = (laboratory(&victim), laboratory(&attacker));
    victim.insert([theirs.clone(), their_lab.clone()]).await?;
    attacker.insert([own.clone(), own_lab.clone()]).await?;
    let email = [("email", OTHER.into())];
    let name = [("name", TOKEN.into())];
    let anew = [
        sealed(&theirs, &email, "anew")?,
        sealed(&own, &email, "anew")?,
        sealed(&their_lab, &name, "anew")?,
        sealed(&own_lab, &name, "anew")?,
    ];
    for row in anew.iter().step_by(2) {
        let foreign = reseal(&attacker, std::slice::from_ref(row)).await?;
        ensure_eq!(foreign, 0, "rows of another tenant that were sealed anew");
    }
    ensure_eq!(
        reseal(&attacker, &anew).await?,
        2,
        "own rows beside those of another tenant"
    );
    victim.expect_stored(&theirs).await?;
    victim.expect_stored(&their_lab).await?;
    attacker.expect_stored(&anew[1]).await?;
    attacker.expect_stored(&anew[3]).await?;
    // Nothing is written for the platform as a whole.
    let platform = attacker.storage().reseal(&Scope::Platform, &anew).await?;
    ensure_eq!(platform, 0, "rows that the platform seals anew");
    victim.expect_stored(&their_lab).await
}

pub(super) async fn sealed_anew_per_instance(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    let document = ("custom_fields", Value::Json(json!({ "maker": TOKEN })));
    let anew = sealed(&loan, &[document], "anew")?;
    ensure_eq!(
        reseal(&bench, std::slice::from_ref(&anew)).await?,
        1,
        "one of two records"
    );
    bench.expect_stored(&exhibit).await?;
    bench.expect_stored(&anew).await
}

/// Says that the work is over, also where it fails.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

pub(super) async fn sealed_anew_beside_readers(h: &Harness) -> Outcome {
    const ROWS: usize = 12;
    let bench = h.bench();
    let rows: Vec<Row> = (0..ROWS).map(|_| specimen("0")).collect::<Outcome<_>>()?;
    bench.insert(rows.clone()).await?;
    let done = Arc::new(AtomicBool::new(false));
    let (writer, ended) = (bench.clone(), Ended(done.clone()));
    let mut workers: Vec<BoxFuture<'static, Outcome>> = vec![Box::pin(async move {
        let _ended = ended;
        for round in 1..=30 {
            let round = round.to_string();
            let values = [("email", format!("~{round}").into())];
            let anew = rows.iter().map(|row| sealed(row, &values, &round));
            let anew: Vec<Row> = anew.collect::<Outcome<_>>()?;
            ensure_eq!(
                reseal(&writer, &anew).await?,
                ROWS,
                "how many rows of a round"
            );
            yield_now().await;
        }
        Ok(())
    })];
    for _ in 0..2 {
        let (reader, done) = (bench.clone(), done.clone());
        workers.push(Box::pin(async move {
            while !done.load(Ordering::SeqCst) {
                let seen = reader.all(Specimen::schema()).await?;
                let forms: Vec<_> = seen
                    .iter()
                    .map(|row| row.sealed().map(<[u8]>::to_vec))
                    .collect();
                let is_whole = forms.iter().all(|form| Some(form) == forms.first());
                ensure!(
                    is_whole && seen.len() == ROWS,
                    "expected a reader to see all rows of a round; it sees {forms:?}"
                );
                yield_now().await;
            }
            Ok(())
        }));
    }
    bench.workers(workers).await.map(|_| ())
}

/// Rows are sealed anew while others change them: no change is lost, and no row has the form of another
/// version.
pub(super) async fn sealed_anew_beside_updates(h: &Harness) -> Outcome {
    const ROUNDS: i64 = 40;
    let bench = h.bench();
    let quantity = |row: &Row, count: i64| {
        let values = [("quantity", Value::Integer(count))];
        sealed(row, &values, format!("{count} written"))
    };
    let begun = quantity(&specimen("row")?, 0)?;
    bench.insert([begun.clone()]).await?;
    let done = Arc::new(AtomicBool::new(false));
    let begins = Arc::new(AtomicUsize::new(0));
    let seals = begins.clone();
    let (writer, ended, mut before) = (bench.clone(), Ended(done.clone()), begun.clone());
    let mut workers: Vec<BoxFuture<'static, Outcome>> = vec![Box::pin(async move {
        let _ended = ended;
        for count in 1..=ROUNDS {
            // Each change meets a row that is being sealed, if the others still do so.
            let so_far = seals.load(Ordering::SeqCst);
            for _ in 0..10_000 {
                if seals.load(Ordering::SeqCst) != so_far {
                    break;
                }
                yield_now().await;
            }
            let after = quantity(&next(&before), count)?;
            writer
                .apply(vec![replacement(&before, after.clone())])
                .await?;
            before = after;
            yield_now().await;
        }
        Ok(())
    })];
    for _ in 0..2 {
        let (sealer, done, begun) = (bench.clone(), done.clone(), begun.clone());
        let begins = begins.clone();
        workers.push(Box::pin(async move {
            while !done.load(Ordering::SeqCst) {
                let stored = sealer.again(&begun).await?;
                let count = stored.get("quantity").to_json();
                let anew = sealed(&stored, &[("email", OTHER.into())], format!("{count} anew"))?;
                begins.fetch_add(1, Ordering::SeqCst);
                reseal(&sealer, &[anew]).await?;
                yield_now().await;
            }
            Ok(())
        }));
    }
    bench.workers(workers).await?;
    let stored = bench.again(&begun).await?;
    ensure_eq!(
        stored.version(),
        ROUNDS + 1,
        "the version after {ROUNDS} changes"
    );
    let count = stored.get("quantity").into_owned();
    ensure_eq!(count, Value::Integer(ROUNDS), "the last change");
    let form = String::from_utf8_lossy(stored.sealed().unwrap_or_default()).into_owned();
    ensure!(
        form.starts_with(&format!("{ROUNDS} ")),
        "expected the last form to be that of the last change; it is `{form}`"
    );
    expect_same(&stored, &bench.again(&stored).await?, "the row as it stays")
}
