//! The plugins inside the server, each in a running one: what the table of its configuration says is what a
//! client and a mailbox see.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;
use std::time::Duration;

use tests::dns::{Dns, Zone};
use tests::maildir::{contains, header};
use tests::process::finish;
use tests::rspamd::Rspamd;
use tests::server::program;
use tests::sink::{Behaviour, Sink};
use tests::{Client, Foreign, Gatepost, Reply, Setup, eventually, letter, root};

const FROM: &str = "sender@client.example";
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// A server with one plugin: its grants, and its table below `[plugin.config]`.
fn with(name: &str, grants: &str, config: &str) -> Setup {
    Setup::new().with(&format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"bundled:{name}\"\non-error = \"defer\"\n\
         grants = {{ {grants} }}\n[plugin.config]\n{config}"
    ))
}

fn give(client: &mut Client, to: &[&str], content: &[u8]) -> Reply {
    client.transaction(FROM, to, content).unwrap()
}

/// Code and first words of a reply.
#[track_caller]
fn check(reply: &Reply, code: u16, words: &str) {
    let text = reply.lines.join(" ");
    assert!(reply.code == code && text.contains(words), "{reply:?}, not {code} {words}");
}

/// A message with these fields above those of every letter.
fn letter_with(fields: &str, subject: &str) -> Vec<u8> {
    [fields.as_bytes(), &letter::plain(subject)].concat()
}

#[test]
fn greylist_puts_strangers_off_until_they_come_back() {
    let config = "delay = \"1s\"\nexempt-private = false\nexempt-recipients = [\"bob@\"]";
    let server = with("greylist", "kv = true", config).start();
    let mut client = server.session();
    check(&give(&mut client, &[ALICE], b""), 451, "4.7.1 Greylisted");
    client.command("RSET").unwrap();
    check(&give(&mut client, &[BOB], &letter::plain("exempt")), 250, "queued");
    std::thread::sleep(Duration::from_millis(2_100));
    check(&give(&mut client, &[ALICE], &letter::plain("back")), 250, "queued");
    server.wait_mailbox("alice", 1);
    server.wait_mailbox("bob", 1);
}

#[test]
fn dnsbl_asks_about_clients_names_senders_and_links() {
    let test = "dnsbl_asks_about_clients_names_senders_and_links";
    let Some(dnsmasq) = Foreign::need(test, "dnsmasq") else { return };
    let zone = Zone::default()
        .host("bad.example.helo.example", "127.0.0.2")
        .host("spammer.example.sender.example", "127.0.0.2")
        .host("phish.example.uri.example", "127.0.0.2")
        .host("1.0.0.127.client.example", "127.0.0.4")
        .txt("1.0.0.127.client.example", "see http://client.example/why");
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start(&dnsmasq, &zone, folder.path());
    let config = "exempt-private = false\nreject = 2\nzones = [\n\
        { name = \"helo.example\", of = [\"helo\"], score = 2 },\n\
        { name = \"sender.example\", of = [\"sender\"], score = 2 },\n\
        { name = \"uri.example\", of = [\"uri\"], score = 1 },\n\
        { name = \"client.example\", codes = [{ answer = \"127.0.0.4\", score = 1 }] },\n]";
    let setup = with("dnsbl", "dns = true", &config);
    let setup = setup.with(&format!("[dns]\nservers = [\"{}\"]", dns.address()));
    let server = setup.start();

    let mut client = server.connect("mx");
    client.hello("bad.example").unwrap();
    check(&client.command(&format!("MAIL FROM:<{FROM}>")).unwrap(), 550, "bad.example is listed");
    client.command("EHLO good.example").unwrap();
    let mail = client.command("MAIL FROM:<x@spammer.example>").unwrap();
    check(&mail, 550, "Sender domain spammer.example is listed by sender.example");
    // The client alone has too little against it; with a link it is enough.
    check(&give(&mut client, &[ALICE], &letter::plain("plain")), 250, "queued");
    let link =
        [letter::plain("link"), b"Go to https://www.phish.example/login\r\n".to_vec()].concat();
    // The reply names what tipped the scales.
    let linked = give(&mut client, &[ALICE], &link);
    check(&linked, 550, "Link to phish.example is listed by uri.example");
    assert_eq!(server.wait_mailbox("alice", 1).len(), 1);
}

