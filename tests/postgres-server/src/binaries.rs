//! Where the binaries of PostgreSQL are. `scripts/postgres` looks in the same places.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{OLDEST, ServerError};

/// Where systems keep a folder for each version: the folder above, what a version's name begins with, and where its binaries
/// are in it. PGDG's and Alpine's are the second and third, Homebrew's the next two.
const VERSIONED: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/usr/libexec", "postgresql", ""),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// The folder with `initdb`, `pg_ctl` and `postgres` of a version that is new enough: what `CRM_PG_BIN` says, else what
/// `pg_config` or the PATH say, else the newest in the folders where systems install it.
pub(crate) fn find() -> Result<PathBuf, ServerError> {
    if let Some(folder) = std::env::var_os("CRM_PG_BIN").filter(|folder| !folder.is_empty()) {
        let found = first_usable([PathBuf::from(folder)])?;
        return found.ok_or(ServerError::NoBinaries);
    }
    let candidates = from_pg_config()
        .into_iter()
        .chain(from_path())
        .chain(installed());
    first_usable(candidates)?.ok_or(ServerError::NotFound {
        install: if cfg!(target_os = "macos") {
            "brew install postgresql@16"
        } else {
            "apt-get install postgresql"
        },
    })
}

fn first_usable(
    candidates: impl IntoIterator<Item = PathBuf>,
) -> Result<Option<PathBuf>, ServerError> {
    let mut too_old = None;
    // The supervisor runs elsewhere, so that a relative path would mean another folder there.
    for folder in candidates
        .into_iter()
        .filter_map(|folder| std::path::absolute(folder).ok())
    {
        match version(&folder) {
            Some(version) if version >= OLDEST => return Ok(Some(folder)),
            Some(version) => {
                too_old.get_or_insert(ServerError::TooOld { version, folder });
            }
            None => {}
        }
    }
    too_old.map_or(Ok(None), Err)
}

/// The major version of the server in a folder, if all that is needed is there.
fn version(folder: &Path) -> Option<u32> {
    if !folder.join("initdb").is_file() || !folder.join("pg_ctl").is_file() {
        return None;
    }
    major_version(&output(
        Command::new(folder.join("postgres")).arg("--version"),
    )?)
}

/// 17 of `postgres (PostgreSQL) 17.2 (Debian 17.2-1)`, 18 of `postgres (PostgreSQL) 18beta1`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    leading_number(version)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn from_pg_config() -> Option<PathBuf> {
    let folder = output(Command::new("pg_config").arg("--bindir"))?;
    Some(PathBuf::from(folder.trim_end()))
}

fn from_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

fn installed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (parent, prefix, within) in VERSIONED {
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix));
            if let Some(version) = version.and_then(leading_number) {
                found.push((version, entry.path().join(within)));
            }
        }
    }
    found.sort_by_key(|(version, _)| Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_server_says() {
        assert_eq!(
            major_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_version("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("postgres: command not found"), None);
    }

    #[test]
    fn a_version_that_is_too_old_is_passed_over_or_named() {
        let folders = ["14", "16"].map(fake);
        let [old, new] = &folders;
        assert_eq!(
            first_usable([old.clone(), new.clone()]).unwrap().as_ref(),
            Some(new)
        );
        assert!(matches!(
            first_usable([PathBuf::from("/nowhere"), old.clone()]),
            Err(ServerError::TooOld { version: 14, .. })
        ));
        assert!(first_usable([PathBuf::from("/nowhere")]).unwrap().is_none());
        for folder in &folders {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    /// A folder with binaries that only know their version.
    fn fake(version: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let folder =
            std::env::temp_dir().join(format!("crm-pg-fake-{version}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        for name in ["initdb", "pg_ctl", "postgres"] {
            let file = folder.join(name);
            std::fs::write(
                &file,
                format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}.1'\n"),
            )
            .unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        folder
    }
}
