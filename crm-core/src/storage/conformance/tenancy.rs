//! Tenants attack each other: whoever holds another tenant's ids gets exactly what ids get that
//! never existed.

use std::fmt::Debug;

use uuid::Uuid;

use super::expect::{expect_same, expect_same_rows};
use super::fixtures::{bare, worth};
use super::harness::{
    Bench, compare, deletion, expectation, ids, insertion, new_id, next, now, place, purge, record,
    replacement, row, row_with, stamp,
};
use super::objects::{Chore, Laboratory, Part, Specimen, objects, registry};
use super::{Harness, Outcome, ensure, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Comparison, Condition, Filter, Query, SortKey};
use crate::schema::{Entity, Row, Value, system};
use crate::storage::{Change, ChangeSet, Claim, Expectation, Scope};

/// The victim with a specimen, and the attacker with another.
async fn two(h: &Harness) -> Outcome<(Bench, Row, Bench, Row)> {
    let (victim, attacker) = (h.bench(), h.bench());
    let theirs = row(worth("Theirs", super::harness::dec("100")?));
    let own = row(worth("Own", super::harness::dec("1")?));
    victim.insert([theirs.clone()]).await?;
    attacker.insert([own.clone()]).await?;
    Ok((victim, theirs, attacker, own))
}

/// An answer as text, with the id that was asked for made the same.
fn answer(of: &impl Debug, id: Uuid) -> String {
    format!("{of:?}").replace(&id.to_string(), "<id>")
}

/// Checks that a foreign id and one that never was get the same answer.
fn same_answer(foreign: &(impl Debug, Uuid), unknown: &(impl Debug, Uuid), what: &str) -> Outcome {
    let (foreign, unknown) = (answer(&foreign.0, foreign.1), answer(&unknown.0, unknown.1));
    ensure_eq!(
        foreign,
        unknown,
        "{what}: a foreign id must look like one that never was"
    );
    Ok(())
}

pub(super) async fn tenancy_get(h: &Harness) -> Outcome {
    let (victim, theirs, attacker, own) = two(h).await?;
    let object = Specimen::schema();
    let found = attacker
        .get(object, &[theirs.id(), own.id(), new_id()])
        .await?;
    expect_same_rows(
        &found,
        &[own],
        "what is found of a foreign, an own and an unknown id",
    )?;
    victim.expect_stored(&theirs).await
}

pub(super) async fn tenancy_select(h: &Harness) -> Outcome {
    let (_, theirs, attacker, own) = two(h).await?;
    let object = Specimen::schema();
    let own_only = [own.id()];
    for (filter, expected) in [
        (Filter::all(), &own_only[..]),
        (compare("id", Comparison::Eq, theirs.id()), &[]),
        (compare("id", Comparison::Ne, own.id()), &[]),
        (compare("name", Comparison::Eq, "Theirs"), &[]),
        (compare("name", Comparison::Ne, "Theirs"), &own_only),
        (
            Filter::In {
                field: "id".into(),
                values: vec![theirs.id().into(), own.id().into(), new_id().into()],
            },
            &own_only,
        ),
        (
            Filter::Or(vec![
                Filter::all(),
                compare("id", Comparison::Eq, theirs.id()),
            ]),
            &own_only,
        ),
        (
            Filter::Not(Box::new(compare("id", Comparison::Eq, own.id()))),
            &[],
        ),
        (
            compare("created_at", Comparison::Gt, super::harness::moment(0)),
            &own_only,
        ),
    ] {
        let found = attacker.find(object, &filter).await?;
        ensure_eq!(
            found,
            expected,
            "the ids of one tenant's rows that fulfil {filter:?}"
        );
    }
    Ok(())
}

pub(super) async fn tenancy_aggregate(h: &Harness) -> Outcome {
    let (_, theirs, attacker, _) = two(h).await?;
    let count = |condition| AggregateQuery::count(Specimen::schema(), condition);
    let all = attacker
        .storage()
        .aggregate(&attacker.scope, &count(Condition::all()))
        .await?;
    ensure_eq!(
        all.first().map(|group| group.count(0)),
        Some(1),
        "the count of one tenant's rows"
    );
    let by_id = |id: Uuid| count(Condition::equals(system::ID, id.into()));
    let unknown = new_id();
    let foreign = attacker
        .storage()
        .aggregate(&attacker.scope, &by_id(theirs.id()))
        .await;
    let never = attacker
        .storage()
        .aggregate(&attacker.scope, &by_id(unknown))
        .await;
    same_answer(&(foreign, theirs.id()), &(never, unknown), "a count by id")
}

