//! What plugins decide, through sessions and deliveries of the running server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tests::dns::{Dns, Zone};
use tests::foreign::Foreign;
use tests::maildir::{contains, header};
use tests::plugins::guest;
use tests::server::program;
use tests::sink::{Behaviour, Sink};
use tests::{Client, Gatepost, Setup, eventually, letter};

const FROM: &str = "sender@client.example";
const TO: &str = "alice@example.test";

/// One plugin that does at each stage what `acts` says.
fn acting(acts: &str) -> Setup {
    let component: PathBuf = guest();
    Setup::new().with(&format!(
        "[[plugin]]\nname = \"guest\"\ncomponent = {component:?}\n\
         grants = {{ delay = true, auth = true, submit = true, edit = [\"reverse-path\", \"recipients\", \
         \"route\", \"header\", \"body\", \"schedule\", \"tags\", \"discard\", \"hold\"] }}\n\
         [plugin.limits]\ncpu = \"2s\"\ncpu-data = \"2s\"\n\
         [plugin.config]\ntag = \"guest\"\n[plugin.config.act]\n{acts}\n"
    ))
}

fn sent(server: &Gatepost, to: &[&str]) -> Vec<String> {
    let mut client = server.session();
    client.transaction(FROM, to, &letter::plain("policy")).unwrap().lines
}

/// What the client can see of a reply: all but the id.
fn seen(lines: &[String]) -> String {
    let text = lines.join("\n");
    text.rsplit_once(' ').map_or(text.clone(), |(text, _)| text.to_owned())
}

#[test]
fn discard_and_quarantine_cannot_be_told_from_acceptance() {
    let accepting = acting("").start();
    let accepted = sent(&accepting, &[TO]);
    accepting.wait_mailbox("alice", 1);

    let discarding = acting("data = \"discard\"").start();
    let discarded = sent(&discarding, &[TO]);
    assert_eq!(seen(&discarded), seen(&accepted));
    assert_eq!(discarding.queue(&["list"]).as_array().unwrap().len(), 0);

    let holding = acting("data = \"quarantine\"").start();
    let held = sent(&holding, &[TO]);
    assert_eq!(seen(&held), seen(&accepted));
    let list = holding.queue(&["list"]);
    assert!(list.to_string().contains("suspects"), "named and listed: {list}");
    assert!(holding.mailbox("alice").is_empty());
    let id = held.last().unwrap().rsplit(' ').next().unwrap().to_owned();
    holding
        .command(&["queue", "release", &id, "--config", "gatepost.toml"])
        .expect_success("releasing");
    assert_eq!(holding.wait_mailbox("alice", 1).len(), 1);
}

#[test]
fn disconnect_replies_and_closes_at_every_stage_that_has_it() {
    for (stage, commands) in [("helo", 0), ("mail", 1), ("rcpt", 2)] {
        let server = acting(&format!("{stage} = \"disconnect\"")).start();
        let mut client = server.connect("mx");
        let mut last = client.hello("client.example").unwrap();
        for command in
            [format!("MAIL FROM:<{FROM}>"), format!("RCPT TO:<{TO}>")].iter().take(commands)
        {
            assert!(last.is_positive(), "{stage}: {last:?}");
            last = client.command(command).unwrap();
        }
        assert_eq!(last.code, 421, "{stage}: {last:?}");
        assert!(client.closed_within(tests::place::PATIENCE), "{stage}");
        server.wait_log("disconnect: refused", 0);
    }
}

#[test]
fn recipients_are_judged_one_by_one_over_lmtp_and_folded_over_smtp() {
    let base = acting("data = \"each\"");
    let names = ["reject", "defer", "discard", "quarantine", "accept"];
    let server =
        names.iter().fold(base, |setup, name| setup.user(name)).listener("lmtp", "lmtp").start();
    let to = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{name}@example.test")).collect()
    };

    let mut lmtp = server.connect("lmtp");
    lmtp.reply().unwrap();
    lmtp.command("LHLO client.example").unwrap();
    lmtp.command(&format!("MAIL FROM:<{FROM}>")).unwrap();
    for recipient in to(&names) {
        assert_eq!(lmtp.command(&format!("RCPT TO:<{recipient}>")).unwrap().code, 250);
    }
    lmtp.command("DATA").unwrap();
    lmtp.send(&tests::client::stuffed(&letter::plain("each"))).unwrap();
    let codes: Vec<u16> = names.iter().map(|_| lmtp.reply().unwrap().code).collect();
    assert_eq!(codes, [550, 451, 250, 250, 250]);
    server.wait_mailbox("accept", 1);

    let check = |names: &[&str], code: u16| {
        let to = to(names);
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let mut client = server.session();
        // From here, so that who is told can be seen.
        let reply = client.transaction("bob@example.test", &to, &letter::plain("fold")).unwrap();
        assert_eq!(reply.code, code, "{names:?}: {reply:?}");
    };
    check(&["accept", "defer"], 451);
    check(&["reject"], 550);
    check(&["accept", "reject"], 250);
    server.wait_mailbox("accept", 2);
    let told = server.wait_mailbox("bob", 1);
    assert!(contains(&told[0], b"reject@example.test"), "the sender is told of the refusal");
    assert!(contains(&told[0], b"5.7.1"));
}

