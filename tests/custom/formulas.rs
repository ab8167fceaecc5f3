//! Formula fields, roll-up fields and rules between fields, on both backends: values follow in the
//! commit that changes what they follow from, whatever the way, and equal what is computed from
//! scratch.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by stopping"
)]

use crate::common;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::common::{assert_trail_tells, crm, rows_of, tenant};
use crm_engine::custom_objects::{
    Computed, CustomField, CustomFieldRule, CustomFieldType, CustomObject, DataType, DecimalLimits,
    Explanation, MAX_DEPENDENTS, RollUp, RollUpFunction,
};
use crm_engine::merging::Choices;
use crm_engine::prelude::*;
use crm_engine::query::Comparison;
use crm_engine::schema::Row;
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};
use tokio::sync::Barrier;

fn name(text: &str) -> ApiName {
    ApiName::parse(text).unwrap()
}

fn formula(expression: &str, result: DataType) -> CustomFieldType {
    CustomFieldType::Formula {
        expression: expression.into(),
        result,
    }
}

fn roll_up(function: RollUpFunction, of: (&str, &str), field: Option<&str>) -> RollUp {
    RollUp {
        function,
        object: name(of.0),
        by: name(of.1),
        field: field.map(name),
        filter: None,
        result: match function {
            RollUpFunction::Count => DataType::Integer,
            _ => DataType::Decimal,
        },
    }
}

async fn define(
    session: &Session,
    object: &str,
    field: &str,
    field_type: CustomFieldType,
) -> Result<Id<CustomField>> {
    let field = CustomField::new(name(object), name(field), "Field", field_type);
    Ok(session.records().create(field).await?.id)
}

fn decimal() -> CustomFieldType {
    CustomFieldType::Decimal(DecimalLimits::default())
}

/// The faults of what is refused: code and path.
fn faults<T: std::fmt::Debug>(result: Result<T>) -> Vec<(String, String)> {
    let error = result.unwrap_err();
    let faults = error.field_errors().iter();
    faults
        .map(|fault| (fault.path.clone(), fault.code.to_owned()))
        .collect()
}

/// Deals with a margin over their cost, projects of accounts, and figures over both.
struct Shop {
    office: Onboarded,
    session: Session,
    accounts: Vec<Id<Account>>,
}

impl Shop {
    async fn new(crm: &Crm) -> Self {
        let (office, session) = tenant(crm, "acme").await;
        let project = CustomObject::new(name("project"), "Project", "Projects");
        session.records().create(project).await.unwrap();
        let customer = CustomFieldType::Lookup {
            object: name("account"),
            cascade: false,
        };
        use DataType::{Boolean, Decimal, Integer, String};
        use RollUpFunction::{Average, Count, Max, Sum};
        let deals = ("deal", "account_id");
        let large = RollUp {
            filter: Some(Filter::Compare {
                field: "margin".into(),
                op: Comparison::Ge,
                value: 100_i64.into(),
            }),
            ..roll_up(Count, deals, None)
        };
        let fields = [
            ("account", "grade", decimal()),
            ("project", "customer", customer),
            ("project", "budget", decimal()),
            ("deal", "cost", decimal()),
            (
                "deal",
                "margin",
                formula("coalesce(amount(amount), 0) - coalesce(cost, 0)", Decimal),
            ),
            (
                "account",
                "total_margin",
                CustomFieldType::RollUp(roll_up(Sum, deals, Some("margin"))),
            ),
            ("account", "large_deals", CustomFieldType::RollUp(large)),
            (
                "account",
                "best",
                CustomFieldType::RollUp(roll_up(Max, deals, Some("margin"))),
            ),
            (
                "account",
                "mean_budget",
                CustomFieldType::RollUp(roll_up(Average, ("project", "customer"), Some("budget"))),
            ),
            (
                "account",
                "projects",
                CustomFieldType::RollUp(roll_up(Count, ("project", "customer"), None)),
            ),
            (
                "account",
                "score",
                formula(
                    "total_margin + 10 * large_deals + coalesce(grade, 0)",
                    Decimal,
                ),
            ),
            (
                "project",
                "customer_score",
                formula("customer.score", Decimal),
            ),
            (
                "project",
                "customer_name",
                formula("upper(customer.name)", String),
            ),
            (
                "project",
                "is_rich",
                formula("customer_score > budget", Boolean),
            ),
            (
                "account",
                "rich_projects",
                CustomFieldType::RollUp(RollUp {
                    filter: Some(Filter::eq("is_rich", true)),
                    ..roll_up(Count, ("project", "customer"), None)
                }),
            ),
            (
                "account",
                "half",
                formula("floor(large_deals / 2)", Integer),
            ),
        ];
        for (object, field, field_type) in fields {
            define(&session, object, field, field_type).await.unwrap();
        }
        let mut accounts = Vec::new();
        for name in ["Globex", "Initech", "Hooli"] {
            let account = Account::new(name);
            accounts.push(session.accounts().create(account).await.unwrap().id);
        }
        Self {
            office,
            session,
            accounts,
        }
    }

