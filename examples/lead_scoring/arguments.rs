//! The command line of the example.

use std::path::PathBuf;

pub(crate) const USAGE: &str =
    "usage: lead_scoring [LEADS.csv] [--map MAP.json] [--rules RULES.json] [--draft DRAFT.json]
    [LEADS.csv]          the leads; those beside the example if there are none
    [--map MAP.json]     which column is which field; suggested from the file if there is none
    [--rules RULES.json] the rule set; that beside the example if there is none
    [--draft DRAFT.json] a rule set that is only tried out
    [--explain EMAIL]    the lead whose score is explained; the best one, if nothing is said
    [--list COUNT]       how many leads that the draft changes are listed; 5, if nothing is said
    [--postgres URL] [--tenant SUBDOMAIN]";

/// The files beside the example.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/lead_scoring/data");

/// What the program was asked for.
pub(crate) struct Arguments {
    pub(crate) leads: PathBuf,
    pub(crate) map: Option<PathBuf>,
    pub(crate) rules: PathBuf,
    pub(crate) draft: Option<PathBuf>,
    pub(crate) explain: Option<String>,
    pub(crate) listed: usize,
    pub(crate) postgres: Option<String>,
    pub(crate) tenant: String,
}

impl Arguments {
    /// Reads the command line; `None` where it is not understood.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (mut leads, mut map, mut rules, mut draft) = (None, None, None, None);
        let (mut explain, mut listed, mut postgres) = (None, 5, None);
        let mut tenant = "acme".to_owned();
        while let Some(option) = arguments.next() {
            if !option.starts_with("--") {
                if leads.replace(PathBuf::from(option)).is_some() {
                    return None;
                }
                continue;
            }
            let value = arguments.next()?;
            match option.as_str() {
                "--map" => map = Some(value.into()),
                "--rules" => rules = Some(PathBuf::from(value)),
                "--draft" => draft = Some(value.into()),
                "--explain" => explain = Some(value),
                "--list" => listed = value.parse().ok()?,
                "--postgres" => postgres = Some(value),
                "--tenant" => tenant = value,
                _ => return None,
            }
        }
        let sample = |name: &str| PathBuf::from(SAMPLES).join(name);
        // The sample mapping fits the sample leads, and the sample draft the sample rules.
        if leads.is_none() {
            map = map.or_else(|| Some(sample("mapping.json")));
        }
        if rules.is_none() {
            draft = draft.or_else(|| Some(sample("draft.json")));
        }
        Some(Self {
            leads: leads.unwrap_or_else(|| sample("leads.csv")),
            map,
            rules: rules.unwrap_or_else(|| sample("rules.json")),
            draft,
            explain,
            listed,
            postgres,
            tenant,
        })
    }
}
