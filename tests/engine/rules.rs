//! Every rule between records, by the way a host would meet it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use crm_engine::activities::ActivityLinks;
use crm_engine::engine::ManualClock;
use crm_engine::error::codes;
use crm_engine::identity::UserStatus;
use crm_engine::leads::Qualification;
use crm_engine::prelude::*;
use crm_engine::tenancy::{ConfigCategory, ContactNamePolicy, LeadNamePolicy, TenantStatus};
use rust_decimal::Decimal;

struct World {
    crm: Crm,
    session: Session,
    clock: Arc<ManualClock>,
    onboarded: crm_engine::tenancy::Onboarded,
}

async fn world() -> World {
    let clock = Arc::new(ManualClock::new("2026-01-31T09:00:00Z".parse().unwrap()));
    let crm = Crm::builder(backend::storage(&[]))
        .clock(clock.clone())
        .build();
    let onboarded = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(onboarded.tenant, Actor::User(onboarded.admin));
    World {
        crm,
        session,
        clock,
        onboarded,
    }
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    error
        .field_errors()
        .iter()
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

///
#[tokio::test]
async fn a_tenant_is_found_by_its_address_in_any_case() {
    let w = world().await;
    let tenant = w.crm.tenant_by_subdomain("ACME").await.unwrap();
    assert_eq!(tenant.id, w.onboarded.tenant);
    let by_host = w
        .crm
        .tenant_of_host("Acme.crm.example:8443", "crm.example")
        .await
        .unwrap();
    assert_eq!(by_host.id, tenant.id);
    for unknown in ["nobody", "", "a b", "acme."] {
        assert_eq!(
            w.crm.tenant_by_subdomain(unknown).await.unwrap_err().code(),
            "not_found"
        );
    }
    w.session
        .records::<Tenant>()
        .update(tenant.id, |tenant| {
            tenant.custom_domain = Some("crm.acme.example".parse().unwrap());
        })
        .await
        .unwrap();
    let by_domain = w
        .crm
        .tenant_of_host("CRM.ACME.example", "crm.example")
        .await
        .unwrap();
    assert_eq!(by_domain.id, tenant.id);
}

/// C-001.
#[tokio::test]
async fn a_tenant_is_suspended_and_reactivated() {
    let w = world().await;
    let suspended = w
        .crm
        .suspend(w.onboarded.tenant, Actor::System, "unpaid invoice")
        .await
        .unwrap();
    assert_eq!(suspended.status(), TenantStatus::Suspended);
    let active = w
        .crm
        .reactivate(w.onboarded.tenant, Actor::System)
        .await
        .unwrap();
    assert_eq!(active.status(), TenantStatus::Active);
    let events = w.session.audit().trail(w.onboarded.tenant).await.unwrap();
    assert_eq!(events.len(), 3);
}

/// all or nothing, and every fault at once.
#[tokio::test]
async fn onboarding_makes_everything_or_nothing() {
    let w = world().await;
    let stages = w
        .session
        .pipelines()
        .stages(w.onboarded.pipeline)
        .await
        .unwrap();
    let figures: Vec<_> = stages
        .iter()
        .map(|stage| (stage.name.as_str(), stage.default_probability.to_string()))
        .collect();
    let wanted = [
        ("Prospecting", "10%"),
        ("Qualification", "25%"),
        ("Proposal", "50%"),
        ("Negotiation", "75%"),
        ("Closed Won", "100%"),
        ("Closed Lost", "0%"),
    ];
    assert_eq!(
        figures,
        wanted.map(|(name, percent)| (name, percent.to_owned()))
    );
    let settings = w.session.configurations();
    let theme: Option<serde_json::Value> = settings
        .get(ConfigCategory::UiCustomization, "theme")
        .await
        .unwrap();
    assert_eq!(theme.unwrap()["primary_color"], "#1976d2");

    let error = w
        .crm
        .onboard(Onboarding::new(" ", "a b", "nobody"))
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("subdomain", "invalid_subdomain"),
            ("admin_email", "invalid_email"),
            ("name", codes::BLANK)
        ]
    );
    let error = w
        .crm
        .onboard(Onboarding::new("Other", "Acme", "bob@other.example"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["subdomain"]));
}

