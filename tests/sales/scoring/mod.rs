//! C-007, C-008, C-075, C-108, R-028 to: rule sets and their life, scores
//! that are the clamped sum of their history whatever happens at the same time, explanations, decay,
//! simulation, and the scoring of all leads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod life;
mod properties;
mod rule_sets;
mod scores;

use std::sync::Arc;

use ScoringOperator as Op;
use crm_engine::engine::{Clock, ManualClock, SystemClock};
use crm_engine::prelude::*;
use crm_engine::scoring::{
    GradeBands, LeadScoringRule, LeadScoringRuleSet, ScoreCause, ScoringOperator, ScoringRuleType,
};
use serde_json::Value as Json;

use crate::common;

type Set = Id<LeadScoringRuleSet>;

/// A CRM whose clock is set by the test.
fn at_a_set_time() -> (Crm, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Clock::now(&SystemClock)));
    let crm = Crm::builder(common::backend::storage(&[]))
        .clock(clock.clone())
        .build();
    (crm, clock)
}

fn rule(set: Set, field: &str, operator: Op, value: Json, points: i32) -> LeadScoringRule {
    let name = format!("{field} {operator} {value}");
    let kind = ScoringRuleType::Firmographic;
    LeadScoringRule {
        condition_value: Some(value).filter(|value| !value.is_null()),
        ..LeadScoringRule::new(set, name, kind, field, operator, points)
    }
}

async fn draft(session: &Session, name: &str, rules: &[(&str, Op, Json, i32)]) -> Set {
    let set = LeadScoringRuleSet {
        grades: GradeBands::default()
            .with("A", 60)
            .with("B", 30)
            .with("C", 0),
        ..LeadScoringRuleSet::new(name)
    };
    let set = session.scoring_rule_sets().create(set).await.unwrap().id;
    for (field, operator, value, points) in rules {
        let rule = rule(set, field, *operator, value.clone(), *points);
        session.scoring_rules().create(rule).await.unwrap();
    }
    set
}

async fn publish(session: &Session, set: Set) {
    session.scoring_rule_sets().publish(set).await.unwrap();
}

fn company(industry: &str, staff: i32) -> Lead {
    Lead {
        company: Some("Globex".into()),
        industry: Some(industry.into()),
        employee_count: Some(staff),
        ..Lead::default()
    }
}

fn score(lead: &Lead) -> (u8, Option<&str>) {
    (lead.lead_score.value(), lead.grade.as_deref())
}

/// C-008: the history leads from one score to the next, and its sum, clamped, is the
/// score.
async fn assert_history_says_the_score(session: &Session, lead: Id<Lead>) -> usize {
    let stored = session.leads().get(lead).await.unwrap();
    let history = session.leads().score_history(lead).await.unwrap();
    let (mut sum, mut by_hand, mut last) = (0_i64, 0_i64, Score::MIN);
    for entry in &history {
        assert_eq!(entry.previous_score, last, "the history has a gap");
        sum += i64::from(entry.score_change);
        if entry.cause == ScoreCause::Adjustment {
            by_hand += i64::from(entry.score_change);
        }
        assert_eq!(entry.new_score, Score::clamped(sum));
        last = entry.new_score;
    }
    assert_eq!(stored.lead_score, Score::clamped(sum));
    assert_eq!(i64::from(stored.score_total), sum);
    assert_eq!(i64::from(stored.score_adjustment), by_hand);
    history.len()
}

fn held(user: Id<User>, lead: Id<Lead>, kind: ActivityType) -> Activity {
    Activity::new(kind, "Talk", lead, user)
}
