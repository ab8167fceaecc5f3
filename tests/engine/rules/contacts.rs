//! Contacts: names, addresses and telephone numbers.

use crm_engine::error::codes;
use crm_engine::prelude::*;
use crm_engine::tenancy::ContactNamePolicy;

use super::{faults, world};

///
#[tokio::test]
async fn contacts_need_both_names_unless_the_tenant_says_otherwise() {
    let w = world().await;
    let mononym = || Contact {
        name: PersonName::split("Teller"),
        ..Contact::default()
    };
    let error = w.session.contacts().create(mononym()).await.unwrap_err();
    assert_eq!(faults(&error), [("last_name", codes::REQUIRED)]);
    w.session
        .configurations()
        .set_contact_name_policy(ContactNamePolicy::AtLeastOne)
        .await
        .unwrap();
    let teller = w.session.contacts().create(mononym()).await.unwrap();
    assert_eq!(teller.name.full_name().as_deref(), Some("Teller"));
    let error = w
        .session
        .contacts()
        .create(Contact::default())
        .await
        .unwrap_err();
    assert_eq!(error.field_errors().len(), 2);
}

/// G-11: free again once the other one is deleted, taken again when it comes back.
#[tokio::test]
async fn an_email_address_belongs_to_one_live_contact() {
    let w = world().await;
    let with_email = |email: &str| Contact {
        email: Some(email.parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let first = w
        .session
        .contacts()
        .create(with_email("ada@x.example"))
        .await
        .unwrap();
    let error = w
        .session
        .contacts()
        .create(with_email("ADA@x.example"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["email"]));
    w.session.contacts().delete(first.id).await.unwrap();
    w.session
        .contacts()
        .create(with_email("Ada@X.example"))
        .await
        .unwrap();
    let error = w.session.contacts().restore(first.id).await.unwrap_err();
    assert!(matches!(error, Error::Duplicate { .. }));
}

/// the text is kept, the canonical form is derived, also through a merge patch.
#[tokio::test]
async fn phone_numbers_keep_their_text_and_get_their_canonical_form() {
    let w = world().await;
    let ada = Contact {
        phone: Some("+1 (312) 555-0123".parse().unwrap()),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = w.session.contacts().create(ada).await.unwrap();
    assert_eq!(ada.phone.as_ref().unwrap().raw(), "+1 (312) 555-0123");
    let patch = serde_json::json!({"phone": "+49 30 123456"});
    let ada = w
        .session
        .contacts()
        .merge(ada.id, 1, patch.as_object().unwrap())
        .await
        .unwrap();
    assert_eq!(ada.phone.as_ref().unwrap().e164(), Some("+4930123456"));
    let found = w
        .session
        .contacts()
        .find(Contact::PHONE.at(PhoneNumber::E164).eq("+4930123456"))
        .await
        .unwrap();
    assert_eq!(found.items.len(), 1);
    let patch = serde_json::json!({"phone": "ask at reception", "phone_e164": "+1"});
    let error = w
        .session
        .contacts()
        .merge(ada.id, 2, patch.as_object().unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        faults(&error),
        [("phone", "invalid_phone"), ("phone_e164", codes::READ_ONLY)]
    );
}
