//! What a merge does with records, their fields and their tree.

use crm_engine::audit::{AuditExt, AuditKind};
use crm_engine::merging::{Choices, Winner};
use crm_engine::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::{Property, Remark, account, acme, assert_same, merge, remark, state};

/// C-021, R-018: contacts, deals, activities, children, host objects and links go to the survivor;
/// the history holds the data of the loser, reason, time and user.
#[tokio::test]
async fn everything_of_the_loser_goes_to_the_survivor() {
    let (onboarded, session) = acme().await;
    let globex = account(&session, "Globex").await;
    let double = Account {
        industry: Some("Energy".into()),
        tags: vec!["key".into()],
        ..Account::new("Globex Corp.")
    };
    let double = session.accounts().create(double).await.unwrap().id;
    let child = Account {
        parent_account_id: Some(double),
        ..Account::new("Globex Labs")
    };
    let child = session.accounts().create(child).await.unwrap().id;
    let contact = Contact {
        account_id: Some(double),
        ..Contact::named("Hank", "Scorpio")
    };
    let contact = session.contacts().create(contact).await.unwrap().id;
    let gone = Contact {
        account_id: Some(double),
        ..Contact::named("Homer", "Simpson")
    };
    let gone = session.contacts().create(gone).await.unwrap().id;
    session.contacts().delete(gone).await.unwrap();
    let deal = Deal {
        account_id: Some(double),
        ..Deal::new("Rollout", onboarded.pipeline)
    };
    let deal = session.deals().create(deal).await.unwrap().id;
    let call = Activity::new(ActivityType::Call, "Ask", double, onboarded.admin);
    let call = session.activities().create(call).await.unwrap().id;
    let property = Property {
        seller_id: Some(double),
        ..Property::new("B-17")
    };
    let property = session
        .records::<Property>()
        .create(property)
        .await
        .unwrap()
        .id;
    let word = remark("account", double.uuid(), "a");
    let word = session.records::<Remark>().create(word).await.unwrap().id;

    let preview = session
        .accounts()
        .preview_merge(globex, &[double], &Choices::new())
        .await
        .unwrap();
    assert_eq!(
        preview.moved.iter().map(|link| link.count).sum::<usize>(),
        9
    );
    let industry = preview
        .fields
        .iter()
        .find(|field| field.field == "industry")
        .unwrap();
    assert_eq!(industry.winner, Winner::Record(double.uuid()));
    assert!(!format!("{preview:?}").contains("Energy"));

    let merged = session
        .accounts()
        .merge_into(globex, &[double], &Choices::new(), Some("the same company"))
        .await
        .unwrap();
    // The two contacts are affiliated with the account, too.
    assert_eq!((merged.moved, merged.dropped), (9, 0));
    assert_eq!(merged.survivor.name, "Globex");
    assert_eq!(merged.survivor.industry.as_deref(), Some("Energy"));
    assert_eq!(merged.survivor.tags, ["key"]);
    let get = session.accounts().get(child).await.unwrap();
    assert_eq!(get.parent_account_id, Some(globex));
    assert_eq!(
        session.contacts().get(contact).await.unwrap().account_id,
        Some(globex)
    );
    assert_eq!(
        session.deals().get(deal).await.unwrap().account_id,
        Some(globex)
    );
    let call = session.activities().get(call).await.unwrap();
    assert_eq!(call.links.account_id, Some(globex));
    let property = session.records::<Property>().get(property).await.unwrap();
    assert_eq!(property.seller_id, Some(globex));
    let word = session.records::<Remark>().get(word).await.unwrap();
    assert_eq!(word.record_id, globex.uuid());
    let gone = session.contacts().restore(gone).await.unwrap();
    assert_eq!(gone.account_id, Some(globex));

    let entry = session.merges().get(merged.merges[0]).await.unwrap();
    assert_eq!(entry.reason.as_deref(), Some("the same company"));
    assert_eq!(entry.loser_data["industry"], json!("Energy"));
    assert_eq!(entry.created.by, Actor::User(onboarded.admin));
    assert!(!format!("{entry:?}").contains("Energy"));
    // The trail tells each change, in the one commit of the merge.
    let events = session.audit().of_commit(entry.commit_id).await.unwrap();
    let told = |object: &str, kind| {
        events
            .iter()
            .filter(|event| event.object == object && event.event == kind)
            .count()
    };
    assert_eq!(told("account", AuditKind::Delete), 1);
    assert_eq!(told("account", AuditKind::Update), 2);
    assert_eq!(told("merge", AuditKind::Create), 1);
    assert_eq!(events.len(), 12);
}

