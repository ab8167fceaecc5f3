//! A tenant with everything of deals switched on, the steps that are taken in it, and what must agree
//! after each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::Crm;
use crm_engine::activities::ActivityType;
use crm_engine::automation::{
    Action, Actions, Assignee, AutomationExecution, AutomationRule, ExecutionOutcome, NewActivity,
    OnFailure, RuleType, TriggerEvent,
};
use crm_engine::deals::{
    ApprovalStatus, CloseOutcome, CloseReason, CloseReasonPolicy, DealCompetitor, DealContact,
    win_probability,
};
use crm_engine::engine::ManualClock;
use crm_engine::merging::{Choices, Merge};
use crm_engine::pipelines::{ApprovalPolicy, ProbabilityCalculation};
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::common::figures::{figures, told};
use crate::common::{rows_of, tenant};

/// What deals have to do next, for most of which a rule waits.
pub(crate) const STEPS: [&str; 11] = [
    "call", "swap", "back", "empty", "price", "franc", "on", "lose", "again", "rival", "must",
];
const RIVALS: [&str; 3] = ["Initech", "Umbrella", "Soylent"];
/// The places of the won and the lost stage.
const WON: usize = 4;
const LOST: usize = 5;

/// A field of a deal and its value.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Contact(Option<usize>),
    Account(Option<usize>),
    Amount(Option<i64>),
    Currency(usize),
    Next(usize),
    Competitor(Option<usize>),
}

/// One thing that is done in a unit of work; deals by their place, from the newest.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Create {
        contact: Option<usize>,
        amount: Option<i64>,
        owned: bool,
        step: usize,
    },
    Set(usize, What),
    Go(usize, usize),
    /// To the stage behind the one it is in.
    Next(usize),
    Win(usize),
    Lose(usize, bool),
    Reopen(usize),
    AddLine(usize, i64),
    DropLine(usize),
    PriceLine(usize, i64),
    AddPerson(usize, usize),
    DropPerson(usize, usize),
    Promote(usize, usize),
    Compete(usize, usize, bool),
    DropCompetitor(usize),
    Approve(usize, usize),
    Archive(usize),
    Delete(usize),
    Restore(usize),
    DeleteContact(usize),
}

/// One commit, or several.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Unit(Vec<Edit>),
    MergeContacts(usize, usize),
    MergeAccounts(usize, usize),
    MergeDeals(usize, usize),
    UndoMerge,
    RestoreContact(usize),
    DeleteStage,
}

pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) pipeline: Id<Pipeline>,
    pub(crate) stages: Vec<Id<PipelineStage>>,
    pub(crate) contacts: Vec<Id<Contact>>,
    pub(crate) accounts: Vec<Id<Account>>,
    pub(crate) admin: Id<User>,
    rules: BTreeMap<Id<AutomationRule>, &'static str>,
    deals: Vec<Id<Deal>>,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn set(fields: Json) -> Action {
    let Json::Object(fields) = fields else {
        panic!("fields are an object");
    };
    Action::SetFields { fields }
}

/// A rule for deals that have this to do next.
pub(crate) fn when(step: &str, action: Action) -> AutomationRule {
    AutomationRule {
        watched_fields: vec!["next_step".into()],
        ..AutomationRule::new(
            step,
            RuleType::FieldChange,
            TriggerEvent::FieldUpdated,
            Deal::NEXT_STEP.eq(step.to_owned()),
            Actions(vec![action]),
        )
    }
}

/// A rule for deals that enter a stage.
pub(crate) fn entering(
    name: &str,
    stage: Id<PipelineStage>,
    conditions: impl Into<Criteria>,
    action: Action,
) -> AutomationRule {
    AutomationRule {
        stage_id: Some(stage),
        ..AutomationRule::new(
            name,
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            conditions,
            Actions(vec![action]),
        )
    }
}

