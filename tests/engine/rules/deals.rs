//! Leads and deals: what they need, and what their stage makes of them.

use chrono::{NaiveDate, TimeDelta};
use crm_engine::error::codes;
use crm_engine::leads::Qualification;
use crm_engine::prelude::*;
use crm_engine::tenancy::LeadNamePolicy;
use rust_decimal::Decimal;

use super::{faults, world};

///
#[tokio::test]
async fn leads_need_a_name_or_a_company_and_are_only_converted_by_conversion() {
    let w = world().await;
    let error = w.session.leads().create(Lead::default()).await.unwrap_err();
    assert_eq!(faults(&error), [("company", codes::REQUIRED)]);
    let lead = Lead {
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let lead = w.session.leads().create(lead).await.unwrap();
    assert_eq!(lead.qualification_status, Qualification::Unassessed);
    let error = w
        .session
        .leads()
        .update(lead.id, |lead| lead.status = LeadStatus::Converted)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "transition");
    let converted = Lead {
        company: Some("Globex".into()),
        status: LeadStatus::Converted,
        ..Lead::default()
    };
    let error = w.session.leads().create(converted).await.unwrap_err();
    assert_eq!(faults(&error), [("status", codes::INCONSISTENT)]);
    w.session
        .configurations()
        .set_lead_name_policy(LeadNamePolicy::BothNames)
        .await
        .unwrap();
    let error = w
        .session
        .leads()
        .create(Lead {
            company: Some("Initech".into()),
            ..Lead::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("first_name", codes::REQUIRED),
            ("last_name", codes::REQUIRED)
        ]
    );
    assert!(Score::new(101).is_err());
    let admin = w.onboarded.admin;
    let owned = w
        .session
        .leads()
        .update(lead.id, |lead| lead.owner_id = Some(admin))
        .await
        .unwrap();
    assert!(owned.assigned_at.is_some());
}

///
#[tokio::test]
async fn deals_need_a_name_and_a_sensible_amount() {
    let w = world().await;
    let deal = Deal {
        amount: Some(Decimal::from(-1)),
        ..Deal::new("", w.onboarded.pipeline)
    };
    let error = w.session.deals().create(deal).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [("name", codes::BLANK), ("amount", codes::OUT_OF_RANGE)]
    );
    let body = serde_json::json!({
        "name": "Rollout", "pipeline_id": w.onboarded.pipeline, "currency": "XXQ", "probability": 101,
    });
    let error = w
        .session
        .deals()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("currency", "invalid_currency"),
            ("probability", codes::OUT_OF_RANGE)
        ]
    );
}

