//! What stays behind, and files that are refused.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use crm_engine::exchange::tenant::{TenantExport, TenantImport, TransferError, moved_id};
use crm_engine::prelude::*;
use crm_engine::storage::{Change, ChangeSet};
use serde_json::{Value as Json, json};

use super::{export, in_memory, scene};
use crate::common;
use crate::common::{picture, populate};

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
