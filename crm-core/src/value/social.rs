//! Profiles at social networks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};
use unicode_normalization::UnicodeNormalization;

use super::{ApiName, HttpUrl, TextValue, ValueError};
use crate::error::{FieldError, codes};
use crate::schema::{FieldType, FieldValue, Value, ValueRef};

/// The member of the JSON form that lists which profiles were verified.
const VERIFIED: &str = "verified";
/// The most characters of a handle.
const HANDLE_LENGTH: usize = 100;

/// A social network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SocialNetwork {
    /// LinkedIn.
    LinkedIn,
    /// Xing.
    Xing,
    /// X, formerly Twitter; also read as `twitter`.
    X,
    /// Facebook.
    Facebook,
    /// Instagram.
    Instagram,
    /// Threads.
    Threads,
    /// YouTube.
    YouTube,
    /// TikTok.
    TikTok,
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Reddit.
    Reddit,
    /// Telegram.
    Telegram,
    /// Bluesky.
    Bluesky,
    /// A server of the fediverse; a handle is `user@server`.
    Mastodon,
    /// Any other, by a name of the tenant's own.
    Other(ApiName),
}

/// How profiles of a network are addressed: `https://<host>/<prefix><handle>`.
struct Form {
    name: &'static str,
    host: &'static str,
    /// Profiles are also reached at these hosts and below them.
    hosts: &'static [&'static str],
    /// What stands in front of the handle: a path that ends with `/`, an `@`, or nothing.
    prefix: &'static str,
    /// Paths of pages that are no person's; they are part of the handle, as in `company/acme`.
    sections: &'static [&'static str],
}

/// The name of the network whose profiles are at many hosts.
const MASTODON: &str = "mastodon";

const FORMS: [(SocialNetwork, Form); 13] = [
    (
        SocialNetwork::LinkedIn,
        Form {
            name: "linkedin",
            host: "www.linkedin.com",
            hosts: &["linkedin.com"],
            prefix: "in/",
            sections: &["company", "school", "showcase"],
        },
    ),
    (
        SocialNetwork::Xing,
        Form {
            name: "xing",
            host: "www.xing.com",
            hosts: &["xing.com"],
            prefix: "profile/",
            sections: &["pages", "companies"],
        },
    ),
    (
        SocialNetwork::X,
        Form {
            name: "x",
            host: "x.com",
            hosts: &["x.com", "twitter.com"],
            prefix: "",
            sections: &[],
        },
    ),
    (
        SocialNetwork::Facebook,
        Form {
            name: "facebook",
            host: "www.facebook.com",
            hosts: &["facebook.com", "fb.com"],
            prefix: "",
            sections: &["groups"],
        },
    ),
    (
        SocialNetwork::Instagram,
        Form {
            name: "instagram",
            host: "www.instagram.com",
            hosts: &["instagram.com"],
            prefix: "",
            sections: &[],
        },
    ),
    (
        SocialNetwork::Threads,
        Form {
            name: "threads",
            host: "www.threads.com",
            hosts: &["threads.com", "threads.net"],
            prefix: "@",
            sections: &[],
        },
    ),
    (
        SocialNetwork::YouTube,
        Form {
            name: "youtube",
            host: "www.youtube.com",
            hosts: &["youtube.com"],
            prefix: "@",
            sections: &["channel", "c", "user"],
        },
    ),
    (
        SocialNetwork::TikTok,
        Form {
            name: "tiktok",
            host: "www.tiktok.com",
            hosts: &["tiktok.com"],
            prefix: "@",
            sections: &[],
        },
    ),
    (
        SocialNetwork::GitHub,
        Form {
            name: "github",
            host: "github.com",
            hosts: &["github.com"],
            prefix: "",
            sections: &["orgs"],
        },
    ),
    (
        SocialNetwork::GitLab,
        Form {
            name: "gitlab",
            host: "gitlab.com",
            hosts: &["gitlab.com"],
            prefix: "",
            sections: &["groups"],
        },
    ),
    (
        SocialNetwork::Reddit,
        Form {
            name: "reddit",
            host: "www.reddit.com",
            hosts: &["reddit.com"],
            prefix: "user/",
            sections: &["r"],
        },
    ),
    (
        SocialNetwork::Telegram,
        Form {
            name: "telegram",
            host: "t.me",
            hosts: &["t.me", "telegram.me"],
            prefix: "",
            sections: &[],
        },
    ),
    (
        SocialNetwork::Bluesky,
        Form {
            name: "bluesky",
            host: "bsky.app",
            hosts: &["bsky.app"],
            prefix: "profile/",
            sections: &[],
        },
    ),
];

