//! Filters, pages and aggregates, as a host and its web API ask.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use crate::common::backend;
use crm_engine::error::codes;
use crm_engine::prelude::*;
use crm_engine::query::{QueryError, Where};
use rust_decimal::Decimal;
use serde_json::json;

async fn world() -> (Session, crm_engine::tenancy::Onboarded) {
    let crm = Crm::builder(backend::storage(&[])).build();
    let acme = crm
        .onboard(Onboarding::new("Acme", "acme", "ada@acme.example"))
        .await
        .unwrap();
    (crm.session(acme.tenant, Actor::User(acme.admin)), acme)
}

fn by_name(json: serde_json::Value) -> Find<Account> {
    Find::new().filter_by_name(Filter::from_json(&json).unwrap())
}

async fn error(session: &Session, json: serde_json::Value) -> QueryError {
    match session.accounts().find(by_name(json)).await.unwrap_err() {
        Error::Query(error) => error,
        other => panic!("expected a query error, got {other}"),
    }
}

#[tokio::test]
async fn what_does_not_fit_the_schema_is_told() {
    let (session, _) = world().await;
    let unknown = error(&session, json!({"field": "nmae", "op": "eq", "value": "x"})).await;
    assert_eq!(unknown.to_string(), "`account` has no field `nmae`");
    let wrong = error(
        &session,
        json!({"field": "founded_year", "op": "gt", "value": "soon"}),
    )
    .await;
    assert_eq!(wrong.code(), "wrong_type");
    assert!(
        !wrong.to_string().contains("soon"),
        "values are not repeated"
    );
    let option = error(
        &session,
        json!({"field": "status", "op": "eq", "value": "gone"}),
    )
    .await;
    assert_eq!(option.code(), "wrong_type");
    for (field, op, value) in [
        ("tags", "eq", json!("a")),
        ("name", "any_of", json!(["a"])),
        ("annual_revenue", "contains", json!("1")),
        ("custom_fields", "lt", json!(1)),
    ] {
        let unsupported = error(&session, json!({"field": field, "op": op, "value": value})).await;
        assert_eq!(unsupported.code(), "unsupported", "{field} {op}");
    }
    let through = json!({"field": "name", "has": {"field": "name", "op": "is_null"}});
    assert_eq!(error(&session, through).await.code(), "unsupported");
    let many: Vec<_> = (0..1_001).collect();
    let large = error(
        &session,
        json!({"field": "founded_year", "op": "in", "value": many}),
    )
    .await;
    assert_eq!(
        large,
        QueryError::TooLarge {
            what: "values",
            max: 1_000
        }
    );
    let all: Vec<_> = (0..201)
        .map(|_| json!({"field": "name", "op": "is_null"}))
        .collect();
    assert_eq!(
        error(&session, json!({"and": all})).await.code(),
        "too_large"
    );
    let sort = session
        .accounts()
        .find(Find::new().sort(Account::TAGS.asc()))
        .await
        .unwrap_err();
    assert_eq!(sort.code(), "unsupported");
}

#[tokio::test]
async fn pages_lead_forth_and_back_and_stay_right_while_records_come() {
    let (session, _) = world().await;
    for index in 0..25 {
        let account = Account {
            founded_year: (index % 4 != 0).then_some(2_000 + index % 3),
            ..Account::new(format!("Account {index:02}"))
        };
        session.accounts().create(account).await.unwrap();
    }
    let find = || {
        Find::new()
            .sort(Account::FOUNDED_YEAR.desc())
            .sort(Account::NAME.asc())
    };
    let whole = session.accounts().find(find().limit(100)).await.unwrap();
    assert!(whole.next.is_none() && whole.previous.is_none());
    let wanted: Vec<_> = whole.items.iter().map(|account| account.id).collect();

    let mut seen = Vec::new();
    let mut pages = Vec::new();
    let mut page = session.accounts().find(find().limit(7)).await.unwrap();
    loop {
        seen.extend(page.items.iter().map(|account| account.id));
        pages.push(page.clone());
        let Some(next) = page.next.clone() else { break };
        page = session
            .accounts()
            .find(find().limit(7).after(next))
            .await
            .unwrap();
    }
    assert_eq!(seen, wanted);
    for index in (1..pages.len()).rev() {
        let previous = pages[index].previous.clone().unwrap();
        let back = session
            .accounts()
            .find(find().limit(7).before(previous))
            .await
            .unwrap();
        assert_eq!(back.items, pages[index - 1].items);
    }
    // A record in front of the cursor does not move the next page.
    let cursor = pages[0].next.clone().unwrap();
    // Without a year it stands with the first, by name in front of all.
    let early = Account::new("A");
    session.accounts().create(early).await.unwrap();
    let next = session
        .accounts()
        .find(find().limit(7).after(cursor.clone()))
        .await
        .unwrap();
    assert_eq!(next.items, pages[1].items);
    // A cursor of another order is refused.
    let other = Find::new().sort(Account::NAME.asc()).after(cursor);
    assert_eq!(
        session.accounts().find(other).await.unwrap_err().code(),
        "invalid_cursor"
    );
    let damaged = Find::new().after("bm90IGEgY3Vyc29y".to_owned().into());
    assert_eq!(
        session.accounts().find(damaged).await.unwrap_err().code(),
        "invalid_cursor"
    );
}

