//! Merges by chance, and their undoing.

use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::schema::{Row, Value};
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uuid::Uuid;

use super::{Property, Relation, Remark, assert_same, crm, remark, rows, state, tenant};

const ACCOUNTS: usize = 5;

/// A small world, and what is done in it.
#[derive(Clone, Debug)]
struct World {
    /// For each account: parent, and which fields have a value.
    accounts: Vec<(Option<usize>, u8)>,
    /// For each contact: account, e-mail address, refusal, deleted.
    contacts: Vec<(Option<usize>, bool, bool, bool)>,
    deals: Vec<Option<usize>>,
    activities: Vec<usize>,
    relations: Vec<(usize, usize, u8)>,
    remarks: Vec<(usize, u8)>,
    properties: Vec<Option<usize>>,
    merges: Vec<Step>,
}

/// One merge: the survivor, the losers, and whose name counts.
#[derive(Clone, Debug)]
struct Step {
    contacts: bool,
    survivor: usize,
    losers: Vec<usize>,
    choice: Option<usize>,
}

fn worlds() -> impl Strategy<Value = World> {
    let any_account = || 0..ACCOUNTS;
    let maybe = || proptest::option::of(0..ACCOUNTS);
    let step = (
        proptest::bool::weighted(0.25),
        any_account(),
        proptest::collection::vec(any_account(), 1..3),
        proptest::option::of(any_account()),
    );
    let step = step.prop_map(|(contacts, survivor, losers, choice)| Step {
        contacts,
        survivor,
        losers,
        choice,
    });
    (
        proptest::collection::vec((maybe(), any::<u8>()), ACCOUNTS),
        proptest::collection::vec(
            (maybe(), any::<bool>(), any::<bool>(), any::<bool>()),
            ACCOUNTS,
        ),
        proptest::collection::vec(maybe(), 0..3),
        proptest::collection::vec(any_account(), 0..3),
        proptest::collection::vec((any_account(), any_account(), 0..2u8), 0..8),
        proptest::collection::vec((any_account(), 0..2u8), 0..8),
        proptest::collection::vec(maybe(), 0..3),
        proptest::collection::vec(step, 1..4),
    )
        .prop_map(
            |(accounts, contacts, deals, activities, relations, remarks, properties, merges)| {
                World {
                    accounts,
                    contacts,
                    deals,
                    activities,
                    relations,
                    remarks,
                    properties,
                    merges,
                }
            },
        )
}

impl World {
    async fn build(
        &self,
        onboarded: &Onboarded,
        session: &Session,
    ) -> (Vec<Id<Account>>, Vec<Id<Contact>>) {
        let mut accounts = Vec::new();
        for (number, (_, fields)) in self.accounts.iter().enumerate() {
            let has = |bit: u8| fields & (1 << bit) != 0;
            let account = Account {
                account_number: has(0).then(|| format!("N-{number}")),
                industry: has(1).then(|| format!("Industry {number}")),
                billing_address: has(2).then(|| Address {
                    city: Some(format!("City {number}")),
                    street: has(3).then(|| format!("Street {number}")),
                    ..Address::default()
                }),
                phone: has(4).then(|| format!("+1 650 253 000{number}").parse().unwrap()),
                tags: if has(5) {
                    vec!["all".into(), number.to_string()]
                } else {
                    Vec::new()
                },
                custom_fields: if has(6) {
                    json!({"x": number, "all": {"n": null}})
                } else {
                    json!({})
                },
                annual_revenue: has(7).then(|| rust_decimal::Decimal::new(150 + number as i64, 2)),
                ..Account::new(format!("Account {number}"))
            };
            accounts.push(session.accounts().create(account).await.unwrap().id);
        }
        for (number, (parent, _)) in self.accounts.iter().enumerate() {
            if let Some(parent) = parent {
                // What would be a cycle is refused.
                let _ = session
                    .accounts()
                    .set_parent(accounts[number], Some(accounts[*parent]))
                    .await;
            }
        }
        let mut contacts = Vec::new();
        for (number, (account, email, refuses, deleted)) in self.contacts.iter().enumerate() {
            let mut contact = Contact {
                account_id: account.map(|account| accounts[account]),
                email: email.then(|| format!("c{number}@example.com").parse().unwrap()),
                ..Contact::named("Contact", number.to_string())
            };
            contact.preferences.do_not_call = *refuses;
            let id = session.contacts().create(contact).await.unwrap().id;
            if *deleted {
                session.contacts().delete(id).await.unwrap();
            }
            contacts.push(id);
        }
        for account in &self.deals {
            let deal = Deal {
                account_id: account.map(|account| accounts[account]),
                contact_id: Some(contacts[0]).filter(|_| !self.contacts[0].3),
                ..Deal::new("Deal", onboarded.pipeline)
            };
            session.deals().create(deal).await.unwrap();
        }
        for account in &self.activities {
            let call = Activity::new(
                ActivityType::Call,
                "Call",
                accounts[*account],
                onboarded.admin,
            );
            session.activities().create(call).await.unwrap();
        }
        for (left, right, kind) in &self.relations {
            let relation = Relation::new(accounts[*left], accounts[*right], kind.to_string());
            let _ = session.records::<Relation>().create(relation).await;
        }
        for (account, topic) in &self.remarks {
            let word = remark("account", accounts[*account].uuid(), &topic.to_string());
            let _ = session.records::<Remark>().create(word).await;
        }
        for (number, seller) in self.properties.iter().enumerate() {
            let property = Property {
                seller_id: seller.map(|seller| accounts[seller]),
                ..Property::new(number.to_string())
            };
            session
                .records::<Property>()
                .create(property)
                .await
                .unwrap();
        }
        (accounts, contacts)
    }

