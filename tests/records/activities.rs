//! Activities as a host meets them: how they proceed, who takes part, what they are made from,
//! which list they are on, and what linked records know of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::activities::{ActivityCounts, ParticipantType, allowed};
use crm_engine::engine::ManualClock;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Map, Value as Json, json};

struct World {
    crm: Crm,
    session: Session,
    clock: Arc<ManualClock>,
    owner: Id<User>,
    pipeline: Id<Pipeline>,
    account: Id<Account>,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new(at("2026-03-02T09:00:00Z")));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarding = Onboarding::new("Acme", "acme", "ada@acme.example");
    let acme = crm.onboard(onboarding).await.unwrap();
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    let account = session.accounts().create(Account::new("Globex")).await;
    World {
        crm,
        session,
        clock,
        owner: acme.admin,
        pipeline: acme.pipeline,
        account: account.unwrap().id,
    }
}

impl World {
    fn activity(&self, kind: ActivityType, subject: &str) -> Activity {
        Activity::new(kind, subject, self.account, self.owner)
    }

    async fn create(&self, activity: Activity) -> Arc<Record<Activity>> {
        self.session.activities().create(activity).await.unwrap()
    }

    async fn contact(&self, first: &str) -> Id<Contact> {
        let contact = Contact::named(first, "Scorpio");
        self.session.contacts().create(contact).await.unwrap().id
    }

    async fn user(&self, email: &str, zone: &str) -> Id<User> {
        let user = User {
            timezone: TimeZone::parse(zone).unwrap(),
            ..User::new(email.parse::<EmailAddress>().unwrap())
        };
        self.session.users().create(user).await.unwrap().id
    }
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    let faults = error.field_errors().iter();
    faults
        .map(|fault| (fault.path.as_str(), fault.code))
        .collect()
}

