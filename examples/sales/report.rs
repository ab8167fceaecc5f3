//! What is told of the quarter: stages, rotting deals, the forecast and how it came.

use chrono::{DateTime, Utc};
use crm_engine::forecasts::Period;
use crm_engine::pipelines::analytics::PipelineView;
use crm_engine::prelude::*;
use crm_engine::value::Totals;
use rust_decimal::Decimal;

use crate::{BoxError, World};

pub(crate) async fn print(world: &World, before: DateTime<Utc>) -> Result<(), BoxError> {
    let forecasts = world.session.forecasts();
    let quarter = forecasts.current_period(PeriodKind::Quarter).await?;
    pipeline(world, quarter, before).await?;
    forecast(world, quarter, before).await?;

    let named = Campaign::NAME.eq("Winter fair");
    let fair = world.session.campaigns().find_one(named).await?;
    let fair = fair.ok_or("no campaign")?.id;
    let brought = world.session.campaigns().attribution(fair).await?;
    let won: Vec<String> = brought.won().map(|money| money.to_string()).collect();
    println!(
        "\nTHE FAIR brought {} leads and {}",
        brought.leads,
        won.join(", ")
    );
    Ok(())
}

/// The pipeline now and then, what passed through it, and what nobody works on.
async fn pipeline(world: &World, quarter: Period, before: DateTime<Utc>) -> Result<(), BoxError> {
    let session = &world.session;
    let now = PipelineView::of(world.acme.pipeline);
    let then = PipelineView {
        as_of: Some(before),
        ..now.clone()
    };
    let stages = session.pipelines().stages(world.acme.pipeline).await?;
    for (view, day) in [(&then, before.date_naive()), (&now, world.day(0))] {
        println!("\nPIPELINE on {day}");
        for part in session.pipelines().stage_summary(view).await? {
            let stage = stages.iter().find(|stage| stage.id == part.stage);
            let name = stage.map_or("?", |stage| &stage.name);
            let (deals, owner) = (part.deals, world.name_of(part.owner));
            let (amount, weighted) = (Money::new(part.amount, part.currency), part.weighted);
            let (amount, weighted) = (amount.to_string(), weighted.normalize());
            println!("  {name:<14} {deals}  {owner:<5} {amount:>14}, weighted {weighted}");
        }
    }

    let (from, until) = (quarter.start(), world.day(1));
    let report = session.pipelines().report(&now, from, until).await?;
    println!("\nFUNNEL from {from}");
    for stage in &report.stages {
        let (name, figures) = (stage.name.as_deref().unwrap_or("?"), &stage.figures);
        print!("  {name:<14} {} entered", figures.entered.deals);
        match figures.conversion() {
            Some(share) if stage.stage_type == Some(StageType::Open) => {
                println!(", {share} went on");
            }
            _ => println!(),
        }
    }
    let (rate, cycle) = (report.win_rate(), report.won_cycle.average_days());
    if let (Some(rate), Some(days)) = (rate, cycle) {
        println!("  {rate} won, in {} days", days.normalize());
    }

    for deal in session.deals().rotting(Find::new()).await?.items {
        let owner = world.name_of(deal.owner_id);
        println!("  {} rots: {owner} should call", deal.name);
    }
    Ok(())
}

/// The forecast by owner beside the quotas, and what became of that of the past.
async fn forecast(world: &World, quarter: Period, before: DateTime<Utc>) -> Result<(), BoxError> {
    let forecasts = || world.session.forecasts();
    let query = ForecastQuery::of(quarter);
    println!("\nFORECAST for {quarter}");
    for slice in forecasts().by_owner(&query).await? {
        let (owner, forecast) = (world.name_of(slice.of), slice.forecast.computed);
        let (won, open) = (forecast.closed(), forecast.open()?.amount);
        println!("  {owner:<5} won {}, open {}", shown(&won), shown(&open));
    }
    for rep in &world.reps {
        let (rep, amount) = (ForecastSubject::user(rep.id), "20000 USD".parse()?);
        let quota = Quota::of(rep, &quarter, amount);
        forecasts().set_quota(quota).await?;
    }
    let rates = world.session.exchange_rates().on(world.day(0)).await?;
    for one in forecasts().attainments(&quarter, Some(&rates)).await? {
        let done = (one.attained * Decimal::ONE_HUNDRED).normalize();
        let owner = world.name_of(one.subject.user_id);
        println!("  {owner:<5} {} of {}: {done} %", one.closed, one.quota);
    }

    let came = forecasts().compare(&query, before, 0, &()).await?;
    println!("\nWHAT CAME of the forecast of {}", before.date_naive());
    for (category, result) in &came.categories {
        let (category, then, won) = (category.as_str(), shown(&result.then), shown(&result.won));
        println!("  {category:<9} {then}, of which {won} came");
    }
    for (outcome, totals) in &came.outcomes {
        let (outcome, now) = (outcome.as_str(), shown(&totals.now));
        println!("  {outcome:<9} {} worth {now}", totals.deals);
    }
    Ok(())
}

fn shown(totals: &Totals) -> String {
    if totals.is_empty() {
        "nothing".into()
    } else {
        totals.to_string()
    }
}
