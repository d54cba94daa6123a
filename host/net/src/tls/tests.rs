use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::Stream;

const LONG: Duration = Duration::from_secs(60);

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn made(directory: &Path, folder: &str, hosts: &[&str]) -> CertifiedFiles {
    self_signed(&directory.join(folder), &names(hosts)).unwrap()
}

fn trusting(files: &CertifiedFiles) -> ClientTls {
    ClientTls::new(&ClientRoots::File(files.certificate.clone())).unwrap()
}

/// Both ends after a handshake, or what went wrong at the client's end.
async fn handshake(
    server: &ServerTls,
    client: &ClientTls,
    name: &str,
    verification: Verification,
) -> Result<(Stream, Stream), TlsError> {
    let (near, far) = duplex(16 * 1024);
    let (accepted, connected) =
        tokio::join!(server.accept(far, LONG), client.connect(near, name, verification, LONG));
    Ok((accepted.map_err(|_| ()).unwrap_or_else(|()| duplex(1).0.into()), connected?))
}

#[tokio::test]
async fn octets_travel_in_both_directions_over_every_socket() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        ServerTls::from_files(vec![made(directory.path(), "a", &["mx.example.org"])]).unwrap();
    let client = ClientTls::new(&ClientRoots::System).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (near, far) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let tcp = (Stream::from(near.unwrap()), Stream::from(far.unwrap().0));
    let (near, far) = UnixStream::pair().unwrap();
    let unix = (Stream::from(near), Stream::from(far));
    let (near, far) = duplex(1024);
    for (near, far) in [tcp, unix, (near.into(), far.into())] {
        assert_eq!(near.tls(), None);
        let (far, near) = tokio::join!(
            server.accept(far, LONG),
            client.connect(near, "mx.example.org", Verification::None, LONG)
        );
        let (mut far, mut near) = (far.unwrap(), near.unwrap());
        let content = vec![b'x'; 100_000];
        let send = async {
            near.write_all(&content).await.unwrap();
            near.flush().await.unwrap();
            near.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(send, far.read_to_end(&mut received));
        assert_eq!((read.unwrap(), received == content), (content.len(), true));
    }
}

#[tokio::test]
async fn what_was_agreed_on_has_its_usual_names() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let server = ServerTls::from_files(vec![files.clone()]).unwrap();
    let (far, near) = handshake(&server, &trusting(&files), "MX.example.org", Verification::WebPki)
        .await
        .unwrap();
    let (far, near) = (far.tls().unwrap().clone(), near.tls().unwrap().clone());
    assert_eq!(far.version, "TLSv1.3");
    assert!(far.cipher.starts_with("TLS_") && !far.cipher.contains("TLS13"), "{}", far.cipher);
    assert_eq!(far.server_name.as_deref(), Some("mx.example.org"));
    assert_eq!((far.verified, near.verified), (false, true));
    assert_eq!((near.version, near.cipher), (far.version, far.cipher));
}

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let first = made(directory.path(), "a", &["mx.example.org"]);
    let second = made(directory.path(), "b", &["mail.example.net", "*.example.com"]);
    let mut third = made(directory.path(), "c", &["other.example", "192.0.2.1"]);
    third.names = names(&["Third.example"]);
    let server = ServerTls::from_files(vec![first.clone(), second.clone(), third.clone()]).unwrap();
    let check = async |name: &str, files: &CertifiedFiles, expected: bool| {
        let result = handshake(&server, &trusting(files), name, Verification::WebPki).await;
        assert_eq!(result.is_ok(), expected, "{name} {result:?}");
    };
    check("mx.example.org", &first, true).await;
    check("MAIL.example.net", &second, true).await;
    check("any.example.com", &second, true).await;
    check("two.labels.example.com", &second, false).await;
    check("third.example", &third, false).await; // it is presented, but is not valid for that name
    check("unknown.example", &first, false).await; // the default is presented: the client decides
    check("mx.example.org", &second, false).await; // another issuer
    // Without verification all of them will do, names that no certificate can have included.
    for name in ["unknown.example", "192.0.2.1", "under_score.example", "no host", ""] {
        let client = trusting(&first);
        assert!(handshake(&server, &client, name, Verification::None).await.is_ok(), "{name}");
    }
    let refused = handshake(&server, &trusting(&first), "no host", Verification::WebPki).await;
    assert!(matches!(refused, Err(TlsError::Name(_))));
}

