//! A throwaway cluster, by way of the shell that supervises it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ServerError;
use crate::owner::Owner;

const SUPERVISOR: &str = include_str!("supervisor.sh");

pub(crate) struct Cluster {
    port: u16,
    data: PathBuf,
    supervisor: Mutex<Supervisor>,
}

impl Cluster {
    pub(crate) fn start(
        binaries: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Cluster, ServerError> {
        let mut supervisor = Supervisor::spawn(binaries, settings)?;
        let place = supervisor.answer("start")?;
        let (port, folder) = place
            .split_once(' ')
            .and_then(|(port, folder)| Some((port.parse().ok()?, folder)))
            .ok_or_else(|| gone(io::ErrorKind::InvalidData.into()))?;
        Ok(Cluster {
            port,
            data: Path::new(folder).join("data"),
            supervisor: Mutex::new(supervisor),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn data_directory(&self) -> &Path {
        &self.data
    }

    /// Has `kill`, `stop` or `start` done, and waits for it.
    pub(crate) fn order(&self, order: &'static str) -> Result<(), ServerError> {
        let mut supervisor = self
            .supervisor
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        supervisor.tell(order).map_err(gone)?;
        supervisor.answer(order)?;
        Ok(())
    }
}

/// The shell that runs `supervisor.sh`.
struct Supervisor {
    shell: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    fn spawn(binaries: &Path, settings: &[(&str, &str)]) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(binaries)
            .args(
                settings
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: the signals that end the tests are not for it.
            .process_group(0);
        if let Some(owner) = Owner::instead_of_root()? {
            command.uid(owner.uid).gid(owner.gid);
        }
        let mut shell = command.spawn().map_err(gone)?;
        match (shell.stdin.take(), shell.stdout.take()) {
            (Some(commands), Some(answers)) => Ok(Self {
                shell,
                commands,
                answers: BufReader::new(answers),
            }),
            _ => Err(gone(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn tell(&mut self, command: &str) -> io::Result<()> {
        // In one piece, for what is written in two could break in between.
        self.commands.write_all(format!("{command}\n").as_bytes())
    }

    /// Waits for the answer to what was told last, and gives what stands behind its `ok`.
    fn answer(&mut self, order: &'static str) -> Result<String, ServerError> {
        let mut log = String::new();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).map_err(gone)? == 0 {
                return Err(gone(io::ErrorKind::UnexpectedEof.into()));
            }
            match line.trim_end() {
                "ok" => return Ok(String::new()),
                "failed" => return Err(ServerError::Failed { order, log }),
                answer => match answer.strip_prefix("ok ") {
                    Some(rest) => return Ok(rest.to_owned()),
                    None => log.push_str(&line),
                },
            }
        }
    }
}

impl Drop for Supervisor {
    /// Waits until the server and its folder are gone.
    fn drop(&mut self) {
        // If it can't be told, it has ended.
        let _ = self.tell("quit");
        let _ = self.shell.wait();
    }
}

fn gone(error: io::Error) -> ServerError {
    ServerError::Supervisor(Arc::new(error))
}
