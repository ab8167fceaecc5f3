//! Tenants: how they are found, made, suspended, and who may do so.

use crm_engine::error::codes;
use crm_engine::prelude::*;
use crm_engine::tenancy::{ConfigCategory, TenantStatus};

use super::{faults, world};

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
