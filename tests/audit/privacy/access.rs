//! What a person gets to read.

use crm_engine::audit::AuditKind;
use crm_engine::prelude::*;
use serde_json::{Value as Json, json};

use super::{ADDRESS, ada};
use crate::common::{crm, tenant};

/// Article 15 of the GDPR: everything, with labels and why it is held; the reading itself is told.
#[tokio::test]
async fn a_person_gets_everything_that_is_held() {
    let crm = crm();
    let (acme, session) = tenant(&crm, "acme").await;
    let ada = ada(&session, acme.pipeline).await;
    let export = session.privacy().access_export(ada.contact).await.unwrap();
    assert!(!format!("{export:?}").contains("Lovelace"));
    let json = export.to_json();
    assert_eq!(
        (&json["format"], &json["version"]),
        (&json!("crm.access_export"), &json!(1))
    );
    assert_eq!(
        json["subject"],
        json!({"object": "contact", "id": ada.contact})
    );
    let groups = json["groups"].as_array().unwrap();
    let group = |object: &str| -> &Json {
        let found = groups.iter().find(|group| group["object"] == object);
        found.unwrap_or_else(|| panic!("there is nothing of {object}"))
    };
    assert_eq!(groups[0]["object"], "contact");
    let contact = &group("contact")["records"][0];
    assert_eq!(contact["why"]["code"], "person");
    let field = |record: &Json, name: &str| -> Json {
        let fields = record["fields"].as_array().unwrap();
        fields
            .iter()
            .find(|field| field["name"] == name)
            .unwrap()
            .clone()
    };
    let email = field(contact, "email");
    assert_eq!(
        (&email["label"], &email["value"]),
        (&json!("Email"), &json!(ADDRESS))
    );
    assert_eq!(email["personal"], true);
    for (object, code) in [
        ("consent", "part"),
        ("comment", "part"),
        ("activity", "about"),
        ("deal", "about"),
        ("activity_participant", "part"),
    ] {
        assert_eq!(group(object)["records"][0]["why"]["code"], code, "{object}");
    }
    let guests = group("activity_participant")["records"].as_array().unwrap();
    assert_eq!(guests.len(), 1);
    let at = field(&group("consent")["records"][0], "granted_at");
    let at = at["value"].as_str().unwrap().to_owned();
    assert!(
        at.ends_with('Z') && at.parse::<chrono::DateTime<chrono::Utc>>().is_ok(),
        "{at}"
    );
    let history = contact["history"].as_array().unwrap();
    assert_eq!(history[0]["event"], "create");
    // What is another's is not in it.
    let text = json.to_string();
    assert!(!text.contains("Mary") && !text.contains("Plans of Charles"));

    let trail = session.audit().trail(ada.contact).await.unwrap();
    let read = trail.last().unwrap();
    assert_eq!((read.event, read.changes.len()), (AuditKind::Read, 0));
    assert_eq!(read.created.by, session.actor());
    // Versions are as they were.
    let version = session
        .audit()
        .version(ada.contact, 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(version.record.last_name(), "Lovelace");
}

trait LastName {
    fn last_name(&self) -> &str;
}

impl LastName for Record<Contact> {
    fn last_name(&self) -> &str {
        self.name.last_name.as_deref().unwrap_or_default()
    }
}

/// The page is text, whatever people wrote.
#[tokio::test]
async fn hostile_values_stay_texts_on_the_page() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let hostile = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>";
    let contact = Contact {
        description: Some(hostile.into()),
        job_title: Some("</td></tr></table><h1>Boss</h1>".into()),
        tags: vec!["<b>bold</b>".into()],
        social_profiles: serde_json::from_value(json!({})).unwrap(),
        ..Contact::named("<i>Bobby</i>", "& Sons")
    };
    let contact = session.contacts().create(contact).await.unwrap();
    session.comments().write(contact.id, hostile).await.unwrap();
    let page = session
        .privacy()
        .access_export(contact.id)
        .await
        .unwrap()
        .to_html();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for tag in ["<script", "<img", "<b>", "<i>", "<h1>Boss"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert!(page.contains("&lt;i&gt;Bobby&lt;/i&gt;") && page.contains("&amp; Sons"));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
    // Nothing is loaded from elsewhere.
    for outside in ["src=\"", "href=\"http", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}