/// C-021: the id of a loser leads to the survivor, through chains of merges and after their undoing;
/// nothing else reaches the loser.
#[tokio::test]
async fn a_loser_leads_to_the_survivor() {
    let (_, session) = acme().await;
    let [a, b, c, d] = [
        account(&session, "A").await,
        account(&session, "B").await,
        account(&session, "C").await,
        account(&session, "D").await,
    ];
    let first = merge(&session, b, &[a]).await;
    let second = merge(&session, c, &[b]).await;
    let accounts = session.accounts();
    let ghost = Id::new(Uuid::from_u128(7));
    let resolved = accounts.resolve_all(&[a, b, c, d, ghost, a]).await.unwrap();
    assert_eq!(
        resolved,
        [Some(c), Some(c), Some(c), Some(d), None, Some(c)]
    );
    assert_eq!(accounts.get(a).await.unwrap_err().code(), "not_found");
    assert_eq!(accounts.get_or_survivor(a).await.unwrap().id, c);
    assert_eq!(
        session.accounts().restore(a).await.unwrap_err().code(),
        "merged"
    );
    let child = Account {
        parent_account_id: Some(a),
        ..Account::new("Child")
    };
    assert_eq!(
        session.accounts().create(child).await.unwrap_err().code(),
        "validation"
    );

    let error = session.merges().undo(first[0]).await.unwrap_err();
    assert_eq!(error.code(), "merged_since");
    assert!(error.to_string().contains(&second[0].to_string()));
    session.merges().undo(second[0]).await.unwrap();
    assert_eq!(session.accounts().resolve(a).await.unwrap(), b);
    session.merges().undo(first[0]).await.unwrap();
    assert_eq!(session.accounts().resolve(a).await.unwrap(), a);
    assert_eq!(
        session.merges().undo(first[0]).await.unwrap_err().code(),
        "undone"
    );
    // A survivor that is gone is no answer.
    merge(&session, b, &[a]).await;
    session.accounts().delete(b).await.unwrap();
    assert_eq!(
        session.accounts().resolve(a).await.unwrap_err().code(),
        "not_found"
    );
}

