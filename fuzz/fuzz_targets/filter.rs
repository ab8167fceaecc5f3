//! No filter over custom fields makes reading, binding or answering it panic or hang.
#![no_main]

#[path = "../../crm-custom-objects/tests/fuzz/bytes.rs"]
#[allow(dead_code, reason = "each body takes the choices that it needs")]
mod bytes;
#[path = "../../crm-custom-objects/tests/fuzz/definitions.rs"]
#[allow(dead_code, reason = "another body")]
mod definitions;
#[path = "../../crm-custom-objects/tests/fuzz/filter.rs"]
mod filter;

libfuzzer_sys::fuzz_target!(|input: &[u8]| filter::run(input));
