//! The networks, and how their profiles are addressed.

use unicode_normalization::UnicodeNormalization;

use crate::value::{ApiName, HttpUrl, TextValue, ValueError};

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
pub(super) struct Form {
    pub(super) name: &'static str,
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

pub(super) const FORMS: [(SocialNetwork, Form); 13] = [
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

    pub(super) fn form(&self) -> Option<&'static Form> {
        let known = FORMS.iter().find(|(network, _)| network == self);
        known.map(|(_, form)| form)
    }
}

impl Form {
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| {
            host.strip_suffix(own)
                .is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
        })
    }

    /// The handle that an address of the network leads to.
    pub(super) fn handle(&self, url: &HttpUrl) -> Option<String> {
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

    pub(super) fn url(&self, handle: &str) -> Result<HttpUrl, ValueError> {
        let section = handle.split_once('/').map(|(section, _)| section);
        let prefix = match section {
            Some(section) if self.sections.contains(&section) => "",
            Some(_) => return Err(invalid_handle()),
            None => self.prefix,
        };
        HttpUrl::parse(&format!("https://{}/{prefix}{handle}", self.host))
    }
}

/// The text of a path's segment.
pub(super) fn decoded(segment: &str) -> Option<String> {
    // What would be read as a sign of a form is in no handle.
    if segment.contains(['+', '&', '=']) {
        return None;
    }
    let mut pairs = ::url::form_urlencoded::parse(segment.as_bytes());
    let (text, _) = pairs.next()?;
    Some(text.nfc().collect())
}

pub(super) fn invalid_handle() -> ValueError {
    ValueError::new(
        "invalid_handle",
        "write the name at the network with letters, digits, dots, hyphens and underscores",
    )
}
