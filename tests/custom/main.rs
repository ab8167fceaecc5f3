//! What tenants define at run time: fields, objects, relationships, formulas and roll-ups.

#[path = "../common/mod.rs"]
mod common;
mod definitions;
mod fields;
mod formulas;
mod impact;
mod objects;
mod passes;
mod queries;
mod relations;
mod usage;
mod values;
