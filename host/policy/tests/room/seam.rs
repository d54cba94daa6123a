//! Another seam in the place of the live one: what a simulation and a replay do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use policy::seam::{Answer, Asker, Fault, Question, Seam};
use policy::trace::Asked;
use policy::{HostConfig, TableKind, TableSource, Tables};

use crate::support::{World, addressed, content, granted};

/// Answers some questions by itself, and writes all of them down.
struct Scripted {
    live: Arc<dyn Seam>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn script(&self, asker: &Asker, question: &Question) -> Option<Result<Answer, Fault>> {
        let line = serde_json::to_string(question).unwrap();
        let again: Question = serde_json::from_str(&line).unwrap();
        assert_eq!(&again, question, "a question survives its JSON");
        self.asked.lock().unwrap().push(format!("{} {} {line}", asker.plugin(), asker.stage));
        Some(match question {
            Question::Now => Ok(Answer::Time { seconds: 1_000, nanoseconds: 0 }),
            Question::Monotonic => Ok(Answer::Nanoseconds(77)),
            Question::Random { octets } => Ok(Answer::Octets(vec![1; *octets as usize])),
            Question::Dns { name, .. } if name == "a.example" => {
                let text = r#"{"records":{"records":["198.51.100.1"],"nxdomain":false,"ttl":60}}"#;
                Ok(serde_json::from_str(text).unwrap())
            }
            Question::Http { .. } => Ok(Answer::Response {
                status: 200,
                headers: Vec::new(),
                body: b"scripted".to_vec(),
            }),
            Question::KvIncrement { .. } => Err(Fault::Unavailable("scripted".into())),
            _ => return None,
        })
    }
}

