//! Every conversation of `tests/transcripts/`, held with the machine in pieces of every size, or
//! with another server: `SUBJECT=127.0.0.1:2525 cargo test --test transcripts`.
//! `SUBJECT_NAMES=mx.example.org=*,example.org=example.test` says what the server calls things.

use tests::transcript::machine::{self, Cut};
use tests::transcript::wire::{self, Subject};
use tests::transcript::{self, Transcript};

#[test]
fn conversations_are_held_whatever_the_pieces() {
    let transcripts = transcript::all();
    let (mut plays, mut faults) = (0, Vec::new());
    for transcript in &transcripts {
        match machine::play(transcript, Cut::Every(usize::MAX)) {
            Ok(played) => {
                for cut in cuts(played.octets) {
                    plays += 1;
                    if let Err(fault) = machine::play(transcript, cut) {
                        faults.push(fault);
                        break;
                    }
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    println!("{} conversations, {plays} plays", transcripts.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(transcripts.len() >= 40, "the conversations are there");
}

/// Every size of pieces and every place for a single cut; of a long conversation, about a thousand
/// of each.
fn cuts(octets: usize) -> impl Iterator<Item = Cut> {
    let step = octets.div_ceil(1000).max(1);
    let sizes = (1..=octets).step_by(step).map(Cut::Every);
    let places = (1..octets).step_by(step).map(Cut::Once);
    sizes.chain(places)
}

#[test]
fn conversations_are_held_with_the_subject() {
    let Ok(address) = std::env::var("SUBJECT") else {
        println!("skipped: SUBJECT names no server");
        return;
    };
    let subject = Subject { names: names(), codes_only: true };
    let (played, skipped): (Vec<_>, Vec<_>) =
        transcript::all().into_iter().partition(|held| held.suits(&[]));
    let name = |transcript: &Transcript| transcript.name.clone();
    println!(
        "skipped (policy or settings of ours): {}",
        skipped.iter().map(name).collect::<Vec<_>>().join(", ")
    );
    let faults: Vec<String> = played
        .iter()
        .filter_map(|held| wire::play(held, address.as_str(), &subject).err())
        .collect();
    println!("{} of {} conversations held", played.len() - faults.len(), played.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn names() -> Vec<(String, String)> {
    let names = std::env::var("SUBJECT_NAMES").unwrap_or_else(|_| "mx.example.org=*".to_owned());
    names
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .collect()
}
