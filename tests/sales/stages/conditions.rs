//! gates of stages and conditions of automation rules that are expressions, with the
//! tenant's own fields and through relations.

use chrono::TimeDelta;
use crm_engine::automation::{Action, Actions, AutomationRule, RuleType, TimeBasis, TriggerEvent};
use crm_engine::custom_objects::{
    CustomField, CustomFieldType, CustomFieldsExt, CustomObject, DataType, DecimalLimits, RollUp,
    RollUpFunction, TextLimits,
};
use crm_engine::deals::Obstacle;
use crm_engine::error::codes;
use crm_engine::exchange::import::{Import, ImportExt, Mapping, Source};
use crm_engine::leads::{ConversionDeal, ConversionPlan};
use crm_engine::prelude::*;
use crm_engine::schema::Value;
use crm_engine::value::ApiName;
use serde_json::{Value as Json, json};

use super::{NEGOTIATION, PROPOSAL, QUALIFICATION, World, faults, world};

const REFUSED: [(&str, &str); 1] = [("stage_id", "stage_condition")];

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn text() -> CustomFieldType {
    CustomFieldType::Text(TextLimits::default())
}

fn formula(expression: &str, result: DataType) -> CustomFieldType {
    CustomFieldType::Formula {
        expression: expression.into(),
        result,
    }
}

impl World {
    async fn define(&self, object: &str, field: &str, kind: CustomFieldType) -> Id<CustomField> {
        let field = CustomField::new(name(object), name(field), "Field", kind);
        self.session.records().create(field).await.unwrap().id
    }

    async fn ask(&self, place: usize, condition: &str) {
        self.set(place, |stage| {
            stage.entry_condition = Some(condition.to_owned());
        })
        .await;
    }

    async fn account(&self, industry: Option<&str>, custom: Json) -> Id<Account> {
        let account = Account {
            industry: industry.map(Into::into),
            custom_fields: custom,
            ..Account::new("Globex")
        };
        self.session.accounts().create(account).await.unwrap().id
    }

