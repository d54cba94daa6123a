//! What one thing costs, in nanoseconds: `cargo run --release -p micro`, or one of them: `cargo run --release -p micro -- policy`.
//!
//! A program and no `[[bench]]`, so that it is built with what a release build of the server has built already.

mod work;

use std::sync::Arc;
use std::time::Duration;

use auth::dkim::{Algorithm, PrivateKey, Signer};
use auth::{Options, Verifier};
use bytes::Bytes;
use divan::{Bencher, black_box};
use message::trace::{Protocol, Received};
use message::{Body, Edit, Header, Id, Limits, Octets, Watch, compose};
use queue::{Accept, Config, Queue};
use smtp::server::{Answer, Output, Server, Settings};
use smtp::{Envelope, MailParameters, Mailbox, Reply};
use tokio::runtime::Runtime;

use crate::work::{chain, content, now, recipient, session, transaction};

fn main() {
    divan::Divan::from_args().run_benches();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[divan::bench]
fn parse_mailbox() -> Mailbox {
    black_box("some.user+tag@mail.example.org").parse().expect("an address")
}

#[divan::bench]
fn parse_reply() -> Reply {
    black_box("250 2.0.0 Ok: queued as 06H007WQ03FAVFQF").parse().expect("a reply")
}

/// MAIL, RCPT, DATA and content through the machine; every question is answered at once.
#[divan::bench(args = [1024, 10_240, 102_400])]
fn machine_transaction(bencher: Bencher<'_, '_>, octets: usize) {
    let mut settings = Settings::new("mx.example.org");
    (settings.limits.transactions, settings.limits.commands) = (u64::MAX, u64::MAX);
    let mut server = Server::new(settings);
    turn(&mut server, b"EHLO client.example.net\r\n");
    let content = content(octets);
    bencher.bench_local(|| {
        for line in
            ["MAIL FROM:<alice@example.net>\r\n", "RCPT TO:<bob@example.org>\r\n", "DATA\r\n"]
        {
            turn(&mut server, line.as_bytes());
        }
        for piece in content.chunks(16_384) {
            turn(&mut server, piece);
        }
        turn(&mut server, b".\r\n");
    });
}

fn turn(server: &mut Server, octets: &[u8]) {
    server.input().extend_from_slice(octets);
    server.handle_input();
    while let Some(output) = server.poll_output() {
        match output {
            Output::Send(octets) => server.reuse(black_box(octets)),
            Output::Ask(smtp::server::Question::Content) => {
                server.handle_answer(Answer::Accepted(Reply::new(250, "2.0.0 Ok")));
            }
            Output::Ask(_) => server.handle_answer(Answer::Proceed),
            Output::Content(piece) => drop(black_box(piece)),
            Output::Reset | Output::StartTls | Output::Close => {}
        }
    }
}

#[divan::bench(args = [1024, 102_400])]
fn watch_content(bencher: Bencher<'_, '_>, octets: usize) {
    let content = content(octets);
    bencher.bench(|| {
        let mut watch = Watch::new(Limits::default());
        watch.update(black_box(&content));
        watch.finish().expect("no defect")
    });
}

#[divan::bench]
fn header_with_three_edits(bencher: Bencher<'_, '_>) {
    let header = Header::parse(content(1024));
    let received = Received {
        from_helo: "client.example.net",
        client: Some([192, 0, 2, 1].into()),
        client_name: None,
        by: "mx.example.org",
        protocol: Protocol { extended: true, ..Protocol::default() },
        id: Id::new(now(), 1),
        for_: None,
        time: now(),
        tls: None,
    };
    bencher.bench(|| {
        let edits = [
            black_box(&received).to_field(),
            Edit::add("X-Seen-By", "Gatepost").expect("a field"),
            Edit::remove("Subject", None).expect("a name"),
        ];
        compose(&header, &edits)
    });
}

fn key(algorithm: &str) -> PrivateKey {
    let algorithm =
        if algorithm == "rsa" { Algorithm::RsaSha256 } else { Algorithm::Ed25519Sha256 };
    PrivateKey::generate(algorithm).expect("a key")
}

#[divan::bench(args = ["rsa", "ed25519"])]
fn dkim_sign(bencher: Bencher<'_, '_>, algorithm: &str) {
    let signer = Signer::new("example.net", "s", Arc::new(key(algorithm))).expect("a signer");
    let content = content(10_240);
    let header = Header::parse(content.clone());
    let offset = header.body_offset();
    bencher.bench(|| signer.sign(&header, &content, offset, now()).expect("a signature"));
}

/// The key comes from a table, not from the network.
#[divan::bench(args = ["rsa", "ed25519"])]
fn dkim_verify(bencher: Bencher<'_, '_>, algorithm: &str) {
    let key = key(algorithm);
    let zone = net::Zone::default();
    let record = net::Record::Txt(key.record().expect("a record").into_bytes());
    zone.add("s._domainkey.example.net", net::Kind::Txt, record);
    let signer = Signer::new("example.net", "s", Arc::new(key)).expect("a signer");
    let plain = content(10_240);
    let header = Header::parse(plain.clone());
    let field = signer.sign(&header, &plain, header.body_offset(), now()).expect("a signature");
    let head = compose(&header, &[field]).head;
    let signed = Bytes::from([&head[..], &plain[header.body_offset() as usize..]].concat());
    let header = Header::parse(signed.clone());
    let octets: Arc<dyn Octets> = Arc::new(signed);
    let verifier = Verifier::new(net::Resolver::zone(zone), Options::default());
    let runtime = runtime();
    let verify = || runtime.block_on(verifier.dkim(&header, &octets, now()));
    assert_eq!(verify().len(), 1);
    bencher.bench(verify);
}

/// One commit at a time: what a session waits for alone, the flush included.
#[divan::bench(sample_count = 200)]
fn spool_commit(bencher: Bencher<'_, '_>) {
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let mut config = Config::new(folder.path());
    config.hold = Some("held".to_owned());
    let (queue, _) = runtime.block_on(Queue::open(config)).expect("a queue");
    let (body, mut number) = (content(1024), 0);
    bencher.bench_local(|| {
        number += 1;
        runtime.block_on(async {
            let envelope = Envelope {
                reverse_path: "alice@example.net".parse().expect("an address"),
                parameters: MailParameters::default(),
                recipients: vec![recipient()],
            };
            let head = Bytes::from_static(b"Subject: measured\r\n\r\n");
            let accept = Accept::new(envelope, head, Body::Received { offset: 0 }, now());
            let id = Id::new(now() + Duration::from_millis(number), 0);
            let mut draft = queue.draft(id).expect("room");
            draft.write(body.clone()).await.expect("a draft");
            queue.commit(draft, accept).await.expect("a receipt")
        })
    });
    runtime.block_on(queue.shutdown());
}

/// One question to one bundled plugin whose instance is there.
#[divan::bench(args = ["helo of dnsbl", "mail of dnsbl", "rcpt of greylist", "rcpt of rewrite", "data of rewrite"])]
fn policy_call(bencher: Bencher<'_, '_>, call: &str) {
    let (stage, plugin) = call.split_once(" of ").expect("stage and plugin");
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let (_host, chain) = runtime.block_on(chain(folder.path(), &[plugin]));
    let mut session = session(&chain);
    let octets = content(1024);
    let view = Arc::new(policy::ContentView::new(Header::parse(octets.clone()), Arc::new(octets)));
    let mut transaction = transaction();
    bencher.bench_local(|| {
        runtime.block_on(async {
            match stage {
                "helo" => drop(session.helo("client.example.net", true).await),
                "mail" => drop(session.mail(&mut transaction).await),
                "rcpt" => drop(session.rcpt(&mut transaction, recipient()).await),
                _ => drop(session.data(&mut transaction, Arc::clone(&view)).await),
            }
            transaction.recipients.clear();
            transaction.trace.clear();
            transaction.edits.clear();
        });
    });
}

/// A session that asks a plugin once: make an instance, configure it, ask, drop it.
#[divan::bench(args = ["dnsbl", "greylist", "rewrite"])]
fn policy_instance(bencher: Bencher<'_, '_>, plugin: &str) {
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let (_host, chain) = runtime.block_on(chain(folder.path(), &[plugin]));
    bencher.bench_local(|| {
        runtime.block_on(async {
            let mut session = session(&chain);
            session.rcpt(&mut transaction(), recipient()).await
        })
    });
}
