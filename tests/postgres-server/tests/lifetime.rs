//! What a throwaway cluster does from its start to its end, which it must reach whatever ends its owner.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crm_test_postgres::{Server, ServerError};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_server_accepts_connections_at_both_its_addresses() {
    let server = Server::start(&[
        ("max_connections", "7"),
        ("application_name", "it's a test"),
    ])
    .unwrap();
    let data = server.data_directory().unwrap();
    assert!(accepts(tcp(server.url()).unwrap()));
    let socket = data
        .parent()
        .unwrap()
        .join(format!(".s.PGSQL.{}", port(server.url())));
    assert!(accepts(UnixStream::connect(socket).unwrap()));
    let settings = fs::read_to_string(data.join("postgresql.conf")).unwrap();
    assert!(
        settings.ends_with("max_connections = '7'\napplication_name = 'it''s a test'\n"),
        "{settings}"
    );
}

#[test]
fn a_server_that_was_killed_or_stopped_starts_at_the_same_place() {
    let server = Server::start(&[("fsync", "on")]).unwrap();
    let first = postmaster(server.data_directory().unwrap());

    let mut open = connect(server.url());
    server.kill().unwrap();
    eventually(|| !is_running(&first));
    assert!(tcp(server.url()).is_err());
    // What was connected is disconnected, after the server's last words at most.
    open.read_to_end(&mut Vec::new()).unwrap();
    server.start_again().unwrap();
    assert!(accepts(tcp(server.url()).unwrap()));

    assert!(matches!(
        server.start_again(),
        Err(ServerError::Failed { .. })
    ));
    assert!(accepts(tcp(server.url()).unwrap()));

    server.stop_fast().unwrap();
    assert!(tcp(server.url()).is_err());
    server.start_again().unwrap();
    server.restart().unwrap();
    assert!(accepts(tcp(server.url()).unwrap()));
}

#[test]
fn a_dropped_server_leaves_nothing() {
    let server = Server::start(&[]).unwrap();
    let folder = folder_of(server.data_directory().unwrap());
    let process = postmaster(server.data_directory().unwrap());
    drop(server);
    assert!(!folder.exists());
    // It has said goodbye, but the system may still keep it for a moment.
    eventually(|| !is_running(&process));
}

#[test]
fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let error = Server::start(&[("shared_buffers", "plenty")]).unwrap_err();
    let ServerError::Failed { log, .. } = &error else {
        panic!("{error}");
    };
    assert!(log.contains("shared_buffers"), "{log}");
}

#[test]
fn the_end_of_the_owner_is_the_end_of_its_server() {
    for signal in ["KILL", "TERM", "INT"] {
        let mut owner = Command::new(env!("CARGO_BIN_EXE_hold-postgres"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
        let url = said.next().unwrap().unwrap();
        let data = PathBuf::from(said.next().unwrap().unwrap());
        let process = postmaster(&data);
        assert!(accepts(tcp(&url).unwrap()));

        assert!(shell(&format!("kill -{signal} {}", owner.id())));
        owner.wait().unwrap();
        let folder = folder_of(&data);
        eventually(|| !is_running(&process) && !folder.exists());
    }
}

#[test]
fn the_shared_server_is_one() {
    let server = Server::shared().unwrap();
    assert!(std::ptr::eq(server, Server::shared().unwrap()));
    assert!(server.url_of("crm", None).contains("/crm"));
}

fn folder_of(data: &Path) -> PathBuf {
    data.parent().unwrap().to_owned()
}

fn port(url: &str) -> u16 {
    url.strip_prefix("postgres://postgres@127.0.0.1:")
        .unwrap()
        .strip_suffix("/postgres")
        .unwrap()
        .parse()
        .unwrap()
}

fn tcp(url: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port(url)))
}

fn connect(url: &str) -> TcpStream {
    let mut stream = tcp(url).unwrap();
    greet(&mut stream);
    stream
}

/// Whether the server lets the superuser in without a password.
fn accepts(mut stream: impl Read + Write) -> bool {
    greet(&mut stream) == [b'R', 0, 0, 0, 8, 0, 0, 0, 0]
}

/// Sends the first message of the protocol, and gives the beginning of the answer.
fn greet(stream: &mut (impl Read + Write)) -> [u8; 9] {
    let body = b"\x00\x03\x00\x00user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap();
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// The id of the server's first process.
fn postmaster(data: &Path) -> String {
    let file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().to_owned()
}

fn is_running(process: &str) -> bool {
    shell(&format!("kill -0 {process} 2>/dev/null"))
}

fn shell(command: &str) -> bool {
    Command::new("sh")
        .args(["-c", command])
        .status()
        .unwrap()
        .success()
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        sleep(Duration::from_millis(20));
    }
}