/// and blank text in optional fields.
#[tokio::test]
async fn accounts_need_a_name_and_sensible_figures() {
    let w = world().await;
    let error = w
        .session
        .accounts()
        .create(Account {
            annual_revenue: Some(Decimal::from(-1)),
            employee_count: Some(-1),
            industry: Some("x".repeat(101)),
            ..Account::new("  ")
        })
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("name", codes::BLANK),
            ("industry", codes::TOO_LONG),
            ("annual_revenue", codes::OUT_OF_RANGE),
            ("employee_count", codes::OUT_OF_RANGE),
        ]
    );
    let body = serde_json::json!({"name": "Globex", "website": "ftp://globex.example"});
    let error = w
        .session
        .accounts()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("website", "invalid_url")]);
    let trimmed = w
        .session
        .accounts()
        .create(Account {
            industry: Some(" ".into()),
            ..Account::new(" Globex ")
        })
        .await
        .unwrap();
    assert_eq!(
        (trimmed.name.as_str(), &trimmed.industry),
        ("Globex", &None)
    );
}

///
#[tokio::test]
async fn trees_have_no_cycles() {
    let w = world().await;
    let mut ids = Vec::new();
    for name in ["A", "B", "C"] {
        ids.push(
            w.session
                .accounts()
                .create(Account::new(name))
                .await
                .unwrap()
                .id,
        );
    }
    w.session
        .accounts()
        .set_parent(ids[1], Some(ids[0]))
        .await
        .unwrap();
    w.session
        .accounts()
        .set_parent(ids[2], Some(ids[1]))
        .await
        .unwrap();
    for parent in [ids[0], ids[1], ids[2]] {
        let error = w
            .session
            .accounts()
            .set_parent(ids[0], Some(parent))
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cycle");
    }
    // No other way around the rule: a merge patch, a unit of work.
    let patch = serde_json::json!({"parent_account_id": ids[2]});
    let version = w.session.accounts().get(ids[0]).await.unwrap().version;
    let error = w
        .session
        .accounts()
        .merge(ids[0], version, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    let mut work = w.session.begin();
    work.accounts().set_parent(ids[1], None).await.unwrap();
    work.accounts()
        .set_parent(ids[0], Some(ids[2]))
        .await
        .unwrap();
    let error = work
        .accounts()
        .set_parent(ids[1], Some(ids[0]))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    drop(work);
    let above = w.session.accounts().ancestors(ids[2]).await.unwrap();
    assert_eq!(
        above.iter().map(|account| account.id).collect::<Vec<_>>(),
        [ids[1], ids[0]]
    );

    let manager = w
        .session
        .users()
        .create(User::new("m@acme.example".parse::<EmailAddress>().unwrap()))
        .await;
    let manager = manager.unwrap().id;
    let admin = w.onboarded.admin;
    w.session
        .users()
        .update(manager, |user| user.manager_id = Some(admin))
        .await
        .unwrap();
    let error = w
        .session
        .users()
        .update(admin, |user| user.manager_id = Some(manager))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
    let team = w
        .session
        .teams()
        .create(Team::new("North"))
        .await
        .unwrap()
        .id;
    let error = w
        .session
        .teams()
        .update(team, |t| t.parent_team_id = Some(team))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cycle");
}

///
#[tokio::test]
async fn contacts_need_both_names_unless_the_tenant_says_otherwise() {
    let w = world().await;
    let mononym = || Contact {
        name: PersonName::split("Teller"),
        ..Contact::default()
    };
    let error = w.session.contacts().create(mononym()).await.unwrap_err();
    assert_eq!(faults(&error), [("last_name", codes::REQUIRED)]);
    w.session
        .configurations()
        .set_contact_name_policy(ContactNamePolicy::AtLeastOne)
        .await
        .unwrap();
    let teller = w.session.contacts().create(mononym()).await.unwrap();
    assert_eq!(teller.name.full_name().as_deref(), Some("Teller"));
    let error = w
        .session
        .contacts()
        .create(Contact::default())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors().len(), 2);
}

