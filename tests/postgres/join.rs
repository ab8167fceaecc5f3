//! A host's own transaction with commits of the engine in it, and a standby that answers the reads
//! that may be stale.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use std::error::Error as _;

use crm_engine::PostgresStorage;
use crm_engine::postgres::{Fault, PostgresFault};
use crm_engine::prelude::*;
use crm_engine::storage::{FeedPosition, FeedQuery, Storage as _, StorageError};
use crm_engine::tenancy::Onboarded;
use crm_test_postgres::Database;
use sqlx::{Connection as _, PgPool, Postgres, Transaction};

/// A host: its pool, its table, and the engine over the same pool.
struct Host {
    database: Database,
    pool: PgPool,
    storage: PostgresStorage,
    home: Onboarded,
    session: Session,
}

impl Host {
    async fn open() -> Self {
        let database = Database::fresh(&[]).expect("the tests need PostgreSQL");
        let mut owner = database.owner().await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE public.orders (number bigint PRIMARY KEY, deal uuid); \
             GRANT SELECT, INSERT ON public.orders TO crm_app",
        )
        .execute(&mut owner)
        .await
        .unwrap();
        owner.close().await.unwrap();
        let pool = database.pool(4).await.unwrap();
        let storage = PostgresStorage::new(pool.clone());
        let crm = Crm::builder(storage.clone()).build();
        let home = crm
            .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
            .await
            .unwrap();
        let session = crm.session(home.tenant, Actor::User(home.admin));
        Self {
            database,
            pool,
            storage,
            home,
            session,
        }
    }

    async fn order(&self, transaction: &mut Transaction<'_, Postgres>, number: i64) {
        sqlx::query("INSERT INTO public.orders (number) VALUES ($1)")
            .bind(number)
            .execute(&mut **transaction)
            .await
            .unwrap();
    }

    /// What everybody else sees: the host's rows, the accounts and their events.
    async fn seen(&self) -> (Vec<i64>, Vec<String>, usize) {
        let orders = sqlx::query_scalar("SELECT number FROM public.orders ORDER BY number")
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let mut accounts = Vec::new();
        let mut events = 0;
        let all = Find::<Account>::new().with_deleted().limit(1_000);
        for account in self.session.accounts().find(all).await.unwrap().items {
            let trail = self.session.audit().trail(account.id).await.unwrap();
            assert_eq!(trail.len(), usize::try_from(account.version).unwrap());
            events += trail.len();
            accounts.push(account.name.clone());
        }
        accounts.sort();
        (orders, accounts, events)
    }

    /// The changes of a unit of work with one new account.
    async fn account(&self, name: &str) -> crm_engine::storage::ChangeSet {
        let mut work = self.session.begin();
        let account = Account {
            account_number: Some(name.to_owned()),
            ..Account::new(name)
        };
        work.accounts().create(account).await.unwrap();
        work.prepare().await.unwrap()
    }
}

fn nothing() -> (Vec<i64>, Vec<String>, usize) {
    (Vec::new(), Vec::new(), 0)
}

#[tokio::test]
async fn a_row_of_the_hosts_and_a_commit_become_visible_together() {
    let host = Host::open().await;
    let changes = host.account("Globex").await;
    assert_eq!(changes.changes.len(), 2, "the account and its event");
    assert_eq!(host.seen().await, nothing(), "nothing is written yet");

    let mut transaction = host.pool.begin().await.unwrap();
    host.order(&mut transaction, 1).await;
    let committed = host
        .storage
        .commit_in(&mut transaction, host.session.scope(), &changes)
        .await
        .unwrap();
    assert_eq!(committed.rows, 2);
    host.order(&mut transaction, 2).await;
    assert_eq!(host.seen().await, nothing(), "to nobody else");
    transaction.commit().await.unwrap();
    assert_eq!(host.seen().await, (vec![1, 2], vec!["Globex".into()], 1));
}

