//! Which status and qualification may follow which, on every way of writing; what follows from them;
//! stale leads.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Months, Utc};
use crm_engine::engine::ManualClock;
use crm_engine::error::codes;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::imports::ImportMode;
use crm_engine::leads::{LeadStatus, Qualification, next_qualifications, next_statuses};
use crm_engine::prelude::*;
use proptest::prelude::*;
use serde_json::json;

use super::{cases, common, company, lead, session};

/// The ways in which a lead is written.
const WAYS: [&str; 5] = [
    "service",
    "update",
    "merge patch",
    "by name",
    "unit of work",
];

/// Writes one field of a lead, given as the typed change and as the patch.
async fn write(
    session: &Session,
    way: &str,
    lead: &Record<Lead>,
    (status, qualification): (Option<LeadStatus>, Option<Qualification>),
) -> Result<()> {
    let mut patch = serde_json::Map::new();
    if let Some(status) = status {
        patch.insert("status".into(), json!(status.as_str()));
    }
    if let Some(qualification) = qualification {
        patch.insert("qualification_status".into(), json!(qualification.as_str()));
    }
    let change = |lead: &mut Lead| {
        lead.status = status.unwrap_or(lead.status);
        lead.qualification_status = qualification.unwrap_or(lead.qualification_status);
    };
    let mut leads = session.leads();
    match (way, status, qualification) {
        ("service", Some(status), _) => leads.set_status(lead.id, status).await.map(drop),
        ("service", _, Some(to)) => leads.set_qualification(lead.id, to).await.map(drop),
        ("update", ..) => leads.update(lead.id, change).await.map(drop),
        ("merge patch", ..) => leads.merge(lead.id, lead.version, &patch).await.map(drop),
        ("by name", ..) => {
            let mut leads = session.object("lead").await.unwrap();
            let merged = leads.merge(lead.id.uuid(), lead.version, &patch).await;
            merged.map(drop)
        }
        ("unit of work", ..) => {
            let mut work = session.begin();
            work.leads().update(lead.id, change).await?;
            work.commit().await.map(drop)
        }
        (other, ..) => panic!("no way is called {other}"),
    }
}

fn is_allowed(from: LeadStatus, to: LeadStatus) -> bool {
    from == to || next_statuses(from).contains(&to)
}

/// the table of statuses is what every way of writing accepts, row by row.
#[tokio::test]
async fn the_table_of_statuses_holds_on_every_way() {
    let session = session().await;
    for from in LeadStatus::ALL
        .iter()
        .filter(|one| **one != LeadStatus::Converted)
    {
        for to in LeadStatus::ALL {
            for way in WAYS {
                let made = Lead {
                    status: *from,
                    ..company("Globex")
                };
                let made = lead(&session, made).await;
                let outcome = write(&session, way, &made, (Some(*to), None)).await;
                let stored = session.leads().get(made.id).await.unwrap();
                let what = format!("{from} to {to} by {way}");
                assert_eq!(outcome.is_ok(), is_allowed(*from, *to), "{what}");
                let expected = if outcome.is_ok() { *to } else { *from };
                assert_eq!(stored.status, expected, "{what}");
                if let Err(error) = outcome {
                    assert_eq!(error.code(), "transition", "{what}");
                    for allowed in next_statuses(*from) {
                        let name = format!("`{allowed}`");
                        assert!(error.to_string().contains(&name), "{what}: {error}");
                    }
                }
            }
        }
    }
}

/// The table of qualifications, likewise.
#[tokio::test]
async fn the_table_of_qualifications_holds_on_every_way() {
    let session = session().await;
    for from in Qualification::ALL {
        for to in Qualification::ALL {
            for way in WAYS {
                let made = Lead {
                    qualification_status: *from,
                    ..company("Globex")
                };
                let made = lead(&session, made).await;
                let outcome = write(&session, way, &made, (None, Some(*to))).await;
                let what = format!("{from} to {to} by {way}");
                let is_allowed = from == to || next_qualifications(*from).contains(to);
                assert_eq!(outcome.is_ok(), is_allowed, "{what}");
                if let Err(error) = outcome {
                    assert_eq!(error.code(), "transition", "{what}");
                }
            }
        }
    }
}

