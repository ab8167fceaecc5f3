//! Operations of deals, their people, pipelines and forecasts.

use chrono::NaiveDate;
use crm_engine::contacts::BuyingRole;
use crm_engine::deals::{CloseOutcome, CloseReason, CompetitorStatus, DealCompetitor};
use crm_engine::forecasts::{AdjustmentKind, ForecastAdjustment};
use crm_engine::pipelines::analytics::PipelineView;
use crm_engine::pipelines::{ApprovalPolicy, ProbabilityCalculation};
use crm_engine::prelude::*;

use super::{GHOST, Scene, told};
use crate::common::rows_of;

pub(super) async fn attack_deals(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let own_stage = own.onboarded.stages[1];
    let (deal, stage) = (victim.deal, victim.onboarded.stages[0]);
    same!("move_to", deal, |id| session
        .deals()
        .move_to(id, own_stage)
        .await);
    same!("move_to a stage", stage, |id| session
        .deals()
        .move_to(own.deal, id)
        .await);
    same!("move_with_note", deal, |id| session
        .deals()
        .move_with_note(id, own_stage, "mine")
        .await);
    same!("win", deal, |id| session.deals().win(id).await);
    same!("lose", deal, |id| session.deals().lose(id, "mine").await);
    same!("reopen", victim.won_deal, |id| session
        .deals()
        .reopen(id, None)
        .await);
    same!("reopen in a stage", stage, |id| session
        .deals()
        .reopen(own.won_deal, Some(id))
        .await);
    same!("history", deal, |id| session.deals().history(id).await);
    same!("lock_rate", victim.won_deal, |id| session
        .deals()
        .lock_rate(id)
        .await);
    same!("add_line", deal, |id| session
        .deals()
        .add_line(DealLine::of_product(id, own.product))
        .await);
    let product = victim.product;
    same!("add_line of a product", product, |id| session
        .deals()
        .add_line(DealLine::of_product(own.deal, id))
        .await);
    same!("update_line", victim.line, |id| session
        .deals()
        .update_line(id, |line| line.quantity = 9.into())
        .await);
    same!("update_line to a deal", deal, |id| session
        .deals()
        .update_line(own.line, |line| line.deal_id = id)
        .await);
    same!("remove_line", victim.line, |id| session
        .deals()
        .remove_line(id)
        .await);
    same!("lines", deal, |id| session.deals().lines(id).await);
    same!("reorder_lines", deal, |id| session
        .deals()
        .reorder_lines(id, &[own.line])
        .await);
    same!("reorder_lines with a line", victim.line, |id| session
        .deals()
        .reorder_lines(own.deal, &[id])
        .await);
    same!("copy_lines", deal, |id| session
        .deals()
        .copy_lines(id, own.deal)
        .await);
    same!("copy_lines to", deal, |id| session
        .deals()
        .copy_lines(own.deal, id)
        .await);
    let price = Money::new(1.into(), Currency::EUR);
    same!("set_price", product, |id| session
        .products()
        .set_price(id, price)
        .await);
    same!("price_in", product, |id| session
        .products()
        .price_in(id, Currency::EUR)
        .await);
    same!("prices", product, |id| session.products().prices(id).await);
    let today = session.engine().clock().now().date_naive();
    same!("total", deal, |id| session
        .deals()
        .total(Deal::ID.eq(id))
        .await);
    same!("total_in", deal, |id| session
        .deals()
        .total_in(Deal::ID.eq(id), Currency::EUR, today)
        .await);
    same!("check_move", deal, |id| session
        .deals()
        .check_move(id, own_stage)
        .await);
    same!("check_move to a stage", stage, |id| session
        .deals()
        .check_move(own.deal, id)
        .await);
    same!("allowed_stages", deal, |id| session
        .deals()
        .allowed_stages(id)
        .await);
    same!("stage_times", deal, |id| session
        .deals()
        .stage_times(id)
        .await);
    same!("is_rotting", deal, |id| session
        .deals()
        .is_rotting(id)
        .await);
    same!("request_approval", deal, |id| session
        .deals()
        .request_approval(id, own_stage, None)
        .await);
    same!("request_approval for a stage", stage, |id| session
        .deals()
        .request_approval(own.deal, id, None)
        .await);
    same!("approvals", deal, |id| session.deals().approvals(id).await);
    same!("approve", victim.approval, |id| session
        .stage_approvals()
        .approve(id, None)
        .await);
    same!("reject", victim.approval, |id| session
        .stage_approvals()
        .reject(id, None)
        .await);
}

