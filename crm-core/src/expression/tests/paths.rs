//! Fields of rows and of what they lead to.

use super::*;

fn meta(number: u128) -> Meta {
    let by = Actor::System;
    let at = DateTime::UNIX_EPOCH;
    Meta::first(Uuid::from_u128(number), Stamp { at, by })
}

fn deal() -> Record<Deal> {
    let deal = Deal {
        amount: Some(Decimal::from(12_000)),
        currency: Currency::EUR,
        account_id: Some(Id::from(Uuid::from_u128(2))),
        status: DealStatus::Open,
        custom_fields: json!({ "c_1": "North", "c_2": "12.50", "c_3": 7, "c_4": "soon" }),
        tags: vec!["key".to_owned()],
        ..Deal::new("Rollout", Id::from(Uuid::from_u128(3)))
    };
    Record::new(meta(1), deal)
}

fn defined(object: &ObjectRef, name: &str) -> Option<(Box<str>, FieldSchema)> {
    let (key, field_type) = match (object.name(), name) {
        ("deal", "region") => ("c_1", FieldType::text(50)),
        ("deal", "margin") => ("c_2", FieldType::decimal().with_currency("currency")),
        ("deal", "seats") => ("c_3", FieldType::decimal()),
        ("deal", "renewal") => ("c_4", FieldType::Date),
        ("account", "tier") => ("c_1", FieldType::text(50)),
        _ => return None,
    };
    Some((key.into(), FieldSchema::new(name.to_owned(), field_type)))
}

fn with_row<R>(then: impl FnOnce(&ObjectScope<'_>, &RowValues<'_>) -> R) -> R {
    let registry = Registry::default();
    registry.register::<Account>();
    registry.register::<crate::identity::User>();
    let scope = ObjectScope::new(Deal::schema(), &registry).with_custom_fields(&defined);
    let parent = Record::new(meta(4), Account::new("Globex Holding"));
    let account = Account {
        industry: Some("software".to_owned()),
        parent_account_id: Some(Id::from(Uuid::from_u128(4))),
        custom_fields: json!({ "c_1": "gold" }),
        ..Account::new("Globex")
    };
    let account = Record::new(meta(2), account);
    let rows: Vec<Row> = vec![std::sync::Arc::new(account), std::sync::Arc::new(parent)];
    let get = |_: &ObjectRef, id: Uuid| rows.iter().find(|row| row.id() == id).cloned();
    let related = RelatedBy::new(get, |_: &ObjectRef| rows.clone());
    let deal = deal();
    then(&scope, &RowValues::with_related(&deal, &related))
}

#[test]
fn fields_of_rows_and_of_what_they_lead_to() {
    with_row(|scope, row| {
        for (source, expected) in [
            ("name", Datum::from("Rollout")),
            ("amount", euros(12_000)),
            ("amount / 1000 > money(11, 'EUR')", Datum::Boolean(true)),
            ("version", Datum::Number(1.into())),
            ("status = 'open'", Datum::Boolean(true)),
            ("tags", Datum::List(vec!["key".to_owned()].into())),
            ("custom_fields.region & region", Datum::from("NorthNorth")),
            ("text(margin)", Datum::from("12.50 EUR")),
            ("seats + 1", Datum::Number(8.into())),
            // Not a date, from before the field was defined.
            ("renewal", Datum::Null),
            ("account_id.industry", Datum::from("software")),
            (
                "account_id.parent_account_id.name",
                Datum::from("Globex Holding"),
            ),
            (
                "account_id.parent_account_id.parent_account_id.name",
                Datum::Null,
            ),
            ("account_id.tier", Datum::from("gold")),
            ("account_id.custom_fields.tier", Datum::from("gold")),
            ("owner_id.email", Datum::Null),
            ("owner_id is null", Datum::Boolean(true)),
            ("campaign_id", Datum::Null),
        ] {
            let typed = Expression::parse(source)
                .unwrap()
                .check(scope)
                .expect(source);
            let context = context();
            let value = typed.evaluate(row, &context);
            assert_eq!(value, Ok(expected), "{source}");
        }
    });
}

#[test]
fn paths_that_lead_nowhere() {
    with_row(|scope, _| {
        for (source, code, message) in [
            (
                "naem",
                "unknown_field",
                "there is no field `naem`; did you mean `name`?",
            ),
            (
                "account.name",
                "unknown_field",
                "there is no field `account`; did you mean `account_id`?",
            ),
            (
                "account_id.industri",
                "unknown_field",
                "there is no field `industri`; did you mean `industry`?",
            ),
            (
                "custom_fields.colour",
                "undefined_field",
                "`colour` has no definition, so its type is not known; define the field first",
            ),
            (
                "custom_fields",
                "untyped_field",
                "`custom_fields` is a document; name one of its members",
            ),
            (
                "name.first",
                "not_a_reference",
                "`name` is not a reference, so nothing can be named behind it",
            ),
            (
                "status = 'opne'",
                "not_an_option",
                "`status` has no such option; did you mean \"open\"?",
            ),
            (
                "account_id.parent_account_id.parent_account_id.parent_account_id.parent_account_id.parent_account_id.name",
                "too_many_references",
                "the path follows more than 5 references",
            ),
        ] {
            let refused = Expression::parse(source).unwrap().check(scope).unwrap_err();
            let fault = &refused.faults()[0];
            assert_eq!(
                (fault.code, fault.message.as_str()),
                (code, message),
                "{source}"
            );
        }
    });
}

/// addresses are the same in any letter case, as in filters.
#[test]
fn letter_case_is_ignored_where_filters_do() {
    with_row(|scope, _| {
        let typed = Expression::parse("owner_id.email = 'Ada@Globex.example'").unwrap();
        let typed = typed.check(scope).unwrap();
        struct One;
        impl Values for One {
            fn value<'v>(&'v self, _: &Dependency) -> Datum<'v> {
                Datum::from("ada@globex.EXAMPLE")
            }
        }
        assert_eq!(typed.decide(&One, &context()), Ok(Some(true)));
        assert_eq!(typed.privacy(), Privacy::Personal);
    });
}
