//! C-012, R-042: times in stages with re-entries; deals that rot.

use chrono::TimeDelta;
use crm_engine::deals::StageTimes;
use crm_engine::prelude::*;

use super::{LOST, PROPOSAL, PROSPECTING, QUALIFICATION, World, world};

impl World {
    async fn times(&self, deal: Id<Deal>) -> StageTimes {
        self.session.deals().stage_times(deal).await.unwrap()
    }

    async fn rotting(&self) -> Vec<Id<Deal>> {
        let page = self.session.deals().rotting(Find::new()).await.unwrap();
        page.items.iter().map(|deal| deal.id).collect()
    }

    async fn sleep(&self, days: i64) {
        self.clock.advance(TimeDelta::days(days));
    }
}

/// Times run on where the deal is, re-entries are counted, also through closing, reopening and another
/// pipeline; all together they are the age of the deal.
#[tokio::test]
async fn times_in_stages_add_up_to_the_age() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await;
    let other = other.unwrap().id;
    let due = PipelineStage::new(other, "Due", 1_u32);
    let due = w.session.pipelines().add_stage(due).await.unwrap().id;
    let id = w.new_deal().await;
    w.sleep(1).await;
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.sleep(2).await;
    w.move_to(id, PROSPECTING).await.unwrap();
    w.sleep(4).await;
    w.move_to(id, QUALIFICATION).await.unwrap();
    w.sleep(8).await;
    w.session.deals().lose(id, "price").await.unwrap();
    w.sleep(16).await;
    w.session.deals().reopen(id, None).await.unwrap();
    w.sleep(32).await;
    w.session
        .deals()
        .update(id, |deal| deal.pipeline_id = other)
        .await
        .unwrap();
    w.clock
        .advance(TimeDelta::days(64) + TimeDelta::milliseconds(1));
    let times = w.times(id).await;
    let stays: Vec<_> = times
        .stays
        .iter()
        .map(|stay| (stay.name.as_str(), stay.entry, stay.time.num_days()))
        .collect();
    assert_eq!(
        stays,
        [
            ("Prospecting", 1, 1),
            ("Qualification", 1, 2),
            ("Prospecting", 2, 4),
            ("Qualification", 2, 8),
            ("Closed Lost", 1, 16),
            ("Qualification", 3, 32),
            ("Due", 1, 64),
        ]
    );
    let totals: Vec<_> = times
        .totals()
        .iter()
        .map(|total| (total.stage, total.entries, total.time.num_days()))
        .collect();
    let expected = [
        (w.stage(PROSPECTING), 2, 5),
        (w.stage(QUALIFICATION), 3, 42),
        (w.stage(LOST), 1, 16),
        (due, 1, 64),
    ];
    assert_eq!(totals, expected);
    let age = TimeDelta::days(127) + TimeDelta::milliseconds(1);
    assert_eq!(times.total(), age);
    let last = times.stays.last().unwrap();
    assert_eq!((last.stage, last.left_at), (due, None));
    // Without a move the time runs on.
    w.sleep(1).await;
    assert_eq!(w.times(id).await.total(), age + TimeDelta::days(1));
}

/// Deals rot after the later of the last activity and the entry, as the stage says it now; closed ones
/// never; the list pages, filters and sorts like any other.
#[tokio::test]
async fn deals_that_nobody_works_on_rot() {
    let w = world().await;
    let limit = |place, days| {
        let change = move |stage: &mut PipelineStage| stage.rotting_after_days = days;
        let (session, stage) = (w.session.clone(), w.stage(place));
        async move {
            session
                .pipelines()
                .update_stage(stage, change)
                .await
                .unwrap();
        }
    };
    assert!(w.rotting().await.is_empty(), "no stage lets anything rot");
    limit(PROSPECTING, Some(7)).await;
    limit(PROPOSAL, Some(30)).await;
    let (idle, busy) = (w.new_deal().await, w.new_deal().await);
    let (moved, closed) = (w.new_deal().await, w.new_deal().await);
    w.move_to(moved, PROPOSAL).await.unwrap();
    w.session.deals().lose(closed, "price").await.unwrap();
    w.sleep(6).await;
    assert!(w.rotting().await.is_empty());
    let call = Activity::new(ActivityType::Call, "Ask", busy, w.onboarded.admin);
    let call = w.session.activities().create(call).await.unwrap().id;
    w.session.activities().complete(call, None).await.unwrap();
    w.sleep(1).await;
    assert_eq!(w.rotting().await, [idle]);
    assert!(w.session.deals().is_rotting(idle).await.unwrap());
    assert!(!w.session.deals().is_rotting(busy).await.unwrap());

    // A changed threshold counts at once, both ways.
    limit(PROPOSAL, Some(7)).await;
    assert_eq!(w.rotting().await, [idle, moved]);
    limit(PROSPECTING, Some(1)).await;
    assert_eq!(w.rotting().await, [idle, busy, moved]);
    limit(PROSPECTING, None).await;
    assert_eq!(w.rotting().await, [moved]);
    assert!(!w.session.deals().is_rotting(idle).await.unwrap());
    limit(PROSPECTING, Some(1)).await;

    let one = Find::from(Deal::NAME.eq("Rollout"))
        .sort(Deal::LAST_ACTIVITY_AT.desc())
        .limit(1);
    let mut seen = Vec::new();
    let mut page = w.session.deals().rotting(one.clone()).await.unwrap();
    loop {
        seen.extend(page.items.iter().map(|deal| deal.id));
        let Some(next) = page.next else { break };
        page = w
            .session
            .deals()
            .rotting(one.clone().after(next))
            .await
            .unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [idle, busy, moved]);
    let nobodys = Find::from(Deal::OWNER_ID.eq(w.onboarded.admin));
    assert!(
        w.session
            .deals()
            .rotting(nobodys)
            .await
            .unwrap()
            .items
            .is_empty()
    );

    // Entering a stage is a sign of life, closing the end of rotting, archiving takes off the list.
    w.move_to(idle, QUALIFICATION).await.unwrap();
    w.move_to(idle, PROSPECTING).await.unwrap();
    assert!(!w.session.deals().is_rotting(idle).await.unwrap());
    w.session.deals().win(moved).await.unwrap();
    assert_eq!(w.rotting().await, [busy]);
    w.session.deals().archive(busy).await.unwrap();
    assert!(w.rotting().await.is_empty());
}
