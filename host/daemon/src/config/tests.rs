use std::path::Path;
use std::time::Duration;

use super::{Config, Role};

const LEAST: &str = "hostname = \"mx.example.org\"\n";

fn faults(text: &str) -> Vec<String> {
    match Config::parse(Path::new("test.toml"), text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let found = faults(&format!("{LEAST}{text}"));
    assert_eq!(found, [expected], "{text}");
}

#[test]
fn a_hostname_is_enough() {
    let config = Config::parse(Path::new("test.toml"), LEAST).unwrap();
    assert_eq!(config.limits.command_timeout, Duration::from_secs(300));
    assert_eq!(config.admin.socket, Path::new("var/admin.sock"));
    assert!(config.listeners.is_empty());
}

#[test]
fn authentication_is_on_and_its_words_are_checked() {
    let config = Config::parse(Path::new("test.toml"), LEAST).unwrap();
    assert!(config.authentication.verify && config.authentication.enforce);
    assert_eq!(config.authentication.except_from.len(), 2);
    let text = "[authentication]\nquarantine = \"mark\"\nexcept-from = []\nseal = \"example.org\"\n\
                [[dkim]]\ndomain = \"example.org\"\nselector = \"s1\"\nkey = \"s1.pem\"\n";
    let config = Config::parse(Path::new("test.toml"), &format!("{LEAST}{text}")).unwrap();
    assert!(!config.authentication.hold && config.authentication.except_from.is_empty());
    assert_eq!(config.dkim[0].key, Path::new("s1.pem"));
    check(
        "[authentication]\nseal = \"example.org\"",
        "test.toml:3: authentication.seal: there is no [[dkim]] for example.org",
    );
    check(
        "[[dkim]]\ndomain = \"example.org\"\nselector = \"a b\"\nkey = \"k\"",
        "test.toml:4: dkim[0].selector: a selector is a name of letters, digits and hyphens",
    );
}

#[test]
fn reports_are_signed_and_their_spans_fill_days() {
    let key = "[[dkim]]\ndomain = \"example.org\"\nselector = \"s1\"\nkey = \"s1.pem\"\n";
    let with = |section: &str| format!("{key}[dmarc-reports]\n{section}");
    let text = format!("{LEAST}{}", with("from = \"dmarc@example.org\"\ninterval = \"6h\""));
    let reports = Config::parse(Path::new("test.toml"), &text).unwrap().dmarc_reports.unwrap();
    assert_eq!(reports.interval, Duration::from_secs(6 * 3600));
    assert_eq!(reports.organization, "mx.example.org");
    check(
        &with("from = \"dmarc@example.net\""),
        "test.toml:7: dmarc-reports.from: there is no [[dkim]] for the domain of dmarc@example.net; a report must be signed",
    );
    for interval in ["7h", "0s", "48h"] {
        check(
            &with(&format!("from = \"dmarc@example.org\"\ninterval = \"{interval}\"")),
            "test.toml:8: dmarc-reports.interval: reports are daily or more often: a part of 24h without rest",
        );
    }
    check(&with(""), "test.toml:6: dmarc-reports: the key \"from\" is missing");
}

#[test]
fn a_fault_names_line_key_and_nearest_key() {
    check(
        "hostnam = 1",
        "test.toml:2: hostnam: unknown key \"hostnam\"; did you mean \"hostname\"?",
    );
    check(
        "[limits]\nmesage = 1",
        "test.toml:3: limits.mesage: unknown key \"mesage\"; did you mean \"message\"?",
    );
    check(
        "[limits]\nrecipients = \"many\"",
        "test.toml:3: limits.recipients: this has to be a whole number that is not negative, and is a string",
    );
    check(
        "[limits]\ndrain = \"5 parsecs\"",
        "test.toml:3: limits.drain: \"5 parsecs\" is not a duration; write a number and ms, s, m, h or d",
    );
    check(
        "[limits]\nmessage = \"1 KiB\"",
        "test.toml:3: limits.message: RFC 5321 §4.5.3.1.7 asks for 64 KiB at least",
    );
    check(
        "[trace]\nkeep = \"10m\"",
        "test.toml:3: trace.keep: an hour at least: a refusal is asked about when its sender has read it",
    );
    check(
        "[trace]\nsize = \"1 MiB\"",
        "test.toml:3: trace.size: 8 MiB at least: a busy hour has to fit in",
    );
    check(
        "[trace]\nage = \"1d\"",
        "test.toml:3: trace.age: unknown key \"age\"; valid here: \"keep\", \"size\"",
    );
    check(
        "[relay]\nfrom = [\"0.0.0.0/0\"]",
        "test.toml:3: relay.from: a network that holds everybody makes an open relay",
    );
    check(
        "[relay]\nfrom = [\"10.0.0.0/8x\"]",
        "test.toml:3: relay.from: \"10.0.0.0/8x\" is not a network, as in \"192.0.2.0/24\" or \"2001:db8::/32\"",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"bundled:greylist\"\non-error = \"defr\"",
        "test.toml:5: plugin[0].on-error: \"defr\" is not one of \"defer\", \"pass\", \"reject\"; did you mean \"defer\"?",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"bundled:greylist\"\ngrants = { edit = [\"headers\"] }",
        "test.toml:5: plugin[0].grants.edit: \"headers\": this is not one of reverse-path, recipients, route, header, header-add, trace-fields, body, schedule, tags, discard, hold",
    );
    check(
        "[[plugin]]\nname = \"a\"\ncomponent = \"no.wasm\"",
        "test.toml:4: plugin[0].component: there is no file no.wasm",
    );
    check(
        "[[route]]\nto = \"*\"\nvia = \"smtp:mail.example.net:25;auth=up\"",
        "test.toml:4: route[0].via: there is no [credentials.up]",
    );
    check(
        "[[route]]\nto = \"*\"\nrate = \"100\"",
        "test.toml:4: route[0].rate: \"100\": a rate is a number of messages and a time: \"100/1h\", \"20/m\", \"5/s\"",
    );
    check(
        "[[route]]\nto = \"*\"\nsource = [\"192.0.2.1\", \"2001:db8::1\", \"192.0.2.2\"]",
        "test.toml:4: route[0].source: one address of each family is enough: IPv4, IPv6 or both",
    );
}

#[test]
fn what_everybody_may_change_is_not_obeyed() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (file, component) = (folder.path().join("g.toml"), folder.path().join("p.wasm"));
    std::fs::write(&component, "x").unwrap();
    let plugin = format!("[[plugin]]\nname = \"p\"\ncomponent = {component:?}\n");
    std::fs::write(&file, format!("{LEAST}{plugin}")).unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let said = || match Config::load(&file) {
        Ok(_) => String::new(),
        Err(faults) => faults[0].to_string(),
    };
    (mode(&file, 0o644), mode(&component, 0o644), mode(folder.path(), 0o755));
    assert_eq!(said(), "");
    mode(&component, 0o666);
    let expected = format!(
        ":4: plugin[0].component: everybody may write to {0}; chmod o-w {0}",
        component.display()
    );
    assert!(said().ends_with(&expected), "{}", said());
    mode(&file, 0o646);
    assert!(said().contains(":1: everybody may write to"), "{}", said());
    (mode(&file, 0o644), mode(&component, 0o644), mode(folder.path(), 0o757));
    assert!(said().contains("everybody may write to the folder"), "{}", said());
    // Where only owners remove, as in /tmp.
    mode(folder.path(), 0o1777);
    assert_eq!(said(), "");
}

