//! Objects that tenants define over a template: they share a table and nothing else.

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::expect::{
    expect_conflict, expect_duplicate, expect_reference, expect_referenced, expect_same,
    expect_same_rows,
};
use super::fixtures::bare;
use super::harness::{
    Bench, archived, compare, deleted, deletion, expectation, ids, insertion, new_id, now, place,
    purge, replacement, restored, row, stamp, unreferenced,
};
use super::objects::{CollectionRecord, registry};
use super::{Failure, Harness, Outcome, ensure, ensure_eq, instances};
use crate::query::{
    AggregateQuery, Comparison, Condition, FieldAt, Filter, Grouping, ListMatch, Measure, Query,
    SortKey, TextMatch, Tree, TreePart,
};
use crate::schema::{Entity, Meta, ObjectRef, Row, SYSTEM_FIELDS, Value, ValueRef, system};
use crate::storage::Claim;

/// The two objects: exhibits belong to specimens, loans to exhibits.
fn both() -> Outcome<(ObjectRef, ObjectRef)> {
    match <[ObjectRef; 2]>::try_from(instances()) {
        Ok([exhibit, loan]) => Ok((exhibit, loan)),
        Err(_) => Err(Failure::new("the suite has no two objects over a template")),
    }
}

/// The first version of a record with this id.
fn record_with(object: &ObjectRef, id: Uuid, values: &[(&str, Value)]) -> Outcome<Row> {
    let mut all = object.defaults();
    for (name, value) in values {
        let index = place(object, name)?;
        if let Some(slot) = index
            .checked_sub(SYSTEM_FIELDS)
            .and_then(|index| all.get_mut(index))
        {
            slot.clone_from(value);
        }
    }
    Ok(object.build(Meta::first(id, stamp()), all)?)
}

fn named(object: &ObjectRef, name: &str) -> Outcome<Row> {
    record_with(object, new_id(), &[("name", name.into())])
}

/// The next version of a record, with one value changed.
fn changed(row: &Row, field: &str, value: impl Into<Value>) -> Outcome<Row> {
    let mut all = row.values();
    let index = place(row.object(), field)?;
    if let Some(slot) = index
        .checked_sub(SYSTEM_FIELDS)
        .and_then(|index| all.get_mut(index))
    {
        *slot = value.into();
    }
    Ok(row.with_values(row.meta().next(stamp()), all)?)
}

/// An exhibit and a loan with one id.
pub(super) async fn twins(bench: &Bench) -> Outcome<(Row, Row)> {
    let (exhibit, loan) = both()?;
    let id = new_id();
    let of = |object: &ObjectRef, level: i64| {
        let values = [
            ("name", object.name().into()),
            ("level", Value::Integer(level)),
            (
                "worth",
                Value::Decimal(rust_decimal::Decimal::new(level, 0)),
            ),
            ("tags", Value::List(vec!["both".to_owned()])),
        ];
        record_with(object, id, &values)
    };
    let rows = (of(&exhibit, 1)?, of(&loan, 2)?);
    bench.insert([rows.0.clone(), rows.1.clone()]).await?;
    Ok(rows)
}

pub(super) async fn instances_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    for object in instances() {
        let template = object.template();
        let id = template.map(|template| template.id).unwrap_or_default();
        let values = [
            ("name", "First".into()),
            ("code", "A-1".into()),
            ("level", Value::Integer(7)),
            ("worth", Value::Decimal(rust_decimal::Decimal::new(125, 1))),
            ("tags", Value::List(vec!["b".to_owned(), "a".to_owned()])),
            ("custom_fields", Value::Json(json!({"region": "north"}))),
        ];
        let first = record_with(&object, new_id(), &values)?;
        bench.insert([first.clone()]).await?;
        bench.expect_stored(&first).await?;
        let stored = bench.again(&first).await?;
        ensure_eq!(
            stored.get("collection_id"),
            ValueRef::Uuid(id),
            "the field that tells the objects apart"
        );
        let second = changed(&first, "level", 8)?;
        bench
            .apply(vec![replacement(&first, second.clone())])
            .await?;
        bench.expect_stored(&second).await?;
        let stale = changed(&first, "level", 9)?;
        let came = bench.commit(vec![replacement(&first, stale)]).await;
        expect_conflict(&came, &first, "an update of a version that is gone")?;
        let mut last = second;
        for next in [archived, deleted, restored] {
            let after = next(&last);
            bench.apply(vec![replacement(&last, after.clone())]).await?;
            bench.expect_stored(&after).await?;
            last = after;
        }
        let again = insertion(record_with(
            &object,
            last.id(),
            &[("name", "Again".into())],
        )?);
        let came = bench.commit(vec![again]).await;
        expect_duplicate(&came, &object, &["id"], "an id that is taken")?;
        bench.apply(vec![purge(&last)]).await?;
        bench.expect_gone(&last).await?;
    }
    Ok(())
}