    fn deal(&self, account: usize, amount: i64, cost: i64) -> Deal {
        Deal {
            amount: Some(amount.into()),
            account_id: Some(self.accounts[account]),
            custom_fields: json!({"cost": cost}),
            ..Deal::new("Rollout", self.office.pipeline)
        }
    }

    async fn create_deal(&self, account: usize, amount: i64, cost: i64) -> Id<Deal> {
        let deal = self.deal(account, amount, cost);
        self.session.deals().create(deal).await.unwrap().id
    }

    async fn create_project(&self, account: usize, budget: i64) -> Row {
        let customer = self.accounts[account];
        let body = json!({
            "name": "Relaunch",
            "custom_fields": {"customer": customer, "budget": budget},
        });
        let mut projects = self.session.object("project").await.unwrap();
        projects.create(body.as_object().unwrap()).await.unwrap()
    }

    async fn account(&self, place: usize, field: &str) -> Json {
        let account = self.session.accounts().get(self.accounts[place]).await;
        account.unwrap().custom_fields[field].clone()
    }

    /// Every computed value of every live record is what is computed from scratch.
    async fn assert_right(&self) {
        let computed = Computed::new(&self.session);
        let registry = self.session.registry().await.unwrap();
        for object in ["account", "deal", "project"] {
            let described = registry.object(object).unwrap();
            let find = Find::new().with_archived().limit(200);
            let named = self.session.object(object).await.unwrap();
            for row in named.find(&find).await.unwrap().items {
                for field in described.custom_fields() {
                    if !field.field.read_only {
                        continue;
                    }
                    let stored = row.get("custom_fields").to_json();
                    let stored = stored.get(&*field.key).cloned().unwrap_or_default();
                    let anew = computed.evaluate(&row, &field.key).await.unwrap();
                    assert_eq!(stored, anew, "{object}.{} {stored:?}", field.key);
                }
            }
        }
        // The sum once more, without the engine.
        let deals = rows_of(&self.session, "deal").await;
        for (place, account) in self.accounts.iter().enumerate() {
            if self.session.accounts().get(*account).await.is_err() {
                continue;
            }
            let own = deals.iter().filter(|row| {
                !row.is_deleted() && row.get("account_id").as_uuid() == Some(account.uuid())
            });
            let margin = |row: &Row| {
                let cost = row.get("custom_fields").to_json()["cost"].clone();
                let cost: Decimal = cost.as_str().unwrap_or("0").parse().unwrap();
                row.get("amount").as_decimal().unwrap_or_default() - cost
            };
            let sum: Decimal = own.map(margin).sum();
            let stored = self.account(place, "total_margin").await;
            assert_eq!(stored, json!(sum.normalize().to_string()));
        }
    }
}

