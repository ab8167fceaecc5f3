//! R-045: how probable it is that a deal will be won. Everything here is computed from values alone.

use std::collections::{BTreeSet, HashMap};

use rust_decimal::Decimal;

use crate::Id;
use crate::pipelines::{PipelineStage, ProbabilityCalculation, StageType};
use crate::value::Percent;

/// So many decided deals must have entered a stage before their share of won ones counts for it
/// (R-045); below that the stage's `default_probability` counts.
pub const MINIMUM_SAMPLE: u64 = 10;

/// The probability that counts for a deal with the probability `own`, in a stage, where the pipeline
/// reckons in this way (R-045):
///
/// | mode | open stage | closed stage |
/// |---|---|---|
/// | `manual` | the deal's own, or the stage's default | the same; closing gives the deal 100 or 0 |
/// | `stage_based` | the stage's default | 100 or 0 |
/// | `automatic` | the stage's share of won deals, or its default | 100 or 0 |
///
/// What a deal says itself is kept in every mode and counts again once the pipeline is `manual`.
///
/// ```
/// use crm_core::deals::win_probability;
/// use crm_core::pipelines::{PipelineStage, ProbabilityCalculation};
/// use crm_core::{Id, value::Percent};
///
/// let pipeline = Id::new(uuid::Uuid::from_u128(1));
/// let stage = PipelineStage {
///     default_probability: Percent::from_whole(50)?,
///     ..PipelineStage::new(pipeline, "Proposal", 3_u32)
/// };
/// let own = Some(Percent::from_whole(80)?);
/// let counts = |mode| win_probability(mode, &stage, own).to_string();
/// assert_eq!(counts(ProbabilityCalculation::Manual), "80%");
/// assert_eq!(counts(ProbabilityCalculation::StageBased), "50%");
/// // Without a figure of the past.
/// assert_eq!(counts(ProbabilityCalculation::Automatic), "50%");
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[must_use]
pub fn win_probability(
    mode: ProbabilityCalculation,
    stage: &PipelineStage,
    own: Option<Percent>,
) -> Percent {
    let decided = match stage.stage_type {
        StageType::Open => None,
        StageType::ClosedWon => Some(Percent::HUNDRED),
        StageType::ClosedLost => Some(Percent::ZERO),
    };
    let counts = match mode {
        ProbabilityCalculation::Manual => own,
        ProbabilityCalculation::StageBased => decided,
        ProbabilityCalculation::Automatic => decided.or(stage.historic_probability),
    };
    counts.unwrap_or(stage.default_probability)
}

/// Counts decided deals by the stages that they ever entered.
///
/// ```
/// use crm_core::{Id, deals::{MINIMUM_SAMPLE, WinTally}, pipelines::PipelineStage};
///
/// let proposal: Id<PipelineStage> = Id::new(uuid::Uuid::from_u128(1));
/// let mut tally = WinTally::default();
/// for number in 0..MINIMUM_SAMPLE {
///     // Entered twice is entered; every second deal was won.
///     tally.add(number % 2 == 0, [proposal, proposal]);
/// }
/// assert_eq!(tally.share(proposal).unwrap().to_string(), "50%");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WinTally {
    deals: u64,
    stages: HashMap<Id<PipelineStage>, Count>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    won: u64,
    decided: u64,
}

impl WinTally {
    /// Adds a decided deal that entered these stages, some of them perhaps several times.
    pub fn add(&mut self, is_won: bool, entered: impl IntoIterator<Item = Id<PipelineStage>>) {
        self.deals += 1;
        let entered: BTreeSet<_> = entered.into_iter().collect();
        for stage in entered {
            let count = self.stages.entry(stage).or_default();
            count.decided += 1;
            count.won += u64::from(is_won);
        }
    }

    /// How many deals were added.
    #[must_use]
    pub const fn deals(&self) -> u64 {
        self.deals
    }

    /// How many deals that entered the stage are decided.
    #[must_use]
    pub fn decided(&self, stage: Id<PipelineStage>) -> u64 {
        self.stages.get(&stage).map_or(0, |count| count.decided)
    }

