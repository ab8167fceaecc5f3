//! A whole tenant as a file, and back as another tenant, on any backend (C-086, C-087, C-168).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{
    Picture, Property, assert_trail_tells_every_record, picture, populate, tenant,
};
use async_trait::async_trait;
use chrono::TimeDelta;
use crm_engine::MemoryStorage;
use crm_engine::campaigns::CampaignMember;
use crm_engine::duplicates::{DuplicateMode, DuplicateRule};
use crm_engine::exchange::tenant::{
    AfterImport, Manifest, TenantExport, TenantImport, TransferError, moved_id, verify,
};
use crm_engine::exports::ExportStatus;
use crm_engine::leads::{ConversionPlan, LeadStatus};
use crm_engine::prelude::*;
use crm_engine::query::{AggregateQuery, Group, Query};
use crm_engine::schema::{Entity, ObjectRef, Row};
use crm_engine::storage::{
    Change, ChangeSet, Claim, Committed, FeedPage, FeedQuery, Scope, Storage, StorageError,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

fn in_memory() -> Crm {
    Crm::builder(MemoryStorage::new())
        .object::<Property>()
        .build()
}

async fn export(session: &Session) -> (Vec<u8>, Manifest) {
    let mut file = Vec::new();
    let manifest = TenantExport::new()
        .run(session, &mut file, &())
        .await
        .unwrap();
    (file, manifest)
}

/// A document with every id as it is after the move.
fn visit(json: Json, from: Uuid, to: Id<Tenant>) -> Json {
    let text = |text: String| match Uuid::try_parse(&text) {
        Ok(id) if id == from => to.to_string(),
        Ok(id) if text.len() == 36 => moved_id(to, id).to_string(),
        // Who did it.
        _ => match text
            .split_once(':')
            .map(|(kind, id)| (kind, Uuid::try_parse(id)))
        {
            Some((kind @ ("user" | "import" | "api_client"), Ok(id))) => {
                format!("{kind}:{}", moved_id(to, id))
            }
            _ => text,
        },
    };
    match json {
        Json::String(one) => Json::String(text(one)),
        Json::Array(all) => all.into_iter().map(|json| visit(json, from, to)).collect(),
        Json::Object(members) => {
            let members = members.into_iter();
            Json::Object(
                members
                    .map(|(name, json)| (text(name), visit(json, from, to)))
                    .collect(),
            )
        }
        other => other,
    }
}

/// The picture of a tenant with every id as it is after the move, without its exports and what
/// tells of them, and without secrets.
fn moved(picture: Picture, from: Id<Tenant>, to: Id<Tenant>, manifest: &Manifest) -> Picture {
    let own = manifest.head.export.to_string();
    let mut moved = Picture::new();
    for (object, rows) in picture {
        // What the engine derives from other records is not in a file.
        let Some(summary) = manifest.object(&object) else {
            continue;
        };
        let secret = &summary.fields_left_out;
        let rows = rows
            .into_iter()
            .filter(|row| row["id"] != *own && row.get("record_id") != Some(&json!(own)));
        let mut rows: Vec<Map<String, Json>> = rows
            .map(|mut row| {
                for name in secret {
                    row.insert(name.clone(), Json::Null);
                }
                let Json::Object(row) = visit(Json::Object(row), from.uuid(), to) else {
                    panic!()
                };
                row
            })
            .collect();
        rows.sort_by_key(|row| row["id"].to_string());
        moved.insert(object, rows);
    }
    moved
}

async fn sorted(session: &Session, manifest: &Manifest) -> Picture {
    let mut all = picture(session).await;
    all.retain(|object, _| manifest.object(object).is_some());
    for rows in all.values_mut() {
        rows.sort_by_key(|row| row["id"].to_string());
    }
    all
}

/// Something of everything: a tree in the wrong order, archived and deleted records, documents with
/// ids, and no secret that could be lost on the way.
async fn scene(crm: &Crm) -> common::Populated {
    let acme = populate(crm, "acme").await;
    let session = &acme.session;
    let young = session
        .accounts()
        .create(Account::new("Holding"))
        .await
        .unwrap();
    session
        .accounts()
        .update(acme.account, |account| {
            account.parent_account_id = Some(young.id);
            account.custom_fields = json!({"partner": acme.contact.to_string(), "note": "=1"});
        })
        .await
        .unwrap();
    session
        .users()
        .update(acme.onboarded.admin, |user| {
            user.job_title = Some("Chief".into());
        })
        .await
        .unwrap();
    session.contacts().archive(acme.contact).await.unwrap();
    let gone = session
        .accounts()
        .create(Account::new("Gone"))
        .await
        .unwrap();
    session.accounts().delete(gone.id).await.unwrap();
    acme
}

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

/// C-087: an import that breaks off in the middle goes on where it stopped; nothing is doubled, and
/// what somebody changed meanwhile is not overwritten.
#[tokio::test]
async fn an_import_that_broke_off_goes_on() {
    let source = in_memory();
    let acme = scene(&source).await;
    let (file, manifest) = export(&acme.session).await;
    let crm = common::crm();
    let import = TenantImport::new("Acme Two", "acme-two");
    let mut attempts = 0;
    let report = loop {
        attempts += 1;
        let last = AtomicU64::new(0);
        // Each attempt ends after the first commit that wrote something.
        let stop = |done: u64, total: Option<u64>| {
            assert_eq!(total, Some(manifest.records()));
            let before = last.swap(done, Ordering::SeqCst);
            if done > before && before > 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        match import.run(&crm, Cursor::new(&file), &stop).await {
            Ok(report) => break report,
            Err(TransferError::Cancelled { .. }) if attempts < 50 => {}
            Err(error) => panic!("{error}"),
        }
        // Each attempt does something: the next one finds more.
        if attempts > 3 {
            break import.run(&crm, Cursor::new(&file), &()).await.unwrap();
        }
    };
    assert!(attempts > 1);
    assert_eq!(report.written + report.already_there, manifest.records());
    assert!(report.already_there > 0);
    let once_more = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    assert_eq!((once_more.written, once_more.tenant), (0, report.tenant));

    let session = crm.session(report.tenant, Actor::System);
    let account = Id::<Account>::new(moved_id(report.tenant, acme.account.uuid()));
    let change = |account: &mut Account| account.tags = vec!["changed".into()];
    session.accounts().update(account, change).await.unwrap();
    let error = import.run(&crm, Cursor::new(&file), &()).await.unwrap_err();
    assert!(matches!(error.code(), "changed" | "not_empty"), "{error}");
    assert_eq!(
        session.accounts().get(account).await.unwrap().tags,
        ["changed"]
    );
}

/// C-086: no secret is in the file, and the manifest tells what stayed behind.
#[tokio::test]
async fn secrets_stay_behind() {
    let crm = common::crm();
    let acme = populate(&crm, "acme").await;
    let session = &acme.session;
    let marker = "marker-of-a-secret";
    let admin = session.users().get(acme.onboarded.admin).await.unwrap();
    let mut user = (*admin).clone();
    user.data.password_hash = Some(marker.into());
    user.version += 1;
    let change = Change::Update {
        before: admin,
        after: Arc::new(user),
    };
    let at = crm.clock().now();
    let changes = ChangeSet::new(crm.ids().next(at), at, vec![change], Vec::new());
    crm.storage()
        .commit(session.scope(), &changes)
        .await
        .unwrap();
    let mut tenants = session.records::<Tenant>();
    let billing = json!({"iban": marker});
    let change = |tenant: &mut Tenant| tenant.billing_info = Some(billing.clone());
    tenants.update(acme.onboarded.tenant, change).await.unwrap();
    let envelope = json!({"key_id": "k", "algorithm": "a", "nonce": "n", "ciphertext": "c2VjcmV0"});
    let setting = json!({"category": "security", "key": "smtp", "value": {"encrypted": envelope}});
    let mut settings = session.object("tenant_configuration").await.unwrap();
    settings.create(setting.as_object().unwrap()).await.unwrap();

    let mut file = Vec::new();
    let export = TenantExport::new().without_logs().file_name("acme.jsonl");
    let manifest = export.run(session, &mut file, &()).await.unwrap();
    let text = String::from_utf8(file.clone()).unwrap();
    assert!(!text.contains(marker) && !text.contains("c2VjcmV0"));
    let left = |object: &str| manifest.object(object).unwrap();
    assert_eq!(left("user").fields_left_out, ["password_hash"]);
    assert_eq!(left("tenant").fields_left_out, ["billing_info"]);
    assert_eq!(left("tenant_configuration").left_out, 1);
    assert!(manifest.object("audit_event").is_none());
    let import = TenantImport::new("Two", "two");
    let report = import.run(&crm, Cursor::new(file), &()).await.unwrap();
    let two = crm.session(report.tenant, Actor::System);
    let admin = Id::<User>::new(moved_id(report.tenant, acme.onboarded.admin.uuid()));
    assert_eq!(two.users().get(admin).await.unwrap().password_hash, None);
    let row = two.records::<Tenant>().get(report.tenant).await.unwrap();
    assert_eq!((row.name.as_str(), row.subdomain.as_str()), ("Two", "two"));
    assert_eq!(row.display_name.as_deref(), Some("Two"));
}

/// Without archived and deleted records the file is whole in itself: references to them are empty.
#[tokio::test]
async fn what_is_left_out_leaves_no_loose_ends() {
    let crm = common::crm();
    let acme = scene(&crm).await;
    let session = &acme.session;
    session.deals().delete(acme.won_deal).await.unwrap();
    let mut file = Vec::new();
    let export = TenantExport::new().without_archived().without_deleted();
    let manifest = export.run(session, &mut file, &()).await.unwrap();
    // One of the three contacts is archived, the deal and an account are deleted.
    assert_eq!(manifest.object("contact").unwrap().count, 2);
    assert_eq!(manifest.object("deal").unwrap().count, 1);
    assert!(manifest.object("deal_stage_change").unwrap().left_out > 0);
    let import = TenantImport::new("Two", "two");
    let report = import.run(&crm, Cursor::new(file), &()).await.unwrap();
    let two = crm.session(report.tenant, Actor::System);
    let deal = Id::<Deal>::new(moved_id(report.tenant, acme.deal.uuid()));
    let deal = two.deals().get(deal).await.unwrap();
    assert_eq!(deal.contact_id, None);
    assert_eq!(
        deal.account_id.map(Id::uuid),
        Some(moved_id(report.tenant, acme.account.uuid()))
    );
}

/// The lines of a file, with one of them changed.
fn altered(file: &[u8], change: impl Fn(&mut Vec<String>)) -> Vec<u8> {
    let text = String::from_utf8(file.to_vec()).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    lines
        .iter()
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect()
}

/// The file with counts and checksums made right again, as somebody would who forges one.
fn forged(file: &[u8], change: impl Fn(&mut Json)) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    altered(file, |lines| {
        let mut sums: BTreeMap<String, (u64, Sha256)> = BTreeMap::new();
        let last = lines.len() - 1;
        for line in &mut lines[1..last] {
            let mut json: Json = serde_json::from_str(line).unwrap();
            change(&mut json);
            *line = json.to_string();
            let sum = sums
                .entry(json["object"].as_str().unwrap().to_owned())
                .or_default();
            sum.0 += 1;
            sum.1.update(format!("{line}\n"));
        }
        let mut tail: Json = serde_json::from_str(&lines[last]).unwrap();
        for object in tail["manifest"]["objects"].as_array_mut().unwrap() {
            let name = object["object"].as_str().unwrap().to_owned();
            let (count, sum) = sums.remove(&name).unwrap_or_default();
            let digits: String = sum
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            object["count"] = count.into();
            object["sha256"] = digits.into();
        }
        lines[last] = tail.to_string();
    })
}

/// Hostile and damaged files are errors that say what is wrong, and nothing is written.
#[tokio::test]
async fn hostile_files_are_refused_and_nothing_is_written() {
    let source = in_memory();
    let acme = scene(&source).await;
    let (file, _) = export(&acme.session).await;
    let crm = common::crm();
    let victim = populate(&crm, "victim").await;
    let before = picture(&victim.session).await;
    let foreign = victim.account.to_string();
    let of = |object: &'static str, change: fn(&mut Json, &str)| {
        let foreign = foreign.clone();
        forged(&file, move |json| {
            if json["object"] == object {
                change(json, &foreign);
            }
        })
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not_an_export", Vec::new()),
        ("not_an_export", b"{}\n".to_vec()),
        ("not_an_export", b"id,name\n".to_vec()),
        (
            "newer_format",
            altered(&file, |lines| {
                lines[0] = lines[0].replace("\"crm_tenant_export\":1", "\"crm_tenant_export\":2");
            }),
        ),
        ("truncated", file[..file.len() / 2].to_vec()),
        (
            "truncated",
            altered(&file, |lines| {
                lines.pop();
            }),
        ),
        ("malformed", altered(&file, |lines| lines.push("{}".into()))),
        (
            "malformed",
            altered(&file, |lines| lines[3] = "{\"object\":[[[".into()),
        ),
        (
            "malformed",
            altered(&file, |lines| lines.insert(3, lines[2].clone())),
        ),
        (
            "altered",
            altered(&file, |lines| {
                lines.remove(lines.len() - 2);
            }),
        ),
        (
            "altered",
            altered(&file, |lines| lines[1] = lines[1].replace("acme", "evil")),
        ),
        // It could be an object that the tenant defined, but there are records of one not named.
        (
            "malformed",
            altered(&file, |lines| {
                lines[0] = lines[0].replace("\"activity\"", "\"unheard_of\"");
            }),
        ),
        (
            "record",
            of("account", |json, _| json["values"]["unheard_of"] = json!(1)),
        ),
        (
            "record",
            of("account", |json, _| json["values"]["name"] = json!(["x"])),
        ),
        (
            "record",
            of("account", |json, _| json["values"]["name"] = Json::Null),
        ),
        (
            "record",
            of("user", |json, _| {
                json["values"]["password_hash"] = json!("x");
            }),
        ),
        (
            "record",
            of("deal", |json, _| json["meta"]["version"] = json!(0)),
        ),
        (
            "record",
            of("tenant", |json, other| json["id"] = json!(other)),
        ),
    ];
    for (code, hostile) in cases {
        let import = TenantImport::new("Evil", "evil");
        let error = import
            .run(&crm, Cursor::new(hostile), &())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let none = crm.tenant_by_subdomain("evil").await.unwrap_err();
        assert_eq!(none.code(), "not_found", "after {code}");
    }
    // The id of another tenant's record becomes one that nothing has.
    let dangling = of("deal", |json, other| {
        json["values"]["account_id"] = json!(other);
    });
    let import = TenantImport::new("Evil", "evil");
    let error = import
        .run(&crm, Cursor::new(dangling), &())
        .await
        .unwrap_err();
    assert!(matches!(error, TransferError::Dangling { ref field, .. } if field == "account_id"));
    // Neither a tenant with records of its own nor a subdomain that is taken.
    let filled = TenantImport::into_tenant(victim.onboarded.tenant);
    let error = filled.run(&crm, Cursor::new(&file), &()).await.unwrap_err();
    assert_eq!(error.code(), "not_empty");
    let taken = TenantImport::new("Victim", "victim");
    let error = taken.run(&crm, Cursor::new(&file), &()).await.unwrap_err();
    assert_eq!(error.code(), "duplicate");
    assert!(
        before == picture(&victim.session).await,
        "the other tenant was touched"
    );
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

/// A storage whose commit of a given number fails: before it was done, or after, when only the answer
/// is lost.
#[derive(Debug)]
struct Failing {
    inner: Arc<dyn Storage>,
    commits: AtomicU64,
    fails_at: AtomicU64,
}

#[async_trait]
impl Storage for Failing {
    fn register(&self, object: &ObjectRef) {
        self.inner.register(object);
    }
    async fn get(
        &self,
        scope: &Scope,
        object: &ObjectRef,
        ids: &[Uuid],
    ) -> std::result::Result<Vec<Row>, StorageError> {
        self.inner.get(scope, object, ids).await
    }
    async fn select(
        &self,
        scope: &Scope,
        query: &Query,
    ) -> std::result::Result<Vec<Row>, StorageError> {
        self.inner.select(scope, query).await
    }
    async fn aggregate(
        &self,
        scope: &Scope,
        query: &AggregateQuery,
    ) -> std::result::Result<Vec<Group>, StorageError> {
        self.inner.aggregate(scope, query).await
    }
    async fn commit(
        &self,
        scope: &Scope,
        changes: &ChangeSet,
    ) -> std::result::Result<Committed, StorageError> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let fails = number == self.fails_at.load(Ordering::SeqCst);
        if fails && number.is_multiple_of(2) {
            return Err(StorageError::Failed("the server is gone".into()));
        }
        let committed = self.inner.commit(scope, changes).await?;
        if fails {
            return Err(StorageError::Failed("the answer is lost".into()));
        }
        Ok(committed)
    }
    async fn claim(
        &self,
        scope: &Scope,
        claim: &Claim,
    ) -> std::result::Result<Vec<Row>, StorageError> {
        self.inner.claim(scope, claim).await
    }
    async fn feed(
        &self,
        scope: &Scope,
        query: &FeedQuery,
    ) -> std::result::Result<FeedPage, StorageError> {
        self.inner.feed(scope, query).await
    }

    async fn reseal(
        &self,
        scope: &Scope,
        rows: &[Row],
    ) -> std::result::Result<usize, StorageError> {
        self.inner.reseal(scope, rows).await
    }
}

