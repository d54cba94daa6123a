//! Another seam in the place of the live one: what a simulation and a replay do.

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use policy::seam::{Answer, Asker, Fault, Question, Seam};

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
    };
    check("time", "1000 77").await;
    check("random", "[1, 1, 1, 1] 72340172838076673").await;
    check("resolve", "198.51.100.1|10 mail.example|nx|invalid").await;
    check("http", "200 scripted").await;
    check("http-content", "200 scripted").await;
    check("count", r#"HostError::Unavailable("scripted")"#).await;
    check("take", "true 1").await;
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
