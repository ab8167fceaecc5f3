//! Profiles at social networks.

mod network;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};
use unicode_normalization::UnicodeNormalization;

pub use self::network::SocialNetwork;
use self::network::{decoded, invalid_handle};
use super::{HttpUrl, TextValue, ValueError};
use crate::error::{FieldError, codes};
use crate::schema::{FieldType, FieldValue, Value, ValueRef};

/// The member of the JSON form that lists which profiles were verified.
const VERIFIED: &str = "verified";
/// The most characters of a handle.
const HANDLE_LENGTH: usize = 100;

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
