//! Single cases in which the parts of a deal meet in one commit.

use std::sync::Arc;

use crm_engine::Crm;
use crm_engine::automation::{
    Action, Actions, Assignee, AutomationExecution, AutomationRule, ExecutionOutcome, OnFailure,
    RuleType, TimeBasis, TriggerEvent,
};
use crm_engine::deals::{DealCompetitor, DealContact};
use crm_engine::engine::ManualClock;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use serde_json::json;

use super::world::{Edit, Op, What, World, entering, set, when};
use crate::common::{backend, rows_of};

fn office() -> (Crm, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new("2026-03-02T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    (crm, clock)
}

async fn world() -> World {
    let (crm, clock) = office();
    World::plain(&crm, clock, "acme").await
}

/// Takes these steps in a tenant with everything, of which the last has something to write, and looks
/// at everything after each.
async fn all_agrees_after(steps: &[Op]) {
    let (crm, clock) = office();
    let mut world = World::new(&crm, clock, "acme").await;
    let mut written = false;
    for step in steps {
        written = world.step(step).await.unwrap();
    }
    assert!(written, "{:?} wrote nothing", steps.last());
}

impl World {
    fn new_deal(&self) -> Deal {
        Deal {
            owner_id: Some(self.admin),
            contact_id: Some(self.contacts[0]),
            ..Deal::new("Rollout", self.pipeline)
        }
    }

    async fn created(&self, deal: Deal) -> Id<Deal> {
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn got(&self, deal: Id<Deal>) -> Arc<Record<Deal>> {
        self.session.deals().get(deal).await.unwrap()
    }

    async fn ruled(&self, rule: AutomationRule) {
        self.session.automation_rules().create(rule).await.unwrap();
    }

    async fn gated(&self, place: usize, gate: impl Fn(&mut PipelineStage) + Send + Sync) {
        let stage = self.stages[place];
        self.session
            .pipelines()
            .update_stage(stage, gate)
            .await
            .unwrap();
    }

    async fn log(&self) -> Vec<Arc<Record<AutomationExecution>>> {
        let rows = rows_of(&self.session, "automation_execution").await;
        rows.into_iter().filter_map(Record::from_row).collect()
    }
}

fn line(deal: Id<Deal>, price: i64) -> DealLine {
    DealLine {
        product_name: Some("Work".into()),
        unit_price: Some(price.into()),
        ..DealLine::new(deal)
    }
}

/// an amount that lets a deal in is still there when its lines have been summed.
#[tokio::test]
async fn lines_do_not_take_away_what_let_a_deal_in() {
    let w = world().await;
    let large = || Some(Criteria(Deal::AMOUNT.ge(1_000).into_filter()));
    w.gated(1, |stage| stage.entry_criteria = large()).await;
    let deal = w.created(w.new_deal()).await;
    let mut work = w.session.begin();
    work.deals()
        .update(deal, |deal| deal.amount = Some(5_000.into()))
        .await
        .unwrap();
    work.deals().move_to(deal, w.stages[1]).await.unwrap();
    work.deals().add_line(line(deal, 10)).await.unwrap();
    let error = work.commit().await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "stage_criteria");
    let stored = w.got(deal).await;
    assert_eq!((stored.stage_id, stored.amount), (Some(w.stages[0]), None));
    assert!(rows_of(&w.session, "deal_line").await.is_empty());
    // Lines that come to enough let it in; later they may change.
    let mut work = w.session.begin();
    work.deals()
        .update(deal, |deal| deal.amount = Some(5_000.into()))
        .await
        .unwrap();
    work.deals().move_to(deal, w.stages[1]).await.unwrap();
    let line = work.deals().add_line(line(deal, 2_000)).await.unwrap();
    work.commit().await.unwrap();
    let cheaper = |line: &mut DealLine| line.unit_price = Some(10.into());
    w.session
        .deals()
        .update_line(line.id, cheaper)
        .await
        .unwrap();
    assert_eq!(w.got(deal).await.amount, Some(10.into()));
}

/// nor do the people of a deal, or a rule that the entry sets off.
#[tokio::test]
async fn people_and_rules_do_not_take_away_what_let_a_deal_in() {
    let w = world().await;
    w.gated(1, |stage| stage.required_fields = vec!["contact_id".into()])
        .await;
    let deal = w.created(w.new_deal()).await;
    let mut work = w.session.begin();
    work.deals().move_to(deal, w.stages[1]).await.unwrap();
    work.deals()
        .remove_contact(deal, w.contacts[0])
        .await
        .unwrap();
    let error = work.commit().await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "contact_id");
    assert_eq!(w.got(deal).await.stage_id, Some(w.stages[0]));
    let empty = set(json!({"contact_id": null}));
    w.ruled(entering("empty", w.stages[1], Filter::all(), empty))
        .await;
    let moved = w.session.deals().move_to(deal, w.stages[1]).await.unwrap();
    assert_eq!(moved.contact_id, Some(w.contacts[0]));
    assert_eq!(w.log().await[0].outcome, ExecutionOutcome::Failed);
}

