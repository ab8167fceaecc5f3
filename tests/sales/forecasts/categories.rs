//! Which category counts for a deal. C-014, R-109.

use super::*;

/// C-014, R-109: the category of the stage, unless the deal has its own; won and lost whatever
/// anybody said. By every way of writing.
#[tokio::test]
async fn the_category_that_counts_follows_stage_and_outcome() {
    let office = Office::new().await;
    let deals = || office.session.deals();
    let deal = office.create(office.of_ada("Rollout")).await;
    assert_eq!(office.counting(deal).await, InPipeline);
    deals().move_to(deal, office.offer).await.unwrap();
    assert_eq!(office.counting(deal).await, Commit);
    let own = deals()
        .update(deal, |deal| deal.forecast_category = Some(BestCase))
        .await
        .unwrap();
    assert_eq!(own.counting_category, BestCase);
    deals().move_to(deal, office.lead).await.unwrap();
    assert_eq!(
        office.counting(deal).await,
        BestCase,
        "its own goes with it"
    );
    deals().win(deal).await.unwrap();
    assert_eq!(office.counting(deal).await, Closed);
    let reopened = deals().reopen(deal, Some(office.offer)).await.unwrap();
    assert_eq!(reopened.counting_category, BestCase);
    let patch = json!({"forecast_category": null});
    let patch = patch.as_object().unwrap();
    let merged = deals().merge(deal, reopened.version, patch).await.unwrap();
    assert_eq!(merged.counting_category, Commit);
    let lost = deals().lose(deal, "price").await.unwrap();
    assert_eq!(lost.counting_category, Omitted);
    let lost = deals()
        .update(deal, |deal| deal.forecast_category = Some(Commit))
        .await
        .unwrap();
    assert_eq!(lost.counting_category, Omitted, "lost deals never count");

    // Nobody closes a deal by its category, nor writes the one that counts.
    let open = office.create(office.of_ada("Open")).await;
    let closed = |deal: &mut Deal| deal.forecast_category = Some(Closed);
    let error = deals().update(open, closed).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "forecast_category");
    assert_eq!(error.field_errors()[0].code, "inconsistent");
    let counts = |deal: &mut Deal| deal.counting_category = Commit;
    let error = deals().update(open, counts).await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
    // A stage says what fits its type.
    for (stage, category) in [
        (office.lead, Closed),
        (office.won, Commit),
        (office.lost, Closed),
        (office.lost, InPipeline),
    ] {
        let say = |stage: &mut PipelineStage| stage.forecast_category = Some(category);
        let error = office
            .session
            .pipelines()
            .update_stage(stage, say)
            .await
            .unwrap_err();
        assert_eq!(error.field_errors()[0].path, "forecast_category");
        let say = office
            .session
            .forecasts()
            .categorize_stage(stage, Some(category), &())
            .await;
        assert_eq!(say.unwrap_err().field_errors()[0].code, "inconsistent");
    }
    // A deal that was deleted while its stage changed.
    deals().delete(open).await.unwrap();
    let say = |stage: &mut PipelineStage| stage.forecast_category = Some(WorstCase);
    office
        .session
        .pipelines()
        .update_stage(office.lead, say)
        .await
        .unwrap();
    let restored = deals().restore(open).await.unwrap();
    assert_eq!(restored.counting_category, WorstCase);
}

/// A stage changes its category: few open deals follow in the commit, many in parts, and those with
/// a category of their own never.
#[tokio::test]
async fn deals_follow_the_category_of_their_stage() {
    let office = Office::new().await;
    let session = &office.session;
    let own = office
        .create(Deal {
            forecast_category: Some(Omitted),
            ..office.of_ada("Own")
        })
        .await;
    let archived = office.create(office.of_ada("Archived")).await;
    session.deals().archive(archived).await.unwrap();
    let other = office.of_ada("Elsewhere");
    let other = Deal {
        stage_id: Some(office.offer),
        ..other
    };
    let other = office.create(other).await;
    let say = |category| move |stage: &mut PipelineStage| stage.forecast_category = category;
    session
        .pipelines()
        .update_stage(office.lead, say(Some(BestCase)))
        .await
        .unwrap();
    assert_eq!(office.counting(own).await, Omitted);
    assert_eq!(office.counting(archived).await, BestCase);
    assert_eq!(office.counting(other).await, Commit);
    // One commit with deals that come into the stage.
    let mut work = session.begin();
    let coming = work.deals().create(office.of_ada("Coming")).await.unwrap();
    assert_eq!(coming.counting_category, BestCase);
    work.pipelines()
        .update_stage(office.lead, say(None))
        .await
        .unwrap();
    work.deals().move_to(other, office.lead).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(office.counting(coming.id).await, InPipeline);
    assert_eq!(office.counting(other).await, InPipeline);
    // Too many for one commit.
    let many = (0..520).map(|number| office.of_ada(&format!("Deal {number}")));
    session.deals().create_all(many.collect()).await.unwrap();
    let change = session
        .pipelines()
        .update_stage(office.lead, say(Some(WorstCase)))
        .await;
    assert_eq!(change.unwrap_err().code(), "too_many_deals");
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let forecasts = || session.forecasts();
    let stopped = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &stop)
        .await
        .unwrap();
    assert!(stopped.is_stopped);
    assert_eq!(stopped.deals, 500);
    let rest = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &())
        .await
        .unwrap();
    assert!(!rest.is_stopped);
    assert_eq!(rest.deals, 23);
    let all = office.forecast(&ForecastQuery::default()).await;
    assert_eq!(all.of(WorstCase).deals, 522);
    assert_eq!(all.of(Omitted).deals, 1);
    assert_eq!(office.counting(archived).await, WorstCase);
    let again = forecasts()
        .categorize_stage(office.lead, Some(WorstCase), &())
        .await
        .unwrap();
    assert_eq!(again.deals, 0);
    let mut work = session.begin();
    let error = work
        .forecasts()
        .categorize_stage(office.lead, None, &())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// Another process changed the category of a stage a moment ago: who relies on the old one writes
/// nothing wrong.
#[tokio::test]
async fn an_outdated_category_is_noticed() {
    let office = Office::new().await;
    let storage = office.crm.storage().clone();
    let other = Crm::builder(storage).clock(office.clock.clone()).build();
    let other = other.session(office.session.tenant().unwrap(), office.session.actor());
    // The other one remembers the stages, and time stands still.
    other.deals().create(office.of_ada("Before")).await.unwrap();
    let say = |stage: &mut PipelineStage| stage.forecast_category = Some(WorstCase);
    office
        .session
        .pipelines()
        .update_stage(office.lead, say)
        .await
        .unwrap();
    let after = other.deals().create(office.of_ada("After")).await.unwrap();
    assert_eq!(after.counting_category, WorstCase);
}

/// Deals come into a stage while its category changes: in the end all are in the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deals_that_come_meanwhile_follow_too() {
    let office = Arc::new(Office::new().await);
    for category in [BestCase, Commit, WorstCase] {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..24 {
            let office = office.clone();
            all.spawn(async move {
                let deal = office.of_ada(&format!("Deal {number}"));
                office.create(deal).await;
            });
        }
        let session = office.session.clone();
        let stage = office.lead;
        all.spawn(async move {
            let category = Some(category);
            let done = session
                .forecasts()
                .categorize_stage(stage, category, &())
                .await;
            assert!(!done.unwrap().is_stopped);
        });
        all.join_all().await;
        let forecast = office.forecast(&ForecastQuery::default()).await;
        let filled: Vec<_> = forecast.categories.keys().copied().collect();
        assert_eq!(filled, [category]);
    }
}
