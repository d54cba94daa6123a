//! One transaction of the sender: MAIL, RCPT, DATA or BDAT, the content, and whose reply is whose.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    Awaited, Client, Dialect, Limits, Output, State, Step,
    parameters::{self, Offer},
    survey::ContentTraits,
};
use crate::{
    address::{Domain, ForwardPath, Mailbox, ReversePath},
    content::DataEncoder,
    envelope::{BodyType, MailParameters, Recipient},
    extension::Extensions,
    reply::Reply,
};

/// What is to be sent: an envelope, and what has to be known of the content.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Argument of MAIL.
    pub reverse_path: ReversePath,
    /// Parameters of MAIL as they came in; what the host does not offer is left out.
    pub parameters: MailParameters,
    /// Arguments of RCPT. More than the host takes at once are [`Fate::Untried`].
    pub recipients: Vec<Recipient>,
    /// Found by a [`super::Survey`] of the content.
    pub content: ContentTraits,
}

/// What came of a transaction for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The peer has taken the message for this recipient: the reply to the end of data was a
    /// success.
    Accepted(Reply),
    /// The peer refused, for now (4yz) or for good (5yz).
    Refused(Reply),
    /// This host cannot take this message: an extension is missing or the message is too large. The
    /// reply is ours.
    Unfit(Reply),
    /// Not decided, because the host takes no more recipients in one transaction: begin another.
    Untried,
    /// The session broke before the decision.
    Lost {
        /// 421 of the peer, or our own words.
        reply: Reply,
        /// The content was sent to its end: the peer may have taken it, so another host must not be
        /// tried at once.
        uncertain: bool,
    },
}

/// A transaction under way.
#[derive(Debug)]
pub(super) struct Progress {
    transaction: Transaction,
    offer: Offer,
    fates: Vec<Option<Fate>>,
    /// Recipients that the peer took, in the order of RCPT.
    taken: Vec<usize>,
    said: Said,
    phase: Phase,
    transport: Transport,
    /// Octets of content given out so far.
    position: u64,
}

/// How far the envelope was said.
#[derive(Debug, Default)]
struct Said {
    mail: bool,
    mail_refused: bool,
    /// Recipients before this index are done with.
    recipients: usize,
    data: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Envelope,
    Content,
    End,
}

/// How the content travels.
#[derive(Debug)]
enum Transport {
    /// DATA: lines with dots doubled (RFC 5321 §4.5.2).
    Data(DataEncoder),
    /// BDAT: counted octets (RFC 3030 §2).
    Chunks { left: u64 },
}

impl Client {
    /// Begins a transaction; [`Output::Ended`] will follow. To be called only when
    /// [`Client::can_begin`].
    pub fn begin(&mut self, transaction: Transaction) {
        if !self.can_begin() {
            let fates = transaction.recipients.iter().map(|_| Fate::Untried).collect();
            return self.outputs.push_back(Output::Ended(fates));
        }
        self.transactions += 1;
        let progress =
            Progress::new(transaction, &self.extensions, &self.settings.limits, self.authenticated);
        self.state = State::Transaction(Box::new(progress));
        self.advance();
    }

    /// The octets that [`Output::Content`] asked for, or the first of them. An empty piece says
    /// that the content cannot be read: the connection is given up, since the transaction cannot be
    /// taken back.
    pub fn handle_content(&mut self, piece: &[u8]) {
        let State::Transaction(progress) = &mut self.state else { return };
        if piece.is_empty() || !progress.take(piece, &mut self.sending) {
            return self.lose("421 4.3.0 The content cannot be read");
        }
        self.end_content();
    }

