//! A domain's mail server as its administrator and its neighbours meet it: the door, addresses, mailboxes, and the way
//! from nothing to a domain that sends and receives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod addresses;
mod door;
mod forwarding;
mod mailboxes;
mod newcomer;

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tests::server::program;
use tests::{Client, Gatepost, Setup};

/// A setup whose clients are who a PROXY header says they are.
fn behind_a_balancer(listener: &str) -> Setup {
    let setup = Setup::new();
    let setup = if listener == "mx" { setup } else { setup.listener(listener, listener) };
    setup.listener_with(listener, "proxy-from = [\"127.0.0.1/32\"]")
}

/// A connection from an address; nothing is read yet.
fn from(server: &Gatepost, listener: &str, address: &str) -> Client {
    let mut client = server.connect(listener);
    client.send(format!("PROXY TCP4 {address} 127.0.0.1 50000 25\r\n").as_bytes()).unwrap();
    client
}

/// A session in TLS; and what AUTH PLAIN was answered in it.
fn login(mut client: Client, name: &str, password: &str) -> (Client, String) {
    client.hello("client.example").unwrap();
    client.secure("client.example").unwrap();
    let response = STANDARD.encode(format!("\0{name}\0{password}"));
    let reply = client.command(&format!("AUTH PLAIN {response}")).unwrap().to_string();
    (client, reply)
}

/// `gatepost user add` beside the server, with a password on standard input.
fn add_user(server: &Gatepost, name: &str, password: &str) {
    let mut command = Command::new(program());
    command.args(["user", "add", name, "--config", "gatepost.toml"]);
    let mut child = command.current_dir(server.folder()).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// One message by a stranger; the reply that ends it.
fn send(server: &Gatepost, from: &str, to: &str, content: &[u8]) -> String {
    server.session().transaction(from, &[to], content).unwrap().to_string()
}