/// C-038: values of formulas and roll-ups are there in the commit that changes what they follow from,
/// are filtered and sorted by like others, and the audit trail tells of them.
#[tokio::test]
async fn values_follow_in_the_same_commit() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    assert_eq!(shop.account(0, "total_margin").await, json!("0"));
    assert_eq!(shop.account(0, "best").await, Json::Null);
    let deal = shop.create_deal(0, 300, 100).await;
    assert_eq!(
        session.deals().get(deal).await.unwrap().custom_fields["margin"],
        json!("200")
    );
    assert_eq!(shop.account(0, "score").await, json!("210"));
    let project = shop.create_project(0, 50).await;
    let stored = project.get("custom_fields").to_json();
    assert_eq!(stored["customer_score"], json!("210"));
    assert_eq!(stored["customer_name"], json!("GLOBEX"));
    assert_eq!(stored["is_rich"], json!(true));
    assert_eq!(shop.account(0, "rich_projects").await, json!(1));
    assert_eq!(shop.account(0, "mean_budget").await, json!("50"));

    // Down to the depth of the graph: deal, account, project, account.
    let cheaper = |deal: &mut Deal| deal.amount = Some(120.into());
    session.deals().update(deal, cheaper).await.unwrap();
    assert_eq!(shop.account(0, "score").await, json!("20"));
    assert_eq!(shop.account(0, "rich_projects").await, json!(0));
    shop.assert_right().await;

    // Reparented, archived, deleted, restored, purged.
    let to = shop.accounts[1];
    let move_it = |deal: &mut Deal| deal.account_id = Some(to);
    session.deals().update(deal, move_it).await.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("0"));
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().archive(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().delete(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("0"));
    session.deals().restore(deal).await.unwrap();
    assert_eq!(shop.account(1, "total_margin").await, json!("20"));
    session.deals().delete(deal).await.unwrap();
    session.deals().purge(deal).await.unwrap();
    shop.assert_right().await;

    // A field that a formula names through a reference.
    let rename = |account: &mut Account| account.name = "Globex Europe".into();
    session
        .accounts()
        .update(shop.accounts[0], rename)
        .await
        .unwrap();
    let projects = session.object("project").await.unwrap();
    let by_name = Find::new().filter_by_name(Filter::eq("customer_name", "GLOBEX EUROPE"));
    assert_eq!(projects.find(&by_name).await.unwrap().items.len(), 1);
    let by_score = Find::new().filter_by_name(Filter::eq("custom_fields.score", 0_i64));
    let accounts = session.object("account").await.unwrap();
    assert_eq!(accounts.count(&by_score).await.unwrap(), 3);

    // Nobody else writes them.
    let forge = |deal: &mut Deal| deal.custom_fields["margin"] = json!("1000000");
    let deal = shop.create_deal(0, 1, 0).await;
    let refused = session.deals().update(deal, forge).await;
    assert_eq!(
        faults(refused),
        [("custom_fields.margin".into(), "read_only".into())]
    );
    shop.assert_right().await;
    for object in ["account", "deal"] {
        for row in rows_of(session, object).await {
            assert_trail_tells(session, &row).await;
        }
    }
}

/// Merged and unmerged parents have what their children come to.
#[tokio::test]
async fn merges_and_their_undoing_keep_figures_right() {
    let shop = Shop::new(&crm()).await;
    shop.create_deal(0, 300, 0).await;
    shop.create_deal(1, 500, 0).await;
    shop.create_project(1, 100).await;
    let grade = |account: &mut Account| account.custom_fields["grade"] = json!(4);
    let mut accounts = shop.session.accounts();
    accounts.update(shop.accounts[1], grade).await.unwrap();
    let (survivor, loser) = (shop.accounts[0], shop.accounts[1]);
    let merged = accounts
        .merge_into(survivor, &[loser], &Choices::new(), None)
        .await;
    let merged = merged.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("800"));
    shop.assert_right().await;
    shop.create_deal(0, 7, 0).await;
    for merge in merged.merges.iter().rev() {
        shop.session.merges().undo(*merge).await.unwrap();
    }
    assert_eq!(shop.account(0, "total_margin").await, json!("307"));
    // What the survivor got of the loser's own fields went back.
    assert_eq!(shop.account(0, "grade").await, Json::Null);
    assert_eq!(shop.account(1, "grade").await, json!("4"));
    assert_eq!(shop.account(1, "total_margin").await, json!("500"));
    shop.assert_right().await;
}

