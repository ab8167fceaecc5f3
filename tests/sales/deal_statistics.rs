//! figures over deals on contacts and accounts follow every change of the deals, per currency,
//! whoever writes at the same time, and equal what the deals say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::figures::{figures, told};
use crate::common::{assert_trail_tells_every_record, crm, rows_of, tenant};
use crm_engine::deals::DealStats;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::storage::{Change, ChangeSet};
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use tokio::sync::Barrier;
use uuid::Uuid;

/// A tenant with contacts and accounts to sell to.
struct Shop {
    office: Onboarded,
    session: Session,
    contacts: Vec<Id<Contact>>,
    accounts: Vec<Id<Account>>,
}

impl Shop {
    async fn new(crm: &Crm, subdomain: &str) -> Self {
        let (office, session) = tenant(crm, subdomain).await;
        let mut contacts = Vec::new();
        let mut accounts = Vec::new();
        for name in ["Ada", "Grace", "Hank"] {
            let contact = Contact::named(name, "Example");
            contacts.push(session.contacts().create(contact).await.unwrap().id);
            let account = Account::new(format!("{name} Ltd"));
            accounts.push(session.accounts().create(account).await.unwrap().id);
        }
        Self {
            office,
            session,
            contacts,
            accounts,
        }
    }

    fn deal(&self, amount: i64, currency: &str) -> Deal {
        Deal {
            amount: Some(amount.into()),
            currency: Currency::parse(currency).unwrap(),
            contact_id: Some(self.contacts[0]),
            account_id: Some(self.accounts[0]),
            ..Deal::new("Rollout", self.office.pipeline)
        }
    }

