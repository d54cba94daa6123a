//! `lookup`: tables of the configuration, through the seam. Grant: lookup, by table.

use crate::bindings::HostError;
use crate::bindings::imports::lookup::Host;
use crate::guest::Guest;
use crate::seam::{Answer, Match, Question, unfit};

type Found = wasmtime::Result<Result<Option<String>, HostError>>;

impl Host for Guest {
    fn get(&mut self, table: String, key: String) -> Found {
        self.look_up(table, Match::Exact, key)
    }

    fn match_ip(&mut self, table: String, ip: String) -> Found {
        self.look_up(table, Match::Ip, ip)
    }

    fn match_address(&mut self, table: String, address: String) -> Found {
        self.look_up(table, Match::Address, address)
    }

    fn match_domain(&mut self, table: String, domain: String) -> Found {
        self.look_up(table, Match::Domain, domain)
    }
}

impl Guest {
    fn look_up(&mut self, table: String, by: Match, key: String) -> Found {
        self.charge()?;
        if !self.core.grants.lookup.contains(&table) {
            return Ok(Err(HostError::Denied(format!("lookup {table:?}"))));
        }
        Ok(match self.ask(Question::Lookup { table, by, key }) {
            Ok(Answer::Text(found)) => Ok(found),
            Ok(_) => Err(unfit()),
            Err(error) => Err(error),
        })
    }
}