/// The same row under an id that was never stored.
fn twin(row: &Row) -> Row {
    let meta = crate::schema::Meta {
        id: new_id(),
        ..row.meta()
    };
    row.with_meta(meta)
}

pub(super) async fn tenancy_write(h: &Harness) -> Outcome {
    let (victim, theirs, attacker, own) = two(h).await?;
    let never = twin(&theirs);
    let changed = |row: &Row| next::<Specimen>(row, |data| data.name = "Mine now".into());
    type Attempt = fn(&Row, Row) -> Change;
    let attempts: [(&str, Attempt); 3] = [
        ("an update", |before, after| replacement(before, after)),
        ("a deletion", |before, _| deletion(before)),
        ("a removal", |before, _| purge(before)),
    ];
    for (what, attempt) in attempts {
        let foreign = attacker
            .commit(vec![attempt(&theirs, changed(&theirs)?)])
            .await;
        let unknown = attacker
            .commit(vec![attempt(&never, changed(&never)?)])
            .await;
        super::expect::expect_conflict(&foreign, &theirs, what)?;
        same_answer(&(foreign, theirs.id()), &(unknown, never.id()), what)?;
        // Not as a part of a commit that is fine otherwise, either.
        let beside = insertion(row(bare("Beside")));
        let came = attacker
            .commit(vec![beside, attempt(&theirs, changed(&theirs)?)])
            .await;
        super::expect::expect_conflict(&came, &theirs, what)?;
    }
    expect_same_rows(
        &attacker.everything().await?,
        &[own],
        "the attacker's rows afterwards",
    )?;
    expect_same_rows(
        &victim.everything().await?,
        &[theirs],
        "the victim's rows afterwards",
    )
}

pub(super) async fn tenancy_expectation(h: &Harness) -> Outcome {
    let (_, theirs, attacker, _) = two(h).await?;
    let never = twin(&theirs);
    let rely = |on: &Row| -> (Vec<Change>, Vec<Expectation>) {
        (vec![insertion(row(bare("Added")))], vec![expectation(on)])
    };
    let (changes, expects) = rely(&theirs);
    let foreign = attacker.commit_expecting(changes, expects).await;
    let (changes, expects) = rely(&never);
    let unknown = attacker.commit_expecting(changes, expects).await;
    super::expect::expect_conflict(&foreign, &theirs, "an expectation of a foreign row")?;
    same_answer(
        &(foreign, theirs.id()),
        &(unknown, never.id()),
        "an expectation",
    )?;
    ensure_eq!(
        attacker.everything().await?.len(),
        1,
        "the attacker's rows afterwards"
    );
    Ok(())
}

pub(super) async fn tenancy_reference(h: &Harness) -> Outcome {
    let (victim, theirs, attacker, own) = two(h).await?;
    let to = |id: Uuid| insertion(row(Part::new(Id::<Specimen>::new(id))));
    let unknown = new_id();
    let foreign = attacker.commit(vec![to(theirs.id())]).await;
    let never = attacker.commit(vec![to(unknown)]).await;
    let what = "a reference to a foreign row";
    super::expect::expect_reference(&foreign, Part::schema(), "specimen_id", what)?;
    same_answer(&(foreign, theirs.id()), &(never, unknown), what)?;
    // By an update too.
    let moved = next::<Specimen>(&own, |data| data.parent_id = Some(Id::new(theirs.id())))?;
    let came = attacker.commit(vec![replacement(&own, moved)]).await;
    super::expect::expect_reference(&came, Specimen::schema(), "parent_id", what)?;
    // Nobody else's rows hold a row back.
    let id = own.id();
    victim.insert([row_with(id, bare("The same id"))]).await?;
    victim
        .insert([row(Part::new(Id::<Specimen>::new(id)))])
        .await?;
    attacker.apply(vec![purge(&own)]).await
}

pub(super) async fn tenancy_has(h: &Harness) -> Outcome {
    let (victim, attacker) = (h.bench(), h.bench());
    // The same ids in both tenants; what they lead to differs.
    let (target, part) = (new_id(), new_id());
    let rows = |name: &str| {
        [
            row_with(target, bare(name)),
            row_with(part, Part::new(Id::<Specimen>::new(target))),
        ]
    };
    victim.insert(rows("Theirs")).await?;
    attacker.insert(rows("Own")).await?;
    let leads_to = |name: &str| Filter::Has {
        field: "specimen_id".into(),
        filter: Box::new(compare("name", Comparison::Eq, name)),
    };
    let found = attacker.find(Part::schema(), &leads_to("Theirs")).await?;
    ensure_eq!(
        found,
        Vec::<Uuid>::new(),
        "parts of a specimen that only another tenant has"
    );
    let found = attacker.find(Part::schema(), &leads_to("Own")).await?;
    ensure_eq!(found, [part], "parts of an own specimen");
    let opposite = Filter::Not(Box::new(leads_to("Theirs")));
    let found = attacker.find(Part::schema(), &opposite).await?;
    ensure_eq!(
        found,
        [part],
        "parts that are not of a specimen that only another tenant has"
    );
    Ok(())
}

