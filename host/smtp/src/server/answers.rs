//! Answers: a question was decided, and its command is carried out or refused.

use super::commands::is_binary;
use super::{Answer, Asked, Reading, Server, State};
use crate::address::ReversePath;
use crate::command::Offer;
use crate::content::{ChunkDecoder, DataDecoder};
use crate::envelope::{Envelope, MailParameters, Recipient};
use crate::reply::Reply;
use crate::server::Protocol;

impl Server {
    pub(super) fn carry_out(&mut self, asked: Asked, answer: Answer) {
        match answer {
            Answer::Drop => self.drop_client(),
            Answer::Disconnect(reply) => {
                self.write(&asked, &reply);
                self.close();
            }
            Answer::Refuse(reply) => self.refuse(asked, &reply),
            Answer::Proceed => self.proceed(asked, None),
            Answer::Accepted(reply) => self.proceed(asked, Some(&reply)),
            Answer::Each(replies) if matches!(asked, Asked::Content) => self.finish_each(&replies),
            Answer::Verifier { verifier, nonce } if matches!(asked, Asked::Verifier) => {
                self.challenge(*verifier, &nonce);
            }
            // A driver that answers something else has decided nothing.
            Answer::Each(_) | Answer::Verifier { .. } => self.refuse(asked, &local_error()),
        }
    }

    fn proceed(&mut self, asked: Asked, reply: Option<&Reply>) {
        match asked {
            Asked::Connect => self.greet(),
            Asked::Helo { extended } => self.welcome(extended),
            // A driver that has no verifier has a stand-in; and no answer makes a wrong proof right.
            Asked::Verifier | Asked::Auth { wrong: true } => self.refuse(asked, &wrong_proof()),
            Asked::Auth { wrong: false } => {
                self.authenticated = true;
                self.reply_or(reply, "235 2.7.0 Authentication succeeded");
            }
            Asked::Mail(path, parameters) => self.begin_transaction(path, parameters, reply),
            Asked::Rcpt(recipient) => self.add_recipient(recipient, reply),
            Asked::Data => {
                let decoder = DataDecoder::new(self.settings.limits.message_octets);
                self.reading = Reading::Data { decoder, begun: false };
                self.say("354 End data with <CR><LF>.<CR><LF>");
            }
            Asked::FirstChunk { size, last } => self.begin_chunks(size, last),
            Asked::Content => {
                // A driver that forgot to say what became of the message has not accepted it.
                let unknown = local_error();
                let count = self.replies_to_content();
                self.finish_content(std::iter::repeat_n(reply.unwrap_or(&unknown), count));
            }
        }
    }

    fn refuse(&mut self, asked: Asked, reply: &Reply) {
        let replaced = reply.is_positive().then(local_error);
        let reply = replaced.as_ref().unwrap_or(reply);
        match &asked {
            Asked::Content => {
                let count = self.replies_to_content();
                self.finish_content(std::iter::repeat_n(reply, count));
            }
            Asked::FirstChunk { size, .. } => {
                // RFC 3030 §2: the transaction is over, and the chunk is read nevertheless.
                self.end_transaction();
                self.refuse_chunk(*size, reply.clone().or_enhanced(0, 0));
            }
            Asked::Connect | Asked::Helo { .. } | Asked::Mail(..) | Asked::Data => {
                self.write(&asked, reply)
            }
            Asked::Rcpt(_) => {
                self.write(&asked, reply);
                self.counts.refused_recipients += 1;
                if self.counts.refused_recipients > self.settings.limits.refused_recipients {
                    return self.leave("421 4.7.0 Too many refused recipients");
                }
            }
            Asked::Verifier | Asked::Auth { .. } => {
                self.reading = Reading::Commands;
                self.counts.failed_logins += 1;
                if self.counts.failed_logins >= self.settings.limits.failed_logins {
                    return self.leave("421 4.7.0 Too many failed logins");
                }
                self.write(&asked, reply);
            }
        }
        if matches!(asked, Asked::Connect) {
            self.state = State::Unwelcome;
        }
        // RFC 5321 §3.8: 421 announces that the connection is closed.
        if reply.code() == 421 {
            self.close();
        }
    }

