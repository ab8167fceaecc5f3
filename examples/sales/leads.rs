//! Leads: they come, are scored, given away, explained and converted.

use std::collections::BTreeSet;

use crm_engine::leads::assignment::AssignmentMethod;
use crm_engine::leads::{ConversionDeal, LeadSource};
use crm_engine::prelude::*;
use crm_engine::scoring::{GradeBands, ScoringOperator, ScoringRuleType};
use serde_json::json;

use crate::{BoxError, World};

/// A campaign brings leads; rules score them and give them away.
pub(crate) async fn arrive(world: &World) -> Result<Id<Lead>, BoxError> {
    let session = &world.session;
    println!("LEADS");
    let fair = session
        .campaigns()
        .create(Campaign::new("Winter fair"))
        .await?;
    let lead = |first: &str, last: &str, company: &str, phone: &str, segment: &str| Lead {
        name: Some(PersonName::new(first, last)),
        company: Some(company.into()),
        email: EmailAddress::parse(&format!("{first}@{company}.example")).ok(),
        phone: PhoneNumber::parse(phone).ok(),
        source: LeadSource {
            campaign_id: Some(fair.id),
            ..LeadSource::default()
        },
        custom_fields: json!({"segment": segment}),
        ..Lead::default()
    };
    let leads = vec![
        lead("Hank", "Scorpio", "Globex", "+1 202 555 0143", "enterprise"),
        lead("Bill", "Lumbergh", "Initech", "+1 202 555 0178", "small"),
        lead("Gavin", "Belson", "Hooli", "", "enterprise"),
        lead("Milton", "Waddams", "Initrode", "", "small"),
    ];
    session.leads().create_all(leads).await?;

    // A draft changes nothing: it is simulated first.
    let sets = || session.scoring_rule_sets();
    let draft = sets().create_standard("2026").await?.id;
    let bands = GradeBands::default()
        .with("A", 80)
        .with("B", 40)
        .with("C", 0);
    sets()
        .update(draft, |set| set.grades = bands.clone())
        .await?;
    let segment = LeadScoringRule {
        condition_value: Some(json!("enterprise")),
        ..LeadScoringRule::new(
            draft,
            "Enterprise",
            ScoringRuleType::Firmographic,
            "custom_fields.segment",
            ScoringOperator::Equals,
            40,
        )
    };
    session.scoring_rules().create(segment).await?;
    for ((_, grade), count) in sets().simulate(draft, Filter::all(), 0, &()).await?.grades {
        println!("  {count} would get grade {}", grade.unwrap_or_default());
    }
    sets().publish(draft).await?;
    let scored = session.leads().rescore_all(&()).await?;
    println!("  published; {} leads have another score", scored.changed);

    let turns = LeadAssignmentRule::new("By turns", AssignmentMethod::RoundRobin);
    let turns = session.lead_assignment_rules().create(turns).await?;
    for rep in &world.reps {
        session
            .lead_assignment_rules()
            .add_assignee(turns.id, rep.id)
            .await?;
    }
    let given = session.leads().assign_unowned(&()).await?;
    println!(
        "  {} assigned, for {} nobody was free",
        given.assigned, given.nobody_free
    );
    let by_score = Find::new().sort(Lead::LEAD_SCORE.desc());
    let leads = session.leads().find(by_score).await?.items;
    for lead in &leads {
        let (company, grade) = (lead.company.as_deref(), lead.grade.as_deref());
        let (company, grade) = (company.unwrap_or("?"), grade.unwrap_or("-"));
        let owner = world.name_of(lead.owner_id);
        println!("    {:>3} {grade}  {company:<10} {owner}", lead.lead_score);
    }
    let best = leads.first().ok_or("no lead")?;
    Ok(best.id)
}

/// A lead is explained, qualified, and becomes a deal of a contact who was known before.
pub(crate) async fn convert(world: &World, lead: Id<Lead>) -> Result<Id<Deal>, BoxError> {
    let session = &world.session;
    println!("\nCONVERSION");
    session
        .duplicate_rules()
        .create(DuplicateRule::contacts())
        .await?;
    let known = Contact {
        email: Some(EmailAddress::parse("hank@globex.example")?),
        ..Contact::named("H.", "Scorpio")
    };
    session.contacts().create(known).await?;

    let told = session.leads().explain(lead).await?;
    for rule in &told.rules {
        println!("  {:+4} {}", rule.points, rule.name);
    }
    println!(
        "  {:>4} grade {}",
        told.score,
        told.grade.as_deref().unwrap_or("-")
    );
    session
        .leads()
        .qualify(lead, Qualification::SalesQualified)
        .await?;

    let rollout = ConversionDeal {
        currency: Some(Currency::EUR),
        ..ConversionDeal::new("Rollout")
    };
    let mut plan = ConversionPlan::with_deal(rollout);
    let candidates = session.leads().candidates(lead).await?;
    if let Some(found) = candidates.contacts.matches.first() {
        let alike = found.explanation.comparisons.iter();
        let alike: BTreeSet<_> = alike
            .filter(|one| one.passed)
            .map(|one| &*one.field)
            .collect();
        println!("  a known contact is like it by {alike:?}");
        plan = plan.into_contact(found.record.id.into());
    }
    let converted = session.leads().convert(lead, plan).await?;
    println!("  the lead is {}", converted.lead.status);
    Ok(converted.deal.ok_or("no deal")?)
}
