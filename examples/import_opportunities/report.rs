//! What came of the deals, by who sold, what, where and to whom. Every figure is asked of the engine:
//! it groups, counts and adds, and this file only turns its answers into rates and names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::Datelike;
use crm_engine::prelude::*;
use crm_engine::query::{Group, Where};
use crm_engine::schema::{FieldOf, ValueRef};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use uuid::Uuid;

use super::analytics::Analytics;
use super::figures::{Closed, Figures, InStages, SECONDS_A_DAY, Tally, plain_number, ratio};
use super::import::{Imported, Log, Stages, all};
use super::read::Rejected;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How many deals are in each stage now.
    pub(crate) stages: InStages,
    /// How many deals ever entered each stage, by the stage history.
    pub(crate) entered: InStages,
    pub(crate) win_rate: Option<String>,
    #[serde(serialize_with = "plain_number")]
    pub(crate) won_value: Decimal,
    pub(crate) total: Figures,
    #[serde(flatten)]
    pub(crate) analytics: Analytics,
    /// What a won deal brought of its list price, on average.
    pub(crate) avg_won_value_over_list_price: Option<String>,
    pub(crate) by_close_quarter: BTreeMap<String, Closed>,
    pub(crate) by_close_month: BTreeMap<String, Closed>,
    pub(crate) engaged_by_quarter: BTreeMap<String, u64>,
    pub(crate) by_agent: BTreeMap<String, Figures>,
    /// The deals without an account stand under the empty name.
    pub(crate) by_account: BTreeMap<String, Figures>,
    /// The deals without an account, or with one without a sector, stand under the empty name.
    pub(crate) by_sector: BTreeMap<String, Figures>,
    /// By who leads the team.
    pub(crate) by_manager: BTreeMap<String, Figures>,
    /// By the team at the top, with all below it.
    pub(crate) by_region: BTreeMap<String, Figures>,
    /// By the name in the catalogue, however the source wrote it.
    pub(crate) by_product_fixed: BTreeMap<String, Figures>,
    pub(crate) by_series: BTreeMap<String, Figures>,
    /// How many records of each object this import created.
    pub(crate) created: BTreeMap<&'static str, u64>,
    /// How many it found, from an import before.
    pub(crate) already_there: BTreeMap<&'static str, u64>,
    pub(crate) rejected: Vec<Rejected>,
}

pub(crate) async fn report(imported: Imported) -> Result<Report> {
    let analytics = Analytics::of(&imported).await?;
    let Imported {
        session,
        stages,
        log,
        ..
    } = imported;
    let Log {
        created,
        already_there,
        rejected,
    } = log;
    let questions = Questions {
        session: &session,
        stages,
    };
    let total = Figures::from(questions.tally(None).await?);
    let agents = names(&session, |user: &User| user.display_name.clone()).await?;
    let accounts = names(&session, |account: &Account| Some(account.name.clone())).await?;
    let products = questions.products().await?;
    Ok(Report {
        stages: total.stages,
        entered: questions.entered().await?,
        win_rate: total.win_rate_won_over_closed.clone(),
        won_value: total.won_value_sum,
        analytics,
        avg_won_value_over_list_price: won_over_list_price(&products),
        by_close_quarter: questions.by_close(CalendarUnit::Quarter).await?,
        by_close_month: questions.by_close(CalendarUnit::Month).await?,
        engaged_by_quarter: questions.engaged_by_quarter().await?,
        by_agent: questions.by(Deal::OWNER_ID, &agents).await?,
        by_account: questions.by(Deal::ACCOUNT_ID, &accounts).await?,
        by_sector: questions.by_sector().await?,
        by_manager: questions.by_manager(&agents).await?,
        by_region: questions.by_region().await?,
        by_product_fixed: gather(&products, |product| product.name.clone()),
        by_series: gather(&products, |product| {
            product.category.clone().unwrap_or_default()
        }),
        total,
        created,
        already_there,
        rejected,
    })
}

/// What was sold of each product.
type Products = Vec<(Arc<Record<Product>>, Tally)>;

/// The figures of the products that have something in common.
fn gather(products: &Products, name: fn(&Product) -> String) -> BTreeMap<String, Figures> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for (product, tally) in products {
        *tallies.entry(name(product)).or_default() += *tally;
    }
    let figures = tallies.into_iter();
    figures.map(|(name, tally)| (name, tally.into())).collect()
}

/// The average over won deals of what they brought in parts of the list price.
fn won_over_list_price(products: &Products) -> Option<String> {
    let (mut parts, mut won) = (Decimal::ZERO, 0);
    for (product, tally) in products {
        parts += tally.won_value.checked_div(product.unit_price?)?;
        won += tally.stages.won;
    }
    ratio(parts, won, 6)
}

/// What each record is called.
async fn names<E: Entity>(
    session: &Session,
    name: fn(&E) -> Option<String>,
) -> Result<HashMap<Uuid, String>> {
    let records = all(session, Find::<E>::new()).await?;
    Ok(records
        .iter()
        .map(|record| (record.id.uuid(), name(&record.data).unwrap_or_default()))
        .collect())
}