pub(super) async fn instances_same_ids(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    for row in [&exhibit, &loan] {
        bench.expect_stored(row).await?;
        let all = bench.all(row.object()).await?;
        expect_same_rows(&all, std::slice::from_ref(row), "all rows of an object")?;
    }
    let second = changed(&exhibit, "name", "Second")?;
    bench
        .apply(vec![replacement(&exhibit, second.clone())])
        .await?;
    bench.expect_stored(&second).await?;
    bench.expect_stored(&loan).await?;
    // What was read of one says nothing of the other.
    let other = insertion(named(exhibit.object(), "Other")?);
    let came = bench
        .commit_expecting(vec![other.clone()], vec![expectation(&exhibit)])
        .await;
    expect_conflict(&came, &exhibit, "an expectation of the first version")?;
    let came = bench
        .commit_expecting(vec![other], vec![expectation(&loan)])
        .await;
    ensure!(came.is_ok(), "expected the loan to be as it was: {came:?}");
    bench.apply(vec![purge(&second)]).await?;
    bench.expect_gone(&second).await?;
    bench.expect_stored(&loan).await
}

pub(super) async fn instances_of_another_object(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, _) = both()?;
    let loan = named(&instances_loan()?, "Loan")?;
    bench.insert([loan.clone()]).await?;
    let id = loan.id();
    let came = bench.get(&exhibit, &[id]).await?;
    ensure_eq!(came.len(), 0, "how many exhibits have the id of a loan");
    let posing = record_with(&exhibit, id, &[("name", "Exhibit".into())])?;
    let after = changed(&posing, "name", "Changed")?;
    let came = bench.commit(vec![replacement(&posing, after)]).await;
    expect_conflict(&came, &posing, "an update by the id of a loan")?;
    let came = bench.commit(vec![purge(&posing)]).await;
    expect_conflict(&came, &posing, "a removal by the id of a loan")?;
    let fine = insertion(named(&exhibit, "Fine")?);
    let came = bench
        .commit_expecting(vec![fine], vec![expectation(&posing)])
        .await;
    expect_conflict(&came, &posing, "an expectation by the id of a loan")?;
    bench.expect_stored(&loan).await
}

fn instances_loan() -> Outcome<ObjectRef> {
    Ok(both()?.1)
}

pub(super) async fn instances_find(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    let filters = [
        Filter::all(),
        compare("id", Comparison::Eq, exhibit.id()),
        compare("level", Comparison::Gt, 0),
        Filter::Not(Box::new(compare("level", Comparison::Eq, 9))),
        Filter::Or(vec![
            compare("level", Comparison::Eq, 1),
            compare("level", Comparison::Eq, 2),
        ]),
        Filter::List {
            field: "tags".into(),
            op: ListMatch::Any,
            values: vec!["both".to_owned()],
        },
        Filter::Text {
            field: "name".into(),
            op: TextMatch::Contains,
            text: "a".to_owned(),
        },
    ];
    for filter in filters.iter().take(6) {
        for row in [&exhibit, &loan] {
            let condition = Condition::bind(filter, row.object(), &registry())?;
            let found = bench.select(&Query::new(row.object(), condition)).await?;
            let what = format!("{filter:?} over `{}`", row.object().name());
            expect_same_rows(&found, std::slice::from_ref(row), &what)?;
        }
    }
    let found = bench
        .find(loan.object(), filters.last().unwrap_or(&Filter::all()))
        .await?;
    ensure_eq!(found, [loan.id()], "loans whose name has an `a`");
    // Pages, and rows behind a position.
    let more = [
        named(exhibit.object(), "more")?,
        named(exhibit.object(), "most")?,
    ];
    bench.insert(more.clone()).await?;
    let mut query = Query::new(exhibit.object(), Condition::all())
        .sort(vec![SortKey {
            index: place(exhibit.object(), "name")?,
            descending: false,
        }])
        .limit(2);
    let mut seen = Vec::new();
    loop {
        let page = bench.select(&query).await?;
        seen.extend(ids(&page));
        let Some(last) = page.last() else { break };
        let values = query.sort.iter();
        let values = values.map(|key| last.value(key.index).into_owned());
        query.after = Some(values.collect());
    }
    let expected = [exhibit.id(), more[0].id(), more[1].id()];
    ensure_eq!(seen, expected, "all exhibits, page by page");
    // Through a reference from one object to the other.
    let specimen = row(bare("Specimen"));
    let of_specimen = changed(&exhibit, "linked_id", specimen.id())?;
    let of_exhibit = changed(&loan, "linked_id", exhibit.id())?;
    bench
        .apply(vec![
            insertion(specimen),
            replacement(&exhibit, of_specimen),
            replacement(&loan, of_exhibit),
        ])
        .await?;
    let through = |level: i64| Filter::Has {
        field: "linked_id".into(),
        filter: Box::new(compare("level", Comparison::Eq, level)),
    };
    let found = bench.find(loan.object(), &through(1)).await?;
    ensure_eq!(found, [loan.id()], "loans of exhibits of level 1");
    let found = bench.find(loan.object(), &through(2)).await?;
    ensure_eq!(found.len(), 0, "loans of exhibits of level 2");
    Ok(())
}

