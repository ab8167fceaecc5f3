//! What the engine costs over the least that would do the same work by hand.
//!
//! `cargo bench --bench floors -- --quick` prints one line for each bench; `benches/README.md`
//! tells what they mean.
#![allow(missing_docs, reason = "a program: nothing here is an interface")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be set up has to stop"
)]

mod audit;
mod duplicates;
mod formula;
mod measure;
mod memory;
mod office;
#[cfg(feature = "postgres")]
mod plain;
#[cfg(feature = "postgres")]
mod postgres;
mod rescore;
mod scoring;
mod summary;
mod validate;

use measure::Options;

fn main() {
    let options = Options::read();
    #[cfg(feature = "postgres")]
    let postgres = postgres::Benches::open(&options);
    options.run("mem_create", memory::mem_create);
    options.run("mem_update", memory::mem_update);
    options.run("mem_get", memory::mem_get);
    options.run("mem_page", memory::mem_page);
    options.run("audit_diff", memory::audit_diff);
    options.run("event_cost", audit::event_cost);
    options.run("trail_page", audit::trail_page);
    options.run("seal", audit::seal);
    options.run("verify", audit::verify);
    options.run("duplicate_pairs", duplicates::duplicate_pairs);
    options.run("formula", formula::formula);
    options.run("formula_rule", formula::formula_rule);
    options.run("score_50", scoring::score_50);
    options.run("score_500", scoring::score_500);
    options.run("custom_validate", validate::custom_validate);
    options.run("mem_rescore", rescore::mem_rescore);
    options.run("mem_summary", summary::mem_summary);
    #[cfg(feature = "postgres")]
    if let Some(postgres) = postgres {
        postgres.run(&options);
    }
}
