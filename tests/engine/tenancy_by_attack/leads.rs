//! Operations of leads, conversions, campaigns and scores.

use crm_engine::campaigns::CampaignStatus;
use crm_engine::hierarchy::RollUp;
use crm_engine::leads::{ConversionPlan, Qualification};
use crm_engine::prelude::*;
use crm_engine::query::Filter;
use crm_engine::scoring::LeadScoringRuleSet;

use super::Scene;
use crate::common::rows_of;

pub(super) async fn attack_conversions(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let deal = victim.deal;
    let contact = victim.contact;
    let lead = victim.lead;
    let plan = ConversionPlan::new();
    same!("convert", lead, |id| session
        .leads()
        .convert(id, plan.clone())
        .await);
    same!("convert into a contact", contact, |id| session
        .leads()
        .convert(own.lead, plan.clone().into_contact(id))
        .await);
    same!("convert into an account", victim.account, |id| session
        .leads()
        .convert(
            own.lead,
            plan.clone().into_contact(own.contact).into_account(id)
        )
        .await);
    same!("candidates", lead, |id| session
        .leads()
        .candidates(id)
        .await);
    same!("undo_conversion", victim.converted_lead, |id| session
        .leads()
        .undo_conversion(id)
        .await);

    same!("test a rule", victim.rule, |id| session
        .automation()
        .test(id, own.deal)
        .await
        .map(|trial| trial.fits));
    same!("test with a deal", deal, |id| session
        .automation()
        .test(own.rule, id)
        .await
        .map(|trial| trial.fits));
    same!("counts", victim.rule, |id| session
        .automation()
        .counts(&[id])
        .await
        .map(|counts| counts[&id].executed));
    let run = session.automation().run_time_based(&()).await.unwrap();
    assert_eq!(run.due, 0);

    same!("set_parent", victim.account, |id| session
        .accounts()
        .set_parent(id, None)
        .await);
    same!("set_parent to", victim.account, |id| {
        session.accounts().set_parent(own.account, Some(id)).await
    });
    same!("ancestors", victim.account, |id| session
        .accounts()
        .ancestors(id)
        .await);
    same!("path", victim.account, |id| session
        .accounts()
        .path(id)
        .await);
    same!("subtree", victim.account, |id| session
        .accounts()
        .subtree(id)
        .await);
    same!("descendants", victim.account, |id| session
        .accounts()
        .descendants(id, Find::new())
        .await);
    same!("roll_up", victim.account, |id| session
        .accounts()
        .roll_up(id, &RollUp::of(Deal::ACCOUNT_ID, Deal::AMOUNT))
        .await);
    same!("assign", victim.account, |id| session
        .territories()
        .assign(id, own.territory)
        .await);
    same!("assign to", victim.territory, |id| session
        .territories()
        .assign(own.account, id)
        .await);
    same!("release", victim.account, |id| session
        .territories()
        .release(id)
        .await);
    same!("matching", victim.account, |id| session
        .territories()
        .matching(id)
        .await);
    same!("set_parent of a territory", victim.territory, |id| session
        .territories()
        .set_parent(id, None)
        .await);
    same!("set_parent to a territory", victim.territory, |id| {
        session
            .territories()
            .set_parent(own.territory, Some(id))
            .await
    });
}

