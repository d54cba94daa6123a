//! The section "A domain of your own" of README.md, followed to the letter with a DNS of the test's own, and a neighbour
//! with whom mail is exchanged and who looks closely at what it gets.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::dns::{Dns, Zone};
use tests::maildir::{self, header};
use tests::process::{Process, finish};
use tests::server::program;
use tests::{Client, Foreign, Gatepost, Setup, eventually, free_port, letter, root};

/// The commands of the section that begin with `gatepost`.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("## A domain of your own").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter_map(|line| line.strip_prefix("    gatepost "));
    lines.map(str::to_owned).collect()
}

/// Runs a command in the newcomer's folder, with a line for its standard input.
fn gatepost(folder: &Path, arguments: &str, input: &str) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(arguments.split_whitespace()).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read has ended by now, perhaps.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

/// The records in the output of `gatepost dns`, for dnsmasq.
fn zone_of(printed: &str, mut zone: Zone) -> Zone {
    for line in printed.lines().filter(|line| !line.starts_with(';')) {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let [name, kind, content] = words.as_slice() else { continue };
        let name = name.trim_end_matches('.');
        let last = |text: &str| text.rsplit(' ').next().unwrap().trim_end_matches('.').to_owned();
        zone = match *kind {
            "MX" => zone.mx(name, 10, &last(content)),
            "TXT" => zone.txt(name, content),
            "SRV" => {
                let port = content.split(' ').nth(2).unwrap();
                zone.srv(name, &last(content), port)
            }
            // The host is in the test's zone from the beginning; its PTR comes with it.
            _ => zone,
        };
    }
    zone
}

const PASSWORD: &str = "a password of alice";

#[test]
fn the_readme_leads_from_nothing_to_a_domain_that_sends_and_receives() {
    let Some(dnsmasq) = Foreign::need("a newcomer's domain", "dnsmasq") else { return };
    let commands = commands();
    let [check, dkim, user, dns, run] = commands.as_slice() else { panic!("{commands:?}") };

    // The neighbour: example.net, on the same machine with other ports.
    let neighbour = Setup::new();
    let ports = [free_port(), free_port(), free_port()];
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let dns_port = free_port();
    let base = || {
        Zone::default()
            .host("mx.example.org", "127.0.0.1")
            .host("mx.example.net", "127.0.0.1")
            .mx("example.net", 10, "mx.example.net")
            .txt("example.net", "\"v=spf1 mx -all\"")
    };
    let logs = tempfile::tempdir().unwrap();
    let server = Dns::start_at(&dnsmasq, &base(), "127.0.0.1", dns_port, logs.path());

    // Steps 1 and 2: the file, with ports that a test may have, and a DNS that is ours.
    let mut text = fs::read_to_string(root().join("config/domain.toml")).unwrap();
    for (address, port) in ["0.0.0.0:25", "0.0.0.0:465", "0.0.0.0:587"].iter().zip(ports) {
        assert!(text.contains(address));
        text = text.replace(address, &format!("127.0.0.1:{port}"));
    }
    text = text.replace("http = \"127.0.0.1:2580\"", "");
    text += &format!(
        "\n[dns]\nservers = [\"127.0.0.1:{dns_port}\"]\n[delivery]\nport = {}\n",
        neighbour.port("mx")
    );
    fs::write(here.join("gatepost.toml"), &text).unwrap();
    let (good, said) = gatepost(here, check, "");
    assert!(good, "{said}");

    // Step 3: the key; what it prints goes into the file.
    let (good, said) = gatepost(here, dkim, "");
    assert!(good, "{said}");
    let section = said.split_once("[[dkim]]").expect("a section").1;
    fs::write(here.join("gatepost.toml"), format!("{text}\n[[dkim]]{section}")).unwrap();

    // Step 4.
    let (good, said) = gatepost(here, user, &format!("{PASSWORD}\n"));
    assert!(good, "{said}");

    // Step 5: what is missing is told, and there once it was put into the zone.
    let (good, printed) = gatepost(here, dns, "");
    assert!(!good && printed.contains("; MISSING"), "{printed}");
    drop(server);
    let _server =
        Dns::start_at(&dnsmasq, &zone_of(&printed, base()), "127.0.0.1", dns_port, logs.path());
    let (good, printed) = gatepost(here, dns, "");
    assert!(good && !printed.contains("MISSING") && !printed.contains("DIFFERS"), "{printed}");

    // Step 6.
    let mut command = Command::new(program());
    command.args(run.split_whitespace()).current_dir(here);
    let ours = Process::start("gatepost", &mut command, &logs.path().join("ours"));
    eventually("the server", || ours.log().contains("gatepost: ready").then_some(()));
    let neighbour = neighbour
        .without("domain")
        .with(&format!(
            "hostname = \"mx.example.net\"\n[dns]\nservers = [\"127.0.0.1:{dns_port}\"]\n[delivery]\nport = {}\n\
             [authentication]\nexcept-from = []\n[relay]\nfrom = []\n\
             [[domain]]\nname = \"example.net\"\nusers = [\"bob\"]\ndeliver = \"maildir:var/mail/{{domain}}/{{user}}\"",
            ports[0]
        ))
        .start();

    // Step 7: alice writes to bob, and what she sends is believed there.
    sends(ports[1], &neighbour);
    // And bob to alice.
    let mut client = Client::connect(("127.0.0.1", ports[0])).unwrap();
    client.hello("mx.example.net").unwrap();
    let told =
        client.transaction("bob@example.net", &["alice@example.org"], &letter::plain("answer"));
    assert_eq!(told.unwrap().code, 250);
    let mailbox = here.join("mail/example.org/alice");
    eventually("mail for alice", || {
        maildir::messages(&mailbox)
            .iter()
            .any(|one| maildir::contains(one, b"answer"))
            .then_some(())
    });
    let stranger = client.transaction("bob@example.net", &["carol@example.com"], b"x\r\n").unwrap();
    assert_eq!(stranger.code, 550, "it relays for nobody");
    let list = finish(
        Command::new(program())
            .args(["queue", "list", "--config", "gatepost.toml"])
            .current_dir(here),
    );
    assert!(list.status.success(), "{}", list.stderr);
}