/// A rule that refuses a second contact of the same name and telephone number.
async fn people_rule(session: &Session, name: &str, mode: DuplicateMode) -> Id<DuplicateRule> {
    let mut rule = DuplicateRule::contacts();
    rule.mode = mode;
    rule.name = format!("{} {}", rule.name, name);
    let mut rules = session.duplicate_rules();
    rules.create(rule).await.unwrap().id
}

/// Something derived: a duplicate rule that is ready, one that is not, and activities.
async fn derived_scene(crm: &Crm) -> common::Populated {
    let acme = scene(crm).await;
    let session = &acme.session;
    let ready = people_rule(session, "ready", DuplicateMode::Warn).await;
    let duplicates = session.duplicates();
    duplicates.rebuild_keys(ready, None, &()).await.unwrap();
    let now = crm.clock().now();
    for (days, is_done) in [(-9, true), (3, false), (9, false)] {
        let at = now + TimeDelta::days(days);
        let admin = acme.onboarded.admin;
        let mut call = Activity::new(ActivityType::Call, "Call", acme.account, admin);
        call.links.deal_id = Some(acme.deal);
        call.due_date = Some(at.max(now + TimeDelta::days(1)));
        let call = session.activities().create(call).await.unwrap();
        if is_done {
            session.activities().complete(call.id, None).await.unwrap();
        }
    }
    let ada = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(ada).await.unwrap();
    people_rule(session, "building", DuplicateMode::Warn).await;
    acme
}

