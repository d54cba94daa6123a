//! A plain SMTP client that does what it is told and checks nothing but the form of replies.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::place::PATIENCE;

/// A whole reply, perhaps of several lines (RFC 5321 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its three digits.
    pub code: u16,
    /// Its lines as they came, without the line ends.
    pub lines: Vec<String>,
}

impl Reply {
    /// Below 400: what was asked for is done, or may go on.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.lines.join(" / "))
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between two others.
    Gone,
}

/// A connection to a server. Every read waits at most [`PATIENCE`].
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects; the greeting is not read.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Stream::Tcp(stream), buffer: Vec::new() })
    }

    /// Connects to a socket of the file system.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Stream::Unix(stream), buffer: Vec::new() })
    }

    /// Reads the greeting and says EHLO; gives the reply to EHLO.
    pub fn hello(&mut self, name: &str) -> io::Result<Reply> {
        let greeting = self.reply()?;
        if !greeting.is_positive() {
            return Ok(greeting);
        }
        self.command(&format!("EHLO {name}"))
    }

    /// Sends a line and reads its reply.
    pub fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends octets.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.writer().write_all(octets)?;
        self.writer().flush()
    }

    /// Reads one whole reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let goes_on = line.as_bytes().get(3) == Some(&b'-');
            lines.push(line);
            if !goes_on {
                break;
            }
        }
        let code = lines.last().and_then(|line| line.get(..3)).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("not a reply: {lines:?}")))?;
        Ok(Reply { code, lines })
    }

    /// One whole transaction. `content` has CRLF line ends; dots are stuffed here. Gives the first
    /// reply that refuses, or the one to the end of data.
    pub fn transaction(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<Reply> {
        let mail = self.command(&format!("MAIL FROM:<{from}>"))?;
        if !mail.is_positive() {
            return Ok(mail);
        }
        for recipient in to {
            let rcpt = self.command(&format!("RCPT TO:<{recipient}>"))?;
            if !rcpt.is_positive() {
                return Ok(rcpt);
            }
        }
        let data = self.command("DATA")?;
        if !data.is_positive() {
            return Ok(data);
        }
        self.send(&stuffed(content))?;
        self.reply()
    }

    /// The TLS handshake, here and now; any certificate will do. What was buffered is forgotten.
    pub fn start_tls(&mut self) -> io::Result<()> {
        self.buffer.clear();
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Tcp(stream) => {
                self.stream = Stream::Tls(Box::new(handshake(stream)?));
                Ok(())
            }
            Stream::Unix(_) | Stream::Tls(_) | Stream::Gone => {
                Err(io::Error::other("TLS needs a plain TCP connection"))
            }
        }
    }

    /// STARTTLS, the handshake, and EHLO again.
    pub fn secure(&mut self, name: &str) -> io::Result<Reply> {
        let reply = self.command("STARTTLS")?;
        if !reply.is_positive() {
            return Ok(reply);
        }
        self.start_tls()?;
        self.command(&format!("EHLO {name}"))
    }

    /// The certificate that the server showed, in DER.
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Stream::Tls(stream) = &self.stream else { return None };
        stream.conn.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.to_vec())
    }

    /// Says that nothing more will be sent; the server may still answer.
    pub fn finish(&mut self) -> io::Result<()> {
        let result = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            Stream::Tls(stream) => stream.sock.shutdown(Shutdown::Write),
            Stream::Gone => Ok(()),
        };
        // The server has hung up already.
        result.or_else(|error| {
            if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
        })
    }

    /// Waits at most so long for each of the next reads.
    pub fn set_patience(&mut self, patience: Duration) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(patience)),
            Stream::Tls(stream) => stream.sock.set_read_timeout(Some(patience)),
            Stream::Gone => Ok(()),
        }
    }

    /// What is there, or comes within the patience; nothing at the end of the connection.
    pub fn read_some(&mut self) -> io::Result<Vec<u8>> {
        if !self.buffer.is_empty() {
            return Ok(std::mem::take(&mut self.buffer));
        }
        let mut piece = vec![0; 65_536];
        let count = self.read(&mut piece)?;
        piece.truncate(count);
        Ok(piece)
    }

    /// Reads on until the server closes, at most `patience` without an octet. True if it closed.
    pub fn closed_within(&mut self, patience: Duration) -> bool {
        if self.set_patience(patience).is_err() {
            return true;
        }
        loop {
            match self.read_some() {
                Ok(piece) if piece.is_empty() => return true,
                Ok(_) => {}
                Err(error) => return !is_timeout(&error),
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&octet| octet == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            let mut piece = [0; 16_384];
            let count = self.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    /// With a timeout, a read ends with EINTR when the process was stopped and goes on (signal(7)).
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader().read(piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn reader(&mut self) -> &mut dyn Read {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
            Stream::Gone => panic!("the handshake failed; there is no connection"),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Tls(stream) => stream,
            Stream::Gone => panic!("the handshake failed; there is no connection"),
        }
    }
}

/// True if a read ended because nothing came.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Content as it goes over the wire after DATA: dots stuffed, the end marked (RFC 5321 §4.5.2).
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 50 + 5);
    let mut start_of_line = true;
    for &octet in content {
        if start_of_line && octet == b'.' {
            wire.push(b'.');
        }
        wire.push(octet);
        start_of_line = octet == b'\n';
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn handshake(mut stream: TcpStream) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let name = ServerName::try_from("mx.example.test").map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Trusts every certificate: the tests' servers sign their own.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::stuffed;

    #[test]
    fn dots_are_stuffed_and_the_end_is_marked() {
        assert_eq!(stuffed(b"a\r\n.b\r\n..\r\n"), b"a\r\n..b\r\n...\r\n.\r\n");
        assert_eq!(stuffed(b"a"), b"a\r\n.\r\n");
        assert_eq!(stuffed(b""), b".\r\n");
    }
}
