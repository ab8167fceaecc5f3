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

mod definitions;
mod properties;
mod values;

use crm_engine::custom_objects::{
    Computed, CustomField, CustomFieldType, CustomObject, DataType, DecimalLimits, RollUp,
    RollUpFunction,
};
use crm_engine::prelude::*;
use crm_engine::query::Comparison;
use crm_engine::schema::Row;
use crm_engine::tenancy::Onboarded;
use crm_engine::value::ApiName;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use crate::common::{rows_of, tenant};

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
