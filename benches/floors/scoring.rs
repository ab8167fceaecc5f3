//! Scores: what the rules of a set give a lead, over the same conditions by hand.

use std::hint::black_box;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use crm_engine::Stamp;
use crm_engine::leads::{InterestLevel, Qualification, Rating};
use crm_engine::prelude::*;
use crm_engine::schema::{Meta, Registry};
use crm_engine::scoring::{
    CompiledRuleSet, LeadScoringRule, LeadScoringRuleSet, ScoringOperator as Op, ScoringRuleType,
};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};

/// How many leads are scored; few enough to stay in the processor's cache.
const LEADS: usize = 256;

const INDUSTRIES: [&str; 10] = [
    "software",
    "retail",
    "banking",
    "insurance",
    "pharma",
    "logistics",
    "energy",
    "media",
    "education",
    "public sector",
];
const SOURCES: [&str; 6] = ["fair", "web", "referral", "partner", "advert", "call"];
const COUNTRIES: [&str; 5] = ["CH", "DE", "AT", "FR", "US"];
const COMPANIES: [&str; 8] = [
    "Globex Software GmbH",
    "Initech AG",
    "Umbrella Pharma Inc.",
    "Acme Logistics Ltd",
    "Stark Energy",
    "Hooli Cloud LLC",
    "Wayne Holding SA",
    "Vandelay Import & Export",
];
const TITLES: [&str; 6] = [
    "Chief Executive Officer",
    "Head of Procurement",
    "Software Engineer",
    "Student",
    "Director of Sales",
    "Assistant",
];
const TAGS: [&str; 5] = ["fair", "webinar", "newsletter", "spam", "key"];
const SEGMENTS: [&str; 4] = ["gold", "silver", "bronze", "none"];

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn meta(number: usize, days_ago: i64) -> Meta {
    let at = now() - TimeDelta::days(days_ago);
    let by = Actor::System;
    Meta::first(Uuid::from_u128(number as u128 + 1), Stamp { at, by })
}

/// A lead with a value in each of the fields that the rules look at.
pub(crate) fn random_lead(places: &mut Places) -> Lead {
    let mut one = |of: &[&str]| Some(of[places.next(of.len())].to_owned());
    let mut lead = Lead {
        company: one(&COMPANIES),
        job_title: one(&TITLES),
        industry: one(&INDUSTRIES),
        ..Lead::default()
    };
    lead.source.lead_source = one(&SOURCES);
    lead.custom_fields = json!({ "segment": one(&SEGMENTS) });
    let country = one(&COUNTRIES).and_then(|code| TextValue::parse(&code).ok());
    lead.mailing_address = Some(Address {
        country,
        ..Address::default()
    });
    lead.tags = places
        .some(&TAGS, 2)
        .iter()
        .map(|tag| (*tag).to_owned())
        .collect();
    lead.tags.dedup();
    lead.employee_count = Some(i32::try_from(places.next(2_000)).unwrap());
    lead.annual_revenue = Some(Decimal::from(places.next(9_000_000)));
    lead.decision_maker = places.next(2) == 0;
    lead.interest_level = InterestLevel::ALL[places.next(InterestLevel::ALL.len())];
    lead.qualification_status = Qualification::ALL[places.next(Qualification::ALL.len())];
    lead.rating = Rating::ALL.get(places.next(4)).copied();
    let days = i64::try_from(places.next(200)).unwrap();
    lead.last_activity_at = Some(now() - TimeDelta::days(days));
    if places.next(2) == 0 {
        lead.email = EmailAddress::parse("ada@globex.example").ok();
    }
    lead
}

fn leads() -> Vec<Record<Lead>> {
    let mut places = Places(0x5EED);
    let lead = |number| Record::new(meta(number, 300), random_lead(&mut places));
    (0..LEADS).map(lead).collect()
}

