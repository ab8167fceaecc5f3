//! What only a search beyond references finds: addresses in fields of the tenant, links that were led
//! to somebody else, and names to sign in with (C-081, R-056).

use crm_engine::Crm;
use crm_engine::audit::{AuthEvent, AuthKind, AuthOutcome, Erasure};
use crm_engine::custom_objects::{CustomField, CustomFieldType, CustomObject};
use crm_engine::prelude::*;
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::common::{assert_trail_tells, crm, rows_of, tenant};

const ADDRESS: &str = "zqada.first@reach.example";
const SECOND: &str = "zqada.second@reach.example";
/// What every text about Ada has in it.
const MARK: &str = "zqada";

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn email(text: &str) -> Option<EmailAddress> {
    Some(EmailAddress::parse(text).unwrap())
}

async fn field(session: &Session, object: &str, field: &str, kind: CustomFieldType) {
    let field = CustomField::new(name(object), name(field), field, kind);
    let mut fields = session.records::<CustomField>();
    fields.create(field).await.unwrap();
}

async fn named(session: &Session, object: &str, body: Json) -> Uuid {
    let mut records = session.object(object).await.unwrap();
    let row = records.create(body.as_object().unwrap()).await.unwrap();
    row.id()
}

async fn scene() -> (Crm, Session, Id<Contact>) {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let ada = Contact {
        email: email(ADDRESS),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await.unwrap().id;
    (crm, session, ada)
}

/// Every record and event that has the mark in it, by object.
async fn left(session: &Session, objects: &[&str]) -> Vec<String> {
    let mut left = Vec::new();
    for object in objects.iter().copied().chain(["audit_event"]) {
        for row in rows_of(session, object).await {
            let text = serde_json::to_string(&row.to_json()).unwrap();
            if text.contains(MARK) {
                left.push(text);
            }
        }
    }
    left
}

/// Addresses in fields that the tenant added lead to the person like others.
#[tokio::test]
async fn addresses_in_fields_of_the_tenant_are_searched() {
    let (_crm, session, ada) = scene().await;
    let visitor = CustomObject::new(name("visitor"), "Visitor", "Visitors");
    let mut objects = session.records::<CustomObject>();
    objects.create(visitor).await.unwrap();
    field(&session, "visitor", "mail", CustomFieldType::Email).await;
    let text = CustomFieldType::Text(Default::default());
    field(&session, "visitor", "wish", text).await;
    field(&session, "contact", "private_mail", CustomFieldType::Email).await;
    field(&session, "account", "billing_mail", CustomFieldType::Email).await;
    let set = |contact: &mut Contact| {
        contact.custom_fields = json!({"private_mail": SECOND});
    };
    session.contacts().update(ada, set).await.unwrap();
    let visit = json!({"name": "zqada came", "custom_fields":
        {"mail": "ZQAda.First@reach.example", "wish": "tea for zqada"}});
    let visit = named(&session, "visitor", visit).await;
    let other = json!({"name": "Bob came", "custom_fields": {"mail": "bob@reach.example"}});
    let other = named(&session, "visitor", other).await;
    let globex = Account {
        custom_fields: json!({"billing_mail": SECOND}),
        description: Some("Makes engines".into()),
        ..Account::new("Globex")
    };
    let globex = session.accounts().create(globex).await.unwrap().id;
    // A guest by the second address, at a meeting of somebody else.
    let bob = Contact::named("Bob", "Builder");
    let bob = session.contacts().create(bob).await.unwrap().id;
    let user = session.actor().user().unwrap();
    let meeting = Activity {
        scheduled_at: Some("2100-01-01T10:00:00Z".parse().unwrap()),
        ..Activity::new(ActivityType::Meeting, "Plans of Bob", bob, user)
    };
    let meeting = session.activities().create(meeting).await.unwrap().id;
    let guest = Invitee::External {
        email: EmailAddress::parse(SECOND).unwrap(),
        name: "zqada herself".into(),
    };
    let mut activities = session.activities();
    activities.invite(meeting, guest, None).await.unwrap();

    let export = session.privacy().access_export(ada).await.unwrap();
    let export = export.to_json().to_string();
    for told in ["zqada came", "tea for zqada", SECOND, "zqada herself"] {
        assert!(export.contains(told), "{told}");
    }
    for kept in ["Makes engines", "Bob came", "Plans of Bob"] {
        assert!(!export.contains(kept), "{kept}");
    }
    let report = session.privacy().erase(ada, Erasure::default()).await;
    assert!(report.unwrap().is_complete);
    let objects = ["contact", "visitor", "account", "activity_participant"];
    let left = left(&session, &objects).await;
    assert!(left.is_empty(), "{left:#?}");
    let visitors = session.object("visitor").await.unwrap();
    let visit = visitors.get(visit).await.unwrap();
    assert_eq!(visit.get("name").as_text(), Some("[erased]"));
    let other = visitors.get(other).await.unwrap();
    assert_eq!(other.get("name").as_text(), Some("Bob came"));
    let globex = session.accounts().get(globex).await.unwrap();
    assert_eq!(globex.description.as_deref(), Some("Makes engines"));
    let placeholder = format!("erased-{}@erased.invalid", globex.id);
    assert_eq!(globex.custom_fields["billing_mail"], placeholder);
    let meeting = session.activities().get(meeting).await.unwrap();
    assert_eq!(meeting.subject, "Plans of Bob");
    let again = session.privacy().erase(ada, Erasure::default()).await;
    let again = again.unwrap();
    assert_eq!((again.values, again.events), (0, 0));
}

/// What a record told of the person before it was led to somebody else goes from its history, and what
/// it tells of the other stays.
#[tokio::test]
async fn former_links_are_forgotten() {
    let (_crm, session, ada) = scene().await;
    let bob = Contact {
        email: email("bob@reach.example"),
        ..Contact::named("Bob", "Builder")
    };
    let bob = session.contacts().create(bob).await.unwrap().id;
    let user = session.actor().user().unwrap();
    let call = Activity {
        description: Some("About the house".into()),
        ..Activity::new(ActivityType::Call, "Call zqada re divorce", ada, user)
    };
    let call = session.activities().create(call).await.unwrap().id;
    let renamed = |call: &mut Activity| call.subject = "Call zqada again".into();
    session.activities().update(call, renamed).await.unwrap();
    let led = |call: &mut Activity| {
        call.links.contact_id = Some(bob);
        call.subject = "Call Bob".into();
    };
    session.activities().update(call, led).await.unwrap();
    let later = |call: &mut Activity| call.subject = "Call Bob soon".into();
    session.activities().update(call, later).await.unwrap();
    // A guest whose address was wrong.
    let guest = Invitee::External {
        email: EmailAddress::parse(ADDRESS).unwrap(),
        name: "zqada?".into(),
    };
    let mut activities = session.activities();
    let guest = activities.invite(call, guest, None).await.unwrap().id;
    let right = |guest: &mut ActivityParticipant| {
        guest.email = email("carol@reach.example");
        guest.name = Some("Carol".into());
    };
    let mut guests = session.records::<ActivityParticipant>();
    guests.update(guest, right).await.unwrap();
    // Another person's record that had a former address by mistake.
    let moved = |ada: &mut Contact| ada.email = email(SECOND);
    session.contacts().update(ada, moved).await.unwrap();
    let mistaken = |bob: &mut Contact| bob.email = email(ADDRESS);
    session.contacts().update(bob, mistaken).await.unwrap();
    let right = |bob: &mut Contact| bob.email = email("bob@reach.example");
    session.contacts().update(bob, right).await.unwrap();

    let export = session.privacy().access_export(ada).await.unwrap();
    let export = export.to_json().to_string();
    for told in ["Call zqada re divorce", "Call zqada again", "zqada?"] {
        assert!(export.contains(told), "{told}");
    }
    for kept in ["Call Bob", "carol@", "Builder"] {
        assert!(!export.contains(kept), "{kept}");
    }
    let report = session.privacy().erase(ada, Erasure::default()).await;
    assert!(report.unwrap().is_complete);
    let objects = ["contact", "activity", "activity_participant"];
    let left = left(&session, &objects).await;
    assert!(left.is_empty(), "{left:#?}");
    let stored = session.activities().get(call).await.unwrap();
    assert_eq!(stored.subject, "Call Bob soon");
    assert_eq!(stored.description.as_deref(), Some("About the house"));
    let trail = session.audit().trail(call).await.unwrap();
    let texts: Vec<String> = trail
        .iter()
        .map(|event| event.changes.to_json().to_string())
        .collect();
    assert!(texts.iter().any(|text| text.contains("Call Bob\"")));
    assert!(texts[0].contains("About the house"), "{texts:?}");
    for object in ["activity", "activity_participant"] {
        for row in rows_of(&session, object).await {
            assert_trail_tells(&session, &row).await;
        }
    }
    let again = session.privacy().erase(ada, Erasure::default()).await;
    let again = again.unwrap();
    assert_eq!((again.values, again.events), (0, 0));
}

/// A customer who tried to sign in is told of it and forgotten; users of the tenant are not.
#[tokio::test]
async fn who_tried_to_sign_in_is_forgotten() {
    let (_crm, session, ada) = scene().await;
    let now = session.engine().clock().now();
    let tried = |login: &str| AuthEvent {
        login: Some(login.into()),
        ip: Some("203.0.113.7".into()),
        user_agent: Some(format!("loom of {login}")),
        ..AuthEvent::new(AuthKind::Login, AuthOutcome::Failure, now)
    };
    let of_user = AuthEvent {
        user_id: session.actor().user().map(Id::uuid),
        ..tried(ADDRESS)
    };
    let events = vec![
        tried("ZQAda.First@reach.example"),
        tried("bob@reach.example"),
    ];
    session.security().record_all(events).await.unwrap();
    session.security().record(of_user).await.unwrap();
    let export = session.privacy().access_export(ada).await.unwrap();
    let export = export.to_json();
    let groups = export["groups"].as_array().unwrap();
    let told = groups.iter().find(|group| group["object"] == "auth_event");
    let told = told.unwrap()["records"].as_array().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["why"]["field"], "login");
    let report = session.privacy().erase(ada, Erasure::default()).await;
    assert_eq!(report.unwrap().records.get("auth_event"), Some(&1));
    let mut logins = Vec::new();
    for row in rows_of(&session, "auth_event").await {
        let login = row.get("login").as_text().map(str::to_owned);
        assert_eq!(login.is_some(), !row.get("ip").is_null());
        assert_eq!(login.is_some(), !row.get("user_agent").is_null());
        assert_eq!(row.get("outcome").as_text(), Some("failure"));
        logins.push(login);
    }
    logins.sort();
    let kept = [None, Some("bob@reach.example".into()), Some(ADDRESS.into())];
    assert_eq!(logins, kept);
}

/// The person's own numbers are told to the person, by whatever name the tenant keeps them.
#[tokio::test]
async fn own_numbers_are_in_the_access_export() {
    let (_crm, session, ada) = scene().await;
    for key in ["ssn", "tax_id", "bank_account"] {
        let text = CustomFieldType::Text(Default::default());
        field(&session, "contact", key, text).await;
    }
    let own = json!({"ssn": "078-05-1120", "tax_id": "12/345", "bank_account": "GB29 NWBK"});
    let set = |contact: &mut Contact| contact.custom_fields = own.clone();
    session.contacts().update(ada, set).await.unwrap();
    let export = session.privacy().access_export(ada).await.unwrap();
    let (html, json) = (export.to_html(), export.to_json().to_string());
    for number in ["078-05-1120", "12/345", "GB29 NWBK"] {
        assert!(json.contains(number), "{number}");
        assert!(html.contains(number), "{number}");
    }
    // The trail has none of them, and the user's password is nobody's to read.
    let events = session.audit().trail(ada).await.unwrap();
    let texts = events
        .iter()
        .map(|event| event.changes.to_json().to_string());
    assert!(!texts.into_iter().any(|text| text.contains("078-05-1120")));
}
