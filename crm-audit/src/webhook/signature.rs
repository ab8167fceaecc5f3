//! [`WebhookSecret`]: signs requests as Standard Webhooks says.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// The fewest and the most bytes of a key.
const LEAST: usize = 24;
const MOST: usize = 64;

/// The secret that a subscription and its receiver share: `whsec_` and 24 to 64 random bytes in
/// Base64.
///
/// ```
/// use crm_audit::webhook::WebhookSecret;
///
/// let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
/// assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
/// # Ok::<(), crm_audit::webhook::InvalidSecret>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// The text is no secret of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `whsec_` and 24 to 64 bytes in Base64")]
pub struct InvalidSecret;

impl WebhookSecret {
    /// The secret from its text.
    ///
    /// # Errors
    /// A text of another form.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let key = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(key).map_err(|_| InvalidSecret)?;
        Self::from_bytes(&key)
    }

    /// A secret from random bytes, which the host takes from its own source.
    ///
    /// # Errors
    /// Fewer than 24 or more than 64 bytes.
    pub fn from_bytes(key: &[u8]) -> Result<Self, InvalidSecret> {
        if (LEAST..=MOST).contains(&key.len()) {
            Ok(Self(key.to_vec()))
        } else {
            Err(InvalidSecret)
        }
    }

    /// The text, to be shown to the receiver once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// The signature of a message, with the version of the scheme in front: HMAC-SHA-256 over id,
    /// moment (seconds since 1970) and body, with full stops between.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let code = self.code(id, timestamp, body);
        format!("v1,{}", STANDARD.encode(code.finalize().into_bytes()))
    }

    /// Whether one of the signatures of a header is this secret's, for receivers and tests. Takes as
    /// long for a wrong one as for a right one.
    #[must_use]
    pub fn verify(&self, signatures: &str, id: &str, timestamp: i64, body: &[u8]) -> bool {
        signatures.split(' ').any(|signature| {
            let encoded = signature.strip_prefix("v1,");
            let code = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
            code.is_some_and(|code| self.code(id, timestamp, body).verify_slice(&code).is_ok())
        })
    }

    fn code(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        // A key of any length is one.
        let mut code = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        code.update(format!("{id}.{timestamp}.").as_bytes());
        code.update(body);
        code
    }
}

/// Says nothing of the key.
impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 4231, test case 1 and 2 have shorter keys than a secret may have; case 3 and 4 fit in
    /// length of key: 20 and 25 bytes.
    #[test]
    fn the_code_is_that_of_rfc_4231() {
        let key: Vec<u8> = (1..=25).collect();
        let mut code =
            Hmac::<Sha256>::new_from_slice(&WebhookSecret::from_bytes(&key).unwrap().0).unwrap();
        code.update(&[0xcd; 50]);
        let expected = "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b";
        let found: String = code
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn secrets_have_one_form() {
        for wrong in [
            "",
            "whsec_",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_c2hvcnQ=",
            "whsec_***",
        ] {
            assert_eq!(WebhookSecret::parse(wrong), Err(InvalidSecret));
        }
        assert!(WebhookSecret::from_bytes(&[7; 65]).is_err());
        let secret = WebhookSecret::from_bytes(&[7; 24]).unwrap();
        assert_eq!(WebhookSecret::parse(&secret.expose()), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(..)");
    }

    proptest! {
        #[test]
        fn only_the_same_message_has_the_signature(
            key in prop::collection::vec(any::<u8>(), 24..=64), id in "[a-z0-9_]{1,30}",
            at in 0_i64..4_000_000_000, body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let secret = WebhookSecret::from_bytes(&key).unwrap();
            let signed = secret.sign(&id, at, &body);
            let both = format!("v1,AAAA {signed}");
            prop_assert!(secret.verify(&signed, &id, at, &body));
            prop_assert!(secret.verify(&both, &id, at, &body));
            prop_assert!(!secret.verify(&signed, &id, at + 1, &body));
            let longer: Vec<u8> = body.iter().copied().chain([b' ']).collect();
            prop_assert!(!secret.verify(&signed, &id, at, &longer));
            let other_id = format!("{id}x");
            prop_assert!(!secret.verify(&signed, &other_id, at, &body));
        }
    }
}
