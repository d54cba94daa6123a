//! Line ends: text of this machine has LF, mail has CRLF.

/// Text of this machine as mail: each LF that stands alone becomes CRLF (RFC 5321 §2.3.8). A bare CR stays what it is,
/// and nothing is put at the end.
pub fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(content.len() + content.len() / 32);
    let mut last = 0;
    for &octet in content {
        if octet == b'\n' && last != b'\r' {
            lines.push(b'\r');
        }
        lines.push(octet);
        last = octet;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_feed_that_stands_alone_gets_company() {
        let check = |from: &str, to: &str| assert_eq!(with_crlf(from.as_bytes()), to.as_bytes());
        check("", "");
        check("a\nb\n", "a\r\nb\r\n");
        check("a\r\nb\r\n", "a\r\nb\r\n");
        check("\n\n\r\n", "\r\n\r\n\r\n");
        check("a\rb\r", "a\rb\r");
    }
}
