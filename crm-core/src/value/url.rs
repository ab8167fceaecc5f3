//! Web addresses.

use ::url::Url;

use super::text_value::text_conversions;
use super::{TextValue, ValueError};

/// The address of a web page: scheme `http` or `https`, a host, at most 2,048 characters.
///
/// Kept in its canonical form: scheme and host in lower case, an international host in ASCII, a
/// default port dropped, dots in the path resolved, special characters percent-encoded. Two
/// spellings of one address are therefore equal.
///
/// Refused are
/// - other schemes, and text without one: such a link would run a script or lead nowhere;
/// - a user name or password in the address: it would be a secret stored in the clear and shown to
///   everyone who sees the record, and `https://bank.example@evil.example` deceives readers;
/// - tabs, line ends and other control characters, which browsers drop silently.
///
/// ```
/// use crm_core::value::{HttpUrl, TextValue};
///
/// let website = HttpUrl::parse("HTTPS://Example.COM:443/a/../about us")?;
/// assert_eq!(website.as_str(), "https://example.com/about%20us");
/// assert_eq!(website.host(), "example.com");
/// assert!(HttpUrl::parse("ftp://example.com/").is_err());
/// assert!(HttpUrl::parse("https://jane:secret@example.com/").is_err());
/// # Ok::<(), crm_core::value::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The greatest number of characters, both as typed and in canonical form.
    ///
    /// ```
    /// use crm_core::value::{HttpUrl, TextValue};
    ///
    /// let long = format!("https://example.com/{}", "a".repeat(HttpUrl::MAX_LENGTH));
    /// assert_eq!(HttpUrl::parse(&long).unwrap_err().code(), "too_long");
    /// ```
    pub const MAX_LENGTH: usize = 2_048;

    /// The host: a domain name, an IPv4 address, or an IPv6 address in brackets.
    ///
    /// ```
    /// use crm_core::value::{HttpUrl, TextValue};
    ///
    /// assert_eq!(HttpUrl::parse("http://bücher.example:8080/x")?.host(), "xn--bcher-kva.example");
    /// assert_eq!(HttpUrl::parse("http://[::1]/")?.host(), "[::1]");
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn host(&self) -> &str {
        let after_scheme = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let authority = after_scheme
            .split(['/', '?', '#'])
            .next()
            .unwrap_or_default();
        match authority.rsplit_once(':') {
            // Within the brackets of an IPv6 address a colon does not start a port.
            Some((host, port)) if !port.ends_with(']') => host,
            _ => authority,
        }
    }

    /// The address as the `url` crate's type, to take it apart or to resolve a relative link.
    ///
    /// # Errors
    ///
    /// `invalid_url`, only when the value came through
    /// [`from_stored`](TextValue::from_stored) and the stored text is no URL.
    ///
    /// ```
    /// use crm_core::value::{HttpUrl, TextValue};
    ///
    /// let website = HttpUrl::parse("https://example.com/shop?item=7")?;
    /// assert_eq!(website.as_url()?.query(), Some("item=7"));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    pub fn as_url(&self) -> Result<Url, ValueError> {
        Url::parse(&self.0).map_err(|_| invalid())
    }
}

impl TextValue for HttpUrl {
    // R-014, R-130, R-242, R-243; the length is R-067
    fn parse(text: &str) -> Result<Self, ValueError> {
        let text = text.trim();
        if text.chars().nth(Self::MAX_LENGTH).is_some() {
            return Err(too_long());
        }
        let has_scheme = ["http://", "https://"].iter().any(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        if !has_scheme || text.contains(char::is_control) {
            return Err(invalid());
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ValueError::new(
                "invalid_url",
                "remove the user name and password from the address",
            ));
        }
        let canonical = String::from(url);
        // Percent-encoding can treble the length. The canonical form is ASCII.
        if canonical.len() > Self::MAX_LENGTH {
            return Err(too_long());
        }
        Ok(Self(canonical))
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn from_stored(text: String) -> Result<Self, ValueError> {
        Ok(Self(text))
    }
}

fn invalid() -> ValueError {
    ValueError::new(
        "invalid_url",
        "write a web address such as https://example.com",
    )
}

fn too_long() -> ValueError {
    ValueError::new("too_long", "use at most 2,048 characters")
}

text_conversions!(HttpUrl, shown);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws;

    /// R-014, R-130, R-242, R-243.
    #[test]
    fn only_http_and_https_with_a_host() {
        for text in [
            "http://a.b",
            "HTTPS://a.b/c?d#e",
            " https://localhost:3000 ",
            "http://[::1]:8/",
        ] {
            assert!(HttpUrl::parse(text).is_ok(), "{text}");
        }
        let refused = [
            "",
            "example.com",
            "//example.com",
            "http:example.com",
            "http:/example.com",
            "http://",
            "https://?q",
            "ftp://a.b",
            "javascript:alert(1)",
            "data:text/html,x",
            "mailto:a@b.c",
            "http://a b.c",
            "https://exa\nmple.com",
            "https://a.b/\tc",
            "https://a.b/\0",
            "http://a.b:99999/",
            "http\u{fe55}//a.b",
        ];
        for text in refused {
            assert_eq!(
                HttpUrl::parse(text).unwrap_err().code(),
                "invalid_url",
                "{text}"
            );
        }
    }

    #[test]
    fn credentials_are_refused() {
        for text in ["https://u@a.b/", "https://u:p@a.b/", "https://:p@a.b/"] {
            let error = HttpUrl::parse(text).unwrap_err();
            assert_eq!(
                error.message(),
                "remove the user name and password from the address"
            );
        }
    }

    /// R-067.
    #[test]
    fn length_is_limited_before_and_after_encoding() {
        let path = "a".repeat(2_048 - "https://a.b/".len());
        assert!(HttpUrl::parse(&format!("https://a.b/{path}")).is_ok());
        assert_eq!(
            HttpUrl::parse(&format!("https://a.b/{path}a"))
                .unwrap_err()
                .code(),
            "too_long"
        );
        let umlauts = "ä".repeat(1_000);
        assert_eq!(
            HttpUrl::parse(&format!("https://a.b/{umlauts}"))
                .unwrap_err()
                .code(),
            "too_long"
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in laws::any_text()) {
            laws::holds_for::<HttpUrl>(&text);
            laws::holds_for::<HttpUrl>(&format!("http://{text}"));
            laws::holds_for::<HttpUrl>(&format!("https://a.b/{text}"));
        }

        #[test]
        fn round_trips(
            origin in "https?://[a-z][a-z0-9]{0,9}[.][a-z]{2,5}(:[1-9][0-9]{0,3})?",
            path in "(/[a-zA-Z %.äß?#&=]{0,30})?",
        ) {
            let text = format!("{origin}{path}");
            prop_assert!(laws::holds_for::<HttpUrl>(&text), "{}", text);
        }

        #[test]
        fn the_host_is_that_of_the_url(
            host in "[a-z]{1,9}[.][a-z]{2,5}|\\[::[1-9]\\]|1[.]2[.]3[.]4|例え[.]jp",
            rest in "(:[1-9][0-9]{0,3})?([/?#][a-z:@/\\]]{0,5})?",
        ) {
            let value = HttpUrl::parse(&format!("https://{host}{rest}")).unwrap();
            let url = value.as_url().unwrap();
            prop_assert_eq!(url.host_str(), Some(value.host()));
        }
    }
}
