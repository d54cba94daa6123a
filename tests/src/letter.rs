//! Messages that are hard to keep octet for octet.

use std::fmt::Write as _;

/// A message with a subject and CRLF line ends, of plain ASCII: complete, so that nobody along the
/// way adds a field, with lines that begin with dots, trailing spaces, and folded header fields.
pub fn plain(subject: &str) -> Vec<u8> {
    format!(
        "From: Sender <sender@client.example>\r\n\
         To: Alice <alice@example.test>\r\n\
         Subject: {subject}\r\n\
         Date: Fri, 20 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <{subject}@client.example>\r\n\
         X-Folded: one\r\n\ttwo   \r\n three\r\n\
         X-Empty:\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         A first line.\r\n\
         .\r\n\
         ..\r\n\
         .a line that begins with a dot\r\n\
         trailing spaces   \r\n\
         \ta tab, and From the start:\r\n\
         From the start\r\n\
         \r\n\
         \r\n\
         The end of {subject}.\r\n"
    )
    .into_bytes()
}

/// [`plain`] with octets above 127 in its body (RFC 6152).
pub fn eight_bit(subject: &str) -> Vec<u8> {
    let mut message = plain(subject);
    message.extend_from_slice("Grüße: ünï\r\n".as_bytes());
    message.extend_from_slice(b"latin \xe9\xe8\r\n");
    message
}

/// A message of about `octets`, every line different.
pub fn large(subject: &str, octets: usize) -> Vec<u8> {
    let mut text = String::from_utf8(plain(subject)).expect("ASCII");
    let mut number = 0_u32;
    while text.len() < octets {
        write!(text, "{number:08x} and so on, and so on, and so on, and so on, and so on\r\n")
            .expect("a String takes everything");
        number += 1;
    }
    text.into_bytes()
}
