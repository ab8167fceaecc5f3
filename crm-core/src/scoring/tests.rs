//! A compiled rule set gives what its rules give one by one, whatever the rules and the leads.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::condition::{Circumstances, bind};
use super::*;
use crate::Id;
use crate::activities::{ActivityStatus, ActivityType};
use crate::error::{Faults, codes};
use crate::leads::{Lead, LeadStatus, Rating};
use crate::record::{Actor, Record, Stamp};
use crate::schema::{
    CheckCustomFields, CustomFieldSchema, CustomFields, CustomWrite, Entity, FieldSchema,
    FieldType, Meta, Registry, StorageKind,
};
use crate::value::{EmailAddress, Score, TextValue};

fn now() -> DateTime<Utc> {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn meta(id: u128, days_ago: i64) -> Meta {
    let at = now() - TimeDelta::days(days_ago);
    let by = Actor::System;
    Meta::first(Uuid::from_u128(id), Stamp { at, by })
}

fn set(set: LeadScoringRuleSet) -> Record<LeadScoringRuleSet> {
    Record::new(meta(1, 100), set)
}

fn rule(field: &str, operator: ScoringOperator, value: Json, points: i32) -> LeadScoringRule {
    let kind = ScoringRuleType::Behavioral;
    let id = Id::new(Uuid::from_u128(1));
    let rule = LeadScoringRule::new(id, "Rule", kind, field, operator, points);
    LeadScoringRule {
        condition_value: Some(value).filter(|value| !value.is_null()),
        ..rule
    }
}

fn records(rules: Vec<LeadScoringRule>) -> Vec<Record<LeadScoringRule>> {
    let numbered = rules.into_iter().zip(100..);
    numbered
        .map(|(rule, number)| {
            let name = format!("Rule {number}");
            Record::new(meta(number, 100), LeadScoringRule { name, ..rule })
        })
        .collect()
}

fn compile(of: LeadScoringRuleSet, rules: Vec<LeadScoringRule>) -> CompiledRuleSet {
    CompiledRuleSet::new(&set(of), &records(rules), &Registry::default()).unwrap()
}

fn new_set() -> LeadScoringRuleSet {
    LeadScoringRuleSet::new("Set")
}

fn points(rules: Vec<LeadScoringRule>, lead: Lead) -> i64 {
    let lead = Record::new(meta(9, 10), lead);
    compile(new_set(), rules).points(&lead, &[], now())
}

use ScoringOperator as Op;

/// R-120, and the operators besides.
#[test]
fn operators_say_what_their_names_say() {
    let lead = || Lead {
        industry: Some("Software".into()),
        company: Some("Globex Software GmbH".into()),
        employee_count: Some(200),
        annual_revenue: Some(Decimal::new(15_005, 1)),
        decision_maker: true,
        rating: Some(Rating::Hot),
        tags: vec!["key".into(), "fair".into()],
        last_activity_at: Some(now() - TimeDelta::days(20)),
        custom_fields: json!({"segment": "gold", "seats": 12, "since": "2026-05-31"}),
        ..Lead::default()
    };
    let met = [
        ("industry", Op::Equals, json!("Software")),
        ("industry", Op::NotEquals, json!("software")),
        ("rating", Op::Equals, json!("hot")),
        ("decision_maker", Op::Equals, json!(true)),
        ("website", Op::NotEquals, json!("https://a.example/")),
        ("company", Op::Contains, json!("SOFTWARE")),
        ("company", Op::NotContains, json!("ag")),
        ("tags", Op::Contains, json!("key")),
        ("tags", Op::NotContains, json!("spam")),
        ("tags", Op::In, json!(["spam", "fair"])),
        ("tags", Op::Exists, json!(null)),
        ("interests", Op::NotExists, json!(null)),
        ("employee_count", Op::GreaterThan, json!(199)),
        ("annual_revenue", Op::LessThan, json!(1_500.6)),
        ("employee_count", Op::Between, json!([200, 300])),
        ("employee_count", Op::Between, json!([200, null])),
        ("employee_count", Op::Between, json!([null, 200])),
        ("status", Op::In, json!(["new", "contacted"])),
        ("status", Op::NotIn, json!(["lost"])),
        ("industry", Op::Exists, json!(null)),
        ("email", Op::NotExists, json!(null)),
        ("last_activity_at", Op::OlderThan, json!(19)),
        ("last_activity_at", Op::NewerThan, json!(21)),
        ("created_at", Op::NewerThan, json!(11)),
        ("custom_fields.segment", Op::Equals, json!("gold")),
        ("custom_fields.seats", Op::Between, json!([12, 20])),
        ("custom_fields.since", Op::NewerThan, json!(2)),
        ("custom_fields.none", Op::NotExists, json!(null)),
    ];
    for (field, operator, value) in met {
        let rule = rule(field, operator, value, 7);
        assert_eq!(points(vec![rule], lead()), 7, "{field} {operator}");
    }
    let not_met = [
        ("industry", Op::Equals, json!("software")),
        ("company", Op::NotContains, json!("gmbh")),
        ("website", Op::Contains, json!("a")),
        ("employee_count", Op::GreaterThan, json!(200)),
        ("tags", Op::NotIn, json!(["fair", "spam"])),
        ("last_activity_at", Op::OlderThan, json!(20)),
        ("next_activity_at", Op::OlderThan, json!(1)),
        ("next_activity_at", Op::NewerThan, json!(1)),
        ("custom_fields.seats", Op::Equals, json!("12")),
    ];
    for (field, operator, value) in not_met {
        let rule = rule(field, operator, value, 7);
        assert_eq!(points(vec![rule], lead()), 0, "{field} {operator}");
    }
}

/// what does not fit is told by rule and field.
#[test]
fn faults_name_the_rule_and_the_field() {
    let faulty = [
        ("colour", Op::Equals, json!(1), "condition_field"),
        ("company.x", Op::Equals, json!(1), "condition_field"),
        ("lead_score", Op::GreaterThan, json!(1), "condition_field"),
        ("updated_at", Op::OlderThan, json!(1), "condition_field"),
        ("company", Op::OlderThan, json!(1), "condition_operator"),
        (
            "decision_maker",
            Op::GreaterThan,
            json!(true),
            "condition_operator",
        ),
        ("tags", Op::Equals, json!("key"), "condition_operator"),
        (
            "employee_count",
            Op::Contains,
            json!("1"),
            "condition_operator",
        ),
        (
            "employee_count",
            Op::Equals,
            json!("many"),
            "condition_value",
        ),
        ("status", Op::In, json!(["happy"]), "condition_value"),
        ("status", Op::In, json!([]), "condition_value"),
        (
            "employee_count",
            Op::Between,
            json!([null, null]),
            "condition_value",
        ),
        (
            "employee_count",
            Op::Between,
            json!([1, 2, 3]),
            "condition_value",
        ),
        ("created_at", Op::OlderThan, json!(0), "condition_value"),
        (ACTIVITY_COUNT, Op::Equals, json!(1.5), "condition_value"),
        (
            ACTIVITY_COUNT,
            Op::Contains,
            json!("1"),
            "condition_operator",
        ),
    ];
    for (field, operator, value, at) in faulty {
        let rules = records(vec![rule(field, operator, value, 1)]);
        let error = CompiledRuleSet::new(&set(new_set()), &rules, &Registry::default());
        let error = error.unwrap_err();
        let [fault] = error.field_errors() else {
            panic!("{field} {operator}: {error}");
        };
        assert_eq!(
            fault.path,
            format!("rules.Rule 100.{at}"),
            "{field} {operator}"
        );
    }
    let grouped = LeadScoringRule {
        group_name: Some("web".into()),
        ..rule("industry", Op::Exists, json!(null), 1)
    };
    let error = CompiledRuleSet::new(
        &set(new_set()),
        &records(vec![grouped]),
        &Registry::default(),
    );
    assert_eq!(error.unwrap_err().field_errors()[0].code, codes::NOT_FOUND);
    let since = Decay {
        since: "company".into(),
        ..Decay::half_life(3)
    };
    let fading = LeadScoringRuleSet {
        decay: Some(since),
        ..new_set()
    };
    let none: [Record<LeadScoringRule>; 0] = [];
    let error = CompiledRuleSet::new(&set(fading), &none, &Registry::default()).unwrap_err();
    assert_eq!(error.field_errors()[0].path, "decay");
}

/// The picture of the explanation: limits of groups, then decay, then limits of the set.
#[test]
fn limits_and_decay_follow_one_after_the_other() {
    let of = |field: &str, points, group: Option<&str>, rule_type| LeadScoringRule {
        group_name: group.map(Into::into),
        rule_type,
        ..rule(field, Op::Exists, json!(null), points)
    };
    use ScoringRuleType::{Behavioral, Firmographic};
    let rules = vec![
        of("company", 20, None, Firmographic),
        of("industry", 25, Some("web"), Firmographic),
        of("email", 40, Some("web"), Behavioral),
        of("job_title", 10, None, Behavioral),
        of("website", 90, None, Firmographic),
    ];
    let fading = LeadScoringRuleSet {
        groups: ScoringGroups::default()
            .with("web", None, Some(45))
            .with("fair", Some(3), None),
        decay: Some(Decay::half_life(10).of(Behavioral)),
        maximum: Some(60),
        grades: GradeBands::default().with("A", 60).with("B", 40),
        ..new_set()
    };
    let compiled = compile(fading, rules);
    let lead = Lead {
        company: Some("Globex".into()),
        industry: Some("software".into()),
        email: EmailAddress::parse("ada@globex.example").ok(),
        job_title: Some("Analyst".into()),
        last_activity_at: Some(now() - TimeDelta::days(10)),
        score_adjustment: -2,
        ..Lead::default()
    };
    let lead = Record::new(meta(9, 90), lead);
    let told = compiled.explain(&lead, &[], now());
    // 20 and 25 last, 3 is the least of `fair`; 20 of the group and 10 fade to half: 63 in all.
    assert_eq!(told.points, 60);
    let decay = told.decay.unwrap();
    assert_eq!((decay.days, decay.before, decay.after), (10, 30, 15));
    let groups: Vec<_> = told
        .groups
        .iter()
        .map(|own| (own.sum, own.points))
        .collect();
    assert_eq!(groups, [(65, 45), (0, 3)]);
    assert_eq!((told.score.value(), told.grade.as_deref()), (58, Some("B")));
    let given = compiled.given(&lead, &[], now());
    assert_eq!(given.points, 60);
    assert_eq!((given.limits, given.decay), (-20, -15));
}

fn values() -> Vec<Json> {
    vec![
        json!("software"),
        json!("Soft"),
        json!("retail"),
        json!("bank"),
        json!("new"),
        json!("hot"),
        json!("key"),
        json!("ADA@globex.example"),
        json!("00000000-0000-0000-0000-000000000007"),
        json!("2026-05-01T00:00:00Z"),
        json!("2026-05-20"),
        json!(true),
        json!(false),
        json!(1),
        json!(3),
        json!(10),
        json!(30),
        json!(50),
        json!(50.5),
        json!("50"),
        json!(null),
        json!(["software", "retail"]),
        json!(["new", "lost"]),
        json!(["key", "fair"]),
        json!(["key"]),
        json!([10, 50]),
        json!([10.5, 60]),
        json!([50, 10]),
        json!([null, 50]),
        json!([3, null]),
        json!([50, 50]),
        json!(["a", 50, true]),
        json!(["2026-05-01T00:00:00Z", "2026-05-20T00:00:00Z"]),
    ]
}

const FIELDS: [&str; 16] = [
    "industry",
    "company",
    "email",
    "status",
    "rating",
    "employee_count",
    "annual_revenue",
    "decision_maker",
    "tags",
    "owner_id",
    "last_activity_at",
    "created_at",
    "custom_fields.x",
    "custom_fields.y",
    "custom_fields",
    ACTIVITY_COUNT,
];

fn any_rule() -> impl Strategy<Value = LeadScoringRule> {
    let fits = |rule: &LeadScoringRule| bind(rule, &Registry::default()).is_ok();
    unbound_rule().prop_filter("the rule does not fit", fits)
}

fn unbound_rule() -> impl Strategy<Value = LeadScoringRule> {
    let counted = (
        prop::option::of(prop::sample::select(vec![
            ActivityType::Call,
            ActivityType::Email,
        ])),
        prop::option::of(prop::sample::select(vec![ActivityStatus::Completed])),
        prop::option::of(1_u32..3),
    );
    (
        prop::sample::select(FIELDS.to_vec()),
        prop::sample::select(Op::ALL.to_vec()),
        prop::sample::select(values()),
        -100..=100_i32,
        prop::option::weighted(0.6, prop::sample::select(vec!["a", "b"])),
        prop::sample::select(ScoringRuleType::ALL.to_vec()),
        prop::option::of(counted),
        -2..3_i32,
    )
        .prop_map(
            |(field, operator, value, points, group, rule_type, counted, priority)| {
                let activities = counted.filter(|_| field == ACTIVITY_COUNT).map(
                    |(activity_type, status, within_days)| ActivityCount {
                        activity_type,
                        status,
                        within_days,
                    },
                );
                LeadScoringRule {
                    group_name: group.map(Into::into),
                    rule_type,
                    activities,
                    priority,
                    ..rule(field, operator, value, points)
                }
            },
        )
}

fn any_member() -> impl Strategy<Value = Json> {
    prop::sample::select(vec![
        json!("software"),
        json!("SOFT"),
        json!("50"),
        json!("2026-05-20"),
        json!("2026-05-20T10:00:00+02:00"),
        json!("2026-05-01T00:00:00.000000Z"),
        json!("00000000-0000-0000-0000-000000000007"),
        json!("50.5"),
        json!(["key", "spam"]),
        json!("zzz"),
        json!(10),
        json!(50),
        json!(50.5),
        json!(10.75),
        json!(1e30),
        json!(true),
        json!(false),
        json!(null),
        json!(["key"]),
        json!({"a": 1}),
    ])
}

fn any_lead() -> impl Strategy<Value = Record<Lead>> {
    let text = || {
        let texts = ["software", "Software", "retail bank", "SOFT", "other"];
        prop::option::of(prop::sample::select(texts.to_vec()))
    };
    let days = || prop::option::of(-3..40_i64);
    let number = || prop::option::of(prop::sample::select(vec![0, 10, 11, 49, 50, 51, 60, 61]));
    let texts = (
        text(),
        text(),
        prop::option::of(prop::sample::select(vec![
            "ada@globex.example",
            "bob@globex.example",
        ])),
        prop::sample::select(vec![
            LeadStatus::New,
            LeadStatus::Lost,
            LeadStatus::Contacted,
        ]),
        prop::option::of(prop::sample::select(Rating::ALL.to_vec())),
    );
    let others = (
        any::<bool>(),
        prop::sample::subsequence(vec!["key", "fair", "spam"], 0..=3),
        prop::option::of(7..9_u128),
        days(),
        0..40_i64,
        prop::option::of(any_member()),
        prop::option::of(any_member()),
        -150..150_i32,
    );
    (texts, number(), number(), others).prop_map(|(texts, staff, revenue, others)| {
        let (industry, company, email, status, rating) = texts;
        let (decides, tags, owner, active, created, x, y, score_adjustment) = others;
        let mut custom = serde_json::Map::new();
        custom.extend(x.map(|x| ("x".to_owned(), x)));
        custom.extend(y.map(|y| ("y".to_owned(), y)));
        let lead = Lead {
            industry: industry.map(Into::into),
            company: company.map(Into::into),
            email: email.and_then(|email| EmailAddress::parse(email).ok()),
            status,
            rating,
            employee_count: staff,
            annual_revenue: revenue.map(|tens| Decimal::new(i64::from(tens) * 10 + 5, 1)),
            decision_maker: decides,
            tags: tags.into_iter().map(Into::into).collect(),
            owner_id: owner.map(|id| Id::new(Uuid::from_u128(id))),
            last_activity_at: active.map(|days| now() - TimeDelta::days(days)),
            custom_fields: Json::Object(custom),
            score_adjustment,
            ..Lead::default()
        };
        Record::new(meta(9, created), lead)
    })
}

fn any_set() -> impl Strategy<Value = LeadScoringRuleSet> {
    let limit = || prop::option::of(-60..100_i32);
    let limits = || {
        (limit(), limit()).prop_map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
            one => one,
        })
    };
    let decay = prop_oneof![
        (1_u32..40).prop_map(Decay::half_life),
        (1_u32..20, 0_u32..20).prop_map(|(days, points)| Decay::per_period(days, points)),
    ];
    let fading = prop::option::of((
        decay,
        prop::sample::subsequence(ScoringRuleType::ALL, 0..=4),
    ));
    (limits(), limits(), limits(), fading).prop_map(|(a, b, all, fading)| LeadScoringRuleSet {
        groups: ScoringGroups::default()
            .with("a", a.0, a.1)
            .with("b", b.0, b.1),
        grades: GradeBands::default().with("A", 80).with("B", 30),
        decay: fading.map(|(decay, rule_types)| Decay {
            rule_types,
            ..decay
        }),
        minimum: all.0,
        maximum: all.1,
        ..new_set()
    })
}

