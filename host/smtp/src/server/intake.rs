//! Content: DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030).

use super::{Asked, Output, Protocol, Question, Reading, Server, State};
use crate::content::split_chunk;
use crate::line::ContentFault;
use crate::reply::Reply;

impl Server {
    /// Takes what there is of the content of DATA.
    pub(super) fn next_data(&mut self) -> bool {
        let Reading::Data { decoder, begun } = &mut self.reading else { return false };
        if self.input.is_empty() {
            return false;
        }
        *begun = true;
        let (piece, ended) = decoder.decode(&mut self.input);
        let fault = decoder.fault();
        self.outputs.extend(piece.map(Output::Content));
        if ended {
            self.end_content(fault);
        }
        true
    }

    /// Takes what there is of a chunk of BDAT.
    pub(super) fn next_chunk(&mut self) -> bool {
        let (Reading::Chunk { remaining, last }, State::Mail { chunks: Some(decoder), .. }) =
            (&mut self.reading, &mut self.state)
        else {
            return false;
        };
        if self.input.is_empty() && *remaining > 0 {
            return false;
        }
        let piece = decoder.decode(&mut self.input, remaining);
        self.outputs.extend(piece.map(Output::Content));
        if *remaining > 0 {
            return true;
        }
        if *last {
            let fault = decoder.finish();
            self.end_content(fault);
        } else if let Some(fault) = decoder.fault() {
            // RFC 3030 §2: after a failed chunk the transaction is over; what follows of it gets
            // 503.
            self.reading = Reading::Commands;
            self.end_transaction();
            self.say(refusal(fault));
        } else {
            self.reading = Reading::Commands;
            self.say("250 2.0.0 Chunk taken");
        }
        true
    }

    /// Throws away what there is of a chunk that was refused.
    pub(super) fn next_refused_chunk(&mut self) -> bool {
        let Reading::RefusedChunk { remaining, .. } = &mut self.reading else { return false };
        if self.input.is_empty() && *remaining > 0 {
            return false;
        }
        split_chunk(&mut self.input, remaining);
        if *remaining == 0
            && let Reading::RefusedChunk { reply, .. } =
                std::mem::replace(&mut self.reading, Reading::Commands)
        {
            reply.write(&mut self.replies);
        }
        true
    }

    /// Reads a chunk only to stay in step with the client (RFC 3030 §2).
    pub(super) fn refuse_chunk(&mut self, size: u64, reply: Reply) {
        self.counts.errors += 1;
        if self.counts.errors > self.settings.limits.errors {
            return self.leave("421 4.7.0 Too many errors");
        }
        self.reading = Reading::RefusedChunk { remaining: size, reply };
    }

    fn end_content(&mut self, fault: Option<ContentFault>) {
        self.reading = Reading::Commands;
        let Some(fault) = fault else { return self.ask(Question::Content, Asked::Content) };
        let replies = self.replies_to_content();
        self.end_transaction();
        for _ in 0..replies {
            self.say(refusal(fault));
        }
    }

    /// RFC 2033 §4.2: LMTP replies for each recipient.
    pub(super) fn replies_to_content(&self) -> usize {
        match self.settings.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => self.envelope().map_or(1, |envelope| envelope.recipients.len()),
        }
    }
}

fn refusal(fault: ContentFault) -> &'static str {
    match fault {
        // RFC 1870 §6.1
        ContentFault::TooBig => "552 5.3.4 Message is bigger than the limit",
        ContentFault::BareCr => "550 5.6.0 Bare CR in the content",
        ContentFault::BareLf => "550 5.6.0 Bare LF in the content",
        ContentFault::Nul => "550 5.6.0 NUL in the content",
    }
}
