//! each gate, every reason at once, and no way around.

use std::sync::Arc;

use chrono::TimeDelta;
use crm_engine::deals::Obstacle;
use crm_engine::engine::{Clock, ManualClock};
use crm_engine::error::codes;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::pipelines::{ApprovalPolicy, ProbabilityCalculation, StageIds};
use crm_engine::prelude::*;
use crm_engine::query::{Criteria, Filter};
use crm_engine::schema::Value;
use serde_json::json;

use super::{
    LOST, NEGOTIATION, PROPOSAL, PROSPECTING, QUALIFICATION, WON, World, common, faults, world,
};

/// Guards the proposal stage by everything that there is.
async fn guarded() -> World {
    let w = world().await;
    w.keep_order().await;
    let next: StageIds = [w.stage(QUALIFICATION), w.stage(LOST)].into();
    w.set(PROSPECTING, |stage| {
        stage.allowed_next_stages = next.clone();
        stage.minimum_hours = Some(24);
    })
    .await;
    let admin = w.onboarded.admin;
    w.set(PROPOSAL, |stage| {
        stage.required_fields = vec!["amount".into(), "custom_fields.budget".into()];
        stage.entry_criteria = Some(Criteria(Filter::eq("custom_fields.segment", "enterprise")));
        stage.entry_condition = Some("account_id.industry = 'energy'".into());
        stage.approval = Some(ApprovalPolicy::by_users([admin]));
    })
    .await;
    w
}

const ALL: [(&str, &str); 8] = [
    ("stage_id", "stage_order"),
    ("stage_id", "stage_not_next"),
    ("stage_id", "stage_too_early"),
    ("amount", codes::REQUIRED),
    ("custom_fields.budget", codes::REQUIRED),
    ("stage_id", "stage_criteria"),
    ("stage_id", "stage_condition"),
    ("stage_id", "stage_not_approved"),
];

/// Every reason is told at once, whichever way the move comes; nothing is written.
#[tokio::test]
async fn a_refused_move_says_every_reason_whichever_way_it_comes() {
    let w = guarded().await;
    let deals = || w.session.deals();
    let id = w.new_deal().await;
    let target = w.stage(PROPOSAL);
    let record = deals().get(id).await.unwrap();
    let patch = json!({"stage_id": target});
    let patch = patch.as_object().unwrap();

    let mut refused = vec![
        deals().move_to(id, target).await.unwrap_err(),
        deals()
            .move_with_note(id, target, "please")
            .await
            .unwrap_err(),
        deals().merge(id, 1, patch).await.unwrap_err(),
        deals()
            .update(id, |deal| deal.stage_id = Some(target))
            .await
            .unwrap_err(),
        deals()
            .update_version(id, 1, |deal| deal.stage_id = Some(target))
            .await
            .unwrap_err(),
        deals()
            .update_record(&record, |deal| deal.stage_id = Some(target))
            .await
            .unwrap_err(),
        w.session
            .object("deal")
            .await
            .unwrap()
            .merge(id.uuid(), 1, patch)
            .await
            .unwrap_err(),
    ];
    let mut work = w.session.begin();
    let by_hand = work
        .deals()
        .update(id, |deal| deal.stage_id = Some(target))
        .await;
    refused.push(by_hand.unwrap_err());
    let schema = Deal::schema();
    let index = schema.field_index("stage_id").unwrap();
    let row: crm_engine::schema::Row = record.clone();
    let values = [(index, Value::Uuid(target.uuid()))];
    let by_values = work.change_values(&row, &values).await;
    refused.push(by_values.unwrap_err());
    work.commit().await.unwrap();
    for error in &refused {
        assert_eq!(faults(error), ALL);
    }
    assert_eq!(deals().get(id).await.unwrap().version, 1);

    // The same without a try.
    let told = deals().check_move(id, target).await.unwrap();
    let told: Vec<_> = told.iter().map(|it| (it.field(), it.code())).collect();
    assert_eq!(told, ALL);
    let until = record.created.at + TimeDelta::hours(24);
    let found = deals().check_move(id, target).await.unwrap();
    assert!(found.contains(&Obstacle::TooEarly { until }));
    let next = Some(w.stage(QUALIFICATION));
    assert!(found.contains(&Obstacle::OutOfOrder { next }));
    // A new deal cannot begin there.
    let new = Deal {
        stage_id: Some(target),
        ..w.deal()
    };
    let error = deals().create(new).await.unwrap_err();
    let expected: Vec<_> = ALL
        .into_iter()
        .filter(|(_, code)| !["stage_not_next", "stage_too_early"].contains(code))
        .collect();
    assert_eq!(faults(&error), expected);
}

