//! HTTP for plugins: to granted hosts only, over addresses that were checked, one request on one connection.
//!
//! The name is resolved, each address is checked, and the connection goes to the very address that was checked: a name
//! that changes its mind between the two leads nowhere. Nothing here follows a redirect.

mod address;
mod url;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use message::Octets;
use net::tls::{ClientRoots, ClientTls, Verification};
use net::{Resolver, Stream};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::seam::{Answer, Fault};

pub(crate) use address::is_public;
pub use url::HttpHost;
pub(crate) use url::Url;

/// What one plugin may do.
pub(crate) struct Rules {
    pub(crate) granted: Vec<HttpHost>,
    /// Networks that are not public and may be reached all the same.
    pub(crate) networks: Vec<IpNet>,
    /// Of an answer's body.
    pub(crate) most_octets: usize,
    /// For all of it.
    pub(crate) longest: Duration,
}

/// What is to be sent.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Goes behind the body.
    pub(crate) content: Option<Arc<dyn Octets>>,
    pub(crate) timeout: Option<Duration>,
}

/// Sends requests. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Client {
    /// Made when the first request needs it: it reads the trust anchors of the system.
    tls: Arc<OnceCell<ClientTls>>,
}

impl Client {
    /// Trusts these instead of the system's anchors.
    pub(crate) fn new(tls: Option<ClientTls>) -> Self {
        Self { tls: Arc::new(OnceCell::new_with(tls)) }
    }

    /// Checks, resolves, checks again, connects, asks.
    pub(crate) async fn send(
        &self,
        resolver: &Resolver,
        rules: &Rules,
        request: Request,
    ) -> Result<Answer, Fault> {
        let timeout = request.timeout.unwrap_or(rules.longest).min(rules.longest);
        tokio::time::timeout(timeout, self.exchange(resolver, rules, request))
            .await
            .unwrap_or(Err(Fault::Timeout))
    }

