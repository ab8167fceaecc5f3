//! C-006, R-032 to: leads become contacts, accounts and deals, stay as they are from then
//! on, and become leads again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{backend, crm, rows_of, tenant, writable_objects};
use async_trait::async_trait;
use crm_engine::activities::{ActivityLinks, ActivitySeries, LocalDateTime, Recurrence};
use crm_engine::campaigns::{Campaign, CampaignMember, MemberStatus};
use crm_engine::contacts::{BuyingRole, ContactAffiliation};
use crm_engine::deals::DealContact;
use crm_engine::engine::{Write, WriteRule};
use crm_engine::error::RuleViolation;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::imports::ImportMode;
use crm_engine::leads::{
    ConversionDeal, ConversionInUse, ConversionPlan, ConversionTarget, LeadConversion,
    LeadConversionMapping, UndoObstacleReason,
};
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::privacy::{Consent, ConsentEvidence, Grant};
use crm_engine::tenancy::Onboarded;
use crm_engine::value::{Country, HttpUrl};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

fn email(text: &str) -> Option<EmailAddress> {
    Some(EmailAddress::parse(text).unwrap())
}

fn bill() -> Lead {
    Lead {
        name: Some(PersonName::new("Bill", "Lumbergh")),
        company: Some("Initech".into()),
        email: email("bill@initech.example"),
        job_title: Some("Vice president".into()),
        website: Some(HttpUrl::parse("https://initech.example").unwrap()),
        industry: Some("Software".into()),
        employee_count: Some(120),
        mailing_address: Some(Address {
            city: Some("Austin".into()),
            country: Some(Country::parse("US").unwrap()),
            ..Address::default()
        }),
        description: Some("Wants reports".into()),
        decision_maker: true,
        tags: vec!["fair".into()],
        custom_fields: json!({"segment": "mid", "printers": 3}),
        ..Lead::default()
    }
}

async fn scene() -> (Onboarded, Session) {
    tenant(&crm(), "acme").await
}

async fn lead(session: &Session, lead: Lead) -> Id<Lead> {
    session.leads().create(lead).await.unwrap().id
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    let errors = error.field_errors().iter();
    errors
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

async fn merge<E: Entity>(session: &Session, survivor: Id<E>, loser: Id<E>) -> Id<Merge> {
    let mut records = session.records::<E>();
    let merged = records
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await;
    merged.unwrap().merges[0]
}

/// Every live record that users write, without versions and stamps.
async fn state(session: &Session) -> BTreeMap<(String, Uuid), Map<String, Json>> {
    let mut state = BTreeMap::new();
    for object in writable_objects(session) {
        for row in rows_of(session, object.name()).await {
            if row.is_deleted() {
                continue;
            }
            let mut json = row.to_json();
            for field in ["version", "updated_at", "updated_by", "updated_by_id"] {
                json.remove(field);
            }
            state.insert((object.name().to_owned(), row.id()), json);
        }
    }
    state
}

/// C-006, R-032, R-083: in one commit the lead becomes a contact, an account and a deal, by the mapping,
/// and remembers them.
#[tokio::test]
async fn a_lead_becomes_a_contact_an_account_and_a_deal() {
    let (acme, session) = scene().await;
    let pair = LeadConversionMapping {
        source_field: Some("custom_fields.segment".into()),
        ..LeadConversionMapping::new(ConversionTarget::Account, "custom_fields.size")
    };
    let mut pairs = session.records::<LeadConversionMapping>();
    pairs.create(pair).await.unwrap();
    let none = LeadConversionMapping::new(ConversionTarget::Contact, "description");
    pairs.create(none).await.unwrap();
    let owner = acme.admin;
    let id = lead(
        &session,
        Lead {
            owner_id: Some(owner),
            ..bill()
        },
    )
    .await;
    let rollout = ConversionDeal {
        amount: Some(Decimal::new(1_200_050, 2)),
        currency: Some("CHF".parse().unwrap()),
        stage: Some(acme.stages[1]),
        ..ConversionDeal::new("Rollout")
    };
    let done = session
        .leads()
        .convert(id, ConversionPlan::with_deal(rollout))
        .await
        .unwrap();

    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored, done.lead);
    assert_eq!(stored.status, LeadStatus::Converted);
    let conversion = stored.conversion.as_ref().unwrap();
    assert_eq!(conversion.contact_id, Some(done.contact));
    assert_eq!(conversion.account_id, done.account);
    assert_eq!(conversion.deal_id, done.deal);
    assert_eq!(conversion.at, stored.updated.at);

    let account = session.accounts().get(done.account.unwrap()).await.unwrap();
    assert_eq!(account.name, "Initech");
    assert_eq!(account.industry.as_deref(), Some("Software"));
    assert_eq!(account.employee_count, Some(120));
    assert_eq!(account.custom_fields, json!({"size": "mid"}));
    assert_eq!(account.description, None);
    let contact = session.contacts().get(done.contact).await.unwrap();
    assert_eq!(contact.name, PersonName::new("Bill", "Lumbergh"));
    assert_eq!(contact.email, email("bill@initech.example"));
    assert_eq!(contact.job_title.as_deref(), Some("Vice president"));
    assert_eq!(
        contact.mailing_address.as_ref().unwrap().city.as_deref(),
        Some("Austin")
    );
    assert_eq!(contact.tags, ["fair"]);
    assert_eq!(contact.owner_id, Some(owner));
    assert_eq!(contact.account_id, done.account);
    assert_eq!(contact.company, None);
    assert_eq!(contact.description, None, "the tenant leaves it alone");
    let deal = session.deals().get(done.deal.unwrap()).await.unwrap();
    assert_eq!(deal.name, "Rollout");
    assert_eq!(deal.amount, Some(Decimal::new(1_200_050, 2)));
    assert_eq!(deal.currency.to_string(), "CHF");
    assert_eq!(deal.stage_id, Some(acme.stages[1]));
    assert_eq!(
        (deal.contact_id, deal.account_id),
        (Some(done.contact), done.account)
    );
    let people = session.deals().contacts_of(deal.id).await.unwrap();
    assert_eq!(people.len(), 1);
    assert!(people[0].link.is_primary);
    assert_eq!(people[0].link.role, Some(BuyingRole::DecisionMaker));
    let affiliations = session
        .contacts()
        .affiliations(contact.id, None)
        .await
        .unwrap();
    assert_eq!(affiliations.len(), 1);
    assert!(affiliations[0].is_primary);

    // One commit.
    let mut commits: Vec<Uuid> = Vec::new();
    let trails = [
        EntityRef::from(id),
        contact.id.into(),
        account.id.into(),
        deal.id.into(),
        people[0].link.id.into(),
    ];
    for record in trails {
        let trail = session.audit().trail(record).await.unwrap();
        commits.push(trail.last().unwrap().commit_id);
    }
    commits.dedup();
    assert_eq!(commits.len(), 1);
    common::assert_trail_tells_every_record(&session).await;
}

