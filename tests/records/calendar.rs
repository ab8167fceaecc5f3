//! Activities and series as iCalendar (RFC 5545): out, in, and there and back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod revisions;

use crate::common::backend;
use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::activities::{ActivitySeries, ActivityStatus, LocalDateTime, Moments, Recurrence};
use crm_engine::deals::Priority;
use crm_engine::engine::ManualClock;
use crm_engine::exchange::calendar::{
    Calendar, EntryContent, Participant, ParticipantRole, ParticipantStatus, Participants,
    ReadOptions, Reason, import, read,
};
use crm_engine::prelude::*;
use proptest::prelude::*;

struct World {
    crm: Crm,
    session: Session,
    admin: Id<User>,
    deal: Id<Deal>,
}

async fn world() -> World {
    let clock = std::sync::Arc::new(ManualClock::new(at("2027-01-01T12:00:00Z")));
    let crm = Crm::builder(backend::storage(&[])).clock(clock).build();
    other_tenant(crm, "acme").await
}

async fn other_tenant(crm: Crm, name: &str) -> World {
    let onboarding = Onboarding::new(name, name, format!("ada@{name}.example"));
    let onboarded = crm.onboard(onboarding).await.unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    let deal = Deal::new("Rollout", onboarded.pipeline);
    let deal = session.deals().create(deal).await.unwrap();
    World {
        crm,
        session,
        admin: onboarded.admin,
        deal: deal.id,
    }
}

impl World {
    fn options(&self) -> ReadOptions {
        ReadOptions::new(self.admin, self.deal)
    }

    fn activity(&self, kind: ActivityType) -> Activity {
        Activity::new(kind, "Review", self.deal, self.admin)
    }

    fn weekly(&self) -> ActivitySeries {
        let review = Activity {
            duration_minutes: Some(45),
            ..self.activity(ActivityType::Meeting)
        };
        ActivitySeries {
            time_zone: TimeZone::parse("Europe/Berlin").unwrap(),
            ..ActivitySeries::new(
                review,
                Recurrence::parse("FREQ=WEEKLY;COUNT=10;BYDAY=MO").unwrap(),
                LocalDateTime::parse("2027-02-01T09:00").unwrap(),
            )
        }
    }

    async fn series_text(&self, id: Id<ActivitySeries>) -> String {
        let mut calendar = Calendar::new(at("2027-01-01T12:00:00Z"));
        calendar.add_series_of(&self.session, id).await.unwrap();
        calendar.into_text()
    }

