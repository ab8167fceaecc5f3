//! A tenant becomes a file, the file is verified, and another CRM takes it in as a tenant of its own.
//!
//! `cargo run --example export_tenant` needs nothing else: everything is kept in memory, and the
//! file is a temporary one.

use std::io::{BufReader, BufWriter};

use crm_engine::exchange::export::Export;
use crm_engine::exchange::tenant::{TenantExport, TenantImport, verify};
use crm_engine::prelude::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let here = Crm::in_memory();
    let acme = here
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await?;
    let session = here.session(acme.tenant, Actor::User(acme.admin));
    let globex = session.accounts().create(Account::new("Globex")).await?;
    let contact = Contact {
        account_id: Some(globex.id),
        ..Contact::named("Hank", "Scorpio")
    };
    session.contacts().create(contact).await?;

    // A list for a spreadsheet: columns also through references.
    let mut list = Vec::new();
    Export::of::<Contact>(Find::new())
        .columns(["last_name", "first_name", "account_id.name"])
        .run(&session, &mut list, &())
        .await?;
    print!("{}", String::from_utf8(list)?);

    // Everything that the tenant has.
    let file = tempfile::NamedTempFile::new()?;
    let manifest = TenantExport::new()
        .run(&session, BufWriter::new(file.reopen()?), &())
        .await?;
    verify(&mut BufReader::new(file.reopen()?))?;
    for object in manifest.objects.iter().filter(|object| object.count > 0) {
        println!("{:>5} {}", object.count, object.object);
    }

    let there = Crm::in_memory();
    let report = TenantImport::new("Acme Europe", "acme-eu")
        .run(&there, file.reopen()?, &())
        .await?;
    let moved = there.session(report.tenant, Actor::System);
    let contacts = moved.contacts().find(Find::new()).await?;
    for contact in contacts.items {
        let name = contact.name.full_name().unwrap_or_default();
        println!("{name} moved along");
    }
    Ok(())
}