#[test]
fn all_faults_are_told_at_once_in_the_order_of_the_file() {
    let text = "hostname = \"mx.example.org\"\nlogs = 1\n[[listener]]\nname = \"mx\"\nrole = \"mxx\"\naddress = \"here\"\n[limits]\nerror = 3\n";
    let lines: Vec<String> =
        faults(text).iter().map(|fault| fault.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["2", "5", "6", "8"]);
}

#[test]
fn text_that_is_no_toml_says_where() {
    let found = faults("hostname = \"mx.example.org\"\n[limits\n");
    assert!(found.iter().any(|fault| fault.starts_with("test.toml:2: ")), "{found:?}");
}

#[test]
fn a_name_stands_once() {
    let listener = "[[listener]]\nname = \"mx\"\nrole = \"mx\"\naddress = \"127.0.0.1:25\"\n";
    let found = faults(&format!("{LEAST}{listener}{listener}"));
    assert_eq!(found, ["test.toml:2: listener: the name \"mx\" stands twice"]);
}

#[test]
fn one_next_hop_is_called_in_one_way() {
    let route = |to: &str, more: &str| {
        format!("[[route]]\nto = \"{to}\"\nvia = \"smtp:hub.example:25\"\n{more}\n")
    };
    let same = format!("{LEAST}{}{}", route("a.example", ""), route("b.example", ""));
    assert_eq!(faults(&same), [""; 0]);
    let found = faults(&(same + &route("c.example", "rate = \"20/m\"")));
    assert_eq!(
        found,
        [
            "test.toml:2: route: \"c.example\": another route has the same via with another source or rate"
        ]
    );
}

