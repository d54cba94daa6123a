use super::*;

#[test]
fn a_strangers_text_stays_a_value() {
    let check = |value: &str, expected: &str| {
        let method = Method::new("dkim", "pass").with("header", "i", value);
        let written =
            Results { authserv_id: "mx.example".to_owned(), methods: vec![method] }.to_string();
        assert_eq!(written, format!("mx.example; dkim=pass header.i={expected}"));
        let read = Results::parse(&written).unwrap();
        assert_eq!(read.methods.len(), 1, "{written}");
    };
    check("@example.org", "@example.org");
    check("a.b@example.org", "a.b@example.org");
    check("x; dmarc=pass", "\"x; dmarc=pass\"");
    check("x\" (y", "\"x\\\" (y\"");
    check("x\r\nTo: y", "\"x??To: y\"");
    check("a=b", "\"a=b\"");
    check("2001:db8::1", "\"2001:db8::1\"");
    check("j\u{fc}rgen@example.org", "\"j?rgen@example.org\"");
    check("", "\"\"");
}

#[test]
fn fields_in_our_name_are_taken_away_and_others_stay() {
    let check = |values: &[&str], gone: &[u32]| {
        let fields: String = values
            .iter()
            .map(|value| format!("Authentication-Results: {value}\r\nX: y\r\n"))
            .collect();
        let header = Header::parse(fields.into_bytes());
        let edits = forged("mx.example.org", &header);
        let expected: Vec<Edit> =
            gone.iter().map(|index| Edit::remove(NAME, Some(*index)).unwrap()).collect();
        assert_eq!(edits, expected, "{values:?}");
    };
    check(&["mx.example.org; spf=pass"], &[0]);
    check(&["MX.Example.Org; spf=pass"], &[0]);
    check(&["other.example; spf=pass"], &[]);
    check(&["sub.mx.example.org; none"], &[]);
    check(&["(a) mx.example.org (b) 1; spf=pass"], &[0]);
    check(&["\"mx.example.org\"; spf=pass"], &[0]);
    check(&["\r\n mx.example.org\r\n ; spf=pass"], &[0]);
    check(&["mx.example.org/1; spf=pass"], &[0]);
    check(&["mx.example.org. ; spf=pass"], &[0]);
    check(&["mx.example.org spf=pass"], &[0]);
    check(&["", "(never ends", "; spf=pass"], &[2, 1, 0]);
    check(&["mx.example.org; none", "other.example; none", "mx.example.org; none"], &[2, 0]);
}
