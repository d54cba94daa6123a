//! A server that takes everything and keeps nothing: the ceiling of what the load can ask for, and the next host of a
//! relay, where it counts what arrives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Messages that arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived(Arc<AtomicU64>);

impl Arrived {
    /// How many so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Takes mail at `address` for as long as the runtime lives.
pub(crate) async fn serve(address: SocketAddr, arrived: Arrived) -> std::io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(talk(stream, arrived.clone()));
    }
}

async fn talk(mut stream: TcpStream, arrived: Arrived) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink.bench.test ESMTP\r\n").await?;
    let (mut input, mut replies) = (Vec::with_capacity(16 * 1024), Vec::new());
    let mut content = false;
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut done = 0;
        while let Some(length) = input[done..].iter().position(|octet| *octet == b'\n') {
            let line = &input[done..=done + length];
            done += length + 1;
            if content {
                if line == b".\r\n" {
                    content = false;
                    arrived.0.fetch_add(1, Ordering::Relaxed);
                    replies.extend_from_slice(b"250 2.0.0 Ok\r\n");
                }
                continue;
            }
            let reply: &[u8] = match line.first().map(u8::to_ascii_uppercase) {
                Some(b'E') => {
                    b"250-sink.bench.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n"
                }
                Some(b'D') => {
                    content = true;
                    b"354 Go on\r\n"
                }
                Some(b'Q') => b"221 2.0.0 Bye\r\n",
                _ => b"250 2.0.0 Ok\r\n",
            };
            replies.extend_from_slice(reply);
            if reply.starts_with(b"221") {
                return stream.write_all(&replies).await;
            }
        }
        input.drain(..done);
        if !replies.is_empty() {
            stream.write_all(&replies).await?;
            replies.clear();
        }
    }
}
