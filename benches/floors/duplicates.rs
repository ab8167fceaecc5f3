//! Duplicates: comparing pairs, and the check of a new record among many.

use std::hint::black_box;
use std::ops::ControlFlow;

use crm_engine::Stamp;
use crm_engine::duplicates::{CompiledRule, MatchRule, Prepared};
use crm_engine::prelude::*;
use crm_engine::schema::Meta;
use rapidfuzz::distance::jaro_winkler;
use serde_json::json;
use uuid::Uuid;

use crate::measure::{Medians, Options, Places, timed};

const FIRST: [&str; 8] = [
    "maria",
    "marie",
    "jonathan",
    "jonathon",
    "elisabeth",
    "elizabeth",
    "ada",
    "grace",
];
const LAST: [&str; 8] = [
    "lopez", "lopes", "schmidt", "schmitt", "lovelace", "hopper", "nakamura", "o'brien",
];
const TITLE: [&str; 4] = [
    "head of procurement",
    "head of purchase",
    "analyst",
    "buyer",
];
const COMPANY: [&str; 4] = ["globex corporation", "globex", "initech", "acme"];

/// Compares pairs of contacts by the weighted mean of four similarities, all of them computed.
pub(crate) fn duplicate_pairs(options: &Options) -> Medians {
    let field = |name: &str| json!({"field": name, "method": "jaro_winkler", "weight": 1});
    let fields = ["first_name", "last_name", "job_title", "company"].map(field);
    let rule = MatchRule::from_json(&json!({
        "when": {"mean": {"at_least": 0.01, "of": fields}},
        "keys": [[{"field": "last_name", "form": "first", "length": 1}]]
    }));
    let rule = CompiledRule::new(&rule.unwrap(), Uuid::nil(), Contact::schema()).unwrap();
    let stamp = Stamp {
        at: chrono::DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let mut places = Places(0x5EED);
    let plain: Vec<[&str; 4]> = (0..512)
        .map(|_| {
            [
                FIRST[places.next(8)],
                LAST[places.next(8)],
                TITLE[places.next(4)],
                COMPANY[places.next(4)],
            ]
        })
        .collect();
    let prepare = |[first, last, title, company]: &[&str; 4]| {
        let contact = Contact {
            job_title: Some((*title).into()),
            company: Some((*company).into()),
            ..Contact::named(*first, *last)
        };
        rule.prepare(&Record::new(Meta::first(Uuid::nil(), stamp), contact))
    };
    let prepared: Vec<Prepared> = plain.iter().map(prepare).collect();
    let (mut ours, mut floor) = (Places(0x5EED), Places(0x5EED));
    options.measure(
        |count| {
            let pairs: Vec<_> = (0..count)
                .map(|_| (ours.next(512), ours.next(512)))
                .collect();
            timed(|| {
                for (a, b) in pairs {
                    black_box(rule.score(&prepared[a], &prepared[b]));
                }
            })
        },
        |count| {
            let pairs: Vec<_> = (0..count)
                .map(|_| (floor.next(512), floor.next(512)))
                .collect();
            timed(|| {
                for (a, b) in pairs {
                    for (a, b) in plain[a].iter().zip(&plain[b]) {
                        black_box(jaro_winkler::similarity(a.bytes(), b.bytes()));
                    }
                }
            })
        },
    )
}

/// The check of a new contact among many: the e-mail address of one of them.
#[cfg(feature = "postgres")]
pub(crate) fn duplicate_check(benches: &crate::postgres::Benches, options: &Options) -> Medians {
    use crate::plain;

    let rows: usize = if options.quick { 10_000 } else { 1_000_000 };
    let rule = MatchRule::from_json(&json!({"when": {"field": "email", "method": "email"}}));
    let rule = rule.unwrap();
    let (office, id) = benches.block_on(async {
        let office = benches.office("duplicates").await;
        office
            .session
            .contacts()
            .create(office.contact(0))
            .await
            .unwrap();
        let count = i64::try_from(rows).unwrap() - 1;
        let mut owner = benches.owner().await;
        plain::multiply_contact(&mut owner, office.tenant(), count).await;
        let new = DuplicateRule::new("E-mail", "contact", rule.clone());
        let id = office
            .session
            .duplicate_rules()
            .create(new)
            .await
            .unwrap()
            .id;
        let duplicates = office.session.duplicates();
        // The first keys; what a server's autovacuum learns of the tables meanwhile; the rest.
        let some = |done: u64, _: Option<u64>| match done {
            ..20_000 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        };
        let first = duplicates.rebuild_keys(id, None, &some).await.unwrap();
        plain::vacuum(&mut owner).await;
        let mut keys = first.keys;
        if first.next.is_some() {
            let rest = duplicates.rebuild_keys(id, first.next, &()).await;
            keys += rest.unwrap().keys;
        }
        assert_eq!(keys, rows as u64);
        plain::vacuum(&mut owner).await;
        (office, id)
    });
    let compiled = CompiledRule::new(&rule, id.uuid(), Contact::schema()).unwrap();
    let new = |place: usize| Contact {
        email: Some(
            format!("Contact.{}@seed.example", place + 1)
                .parse()
                .unwrap(),
        ),
        ..Contact::named("Maria", "Lopez")
    };
    let stamp = Stamp {
        at: chrono::DateTime::UNIX_EPOCH,
        by: Actor::System,
    };
    let (mut ours, mut floor) = (Places(0x5EED), Places(0xF1007));
    options.measure_calls(
        20,
        |count| {
            let contacts: Vec<_> = (0..count).map(|_| new(ours.next(rows - 1))).collect();
            benches.timed(async {
                for contact in contacts {
                    let check = office.session.duplicates().check(&contact).await.unwrap();
                    assert_eq!(black_box(check).matches.len(), 1);
                }
            })
        },
        |count| {
            let keys = |_| {
                let record =
                    Record::new(Meta::first(Uuid::nil(), stamp), new(floor.next(rows - 1)));
                let keys = compiled.keys(&compiled.prepare(&record));
                keys.iter().map(|key| key.key).collect::<Vec<Uuid>>()
            };
            let keys: Vec<Vec<Uuid>> = (0..count).map(keys).collect();
            benches.timed(async {
                for keys in keys {
                    let found = plain::holders(benches.pool(), office.tenant(), &keys).await;
                    assert_eq!(found.len(), 1);
                    let contact = plain::get(benches.pool(), office.tenant(), found[0]).await;
                    black_box(contact);
                }
            })
        },
    )
}