#[test]
fn rate_limit_counts_messages_and_recipients() {
    let config = "exempt-private = false\nlimits = [\n\
        { per = \"client\", messages = \"3/1h\" },\n\
        { per = [\"sender\", \"recipient\"], messages = \"1/1h\", action = \"reject\" },\n\
        { per = \"network\", recipients = \"4/1h\", durable = true },\n]";
    let mut server = with("rate-limit", "rate-limit = true, kv = true", config).start();
    let mut client = server.session();
    check(&give(&mut client, &[ALICE, BOB], &letter::plain("first")), 250, "queued");
    check(&give(&mut client, &[ALICE], b""), 550, "5.7.1 Too much mail from sender@client.example");
    client.command("RSET").unwrap();
    check(
        &client
            .transaction("other@client.example", &[ALICE, BOB], &letter::plain("second"))
            .unwrap(),
        250,
        "queued",
    );
    check(&give(&mut client, &[BOB], b""), 450, "4.7.1 Too much mail from 127.0.0.1; try again in");
    server.kill();
    // The buckets are full again; what is counted in the store is not.
    server.restart();
    let mut client = server.session();
    client.command("MAIL FROM:<third@client.example>").unwrap();
    let rcpt = client.command(&format!("RCPT TO:<{ALICE}>")).unwrap();
    check(&rcpt, 450, "Too much mail from 127.0.0.0/24");
}

#[test]
fn rewrite_changes_recipients_addresses_in_fields_and_routes() {
    let sink = Sink::start(Behaviour::default());
    let config = format!(
        "recipient-table = \"aliases\"\nrecipients = [{{ match = \"gone@\", reply = \"550 5.1.6 Moved\" }}]\n\
         headers = [{{ map = \"From\", match = \"@client.example\", to = \"@example.test\" }}]\n\
         routes = [{{ match = \"bob@\", to = \"smtp:127.0.0.1:{}\" }}]",
        sink.port()
    );
    let grants = "lookup = [\"aliases\"], edit = [\"recipients\", \"header\", \"route\"]";
    let setup = with("rewrite", grants, &config)
        .with("[[table]]\nname = \"aliases\"\nkind = \"address\"\nfile = \"aliases\"");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("aliases"), "sales@example.test alice@example.test\n")
        .unwrap();
    let server = Gatepost::start_in(folder, setup, &[]);
    let mut client = server.session();
    check(&give(&mut client, &["gone@example.test"], b""), 550, "5.1.6 Moved");
    client.command("RSET").unwrap();
    check(&give(&mut client, &["sales@example.test", BOB], &letter::plain("map")), 250, "queued");
    let stored = server.wait_mailbox("alice", 1);
    assert_eq!(header(&stored[0], "From"), ["Sender <sender@example.test>"]);
    assert_eq!(sink.wait(1)[0].rcpt.len(), 1);
    assert!(server.mailbox("bob").is_empty());
}

#[test]
fn header_rules_decide_by_expressions() {
    let test = "header_rules_decide_by_expressions";
    let Some(dnsmasq) = Foreign::need(test, "dnsmasq") else { return };
    let zone = Zone::default().txt("client.example", "v=spf1 ip4:192.0.2.1 -all");
    let zone = zone.txt("good.example", "v=spf1 ip4:127.0.0.1 -all");
    let folder = tempfile::tempdir().unwrap();
    let dns = Dns::start(&dnsmasq, &zone, folder.path());
    let config = "rules = [\n\
        { name = \"helo\", stage = \"mail\", if = \"helo == \\\"liar.example\\\"\", reply = \"550 5.7.1 {helo}?\" },\n\
        { name = \"spf\", if = \"spf == 'fail' and header.subject contains 'money'\", reply = \"550 5.7.23 SPF says {spf} for {sender}\" },\n\
        { name = \"held\", if = \"header.subject ~ 'hold*'\", quarantine = \"odd\" },\n\
        { name = \"mark\", if = \"size > 100 and count(recipients) == 1\", replace = \"X-Empty: {spf}\", prepend = \"X-Top: {header.subject}\", remove = \"X-Folded\" },\n]";
    let setup = with("header-rules", "edit = [\"header\", \"hold\"]", config);
    // Who is on this machine is not verified unless we say so.
    let server = setup
        .with(&format!("[dns]\nservers = [\"{}\"]", dns.address()))
        .with("[authentication]\nexcept-from = []")
        .start();
    let mut client = server.connect("mx");
    client.hello("liar.example").unwrap();
    check(&client.command(&format!("MAIL FROM:<{FROM}>")).unwrap(), 550, "5.7.1 liar.example?");
    client.command("EHLO client.example").unwrap();
    check(
        &give(&mut client, &[ALICE], &letter::plain("money")),
        550,
        "5.7.23 SPF says fail for sender@client.example",
    );
    check(&give(&mut client, &[ALICE], &letter::plain("hold this")), 250, "queued");
    let good = client.transaction("a@good.example", &[ALICE], &letter::plain("money")).unwrap();
    check(&good, 250, "queued");
    let stored = server.wait_mailbox("alice", 1);
    assert_eq!(header(&stored[0], "X-Empty"), ["pass"]);
    assert_eq!(header(&stored[0], "X-Top"), ["money"]);
    assert!(header(&stored[0], "X-Folded").is_empty());
    assert_eq!(server.mailbox("alice").len(), 1, "the other one is held");
}