/// C-006: a lead without a company has no account; a plan may say so, too.
#[tokio::test]
async fn an_account_is_made_only_for_a_company() {
    let (_, session) = scene().await;
    let alone = Lead {
        company: None,
        ..bill()
    };
    let id = lead(&session, alone).await;
    let done = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap();
    assert_eq!((done.account, done.deal), (None, None));

    let other = Lead {
        email: email("b@initech.example"),
        ..bill()
    };
    let id = lead(&session, other).await;
    let plan = ConversionPlan::new().without_account();
    let done = session.leads().convert(id, plan).await.unwrap();
    assert_eq!(done.account, None);
    let contact = session.contacts().get(done.contact).await.unwrap();
    assert_eq!(contact.company.as_deref(), Some("Initech"));
}

/// C-006: existing records take only what they lack.
#[tokio::test]
async fn existing_records_are_filled_only_where_they_are_empty() {
    let (_, session) = scene().await;
    let account = Account {
        industry: Some("Printers".into()),
        tags: vec!["key".into()],
        ..Account::new("Initech Inc.")
    };
    let account = session.accounts().create(account).await.unwrap();
    let contact = Contact {
        job_title: Some("Boss".into()),
        mailing_address: Some(Address {
            street: Some("Main Street".into()),
            ..Address::default()
        }),
        ..Contact::named("William", "Lumbergh")
    };
    let contact = session.contacts().create(contact).await.unwrap();
    let id = lead(&session, bill()).await;
    let plan = ConversionPlan::new()
        .into_contact(contact.id)
        .into_account(account.id);
    let done = session.leads().convert(id, plan).await.unwrap();
    assert_eq!((done.contact, done.account), (contact.id, Some(account.id)));
    let account = session.accounts().get(account.id).await.unwrap();
    assert_eq!(account.name, "Initech Inc.");
    assert_eq!(account.industry.as_deref(), Some("Printers"));
    assert_eq!(account.employee_count, Some(120));
    assert_eq!(account.tags, ["key", "fair"]);
    let contact = session.contacts().get(contact.id).await.unwrap();
    assert_eq!(contact.name, PersonName::new("William", "Lumbergh"));
    assert_eq!(contact.job_title.as_deref(), Some("Boss"));
    assert_eq!(contact.email, email("bill@initech.example"));
    // An address is one: the town of another is not put into it.
    assert_eq!(contact.mailing_address.as_ref().unwrap().city, None);
    assert_eq!(contact.account_id, Some(account.id));

    // The account of an existing contact is that of the conversion, unless the plan says otherwise.
    let second = lead(
        &session,
        Lead {
            email: None,
            ..bill()
        },
    )
    .await;
    let plan = ConversionPlan::new().into_contact(contact.id);
    let done = session.leads().convert(second, plan).await.unwrap();
    assert_eq!(done.account, Some(account.id));
    let third = lead(
        &session,
        Lead {
            email: None,
            ..bill()
        },
    )
    .await;
    let plan = ConversionPlan::new()
        .into_contact(contact.id)
        .into_new_account();
    let done = session.leads().convert(third, plan).await.unwrap();
    let contact = session.contacts().get(contact.id).await.unwrap();
    assert_eq!(contact.account_id, Some(account.id), "it is not empty");
    let affiliations = session
        .contacts()
        .affiliations(contact.id, None)
        .await
        .unwrap();
    let besides = affiliations
        .iter()
        .find(|one| Some(one.account_id) == done.account);
    assert!(!besides.unwrap().is_primary);
}