/// an import is no way around the table.
#[tokio::test]
async fn the_table_of_statuses_holds_for_imports() {
    let session = session().await;
    let mut file = "Mail,Status\n".to_owned();
    let mut pairs = BTreeMap::new();
    for from in LeadStatus::ALL
        .iter()
        .filter(|one| **one != LeadStatus::Converted)
    {
        for to in LeadStatus::ALL {
            let mail = format!("{}-{}@x.example", from.as_str(), to.as_str()).replace('_', "");
            let made = Lead {
                email: Some(EmailAddress::parse(&mail).unwrap()),
                status: *from,
                ..company("Globex")
            };
            let made = lead(&session, made).await;
            file.push_str(&format!("{mail},{to}\n"));
            pairs.insert(made.id, (*from, *to));
        }
    }
    let mapping = Mapping::new("lead")
        .column("Mail", "email")
        .column("Status", "status");
    let import = Import {
        mode: ImportMode::Upsert,
        keys: vec!["email".into()],
        ..Import::new(mapping)
    };
    let source = Source::bytes("leads.csv", file.into_bytes());
    let job = session.import().start(&source, &import).await.unwrap();
    let done = session.import().run(job.id, &source, &()).await.unwrap();
    let refused = pairs.values().filter(|(from, to)| !is_allowed(*from, *to));
    assert_eq!(
        done.counts.failed_rows,
        i64::try_from(refused.count()).unwrap()
    );
    for (id, (from, to)) in pairs {
        let stored = session.leads().get(id).await.unwrap();
        let expected = if is_allowed(from, to) { to } else { from };
        assert_eq!(stored.status, expected, "{from} to {to}");
    }
}

/// the score is the engine's, whoever asks.
#[tokio::test]
async fn the_score_of_a_lead_is_written_by_nobody() {
    let session = session().await;
    let made = lead(&session, company("Globex")).await;
    let patch = json!({"lead_score": 101});
    let patch = patch.as_object().unwrap();
    let error = session.leads().merge(made.id, 1, patch).await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, codes::READ_ONLY);
}

#[tokio::test]
async fn leads_are_qualified_rejected_lost_and_reopened() {
    let session = session().await;
    let id = lead(&session, company("Globex")).await.id;
    let mut leads = session.leads();
    let error = leads
        .qualify(id, Qualification::Unassessed)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].path, "qualification_status");
    let marketing = Qualification::MarketingQualified;
    let qualified = leads.qualify(id, marketing).await.unwrap();
    assert_eq!(qualified.status, LeadStatus::Qualified);
    assert_eq!(qualified.qualified_at, Some(qualified.updated.at));
    // Who is qualified further stays qualified since then.
    let accepted = leads
        .qualify(id, Qualification::SalesQualified)
        .await
        .unwrap();
    assert_eq!(accepted.qualified_at, qualified.qualified_at);
    let error = leads.disqualify(id, "  ").await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, codes::BLANK);
    let rejected = leads.disqualify(id, "no budget").await.unwrap();
    assert_eq!(rejected.status, LeadStatus::Disqualified);
    assert_eq!(rejected.status_reason.as_deref(), Some("no budget"));
    assert_eq!(rejected.qualified_at, None);
    let error = leads.qualify(id, marketing).await.unwrap_err();
    assert_eq!(error.code(), "transition");
    let reopened = leads.reopen(id).await.unwrap();
    assert_eq!(reopened.status, LeadStatus::New);
    assert_eq!(reopened.status_reason, None);
    assert_eq!(leads.reopen(id).await.unwrap_err().code(), "transition");
    let lost = leads.lose(id, "went elsewhere").await.unwrap();
    assert_eq!(lost.status, LeadStatus::Lost);
    // With an activity it was contacted.
    let admin = session
        .users()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap();
    let call = Activity::new(ActivityType::Call, "Ask again", id, admin.id);
    let call = session.activities().create(call).await.unwrap();
    session.activities().complete(call.id, None).await.unwrap();
    let reopened = session.leads().reopen(id).await.unwrap();
    assert_eq!(reopened.status, LeadStatus::Contacted);
}

