//! A PostgreSQL server for the tests of this workspace: the one that `DATABASE_URL` names, or a throwaway cluster.
//!
//! ```no_run
//! # fn main() -> Result<(), crm_test_postgres::ServerError> {
//! // One server for all tests of the process ...
//! let server = crm_test_postgres::Server::shared()?;
//! println!("{}", server.url_of("crm", Some("tenant")));
//!
//! // ... or one to be harsh to.
//! let own = crm_test_postgres::Server::start(&[("fsync", "on")])?;
//! own.kill()?;
//! own.start_again()?;
//! # Ok(())
//! # }
//! ```
//!
//! A cluster is made and removed by `supervisor.sh`, a shell that runs beside the tests and holds the other end of a pipe.
//! When the process of the tests ends, in whatever way, the pipe closes, and the server and its folder go. It listens at
//! 127.0.0.1 and at a socket in its folder, and trusts everybody. As root it runs as the user `postgres` or `nobody`.
//!
//! Tests that need PostgreSQL fail without it: a skipped test looks like a passed one.

mod binaries;
mod cluster;
mod database;
mod owner;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use url::Url;

use crate::cluster::Cluster;
pub use crate::database::Database;

/// The oldest version of PostgreSQL that the tests run on.
const OLDEST: u32 = 15;

/// A PostgreSQL server for tests: the one that `DATABASE_URL` names, or a throwaway cluster.
///
/// A throwaway cluster is stopped and removed when this is dropped, or when the process ends.
pub struct Server {
    url: Url,
    cluster: Option<Cluster>,
}

impl Server {
    /// The server that the tests of this process share: that of `DATABASE_URL`, else a throwaway cluster.
    ///
    /// It may also be in use by other processes, and keep what they left: make a database of your own in it.
    ///
    /// # Errors
    ///
    /// When there is no server and none can be started. Each call then fails with the same error.
    pub fn shared() -> Result<&'static Server, ServerError> {
        static SHARED: OnceLock<Result<Server, ServerError>> = OnceLock::new();
        SHARED
            .get_or_init(|| match std::env::var("DATABASE_URL") {
                Ok(url) if !url.is_empty() => Server::named(&url),
                _ => Server::start(&[]),
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Starts a throwaway cluster, for tests that stop or crash it or need `settings` of their own, such as
    /// `("fsync", "on")` or `("max_connections", "50")`.
    ///
    /// Without settings it gives up durability for speed, and takes 200 connections.
    ///
    /// # Errors
    ///
    /// When PostgreSQL 15 or newer is not found, or doesn't start.
    pub fn start(settings: &[(&str, &str)]) -> Result<Server, ServerError> {
        let cluster = Cluster::start(&binaries::find()?, settings)?;
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", cluster.port());
        let url = Url::parse(&url).map_err(|_| ServerError::NotAUrl)?;
        Ok(Server {
            url,
            cluster: Some(cluster),
        })
    }

    fn named(url: &str) -> Result<Server, ServerError> {
        let mut url = Url::parse(url).map_err(|_| ServerError::NotAUrl)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
            return Err(ServerError::NotAUrl);
        }
        url.set_path("/postgres");
        Ok(Server { url, cluster: None })
    }

    /// The URL of the maintenance database, `postgres`, as the superuser of a throwaway cluster or as the user in
    /// `DATABASE_URL`. That of a throwaway cluster is a TCP one.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The URL of another database of this server, as the same or another user.
    ///
    /// `user` is a name, or `name:password` for servers that ask for one. A throwaway cluster doesn't.
    pub fn url_of(&self, database: &str, user: Option<&str>) -> String {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().push(database);
        }
        if let Some(user) = user {
            let (name, password) = match user.split_once(':') {
                Some((name, password)) => (name, Some(password)),
                None => (user, None),
            };
            // The URL of a socket has no host, and then no place for a user but the query.
            if url.set_username(name).is_err() || url.set_password(password).is_err() {
                let mut query = url.query_pairs_mut();
                query.append_pair("user", name);
                if let Some(password) = password {
                    query.append_pair("password", password);
                }
            }
        }
        url.into()
    }