    async fn starts(&self, id: Id<ActivitySeries>) -> Vec<String> {
        let window = at("2026-01-01T00:00:00Z")..at("2029-01-01T00:00:00Z");
        let found = self
            .session
            .activity_series()
            .occurrences(id, &window)
            .await
            .unwrap();
        found
            .items
            .iter()
            .map(|item| item.starts_at.to_rfc3339())
            .collect()
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn unfolded(text: &str) -> String {
    text.replace("\r\n ", "")
}

fn event(lines: &str) -> String {
    let lines = lines.trim().replace('\n', "\r\n");
    format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{lines}\r\nEND:VCALENDAR\r\n")
}

#[tokio::test]
async fn an_activity_is_written_as_an_event() {
    let w = world().await;
    let meeting = Activity {
        scheduled_at: Some(at("2027-01-04T09:00:00Z")),
        duration_minutes: Some(90),
        description: Some("First line\nsecond; with, marks \\ and é".repeat(4)),
        location: Some("Room 2".into()),
        meeting_url: Some(HttpUrl::parse("https://meet.example/a?b=c").unwrap()),
        priority: Priority::High,
        reminder_minutes: Some(15),
        tags: vec!["key".into(), "a,b".into()],
        ..w.activity(ActivityType::Meeting)
    };
    let meeting = w.session.activities().create(meeting).await.unwrap();
    let who = Participants {
        organizer: Some(Participant::new(
            EmailAddress::parse("ada@acme.example").unwrap(),
        )),
        attendees: vec![Participant {
            name: Some("Hank; \"Boss\" Scorpio".into()),
            status: ParticipantStatus::Accepted,
            role: ParticipantRole::Chair,
            ..Participant::new(EmailAddress::parse("hank@globex.example").unwrap())
        }],
    };
    let mut calendar = Calendar::new(at("2027-01-01T12:00:00Z"));
    assert!(calendar.add_activity(&meeting, &who));
    let text = calendar.into_text();
    assert!(text.split("\r\n").all(|line| line.len() <= 75), "{text}");
    let lines = unfolded(&text);
    let uid = format!("UID:{}", meeting.id.uuid());
    for line in [
        "BEGIN:VEVENT",
        uid.as_str(),
        "DTSTAMP:20270101T120000Z",
        "DTSTART:20270104T090000Z",
        "DTEND:20270104T103000Z",
        "LOCATION:Room 2",
        "PRIORITY:3",
        "STATUS:CONFIRMED",
        "TRIGGER:-PT15M",
    ] {
        assert!(
            lines.lines().any(|one| one == line),
            "{line} is missing in {lines}"
        );
    }
    let contents = read(&text, &w.options()).unwrap();
    assert_eq!(contents.not_taken, []);
    let entry = &contents.entries[0];
    let attendee = &entry.participants.attendees[0];
    assert_eq!(attendee.status, ParticipantStatus::Accepted);
    assert_eq!(attendee.role, ParticipantRole::Chair);
    assert_eq!(attendee.email, who.attendees[0].email);
    assert_eq!(entry.participants.organizer, who.organizer);
    let EntryContent::Activity(again) = &entry.content else {
        panic!("a series")
    };
    assert_eq!(**again, meeting.data);
}

#[tokio::test]
async fn a_series_comes_back_with_what_its_occurrences_became() {
    let w = world().await;
    let mut series = w.weekly();
    series.excluded = Moments::from_iter([at("2027-02-15T08:00:00Z")]);
    series.added = Moments::from_iter([at("2027-02-17T08:00:00Z")]);
    let series = w.session.activity_series().create(series).await.unwrap();
    let mut all = w.session.activity_series();
    let moved = at("2027-02-09T10:00:00Z");
    all.edit_one(series.id, at("2027-02-08T08:00:00Z"), |one| {
        one.scheduled_at = Some(moved);
    })
    .await
    .unwrap();
    all.cancel_one(series.id, at("2027-02-22T08:00:00Z"))
        .await
        .unwrap();
    let text = w.series_text(series.id).await;
    let lines = unfolded(&text);
    for line in [
        "DTSTART;TZID=Europe/Berlin:20270201T090000",
        "DTEND;TZID=Europe/Berlin:20270201T094500",
        "EXDATE;TZID=Europe/Berlin:20270215T090000",
        "EXDATE;TZID=Europe/Berlin:20270222T090000",
        "RDATE;TZID=Europe/Berlin:20270217T090000",
        "RECURRENCE-ID;TZID=Europe/Berlin:20270208T090000",
        "DTSTART;TZID=Europe/Berlin:20270209T110000",
        "TZID:Europe/Berlin",
    ] {
        assert!(
            lines.lines().any(|one| one == line),
            "{line} is missing in {lines}"
        );
    }
    assert!(
        lines
            .lines()
            .any(|line| line.starts_with("RRULE:FREQ=WEEKLY") && line.contains("BYDAY=MO"))
    );
    // Into another tenant, twice.
    let other = other_tenant(w.crm.clone(), "globex").await;
    let report = import(&other.session, &text, &other.options())
        .await
        .unwrap();
    assert_eq!(
        (report.created, report.updated, report.not_taken),
        (1, 1, vec![])
    );
    let copy = other
        .session
        .activity_series()
        .find_one(Find::<ActivitySeries>::new())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(copy.recurrence, series.recurrence);
    assert_eq!(copy.time_zone, series.time_zone);
    assert_eq!(other.starts(copy.id).await, w.starts(series.id).await);
    let again = import(&other.session, &text, &other.options())
        .await
        .unwrap();
    assert_eq!((again.created, again.updated, again.unchanged), (0, 0, 2));
    // And back over the original, which its own identifier finds.
    let report = import(&w.session, &text, &w.options()).await.unwrap();
    assert_eq!(report.created, 0);
    assert_eq!(
        w.session
            .activity_series()
            .count(Find::<ActivitySeries>::new())
            .await
            .unwrap(),
        1
    );
}

#[tokio::test]
async fn revisions_and_cancellations_are_taken_over() {
    let w = world().await;
    let one = |sequence: u32, hour: u32, status: &str| {
        event(&format!(
            "BEGIN:VEVENT\nUID:a@b\nSEQUENCE:{sequence}\nSUMMARY:Lunch\nSTATUS:{status}\nDTSTART:20270105T{hour}0000Z\nEND:VEVENT"
        ))
    };
    let options = w.options();
    let report = import(&w.session, &one(1, 11, "CONFIRMED"), &options)
        .await
        .unwrap();
    assert_eq!(report.created, 1);
    let report = import(&w.session, &one(2, 12, "CONFIRMED"), &options)
        .await
        .unwrap();
    assert_eq!(report.updated, 1);
    let stale = import(&w.session, &one(1, 11, "CONFIRMED"), &options)
        .await
        .unwrap();
    assert_eq!(stale.unchanged, 1);
    let lunch = w
        .session
        .activities()
        .find_one(Activity::SUBJECT.eq("Lunch"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(lunch.scheduled_at, Some(at("2027-01-05T12:00:00Z")));
    let report = import(&w.session, &one(3, 12, "CANCELLED"), &options)
        .await
        .unwrap();
    assert_eq!(report.cancelled, 1);
    let lunch = w.session.activities().get(lunch.id).await.unwrap();
    assert_eq!(lunch.status, ActivityStatus::Cancelled);
    // The same by the method of the calendar, of a series.
    let weekly = "BEGIN:VEVENT\nUID:c@d\nSUMMARY:Weekly\nDTSTART:20270104T090000Z\nRRULE:FREQ=WEEKLY\nEND:VEVENT";
    import(&w.session, &event(weekly), &options).await.unwrap();
    let cancel = format!("METHOD:CANCEL\n{weekly}");
    let report = import(&w.session, &event(&cancel), &options).await.unwrap();
    assert_eq!((report.cancelled, report.not_taken), (1, vec![]));
}

#[tokio::test]
async fn zones_of_other_programs_are_understood() {
    let w = world().await;
    let cases = [
        ("W. Europe Standard Time", "", "2027-07-05T07:00:00Z"),
        ("Pacific Standard Time", "", "2027-07-05T16:00:00Z"),
        ("America/New_York", "", "2027-07-05T13:00:00Z"),
        (
            "Somewhere",
            "BEGIN:VTIMEZONE\nTZID:Somewhere\nX-LIC-LOCATION:Asia/Tokyo\nEND:VTIMEZONE\n",
            "2027-07-05T00:00:00Z",
        ),
        (
            "Customized",
            "BEGIN:VTIMEZONE\nTZID:Customized\nBEGIN:STANDARD\nDTSTART:16010101T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nEND:STANDARD\nBEGIN:DAYLIGHT\nDTSTART:16010101T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nEND:DAYLIGHT\nEND:VTIMEZONE\n",
            "2027-07-05T07:00:00Z",
        ),
    ];
    for (zone, described, wanted) in cases {
        let text = event(&format!(
            "{described}BEGIN:VEVENT\nUID:1\nDTSTART;TZID=\"{zone}\":20270705T090000\nEND:VEVENT"
        ));
        let contents = read(&text, &w.options()).unwrap();
        assert_eq!(contents.not_taken, [], "{zone}");
        let EntryContent::Activity(one) = &contents.entries[0].content else {
            panic!("a series")
        };
        assert_eq!(one.scheduled_at, Some(at(wanted)), "{zone}");
    }
    let text = event("BEGIN:VEVENT\nUID:1\nDTSTART;TZID=Nowhere:20270705T090000\nEND:VEVENT");
    assert_eq!(
        read(&text, &w.options()).unwrap().not_taken[0].reason,
        Reason::TimeZone
    );
    // Without a zone, the caller's.
    let text = event("BEGIN:VEVENT\nUID:1\nDTSTART:20270705T090000\nEND:VEVENT");
    let mut options = w.options();
    options.time_zone = TimeZone::parse("Asia/Kolkata").unwrap();
    let contents = read(&text, &options).unwrap();
    let EntryContent::Activity(one) = &contents.entries[0].content else {
        panic!("a series")
    };
    assert_eq!(one.scheduled_at, Some(at("2027-07-05T03:30:00Z")));
}

/// what another calendar knew already may be due in the past.
#[tokio::test]
async fn tasks_and_whole_days_are_taken_also_from_the_past() {
    let w = world().await;
    let text = event(
        "BEGIN:VTODO\nUID:t1\nSUMMARY:Send offer\nDUE:20260105T120000Z\nEND:VTODO\n\
         BEGIN:VTODO\nUID:t2\nSUMMARY:Done\nDUE:20260105T120000Z\nSTATUS:COMPLETED\nCOMPLETED:20260104T120000Z\nEND:VTODO\n\
         BEGIN:VEVENT\nUID:e1\nSUMMARY:Fair\nDTSTART;VALUE=DATE:20270328\nDTEND;VALUE=DATE:20270331\nEND:VEVENT\n\
         BEGIN:VEVENT\nSUMMARY:No identifier\nDTSTART:20270328T000000Z\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:e2\nSUMMARY:No time\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:e3\nDTSTART:20270328T000000Z\nRRULE:FREQ=SECONDLY\nEND:VEVENT",
    );
    let report = import(&w.session, &text, &w.options()).await.unwrap();
    assert_eq!(report.created, 3);
    let reasons: Vec<&Reason> = report.not_taken.iter().map(|one| &one.reason).collect();
    assert_eq!(reasons, [&Reason::Uid, &Reason::Time, &Reason::Recurrence]);
    let find = |subject: &'static str| {
        let session = w.session.clone();
        async move {
            session
                .activities()
                .find_one(Activity::SUBJECT.eq(subject))
                .await
                .unwrap()
                .unwrap()
        }
    };
    assert_eq!(
        find("Send offer").await.due_date,
        Some(at("2026-01-05T12:00:00Z"))
    );
    assert_eq!(
        find("Done").await.completed_at,
        Some(at("2026-01-04T12:00:00Z"))
    );
    let fair = find("Fair").await;
    assert!(fair.is_all_day);
    assert_eq!(fair.duration_minutes, Some(3 * 1_440));
}

fn any_word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äé,;:\\\\\"' ]{0,40}[a-z]".prop_map(|text| text.trim().to_owned())
}

fn any_activity(links: Id<Deal>, owner: Id<User>) -> impl Strategy<Value = Activity> {
    let kind = proptest::sample::select(vec![
        ActivityType::Call,
        ActivityType::Meeting,
        ActivityType::Task,
        ActivityType::Demo,
    ]);
    let status = proptest::sample::select(vec![
        ActivityStatus::Planned,
        ActivityStatus::Scheduled,
        ActivityStatus::InProgress,
        ActivityStatus::Cancelled,
        ActivityStatus::NoShow,
        ActivityStatus::Deferred,
    ]);
    let priority = proptest::sample::select(vec![
        Priority::Low,
        Priority::Medium,
        Priority::High,
        Priority::Urgent,
    ]);
    (
        (kind, status, priority, any::<bool>()),
        (
            any_word(),
            proptest::option::of(any_word()),
            proptest::option::of("[a-z\n,;é]{0,200}[a-z]"),
        ),
        (
            0_i64..4_000_000,
            proptest::option::of(1_u32..2_000),
            proptest::option::of(0_u32..50_000),
        ),
        proptest::collection::btree_set("[a-z,;]{0,6}[a-z]", 0..3),
    )
        .prop_map(
            move |((kind, status, priority, day), texts, (minutes, length, reminder), tags)| {
                let start = at("2027-01-02T00:00:00Z") + TimeDelta::minutes(minutes);
                let start = if day {
                    start.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc()
                } else {
                    start
                };
                let is_task = kind == ActivityType::Task;
                Activity {
                    status,
                    priority,
                    is_all_day: day,
                    location: texts.1,
                    description: texts.2.map(|text| text.trim().to_owned()),
                    scheduled_at: Some(start),
                    due_date: is_task.then_some(start + TimeDelta::days(1)),
                    duration_minutes: length,
                    reminder_minutes: reminder,
                    tags: tags.into_iter().map(|tag| tag.trim().to_owned()).collect(),
                    ..Activity::new(kind, texts.0, links, owner)
                }
            },
        )
}

#[test]
fn activities_come_back_as_they_went() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let w = runtime.block_on(world());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(150));
    let strategy = any_activity(w.deal, w.admin);
    let result = runner.run(&strategy, |activity| {
        let stored = runtime
            .block_on(w.session.activities().create(activity))
            .unwrap();
        let mut calendar = Calendar::new(at("2027-01-01T12:00:00Z"));
        prop_assert!(calendar.add_activity(&stored, &Participants::default()));
        let text = calendar.into_text();
        let contents = read(&text, &w.options()).unwrap();
        prop_assert!(contents.not_taken.is_empty());
        let EntryContent::Activity(again) = &contents.entries[0].content else {
            return Err(TestCaseError::fail("a series"));
        };
        // A calendar does not say when an activity was really begun.
        let stored = Activity {
            started_at: None,
            ..stored.data.clone()
        };
        prop_assert_eq!(
            serde_json::to_value(&**again).unwrap(),
            serde_json::to_value(&stored).unwrap()
        );
        Ok(())
    });
    result.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever a text holds, it is read without a panic.
    #[test]
    fn hostile_texts_do_no_harm(
        lines in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(vec![
                    "BEGIN:VCALENDAR", "END:VCALENDAR", "BEGIN:VEVENT", "END:VEVENT", "BEGIN:VTODO",
                    "BEGIN:VALARM", "END:VALARM", "UID:1", "SUMMARY:x", "DTSTART:20270105T110000Z",
                    "DTSTART;VALUE=DATE:20270105", "DTSTART;TZID=x:20270105T110000", "DTEND:00000000",
                    "DUE:99999999T999999Z", "RRULE:FREQ=DAILY;COUNT=4294967295", "RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31",
                    "EXDATE:20270105T110000Z,1", "RDATE;VALUE=PERIOD:20270105T110000Z/PT1H",
                    "RECURRENCE-ID;RANGE=THISANDFUTURE:20270105T110000Z", "DURATION:-P99999999W",
                    "TRIGGER:-PT99999999999M", "SEQUENCE:-1", "PRIORITY:99999999999999999999",
                    "BEGIN:VTIMEZONE", "TZID:x", "TZOFFSETTO:+9999", "END:VTIMEZONE", "ATTENDEE:mailto:",
                    "ATTENDEE;CN=\":x", " folded", "STATUS:", "CATEGORIES:,,,", "URL:javascript:1",
                ]).prop_map(str::to_owned),
                "[A-Z;:=,\"é\u{0}-]{0,30}",
            ],
            0..30,
        )
    ) {
        let options = ReadOptions::new(
            Id::<User>::new(uuid::Uuid::from_u128(1)),
            Id::<Deal>::new(uuid::Uuid::from_u128(2)),
        );
        let contents = read(&lines.join("\r\n"), &options).unwrap();
        prop_assert!(contents.entries.len() + contents.not_taken.len() <= 60);
    }
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let options = ReadOptions::new(
        Id::<User>::new(uuid::Uuid::from_u128(1)),
        Id::<Deal>::new(uuid::Uuid::from_u128(2)),
    );
    assert!(read(&"x".repeat(9 * 1024 * 1024), &options).is_err());
}