/// Whatever happens to a lead, by whichever way: its status is one that the table leads to, and the
/// times of assignment and qualification are those of the last change that made them so.
#[test]
fn times_and_status_follow_any_history() {
    let steps = prop::collection::vec((0..WAYS.len(), 0..LeadStatus::ALL.len(), 0..3_usize), 1..14);
    cases(16, common::crm, steps, |_, session, steps| async move {
        let users = [
            super::user(&session, "ada", None).await,
            super::user(&session, "grace", None).await,
        ];
        let mut known = lead(&session, company("Globex")).await;
        for (way, to, owner) in steps {
            let to = LeadStatus::ALL[to];
            let before = known.clone();
            let outcome = write(&session, WAYS[way], &before, (Some(to), None)).await;
            prop_assert_eq!(outcome.is_ok(), is_allowed(before.status, to));
            let moved = session.leads().get(before.id).await.unwrap();
            let expected = match (outcome.is_ok(), to) {
                (false, _) => before.qualified_at,
                (true, _) if to == before.status => before.qualified_at,
                (true, LeadStatus::Qualified) => Some(moved.updated.at),
                (true, LeadStatus::Lost | LeadStatus::Archived) => before.qualified_at,
                _ => None,
            };
            prop_assert_eq!(moved.qualified_at, expected);
            let owner = users.get(owner).copied();
            let change = |lead: &mut Lead| lead.owner_id = owner;
            known = session.leads().update(before.id, change).await.unwrap();
            let expected = match owner {
                _ if owner == before.owner_id => before.assigned_at,
                Some(_) => Some(known.updated.at),
                None => None,
            };
            prop_assert_eq!(known.assigned_at, expected);
        }
        Ok(())
    });
}

fn day(text: &str) -> DateTime<Utc> {
    format!("{text}T12:00:00Z").parse().unwrap()
}

