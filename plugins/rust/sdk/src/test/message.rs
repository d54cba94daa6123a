//! Connection, envelope and content in memory, with the methods that the host's have.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use crate::authentication::{Results, Spf};
use crate::{
    AuthInfo, Endpoint, Field, HostError, NewRecipient, PartInfo, PartPlace, Recipient,
    SessionInfo, TlsInfo,
};

/// A connection. `Session::from("192.0.2.1")` is one of a stranger to the listener `mx`.
pub struct Session {
    info: SessionInfo,
    client_name: Option<String>,
    notes: Notes,
    delay: Cell<u64>,
}

impl From<&str> for Session {
    fn from(client: &str) -> Self {
        let endpoint = |ip: &str, port| Endpoint { ip: ip.to_owned(), port };
        let info = SessionInfo {
            id: "session".to_owned(),
            listener: "mx".to_owned(),
            origin: "mx".to_owned(),
            client: endpoint(client, 50_000),
            server: endpoint("192.0.2.250", 25),
            helo: None,
            extended: false,
            tls: None,
            auth: None,
        };
        Self { info, client_name: None, notes: Notes::default(), delay: Cell::new(0) }
    }
}

impl Session {
    /// The client said EHLO with this name.
    #[must_use]
    pub fn helo(mut self, name: &str) -> Self {
        self.info.helo = Some(name.to_owned());
        self.info.extended = true;
        self
    }

    /// The client is authenticated.
    #[must_use]
    pub fn authenticated(mut self, identity: &str) -> Self {
        self.info.auth =
            Some(AuthInfo { mechanism: "PLAIN".to_owned(), identity: identity.to_owned() });
        self
    }

    /// The connection is encrypted.
    #[must_use]
    pub fn encrypted(mut self) -> Self {
        let cipher = "TLS13_AES_256_GCM_SHA384".to_owned();
        self.info.tls = Some(TlsInfo { version: "TLSv1.3".to_owned(), cipher, server_name: None });
        self
    }

    /// The client has this verified name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.client_name = Some(name.to_owned());
        self
    }

    /// The mail comes from another entrance: `submission`, `lmtp`, `local`, `notice`.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.info.origin);
        origin.clone_into(&mut self.info.listener);
        self
    }

    /// What the host knows about the connection at this moment.
    pub fn info(&self) -> SessionInfo {
        self.info.clone()
    }

    /// The name of the client that its address leads to and that leads back to it, once it is known.
    pub fn client_name(&self) -> Option<String> {
        self.client_name.clone()
    }

    /// Staged: the host waits before it sends the reply of this stage. Grant: `delay`.
    pub fn delay_reply(&self, milliseconds: u32) -> Result<(), HostError> {
        self.delay.set(self.delay.get() + u64::from(milliseconds));
        Ok(())
    }

    /// How long replies were delayed in all, in milliseconds.
    pub fn delayed(&self) -> u64 {
        self.delay.get()
    }

    /// A note that lives as long as the connection, and then with its messages. A plugin reads the notes of all
    /// (`plugin-name/key`) and its own (`key`).
    pub fn note(&self, key: &str) -> Option<String> {
        self.notes.get(key)
    }

    /// Sets or removes (`None`) a note of the plugin's own.
    pub fn set_note(&self, key: &str, value: Option<&str>) -> Result<(), HostError> {
        self.notes.set(key, value);
        Ok(())
    }
}

/// A mail transaction. `Transaction::from("bob@example.net")` has this reverse-path, and the null
/// path for "".
pub struct Transaction {
    reverse_path: RefCell<Option<String>>,
    recipients: RefCell<Vec<Recipient>>,
    parameters: RefCell<BTreeMap<String, String>>,
    notes: Notes,
    origin: String,
    tags: RefCell<BTreeSet<String>>,
    priority: Cell<i8>,
    spf: Vec<Spf>,
    edits: RefCell<Vec<String>>,
    denied: bool,
}

impl From<&str> for Transaction {
    fn from(reverse_path: &str) -> Self {
        Self {
            reverse_path: RefCell::new(
                Some(reverse_path.to_owned()).filter(|path| !path.is_empty()),
            ),
            recipients: RefCell::default(),
            parameters: RefCell::default(),
            notes: Notes::default(),
            origin: "mx".to_owned(),
            tags: RefCell::default(),
            priority: Cell::new(0),
            spf: Vec::new(),
            edits: RefCell::default(),
            denied: false,
        }
    }
}

