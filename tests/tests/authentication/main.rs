//! Who mail is from, through the running server: what is found, what is obeyed, what is signed and sealed, what is reported.
//! The DNS is dnsmasq; those who sign and seal, and those who verify ours, are dkimpy.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod forwarding;
mod overruling;
mod reports;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::dns::{Dns, Zone};
use tests::maildir::{header, with_crlf};
use tests::process::{Finished, finish};
use tests::python::python;
use tests::server::program;
use tests::{Foreign, Gatepost, Setup, eventually};

const TO: &str = "bob@example.test";

/// The domains of others with their records, and the keys with which they sign.
struct World {
    dns: Dns,
    folder: TempDir,
}

impl World {
    /// None where a program is missing: then the test is skipped, and says so.
    fn new(test: &str) -> Option<Self> {
        let programs = Foreign::need_all(test, &["dnsmasq", "python3"])?;
        let folder = tempfile::tempdir().unwrap();
        if !python("import dkim", &[], folder.path()).status.success() {
            tests::foreign::skip(test, "dkimpy");
            return None;
        }
        let here = "v=spf1 ip4:127.0.0.1 -all";
        let mut zone = Zone::default()
            .host("client.example", "127.0.0.1")
            .text("author.example", here)
            .text("_dmarc.author.example", "v=DMARC1; p=reject; rua=mailto:alice@example.test")
            .text("author.example._report._dmarc.example.test", "v=DMARC1")
            .text("victim.example", "v=spf1 -all")
            .text("_dmarc.victim.example", "v=DMARC1; p=reject; rua=mailto:x@stranger.example")
            .text("careful.example", "v=spf1 -all")
            .text("_dmarc.careful.example", "v=DMARC1; p=quarantine")
            .text("list.example", here)
            .text("_dmarc.dept.corp.example", "v=DMARC1; p=reject");
        let mut records = String::new();
        for domain in ["author.example", "sealer.example", "example.test"] {
            let (name, record) =
                (format!("s1._domainkey.{domain}"), new_key(folder.path(), domain, "s1"));
            records += &format!("{name}\t{record}\n");
            zone = zone.text(&name, &record);
        }
        fs::write(folder.path().join("records"), records).unwrap();
        let dns = Dns::start(&programs[0], &zone, folder.path());
        Some(Self { dns, folder })
    }

    fn setup(&self) -> Setup {
        Setup::new().with(&format!(
            "[dns]\nservers = [\"{}\"]\n[authentication]\nexcept-from = []\n",
            self.dns.address()
        ))
    }

    fn key(&self, domain: &str) -> String {
        self.folder.path().join(format!("{domain}-s1.pem")).display().to_string()
    }

    /// The record of the first key of a domain.
    fn record(&self, domain: &str) -> String {
        let records = fs::read_to_string(self.folder.path().join("records")).unwrap();
        let name = format!("s1._domainkey.{domain}\t");
        records.lines().find_map(|line| line.strip_prefix(&name)).unwrap().to_owned()
    }

    /// Lets dkimpy know one more record.
    fn publish(&self, name: &str, record: &str) {
        let file = self.folder.path().join("records");
        let records = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{records}{name}\t{record}\n")).unwrap();
    }

    /// Lets dkimpy verify a message.
    fn verify(&self, what: &[&str], message: &[u8]) {
        let folder = self.folder.path();
        fs::write(folder.join("message"), with_crlf(message)).unwrap();
        python(VERIFY, what, folder).expect_success("dkimpy");
    }

    /// What a script makes of a message and the key of a domain.
    fn by_python(&self, script: &str, domain: &str, message: &[u8]) -> Vec<u8> {
        let folder = self.folder.path();
        fs::write(folder.join("message"), with_crlf(message)).unwrap();
        python(script, &[domain, &self.key(domain)], folder).expect_success("dkimpy");
        fs::read(folder.join("made")).unwrap()
    }
}

