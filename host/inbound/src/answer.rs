//! The answers to the machine's questions: first the rules of the host, then policy, in the order of `README.md`.

use std::time::Duration;

use policy::{Ruling, Stage, Verdict};
use smtp::server::{Answer, Question};
use smtp::{ForwardPath, MailParameters, Recipient, Reply, ReversePath};
use tracing::{debug, info};

use crate::authenticate;
use crate::config::Directory;
use crate::content::{self, Incoming};
use crate::error::Error;
use crate::house::now;
use crate::refusal;
use crate::rules::{self, Standing};
use crate::session::{Helo, Session};
use crate::transaction::{Ending, Fate, Transaction};

impl Session {
    /// Answers one question. While it is open, nothing is read.
    pub(crate) async fn decide(&mut self, question: Question) -> Answer {
        self.house.counters.question(&question);
        match question {
            // It comes by no connection, and says HELO to be polite.
            Question::Connect if self.entrance.config.role.is_injection() => Answer::Proceed,
            Question::Helo { name, extended } if self.entrance.config.role.is_injection() => {
                self.helo = Some(Helo { name, extended });
                Answer::Proceed
            }
            Question::Connect => {
                if let Some(answer) = self.await_silence().await {
                    return answer;
                }
                let ruling = self.policy.connect().await;
                wait(ruling.delay).await;
                self.plain_answer(&ruling)
            }
            Question::Helo { name, extended } => {
                self.tell_client_name().await;
                let ruling = self.policy.helo(&name, extended).await;
                wait(ruling.delay).await;
                self.helo = Some(Helo { name, extended });
                self.plain_answer(&ruling)
            }
            Question::Verifier { identity } => self.verifier(&identity),
            // Most of a session's time is spent between commands: what the rare ones need is not kept ready.
            Question::Auth(credentials) => Box::pin(self.auth(credentials)).await,
            Question::Mail { reverse_path, parameters } => {
                self.mail(reverse_path, parameters).await
            }
            Question::Rcpt(recipient) => self.rcpt(recipient).await,
            Question::Data => self.data(),
            Question::Content => Box::pin(content::end_of_data(self)).await,
        }
    }

    /// At connect and HELO there is no transaction yet, and nothing to hold or to forget.
    fn plain_answer(&self, ruling: &Ruling) -> Answer {
        if let Verdict::Refuse(reply) | Verdict::Disconnect(reply) = &ruling.verdict {
            debug!(plugin = ruling.plugin.as_deref(), %reply, "refused");
        }
        match &ruling.verdict {
            Verdict::Pass | Verdict::Discard | Verdict::Quarantine(_) => Answer::Proceed,
            Verdict::Refuse(reply) => Answer::Refuse(reply.clone()),
            Verdict::Disconnect(reply) => Answer::Disconnect(reply.clone()),
            Verdict::Drop => Answer::Drop,
        }
    }

    /// The client's name, as soon as it is known.
    pub(crate) async fn tell_client_name(&mut self) {
        if let Some(name) = self.client_name.get().await {
            self.policy.set_client_name(&name);
        }
    }

    /// MAIL: the sender's form (submission only), room in the queue, policy.
    async fn mail(&mut self, reverse_path: ReversePath, parameters: MailParameters) -> Answer {
        self.end_transaction(Fate::Abandoned, None);
        let id = self.house.new_id();
        let sender = queue::Sender {
            user: self.login.as_deref(),
            reverse_path: &reverse_path,
            peer: self.peer.ip(),
        };
        let draft = match self.house.rooms.queue.draft_of(id, &sender) {
            Ok(draft) => draft,
            Err(source) => return Answer::Refuse(refusal::refusal(&Error::Queue(source))),
        };
        let policy = policy::Transaction::new(id, reverse_path, parameters);
        let mut transaction = Box::new(Transaction::new(policy, now(), draft));
        let qualified = rules::check_sender_is_qualified(&transaction.policy.reverse_path);
        if let (true, Err(reply)) = (self.entrance.config.role.is_submission(), qualified) {
            transaction.note_rule(Stage::Mail, "sender-domain", None, &reply);
            self.transaction = Some(transaction);
            return Answer::Refuse(self.refuse_transaction(&reply, None));
        }
        if let Err(reply) = self.check_owner(&transaction.policy.reverse_path) {
            transaction.note_rule(Stage::Mail, "sender-owner", None, &reply);
            self.transaction = Some(transaction);
            return Answer::Refuse(self.refuse_transaction(&reply, None));
        }
        if let Err(reply) = self.meter_message() {
            transaction.note_rule(Stage::Mail, "hourly-messages", None, &reply);
            self.transaction = Some(transaction);
            return Answer::Refuse(self.refuse_transaction(&reply, None));
        }
        self.tell_client_name().await;
        transaction.policy.spf = authenticate::spf(self, &transaction.policy.reverse_path).await;
        let ruling = self.policy.mail(&mut transaction.policy).await;
        wait(ruling.delay).await;
        self.transaction = Some(transaction);
        match ruling.verdict {
            Verdict::Pass | Verdict::Quarantine(_) => Answer::Proceed,
            Verdict::Discard => {
                self.open().discard = true;
                Answer::Proceed
            }
            Verdict::Refuse(reply) => {
                Answer::Refuse(self.refuse_transaction(&reply, ruling.plugin.as_deref()))
            }
            Verdict::Disconnect(reply) => {
                Answer::Disconnect(self.refuse_transaction(&reply, ruling.plugin.as_deref()))
            }
            Verdict::Drop => Answer::Drop,
        }
    }