#[tokio::test]
async fn a_reload_takes_new_files_and_a_failed_one_keeps_the_old() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let server = ServerTls::from_files(vec![files.clone()]).unwrap();
    let other_listener = server.listener().unwrap();
    let old = trusting(&files);
    let works = async |server: &ServerTls, client: &ClientTls| {
        handshake(server, client, "mx.example.org", Verification::WebPki).await.is_ok()
    };

    fs::remove_file(&files.certificate).unwrap();
    let error = server.reload().unwrap_err().to_string();
    assert!(error.contains("cert.pem"), "{error}");
    assert!(works(&server, &old).await);

    made(directory.path(), "a", &["mx.example.org"]);
    let new = trusting(&files);
    assert!(!works(&server, &new).await);
    server.reload().unwrap();
    assert!(works(&server, &new).await && works(&other_listener, &new).await);
    assert!(!works(&server, &trusting(&made(directory.path(), "b", &["mx.example.org"]))).await);
}

#[test]
fn a_self_signed_certificate_is_made_once_and_its_key_is_private() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "tls", &["localhost", "127.0.0.1"]);
    let (certificate, key) = (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap());
    assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    made(directory.path(), "tls", &["localhost"]);
    assert_eq!(
        (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap()),
        (certificate, key)
    );
    // A lost key cannot be used again, nor can the certificate that goes with it.
    fs::remove_file(&files.key).unwrap();
    made(directory.path(), "tls", &["localhost"]);
    assert!(ServerTls::from_files(vec![files]).is_ok());
    assert_eq!(fs::read_dir(directory.path().join("tls")).unwrap().count(), 2);
}

#[test]
fn a_faulty_file_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let good = made(directory.path(), "a", &["a.example"]);
    let other = made(directory.path(), "b", &["b.example"]);
    let broken = directory.path().join("broken.pem");
    let check = |certificate: &Path, key: &Path, expected: &str| {
        let files = CertifiedFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            names: Vec::new(),
        };
        let error = ServerTls::from_files(vec![files]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&good.certificate, &other.key, "is not the key of");
    check(&good.key, &good.key, "holds no certificate");
    check(&good.certificate, &good.certificate, "holds no private key");
    check(&broken, &good.key, "cannot read");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    check(&broken, &good.key, "is no usable certificate");
    fs::write(&broken, vec![b'\n'; 2 << 20]).unwrap();
    check(&broken, &good.key, "larger than 1 MiB");
    assert!(matches!(ServerTls::from_files(Vec::new()), Err(TlsError::NoCertificate)));
    assert!(ClientTls::new(&ClientRoots::File(good.key)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_an_end() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let server = ServerTls::from_files(vec![files.clone()]).unwrap();
    let (near, far) = duplex(1024);
    assert!(matches!(server.accept(far, LONG).await, Err(TlsError::Timeout(LONG))));
    drop(near);
    let (near, _far) = duplex(1024);
    let connected =
        trusting(&files).connect(near, "mx.example.org", Verification::None, LONG).await;
    assert!(matches!(connected, Err(TlsError::Timeout(LONG))));
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let server =
        ServerTls::from_files(vec![made(directory.path(), "a", &["mx.example.org"])]).unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"EHLO client.example\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 0],
        &[0; 64],
    ] {
        let (mut near, far) = duplex(1024);
        near.write_all(garbage).await.unwrap();
        near.shutdown().await.unwrap();
        assert!(matches!(server.accept(far, LONG).await, Err(TlsError::Handshake(_))));
    }
}

#[tokio::test]
async fn there_is_no_tls_in_tls() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let server = ServerTls::from_files(vec![files.clone()]).unwrap();
    let (far, _near) =
        handshake(&server, &trusting(&files), "mx.example.org", Verification::None).await.unwrap();
    assert!(matches!(server.accept(far, LONG).await, Err(TlsError::AlreadyTls)));
}

#[tokio::test]
async fn a_peer_that_just_closes_has_reached_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let server = ServerTls::from_files(vec![files.clone()]).unwrap();
    let (mut far, near) =
        handshake(&server, &trusting(&files), "mx.example.org", Verification::None).await.unwrap();
    drop(near);
    assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
}

/// Tickets of one listener mean nothing to another: no session of theirs is resumed there.
#[tokio::test]
async fn a_session_is_resumed_on_its_own_listener_only() {
    let directory = tempfile::tempdir().unwrap();
    let files = made(directory.path(), "a", &["mx.example.org"]);
    let one = ServerTls::from_files(vec![files.clone()]).unwrap();
    let two = one.listener().unwrap();
    let client = trusting(&files);
    let resumed = async |server: &ServerTls| {
        let (mut far, mut near) =
            handshake(server, &client, "mx.example.org", Verification::WebPki).await.unwrap();
        // The tickets of TLS 1.3 come with the first octets after the handshake.
        far.write_all(b"220").await.unwrap();
        far.flush().await.unwrap();
        near.read_exact(&mut [0; 3]).await.unwrap();
        near.is_resumed()
    };
    assert_eq!(resumed(&one).await, Some(false));
    assert_eq!(resumed(&one).await, Some(true));
    assert_eq!(resumed(&two).await, Some(false));
}