    /// Crashes the server: its processes end at once, without a checkpoint, and connections break.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub fn kill(&self) -> Result<(), ServerError> {
        self.own()?.order("kill")
    }

    /// Stops the server in order: transactions under way are rolled back, connections closed, all is written.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub fn stop_fast(&self) -> Result<(), ServerError> {
        self.own()?.order("stop")
    }

    /// Starts the server that was killed or stopped, on the same folder and port, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart), and when the server is running.
    pub fn start_again(&self) -> Result<(), ServerError> {
        self.own()?.order("start")
    }

    /// Stops the server in order and starts it again.
    ///
    /// # Errors
    ///
    /// When it is the server that `DATABASE_URL` names, or doesn't stop or start.
    pub fn restart(&self) -> Result<(), ServerError> {
        self.stop_fast()?;
        self.start_again()
    }

    /// The data directory of a throwaway cluster; none for the server that `DATABASE_URL` names.
    pub fn data_directory(&self) -> Option<&Path> {
        self.cluster.as_ref().map(Cluster::data_directory)
    }

    fn own(&self) -> Result<&Cluster, ServerError> {
        self.cluster.as_ref().ok_or(ServerError::NotOwn)
    }
}

/// Without the URL, which may have a password.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.url.host_str())
            .field("port", &self.url.port())
            .field("data_directory", &self.data_directory())
            .finish_non_exhaustive()
    }
}

/// Why there is no server, or why it doesn't do as told.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No PostgreSQL anywhere.
    #[error(
        "PostgreSQL was not found: install it with `{install}`, or set CRM_PG_BIN to the folder of its `initdb`, or set \
         DATABASE_URL to a server for tests"
    )]
    NotFound {
        /// The command that installs it.
        install: &'static str,
    },
    /// `CRM_PG_BIN` is not a folder of PostgreSQL's binaries.
    #[error("CRM_PG_BIN has no working `initdb`, `pg_ctl` and `postgres`: correct or unset it")]
    NoBinaries,
    /// Only versions that are too old.
    #[error(
        "PostgreSQL {version} in {folder} is too old: install version {OLDEST} or newer (https://www.postgresql.org/download), \
         or set DATABASE_URL to such a server"
    )]
    TooOld {
        /// The major version found.
        version: u32,
        /// Where it was found.
        folder: PathBuf,
    },
    /// `DATABASE_URL` can't be read.
    #[error("DATABASE_URL must be like postgres://user:password@host:port/database")]
    NotAUrl,
    /// There is no user to run the server as.
    #[error(
        "root can't run PostgreSQL, and there is no user `postgres` or `nobody`: add one, or run the tests as another user"
    )]
    NoUser,
    /// The server belongs to somebody else.
    #[error(
        "the server that DATABASE_URL names is not stopped by tests: use Server::start for one that is"
    )]
    NotOwn,
    /// The shell that supervises the cluster can't be reached.
    #[error("the supervisor of the throwaway PostgreSQL cluster is gone: run the tests again")]
    Supervisor(#[source] Arc<std::io::Error>),
    /// A command of PostgreSQL failed.
    #[error(
        "the throwaway PostgreSQL cluster failed to {order}; set DATABASE_URL to use another server. its log:\n{log}"
    )]
    Failed {
        /// What it was to do.
        order: &'static str,
        /// The end of its log.
        log: String,
    },
}

/// The message: tests unwrap this, and what is to be done should be read there.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_gives_its_maintenance_database_and_others() {
        let server =
            Server::named("postgresql://me:secret@db.test:5433/mine?sslmode=disable").unwrap();
        assert_eq!(
            server.url(),
            "postgresql://me:secret@db.test:5433/postgres?sslmode=disable"
        );
        assert_eq!(
            server.url_of("a b", None),
            "postgresql://me:secret@db.test:5433/a%20b?sslmode=disable"
        );
        assert_eq!(
            server.url_of("x", Some("tenant")),
            "postgresql://tenant@db.test:5433/x?sslmode=disable"
        );
        assert_eq!(
            server.url_of("x", Some("tenant:p@ss")),
            "postgresql://tenant:p%40ss@db.test:5433/x?sslmode=disable"
        );
        assert!(!format!("{server:?}").contains("secret"));
    }

    #[test]
    fn the_user_of_a_socket_stands_in_the_query() {
        let server = Server::named("postgres:///mine?host=/run/postgresql").unwrap();
        assert_eq!(server.url(), "postgres:///postgres?host=/run/postgresql");
        assert_eq!(
            server.url_of("x", Some("tenant")),
            "postgres:///x?host=/run/postgresql&user=tenant"
        );
    }

    #[test]
    fn a_named_server_is_not_stopped() {
        let server = Server::named("postgres://db.test").unwrap();
        assert!(matches!(server.kill(), Err(ServerError::NotOwn)));
        assert!(matches!(server.restart(), Err(ServerError::NotOwn)));
        assert_eq!(server.data_directory(), None);
    }

    #[test]
    fn what_is_not_the_url_of_a_server_is_refused() {
        for url in ["db.test", "mysql://db.test/mine", "postgres:mine"] {
            assert!(
                matches!(Server::named(url), Err(ServerError::NotAUrl)),
                "{url}"
            );
        }
    }
}