impl World {
    /// Who takes part in the only activity of this subject: type, role, answer and address.
    async fn who(&self, subject: &str) -> Vec<(String, Option<String>, String, String)> {
        let find = Find::from(Activity::SUBJECT.eq(subject));
        let activity = self.session.activities().find_one(find).await.unwrap();
        let activity = activity.unwrap();
        let all = self.session.activities().participants(activity.id).await;
        let mut who = Vec::new();
        for one in all.unwrap() {
            let email = match (one.user_id, one.contact_id) {
                (Some(id), _) => self
                    .session
                    .users()
                    .get(id)
                    .await
                    .unwrap()
                    .email
                    .to_string(),
                (_, Some(id)) => {
                    let contact = self.session.contacts().get(id).await.unwrap();
                    contact.email.as_ref().unwrap().to_string()
                }
                _ => one.email.as_ref().unwrap().to_string(),
            };
            let kind = format!("{:?}", one.participant_type);
            let answer = format!("{:?}", one.response_status);
            who.push((kind, one.role.clone(), answer, email));
        }
        who.sort();
        who
    }

    async fn hank(&self) -> Id<Contact> {
        let hank = Contact {
            email: Some("hank@globex.example".parse().unwrap()),
            ..Contact::named("Hank", "Scorpio")
        };
        self.session.contacts().create(hank).await.unwrap().id
    }

