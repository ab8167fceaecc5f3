//! What follows from the writes of a commit for deals, their people and their competitors.

use async_trait::async_trait;

use super::competitors::settle_outcomes;
use super::main_one::keep_in_step;
use super::{DealCompetitor, DealContact};
use crate::engine::{CommitHook, UnitOfWork};
use crate::error::Result;

/// Keeps the people and competitors of deals in step with the deals, in the same commit.
#[derive(Debug)]
pub(crate) struct DealStep;

#[async_trait]
impl CommitHook for DealStep {
    async fn before_commit(&self, work: &mut UnitOfWork) -> Result<()> {
        keep_in_step::<DealContact>(work).await?;
        keep_in_step::<DealCompetitor>(work).await?;
        settle_outcomes(work).await
    }
}