pub(super) async fn instances_trees(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    // The children have one id too, but the loan's has no parent.
    let id = new_id();
    let child = |of: &Row, parent: Option<Uuid>| {
        let parent = parent.map_or(Value::Null, Value::Uuid);
        record_with(
            of.object(),
            id,
            &[("name", "Child".into()), ("parent_id", parent)],
        )
    };
    bench
        .insert([child(&exhibit, Some(exhibit.id()))?, child(&loan, None)?])
        .await?;
    for (root, expected) in [(&exhibit, 2), (&loan, 1)] {
        let object = root.object();
        for (part, of) in [(TreePart::Within, root.id()), (TreePart::PathTo, id)] {
            let condition = Condition::InTree {
                field: FieldAt::new(system::ID),
                tree: Tree {
                    object: object.clone(),
                    parent: place(object, "parent_id")?,
                    of,
                    part,
                },
            };
            let found = bench.select(&Query::new(object, condition)).await?;
            let what = format!("the rows of {part:?} of `{}`", object.name());
            ensure_eq!(found.len(), expected, "{what}");
        }
    }
    Ok(())
}

pub(super) async fn instances_aggregate(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    bench.insert([named(exhibit.object(), "Second")?]).await?;
    for (row, count, sum) in [(&exhibit, 2_i64, 1), (&loan, 1, 2)] {
        let object = row.object();
        let mut query = AggregateQuery::count(object, Condition::not_deleted());
        query.measures.push(Measure::Sum(place(object, "worth")?));
        let groups = bench.storage().aggregate(&bench.scope, &query).await?;
        let measures: Vec<Vec<Value>> = groups.into_iter().map(|group| group.measures).collect();
        let sum = Value::Decimal(rust_decimal::Decimal::from(sum));
        let expected = vec![vec![Value::Integer(count), sum]];
        ensure_eq!(measures, expected, "the aggregates of `{}`", object.name());
        query.groups = vec![Grouping::Entry(place(object, "tags")?)];
        let groups = bench.storage().aggregate(&bench.scope, &query).await?;
        ensure_eq!(groups.len(), 1, "the tags of `{}`", object.name());
        let tagged = groups.first().map(|group| group.count(0));
        ensure_eq!(
            tagged,
            Some(1),
            "how often a tag of `{}` is used",
            object.name()
        );
    }
    Ok(())
}

pub(super) async fn instances_claim(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    let until: DateTime<Utc> = now();
    let object = exhibit.object();
    let field = place(object, "claimed_until")?;
    let free = Condition::Null {
        field: FieldAt::new(field),
        is_null: true,
    };
    let assign = vec![(field, Value::Timestamp(until))];
    let claim = Claim::new(object.clone(), free, Vec::new(), 10, assign, stamp());
    let taken = bench.storage().claim(&bench.scope, &claim).await?;
    ensure_eq!(
        ids(&taken),
        [exhibit.id()],
        "the exhibits that a worker took"
    );
    for row in &taken {
        ensure_eq!(
            row.object().name(),
            object.name(),
            "the object of a claimed row"
        );
        expect_same(&bench.again(row).await?, row, "a claimed row")?;
    }
    bench.expect_stored(&loan).await?;
    let none = bench.storage().claim(&bench.scope, &claim).await?;
    ensure_eq!(none.len(), 0, "how many exhibits are left to take");
    Ok(())
}

