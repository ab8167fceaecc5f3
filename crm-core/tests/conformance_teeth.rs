//! The conformance suite has teeth: the reference store passes every case, and every store that is
//! wrong on purpose fails a case of the group that its defect belongs to.

#![cfg(feature = "conformance")]

use std::sync::Arc;
use std::time::Duration;

use crm_core::storage::conformance::broken::{BrokenStorage, Defect};
use crm_core::storage::conformance::{self, Harness, NaiveStorage};

/// A test of every case over the reference store, each on a store of its own.
mod reference_store {
    use super::NaiveStorage;

    crm_core::conformance_tests!(NaiveStorage::default());
}

/// All cases may share one storage.
#[test]
fn cases_share_one_storage() {
    let storage = Arc::new(NaiveStorage::default());
    for case in conformance::cases()
        .iter()
        .filter(|case| case.group != "model")
    {
        if let Err(failure) = conformance::block_on(case.run(Harness::new(storage.clone()))) {
            panic!("{failure}");
        }
    }
}

/// The cases of the defect's group that a store with the defect fails.
fn caught_by(defect: Defect) -> Vec<&'static str> {
    conformance::cases()
        .iter()
        .filter(|case| case.group == defect.group())
        .filter(|case| {
            let harness = Harness::new(Arc::new(BrokenStorage::new(defect)));
            let harness = harness.patience(Duration::from_millis(300));
            conformance::block_on(case.run(harness)).is_err()
        })
        .map(|case| case.name)
        .collect()
}

fn every_defect_is_caught(group: &str) {
    let mut missed = Vec::new();
    for defect in Defect::ALL.iter().filter(|defect| defect.group() == group) {
        let caught = caught_by(*defect);
        println!("{defect:?}: {}", caught.join(", "));
        if caught.is_empty() {
            missed.push(defect);
        }
    }
    assert!(missed.is_empty(), "no case of `{group}` notices {missed:?}");
}

macro_rules! groups {
    ($($group:ident)*) => {
        $(
            #[test]
            fn $group() {
                every_defect_is_caught(stringify!($group));
            }
        )*

        #[test]
        fn every_group_has_cases_and_defects() {
            let groups = [$(stringify!($group)),*];
            for group in groups {
                assert!(conformance::cases().iter().any(|case| case.group == group));
                assert!(Defect::ALL.iter().any(|defect| defect.group() == group));
            }
            for case in conformance::cases() {
                assert!(groups.contains(&case.group), "`{}` has no teeth test", case.group);
                assert!(case.name.starts_with(case.group), "`{}` tells no group", case.name);
            }
        }
    };
}

groups! {
    crud versions unique references filters sorting aggregates tenancy atomicity concurrency
    claims feed sealed months instances guards search model
}
