//! Users of a Dovecot, asked over its auth-client socket (Dovecot's "Authentication Protocol",
//! version 1).

use std::io;
use std::path::Path;
use std::process;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Login;

/// Whether Dovecot takes the password. One connection for each login: Dovecot expects that of
/// clients that ask seldom.
pub(super) async fn verify(socket: &Path, user: &str, password: &str) -> Login {
    match timeout(PATIENCE, ask(socket, user, password)).await {
        Ok(Ok(true)) => Login::Right,
        Ok(Ok(false)) => Login::Wrong,
        Ok(Err(error)) => {
            tracing::error!(socket = %socket.display(), %error, "Dovecot can't be asked about a login");
            Login::Failed
        }
        Err(_) => {
            tracing::error!(socket = %socket.display(), "Dovecot gave no answer about a login");
            Login::Failed
        }
    }
}

async fn ask(socket: &Path, user: &str, password: &str) -> io::Result<bool> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await?);
    let response = STANDARD.encode(format!("\0{user}\0{password}"));
    let request = format!(
        "VERSION\t1\t2\nCPID\t{}\nAUTH\t1\tPLAIN\tservice=smtp\tsecured\tresp={response}\n",
        process::id()
    );
    stream.get_mut().write_all(request.as_bytes()).await?;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut words = line.trim_end().split('\t');
        match (words.next(), words.next()) {
            (Some("OK"), Some("1")) => return Ok(true),
            // It says so when its own database is out of order.
            (Some("FAIL"), Some("1")) if words.any(|word| word == "temp") => {
                return Err(io::Error::other("Dovecot has a temporary failure"));
            }
            (Some("FAIL"), Some("1")) => return Ok(false),
            (Some("VERSION"), Some(major)) if major != "1" => {
                return Err(io::Error::other("Dovecot speaks another version of the protocol"));
            }
            // Greetings: VERSION, MECH, SPID, CUID, COOKIE, DONE.
            _ => {}
        }
    }
}

/// Dovecot delays the answer to a wrong password by 2 s, and more after several.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn check(answer: &'static str, expected: Login) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            stream
                .get_mut()
                .write_all(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nDONE\n")
                .await
                .unwrap();
            let mut request = String::new();
            while !request.contains("AUTH\t") {
                stream.read_line(&mut request).await.unwrap();
            }
            stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
            request
        });
        assert_eq!(verify(&path, "bob", "secret").await, expected, "{answer}");
        assert!(server.await.unwrap().contains("resp=AGJvYgBzZWNyZXQ="));
    }

    #[tokio::test]
    async fn an_answer_is_read_as_dovecot_means_it() {
        check("OK\t1\tuser=bob\n", Login::Right).await;
        check("FAIL\t1\tuser=bob\n", Login::Wrong).await;
        check("FAIL\t1\tuser=bob\ttemp\n", Login::Failed).await;
        check("", Login::Failed).await;
    }

    #[tokio::test]
    async fn a_dovecot_that_is_not_there_makes_nobody_wrong() {
        assert_eq!(verify(Path::new("/nonexistent"), "bob", "secret").await, Login::Failed);
    }
}
