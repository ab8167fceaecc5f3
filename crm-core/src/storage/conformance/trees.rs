//! Filters over parts of trees: a record and all below it, or all above it.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::expect::expect_in_pages_and_sums;
use super::filters::expect_found;
use super::fixtures::bare;
use super::harness::{
    Bench, archived, compare, deletion, new_id, next, purge, replacement, restored, row, row_with,
};
use super::objects::{Part, Specimen};
use super::random::Random;
use super::{Failure, Harness, Outcome, ensure_eq};
use crate::Id;
use crate::query::{AggregateQuery, Comparison, Condition, Filter, Query, TreePart};
use crate::schema::{Entity, Row, Value, system};

const PARTS: [TreePart; 2] = [TreePart::Within, TreePart::PathTo];

fn in_tree(field: &'static str, part: TreePart, of: Uuid) -> Filter {
    Filter::InTree {
        field: field.into(),
        part,
        of,
        by: None,
    }
}

fn within(of: &Row) -> Filter {
    in_tree("id", TreePart::Within, of.id())
}

fn path_to(of: &Row) -> Filter {
    in_tree("id", TreePart::PathTo, of.id())
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn below(name: &str, parent: Option<&Row>) -> Row {
    row(Specimen {
        parent_id: parent.map(|parent| Id::new(parent.id())),
        ..bare(name)
    })
}

/// Two trees, in the order of their ids.
///
/// ```text
/// root ─┬─ left ─┬─ leaf ── deep        other ── stranger
///       │        └─ twig
///       └─ right
/// ```
struct Forest {
    bench: Bench,
    rows: Vec<Row>,
}

impl Forest {
    async fn plant(h: &Harness) -> Outcome<Self> {
        let bench = h.bench();
        let root = below("root", None);
        let left = below("left", Some(&root));
        let leaf = below("leaf", Some(&left));
        let deep = below("deep", Some(&leaf));
        let twig = below("twig", Some(&left));
        let right = below("right", Some(&root));
        let other = below("other", None);
        let stranger = below("stranger", Some(&other));
        let rows = vec![root, left, leaf, deep, twig, right, other, stranger];
        bench.insert(rows.clone()).await?;
        Ok(Self { bench, rows })
    }

    fn row(&self, name: &str) -> Outcome<&Row> {
        let mut rows = self.rows.iter();
        let found = rows.find(|row| row.get("name").as_text() == Some(name));
        found.ok_or_else(|| Failure::new(format!("no specimen is called {name}")))
    }

    fn all_but(&self, names: &[&str]) -> Vec<Uuid> {
        let is_other = |row: &&Row| {
            let name = row.get("name").as_text().unwrap_or_default();
            !names.contains(&name)
        };
        self.rows
            .iter()
            .filter(is_other)
            .map(|row| row.id())
            .collect()
    }

    fn named(&self, names: &[&str]) -> Outcome<Vec<Uuid>> {
        names.iter().map(|name| Ok(self.row(name)?.id())).collect()
    }

    async fn expect(&self, filter: Filter, names: &[&str]) -> Outcome {
        let expected = self.named(names)?;
        expect_found(&self.bench, &filter, &expected).await?;
        expect_found(&self.bench, &not(filter), &self.all_but(names)).await
    }
}

pub(super) async fn filters_within(h: &Harness) -> Outcome {
    let forest = Forest::plant(h).await?;
    let whole = ["root", "left", "leaf", "deep", "twig", "right"];
    forest.expect(within(forest.row("root")?), &whole).await?;
    let part = ["left", "leaf", "deep", "twig"];
    forest.expect(within(forest.row("left")?), &part).await?;
    forest
        .expect(within(forest.row("leaf")?), &["leaf", "deep"])
        .await?;
    forest
        .expect(within(forest.row("deep")?), &["deep"])
        .await?;
    let nobody = in_tree("id", TreePart::Within, new_id());
    forest.expect(nobody, &[]).await
}

pub(super) async fn filters_path_to(h: &Harness) -> Outcome {
    let forest = Forest::plant(h).await?;
    let path = ["root", "left", "leaf", "deep"];
    forest.expect(path_to(forest.row("deep")?), &path).await?;
    forest
        .expect(path_to(forest.row("right")?), &["root", "right"])
        .await?;
    forest
        .expect(path_to(forest.row("root")?), &["root"])
        .await?;
    let nobody = in_tree("id", TreePart::PathTo, new_id());
    forest.expect(nobody, &[]).await
}

pub(super) async fn filters_trees_of_references(h: &Harness) -> Outcome {
    let forest = Forest::plant(h).await?;
    let of = |name: &str| -> Outcome<Id<Specimen>> { Ok(Id::new(forest.row(name)?.id())) };
    let in_root = row(Part::new(of("root")?));
    let in_deep = row(Part {
        copy_of_id: Some(of("left")?),
        ..Part::new(of("deep")?)
    });
    let in_other = row(Part {
        copy_of_id: Some(of("stranger")?),
        replaces_id: Some(Id::new(in_deep.id())),
        ..Part::new(of("other")?)
    });
    forest
        .bench
        .insert([in_root.clone(), in_deep.clone(), in_other.clone()])
        .await?;
    let left = forest.row("left")?.id();
    let root = forest.row("root")?.id();
    let within = |field, of| in_tree(field, TreePart::Within, of);
    let path_to = |field, of| in_tree(field, TreePart::PathTo, of);
    let has = |field: &'static str, filter| Filter::Has {
        field: field.into(),
        filter: Box::new(filter),
    };
    let by = Filter::InTree {
        field: "specimen_id".into(),
        part: TreePart::Within,
        of: left,
        by: Some("parent_id".into()),
    };
    let checks: Vec<(Filter, Vec<&Row>)> = vec![
        (within("specimen_id", root), vec![&in_root, &in_deep]),
        (within("specimen_id", left), vec![&in_deep]),
        (by, vec![&in_deep]),
        (not(within("specimen_id", left)), vec![&in_root, &in_other]),
        (
            path_to("specimen_id", forest.row("leaf")?.id()),
            vec![&in_root],
        ),
        // A reference without a value leads nowhere.
        (within("copy_of_id", root), vec![&in_deep]),
        (not(within("copy_of_id", root)), vec![&in_root, &in_other]),
        // The parts form a tree of their own.
        (within("id", in_deep.id()), vec![&in_deep, &in_other]),
        (path_to("replaces_id", in_deep.id()), vec![&in_other]),
        // Where a related row stands, and where what it leads to stands.
        (has("specimen_id", within("id", left)), vec![&in_deep]),
        (
            has("specimen_id", within("parent_id", left)),
            vec![&in_deep],
        ),
        (
            has("replaces_id", within("specimen_id", left)),
            vec![&in_other],
        ),
    ];
    for (filter, expected) in checks {
        let expected: Vec<Uuid> = expected.into_iter().map(|row| row.id()).collect();
        let came = forest.bench.find(Part::schema(), &filter).await?;
        ensure_eq!(
            came,
            expected,
            "the ids of the parts that fulfil {filter:?}"
        );
    }
    // By the reference itself: what is right below, and below that.
    let field = in_tree("parent_id", TreePart::Within, left);
    forest.expect(field, &["leaf", "deep", "twig"]).await
}