pub(crate) type Plain = (&'static str, Op, Json, i32);

/// Fifty rules of all kinds.
pub(crate) fn fifty() -> Vec<Plain> {
    let mut rules: Vec<Plain> = Vec::new();
    for (place, industry) in INDUSTRIES.iter().enumerate() {
        rules.push(("industry", Op::Equals, json!(industry), place as i32 - 2));
    }
    for (place, source) in SOURCES.iter().enumerate() {
        rules.push((
            "lead_source",
            Op::Equals,
            json!(source),
            2 * place as i32 - 3,
        ));
    }
    for (place, country) in COUNTRIES.iter().enumerate() {
        rules.push((
            "mailing_country",
            Op::Equals,
            json!(country),
            place as i32 + 1,
        ));
    }
    for staff in [10, 50, 100, 250, 500, 1_000] {
        rules.push(("employee_count", Op::GreaterThan, json!(staff), 4));
    }
    for revenue in [100_000, 1_000_000, 5_000_000] {
        rules.push(("annual_revenue", Op::GreaterThan, json!(revenue), 5));
    }
    for (title, points) in [
        ("chief", 15),
        ("head", 10),
        ("director", 9),
        ("student", -20),
    ] {
        rules.push(("job_title", Op::Contains, json!(title), points));
    }
    for (name, points) in [("gmbh", 3), ("pharma", 4)] {
        rules.push(("company", Op::Contains, json!(name), points));
    }
    for (tag, points) in [("fair", 5), ("webinar", 6), ("spam", -30)] {
        rules.push(("tags", Op::Contains, json!(tag), points));
    }
    for (segment, points) in [("gold", 20), ("silver", 10)] {
        rules.push(("custom_fields.segment", Op::Equals, json!(segment), points));
    }
    for (days, points) in [(30, -5), (90, -10), (150, -10)] {
        rules.push(("last_activity_at", Op::OlderThan, json!(days), points));
    }
    rules.push(("interest_level", Op::In, json!(["high", "very_high"]), 10));
    rules.push(("interest_level", Op::Equals, json!("low"), -3));
    rules.push(("rating", Op::Equals, json!("hot"), 12));
    rules.push(("rating", Op::Equals, json!("cold"), -6));
    rules.push(("decision_maker", Op::Equals, json!(true), 8));
    rules.push(("email", Op::Exists, json!(null), 10));
    assert_eq!(rules.len(), 50);
    rules
}

/// The same fifty conditions by hand.
pub(crate) fn by_hand(lead: &Record<Lead>, now: DateTime<Utc>) -> i64 {
    let mut points = 0;
    let mut add = |is_met: bool, more: i64| {
        if is_met {
            points += more;
        }
    };
    let industry = lead.industry.as_deref();
    add(industry == Some("software"), -2);
    add(industry == Some("retail"), -1);
    add(industry == Some("banking"), 0);
    add(industry == Some("insurance"), 1);
    add(industry == Some("pharma"), 2);
    add(industry == Some("logistics"), 3);
    add(industry == Some("energy"), 4);
    add(industry == Some("media"), 5);
    add(industry == Some("education"), 6);
    add(industry == Some("public sector"), 7);
    let source = lead.source.lead_source.as_deref();
    add(source == Some("fair"), -3);
    add(source == Some("web"), -1);
    add(source == Some("referral"), 1);
    add(source == Some("partner"), 3);
    add(source == Some("advert"), 5);
    add(source == Some("call"), 7);
    let country = lead.mailing_address.as_ref();
    let country = country.and_then(|address| address.country.as_ref());
    let country = country.map(TextValue::as_str);
    add(country == Some("CH"), 1);
    add(country == Some("DE"), 2);
    add(country == Some("AT"), 3);
    add(country == Some("FR"), 4);
    add(country == Some("US"), 5);
    let staff = lead.employee_count;
    add(staff.is_some_and(|staff| staff > 10), 4);
    add(staff.is_some_and(|staff| staff > 50), 4);
    add(staff.is_some_and(|staff| staff > 100), 4);
    add(staff.is_some_and(|staff| staff > 250), 4);
    add(staff.is_some_and(|staff| staff > 500), 4);
    add(staff.is_some_and(|staff| staff > 1_000), 4);
    let revenue = lead.annual_revenue;
    add(
        revenue.is_some_and(|revenue| revenue > Decimal::from(100_000)),
        5,
    );
    add(
        revenue.is_some_and(|revenue| revenue > Decimal::from(1_000_000)),
        5,
    );
    add(
        revenue.is_some_and(|revenue| revenue > Decimal::from(5_000_000)),
        5,
    );
    let title = lead.job_title.as_deref().map(str::to_lowercase);
    let title = title.as_deref().unwrap_or_default();
    add(title.contains("chief"), 15);
    add(title.contains("head"), 10);
    add(title.contains("director"), 9);
    add(title.contains("student"), -20);
    let company = lead.company.as_deref().map(str::to_lowercase);
    let company = company.as_deref().unwrap_or_default();
    add(company.contains("gmbh"), 3);
    add(company.contains("pharma"), 4);
    add(lead.tags.iter().any(|tag| tag == "fair"), 5);
    add(lead.tags.iter().any(|tag| tag == "webinar"), 6);
    add(lead.tags.iter().any(|tag| tag == "spam"), -30);
    let segment = lead.custom_fields.get("segment").and_then(Json::as_str);
    add(segment == Some("gold"), 20);
    add(segment == Some("silver"), 10);
    let age = lead.last_activity_at.map(|at| now - at);
    add(age.is_some_and(|age| age > TimeDelta::days(30)), -5);
    add(age.is_some_and(|age| age > TimeDelta::days(90)), -10);
    add(age.is_some_and(|age| age > TimeDelta::days(150)), -10);
    let interest = lead.interest_level;
    let is_high = matches!(interest, InterestLevel::High | InterestLevel::VeryHigh);
    add(is_high, 10);
    add(interest == InterestLevel::Low, -3);
    add(lead.rating == Some(Rating::Hot), 12);
    add(lead.rating == Some(Rating::Cold), -6);
    add(lead.decision_maker, 8);
    add(lead.email.is_some(), 10);
    points
}

/// Ten rules for each of the fifty: over the same fields, with other values.
fn five_hundred() -> Vec<Plain> {
    let mut rules = fifty();
    for round in 1..10 {
        for (place, (field, operator, value, points)) in fifty().into_iter().enumerate() {
            let other = match &value {
                Json::String(text) if matches!(field, "industry" | "lead_source" | "tags") => {
                    json!(format!("{text} {round}"))
                }
                Json::String(text) if operator == Op::Contains => json!(format!("{text} {round}")),
                Json::String(text) if field.starts_with("custom_fields") => {
                    json!(format!("{text} {round}"))
                }
                Json::Number(number) => {
                    let number = number.as_i64().unwrap();
                    json!(number + i64::from(round) * (number / 20 + 1))
                }
                same => same.clone(),
            };
            let points = if place % 2 == round as usize % 2 {
                points
            } else {
                -points
            };
            rules.push((field, operator, other, points));
        }
    }
    rules
}

pub(crate) fn rule(
    set: Id<LeadScoringRuleSet>,
    number: usize,
    (field, operator, value, points): Plain,
) -> LeadScoringRule {
    let kind = ScoringRuleType::Firmographic;
    let name = format!("Rule {number}");
    LeadScoringRule {
        condition_value: Some(value).filter(|value| !value.is_null()),
        ..LeadScoringRule::new(set, name, kind, field, operator, points)
    }
}

fn compile(rules: Vec<Plain>) -> CompiledRuleSet {
    let set = Record::new(meta(0, 1), LeadScoringRuleSet::new("Bench"));
    let rules: Vec<Record<LeadScoringRule>> = rules
        .into_iter()
        .enumerate()
        .map(|(number, plain)| Record::new(meta(number, 1), rule(set.id, number, plain)))
        .collect();
    CompiledRuleSet::new(&set, &rules, &Registry::default()).unwrap()
}

/// Scores one lead after the other, by rules and by hand.
fn scoring(
    options: &Options,
    ours: impl Fn(&Record<Lead>) -> i64,
    floor: impl Fn(&Record<Lead>) -> i64,
) -> Medians {
    let leads = leads();
    let (mut one, mut other) = (Places(0x5EED), Places(0x5EED));
    options.measure(
        |count| score_some(&leads, &mut one, count, &ours),
        |count| score_some(&leads, &mut other, count, &floor),
    )
}

fn score_some(
    leads: &[Record<Lead>],
    places: &mut Places,
    count: usize,
    score: impl Fn(&Record<Lead>) -> i64,
) -> Duration {
    let chosen: Vec<usize> = (0..count).map(|_| places.next(LEADS)).collect();
    timed(|| {
        for place in chosen {
            black_box(score(black_box(&leads[place])));
        }
    })
}

/// The points of a lead by 50 rules, over the same conditions by hand.
pub(crate) fn score_50(options: &Options) -> Medians {
    let rules = compile(fifty());
    let now = now();
    for lead in leads() {
        assert_eq!(rules.points(&lead, &[], now), by_hand(&lead, now));
    }
    scoring(
        options,
        |lead| rules.points(lead, &[], now),
        |lead| by_hand(lead, now),
    )
}

/// The points of a lead by 500 rules, over those by 50.
pub(crate) fn score_500(options: &Options) -> Medians {
    let (many, few) = (compile(five_hundred()), compile(fifty()));
    let now = now();
    scoring(
        options,
        |lead| many.points(lead, &[], now),
        |lead| few.points(lead, &[], now),
    )
}
