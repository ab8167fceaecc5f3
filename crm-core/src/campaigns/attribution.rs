//! What campaigns brought, counted by the storage.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Campaign, CampaignMember};
use crate::Id;
use crate::deals::{Deal, DealStatus};
use crate::engine::Records;
use crate::error::{Error, Result};
use crate::leads::{Lead, LeadSource, LeadStatus};
use crate::query::{Aggregate, Group};
use crate::schema::{Entity, FieldValue};
use crate::value::{Currency, Money};

/// What one campaign brought. Archived records count, deleted ones do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CampaignAttribution {
    /// How many leads and contacts are its members.
    pub members: u64,
    /// How many of them responded.
    pub responses: u64,
    /// How many leads it brought: those whose first touch it was.
    pub leads: u64,
    /// How many of them were converted.
    pub converted_leads: u64,
    /// How many deals are put down to it.
    pub deals: u64,
    /// How many of them were won.
    pub won_deals: u64,
    /// What those are worth, by currency: amounts of two currencies are never added (R-085).
    pub won_amounts: BTreeMap<Currency, Decimal>,
}

impl CampaignAttribution {
    /// What was won, one amount a currency.
    pub fn won(&self) -> impl Iterator<Item = Money> {
        let amounts = self.won_amounts.iter();
        amounts.map(|(currency, amount)| Money::new(*amount, *currency))
    }

    /// The part of the members that responded, from 0 to 1; nothing where there are none.
    #[must_use]
    pub fn response_rate(&self) -> Option<Decimal> {
        Decimal::from(self.responses).checked_div(Decimal::from(self.members))
    }
}

impl Records<'_, Campaign> {
    /// What a campaign brought: members, responses, leads, deals, and what was won per currency.
    ///
    /// ```
    /// # use crm_core::{Session, Id, error::Result, campaigns::Campaign};
    /// # async fn example(session: &Session, fair: Id<Campaign>) -> Result<()> {
    /// let brought = session.campaigns().attribution(fair).await?;
    /// println!("{} of {} leads were converted", brought.converted_leads, brought.leads);
    /// for amount in brought.won() {
    ///     println!("won {amount}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn attribution(&self, campaign: Id<Campaign>) -> Result<CampaignAttribution> {
        let mut found = self.attributions(&[campaign]).await?;
        found.remove(&campaign).ok_or_else(|| Error::NotFound {
            object: Campaign::schema().name().to_owned(),
            id: campaign.uuid(),
        })
    }

    /// What each of several campaigns brought, such as those of a page of a list: as many questions to
    /// the storage as for one. Campaigns that are not there are left out.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn attributions(
        &self,
        campaigns: &[Id<Campaign>],
    ) -> Result<BTreeMap<Id<Campaign>, CampaignAttribution>> {
        let there = self.get_all(campaigns).await?;
        let mut found: BTreeMap<Id<Campaign>, CampaignAttribution> = there
            .iter()
            .map(|campaign| (campaign.id, CampaignAttribution::default()))
            .collect();
        if found.is_empty() {
            return Ok(found);
        }
        let ids: Vec<Id<Campaign>> = found.keys().copied().collect();
        let of = |group: &Group| group.key(0).as_uuid().map(Id::<Campaign>::new);

        let members = Aggregate::<CampaignMember>::new()
            .with_archived()
            .filter(CampaignMember::CAMPAIGN_ID.one_of(ids.iter().copied()))
            .group_by(CampaignMember::CAMPAIGN_ID)
            .count();
        let responses = members
            .clone()
            .filter(CampaignMember::RESPONDED_AT.is_not_null());
        for group in self.groups(members).await? {
            if let Some(one) = of(&group).and_then(|id| found.get_mut(&id)) {
                one.members = group.count(0);
            }
        }
        for group in self.groups(responses).await? {
            if let Some(one) = of(&group).and_then(|id| found.get_mut(&id)) {
                one.responses = group.count(0);
            }
        }

        let campaign = Lead::SOURCE.at(LeadSource::CAMPAIGN_ID);
        let leads = Aggregate::<Lead>::new()
            .with_archived()
            .filter(campaign.one_of(ids.iter().copied()))
            .group_by(campaign)
            .group_by(Lead::STATUS)
            .count();
        for group in self.groups(leads).await? {
            if let Some(one) = of(&group).and_then(|id| found.get_mut(&id)) {
                one.leads += group.count(0);
                if group.key(1) == LeadStatus::Converted.value() {
                    one.converted_leads += group.count(0);
                }
            }
        }

        let deals = Aggregate::<Deal>::new()
            .with_archived()
            .filter(Deal::CAMPAIGN_ID.one_of(ids))
            .group_by(Deal::CAMPAIGN_ID)
            .group_by(Deal::STATUS)
            .group_by(Deal::CURRENCY)
            .count()
            .sum(Deal::AMOUNT);
        for group in self.groups(deals).await? {
            let Some(one) = of(&group).and_then(|id| found.get_mut(&id)) else {
                continue;
            };
            one.deals += group.count(0);
            if group.key(1) == DealStatus::Won.value() {
                one.won_deals += group.count(0);
                let currency = Currency::from_value(group.key(2).into_owned());
                if let (Ok(currency), Some(amount)) = (currency, group.number(1)) {
                    one.won_amounts.insert(currency, amount);
                }
            }
        }
        Ok(found)
    }

    async fn groups<E: Entity>(&self, aggregate: Aggregate<E>) -> Result<Vec<Group>> {
        let registry = &*self.workspace.registry().await?;
        let query = aggregate.bind(E::schema(), registry)?;
        self.workspace.aggregate(&query).await
    }
}
