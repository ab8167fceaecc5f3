//! What holds after any sequence of changes, for every object that there is.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::audit::ObstacleReason;
use crm_engine::prelude::*;
use crm_engine::schema::{ObjectRef, Row};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{Office, common, last_commit};
use crate::common::{
    Property, assert_trail_tells_every_record, body_like, cases, populate, rows_of,
    writable_objects,
};

/// One change: of the object, the record and the kind that the numbers lead to.
type Step = (usize, usize, u8, usize);

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        (any::<usize>(), any::<usize>(), 0_u8..8, any::<usize>()),
        count,
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

fn run<S: Strategy>(usual: u32, strategy: S, test: impl Fn(S::Value)) {
    let config = Config {
        cases: cases(usual),
        failure_persistence: None,
        max_shrink_iters: 20,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&strategy, |value| {
        test(value);
        Ok(())
    });
    outcome.unwrap();
}

/// A patch that gives a record some fields of another one of the object, or empties one.
fn patch(object: &ObjectRef, from: &Row, choice: usize) -> Map<String, Json> {
    let fields: Vec<_> = object
        .own_fields()
        .iter()
        .filter(|field| !field.read_only)
        .collect();
    let mut patch = Map::new();
    for place in [choice, choice / 7, choice / 61] {
        let Some(field) = fields.get(place % fields.len().max(1)) else {
            continue;
        };
        let value = match choice % 5 {
            0 => Json::Null,
            1 if field.storage_kind() == crm_engine::schema::StorageKind::Text => "changed".into(),
            _ => from.get(&field.name).to_json(),
        };
        patch.insert(field.name.to_string(), value);
    }
    patch
}

/// Does a step in a unit of work, if the rules allow it. Whether they did.
async fn take(
    work: &mut crm_engine::UnitOfWork,
    object: &ObjectRef,
    rows: &[Row],
    step: &Step,
) -> bool {
    let (_, record, kind, choice) = *step;
    let Some(row) = rows.get(record % rows.len().max(1)) else {
        return false;
    };
    let other = &rows[choice % rows.len()];
    let id = row.id();
    let before = work.savepoint();
    let done = {
        let mut records = work.object(object.name()).await.unwrap();
        match kind {
            0 => records.create(&body_like(row)).await.map(|_| ()),
            1 => records.archive(id).await.map(|_| ()),
            2 => records.unarchive(id).await.map(|_| ()),
            3 => records.delete(id).await,
            4 => records.restore(id).await.map(|_| ()),
            _ => match records.get(id).await {
                Ok(now) => {
                    let patch = patch(object, other, choice);
                    records.merge(id, now.version(), &patch).await.map(|_| ())
                }
                Err(error) => Err(error),
            },
        }
    };
    match done {
        Ok(()) => work.release(before),
        Err(_) => {
            work.roll_back(before);
            return false;
        }
    }
    true
}

/// Does steps in one commit; its id, if it was written.
async fn commit(session: &Session, steps: &[Step]) -> Option<Uuid> {
    let mut objects: Vec<ObjectRef> = writable_objects(session);
    let registry = session.registry().await.unwrap();
    objects.extend(
        registry
            .objects()
            .values()
            .filter(|object| object.template().is_some())
            .cloned(),
    );
    let mut work = session.begin();
    for step in steps {
        let object = &objects[step.0 % objects.len()];
        if object.is_template() {
            continue;
        }
        let rows = rows_of(session, object.name()).await;
        take(&mut work, object, &rows, step).await;
    }
    if work.staged().is_empty() {
        return None;
    }
    work.commit().await.ok().map(|commit| commit.id)
}

/// Everything that is recorded, by record: its fields without what the engine keeps in step, and
/// whether it is deleted.
type State = BTreeMap<(String, Uuid), (bool, Map<String, Json>)>;

async fn state(session: &Session) -> State {
    let mut state = State::new();
    let registry = session.registry().await.unwrap();
    let full = crm_engine::schema::Lifecycle::Full;
    for object in registry.objects().values() {
        if object.lifecycle() != full || object.is_template() {
            continue;
        }
        for row in rows_of(session, object.name()).await {
            let mut fields = row.to_json();
            for field in object.fields() {
                let is_kept = field.name == "archived_at" || !(field.system || field.in_step);
                if !is_kept {
                    fields.remove(&*field.name);
                }
            }
            state.insert(
                (object.name().to_owned(), row.id()),
                (row.is_deleted(), fields),
            );
        }
    }
    state
}