    async fn deal_of(&self, account: Id<Account>) -> Id<Deal> {
        let deal = Deal {
            account_id: Some(account),
            ..self.deal()
        };
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn reason(&self, deal: Id<Deal>, place: usize) -> &'static str {
        let found = self
            .session
            .deals()
            .check_move(deal, self.stage(place))
            .await;
        match found.unwrap().as_slice() {
            [] => "",
            [Obstacle::Condition { reason, .. }] => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// A condition is stored only if it fits deals and gives yes or no; each fault tells its place.
#[tokio::test]
async fn conditions_are_checked_when_they_are_written() {
    let w = world().await;
    w.define("account", "tier", text()).await;
    let price = CustomFieldType::Currency {
        currency: Currency::EUR,
        min: None,
        max: None,
    };
    w.define("deal", "price", price).await;
    let faulty = [
        ("amount >", "syntax", (1, 9)),
        ("amount", "wrong_type", (1, 1)),
        ("amount > 0\n and stauts = 1", "unknown_field", (2, 6)),
        ("region = 'north'", "unknown_field", (1, 1)),
        ("custom_fields.region = 'x'", "undefined_field", (1, 1)),
        ("account_id.teir = 'gold'", "unknown_field", (1, 1)),
        ("name.first = 'x'", "not_a_reference", (1, 1)),
        ("account_id.tier > 5", "wrong_type", (1, 1)),
        // Amounts of a field with one currency are money.
        ("price > 5", "wrong_type", (1, 1)),
        ("1 / 0 = 1", "division_by_zero", (1, 1)),
        ("custom_fields = null", "untyped_field", (1, 1)),
        ("version > 1", "unsupported", (1, 1)),
    ];
    let entering = [("amount > 0 and status = 'won'", "unsupported", (1, 16))];
    let stage = w.stage(PROPOSAL).uuid();
    for (source, code, place) in faulty.into_iter().chain(entering) {
        let mut stages = w.session.object("pipeline_stage").await.unwrap();
        let version = stages.get(stage).await.unwrap().version();
        let patch = json!({"entry_condition": source});
        let patch = patch.as_object().unwrap();
        let error = stages.merge(stage, version, patch).await.unwrap_err();
        assert_eq!(faults(&error), [("entry_condition", code)], "{source}");
        let told = &error.field_errors()[0].params;
        let told = (told.get("line").cloned(), told.get("column").cloned());
        let place = (Value::Integer(place.0), Value::Integer(place.1));
        assert_eq!(told, (Some(place.0), Some(place.1)), "{source}");
        assert_eq!(stages.get(stage).await.unwrap().version(), version);
    }
    let rule = |source: String| AutomationRule {
        condition_expression: Some(source),
        ..tagging(RuleType::StageEntry, TriggerEvent::StageChanged)
    };
    for (source, code, _) in faulty {
        let created = w
            .session
            .automation_rules()
            .create(rule(source.into()))
            .await;
        let error = created.unwrap_err();
        assert_eq!(faults(&error), [("condition_expression", code)], "{source}");
    }
    let long = format!("name = '{}'", "x".repeat(4_000));
    let created = w
        .session
        .automation_rules()
        .create(rule(long.clone()))
        .await;
    let error = created.unwrap_err();
    assert!(
        faults(&error).contains(&("condition_expression", codes::TOO_LONG)),
        "{error}"
    );
    let changed = w
        .session
        .pipelines()
        .update_stage(w.stage(PROPOSAL), |stage| {
            stage.entry_condition = Some(long.clone());
        })
        .await;
    assert!(changed.is_err());
    // What fits: own fields, the tenant's, and through references.
    for source in [
        "amount > 0 and account_id.tier = 'gold' and price > money(5, 'EUR')",
        "account_id.owner_id.email is not null or expected_close_date > today()",
    ] {
        w.ask(PROPOSAL, source).await;
        let created = w
            .session
            .automation_rules()
            .create(AutomationRule {
                rule_name: source.chars().take(90).collect(),
                ..rule(source.into())
            })
            .await;
        created.unwrap();
    }
}

/// A refused deal is told why: the answer is no, there is none, or the condition fails. What the stage
/// says of it comes first.
#[tokio::test]
async fn the_reason_is_told() {
    let w = world().await;
    w.ask(PROPOSAL, "100 / probability > 2").await;
    let id = w.new_deal().await;
    let probable = async |percent: Option<u8>| {
        let change = move |deal: &mut Deal| deal.probability = percent.map(super::percent);
        w.session.deals().update(id, change).await.unwrap()
    };
    assert_eq!(w.reason(id, PROPOSAL).await, "unknown");
    probable(Some(0)).await;
    assert_eq!(w.reason(id, PROPOSAL).await, "division_by_zero");
    probable(Some(50)).await;
    assert_eq!(w.reason(id, PROPOSAL).await, "false");
    w.set(PROPOSAL, |stage| {
        stage.required_fields = vec!["next_step".into()];
        stage.entry_condition_message = Some("only what is not too sure".into());
    })
    .await;
    let error = w.move_to(id, PROPOSAL).await.unwrap_err();
    let all = [("next_step", codes::REQUIRED), REFUSED[0]];
    assert_eq!(faults(&error), all);
    let told = &error.field_errors()[1];
    assert_eq!(told.message, "only what is not too sure");
    assert_eq!(told.params.get("reason"), Some(&Value::from("false")));
    w.set(PROPOSAL, |stage| stage.required_fields = Vec::new())
        .await;
    probable(Some(40)).await;
    assert_eq!(w.reason(id, PROPOSAL).await, "");
    w.move_to(id, PROPOSAL).await.unwrap();
    // Later it may be otherwise.
    probable(None).await;
}

/// Creation, imports, conversion, automation and units of work ask the condition, of the record at the
/// other end of a reference too.
#[tokio::test]
async fn every_way_into_a_stage_asks_the_condition() {
    let w = world().await;
    w.define("account", "tier", text()).await;
    w.ask(
        PROPOSAL,
        "account_id.tier = 'gold' and amount(amount) > 100",
    )
    .await;
    let gold = w.account(None, json!({"tier": "gold"})).await;
    let iron = w.account(None, json!({"tier": "iron"})).await;
    let stage = w.stage(PROPOSAL);
    let new = |account: Option<Id<Account>>| Deal {
        account_id: account,
        amount: Some(500.into()),
        stage_id: Some(stage),
        ..w.deal()
    };
    for account in [Some(iron), None] {
        let error = w.session.deals().create(new(account)).await.unwrap_err();
        assert_eq!(faults(&error), REFUSED);
    }
    w.session.deals().create(new(Some(gold))).await.unwrap();

    let mapping = Mapping::new("deal")
        .column("Name", "name")
        .column("Pipeline", "pipeline_id")
        .column("Stage", "stage_id")
        .column("Amount", "amount")
        .column("Account", "account_id");
    let pipeline = w.onboarded.pipeline;
    let rows = format!(
        "Name,Pipeline,Stage,Amount,Account\n\
         One,{pipeline},{stage},500,{gold}\n\
         Two,{pipeline},{stage},500,{iron}\n\
         Three,{pipeline},{stage},50,{gold}\n"
    );
    let source = Source::bytes("deals.csv", rows.into_bytes());
    let import = Import::new(mapping);
    let job = w.session.import().start(&source, &import).await.unwrap();
    let done = w.session.import().run(job.id, &source, &()).await.unwrap();
    assert_eq!((done.counts.created_rows, done.counts.failed_rows), (1, 2));

    let lead = Lead {
        company: Some("Initech".into()),
        name: Some(PersonName::new("Bill", "Lumbergh")),
        ..Lead::default()
    };
    let lead = w.session.leads().create(lead).await.unwrap().id;
    let plan = |account| {
        let deal = ConversionDeal {
            amount: Some(500.into()),
            stage: Some(stage),
            ..ConversionDeal::new("Rollout")
        };
        ConversionPlan::with_deal(deal).into_account(account)
    };
    let error = w.session.leads().convert(lead, plan(iron)).await;
    let error = error.unwrap_err();
    assert!(
        faults(&error)
            .iter()
            .any(|(_, code)| *code == "stage_condition"),
        "{error:?}"
    );
    w.session.leads().convert(lead, plan(gold)).await.unwrap();

    // A rule that moves deals on is refused like anybody.
    let rule = AutomationRule {
        pipeline_id: Some(pipeline),
        stage_id: Some(w.stage(QUALIFICATION)),
        actions: Actions(vec![Action::MoveToStage { stage_id: stage }]),
        ..tagging(RuleType::StageEntry, TriggerEvent::StageChanged)
    };
    let rule = w.session.automation_rules().create(rule).await.unwrap().id;
    let mut reached = Vec::new();
    for account in [gold, iron] {
        let id = w.deal_of(account).await;
        let worth = |deal: &mut Deal| deal.amount = Some(500.into());
        w.session.deals().update(id, worth).await.unwrap();
        w.move_to(id, QUALIFICATION).await.unwrap();
        reached.push(w.session.deals().get(id).await.unwrap().stage_id);
    }
    assert_eq!(reached, [Some(stage), Some(w.stage(QUALIFICATION))]);
    let counts = w.session.automation().counts(&[rule]).await.unwrap();
    assert_eq!((counts[&rule].executed, counts[&rule].failed), (1, 1));

    // Upkeep moves deals without asking, and they may go on.
    let left = w.deal_of(iron).await;
    w.move_to(left, NEGOTIATION).await.unwrap();
    let deleted = w
        .session
        .pipelines()
        .delete_stage(w.stage(NEGOTIATION), Some(stage))
        .await;
    deleted.unwrap();
    let renamed = w
        .session
        .deals()
        .update(left, |deal| deal.name = "X".into())
        .await;
    assert_eq!(renamed.unwrap().stage_id, Some(stage));
}

/// Formulas and roll-ups count as they are in the very write, those over other records too.
#[tokio::test]
async fn computed_fields_count_as_they_are_in_the_write() {
    let w = world().await;
    let visit = CustomObject::new(name("visit"), "Visit", "Visits");
    w.session.records().create(visit).await.unwrap();
    let lookup = CustomFieldType::Lookup {
        object: name("deal"),
        cascade: false,
    };
    w.define("visit", "deal", lookup).await;
    w.define("account", "tier", text()).await;
    let decimal = CustomFieldType::Decimal(DecimalLimits::default());
    w.define("deal", "cost", decimal).await;
    let margin = formula("amount(amount) - cost", DataType::Decimal);
    w.define("deal", "margin", margin).await;
    let grade = formula("upper(account_id.tier)", DataType::String);
    w.define("deal", "grade", grade).await;
    let visits = RollUp {
        function: RollUpFunction::Count,
        object: name("visit"),
        by: name("deal"),
        field: None,
        filter: None,
        result: DataType::Integer,
    };
    w.define("deal", "visits", CustomFieldType::RollUp(visits))
        .await;
    let known = formula("grade & '/' & text(visits)", DataType::String);
    w.define("deal", "known", known).await;

    w.ask(QUALIFICATION, "margin >= 100").await;
    w.ask(PROPOSAL, "known = 'GOLD/1'").await;
    w.set(NEGOTIATION, |stage| {
        stage.entry_criteria = Some(Filter::eq("grade", "GOLD").into());
        stage.required_fields = vec!["custom_fields.margin".into()];
    })
    .await;
    let gold = w.account(None, json!({"tier": "gold"})).await;
    let deal = |cost: i64, place: usize| Deal {
        account_id: Some(gold),
        amount: Some(500.into()),
        // Not yet in its stored form, which is a text.
        custom_fields: json!({"cost": cost}),
        stage_id: Some(w.stage(place)),
        ..w.deal()
    };
    let deals = || w.session.deals();
    deals().create(deal(400, QUALIFICATION)).await.unwrap();
    let error = deals().create(deal(401, QUALIFICATION)).await.unwrap_err();
    assert_eq!(faults(&error), REFUSED);
    deals().create(deal(1, NEGOTIATION)).await.unwrap();
    // The write that fills it and the move are one.
    let id = w.deal_of(gold).await;
    assert_eq!(w.reason(id, QUALIFICATION).await, "unknown");
    let entered = deals()
        .update(id, |deal| {
            deal.amount = Some(500.into());
            deal.custom_fields = json!({"cost": "400"});
            deal.stage_id = Some(w.stage(QUALIFICATION));
        })
        .await;
    entered.unwrap();
    assert_eq!(w.reason(id, PROPOSAL).await, "false");
    let mut work = w.session.begin();
    let visit = json!({"name": "First", "custom_fields": {"deal": id}});
    let mut visits = work.object("visit").await.unwrap();
    visits.create(visit.as_object().unwrap()).await.unwrap();
    work.deals().move_to(id, w.stage(PROPOSAL)).await.unwrap();
    work.commit().await.unwrap();
}

/// Days begin where the tenant is, and time is that of the write.
#[tokio::test]
async fn conditions_know_the_time() {
    let w = world().await;
    w.ask(PROPOSAL, "expected_close_date > today()").await;
    let id = w.new_deal().await;
    let day = "2026-01-06".parse().unwrap();
    let due = w
        .session
        .deals()
        .update(id, |deal| deal.expected_close_date = Some(day))
        .await;
    due.unwrap();
    assert_eq!(w.reason(id, PROPOSAL).await, "");
    w.clock.advance(TimeDelta::hours(14));
    assert_eq!(w.reason(id, PROPOSAL).await, "");
    w.clock.advance(TimeDelta::hours(1));
    assert_eq!(w.reason(id, PROPOSAL).await, "false");
    assert!(w.move_to(id, PROPOSAL).await.is_err());
}

/// What lets a deal in must hold in the commit: an account that somebody else changes meanwhile is a
/// conflict, and one that is changed back in the same unit of work lets nothing in.
#[tokio::test]
async fn other_records_hold_until_the_commit() {
    let w = world().await;
    w.ask(PROPOSAL, "account_id.industry = 'energy'").await;
    let account = w.account(Some("energy"), json!({})).await;
    let id = w.deal_of(account).await;
    let becomes = |industry: &'static str| {
        move |account: &mut Account| account.industry = Some(industry.to_owned())
    };
    let renamed = |account: &mut Account| account.name = "Globex Inc.".into();
    let mut work = w.session.begin();
    work.deals().move_to(id, w.stage(PROPOSAL)).await.unwrap();
    w.session.accounts().update(account, renamed).await.unwrap();
    let error = work.commit().await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    let mut work = w.session.begin();
    work.deals().move_to(id, w.stage(PROPOSAL)).await.unwrap();
    w.session
        .accounts()
        .update(account, becomes("retail"))
        .await
        .unwrap();
    assert_eq!(faults(&work.commit().await.unwrap_err()), REFUSED);

    let mut work = w.session.begin();
    work.accounts()
        .update(account, becomes("energy"))
        .await
        .unwrap();
    work.deals().move_to(id, w.stage(PROPOSAL)).await.unwrap();
    work.accounts()
        .update(account, becomes("retail"))
        .await
        .unwrap();
    assert_eq!(faults(&work.commit().await.unwrap_err()), REFUSED);
    assert_eq!(w.reason(id, PROPOSAL).await, "false");

    let mut work = w.session.begin();
    work.accounts()
        .update(account, becomes("energy"))
        .await
        .unwrap();
    work.deals().move_to(id, w.stage(PROPOSAL)).await.unwrap();
    work.commit().await.unwrap();
    // An account that is deleted has no industry.
    let other = w.deal_of(w.account(Some("energy"), json!({})).await).await;
    assert_eq!(w.reason(other, PROPOSAL).await, "");
    let account = w.session.deals().get(other).await.unwrap().account_id;
    w.session.accounts().delete(account.unwrap()).await.unwrap();
    assert_eq!(w.reason(other, PROPOSAL).await, "unknown");
}

/// what conditions name is told before a field goes; a renamed field stays what it is, and one
/// that goes all the same shuts the stage.
#[tokio::test]
async fn conditions_are_uses_of_a_field() {
    let w = world().await;
    let tier = w.define("account", "tier", text()).await;
    let region = w.define("deal", "region", text()).await;
    let other = w.define("contact", "region", text()).await;
    let source = "account_id.tier = 'gold' and region = 'north'";
    w.ask(PROPOSAL, source).await;
    let rule = AutomationRule {
        condition_expression: Some(source.into()),
        ..tagging(RuleType::StageEntry, TriggerEvent::StageChanged)
    };
    let rule = w.session.automation_rules().create(rule).await.unwrap().id;
    let fields = w.session.custom_fields();
    for field in [tier, region] {
        let impact = fields.impact(field).await.unwrap();
        let used = impact.used_by.iter();
        let mut used: Vec<_> = used
            .map(|by| (by.record.object.clone(), by.at.clone()))
            .collect();
        used.sort();
        let expected = [
            (
                "pipeline_automation_rule".to_owned(),
                "condition_expression".to_owned(),
            ),
            ("pipeline_stage".to_owned(), "entry_condition".to_owned()),
        ];
        assert_eq!(used, expected);
        let refused = fields.delete(field).await.unwrap_err();
        assert!(matches!(refused, Error::DefinitionInUse(_)), "{refused:?}");
    }
    assert!(fields.impact(other).await.unwrap().used_by.is_empty());

    fields.rename(region, name("area")).await.unwrap();
    fields.rename(tier, name("grade")).await.unwrap();
    let gold = w.account(None, json!({"grade": "gold"})).await;
    let enter = |region: &str| Deal {
        account_id: Some(gold),
        custom_fields: json!({"area": region}),
        stage_id: Some(w.stage(PROPOSAL)),
        ..w.deal()
    };
    let entered = w.session.deals().create(enter("north")).await.unwrap();
    assert_eq!(
        w.session.deals().get(entered.id).await.unwrap().tags,
        ["seen"]
    );
    let error = w.session.deals().create(enter("south")).await.unwrap_err();
    assert_eq!(faults(&error), REFUSED);
    // It is written with the names of now.
    w.ask(PROPOSAL, "account_id.grade = 'gold' and area = 'north'")
        .await;
    assert_eq!(fields.impact(region).await.unwrap().used_by.len(), 2);

    fields.delete_though_used(region).await.unwrap();
    let id = w.deal_of(gold).await;
    assert_eq!(w.reason(id, PROPOSAL).await, "unsound");
    w.move_to(id, QUALIFICATION).await.unwrap();
    let counts = w.session.automation().counts(&[rule]).await.unwrap();
    assert_eq!(counts[&rule].executed, 1);
    fields.restore(region).await.unwrap();
    let entered = w.session.deals().create(enter("north")).await;
    entered.unwrap();
}

fn tagging(kind: RuleType, event: TriggerEvent) -> AutomationRule {
    let tags = vec!["seen".into()];
    let actions = Actions(vec![Action::AddTags { tags }]);
    AutomationRule::new("Tag", kind, event, Filter::all(), actions)
}

/// Rules run for deals of which their expression is true, besides their filter; trials and rules that
/// are based on time ask it too.
#[tokio::test]
async fn automation_asks_expressions() {
    let w = world().await;
    w.define("account", "tier", text()).await;
    let rule = AutomationRule {
        condition_expression: Some("account_id.tier = 'gold' and amount(amount) > 100".into()),
        ..tagging(RuleType::StageEntry, TriggerEvent::StageChanged)
    };
    let rule = AutomationRule {
        conditions: Deal::NEXT_STEP.is_not_null().into(),
        ..rule
    };
    let rule = w.session.automation_rules().create(rule).await.unwrap().id;
    let gold = w.account(None, json!({"tier": "gold"})).await;
    let iron = w.account(None, json!({"tier": "iron"})).await;
    let none = w.account(None, json!({})).await;
    let mut seen = Vec::new();
    for (account, amount, step) in [
        (gold, Some(500), Some("call")),
        (gold, Some(50), Some("call")),
        (gold, None, Some("call")),
        (gold, Some(500), None),
        (iron, Some(500), Some("call")),
        (none, Some(500), Some("call")),
    ] {
        let deal = Deal {
            account_id: Some(account),
            amount: amount.map(|amount: i64| amount.into()),
            next_step: step.map(Into::into),
            ..w.deal()
        };
        let id = w.session.deals().create(deal).await.unwrap().id;
        let is_tagged = !w.session.deals().get(id).await.unwrap().tags.is_empty();
        let trial = w.session.automation().test(rule, id).await.unwrap();
        assert_eq!(trial.fits, is_tagged);
        seen.push(is_tagged);
    }
    assert_eq!(seen, [true, false, false, false, false, false]);

    // More deals than are read at once, of which few are meant.
    let timed = AutomationRule {
        rule_name: "Old".into(),
        time_basis: Some(TimeBasis::AfterCreation),
        after_days: Some(7),
        condition_expression: Some("account_id.tier = 'iron' and created_at < now()".into()),
        actions: Actions(vec![Action::AddTags {
            tags: vec!["old".into()],
        }]),
        ..tagging(RuleType::TimeBased, TriggerEvent::TimeElapsed)
    };
    let timed = w.session.automation_rules().create(timed).await.unwrap().id;
    let many = (0..450).map(|number| Deal {
        account_id: Some(if number % 100 == 99 { iron } else { gold }),
        ..w.deal()
    });
    w.session.deals().create_all(many.collect()).await.unwrap();
    let run = w.session.automation().run_time_based(&()).await.unwrap();
    assert_eq!(run.executed, 0);
    w.clock.advance(TimeDelta::days(8));
    let run = w.session.automation().run_time_based(&()).await.unwrap();
    assert_eq!((run.due, run.executed, run.failed), (5, 5, 0));
    let again = w.session.automation().run_time_based(&()).await.unwrap();
    assert_eq!((again.due, again.executed), (5, 0));
    let counts = w.session.automation().counts(&[timed]).await.unwrap();
    assert_eq!(counts[&timed].executed, 5);
}
