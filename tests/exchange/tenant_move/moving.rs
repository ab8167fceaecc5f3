//! Tenants move whole, between backends and back.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use crm_engine::campaigns::CampaignMember;
use crm_engine::duplicates::DuplicateMode;
use crm_engine::exchange::tenant::{
    AfterImport, Manifest, TenantExport, TenantImport, moved_id, verify,
};
use crm_engine::exports::ExportStatus;
use crm_engine::leads::{ConversionPlan, LeadStatus};
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use serde_json::json;
use uuid::Uuid;

use super::{
    assert_derived_is_right, derived_scene, export, in_memory, moved, people_rule, scene, sorted,
};
use crate::common;
use crate::common::{assert_trail_tells_every_record, picture, populate, tenant};

/// C-168: a tenant moves to another backend and back; every record is the same but for its ids.
#[tokio::test]
async fn a_tenant_moves_between_backends_and_back() {
    let here = common::crm();
    let acme = scene(&here).await;
    let there = in_memory();
    let (file, manifest) = export(&acme.session).await;
    assert_eq!(verify(&mut file.as_slice()).unwrap(), manifest);
    let before = picture(&acme.session).await;

    let import = TenantImport::new("acme", "acme");
    let report = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    assert_eq!(
        (report.written, report.already_there),
        (manifest.records(), 0)
    );
    let session = there.session(report.tenant, Actor::System);
    let old = acme.onboarded.tenant;
    let wanted = moved(before, old, report.tenant, &manifest);
    assert_eq!(sorted(&session, &manifest).await, wanted);
    assert_trail_tells_every_record(&session).await;

    // Exported again, the file has the same records in other ids; and back to the first backend.
    let (again, second) = export(&session).await;
    let counts = |manifest: &Manifest| -> BTreeMap<String, u64> {
        let objects = manifest.objects.iter();
        objects
            .map(|object| (object.object.clone(), object.count))
            .collect()
    };
    assert_eq!(counts(&second), counts(&manifest));
    let before = picture(&session).await;
    let back = TenantImport::new("acme", "acme-again");
    let back = back.run(&here, Cursor::new(&again), &()).await.unwrap();
    let third = here.session(back.tenant, Actor::System);
    let mut wanted = moved(before, report.tenant, back.tenant, &second);
    wanted.get_mut("tenant").unwrap()[0].insert("subdomain".into(), json!("acme-again"));
    assert_eq!(sorted(&third, &second).await, wanted);

    // It works: rules hold and ids lead to its own records.
    let deal = Id::<Deal>::new(moved_id(
        back.tenant,
        moved_id(report.tenant, acme.deal.uuid()),
    ));
    assert_eq!(
        third.deals().win(deal).await.unwrap().status,
        DealStatus::Won
    );
    let foreign = third.deals().get(acme.deal).await.unwrap_err();
    assert_eq!(foreign.code(), "not_found");
    let jobs = acme.session.exports().find(Find::new()).await.unwrap();
    let job = jobs.items.last().unwrap();
    assert_eq!(job.status, ExportStatus::Completed);
    assert_eq!(job.rows, i64::try_from(manifest.records()).unwrap());
}

