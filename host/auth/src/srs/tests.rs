use std::time::Duration;

use super::*;

#[test]
fn a_secret_can_be_replaced() {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let old = Srs::new(vec!["old".to_owned()]).unwrap();
    let new = Srs::new(vec!["new".to_owned(), "old".to_owned()]).unwrap();
    let rewritten = old.forward("a@example.org", "forwarder.example", now).unwrap();
    assert_eq!(new.reverse(&rewritten, now).as_deref(), Ok("a@example.org"));
    let rewritten = new.forward("a@example.org", "forwarder.example", now).unwrap();
    assert_eq!(new.reverse(&rewritten, now).as_deref(), Ok("a@example.org"));
    assert_eq!(old.reverse(&rewritten, now), Err(SrsError::Hash));
}

#[test]
fn what_is_no_rewritten_address_says_why() {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let srs = Srs::new(vec!["s".to_owned()]).unwrap();
    let check =
        |address: &str, expected| assert_eq!(srs.reverse(address, now), Err(expected), "{address}");
    check("a@example.org", SrsError::NotRewritten);
    check("no-domain", SrsError::NotRewritten);
    check("srs0x=a@example.org", SrsError::NotRewritten);
    check("SRS0=@example.org", SrsError::Malformed);
    check("SRS0=aaaa=2W=host@example.org", SrsError::Malformed);
    check("SRS1=aaaa=host@example.org", SrsError::Malformed);
    check("SRS1=aaaa=host=x@example.org", SrsError::Malformed);
    check("SRS0=aaaa=2W=host=user@example.org", SrsError::Hash);
    check("SRS0=\u{e9}=2W=host=user@example.org", SrsError::Hash);
    assert!(Srs::new(Vec::new()).is_err() && Srs::new(vec![String::new()]).is_err());
    let long = format!("{}@example.org", "a".repeat(250));
    assert_eq!(srs.forward(&long, "forwarder.example", now), Err(SrsError::TooLong));
}
