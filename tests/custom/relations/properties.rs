//! Relations by chance, beside a model of them.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::custom_objects::{CustomField, CustomValuesExt, LinksExt};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{account, create, delete, projects, restore, set, try_create};
use crate::common;
use crate::common::{crm, rows_of, tenant};

#[derive(Clone, Debug)]
enum Step {
    Project,
    Phase(usize),
    Customer(usize, Option<usize>),
    Link(usize, usize),
    Unlink(usize, usize),
    DeleteAccount(usize),
    RestoreAccount(usize),
    DeleteProject(usize),
    RestoreProject(usize),
    DeletePhase(usize),
    RestorePhase(usize),
    PurgeProject(usize),
    Merge(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        Just(Step::Project),
        any::<usize>().prop_map(Step::Phase),
        (any::<usize>(), any::<Option<usize>>()).prop_map(|(a, b)| Step::Customer(a, b)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Link(a, b)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Unlink(a, b)),
        any::<usize>().prop_map(Step::DeleteAccount),
        any::<usize>().prop_map(Step::RestoreAccount),
        any::<usize>().prop_map(Step::DeleteProject),
        any::<usize>().prop_map(Step::RestoreProject),
        any::<usize>().prop_map(Step::DeletePhase),
        any::<usize>().prop_map(Step::RestorePhase),
        any::<usize>().prop_map(Step::PurgeProject),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Merge(a, b)),
    ];
    prop::collection::vec(one, 1..24)
}

/// A phase of the model.
#[derive(Clone, Copy, Debug)]
struct Phase {
    project: Uuid,
    is_live: bool,
    /// Whether it was deleted with its project, and so comes back with it.
    went_along: bool,
}

/// What there should be.
#[derive(Default)]
struct Model {
    accounts: BTreeMap<Uuid, bool>,
    projects: BTreeMap<Uuid, (bool, Option<Uuid>)>,
    phases: BTreeMap<Uuid, Phase>,
}

fn pick<T>(all: &BTreeMap<Uuid, T>, number: usize) -> Option<(Uuid, &T)> {
    let count = all.len().max(1);
    all.iter().nth(number % count).map(|(id, one)| (*id, one))
}

async fn run(session: &Session, steps: &[Step]) {
    let mut model = Model::default();
    for called in ["A", "B", "C"] {
        model.accounts.insert(account(session, called).await, true);
    }
    for step in steps {
        apply(session, &mut model, step).await;
    }
    compare(session, &model).await;
}

async fn apply(session: &Session, model: &mut Model, step: &Step) {
    match *step {
        Step::Project => {
            let made = create(session, "project", json!({})).await;
            model.projects.insert(made, (true, None));
        }
        Step::Phase(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let made = try_create(session, "phase", json!({"of_project": project})).await;
            assert_eq!(made.is_ok(), *is_live);
            if let Ok(made) = made {
                let phase = Phase {
                    project,
                    is_live: true,
                    went_along: false,
                };
                model.phases.insert(made.id(), phase);
            }
        }
        Step::Customer(number, target) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let target = target.and_then(|number| pick(&model.accounts, number));
            let id = target.map(|(id, _)| id);
            let fits = *is_live && target.is_none_or(|(_, is_live)| *is_live);
            let written = set(session, "project", project, json!({"customer": id})).await;
            assert_eq!(written.is_ok(), fits, "{written:?}");
            if fits && let Some(entry) = model.projects.get_mut(&project) {
                entry.1 = id;
            }
        }
        Step::Link(number, target) => {
            let Some((project, (live, _))) = pick(&model.projects, number) else {
                return;
            };
            let Some((account, account_live)) = pick(&model.accounts, target) else {
                return;
            };
            let linked = session.links("involved").link(project, account).await;
            assert_eq!(linked.is_ok(), *live && *account_live);
        }
        Step::Unlink(number, target) => {
            let Some((project, _)) = pick(&model.projects, number) else {
                return;
            };
            let Some((account, _)) = pick(&model.accounts, target) else {
                return;
            };
            session
                .links("involved")
                .unlink(project, account)
                .await
                .unwrap();
        }
        Step::DeleteAccount(number) => {
            let Some((account, is_live)) = pick(&model.accounts, number) else {
                return;
            };
            assert_eq!(delete(session, "account", account).await.is_ok(), *is_live);
            model.accounts.insert(account, false);
            for (is_live, customer) in model.projects.values_mut() {
                if *is_live && *customer == Some(account) {
                    *customer = None;
                }
            }
        }
        Step::RestoreAccount(number) => {
            let Some((account, is_live)) = pick(&model.accounts, number) else {
                return;
            };
            let is_live = *is_live;
            // One that was merged away stays.
            if restore(session, "account", account).await.is_ok() {
                assert!(!is_live);
                model.accounts.insert(account, true);
            }
        }
        Step::DeleteProject(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let is_live = *is_live;
            assert_eq!(delete(session, "project", project).await.is_ok(), is_live);
            if let Some(entry) = model.projects.get_mut(&project) {
                entry.0 = false;
            }
            let phases = model.phases.values_mut();
            for phase in phases.filter(|phase| phase.project == project && phase.is_live) {
                (phase.is_live, phase.went_along) = (false, true);
            }
        }
        Step::RestoreProject(number) => {
            let Some((project, (is_live, customer))) = pick(&model.projects, number) else {
                return;
            };
            let there = customer.is_none_or(|id| model.accounts.get(&id) == Some(&true));
            let comes = !is_live && there;
            assert_eq!(restore(session, "project", project).await.is_ok(), comes);
            if comes {
                if let Some(entry) = model.projects.get_mut(&project) {
                    entry.0 = true;
                }
                let phases = model.phases.values_mut();
                for phase in phases.filter(|phase| phase.project == project && phase.went_along) {
                    (phase.is_live, phase.went_along) = (true, false);
                }
            }
        }
        Step::DeletePhase(number) => {
            let Some((id, phase)) = pick(&model.phases, number) else {
                return;
            };
            assert_eq!(delete(session, "phase", id).await.is_ok(), phase.is_live);
            if let Some(phase) = model.phases.get_mut(&id) {
                phase.is_live = false;
            }
        }
        Step::RestorePhase(number) => {
            let Some((id, phase)) = pick(&model.phases, number) else {
                return;
            };
            let whole = model.projects.get(&phase.project);
            let comes = !phase.is_live && whole.is_some_and(|(is_live, _)| *is_live);
            assert_eq!(restore(session, "phase", id).await.is_ok(), comes);
            if comes && let Some(phase) = model.phases.get_mut(&id) {
                phase.is_live = true;
            }
        }
        Step::PurgeProject(number) => {
            let Some((project, (is_live, _))) = pick(&model.projects, number) else {
                return;
            };
            let is_live = *is_live;
            let mut records = session.object("project").await.unwrap();
            assert_eq!(records.purge(project).await.is_ok(), !is_live);
            if !is_live {
                model.projects.remove(&project);
                model.phases.retain(|_, phase| phase.project != project);
            }
        }
        Step::Merge(survivor, loser) => {
            let Some((survivor, one)) = pick(&model.accounts, survivor) else {
                return;
            };
            let Some((loser, other)) = pick(&model.accounts, loser) else {
                return;
            };
            let fits = *one && *other && survivor != loser;
            let merged = session
                .accounts()
                .merge_into(Id::new(survivor), &[Id::new(loser)], &Choices::new(), None)
                .await;
            assert_eq!(merged.is_ok(), fits, "{merged:?}");
            if fits {
                model.accounts.insert(loser, false);
                for (_, customer) in model.projects.values_mut() {
                    if *customer == Some(loser) {
                        *customer = Some(survivor);
                    }
                }
            }
        }
    }
}