    /// RFC 6409 §6.1: one who is logged in sends as itself. The null reverse-path is nobody's, and
    /// receipts need it (RFC 8098 §3).
    fn check_owner(&self, reverse_path: &ReversePath) -> Result<(), Reply> {
        let Directory { users, local, .. } = &*self.directory;
        match (&self.login, reverse_path.mailbox()) {
            (Some(login), Some(mailbox)) => rules::check_owner(users, local, login, mailbox),
            _ => Ok(()),
        }
    }

    /// RCPT: is it ours or may the client relay; policy; does it exist.
    async fn rcpt(&mut self, recipient: Recipient) -> Answer {
        let standing = self.standing();
        let path = recipient.path.clone();
        self.open().forward_paths.push(path.clone());

        let local = &self.directory.local;
        let mut host = rules::check_relay(local, &path, standing).map_err(|reply| ("relay", reply));
        if self.entrance.config.role.is_submission() {
            host = host.and_then(|()| {
                rules::check_recipient_is_qualified(local, &path)
                    .map_err(|reply| ("recipient-domain", reply))
            });
        }
        host = host
            .and_then(|()| self.meter_recipient().map_err(|reply| ("hourly-recipients", reply)));
        if let Err((rule, reply)) = host {
            return self.refuse_recipient_by_rule(rule, &recipient, reply);
        }

        let Some(mut transaction) = self.transaction.take() else {
            return Answer::Refuse(refusal::broken());
        };
        let before = transaction.policy.recipients.len();
        let ruling = self.policy.rcpt(&mut transaction.policy, recipient.clone()).await;
        wait(ruling.delay).await;
        self.transaction = Some(transaction);
        match ruling.verdict {
            Verdict::Pass | Verdict::Quarantine(_) => {
                if let Err(reply) = self.check_recipients(before) {
                    return self.refuse_recipient_by_rule("unknown-user", &recipient, reply);
                }
                self.check_quota(before, &recipient).await
            }
            Verdict::Discard => {
                debug!(forward_path = %path, "recipient discarded by policy");
                Answer::Proceed
            }
            Verdict::Refuse(reply) => {
                Answer::Refuse(self.refuse_recipient(&recipient, &reply, ruling.plugin.as_deref()))
            }
            Verdict::Disconnect(reply) => Answer::Disconnect(self.refuse_recipient(
                &recipient,
                &reply,
                ruling.plugin.as_deref(),
            )),
            Verdict::Drop => Answer::Drop,
        }
    }

    /// Takes out the recipients that came of this RCPT and do not exist. Of a plain RCPT came one, the last; plugins
    /// may have made more of it, or changed earlier ones, and then all are looked at.
    fn check_recipients(&mut self, before: usize) -> Result<(), Reply> {
        let directory = std::sync::Arc::clone(&self.directory);
        self.restore_recipients(before)?;
        let recipients = &mut self.open().policy.recipients;
        let from = match recipients.get(before) {
            Some(last) if recipients.len() == before + 1 && last.path == last.original => before,
            _ => 0,
        };
        let mut result = Ok(());
        let mut index = from;
        while index < recipients.len() {
            match rules::check_exists(&directory.local, &recipients[index]) {
                Ok(()) => index += 1,
                Err(reply) => {
                    recipients.remove(index);
                    result = Err(reply);
                }
            }
        }
        result
    }

    /// A report to a reverse-path that we rewrote goes on to the one who had it.
    fn restore_recipients(&mut self, before: usize) -> Result<(), Reply> {
        let is_report = self.open().policy.reverse_path.mailbox().is_none();
        let last = self.open().policy.recipients.get(before).map(|one| one.path.clone());
        let Some(restored) = last.and_then(|path| self.restore(&path, is_report)) else {
            return Ok(());
        };
        let recipients = &mut self.open().policy.recipients;
        match restored {
            Ok(mailbox) => recipients[before].path = ForwardPath::Mailbox(mailbox),
            Err(reply) => {
                recipients.remove(before);
                return Err(reply);
            }
        }
        Ok(())
    }