/// G-11: free again once the other one is deleted, taken again when it comes back.
#[tokio::test]
async fn an_email_address_belongs_to_one_live_contact() {
    let w = world().await;
    let with_email = |email: &str| Contact {
        email: Some(email.parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let first = w
        .session
        .contacts()
        .create(with_email("ada@x.example"))
        .await
        .unwrap();
    let error = w
        .session
        .contacts()
        .create(with_email("ADA@x.example"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["email"]));
    w.session.contacts().delete(first.id).await.unwrap();
    w.session
        .contacts()
        .create(with_email("Ada@X.example"))
        .await
        .unwrap();
    let error = w.session.contacts().restore(first.id).await.unwrap_err();
    assert!(matches!(error, Error::Duplicate { .. }));
}

/// the text is kept, the canonical form is derived, also through a merge patch.
#[tokio::test]
async fn phone_numbers_keep_their_text_and_get_their_canonical_form() {
    let w = world().await;
    let ada = Contact {
        phone: Some("+1 (312) 555-0123".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = w.session.contacts().create(ada).await.unwrap();
    assert_eq!(ada.phone.as_ref().unwrap().raw(), "+1 (312) 555-0123");
    let patch = serde_json::json!({"phone": "+49 30 123456"});
    let ada = w
        .session
        .contacts()
        .merge(ada.id, 1, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(ada.phone.as_ref().unwrap().e164(), Some("+4930123456"));
    let found = w
        .session
        .contacts()
        .find(Contact::PHONE.at(PhoneNumber::E164).eq("+4930123456"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
    let patch = serde_json::json!({"phone": "ask at reception", "phone_e164": "+1"});
    let error = w
        .session
        .contacts()
        .merge(ada.id, 2, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [("phone", "invalid_phone"), ("phone_e164", codes::READ_ONLY)]
    );
}

/// what the deletion of an account does to others, and what its restoring undoes.
#[tokio::test]
async fn deleting_an_account_leaves_its_contacts_without_account() {
    let w = world().await;
    let globex = w
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let contact = Contact {
        account_id: Some(globex),
        ..Contact::named("Ada", "Lovelace")
    };
    let contact = w.session.contacts().create(contact).await.unwrap().id;
    let owner = w.onboarded.admin;
    let only = Activity::new(ActivityType::Task, "only for the account", globex, owner);
    let only = w.session.activities().create(only).await.unwrap().id;
    let both = Activity::new(
        ActivityType::Task,
        "also for the contact",
        ActivityLinks {
            contact_id: Some(contact),
            ..ActivityLinks::from(globex)
        },
        owner,
    );
    let both = w.session.activities().create(both).await.unwrap().id;

    w.session.accounts().delete(globex).await.unwrap();
    assert_eq!(
        w.session.contacts().get(contact).await.unwrap().account_id,
        None
    );
    assert_eq!(
        w.session
            .activities()
            .get(both)
            .await
            .unwrap()
            .links
            .account_id,
        None
    );
    assert_eq!(
        w.session.activities().get(only).await.unwrap_err().code(),
        "not_found"
    );

    w.session.accounts().restore(globex).await.unwrap();
    assert_eq!(
        w.session
            .activities()
            .get(only)
            .await
            .unwrap()
            .links
            .account_id,
        Some(globex)
    );

    let error = w.session.accounts().purge(globex).await.unwrap_err();
    assert_eq!(error.code(), "not_deleted");
    w.session.accounts().delete(globex).await.unwrap();
    w.session.accounts().purge(globex).await.unwrap();
    assert_eq!(
        w.session
            .accounts()
            .restore(globex)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    // The trail outlives the record.
    let trail = w.session.audit().trail(globex).await.unwrap();
    assert_eq!(trail.last().unwrap().event, AuditKind::Purge);
}

///
#[tokio::test]
async fn leads_need_a_name_or_a_company_and_are_only_converted_by_conversion() {
    let w = world().await;
    let error = w.session.leads().create(Lead::default()).await.unwrap_err();
    assert_eq!(faults(&error), [("company", codes::REQUIRED)]);
    let lead = Lead {
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let lead = w.session.leads().create(lead).await.unwrap();
    assert_eq!(lead.qualification_status, Qualification::Unassessed);
    let error = w
        .session
        .leads()
        .update(lead.id, |lead| lead.status = LeadStatus::Converted)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "transition");
    let converted = Lead {
        company: Some("Globex".into()),
        status: LeadStatus::Converted,
        ..Lead::default()
    };
    let error = w.session.leads().create(converted).await.unwrap_err();
    assert_eq!(faults(&error), [("status", codes::INCONSISTENT)]);
    w.session
        .configurations()
        .set_lead_name_policy(LeadNamePolicy::BothNames)
        .await
        .unwrap();
    let error = w
        .session
        .leads()
        .create(Lead {
            company: Some("Initech".into()),
            ..Lead::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("first_name", codes::REQUIRED),
            ("last_name", codes::REQUIRED)
        ]
    );
    assert!(Score::new(101).is_err());
    let admin = w.onboarded.admin;
    let owned = w
        .session
        .leads()
        .update(lead.id, |lead| lead.owner_id = Some(admin))
        .await
        .unwrap();
    assert!(owned.assigned_at.is_some());
}

///
#[tokio::test]
async fn deals_need_a_name_and_a_sensible_amount() {
    let w = world().await;
    let deal = Deal {
        amount: Some(Decimal::from(-1)),
        ..Deal::new("", w.onboarded.pipeline)
    };
    let error = w.session.deals().create(deal).await.unwrap_err();
    assert_eq!(
        faults(&error),
        [("name", codes::BLANK), ("amount", codes::OUT_OF_RANGE)]
    );
    let body = serde_json::json!({
        "name": "Rollout", "pipeline_id": w.onboarded.pipeline, "currency": "XXQ", "probability": 101,
    });
    let error = w
        .session
        .deals()
        .create_json(body.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [
            ("currency", "invalid_currency"),
            ("probability", codes::OUT_OF_RANGE)
        ]
    );
}

/// the stage decides, whichever way the deal is written.
#[tokio::test]
async fn a_deal_is_what_its_stage_makes_of_it() {
    let w = world().await;
    let stages = &w.onboarded.stages;
    let deal = Deal {
        amount: Some(Decimal::from(500)),
        ..Deal::new("Rollout", w.onboarded.pipeline)
    };
    let deal = w.session.deals().create(deal).await.unwrap();
    assert_eq!(deal.stage_id, Some(stages[0]));
    assert_eq!(deal.win_probability, Percent::from_whole(10).unwrap());

    w.clock.advance(TimeDelta::days(2));
    w.session
        .deals()
        .move_with_note(deal.id, stages[2], "they asked for an offer")
        .await
        .unwrap();
    w.clock.advance(TimeDelta::hours(5));
    let patch = serde_json::json!({"stage_id": stages[4]});
    let won = w
        .session
        .deals()
        .merge(deal.id, 2, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(won.status, DealStatus::Won);
    assert_eq!(won.win_probability, Percent::HUNDRED);
    assert_eq!(won.actual_close_date, NaiveDate::from_ymd_opt(2026, 2, 2));

    let history = w.session.deals().history(deal.id).await.unwrap();
    let steps: Vec<_> = history
        .iter()
        .map(|step| {
            (
                step.from_stage.as_deref(),
                step.to_stage.as_str(),
                step.seconds_in_stage,
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            (None, "Prospecting", None),
            (Some("Prospecting"), "Proposal", Some(2 * 86_400)),
            (Some("Proposal"), "Closed Won", Some(5 * 3_600)),
        ]
    );
    assert_eq!(history[1].note.as_deref(), Some("they asked for an offer"));
    assert_eq!(
        history[2].from_probability,
        Some(Percent::from_whole(50).unwrap())
    );

    // Status and close date cannot say otherwise.
    let patch = serde_json::json!({"status": "lost"});
    let error = w
        .session
        .deals()
        .merge(deal.id, 3, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("status", codes::READ_ONLY)]);
    let error = w
        .session
        .deals()
        .update(deal.id, |deal| deal.actual_close_date = None)
        .await;
    assert_eq!(
        faults(&error.unwrap_err()),
        [("actual_close_date", codes::REQUIRED)]
    );

    let open = w.session.deals().reopen(deal.id, None).await.unwrap();
    assert_eq!(open.stage_id, Some(stages[2]));
    assert_eq!(
        (open.status, open.actual_close_date),
        (DealStatus::Open, None)
    );
    let error = w.session.deals().reopen(deal.id, None).await.unwrap_err();
    assert_eq!(error.code(), "not_closed");
    let lost = w.session.deals().lose(deal.id, "price").await.unwrap();
    assert_eq!(lost.close_reason.as_deref(), Some("price"));
    assert_eq!(lost.win_probability, Percent::ZERO);
    let error = w
        .session
        .deals()
        .update(open.id, |deal| {
            deal.actual_close_date = NaiveDate::from_ymd_opt(2026, 1, 1);
        })
        .await;
    assert!(
        error.is_ok(),
        "the close date of a closed deal may be corrected"
    );
}

///
#[tokio::test]
async fn a_stage_of_another_pipeline_is_refused() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await
        .unwrap()
        .id;
    let foreign = w
        .session
        .pipelines()
        .add_stage(PipelineStage::new(other, "Due", 1_u32))
        .await
        .unwrap();
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.onboarded.pipeline))
        .await
        .unwrap();
    let error = w
        .session
        .deals()
        .move_to(deal.id, foreign.id)
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", codes::INCONSISTENT)]);
    let empty = w
        .session
        .pipelines()
        .create(Pipeline::new("Empty"))
        .await
        .unwrap()
        .id;
    let error = w
        .session
        .deals()
        .create(Deal::new("Rollout", empty))
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("stage_id", codes::REQUIRED)]);
    let moved = w
        .session
        .deals()
        .update(deal.id, |deal| deal.pipeline_id = other)
        .await
        .unwrap();
    assert_eq!(moved.stage_id, Some(foreign.id));
}

///
#[tokio::test]
async fn a_new_default_pipeline_takes_the_place_of_the_old() {
    let w = world().await;
    let other = w
        .session
        .pipelines()
        .create(Pipeline::new("Renewals"))
        .await
        .unwrap()
        .id;
    w.session.pipelines().set_default(other).await.unwrap();
    assert_eq!(
        w.session
            .pipelines()
            .default_pipeline()
            .await
            .unwrap()
            .unwrap()
            .id,
        other
    );
    assert!(
        !w.session
            .pipelines()
            .get(w.onboarded.pipeline)
            .await
            .unwrap()
            .is_default
    );
    let third = Pipeline {
        is_default: true,
        ..Pipeline::new("Third")
    };
    let third = w.session.pipelines().create(third).await.unwrap().id;
    assert_eq!(
        w.session
            .pipelines()
            .count(Pipeline::IS_DEFAULT.eq(true))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        w.session
            .pipelines()
            .default_pipeline()
            .await
            .unwrap()
            .unwrap()
            .id,
        third
    );
}

/// C-010.
#[tokio::test]
async fn stages_are_reordered_at_once_and_only_removed_with_a_target_for_their_deals() {
    let w = world().await;
    let mut order = w.onboarded.stages.clone();
    order.reverse();
    w.session
        .pipelines()
        .reorder_stages(w.onboarded.pipeline, &order)
        .await
        .unwrap();
    let stages = w
        .session
        .pipelines()
        .stages(w.onboarded.pipeline)
        .await
        .unwrap();
    assert_eq!(
        stages.iter().map(|stage| stage.id).collect::<Vec<_>>(),
        order
    );
    let error = w
        .session
        .pipelines()
        .reorder_stages(w.onboarded.pipeline, &order[1..])
        .await
        .unwrap_err();
    assert_eq!(faults(&error), [("order", codes::INCONSISTENT)]);

    let stage = w.onboarded.stages[1];
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.onboarded.pipeline))
        .await
        .unwrap();
    w.session.deals().move_to(deal.id, stage).await.unwrap();
    let error = w
        .session
        .pipelines()
        .delete_stage(stage, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Reference { ref by, .. } if by == "deal"));
    let error = w
        .session
        .pipelines()
        .update_stage(stage, |stage| stage.stage_type = StageType::ClosedLost)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "stage_in_use");
    w.session
        .pipelines()
        .delete_stage(stage, Some(w.onboarded.stages[2]))
        .await
        .unwrap();
    let moved = w.session.deals().get(deal.id).await.unwrap();
    assert_eq!(moved.stage_id, Some(w.onboarded.stages[2]));
    let history = w.session.deals().history(deal.id).await.unwrap();
    assert_eq!(
        history.last().unwrap().from_stage.as_deref(),
        Some("Qualification")
    );
}