pub(super) async fn filters_trees_joined(h: &Harness) -> Outcome {
    let forest = Forest::plant(h).await?;
    let name = |name: &str| compare("name", Comparison::Eq, name);
    let left = || -> Outcome<Filter> { Ok(within(forest.row("left")?)) };
    let root = || -> Outcome<Filter> { Ok(within(forest.row("root")?)) };
    let other = || -> Outcome<Filter> { Ok(within(forest.row("other")?)) };
    let rest = Filter::And(vec![root()?, not(left()?)]);
    forest.expect(rest, &["root", "right"]).await?;
    let either = Filter::Or(vec![left()?, other()?]);
    let both_trees = ["left", "leaf", "deep", "twig", "other", "stranger"];
    forest.expect(either, &both_trees).await?;
    let mixed = Filter::Or(vec![name("root"), Filter::And(vec![left()?, name("twig")])]);
    forest.expect(mixed, &["root", "twig"]).await?;
    let two = Filter::And(vec![left()?, other()?]);
    forest.expect(two, &[]).await?;
    // What lies between two records.
    let between = Filter::And(vec![path_to(forest.row("deep")?), left()?]);
    forest.expect(between, &["left", "leaf", "deep"]).await?;
    let only = Filter::And(vec![
        left()?,
        compare("id", Comparison::Eq, forest.row("leaf")?.id()),
    ]);
    forest.expect(only, &["leaf"]).await
}