/// what one of the records refused stays refused, whatever is chosen; an address, a telephone
/// number and an amount with its currency come from one record; texts are joined on demand.
#[tokio::test]
async fn fields_follow_their_rules() {
    let (_, session) = acme().await;
    let ada = Contact {
        phone: Some("+1 650 253 0000".parse().unwrap()),
        description: Some("Met in Oslo".into()),
        custom_fields: json!({"x": "ada"}),
        tags: vec!["vip".into(), "math".into()],
        mailing_address: Some(Address {
            city: Some("London".into()),
            ..Address::default()
        }),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    let mut double = Contact {
        email: Some("ada@analytical.example".parse().unwrap()),
        phone: Some("+1 415 555 2671".parse().unwrap()),
        description: Some("Likes tea".into()),
        custom_fields: json!({"x": "other", "y": {"z": 1}}),
        tags: vec!["math".into(), "tea".into()],
        mailing_address: Some(Address {
            street: Some("12 St James's Square".into()),
            city: Some("Paris".into()),
            ..Address::default()
        }),
        ..Contact::named("A.", "Byron")
    };
    double.preferences.do_not_call = true;
    let double = session.contacts().create(double).await.unwrap().id;
    let refused = Choices::new().take("do_not_call", ada);
    let error = session
        .contacts()
        .merge_into(ada, &[double], &refused, None)
        .await;
    assert_eq!(error.unwrap_err().field_errors()[0].code, "inconsistent");

    let choices = Choices::new()
        .take(Contact::NAME.at(PersonName::LAST_NAME).name(), double)
        .take("phone", double)
        .join(Contact::DESCRIPTION.name());
    let merged = session
        .contacts()
        .merge_into(ada, &[double], &choices, None)
        .await
        .unwrap();
    let one = &merged.survivor;
    assert_eq!(one.name.full_name().as_deref(), Some("Ada Byron"));
    assert!(one.preferences.do_not_call && !one.preferences.do_not_email);
    assert_eq!(one.description.as_deref(), Some("Met in Oslo\n\nLikes tea"));
    assert_eq!(one.custom_fields, json!({"x": "ada", "y": {"z": 1}}));
    assert_eq!(one.tags, ["vip", "math", "tea"]);
    assert_eq!(one.phone.as_ref().unwrap().e164(), Some("+14155552671"));
    let address = one.mailing_address.as_ref().unwrap();
    assert_eq!(
        (address.city.as_deref(), address.street.as_deref()),
        (Some("London"), None)
    );
    // The survivor has the loser's address in a unique key, and gives it back in one commit.
    assert_eq!(
        one.email.as_ref().unwrap().as_str(),
        "ada@analytical.example"
    );
    let undone = session.merges().undo(merged.merges[0]).await.unwrap();
    assert!(undone.kept.is_empty());
    let back = session.contacts().get(double).await.unwrap();
    assert_eq!(
        back.email.as_ref().unwrap().as_str(),
        "ada@analytical.example"
    );
    let ada = session.contacts().get(ada).await.unwrap();
    assert_eq!(
        (ada.email.as_ref(), ada.preferences.do_not_call),
        (None, false)
    );

    let priced = |price: Option<i64>, currency: &str| Property {
        price: price.map(Into::into),
        currency: currency.parse().unwrap(),
        ..Property::new("B-17")
    };
    let mut properties = session.records::<Property>();
    let one = properties.create(priced(None, "USD")).await.unwrap().id;
    let two = properties.create(priced(Some(5), "EUR")).await.unwrap().id;
    let merged = properties
        .merge_into(one, &[two], &Choices::new(), None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.price, Some(5.into()));
    assert_eq!(merged.survivor.currency.as_str(), "EUR");
}

/// R-016, C-019: a survivor below the loser takes its place in the tree; no cycle comes about.
#[tokio::test]
async fn a_survivor_takes_the_place_of_the_loser_in_the_tree() {
    let (_, session) = acme().await;
    let [top, loser, middle, survivor] = [
        account(&session, "Top").await,
        account(&session, "Loser").await,
        account(&session, "Middle").await,
        account(&session, "Survivor").await,
    ];
    for (child, parent) in [(loser, top), (middle, loser), (survivor, middle)] {
        session
            .accounts()
            .set_parent(child, Some(parent))
            .await
            .unwrap();
    }
    let before = state(&session).await;
    let merges = merge(&session, survivor, &[loser]).await;
    let above = session.accounts().ancestors(middle).await.unwrap();
    let above: Vec<_> = above.iter().map(|account| account.id).collect();
    assert_eq!(above, [survivor, top]);
    session.merges().undo(merges[0]).await.unwrap();
    assert_same(&state(&session).await, &before);
    // The other way round: the loser stands below the survivor.
    let merges = merge(&session, loser, &[survivor]).await;
    let above = session.accounts().ancestors(middle).await.unwrap();
    assert_eq!(above.first().unwrap().id, loser);
    session.merges().undo(merges[0]).await.unwrap();
    assert_same(&state(&session).await, &before);
}

/// C-032: the same by the object's name.
#[tokio::test]
async fn records_are_merged_by_the_name_of_their_object() {
    let (_, session) = acme().await;
    let [a, b] = [account(&session, "A").await, account(&session, "B").await];
    let mut accounts = session.object("account").await.unwrap();
    let merged = accounts
        .merge_into(a.uuid(), &[b.uuid()], &Choices::new().take("name", b), None)
        .await
        .unwrap();
    assert_eq!(merged.survivor.get("name").as_text(), Some("B"));
    let resolved = accounts.resolve_all(&[b.uuid()]).await.unwrap();
    assert_eq!(resolved, [Some(a.uuid())]);
}
