//! R-045 in all three modes: what counts, and that deals follow, few at once and many in steps.

use std::ops::ControlFlow;

use crm_engine::deals::MINIMUM_SAMPLE;
use crm_engine::pipelines::ProbabilityCalculation;
use crm_engine::prelude::*;
use serde_json::json;

use super::{LOST, PROPOSAL, PROSPECTING, QUALIFICATION, World, percent, world};

impl World {
    async fn counts(&self, deal: Id<Deal>) -> String {
        let deal = self.session.deals().get(deal).await.unwrap();
        deal.win_probability.to_string()
    }

    async fn reckon(&self, mode: ProbabilityCalculation) {
        self.session
            .pipelines()
            .set_probability_mode(self.onboarded.pipeline, mode, &())
            .await
            .unwrap();
    }
}

/// What a deal says itself is kept in every mode, and counts in the manual one.
#[tokio::test]
async fn deals_follow_the_mode_of_their_pipeline() {
    let w = world().await;
    let own = Deal {
        probability: Some(percent(33)),
        ..w.deal()
    };
    let own = w.session.deals().create(own).await.unwrap().id;
    let plain = w.new_deal().await;
    let won = w.new_deal().await;
    w.session.deals().win(won).await.unwrap();
    let told = || async {
        [
            w.counts(own).await,
            w.counts(plain).await,
            w.counts(won).await,
        ]
    };
    assert_eq!(told().await, ["33%", "10%", "100%"]);
    w.reckon(ProbabilityCalculation::StageBased).await;
    assert_eq!(told().await, ["10%", "10%", "100%"]);
    // Set meanwhile, it waits.
    w.session
        .deals()
        .update(own, |deal| deal.probability = Some(percent(44)))
        .await
        .unwrap();
    assert_eq!(told().await, ["10%", "10%", "100%"]);
    w.set(PROSPECTING, |stage| stage.default_probability = percent(15))
        .await;
    assert_eq!(told().await, ["15%", "15%", "100%"]);
    w.move_to(own, QUALIFICATION).await.unwrap();
    assert_eq!(w.counts(own).await, "25%");
    w.move_to(own, PROSPECTING).await.unwrap();
    // Nothing is known of the past: the stage's default.
    w.reckon(ProbabilityCalculation::Automatic).await;
    assert_eq!(told().await, ["15%", "15%", "100%"]);
    // Through a merge patch too.
    let pipeline = w.onboarded.pipeline;
    let version = w.session.pipelines().get(pipeline).await.unwrap().version;
    let patch = json!({"probability_calculation": "manual"});
    w.session
        .pipelines()
        .merge(pipeline, version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(told().await, ["44%", "15%", "100%"]);
    let steps = w.session.deals().history(own).await.unwrap();
    let steps: Vec<_> = steps
        .iter()
        .map(|it| it.to_probability.to_string())
        .collect();
    assert_eq!(steps, ["33%", "25%", "15%"]);
}

/// Automatic: the share of won deals among the decided ones that ever entered the stage, once they are
/// enough; re-entries count once, skipped stages not at all.
#[tokio::test]
async fn the_past_tells_how_probable_a_stage_is() {
    let w = world().await;
    w.reckon(ProbabilityCalculation::Automatic).await;
    let sample = u8::try_from(MINIMUM_SAMPLE).unwrap();
    // Every fourth is won. All but the first go through Qualification twice.
    for number in 0..sample {
        let deal = w.new_deal().await;
        if number > 0 {
            for place in [QUALIFICATION, PROPOSAL, QUALIFICATION] {
                w.move_to(deal, place).await.unwrap();
            }
        }
        if number % 4 == 0 {
            w.session.deals().win(deal).await.unwrap();
        } else {
            w.session.deals().lose(deal, "price").await.unwrap();
        }
    }
    let open = w.new_deal().await;
    let later = w.new_deal().await;
    w.move_to(later, QUALIFICATION).await.unwrap();
    let pipeline = w.onboarded.pipeline;
    let refresh = || async {
        let run = w
            .session
            .pipelines()
            .refresh_probabilities(pipeline, &())
            .await
            .unwrap();
        (run.decided, run.stages, run.followed)
    };
    // Three of ten were won; only nine came through Qualification.
    assert_eq!(refresh().await, (10, 1, 1));
    let stages = w.session.pipelines().stages(pipeline).await.unwrap();
    assert_eq!(stages[PROSPECTING].historic_probability, Some(percent(30)));
    assert_eq!(stages[QUALIFICATION].historic_probability, None);
    assert_eq!(stages[QUALIFICATION].historic_sample, Some(9));
    assert_eq!(stages[LOST].historic_probability, None);
    assert_eq!(
        [w.counts(open).await, w.counts(later).await],
        ["30%", "25%"]
    );
    assert_eq!(refresh().await, (10, 1, 0), "nothing changed");
    // The tenth is lost: two of ten were won there.
    let deal = w.new_deal().await;
    assert_eq!(w.counts(deal).await, "30%");
    w.move_to(deal, QUALIFICATION).await.unwrap();
    w.session.deals().lose(deal, "price").await.unwrap();
    assert_eq!(refresh().await, (11, 2, 2));
    assert_eq!(
        [w.counts(open).await, w.counts(later).await],
        ["27.27%", "20%"]
    );
    // A default that does not count moves nobody.
    let version = w.session.deals().get(open).await.unwrap().version;
    w.set(PROSPECTING, |stage| stage.default_probability = percent(1))
        .await;
    assert_eq!(w.session.deals().get(open).await.unwrap().version, version);
    // Reopened and deleted deals count no more.
    w.session.deals().reopen(deal, None).await.unwrap();
    assert_eq!(refresh().await.0, 10);
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let run = w
        .session
        .pipelines()
        .refresh_probabilities(pipeline, &stop)
        .await;
    assert!(run.unwrap().is_stopped);
    let mut work = w.session.begin();
    let error = work.pipelines().refresh_probabilities(pipeline, &()).await;
    assert_eq!(error.unwrap_err().code(), "forbidden");
}

/// More deals than fit one commit follow in steps; where there can be no steps, the change is refused
/// rather than leaving them behind.
#[tokio::test]
async fn many_deals_follow_in_steps() {
    let w = world().await;
    for chunk in 0..3 {
        let deals = (0..400).map(|number| Deal {
            probability: (number == 0).then(|| percent(77)),
            ..Deal::new(format!("{chunk} {number}"), w.onboarded.pipeline)
        });
        w.session.deals().create_all(deals.collect()).await.unwrap();
    }
    let counted = |whole| {
        let session = w.session.clone();
        async move {
            let filter = Deal::WIN_PROBABILITY.eq(percent(whole));
            session.deals().count(filter).await.unwrap()
        }
    };
    let stage = w.stage(PROSPECTING);
    let patch = json!({"default_probability": "20"});
    let error = w
        .session
        .object("pipeline_stage")
        .await
        .unwrap()
        .merge(stage.uuid(), 1, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "too_many_deals");
    let mut work = w.session.begin();
    let error = work
        .pipelines()
        .update_stage(stage, |stage| stage.default_probability = percent(20))
        .await;
    assert_eq!(error.unwrap_err().code(), "too_many_deals");
    drop(work);
    assert_eq!((counted(10).await, counted(20).await), (1_197, 0));
    w.set(PROSPECTING, |stage| stage.default_probability = percent(20))
        .await;
    assert_eq!((counted(10).await, counted(20).await), (0, 1_197));

    // The mode likewise, and a run that is stopped is finished by the next.
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let pipeline = w.onboarded.pipeline;
    w.reckon(ProbabilityCalculation::StageBased).await;
    assert_eq!((counted(77).await, counted(20).await), (0, 1_200));
    w.session
        .pipelines()
        .update_stage(stage, |stage| stage.default_probability = percent(30))
        .await
        .unwrap();
    assert_eq!(counted(30).await, 1_200);
    let manual = ProbabilityCalculation::Manual;
    w.session
        .pipelines()
        .set_probability_mode(pipeline, manual, &stop)
        .await
        .unwrap();
    w.session
        .pipelines()
        .set_probability_mode(pipeline, manual, &())
        .await
        .unwrap();
    assert_eq!((counted(77).await, counted(30).await), (3, 1_197));
}
