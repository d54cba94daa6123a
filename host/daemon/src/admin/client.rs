//! The side of the admin socket that the commands use.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use queue::{Action, Condition, Filter, Summary, Suspended, Suspension};
use serde_json::Value;
use tokio::net::UnixStream;

use super::destination::View;

const ANOTHER_VERSION: &str = "the server speaks another version; is it older than this program?";

/// Asks a running server.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) async fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        let list = self.json(Method::POST, "/queue/list", serde_json::to_vec(filter)?).await?;
        serde_json::from_value(list).context(ANOTHER_VERSION)
    }

    /// How the queue is.
    pub(crate) async fn status(&self) -> Result<Condition> {
        let status = self.json(Method::GET, "/queue/status", Vec::new()).await?;
        serde_json::from_value(status).context(ANOTHER_VERSION)
    }

    pub(crate) async fn show(&self, id: &str) -> Result<Value> {
        self.json(Method::GET, &format!("/queue/message/{id}"), Vec::new()).await
    }

    /// Streams the content of a message to `out`.
    pub(crate) async fn content(&self, id: &str, out: &mut impl Write) -> Result<()> {
        let response = self.send(Method::GET, &format!("/queue/content/{id}"), Vec::new()).await?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.context("the server stopped in the middle")?.into_data() {
                out.write_all(&data)?;
            }
        }
        Ok(())
    }

    /// How many messages were changed. `progress` hears now and then how many of how many are done.
    pub(crate) async fn change(
        &self,
        action: Action,
        filter: Filter,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<usize> {
        let order = serde_json::json!({ "filter": filter, "action": action, "progress": true });
        let order = serde_json::to_vec(&order)?;
        let mut body = self.send(Method::POST, "/queue/change", order).await?.into_body();
        let mut lines = Vec::new();
        let mut changed = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the server stopped in the middle")?.into_data() else {
                continue;
            };
            lines.extend_from_slice(&data);
            while let Some(end) = lines.iter().position(|octet| *octet == b'\n') {
                let line: Value = serde_json::from_slice(&lines[..end])?;
                lines.drain(..=end);
                if let Some(error) = line["error"].as_str() {
                    bail!("{error}");
                }
                if let (Some(done), Some(of)) = (line["done"].as_u64(), line["of"].as_u64()) {
                    progress(done, of);
                }
                changed = line["changed"].as_u64().or(changed);
            }
        }
        let changed = changed.context("the server stopped before it was done")?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    pub(crate) async fn destinations(&self) -> Result<Vec<View>> {
        let list = self.json(Method::GET, "/queue/destinations", Vec::new()).await?;
        serde_json::from_value(list).context(ANOTHER_VERSION)
    }

    pub(crate) async fn suspended(&self) -> Result<Vec<Suspended>> {
        let list = self.json(Method::GET, "/queue/suspended", Vec::new()).await?;
        serde_json::from_value(list).context(ANOTHER_VERSION)
    }

    pub(crate) async fn suspend(&self, what: &Suspension, reason: Option<&str>) -> Result<()> {
        let wish = serde_json::json!({ "what": what, "reason": reason });
        self.json(Method::POST, "/queue/suspend", serde_json::to_vec(&wish)?).await.map(drop)
    }

    pub(crate) async fn resume(&self, what: &Suspension) -> Result<()> {
        let wish = serde_json::json!({ "what": what });
        self.json(Method::POST, "/queue/resume", serde_json::to_vec(&wish)?).await.map(drop)
    }

    /// Hands a mail in; the answer is its id, or the reply that refused it.
    pub(crate) async fn send_mail(
        &self,
        from: Option<&str>,
        to: &[String],
        content: &[u8],
    ) -> Result<String> {
        let mail = serde_json::json!({ "from": from, "to": to, "content": content });
        let answer = self.json(Method::POST, "/send", serde_json::to_vec(&mail)?).await?;
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn plugins(&self) -> Result<Value> {
        self.json(Method::GET, "/plugins", Vec::new()).await
    }

    async fn json(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value> {
        let response = self.send(method, path, body).await?;
        let body = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&body).context("the server's answer is not JSON")
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "no server answers at {}; is it running with this configuration?",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer; what goes wrong in it shows in the answer.
        tokio::spawn(async move { connection.await.ok() });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gatepost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response =
            sender.send_request(request).await.context("the server closed the connection")?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let text = response.into_body().collect().await?.to_bytes();
        bail!("{}", String::from_utf8_lossy(&text).trim())
    }
}
