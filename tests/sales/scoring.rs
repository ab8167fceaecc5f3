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

use crate::common;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::{crm, rows_of, tenant};
use chrono::TimeDelta;
use crm_engine::engine::{Clock, ManualClock, SystemClock};
use crm_engine::error::codes;
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::scoring::{
    ACTIVITY_COUNT, ActivityCount, Decay, GradeBands, LeadScoreChange, LeadScoringRule,
    LeadScoringRuleSet, RuleSetStatus, ScoreCause, ScoringGroups, ScoringOperator, ScoringRuleType,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use ScoringOperator as Op;

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

/// C-007, R-302: a set is changed as a draft only; publishing retires the one before.
#[tokio::test]
async fn a_published_set_stays_as_it_is() {
    let (_, session) = tenant(&crm(), "acme").await;
    let sets = || session.scoring_rule_sets();
    let first = draft(
        &session,
        "First",
        &[("company", Op::Exists, json!(null), 40)],
    )
    .await;
    publish(&session, first).await;
    let lead = session.leads().create(company("x", 1)).await.unwrap().id;
    let refused = [
        sets().publish(first).await.map(|_| ()).unwrap_err(),
        sets().delete(first).await.unwrap_err(),
        sets()
            .update(first, |set| set.maximum = Some(3))
            .await
            .map(|_| ())
            .unwrap_err(),
        session
            .scoring_rules()
            .create(rule(first, "email", Op::Exists, json!(null), 1))
            .await
            .map(|_| ())
            .unwrap_err(),
    ];
    let own = sets().rules(first).await.unwrap();
    let refused_rules = [
        session
            .scoring_rules()
            .update(own[0].id, |rule| rule.score_change = 3)
            .await
            .map(|_| ())
            .unwrap_err(),
        session.scoring_rules().delete(own[0].id).await.unwrap_err(),
        session
            .scoring_rules()
            .archive(own[0].id)
            .await
            .map(|_| ())
            .unwrap_err(),
    ];
    for error in refused.iter().chain(&refused_rules) {
        assert_eq!(error.code(), "rule_set_not_draft");
    }
    // Notes may be added.
    sets()
        .update(first, |set| set.description = Some("of spring".into()))
        .await
        .unwrap();
    let second = sets().copy(first, "Second").await.unwrap();
    assert_eq!(
        (second.status, second.revision),
        (RuleSetStatus::Draft, None)
    );
    let copied = sets().rules(second.id).await.unwrap();
    assert_eq!(copied.len(), 1);
    session
        .scoring_rules()
        .update(copied[0].id, |rule| rule.score_change = 70)
        .await
        .unwrap();
    assert_eq!(
        score(&session.leads().rescore(lead).await.unwrap()),
        (40, Some("B"))
    );
    let published = sets().publish(second.id).await.unwrap();
    assert_eq!(
        (published.status, published.revision, published.is_published),
        (RuleSetStatus::Published, Some(2), true)
    );
    assert_eq!(sets().published().await.unwrap().unwrap().id, second.id);
    let retired = sets().get(first).await.unwrap();
    assert_eq!(
        (retired.status, retired.is_published),
        (RuleSetStatus::Retired, false)
    );
    assert!(retired.retired_at.is_some());
    assert_eq!(
        score(&session.leads().rescore(lead).await.unwrap()),
        (70, Some("A"))
    );
    // What was scored by the first set is still told by it.
    let history = session.leads().score_history(lead).await.unwrap();
    assert_eq!(history[0].rule_set_id, Some(first));
    assert_eq!(
        history[0].points_given.as_ref().unwrap().rules[0].points,
        40
    );
    // Without a published set scores stay.
    let none = sets().retire(second.id).await.unwrap();
    assert_eq!(none.status, RuleSetStatus::Retired);
    let error = sets().retire(second.id).await.unwrap_err();
    assert_eq!(error.code(), "rule_set_not_published");
    let same = session
        .leads()
        .update(lead, |lead| lead.company = Some("Other".into()))
        .await
        .unwrap();
    assert_eq!(score(&same), (70, Some("A")));
    assert_eq!(session.leads().rescore_all(&()).await.unwrap().checked, 0);
    assert_eq!(session.leads().explain(lead).await.unwrap().points, 70);
    // A draft that nobody wants goes with its rules, and comes back with them.
    let third = sets().copy(first, "Third").await.unwrap().id;
    sets().delete(third).await.unwrap();
    assert_eq!(sets().restore(third).await.unwrap().name, "Third");
    assert_eq!(sets().rules(third).await.unwrap().len(), 1);
}

///
#[tokio::test]
async fn the_standard_rules_give_what_the_model_says() {
    let (_, session) = tenant(&crm(), "acme").await;
    let set = session
        .scoring_rule_sets()
        .create_standard("Standard")
        .await
        .unwrap();
    publish(&session, set.id).await;
    let full = Lead {
        email: EmailAddress::parse("ada@globex.example").ok(),
        phone: PhoneNumber::parse("+41 44 668 18 00").ok(),
        ..company("x", 1)
    };
    let lead = session.leads().create(full).await.unwrap();
    assert_eq!(lead.lead_score.value(), 45);
    let told = session.leads().explain(lead.id).await.unwrap();
    let points: Vec<i64> = told.rules.iter().map(|rule| rule.points).collect();
    assert_eq!(points, [20, 10, 15]);
    let company_only = session.leads().create(company("x", 1)).await.unwrap();
    assert_eq!(company_only.lead_score.value(), 20);
}

/// faults are told by field when a rule is written.
#[tokio::test]
async fn faulty_rules_are_refused() {
    let (_, session) = tenant(&crm(), "acme").await;
    let set = draft(&session, "S", &[]).await;
    let faulty = [
        (json!({"condition_field": "colour"}), "condition_field"),
        (json!({"condition_field": "grade"}), "condition_field"),
        (json!({"condition_value": null}), "condition_value"),
        (json!({"condition_operator": "exists"}), "condition_value"),
        (json!({"condition_operator": "like"}), "condition_operator"),
        (
            json!({"condition_operator": "older_than"}),
            "condition_operator",
        ),
        (json!({"score_change": 101}), "score_change"),
        (json!({"score_change": -101}), "score_change"),
        (json!({"rule_type": "magic"}), "rule_type"),
        (json!({"group_name": "web"}), "group_name"),
        (json!({"activities": {}}), "activities"),
        (
            json!({"condition_field": ACTIVITY_COUNT, "condition_value": 3,
                   "activities": {"within_days": 0}}),
            "activities",
        ),
        (json!({"activities": {"colour": 1}}), "activities"),
        (json!({"rule_set_id": Uuid::from_u128(3)}), "rule_set_id"),
    ];
    let good = json!({
        "rule_set_id": set, "name": "Rule", "rule_type": "firmographic",
        "condition_field": "industry", "condition_operator": "equals",
        "condition_value": "software", "score_change": 5,
    });
    let mut rules = session.object("lead_scoring_rule").await.unwrap();
    for (change, path) in faulty {
        let mut body = good.as_object().unwrap().clone();
        body.extend(change.as_object().unwrap().clone());
        let error = rules.create(&body).await.unwrap_err();
        let paths: Vec<&str> = error.field_errors().iter().map(|one| &*one.path).collect();
        assert_eq!(paths, [path], "{change}: {error}");
    }
    let made = rules.create(good.as_object().unwrap()).await.unwrap();
    let error = rules.create(good.as_object().unwrap()).await.unwrap_err();
    assert_eq!(error.code(), "duplicate", "R-302");
    let other = draft(&session, "T", &[]).await;
    let error = session
        .scoring_rules()
        .update(Id::new(made.id()), |rule| rule.rule_set_id = other)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].code, codes::READ_ONLY);
    let faulty = [
        (json!({"minimum": 5, "maximum": 4}), "maximum"),
        (json!({"groups": [{"name": ""}]}), "groups"),
        (json!({"groups": [{"name": "a"}, {"name": "a"}]}), "groups"),
        (
            json!({"groups": [{"name": "a", "minimum": 2, "maximum": 1}]}),
            "groups",
        ),
        (json!({"grades": [{"grade": "A", "from": 101}]}), "grades"),
        (
            json!({"grades": [{"grade": "A", "from": 1}, {"grade": "B", "from": 1}]}),
            "grades",
        ),
        (
            json!({"decay": {"method": {"half_life": {"days": 0}}}}),
            "decay",
        ),
        (
            json!({"decay": {"method": {"half_life": {"days": 3}}, "since": "company"}}),
            "decay",
        ),
        (json!({"status": "published"}), "status"),
        (json!({"is_published": true}), "is_published"),
    ];
    let mut sets = session.object("lead_scoring_rule_set").await.unwrap();
    for (change, path) in faulty {
        let mut body = change.as_object().unwrap().clone();
        body.insert("name".into(), json!("Faulty"));
        let error = sets.create(&body).await.unwrap_err();
        assert_eq!(error.field_errors()[0].path, path, "{change}: {error}");
    }
    // What a group no more says is found when the draft is published.
    let grouped = LeadScoringRuleSet {
        groups: ScoringGroups::default().with("web", None, Some(10)),
        ..LeadScoringRuleSet::new("Grouped")
    };
    let grouped = session
        .scoring_rule_sets()
        .create(grouped)
        .await
        .unwrap()
        .id;
    let in_group = LeadScoringRule {
        group_name: Some("web".into()),
        ..rule(grouped, "industry", Op::Exists, json!(null), 60)
    };
    session.scoring_rules().create(in_group).await.unwrap();
    session
        .scoring_rule_sets()
        .update(grouped, |set| set.groups = ScoringGroups::default())
        .await
        .unwrap();
    let error = session
        .scoring_rule_sets()
        .publish(grouped)
        .await
        .unwrap_err();
    let [fault] = error.field_errors() else {
        panic!("{error}");
    };
    assert!(fault.path.starts_with("rules.") && fault.path.ends_with(".group_name"));
}

