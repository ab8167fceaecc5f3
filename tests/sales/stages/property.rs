//! R-044, C-012: whatever the gates and whatever is written on whichever way: no deal is in a stage
//! whose gates it did not meet when it came there, and its times add up to its age.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::custom_objects::{CustomField, CustomFieldType, IntegerLimits};
use crm_engine::deals::ApprovalStatus;
use crm_engine::engine::ManualClock;
use crm_engine::pipelines::{ApprovalPolicy, StageIds};
use crm_engine::prelude::*;
use crm_engine::query::{Criteria, Filter};
use crm_engine::schema::{Row, Value};
use crm_engine::value::ApiName;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};

/// Four open stages, a won and a lost one, and two open ones of another pipeline.
const STAGES: usize = 8;
const WON: usize = 4;
const LOST: usize = 5;
const OTHER: usize = 6;
const FIELDS: [&str; 3] = ["amount", "next_step", "custom_fields.budget"];

/// What a stage asks.
#[derive(Clone, Debug)]
struct Gate {
    required: Vec<usize>,
    least_budget: Option<i64>,
    asked: Option<Asked>,
    next: Vec<usize>,
    hours: i32,
    is_approved: bool,
}

/// An entry condition: what is said by an expression, and said once more by [`Asked::holds`].
#[derive(Clone, Debug)]
enum Asked {
    AmountAtLeast(i64),
    /// The tenant's own field.
    BudgetBelow(i64),
    StepIs(i64),
    HasValue(usize),
    Not(Box<Asked>),
    And(Box<Asked>, Box<Asked>),
    Or(Box<Asked>, Box<Asked>),
}

impl Asked {
    fn source(&self) -> String {
        match self {
            Self::AmountAtLeast(least) => format!("amount(amount) >= {least}"),
            Self::BudgetBelow(most) => format!("budget < {most}"),
            Self::StepIs(step) => format!("next_step = 'step {step}'"),
            Self::HasValue(field) => format!("{} is not null", FIELDS[*field]),
            Self::Not(one) => format!("not ({})", one.source()),
            Self::And(one, other) => format!("({}) and ({})", one.source(), other.source()),
            Self::Or(one, other) => format!("({}) or ({})", one.source(), other.source()),
        }
    }

