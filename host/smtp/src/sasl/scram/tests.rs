use super::*;

/// RFC 7677 §3
fn example() -> ScramVerifier {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramVerifier::derive("pencil", &salt, 4096).unwrap()
}

const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn challenged() -> Challenged {
    First::parse(FIRST, false, false).unwrap().challenge(example(), NONCE)
}

#[test]
fn the_example_of_the_rfc_is_held_word_for_word() {
    let challenged = challenged();
    assert_eq!(
        challenged.message,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let finished = challenged.finish(LAST, None);
    assert_eq!(finished.identity, "user");
    let signature = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(finished.signature.as_deref(), Ok(signature));
}

#[test]
fn a_last_message_that_differs_anywhere_is_refused() {
    let check = |from: &str, to: &str, expected: SaslError| {
        let changed = LAST.replace(from, to);
        assert_ne!(changed, LAST, "{from}");
        assert_eq!(challenged().finish(&changed, None).signature, Err(expected), "{changed}");
    };
    check("p=dHzb", "p=eHzb", SaslError::Proof);
    check("$k0", "$k1", SaslError::Malformed);
    check("c=biws", "c=eSws", SaslError::Binding); // y,,
    check(",p=", ",x=1,p=", SaslError::Proof);
    check("ndVQ=", "", SaslError::Malformed);
    check("c=biws,", "", SaslError::Malformed);
}

#[test]
fn first_messages_say_who_and_how_bound() {
    let check =
        |message: &str, plus: bool, offered: bool, expected: Result<(&str, &str), SaslError>| {
            let read = First::parse(message, plus, offered);
            let told = read.as_ref().map(|first| (&*first.authorization, &*first.identity));
            assert_eq!(told.map_err(|error| *error), expected, "{message}");
        };
    check("n,,n=user,r=abc", false, true, Ok(("", "user")));
    check("n,a=boss,n=user,r=abc", false, false, Ok(("boss", "user")));
    check("n,,n=a=2Cb=3Dc,r=abc", false, false, Ok(("", "a,b=c")));
    check("y,,n=user,r=abc", false, false, Ok(("", "user")));
    // RFC 5802 §6: the client saw no PLUS, although it was offered.
    check("y,,n=user,r=abc", false, true, Err(SaslError::Binding));
    check("p=tls-exporter,,n=user,r=abc", true, true, Ok(("", "user")));
    check("p=tls-exporter,,n=user,r=abc", false, true, Err(SaslError::Binding));
    check("p=tls-unique,,n=user,r=abc", true, true, Err(SaslError::Binding));
    check("n,,n=user,r=abc", true, true, Err(SaslError::Binding));
    check("n,,m=x,n=user,r=abc", false, false, Err(SaslError::Malformed));
    check("n,,n=us=er,r=abc", false, false, Err(SaslError::Malformed));
    check("n,,n=,r=abc", false, false, Err(SaslError::Malformed));
    check("n,,n=user,r=", false, false, Err(SaslError::Malformed));
    check("n,,n=user", false, false, Err(SaslError::Malformed));
    check("n,n=user,r=abc", false, false, Err(SaslError::Malformed));
    check("", false, false, Err(SaslError::Malformed));
}

#[test]
fn an_exchange_is_bound_to_its_channel() {
    let exporter = [7_u8; 32];
    let first = "p=tls-exporter,,n=user,r=abc";
    let finish = |bound: &[u8]| {
        let challenged = First::parse(first, true, true).unwrap().challenge(example(), "def");
        let header = STANDARD.encode([b"p=tls-exporter,,".as_slice(), bound].concat());
        let without_proof = format!("c={header},r=abcdef");
        let proof = client_proof(&challenged, &without_proof);
        challenged.finish(&format!("{without_proof},p={proof}"), Some(&exporter)).signature
    };
    assert!(finish(&exporter).is_ok());
    assert_eq!(finish(&[8; 32]), Err(SaslError::Binding));
    assert_eq!(finish(&[]), Err(SaslError::Binding));
}

/// What a client that knows the password of the example says.
fn client_proof(challenged: &Challenged, without_proof: &str) -> String {
    let salted =
        pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", &challenged.verifier.salt, 4096);
    let client_key = mac(&salted, b"Client Key");
    let stored_key: [u8; 32] = Sha256::digest(client_key).into();
    let messages = format!("{},{},{without_proof}", challenged.first.bare, challenged.message);
    let signature = mac(&stored_key, messages.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    STANDARD.encode(proof)
}

#[test]
fn a_verifier_is_read_as_it_is_written() {
    let verifier = example();
    let text = verifier.to_string();
    assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
    assert_eq!(text.parse(), Ok(verifier));
    for wrong in ["", "SCRAM-SHA-1$4096:YQ==$YQ==:YQ==", "SCRAM-SHA-256$10:YQ==$YQ==:YQ=="] {
        assert_eq!(wrong.parse::<ScramVerifier>(), Err(SaslError::Malformed), "{wrong}");
    }
    assert_eq!(text.replace("4096", "100").parse::<ScramVerifier>(), Err(SaslError::Malformed));
}

#[test]
fn an_unknown_user_is_answered_like_a_known_one_and_the_same_each_time() {
    let stand_in = |name: &str| ScramVerifier::stand_in(b"secret of the server", name);
    assert_eq!(stand_in("nobody"), stand_in("nobody"));
    assert_ne!(stand_in("nobody").salt, stand_in("somebody").salt);
    assert_eq!(stand_in("nobody").salt.len(), SALT);
    assert_eq!(stand_in("nobody").iterations, ITERATIONS);
}
