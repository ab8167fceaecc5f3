//! Back again: one field, a version, a commit with all that it did.

use crm_engine::prelude::*;
use serde_json::json;

use crate::{BoxError, World};

/// One custom field goes back, and no other.
pub(crate) async fn one_field(world: &World) -> Result<(), BoxError> {
    world.days_pass(1);
    let audit = world.session.audit();
    audit
        .restore_field(world.account, "custom_fields.region", 1)
        .await?;
    let now = world.session.accounts().get(world.account).await?;
    println!("The region is back: {}", now.custom_fields);
    assert_eq!(
        now.custom_fields,
        json!({"region": "north", "segment": "b"})
    );
    Ok(())
}

/// What the wrong commit did is undone in one commit. The region is in the way of all of it, since
/// somebody set it since; the rest is not.
pub(crate) async fn a_commit(world: &World) -> Result<(), BoxError> {
    world.days_pass(1);
    let audit = world.session.audit();
    let report = audit.undo_commit(world.takeover).await?;
    println!("In the way of undoing the takeover, of which nothing was undone:");
    for obstacle in &report.obstacles {
        let field = obstacle.field.as_deref().unwrap_or("the record");
        println!(
            "  {field} of the {}: {:?}",
            obstacle.record.object, obstacle.why
        );
    }
    assert!(report.undone_by.is_none() && report.obstacles.len() == 1);
    let report = audit.undo_what_is_untouched(world.takeover).await?;
    let undone_by = report.undone_by.ok_or("the rest is undone")?;
    println!("Undone for {} records:", report.undone.len());
    tell(world).await?;
    // An undo is a commit like any other.
    let redone = audit.undo_commit(undone_by).await?;
    println!("Done again:");
    tell(world).await?;
    let redone = redone.undone_by.ok_or("nothing was in the way")?;
    let report = audit.undo_commit(redone).await?;
    assert!(report.is_complete());
    let now = world.session.accounts().get(world.account).await?;
    assert_eq!((now.name.as_str(), now.parent_account_id), ("Globex", None));
    Ok(())
}

async fn tell(world: &World) -> Result<(), BoxError> {
    let account = world.session.accounts().get(world.account).await?;
    let deal = world.session.deals().get(world.deal).await?;
    let amount = deal.amount.unwrap_or_default();
    println!("  {} with a deal of {amount}", account.name);
    Ok(())
}

/// A version comes back by an ordinary change, which the trail tells of.
pub(crate) async fn a_version(world: &World) -> Result<(), BoxError> {
    world.days_pass(1);
    let audit = world.session.audit();
    let restored = audit.restore_version(world.account, 1).await?;
    println!(
        "The first version is back, as version {}.",
        restored.version()
    );
    let page = audit.trail_page(world.account, 1, None).await?;
    let event = page.items.first().ok_or("the trail tells of it")?;
    assert_eq!(event.event, AuditKind::Restore);
    let now = world.session.accounts().get(world.account).await?;
    assert_eq!((now.annual_revenue, now.tags.len()), (None, 0));
    Ok(())
}
