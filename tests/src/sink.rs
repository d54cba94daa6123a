//! A server that takes mail and remembers every octet of it, and that refuses what a test tells it to.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine as _;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::place::{PATIENCE, eventually};

/// One message as it arrived.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The line of MAIL.
    pub mail: String,
    /// The lines of RCPT that were accepted.
    pub rcpt: Vec<String>,
    /// The content as it was on the wire, dots still stuffed, without the end mark.
    pub wire: Vec<u8>,
    /// The content.
    pub content: Vec<u8>,
    /// It came by BDAT.
    pub chunked: bool,
    /// The connection was encrypted.
    pub tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
    /// The number of the connection, from 1.
    pub connection: usize,
    /// When the reply to the end of data was sent.
    pub time: Instant,
}

/// Answers a line in the sink's place: the line, and how many lines with the same verb came before
/// it in the sink's life. The end of data is the line ".".
pub type Script = dyn Fn(&str, usize) -> Option<String> + Send + Sync;

/// What a sink does.
#[derive(Clone)]
pub struct Behaviour {
    /// Keywords of EHLO.
    pub extensions: Vec<String>,
    /// Offers STARTTLS with a certificate for this name.
    pub tls: Option<String>,
    /// Demands a login with this name and password before MAIL.
    pub login: Option<(String, String)>,
    /// Replies of the test's own.
    pub script: Arc<Script>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            extensions: ["PIPELINING", "8BITMIME", "SIZE", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
                .map(str::to_owned)
                .to_vec(),
            tls: None,
            login: None,
            script: Arc::new(|_, _| None),
        }
    }
}

/// A running sink.
pub struct Sink {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    /// How many there were with each verb.
    verbs: HashMap<String, usize>,
}

struct Shared {
    behaviour: Behaviour,
    tls: Option<Arc<ServerConfig>>,
    taken: Mutex<Vec<Taken>>,
    lines: Mutex<Lines>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    over: AtomicBool,
}