    /// Whether it is true of a deal; neither where it depends on a value that is missing.
    fn holds(&self, deal: &Deal) -> Option<bool> {
        match self {
            Self::AmountAtLeast(least) => deal.amount.map(|amount| amount >= (*least).into()),
            Self::BudgetBelow(most) => value(deal, 2).as_i64().map(|budget| budget < *most),
            Self::StepIs(step) => {
                let own = deal.next_step.as_deref();
                own.map(|own| own == format!("step {step}"))
            }
            Self::HasValue(field) => Some(!value(deal, *field).is_null()),
            Self::Not(one) => one.holds(deal).map(|holds| !holds),
            Self::And(one, other) => match (one.holds(deal), other.holds(deal)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(one, other) => match (one.holds(deal), other.holds(deal)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let leaf = prop_oneof![
        (0..5_i64).prop_map(Asked::AmountAtLeast),
        (1..6_i64).prop_map(Asked::BudgetBelow),
        (0..5_i64).prop_map(Asked::StepIs),
        (0..FIELDS.len()).prop_map(Asked::HasValue),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|one| Asked::Not(Box::new(one))),
            pair.clone()
                .prop_map(|(one, other)| Asked::And(Box::new(one), Box::new(other))),
            pair.prop_map(|(one, other)| Asked::Or(Box::new(one), Box::new(other))),
        ]
    })
}

fn gate() -> impl Strategy<Value = Gate> {
    (
        prop_oneof![
            3 => Just(Vec::new()),
            1 => prop::collection::vec(0..FIELDS.len(), 1..3),
        ],
        prop::option::weighted(0.2, 1..4_i64),
        prop::option::weighted(0.3, asked()),
        prop_oneof![
            3 => Just(Vec::new()),
            1 => prop::collection::vec(0..STAGES, 2..6),
        ],
        prop_oneof![3 => Just(0), 1 => 1..3_i32],
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(required, least_budget, asked, next, hours, is_approved)| Gate {
                required,
                least_budget,
                asked,
                next,
                hours,
                is_approved,
            },
        )
}

#[derive(Clone, Debug)]
enum Op {
    Create {
        stage: Option<usize>,
        way: usize,
        filled: bool,
    },
    Move {
        deal: usize,
        stage: usize,
        way: usize,
    },
    Fill {
        deal: usize,
        field: usize,
        value: Option<i64>,
    },
    /// In one unit of work: fill a field, move, perhaps away and back, and empty the field again.
    Trick {
        deal: usize,
        stage: usize,
        via: Option<usize>,
        field: usize,
    },
    /// In one unit of work: two moves.
    Twice {
        deal: usize,
        stages: (usize, usize),
    },
    Win(usize),
    Lose(usize),
    Reopen(usize),
    Approve {
        deal: usize,
        stage: usize,
    },
    Restore(usize),
    Wait(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let (deal, stage) = (0..4_usize, 0..STAGES);
    prop_oneof![
        2 => (prop::option::of(stage.clone()), 0..4_usize, any::<bool>())
            .prop_map(|(stage, way, filled)| Op::Create { stage, way, filled }),
        6 => (deal.clone(), stage.clone(), 0..8_usize)
            .prop_map(|(deal, stage, way)| Op::Move { deal, stage, way }),
        3 => (deal.clone(), 0..FIELDS.len(), prop::option::weighted(0.8, 0..5_i64))
            .prop_map(|(deal, field, value)| Op::Fill { deal, field, value }),
        2 => (deal.clone(), stage.clone(), prop::option::of(stage.clone()), 0..FIELDS.len())
            .prop_map(|(deal, stage, via, field)| Op::Trick { deal, stage, via, field }),
        1 => (deal.clone(), stage.clone(), stage.clone())
            .prop_map(|(deal, one, two)| Op::Twice { deal, stages: (one, two) }),
        1 => deal.clone().prop_map(Op::Win),
        1 => deal.clone().prop_map(Op::Lose),
        1 => deal.clone().prop_map(Op::Reopen),
        2 => (deal.clone(), stage).prop_map(|(deal, stage)| Op::Approve { deal, stage }),
        1 => deal.prop_map(Op::Restore),
        2 => (1..30_i64).prop_map(Op::Wait),
    ]
}

struct Scene {
    session: Session,
    clock: Arc<ManualClock>,
    is_ordered: bool,
    gates: Vec<Gate>,
    pipelines: [Id<Pipeline>; 2],
    stages: Vec<Id<PipelineStage>>,
    deals: Vec<Id<Deal>>,
    /// How many steps of each deal were judged.
    judged: BTreeMap<Id<Deal>, usize>,
}

fn set(deal: &mut Deal, field: usize, value: Option<i64>) {
    match field {
        0 => deal.amount = value.map(Into::into),
        1 => deal.next_step = value.map(|value| format!("step {value}")),
        _ => deal.custom_fields = value.map_or(json!({}), |value| json!({"budget": value})),
    }
}

fn value(deal: &Deal, field: usize) -> Json {
    match field {
        0 => json!(deal.amount),
        1 => json!(deal.next_step),
        _ => deal
            .custom_fields
            .get("budget")
            .cloned()
            .unwrap_or_default(),
    }
}

impl Scene {
    async fn new(
        crm: &Crm,
        clock: Arc<ManualClock>,
        subdomain: &str,
        is_ordered: bool,
        gates: Vec<Gate>,
    ) -> Self {
        let (onboarded, session) = crate::common::tenant(crm, subdomain).await;
        let name = |name: &str| ApiName::parse(name).unwrap();
        let whole = CustomFieldType::Number(IntegerLimits::default());
        let budget = CustomField::new(name("deal"), name("budget"), "Budget", whole);
        session.records().create(budget).await.unwrap();
        let other = Pipeline {
            stage_order_enforced: is_ordered,
            ..Pipeline::new("Other")
        };
        let other = session.pipelines().create(other).await.unwrap().id;
        let mut stages = onboarded.stages.clone();
        for place in [1_u32, 2] {
            let stage = PipelineStage::new(other, format!("Other {place}"), place);
            stages.push(session.pipelines().add_stage(stage).await.unwrap().id);
        }
        session
            .pipelines()
            .update(onboarded.pipeline, |pipeline| {
                pipeline.stage_order_enforced = is_ordered;
            })
            .await
            .unwrap();
        for (stage, gate) in stages.iter().zip(&gates) {
            let next: StageIds = gate
                .next
                .iter()
                .map(|place| stages[*place])
                .collect::<Vec<_>>()
                .into();
            session
                .pipelines()
                .update_stage(*stage, |stage| {
                    let required = gate.required.iter();
                    stage.required_fields = required.map(|field| FIELDS[*field].into()).collect();
                    stage.entry_criteria = gate.least_budget.map(|least| {
                        let filter =
                            json!({"field": "custom_fields.budget", "op": "gte", "value": least});
                        Criteria(Filter::from_json(&filter).unwrap())
                    });
                    stage.entry_condition = gate.asked.as_ref().map(Asked::source);
                    stage.allowed_next_stages = next.clone();
                    stage.minimum_hours = (gate.hours > 0).then_some(gate.hours);
                    stage.approval = gate.is_approved.then(|| ApprovalPolicy {
                        allows_own: true,
                        ..ApprovalPolicy::by_users([onboarded.admin])
                    });
                })
                .await
                .unwrap();
        }
        Self {
            session,
            clock,
            is_ordered,
            gates,
            pipelines: [onboarded.pipeline, other],
            stages,
            deals: Vec::new(),
            judged: BTreeMap::new(),
        }
    }