/// Asks the engine.
struct Questions<'a> {
    session: &'a Session,
    stages: Stages,
}

impl Questions<'_> {
    /// Amounts only add up within one currency; all of these deals have the same.
    fn deals() -> Aggregate<Deal> {
        Aggregate::new().filter(Deal::CURRENCY.eq(Currency::USD))
    }

    /// The figures of some deals, or of all.
    async fn tally(&self, these: Option<Where<Deal>>) -> Result<Tally> {
        let mut query = Self::deals()
            .group_by(Deal::STAGE_ID)
            .count()
            .sum(Deal::AMOUNT);
        if let Some(these) = these.clone() {
            query = query.filter(these);
        }
        let mut tally = Tally::default();
        for group in self.session.deals().aggregate(query).await? {
            self.add_stage(&mut tally, &group, 0);
        }
        self.add_cycles(&mut tally, these).await?;
        Ok(tally)
    }

    /// The figures of each of these parts that has a deal.
    async fn by_parts(
        &self,
        parts: impl IntoIterator<Item = (String, Where<Deal>)> + Send,
    ) -> Result<BTreeMap<String, Figures>> {
        let mut figures = BTreeMap::new();
        for (name, these) in parts.into_iter().collect::<Vec<_>>() {
            let part = Figures::from(self.tally(Some(these)).await?);
            if part.deals > 0 {
                figures.insert(name, part);
            }
        }
        Ok(figures)
    }

    /// The teams at the top, with all below them.
    async fn by_region(&self) -> Result<BTreeMap<String, Figures>> {
        let top = Find::from(Team::PARENT_TEAM_ID.is_null());
        let regions = all(self.session, top).await?;
        let within = |team: &Arc<Record<Team>>| (team.name.clone(), Deal::TEAM_ID.within(team.id));
        self.by_parts(regions.iter().map(within).collect::<Vec<_>>())
            .await
    }

    /// The teams that somebody leads.
    async fn by_manager(&self, users: &HashMap<Uuid, String>) -> Result<BTreeMap<String, Figures>> {
        let teams = all(self.session, Find::<Team>::new()).await?;
        let leaders: BTreeSet<Id<User>> = teams.iter().filter_map(|team| team.manager_id).collect();
        let led_by = |leader: Id<User>| {
            let name = users.get(&leader.uuid()).cloned().unwrap_or_default();
            (name, Deal::TEAM_ID.has(Team::MANAGER_ID.eq(leader)))
        };
        self.by_parts(leaders.into_iter().map(led_by).collect::<Vec<_>>())
            .await
    }

    async fn by_sector(&self) -> Result<BTreeMap<String, Figures>> {
        let query = Aggregate::new().group_by(Account::INDUSTRY).count();
        let groups = self.session.accounts().aggregate(query).await?;
        let sectors = groups.iter().filter_map(|group| group.key(0).as_text());
        let mut parts: Vec<(String, Where<Deal>)> = sectors
            .map(|sector| {
                let here = Account::INDUSTRY.eq(sector);
                (sector.to_owned(), Deal::ACCOUNT_ID.has(here))
            })
            .collect();
        let nowhere = Deal::ACCOUNT_ID.has(Account::INDUSTRY.is_null());
        parts.push((String::new(), Deal::ACCOUNT_ID.is_null().or(nowhere)));
        self.by_parts(parts).await
    }

    /// What was sold of each product, by the lines of the deals.
    async fn products(&self) -> Result<Products> {
        let Stages {
            prospecting,
            engaging,
            won,
            lost,
            ..
        } = self.stages;
        let mut tallies: HashMap<Uuid, Tally> = HashMap::new();
        for stage in [prospecting, engaging, won, lost] {
            let query = Aggregate::new()
                .filter(DealLine::CURRENCY.eq(Currency::USD))
                .filter(DealLine::DEAL_ID.has(Deal::STAGE_ID.eq(stage)))
                .group_by(DealLine::PRODUCT_ID)
                .count()
                .sum(DealLine::LINE_TOTAL);
            let lines = self.session.records::<DealLine>();
            for group in lines.aggregate(query).await? {
                let tally = tallies.entry(group.key(0).as_uuid().unwrap_or_default());
                let tally = tally.or_default();
                tally
                    .stages
                    .add(&self.stages, Some(stage.uuid()), group.count(0));
                if stage == won {
                    tally.won_value = group.number(1).unwrap_or_default();
                }
            }
        }
        let mut products = Products::new();
        for product in all(self.session, Find::<Product>::new()).await? {
            if let Some(mut tally) = tallies.remove(&product.id.uuid()) {
                // A step of the history knows its deal, whose tag is the product.
                let these = Deal::TAGS.any_of([product.name.as_str()]);
                self.add_cycles(&mut tally, Some(these)).await?;
                products.push((product, tally));
            }
        }
        Ok(products)
    }

    /// The figures for each value of a reference.
    async fn by<T: Entity>(
        &self,
        field: FieldOf<Deal, Id<T>>,
        names: &HashMap<Uuid, String>,
    ) -> Result<BTreeMap<String, Figures>> {
        let query = Self::deals()
            .group_by(field)
            .group_by(Deal::STAGE_ID)
            .count()
            .sum(Deal::AMOUNT);
        let mut tallies: BTreeMap<Option<Uuid>, Tally> = BTreeMap::new();
        for group in self.session.deals().aggregate(query).await? {
            let tally = tallies.entry(group.key(0).as_uuid()).or_default();
            self.add_stage(tally, &group, 1);
        }
        let mut figures = BTreeMap::new();
        for (id, mut tally) in tallies {
            let these = id.map_or_else(|| field.is_null(), |id| field.eq(Id::new(id)));
            self.add_cycles(&mut tally, Some(these)).await?;
            let name = id
                .and_then(|id| names.get(&id).cloned())
                .unwrap_or_default();
            figures.insert(name, tally.into());
        }
        Ok(figures)
    }

    /// Takes in a group of deals in one stage, the stage being the group's key at `key`.
    fn add_stage(&self, tally: &mut Tally, group: &Group, key: usize) {
        let stage = group.key(key).as_uuid();
        tally.stages.add(&self.stages, stage, group.count(0));
        if stage.map(Id::new) == Some(self.stages.won) {
            tally.won_value += group.number(1).unwrap_or_default();
        }
    }

    /// How long deals took from Engaging to the decision is what the history says of the last step.
    async fn add_cycles(&self, tally: &mut Tally, these: Option<Where<Deal>>) -> Result<()> {
        let Stages { won, lost, .. } = self.stages;
        let mut query = Aggregate::<DealStageChange>::new()
            .filter(DealStageChange::TO_STAGE_ID.one_of([won, lost]))
            .group_by(DealStageChange::TO_STAGE_ID)
            .sum(DealStageChange::SECONDS_IN_STAGE);
        if let Some(these) = these {
            query = query.filter(DealStageChange::DEAL_ID.has(these));
        }
        for group in self
            .session
            .records::<DealStageChange>()
            .aggregate(query)
            .await?
        {
            let days = group.number(0).unwrap_or_default() / Decimal::from(SECONDS_A_DAY);
            let days = days.to_u64().unwrap_or_default();
            match group.key(0).as_uuid().map(Id::new) == Some(won) {
                true => tally.cycle_days_won = days,
                false => tally.cycle_days_lost = days,
            }
        }
        Ok(())
    }

    async fn entered(&self) -> Result<InStages> {
        let query = Aggregate::new()
            .group_by(DealStageChange::TO_STAGE_ID)
            .count();
        let mut entered = InStages::default();
        for group in self
            .session
            .records::<DealStageChange>()
            .aggregate(query)
            .await?
        {
            entered.add(&self.stages, group.key(0).as_uuid(), group.count(0));
        }
        Ok(entered)
    }

    /// What was decided in each quarter or month.
    async fn by_close(&self, unit: CalendarUnit) -> Result<BTreeMap<String, Closed>> {
        let query = Self::deals()
            .filter(Deal::STATUS.one_of([DealStatus::Won, DealStatus::Lost]))
            .group_by_calendar(Deal::ACTUAL_CLOSE_DATE, unit, TimeZone::UTC)
            .group_by(Deal::STAGE_ID)
            .count()
            .sum(Deal::AMOUNT);
        let mut periods: BTreeMap<String, Closed> = BTreeMap::new();
        for group in self.session.deals().aggregate(query).await? {
            let period = periods.entry(period_name(group.key(0), unit)).or_default();
            if group.key(1).as_uuid().map(Id::new) == Some(self.stages.won) {
                period.won = group.count(0);
                period.won_value = group.number(1).unwrap_or_default();
            } else {
                period.lost = group.count(0);
            }
        }
        Ok(periods)
    }

    /// How many deals entered Engaging in each quarter, which only the history knows.
    async fn engaged_by_quarter(&self) -> Result<BTreeMap<String, u64>> {
        let query = Aggregate::new()
            .filter(DealStageChange::TO_STAGE_ID.eq(self.stages.engaging))
            .group_by_calendar(
                DealStageChange::CREATED_AT,
                CalendarUnit::Quarter,
                TimeZone::UTC,
            )
            .count();
        let groups = self
            .session
            .records::<DealStageChange>()
            .aggregate(query)
            .await?;
        Ok(groups
            .iter()
            .map(|group| {
                let quarter = period_name(group.key(0), CalendarUnit::Quarter);
                (quarter, group.count(0))
            })
            .collect())
    }
}

/// `2017-Q1` or `2017-03`, from the first day.
fn period_name(key: ValueRef<'_>, unit: CalendarUnit) -> String {
    match (key, unit) {
        (ValueRef::Date(first), CalendarUnit::Quarter) => {
            format!("{}-Q{}", first.year(), first.month0() / 3 + 1)
        }
        (ValueRef::Date(first), _) => first.format("%Y-%m").to_string(),
        _ => String::new(),
    }
}