/// Figures are exact whoever writes children of one parent at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn figures_are_exact_under_sixteen_writers() {
    let shop = Arc::new(Shop::new(&crm()).await);
    let mut own = Vec::new();
    for number in 0..16 {
        own.push(shop.create_deal(0, 100 + number, 0).await);
    }
    let barrier = Arc::new(Barrier::new(own.len()));
    let mut tasks = Vec::new();
    for (number, deal) in own.into_iter().enumerate() {
        let (shop, barrier) = (shop.clone(), barrier.clone());
        tasks.push(tokio::spawn(async move {
            barrier.wait().await;
            let deals = || shop.session.deals();
            match number % 3 {
                0 => deals().delete(deal).await.unwrap(),
                1 => {
                    let change = |deal: &mut Deal| deal.amount = Some(1.into());
                    deals().update(deal, change).await.unwrap();
                }
                _ => {
                    let to = shop.accounts[1];
                    let change = move |deal: &mut Deal| deal.account_id = Some(to);
                    deals().update(deal, change).await.unwrap();
                }
            }
            shop.create_project(0, 10).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(shop.account(0, "projects").await, json!(16));
    shop.assert_right().await;
}

/// Definitions are read, typed and ordered when they are written; what does not fit is told with its
/// place.
#[tokio::test]
async fn unsound_definitions_are_refused() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let refused = async |object: &str, field_type| {
        let refused = define(session, object, "odd", field_type).await;
        faults(refused)
    };
    let at = |path: &str, code: &str| vec![(format!("field_type.{path}"), code.to_owned())];
    let number = |source: &str| formula(source, DataType::Decimal);
    assert_eq!(
        refused("deal", number("cost +")).await,
        at("expression", "syntax")
    );
    assert_eq!(
        refused("deal", number("costs + 1")).await,
        at("expression", "unknown_field")
    );
    assert_eq!(
        refused("deal", number("name")).await,
        at("expression", "wrong_type")
    );
    // an amount is no number until somebody says so.
    assert_eq!(
        refused("deal", number("amount")).await,
        at("expression", "wrong_type")
    );
    let json = formula("1", DataType::Json);
    assert_eq!(refused("deal", json).await, at("result", "inconsistent"));

    // roll-ups never add up currencies.
    let sum = || roll_up(RollUpFunction::Sum, ("deal", "account_id"), Some("amount"));
    let mixed = CustomFieldType::RollUp(sum());
    assert_eq!(
        refused("account", mixed).await,
        at("filter", "mixed_currencies")
    );
    let euros = CustomFieldType::RollUp(RollUp {
        filter: Some(Filter::eq("currency", "EUR")),
        ..sum()
    });
    define(session, "account", "euros", euros).await.unwrap();
    let by = roll_up(RollUpFunction::Count, ("deal", "contact_id"), None);
    assert_eq!(
        refused("account", CustomFieldType::RollUp(by)).await,
        at("by", "inconsistent")
    );

    // A circle through three objects, told with its path.
    let circle = define(session, "deal", "share", number("account_id.rich_projects")).await;
    circle.unwrap();
    let sum = roll_up(RollUpFunction::Sum, ("deal", "account_id"), Some("share"));
    define(session, "account", "shares", CustomFieldType::RollUp(sum))
        .await
        .unwrap();
    let fields = session.records::<CustomField>();
    let score = CustomField::API_NAME.eq(name("score"));
    let score = fields.find_one(score).await.unwrap().unwrap();
    let expression = |field: &mut CustomField| {
        field.field_type = formula("shares + 1", DataType::Decimal);
    };
    let refused = session
        .records()
        .update(score.id, expression)
        .await
        .unwrap_err();
    let fault = &refused.field_errors()[0];
    assert_eq!((fault.path.as_str(), fault.code), ("field_type", "cycle"));
    for step in [
        "account.score",
        "account.shares",
        "deal.share",
        "project.is_rich",
    ] {
        assert!(fault.message.contains(step), "{}", fault.message);
    }
    let itself = define(session, "deal", "own", number("own + 1")).await;
    assert!(itself.is_err());
}

/// Rules between fields judge new records and those whose fields change.
#[tokio::test]
async fn rules_between_fields_are_kept() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let old = shop.create_deal(0, 100, 100).await;
    let rule = |name_: &str, source: &str| CustomFieldRule {
        field: Some(name("cost")),
        ..CustomFieldRule::new(name("deal"), name_, source, "must leave a margin")
    };
    let create = async |rule| session.records::<CustomFieldRule>().create(rule).await;
    let syntax = create(rule("Odd", "cost <")).await;
    assert_eq!(faults(syntax), [("expression".into(), "syntax".into())]);
    let other = create(rule("Other", "account_id.name = 'Globex'")).await;
    assert_eq!(faults(other), [("expression".into(), "unsupported".into())]);
    create(rule("Margin", "margin > 0")).await.unwrap();
    let broken = || vec![("custom_fields.cost".to_owned(), "rule_broken".to_owned())];
    let refused = session.deals().create(shop.deal(0, 100, 100)).await;
    assert_eq!(faults(refused), broken());
    shop.create_deal(0, 100, 99).await;
    // What was there before is judged when it changes.
    let rename = |deal: &mut Deal| deal.name = "Renamed".into();
    session.deals().update(old, rename).await.unwrap();
    let dearer = |deal: &mut Deal| deal.custom_fields["cost"] = json!(101);
    assert_eq!(faults(session.deals().update(old, dearer).await), broken());

    create(rule("Ratio", "100 / cost < 1000")).await.unwrap();
    let zero = session.deals().create(shop.deal(0, 100, 0)).await;
    let zero = faults(zero);
    assert_eq!(
        zero,
        [(
            "custom_fields.cost".to_owned(),
            "division_by_zero".to_owned()
        )]
    );
    // Null is accepted.
    let mut none = shop.deal(0, 100, 0);
    none.custom_fields = json!({});
    session.deals().create(none).await.unwrap();

    // An object of the engine without fields of the tenant has rules too.
    let named = CustomFieldRule::new(name("contact"), "Named", "last_name != 'X'", "not X");
    create(named).await.unwrap();
    let refused = session.contacts().create(Contact::named("Ada", "X")).await;
    assert_eq!(
        faults(refused),
        [("custom_fields".into(), "rule_broken".into())]
    );
    let free = Contact {
        custom_fields: json!({"anything": 1}),
        ..Contact::named("Ada", "Lovelace")
    };
    session.contacts().create(free).await.unwrap();
}

/// A value that cannot be computed is none, and why is told; a changed definition is computed for the
/// records that there are.
#[tokio::test]
async fn values_are_explained_and_recomputed() {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let deal = shop.create_deal(0, 100, 0).await;
    for _ in 0..3 {
        shop.create_deal(0, 100, 50).await;
    }
    let ratio = formula("amount(amount) / cost", DataType::Decimal);
    let ratio = define(session, "deal", "ratio", ratio).await.unwrap();
    let fields = || session.records::<CustomField>();
    assert!(fields().get(ratio).await.unwrap().stale_since.is_some());
    let computed = Computed::new(session);
    let stop = |_: u64, _: Option<u64>| ControlFlow::Break(());
    let stopped = computed.recompute(ratio, &stop).await.unwrap();
    assert!(!stopped.is_complete);
    let run = computed.recompute(ratio, &()).await.unwrap();
    assert_eq!((run.checked, run.mended, run.is_complete), (4, 0, true));
    assert!(fields().get(ratio).await.unwrap().stale_since.is_none());
    let row = session
        .object("deal")
        .await
        .unwrap()
        .get(deal.uuid())
        .await
        .unwrap();
    assert_eq!(row.get("custom_fields").to_json().get("ratio"), None);
    let explained = computed.explain(&row, "ratio").await.unwrap();
    let Explanation::Failed(problem) = explained else {
        panic!("{explained:?}");
    };
    assert_eq!(problem.code(), "division_by_zero");

    // The roll-ups over it follow a changed definition.
    let margin = CustomField::API_NAME.eq(name("margin"));
    let margin = fields().find_one(margin).await.unwrap().unwrap();
    let dearer = |field: &mut CustomField| {
        field.field_type = formula("amount(amount) - 2 * cost", DataType::Decimal);
    };
    fields().update(margin.id, dearer).await.unwrap();
    assert_eq!(shop.account(0, "total_margin").await, json!("250"));
    let run = computed.recompute(margin.id, &()).await.unwrap();
    assert_eq!((run.mended, run.is_complete), (3, true));
    assert_eq!(shop.account(0, "total_margin").await, json!("100"));
    let again = computed.recompute(margin.id, &()).await.unwrap();
    assert_eq!((again.mended, again.is_complete), (0, true));
}

/// More records than one commit takes follow from a change: the field says so until a run.
#[tokio::test]
async fn too_many_dependents_are_marked_and_computed_in_batches() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let industry = formula("account_id.industry", DataType::String);
    let industry = define(&session, "contact", "account_industry", industry)
        .await
        .unwrap();
    let account = session
        .accounts()
        .create(Account::new("Globex"))
        .await
        .unwrap();
    // Also more than three batches of the run.
    let count = MAX_DEPENDENTS + 501;
    let contacts = (0..count).map(|number| Contact {
        account_id: Some(account.id),
        ..Contact::named("Ada", format!("Example {number}"))
    });
    session
        .contacts()
        .create_all(contacts.collect())
        .await
        .unwrap();
    let change = |account: &mut Account| account.industry = Some("software".into());
    session.accounts().update(account.id, change).await.unwrap();
    let fields = || session.records::<CustomField>();
    assert!(fields().get(industry).await.unwrap().stale_since.is_some());
    let software = || Find::new().filter_by_name(Filter::eq("account_industry", "software"));
    let contacts = session.object("contact").await.unwrap();
    assert_eq!(contacts.count(&software()).await.unwrap(), 0);
    let run = Computed::new(&session)
        .recompute(industry, &())
        .await
        .unwrap();
    assert_eq!(usize::try_from(run.mended).unwrap(), count);
    assert!(run.is_complete);
    assert_eq!(contacts.count(&software()).await.unwrap(), count as u64);

    // Another tenant neither sees nor computes them.
    let (_, other) = tenant(&crm, "other").await;
    let foreign = Computed::new(&other).recompute(industry, &()).await;
    assert!(matches!(foreign, Err(Error::NotFound { .. })));
    let row = contacts
        .find(&software().limit(1))
        .await
        .unwrap()
        .items
        .remove(0);
    assert!(
        Computed::new(&other)
            .explain(&row, "account_industry")
            .await
            .is_err()
    );
}

