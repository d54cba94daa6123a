//! Does at `route` and `outcome` what its configuration says for a local part, so that a test sees every verdict
//! of the two stages carried out by the running server:
//!
//! ```toml
//! "route far" = "to smtp:[192.0.2.1]:25"    # to ROUTE, hold NAME, defer SECONDS, fail, discard
//! "outcome full" = "retry 3600"             # retry SECONDS, hold NAME, fail, quiet, detour ROUTE
//! ```
//!
//! `detour` is what there is no verdict for: the attempt failed, so the next question about the route is answered with
//! another one.

use std::time::Duration;

use gatepost_plugin::{
    AttemptResult, Decision, Error, Host, OutcomeVerdict, Plugin, Recipient, Reply, RouteVerdict,
    Transaction,
};

/// The plugin.
pub struct Signpost;

gatepost_plugin::export!(Signpost: route, outcome);

impl Plugin for Signpost {
    fn configure(host: &Host) -> Result<Self, Error> {
        host.kv().require()?;
        Ok(Self)
    }

    fn route(
        &self,
        host: &Host,
        _: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RouteVerdict>, Error> {
        if let Some(detour) = host.kv().get_text(&recipient.address)? {
            return Ok(Decision::to(detour).rule("detour"));
        }
        let Some(words) = rule(host, "route", recipient) else {
            return Ok(Decision::next());
        };
        let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
        let reply = |code, status| Reply::new(code, status, "The signpost says so");
        let decision = match verb {
            "to" => Decision::to(rest),
            "hold" => Decision::hold(rest),
            "defer" => Decision::wait(seconds(rest)?, reply(450, "4.7.1")),
            "fail" => Decision::fail(reply(550, "5.7.1")),
            "discard" => Decision::discard(),
            _ => return Err(format!("no verdict: {words}").into()),
        };
        Ok(decision.because(words.clone()).rule("route"))
    }

    fn outcome(
        &self,
        host: &Host,
        _: &Transaction,
        recipient: &Recipient,
        _: &str,
        result: &AttemptResult,
    ) -> Result<Decision<OutcomeVerdict>, Error> {
        let Some(words) = rule(host, "outcome", recipient) else {
            return Ok(Decision::next());
        };
        let (verb, rest) = words.split_once(' ').unwrap_or((&words, ""));
        let decision = match (verb, result) {
            // What was taken is done, whatever anybody says.
            (_, AttemptResult::Delivered(_) | AttemptResult::Relayed(_)) => Decision::next(),
            ("retry", _) => Decision::retry_in(seconds(rest)?),
            ("hold", _) => Decision::hold(rest),
            ("fail", _) => Decision::fail(Reply::new(550, "5.7.1", "The signpost gave up")),
            ("quiet", _) => Decision::suppress_notice(),
            ("detour", _) => {
                host.kv().set(&recipient.address, rest, None)?;
                Decision::retry_in(Duration::from_secs(1))
            }
            _ => return Err(format!("no verdict: {words}").into()),
        };
        Ok(decision.because(words.clone()).rule("outcome"))
    }
}

fn rule(host: &Host, stage: &str, recipient: &Recipient) -> Option<String> {
    let (name, _) = recipient.address.rsplit_once('@')?;
    host.config_value(&format!("{stage} {name}"))
}

fn seconds(text: &str) -> Result<Duration, Error> {
    let seconds = text.parse().map_err(|_| format!("no seconds: {text}"))?;
    Ok(Duration::from_secs(seconds))
}
