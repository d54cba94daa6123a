use super::*;

const CONTENT: &str =
    "Received: a\r\nsubject:  folded\r\n\tonce\r\nX-One: 1\r\nReceived : b\r\n\r\nbody";

fn head_of(content: &str, edits: &[Result<Edit, EditError>]) -> String {
    let header = Header::parse(content.as_bytes().to_vec());
    let edits: Vec<_> = edits.iter().cloned().map(Result::unwrap).collect();
    String::from_utf8(compose(&header, &edits).head.to_vec()).unwrap()
}

#[test]
fn untouched_fields_stay_as_they_came() {
    let check = |edits: &[Result<Edit, EditError>], expected: &str| {
        assert_eq!(head_of(CONTENT, edits), expected)
    };
    let kept = "subject:  folded\r\n\tonce\r\nX-One: 1\r\n";
    check(&[], &format!("Received: a\r\n{kept}Received : b\r\n\r\n"));
    check(
        &[Edit::prepend("A", "1")],
        &format!("A: 1\r\nReceived: a\r\n{kept}Received : b\r\n\r\n"),
    );
    check(&[Edit::add("A", "1")], &format!("Received: a\r\n{kept}Received : b\r\nA: 1\r\n\r\n"));
    check(
        &[Edit::insert(1, "A", "1")],
        &format!("Received: a\r\nA: 1\r\n{kept}Received : b\r\n\r\n"),
    );
    check(
        &[Edit::insert(99, "A", "1")],
        &format!("Received: a\r\n{kept}Received : b\r\nA: 1\r\n\r\n"),
    );
    check(
        &[Edit::replace("RECEIVED", 1, "c")],
        &format!("Received: a\r\n{kept}RECEIVED: c\r\n\r\n"),
    );
    check(
        &[Edit::replace("Received", 2, "c")],
        &format!("Received: a\r\n{kept}Received : b\r\n\r\n"),
    );
    check(&[Edit::remove("received", None)], &format!("{kept}\r\n"));
    check(&[Edit::remove("received", Some(0))], &format!("{kept}Received : b\r\n\r\n"));
    check(
        &[Edit::remove("received", Some(7))],
        &format!("Received: a\r\n{kept}Received : b\r\n\r\n"),
    );
}

#[test]
fn edits_apply_one_after_another() {
    let check = |edits: &[Result<Edit, EditError>], expected: &str| {
        assert_eq!(head_of("A: 1\r\n\r\n", edits), expected)
    };
    check(&[Edit::prepend("A", "0"), Edit::replace("A", 0, "x")], "A: x\r\nA: 1\r\n\r\n");
    check(&[Edit::add("B", "2"), Edit::remove("B", None)], "A: 1\r\n\r\n");
    check(&[Edit::prepend("B", "1"), Edit::prepend("B", "2")], "B: 2\r\nB: 1\r\nA: 1\r\n\r\n");
    check(&[Edit::remove("A", None)], "\r\n");
}

#[test]
fn an_empty_line_is_made_where_there_was_no_header() {
    let check = |content: &str, expected: &str| {
        assert_eq!(head_of(content, &[Edit::prepend("B", "2")]), expected, "{content:?}");
    };
    check("", "B: 2\r\n\r\n");
    check("no field\r\nC: 3\r\n", "B: 2\r\n\r\n"); // RFC 5322 §2.1
    check("\r\nbody", "B: 2\r\n\r\n");
    // A message that had fields ends them as it did.
    check("A: 1", "B: 2\r\nA: 1\r\n");
    check("A: 1\r\n", "B: 2\r\nA: 1\r\n");
    check("A: 1\r\nno field\r\nC: 3\r\n", "B: 2\r\nA: 1\r\n");
    check("A: 1\n\nbody", "B: 2\r\nA: 1\n\n");
    // Before a new body there is always one.
    assert_eq!(head_of("A: 1\r\n", &[Ok(Edit::body("x"))]), "A: 1\r\n\r\n");
}