#[tokio::test]
async fn a_rollback_undoes_both() {
    let host = Host::open().await;
    let changes = [host.account("Globex").await, host.account("Initech").await];
    let mut transaction = host.pool.begin().await.unwrap();
    for (number, changes) in (1..).zip(&changes) {
        host.order(&mut transaction, number).await;
        host.storage
            .commit_in(&mut transaction, host.session.scope(), changes)
            .await
            .unwrap();
    }
    transaction.rollback().await.unwrap();
    assert_eq!(host.seen().await, nothing());
    // The same, by letting go of it.
    let mut transaction = host.pool.begin().await.unwrap();
    host.order(&mut transaction, 1).await;
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &changes[0])
        .await
        .unwrap();
    drop(transaction);
    assert_eq!(host.seen().await, nothing());
    // What was rolled back can be written still.
    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &changes[0])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(host.seen().await, (vec![], vec!["Globex".into()], 1));
}

/// A savepoint of the host's around a commit.
#[tokio::test]
async fn a_commit_in_a_nested_transaction_goes_with_it() {
    let host = Host::open().await;
    let (kept, undone) = (host.account("Kept").await, host.account("Undone").await);
    let mut transaction = host.pool.begin().await.unwrap();
    let scope = host.session.scope();
    host.storage
        .commit_in(&mut transaction, scope, &kept)
        .await
        .unwrap();
    let mut inner = transaction.begin().await.unwrap();
    host.order(&mut inner, 1).await;
    host.storage
        .commit_in(&mut inner, scope, &undone)
        .await
        .unwrap();
    inner.rollback().await.unwrap();
    host.order(&mut transaction, 2).await;
    transaction.commit().await.unwrap();
    assert_eq!(host.seen().await, (vec![2], vec!["Kept".into()], 1));
}

/// The second commit sees and changes what the first one wrote.
#[tokio::test]
async fn two_commits_in_one_transaction_follow_each_other() {
    let host = Host::open().await;
    let globex = host
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let mut work = host.session.begin();
    let rename = |account: &mut Account| account.name = "Globex Corporation".into();
    work.accounts().update(globex.id, rename).await.unwrap();
    let first = work.prepare().await.unwrap();
    // A unit of work that begins where the first ends: with the account as it will be.
    let renamed = first.changes[0].after().unwrap().clone();
    let archived = renamed.with_meta(crm_engine::schema::Meta {
        archived_at: Some(renamed.meta().updated.at),
        ..renamed.meta().next(renamed.meta().updated)
    });
    let second = crm_engine::storage::ChangeSet::new(
        first.id,
        first.at,
        vec![crm_engine::storage::Change::Update {
            before: renamed.clone(),
            after: archived,
        }],
        Vec::new(),
    );
    let scope = host.session.scope();
    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, scope, &first)
        .await
        .unwrap();
    host.storage
        .commit_in(&mut transaction, scope, &second)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    let stored = host.session.accounts().get(globex.id).await.unwrap();
    assert_eq!((stored.version, stored.archived_at.is_some()), (3, true));
    assert_eq!(stored.name, "Globex Corporation");
}

