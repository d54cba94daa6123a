use net::Kind;

use super::*;
use crate::corpora::{World, runtime};

fn world(records: &[(&str, &str)]) -> World {
    let mut world = World::default();
    for (domain, text) in records {
        world.exists(domain);
        world.txt(&format!("_dmarc.{domain}"), text);
    }
    world
}

fn evidence(domain: &str) -> Evidence {
    Evidence { dkim: vec![domain.to_owned()], ..Evidence::default() }
}

/// What the tree walk finds, and what the Public Suffix List does: the result and the organization.
#[track_caller]
fn check(records: &[(&str, &str)], author: &str, signer: &str, expected: [(&str, &str); 2]) {
    let ways = [Discovery::TreeWalk, Discovery::PublicSuffixList];
    for (discovery, (result, organization)) in ways.into_iter().zip(expected) {
        let world = world(records);
        let found =
            runtime().block_on(of_author(&world.resolver(), discovery, author, &evidence(signer)));
        let found = (found.result.as_str(), found.organizational_domain.as_str());
        assert_eq!(found, (result, organization), "{discovery:?} {author} {signer}");
    }
}

#[test]
fn the_tree_and_the_list_may_find_other_organizations() {
    let reject = "v=DMARC1; p=reject";
    let none = "v=DMARC1; p=none";
    // One organization, whoever is asked.
    let plain = [("example.co.uk", reject)];
    let found = [("pass", "example.co.uk"); 2];
    check(&plain, "news.example.co.uk", "mail.example.co.uk", found);
    check(&plain, "example.co.uk", "other.co.uk", [("fail", "example.co.uk"); 2]);
    // RFC 7489 §3.2: in the list each name below github.io is somebody else's; the tree has to be told so (psd=y).
    let shared = [("a.github.io", reject), ("github.io", none)];
    check(&shared, "a.github.io", "b.github.io", [("pass", "github.io"), ("fail", "a.github.io")]);
    let told = [("a.github.io", reject), ("github.io", "v=DMARC1; p=none; psd=y")];
    check(&told, "a.github.io", "b.github.io", [("fail", "a.github.io"); 2]);
    // RFC 7489 §6.6.3: between the author and the organization nobody is asked; the walk passes there (RFC 9989 §4.10).
    let department = [("dept.example.org", reject)];
    check(
        &department,
        "x.dept.example.org",
        "other.example",
        [("fail", "dept.example.org"), ("none", "x.dept.example.org")],
    );
}

/// RFC 9989 §5.3.6: a signature verifies, and whether its domain belongs to the author cannot be found out.
#[test]
fn a_domain_of_which_the_dns_says_nothing_makes_nobody_a_forger() {
    let found = |signer: &str| {
        let mut world = world(&[("example.org", "v=DMARC1; p=reject")]);
        world.fail("_dmarc.mail.example.org", Some(Kind::Txt), "TIMEOUT");
        let evidence = evidence(signer);
        let tree = Discovery::TreeWalk;
        runtime().block_on(of_author(&world.resolver(), tree, "example.org", &evidence)).result
    };
    assert_eq!(found("mail.example.org"), DmarcResult::TempError);
    assert_eq!(found("news.example.org"), DmarcResult::Pass);
    assert_eq!(found("example.org"), DmarcResult::Pass);
    assert_eq!(found("other.example"), DmarcResult::Fail);
}