fn held(user: Id<User>, lead: Id<Lead>, kind: ActivityType) -> Activity {
    Activity::new(kind, "Talk", lead, user)
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

/// Of several that publish at the same time, and rules that come meanwhile, none is lost: one set is
/// published, and a rule came into a set in time or was refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_set_is_published_at_a_time() {
    let (_, session) = tenant(&crm(), "acme").await;
    let mut sets = Vec::new();
    for name in ["A", "B", "C"] {
        let rules = [("company", Op::Exists, json!(null), 10)];
        sets.push(draft(&session, name, &rules).await);
    }
    let (mut publishing, mut making) = (Vec::new(), Vec::new());
    for set in sets.clone() {
        let (publisher, maker) = (session.clone(), session.clone());
        publishing.push(tokio::spawn(async move {
            publisher.scoring_rule_sets().publish(set).await.map(|_| ())
        }));
        making.push(tokio::spawn(async move {
            let more = rule(set, "email", Op::Exists, json!(null), 10);
            maker.scoring_rules().create(more).await.map(|_| ())
        }));
    }
    for task in publishing {
        task.await.unwrap().unwrap();
    }
    let mut came = Vec::new();
    for task in making {
        let made = task.await.unwrap();
        if let Err(error) = &made {
            assert_eq!(error.code(), "rule_set_not_draft");
        }
        came.push(usize::from(made.is_ok()));
    }
    let published = LeadScoringRuleSet::IS_PUBLISHED.eq(true);
    assert_eq!(
        session.scoring_rule_sets().count(published).await.unwrap(),
        1
    );
    let mut revisions = Vec::new();
    for (set, came) in sets.into_iter().zip(came) {
        let set = session.scoring_rule_sets().get(set).await.unwrap();
        revisions.push(set.revision.unwrap());
        let rules = session.scoring_rule_sets().rules(set.id).await.unwrap();
        assert_eq!(rules.len(), 1 + came);
    }
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 2, 3]);
}