impl Transaction {
    /// One more recipient.
    #[must_use]
    pub fn to(self, address: &str) -> Self {
        self.recipients.borrow_mut().push(recipient(address, address));
        self
    }

    /// A parameter of MAIL.
    #[must_use]
    pub fn with_parameter(self, name: &str, value: &str) -> Self {
        self.parameters.borrow_mut().insert(name.to_uppercase(), value.to_owned());
        self
    }

    /// The mail comes from another entrance: `submission`, `lmtp`, `local`, `notice`.
    #[must_use]
    pub fn from_origin(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.origin);
        self
    }

    /// What SPF says.
    #[must_use]
    pub fn with_spf(mut self, spf: Spf) -> Self {
        self.spf.push(spf);
        self
    }

    /// Every edit is refused, as for a plugin without grants.
    #[must_use]
    pub fn without_grants(mut self) -> Self {
        self.denied = true;
        self
    }

    /// What was staged, one line for each call: `set-route bob@example.org lmtp:/run/lmtp`.
    pub fn edits(&self) -> Vec<String> {
        self.edits.borrow().clone()
    }

    /// Unique for each transaction; the queue id once the message is accepted.
    pub fn id(&self) -> String {
        "0123456789ABCDEF".to_owned()
    }

    /// The reverse-path; `None` is the null path `<>`.
    pub fn reverse_path(&self) -> Option<String> {
        self.reverse_path.borrow().clone()
    }

    /// The recipients; at the stage `rcpt` the one that is asked about is the last.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.recipients.borrow().clone()
    }

    /// A parameter of MAIL in upper case; an empty text where it stands without a value.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.borrow().get(&name.to_uppercase()).cloned()
    }

    /// Where the mail comes from: as in [`SessionInfo`].
    pub fn origin(&self) -> String {
        self.origin.clone()
    }

    /// What SPF says about the reverse-path and HELO.
    pub fn spf(&self) -> Vec<Spf> {
        self.spf.clone()
    }

    /// Words that stay with the message.
    pub fn tags(&self) -> Vec<String> {
        self.tags.borrow().iter().cloned().collect()
    }

    /// -9 to 9; higher goes first.
    pub fn priority(&self) -> i8 {
        self.priority.get()
    }

    /// A note that stays with the message until its last delivery.
    pub fn note(&self, key: &str) -> Option<String> {
        self.notes.get(key)
    }

    /// Sets or removes (`None`) a note of the plugin's own.
    pub fn set_note(&self, key: &str, value: Option<&str>) -> Result<(), HostError> {
        self.notes.set(key, value);
        Ok(())
    }

    /// Staged. `None` makes it the null path. Grant: edit `reverse-path`.
    pub fn set_reverse_path(&self, address: Option<&str>) -> Result<(), HostError> {
        self.stage("reverse-path", format!("set-reverse-path {}", address.unwrap_or("<>")))?;
        *self.reverse_path.borrow_mut() = address.map(str::to_owned);
        Ok(())
    }

    /// Staged: RET (RFC 3461 §4.3), `FULL` or `HDRS`. Grant: edit `reverse-path`.
    pub fn set_return(&self, ret: Option<&str>) -> Result<(), HostError> {
        self.set_parameter("RET", "set-return", ret)
    }

    /// Staged: ENVID (RFC 3461 §4.4). Grant: edit `reverse-path`.
    pub fn set_envelope_id(&self, envid: Option<&str>) -> Result<(), HostError> {
        self.set_parameter("ENVID", "set-envelope-id", envid)
    }

    fn set_parameter(&self, name: &str, what: &str, value: Option<&str>) -> Result<(), HostError> {
        self.stage("reverse-path", format!("{what} {}", value.unwrap_or("none")))?;
        let mut parameters = self.parameters.borrow_mut();
        match value {
            Some(value) => parameters.insert(name.to_owned(), value.to_owned()),
            None => parameters.remove(name),
        };
        Ok(())
    }

    /// Staged: no delivery is tried before this time, in seconds since 1970. Grant for these three: edit `schedule`.
    pub fn set_not_before(&self, time: u64) -> Result<(), HostError> {
        self.stage("schedule", format!("set-not-before {time}"))
    }

    /// Staged: after this time it is given up.
    pub fn set_expiry(&self, time: u64) -> Result<(), HostError> {
        self.stage("schedule", format!("set-expiry {time}"))
    }

    /// Staged: -9 to 9.
    pub fn set_priority(&self, priority: i8) -> Result<(), HostError> {
        self.stage("schedule", format!("set-priority {priority}"))?;
        self.priority.set(priority);
        Ok(())
    }

    /// Staged. Grant for these two: edit `tags`.
    pub fn add_tag(&self, tag: &str) -> Result<(), HostError> {
        self.stage("tags", format!("add-tag {tag}"))?;
        self.tags.borrow_mut().insert(tag.to_owned());
        Ok(())
    }

    /// Staged: removes a tag.
    pub fn remove_tag(&self, tag: &str) -> Result<(), HostError> {
        self.stage("tags", format!("remove-tag {tag}"))?;
        self.tags.borrow_mut().remove(tag);
        Ok(())
    }

    /// Staged. Grant for these three: edit `recipients`.
    pub fn add_recipient(&self, new: &NewRecipient) -> Result<(), HostError> {
        self.stage("recipients", format!("add-recipient {}", new.address))?;
        self.recipients.borrow_mut().push(made(new, &new.address, None));
        Ok(())
    }

    /// Staged: removes a recipient.
    pub fn remove_recipient(&self, address: &str) -> Result<(), HostError> {
        self.position(address)?;
        self.stage("recipients", format!("remove-recipient {address}"))?;
        self.recipients.borrow_mut().retain(|recipient| recipient.address != address);
        Ok(())
    }

    /// Staged: puts others in the place of one recipient.
    pub fn replace_recipient(&self, address: &str, by: &[NewRecipient]) -> Result<(), HostError> {
        let position = self.position(address)?;
        let names: Vec<&str> = by.iter().map(|new| new.address.as_str()).collect();
        self.stage("recipients", format!("replace-recipient {address} {}", names.join(",")))?;
        let mut recipients = self.recipients.borrow_mut();
        let old = recipients.remove(position);
        recipients
            .splice(position..position, by.iter().map(|new| made(new, &old.original, Some(&old))));
        Ok(())
    }

    /// Staged: where the copy for this recipient is to go. Grant: edit `route`.
    pub fn set_route(&self, address: &str, route: &str) -> Result<(), HostError> {
        self.position(address)?;
        self.stage("route", format!("set-route {address} {route}"))
    }

    /// Staged: what the copy for this recipient demands of TLS. Grant: edit `route`.
    pub fn set_tls(&self, address: &str, demand: &str) -> Result<(), HostError> {
        self.position(address)?;
        self.stage("route", format!("set-tls {address} {demand}"))
    }

    fn position(&self, address: &str) -> Result<usize, HostError> {
        let recipients = self.recipients.borrow();
        let position = recipients.iter().position(|recipient| recipient.address == address);
        position.ok_or_else(|| HostError::Invalid(format!("there is no recipient {address}")))
    }

    fn stage(&self, grant: &str, edit: String) -> Result<(), HostError> {
        if self.denied {
            return Err(HostError::Denied(format!("edit {grant}")));
        }
        self.edits.borrow_mut().push(edit);
        Ok(())
    }
}

