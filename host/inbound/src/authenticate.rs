//! Who a message is from: found out at the end of data, before policy is asked, and obeyed behind it, so that a plugin can
//! overrule it. And our own signature on what our users send, our seal on what passes through.

use std::borrow::Cow;
use std::sync::Arc;

use auth::arc::Sealing;
use auth::dkim::Signer;
use auth::report::{Disposition, Observation};
use auth::{Authentication as Found, Decision, Facts, Trust, Verifier, results};
use message::{Body, Composed, Edit, Header};
use policy::{RecipientVerdict, Ruling, Stage, TraceEntry, Verdict};
use queue::Draft;
use smtp::Reply;
use tokio::sync::mpsc;
use tracing::{debug, error};

use crate::config::Role;
use crate::findings;
use crate::house::now;
use crate::networks::Networks;
use crate::refusal;
use crate::session::Session;
use crate::transaction::Transaction;

/// How mail from outside is verified and mail of our own is signed.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// Verify what comes to listeners of the role `mx` from strangers.
    pub verify: bool,
    /// Clients whose mail is not verified: programs on this machine have no SPF record.
    pub except_from: Networks,
    /// Our name in Authentication-Results (RFC 8601 §2.5); our host name if it is empty.
    pub authserv_id: String,
    /// How much work a message may cause, and how organizations are found.
    pub options: auth::Options,
    /// Which policies are obeyed, and whose mail is an exception.
    pub trust: Trust,
    /// What `quarantine` means here.
    pub quarantine: Quarantine,
    /// Our signatures: all of those of the author's domain are made.
    pub signers: Vec<Arc<Signer>>,
    /// Who gathers what was found, for reports to the owners of domains (RFC 9990). It must keep up: what does not fit
    /// into the channel is in no report.
    pub seen: Option<mpsc::Sender<Observation>>,
    /// Our ARC seal on what was verified (RFC 8617 §5.1), for those to whom it is forwarded.
    pub sealing: Option<Arc<Sealing>>,
}

/// What is done with a message that its author's domain wants quarantined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quarantine {
    /// The queue holds it under the name "dmarc" until an administrator releases it.
    #[default]
    Hold,
    /// It is delivered, and Authentication-Results says what was found.
    Mark,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            verify: true,
            except_from: "127.0.0.0/8, ::1".parse().unwrap_or_default(),
            authserv_id: String::new(),
            options: auth::Options::default(),
            trust: Trust::default(),
            quarantine: Quarantine::default(),
            signers: Vec::new(),
            seen: None,
            sealing: None,
        }
    }
}

/// What was found about a message from outside.
pub(crate) struct Verified {
    decision: Decision,
    found: Found,
    /// The value of our Authentication-Results field.
    results: String,
}

/// Takes forged results away, finds out who a stranger's message is from, and adds what was found to the header.
pub(crate) async fn verify(
    session: &Session,
    transaction: &mut Transaction,
    header: &Header,
    draft: &Draft,
) -> Option<Verified> {
    let config = &session.house.config.authentication;
    let id = match config.authserv_id.as_str() {
        "" => &session.house.config.hostname,
        other => other,
    };
    // What a program hands over by LMTP was received by a server of ours, which may have added results.
    if !session.is_lmtp() {
        transaction.policy.edits.extend(results::forged(id, header));
    }
    let began = now();
    let facts = facts(session, &transaction.policy.reverse_path, began)?;
    let found = session.house.verifier.verify(&facts, header, &draft.octets()).await;
    let decision = auth::decide(&found, &config.trust, header);
    let results = results::field(id, &found);
    match Edit::prepend(results::NAME, &results) {
        Ok(field) => transaction.policy.edits.push(field),
        Err(error) => error!(message = %transaction.policy.id, "no results were added: {error}"),
    }
    let spent = now().duration_since(began).unwrap_or_default();
    let micros = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
    transaction.policy.trace.push(entry(&decision, &results, micros));
    Some(Verified { decision, found, results })
}