    fn pipeline(&self, stage: usize) -> Id<Pipeline> {
        self.pipelines[usize::from(stage >= OTHER)]
    }

    fn place(&self, stage: Id<PipelineStage>) -> usize {
        self.stages.iter().position(|own| *own == stage).unwrap()
    }

    /// A move by one of the ways there are.
    async fn go(&self, id: Id<Deal>, stage: usize, way: usize) -> Result<()> {
        let target = self.stages[stage];
        let pipeline = self.pipeline(stage);
        let change = |deal: &mut Deal| {
            deal.pipeline_id = pipeline;
            deal.stage_id = Some(target);
        };
        let deals = || self.session.deals();
        let record = deals().get(id).await.unwrap();
        let patch = json!({"stage_id": target, "pipeline_id": pipeline});
        let patch = patch.as_object().unwrap();
        match way {
            0 => deals().move_to(id, target).await.map(|_| ()),
            1 => deals().update(id, change).await.map(|_| ()),
            2 => deals().merge(id, record.version, patch).await.map(|_| ()),
            3 => deals().update_record(&record, change).await.map(|_| ()),
            4 => {
                let mut object = self.session.object("deal").await.unwrap();
                object
                    .merge(id.uuid(), record.version, patch)
                    .await
                    .map(|_| ())
            }
            5 => {
                let mut work = self.session.begin();
                work.records::<Deal>().update(id, change).await?;
                work.commit().await.map(|_| ())
            }
            6 => {
                let schema = Deal::schema();
                let index = |name| schema.field_index(name).unwrap();
                let values = [
                    (index("stage_id"), Value::Uuid(target.uuid())),
                    (index("pipeline_id"), Value::Uuid(pipeline.uuid())),
                ];
                let row: Row = record;
                let mut work = self.session.begin();
                work.change_values(&row, &values).await?;
                work.commit().await.map(|_| ())
            }
            _ => deals().move_with_note(id, target, "on").await.map(|_| ()),
        }
    }

    async fn create(&mut self, stage: Option<usize>, way: usize, filled: bool) -> Result<()> {
        let mut deal = Deal {
            stage_id: stage.map(|stage| self.stages[stage]),
            ..Deal::new("Rollout", self.pipeline(stage.unwrap_or_default()))
        };
        if filled {
            (0..FIELDS.len()).for_each(|field| set(&mut deal, field, Some(3)));
        }
        let json = serde_json::to_value(&deal).unwrap();
        let names = [
            "name",
            "pipeline_id",
            "stage_id",
            "amount",
            "next_step",
            "custom_fields",
        ];
        let body: serde_json::Map<_, _> = names
            .iter()
            .map(|&name| (name.to_owned(), json[name].clone()))
            .collect();
        let id = match way {
            0 => self.session.deals().create(deal).await?.id,
            1 => self.session.deals().create_json(&body).await?.id,
            2 => {
                let mut work = self.session.begin();
                let schema = Deal::schema();
                let values: Vec<_> = body
                    .iter()
                    .filter(|(_, value)| !value.is_null())
                    .map(|(name, value)| {
                        let value = Value::from_json(value.clone());
                        (schema.field_index(name).unwrap(), value)
                    })
                    .collect();
                let row = work.create_values(schema, &values).await?;
                work.commit().await?;
                Id::new(row.id())
            }
            _ => self.session.deals().create_all(vec![deal]).await?[0].id,
        };
        self.deals.push(id);
        Ok(())
    }