/// After a refusal the transaction is as it was before, and the host goes on in it.
#[tokio::test]
async fn a_refusal_leaves_the_transaction_usable() {
    let host = Host::open().await;
    let globex = Account {
        account_number: Some("G-1".into()),
        ..Account::new("Globex")
    };
    let globex = host.session.accounts().create(globex).await.unwrap();
    let scope = host.session.scope();

    // A change of a version that was passed since.
    let mut work = host.session.begin();
    let staff = |account: &mut Account| account.employee_count = Some(5);
    work.accounts().update(globex.id, staff).await.unwrap();
    work.accounts().create(Account::new("Never")).await.unwrap();
    let conflict = work.prepare().await.unwrap();
    let industry = |account: &mut Account| account.industry = Some("software".into());
    host.session
        .accounts()
        .update(globex.id, industry)
        .await
        .unwrap();
    // A number that is taken.
    let duplicate = host.account("G-1").await;
    // A contact of an account that is gone.
    let gone = host
        .session
        .accounts()
        .create(Account::new("Gone"))
        .await
        .unwrap()
        .id;
    let mut work = host.session.begin();
    let contact = Contact {
        account_id: Some(gone),
        ..Contact::named("Ada", "Lovelace")
    };
    work.contacts().create(contact).await.unwrap();
    let reference = work.prepare().await.unwrap();
    host.session.accounts().delete(gone).await.unwrap();
    host.session.accounts().purge(gone).await.unwrap();

    let fine = host.account("Initech").await;
    let mut transaction = host.pool.begin().await.unwrap();
    host.order(&mut transaction, 1).await;
    for round in 0..2 {
        let mut refused = Vec::new();
        for changes in [&conflict, &duplicate, &reference] {
            let outcome = host.storage.commit_in(&mut transaction, scope, changes);
            refused.push(outcome.await.unwrap_err());
        }
        match &refused[..] {
            [
                StorageError::Conflict { object, id },
                StorageError::Duplicate {
                    object: twin,
                    fields,
                },
                StorageError::Reference {
                    object: from,
                    field,
                },
            ] => {
                assert_eq!((&**object, *id), ("account", globex.id.uuid()));
                assert_eq!(
                    (&**twin, &**fields),
                    ("account", &["account_number".into()][..])
                );
                assert_eq!((&**from, &**field), ("contact", "account_id"));
            }
            other => panic!("round {round}: {other:?}"),
        }
        host.order(&mut transaction, 10 + round).await;
    }
    host.storage
        .commit_in(&mut transaction, scope, &fine)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        host.seen().await,
        (vec![1, 10, 11], vec!["Globex".into(), "Initech".into()], 3)
    );
    let contacts = host.session.contacts().count(Find::new()).await.unwrap();
    assert_eq!(contacts, 0);
}

/// Unique values change hands within a joined commit, which takes several statements.
#[tokio::test]
async fn an_exchange_of_unique_values_joins_like_any_other_commit() {
    let host = Host::open().await;
    let mut ids = Vec::new();
    for number in ["1", "2"] {
        let account = Account {
            account_number: Some(number.into()),
            ..Account::new("Exchanged")
        };
        ids.push(host.session.accounts().create(account).await.unwrap().id);
    }
    let mut work = host.session.begin();
    for (id, number) in ids.iter().zip(["2", "1"]) {
        let give = |account: &mut Account| account.account_number = Some(number.into());
        work.accounts().update(*id, give).await.unwrap();
    }
    let exchange = work.prepare().await.unwrap();
    let scope = host.session.scope();
    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, scope, &exchange)
        .await
        .unwrap();
    // The same again is of versions that are gone: only this is undone.
    let again = host
        .storage
        .commit_in(&mut transaction, scope, &exchange)
        .await;
    assert!(matches!(again, Err(StorageError::Conflict { .. })));
    transaction.commit().await.unwrap();
    for (id, number) in ids.iter().zip(["2", "1"]) {
        let account = host.session.accounts().get(*id).await.unwrap();
        assert_eq!(account.account_number.as_deref(), Some(number));
        assert_eq!(account.version, 2);
    }
}

/// A fault of the server ends the transaction, and says what it was.
#[tokio::test]
async fn a_fault_ends_the_transaction() {
    let host = Host::open().await;
    let changes = host.account("Globex").await;
    let mut transaction = host.pool.begin().await.unwrap();
    host.order(&mut transaction, 1).await;
    sqlx::query("SET TRANSACTION READ ONLY")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let error = host
        .storage
        .commit_in(&mut transaction, host.session.scope(), &changes)
        .await
        .unwrap_err();
    let fault = error.source().unwrap().downcast_ref::<PostgresFault>();
    assert_eq!(fault.unwrap().fault(), Fault::ReadOnly);
    transaction.rollback().await.unwrap();
    assert_eq!(host.seen().await, nothing());
}

