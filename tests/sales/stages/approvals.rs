//! approvals of deals for a stage.

use chrono::TimeDelta;
use crm_engine::audit::ObstacleReason;
use crm_engine::deals::ApprovalStatus;
use crm_engine::error::codes;
use crm_engine::merging::Choices;
use crm_engine::pipelines::ApprovalPolicy;
use crm_engine::prelude::*;
use serde_json::json;

use super::{NEGOTIATION, PROPOSAL, PROSPECTING, World, faults, world};

struct Office {
    w: World,
    lead: Session,
    member: Session,
    deal: Id<Deal>,
}

/// A team whose leads approve proposals, and a deal of it worth 1000.
async fn office() -> Office {
    let w = world().await;
    w.set(PROPOSAL, |stage| {
        stage.approval = Some(ApprovalPolicy::by_role(TeamRole::Lead));
    })
    .await;
    let (lead_id, lead) = w.user("lead").await;
    let (member_id, member) = w.user("member").await;
    let team = w
        .session
        .teams()
        .create(Team::new("North"))
        .await
        .unwrap()
        .id;
    for (user, role) in [(lead_id, TeamRole::Lead), (member_id, TeamRole::Member)] {
        w.session
            .teams()
            .add_member(team, user, role)
            .await
            .unwrap();
    }
    let deal = Deal {
        team_id: Some(team),
        amount: Some(1_000.into()),
        ..w.deal()
    };
    let deal = w.session.deals().create(deal).await.unwrap().id;
    Office {
        w,
        lead,
        member,
        deal,
    }
}

const MISSING: [(&str, &str); 1] = [("stage_id", "stage_not_approved")];

impl Office {
    async fn request(&self) -> Id<StageApproval> {
        let stage = self.w.stage(PROPOSAL);
        let mut deals = self.member.deals();
        let request = deals.request_approval(self.deal, stage, Some("now"));
        request.await.unwrap().id
    }

    async fn is_refused(&self) -> bool {
        match self.w.move_to(self.deal, PROPOSAL).await {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(faults(&error), MISSING);
                true
            }
        }
    }
}