/// One commit with many children asks once for each roll-up, and tells of the parent once.
#[tokio::test]
async fn many_children_in_one_commit_are_one_change_of_the_parent() {
    let shop = Shop::new(&crm()).await;
    let account = || shop.session.accounts();
    let before = account().get(shop.accounts[0]).await.unwrap().version;
    let deals = (0..50).map(|number| shop.deal(0, number, 0)).collect();
    shop.session.deals().create_all(deals).await.unwrap();
    let after = account().get(shop.accounts[0]).await.unwrap().version;
    assert_eq!(after, before + 1);
    assert_eq!(shop.account(0, "total_margin").await, json!("1225"));
    shop.assert_right().await;
}

#[derive(Clone, Debug)]
enum Step {
    Deal(usize, i64, i64),
    Project(usize, i64),
    Amount(usize, i64),
    Move(usize, usize),
    MoveProject(usize, usize),
    Grade(usize, i64),
    Delete(usize),
    Restore(usize),
    DeleteAccount(usize),
    RestoreAccount(usize),
    Define(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || -200_i64..400;
    let step = prop_oneof![
        4 => (0..3_usize, number(), number()).prop_map(|(a, m, c)| Step::Deal(a, m.abs(), c)),
        3 => (0..3_usize, number()).prop_map(|(a, b)| Step::Project(a, b)),
        3 => (0..9_usize, number()).prop_map(|(d, m)| Step::Amount(d, m.abs())),
        3 => (0..9_usize, 0..3_usize).prop_map(|(d, a)| Step::Move(d, a)),
        2 => (0..9_usize, 0..3_usize).prop_map(|(p, a)| Step::MoveProject(p, a)),
        2 => (0..3_usize, number()).prop_map(|(a, g)| Step::Grade(a, g)),
        2 => (0..9_usize).prop_map(Step::Delete),
        1 => (0..9_usize).prop_map(Step::Restore),
        1 => (1..3_usize).prop_map(Step::DeleteAccount),
        1 => (1..3_usize).prop_map(Step::RestoreAccount),
        1 => (0..5_usize).prop_map(Step::Define),
    ];
    prop::collection::vec(step, 1..14)
}

/// Formulas and roll-ups equal recomputation from scratch after random changes.
#[test]
fn values_equal_recomputation_after_random_changes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: common::cases(12),
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(run(&steps));
            Ok(())
        })
        .unwrap();
}

