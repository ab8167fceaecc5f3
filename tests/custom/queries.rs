//! C-032, C-038, R-085: what a tenant added to an object is a field like any other, in filters,
//! sorts, pages, aggregates, scores, gates, exports and imports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::sync::Arc;

use async_trait::async_trait;
use crm_engine::audit::Recorder;
use crm_engine::engine::{TenantObjects, TenantSchema};
use crm_engine::error::Faults;
use crm_engine::exchange::export::Export;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::prelude::*;
use crm_engine::query::{QueryError, Sort};
use crm_engine::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, FieldSchema, FieldType,
    ObjectRef, OnDelete,
};
use crm_engine::scoring::{ScoringOperator, ScoringRuleType};
use serde_json::{Value as Json, json};
use uuid::Uuid;

#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<Json> {
        None
    }
}

fn with_fields(object: &ObjectRef, fields: Vec<FieldSchema>) -> ObjectRef {
    let fields = fields.into_iter().enumerate();
    let fields = fields.map(|(number, field)| CustomFieldSchema {
        id: Uuid::from_u128(number as u128 + 1),
        key: format!("k_{}", field.name).into(),
        former_names: Vec::new(),
        options: match &*field.name {
            "tier" => vec!["Gold".into(), "Silver".into()],
            _ => Vec::new(),
        },
        field,
        unique: false,
        currency: None,
        active: true,
        search_complete: true,
    });
    object.with_custom_fields(CustomFields::new(fields.collect(), Arc::new(Anything)))
}

/// What every tenant here says of deals, leads and contacts.
#[derive(Debug)]
struct Described;

#[async_trait]
impl TenantSchema for Described {
    async fn load(&self, _: &UnitOfWork) -> Result<TenantObjects> {
        let partner = FieldType::Reference {
            object: "account".into(),
            on_delete: OnDelete::SetNull,
        };
        let fields = || {
            vec![
                FieldSchema::new("budget", FieldType::decimal().with_currency("currency")),
                FieldSchema::new("renewal", FieldType::Date),
                FieldSchema::new("tier", FieldType::text(50)),
                FieldSchema::new("partner", partner.clone()),
            ]
        };
        let objects = [Deal::schema(), Lead::schema(), Contact::schema()];
        Ok(TenantObjects {
            objects: objects.map(|object| with_fields(object, fields())).to_vec(),
            version: None,
            ..TenantObjects::default()
        })
    }
}

async fn session() -> Session {
    let engine = crm_engine::Engine::builder(common::backend::storage(&[]))
        .object::<AuditEvent>()
        .hook(Recorder)
        .tenant_schema(Described)
        .build();
    let onboarding = Onboarding::new("acme", "acme", "admin@acme.example");
    let onboarded = engine.onboard(onboarding).await.unwrap();
    engine.session(onboarded.tenant, Actor::User(onboarded.admin))
}

fn contact(name: &str, custom_fields: Json) -> Contact {
    Contact {
        custom_fields,
        ..Contact::named("Ada", name)
    }
}

async fn names(session: &Session, find: Find<Contact>) -> Vec<String> {
    let page = session.contacts().find(find).await.unwrap();
    let contacts = page.items.iter();
    contacts
        .map(|contact| contact.name.last_name.clone().unwrap_or_default())
        .collect()
}

