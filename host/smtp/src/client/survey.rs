//! What has to be known of a content before it can be offered to a host.

/// Properties of a content that decide how, and whether, a host can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentTraits {
    /// Length in octets.
    pub octets: u64,
    /// Octets above 127 occur.
    pub eight_bit: bool,
    /// Octets above 127 occur in the header section: the message is internationalised (RFC 6532).
    pub eight_bit_header: bool,
    /// CR or LF occur outside CRLF, or NUL occurs: such a content is not sent as it is, unless it
    /// is binary (RFC 5321 §2.3.8).
    pub irregular: bool,
}

/// Reads a content once, piece by piece, and finds its [`ContentTraits`].
#[derive(Clone, Debug)]
pub struct Survey {
    traits: ContentTraits,
    /// The last octet was CR.
    after_cr: bool,
    /// The header section is not over yet.
    in_header: bool,
    /// Nothing stands on the current line yet.
    line_is_empty: bool,
}

impl Default for Survey {
    fn default() -> Self {
        Self {
            traits: ContentTraits::default(),
            after_cr: false,
            in_header: true,
            line_is_empty: true,
        }
    }
}

impl Survey {
    /// Looks at the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.traits.octets += piece.len() as u64;
        self.traits.eight_bit |= !piece.is_ascii();
        for &octet in piece {
            let ends_line = octet == b'\n' && self.after_cr;
            self.traits.irregular |=
                octet == 0 || ((octet == b'\n' || self.after_cr) && !ends_line);
            self.after_cr = octet == b'\r';
            if self.in_header {
                self.traits.eight_bit_header |= octet > 127;
                self.in_header = !(ends_line && self.line_is_empty);
                self.line_is_empty = ends_line || (self.line_is_empty && self.after_cr);
            }
        }
    }

    /// The traits of what was read.
    #[must_use]
    pub const fn finish(mut self) -> ContentTraits {
        self.traits.irregular |= self.after_cr;
        self.traits
    }

    /// The traits of a content that lies in memory.
    #[must_use]
    pub fn of(content: &[u8]) -> ContentTraits {
        let mut survey = Self::default();
        survey.update(content);
        survey.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, eight_bit: bool, eight_bit_header: bool, irregular: bool) {
        let octets = content.len() as u64;
        let expected = ContentTraits { octets, eight_bit, eight_bit_header, irregular };
        assert_eq!(Survey::of(content.as_bytes()), expected, "{content:?}");
        let mut survey = Survey::default();
        content.as_bytes().chunks(1).for_each(|piece| survey.update(piece));
        assert_eq!(survey.finish(), expected, "{content:?} octet by octet");
    }

    #[test]
    fn traits_do_not_depend_on_pieces() {
        check("", false, false, false);
        check("A: b\r\n\r\ntext\r\n", false, false, false);
        check("A: b\r\n\r\nté\r\n", true, false, false);
        check("A: é\r\n\r\ntext\r\n", true, true, false);
        check("A: b\r\n\r\n\r\né\r\n", true, false, false);
        check("\r\né\r\n", true, false, false); // no header at all
        check("A: b\n\r\n", false, false, true);
        check("A: b\r\r\n", false, false, true);
        check("A: b\r", false, false, true);
        check("A: b\0\r\n", false, false, true);
        check("A: b\r\n\r\nno end", false, false, false);
    }
}
