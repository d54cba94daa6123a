use std::path::PathBuf;

use smtp::{LmtpAddress, LocalDelivery, LocalDomain, RcptParameters, Recipient, Route};

use super::*;

fn local() -> LocalDomains {
    let delivery = LocalDelivery::Maildir { template: "var/mail/{domain}/{user}".to_owned() };
    LocalDomains::new(vec![LocalDomain {
        name: "example.test".parse().unwrap(),
        users: ["alice".to_owned()].into(),
        catch_all: None,
        aliases: [("info".to_owned(), vec!["alice@example.test".parse().unwrap()])].into(),
        lists: std::collections::BTreeMap::new(),
        quota: smtp::Quota::default(),
        delivery,
        subaddress: Some('+'),
    }])
}

fn recipient(path: &str) -> PolicyRecipient {
    let path: ForwardPath = path.parse().expect(path);
    Recipient { path, parameters: RcptParameters::default() }.into()
}

/// What a stranger hears to RCPT when no plugin objects; "" is nothing bad.
fn check(path: &str, expected: &str) {
    let recipient = recipient(path);
    let answer = check_relay(&local(), &recipient.path, Standing::Stranger)
        .and_then(|()| check_exists(&local(), &recipient))
        .map_or_else(|reply| reply.to_string(), |()| String::new());
    assert!(
        answer.starts_with(expected) && answer.is_empty() == expected.is_empty(),
        "{path}: {answer}"
    );
}

#[test]
fn strangers_send_to_our_users_only() {
    check("alice@example.test", "");
    check("alice+list@EXAMPLE.test", "");
    check("info@example.test", "");
    check("postmaster@example.test", ""); // RFC 5321 §4.5.1
    check("postmaster", "");
    check("bob@example.test", "550 5.1.1");
    check("bob@example.net", "550 5.7.1");
    check("alice@sub.example.test", "550 5.7.1");
    check("alice@[127.0.0.1]", "550 5.7.1");
}

#[test]
fn old_ways_to_name_a_relay_are_local_parts() {
    check("bob%example.net@example.test", "550 5.1.1");
    check("\"bob@example.net\"@example.test", "550 5.1.1");
    check("example.net!bob@example.test", "550 5.1.1");
    check("alice%example.test@example.net", "550 5.7.1");
}

#[test]
fn a_client_that_may_relay_sends_everywhere() {
    for path in ["bob@example.net", "bob@[192.0.2.1]", "alice@example.test"] {
        assert_eq!(
            check_relay(&local(), &recipient(path).path, Standing::MayRelay),
            Ok(()),
            "{path}"
        );
    }
}

#[test]
fn a_recipient_with_a_route_of_policy_need_not_be_known() {
    let mut recipient = recipient("bob@example.test");
    recipient.route = Some(Route::Lmtp(LmtpAddress::Unix(PathBuf::from("/run/lmtp"))));
    assert_eq!(check_exists(&local(), &recipient), Ok(()));
}

#[test]
fn submitted_envelopes_are_fully_qualified() {
    let sender = |path: &str| check_sender_is_qualified(&path.parse().unwrap()).is_ok();
    assert!(sender("alice@example.test") && sender("alice@[192.0.2.1]") && sender(""));
    assert!(!sender("alice@example"));
    let to = |path: &str| check_recipient_is_qualified(&local(), &path.parse().unwrap()).is_ok();
    assert!(to("bob@example.net") && to("postmaster") && !to("bob@example"));
}
