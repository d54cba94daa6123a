//! Every reader of this room meets content that nobody would write.

use crate::mime::Parts;
use crate::{Edit, Header, Limits, Watch, compose, date, report};

/// Pieces that mean something to some reader, and some that mean nothing.
const PIECES: [&str; 40] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    "=",
    "\"",
    "\\",
    "(",
    ")",
    "<",
    ">",
    "--b",
    "--b--",
    "--c",
    "b",
    "\0",
    "\u{fc}",
    "=?utf-8?q?",
    "=?utf-8?b?",
    "?=",
    "=3D",
    "AAEC",
    "Content-Type",
    "Content-Transfer-Encoding",
    ": base64",
    ": quoted-printable",
    ": multipart/mixed; boundary=b",
    ": multipart/digest; boundary=\"c\"",
    ": message/rfc822",
    ": message/delivery-status",
    ": text/plain; charset=shift_jis",
    "Received: x",
    "Final-Recipient: rfc822; a@b",
    "Action: failed",
    "Status: 5.1.1 (x)",
    "Arrival-Date: Sat, 21 Nov 2026 22:00:00 +0000",
];

#[test]
fn whatever_comes_is_read_without_harm() {
    let mut random = Random(0x5EED);
    for round in 0..20_000 {
        let content: String =
            (0..random.below(60)).map(|_| PIECES[random.below(PIECES.len())]).collect();
        let content = content.as_bytes();
        let limits = Limits::default();
        let mut watch = Watch::new(limits.clone());
        let mut rest = content;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random.below(rest.len().min(20)));
            watch.update(piece);
            rest = after;
        }
        let header = watch.finish().unwrap();
        let whole = Header::parse(content.to_vec());
        assert_eq!(
            (header.raw(), header.len()),
            (whole.raw(), whole.len()),
            "round {round}: {content:?}"
        );
        assert!(content.starts_with(&compose(&header, &[]).head));
        let edited = compose(&header, &[Edit::prepend("A", "1").unwrap()]);
        assert_eq!(
            Header::parse(edited.head).len(),
            header.len() + 1,
            "round {round}: {content:?}"
        );
        for field in header.fields() {
            let value = field.value();
            assert!(!value.contains(['\r', '\n']));
            date::parse(&value);
        }
        let parts = Parts::parse(content, &limits);
        for (index, part) in parts.list().iter().enumerate() {
            assert_eq!(
                parts.decoded(&content, index).unwrap().map(|octets| octets.len() as u64),
                Some(part.size)
            );
        }
        let _ = report::parse(content);
    }
}

/// SplitMix64: the same rounds each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % bound.max(1)
    }
}
