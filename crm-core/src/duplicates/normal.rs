//! The forms in which values are compared: pure functions from a value to what is left of it when
//! spelling, punctuation and the like are taken away.

use chrono::NaiveDate;
use rphonetic::Encoder;
use rust_decimal::Decimal;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::rule::PhoneticAlgorithm;
use crate::schema::ValueRef;
use crate::value::{Country, HttpUrl, PhoneNumber, TextValue};

/// The form of a value in which it is compared or made a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Exact,
    CaseFolded,
    Plain,
    First(usize),
    Last(usize),
    Compact,
    Digits,
    SortedDigits,
    Words,
    Phonetic(PhoneticAlgorithm),
    Email,
    Phone(Option<Country>),
    Domain(Vec<String>),
    CompanyName,
    Number,
    Date,
}

/// A value in its form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Atom {
    Text { text: Box<str>, is_ascii: bool },
    Number(Decimal),
    Date(NaiveDate),
}

impl Atom {
    pub(super) fn text(text: impl Into<Box<str>>) -> Self {
        let text = text.into();
        Self::Text {
            is_ascii: text.is_ascii(),
            text,
        }
    }

    /// Adds the text form, of which keys are made.
    pub(super) fn write(&self, key: &mut String) {
        match self {
            Self::Text { text, .. } => key.push_str(text),
            Self::Number(number) => key.push_str(&number.normalize().to_string()),
            Self::Date(date) => key.push_str(&date.to_string()),
        }
    }
}

impl Form {
    /// Adds the forms of a value; `e164` is the canonical form where the value is a telephone
    /// number that has one. Empty ones are left out.
    pub(super) fn apply(&self, value: &ValueRef<'_>, e164: Option<&str>, out: &mut Vec<Atom>) {
        match value {
            ValueRef::Null => {}
            ValueRef::List(entries) => {
                for entry in *entries {
                    self.apply(&ValueRef::Text(entry), None, out);
                }
            }
            ValueRef::Json(json) => match json.as_ref() {
                serde_json::Value::Array(entries) => {
                    for entry in entries {
                        self.apply_scalar(entry, out);
                    }
                }
                other => self.apply_scalar(other, out),
            },
            _ => self.apply_one(value, e164, out),
        }
    }

    fn apply_scalar(&self, json: &serde_json::Value, out: &mut Vec<Atom>) {
        match crate::schema::Value::from_json(json.clone()) {
            crate::schema::Value::Json(_) | crate::schema::Value::Null => {}
            scalar => self.apply_one(&scalar.as_ref(), None, out),
        }
    }

    fn apply_one(&self, value: &ValueRef<'_>, e164: Option<&str>, out: &mut Vec<Atom>) {
        match (self, value) {
            (Self::Exact, ValueRef::Integer(_) | ValueRef::Decimal(_))
            | (Self::Number, ValueRef::Integer(_) | ValueRef::Decimal(_)) => {
                out.extend(value.as_decimal().map(Atom::Number));
                return;
            }
            (Self::Exact | Self::Date, ValueRef::Date(date)) => {
                out.push(Atom::Date(*date));
                return;
            }
            (Self::Date, ValueRef::Timestamp(at)) => {
                out.push(Atom::Date(at.date_naive()));
                return;
            }
            _ => {}
        }
        let owned;
        let text = match value {
            ValueRef::Text(text) => *text,
            other => match other.to_json() {
                serde_json::Value::String(text) => {
                    owned = text;
                    &owned
                }
                other => {
                    owned = other.to_string();
                    &owned
                }
            },
        };
        self.apply_text(text, e164, out);
    }

