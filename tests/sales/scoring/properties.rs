//! Scores and histories under any interleaving.

use std::sync::atomic::{AtomicUsize, Ordering};

use ScoringOperator as Op;
use chrono::TimeDelta;
use crm_engine::engine::ManualClock;
use crm_engine::leads::ConversionPlan;
use crm_engine::merging::{Choices, Merge};
use crm_engine::prelude::*;
use crm_engine::scoring::{ACTIVITY_COUNT, Decay, ScoringOperator};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::{Set, assert_history_says_the_score, at_a_set_time, company, draft, held, publish};
use crate::common;
use crate::common::{rows_of, tenant};

/// What happens to a lead.
#[derive(Clone, Debug)]
enum Step {
    Adjust(usize, i32),
    Industry(usize, Option<usize>),
    Staff(usize, i32),
    Tags(usize, Vec<&'static str>),
    Talk(usize),
    Days(i64),
    Rescore(usize),
    RescoreAll,
    Publish(usize),
    Archive(usize),
    Unarchive(usize),
    Together(Vec<(usize, i32)>),
    Forget,
    Merge(usize, usize),
    Unmerge,
    Convert(usize),
    Undo(usize),
}

const INDUSTRIES: [&str; 3] = ["software", "retail", "banking"];

fn any_step() -> impl Strategy<Value = Step> {
    let lead = || 0..3_usize;
    prop_oneof![
        4 => (lead(), -100..=100_i32).prop_map(|(lead, points)| Step::Adjust(lead, points)),
        3 => (lead(), prop::option::of(0..3_usize)).prop_map(|(l, i)| Step::Industry(l, i)),
        3 => (lead(), 0..200_i32).prop_map(|(lead, staff)| Step::Staff(lead, staff)),
        2 => (lead(), prop::sample::subsequence(vec!["fair", "spam"], 0..=2))
            .prop_map(|(lead, tags)| Step::Tags(lead, tags)),
        2 => lead().prop_map(Step::Talk),
        2 => (0..20_i64).prop_map(Step::Days),
        1 => lead().prop_map(Step::Rescore),
        2 => Just(Step::RescoreAll),
        2 => (0..3_usize).prop_map(Step::Publish),
        1 => lead().prop_map(Step::Archive),
        1 => lead().prop_map(Step::Unarchive),
        2 => prop::collection::vec((lead(), -50..50_i32), 1..4).prop_map(Step::Together),
        1 => Just(Step::Forget),
        2 => (lead(), lead()).prop_map(|(one, other)| Step::Merge(one, other)),
        2 => Just(Step::Unmerge),
        2 => lead().prop_map(Step::Convert),
        2 => lead().prop_map(Step::Undo),
    ]
}

/// whatever happens in which order, the score is the clamped sum of its history; a simulation
/// tells what publishing and scoring all leads then does.
#[test]
fn the_score_is_the_clamped_sum_of_its_history_under_any_interleaving() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (crm, clock) = runtime.block_on(async { at_a_set_time() });
    let number = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config {
        cases: common::cases(20),
        failure_persistence: None,
        ..Config::default()
    });
    let steps = prop::collection::vec(any_step(), 1..25);
    let outcome = runner.run(&steps, |steps| {
        let subdomain = format!("score-{}", number.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            let (onboarded, session) = tenant(&crm, &subdomain).await;
            let mut leads = Vec::new();
            for _ in 0..3 {
                let person = Lead {
                    name: Some(PersonName::new("Ada", "Lovelace")),
                    ..company("x", 1)
                };
                leads.push(session.leads().create(person).await.unwrap().id);
            }
            let mut published = 0;
            for step in steps {
                play(
                    &session,
                    onboarded.admin,
                    &clock,
                    &leads,
                    step,
                    &mut published,
                )
                .await;
                for lead in &leads {
                    if session.leads().get(*lead).await.is_ok() {
                        assert_history_says_the_score(&session, *lead).await;
                    }
                }
            }
            // What a simulation tells is what comes.
            let last = three_rules(&session, published, 1).await;
            let all = Filter::all();
            let told = session
                .scoring_rule_sets()
                .simulate(last, all, 10, &())
                .await;
            let told = told.unwrap();
            publish(&session, last).await;
            let before: Vec<_> = rows_of(&session, "lead").await;
            let done = session.leads().rescore_all(&()).await.unwrap();
            assert_eq!(
                (told.checked, told.changed, told.regraded),
                (done.checked, done.changed, done.regraded)
            );
            for row in before.into_iter().filter(|row| !row.is_deleted()) {
                let lead = session.leads().get(Id::new(row.id())).await.unwrap();
                let expected = told.leads.iter().find(|one| one.lead == lead.id);
                let expected = expected.map(|one| (one.to, one.to_grade.clone()));
                let before = Record::<Lead>::from_row(row).unwrap();
                let same = (before.lead_score, before.grade.clone());
                assert_eq!(
                    (lead.lead_score, lead.grade.clone()),
                    expected.unwrap_or(same)
                );
                assert_history_says_the_score(&session, lead.id).await;
            }
        });
        Ok(())
    });
    outcome.unwrap();
}

