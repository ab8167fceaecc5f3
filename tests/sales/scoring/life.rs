//! Leads that are done, converted or merged, and their history.

use ScoringOperator as Op;
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::scoring::{ACTIVITY_COUNT, LeadScoreChange, ScoringOperator};
use serde_json::json;

use super::{assert_history_says_the_score, company, draft, held, publish, score};
use crate::common::{crm, rows_of, tenant};

/// Leads that are done keep their scores; those that come back are scored again.
#[tokio::test]
async fn leads_that_are_done_are_not_scored() {
    let (_, session) = tenant(&crm(), "acme").await;
    let first = draft(&session, "S", &[("company", Op::Exists, json!(null), 40)]).await;
    publish(&session, first).await;
    let leads = || session.leads();
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(leads().create(company("x", 1)).await.unwrap().id);
    }
    leads().archive(made[0]).await.unwrap();
    leads().delete(made[1]).await.unwrap();
    leads()
        .update(made[2], |lead| lead.status = LeadStatus::Archived)
        .await
        .unwrap();
    let second = draft(&session, "T", &[("company", Op::Exists, json!(null), 70)]).await;
    publish(&session, second).await;
    let told = session
        .scoring_rule_sets()
        .simulate(second, Filter::all(), 10, &())
        .await
        .unwrap();
    assert_eq!((told.checked, told.changed, told.leads.len()), (1, 1, 1));
    let done = leads().rescore_all(&()).await.unwrap();
    assert_eq!((done.checked, done.changed, done.regraded), (1, 1, 1));
    for (place, expected) in [(0, 40), (2, 40), (3, 70)] {
        let lead = leads().rescore(made[place]).await.unwrap();
        assert_eq!(lead.lead_score.value(), expected);
    }
    let back = leads().unarchive(made[0]).await.unwrap();
    assert_eq!(score(&back), (70, Some("A")));
    let back = leads().restore(made[1]).await.unwrap();
    assert_eq!(score(&back), (70, Some("A")));
    let back = leads()
        .update(made[2], |lead| lead.status = LeadStatus::New)
        .await
        .unwrap();
    assert_eq!(score(&back), (70, Some("A")));
    for lead in made {
        assert_history_says_the_score(&session, lead).await;
    }
}

/// a converted lead keeps its score, by hand too, until it is a lead again.
#[tokio::test]
async fn a_converted_lead_keeps_its_score() {
    let (onboarded, session) = tenant(&crm(), "acme").await;
    let rules = [
        ("company", Op::Exists, json!(null), 40),
        (ACTIVITY_COUNT, Op::GreaterThan, json!(0), 15),
    ];
    let set = draft(&session, "S", &rules).await;
    publish(&session, set).await;
    let person = Lead {
        name: Some(PersonName::new("Ada", "Lovelace")),
        ..company("x", 1)
    };
    let lead = session.leads().create(person).await.unwrap().id;
    session.leads().adjust(lead, 5, "fair").await.unwrap();
    let plan = ConversionPlan::new();
    let done = session.leads().convert(lead, plan).await.unwrap();
    assert_eq!(done.lead.lead_score.value(), 45);
    let error = session.leads().adjust(lead, 5, "late").await.unwrap_err();
    assert_eq!(error.code(), "converted");
    let call = held(onboarded.admin, lead, ActivityType::Call);
    session.activities().create(call).await.unwrap();
    session.leads().rescore_all(&()).await.unwrap();
    let kept = session.leads().rescore(lead).await.unwrap();
    assert_eq!(kept.lead_score.value(), 45);
    assert_eq!(assert_history_says_the_score(&session, lead).await, 2);
    // What happened meanwhile counts once it is a lead again.
    let back = session.leads().undo_conversion(lead).await.unwrap();
    let back = session.leads().get(back.id).await.unwrap();
    assert_eq!(score(&back), (60, Some("A")));
    assert_history_says_the_score(&session, lead).await;
}

/// A merge scores the survivor by what it has then; undoing it does not unwrite history.
#[tokio::test]
async fn merges_keep_score_and_history_together() {
    let (_, session) = tenant(&crm(), "acme").await;
    let rules = [
        ("company", Op::Exists, json!(null), 10),
        ("industry", Op::Exists, json!(null), 40),
    ];
    let set = draft(&session, "S", &rules).await;
    publish(&session, set).await;
    let survivor = Lead {
        industry: None,
        ..company("x", 1)
    };
    let survivor = session.leads().create(survivor).await.unwrap().id;
    let loser = session
        .leads()
        .create(company("software", 1))
        .await
        .unwrap()
        .id;
    session.leads().adjust(survivor, 3, "fair").await.unwrap();
    session.leads().adjust(loser, 7, "fair").await.unwrap();
    session
        .leads()
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await
        .unwrap();
    let merged = session.leads().get(survivor).await.unwrap();
    assert_eq!(score(&merged), (53, Some("B")));
    assert_history_says_the_score(&session, survivor).await;
    session.leads().adjust(survivor, 5, "call").await.unwrap();
    let merge = session.merges().find(Find::<Merge>::new()).await.unwrap();
    let merge = merge.items[0].id;
    session.merges().undo(merge).await.unwrap();
    let alone = session.leads().get(survivor).await.unwrap();
    assert_eq!(score(&alone), (18, Some("C")));
    assert_history_says_the_score(&session, loser).await;
    let back = session.leads().get(loser).await.unwrap();
    assert_eq!(back.lead_score.value(), 57);
    assert_history_says_the_score(&session, survivor).await;
}

/// The history is a log: nobody writes it, and it goes only with its lead.
#[tokio::test]
async fn the_history_goes_with_its_lead_only() {
    let (_, session) = tenant(&crm(), "acme").await;
    let lead = session.leads().create(company("x", 1)).await.unwrap().id;
    session.leads().adjust(lead, 30, "fair").await.unwrap();
    let entry = session.leads().score_history(lead).await.unwrap()[0].id;
    let error = session.records::<LeadScoreChange>().delete(entry).await;
    assert_eq!(error.unwrap_err().code(), "forbidden");
    session.leads().delete(lead).await.unwrap();
    assert_eq!(rows_of(&session, "lead_scoring_history").await.len(), 1);
    session.leads().purge(lead).await.unwrap();
    assert!(rows_of(&session, "lead_scoring_history").await.is_empty());
}