    /// What is wanted next of the content, if anything.
    pub(super) fn wanted_content(&self) -> Option<Output> {
        let State::Transaction(progress) = &self.state else { return None };
        let left = match (progress.phase, &progress.transport) {
            (Phase::Content, Transport::Data(_)) => progress.left(),
            (Phase::Content, Transport::Chunks { left }) => *left,
            (Phase::Envelope | Phase::End, _) => return None,
        };
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.settings.limits.piece);
        (length > 0).then_some(Output::Content { offset: progress.position, length })
    }

    /// True while the driver writes content, so that the clock of a block runs.
    pub(super) fn is_writing_content(&self) -> bool {
        self.wanted_content().is_some()
    }

    pub(super) fn handle_transaction(&mut self, awaited: Awaited, reply: Reply) {
        let is_early = self.is_writing_content();
        let State::Transaction(progress) = &mut self.state else { return };
        let fits = match awaited {
            Awaited::Reset => is_done(&reply),
            Awaited::Mail => progress.mail_answered(&reply),
            Awaited::Rcpt(index) => progress.rcpt_answered(index, &reply),
            Awaited::Data => return self.data_answered(&reply),
            Awaited::Chunk | Awaited::End | Awaited::EndFor(_) if is_early => {
                // The answer comes before the question is complete: a refusal counts, but the rest
                // cannot be sent any more.
                return self.unasked(&reply);
            }
            Awaited::Chunk => progress.chunk_answered(&reply),
            Awaited::End => progress.content_answered(None, &reply),
            Awaited::EndFor(index) => progress.content_answered(Some(index), &reply),
            Awaited::Greeting
            | Awaited::Ehlo
            | Awaited::Helo
            | Awaited::StartTls
            | Awaited::Auth
            | Awaited::Quit => false,
        };
        if !fits {
            return self.out_of_step(&reply);
        }
        if matches!(awaited, Awaited::Reset) {
            self.reset_needed = false;
        }
        self.advance();
    }

    /// The reply to DATA: 354, or the transaction is over.
    fn data_answered(&mut self, reply: &Reply) {
        let State::Transaction(progress) = &mut self.state else { return };
        match reply.code() {
            354 if progress.taken.is_empty() && self.settings.dialect == Dialect::Smtp => {
                // RFC 2920 §3.1: the DATA was on its way before every recipient was refused, so an
                // empty content follows.
                progress.phase = Phase::End;
                self.command(".", Awaited::End);
            }
            354 if !progress.taken.is_empty() => {
                progress.phase = Phase::Content;
                self.end_content();
            }
            400..=599 => {
                progress.decide(&Fate::Refused(reply.clone()));
                self.finish(true);
            }
            _ => self.out_of_step(reply),
        }
    }

    /// Says what can be said now, and moves on when nothing is awaited any more.
    fn advance(&mut self) {
        let pipelining = self.extensions.pipelining;
        let window = if pipelining { self.settings.limits.pipeline } else { 1 };
        while self.awaited.len() < window {
            let State::Transaction(progress) = &mut self.state else { return };
            let may_pipeline = pipelining && !self.awaited.is_empty();
            let next =
                progress.next_command(&self.extensions, &mut self.reset_needed, may_pipeline);
            let Some((line, awaited)) = next else { break };
            self.command(&line, awaited);
        }
        let State::Transaction(progress) = &mut self.state else { return };
        if !self.awaited.is_empty() {
            return;
        }
        match progress.phase {
            Phase::Envelope if progress.taken.is_empty() => {
                let begun = progress.said.mail;
                self.finish(begun);
            }
            Phase::Envelope => {
                progress.phase = Phase::Content;
                self.begin_chunk();
            }
            Phase::Content => self.begin_chunk(),
            Phase::End => {
                let reset_needed = progress.has_refused_chunks();
                self.finish(reset_needed);
            }
        }
    }

    /// BDAT: the next chunk, when the reply to the one before is in.
    fn begin_chunk(&mut self) {
        if self.has_unread() {
            return self.lose("421 4.5.0 The peer spoke without being asked");
        }
        let State::Transaction(progress) = &mut self.state else { return };
        if progress.has_nobody_left() {
            return self.finish(true);
        }
        let left = progress.left();
        let length = left.min(self.settings.limits.chunk);
        progress.transport = Transport::Chunks { left: length };
        if length < left {
            return self.command(&format!("BDAT {length}"), Awaited::Chunk);
        }
        if length == 0 {
            progress.phase = Phase::End;
        }
        let last = format!("BDAT {length} LAST");
        self.ask_for_end(&last);
    }

    /// After each piece: ends the content when all of it was given.
    fn end_content(&mut self) {
        let has_unread = self.has_unread();
        let State::Transaction(progress) = &mut self.state else { return };
        if progress.left() > 0 {
            return;
        }
        match &mut progress.transport {
            Transport::Chunks { .. } => progress.phase = Phase::End,
            Transport::Data(_) if has_unread => {
                self.lose("421 4.5.0 The peer spoke without being asked")
            }
            Transport::Data(encoder) => {
                std::mem::take(encoder).finish(&mut self.sending);
                progress.phase = Phase::End;
                self.await_end();
            }
        }
    }

    fn ask_for_end(&mut self, line: &str) {
        self.sending.extend_from_slice(line.as_bytes());
        self.sending.extend_from_slice(b"\r\n");
        self.await_end();
    }

    fn await_end(&mut self) {
        let State::Transaction(progress) = &self.state else { return };
        match self.settings.dialect {
            Dialect::Smtp => self.awaited.push_back(Awaited::End),
            // RFC 2033 §4.2: one reply for each recipient that was accepted, in the order of RCPT.
            Dialect::Lmtp => {
                self.awaited.extend(progress.taken.iter().map(|index| Awaited::EndFor(*index)))
            }
        }
    }

    /// The transaction is over and the session goes on.
    fn finish(&mut self, reset_needed: bool) {
        let State::Transaction(progress) = std::mem::replace(&mut self.state, State::Ready) else {
            return;
        };
        self.reset_needed |= reset_needed;
        self.outputs.push_back(Output::Ended(progress.into_fates(&Fate::Untried)));
    }
}

