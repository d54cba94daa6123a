//! A real DNS server, dnsmasq, that knows what a test tells it and nothing else.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::foreign::Foreign;
use crate::place::{eventually, free_port};
use crate::process::Process;

/// A running dnsmasq.
pub struct Dns {
    _process: Process,
    address: String,
}

/// Its options: see `dnsmasq --help dhcp` and the functions here.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    options: Vec<String>,
}

impl Zone {
    /// `name MX preference host`.
    pub fn mx(mut self, name: &str, preference: u16, host: &str) -> Self {
        self.options.push(format!("--mx-host={name},{host},{preference}"));
        self
    }

    /// `name A address`, or AAAA.
    pub fn host(mut self, name: &str, address: &str) -> Self {
        self.options.push(format!("--host-record={name},{address}"));
        self
    }

    /// `name TXT "…" "…"`, as zone files have the strings, in parentheses or not; text without quotes is one string.
    pub fn txt(mut self, name: &str, text: &str) -> Self {
        let quoted: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
        let strings = if quoted.is_empty() { vec![text] } else { quoted };
        // On its command line a quote is part of the text, and a comma begins the next string.
        assert!(!strings.concat().contains(','), "a comma in the TXT record of {name}");
        self.options.push(format!("--txt-record={name},{}", strings.join(",")));
        self
    }

    /// `name SRV 0 1 port host`
    pub fn srv(mut self, name: &str, host: &str, port: &str) -> Self {
        self.options.push(format!("--srv-host={name},{host},{port},0,1"));
        self
    }

    /// RFC 7505: `name MX 0 .`
    pub fn null_mx(mut self, name: &str) -> Self {
        // Record type 15, preference 0, and the root: dnsmasq can't be told so by --mx-host.
        self.options.push(format!("--dns-rr={name},15,000000"));
        self
    }

    /// `name TXT text`, in strings of 255 octets. dnsmasq takes a comma for the end of a string, so there is none in it.
    pub fn text(mut self, name: &str, text: &str) -> Self {
        assert!(!text.contains(','), "{text}");
        let strings: Vec<String> =
            text.as_bytes().chunks(250).map(|one| String::from_utf8_lossy(one).into()).collect();
        self.options.push(format!("--txt-record={name},{}", strings.join(",")));
        self
    }
}

impl Dns {
    /// Serves `zone` on a free port of 127.0.0.1.
    pub fn start(dnsmasq: &Foreign, zone: &Zone, folder: &Path) -> Self {
        Self::start_at(dnsmasq, zone, "127.0.0.1", free_port(), folder)
    }

    /// Serves `zone` at an address of this machine.
    pub fn start_at(dnsmasq: &Foreign, zone: &Zone, ip: &str, port: u16, folder: &Path) -> Self {
        let mut command = Command::new(&dnsmasq.path);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-"]);
        command.args([
            "--no-resolv",
            "--no-hosts",
            "--no-ping",
            "--bind-interfaces",
            "--pid-file=",
        ]);
        command.args(["--user=", "--group=", "--log-queries", "--cache-size=0", "--local=/#/"]);
        command.arg(format!("--listen-address={ip}")).arg(format!("--port={port}"));
        command.args(&zone.options);
        let mut process = Process::start("dnsmasq", &mut command, &folder.join("dnsmasq.log"));
        let address = format!("{ip}:{port}");
        eventually("dnsmasq", || {
            assert!(process.ended().is_none(), "dnsmasq ended: {}", process.log());
            answers(&address).then_some(())
        });
        Self { _process: process, address }
    }

    /// Where it listens, as `[dns] servers` wants it.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Asks for the root's name servers; any answer will do.
fn answers(address: &str) -> bool {
    let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01";
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return false };
    let mut answer = [0; 512];
    socket.set_read_timeout(Some(Duration::from_millis(500))).is_ok()
        && socket.send_to(question, address).is_ok()
        && socket.recv(&mut answer).is_ok()
}
