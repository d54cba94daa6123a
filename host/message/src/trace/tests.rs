use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::*;
use crate::edit::compose;
use crate::header::Header;

fn example() -> Received<'static> {
    Received {
        from_helo: "client.example.net",
        client: Some("192.0.2.1".parse().unwrap()),
        client_name: None,
        by: "mx.example.org",
        protocol: Protocol { extended: true, ..Protocol::default() },
        id: Id::new(UNIX_EPOCH, 1),
        for_: None,
        time: UNIX_EPOCH + Duration::from_secs(1_795_298_400),
        tls: None,
    }
}

fn written(received: &Received<'_>) -> String {
    let head = compose(&Header::default(), &[received.to_field()]).head;
    String::from_utf8(head.to_vec()).unwrap()
}

#[test]
fn a_received_field_says_all_that_is_known() {
    assert_eq!(
        written(&example()),
        "Received: from client.example.net ([192.0.2.1])\r\n\
         \tby mx.example.org with ESMTP id 0000000000000001;\r\n\
         \tSat, 21 Nov 2026 22:00:00 +0000\r\n\r\n"
    );
    let mailbox = "alice@example.org".parse().unwrap();
    let full = Received {
        client: Some("2001:db8::1".parse().unwrap()),
        client_name: Some("name.example.net"),
        protocol: Protocol {
            extended: true,
            tls: true,
            authenticated: true,
            ..Protocol::default()
        },
        for_: Some(&mailbox),
        tls: Some(("TLSv1.3", "TLS_AES_256_GCM_SHA384")),
        ..example()
    };
    assert_eq!(
        written(&full),
        "Received: from client.example.net (name.example.net [IPv6:2001:db8::1])\r\n\
         \tby mx.example.org with ESMTPSA id 0000000000000001\r\n\
         \tfor <alice@example.org>\r\n\
         \ttls TLS_AES_256_GCM_SHA384 (TLSv1.3);\r\n\
         \tSat, 21 Nov 2026 22:00:00 +0000\r\n\r\n"
    );
}

#[test]
fn hostile_names_stay_in_their_place() {
    let check = |helo: &str, client_name: Option<&str>, expected: &str| {
        let field = written(&Received { from_helo: helo, client_name, ..example() });
        let clause = field
            .strip_prefix("Received: from ")
            .and_then(|rest| rest.split_once("\r\n\tby "))
            .unwrap()
            .0;
        assert_eq!(clause, expected);
        // Whatever the name was, it is one field, and the message has no other.
        assert_eq!(Header::parse(Bytes::from(field)).len(), 1, "{helo:?}");
    };
    check("[192.0.2.7]", None, "[192.0.2.7] ([192.0.2.1])");
    check("", None, "unknown ([192.0.2.1])");
    check("a_b c", None, "unknown ([192.0.2.1]) (HELO a_b?c)");
    check("x\r\nBcc: y", None, "unknown ([192.0.2.1]) (HELO x??Bcc:?y)");
    check("x) by evil; (", None, "unknown ([192.0.2.1]) (HELO x??by?evil???)");
    check("a.example", Some("b) (c"), "a.example (b???c [192.0.2.1])");
    check("ü b", None, "unknown ([192.0.2.1]) (HELO ??b)");
    check("bücher.example", None, "xn--bcher-kva.example ([192.0.2.1])");
    check("\u{2028}\u{85}\\", None, "unknown ([192.0.2.1]) (HELO ???)");
    let long = "x".repeat(5000);
    let field = written(&Received { from_helo: &long, ..example() });
    assert!(field.lines().all(|line| line.len() < 400));
}

#[test]
fn protocols_have_their_registered_names() {
    // lmtp, extended, utf8, tls, authenticated
    let check = |[lmtp, extended, utf8, tls, authenticated]: [u8; 5], expected: &str| {
        let protocol = Protocol {
            lmtp: lmtp == 1,
            extended: extended == 1,
            utf8: utf8 == 1,
            tls: tls == 1,
            authenticated: authenticated == 1,
        };
        assert_eq!(protocol.to_string(), expected);
    };
    check([0, 0, 0, 0, 0], "SMTP");
    check([0, 0, 0, 1, 0], "SMTP"); // implicit TLS with HELO: RFC 3848 has no name for it
    check([0, 1, 0, 0, 0], "ESMTP");
    check([0, 1, 0, 0, 1], "ESMTPA");
    check([0, 1, 0, 1, 0], "ESMTPS");
    check([0, 1, 0, 1, 1], "ESMTPSA");
    check([1, 1, 0, 0, 0], "LMTP");
    check([1, 1, 0, 1, 1], "LMTPSA");
    check([0, 1, 1, 0, 0], "UTF8SMTP"); // RFC 6531 §4.3
    check([0, 1, 1, 1, 1], "UTF8SMTPSA");
    check([1, 1, 1, 1, 0], "UTF8LMTPS");
}

#[test]
fn a_return_path_is_one_field() {
    let check =
        |path: &str, expected: &str| assert_eq!(return_path(&path.parse().unwrap()), expected);
    check("", "Return-Path: <>\r\n");
    check("bob@example.org", "Return-Path: <bob@example.org>\r\n");
    check("\"b ob\"@example.org", "Return-Path: <\"b ob\"@example.org>\r\n");
}

#[test]
fn trace_fields_are_known_in_every_case() {
    for name in ["RECEIVED", "return-path", "DKIM-Signature", "Authentication-Results", "ARC-seal"]
    {
        assert!(is_trace_field(name), "{name}");
    }
    for name in ["Received-SPF", "X-Received", "Subject", ""] {
        assert!(!is_trace_field(name), "{name}");
    }
}
