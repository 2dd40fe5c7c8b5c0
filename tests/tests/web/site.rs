//! A web server for the example's files, which are served as they are.

use std::net::SocketAddr;
use std::path::Path;

use postrider_common::supervisor::Supervisor;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Site {
    address: SocketAddr,
    _tasks: Supervisor,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, tasks) = (listener.local_addr().unwrap(), Supervisor::new());
        let connections = tasks.clone();
        tasks.spawn("site", async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn("page", answer(stream));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// What browsers say that its pages are from. Loopback counts as secure, so that there is cryptography.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// One request, and the end of the connection. A browser that opened it to no purpose just goes away.
async fn answer(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut header = String::new();
    if stream.read_line(&mut line).await.is_err() {
        return;
    }
    while header != "\r\n" {
        header.clear();
        if !matches!(stream.read_line(&mut header).await, Ok(1..)) {
            return;
        }
    }
    let name = match line.split(' ').nth(1) {
        Some("/") => "index.html",
        Some(path) => path.trim_start_matches('/'),
        None => return,
    };
    let media_type = match name.rsplit_once('.') {
        Some((_, "html")) => "text/html",
        Some((_, "css")) => "text/css",
        _ => "text/javascript",
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/web");
    let file = std::fs::read(directory.join(name)).unwrap_or_default();
    let length = file.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), &file].concat()).await;
    let _ = stream.shutdown().await;
}
