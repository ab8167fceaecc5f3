//! What reads text of users neither panics nor hangs, whatever it is given: the bodies of the fuzz
//! targets in `fuzz/`, run over the seeds there and over bytes that are drawn at random.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod bytes;
mod definitions;
mod expression;
mod filter;

use std::path::Path;

use proptest::prelude::*;

/// Runs a body over its seeds.
fn run_seeds(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = folder.join("../fuzz/seeds").join(target);
    let mut count = 0;
    for seed in folder.read_dir().unwrap() {
        run(&std::fs::read(seed.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 3, "{target} has {count} seeds");
}

/// Bytes, half of which a body takes for choices among what it knows.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(bytes::CHOICES), any::<u8>()];
    (first, prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(first, mut rest)| {
        rest.insert(0, first);
        rest
    })
}

#[test]
fn seeds_are_survived() {
    run_seeds("definitions", definitions::run);
    run_seeds("expression", expression::run);
    run_seeds("filter", filter::run);
}

proptest! {
    #[test]
    fn definitions_survive_all_bytes(bytes in bytes()) {
        definitions::run(&bytes);
    }

    #[test]
    fn expressions_survive_all_bytes(bytes in bytes()) {
        expression::run(&bytes);
    }

    #[test]
    fn filters_survive_all_bytes(bytes in bytes()) {
        filter::run(&bytes);
    }
}
