//! A host's own transaction with commits of an engine whose storage encrypts (R-006, C-078, C-110): what
//! joins it is sealed, and is refused in the clear.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by stopping"
)]

use std::sync::Arc;

use crm_engine::PostgresStorage;
use crm_engine::audit::encryption::{EncryptedStorage, Key, KeyStore, MasterKeys};
use crm_engine::postgres::{Fault, PostgresFault};
use crm_engine::prelude::*;
use crm_engine::storage::{ChangeSet, StorageError};
use crm_test_postgres::Database;
use sqlx::PgPool;

/// A host: its pool, the tables behind, and the engine over the storage that encrypts.
struct Host {
    database: Database,
    pool: PgPool,
    inner: PostgresStorage,
    storage: Arc<EncryptedStorage<PostgresStorage>>,
}

fn encrypted(inner: &PostgresStorage) -> Arc<EncryptedStorage<PostgresStorage>> {
    let masters = MasterKeys::new("2026", Key::new([7; 32]));
    Arc::new(EncryptedStorage::new(inner.clone(), masters))
}

impl Host {
    async fn open() -> Self {
        let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
        let pool = database.pool(4).await.unwrap();
        let inner = PostgresStorage::new(pool.clone());
        let storage = encrypted(&inner);
        Self {
            database,
            pool,
            inner,
            storage,
        }
    }

    /// The rows of contacts and of what the trail tells, as the owner of the database sees them.
    async fn seen(&self) -> Vec<String> {
        let mut owner = self.database.owner().await.unwrap();
        sqlx::query_scalar(
            "SELECT t::text FROM crm.contacts AS t UNION ALL \
             SELECT t::text FROM crm.audit_events AS t WHERE t.object = 'contact'",
        )
        .fetch_all(&mut owner)
        .await
        .unwrap()
    }

    /// Writes a change set in a transaction of the host's.
    async fn commit(&self, session: &Session, changes: &ChangeSet) -> Result<usize, StorageError> {
        let mut transaction = self.pool.begin().await.unwrap();
        let scope = session.scope();
        let committed = self
            .inner
            .commit_in(&mut transaction, scope, changes)
            .await?;
        transaction.commit().await.unwrap();
        Ok(committed.rows)
    }
}

async fn tenant(crm: &Crm, subdomain: &str) -> Session {
    let onboarding = Onboarding::new(subdomain, subdomain, "ada@acme.example");
    let home = crm.onboard(onboarding).await.unwrap();
    crm.session(home.tenant, Actor::User(home.admin))
}

/// The changes of a unit of work with one new contact.
async fn contact(session: &Session, last_name: &str) -> (Id<Contact>, ChangeSet) {
    let mut work = session.begin();
    let contact = Contact::named("Maria", last_name);
    let contact = work.contacts().create(contact).await.unwrap();
    (contact.id, work.prepare().await.unwrap())
}

fn fault(error: &StorageError) -> Option<Fault> {
    let StorageError::Failed(source) = error else {
        return None;
    };
    Some(source.downcast_ref::<PostgresFault>()?.fault())
}

#[tokio::test]
async fn a_change_set_joins_sealed_and_is_refused_in_the_clear() {
    let host = Host::open().await;
    let crm = Crm::builder(host.storage.clone()).build();
    let session = tenant(&crm, "acme").await;
    let scope = session.scope();
    let (id, changes) = contact(&session, "Lopezmarker").await;

    let mut transaction = host.pool.begin().await.unwrap();
    let refused = host
        .inner
        .commit_in(&mut transaction, scope, &changes)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(fault(&refused), Some(Fault::Unencrypted), "{refused:?}");
    assert!(!refused.is_retryable());
    assert!(!format!("{refused:?}").contains("Lopezmarker"));
    // The transaction goes on, with the change set sealed.
    let sealed = host.storage.seal(scope, &changes).await.unwrap();
    assert!(!format!("{sealed:?}").contains("Lopezmarker"));
    let committed = host.inner.commit_in(&mut transaction, scope, &sealed).await;
    assert_eq!(committed.unwrap().rows, changes.changes.len());
    assert!(host.seen().await.is_empty(), "nothing is there yet");
    transaction.commit().await.unwrap();

    let seen = host.seen().await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(!seen.concat().contains("Lopezmarker"), "{seen:?}");
    let stored = session.contacts().get(id).await.unwrap();
    assert_eq!(stored.name.last_name.as_deref(), Some("Lopezmarker"));
    assert_eq!(session.audit().trail(id).await.unwrap().len(), 1);

    // A change, whose row was read as it is and not as it is stored.
    let mut work = session.begin();
    let rename = |contact: &mut Contact| contact.job_title = Some("Lopezmarker".into());
    work.contacts().update(id, rename).await.unwrap();
    let changes = work.prepare().await.unwrap();
    let refused = host.commit(&session, &changes).await.unwrap_err();
    assert_eq!(fault(&refused), Some(Fault::Unencrypted));
    let sealed = host.storage.seal(scope, &changes).await.unwrap();
    host.commit(&session, &sealed).await.unwrap();
    assert!(!host.seen().await.concat().contains("Lopezmarker"));
    let stored = session.contacts().get(id).await.unwrap();
    assert_eq!(
        (stored.version, stored.job_title.as_deref()),
        (2, Some("Lopezmarker"))
    );
}

#[tokio::test]
async fn a_change_set_that_was_sealed_with_an_exchanged_key_is_sealed_again() {
    let host = Host::open().await;
    let crm = Crm::builder(host.storage.clone()).build();
    let session = tenant(&crm, "acme").await;
    let (scope, tenant) = (session.scope(), session.tenant().unwrap());
    let (id, changes) = contact(&session, "Lopez").await;
    let sealed = host.storage.seal(scope, &changes).await.unwrap();
    // Another process of the host.
    encrypted(&host.inner).keys().rotate(tenant).await.unwrap();
    let refused = host.commit(&session, &sealed).await.unwrap_err();
    assert!(
        KeyStore::<PostgresStorage>::is_outdated(&refused),
        "{refused:?}"
    );
    host.storage.keys().reload(tenant).await.unwrap();
    let sealed = host.storage.seal(scope, &changes).await.unwrap();
    host.commit(&session, &sealed).await.unwrap();
    session.contacts().get(id).await.unwrap();
}

/// Tenants without keys: their rows are in the clear by right, and the first change set that is sealed
/// brings the keys.
#[tokio::test]
async fn a_tenant_without_keys_is_written_in_the_clear_until_it_has_some() {
    let host = Host::open().await;
    let plain = Crm::builder(host.inner.clone()).build();
    let session = tenant(&plain, "acme").await;
    let (_, changes) = contact(&session, "Clearmarker").await;
    host.commit(&session, &changes).await.unwrap();
    assert!(host.seen().await.concat().contains("Clearmarker"));

    let (_, late) = contact(&session, "Lopez").await;
    let (_, changes) = contact(&session, "Sealedmarker").await;
    let sealed = host.storage.seal(session.scope(), &changes).await.unwrap();
    host.commit(&session, &sealed).await.unwrap();
    let keys = host.storage.keys().keys(session.tenant().unwrap()).await;
    assert_eq!(keys.unwrap().len(), 2);
    assert!(!host.seen().await.concat().contains("Sealedmarker"));
    let refused = host.commit(&session, &late).await.unwrap_err();
    assert_eq!(fault(&refused), Some(Fault::Unencrypted));
}