/// The state without records that are deleted: what is created and undone is there, deleted.
fn live(state: &State) -> BTreeMap<&(String, Uuid), &Map<String, Json>> {
    let live = state.iter().filter(|(_, (is_deleted, _))| !is_deleted);
    live.map(|(record, (_, fields))| (record, fields)).collect()
}

/// Checks that two states have the same live records, and tells the fields in which they differ.
fn assert_same(now: &State, wanted: &State, commit: &[std::sync::Arc<Record<AuditEvent>>]) {
    let (now, wanted) = (live(now), live(wanted));
    let mut differing = Vec::new();
    let records: BTreeSet<_> = now.keys().chain(wanted.keys()).copied().collect();
    for record in records {
        match (now.get(record), wanted.get(record)) {
            (Some(is), Some(should)) => {
                let names = should
                    .keys()
                    .filter(|name| is.get(*name) != should.get(*name));
                let told = names.map(|name| {
                    format!(
                        "{} {name}: {:?} for {:?}",
                        record.0,
                        is.get(name),
                        should.get(name)
                    )
                });
                differing.extend(told);
            }
            (None, _) => differing.push(format!("{} is missing", record.0)),
            (_, None) => differing.push(format!("{} is too much", record.0)),
        }
    }
    let events: Vec<_> = commit
        .iter()
        .map(|event| (event.event, event.object.as_str(), event.changes.fields()))
        .collect();
    assert!(differing.is_empty(), "{differing:#?} after {events:#?}");
}

/// The state rebuilt from the events equals the state stored, for every object, after any changes;
/// and so does every version in between.
#[test]
fn the_events_tell_the_state_of_every_object() {
    run(6, steps(20..60), |steps| {
        block_on(async {
            let office = Office::new().await;
            let populated = populate(&office.crm, "busy").await;
            let session = &populated.session;
            let mut seen: BTreeMap<(String, Uuid, i64), Map<String, Json>> = BTreeMap::new();
            for step in steps.chunks(2) {
                office.hours_pass(1);
                let Some(commit) = commit(session, step).await else {
                    continue;
                };
                for event in session.audit().of_commit(commit).await.unwrap() {
                    let records = session.object(&event.object).await.unwrap();
                    let Ok(row) = records.get(event.record_id).await else {
                        continue;
                    };
                    let version = (event.object.clone(), event.record_id, row.version());
                    seen.insert(version, row.to_json());
                }
            }
            assert_trail_tells_every_record(session).await;
            for ((object, id, version), stored) in seen {
                let built = session
                    .audit()
                    .version_of(&object, id, version)
                    .await
                    .unwrap();
                let built = built.unwrap();
                let masked: BTreeSet<&str> = built
                    .masked
                    .iter()
                    .filter_map(|path| path.split('.').next())
                    .collect();
                let visible = |json: Map<String, Json>| -> Map<String, Json> {
                    let fields = json.into_iter();
                    fields
                        .filter(|(name, _)| !masked.contains(name.as_str()))
                        .collect()
                };
                assert_eq!(visible(built.row.to_json()), visible(stored), "{object}");
            }
        });
    });
}

