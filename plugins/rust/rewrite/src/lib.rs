//! Rewrites recipients, the reverse-path and header fields, and chooses routes, by rules and tables.
//!
//! See `README.md` for what is configured. [`config`] holds that, [`pattern`] finds and makes
//! addresses, [`header`] edits fields, [`mailboxes`] finds the addresses in them, and this file says what happens at which stage.

mod config;
mod header;
mod mailboxes;
mod pattern;
#[cfg(test)]
mod tests;

use gatepost_plugin::config::split;
use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, NewRecipient, Plugin, RcptVerdict, Recipient,
    RouteVerdict, Session, Transaction,
};

use crate::config::{Action, Config};
use crate::header::Facts;

/// The plugin.
pub struct Rewrite {
    config: Config,
}

gatepost_plugin::export!(Rewrite: rcpt, data, route);

impl Plugin for Rewrite {
    fn configure(host: &Host) -> Result<Self, Error> {
        let config = Config::read(host)?;
        for table in config.tables() {
            host.lookup(table).require_addresses()?;
        }
        Ok(Self { config })
    }

    fn rcpt(
        &self,
        host: &Host,
        _: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        let Some((rule, action)) = self.recipient_action(host, &recipient.address)? else {
            return Ok(Decision::next());
        };
        let addresses = match action {
            Action::Become(addresses) => addresses,
            Action::Discard => {
                return Ok(Decision::discard().because("the rule says so").rule(rule));
            }
            Action::Refuse(reply) if reply.code >= 500 => {
                return Ok(Decision::reject(reply).rule(rule));
            }
            Action::Refuse(reply) => return Ok(Decision::defer(reply).rule(rule)),
        };
        if addresses == [recipient.address.as_str()] {
            return Ok(Decision::next());
        }
        // Who is a recipient already gets no second copy.
        let present = transaction.recipients();
        let known = |address: &String| {
            present.iter().any(|other| other.address == *address) && *address != recipient.address
        };
        let addresses: Vec<_> = addresses.into_iter().filter(|address| !known(address)).collect();
        if addresses.is_empty() {
            return Ok(Decision::discard()
                .because("those who take its place are recipients already")
                .rule(rule));
        }
        let new: Vec<_> = addresses.iter().map(NewRecipient::to).collect();
        transaction.replace_recipient(&recipient.address, &new)?;
        let reason = [&recipient.address, " becomes ", &addresses.join(", ")].concat();
        Ok(Decision::next().because(reason).rule(rule))
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        let facts = Facts::new(session, transaction);
        let mut done = Vec::new();
        // Where no rule is about it, nobody asks for it.
        let rewrites =
            !self.config.reverse_path.is_empty() || self.config.reverse_path_table.is_some();
        if rewrites
            && let Some(sender) = facts.sender()
            && let Some(new) = self.reverse_path(host, sender)?
            && new != sender
        {
            transaction.set_reverse_path(Some(&new))?;
            done.push(["the reverse-path becomes ", &new].concat());
        }
        for rule in &self.config.headers {
            done.extend(rule.apply(host, content, &facts)?);
        }
        Ok(if done.is_empty() {
            Decision::next()
        } else {
            Decision::next().because(done.join("; "))
        })
    }

    fn route(
        &self,
        host: &Host,
        _: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RouteVerdict>, Error> {
        let address = &recipient.address;
        if let Some(rule) =
            self.config.routes.iter().find(|rule| rule.pattern.captures(address).is_some())
        {
            return Ok(Decision::to(rule.to.as_str()).rule(rule.pattern.as_str()));
        }
        let Some(table) = &self.config.route_table else {
            return Ok(Decision::next());
        };
        let route = host.lookup(table).match_address(address)?;
        Ok(route
            .map_or_else(Decision::next, |route| Decision::to(route.trim()).rule(table.as_str())))
    }
}

impl Rewrite {
    /// The first rule that fits, else the table, with the name to log it by.
    fn recipient_action<'a>(
        &'a self,
        host: &Host,
        address: &str,
    ) -> Result<Option<(&'a str, Action)>, Error> {
        for rule in &self.config.recipients {
            if let Some(captures) = rule.pattern.captures(address) {
                return Ok(Some((rule.pattern.as_str(), rule.action(&captures))));
            }
        }
        let Some(table) = &self.config.recipient_table else {
            return Ok(None);
        };
        let Some(value) = self.look_up(host, table, address)? else {
            return Ok(None);
        };
        let action = Action::from_table(&value, address);
        let action = action.map_err(|error| {
            Error::new(
                ["table ", table, ", value for ", address, ": ", &error.to_string()].concat(),
            )
        })?;
        Ok(Some((table, action)))
    }

    /// The value for the whole address, else without its extension, else for its domain.
    fn look_up(&self, host: &Host, table: &str, address: &str) -> Result<Option<String>, Error> {
        let lookup = host.lookup(table);
        if let Some(value) = lookup.get(address)? {
            return Ok(Some(value));
        }
        let (local_part, domain) = split(address);
        let separator = self.config.extension_separator.as_deref();
        if let Some((base, _)) = separator.and_then(|separator| local_part.split_once(separator))
            && let Some(value) = lookup.get(&[base, "@", domain].concat())?
        {
            return Ok(Some(value));
        }
        Ok(lookup.match_address(address)?)
    }

    fn reverse_path(&self, host: &Host, sender: &str) -> Result<Option<String>, Error> {
        for rule in &self.config.reverse_path {
            if let Some(captures) = rule.pattern.captures(sender) {
                return Ok(Some(rule.to.fill(&captures)));
            }
        }
        let Some(table) = &self.config.reverse_path_table else {
            return Ok(None);
        };
        match Action::from_table(
            &host.lookup(table).match_address(sender)?.unwrap_or_default(),
            sender,
        ) {
            Ok(Action::Become(mut addresses)) if addresses.len() == 1 => Ok(addresses.pop()),
            Ok(Action::Become(addresses)) if addresses.is_empty() => Ok(None),
            _ => Err(Error::new(
                ["table ", table, ": the value for ", sender, " has to be one address"].concat(),
            )),
        }
    }
}
