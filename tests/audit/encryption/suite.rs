//! The public conformance suite over an encrypted storage: it is a storage like others.

use std::collections::BTreeMap;
use std::sync::Arc;

use crm_core::storage::conformance::{self, Harness};
use crm_engine::storage::Storage as _;

use crate::common::backend;

/// The group about rows that are sealed by whoever calls: here, that is the storage itself.
const SEALED: &str = "sealed";

/// A case whose claim writes a secret into the rows, which are sealed: the one thing that is refused.
const CLAIMS: &str = "claims_assign_nothing_else";

#[test]
fn it_is_a_storage() {
    if backend::is_postgres() {
        // The tables of the suite are made by the tests of that backend.
        return;
    }
    let inner = backend::plain(&[]);
    let storage = Arc::new(backend::encrypted(inner).build());
    for object in [conformance::objects(), conformance::instances()].concat() {
        storage.register(&object);
    }
    let mut failed = BTreeMap::new();
    let mut refused = BTreeMap::new();
    for case in conformance::cases() {
        if case.group == SEALED {
            continue;
        }
        let outcome = conformance::block_on(case.run(Harness::new(storage.clone())));
        if let Err(failure) = outcome {
            let list = match case.name {
                CLAIMS => &mut refused,
                _ => &mut failed,
            };
            list.insert(case.name, failure.to_string());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(refused[CLAIMS].contains("a claim that writes encrypted values"));
}