#[test]
fn mail_is_filed_into_folders_and_redirected() {
    let server = acting("deliver = \"file-seen\"").start();
    sent(&server, &[TO]);
    let folder = server.maildir("alice").join(".Junk/cur");
    let name = eventually("a message in Junk", || {
        let entry = std::fs::read_dir(&folder).ok()?.next()?.ok()?;
        Some(entry.file_name().into_string().unwrap())
    });
    assert!(name.ends_with(":2,FS"), "{name}");
    assert!(server.mailbox("alice").is_empty());

    let component = guest();
    let redirecting = Setup::new()
        .with("[[domain]]\nname = \"example.org\"\nusers = [\"carol\"]\ndeliver = \"maildir:var/mail/{domain}/{user}\"")
        .with(&format!(
            "[[plugin]]\nname = \"guest\"\ncomponent = {component:?}\ngrants = {{ edit = [\"recipients\"] }}\n\
             [plugin.config.act]\ndeliver = \"redirect\""
        ))
        .start();
    sent(&redirecting, &[TO]);
    // It arrives there once; what would go on in a circle fails and is told.
    redirecting.wait_log("5.4.6", 0);
    assert!(redirecting.mailbox("alice").is_empty());
}

#[test]
fn a_plugin_lets_users_in() {
    let server = acting("auth = \"check\"")
        .listener("submission", "submission")
        .with(&format!("[[user]]\nname = \"alice\"\npassword = \"{}\"", Gatepost::hash("other")))
        .start();
    let mut client = server.connect("submission");
    client.reply().unwrap();
    client.command("EHLO client.example").unwrap();
    client.secure("client.example").unwrap();
    // "\0bob\0wrong", "\0bob\0open sesame"
    assert_eq!(client.command("AUTH PLAIN AGJvYgB3cm9uZw==").unwrap().code, 535);
    assert_eq!(client.command("AUTH PLAIN AGJvYgBvcGVuIHNlc2FtZQ==").unwrap().code, 235);
}

/// Waits until the trace says so: it is written a moment later.
fn why(server: &Gatepost, what: &str, word: &str) {
    eventually(&format!("{word:?} in the trace"), || {
        let said = server.command(&["why", what, "--json", "--config", "gatepost.toml"]).stdout;
        said.contains(word).then_some(())
    });
}

