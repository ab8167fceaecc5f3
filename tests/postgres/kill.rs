//! The server is killed in mid-commit, again and again, under many writers: what was acknowledged
//! stays, each write has its event and each event its write, nothing is doubled, nothing is half
//! done, and the same [`Crm`] goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crm_engine::PostgresStorage;
use crm_engine::prelude::*;
use crm_engine::storage::StorageError;
use crm_engine::tenancy::Onboarded;
use crm_test_postgres::{Database, Server};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::{Notify, RwLock};
use uuid::Uuid;

const WRITERS: usize = 8;
const KILLS: usize = 20;

/// The longest that anything is waited for before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer was told.
#[derive(Clone, Debug)]
enum Acknowledged {
    /// The record was made or changed: it has this version or a later one.
    Written {
        object: &'static str,
        id: Uuid,
        version: i64,
        token: String,
    },
    /// A unit of work with a record of each kind.
    Unit { token: String },
    /// Put out of the way.
    Deleted { id: Uuid },
    /// Gone for good.
    Purged { id: Uuid },
}

/// What the writers and the one who kills have in common.
struct Field {
    crm: Crm,
    home: Onboarded,
    /// Accounts that all writers change.
    contested: Vec<Id<Account>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    count: AtomicUsize,
    /// Calls under way.
    busy: AtomicUsize,
    /// Calls that ended with "not available".
    refused: AtomicUsize,
    progress: Notify,
    /// Writers hold it for one operation, the inspection for all its time.
    gate: RwLock<()>,
    over: AtomicBool,
}

impl Field {
    fn note(&self, what: impl IntoIterator<Item = Acknowledged>) {
        self.acknowledged.lock().unwrap().extend(what);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.progress.notify_waiters();
    }