/// C-006: the tenant's duplicate rules offer candidates, and strict ones refuse a double that nobody
/// accepted.
#[tokio::test]
async fn duplicate_rules_offer_candidates_and_refuse_doubles() {
    let (_, session) = scene().await;
    let rules = || session.duplicate_rules();
    for rule in [DuplicateRule::contacts(), DuplicateRule::companies()] {
        let strict = DuplicateRule {
            mode: DuplicateMode::Strict,
            ..rule
        };
        let rule = rules().create(strict).await.unwrap();
        session
            .duplicates()
            .rebuild_keys(rule.id, None, &())
            .await
            .unwrap();
    }
    let known = Contact {
        email: email("bill@initech.example"),
        ..Contact::named("Bill", "Lumbergh")
    };
    let known = session.contacts().create(known).await.unwrap();
    let id = lead(&session, bill()).await;
    let candidates = session.leads().candidates(id).await.unwrap();
    assert_eq!(candidates.contacts.matches[0].record.id, known.id.uuid());
    assert!(candidates.accounts.matches.is_empty());

    let before = state(&session).await;
    let another = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap_err();
    assert!(
        matches!(another, Error::DuplicateFound(_) | Error::Duplicate { .. }),
        "{another}"
    );
    assert_eq!(state(&session).await, before);
    // Another person, of a company that there is.
    let company = Account::new("Initech");
    let company = session.accounts().create(company).await.unwrap();
    let son = Lead {
        name: Some(PersonName::new("Peter", "Gibbons")),
        email: email("peter@initech.example"),
        ..bill()
    };
    let son = lead(&session, son).await;
    let candidates = session.leads().candidates(son).await.unwrap();
    assert_eq!(candidates.accounts.matches[0].record.id, company.id.uuid());
    let found = match session.leads().convert(son, ConversionPlan::new()).await {
        Err(Error::DuplicateFound(found)) => found,
        other => panic!("the account is a double: {other:?}"),
    };
    assert_eq!(found.object, "account");
    let plan = ConversionPlan::new().accepting(found.matches.iter().map(|one| one.record.id));
    session.leads().convert(son, plan).await.unwrap();
    let plan = ConversionPlan::new()
        .into_contact(known.id)
        .without_account();
    let done = session.leads().convert(id, plan).await.unwrap();
    assert_eq!(done.contact, known.id);
}

async fn consent(
    session: &Session,
    of: impl Into<crm_engine::privacy::ConsentSubject>,
) -> Id<Consent> {
    let grant = Grant::new(
        "marketing_email".parse().unwrap(),
        ConsentEvidence::default(),
    );
    session.consents().grant(of, grant).await.unwrap().id
}

/// C-006: activities and series belong to the records of the conversion besides; consents, comments and
/// followers move.
#[tokio::test]
async fn what_led_to_the_lead_is_carried_over() {
    let (acme, session) = scene().await;
    let user = acme.admin;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, user);
    let call = session.activities().create(call).await.unwrap().id;
    session.activities().invite(call, user, None).await.unwrap();
    session
        .activities()
        .complete(call, Some("interested"))
        .await
        .unwrap();
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let demo = Activity::new(
        ActivityType::Demo,
        "Demo",
        ActivityLinks {
            account_id: Some(globex),
            ..ActivityLinks::from(id)
        },
        user,
    );
    let demo = session.activities().create(demo).await.unwrap().id;
    let weekly = Activity::new(ActivityType::Meeting, "Review", id, user);
    let rule = Recurrence::parse("FREQ=WEEKLY;COUNT=5").unwrap();
    let monday = LocalDateTime::parse("2100-01-04T09:00").unwrap();
    let series = ActivitySeries::new(weekly, rule, monday);
    let series = session.activity_series().create(series).await.unwrap().id;
    let comment = session
        .comments()
        .write(id, "Nice person")
        .await
        .unwrap()
        .id;
    session.followers().follow(id, user).await.unwrap();
    let given = consent(&session, id).await;

    let plan = ConversionPlan::with_deal("Rollout");
    let done = session.leads().convert(id, plan).await.unwrap();
    let call = session.activities().get(call).await.unwrap();
    let all = ActivityLinks {
        account_id: done.account,
        contact_id: Some(done.contact),
        deal_id: done.deal,
        lead_id: Some(id),
        ..ActivityLinks::default()
    };
    assert_eq!(call.links, all);
    assert_eq!(call.status.as_str(), "completed");
    let demo = session.activities().get(demo).await.unwrap();
    assert_eq!(demo.links.account_id, Some(globex), "it has one");
    assert_eq!(demo.links.contact_id, Some(done.contact));
    let series = session.activity_series().get(series).await.unwrap();
    assert_eq!(series.pattern.links, all);
    let comment = session.comments().get(comment).await.unwrap();
    assert_eq!(
        (comment.object.as_str(), comment.record_id),
        ("contact", done.contact.uuid())
    );
    assert_eq!(session.followers().of(done.contact).await.unwrap(), [user]);
    let given = session.consents().get(given).await.unwrap();
    assert_eq!(
        (given.contact_id, given.lead_id),
        (Some(done.contact), None)
    );
    let purpose = "marketing_email".parse().unwrap();
    assert!(
        session
            .consents()
            .has_consent(done.contact, &purpose)
            .await
            .unwrap()
    );
    // What the records know of their activities follows.
    let contact = session.contacts().get(done.contact).await.unwrap();
    assert_eq!(contact.last_activity_at, call.completed_at);
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.last_activity_at, call.completed_at);
    let told: BTreeMap<_, _> = done
        .carried
        .iter()
        .map(|one| (one.object.as_str(), one.carried))
        .collect();
    assert_eq!(
        told,
        [
            ("activity", 2),
            ("activity_series", 1),
            ("comment", 1),
            ("consent", 1),
            ("follower", 1)
        ]
        .into()
    );
}

