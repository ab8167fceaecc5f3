//! The score of a lead, as it is written and as time goes by.

use std::ops::ControlFlow;
use std::sync::Mutex;

use ScoringOperator as Op;
use chrono::TimeDelta;
use crm_engine::engine::Clock;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use crm_engine::scoring::{
    ACTIVITY_COUNT, ActivityCount, Decay, LeadScoringRule, ScoreCause, ScoringOperator,
    ScoringRuleType,
};
use serde_json::json;

use super::{
    assert_history_says_the_score, at_a_set_time, company, draft, held, publish, rule, score,
};
use crate::common::{crm, rows_of, tenant};

/// C-007, C-075: a lead is scored when it is created and when something changes that rules look at.
#[tokio::test]
async fn leads_are_scored_when_they_are_written() {
    let (_, session) = tenant(&crm(), "acme").await;
    let leads = || session.leads();
    let before = leads().create(company("software", 10)).await.unwrap();
    assert_eq!(score(&before), (0, None));
    let set = draft(
        &session,
        "First",
        &[
            ("industry", Op::Equals, json!("software"), 30),
            ("employee_count", Op::GreaterThan, json!(100), 25),
            (
                "custom_fields.segment",
                Op::In,
                json!(["gold", "silver"]),
                10,
            ),
            ("tags", Op::Contains, json!("fair"), 5),
        ],
    )
    .await;
    publish(&session, set).await;
    let lead = leads().create(company("software", 200)).await.unwrap();
    assert_eq!(score(&lead), (55, Some("B")));
    let stored = leads().get(lead.id).await.unwrap();
    assert_eq!(stored.data, lead.data);
    // A field that no rule looks at.
    let same = leads()
        .update(lead.id, |lead| lead.job_title = Some("Head".into()))
        .await
        .unwrap();
    assert_eq!(score(&same), (55, Some("B")));
    assert_eq!(assert_history_says_the_score(&session, lead.id).await, 1);
    // By JSON, a custom field and a list.
    let patch = json!({"custom_fields": {"segment": "gold"}, "tags": ["fair"]});
    let patched = leads()
        .merge(lead.id, same.version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(score(&patched), (70, Some("A")));
    // Twice in one unit of work is once in the history.
    let mut work = session.begin();
    work.leads()
        .update(lead.id, |lead| lead.industry = None)
        .await
        .unwrap();
    work.leads()
        .update(lead.id, |lead| lead.employee_count = None)
        .await
        .unwrap();
    work.commit().await.unwrap();
    let lead = leads().get(lead.id).await.unwrap();
    assert_eq!(score(&lead), (15, Some("C")));
    assert_eq!(assert_history_says_the_score(&session, lead.id).await, 3);
    let history = leads().score_history(lead.id).await.unwrap();
    let last = &history[2];
    assert_eq!((last.cause, last.score_change), (ScoreCause::Rules, -55));
    assert_eq!(
        (last.rule_set_id, last.rule_set_revision),
        (Some(set), Some(1))
    );
    let given = last.points_given.as_ref().unwrap();
    let names: Vec<&str> = given.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(given.points, 15);
    assert!(names[0].contains("custom_fields.segment") && names[1].contains("tags"));
    // The lead from before is scored when it is asked for.
    let rescored = leads().rescore(before.id).await.unwrap();
    assert_eq!(score(&rescored), (30, Some("B")));
    let again = leads().rescore(before.id).await.unwrap();
    assert_eq!(again.version, rescored.version);
    // A grade that follows the score is not set by hand.
    let kept = leads()
        .update(before.id, |lead| lead.grade = Some("A".into()))
        .await
        .unwrap();
    assert_eq!(score(&kept), (30, Some("B")));
}

/// the sum may leave 0 to 100, the score does not, and nothing is lost of either.
#[tokio::test]
async fn points_by_hand_stay_whatever_rules_say() {
    let (_, session) = tenant(&crm(), "acme").await;
    let leads = || session.leads();
    let lead = leads().create(company("software", 10)).await.unwrap().id;
    let adjusted = leads().adjust(lead, 80, "fair").await.unwrap();
    assert_eq!(score(&adjusted), (80, None));
    assert_eq!(
        score(&leads().adjust(lead, 40, "call").await.unwrap()),
        (100, None)
    );
    assert_eq!(
        score(&leads().adjust(lead, -30, "no").await.unwrap()),
        (90, None)
    );
    assert_eq!(
        score(&leads().adjust(lead, -100, "no").await.unwrap()),
        (0, None)
    );
    assert_eq!(
        score(&leads().adjust(lead, 20, "yes").await.unwrap()),
        (10, None)
    );
    assert_eq!(assert_history_says_the_score(&session, lead).await, 5);
    let set = draft(&session, "S", &[("industry", Op::Exists, json!(null), 35)]).await;
    publish(&session, set).await;
    assert_eq!(
        score(&leads().rescore(lead).await.unwrap()),
        (45, Some("B"))
    );
    assert_eq!(
        score(&leads().adjust(lead, -20, "no").await.unwrap()),
        (25, Some("C"))
    );
    let told = leads().explain(lead).await.unwrap();
    assert_eq!(
        (told.points, told.adjustment, told.score.value()),
        (35, -10, 25)
    );
    // Two entries of one commit: by hand, and what the rules then say.
    let mut work = session.begin();
    work.leads().adjust(lead, 5, "yes").await.unwrap();
    work.leads()
        .update(lead, |lead| lead.industry = None)
        .await
        .unwrap();
    work.commit().await.unwrap();
    assert_eq!(score(&leads().get(lead).await.unwrap()), (0, Some("C")));
    assert_history_says_the_score(&session, lead).await;
    let history = leads().score_history(lead).await.unwrap();
    assert_eq!(history[0].reason.as_deref(), Some("fair"));
    for (points, reason, path) in [
        (0, "x", "score_change"),
        (101, "x", "score_change"),
        (-101, "x", "score_change"),
        (5, " ", "reason"),
    ] {
        let error = leads().adjust(lead, points, reason).await.unwrap_err();
        assert_eq!(error.field_errors()[0].path, path);
    }
    // Nobody else writes a score.
    let error = leads()
        .update(lead, |lead| {
            lead.score_adjustment = 9;
            lead.score_total = 9;
        })
        .await
        .unwrap_err();
    let codes: Vec<_> = error
        .field_errors()
        .iter()
        .map(|fault| fault.code)
        .collect();
    assert_eq!(codes, [codes::READ_ONLY; 2]);
}

/// Rules count activities: the lead is scored with them, and again when time has passed.
#[tokio::test]
async fn activities_count() {
    let (crm, clock) = at_a_set_time();
    let (onboarded, session) = tenant(&crm, "acme").await;
    let set = draft(&session, "S", &[]).await;
    let calls = |least: i32, within_days| LeadScoringRule {
        name: format!("{least} calls"),
        rule_type: ScoringRuleType::Engagement,
        activities: Some(ActivityCount {
            activity_type: Some(ActivityType::Call),
            status: Some(ActivityStatus::Completed),
            within_days,
        }),
        ..rule(set, ACTIVITY_COUNT, Op::Between, json!([least, null]), 20)
    };
    let any = LeadScoringRule {
        name: "any".into(),
        ..rule(set, ACTIVITY_COUNT, Op::GreaterThan, json!(0), 5)
    };
    for rule in [calls(1, Some(30)), calls(3, Some(30)), calls(2, None), any] {
        session.scoring_rules().create(rule).await.unwrap();
    }
    publish(&session, set).await;
    let lead = session.leads().create(company("x", 1)).await.unwrap().id;
    let now = async || session.leads().get(lead).await.unwrap().lead_score.value();
    let hold = async |kind| {
        let activity = held(onboarded.admin, lead, kind);
        let activity = session.activities().create(activity).await.unwrap();
        let done = session.activities().complete(activity.id, None).await;
        done.unwrap().id
    };
    assert_eq!(now().await, 0);
    hold(ActivityType::Email).await;
    assert_eq!(now().await, 5);
    let first = hold(ActivityType::Call).await;
    assert_eq!(now().await, 25);
    hold(ActivityType::Call).await;
    assert_eq!(now().await, 45);
    clock.advance(TimeDelta::days(20));
    hold(ActivityType::Call).await;
    assert_eq!(now().await, 65);
    session.activities().delete(first).await.unwrap();
    assert_eq!(now().await, 45);
    session.activities().restore(first).await.unwrap();
    assert_eq!(now().await, 65);
    // One call of the last 30 days is left, of three.
    clock.advance(TimeDelta::days(15));
    assert_eq!(now().await, 65);
    let told = session.leads().explain(lead).await.unwrap();
    assert_eq!(told.score.value(), 45);
    let done = session.leads().rescore_all(&()).await.unwrap();
    assert_eq!((done.checked, done.changed), (1, 1));
    assert_eq!(now().await, 45);
    // An activity that goes to another lead counts there.
    let other = session.leads().create(company("x", 1)).await.unwrap().id;
    session
        .activities()
        .update(first, |activity| activity.links.lead_id = Some(other))
        .await
        .unwrap();
    let moved = session.leads().get(other).await.unwrap();
    assert_eq!((now().await, moved.lead_score.value()), (45, 5));
    for lead in [lead, other] {
        assert_history_says_the_score(&session, lead).await;
    }
}

/// Points fade; a run writes only where a score changes.
#[tokio::test]
async fn points_fade_with_time() {
    let (crm, clock) = at_a_set_time();
    let (onboarded, session) = tenant(&crm, "acme").await;
    let of = [
        ("industry", Op::Exists, json!(null), 80),
        ("company", Op::Exists, json!(null), 20),
    ];
    let set = draft(&session, "S", &of).await;
    let rules = session.scoring_rule_sets().rules(set).await.unwrap();
    let first = rules.iter().find(|rule| rule.score_change == 80).unwrap();
    session
        .scoring_rules()
        .update(first.id, |rule| {
            rule.rule_type = ScoringRuleType::Behavioral;
        })
        .await
        .unwrap();
    session
        .scoring_rule_sets()
        .update(set, |set| {
            set.decay = Some(Decay::half_life(10).of(ScoringRuleType::Behavioral));
        })
        .await
        .unwrap();
    publish(&session, set).await;
    let lead = session.leads().create(company("x", 1)).await.unwrap();
    assert_eq!(score(&lead), (100, Some("A")));
    let lead = lead.id;
    let mut last = 100;
    for (days, expected) in [(0, 100), (10, 60), (10, 40), (9, 31), (0, 31), (400, 20)] {
        clock.advance(TimeDelta::days(days));
        let done = session.leads().rescore_all(&()).await.unwrap();
        let stored = session.leads().get(lead).await.unwrap();
        assert_eq!(stored.lead_score.value(), expected);
        assert_eq!(done.changed, u64::from(expected != last));
        assert!(expected <= last, "decay is monotone");
        last = expected;
    }
    assert_eq!(assert_history_says_the_score(&session, lead).await, 5);
    // An activity brings them back.
    let call = held(onboarded.admin, lead, ActivityType::Call);
    let call = session.activities().create(call).await.unwrap();
    session.activities().complete(call.id, None).await.unwrap();
    let stored = session.leads().get(lead).await.unwrap();
    assert_eq!(score(&stored), (100, Some("A")));
    clock.advance(TimeDelta::days(10));
    let told = session.leads().explain(lead).await.unwrap();
    let decay = told.decay.unwrap();
    assert_eq!((decay.days, decay.before, decay.after), (10, 80, 40));
    let rescored = session.leads().rescore(lead).await.unwrap();
    assert_eq!(rescored.lead_score.value(), 60);
    let history = session.leads().score_history(lead).await.unwrap();
    let given = history.last().unwrap().points_given.as_ref().unwrap();
    assert_eq!((given.decay, given.points), (-40, 60));
}

/// Points fade since a moment that a custom field holds, and come back when it is set anew.
#[tokio::test]
async fn points_fade_since_a_custom_moment() {
    let (crm, clock) = at_a_set_time();
    let (_, session) = tenant(&crm, "acme").await;
    let set = draft(&session, "S", &[("company", Op::Exists, json!(null), 80)]).await;
    let decay = Decay {
        since: "custom_fields.visited_at".into(),
        ..Decay::half_life(10)
    };
    session
        .scoring_rule_sets()
        .update(set, |set| set.decay = Some(decay.clone()))
        .await
        .unwrap();
    publish(&session, set).await;
    let now = clock.now();
    let visited = |at: chrono::DateTime<chrono::Utc>| json!({"visited_at": at.to_rfc3339()});
    let came = Lead {
        custom_fields: visited(now - TimeDelta::days(10)),
        ..company("x", 1)
    };
    let lead = session.leads().create(came).await.unwrap();
    assert_eq!(lead.lead_score.value(), 40);
    let again = visited(now);
    session
        .leads()
        .update(lead.id, |lead| lead.custom_fields = again.clone())
        .await
        .unwrap();
    let stored = session.leads().get(lead.id).await.unwrap();
    assert_eq!(stored.lead_score.value(), 80);
    clock.advance(TimeDelta::days(20));
    session.leads().rescore_all(&()).await.unwrap();
    let stored = session.leads().get(lead.id).await.unwrap();
    assert_eq!(stored.lead_score.value(), 20);
    assert_history_says_the_score(&session, lead.id).await;
}

/// The run reports, can be stopped, goes on, and changes nothing when it is run again; what a
/// simulation told before is what it does.
#[tokio::test]
async fn all_leads_are_scored_in_steps() {
    let (_, session) = tenant(&crm(), "acme").await;
    for chunk in 0..3 {
        let leads = (0..400).map(|number| company("x", number + 400 * chunk));
        session.leads().create_all(leads.collect()).await.unwrap();
    }
    let rules = [("employee_count", Op::Between, json!([100, null]), 35)];
    let set = draft(&session, "S", &rules).await;
    let before = rows_of(&session, "lead").await;
    let sets = || session.scoring_rule_sets();
    let all = || Filter::all();
    let told = sets().simulate(set, all(), 5, &()).await.unwrap();
    assert_eq!(
        (told.checked, told.changed, told.regraded),
        (1_200, 1_100, 1_200)
    );
    assert_eq!(told.leads.len(), 5);
    assert_eq!(told.grades[&(None, Some("B".into()))], 1_100);
    assert_eq!(told.grades[&(None, Some("C".into()))], 100);
    let large = Lead::EMPLOYEE_COUNT.ge(1_190);
    let some = sets().simulate(set, large, 50, &()).await.unwrap();
    assert_eq!((some.checked, some.leads.len()), (10, 10));
    assert_eq!(some.leads[0].to.value(), 35);
    let after = rows_of(&session, "lead").await;
    let versions = |rows: &[crm_engine::schema::Row]| -> Vec<i64> {
        rows.iter().map(|row| row.version()).collect()
    };
    assert_eq!(versions(&before), versions(&after));
    assert!(rows_of(&session, "lead_scoring_history").await.is_empty());

    publish(&session, set).await;
    let reports = Mutex::new(Vec::new());
    let stop = |done: u64, total: Option<u64>| {
        reports.lock().unwrap().push((done, total));
        ControlFlow::Break(())
    };
    let stopped = session.leads().rescore_all(&stop).await.unwrap();
    assert!(stopped.is_stopped);
    assert_eq!((stopped.checked, stopped.changed), (500, 400));
    let go_on = |done: u64, total: Option<u64>| {
        reports.lock().unwrap().push((done, total));
        ControlFlow::Continue(())
    };
    let rest = session.leads().rescore_all(&go_on).await.unwrap();
    assert_eq!(
        (rest.checked, rest.changed, rest.is_stopped),
        (1_200, 700, false)
    );
    let steps = [500, 500, 1_000, 1_200].map(|done| (done, Some(1_200)));
    assert_eq!(*reports.lock().unwrap(), steps);
    let again = session.leads().rescore_all(&()).await.unwrap();
    assert_eq!(
        (again.checked, again.changed, again.regraded),
        (1_200, 0, 0)
    );
    let scored = Lead::LEAD_SCORE.eq(Score::clamped(35));
    assert_eq!(session.leads().count(scored).await.unwrap(), 1_100);
    assert_eq!(rows_of(&session, "lead_scoring_history").await.len(), 1_100);
    let mut work = session.begin();
    let error = work.leads().rescore_all(&()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// R-029, C-108: many writers of one lead and of the rule sets at the same time; the history has no
/// gap, nothing is lost, and at the end the score is what the rules and the adjustments say.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_lose_nothing() {
    let (onboarded, session) = tenant(&crm(), "acme").await;
    let rules = |points: i32| {
        [
            ("employee_count", Op::GreaterThan, json!(50), points),
            (ACTIVITY_COUNT, Op::GreaterThan, json!(2), 15),
        ]
    };
    let first = draft(&session, "First", &rules(20)).await;
    let second = draft(&session, "Second", &rules(45)).await;
    publish(&session, first).await;
    let lead = session.leads().create(company("x", 1)).await.unwrap().id;
    let mut tasks = Vec::new();
    for task in 0..4_i32 {
        let session = session.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..6 {
                let leads = || session.leads();
                match (task + round) % 4 {
                    0 => drop(leads().adjust(lead, 7 - task, "by hand").await.unwrap()),
                    1 => {
                        let staff = 40 + 10 * task + round;
                        let set = |lead: &mut Lead| lead.employee_count = Some(staff);
                        drop(leads().update(lead, set).await.unwrap());
                    }
                    2 => drop(leads().rescore_all(&()).await.unwrap()),
                    _ => {
                        let call = held(onboarded.admin, lead, ActivityType::Call);
                        let call = session.activities().create(call).await.unwrap();
                        session.activities().complete(call.id, None).await.unwrap();
                    }
                }
            }
        }));
    }
    let publisher = session.clone();
    tasks.push(tokio::spawn(async move {
        publish(&publisher, second).await;
    }));
    for task in tasks {
        task.await.unwrap();
    }
    assert_history_says_the_score(&session, lead).await;
    let told = session.leads().explain(lead).await.unwrap();
    let rescored = session.leads().rescore(lead).await.unwrap();
    assert_eq!(rescored.lead_score, told.score);
    assert_eq!(told.rule_set, Some(second));
    // By hand: each task adjusted when `(task + round) % 4` was 0.
    let by_hand: i32 = (0..4_i32)
        .map(|task| (0..6).filter(|round| (task + round) % 4 == 0).count() as i32 * (7 - task))
        .sum();
    assert_eq!(rescored.score_adjustment, by_hand);
    assert_history_says_the_score(&session, lead).await;
}
