use std::collections::{BTreeMap, BTreeSet};

use smtp::{LocalDelivery, LocalDomain};

use super::*;

fn users() -> Users {
    let user = |name: &str, may_send_as: &[&str]| User {
        name: name.to_owned(),
        password: Secret::hash("correct horse").unwrap().parse().unwrap(),
        scram: Some(ScramVerifier::derive("correct horse", b"salt", 4096).unwrap()),
        may_send_as: may_send_as.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let boss = user("boss@example.test", &["@example.net", "press@example.org"]);
    Users::new(
        [user("alice@example.test", &[]), boss, user("bob", &["*"]), user("carol", &[])],
        None,
        [1; 32],
    )
}

#[tokio::test]
async fn only_the_right_password_of_a_known_user_is_right() {
    let users = users();
    let check = async |user: &str, password: &str, expected: Login| {
        assert_eq!(users.verify(user, password.to_owned()).await, expected, "{user} {password}");
    };
    check("alice@example.test", "correct horse", Login::Right).await;
    check("Alice@Example.TEST", "correct horse", Login::Right).await;
    check("alice@example.test", "Correct horse", Login::Wrong).await;
    check("alice@example.test", "", Login::Wrong).await;
    check("dave@example.test", "correct horse", Login::Wrong).await;
    check("", "", Login::Wrong).await;
}

#[tokio::test]
async fn an_unknown_user_costs_as_much_as_a_known_one() {
    let users = users();
    let cost = async |user: &str| {
        let begun = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(users.verify(user, "wrong".to_owned()).await, Login::Wrong);
        }
        begun.elapsed()
    };
    let (known, unknown) = (cost("alice@example.test").await, cost("nobody@example.test").await);
    // Without the check it would be less by a thousand; the machine may be busy.
    assert!(known < unknown * 10 && unknown < known * 10, "{known:?} {unknown:?}");
}

/// A Dovecot that takes no login, and takes its time to say so; it counts what it was asked.
fn slow_dovecot(path: &std::path::Path) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let Some((_, response)) = line.split_once("resp=") else { continue };
                let login = String::from_utf8(STANDARD.decode(response).unwrap()).unwrap();
                noted.lock().unwrap().push(login);
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                lines.get_mut().get_mut().write_all(b"FAIL\t1\n").await.unwrap();
                break;
            }
        }
    });
    asked
}

#[tokio::test]
async fn beside_a_dovecot_every_failure_takes_the_time_of_both() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("auth");
    let asked = slow_dovecot(&socket);
    let user = User {
        name: "alice".to_owned(),
        password: Secret::hash("correct horse").unwrap().parse().unwrap(),
        scram: None,
        may_send_as: Vec::new(),
    };
    let users = Users::new([user], Some(socket), [1; 32]);
    for name in ["alice", "nobody"] {
        let begun = tokio::time::Instant::now();
        assert_eq!(users.verify(name, "almost right".to_owned()).await, Login::Wrong);
        let took = begun.elapsed();
        assert!(took >= std::time::Duration::from_millis(500), "{name}: {took:?}");
    }
    assert_eq!(users.verify("alice", "correct horse".to_owned()).await, Login::Right);
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(!asked[0].contains("alice") && !asked[0].contains("almost right"), "{asked:?}");
    assert_eq!(asked[1], "\0nobody\0almost right");
}

#[test]
fn an_unknown_user_can_not_be_told_by_the_time_that_scram_takes() {
    let scram = ScramVerifier::derive("correct horse", b"salt", 4096).unwrap();
    let user = |number: u32| User {
        name: format!("user{number}"),
        password: Secret::nobody(),
        scram: Some(scram.clone()),
        may_send_as: Vec::new(),
    };
    let users = Users::new((0..5000).map(user), None, [1; 32]);
    let cost = |name: &str| {
        let begun = tokio::time::Instant::now();
        for _ in 0..200 {
            std::hint::black_box(users.verifier(name));
        }
        begun.elapsed()
    };
    let (known, unknown) = (cost("user7"), cost("nobody"));
    // One is a look into a table, and the other was a walk through all users; the machine may be busy.
    assert!(known < unknown * 10 && unknown < known * 10, "{known:?} {unknown:?}");
}

#[test]
fn an_unknown_user_can_not_be_told_by_the_parameters_of_scram() {
    let users = users();
    let parameters = |user: &str| {
        let text = users.verifier(user).to_string();
        let (parameters, _keys) = text.rsplit_once('$').unwrap();
        let (iterations, salt) = parameters.rsplit_once(':').unwrap();
        (iterations.to_owned(), salt.to_owned())
    };
    let (known, unknown) = (parameters("alice@example.test"), parameters("nobody@example.test"));
    assert_eq!((&known.0, known.1.len()), (&unknown.0, unknown.1.len()));
    assert_eq!(parameters("nobody@example.test"), unknown, "the same each time");
    assert_ne!(parameters("somebody@example.test").1, unknown.1, "and another for each name");
}

#[tokio::test]
async fn nobody_logs_in_where_there_are_no_users() {
    let users = Users::new([], None, [1; 32]);
    assert!(users.is_empty());
    assert_eq!(users.verify("nobody", "nobody".to_owned()).await, Login::Wrong);
}

#[test]
fn a_sender_owns_its_address_its_aliases_and_what_it_was_given() {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    let local = LocalDomains::new(vec![LocalDomain {
        name: "example.test".parse().unwrap(),
        users: BTreeSet::from(["alice", "boss", "carol"].map(str::to_owned)),
        catch_all: Some(mailbox("boss@example.test")),
        aliases: BTreeMap::from([
            ("sales".to_owned(), vec![mailbox("alice@example.test"), mailbox("boss@example.test")]),
            ("circle".to_owned(), vec![mailbox("circle@example.test")]),
        ]),
        lists: BTreeMap::new(),
        quota: smtp::Quota::default(),
        delivery: LocalDelivery::Maildir { template: "{user}".to_owned() },
        subaddress: Some('+'),
    }]);
    let users = users();
    let check = |user: &str, address: &str, expected: bool| {
        let may = users.may_send_as(user, &mailbox(address), &local);
        assert_eq!(may, expected, "{user} as {address}");
    };
    check("alice@example.test", "alice@example.test", true);
    check("Alice@example.test", "ALICE@EXAMPLE.test", true);
    check("alice@example.test", "alice+news@example.test", true);
    check("alice@example.test", "sales@example.test", true);
    check("alice@example.test", "boss@example.test", false);
    check("alice@example.test", "anybody@example.test", false);
    check("boss@example.test", "anybody@example.test", false); // a catch-all gives nothing away
    check("boss@example.test", "anybody@example.net", true);
    check("boss@example.test", "press@example.org", true);
    check("boss@example.test", "other@example.org", false);
    check("bob", "anybody@anywhere.example", true);
    check("carol", "carol@example.test", true);
    check("carol", "carol@example.com", false); // not a domain of ours
    check("alice@example.test", "circle@example.test", false);
}

#[test]
fn scram_is_held_with_unknown_users_too() {
    let users = users();
    assert!(users.knows_scram());
    assert_eq!(users.verifier("nobody"), users.verifier("NOBODY"));
    assert_ne!(users.verifier("nobody"), users.verifier("alice@example.test"));
}