/// Leads move with their scores and what these come of, and with what their conversion did: they are
/// scored and become leads again in the new tenant.
#[tokio::test]
async fn leads_move_with_scores_and_conversions() {
    let here = common::crm();
    let acme = populate(&here, "acme").await;
    let session = &acme.session;
    let sets = || session.scoring_rule_sets();
    let set = sets().create_standard("Ours").await.unwrap();
    sets().publish(set.id).await.unwrap();
    let mut made = Vec::new();
    for name in ["Ada", "Grace"] {
        let mut lead = Lead {
            name: Some(PersonName::new(name, "Lovelace")),
            company: Some("Globex".into()),
            ..Lead::default()
        };
        lead.source.campaign_id = Some(acme.campaign);
        let lead = session.leads().create(lead).await.unwrap().id;
        session.leads().adjust(lead, 7, "fair").await.unwrap();
        session.comments().write(lead, "Nice").await.unwrap();
        made.push(lead);
    }
    session.leads().rescore_all(&()).await.unwrap();
    let plan = ConversionPlan::with_deal("Rollout");
    session.leads().convert(made[0], plan).await.unwrap();
    let before = session.leads().get(made[0]).await.unwrap();
    assert_eq!(before.lead_score.value(), 27);

    let there = in_memory();
    let (file, _) = export(session).await;
    let import = TenantImport::new("acme", "acme");
    let report = import.run(&there, Cursor::new(&file), &()).await.unwrap();
    let session = there.session(report.tenant, Actor::System);
    let new = |id: Id<Lead>| Id::<Lead>::new(moved_id(report.tenant, id.uuid()));
    for lead in &made {
        let stored = session.leads().get(new(*lead)).await.unwrap();
        let totals = (stored.lead_score.value(), stored.score_total);
        assert_eq!(totals, (27, 27));
        let history = session.leads().score_history(stored.id).await.unwrap();
        let sum: i32 = history.iter().map(|entry| entry.score_change).sum();
        assert_eq!((history.len(), sum), (2, 27));
    }
    let scored = session.leads().rescore_all(&()).await.unwrap();
    assert_eq!(scored.changed, 0);
    let back = session.leads().undo_conversion(new(made[0])).await.unwrap();
    assert_eq!(back.status, LeadStatus::New);
    let members = CampaignMember::LEAD_ID.eq(back.id);
    let members = session.campaign_members().find(members).await.unwrap();
    assert_eq!(members.items.len(), 1);
    assert_eq!(members.items[0].contact_id, None);
    let comments = common::rows_of(&session, "comment").await;
    let of_lead = |row: &&Row| row.get("record_id").as_uuid() == Some(back.id.uuid());
    assert_eq!(comments.iter().filter(of_lead).count(), 1);
}

/// Rebuilds something, and counts how often.
#[derive(Debug, Default)]
struct Rebuild(AtomicU64);

#[async_trait]
impl AfterImport for Rebuild {
    async fn after_import(&self, session: &Session) -> Result<()> {
        let all = session.accounts().count(Find::new()).await?;
        self.0.store(all, Ordering::SeqCst);
        Ok(())
    }
}