/// Requested, approved by who may, used up by the entry: who falls back needs another one.
#[tokio::test]
async fn an_approval_lets_a_deal_in_once() {
    let office = office().await;
    let Office {
        w,
        lead,
        member,
        deal,
    } = &office;
    assert!(office.is_refused().await);
    let error = member
        .deals()
        .request_approval(*deal, w.stage(NEGOTIATION), None)
        .await;
    assert_eq!(error.unwrap_err().code(), "approval_not_needed");
    let asked = office.request().await;
    let again = member
        .deals()
        .request_approval(*deal, w.stage(PROPOSAL), None)
        .await;
    assert_eq!(again.unwrap_err().code(), "approval_exists");
    assert!(office.is_refused().await, "a request is no approval");
    for session in [member, &w.session] {
        let error = session
            .stage_approvals()
            .approve(asked, None)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "forbidden");
    }
    let system = w.crm.session(w.onboarded.tenant, Actor::System);
    let error = system
        .stage_approvals()
        .approve(asked, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    let approved = lead
        .stage_approvals()
        .approve(asked, Some("fine"))
        .await
        .unwrap();
    assert_eq!(approved.status, ApprovalStatus::Approved);
    assert_eq!(approved.decision_note.as_deref(), Some("fine"));
    let twice = lead
        .stage_approvals()
        .reject(asked, None)
        .await
        .unwrap_err();
    assert_eq!(twice.code(), "already_decided");
    assert!(
        w.session
            .deals()
            .check_move(*deal, w.stage(PROPOSAL))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(!office.is_refused().await);
    let used = w.session.stage_approvals().get(asked).await.unwrap();
    assert_eq!(used.status, ApprovalStatus::Used);
    assert!(used.used_at.is_some());
    w.move_to(*deal, PROSPECTING).await.unwrap();
    assert!(office.is_refused().await, "used up");
    office.request().await;
    assert_eq!(w.session.deals().approvals(*deal).await.unwrap().len(), 2);
}

/// Nobody approves what he requested, unless the stage allows it; he may take it back.
#[tokio::test]
async fn nobody_approves_his_own_request() {
    let office = office().await;
    let Office { w, lead, deal, .. } = &office;
    let stage = w.stage(PROPOSAL);
    let own = lead
        .deals()
        .request_approval(*deal, stage, None)
        .await
        .unwrap();
    let error = lead
        .stage_approvals()
        .approve(own.id, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    let back = lead.stage_approvals().reject(own.id, None).await.unwrap();
    assert_eq!(back.status, ApprovalStatus::Rejected);
    w.set(PROPOSAL, |stage| {
        stage.approval = Some(ApprovalPolicy {
            allows_own: true,
            ..ApprovalPolicy::by_role(TeamRole::Lead)
        });
    })
    .await;
    let own = lead
        .deals()
        .request_approval(*deal, stage, None)
        .await
        .unwrap();
    lead.stage_approvals().approve(own.id, None).await.unwrap();
    assert!(!office.is_refused().await);
}

/// An approval is one of a deal with its amount.
#[tokio::test]
async fn another_amount_needs_another_approval() {
    let office = office().await;
    let Office { w, lead, deal, .. } = &office;
    let worth = |amount: i64| {
        let session = w.session.clone();
        let deal = *deal;
        async move {
            let set = |deal: &mut Deal| deal.amount = Some(amount.into());
            session.deals().update(deal, set).await.unwrap();
        }
    };
    let asked = office.request().await;
    worth(2_000).await;
    let error = lead
        .stage_approvals()
        .approve(asked, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "approval_outdated");
    let asked = office.request().await;
    lead.stage_approvals().approve(asked, None).await.unwrap();
    worth(3_000).await;
    assert!(office.is_refused().await);
    // Nor does the amount change behind it in the same commit.
    worth(2_000).await;
    let mut work = w.session.begin();
    work.deals()
        .move_to(*deal, w.stage(PROPOSAL))
        .await
        .unwrap();
    let set = |deal: &mut Deal| deal.amount = Some(9_000.into());
    let error = work.deals().update(*deal, set).await.unwrap_err();
    assert_eq!(faults(&error), MISSING);
    work.commit().await.unwrap();
    // In the stage it may.
    worth(9_000).await;
}

/// Who writes the records by hand gets no approval, nor one for another stage or another deal.
#[tokio::test]
async fn approvals_are_not_forged() {
    let office = office().await;
    let Office {
        w,
        lead,
        member,
        deal,
    } = &office;
    let stage = w.stage(PROPOSAL);
    let forged = json!({"deal_id": deal, "stage_id": stage, "status": "approved", "amount": 5});
    let mut records = member.object("stage_approval").await.unwrap();
    let error = records
        .create(forged.as_object().unwrap())
        .await
        .unwrap_err();
    let expected = [("amount", codes::READ_ONLY), ("status", codes::READ_ONLY)];
    assert_eq!(faults(&error), expected);
    let forged = StageApproval {
        status: ApprovalStatus::Approved,
        ..StageApproval::new(*deal, stage)
    };
    let error = member.stage_approvals().create(forged).await.unwrap_err();
    assert_eq!(faults(&error), [("status", codes::READ_ONLY)]);

    // What is written by hand is a request like any other, of who writes it.
    let by_hand = StageApproval::new(*deal, stage);
    let by_hand = member.stage_approvals().create(by_hand).await.unwrap();
    assert_eq!(by_hand.status, ApprovalStatus::Requested);
    assert_eq!(by_hand.amount, Some(1_000.into()));
    lead.stage_approvals()
        .approve(by_hand.id, None)
        .await
        .unwrap();
    let error = member
        .stage_approvals()
        .update(by_hand.id, |approval| {
            approval.stage_id = w.stage(NEGOTIATION);
            approval.request_note = Some("changed".into());
        })
        .await
        .unwrap_err();
    let expected = [
        ("stage_id", codes::READ_ONLY),
        ("request_note", codes::READ_ONLY),
    ];
    assert_eq!(faults(&error), expected);
    // Given to another deal, it counts for none.
    let twin = Deal {
        amount: Some(1_000.into()),
        ..w.deal()
    };
    let twin = w.session.deals().create(twin).await.unwrap().id;
    member
        .stage_approvals()
        .update(by_hand.id, |approval| approval.deal_id = twin)
        .await
        .unwrap();
    for id in [*deal, twin] {
        assert_eq!(faults(&w.move_to(id, PROPOSAL).await.unwrap_err()), MISSING);
    }
}

/// A merge of deals carries no approval over, and its undoing gives the deal the stage back that it
/// had, gates or not.
#[tokio::test]
async fn merges_carry_no_approval_over_and_are_undone() {
    let office = office().await;
    let Office { w, lead, deal, .. } = &office;
    let asked = office.request().await;
    lead.stage_approvals().approve(asked, None).await.unwrap();
    let twin = Deal {
        amount: Some(1_000.into()),
        ..w.deal()
    };
    let twin = w.session.deals().create(twin).await.unwrap().id;
    assert!(!office.is_refused().await);
    w.clock.advance(TimeDelta::days(1));
    // The twin would take the stage over: it has no approval of its own.
    let choices = Choices::new().take("stage_id", *deal);
    let refused = w
        .session
        .deals()
        .merge_into(twin, &[*deal], &choices, None)
        .await;
    assert_eq!(faults(&refused.unwrap_err()), MISSING);
    let choices = Choices::new().take("stage_id", twin);
    let merged = w
        .session
        .deals()
        .merge_into(*deal, &[twin], &choices, None)
        .await;
    let merged = merged.unwrap();
    let survivor = w.session.deals().get(*deal).await.unwrap();
    assert_eq!(survivor.stage_id, Some(w.stage(PROSPECTING)));
    w.session.merges().undo(merged.merges[0]).await.unwrap();
    let back = w.session.deals().get(*deal).await.unwrap();
    assert_eq!(back.stage_id, Some(w.stage(PROPOSAL)));
}

/// the undoing of a commit gives a deal the stage back that it had, gates or not; but a deal that
/// became another one meanwhile does not slip back into a stage that would not let it in as it is.
#[tokio::test]
async fn undoing_a_commit_is_no_way_around_a_gate() {
    let office = office().await;
    let Office { w, lead, deal, .. } = &office;
    let asked = office.request().await;
    lead.stage_approvals().approve(asked, None).await.unwrap();
    assert!(!office.is_refused().await);
    let fall_back = async || {
        w.clock.advance(TimeDelta::hours(1));
        w.move_to(*deal, PROSPECTING).await.unwrap();
        let trail = w.session.audit().trail(*deal).await.unwrap();
        trail.last().unwrap().commit_id
    };
    let stage = async || w.session.deals().get(*deal).await.unwrap().stage_id;
    // Right away the deal is again what it was.
    let commit = fall_back().await;
    let undone = w.session.audit().undo_commit(commit).await.unwrap();
    assert!(undone.is_complete(), "{:?}", undone.obstacles);
    assert_eq!(stage().await, Some(w.stage(PROPOSAL)));
    // Something else was written, which the gate does not ask for.
    let commit = fall_back().await;
    let change = |deal: &mut Deal| deal.next_step = Some("call".into());
    w.session.deals().update(*deal, change).await.unwrap();
    let undone = w.session.audit().undo_commit(commit).await.unwrap();
    assert!(undone.is_complete(), "{:?}", undone.obstacles);
    assert_eq!(stage().await, Some(w.stage(PROPOSAL)));
    // Nobody approved of this amount.
    let commit = fall_back().await;
    let dearer = |deal: &mut Deal| deal.amount = Some(900_000.into());
    w.session.deals().update(*deal, dearer).await.unwrap();
    let refused = w.session.audit().undo_commit(commit).await.unwrap();
    let told = refused.obstacles.iter();
    let told: Vec<_> = told
        .map(|one| (one.field.as_deref(), one.why.clone()))
        .collect();
    let code = "validation";
    assert_eq!(told, [(Some("stage_id"), ObstacleReason::Refused { code })]);
    let partly = w
        .session
        .audit()
        .undo_what_is_untouched(commit)
        .await
        .unwrap();
    assert!(!partly.is_complete());
    assert_eq!(stage().await, Some(w.stage(PROSPECTING)));
}

/// The same holds for the undoing of a merge after which the survivor was written.
#[tokio::test]
async fn undoing_a_merge_is_no_way_around_a_gate() {
    let office = office().await;
    let Office { w, lead, deal, .. } = &office;
    let asked = office.request().await;
    lead.stage_approvals().approve(asked, None).await.unwrap();
    assert!(!office.is_refused().await);
    w.clock.advance(TimeDelta::days(1));
    let twin = w.new_deal().await;
    let choices = Choices::new().take("stage_id", twin);
    let mut deals = w.session.deals();
    let merged = deals.merge_into(*deal, &[twin], &choices, None).await;
    let merge = merged.unwrap().merges[0];
    w.clock.advance(TimeDelta::days(1));
    let dearer = |deal: &mut Deal| deal.amount = Some(900_000.into());
    w.session.deals().update(*deal, dearer).await.unwrap();
    let undone = w.session.merges().undo(merge).await.unwrap();
    let kept: Vec<_> = undone.kept.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(kept, ["stage_id"]);
    let stored = w.session.deals().get(*deal).await.unwrap();
    assert_eq!(stored.stage_id, Some(w.stage(PROSPECTING)));
    assert!(w.session.deals().get(twin).await.is_ok());
}
