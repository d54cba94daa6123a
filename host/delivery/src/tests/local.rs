//! Mail that ends here: Maildir and LMTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Arc,
    time::Duration,
};

use queue::RecipientState;
use smtp::{LocalDelivery, LocalDomain, LocalDomains};

use super::{
    CONTENT, Letter, World,
    fake::{FakeHost, Script},
};
use crate::Config;

fn home(delivery: LocalDelivery) -> Arc<LocalDomains> {
    let mailbox = |address: &str| vec![address.parse().unwrap()];
    Arc::new(LocalDomains::new(vec![LocalDomain {
        name: "home.example".parse().unwrap(),
        users: BTreeSet::from(["alice".to_owned(), "bob".to_owned()]),
        catch_all: None,
        aliases: BTreeMap::from([
            (
                "info".to_owned(),
                [mailbox("alice@home.example"), mailbox("bob@home.example")].concat(),
            ),
            ("circle".to_owned(), mailbox("circle@home.example")),
        ]),
        lists: BTreeMap::new(),
        quota: smtp::Quota::default(),
        delivery,
        subaddress: Some('+'),
    }]))
}

async fn world_with_maildirs() -> World {
    let directory = tempfile::tempdir().unwrap();
    let template = directory.path().join("mail/{domain}/{user}").display().to_string();
    let change = |config: &mut Config| config.local = home(LocalDelivery::Maildir { template });
    World::in_directory("", 25, directory, change).await
}

/// Name and text of each file in a folder.
fn files(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_maildir_gets_one_file_for_each_recipient() {
    let world = world_with_maildirs().await;
    world.send(Letter::to(&["alice@home.example", "Alice+list@home.example", "postmaster"])).await;
    world.empty().await;
    let mail = world.directory.path().join("mail/home.example");
    let mut texts: Vec<String> =
        files(&mail.join("alice/new")).into_iter().map(|(_, text)| text).collect();
    texts.sort();
    let expected =
        |to: &str| format!("Return-Path: <a@example.net>\r\nDelivered-To: {to}\r\n{CONTENT}");
    assert_eq!(texts, [expected("Alice+list@home.example"), expected("alice@home.example")]);
    let (name, _) = files(&mail.join("alice/new")).swap_remove(0);
    assert!(name.contains(".me.example,S=") && !name.contains(['/', ':']), "{name}");
    assert!(files(&mail.join("alice/tmp")).is_empty());
    assert!(mail.join("alice/cur").is_dir());
    assert_eq!(fs::metadata(mail.join("alice")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(files(&mail.join("postmaster/new")).len(), 1);
}

#[tokio::test]
async fn aliases_become_recipients_and_circles_end() {
    let world = world_with_maildirs().await;
    world.send(Letter { reverse_path: "", ..Letter::to(&["info@home.example"]) }).await;
    world.send(Letter { reverse_path: "", ..Letter::to(&["circle@home.example"]) }).await;
    world.empty().await;
    let mail = world.directory.path().join("mail/home.example");
    assert_eq!(files(&mail.join("alice/new")).len(), 1);
    assert_eq!(files(&mail.join("bob/new")).len(), 1);
    assert!(!mail.join("circle").exists());
}

#[tokio::test]
async fn links_in_place_of_a_maildir_are_not_followed() {
    let world = world_with_maildirs().await;
    let mail = world.directory.path().join("mail/home.example");
    let elsewhere = world.directory.path().join("elsewhere");
    fs::create_dir_all(mail.join("alice")).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, mail.join("alice/new")).unwrap();
    symlink(&elsewhere, mail.join("bob")).unwrap();
    for recipient in ["alice@home.example", "bob@home.example"] {
        let id = world.send(Letter::to(&[recipient])).await;
        world.is_deferred(id, "451 4.2.0").await;
    }
    assert!(files(&elsewhere).is_empty());
}

#[tokio::test]
async fn a_maildir_that_is_a_file_defers() {
    let world = world_with_maildirs().await;
    let mail = world.directory.path().join("mail/home.example");
    fs::create_dir_all(&mail).unwrap();
    fs::write(mail.join("alice"), "").unwrap();
    let id = world.send(Letter::to(&["alice@home.example", "bob@home.example"])).await;
    let delivered = (RecipientState::Delivered, "250 2.1.5");
    world.becomes(id, &[(RecipientState::Pending, "451 4.2.0"), delivered]).await;
}

#[tokio::test]
async fn unknown_users_fail() {
    let world = world_with_maildirs().await;
    fs::create_dir_all(world.directory.path().join("mail/home.example")).unwrap();
    fs::write(world.directory.path().join("mail/home.example/bob"), "").unwrap();
    let names = ["nobody@home.example", "\"../bob\"@home.example", "bob@home.example"];
    let id = world.send(Letter { reverse_path: "", ..Letter::to(&names) }).await;
    let unknown = (RecipientState::Failed, "550 5.1.1");
    let matches = async || {
        let Some(detail) = world.queue.show(id).await else { return false };
        let states: Vec<_> =
            detail.message.recipients.iter().map(|recipient| recipient.state.clone()).collect();
        states == [unknown.0.clone(), unknown.0.clone(), RecipientState::Pending]
    };
    super::eventually("both unknown names failed", matches).await;
}

async fn check_lmtp(world: &World, host: &FakeHost) {
    let id = world.send(Letter::to(&["alice@home.example", "bob@home.example"])).await;
    let delivered = (RecipientState::Delivered, "250 2.0.0 for alice");
    world.becomes(id, &[delivered, (RecipientState::Pending, "452 4.2.2 full")]).await;
    assert_eq!(host.lines()[1], "LHLO me.example");
    assert_eq!(host.contents(), [CONTENT.replace(".dot", "..dot")]);
}

const LMTP: Script = Script {
    greeting: None,
    extensions: &["PIPELINING"],
    replies: &[],
    lmtp: true,
    ends: &["250 2.0.0 for alice", "452 4.2.2 full"],
    tls: None,
    bad_tls: false,
    slow: Duration::ZERO,
    most: None,
};

#[tokio::test]
async fn lmtp_over_tcp_replies_for_each_recipient() {
    let host = FakeHost::new(LMTP).await;
    let address = host.address.to_string().parse().unwrap();
    let world =
        World::new("", 25, |config| config.local = home(LocalDelivery::Lmtp(address))).await;
    check_lmtp(&world, &host).await;
}

#[tokio::test]
async fn lmtp_over_a_unix_socket_replies_for_each_recipient() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("lmtp");
    let host = FakeHost::at_socket(&socket, LMTP);
    let address = socket.display().to_string().parse().unwrap();
    let world = World::in_directory("", 25, directory, |config| {
        config.local = home(LocalDelivery::Lmtp(address))
    })
    .await;
    check_lmtp(&world, &host).await;
}
