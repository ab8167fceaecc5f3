//! Who gets a lead: rules in their order, turns, territories, capacity, batches and previews.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crm_engine::error::codes;
use crm_engine::leads::LeadStatus;
use crm_engine::leads::assignment::{AssignmentMethod, AssignmentOutcome, LeadAssignmentRule};
use crm_engine::prelude::*;
use crm_engine::query::Criteria;
use crm_engine::territories::{Area, Boundaries};
use crm_engine::value::Country;
use proptest::prelude::*;
use serde_json::json;

use super::{cases, common, company, lead, session, user};

async fn rule(session: &Session, rule: LeadAssignmentRule) -> Id<LeadAssignmentRule> {
    session
        .lead_assignment_rules()
        .create(rule)
        .await
        .unwrap()
        .id
}

/// A rule that gives all leads to users by turns.
pub(crate) async fn turns(session: &Session, users: &[Id<User>]) -> Id<LeadAssignmentRule> {
    let by_turns = LeadAssignmentRule::new("All", AssignmentMethod::RoundRobin);
    let id = rule(session, by_turns).await;
    for user in users {
        session
            .lead_assignment_rules()
            .add_assignee(id, *user)
            .await
            .unwrap();
    }
    id
}

fn fixed(name: &str, rank: i32, user: Id<User>, criteria: Option<Criteria>) -> LeadAssignmentRule {
    LeadAssignmentRule {
        rank,
        criteria,
        user_id: Some(user),
        ..LeadAssignmentRule::new(name, AssignmentMethod::User)
    }
}

/// The first rule that takes a lead decides, by own and custom fields, whichever way the lead comes;
/// an owner who was given stays.
#[tokio::test]
async fn rules_are_asked_in_their_order() {
    let session = session().await;
    let [ada, grace, alan] = [
        user(&session, "ada", None).await,
        user(&session, "grace", None).await,
        user(&session, "alan", None).await,
    ];
    // Without rules nobody gets anything.
    let early = lead(&session, company("Early")).await;
    assert_eq!((early.owner_id, early.assigned_at), (None, None));
    let banks = Criteria::from(Lead::INDUSTRY.eq("banking"));
    let large = Criteria::from(Filter::eq("custom_fields.segment", "enterprise"));
    rule(&session, fixed("All", 9, alan, None)).await;
    rule(&session, fixed("Banks", 2, ada, Some(banks))).await;
    let large = rule(&session, fixed("Large", 1, grace, Some(large))).await;
    let bank = Lead {
        industry: Some("banking".into()),
        ..company("Bank")
    };
    let large_bank = Lead {
        custom_fields: json!({"segment": "enterprise"}),
        ..bank.clone()
    };
    let made = lead(&session, large_bank.clone()).await;
    assert_eq!(made.owner_id, Some(grace));
    assert_eq!(made.assigned_at, Some(made.created.at));
    assert_eq!(lead(&session, bank.clone()).await.owner_id, Some(ada));
    assert_eq!(lead(&session, company("Farm")).await.owner_id, Some(alan));
    let given = Lead {
        owner_id: Some(alan),
        ..large_bank.clone()
    };
    assert_eq!(lead(&session, given).await.owner_id, Some(alan));
    // What nobody works on is nobody's.
    let lost = Lead {
        status: LeadStatus::Lost,
        ..bank.clone()
    };
    let lost = lead(&session, lost).await;
    assert_eq!(lost.owner_id, None);
    let outcome = session.leads().assign(lost.id).await.unwrap().outcome;
    assert_eq!(outcome, AssignmentOutcome::NotOpen);
    // JSON and units of work.
    let body = json!({"company": "Bank", "industry": "banking"});
    let by_name = session
        .object("lead")
        .await
        .unwrap()
        .create(body.as_object().unwrap())
        .await;
    assert_eq!(by_name.unwrap().get("owner_id").as_uuid(), Some(ada.uuid()));
    let mut work = session.begin();
    let staged = work.leads().create(bank.clone()).await.unwrap();
    work.commit().await.unwrap();
    let stored = session.leads().get(staged.id).await.unwrap();
    assert_eq!(stored.owner_id, Some(ada));
    // A rule that is not active is not asked.
    let off = |rule: &mut LeadAssignmentRule| rule.is_active = false;
    session
        .lead_assignment_rules()
        .update(large, off)
        .await
        .unwrap();
    assert_eq!(lead(&session, large_bank).await.owner_id, Some(ada));
    // By hand, and back to the rules.
    let moved = session
        .leads()
        .update(made.id, |lead| lead.owner_id = Some(alan))
        .await
        .unwrap();
    assert_eq!(moved.owner_id, Some(alan));
    let outcome = session.leads().assign(made.id).await.unwrap();
    assert_eq!(outcome.outcome, AssignmentOutcome::Owned);
    assert_eq!(outcome.lead.owner_id, Some(alan));
    session
        .leads()
        .update(made.id, |lead| lead.owner_id = None)
        .await
        .unwrap();
    let outcome = session.leads().assign(made.id).await.unwrap();
    assert_eq!(outcome.lead.owner_id, Some(ada));
    assert!(matches!(outcome.outcome, AssignmentOutcome::Assigned { user, .. } if user == ada));
}