impl SocialNetwork {
    /// The name in JSON and filters: `linkedin`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name.as_str(),
            Self::Mastodon => MASTODON,
            known => known.form().map_or("", |form| form.name),
        }
    }

    /// The network with this name, in any letter case; a name that is not known is another network.
    ///
    /// ```
    /// use crm_core::value::SocialNetwork;
    ///
    /// assert_eq!(SocialNetwork::parse("LinkedIn")?, SocialNetwork::LinkedIn);
    /// assert_eq!(SocialNetwork::parse("twitter")?, SocialNetwork::X);
    /// assert_eq!(SocialNetwork::parse("guild_forum")?.name(), "guild_forum");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    ///
    /// # Errors
    /// `invalid_api_name` if the name of another network is not one for programs.
    pub fn parse(name: &str) -> Result<Self, ValueError> {
        let name = name.trim().to_ascii_lowercase();
        if name == "twitter" {
            return Ok(Self::X);
        }
        if name == MASTODON {
            return Ok(Self::Mastodon);
        }
        let known = FORMS.iter().find(|(_, form)| form.name == name);
        match known {
            Some((network, _)) => Ok(network.clone()),
            None => ApiName::parse(&name).map(Self::Other),
        }
    }

    /// The network that a web address belongs to, by its host.
    ///
    /// ```
    /// use crm_core::value::{HttpUrl, SocialNetwork, TextValue};
    ///
    /// let url = HttpUrl::parse("https://de.linkedin.com/in/ada")?;
    /// assert_eq!(SocialNetwork::of_url(&url), Some(SocialNetwork::LinkedIn));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn of_url(url: &HttpUrl) -> Option<Self> {
        let known = FORMS.iter().find(|(_, form)| form.has_host(url.host()));
        known.map(|(network, _)| network.clone())
    }

    fn form(&self) -> Option<&'static Form> {
        let known = FORMS.iter().find(|(network, _)| network == self);
        known.map(|(_, form)| form)
    }
}

impl Form {
    fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| {
            host.strip_suffix(own)
                .is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
        })
    }

    /// The handle that an address of the network leads to.
    fn handle(&self, url: &HttpUrl) -> Option<String> {
        let url = url.as_url().ok()?;
        let segments: Vec<&str> = url
            .path_segments()?
            .filter(|segment| !segment.is_empty())
            .collect();
        let (first, second) = (segments.first()?, segments.get(1));
        if let (true, Some(second)) = (self.sections.contains(first), second) {
            return Some(format!("{first}/{}", decoded(second)?));
        }
        if *first == "profile.php" {
            // The address of people at Facebook who chose no name.
            let id = url.query_pairs().find(|(name, _)| name == "id");
            return id.map(|(_, id)| id.into_owned());
        }
        match self.prefix.strip_suffix('/') {
            Some(path) if *first == path => decoded(second?),
            Some(_) => None,
            None => decoded(first.strip_prefix(self.prefix)?),
        }
    }

    fn url(&self, handle: &str) -> Result<HttpUrl, ValueError> {
        let section = handle.split_once('/').map(|(section, _)| section);
        let prefix = match section {
            Some(section) if self.sections.contains(&section) => "",
            Some(_) => return Err(invalid_handle()),
            None => self.prefix,
        };
        HttpUrl::parse(&format!("https://{}/{prefix}{handle}", self.host))
    }
}

/// A profile at a social network: its address, its handle, or both. For a network that the engine
/// knows, either gives the other.
///
/// ```
/// use crm_core::value::{SocialNetwork, SocialProfile};
///
/// let typed = SocialProfile::parse(&SocialNetwork::X, "@ada")?;
/// assert_eq!(typed.url().map(|url| url.to_string()).as_deref(), Some("https://x.com/ada"));
/// let copied = SocialProfile::parse(&SocialNetwork::X, "http://twitter.com/ada?s=20")?;
/// assert_eq!(copied, typed);
/// assert!(SocialProfile::parse(&SocialNetwork::X, "https://evil.example/ada").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SocialProfile {
    url: Option<HttpUrl>,
    handle: Option<String>,
    is_verified: bool,
}

impl fmt::Debug for SocialProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SocialProfile(<redacted>)")
    }
}

