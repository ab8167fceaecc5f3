//! What was found against what is true.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use super::Failure;

/// The true pairs, the lesser id of each first.
pub(crate) struct Truth(HashSet<(String, String)>);

/// How well a search did.
pub(crate) struct Score {
    precision: f64,
    recall: f64,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (precision, recall) = (self.precision, self.recall);
        let f1 = if precision + recall > 0.0 {
            2.0 * precision * recall / (precision + recall)
        } else {
            0.0
        };
        write!(f, "precision={precision:.4} recall={recall:.4} f1={f1:.4}")
    }
}

fn ordered(a: &str, b: &str) -> (String, String) {
    let (a, b) = if a <= b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

impl Truth {
    /// Reads a CSV file with a header and two ids a line.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut pairs = HashSet::new();
        for record in reader.records() {
            let record = record?;
            let (Some(a), Some(b)) = (record.get(0), record.get(1)) else {
                return Err("a line of the true pairs has no two ids".into());
            };
            pairs.insert(ordered(a, b));
        }
        Ok(Self(pairs))
    }

    pub(crate) fn score<'a>(&self, found: impl Iterator<Item = (&'a str, &'a str)>) -> Score {
        let found: HashSet<(String, String)> = found.map(|(a, b)| ordered(a, b)).collect();
        let right = found.intersection(&self.0).count() as f64;
        let share = |of: usize| if of == 0 { 1.0 } else { right / of as f64 };
        Score {
            precision: share(found.len()),
            recall: share(self.0.len()),
        }
    }
}
