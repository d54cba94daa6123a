//! The inside of a component: from the exported functions to the methods of a [`Plugin`].

use std::cell::OnceCell;

use crate::verdict::Verdict;
use crate::wit::imports::gatepost::policy::log;
use crate::{
    AttemptResult, Content, Credentials, Decision, Error, Host, Level, Notice, Plugin, Recipient,
    Registration, Session, Transaction, wit,
};

/// What [`export!`](crate::export!) implements for the one plugin of a component.
pub trait Hosted {
    /// The plugin.
    type Plugin: Plugin;

    /// Name, version and description of its crate.
    fn registration() -> Registration;

    /// Gives access to the instance of the plugin, which `configure` makes.
    fn with<R>(act: impl FnOnce(&OnceCell<Self::Plugin>) -> R) -> R;
}

impl<C: Hosted> wit::configure::exports::gatepost::policy::configure::Guest for C {
    fn configure() -> Result<Registration, String> {
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string(), &[])));
        let plugin = C::Plugin::configure(&Host::new()).map_err(|error| error.to_string())?;
        // A second call finds the plugin made, and the configuration of an instance never changes.
        C::with(|cell| drop(cell.set(plugin)));
        Ok(C::registration())
    }
}

/// Asks the plugin; an error ends the call as a trap, because the contract has no other way to say
/// "I could not": the host then does what the administrator chose as `on-error`.
fn ask<C: Hosted, V: Verdict>(
    question: impl FnOnce(&C::Plugin, &Host) -> Result<Decision<V>, Error>,
) -> (V, Option<String>, Option<String>) {
    call::<C, _>(question).into_parts()
}

fn call<C: Hosted, T>(question: impl FnOnce(&C::Plugin, &Host) -> Result<T, Error>) -> T {
    let answer = C::with(|cell| {
        question(cell.get().expect("configure is called before any stage"), &Host::new())
    });
    match answer {
        Ok(answer) => answer,
        Err(error) => {
            log::write(Level::Error, &error.to_string(), &[]);
            std::process::abort()
        }
    }
}

impl<C: Hosted> wit::on_connect::Guest for C {
    fn connect(session: &Session) -> wit::on_connect::Decision {
        let (verdict, reason, rule) = ask::<C, _>(|plugin, host| plugin.connect(host, session));
        wit::on_connect::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_helo::Guest for C {
    fn helo(session: &Session, name: String) -> wit::on_helo::Decision {
        let (verdict, reason, rule) = ask::<C, _>(|plugin, host| plugin.helo(host, session, &name));
        wit::on_helo::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_auth::Guest for C {
    fn auth(session: &Session, credentials: Credentials) -> wit::on_auth::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.auth(host, session, &credentials));
        wit::on_auth::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_mail::Guest for C {
    fn mail(session: &Session, transaction: &Transaction) -> wit::on_mail::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.mail(host, session, transaction));
        wit::on_mail::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_rcpt::Guest for C {
    fn rcpt(
        session: &Session,
        transaction: &Transaction,
        recipient: Recipient,
    ) -> wit::on_rcpt::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.rcpt(host, session, transaction, &recipient));
        wit::on_rcpt::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_data::Guest for C {
    fn data(
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> wit::on_data::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.data(host, session, transaction, content));
        wit::on_data::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_route::Guest for C {
    fn route(transaction: &Transaction, recipient: Recipient) -> wit::on_route::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.route(host, transaction, &recipient));
        wit::on_route::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_outcome::Guest for C {
    fn outcome(
        transaction: &Transaction,
        recipient: Recipient,
        route: String,
        result: AttemptResult,
    ) -> wit::on_outcome::Decision {
        let (verdict, reason, rule) = ask::<C, _>(|plugin, host| {
            plugin.outcome(host, transaction, &recipient, &route, &result)
        });
        wit::on_outcome::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_deliver::Guest for C {
    fn deliver(
        transaction: &Transaction,
        recipient: Recipient,
        content: &Content,
    ) -> wit::on_deliver::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.deliver(host, transaction, &recipient, content));
        wit::on_deliver::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_dsn::Guest for C {
    fn dsn(transaction: &Transaction, notice: Notice) -> wit::on_dsn::Decision {
        let (verdict, reason, rule) =
            ask::<C, _>(|plugin, host| plugin.dsn(host, transaction, &notice));
        wit::on_dsn::Decision { verdict, reason, rule }
    }
}

impl<C: Hosted> wit::on_disconnect::Guest for C {
    fn disconnect(session: &Session, how: String) {
        call::<C, _>(|plugin, host| plugin.disconnect(host, session, &how));
    }
}
