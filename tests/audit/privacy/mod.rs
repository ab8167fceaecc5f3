//! A person's rights: access to everything that is held, erasure of it, and consents that outlive it
//! (C-064, C-066, C-081, R-056, R-060).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "a test says what went wrong by stopping, and looks into every table by name"
)]

mod access;
mod erasure;
mod faults;
mod holds;
pub(crate) mod marker;
mod reach;

use crm_engine::prelude::*;
use crm_engine::privacy::{ConsentEvidence, Grant};
use serde_json::json;

/// The address of the person whom the tests are about.
const ADDRESS: &str = "ada.lovelace@analytical.example";

/// A contact with a consent, a comment, an activity, a participant by address and a deal.
#[derive(Debug)]
struct Ada {
    contact: Id<Contact>,
    deal: Id<Deal>,
    call: Id<Activity>,
    meeting: Id<Activity>,
}

async fn ada(session: &Session, pipeline: Id<Pipeline>) -> Ada {
    let mut contact = Contact::named("Ada", "Lovelace");
    contact.email = Some(EmailAddress::parse(ADDRESS).unwrap());
    contact.phone = Some(PhoneNumber::parse("+44 20 7946 0018").unwrap());
    contact.job_title = Some("Countess".into());
    contact.description = Some("Likes engines,\nand horses.".into());
    contact.tags = vec!["poet".into()];
    let contact = session.contacts().create(contact).await.unwrap().id;
    let evidence = ConsentEvidence {
        source: Some("told Charles".into()),
        details: json!({"said": "yes, Ada"}),
        ..ConsentEvidence::default()
    };
    let grant = Grant::new("marketing_email".parse().unwrap(), evidence);
    session.consents().grant(contact, grant).await.unwrap();
    session
        .comments()
        .write(contact, "Ada calls back")
        .await
        .unwrap();
    let user = session.actor().user().unwrap();
    let call = Activity::new(ActivityType::Call, "Call Ada", contact, user);
    let call = session.activities().create(call).await.unwrap().id;
    let deal = Deal {
        contact_id: Some(contact),
        amount: Some(100.into()),
        next_step: Some("write to Ada".into()),
        ..Deal::new("Engine for Ada", pipeline)
    };
    let deal = session.deals().create(deal).await.unwrap().id;
    let charles = Contact::named("Charles", "Babbage");
    let other = session.contacts().create(charles).await.unwrap().id;
    let meeting = Activity {
        scheduled_at: Some("2100-01-01T10:00:00Z".parse().unwrap()),
        ..Activity::new(ActivityType::Meeting, "Plans of Charles", other, user)
    };
    let meeting = session.activities().create(meeting).await.unwrap().id;
    let guests = [(ADDRESS, "Lady Ada"), ("mary@analytical.example", "Mary")];
    for (email, name) in guests {
        let guest = Invitee::External {
            email: EmailAddress::parse(email).unwrap(),
            name: name.to_owned(),
        };
        session
            .activities()
            .invite(meeting, guest, Some("guest"))
            .await
            .unwrap();
    }
    Ada {
        contact,
        deal,
        call,
        meeting,
    }
}
