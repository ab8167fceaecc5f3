//! Scores of leads and contacts.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ValueError;

/// How promising a lead or contact is: a whole number from 0 to 100.
///
/// In JSON a number.
///
/// ```
/// use crm_core::value::Score;
///
/// assert_eq!(Score::new(75)?.value(), 75);
/// assert_eq!(Score::new(101).unwrap_err().code(), "out_of_range");
/// assert_eq!(Score::clamped(130), Score::MAX);
/// assert_eq!(serde_json::to_string(&Score::new(75)?)?, "75");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Score(u8);

impl Score {
    /// The lowest score, 0, which is also the first.
    pub const MIN: Self = Self(0);
    /// The highest score, 100.
    pub const MAX: Self = Self(100);

    /// A score from 0 to 100.
    ///
    /// # Errors
    ///
    /// `out_of_range` for any other number.
    ///
    /// ```
    /// use crm_core::value::Score;
    ///
    /// assert!(Score::new(0).is_ok());
    /// assert!(Score::new(-1).is_err());
    /// ```
    // R-028
    pub fn new(points: i64) -> Result<Self, ValueError> {
        match u8::try_from(points) {
            Ok(points) if points <= Self::MAX.0 => Ok(Self(points)),
            _ => Err(ValueError::new(
                "out_of_range",
                "give a whole number from 0 to 100",
            )),
        }
    }

    /// The nearest score to a sum of points, which may be below 0 or above 100.
    ///
    /// ```
    /// use crm_core::value::Score;
    ///
    /// assert_eq!(Score::clamped(-5), Score::MIN);
    /// assert_eq!(Score::clamped(42).value(), 42);
    /// ```
    // R-029
    #[must_use]
    pub fn clamped(points: i64) -> Self {
        let points = points.clamp(i64::from(Self::MIN.0), i64::from(Self::MAX.0));
        u8::try_from(points).map_or(Self::MAX, Self)
    }

    /// The number.
    ///
    /// ```
    /// use crm_core::value::Score;
    ///
    /// assert_eq!(Score::default().value(), 0);
    /// ```
    #[must_use]
    pub fn value(&self) -> u8 {
        self.0
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Score {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let points = text.trim().parse::<i64>().map_err(|_| not_whole())?;
        Self::new(points)
    }
}

impl TryFrom<i64> for Score {
    type Error = ValueError;

    fn try_from(points: i64) -> Result<Self, ValueError> {
        Self::new(points)
    }
}

impl From<Score> for u8 {
    fn from(score: Score) -> Self {
        score.0
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u8(ScoreVisitor)
    }
}

struct ScoreVisitor;

impl Visitor<'_> for ScoreVisitor {
    type Value = Score;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0 to 100")
    }

    fn visit_i64<E: Error>(self, points: i64) -> Result<Score, E> {
        Score::new(points).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, points: u64) -> Result<Score, E> {
        // What does not fit is far above 100.
        Score::new(i64::try_from(points).unwrap_or(i64::MAX)).map_err(E::custom)
    }
}

fn not_whole() -> ValueError {
    ValueError::wrong_type("give a whole number from 0 to 100")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::text_value::laws::any_text;

    /// R-028.
    #[test]
    fn the_limits_belong_to_the_range() {
        assert_eq!(Score::new(0).unwrap(), Score::MIN);
        assert_eq!(Score::new(100).unwrap(), Score::MAX);
        for points in [-1, 101, 256, i64::MIN, i64::MAX] {
            assert_eq!(Score::new(points).unwrap_err().code(), "out_of_range");
        }
    }

    #[test]
    fn json_is_a_number() {
        assert_eq!(serde_json::from_str::<Score>("7").unwrap().value(), 7);
        for json in ["101", "-1", "7.5", "\"7\"", "null", "18446744073709551615"] {
            assert!(serde_json::from_str::<Score>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn text_that_is_no_number_is_the_wrong_type() {
        for text in ["", "high", "7.5"] {
            assert_eq!(text.parse::<Score>().unwrap_err().code(), "wrong_type");
        }
    }

    proptest! {
        /// R-029.
        #[test]
        fn clamping_keeps_what_is_in_range(points in any::<i64>(), inside in 0i64..=100) {
            let score = Score::clamped(points);
            prop_assert!(score >= Score::MIN && score <= Score::MAX);
            prop_assert_eq!(Score::new(inside).unwrap(), Score::clamped(inside));
            if let Ok(exact) = Score::new(points) {
                prop_assert_eq!(exact, score);
            }
        }

        #[test]
        fn round_trips(points in 0i64..=100) {
            let score = Score::new(points).unwrap();
            prop_assert_eq!(score.to_string().parse::<Score>().unwrap(), score);
            let json = serde_json::to_string(&score).unwrap();
            prop_assert_eq!(serde_json::from_str::<Score>(&json).unwrap(), score);
        }

        #[test]
        fn never_panics(text in any_text()) {
            let _ = text.parse::<Score>();
        }
    }
}