#[tokio::test]
async fn archived_and_deleted_records_are_only_found_when_asked_for() {
    let (session, _) = world().await;
    let mut ids = Vec::new();
    for name in ["here", "archived", "deleted"] {
        ids.push(
            session
                .accounts()
                .create(Account::new(name))
                .await
                .unwrap()
                .id,
        );
    }
    session.accounts().archive(ids[1]).await.unwrap();
    session.accounts().delete(ids[2]).await.unwrap();
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 1);
    assert_eq!(
        session
            .accounts()
            .count(Find::new().with_archived())
            .await
            .unwrap(),
        2
    );
    let all = Find::new().with_archived().with_deleted();
    assert_eq!(session.accounts().count(all).await.unwrap(), 3);
    assert_eq!(
        session.accounts().get(ids[1]).await.unwrap().name,
        "archived"
    );
    session.accounts().unarchive(ids[1]).await.unwrap();
    assert_eq!(session.accounts().count(Find::new()).await.unwrap(), 2);
}

/// The calendar is that of the time zone: midnight in New York is not midnight in UTC.
#[tokio::test]
async fn deals_by_quarter_of_a_time_zone() {
    let (session, acme) = world().await;
    let dates = ["2026-01-15", "2026-03-31", "2026-04-01", "2026-12-31"];
    for (index, date) in dates.iter().enumerate() {
        let deal = Deal {
            amount: Some(Decimal::from(100 * (index as i64 + 1))),
            expected_close_date: Some(date.parse().unwrap()),
            ..Deal::new("Rollout", acme.pipeline)
        };
        session.deals().create(deal).await.unwrap();
    }
    session
        .deals()
        .create(Deal::new("No date", acme.pipeline))
        .await
        .unwrap();
    let groups = session
        .deals()
        .aggregate(
            Aggregate::new()
                .filter(Deal::CURRENCY.eq(Currency::USD))
                .group_by_calendar(
                    Deal::EXPECTED_CLOSE_DATE,
                    CalendarUnit::Quarter,
                    TimeZone::UTC,
                )
                .count()
                .sum(Deal::AMOUNT)
                .average(Deal::AMOUNT),
        )
        .await
        .unwrap();
    let text = serde_json::to_value(&groups).unwrap();
    assert_eq!(
        text,
        json!([
            {"keys": ["2026-01-01"], "measures": [2, "300", "150"]},
            {"keys": ["2026-04-01"], "measures": [1, "300", "300"]},
            {"keys": ["2026-10-01"], "measures": [1, "400", "400"]},
            {"keys": [null], "measures": [1, "0", null]},
        ])
    );
    // The same request as a web API receives it.
    let request: Aggregate<Deal> = serde_json::from_value(json!({
        "filter": {"field": "currency", "op": "eq", "value": "USD"},
        "group_by": [{"field": "expected_close_date", "by": "quarter", "time_zone": "UTC"}],
        "measures": ["count", {"sum": "amount"}, {"average": "amount"}],
    }))
    .unwrap();
    assert_eq!(session.deals().aggregate(request).await.unwrap(), groups);
}