impl World {
    /// A tenant with people to sell to and an ungated pipeline.
    pub(crate) async fn plain(crm: &Crm, clock: Arc<ManualClock>, name: &str) -> Self {
        let (office, session) = tenant(crm, name).await;
        let mut contacts = Vec::new();
        let mut accounts = Vec::new();
        for name in ["Ada", "Grace", "Hank"] {
            let contact = Contact::named(name, "Example");
            contacts.push(session.contacts().create(contact).await.unwrap().id);
            let account = Account::new(format!("{name} Ltd"));
            accounts.push(session.accounts().create(account).await.unwrap().id);
        }
        Self {
            session,
            pipeline: office.pipeline,
            stages: office.stages,
            contacts,
            accounts,
            admin: office.admin,
            rules: BTreeMap::new(),
            deals: Vec::new(),
            clock,
        }
    }

    /// One with everything.
    pub(crate) async fn new(crm: &Crm, clock: Arc<ManualClock>, name: &str) -> Self {
        let mut world = Self::plain(crm, clock, name).await;
        let session = world.session.clone();
        let pipelines = || session.pipelines();
        pipelines()
            .update(world.pipeline, |pipeline| {
                pipeline.stage_order_enforced = true;
                pipeline.probability_calculation = ProbabilityCalculation::Manual;
            })
            .await
            .unwrap();
        let detour = PipelineStage::new(world.pipeline, "Detour", 0_u32);
        world
            .stages
            .push(pipelines().add_stage(detour).await.unwrap().id);
        let admin = world.admin;
        for (place, stage) in world.stages.iter().enumerate() {
            let gate = |stage: &mut PipelineStage| match place {
                1 => stage.required_fields = vec!["contact_id".into()],
                2 => stage.entry_criteria = Some(Criteria(Deal::AMOUNT.ge(100).into_filter())),
                3 => {
                    stage.approval = Some(ApprovalPolicy {
                        allows_own: true,
                        ..ApprovalPolicy::by_users([admin])
                    });
                }
                _ => {}
            };
            pipelines().update_stage(*stage, gate).await.unwrap();
        }
        for outcome in [CloseOutcome::Lost, CloseOutcome::Won] {
            let reason = CloseReason::new(outcome, "Price");
            session.close_reasons().create(reason).await.unwrap();
        }
        let always = CloseReasonPolicy {
            on_lost: true,
            ..CloseReasonPolicy::default()
        };
        session
            .configurations()
            .set_close_reason_policy(always)
            .await
            .unwrap();
        for (from, rate) in [(Currency::EUR, 125), (Currency::CHF, 110)] {
            let day = "2020-01-01".parse().unwrap();
            let rate = Decimal::new(rate, 2);
            let rates = session.exchange_rates();
            { rates }
                .set(from, Currency::USD, day, rate, None)
                .await
                .unwrap();
        }
        let call = NewActivity {
            owner: Assignee::DealOwner,
            ..NewActivity::new(ActivityType::Call, "Call")
        };
        let stages = world.stages.clone();
        let to = |stage: usize| Action::MoveToStage {
            stage_id: stages[stage],
        };
        let moves = |step: &str, stage: usize| AutomationRule {
            pipeline_id: Some(world.pipeline),
            ..when(step, to(stage))
        };
        let rules = vec![
            (
                "swap",
                when("swap", set(json!({"contact_id": world.contacts[1]}))),
            ),
            (
                "back",
                when("back", set(json!({"contact_id": world.contacts[0]}))),
            ),
            ("empty", when("empty", set(json!({"contact_id": null})))),
            ("price", when("price", set(json!({"amount": "777"})))),
            ("franc", when("franc", set(json!({"currency": "CHF"})))),
            (
                "rival",
                when("rival", set(json!({"competitor": "Umbrella"}))),
            ),
            ("on", moves("on", 1)),
            ("lose", moves("lose", LOST)),
            (
                "must",
                AutomationRule {
                    on_failure: OnFailure::Refuse,
                    ..when("must", set(json!({"amount": "5"})))
                },
            ),
            (
                "reopen",
                entering(
                    "reopen",
                    stages[WON],
                    Deal::NEXT_STEP.eq("again".to_owned()),
                    to(0),
                ),
            ),
            (
                "blank",
                entering(
                    "blank",
                    stages[1],
                    Deal::NEXT_STEP.eq("empty".to_owned()),
                    set(json!({"contact_id": null})),
                ),
            ),
            (
                "known rival",
                entering(
                    "known rival",
                    stages[1],
                    Filter::all(),
                    set(json!({"competitor": "initech"})),
                ),
            ),
            (
                "greet",
                AutomationRule::new(
                    "greet",
                    RuleType::StageEntry,
                    TriggerEvent::DealCreated,
                    Filter::all(),
                    Actions(vec![Action::CreateActivity(call)]),
                ),
            ),
        ];
        for (name, rule) in rules {
            let rule = session.automation_rules().create(rule).await.unwrap();
            world.rules.insert(rule.id, name);
        }
        for amount in [50, 500] {
            let deal = Deal {
                contact_id: Some(world.contacts[0]),
                account_id: Some(world.accounts[0]),
                owner_id: Some(admin),
                amount: Some(amount.into()),
                currency: Currency::EUR,
                ..Deal::new("Rollout", world.pipeline)
            };
            let deal = session.deals().create(deal).await.unwrap();
            world.deals.push(deal.id);
        }
        world
    }

