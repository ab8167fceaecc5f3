//! Deals: what is sold, which gates stand in the way, and how they end.

use crm_engine::automation::{Action, Actions, NewActivity, RuleType, TriggerEvent};
use crm_engine::contacts::BuyingRole;
use crm_engine::deals::{CloseOutcome, CloseReasonPolicy};
use crm_engine::prelude::*;
use serde_json::json;

use crate::{BoxError, World};

/// What is sold, to whom, and against whom.
pub(crate) async fn fill(world: &World, deal: Id<Deal>) -> Result<(), BoxError> {
    let session = &world.session;
    println!("\nDEAL");
    let licence = Product {
        unit_price: Some(1_200.into()),
        currency: Currency::EUR,
        ..Product::new("Licence")
    };
    let licence = session.products().create(licence).await?;
    let licences = DealLine {
        quantity: 10.into(),
        discount_kind: DiscountKind::Percent,
        discount_percent: Some(Percent::from_whole(5)?),
        ..DealLine::of_product(deal, licence.id)
    };
    session.deals().add_line(licences).await?;
    let training = DealLine {
        product_name: Some("Training".into()),
        unit_price: Some(900.into()),
        ..DealLine::new(deal)
    };
    session.deals().add_line(training).await?;
    let champion = session
        .contacts()
        .create(Contact::named("Frank", "Grimes"))
        .await?
        .id;
    session
        .deals()
        .add_contact(deal, champion, Some(BuyingRole::Champion))
        .await?;
    let rival = DealCompetitor {
        is_main: true,
        ..DealCompetitor::new(deal, "Initrode")
    };
    session.deals().add_competitor(rival).await?;

    for line in session.deals().lines(deal).await? {
        let name = line.product_name.as_deref().unwrap_or("?");
        let total = Money::new(line.line_total, line.currency).to_string();
        println!("  {:>3} x {name:<10} {total:>13}", line.quantity);
    }
    let people = session.deals().contacts_of(deal).await?.len();
    let deal = session.deals().get(deal).await?;
    if let (Some(worth), Some(rival)) = (deal.money(), &deal.competitor) {
        println!("  {worth} in all, {people} contacts, against {rival}");
    }
    Ok(())
}

/// Stages ask something of the deals that enter them; a rule acts when one does.
pub(crate) async fn pass_gates(world: &World, deal: Id<Deal>) -> Result<(), BoxError> {
    let session = &world.session;
    println!("\nGATES");
    let (first, proposal) = (world.stage(0)?, world.stage(2)?);
    let stages = || session.records::<PipelineStage>();
    let stay = |stage: &mut PipelineStage| {
        stage.minimum_hours = Some(24);
        stage.rotting_after_days = Some(21);
    };
    stages().update(first, stay).await?;
    let ask = |stage: &mut PipelineStage| {
        stage.required_fields = vec!["next_step".into(), "custom_fields.budget".into()];
        stage.entry_criteria = Some(Deal::EXPECTED_CLOSE_DATE.is_not_null().into());
        stage.forecast_category = Some(ForecastCategory::Commit);
    };
    stages().update(proposal, ask).await?;
    let call = NewActivity {
        due_in_days: Some(2),
        ..NewActivity::new(ActivityType::Call, "Talk about the proposal")
    };
    let rule = AutomationRule {
        stage_id: Some(proposal),
        ..AutomationRule::new(
            "Follow up proposals",
            RuleType::StageEntry,
            TriggerEvent::StageChanged,
            Filter::all(),
            Actions(vec![Action::CreateActivity(call)]),
        )
    };
    session.automation_rules().create(rule).await?;

    if let Err(refused) = session.deals().move_to(deal, proposal).await {
        println!("  refused:");
        for fault in refused.field_errors() {
            println!("    {}: {}", fault.path, fault.message);
        }
    }
    world.days_pass(2);
    let closes_on = world.day(30);
    let fill = |deal: &mut Deal| {
        deal.next_step = Some("send the contract".into());
        deal.expected_close_date = Some(closes_on);
        deal.custom_fields = json!({"budget": 15_000});
    };
    session.deals().update(deal, fill).await?;
    let moved = session.deals().move_to(deal, proposal).await?;
    println!(
        "  two days later it enters, {} likely",
        moved.win_probability
    );
    let of_deal = Activity::LINKS.at(ActivityLinks::DEAL_ID).eq(deal);
    for task in session.activities().find(of_deal).await?.items {
        let (owner, due) = (world.name_of(Some(task.owner_id)), task.due_date);
        let due = due.map(|due| due.date_naive().to_string());
        println!(
            "  {owner}: {}, due {}",
            task.subject,
            due.unwrap_or_default()
        );
    }
    Ok(())
}

/// Two more deals, in the currency of the tenant.
pub(crate) async fn add_others(world: &World) -> Result<Id<Deal>, BoxError> {
    let mut others = Vec::new();
    for (name, amount) in [("Initech upgrade", 8_000), ("Hooli renewal", 20_000)] {
        others.push(Deal {
            amount: Some(amount.into()),
            expected_close_date: Some(world.day(45)),
            owner_id: world.reps.last().map(|rep| rep.id),
            ..Deal::new(name, world.acme.pipeline)
        });
    }
    let others = world.session.deals().create_all(others).await?;
    Ok(others.first().ok_or("no deal")?.id)
}

/// One deal is won and keeps the exchange rate of its day, another is lost for a reason.
pub(crate) async fn close(world: &World, won: Id<Deal>, lost: Id<Deal>) -> Result<(), BoxError> {
    let session = &world.session;
    println!("\nOUTCOMES");
    let (usd, bank) = (Currency::USD, Some("bank"));
    let rates = || session.exchange_rates();
    rates()
        .set(Currency::EUR, usd, world.day(0), "1.10".parse()?, bank)
        .await?;
    let deal = session.deals().win(won).await?;
    if let (Some(worth), Some(rate), Some(base)) =
        (deal.money(), deal.locked_rate, deal.locked_amount)
    {
        let (base, rate) = (Money::new(base, usd), rate.normalize());
        println!("  {}: {worth}, kept as {base} at {rate}", deal.name);
    }

    let reason = CloseReason::new(CloseOutcome::Lost, "Too expensive");
    session.close_reasons().create(reason).await?;
    let policy = CloseReasonPolicy {
        on_lost: true,
        ..CloseReasonPolicy::default()
    };
    session
        .configurations()
        .set_close_reason_policy(policy)
        .await?;
    if let Err(refused) = session.deals().lose(lost, "bad luck").await {
        println!("  refused: {refused}");
    }
    let deal = session.deals().lose(lost, "too expensive").await?;
    let reason = deal.close_reason.as_deref().unwrap_or("-");
    println!("  {}: {}, {reason}", deal.name, deal.status);
    Ok(())
}