/// the stage decides, whichever way the deal is written.
#[tokio::test]
async fn a_deal_is_what_its_stage_makes_of_it() {
    let w = world().await;
    let stages = &w.onboarded.stages;
    let deal = Deal {
        amount: Some(Decimal::from(500)),
        ..Deal::new("Rollout", w.onboarded.pipeline)
    };
    let deal = w.session.deals().create(deal).await.unwrap();
    assert_eq!(deal.stage_id, Some(stages[0]));
    assert_eq!(deal.win_probability, Percent::from_whole(10).unwrap());

    w.clock.advance(TimeDelta::days(2));
    w.session
        .deals()
        .move_with_note(deal.id, stages[2], "they asked for an offer")
        .await
        .unwrap();
    w.clock.advance(TimeDelta::hours(5));
    let patch = serde_json::json!({"stage_id": stages[4]});
    let won = w
        .session
        .deals()
        .merge(deal.id, 2, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(won.status, DealStatus::Won);
    assert_eq!(won.win_probability, Percent::HUNDRED);
    assert_eq!(won.actual_close_date, NaiveDate::from_ymd_opt(2026, 2, 2));

    let history = w.session.deals().history(deal.id).await.unwrap();
    let steps: Vec<_> = history
        .iter()
        .map(|step| {
            (
                step.from_stage.as_deref(),
                step.to_stage.as_str(),
                step.seconds_in_stage,
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            (None, "Prospecting", None),
            (Some("Prospecting"), "Proposal", Some(2 * 86_400)),
            (Some("Proposal"), "Closed Won", Some(5 * 3_600)),
        ]
    );
    assert_eq!(history[1].note.as_deref(), Some("they asked for an offer"));
    assert_eq!(
        history[2].from_probability,
        Some(Percent::from_whole(50).unwrap())
    );

    // Status and close date cannot say otherwise.
    let patch = serde_json::json!({"status": "lost"});
    let error = w
        .session
        .deals()
        .merge(deal.id, 3, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("status", codes::READ_ONLY)]);
    let undated = |deal: &mut Deal| deal.actual_close_date = None;
    let error = w.refused(deal.id, undated).await;
    assert_eq!(faults(&error), [("actual_close_date", codes::REQUIRED)]);

    let open = w.session.deals().reopen(deal.id, None).await.unwrap();
    assert_eq!(open.stage_id, Some(stages[2]));
    assert_eq!(
        (open.status, open.actual_close_date),
        (DealStatus::Open, None)
    );
    let error = w.session.deals().reopen(deal.id, None).await.unwrap_err();
    assert_eq!(error.code(), "not_closed");
    let lost = w.session.deals().lose(deal.id, "price").await.unwrap();
    assert_eq!(lost.close_reason.as_deref(), Some("price"));
    assert_eq!(lost.win_probability, Percent::ZERO);
    let error = w
        .session
        .deals()
        .update(open.id, |deal| {
            deal.actual_close_date = NaiveDate::from_ymd_opt(2026, 1, 1);
        })
        .await;
    assert!(
        error.is_ok(),
        "the close date of a closed deal may be corrected"
    );
}

///
#[tokio::test]
async fn a_stage_of_another_pipeline_is_refused() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await
        .unwrap()
        .id;
    let foreign = w
        .session
        .pipelines()
        .add_stage(PipelineStage::new(other, "Due", 1_u32))
        .await
        .unwrap();
    let deal = w.deal().await;
    let error = w
        .session
        .deals()
        .move_to(deal.id, foreign.id)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", codes::INCONSISTENT)]);
    let empty = w
        .session
        .pipelines()
        .create(Pipeline::new("Empty"))
        .await
        .unwrap()
        .id;
    let error = w
        .session
        .deals()
        .create(Deal::new("Rollout", empty))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", codes::REQUIRED)]);
    let moved = w
        .session
        .deals()
        .update(deal.id, |deal| deal.pipeline_id = other)
        .await
        .unwrap();
    assert_eq!(moved.stage_id, Some(foreign.id));
}

///
#[tokio::test]
async fn money_of_different_currencies_is_never_added() {
    let w = world().await;
    let error = w
        .session
        .deals()
        .aggregate(Aggregate::new().sum(Deal::AMOUNT))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "mixed_currencies");
    for (amount, currency) in [(100, "USD"), (100, "JPY"), (50, "USD")] {
        let deal = Deal {
            amount: Some(Decimal::from(amount)),
            currency: currency.parse().unwrap(),
            ..Deal::new("Rollout", w.onboarded.pipeline)
        };
        w.session.deals().create(deal).await.unwrap();
    }
    let sums = w
        .session
        .deals()
        .aggregate(
            Aggregate::new()
                .group_by(Deal::CURRENCY)
                .sum(Deal::AMOUNT)
                .weighted_sum(Deal::AMOUNT, Deal::WIN_PROBABILITY),
        )
        .await
        .unwrap();
    let figures: Vec<_> = sums
        .iter()
        .map(|group| {
            (
                group.key(0).as_text().unwrap(),
                group.number(0),
                group.number(1),
            )
        })
        .collect();
    let number = |n: i64| Some(Decimal::from(n));
    assert_eq!(
        figures,
        [
            ("JPY", number(100), number(10)),
            ("USD", number(150), number(15))
        ]
    );
}