/// What SPF says at MAIL, if a plugin may want to know it there.
pub(crate) async fn spf(
    session: &Session,
    reverse_path: &smtp::ReversePath,
) -> Vec<policy::authentication::Spf> {
    if let Some(made_up) = session.made_up_results() {
        return made_up.spf.clone();
    }
    let chain = session.policy.chain();
    if !chain.asks(Stage::Mail) && !chain.asks(Stage::Rcpt) {
        return Vec::new();
    }
    let Some(facts) = facts(session, reverse_path, now()) else { return Vec::new() };
    let verifier = &session.house.verifier;
    let both =
        futures_util::future::join(verifier.spf_of_helo(&facts), verifier.spf_of_mail_from(&facts));
    // In a box: most sessions wait for a client and not for this.
    let (helo, mail_from) = Box::pin(both).await;
    vec![findings::spf(&mail_from), findings::spf(&helo)]
}

/// What is known about a stranger; none about those who are not verified.
fn facts<'a>(
    session: &'a Session,
    reverse_path: &'a smtp::ReversePath,
    now: std::time::SystemTime,
) -> Option<Facts<'a>> {
    let config = &session.house.config.authentication;
    let client = session.peer.ip().filter(|ip| !config.except_from.contains(*ip))?;
    if !config.verify || session.entrance.config.role != Role::Mx || session.may_relay() {
        return None;
    }
    if session.made_up_results().is_some() {
        return None;
    }
    let helo = session.helo.as_ref().map_or("", |helo| helo.name.as_str());
    let receiver = &session.house.config.hostname;
    Some(Facts { client, helo, reverse_path, receiver, now })
}

fn entry(decision: &Decision, results: &str, micros: u64) -> TraceEntry {
    let (verdict, exception) = match decision {
        Decision::Deliver(exception) => ("pass", exception.as_ref()),
        Decision::Quarantine => ("quarantine", None),
        Decision::Reject => ("reject", None),
    };
    let version = env!("CARGO_PKG_VERSION").into();
    TraceEntry {
        verdict: Cow::Borrowed(verdict),
        reason: Some(match exception {
            Some(exception) => format!("{exception:?}: {results}"),
            None => results.to_owned(),
        }),
        rule: Some("authentication".to_owned()),
        micros,
        ..TraceEntry::new(Stage::Data, "host".into(), version, "".into())
    }
}

impl Verified {
    /// What was found, for plugins.
    pub(crate) fn typed(&self) -> policy::authentication::Results {
        findings::of(&self.found)
    }

    /// What is to be done where no plugin overruled it: nothing, a hold under a name, or a refusal.
    pub(crate) fn verdict(&self, quarantine: Quarantine) -> Result<Option<String>, Reply> {
        match (&self.decision, quarantine) {
            (Decision::Reject, _) => Err(refusal::forged_author(&self.found.dmarc.author_domain)),
            (Decision::Quarantine, Quarantine::Hold) => Ok(Some("dmarc".to_owned())),
            (Decision::Quarantine, Quarantine::Mark) | (Decision::Deliver(_), _) => Ok(None),
        }
    }
}

/// What becomes of the recipients about whom no plugin decided: what a plugin said of the whole message, and where none
/// did, what the author's domain asks for (RFC 9989). True where that is the domain's will.
pub(crate) fn overall(
    session: &Session,
    verified: Option<&Verified>,
    ruling: &Ruling,
) -> (Verdict, bool) {
    let (Some(verified), Verdict::Pass, None) = (verified, &ruling.verdict, &ruling.plugin) else {
        return (ruling.verdict.clone(), false);
    };
    match verified.verdict(session.house.config.authentication.quarantine) {
        Ok(None) => (Verdict::Pass, false),
        Ok(Some(name)) => (Verdict::Quarantine(name), true),
        Err(reply) => (Verdict::Refuse(reply), true),
    }
}

