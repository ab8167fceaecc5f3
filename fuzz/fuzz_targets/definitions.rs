//! No definition and no document makes the validator of custom fields panic or hang.
#![no_main]

#[path = "../../crm-custom-objects/tests/fuzz/bytes.rs"]
#[allow(dead_code, reason = "each body takes the choices that it needs")]
mod bytes;
#[path = "../../crm-custom-objects/tests/fuzz/definitions.rs"]
mod definitions;

libfuzzer_sys::fuzz_target!(|input: &[u8]| definitions::run(input));
