//! The forms that people type, and the one that is kept.

use proptest::prelude::*;
use serde_json::json;

use super::network::FORMS;
use super::*;
use crate::value::ApiName;

fn profile(network: &str, text: &str) -> Result<(String, String), &'static str> {
    let network = SocialNetwork::parse(network).unwrap();
    SocialProfile::parse(&network, text)
        .map(|profile| {
            let url = profile.url().map(ToString::to_string).unwrap_or_default();
            (url, profile.handle().unwrap_or_default().to_owned())
        })
        .map_err(|error| error.code())
}

/// C-207: one form, however it was typed.
#[test]
fn addresses_and_handles_give_each_other() {
    let cases = [
        ("linkedin", "ada", "https://www.linkedin.com/in/ada", "ada"),
        (
            "linkedin",
            "http://de.linkedin.com/in/ada/?trk=1#top",
            "https://www.linkedin.com/in/ada",
            "ada",
        ),
        (
            "linkedin",
            "linkedin.com/company/acme",
            "https://www.linkedin.com/company/acme",
            "company/acme",
        ),
        (
            "linkedin",
            "https://www.linkedin.com/in/j%C3%BCrgen",
            "https://www.linkedin.com/in/j%C3%BCrgen",
            "jürgen",
        ),
        ("twitter", "@ada", "https://x.com/ada", "ada"),
        (
            "x",
            "https://twitter.com/ada?s=20",
            "https://x.com/ada",
            "ada",
        ),
        (
            "facebook",
            "https://m.facebook.com/profile.php?id=42&x=1",
            "https://www.facebook.com/42",
            "42",
        ),
        (
            "youtube",
            "https://youtube.com/@ada",
            "https://www.youtube.com/@ada",
            "ada",
        ),
        (
            "youtube",
            "https://youtube.com/channel/UC1",
            "https://www.youtube.com/channel/UC1",
            "channel/UC1",
        ),
        (
            "bluesky",
            "@ada.bsky.social",
            "https://bsky.app/profile/ada.bsky.social",
            "ada.bsky.social",
        ),
        (
            "mastodon",
            "@ada@Example.org",
            "https://example.org/@ada",
            "ada@example.org",
        ),
        (
            "mastodon",
            "https://example.org/@ada@other.example",
            "https://other.example/@ada",
            "ada@other.example",
        ),
        (
            "guild",
            "https://guild.example/u/ada?tab=1",
            "https://guild.example/u/ada?tab=1",
            "ada",
        ),
        ("guild", "@ada", "", "ada"),
    ];
    for (network, text, url, handle) in cases {
        assert_eq!(
            profile(network, text),
            Ok((url.to_owned(), handle.to_owned())),
            "{network} {text}"
        );
    }
}

/// C-207: an address that leads elsewhere is refused.
#[test]
fn what_is_no_profile_of_the_network_is_refused() {
    let cases = [
        ("linkedin", "https://evil.example/in/ada", "invalid_url"),
        ("linkedin", "https://notlinkedin.com/in/ada", "invalid_url"),
        (
            "linkedin",
            "https://linkedin.com.evil.example/in/ada",
            "invalid_url",
        ),
        ("linkedin", "https://www.linkedin.com/", "invalid_url"),
        ("linkedin", "https://www.linkedin.com/feed/x", "invalid_url"),
        (
            "linkedin",
            "javascript://linkedin.com/in/ada",
            "invalid_url",
        ),
        ("x", "ada lovelace", "invalid_handle"),
        ("x", "..", "invalid_handle"),
        ("x", "", "invalid_handle"),
        ("x", "feed/ada", "invalid_handle"),
        ("x", "ada@x.com", "invalid_handle"),
        ("mastodon", "ada", "invalid_handle"),
        ("guild", "a/b", "invalid_handle"),
    ];
    for (network, text, code) in cases {
        assert_eq!(profile(network, text), Err(code), "{network} {text}");
    }
    assert_eq!(profile("x", &"a".repeat(101)), Err("invalid_handle"));
}