/// Imports pass the gates row by row.
#[tokio::test]
async fn imports_pass_the_gates() {
    let w = guarded().await;
    w.set(PROSPECTING, |stage| {
        stage.required_fields = vec!["next_step".into()];
    })
    .await;
    let mapping = Mapping::new("deal")
        .column("Name", "name")
        .column("Pipeline", "pipeline_id")
        .column("Stage", "stage_id")
        .column("Next", "next_step");
    let pipeline = w.onboarded.pipeline;
    let text = format!(
        "Name,Pipeline,Stage,Next\n\
         One,{pipeline},,call them\n\
         Two,{pipeline},,\n\
         Three,{pipeline},{},call them\n",
        w.stage(QUALIFICATION)
    );
    let source = Source::bytes("deals.csv", text.into_bytes());
    let import = Import::new(mapping);
    let job = w.session.import().start(&source, &import).await.unwrap();
    let done = w.session.import().run(job.id, &source, &()).await.unwrap();
    assert_eq!((done.counts.created_rows, done.counts.failed_rows), (1, 2));
    let deals = w.session.deals().find(Find::new()).await.unwrap().items;
    assert_eq!(deals.len(), 1);
    assert_eq!(deals[0].name, "One");
}

/// What lets a deal in must hold in the commit: a unit of work gives nothing that its commit does not
/// show. Later the field may be emptied.
#[tokio::test]
async fn a_field_filled_for_the_move_alone_does_not_count() {
    let w = world().await;
    w.set(PROPOSAL, |stage| {
        stage.required_fields = vec!["amount".into()];
        stage.entry_criteria = Some(Deal::AMOUNT.ge(rust_decimal::Decimal::from(100)).into());
    })
    .await;
    let id = w.new_deal().await;
    let target = w.stage(PROPOSAL);
    let mut work = w.session.begin();
    work.deals()
        .update(id, |deal| deal.amount = Some(500.into()))
        .await
        .unwrap();
    work.deals().move_to(id, target).await.unwrap();
    let error = work.deals().update(id, |deal| deal.amount = None).await;
    let expected = [("amount", codes::REQUIRED), ("stage_id", "stage_criteria")];
    assert_eq!(faults(&error.unwrap_err()), expected);
    work.deals()
        .update(id, |deal| deal.amount = Some(200.into()))
        .await
        .unwrap();
    work.commit().await.unwrap();
    let emptied = w
        .session
        .deals()
        .update(id, |deal| deal.amount = None)
        .await;
    assert_eq!(emptied.unwrap().stage_id, Some(target));

    // So for a new deal.
    let mut work = w.session.begin();
    let new = Deal {
        stage_id: Some(target),
        amount: Some(500.into()),
        ..w.deal()
    };
    let new = work.deals().create(new).await.unwrap();
    let error = work.deals().update(new.id, |deal| deal.amount = None).await;
    assert_eq!(faults(&error.unwrap_err()), expected);
}

/// Texts of blanks and empty lists and documents do not fill a field; zero and `false` do.
#[tokio::test]
async fn blanks_do_not_fill_a_field() {
    let w = world().await;
    w.set(QUALIFICATION, |stage| {
        stage.required_fields = vec!["tags".into(), "custom_fields.x".into(), "amount".into()];
    })
    .await;
    let filled = |custom: serde_json::Value, tags: &[&str]| Deal {
        custom_fields: json!({"x": custom}),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        amount: Some(0.into()),
        stage_id: Some(w.stage(QUALIFICATION)),
        ..w.deal()
    };
    for custom in [json!(null), json!(" "), json!([]), json!({})] {
        let error = w
            .session
            .deals()
            .create(filled(custom, &[]))
            .await
            .unwrap_err();
        let expected = [
            ("tags", codes::REQUIRED),
            ("custom_fields.x", codes::REQUIRED),
        ];
        assert_eq!(faults(&error), expected);
    }
    for custom in [json!(0), json!(false), json!("a"), json!([1])] {
        w.session
            .deals()
            .create(filled(custom, &["hot"]))
            .await
            .unwrap();
    }
}