/// A message. `Content::from("Subject: x\n\nbody")` takes header fields, an empty line and a body.
/// It knows neither MIME nor RFC 2047: the host does. [`part`](Self::part) says what parts there are.
pub struct Content {
    results: Option<Results>,
    raw_header: String,
    fields: RefCell<Vec<Field>>,
    /// As received.
    received: Vec<u8>,
    body: RefCell<Vec<u8>>,
    parts: Vec<Part>,
}

/// A leaf of the MIME tree, transfer-decoded, and where it lies in the body.
struct Part {
    info: PartInfo,
    octets: Vec<u8>,
    place: PartPlace,
}

impl From<&str> for Content {
    fn from(message: &str) -> Self {
        let message = message.replace("\r\n", "\n");
        let (header, body) = message.split_once("\n\n").unwrap_or((&message, ""));
        let unfolded = header.replace("\n ", " ").replace("\n\t", " ");
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some(Field { name: name.to_owned(), value: value.trim().to_owned() })
        };
        Self {
            results: None,
            raw_header: format!("{}\r\n", header.trim_end().replace('\n', "\r\n")),
            fields: RefCell::new(unfolded.lines().filter_map(field).collect()),
            received: body.replace('\n', "\r\n").into_bytes(),
            body: RefCell::new(body.replace('\n', "\r\n").into_bytes()),
            parts: Vec::new(),
        }
    }
}

