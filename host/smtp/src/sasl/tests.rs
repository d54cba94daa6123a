use super::*;

fn encode(text: &str) -> Vec<u8> {
    STANDARD.encode(text).into_bytes()
}

fn begin(mechanism: Mechanism, initial: Option<&[u8]>) -> (Exchange, Result<Step, SaslError>) {
    Exchange::start(mechanism, initial, Channel::default())
}

fn start(mechanism: Mechanism, initial: &str) -> Result<Step, SaslError> {
    begin(mechanism, Some(&encode(initial))).1
}

#[test]
fn plain_says_everything_at_once() {
    let check = |message: &str, expected: Option<(&str, &str, &str)>| {
        let told = match start(Mechanism::Plain, message) {
            Ok(Step::Done(Credentials {
                authorization,
                identity,
                proof: Proof::Password(password),
                ..
            })) => Some((authorization, identity, password)),
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
    let (mut exchange, step) = begin(Mechanism::Login, None);
    assert_eq!(step, Ok(Step::Challenge("VXNlcm5hbWU6".into())));
    assert_eq!(exchange.step(&encode("tim")), Ok(Step::Challenge("UGFzc3dvcmQ6".into())));
    let Ok(Step::Done(credentials)) = exchange.step(&encode("secret")) else {
        panic!("all was said")
    };
    assert_eq!(credentials.identity, "tim");
    assert_eq!(credentials.proof, Proof::Password("secret".to_owned()));
    assert!(!format!("{credentials:?}").contains("secret"), "a password is never printed");
}

#[test]
fn what_is_no_base64_is_malformed() {
    let (mut exchange, step) = begin(Mechanism::Plain, None);
    assert_eq!(step, Ok(Step::Challenge("".into())));
    for line in ["not*base64", "dXNlcg", "=", "\u{e9}", "AHQAcA=="] {
        if line != "AHQAcA==" {
            assert_eq!(exchange.step(line.as_bytes()), Err(SaslError::Malformed), "{line}");
        }
    }
    assert_eq!(exchange.step(b"*"), Err(SaslError::Cancelled));
    assert_eq!(begin(Mechanism::Plain, Some(b"=")).1, Err(SaslError::Malformed));
}

#[test]
fn our_client_is_understood_by_our_server() {
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        for password in ["short".to_owned(), "long".repeat(200)] {
            let credentials = Credentials {
                mechanism,
                authorization: String::new(),
                identity: "tim@example.org".to_owned(),
                proof: Proof::Password(password.clone()),
            };
            let identity = credentials.identity.clone();
            let mut client = ClientExchange::new(mechanism, identity, password);
            let argument = client.argument();
            let (name, initial) =
                argument.split_once(' ').map_or((argument.as_str(), None), |(a, b)| (a, Some(b)));
            let (mut server, mut step) = begin(name.parse().unwrap(), initial.map(str::as_bytes));
            while let Ok(Step::Challenge(challenge)) = step {
                step = server.step(client.answer(&challenge).unwrap().as_bytes());
            }
            assert_eq!(step, Ok(Step::Done(credentials)));
        }
    }
}

/// RFC 7677 §3, with the lines that RFC 4954 puts around it.
#[test]
fn scram_asks_for_the_verifier_and_proves_both_sides() {
    let mechanism = Mechanism::ScramSha256;
    let hold = |last: &str| {
        let (mut exchange, step) = begin(mechanism, None);
        assert_eq!(step, Ok(Step::Challenge("".into())));
        let step = exchange.step(&encode("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
        assert_eq!(step, Ok(Step::Verify { identity: "user".to_owned() }));
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = ScramVerifier::derive("pencil", &salt, 4096).unwrap();
        let (mut exchange, step) = exchange.challenge(verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
        assert!(matches!(step, Ok(Step::Challenge(_))));
        let step = exchange.step(&encode(last));
        (exchange, step)
    };
    let expected = |proof| Credentials {
        mechanism,
        authorization: String::new(),
        identity: "user".to_owned(),
        proof,
    };
    let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let (mut exchange, step) = hold(last);
    let signature = encode("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_eq!(step, Ok(Step::Challenge(String::from_utf8(signature).unwrap().into())));
    assert_eq!(exchange.step(b""), Ok(Step::Done(expected(Proof::Shown))));
    let (_, step) = hold(&last.replace("dHzb", "eHzb"));
    assert_eq!(step, Ok(Step::Done(expected(Proof::Wrong))));
    let (_, step) = hold("c=biws");
    assert_eq!(step, Err(SaslError::Malformed));
}