/// C-015: the table of transitions holds for updates, merge patches, units of work and, through
/// them, imports alike.
#[tokio::test]
async fn transitions_are_the_same_by_every_way() {
    let w = world().await;
    for from in ActivityStatus::ALL.iter().copied() {
        for to in ActivityStatus::ALL.iter().copied() {
            let expected = allowed(from, to).map_err(Error::from);
            let expected = expected.map_err(|error| error.to_string());
            let told = |result: Result<ActivityStatus>| match result {
                Ok(status) => {
                    assert_eq!(status, to);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            let new = || Activity {
                status: from,
                ..w.activity(ActivityType::Call, "Ask")
            };
            let call = w.create(new()).await;
            let change = |activity: &mut Activity| activity.status = to;
            let updated = w.session.activities().update(call.id, change).await;
            assert_eq!(
                told(updated.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );

            let call = w.create(new()).await;
            let patch = json!({"status": to.as_str()});
            let patch = patch.as_object().unwrap();
            let merged = w.session.activities().merge(call.id, 1, patch).await;
            assert_eq!(
                told(merged.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );
            let call = w.create(new()).await;
            let mut named = w.session.object("activity").await.unwrap();
            let merged = named.merge(call.id.uuid(), 1, patch).await;
            assert_eq!(
                merged.map(drop).map_err(|error| error.to_string()),
                expected
            );

            let mut work = w.session.begin();
            let call = work.activities().create(new()).await.unwrap();
            let updated = work.activities().update(call.id, change).await;
            assert_eq!(
                told(updated.map(|call| call.status)),
                expected,
                "{from} to {to}"
            );
            work.commit().await.unwrap();
        }
    }
}

/// C-015, R-052: each step, and that what is finished is only reopened.
#[tokio::test]
async fn activities_are_finished_once_and_reopened() {
    let w = world().await;
    let mut activities = w.session.activities();
    let call = w.create(w.activity(ActivityType::Call, "Ask")).await;
    assert_eq!(call.status, ActivityStatus::Planned);
    let deferred = activities.defer(call.id).await.unwrap();
    assert_eq!(deferred.status, ActivityStatus::Deferred);
    let error = activities.mark_no_show(call.id).await.unwrap_err();
    assert_eq!(error.code(), "transition");
    let begun = activities.start(call.id).await.unwrap();
    assert_eq!(begun.started_at, Some(at("2026-03-02T09:00:00Z")));
    let done = activities.complete(call.id, Some("yes")).await.unwrap();
    assert_eq!(done.completed_at, Some(at("2026-03-02T09:00:00Z")));
    for error in [
        activities.complete(call.id, None).await.unwrap_err(),
        activities.start(call.id).await.unwrap_err(),
        activities.cancel(call.id).await.unwrap_err(),
        activities.mark_no_show(call.id).await.unwrap_err(),
        activities.defer(call.id).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "finished");
        assert!(error.to_string().contains("`completed`"), "{error}");
    }
    let open = activities.reopen(call.id).await.unwrap();
    assert_eq!(
        (open.status, open.completed_at),
        (ActivityStatus::Planned, None)
    );
    assert_eq!(
        open.outcome.as_deref(),
        Some("yes"),
        "what came of it stays"
    );
    let error = activities.reopen(call.id).await.unwrap_err();
    assert_eq!(error.code(), "not_finished");
    activities.cancel(call.id).await.unwrap();
    let meeting = Activity {
        scheduled_at: Some(at("2026-03-03T09:00:00Z")),
        ..w.activity(ActivityType::Meeting, "Meet")
    };
    let meeting = w.create(meeting).await;
    assert_eq!(meeting.status, ActivityStatus::Scheduled);
    activities.mark_no_show(meeting.id).await.unwrap();
    let open = activities.reopen(meeting.id).await.unwrap();
    assert_eq!(open.status, ActivityStatus::Scheduled);
}

/// C-015: the follow-up is created in the commit that completes its origin, or neither is.
#[tokio::test]
async fn an_activity_is_completed_with_its_follow_up() {
    let w = world().await;
    let mut activities = w.session.activities();
    let call = Activity {
        follow_up_required: true,
        follow_up_date: Some(at("2026-03-09T10:00:00Z")),
        ..w.activity(ActivityType::Call, "Ask")
    };
    let call = w.create(call).await;
    let faulty = w.activity(ActivityType::Proposal, " ");
    let error = activities
        .complete_with_follow_up(call.id, None, faulty)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("subject", codes::BLANK)]);
    let still = activities.get(call.id).await.unwrap();
    assert_eq!((still.status, still.version), (ActivityStatus::Planned, 1));

    let offer = Activity::new(
        ActivityType::Proposal,
        "Send the offer",
        ActivityLinks::default(),
        w.owner,
    );
    let (done, offer) = activities
        .complete_with_follow_up(call.id, Some("interested"), offer)
        .await
        .unwrap();
    assert_eq!(done.status, ActivityStatus::Completed);
    assert_eq!(done.outcome.as_deref(), Some("interested"));
    assert_eq!(
        (done.follow_up_required, done.follow_up_date),
        (false, None)
    );
    assert_eq!(offer.follow_up_of, Some(call.id));
    assert_eq!(offer.links.account_id, Some(w.account));
    assert_eq!(offer.due_date, Some(at("2026-03-09T10:00:00Z")));
    assert_eq!((done.version, offer.version), (2, 1));
    let events = w.session.audit();
    let completed = events.trail(call.id).await.unwrap().pop().unwrap();
    let created = events.trail(offer.id).await.unwrap().pop().unwrap();
    assert_eq!(completed.commit_id, created.commit_id);
    let found = activities.follow_ups(call.id).await.unwrap();
    assert_eq!(found.items[0].id, offer.id);
    // Only the engine says what follows what.
    let mut forged = w.activity(ActivityType::Call, "x");
    forged.follow_up_of = Some(call.id);
    let error = activities.create(forged).await.unwrap_err();
    assert_eq!(faults(&error), [("follow_up_of", codes::READ_ONLY)]);
}

/// a whole day is past once it is over everywhere; the day is kept as its midnight in UTC.
#[tokio::test]
async fn whole_days_are_days_of_the_calendar() {
    let w = world().await;
    let whole = |day: &str| Activity {
        is_all_day: true,
        due_date: Some(at(day)),
        ..w.activity(ActivityType::Task, "Tidy")
    };
    let kept = w.create(whole("2026-03-05T17:45:00Z")).await;
    assert_eq!(kept.due_date, Some(at("2026-03-05T00:00:00Z")));
    // It is nine in the morning in London, and still yesterday in Honolulu.
    w.create(whole("2026-03-01T00:00:00Z")).await;
    let past = w
        .session
        .activities()
        .create(whole("2026-02-28T00:00:00Z"))
        .await;
    assert_eq!(faults(&past.unwrap_err()), [("due_date", codes::PAST)]);
}

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

fn template() -> ActivityTemplate {
    ActivityTemplate {
        subject_template: Some(
            "{{ greeting | default('Call') }} {{ contact.first_name }}: {{ deal.name }}".into(),
        ),
        description_template: Some(
            "{{ owner.email }} on {{ today }}{{ contact.job_title }}".into(),
        ),
        duration_minutes: Some(20),
        default_priority: Priority::High,
        custom_fields_template: json!({"topic": "{{ deal.name | upper }}", "round": 1}),
        tags: vec!["first".into()],
        due_in_days: Some(2),
        is_global: true,
        ..ActivityTemplate::new("First call", ActivityType::Call)
    }
}

fn variables(json: Json) -> Map<String, Json> {
    json.as_object().unwrap().clone()
}

/// C-017: variables, type, duration, priority and tags are taken over; days are the owner's.
#[tokio::test]
async fn activities_are_made_from_templates() {
    let w = world().await;
    let zone = |user: &mut User| user.timezone = TimeZone::parse("Pacific/Auckland").unwrap();
    w.session.users().update(w.owner, zone).await.unwrap();
    w.clock.set(at("2026-03-02T20:00:00Z"));
    let hank = w.contact("Hank").await;
    let deal = Deal::new("Big deal", w.pipeline);
    let deal = w.session.deals().create(deal).await.unwrap();
    let made = w
        .session
        .activity_templates()
        .create(template())
        .await
        .unwrap();
    assert_eq!(made.owner_id, Some(w.owner));
    let links = ActivityLinks {
        contact_id: Some(hank),
        ..ActivityLinks::from(deal.id)
    };
    let mut activities = w.session.activities();
    let given = variables(json!({"greeting": "Ring"}));
    let call = activities
        .from_template(made.id, links.clone(), &given)
        .await
        .unwrap();
    assert_eq!(call.subject, "Ring Hank: Big deal");
    assert_eq!(
        call.description.as_deref(),
        Some("ada@acme.example on 2026-03-03")
    );
    assert_eq!(call.activity_type, ActivityType::Call);
    assert_eq!(
        (call.duration_minutes, call.priority),
        (Some(20), Priority::High)
    );
    assert_eq!(call.tags, ["first"]);
    assert!(
        call.custom_fields["topic"]
            .as_str()
            .unwrap()
            .starts_with("BIG")
    );
    assert_eq!(call.custom_fields["round"], 1);
    // The end of March 5 in Auckland.
    assert_eq!(call.due_date, Some(at("2026-03-05T10:59:59Z")));
    assert_eq!(
        (call.owner_id, call.links.contact_id),
        (w.owner, Some(hank))
    );

    // Every variable that has no value is told, at its text.
    let error = activities
        .from_template(made.id, deal.id, &Map::new())
        .await
        .unwrap_err();
    let found = faults(&error);
    assert_eq!(
        found,
        [
            ("subject_template", "unknown_variable"),
            ("description_template", "unknown_variable")
        ]
    );
    let told = error.to_string();
    assert!(
        told.contains("greeting") && told.contains("contact.job_title"),
        "{told}"
    );
    let error = activities
        .from_template(
            made.id,
            links.clone(),
            &variables(json!({"greeting": "x", "today": 1})),
        )
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("variables.today", codes::READ_ONLY)]);
    let nobody = Id::<Contact>::new(uuid::Uuid::from_u128(5));
    let error = activities
        .from_template(made.id, nobody, &given)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("contact_id", codes::NOT_FOUND)]);
    let off = |template: &mut ActivityTemplate| template.is_active = false;
    w.session
        .activity_templates()
        .update(made.id, off)
        .await
        .unwrap();
    let error = activities
        .from_template(made.id, links, &given)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_active");
}

