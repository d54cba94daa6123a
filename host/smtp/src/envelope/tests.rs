use super::*;

#[test]
fn notify_is_never_or_a_list() {
    let check = |text: &str, expected: Option<&str>| {
        let notify = text.parse::<Notify>();
        assert_eq!(notify.map(|notify| notify.to_string()).ok().as_deref(), expected, "{text}");
    };
    check("NEVER", Some("NEVER"));
    check("never", Some("NEVER"));
    check("DELAY,success", Some("SUCCESS,DELAY"));
    check("FAILURE,FAILURE", Some("FAILURE"));
    check("NEVER,SUCCESS", None); // RFC 3461 §4.1
    check("SUCCESS,", None);
    check("", None);
}

#[test]
fn an_original_recipient_is_decoded_and_encoded() {
    let check = |wire: &str, address: &str, written: &str| {
        let recipient: OriginalRecipient = wire.parse().unwrap();
        assert_eq!(
            (recipient.address.as_str(), recipient.to_string().as_str()),
            (address, written)
        );
        assert_eq!(written.parse(), Ok(recipient));
    };
    check("rfc822;a+2Bb@example.org", "a+b@example.org", "rfc822;a+2Bb@example.org");
    check("rfc822;a+3db@example.org", "a=b@example.org", "rfc822;a+3Db@example.org");
    check("X400;/C+3DUS/", "/C=US/", "X400;/C+3DUS/");
    // RFC 6533 §3
    check("utf-8;j\\x{F6}s@example.org", "jös@example.org", "utf-8;j\\x{F6}s@example.org");
    check("utf-8;jös@example.org", "jös@example.org", "utf-8;j\\x{F6}s@example.org");
    check("utf-8;a\\x{5C}b+2B@x", "a\\b+@x", "utf-8;a\\x{5C}b\\x{2B}@x");
    let fails = |wire: &str| assert!(wire.parse::<OriginalRecipient>().is_err(), "{wire}");
    fails("rfc822");
    fails("rfc822;");
    fails("rfc 822;a");
    fails("rfc822;jös@example.org");
    fails("rfc822;a+0Ab");
    fails("rfc822;a+0");
    fails("rfc822;a+zz");
    fails("utf-8;a\\x{0A}b");
    fails("utf-8;a\\x{2028}b");
    fails("utf-8;a\\x{110000}b");
    fails("utf-8;a\\xb");
    fails("utf-8;a+ü0");
    fails(&format!("rfc822;{}", "a".repeat(500)));
}

#[test]
fn an_envelope_is_stored_and_read_again() {
    let envelope = Envelope {
        reverse_path: "jösé@bücher.example".parse().unwrap(),
        parameters: MailParameters {
            size: Some(5),
            body: BodyType::BinaryMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ".to_owned()),
            auth: Some("<>".to_owned()),
        },
        recipients: vec![Recipient {
            path: ForwardPath::Postmaster,
            parameters: RcptParameters {
                notify: Some(Notify::never()),
                orcpt: Some("rfc822;a@b.example".parse().unwrap()),
            },
        }],
    };
    let json = serde_json::to_string(&envelope).unwrap();
    assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), envelope);
    assert_eq!(serde_json::to_string(&MailParameters::default()).unwrap(), "{}");
    assert_eq!(serde_json::from_str::<RcptParameters>("{}").unwrap(), RcptParameters::default());
}