impl Content {
    /// One more part behind what is there, with the boundary `part`. It stands in the body as it is: these octets are
    /// what a transfer decoder would give.
    #[must_use]
    pub fn part(mut self, content_type: &str, filename: Option<&str>, octets: &[u8]) -> Self {
        let mut body = self.received;
        body.extend_from_slice(b"--part\r\n");
        let header = body.len() as u64;
        body.extend_from_slice(format!("Content-Type: {content_type}\r\n").as_bytes());
        if let Some(name) = filename {
            let disposition = format!("Content-Disposition: attachment; filename=\"{name}\"\r\n");
            body.extend_from_slice(disposition.as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        let content = body.len() as u64;
        body.extend_from_slice(octets);
        let place = PartPlace { header: Some(header), content, end: body.len() as u64 };
        body.extend_from_slice(b"\r\n");
        let info = PartInfo {
            index: u32::try_from(self.parts.len()).expect("a test has few parts"),
            content_type: content_type.to_owned(),
            charset: None,
            filename: filename.map(str::to_owned),
            disposition: if filename.is_some() { "attachment".to_owned() } else { String::new() },
            size: octets.len() as u64,
            depth: 1,
        };
        self.parts.push(Part { info, octets: octets.to_vec(), place });
        self.body = RefCell::new(body.clone());
        self.received = body;
        self
    }

    /// The body as the edits leave it.
    pub fn edited_body(&self) -> Vec<u8> {
        self.body.borrow().clone()
    }

    /// What the host's own checks of the sender say.
    #[must_use]
    pub fn with_results(mut self, results: Results) -> Self {
        self.results = Some(results);
        self
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        let mut octets = format!("{}\r\n", self.raw_header).into_bytes();
        octets.extend_from_slice(&self.received);
        octets
    }

    /// What the host's own checks of the sender say; `None` where it does not check.
    pub fn authentication(&self) -> Option<Results> {
        self.results.clone()
    }

    /// The fields of this name with their line ends. This content does not keep folds: the host does.
    pub fn raw_header(&self, name: &str) -> Vec<Vec<u8>> {
        let fields = self.header(name);
        fields.iter().map(|value| format!("{name}: {value}\r\n").into_bytes()).collect()
    }

    /// Octets of the whole content.
    pub fn size(&self) -> u64 {
        self.raw_header.len() as u64 + 2 + self.body_size()
    }

    /// The values of all fields of this name, from the top; case does not matter.
    pub fn header(&self, name: &str) -> Vec<String> {
        let fields = self.fields.borrow();
        fields
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.clone())
            .collect()
    }

    /// All fields, from the top.
    pub fn headers(&self) -> Vec<Field> {
        self.fields.borrow().clone()
    }

    /// A piece of the header as received.
    pub fn read_raw_header(&self, offset: u64, length: u32) -> Vec<u8> {
        piece(self.raw_header.as_bytes(), offset, length)
    }

    /// Octets of the body as received.
    pub fn body_size(&self) -> u64 {
        self.received.len() as u64
    }

    /// A piece of the body as received.
    pub fn read_body(&self, offset: u64, length: u32) -> Result<Vec<u8>, HostError> {
        Ok(piece(&self.received, offset, length))
    }

    /// The parts that the test named; without any, the body as the one leaf of the MIME tree.
    pub fn parts(&self) -> Result<Vec<PartInfo>, HostError> {
        if !self.parts.is_empty() {
            return Ok(self.parts.iter().map(|part| part.info.clone()).collect());
        }
        let content_type = self.header("Content-Type").pop();
        let content_type = content_type.as_deref().and_then(|value| value.split(';').next());
        Ok(vec![PartInfo {
            index: 0,
            content_type: content_type.unwrap_or("text/plain").trim().to_ascii_lowercase(),
            charset: None,
            filename: None,
            disposition: String::new(),
            size: self.body_size(),
            depth: 0,
        }])
    }

    /// A piece of one leaf.
    pub fn read_part(&self, index: u32, offset: u64, length: u32) -> Result<Vec<u8>, HostError> {
        match self.parts.get(index as usize) {
            Some(part) => Ok(piece(&part.octets, offset, length)),
            None if index == 0 => self.read_body(offset, length),
            None => Err(HostError::Invalid(format!("there is no part {index}"))),
        }
    }

    /// Where a leaf lies in the body as received.
    pub fn part_place(&self, index: u32) -> Result<PartPlace, HostError> {
        match self.parts.get(index as usize) {
            Some(part) => Ok(part.place),
            None if index == 0 => Ok(PartPlace { header: None, content: 0, end: self.body_size() }),
            None => Err(HostError::Invalid(format!("there is no part {index}"))),
        }
    }

    /// Puts a field below all others.
    pub fn add_header(&self, name: &str, value: &str) -> Result<(), HostError> {
        let field = field(name, value)?;
        self.fields.borrow_mut().push(field);
        Ok(())
    }

    /// Puts a field above all others.
    pub fn prepend_header(&self, name: &str, value: &str) -> Result<(), HostError> {
        let field = field(name, value)?;
        self.fields.borrow_mut().insert(0, field);
        Ok(())
    }

    /// Puts a field below so many others.
    pub fn insert_header(&self, position: u32, name: &str, value: &str) -> Result<(), HostError> {
        let field = field(name, value)?;
        let mut fields = self.fields.borrow_mut();
        let position = fields.len().min(position as usize);
        fields.insert(position, field);
        Ok(())
    }

    /// Gives the n-th field of this name another value.
    pub fn replace_header(&self, name: &str, index: u32, value: &str) -> Result<(), HostError> {
        let new = field(name, value)?;
        let mut fields = self.fields.borrow_mut();
        let found = fields
            .iter_mut()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .nth(index as usize);
        found
            .ok_or_else(|| HostError::Invalid(format!("there is no field {name} {index}")))?
            .value = new.value;
        Ok(())
    }

    /// Removes the n-th field of this name, or all; says how many.
    pub fn remove_header(&self, name: &str, index: Option<u32>) -> Result<u32, HostError> {
        field(name, "")?;
        let (mut seen, mut removed) = (0, 0);
        self.fields.borrow_mut().retain(|field| {
            let named = field.name.eq_ignore_ascii_case(name);
            let remove = named && index.is_none_or(|index| index == seen);
            seen += u32::from(named);
            removed += u32::from(remove);
            !remove
        });
        Ok(removed)
    }

    /// Replaces the body.
    pub fn set_body(&self, body: &[u8]) -> Result<(), HostError> {
        body.clone_into(&mut self.body.borrow_mut());
        Ok(())
    }

    /// Goes on with the body of [`set_body`](Self::set_body).
    pub fn append_body(&self, piece: &[u8]) -> Result<(), HostError> {
        self.body.borrow_mut().extend_from_slice(piece);
        Ok(())
    }
}

#[derive(Default)]
struct Notes(RefCell<BTreeMap<String, String>>);

impl Notes {
    fn get(&self, key: &str) -> Option<String> {
        self.0.borrow().get(key).cloned()
    }