// A standby.

#[tokio::test]
async fn only_reads_that_may_be_stale_come_from_the_replica() {
    let host = Host::open().await;
    // Another database stands for the standby, so that it shows who answers: it has the same
    // tenant, and other accounts.
    let standby = Database::fresh(&[]).expect("the tests need PostgreSQL");
    let standby_pool = standby.pool(2).await.unwrap();
    let lagging = Crm::builder(PostgresStorage::new(standby_pool.clone())).build();
    let lagging = lagging.session(host.home.tenant, Actor::System);
    for name in ["Standby 1", "Standby 2"] {
        lagging.accounts().create(Account::new(name)).await.unwrap();
    }
    let primary = host
        .session
        .accounts()
        .create(Account::new("Primary"))
        .await
        .unwrap();

    let storage = PostgresStorage::builder()
        .read_replica(standby_pool.clone())
        .build(host.pool.clone());
    let crm = Crm::builder(storage).build();
    let session = crm.session(host.home.tenant, Actor::User(host.home.admin));
    let names = |page: Page<std::sync::Arc<Record<Account>>>| -> Vec<String> {
        let mut names: Vec<_> = page.items.iter().map(|item| item.name.clone()).collect();
        names.sort();
        names
    };
    let find = Find::<Account>::new;
    let count = || Aggregate::<Account>::new().count();

    // Without a word: the primary.
    assert_eq!(
        names(session.accounts().find(find()).await.unwrap()),
        ["Primary"]
    );
    assert_eq!(
        session.accounts().aggregate(count()).await.unwrap()[0].count(0),
        1
    );
    assert_eq!(session.accounts().count(find()).await.unwrap(), 1);
    assert_eq!(
        session.accounts().get(primary.id).await.unwrap().name,
        "Primary"
    );
    // May be stale: the standby.
    assert_eq!(
        names(session.accounts().find(find().stale()).await.unwrap()),
        ["Standby 1", "Standby 2"]
    );
    assert_eq!(session.accounts().count(find().stale()).await.unwrap(), 2);
    let groups = session.accounts().aggregate(count().stale()).await.unwrap();
    assert_eq!(groups[0].count(0), 2);

    // In a unit of work, nothing is stale.
    let mut work = session.begin();
    for staged in [1, 2] {
        let page = work.accounts().find(find().stale()).await.unwrap();
        assert_eq!(page.items.len(), staged);
        let groups = work.accounts().aggregate(count().stale()).await.unwrap();
        assert_eq!(groups[0].count(0), u64::try_from(staged).unwrap());
        if staged == 1 {
            work.accounts().create(Account::new("New")).await.unwrap();
        }
    }
    work.commit().await.unwrap();
    // Writes go to the primary.
    assert_eq!(
        names(session.accounts().find(find()).await.unwrap()),
        ["New", "Primary"]
    );
    assert_eq!(
        names(session.accounts().find(find().stale()).await.unwrap()),
        ["Standby 1", "Standby 2"]
    );

    // A standby that is gone stands in the way of nothing but stale reads.
    standby_pool.close().await;
    let error = session.accounts().find(find().stale()).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(session.accounts().count(find()).await.unwrap(), 2);
    drop(host.database);
}

