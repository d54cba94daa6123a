//! `message.content`: the content, read lazily, and the edits of it.

use std::sync::Arc;

use message::{Edit, EditError, Header, compose};
use wasmtime::component::Resource;

use crate::bindings::imports::authentication::Results;
use crate::bindings::imports::message::{Field, HostContent, PartInfo, PartPlace};
use crate::bindings::{ContentHandle, HostError};
use crate::config::EditGrant;
use crate::content::ContentView;
use crate::guest::Guest;

type Handle = Resource<ContentHandle>;
type Answer<T> = wasmtime::Result<Result<T, HostError>>;

impl HostContent for Guest {
    fn size(&mut self, _: Handle) -> wasmtime::Result<u64> {
        self.charge()?;
        Ok(self.content()?.octets.len())
    }

    fn header(&mut self, _: Handle, name: String) -> wasmtime::Result<Vec<String>> {
        self.charge()?;
        Ok(self.edited()?.get_all(&name).map(|field| field.value()).collect())
    }

    fn headers(&mut self, _: Handle) -> wasmtime::Result<Vec<Field>> {
        self.charge()?;
        let field = |field: message::Field<'_>| Field {
            name: field.name().to_owned(),
            value: field.value(),
        };
        Ok(self.edited()?.fields().map(field).collect())
    }

    fn raw_header(&mut self, _: Handle, name: String) -> wasmtime::Result<Vec<Vec<u8>>> {
        self.charge()?;
        Ok(self.edited()?.get_all(&name).map(|field| field.raw().to_vec()).collect())
    }

    fn read_raw_header(
        &mut self,
        _: Handle,
        offset: u64,
        length: u32,
    ) -> wasmtime::Result<Vec<u8>> {
        self.charge()?;
        let raw = self.content()?.header.raw();
        Ok(piece(raw, offset, length).to_vec())
    }

    fn body_size(&mut self, _: Handle) -> wasmtime::Result<u64> {
        self.charge()?;
        let content = self.content()?;
        Ok(content.octets.len().saturating_sub(content.header.body_offset()))
    }

    fn read_body(&mut self, _: Handle, offset: u64, length: u32) -> Answer<Vec<u8>> {
        self.charge()?;
        let content = self.content()?;
        let from = content.header.body_offset().saturating_add(offset);
        let length = (length as usize).min(MAX_READ_OCTETS);
        Ok(content
            .octets
            .read(from, length)
            .map_err(|error| HostError::Unavailable(error.to_string())))
    }

    async fn parts(&mut self, _: Handle) -> Answer<Vec<PartInfo>> {
        self.charge()?;
        let content = self.content()?.clone();
        let parts = match Self::wait(&mut self.meter, content.parts()).await? {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error)),
        };
        let leaves = parts.list().iter().take(MAX_PARTS).enumerate();
        Ok(Ok(leaves
            .map(|(index, leaf)| PartInfo {
                index: index as u32,
                content_type: leaf.content_type.clone(),
                charset: leaf.charset.clone(),
                filename: leaf.filename.clone(),
                disposition: leaf.disposition.clone(),
                size: leaf.size,
                depth: u32::try_from(leaf.depth).unwrap_or(u32::MAX),
            })
            .collect()))
    }

    async fn read_part(
        &mut self,
        _: Handle,
        index: u32,
        offset: u64,
        length: u32,
    ) -> Answer<Vec<u8>> {
        self.charge()?;
        let content = self.content()?.clone();
        let decoded = Self::wait(&mut self.meter, content.decoded(index as usize)).await?;
        Ok(match decoded {
            Ok(Some(octets)) => Ok(piece(&octets, offset, length).to_vec()),
            Ok(None) => Err(HostError::Invalid(format!("there is no part {index}"))),
            Err(error) => Err(error),
        })
    }

    async fn part_place(&mut self, _: Handle, index: u32) -> Answer<PartPlace> {
        self.charge()?;
        let content = self.content()?.clone();
        let parts = match Self::wait(&mut self.meter, content.parts()).await? {
            Ok(parts) => parts,
            Err(error) => return Ok(Err(error)),
        };
        let Some((header, body, end)) = parts.place(index as usize) else {
            return Ok(Err(HostError::Invalid(format!("there is no part {index}"))));
        };
        let start = content.header.body_offset();
        Ok(Ok(PartPlace {
            header: header.checked_sub(start),
            content: body.saturating_sub(start),
            end: end.saturating_sub(start),
        }))
    }

    fn authentication(&mut self, _: Handle) -> wasmtime::Result<Option<Results>> {
        self.charge()?;
        Ok(self.content()?.results.as_ref().map(Into::into))
    }

    fn add_header(&mut self, _: Handle, name: String, value: String) -> Answer<()> {
        self.charge()?;
        Ok(self.edit_header(&name, &value, || Edit::add(&name, &value)))
    }

    fn prepend_header(&mut self, _: Handle, name: String, value: String) -> Answer<()> {
        self.charge()?;
        Ok(self.edit_header(&name, &value, || Edit::prepend(&name, &value)))
    }

    fn insert_header(
        &mut self,
        _: Handle,
        position: u32,
        name: String,
        value: String,
    ) -> Answer<()> {
        self.charge()?;
        Ok(self.edit_header(&name, &value, || Edit::insert(position, &name, &value)))
    }

    fn replace_header(&mut self, _: Handle, name: String, index: u32, value: String) -> Answer<()> {
        self.charge()?;
        if let Err(error) =
            self.may_edit_field(&name).and_then(|()| self.may_edit(EditGrant::Header))
        {
            return Ok(Err(error));
        }
        let count = self.edited()?.get_all(&name).count();
        if index as usize >= count {
            return Ok(Err(HostError::Invalid(format!("there are {count} fields {name:?}"))));
        }
        Ok(self.edit_header(&name, &value, || Edit::replace(&name, index, &value)))
    }

    fn remove_header(&mut self, _: Handle, name: String, index: Option<u32>) -> Answer<u32> {
        self.charge()?;
        let count = self.edited()?.get_all(&name).count();
        let removed = match index {
            None => count,
            Some(index) => usize::from((index as usize) < count),
        };
        Ok(self.edit_header(&name, "", || Edit::remove(&name, index)).map(|()| removed as u32))
    }

    fn set_body(&mut self, _: Handle, body: Vec<u8>) -> Answer<()> {
        self.charge()?;
        if let Err(error) =
            self.may_edit(EditGrant::Body).and_then(|()| self.count_edit(body.len()))
        {
            return Ok(Err(error));
        }
        self.call.staged.line(|| format!("set-body ({} octets at first)", body.len()));
        self.call.staged.body = Some(body);
        Ok(Ok(()))
    }

    fn append_body(&mut self, _: Handle, piece: Vec<u8>) -> Answer<()> {
        self.charge()?;
        if let Err(error) =
            self.may_edit(EditGrant::Body).and_then(|()| self.count_edit(piece.len()))
        {
            return Ok(Err(error));
        }
        Ok(match &mut self.call.staged.body {
            Some(body) => {
                body.extend_from_slice(&piece);
                Ok(())
            }
            None => Err(HostError::Invalid("set-body comes first".into())),
        })
    }

    fn drop(&mut self, _: Handle) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Guest {
    pub(super) fn content(&self) -> wasmtime::Result<&Arc<ContentView>> {
        self.call.content.as_ref().ok_or_else(|| wasmtime::format_err!("no content in this call"))
    }

    /// The header as the edits of earlier plugins and of this call leave it.
    fn edited(&mut self) -> wasmtime::Result<&Header> {
        let call = &mut self.call;
        let Some(content) = &call.content else { wasmtime::bail!("no content in this call") };
        let earlier = call.transaction.as_ref().map_or(&[][..], |transaction| &transaction.edits);
        if call.staged.header.is_empty() && earlier.is_empty() {
            return Ok(&content.header);
        }
        Ok(call.staged.view.get_or_insert_with(|| {
            let edits: Vec<Edit> = earlier.iter().chain(&call.staged.header).cloned().collect();
            Header::parse(compose(&content.header, &edits).head)
        }))
    }

    fn may_edit_field(&self, name: &str) -> Result<(), HostError> {
        let grants = &self.core.grants.edit;
        let adds_only =
            grants.contains(&EditGrant::HeaderAdd) && !grants.contains(&EditGrant::Header);
        self.may_edit(if adds_only { EditGrant::HeaderAdd } else { EditGrant::Header })?;
        let protected = !grants.contains(&EditGrant::TraceFields);
        if protected && PROTECTED.iter().any(|protected| protected.eq_ignore_ascii_case(name)) {
            return Err(self.deny(format!("the field {name} belongs to the host")));
        }
        Ok(())
    }

    fn edit_header(
        &mut self,
        name: &str,
        value: &str,
        edit: impl FnOnce() -> Result<Edit, EditError>,
    ) -> Result<(), HostError> {
        self.may_edit_field(name)?;
        let edit = edit().map_err(|error| HostError::Invalid(error.to_string()))?;
        if matches!(edit, Edit::Replace { .. } | Edit::Remove { .. }) {
            self.may_edit(EditGrant::Header)?;
        }
        if self.call.staged.header.len() >= MAX_HEADER_EDITS {
            return Err(HostError::Quota(format!(
                "one call makes at most {MAX_HEADER_EDITS} edits of the header"
            )));
        }
        self.count_edit(name.len() + value.len())?;
        self.call.staged.line(|| edit.summary());
        self.call.staged.header.push(edit);
        self.call.staged.view = None;
        Ok(())
    }
}

fn piece(octets: &[u8], offset: u64, length: u32) -> &[u8] {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(octets.len());
    let length = (length as usize).min(MAX_READ_OCTETS).min(octets.len() - from);
    &octets[from..from + length]
}

/// What says where a message came from and who vouches for it is written by the host alone (RFC 5321 §4.4,
/// RFC 6376 §3.5, RFC 8601 §5, RFC 8617 §4).
const PROTECTED: [&str; 7] = [
    "Received",
    "Return-Path",
    "DKIM-Signature",
    "Authentication-Results",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
];
/// A read copies so much at most: a piece, not a message.
const MAX_READ_OCTETS: usize = 1 << 20;
const MAX_PARTS: usize = 1000;
/// Each edit is applied to the list of fields: more than this is no edit of a header but a new one.
const MAX_HEADER_EDITS: usize = 500;
