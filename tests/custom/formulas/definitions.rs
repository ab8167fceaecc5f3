//! Definitions that are refused, and rules between fields.

use crm_engine::custom_objects::{
    CustomField, CustomFieldRule, CustomFieldType, DataType, RollUp, RollUpFunction,
};
use crm_engine::prelude::*;
use serde_json::json;

use super::{Shop, define, faults, formula, name, roll_up};
use crate::common::crm;

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