/// At `REPEATABLE READ` a deletion cannot see who began to refer to the record: it is refused. Other
/// writes are not.
#[tokio::test]
async fn a_deletion_is_refused_where_it_could_not_be_checked() {
    let host = Host::open().await;
    let account = host
        .session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    let scope = crm_engine::storage::Scope::Tenant(host.home.tenant);
    for (level, is_refused) in [("repeatable read", true), ("read committed", false)] {
        let mut transaction = host.pool.begin().await.unwrap();
        let set = if is_refused {
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        } else {
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
        };
        sqlx::raw_sql(set).execute(&mut *transaction).await.unwrap();
        let other = host.account(level).await;
        host.storage
            .commit_in(&mut transaction, &scope, &other)
            .await
            .unwrap();

        let mut work = host.session.begin();
        work.accounts().delete(account.id).await.unwrap();
        let changes = work.prepare().await.unwrap();
        let deleted = host
            .storage
            .commit_in(&mut transaction, &scope, &changes)
            .await;
        match deleted {
            Ok(_) => assert!(!is_refused, "{level}"),
            Err(error) => {
                assert!(is_refused, "{level}: {error}");
                let source = error.source().expect("a reason");
                let fault = source.downcast_ref::<PostgresFault>().unwrap().fault();
                assert_eq!(fault, Fault::IsolationLevel);
            }
        }
        transaction.rollback().await.unwrap();
    }
}

/// A yard that rents boats: two objects of a host, one of which refers to the other.
mod yard {
    use crm_engine::prelude::*;

    /// A boat.
    #[derive(Clone, PartialEq, Entity)]
    #[entity(object = "boat", table = "boats")]
    pub(crate) struct Boat {
        /// What stands on its bow.
        #[field(required, max_len = 40)]
        pub(crate) name: String,
    }

    /// A time for which a boat is rented.
    #[derive(Clone, PartialEq, Entity)]
    #[entity(object = "rental", table = "rentals")]
    pub(crate) struct Rental {
        /// Which boat.
        #[field(references = "boat")]
        pub(crate) boat_id: Option<Id<Boat>>,
    }
}

/// The storage learns of a host's objects from the engine, whatever was touched before.
#[tokio::test]
async fn a_reference_between_objects_of_the_host_holds_after_a_restart() {
    use yard::{Boat, Rental};

    let objects = [Boat::schema().clone(), Rental::schema().clone()];
    let database = Database::fresh(&objects).expect("the tests need PostgreSQL");
    let open = async || {
        let pool = database.pool(2).await.unwrap();
        Crm::builder(PostgresStorage::new(pool))
            .object::<Boat>()
            .object::<Rental>()
            .build()
    };
    let crm = open().await;
    let home = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    let actor = Actor::User(home.admin);
    let session = crm.session(home.tenant, actor);
    let boat = session
        .records::<Boat>()
        .create(Boat::new("Ada"))
        .await
        .unwrap();

    // Nothing of boats was asked for in this one.
    let session = open().await.session(home.tenant, actor);
    let rental = Rental {
        boat_id: Some(boat.id),
    };
    session.records::<Rental>().create(rental).await.unwrap();
    // Nor of rentals in this one.
    let session = open().await.session(home.tenant, actor);
    let refused = session.records::<Boat>().delete(boat.id).await.unwrap_err();
    assert!(matches!(refused, Error::Reference { .. }), "{refused}");
}

/// The events that a consumer gets next, in order: what each is of, and how many in all.
async fn fed(host: &Host, after: Option<FeedPosition>) -> (Vec<uuid::Uuid>, FeedPosition) {
    let query = FeedQuery::new(AuditEvent::schema(), after, 1_000);
    let page = host
        .storage
        .feed(host.session.scope(), &query)
        .await
        .unwrap();
    let of = |row: &crm_engine::schema::Row| row.get("record_id").as_uuid().unwrap();
    (
        page.entries.iter().map(|(_, row)| of(row)).collect(),
        page.until,
    )
}

/// Others of the server make databases meanwhile, which holds the feed up too.
async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

/// Where the feed is when everything so far is settled.
async fn settled(host: &Host) -> FeedPosition {
    let events = host
        .session
        .records::<AuditEvent>()
        .count(Find::new())
        .await
        .unwrap();
    for _ in 0..60_000 {
        let (seen, until) = fed(host, None).await;
        if seen.len() as u64 == events {
            return until;
        }
        pause().await;
    }
    panic!("the feed stands still");
}

