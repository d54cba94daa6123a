//! Mail that comes by no connection: handed in on this machine, or made by a plugin. It goes through a session like all other
//! mail, over a pair of sockets, so that every rule and every stage holds for it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use message::Id;
use net::Stream;
use smtp::content::DataEncoder;
use smtp::{BodyType, MailParameters, Recipient, Reply, ReplyParser, ReversePath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::house::{Entrance, House};
use crate::listener::Phase;
use crate::session::{Peer, Session};

/// Hands mail in. Cheap to clone.
#[derive(Clone)]
pub struct Injector {
    pub(crate) house: Arc<House>,
    pub(crate) local: Arc<Entrance>,
    pub(crate) plugin: Arc<Entrance>,
    /// The sender's side, so that it holds up no drain.
    pub(crate) phase: watch::Sender<Phase>,
}

/// A mail to be handed in.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Who is told if it fails.
    pub reverse_path: ReversePath,
    /// RET, ENVID; what the content demands is found out here.
    pub parameters: MailParameters,
    /// Whom it is for. If one of them is refused, nobody gets it.
    pub recipients: Vec<Recipient>,
    /// Header and body.
    pub content: Bytes,
}

impl Injector {
    /// Takes a mail that somebody on this machine hands in: the origin `local`.
    ///
    /// # Errors
    /// The reply that refused it.
    pub async fn local(&self, mail: Injection) -> Result<Id, Reply> {
        self.inject(Arc::clone(&self.local), mail).await
    }

    /// Takes a mail that a plugin submits: the origin `plugin`.
    ///
    /// # Errors
    /// The reply that refused it.
    pub async fn plugin(&self, mail: Injection) -> Result<Id, Reply> {
        self.inject(Arc::clone(&self.plugin), mail).await
    }

    async fn inject(&self, entrance: Arc<Entrance>, mail: Injection) -> Result<Id, Reply> {
        let trouble = |_| Reply::new(451, "4.3.0 Local error in processing, try again later");
        let (ours, theirs) = UnixStream::pair().map_err(trouble)?;
        let session = Session::new(
            Arc::clone(&self.house),
            entrance,
            Stream::from(theirs),
            Peer::local(),
            self.phase.subscribe(),
        );
        let session = tokio::spawn(Box::pin(session.run()));
        let result = Conversation { stream: ours, received: BytesMut::new() }
            .hold(&self.house.config.hostname, mail)
            .await;
        // It has said all it had to say; a panic in it is its own.
        let _ = session.await;
        result.unwrap_or_else(|error| Err(trouble(error)))
    }
}

struct Conversation {
    stream: UnixStream,
    received: BytesMut,
}

impl Conversation {
    /// The outer error is one of the sockets, the inner one a refusal.
    async fn hold(mut self, hostname: &str, mail: Injection) -> std::io::Result<Result<Id, Reply>> {
        let Injection { reverse_path, mut parameters, recipients, content } = mail;
        let head = message::Header::parse(content.clone());
        let utf8 = |text: String| !text.is_ascii();
        parameters.smtputf8 = utf8(reverse_path.to_string())
            || recipients.iter().any(|recipient| utf8(recipient.path.to_string()))
            || !head.raw().is_ascii();
        parameters.body =
            if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime };
        parameters.size = Some(content.len() as u64);
        parameters.auth = None;
        let mut commands = vec![
            format!("EHLO {hostname}"),
            format!("MAIL FROM:<{reverse_path}>{}", parameters.on_the_wire()),
        ];
        commands.extend(recipients.iter().map(|recipient| {
            format!("RCPT TO:<{}>{}", recipient.path, recipient.parameters.on_the_wire())
        }));
        commands.push("DATA".to_owned());
        let mut last = self.reply().await?;
        for command in commands {
            if !last.is_positive() {
                break;
            }
            last = self.say(command.as_bytes()).await?;
        }
        if last.is_positive() {
            let mut octets = Vec::with_capacity(content.len() + 1024);
            let mut encoder = DataEncoder::default();
            encoder.encode(&message::with_crlf(&content), &mut octets);
            encoder.finish(&mut octets);
            self.stream.write_all(&octets).await?;
            last = self.reply().await?;
        }
        self.stream.write_all(b"QUIT\r\n").await?;
        let id = last.lines().last().and_then(|line| line.rsplit(' ').next()?.parse().ok());
        Ok(match id {
            Some(id) if last.is_positive() => Ok(id),
            _ => Err(last),
        })
    }

    async fn say(&mut self, command: &[u8]) -> std::io::Result<Reply> {
        self.stream.write_all(&[command, b"\r\n"].concat()).await?;
        self.reply().await
    }

    async fn reply(&mut self) -> std::io::Result<Reply> {
        let mut parser = ReplyParser::default();
        loop {
            match parser.feed(&mut self.received) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(std::io::Error::other(error.to_string())),
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
