//! What a text needs so that a spreadsheet program takes it for a text and never for a formula.
//!
//! A cell that begins with `=`, `+`, `-`, `@` or a control character is run as a formula by most
//! spreadsheet programs, whoever wrote it (OWASP, "CSV Injection"). An apostrophe in front makes it
//! a text. Export puts it there, import takes it off again.

/// What makes a program take a text for a formula: the characters that OWASP lists, with their
/// full-width forms.
const fn begins_formula(first: char) -> bool {
    matches!(
        first,
        '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠'
    )
}

/// Whether the text would be a formula, after any apostrophes at its beginning.
fn is_dangerous(text: &str) -> bool {
    text.trim_start_matches('\'')
        .chars()
        .next()
        .is_some_and(begins_formula)
}

/// Makes a text safe for a cell: one that would be a formula gets an apostrophe in front.
///
/// [`undefuse`] gives back exactly the text, since a text that already has apostrophes in front of
/// such a character gets one more.
///
/// ```
/// use crm_exchange::spreadsheet::{defuse, undefuse};
///
/// assert_eq!(defuse("=1+1"), "'=1+1");
/// assert_eq!(defuse("'=1+1"), "''=1+1");
/// assert_eq!(defuse("it's fine"), "it's fine");
/// assert_eq!(undefuse("'=1+1"), "=1+1");
/// ```
#[must_use]
pub fn defuse(text: &str) -> std::borrow::Cow<'_, str> {
    if is_dangerous(text) {
        format!("'{text}").into()
    } else {
        text.into()
    }
}

/// Takes off the apostrophe that [`defuse`] put in front; every other text stays as it is.
#[must_use]
pub fn undefuse(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_dangerous(text) => text,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_beginning_of_a_formula_is_defused() {
        for text in [
            "=cmd|' /C calc'!A0",
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "＝1",
        ] {
            assert!(defuse(text).starts_with('\''), "{text:?}");
            assert_eq!(undefuse(&defuse(text)), text);
        }
    }

    proptest! {
        #[test]
        fn taking_off_gives_back_every_text(text in "['=+@\\-\t\r\n＝a]{0,4}.{0,20}") {
            let cell = defuse(&text);
            prop_assert_eq!(undefuse(&cell), text.as_str());
            prop_assert!(!cell.chars().next().is_some_and(begins_formula));
        }

        #[test]
        fn other_texts_stay_as_they_are(text in "[a-z0-9]'?[=+a-z]{0,9}") {
            let cell = defuse(&text);
            prop_assert_eq!(&*cell, text.as_str());
            prop_assert_eq!(undefuse(&text), text.as_str());
        }
    }
}
