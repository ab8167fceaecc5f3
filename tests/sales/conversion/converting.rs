//! What becomes of a lead: a contact, an account and a deal, made or found.

use crm_engine::contacts::BuyingRole;
use crm_engine::leads::{ConversionDeal, ConversionPlan, ConversionTarget, LeadConversionMapping};
use crm_engine::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;
use uuid::Uuid;

use super::{bill, email, lead, scene, state};
use crate::common;

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