/// A unit of work reads its own changes, also through relations and in sums.
#[tokio::test]
async fn a_unit_of_work_sees_its_own_changes() {
    let (session, acme) = world().await;
    let software = Account {
        industry: Some("software".into()),
        ..Account::new("Globex")
    };
    let globex = session.accounts().create(software).await.unwrap().id;
    let steel = Account {
        industry: Some("steel".into()),
        ..Account::new("Initech")
    };
    let initech = session.accounts().create(steel).await.unwrap().id;
    let deal = |name: &str, account: Id<Account>, amount: i64| Deal {
        account_id: Some(account),
        amount: Some(amount.into()),
        ..Deal::new(name, acme.pipeline)
    };
    let first = session
        .deals()
        .create(deal("first", globex, 1))
        .await
        .unwrap()
        .id;
    let second = session
        .deals()
        .create(deal("second", initech, 10))
        .await
        .unwrap()
        .id;

    let mut work = session.begin();
    let third = work
        .deals()
        .create(deal("third", globex, 100))
        .await
        .unwrap()
        .id;
    work.deals()
        .update(first, |deal| deal.amount = Some(2.into()))
        .await
        .unwrap();
    work.accounts()
        .update(initech, |a| a.industry = Some("software".into()))
        .await
        .unwrap();
    work.accounts()
        .update(globex, |a| a.industry = Some("tea".into()))
        .await
        .unwrap();
    let software = || Deal::ACCOUNT_ID.has(Account::INDUSTRY.eq("software"));
    let found = work.deals().find(software()).await.unwrap();
    assert_eq!(
        found.items.iter().map(|deal| deal.id).collect::<Vec<_>>(),
        [second]
    );
    let tea = work
        .deals()
        .find(Deal::ACCOUNT_ID.has(Account::INDUSTRY.eq("tea")))
        .await
        .unwrap();
    assert_eq!(
        tea.items.iter().map(|deal| deal.id).collect::<Vec<_>>(),
        [first, third]
    );
    let sum = work
        .deals()
        .aggregate(
            Aggregate::new()
                .group_by(Deal::CURRENCY)
                .sum(Deal::AMOUNT)
                .count(),
        )
        .await
        .unwrap();
    assert_eq!((sum[0].number(0), sum[0].count(1)), (Some(112.into()), 3));
    work.deals().delete(second).await.unwrap();
    assert_eq!(work.deals().count(software()).await.unwrap(), 0);
    let page = work
        .deals()
        .find(Find::new().sort(Deal::AMOUNT.desc()).limit(1))
        .await
        .unwrap();
    assert_eq!(page.items[0].id, third);
    let rest = Find::new()
        .sort(Deal::AMOUNT.desc())
        .limit(5)
        .after(page.next.unwrap());
    assert_eq!(work.deals().find(rest).await.unwrap().items[0].id, first);

    // Nobody else sees any of it, and dropping it leaves nothing behind.
    assert_eq!(session.deals().count(Find::new()).await.unwrap(), 2);
    drop(work);
    assert_eq!(
        session.deals().get(first).await.unwrap().amount,
        Some(1.into())
    );
    assert!(session.deals().get(third).await.is_err());
}

/// What a unit of work counts is what is there after its commit, related records and groups included.
#[tokio::test]
async fn a_unit_of_work_counts_what_will_be_there() {
    let (session, onboarded) = world().await;
    let account = |name: &str, industry: &str| Account {
        industry: Some(industry.into()),
        ..Account::new(name)
    };
    let mut accounts = Vec::new();
    for (name, industry) in [("A", "retail"), ("B", "retail"), ("C", "banking")] {
        let made = session.accounts().create(account(name, industry)).await;
        accounts.push(made.unwrap().id);
    }
    let deal = |account: usize| Deal {
        account_id: Some(accounts[account]),
        ..Deal::new("Rollout", onboarded.pipeline)
    };
    let mut deals = Vec::new();
    for account in [0, 0, 1, 2] {
        deals.push(session.deals().create(deal(account)).await.unwrap().id);
    }
    let mut work = session.begin();
    work.accounts()
        .update(accounts[1], |account| {
            account.industry = Some("banking".into());
        })
        .await
        .unwrap();
    let by_industry = || {
        Aggregate::<Deal>::new()
            .filter(Deal::ACCOUNT_ID.has(Account::INDUSTRY.eq("banking")))
            .group_by(Deal::ACCOUNT_ID)
            .count()
    };
    let counts = |groups: &[crm_engine::query::Group]| -> Vec<u64> {
        let mut counts: Vec<u64> = groups.iter().map(|group| group.count(0)).collect();
        counts.sort_unstable();
        counts
    };
    // Only what a deal leads to is changed so far.
    let groups = work.deals().aggregate(by_industry()).await.unwrap();
    assert_eq!(counts(&groups), [1, 1]);
    work.deals().create(deal(1)).await.unwrap();
    work.deals().create(deal(1)).await.unwrap();
    work.deals().delete(deals[3]).await.unwrap();
    work.deals()
        .update(deals[0], |deal| deal.account_id = Some(accounts[2]))
        .await
        .unwrap();
    let expected = work.deals().aggregate(by_industry()).await.unwrap();
    assert_eq!(counts(&expected), [1, 3]);
    let all = Aggregate::<Deal>::new().count();
    let all = work.deals().aggregate(all).await.unwrap();
    assert_eq!(counts(&all), [5]);
    work.commit().await.unwrap();
    let stored = session.deals().aggregate(by_industry()).await.unwrap();
    assert_eq!(stored, expected);
}

