//! Filters over the rows that lead to a row by a reference.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::expect::expect_in_pages_and_sums;
use super::fixtures::bare;
use super::harness::{
    Bench, archived, compare, deleted, deletion, new_id, next, purge, replacement, restored, row,
    row_with,
};
use super::objects::{Part, Reading, Specimen};
use super::random::Random;
use super::{Harness, Outcome, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Comparison, Condition, Filter, TreePart};
use crate::schema::{Entity, Row};

fn any(object: &'static str, by: &'static str, filter: Filter) -> Filter {
    Filter::Any {
        object: object.into(),
        by: by.into(),
        filter: Box::new(filter),
    }
}

fn has(field: &'static str, filter: Filter) -> Filter {
    Filter::Has {
        field: field.into(),
        filter: Box::new(filter),
    }
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn quantity(op: Comparison, quantity: i64) -> Filter {
    compare("quantity", op, quantity)
}

fn part(of: &Row, quantity: i64) -> Part {
    Part {
        quantity,
        ..Part::new(Id::new(of.id()))
    }
}

/// The filter takes these rows, and its opposite takes the others.
async fn expect(bench: &Bench, filter: Filter, taken: &[&Row], all: &[Row]) -> Outcome {
    let object = all.first().map_or(Specimen::schema(), |row| row.object());
    let is_taken = |id: Uuid| taken.iter().any(|row| row.id() == id);
    let (expected, rest): (Vec<Uuid>, Vec<Uuid>) =
        all.iter().map(|row| row.id()).partition(|id| is_taken(*id));
    let found = bench.find(object, &filter).await?;
    ensure_eq!(
        found,
        expected,
        "the ids of the rows that fulfil {filter:?}"
    );
    let opposite = not(filter);
    let found = bench.find(object, &opposite).await?;
    ensure_eq!(found, rest, "the ids of the rows that fulfil {opposite:?}");
    Ok(())
}

pub(super) async fn filters_any(h: &Harness) -> Outcome {
    let bench = h.bench();
    let all = ["none", "one", "two", "copied"].map(|name| row(bare(name)));
    let [none, one, two, copied] = &all;
    bench.insert(all.clone()).await?;
    let reading = Reading {
        specimen_id: Some(Id::new(none.id())),
        ..Reading::new(super::harness::moment(5))
    };
    bench
        .insert([
            row(part(one, 1)),
            row(part(two, 1)),
            row(part(two, 2)),
            row(Part {
                copy_of_id: Some(Id::new(copied.id())),
                owner_id: Some(Id::new(one.id())),
                ..part(two, 3)
            }),
            row(reading),
        ])
        .await?;
    let of = |filter| any("part", "specimen_id", filter);
    let checks: Vec<(Filter, Vec<&Row>)> = vec![
        (of(Filter::all()), vec![one, two]),
        (of(Filter::Or(Vec::new())), vec![]),
        (of(quantity(Comparison::Eq, 1)), vec![one, two]),
        (of(quantity(Comparison::Ne, 1)), vec![two]),
        (of(not(quantity(Comparison::Eq, 1))), vec![two]),
        (of(quantity(Comparison::Gt, 9)), vec![]),
        // Each reference for itself, though they lead to the same object.
        (any("part", "copy_of_id", Filter::all()), vec![copied]),
        (any("part", "owner_id", Filter::all()), vec![one]),
        (
            any("part", "copy_of_id", quantity(Comparison::Le, 2)),
            vec![],
        ),
        // A reference without a value leads nowhere.
        (
            any("part", "copy_of_id", not(quantity(Comparison::Eq, 3))),
            vec![],
        ),
        (any("reading", "specimen_id", Filter::all()), vec![none]),
        // Beside other conditions, twice, and as an alternative.
        (
            Filter::And(vec![
                of(quantity(Comparison::Eq, 1)),
                compare("name", Comparison::Eq, "one"),
            ]),
            vec![one],
        ),
        (
            Filter::And(vec![
                of(quantity(Comparison::Eq, 1)),
                of(quantity(Comparison::Eq, 2)),
            ]),
            vec![two],
        ),
        (
            Filter::Or(vec![
                of(quantity(Comparison::Eq, 2)),
                any("part", "copy_of_id", Filter::all()),
                compare("name", Comparison::Eq, "none"),
            ]),
            vec![none, two, copied],
        ),
    ];
    for (filter, taken) in checks {
        expect(&bench, filter, &taken, &all).await?;
    }
    Ok(())
}

/// All that is asked for must hold for one row, whatever other rows have.
pub(super) async fn filters_any_of_one_row(h: &Harness) -> Outcome {
    let bench = h.bench();
    let all = ["apart", "together"].map(|name| row(bare(name)));
    let [apart, together] = &all;
    bench.insert(all.clone()).await?;
    let with_copy = |of: &Row, quantity| Part {
        copy_of_id: Some(Id::new(of.id())),
        ..part(of, quantity)
    };
    bench
        .insert([
            row(with_copy(apart, 1)),
            row(part(apart, 7)),
            row(with_copy(together, 7)),
            row(part(together, 1)),
        ])
        .await?;
    let copied = Filter::Null {
        field: "copy_of_id".into(),
        is_null: false,
    };
    let both = Filter::And(vec![copied, quantity(Comparison::Eq, 7)]);
    expect(&bench, any("part", "specimen_id", both), &[together], &all).await
}

pub(super) async fn filters_any_nested(h: &Harness) -> Outcome {
    let bench = h.bench();
    let all = ["root", "left", "right"].map(|name| row(bare(name)));
    let [root, left, right] = &all;
    bench.insert(all.clone()).await?;
    let first = row(part(left, 1));
    let second = row(Part {
        replaces_id: Some(Id::new(first.id())),
        copy_of_id: Some(Id::new(root.id())),
        ..part(right, 2)
    });
    let third = row(Part {
        replaces_id: Some(Id::new(second.id())),
        ..part(root, 3)
    });
    let parts = [first.clone(), second.clone(), third.clone()];
    bench.insert(parts.clone()).await?;
    let of = |filter| any("part", "specimen_id", filter);
    let replaced = |filter| any("part", "replaces_id", filter);
    let named = |name: &str| compare("name", Comparison::Eq, name);
    let in_left = Filter::InTree {
        field: "id".into(),
        part: TreePart::Within,
        of: left.id(),
        by: None,
    };
    let checks: Vec<(Filter, Vec<&Row>)> = vec![
        // What leads to what leads here.
        (of(replaced(Filter::all())), vec![left, right]),
        (of(not(replaced(Filter::all()))), vec![root]),
        (of(replaced(replaced(Filter::all()))), vec![left]),
        (of(replaced(quantity(Comparison::Eq, 3))), vec![right]),
        // There and back: a part of it that replaces one of the left.
        (
            of(has("replaces_id", has("specimen_id", named("left")))),
            vec![right],
        ),
        (of(has("copy_of_id", named("root"))), vec![right]),
        // The part leads back to the same row.
        (of(has("specimen_id", named("left"))), vec![left]),
        (
            of(has("specimen_id", of(quantity(Comparison::Eq, 2)))),
            vec![right],
        ),
        (of(has("specimen_id", in_left)), vec![left]),
    ];
    for (filter, taken) in checks {
        expect(&bench, filter, &taken, &all).await?;
    }
    // In the other order.
    let copied = has("copy_of_id", of(quantity(Comparison::Eq, 3)));
    expect(&bench, copied, &[&second], &parts).await?;
    let of_replaced = has("specimen_id", of(replaced(quantity(Comparison::Eq, 2))));
    expect(&bench, of_replaced, &[&first], &parts).await
}

pub(super) async fn filters_any_among_their_own_kind(h: &Harness) -> Outcome {
    let bench = h.bench();
    let below = |name: &str, parent: Option<&Row>| {
        row(Specimen {
            parent_id: parent.map(|parent| Id::new(parent.id())),
            ..bare(name)
        })
    };
    let root = below("root", None);
    let middle = below("middle", Some(&root));
    let leaf = below("leaf", Some(&middle));
    let own_id = new_id();
    let own = row_with(
        own_id,
        Specimen {
            parent_id: Some(Id::new(own_id)),
            ..bare("own")
        },
    );
    let all = [root, middle, leaf, own];
    bench.insert(all.clone()).await?;
    let [root, middle, _, own] = &all;
    let above = |filter| any("specimen", "parent_id", filter);
    let named = |name: &str| compare("name", Comparison::Eq, name);
    let checks: Vec<(Filter, Vec<&Row>)> = vec![
        (above(Filter::all()), vec![root, middle, own]),
        (above(named("middle")), vec![root]),
        (above(above(Filter::all())), vec![root, own]),
        (above(above(named("leaf"))), vec![root]),
        (above(not(above(Filter::all()))), vec![middle]),
        // The same field means another row at each level.
        (
            Filter::And(vec![named("root"), above(named("middle"))]),
            vec![root],
        ),
        (above(has("parent_id", named("own"))), vec![own]),
    ];
    for (filter, taken) in checks {
        expect(&bench, filter, &taken, &all).await?;
    }
    Ok(())
}

pub(super) async fn filters_any_of_deleted_rows(h: &Harness) -> Outcome {
    let bench = h.bench();
    let all = ["live", "archived", "deleted", "both"].map(|name| row(bare(name)));
    let [live, away, gone, both] = &all;
    bench.insert(all.clone()).await?;
    let parts = [live, away, gone, both, both].map(|of| row(part(of, 1)));
    let [_, of_away, of_gone, gone_of_both, _] = &parts;
    bench.insert(parts.clone()).await?;
    bench
        .apply(vec![
            replacement(of_away, archived(of_away)),
            deletion(of_gone),
            deletion(gone_of_both),
        ])
        .await?;
    let of = |filter| any("part", "specimen_id", filter);
    let deleted_one = Filter::Null {
        field: "deleted_at".into(),
        is_null: false,
    };
    expect(&bench, of(Filter::all()), &[live, away, both], &all).await?;
    expect(&bench, of(deleted_one), &[], &all).await?;
    let archived_one = Filter::Null {
        field: "archived_at".into(),
        is_null: false,
    };
    expect(&bench, of(archived_one), &[away], &all).await?;
    let again = bench.again(of_gone).await?;
    bench
        .apply(vec![replacement(&again, restored(&again))])
        .await?;
    expect(&bench, of(Filter::all()), &[live, away, gone, both], &all).await?;
    let again = bench.again(of_gone).await?;
    bench.apply(vec![purge(&again)]).await?;
    expect(&bench, of(Filter::all()), &[live, away, both], &all).await
}

/// After each of many random changes the answer is what the rows say.
pub(super) async fn filters_any_after_changes(h: &Harness) -> Outcome {
    let mut random = Random::new(Random::seed());
    let bench = h.bench();
    let specimens: Vec<Row> = (0..6)
        .map(|number| row(bare(&number.to_string())))
        .collect();
    bench.insert(specimens.clone()).await?;
    let mut parts: BTreeMap<Uuid, Row> = BTreeMap::new();
    for _ in 0..30 {
        let Some(of) = random.pick(&specimens) else {
            break;
        };
        let amount = i64::try_from(random.below(3)).unwrap_or_default();
        let all: Vec<Row> = parts.values().cloned().collect();
        match random.pick(&all) {
            Some(before) if !random.one_in(2) => {
                let after = match random.below(4) {
                    0 if before.is_deleted() => restored(before),
                    0 => deleted(before),
                    1 => archived(before),
                    _ => next::<Part>(before, |part| {
                        part.specimen_id = Id::new(of.id());
                        part.quantity = amount;
                    })?,
                };
                bench
                    .apply(vec![replacement(before, after.clone())])
                    .await?;
                parts.insert(after.id(), after);
            }
            _ => {
                let new = row(part(of, amount));
                bench.insert([new.clone()]).await?;
                parts.insert(new.id(), new);
            }
        }
        for amount in 0..3_i64 {
            let wanted: BTreeSet<Uuid> = parts
                .values()
                .filter(|row| !row.is_deleted())
                .filter(|row| row.get("quantity").as_decimal() == Some(amount.into()))
                .filter_map(|row| row.get("specimen_id").as_uuid())
                .collect();
            let taken: Vec<&Row> = specimens
                .iter()
                .filter(|row| wanted.contains(&row.id()))
                .collect();
            let filter = any("part", "specimen_id", quantity(Comparison::Eq, amount));
            expect(&bench, filter, &taken, &specimens).await?;
        }
    }
    Ok(())
}

pub(super) async fn filters_any_in_pages_and_sums(h: &Harness) -> Outcome {
    let bench = h.bench();
    let mut rows = Vec::new();
    let mut parts = Vec::new();
    for number in 0..60_i64 {
        let specimen = row(Specimen {
            quantity: number,
            ..bare(&format!("specimen {:02}", (number * 17) % 60))
        });
        // A row is taken once, however many lead to it.
        for count in 0..number % 4 {
            parts.push(row(part(&specimen, count)));
        }
        rows.push(specimen);
    }
    bench.insert(rows.clone()).await?;
    bench.insert(parts).await?;
    let filter = any("part", "specimen_id", quantity(Comparison::Ge, 1));
    let condition = Condition::bind(&filter, Specimen::schema(), &super::objects::registry())?;
    let expected: Vec<Row> = rows
        .iter()
        .zip(0..)
        .filter(|(_, number)| number % 4 >= 2)
        .map(|(row, _)| row.clone())
        .collect();
    expect_in_pages_and_sums(&bench, &condition, expected, "a filter").await
}

pub(super) async fn tenancy_any(h: &Harness) -> Outcome {
    let (victim, attacker) = (h.bench(), h.bench());
    // The same ids in both tenants; what leads to them differs.
    let [first, second] = [new_id(), new_id()];
    let specimens = || [first, second].map(|id| row_with(id, bare("The same id")));
    victim.insert(specimens()).await?;
    let own = specimens();
    attacker.insert(own.clone()).await?;
    victim
        .insert([row(part(&own[0], 1)), row(part(&own[0], 2))])
        .await?;
    let mine = row(part(&own[1], 1));
    attacker.insert([mine.clone()]).await?;
    let of = |filter| any("part", "specimen_id", filter);
    let [_, with_part] = &own;
    expect(&attacker, of(Filter::all()), &[with_part], &own).await?;
    expect(&attacker, of(quantity(Comparison::Eq, 2)), &[], &own).await?;
    let near = of(has("specimen_id", of(quantity(Comparison::Ne, 1))));
    expect(&attacker, near, &[], &own).await?;
    let count = AggregateQuery::count(
        Specimen::schema(),
        Condition::bind(
            &of(Filter::all()),
            Specimen::schema(),
            &super::objects::registry(),
        )?,
    );
    let groups = attacker
        .storage()
        .aggregate(&attacker.scope, &count)
        .await?;
    let came = groups.first().map(|group| group.count(0));
    ensure_eq!(
        came,
        Some(1),
        "the number of rows with one that leads there"
    );
    attacker.apply(vec![purge(&mine)]).await?;
    expect(&attacker, of(Filter::all()), &[], &own).await
}