#[test]
fn the_body_is_received_or_replaced() {
    let header = Header::parse(CONTENT.as_bytes().to_vec());
    assert_eq!(compose(&header, &[]).body, Body::Received { offset: header.body_offset() });
    let check = |body: &str, expected: &str| {
        let composed = compose(&header, &[Edit::body(body.to_owned())]);
        assert_eq!(composed.body, Body::Replaced(expected.to_owned().into()), "{body:?}");
    };
    check("", "");
    check("a\r\n", "a\r\n");
    check("a\nb\rc\r\n\n", "a\r\nb\r\nc\r\n\r\n"); // RFC 5321 §2.3.8: no CR or LF alone
    check("a\r", "a\r\n");
    check("a", "a\r\n");
    check(".\n.\n", ".\r\n.\r\n");
}

#[test]
fn what_cannot_stand_in_a_header_is_refused() {
    let check = |name: &str, value: &str, expected: Option<EditError>| {
        assert_eq!(Edit::add(name, value).err(), expected, "{name:?} {value:?}");
    };
    check("X-Good_Name!", "any text: ; ()", None);
    for name in ["", "a b", "a:", "a\r\nb", "ü", "a\0", "\tA"] {
        check(name, "x", Some(EditError::Name(name.to_owned())));
    }
    check(&"n".repeat(77), "x", Some(EditError::Name("n".repeat(76))));
    for control in ['\r', '\n', '\0', '\x1b', '\x7f', '\u{85}'] {
        check("A", &format!("x{control}Bcc: y"), Some(EditError::Control(control)));
    }
    check("A", "tab\tis white space", None);
    check("A", &"x".repeat(2000), Some(EditError::WordTooLong));
    check("A", &"x ".repeat(2000), None);
}

#[test]
fn text_beyond_ascii_is_encoded_where_it_is_text() {
    let check = |name: &str, value: &str, expected: &str| {
        let field = NewField::new(name, value).unwrap();
        assert_eq!(String::from_utf8_lossy(field.raw()), expected);
        assert_eq!(field.value(), value);
        assert!(
            field.raw().split(|octet| *octet == b'\n').all(|line| line.len() <= 79),
            "{field:?}"
        );
    };
    check("Subject", "grün", "Subject: =?utf-8?B?Z3LDvG4=?=\r\n");
    check("Subject", "a grün blau b", "Subject: a =?utf-8?B?Z3LDvG4=?= blau b\r\n");
    check("Subject", "ü  ö", "Subject: =?utf-8?B?w7wgIMO2?=\r\n");
    check("From", "Jürgen <j@example.org>", "From: Jürgen <j@example.org>\r\n"); // RFC 6532
    let long = "ハロー・ワールド".repeat(20);
    let field = NewField::new("Subject", &long).unwrap();
    assert!(
        field.raw().is_ascii()
            && field.raw().split(|octet| *octet == b'\n').all(|line| line.len() <= 79)
    );
    assert_eq!(field.value(), long);
}

#[test]
fn edits_of_one_message_are_bounded() {
    let mut edits = Edits::default();
    for _ in 0..1000 {
        edits.push(Edit::add("A", "1").unwrap()).unwrap();
    }
    assert_eq!(edits.push(Edit::add("A", "1").unwrap()), Err(EditError::TooMany));
    let mut edits = Edits::default();
    let large = Edit::add("A", &"x ".repeat(50_000)).unwrap();
    edits.push(large.clone()).unwrap();
    edits.push(large.clone()).unwrap();
    assert_eq!(edits.push(large), Err(EditError::TooLarge));
    edits.push(Edit::body("1")).unwrap();
    edits.push(Edit::body("2")).unwrap();
    assert_eq!(edits.len(), 3);
}

#[test]
fn every_edit_has_a_summary() {
    let check = |edit: Edit, expected: &str| assert_eq!(edit.summary(), expected);
    check(Edit::prepend("A", "ü").unwrap(), "prepend A: ü");
    check(Edit::add("A", "b").unwrap(), "add A: b");
    check(Edit::insert(2, "A", "b").unwrap(), "insert A[at 2]: b");
    check(Edit::replace("A", 1, "b").unwrap(), "replace A[1]: b");
    check(Edit::remove("A", Some(1)).unwrap(), "remove A[1]");
    check(Edit::remove("A", None).unwrap(), "remove A");
    check(Edit::body("x"), "replace body by 3 octets");
}