/// C-017: a private template is its owner's alone, a global one everybody's.
#[tokio::test]
async fn private_templates_are_their_owners() {
    let w = world().await;
    let other = w.user("eve@acme.example", "UTC").await;
    let eve = w
        .crm
        .session(w.session.tenant().unwrap(), Actor::User(other));
    let plain = |name: &str| ActivityTemplate::new(name, ActivityType::Task);
    let private = w
        .session
        .activity_templates()
        .create(plain("Private"))
        .await
        .unwrap();
    let global = ActivityTemplate {
        is_global: true,
        ..plain("Global")
    };
    let global = w.session.activity_templates().create(global).await.unwrap();
    let names = async |session: &Session| {
        let page = session.activity_templates().usable(10, None).await.unwrap();
        page.items
            .iter()
            .map(|one| one.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&w.session).await, ["Global", "Private"]);
    assert_eq!(names(&eve).await, ["Global"]);
    let none = Map::new();
    let error = eve
        .activities()
        .from_template(private.id, w.account, &none)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
    let made = eve
        .activities()
        .from_template(global.id, w.account, &none)
        .await
        .unwrap();
    assert_eq!((made.owner_id, made.subject.as_str()), (other, "Global"));
    // What no user does is done for the owner.
    let system = w.crm.session(w.session.tenant().unwrap(), Actor::System);
    let made = system
        .activities()
        .from_template(private.id, w.account, &none)
        .await
        .unwrap();
    assert_eq!(made.owner_id, w.owner);
    let error = system
        .activity_templates()
        .create(plain("Nobody's"))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("owner_id", codes::REQUIRED)]);
}