    /// Waits until `reached` says so.
    async fn until(&self, what: &str, reached: impl Fn(&Self) -> bool + Send + Sync) {
        let wait = async {
            loop {
                let notified = self.progress.notified();
                tokio::pin!(notified);
                notified.as_mut().enable();
                if reached(self) {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{what} did not come to pass"));
    }
}

/// Random numbers that differ from run to run: the moments of the kills.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// One writer: random operations until all is over.
async fn write(field: Arc<Field>, writer: usize) {
    let actor = Actor::User(field.home.admin);
    let session = field.crm.session(field.home.tenant, actor);
    let mut own: Vec<Id<Account>> = Vec::new();
    for number in 0.. {
        if field.over.load(Ordering::SeqCst) {
            return;
        }
        let token = format!("writer-{writer}-{number}");
        let _open = field.gate.read().await;
        field.busy.fetch_add(1, Ordering::SeqCst);
        let outcome = operate(&field, &session, &mut own, token).await;
        field.busy.fetch_sub(1, Ordering::SeqCst);
        match outcome {
            Ok(told) => field.note(told),
            // Of the records that all writers change, and of nothing else.
            Err((Error::Conflict { id, .. }, _))
                if field.contested.iter().any(|shared| shared.uuid() == id) => {}
            Err((Error::Storage(error @ StorageError::Unavailable(_)), _)) => {
                assert!(error.is_retryable());
                field.refused.fetch_add(1, Ordering::SeqCst);
                field.progress.notify_waiters();
            }
            Err((error, operation)) => panic!(
                "a writer got another error than that the storage is not available, \
                 from {operation}: {error:?}"
            ),
        }
    }
}

type Outcome = Result<Vec<Acknowledged>, (Error, &'static str)>;

async fn operate(
    field: &Field,
    session: &Session,
    own: &mut Vec<Id<Account>>,
    token: String,
) -> Outcome {
    let written = |account: &Record<Account>, token: String| {
        vec![Acknowledged::Written {
            object: "account",
            id: account.id.uuid(),
            version: account.version,
            token,
        }]
    };
    let choice = random() % 100;
    let mine = (!own.is_empty()).then(|| random() as usize % own.len());
    match (choice, mine) {
        // A record that nobody else knows.
        (0..25, _) | (_, None) => {
            let made = session.accounts().create(Account::new(token.clone())).await;
            let made = made.map_err(|error| (error, "a creation"))?;
            own.push(made.id);
            Ok(written(&made, token))
        }
        (25..45, Some(mine)) => {
            let note = |account: &mut Account| account.description = Some(token.clone());
            let changed = session.accounts().update(own[mine], note).await;
            let changed = changed.map_err(|error| (error, "an update"))?;
            Ok(written(&changed, token))
        }
        // Records that everybody changes: a commit sent again may meet a later version.
        (45..65, _) => {
            let id = field.contested[random() as usize % field.contested.len()];
            let note = |account: &mut Account| account.description = Some(token.clone());
            let changed = session.accounts().update(id, note).await;
            let changed = changed.map_err(|error| (error, "an update of a contested record"))?;
            Ok(written(&changed, token))
        }
        // Four records in one unit of work.
        (65..85, Some(mine)) => {
            let unit = async {
                let mut work = session.begin();
                let account = work.accounts().create(Account::new(token.clone())).await?;
                let contact = Contact {
                    account_id: Some(account.id),
                    ..Contact::named("Ada", token.clone())
                };
                let contact = work.contacts().create(contact).await?;
                let deal = Deal {
                    account_id: Some(account.id),
                    contact_id: Some(contact.id),
                    ..Deal::new(token.clone(), field.home.pipeline)
                };
                work.deals().create(deal).await?;
                let note = |account: &mut Account| account.description = Some(token.clone());
                work.accounts().update(own[mine], note).await?;
                work.commit().await
            };
            unit.await.map_err(|error| (error, "a unit of work"))?;
            Ok(vec![Acknowledged::Unit { token }])
        }
        // What becomes of it is not known if this fails: nobody touches it again.
        (_, Some(mine)) => {
            let id = own.swap_remove(mine);
            session
                .accounts()
                .delete(id)
                .await
                .map_err(|error| (error, "a deletion"))?;
            if choice < 93 {
                return Ok(vec![Acknowledged::Deleted { id: id.uuid() }]);
            }
            session
                .accounts()
                .purge(id)
                .await
                .map_err(|error| (error, "a removal"))?;
            Ok(vec![Acknowledged::Purged { id: id.uuid() }])
        }
    }
}

#[derive(Debug)]
struct Stored {
    version: i64,
    is_deleted: bool,
    token: String,
}

#[derive(Debug)]
struct Event {
    commit: Uuid,
    kind: String,
    version: i64,
    /// The token that was written into the description.
    note: Option<String>,
}

/// Everything that is stored, as the owner sees it, and not by way of the engine.
#[derive(Debug)]
struct Books {
    records: BTreeMap<(String, Uuid), Stored>,
    events: BTreeMap<(String, Uuid), Vec<Event>>,
}

impl Books {
    async fn open(owner_url: &str, tenant: Uuid) -> Self {
        let mut owner = PgConnection::connect(owner_url).await.unwrap();
        let rows = sqlx::query(
            "SELECT 'account' AS object, id, version, deleted_at IS NOT NULL, name::text \
               FROM crm.accounts WHERE tenant_id = $1 \
             UNION ALL SELECT 'contact', id, version, deleted_at IS NOT NULL, last_name::text \
               FROM crm.contacts WHERE tenant_id = $1 \
             UNION ALL SELECT 'deal', id, version, deleted_at IS NOT NULL, name::text \
               FROM crm.deals WHERE tenant_id = $1",
        )
        .bind(tenant)
        .fetch_all(&mut owner)
        .await
        .unwrap();
        let records = rows
            .iter()
            .map(|row| {
                let stored = Stored {
                    version: row.get(2),
                    is_deleted: row.get(3),
                    token: row.get(4),
                };
                ((row.get(0), row.get(1)), stored)
            })
            .collect();
        let rows = sqlx::query(
            "SELECT object::text, record_id, commit_id, event::text, record_version, \
                    changes #>> '{description,new}' \
             FROM crm.audit_events WHERE tenant_id = $1 \
               AND object IN ('account', 'contact', 'deal') ORDER BY record_version, id",
        )
        .bind(tenant)
        .fetch_all(&mut owner)
        .await
        .unwrap();
        let mut events: BTreeMap<_, Vec<Event>> = BTreeMap::new();
        for row in &rows {
            events
                .entry((row.get(0), row.get(1)))
                .or_default()
                .push(Event {
                    commit: row.get(2),
                    kind: row.get(3),
                    version: row.get(4),
                    note: row.get(5),
                });
        }
        owner.close().await.unwrap();
        Self { records, events }
    }

    /// Each write has its event, each event its write.
    fn assert_events_and_writes_agree(&self) {
        for (record, stored) in &self.records {
            let versions: Vec<i64> = self
                .events
                .get(record)
                .into_iter()
                .flatten()
                .map(|event| event.version)
                .collect();
            let wanted: Vec<i64> = (1..=stored.version).collect();
            assert_eq!(versions, wanted, "the events of {record:?} at {stored:?}");
        }
        for (record, events) in &self.events {
            if !self.records.contains_key(record) {
                let last = events.last().map(|event| event.kind.as_str());
                assert_eq!(last, Some("purge"), "{record:?} has events and no record");
                let versions: BTreeSet<i64> = events.iter().map(|event| event.version).collect();
                assert_eq!(
                    versions.len(),
                    events.len(),
                    "an event of {record:?} is doubled"
                );
            }
        }
    }

    /// No operation was applied twice, no unit of work by half; every acknowledged one once.
    fn assert_applied_once(&self, acknowledged: &[Acknowledged]) {
        // Where each token was written: as the name of a record, as a note.
        let mut made: HashMap<&str, Vec<&str>> = HashMap::new();
        for ((object, _), stored) in &self.records {
            made.entry(&stored.token).or_default().push(object);
        }
        let mut noted: HashMap<&str, Vec<&Event>> = HashMap::new();
        for event in self.events.values().flatten() {
            if let Some(note) = &event.note
                // A deleted record's event repeats its fields, as old values.
                && event.kind == "update"
            {
                noted.entry(note).or_default().push(event);
            }
        }
        for (token, objects) in &mut made {
            objects.sort_unstable();
            let is_unit = objects.len() > 1;
            if is_unit {
                assert_eq!(
                    *objects,
                    ["account", "contact", "deal"],
                    "the unit of work {token} is half there or doubled"
                );
                let notes = noted.get(token).map_or(0, Vec::len);
                assert_eq!(notes, 1, "the update of the unit of work {token}");
            }
        }
        for (token, events) in &noted {
            let commits: BTreeSet<Uuid> = events.iter().map(|event| event.commit).collect();
            assert_eq!(
                events.len(),
                1,
                "{token} was applied more than once: {commits:?}"
            );
        }
        for told in acknowledged {
            match told {
                Acknowledged::Written {
                    object,
                    id,
                    version,
                    token,
                } => {
                    let record = ((*object).to_owned(), *id);
                    let events = self.events.get(&record);
                    let there = match self.records.get(&record) {
                        Some(stored) => stored.version >= *version,
                        // Removed since.
                        None => events.is_some_and(|events| {
                            events.last().is_some_and(|last| last.kind == "purge")
                        }),
                    };
                    assert!(there, "{told:?} is lost");
                    let event = events
                        .into_iter()
                        .flatten()
                        .find(|event| event.version == *version)
                        .unwrap_or_else(|| panic!("{told:?} has no event"));
                    if *version > 1 {
                        assert_eq!(event.note.as_deref(), Some(&**token), "{told:?}");
                    }
                }
                Acknowledged::Unit { token } => {
                    let objects = made.get(&**token).map_or(0, Vec::len);
                    assert_eq!(objects, 3, "{told:?} is lost");
                }
                Acknowledged::Deleted { id } => {
                    let stored = self.records.get(&("account".to_owned(), *id));
                    assert!(
                        stored.is_some_and(|stored| stored.is_deleted),
                        "{told:?} is lost"
                    );
                }
                Acknowledged::Purged { id } => {
                    let stored = self.records.get(&("account".to_owned(), *id));
                    assert!(stored.is_none(), "{told:?} is lost");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_in_mid_commit_loses_and_doubles_nothing() {
    let server = Arc::new(
        Server::start(&[
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
        ])
        .expect("the tests need PostgreSQL"),
    );
    let database = Database::on(&server, "killed", &[]).await.unwrap();
    let options = PgConnectOptions::from_str(database.application_url()).unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(u32::try_from(WRITERS).unwrap())
        .test_before_acquire(false)
        // Longer than a restart takes, most of the time: then calls just take longer.
        .acquire_timeout(Duration::from_secs(1))
        .connect_with(options)
        .await
        .unwrap();
    let crm = Crm::builder(PostgresStorage::new(pool)).build();
    let home = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let session = crm.session(home.tenant, Actor::User(home.admin));
    let mut contested = Vec::new();
    for name in ["everybody's", "anybody's"] {
        let account = session.accounts().create(Account::new(name)).await.unwrap();
        contested.push(account.id);
    }
    let tenant = home.tenant.uuid();
    let field = Arc::new(Field {
        crm,
        home,
        contested,
        acknowledged: Mutex::default(),
        count: AtomicUsize::new(0),
        busy: AtomicUsize::new(0),
        refused: AtomicUsize::new(0),
        progress: Notify::new(),
        gate: RwLock::new(()),
        over: AtomicBool::new(false),
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(field.clone(), writer)))
        .collect();
    let supervise = async {
        for kill in 0..KILLS {
            let begun = field.count.load(Ordering::SeqCst);
            let wanted = begun + 8 + random() as usize % 48;
            field
                .until("progress of the writers", |field| {
                    field.count.load(Ordering::SeqCst) >= wanted
                        && field.busy.load(Ordering::SeqCst) > 0
                })
                .await;
            let harsh = server.clone();
            tokio::task::spawn_blocking(move || harsh.kill())
                .await
                .unwrap()
                .unwrap();
            // Every tenth time it stays away for longer than callers want to wait.
            if kill % 10 == 4 {
                let refused = field.refused.load(Ordering::SeqCst);
                field
                    .until("an error of a writer", |field| {
                        field.refused.load(Ordering::SeqCst) > refused
                    })
                    .await;
            }
            let again = server.clone();
            tokio::task::spawn_blocking(move || again.start_again())
                .await
                .unwrap()
                .unwrap();
            // Nobody writes while the books are read.
            let _closed = tokio::time::timeout(PATIENCE, field.gate.write())
                .await
                .expect("the operations under way end");
            let books = Books::open(database.owner_url(), tenant).await;
            books.assert_events_and_writes_agree();
            books.assert_applied_once(&field.acknowledged.lock().unwrap());
            // What is left of the pool is good for a read at once.
            session.accounts().get(field.contested[0]).await.unwrap();
        }
    };
    // A writer that fails ends the test.
    let watch = async {
        for writer in writers {
            writer.await.unwrap();
        }
        panic!("the writers ended before the end");
    };
    tokio::pin!(watch);
    tokio::select! {
        () = supervise => {}
        () = &mut watch => {}
    }
    field.over.store(true, Ordering::SeqCst);
    let told = field.count.load(Ordering::SeqCst);
    let refused = field.refused.load(Ordering::SeqCst);
    println!("{KILLS} kills, {told} operations acknowledged, {refused} refused");
    assert!(refused >= KILLS / 10);
}
