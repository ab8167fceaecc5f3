//! The keys of records: built for older ones, in step with all.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::duplicates::{CheckGap, CompiledRule, KeyState, MatchRule};
use crm_engine::prelude::*;
use uuid::Uuid;

use super::{by_phone, contact, create, ids, like_names, rule, session};

/// Records written before a rule get their keys when they are built; until then checks say so.
#[tokio::test]
async fn keys_of_older_records_are_built() {
    let session = session().await;
    let number = Some("+49 30 901820");
    let ada = create(&session, "Ada", "Lovelace", number).await;
    // Two that are duplicates already stay as they are.
    let twin = create(&session, "Ada", "Lovelace", number).await;
    let gone = create(&session, "Gone", "G.", number).await;
    session.contacts().delete(gone).await.unwrap();
    let strict = DuplicateRule {
        mode: DuplicateMode::Strict,
        ..DuplicateRule::new(
            "Phones",
            "contact",
            MatchRule::from_json(&by_phone()).unwrap(),
        )
    };
    let rule = session.duplicate_rules().create(strict).await.unwrap();
    assert_eq!(rule.state, KeyState::Building);
    let build = async || {
        let built = session.duplicates().rebuild_keys(rule.id, None, &()).await;
        built.unwrap()
    };
    let new = contact("New", "N.", number);
    let check = session.duplicates().check(&new).await.unwrap();
    assert_eq!(check.gaps, [CheckGap::Building { rule: rule.id }]);
    assert!(check.matches.is_empty());

    let rebuilt = build().await;
    assert_eq!((rebuilt.records, rebuilt.keys, rebuilt.next), (3, 2, None));
    let state = async || session.duplicate_rules().get(rule.id).await.unwrap().state;
    assert_eq!(state().await, KeyState::Ready);
    let again = build().await;
    assert_eq!(again.keys, 0, "what is right stays as it is");
    let check = session.duplicates().check(&new).await.unwrap();
    assert!(check.is_complete());
    let found: BTreeSet<Uuid> = ids(&check.matches).into_iter().collect();
    assert_eq!(found, BTreeSet::from([ada.uuid(), twin.uuid()]));
    assert_eq!(
        session.contacts().create(new).await.unwrap_err().code(),
        "duplicate_found"
    );

    // Another rule under the same name: its keys are built anew, the old ones go.
    let names = MatchRule::from_json(&like_names()).unwrap();
    let change = |rule: &mut DuplicateRule| rule.rule.clone_from(&names);
    session
        .duplicate_rules()
        .update(rule.id, change)
        .await
        .unwrap();
    assert_eq!(state().await, KeyState::Building);
    let rebuilt = build().await;
    assert_eq!(rebuilt.keys, 2 + 4);
    let check = session
        .duplicates()
        .check(&contact("Ada", "Lovelace", None))
        .await
        .unwrap();
    assert_eq!(check.matches.len(), 2);
    // A rule that is not applied loses its keys.
    session
        .duplicate_rules()
        .update(rule.id, |rule| rule.is_active = false)
        .await
        .unwrap();
    assert_eq!(state().await, KeyState::Inactive);
    let dropped = build().await;
    assert_eq!(dropped.keys, 4);
    assert_eq!(keys(&session).await.len(), 0);
}

/// The stored keys, by record.
async fn keys(session: &Session) -> BTreeMap<Uuid, BTreeSet<Uuid>> {
    let mut keys: BTreeMap<Uuid, BTreeSet<Uuid>> = BTreeMap::new();
    let find = Find::<()>::new().limit(1_000);
    let mut page = session
        .object("duplicate_key")
        .await
        .unwrap()
        .find(&find)
        .await
        .unwrap();
    loop {
        for row in &page.items {
            let record = row.get("record_id").as_uuid().unwrap();
            let is_new = keys
                .entry(record)
                .or_default()
                .insert(row.get("key").as_uuid().unwrap());
            assert!(is_new, "a key twice");
        }
        let Some(next) = page.next else { return keys };
        let find = find.clone().after(next);
        page = session
            .object("duplicate_key")
            .await
            .unwrap()
            .find(&find)
            .await
            .unwrap();
    }
}