    /// RCPT for a mailbox that is known to be full is refused at once.
    async fn check_quota(&mut self, before: usize, recipient: &Recipient) -> Answer {
        let transaction = self.open();
        let octets = transaction.policy.parameters.size.unwrap_or(0);
        let Some(path) = transaction.policy.recipients.get(before).map(|one| one.path.clone())
        else {
            return Answer::Proceed;
        };
        match self.check_room(&path, octets).await {
            Ok(()) => Answer::Proceed,
            Err(reply) => {
                self.open().policy.recipients.remove(before);
                self.refuse_recipient_by_rule("quota", recipient, reply)
            }
        }
    }

    /// DATA, or the first BDAT: the draft is open since MAIL.
    fn data(&mut self) -> Answer {
        let limits = self.house.config.limits.content.clone();
        let transaction = self.open();
        let draft = transaction.draft.take();
        let unwanted = transaction.discard || transaction.policy.recipients.is_empty();
        transaction.incoming = Some(Incoming::new(draft.filter(|_| !unwanted), limits));
        Answer::Proceed
    }

    /// The open transaction. The machine asks about recipients and content inside of one only.
    pub(crate) fn open(&mut self) -> &mut Transaction {
        self.transaction.as_mut().expect("the machine opened a transaction with MAIL")
    }

    fn standing(&self) -> Standing {
        if self.may_relay() { Standing::MayRelay } else { Standing::Stranger }
    }

    /// Logged in, or from a network of ours.
    pub(crate) fn may_relay(&self) -> bool {
        let network = self.peer.ip().is_some_and(|ip| self.directory.relay_from.contains(ip));
        // RFC 2033 §1: LMTP hands over to a final delivery system; it is no way to relay.
        let injected = self.entrance.config.role.is_injection();
        !self.is_lmtp() && (self.login.is_some() || network || injected)
    }

    fn refuse_recipient_by_rule(
        &mut self,
        rule: &'static str,
        recipient: &Recipient,
        reply: Reply,
    ) -> Answer {
        self.open().note_rule(Stage::Rcpt, rule, Some(&recipient.path), &reply);
        Answer::Refuse(self.refuse_recipient(recipient, &reply, None))
    }

    /// One recipient is refused; the transaction goes on.
    fn refuse_recipient(
        &mut self,
        recipient: &Recipient,
        reply: &Reply,
        plugin: Option<&str>,
    ) -> Reply {
        let (session, peer) = (self.id, self.peer_name());
        let transaction = self.open();
        let reply = refusal::with_id(reply, transaction.policy.id);
        transaction.refused = Some(reply.clone());
        info!(
            target: "mail", event = Fate::of(&reply).name(), message = %transaction.policy.id, %session, %peer,
            reverse_path = %transaction.policy.reverse_path, forward_path = %recipient.path, stage = "rcpt", plugin,
            reply = reply.to_string(),
        );
        reply
    }

    /// The whole transaction is refused, at MAIL.
    fn refuse_transaction(&mut self, reply: &Reply, plugin: Option<&str>) -> Reply {
        let (session, peer) = (self.id, self.peer_name());
        let transaction = self.open();
        let reply = refusal::with_id(reply, transaction.policy.id);
        let fate = Fate::of(&reply);
        info!(
            target: "mail", event = fate.name(), message = %transaction.policy.id, %session, %peer,
            reverse_path = %transaction.policy.reverse_path, stage = "mail", plugin, reply = reply.to_string(),
        );
        self.end_transaction(fate, Some(reply.clone()));
        reply
    }

    /// Ends the transaction, if one is open. Its draft goes with it.
    pub(crate) fn end_transaction(&mut self, fate: Fate, reply: Option<Reply>) {
        if let Some(transaction) = self.transaction.take() {
            self.tell(transaction, fate, reply);
        }
    }

    /// Writes the story of a transaction that is over.
    pub(crate) fn tell(&self, mut transaction: Box<Transaction>, fate: Fate, reply: Option<Reply>) {
        // Whose last recipient was refused did not give up by itself.
        let fate = match (&transaction.refused, fate) {
            (Some(refused), Fate::Abandoned) if transaction.policy.recipients.is_empty() => {
                Fate::of(refused)
            }
            _ => fate,
        };
        self.house.counters.transaction(fate);
        self.show_end(&transaction, fate, reply.as_ref());
        let ending = Ending {
            before: self.policy.trace().to_vec(),
            fate,
            reply,
            session: self.id,
            peer: self.peer.ip(),
            helo: self.helo.as_ref().map(|helo| helo.name.clone()),
            time: now(),
        };
        // What it holds of the spool goes now; the words for it are found where nobody waits.
        (transaction.draft, transaction.incoming) = (None, None);
        self.house.rooms.journal.record_with(move || transaction.into_entry(ending));
    }
}

/// What plugins want a reply to wait. Nobody else waits with it.
pub(crate) async fn wait(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