impl SocialProfile {
    /// Reads an address or a handle, with or without `@`. Of the address of a known network, only
    /// what names the profile is kept.
    ///
    /// # Errors
    /// `invalid_url` if the address is none, or is not that of a profile at the network;
    /// `invalid_handle`.
    pub fn parse(network: &SocialNetwork, text: &str) -> Result<Self, ValueError> {
        let text: String = text.trim().nfc().collect();
        let is_url = text.contains("://");
        let bare = || {
            let host = text.split('/').next().unwrap_or_default();
            let host = host.to_ascii_lowercase();
            let is_known = network.form().is_some_and(|form| form.has_host(&host));
            is_known && text.contains('/')
        };
        if is_url {
            Self::at(network, HttpUrl::parse(&text)?)
        } else if bare() {
            Self::at(network, HttpUrl::parse(&format!("https://{text}"))?)
        } else {
            Self::called(network, &text)
        }
    }

    fn at(network: &SocialNetwork, url: HttpUrl) -> Result<Self, ValueError> {
        if let Some(form) = network.form() {
            if !form.has_host(url.host()) {
                return Err(ValueError::new(
                    "invalid_url",
                    "write an address at this network",
                ));
            }
            let handle = form.handle(&url).ok_or_else(no_profile)?;
            return Self::called(network, &handle).map_err(|_| no_profile());
        }
        if *network == SocialNetwork::Mastodon {
            let handle = fediverse_handle(&url).ok_or_else(no_profile)?;
            return Self::called(network, &handle).map_err(|_| no_profile());
        }
        let last = url.as_url().ok().and_then(|url| {
            url.path_segments()?
                .rfind(|s| !s.is_empty())
                .and_then(decoded)
        });
        let handle = last.and_then(|last| checked_handle(&last).ok());
        Ok(Self {
            url: Some(url),
            handle: handle.filter(|handle| !handle.contains('/')),
            is_verified: false,
        })
    }

    fn called(network: &SocialNetwork, handle: &str) -> Result<Self, ValueError> {
        let handle = checked_handle(handle)?;
        let url = match network {
            SocialNetwork::Other(_) => {
                if handle.contains(['/', '@']) {
                    return Err(invalid_handle());
                }
                None
            }
            SocialNetwork::Mastodon => {
                let (user, server) = handle.split_once('@').ok_or_else(|| {
                    ValueError::new("invalid_handle", "write a handle such as user@server")
                })?;
                let url = HttpUrl::parse(&format!("https://{server}/@{user}"))?;
                // The server in the one form that the address has.
                let handle = fediverse_handle(&url).ok_or_else(invalid_handle)?;
                return Ok(Self {
                    url: Some(url),
                    handle: Some(handle),
                    is_verified: false,
                });
            }
            known => {
                if handle.contains('@') {
                    return Err(invalid_handle());
                }
                known.form().map(|form| form.url(&handle)).transpose()?
            }
        };
        Ok(Self {
            url,
            handle: Some(handle),
            is_verified: false,
        })
    }

    /// The same profile, known to be the person's own.
    #[must_use]
    pub fn verified(mut self) -> Self {
        self.is_verified = true;
        self
    }

    /// The address; none for a handle at a network that the engine does not know.
    #[must_use]
    pub const fn url(&self) -> Option<&HttpUrl> {
        self.url.as_ref()
    }

    /// The handle, without `@` in front; none where it can't be told from the address.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }

    /// Whether it is known to be the person's own.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// The text from which the profile is read again: the address, or the handle.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match (&self.url, &self.handle) {
            (Some(url), _) => url.as_str(),
            (None, handle) => handle.as_deref().unwrap_or_default(),
        }
    }
}

/// `user@server` of `https://server/@user`.
fn fediverse_handle(url: &HttpUrl) -> Option<String> {
    let parsed = url.as_url().ok()?;
    let first = parsed
        .path_segments()?
        .find(|segment| !segment.is_empty())?;
    let user = first.strip_prefix('@')?;
    // Of `@user@elsewhere`, which a server shows for people of another one, only that one is right.
    let user = decoded(user)?;
    Some(match user.contains('@') {
        true => user,
        false => format!("{user}@{}", url.host()),
    })
}

