//! The command line of the example.

use std::path::PathBuf;

use crm_engine::exchange::import::{Import, Mapping, ReadOptions};
use crm_engine::imports::{DuplicateHandling, ImportMode};

pub(crate) const USAGE: &str = "usage: import_csv --object NAME --file FILE
    [--map MAP.json]                 the mapping; suggested from the file if there is none
    [--print-map]                    prints the mapping and imports nothing
    [--mode create|update|upsert]    create, if nothing is said
    [--key FIELD]...                 by what rows find their records
    [--duplicates skip|refuse|keep]
    [--delimiter C] [--encoding NAME] [--sheet NAME] [--date-format DD.MM.YYYY]
    [--create-missing]               creates accounts that rows name and that are not there
    [--dry-run]                      says what an import would do
    [--errors FILE]                  writes the bad rows with the reasons
    [--postgres URL] [--tenant SUBDOMAIN] [--resume JOB]";

/// What the program was asked for.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) object: String,
    pub(crate) file: PathBuf,
    pub(crate) map: Option<PathBuf>,
    pub(crate) print_map: bool,
    pub(crate) mode: Option<ImportMode>,
    pub(crate) keys: Vec<String>,
    pub(crate) duplicates: Option<DuplicateHandling>,
    pub(crate) read: ReadOptions,
    pub(crate) date_format: Option<String>,
    pub(crate) create_missing: bool,
    pub(crate) dry_run: bool,
    pub(crate) errors: Option<PathBuf>,
    pub(crate) postgres: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) resume: Option<String>,
}

impl Arguments {
    /// Reads the command line; `None` where it is not understood.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut parsed = Self::default();
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "--print-map" => parsed.print_map = true,
                "--create-missing" => parsed.create_missing = true,
                "--dry-run" => parsed.dry_run = true,
                _ => parsed.take(&option, arguments.next()?)?,
            }
        }
        let complete = !parsed.object.is_empty() && !parsed.file.as_os_str().is_empty();
        complete.then_some(parsed)
    }

    fn take(&mut self, option: &str, value: String) -> Option<()> {
        match option {
            "--object" => self.object = value,
            "--file" => self.file = value.into(),
            "--map" => self.map = Some(value.into()),
            "--mode" => self.mode = Some(value.parse().ok()?),
            "--key" => self.keys.push(value),
            "--duplicates" => self.duplicates = Some(value.parse().ok()?),
            "--delimiter" => {
                let delimiter = if value == "tab" { "\t" } else { &value };
                self.read.delimiter = delimiter.chars().next();
            }
            "--encoding" => self.read.encoding = Some(value),
            "--sheet" => self.read.sheet = Some(value),
            "--date-format" => self.date_format = Some(value),
            "--errors" => self.errors = Some(value.into()),
            "--postgres" => self.postgres = Some(value),
            "--tenant" => self.tenant = Some(value),
            "--resume" => self.resume = Some(value),
            _ => return None,
        }
        Some(())
    }

    /// The import that was asked for, with a mapping.
    pub(crate) fn import(&self, mut mapping: Mapping) -> Import {
        for column in &mut mapping.columns {
            if column.format.date.is_none() {
                column.format.date.clone_from(&self.date_format);
            }
            if let Some(lookup) = &mut column.lookup
                && lookup.by == "name"
                && self.create_missing
            {
                lookup.create_missing = column.field.contains("account");
            }
        }
        Import {
            read: self.read.clone(),
            mode: self.mode.unwrap_or_default(),
            keys: self.keys.clone(),
            duplicates: self.duplicates.unwrap_or_default(),
            ..Import::new(mapping)
        }
    }
}
