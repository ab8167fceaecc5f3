//! Many callers at the same time: turns stay fair, capacity is kept, nobody is a member twice.

use std::collections::BTreeMap;

use crm_engine::campaigns::{Campaign, CampaignMember};
use crm_engine::leads::assignment::{AssignmentMethod, AssignmentOutcome, LeadAssignmentRule};
use crm_engine::prelude::*;

use super::{assignment::turns, company, session, user};
use crate::common::race;

async fn owned(session: &Session, users: &[Id<User>]) -> Vec<u64> {
    let mut counts = Vec::new();
    for user in users {
        counts.push(
            session
                .leads()
                .count(Lead::OWNER_ID.eq(*user))
                .await
                .unwrap(),
        );
    }
    counts
}

/// Leads that many create at the same time go around: no two users differ by more than one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn turns_are_fair_among_concurrent_calls() {
    let session = session().await;
    let mut users = Vec::new();
    for number in 0..5 {
        users.push(user(&session, &format!("user{number}"), None).await);
    }
    turns(&session, &users).await;
    let calls = (0..12)
        .map(|_| {
            let session = session.clone();
            async move {
                for _ in 0..4 {
                    session.leads().create(company("Globex")).await.unwrap();
                }
            }
        })
        .collect();
    race(calls).await;
    let counts = owned(&session, &users).await;
    assert_eq!(counts.iter().sum::<u64>(), 48);
    assert!(
        counts.iter().all(|count| (9..=10).contains(count)),
        "{counts:?}"
    );
}

/// Capacity is never exceeded, and used up: new leads and leads that waited come at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn capacity_is_kept_among_concurrent_calls() {
    let session = session().await;
    let capacities = [3, 7, 5];
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(session.leads().create(company("Waiting")).await.unwrap().id);
    }
    let mut users = Vec::new();
    for (number, capacity) in capacities.iter().enumerate() {
        users.push(user(&session, &format!("user{number}"), Some(*capacity)).await);
    }
    turns(&session, &users).await;
    let calls = waiting
        .into_iter()
        .map(|id| {
            let session = session.clone();
            async move {
                let new = session.leads().create(company("New")).await.unwrap();
                let assigned = session.leads().assign(id).await.unwrap();
                let is_assigned = matches!(assigned.outcome, AssignmentOutcome::Assigned { .. });
                assert_eq!(assigned.lead.owner_id.is_some(), is_assigned);
                if !is_assigned {
                    assert_eq!(assigned.outcome, AssignmentOutcome::NobodyFree);
                }
                usize::from(new.owner_id.is_some()) + usize::from(is_assigned)
            }
        })
        .collect();
    let given: usize = race(calls).await.into_iter().sum();
    assert_eq!(given, 15);
    assert_eq!(owned(&session, &users).await, [3, 7, 5]);
}

/// Capacity is kept between rules that name the same user, also where there are no turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn capacity_is_kept_between_rules() {
    let session = session().await;
    let [ada, grace] = [
        user(&session, "ada", Some(5)).await,
        user(&session, "grace", Some(4)).await,
    ];
    let banks = LeadAssignmentRule {
        rank: -1,
        criteria: Some(Lead::INDUSTRY.eq("banking").into()),
        user_id: Some(ada),
        ..LeadAssignmentRule::new("Banks", AssignmentMethod::User)
    };
    session.lead_assignment_rules().create(banks).await.unwrap();
    let others = turns(&session, &[ada, grace]).await;
    let no_bank = Some(Lead::INDUSTRY.ne("banking").into());
    let no_bank = |rule: &mut LeadAssignmentRule| rule.criteria.clone_from(&no_bank);
    session
        .lead_assignment_rules()
        .update(others, no_bank)
        .await
        .unwrap();
    let calls = (0..24)
        .map(|number| {
            let session = session.clone();
            async move {
                let lead = Lead {
                    industry: Some(["banking", "farming"][number % 2].into()),
                    ..company("Globex")
                };
                session.leads().create(lead).await.unwrap().owner_id
            }
        })
        .collect();
    let given = race(calls).await.into_iter().flatten().count();
    assert_eq!(owned(&session, &[ada, grace]).await, [5, 4]);
    assert_eq!(given, 9);
}

/// C-208: a person is made a member by many at the same time, and is one once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_a_member_twice() {
    let session = session().await;
    let fair = session
        .campaigns()
        .create(Campaign::new("Fair"))
        .await
        .unwrap()
        .id;
    let mut leads = Vec::new();
    for _ in 0..4 {
        leads.push(session.leads().create(company("Globex")).await.unwrap().id);
    }
    let calls = (0..12_usize)
        .map(|number| {
            let (session, leads) = (session.clone(), leads.clone());
            async move {
                for lead in leads {
                    match number % 3 {
                        0 => drop(session.campaigns().add_member(fair, lead).await.unwrap()),
                        1 => {
                            let came = |lead: &mut Lead| lead.source.campaign_id = Some(fair);
                            session.leads().update(lead, came).await.unwrap();
                        }
                        _ => {
                            let all = Lead::COMPANY.eq("Globex");
                            session
                                .campaigns()
                                .add_members::<Lead>(fair, all, &())
                                .await
                                .unwrap();
                        }
                    }
                }
            }
        })
        .collect();
    race(calls).await;
    let members = session
        .campaign_members()
        .find(Find::new())
        .await
        .unwrap()
        .items;
    let mut counts: BTreeMap<Option<Id<Lead>>, usize> = BTreeMap::new();
    for member in &members {
        let member: &Record<CampaignMember> = member;
        *counts.entry(member.lead_id).or_default() += 1;
    }
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}