/// upkeep brings deals into stages whose gates they do not meet, where they go on as they are.
#[tokio::test]
async fn deals_that_upkeep_moved_may_change_in_the_same_commit() {
    let w = world().await;
    w.gated(1, |stage| {
        stage.required_fields = vec!["next_step".into(), "contact_id".into()];
    })
    .await;
    let extra = PipelineStage::new(w.pipeline, "Extra", 0_u32);
    let extra = w.session.pipelines().add_stage(extra).await.unwrap().id;
    let deal = w
        .created(Deal {
            stage_id: Some(extra),
            ..w.new_deal()
        })
        .await;
    let tag = Action::AddTags {
        tags: vec!["moved".into()],
    };
    w.ruled(entering("tag", w.stages[1], Filter::all(), tag))
        .await;
    let mut work = w.session.begin();
    work.pipelines()
        .delete_stage(extra, Some(w.stages[1]))
        .await
        .unwrap();
    work.deals()
        .update(deal, |deal| deal.name = "Moved".into())
        .await
        .unwrap();
    // What it has it keeps.
    let emptied = work
        .deals()
        .update(deal, |deal| deal.contact_id = None)
        .await;
    assert_eq!(emptied.unwrap_err().field_errors()[0].path, "contact_id");
    work.commit().await.unwrap();
    let moved = w.got(deal).await;
    assert_eq!((moved.stage_id, moved.tags.len()), (Some(w.stages[1]), 1));
}

/// a rule that gives a deal the contact back that it had has the last word.
#[tokio::test]
async fn a_rule_may_give_a_deal_its_former_contact_back() {
    let w = world().await;
    let back = set(json!({"contact_id": w.contacts[0], "competitor": "Initech"}));
    w.ruled(when("back", back)).await;
    let deal = w
        .created(Deal {
            competitor: Some("Initech".into()),
            ..w.new_deal()
        })
        .await;
    let change = |deal: &mut Deal| {
        deal.contact_id = Some(w.contacts[1]);
        deal.competitor = Some("Umbrella".into());
        deal.next_step = Some("back".into());
    };
    let changed = w.session.deals().update(deal, change).await.unwrap();
    assert_eq!(w.log().await[0].outcome, ExecutionOutcome::Executed);
    assert_eq!(changed.contact_id, Some(w.contacts[0]));
    assert_eq!(changed.competitor.as_deref(), Some("Initech"));
    let primary: Vec<_> = w.session.deals().contacts_of(deal).await.unwrap();
    let primary: Vec<_> = primary
        .iter()
        .map(|one| (one.contact.id, one.link.is_primary))
        .collect();
    assert_eq!(primary, [(w.contacts[0], true), (w.contacts[1], false)]);
    // The same where a record of its people was changed, not the deal.
    let link = w.session.deals().contacts_of(deal).await.unwrap()[1]
        .link
        .id;
    let mut work = w.session.begin();
    let promote = |link: &mut DealContact| link.is_primary = true;
    work.records::<DealContact>()
        .update(link, promote)
        .await
        .unwrap();
    work.deals()
        .update(deal, |deal| deal.next_step = Some("call".into()))
        .await
        .unwrap();
    work.commit().await.unwrap();
    assert_eq!(w.got(deal).await.contact_id, Some(w.contacts[1]));
}