    /// The live deal at a place, from the newest.
    fn deal(&self, place: usize) -> Result<Id<Deal>> {
        let deal = self.deals.iter().rev().nth(place).copied();
        deal.ok_or(Error::NotFound {
            object: "deal".into(),
            id: Uuid::nil(),
        })
    }

    async fn person(
        work: &mut UnitOfWork,
        deal: Id<Deal>,
        contact: Id<Contact>,
    ) -> Result<Id<DealContact>> {
        let people = work.deals().contacts_of(deal).await?;
        let link = people.iter().find(|one| one.contact.id == contact);
        link.map(|one| one.link.id).ok_or(Error::NotFound {
            object: "deal_contact".into(),
            id: Uuid::nil(),
        })
    }

    async fn edit(&mut self, work: &mut UnitOfWork, edit: &Edit) -> Result<()> {
        match *edit {
            Edit::Create {
                contact,
                amount,
                owned,
                step,
            } => {
                let deal = Deal {
                    contact_id: contact.map(|place| self.contacts[place]),
                    account_id: Some(self.accounts[0]),
                    amount: amount.map(Into::into),
                    owner_id: owned.then_some(self.admin),
                    next_step: Some(STEPS[step].into()),
                    currency: Currency::EUR,
                    ..Deal::new("Rollout", self.pipeline)
                };
                let deal = work.deals().create(deal).await?;
                self.deals.push(deal.id);
            }
            Edit::Set(deal, ref what) => {
                let id = self.deal(deal)?;
                let (contacts, accounts) = (&self.contacts, &self.accounts);
                let change = |deal: &mut Deal| match *what {
                    What::Contact(place) => deal.contact_id = place.map(|place| contacts[place]),
                    What::Account(place) => deal.account_id = place.map(|place| accounts[place]),
                    What::Amount(amount) => deal.amount = amount.map(Into::into),
                    What::Currency(place) => {
                        deal.currency = [Currency::EUR, Currency::USD][place];
                    }
                    What::Next(step) => deal.next_step = Some(STEPS[step].into()),
                    What::Competitor(place) => {
                        deal.competitor = place.map(|place| RIVALS[place].into());
                    }
                };
                work.deals().update(id, change).await?;
            }
            Edit::Go(deal, stage) => {
                let (id, stage) = (self.deal(deal)?, self.stages[stage]);
                work.deals()
                    .move_with_note(id, stage, "amount follows the lines")
                    .await?;
            }
            Edit::Next(deal) => {
                let id = self.deal(deal)?;
                let now = work.deals().get(id).await?.stage_id;
                let place = self.stages.iter().position(|stage| Some(*stage) == now);
                let next = self.stages[(place.unwrap_or_default() + 1).min(WON)];
                work.deals().move_to(id, next).await?;
            }
            Edit::Win(deal) => drop(work.deals().win(self.deal(deal)?).await?),
            Edit::Lose(deal, with_reason) => {
                let reason = if with_reason { "price" } else { "luck" };
                work.deals().lose(self.deal(deal)?, reason).await?;
            }
            Edit::Reopen(deal) => drop(work.deals().reopen(self.deal(deal)?, None).await?),
            Edit::AddLine(deal, price) => {
                let line = DealLine {
                    product_name: Some("Work".into()),
                    unit_price: Some(price.into()),
                    quantity: 2.into(),
                    ..DealLine::new(self.deal(deal)?)
                };
                work.deals().add_line(line).await?;
            }
            Edit::DropLine(deal) => {
                let lines = work.deals().lines(self.deal(deal)?).await?;
                if let Some(line) = lines.first() {
                    work.deals().remove_line(line.id).await?;
                }
            }
            Edit::PriceLine(deal, price) => {
                let lines = work.deals().lines(self.deal(deal)?).await?;
                if let Some(line) = lines.last() {
                    let set = |line: &mut DealLine| line.unit_price = Some(price.into());
                    work.deals().update_line(line.id, set).await?;
                }
            }
            Edit::AddPerson(deal, who) => {
                let (id, who) = (self.deal(deal)?, self.contacts[who]);
                work.deals().add_contact(id, who, None).await?;
            }
            Edit::DropPerson(deal, who) => {
                let (id, who) = (self.deal(deal)?, self.contacts[who]);
                work.deals().remove_contact(id, who).await?;
            }
            Edit::Promote(deal, who) => {
                let link = Self::person(work, self.deal(deal)?, self.contacts[who]).await?;
                let promote = |link: &mut DealContact| link.is_primary = true;
                work.records::<DealContact>().update(link, promote).await?;
            }
            Edit::Compete(deal, name, is_main) => {
                let competitor = DealCompetitor {
                    is_main,
                    ..DealCompetitor::new(self.deal(deal)?, RIVALS[name])
                };
                // Twice the same would only be refused.
                let known = work.deals().competitors_of(competitor.deal_id).await?;
                if known
                    .iter()
                    .all(|one| !one.name.eq_ignore_ascii_case(&competitor.name))
                {
                    work.deals().add_competitor(competitor).await?;
                }
            }
            Edit::DropCompetitor(deal) => {
                let competitors = work.deals().competitors_of(self.deal(deal)?).await?;
                if let Some(one) = competitors.first() {
                    work.deals().remove_competitor(one.id).await?;
                }
            }
            Edit::Approve(deal, stage) => {
                let (id, stage) = (self.deal(deal)?, self.stages[stage]);
                let asked = work.deals().request_approval(id, stage, None).await?;
                work.stage_approvals().approve(asked.id, None).await?;
            }
            Edit::Archive(deal) => drop(work.deals().archive(self.deal(deal)?).await?),
            Edit::Delete(deal) => work.deals().delete(self.deal(deal)?).await?,
            Edit::Restore(deal) => drop(work.deals().restore(self.deal(deal)?).await?),
            Edit::DeleteContact(who) => work.contacts().delete(self.contacts[who]).await?,
        }
        Ok(())
    }