impl Progress {
    fn new(
        transaction: Transaction,
        offered: &Extensions,
        limits: &Limits,
        authenticated: bool,
    ) -> Self {
        let (offer, refusal) = fit(&transaction, offered, authenticated);
        let mut room = Room::new(limits, offered);
        let fates = (transaction.recipients.iter())
            .map(|recipient| {
                let refusal = refusal.clone().or_else(|| unfit_recipient(recipient, offer));
                refusal
                    .map(Fate::Unfit)
                    .or_else(|| (!room.take(&recipient.path)).then_some(Fate::Untried))
            })
            .collect();
        let binary = offer.body == BodyType::BinaryMime;
        let transport = if offered.chunking && (binary || !transaction.content.irregular) {
            // RFC 3030 §2: where the host offers it, octets are counted instead of escaped.
            Transport::Chunks { left: 0 }
        } else {
            // RFC 5321 §2.3.8: the encoder lets CR and LF out as CRLF only.
            Transport::Data(DataEncoder::default())
        };
        Self {
            transaction,
            offer,
            fates,
            taken: Vec::new(),
            said: Said::default(),
            phase: Phase::Envelope,
            transport,
            position: 0,
        }
    }

    pub(super) const fn step(&self) -> Step {
        match self.phase {
            Phase::Envelope => Step::Envelope,
            Phase::Content => Step::Content,
            Phase::End => Step::End,
        }
    }

    fn next_command(
        &mut self,
        offered: &Extensions,
        reset_needed: &mut bool,
        may_pipeline: bool,
    ) -> Option<(String, Awaited)> {
        if self.phase != Phase::Envelope || self.said.mail_refused {
            return None;
        }
        let next = self.next_recipient();
        if !self.said.mail {
            next?;
            if std::mem::take(reset_needed) {
                return Some(("RSET".to_owned(), Awaited::Reset));
            }
            self.said.mail = true;
            return Some((parameters::mail(&self.transaction, offered, self.offer), Awaited::Mail));
        }
        if let Some(index) = next {
            self.said.recipients = index + 1;
            let line =
                parameters::rcpt(&self.transaction.recipients[index], offered, self.offer.smtputf8);
            return Some((line, Awaited::Rcpt(index)));
        }
        // RFC 2920 §3.1: DATA ends a group of pipelined commands.
        let wanted = matches!(self.transport, Transport::Data(_)) && !self.said.data;
        let wanted = wanted && (may_pipeline || !self.taken.is_empty());
        wanted.then(|| {
            self.said.data = true;
            ("DATA".to_owned(), Awaited::Data)
        })
    }

