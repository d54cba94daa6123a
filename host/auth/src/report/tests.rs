use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::outcome::{
    ArcChain, Dmarc, DmarcPolicy, Iprev, IprevResult, Spf, SpfIdentity, SpfResult,
};

fn found(result: DmarcResult, record: &str) -> Authentication {
    let spf = |result| Spf::new(SpfIdentity::MailFrom, "bounces.example.org".to_owned(), result);
    let mut dkim = crate::dkim::unread();
    (dkim.result, dkim.domain, dkim.selector) =
        (DkimResult::Fail, "list.example".to_owned(), "s1".to_owned());
    let mut own = dkim.clone();
    (own.result, own.domain) = (DkimResult::Pass, "example.org".to_owned());
    Authentication {
        iprev: Iprev {
            result: IprevResult::Pass,
            address: "192.0.2.1".parse().unwrap(),
            names: Vec::new(),
        },
        helo: spf(SpfResult::None),
        mail_from: spf(SpfResult::SoftFail),
        dkim: vec![dkim, own],
        arc: ArcChain::none(),
        dmarc: Dmarc {
            result,
            author_domain: "news.example.org".to_owned(),
            policy_domain: Some("example.org".to_owned()),
            organizational_domain: "example.org".to_owned(),
            policy: DmarcPolicy::Reject,
            record: crate::dmarc::Record::parse(record.as_bytes()),
            spf_aligned: None,
            dkim_aligned: (result == DmarcResult::Pass).then(|| "example.org".to_owned()),
            problem: None,
        },
    }
}

const RECORD: &str = "v=DMARC1; p=reject; sp=quarantine; rua=mailto:a@example.org!1k";

fn observation(
    result: DmarcResult,
    decision: &Decision,
    overruled: Option<(&str, Disposition)>,
) -> Observation {
    Observation::new(&found(result, RECORD), decision, overruled, Discovery::TreeWalk).unwrap()
}

/// A report with several rows.
pub(crate) fn sample() -> Report {
    let mut collector = Collector::default();
    for _ in 0..5 {
        collector.add(observation(DmarcResult::Pass, &Decision::Deliver(None), None));
    }
    collector.add(observation(DmarcResult::Fail, &Decision::Reject, None));
    collector.add(observation(
        DmarcResult::Fail,
        &Decision::Reject,
        Some(("rule <&> 'x'", Disposition::None)),
    ));
    let list = Exception::MailingList("list.example".to_owned());
    collector.add(observation(DmarcResult::Fail, &Decision::Deliver(Some(list)), None));
    let (domain, gathered) = collector.domains().next().unwrap();
    assert_eq!((domain, gathered.messages()), ("example.org", 8));
    assert_eq!(gathered.to, [("mailto:a@example.org".to_owned(), Some(1024))]);
    gathered.report(
        "Example",
        "dmarc@mx.example",
        "20231115x".to_owned(),
        (1_700_000_000, 1_700_086_399),
    )
}

#[test]
fn what_is_written_is_read_again() {
    let report = sample();
    assert_eq!(report.rows.len(), 4);
    assert_eq!(Report::from_xml(&report.to_xml()).unwrap(), report);
    let carrier =
        Carrier { from: "dmarc@mx.example", submitter: "mx.example", now: std::time::UNIX_EPOCH };
    let mail = report.mail(&carrier, &["a@example.org", "b@example.org"]).unwrap();
    assert_eq!(unpack(&mail, &Limits::default()).unwrap(), report);
    let header = message::Header::parse(mail);
    let value = |name: &str| header.get(name).unwrap().value();
    // RFC 9990 §3.5.2 has the subject and the name of the file.
    let subject = header.get("Subject").unwrap().raw_value();
    let words: Vec<&str> = std::str::from_utf8(subject).unwrap().split_whitespace().collect();
    assert_eq!(
        words.join(" "),
        "Report Domain: example.org Submitter: mx.example Report-ID: <20231115x@mx.example>"
    );
    assert_eq!(
        report.file_name("mx.example"),
        "mx.example!example.org!1700000000!1700086399!20231115x.xml.gz"
    );
    assert_eq!(value("Auto-Submitted"), "auto-generated");
}

