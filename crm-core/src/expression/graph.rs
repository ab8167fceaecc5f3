//! In which order formulas that name each other are evaluated.

use std::collections::HashMap;
use std::fmt;

/// Formulas depend on each other in a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyCycle {
    /// The formulas of the circle, each in front of the one that it names; the first is also the
    /// last.
    pub path: Vec<String>,
}

impl fmt::Display for DependencyCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "formulas depend on each other: {}; take one of them out",
            self.path.join(" -> ")
        )
    }
}

impl std::error::Error for DependencyCycle {}

/// How far a formula is.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    Begun,
    Done,
}

/// The order in which formulas are evaluated: each behind those that it names, else as they are given.
/// Names of anything but formulas are plain fields and do not count.
///
/// ```
/// use crm_core::expression::evaluation_order;
///
/// let formulas = [
///     ("margin", vec!["revenue", "cost"]),
///     ("revenue", vec!["amount"]),
///     ("cost", vec!["hours", "revenue"]),
/// ];
/// assert_eq!(evaluation_order(formulas).unwrap(), ["revenue", "cost", "margin"]);
///
/// let circle = evaluation_order([("a", vec!["b"]), ("b", vec!["a"])]).unwrap_err();
/// assert_eq!(circle.path, ["a", "b", "a"]);
/// ```
///
/// # Errors
/// If formulas depend on each other in a circle, or one on itself.
pub fn evaluation_order<'a, D>(
    formulas: impl IntoIterator<Item = (&'a str, D)>,
) -> Result<Vec<&'a str>, DependencyCycle>
where
    D: IntoIterator<Item = &'a str>,
{
    let formulas: Vec<(&str, Vec<&str>)> = formulas
        .into_iter()
        .map(|(name, names)| (name, names.into_iter().collect()))
        .collect();
    let named: HashMap<&str, &[&str]> = formulas
        .iter()
        .map(|(name, names)| (*name, names.as_slice()))
        .collect();
    let mut progress: HashMap<&str, Progress> = HashMap::new();
    let mut order = Vec::new();
    for (first, _) in &formulas {
        if progress.contains_key(first) {
            continue;
        }
        // The way from the first formula to the one that is looked at, and what of each is left.
        let mut way: Vec<(&str, std::slice::Iter<'_, &str>)> = Vec::new();
        let mut next = Some(*first);
        loop {
            if let Some(name) = next.take() {
                let names = named.get(name).copied().unwrap_or_default();
                progress.insert(name, Progress::Begun);
                way.push((name, names.iter()));
            }
            let Some((name, left)) = way.last_mut() else {
                break;
            };
            let Some(needed) = left.next().copied() else {
                progress.insert(name, Progress::Done);
                order.push(*name);
                way.pop();
                continue;
            };
            match progress.get(needed) {
                None if named.contains_key(needed) => next = Some(needed),
                None | Some(Progress::Done) => {}
                Some(Progress::Begun) => {
                    let names = way.iter().map(|(name, _)| *name);
                    let mut path: Vec<String> = names
                        .skip_while(|name| *name != needed)
                        .map(str::to_owned)
                        .collect();
                    path.push(needed.to_owned());
                    return Err(DependencyCycle { path });
                }
            }
        }
    }
    Ok(order)
}