/// C-006, R-026: where the contact has a consent for the same purpose, that goes on counting; who
/// follows the contact already does so once.
#[tokio::test]
async fn what_the_contact_has_already_is_not_doubled() {
    let (acme, session) = scene().await;
    let id = lead(&session, bill()).await;
    let contact = session
        .contacts()
        .create(Contact::named("Bill", "Lumbergh"))
        .await
        .unwrap()
        .id;
    let own = consent(&session, contact).await;
    let given = consent(&session, id).await;
    session
        .followers()
        .follow(contact, acme.admin)
        .await
        .unwrap();
    session.followers().follow(id, acme.admin).await.unwrap();
    let before = state(&session).await;
    let plan = ConversionPlan::new().into_contact(contact);
    let done = session.leads().convert(id, plan).await.unwrap();
    assert!(session.consents().get(own).await.unwrap().is_active);
    let given = session.consents().get(given).await.unwrap();
    assert_eq!((given.contact_id, given.is_active), (Some(contact), false));
    assert_eq!(session.followers().of(contact).await.unwrap(), [acme.admin]);
    let followers = done
        .carried
        .iter()
        .find(|one| one.object == "follower")
        .unwrap();
    assert_eq!((followers.carried, followers.left), (0, 1));

    session.leads().undo_conversion(id).await.unwrap();
    assert_eq!(state(&session).await, before);
}

/// nobody changes a converted lead, whichever way; the engine does what it must.
#[tokio::test]
async fn a_converted_lead_is_read_only() {
    let (acme, session) = scene().await;
    let grace = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    let grace = session.users().create(grace).await.unwrap().id;
    let id = lead(
        &session,
        Lead {
            owner_id: Some(grace),
            ..bill()
        },
    )
    .await;
    let done = session
        .leads()
        .convert(id, ConversionPlan::with_deal("Rollout"))
        .await
        .unwrap();
    let version = done.lead.version;
    let refused = |error: Error| {
        let told = faults(&error);
        assert!(told.contains(&("grade", "read_only")), "{error}");
    };
    let change = |lead: &mut Lead| lead.grade = Some("A".into());
    refused(session.leads().update(id, change).await.unwrap_err());
    let patch = json!({"grade": "A", "rating": "hot"});
    let patch = patch.as_object().unwrap();
    let error = session.leads().merge(id, version, patch).await.unwrap_err();
    assert_eq!(faults(&error).len(), 2, "every fault: {error}");
    refused(error);
    let mut by_name = session.object("lead").await.unwrap();
    refused(by_name.merge(id.uuid(), version, patch).await.unwrap_err());
    let mut work = session.begin();
    refused(work.leads().update(id, change).await.unwrap_err());
    drop(work);
    for status in [LeadStatus::New, LeadStatus::Lost] {
        let reopen = |lead: &mut Lead| lead.status = status;
        assert!(session.leads().update(id, reopen).await.is_err());
    }
    let forged = json!({"converted_contact_id": null});
    let forged = session
        .leads()
        .merge(id, version, forged.as_object().unwrap())
        .await;
    assert_eq!(
        faults(&forged.unwrap_err()),
        [("converted_contact_id", "read_only")]
    );

    // What the engine keeps follows.
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    let call = session.activities().create(call).await.unwrap();
    session.activities().complete(call.id, None).await.unwrap();
    assert!(
        session
            .leads()
            .get(id)
            .await
            .unwrap()
            .last_activity_at
            .is_some()
    );
    // deleting a target clears the link, the lead stays; so does deleting its owner.
    session.users().delete(grace).await.unwrap();
    session.deals().delete(done.deal.unwrap()).await.unwrap();
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.owner_id, None);
    let conversion = stored.conversion.as_ref().unwrap();
    assert_eq!(
        (conversion.deal_id, conversion.contact_id),
        (None, Some(done.contact))
    );
    assert_eq!(stored.status, LeadStatus::Converted);
    // It is put away, deleted and restored as ever.
    session.leads().archive(id).await.unwrap();
    session.leads().unarchive(id).await.unwrap();
    session.leads().delete(id).await.unwrap();
    session.leads().restore(id).await.unwrap();
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.status, LeadStatus::Converted);
    // It is not merged into another lead: what it became would be forgotten.
    let other = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let other = lead(&session, other).await;
    let choices = Choices::new();
    let merged = session
        .leads()
        .merge_into(other, &[id], &choices, None)
        .await;
    assert_eq!(merged.unwrap_err().code(), "converted");
    // Whom it became is merged with another person: it leads there.
    let twin = session
        .contacts()
        .create(Contact::named("William", "Lumbergh"))
        .await
        .unwrap();
    merge(&session, twin.id, done.contact).await;
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(
        stored.conversion.as_ref().unwrap().contact_id,
        Some(twin.id)
    );
}

/// an import does not change a converted lead either.
#[tokio::test]
async fn an_import_leaves_converted_leads_alone() {
    let (_, session) = scene().await;
    let converted = lead(&session, bill()).await;
    let plan = ConversionPlan::new();
    session.leads().convert(converted, plan).await.unwrap();
    let other = Lead {
        email: email("peter@initech.example"),
        ..bill()
    };
    let other = lead(&session, other).await;
    let text = "Mail,Grade\nbill@initech.example,A\npeter@initech.example,A\n";
    let source = Source::bytes("leads.csv", text.as_bytes().to_vec());
    let mapping = Mapping::new("lead")
        .column("Mail", "email")
        .column("Grade", "grade");
    let import = Import {
        mode: ImportMode::Upsert,
        keys: vec!["email".into()],
        ..Import::new(mapping)
    };
    let job = session.import().start(&source, &import).await.unwrap();
    let done = session.import().run(job.id, &source, &()).await.unwrap();
    let counts = (done.counts.updated_rows, done.counts.failed_rows);
    assert_eq!(counts, (1, 1));
    let grade = async |id| session.leads().get(id).await.unwrap().grade.clone();
    assert_eq!(grade(converted).await, None);
    assert_eq!(grade(other).await.as_deref(), Some("A"));
}