/// C-017, R-145 to: faults are told when the template is saved.
#[tokio::test]
async fn templates_keep_their_rules() {
    let w = world().await;
    let mut templates = w.session.activity_templates();
    let plain = templates
        .create(ActivityTemplate::new("Plain", ActivityType::Task))
        .await
        .unwrap();
    assert_eq!(
        (plain.default_priority, plain.is_active, plain.is_global),
        (Priority::Medium, true, false)
    );
    let same = ActivityTemplate::new("Plain", ActivityType::Call);
    assert_eq!(
        templates.create(same).await.unwrap_err().code(),
        "duplicate"
    );
    let error = templates
        .create(ActivityTemplate {
            subject_template: Some("a {{ contact.first_nam }}".into()),
            description_template: Some("one\ntwo {{ 'x' * 9 }}".into()),
            custom_fields_template: json!({"a": "{% include 'b' %}"}),
            due_in_days: Some(1),
            due_in_business_hours: Some(1),
            duration_minutes: Some(0),
            ..ActivityTemplate::new("Faulty", ActivityType::Task)
        })
        .await
        .unwrap_err();
    let mut found = faults(&error);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("custom_fields_template.a", "invalid_template"),
            ("description_template", "invalid_template"),
            ("due_in_business_hours", codes::INCONSISTENT),
            ("duration_minutes", codes::OUT_OF_RANGE),
            ("subject_template", "unknown_variable"),
        ]
    );
    let fault = error
        .field_errors()
        .iter()
        .find(|fault| fault.path == "description_template");
    let params = &fault.unwrap().params;
    assert_eq!(params["line"].to_json(), json!(2));
    assert_eq!(params["column"].to_json(), json!(12));
    let secret = ActivityTemplate {
        subject_template: Some("{{ owner.password_hash }}".into()),
        ..ActivityTemplate::new("Secret", ActivityType::Task)
    };
    let error = templates.create(secret).await.unwrap_err();
    assert_eq!(faults(&error), [("subject_template", "unknown_variable")]);
    let body = json!({"name": "x", "activity_type": "dance", "default_priority": "none"});
    let error = templates
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    let found = faults(&error);
    for field in ["activity_type", "default_priority"] {
        assert!(found.contains(&(field, codes::NOT_AN_OPTION)), "{found:?}");
    }
}

