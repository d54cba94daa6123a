//! A host that takes mail as a script tells it to, and remembers what it was told.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use net::{Stream, tls::ServerTls};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use super::shared;

/// How a host behaves.
#[derive(Clone, Default)]
pub(super) struct Script {
    /// Instead of "220 fake".
    pub(super) greeting: Option<&'static str>,
    /// Keywords of EHLO.
    pub(super) extensions: &'static [&'static str],
    /// Replies to commands that begin so; "close" closes. Everything else is taken.
    pub(super) replies: &'static [(&'static str, &'static str)],
    /// One reply per recipient after the content.
    pub(super) lmtp: bool,
    /// Replies to contents in turn; "close" closes. Then 250.
    pub(super) ends: &'static [&'static str],
    pub(super) tls: Option<ServerTls>,
    /// Sends garbage instead of a handshake.
    pub(super) bad_tls: bool,
    /// Time before each reply to a content.
    pub(super) slow: Duration,
    /// With more connections than this the greeting is 421.
    pub(super) most: Option<usize>,
}

/// What a host was told.
#[derive(Default)]
pub(super) struct Told {
    /// Commands, a mark "(connected)" for each connection and "(tls)" for each handshake.
    pub(super) lines: Vec<String>,
    /// Contents as they came, dots doubled in DATA.
    pub(super) contents: Vec<String>,
    /// Who called.
    pub(super) callers: Vec<IpAddr>,
    /// Connections that were open together, at most.
    pub(super) together: usize,
    open: usize,
    ends: usize,
}

pub(super) struct FakeHost {
    pub(super) address: SocketAddr,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl FakeHost {
    pub(super) async fn new(script: Script) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(super) async fn at(address: SocketAddr, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = shared(Told::default());
        let heard = Arc::clone(&told);
        let task = tokio::spawn(async move {
            while let Ok((stream, caller)) = listener.accept().await {
                heard.lock().unwrap().callers.push(caller.ip());
                tokio::spawn(accept(stream.into(), script.clone(), Arc::clone(&heard)));
            }
        });
        Self { address, told, task }
    }

    pub(super) fn at_socket(path: &Path, script: Script) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let told = shared(Told::default());
        let heard = Arc::clone(&told);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accept(stream.into(), script.clone(), Arc::clone(&heard)));
            }
        });
        Self { address: ([127, 0, 0, 1], 0).into(), told, task }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.told.lock().unwrap().lines.clone()
    }

    pub(super) fn contents(&self) -> Vec<String> {
        self.told.lock().unwrap().contents.clone()
    }

    pub(super) fn callers(&self) -> Vec<IpAddr> {
        self.told.lock().unwrap().callers.clone()
    }

    pub(super) fn together(&self) -> usize {
        self.told.lock().unwrap().together
    }

    pub(super) fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(stream: Stream, script: Script, told: Arc<Mutex<Told>>) {
    let open = {
        let mut told = told.lock().unwrap();
        told.lines.push("(connected)".into());
        told.open += 1;
        told.together = told.together.max(told.open);
        told.open
    };
    if script.most.is_some_and(|most| open > most) {
        let _ = say(&mut BufReader::new(stream), "421 4.7.0 too many connections").await;
    } else {
        let _ = serve(stream, script, Arc::clone(&told)).await;
    }
    told.lock().unwrap().open -= 1;
}

async fn serve(stream: Stream, script: Script, told: Arc<Mutex<Told>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    say(&mut stream, script.greeting.unwrap_or("220 fake")).await?;
    let mut recipients = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        told.lock().unwrap().lines.push(line.clone());
        let scripted = script
            .replies
            .iter()
            .find(|(start, _)| line.starts_with(start))
            .map(|(_, reply)| *reply);
        if scripted == Some("close") {
            return None;
        }
        let verb = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        match (verb.as_str(), scripted) {
            ("DATA", None) if recipients == 0 => say(&mut stream, "503 5.5.1 for whom?").await?,
            ("DATA", None) => {
                say(&mut stream, "354 go").await?;
                let content = data(&mut stream).await?;
                end(&mut stream, &script, &told, content, recipients).await?;
                recipients = 0;
            }
            ("BDAT", None) => {
                let mut content = vec![0; line.split(' ').nth(1)?.parse().ok()?];
                stream.read_exact(&mut content).await.ok()?;
                end(&mut stream, &script, &told, String::from_utf8(content).ok()?, recipients)
                    .await?;
                recipients = 0;
            }
            (_, Some(reply)) => say(&mut stream, reply).await?,
            ("EHLO" | "LHLO", None) => {
                let in_tls = stream.get_ref().tls().is_some();
                let extensions =
                    script.extensions.iter().filter(|keyword| !in_tls || **keyword != "STARTTLS");
                let lines: String =
                    extensions.map(|keyword| format!("250-{keyword}\r\n")).collect();
                say(&mut stream, &format!("250-fake\r\n{lines}250 HELP")).await?;
            }
            ("STARTTLS", None) => {
                say(&mut stream, "220 go").await?;
                if script.bad_tls {
                    return say(&mut stream, "this is no TLS").await;
                }
                let tls = script.tls.clone()?;
                let limit = Duration::from_secs(10);
                stream = BufReader::new(tls.accept(stream.into_inner(), limit).await.ok()?);
                told.lock().unwrap().lines.push("(tls)".into());
            }
            ("RCPT", None) => {
                recipients += 1;
                say(&mut stream, "250 2.1.5 ok").await?;
            }
            ("QUIT", None) => return say(&mut stream, "221 bye").await,
            (_, None) => say(&mut stream, "250 ok").await?,
        }
    }
}

async fn say(stream: &mut BufReader<Stream>, reply: &str) -> Option<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn data(stream: &mut BufReader<Stream>) -> Option<String> {
    let mut content = String::new();
    loop {
        let start = content.len();
        if stream.read_line(&mut content).await.ok()? == 0 {
            return None;
        }
        if &content[start..] == ".\r\n" {
            content.truncate(start);
            return Some(content);
        }
    }
}

async fn end(
    stream: &mut BufReader<Stream>,
    script: &Script,
    told: &Mutex<Told>,
    content: String,
    recipients: usize,
) -> Option<()> {
    told.lock().unwrap().contents.push(content);
    tokio::time::sleep(script.slow).await;
    for _ in 0..if script.lmtp { recipients } else { 1 } {
        let reply = {
            let mut told = told.lock().unwrap();
            told.ends += 1;
            script.ends.get(told.ends - 1).copied().unwrap_or("250 2.0.0 taken")
        };
        if reply == "close" {
            return None;
        }
        say(stream, reply).await?;
    }
    Some(())
}