/// the order of a pipeline, by the table at `is_in_order`.
#[tokio::test]
async fn a_pipeline_keeps_its_order() {
    let w = world().await;
    w.keep_order().await;
    let refused = [("stage_id", "stage_order")];
    for place in [QUALIFICATION, NEGOTIATION, WON, LOST] {
        let late = Deal {
            stage_id: Some(w.stage(place)),
            ..w.deal()
        };
        let error = w.session.deals().create(late).await.unwrap_err();
        assert_eq!(faults(&error), refused);
    }
    let id = w.new_deal().await;
    let go = |place| w.move_to(id, place);
    for place in [PROPOSAL, NEGOTIATION, WON] {
        assert_eq!(faults(&go(place).await.unwrap_err()), refused);
    }
    for place in [QUALIFICATION, PROPOSAL, PROSPECTING, QUALIFICATION, LOST] {
        go(place).await.unwrap();
    }
    // A lost deal is reopened up to where it was, and not won.
    for place in [PROPOSAL, WON] {
        assert_eq!(faults(&go(place).await.unwrap_err()), refused);
    }
    let open = w.session.deals().reopen(id, None).await.unwrap();
    assert_eq!(open.stage_id, Some(w.stage(QUALIFICATION)));
    assert_eq!(
        faults(&w.session.deals().win(id).await.unwrap_err()),
        refused
    );
    go(PROPOSAL).await.unwrap();
    go(NEGOTIATION).await.unwrap();
    let options = w.session.deals().allowed_stages(id).await.unwrap();
    let allowed: Vec<bool> = options.iter().map(|option| option.is_allowed()).collect();
    assert_eq!(allowed, [true, true, true, false, true, true]);
    assert!(options[NEGOTIATION].is_current);
    w.session.deals().win(id).await.unwrap();
    go(PROSPECTING).await.unwrap();

    // A stage that is not in use is not next; the last one in use leads to won.
    w.set(QUALIFICATION, |stage| stage.is_active = false).await;
    w.set(NEGOTIATION, |stage| stage.is_active = false).await;
    let error = go(QUALIFICATION).await.unwrap_err();
    assert!(faults(&error).contains(&("stage_id", codes::INCONSISTENT)));
    go(PROPOSAL).await.unwrap();
    go(WON).await.unwrap();
}