/// Everything derived is right in a moved tenant: checks find the moved records by every rule, and
/// what linked records know of their activities goes on from where it stood.
async fn assert_derived_is_right(session: &Session, account: Id<Account>) {
    let ada = Contact {
        email: Some("Ada@Analytical.example".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let check = session.duplicates().check(&ada).await.unwrap();
    assert!(!check.matches.is_empty(), "the moved contact is found");
    let rebuilt = session.activities().rebuild_roll_ups(&()).await.unwrap();
    assert_eq!(rebuilt.mended, 0);
    assert!(rebuilt.records >= 2);
    let states = session.deals().begin_states(&()).await.unwrap();
    assert_eq!(states.begun, 0, "each deal has its state");
    let before = session.accounts().get(account).await.unwrap();
    let was_wrong = session.activities().recompute(account).await.unwrap();
    assert!(!was_wrong);
    // A later activity takes nothing from the earlier one that came along.
    let owner = session
        .users()
        .find_one(Find::new())
        .await
        .unwrap()
        .unwrap()
        .id;
    let mut later = Activity::new(ActivityType::Task, "Later", account, owner);
    later.due_date = before.next_activity_at.map(|at| at + TimeDelta::days(100));
    let later = session.activities().create(later).await.unwrap();
    let after = session.accounts().get(account).await.unwrap();
    assert!(before.next_activity_at.is_some() && before.last_activity_at.is_some());
    assert_eq!(after.next_activity_at, before.next_activity_at);
    assert_eq!(after.last_activity_at, before.last_activity_at);
    session.activities().delete(later.id).await.unwrap();
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

/// C-087: whichever commit of an import fails, done or not done, running it again gives the whole
/// tenant, with what is derived.
#[tokio::test]
async fn an_import_goes_on_after_any_failed_commit() {
    let source = in_memory();
    let acme = derived_scene(&source).await;
    let before = picture(&acme.session).await;
    let (file, manifest) = export(&acme.session).await;
    let storage = Arc::new(Failing {
        inner: common::backend::storage(&[Property::schema()]),
        commits: AtomicU64::new(0),
        fails_at: AtomicU64::new(0),
    });
    let crm = Crm::builder(storage.clone() as Arc<dyn Storage>)
        .object::<Property>()
        .build();
    let import = TenantImport::new("acme", "acme");
    let (mut failures, mut attempts) = (0, 0);
    let report = loop {
        attempts += 1;
        assert!(attempts < 200);
        // Each attempt gets a little further than the one before: one commit more is left alone.
        storage.commits.store(0, Ordering::SeqCst);
        storage.fails_at.store(1 + attempts % 3, Ordering::SeqCst);
        match import.run(&crm, Cursor::new(&file), &()).await {
            Ok(report) => break report,
            Err(TransferError::Engine(_)) => failures += 1,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(failures > 10, "{failures}");
    storage.fails_at.store(0, Ordering::SeqCst);
    let done = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    assert_eq!((done.written, done.already_there), (0, manifest.records()));
    let session = crm.session(report.tenant, Actor::System);
    let wanted = moved(before, acme.onboarded.tenant, report.tenant, &manifest);
    assert!(sorted(&session, &manifest).await == wanted);
    let account = Id::<Account>::new(moved_id(report.tenant, acme.account.uuid()));
    assert_derived_is_right(&session, account).await;
}

/// The records of a file as sorted lines.
fn lines(file: &[u8]) -> Vec<Json> {
    let text = std::str::from_utf8(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Json| line.get("object").is_some())
        .collect()
}

fn in_order(mut lines: Vec<Json>) -> Vec<Json> {
    lines.sort_by_key(|line| (line["object"].to_string(), line["id"].to_string()));
    lines
}

/// What somebody does in a small tenant.
#[derive(Clone, Debug)]
enum Step {
    Account(String, Option<usize>),
    Contact(String, Option<usize>),
    Deal(String, Option<usize>, i64),
    Activity(String, usize, bool),
    Tag(usize, String),
    Archive(usize),
    Delete(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || "[A-Za-zäß漢\"\\\\,;=+\u{2028}]{1,12}";
    let of = || proptest::option::of(0_usize..8);
    let step = prop_oneof![
        (name(), of()).prop_map(|(name, of)| Step::Account(name, of)),
        (name(), of()).prop_map(|(name, of)| Step::Contact(name, of)),
        (name(), of(), 0..9_999_999_i64).prop_map(|(name, of, cents)| Step::Deal(name, of, cents)),
        (name(), 0_usize..8, any::<bool>())
            .prop_map(|(name, of, done)| Step::Activity(name, of, done)),
        (0_usize..8, name()).prop_map(|(of, tag)| Step::Tag(of, tag)),
        (0_usize..8).prop_map(Step::Archive),
        (0_usize..8).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..25)
}

async fn take(session: &Session, admin: Id<User>, pipeline: Id<Pipeline>, steps: &[Step]) {
    let mut accounts: Vec<Id<Account>> = Vec::new();
    for step in steps {
        let known = |of: Option<usize>| of.and_then(|of| accounts.get(of).copied());
        // What the rules refuse, such as an activity of a deleted account, is not there to be moved.
        match step.clone() {
            Step::Account(name, parent) => {
                let account = Account {
                    parent_account_id: known(parent),
                    ..Account::new(name)
                };
                if let Ok(account) = session.accounts().create(account).await {
                    accounts.push(account.id);
                }
            }
            Step::Contact(name, account) => {
                let contact = Contact {
                    account_id: known(account),
                    custom_fields: json!({"own": name, "account": known(account)}),
                    ..Contact::named("Ada", name)
                };
                let _ = session.contacts().create(contact).await;
            }
            Step::Deal(name, account, cents) => {
                let deal = Deal {
                    account_id: known(account),
                    amount: Some(rust_decimal::Decimal::new(cents, 2)),
                    ..Deal::new(name, pipeline)
                };
                let _ = session.deals().create(deal).await;
            }
            Step::Activity(subject, account, is_done) => {
                let Some(account) = known(Some(account)) else {
                    continue;
                };
                let mut task = Activity::new(ActivityType::Task, subject, account, admin);
                task.due_date = Some("2030-01-01T00:00:00Z".parse().unwrap());
                let Ok(task) = session.activities().create(task).await else {
                    continue;
                };
                if is_done {
                    session.activities().complete(task.id, None).await.unwrap();
                }
            }
            Step::Tag(account, tag) => {
                let Some(account) = known(Some(account)) else {
                    continue;
                };
                let change = |account: &mut Account| account.tags.push(tag.clone());
                let _ = session.accounts().update(account, change).await;
            }
            Step::Archive(account) => {
                let Some(account) = known(Some(account)) else {
                    continue;
                };
                let _ = session.accounts().archive(account).await;
            }
            Step::Delete(account) => {
                let Some(account) = known(Some(account)) else {
                    continue;
                };
                let _ = session.accounts().delete(account).await;
            }
        }
    }
}

/// C-168: export, import and export again give the same lines, but for the ids.
#[test]
fn what_is_moved_is_the_same_line_by_line() {
    let config = ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let there = runtime.block_on(async { common::crm() });
    let number = AtomicU64::new(0);
    TestRunner::new(config)
        .run(&steps(), |steps| {
            let number = number.fetch_add(1, Ordering::SeqCst);
            runtime.block_on(async {
                let here = in_memory();
                let name = format!("tenant-{number}");
                let (onboarded, session) = tenant(&here, &name).await;
                take(&session, onboarded.admin, onboarded.pipeline, &steps).await;
                let (first, manifest) = export(&session).await;
                let import = TenantImport::new(name.clone(), name);
                let report = import.run(&there, Cursor::new(&first), &()).await.unwrap();
                let moved_to = there.session(report.tenant, Actor::System);
                let (second, _) = export(&moved_to).await;
                let from = manifest.head.tenant;
                let wanted = lines(&first).into_iter();
                let wanted = wanted
                    .map(|line| visit(line, from, report.tenant))
                    .collect();
                let (found, wanted) = (in_order(lines(&second)), in_order(wanted));
                prop_assert_eq!(found.len(), wanted.len());
                for (found, wanted) in found.into_iter().zip(wanted) {
                    prop_assert_eq!(found, wanted);
                }
                let rebuilt = moved_to.activities().rebuild_roll_ups(&()).await.unwrap();
                prop_assert_eq!(rebuilt.mended, 0);
                Ok(())
            })
        })
        .unwrap();
}
