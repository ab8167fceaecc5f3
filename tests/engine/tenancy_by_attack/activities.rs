//! Operations of activities.

use crm_engine::prelude::*;
use serde_json::Map;
use uuid::Uuid;

use super::{GHOST, Scene, told};

pub(super) async fn attack_activities(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let follow_up = Activity::new(ActivityType::Task, "x", own.deal, own.user);
    same!("complete_with_follow_up", victim.activity, |id| session
        .activities()
        .complete_with_follow_up(id, None, follow_up.clone())
        .await);
    same!("follow_ups", victim.activity, |id| session
        .activities()
        .follow_ups(id)
        .await);
    same!("invite to", victim.activity, |id| session
        .activities()
        .invite(id, own.user, None)
        .await);
    same!("invite a user", victim.user, |id| session
        .activities()
        .invite(own.activity, id, None)
        .await);
    same!("invite a contact", victim.contact, |id| session
        .activities()
        .invite(own.activity, id, None)
        .await);
    same!("respond", victim.participant, |id| session
        .activities()
        .respond(id, ResponseStatus::Accepted)
        .await);
    same!("attend", victim.participant, |id| session
        .activities()
        .attend(id, AttendanceStatus::Attending)
        .await);
    same!("remove_participant", victim.participant, |id| session
        .activities()
        .remove_participant(id)
        .await);
    same!("participants", victim.activity, |id| session
        .activities()
        .participants(id)
        .await);
    let variables = Map::new();
    same!("from_template", victim.template, |id| session
        .activities()
        .from_template(id, own.deal, &variables)
        .await);
    same!("from_template with a deal", victim.deal, |id| session
        .activities()
        .from_template(own.template, id, &variables)
        .await);
    same!("list", victim.user, |id| session
        .activities()
        .list(id, ActivityList::Today, 10, None)
        .await);
    same!("list_counts", victim.user, |id| session
        .activities()
        .list_counts(id, 7)
        .await
        .map(|counts| counts.today));
    same!("recompute", victim.account, |id| session
        .activities()
        .recompute(id)
        .await);
    let foreign = victim
        .session
        .reminders()
        .get(victim.reminder)
        .await
        .unwrap();
    let error = session.reminders().mark_sent(&foreign).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
    let error = session
        .reminders()
        .mark_failed(&foreign, "x")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");

    same!("by_actor", victim.user, |id| session
        .audit()
        .by_actor(Actor::User(id), 10, None)
        .await);
    let admin = victim.onboarded.admin;
    same!("by_actor", admin, |id| session
        .audit()
        .by_actor(Actor::User(id), 10, None)
        .await);
    let event = victim
        .session
        .audit()
        .trail(victim.deal)
        .await
        .unwrap()
        .remove(0);
    for id in [event.commit_id, GHOST] {
        assert!(session.audit().of_commit(id).await.unwrap().is_empty());
    }
    let tried = async |id: Uuid| {
        let audit = session.audit();
        [
            told(audit.undo_commit(id).await, id),
            told(audit.undo_what_is_untouched(id).await, id),
        ]
    };
    assert_eq!(tried(event.commit_id).await, tried(GHOST).await);
    let window = chrono::DateTime::UNIX_EPOCH..event.created.at + chrono::TimeDelta::days(1);
    same!("activity_summary", victim.user, |id| session
        .audit()
        .activity_summary(Actor::User(id), window.clone())
        .await);
}
