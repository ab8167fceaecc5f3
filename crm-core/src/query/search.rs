//! Text search: what a word is, and which records have it. Pure.

use std::collections::HashSet;

use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::fold_case;
use crate::schema::{AnyRecord, FieldSchema, ObjectRef, StorageKind, ValueRef};

/// How many characters of what is looked for count.
const ASKED_CHARACTERS: usize = 256;
/// How many words of it.
const ASKED_WORDS: usize = 16;
/// How many characters of the searchable fields of a record are looked at: so much fits the index of
/// every backend.
const CHARACTERS: usize = 100_000;
/// Longer words are no words.
const WORD_CHARACTERS: usize = 255;

/// The words of a text: runs of letters and digits, with no case and no accents.
///
/// ```
/// use crm_core::query::search_words;
///
/// let words: Vec<String> = search_words("Élodie Müller-Lüdenscheidt <elodie@acme.example>").collect();
/// assert_eq!(words, ["elodie", "muller", "ludenscheidt", "elodie", "acme", "example"]);
/// ```
pub fn search_words(text: &str) -> impl Iterator<Item = String> {
    let folded = fold(text);
    let words = folded.split(|c: char| !c.is_alphanumeric());
    let is_word = |word: &&str| !word.is_empty() && word.chars().nth(WORD_CHARACTERS).is_none();
    let words: Vec<String> = words.filter(is_word).map(ToOwned::to_owned).collect();
    words.into_iter()
}

/// A text without case and accents.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let is_mark = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    let lower = fold_case(text);
    let bare: String = lower.nfkd().filter(|c| !is_mark(c)).collect();
    // Some signs are capital letters when they are taken apart; a sigma is one at the end too.
    let bare = fold_case(&bare);
    bare.replace('ς', "σ")
}

/// What a text search looks for in the records of one object: every word has to begin a word of a
/// searchable field of the record.
///
/// ```
/// use crm_core::contacts::Contact;
/// use crm_core::query::TextSearch;
/// use crm_core::schema::Entity;
///
/// let search = TextSearch::new(Contact::schema(), "  smi WILL ", 20);
/// assert_eq!(search.words(), ["smi", "will"]);
/// ```
#[derive(Clone)]
pub struct TextSearch {
    object: ObjectRef,
    words: Vec<String>,
    /// How many records are wanted.
    pub limit: usize,
}

impl TextSearch {
    /// Looks for the words of a text. The first 256 characters and 16 words of it count; a text
    /// without any word is found nowhere.
    #[must_use]
    pub fn new(object: &ObjectRef, text: &str, limit: usize) -> Self {
        let text: String = text.chars().take(ASKED_CHARACTERS).collect();
        let mut words: Vec<String> = search_words(&text).take(ASKED_WORDS).collect();
        words.dedup();
        Self {
            object: object.clone(),
            words,
            limit,
        }
    }

    /// The object whose records are looked at, with the fields that the tenant added.
    #[must_use]
    pub const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// The words, folded as [`search_words`] does.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether anything can be found: there is a word to look for, and a field to look into.
    #[must_use]
    pub fn finds_anything(&self) -> bool {
        !self.words.is_empty() && searched(&self.object).next().is_some()
    }

    /// How well a record fits, the more the better; `None` if a word is missing in it.
    ///
    /// A word counts by the field that it is found in, the first searchable field of the object most,
    /// and more where it is a whole word.
    #[must_use]
    pub fn rank(&self, record: &dyn AnyRecord) -> Option<u32> {
        if self.words.is_empty() {
            return None;
        }
        let mut best = vec![0; self.words.len()];
        each_word(&self.object, record, |word, weight, _| {
            for (best, wanted) in best.iter_mut().zip(&self.words) {
                if word.starts_with(wanted.as_str()) {
                    let is_whole = word.len() == wanted.len();
                    *best = (*best).max(if is_whole { weight * 2 } else { weight });
                }
            }
        });
        let is_found = best.iter().all(|weight| *weight > 0);
        is_found.then(|| best.iter().sum())
    }
}