#[test]
fn systemd_takes_the_unit() {
    let name = "the unit for systemd";
    let Some(analyze) = Foreign::need(name, "systemd-analyze") else { return };
    let unit = fs::read_to_string(root().join("config/gatepost.service")).unwrap();
    let installed = "/usr/local/bin/gatepost";
    assert!(unit.contains(installed));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gatepost.service");
    fs::write(&file, unit.replace(installed, program().to_str().unwrap())).unwrap();
    let found = finish(Command::new(&analyze.path).arg("verify").arg(&file));
    // What it warns of does not change its status.
    assert!(found.status.success() && found.stderr.is_empty(), "{}", found.stderr);
}

/// Alice's mail program, with TLS from the first octet.
fn sends(port: u16, neighbour: &Gatepost) {
    let mut client = Client::connect(("127.0.0.1", port)).unwrap();
    client.start_tls().unwrap();
    let (mut client, told) = login_in_tls(client);
    assert!(told.starts_with("235"), "{told}");
    let content = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\n\r\nIt works.\r\n";
    let told = client.transaction("alice@example.org", &["bob@example.net"], content).unwrap();
    assert_eq!(told.code, 250, "{told}");
    let folder = neighbour.folder().join("var/mail/example.net/bob");
    let message =
        eventually("alice's mail at the neighbour's", || maildir::messages(&folder).pop());
    let results = header(&message, "Authentication-Results").join(" ");
    for expected in ["spf=pass", "dkim=pass", "dmarc=pass"] {
        assert!(results.contains(expected), "{expected}: {results}");
    }
}

fn login_in_tls(mut client: Client) -> (Client, String) {
    use base64::Engine as _;
    client.hello("laptop.example.org").unwrap();
    let response = format!("\0alice@example.org\0{PASSWORD}");
    let response = base64::engine::general_purpose::STANDARD.encode(response);
    let reply = client.command(&format!("AUTH PLAIN {response}")).unwrap().to_string();
    (client, reply)
}
