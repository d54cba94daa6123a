use super::*;

fn encode(text: &str) -> Vec<u8> {
    STANDARD.encode(text).into_bytes()
}

fn start(mechanism: Mechanism, initial: &str) -> Result<Step, SaslError> {
    Exchange::start(mechanism, Some(&encode(initial))).1
}

#[test]
fn plain_says_everything_at_once() {
    let check = |message: &str, expected: Option<(&str, &str, &str)>| {
        let told = match start(Mechanism::Plain, message) {
            Ok(Step::Done(Credentials { authorization, identity, password, .. })) => {
                Some((authorization, identity, password))
            }
            _ => None,
        };
        let told = told.as_ref().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str()));
        assert_eq!(told, expected, "{message:?}");
    };
    check("\0tim\0tanstaaftanstaaf", Some(("", "tim", "tanstaaftanstaaf"))); // RFC 4616 §4
    check("Ursel\0Kurt\0xipj3plmq", Some(("Ursel", "Kurt", "xipj3plmq"))); // RFC 4616 §4
    check("\0tim\0", None);
    check("\0\0password", None);
    check("tim\0password", None);
    check("\0tim\0pass\0word", None);
    check("", None);
}

#[test]
fn login_asks_twice() {
    let (mut exchange, step) = Exchange::start(Mechanism::Login, None);
    assert_eq!(step, Ok(Step::Challenge("VXNlcm5hbWU6")));
    assert_eq!(exchange.step(&encode("tim")), Ok(Step::Challenge("UGFzc3dvcmQ6")));
    let Ok(Step::Done(credentials)) = exchange.step(&encode("secret")) else {
        panic!("all was said")
    };
    assert_eq!((credentials.identity.as_str(), credentials.password.as_str()), ("tim", "secret"));
    assert!(!format!("{credentials:?}").contains("secret"), "a password is never printed");
}

#[test]
fn what_is_no_base64_is_malformed() {
    let (mut exchange, step) = Exchange::start(Mechanism::Plain, None);
    assert_eq!(step, Ok(Step::Challenge("")));
    for line in ["not*base64", "dXNlcg", "=", "\u{e9}", "AHQAcA=="] {
        if line != "AHQAcA==" {
            assert_eq!(exchange.step(line.as_bytes()), Err(SaslError::Malformed), "{line}");
        }
    }
    assert_eq!(exchange.step(b"*"), Err(SaslError::Cancelled));
    assert_eq!(Exchange::start(Mechanism::Plain, Some(b"=")).1, Err(SaslError::Malformed));
}

#[test]
fn our_client_is_understood_by_our_server() {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        for password in ["short".to_owned(), "long".repeat(200)] {
            let credentials = Credentials {
                mechanism,
                authorization: String::new(),
                identity: "tim@example.org".to_owned(),
                password,
            };
            let mut client = ClientExchange::new(credentials.clone());
            let argument = client.argument();
            let (name, initial) =
                argument.split_once(' ').map_or((argument.as_str(), None), |(a, b)| (a, Some(b)));
            let (mut server, mut step) =
                Exchange::start(name.parse().unwrap(), initial.map(str::as_bytes));
            while let Ok(Step::Challenge(challenge)) = step {
                step = server.step(client.answer(challenge).unwrap().as_bytes());
            }
            assert_eq!(step, Ok(Step::Done(credentials)));
        }
    }
}
