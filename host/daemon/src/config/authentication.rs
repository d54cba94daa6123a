//! `[authentication]` and `[[dkim]]`: whose mail is believed, and our signature.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use smtp::{Domain, Mailbox};

use super::reader::Reader;
use super::sections::networks;
use super::value::{ByteSize, Text};

/// `[authentication]`
#[derive(Clone, Debug)]
pub(crate) struct Authentication {
    /// Verify SPF, DKIM, ARC and DMARC of what comes to listeners of the role `mx` from strangers.
    pub(crate) verify: bool,
    /// Obey what a forged author's domain asks for: `reject` and `quarantine` (RFC 9989 §7.4).
    pub(crate) enforce: bool,
    /// Quarantined mail is held in the queue; otherwise it is delivered with its Authentication-Results.
    pub(crate) hold: bool,
    /// Our name in Authentication-Results (RFC 8601 §2.5); the host name if absent.
    pub(crate) name: String,
    /// Clients whose mail is not verified.
    pub(crate) except_from: Vec<IpNet>,
    /// Find organizations by the Public Suffix List (RFC 7489), not by the DNS tree walk (RFC 9989).
    pub(crate) public_suffix_list: bool,
    /// Domains of mailing lists whose changes are excused, as in List-Id.
    pub(crate) mailing_lists: Vec<String>,
    /// Domains whose ARC seals are believed.
    pub(crate) arc_sealers: Vec<String>,
    /// The domain of `[[dkim]]` with whose first key verified mail is sealed (RFC 8617), for those to whom it is forwarded.
    pub(crate) seal: Option<String>,
}

/// `[[dkim]]`
#[derive(Clone, Debug)]
pub(crate) struct DkimKey {
    /// Mail whose author is of this domain is signed.
    pub(crate) domain: Domain,
    /// Where the key is published: `SELECTOR._domainkey.DOMAIN`.
    pub(crate) selector: String,
    /// The private key in PEM.
    pub(crate) key: PathBuf,
}

/// `[dmarc-reports]`: aggregate reports (RFC 9990) to the owners of the domains that ask for them.
#[derive(Clone, Debug)]
pub(crate) struct DmarcReports {
    /// From whom they come. Its domain has a `[[dkim]]`: a report must pass DMARC itself (RFC 9990 §3.5.2).
    pub(crate) from: Mailbox,
    /// Our name in them; the host name if absent.
    pub(crate) organization: String,
    /// The span of one report; it begins at midnight UTC and at whole intervals behind it (RFC 9990 §3.1: daily or more
    /// often).
    pub(crate) interval: Duration,
    /// Octets that may be kept of one span; what comes behind them is in no report. Spans that are over and wait for the
    /// DNS or the queue may have as much once more.
    pub(crate) space: u64,
}

/// Programs on this machine have no SPF record.
fn this_machine() -> Vec<IpNet> {
    let loopback = [
        IpNet::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8).map(|net| net.trunc()),
        IpNet::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    ];
    loopback.into_iter().flatten().collect()
}

pub(super) fn authentication(section: Option<Reader<'_>>, keys: &[DkimKey]) -> Authentication {
    let mut authentication = Authentication {
        verify: true,
        enforce: true,
        hold: true,
        name: String::new(),
        except_from: this_machine(),
        public_suffix_list: false,
        mailing_lists: Vec::new(),
        arc_sealers: Vec::new(),
        seal: None,
    };
    let Some(section) = section else { return authentication };
    authentication.verify = section.get_or("verify", true);
    authentication.enforce = section.get_or("enforce", true);
    authentication.hold = section.choice("quarantine", &[("hold", true), ("mark", false)], true);
    if let Some(name) = section.get::<Text<Domain>>("name") {
        authentication.name = name.0.to_string();
    }
    if section.get::<Vec<String>>("except-from").is_some() {
        authentication.except_from = networks(&section, "except-from");
    }
    let ways = [("tree-walk", false), ("public-suffix-list", true)];
    authentication.public_suffix_list = section.choice("organizations", &ways, false);
    authentication.mailing_lists = domains(&section, "mailing-lists");
    authentication.arc_sealers = domains(&section, "arc-sealers");
    authentication.seal = section.get::<Text<Domain>>("seal").map(|domain| domain.0.to_string());
    if let Some(domain) = &authentication.seal
        && !keys.iter().any(|key| key.domain.as_str() == domain)
    {
        section.fault("seal", format!("there is no [[dkim]] for {domain}"));
    }
    section.finish();
    authentication
}

pub(super) fn dkim(section: Reader<'_>) -> Option<DkimKey> {
    let domain = section.require::<Text<Domain>>("domain");
    let selector = section.require::<String>("selector");
    let key = section.require::<PathBuf>("key");
    let valid = |text: &str| {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        };
        text.split('.').all(is_label)
    };
    if selector.as_deref().is_some_and(|selector| !valid(selector)) {
        section.fault("selector", "a selector is a name of letters, digits and hyphens");
    }
    section.finish();
    Some(DkimKey { domain: domain?.0, selector: selector?, key: key? })
}

pub(super) fn dmarc_reports(
    section: Option<Reader<'_>>,
    hostname: &str,
    keys: &[DkimKey],
) -> Option<DmarcReports> {
    let section = section?;
    let from = section.require::<Text<Mailbox>>("from").map(|from| from.0);
    let organization = section.get_or("organization", hostname.to_owned());
    let interval = section.get_or("interval", DAY);
    let space = section.get_or("space", ByteSize(64 << 20)).0;
    if interval.is_zero() || interval > DAY || DAY.as_secs() % interval.as_secs().max(1) != 0 {
        section.fault("interval", "reports are daily or more often: a part of 24h without rest");
    }
    let signed = |from: &Mailbox| {
        let domain = from.domain().map(|domain| domain.to_ascii()).unwrap_or_default();
        keys.iter().any(|key| key.domain.to_ascii() == domain)
    };
    if let Some(from) = from.as_ref().filter(|from| !signed(from)) {
        section.fault(
            "from",
            format!("there is no [[dkim]] for the domain of {from}; a report must be signed"),
        );
    }
    section.finish();
    Some(DmarcReports { from: from?, organization, interval, space })
}

/// RFC 9990 §3.1: what owners of domains expect.
const DAY: Duration = Duration::from_secs(86_400);

fn domains(section: &Reader<'_>, key: &'static str) -> Vec<String> {
    let domains: Vec<Text<Domain>> = section.get_or(key, Vec::new());
    domains.into_iter().map(|domain| domain.0.to_string()).collect()
}