/// A message with a text, a zip with `docs/invoice.exe` in it, and a picture.
fn zipped() -> Vec<u8> {
    let mut content = letter::plain("zip");
    let from = content.windows(13).position(|window| window == b"Content-Type:").unwrap();
    content.truncate(from);
    let text = [
        "Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\npreamble\r\n",
        "--=_b\r\nContent-Type: text/plain\r\n\r\nHello   \r\n",
        "--=_b\r\nContent-Type: application/zip; name=a.zip\r\nX-Own: kept\r\n",
        "Content-Disposition: attachment;\r\n filename=\"papers.zip\"\r\n",
        "Content-Transfer-Encoding: base64\r\n\r\n",
        &ZIP.join("\r\n"),
        "\r\n--=_b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        "iVBORw0KGgo=\r\n--=_b--\r\nepilogue\r\n",
    ];
    content.extend(text.concat().as_bytes());
    content
}

#[test]
fn attachments_in_archives_are_refused_held_or_stripped() {
    let refusing = with("attachments", "", "").start();
    let reply = give(&mut refusing.session(), &[ALICE], &zipped());
    check(
        &reply,
        550,
        "5.7.1 This file is not taken here: papers.zip/invoice.exe (its name is *.exe)",
    );
    let plain = give(&mut refusing.session(), &[ALICE], &letter::plain("plain"));
    check(&plain, 250, "queued");

    let rule = |action: &str| format!("rules = [{{ names = \"*.exe\", action = \"{action}\" }}]");
    let grants = "edit = [\"hold\", \"body\", \"header\"]";
    let holding = with("attachments", grants, &rule("quarantine")).start();
    check(&give(&mut holding.session(), &[ALICE], &zipped()), 250, "queued");
    let listed = holding.queue(&["list", "--quarantine", "attachments"]).to_string();
    assert!(listed.contains(FROM), "{listed}");

    let stripping = with("attachments", grants, &rule("strip")).start();
    check(&give(&mut stripping.session(), &[ALICE], &zipped()), 250, "queued");
    let stored = stripping.wait_mailbox("alice", 1).remove(0);
    let sent = zipped();
    let place = |octets: &[u8], text: &str| {
        octets.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
    };
    // Octet for octet: all before the part, and all behind it.
    let start = place(&sent, "Content-Type: application/zip");
    let end = place(&sent, "\r\n--=_b\r\nContent-Type: image/png");
    let body = place(&sent, "preamble");
    let (kept, rest) = (tests::maildir::with_crlf(&sent[body..start]), &sent[end..]);
    let stored = tests::maildir::with_crlf(&stored);
    assert!(
        contains(&stored, &kept) && stored.ends_with(rest),
        "{}",
        String::from_utf8_lossy(&stored)
    );
    let note = &stored[place(&stored, "X-Own: kept")..stored.len() - rest.len()];
    let note = String::from_utf8_lossy(note);
    assert!(note.contains("The file \"papers.zip/invoice.exe\" was removed"), "{note}");
    assert!(!contains(&stored, ZIP[0].as_bytes()));
}

