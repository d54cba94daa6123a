//! Clients that send as fast as the server takes it, and write down what it promised.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ledger::{Ledger, Place};
use crate::client::Client;

/// The reverse-path of all messages.
pub const FROM: &str = "sender@client.example";

/// Ends the load when it is dropped: a panic beside it, too, must not wait for it for ever.
#[derive(Debug)]
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One session after the other with the server at `port`, until it is over. The server may die under it.
pub fn send(port: u16, ledger: &Ledger, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let session = Client::connect(("127.0.0.1", port)).and_then(|mut client| {
            client.set_patience(HANG)?;
            client.hello("client.example").map(|reply| (client, reply))
        });
        match session {
            Ok((client, reply)) if reply.is_positive() => converse(client, ledger, over),
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn converse(mut client: Client, ledger: &Ledger, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let number = ledger.begin();
        match one(&mut client, ledger, number) {
            Ok(250) => {}
            Ok(421) | Err(_) => return,
            Ok(_) => {
                // After a refusal the transaction goes on; begin a new one.
                std::thread::sleep(PAUSE);
                if client.command("RSET").is_err() {
                    return;
                }
            }
        }
    }
}

/// One message, with its place in the books. Gives the code of the last reply.
pub fn one(client: &mut Client, ledger: &Ledger, number: u32) -> std::io::Result<u16> {
    let to: Vec<&str> = ledger.places(number).iter().map(|place| Place::address(*place)).collect();
    let reply = client.transaction(FROM, &to, &ledger.content(number))?;
    if reply.code == 250 {
        ledger.acknowledge(number);
    } else {
        ledger.refuse(reply.code);
    }
    Ok(reply.code)
}

/// No reply may take longer. Generous: the machine may be busy.
const HANG: Duration = Duration::from_secs(30);

/// Before the next try at a server that is down or refuses.
const PAUSE: Duration = Duration::from_millis(5);
