//! Pipelines and stages.

use crm_engine::error::codes;
use crm_engine::prelude::*;

use super::{faults, world};

///
#[tokio::test]
async fn a_new_default_pipeline_takes_the_place_of_the_old() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await
        .unwrap()
        .id;
    w.session.pipelines().set_default(other).await.unwrap();
    assert_eq!(
        w.session
            .pipelines()
            .default_pipeline()
            .await
            .unwrap()
            .unwrap()
            .id,
        other
    );
    assert!(
        !w.session
            .pipelines()
            .get(w.onboarded.pipeline)
            .await
            .unwrap()
            .is_default
    );
    let third = Pipeline {
        is_default: true,
        ..Pipeline::new("Third")
    };
    let third = w.session.pipelines().create(third).await.unwrap().id;
    assert_eq!(
        w.session
            .pipelines()
            .count(Pipeline::IS_DEFAULT.eq(true))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        w.session
            .pipelines()
            .default_pipeline()
            .await
            .unwrap()
            .unwrap()
            .id,
        third
    );
}

/// C-010.
#[tokio::test]
async fn stages_are_reordered_at_once_and_only_removed_with_a_target_for_their_deals() {
    let w = world().await;
    let mut order = w.onboarded.stages.clone();
    order.reverse();
    w.session
        .pipelines()
        .reorder_stages(w.onboarded.pipeline, &order)
        .await
        .unwrap();
    let stages = w
        .session
        .pipelines()
        .stages(w.onboarded.pipeline)
        .await
        .unwrap();
    assert_eq!(
        stages.iter().map(|stage| stage.id).collect::<Vec<_>>(),
        order
    );
    let error = w
        .session
        .pipelines()
        .reorder_stages(w.onboarded.pipeline, &order[1..])
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("order", codes::INCONSISTENT)]);

    let stage = w.onboarded.stages[1];
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.onboarded.pipeline))
        .await
        .unwrap();
    w.session.deals().move_to(deal.id, stage).await.unwrap();
    let error = w
        .session
        .pipelines()
        .delete_stage(stage, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Reference { ref by, .. } if by == "deal"));
    let error = w
        .session
        .pipelines()
        .update_stage(stage, |stage| stage.stage_type = StageType::ClosedLost)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "stage_in_use");
    w.session
        .pipelines()
        .delete_stage(stage, Some(w.onboarded.stages[2]))
        .await
        .unwrap();
    let moved = w.session.deals().get(deal.id).await.unwrap();
    assert_eq!(moved.stage_id, Some(w.onboarded.stages[2]));
    let history = w.session.deals().history(deal.id).await.unwrap();
    assert_eq!(
        history.last().unwrap().from_stage.as_deref(),
        Some("Qualification")
    );
}

/// without a probability of its own, a deal follows its stage.
#[tokio::test]
async fn deals_follow_the_probability_of_their_stage() {
    let w = world().await;
    let pipeline = w.onboarded.pipeline;
    let follows = w
        .session
        .deals()
        .create(Deal::new("Follows", pipeline))
        .await
        .unwrap()
        .id;
    let own = Deal {
        probability: Some(Percent::from_whole(33).unwrap()),
        ..Deal::new("Own", pipeline)
    };
    let own = w.session.deals().create(own).await.unwrap().id;
    let new = Percent::from_whole(20).unwrap();
    w.session
        .pipelines()
        .update_stage(w.onboarded.stages[0], |stage| {
            stage.default_probability = new;
        })
        .await
        .unwrap();
    assert_eq!(
        w.session
            .deals()
            .get(follows)
            .await
            .unwrap()
            .win_probability,
        new
    );
    assert_eq!(
        w.session
            .deals()
            .get(own)
            .await
            .unwrap()
            .win_probability
            .to_string(),
        "33%"
    );
}