    async fn run(&mut self, op: &Op) -> Result<()> {
        let session = self.session.clone();
        let none = Choices::new();
        match *op {
            Op::Unit(ref edits) => {
                let mut work = session.begin();
                let before = self.deals.clone();
                for edit in edits {
                    let place = work.savepoint();
                    // What one edit is refused, the others do without.
                    match self.edit(&mut work, edit).await {
                        Ok(()) => work.release(place),
                        Err(Error::Storage(error)) => panic!("{error}"),
                        Err(_) => work.roll_back(place),
                    }
                }
                let committed = work.commit().await;
                if committed.is_err() {
                    self.deals = before;
                }
                committed.map(|_| ())
            }
            Op::MergeContacts(one, other) => {
                let (one, other) = (self.contacts[one % 3], self.contacts[other % 3]);
                session
                    .contacts()
                    .merge_into(one, &[other], &none, None)
                    .await?;
                // There is somebody to sell to again.
                let next = session
                    .contacts()
                    .create(Contact::named("Next", "Example"))
                    .await?;
                self.contacts
                    .iter_mut()
                    .filter(|id| **id == other)
                    .for_each(|id| *id = next.id);
                Ok(())
            }
            Op::MergeAccounts(one, other) => {
                let (one, other) = (self.accounts[one % 3], self.accounts[other % 3]);
                session
                    .accounts()
                    .merge_into(one, &[other], &none, None)
                    .await
                    .map(|_| ())
            }
            Op::MergeDeals(one, other) => {
                let (one, other) = (self.deal(one)?, self.deal(other)?);
                session
                    .deals()
                    .merge_into(one, &[other], &none, None)
                    .await
                    .map(|_| ())
            }
            Op::UndoMerge => {
                let merges = session
                    .records::<Merge>()
                    .find(Find::new().limit(100))
                    .await?;
                match merges.items.last() {
                    Some(last) => session.records::<Merge>().undo(last.id).await.map(|_| ()),
                    None => Ok(()),
                }
            }
            Op::RestoreContact(who) => {
                let who = self.contacts[who % 3];
                session.contacts().restore(who).await.map(|_| ())
            }
            Op::DeleteStage => {
                let detour = self.stages[6];
                let target = Some(self.stages[1]);
                session.pipelines().delete_stage(detour, target).await?;
                let detour = PipelineStage::new(self.pipeline, "Detour", 0_u32);
                self.stages[6] = session.pipelines().add_stage(detour).await?.id;
                Ok(())
            }
        }
    }