/// a lead is converted once; who tries again is told what it became.
#[tokio::test]
async fn converting_twice_names_the_records() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let plan = ConversionPlan::with_deal("Rollout");
    let done = session.leads().convert(id, plan.clone()).await.unwrap();
    let error = session.leads().convert(id, plan).await.unwrap_err();
    assert_eq!(error.code(), "already_converted");
    let Error::AlreadyConverted(before) = error else {
        panic!("{error}")
    };
    assert_eq!(before.lead, id);
    assert_eq!(before.contact, Some(done.contact));
    assert_eq!((before.account, before.deal), (done.account, done.deal));
}

/// C-006, R-033: who may be converted, and that every fault of all records is told at once.
#[tokio::test]
async fn what_is_refused_is_told_at_once() {
    let (_, session) = scene().await;
    for status in [
        LeadStatus::Disqualified,
        LeadStatus::Lost,
        LeadStatus::Archived,
    ] {
        let id = lead(
            &session,
            Lead {
                status,
                email: None,
                ..bill()
            },
        )
        .await;
        let error = session
            .leads()
            .convert(id, ConversionPlan::new())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "not_convertible", "{status}");
    }
    let nobody = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let id = lead(&session, nobody).await;
    let before = state(&session).await;
    let ghost = Uuid::from_u128(7);
    let plan = ConversionPlan::with_deal(ConversionDeal {
        amount: Some((-5).into()),
        ..ConversionDeal::new("")
    });
    let error = session.leads().convert(id, plan.clone()).await.unwrap_err();
    let told = faults(&error);
    for fault in [
        ("contact.first_name", "required"),
        ("contact.last_name", "required"),
        ("deal.amount", "out_of_range"),
    ] {
        assert!(told.contains(&fault), "{fault:?} in {told:?}");
    }
    assert!(
        told.iter().any(|(path, _)| *path == "deal.name"),
        "{told:?}"
    );
    let plan = ConversionPlan::new()
        .into_contact(Id::new(ghost))
        .into_account(Id::new(ghost));
    let error = session.leads().convert(id, plan).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [("contact_id", "not_found"), ("account_id", "not_found")]
    );
    assert_eq!(state(&session).await, before, "nothing is written");
}

/// C-006: pairs of fields fit the schemas, and every fault is told.
#[tokio::test]
async fn pairs_of_fields_fit_the_schemas() {
    let (_, session) = scene().await;
    let wrong = LeadConversionMapping {
        source_field: Some("nothing".into()),
        ..LeadConversionMapping::new(ConversionTarget::Deal, "lead_score")
    };
    let mut pairs = session.records::<LeadConversionMapping>();
    let error = pairs.create(wrong).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("target_field", "unknown_field"),
            ("source_field", "unknown_field")
        ]
    );
    let grade = LeadConversionMapping {
        source_field: Some("grade".into()),
        ..LeadConversionMapping::new(ConversionTarget::Contact, "department")
    };
    let grade = pairs.create(grade).await.unwrap();
    let mapping = session.leads().conversion_mapping().await.unwrap();
    assert_eq!(
        mapping.source(ConversionTarget::Contact, "department"),
        Some("grade")
    );
    session
        .records::<LeadConversionMapping>()
        .delete(grade.id)
        .await
        .unwrap();
    let mapping = session.leads().conversion_mapping().await.unwrap();
    assert_eq!(mapping, crm_engine::leads::FieldMapping::standard());
    // A value that does not fit is told where it does not.
    let code = LeadConversionMapping {
        source_field: Some("custom_fields.printers".into()),
        ..LeadConversionMapping::new(ConversionTarget::Account, "website")
    };
    session
        .records::<LeadConversionMapping>()
        .create(code)
        .await
        .unwrap();
    let id = lead(&session, bill()).await;
    let error = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap_err();
    assert_eq!(faults(&error)[0].0, "account.website");
}

/// Refuses deals while it is switched on.
#[derive(Debug)]
struct NoDeals(Arc<AtomicBool>);

#[async_trait]
impl WriteRule for NoDeals {
    fn object(&self) -> &'static str {
        "lead"
    }

    async fn before_write(&self, _work: &mut UnitOfWork, write: &mut Write) -> Result<()> {
        let converts = write
            .after::<Lead>()
            .is_some_and(|lead| lead.conversion.is_some());
        if converts && self.0.load(Ordering::SeqCst) {
            return Err(RuleViolation::new("closed", "house rule", "not today").into());
        }
        Ok(())
    }
}

