//! The rights of a person: a consent with its proof, access to everything that is held, erasure, and
//! what is left.
//!
//! `cargo run --example erase_person` keeps everything in memory, `-- --postgres URL` in a database;
//! `--page FILE` writes the page that the person gets.

use std::path::PathBuf;

use crm_engine::audit::{Erasure, is_erased};
use crm_engine::postgres::Migrations;
use crm_engine::prelude::*;
use crm_engine::privacy::{ConsentEvidence, DeletionLog, DeletionReason, Grant};
use serde_json::json;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the command line says.
#[derive(Default)]
struct Arguments {
    postgres: Option<String>,
    page: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, BoxError> {
    let mut read = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(option) = given.next() {
        match (option.as_str(), given.next()) {
            ("--postgres", Some(url)) => read.postgres = Some(url),
            ("--page", Some(path)) => read.page = Some(path.into()),
            _ => return Err("usage: erase_person [--postgres URL] [--page FILE]".into()),
        }
    }
    Ok(read)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let arguments = arguments()?;
    let crm = match &arguments.postgres {
        None => Crm::in_memory(),
        Some(url) => {
            let pool = sqlx::PgPool::connect(url).await?;
            Migrations::new().run(&pool).await?;
            Crm::postgres(pool)
        }
    };
    let unused = crm.ids().next(crm.clock().now()).simple().to_string();
    let acme = crm
        .onboard(Onboarding::new(
            "Acme",
            format!("acme-{unused}"),
            "ada@acme.example",
        ))
        .await?;
    let session = crm.session(acme.tenant, Actor::User(acme.admin));

    let (lead, contact) = become_known(&session, acme.admin).await?;
    let newsletter = "marketing_email".parse()?;
    let allowed = session.consents().has_consent(contact, &newsletter).await?;
    println!("Consent, given as a lead and carried to the contact: {allowed}");

    // Article 15: what is held, as JSON and as a page.
    let export = session.privacy().access_export(contact).await?;
    println!("\nHeld about {}:", export.persons.len());
    for group in &export.groups {
        for record in &group.records {
            println!(
                "  {:<22} {:>2} fields  {}",
                group.label,
                record.fields.len(),
                record.why.text
            );
        }
    }
    if let Some(path) = &arguments.page {
        std::fs::write(path, export.to_html())?;
        println!("  written to {}", path.display());
    }

    // Article 17: by whichever of the person's records.
    let erasure = Erasure::new(DeletionReason::ErasureRequest).by("request 2026-17");
    let report = session.privacy().erase(lead, erasure).await?;
    println!(
        "\nErased: {} values in {} records, and values in {} events; complete: {}",
        report.values,
        report.record_count(),
        report.events,
        report.is_complete
    );

    println!("\nLeft:");
    let left = session.contacts().get(contact).await?;
    let name = left.name.full_name().unwrap_or_default();
    let email = left.email.as_ref().map(ToString::to_string);
    println!("  contact   {name}, {}", email.unwrap_or_default());
    for activity in session.activities().find(Find::new()).await?.items {
        println!(
            "  activity  {}: {}",
            activity.activity_type, activity.subject
        );
    }
    for consent in session
        .records::<crm_engine::privacy::Consent>()
        .find(Find::new())
        .await?
        .items
    {
        println!(
            "  consent   {} by {}, given {}; evidence: {}",
            consent.consent_type,
            consent.lawful_basis,
            consent.granted_at.date_naive(),
            consent.evidence.source.as_deref().unwrap_or("gone")
        );
    }
    for event in session.audit().trail(contact).await? {
        let erased =
            |value: &Option<crm_engine::schema::Value>| value.as_ref().is_some_and(is_erased);
        let changes = event.changes.iter();
        let gone = changes
            .filter(|change| erased(&change.old) || erased(&change.new))
            .count();
        println!(
            "  event     {} of {} fields, values gone: {gone}",
            event.event,
            event.changes.len()
        );
    }
    for entry in session
        .records::<DeletionLog>()
        .find(Find::new())
        .await?
        .items
    {
        println!(
            "  log       {} of a {}: {}, {} values, {}",
            entry.method,
            entry.object,
            entry.reason,
            entry.value_count,
            entry.legal_reference.as_deref().unwrap_or_default()
        );
    }

    let again = session.privacy().erase(contact, Erasure::default()).await?;
    println!(
        "\nOnce more: {} values, {} events",
        again.values, again.events
    );
    Ok(())
}

/// A visitor leaves an address and a consent, is called, and becomes a contact.
async fn become_known(
    session: &Session,
    user: Id<User>,
) -> Result<(Id<Lead>, Id<Contact>), BoxError> {
    let lead = Lead {
        name: Some(PersonName::new("Hank", "Scorpio")),
        email: Some(EmailAddress::parse("hank@globex.example")?),
        company: Some("Globex".into()),
        ..Lead::default()
    };
    let lead = session.leads().create(lead).await?.id;
    let evidence = ConsentEvidence {
        source: Some("web_form".into()),
        text_version: Some("2026-01".into()),
        ip_address: Some("203.0.113.7".into()),
        details: json!({"form": "newsletter"}),
        ..ConsentEvidence::default()
    };
    let grant = Grant::new("marketing_email".parse()?, evidence);
    session.consents().grant(lead, grant).await?;
    let call = Activity::new(
        ActivityType::Call,
        "Call Hank about the hammocks",
        lead,
        user,
    );
    session.activities().create(call).await?;
    session
        .comments()
        .write(lead, "Hank likes hammocks")
        .await?;
    let converted = session.leads().convert(lead, ConversionPlan::new()).await?;
    let set = |contact: &mut Contact| contact.job_title = Some("President".into());
    session.contacts().update(converted.contact, set).await?;
    Ok((lead, converted.contact))
}