/// A stage says how long deals stay and where they may go; they may always fall back or be lost in
/// time, but not take the way around another pipeline.
#[tokio::test]
async fn deals_stay_and_go_as_their_stage_says() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await;
    let other = other.unwrap().id;
    let due = PipelineStage::new(other, "Due", 1_u32);
    let due = w.session.pipelines().add_stage(due).await.unwrap().id;
    w.set(QUALIFICATION, |stage| stage.minimum_hours = Some(48))
        .await;
    let id = w.new_deal().await;
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.clock.advance(TimeDelta::hours(47));
    let early = [("stage_id", "stage_too_early")];
    for place in [PROPOSAL, WON] {
        assert_eq!(faults(&w.move_to(id, place).await.unwrap_err()), early);
    }
    let leave = |deal: &mut Deal| {
        deal.pipeline_id = other;
        deal.stage_id = Some(due);
    };
    let error = w.session.deals().update(id, leave).await.unwrap_err();
    assert_eq!(faults(&error), early);
    w.clock.advance(TimeDelta::hours(1));
    w.move_to(id, PROPOSAL).await.unwrap();
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.move_to(id, PROSPECTING).await.unwrap();
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.move_to(id, LOST).await.unwrap();

    let next: StageIds = [w.stage(PROPOSAL), w.stage(NEGOTIATION)].into();
    w.set(PROSPECTING, |stage| {
        stage.allowed_next_stages = next.clone();
    })
    .await;
    let id = w.new_deal().await;
    let elsewhere = [("stage_id", "stage_not_next")];
    for place in [QUALIFICATION, WON, LOST] {
        assert_eq!(faults(&w.move_to(id, place).await.unwrap_err()), elsewhere);
    }
    let error = w.session.deals().update(id, leave).await.unwrap_err();
    assert_eq!(faults(&error), elsewhere);
    // A stage that is gone lets nothing through: its deletion opens no way.
    for (place, target) in [(NEGOTIATION, PROPOSAL), (PROPOSAL, QUALIFICATION)] {
        let (stage, target) = (w.stage(place), w.stage(target));
        let deleted = w
            .session
            .pipelines()
            .delete_stage(stage, Some(target))
            .await;
        deleted.unwrap();
    }
    assert_eq!(
        faults(&w.move_to(id, QUALIFICATION).await.unwrap_err()),
        elsewhere
    );
    // Handing over to another pipeline is said like any other way.
    w.set(PROSPECTING, |stage| {
        stage.allowed_next_stages = [due].into();
    })
    .await;
    let moved = w.session.deals().update(id, leave).await.unwrap();
    assert_eq!(moved.stage_id, Some(due));
}

/// C-010: the deals of a stage that is deleted move without gates, their history tells why, and who
/// deletes it in a unit of work gets no key to the gates.
#[tokio::test]
async fn the_deals_of_a_deleted_stage_move_without_gates() {
    let w = guarded().await;
    w.clock.advance(TimeDelta::hours(30));
    let (id, other) = (w.new_deal().await, w.new_deal().await);
    w.clock.advance(TimeDelta::hours(30));
    w.move_to(id, QUALIFICATION).await.unwrap();
    let mut work = w.session.begin();
    work.pipelines()
        .delete_stage(w.stage(QUALIFICATION), Some(w.stage(PROPOSAL)))
        .await
        .unwrap();
    assert!(
        work.deals()
            .move_to(other, w.stage(PROPOSAL))
            .await
            .is_err()
    );
    assert!(work.deals().move_to(id, w.stage(WON)).await.is_err());
    work.commit().await.unwrap();
    let moved = w.session.deals().get(id).await.unwrap();
    assert_eq!(moved.stage_id, Some(w.stage(PROPOSAL)));
    let history = w.session.deals().history(id).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!(last.note.as_deref(), Some("its stage was deleted"));
    // A target that is not in use, or of another pipeline, is still none.
    w.set(NEGOTIATION, |stage| stage.is_active = false).await;
    let error = w
        .session
        .pipelines()
        .delete_stage(w.stage(PROPOSAL), Some(w.stage(NEGOTIATION)))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", codes::INCONSISTENT)]);
}

/// C-010: more deals than one commit takes move too.
#[tokio::test]
async fn a_stage_with_many_deals_is_deleted_in_steps() {
    let w = world().await;
    for _ in 0..3 {
        let deals = (0..400).map(|_| w.deal()).collect();
        w.session.deals().create_all(deals).await.unwrap();
    }
    let (from, to) = (w.stage(PROSPECTING), w.stage(PROPOSAL));
    w.session
        .pipelines()
        .delete_stage(from, Some(to))
        .await
        .unwrap();
    let there = w
        .session
        .deals()
        .count(Deal::STAGE_ID.eq(to))
        .await
        .unwrap();
    assert_eq!(there, 1_200);
    let stages = w.session.pipelines().stages(w.onboarded.pipeline).await;
    assert_eq!(stages.unwrap().len(), 5);
}

