//! Which links brought leads, by the campaign parameters of web addresses.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Lead, LeadSource, LeadStatus, Utm};
use crate::engine::Records;
use crate::error::Result;
use crate::query::{Aggregate, Filter};
use crate::schema::{FieldValue, Value};

/// What came by one combination of `utm_source`, `utm_medium` and `utm_campaign`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UtmAttribution {
    /// Who sent the visitors.
    pub source: Option<String>,
    /// By what means.
    pub medium: Option<String>,
    /// In which campaign, as the link names it.
    pub campaign: Option<String>,
    /// How many leads came.
    pub leads: u64,
    /// How many of them are, or were before they were closed, qualified: those with a time of
    /// qualification.
    pub qualified: u64,
    /// How many of them were converted.
    pub converted: u64,
}

impl UtmAttribution {
    /// The part of the leads that was converted, from 0 to 1; nothing where there are none.
    #[must_use]
    pub fn conversion_rate(&self) -> Option<Decimal> {
        Decimal::from(self.converted).checked_div(Decimal::from(self.leads))
    }
}

type Key = [Option<String>; 3];

impl Records<'_, Lead> {
    /// How many leads came by each combination of `utm_source`, `utm_medium` and `utm_campaign`, and
    /// what became of them; those that came most often first, leads without any of the three left
    /// out. `filter` narrows the leads, by their own and by custom fields; archived leads count.
    ///
    /// The storage counts: no lead is read. The answer is as long as there are combinations.
    ///
    /// ```
    /// # use crm_core::{Session, error::Result};
    /// use crm_core::query::Filter;
    /// # async fn example(session: &Session) -> Result<()> {
    /// for link in session.leads().attribution_by_utm(Filter::all()).await? {
    ///     println!("{:?}: {} leads, {} converted", link.source, link.leads, link.converted);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Query`](crate::Error::Query) if the filter does not fit leads.
    pub async fn attribution_by_utm(
        &self,
        filter: impl Into<Filter>,
    ) -> Result<Vec<UtmAttribution>> {
        let named = [
            LeadSource::UTM.at(Utm::SOURCE).name(),
            LeadSource::UTM.at(Utm::MEDIUM).name(),
            LeadSource::UTM.at(Utm::CAMPAIGN).name(),
        ];
        let has_one = named.iter().map(|name| Filter::Null {
            field: name.clone(),
            is_null: false,
        });
        let grouped = Aggregate::<Lead>::new()
            .filter_by_name(filter.into())
            .filter_by_name(Filter::Or(has_one.collect()))
            .with_archived();
        let grouped = named
            .iter()
            .cloned()
            .fold(grouped, Aggregate::group_by_name);
        let by_status = grouped.clone().group_by(Lead::STATUS).count();
        let qualified = grouped.filter(Lead::QUALIFIED_AT.is_not_null()).count();
        let mut found: BTreeMap<Key, UtmAttribution> = BTreeMap::new();
        for group in self.aggregate(by_status).await? {
            let one = entry(&mut found, &group.keys);
            let count = group.count(0);
            one.leads += count;
            if group.key(named.len()) == LeadStatus::Converted.value() {
                one.converted += count;
            }
        }
        for group in self.aggregate(qualified).await? {
            entry(&mut found, &group.keys).qualified += group.count(0);
        }
        let mut all: Vec<UtmAttribution> = found.into_values().collect();
        // Equal counts stay in the order of their names.
        all.sort_by_key(|one| std::cmp::Reverse(one.leads));
        Ok(all)
    }
}

fn entry<'a>(
    found: &'a mut BTreeMap<Key, UtmAttribution>,
    keys: &[Value],
) -> &'a mut UtmAttribution {
    let text = |place: usize| {
        let value = keys.get(place).map(Value::as_ref);
        value.and_then(|value| value.as_text().map(str::to_owned))
    };
    let key = [text(0), text(1), text(2)];
    let [source, medium, campaign] = key.clone();
    found.entry(key).or_insert(UtmAttribution {
        source,
        medium,
        campaign,
        ..UtmAttribution::default()
    })
}