/// Makes a key with `gatepost dkim new`, and gives its record.
fn new_key(folder: &Path, domain: &str, selector: &str) -> String {
    let file = folder.join(format!("{domain}-{selector}.pem"));
    let made =
        dkim(folder, &["new", domain, "--selector", selector, "--key", file.to_str().unwrap()]);
    text_of(&made.expect_success("gatepost dkim new").stdout)
}

fn dkim(folder: &Path, arguments: &[&str]) -> Finished {
    finish(Command::new(program()).arg("dkim").args(arguments).current_dir(folder))
}

/// The strings of the first record in zone form, put together.
fn text_of(printed: &str) -> String {
    let line = printed.lines().find(|line| line.contains(" TXT (")).expect(printed);
    line.split('"').skip(1).step_by(2).collect()
}

const SIGN: &str = r#"
import sys, dkim
domain, key = sys.argv[1].encode(), open(sys.argv[2], "rb").read()
message = open("message", "rb").read()
open("made", "wb").write(dkim.sign(message, b"s1", domain, key) + message)
"#;

/// Seals what it says that it has found.
const SEAL: &str = r#"
import sys, dkim
domain, key = sys.argv[1].encode(), open(sys.argv[2], "rb").read()
message = open("message", "rb").read()
fields = dkim.arc_sign(message, b"s1", domain, key, domain)
open("made", "wb").write(b"".join(fields) + message)
"#;

fn letter(from: &str, more: &str) -> Vec<u8> {
    let text = format!(
        "{more}From: {from}\nTo: {TO}\nSubject: who am I?\nDate: Sun, 22 Nov 2026 00:00:00 +0000\n\
         Message-ID: <1@client.example>\n\nHello\n"
    );
    with_crlf(text.as_bytes())
}

fn sent(server: &Gatepost, from: &str, content: &[u8]) -> (u16, String) {
    let mut client = server.session();
    let reply = client.transaction(from, &[TO], content).unwrap();
    (reply.code, reply.to_string())
}

/// The one Authentication-Results field that is ours.
fn results(message: &[u8]) -> String {
    let ours: Vec<String> = header(message, "Authentication-Results")
        .into_iter()
        .filter(|value| value.starts_with("mx.example.test"))
        .collect();
    assert_eq!(ours.len(), 1, "{ours:?}");
    ours[0].clone()
}

#[test]
fn what_is_found_is_written_and_what_is_forged_in_our_name_is_removed() {
    let Some(world) = World::new("authentication results") else { return };
    let server = world.setup().start();
    let signed = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    let forged =
        b"Authentication-Results: mx.example.test; dmarc=pass header.from=forged.example\r\n\
                   Authentication-Results: other.example; spf=fail smtp.mailfrom=kept.example\r\n";
    let (code, reply) = sent(&server, "a@author.example", &[forged.as_slice(), &signed].concat());
    assert_eq!(code, 250, "{reply}");
    let stored = &server.wait_mailbox("bob", 1)[0];
    let results = results(stored);
    for expected in [
        "iprev=pass",
        "spf=pass",
        "smtp.mailfrom=",
        "dkim=pass",
        "header.d=author.example",
        "header.s=s1",
        "dmarc=pass",
        "header.from=author.example",
    ] {
        assert!(results.contains(expected), "{expected}: {results}");
    }
    let all = header(stored, "Authentication-Results").join("\n");
    assert!(!all.contains("forged.example") && all.contains("kept.example"), "{all}");
}