/// Gates name what is there; each fault stands at its field. What the engine writes is not given.
#[tokio::test]
async fn faulty_gates_are_refused() {
    let w = world().await;
    let stage = w.stage(PROPOSAL);
    let stored = w.session.object("pipeline_stage").await.unwrap();
    let version = stored.get(stage.uuid()).await.unwrap().version();
    let ghost = "01932c07-209c-7a4b-8000-0000deadbeef";
    let many: Vec<_> = (0..201).map(|_| json!(ghost)).collect();
    let faulty = [
        (
            json!({"required_fields": ["amount", "colour"]}),
            "required_fields",
            codes::UNKNOWN_FIELD,
        ),
        (
            json!({"required_fields": ["custom_fields."]}),
            "required_fields",
            codes::UNKNOWN_FIELD,
        ),
        (
            json!({"entry_criteria": {"field": "colour", "op": "eq", "value": 1}}),
            "entry_criteria",
            "unknown_field",
        ),
        (
            json!({"entry_criteria": {"field": "status", "op": "eq", "value": "won"}}),
            "entry_criteria",
            "unsupported",
        ),
        (
            json!({"allowed_next_stages": [ghost]}),
            "allowed_next_stages",
            codes::NOT_FOUND,
        ),
        (
            json!({"allowed_next_stages": many}),
            "allowed_next_stages",
            codes::TOO_MANY,
        ),
        (
            json!({"allowed_next_stages": ["next"]}),
            "allowed_next_stages",
            codes::WRONG_TYPE,
        ),
        (
            json!({"minimum_hours": -1}),
            "minimum_hours",
            codes::OUT_OF_RANGE,
        ),
        (
            json!({"rotting_after_days": 0}),
            "rotting_after_days",
            codes::OUT_OF_RANGE,
        ),
        (json!({"approval": {}}), "approval", codes::REQUIRED),
        (
            json!({"approval": {"users": [ghost]}}),
            "approval",
            codes::NOT_FOUND,
        ),
        (
            json!({"approval": {"team_role": "boss"}}),
            "approval",
            codes::WRONG_TYPE,
        ),
        (
            json!({"historic_probability": "50"}),
            "historic_probability",
            codes::READ_ONLY,
        ),
        (
            json!({"historic_sample": 50}),
            "historic_sample",
            codes::READ_ONLY,
        ),
    ];
    for (patch, field, code) in faulty {
        let error = w
            .session
            .object("pipeline_stage")
            .await
            .unwrap()
            .merge(stage.uuid(), version, patch.as_object().unwrap())
            .await
            .unwrap_err();
        assert_eq!(faults(&error), [(field, code)], "{patch}");
    }
    let by_types = w
        .session
        .pipelines()
        .update_stage(stage, |stage| {
            stage.historic_probability = Some(Percent::HUNDRED);
        })
        .await
        .unwrap_err();
    assert_eq!(
        faults(&by_types),
        [("historic_probability", codes::READ_ONLY)]
    );
}

/// Another process that has not yet seen that a gate was shut lets nothing through.
#[tokio::test]
async fn an_outdated_gate_is_noticed() {
    let storage = common::backend::storage(&[]);
    // Time stands still: what was remembered stays remembered.
    let clock = Arc::new(ManualClock::new("2026-01-05T09:00:00Z".parse().unwrap()));
    let one = Crm::builder(storage.clone()).clock(clock.clone()).build();
    let two = Crm::builder(storage).clock(clock).build();
    let (onboarded, session) = common::tenant(&one, "acme").await;
    let other = two.session(onboarded.tenant, Actor::User(onboarded.admin));
    let new = || Deal::new("Rollout", onboarded.pipeline);
    let deal = other.deals().create(new()).await.unwrap().id;
    let stages = &onboarded.stages;
    other
        .deals()
        .move_to(deal, stages[QUALIFICATION])
        .await
        .unwrap();
    session
        .pipelines()
        .update_stage(stages[PROPOSAL], |stage| {
            stage.required_fields = vec!["amount".into()];
        })
        .await
        .unwrap();
    let error = other
        .deals()
        .move_to(deal, stages[PROPOSAL])
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("amount", codes::REQUIRED)]);
    // So the stage that it leaves, the order of the pipeline and how it reckons.
    session
        .pipelines()
        .update_stage(stages[QUALIFICATION], |stage| stage.minimum_hours = Some(1))
        .await
        .unwrap();
    let error = other
        .deals()
        .move_to(deal, stages[NEGOTIATION])
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", "stage_too_early")]);
    other.deals().create(new()).await.unwrap();
    session
        .pipelines()
        .update(onboarded.pipeline, |pipeline| {
            pipeline.stage_order_enforced = true;
            pipeline.probability_calculation = ProbabilityCalculation::StageBased;
        })
        .await
        .unwrap();
    let late = Deal {
        stage_id: Some(stages[QUALIFICATION]),
        ..new()
    };
    let error = other.deals().create(late).await.unwrap_err();
    assert_eq!(faults(&error), [("stage_id", "stage_order")]);
    let own = Deal {
        probability: Some(Percent::HUNDRED),
        ..new()
    };
    let own = other.deals().create(own).await.unwrap();
    assert_eq!(own.win_probability.to_string(), "10%");
}