/// Whatever is done to records, their stored keys are those of the rule, and those alone.
#[tokio::test]
async fn keys_stay_in_step_with_records() {
    let session = session().await;
    rule(&session, "contact", DuplicateMode::Warn, like_names()).await;
    let compiled = MatchRule::from_json(&like_names()).unwrap();
    let rules = session.duplicate_rules().find(Find::new()).await.unwrap();
    let compiled =
        CompiledRule::new(&compiled, rules.items[0].id.uuid(), Contact::schema()).unwrap();
    let storage = session.engine().storage();
    let compiled = compiled.with_digests(storage.digests(session.scope()).await.unwrap());
    let names = ["Ada", "Grace", "Mary", "Ann"];
    let mut places = 7_u64;
    let mut made = Vec::new();
    for step in 0..60 {
        places = places
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let pick = (places >> 33) as usize;
        let (first, last) = (names[pick % 4], names[pick / 4 % 4]);
        let id = made.get(pick % (made.len() + 1)).copied();
        let mut contacts = session.contacts();
        match (step % 6, id) {
            (1, Some(id)) => {
                let change = |contact: &mut Contact| contact.name = PersonName::new(first, last);
                let _ = contacts.update(id, change).await;
            }
            (2, Some(id)) => drop(contacts.delete(id).await),
            (3, Some(id)) => drop(contacts.restore(id).await),
            (4, Some(id)) => drop(contacts.archive(id).await),
            (5, Some(id)) => drop(contacts.purge(id).await),
            _ => made.push(
                contacts
                    .create(contact(first, last, None))
                    .await
                    .unwrap()
                    .id,
            ),
        }
    }
    let mut wanted = BTreeMap::new();
    let all = Find::new().with_archived().limit(1_000);
    for record in session.contacts().find(all).await.unwrap() {
        let keys = compiled.keys(&compiled.prepare(&*record));
        wanted.insert(record.id.uuid(), keys.iter().map(|key| key.key).collect());
    }
    assert!(wanted.len() > 5);
    assert_eq!(keys(&session).await, wanted);
}

/// A rule over a custom field follows the field: where that changes, goes or comes back, the rule says
/// that its keys are to be built again, and the batches mend them.
#[tokio::test]
async fn keys_follow_the_definitions_of_custom_fields() {
    use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomFieldsExt, TextLimits};
    use crm_engine::value::ApiName;
    use serde_json::json;

    let session = session().await;
    let name = |text| ApiName::parse(text).unwrap();
    let limits = |most| {
        CustomFieldType::Text(TextLimits {
            max_length: Some(most),
            ..TextLimits::default()
        })
    };
    let mut fields = Vec::new();
    for api_name in ["number", "other"] {
        let field = CustomField::new(name("account"), name(api_name), api_name, limits(20));
        fields.push(
            session
                .records::<CustomField>()
                .create(field)
                .await
                .unwrap()
                .id,
        );
    }
    let [number, other] = fields[..] else {
        panic!("two fields");
    };
    let by_number = json!({"when": {"field": "custom_fields.number", "method": "exact"}});
    let by_number = rule(&session, "account", DuplicateMode::Strict, by_number).await;
    let state = async || {
        session
            .duplicate_rules()
            .get(by_number)
            .await
            .unwrap()
            .state
    };
    let build = async || {
        let built = session
            .duplicates()
            .rebuild_keys(by_number, None, &())
            .await;
        built.unwrap()
    };
    let account = |custom| Account {
        custom_fields: custom,
        ..Account::new("Globex")
    };
    let known = account(json!({"number": "N-1", "other": "N-1"}));
    session.accounts().create(known.clone()).await.unwrap();
    assert_eq!(state().await, KeyState::Ready);
    let count = keys(&session).await.len();

    let widen = |field: &mut CustomField| field.field_type = limits(40);
    session.records().update(other, widen).await.unwrap();
    let rename = |field: &mut CustomField| field.label = "No.".to_owned();
    session.records().update(number, rename).await.unwrap();
    assert_eq!(state().await, KeyState::Ready);
    session.records().update(number, widen).await.unwrap();
    assert_eq!(state().await, KeyState::Building);
    build().await;
    assert_eq!(state().await, KeyState::Ready);
    assert!(session.accounts().create(known.clone()).await.is_err());

    session
        .custom_fields()
        .delete_though_used(number)
        .await
        .unwrap();
    assert_eq!(state().await, KeyState::Building);
    build().await;
    assert!(
        keys(&session).await.is_empty(),
        "keys of a field that is gone"
    );
    let plain = account(json!({"other": "N-1"}));
    session.accounts().create(plain).await.unwrap();
    session.custom_fields().restore(number).await.unwrap();
    build().await;
    assert_eq!(state().await, KeyState::Ready);
    assert_eq!(keys(&session).await.len(), count);
    assert!(session.accounts().create(known).await.is_err());

    session
        .custom_fields()
        .delete_though_used(number)
        .await
        .unwrap();
    session.custom_fields().purge(number, &()).await.unwrap();
    build().await;
    assert!(keys(&session).await.is_empty());
}