#[tokio::test]
async fn faulty_rules_are_told() {
    let session = session().await;
    let grace = user(&session, "grace", None).await;
    let mut rules = session.lead_assignment_rules();
    let nobody = LeadAssignmentRule::new("Nobody", AssignmentMethod::User);
    let error = rules.create(nobody).await.unwrap_err();
    let fault = &error.field_errors()[0];
    assert_eq!(
        (fault.path.as_str(), fault.code),
        ("user_id", codes::REQUIRED)
    );
    for (criteria, code) in [
        (Filter::eq("no_such_field", 1), "unknown_field"),
        (Filter::eq("owner_id", grace.uuid()), "unsupported"),
    ] {
        let faulty = fixed("Faulty", 1, grace, Some(criteria.into()));
        let error = rules.create(faulty).await.unwrap_err();
        assert_eq!(error.field_errors()[0].path, "criteria");
        assert_eq!(error.field_errors()[0].code, code);
    }
    // The user is gone for good, the rule stays and gives nobody anything.
    let fine = rules.create(fixed("Fine", 1, grace, None)).await.unwrap();
    session.users().delete(grace).await.unwrap();
    let stored = session.lead_assignment_rules().get(fine.id).await.unwrap();
    assert_eq!(stored.user_id, None);
    let made = lead(&session, company("Globex")).await;
    let outcome = session.leads().assign(made.id).await.unwrap().outcome;
    assert_eq!(outcome, AssignmentOutcome::NobodyFree);
}

/// Turns go around among named users and members of a team; who leaves or is not active is skipped.
#[tokio::test]
async fn everybody_gets_a_turn() {
    let session = session().await;
    let mut users = Vec::new();
    for name in ["ada", "grace", "alan"] {
        users.push(user(&session, name, None).await);
    }
    let team = session.teams().create(Team::new("West")).await.unwrap();
    for user in &users[1..] {
        session
            .teams()
            .add_member(team.id, *user, TeamRole::Member)
            .await
            .unwrap();
    }
    let both = LeadAssignmentRule {
        team_id: Some(team.id),
        ..LeadAssignmentRule::new("West and Ada", AssignmentMethod::RoundRobin)
    };
    let both = rule(&session, both).await;
    let mut rules = session.lead_assignment_rules();
    rules.add_assignee(both, users[0]).await.unwrap();
    rules.add_assignee(both, users[0]).await.unwrap();
    assert_eq!(rules.assignees(both).await.unwrap().len(), 1);
    let next = async || lead(&session, company("Globex")).await.owner_id.unwrap();
    let mut got = Vec::new();
    for _ in 0..6 {
        got.push(next().await);
    }
    assert_eq!(got, [users.clone(), users.clone()].concat());
    let off = |user: &mut User| user.status = crm_engine::identity::UserStatus::Inactive;
    session.users().update(users[0], off).await.unwrap();
    assert_eq!(
        [next().await, next().await, next().await],
        [users[1], users[2], users[1]]
    );
    session
        .teams()
        .remove_member(team.id, users[2])
        .await
        .unwrap();
    assert_eq!([next().await, next().await], [users[1], users[1]]);
    let on = |user: &mut User| user.status = crm_engine::identity::UserStatus::Active;
    session.users().update(users[0], on).await.unwrap();
    assert_eq!([next().await, next().await], [users[0], users[1]]);
    session
        .lead_assignment_rules()
        .remove_assignee(both, users[0])
        .await
        .unwrap();
    assert_eq!(next().await, users[1]);
    let gone = session
        .lead_assignment_rules()
        .remove_assignee(both, users[0])
        .await;
    assert_eq!(gone.unwrap_err().code(), "not_found");
    // Several in one commit take turns too, and one that fails takes none.
    session
        .teams()
        .add_member(team.id, users[2], TeamRole::Member)
        .await
        .unwrap();
    let mut work = session.begin();
    work.leads().create(company("One")).await.unwrap();
    work.leads().create(Lead::default()).await.unwrap_err();
    work.leads().create(company("Two")).await.unwrap();
    work.commit().await.unwrap();
    let find = Find::from(Lead::COMPANY.one_of(["One", "Two"]));
    let leads = session.leads().find(find).await.unwrap().items;
    let owners: Vec<_> = leads.iter().filter_map(|lead| lead.owner_id).collect();
    assert_eq!(owners, [users[2], users[1]]);
}