/// C-006: a conversion that fails at its end leaves nothing, in a unit of work neither.
#[tokio::test]
async fn a_conversion_that_fails_leaves_nothing() {
    let closed = Arc::new(AtomicBool::new(true));
    let crm = Crm::builder(backend::storage(&[]))
        .rule(NoDeals(closed.clone()))
        .build();
    let (acme, session) = tenant(&crm, "acme").await;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    session.activities().create(call).await.unwrap();
    let before = state(&session).await;
    let plan = ConversionPlan::with_deal("Rollout");
    let error = session.leads().convert(id, plan.clone()).await.unwrap_err();
    assert_eq!(error.code(), "closed");
    assert_eq!(state(&session).await, before);
    assert_eq!(rows_of(&session, "lead_conversion").await.len(), 0);

    let mut work = session.begin();
    work.accounts().create(Account::new("Kept")).await.unwrap();
    assert!(work.leads().convert(id, plan.clone()).await.is_err());
    assert_eq!(
        work.staged()
            .iter()
            .filter(|change| change.after().is_some())
            .count(),
        1
    );
    work.commit().await.unwrap();
    let after = state(&session).await;
    assert_eq!(after.len(), before.len() + 1);

    closed.store(false, Ordering::SeqCst);
    let mut work = session.begin();
    let done = work.leads().convert(id, plan).await.unwrap();
    work.deals().win(done.deal.unwrap()).await.unwrap();
    work.commit().await.unwrap();
    let deal = session.deals().get(done.deal.unwrap()).await.unwrap();
    assert_eq!(deal.status, DealStatus::Won);
}

/// of several conversions at the same time exactly one is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_conversions_at_the_same_time_one_wins() {
    let (_, session) = scene().await;
    for round in 0..5 {
        let address = format!("bill{round}@initech.example");
        let id = lead(
            &session,
            Lead {
                email: email(&address),
                ..bill()
            },
        )
        .await;
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let session = session.clone();
                tokio::spawn(async move {
                    let plan = ConversionPlan::with_deal("Rollout");
                    session.leads().convert(id, plan).await
                })
            })
            .collect();
        let mut won = Vec::new();
        let mut told = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(done) => won.push(done),
                Err(Error::AlreadyConverted(before)) => told.push(before),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((won.len(), told.len()), (1, 3));
        assert!(
            told.iter()
                .all(|before| before.contact == Some(won[0].contact))
        );
        let contacts = session
            .contacts()
            .count(Contact::EMAIL.eq(email(&address).unwrap()))
            .await;
        assert_eq!(contacts.unwrap(), 1);
        assert_eq!(session.deals().count(Find::new()).await.unwrap(), round + 1);
    }
}

async fn in_use(session: &Session, id: Id<Lead>) -> Box<ConversionInUse> {
    match session.leads().undo_conversion(id).await {
        Err(Error::ConversionInUse(in_use)) => in_use,
        other => panic!("{other:?}"),
    }
}

