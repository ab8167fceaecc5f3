//! [`ForecastCategory`]: how sure a sale is in the eyes of who forecasts it.

use crate::deals::DealStatus;
use crate::pipelines::StageType;
use crate::schema::Picklist;

/// How sure a sale is in the eyes of who forecasts it, from the least sure to the surest (R-109);
/// [`Omitted`](Self::Omitted) stands apart, since such deals count nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Picklist)]
pub enum ForecastCategory {
    /// It may come.
    #[default]
    Pipeline,
    /// It comes if all goes well.
    BestCase,
    /// Its owner stands for it.
    Commit,
    /// It comes even if things go badly.
    WorstCase,
    /// It is won.
    Closed,
    /// It is left out of forecasts.
    Omitted,
}

impl ForecastCategory {
    /// The categories of open deals that count, from the least sure to the surest.
    pub const OPEN: [Self; 4] = [
        Self::Pipeline,
        Self::BestCase,
        Self::Commit,
        Self::WorstCase,
    ];

    /// Whether open deals that count are in it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        !matches!(self, Self::Closed | Self::Omitted)
    }

    /// What a stage gives its deals: what it says itself, or what goes with its type.
    ///
    /// ```
    /// use crm_core::forecasts::ForecastCategory;
    /// use crm_core::pipelines::StageType;
    ///
    /// let of = ForecastCategory::of_stage;
    /// assert_eq!(of(StageType::Open, None), ForecastCategory::Pipeline);
    /// assert_eq!(of(StageType::Open, Some(ForecastCategory::Commit)), ForecastCategory::Commit);
    /// assert_eq!(of(StageType::ClosedWon, None), ForecastCategory::Closed);
    /// assert_eq!(of(StageType::ClosedLost, None), ForecastCategory::Omitted);
    /// ```
    #[must_use]
    pub const fn of_stage(stage_type: StageType, own: Option<Self>) -> Self {
        match (stage_type, own) {
            (StageType::Open, Some(own)) => own,
            (StageType::Open, None) => Self::Pipeline,
            (StageType::ClosedWon, _) => Self::Closed,
            (StageType::ClosedLost, _) => Self::Omitted,
        }
    }

    /// Whether a stage of this type may say that its deals are in this category: only won deals are
    /// closed, and lost ones never count.
    #[must_use]
    pub const fn fits(self, stage_type: StageType) -> bool {
        matches!(
            (stage_type, self),
            (StageType::ClosedWon, Self::Closed) | (StageType::ClosedLost, Self::Omitted)
        ) || (matches!(stage_type, StageType::Open) && !matches!(self, Self::Closed))
    }

    /// The category that counts for a deal: won deals are closed and lost ones omitted, whatever
    /// anybody says; an open deal is in its own category, or in the one of its stage.
    ///
    /// ```
    /// use crm_core::deals::DealStatus;
    /// use crm_core::forecasts::ForecastCategory::{self, BestCase, Closed, Commit, Omitted};
    ///
    /// let counting = ForecastCategory::counting;
    /// assert_eq!(counting(DealStatus::Open, None, BestCase), BestCase);
    /// assert_eq!(counting(DealStatus::Open, Some(Commit), BestCase), Commit);
    /// assert_eq!(counting(DealStatus::Won, Some(Commit), Closed), Closed);
    /// assert_eq!(counting(DealStatus::Lost, Some(Commit), Omitted), Omitted);
    /// ```
    #[must_use]
    pub const fn counting(status: DealStatus, own: Option<Self>, stage: Self) -> Self {
        match (status, own) {
            (DealStatus::Won, _) => Self::Closed,
            (DealStatus::Lost, _) => Self::Omitted,
            (DealStatus::Open, Some(own)) => own,
            (DealStatus::Open, None) => stage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a deal and its stage may say, the deal is in exactly one category, that of an open
    /// deal is never `closed`, and a lost deal never counts.
    #[test]
    fn every_deal_is_in_one_category_that_fits_its_status() {
        let own = || {
            ForecastCategory::ALL
                .iter()
                .copied()
                .map(Some)
                .chain([None])
        };
        for stage_type in StageType::ALL.iter().copied() {
            let status = match stage_type {
                StageType::Open => DealStatus::Open,
                StageType::ClosedWon => DealStatus::Won,
                StageType::ClosedLost => DealStatus::Lost,
            };
            for of_stage in own().filter(|own| own.is_none_or(|own| own.fits(stage_type))) {
                let stage = ForecastCategory::of_stage(stage_type, of_stage);
                for own in own().filter(|own| *own != Some(ForecastCategory::Closed)) {
                    let counts = ForecastCategory::counting(status, own, stage);
                    assert_eq!(
                        counts == ForecastCategory::Closed,
                        status == DealStatus::Won
                    );
                    if status == DealStatus::Lost {
                        assert_eq!(counts, ForecastCategory::Omitted);
                    }
                    if status == DealStatus::Open {
                        assert_eq!(counts, own.unwrap_or(stage));
                    }
                }
            }
        }
    }

    #[test]
    fn a_stage_says_what_fits_its_type() {
        let fitting = |stage_type| -> Vec<&str> {
            let all = ForecastCategory::ALL.iter();
            all.filter(|one| one.fits(stage_type))
                .map(|one| one.as_str())
                .collect()
        };
        assert_eq!(
            fitting(StageType::Open),
            ["pipeline", "best_case", "commit", "worst_case", "omitted"]
        );
        assert_eq!(fitting(StageType::ClosedWon), ["closed"]);
        assert_eq!(fitting(StageType::ClosedLost), ["omitted"]);
    }
}