/// leads without activity for two years are archived, unless converted or archived; the count
/// before, a stop on the way and a second run agree.
#[tokio::test]
async fn stale_leads_are_archived() {
    let clock = Arc::new(ManualClock::new(day("2020-01-15")));
    let storage = common::backend::storage(&[]);
    let crm = Crm::builder(storage).clock(clock.clone()).build();
    let (onboarded, session) = common::tenant(&crm, "acme").await;
    let mut expected: BTreeSet<Id<Lead>> = BTreeSet::new();
    let statuses = [
        LeadStatus::New,
        LeadStatus::Contacted,
        LeadStatus::Qualified,
        LeadStatus::Disqualified,
        LeadStatus::Lost,
    ];
    for status in statuses {
        // More than one commit of new ones.
        let count = if status == LeadStatus::New { 601 } else { 3 };
        let made = (0..count).map(|number| Lead {
            status,
            ..company(&format!("{status} {number}"))
        });
        let made = session.leads().create_all(made.collect()).await.unwrap();
        expected.extend(made.iter().map(|lead| lead.id));
    }
    let archived = Lead {
        status: LeadStatus::Archived,
        ..company("Archived")
    };
    let archived = lead(&session, archived).await;
    let aside = lead(&session, company("Out of the way")).await;
    session.leads().archive(aside.id).await.unwrap();
    // One was called since, one long ago.
    let mut ids = expected.clone().into_iter();
    let (called, once) = (ids.next().unwrap(), ids.next().unwrap());
    for (id, at) in [(once, day("2020-02-01")), (called, day("2021-06-01"))] {
        clock.set(at);
        let call = Activity::new(ActivityType::Call, "Hello", id, onboarded.admin);
        let call = session.activities().create(call).await.unwrap();
        session.activities().complete(call.id, None).await.unwrap();
    }
    expected.remove(&called);
    clock.set(day("2021-12-31"));
    let young = lead(&session, company("Young")).await;

    let count = session.leads().count_stale().await.unwrap();
    assert_eq!(count, 0, "nothing is two years old");
    clock.set(day("2022-01-15"));
    // The very moment is not yet past.
    assert_eq!(session.leads().count_stale().await.unwrap(), 0);
    clock.set(day("2022-02-02"));
    let count = session.leads().count_stale().await.unwrap();
    assert_eq!(count, expected.len() as u64);
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let some = session.leads().archive_stale(&stop).await.unwrap();
    assert!(some.is_stopped);
    assert_eq!(
        session.leads().count_stale().await.unwrap(),
        count - some.archived
    );
    let rest = session.leads().archive_stale(&()).await.unwrap();
    assert!(!rest.is_stopped);
    assert_eq!(some.archived + rest.archived, count);
    assert_eq!(
        session.leads().archive_stale(&()).await.unwrap().archived,
        0
    );

    let all = common::rows_of(&session, "lead").await;
    let now_archived: BTreeSet<Id<Lead>> = all
        .into_iter()
        .filter_map(Record::<Lead>::from_row)
        .filter(|lead| lead.status == LeadStatus::Archived && lead.id != archived.id)
        .map(|lead| lead.id)
        .collect();
    assert!(now_archived == expected);
    for (id, version) in [(archived.id, 1), (aside.id, 2), (young.id, 1)] {
        assert_eq!(session.leads().get(id).await.unwrap().version, version);
    }
    // The tenant's own period.
    let mut settings = session.configurations();
    let error = settings.set_stale_lead_months(0).await.unwrap_err();
    assert_eq!(error.field_errors()[0].code, codes::OUT_OF_RANGE);
    settings.set_stale_lead_months(1).await.unwrap();
    assert_eq!(settings.stale_lead_months().await.unwrap(), 1);
    assert_eq!(
        session.leads().count_stale().await.unwrap(),
        2,
        "called and young"
    );
    // A unit of work is one commit.
    let mut work = session.begin();
    let error = work.leads().archive_stale(&()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// what is counted and archived is what a look at every lead says.
#[test]
fn stale_leads_are_those_that_a_look_at_each_finds() {
    let made = prop::collection::vec(
        (
            0..LeadStatus::ALL.len(),
            0..48_u32,
            prop::option::of(0..48_u32),
            any::<bool>(),
        ),
        0..25,
    );
    let strategy = (made, 1..48_u32);
    let now = day("2026-06-15");
    let clock = Arc::new(ManualClock::new(now));
    let crm = || {
        let storage = common::backend::storage(&[]);
        Crm::builder(storage).clock(clock.clone()).build()
    };
    cases(16, crm, strategy, |onboarded, session, (made, period)| {
        let clock = clock.clone();
        async move {
            clock.set(now);
            session
                .configurations()
                .set_stale_lead_months(period)
                .await
                .unwrap();
            for (status, age, called, aside) in made {
                let status = LeadStatus::ALL[status];
                if status == LeadStatus::Converted {
                    continue;
                }
                clock.set(now.checked_sub_months(Months::new(age)).unwrap());
                let made = Lead {
                    status,
                    ..company("Globex")
                };
                let made = lead(&session, made).await;
                if let Some(called) = called.filter(|called| *called <= age) {
                    clock.set(now.checked_sub_months(Months::new(called)).unwrap());
                    let call = Activity::new(ActivityType::Call, "x", made.id, onboarded.admin);
                    let call = session.activities().create(call).await.unwrap();
                    session.activities().complete(call.id, None).await.unwrap();
                }
                if aside {
                    session.leads().archive(made.id).await.unwrap();
                }
            }
            clock.set(now);
            let cutoff = now.checked_sub_months(Months::new(period)).unwrap();
            let leads = |rows: Vec<crm_engine::schema::Row>| {
                rows.into_iter().filter_map(Record::<Lead>::from_row)
            };
            let expected: BTreeSet<Id<Lead>> = leads(common::rows_of(&session, "lead").await)
                .filter(|lead| lead.archived_at.is_none())
                .filter(|lead| lead.status != LeadStatus::Archived)
                .filter(|lead| lead.last_activity_at.unwrap_or(lead.created.at) < cutoff)
                .map(|lead| lead.id)
                .collect();
            let before: BTreeSet<Id<Lead>> = leads(common::rows_of(&session, "lead").await)
                .filter(|lead| lead.status == LeadStatus::Archived)
                .map(|lead| lead.id)
                .collect();
            prop_assert_eq!(
                session.leads().count_stale().await.unwrap(),
                expected.len() as u64
            );
            let done = session.leads().archive_stale(&()).await.unwrap();
            prop_assert_eq!(done.archived, expected.len() as u64);
            let after: BTreeSet<Id<Lead>> = leads(common::rows_of(&session, "lead").await)
                .filter(|lead| lead.status == LeadStatus::Archived && !before.contains(&lead.id))
                .map(|lead| lead.id)
                .collect();
            prop_assert_eq!(after, expected);
            Ok(())
        }
    });
}

/// UTM: counts by link are those of a look at each lead.
#[test]
fn attribution_by_utm_is_what_a_look_at_each_lead_says() {
    use crm_engine::leads::Utm;
    let utm = (0..3_usize, 0..3_usize, 0..3_usize);
    let made = prop::collection::vec((prop::option::of(utm), 0..6_usize, 0..3_usize), 0..30);
    cases(12, common::crm, made, |_, session, made| async move {
        const NAMES: [Option<&str>; 3] = [None, Some("google"), Some("letter")];
        type Counts = (u64, u64, u64);
        let mut expected: BTreeMap<[Option<&str>; 3], Counts> = BTreeMap::new();
        let mut of_banks = 0;
        for (utm, status, industry) in made {
            let status = LeadStatus::ALL[status];
            let mut one = Lead {
                status: if status == LeadStatus::Converted {
                    LeadStatus::New
                } else {
                    status
                },
                industry: ["banking", "farming", "fishing"]
                    .get(industry)
                    .map(|&name| name.into()),
                ..company("Globex")
            };
            let names = utm.map(|(a, b, c)| [NAMES[a], NAMES[b], NAMES[c]]);
            one.source.utm = names.map(|[source, medium, campaign]| Utm {
                source: source.map(Into::into),
                medium: medium.map(Into::into),
                campaign: campaign.map(Into::into),
                ..Utm::default()
            });
            let is_qualified = one.status == LeadStatus::Qualified;
            let is_bank = industry == 0;
            lead(&session, one).await;
            if let Some(names) = names.filter(|names| names.iter().any(Option::is_some)) {
                let counts = expected.entry(names).or_default();
                counts.0 += 1;
                counts.1 += u64::from(is_qualified);
                of_banks += u64::from(is_bank);
            }
        }
        let found = session
            .leads()
            .attribution_by_utm(Filter::all())
            .await
            .unwrap();
        let counts: Vec<u64> = found.iter().map(|one| one.leads).collect();
        prop_assert!(counts.is_sorted_by(|a, b| a >= b));
        let found: BTreeMap<[Option<&str>; 3], Counts> = found
            .iter()
            .map(|one| {
                let key = [
                    one.source.as_deref(),
                    one.medium.as_deref(),
                    one.campaign.as_deref(),
                ];
                (key, (one.leads, one.qualified, one.converted))
            })
            .collect();
        prop_assert_eq!(found, expected);
        let banks = Lead::INDUSTRY.eq("banking");
        let banks = session.leads().attribution_by_utm(banks).await.unwrap();
        prop_assert_eq!(banks.iter().map(|one| one.leads).sum::<u64>(), of_banks);
        Ok(())
    });
}
