//! Imports that break off, and go on.

use crate::common::storage::{Call, Watch, Watched};
use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use crm_engine::exchange::tenant::{TenantImport, TransferError, moved_id};
use crm_engine::prelude::*;
use crm_engine::schema::{Entity, Row};
use crm_engine::storage::{Scope, StorageError};

use super::{assert_derived_is_right, derived_scene, export, in_memory, moved, scene, sorted};
use crate::common;
use crate::common::{Property, picture};

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

/// Lets the commit of a given number fail: before it was done, or after, when only the answer is lost.
#[derive(Debug, Default)]
struct Failing {
    commits: AtomicU64,
    fails_at: AtomicU64,
}

impl Failing {
    fn fails(&self, number: u64) -> bool {
        number == self.fails_at.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Watch for Failing {
    async fn begins(&self, _: &Scope, call: Call<'_>) -> std::result::Result<(), StorageError> {
        if !call.is_commit() {
            return Ok(());
        }
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fails(number) && number.is_multiple_of(2) {
            return Err(StorageError::Failed("the server is gone".into()));
        }
        Ok(())
    }

    async fn ends(
        &self,
        _: &Scope,
        call: Call<'_>,
        _: &[Row],
    ) -> std::result::Result<(), StorageError> {
        if call.is_commit() && self.fails(self.commits.load(Ordering::SeqCst)) {
            return Err(StorageError::Failed("the answer is lost".into()));
        }
        Ok(())
    }
}

/// C-087: whichever commit of an import fails, done or not done, running it again gives the whole
/// tenant, with what is derived.
#[tokio::test]
async fn an_import_goes_on_after_any_failed_commit() {
    let source = in_memory();
    let acme = derived_scene(&source).await;
    let before = picture(&acme.session).await;
    let (file, manifest) = export(&acme.session).await;
    let storage = common::backend::storage(&[Property::schema()]);
    let storage = Watched::over(storage, Failing::default());
    let crm = Crm::builder(storage.clone()).object::<Property>().build();
    let Failing { commits, fails_at } = &storage.watch;
    let import = TenantImport::new("acme", "acme");
    let (mut failures, mut attempts) = (0, 0);
    let report = loop {
        attempts += 1;
        assert!(attempts < 200);
        // Each attempt gets a little further than the one before: one commit more is left alone.
        commits.store(0, Ordering::SeqCst);
        fails_at.store(1 + attempts % 3, Ordering::SeqCst);
        match import.run(&crm, Cursor::new(&file), &()).await {
            Ok(report) => break report,
            Err(TransferError::Engine(_)) => failures += 1,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(failures > 10, "{failures}");
    fails_at.store(0, Ordering::SeqCst);
    let done = import.run(&crm, Cursor::new(&file), &()).await.unwrap();
    assert_eq!((done.written, done.already_there), (0, manifest.records()));
    let session = crm.session(report.tenant, Actor::System);
    let wanted = moved(before, acme.onboarded.tenant, report.tenant, &manifest);
    assert!(sorted(&session, &manifest).await == wanted);
    let account = Id::<Account>::new(moved_id(report.tenant, acme.account.uuid()));
    assert_derived_is_right(&session, account).await;
}