fn hand_in(server: &Gatepost, from: &str, to: &str, mail: &str) -> (bool, String) {
    let mut command = Command::new(program());
    command.args(["send", "--from", from, to, "--config", "gatepost.toml"]);
    command.current_dir(server.folder()).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(mail.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn mail_that_is_handed_in_here_passes_the_stages_with_its_origin() {
    let server = acting("connect = \"reject\"\nhelo = \"reject\"\ndata = \"schedule\"").start();
    let (done, said) =
        hand_in(&server, "robot@example.test", TO, "Subject: local\n\n.dot\nhello\n");
    assert!(done && said.starts_with("queued as "), "{said}");
    let mail = server.wait_mailbox("alice", 1).remove(0);
    assert!(contains(&mail, b"\r\n\r\n.dot\r\nhello\r\n"));
    assert_eq!(header(&mail, "Message-ID").len(), 1, "what a submission gets");
    let id = said.trim().rsplit(' ').next().unwrap();
    why(&server, id, "local []");

    let refusing = acting("rcpt = \"reject\"").start();
    let (done, said) = hand_in(&refusing, "robot@example.test", TO, "Subject: no\n\n");
    assert!(!done && said.contains("550 5.7.1"), "{said}");
}

#[test]
fn a_plugin_submits_mail_and_notifications_pass_the_stages() {
    let server = acting("rcpt = \"submit\"\ndsn = \"send\"\nmail = \"schedule\"")
        .with("[[domain]]\nname = \"example.org\"\nusers = [\"bob\", \"postmaster\", \"robot\"]\ndeliver = \"maildir:var/mail/example.test/org-{user}\"")
        .start();
    sent(&server, &[TO]);
    let made = server.wait_mailbox("org-bob", 1).remove(0);
    assert_eq!(header(&made, "Subject"), ["from a plugin"]);

    // A message that fails: its notification goes to somebody else, with words of the plugin.
    let failing = acting("route = \"fail\"\ndsn = \"send\"\nmail = \"schedule\"")
        .with("[[domain]]\nname = \"example.org\"\nusers = [\"postmaster\"]\ndeliver = \"maildir:var/mail/{domain}/{user}\"")
        .start();
    let mut client = failing.session();
    client.transaction("bob@example.test", &[TO], &letter::plain("fails")).unwrap();
    // The plugin lets the notification fail, too; that nobody is told of it is RFC 5321 §4.5.5.
    failing.wait_log("stage=\"notice\"", 0);
    why(&failing, "bob@example.test", "failure to bob@example.test");
}

#[test]
fn a_reply_waits_and_nobody_else_does() {
    let server = acting("mail = \"delay\"").start();
    let mut slow: Vec<Client> = (0..20).map(|_| server.session()).collect();
    let begun = std::time::Instant::now();
    for client in &mut slow {
        client.send(format!("MAIL FROM:<{FROM}>\r\n").as_bytes()).unwrap();
    }
    for client in &mut slow {
        assert_eq!(client.reply().unwrap().code, 250);
    }
    let took = begun.elapsed();
    assert!(took >= std::time::Duration::from_millis(300), "{took:?}");
}

#[test]
fn every_entrance_is_judged_and_named() {
    let server = acting("mail = \"schedule\"\nrcpt = \"submit\"")
        .listener("submission", "submission")
        .listener("submissions", "submissions")
        .listener("lmtp", "lmtp")
        .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
        .with(&format!("[[user]]\nname = \"{TO}\"\npassword = \"{}\"", Gatepost::hash("secret")))
        .with("[[domain]]\nname = \"example.org\"\nusers = [\"bob\", \"postmaster\", \"robot\"]\ndeliver = \"maildir:var/mail/example.test/org-{user}\"")
        .start();
    let told = |from: &str, origin: &str| why(&server, from, &format!("\"{origin} []"));

    // The content in pieces (RFC 3030) is content as any other.
    let mut mx = server.session();
    mx.command("MAIL FROM:<pieces@client.example>").unwrap();
    mx.command(&format!("RCPT TO:<{TO}>")).unwrap();
    mx.send(b"BDAT 17\r\nSubject: one\r\n\r\noBDAT 4 LAST\r\nne\r\n").unwrap();
    assert_eq!((mx.reply().unwrap().code, mx.reply().unwrap().code), (250, 250));
    told("pieces@client.example", "mx");

    let mut lmtp = server.connect("lmtp");
    lmtp.reply().unwrap();
    lmtp.command("LHLO client.example").unwrap();
    lmtp.command("MAIL FROM:<lmtp@client.example>").unwrap();
    lmtp.command("RSET").unwrap();
    told("lmtp@client.example", "lmtp");

    // "\0alice@example.test\0secret"
    let login = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=";
    let mut submission = server.connect("submission");
    submission.hello("client.example").unwrap();
    submission.secure("client.example").unwrap();
    assert_eq!(submission.command(login).unwrap().code, 235);
    submission.command(&format!("MAIL FROM:<{TO}>")).unwrap();
    submission.command("RSET").unwrap();
    told(TO, "submission");

    let mut submissions = server.connect("submissions");
    submissions.start_tls().unwrap();
    submissions.hello("client.example").unwrap();
    assert_eq!(submissions.command(login).unwrap().code, 235);
    submissions.command(&format!("MAIL FROM:<{TO}>")).unwrap();
    submissions.command("RSET").unwrap();
    told(TO, "submissions");

    let (done, said) = hand_in(&server, "hands@example.test", TO, "Subject: local\n\nhello\n");
    assert!(done, "{said}");
    told("hands@example.test", "local");

    // What the plugin itself submitted at RCPT was judged as all other mail.
    told("robot@example.org", "plugin");

    // A notification of our own, at the stages behind the queue.
    let failing = acting("deliver = \"reject\"\noutcome = \"schedule\"").start();
    failing.session().transaction("bob@example.test", &[TO], &letter::plain("fails")).unwrap();
    why(&failing, "bob@example.test", "\"notice []");
}

#[test]
fn copies_for_a_mailbox_behind_lmtp_are_judged_too() {
    let store = Setup::new().listener("lmtp", "lmtp").start();
    let port = store.port("lmtp");
    let behind = |act: &str| {
        acting(&format!("deliver = \"{act}\""))
            .without("domain")
            .with(&format!("[[domain]]\nname = \"example.test\"\nusers = [\"alice\"]\ndeliver = \"lmtp:[127.0.0.1]:{port}\""))
            .start()
    };
    let discarding = behind("discard");
    sent(&discarding, &[TO]);
    why(&discarding, TO, "\"fate\":\"discarded\"");
    let holding = behind("hold");
    sent(&holding, &[TO]);
    eventually("a copy on hold", || {
        holding.queue(&["list"]).to_string().contains("suspects").then_some(())
    });
    assert!(store.mailbox("alice").is_empty());
    // The store has folders of its own: the copy goes to its inbox, and the log says so.
    let filing = behind("file");
    sent(&filing, &[TO]);
    assert_eq!(store.wait_mailbox("alice", 1).len(), 1);
    filing.wait_log("a place in a mailbox behind LMTP", 0);
}

#[test]
fn a_plugins_demand_of_tls_holds_on_the_way_out() {
    let check = |act: &str, tls: Option<&str>, goes: Option<bool>| {
        let sink = Sink::start(Behaviour { tls: tls.map(str::to_owned), ..Behaviour::default() });
        let via = format!("smtp:[127.0.0.1]:{}", sink.port());
        let server = acting(&format!("rcpt = \"{act}\""))
            .with("[relay]\nfrom = [\"127.0.0.0/8\"]")
            .with(&format!("[[route]]\nto = \"*\"\nvia = \"{via}\""))
            .start();
        let lines = sent(&server, &["x@target.test"]);
        let id = lines.last().unwrap().rsplit(' ').next().unwrap().to_owned();
        match goes {
            Some(encrypted) => assert_eq!(sink.wait(1)[0].tls, encrypted, "{act} {tls:?}"),
            None => {
                why(&server, &id, "\"fate\":\"deferred\"");
                assert!(sink.taken().is_empty(), "{act} {tls:?}");
            }
        }
    };
    let name = Some("127.0.0.1");
    check("", None, Some(false));
    check("", name, Some(true));
    check("require-tls", name, Some(true));
    check("require-tls", None, None);
    // The certificate of the sink is its own.
    check("verify-tls", name, None);
}

#[test]
fn a_plugin_reads_what_was_found_out_about_the_sender() {
    let Some(dnsmasq) = Foreign::need("authentication", "dnsmasq") else { return };
    let folder = tempfile::tempdir().unwrap();
    let zone = Zone::default()
        .txt("client.example", "v=spf1 ip4:127.0.0.1 -all")
        .txt("_dmarc.client.example", "v=DMARC1; p=quarantine")
        .txt("other.example", "v=spf1 -all");
    let dns = Dns::start(&dnsmasq, &zone, folder.path());
    let server = acting("mail = \"authentication\"\ndata = \"authentication\"")
        .with(&format!("[dns]\nservers = [\"{}\"]", dns.address()))
        .with("[authentication]\nexcept-from = []\nenforce = false")
        .start();
    sent(&server, &[TO]);
    let entry = eventually("the transaction in the trace", || {
        let said = server.command(&["why", FROM, "--json", "--config", "gatepost.toml"]).stdout;
        let mut entries =
            said.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        entries.find(|entry| entry["kind"] == "transaction")
    });
    let reason = |stage: &str| {
        let stages = entry["stages"].as_array().unwrap();
        let found = stages.iter().find(|it| it["stage"] == stage && it["plugin"] == "guest");
        found.unwrap()["reason"].as_str().unwrap().to_owned()
    };
    // RFC 7208 §2.4: the domain of the reverse-path, known before anything else is sent.
    let mail = reason("mail");
    assert!(mail.contains("SpfResult::Pass") && mail.contains("client.example"), "{mail}");
    let data = reason("data");
    for word in [
        "SpfResult::Pass",
        "DmarcResult::Pass",
        "DmarcPolicy::Quarantine",
        "is-spf-aligned: true",
        "ArcResult::None",
    ] {
        assert!(data.contains(word), "{word} in {data}");
    }

    server.session().transaction("x@other.example", &[TO], &letter::plain("forged")).unwrap();
    why(&server, "x@other.example", "SpfResult::Fail");
    why(&server, "x@other.example", "DmarcResult::Fail");
}
