//! A tenant, an account, a contact and a deal; a mistake; and who did what.
//!
//! `cargo run --example quickstart` needs nothing else: everything is kept in memory.
//! `cargo run --example quickstart -- --postgres URL` keeps it in a database.

use crm_engine::postgres::Migrations;
use crm_engine::prelude::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The CRM, and a subdomain that is free there.
async fn open() -> Result<(Crm, String), BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let url = match arguments.as_slice() {
        [] => return Ok((Crm::in_memory(), "acme".to_owned())),
        [option, url] if option == "--postgres" => url,
        _ => return Err("usage: quickstart [--postgres URL]".into()),
    };
    let pool = sqlx::PgPool::connect(url).await?;
    Migrations::new().run(&pool).await?;
    let crm = Crm::postgres(pool);
    let unused = crm.ids().next(crm.clock().now()).simple().to_string();
    Ok((crm, format!("acme-{unused}")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (crm, subdomain) = open().await?;

    // A new tenant comes with a first user, a default pipeline and settings.
    let acme = crm
        .onboard(Onboarding::new("Acme", &subdomain, "ada@acme.example"))
        .await?;
    let session = crm.session(acme.tenant, Actor::User(acme.admin));

    // Two records in one commit: both, or none.
    let mut work = session.begin();
    let globex = work.accounts().create(Account::new("Globex")).await?;
    let hank = work
        .contacts()
        .create(Contact {
            email: Some(EmailAddress::parse("hank@globex.example")?),
            account_id: Some(globex.id),
            ..Contact::named("Hank", "Scorpio")
        })
        .await?;
    work.commit().await?;

    // A deal begins in the first stage of its pipeline and moves on from there.
    let deal = session
        .deals()
        .create(Deal {
            amount: Some(12_000.into()),
            account_id: Some(globex.id),
            contact_id: Some(hank.id),
            owner_id: Some(acme.admin),
            ..Deal::new("Globex rollout", acme.pipeline)
        })
        .await?;
    for stage in acme.stages.iter().skip(1).take(3) {
        let moved = session.deals().move_to(deal.id, *stage).await?;
        println!("moved on, {} likely", moved.win_probability);
    }
    let won = session.deals().win(deal.id).await?;
    println!(
        "{} is {}, {} {}",
        won.name,
        won.status,
        won.amount.unwrap_or_default(),
        won.currency
    );

    // Every mistake is told at once, and nothing is written.
    let body = r#"{"first_name": " ", "email": "hank@", "lead_score": 99}"#;
    let body = serde_json::from_str(body)?;
    if let Err(error) = session.contacts().create_json(&body).await {
        println!("\n{error}");
    }

    // Found by a filter that the compiler checks.
    let at_globex = Contact::ACCOUNT_ID.eq(globex.id);
    let found = session.contacts().find(at_globex).await?;
    println!("\n{} contact at Globex", found.items.len());

    println!("\nWhat happened to the deal:");
    for event in session.audit().trail(deal.id).await? {
        let fields = event.changes.fields().join(", ");
        println!("  {} {fields}", event.event);
    }
    Ok(())
}
