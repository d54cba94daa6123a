//! What a file is: its name, its type, and what its first octets say.

use gatepost_plugin::{Content, Error, PartInfo};
use serde::Deserialize;

use crate::archive::{self, Budget, PartSource};

/// A part of a message, or a file in an archive.
#[derive(Debug)]
pub(crate) struct File {
    /// Without folders, and without what Windows does not see.
    pub(crate) name: String,
    /// As declared; empty in an archive.
    pub(crate) content_type: String,
    pub(crate) size: u64,
    pub(crate) kinds: Vec<Kind>,
    /// It lies in an archive.
    pub(crate) is_packed: bool,
}

/// What a file contains, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Begins like a program for Windows, Linux or macOS.
    Program,
    /// A document of Office (OOXML) with macros.
    Macros,
    /// An archive.
    Archive,
    /// An archive with something encrypted in it.
    Encrypted,
    /// An archive that cannot be looked into: another format, broken, too large, too deep.
    Unreadable,
}

impl Kind {
    /// The word of the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Macros => "macros",
            Self::Archive => "archive",
            Self::Encrypted => "encrypted",
            Self::Unreadable => "unreadable",
        }
    }

    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Program => "it is a program",
            Self::Macros => "it has macros",
            Self::Archive => "it is an archive",
            Self::Encrypted => "it is encrypted",
            Self::Unreadable => "it cannot be looked into",
        }
    }
}

impl File {
    pub(crate) fn packed(name: &str, size: u64, kinds: Vec<Kind>) -> Self {
        Self { name: plain(name), content_type: String::new(), size, kinds, is_packed: true }
    }
}

/// The part itself, and behind it what lies in it.
pub(crate) fn of_part(
    content: &Content,
    part: &PartInfo,
    archives: bool,
    budget: &mut Budget,
) -> Result<Vec<File>, Error> {
    let mut file = File {
        name: plain(part.filename.as_deref().unwrap_or("")),
        content_type: part.content_type.clone(),
        size: part.size,
        kinds: Vec::new(),
        is_packed: false,
    };
    // The text of a message is no file.
    if part.filename.is_none() && part.content_type.starts_with("text/") {
        return Ok(vec![file]);
    }
    let source = PartSource { content, part: part.index, size: part.size };
    let start = content.read_part(part.index, 0, START)?;
    if is_program(&start) {
        file.kinds.push(Kind::Program);
    }
    let mut packed = Vec::new();
    if archives {
        archive::look(&source, &start, &mut file, &mut packed, budget);
    }
    packed.insert(0, file);
    Ok(packed)
}

/// MZ (Windows), ELF, Mach-O of either kind, and Mach-O for several machines.
pub(crate) fn is_program(start: &[u8]) -> bool {
    let windows = start.starts_with(b"MZ") && start.len() > 64;
    let others: [&[u8]; 4] =
        [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe\x00\x00\x00\x02"];
    windows || others.iter().any(|magic| start.starts_with(magic))
}

/// The name as somebody sees it who clicks on it: the last part of a path, without characters that hide or
/// turn round what is there, and without the points and blanks at its end that Windows drops.
pub(crate) fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|piece| !piece.is_empty()).unwrap_or("");
    let visible = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let name: String = last.chars().filter(visible).take(LONGEST_NAME).collect();
    name.trim().trim_end_matches(['.', ' ']).to_owned()
}

/// As much as says what a file is: a tar says it in its 263rd octet.
const START: u32 = 512;
/// Characters; file systems have 255 octets.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::{is_program, plain};

    #[test]
    fn a_name_is_what_a_click_would_run() {
        check("invoice.exe", "invoice.exe");
        check("C:\\Temp\\invoice.exe", "invoice.exe");
        check("a/b/invoice.exe", "invoice.exe");
        check("folder/", "folder");
        check("invoice.exe. . ", "invoice.exe");
        check("invoice\u{202e}fdp.exe", "invoicefdp.exe");
        check("in\u{200b}voice.e\0xe", "invoice.exe");
        check("", "");

        fn check(name: &str, expected: &str) {
            assert_eq!(plain(name), expected, "{name:?}");
        }
    }

    #[test]
    fn programs_begin_like_programs() {
        check(&[b"MZ".as_slice(), &[0; 80]].concat(), true);
        check(b"MZ is a magazine", false);
        check(b"\x7fELF\x02\x01", true);
        check(b"\xcf\xfa\xed\xfe", true);
        check(b"%PDF-1.7", false);
        check(b"", false);

        fn check(start: &[u8], expected: bool) {
            assert_eq!(is_program(start), expected, "{start:?}");
        }
    }
}