pub(super) async fn tenancy_same_ids(h: &Harness) -> Outcome {
    let (one, two) = (h.bench(), h.bench());
    let id = new_id();
    let (first, second) = (row_with(id, bare("One's")), row_with(id, bare("Two's")));
    one.insert([first.clone()]).await?;
    two.insert([second.clone()]).await?;
    one.expect_stored(&first).await?;
    two.expect_stored(&second).await?;
    let changed = next::<Specimen>(&first, |data| data.quantity = 5)?;
    one.apply(vec![replacement(&first, changed.clone())])
        .await?;
    two.expect_stored(&second).await?;
    two.apply(vec![purge(&second)]).await?;
    one.expect_stored(&changed).await
}

pub(super) async fn tenancy_claim(h: &Harness) -> Outcome {
    let (victim, attacker) = (h.bench(), h.bench());
    let theirs = row(Chore::new("mail"));
    victim.insert([theirs.clone()]).await?;
    let worker = place(Chore::schema(), "worker")?;
    let sort = vec![SortKey {
        index: system::ID,
        descending: false,
    }];
    for condition in [
        Condition::all(),
        Condition::equals(system::ID, theirs.id().into()),
    ] {
        let assign = vec![(worker, Value::from("attacker"))];
        let object = Chore::schema().clone();
        let claim = Claim::new(object, condition, sort.clone(), 10, assign, stamp());
        let claimed = attacker.storage().claim(&attacker.scope, &claim).await?;
        ensure_eq!(claimed.len(), 0, "foreign rows that were claimed");
    }
    victim.expect_stored(&theirs).await
}

pub(super) async fn tenancy_position(h: &Harness) -> Outcome {
    // A cursor carries sort values of the tenant that it was made for; used by another, it is
    // nothing but a place in one's own rows.
    let (victim, attacker) = (h.bench(), h.bench());
    let priced = |number: i64| row(worth("Priced", rust_decimal::Decimal::from(number)));
    let theirs: Vec<Row> = (0..6).map(|n| priced(n * 10)).collect();
    let own: Vec<Row> = (0..6).map(|n| priced(n * 10 + 5)).collect();
    victim.insert(theirs.clone()).await?;
    attacker.insert(own.clone()).await?;
    let amount = place(Specimen::schema(), "amount")?;
    for descending in [false, true] {
        let sort = vec![SortKey {
            index: amount,
            descending,
        }];
        for cursor in &theirs {
            let mut query = Query::new(Specimen::schema(), Condition::all()).sort(sort.clone());
            let value = cursor.value(amount);
            let mut expected: Vec<Row> = own
                .iter()
                .filter(|row| {
                    let order = super::oracle::order(&row.value(amount), &value);
                    if descending {
                        order.is_lt()
                    } else {
                        order.is_gt()
                    }
                })
                .cloned()
                .collect();
            if descending {
                expected.reverse();
            }
            query.after = Some(vec![value.into_owned(), cursor.id().into()]);
            let came = attacker.select(&query).await?;
            expect_same_rows(
                &came,
                &expected,
                "own rows behind another tenant's position",
            )?;
        }
    }
    Ok(())
}

pub(super) async fn tenancy_commits_stay_apart(h: &Harness) -> Outcome {
    // Random-looking work of one tenant leaves no trace in another.
    let (busy, quiet) = (h.bench(), h.bench());
    let row_of = |n: i64| {
        row(Specimen {
            quantity: n,
            ..bare("Quiet")
        })
    };
    let kept: Vec<Row> = (0..5).map(row_of).collect();
    quiet.insert(kept.clone()).await?;
    let mut rows: Vec<Row> = (0..20).map(row_of).collect();
    busy.insert(rows.clone()).await?;
    for (step, row) in rows.split_off(4).iter().enumerate() {
        let change = match step % 3 {
            0 => purge(row),
            1 => deletion(row),
            _ => replacement(
                row,
                next::<Specimen>(row, |data| data.name = "Busy".into())?,
            ),
        };
        busy.apply(vec![change]).await?;
    }
    expect_same_rows(
        &quiet.everything().await?,
        &kept,
        "the rows of a tenant that was quiet",
    )
}

fn laboratory(of: &Bench, name: &str) -> Row {
    row_with(of.tenant.uuid(), Laboratory::new(name))
}