    /// Takes a step an hour later and looks at everything; true if something was written.
    pub(crate) async fn step(&mut self, op: &Op) -> Result<bool, TestCaseError> {
        self.clock.advance(TimeDelta::hours(1));
        let before = self.everything().await;
        let done = self.run(op).await;
        let after = self.everything().await;
        if let Err(error) = &done {
            prop_assert!(
                !matches!(error, Error::Storage(_) | Error::Conflict { .. }),
                "{}",
                error
            );
            if matches!(op, Op::Unit(_)) {
                prop_assert!(before == after, "a refused commit left something: {error}");
            }
        }
        let is_written = before != after;
        if is_written {
            self.agrees().await?;
        }
        Ok(is_written)
    }

    async fn everything(&self) -> Vec<Vec<Map<String, Json>>> {
        let mut all = Vec::new();
        for name in [
            "deal",
            "deal_line",
            "deal_contact",
            "deal_competitor",
            "deal_stage_change",
            "deal_state",
            "stage_approval",
            "automation_execution",
            "activity",
            "contact",
            "account",
            "pipeline_stage",
            "audit_event",
        ] {
            let rows = rows_of(&self.session, name).await;
            all.push(rows.iter().map(|row| row.to_json()).collect());
        }
        all
    }

    async fn all<E: Entity>(&self) -> Vec<Arc<Record<E>>> {
        let rows = rows_of(&self.session, E::schema().name()).await;
        rows.into_iter().filter_map(Record::from_row).collect()
    }

    /// Everything that must agree.
    pub(crate) async fn agrees(&self) -> Result<(), TestCaseError> {
        let live = |deal: &Arc<Record<Deal>>| deal.deleted_at.is_none();
        let deals: Vec<_> = self.all::<Deal>().await.into_iter().filter(live).collect();
        let stages = self.all::<PipelineStage>().await;
        let pipeline = self.session.pipelines().get(self.pipeline).await.unwrap();
        let stages: BTreeMap<_, _> = stages
            .into_iter()
            .filter(|stage| stage.deleted_at.is_none())
            .map(|stage| (stage.id, stage))
            .collect();
        for deal in &deals {
            let stage = stages.get(&deal.stage_id.unwrap());
            prop_assert!(stage.is_some(), "the stage of a deal is gone");
            self.is_as_its_stage_says(deal, stage.unwrap(), pipeline.probability_calculation)?;
        }
        self.belongings_agree(&deals).await?;
        self.history_agrees(&deals, &stages).await?;
        self.figures_agree(&deals).await?;
        self.log_agrees(&deals).await
    }

