use super::*;

fn house() -> LocalDomains {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    LocalDomains::new(vec![
        LocalDomain {
            name: "example.test".parse().unwrap(),
            users: ["Alice", "bob"].map(str::to_owned).into(),
            catch_all: None,
            aliases: [(
                "Sales".to_owned(),
                vec![mailbox("alice@example.test"), mailbox("x@example.net")],
            )]
            .into(),
            lists: BTreeMap::new(),
            quota: Quota::default(),
            delivery: LocalDelivery::Maildir { template: "var/{domain}/{user}".to_owned() },
            subaddress: Some('+'),
        },
        LocalDomain {
            name: "bücher.example".parse().unwrap(),
            users: BTreeSet::new(),
            catch_all: Some(mailbox("bob@example.test")),
            aliases: BTreeMap::new(),
            lists: BTreeMap::new(),
            quota: Quota::default(),
            delivery: LocalDelivery::Lmtp("/run/lmtp".parse().unwrap()),
            subaddress: None,
        },
    ])
}

fn check(path: &str, expected: &str) {
    let told = match house().resolve(&path.parse().unwrap()) {
        Resolution::Local { mailbox, route } => format!("{mailbox} {route}"),
        Resolution::Expanded(mailboxes) => {
            mailboxes.iter().map(|mailbox| format!("={mailbox}")).collect::<Vec<_>>().join(" ")
        }
        Resolution::Unknown => "unknown".to_owned(),
        Resolution::Remote(host) => format!("remote {host}"),
    };
    assert_eq!(told, expected, "{path}");
}

#[test]
fn a_forward_path_is_resolved() {
    check("alice@example.test", "alice@example.test maildir:var/example.test/alice");
    check("ALICE@Example.TEST", "ALICE@example.test maildir:var/example.test/alice");
    check("alice+list@example.test", "alice+list@example.test maildir:var/example.test/alice");
    check("+list@example.test", "unknown");
    check("sales@example.test", "=alice@example.test =x@example.net");
    check("sales+x@example.test", "=alice@example.test =x@example.net");
    check("nobody@example.test", "unknown");
    check("alice@example.net", "remote example.net");
    check("alice@[192.0.2.1]", "remote [192.0.2.1]");
    check("\"../../etc\"@example.test", "unknown");
}

#[test]
fn postmaster_is_always_known() {
    check("postmaster", "postmaster@example.test maildir:var/example.test/postmaster");
    check("PostMaster@example.test", "PostMaster@example.test maildir:var/example.test/postmaster");
    check("postmaster@bücher.example", "postmaster@bücher.example lmtp:/run/lmtp");
}

#[test]
fn a_domain_is_the_same_in_a_labels() {
    check("x@xn--bcher-kva.example", "=bob@example.test");
    check("x@BÜCHER.example", "=bob@example.test");
}

#[test]
fn an_address_belongs_to_the_mailboxes_it_leads_to() {
    let check = |address: &str, expected: &[&str]| {
        let owners: Vec<String> = house()
            .owners(&Mailbox::parse(address).unwrap())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(owners, expected, "{address}");
    };
    check("alice@example.test", &["alice@example.test"]);
    check("ALICE+list@Example.TEST", &["alice@example.test"]);
    check("sales@example.test", &["alice@example.test"]);
    check("sales+spring@example.test", &["alice@example.test"]);
    check("nobody@example.test", &[]);
    check("anybody@bücher.example", &[]); // a catch-all
    check("alice@example.net", &[]);
}