async fn compare(session: &Session, model: &Model) {
    let text = |row: &Row, field: &str| {
        let document = row.get("custom_fields").to_json();
        let id = document
            .get(field)
            .and_then(Json::as_str)
            .map(str::to_owned);
        id.map(|id| id.parse::<Uuid>().unwrap())
    };
    let mut references = BTreeSet::new();
    let mut keep = |object: &str, row: &Row, target: Option<Uuid>| {
        let reference =
            target.map(|target| (object.to_owned(), row.id(), target, row.is_deleted()));
        references.extend(reference);
    };
    let mut projects = BTreeMap::new();
    for row in rows_of(session, "project").await {
        let customer = text(&row, "customer");
        keep("project", &row, customer);
        projects.insert(row.id(), (!row.is_deleted(), customer));
    }
    assert_eq!(projects, model.projects);
    let mut phases = BTreeMap::new();
    for row in rows_of(session, "phase").await {
        let project = text(&row, "of_project");
        keep("phase", &row, project);
        phases.insert(row.id(), (project.unwrap(), !row.is_deleted()));
    }
    let expected = model
        .phases
        .iter()
        .map(|(id, phase)| (*id, (phase.project, phase.is_live)));
    assert_eq!(phases, expected.collect());
    // The rows by which records are found are those that follow from the records.
    let kept: BTreeSet<_> = rows_of(session, "custom_value")
        .await
        .iter()
        .map(|row| {
            let id = |field: &str| row.get(field).as_uuid().unwrap();
            let object = row.get("object").as_text().unwrap().to_owned();
            (object, id("record_id"), id("target_id"), row.is_deleted())
        })
        .collect();
    assert_eq!(kept, references);
    let fields = session.records::<CustomField>().find(Find::new()).await;
    for field in fields.unwrap().items {
        let rebuilt = session.custom_values().rebuild(field.id, None, &()).await;
        assert_eq!(rebuilt.unwrap().rows, 0);
    }
    let mut pairs = BTreeSet::new();
    for row in rows_of(session, "involved").await {
        let id = |field: &str| row.get(field).as_uuid().unwrap();
        let (from, to) = (id("from_id"), id("to_id"));
        if !row.is_deleted() {
            assert!(
                model.projects[&from].0 && model.accounts[&to],
                "a link leads nowhere"
            );
            assert!(pairs.insert((from, to)), "linked twice");
        }
    }
}

/// Whatever is written, deleted, restored, removed and merged: values lead to live records, parts
/// follow their wholes, and the rows by which they are found follow the records.
#[test]
fn relations_hold_whatever_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let crm = runtime.block_on(async { crm() });
    let number = std::sync::atomic::AtomicUsize::new(0);
    let config = ProptestConfig::with_cases(common::cases(24));
    proptest!(config, |(steps in steps())| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        runtime.block_on(async {
            let session = tenant(&crm, &format!("tenant{number}")).await.1;
            projects(&session).await;
            run(&session, &steps).await;
        });
    });
}