#[test]
fn the_configurations_that_come_with_the_server_have_no_faults() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults:?}"));
            assert!(config.listeners.iter().any(|listener| listener.role == Role::Mx), "{path:?}");
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} files");
}

/// Every section that is about a domain, with as much in it as lets it be read.
const SECTIONS: &str = "[[listener]]\n[tls]\n[limits]\n[door]\n[logins]\n[authentication]\n[[dkim]]\n[[domain]]\n\
     [[list]]\n[srs]\n[[user]]\n[relay]\n[[route]]\n[credentials.x]\n[[table]]\n[dns]\n[queue]\n[delivery]\n[admin]\n[log]\n[trace]\n[dmarc-reports]\n";

#[test]
fn the_example_of_a_domain_has_every_key() {
    let example = include_str!("../../../../config/domain.toml");
    let source = super::Source::new(Path::new("test.toml"), SECTIONS);
    let table = super::table(&source, SECTIONS);
    let _ = super::sections::read(&super::Reader::root(&source, table.get_ref()), Path::new("x"));
    let asked = source.asked.borrow().clone();
    assert!(asked.len() > 100, "{asked:?}");
    for path in asked {
        let key = path.rsplit('.').next().unwrap_or(&path);
        let others = ["policy", "plugin"];
        let stands = |line: &str| {
            let words: Vec<&str> = line.split([' ', '[', ']', '{', '.', ',']).collect();
            words.contains(&key)
        };
        assert!(
            others.contains(&key) || example.lines().any(stands),
            "{path} is not in config/domain.toml"
        );
    }
}

#[test]
fn the_example_of_a_domain_is_read_with_its_defaults() {
    let example = include_str!("../../../../config/domain.toml");
    let folder = tempfile::tempdir().unwrap();
    let data = format!("data = {:?}", folder.path().join("var").display().to_string());
    let text = example.replace("data = \"var\"", &data);
    let config = Config::parse(Path::new("domain.toml"), &text);
    let config = config.unwrap_or_else(|faults| panic!("{faults:?}"));
    let least = Config::parse(Path::new("test.toml"), LEAST).unwrap();
    // What the file says in comments is what holds.
    assert_eq!(format!("{:?}", config.door), format!("{:?}", least.door));
    assert_eq!(format!("{:?}", config.delivery), format!("{:?}", least.delivery));
    let srs = config.srs.unwrap();
    assert_eq!(
        (srs.domain.as_str(), srs.file.file_name()),
        ("example.org", Some("srs-secrets".as_ref()))
    );
    assert!(config.domains[0].logins_have_mailboxes);
}
