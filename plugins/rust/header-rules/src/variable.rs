//! What an expression can ask about.

use gatepost_plugin::authentication::{
    ArcResult, DkimResult, DmarcPolicy, DmarcResult, Results, SpfResult,
};
use gatepost_plugin::{Content, Host, Recipient, Session, SessionInfo, Transaction};

use crate::config::Stage;
use crate::expression::{Found, Kind};

/// A message, as far as it is there.
pub(crate) struct Scene<'a> {
    pub(crate) host: &'a Host,
    pub(crate) session: &'a Session,
    pub(crate) info: SessionInfo,
    pub(crate) transaction: &'a Transaction,
    /// At RCPT: the one that is asked about.
    pub(crate) recipient: Option<&'a Recipient>,
    /// At DATA.
    pub(crate) content: Option<&'a Content>,
}

/// Something that a message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// Its place in [`FIXED`].
    Fixed(usize),
    Header(String),
    Parameter(String),
}

impl Scene<'_> {
    pub(crate) fn note(&self, key: &str) -> Option<String> {
        self.transaction.note(key).or_else(|| self.session.note(key))
    }

    pub(crate) fn recipients(&self) -> Vec<String> {
        match self.recipient {
            Some(recipient) => vec![recipient.address.clone()],
            None => self.transaction.recipients().into_iter().map(|one| one.address).collect(),
        }
    }

    fn results(&self) -> Option<Results> {
        self.content.and_then(Content::authentication)
    }
}

impl Variable {
    pub(crate) fn named(name: &str) -> Option<Self> {
        if let Some(field) = name.strip_prefix("header.").filter(|field| !field.is_empty()) {
            return Some(Self::Header(field.to_owned()));
        }
        if let Some(parameter) = name.strip_prefix("parameter.").filter(|rest| !rest.is_empty()) {
            return Some(Self::Parameter(parameter.to_ascii_uppercase()));
        }
        FIXED.iter().position(|fixed| fixed.name == name).map(Self::Fixed)
    }

    /// All of them, for who mistook one.
    pub(crate) fn names() -> String {
        let names: Vec<&str> = FIXED.iter().map(|fixed| fixed.name).collect();
        [&names.join(", "), ", header.NAME, parameter.NAME"].concat()
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Fixed(place) => FIXED.get(*place).map_or("", |fixed| fixed.name).to_owned(),
            Self::Header(name) => ["header.", name].concat(),
            Self::Parameter(name) => ["parameter.", &name.to_ascii_lowercase()].concat(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Fixed(place) => FIXED.get(*place).map_or(Kind::Text, |fixed| fixed.kind),
            Self::Header(_) | Self::Parameter(_) => Kind::Text,
        }
    }

    /// From which stage on it is known.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Fixed(place) => FIXED.get(*place).map_or(Stage::Data, |fixed| fixed.stage),
            Self::Header(_) => Stage::Data,
            Self::Parameter(_) => Stage::Mail,
        }
    }

    pub(crate) fn find(&self, scene: &Scene<'_>) -> Found {
        match self {
            Self::Fixed(place) => {
                FIXED.get(*place).map_or(Found::Texts(Vec::new()), |fixed| (fixed.find)(scene))
            }
            Self::Header(name) => {
                Found::Texts(scene.content.map(|content| content.header(name)).unwrap_or_default())
            }
            Self::Parameter(name) => texts(scene.transaction.parameter(name)),
        }
    }
}

