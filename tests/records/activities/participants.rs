//! Who takes part.

use crm_engine::activities::ParticipantType;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use serde_json::{Value as Json, json};

use super::{at, faults, world};

/// C-016, R-378, R-458: users, contacts and externals, each once, and the activity changes with
/// them.
#[tokio::test]
async fn people_take_part_once() {
    let w = world().await;
    let mut activities = w.session.activities();
    let meeting = w.create(w.activity(ActivityType::Meeting, "Meet")).await;
    let hank = w.contact("Hank").await;
    let invited = activities
        .invite(meeting.id, hank, Some("guest"))
        .await
        .unwrap();
    assert_eq!(invited.participant_type, ParticipantType::Contact);
    assert_eq!(invited.attendance_status, AttendanceStatus::Invited);
    assert_eq!(invited.response_status, ResponseStatus::Pending);
    assert_eq!(invited.created.by, Actor::User(w.owner));
    assert_eq!(activities.get(meeting.id).await.unwrap().version, 2);
    let user = activities.invite(meeting.id, w.owner, None).await.unwrap();
    let external = |name: &str| Invitee::External {
        email: "Moe@tavern.example".parse().unwrap(),
        name: name.into(),
    };
    let moe = activities
        .invite(meeting.id, external("Moe"), None)
        .await
        .unwrap();
    // A second time, they are there already.
    let again = activities.invite(meeting.id, hank, None).await.unwrap();
    assert_eq!(
        (again.id, again.role.as_deref()),
        (invited.id, Some("guest"))
    );
    let again = activities
        .invite(meeting.id, external("M."), Some("host"))
        .await
        .unwrap();
    assert_eq!((again.id, again.role.as_deref()), (moe.id, Some("host")));
    let doubled = ActivityParticipant {
        email: Some("moe@TAVERN.example".parse().unwrap()),
        name: Some("Moe".into()),
        ..ActivityParticipant::new(meeting.id, ParticipantType::External)
    };
    let error = w.session.participants().create(doubled).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
    let all = activities.participants(meeting.id).await.unwrap();
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    assert_eq!(ids, [invited.id, user.id, moe.id]);

    // Answers settle the attendance, unless it is given.
    let answered = activities
        .respond(invited.id, ResponseStatus::Accepted)
        .await
        .unwrap();
    assert_eq!(answered.attendance_status, AttendanceStatus::Attending);
    assert_eq!(answered.responded_at, Some(at("2026-03-02T09:00:00Z")));
    let away = activities
        .attend(invited.id, AttendanceStatus::NotAttending)
        .await
        .unwrap();
    assert_eq!(away.response_status, ResponseStatus::Accepted);
    assert_eq!(away.attendance_status, AttendanceStatus::NotAttending);
    let patch = json!({"response_status": "tentative"});
    let merged = w
        .session
        .participants()
        .merge(moe.id, 2, patch.as_object().unwrap())
        .await;
    assert_eq!(
        merged.unwrap().attendance_status,
        AttendanceStatus::Tentative
    );
    let open = activities
        .respond(invited.id, ResponseStatus::Pending)
        .await
        .unwrap();
    assert_eq!(open.attendance_status, AttendanceStatus::Invited);
    assert_eq!(open.responded_at, None);

    let before = activities.get(meeting.id).await.unwrap().version;
    activities.remove_participant(user.id).await.unwrap();
    assert_eq!(
        activities.get(meeting.id).await.unwrap().version,
        before + 1
    );
    assert_eq!(activities.participants(meeting.id).await.unwrap().len(), 2);
    activities.invite(meeting.id, w.owner, None).await.unwrap();
}

/// who is what.
#[tokio::test]
async fn participants_keep_their_rules() {
    let w = world().await;
    let meeting = w.create(w.activity(ActivityType::Meeting, "Meet")).await;
    let hank = w.contact("Hank").await;
    let create = async |body: Json| {
        let mut body = body.as_object().unwrap().clone();
        body.insert("activity_id".into(), json!(meeting.id));
        let made = w.session.participants().create_json(&body).await;
        let error = made.unwrap_err();
        let found: Vec<(String, &str)> = error
            .field_errors()
            .iter()
            .map(|fault| (fault.path.clone(), fault.code))
            .collect();
        found
    };
    let required = |field: &str| (field.to_owned(), codes::REQUIRED);
    assert_eq!(
        create(json!({"participant_type": "external"})).await,
        [required("email"), required("name")]
    );
    assert_eq!(
        create(json!({"participant_type": "user"})).await,
        [required("user_id")]
    );
    assert_eq!(
        create(json!({"participant_type": "contact", "user_id": w.owner})).await,
        [
            ("user_id".to_owned(), codes::INCONSISTENT),
            required("contact_id")
        ]
    );
    let body = json!({
        "participant_type": "external", "name": "Moe", "email": "moe",
        "attendance_status": "maybe", "response_status": "no",
    });
    let mut found = create(body).await;
    found.sort();
    assert_eq!(
        found,
        [
            ("attendance_status".to_owned(), codes::NOT_AN_OPTION),
            ("email".to_owned(), "invalid_email"),
            ("response_status".to_owned(), codes::NOT_AN_OPTION),
        ]
    );
    let kind = create(json!({"participant_type": "robot", "contact_id": hank})).await;
    assert!(
        kind.contains(&("participant_type".to_owned(), codes::NOT_AN_OPTION)),
        "{kind:?}"
    );
    let stranger = Id::<Contact>::new(uuid::Uuid::from_u128(7));
    let error = w
        .session
        .activities()
        .invite(meeting.id, stranger, None)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("contact_id", codes::NOT_FOUND)]);
}

/// participants and reminders go and come back with their activity; a participant goes with
/// the person.
#[tokio::test]
async fn what_belongs_to_an_activity_goes_with_it() {
    let w = world().await;
    let mut activities = w.session.activities();
    let meeting = Activity {
        scheduled_at: Some(at("2026-03-09T10:00:00Z")),
        reminder_minutes: Some(15),
        ..w.activity(ActivityType::Meeting, "Meet")
    };
    let meeting = w.create(meeting).await;
    let hank = w.contact("Hank").await;
    activities.invite(meeting.id, hank, None).await.unwrap();
    activities.invite(meeting.id, w.owner, None).await.unwrap();
    let count = async || {
        let reminders = w.session.reminders().count(Find::new()).await.unwrap();
        (
            w.session.participants().count(Find::new()).await.unwrap(),
            reminders,
        )
    };
    assert_eq!(count().await, (2, 1));
    activities.delete(meeting.id).await.unwrap();
    assert_eq!(count().await, (0, 0));
    activities.restore(meeting.id).await.unwrap();
    assert_eq!(count().await, (2, 1));
    w.session.contacts().delete(hank).await.unwrap();
    assert_eq!(count().await, (1, 1));
    activities.delete(meeting.id).await.unwrap();
    activities.purge(meeting.id).await.unwrap();
    let left = Find::new().with_deleted();
    assert_eq!(w.session.reminders().count(left).await.unwrap(), 0);
}

/// C-016: many invite the same person, who takes part once.
#[tokio::test(flavor = "multi_thread")]
async fn invitations_at_the_same_time_invite_once() {
    let w = world().await;
    let meeting = w.create(w.activity(ActivityType::Meeting, "Meet")).await.id;
    let hank = w.contact("Hank").await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let session = w.session.clone();
            tokio::spawn(async move { session.activities().invite(meeting, hank, None).await })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap().unwrap().id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
