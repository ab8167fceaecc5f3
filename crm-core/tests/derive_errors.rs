//! The derives refuse what makes no sense, with errors that point at the faulty attribute.

#[test]
fn faulty_attributes_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/derive/pass.rs");
    cases.compile_fail("tests/derive/fail_*.rs");
}