/// What is looked for may be a person.
impl std::fmt::Debug for TextSearch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextSearch")
            .field("object", &self.object.name())
            .field("words", &self.words.len())
            .field("limit", &self.limit)
            .finish()
    }
}

/// The places of the fields of an object that a search looks into, its own before custom ones, each
/// with its weight and whether a backend finds it in the row itself.
fn searched(object: &ObjectRef) -> impl Iterator<Item = (usize, u32, bool)> {
    let is_searched = |field: &FieldSchema| {
        field.searchable && matches!(field.storage_kind(), StorageKind::Text | StorageKind::List)
    };
    let weights = [20, 8, 4].into_iter().chain(std::iter::repeat(2));
    let own = object.fields().iter().enumerate();
    let own = own
        .filter(move |(_, field)| is_searched(field))
        .zip(weights)
        .map(|((place, field), weight)| (place, weight, field.storage_kind() == StorageKind::Text));
    let first = object.fields().len();
    let custom = object.custom_fields().iter().enumerate();
    let custom = custom
        .filter(move |(_, custom)| is_searched(&custom.field))
        .map(move |(position, _)| (first + position, 2, false));
    own.chain(custom)
}

/// Shows the words of the searchable fields of a record, with the weight of the field and whether it
/// is one of the object's own texts.
fn each_word(object: &ObjectRef, record: &dyn AnyRecord, mut visit: impl FnMut(&str, u32, bool)) {
    let mut left = CHARACTERS;
    let mut show = |text: &str, weight: u32, is_own: bool| {
        for word in search_words(text) {
            left = left.saturating_sub(word.chars().count() + 1);
            if left > 0 {
                visit(&word, weight, is_own);
            }
        }
    };
    for (place, weight, is_own) in searched(object) {
        object.read(record, place, |value| match value {
            ValueRef::Text(text) => show(text, weight, is_own),
            ValueRef::List(entries) => {
                for entry in entries {
                    show(entry, weight, is_own);
                }
            }
            _ => {}
        });
    }
}

/// All words of the searchable fields of a record, each once, where there is one that is not in a text
/// field of the object's own: in a custom field, or in a list such as tags. What
/// [`search_texts`](crate::schema::search_texts) holds of the record.
#[must_use]
pub fn search_text(object: &ObjectRef, record: &dyn AnyRecord) -> Option<String> {
    if record.is_deleted() || !searched(object).any(|(_, _, is_own)| !is_own) {
        return None;
    }
    let (mut known, mut words) = (HashSet::new(), String::new());
    let mut is_needed = false;
    each_word(object, record, |word, _, is_own| {
        is_needed |= !is_own;
        if known.insert(word.to_owned()) {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
    });
    is_needed.then_some(words)
}

/// The best of some records by their rank, in order.
pub(crate) fn best(mut found: Vec<(u32, Uuid)>, limit: usize) -> Vec<Uuid> {
    found.sort_unstable_by_key(|(rank, id)| (std::cmp::Reverse(*rank), *id));
    found.truncate(limit);
    found.into_iter().map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        search_words(text).collect()
    }

    #[test]
    fn words_have_no_case_and_no_accents() {
        assert_eq!(words("ÉLODIE o'Neill"), ["elodie", "o", "neill"]);
        assert_eq!(words("ΟΔΟΣ οδοσ"), ["οδοσ", "οδοσ"]);
        assert_eq!(words("℡ ½ ﬁsh"), ["tel", "1", "2", "fish"]);
        assert_eq!(words(" -- \u{1f600} _ % "), Vec::<String>::new());
        assert!(words(&"x".repeat(WORD_CHARACTERS + 1)).is_empty());
    }

    proptest! {
        /// Folding twice is folding once: a storage may fold again.
        #[test]
        fn words_are_made_of_themselves(text in "\\PC{0,40}") {
            let once = words(&text);
            prop_assert_eq!(words(&once.join(" ")), once);
        }
    }
}
