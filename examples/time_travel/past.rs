//! What was: the trail, a state as of a time, differences, and who did how much.

use crm_engine::prelude::*;

use crate::{BoxError, World};

/// Who changed what, when and from where.
pub(crate) async fn trail(world: &World) -> Result<(), BoxError> {
    println!("The trail of the account, the newest first:");
    let audit = world.session.audit();
    let page = audit.trail_page(world.account, 10, None).await?;
    for event in &page.items {
        let from = event.ip.as_deref().unwrap_or("nowhere");
        println!("  {} {} from {from}", event.created.at, event.event);
    }
    let first = page.items.last().ok_or("every record was created")?;
    assert_eq!(first.event, AuditKind::Create);
    println!("Its versions, and what each of them changed:");
    for version in audit.versions(world.account, 10, None).await? {
        println!(
            "  version {} of {}",
            version.version,
            version.at.date_naive()
        );
        for change in version.changes.iter().filter(|_| version.version > 1) {
            println!("    {change}");
        }
    }
    println!("What the deal was worth:");
    let amounts = audit.field_history(world.deal, "amount", 10, None).await?;
    for entry in &amounts.items {
        println!(
            "  {} by {}: {}",
            entry.at.date_naive(),
            entry.by,
            entry.change
        );
    }
    assert_eq!(amounts.items.len(), 2);
    Ok(())
}

/// What the account was before.
pub(crate) async fn as_of(world: &World) -> Result<(), BoxError> {
    let audit = world.session.audit();
    let then = audit.as_of(world.account, world.before).await?;
    let then = then.ok_or("the account was there")?.record;
    let now = world.session.accounts().get(world.account).await?;
    println!(
        "On {} it was {}, today it is {}.",
        world.before.date_naive(),
        then.name,
        now.name
    );
    assert_eq!(
        (then.name.as_str(), now.name.as_str()),
        ("Globex", "Initech")
    );
    Ok(())
}

/// What differs between the first version and the last one.
pub(crate) async fn differences(world: &World) -> Result<(), BoxError> {
    let now = world.session.accounts().get(world.account).await?;
    let audit = world.session.audit();
    println!("All that is different since it was created:");
    for change in audit.diff(world.account, 1, now.version).await? {
        println!("  {change}");
    }
    Ok(())
}

/// What the user did until now, by object and kind.
pub(crate) async fn summary(world: &World) -> Result<(), BoxError> {
    let now = world.session.engine().clock().now();
    let window = now - chrono::TimeDelta::days(30)..now + chrono::TimeDelta::seconds(1);
    let actor = world.session.actor();
    println!("What the user did in 30 days:");
    for entry in world
        .session
        .audit()
        .activity_summary(actor, window)
        .await?
    {
        println!("  {:>3} × {} {}", entry.count, entry.kind, entry.object);
    }
    Ok(())
}