/// The plugin that decided in the place of the author's domain, and what it did; of verdicts about single recipients the
/// kindest stands for the message. Who forgets a message has no word for it in a report.
fn overruled<'a>(transaction: &Transaction, ruling: &'a Ruling) -> Option<(&'a str, Disposition)> {
    let each = || transaction.policy.recipients.iter().filter_map(|one| one.verdict.as_ref());
    let by = ruling.plugin.as_deref();
    if each().any(|verdict| matches!(verdict, RecipientVerdict::Accept)) {
        return Some((by.unwrap_or("for some recipients"), Disposition::None));
    }
    if each().any(|verdict| matches!(verdict, RecipientVerdict::Quarantine(_))) {
        return Some((by.unwrap_or("for some recipients"), Disposition::Quarantine));
    }
    let done = match ruling.verdict {
        Verdict::Pass => Disposition::None,
        Verdict::Quarantine(_) => Disposition::Quarantine,
        Verdict::Refuse(_) | Verdict::Disconnect(_) | Verdict::Drop => Disposition::Reject,
        Verdict::Discard => return None,
    };
    Some((by?, done))
}

/// Tells what was found, and what was done, to those who report it.
pub(crate) fn tell(
    session: &Session,
    transaction: &Transaction,
    verified: Option<&Verified>,
    ruling: &Ruling,
) {
    let config = &session.house.config.authentication;
    let (Some(verified), Some(seen)) = (verified, &config.seen) else { return };
    let Verified { decision, found, .. } = verified;
    if let Some(observation) =
        Observation::new(found, decision, overruled(transaction, ruling), config.options.discovery)
        && seen.try_send(observation).is_err()
    {
        // The disk is behind: mail is more than what is told of it.
        debug!("a message is in no DMARC report");
    }
}

/// Signs what our users send, with all the keys of the author's domain, and seals what came from outside. A message that
/// cannot be signed goes on without: an operator is told.
pub(crate) async fn sign(
    session: &Session,
    transaction: &Transaction,
    verified: Option<&Verified>,
    draft: &Draft,
    composed: Composed,
) -> Composed {
    let config = &session.house.config.authentication;
    // Most listeners do neither, and then nobody looks for the author.
    let seals = verified.is_some() && config.sealing.is_some();
    if (config.signers.is_empty() || !session.may_relay()) && !seals {
        return composed;
    }
    let header = Header::parse(composed.head.clone());
    let signers = if session.may_relay() { signers(config, &header) } else { Vec::new() };
    let seal = match (verified, &config.sealing) {
        (Some(verified), Some(sealing)) => {
            Some((Arc::clone(sealing), verified.found.arc.result, verified.results.clone()))
        }
        _ => None,
    };
    if signers.is_empty() && seal.is_none() {
        return composed;
    }
    let (content, body) = (draft.octets(), composed.body.clone());
    let signing = tokio::task::spawn_blocking(move || {
        let (octets, offset): (&dyn message::Octets, u64) = match &body {
            Body::Received { offset } => (content.as_ref(), *offset),
            Body::Replaced(octets) => (octets, 0),
        };
        let mut edits = Vec::new();
        for signer in signers {
            edits.push(signer.sign(&header, octets, offset, now())?);
        }
        if let Some((sealing, arc, results)) = seal {
            edits.extend(sealing.seal(&header, octets, offset, arc, &results, now())?);
        }
        Ok::<_, auth::dkim::SignError>(message::compose(&header, &edits).head)
    });
    match signing.await {
        Ok(Ok(head)) => Composed { head, ..composed },
        Ok(Err(fault)) => {
            error!(message = %transaction.policy.id, "the message is not signed: {fault}");
            composed
        }
        Err(fault) => {
            error!(message = %transaction.policy.id, "the message is not signed: {fault}");
            composed
        }
    }
}

/// The signers for the one author of a message. Who has several, or one that readers could take for another, is not
/// signed for: the signature would speak for all of them.
fn signers(config: &Authentication, header: &Header) -> Vec<Arc<Signer>> {
    let Some(author) = auth::sole_author(header) else { return Vec::new() };
    let Some(domain) = author.domain() else { return Vec::new() };
    let domain = domain.to_ascii();
    let of_author = |signer: &&Arc<Signer>| signer.domain().eq_ignore_ascii_case(&domain);
    config.signers.iter().filter(of_author).map(Arc::clone).collect()
}

/// The verifier of a server.
pub(crate) fn verifier(config: &Authentication, resolver: &net::Resolver) -> Verifier {
    Verifier::new(resolver.clone(), config.options.clone())
}
