//! No text makes reading, checking, printing or evaluating an expression panic or hang.
#![no_main]

#[path = "../../crm-custom-objects/tests/fuzz/bytes.rs"]
#[allow(dead_code, reason = "each body takes the choices that it needs")]
mod bytes;
#[path = "../../crm-custom-objects/tests/fuzz/expression.rs"]
mod expression;

libfuzzer_sys::fuzz_target!(|input: &[u8]| expression::run(input));
