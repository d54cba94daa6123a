//! `rate-limit`: the plugin's token buckets, through the seam. Grant: rate-limit.

use crate::bindings::HostError;
use crate::bindings::imports::rate_limit::{Host, Rate, Taken};
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

impl Host for Guest {
    fn take(
        &mut self,
        key: String,
        tokens: u32,
        rate: Rate,
    ) -> wasmtime::Result<Result<Taken, HostError>> {
        self.charge()?;
        if !self.core.grants.rate_limit {
            return Ok(Err(HostError::Denied("rate-limit".into())));
        }
        let question = Question::Take { key, tokens, capacity: rate.tokens, seconds: rate.seconds };
        Ok(match self.ask(question) {
            Ok(Answer::Taken { allowed, remaining, wait }) => {
                Ok(Taken { allowed, remaining, wait })
            }
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }
}
