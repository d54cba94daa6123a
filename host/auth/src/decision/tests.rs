use std::net::Ipv4Addr;

use super::*;
use crate::outcome::{
    ArcChain, Dkim, DkimResult, Dmarc, Iprev, IprevResult, Sealer, Spf, SpfIdentity, SpfResult,
};

fn found(result: DmarcResult, policy: DmarcPolicy) -> Authentication {
    let spf = |identity| Spf::new(identity, "host.lists.example".to_owned(), SpfResult::Fail);
    Authentication {
        iprev: Iprev {
            result: IprevResult::Fail,
            address: Ipv4Addr::LOCALHOST.into(),
            names: Vec::new(),
        },
        helo: spf(SpfIdentity::Helo),
        mail_from: spf(SpfIdentity::MailFrom),
        dkim: Vec::new(),
        arc: ArcChain::none(),
        dmarc: Dmarc {
            result,
            author_domain: "author.example".to_owned(),
            policy_domain: Some("author.example".to_owned()),
            organizational_domain: "author.example".to_owned(),
            policy,
            record: None,
            spf_aligned: None,
            dkim_aligned: None,
            problem: None,
        },
    }
}

fn trust(lists: &[&str], sealers: &[&str]) -> Trust {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Trust { enforce: true, mailing_lists: owned(lists), arc_sealers: owned(sealers) }
}

fn decided(found: &Authentication, trust: &Trust, fields: &str) -> Decision {
    decide(found, trust, &Header::parse(fields.as_bytes().to_vec()))
}

#[test]
fn policies_are_obeyed_where_dmarc_fails() {
    let check = |result, policy, expected: Decision| {
        let found = decided(&found(result, policy), &Trust::default(), "");
        assert_eq!(found, expected, "{result} {policy}");
    };
    for policy in [DmarcPolicy::None, DmarcPolicy::Quarantine, DmarcPolicy::Reject] {
        for result in [DmarcResult::Pass, DmarcResult::None, DmarcResult::TempError] {
            check(result, policy, Decision::Deliver(None));
        }
    }
    for result in [DmarcResult::Fail, DmarcResult::PermError] {
        check(result, DmarcPolicy::None, Decision::Deliver(None));
        check(result, DmarcPolicy::Quarantine, Decision::Quarantine);
        check(result, DmarcPolicy::Reject, Decision::Reject);
    }
    let lax = Trust { enforce: false, ..Trust::default() };
    let failed = found(DmarcResult::Fail, DmarcPolicy::Reject);
    assert_eq!(decided(&failed, &lax, ""), Decision::Deliver(Some(Exception::NotEnforced)));
    let failed = found(DmarcResult::Fail, DmarcPolicy::None);
    assert_eq!(decided(&failed, &lax, ""), Decision::Deliver(None));
}

#[test]
fn a_known_list_that_really_sent_it_is_an_exception() {
    let known = trust(&["Lists.Example"], &[]);
    let id = "List-Id: Talk about it <talk.lists.example>\\r\\n".replace("\\r\\n", "\r\n");
    let exception = Decision::Deliver(Some(Exception::MailingList("lists.example".to_owned())));
    let check = |spf: SpfResult,
                 signed: Option<(&str, bool)>,
                 trust: &Trust,
                 id: &str,
                 expected: &Decision| {
        let mut found = found(DmarcResult::Fail, DmarcPolicy::Reject);
        found.mail_from.result = spf;
        found.dkim.extend(signed.map(|(domain, partial)| Dkim {
            result: DkimResult::Pass,
            domain: domain.to_owned(),
            partial,
            ..crate::dkim::unread()
        }));
        assert_eq!(decided(&found, trust, id), *expected, "{spf} {signed:?} {trust:?} {id}");
    };
    check(SpfResult::Pass, None, &known, &id, &exception);
    check(SpfResult::Fail, Some(("lists.example", false)), &known, &id, &exception);
    check(SpfResult::Fail, Some(("lists.example", true)), &known, &id, &Decision::Reject);
    check(SpfResult::Fail, Some(("other.example", false)), &known, &id, &Decision::Reject);
    check(SpfResult::Fail, None, &known, &id, &Decision::Reject);
    check(SpfResult::Pass, None, &known, "", &Decision::Reject);
    check(SpfResult::Pass, None, &known, "List-Id: <talk.other.example>\r\n", &Decision::Reject);
    check(SpfResult::Pass, None, &known, "List-Id: talk.lists.example\r\n", &Decision::Reject);
    check(SpfResult::Pass, None, &Trust::default(), &id, &Decision::Reject);
}

#[test]
fn a_trusted_sealer_is_believed_as_far_back_as_all_are_trusted() {
    const GOOD: &str = "mx.one.example; dmarc=pass header.from=author.example";
    const OTHER: &str = "mx.one.example; dmarc=pass header.from=other.example";
    const BAD: &str = "mx.one.example; dmarc=fail header.from=author.example";
    const PASSED_ON: &str = "mx.two.example; arc=pass; dmarc=fail header.from=author.example";
    let check = |result, sealers: &[(&str, &str)], trusted: &[&str], expected: Option<&str>| {
        let mut found = found(DmarcResult::Fail, DmarcPolicy::Reject);
        let sealers = sealers.iter().map(|(domain, results)| Sealer {
            domain: (*domain).to_owned(),
            selector: "s".to_owned(),
            results: (*results).to_owned(),
        });
        found.arc = ArcChain { result, sealers: sealers.collect(), problem: None };
        let expected = match expected {
            Some(sealer) => Decision::Deliver(Some(Exception::TrustedSealer(sealer.to_owned()))),
            None => Decision::Reject,
        };
        assert_eq!(
            decided(&found, &trust(&[], trusted), ""),
            expected,
            "{:?} {trusted:?}",
            found.arc
        );
    };
    check(ArcResult::Pass, &[("one.example", GOOD)], &["one.example"], Some("one.example"));
    check(ArcResult::Pass, &[("mx.one.example", GOOD)], &["One.Example"], Some("mx.one.example"));
    check(ArcResult::Fail, &[("one.example", GOOD)], &["one.example"], None);
    check(ArcResult::TempError, &[("one.example", GOOD)], &["one.example"], None);
    check(ArcResult::Pass, &[("one.example", GOOD)], &[], None);
    check(ArcResult::Pass, &[("one.example", OTHER)], &["one.example"], None);
    check(ArcResult::Pass, &[("one.example", BAD)], &["one.example"], None);
    check(ArcResult::Pass, &[("one.example", "?")], &["one.example"], None);
    let both = [("one.example", GOOD), ("two.example", PASSED_ON)];
    check(ArcResult::Pass, &both, &["one.example", "two.example"], Some("one.example"));
    check(ArcResult::Pass, &both, &["one.example"], None);
    check(ArcResult::Pass, &both, &["two.example"], None);
    let broken = [("one.example", GOOD), ("two.example", BAD)];
    check(ArcResult::Pass, &broken, &["one.example", "two.example"], None);
}