    async fn versions(&self) -> Vec<(String, i64)> {
        let mut all = Vec::new();
        for object in ["activity", "activity_participant", "activity_series"] {
            let rows = self.session.object(object).await.unwrap();
            let rows = rows.find(&Find::new()).await.unwrap();
            let versions = rows.items.iter();
            all.extend(versions.map(|row| (row.id().to_string(), row.version())));
        }
        all.sort();
        all
    }
}

fn invitation(method: &str, hank: &str, more: &str) -> String {
    event(&format!(
        "METHOD:{method}\nBEGIN:VEVENT\nUID:kick-off\nSEQUENCE:1\nSUMMARY:Kick-off\n\
        DTSTART:20270301T090000Z\nDTEND:20270301T100000Z\nORGANIZER;CN=Ada:mailto:ADA@acme.example\n\
        ATTENDEE;PARTSTAT={hank};ROLE=CHAIR:mailto:Hank@globex.example\n{more}END:VEVENT"
    ))
}

/// C-016: attendees become participants: users and contacts by their address, others external; their
/// answers are taken over, and nothing is doubled or lost when the text comes again.
#[tokio::test]
async fn attendees_become_participants() {
    let w = world().await;
    w.hank().await;
    let guest = "ATTENDEE;CN=Grace;ROLE=OPT-PARTICIPANT;PARTSTAT=TENTATIVE:mailto:grace@x.example\n\
        ATTENDEE:mailto:GRACE@x.example\n";
    let text = invitation("REQUEST", "NEEDS-ACTION", guest);
    let report = import(&w.session, &text, &w.options()).await.unwrap();
    assert_eq!((report.created, report.not_taken.len()), (1, 0));
    let row = |kind: &str, role: Option<&str>, answer: &str, email: &str| {
        let role = role.map(ToOwned::to_owned);
        (kind.to_owned(), role, answer.to_owned(), email.to_owned())
    };
    let grace = row("External", Some("optional"), "Tentative", "grace@x.example");
    let ada = row("User", Some("organizer"), "Pending", "ada@acme.example");
    let hank = |answer| row("Contact", Some("chair"), answer, "hank@globex.example");
    let expected = [hank("Pending"), grace.clone(), ada.clone()];
    assert_eq!(w.who("Kick-off").await, expected);
    let before = w.versions().await;
    let again = import(&w.session, &text, &w.options()).await.unwrap();
    assert_eq!((again.updated, again.unchanged), (0, 1));
    assert_eq!(w.versions().await, before);

    // An answer changes the answer only, and what is known stays where the text knows nothing.
    let reply = invitation("REPLY", "ACCEPTED", "").replace("Kick-off", "Re: Kick-off");
    let report = import(&w.session, &reply, &w.options()).await.unwrap();
    assert_eq!((report.created, report.updated), (0, 1));
    let expected = [hank("Accepted"), grace, ada];
    assert_eq!(w.who("Kick-off").await, expected);
    let report = import(&w.session, &text, &w.options()).await.unwrap();
    assert_eq!((report.updated, report.unchanged), (0, 1));
    assert_eq!(w.who("Kick-off").await, expected);
    let unknown = reply.replace("UID:kick-off", "UID:unheard-of");
    let report = import(&w.session, &unknown, &w.options()).await.unwrap();
    assert_eq!((report.created, report.unchanged), (0, 1));
}

