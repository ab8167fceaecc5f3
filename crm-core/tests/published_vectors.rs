//! The value types against vectors that others published: what they accept, refuse and normalise.
//!
//! The vectors are not part of this repository. `CRM_DATA_DIR` names the folder that holds them:
//! `isemail/vectors.json`, `libphonenumber/vectors_v9.0.43.csv` and `iso-codes/iso4217.csv`. Every
//! departure is counted by class, and the counts are those that the documentation of the types
//! states, so that a change of behaviour fails here whichever way it goes.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};

use crm_core::value::{Country, Currency, EmailAddress, PhoneNumber, TextValue};
use serde::Deserialize;

/// The folder of the vectors, or a line that says what was not checked.
fn data_dir(subject: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("CRM_DATA_DIR").map(PathBuf::from);
    if dir.is_none() {
        // The test harness hides what `eprintln!` writes in a test that passes, but not this.
        let _ = writeln!(
            std::io::stderr(),
            "CRM_DATA_DIR is not set: the published vectors of {subject} were not checked"
        );
    }
    dir
}

/// One address of the isemail suite.
#[derive(Deserialize)]
struct EmailVector {
    address: String,
    diagnosis: String,
}

impl EmailVector {
    fn read_all(dir: &Path) -> Result<Vec<Self>, Box<dyn Error>> {
        let json = std::fs::read_to_string(dir.join("isemail/vectors.json"))?;
        Ok(serde_json::from_str(&json)?)
    }

    /// The address itself. The suite writes control characters as their pictures, U+2400 and on.
    fn decoded(&self) -> String {
        let decode = |c| match u32::from(c) {
            picture @ 0x2400..=0x241f => char::from_u32(picture - 0x2400).unwrap_or(c),
            0x2421 => '\u{7f}',
            _ => c,
        };
        self.address.chars().map(decode).collect()
    }

    fn diagnosis(&self) -> &str {
        self.diagnosis.trim_start_matches("ISEMAIL_")
    }
}

/// R-089, G-10: for each diagnosis of the suite, how many addresses are accepted and refused.
#[test]
fn email_addresses_of_isemail() -> Result<(), Box<dyn Error>> {
    let Some(dir) = data_dir("e-mail addresses") else {
        return Ok(());
    };
    let vectors = EmailVector::read_all(&dir)?;
    assert_eq!(vectors.len(), 164);

    let mut counts = BTreeMap::<&str, (u32, u32)>::new();
    for vector in &vectors {
        let (accepted, refused) = counts.entry(vector.diagnosis()).or_default();
        match EmailAddress::parse(&vector.decoded()) {
            Ok(_) => *accepted += 1,
            Err(_) => *refused += 1,
        }
    }

    // (diagnosis, accepted, refused)
    let expected = [
        // What a mail server must take. Accepted, but for a domain of one label.
        ("VALID", 13, 1),
        ("DNSWARN_NO_MX_RECORD", 1, 0),
        ("DNSWARN_NO_RECORD", 7, 0),
        // What a mail server must take and nobody has. Refused.
        ("RFC5321_ADDRESSLITERAL", 0, 7),
        ("RFC5321_QUOTEDSTRING", 0, 6),
        ("RFC5321_TLD", 0, 1),
        ("RFC5321_TLDNUMERIC", 0, 2),
        // What only a message header may hold. Refused, but for white space around the address.
        ("CFWS_COMMENT", 0, 4),
        ("CFWS_FWS", 6, 0),
        ("DEPREC_CFWS_NEAR_AT", 0, 5),
        ("DEPREC_COMMENT", 0, 1),
        ("DEPREC_CTEXT", 0, 2),
        ("DEPREC_FWS", 2, 1),
        ("DEPREC_LOCALPART", 0, 2),
        ("DEPREC_QP", 0, 4),
        ("DEPREC_QTEXT", 0, 2),
        ("RFC5321_IPV6DEPRECATED", 0, 1),
        ("RFC5322_DOMAIN", 0, 1),
        ("RFC5322_DOMAINLITERAL", 0, 7),
        ("RFC5322_DOMAIN_TOOLONG", 0, 1),
        ("RFC5322_DOMLIT_OBSDTEXT", 0, 3),
        ("RFC5322_IPV6_2X2XCOLON", 0, 2),
        ("RFC5322_IPV6_BADCHAR", 0, 1),
        ("RFC5322_IPV6_COLONEND", 0, 1),
        ("RFC5322_IPV6_COLONSTRT", 0, 2),
        ("RFC5322_IPV6_GRPCOUNT", 0, 4),
        ("RFC5322_IPV6_MAXGRPS", 0, 2),
        ("RFC5322_LABEL_TOOLONG", 0, 1),
        ("RFC5322_LOCAL_TOOLONG", 0, 3),
        ("RFC5322_TOOLONG", 0, 2),
        // What is wrong everywhere. Refused, but for line ends around the address.
        ("ERR_ATEXT_AFTER_CFWS", 0, 1),
        ("ERR_ATEXT_AFTER_DOMLIT", 0, 1),
        ("ERR_ATEXT_AFTER_QS", 0, 1),
        ("ERR_BACKSLASHEND", 0, 2),
        ("ERR_CONSECUTIVEDOTS", 0, 2),
        ("ERR_CR_NO_LF", 2, 3),
        ("ERR_DOMAINHYPHENEND", 0, 2),
        ("ERR_DOMAINHYPHENSTART", 0, 1),
        ("ERR_DOT_END", 0, 2),
        ("ERR_DOT_START", 0, 2),
        ("ERR_EXPECTING_ATEXT", 2, 10),
        ("ERR_EXPECTING_CTEXT", 0, 1),
        ("ERR_EXPECTING_DTEXT", 0, 1),
        ("ERR_EXPECTING_QPAIR", 0, 1),
        ("ERR_EXPECTING_QTEXT", 0, 2),
        ("ERR_FWS_CRLF_END", 8, 0),
        ("ERR_FWS_CRLF_X2", 4, 0),
        ("ERR_NODOMAIN", 0, 4),
        ("ERR_NOLOCALPART", 0, 3),
        ("ERR_UNCLOSEDCOMMENT", 0, 5),
        ("ERR_UNCLOSEDDOMLIT", 0, 2),
        ("ERR_UNCLOSEDQUOTEDSTR", 0, 4),
    ];
    let expected = expected.map(|(diagnosis, accepted, refused)| (diagnosis, (accepted, refused)));
    assert_eq!(counts, BTreeMap::from(expected));
    Ok(())
}

