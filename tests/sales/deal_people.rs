//! Several contacts per deal with roles, competitors, and close reasons from the tenant's list
//! (C-011, R-018, R-038, R-082): in step with the deal, however it is written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use crate::common::{crm, rows_of, tenant};
use crm_engine::contacts::BuyingRole;
use crm_engine::deals::{
    CloseOutcome, CloseReason, CloseReasonPolicy, CompetitorStatus, DealCompetitor, DealContact,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use proptest::prelude::*;
use serde_json::json;

async fn scene() -> (Onboarded, Session) {
    tenant(&crm(), "acme").await
}

async fn contact(session: &Session, name: &str) -> Id<Contact> {
    let contact = Contact::named(name, "Lovelace");
    session.contacts().create(contact).await.unwrap().id
}

async fn deal(session: &Session, acme: &Onboarded, contact: Option<Id<Contact>>) -> Id<Deal> {
    let deal = Deal {
        contact_id: contact,
        ..Deal::new("Rollout", acme.pipeline)
    };
    session.deals().create(deal).await.unwrap().id
}

/// The contacts of a deal, the primary one first, and which are primary.
async fn people(session: &Session, deal: Id<Deal>) -> Vec<(Id<Contact>, bool)> {
    let people = session.deals().contacts_of(deal).await.unwrap();
    let people = people.iter();
    people
        .map(|person| (person.contact.id, person.link.is_primary))
        .collect()
}

async fn primary(session: &Session, deal: Id<Deal>) -> Option<Id<Contact>> {
    session.deals().get(deal).await.unwrap().contact_id
}

fn faults(error: &Error) -> Vec<(&str, &str)> {
    let errors = error.field_errors().iter();
    errors
        .map(|error| (error.path.as_str(), error.code))
        .collect()
}

/// A deal has several contacts with roles, found both ways.
#[tokio::test]
async fn a_deal_has_people_with_roles() {
    let (acme, session) = scene().await;
    let (ada, grace) = (
        contact(&session, "Ada").await,
        contact(&session, "Grace").await,
    );
    let id = deal(&session, &acme, None).await;
    let deals = || session.deals();
    let champion = Some(BuyingRole::Champion);
    deals().add_contact(id, ada, champion).await.unwrap();
    deals().add_contact(id, grace, None).await.unwrap();
    // Adding somebody again changes nothing but the role.
    deals().add_contact(id, ada, None).await.unwrap();
    deals()
        .add_contact(id, grace, Some(BuyingRole::Blocker))
        .await
        .unwrap();
    assert_eq!(people(&session, id).await, [(ada, false), (grace, false)]);
    let link = deals()
        .set_contact_role(id, grace, Some(BuyingRole::DecisionMaker))
        .await
        .unwrap();
    assert_eq!(link.role, Some(BuyingRole::DecisionMaker));
    let champions = DealContact::ROLE.eq(BuyingRole::Champion);
    let parts = deals()
        .deals_with(ada, champions.clone())
        .await
        .unwrap()
        .items;
    assert_eq!((parts.len(), parts[0].deal.id), (1, id));
    assert!(
        deals()
            .deals_with(grace, champions)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    // Each takes part once, whichever way it is written.
    let twice = session
        .records::<DealContact>()
        .create(DealContact::new(id, ada))
        .await;
    assert_eq!(twice.unwrap_err().code(), "duplicate");
    deals().remove_contact(id, ada).await.unwrap();
    assert_eq!(people(&session, id).await, [(grace, false)]);
    assert_eq!(
        deals().remove_contact(id, ada).await.unwrap_err().code(),
        "not_found"
    );
}

/// The primary contact and the deal's contact are one, whichever is written.
#[tokio::test]
async fn the_primary_contact_is_the_deals_contact() {
    let (acme, session) = scene().await;
    let (ada, grace) = (
        contact(&session, "Ada").await,
        contact(&session, "Grace").await,
    );
    let id = deal(&session, &acme, Some(ada)).await;
    assert_eq!(people(&session, id).await, [(ada, true)]);
    // By the deal, as a merge patch.
    let version = session.deals().get(id).await.unwrap().version;
    let patch = json!({ "contact_id": grace });
    session
        .deals()
        .merge(id, version, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(people(&session, id).await, [(grace, true), (ada, false)]);
    // By a record of its own.
    let links = session.deals().contacts_of(id).await.unwrap();
    let of_ada = links[1].link.id;
    let promote = |link: &mut DealContact| link.is_primary = true;
    session
        .records::<DealContact>()
        .update(of_ada, promote)
        .await
        .unwrap();
    assert_eq!(primary(&session, id).await, Some(ada));
    assert_eq!(people(&session, id).await, [(ada, true), (grace, false)]);
    // By the service, also for one who took no part.
    let edith = contact(&session, "Edith").await;
    session
        .deals()
        .set_primary_contact(id, Some(edith))
        .await
        .unwrap();
    assert_eq!(people(&session, id).await[0], (edith, true));
    session.deals().remove_contact(id, edith).await.unwrap();
    assert_eq!(primary(&session, id).await, None);
    assert!(
        people(&session, id)
            .await
            .iter()
            .all(|(_, is_primary)| !is_primary)
    );
    common::assert_trail_tells_every_record(&session).await;
}

/// Contacts that are deleted leave their deals; a restored one comes back as one of the people.
#[tokio::test]
async fn deleted_contacts_and_deals_stay_in_step() {
    let (acme, session) = scene().await;
    let (ada, grace) = (
        contact(&session, "Ada").await,
        contact(&session, "Grace").await,
    );
    let id = deal(&session, &acme, Some(ada)).await;
    session.deals().add_contact(id, grace, None).await.unwrap();
    session.contacts().delete(ada).await.unwrap();
    assert_eq!(primary(&session, id).await, None);
    assert_eq!(people(&session, id).await, [(grace, false)]);
    session.contacts().restore(ada).await.unwrap();
    assert_eq!(primary(&session, id).await, None);
    assert_eq!(people(&session, id).await, [(ada, false), (grace, false)]);

    session
        .deals()
        .set_primary_contact(id, Some(grace))
        .await
        .unwrap();
    session.deals().delete(id).await.unwrap();
    assert!(
        session
            .deals()
            .deals_with(grace, Find::new())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    session.deals().restore(id).await.unwrap();
    assert_eq!(people(&session, id).await, [(grace, true), (ada, false)]);
}

/// the merge of two contacts leads their deals to the survivor, and its undoing back.
#[tokio::test]
async fn merged_contacts_take_their_deals_along() {
    let (acme, session) = scene().await;
    let (ada, twin) = (
        contact(&session, "Ada").await,
        contact(&session, "Ada").await,
    );
    let alone = deal(&session, &acme, Some(twin)).await;
    let both = deal(&session, &acme, Some(twin)).await;
    session
        .deals()
        .add_contact(both, ada, Some(BuyingRole::User))
        .await
        .unwrap();
    let before = rows_of(&session, "deal_contact").await;
    let picture = |rows: &[crm_engine::schema::Row]| -> Vec<_> {
        let live = rows.iter().filter(|row| !row.is_deleted());
        live.map(|row| (row.id(), row.values())).collect()
    };
    let before = picture(&before);
    let choices = Choices::new();
    let merged = session
        .contacts()
        .merge_into(ada, &[twin], &choices, None)
        .await
        .unwrap();
    for id in [alone, both] {
        assert_eq!(people(&session, id).await, [(ada, true)]);
        assert_eq!(primary(&session, id).await, Some(ada));
    }
    session.merges().undo(merged.merges[0]).await.unwrap();
    assert_eq!(picture(&rows_of(&session, "deal_contact").await), before);
    assert_eq!(primary(&session, both).await, Some(twin));
}

/// Several who name a primary contact at the same time: one is, and the deal names it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_contact_is_primary_whoever_else_tries() {
    let (acme, session) = scene().await;
    let mut all = Vec::new();
    for name in ["Ada", "Grace", "Edith", "Radia"] {
        all.push(contact(&session, name).await);
    }
    for _ in 0..4 {
        let id = deal(&session, &acme, None).await;
        let tasks: Vec<_> = (0..)
            .zip(all.clone())
            .map(|(number, contact)| {
                let session = session.clone();
                tokio::spawn(async move {
                    if number % 2 == 0 {
                        session
                            .deals()
                            .set_primary_contact(id, Some(contact))
                            .await
                            .map(|_| ())
                    } else {
                        let mut work = session.begin();
                        let link = DealContact {
                            is_primary: true,
                            ..DealContact::new(id, contact)
                        };
                        work.records::<DealContact>().create(link).await?;
                        work.commit().await.map(|_| ())
                    }
                })
            })
            .collect();
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => {}
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
        let people = people(&session, id).await;
        let primaries: Vec<_> = people
            .iter()
            .filter(|(_, is_primary)| *is_primary)
            .collect();
        assert_eq!(primaries.len(), 1);
        assert_eq!(primary(&session, id).await, Some(primaries[0].0));
    }
}

/// The main competitor is the one that the deal names, in any case of letters.
#[tokio::test]
async fn the_main_competitor_is_named_by_the_deal() {
    let (acme, session) = scene().await;
    let new = Deal {
        competitor: Some("Initech".into()),
        ..Deal::new("Rollout", acme.pipeline)
    };
    let id = session.deals().create(new).await.unwrap().id;
    let names = async || -> Vec<(String, bool)> {
        let all = session.deals().competitors_of(id).await.unwrap();
        all.iter()
            .map(|one| (one.name.clone(), one.is_main))
            .collect()
    };
    let of = |name: &str, is_main| (name.to_owned(), is_main);
    assert_eq!(names().await, [of("Initech", true)]);
    let globex = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap()
        .id;
    let rival = session
        .deals()
        .add_competitor(DealCompetitor::account(id, globex))
        .await
        .unwrap();
    assert_eq!(rival.name, "Globex", "the name of the account");
    let name = |name: &'static str| move |deal: &mut Deal| deal.competitor = Some(name.into());
    session.deals().update(id, name("GLOBEX")).await.unwrap();
    assert_eq!(names().await, [of("Globex", true), of("Initech", false)]);
    // A name that changes is told to the deal.
    let rename = |one: &mut DealCompetitor| one.name = "Globex AG".into();
    session
        .records::<DealCompetitor>()
        .update(rival.id, rename)
        .await
        .unwrap();
    let stored = session.deals().get(id).await.unwrap();
    assert_eq!(stored.competitor.as_deref(), Some("Globex AG"));
    let twice = session
        .deals()
        .add_competitor(DealCompetitor::new(id, "initech"))
        .await;
    assert_eq!(twice.unwrap_err().code(), "duplicate");
    let nameless = session
        .deals()
        .add_competitor(DealCompetitor::new(id, ""))
        .await;
    assert_eq!(faults(&nameless.unwrap_err()), [("name", "blank")]);
    // The account may go: what is known stays.
    session.accounts().delete(globex).await.unwrap();
    let rival = session
        .records::<DealCompetitor>()
        .get(rival.id)
        .await
        .unwrap();
    assert_eq!((rival.name.as_str(), rival.account_id), ("Globex AG", None));
    session.deals().remove_competitor(rival.id).await.unwrap();
    assert_eq!(session.deals().get(id).await.unwrap().competitor, None);
    assert_eq!(names().await, [of("Initech", false)]);
}

/// competitors learn what became of their deal.
#[tokio::test]
async fn competitors_know_whether_the_deal_was_won() {
    let (acme, session) = scene().await;
    let id = deal(&session, &acme, None).await;
    let rival = session
        .deals()
        .add_competitor(DealCompetitor::new(id, "Initech"))
        .await
        .unwrap();
    let won = async || {
        let rival = session
            .records::<DealCompetitor>()
            .get(rival.id)
            .await
            .unwrap();
        rival.won_against
    };
    assert_eq!(won().await, None);
    session.deals().win(id).await.unwrap();
    assert_eq!(won().await, Some(true));
    let late = session
        .deals()
        .add_competitor(DealCompetitor::new(id, "Globex"))
        .await
        .unwrap();
    assert_eq!(late.won_against, Some(true));
    session.deals().reopen(id, None).await.unwrap();
    assert_eq!(won().await, None);
    session.deals().lose(id, "too late").await.unwrap();
    assert_eq!(won().await, Some(false));
    let chosen = CompetitorStatus::Chosen;
    session
        .deals()
        .set_competitor_status(rival.id, chosen)
        .await
        .unwrap();
    let forged = json!({ "won_against": true });
    let version = session
        .records::<DealCompetitor>()
        .get(rival.id)
        .await
        .unwrap()
        .version;
    let forged = session
        .records::<DealCompetitor>()
        .merge(rival.id, version, forged.as_object().unwrap())
        .await;
    assert_eq!(faults(&forged.unwrap_err()), [("won_against", "read_only")]);
    let lost_to = DealCompetitor::STATUS
        .eq(chosen)
        .and(DealCompetitor::WON_AGAINST.eq(false));
    assert_eq!(
        session
            .records::<DealCompetitor>()
            .count(lost_to)
            .await
            .unwrap(),
        1
    );
}

async fn reason(session: &Session, outcome: CloseOutcome, label: &str) -> Id<CloseReason> {
    let reason = CloseReason::new(outcome, label);
    session.close_reasons().create(reason).await.unwrap().id
}

/// where the tenant has reasons, a deal is closed with one of them, whichever way; where
/// it wants one, there is one.
#[tokio::test]
async fn deals_are_closed_for_a_reason_of_the_list() {
    let (acme, session) = scene().await;
    let first = deal(&session, &acme, None).await;
    session.deals().lose(first, "anything goes").await.unwrap();
    let price = reason(&session, CloseOutcome::Lost, "Price").await;
    let policy = CloseReasonPolicy {
        on_lost: true,
        on_won: false,
    };
    session
        .configurations()
        .set_close_reason_policy(policy)
        .await
        .unwrap();
    assert_eq!(
        session
            .configurations()
            .close_reason_policy()
            .await
            .unwrap(),
        policy
    );

    let id = deal(&session, &acme, None).await;
    let lost = session.pipelines().stages(acme.pipeline).await.unwrap();
    let lost = lost
        .iter()
        .find(|stage| stage.stage_type == StageType::ClosedLost)
        .unwrap()
        .id;
    let missing = [("close_reason", "required")];
    let unknown = [("close_reason", "not_an_option")];
    let deals = || session.deals();
    assert_eq!(
        faults(&deals().move_to(id, lost).await.unwrap_err()),
        missing
    );
    assert_eq!(
        faults(&deals().lose(id, "bad luck").await.unwrap_err()),
        unknown
    );
    let version = deals().get(id).await.unwrap().version;
    let patch = json!({ "stage_id": lost });
    let patch = patch.as_object().unwrap();
    assert_eq!(
        faults(&deals().merge(id, version, patch).await.unwrap_err()),
        missing
    );
    let mut by_name = session.object("deal").await.unwrap();
    assert_eq!(
        faults(&by_name.merge(id.uuid(), version, patch).await.unwrap_err()),
        missing
    );
    let born_lost = Deal {
        stage_id: Some(lost),
        ..Deal::new("Lost", acme.pipeline)
    };
    assert_eq!(
        faults(&deals().create(born_lost).await.unwrap_err()),
        missing
    );
    let mut work = session.begin();
    let refused = work
        .deals()
        .update(id, |deal| deal.stage_id = Some(lost))
        .await;
    assert_eq!(faults(&refused.unwrap_err()), missing);
    drop(work);
    let closed = deals().lose(id, "pRICE").await.unwrap();
    assert_eq!(closed.close_reason.as_deref(), Some("Price"));
    let clear = |deal: &mut Deal| deal.close_reason = None;
    assert_eq!(
        faults(&deals().update(id, clear).await.unwrap_err()),
        missing
    );

    // What a deal was closed with stays; the list is for those that are closed from now on.
    let retire = |reason: &mut CloseReason| reason.is_active = false;
    session.close_reasons().update(price, retire).await.unwrap();
    reason(&session, CloseOutcome::Lost, "Costs").await;
    for (deal, text) in [(id, "Price"), (first, "anything goes")] {
        let stored = deals()
            .update(deal, |deal| deal.next_step = Some("ask again".into()))
            .await;
        assert_eq!(stored.unwrap().close_reason.as_deref(), Some(text));
    }
    let id = deal(&session, &acme, None).await;
    assert_eq!(
        faults(&deals().lose(id, "Price").await.unwrap_err()),
        unknown
    );
    deals().lose(id, "Costs").await.unwrap();
    // Winning needs none, and takes any text while there is no list for it.
    let won = deal(&session, &acme, None).await;
    deals().win_because(won, "the best product").await.unwrap();
    let won = deal(&session, &acme, None).await;
    deals().win(won).await.unwrap();
}

/// The reasons are in the order that the tenant gives them.
#[tokio::test]
async fn close_reasons_have_an_order() {
    let (_, session) = scene().await;
    let price = reason(&session, CloseOutcome::Lost, "Price").await;
    let time = reason(&session, CloseOutcome::Lost, "Time").await;
    let old = reason(&session, CloseOutcome::Lost, "Old").await;
    reason(&session, CloseOutcome::Won, "Price").await;
    let twice = session
        .close_reasons()
        .create(CloseReason::new(CloseOutcome::Lost, "price"))
        .await;
    assert_eq!(twice.unwrap_err().code(), "duplicate");
    session
        .close_reasons()
        .reorder(CloseOutcome::Lost, &[time])
        .await
        .unwrap();
    session.close_reasons().archive(old).await.unwrap();
    let in_use = session
        .close_reasons()
        .in_use(CloseOutcome::Lost)
        .await
        .unwrap();
    let ids: Vec<_> = in_use.iter().map(|one| one.id).collect();
    assert_eq!(ids, [time, price]);
}

/// A step of a random sequence.
#[derive(Clone, Debug)]
enum Step {
    Name(usize, Option<usize>),
    Add(usize, usize, bool),
    Remove(usize, usize),
    Flag(usize, usize, bool),
    DeleteContact(usize),
    RestoreContact(usize),
    DeleteDeal(usize),
    RestoreDeal(usize),
    Merge(usize, usize),
    Unmerge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (deal, contact) = (0..2_usize, 0..3_usize);
    let step = prop_oneof![
        4 => (deal.clone(), proptest::option::of(contact.clone())).prop_map(|(d, c)| Step::Name(d, c)),
        4 => (deal.clone(), contact.clone(), any::<bool>()).prop_map(|(d, c, p)| Step::Add(d, c, p)),
        2 => (deal.clone(), contact.clone()).prop_map(|(d, c)| Step::Remove(d, c)),
        3 => (deal.clone(), contact.clone(), any::<bool>()).prop_map(|(d, c, p)| Step::Flag(d, c, p)),
        1 => contact.clone().prop_map(Step::DeleteContact),
        1 => contact.clone().prop_map(Step::RestoreContact),
        1 => deal.clone().prop_map(Step::DeleteDeal),
        1 => deal.prop_map(Step::RestoreDeal),
        1 => (contact.clone(), contact).prop_map(|(a, b)| Step::Merge(a, b)),
        1 => Just(Step::Unmerge),
    ];
    proptest::collection::vec(step, 1..14)
}

async fn live(crm: &Crm, subdomain: &str, steps: &[Step]) {
    let (acme, session) = tenant(crm, subdomain).await;
    let mut contacts = Vec::new();
    for name in ["Ada", "Grace", "Edith"] {
        contacts.push(contact(&session, name).await);
    }
    let deals = [
        deal(&session, &acme, None).await,
        deal(&session, &acme, Some(contacts[0])).await,
    ];
    let mut merges = Vec::new();
    for step in steps {
        // Steps that make no sense here are refused, and change nothing.
        let _: Result<(), Error> = match *step {
            Step::Name(deal, contact) => {
                let contact = contact.map(|contact| contacts[contact]);
                session
                    .deals()
                    .set_primary_contact(deals[deal], contact)
                    .await
                    .map(|_| ())
            }
            Step::Add(deal, contact, is_primary) => {
                let link = DealContact {
                    is_primary,
                    ..DealContact::new(deals[deal], contacts[contact])
                };
                session
                    .records::<DealContact>()
                    .create(link)
                    .await
                    .map(|_| ())
            }
            Step::Remove(deal, contact) => {
                session
                    .deals()
                    .remove_contact(deals[deal], contacts[contact])
                    .await
            }
            Step::Flag(deal, contact, is_primary) => {
                let of_both = DealContact::DEAL_ID
                    .eq(deals[deal])
                    .and(DealContact::CONTACT_ID.eq(contacts[contact]));
                let mut links = session.records::<DealContact>();
                match links.find_one(of_both).await.unwrap() {
                    Some(link) => {
                        let flag = |link: &mut DealContact| link.is_primary = is_primary;
                        links.update(link.id, flag).await.map(|_| ())
                    }
                    None => Ok(()),
                }
            }
            Step::DeleteContact(contact) => session.contacts().delete(contacts[contact]).await,
            Step::RestoreContact(contact) => session
                .contacts()
                .restore(contacts[contact])
                .await
                .map(|_| ()),
            Step::DeleteDeal(deal) => session.deals().delete(deals[deal]).await,
            Step::RestoreDeal(deal) => session.deals().restore(deals[deal]).await.map(|_| ()),
            Step::Merge(survivor, loser) => {
                let choices = Choices::new();
                let loser = [contacts[loser]];
                let mut records = session.contacts();
                let merged = records
                    .merge_into(contacts[survivor], &loser, &choices, None)
                    .await;
                merged.map(|merged| merges.extend(merged.merges))
            }
            Step::Unmerge => match merges.pop() {
                Some(merge) => session.merges().undo(merge).await.map(|_| ()),
                None => Ok(()),
            },
        };
        for id in deals {
            let Ok(stored) = session.deals().get(id).await else {
                continue;
            };
            let people = people(&session, id).await;
            let primaries = people.iter().filter(|(_, is_primary)| *is_primary);
            let primaries: Vec<_> = primaries.map(|(contact, _)| *contact).collect();
            assert_eq!(
                primaries,
                stored.contact_id.into_iter().collect::<Vec<_>>(),
                "after {step:?}"
            );
        }
    }
}

/// After any sequence of writes there is one primary contact exactly if the deal names one, and it is
/// that.
#[test]
fn people_and_deals_stay_in_step() {
    common::try_all(&steps(), [128, 12], async |crm, name, steps| {
        live(crm, name, &steps).await;
    });
}
