//! What holds for records of all kinds: activities, versions, and fields that are read only.

use crm_engine::activities::ActivityLinks;
use crm_engine::error::codes;
use crm_engine::prelude::*;

use super::{faults, world};

///
#[tokio::test]
async fn activities_keep_their_rules() {
    let w = world().await;
    let owner = w.onboarded.admin;
    let globex = w
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let mut faulty = Activity::new(ActivityType::Call, " ", ActivityLinks::default(), owner);
    faulty.duration_minutes = Some(0);
    faulty.due_date = Some("2026-01-30T09:00:00Z".parse().unwrap());
    let error = w.session.activities().create(faulty).await.unwrap_err();
    let mut found = faults(&error);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("account_id", codes::REQUIRED),
            ("contact_id", codes::REQUIRED),
            ("deal_id", codes::REQUIRED),
            ("due_date", codes::PAST),
            ("duration_minutes", codes::OUT_OF_RANGE),
            ("lead_id", codes::REQUIRED),
            ("subject", codes::BLANK),
        ]
    );
    let call = Activity {
        scheduled_at: Some("2026-02-01T10:00:00Z".parse().unwrap()),
        ..Activity::new(ActivityType::Call, "Ask", globex, owner)
    };
    let call = w.session.activities().schedule(call).await.unwrap();
    assert_eq!(call.status, ActivityStatus::Scheduled);
    w.session.activities().start(call.id).await.unwrap();
    let done = w
        .session
        .activities()
        .complete(call.id, Some("said yes"))
        .await
        .unwrap();
    assert!(done.completed_at.is_some() && done.started_at.is_some());
    let error = w.session.activities().cancel(call.id).await.unwrap_err();
    assert_eq!(error.code(), "finished");
    let open = w
        .session
        .activities()
        .update(call.id, |activity| {
            activity.status = ActivityStatus::Planned;
        })
        .await
        .unwrap();
    assert_eq!(open.completed_at, None);
    let error = w
        .session
        .activities()
        .update(call.id, |activity| {
            activity.completed_at = Some("2026-01-01T00:00:00Z".parse().unwrap());
        })
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("completed_at", codes::INCONSISTENT)]);
}

///
#[tokio::test]
async fn an_update_of_an_older_version_is_a_conflict() {
    let w = world().await;
    let globex = w
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    w.session
        .accounts()
        .update(globex.id, |account| account.industry = Some("a".into()))
        .await
        .unwrap();
    let error = w
        .session
        .accounts()
        .update_version(globex.id, 1, |account| account.industry = Some("b".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }) && error.is_retryable());
    let unchanged = w
        .session
        .accounts()
        .update(globex.id, |_| {})
        .await
        .unwrap();
    assert_eq!(
        unchanged.version, 2,
        "a change that changes nothing writes nothing"
    );
}

/// What only the engine writes cannot be written by a caller either with types.
#[tokio::test]
async fn read_only_fields_are_refused_also_with_types() {
    let w = world().await;
    let lead = Lead {
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let faked = Lead {
        lead_score: Score::clamped(99),
        ..lead.clone()
    };
    let error = w.session.leads().create(faked).await.unwrap_err();
    assert_eq!(faults(&error), [("lead_score", codes::READ_ONLY)]);
    let lead = w.session.leads().create(lead).await.unwrap();
    let error = w
        .session
        .leads()
        .update(lead.id, |lead| lead.lead_score = Score::clamped(99))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("lead_score", codes::READ_ONLY)]);
    let deal = w.deal().await;
    let won = |deal: &mut Deal| deal.status = DealStatus::Won;
    let error = w.refused(deal.id, won).await;
    assert_eq!(faults(&error)[0], ("status", codes::READ_ONLY));
}