/// The lists of a user, by the days of the user's time zone.
#[tokio::test]
async fn lists_go_by_the_users_days() {
    let w = world().await;
    // In Apia it is Monday, 22:00.
    let sina = w.user("sina@acme.example", "Pacific/Apia").await;
    let tom = w.user("tom@acme.example", "America/Los_Angeles").await;
    let task = |subject: &str, due: &str| Activity {
        due_date: Some(at(due)),
        assigned_to: Some(sina),
        ..w.activity(ActivityType::Task, subject)
    };
    w.create(task("tonight", "2026-03-02T10:30:00Z")).await;
    w.create(task("after midnight", "2026-03-02T11:00:00Z"))
        .await;
    w.create(task("in a week", "2026-03-09T10:59:59Z")).await;
    w.create(task("in eight days", "2026-03-09T11:00:00Z"))
        .await;
    w.create(Activity {
        is_all_day: true,
        ..task("all Monday", "2026-03-02T00:00:00Z")
    })
    .await;
    w.create(Activity {
        is_all_day: true,
        ..task("all Tuesday", "2026-03-03T00:00:00Z")
    })
    .await;
    w.create(Activity {
        status: ActivityStatus::Completed,
        ..task("done", "2026-03-02T10:30:00Z")
    })
    .await;
    let archived = w.create(task("archived", "2026-03-02T10:30:00Z")).await;
    w.session.activities().archive(archived.id).await.unwrap();
    let meeting = Activity {
        due_date: None,
        scheduled_at: Some(at("2026-03-02T10:15:00Z")),
        ..task("meeting", "2026-03-02T10:15:00Z")
    };
    w.create(meeting).await;
    // Given to somebody else, or owned and given to nobody.
    w.create(Activity {
        assigned_to: Some(tom),
        owner_id: sina,
        ..task("tom's", "2026-03-02T10:30:00Z")
    })
    .await;
    w.create(Activity {
        assigned_to: None,
        owner_id: sina,
        ..task("own", "2026-03-02T10:40:00Z")
    })
    .await;

    let names = async |user: Id<User>, list: ActivityList| {
        let page = w
            .session
            .activities()
            .list(user, list, 50, None)
            .await
            .unwrap();
        page.items
            .iter()
            .map(|one| one.subject.clone())
            .collect::<Vec<_>>()
    };
    let week = ActivityList::Upcoming { days: 7 };
    assert_eq!(
        names(sina, ActivityList::Overdue).await,
        Vec::<String>::new()
    );
    assert_eq!(
        names(sina, ActivityList::Today).await,
        ["meeting", "all Monday", "tonight", "own"]
    );
    assert_eq!(
        names(sina, week).await,
        ["after midnight", "all Tuesday", "in a week"]
    );
    let counts = w.session.activities().list_counts(sina, 7).await.unwrap();
    assert_eq!(
        counts,
        ActivityCounts {
            overdue: 0,
            today: 4,
            upcoming: 3
        }
    );
    // In Los Angeles it is one in the morning of Monday.
    assert_eq!(names(tom, ActivityList::Today).await, ["tom's"]);

    // It is Tuesday in Apia; the whole Monday is over there.
    w.clock.set(at("2026-03-02T11:00:01Z"));
    assert_eq!(
        names(sina, ActivityList::Overdue).await,
        ["all Monday", "tonight", "own", "after midnight", "meeting"]
    );
    assert_eq!(
        names(sina, ActivityList::Today).await,
        ["after midnight", "all Tuesday"]
    );

    let activities = w.session.activities();
    let mut paged = Vec::new();
    let mut page = activities.overdue(sina, 2, None).await.unwrap();
    loop {
        paged.extend(page.items.iter().map(|one| one.subject.clone()));
        let Some(next) = page.next else { break };
        page = activities.overdue(sina, 2, Some(next)).await.unwrap();
    }
    assert_eq!(paged, names(sina, ActivityList::Overdue).await);
    assert_eq!(
        activities.today(sina, 10, None).await.unwrap().items.len(),
        2
    );
    assert_eq!(
        activities
            .upcoming(sina, 7, 10, None)
            .await
            .unwrap()
            .items
            .len(),
        2
    );
    let error = activities
        .upcoming(sina, u32::MAX, 10, None)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("days", codes::OUT_OF_RANGE)]);
    let error = activities
        .today(Id::new(uuid::Uuid::from_u128(3)), 10, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "not_found");
}