impl Sink {
    /// Listens on a port of 127.0.0.1 that the system chooses.
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_at("127.0.0.1:0", behaviour)
    }

    /// Listens at an address.
    pub fn start_at(address: &str, behaviour: Behaviour) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let port = listener.local_addr().expect("a listener has an address").port();
        let tls = behaviour.tls.as_deref().map(server_config);
        let shared = Arc::new(Shared {
            behaviour,
            tls,
            taken: Mutex::default(),
            lines: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The messages so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().expect("no holder panics").clone()
    }

    /// Takes the messages so far out of the sink, and forgets the lines: for runs that last.
    pub fn take(&self) -> Vec<Taken> {
        self.shared.lines.lock().expect("no holder panics").all.clear();
        std::mem::take(&mut self.shared.taken.lock().expect("no holder panics"))
    }

    /// Waits for `count` messages and gives all.
    pub fn wait(&self, count: usize) -> Vec<Taken> {
        eventually(&format!("{count} messages at the sink"), || {
            Some(self.taken()).filter(|taken| taken.len() >= count)
        })
    }

    /// All command lines so far, of all connections.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().expect("no holder panics").all.clone()
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections were open at the same time, at most.
    pub fn most_connections(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; nothing listens any more if this fails.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let connection = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let open = shared.open.fetch_add(1, Ordering::SeqCst) + 1;
            shared.most.fetch_max(open, Ordering::SeqCst);
            // A client may leave whenever it likes.
            let _ = Session::new(&shared, stream, connection).and_then(Session::serve);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

struct Session<'a> {
    shared: &'a Shared,
    tcp: TcpStream,
    stream: BufReader<Box<dyn Stream>>,
    connection: usize,
    tls: bool,
    user: Option<String>,
    mail: String,
    rcpt: Vec<String>,
    chunks: Vec<u8>,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, tcp: TcpStream, connection: usize) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(2 * PATIENCE))?;
        let stream: Box<dyn Stream> = Box::new(tcp.try_clone()?);
        Ok(Self {
            shared,
            tcp,
            stream: BufReader::new(stream),
            connection,
            tls: false,
            user: None,
            mail: String::new(),
            rcpt: Vec::new(),
            chunks: Vec::new(),
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let greeting = self.scripted("").unwrap_or_else(|| "220 sink.test ESMTP".to_owned());
        self.say(&greeting)?;
        while let Some(line) = self.line()? {
            let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let scripted = self.scripted(&line);
            if let Some(reply) = &scripted
                && (verb != "BDAT" && verb != "DATA" || !reply.starts_with('3'))
            {
                self.say(reply)?;
                if reply.starts_with("421") {
                    return Ok(());
                }
                continue;
            }
            match verb.as_str() {
                "EHLO" | "LHLO" => self.ehlo()?,
                "STARTTLS" => self.start_tls()?,
                "AUTH" => self.auth(&line)?,
                "MAIL" if self.shared.behaviour.login.is_some() && self.user.is_none() => {
                    self.say("530 5.7.0 Authentication required")?;
                }
                "MAIL" => {
                    self.mail = line;
                    self.rcpt.clear();
                    self.say("250 2.1.0 Ok")?;
                }
                "RCPT" => {
                    self.rcpt.push(line);
                    self.say("250 2.1.5 Ok")?;
                }
                "DATA" if self.rcpt.is_empty() => self.say("554 5.5.1 No valid recipients")?,
                "DATA" => self.data()?,
                "BDAT" => self.chunk(&line)?,
                "QUIT" => return self.say("221 2.0.0 Bye"),
                _ => self.say("250 2.0.0 Ok")?,
            }
        }
        Ok(())
    }

    fn ehlo(&mut self) -> io::Result<()> {
        let mut lines = vec!["sink.test".to_owned()];
        lines.extend(self.shared.behaviour.extensions.iter().cloned());
        if self.shared.tls.is_some() && !self.tls {
            lines.push("STARTTLS".to_owned());
        }
        if self.shared.behaviour.login.is_some() {
            lines.push("AUTH PLAIN".to_owned());
        }
        let last = lines.len() - 1;
        let reply: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(n, line)| format!("250{}{line}", if n == last { ' ' } else { '-' }))
            .collect();
        self.say(&reply.join("\r\n"))
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let Some(config) = self.shared.tls.clone() else {
            return self.say("502 5.5.1 No TLS here");
        };
        self.say("220 2.0.0 Go ahead")?;
        let mut tcp = self.tcp.try_clone()?;
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        self.stream = BufReader::new(Box::new(StreamOwned::new(connection, tcp)));
        self.tls = true;
        Ok(())
    }

    fn auth(&mut self, line: &str) -> io::Result<()> {
        let initial = line.split(' ').nth(2).map(str::to_owned);
        let response = match initial {
            Some(response) => response,
            None => {
                self.say("334 ")?;
                self.line()?.unwrap_or_default()
            }
        };
        let decoded = base64::engine::general_purpose::STANDARD.decode(response.trim());
        let decoded = String::from_utf8_lossy(&decoded.unwrap_or_default()).into_owned();
        let mut parts = decoded.split('\0').skip(1).map(str::to_owned);
        let given = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if self.shared.behaviour.login.as_ref() == Some(&given) {
            self.user = Some(given.0);
            self.say("235 2.7.0 Welcome")
        } else {
            self.say("535 5.7.8 Wrong")
        }
    }

    fn data(&mut self) -> io::Result<()> {
        self.say("354 Go on")?;
        let mut wire = Vec::new();
        // RFC 5321 §4.1.1.4: CRLF.CRLF ends the content, and nothing else; the first CRLF may be
        // that of DATA itself.
        while !wire.ends_with(b"\r\n.\r\n") && wire != b".\r\n" {
            if self.stream.read_until(b'\n', &mut wire)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        wire.truncate(wire.len() - 3);
        let content = unstuffed(&wire);
        self.taken(wire, content, false)
    }

    fn chunk(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split_whitespace().skip(1);
        let size = words.next().and_then(|word| word.parse::<usize>().ok());
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case("LAST"));
        let mut piece = vec![0; size.unwrap_or_default()];
        self.stream.read_exact(&mut piece)?;
        self.chunks.extend_from_slice(&piece);
        if !last {
            return self.say("250 2.0.0 Ok");
        }
        let wire = std::mem::take(&mut self.chunks);
        self.taken(wire.clone(), wire, true)
    }

    fn taken(&mut self, wire: Vec<u8>, content: Vec<u8>, chunked: bool) -> io::Result<()> {
        let scripted = self.scripted(".");
        if scripted.as_ref().is_none_or(|reply| reply.starts_with('2')) {
            let taken = Taken {
                mail: self.mail.clone(),
                rcpt: std::mem::take(&mut self.rcpt),
                wire,
                content,
                chunked,
                tls: self.tls,
                user: self.user.clone(),
                connection: self.connection,
                time: Instant::now(),
            };
            self.shared.taken.lock().expect("no holder panics").push(taken);
        }
        self.say(&scripted.unwrap_or_else(|| "250 2.0.0 Taken".to_owned()))
    }

    fn scripted(&self, line: &str) -> Option<String> {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_owned();
        let mut lines = self.shared.lines.lock().expect("no holder panics");
        lines.all.push(line.to_owned());
        let count = lines.verbs.entry(verb).or_default();
        let before = *count;
        *count += 1;
        drop(lines);
        (self.shared.behaviour.script)(line, before)
    }

    fn say(&mut self, reply: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{reply}\r\n").as_bytes())?;
        stream.flush()
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }
}

fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(wire.len());
    let mut start_of_line = true;
    for &octet in wire {
        if !(start_of_line && octet == b'.') {
            content.push(octet);
        }
        start_of_line = octet == b'\n';
    }
    content
}

fn server_config(name: &str) -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key in DER");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key fits the certificate");
    Arc::new(config)
}