/// The text of a path's segment.
fn decoded(segment: &str) -> Option<String> {
    // What would be read as a sign of a form is in no handle.
    if segment.contains(['+', '&', '=']) {
        return None;
    }
    let mut pairs = ::url::form_urlencoded::parse(segment.as_bytes());
    let (text, _) = pairs.next()?;
    Some(text.nfc().collect())
}

fn checked_handle(text: &str) -> Result<String, ValueError> {
    let text = text.trim();
    let handle = text.strip_prefix('@').unwrap_or(text);
    let is_sign = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~');
    // A section and the handle in it, or a user and a server.
    let parts: Vec<&str> = handle.split(['/', '@']).collect();
    let fits = parts.len() <= 2
        && parts
            .iter()
            .all(|part| part.chars().all(is_sign) && part.contains(char::is_alphanumeric));
    if !fits || handle.chars().count() > HANDLE_LENGTH {
        return Err(invalid_handle());
    }
    Ok(handle.to_owned())
}

fn invalid_handle() -> ValueError {
    ValueError::new(
        "invalid_handle",
        "write the name at the network with letters, digits, dots, hyphens and underscores",
    )
}

fn no_profile() -> ValueError {
    ValueError::new("invalid_url", "write the address of a profile")
}

/// The profiles of a person or company at social networks, one for each (C-207).
///
/// In JSON, each is the address, or the handle where there is no address; those that were verified
/// are listed beside them. So `social_profiles.linkedin` is a text in filters. An object with `url`,
/// `handle` and `verified` is read too. A profile that changes is no longer verified.
///
/// ```
/// use crm_core::value::{SocialNetwork, SocialProfiles};
///
/// let profiles: SocialProfiles = serde_json::from_value(serde_json::json!({
///     "linkedin": "https://linkedin.com/in/ada?trk=share",
///     "x": {"handle": "@ada", "verified": true},
/// }))?;
/// let linkedin = profiles.get(&SocialNetwork::LinkedIn).and_then(|profile| profile.handle());
/// assert_eq!(linkedin, Some("ada"));
/// assert_eq!(serde_json::to_value(&profiles)?, serde_json::json!({
///     "linkedin": "https://www.linkedin.com/in/ada",
///     "x": "https://x.com/ada",
///     "verified": ["https://x.com/ada"],
/// }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct SocialProfiles(BTreeMap<SocialNetwork, SocialProfile>);

impl fmt::Debug for SocialProfiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SocialProfiles {
    /// No profile.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The profile at a network.
    #[must_use]
    pub fn get(&self, network: &SocialNetwork) -> Option<&SocialProfile> {
        self.0.get(network)
    }

    /// Sets the profile at a network, from an address or a handle.
    ///
    /// # Errors
    /// What [`SocialProfile::parse`] refuses.
    pub fn set(&mut self, network: SocialNetwork, text: &str) -> Result<(), ValueError> {
        let profile = SocialProfile::parse(&network, text)?;
        // Set again, it is still the one that was verified.
        let known = self.0.get(&network);
        if known.is_none_or(|known| known.as_str() != profile.as_str()) {
            self.0.insert(network, profile);
        }
        Ok(())
    }

    /// Says that the profile at a network is known to be the person's own; whether there is one.
    pub fn verify(&mut self, network: &SocialNetwork) -> bool {
        let profile = self.0.get_mut(network);
        profile.map(|profile| profile.is_verified = true).is_some()
    }

    /// Removes the profile at a network.
    pub fn remove(&mut self, network: &SocialNetwork) -> Option<SocialProfile> {
        self.0.remove(network)
    }

    /// The profiles, by network.
    pub fn iter(&self) -> impl Iterator<Item = (&SocialNetwork, &SocialProfile)> {
        self.0.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let text = |profile: &SocialProfile| Json::from(profile.as_str());
        let mut members: Map<String, Json> = self
            .iter()
            .map(|(network, profile)| (network.name().to_owned(), text(profile)))
            .collect();
        let verified: Vec<Json> = self
            .0
            .values()
            .filter(|profile| profile.is_verified)
            .map(text)
            .collect();
        if !verified.is_empty() {
            members.insert(VERIFIED.to_owned(), Json::Array(verified));
        }
        Json::Object(members)
    }

