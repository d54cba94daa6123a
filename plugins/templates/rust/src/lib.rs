//! Refuses recipients who have left, and clients that go on guessing.

use gatepost_plugin::{
    Content, DataVerdict, Decision, Error, Host, Level, Plugin, RcptVerdict, Recipient, Reply,
    Session, Transaction,
};

/// The plugin's table of the server's configuration. A key that is not here is a fault, and says so.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct {{Name}} {
    /// Addresses that are not here any more.
    refused: Vec<String>,
    /// So many refusals in an hour, then the client is disconnected.
    #[serde(default = "usual_patience")]
    patience: i64,
}

fn usual_patience() -> i64 {
    3
}

// The stages at which the server asks this plugin; the others cost nothing.
gatepost_plugin::export!({{Name}}: rcpt, data);

impl Plugin for {{Name}} {
    /// Once for each instance. An error here keeps the plugin from going live.
    fn configure(host: &Host) -> Result<Self, Error> {
        let mut config: Self = host.config()?;
        config.refused.iter_mut().for_each(|address| address.make_ascii_lowercase());
        Ok(config)
    }

    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        _: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        let address = recipient.address.to_ascii_lowercase();
        if !self.refused.contains(&address) {
            return Ok(Decision::next());
        }
        let refusals = count(host, &session.info().client.ip);
        if refusals > self.patience {
            let reply = Reply::new(421, "4.7.0", "Too many recipients who are not here");
            let why = format!("refusal {refusals} within the hour");
            return Ok(Decision::disconnect(reply).because(why).rule("patience"));
        }
        let reply = Reply::new(550, "5.1.1", &format!("{address} is not here any more"));
        Ok(Decision::reject(reply).because(format!("{address} is listed")).rule("refused"))
    }

    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        let Some(refusals) = host.kv().get(&key(&session.info().client.ip))? else {
            return Ok(Decision::next());
        };
        let number = String::from_utf8_lossy(&refusals).into_owned();
        // Staged: it takes effect with the decision, or not at all.
        content.prepend_header("X-Refused-Recipients", &number)?;
        transaction.add_tag("guesser")?;
        Ok(Decision::next().because(format!("{number} refused before")).rule("guesser"))
    }
}

/// One more refusal for this client; how many that makes within the hour. What has to outlive a call belongs in kv: the
/// memory of a plugin is a cache, and may vanish between any two stages.
fn count(host: &Host, client: &str) -> i64 {
    match host.kv().increment(&key(client), 1, Some(HOUR)) {
        Ok(refusals) => {
            let number = refusals.to_string();
            host.log(Level::Info, "refused", &[("client", client), ("refusals", &number)]);
            refusals
        }
        // Without the store nobody is disconnected.
        Err(error) => {
            let error = Error::from(error).to_string();
            host.log(Level::Warn, "refusals are not counted", &[("error", &error)]);
            0
        }
    }
}

fn key(client: &str) -> String {
    format!("refused/{client}")
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use gatepost_plugin::test::World;
    use serde_json::json;

    use super::*;

    /// Without WebAssembly and without a server; `scenarios/` has tests of the component.
    #[test]
    fn who_has_left_is_refused_and_a_guesser_is_disconnected() {
        let world = World::new().config(json!({ "refused": ["Old@example.org"], "patience": 1 }));
        let plugin = {{Name}}::configure(&world.host()).unwrap();
        let rcpt = |address: &str| {
            let transaction = Transaction::from("carol@example.net").to(address);
            let recipient = &transaction.recipients()[0];
            let session = Session::from("198.51.100.7");
            let decision = plugin.rcpt(&world.host(), &session, &transaction, recipient).unwrap();
            decision.rule_name().unwrap_or("-").to_owned()
        };
        assert_eq!(rcpt("bob@example.org"), "-");
        assert_eq!(rcpt("old@example.org"), "refused");
        assert_eq!(rcpt("OLD@example.org"), "patience");
    }
}