    async fn create(&self, deal: Deal) -> Id<Deal> {
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn contact(&self, place: usize) -> String {
        let contacts = self.session.contacts();
        told(&contacts.get(self.contacts[place]).await.unwrap().deal_stats)
    }

    async fn account(&self, place: usize) -> String {
        let accounts = self.session.accounts();
        told(&accounts.get(self.accounts[place]).await.unwrap().deal_stats)
    }

    /// The figures of every contact and account, deleted ones too, equal what the deals say.
    async fn assert_right(&self) {
        let deals: Vec<Arc<Record<Deal>>> = rows_of(&self.session, "deal")
            .await
            .into_iter()
            .filter(|row| !row.is_deleted())
            .filter_map(Record::from_row)
            .collect();
        for row in rows_of(&self.session, "contact").await {
            let contact = Record::<Contact>::from_row(row).unwrap();
            let own = deals.iter();
            let own = own.filter(|deal| deal.contact_id == Some(contact.id));
            assert_eq!(told(&contact.deal_stats), told(&figures(own)));
        }
        for row in rows_of(&self.session, "account").await {
            let account = Record::<Account>::from_row(row).unwrap();
            let own = deals.iter();
            let own = own.filter(|deal| deal.account_id == Some(account.id));
            assert_eq!(told(&account.deal_stats), told(&figures(own)));
        }
    }
}

/// created, moved, changed, won, lost, reopened, archived, deleted and restored.
#[tokio::test]
async fn figures_follow_every_change_of_a_deal() {
    let shop = Shop::new(&crm(), "acme").await;
    let deals = || shop.session.deals();
    let deal = shop.create(shop.deal(100, "EUR")).await;
    shop.create(shop.deal(7, "USD")).await;
    assert_eq!(shop.contact(0).await, "2 [100.00 EUR, 7.00 USD], 0 []");
    assert_eq!(shop.account(0).await, "2 [100.00 EUR, 7.00 USD], 0 []");
    // From one contact to another; the account stays.
    let to = |deal: &mut Deal| deal.contact_id = Some(shop.contacts[1]);
    deals().update(deal, to).await.unwrap();
    assert_eq!(shop.contact(0).await, "1 [7.00 USD], 0 []");
    assert_eq!(shop.contact(1).await, "1 [100.00 EUR], 0 []");
    assert_eq!(shop.account(0).await, "2 [100.00 EUR, 7.00 USD], 0 []");
    // Another amount in another currency.
    let price = |deal: &mut Deal| {
        deal.amount = Some(Decimal::new(12_050, 2));
        deal.currency = Currency::CHF;
    };
    deals().update(deal, price).await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 0 []");
    // Won, reopened and lost; a lost deal still counts.
    deals().win(deal).await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 1 [120.50 CHF]");
    assert_eq!(
        shop.account(0).await,
        "2 [120.50 CHF, 7.00 USD], 1 [120.50 CHF]"
    );
    deals().reopen(deal, None).await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 0 []");
    deals().lose(deal, "price").await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 0 []");
    // Archived ones count, deleted ones do not.
    deals().archive(deal).await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 0 []");
    deals().delete(deal).await.unwrap();
    assert_eq!(shop.contact(1).await, "0 [], 0 []");
    assert_eq!(shop.account(0).await, "1 [7.00 USD], 0 []");
    deals().restore(deal).await.unwrap();
    assert_eq!(shop.contact(1).await, "1 [120.50 CHF], 0 []");
    // Without a contact, and without an amount.
    deals()
        .update(deal, |deal| deal.contact_id = None)
        .await
        .unwrap();
    assert_eq!(shop.contact(1).await, "0 [], 0 []");
    deals()
        .update(deal, |deal| deal.amount = None)
        .await
        .unwrap();
    assert_eq!(shop.account(0).await, "2 [7.00 USD], 0 []");
    shop.assert_right().await;
    // Nobody writes them by hand.
    let by_hand = |contact: &mut Contact| contact.deal_stats.deal_count = 9;
    let error = shop
        .session
        .contacts()
        .update(shop.contacts[0], by_hand)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
}

/// a contact or account that is deleted has no deals any more; merging and undoing it move them.
#[tokio::test]
async fn figures_follow_deletions_and_merges_of_contacts_and_accounts() {
    let shop = Shop::new(&crm(), "acme").await;
    let session = &shop.session;
    let first = shop.create(shop.deal(100, "EUR")).await;
    session.deals().win(first).await.unwrap();
    let second = Deal {
        contact_id: Some(shop.contacts[1]),
        account_id: Some(shop.accounts[1]),
        ..shop.deal(50, "EUR")
    };
    shop.create(second).await;
    let (ada, grace) = (shop.contacts[0], shop.contacts[1]);
    let merges = session
        .contacts()
        .merge_into(ada, &[grace], &Choices::new(), None)
        .await
        .unwrap();
    assert_eq!(shop.contact(0).await, "2 [150.00 EUR], 1 [100.00 EUR]");
    shop.assert_right().await;
    session.merges().undo(merges.merges[0]).await.unwrap();
    assert_eq!(shop.contact(0).await, "1 [100.00 EUR], 1 [100.00 EUR]");
    assert_eq!(shop.contact(1).await, "1 [50.00 EUR], 0 []");
    let (globex, initech) = (shop.accounts[0], shop.accounts[1]);
    let merges = session
        .accounts()
        .merge_into(initech, &[globex], &Choices::new(), None)
        .await
        .unwrap();
    assert_eq!(shop.account(1).await, "2 [150.00 EUR], 1 [100.00 EUR]");
    // What happens meanwhile stays right when the merge is undone.
    let third = Deal {
        account_id: Some(initech),
        ..shop.deal(1, "USD")
    };
    shop.create(third).await;
    shop.assert_right().await;
    session.merges().undo(merges.merges[0]).await.unwrap();
    shop.assert_right().await;
    // Deals lose a contact that is deleted, and do not come back to it.
    session.contacts().delete(ada).await.unwrap();
    shop.assert_right().await;
    session.contacts().restore(ada).await.unwrap();
    assert_eq!(shop.contact(0).await, "0 [], 0 []");
    session.contacts().delete(ada).await.unwrap();
    session.contacts().purge(ada).await.unwrap();
    shop.assert_right().await;
    assert_trail_tells_every_record(session).await;
}

/// A commit with many deals writes each record once, and a change without a figure not at all.
#[tokio::test]
async fn records_are_written_once_for_many_deals() {
    let shop = Shop::new(&crm(), "acme").await;
    let contact = || async {
        let contacts = shop.session.contacts();
        contacts.get(shop.contacts[0]).await.unwrap().version
    };
    let before = contact().await;
    let deals = (1..=300).map(|amount| shop.deal(amount, "EUR")).collect();
    let deals = shop.session.deals().create_all(deals).await.unwrap();
    assert_eq!(contact().await, before + 1);
    assert_eq!(shop.contact(0).await, "300 [45150.00 EUR], 0 []");
    shop.session
        .deals()
        .update(deals[0].id, |deal| deal.next_step = Some("call".into()))
        .await
        .unwrap();
    shop.session.deals().archive(deals[1].id).await.unwrap();
    assert_eq!(contact().await, before + 1);
    // What makes up for each other is nothing.
    let mut work = shop.session.begin();
    work.deals().delete(deals[2].id).await.unwrap();
    work.deals().create(shop.deal(3, "EUR")).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(contact().await, before + 1);
    shop.assert_right().await;
}

/// figures are exact whoever writes deals of one contact at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn figures_are_exact_under_concurrency() {
    let shop = Arc::new(Shop::new(&crm(), "acme").await);
    let mut own = Vec::new();
    for number in 0..8_i64 {
        own.push(shop.create(shop.deal(number, "EUR")).await);
    }
    let barrier = Arc::new(Barrier::new(own.len()));
    let tasks: Vec<_> = own
        .into_iter()
        .enumerate()
        .map(|(number, deal)| {
            let (shop, barrier) = (shop.clone(), barrier.clone());
            tokio::spawn(async move {
                barrier.wait().await;
                let deals = || shop.session.deals();
                deals().win(deal).await.unwrap();
                let to = shop.contacts[number % 2];
                deals()
                    .update(deal, |deal| {
                        deal.contact_id = Some(to);
                        deal.amount = Some(10.into());
                    })
                    .await
                    .unwrap();
                if number % 3 == 0 {
                    deals().delete(deal).await.unwrap();
                }
                shop.create(shop.deal(1, "USD")).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    shop.assert_right().await;
    let run = shop
        .session
        .deals()
        .recompute_statistics(&())
        .await
        .unwrap();
    assert_eq!((run.checked, run.mended), (6, 0));
}

/// What was written past the engine is mended, in batches that can be stopped.
#[tokio::test]
async fn a_recomputation_mends_what_was_written_past_the_engine() {
    let crm = crm();
    let shop = Shop::new(&crm, "acme").await;
    let deal = shop.create(shop.deal(100, "EUR")).await;
    shop.create(shop.deal(5, "USD")).await;
    shop.session.deals().win(deal).await.unwrap();
    shop.session.deals().archive(deal).await.unwrap();
    let right = shop.contact(0).await;
    let stored = shop.session.contacts().get(shop.contacts[0]).await.unwrap();
    let mut wrong = (*stored).clone();
    wrong.data.deal_stats = DealStats {
        deal_count: 77,
        ..DealStats::default()
    };
    wrong.version += 1;
    let (before, after): (Row, Row) = (stored, Arc::new(wrong));
    let change = Change::Update { before, after };
    let changes = ChangeSet::new(
        Uuid::from_u128(1),
        "2026-01-01T00:00:00Z".parse().unwrap(),
        vec![change],
        Vec::new(),
    );
    let storage = shop.session.engine().storage();
    storage
        .commit(shop.session.scope(), &changes)
        .await
        .unwrap();
    let stop = |_, _| ControlFlow::Break(());
    let run = shop.session.deals().recompute_statistics(&stop).await;
    let run = run.unwrap();
    assert_eq!((run.checked, run.mended, run.is_stopped), (3, 1, true));
    assert_eq!(shop.contact(0).await, right);
    let run = shop.session.deals().recompute_statistics(&()).await;
    let run = run.unwrap();
    assert_eq!((run.checked, run.mended, run.is_stopped), (6, 0, false));
    let mut work = shop.session.begin();
    let error = work.deals().recompute_statistics(&()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
    // Another tenant's deals are none of its figures.
    let other = Shop::new(&crm, "other").await;
    other.create(other.deal(1, "EUR")).await;
    let run = other.session.deals().recompute_statistics(&()).await;
    assert_eq!(run.unwrap().mended, 0);
    assert_eq!(shop.contact(0).await, right);
}

/// A step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Create(usize, usize, Option<i64>, usize),
    Contact(usize, Option<usize>),
    Account(usize, Option<usize>),
    Amount(usize, Option<i64>, usize),
    Win(usize),
    Lose(usize),
    Reopen(usize),
    Archive(usize),
    Unarchive(usize),
    Delete(usize),
    Restore(usize),
    Purge(usize),
    MergeContacts(usize, usize),
    MergeAccounts(usize, usize),
    Undo(usize),
    DeleteContact(usize),
    RestoreContact(usize),
    Together(usize, usize),
}

const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];

fn steps() -> impl Strategy<Value = Step> {
    let (deal, place) = (0..6_usize, 0..3_usize);
    let amount = || prop::option::weighted(0.8, 0..1_000_i64);
    prop_oneof![
        4 => (0..3_usize, 0..3_usize, amount(), 0..3_usize)
            .prop_map(|(contact, account, amount, currency)| Step::Create(contact, account, amount, currency)),
        2 => (deal.clone(), prop::option::weighted(0.8, place.clone())).prop_map(|(d, c)| Step::Contact(d, c)),
        2 => (deal.clone(), prop::option::weighted(0.8, place.clone())).prop_map(|(d, a)| Step::Account(d, a)),
        2 => (deal.clone(), amount(), place.clone()).prop_map(|(d, a, c)| Step::Amount(d, a, c)),
        2 => deal.clone().prop_map(Step::Win),
        1 => deal.clone().prop_map(Step::Lose),
        1 => deal.clone().prop_map(Step::Reopen),
        1 => deal.clone().prop_map(Step::Archive),
        1 => deal.clone().prop_map(Step::Unarchive),
        2 => deal.clone().prop_map(Step::Delete),
        1 => deal.clone().prop_map(Step::Restore),
        1 => deal.clone().prop_map(Step::Purge),
        1 => (place.clone(), place.clone()).prop_map(|(a, b)| Step::MergeContacts(a, b)),
        1 => (place.clone(), place.clone()).prop_map(|(a, b)| Step::MergeAccounts(a, b)),
        1 => (0..3_usize).prop_map(Step::Undo),
        1 => place.clone().prop_map(Step::DeleteContact),
        1 => place.prop_map(Step::RestoreContact),
        1 => (deal.clone(), deal).prop_map(|(a, b)| Step::Together(a, b)),
    ]
}

/// Takes a step as far as the rules allow it: what is refused must leave the figures right too.
async fn take(
    shop: &Shop,
    deals: &mut Vec<Id<Deal>>,
    merges: &mut Vec<Id<crm_engine::merging::Merge>>,
    step: &Step,
) {
    let session = &shop.session;
    let of = |place: &usize| deals.get(*place).copied().unwrap_or(Id::new(Uuid::nil()));
    let money = |deal: &mut Deal, amount: &Option<i64>, currency: usize| {
        deal.amount = amount.map(Decimal::from);
        deal.currency = Currency::parse(CURRENCIES[currency]).unwrap();
    };
    match step {
        Step::Create(contact, account, amount, currency) => {
            let mut deal = shop.deal(0, "EUR");
            deal.contact_id = Some(shop.contacts[*contact]);
            deal.account_id = Some(shop.accounts[*account]);
            money(&mut deal, amount, *currency);
            if let Ok(deal) = session.deals().create(deal).await {
                deals.push(deal.id);
            }
        }
        Step::Contact(deal, contact) => {
            let contact = contact.map(|contact| shop.contacts[contact]);
            let set = |deal: &mut Deal| deal.contact_id = contact;
            let _ = session.deals().update(of(deal), set).await;
        }
        Step::Account(deal, account) => {
            let account = account.map(|account| shop.accounts[account]);
            let set = |deal: &mut Deal| deal.account_id = account;
            let _ = session.deals().update(of(deal), set).await;
        }
        Step::Amount(deal, amount, currency) => {
            let set = |deal: &mut Deal| money(deal, amount, *currency);
            let _ = session.deals().update(of(deal), set).await;
        }
        Step::Win(deal) => drop(session.deals().win(of(deal)).await),
        Step::Lose(deal) => drop(session.deals().lose(of(deal), "price").await),
        Step::Reopen(deal) => drop(session.deals().reopen(of(deal), None).await),
        Step::Archive(deal) => drop(session.deals().archive(of(deal)).await),
        Step::Unarchive(deal) => drop(session.deals().unarchive(of(deal)).await),
        Step::Delete(deal) => drop(session.deals().delete(of(deal)).await),
        Step::Restore(deal) => drop(session.deals().restore(of(deal)).await),
        Step::Purge(deal) => drop(session.deals().purge(of(deal)).await),
        Step::MergeContacts(survivor, loser) => {
            let (survivor, loser) = (shop.contacts[*survivor], [shop.contacts[*loser]]);
            let mut contacts = session.contacts();
            let choices = Choices::new();
            let merged = contacts.merge_into(survivor, &loser, &choices, None).await;
            merges.extend(merged.into_iter().flat_map(|merged| merged.merges));
        }
        Step::MergeAccounts(survivor, loser) => {
            let (survivor, loser) = (shop.accounts[*survivor], [shop.accounts[*loser]]);
            let mut accounts = session.accounts();
            let choices = Choices::new();
            let merged = accounts.merge_into(survivor, &loser, &choices, None).await;
            merges.extend(merged.into_iter().flat_map(|merged| merged.merges));
        }
        Step::Undo(merge) => {
            if let Some(merge) = merges.get(*merge) {
                let _ = session.merges().undo(*merge).await;
            }
        }
        Step::DeleteContact(contact) => {
            drop(session.contacts().delete(shop.contacts[*contact]).await);
        }
        Step::RestoreContact(contact) => {
            drop(session.contacts().restore(shop.contacts[*contact]).await);
        }
        Step::Together(one, other) => {
            // Several changes of several deals in one commit.
            let mut work = session.begin();
            let _ = work.deals().win(of(one)).await;
            let _ = work.deals().delete(of(other)).await;
            let _ = work.deals().create(shop.deal(11, "USD")).await;
            let _ = work.commit().await;
        }
    }
}

/// after any sequence of changes the figures are those of a recomputation.
#[test]
fn figures_equal_recomputation_after_any_sequence() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let crm = crm();
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(24),
        failure_persistence: None,
        ..Config::default()
    });
    let strategy = prop::collection::vec(steps(), 1..30);
    let outcome = runner.run(&strategy, |steps| {
        let subdomain = format!("shop-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let shop = Shop::new(&crm, &subdomain).await;
            let (mut deals, mut merges) = (Vec::new(), Vec::new());
            for step in &steps {
                take(&shop, &mut deals, &mut merges, step).await;
                shop.assert_right().await;
            }
            let run = shop.session.deals().recompute_statistics(&()).await;
            assert_eq!(run.unwrap().mended, 0);
        });
        Ok(())
    });
    outcome.unwrap();
}

/// Figures are fields like others: they sort, filter and export.
#[tokio::test]
async fn figures_are_fields_of_the_schema() {
    let shop = Shop::new(&crm(), "acme").await;
    shop.create(shop.deal(100, "EUR")).await;
    let busy = Filter::Compare {
        field: "deal_count".into(),
        op: crm_engine::query::Comparison::Ge,
        value: 1_i64.into(),
    };
    let found = shop.session.accounts();
    let found = found.find(Find::new().filter_by_name(busy)).await.unwrap();
    assert_eq!(found.items[0].id, shop.accounts[0]);
    let json = rows_of(&shop.session, "account").await;
    let values: BTreeMap<Uuid, String> = json
        .iter()
        .map(|row| (row.id(), row.to_json()["total_deal_value"].to_string()))
        .collect();
    assert_eq!(values[&shop.accounts[0].uuid()], "{\"EUR\":\"100.00\"}");
}
