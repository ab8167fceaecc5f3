//! What other calendars send after the first time: later revisions, cancellations and answers, as RFC 5545
//! and RFC 5546 have them and as programs write them.

use super::*;
use crm_engine::exchange::calendar::ImportReport;

impl World {
    async fn take(&self, text: &str) -> ImportReport {
        let report = import(&self.session, text, &self.options()).await;
        report.unwrap()
    }

    async fn all_series(&self) -> Vec<std::sync::Arc<Record<ActivitySeries>>> {
        let all = self.session.activity_series().find(Find::new()).await;
        all.unwrap().items
    }

    async fn all_activities(&self) -> Vec<std::sync::Arc<Record<Activity>>> {
        let find = Find::new().sort(Activity::SCHEDULED_AT.asc());
        self.session.activities().find(find).await.unwrap().items
    }
}

const WEEKLY: &str = "UID:w@x\nSEQUENCE:2\nSUMMARY:Weekly\n\
    DTSTART;TZID=Europe/Berlin:20261207T090000\nRRULE:FREQ=WEEKLY;COUNT=20";

fn single(lines: &str) -> String {
    event(&format!("BEGIN:VEVENT\n{lines}\nEND:VEVENT"))
}

fn method(method: &str, lines: &str) -> String {
    event(&format!(
        "METHOD:{method}\nBEGIN:VEVENT\n{lines}\nEND:VEVENT"
    ))
}

/// Who cancels need not repeat the rule, the time or the subject: what is known stays, but for its
/// status; and an earlier revision that comes late brings nothing back.
#[tokio::test]
async fn a_cancellation_need_not_repeat_what_it_cancels() {
    let w = world().await;
    w.take(&single(WEEKLY)).await;
    let id = w.all_series().await[0].id;
    let before = w.starts(id).await;
    assert_eq!(before.len(), 20);
    let report = w.take(&method("CANCEL", "UID:w@x\nSEQUENCE:1")).await;
    assert_eq!(
        (report.cancelled, report.unchanged),
        (0, 1),
        "an earlier one"
    );
    let report = w.take(&method("CANCEL", "UID:w@x\nSEQUENCE:3")).await;
    assert_eq!((report.cancelled, report.not_taken), (1, vec![]));
    let over = w.starts(id).await;
    assert_eq!(over, before[..4], "those of last year stay");
    let report = w.take(&single(WEEKLY)).await;
    assert_eq!((report.updated, report.unchanged), (0, 1));
    assert_eq!(w.starts(id).await, over);

    let lunch = "UID:l@x\nSUMMARY:Lunch\nDTSTART:20270105T110000Z\nDTEND:20270105T120000Z";
    w.take(&single(lunch)).await;
    let report = w.take(&method("CANCEL", "UID:l@x\nSEQUENCE:1")).await;
    assert_eq!((report.cancelled, report.not_taken), (1, vec![]));
    let all = w.all_activities().await;
    let lunch = all.iter().find(|one| one.subject == "Lunch").unwrap();
    assert_eq!(lunch.status, ActivityStatus::Cancelled);
    assert_eq!(lunch.scheduled_at, Some(at("2027-01-05T11:00:00Z")));
    assert_eq!(lunch.duration_minutes, Some(60));
    // What nobody knows is cancelled already.
    let report = w.take(&method("CANCEL", "UID:unheard-of")).await;
    assert_eq!((report.unchanged, report.not_taken), (1, vec![]));
}

/// An answer names who answers and to what, and need not say when that is.
#[tokio::test]
async fn an_answer_need_not_say_the_time() {
    let w = world().await;
    w.hank().await;
    w.take(&invitation("REQUEST", "NEEDS-ACTION", "")).await;
    let reply = "UID:kick-off\nATTENDEE;PARTSTAT=DECLINED:mailto:hank@globex.example";
    let report = w.take(&method("REPLY", reply)).await;
    assert_eq!((report.updated, report.not_taken), (1, vec![]));
    let who = w.who("Kick-off").await;
    assert!(
        who.iter()
            .any(|(kind, _, answer, _)| kind == "Contact" && answer == "Declined")
    );
    let report = w
        .take(&method("REQUEST", "UID:other\nSUMMARY:No time"))
        .await;
    assert_eq!(report.not_taken[0].reason, Reason::Time);
}