    /// Reads the JSON form; `path` is where it stands, for the faults.
    ///
    /// # Errors
    /// Every faulty profile, at `<path>.<network>`.
    pub fn from_json(json: &Json, path: &str) -> Result<Self, Vec<FieldError>> {
        let members = match json {
            Json::Null => return Ok(Self::new()),
            Json::Object(members) => members,
            _ => {
                return Err(vec![FieldError::new(
                    path,
                    codes::WRONG_TYPE,
                    "must have a member for each network",
                )]);
            }
        };
        let verified = members.get(VERIFIED).and_then(Json::as_array);
        let is_verified = |profile: &SocialProfile| {
            let mut all = verified.into_iter().flatten();
            all.any(|text| text.as_str() == Some(profile.as_str()))
        };
        let mut profiles = Self::new();
        let mut faults = Vec::new();
        for (name, member) in members {
            if name == VERIFIED || member.is_null() {
                continue;
            }
            let read = SocialNetwork::parse(name)
                .and_then(|network| read_profile(&network, member).map(|read| (network, read)));
            match read {
                Ok((network, Some(profile))) => {
                    let profile = match is_verified(&profile) {
                        true => profile.verified(),
                        false => profile,
                    };
                    let other = profiles.0.insert(network, profile.clone());
                    if other.is_some_and(|other| other.as_str() != profile.as_str()) {
                        faults.push(FieldError::new(
                            format!("{path}.{name}"),
                            codes::INCONSISTENT,
                            "is another profile of the same network; give one",
                        ));
                    }
                }
                Ok((_, None)) => {}
                Err(error) => faults.push(FieldError::new(
                    format!("{path}.{name}"),
                    error.code(),
                    error.message().to_owned(),
                )),
            }
        }
        if faults.is_empty() {
            Ok(profiles)
        } else {
            Err(faults)
        }
    }
}

/// A profile in either JSON form; nothing where the form is empty.
fn read_profile(network: &SocialNetwork, json: &Json) -> Result<Option<SocialProfile>, ValueError> {
    let members = match json {
        Json::String(text) if text.trim().is_empty() => return Ok(None),
        Json::String(text) => return SocialProfile::parse(network, text).map(Some),
        Json::Object(members) => members,
        _ => return Err(wrong_form()),
    };
    let is_known = |name: &String| matches!(name.as_str(), "url" | "handle" | "verified");
    if !members.keys().all(is_known) {
        return Err(wrong_form());
    }
    let text = |name: &str| match members.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(wrong_form()),
    };
    let is_verified = match members.get("verified") {
        None | Some(Json::Null) => false,
        Some(Json::Bool(is_verified)) => *is_verified,
        Some(_) => return Err(wrong_form()),
    };
    let profile = match (text("url")?, text("handle")?) {
        (None, None) => return Ok(None),
        (None, Some(handle)) => SocialProfile::called(network, &handle.nfc().collect::<String>())?,
        (Some(url), handle) => {
            let profile = SocialProfile::at(network, HttpUrl::parse(url)?)?;
            let same = |handle: &str| {
                let given: String = handle.nfc().collect();
                SocialProfile::called(network, &given)
                    .is_ok_and(|given| given.handle == profile.handle)
            };
            if !handle.is_none_or(same) {
                return Err(ValueError::new(
                    codes::INCONSISTENT,
                    "the handle is not that of the address; give one of them",
                ));
            }
            profile
        }
    };
    Ok(Some(match is_verified {
        true => profile.verified(),
        false => profile,
    }))
}

fn wrong_form() -> ValueError {
    ValueError::new(
        codes::WRONG_TYPE,
        "must be an address, a handle, or an object with `url`, `handle` and `verified`",
    )
}

impl FieldValue for SocialProfiles {
    type Operand = Self;

    fn field_type() -> FieldType {
        FieldType::Json
    }

    fn value(&self) -> ValueRef<'_> {
        ValueRef::Json(Cow::Owned(self.to_json()))
    }

    fn from_value(value: Value) -> Result<Self, ValueError> {
        Self::from_value_at(value, "").map_err(|faults| {
            let first = faults.into_iter().next();
            first.map_or_else(wrong_form, |fault| {
                ValueError::new(fault.code, fault.message)
            })
        })
    }

    fn from_value_at(value: Value, path: &str) -> Result<Self, Vec<FieldError>> {
        match value {
            Value::Json(json) => Self::from_json(&json, path),
            other => Self::from_json(&other.to_json(), path),
        }
    }
}

impl Serialize for SocialProfiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SocialProfiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let json = Json::deserialize(deserializer)?;
        Self::from_json(&json, "social_profiles").map_err(|faults| {
            let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
            D::Error::custom(told.join("; "))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

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
}
