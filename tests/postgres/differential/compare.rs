//! Runs of operations on both storages: comparing the answers, telling what differs, and cutting a
//! run down to the operations that it takes.

use std::fmt::Write as _;

use crm_engine::PostgresStorage;
use crm_engine::query::{Group, Query};
use crm_engine::schema::{ObjectRef, Row};
use crm_engine::storage::{Change, ChangeSet, StorageError};

use super::postgres;
use super::values::Random;
use super::world::{Difference, World};

/// How many operations a run takes, over each of the two sets of objects.
const STEPS: usize = 2_000;

/// How often a failing run is repeated to cut it down.
const REPEATS: usize = 40;

pub(crate) fn outcome<T>(result: &Result<T, StorageError>) -> String {
    result.as_ref().map_or_else(explain, |_| "ok".to_owned())
}

/// The variant and the names of an error; what went wrong, where it is none of the port's answers.
pub(crate) fn explain(error: &StorageError) -> String {
    match error {
        StorageError::Conflict { object, id } => format!("conflict {object} {id}"),
        StorageError::Duplicate { object, fields } => {
            format!("duplicate {object} {}", fields.join("+"))
        }
        StorageError::Reference { object, field } => format!("reference {object} {field}"),
        StorageError::Referenced { object, by, field } => {
            format!("referenced {object} {by} {field}")
        }
        StorageError::Query(error) => format!("query {error:?}"),
        StorageError::Corrupt { object, fields } => format!("corrupt {object} {fields:?}"),
        StorageError::Unavailable(source) => format!("unavailable: {source}"),
        StorageError::Failed(source) => format!("failed: {source}"),
        other => format!("{other:?}"),
    }
}

/// The answer, where both are answers and the same; `None` where both are the same error.
pub(crate) fn same_answers<'a, T>(
    memory: &'a Result<T, StorageError>,
    postgres: &Result<T, StorageError>,
    same: impl Fn(&T, &T) -> Result<(), Difference>,
) -> Result<Option<&'a T>, Difference> {
    match (memory, postgres) {
        (Ok(left), Ok(right)) => same(left, right).map(|()| Some(left)),
        (Err(left), Err(right)) if explain(left) == explain(right) => Ok(None),
        _ => Err(format!(
            "memory: {}\npostgres: {}",
            outcome(memory),
            outcome(postgres)
        )),
    }
}

pub(crate) fn same_rows(left: &Vec<Row>, right: &Vec<Row>) -> Result<(), Difference> {
    let ids = |rows: &[Row]| rows.iter().map(|row| row.id()).collect::<Vec<_>>();
    if ids(left) != ids(right) {
        let only = |a: &[Row], b: &[Row]| {
            let other = ids(b);
            a.iter()
                .filter(|row| !other.contains(&row.id()))
                .map(show_row)
                .collect::<String>()
        };
        return Err(format!(
            "rows differ: {} and {}\nonly on the left:{}\nonly on the right:{}\norder: {:?}\n   and {:?}",
            left.len(),
            right.len(),
            only(left, right),
            only(right, left),
            ids(left),
            ids(right)
        ));
    }
    for (left, right) in left.iter().zip(right) {
        if left.meta() != right.meta() {
            return Err(format!(
                "meta differs: {:?}\nand {:?}",
                left.meta(),
                right.meta()
            ));
        }
        for index in 0..left.object().fields().len() {
            let (a, b) = (left.value(index), right.value(index));
            if a != b {
                let field = left.object().field_name(index);
                return Err(format!("`{field}` of {} differs:\n{a:?}\n{b:?}", left.id()));
            }
        }
        if left.sealed() != right.sealed() {
            return Err(format!("what is sealed of {} differs", left.id()));
        }
        if std::any::Any::type_id(&**left) != std::any::Any::type_id(&**right) {
            return Err(format!("{} is of another type", left.id()));
        }
    }
    Ok(())
}

pub(crate) fn same_groups(left: &Vec<Group>, right: &Vec<Group>) -> Result<(), Difference> {
    if left == right {
        return Ok(());
    }
    let mut text = format!("groups differ: {} and {}", left.len(), right.len());
    for place in 0..left.len().max(right.len()) {
        let (a, b) = (left.get(place), right.get(place));
        if a != b {
            let _ = write!(text, "\n{a:?}\n{b:?}");
        }
    }
    Err(text)
}