#[derive(Debug)]
struct Anything;

impl CheckCustomFields for Anything {
    fn check(&self, _: &CustomWrite<'_>, _: &mut Faults) -> Option<Json> {
        None
    }
}

/// What leads are to a tenant that added two fields.
fn typed(x: FieldType, y: FieldType, ignore_case: bool) -> Registry {
    let fields = [("x", x), ("y", y)].into_iter().zip(1..);
    let fields = fields.map(|((name, field_type), number)| {
        let mut field = FieldSchema::new(name, field_type);
        field.ignore_case = ignore_case && field.storage_kind() == StorageKind::Text;
        CustomFieldSchema {
            id: Uuid::from_u128(number),
            key: name.into(),
            former_names: Vec::new(),
            field,
            unique: false,
            options: Vec::new(),
            currency: None,
            active: true,
            search_complete: true,
        }
    });
    let fields = CustomFields::new(fields.collect(), Arc::new(Anything));
    let base = Registry::default();
    base.register::<Lead>();
    let leads = Lead::schema().with_custom_fields(fields);
    Registry::over(Arc::new(base), [leads])
}

fn any_type() -> impl Strategy<Value = FieldType> {
    prop::sample::select(vec![
        FieldType::multiline(),
        FieldType::Integer {
            min: i64::MIN,
            max: i64::MAX,
        },
        FieldType::decimal(),
        FieldType::Boolean,
        FieldType::Date,
        FieldType::Timestamp,
        FieldType::Uuid,
        FieldType::List,
    ])
}