/// What is accepted beyond the strictly valid addresses is accepted because it was trimmed.
#[test]
fn email_addresses_of_isemail_are_accepted_as_valid_or_trimmed() -> Result<(), Box<dyn Error>> {
    let Some(dir) = data_dir("trimmed e-mail addresses") else {
        return Ok(());
    };
    let vectors = EmailVector::read_all(&dir)?;
    let is_valid = |vector: &&EmailVector| {
        vector.diagnosis() == "VALID" || vector.diagnosis().starts_with("DNSWARN")
    };
    let valid: Vec<String> = vectors
        .iter()
        .filter(is_valid)
        .map(EmailVector::decoded)
        .collect();

    let mut trimmed = 0;
    for vector in &vectors {
        let typed = vector.decoded();
        if let Ok(address) = EmailAddress::parse(&typed) {
            assert_eq!(address.as_str(), typed.trim());
            assert!(valid.iter().any(|valid| valid == typed.trim()), "{typed:?}");
            trimmed += u32::from(typed != typed.trim());
        }
    }
    assert_eq!(trimmed, 24);
    Ok(())
}

/// One number with the result of the published implementation.
#[derive(Deserialize)]
struct PhoneVector {
    raw: String,
    default_region: String,
    e164: String,
    is_valid: u8,
    region: String,
}

impl PhoneVector {
    fn read_all(dir: &Path) -> Result<Vec<Self>, csv::Error> {
        let path = dir.join("libphonenumber/vectors_v9.0.43.csv");
        csv::Reader::from_path(path)?.deserialize().collect()
    }

    /// The number read in its default region, if that is a country.
    fn parse(&self) -> Option<PhoneNumber> {
        match Country::parse(&self.default_region) {
            Ok(country) => PhoneNumber::parse_in(&self.raw, country).ok(),
            Err(_) => PhoneNumber::parse(&self.raw).ok(),
        }
    }