/// Linked records know when something was last done with them and what is next; only links count.
#[tokio::test]
async fn linked_records_follow_their_activities() {
    let w = world().await;
    let mut activities = w.session.activities();
    let hank = Contact {
        account_id: Some(w.account),
        ..Contact::named("Hank", "Scorpio")
    };
    let hank = w.session.contacts().create(hank).await.unwrap().id;
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.pipeline))
        .await
        .unwrap()
        .id;
    let lead = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let lead = w.session.leads().create(lead).await.unwrap().id;
    let call = Activity {
        scheduled_at: Some(at("2026-03-05T10:00:00Z")),
        ..Activity::new(ActivityType::Call, "Ask", hank, w.owner)
    };
    let call = w.create(call).await;
    let contact = async || w.session.contacts().get(hank).await.unwrap();
    assert_eq!(
        contact().await.next_activity_at,
        Some(at("2026-03-05T10:00:00Z"))
    );
    // Told by the trail, as a change of the contact.
    let event = w.session.audit().trail(hank).await.unwrap().pop().unwrap();
    assert_eq!((event.record_version, contact().await.version), (2, 2));
    // The contact's account is not touched: the call is not linked to it.
    assert_eq!(
        w.session.accounts().get(w.account).await.unwrap().version,
        1
    );

    w.clock.advance(TimeDelta::hours(1));
    activities.complete(call.id, None).await.unwrap();
    let known = contact().await;
    assert_eq!(known.next_activity_at, None);
    assert_eq!(known.last_activity_at, Some(at("2026-03-02T10:00:00Z")));
    assert_eq!(known.last_contacted_at, Some(at("2026-03-02T10:00:00Z")));
    w.clock.advance(TimeDelta::hours(1));
    let note = Activity {
        status: ActivityStatus::Completed,
        ..Activity::new(ActivityType::Note, "Likes tea", hank, w.owner)
    };
    let note = w.create(note).await;
    let known = contact().await;
    assert_eq!(known.last_activity_at, Some(at("2026-03-02T11:00:00Z")));
    assert_eq!(known.last_contacted_at, Some(at("2026-03-02T10:00:00Z")));

    // Moved to a deal and a lead.
    let moved = activities
        .update(note.id, |note| {
            note.links = ActivityLinks {
                lead_id: Some(lead),
                ..ActivityLinks::from(deal)
            };
        })
        .await;
    moved.unwrap();
    assert_eq!(
        contact().await.last_activity_at,
        Some(at("2026-03-02T10:00:00Z"))
    );
    let latest = Some(at("2026-03-02T11:00:00Z"));
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        latest
    );
    assert_eq!(
        w.session.leads().get(lead).await.unwrap().last_activity_at,
        latest
    );
    activities.delete(note.id).await.unwrap();
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        None
    );
    activities.restore(note.id).await.unwrap();
    assert_eq!(
        w.session.deals().get(deal).await.unwrap().last_activity_at,
        latest
    );
    // What has no time changes nothing.
    let version = contact().await.version;
    w.create(Activity::new(ActivityType::Task, "Some day", hank, w.owner))
        .await;
    assert_eq!(contact().await.version, version);
    // Nobody else writes these fields.
    let now = w.clock.clone();
    let forge = |contact: &mut Contact| {
        contact.last_activity_at = Some(crm_engine::engine::Clock::now(&*now));
    };
    let error = w.session.contacts().update(hank, forge).await.unwrap_err();
    assert_eq!(faults(&error), [("last_activity_at", codes::READ_ONLY)]);
    for wrong in [
        activities.recompute(hank).await.unwrap(),
        activities.recompute(deal).await.unwrap(),
        activities.recompute(w.account).await.unwrap(),
    ] {
        assert!(!wrong);
    }
    let error = activities.recompute(w.owner).await.unwrap_err();
    assert_eq!(error.code(), "not_found");
}

/// A step of the property below; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create {
        links: u8,
        kind: u8,
        status: u8,
        hour: Option<u8>,
        due: Option<u8>,
    },
    Move {
        which: u8,
        links: u8,
    },
    Reschedule {
        which: u8,
        hour: Option<u8>,
        due: Option<u8>,
    },
    SetStatus {
        which: u8,
        status: u8,
    },
    SetKind {
        which: u8,
        kind: u8,
    },
    Delete(u8),
    Restore(u8),
    Archive(u8),
    Unarchive(u8),
    DeleteRecord(u8),
    RestoreRecord(u8),
}

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let hour = || prop::option::of(1_u8..100);
    let step = prop_oneof![
        4 => (any::<u8>(), any::<u8>(), any::<u8>(), hour(), hour())
            .prop_map(|(links, kind, status, hour, due)| Step::Create { links, kind, status, hour, due }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(which, links)| Step::Move { which, links }),
        2 => (any::<u8>(), hour(), hour())
            .prop_map(|(which, hour, due)| Step::Reschedule { which, hour, due }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(which, status)| Step::SetStatus { which, status }),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(which, kind)| Step::SetKind { which, kind }),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => any::<u8>().prop_map(Step::Restore),
        1 => any::<u8>().prop_map(Step::Archive),
        1 => any::<u8>().prop_map(Step::Unarchive),
        1 => any::<u8>().prop_map(Step::DeleteRecord),
        1 => any::<u8>().prop_map(Step::RestoreRecord),
    ];
    // Now and then the unit of work is committed.
    prop::collection::vec((step, prop::bool::weighted(0.6)), 1..30)
}

struct Linked {
    accounts: [Id<Account>; 2],
    contact: Id<Contact>,
    deal: Id<Deal>,
    lead: Id<Lead>,
}