    fn set(&self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.0.borrow_mut().insert(key.to_owned(), value.to_owned()),
            None => self.0.borrow_mut().remove(key),
        };
    }
}

fn made(new: &NewRecipient, original: &str, old: Option<&Recipient>) -> Recipient {
    let (notify, orcpt) =
        old.map_or((None, None), |old| (old.notify.clone(), old.original_recipient.clone()));
    Recipient {
        address: new.address.clone(),
        original: original.to_owned(),
        notify: new.notify.clone().or(notify),
        original_recipient: new.original_recipient.clone().or(orcpt),
    }
}

fn recipient(address: &str, original: &str) -> Recipient {
    Recipient {
        address: address.to_owned(),
        original: original.to_owned(),
        notify: None,
        original_recipient: None,
    }
}

fn field(name: &str, value: &str) -> Result<Field, HostError> {
    // RFC 5322 §2.2: printable US-ASCII without the colon.
    let legal =
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    let ours = ["received", "return-path", "dkim-signature", "authentication-results"];
    if !legal
        || value.contains(['\r', '\n', '\0'])
        || ours.contains(&name.to_ascii_lowercase().as_str())
    {
        return Err(HostError::Invalid(format!("header field {name}")));
    }
    Ok(Field { name: name.to_owned(), value: value.to_owned() })
}

fn piece(octets: &[u8], offset: u64, length: u32) -> Vec<u8> {
    octets
        .iter()
        .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        .take(length as usize)
        .copied()
        .collect()
}