    async fn exchange(
        &self,
        resolver: &Resolver,
        rules: &Rules,
        request: Request,
    ) -> Result<Answer, Fault> {
        let url = Url::parse(&request.url)?;
        if !rules.granted.iter().any(|host| host.admits(&url)) {
            return Err(Fault::Denied(format!("http {:?}", url.authority())));
        }
        let message = prepare(&url, request)?;
        let addresses = reachable(resolver, rules, &url).await?;
        let stream = self.connect(&url, &addresses, rules.longest).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(trouble)?;
        let exchange = async {
            let response = sender.send_request(message).await.map_err(trouble)?;
            read(response, rules.most_octets).await
        };
        // The connection is driven here and nowhere else: it ends with this call, whatever happens.
        let (exchange, connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
        match futures_util::future::select(exchange, connection).await {
            Either::Left((answer, _)) => answer,
            // Everything was received: what is read now is in memory.
            Either::Right((Ok(()), exchange)) => exchange.await,
            Either::Right((Err(error), _)) => Err(trouble(error)),
        }
    }

    async fn connect(
        &self,
        url: &Url,
        addresses: &[SocketAddr],
        timeout: Duration,
    ) -> Result<Stream, Fault> {
        let mut last = Fault::Unavailable(format!("{} has no address", url.host));
        for address in addresses {
            let stream = match TcpStream::connect(address).await {
                Ok(stream) => stream,
                Err(error) => {
                    last = Fault::Unavailable(format!("{address}: {error}"));
                    continue;
                }
            };
            // One small request at a time: waiting for more to send gains nothing.
            let _ = stream.set_nodelay(true);
            if !url.is_tls {
                return Ok(stream.into());
            }
            let tls = self.tls.get_or_try_init(|| async {
                ClientTls::new(&ClientRoots::System)
                    .map_err(|error| Fault::Unavailable(error.to_string()))
            });
            let name = url.host.trim_matches(['[', ']']);
            return tls
                .await?
                .connect(stream, name, Verification::WebPki, timeout)
                .await
                .map_err(|error| Fault::Unavailable(error.to_string()));
        }
        Err(last)
    }
}

/// The addresses of the host that may be connected to.
async fn reachable(
    resolver: &Resolver,
    rules: &Rules,
    url: &Url,
) -> Result<Vec<SocketAddr>, Fault> {
    // An address that the configuration names is granted with its name.
    if let Some(address) = url.address() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let found = resolver.addresses(&url.host).await.map_err(Fault::from)?;
    let granted = |address: &IpAddr| {
        is_public(*address)
            || rules.networks.iter().any(|network| network.contains(&address.to_canonical()))
    };
    let good: Vec<SocketAddr> = found
        .iter()
        .filter(|address| granted(address))
        .map(|address| SocketAddr::new(*address, url.port))
        .collect();
    match (good.is_empty(), found.first()) {
        (true, Some(address)) => {
            Err(Fault::Denied(format!("http-networks {address} ({})", url.host)))
        }
        (true, None) => Err(Fault::Unavailable(format!("{} has no address", url.host))),
        (false, _) => Ok(good),
    }
}

type Body = BoxBody<Bytes, std::io::Error>;

/// The message as it goes out, all of it checked.
fn prepare(url: &Url, request: Request) -> Result<hyper::Request<Body>, Fault> {
    let invalid = |what: &str| Fault::Invalid(what.to_owned());
    if !METHODS.contains(&request.method.as_str()) {
        return Err(invalid("the method is none of GET, POST, PUT, DELETE, HEAD, PATCH, OPTIONS"));
    }
    if request.headers.len() > MAX_FIELDS {
        return Err(Fault::Quota(format!("a request has at most {MAX_FIELDS} header fields")));
    }
    let length =
        request.body.len() as u64 + request.content.as_ref().map_or(0, |content| content.len());
    let mut message = hyper::Request::builder()
        .method(request.method.as_str())
        .uri(url.target.as_str())
        .header(HOST, url.authority())
        .header(CONNECTION, "close")
        .header(CONTENT_LENGTH, length)
        .body(body(request.body, request.content))
        .map_err(|error| Fault::Invalid(error.to_string()))?;
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid("a header field with an impossible name"))?;
        if [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            return Err(Fault::Invalid(format!("{name} is the host's")));
        }
        let value = HeaderValue::from_str(value)
            .map_err(|_| Fault::Invalid(format!("the value of {name} cannot stand in a header")))?;
        message.headers_mut().append(name, value);
    }
    Ok(message)
}

/// The octets of the plugin, and behind them the content of the message, piece by piece from where it lies.
fn body(first: Bytes, content: Option<Arc<dyn Octets>>) -> Body {
    let Some(content) = content else {
        return Full::new(first).map_err(|never| match never {}).boxed();
    };
    let start = (Some(first), 0, content);
    let pieces = stream::try_unfold(start, |(first, offset, content)| async move {
        if let Some(first) = first.filter(|first| !first.is_empty()) {
            return Ok(Some((Frame::data(first), (None, offset, content))));
        }
        if offset >= content.len() {
            return Ok(None);
        }
        let reader = content.clone();
        let piece = tokio::task::spawn_blocking(move || reader.read(offset, PIECE_OCTETS))
            .await
            .map_err(std::io::Error::other)??;
        if piece.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let next = offset + piece.len() as u64;
        Ok(Some((Frame::data(Bytes::from(piece)), (None, next, content))))
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

async fn read(
    response: hyper::Response<hyper::body::Incoming>,
    most_octets: usize,
) -> Result<Answer, Fault> {
    let (head, body) = response.into_parts();
    let octets = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    let left = most_octets.saturating_sub(octets.sum());
    let body = Limited::new(body, left).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Fault::Quota(format!("an answer has at most {most_octets} octets"))
        } else {
            Fault::Unavailable(error.to_string())
        }
    })?;
    Ok(Answer::Response {
        status: head.status.as_u16(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        body: body.to_bytes().into(),
    })
}

fn trouble(error: hyper::Error) -> Fault {
    Fault::Unavailable(error.to_string())
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"];
const MAX_FIELDS: usize = 100;
/// One read from disk and one write to the socket.
const PIECE_OCTETS: usize = 64 << 10;

#[cfg(test)]
mod tests;
