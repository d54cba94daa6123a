use super::*;

#[test]
fn what_is_offered_can_be_read() {
    let offered = Extensions {
        pipelining: true,
        size: Some(Some(1000)),
        eight_bit_mime: true,
        enhanced_status_codes: true,
        smtputf8: true,
        chunking: true,
        binary_mime: true,
        dsn: true,
        limits: Some(OfferedLimits { transactions: Some(5), recipients: Some(7), domains: None }),
        starttls: true,
        auth: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
        help: true,
    };
    let reply = Reply::new(250, format!("mx.example.org\n{}", offered.lines().join("\n")));
    assert_eq!(Extensions::parse(&reply), offered);
}

#[test]
fn a_reply_of_another_server_is_read() {
    let read = |text: &str| Extensions::parse(&Reply::new(250, text));
    assert_eq!(read("mx.example.org PIPELINING"), Extensions::default()); // the first line is a greeting
    assert_eq!(read("x\nsize").size, Some(None));
    assert_eq!(read("x\nSIZE 0").size, Some(None)); // RFC 1870 §4
    assert_eq!(read("x\nSIZE 35882577").size, Some(Some(35_882_577)));
    assert_eq!(read("x\nAUTH=LOGIN plain").auth, ["LOGIN", "PLAIN"]);
    assert_eq!(read("x\nauth plain login").auth, ["PLAIN", "LOGIN"]);
    assert!(read("x\nX-UNKNOWN a b\n\nDsn").dsn);
    let limits = read("x\nLIMITS RCPTMAX=20 rcptdomainmax=1 MAILMAX=x OTHER=3").limits.unwrap();
    assert_eq!((limits.transactions, limits.recipients, limits.domains), (None, Some(20), Some(1)));
}