async fn run(steps: &[Step]) {
    let shop = Shop::new(&crm()).await;
    let session = &shop.session;
    let (mut deals, mut projects) = (Vec::new(), Vec::new());
    let at = |place: usize, count: usize| place.checked_rem(count);
    for (number, step) in steps.iter().enumerate() {
        // What is not allowed now, such as a deal of a deleted account, is no step.
        match step.clone() {
            Step::Deal(account, amount, cost) => {
                let created = session
                    .deals()
                    .create(shop.deal(account, amount, cost))
                    .await;
                deals.extend(created.map(|deal| deal.id));
            }
            Step::Project(account, budget) => {
                let customer = shop.accounts[account];
                if session.accounts().get(customer).await.is_ok() {
                    projects.push(shop.create_project(account, budget).await.id());
                }
            }
            Step::Amount(deal, amount) => {
                if let Some(place) = at(deal, deals.len()) {
                    let change = |deal: &mut Deal| deal.amount = Some(amount.into());
                    let _ = session.deals().update(deals[place], change).await;
                }
            }
            Step::Move(deal, account) => {
                if let Some(place) = at(deal, deals.len()) {
                    let to = shop.accounts[account];
                    let change = |deal: &mut Deal| deal.account_id = Some(to);
                    let _ = session.deals().update(deals[place], change).await;
                }
            }
            Step::MoveProject(project, account) => {
                let customer = shop.accounts[account];
                let is_live = session.accounts().get(customer).await.is_ok();
                if let Some(place) = at(project, projects.len()).filter(|_| is_live) {
                    let mut objects = session.object("project").await.unwrap();
                    let row = objects.get(projects[place]).await.unwrap();
                    let patch = json!({"custom_fields": {"customer": customer}});
                    let patch = patch.as_object().unwrap();
                    objects.merge(row.id(), row.version(), patch).await.unwrap();
                }
            }
            Step::Grade(account, grade) => {
                let change = |account: &mut Account| {
                    account.custom_fields["grade"] = json!(grade);
                };
                let _ = session
                    .accounts()
                    .update(shop.accounts[account], change)
                    .await;
            }
            Step::Delete(deal) => {
                if let Some(place) = at(deal, deals.len()) {
                    let _ = session.deals().delete(deals[place]).await;
                }
            }
            Step::Restore(deal) => {
                if let Some(place) = at(deal, deals.len()) {
                    let _ = session.deals().restore(deals[place]).await;
                }
            }
            Step::DeleteAccount(account) => {
                let _ = session.accounts().delete(shop.accounts[account]).await;
            }
            Step::RestoreAccount(account) => {
                let _ = session.accounts().restore(shop.accounts[account]).await;
            }
            Step::Define(which) => {
                // A random small graph over what there is; circles are refused.
                let sources = [
                    ("account", "score - mean_budget"),
                    ("deal", "account_id.score + margin"),
                    ("project", "budget / (customer.projects - 1)"),
                    ("account", "best * best"),
                    ("deal", "account_id.parent_account_id.score"),
                ];
                let (object, source) = sources[which];
                let field = format!("extra_{number}");
                let field_type = formula(source, DataType::Decimal);
                let field = define(session, object, &field, field_type).await.unwrap();
                let run = Computed::new(session).recompute(field, &()).await.unwrap();
                assert!(run.is_complete);
                if object == "deal" {
                    let sum = roll_up(
                        RollUpFunction::Min,
                        ("deal", "account_id"),
                        Some(&format!("extra_{number}")),
                    );
                    let over = format!("over_{number}");
                    let sum = CustomFieldType::RollUp(sum);
                    let over = define(session, "account", &over, sum).await.unwrap();
                    Computed::new(session).recompute(over, &()).await.unwrap();
                }
            }
        }
        shop.assert_right().await;
    }
}