pub(super) async fn attack_leads_and_campaigns(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    same!("set_status of a lead", victim.lead, |id| session
        .leads()
        .set_status(id, LeadStatus::Contacted)
        .await);
    same!("set_qualification", victim.lead, |id| session
        .leads()
        .set_qualification(id, Qualification::SalesQualified)
        .await);
    same!("qualify", victim.lead, |id| session
        .leads()
        .qualify(id, Qualification::SalesQualified)
        .await);
    same!("disqualify", victim.lead, |id| session
        .leads()
        .disqualify(id, "mine")
        .await);
    same!("lose a lead", victim.lead, |id| session
        .leads()
        .lose(id, "mine")
        .await);
    same!("reopen a lead", victim.lead, |id| session
        .leads()
        .reopen(id)
        .await);
    same!("assign a lead", victim.lead, |id| session
        .leads()
        .assign(id)
        .await);
    same!("add_assignee to", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .add_assignee(id, own.user)
        .await);
    same!("add_assignee of a user", victim.user, |id| session
        .lead_assignment_rules()
        .add_assignee(own.assignment_rule, id)
        .await);
    same!("remove_assignee from", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .remove_assignee(id, own.user)
        .await);
    same!("remove_assignee of a user", victim.user, |id| session
        .lead_assignment_rules()
        .remove_assignee(own.assignment_rule, id)
        .await);
    same!("assignees", victim.assignment_rule, |id| session
        .lead_assignment_rules()
        .assignees(id)
        .await);
    same!("set_status of a campaign", victim.campaign, |id| session
        .campaigns()
        .set_status(id, CampaignStatus::Active)
        .await);
    same!("add_member to a campaign", victim.campaign, |id| session
        .campaigns()
        .add_member(id, own.contact)
        .await);
    same!("add_member of a lead", victim.lead, |id| session
        .campaigns()
        .add_member(own.campaign, id)
        .await);
    same!("add_member of a contact", victim.contact, |id| session
        .campaigns()
        .add_member(own.campaign, id)
        .await);
    same!("remove_member from a campaign", victim.campaign, |id| {
        session.campaigns().remove_member(id, own.lead).await
    });
    same!("remove_member of a lead", victim.lead, |id| session
        .campaigns()
        .remove_member(own.campaign, id)
        .await);
    same!("respond", victim.campaign, |id| session
        .campaigns()
        .respond(id, own.lead)
        .await);
    same!("respond of a lead", victim.lead, |id| session
        .campaigns()
        .respond(own.campaign, id)
        .await);
    same!("add_members", victim.campaign, |id| session
        .campaigns()
        .add_members::<Lead>(id, Filter::all(), &())
        .await);
    same!("attribution", victim.campaign, |id| session
        .campaigns()
        .attribution(id)
        .await);
    same!("attributions", victim.campaign, |id| session
        .campaigns()
        .attributions(&[id])
        .await);
    // Batches over a tenant's own leads touch no other tenant's.
    assert_eq!(session.leads().count_stale().await.unwrap(), 0);
    assert_eq!(
        session.leads().archive_stale(&()).await.unwrap().archived,
        0
    );
    assert_eq!(
        session.leads().assign_unowned(&()).await.unwrap().checked,
        0
    );
    let by_utm = session.leads().attribution_by_utm(Filter::all()).await;
    assert!(by_utm.unwrap().is_empty());
}

pub(super) async fn attack_scores(scene: &Scene) {
    let (victim, own) = (&scene.victim, &scene.attacker);
    let session = &own.session;
    let lead = victim.lead;
    same!("rescore", lead, |id| session.leads().rescore(id).await);
    same!("adjust", lead, |id| session
        .leads()
        .adjust(id, 5, "mine")
        .await);
    same!("score_history", lead, |id| session
        .leads()
        .score_history(id)
        .await);
    same!("explain", lead, |id| session.leads().explain(id).await);
    let sets = rows_of(&victim.session, "lead_scoring_rule_set").await;
    let set: Id<LeadScoringRuleSet> = Id::new(sets[0].id());
    same!("rules", set, |id| session
        .scoring_rule_sets()
        .rules(id)
        .await);
    same!("copy", set, |id| session
        .scoring_rule_sets()
        .copy(id, "Mine")
        .await);
    same!("publish", set, |id| session
        .scoring_rule_sets()
        .publish(id)
        .await);
    same!("retire", set, |id| session
        .scoring_rule_sets()
        .retire(id)
        .await);
    same!("simulate", set, |id| session
        .scoring_rule_sets()
        .simulate(id, Filter::all(), 10, &())
        .await);
}