/// competitors know how their deal ended, also of a deal that is new in the commit, and of one
/// that a rule reopens in it.
#[tokio::test]
async fn competitors_know_how_the_deal_ended_whoever_ended_it() {
    let w = world().await;
    let outcomes = async |deal: Id<Deal>| -> Vec<Option<bool>> {
        let all = w.session.deals().competitors_of(deal).await.unwrap();
        all.iter().map(|one| one.won_against).collect()
    };
    let mut work = w.session.begin();
    let new = work.deals().create(w.new_deal()).await.unwrap().id;
    let rival = DealCompetitor::new(new, "Initech");
    work.deals().add_competitor(rival).await.unwrap();
    work.deals().win(new).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(outcomes(new).await, [Some(true)]);
    let back = Action::MoveToStage {
        stage_id: w.stages[0],
    };
    w.ruled(entering("reopen", w.stages[4], Filter::all(), back))
        .await;
    let deal = w
        .created(Deal {
            competitor: Some("Initech".into()),
            ..w.new_deal()
        })
        .await;
    w.session.deals().win(deal).await.unwrap();
    assert_eq!(w.got(deal).await.status, DealStatus::Open);
    assert_eq!(outcomes(deal).await, [None]);
    // Whoever comes while the deal is open for a moment.
    let lost = w.created(w.new_deal()).await;
    w.session.deals().lose(lost, "Price").await.unwrap();
    let mut work = w.session.begin();
    work.deals().reopen(lost, None).await.unwrap();
    let rival = DealCompetitor::new(lost, "Initech");
    work.deals().add_competitor(rival).await.unwrap();
    work.deals().lose(lost, "Price").await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(outcomes(lost).await, [Some(false)]);
}

/// C-022: one deal for which what time brings is refused does not keep the others from it.
#[tokio::test]
async fn a_refused_deal_does_not_stop_the_rules_of_time() {
    let w = world().await;
    let tag = |tag: &str| {
        vec![Action::AddTags {
            tags: vec![tag.into()],
        }]
    };
    let aged = AutomationRule {
        time_basis: Some(TimeBasis::AfterCreation),
        after_days: Some(3),
        ..AutomationRule::new(
            "aged",
            RuleType::TimeBased,
            TriggerEvent::TimeElapsed,
            Filter::all(),
            Actions(tag("aged")),
        )
    };
    w.ruled(aged).await;
    // Another rule that a tag of one of the deals sets off, and which insists.
    let strict = AutomationRule {
        watched_fields: vec!["tags".into()],
        on_failure: OnFailure::Refuse,
        ..AutomationRule::new(
            "strict",
            RuleType::FieldChange,
            TriggerEvent::FieldUpdated,
            Deal::NAME.eq("Odd".to_owned()),
            Actions(vec![Action::AssignOwner {
                to: Assignee::AccountOwner,
            }]),
        )
    };
    w.ruled(strict).await;
    let mut deals = Vec::new();
    for name in ["One", "Odd", "Two"] {
        let deal = Deal {
            name: name.into(),
            ..w.new_deal()
        };
        deals.push(w.created(deal).await);
    }
    w.clock.advance(chrono::TimeDelta::days(4));
    let run = w.session.automation().run_time_based(&()).await.unwrap();
    assert_eq!((run.due, run.executed, run.failed), (3, 2, 1));
    for (deal, count) in deals.iter().zip([1, 0, 1]) {
        assert_eq!(w.got(*deal).await.tags.len(), count);
    }
    let refused = w.log().await;
    let refused = refused
        .iter()
        .find(|row| row.outcome == ExecutionOutcome::Failed);
    assert_eq!(refused.unwrap().deal_id, deals[1]);
    // It was its occasion.
    let again = w.session.automation().run_time_based(&()).await.unwrap();
    assert_eq!((again.executed, again.failed), (0, 0));
}

/// who names a competitor twice is told so, also where it is to be the main one.
#[tokio::test]
async fn a_main_competitor_that_is_there_already_is_a_duplicate() {
    let w = world().await;
    let deal = w.created(w.new_deal()).await;
    let rival = |name: &str, is_main| DealCompetitor {
        is_main,
        ..DealCompetitor::new(deal, name)
    };
    w.session
        .deals()
        .add_competitor(rival("Initech", false))
        .await
        .unwrap();
    let twice = w
        .session
        .deals()
        .add_competitor(rival("INITECH", true))
        .await;
    assert_eq!(twice.unwrap_err().code(), "duplicate");
}