pub(super) async fn tenancy_platform_objects(h: &Harness) -> Outcome {
    let (one, two) = (h.bench(), h.bench());
    let (first, second) = (laboratory(&one, "First"), laboratory(&two, "Second"));
    one.insert([first.clone()]).await?;
    two.insert([second.clone()]).await?;
    let object = Laboratory::schema();
    // A tenant sees only its own row.
    for (bench, own, other) in [(&one, &first, &second), (&two, &second, &first)] {
        let found = bench.get(object, &[other.id(), own.id()]).await?;
        expect_same_rows(
            &found,
            std::slice::from_ref(own),
            "own and foreign platform rows by id",
        )?;
        let all = bench.all(object).await?;
        expect_same_rows(
            &all,
            std::slice::from_ref(own),
            "the platform rows that a tenant sees",
        )?;
        let count = AggregateQuery::count(object, Condition::all());
        let groups = bench.storage().aggregate(&bench.scope, &count).await?;
        let seen = groups.first().map(|group| group.count(0));
        ensure_eq!(
            seen,
            Some(1),
            "the count of platform rows that a tenant sees"
        );
    }
    // And writes no other.
    let renamed = next::<Laboratory>(&first, |data| data.name = "Taken over".into())?;
    for change in [
        replacement(&first, renamed),
        deletion(&first),
        purge(&first),
    ] {
        let came = two.commit(vec![change]).await;
        super::expect::expect_conflict(&came, &first, "a write to a foreign platform row")?;
    }
    let came = two.commit(vec![insertion(laboratory(&one, "Again"))]).await;
    ensure!(
        came.is_err(),
        "expected the insert of a foreign platform row to be refused"
    );
    one.expect_stored(&first).await?;
    let own = next::<Laboratory>(&first, |data| data.name = "Renamed".into())?;
    one.apply(vec![replacement(&first, own.clone())]).await?;
    one.expect_stored(&own).await
}

pub(super) async fn tenancy_platform_scope(h: &Harness) -> Outcome {
    let (one, two) = (h.bench(), h.bench());
    let rows = [laboratory(&one, "First"), laboratory(&two, "Second")];
    let [first, second] = &rows;
    one.insert([first.clone()]).await?;
    two.insert([second.clone()]).await?;
    let specimen = row(bare("A tenant's"));
    one.insert([specimen.clone()]).await?;

    // All rows of the platform's objects, ...
    let storage = one.storage();
    let object = Laboratory::schema();
    let came = storage.get(&Scope::Platform, object, &ids(&rows)).await?;
    expect_same_rows(&came, &rows, "platform rows by their ids")?;
    let filter = Filter::In {
        field: "id".into(),
        values: rows.iter().map(|row| row.id().into()).collect(),
    };
    let condition = Condition::bind(&filter, object, &registry())?;
    let query = Query::new(object, condition.clone());
    let came = storage.select(&Scope::Platform, &query).await?;
    expect_same_rows(&came, &rows, "platform rows by a query")?;
    let count = AggregateQuery::count(object, condition);
    let groups = storage.aggregate(&Scope::Platform, &count).await?;
    let counted = groups.first().map(|group| group.count(0));
    ensure_eq!(counted, Some(2), "the count of platform rows");
    // ... and nothing of any tenant.
    for object in objects()
        .iter()
        .filter(|object| *object != Laboratory::schema())
    {
        let query = Query::new(object, Condition::all());
        let came = storage.select(&Scope::Platform, &query).await?;
        ensure_eq!(
            came.len(),
            0,
            "rows of `{}` in the scope of the platform",
            object.name()
        );
        let count = AggregateQuery::count(object, Condition::all());
        let groups = storage.aggregate(&Scope::Platform, &count).await?;
        let counted = groups.first().map(|group| group.count(0));
        ensure_eq!(
            counted,
            Some(0),
            "the count of `{}` for the platform",
            object.name()
        );
    }
    let came = storage
        .get(&Scope::Platform, specimen.object(), &[specimen.id()])
        .await?;
    ensure_eq!(
        came.len(),
        0,
        "a tenant's row by its id in the scope of the platform"
    );
    // And nothing is written in it.
    let stray = insertion(row_with(new_id(), Laboratory::new("Stray")));
    let changes = ChangeSet::new(new_id(), now(), vec![stray], Vec::new());
    let came = storage.commit(&Scope::Platform, &changes).await;
    ensure!(
        came.is_err(),
        "expected a commit in the scope of the platform to be refused"
    );
    let stored = one.again(&specimen).await?;
    let kept = record::<Specimen>(&stored)?;
    ensure_eq!(kept.version, 1, "the version of a row that nobody wrote");
    expect_same(&stored, &specimen, "the tenant's own row")
}