    async fn act(&mut self, op: &Op) -> Result<()> {
        let deal = |place: usize| self.deals.get(place % self.deals.len().max(1)).copied();
        let ghost = || Id::new(uuid::Uuid::nil());
        match *op {
            Op::Create { stage, way, filled } => self.create(stage, way, filled).await,
            Op::Wait(hours) => {
                self.clock.advance(TimeDelta::hours(hours) / 10);
                Ok(())
            }
            Op::Move {
                deal: place,
                stage,
                way,
            } => {
                let Some(id) = deal(place) else { return Ok(()) };
                let told = self
                    .session
                    .deals()
                    .check_move(id, self.stages[stage])
                    .await?;
                let current = self.session.deals().get(id).await?.stage_id;
                let outcome = self.go(id, stage, way).await;
                // What is told before is what comes, within a pipeline.
                let is_same = self.pipeline(stage) == self.pipeline(self.place(current.unwrap()));
                if is_same {
                    assert_eq!(told.is_empty(), outcome.is_ok(), "{told:?} {outcome:?}");
                    if let Err(error) = &outcome {
                        let expected: Vec<_> = told.iter().map(|it| it.fault()).collect();
                        assert_eq!(error.field_errors(), expected);
                    }
                }
                outcome
            }
            Op::Fill {
                deal: place,
                field,
                value,
            } => {
                let id = deal(place).unwrap_or_else(ghost);
                let change = |deal: &mut Deal| set(deal, field, value);
                self.session.deals().update(id, change).await.map(|_| ())
            }
            Op::Trick {
                deal: place,
                stage,
                via,
                field,
            } => {
                let id = deal(place).unwrap_or_else(ghost);
                let target = self.stages[stage];
                let mut work = self.session.begin();
                work.deals()
                    .update(id, |deal| set(deal, field, Some(4)))
                    .await?;
                if let Some(via) = via {
                    work.deals().move_to(id, self.stages[via]).await?;
                }
                work.deals().move_to(id, target).await?;
                // Refused or not, what is staged is committed.
                let _ = work.deals().update(id, |deal| set(deal, field, None)).await;
                work.commit().await.map(|_| ())
            }
            Op::Twice {
                deal: place,
                stages,
            } => {
                let id = deal(place).unwrap_or_else(ghost);
                let mut work = self.session.begin();
                work.deals().move_to(id, self.stages[stages.0]).await?;
                let _ = work.deals().move_to(id, self.stages[stages.1]).await;
                work.commit().await.map(|_| ())
            }
            Op::Win(place) => {
                let id = deal(place).unwrap_or_else(ghost);
                self.session.deals().win(id).await.map(|_| ())
            }
            Op::Lose(place) => {
                let id = deal(place).unwrap_or_else(ghost);
                self.session.deals().lose(id, "price").await.map(|_| ())
            }
            Op::Reopen(place) => {
                let id = deal(place).unwrap_or_else(ghost);
                self.session.deals().reopen(id, None).await.map(|_| ())
            }
            Op::Approve { deal: place, stage } => {
                let id = deal(place).unwrap_or_else(ghost);
                let stage = self.stages[stage];
                let request = self
                    .session
                    .deals()
                    .request_approval(id, stage, None)
                    .await?;
                let approved = self
                    .session
                    .stage_approvals()
                    .approve(request.id, None)
                    .await;
                approved.map(|_| ())
            }
            Op::Restore(place) => {
                let id = deal(place).unwrap_or_else(ghost);
                self.session.deals().delete(id).await?;
                self.session.deals().restore(id).await.map(|_| ())
            }
        }
    }

    /// Judges every step since the last time, and the times of all deals.
    async fn judge(&mut self) {
        for id in self.deals.clone() {
            let deal = self.session.deals().get(id).await.unwrap();
            let history = self.session.deals().history(id).await.unwrap();
            let known = self.judged.insert(id, history.len()).unwrap_or_default();
            let mut since: Option<DateTime<Utc>> = None;
            // The open stage that it was closed from.
            let mut closed_from = None;
            for (number, step) in history.iter().enumerate() {
                let from = step.from_stage_id.map(|from| self.place(from));
                let to = self.place(step.to_stage_id);
                if let Some(from) = from.filter(|from| !(WON..OTHER).contains(from)) {
                    closed_from = Some(from);
                }
                if number >= known {
                    self.judge_way(from, to, closed_from, since, step.created.at);
                }
                since = Some(step.created.at);
            }
            let last = history.last().unwrap();
            assert_eq!(deal.stage_id, Some(last.to_stage_id));
            if history.len() > known {
                self.judge_state(&deal, &history, known).await;
            }
            let times = self.session.deals().stage_times(id).await.unwrap();
            let now = crm_engine::engine::Clock::now(&*self.clock);
            assert_eq!(times.total(), now - deal.created.at);
            assert_eq!(times.stays.len(), history.len());
            let totals = times.totals();
            let entries: u32 = totals.iter().map(|total| total.entries).sum();
            assert_eq!(entries as usize, history.len());
            let sum = totals
                .iter()
                .fold(TimeDelta::zero(), |sum, it| sum + it.time);
            assert_eq!(sum, times.total());
        }
    }