/// rules may set neither the amount nor the currency of a deal against its lines, those
/// of the very commit included; what is said about a move lets nothing through either.
#[tokio::test]
async fn nothing_sets_an_amount_against_the_lines() {
    let w = world().await;
    w.ruled(when("price", set(json!({"amount": "777"})))).await;
    w.ruled(when("franc", set(json!({"currency": "CHF"}))))
        .await;
    let deal = w.created(w.new_deal()).await;
    for (step, field) in [("price", "amount"), ("franc", "currency")] {
        let mut work = w.session.begin();
        work.deals().add_line(line(deal, 10)).await.unwrap();
        work.deals()
            .update(deal, |deal| deal.next_step = Some(step.into()))
            .await
            .unwrap();
        work.commit().await.unwrap();
        let last = w.log().await.pop().unwrap();
        assert_eq!(last.outcome, ExecutionOutcome::Failed, "{field}");
        assert_eq!(last.error_code.as_deref(), Some("validation"));
    }
    let stored = w.got(deal).await;
    assert_eq!(
        (stored.amount, stored.currency),
        (Some(20.into()), w.new_deal().currency)
    );
    let mut work = w.session.begin();
    let here = stored.stage_id.unwrap();
    work.deals()
        .move_with_note(deal, here, "amount follows the lines")
        .await
        .unwrap();
    let other = work
        .deals()
        .update(deal, |deal| deal.amount = Some(1.into()))
        .await;
    assert_eq!(other.unwrap_err().field_errors()[0].path, "amount");
}

/// the survivor moved on since, so the probability that it is given back counts in the
/// stage in which it is now.
#[tokio::test]
async fn an_undone_merge_gives_the_probability_of_the_stage_in_which_the_deal_is() {
    let new = || Edit::Create {
        contact: None,
        amount: None,
        owned: false,
        step: 0,
    };
    all_agrees_after(&[
        Op::Unit(vec![new(), Edit::Lose(2, true)]),
        Op::Unit(vec![new()]),
        Op::MergeDeals(2, 3),
        Op::Unit(vec![Edit::Next(2)]),
        Op::UndoMerge,
    ])
    .await;
}

/// competitors that go back to a lost deal were not won against.
#[tokio::test]
async fn an_undone_merge_gives_competitors_the_outcome_of_their_deal() {
    all_agrees_after(&[
        Op::Unit(vec![Edit::Next(0)]),
        Op::Unit(vec![Edit::Lose(0, true)]),
        Op::MergeDeals(1, 0),
        Op::UndoMerge,
    ])
    .await;
}

/// the survivor closed since, so its rate is kept with the amount that it is given back.
#[tokio::test]
async fn an_undone_merge_values_a_closed_deal_by_the_amount_that_it_has_again() {
    all_agrees_after(&[
        Op::Unit(vec![Edit::Set(0, What::Amount(None))]),
        Op::MergeDeals(0, 1),
        Op::Unit(vec![Edit::Lose(0, true)]),
        Op::UndoMerge,
    ])
    .await;
}

/// what the stage of the loser made of the survivor does not go back while the
/// survivor is in a stage that makes the same of it.
#[tokio::test]
async fn an_undone_merge_leaves_a_deal_closed_that_closed_again_since() {
    let w = world().await;
    let given_up = PipelineStage {
        stage_type: StageType::ClosedLost,
        ..PipelineStage::new(w.pipeline, "Given up", 0_u32)
    };
    let given_up = w.session.pipelines().add_stage(given_up).await.unwrap().id;
    let survivor = w.created(w.new_deal()).await;
    let loser = w.created(w.new_deal()).await;
    w.session.deals().lose(loser, "Price").await.unwrap();
    let lost = Choices::new().take("stage_id", loser);
    let merged = w
        .session
        .deals()
        .merge_into(survivor, &[loser], &lost, None)
        .await
        .unwrap();
    assert_eq!(w.got(survivor).await.status, DealStatus::Lost);
    w.session.deals().move_to(survivor, given_up).await.unwrap();
    let undone = w.session.merges().undo(merged.merges[0]).await.unwrap();
    assert!(undone.kept.iter().any(|kept| kept.field == "stage_id"));
    for (id, stage) in [(survivor, given_up), (loser, w.stages[5])] {
        let deal = w.got(id).await;
        assert_eq!(deal.stage_id, Some(stage));
        assert_eq!(deal.status, DealStatus::Lost);
        assert!(deal.actual_close_date.is_some());
        assert_eq!(deal.counting_category, ForecastCategory::Omitted);
        assert_eq!(deal.win_probability.to_string(), "0%");
    }
}