impl Linked {
    fn links(&self, bits: u8) -> ActivityLinks {
        let mut links = ActivityLinks {
            account_id: (bits & 1 != 0).then_some(self.accounts[usize::from(bits >> 7)]),
            contact_id: (bits & 2 != 0).then_some(self.contact),
            deal_id: (bits & 4 != 0).then_some(self.deal),
            lead_id: (bits & 8 != 0).then_some(self.lead),
            ..ActivityLinks::default()
        };
        if links.is_empty() {
            links.contact_id = Some(self.contact);
        }
        links
    }

    fn records(&self) -> [EntityRef; 5] {
        [
            self.accounts[0].into(),
            self.accounts[1].into(),
            self.contact.into(),
            self.deal.into(),
            self.lead.into(),
        ]
    }
}

fn pick<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}

async fn apply(
    work: &mut UnitOfWork,
    w: &World,
    linked: &Linked,
    ids: &mut Vec<Id<Activity>>,
    step: &Step,
) -> Result<()> {
    let hour = |hours: Option<u8>| {
        hours.map(|hours| at("2026-03-10T00:00:00Z") + TimeDelta::hours(hours.into()))
    };
    let which = |number: u8| -> Result<Id<Activity>> {
        match ids.len() {
            0 => Err(Error::Forbidden {
                reason: "there is none".into(),
            }),
            _ => Ok(pick(ids, number)),
        }
    };
    match step.clone() {
        Step::Create {
            links,
            kind,
            status,
            hour: begins,
            due,
        } => {
            let activity = Activity {
                status: pick(ActivityStatus::ALL, status),
                scheduled_at: hour(begins),
                due_date: hour(due),
                ..Activity::new(
                    pick(ActivityType::ALL, kind),
                    "x",
                    linked.links(links),
                    w.owner,
                )
            };
            ids.push(work.activities().create(activity).await?.id);
        }
        Step::Move {
            which: number,
            links,
        } => {
            let links = linked.links(links);
            let change = |activity: &mut Activity| activity.links = links.clone();
            work.activities().update(which(number)?, change).await?;
        }
        Step::Reschedule {
            which: number,
            hour: begins,
            due,
        } => {
            let (begins, due) = (hour(begins), hour(due));
            let change = |activity: &mut Activity| {
                activity.scheduled_at = begins;
                activity.due_date = due;
            };
            work.activities().update(which(number)?, change).await?;
        }
        Step::SetStatus {
            which: number,
            status,
        } => {
            let status = pick(ActivityStatus::ALL, status);
            let change = |activity: &mut Activity| activity.status = status;
            work.activities().update(which(number)?, change).await?;
        }
        Step::SetKind {
            which: number,
            kind,
        } => {
            let kind = pick(ActivityType::ALL, kind);
            let change = |activity: &mut Activity| activity.activity_type = kind;
            work.activities().update(which(number)?, change).await?;
        }
        Step::Delete(number) => work.activities().delete(which(number)?).await?,
        Step::Restore(number) => drop(work.activities().restore(which(number)?).await?),
        Step::Archive(number) => drop(work.activities().archive(which(number)?).await?),
        Step::Unarchive(number) => drop(work.activities().unarchive(which(number)?).await?),
        Step::DeleteRecord(number) => match number % 5 {
            0 | 1 => {
                work.accounts()
                    .delete(linked.accounts[usize::from(number % 5)])
                    .await?;
            }
            2 => work.contacts().delete(linked.contact).await?,
            3 => work.deals().delete(linked.deal).await?,
            _ => work.leads().delete(linked.lead).await?,
        },
        Step::RestoreRecord(number) => match number % 5 {
            0 | 1 => drop(
                work.accounts()
                    .restore(linked.accounts[usize::from(number % 5)])
                    .await?,
            ),
            2 => drop(work.contacts().restore(linked.contact).await?),
            3 => drop(work.deals().restore(linked.deal).await?),
            _ => drop(work.leads().restore(linked.lead).await?),
        },
    }
    Ok(())
}

