//! A plugin has the last word: over what the author's domain asks for, over a good result, for all or for one.

use tests::plugins::guest;
use tests::{Gatepost, Setup, eventually};

use crate::{SIGN, World, letter, results, sent};

/// One plugin that says `act` at the end of data.
fn with_guest(setup: Setup, act: &str) -> Setup {
    let component = guest();
    setup.with(&format!(
        "[[plugin]]\nname = \"guest\"\ncomponent = {component:?}\n\
         grants = {{ edit = [\"discard\", \"hold\"] }}\n\
         [plugin.limits]\ncpu = \"2s\"\ncpu-data = \"2s\"\n\
         [plugin.config]\ntag = \"guest\"\n[plugin.config.act]\ndata = \"{act}\"\n"
    ))
}

/// The names of the holds in the queue.
fn holds(server: &Gatepost) -> String {
    server.queue(&["list"]).to_string()
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 550 5.7.26, by the host.
    RefusedByDmarc,
    /// 550 5.7.1, by the plugin.
    RefusedByPlugin,
    Held(&'static str),
    Delivered,
    Forgotten,
}

fn fate(server: &Gatepost, content: &[u8]) -> Fate {
    let (code, reply) = sent(server, "x@list.example", content);
    match code {
        550 if reply.contains("5.7.26") => return Fate::RefusedByDmarc,
        550 if reply.contains("5.7.1 ") => return Fate::RefusedByPlugin,
        _ => assert_eq!(code, 250, "{reply}"),
    }
    let id = reply.rsplit(' ').next().unwrap();
    eventually("the fate of a message", || {
        let log = server.log();
        let is_told =
            |event: &str| log.lines().any(|line| line.contains(id) && line.contains(event));
        if is_told("event=\"discarded\"") {
            return Some(Fate::Forgotten);
        }
        if is_told("event=\"delivered\"") {
            return Some(Fate::Delivered);
        }
        let queued = server.queue(&["list"]);
        let entry = queued.as_array()?.iter().find(|entry| entry["id"] == id)?.to_string();
        let name = ["dmarc", "suspects"].into_iter().find(|name| entry.contains(name))?;
        Some(Fate::Held(name))
    })
}

#[test]
fn every_decision_about_an_author_can_be_overruled() {
    let Some(world) = World::new("a plugin overrules") else { return };
    use Fate::{Delivered, Forgotten, Held, RefusedByDmarc, RefusedByPlugin};
    let good = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    let authors = [letter("ceo@victim.example", ""), letter("ceo@careful.example", ""), good];
    let mut server = with_guest(world.setup(), "none").start();
    let expected = [
        // The domains of the authors want: reject, quarantine, and nothing, for the third is who it says.
        ("none", [RefusedByDmarc, Held("dmarc"), Delivered]),
        ("accept", [Delivered, Delivered, Delivered]),
        ("quarantine", [Held("suspects"), Held("suspects"), Held("suspects")]),
        ("reject", [RefusedByPlugin, RefusedByPlugin, RefusedByPlugin]),
        ("discard", [Forgotten, Forgotten, Forgotten]),
    ];
    for (act, fates) in expected {
        if act != "none" {
            let before = server.log().matches("a new plugin set is live").count();
            let setup = with_guest(server.setup().clone().without("plugin"), act);
            server.reconfigure(setup);
            server.wait_log("a new plugin set is live", before);
        }
        let found = [0, 1, 2].map(|author| fate(&server, &authors[author]));
        assert_eq!(found, fates, "{act}");
    }
    // Whatever is done, what was found stands in the message.
    let stored = server.mailbox("bob");
    let failed = stored.iter().filter(|message| results(message).contains("dmarc=fail")).count();
    assert_eq!((stored.len(), failed), (4, 2));
}

#[test]
fn what_a_plugin_says_about_one_recipient_overrules_for_that_one_alone() {
    let Some(world) = World::new("a plugin overrules for one") else { return };
    let setup = ["accept", "reject", "quarantine", "carol"]
        .iter()
        .fold(with_guest(world.setup(), "each"), |setup, name| setup.user(name));
    let server = setup.start();
    let good = world.by_python(SIGN, "author.example", &letter("a@author.example", ""));
    let victim = letter("ceo@victim.example", "");
    let careful = letter("ceo@careful.example", "");
    // carol sends, so that it can be seen who is told what.
    let send = |content: &[u8], to: &[&str]| {
        let to: Vec<String> = to.iter().map(|name| format!("{name}@example.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        let reply = server.session().transaction("carol@example.test", &to, content).unwrap();
        reply.to_string()
    };
    let told = |count: usize| {
        String::from_utf8_lossy(&server.wait_mailbox("carol", count).concat()).into_owned()
    };

    // Nobody is named: the domain's will is done.
    assert!(send(&victim, &["bob", "alice"]).starts_with("550 5.7.26"));
    // One is taken, for the other the domain's will is done, and the sender hears of it.
    assert!(send(&victim, &["accept", "bob"]).starts_with("250"));
    server.wait_mailbox("accept", 1);
    let report = told(1);
    assert!(report.contains("5.7.26") && report.contains("bob@example.test"), "{report}");
    assert!(!report.contains("rfc822;accept@example.test"), "{report}");
    // Refused by both, each for its own reason: nobody takes it.
    assert!(send(&victim, &["reject", "bob"]).starts_with("550 5.7.1 "));
    assert!(send(&victim, &["bob", "reject"]).starts_with("550 5.7.26"));

    // Held by name: the plugin's, and the host's.
    assert!(send(&careful, &["accept", "bob"]).starts_with("250"));
    server.wait_mailbox("accept", 2);
    let held = holds(&server);
    assert!(held.contains("\"dmarc\"") && !held.contains("suspects"), "{held}");
    assert!(send(&careful, &["quarantine"]).starts_with("250"));
    assert!(holds(&server).contains("suspects"));

    // A good author's mail is refused for one and comes to the other.
    assert!(send(&good, &["reject", "bob"]).starts_with("250"));
    assert_eq!(server.wait_mailbox("bob", 1).len(), 1);
    assert!(told(2).contains("reject@example.test"));
    assert_eq!((server.mailbox("bob").len(), server.mailbox("accept").len()), (1, 2));
}