/// The names of accounts, in the order of their ids.
async fn names(session: &Session, filter: impl Into<Filter>) -> Vec<String> {
    let find = Find::<Account>::new().filter_by_name(filter.into());
    let page = session.accounts().find(find).await.unwrap();
    page.items.iter().map(|one| one.name.clone()).collect()
}

/// "Queries through them in both directions": the records that lead to a record, by one reference.
#[tokio::test]
async fn records_are_found_by_what_leads_to_them() {
    let (session, acme) = world().await;
    let mut accounts = Vec::new();
    for name in ["Globex", "Initech", "Hooli", "Umbrella"] {
        let account = Account {
            // Hooli and Umbrella belong to Globex.
            parent_account_id: accounts.first().copied().filter(|_| accounts.len() > 1),
            ..Account::new(name)
        };
        accounts.push(session.accounts().create(account).await.unwrap().id);
    }
    let deal = |account: usize, amount: i64, name: &str| Deal {
        account_id: Some(accounts[account]),
        amount: Some(amount.into()),
        ..Deal::new(name, acme.pipeline)
    };
    let mut deals = Vec::new();
    for (account, amount, name) in [
        (0, 500, "Rollout"),
        (0, 5, "Pilot"),
        (1, 5, "Rollout"),
        (2, 500, "Pilot"),
    ] {
        let made = session.deals().create(deal(account, amount, name)).await;
        deals.push(made.unwrap().id);
    }
    let large = || Deal::AMOUNT.gt(100);
    let with_large = || Deal::ACCOUNT_ID.any(large());
    assert_eq!(names(&session, with_large()).await, ["Globex", "Hooli"]);
    assert_eq!(
        names(&session, with_large().negate()).await,
        ["Initech", "Umbrella"]
    );
    let without = Deal::ACCOUNT_ID.any(Where::all()).negate();
    assert_eq!(names(&session, without).await, ["Umbrella"]);
    // One deal must be large and a pilot; several are another question.
    let pilot = || Deal::NAME.eq("Pilot");
    let one = Deal::ACCOUNT_ID.any(large().and(pilot()));
    assert_eq!(names(&session, one).await, ["Hooli"]);
    let several = with_large().and(Deal::ACCOUNT_ID.any(pilot()));
    assert_eq!(names(&session, several).await, ["Globex", "Hooli"]);
    // In JSON, and from account to account: a subsidiary with a large deal.
    let json = json!({"any": "account", "by": "parent_account_id", "where":
        {"any": "deal", "by": "account_id", "where": {"field": "amount", "op": "gt", "value": 100}}});
    let by_name = Filter::from_json(&json).unwrap();
    let typed = Account::PARENT_ACCOUNT_ID.any(with_large());
    assert_eq!(serde_json::to_value(&by_name).unwrap(), json);
    assert_eq!(names(&session, by_name).await, ["Globex"]);
    assert_eq!(names(&session, typed).await, ["Globex"]);
    // Both directions in one question: deals of accounts that have a large deal.
    let beside = Find::<Deal>::new().filter(Deal::ACCOUNT_ID.has(with_large()));
    assert_eq!(session.deals().count(beside).await.unwrap(), 3);
    let count = Aggregate::<Account>::new().filter(with_large()).count();
    let counted = session.accounts().aggregate(count).await.unwrap();
    assert_eq!(counted[0].count(0), 2);

    // Archived deals count, deleted ones do not.
    session.deals().archive(deals[0]).await.unwrap();
    session.deals().delete(deals[3]).await.unwrap();
    assert_eq!(names(&session, with_large()).await, ["Globex"]);
    session.deals().restore(deals[3]).await.unwrap();
    assert_eq!(names(&session, with_large()).await, ["Globex", "Hooli"]);
}

