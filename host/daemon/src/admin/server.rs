//! The server's side of the admin socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use inbound::{Injection, Injector};
use message::{Id, Octets};
use metrics_exporter_prometheus::PrometheusHandle;
use policy::Host;
use queue::{Action, Filter, Queue, Suspension};
use serde::Deserialize;
use serde_json::json;
use smtp::{ForwardPath, MailParameters, Mailbox, RcptParameters, Recipient, ReversePath};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::destination;

/// Octets of a mail that is handed in, in the form that it is sent in: numbers, in JSON.
const MOST_SENT: usize = 256 << 20;
/// Octets of content in one piece of an answer.
const PIECE: usize = 64 << 10;

/// Lines of progress that may wait for a reader.
const LINES: usize = 16;

/// What the handlers work on.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) queue: Queue,
    pub(crate) hosts: delivery::Destinations,
    pub(crate) policy: Arc<Host>,
    pub(crate) injector: Injector,
    pub(crate) metrics: PrometheusHandle,
}

/// Messages, and what is to become of them.
#[derive(Deserialize)]
struct Order {
    filter: Filter,
    action: Action,
    /// Answer with a line of JSON now and then: how many of how many are done; the last line says how many were changed.
    #[serde(default)]
    progress: bool,
}

/// What is to be suspended, and why.
#[derive(Deserialize)]
struct Wish {
    what: Suspension,
    #[serde(default)]
    reason: Option<String>,
}

/// Opens the Unix socket. A socket that a killed server left behind is replaced; one that answers is an error.
pub(crate) async fn serve_socket(
    path: &Path,
    office: Office,
) -> Result<impl Future<Output = ()> + use<>> {
    if UnixStream::connect(path).await.is_ok() {
        anyhow::bail!(
            "{}: another server answers here; give each its own data folder",
            path.display()
        );
    }
    if path.exists() {
        std::fs::remove_file(path).with_context(|| format!("can't replace {}", path.display()))?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("can't make {}", folder.display()))?;
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("can't listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let router = Router::new()
        .route("/queue/list", post(list))
        .route("/queue/status", get(status))
        .route("/queue/change", post(change))
        .route("/queue/destinations", get(destinations))
        .route("/queue/suspended", get(suspended))
        .route("/queue/suspend", post(suspend))
        .route("/queue/resume", post(resume))
        .route("/queue/message/{id}", get(show))
        .route("/queue/content/{id}", get(content))
        .route("/plugins", get(plugins))
        .route("/send", post(send).layer(DefaultBodyLimit::max(MOST_SENT)))
        .with_state(office);
    Ok(async move {
        // It never ends by itself: errors of single connections are axum's to log.
        axum::serve(listener, router).await.ok();
    })
}

/// Opens the HTTP listener for monitoring.
pub(crate) async fn serve_http(
    address: SocketAddr,
    office: Office,
) -> Result<impl Future<Output = ()> + use<>> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("admin.http: can't listen on {address}"))?;
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(health))
        .with_state(office);
    Ok(async move {
        axum::serve(listener, router).await.ok();
    })
}

/// 503 while the server does nothing of what it is there for.
async fn health(State(office): State<Office>) -> Response {
    match office.queue.condition().await.broken {
        None => "ok\n".into_response(),
        Some(what) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the queue: {what}\n")).into_response()
        }
    }
}

async fn status(State(office): State<Office>) -> Response {
    Json(office.queue.condition().await).into_response()
}

async fn list(State(office): State<Office>, Json(filter): Json<Filter>) -> Response {
    Json(office.queue.list(filter).await).into_response()
}

async fn show(State(office): State<Office>, Segment(id): Segment<String>) -> Response {
    let Ok(id) = id.parse::<Id>() else { return no_id(&id) };
    match office.queue.show(id).await {
        Some(detail) => Json(detail).into_response(),
        None => not_there(id),
    }
}

async fn change(State(office): State<Office>, Json(order): Json<Order>) -> Response {
    if order.progress {
        return watched(office, order);
    }
    match office.queue.apply(order.filter, order.action).await {
        Ok(changed) => Json(json!({ "changed": changed })).into_response(),
        Err(error) => failed(&error),
    }
}