/// without a probability of its own, a deal follows its stage.
#[tokio::test]
async fn deals_follow_the_probability_of_their_stage() {
    let w = world().await;
    let pipeline = w.onboarded.pipeline;
    let follows = w
        .session
        .deals()
        .create(Deal::new("Follows", pipeline))
        .await
        .unwrap()
        .id;
    let own = Deal {
        probability: Some(Percent::from_whole(33).unwrap()),
        ..Deal::new("Own", pipeline)
    };
    let own = w.session.deals().create(own).await.unwrap().id;
    let new = Percent::from_whole(20).unwrap();
    w.session
        .pipelines()
        .update_stage(w.onboarded.stages[0], |stage| {
            stage.default_probability = new;
        })
        .await
        .unwrap();
    assert_eq!(
        w.session
            .deals()
            .get(follows)
            .await
            .unwrap()
            .win_probability,
        new
    );
    assert_eq!(
        w.session
            .deals()
            .get(own)
            .await
            .unwrap()
            .win_probability
            .to_string(),
        "33%"
    );
}

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

///
#[tokio::test]
async fn money_of_different_currencies_is_never_added() {
    let w = world().await;
    let error = w
        .session
        .deals()
        .aggregate(Aggregate::new().sum(Deal::AMOUNT))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "mixed_currencies");
    for (amount, currency) in [(100, "USD"), (100, "JPY"), (50, "USD")] {
        let deal = Deal {
            amount: Some(Decimal::from(amount)),
            currency: currency.parse().unwrap(),
            ..Deal::new("Rollout", w.onboarded.pipeline)
        };
        w.session.deals().create(deal).await.unwrap();
    }
    let sums = w
        .session
        .deals()
        .aggregate(
            Aggregate::new()
                .group_by(Deal::CURRENCY)
                .sum(Deal::AMOUNT)
                .weighted_sum(Deal::AMOUNT, Deal::WIN_PROBABILITY),
        )
        .await
        .unwrap();
    let figures: Vec<_> = sums
        .iter()
        .map(|group| {
            (
                group.key(0).as_text().unwrap(),
                group.number(0),
                group.number(1),
            )
        })
        .collect();
    let number = |n: i64| Some(Decimal::from(n));
    assert_eq!(
        figures,
        [
            ("JPY", number(100), number(10)),
            ("USD", number(150), number(15))
        ]
    );
}