#[tokio::test]
async fn a_reference_that_does_not_lead_here_is_told_with_those_that_do() {
    let (session, _) = world().await;
    let any = |object: &str, by: &str| json!({"any": object, "by": by});
    let unknown = error(&session, any("dael", "account_id")).await;
    assert_eq!(unknown.code(), "unknown_object");
    for by in [
        "contact_id",
        "name",
        "acount_id",
        "custom_fields.account",
        "id",
    ] {
        let wrong = error(&session, any("deal", by)).await;
        assert_eq!(wrong.code(), "no_reference", "{by}");
        assert_eq!(
            wrong.to_string(),
            format!("`deal` does not lead to `account` by `{by}`; use `account_id`")
        );
    }
    let none = error(&session, any("pipeline", "account_id")).await;
    assert_eq!(
        none.to_string(),
        "`pipeline` does not lead to `account` by `account_id`; no field of it does"
    );
    let mut deep = any("account", "parent_account_id");
    for _ in 0..Filter::MAX_DEPTH {
        deep = json!({"any": "account", "by": "parent_account_id", "where": deep});
    }
    assert_eq!(Filter::from_json(&deep).unwrap_err().code(), "too_deep");
    let inside =
        json!({"any": "deal", "by": "account_id", "where": {"field": "nmae", "op": "is_null"}});
    assert_eq!(
        error(&session, inside).await.to_string(),
        "`deal` has no field `nmae`"
    );
    let many: Vec<_> = (0..101)
        .map(|_| {
            json!({"any": "deal", "by": "account_id",
        "where": {"field": "name", "op": "is_null"}})
        })
        .collect();
    assert_eq!(
        error(&session, json!({"or": many})).await.code(),
        "too_large"
    );
}

/// The filters over accounts whose answers a unit of work must foresee.
fn foreseen() -> Vec<Filter> {
    let open = || Deal::ACCOUNT_ID.any(Deal::AMOUNT.gt(50));
    let known = || Contact::ACCOUNT_ID.any(Deal::CONTACT_ID.any(Deal::AMOUNT.gt(50)));
    let software = || Account::INDUSTRY.eq("software");
    vec![
        open().into(),
        open().negate().into(),
        Deal::ACCOUNT_ID.any(Where::all()).into(),
        Deal::ACCOUNT_ID
            .any(Deal::AMOUNT.le(50))
            .and(software())
            .into(),
        known().into(),
        known().negate().or(open()).into(),
        Account::PARENT_ACCOUNT_ID.any(open()).into(),
        Account::PARENT_ACCOUNT_ID
            .any(open().negate().and(software()))
            .into(),
        Account::PARENT_ACCOUNT_ID.has(open()).into(),
        // The records that stand between are changed too.
        Deal::ACCOUNT_ID
            .any(Deal::CONTACT_ID.has(Contact::ACCOUNT_ID.has(software())))
            .into(),
        Deal::ACCOUNT_ID.any(Deal::ACCOUNT_ID.has(known())).into(),
    ]
}

