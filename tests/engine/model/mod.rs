//! Long random runs against a model that is nothing but maps: after each operation the outcome and
//! everything stored are what the model says, and the audit trail builds each record again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

macro_rules! runs {
    ($($name:ident: $seed:literal;)*) => {$(
        /// C-061, R-062 to, G-11, G-16.
        #[tokio::test]
        async fn $name() {
            run_against_the_model($seed).await;
        }
    )*};
}

mod draft;
mod engine;
mod imagined;
mod reading;
mod rolled;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crm_engine::engine::{ManualClock, SequentialIds};
use crm_engine::prelude::*;
use crm_engine::query::Filter;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::common;
use crate::common::{assert_trail_tells, assert_trail_tells_every_record, rows_of};
use draft::Draft;
use engine::{Place, run};
use imagined::imagine;
use reading::read;
use rolled::{Dice, Side, rolled};

const OPERATIONS: usize = 2_000;

/// The objects of the model with the fields that it follows, in the order of their names.
const OBJECTS: [(&str, &[&str]); 6] = [
    (
        "account",
        &[
            "name",
            "employee_count",
            "parent_account_id",
            "custom_fields",
            "tags",
            "last_activity_at",
            "deal_count",
            "won_deal_count",
        ],
    ),
    (
        "activity",
        &[
            "subject",
            "account_id",
            "contact_id",
            "deal_id",
            "status",
            "completed_at",
        ],
    ),
    (
        "contact",
        &[
            "first_name",
            "last_name",
            "email",
            "account_id",
            "last_activity_at",
            "deal_count",
            "won_deal_count",
        ],
    ),
    (
        "deal",
        &[
            "name",
            "pipeline_id",
            "stage_id",
            "account_id",
            "contact_id",
            "status",
            "probability",
            "win_probability",
            "actual_close_date",
            "close_reason",
            "last_activity_at",
        ],
    ),
    ("pipeline", &["name", "is_default"]),
    (
        "pipeline_stage",
        &[
            "pipeline_id",
            "name",
            "stage_order",
            "stage_type",
            "default_probability",
        ],
    ),
];

type Key = (&'static str, Uuid);

type Fields = BTreeMap<&'static str, Json>;

/// A record of the model.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    version: i64,
    archived: Json,
    deleted: Json,
    fields: Fields,
}

impl Item {
    fn is_live(&self) -> bool {
        self.deleted.is_null()
    }

    fn id(&self, field: &str) -> Option<Uuid> {
        self.fields[field].as_str().map(|id| id.parse().unwrap())
    }
}

/// All records of a tenant, and the steps of its deals from stage to stage.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    items: BTreeMap<Key, Item>,
    steps: BTreeMap<Uuid, Vec<(Json, Json)>>,
}

impl World {
    fn live(&self, object: &'static str) -> impl Iterator<Item = (Uuid, &Item)> {
        self.items
            .iter()
            .filter(move |((name, _), item)| *name == object && item.is_live())
            .map(|((_, id), item)| (*id, item))
    }

    fn refers(&self, object: &str, field: &str, id: Uuid) -> Vec<Key> {
        let refers = |(key, item): (&Key, &Item)| {
            (key.0 == object && item.id(field) == Some(id)).then_some(*key)
        };
        self.items.iter().filter_map(refers).collect()
    }

    fn stages(&self, pipeline: Uuid) -> Vec<(Uuid, &Item)> {
        let mut stages: Vec<_> = self
            .live("pipeline_stage")
            .filter(|(_, stage)| stage.id("pipeline_id") == Some(pipeline))
            .collect();
        stages.sort_by_key(|(_, stage)| stage.fields["stage_order"].as_i64());
        stages
    }
}

/// What is stored, as the model sees it.
async fn stored(session: &Session) -> World {
    let mut world = World::default();
    for (object, fields) in OBJECTS {
        for row in rows_of(session, object).await {
            let item = Item {
                version: row.version(),
                archived: row.get("archived_at").to_json(),
                deleted: row.get("deleted_at").to_json(),
                fields: fields
                    .iter()
                    .map(|name| (*name, row.get(name).to_json()))
                    .collect(),
            };
            world.items.insert((object, row.id()), item);
        }
    }
    for row in rows_of(session, "deal_stage_change").await {
        let step = (
            row.get("from_stage_id").to_json(),
            row.get("to_stage_id").to_json(),
        );
        world
            .steps
            .entry(row.get("deal_id").as_uuid().unwrap())
            .or_default()
            .push(step);
    }
    world
}

/// What an operation of the model says: nothing, or the code of an error.
type Told = std::result::Result<(), &'static str>;

/// An operation with all that it needs.
#[derive(Clone, Debug)]
enum Operation {
    CreateAccount {
        name: String,
        parent: Option<Uuid>,
    },
    SetParent {
        id: Uuid,
        parent: Option<Uuid>,
    },
    CountUp {
        id: Uuid,
    },
    MergeAccount {
        id: Uuid,
        stale: bool,
        patch: Json,
    },
    CreateContact {
        email: Option<String>,
        account: Option<Uuid>,
    },
    SetEmail {
        id: Uuid,
        email: Option<String>,
    },
    CreatePipeline {
        name: String,
        is_default: bool,
    },
    SetDefault {
        id: Uuid,
    },
    AddStage {
        pipeline: Uuid,
        name: String,
        stage_type: StageType,
    },
    WeighStage {
        id: Uuid,
        percent: u8,
    },
    Reorder {
        pipeline: Uuid,
    },
    DeleteStage {
        id: Uuid,
        target: Option<Uuid>,
    },
    CreateDeal {
        pipeline: Uuid,
        account: Option<Uuid>,
        contact: Option<Uuid>,
    },
    Move {
        id: Uuid,
        stage: Uuid,
    },
    Close {
        id: Uuid,
        won: bool,
    },
    Reopen {
        id: Uuid,
    },
    SetProbability {
        id: Uuid,
        percent: Option<u8>,
    },
    CreateActivity {
        subject: String,
        links: [Option<Uuid>; 3],
    },
    Complete {
        id: Uuid,
    },
    OpenAgain {
        id: Uuid,
    },
    Archive {
        object: &'static str,
        id: Uuid,
    },
    Unarchive {
        object: &'static str,
        id: Uuid,
    },
    Delete {
        object: &'static str,
        id: Uuid,
    },
    Restore {
        object: &'static str,
        id: Uuid,
    },
    Purge {
        object: &'static str,
        id: Uuid,
    },
}