/// Deals that enter a stage while it changes its probability follow it all the same.
#[tokio::test]
async fn deals_that_enter_meanwhile_follow_too() {
    let w = world().await;
    for round in 0..5_u8 {
        let enter = async {
            for _ in 0..5 {
                w.new_deal().await;
            }
        };
        let change = w.set(PROSPECTING, |stage| {
            stage.default_probability = Percent::from_whole(20 + round).unwrap();
        });
        tokio::join!(enter, change);
        let right = Deal::WIN_PROBABILITY.eq(Percent::from_whole(20 + round).unwrap());
        let count = w.session.deals().count(right).await.unwrap();
        assert_eq!(count, 5 * (u64::from(round) + 1));
    }
}

/// the outcome of a stage without deals in use may change; a deal that was deleted from it is what
/// the stage makes of it when it comes back.
#[tokio::test]
async fn a_deal_that_comes_back_is_what_its_stage_is_by_then() {
    let w = world().await;
    let deal = Deal {
        amount: Some(1_000.into()),
        currency: w.session.configurations().base_currency().await.unwrap(),
        probability: Some(Percent::from_whole(30).unwrap()),
        ..w.deal()
    };
    let id = w.session.deals().create(deal).await.unwrap().id;
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.session.deals().delete(id).await.unwrap();
    w.clock.advance(TimeDelta::days(1));
    w.set(QUALIFICATION, |stage| {
        stage.stage_type = StageType::ClosedWon;
    })
    .await;
    let back = w.session.deals().restore(id).await.unwrap();
    let today = w.clock.now().date_naive();
    assert_eq!(back.status, DealStatus::Won);
    assert_eq!(back.actual_close_date, Some(today));
    assert_eq!(back.win_probability, Percent::HUNDRED);
    assert_eq!(back.locked_amount, Some(1_000.into()));
    let forecast = w.session.forecasts().forecast(&Default::default()).await;
    assert_eq!(
        forecast.unwrap().closed().to_string().split(' ').next(),
        Some("1000.00")
    );
}

/// Not by what hooks of a host keep in step either.
#[tokio::test]
async fn values_that_follow_from_others_lead_into_no_stage() {
    let w = world().await;
    w.set(PROPOSAL, |stage| {
        stage.required_fields = vec!["amount".into()];
    })
    .await;
    let id = w.new_deal().await;
    let stage = Deal::schema().field_index(&Deal::STAGE_ID.name()).unwrap();
    let amount = Deal::schema().field_index(&Deal::AMOUNT.name()).unwrap();
    let proposal = (stage, Value::Uuid(w.stage(PROPOSAL).uuid()));
    let mut work = w.session.begin();
    let row = work.row(Deal::schema(), id.uuid()).await.unwrap().unwrap();
    let refused = work.keep_values(&row, vec![proposal.clone()]).await;
    assert_eq!(faults(&refused.unwrap_err()), [("amount", codes::REQUIRED)]);
    let filled = vec![proposal, (amount, Value::Decimal(7.into()))];
    work.keep_values(&row, filled).await.unwrap();
    work.commit().await.unwrap();
    let stored = w.session.deals().get(id).await.unwrap();
    assert_eq!(stored.stage_id, Some(w.stage(PROPOSAL)));
}
