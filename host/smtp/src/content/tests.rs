use super::*;

/// What the decoder makes of it in pieces of every size: content or fault, and what is left for
/// commands.
fn decode(wire: &[u8], limit: u64) -> (Result<Vec<u8>, ContentFault>, Vec<u8>) {
    let mut results = (1..=wire.len()).map(|size| decode_in_pieces(wire, limit, size));
    let first = results.next().expect("there is something to decode");
    assert!(results.all(|result| result == first), "the size of the pieces makes no difference");
    first
}

fn decode_in_pieces(
    wire: &[u8],
    limit: u64,
    size: usize,
) -> (Result<Vec<u8>, ContentFault>, Vec<u8>) {
    let mut decoder = DataDecoder::new(limit);
    let (mut content, mut buffer, mut ended) = (Vec::new(), BytesMut::new(), false);
    for piece in wire.chunks(size) {
        buffer.extend_from_slice(piece);
        if !ended {
            let (decoded, end) = decoder.decode(&mut buffer);
            content.extend(decoded.into_iter().flatten());
            ended = end;
        }
    }
    assert!(ended, "the end was found");
    (decoder.fault().map_or(Ok(content), Err), buffer.to_vec())
}

fn check(wire: &str, expected: Result<&str, ContentFault>) {
    let (content, rest) = decode(format!("{wire}QUIT\r\n").as_bytes(), 1000);
    assert_eq!(content, expected.map(|text| text.as_bytes().to_vec()), "{wire:?}");
    assert_eq!(rest, b"QUIT\r\n", "{wire:?}");
}

#[test]
fn dots_are_unstuffed_and_the_end_is_found() {
    check(".\r\n", Ok(""));
    check("a\r\n.\r\n", Ok("a\r\n"));
    check("..\r\n.\r\n", Ok(".\r\n"));
    check("..leading\r\n...two\r\nmid.dot\r\n.\r\n", Ok(".leading\r\n..two\r\nmid.dot\r\n"));
    check(".a\r\n.\r\n", Ok("a\r\n")); // RFC 5321 §4.5.2: the dot goes, whatever follows
    check("\r\n\r\n.\r\n", Ok("\r\n\r\n"));
    check("a.\r\nb\r\n.\r\n", Ok("a.\r\nb\r\n"));
}

#[test]
fn nothing_but_crlf_dot_crlf_is_an_end() {
    use ContentFault::{BareCr, BareLf, Nul};
    check("a\n.\n\r\n.\r\n", Err(BareLf));
    check("a\n.\r\nb\r\n.\r\n", Err(BareLf));
    check("a\r.\r\nb\r\n.\r\n", Err(BareCr));
    check("a\r.\rb\r\n.\r\n", Err(BareCr));
    check("a\r\n.\rb\r\n.\r\n", Err(BareCr));
    check("a\r\n.\nb\r\n.\r\n", Err(BareLf));
    check("a\r\n.\r\r\nb\r\n.\r\n", Err(BareCr));
    check("a\r\r\n.\r\n", Err(BareCr));
    check("a\r\n\0.\r\nb\r\n.\r\n", Err(Nul));
}

#[test]
fn content_over_the_limit_is_read_to_its_end() {
    assert_eq!(decode(b"12345678\r\n.\r\nX", 10), (Ok(b"12345678\r\n".to_vec()), b"X".to_vec()));
    assert_eq!(decode(b"123456789\r\n.\r\nX", 10), (Err(ContentFault::TooBig), b"X".to_vec()));
    // What counts is the content, not its dots.
    assert_eq!(decode(b"..\r\n..\r\n.\r\nX", 6), (Ok(b".\r\n.\r\n".to_vec()), b"X".to_vec()));
}

fn encode(content: &[u8], size: usize) -> Vec<u8> {
    let (mut encoder, mut out) = (DataEncoder::default(), Vec::new());
    content.chunks(size).for_each(|piece| encoder.encode(piece, &mut out));
    encoder.finish(&mut out);
    out
}

fn check_encoding(content: &str, expected: &str) {
    for size in 1..=content.len().max(1) {
        let written = encode(content.as_bytes(), size);
        assert_eq!(String::from_utf8_lossy(&written), expected, "{content:?} in pieces of {size}");
    }
}

#[test]
fn content_is_written_with_dots_stuffed() {
    check_encoding("", ".\r\n");
    check_encoding("a\r\n", "a\r\n.\r\n");
    check_encoding("a", "a\r\n.\r\n");
    check_encoding(".", "..\r\n.\r\n");
    check_encoding(".\r\n..\r\na.b\r\n", "..\r\n...\r\na.b\r\n.\r\n");
}

#[test]
fn no_bare_cr_or_lf_is_ever_written() {
    check_encoding("a\n.\nb", "a\r\n..\r\nb\r\n.\r\n");
    check_encoding("a\r.\rb", "a\r\n..\r\nb\r\n.\r\n");
    check_encoding("a\r\r\n.\r\r\n", "a\r\n\r\n..\r\n\r\n.\r\n");
    check_encoding("a\r\n\0.\r\nb", "a\r\n..\r\nb\r\n.\r\n");
    check_encoding("\0\0.\0.", "...\r\n.\r\n");
    check_encoding("a\r\0\n.", "a\r\n\r\n..\r\n.\r\n");
    check_encoding("a\r", "a\r\n.\r\n");
}

#[test]
fn what_is_written_is_read_as_it_was() {
    // Every text of five octets over the octets that matter.
    let octets = b".\r\na\0";
    for number in 0..octets.len().pow(5) {
        let content: Vec<u8> =
            (0..5).map(|place| octets[number / octets.len().pow(place) % octets.len()]).collect();
        let written = encode(&content, 2);
        let (read, rest) = decode_in_pieces(&written, 1000, 3);
        let read = read.expect("what is written has no fault");
        assert!(rest.is_empty(), "{content:?}: the first end is the only one");
        if Endings::default().watch(&content).is_none() && content.ends_with(b"\r\n") {
            assert_eq!(read, content, "content in order arrives octet for octet");
        }
    }
}

#[test]
fn a_chunk_is_counted_and_watched() {
    let check = |chunks: &[&str], binary: bool, expected: Option<ContentFault>| {
        let mut decoder = ChunkDecoder::new(10, binary);
        for chunk in chunks {
            let mut buffer = BytesMut::from(*chunk);
            let mut remaining = chunk.len() as u64;
            while remaining > 0 {
                decoder.decode(&mut buffer, &mut remaining);
            }
        }
        assert_eq!(decoder.finish(), expected, "{chunks:?}");
    };
    check(&["a\r\n.\r\nb\r\n"], false, None);
    check(&["a\r", "\nb"], false, None);
    check(&["a\r", "b"], false, Some(ContentFault::BareCr));
    check(&["a\r"], false, Some(ContentFault::BareCr));
    check(&["a\nb"], false, Some(ContentFault::BareLf));
    check(&["a\n\r\0b\r"], true, None);
    check(&["12345", "678901"], false, Some(ContentFault::TooBig));
}