/// What took place once may become a series and the other way round: there is never both.
#[tokio::test]
async fn an_event_becomes_a_series_and_a_series_an_event() {
    let w = world().await;
    let review = "UID:r@x\nSUMMARY:Review\nDTSTART:20270104T090000Z";
    w.take(&single(&format!("{review}\nSEQUENCE:1"))).await;
    let account = w.session.accounts().create(Account::new("Globex")).await;
    let account = account.unwrap().id;
    let once = w.all_activities().await[0].id;
    let link = |activity: &mut Activity| activity.links.account_id = Some(account);
    w.session.activities().update(once, link).await.unwrap();

    let weekly = format!("{review}\nSEQUENCE:2\nRRULE:FREQ=WEEKLY;COUNT=3");
    let report = w.take(&single(&weekly)).await;
    assert_eq!((report.created, report.not_taken), (1, vec![]));
    assert_eq!(w.all_activities().await.len(), 0);
    let series = w.all_series().await;
    assert_eq!(
        series[0].pattern.links.account_id,
        Some(account),
        "as it was linked here"
    );
    assert_eq!(w.starts(series[0].id).await.len(), 3);
    assert_eq!(w.take(&single(&weekly)).await.unchanged, 1);
    let stale = w.take(&single(&format!("{review}\nSEQUENCE:1"))).await;
    assert_eq!((stale.created, stale.unchanged), (0, 1));
    assert_eq!(w.all_series().await.len(), 1);

    let report = w.take(&single(&format!("{review}\nSEQUENCE:3"))).await;
    assert_eq!((report.created, report.not_taken), (1, vec![]));
    assert_eq!(w.all_series().await.len(), 0);
    let all = w.all_activities().await;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].links.account_id, Some(account));
    assert_eq!(
        w.take(&single(&format!("{review}\nSEQUENCE:3")))
            .await
            .unchanged,
        1
    );

    // In one text, one UID is one event: the other is told, and takes nothing away.
    let text = event(&format!(
        "BEGIN:VEVENT\n{WEEKLY}\nEND:VEVENT\nBEGIN:VEVENT\nUID:w@x\nSUMMARY:Other\n\
         DTSTART:20270104T090000Z\nEND:VEVENT"
    ));
    for created in [1, 0] {
        let report = w.take(&text).await;
        assert_eq!(report.created, created);
        let told: Vec<_> = report
            .not_taken
            .iter()
            .map(|one| (one.place, &one.reason))
            .collect();
        assert_eq!(told, [(1, &Reason::Uid)]);
    }
    assert_eq!(w.all_series().await.len(), 1);
}

/// A later revision of one occurrence is not undone by an earlier one, and an occurrence may be named by
/// its day alone.
#[tokio::test]
async fn occurrences_have_revisions_and_days() {
    let w = world().await;
    w.take(&single(WEEKLY)).await;
    let id = w.all_series().await[0].id;
    let moved = |sequence: u32, named: &str, hour: u32| {
        single(&format!(
            "UID:w@x\nSEQUENCE:{sequence}\nSUMMARY:Weekly\nRECURRENCE-ID{named}\n\
             DTSTART;TZID=Europe/Berlin:20270111T{hour}0000"
        ))
    };
    let exact = ";TZID=Europe/Berlin:20270111T090000";
    let day = ";VALUE=DATE:20270111";
    assert_eq!(w.take(&moved(5, exact, 14)).await.updated, 1);
    assert_eq!(w.take(&moved(4, exact, 11)).await.unchanged, 1);
    assert_eq!(w.take(&moved(4, day, 11)).await.unchanged, 1);
    let start = async || w.all_activities().await[0].scheduled_at;
    assert_eq!(start().await, Some(at("2027-01-11T13:00:00Z")));
    let report = w.take(&moved(6, day, 15)).await;
    assert_eq!((report.updated, report.not_taken), (1, vec![]));
    assert_eq!(start().await, Some(at("2027-01-11T14:00:00Z")));
    assert_eq!(w.starts(id).await.len(), 20);
    let gone = "UID:w@x\nSEQUENCE:7\nRECURRENCE-ID;VALUE=DATE:20270118";
    assert_eq!(w.take(&method("CANCEL", gone)).await.cancelled, 1);
    assert_eq!(w.starts(id).await.len(), 19);
    let late = single(
        "UID:w@x\nSEQUENCE:6\nRECURRENCE-ID;TZID=Europe/Berlin:20270118T090000\n\
         DTSTART;TZID=Europe/Berlin:20270118T100000",
    );
    assert_eq!(w.take(&late).await.unchanged, 1);
    assert_eq!(w.starts(id).await.len(), 19);
    // No occurrence on this day.
    let report = w.take(&moved(8, ";VALUE=DATE:20270112", 10)).await;
    assert_eq!(report.not_taken.len(), 1);

    // Whole days, named by a time.
    let fair = "UID:f@x\nSUMMARY:Fair\nDTSTART;VALUE=DATE:20270301\nRRULE:FREQ=DAILY;COUNT=3";
    w.take(&single(fair)).await;
    let cancel = "UID:f@x\nRECURRENCE-ID:20270302T000000Z";
    assert_eq!(w.take(&method("CANCEL", cancel)).await.cancelled, 1);
}