struct Fixed {
    name: &'static str,
    kind: Kind,
    stage: Stage,
    find: fn(&Scene<'_>) -> Found,
}

const fn known(
    name: &'static str,
    kind: Kind,
    stage: Stage,
    find: fn(&Scene<'_>) -> Found,
) -> Fixed {
    Fixed { name, kind, stage, find }
}

/// In the order of the README.
static FIXED: [Fixed; 26] = [
    known("client.ip", Kind::Ip, Stage::Mail, |scene| texts(Some(scene.info.client.ip.clone()))),
    known("client.name", Kind::Domain, Stage::Mail, |scene| texts(scene.session.client_name())),
    known("helo", Kind::Domain, Stage::Mail, |scene| texts(scene.info.helo.clone())),
    known("listener", Kind::Text, Stage::Mail, |scene| texts(Some(scene.info.listener.clone()))),
    known("origin", Kind::Text, Stage::Mail, |scene| texts(Some(scene.transaction.origin()))),
    known("tls", Kind::Truth, Stage::Mail, |scene| Found::Truth(scene.info.tls.is_some())),
    known("tls.version", Kind::Text, Stage::Mail, |scene| {
        texts(scene.info.tls.as_ref().map(|tls| tls.version.clone()))
    }),
    known("authenticated", Kind::Truth, Stage::Mail, |scene| {
        Found::Truth(scene.info.auth.is_some())
    }),
    known("user", Kind::Text, Stage::Mail, |scene| {
        texts(scene.info.auth.as_ref().map(|auth| auth.identity.clone()))
    }),
    known("ours", Kind::Truth, Stage::Mail, |scene| Found::Truth(scene.info.is_ours())),
    known("sender", Kind::Address, Stage::Mail, |scene| texts(scene.transaction.reverse_path())),
    known("recipients", Kind::Address, Stage::Rcpt, |scene| Found::Texts(scene.recipients())),
    known("tags", Kind::Text, Stage::Mail, |scene| Found::Texts(scene.transaction.tags())),
    known("spf", Kind::Text, Stage::Mail, |scene| spf(scene, "mailfrom")),
    known("spf.helo", Kind::Text, Stage::Mail, |scene| spf(scene, "helo")),
    known("size", Kind::Number, Stage::Data, |scene| number(scene.content.map(Content::size))),
    known("body.size", Kind::Number, Stage::Data, |scene| {
        number(scene.content.map(Content::body_size))
    }),
    known("headers", Kind::Text, Stage::Data, |scene| {
        let fields = scene.content.map(Content::headers).unwrap_or_default();
        Found::Texts(fields.into_iter().map(|field| field.name).collect())
    }),
    known("dkim", Kind::Text, Stage::Data, |scene| {
        let signatures = scene.results().map(|results| results.dkim).unwrap_or_default();
        let word = |outcome| dkim_word(outcome).to_owned();
        Found::Texts(signatures.iter().map(|signature| word(signature.outcome)).collect())
    }),
    known("dkim.domains", Kind::Domain, Stage::Data, |scene| {
        let signatures = scene.results().map(|results| results.dkim).unwrap_or_default();
        let passed = signatures.into_iter().filter(|one| one.outcome == DkimResult::Pass);
        Found::Texts(passed.map(|one| one.domain).collect())
    }),
    known("dmarc", Kind::Text, Stage::Data, |scene| {
        let dmarc = scene.results().and_then(|results| results.dmarc);
        texts(dmarc.map(|dmarc| dmarc_word(dmarc.outcome).to_owned()))
    }),
    known("dmarc.policy", Kind::Text, Stage::Data, |scene| {
        let policy = scene.results().and_then(|results| results.dmarc?.policy);
        texts(policy.map(|policy| policy_word(policy).to_owned()))
    }),
    known("dmarc.domain", Kind::Domain, Stage::Data, |scene| {
        texts(scene.results().and_then(|results| Some(results.dmarc?.domain)))
    }),
    known("arc", Kind::Text, Stage::Data, |scene| {
        texts(scene.results().and_then(|results| Some(arc_word(results.arc?.outcome).to_owned())))
    }),
    known("arc.sealer", Kind::Domain, Stage::Data, |scene| {
        texts(scene.results().and_then(|results| results.arc?.sealer))
    }),
    known("id", Kind::Text, Stage::Mail, |scene| texts(Some(scene.transaction.id()))),
];

fn texts(text: Option<String>) -> Found {
    Found::Texts(text.into_iter().collect())
}

fn number(number: Option<u64>) -> Found {
    Found::Number(number.and_then(|number| i64::try_from(number).ok()))
}

fn spf(scene: &Scene<'_>, identity: &str) -> Found {
    let results = scene.transaction.spf();
    let result = results.iter().find(|result| result.identity == identity);
    texts(result.map(|result| spf_word(result.outcome).to_owned()))
}

/// RFC 8601 §2.7.2.
fn spf_word(outcome: SpfResult) -> &'static str {
    match outcome {
        SpfResult::None => "none",
        SpfResult::Neutral => "neutral",
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::Softfail => "softfail",
        SpfResult::Temperror => "temperror",
        SpfResult::Permerror => "permerror",
    }
}

/// RFC 8601 §2.7.1.
fn dkim_word(outcome: DkimResult) -> &'static str {
    match outcome {
        DkimResult::None => "none",
        DkimResult::Pass => "pass",
        DkimResult::Fail => "fail",
        DkimResult::Policy => "policy",
        DkimResult::Neutral => "neutral",
        DkimResult::Temperror => "temperror",
        DkimResult::Permerror => "permerror",
    }
}

/// RFC 7489 §11.2.
fn dmarc_word(outcome: DmarcResult) -> &'static str {
    match outcome {
        DmarcResult::None => "none",
        DmarcResult::Pass => "pass",
        DmarcResult::Fail => "fail",
        DmarcResult::Temperror => "temperror",
        DmarcResult::Permerror => "permerror",
    }
}

fn policy_word(policy: DmarcPolicy) -> &'static str {
    match policy {
        DmarcPolicy::None => "none",
        DmarcPolicy::Quarantine => "quarantine",
        DmarcPolicy::Reject => "reject",
    }
}

fn arc_word(outcome: ArcResult) -> &'static str {
    match outcome {
        ArcResult::None => "none",
        ArcResult::Pass => "pass",
        ArcResult::Fail => "fail",
    }
}
