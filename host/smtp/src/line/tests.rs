use super::*;

/// What is cut from the octets in pieces of every size.
fn check(octets: &[u8], limit: usize, expected: &[Result<&[u8], LineFault>]) {
    for size in 1..=octets.len() {
        let (mut lines, mut buffer, mut found) = (Lines::default(), BytesMut::new(), Vec::new());
        'pieces: for piece in octets.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Some(line) = lines.next(&mut buffer, limit) {
                let ends =
                    matches!(line, Err(LineFault::BareLf | LineFault::BareCr | LineFault::Endless));
                found.push(line);
                if ends {
                    break 'pieces;
                }
            }
            assert!(buffer.len() <= limit + size + 1, "no more is kept than a line");
        }
        let found: Vec<_> =
            found.iter().map(|line| line.as_deref().map_err(|fault| *fault)).collect();
        assert_eq!(found, expected, "pieces of {size}");
    }
}

#[test]
fn a_line_ends_with_crlf_and_nothing_else() {
    check(b"NOOP\r\nQUIT\r\n", 100, &[Ok(b"NOOP"), Ok(b"QUIT")]);
    check(b"\r\n\r\n", 100, &[Ok(b""), Ok(b"")]);
    check(b"NOOP", 100, &[]);
    check(b"NOOP\r", 100, &[]);
    check(b"NOOP\n", 100, &[Err(LineFault::BareLf)]);
    check(b"a\rb\r\n", 100, &[Err(LineFault::BareCr)]);
    check(b"a\r\r\n", 100, &[Err(LineFault::BareCr)]);
    check(b"\n", 100, &[Err(LineFault::BareLf)]);
}

#[test]
fn a_line_that_is_too_long_is_thrown_away_to_its_end() {
    check(b"12345678\r\nab\r\n", 10, &[Ok(b"12345678"), Ok(b"ab")]);
    check(b"123456789\r\nab\r\n", 10, &[Err(LineFault::TooLong), Ok(b"ab")]);
    let long = [&[b'x'; 5000], b"\r\nab\r\n".as_slice()].concat();
    check(&long, 10, &[Err(LineFault::TooLong), Ok(b"ab")]);
}

#[test]
fn a_line_without_end_is_no_line() {
    let (mut lines, mut buffer) = (Lines::default(), BytesMut::new());
    let fault = (0..2000).find_map(|_| {
        buffer.extend_from_slice(&[b'x'; 1000]);
        lines.next(&mut buffer, 10)
    });
    assert_eq!(fault, Some(Err(LineFault::Endless)));
}
