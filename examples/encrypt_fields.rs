//! Personal values that the database never sees: what stands in the storage, how a person is found all
//! the same, and a key that is exchanged.
//!
//! `cargo run --example encrypt_fields` keeps everything in memory, `-- --postgres URL` in a database.

use std::sync::Arc;

use crm_engine::MemoryStorage;
use crm_engine::audit::encryption::{EncryptedStorage, Key, MasterKeys};
use crm_engine::postgres::Migrations;
use crm_engine::prelude::*;
use crm_engine::schema::Row;
use crm_engine::storage::Storage;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The storage that is encrypted: an ordinary one.
async fn storage() -> Result<Arc<dyn Storage>, BoxError> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(Arc::new(MemoryStorage::new())),
        ["--postgres", url] => {
            let pool = sqlx::PgPool::connect(url).await?;
            Migrations::new().run(&pool).await?;
            Ok(Arc::new(crm_engine::PostgresStorage::new(pool)))
        }
        _ => Err("usage: encrypt_fields [--postgres URL]".into()),
    }
}

/// The contact as the storage has it.
async fn stored(
    storage: &Arc<dyn Storage>,
    session: &Session,
    contact: Id<Contact>,
) -> Result<Row, BoxError> {
    let ids = [contact.uuid()];
    let rows = storage
        .get(session.scope(), Contact::schema(), &ids)
        .await?;
    rows.into_iter()
        .next()
        .ok_or_else(|| "the contact is gone".into())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let inner = storage().await?;
    // A host has it from its vault; a key management service implements `KeyProvider` instead.
    let masters = MasterKeys::new("vault-2026", Key::random());
    let encrypted = Arc::new(EncryptedStorage::new(inner.clone(), masters));
    let crm = Crm::builder(encrypted.clone()).build();

    let unused = crm.ids().next(crm.clock().now()).simple().to_string();
    let acme = format!("acme-{unused}");
    let acme = crm
        .onboard(Onboarding::new("Acme", acme, "boss@acme.example"))
        .await?;
    let session = crm.session(acme.tenant, Actor::User(acme.admin));
    let ada = Contact {
        email: Some(EmailAddress::parse("Ada.Lovelace@analytical.example")?),
        phone: Some(PhoneNumber::parse("+44 20 7946 0018")?),
        company: Some("Analytical Engines".into()),
        ..Contact::named("Ada", "Lovelace")
    };
    let ada = session.contacts().create(ada).await?;

    println!("In the storage:");
    let row = stored(&inner, &session, ada.id).await?;
    for field in [
        "first_name",
        "last_name",
        "email",
        "phone",
        "phone_e164",
        "company",
    ] {
        println!("  {field:<11} {}", row.get(field).as_text().unwrap_or("-"));
    }
    println!("  and {} sealed bytes", row.sealed().map_or(0, <[u8]>::len));

    let email = EmailAddress::parse("ada.lovelace@ANALYTICAL.example")?;
    let found = session
        .contacts()
        .find(Find::from(Contact::EMAIL.eq(email.clone())))
        .await?;
    for contact in &found.items {
        println!("\nFound by e-mail: {:?}", contact.name.last_name);
    }
    let double = Contact {
        email: Some(email),
        ..Contact::named("Augusta", "King")
    };
    if let Err(error) = session.contacts().create(double).await {
        println!("A second contact with the address: {error}");
    }

    // From now on another key seals; the pass seals what was there before, and the old key can go.
    let key = encrypted.keys().rotate(acme.tenant).await?;
    let report = encrypted.encrypt_tenant(&session, &()).await?;
    let rows: u64 = report.rows.values().sum();
    println!(
        "\nKey {} seals now; {rows} rows were sealed anew.",
        key.number
    );
    let after = stored(&inner, &session, ada.id).await?;
    println!(
        "The token of the address is the same: {}",
        row.get("email") == after.get("email")
    );
    println!("What is sealed is not: {}", row.sealed() != after.sealed());
    let ada = session.contacts().get(ada.id).await?;
    println!("And Ada is still {:?}.", ada.name.last_name);
    Ok(())
}