/// What could not be taken is told by its place in the text, whatever stands before it and whether the
/// text or the engine is the reason.
#[tokio::test]
async fn places_are_those_of_the_text() {
    let w = world().await;
    let text = event(
        "BEGIN:VEVENT\nSUMMARY:No identifier\nDTSTART:20270328T000000Z\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:1\nRECURRENCE-ID:20270329T000000Z\nDTSTART:20270328T000000Z\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:1\nDTSTART:20270328T000000Z\nRRULE:FREQ=WEEKLY\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:2\nDTSTART:20270328T000000Z\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:3\nEND:VEVENT",
    );
    let report = w.take(&text).await;
    assert_eq!(report.created, 2);
    let told: Vec<_> = report.not_taken.iter().map(|one| one.place).collect();
    assert_eq!(told, [0, 1, 4]);
    assert!(matches!(report.not_taken[1].reason, Reason::Refused(_)));
}

/// A zone that only its offsets describe, and that tells what once was, is the one that holds now.
#[test]
fn a_zone_with_a_history_is_the_one_that_holds_now() {
    let part = |kind: &str, from: &str, to: &str, begin: &str, rule: &str| {
        let rule = if rule.is_empty() {
            String::new()
        } else {
            format!("RRULE:{rule}\n")
        };
        format!(
            "BEGIN:{kind}\nDTSTART:{begin}\n{rule}TZOFFSETFROM:{from}\nTZOFFSETTO:{to}\nEND:{kind}\n"
        )
    };
    let yearly = |month: u32| format!("FREQ=YEARLY;BYDAY=-1SU;BYMONTH={month}");
    // Central Europe, with the rules before 1996.
    let central = [
        part("STANDARD", "+0053", "+0100", "18930401T000000", ""),
        part("DAYLIGHT", "+0200", "+0300", "19450524T020000", ""),
        part("DAYLIGHT", "+0100", "+0200", "19810329T020000", &yearly(3)),
        part("STANDARD", "+0200", "+0100", "19961027T030000", &yearly(10)),
    ];
    // Moscow has given up daylight saving time.
    let moscow = [
        part(
            "DAYLIGHT",
            "+0300",
            "+0400",
            "19930328T020000",
            "FREQ=YEARLY;UNTIL=20100327T230000Z",
        ),
        part("STANDARD", "+0400", "+0300", "20141026T020000", ""),
    ];
    // A program that lists every change on its own.
    let listed = [
        part("DAYLIGHT", "+0100", "+0200", "20270328T020000", ""),
        part("STANDARD", "+0200", "+0100", "20271031T030000", ""),
    ];
    let options = ReadOptions::new(
        Id::<User>::new(uuid::Uuid::from_u128(1)),
        Id::<Deal>::new(uuid::Uuid::from_u128(2)),
    );
    for (parts, wanted) in [
        (&central[..], "2027-07-05T07:00:00Z"),
        (&moscow, "2027-07-05T06:00:00Z"),
        (&listed, "2027-07-05T07:00:00Z"),
    ] {
        let parts = parts.concat();
        let text = event(&format!(
            "BEGIN:VTIMEZONE\nTZID:Ours\n{parts}END:VTIMEZONE\nBEGIN:VEVENT\nUID:1\n\
             DTSTART;TZID=Ours:20270705T090000\nEND:VEVENT"
        ));
        let contents = read(&text, &options).unwrap();
        assert_eq!(contents.not_taken, [], "{wanted}");
        let EntryContent::Activity(one) = &contents.entries[0].content else {
            panic!("a series")
        };
        assert_eq!(one.scheduled_at, Some(at(wanted)));
    }
}
