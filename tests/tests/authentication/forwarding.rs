//! Mail of others that goes on to others: our seal, our reverse-path, and what the next server makes of them.

use tests::maildir::header;
use tests::sink::{Behaviour, Sink};
use tests::{Gatepost, Setup, eventually};

use crate::{SIGN, World, letter, sent};

/// Where everybody of `elsewhere.example` is.
fn elsewhere(world: &World, more: &str) -> Setup {
    world.setup().without("domain").with(&format!(
        "hostname = \"mx.elsewhere.example\"\n[[domain]]\nname = \"elsewhere.example\"\nusers = [\"carol\"]\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n{more}"
    ))
}

/// Our server, at which bob is carol elsewhere; mail for authors goes to the sink.
fn forwarder(world: &World, next: u16, sink: &Sink) -> Gatepost {
    let setup = world.setup().without("domain").with(&format!(
        "[[domain]]\nname = \"example.test\"\nusers = [\"alice\"]\n\
         deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
         aliases = {{ bob = [\"carol@elsewhere.example\"] }}\n\
         [[route]]\nto = \"elsewhere.example\"\nvia = \"smtp:[127.0.0.1]:{next}\"\n\
         [[route]]\nto = \"author.example\"\nvia = \"smtp:[127.0.0.1]:{}\"\n\
         [authentication]\nseal = \"example.test\"\n\
         [[dkim]]\ndomain = \"example.test\"\nselector = \"s1\"\nkey = {:?}\n",
        sink.port(),
        world.key("example.test"),
    ));
    setup.start()
}

#[test]
fn what_is_forwarded_carries_a_seal_over_what_was_found() {
    let Some(world) = World::new("a seal on what is forwarded") else { return };
    let sink = Sink::start(Behaviour::default());
    let server = world
        .setup()
        .without("domain")
        .with(&format!(
            "[[domain]]\nname = \"example.test\"\nusers = [\"alice\"]\n\
             deliver = \"maildir:var/mail/{{domain}}/{{user}}\"\n\
             aliases = {{ bob = [\"carol@elsewhere.example\"] }}\n\
             [[route]]\nto = \"elsewhere.example\"\nvia = \"smtp:[127.0.0.1]:{}\"\n\
             [authentication]\nseal = \"example.test\"\n\
             [[dkim]]\ndomain = \"example.test\"\nselector = \"s1\"\nkey = {:?}\n",
            sink.port(),
            world.key("example.test"),
        ))
        .start();
    let signed = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    let (code, reply) = sent(&server, "a@author.example", &signed);
    assert_eq!(code, 250, "{reply}");
    let forwarded = sink.wait(1).remove(0);
    assert!(forwarded.mail.contains("<SRS0="), "with our address in front: {}", forwarded.mail);
    let forwarded = forwarded.content;
    let results = header(&forwarded, "ARC-Authentication-Results").remove(0);
    assert!(
        results.contains("i=1; mx.example.test") && results.contains("dmarc=pass"),
        "{results}"
    );
    world.verify(&["arc"], &forwarded);
    // The author's own signature still holds behind us.
    world.verify(&["dkim", "1"], &forwarded);
}

/// The author's domain has SPF alone and wants refusal: behind a forwarder nothing but the seal speaks for its mail.
#[test]
fn a_seal_carries_what_spf_said_to_a_server_that_trusts_us() {
    let Some(world) = World::new("a seal at the next server") else { return };
    let sink = Sink::start(Behaviour::default());
    let author = "a@author.example";

    let next = elsewhere(&world, "[authentication]\narc-sealers = [\"example.test\"]\n").start();
    let server = forwarder(&world, next.port("mx"), &sink);
    let (code, reply) = sent(&server, author, &letter(author, ""));
    assert_eq!(code, 250, "{reply}");
    let mailbox = next.folder().join("var/mail/elsewhere.example/carol");
    let stored = eventually("mail for carol", || tests::maildir::messages(&mailbox).pop());
    let found = header(&stored, "Authentication-Results").join(" ");
    assert!(found.contains("dmarc=fail") && found.contains("arc=pass"), "{found}");
    assert!(header(&stored, "Return-Path")[0].starts_with("<SRS0="));
    // Another seal lies over ours where that server forwards, too: the chain holds.
    world.verify(&["arc"], &stored);

    // One that trusts nobody refuses; the report finds the author through us.
    let next = elsewhere(&world, "").start();
    let server = forwarder(&world, next.port("mx"), &sink);
    assert_eq!(sent(&server, author, &letter(author, "")).0, 250);
    let report = sink.wait(1).remove(0);
    assert_eq!(report.rcpt, [format!("RCPT TO:<{author}>")], "{}", server.log());
    assert!(report.mail.starts_with("MAIL FROM:<>"), "{}", report.mail);
    assert!(String::from_utf8_lossy(&report.content).contains("5.7.26"));
}