fn show_row(row: &Row) -> String {
    let mut text = format!("\n  {}", row.object().name());
    for (index, field) in row.object().fields().iter().enumerate() {
        let value = row.value(index);
        if !value.is_null() {
            let shown: String = format!("{value:?}").chars().take(120).collect();
            let _ = write!(text, " {}={shown}", field.name);
        }
    }
    text
}

pub(crate) fn show_changes(changes: &ChangeSet) -> String {
    let mut text = String::new();
    for change in &changes.changes {
        let what = match change {
            Change::Insert { .. } => "insert",
            Change::Update { .. } => "update",
            Change::Delete { .. } => "delete",
        };
        let _ = write!(text, "\n {what}");
        for row in change.before().into_iter().chain(change.after()) {
            text.push_str(&show_row(row));
        }
    }
    for expected in &changes.expects {
        let _ = write!(text, "\n expect {expected:?}");
    }
    text
}

pub(crate) fn show_query(query: &Query) -> String {
    let sort: Vec<String> = query
        .sort
        .iter()
        .map(|key| {
            format!(
                "{}{}",
                if key.descending { "-" } else { "" },
                query.object.field_name(key.index)
            )
        })
        .collect();
    format!(
        "`{}` where {:?} by {sort:?} behind {:?}, {}",
        query.object.name(),
        query.condition,
        query.after,
        query.limit
    )
}

// --- Running --------------------------------------------------------------------------------

/// Runs the operations with these seeds; the first that differs, and how.
async fn run(
    postgres: &PostgresStorage,
    objects: &[ObjectRef],
    seeds: &[u64],
) -> Result<World, (usize, Difference)> {
    let mut world = World::new(postgres.clone(), objects);
    for (place, seed) in seeds.iter().enumerate() {
        world
            .step(*seed)
            .await
            .map_err(|difference| (place, difference))?;
    }
    for object in objects {
        for tenant in [0, 1] {
            let checked = world.check_rows(tenant, object).await;
            checked.map_err(|difference| (seeds.len() - 1, difference))?;
        }
    }
    Ok(world)
}

/// Leaves out operations for as long as some difference remains.
async fn cut_down(
    postgres: &PostgresStorage,
    objects: &[ObjectRef],
    mut seeds: Vec<u64>,
    mut difference: Difference,
) -> (Vec<u64>, Difference) {
    let mut chunk = seeds.len() / 2;
    let mut repeats = 0;
    while chunk > 0 && repeats < REPEATS {
        let mut start = 0;
        while start < seeds.len() && repeats < REPEATS {
            let mut fewer = seeds.clone();
            fewer.drain(start..(start + chunk).min(seeds.len()));
            repeats += 1;
            match run(postgres, objects, &fewer).await {
                Err((place, other)) if kind(&other) == kind(&difference) => {
                    fewer.truncate(place + 1);
                    (seeds, difference) = (fewer, other);
                }
                _ => start += chunk,
            }
        }
        chunk /= 2;
    }
    (seeds, difference)
}

/// The first words of a difference, without what changes from run to run.
fn kind(difference: &str) -> &str {
    difference.split([':', '{', '`']).next().unwrap_or_default()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.trim().parse().ok()
}

pub(crate) async fn compare(objects: Vec<ObjectRef>, seed: u64) {
    let seed = from_environment("CRM_SEED").unwrap_or(seed);
    let steps = from_environment("CRM_STEPS").map_or(STEPS, |steps| steps as usize);
    let postgres = postgres().await;
    let mut random = Random(seed);
    let seeds: Vec<u64> = (0..steps).map(|_| random.next()).collect();
    match run(&postgres, &objects, &seeds).await {
        Ok(world) => {
            println!("{:#?}", world.counts);
            // The random work must be work.
            for (what, least) in [
                ("commit: ok", steps / 8),
                ("page", steps / 8),
                ("aggregate: groups", steps / 40),
            ] {
                let count = world.counts.get(what).copied().unwrap_or_default();
                assert!(count > least, "{what}: {count} of {steps}");
            }
        }
        Err((place, difference)) => {
            let (fewer, smaller) = cut_down(
                &postgres,
                &objects,
                seeds[..=place].to_vec(),
                difference.clone(),
            )
            .await;
            panic!(
                "the storages differ with CRM_SEED={seed} in operation {place}:\n{difference}\n\n\
                 cut down to {} operations {fewer:?}:\n{smaller}",
                fewer.len()
            );
        }
    }
}
