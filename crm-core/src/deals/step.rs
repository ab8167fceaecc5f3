//! What follows from the writes of a commit for deals, their people and their competitors.

use async_trait::async_trait;

use super::competitors::settle_outcomes;
use super::main_one::keep_in_step;
use super::{Deal, DealCompetitor, DealContact};
use crate::engine::{CommitHook, UnitOfWork};
use crate::error::Result;
use crate::schema::Entity;

/// Keeps the people and competitors of deals in step with the deals, in the same commit.
///
/// It runs before automation, whose rules see who takes part, and after it, for what rules changed.
/// The second time it looks at what changed since the first: a rule that gives a deal the contact back
/// that it had before the commit decides, as the last who said so.
#[derive(Debug)]
pub(crate) struct DealStep;

#[async_trait]
impl CommitHook for DealStep {
    fn follows_erasure(&self) -> bool {
        false
    }

    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        keep_in_step::<DealContact>(work).await?;
        keep_in_step::<DealCompetitor>(work).await?;
        settle_outcomes(work).await?;
        work.mark_in_step(&[
            Deal::schema(),
            DealContact::schema(),
            DealCompetitor::schema(),
        ]);
        Ok(())
    }
}