/// Many records in trees and circles: bounded commits, the order within an object, ids that stay;
/// the hook runs; an export that is cancelled is no whole file.
#[tokio::test]
async fn large_trees_and_circles_arrive() {
    let source = in_memory();
    let (onboarded, session) = tenant(&source, "acme").await;
    let mut last = None;
    // Every account is younger than the one below it.
    for number in 0..40 {
        let account = Account::new(format!("Level {number}"));
        let account = session.accounts().create(account).await.unwrap();
        if let Some(below) = last {
            let parent = |below: &mut Account| below.parent_account_id = Some(account.id);
            session.accounts().update(below, parent).await.unwrap();
        }
        last = Some(account.id);
    }
    // An id that another system gave.
    let foreign = Uuid::from_u128(99);
    let property = common::Property {
        foreign_id: Some(foreign),
        ..common::Property::new("B-17")
    };
    let properties = || session.records::<common::Property>();
    properties().create(property).await.unwrap();
    let many = (0..1_500).map(|number| Account {
        owner_id: Some(onboarded.admin),
        ..Account::new(format!("Leaf {number}"))
    });
    session.accounts().create_all(many.collect()).await.unwrap();
    // The top comes last, more than one commit away from what is below it.
    let top = session
        .accounts()
        .create(Account::new("Top"))
        .await
        .unwrap();
    let parent = |below: &mut Account| below.parent_account_id = Some(top.id);
    session
        .accounts()
        .update(last.unwrap(), parent)
        .await
        .unwrap();
    let (file, manifest) = export(&session).await;
    assert_eq!(manifest.object("account").unwrap().count, 1_541);
    let crm = common::crm();
    let rebuild = Arc::new(Rebuild::default());
    let import = TenantImport::new("Two", "two")
        .keep_ids("property", "foreign_id")
        .then(rebuild.clone());
    let report = import.run(&crm, Cursor::new(file), &()).await.unwrap();
    assert_eq!(report.written, manifest.records());
    assert_eq!(rebuild.0.load(Ordering::SeqCst), 1_541);
    let two = crm.session(report.tenant, Actor::System);
    let kept = common::Property::FOREIGN_ID.eq(foreign);
    let kept = two.records::<common::Property>().count(kept).await;
    assert_eq!(kept.unwrap(), 1);
    let roots = Find::from(
        Account::PARENT_ACCOUNT_ID
            .is_null()
            .and(Account::OWNER_ID.is_null()),
    );
    assert_eq!(two.accounts().count(roots).await.unwrap(), 1);

    let stop = |done: u64, _: Option<u64>| {
        if done < 600 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let mut cut = Vec::new();
    let error = TenantExport::new()
        .run(&session, &mut cut, &stop)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cancelled");
    assert_eq!(verify(&mut cut.as_slice()).unwrap_err().code(), "truncated");
}

/// C-087: what is derived from the records of a moved tenant is right from the beginning.
#[tokio::test]
async fn a_moved_tenant_knows_duplicates_and_activities() {
    let source = in_memory();
    let acme = derived_scene(&source).await;
    let (file, _) = export(&acme.session).await;
    let crm = common::crm();
    let import = TenantImport::new("Two", "two");
    let report = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    let again = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    assert_eq!(again.written, 0, "what was derived changes no record");
    let session = crm.session(report.tenant, Actor::System);
    let account = Id::<Account>::new(moved_id(report.tenant, acme.account.uuid()));
    assert_derived_is_right(&session, account).await;
    // A strict rule holds at once.
    let strict = people_rule(&session, "strict", DuplicateMode::Strict).await;
    let duplicates = session.duplicates();
    duplicates.rebuild_keys(strict, None, &()).await.unwrap();
    let ada = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    assert!(session.contacts().create(ada).await.is_err());
}

/// C-087: what custom fields are found by, and what keeps their values unique, is right from the
/// beginning too, without a rebuilding by hand.
#[tokio::test]
async fn a_moved_tenant_finds_by_custom_fields() {
    use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomObject, CustomValuesExt};
    use crm_engine::value::ApiName;

    let source = in_memory();
    let (_, own) = common::tenant(&source, "acme").await;
    let name = |text| ApiName::parse(text).unwrap();
    let field = CustomField {
        is_unique: true,
        ..CustomField::new(
            name("contact"),
            name("member"),
            "Member",
            CustomFieldType::Text(Default::default()),
        )
    };
    let field = own.records::<CustomField>().create(field).await.unwrap().id;
    own.custom_values().rebuild(field, None, &()).await.unwrap();
    let project = CustomObject::new(name("project"), "Project", "Projects");
    own.records().create(project).await.unwrap();
    let ada = |number: &str| Contact {
        custom_fields: json!({"member": number}),
        ..Contact::named("Ada", "Lovelace")
    };
    own.contacts().create(ada("M-1 countess")).await.unwrap();
    let bridge = json!({"name": "Bridge", "tags": ["steel"]});
    let mut projects = own.object("project").await.unwrap();
    projects.create(bridge.as_object().unwrap()).await.unwrap();

    let (file, _) = export(&own).await;
    let crm = common::crm();
    let import = TenantImport::new("Two", "two");
    let report = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    let session = crm.session(report.tenant, Actor::System);
    for (object, text) in [("contact", "count lovelace"), ("project", "steel")] {
        let found = session.search(object, text, 10).await.unwrap();
        assert_eq!(found.records.len(), 1, "{object}");
        assert!(found.incomplete.is_empty());
    }
    let taken = session
        .contacts()
        .create(ada("M-1 countess"))
        .await
        .unwrap_err();
    assert_eq!(taken.code(), "duplicate");
    session.contacts().create(ada("M-2")).await.unwrap();
}