/// One long run.
async fn run_against_the_model(seed: u64) {
    let clock = Arc::new(ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(common::backend::storage(&[common::Property::schema()]))
        .clock(clock.clone())
        .ids(Arc::new(SequentialIds::new(1)))
        .object::<common::Property>()
        .build();
    let mut sides = Vec::new();
    for name in ["east", "west"] {
        let (onboarded, session) = common::tenant(&crm, name).await;
        let world = stored(&session).await;
        sides.push(Side {
            onboarded,
            session,
            world,
        });
    }
    let mut dice = Dice(seed);
    let mut made = 0;
    let mut passed = BTreeMap::<String, usize>::new();
    while made < OPERATIONS {
        clock.advance(chrono::TimeDelta::milliseconds(1));
        let (first, second) = sides.split_at_mut(1);
        let (own, other) = if dice.roll(3) == 0 {
            (&mut second[0], &mut first[0])
        } else {
            (&mut first[0], &mut second[0])
        };
        let now = crm.engine().clock().now();
        let mut draft = Draft {
            base: own.world.clone(),
            now: own.world.clone(),
            touched: BTreeSet::new(),
            at: json!(now.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)),
            today: json!(now.date_naive().to_string()),
        };
        let in_unit = dice.roll(3) == 0;
        let length = if in_unit { 1 + dice.roll(5) } else { 1 };
        let mut place = if in_unit {
            Place::Unit(Box::new(own.session.begin()))
        } else {
            Place::Session(own.session.clone())
        };
        let mut failed = None;
        let mut done = Vec::new();
        for _ in 0..length {
            let operation = rolled(&mut dice, &draft.now, &other.world);
            made += 1;
            done.push(format!("{operation:?}"));
            let outcome = run(&mut place, &operation, &own.onboarded, &draft).await;
            let new = outcome.as_ref().ok().copied().flatten().unwrap_or_default();
            let mut wanted = imagine(&mut draft, &operation, new);
            if !in_unit {
                wanted = wanted.and_then(|()| draft.clone().commit().map(|_| ()));
            }
            let told = outcome.as_ref().map(|_| ()).map_err(Error::code);
            assert_eq!(
                told, wanted,
                "seed {seed}, operation {made}: {done:#?}\n{outcome:?}"
            );
            let kind = done[done.len() - 1]
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned();
            *passed.entry(kind).or_default() += usize::from(told.is_ok());
            failed = told.err();
            if failed.is_some() {
                break;
            }
            if in_unit && dice.roll(2) == 0 {
                read(&mut place, &draft.now, &mut dice).await;
            }
        }
        let touched = draft.touched.clone();
        let commits = failed.is_none() && (!in_unit || dice.roll(5) > 0);
        if commits {
            let wanted = draft.commit();
            let outcome = match place {
                Place::Unit(work) => work.commit().await.map(|_| ()),
                Place::Session(_) => Ok(()),
            };
            let told = outcome.as_ref().copied().map_err(Error::code);
            let expected = wanted.as_ref().map(|_| ()).map_err(|code| *code);
            assert_eq!(
                told, expected,
                "seed {seed}, operation {made}: {done:#?}\n{outcome:?}"
            );
            own.world = wanted.unwrap_or_else(|_| own.world.clone());
        }
        let found = stored(&own.session).await;
        for (key, item) in &own.world.items {
            let place = format!("seed {seed}, operation {made}: {done:#?}");
            assert_eq!(found.items.get(key), Some(item), "{key:?} after {place}");
        }
        assert!(
            found == own.world,
            "seed {seed}, operation {made}: {done:#?}"
        );
        for (object, id) in touched {
            let by_id = Find::new()
                .filter_by_name(Filter::eq("id", id))
                .with_archived();
            let records = own.session.object(object).await.unwrap();
            for row in records.find(&by_id.with_deleted()).await.unwrap().items {
                assert_trail_tells(&own.session, &row).await;
            }
        }
        read(
            &mut Place::Session(own.session.clone()),
            &own.world,
            &mut dice,
        )
        .await;
        if made % 20 == 0 {
            assert!(
                stored(&other.session).await == other.world,
                "another tenant was touched"
            );
        }
    }
    for side in &sides {
        assert!(stored(&side.session).await == side.world);
        assert_trail_tells_every_record(&side.session).await;
    }
    assert!(
        passed.len() >= 25,
        "some operations were never made: {passed:?}"
    );
    let never: Vec<_> = passed.iter().filter(|(_, count)| **count == 0).collect();
    assert!(never.is_empty(), "some operations never passed: {never:?}");
}

runs! {
    a_first_long_run_is_what_the_model_says: 1;
    a_second_long_run_is_what_the_model_says: 2;
    a_third_long_run_is_what_the_model_says: 3;
    a_fourth_long_run_is_what_the_model_says: 4;
}