#[test]
fn forged_authors_are_refused_held_or_marked_as_their_domains_want_it() {
    let Some(world) = World::new("forged authors") else { return };
    let server = world.setup().start();
    let (code, reply) = sent(&server, "x@list.example", &letter("ceo@victim.example", ""));
    assert!(code == 550 && reply.contains("5.7.26"), "{reply}");
    let (code, reply) = sent(&server, "x@list.example", &letter("ceo@careful.example", ""));
    assert_eq!(code, 250, "{reply}");
    let held = server.queue(&["list"]).to_string();
    assert!(held.contains("dmarc"), "held by name: {held}");
    assert!(server.mailbox("bob").is_empty());
    // A body that was changed is no longer the author's.
    let signed = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    let changed = String::from_utf8(signed).unwrap().replace("Hello", "Hell");
    let (code, reply) = sent(&server, "x@list.example", changed.as_bytes());
    assert!(code == 550 && reply.contains("5.7.26"), "{reply}");

    let marking = world.setup().with("[authentication]\nquarantine = \"mark\"\n").start();
    let (code, reply) = sent(&marking, "x@list.example", &letter("ceo@careful.example", ""));
    assert_eq!(code, 250, "{reply}");
    assert!(results(&marking.wait_mailbox("bob", 1)[0]).contains("dmarc=fail"));
}

/// The policy stands between the author and the organization: the walk finds it, and the list does not look there.
#[test]
fn organizations_are_found_as_the_configuration_says() {
    let Some(world) = World::new("organizations") else { return };
    let mail = letter("ceo@x.dept.corp.example", "");
    let (code, reply) = sent(&world.setup().start(), "x@list.example", &mail);
    assert!(code == 550 && reply.contains("5.7.26"), "{reply}");
    let list = "[authentication]\norganizations = \"public-suffix-list\"\n";
    let server = world.setup().with(list).start();
    assert_eq!(sent(&server, "x@list.example", &mail).0, 250);
    assert!(results(&server.wait_mailbox("bob", 1)[0]).contains("dmarc=none"));
}

#[test]
fn lists_and_sealers_that_we_trust_are_excused_and_others_are_not() {
    let Some(world) = World::new("exceptions") else { return };
    let trusting = world
        .setup()
        .with(
            "[authentication]\nmailing-lists = [\"list.example\"]\narc-sealers = [\"sealer.example\"]\n",
        )
        .start();
    let strict = world.setup().start();
    let found = "Authentication-Results: sealer.example; dmarc=pass header.from=victim.example\n";
    let by_list = letter("m@victim.example", "List-Id: talk <talk.list.example>\n");
    let by_sealer = world.by_python(SEAL, "sealer.example", &letter("m@victim.example", found));
    let claimed = letter("m@victim.example", "List-Id: talk <talk.other.example>\n");
    let codes = |server: &Gatepost| {
        [&by_list, &by_sealer, &claimed].map(|content| sent(server, "talk@list.example", content).0)
    };
    assert_eq!(codes(&trusting), [250, 250, 550]);
    assert_eq!(codes(&strict), [550, 550, 550]);
    let stored = trusting.wait_mailbox("bob", 2);
    assert!(stored.iter().any(|message| results(message).contains("arc=pass")));
    assert!(stored.iter().all(|message| results(message).contains("dmarc=fail")));
}

/// Verifies a seal or all signatures of ours.
const VERIFY: &str = r#"
import sys, dkim
records = dict(line.split("\t") for line in open("records").read().splitlines())
def dns(name, timeout=5):
    return records.get(name.decode().rstrip("."), "").encode() or None
message = open("message", "rb").read()
if sys.argv[1] == "arc":
    assert dkim.arc_verify(message, dnsfunc=dns)[0] == b"pass", dkim.arc_verify(message, dnsfunc=dns)
else:
    count = message.count(b"DKIM-Signature:")
    assert count == int(sys.argv[2]), count
    assert all(dkim.DKIM(message).verify(idx=index, dnsfunc=dns) for index in range(count))
"#;

