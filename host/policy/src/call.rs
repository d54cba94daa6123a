//! One question to one plugin: get an instance, run it under its limits, get the answer or the failure.
//! Where it runs is `lanes`' matter.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Store, Trap};

use crate::answer::Decision;
use crate::bindings::stages::{
    configure, on_auth, on_connect, on_data, on_deliver, on_disconnect, on_dsn, on_helo, on_mail,
    on_outcome, on_rcpt, on_route,
};
use crate::bindings::types::Recipient;
use crate::chain::{Core, Services, Stage};
use crate::guest::{Call, Exhausted, Guest};
use crate::{answer, guest};

/// A running plugin: its memory, and its place in the pool.
pub(crate) struct Instance {
    store: Store<Guest>,
    instance: wasmtime::component::Instance,
    stages: Stages,
    _places: [OwnedSemaphorePermit; 2],
}

/// The stages of an instance that were asked before: their types need no second look.
#[derive(Default)]
struct Stages {
    connect: Option<on_connect::Guest>,
    helo: Option<on_helo::Guest>,
    auth: Option<on_auth::Guest>,
    mail: Option<on_mail::Guest>,
    rcpt: Option<on_rcpt::Guest>,
    data: Option<on_data::Guest>,
    route: Option<on_route::Guest>,
    deliver: Option<on_deliver::Guest>,
    outcome: Option<on_outcome::Guest>,
    dsn: Option<on_dsn::Guest>,
    disconnect: Option<on_disconnect::Guest>,
}

/// What a stage asks.
#[derive(Clone)]
pub(crate) enum Question {
    Connect,
    Helo { name: String },
    Auth { credentials: on_auth::Credentials },
    Mail,
    Rcpt { recipient: Recipient },
    Data,
    Route { recipient: Recipient },
    Deliver { recipient: Recipient },
    Outcome { recipient: Recipient, route: String, result: on_outcome::AttemptResult },
    Dsn { notice: on_dsn::Notice },
    Disconnect { how: &'static str },
}

impl Question {
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Connect => Stage::Connect,
            Self::Helo { .. } => Stage::Helo,
            Self::Auth { .. } => Stage::Auth,
            Self::Mail => Stage::Mail,
            Self::Rcpt { .. } => Stage::Rcpt,
            Self::Data => Stage::Data,
            Self::Route { .. } => Stage::Route,
            Self::Deliver { .. } => Stage::Deliver,
            Self::Outcome { .. } => Stage::Outcome,
            Self::Dsn { .. } => Stage::Dsn,
            Self::Disconnect { .. } => Stage::Disconnect,
        }
    }

    /// Whom it is about.
    pub(crate) fn recipient(&self) -> Option<&Recipient> {
        match self {
            Self::Rcpt { recipient }
            | Self::Route { recipient }
            | Self::Deliver { recipient }
            | Self::Outcome { recipient, .. } => Some(recipient),
            Self::Connect
            | Self::Helo { .. }
            | Self::Auth { .. }
            | Self::Mail
            | Self::Data
            | Self::Dsn { .. }
            | Self::Disconnect { .. } => None,
        }
    }
}

/// What came of a call: the answer or why there is none, and what was lent to it. The instance is there only if it can
/// be asked again.
pub(crate) struct Finished {
    pub(crate) instance: Option<Box<Instance>>,
    pub(crate) answer: Result<Decision, Failure>,
    pub(crate) call: Box<Call>,
}

/// Why a plugin gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// Whether the plugin has no part in it: there was no room, or the server stops.
    pub(crate) fn is_of_the_host(&self) -> bool {
        self.0.starts_with(NO_ROOM) || self.0 == STOPPED
    }
}

/// Asks a plugin. `instance` is the one of this session, if it has one already.
pub(crate) fn ask(
    core: &Arc<Core>,
    instance: Option<Box<Instance>>,
    question: Question,
    mut call: Box<Call>,
) -> impl Future<Output = Finished> {
    let core = core.clone();
    let wall = core.limits.wall;
    let owner = core.clone();
    let work = async move {
        let mut instance = match instance {
            Some(instance) => instance,
            None => match Instance::make(&core).await {
                Ok(instance) => instance,
                Err(failure) => return Finished { instance: None, answer: Err(failure), call },
            },
        };
        instance.store.data_mut().swap(&mut call);
        instance.store.data_mut().begin();
        instance.store.set_epoch_deadline(1);
        let answer = tokio::time::timeout(wall, instance.answer(&core, &question)).await;
        let answer = settle(answer, wall);
        instance.store.data_mut().end();
        instance.store.data_mut().swap(&mut call);
        // Whatever went wrong, the memory of the instance is in no known state.
        let instance = if answer.is_ok() { Some(instance) } else { None };
        Finished { instance, answer, call }
    };
    // It is put into its box here, before anybody waits: who asks has no room for it.
    let work = Box::pin(work);
    async move { owner.services.lanes.run(owner.is_slow(), work).await }
}

fn settle<T>(
    answer: Result<wasmtime::Result<T>, tokio::time::error::Elapsed>,
    wall: Duration,
) -> Result<T, Failure> {
    match answer {
        Ok(Ok(decision)) => Ok(decision),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure(format!("no answer within {wall:?}"))),
    }
}

