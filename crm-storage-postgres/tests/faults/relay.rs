//! A relay between client and server that counts what is asked, and loses answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::common::{PATIENCE, options};

/// Stands between client and server, counts what is asked, and loses an answer when told to.
pub(crate) struct Relay {
    port: u16,
    shared: Arc<Watch>,
}

#[derive(Default)]
struct Watch {
    /// The kinds of the messages of each request, which the server answers at its end.
    requests: Mutex<Vec<String>>,
    lose: AtomicBool,
    lost: Notify,
    go_on: Notify,
}

impl Relay {
    pub(crate) async fn start(url: &str) -> Self {
        let target = options(url);
        let address = format!("{}:{}", target.get_host(), target.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Watch::default());
        tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(&address).await.unwrap();
                    tokio::spawn(relay(client, server, shared.clone()));
                }
            }
        });
        Self { port, shared }
    }

    pub(crate) fn options(&self, url: &str) -> PgConnectOptions {
        options(url).host("127.0.0.1").port(self.port)
    }

    pub(crate) fn lose_next_answer(&self) {
        self.shared.lose.store(true, Ordering::SeqCst);
    }

    pub(crate) async fn wait_for_loss(&self) {
        tokio::time::timeout(PATIENCE, self.shared.lost.notified())
            .await
            .expect("something is sent");
    }

    pub(crate) fn go_on(&self) {
        self.shared.go_on.notify_one();
    }

    /// The requests since this was last asked, without the pool's own test of a connection that
    /// is given back, which nobody waits for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let mut requests = std::mem::take(&mut *self.shared.requests.lock().unwrap());
        requests.retain(|request| request != "S");
        requests
    }
}

async fn relay(client: TcpStream, server: TcpStream, shared: Arc<Watch>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Set by a request whose answer shall be lost.
    let losing = Arc::new(AtomicBool::new(false));
    let asks = tokio::spawn({
        let (shared, losing) = (shared.clone(), losing.clone());
        async move {
            let mut request = String::new();
            let mut is_startup = true;
            loop {
                let mut head = [0; 5];
                let head = if is_startup {
                    &mut head[1..]
                } else {
                    &mut head[..]
                };
                if from_client.read_exact(head).await.is_err() {
                    break;
                }
                let kind = (!is_startup).then(|| char::from(head[0]));
                let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap());
                let mut body = vec![0; length as usize - 4];
                if from_client.read_exact(&mut body).await.is_err() {
                    break;
                }
                is_startup = false;
                request.extend(kind);
                // Here the client begins to wait.
                if let Some('S' | 'Q' | 'H') = kind {
                    if request.contains('E') && shared.lose.swap(false, Ordering::SeqCst) {
                        losing.store(true, Ordering::SeqCst);
                    }
                    shared
                        .requests
                        .lock()
                        .unwrap()
                        .push(std::mem::take(&mut request));
                }
                let sent = async {
                    to_server.write_all(head).await?;
                    to_server.write_all(&body).await
                };
                if sent.await.is_err() {
                    break;
                }
            }
        }
    });
    loop {
        let mut head = [0; 5];
        if from_server.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let mut body = vec![0; length as usize - 4];
        if from_server.read_exact(&mut body).await.is_err() {
            break;
        }
        if losing.load(Ordering::SeqCst) {
            // The server has done its work: the transaction is over.
            if head[0] == b'Z' {
                shared.lost.notify_one();
                shared.go_on.notified().await;
                break;
            }
            continue;
        }
        let sent = async {
            to_client.write_all(&head).await?;
            to_client.write_all(&body).await
        };
        if sent.await.is_err() {
            break;
        }
    }
    // Both ends close.
    asks.abort();
}