pub(super) async fn attack_people_of_deals(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let (contact, champion) = (victim.contact, Some(BuyingRole::Champion));
    same!("win_because", deal, |id| session
        .deals()
        .win_because(id, "Best product")
        .await);
    same!("add_contact to", deal, |id| session
        .deals()
        .add_contact(id, own.contact, champion)
        .await);
    same!("add_contact", contact, |id| session
        .deals()
        .add_contact(own.won_deal, id, champion)
        .await);
    same!("remove_contact from", deal, |id| session
        .deals()
        .remove_contact(id, own.contact)
        .await);
    same!("remove_contact", contact, |id| session
        .deals()
        .remove_contact(own.deal, id)
        .await);
    same!("set_contact_role", deal, |id| session
        .deals()
        .set_contact_role(id, own.contact, None)
        .await);
    same!("set_primary_contact", deal, |id| session
        .deals()
        .set_primary_contact(id, Some(own.contact))
        .await);
    same!("set_primary_contact to", contact, |id| session
        .deals()
        .set_primary_contact(own.won_deal, Some(id))
        .await);
    same!("contacts_of", deal, |id| session
        .deals()
        .contacts_of(id)
        .await);
    same!("deals_with", contact, |id| session
        .deals()
        .deals_with(id, Find::new())
        .await);
    same!("add_competitor", deal, |id| session
        .deals()
        .add_competitor(DealCompetitor::new(id, "Mine"))
        .await);
    same!("add_competitor of", victim.account, |id| session
        .deals()
        .add_competitor(DealCompetitor::account(own.won_deal, id))
        .await);
    same!("competitors_of", deal, |id| session
        .deals()
        .competitors_of(id)
        .await);
    let rival = rows_of(&victim.session, "deal_competitor").await;
    let rival: Id<DealCompetitor> = Id::new(rival[0].id());
    same!("remove_competitor", rival, |id| session
        .deals()
        .remove_competitor(id)
        .await);
    same!("set_competitor_status", rival, |id| session
        .deals()
        .set_competitor_status(id, CompetitorStatus::Chosen)
        .await);
    let reason = rows_of(&victim.session, "close_reason").await;
    let reason: Id<CloseReason> = Id::new(reason[0].id());
    same!("reorder", reason, |id| session
        .close_reasons()
        .reorder(CloseOutcome::Lost, &[id])
        .await);
}

pub(super) async fn attack_pipelines(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let own_stage = own.onboarded.stages[1];
    let mut swapped = own.onboarded.stages.clone();
    let stage = victim.onboarded.stages[0];
    let pipeline = victim.onboarded.pipeline;
    same!("set_default", pipeline, |id| session
        .pipelines()
        .set_default(id)
        .await);
    let view = PipelineView::of;
    let (from, until) = (
        NaiveDate::from_ymd_opt(2026, 1, 1).unwrap(),
        NaiveDate::from_ymd_opt(2027, 1, 1).unwrap(),
    );
    same!("report", pipeline, |id| session
        .pipelines()
        .report(&view(id), from, until)
        .await);
    same!("cohorts", pipeline, |id| session
        .pipelines()
        .cohorts(&view(id), from, 12)
        .await);
    same!("stage summary", pipeline, |id| session
        .pipelines()
        .stage_summary(&view(id))
        .await);
    let deal = victim.deal;
    same!("states", deal, |id| session.deals().states(id).await);
    same!("state at", deal, |id| session
        .deals()
        .state_at(id, "2100-01-01T00:00:00Z".parse().unwrap())
        .await);
    let foreign = PipelineView {
        owner: Some(victim.user),
        team: Some(victim.team),
        deals: Some(Deal::ID.eq(victim.deal).into_filter()),
        ..PipelineView::of(own.onboarded.pipeline)
    };
    assert_eq!(
        session.pipelines().stage_summary(&foreign).await.unwrap(),
        []
    );
    same!("stages", pipeline, |id| session
        .pipelines()
        .stages(id)
        .await);
    same!("add_stage", pipeline, |id| {
        session
            .pipelines()
            .add_stage(PipelineStage::new(id, "Mine", 1_u32))
            .await
    });
    same!("reorder_stages", pipeline, |id| session
        .pipelines()
        .reorder_stages(id, &swapped)
        .await);
    same!("update_stage", stage, |id| session
        .pipelines()
        .update_stage(id, |stage| {
            stage.name = "Mine".into();
        })
        .await);
    same!("update_stage with a next one", stage, |id| session
        .pipelines()
        .update_stage(own_stage, |stage| {
            stage.allowed_next_stages = [id].into();
        })
        .await);
    same!("update_stage with an approver", victim.user, |id| session
        .pipelines()
        .update_stage(own_stage, |stage| {
            stage.approval = Some(ApprovalPolicy::by_users([id]));
        })
        .await);
    same!("set_probability_mode", pipeline, |id| session
        .pipelines()
        .set_probability_mode(id, ProbabilityCalculation::Automatic, &())
        .await);
    same!("refresh_probabilities", pipeline, |id| session
        .pipelines()
        .refresh_probabilities(id, &())
        .await);
    same!("delete_stage", stage, |id| session
        .pipelines()
        .delete_stage(id, None)
        .await);
    same!("delete_stage to", stage, |id| session
        .pipelines()
        .delete_stage(own_stage, Some(id))
        .await);
    let mut outcomes = Vec::new();
    for id in [stage.uuid(), GHOST] {
        swapped[0] = Id::new(id);
        let order = session
            .pipelines()
            .reorder_stages(own.onboarded.pipeline, &swapped)
            .await;
        outcomes.push(told(order, id));
    }
    assert_eq!(outcomes[0], outcomes[1], "reorder_stages with a stage");
}