    fn apply_text(&self, text: &str, e164: Option<&str>, out: &mut Vec<Atom>) {
        let mut push = |text: String| {
            if !text.is_empty() {
                out.push(Atom::text(text));
            }
        };
        match self {
            Self::Exact => push(text.trim().to_owned()),
            Self::CaseFolded => push(folded(text)),
            Self::Plain => push(plain(text)),
            Self::First(length) => push(compact(text).chars().take(*length).collect()),
            Self::Last(length) => {
                let compact = compact(text);
                let skipped = compact.chars().count().saturating_sub(*length);
                push(compact.chars().skip(skipped).collect());
            }
            Self::Compact => push(compact(text)),
            Self::Digits => push(digits(text)),
            Self::SortedDigits => {
                let mut digits: Vec<char> = digits(text).chars().collect();
                digits.sort_unstable();
                push(digits.into_iter().collect());
            }
            Self::Words => {
                let plain = plain(text);
                for word in plain.split(|letter: char| !letter.is_alphanumeric()) {
                    if word.chars().nth(1).is_some() {
                        push(word.to_owned());
                    }
                }
            }
            Self::Phonetic(algorithm) => {
                for code in phonetic(*algorithm, text) {
                    push(code);
                }
            }
            Self::Email => push(email(text)),
            Self::Phone(region) => push(phone(text, e164, *region)),
            Self::Domain(except) => {
                let domain = domain(text);
                if !except.contains(&domain) {
                    push(domain);
                }
            }
            Self::CompanyName => push(company_name(text)),
            Self::Number => {
                if let Ok(number) = text.trim().parse::<Decimal>() {
                    out.push(Atom::Number(number));
                }
            }
            Self::Date => out.extend(date(text).map(Atom::Date)),
        }
    }
}

/// Case, width and double spaces taken away.
fn folded(text: &str) -> String {
    let lower = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        crate::query::fold_case(&text.nfkc().collect::<String>())
    };
    single_spaced(&lower)
}

