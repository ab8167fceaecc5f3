//! Merges that are undone.

use crm_engine::deals::DealContact;
use crm_engine::merging::{Choices, KeptReason, LinkFate, MergeLink};
use crm_engine::prelude::*;

use super::{account, acme, merge, rows};

/// What somebody touched since the merge stays and is listed; the rest goes back.
#[tokio::test]
async fn undoing_leaves_what_was_touched_since() {
    let (_, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let double = Account {
        industry: Some("Energy".into()),
        website: Some("https://globex.example".parse().unwrap()),
        billing_address: Some(Address {
            street: Some("1 Main Street".into()),
            city: Some("Springfield".into()),
            ..Address::default()
        }),
        ..Account::new("Globex Corp.")
    };
    let double = session.accounts().create(double).await.unwrap().id;
    let mut contacts = Vec::new();
    for name in ["Stays", "Moves", "Purged"] {
        let contact = Contact {
            account_id: Some(double),
            ..Contact::named(name, "Scorpio")
        };
        contacts.push(session.contacts().create(contact).await.unwrap().id);
    }
    let merges = merge(&session, globex, &[double]).await;
    let elsewhere = account(&session, "Elsewhere").await;
    session
        .accounts()
        .update(globex, |account| {
            account.industry = Some("Weather".into());
            account.billing_address.as_mut().unwrap().city = Some("Shelbyville".into());
        })
        .await
        .unwrap();
    session
        .contacts()
        .update(contacts[1], |contact| contact.account_id = Some(elsewhere))
        .await
        .unwrap();
    session
        .contacts()
        .update(contacts[0], |contact| {
            contact.job_title = Some("Boss".into());
        })
        .await
        .unwrap();
    session.contacts().delete(contacts[2]).await.unwrap();
    session.contacts().purge(contacts[2]).await.unwrap();

    let undone = session.merges().undo(merges[0]).await.unwrap();
    let mut kept: Vec<_> = undone
        .kept
        .iter()
        .map(|kept| (kept.field.as_str(), kept.why))
        .collect();
    kept.sort_unstable_by_key(|(field, why)| (field.to_string(), format!("{why:?}")));
    assert_eq!(
        kept,
        [
            ("account_id", KeptReason::Changed),
            ("account_id", KeptReason::Gone),
            ("account_id", KeptReason::Gone),
            ("billing_city", KeptReason::Changed),
            ("billing_street", KeptReason::Changed),
            ("industry", KeptReason::Changed),
        ]
    );
    let globex = session.accounts().get(globex).await.unwrap();
    assert_eq!(globex.industry.as_deref(), Some("Weather"));
    assert_eq!(globex.website, None);
    let stays = session.contacts().get(contacts[0]).await.unwrap();
    assert_eq!(
        (stays.account_id, stays.job_title.as_deref()),
        (Some(double), Some("Boss"))
    );
    let moved = session.contacts().get(contacts[1]).await.unwrap();
    assert_eq!(moved.account_id, Some(elsewhere));
    // Two links, and two affiliations with them.
    assert_eq!(undone.given_back, 4);
}

/// The history of a merge goes with the record whose data it holds.
#[tokio::test]
async fn a_purged_loser_takes_its_history_along() {
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    session.accounts().set_parent(a, Some(b)).await.unwrap();
    let contact = Contact {
        account_id: Some(b),
        ..Contact::named("Hank", "Scorpio")
    };
    session.contacts().create(contact).await.unwrap();
    merge(&session, a, &[b]).await;
    // The contact and its affiliation.
    assert_eq!(rows(&session, "merge_link").await.len(), 2);
    session.accounts().purge(b).await.unwrap();
    assert!(rows(&session, "merge").await.is_empty());
    assert!(rows(&session, "merge_link").await.is_empty());
    assert_eq!(
        session.accounts().resolve(b).await.unwrap_err().code(),
        "not_found"
    );
    assert!(session.accounts().get(a).await.is_ok());
}

/// Ten thousand children go to the survivor and back.
#[tokio::test]
async fn ten_thousand_children_move_and_come_back() {
    const CHILDREN: usize = 10_000;
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    let contact = |number: usize| Contact {
        account_id: Some(b),
        ..Contact::named("Child", number.to_string())
    };
    for part in 0..10 {
        let some = (part * CHILDREN / 10..(part + 1) * CHILDREN / 10).map(contact);
        session.contacts().create_all(some.collect()).await.unwrap();
    }
    let merged = session
        .accounts()
        .merge_into(a, &[b], &Choices::new(), None)
        .await
        .unwrap();
    // Each contact and its affiliation.
    assert_eq!(merged.moved, 2 * CHILDREN);
    let of = |id: Id<Account>| Contact::ACCOUNT_ID.eq(id);
    let children = u64::try_from(CHILDREN).unwrap();
    assert_eq!(session.contacts().count(of(a)).await.unwrap(), children);
    let entry = Find::from(MergeLink::FATE.eq(LinkFate::Moved)).limit(1);
    assert_eq!(
        session.records::<MergeLink>().count(entry).await.unwrap(),
        2 * children
    );
    let undone = session.merges().undo(merged.merges[0]).await.unwrap();
    assert_eq!((undone.given_back, undone.kept.len()), (2 * CHILDREN, 0));
    assert_eq!(session.contacts().count(of(b)).await.unwrap(), children);
}

/// the people of a deal that were deleted with it, and became one since, come back as one: the
/// one whom the deal names.
#[tokio::test]
async fn links_to_what_became_one_come_back_once() {
    let (onboarded, session) = acme().await;
    let mut people = Vec::new();
    for last_name in ["Scorpio", "Skorpio"] {
        let person = Contact::named("Hank", last_name);
        people.push(session.contacts().create(person).await.unwrap().id);
    }
    let deal = Deal {
        contact_id: Some(people[1]),
        ..Deal::new("Rollout", onboarded.pipeline)
    };
    let deal = session.deals().create(deal).await.unwrap().id;
    let other = DealContact::new(deal, people[0]);
    session.records().create(other).await.unwrap();
    let people_of = async || {
        let of_deal = Find::from(DealContact::DEAL_ID.eq(deal));
        let links = session.records::<DealContact>().find(of_deal).await;
        let links = links.unwrap().items.into_iter();
        let mut links: Vec<_> = links.map(|one| (one.is_primary, one.contact_id)).collect();
        links.sort_unstable();
        links
    };
    assert_eq!(people_of().await, [(false, people[0]), (true, people[1])]);
    session.deals().delete(deal).await.unwrap();
    session
        .contacts()
        .merge_into(people[0], &[people[1]], &Choices::new(), None)
        .await
        .unwrap();
    session.deals().restore(deal).await.unwrap();
    assert_eq!(people_of().await, [(true, people[0])]);
    let deal = session.deals().get(deal).await.unwrap();
    assert_eq!(deal.contact_id, Some(people[0]));
}