#[test]
fn what_came_verified_is_sealed_and_what_users_send_is_signed_with_all_keys() {
    let Some(world) = World::new("signing and sealing") else { return };
    let folder = world.folder.path();
    let second = new_key(folder, "example.test", "s2");
    let server = world
        .setup()
        .with(&format!(
            "[authentication]\nseal = \"example.test\"\n\
             [[dkim]]\ndomain = \"example.test\"\nselector = \"s1\"\nkey = {:?}\n\
             [[dkim]]\ndomain = \"example.test\"\nselector = \"s2\"\nkey = {:?}\n",
            world.key("example.test"),
            folder.join("example.test-s2.pem"),
        ))
        .start();
    let printed = server.command(&["dkim", "show", "--config", "gatepost.toml"]);
    let shown = printed.expect_success("gatepost dkim show").stdout;
    assert!(
        shown.lines().count() == 2 && text_of(&shown) == world.record("example.test"),
        "{shown}"
    );
    world.publish("s2._domainkey.example.test", &second);

    let signed = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    assert_eq!(sent(&server, "a@author.example", &signed).0, 250);
    let stored = server.wait_mailbox("bob", 1).remove(0);
    assert_eq!(header(&stored, "ARC-Seal").len(), 1);
    // The fields of delivery stand above those that were sealed.
    world.verify(&["arc"], &stored);

    fs::write(folder.join("own"), letter("alice@example.test", "")).unwrap();
    let own = fs::File::open(folder.join("own")).unwrap();
    let mut send = Command::new(program());
    send.args(["send", "--config", "gatepost.toml", "--from", "alice@example.test", TO]);
    finish(send.current_dir(server.folder()).stdin(own)).expect_success("gatepost send");
    let stored = eventually("our own mail", || {
        let mut stored = server.mailbox("bob");
        stored.retain(|message| header(message, "ARC-Seal").is_empty());
        stored.pop()
    });
    world.verify(&["dkim", "2"], &stored);
}

#[test]
fn keys_are_made_shown_checked_and_rotated_by_commands() {
    let Some(world) = World::new("gatepost dkim") else { return };
    let folder = world.folder.path();
    let printed = dkim(
        folder,
        &["new", "example.test", "--selector", "s2", "--algorithm", "ed25519", "--key", "s2.pem"],
    )
    .expect_success("gatepost dkim new")
    .stdout;
    assert!(text_of(&printed).starts_with("v=DKIM1; k=ed25519; p="), "{printed}");
    assert!(
        printed.contains("[[dkim]]\ndomain = \"example.test\"\nselector = \"s2\""),
        "{printed}"
    );
    let again = dkim(folder, &["new", "example.test", "--selector", "s2", "--key", "s2.pem"]);
    assert!(!again.status.success() && again.stderr.contains("s2.pem"), "{}", again.stderr);
    let of = |selector: &str, key: &str| {
        format!("[[dkim]]\ndomain = \"example.test\"\nselector = \"{selector}\"\nkey = {key:?}\n")
    };
    let write = |keys: String| world.setup().with(&keys).write(&folder.join("gatepost.toml"));
    let check = || dkim(folder, &["check", "--config", "gatepost.toml"]);

    write(of("s1", &world.key("example.test")));
    assert!(
        check()
            .expect_success("gatepost dkim check")
            .stdout
            .contains("s1._domainkey.example.test: published")
    );

    // A rotation: the new key is there, its record is not yet.
    write(of("s1", &world.key("example.test")) + &of("s2", "s2.pem"));
    let found = check();
    assert!(!found.status.success());
    assert!(found.stdout.contains("s1._domainkey.example.test: published"), "{}", found.stdout);
    assert!(found.stdout.contains("s2._domainkey.example.test: not published"), "{}", found.stdout);
    assert!(found.stderr.contains("1 key"), "{}", found.stderr);
    let shown =
        dkim(folder, &["show", "--config", "gatepost.toml"]).expect_success("gatepost dkim show");
    assert_eq!(shown.stdout.lines().filter(|line| line.contains(" TXT (")).count(), 2);

    // The name of the first with the key of the second: others could not verify it.
    write(of("s1", "s2.pem"));
    let found = check();
    assert!(!found.status.success() && found.stdout.contains("another key"), "{}", found.stdout);
    write(String::new());
    assert!(check().stderr.contains("gatepost dkim new"));
}