    /// Whether the way was open: the order, the next stages, the time.
    fn judge_way(
        &self,
        from: Option<usize>,
        to: usize,
        closed_from: Option<usize>,
        since: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) {
        let is_open = |place: usize| !(WON..OTHER).contains(&place);
        let from_here = from.filter(|from| (*from >= OTHER) == (to >= OTHER));
        let first = if to >= OTHER { OTHER } else { 0 };
        if self.is_ordered {
            let is_right = match (from_here, to) {
                (None, to) => to == first,
                (Some(_), LOST) => true,
                (Some(from), WON) => from == WON - 1 || from == WON,
                (Some(from), to) if is_open(from) => to <= from + 1,
                (Some(_), to) => to == first || closed_from.is_some_and(|left| to <= left),
            };
            assert!(is_right, "{from:?} -> {to}, closed from {closed_from:?}");
        }
        let Some(from) = from else { return };
        let gate = &self.gates[from];
        assert!(
            gate.next.is_empty() || gate.next.contains(&to),
            "{from} -> {to}"
        );
        let goes_on =
            to != LOST && (from_here.is_none() || to > from) && !(from == LOST && to == WON);
        if goes_on {
            let least = TimeDelta::hours(i64::from(gate.hours));
            assert!(at - since.unwrap() >= least, "{from} -> {to} too early");
        }
    }

    /// Whether the deal is, in the commit that brought it into its stage, as the stage asks.
    async fn judge_state(
        &self,
        deal: &Record<Deal>,
        history: &[Arc<Record<crm_engine::deals::DealStageChange>>],
        known: usize,
    ) {
        let stage = deal.stage_id.unwrap();
        let gate = &self.gates[self.place(stage)];
        for field in &gate.required {
            assert!(
                !value(deal, *field).is_null(),
                "{} is empty",
                FIELDS[*field]
            );
        }
        if let Some(least) = gate.least_budget {
            let budget = value(deal, 2).as_i64();
            assert!(
                budget.is_some_and(|budget| budget >= least),
                "{budget:?} < {least}"
            );
        }
        if let Some(asked) = &gate.asked {
            assert_eq!(asked.holds(deal), Some(true), "{}", asked.source());
        }
        // Each entry used one approval up; that of the last is for the amount.
        let approvals = self.session.deals().approvals(deal.id).await.unwrap();
        let used = |stage| {
            let used = approvals.iter().filter(move |it| it.stage_id == stage);
            used.filter(|it| it.status == ApprovalStatus::Used)
        };
        for step in &history[known..] {
            let stage = step.to_stage_id;
            let entries = history
                .iter()
                .filter(|step| step.to_stage_id == stage)
                .count();
            if self.gates[self.place(stage)].is_approved {
                assert_eq!(used(stage).count(), entries);
            }
        }
        if gate.is_approved {
            let at = history.last().unwrap().created.at;
            assert!(used(stage).any(|it| it.used_at == Some(at) && it.amount == deal.amount));
        }
    }
}

#[test]
fn no_deal_is_where_it_was_not_let_in() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse().unwrap()));
    let crm = runtime.block_on(async {
        Crm::builder(crate::common::backend::storage(&[]))
            .clock(clock.clone())
            .build()
    });
    let number = AtomicUsize::new(0);
    let (moves, refusals) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let strategy = (
        any::<bool>(),
        prop::collection::vec(gate(), STAGES),
        prop::collection::vec(op(), 1..60),
    );
    let mut runner = TestRunner::new(Config {
        cases: crate::common::cases(48),
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |(is_ordered, gates, ops)| {
        let subdomain = format!("gates-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let mut scene = Scene::new(&crm, clock.clone(), &subdomain, is_ordered, gates).await;
            let first = Op::Create {
                stage: None,
                way: 0,
                filled: true,
            };
            for op in [&first, &first].into_iter().chain(&ops) {
                clock.advance(TimeDelta::milliseconds(1));
                let refused = scene.act(op).await.is_err();
                if matches!(op, Op::Move { .. }) && !scene.deals.is_empty() {
                    let count = if refused { &refusals } else { &moves };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                scene.judge().await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
    // Neither all doors open nor all shut.
    let counts = (moves.into_inner(), refusals.into_inner());
    assert!(counts.0 > 20 && counts.1 > 20, "{counts:?}");
}