    /// The share of won deals among the decided ones that ever entered the stage, to two decimals;
    /// `None` if they are fewer than [`MINIMUM_SAMPLE`].
    #[must_use]
    pub fn share(&self, stage: Id<PipelineStage>) -> Option<Percent> {
        let count = self.stages.get(&stage)?;
        if count.decided < MINIMUM_SAMPLE {
            return None;
        }
        let won = Decimal::from(count.won).checked_mul(Decimal::ONE_HUNDRED)?;
        let share = won.checked_div(Decimal::from(count.decided))?;
        Percent::new(share.round_dp(2)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn stage(number: u128) -> Id<PipelineStage> {
        Id::new(Uuid::from_u128(number))
    }

    #[test]
    fn too_few_deals_say_nothing() {
        let mut tally = WinTally::default();
        for _ in 1..MINIMUM_SAMPLE {
            tally.add(true, [stage(1)]);
        }
        assert_eq!(tally.share(stage(1)), None);
        tally.add(false, [stage(1), stage(2)]);
        assert_eq!(tally.share(stage(1)).unwrap().to_string(), "90%");
        assert_eq!((tally.share(stage(2)), tally.decided(stage(2))), (None, 1));
        assert_eq!(tally.share(stage(3)), None);
    }

    #[test]
    fn closed_stages_are_certain_unless_the_deal_decides() {
        let of = |stage_type| PipelineStage {
            stage_type,
            default_probability: Percent::from_whole(40).unwrap(),
            historic_probability: Some(Percent::from_whole(30).unwrap()),
            ..PipelineStage::new(Id::new(Uuid::nil()), "Stage", 1_u32)
        };
        let own = Some(Percent::from_whole(20).unwrap());
        let counts = |mode, stage_type, own| {
            let counts = win_probability(mode, &of(stage_type), own);
            counts.to_string()
        };
        use ProbabilityCalculation::{Automatic, Manual, StageBased};
        use StageType::{ClosedLost, ClosedWon, Open};
        let cases = [
            (Manual, Open, own, "20%"),
            (Manual, Open, None, "40%"),
            (Manual, ClosedWon, Some(Percent::HUNDRED), "100%"),
            (StageBased, Open, own, "40%"),
            (StageBased, ClosedWon, own, "100%"),
            (StageBased, ClosedLost, None, "0%"),
            (Automatic, Open, own, "30%"),
            (Automatic, ClosedWon, None, "100%"),
            (Automatic, ClosedLost, own, "0%"),
        ];
        for (mode, stage_type, own, expected) in cases {
            assert_eq!(
                counts(mode, stage_type, own),
                expected,
                "{mode} {stage_type}"
            );
        }
    }

    proptest! {
        /// The share is that of a count by hand, in whatever order the deals come.
        #[test]
        fn the_share_is_won_over_decided(
            deals in prop::collection::vec((any::<bool>(), prop::collection::vec(0..4_u128, 0..6)), 0..80),
        ) {
            let mut tally = WinTally::default();
            for (is_won, entered) in deals.iter().rev() {
                tally.add(*is_won, entered.iter().map(|number| stage(*number)));
            }
            for number in 0..4 {
                let entered = deals.iter().filter(|(_, entered)| entered.contains(&number));
                let (won, lost): (Vec<_>, Vec<_>) = entered.partition(|(is_won, _)| *is_won);
                let decided = won.len() + lost.len();
                prop_assert_eq!(tally.decided(stage(number)), decided as u64);
                let share = tally.share(stage(number));
                prop_assert_eq!(share.is_some(), decided as u64 >= MINIMUM_SAMPLE);
                if let Some(share) = share {
                    let exact = won.len() as f64 * 100.0 / decided as f64;
                    let share: f64 = share.value().to_string().parse().unwrap();
                    prop_assert!((share - exact).abs() <= 0.005 + 1e-9);
                }
            }
        }
    }
}