/// Undoing is refused while something depends on what the conversion made, and tells all that does.
#[tokio::test]
async fn what_stands_in_the_way_of_undoing_is_told() {
    let (acme, session) = scene().await;
    let id = lead(&session, bill()).await;
    let error = session.leads().undo_conversion(id).await.unwrap_err();
    assert_eq!(error.code(), "not_converted");
    let done = session
        .leads()
        .convert(id, ConversionPlan::with_deal("Rollout"))
        .await
        .unwrap();
    let deal = done.deal.unwrap();
    let call = Activity::new(ActivityType::Call, "Call", done.contact, acme.admin);
    let call = session.activities().create(call).await.unwrap();
    session
        .deals()
        .update(deal, |deal| deal.amount = Some(5.into()))
        .await
        .unwrap();
    let twin = session
        .accounts()
        .create(Account::new("Initech Ltd."))
        .await
        .unwrap();
    let account = done.account.unwrap();
    let merge = merge(&session, account, twin.id).await;
    let before = state(&session).await;
    let found = in_use(&session, id).await;
    assert_eq!(found.lead, id);
    let told: Vec<_> = found
        .obstacles
        .iter()
        .map(|one| (one.record.clone(), one.why.clone()))
        .collect();
    let wanted = [
        (
            EntityRef::from(account),
            UndoObstacleReason::Merged {
                merge: merge.uuid(),
            },
        ),
        (
            EntityRef::from(done.contact),
            UndoObstacleReason::ReferredTo {
                by: call.id.into(),
                field: "contact_id".into(),
            },
        ),
        (
            EntityRef::from(deal),
            UndoObstacleReason::Changed {
                fields: vec!["amount".into()],
            },
        ),
    ];
    assert_eq!(told, wanted);
    assert_eq!(state(&session).await, before, "nothing is written");
    // Looked after, one by one.
    session.activities().delete(call.id).await.unwrap();
    assert_eq!(in_use(&session, id).await.obstacles.len(), 2);
    session.merges().undo(merge).await.unwrap();
    session
        .deals()
        .update(deal, |deal| deal.amount = None)
        .await
        .unwrap();
    let lead = session.leads().undo_conversion(id).await.unwrap();
    assert_eq!((lead.status, &lead.conversion), (LeadStatus::New, &None));
    assert_eq!(
        session
            .contacts()
            .get(done.contact)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    assert_eq!(
        session.deals().get(deal).await.unwrap_err().code(),
        "not_found"
    );
    // It is a lead like any other again.
    session
        .leads()
        .update(id, |lead| lead.grade = Some("A".into()))
        .await
        .unwrap();
    let again = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap();
    assert_ne!(again.contact, done.contact);
    session.leads().undo_conversion(id).await.unwrap();
    common::assert_trail_tells_every_record(&session).await;
}

/// What somebody touched since the conversion stays as it is.
#[tokio::test]
async fn undoing_leaves_what_was_touched_since() {
    let (acme, session) = scene().await;
    let contact = session
        .contacts()
        .create(Contact::named("Bill", "Lumbergh"))
        .await
        .unwrap()
        .id;
    let id = lead(&session, bill()).await;
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    let call = session.activities().create(call).await.unwrap().id;
    let plan = ConversionPlan::new()
        .into_contact(contact)
        .without_account();
    session.leads().convert(id, plan).await.unwrap();
    let touch = |contact: &mut Contact| {
        contact.job_title = Some("President".into());
        contact.tags.push("vip".into());
    };
    session.contacts().update(contact, touch).await.unwrap();
    session.leads().undo_conversion(id).await.unwrap();
    let contact = session.contacts().get(contact).await.unwrap();
    assert_eq!(contact.job_title.as_deref(), Some("President"));
    assert_eq!(contact.tags, ["vip"]);
    assert_eq!((&contact.email, &contact.company), (&None, &None));
    let call = session.activities().get(call).await.unwrap();
    assert_eq!(
        (call.links.contact_id, call.links.lead_id),
        (None, Some(id))
    );
}

/// The entries of a conversion go with their records, and say what was done.
#[tokio::test]
async fn what_a_conversion_did_is_written_down() {
    let (_, session) = scene().await;
    let id = lead(&session, bill()).await;
    let done = session
        .leads()
        .convert(id, ConversionPlan::new())
        .await
        .unwrap();
    let entries = session.records::<LeadConversion>();
    let of_lead = entries.find(LeadConversion::LEAD_ID.eq(id)).await.unwrap();
    let told: Vec<_> = of_lead
        .items
        .iter()
        .map(|entry| (entry.object.as_str(), entry.deed.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("account", "created"),
            ("contact", "created"),
            ("contact_affiliation", "created"),
            ("lead", "converted")
        ]
    );
    // Personal data does not outlive its record.
    session.contacts().delete(done.contact).await.unwrap();
    session.contacts().purge(done.contact).await.unwrap();
    let left = entries
        .find(LeadConversion::RECORD_ID.eq(done.contact.uuid()))
        .await
        .unwrap();
    assert!(left.items.is_empty());
}

/// What a random conversion is made of.
#[derive(Clone, Debug)]
struct World {
    named: [bool; 5],
    has_contact: bool,
    contact_has_account: bool,
    contact_has: [bool; 4],
    account: u8,
    has_deal: bool,
    activities: Vec<(bool, bool, bool)>,
    has_series: bool,
    comments: usize,
    follows: (bool, bool),
    consents: (bool, bool),
    status: usize,
    other_affiliation: bool,
    /// Whether a campaign brought the lead, whether it is a member of another one and has responded
    /// to it, and whether the contact is a member of that, too.
    campaigns: (bool, Option<bool>, bool),
    is_scored: bool,
}

fn worlds() -> impl Strategy<Value = World> {
    let flags = || any::<(bool, bool)>();
    (
        (
            any::<[bool; 5]>(),
            any::<bool>(),
            any::<bool>(),
            any::<[bool; 4]>(),
        ),
        (
            0..4_u8,
            any::<bool>(),
            proptest::collection::vec(any::<(bool, bool, bool)>(), 0..4),
        ),
        (
            proptest::bool::weighted(0.3),
            0..3_usize,
            flags(),
            flags(),
            0..3_usize,
            any::<bool>(),
            any::<(bool, Option<bool>, bool)>(),
            any::<bool>(),
        ),
    )
        .prop_map(
            |((named, has_contact, contact_has_account, contact_has), middle, last)| {
                let (account, has_deal, activities) = middle;
                let (has_series, comments, follows, consents, status, other_affiliation, ..) = last;
                let (.., campaigns, is_scored) = last;
                World {
                    named,
                    has_contact,
                    contact_has_account,
                    contact_has,
                    account,
                    has_deal,
                    activities,
                    has_series,
                    comments,
                    follows,
                    consents,
                    status,
                    other_affiliation,
                    campaigns,
                    is_scored,
                }
            },
        )
}

impl World {
    async fn live(&self, crm: &Crm, subdomain: &str) {
        let (acme, session) = tenant(crm, subdomain).await;
        let user = acme.admin;
        let pair = LeadConversionMapping {
            source_field: Some("custom_fields.segment".into()),
            ..LeadConversionMapping::new(ConversionTarget::Contact, "custom_fields.group")
        };
        session
            .records::<LeadConversionMapping>()
            .create(pair)
            .await
            .unwrap();
        if self.is_scored {
            let sets = || session.scoring_rule_sets();
            let set = sets().create_standard("Standard").await.unwrap();
            sets().publish(set.id).await.unwrap();
        }
        let mut campaigns = Vec::new();
        for name in ["Fair", "Letter"] {
            let made = session.campaigns().create(Campaign::new(name)).await;
            campaigns.push(made.unwrap().id);
        }
        let mut source = bill().source;
        source.campaign_id = self.campaigns.0.then_some(campaigns[0]);
        let full = bill();
        let [company, mail, title, tagged, custom] = self.named;
        let person = Lead {
            company: full.company.filter(|_| company),
            email: full.email.filter(|_| mail),
            job_title: full.job_title.filter(|_| title),
            tags: if tagged { full.tags } else { Vec::new() },
            custom_fields: if custom {
                full.custom_fields
            } else {
                json!({})
            },
            status: [
                LeadStatus::New,
                LeadStatus::Contacted,
                LeadStatus::Qualified,
            ][self.status],
            source,
            ..bill()
        };
        let id = lead(&session, person).await;
        let globex = session
            .accounts()
            .create(Account::new("Globex"))
            .await
            .unwrap()
            .id;
        let initech = Account {
            industry: Some("Printers".into()),
            ..Account::new("Initech")
        };
        let initech = session.accounts().create(initech).await.unwrap().id;
        let [mail, title, tagged, custom] = self.contact_has;
        let known = Contact {
            account_id: self.contact_has_account.then_some(globex),
            email: email("boss@initech.example").filter(|_| mail),
            job_title: title.then(|| "Boss".into()),
            tags: if tagged {
                vec!["fair".into(), "key".into()]
            } else {
                Vec::new()
            },
            custom_fields: if custom {
                json!({"group": 1})
            } else {
                json!({"x": 2})
            },
            ..Contact::named("William", "Lumbergh")
        };
        let known = session.contacts().create(known).await.unwrap().id;
        if self.other_affiliation {
            let besides = ContactAffiliation::new(known, initech);
            session.contacts().affiliate(besides).await.unwrap();
        }
        for (is_done, has_contact, has_account) in &self.activities {
            let links = ActivityLinks {
                contact_id: has_contact.then_some(known),
                account_id: has_account.then_some(globex),
                ..ActivityLinks::from(id)
            };
            let call = Activity::new(ActivityType::Call, "Call", links, user);
            let call = session.activities().create(call).await.unwrap();
            if *is_done {
                session.activities().complete(call.id, None).await.unwrap();
            }
        }
        if self.has_series {
            let review = Activity::new(ActivityType::Meeting, "Review", id, user);
            let rule = Recurrence::parse("FREQ=WEEKLY;COUNT=5").unwrap();
            let monday = LocalDateTime::parse("2100-01-04T09:00").unwrap();
            let series = ActivitySeries::new(review, rule, monday);
            session.activity_series().create(series).await.unwrap();
        }
        for _ in 0..self.comments {
            session.comments().write(id, "Nice").await.unwrap();
        }
        for (follows, record) in [
            (self.follows.0, EntityRef::from(id)),
            (self.follows.1, known.into()),
        ] {
            if follows {
                session.followers().follow(record, user).await.unwrap();
            }
        }
        if self.consents.0 {
            consent(&session, id).await;
        }
        if self.consents.1 {
            consent(&session, known).await;
        }
        let (_, member, contact_is_member) = self.campaigns;
        if let Some(responds) = member {
            session
                .campaigns()
                .add_member(campaigns[1], id)
                .await
                .unwrap();
            if responds {
                session.campaigns().respond(campaigns[1], id).await.unwrap();
            }
        }
        if contact_is_member {
            let mut all = session.campaigns();
            all.add_member(campaigns[1], known).await.unwrap();
        }
        let before = state(&session).await;

        let mut plan = ConversionPlan::new();
        if self.has_contact {
            plan = plan.into_contact(known);
        }
        plan = match self.account {
            0 => plan,
            1 => plan.without_account(),
            2 => plan.into_account(initech),
            _ if company => plan.into_new_account(),
            _ => plan,
        };
        if self.has_deal {
            plan = plan.and_deal("Rollout");
        }
        let done = session.leads().convert(id, plan).await.unwrap();
        // Everything the lead had is with the contact.
        let stored = session.leads().get(id).await.unwrap();
        assert_eq!(
            stored.conversion.as_ref().unwrap().contact_id,
            Some(done.contact)
        );
        let of_lead = Activity::LINKS.at(ActivityLinks::LEAD_ID).eq(id);
        let of_lead = session.activities().find(of_lead).await.unwrap();
        for activity in of_lead.items {
            assert!(activity.links.contact_id.is_some());
        }
        let of_lead = CampaignMember::LEAD_ID.eq(id);
        let of_lead = session.campaign_members().find(of_lead).await.unwrap();
        for member in of_lead.items {
            assert_eq!(member.status, MemberStatus::Converted);
            let of_contact = CampaignMember::CAMPAIGN_ID
                .eq(member.campaign_id)
                .and(CampaignMember::CONTACT_ID.eq(done.contact));
            let of_contact = session.campaign_members().count(of_contact).await.unwrap();
            assert_eq!(of_contact, 1, "the contact is a member once");
        }
        if let Some(deal) = done.deal {
            let deal = session.deals().get(deal).await.unwrap();
            assert_eq!(deal.campaign_id, stored.source.campaign_id);
        }
        assert_primary(&session).await;
        session.leads().undo_conversion(id).await.unwrap();
        let after = state(&session).await;
        for (key, record) in &before {
            assert_eq!(Some(record), after.get(key), "{key:?} is not what it was");
        }
        assert_eq!(after.len(), before.len(), "something is left over");
        assert_primary(&session).await;
    }
}

/// There is one primary contact of a deal exactly if the deal names one.
async fn assert_primary(session: &Session) {
    for row in rows_of(session, "deal").await {
        if row.is_deleted() {
            continue;
        }
        let primary = DealContact::DEAL_ID
            .eq(Id::<Deal>::new(row.id()))
            .and(DealContact::IS_PRIMARY.eq(true));
        let primary = session
            .records::<DealContact>()
            .find(primary)
            .await
            .unwrap()
            .items;
        let named: Vec<_> = primary.iter().map(|one| one.contact_id.uuid()).collect();
        assert_eq!(
            named,
            row.get("contact_id")
                .as_uuid()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }
}

/// A conversion and its undoing give every record back as it was, but for versions and stamps.
#[test]
fn conversion_then_undo_restores_every_field() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let is_memory = std::env::var("CRM_TEST_STORAGE").as_deref() != Ok("postgres");
    let config = Config {
        cases: common::cases(if is_memory { 96 } else { 16 }),
        ..Config::default()
    };
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&worlds(), |world| {
            number.set(number.get() + 1);
            runtime.block_on(world.live(&crm, &format!("w{}", number.get())));
            Ok(())
        })
        .unwrap();
}