fn single_spaced(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

/// Case, accents and double spaces taken away; letters that are no letter with an accent are
/// spelled out: `Ærø` is `aero`.
fn plain(text: &str) -> String {
    if text.is_ascii() {
        return single_spaced(&text.to_ascii_lowercase());
    }
    let lower = crate::query::fold_case(&text.nfkd().collect::<String>());
    let mut plain = String::with_capacity(lower.len());
    for letter in lower.chars().filter(|letter| !is_combining_mark(*letter)) {
        match letter {
            'ß' => plain.push_str("ss"),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'þ' => plain.push_str("th"),
            'ø' => plain.push('o'),
            'ł' => plain.push('l'),
            'đ' | 'ð' => plain.push('d'),
            'ı' => plain.push('i'),
            // Apostrophes and hyphens of all kinds.
            '\u{2018}' | '\u{2019}' | '\u{02bc}' => plain.push('\''),
            '\u{2010}'..='\u{2015}' => plain.push('-'),
            other => plain.push(other),
        }
    }
    single_spaced(&plain)
}

/// Letters and digits alone.
fn compact(text: &str) -> String {
    let mut compact = plain(text);
    compact.retain(char::is_alphanumeric);
    compact
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// The codes of a text; none where it has no Latin letter.
fn phonetic(algorithm: PhoneticAlgorithm, text: &str) -> Vec<String> {
    // The algorithms know the letters A to Z and nothing else.
    let mut letters = plain(text);
    letters.retain(|letter| letter.is_ascii_alphabetic());
    if letters.is_empty() {
        return Vec::new();
    }
    let code = match algorithm {
        PhoneticAlgorithm::Soundex => rphonetic::Soundex::default().encode(&letters),
        PhoneticAlgorithm::Cologne => rphonetic::Cologne.encode(&letters),
        PhoneticAlgorithm::Nysiis => rphonetic::Nysiis::default().encode(&letters),
        PhoneticAlgorithm::DoubleMetaphone => {
            let codes = rphonetic::DoubleMetaphone::default().double_metaphone(&letters);
            let (primary, alternate) = (codes.primary(), codes.alternate());
            if alternate == primary {
                return vec![primary];
            }
            return vec![primary, alternate];
        }
    };
    vec![code]
}

/// The address without case and tag (RFC 5233); nothing where there is no `@`.
fn email(text: &str) -> String {
    let folded = folded(text);
    let Some((local, domain)) = folded.rsplit_once('@') else {
        return String::new();
    };
    let local = match local.split_once('+') {
        Some((name, _)) if !name.is_empty() => name,
        _ => local,
    };
    format!("{local}@{domain}")
}

fn phone(text: &str, e164: Option<&str>, region: Option<Country>) -> String {
    if let Some(e164) = e164 {
        return e164.to_owned();
    }
    let parsed = match region {
        Some(region) => PhoneNumber::parse_in(text, region),
        None => PhoneNumber::parse(text),
    };
    match parsed {
        Ok(number) => match number.e164() {
            Some(e164) => e164.to_owned(),
            None => digits(text),
        },
        // With fewer digits it is an extension or no number at all.
        Err(_) => Some(digits(text))
            .filter(|digits| digits.len() >= 5)
            .unwrap_or_default(),
    }
}

fn domain(text: &str) -> String {
    let folded = folded(text);
    let host = match folded.rsplit_once('@') {
        Some((_, domain)) if !folded.contains("://") => domain.to_owned(),
        _ => match HttpUrl::parse(&folded) {
            Ok(url) => url.host().to_owned(),
            Err(_) => folded
                .split(['/', '?', ':'])
                .next()
                .unwrap_or("")
                .to_owned(),
        },
    };
    let host = host.strip_prefix("www.").unwrap_or(&host);
    if host.contains('.') {
        host.trim_end_matches('.').to_owned()
    } else {
        String::new()
    }
}

/// Legal forms of companies, as they stand at the end of names, letters only.
#[rustfmt::skip]
const LEGAL_FORMS: &[&str] = &[
    "ab", "ag", "aps", "as", "asa", "bhd", "bv", "bvba", "cia", "co", "company", "corp",
    "corporation", "doo", "eg", "eirl", "ev", "gbr", "gesmbh", "gmbh", "inc", "incorporated",
    "kft", "kg", "kgaa", "kk", "lda", "limited", "limitada", "llc", "llp", "lp", "ltd", "ltda",
    "mbh", "nv", "ohg", "ood", "oy", "oyj", "partg", "plc", "pte", "pty", "pvt", "sa", "sarl",
    "sas", "sasu", "scrl", "sdn", "se", "sia", "sl", "slu", "snc", "spa", "sprl", "srl", "sro",
    "uab", "ug", "vof", "zrt",
];

/// Words that join others and say nothing.
const JOINING_WORDS: &[&str] = &["and", "und", "et", "y"];

/// The name of a company without legal form, punctuation, case and `&`.
pub(super) fn company_name(text: &str) -> String {
    let mut joined = plain(text);
    // `S.p.A.` and `L'Oréal` are one word, `Smith-Jones` two.
    joined.retain(|letter| !matches!(letter, '.' | '\''));
    let words = joined.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let telling = |word: &str| !JOINING_WORDS.contains(&word);
    let mut names = with_joined_initials(words.iter().copied().filter(|word| telling(word)));
    // Initials may make such a word: `E T`.
    names.retain(|word| telling(word));
    if names.is_empty() {
        names = with_joined_initials(words);
    }
    let mut kept = names.as_slice();
    while let [rest @ .., last] = kept
        && !rest.is_empty()
        && LEGAL_FORMS.contains(&last.as_str())
    {
        kept = rest;
    }
    while let [first, rest @ ..] = kept
        && first == "the"
        && !rest.is_empty()
    {
        kept = rest;
    }
    kept.join(" ")
}

/// Letters that stand alone side by side become one word: `I B M` is `ibm`.
fn with_joined_initials<'t>(words: impl IntoIterator<Item = &'t str>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut initials = false;
    for word in words {
        let initial = word.chars().nth(1).is_none() && word.chars().all(char::is_alphabetic);
        match joined.last_mut() {
            Some(last) if initial && initials => last.push_str(word),
            _ => joined.push(word.to_owned()),
        }
        initials = initial;
    }
    joined
}

/// A day as ISO 8601 writes it, with or without hyphens.
fn date(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    let day = text.get(..10).unwrap_or(text);
    NaiveDate::parse_from_str(day, "%Y-%m-%d")
        .or_else(|_| NaiveDate::parse_from_str(text, "%Y%m%d"))
        .ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn atoms(form: &Form, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        form.apply(&ValueRef::Text(text), None, &mut out);
        out.iter()
            .map(|atom| {
                let mut text = String::new();
                atom.write(&mut text);
                text
            })
            .collect()
    }

    #[test]
    fn company_names_lose_legal_forms_punctuation_and_joining_words() {
        for (a, b) in [
            ("Müller & Söhne GmbH & Co. KG", "mueller"),
            ("Globex, Inc.", "GLOBEX"),
            ("Luigi S.p.A.", "luigi"),
            ("Johnson & Johnson", "Johnson and Johnson"),
            ("I.B.M. Corporation", "I B M"),
            ("The Home Depot, Inc.", "Home Depot"),
            ("L'Oréal S.A.", "LOreal"),
            ("E. & T. Partners, Ltd", "e.t. partners"),
            ("The The Ltd", "The"),
        ] {
            if b == "mueller" {
                assert_eq!(company_name(a), "muller sohne");
            } else {
                assert_eq!(company_name(a), company_name(b), "{a} {b}");
            }
        }
        // A name that is nothing but a legal form stays.
        assert_eq!(company_name("Limited"), "limited");
        // So does one of nothing but words that join, also where initials make one.
        assert_eq!(company_name("Y"), "y");
        assert_eq!(company_name("a:e¡t"), "aet");
        assert_eq!(company_name("Acme E T"), "acme");
        assert_ne!(company_name("Globex Labs"), company_name("Globex"));
    }

    #[test]
    fn values_are_normalised() {
        assert_eq!(
            atoms(&Form::Email, " Ada+crm@Example.COM "),
            ["ada@example.com"]
        );
        assert_eq!(atoms(&Form::Email, "no address"), [""; 0]);
        let australia = Country::parse("AU").unwrap();
        assert_eq!(
            atoms(&Form::Phone(Some(australia)), "(02) 9374 4000"),
            ["+61293744000"]
        );
        assert_eq!(atoms(&Form::Phone(None), "9374 4000"), ["93744000"]);
        for url in [
            "https://www.Globex.example/about",
            "ann@globex.example",
            "globex.example",
        ] {
            assert_eq!(atoms(&Form::Domain(Vec::new()), url), ["globex.example"]);
        }
        let free = Form::Domain(vec!["gmail.com".to_owned()]);
        assert_eq!(atoms(&free, "ann@gmail.com"), [""; 0]);
        assert_eq!(
            atoms(&Form::Plain, "Ærøskøbing  Straße"),
            ["aeroskobing strasse"]
        );
        assert_eq!(
            atoms(&Form::Words, "de la Cruz-Ibáñez"),
            ["de", "la", "cruz", "ibanez"]
        );
        assert_eq!(atoms(&Form::SortedDigits, "19-42"), ["1249"]);
        assert_eq!(atoms(&Form::First(3), "O'Brien"), ["obr"]);
        assert_eq!(atoms(&Form::Last(3), "O'Brien"), ["ien"]);
        assert_eq!(atoms(&Form::Date, "19081209"), ["1908-12-09"]);
        assert_eq!(atoms(&Form::Number, "1.50"), ["1.5"]);
    }

    #[test]
    fn names_that_sound_alike_have_a_code_in_common() {
        use PhoneticAlgorithm::{Cologne, DoubleMetaphone, Nysiis, Soundex};
        for (algorithm, a, b) in [
            (Soundex, "Robert", "Rupert"),
            (Soundex, "Ashcraft", "Ashcroft"),
            (Cologne, "Müller", "Mueller"),
            (Cologne, "Meyer", "Maier"),
            (Nysiis, "Knight", "Night"),
            (DoubleMetaphone, "Smith", "Schmidt"),
            (DoubleMetaphone, "Catherine", "Katherine"),
        ] {
            let (a_codes, b_codes) = (phonetic(algorithm, a), phonetic(algorithm, b));
            assert!(a_codes.iter().any(|code| b_codes.contains(code)), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_form_panic(text in "\\PC{0,40}", length in 1_usize..10) {
            use PhoneticAlgorithm::{Cologne, DoubleMetaphone, Nysiis, Soundex};
            let mut forms = vec![
                Form::Exact, Form::CaseFolded, Form::Plain, Form::First(length), Form::Last(length),
                Form::Compact, Form::Digits, Form::SortedDigits, Form::Words, Form::Email,
                Form::Phone(None), Form::Domain(Vec::new()), Form::CompanyName, Form::Number,
                Form::Date,
            ];
            forms.extend([Soundex, DoubleMetaphone, Cologne, Nysiis].map(Form::Phonetic));
            for form in &forms {
                prop_assert!(atoms(form, &text).iter().all(|atom| !atom.is_empty()));
            }
        }

        #[test]
        fn no_word_makes_a_phonetic_algorithm_panic(word in "[A-Za-z]{1,24}") {
            use PhoneticAlgorithm::{Cologne, DoubleMetaphone, Nysiis, Soundex};
            for algorithm in [Soundex, DoubleMetaphone, Cologne, Nysiis] {
                phonetic(algorithm, &word);
            }
        }

        #[test]
        fn a_form_of_a_form_is_the_same(text in "\\PC{0,40}") {
            for form in [Form::CaseFolded, Form::Plain, Form::Compact, Form::CompanyName] {
                let once = atoms(&form, &text);
                if let [one] = once.as_slice() {
                    prop_assert_eq!(&atoms(&form, one), &once);
                }
            }
        }
    }
}
