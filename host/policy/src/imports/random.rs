//! `random`: randomness, through the seam. Grant: random, given unless taken away.

use crate::bindings::imports::random::Host;
use crate::guest::Guest;
use crate::seam::{Answer, Question, unfit};

impl Host for Guest {
    fn octets(&mut self, length: u32) -> wasmtime::Result<Vec<u8>> {
        self.random_octets(length.into())
    }

    fn number(&mut self) -> wasmtime::Result<u64> {
        self.random_number()
    }
}

impl Guest {
    pub(crate) fn random_octets(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.charge()?;
        self.inevitable(self.core.grants.random, "random")?;
        let Some(octets) = u32::try_from(length).ok().filter(|length| *length <= MOST_OCTETS)
        else {
            wasmtime::bail!("{length} random octets asked for, at most {MOST_OCTETS} are given");
        };
        match self.ask(Question::Random { octets }) {
            Ok(Answer::Octets(random)) if random.len() == octets as usize => Ok(random),
            Ok(_) => Err(unfit().into()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn random_number(&mut self) -> wasmtime::Result<u64> {
        let octets = self.random_octets(8)?;
        Ok(octets.first_chunk().map_or(0, |octets| u64::from_le_bytes(*octets)))
    }
}

const MOST_OCTETS: u32 = 64 << 10;
