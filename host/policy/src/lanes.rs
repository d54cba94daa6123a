//! Where calls run, so that a plugin that computes for long takes nothing from anybody but others of its kind.
//!
//! A call begins on the thread that asks: most are over in microseconds. One that is interrupted there after a whole tick
//! of execution leaves it for the quick lane, a runtime of its own, and the next calls of its plugin begin there. Who has
//! had two more ticks goes on in the long lane: fewer threads, of less importance, on which all calls of this kind take
//! turns, a tick each. So a call is behind others only for as long as it is itself, and sixty endless loops share what one
//! would get.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use cpu_time::ThreadTime;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

/// The threads of the guests. They live as long as any session that may need them.
pub(crate) struct Lanes {
    quick: Lane,
    long: Lane,
}

struct Lane(Option<Runtime>);

/// Where a thread is when it polls a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// With the one who asks.
    Asking,
    Quick,
    Long,
}

/// What a tick means for the call that it interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// The call may go on: how long it has run is not known yet, or its thread was not running.
    GoOn,
    /// It has run for so long since it was last asked. It gives way.
    GiveWay(Duration),
    /// The same, and it was on the thread that asks, which it leaves.
    Leave(Duration),
}

/// A call. In a box, because it goes from thread to thread.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Lanes {
    /// Starts the threads: so many for the quick lane, half as many for the other.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        Ok(Self {
            quick: Lane::start("policy-quick", threads, QUICK_NICE)?,
            long: Lane::start("policy-long", threads.div_ceil(2), LONG_NICE)?,
        })
    }

    /// A runtime that is none of the server's.
    pub(crate) fn handle(&self) -> &Handle {
        self.quick.handle()
    }

    /// Runs a call where it belongs: on this thread at first, unless `slow` says that this plugin's calls are long.
    pub(crate) async fn run<T: Send + 'static>(&self, slow: bool, mut work: Work<T>) -> T {
        if !slow {
            work = match leg(Place::Asking, work).await {
                Ok(done) => return done,
                Err(unfinished) => unfinished,
            };
        }
        match joined(self.quick.handle().spawn(leg(Place::Quick, work))).await {
            Ok(done) => done,
            Err(unfinished) => {
                let last = async { leg(Place::Long, unfinished).await.ok() };
                joined(self.long.handle().spawn(last)).await.expect("nothing leaves the last lane")
            }
        }
    }
}

impl Lane {
    fn start(name: &str, threads: usize, nice: i32) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            // Who comes anew goes before those who were interrupted, and a poll may take a whole tick.
            .global_queue_interval(1)
            .event_interval(4)
            .on_thread_start(move || {
                // On Linux this is the thread's own. Where it is refused, guests are as important as sockets.
                let _ = rustix::process::nice(nice);
            })
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("the threads run until this is dropped").handle()
    }
}

impl Drop for Lane {
    /// Nobody waits for an answer any more. What still runs is cut off at its next tick.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Works in one place until it is done or has to leave.
async fn leg<T>(place: Place, mut work: Work<T>) -> Result<T, Work<T>> {
    let done = poll_fn(|context| {
        // In a lane the clock of the thread is read once for each turn. Who asks does not pay for that.
        let began = (place != Place::Asking).then(ThreadTime::now);
        TURN.set(Turn { place, began, leaves: false });
        let polled = work.as_mut().poll(context);
        let turn = TURN.replace(Turn::NONE);
        match polled {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if turn.leaves => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    done.await.ok_or(work)
}

/// A tick interrupted the guest that this thread runs. `had` is what is known to be used up by its call, `again` whether
/// it was told to go on before.
pub(crate) fn tick(tick: Duration, had: Duration, again: bool) -> Tick {
    let mut turn = TURN.get();
    let now = ThreadTime::now();
    let spent = turn.began.map(|began| now.duration_since(began));
    turn.began = Some(now);
    let said = match (turn.place, spent) {
        // The first tick may have come at once, and the second to a thread that did not run. One that waits for the host
        // between any two has seen its first one, too.
        (Place::Asking, None) if !again => Tick::GoOn,
        (Place::Asking, Some(spent)) if spent < tick / 2 => Tick::GoOn,
        (Place::Asking, spent) => {
            turn.leaves = true;
            Tick::Leave(spent.unwrap_or(tick))
        }
        (Place::Quick, spent) => {
            let spent = spent.unwrap_or_default();
            turn.leaves = had + spent >= QUICK_TICKS * tick;
            Tick::GiveWay(spent)
        }
        (Place::Long, spent) => Tick::GiveWay(spent.unwrap_or_default()),
    };
    TURN.set(turn);
    said
}

/// One poll of a call.
#[derive(Clone, Copy)]
struct Turn {
    place: Place,
    /// The time of the thread at the last look.
    began: Option<ThreadTime>,
    leaves: bool,
}

impl Turn {
    const NONE: Self = Self { place: Place::Asking, began: None, leaves: false };
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::NONE) };
}

/// The answer of a task that ends with the one that waits for it.
async fn joined<T>(task: JoinHandle<T>) -> T {
    let mut task = Abort(task);
    match (&mut task.0).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down, and the server with it: nobody will hear an answer.
        Err(_) => std::future::pending().await,
    }
}

struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Ticks of execution in the quick lane, after which a call belongs to the long ones.
const QUICK_TICKS: u32 = 2;
/// Sockets go first: of two threads that both want a core, the guest's gets a third.
const QUICK_NICE: i32 = 3;
/// The same for those who want it all the time: a tenth.
const LONG_NICE: i32 = 10;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const TICK: Duration = Duration::from_millis(2);

    /// A call that computes for so many ticks, and where it was at each of them.
    async fn compute(ticks: u32) -> Vec<String> {
        let places = Arc::new(Mutex::new(Vec::new()));
        let (mut had, mut again) = (Duration::ZERO, false);
        for _ in 0..ticks {
            let began = ThreadTime::now().as_duration();
            while ThreadTime::now().as_duration() - began < TICK {}
            places.lock().unwrap().push(std::thread::current().name().unwrap_or("?").to_owned());
            match tick(TICK, had, again) {
                Tick::GoOn => again = true,
                Tick::GiveWay(spent) | Tick::Leave(spent) => {
                    had += spent;
                    tokio::task::yield_now().await;
                }
            }
        }
        places.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_call_is_where_calls_of_its_length_are() {
        let lanes = Lanes::start(2).unwrap();
        let here = std::thread::current().name().unwrap_or("?").to_owned();
        let places = lanes.run(false, Box::pin(compute(8))).await;
        let expected: Vec<&str> =
            [&*here; 2].into_iter().chain(["policy-quick"; 1]).chain(["policy-long"; 5]).collect();
        assert_eq!(places, expected);
        assert_eq!(lanes.run(false, Box::pin(compute(1))).await, [&*here]);
        assert_eq!(lanes.run(true, Box::pin(compute(1))).await, ["policy-quick"]);
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_ends() {
        struct Ends(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Ends {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let lanes = Lanes::start(1).unwrap();
        let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
        let ends = Ends(ends);
        let endless = async move {
            let _ends = ends;
            compute(u32::MAX).await
        };
        drop(tokio::time::timeout(TICK * 10, lanes.run(true, Box::pin(endless))).await);
        assert_eq!(ended.recv().await, Some(()));
    }
}
