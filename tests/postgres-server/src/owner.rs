//! Whose processes a cluster has: PostgreSQL refuses to run as root.

use std::process::Command;

use crate::ServerError;

/// The user and group to run a cluster as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owner {
    /// The user `postgres`, or else `nobody`, if this process is root's; none if it can stay what it is.
    pub(crate) fn instead_of_root() -> Result<Option<Owner>, ServerError> {
        let id = Command::new("id").arg("-u").output();
        let is_root = id.is_ok_and(|id| id.stdout.trim_ascii() == b"0");
        if !is_root {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let owner = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Owner::named(name, &users));
        owner.map(Some).ok_or(ServerError::NoUser)
    }

    /// Reads the lines of /etc/passwd, such as `postgres:x:101:104:administrator:/var/lib/postgresql:/bin/sh`.
    fn named(name: &str, users: &str) -> Option<Owner> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let mut ids = fields.skip(1).map(id);
            Some(Owner {
                uid: ids.next()??,
                gid: ids.next()??,
            })
        })
    }
}

/// On macOS, `nobody` is -2.
fn id(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgresql:x:7:7:::\npostgres:x:101:104:a,,:/var/lib:/bin/sh\nnobody:*:-2:-2:::\n";
        assert_eq!(
            Owner::named("postgres", users),
            Some(Owner { uid: 101, gid: 104 })
        );
        assert_eq!(
            Owner::named("nobody", users),
            Some(Owner {
                uid: 4_294_967_294,
                gid: 4_294_967_294
            })
        );
        assert_eq!(Owner::named("admin", users), None);
        assert_eq!(Owner::named("broken", "broken:x:y:z:::"), None);
    }
}
