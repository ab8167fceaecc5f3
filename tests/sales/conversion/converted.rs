//! Leads that are converted: they are read only.

use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::imports::ImportMode;
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use serde_json::json;

use super::{bill, email, faults, lead, merge, scene};

/// nobody changes a converted lead, whichever way; the engine does what it must.
#[tokio::test]
async fn a_converted_lead_is_read_only() {
    let (acme, session) = scene().await;
    let grace = User::new(EmailAddress::parse("grace@acme.example").unwrap());
    let grace = session.users().create(grace).await.unwrap().id;
    let id = lead(
        &session,
        Lead {
            owner_id: Some(grace),
            ..bill()
        },
    )
    .await;
    let done = session
        .leads()
        .convert(id, ConversionPlan::with_deal("Rollout"))
        .await
        .unwrap();
    let version = done.lead.version;
    let refused = |error: Error| {
        let told = faults(&error);
        assert!(told.contains(&("grade", "read_only")), "{error}");
    };
    let change = |lead: &mut Lead| lead.grade = Some("A".into());
    refused(session.leads().update(id, change).await.unwrap_err());
    let patch = json!({"grade": "A", "rating": "hot"});
    let patch = patch.as_object().unwrap();
    let error = session.leads().merge(id, version, patch).await.unwrap_err();
    assert_eq!(faults(&error).len(), 2, "every fault: {error}");
    refused(error);
    let mut by_name = session.object("lead").await.unwrap();
    refused(by_name.merge(id.uuid(), version, patch).await.unwrap_err());
    let mut work = session.begin();
    refused(work.leads().update(id, change).await.unwrap_err());
    drop(work);
    for status in [LeadStatus::New, LeadStatus::Lost] {
        let reopen = |lead: &mut Lead| lead.status = status;
        assert!(session.leads().update(id, reopen).await.is_err());
    }
    let forged = json!({"converted_contact_id": null});
    let forged = session
        .leads()
        .merge(id, version, forged.as_object().unwrap())
        .await;
    assert_eq!(
        faults(&forged.unwrap_err()),
        [("converted_contact_id", "read_only")]
    );

    // What the engine keeps follows.
    let call = Activity::new(ActivityType::Call, "Call", id, acme.admin);
    let call = session.activities().create(call).await.unwrap();
    session.activities().complete(call.id, None).await.unwrap();
    assert!(
        session
            .leads()
            .get(id)
            .await
            .unwrap()
            .last_activity_at
            .is_some()
    );
    // deleting a target clears the link, the lead stays; so does deleting its owner.
    session.users().delete(grace).await.unwrap();
    session.deals().delete(done.deal.unwrap()).await.unwrap();
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.owner_id, None);
    let conversion = stored.conversion.as_ref().unwrap();
    assert_eq!(
        (conversion.deal_id, conversion.contact_id),
        (None, Some(done.contact))
    );
    assert_eq!(stored.status, LeadStatus::Converted);
    // It is put away, deleted and restored as ever.
    session.leads().archive(id).await.unwrap();
    session.leads().unarchive(id).await.unwrap();
    session.leads().delete(id).await.unwrap();
    session.leads().restore(id).await.unwrap();
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(stored.status, LeadStatus::Converted);
    // It is not merged into another lead: what it became would be forgotten.
    let other = Lead {
        company: Some("Initech".into()),
        ..Lead::default()
    };
    let other = lead(&session, other).await;
    let choices = Choices::new();
    let merged = session
        .leads()
        .merge_into(other, &[id], &choices, None)
        .await;
    assert_eq!(merged.unwrap_err().code(), "converted");
    // Whom it became is merged with another person: it leads there.
    let twin = session
        .contacts()
        .create(Contact::named("William", "Lumbergh"))
        .await
        .unwrap();
    merge(&session, twin.id, done.contact).await;
    let stored = session.leads().get(id).await.unwrap();
    assert_eq!(
        stored.conversion.as_ref().unwrap().contact_id,
        Some(twin.id)
    );
}

/// an import does not change a converted lead either.
#[tokio::test]
async fn an_import_leaves_converted_leads_alone() {
    let (_, session) = scene().await;
    let converted = lead(&session, bill()).await;
    let plan = ConversionPlan::new();
    session.leads().convert(converted, plan).await.unwrap();
    let other = Lead {
        email: email("peter@initech.example"),
        ..bill()
    };
    let other = lead(&session, other).await;
    let text = "Mail,Grade\nbill@initech.example,A\npeter@initech.example,A\n";
    let source = Source::bytes("leads.csv", text.as_bytes().to_vec());
    let mapping = Mapping::new("lead")
        .column("Mail", "email")
        .column("Grade", "grade");
    let import = Import {
        mode: ImportMode::Upsert,
        keys: vec!["email".into()],
        ..Import::new(mapping)
    };
    let job = session.import().start(&source, &import).await.unwrap();
    let done = session.import().run(job.id, &source, &()).await.unwrap();
    let counts = (done.counts.updated_rows, done.counts.failed_rows);
    assert_eq!(counts, (1, 1));
    let grade = async |id| session.leads().get(id).await.unwrap().grade.clone();
    assert_eq!(grade(converted).await, None);
    assert_eq!(grade(other).await.as_deref(), Some("A"));
}