    /// The next recipient that was not named and has no fate yet.
    fn next_recipient(&self) -> Option<usize> {
        (self.said.recipients..self.fates.len()).find(|index| self.fates[*index].is_none())
    }

    /// False if the reply cannot be one to MAIL.
    fn mail_answered(&mut self, reply: &Reply) -> bool {
        if !reply.is_positive() {
            self.said.mail_refused = true;
            self.decide(&Fate::Refused(reply.clone()));
        }
        is_done(reply) || !reply.is_positive()
    }

    /// False if the reply cannot be one to RCPT.
    fn rcpt_answered(&mut self, index: usize, reply: &Reply) -> bool {
        if is_done(reply) {
            self.taken.push(index);
            // A host that takes a recipient without a sender is not understood.
            return !self.said.mail_refused;
        }
        if reply.is_positive() {
            return false;
        }
        let fate = if is_too_many(reply) && !self.taken.is_empty() {
            // RFC 5321 §4.5.3.1.10: the others go in a transaction of their own.
            Fate::Untried
        } else {
            Fate::Refused(reply.clone())
        };
        self.fates[index].get_or_insert(fate);
        true
    }

    fn chunk_answered(&mut self, reply: &Reply) -> bool {
        if !reply.is_positive() {
            self.decide(&Fate::Refused(reply.clone()));
        }
        is_done(reply) || !reply.is_positive()
    }

    /// The reply to the content: for all recipients that were taken, or for one.
    fn content_answered(&mut self, index: Option<usize>, reply: &Reply) -> bool {
        if reply.is_positive() && !is_done(reply) {
            // RFC 5321 §4.3.2: nothing but 250 is a success here; a 221 or 354 belongs to another
            // command.
            return false;
        }
        let fate = if reply.is_positive() {
            Fate::Accepted(reply.clone())
        } else {
            Fate::Refused(reply.clone())
        };
        match index {
            Some(index) => {
                self.fates[index].get_or_insert(fate);
            }
            None => self.decide(&fate),
        }
        true
    }

    /// All recipients that have no fate yet get this one.
    fn decide(&mut self, fate: &Fate) {
        for undecided in self.fates.iter_mut().filter(|fate| fate.is_none()) {
            *undecided = Some(fate.clone());
        }
    }

    /// RFC 3030 §2: after a BDAT that failed, the host waits for RSET.
    fn has_refused_chunks(&self) -> bool {
        matches!(self.transport, Transport::Chunks { .. })
            && !self.fates.iter().any(|fate| matches!(fate, Some(Fate::Accepted(_))))
    }

    fn has_nobody_left(&self) -> bool {
        self.fates.iter().all(Option::is_some)
    }

    /// Octets of content not given out yet.
    const fn left(&self) -> u64 {
        self.transaction.content.octets - self.position
    }

    /// Takes a piece of content; false if it is more than was asked for.
    fn take(&mut self, piece: &[u8], sending: &mut Vec<u8>) -> bool {
        let length = piece.len() as u64;
        if self.phase != Phase::Content || length > self.left() {
            return false;
        }
        match &mut self.transport {
            Transport::Data(encoder) => encoder.encode(piece, sending),
            Transport::Chunks { left } if length <= *left => {
                *left -= length;
                sending.extend_from_slice(piece);
            }
            Transport::Chunks { .. } => return false,
        }
        self.position += length;
        true
    }

    /// The session broke: what the peer refused stays refused, the rest is open.
    pub(super) fn lost(self, reply: &Reply, by_peer: bool) -> Vec<Fate> {
        let uncertain = !by_peer && self.phase == Phase::End && !self.taken.is_empty();
        let fate = if by_peer && reply.code() != 421 && !reply.is_positive() {
            Fate::Refused(reply.clone())
        } else {
            Fate::Lost { reply: reply.clone(), uncertain }
        };
        self.into_fates(&fate)
    }

    fn into_fates(self, undecided: &Fate) -> Vec<Fate> {
        self.fates.into_iter().map(|fate| fate.unwrap_or_else(|| undecided.clone())).collect()
    }
}

/// How many recipients still fit into the transaction.
struct Room<'a> {
    recipients: u64,
    domains: u64,
    seen: BTreeSet<Cow<'a, str>>,
}

