//! Sets of rules: drafts, publication, and rules that are refused.

use std::sync::Arc;

use ScoringOperator as Op;
use crm_engine::engine::{Clock, ManualClock, SystemClock};
use crm_engine::error::codes;
use crm_engine::prelude::*;
use crm_engine::scoring::{
    ACTIVITY_COUNT, LeadScoringRule, LeadScoringRuleSet, RuleSetStatus, ScoringGroups,
    ScoringOperator,
};
use serde_json::json;
use uuid::Uuid;

use super::{company, draft, publish, rule, score};
use crate::common;
use crate::common::{crm, tenant};

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