pub(super) async fn filters_trees_of_deleted_rows(h: &Harness) -> Outcome {
    let forest = Forest::plant(h).await?;
    let row = |name| forest.row(name);
    let away = replacement(row("left")?, archived(row("left")?));
    forest.bench.apply(vec![away]).await?;
    // An archived record is in its tree like any other.
    let whole = ["root", "left", "leaf", "deep", "twig", "right"];
    forest.expect(within(row("root")?), &whole).await?;
    let left = forest.bench.again(row("left")?).await?;
    forest.bench.apply(vec![deletion(&left)]).await?;
    // A deleted one is in none, and neither is what hangs on it.
    forest
        .expect(within(row("root")?), &["root", "right"])
        .await?;
    forest.expect(within(row("left")?), &[]).await?;
    forest
        .expect(within(row("leaf")?), &["leaf", "deep"])
        .await?;
    forest
        .expect(path_to(row("deep")?), &["leaf", "deep"])
        .await?;
    forest.expect(path_to(row("left")?), &[]).await?;
    forest
        .expect(
            in_tree("parent_id", TreePart::Within, row("left")?.id()),
            &[],
        )
        .await?;
    let deep = forest.bench.again(row("deep")?).await?;
    forest.bench.apply(vec![deletion(&deep)]).await?;
    forest.expect(within(row("leaf")?), &["leaf"]).await?;
    let left = forest.bench.again(row("left")?).await?;
    let again = replacement(&left, restored(&left));
    forest.bench.apply(vec![again]).await?;
    let whole = ["root", "left", "leaf", "twig", "right"];
    forest.expect(within(row("root")?), &whole).await?;
    forest
        .expect(path_to(row("twig")?), &["root", "left", "twig"])
        .await
}

/// No rule of the engine lets circles come to be, but data of other origin may have them: the
/// answer ends, and has each row once.
pub(super) async fn filters_trees_with_circles(h: &Harness) -> Outcome {
    let bench = h.bench();
    let [one, two, three, self_id] = [new_id(), new_id(), new_id(), new_id()];
    let specimen = |id, name, parent| {
        row_with(
            id,
            Specimen {
                parent_id: Some(Id::new(parent)),
                ..bare(name)
            },
        )
    };
    let tail = row(Specimen {
        parent_id: Some(Id::new(two)),
        ..bare("tail")
    });
    let own = specimen(self_id, "own", self_id);
    let end = below("end", Some(&own));
    let rows = [
        specimen(one, "one", three),
        specimen(two, "two", one),
        specimen(three, "three", two),
        own.clone(),
        tail.clone(),
        end.clone(),
    ];
    bench.insert(rows.clone()).await?;
    let circle = [one, two, three];
    let with_tail = [one, two, three, tail.id()];
    for id in circle {
        expect_found(&bench, &in_tree("id", TreePart::Within, id), &with_tail).await?;
        expect_found(&bench, &in_tree("id", TreePart::PathTo, id), &circle).await?;
    }
    expect_found(&bench, &within(&tail), &[tail.id()]).await?;
    expect_found(&bench, &path_to(&tail), &with_tail).await?;
    expect_found(&bench, &within(&own), &[self_id, end.id()]).await?;
    expect_found(&bench, &path_to(&end), &[self_id, end.id()]).await?;
    let rest = not(in_tree("id", TreePart::Within, one));
    expect_found(&bench, &rest, &[self_id, end.id()]).await
}

/// After each of many random moves, deletions and restorations the trees are what the parents say.
pub(super) async fn filters_trees_after_moves(h: &Harness) -> Outcome {
    let mut random = Random::new(Random::seed());
    let bench = h.bench();
    let mut rows: BTreeMap<Uuid, Row> = BTreeMap::new();
    for number in 0..14 {
        let all: Vec<&Row> = rows.values().collect();
        let parent = random.pick(&all).copied().filter(|_| number % 4 != 0);
        let row = below(&format!("specimen {number}"), parent);
        bench.insert([row.clone()]).await?;
        rows.insert(row.id(), row);
    }
    for _ in 0..25 {
        let all: Vec<Row> = rows.values().cloned().collect();
        let (Some(row), Some(other)) = (random.pick(&all), random.pick(&all)) else {
            break;
        };
        let parent = Some(other.id()).filter(|_| !other.is_deleted() && !random.one_in(5));
        let after = match random.below(4) {
            0 if row.is_deleted() => restored(row),
            0 => super::harness::deleted(row),
            _ => next::<Specimen>(row, |specimen| specimen.parent_id = parent.map(Id::new))?,
        };
        let is_back = row.is_deleted() && !after.is_deleted();
        let parent = after.get("parent_id").as_uuid();
        let parent = parent.and_then(|id| rows.get(&id));
        if is_back && parent.is_some_and(|row| row.is_deleted()) {
            // It would refer to a deleted row.
            continue;
        }
        bench.apply(vec![replacement(row, after.clone())]).await?;
        rows.insert(after.id(), after);
        for id in rows.keys() {
            for part in PARTS {
                let expected = part_of(&rows, part, *id);
                let filter = in_tree("id", part, *id);
                let opposite: Vec<Uuid> = rows
                    .keys()
                    .copied()
                    .filter(|id| !expected.contains(id))
                    .collect();
                expect_found(&bench, &filter, &expected).await?;
                expect_found(&bench, &not(filter), &opposite).await?;
            }
        }
    }
    Ok(())
}