impl Seam for Scripted {
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        self.script(asker, &question).unwrap_or_else(|| self.live.at_once(asker, question))
    }

    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>> {
        match self.script(asker, &question) {
            Some(answer) => Box::pin(async { answer }),
            None => self.live.later(asker, question),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_world_comes_through_the_seam() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let writer = asked.clone();
    let world = World::with(move |config| {
        config.seam = Arc::new(move |live| Arc::new(Scripted { live, asked: writer.clone() }));
    });
    let check = async |act: &str, expected: &str| {
        let mut config = granted("g", &[("data", act)]);
        config.config["url"] = "https://scan.example/".into();
        config.grants.http = vec!["scan.example".parse().unwrap()];
        let mut session = world.session(config).await;
        let mut transaction = addressed();
        session.data(&mut transaction, content()).await;
        let entry = &transaction.trace[0];
        assert_eq!(entry.reason.as_deref(), Some(expected), "{:?}", entry.error);
        let told = |asked: &Asked| format!("{} {}: {:?}", asked.what, asked.about, asked.answer);
        (entry.host_calls, entry.asked.iter().map(told).collect::<Vec<_>>())
    };
    let (calls, told) = check("time", "1000 77").await;
    assert!(calls >= 2, "the trace counts {calls} host calls");
    assert_eq!(told, ["clock.now : None", "clock.monotonic : None"]);
    check("random", "[1, 1, 1, 1] 72340172838076673").await;
    let (_, told) = check("resolve", "198.51.100.1|10 mail.example|nx|invalid").await;
    assert_eq!(told[0], "dns A a.example: Some(\"198.51.100.1\")");
    let (_, told) = check("http", "200 scripted").await;
    assert_eq!(told, ["http POST https://scan.example/: Some(\"200, 8 octets\")"]);
    check("http-content", "200 scripted").await;
    let (_, told) = check("count", r#"HostError::Unavailable("scripted")"#).await;
    assert_eq!(told, ["kv.increment calls: Some(\"unavailable: scripted\")"]);
    let (_, told) = check("take", "true 1").await;
    assert_eq!(told, ["rate-limit.take key: Some(\"allowed, 1 left\")"]);
    let asked = asked.lock().unwrap();
    for question in [
        r#"g data {"ask":"now"}"#,
        r#"g data {"ask":"random","octets":8}"#,
        r#"g data {"ask":"dns","name":"a.example","kind":"A"}"#,
        r#"g data {"ask":"take","key":"key","tokens":1,"capacity":2,"seconds":3600}"#,
        r#"g data {"ask":"kv-increment","key":"calls","delta":1,"ttl":3600}"#,
    ] {
        assert!(asked.iter().any(|line| line == question), "{question} in {asked:#?}");
    }
    assert!(
        asked
            .iter()
            .any(|line| line.contains(r#""ask":"http""#) && line.contains(r#""body":"body;""#))
    );
}

/// What was asked and answered: a line of JSON for each, as a file would have them.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<String>>>);

/// Who asked, what, and what the answer was.
type Line = (String, Question, Result<Answer, Fault>);

impl Tape {
    fn write(&self, asker: &Asker, question: Question, answer: Result<Answer, Fault>) {
        let line: Line = (asker.plugin().to_owned(), question, answer);
        self.0.lock().unwrap().push(serde_json::to_string(&line).unwrap());
    }

    /// The first line with this question, which is no longer on the tape then.
    fn read(&self, asker: &Asker, question: &Question) -> Result<Answer, Fault> {
        let mut lines = self.0.lock().unwrap();
        let fits = |line: &String| {
            let (plugin, asked, _): Line = serde_json::from_str(line).unwrap();
            plugin == asker.plugin() && asked == *question
        };
        let Some(at) = lines.iter().position(fits) else {
            return Err(Fault::Other(format!("not on the tape: {question:?}")));
        };
        let (_, _, answer): Line = serde_json::from_str(&lines.remove(at)).unwrap();
        answer
    }
}

/// Lets the world answer, and writes down what it said.
struct Recorder {
    live: Arc<dyn Seam>,
    tape: Tape,
}

impl Seam for Recorder {
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        let answer = self.live.at_once(asker, question.clone());
        self.tape.write(asker, question, answer.clone());
        answer
    }

    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>> {
        Box::pin(async move {
            let answer = self.live.later(asker, question.clone()).await;
            self.tape.write(asker, question, answer.clone());
            answer
        })
    }
}

/// Has no world, but the tape of one.
struct Player(Tape);

impl Seam for Player {
    fn at_once(&self, asker: &Asker, question: Question) -> Result<Answer, Fault> {
        self.0.read(asker, &question)
    }

    fn later<'a>(
        &'a self,
        asker: &'a Asker,
        question: Question,
    ) -> BoxFuture<'a, Result<Answer, Fault>> {
        Box::pin(async move { self.0.read(asker, &question) })
    }
}

/// A host with a table of one line.
fn with_table(aliases: &str, change: impl FnOnce(&mut HostConfig)) -> World {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("aliases");
    std::fs::write(&path, aliases).unwrap();
    let source = TableSource { name: "aliases".into(), path, kind: TableKind::Address };
    let tables = Tables::load(vec![source]).unwrap();
    World::with(|config| {
        config.tables = tables;
        change(config);
    })
}

/// What a plugin makes of each kind of answer.
async fn told(world: &World, url: &str) -> Vec<String> {
    let mut told = Vec::new();
    for act in ["time", "random", "resolve", "names", "http", "count", "keys", "take", "look-up"] {
        let mut config = granted("g", &[("data", act)]);
        config.config["url"] = url.into();
        config.grants.http = vec![url.trim_end_matches('/').parse().unwrap()];
        config.grants.lookup = vec!["aliases".into()];
        let mut session = world.session(config).await;
        let mut transaction = addressed();
        session.data(&mut transaction, content()).await;
        let entry = &transaction.trace[0];
        told.push(format!("{act}: {} {:?} {:?}", entry.verdict, entry.reason, entry.error));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_replayed_without_the_world() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"body;") {
            let mut piece = [0; 1000];
            let octets = stream.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..octets]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlive").unwrap();
    });
    let tape = Tape::default();
    let writing = tape.clone();
    let world = with_table("bob@example.org live\n", move |config| {
        config.seam = Arc::new(move |live| Arc::new(Recorder { live, tape: writing.clone() }));
    });
    let recorded = told(&world, &url).await;
    for word in ["192.0.2.7|10 mail.example", "200 live", "true 1", "Some(\\\"live\\\")"] {
        assert!(recorded.iter().any(|line| line.contains(word)), "{word} in {recorded:#?}");
    }
    server.join().unwrap();

    // Nobody listens any more, no name has an address, the store is empty and the table says something else.
    let lines = tape.0.lock().unwrap().len();
    let playing = tape.clone();
    let world = with_table("bob@example.org other\n", move |config| {
        config.resolver = net::Resolver::zone(net::Zone::default());
        config.seam = Arc::new(move |_| Arc::new(Player(playing.clone())));
    });
    assert_eq!(told(&world, &url).await, recorded);
    assert!(tape.0.lock().unwrap().is_empty(), "everything was asked again");
    eprintln!("{lines} answers recorded and replayed");
}