/// Changes while telling how far it is. Who asked may go: what was begun is finished.
fn watched(office: Office, order: Order) -> Response {
    let (tell, told) = mpsc::channel::<String>(LINES);
    tokio::spawn(async move {
        let progress = |done: usize, of: usize| {
            // Who reads slowly misses a line.
            let _ = tell.try_send(json!({ "done": done, "of": of }).to_string());
        };
        let result = office.queue.apply_watched(order.filter, order.action, progress).await;
        let last = match result {
            Ok(changed) => json!({ "changed": changed }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let _ = tell.send(last.to_string()).await;
    });
    let lines = stream::unfold(told, |mut told| async {
        let line = told.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line + "\n")), told))
    });
    Body::from_stream(lines).into_response()
}

async fn destinations(State(office): State<Office>) -> Response {
    let queue = office.queue.destinations().await;
    Json(destination::join(queue, &office.hosts.snapshot())).into_response()
}

async fn suspended(State(office): State<Office>) -> Response {
    Json(office.queue.suspended().await).into_response()
}

async fn suspend(State(office): State<Office>, Json(wish): Json<Wish>) -> Response {
    match office.queue.suspend(wish.what, wish.reason).await {
        Ok(()) => Json(json!({ "suspended": true })).into_response(),
        Err(error) => failed(&error),
    }
}

async fn resume(State(office): State<Office>, Json(wish): Json<Wish>) -> Response {
    match office.queue.resume(wish.what).await {
        Ok(()) => Json(json!({ "resumed": true })).into_response(),
        Err(error @ queue::Error::NotSuspended(_)) => {
            (StatusCode::NOT_FOUND, error.to_string()).into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn content(State(office): State<Office>, Segment(id): Segment<String>) -> Response {
    let Ok(id) = id.parse::<Id>() else { return no_id(&id) };
    let content = match office.queue.content(id).await {
        Ok(content) => Arc::new(content),
        Err(queue::Error::Unknown(_)) => return not_there(id),
        Err(error) => return failed(&error),
    };
    let pieces = stream::try_unfold(0, move |offset| {
        let content = Arc::clone(&content);
        async move {
            let piece = tokio::task::spawn_blocking(move || read_piece(&*content, offset)).await;
            let piece = piece.map_err(std::io::Error::other)??;
            let next = offset + piece.len() as u64;
            Ok::<_, std::io::Error>((!piece.is_empty()).then_some((piece, next)))
        }
    });
    Body::from_stream(pieces).into_response()
}

fn read_piece(content: &dyn Octets, offset: u64) -> std::io::Result<Bytes> {
    let mut piece = vec![0; PIECE];
    let length = content.read_at(offset, &mut piece)?;
    piece.truncate(length);
    Ok(piece.into())
}

/// What is handed in: envelope and content.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    from: Option<Mailbox>,
    to: Vec<Mailbox>,
    content: Vec<u8>,
}

async fn send(State(office): State<Office>, Json(sent): Json<Sent>) -> Response {
    let recipient = |mailbox| Recipient {
        path: ForwardPath::Mailbox(mailbox),
        parameters: RcptParameters::default(),
    };
    let mail = Injection {
        reverse_path: sent.from.map_or(ReversePath::Null, ReversePath::Mailbox),
        parameters: MailParameters::default(),
        recipients: sent.to.into_iter().map(recipient).collect(),
        content: sent.content.into(),
    };
    match office.injector.local(mail).await {
        Ok(id) => Json(json!({ "id": id })).into_response(),
        Err(reply) => (StatusCode::UNPROCESSABLE_ENTITY, reply.to_string()).into_response(),
    }
}

async fn plugins(State(office): State<Office>) -> Response {
    let chain = office.policy.current();
    let plugins: Vec<_> = chain
        .plugins()
        .iter()
        .zip(chain.breakers())
        .zip(chain.instances())
        .map(|((plugin, breaker), instances)| crate::wiring::describe(plugin, &breaker, instances))
        .collect();
    Json(json!({ "generation": chain.generation(), "plugins": plugins })).into_response()
}

async fn render(State(office): State<Office>) -> String {
    office.metrics.run_upkeep();
    office.metrics.render()
}

fn failed(error: &queue::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

fn no_id(text: &str) -> Response {
    (
        StatusCode::BAD_REQUEST,
        format!(
            "\"{text}\" is not a message id: 16 letters and digits, as `queue list` shows them"
        ),
    )
        .into_response()
}

fn not_there(id: Id) -> Response {
    (
        StatusCode::NOT_FOUND,
        format!("{id} is not in the queue; `gatepost why {id}` says what became of it"),
    )
        .into_response()
}
