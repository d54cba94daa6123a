//! What is counted. Each does the same work each time, on one thread, without a clock where that can be.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bytes::Bytes;
use message::trace::{Protocol, Received};
use message::{Body, Edit, Header, Id, Limits, Watch, compose};
use queue::{Accept, Config, Queue};
use smtp::server::{Answer, Output, Question, Server, Settings};
use smtp::{Envelope, MailParameters, Mailbox, RcptParameters, Recipient, Reply};

/// A scenario by its name: does its work so many times.
pub(crate) type Scenario = (&'static str, fn(usize) -> Result<()>);

/// All of them.
pub(crate) const ALL: [Scenario; 8] = [
    ("smtp-mailbox", mailbox),
    ("smtp-reply", reply),
    ("smtp-transaction-1k", transaction_1k),
    ("smtp-transaction-100k", transaction_100k),
    ("message-watch-10k", watch),
    ("message-received-and-compose", received),
    ("queue-commit-one-by-one", commit_one_by_one),
    ("queue-commit-twenty-at-once", commit_twenty),
];

fn mailbox(count: usize) -> Result<()> {
    for _ in 0..count {
        let mailbox: Mailbox = black_box("some.user+tag@mail.example.org").parse()?;
        black_box(mailbox.to_string());
    }
    Ok(())
}

fn reply(count: usize) -> Result<()> {
    let mut out = Vec::new();
    for _ in 0..count {
        out.clear();
        Reply::new(250, black_box("2.0.0 Ok: queued as 06H007WQ03FAVFQF")).write(&mut out);
        black_box(&out);
    }
    Ok(())
}

fn transaction_1k(count: usize) -> Result<()> {
    transactions(count, 1024)
}

fn transaction_100k(count: usize) -> Result<()> {
    transactions(count, 102_400)
}

/// MAIL, RCPT, DATA and content through the machine, in the pieces in which a socket brings them.
fn transactions(count: usize, octets: usize) -> Result<()> {
    let mut settings = Settings::new("mx.example.org");
    (settings.limits.transactions, settings.limits.commands) = (u64::MAX, u64::MAX);
    let mut server = Server::new(settings);
    turn(&mut server, b"");
    turn(&mut server, b"EHLO client.example.net\r\n");
    let content = content(octets);
    for _ in 0..count {
        turn(&mut server, b"MAIL FROM:<alice@example.net> SIZE=1024\r\n");
        turn(&mut server, b"RCPT TO:<bob@example.org>\r\n");
        turn(&mut server, b"DATA\r\n");
        for piece in content.chunks(16_384) {
            turn(&mut server, piece);
        }
        turn(&mut server, b".\r\n");
    }
    Ok(())
}

/// One read, and everything that follows from it.
fn turn(server: &mut Server, octets: &[u8]) {
    server.input().extend_from_slice(octets);
    server.handle_input();
    while let Some(output) = server.poll_output() {
        match output {
            Output::Send(octets) => server.reuse(black_box(octets)),
            Output::Ask(Question::Content) => {
                server.handle_answer(Answer::Accepted(Reply::new(250, "2.0.0 Ok")));
            }
            Output::Ask(question) => {
                black_box(question);
                server.handle_answer(Answer::Proceed);
            }
            Output::Content(piece) => drop(black_box(piece)),
            Output::Reset | Output::StartTls | Output::Close => {}
        }
    }
}

fn watch(count: usize) -> Result<()> {
    let content = multipart(10_240);
    for _ in 0..count {
        let mut watch = Watch::new(Limits::default());
        for piece in content.chunks(4096) {
            watch.update(piece);
        }
        black_box(watch.finish().map_err(|defect| anyhow::anyhow!("{defect}"))?);
    }
    Ok(())
}

fn received(count: usize) -> Result<()> {
    let header = Header::parse(Bytes::from(content(1024)));
    let mailbox: Mailbox = "bob@example.org".parse()?;
    for number in 0..count {
        let received = Received {
            from_helo: "client.example.net",
            client: Some([192, 0, 2, 1].into()),
            client_name: None,
            by: "mx.example.org",
            protocol: Protocol { extended: true, ..Protocol::default() },
            id: Id::new(at(number), number as u32),
            for_: Some(&mailbox),
            time: at(number),
            tls: None,
        };
        let edits = [received.to_field(), Edit::add("X-Seen-By", "Gatepost")?];
        black_box(compose(&header, &edits));
    }
    Ok(())
}

fn commit_one_by_one(count: usize) -> Result<()> {
    commit(count, 1)
}

fn commit_twenty(count: usize) -> Result<()> {
    commit(count, 20)
}

/// Messages that are held, into a spool on the disk.
fn commit(count: usize, at_once: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut config = Config::new(folder.path());
        config.hold = Some("held".to_owned());
        let (queue, _) = Queue::open(config).await?;
        let body = Bytes::from(content(1024));
        for round in 0..count.div_ceil(at_once) {
            let first = round * at_once;
            let tasks = (first..first + at_once)
                .map(|number| tokio::spawn(one(queue.clone(), body.clone(), number)));
            for task in tasks.collect::<Vec<_>>() {
                task.await??;
            }
        }
        queue.shutdown().await;
        Ok(())
    })
}

async fn one(queue: Queue, body: Bytes, number: usize) -> Result<()> {
    let recipients =
        vec![Recipient { path: "bob@example.org".parse()?, parameters: RcptParameters::default() }];
    let envelope = Envelope {
        reverse_path: "alice@example.net".parse()?,
        parameters: MailParameters::default(),
        recipients,
    };
    let head = Bytes::from_static(b"Subject: counted\r\n\r\n");
    let accept = Accept::new(envelope, head, Body::Received { offset: 0 }, at(number));
    let mut draft = queue.draft(Id::new(at(number), number as u32))?;
    draft.write(body).await?;
    queue.commit(draft, accept).await?;
    Ok(())
}

/// Times that differ and are the same in each run.
fn at(number: usize) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_298_400_000 + number as u64)
}

fn content(octets: usize) -> Vec<u8> {
    let mut text = String::from(
        "From: Alice <alice@example.net>\r\nTo: Bob <bob@example.org>\r\nSubject: counted\r\n\
         Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n\r\n",
    );
    while text.len() < octets {
        text.push_str("The quick brown fox jumps over the lazy dog, and does so again.\r\n");
    }
    text.into_bytes()
}

fn multipart(octets: usize) -> Vec<u8> {
    let mut text = String::from(
        "From: Alice <alice@example.net>\r\nTo: Bob <bob@example.org>\r\nSubject: counted\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\n\r\n",
    );
    while text.len() < octets {
        text.push_str("--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
        for _ in 0..20 {
            text.push_str("The quick brown fox jumps over the lazy dog, and does so again.\r\n");
        }
    }
    text.push_str("--b--\r\n");
    text.into_bytes()
}
