//! The octet stream of a session: TCP, a Unix socket or memory, in clear or in TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

/// A connection, as a session reads and writes it. Timeouts are the caller's, except those of handshakes.
#[derive(Debug)]
pub struct Stream(Layer);

/// What was agreed on in a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// "TLSv1.2" or "TLSv1.3".
    pub version: String,
    /// The cipher suite by its IANA name: "TLS_AES_256_GCM_SHA384".
    pub cipher: String,
    /// The name that the client asked for (SNI, RFC 6066 §3), in lower case.
    pub server_name: Option<String>,
    /// On the client's side: the server's certificate was verified.
    pub verified: bool,
}

#[derive(Debug)]
enum Layer {
    Plain(Socket),
    Server(Box<server::TlsStream<Socket>>, TlsInfo),
    Client(Box<client::TlsStream<Socket>>, TlsInfo),
}

/// What carries the octets.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(DuplexStream),
}

impl Stream {
    /// What TLS agreed on; `None` in clear.
    pub fn tls(&self) -> Option<&TlsInfo> {
        match &self.0 {
            Layer::Plain(_) => None,
            Layer::Server(_, info) | Layer::Client(_, info) => Some(info),
        }
    }

    /// What an authentication can be bound to: the exporter `tls-exporter` of this connection (RFC
    /// 9266 §4.2). `None` in clear, and below TLS 1.3, where it is not unique for sure.
    pub fn exporter(&self) -> Option<Vec<u8>> {
        match &self.0 {
            Layer::Plain(_) => None,
            Layer::Server(stream, _) => exporter(stream.get_ref().1),
            Layer::Client(stream, _) => exporter(stream.get_ref().1),
        }
    }

    /// Takes the socket out for a handshake; a stream that is in TLS already comes back.
    pub(crate) fn into_socket(self) -> Result<Socket, Self> {
        match self.0 {
            Layer::Plain(socket) => Ok(socket),
            layer @ (Layer::Server(..) | Layer::Client(..)) => Err(Self(layer)),
        }
    }

    /// Whether the handshake resumed an earlier session.
    #[cfg(test)]
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        let kind = match &self.0 {
            Layer::Plain(_) => None,
            Layer::Server(stream, _) => stream.get_ref().1.handshake_kind(),
            Layer::Client(stream, _) => stream.get_ref().1.handshake_kind(),
        };
        kind.map(|kind| kind == rustls::HandshakeKind::Resumed)
    }

    pub(crate) fn server(stream: server::TlsStream<Socket>, info: TlsInfo) -> Self {
        Self(Layer::Server(Box::new(stream), info))
    }

    pub(crate) fn client(stream: client::TlsStream<Socket>, info: TlsInfo) -> Self {
        Self(Layer::Client(Box::new(stream), info))
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        // Replies are gathered into one write each, so waiting for more to send only costs time. A socket that
        // does not take the option works without.
        let _ = stream.set_nodelay(true);
        Self(Layer::Plain(Socket::Tcp(stream)))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Layer::Plain(Socket::Unix(stream)))
    }
}

/// A connection within a process, for tests in virtual time.
impl From<DuplexStream> for Stream {
    fn from(stream: DuplexStream) -> Self {
        Self(Layer::Plain(Socket::Memory(stream)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Layer::Plain(inner) => Pin::new(inner).poll_read(cx, buf),
            Layer::Server(inner, _) => closed_without_notice(Pin::new(inner).poll_read(cx, buf)),
            Layer::Client(inner, _) => closed_without_notice(Pin::new(inner).poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Layer::Plain(inner) => Pin::new(inner).poll_write(cx, buf),
            Layer::Server(inner, _) => Pin::new(inner).poll_write(cx, buf),
            Layer::Client(inner, _) => Pin::new(inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Layer::Plain(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
            Layer::Server(inner, _) => Pin::new(inner).poll_write_vectored(cx, bufs),
            Layer::Client(inner, _) => Pin::new(inner).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            Layer::Plain(inner) => inner.is_write_vectored(),
            Layer::Server(inner, _) => inner.is_write_vectored(),
            Layer::Client(inner, _) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Layer::Plain(inner) => Pin::new(inner).poll_flush(cx),
            Layer::Server(inner, _) => Pin::new(inner).poll_flush(cx),
            Layer::Client(inner, _) => Pin::new(inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Layer::Plain(inner) => Pin::new(inner).poll_shutdown(cx),
            Layer::Server(inner, _) => Pin::new(inner).poll_shutdown(cx),
            Layer::Client(inner, _) => Pin::new(inner).poll_shutdown(cx),
        }
    }
}

fn exporter<Side>(connection: &rustls::ConnectionCommon<Side>) -> Option<Vec<u8>> {
    if connection.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
        return None;
    }
    connection.export_keying_material(vec![0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// Many peers close the socket without `close_notify` after QUIT. SMTP frames its own messages, so an end of the
/// stream cannot cut one short unseen, and it counts as an ordinary end (RFC 8446 §6.1 asks for the alert).
fn closed_without_notice(result: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match result {
        Poll::Ready(Err(ref error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Ok(()))
        }
        Poll::Ready(_) | Poll::Pending => result,
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(inner) => Pin::new(inner).poll_read(cx, buf),
            Self::Unix(inner) => Pin::new(inner).poll_read(cx, buf),
            Self::Memory(inner) => Pin::new(inner).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(inner) => Pin::new(inner).poll_write(cx, buf),
            Self::Unix(inner) => Pin::new(inner).poll_write(cx, buf),
            Self::Memory(inner) => Pin::new(inner).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
            Self::Unix(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
            Self::Memory(inner) => Pin::new(inner).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
            Self::Memory(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(inner) => Pin::new(inner).poll_flush(cx),
            Self::Unix(inner) => Pin::new(inner).poll_flush(cx),
            Self::Memory(inner) => Pin::new(inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(inner) => Pin::new(inner).poll_shutdown(cx),
            Self::Unix(inner) => Pin::new(inner).poll_shutdown(cx),
            Self::Memory(inner) => Pin::new(inner).poll_shutdown(cx),
        }
    }
}