/// Undoing a commit gives the state before it; undoing that gives the state behind it.
#[test]
fn undo_and_redo_are_the_identity() {
    let undone = std::sync::atomic::AtomicUsize::new(0);
    let undone = &undone;
    run(10, prop::collection::vec(steps(1..5), 1..8), |commits| {
        block_on(async {
            let office = Office::new().await;
            let populated = populate(&office.crm, "busy").await;
            let session = &populated.session;
            for steps in &commits {
                office.hours_pass(1);
                let before = state(session).await;
                let Some(commit) = commit(session, steps).await else {
                    continue;
                };
                let after = state(session).await;
                office.hours_pass(1);
                let Ok(report) = session.audit().undo_commit(commit).await else {
                    continue;
                };
                // Nothing was touched since: only rules may refuse, and what is not kept stays.
                for obstacle in &report.obstacles {
                    let is_expected = matches!(
                        obstacle.why,
                        ObstacleReason::Refused { .. } | ObstacleReason::NotKept
                    );
                    assert!(is_expected, "{obstacle:?}");
                }
                let Some(undo) = report.undone_by else {
                    assert_same(&state(session).await, &after, &[]);
                    continue;
                };
                undone.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let now = state(session).await;
                let events = session.audit().of_commit(commit).await.unwrap();
                assert_same(&now, &before, &events);
                office.hours_pass(1);
                let redo = session.audit().undo_commit(undo).await.unwrap();
                assert!(redo.is_complete(), "{:?}", redo.obstacles);
                let now = state(session).await;
                assert_same(&now, &after, &events);
            }
            assert_trail_tells_every_record(session).await;
        });
    });
    assert!(undone.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

const FIELDS: [&str; 4] = ["name", "industry", "custom_fields", "website"];

/// Obstacles are exactly what later commits touched: which fields of which records, and the last
/// commit that touched each.
#[test]
fn obstacles_are_what_later_commits_touched() {
    let touches = prop::collection::vec((0_usize..5, 0_usize..5, any::<u16>()), 0..12);
    let changes = prop::collection::vec(prop::collection::btree_set(0_usize..4, 0..4), 5);
    run(24, (changes, touches), |(changes, touches)| {
        block_on(async {
            let office = Office::new().await;
            let session = &office.session;
            let mut ids = Vec::new();
            for number in 0..5 {
                let account = Account::new(format!("Account {number}"));
                ids.push(session.accounts().create(account).await.unwrap().id);
            }
            let value = |field: usize, number: u16| match FIELDS[field] {
                "custom_fields" => serde_json::json!({"a": number}),
                "website" => format!("https://{number}.example").into(),
                name => Json::from(format!("{name} {number}")),
            };
            let path = |field: usize| match FIELDS[field] {
                "custom_fields" => "custom_fields.a".to_owned(),
                name => name.to_owned(),
            };
            let mut work = session.begin();
            for (id, fields) in ids.iter().zip(&changes) {
                let patch = fields.iter().map(|field| {
                    let field = *field;
                    (FIELDS[field].to_owned(), value(field, 60_000))
                });
                work.accounts()
                    .merge(*id, 1, &patch.collect())
                    .await
                    .unwrap();
            }
            let is_empty = work.staged().is_empty();
            let first = work.commit().await.unwrap().id;
            if is_empty {
                return;
            }
            let mut wanted = BTreeMap::new();
            let mut gone = BTreeMap::new();
            for (record, field, number) in touches {
                let id = ids[record];
                if gone.contains_key(&record) {
                    continue;
                }
                if field == 4 {
                    session.accounts().delete(id).await.unwrap();
                    gone.insert(record, last_commit(session, id).await);
                    continue;
                }
                let before = session.accounts().get(id).await.unwrap().version;
                let patch = Map::from_iter([(FIELDS[field].to_owned(), value(field, number % 9))]);
                let after = session.accounts().merge(id, before, &patch).await.unwrap();
                if after.version > before && changes[record].contains(&field) {
                    wanted.insert((record, path(field)), last_commit(session, id).await);
                }
            }
            let mut expected: BTreeSet<(Uuid, Option<String>, Uuid)> = BTreeSet::new();
            for (record, fields) in changes.iter().enumerate() {
                let id = ids[record].uuid();
                match gone.get(&record) {
                    Some(_) if fields.is_empty() => {}
                    Some(by) => drop(expected.insert((id, None, *by))),
                    None => {
                        let of = wanted.iter().filter(|((one, _), _)| *one == record);
                        expected.extend(of.map(|((_, path), by)| (id, Some(path.clone()), *by)));
                    }
                }
            }
            let report = session.audit().undo_commit(first).await.unwrap();
            let found: BTreeSet<_> = report
                .obstacles
                .iter()
                .map(|one| (one.record.id, one.field.clone(), one.by_commit.unwrap()))
                .collect();
            assert_eq!(found, expected);
            assert_eq!(report.undone_by.is_some(), expected.is_empty());
        });
    });
}

/// Any version that was written comes back as it was, whatever happened since.
#[test]
fn any_version_comes_back() {
    let changes = prop::collection::vec((0_usize..5, any::<u16>()), 2..12);
    run(16, (changes, any::<usize>()), |(changes, choice)| {
        block_on(async {
            let crm = common::crm();
            let (_, session) = common::tenant(&crm, "acme").await;
            let property = Property::new("B-17");
            let mut properties = session.records::<Property>();
            let first = properties.create(property).await.unwrap();
            let id = first.id;
            let mut versions = vec![first];
            for (field, number) in changes {
                let changed = properties.update(id, |property| match field {
                    0 => property.reference = format!("C-{number}"),
                    1 => property.square_metres = Some(i32::from(number) + 1),
                    2 => property.price = Some(number.into()),
                    3 => property.foreign_id = Some(Uuid::from_u128(number.into())),
                    _ => (property.price, property.square_metres) = (None, None),
                });
                versions.push(changed.await.unwrap());
            }
            let wanted = &versions[choice % versions.len()];
            let audit = session.audit();
            audit.restore_version(id, wanted.version).await.unwrap();
            let now = properties.get(id).await.unwrap();
            assert_eq!(now.data, wanted.data);
            assert_trail_tells_every_record(&session).await;
        });
    });
}