impl<'a> Room<'a> {
    fn new(limits: &Limits, offered: &Extensions) -> Self {
        // RFC 9422 §4.2–3: RCPTMAX and RCPTDOMAINMAX.
        let offered = offered.limits.unwrap_or_default();
        let most = u64::try_from(limits.recipients).unwrap_or(u64::MAX);
        Self {
            recipients: most.min(offered.recipients.unwrap_or(most)).max(1),
            domains: offered.domains.unwrap_or(u64::MAX).max(1),
            seen: BTreeSet::new(),
        }
    }

    /// False if this recipient has to wait for another transaction.
    fn take(&mut self, path: &'a ForwardPath) -> bool {
        let domain =
            path.mailbox().and_then(Mailbox::domain).map(Domain::to_ascii).unwrap_or_default();
        let is_new = !self.seen.contains(&domain);
        if self.recipients == 0 || (is_new && self.seen.len() as u64 >= self.domains) {
            return false;
        }
        self.recipients -= 1;
        self.seen.insert(domain);
        true
    }
}

/// How the host can be offered the message, and our refusal if it cannot.
fn fit(
    transaction: &Transaction,
    offered: &Extensions,
    authenticated: bool,
) -> (Offer, Option<Reply>) {
    let content = &transaction.content;
    let parameters = &transaction.parameters;
    let binary = parameters.body == BodyType::BinaryMime;
    let body = match (binary, content.eight_bit) {
        (true, _) => BodyType::BinaryMime,
        (false, true) => BodyType::EightBitMime,
        (false, false) => BodyType::SevenBit,
    };
    let offer = Offer { body, smtputf8: parameters.smtputf8 && offered.smtputf8, authenticated };
    let too_large = offered.size.flatten().is_some_and(|most| content.octets > most);
    let international_path =
        transaction.reverse_path.mailbox().is_some_and(parameters::needs_smtputf8);
    let international = international_path || (parameters.smtputf8 && content.eight_bit_header);
    let refusal = if too_large {
        // RFC 1870 §6.1: a declared limit is believed before the content is sent.
        Some(Reply::new(552, "5.3.4 The message is larger than the host takes"))
    } else if binary && !(offered.chunking && offered.binary_mime) {
        // RFC 3030 §3: BINARYMIME travels by BDAT, and we do not convert it.
        Some(Reply::new(554, "5.6.3 The content is binary, and the host does not offer BINARYMIME"))
    } else if international && !offer.smtputf8 {
        // RFC 6531 §3.5: a host without SMTPUTF8 must not get an internationalised message.
        Some(Reply::new(
            550,
            "5.6.7 The message is internationalised, and the host does not offer SMTPUTF8",
        ))
    } else if content.eight_bit && !binary && !offered.eight_bit_mime {
        // RFC 6152 §3: what is not offered is not sent, and we do not convert to 7 bits.
        Some(Reply::new(554, "5.6.3 The content has 8 bits, and the host does not offer 8BITMIME"))
    } else {
        None
    };
    (offer, refusal)
}

/// Our refusal of one recipient that cannot be said to the host.
fn unfit_recipient(recipient: &Recipient, offer: Offer) -> Option<Reply> {
    match &recipient.path {
        ForwardPath::Mailbox(mailbox) if parameters::needs_smtputf8(mailbox) && !offer.smtputf8 => {
            Some(Reply::new(
                553,
                "5.6.7 The address is internationalised, and the host does not offer SMTPUTF8",
            ))
        }
        ForwardPath::Mailbox(_) | ForwardPath::Postmaster => None,
    }
}

/// RFC 5321 §4.2.1: a success that a command of a transaction can have. 220, 221 and the like
/// belong to others.
fn is_done(reply: &Reply) -> bool {
    matches!(reply.code(), 250..=259)
}

/// RFC 5321 §4.5.3.1.10: too many recipients; 552 is the older spelling.
fn is_too_many(reply: &Reply) -> bool {
    let mailbox_full = reply.enhanced().is_some_and(|status| status.subject != 5);
    reply.code() == 452 || (reply.code() == 552 && !mailbox_full)
}