/// What comes behind a position, once it is so much.
async fn follow(host: &Host, after: FeedPosition, count: usize) -> Vec<uuid::Uuid> {
    for _ in 0..60_000 {
        let (seen, _) = fed(host, Some(after)).await;
        if seen.len() >= count {
            return seen;
        }
        pause().await;
    }
    panic!("the feed stands still");
}

/// A transaction that has written and is still open holds the feed up; then everything comes, what
/// it wrote at the place of its first write.
#[tokio::test]
async fn the_feed_waits_for_transactions_that_are_open() {
    let host = Host::open().await;
    let start = settled(&host).await;
    let held = host.account("Globex").await;
    let of_held = held.changes[0].id();

    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &held)
        .await
        .unwrap();
    let later = host
        .session
        .accounts()
        .create(Account::new("Initech"))
        .await
        .unwrap();
    for _ in 0..20 {
        let (seen, until) = fed(&host, Some(start)).await;
        assert!(seen.is_empty(), "an event in front of it could still come");
        assert!(until <= fed(&host, None).await.1);
    }
    // Readers of everything else see what was committed at once.
    assert_eq!(host.session.audit().trail(later.id).await.unwrap().len(), 1);
    transaction.commit().await.unwrap();
    assert_eq!(follow(&host, start, 2).await, [of_held, later.id.uuid()]);

    // One that is rolled back leaves nothing, and no gap that anybody waits for.
    let start = settled(&host).await;
    let held = host.account("Hooli").await;
    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &held)
        .await
        .unwrap();
    let after = host
        .session
        .accounts()
        .create(Account::new("Umbrella"))
        .await
        .unwrap();
    assert!(fed(&host, Some(start)).await.0.is_empty());
    transaction.rollback().await.unwrap();
    assert_eq!(follow(&host, start, 1).await, [after.id.uuid()]);

    // A transaction that only reads holds nothing up.
    let start = settled(&host).await;
    let mut reader = host.pool.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM public.orders")
        .execute(&mut *reader)
        .await
        .unwrap();
    let seen = host
        .session
        .accounts()
        .create(Account::new("Stark"))
        .await
        .unwrap();
    assert_eq!(follow(&host, start, 1).await, [seen.id.uuid()]);
    reader.rollback().await.unwrap();
}

/// The one exception to the order of causes: a host's transaction that wrote before it read. Its
/// events stand where it first wrote.
#[tokio::test]
async fn a_transaction_that_wrote_before_it_read_stands_where_it_wrote() {
    let host = Host::open().await;
    let start = settled(&host).await;
    let mut transaction = host.pool.begin().await.unwrap();
    host.order(&mut transaction, 1).await;
    let cause = host
        .session
        .accounts()
        .create(Account::new("Cause"))
        .await
        .unwrap();
    // It has read what was committed meanwhile, and writes what follows from it.
    let mut work = host.session.begin();
    let cause_row = work.accounts().get(cause.id).await.unwrap();
    let effect = Account {
        parent_account_id: Some(cause_row.id),
        ..Account::new("Effect")
    };
    let effect = work.accounts().create(effect).await.unwrap().id;
    let changes = work.prepare().await.unwrap();
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &changes)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(
        follow(&host, start, 2).await,
        [effect.uuid(), cause.id.uuid()]
    );

    // One that reads first has its events behind.
    let start = settled(&host).await;
    let cause = host
        .session
        .accounts()
        .create(Account::new("Another cause"))
        .await
        .unwrap();
    let changes = host.account("Another effect").await;
    let effect = changes.changes[0].id();
    let mut transaction = host.pool.begin().await.unwrap();
    host.storage
        .commit_in(&mut transaction, host.session.scope(), &changes)
        .await
        .unwrap();
    host.order(&mut transaction, 2).await;
    transaction.commit().await.unwrap();
    assert_eq!(follow(&host, start, 2).await, [cause.id.uuid(), effect]);
}
