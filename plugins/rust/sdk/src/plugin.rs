//! What a plugin implements.

pub use crate::wit::configure::exports::gatepost::policy::configure::Registration;
use crate::{
    AttemptResult, AuthVerdict, ConnectVerdict, Content, Credentials, DataVerdict, Decision,
    DeliverVerdict, DsnVerdict, Error, HeloVerdict, Host, MailVerdict, Notice, OutcomeVerdict,
    RcptVerdict, Recipient, RouteVerdict, Session, Transaction,
};

/// A plugin: the stages at which it has something to say, in the order of a message's life.
///
/// Implement the methods that you need and name the same stages in [`export!`](crate::export!);
/// a method that is not named there is never called. A stage that returns an [`Error`] has no
/// effect at all, and the administrator's `on-error` decides in its place.
///
/// ```
/// use std::time::Duration;
///
/// use gatepost_plugin::test::{Content, Session, Transaction, World};
/// use gatepost_plugin::{
///     AttemptResult, DataVerdict, Decision, DeliverVerdict, Error, Host, OutcomeVerdict, Plugin,
///     Recipient,
/// };
///
/// /// Marks mail of lists, files it, and tries it without haste.
/// struct Lists;
///
/// impl Plugin for Lists {
///     fn configure(_: &Host) -> Result<Self, Error> {
///         Ok(Self)
///     }
///
///     fn data(
///         &self,
///         _: &Host,
///         _: &Session,
///         mail: &Transaction,
///         content: &Content,
///     ) -> Result<Decision<DataVerdict>, Error> {
///         if let Some(list) = content.header("List-Id").first() {
///             // What a later stage has to know goes into a note: this instance may be gone by then.
///             mail.set_note("list", Some(list))?;
///             mail.add_tag("list")?;
///         }
///         Ok(Decision::next())
///     }
///
///     fn deliver(
///         &self,
///         _: &Host,
///         mail: &Transaction,
///         _: &Recipient,
///         _: &Content,
///     ) -> Result<Decision<DeliverVerdict>, Error> {
///         Ok(mail.note("list").map_or_else(Decision::next, |_| Decision::file("Lists")))
///     }
///
///     fn outcome(
///         &self,
///         _: &Host,
///         mail: &Transaction,
///         _: &Recipient,
///         _: &str,
///         result: &AttemptResult,
///     ) -> Result<Decision<OutcomeVerdict>, Error> {
///         match (mail.note("list"), result) {
///             (Some(_), AttemptResult::Deferred(_)) => {
///                 Ok(Decision::retry_in(Duration::from_secs(3600)))
///             }
///             _ => Ok(Decision::next()),
///         }
///     }
/// }
///
/// gatepost_plugin::export!(Lists: data, deliver, outcome);
///
/// let host = World::new().host();
/// let plugin = Lists::configure(&host).unwrap();
/// let mail = Transaction::from("list@example.net").to("bob@example.org");
/// let content = Content::from("List-Id: <wasm.example.net>\n\nhello");
/// plugin.data(&host, &Session::from("192.0.2.1"), &mail, &content).unwrap();
/// assert_eq!(mail.tags(), ["list"]);
/// let filed = plugin.deliver(&host, &mail, &mail.recipients()[0], &content).unwrap();
/// assert_eq!(filed, Decision::file("Lists"));
/// ```
pub trait Plugin: Sized + 'static {
    /// Called once for each new instance, before any stage; the first time when the plugin is
    /// loaded. An error keeps this version from going live, and its text goes to the administrator:
    /// check everything here that can be wrong in a configuration.
    fn configure(host: &Host) -> Result<Self, Error>;

    /// A client connected; the greeting is not sent yet.
    fn connect(&self, host: &Host, session: &Session) -> Result<Decision<ConnectVerdict>, Error> {
        let _ = (host, session);
        Ok(Decision::next())
    }

    /// HELO, EHLO or LHLO, with its argument.
    fn helo(
        &self,
        host: &Host,
        session: &Session,
        name: &str,
    ) -> Result<Decision<HeloVerdict>, Error> {
        let _ = (host, session, name);
        Ok(Decision::next())
    }

    /// AUTH: a client wants to log in. The users of the configuration are asked if no plugin has an
    /// opinion. The grant `auth` gives the password, and the power to let somebody in.
    fn auth(
        &self,
        host: &Host,
        session: &Session,
        credentials: &Credentials,
    ) -> Result<Decision<AuthVerdict>, Error> {
        let _ = (host, session, credentials);
        Ok(Decision::next())
    }

    /// MAIL: a transaction begins.
    fn mail(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
    ) -> Result<Decision<MailVerdict>, Error> {
        let _ = (host, session, transaction);
        Ok(Decision::next())
    }

    /// RCPT, once for each recipient: it is the last of [`Transaction::recipients`].
    fn rcpt(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RcptVerdict>, Error> {
        let _ = (host, session, transaction, recipient);
        Ok(Decision::next())
    }

    /// The whole content is here; nothing is acknowledged yet.
    fn data(
        &self,
        host: &Host,
        session: &Session,
        transaction: &Transaction,
        content: &Content,
    ) -> Result<Decision<DataVerdict>, Error> {
        let _ = (host, session, transaction, content);
        Ok(Decision::next())
    }

    /// The message is queued: where shall the copy for this recipient go? Asked before every attempt.
    fn route(
        &self,
        host: &Host,
        transaction: &Transaction,
        recipient: &Recipient,
    ) -> Result<Decision<RouteVerdict>, Error> {
        let _ = (host, transaction, recipient);
        Ok(Decision::next())
    }

    /// The copy for this recipient is about to be put into a local mailbox.
    fn deliver(
        &self,
        host: &Host,
        transaction: &Transaction,
        recipient: &Recipient,
        content: &Content,
    ) -> Result<Decision<DeliverVerdict>, Error> {
        let _ = (host, transaction, recipient, content);
        Ok(Decision::next())
    }

    /// An attempt over `route` ended: what came of it for this recipient.
    fn outcome(
        &self,
        host: &Host,
        transaction: &Transaction,
        recipient: &Recipient,
        route: &str,
        result: &AttemptResult,
    ) -> Result<Decision<OutcomeVerdict>, Error> {
        let _ = (host, transaction, recipient, route, result);
        Ok(Decision::next())
    }

    /// The host is about to tell the sender what became of recipients. `transaction` is the message
    /// that it is about.
    fn dsn(
        &self,
        host: &Host,
        transaction: &Transaction,
        notice: &Notice,
    ) -> Result<Decision<DsnVerdict>, Error> {
        let _ = (host, transaction, notice);
        Ok(Decision::next())
    }

    /// The connection ended: `quit`, `lost`, `timeout`, `refused`, `shutdown`, `error`.
    fn disconnect(&self, host: &Host, session: &Session, how: &str) -> Result<(), Error> {
        let _ = (host, session, how);
        Ok(())
    }
}