    fn is_as_its_stage_says(
        &self,
        deal: &Record<Deal>,
        stage: &Record<PipelineStage>,
        mode: ProbabilityCalculation,
    ) -> Result<(), TestCaseError> {
        let status = match stage.stage_type {
            StageType::Open => DealStatus::Open,
            StageType::ClosedWon => DealStatus::Won,
            StageType::ClosedLost => DealStatus::Lost,
        };
        prop_assert_eq!(deal.status, status);
        prop_assert_eq!(deal.actual_close_date.is_some(), stage.is_closed());
        prop_assert_eq!(
            deal.win_probability,
            win_probability(mode, stage, deal.probability)
        );
        let category = ForecastCategory::of_stage(stage.stage_type, stage.forecast_category);
        let category = ForecastCategory::counting(status, deal.forecast_category, category);
        prop_assert_eq!(deal.counting_category, category);
        // what it was worth on the day on which it closed.
        let rate = match deal.currency {
            Currency::EUR => Decimal::new(125, 2),
            Currency::CHF => Decimal::new(110, 2),
            _ => Decimal::ONE,
        };
        let worth = deal.amount.map(|amount| (amount * rate).round_dp(2));
        let locked = (deal.locked_currency, deal.locked_rate, deal.locked_amount);
        let expected = if stage.is_closed() {
            (Some(Currency::USD), Some(rate), worth)
        } else {
            (None, None, None)
        };
        prop_assert_eq!(locked, expected);
        Ok(())
    }

    /// R-040, and one main contact and competitor exactly if the deal names one.
    async fn belongings_agree(&self, deals: &[Arc<Record<Deal>>]) -> Result<(), TestCaseError> {
        let lines = self.all::<DealLine>().await;
        let people = self.all::<DealContact>().await;
        let rivals = self.all::<DealCompetitor>().await;
        for deal in deals {
            let own = lines
                .iter()
                .filter(|line| line.deal_id == deal.id && line.deleted_at.is_none());
            let own: Vec<_> = own.collect();
            let sum: Decimal = own.iter().map(|line| line.line_total).sum();
            if sum > Decimal::ZERO {
                let off = (deal.amount.unwrap_or_default() - sum).abs();
                prop_assert!(
                    off <= Decimal::new(1, 2),
                    "{:?} beside lines of {sum}",
                    deal.amount
                );
            }
            prop_assert!(own.iter().all(|line| line.currency == deal.currency));
            prop_assert!(own.iter().all(|line| line.position > 0));
            let primary: Vec<_> = people
                .iter()
                .filter(|one| one.deal_id == deal.id && one.deleted_at.is_none())
                .filter(|one| one.is_primary)
                .map(|one| one.contact_id)
                .collect();
            let named: Vec<_> = deal.contact_id.into_iter().collect();
            prop_assert_eq!(primary, named);
            let own = || {
                let own = rivals.iter().filter(|one| one.deal_id == deal.id);
                own.filter(|one| one.deleted_at.is_none())
            };
            let main: Vec<_> = own()
                .filter(|one| one.is_main)
                .map(|one| one.name.to_lowercase())
                .collect();
            let named: Vec<_> = deal
                .competitor
                .iter()
                .map(|name| name.to_lowercase())
                .collect();
            prop_assert_eq!(main, named);
            let outcome = match deal.status {
                DealStatus::Open => None,
                DealStatus::Won => Some(true),
                DealStatus::Lost => Some(false),
            };
            prop_assert!(
                own().all(|one| one.won_against == outcome),
                "competitors of {}",
                deal.id
            );
        }
        Ok(())
    }