    fn class(&self) -> &'static str {
        let Some(number) = self.parse() else {
            return self.class_of_refusal();
        };
        match number.e164() {
            Some(e164) if e164 == self.e164 => "the same E.164 form",
            Some(_) => "another E.164 form",
            None if self.default_region == "XK" => "kept without E.164, Kosovo",
            None => "kept without E.164",
        }
    }

    fn class_of_refusal(&self) -> &'static str {
        let text = self.raw.trim();
        let body = text.strip_prefix('+').unwrap_or(text);
        let is_other_sign = |c: char| !(c.is_ascii_digit() || " -.()".contains(c));
        if body.chars().any(char::is_alphabetic) {
            "refused, letters"
        } else if body.chars().any(is_other_sign) {
            "refused, other signs"
        } else if body.len() < 7 {
            "refused, too short"
        } else {
            "refused, too long"
        }
    }
}

/// G-13: what becomes of numbers that the published implementation calls valid
/// and of those that it doesn't.
#[test]
fn phone_numbers_of_libphonenumber() -> Result<(), Box<dyn Error>> {
    let Some(dir) = data_dir("telephone numbers") else {
        return Ok(());
    };
    let vectors = PhoneVector::read_all(&dir)?;
    assert_eq!(vectors.len(), 3_075);

    let mut counts = BTreeMap::<(bool, &str), u32>::new();
    for vector in &vectors {
        *counts
            .entry((vector.is_valid == 1, vector.class()))
            .or_default() += 1;
    }
    let expected = [
        ((true, "the same E.164 form"), 2_754),
        ((true, "kept without E.164, Kosovo"), 5),
        ((true, "refused, letters"), 56),
        ((true, "refused, other signs"), 12),
        ((true, "refused, too short"), 42),
        ((false, "kept without E.164"), 171),
        ((false, "refused, letters"), 16),
        ((false, "refused, other signs"), 10),
        ((false, "refused, too short"), 9),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    Ok(())
}

/// A number belongs to the country that the published implementation names, if ISO 3166-1 lists it,
/// and comes back from JSON unchanged.
#[test]
fn phone_numbers_of_libphonenumber_know_their_country() -> Result<(), Box<dyn Error>> {
    let Some(dir) = data_dir("the countries of telephone numbers") else {
        return Ok(());
    };
    let mut without_country = BTreeMap::<String, u32>::new();
    for vector in PhoneVector::read_all(&dir)? {
        let Some(number) = vector.parse() else {
            continue;
        };
        let copy: PhoneNumber = serde_json::from_str(&serde_json::to_string(&number)?)?;
        assert_eq!((copy.raw(), copy.e164()), (number.raw(), number.e164()));
        if number.e164().is_none() {
            continue;
        }
        match number.region() {
            Some(country) => assert_eq!(country.alpha2(), vector.region),
            None => *without_country.entry(vector.region).or_default() += 1,
        }
    }
    let expected = [("001", 5), ("AC", 4), ("TA", 2), ("XK", 5)];
    let expected = expected.map(|(region, count)| (region.to_owned(), count));
    assert_eq!(without_country, BTreeMap::from(expected));
    Ok(())
}

/// One line of the list of ISO's maintenance agency.
#[derive(Deserialize)]
struct CurrencyVector {
    alpha3: String,
    minor_units: String,
}

/// the codes known here and there, and the decimals of those known in both.
#[test]
fn currencies_of_iso_4217() -> Result<(), Box<dyn Error>> {
    let Some(dir) = data_dir("currencies") else {
        return Ok(());
    };
    let vectors: Vec<CurrencyVector> = csv::Reader::from_path(dir.join("iso-codes/iso4217.csv"))?
        .deserialize()
        .collect::<Result<_, _>>()?;
    assert_eq!(vectors.len(), 179);

    let mut only_listed = Vec::new();
    for vector in &vectors {
        let Ok(currency) = Currency::parse(&vector.alpha3) else {
            only_listed.push(vector.alpha3.as_str());
            continue;
        };
        let minor_units = match vector.minor_units.as_str() {
            "N.A." => None,
            digits => Some(digits.parse::<u32>()?),
        };
        assert_eq!(currency.minor_units(), minor_units, "{currency}");
    }
    assert_eq!(only_listed, ["ANG"]);

    let letters = || 'A'..='Z';
    let codes = letters()
        .flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
    let only_known: Vec<String> = codes
        .filter(|code| Currency::parse(code).is_ok())
        .filter(|code| vectors.iter().all(|vector| vector.alpha3 != *code))
        .collect();
    assert_eq!(only_known, ["HRK", "SLL", "XAD", "XCG", "ZWL"]);
    Ok(())
}
