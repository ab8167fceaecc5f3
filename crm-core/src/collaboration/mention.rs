//! Who is mentioned in a text.

use std::collections::BTreeSet;

/// The user names that a text mentions: each word behind an `@` at the beginning of a word, folded
/// to lower case (R-088), each once.
///
/// Letters, digits, `_`, `-` and, between them, `.` belong to a name, as user names are written. The
/// `@` of an e-mail address mentions nobody.
///
/// ```
/// use crm_core::collaboration::mentioned_usernames;
///
/// let names = mentioned_usernames("@Ada, ask grace.h@navy.example or @grace.h. (@ada knows)");
/// assert_eq!(names.into_iter().collect::<Vec<_>>(), ["ada", "grace.h"]);
/// ```
#[must_use]
pub fn mentioned_usernames(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut before = ' ';
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = rest.get(letter.len_utf8()..).unwrap_or_default();
        if letter == '@' && !belongs(before) && before != '.' && before != '@' {
            let end = rest.find(|c: char| !belongs(c) && c != '.');
            let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            let name = word.trim_end_matches('.');
            let is_address = rest
                .get(word.len()..)
                .is_some_and(|behind| behind.starts_with('@'));
            if !name.is_empty() && !name.starts_with('.') && !is_address {
                names.insert(crate::query::fold_case(name));
            }
            rest = rest.get(word.len()..).unwrap_or_default();
            before = word.chars().next_back().unwrap_or(letter);
            continue;
        }
        before = letter;
    }
    names
}

fn belongs(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '+')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        mentioned_usernames(text).into_iter().collect()
    }

    #[test]
    fn a_mention_stands_at_the_beginning_of_a_word() {
        assert_eq!(names("@ada"), ["ada"]);
        assert_eq!(names("(@ada)"), ["ada"]);
        assert_eq!(names("ada@example.com"), Vec::<String>::new());
        assert_eq!(names("a.b@example.com"), Vec::<String>::new());
        assert_eq!(names("@@ada"), Vec::<String>::new());
        assert_eq!(names("@ada@example.com"), Vec::<String>::new());
        assert_eq!(names("@"), Vec::<String>::new());
        assert_eq!(names("@ . @..x"), Vec::<String>::new());
    }

    #[test]
    fn a_full_stop_at_the_end_does_not_belong_to_the_name() {
        assert_eq!(
            names("Ask @grace.hopper. Or @zoë!"),
            ["grace.hopper", "zoë"]
        );
    }

    proptest! {
        #[test]
        fn every_mentioned_name_is_found(
            found in prop::collection::btree_set("[a-z][a-z0-9_.-]{0,8}[a-z0-9]", 0..5),
            words in prop::collection::vec("[a-z ,;!]{0,10}", 6),
        ) {
            let text: String = found
                .iter()
                .zip(&words)
                .map(|(name, word)| format!("{word} @{name} "))
                .collect();
            prop_assert_eq!(mentioned_usernames(&text), found);
        }

        #[test]
        fn any_text_will_do(text in any::<String>()) {
            for name in mentioned_usernames(&text) {
                prop_assert!(!name.is_empty() && !name.contains('@'));
            }
        }
    }
}
