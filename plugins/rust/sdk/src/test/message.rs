//! Connection, envelope and content in memory, with the methods that the host's have.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::{AuthInfo, Endpoint, Field, HostError, PartInfo, Recipient, SessionInfo, TlsInfo};

/// A connection. `Session::from("192.0.2.1")` is one of a stranger to the listener `mx`.
pub struct Session {
    info: SessionInfo,
    notes: Notes,
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
        Self { info, notes: Notes::default() }
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

    /// The mail comes from another listener: `submission`, `lmtp`, `internal`.
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

    /// A note that lives as long as the connection. A plugin reads the notes of all
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
    parameters: BTreeMap<String, String>,
    notes: Notes,
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
            parameters: BTreeMap::new(),
            notes: Notes::default(),
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
    pub fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_uppercase(), value.to_owned());
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
        self.parameters.get(name).cloned()
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

    /// Staged. Grant for these three: edit `recipients`.
    pub fn add_recipient(&self, address: &str) -> Result<(), HostError> {
        self.stage("recipients", format!("add-recipient {address}"))?;
        self.recipients.borrow_mut().push(recipient(address, address));
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
    pub fn replace_recipient(&self, address: &str, by: &[String]) -> Result<(), HostError> {
        let position = self.position(address)?;
        self.stage("recipients", format!("replace-recipient {address} {}", by.join(",")))?;
        let mut recipients = self.recipients.borrow_mut();
        let original = recipients.remove(position).original;
        recipients
            .splice(position..position, by.iter().map(|address| recipient(address, &original)));
        Ok(())
    }

    /// Staged: where the copy for this recipient is to go. Grant: edit `route`.
    pub fn set_route(&self, address: &str, route: &str) -> Result<(), HostError> {
        self.position(address)?;
        self.stage("route", format!("set-route {address} {route}"))
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
/// It knows neither MIME nor RFC 2047: the host does.
pub struct Content {
    raw_header: String,
    fields: RefCell<Vec<Field>>,
    body: RefCell<Vec<u8>>,
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
            raw_header: format!("{}\r\n", header.trim_end().replace('\n', "\r\n")),
            fields: RefCell::new(unfolded.lines().filter_map(field).collect()),
            body: RefCell::new(body.replace('\n', "\r\n").into_bytes()),
        }
    }
}

impl Content {
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

    /// Octets of the body.
    pub fn body_size(&self) -> u64 {
        self.body.borrow().len() as u64
    }

    /// A piece of the body.
    pub fn read_body(&self, offset: u64, length: u32) -> Result<Vec<u8>, HostError> {
        Ok(piece(&self.body.borrow(), offset, length))
    }

    /// The body as the one leaf of the MIME tree.
    pub fn parts(&self) -> Result<Vec<PartInfo>, HostError> {
        Ok(vec![PartInfo {
            index: 0,
            content_type: "text/plain".to_owned(),
            charset: None,
            filename: None,
            disposition: String::new(),
            size: self.body_size(),
            depth: 0,
        }])
    }

    /// A piece of one leaf.
    pub fn read_part(&self, index: u32, offset: u64, length: u32) -> Result<Vec<u8>, HostError> {
        if index == 0 {
            self.read_body(offset, length)
        } else {
            Err(HostError::Invalid(format!("there is no part {index}")))
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