    fn greet(&mut self) {
        let protocol = match self.settings.protocol {
            Protocol::Smtp => "ESMTP",
            Protocol::Lmtp => "LMTP",
        };
        let greeting =
            format!("220 {} {protocol} {}", self.settings.hostname, self.settings.software);
        self.say(greeting.trim_ascii_end());
        self.state = State::Connected;
    }

    fn welcome(&mut self, extended: bool) {
        // RFC 5321 §4.1.4: EHLO in a transaction is RSET as well.
        self.end_transaction();
        self.state = State::Ready;
        self.offer = Offer::default();
        if !extended {
            return self.say(&format!("250 {}", self.settings.hostname));
        }
        self.offer.extensions =
            self.settings.offer(self.tls_active, self.channel_binding.is_some());
        let mut lines = vec![self.settings.hostname.clone()];
        lines.extend(self.offer.extensions.lines());
        let last = lines.len() - 1;
        for (index, line) in lines.iter().enumerate() {
            self.say(&format!("250{}{line}", if index == last { ' ' } else { '-' }));
        }
    }

    fn begin_transaction(
        &mut self,
        path: ReversePath,
        parameters: MailParameters,
        reply: Option<&Reply>,
    ) {
        self.offer.smtputf8_transaction = parameters.smtputf8;
        let envelope = Envelope { reverse_path: path, parameters, recipients: Vec::new() };
        self.state = State::Mail { envelope, chunks: None };
        self.counts.transactions += 1;
        self.reply_or(reply, "250 2.1.0 Ok");
    }

    fn add_recipient(&mut self, recipient: Recipient, reply: Option<&Reply>) {
        if let State::Mail { envelope, .. } = &mut self.state {
            envelope.recipients.push(recipient);
        }
        self.reply_or(reply, "250 2.1.5 Ok");
    }

    fn begin_chunks(&mut self, size: u64, last: bool) {
        if let State::Mail { envelope, chunks } = &mut self.state {
            *chunks =
                Some(ChunkDecoder::new(self.settings.limits.message_octets, is_binary(envelope)));
        }
        self.reading = Reading::Chunk { remaining: size, last };
    }

    fn finish_each(&mut self, replies: &[Reply]) {
        // A recipient without a reply has not got the message.
        let missing = local_error();
        let count = self.replies_to_content();
        self.finish_content((0..count).map(|index| replies.get(index).unwrap_or(&missing)));
    }

    /// RFC 5321 §4.1.1.4: after the reply to the content the transaction is over, whatever the reply was.
    fn finish_content<'a>(&mut self, replies: impl Iterator<Item = &'a Reply>) {
        let mut accepted = false;
        for reply in replies {
            accepted |= reply.is_positive();
            reply.write_or_enhanced(0, 0, &mut self.replies);
        }
        self.become_ready();
        self.counts.junk_commands = 0;
        if accepted {
            self.counts.errors = 0;
        }
    }

    fn drop_client(&mut self) {
        self.replies.clear();
        self.close();
    }

    fn reply_or(&mut self, reply: Option<&Reply>, usual: &str) {
        match reply {
            Some(reply) => reply.write_or_enhanced(0, 0, &mut self.replies),
            None => self.say(usual),
        }
    }

    /// RFC 2034 §4: every reply has a status code, but the greeting and the one to EHLO.
    fn write(&mut self, asked: &Asked, reply: &Reply) {
        if matches!(asked, Asked::Connect | Asked::Helo { .. }) {
            reply.write(&mut self.replies);
        } else {
            reply.write_or_enhanced(0, 0, &mut self.replies);
        }
    }
}

fn wrong_proof() -> Reply {
    Reply::new(535, "5.7.8 Authentication credentials invalid")
}

fn local_error() -> Reply {
    Reply::new(451, "4.3.0 Local error in processing")
}
