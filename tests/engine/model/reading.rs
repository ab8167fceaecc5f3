//! Reads of the engine beside those of the model.

use std::collections::{BTreeMap, BTreeSet};

use crm_engine::prelude::*;
use crm_engine::query::Filter;
use rust_decimal::Decimal;
use serde_json::{Value as Json, json};

use super::World;
use super::engine::Place;
use super::rolled::Dice;

/// Reads in a session or a unit of work, compared with the model.
pub(super) async fn read(place: &mut Place, world: &World, dice: &mut Dice) {
    match dice.roll(5) {
        0 => {
            let least = i32::try_from(dice.roll(4)).unwrap();
            let count = place
                .records()
                .count(Account::EMPLOYEE_COUNT.ge(least))
                .await
                .unwrap();
            let wanted = world.live("account").filter(|(_, item)| {
                item.archived.is_null()
                    && item.fields["employee_count"].as_i64() >= Some(i64::from(least))
            });
            assert_eq!(count, wanted.count() as u64);
        }
        1 => {
            // R-021 as a search: letter case does not matter, archived contacts are out of the way.
            let email = EmailAddress::parse("Marge@b.example").unwrap();
            let found = place
                .records()
                .find(Contact::EMAIL.eq(email))
                .await
                .unwrap();
            let found: Vec<_> = found
                .items
                .iter()
                .map(|contact| contact.id.uuid())
                .collect();
            let wanted = world.live("contact").filter(|(_, item)| {
                let email = item.fields["email"].as_str().unwrap_or_default();
                item.archived.is_null() && email.eq_ignore_ascii_case("marge@b.example")
            });
            assert_eq!(found, wanted.map(|(id, _)| id).collect::<Vec<_>>());
        }
        2 => {
            let find = Find::<Account>::new()
                .with_archived()
                .sort(Account::NAME.desc())
                .limit(7);
            let mut names = Vec::new();
            let mut page = place.records().find(find.clone()).await.unwrap();
            loop {
                assert!(page.items.len() <= 7);
                names.extend(
                    page.items
                        .iter()
                        .map(|account| (account.name.clone(), account.id)),
                );
                let Some(next) = page.next else { break };
                page = place
                    .records()
                    .find(find.clone().after(next))
                    .await
                    .unwrap();
            }
            let mut wanted: Vec<_> = world
                .live("account")
                .map(|(id, item)| {
                    (
                        item.fields["name"].as_str().unwrap().to_owned(),
                        Id::new(id),
                    )
                })
                .collect();
            wanted.sort_unstable();
            wanted.reverse();
            assert_eq!(names, wanted);
        }
        3 => {
            let groups = Aggregate::<Deal>::new()
                .with_archived()
                .group_by(Deal::STATUS)
                .count()
                .average(Deal::WIN_PROBABILITY);
            let groups = place.records().aggregate(groups).await.unwrap();
            let mut wanted: BTreeMap<String, (u64, Decimal)> = BTreeMap::new();
            for (_, deal) in world.live("deal") {
                let status = deal.fields["status"].as_str().unwrap();
                let (count, sum) = wanted.entry(status.to_owned()).or_default();
                *count += 1;
                let counts: Decimal = deal.fields["win_probability"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                *sum += counts;
            }
            assert_eq!(groups.len(), wanted.len());
            for (group, (status, (count, sum))) in groups.iter().zip(wanted) {
                assert_eq!(group.keys[0].to_json(), json!(status));
                assert_eq!(group.count(0), count);
                let average = group.measures[1].as_ref().as_decimal().unwrap();
                let difference = (average - sum / Decimal::from(count)).abs();
                assert!(difference < Decimal::new(1, 5));
            }
        }
        _ => {
            let through = json!({"field": "account_id", "has": {"field": "employee_count",
                "op": "gte", "value": 2}});
            let find = Find::new()
                .filter_by_name(Filter::from_json(&through).unwrap())
                .with_archived()
                .with_deleted()
                .limit(1_000);
            let found = place.object("contact").await.find(&find).await.unwrap();
            let found: BTreeSet<_> = found.items.iter().map(|row| row.id()).collect();
            let wanted = world.items.iter().filter(|((object, _), item)| {
                let account = item.fields.get("account_id").and_then(Json::as_str);
                let account = account.and_then(|id| id.parse().ok());
                let account = account.and_then(|id| world.items.get(&("account", id)));
                *object == "contact"
                    && account.is_some_and(|account| {
                        account.is_live() && account.fields["employee_count"].as_i64() >= Some(2)
                    })
            });
            assert_eq!(
                found,
                wanted.map(|((_, id), _)| *id).collect::<BTreeSet<_>>()
            );
        }
    }
}