pub(super) async fn attack_forecasts(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let stage = victim.onboarded.stages[0];
    let forecasts = || session.forecasts();
    let month = forecasts().named_period("2100-02").await.unwrap();
    let all = ForecastQuery::of(month);
    let at = session.engine().clock().now();
    macro_rules! forecast {
        ($field:ident, $foreign:expr) => {
            same!("forecast", $foreign, |id| {
                let query = ForecastQuery {
                    $field: Some(id),
                    ..all.clone()
                };
                Ok((
                    forecasts().forecast(&query).await,
                    forecasts().adjusted(&query).await,
                    forecasts().by_owner(&query).await,
                    forecasts().by_team(&query).await,
                    forecasts().by_territory(&query).await,
                    forecasts().by_pipeline(&query).await,
                    forecasts().trend(&month, &query).await,
                    forecasts().as_of(&query, at).await,
                    forecasts().compare(&query, at, 9, &()).await,
                ))
            });
        };
    }
    forecast!(owner, victim.user);
    forecast!(team, victim.team);
    forecast!(territory, victim.territory);
    forecast!(pipeline, victim.onboarded.pipeline);
    macro_rules! subject {
        ($subject:path, $foreign:expr) => {
            same!("attainment", $foreign, |id| forecasts()
                .attainment($subject(id), &month, None)
                .await);
            same!("set_quota", $foreign, |id| {
                let quota = Quota::of($subject(id), &month, "5 EUR".parse().unwrap());
                forecasts().set_quota(quota).await
            });
            same!("adjust", $foreign, |id| {
                let adjustment = ForecastAdjustment {
                    subject: $subject(id),
                    ..ForecastAdjustment::new(
                        month.kind(),
                        month.start(),
                        ForecastCategory::Commit,
                        AdjustmentKind::Manager,
                        Currency::EUR,
                        1,
                        "mine",
                    )
                };
                forecasts().adjust(adjustment).await
            });
        };
    }
    subject!(ForecastSubject::user, victim.user);
    subject!(ForecastSubject::team, victim.team);
    subject!(ForecastSubject::territory, victim.territory);
    same!("record", deal, |id| forecasts()
        .record(id, PeriodKind::Month, 50, None)
        .await);
    same!("categorize_stage", stage, |id| forecasts()
        .categorize_stage(id, Some(ForecastCategory::Commit), &())
        .await);

    same!("add_member", victim.team, |id| {
        session
            .teams()
            .add_member(id, own.user, TeamRole::Admin)
            .await
    });
    same!("add_member of a user", victim.user, |id| {
        session
            .teams()
            .add_member(own.team, id, TeamRole::Admin)
            .await
    });
    same!("remove_member", victim.team, |id| session
        .teams()
        .remove_member(id, own.user)
        .await);
    same!("remove_member of a user", victim.user, |id| {
        session.teams().remove_member(own.team, id).await
    });
    same!("members", victim.team, |id| session
        .teams()
        .members(id)
        .await);

    same!("start", victim.activity, |id| session
        .activities()
        .start(id)
        .await);
    same!("complete", victim.activity, |id| session
        .activities()
        .complete(id, Some("mine"))
        .await);
    same!("cancel", victim.activity, |id| session
        .activities()
        .cancel(id)
        .await);
    same!("mark_no_show", victim.activity, |id| session
        .activities()
        .mark_no_show(id)
        .await);
    same!("defer", victim.activity, |id| session
        .activities()
        .defer(id)
        .await);

    same!("reopen", victim.activity, |id| session
        .activities()
        .reopen(id)
        .await);
}
