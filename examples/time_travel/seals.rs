//! Seals: somebody who may write to the database changes an event behind the engine's back, and it
//! shows.

use std::sync::Arc;

use crm_engine::audit::seal::{Ed25519Signer, Ed25519Verifier, SealHead};
use crm_engine::audit::{Changes, FieldChange, SealReport, Sealing, Verification};
use crm_engine::prelude::*;
use crm_engine::storage::{Change, ChangeSet};

use crate::{BoxError, World};

/// The events are sealed, one is changed past the engine, and the seals tell which.
pub(crate) async fn tampered_with(world: &World) -> Result<(), BoxError> {
    // A host keeps its key, and the newest seal, where nobody who may write to the database can reach.
    let signer = Ed25519Signer::new("2026", &[7; 32]);
    let head = seal(world, &signer).await?;
    println!("Seal {} closes the log so far", head.number);
    let report = verify(world, &signer, &head).await?;
    println!("  {} events are as they were sealed", report.intact);
    assert!(report.is_intact());

    let trail = world.session.audit().trail(world.deal).await?;
    let event = trail.first().ok_or("the deal was created")?;
    let forged = Changes::from(
        event
            .changes
            .iter()
            .map(|change| match &*change.field {
                "amount" => FieldChange {
                    new: Some("21000".into()),
                    ..change.clone()
                },
                _ => change.clone(),
            })
            .collect::<Vec<_>>(),
    );
    write(world, event, forged).await?;
    let report = verify(world, &signer, &head).await?;
    println!("Somebody changed an event behind the engine's back:");
    for finding in &report.findings {
        println!("  seal {}: {}", finding.seal, finding.problem);
    }
    assert_eq!(report.found, 1);
    assert_eq!(
        report.findings.first().and_then(|finding| finding.event),
        Some(event.id.uuid())
    );
    Ok(())
}

/// Seals all that is settled: what other transactions of the server may still get in front of is left
/// to the next time.
async fn seal(world: &World, signer: &Ed25519Signer) -> Result<SealHead, BoxError> {
    let audit = world.session.audit();
    let head = audit.seal(Sealing::new().signed_by(signer)).await?;
    Ok(head.ok_or("another transaction is open on the server: try again")?)
}

async fn verify(
    world: &World,
    signer: &Ed25519Signer,
    head: &SealHead,
) -> Result<SealReport, BoxError> {
    let keys = Ed25519Verifier::new()
        .key("2026", signer.public_key())
        .ok_or("a public key")?;
    let verification = Verification::new().signed(&keys).head(Some(head.clone()));
    Ok(world.session.audit().verify(verification).await?)
}

/// Writes other changes into an event, past the engine and all its rules.
async fn write(
    world: &World,
    event: &Arc<Record<AuditEvent>>,
    changes: Changes,
) -> Result<(), BoxError> {
    let mut after = (**event).clone();
    after.version += 1;
    after.data.changes = changes;
    let change = Change::Update {
        before: event.clone(),
        after: Arc::new(after),
    };
    let commit = world.session.begin().commit_stamp();
    let changes = ChangeSet::new(commit.id, commit.at, vec![change], Vec::new());
    let storage = world.session.engine().storage();
    storage.commit(world.session.scope(), &changes).await?;
    Ok(())
}