/// What a unit of work finds is what is there after its commit, whatever it creates, moves, deletes
/// and restores among the records that lead to others.
#[tokio::test]
async fn a_unit_of_work_sees_its_own_records_that_lead_to_others() {
    let mut number = 7_u64;
    let mut random = move |below: usize| {
        // SplitMix64.
        number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % below as u64) as usize
    };
    let (session, acme) = world().await;
    let (mut accounts, mut contacts, mut deals) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..5 {
        let made = session
            .accounts()
            .create(Account::new(format!("A{index}")))
            .await;
        accounts.push(made.unwrap().id);
    }
    for _ in 0..14 {
        let mut work = session.begin();
        let stored = deals.len();
        for _ in 0..=random(5) {
            let account = accounts[random(accounts.len())];
            let other = accounts[random(accounts.len())];
            let amount = Decimal::from([5, 500][random(2)]);
            let contact = (!contacts.is_empty()).then(|| contacts[random(contacts.len())]);
            match random(8) {
                0 => {
                    let industry = ["software", "tea"][random(2)];
                    let change = |account: &mut Account| account.industry = Some(industry.into());
                    work.accounts().update(account, change).await.unwrap();
                }
                1 => {
                    // Refused where it would make a circle.
                    let change = |account: &mut Account| account.parent_account_id = Some(other);
                    let _ = work.accounts().update(account, change).await;
                }
                2 => {
                    let made = Contact {
                        account_id: Some(account),
                        ..Contact::named("Ada", "Lovelace")
                    };
                    contacts.push(work.contacts().create(made).await.unwrap().id);
                }
                3 if contact.is_some() => {
                    let change = |contact: &mut Contact| contact.account_id = Some(other);
                    work.contacts()
                        .update(contact.unwrap(), change)
                        .await
                        .unwrap();
                }
                4 if stored > 0 => {
                    let deal = deals[random(stored)];
                    if work.deals().delete(deal).await.is_err() {
                        work.deals().restore(deal).await.unwrap();
                    }
                }
                5 if !deals.is_empty() => {
                    // Refused where it is deleted.
                    let change = |deal: &mut Deal| {
                        deal.account_id = Some(other);
                        deal.amount = Some(amount);
                        deal.contact_id = contact;
                    };
                    let _ = work
                        .deals()
                        .update(deals[random(deals.len())], change)
                        .await;
                }
                _ => {
                    let deal = Deal {
                        account_id: Some(account),
                        contact_id: contact,
                        amount: Some(amount),
                        ..Deal::new("Rollout", acme.pipeline)
                    };
                    deals.push(work.deals().create(deal).await.unwrap().id);
                }
            }
        }
        let mut seen = Vec::new();
        for filter in foreseen() {
            let find = || Find::<Account>::new().filter_by_name(filter.clone());
            let page = work.accounts().find(find()).await.unwrap();
            let count = work.accounts().count(find()).await.unwrap();
            assert_eq!(count, page.items.len() as u64, "{filter:?}");
            seen.push(page.items.iter().map(|one| one.id).collect::<Vec<_>>());
        }
        work.commit().await.unwrap();
        for (filter, seen) in foreseen().into_iter().zip(seen) {
            let find = Find::<Account>::new().filter_by_name(filter.clone());
            let page = session.accounts().find(find).await.unwrap();
            let stored: Vec<_> = page.items.iter().map(|one| one.id).collect();
            assert_eq!(seen, stored, "{filter:?}");
        }
    }
}

#[tokio::test]
async fn members_of_custom_fields_are_found() {
    let (session, _) = world().await;
    for (name, region, size) in [("A", "north", 1), ("B", "south", 20), ("C", "north", 3)] {
        let account = Account {
            custom_fields: json!({"region": region, "size": size}),
            ..Account::new(name)
        };
        session.accounts().create(account).await.unwrap();
    }
    let north = json!({"and": [
        {"field": "custom_fields.region", "op": "eq", "value": "north"},
        {"field": "custom_fields.size", "op": "gt", "value": 2},
    ]});
    let found = session.accounts().find(by_name(north)).await.unwrap();
    assert_eq!(
        found
            .items
            .iter()
            .map(|a| a.name.as_str())
            .collect::<Vec<_>>(),
        ["C"]
    );
    let none = json!({"field": "custom_fields.colour", "op": "is_null"});
    assert_eq!(session.accounts().count(by_name(none)).await.unwrap(), 3);
}

/// One API over all objects, and the description that forms are drawn from.
#[tokio::test]
async fn objects_are_reached_by_name() {
    let (session, _) = world().await;
    let schema = session.describe("account").await.unwrap();
    let form = serde_json::to_value(&*schema).unwrap();
    let name = form["fields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["name"] == "name")
        .unwrap();
    assert_eq!(
        (&name["required"], &name["max_length"]),
        (&json!(true), &json!(255))
    );
    assert_eq!(
        session.describe("nothing").await.unwrap_err().code(),
        "unknown_object"
    );

    let body = json!({"name": "Globex", "industry": "software"});
    let row = session
        .object("account")
        .await
        .unwrap()
        .create(body.as_object().unwrap())
        .await
        .unwrap();
    let patch = json!({"industry": null, "colour": "red", "id": row.id()});
    let error = session
        .object("account")
        .await
        .unwrap()
        .merge(row.id(), 1, patch.as_object().unwrap())
        .await
        .unwrap_err();
    let mut found: Vec<_> = error
        .field_errors()
        .iter()
        .map(|e| (e.path.as_str(), e.code))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [("colour", codes::UNKNOWN_FIELD), ("id", codes::READ_ONLY)]
    );
    let typed = session.accounts().get(Id::new(row.id())).await.unwrap();
    assert_eq!(typed.industry.as_deref(), Some("software"));
    let json = serde_json::to_value(&*typed).unwrap();
    assert_eq!(json, serde_json::Value::Object(row.to_json()));
    let again: Account =
        serde_json::from_value(serde_json::to_value(&typed.data).unwrap()).unwrap();
    assert_eq!(again, typed.data);
}