pub(super) async fn instances_unique(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = both()?;
    let coded = |object: &ObjectRef, code: &str| {
        record_with(
            object,
            new_id(),
            &[("name", code.into()), ("code", code.into())],
        )
    };
    bench
        .insert([coded(&exhibit, "a")?, coded(&loan, "A")?])
        .await?;
    for object in [&exhibit, &loan] {
        let came = bench.commit(vec![insertion(coded(object, "A")?)]).await;
        expect_duplicate(&came, object, &["code"], "a code that is taken")?;
    }
    bench.insert([coded(&loan, "b")?]).await?;
    // Both write codes; which one is refused is told.
    let changes = vec![
        insertion(coded(&exhibit, "B")?),
        insertion(coded(&loan, "B")?),
    ];
    let came = bench.commit(changes).await;
    expect_duplicate(&came, &loan, &["code"], "the loan's code is taken")?;
    let changes = vec![
        insertion(coded(&loan, "c")?),
        insertion(coded(&exhibit, "A")?),
    ];
    let came = bench.commit(changes).await;
    expect_duplicate(&came, &exhibit, &["code"], "the exhibit's code is taken")?;
    let twice = vec![
        insertion(coded(&exhibit, "d")?),
        insertion(coded(&loan, "d")?),
        insertion(coded(&loan, "D")?),
    ];
    let came = bench.commit(twice).await;
    expect_duplicate(&came, &loan, &["code"], "a code that is given twice")?;
    bench
        .insert([coded(&exhibit, "B")?, coded(&loan, "c")?])
        .await
}

pub(super) async fn instances_references(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    let linked = |object: &ObjectRef, target: Uuid| {
        record_with(
            object,
            new_id(),
            &[("name", "Linked".into()), ("linked_id", target.into())],
        )
    };
    let specimen = row(bare("Specimen"));
    let other_loan = named(loan.object(), "Only a loan")?;
    let gone = named(exhibit.object(), "Gone")?;
    bench
        .insert([specimen.clone(), other_loan.clone(), gone.clone()])
        .await?;
    bench.apply(vec![deletion(&gone)]).await?;
    let foreign = h.bench();
    let theirs = named(exhibit.object(), "Theirs")?;
    foreign.insert([theirs.clone()]).await?;
    let wrong = [
        (new_id(), "nothing"),
        (gone.id(), "a deleted exhibit"),
        (other_loan.id(), "a loan"),
        (specimen.id(), "a specimen"),
        (theirs.id(), "another tenant's exhibit"),
    ];
    for (target, what) in wrong {
        let came = bench
            .commit(vec![insertion(linked(loan.object(), target)?)])
            .await;
        let what = format!("a loan of {what}");
        expect_reference(&came, loan.object(), "linked_id", &what)?;
    }
    let came = bench
        .commit(vec![insertion(linked(exhibit.object(), loan.id())?)])
        .await;
    expect_reference(&came, exhibit.object(), "linked_id", "an exhibit of a loan")?;
    // Good ones: stored, of the same commit, and to the record itself.
    let new = linked(exhibit.object(), specimen.id())?;
    bench
        .insert([
            linked(loan.object(), exhibit.id())?,
            linked(loan.object(), new.id())?,
            new,
        ])
        .await?;
    let itself = changed(&loan, "parent_id", loan.id())?;
    bench
        .apply(vec![replacement(&loan, itself.clone())])
        .await?;
    // A parent is of the same object.
    let child = record_with(
        exhibit.object(),
        new_id(),
        &[
            ("name", "Child".into()),
            ("parent_id", other_loan.id().into()),
        ],
    )?;
    let came = bench.commit(vec![insertion(child)]).await;
    expect_reference(
        &came,
        exhibit.object(),
        "parent_id",
        "a loan is no exhibit's parent",
    )
}