#[test]
fn what_is_told_is_what_was_done() {
    let check = |result, decision: Decision, overruled, expected: (Disposition, &[&str])| {
        let row = observation(result, &decision, overruled).row;
        let kinds: Vec<&str> = row.reasons.iter().map(|reason| reason.kind.as_str()).collect();
        assert_eq!((row.disposition, kinds.as_slice()), expected, "{result:?} {decision:?}");
    };
    use Decision::{Deliver, Quarantine, Reject};
    use DmarcResult::{Fail, Pass};
    check(Pass, Deliver(None), None, (Disposition::Pass, &[]));
    check(Fail, Deliver(None), None, (Disposition::None, &[]));
    check(Fail, Reject, None, (Disposition::Reject, &[]));
    check(Fail, Quarantine, None, (Disposition::Quarantine, &[]));
    let by = |done| Some(("mine", done));
    check(Fail, Reject, by(Disposition::None), (Disposition::None, &["local_policy"]));
    let set_apart = by(Disposition::Quarantine);
    check(Fail, Reject, set_apart, (Disposition::Quarantine, &["local_policy"]));
    check(Fail, Quarantine, set_apart, (Disposition::Quarantine, &[]));
    let refused = by(Disposition::Reject);
    check(Fail, Quarantine, refused, (Disposition::Reject, &["local_policy"]));
    check(Fail, Deliver(None), refused, (Disposition::None, &[]));
    check(Pass, Deliver(None), refused, (Disposition::Pass, &[]));
    let excused = |exception| Deliver(Some(exception));
    check(Fail, excused(Exception::NotEnforced), None, (Disposition::None, &["local_policy"]));
    let sealer = Exception::TrustedSealer("x.example".to_owned());
    check(Fail, excused(sealer), None, (Disposition::None, &["trusted_forwarder"]));
}

#[test]
fn nothing_is_told_where_nobody_asks() {
    let new = |found| Observation::new(&found, &Decision::Deliver(None), None, Discovery::TreeWalk);
    assert_eq!(new(found(DmarcResult::Fail, "v=DMARC1; p=reject")), None);
    assert_eq!(new(found(DmarcResult::TempError, RECORD)), None);
    let mut none = found(DmarcResult::None, RECORD);
    none.dmarc.record = None;
    assert_eq!(new(none), None);
}

#[test]
fn signatures_that_speak_for_the_author_come_first() {
    let row = observation(DmarcResult::Pass, &Decision::Deliver(None), None).row;
    let domains: Vec<&str> = row.dkim.iter().map(|one| one.domain.as_str()).collect();
    assert_eq!(domains, ["example.org", "list.example"]);
    // RFC 9990 §3.1.3: the author's own, then its organization's, then others that pass, then the rest.
    let mut found = found(DmarcResult::Pass, RECORD);
    let signature = |domain: &str, result| {
        let mut one = found.dkim[0].clone();
        (one.domain, one.result) = (domain.to_owned(), result);
        one
    };
    let order = [
        signature("example.org", DkimResult::Fail),
        signature("other.example", DkimResult::Pass),
        signature("mail.example.org", DkimResult::Pass),
        signature("news.example.org", DkimResult::Pass),
    ];
    found.dkim = order.to_vec();
    let sorted: Vec<String> = signatures(&found).into_iter().map(|one| one.domain).collect();
    assert_eq!(sorted, ["news.example.org", "mail.example.org", "other.example", "example.org"]);
    assert_eq!(row.spf, Some(("bounces.example.org".to_owned(), "softfail".to_owned())));
}

#[test]
fn a_bomb_goes_off_in_a_small_room() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(b"<feedback>").unwrap();
    for _ in 0..256 {
        packed.write_all(&[b' '; 64 * 1024]).unwrap();
    }
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 64 * 1024);
    let limits = Limits { inflated: 1 << 20, ..Limits::default() };
    assert!(matches!(unpack(&packed, &limits), Err(ReadError::TooLarge(_))));
}

#[test]
fn broken_reports_are_errors() {
    let check = |xml: &str| assert!(Report::from_xml(xml.as_bytes()).is_err(), "{xml}");
    check("");
    check("<html/>");
    check("<html></html>");
    check("<feedback></feedback>");
    let with = |record: &str| {
        format!(
            "<feedback><policy_published><domain>a.example</domain></policy_published>\
             <record>{record}</record></feedback>"
        )
    };
    check(&with(""));
    check(&with("<row><source_ip>300.1.1.1</source_ip></row>"));
    check(&with("<row><source_ip>192.0.2.1</source_ip><count>many</count></row>"));
    check(&format!("<feedback>{}", "<a>".repeat(100)));
    let good = with("<row><source_ip>192.0.2.1</source_ip><count>2</count></row>");
    assert_eq!(Report::from_xml(good.as_bytes()).unwrap().rows[0].1, 2);
    let hostile = good.replace("a.example", "a&#27;[2J.example");
    assert_eq!(Report::from_xml(hostile.as_bytes()).unwrap().published.domain, "a[2j.example");
    // Of what breaks off, that is read which was there.
    let cut = &good[..good.find("</record>").unwrap()];
    assert_eq!(Report::from_xml(cut.as_bytes()).unwrap().rows.len(), 1);
    for end in 0..good.len() {
        let _ = Report::from_xml(&good.as_bytes()[..end]);
    }
}