#[test]
fn rspamd_decides_about_messages() {
    let test = "rspamd_decides_about_messages";
    let Some(programs) = Foreign::need_all(test, &["rspamd", "curl"]) else { return };
    let rspamd = Rspamd::start(&programs[0]);
    let url = rspamd.url();
    let grants = format!("http = [\"{url}\"], edit = [\"header\", \"hold\", \"tags\"]");
    let config = format!(
        "url = \"{url}\"\nactions = {{ discard = \"quarantine\" }}\ntags = {{ \"add header\" = \"spam\" }}"
    );
    let server = with("rspamd", &grants, &config).start();
    let mut client = server.session();

    // Its own rule: the string that every spam filter knows.
    let spam = [letter::plain("gtube"), GTUBE.to_vec()].concat();
    check(&give(&mut client, &[ALICE], &spam), 554, "5.7.1 Gtube pattern");
    let mut wants = |action: &str| {
        let message = letter_with(&format!("X-Wanted: {action}\r\n"), &action.replace(' ', "-"));
        give(&mut client, &[ALICE], &message)
    };
    check(&wants("soft reject"), 451, "4.7.1 as wanted");
    check(&wants("reject"), 554, "5.7.1 as wanted");
    check(&wants("discard"), 250, "queued");
    check(&wants("add header"), 250, "queued");
    let stored = server.wait_mailbox("alice", 1);
    assert_eq!(header(&stored[0], "X-Spam"), ["Yes"]);
    check(&wants("rewrite subject"), 250, "queued");
    let stored = server.wait_mailbox("alice", 2);
    let subjects: Vec<String> = stored.iter().flat_map(|one| header(one, "Subject")).collect();
    assert!(
        subjects
            .iter()
            .any(|subject| subject.contains("SPAM") && subject.contains("rewrite-subject")),
        "{subjects:?}"
    );

    // What its modules want changed, and what it is told.
    let asks = letter_with("X-Milter: hello\r\n", "milter");
    check(&give(&mut client, &[ALICE, BOB], &asks), 250, "queued");
    let stored = server.wait_mailbox("bob", 1).remove(0);
    assert_eq!(header(&stored, "X-Rspamd-Says"), ["hello"]);
    assert!(header(&stored, "X-Milter").is_empty());
    let id = tests::maildir::id(&stored).unwrap();
    let log = rspamd.log();
    let line =
        log.lines().find(|line| line.contains(&id) && line.contains("rcpts:")).unwrap_or(&log);
    for told in
        ["ip: 127.0.0.1", "from: <sender@client.example>", "alice@example.test,bob@example.test"]
    {
        assert!(line.contains(told), "{told} is not in {line}");
    }
    // The trace is on disk a moment after the reply.
    eventually("the trace of the message", || {
        let told = server.command(&["why", &id, "--config", "gatepost.toml"]).stdout;
        (told.contains("rspamd") && told.contains("score ")).then_some(())
    });

    // Without it, `on-error` decides.
    drop(rspamd);
    check(&give(&mut client, &[ALICE], &letter::plain("off")), 451, "4.3.0");
}

#[test]
fn scenarios_of_the_bundled_plugins_hold() {
    let names = finish(Command::new(program()).args(["plugin", "bundled"]));
    let names = names.expect_success("plugin bundled").stdout;
    assert_eq!(names.lines().count(), 7, "{names}");
    for bundled in names.split_whitespace() {
        let name = bundled.trim_start_matches("bundled:");
        let scenarios = root().join("plugins/rust").join(name).join("scenarios");
        let mut test = Command::new(program());
        test.args(["plugin", "test", bundled]).arg(&scenarios);
        let told = finish(&mut test).expect_success(bundled).stdout;
        assert!(told.contains("all as expected"), "{told}");
    }
}

/// docs/readme.txt and docs/invoice.exe, deflated.
const ZIP: [&str; 5] = [
    "UEsDBBQAAAAIAAAAdl1F2KdvDQAAACgAAAAPAAAAZG9jcy9yZWFkbWUudHh0K0pNTFHITeUqIkAD",
    "AFBLAwQUAAAACAAAAHZdXZuwjwQAAAACAAAAEAAAAGRvY3MvaW52b2ljZS5leGXzjQIAUEsBAhQD",
    "FAAAAAgAAAB2XUXYp28NAAAAKAAAAA8AAAAAAAAAAAAAAIABAAAAAGRvY3MvcmVhZG1lLnR4dFBL",
    "AQIUAxQAAAAIAAAAdl1dm7CPBAAAAAIAAAAQAAAAAAAAAAAAAACAAToAAABkb2NzL2ludm9pY2Uu",
    "ZXhlUEsFBgAAAAACAAIAewAAAGwAAAAAAA==",
];
const GTUBE: &[u8] = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n";