///
#[tokio::test]
async fn users_are_unique_by_email_and_user_name_in_any_case() {
    let w = world().await;
    let user = |email: &str, name: &str| User {
        username: Some(name.into()),
        ..User::new(email.parse::<EmailAddress>().unwrap())
    };
    let bob = w
        .session
        .users()
        .create(user("bob@acme.example", "Bob"))
        .await
        .unwrap();
    assert_eq!(bob.status, UserStatus::Active);
    let error = w
        .session
        .users()
        .create(user("ADA@acme.example", "Ada"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["email"]));
    let error = w
        .session
        .users()
        .create(user("b@acme.example", "BOB"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["username"]));
}

/// C-053.
#[tokio::test]
async fn team_members_join_leave_and_come_back() {
    let w = world().await;
    let team = w
        .session
        .teams()
        .create(Team::new("North"))
        .await
        .unwrap()
        .id;
    let user = w.onboarded.admin;
    let first = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Member)
        .await
        .unwrap();
    let lead = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Lead)
        .await
        .unwrap();
    assert_eq!((first.id, lead.role), (lead.id, TeamRole::Lead));
    // A unit of work sees who left in it, others do not.
    let mut work = w.session.begin();
    work.teams().remove_member(team, user).await.unwrap();
    assert!(work.teams().members(team).await.unwrap().is_empty());
    assert_eq!(w.session.teams().members(team).await.unwrap().len(), 1);
    drop(work);
    w.session.teams().remove_member(team, user).await.unwrap();
    assert!(w.session.teams().members(team).await.unwrap().is_empty());
    assert_eq!(
        w.session
            .teams()
            .remove_member(team, user)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    let back = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Member)
        .await
        .unwrap();
    assert_eq!(back.id, first.id);
    assert_eq!(w.session.teams().members(team).await.unwrap().len(), 1);
}

/// a tenant's record is not removed by its own session, nor another one made.
#[tokio::test]
async fn a_session_neither_makes_nor_removes_tenants() {
    let w = world().await;
    let other = Tenant::new(
        "Other",
        "other".parse::<crm_engine::value::Subdomain>().unwrap(),
    );
    let error = w
        .session
        .records::<Tenant>()
        .create(other)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    let error = w
        .session
        .records::<Tenant>()
        .delete(w.onboarded.tenant)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    assert_eq!(
        w.session
            .records::<Tenant>()
            .count(Find::new())
            .await
            .unwrap(),
        1
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
    let deal = w
        .session
        .deals()
        .create(Deal::new("Rollout", w.onboarded.pipeline))
        .await
        .unwrap();
    let error = w
        .session
        .deals()
        .update(deal.id, |deal| deal.status = DealStatus::Won)
        .await
        .unwrap_err();
    assert_eq!(faults(&error)[0], ("status", codes::READ_ONLY));
}