/// What a set gives, straight from its description.
fn naive(
    registry: &Registry,
    set: &LeadScoringRuleSet,
    rules: &[Record<LeadScoringRule>],
    lead: &Record<Lead>,
    around: &Circumstances<'_>,
) -> i64 {
    let limited = |points: i64, minimum: Option<i32>, maximum: Option<i32>| {
        let points = maximum.map_or(points, |most| points.min(most.into()));
        minimum.map_or(points, |least| points.max(least.into()))
    };
    let sum = |group: Option<&str>, fades: Option<bool>| -> i64 {
        rules
            .iter()
            .filter(|rule| rule.group_name.as_deref() == group)
            .filter(|rule| {
                let own = set
                    .decay
                    .as_ref()
                    .is_some_and(|decay| decay.fades(rule.rule_type));
                fades.is_none_or(|fades| fades == own)
            })
            .filter(|rule| bind(rule, registry).unwrap().test.is_met(lead, around))
            .map(|rule| i64::from(rule.score_change))
            .sum()
    };
    let (mut lasting, mut fading) = (sum(None, Some(false)), sum(None, Some(true)));
    for group in &set.groups.0 {
        let name = Some(group.name.as_str());
        let all = limited(sum(name, None), group.minimum, group.maximum);
        let kept = limited(sum(name, Some(false)), group.minimum, group.maximum);
        lasting += kept;
        fading += all - kept;
    }
    if let Some(decay) = &set.decay {
        let since = lead.last_activity_at.unwrap_or(lead.created.at);
        fading = decay.points(fading, (around.now - since).num_days());
    }
    limited(lasting + fading, set.minimum, set.maximum)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Tables, single rules and the description of a set say the same.
    #[test]
    fn compiled_sets_give_what_their_rules_give(
        of in any_set(),
        rules in prop::collection::vec(any_rule(), 0..40),
        leads in prop::collection::vec(any_lead(), 1..6),
        counts in prop::collection::vec(0..60_i64, 12),
    ) {
        let rules = records(rules);
        let compiled = CompiledRuleSet::new(&set(of.clone()), &rules, &Registry::default()).unwrap();
        let counts = &counts[..compiled.counted().len().min(counts.len())];
        for lead in &leads {
            let around = Circumstances { counts, counted: compiled.counted(), now: now() };
            let expected = naive(&Registry::default(), &of, &rules, lead, &around);
            prop_assert_eq!(compiled.points(lead, counts, now()), expected);
            let told = compiled.explain(lead, counts, now());
            prop_assert_eq!(told.points, expected);
            let scored = compiled.score(lead, counts, now());
            prop_assert_eq!((told.score, &told.grade), (scored.score, &scored.grade));
            let total = expected + i64::from(lead.score_adjustment);
            prop_assert_eq!(scored.score, Score::clamped(total));
            let given = compiled.given(lead, counts, now());
            let sum: i64 = given.rules.iter().map(|rule| rule.points).sum();
            prop_assert_eq!(sum + given.limits + given.decay, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The same with fields of the tenant, whatever their types, and whatever stands in the document.
    #[test]
    fn fields_of_the_tenant_are_looked_up_as_their_types(
        of in any_set(),
        (x, y, ignore_case) in (any_type(), any_type(), any::<bool>()),
        rules in prop::collection::vec((unbound_rule(), any::<bool>()), 0..60),
        leads in prop::collection::vec(any_lead(), 1..6),
    ) {
        let registry = typed(x, y, ignore_case);
        let rules = rules.into_iter().map(|(rule, is_x)| LeadScoringRule {
            condition_field: if is_x { "custom_fields.x" } else { "y" }.into(),
            activities: None,
            ..rule
        });
        let rules = records(rules.filter(|rule| bind(rule, &registry).is_ok()).collect());
        let compiled = CompiledRuleSet::new(&set(of.clone()), &rules, &registry).unwrap();
        for lead in &leads {
            let around = Circumstances { counts: &[], counted: &[], now: now() };
            let expected = naive(&registry, &of, &rules, lead, &around);
            prop_assert_eq!(compiled.points(lead, &[], now()), expected);
            prop_assert_eq!(compiled.explain(lead, &[], now()).points, expected);
        }
    }
}

/// Few texts and many that are searched in one field, some within others.
#[test]
fn searched_texts_are_found_however_many() {
    let texts = [
        "a", "ab", "abc", "bc", "bcd", "cd", "x", "xy", "zz", "é", "ab c",
    ];
    for count in 1..=texts.len() {
        let rules = texts.iter().take(count).zip(0_u32..);
        let rules = rules.map(|(text, bit)| {
            let operator = if bit % 3 == 0 {
                Op::NotContains
            } else {
                Op::Contains
            };
            rule(
                "company",
                operator,
                json!(text),
                1 + i32::try_from(bit).unwrap(),
            )
        });
        let compiled = compile(new_set(), rules.collect());
        for company in ["ABCD", "abcabc", "xyz", "ÉZZ", "ab cd", "nothing"] {
            let lead = Lead {
                company: Some(company.into()),
                ..Lead::default()
            };
            let lead = Record::new(meta(9, 10), lead);
            let told = compiled.explain(&lead, &[], now()).points;
            assert_eq!(
                compiled.points(&lead, &[], now()),
                told,
                "{company} {count}"
            );
        }
    }
}

/// More texts than a word has bits, found again and again, in any case.
#[test]
fn hundreds_of_searched_texts_count_once_each() {
    let rules = (0..200).map(|number| {
        let text = format!("{number:03}K");
        rule("company", Op::Contains, json!(text), 1)
    });
    let compiled = compile(new_set(), rules.collect());
    let all: String = (0..200).map(|number| format!("{number:03}k")).collect();
    for (company, found) in [
        (all[..100].repeat(2), 25),
        (all[400..500].repeat(2), 25),
        (format!("É {}", &all[700..].repeat(2)), 25),
        // The Kelvin sign is another k.
        ("199\u{212A}199k".to_owned(), 1),
    ] {
        let company = Some(company);
        let lead = Lead {
            company,
            ..Lead::default()
        };
        let lead = Record::new(meta(9, 10), lead);
        assert_eq!(compiled.points(&lead, &[], now()), found);
        assert_eq!(compiled.explain(&lead, &[], now()).points, found);
    }
}

/// The rules look at the fields that they name, and at that of the decay.
#[test]
fn the_fields_are_those_that_are_looked_at() {
    let fading = LeadScoringRuleSet {
        decay: Some(Decay::half_life(3)),
        ..new_set()
    };
    let rules = vec![
        rule("company", Op::Exists, json!(null), 1),
        rule("custom_fields.segment", Op::Equals, json!("gold"), 1),
        rule(ACTIVITY_COUNT, Op::GreaterThan, json!(3), 1),
    ];
    let compiled = compile(fading, rules);
    let fields = compiled.fields().iter();
    let names: Vec<&str> = fields
        .map(|index| Lead::schema().field_name(index))
        .collect();
    assert_eq!(names, ["company", "last_activity_at", "custom_fields"]);
    assert_eq!(compiled.counted(), [ActivityCount::default()]);
    assert_eq!(compiled.len(), 3);
}