/// C-207: every faulty profile is told, at its own path, without its value.
#[test]
fn faults_stand_at_the_network() {
    let json = json!({
        "linkedin": "https://evil.example/in/ada", "x": 5, "Bad Name": "ada",
        "github": {"url": "https://github.com/ada", "handle": "grace"},
        "youtube": {"page": "x"}, "xing": null, "reddit": "",
    });
    let faults = SocialProfiles::from_json(&json, "social_profiles").unwrap_err();
    let mut told: Vec<_> = faults.iter().map(|f| (f.path.as_str(), f.code)).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("social_profiles.Bad Name", "invalid_api_name"),
            ("social_profiles.github", codes::INCONSISTENT),
            ("social_profiles.linkedin", "invalid_url"),
            ("social_profiles.x", codes::WRONG_TYPE),
            ("social_profiles.youtube", codes::WRONG_TYPE),
        ]
    );
    assert!(
        faults
            .iter()
            .all(|fault| !fault.to_string().contains("evil"))
    );
    assert!(SocialProfiles::from_json(&json!([]), "p").is_err());
    let twice = json!({"x": "ada", "twitter": "grace"});
    assert!(SocialProfiles::from_json(&twice, "p").is_err());
}

/// C-207: a verified profile is so only until it changes.
#[test]
fn a_changed_profile_is_not_verified() {
    let mut profiles = SocialProfiles::new();
    profiles.set(SocialNetwork::GitHub, "ada").unwrap();
    assert!(profiles.verify(&SocialNetwork::GitHub));
    let mut json = profiles.to_json();
    let again = SocialProfiles::from_json(&json, "").unwrap();
    assert_eq!(again, profiles);
    json["github"] = json!("grace");
    let changed = SocialProfiles::from_json(&json, "").unwrap();
    assert!(!changed.get(&SocialNetwork::GitHub).unwrap().is_verified());
    profiles.set(SocialNetwork::GitHub, "@ada").unwrap();
    assert!(profiles.get(&SocialNetwork::GitHub).unwrap().is_verified());
    assert!(!format!("{profiles:?}").contains("ada"));
}

fn network() -> impl Strategy<Value = SocialNetwork> {
    let mut all: Vec<_> = FORMS.iter().map(|(network, _)| network.clone()).collect();
    all.push(SocialNetwork::Mastodon);
    all.push(SocialNetwork::Other(ApiName::parse("guild").unwrap()));
    proptest::sample::select(all)
}

proptest! {
    /// What was read is read again as the same, and hostile text is an error.
    #[test]
    fn reading_twice_changes_nothing(network in network(), text in "(https://|@)?(x\\.com/|www\\.linkedin\\.com/in/|github\\.com/|youtube.com/@)?\\PC{0,20}") {
        if let Ok(profile) = SocialProfile::parse(&network, &text) {
            let again = SocialProfile::parse(&network, profile.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), profile.as_str());
            prop_assert_eq!(again, profile);
        }
    }

    /// A handle of a known network comes back from its address.
    #[test]
    fn a_handle_comes_back_from_its_address(network in network(), handle in "[a-zA-Zäöß][a-zA-Z0-9_äöß-]{0,20}") {
        let handle = match network {
            SocialNetwork::Mastodon => format!("{handle}@example.org"),
            _ => handle,
        };
        let profile = SocialProfile::parse(&network, &handle).unwrap();
        prop_assert_eq!(profile.handle(), Some(&*handle));
        if let Some(url) = profile.url() {
            let again = SocialProfile::parse(&network, url.as_str()).unwrap();
            prop_assert_eq!(again.handle(), Some(&*handle));
        }
    }

    #[test]
    fn any_document_is_read_or_refused(text in "\\PC{0,30}", name in "\\PC{0,10}") {
        let json = json!({ name: {"url": text, "handle": text}, "x": text });
        if let Ok(profiles) = SocialProfiles::from_json(&json, "p") {
            prop_assert_eq!(SocialProfiles::from_json(&profiles.to_json(), "p").unwrap(), profiles);
        }
    }
}