    async fn live(&self, crm: &Crm, subdomain: &str) {
        let (onboarded, session) = tenant(crm, subdomain).await;
        let (accounts, contacts) = self.build(&onboarded, &session).await;
        let mut undo = Vec::new();
        for step in &self.merges {
            let before = state(&session).await;
            let ids: Vec<Uuid> = if step.contacts {
                contacts.iter().map(|id| id.uuid()).collect()
            } else {
                accounts.iter().map(|id| id.uuid()).collect()
            };
            let object = if step.contacts { "contact" } else { "account" };
            let mut losers: Vec<Uuid> = step.losers.iter().map(|loser| ids[*loser]).collect();
            losers.dedup();
            losers.retain(|loser| *loser != ids[step.survivor]);
            let survivor = ids[step.survivor];
            let chosen = step.choice.map(|choice| ids[choice]);
            let field = if step.contacts { "last_name" } else { "name" };
            let choices = match chosen.filter(|id| *id == survivor || losers.contains(id)) {
                Some(id) => Choices::new().take(field, id),
                None => Choices::new(),
            };
            let mut records = session.object(object).await.unwrap();
            match records.merge_into(survivor, &losers, &choices, None).await {
                Ok(merged) => {
                    let resolved = records.resolve_all(&losers).await.unwrap();
                    assert!(resolved.iter().all(|id| *id == Some(survivor)));
                    self.check_merged(&session, &losers).await;
                    undo.push((before, merged.merges));
                }
                Err(error) => {
                    // Deleted or merged already.
                    assert!(
                        matches!(error.code(), "not_found" | "nothing_to_merge"),
                        "{error}"
                    );
                    assert_same(&state(&session).await, &before);
                }
            }
        }
        for (before, merges) in undo.into_iter().rev() {
            for merge in merges.into_iter().rev() {
                let undone = session.merges().undo(merge).await.unwrap();
                assert!(undone.kept.is_empty(), "{:?}", undone.kept);
            }
            assert_same(&state(&session).await, &before);
        }
    }

    /// Nothing that is not deleted leads to a loser, and no refusal is lost.
    async fn check_merged(&self, session: &Session, losers: &[Uuid]) {
        for object in [
            "account", "contact", "deal", "activity", "relation", "remark", "property",
        ] {
            for row in rows(session, object).await {
                if row.is_deleted() {
                    continue;
                }
                for (index, field) in row.object().fields().iter().enumerate() {
                    let leads = field.reference().is_some() || field.record_of.is_some();
                    let id = row.value(index).as_uuid();
                    assert!(
                        !(leads && id.is_some_and(|id| losers.contains(&id))),
                        "{object}"
                    );
                }
            }
        }
        for loser in losers {
            let merged = session
                .object("contact")
                .await
                .unwrap()
                .resolve_all(&[*loser])
                .await
                .unwrap();
            if let Some(Some(survivor)) = merged.first() {
                let find = Find::<()>::new()
                    .with_deleted()
                    .filter_by_name(Filter::eq("id", *loser));
                let tombstone = session
                    .object("contact")
                    .await
                    .unwrap()
                    .find(&find)
                    .await
                    .unwrap();
                let refused =
                    |row: &Row| row.get("do_not_call").into_owned() == Value::Boolean(true);
                let one = session
                    .object("contact")
                    .await
                    .unwrap()
                    .get(*survivor)
                    .await
                    .unwrap();
                assert!(refused(&one) || !refused(&tombstone.items[0]), "R-026");
            }
        }
    }
}

/// C-021, R-018, R-026: a merge and its undoing are the identity, chains of merges in reverse order
/// too.
#[test]
fn a_merge_and_its_undoing_change_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let usual = match std::env::var("CRM_TEST_STORAGE").as_deref() {
        Ok("postgres") => 8,
        _ => 96,
    };
    let said = std::env::var("PROPTEST_CASES").ok();
    let cases = said.map_or(usual, |number| number.parse().unwrap());
    let crm = runtime.block_on(async { crm() });
    let number = std::cell::Cell::new(0);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&worlds(), |world| {
            number.set(number.get() + 1);
            runtime.block_on(world.live(&crm, &format!("w{}", number.get())));
            Ok(())
        })
        .unwrap();
}