impl Instance {
    /// Whether this is an instance of that plugin in that version.
    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.store.data().core, core)
    }

    /// Octets of linear memory and tables that it has now.
    pub(crate) fn memory(&self) -> usize {
        let guest = self.store.data();
        guest.memory.taken(guest.core.limits.memory)
    }

    /// Waits for a slot, makes an instance in it, and runs `configure`.
    async fn make(core: &Arc<Core>) -> Result<Box<Self>, Failure> {
        let (mut instance, registration) = Self::bare(core).await?;
        registration.map_err(|text| Failure(format!("configure: {text}")))?;
        *instance.store.data_mut().call = Call::none();
        Ok(Box::new(instance))
    }

    /// An instance and what its `configure` said.
    async fn bare(
        core: &Arc<Core>,
    ) -> Result<(Self, Result<configure::Registration, String>), Failure> {
        let services = &core.services;
        let places = [place(&core.share, services).await?, place(&services.slots, services).await?];
        let mut store = Store::new(&services.engine, Guest::new(core.clone()));
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(core.limits.host_call_octets);
        store.set_max_component_handles(core.limits.handles);
        store.epoch_deadline_callback(|mut context| context.data_mut().tick());
        store.data_mut().begin();
        store.set_epoch_deadline(1);
        let start = async {
            let instance = core.pre.instantiate_async(&mut store).await?;
            let configure = core.exports.configure.load(&mut store, &instance)?;
            let registration = configure.call_configure(&mut store).await?;
            Ok((instance, registration))
        };
        let (instance, registration) =
            settle(tokio::time::timeout(core.limits.wall, start).await, core.limits.wall)
                .map_err(|failure| Failure(format!("configure: {failure}")))?;
        Ok((Self { store, instance, stages: Stages::default(), _places: places }, registration))
    }

    async fn answer(&mut self, core: &Core, question: &Question) -> wasmtime::Result<Decision> {
        let (store, instance, stages, exports) =
            (&mut self.store, &self.instance, &mut self.stages, &core.exports);
        macro_rules! stage {
            ($stage:ident) => {
                match &stages.$stage {
                    Some(stage) => stage,
                    None => {
                        let export = exports
                            .$stage
                            .as_ref()
                            .ok_or_else(|| wasmtime::format_err!("not exported"))?;
                        &*stages.$stage.insert(export.load(&mut *store, instance)?)
                    }
                }
            };
        }
        Ok(match question {
            Question::Connect => {
                stage!(connect).call_connect(store, guest::session()).await?.into()
            }
            Question::Helo { name } => {
                stage!(helo).call_helo(store, guest::session(), name).await?.into()
            }
            Question::Auth { credentials } => {
                stage!(auth).call_auth(store, guest::session(), credentials).await?.into()
            }
            Question::Mail => {
                stage!(mail).call_mail(store, guest::session(), guest::transaction()).await?.into()
            }
            Question::Rcpt { recipient } => {
                let stage = stage!(rcpt);
                stage
                    .call_rcpt(store, guest::session(), guest::transaction(), recipient)
                    .await?
                    .into()
            }
            Question::Data => {
                let stage = stage!(data);
                stage
                    .call_data(store, guest::session(), guest::transaction(), guest::content())
                    .await?
                    .into()
            }
            Question::Route { recipient } => {
                stage!(route).call_route(store, guest::transaction(), recipient).await?.into()
            }
            Question::Deliver { recipient } => stage!(deliver)
                .call_deliver(store, guest::transaction(), recipient, guest::content())
                .await?
                .into(),
            Question::Outcome { recipient, route, result } => stage!(outcome)
                .call_outcome(store, guest::transaction(), recipient, route, result)
                .await?
                .into(),
            Question::Dsn { notice } => {
                stage!(dsn).call_dsn(store, guest::transaction(), notice).await?.into()
            }
            Question::Disconnect { how } => {
                stage!(disconnect).call_disconnect(store, guest::session(), how).await?;
                Decision::silent()
            }
        })
    }

    /// Whether every exported stage has the type of the contract. Asked once, when the plugin is loaded.
    fn check_stages(&mut self, core: &Core) -> Vec<String> {
        let (store, instance, exports) = (&mut self.store, &self.instance, &core.exports);
        let mut faults = Vec::new();
        macro_rules! check {
            ($($stage:ident),+) => {$(
                if let Some(Err(error)) = exports.$stage.as_ref().map(|stage| stage.load(&mut *store, instance)) {
                    faults.push(format!("stage {}: {error:#}", stringify!($stage)));
                }
            )+};
        }
        check!(connect, helo, auth, mail, rcpt, data, route, deliver, outcome, dsn, disconnect);
        faults
    }
}

/// Makes a first instance, runs `configure` in it and checks the types of all stages.
pub(crate) async fn probe(core: &Arc<Core>) -> Result<configure::Registration, Vec<String>> {
    let owner = core.clone();
    let core = core.clone();
    let work = async move {
        let (mut instance, registration) =
            Instance::bare(&core).await.map_err(|failure| vec![failure.0])?;
        let faults = instance.check_stages(&core);
        if !faults.is_empty() {
            return Err(faults);
        }
        registration
            .map_err(|text| vec![format!("configure: {}", crate::imports::log::clean(&text, 1000))])
    };
    owner.services.lanes.run(true, Box::pin(work)).await
}

/// One of the plugin's own places, or one of all.
async fn place(
    places: &Arc<Semaphore>,
    services: &Services,
) -> Result<OwnedSemaphorePermit, Failure> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Ok(place);
    }
    tokio::time::timeout(services.slot_wait, places.clone().acquire_owned())
        .await
        .map_err(|_| Failure(format!("{NO_ROOM} within {:?}", services.slot_wait)))?
        .map_err(|_| Failure(STOPPED.into()))
}

fn failure(error: &wasmtime::Error) -> Failure {
    if let Some(exhausted) = error.downcast_ref::<Exhausted>() {
        return Failure(exhausted.to_string());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return Failure(format!("trap: {trap}"));
    }
    Failure(answer::short(&format!("{error:#}")))
}

const NO_ROOM: &str = "no room for an instance";
const STOPPED: &str = "the server stops";