pub(super) async fn instances_removal(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = both()?;
    let specimen = row(bare("Specimen"));
    let link = |object: &ObjectRef, target: &Row| {
        let values = [("name", "Link".into()), ("linked_id", target.id().into())];
        record_with(object, new_id(), &values)
    };
    let shown = link(&exhibit, &specimen)?;
    let lent = link(&loan, &shown)?;
    bench
        .insert([specimen.clone(), shown.clone(), lent.clone()])
        .await?;
    let check = async |target: &Row, by: &ObjectRef, what: &str| {
        let came = bench.commit(vec![purge(target)]).await;
        expect_referenced(&came, target.object(), by, "linked_id", what)
    };
    check(&specimen, &exhibit, "a specimen that is shown").await?;
    check(&shown, &loan, "an exhibit that is lent").await?;
    // Deleted rows refer too.
    let away = deleted(&lent);
    bench.apply(vec![replacement(&lent, away.clone())]).await?;
    check(&shown, &loan, "an exhibit that was lent").await?;
    // All at once.
    bench
        .apply(vec![purge(&specimen), purge(&shown), purge(&away)])
        .await?;
    bench.expect_gone(&shown).await
}

pub(super) async fn instances_deletion(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, loan) = twins(&bench).await?;
    let specimen = row(bare("Specimen"));
    bench.insert([specimen.clone()]).await?;
    let shown = changed(&exhibit, "linked_id", specimen.id())?;
    bench
        .apply(vec![replacement(&exhibit, shown.clone())])
        .await?;
    let asked = |object: &ObjectRef, field: &str, id: Uuid| unreferenced(object, field, id);
    let question = vec![asked(exhibit.object(), "linked_id", specimen.id())?];
    let came = bench
        .commit_leaving(vec![deletion(&specimen)], question)
        .await;
    expect_conflict(&came, &specimen, "a deletion of a specimen that is shown")?;
    // A loan that has the exhibit's id as its own parent is no exhibit with that parent.
    let itself = changed(&loan, "parent_id", loan.id())?;
    bench
        .apply(vec![replacement(&loan, itself.clone())])
        .await?;
    let question = vec![
        asked(exhibit.object(), "parent_id", exhibit.id())?,
        asked(loan.object(), "linked_id", exhibit.id())?,
    ];
    let after = deleted(&shown);
    let changes = vec![replacement(&shown, after.clone())];
    bench.commit_leaving(changes, question).await?;
    bench.expect_stored(&after).await?;
    bench.expect_stored(&itself).await?;
    // Nothing refers to the specimen any more but a deleted row.
    let question = vec![asked(exhibit.object(), "linked_id", specimen.id())?];
    bench
        .commit_leaving(vec![deletion(&specimen)], question)
        .await?;
    Ok(())
}

pub(super) async fn instances_per_tenant(h: &Harness) -> Outcome {
    let (bench, foreign) = (h.bench(), h.bench());
    let (exhibit, loan) = twins(&bench).await?;
    let object = exhibit.object();
    ensure_eq!(
        foreign.all(object).await?.len() + foreign.get(object, &[exhibit.id()]).await?.len(),
        0,
        "how many rows another tenant sees"
    );
    let theirs = record_with(object, exhibit.id(), &[("name", "Theirs".into())])?;
    foreign.insert([theirs.clone()]).await?;
    foreign.expect_stored(&theirs).await?;
    let second = changed(&theirs, "name", "Second")?;
    foreign
        .apply(vec![replacement(&theirs, second.clone())])
        .await?;
    let came = foreign.commit(vec![purge(&loan)]).await;
    expect_conflict(&came, &loan, "a removal of another tenant's row")?;
    foreign.apply(vec![purge(&second)]).await?;
    bench.expect_stored(&exhibit).await?;
    bench.expect_stored(&loan).await
}

pub(super) async fn instances_leave_the_template_empty(h: &Harness) -> Outcome {
    let bench = h.bench();
    let (exhibit, _) = twins(&bench).await?;
    let template = CollectionRecord::schema();
    let found =
        bench.get(template, &[exhibit.id()]).await?.len() + bench.all(template).await?.len();
    ensure_eq!(found, 0, "how many records the template has itself");
    let query = AggregateQuery::count(template, Condition::all());
    let groups = bench.storage().aggregate(&bench.scope, &query).await?;
    let count = groups.first().map(|group| group.count(0));
    ensure_eq!(
        count,
        Some(0),
        "how many records of the template are counted"
    );
    Ok(())
}