/// A draft of one of three kinds.
async fn three_rules(session: &Session, number: usize, kind: usize) -> Set {
    let rules = [
        (
            "industry",
            Op::In,
            json!(["software", "retail"]),
            [30, 80, -40][kind],
        ),
        (
            "employee_count",
            Op::GreaterThan,
            json!(50),
            [30, 70, 20][kind],
        ),
        ("tags", Op::Contains, json!("spam"), -60),
        (ACTIVITY_COUNT, Op::GreaterThan, json!(1), [0, 5, 30][kind]),
    ];
    let name = format!("Set {number}");
    let set = draft(session, &name, &rules).await;
    let decays = [
        None,
        Some(Decay::half_life(7)),
        Some(Decay::per_period(5, 9)),
    ];
    session
        .scoring_rule_sets()
        .update(set, |set| set.decay = decays[kind].clone())
        .await
        .unwrap();
    set
}

async fn play(
    session: &Session,
    user: Id<User>,
    clock: &ManualClock,
    leads: &[Id<Lead>],
    step: Step,
    published: &mut usize,
) {
    let change = async |lead: usize, change: &(dyn Fn(&mut Lead) + Send + Sync)| {
        session.leads().update(leads[lead], change).await.unwrap();
    };
    // Those that were merged away or converted are not changed.
    let is_open = async |lead: usize| {
        let lead = session.leads().get(leads[lead]).await;
        lead.is_ok_and(|lead| lead.conversion.is_none())
    };
    let touched: Vec<usize> = match &step {
        Step::Adjust(lead, _)
        | Step::Industry(lead, _)
        | Step::Staff(lead, _)
        | Step::Tags(lead, _)
        | Step::Talk(lead)
        | Step::Rescore(lead)
        | Step::Archive(lead)
        | Step::Unarchive(lead)
        | Step::Convert(lead) => vec![*lead],
        Step::Together(changes) => changes.iter().map(|(lead, _)| *lead).collect(),
        Step::Merge(one, other) => vec![*one, *other],
        _ => Vec::new(),
    };
    for lead in touched {
        if !is_open(lead).await {
            return;
        }
    }
    match step {
        Step::Forget => {
            let all = session.activities().find(Find::new()).await.unwrap();
            if let Some(last) = all.items.last() {
                session.activities().delete(last.id).await.unwrap();
            }
        }
        Step::Merge(one, other) => {
            if one != other {
                let mut records = session.leads();
                let merged = records
                    .merge_into(leads[one], &[leads[other]], &Choices::new(), None)
                    .await;
                merged.unwrap();
            }
        }
        Step::Unmerge => {
            let merges = session.merges().find(Merge::UNDONE_AT.is_null()).await;
            if let Some(last) = merges.unwrap().items.last() {
                // Refused where the survivor was converted since.
                drop(session.merges().undo(last.id).await);
            }
        }
        Step::Convert(lead) => {
            // Refused where it is archived.
            drop(
                session
                    .leads()
                    .convert(leads[lead], ConversionPlan::new())
                    .await,
            );
        }
        Step::Undo(lead) => drop(session.leads().undo_conversion(leads[lead]).await),
        Step::Adjust(lead, points) => {
            let adjusted = session.leads().adjust(leads[lead], points, "by hand").await;
            assert_eq!(adjusted.is_ok(), points != 0);
        }
        Step::Industry(lead, industry) => {
            let industry = industry.map(|place| INDUSTRIES[place].to_owned());
            change(lead, &|lead| lead.industry = industry.clone()).await;
        }
        Step::Staff(lead, staff) => change(lead, &|lead| lead.employee_count = Some(staff)).await,
        Step::Tags(lead, tags) => {
            let tags: Vec<String> = tags.into_iter().map(Into::into).collect();
            change(lead, &|lead| lead.tags = tags.clone()).await;
        }
        Step::Talk(lead) => {
            let call = held(user, leads[lead], ActivityType::Call);
            let call = session.activities().create(call).await.unwrap();
            session.activities().complete(call.id, None).await.unwrap();
        }
        Step::Days(days) => clock.advance(TimeDelta::days(days)),
        Step::Rescore(lead) => drop(session.leads().rescore(leads[lead]).await.unwrap()),
        Step::RescoreAll => drop(session.leads().rescore_all(&()).await.unwrap()),
        Step::Publish(kind) => {
            let set = three_rules(session, *published, kind).await;
            publish(session, set).await;
            *published += 1;
        }
        Step::Archive(lead) => drop(session.leads().archive(leads[lead]).await.unwrap()),
        Step::Unarchive(lead) => drop(session.leads().unarchive(leads[lead]).await.unwrap()),
        Step::Together(changes) => {
            let mut work = session.begin();
            for (lead, points) in changes {
                if points % 3 == 0 {
                    let staff = points.abs();
                    work.leads()
                        .update(leads[lead], |lead| lead.employee_count = Some(staff))
                        .await
                        .unwrap();
                } else {
                    work.leads()
                        .adjust(leads[lead], points, "two")
                        .await
                        .unwrap();
                }
            }
            work.commit().await.unwrap();
        }
    }
}