/// A part of a tree, by following the parents of every row.
fn part_of(rows: &BTreeMap<Uuid, Row>, part: TreePart, of: Uuid) -> Vec<Uuid> {
    let climb = |from: Uuid| {
        let mut path = BTreeSet::new();
        let mut at = rows.get(&from).filter(|row| !row.is_deleted());
        while let Some(row) = at
            && path.insert(row.id())
        {
            let above = row.get("parent_id").as_uuid();
            at = above
                .and_then(|id| rows.get(&id))
                .filter(|row| !row.is_deleted());
        }
        path
    };
    match part {
        TreePart::PathTo => climb(of).into_iter().collect(),
        TreePart::Within => rows
            .keys()
            .copied()
            .filter(|id| climb(*id).contains(&of))
            .collect(),
    }
}

pub(super) async fn filters_trees_in_pages_and_sums(h: &Harness) -> Outcome {
    let bench = h.bench();
    let root = below("root", None);
    let other = below("other", None);
    let mut all = vec![root.clone(), other.clone()];
    for number in 0..40 {
        let parent = if number % 5 == 4 { &other } else { &root };
        // Every second one hangs two levels below.
        let parent = match all.last() {
            Some(last) if number % 5 == 2 => last.clone(),
            _ => parent.clone(),
        };
        all.push(row(Specimen {
            parent_id: Some(Id::new(parent.id())),
            quantity: number,
            ..bare(&format!("specimen {:02}", (number * 17) % 40))
        }));
    }
    bench.insert(all.clone()).await?;
    let filter = within(&root);
    let condition = Condition::bind(&filter, Specimen::schema(), &super::objects::registry())?;
    let by_id: BTreeMap<Uuid, Row> = all.iter().map(|row| (row.id(), row.clone())).collect();
    let inside = part_of(&by_id, TreePart::Within, root.id());
    let expected: Vec<Row> = inside
        .iter()
        .filter_map(|id| by_id.get(id).cloned())
        .collect();
    expect_in_pages_and_sums(&bench, &condition, expected, "a tree").await
}

pub(super) async fn tenancy_trees(h: &Harness) -> Outcome {
    let (victim, attacker) = (h.bench(), h.bench());
    // The same ids in both tenants; where they hang differs.
    let [top, middle, leaf] = [new_id(), new_id(), new_id()];
    let specimen = |id, parent: Option<Uuid>| {
        row_with(
            id,
            Specimen {
                parent_id: parent.map(Id::new),
                ..bare("The same id")
            },
        )
    };
    let theirs = [
        specimen(top, None),
        specimen(middle, Some(top)),
        specimen(leaf, Some(middle)),
    ];
    victim.insert(theirs.clone()).await?;
    let foreign = row(bare("Only theirs"));
    victim.insert([foreign.clone()]).await?;
    let own = [specimen(top, None), specimen(leaf, Some(top))];
    attacker.insert(own.clone()).await?;
    let check = async |part, of, expected: &[Uuid]| {
        let filter = in_tree("id", part, of);
        expect_found(&attacker, &filter, expected).await?;
        let rest: Vec<Uuid> = [top, leaf]
            .into_iter()
            .filter(|id| !expected.contains(id))
            .collect();
        expect_found(&attacker, &not(filter), &rest).await
    };
    check(TreePart::Within, top, &[top, leaf]).await?;
    check(TreePart::PathTo, leaf, &[top, leaf]).await?;
    // Foreign records look like ones that never were.
    for of in [middle, foreign.id(), new_id()] {
        check(TreePart::Within, of, &[]).await?;
        check(TreePart::PathTo, of, &[]).await?;
    }
    // A reference that leads to a record of another tenant's only, which no commit lets come to be,
    // and a row whose parent is gone.
    let count = AggregateQuery::count(
        Specimen::schema(),
        Condition::bind(
            &in_tree("id", TreePart::Within, middle),
            Specimen::schema(),
            &super::objects::registry(),
        )?,
    );
    let groups = attacker
        .storage()
        .aggregate(&attacker.scope, &count)
        .await?;
    let came = groups.first().map(|group| group.count(0));
    ensure_eq!(came, Some(0), "the number of records in a foreign tree");
    victim
        .apply(theirs.iter().rev().map(purge).collect())
        .await?;
    check(TreePart::Within, top, &[top, leaf]).await?;
    let system_id = Value::Uuid(top);
    let still = Query::new(Specimen::schema(), Condition::equals(system::ID, system_id));
    ensure_eq!(victim.select(&still).await?.len(), 0, "the purged rows");
    Ok(())
}
