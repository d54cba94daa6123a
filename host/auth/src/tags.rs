//! Lists of `tag=value`: DKIM signatures and keys, ARC fields, DMARC records (RFC 6376 §3.2, RFC 9989 §4.8).

/// The tags of a list in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tags<'a> {
    list: Vec<(&'a str, &'a str)>,
}

/// Why a text is no list of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TagError {
    #[error("the tags cannot be read")]
    Syntax,
    #[error("a tag is there twice")]
    Twice,
    #[error("too many tags")]
    TooMany,
}

impl<'a> Tags<'a> {
    /// Reads a list:
    ///
    /// ```text
    /// tag-list  =  tag-spec *( ";" tag-spec ) [ ";" ]
    /// tag-spec  =  [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
    /// tag-name  =  ALPHA *ALNUMPUNC
    /// tag-value =  [ tval *( 1*(WSP / FWS) tval ) ]
    /// ```
    pub(crate) fn parse(text: &'a str) -> Result<Self, TagError> {
        let mut list: Vec<(&str, &str)> = Vec::new();
        let mut specs = text.split(';').peekable();
        while let Some(spec) = specs.next() {
            if spec.trim_matches(FWS).is_empty() && specs.peek().is_none() && !list.is_empty() {
                break;
            }
            let (name, value) = spec.split_once('=').ok_or(TagError::Syntax)?;
            let (name, value) = (name.trim_matches(FWS), value.trim_matches(FWS));
            if !is_name(name) || value.chars().any(|c| c.is_control() && !FWS.contains(&c)) {
                return Err(TagError::Syntax);
            }
            // RFC 6376 §3.2: tags with duplicate names must not occur in a list.
            if list.iter().any(|(other, _)| *other == name) {
                return Err(TagError::Twice);
            }
            if list.len() == MOST_TAGS {
                return Err(TagError::TooMany);
            }
            list.push((name, value));
        }
        Ok(Self { list })
    }

    /// The value of a tag. RFC 6376 §3.2: names are case-sensitive.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        self.list.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// The name of the first tag.
    pub(crate) fn first(&self) -> Option<&'a str> {
        self.list.first().map(|(name, _)| *name)
    }
}

/// The value without any white space, as Base64 and lists have it.
pub(crate) fn without_space(value: &str) -> String {
    value.chars().filter(|c| !FWS.contains(c)).collect()
}

/// The parts of a value between colons.
pub(crate) fn colon_list(value: &str) -> impl Iterator<Item = &str> {
    value.split(':').map(|part| part.trim_matches(FWS))
}

/// The field's value with the value of `b=` cut out (RFC 6376 §3.7), octet for octet otherwise.
pub(crate) fn without_signature(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for (index, spec) in value.split(|octet| *octet == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        match spec.iter().position(|octet| *octet == b'=') {
            Some(equals) if spec[..equals].trim_ascii() == b"b" => {
                out.extend_from_slice(&spec[..=equals]);
            }
            _ => out.extend_from_slice(spec),
        }
    }
    out
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
}

const FWS: [char; 4] = [' ', '\t', '\r', '\n'];

/// No standard has half as many.
const MOST_TAGS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let check = |text: &str, expected: Result<&[(&str, &str)], TagError>| {
            let found = Tags::parse(text).map(|tags| tags.list);
            assert_eq!(found, expected.map(<[_]>::to_vec), "{text:?}");
        };
        check("a=1", Ok(&[("a", "1")]));
        check("a=1;", Ok(&[("a", "1")]));
        check(" a = 1 2\r\n\t; bC_1=", Ok(&[("a", "1 2"), ("bC_1", "")]));
        check("a=1; A=2", Ok(&[("a", "1"), ("A", "2")]));
        check("a=b=c;\r\n ", Ok(&[("a", "b=c")]));
        check("", Err(TagError::Syntax));
        check(";", Err(TagError::Syntax));
        check("a=1;;b=2", Err(TagError::Syntax));
        check("a=1;;", Err(TagError::Syntax));
        check("a", Err(TagError::Syntax));
        check("=1", Err(TagError::Syntax));
        check("1=1", Err(TagError::Syntax));
        check("a=\0", Err(TagError::Syntax));
        check("a=1;a=2", Err(TagError::Twice));
    }

    #[test]
    fn only_the_signature_is_cut_out() {
        let check = |value: &str, expected: &str| {
            assert_eq!(without_signature(value.as_bytes()), expected.as_bytes(), "{value:?}");
        };
        check(" bh=B64b=; h=From; b=abc\r\n def\r\n", " bh=B64b=; h=From; b=");
        check(" h=From; b = abc\r\n\tdef ; v=1", " h=From; b =; v=1");
        check("b=; x=b=1", "b=; x=b=1");
    }
}