/// By territory: the manager of the deepest one that has the lead's address.
#[tokio::test]
async fn leads_go_to_who_looks_after_their_place() {
    let session = session().await;
    let [swiss, zurich] = [
        user(&session, "swiss", None).await,
        user(&session, "zurich", Some(1)).await,
    ];
    let area = |country: &str| Area::of(Country::parse(country).unwrap());
    let country = Territory {
        boundaries: Some(Boundaries(vec![area("CH")])),
        manager_id: Some(swiss),
        ..Territory::new("Switzerland")
    };
    let country = session.territories().create(country).await.unwrap();
    let town = Territory {
        parent_territory_id: Some(country.id),
        boundaries: Some(Boundaries(vec![area("CH").with_prefix("80")])),
        manager_id: Some(zurich),
        ..Territory::new("Zürich")
    };
    let town = session.territories().create(town).await.unwrap();
    let by_place = LeadAssignmentRule::new("By place", AssignmentMethod::Territory);
    rule(&session, by_place).await;
    let at = |country: &str, code: &str| Lead {
        mailing_address: Some(Address {
            country: Some(Country::parse(country).unwrap()),
            postal_code: Some(code.into()),
            ..Address::default()
        }),
        ..company("Globex")
    };
    assert_eq!(lead(&session, at("CH", "3000")).await.owner_id, Some(swiss));
    assert_eq!(
        lead(&session, at("CH", "8001")).await.owner_id,
        Some(zurich)
    );
    // The manager is at capacity, and no other rule takes it.
    let full = lead(&session, at("CH", "8001")).await;
    assert_eq!(full.owner_id, None);
    let outcome = session.leads().assign(full.id).await.unwrap().outcome;
    assert_eq!(outcome, AssignmentOutcome::NobodyFree);
    let abroad = lead(&session, at("FR", "8001")).await;
    assert_eq!(abroad.owner_id, None);
    assert_eq!(lead(&session, company("Nowhere")).await.owner_id, None);
    // The next manager has room.
    let next = |territory: &mut Territory| territory.manager_id = Some(swiss);
    session.territories().update(town.id, next).await.unwrap();
    let outcome = session.leads().assign(full.id).await.unwrap();
    assert_eq!(outcome.lead.owner_id, Some(swiss));
}

