//! A whole tenant as a file, and back as another tenant, on any backend (C-086, C-087, C-168).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use common::{Picture, Property, assert_trail_tells_every_record, picture, populate, tenant};
use crm_engine::MemoryStorage;
use crm_engine::exchange::tenant::{
    AfterImport, Manifest, TenantExport, TenantImport, TransferError, moved_id, verify,
};
use crm_engine::exports::ExportStatus;
use crm_engine::prelude::*;
use crm_engine::storage::{Change, ChangeSet};
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

/// The picture of a tenant with every id as it is after the move, without its exports and what
/// tells of them, and without secrets.
fn moved(picture: Picture, from: Id<Tenant>, to: Id<Tenant>, manifest: &Manifest) -> Picture {
    fn visit(json: Json, from: Uuid, to: Id<Tenant>) -> Json {
        let text = |text: String| match Uuid::try_parse(&text) {
            Ok(id) if id == from => to.to_string(),
            Ok(id) if text.len() == 36 => moved_id(to, id).to_string(),
            _ => text,
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
            user.job_title = Some("Chief".into())
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
    let mut settings = session.object("tenant_configuration").unwrap();
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
    // The contact is archived, the deal and an account are deleted.
    assert_eq!(manifest.object("contact").unwrap().count, 0);
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
        (
            "unknown_object",
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
                json["values"]["password_hash"] = json!("x")
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
        json["values"]["account_id"] = json!(other)
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
    let territory = Uuid::from_u128(99);
    let many = (0..1_500).map(|number| Account {
        owner_id: Some(onboarded.admin),
        territory_id: Some(territory),
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
        .keep_ids("account", "territory_id")
        .then(rebuild.clone());
    let report = import.run(&crm, Cursor::new(file), &()).await.unwrap();
    assert_eq!(report.written, manifest.records());
    assert_eq!(rebuild.0.load(Ordering::SeqCst), 1_541);
    let two = crm.session(report.tenant, Actor::System);
    let kept = Find::from(Account::TERRITORY_ID.eq(territory));
    assert_eq!(two.accounts().count(kept).await.unwrap(), 1_500);
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