/// All activities of a user or a record are one calendar, with participants, series and their changed
/// occurrences; taken in elsewhere, it gives the same calendar again.
#[tokio::test]
async fn a_calendar_of_everything_comes_back() {
    let w = world().await;
    let hank = w.hank().await;
    let guest =
        "ATTENDEE;CN=Grace;ROLE=OPT-PARTICIPANT;PARTSTAT=TENTATIVE:mailto:grace@x.example\n";
    let text = invitation("REQUEST", "ACCEPTED", guest);
    import(&w.session, &text, &w.options()).await.unwrap();
    let series = w
        .session
        .activity_series()
        .create(w.weekly())
        .await
        .unwrap();
    let mut all = w.session.activity_series();
    let one = all
        .edit_one(series.id, at("2027-02-08T08:00:00Z"), |one| {
            one.location = Some("Room 1".into());
        })
        .await
        .unwrap();
    w.session
        .activities()
        .invite(one.id, hank, None)
        .await
        .unwrap();
    w.session
        .activities()
        .create(w.activity(ActivityType::Note))
        .await
        .unwrap();

    let now = at("2027-01-01T12:00:00Z");
    let gather = async |w: &World, record: EntityRef| {
        let mut calendar = Calendar::new(now);
        let count = calendar.add_all_of(&w.session, record).await.unwrap();
        (count, unfolded(&calendar.into_text()))
    };
    let (count, of_deal) = gather(&w, w.deal.into()).await;
    assert_eq!(count, 2, "the note has no time");
    assert_eq!(gather(&w, w.admin.into()).await, (2, of_deal.clone()));
    assert_eq!(
        gather(&w, hank.into()).await,
        (2, of_deal.clone()),
        "by taking part"
    );
    let occurrence = of_deal.split("RECURRENCE-ID").nth(1).unwrap();
    let occurrence = occurrence.split("END:VEVENT").next().unwrap();
    assert!(
        occurrence.contains("mailto:hank@globex.example"),
        "{of_deal}"
    );
    assert!(of_deal.contains("ORGANIZER") && of_deal.contains("PARTSTAT=TENTATIVE"));

    let other = other_tenant(w.crm.clone(), "globex").await;
    let report = import(&other.session, &of_deal, &other.options())
        .await
        .unwrap();
    assert_eq!((report.created, report.not_taken), (2, vec![]));
    let (_, copied) = gather(&other, other.deal.into()).await;
    let essential = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("SEQUENCE"));
        let mut lines: Vec<String> = lines.map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    // Names of users and contacts are those of the other tenant's records, or what the text said.
    assert_eq!(essential(&copied), essential(&of_deal));
    let before = other.versions().await;
    let again = import(&other.session, &of_deal, &other.options())
        .await
        .unwrap();
    assert_eq!((again.created, again.updated), (0, 0));
    assert_eq!(other.versions().await, before);
    let unknown = EntityRef::new("unheard_of", uuid::Uuid::nil());
    assert!(
        Calendar::new(now)
            .add_all_of(&w.session, unknown)
            .await
            .is_err()
    );
}