/// Contacts A to F, with and without a day, one with a text that is none.
async fn contacts(session: &Session) {
    for (name, custom) in [
        ("A", json!({"k_renewal": "2026-03-01", "k_tier": "Gold"})),
        ("B", json!({"k_renewal": "2025-12-31", "k_tier": "Silver"})),
        ("C", json!({})),
        ("D", json!({"k_renewal": "soon", "k_tier": 7})),
        ("E", json!({"k_renewal": "2026-03-01"})),
        ("F", json!({"k_renewal": "0999-01-01", "k_tier": "gold"})),
    ] {
        session
            .contacts()
            .create(contact(name, custom))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn lists_by_custom_fields() {
    let session = session().await;
    contacts(&session).await;
    let by = |sort: Sort| Find::<Contact>::new().sort(sort);
    let all = names(&session, by(Sort::asc("renewal"))).await;
    assert_eq!(all, ["F", "B", "A", "E", "C", "D"]);
    // Pages forwards and back again, in both directions.
    for descending in [false, true] {
        let sort = || match descending {
            true => Sort::desc("custom_fields.renewal"),
            false => Sort::asc("custom_fields.renewal"),
        };
        let whole = names(&session, by(sort())).await;
        let mut walked = Vec::new();
        let mut page = session.contacts().find(by(sort()).limit(2)).await.unwrap();
        loop {
            walked.extend(
                page.items
                    .iter()
                    .map(|one| one.name.last_name.clone().unwrap()),
            );
            let Some(next) = page.next.clone() else { break };
            page = session
                .contacts()
                .find(by(sort()).limit(2).after(next))
                .await
                .unwrap();
        }
        assert_eq!(walked, whole);
        let before = page.previous.clone().unwrap();
        let back = by(sort()).limit(2).before(before);
        assert_eq!(names(&session, back).await, whole[2..4]);
    }
    let from = Filter::Compare {
        field: "renewal".into(),
        op: crm_engine::query::Comparison::Ge,
        value: "2026-01-01".into(),
    };
    let find = Find::<Contact>::new().filter_by_name(from.clone());
    assert_eq!(names(&session, find).await, ["A", "E"]);
    // Whole units see what is staged, too.
    let mut work = session.begin();
    let late = contact("G", json!({"k_renewal": "2027-01-01"}));
    work.contacts().create(late).await.unwrap();
    let find = Find::<Contact>::new()
        .filter_by_name(from)
        .sort(Sort::desc("renewal"));
    let found = work.contacts().find(find).await.unwrap();
    let found: Vec<_> = found
        .items
        .iter()
        .map(|one| one.name.last_name.clone().unwrap())
        .collect();
    assert_eq!(found[0], "G");
    assert_eq!(found.len(), 3);
    let unknown = Find::<Contact>::new().sort(Sort::asc("custom_fields.nothing"));
    assert!(session.contacts().find(unknown).await.is_err());
}

/// amounts of custom fields are added in one currency only.
#[tokio::test]
async fn amounts_of_custom_fields_keep_their_currency() {
    let session = session().await;
    let pipelines = session.pipelines().find(Find::new()).await.unwrap();
    let pipeline = pipelines.items[0].id;
    for (currency, budget) in [("EUR", "10.5"), ("EUR", "1"), ("USD", "7"), ("USD", "many")] {
        let deal = Deal {
            currency: currency.parse().unwrap(),
            custom_fields: json!({ "k_budget": budget }),
            ..Deal::new("Deal", pipeline)
        };
        session.deals().create(deal).await.unwrap();
    }
    let by_name = |json: Json| -> Aggregate<Deal> { serde_json::from_value(json).unwrap() };
    let mixed = by_name(json!({"measures": [{"sum": "budget"}]}));
    let refused = session.deals().aggregate(mixed).await.unwrap_err();
    let Error::Query(QueryError::MixedCurrencies { currency_field }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(currency_field, "currency");
    let grouped = by_name(json!({
        "group_by": [{"field": "currency"}],
        "measures": ["count", {"sum": "custom_fields.budget"}],
    }));
    let groups = session.deals().aggregate(grouped).await.unwrap();
    let sums: Vec<_> = groups
        .iter()
        .map(|group| (group.count(0), group.number(1).unwrap().to_string()))
        .collect();
    assert_eq!(sums, [(2, "11.5".to_owned()), (2, "7".to_owned())]);
}

/// how long ago a custom day is.
#[tokio::test]
async fn rules_score_by_custom_fields() {
    let session = session().await;
    let set = session
        .scoring_rule_sets()
        .create(LeadScoringRuleSet::new("S"))
        .await
        .unwrap()
        .id;
    let rule = |field: &str, operator, value: Json, points| LeadScoringRule {
        condition_value: Some(value),
        ..LeadScoringRule::new(
            set,
            format!("{field} {points}"),
            ScoringRuleType::Firmographic,
            field,
            operator,
            points,
        )
    };
    let rules = [
        rule("renewal", ScoringOperator::OlderThan, json!(30), 10),
        rule("budget", ScoringOperator::GreaterThan, json!("9.5"), 20),
        rule(
            "custom_fields.tier",
            ScoringOperator::Equals,
            json!("Gold"),
            5,
        ),
    ];
    for rule in rules {
        session.scoring_rules().create(rule).await.unwrap();
    }
    let no_day = rule("tier", ScoringOperator::OlderThan, json!(30), 1);
    assert!(session.scoring_rules().create(no_day).await.is_err());
    session.scoring_rule_sets().publish(set).await.unwrap();
    let lead = |custom_fields| Lead {
        company: Some("Globex".into()),
        custom_fields,
        ..Lead::default()
    };
    for (custom, score) in [
        (
            json!({"k_renewal": "2001-01-01", "k_budget": "10", "k_tier": "Gold"}),
            35,
        ),
        // As texts, "10" would be less than "9.5".
        (json!({"k_budget": "10"}), 20),
        (
            json!({"k_renewal": "2999-01-01", "k_budget": "x", "k_tier": "gold"}),
            0,
        ),
    ] {
        let lead = session.leads().create(lead(custom.clone())).await.unwrap();
        assert_eq!(lead.lead_score.value(), score, "{custom}");
    }
}

#[tokio::test]
async fn files_hold_custom_fields() {
    let session = session().await;
    let partner = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let mapping = Mapping::new("contact")
        .column("First", "first_name")
        .column("Last", "last_name")
        .column("Renewal", "renewal")
        .column("Budget", "custom_fields.budget")
        .column("Tier", "tier")
        .column("Partner", "partner");
    let text = "First,Last,Renewal,Budget,Tier,Partner\n\
                Ada,Lovelace,31.12.2026,\"1.234,50\",gold,Globex\n\
                Bob,Builder,30.11.2026,\"7,00\",,Nobody\n";
    let source = Source::bytes("test.csv", text.as_bytes().to_vec());
    let job = session
        .import()
        .start(&source, &Import::new(mapping))
        .await
        .unwrap();
    let done = session.import().run(job.id, &source, &()).await.unwrap();
    assert_eq!((done.counts.created_rows, done.counts.failed_rows), (1, 1));
    let ada = session.contacts().find(Find::new()).await.unwrap().items[0].clone();
    assert_eq!(
        ada.custom_fields,
        json!({
            "k_renewal": "2026-12-31",
            "k_budget": "1234.5",
            "k_tier": "Gold",
            "k_partner": partner.id,
        })
    );
    let mut file = Vec::new();
    Export::of::<Contact>(
        Contact::JOB_TITLE
            .is_null()
            .and(Contact::CREATED_AT.is_not_null()),
    )
    .columns([
        "last_name",
        "renewal",
        "custom_fields.budget",
        "partner.name",
    ])
    .run(&session, &mut file, &())
    .await
    .unwrap();
    let file = String::from_utf8(file).unwrap();
    let last = file.lines().last().unwrap();
    assert_eq!(last, "Lovelace,2026-12-31,1234.5,Globex");
}