/// Another process that has not yet seen that another set was published does not score by the old.
#[tokio::test]
async fn an_outdated_rule_set_is_noticed() {
    let storage = common::backend::storage(&[]);
    let clock = Arc::new(ManualClock::new(Clock::now(&SystemClock)));
    let one = Crm::builder(storage.clone()).clock(clock.clone()).build();
    let two = Crm::builder(storage).clock(clock).build();
    let (onboarded, session) = tenant(&one, "acme").await;
    let other = two.session(onboarded.tenant, Actor::User(onboarded.admin));
    let first = draft(&session, "S", &[("company", Op::Exists, json!(null), 40)]).await;
    publish(&session, first).await;
    let lead = other.leads().create(company("x", 1)).await.unwrap();
    assert_eq!(lead.lead_score.value(), 40);
    let second = draft(&session, "T", &[("company", Op::Exists, json!(null), 70)]).await;
    publish(&session, second).await;
    let lead = other.leads().create(company("x", 1)).await.unwrap();
    assert_eq!(lead.lead_score.value(), 70);
}

/// What happens to a lead.
#[derive(Clone, Debug)]
enum Step {
    Adjust(usize, i32),
    Industry(usize, Option<usize>),
    Staff(usize, i32),
    Tags(usize, Vec<&'static str>),
    Talk(usize),
    Days(i64),
    Rescore(usize),
    RescoreAll,
    Publish(usize),
    Archive(usize),
    Unarchive(usize),
    Together(Vec<(usize, i32)>),
    Forget,
    Merge(usize, usize),
    Unmerge,
    Convert(usize),
    Undo(usize),
}

const INDUSTRIES: [&str; 3] = ["software", "retail", "banking"];

fn any_step() -> impl Strategy<Value = Step> {
    let lead = || 0..3_usize;
    prop_oneof![
        4 => (lead(), -100..=100_i32).prop_map(|(lead, points)| Step::Adjust(lead, points)),
        3 => (lead(), prop::option::of(0..3_usize)).prop_map(|(l, i)| Step::Industry(l, i)),
        3 => (lead(), 0..200_i32).prop_map(|(lead, staff)| Step::Staff(lead, staff)),
        2 => (lead(), prop::sample::subsequence(vec!["fair", "spam"], 0..=2))
            .prop_map(|(lead, tags)| Step::Tags(lead, tags)),
        2 => lead().prop_map(Step::Talk),
        2 => (0..20_i64).prop_map(Step::Days),
        1 => lead().prop_map(Step::Rescore),
        2 => Just(Step::RescoreAll),
        2 => (0..3_usize).prop_map(Step::Publish),
        1 => lead().prop_map(Step::Archive),
        1 => lead().prop_map(Step::Unarchive),
        2 => prop::collection::vec((lead(), -50..50_i32), 1..4).prop_map(Step::Together),
        1 => Just(Step::Forget),
        2 => (lead(), lead()).prop_map(|(one, other)| Step::Merge(one, other)),
        2 => Just(Step::Unmerge),
        2 => lead().prop_map(Step::Convert),
        2 => lead().prop_map(Step::Undo),
    ]
}

/// whatever happens in which order, the score is the clamped sum of its history; a simulation
/// tells what publishing and scoring all leads then does.
#[test]
fn the_score_is_the_clamped_sum_of_its_history_under_any_interleaving() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (crm, clock) = runtime.block_on(async { at_a_set_time() });
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(20),
        failure_persistence: None,
        ..Config::default()
    });
    let steps = prop::collection::vec(any_step(), 1..25);
    let outcome = runner.run(&steps, |steps| {
        let subdomain = format!("score-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (onboarded, session) = tenant(&crm, &subdomain).await;
            let mut leads = Vec::new();
            for _ in 0..3 {
                let person = Lead {
                    name: Some(PersonName::new("Ada", "Lovelace")),
                    ..company("x", 1)
                };
                leads.push(session.leads().create(person).await.unwrap().id);
            }
            let mut published = 0;
            for step in steps {
                play(
                    &session,
                    onboarded.admin,
                    &clock,
                    &leads,
                    step,
                    &mut published,
                )
                .await;
                for lead in &leads {
                    if session.leads().get(*lead).await.is_ok() {
                        assert_history_says_the_score(&session, *lead).await;
                    }
                }
            }
            // What a simulation tells is what comes.
            let last = three_rules(&session, published, 1).await;
            let all = Filter::all();
            let told = session
                .scoring_rule_sets()
                .simulate(last, all, 10, &())
                .await;
            let told = told.unwrap();
            publish(&session, last).await;
            let before: Vec<_> = rows_of(&session, "lead").await;
            let done = session.leads().rescore_all(&()).await.unwrap();
            assert_eq!(
                (told.checked, told.changed, told.regraded),
                (done.checked, done.changed, done.regraded)
            );
            for row in before.into_iter().filter(|row| !row.is_deleted()) {
                let lead = session.leads().get(Id::new(row.id())).await.unwrap();
                let expected = told.leads.iter().find(|one| one.lead == lead.id);
                let expected = expected.map(|one| (one.to, one.to_grade.clone()));
                let before = Record::<Lead>::from_row(row).unwrap();
                let same = (before.lead_score, before.grade.clone());
                assert_eq!(
                    (lead.lead_score, lead.grade.clone()),
                    expected.unwrap_or(same)
                );
                assert_history_says_the_score(&session, lead.id).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

/// A draft of one of three kinds.
async fn three_rules(session: &Session, number: usize, kind: usize) -> Set {
    let rules = [
        (
            "industry",
            Op::In,
            json!(["software", "retail"]),
            [30, 80, -40][kind],
        ),
        (
            "employee_count",
            Op::GreaterThan,
            json!(50),
            [30, 70, 20][kind],
        ),
        ("tags", Op::Contains, json!("spam"), -60),
        (ACTIVITY_COUNT, Op::GreaterThan, json!(1), [0, 5, 30][kind]),
    ];
    let name = format!("Set {number}");
    let set = draft(session, &name, &rules).await;
    let decays = [
        None,
        Some(Decay::half_life(7)),
        Some(Decay::per_period(5, 9)),
    ];
    session
        .scoring_rule_sets()
        .update(set, |set| set.decay = decays[kind].clone())
        .await
        .unwrap();
    set
}

async fn play(
    session: &Session,
    user: Id<User>,
    clock: &ManualClock,
    leads: &[Id<Lead>],
    step: Step,
    published: &mut usize,
) {
    let change = async |lead: usize, change: &(dyn Fn(&mut Lead) + Send + Sync)| {
        session.leads().update(leads[lead], change).await.unwrap();
    };
    // Those that were merged away or converted are not changed.
    let is_open = async |lead: usize| {
        let lead = session.leads().get(leads[lead]).await;
        lead.is_ok_and(|lead| lead.conversion.is_none())
    };
    let touched: Vec<usize> = match &step {
        Step::Adjust(lead, _)
        | Step::Industry(lead, _)
        | Step::Staff(lead, _)
        | Step::Tags(lead, _)
        | Step::Talk(lead)
        | Step::Rescore(lead)
        | Step::Archive(lead)
        | Step::Unarchive(lead)
        | Step::Convert(lead) => vec![*lead],
        Step::Together(changes) => changes.iter().map(|(lead, _)| *lead).collect(),
        Step::Merge(one, other) => vec![*one, *other],
        _ => Vec::new(),
    };
    for lead in touched {
        if !is_open(lead).await {
            return;
        }
    }
    match step {
        Step::Forget => {
            let all = session.activities().find(Find::new()).await.unwrap();
            if let Some(last) = all.items.last() {
                session.activities().delete(last.id).await.unwrap();
            }
        }
        Step::Merge(one, other) => {
            if one != other {
                let mut records = session.leads();
                let merged = records
                    .merge_into(leads[one], &[leads[other]], &Choices::new(), None)
                    .await;
                merged.unwrap();
            }
        }
        Step::Unmerge => {
            let merges = session.merges().find(Merge::UNDONE_AT.is_null()).await;
            if let Some(last) = merges.unwrap().items.last() {
                // Refused where the survivor was converted since.
                drop(session.merges().undo(last.id).await);
            }
        }
        Step::Convert(lead) => {
            // Refused where it is archived.
            drop(
                session
                    .leads()
                    .convert(leads[lead], ConversionPlan::new())
                    .await,
            );
        }
        Step::Undo(lead) => drop(session.leads().undo_conversion(leads[lead]).await),
        Step::Adjust(lead, points) => {
            let adjusted = session.leads().adjust(leads[lead], points, "by hand").await;
            assert_eq!(adjusted.is_ok(), points != 0);
        }
        Step::Industry(lead, industry) => {
            let industry = industry.map(|place| INDUSTRIES[place].to_owned());
            change(lead, &|lead| lead.industry = industry.clone()).await;
        }
        Step::Staff(lead, staff) => change(lead, &|lead| lead.employee_count = Some(staff)).await,
        Step::Tags(lead, tags) => {
            let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
            change(lead, &|lead| lead.tags = tags.clone()).await;
        }
        Step::Talk(lead) => {
            let call = held(user, leads[lead], ActivityType::Call);
            let call = session.activities().create(call).await.unwrap();
            session.activities().complete(call.id, None).await.unwrap();
        }
        Step::Days(days) => clock.advance(TimeDelta::days(days)),
        Step::Rescore(lead) => drop(session.leads().rescore(leads[lead]).await.unwrap()),
        Step::RescoreAll => drop(session.leads().rescore_all(&()).await.unwrap()),
        Step::Publish(kind) => {
            let set = three_rules(session, *published, kind).await;
            publish(session, set).await;
            *published += 1;
        }
        Step::Archive(lead) => drop(session.leads().archive(leads[lead]).await.unwrap()),
        Step::Unarchive(lead) => drop(session.leads().unarchive(leads[lead]).await.unwrap()),
        Step::Together(changes) => {
            let mut work = session.begin();
            for (lead, points) in changes {
                if points % 3 == 0 {
                    let staff = points.abs();
                    work.leads()
                        .update(leads[lead], |lead| lead.employee_count = Some(staff))
                        .await
                        .unwrap();
                } else {
                    work.leads()
                        .adjust(leads[lead], points, "two")
                        .await
                        .unwrap();
                }
            }
            work.commit().await.unwrap();
        }
    }
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
