//! Tenants by chance, line by line.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use crm_engine::exchange::tenant::TenantImport;
use crm_engine::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};

use super::{export, in_memory, lines, visit};
use crate::common;
use crate::common::tenant;

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