/// All leads without an owner at once: the preview says what happens, a stop leaves the rest, and
/// whoever is at capacity gets nothing.
#[tokio::test]
async fn leads_without_owner_are_assigned_at_once() {
    let session = session().await;
    let [ada, grace] = [
        user(&session, "ada", Some(400)).await,
        user(&session, "grace", Some(250)).await,
    ];
    let by_hand = Lead {
        owner_id: Some(grace),
        ..company("By hand")
    };
    lead(&session, by_hand).await;
    let many = (0..700).map(|number| company(&format!("Lead {number}")));
    session.leads().create_all(many.collect()).await.unwrap();
    let closed = Lead {
        status: LeadStatus::Disqualified,
        ..company("Closed")
    };
    lead(&session, closed).await;
    let nothing = session.leads().assign_unowned(&()).await.unwrap();
    assert_eq!((nothing.checked, nothing.without_rule), (700, 700));
    turns(&session, &[ada, grace]).await;
    let preview = session.leads().preview_assignment(5, &()).await.unwrap();
    assert_eq!(preview.proposed.len(), 5);
    let waiting = Lead::OWNER_ID.is_null();
    assert_eq!(
        session.leads().count(waiting).await.unwrap(),
        701,
        "nothing was written"
    );
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let some = session.leads().assign_unowned(&stop).await.unwrap();
    assert!(some.is_stopped);
    let rest = session.leads().assign_unowned(&()).await.unwrap();
    assert_eq!(some.assigned + rest.assigned, preview.assignments.assigned);
    assert_eq!(preview.assignments.assigned, 400 + 249);
    assert_eq!(rest.nobody_free, 700 - 649);
    for proposed in preview.proposed {
        let stored = session.leads().get(proposed.lead).await.unwrap();
        assert_eq!(stored.owner_id, Some(proposed.user));
    }
    for (user, most) in [(ada, 400), (grace, 250)] {
        let owned = session
            .leads()
            .count(Lead::OWNER_ID.eq(user))
            .await
            .unwrap();
        assert_eq!(owned, most);
    }
    let mut work = session.begin();
    let error = work.leads().assign_unowned(&()).await.unwrap_err();
    assert_eq!(error.code(), "forbidden");
}

/// Whatever happens to leads and users: a rule never brings anybody above the capacity, nor gives a
/// lead to who is not active, and it leaves a lead alone only if nobody is free.
#[test]
fn rules_keep_to_the_capacity_whatever_happens() {
    let step = (0..5_usize, 0..3_usize, 0..12_usize);
    let strategy = (
        prop::collection::vec(prop::option::of(0..4_u32), 3),
        prop::collection::vec(step, 1..40),
    );
    cases(
        12,
        common::crm,
        strategy,
        |_, session, (capacities, steps)| async move {
            let mut users = Vec::new();
            for (number, capacity) in capacities.iter().enumerate() {
                users.push(user(&session, &format!("user{number}"), *capacity).await);
            }
            turns(&session, &users).await;
            // Who owns it, and whether it is open.
            let mut known: BTreeMap<Id<Lead>, (Option<Id<User>>, bool)> = BTreeMap::new();
            let mut active = [true; 3];
            for (what, who, which) in steps {
                let open = |known: &BTreeMap<Id<Lead>, (Option<Id<User>>, bool)>, user| {
                    let owned = known.values().filter(|one| **one == (Some(user), true));
                    u32::try_from(owned.count()).unwrap()
                };
                let chosen = known.keys().nth(which).copied();
                match (what, chosen) {
                    (0 | 1, _) => {
                        let free: Vec<_> = (0..3)
                            .filter(|place| active[*place])
                            .filter(|place| {
                                let most = capacities[*place];
                                most.is_none_or(|most| open(&known, users[*place]) < most)
                            })
                            .map(|place| users[place])
                            .collect();
                        let made = lead(&session, company("Globex")).await;
                        match made.owner_id {
                            Some(owner) => prop_assert!(free.contains(&owner)),
                            None => prop_assert!(free.is_empty()),
                        }
                        known.insert(made.id, (made.owner_id, true));
                    }
                    // By hand, whatever the capacity.
                    (2, Some(id)) => {
                        let change = |lead: &mut Lead| lead.owner_id = Some(users[who]);
                        session.leads().update(id, change).await.unwrap();
                        known.get_mut(&id).unwrap().0 = Some(users[who]);
                    }
                    (3, Some(id)) => {
                        let one = known.get_mut(&id).unwrap();
                        if one.1 {
                            session.leads().lose(id, "no budget").await.unwrap();
                        } else {
                            session.leads().reopen(id).await.unwrap();
                        }
                        one.1 = !one.1;
                    }
                    (4, _) => {
                        active[who] = !active[who];
                        let status = if active[who] {
                            crm_engine::identity::UserStatus::Active
                        } else {
                            crm_engine::identity::UserStatus::Suspended
                        };
                        let change = |user: &mut User| user.status = status;
                        session.users().update(users[who], change).await.unwrap();
                    }
                    _ => {}
                }
            }
            Ok(())
        },
    );
}