/// What a record should know, worked out from all activities.
async fn expected(session: &Session, record: &EntityRef) -> Map<String, Json> {
    let find = Find::new().with_archived().limit(1_000);
    let all = session.activities().find(find).await.unwrap().items;
    let link = format!("{}_id", record.object);
    let mine = || {
        let all = all.iter().filter(|one| {
            let row: crm_engine::schema::Row = (*one).clone();
            row.get(&link).as_uuid() == Some(record.id)
        });
        all.cloned()
    };
    let contact = [
        ActivityType::Call,
        ActivityType::Email,
        ActivityType::Meeting,
    ];
    let last = mine().filter_map(|one| one.completed_at).max();
    let contacted = mine().filter(|one| contact.contains(&one.activity_type));
    let contacted = contacted.filter_map(|one| one.completed_at).max();
    let open = mine().filter(|one| !one.status.is_finished() && one.archived_at.is_none());
    let next = open
        .filter_map(|one| one.scheduled_at.or(one.due_date))
        .min();
    let mut expected = Map::new();
    expected.insert("last_activity_at".into(), json!(last));
    expected.insert("next_activity_at".into(), json!(next));
    if record.object == "contact" {
        expected.insert("last_contacted_at".into(), json!(contacted));
    }
    expected
}

async fn assert_rolled_up(session: &Session, linked: &Linked) {
    for record in linked.records() {
        let object = session.object(&record.object).await.unwrap();
        let Ok(row) = object.get(record.id).await else {
            continue;
        };
        let expected = expected(session, &record).await;
        for (field, value) in expected {
            let stored: Option<DateTime<Utc>> =
                serde_json::from_value(row.get(&field).to_json()).unwrap();
            let wanted: Option<DateTime<Utc>> = serde_json::from_value(value).unwrap();
            assert_eq!(stored, wanted, "{field} of the {}", record.object);
        }
    }
}

async fn linked(w: &World) -> Linked {
    let second = w
        .session
        .accounts()
        .create(Account::new("Initech"))
        .await
        .unwrap()
        .id;
    let lead = Lead {
        company: Some("Hooli".into()),
        ..Lead::default()
    };
    Linked {
        accounts: [w.account, second],
        contact: w.contact("Hank").await,
        deal: w
            .session
            .deals()
            .create(Deal::new("Rollout", w.pipeline))
            .await
            .unwrap()
            .id,
        lead: w.session.leads().create(lead).await.unwrap().id,
    }
}

async fn run(steps: Vec<(Step, bool)>) {
    let w = world().await;
    let linked = linked(&w).await;
    let mut ids = Vec::new();
    let mut work = w.session.begin();
    for (step, commits) in steps {
        let _refused = apply(&mut work, &w, &linked, &mut ids, &step).await;
        if commits {
            let done = std::mem::replace(&mut work, w.session.begin());
            let _refused = done.commit().await;
            w.clock.advance(TimeDelta::minutes(7));
            work = w.session.begin();
            assert_rolled_up(&w.session, &linked).await;
        }
    }
    let _refused = work.commit().await;
    assert_rolled_up(&w.session, &linked).await;
    for record in linked.records() {
        if let Ok(was_wrong) = w.session.activities().recompute(record.clone()).await {
            assert!(!was_wrong, "{record:?}");
        }
    }
}

/// As many cases as `PROPTEST_CASES` says, else as many as are done in good time.
fn cases() -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    let is_postgres = std::env::var("CRM_TEST_STORAGE").is_ok_and(|it| it == "postgres");
    let usual = if is_postgres { 10 } else { 96 };
    said.map_or(usual, |number| number.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// After any sequence of operations, linked records know what their activities say.
    #[test]
    fn roll_ups_equal_what_is_worked_out_anew(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

/// Two who count and two who take away at the same time: what is left is told.
#[tokio::test(flavor = "multi_thread")]
async fn roll_ups_are_right_under_concurrency() {
    let w = world().await;
    let linked = Arc::new(linked(&w).await);
    let tasks: Vec<_> = (0_u8..6)
        .map(|task| {
            let (session, linked, owner) = (w.session.clone(), linked.clone(), w.owner);
            tokio::spawn(async move {
                for round in 0_u8..8 {
                    let hour = (i64::from(task) * 37 + i64::from(round) * 11) % 50;
                    let activity = Activity {
                        scheduled_at: Some(at("2026-03-10T00:00:00Z") + TimeDelta::hours(hour)),
                        ..Activity::new(ActivityType::Call, "x", linked.links(task | 2), owner)
                    };
                    let mut activities = session.activities();
                    let id = activities.create(activity).await.unwrap().id;
                    match (task + round) % 3 {
                        0 => activities.delete(id).await.unwrap(),
                        1 => drop(activities.complete(id, None).await.unwrap()),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_rolled_up(&w.session, &linked).await;
}
