//! A client of one conversation. It is quick because it is simple: it looks at codes and at nothing else.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An open session, after EHLO.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was looked at.
    read: usize,
}

impl Session {
    /// Connects, waits for the greeting, says EHLO.
    pub(crate) async fn open(server: SocketAddr) -> Result<Self> {
        let stream = within(TcpStream::connect(server)).await?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream, buffer: Vec::with_capacity(512), read: 0 };
        session.expect(220).await?;
        session.say(b"EHLO client.bench.test\r\n", 250).await?;
        Ok(session)
    }

    /// One message.
    pub(crate) async fn send(
        &mut self,
        recipients: usize,
        pipelining: bool,
        content: &[u8],
    ) -> Result<()> {
        if pipelining {
            let mut batch = Vec::from(MAIL);
            for n in 0..recipients {
                batch.extend_from_slice(rcpt(n).as_bytes());
            }
            batch.extend_from_slice(DATA);
            self.write(&batch).await?;
            for _ in 0..=recipients {
                self.expect(250).await?;
            }
            self.expect(354).await?;
        } else {
            self.say(MAIL, 250).await?;
            for n in 0..recipients {
                self.say(rcpt(n).as_bytes(), 250).await?;
            }
            self.say(DATA, 354).await?;
        }
        self.say(content, 250).await
    }

    /// Takes its leave, without waiting for the answer.
    pub(crate) async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = self.stream.shutdown().await;
            // The server closes first, so that its side waits and not ours: ports for clients are few.
            let _ = timeout(GOODBYE, self.stream.read(&mut [0; 128])).await;
        }
    }

    async fn say(&mut self, octets: &[u8], code: u16) -> Result<()> {
        self.write(octets).await?;
        self.expect(code).await
    }

    async fn write(&mut self, octets: &[u8]) -> Result<()> {
        within(self.stream.write_all(octets)).await
    }

    /// Reads one reply.
    async fn expect(&mut self, code: u16) -> Result<()> {
        loop {
            while let Some(length) = self.buffer[self.read..].iter().position(|o| *o == b'\n') {
                let line = &self.buffer[self.read..self.read + length];
                self.read += length + 1;
                // RFC 5321 §4.2.1: a hyphen after the code says that the reply goes on.
                if line.get(3) == Some(&b'-') {
                    continue;
                }
                let said = str::from_utf8(line.get(..3).unwrap_or_default());
                if said.ok().and_then(|said| said.parse().ok()) == Some(code) {
                    return Ok(());
                }
                return Err(Error::other(String::from_utf8_lossy(line).into_owned()));
            }
            if self.read == self.buffer.len() {
                self.buffer.clear();
                self.read = 0;
            }
            if within(self.stream.read_buf(&mut self.buffer)).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn rcpt(number: usize) -> String {
    format!("RCPT TO:<user{number}@dest.bench.test>\r\n")
}

/// A message of about so many octets, with the dot that ends it.
pub(crate) fn message(octets: usize) -> Vec<u8> {
    let mut text = String::from(HEADER);
    while text.len() + LINE.len() <= octets {
        text.push_str(LINE);
    }
    text.push_str(".\r\n");
    text.into_bytes()
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.unwrap_or(Err(ErrorKind::TimedOut.into()))
}

const MAIL: &[u8] = b"MAIL FROM:<sender@client.bench.test>\r\n";
const DATA: &[u8] = b"DATA\r\n";
const HEADER: &str = "From: Sender <sender@client.bench.test>\r\n\
To: Recipient <user0@dest.bench.test>\r\n\
Subject: A message of the benchmark\r\n\
Date: Sat, 21 Nov 2026 12:00:00 +0000\r\n\
Message-ID: <1.bench@client.bench.test>\r\n\
\r\n";
const LINE: &str = "The quick brown fox jumps over the lazy dog, and does so again.\r\n";
/// Longer than any server takes that is not lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// Exim 4.96 waits for 200 ms before its 221, and that is not what is measured.
const GOODBYE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_size_it_was_asked_for_within_a_line() {
        for octets in [1024, 10_240, 102_400] {
            let made = message(octets).len();
            assert!(made <= octets + 3 && made > octets - LINE.len(), "{octets}: {made}");
        }
    }
}