    /// the last step of the history is where a deal is, what it met there, and what its
    /// state tells.
    async fn history_agrees(
        &self,
        deals: &[Arc<Record<Deal>>],
        stages: &BTreeMap<Id<PipelineStage>, Arc<Record<PipelineStage>>>,
    ) -> Result<(), TestCaseError> {
        let steps = self.all::<DealStageChange>().await;
        let states = self.all::<DealState>().await;
        let approvals = self.all::<StageApproval>().await;
        let now = self.session.engine().clock().now();
        for deal in deals {
            let own: Vec<_> = steps
                .iter()
                .filter(|step| step.deal_id == deal.id)
                .collect();
            let last = own.last().unwrap();
            let open: Vec<_> = states
                .iter()
                .filter(|state| state.deal_id == deal.id && state.valid_until.is_none())
                .collect();
            prop_assert_eq!(open.len(), 1);
            let state = open[0];
            prop_assert_eq!(
                (
                    Some(state.stage_id),
                    state.status,
                    state.amount,
                    state.currency
                ),
                (deal.stage_id, deal.status, deal.amount, deal.currency)
            );
            prop_assert_eq!(
                (
                    state.win_probability,
                    state.counting_category,
                    state.account_id
                ),
                (
                    deal.win_probability,
                    deal.counting_category,
                    deal.account_id
                )
            );
            prop_assert_eq!(state.is_counted, deal.archived_at.is_none());
            let is_upkeep = last.note.as_deref() == Some("its stage was deleted");
            if deal.stage_entered_at != Some(now) || last.created.at != now || is_upkeep {
                continue;
            }
            prop_assert_eq!(Some(last.to_stage_id), deal.stage_id);
            let stage = &stages[&deal.stage_id.unwrap()];
            if !stage.required_fields.is_empty() {
                prop_assert!(deal.contact_id.is_some(), "it entered without a contact");
            }
            if stage.entry_criteria.is_some() {
                let amount = deal.amount.unwrap_or_default();
                prop_assert!(amount >= Decimal::ONE_HUNDRED, "it entered with {amount}");
            }
            if stage.approval.is_some() {
                let approved = approvals.iter().any(|one| {
                    one.deal_id == deal.id
                        && one.stage_id == stage.id
                        && one.status == ApprovalStatus::Used
                        && one.used_at == Some(now)
                        && one.is_for(deal)
                });
                prop_assert!(approved, "it entered without an approval for its amount");
            }
            if stage.stage_type == StageType::ClosedLost {
                prop_assert_eq!(deal.close_reason.as_deref(), Some("Price"));
            }
        }
        Ok(())
    }

    ///
    async fn figures_agree(&self, deals: &[Arc<Record<Deal>>]) -> Result<(), TestCaseError> {
        for contact in self.all::<Contact>().await {
            let own = deals.iter();
            let own = own.filter(|deal| deal.contact_id == Some(contact.id));
            prop_assert_eq!(told(&contact.deal_stats), told(&figures(own)));
        }
        for account in self.all::<Account>().await {
            let own = deals.iter();
            let own = own.filter(|deal| deal.account_id == Some(account.id));
            prop_assert_eq!(told(&account.deal_stats), told(&figures(own)));
        }
        Ok(())
    }

    /// counts are those of the log, no rule ran twice for a deal in one commit, and what was
    /// done last is so.
    async fn log_agrees(&self, deals: &[Arc<Record<Deal>>]) -> Result<(), TestCaseError> {
        let log = self.all::<AutomationExecution>().await;
        let ids: Vec<_> = self.rules.keys().copied().collect();
        let counts = self.session.automation().counts(&ids).await.unwrap();
        for (rule, counts) in counts {
            let rows = |outcome| {
                let own = log.iter().filter(|row| row.rule_id == rule);
                own.filter(|row| row.outcome == outcome).count() as u64
            };
            prop_assert_eq!(counts.executed, rows(ExecutionOutcome::Executed));
            prop_assert_eq!(counts.failed, rows(ExecutionOutcome::Failed));
        }
        let runs: BTreeSet<_> = log
            .iter()
            .map(|row| (row.rule_id, row.deal_id, row.commit_id))
            .collect();
        prop_assert_eq!(runs.len(), log.len());
        let now = self.session.engine().clock().now();
        let done = log.iter().filter(|row| row.created.at == now);
        for row in done.filter(|row| row.outcome == ExecutionOutcome::Executed) {
            let Some(deal) = deals.iter().find(|deal| deal.id == row.deal_id) else {
                continue;
            };
            let rule = self
                .session
                .automation_rules()
                .get(row.rule_id)
                .await
                .unwrap();
            for action in &rule.actions.0 {
                let Action::SetFields { fields } = action else {
                    continue;
                };
                if let Some(contact) = fields.get("contact_id") {
                    prop_assert_eq!(&json!(deal.contact_id), contact, "{}", self.rules[&rule.id]);
                }
                if let Some(currency) = fields.get("currency") {
                    prop_assert_eq!(&json!(deal.currency), currency);
                }
            }
        }
        Ok(())
    }
}
