use super::*;

/// What a header must come to.
enum Expected {
    From(&'static str),
    Local,
    Refused,
}
use Expected::{From, Local, Refused};

/// Reads the header when it arrives in small pieces and when it arrives together with what follows
/// it, which must stay unread.
fn check(header: &[u8], expected: Expected) {
    for at_once in [false, true] {
        let (result, rest) = read(header, at_once);
        match (&expected, result) {
            (From(source), Ok(Proxied::Client { source: found, .. })) => {
                assert_eq!(found, source.parse().unwrap())
            }
            (Local, Ok(Proxied::Local)) => {}
            (Refused, Err(_)) => continue,
            (_, other) => panic!("{}: {other:?}", header.escape_ascii()),
        }
        assert_eq!(rest, FOLLOWING, "{}", header.escape_ascii());
    }
}

fn read(header: &[u8], at_once: bool) -> (Result<Proxied, ProxyError>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let octets = [header, FOLLOWING].concat();
        let mut stream = if at_once {
            pieces_stream(vec![octets])
        } else {
            pieces_stream(octets.chunks(octets.len().div_ceil(300)).map(<[u8]>::to_vec).collect())
        };
        let result = read_header(&mut stream).await;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        (result, rest)
    })
}

/// A stream whose reads return these pieces.
fn pieces_stream(pieces: Vec<Vec<u8>>) -> impl AsyncRead + Unpin {
    pieces
        .into_iter()
        .rev()
        .fold(Box::new(tokio::io::empty()) as Box<dyn AsyncRead + Unpin>, |rest, piece| {
            Box::new(std::io::Cursor::new(piece).chain(rest))
        })
}

const FOLLOWING: &[u8] = b"EHLO client.example.net\r\n";

#[test]
fn version_1_is_one_strict_line() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", From("192.0.2.1:56324")); // tcp4
    check(b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 25\r\n", From("[2001:db8::1]:56324")); // tcp6
    check(b"PROXY UNKNOWN\r\n", Local); // unknown
    check(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Local); // unknown long
    check(b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", From("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")); // max 107
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 25\n", Refused); // lf only
    check(b"proxy TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", Refused); // lower
    check(b"PROXY  TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", Refused); // two spaces
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n", Refused); // port too big
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 00001 25\r\n", Refused); // port leading zero
    check(b"PROXY TCP4 192.0.2.256 198.51.100.2 56324 25\r\n", Refused); // bad ip
    check(b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 25\r\n", Refused); // family mismatch
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", Refused); // missing port
    check(b"PROXY TCP4 192.0.02.1 198.51.100.2 56324 25\r\n", Refused); // ip leading zero
    check(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200], b"\r\n"].concat(), Refused); // longer than 107
    check(b"PROXY_TCP4 192.0.2.1 198.51.100.2 56324 25\r\n", Refused);
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 +25\r\n", Refused);
    check(b"PROXY UNKNOWNS\r\n", Refused);
    check(b"EHLO client.example.net\r\n", Refused);
}

#[test]
fn version_2_is_complete_and_well_formed() {
    check(
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19",
        From("192.0.2.1:56324"),
    ); // tcp4
    check(b"\r\n\r\n\0\r\nQUIT\n!!\0$ \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x01 \x01\r\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xdc\x04\0\x19", From("[2001:db8::1]:56324")); // tcp6
    check(b"\r\n\r\n\0\r\nQUIT\n \0\0\0", Local); // local
    check(b"\r\n\r\n\0\r\nQUIT\n \x11\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Local); // local with addr
    check(
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x13\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19\x01\0\x04smtp",
        From("192.0.2.1:56324"),
    ); // tlv alpn
    check(
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x14\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19 \0\x05\x01\0\0\0\0",
        From("192.0.2.1:56324"),
    ); // tlv ssl
    check(b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Refused); // bad version
    check(b"\r\n\r\n\0\r\nQUIT\n\"\x11\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Refused); // bad command
    check(b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x04\xc0\0\x02\x01", Refused); // short length
    check(b"\r\n\r\n\0\r\nQUITX!\x11\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Refused); // bad signature
    check(
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x11\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19\x01\0\xffsm",
        Refused,
    ); // tlv overrun
    check(b"\r\n\r\n\0\r\nQUIT\n!Q\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Refused); // bad family
    check(&[b"\r\n\r\n\0\r\nQUIT\n!1\0\xd8".as_slice(), &[b'/'; 216]].concat(), Local); // unix addresses
    check(b"\r\n\r\n\0\r\nQUIT\n\x20\x51\0\x01x", Local); // the family of LOCAL is ignored
    check(b"\r\n\r\n\0\r\nQUIT\n!\x12\0\x0c\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19", Refused); // datagram
    check(&[b"\r\n\r\n\0\r\nQUIT\n!\0\xff\xff".as_slice(), &[0; 65535]].concat(), Refused); // too large
}

#[test]
fn a_checksum_in_the_header_must_hold() {
    let mut header =
        b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x13\xc0\0\x02\x01\xc63d\x02\xdc\x04\0\x19\x03\0\x04\0\0\0\0"
            .to_vec();
    let checksum = crc32c::crc32c(&header).to_be_bytes();
    let end = header.len();
    header[end - 4..].copy_from_slice(&checksum);
    check(&header, From("192.0.2.1:56324"));
    header[end - 1] ^= 1;
    check(&header, Refused);
}
