//! Conversations of the sender with a scripted host, each played with the host's octets cut at
//! every size.

use super::*;
use crate::{
    address::{ForwardPath, Mailbox, ReversePath},
    envelope::{
        BodyType, MailParameters, Notify, OriginalRecipient, RcptParameters, Recipient, Ret,
    },
};

const CONTENT: &str = "Subject: hi\r\n\r\n.dot\r\nend\r\n";

fn mailbox(address: &str) -> Mailbox {
    address.parse().unwrap()
}

fn message(recipients: &[&str], content: &str) -> (Transaction, String) {
    let recipients = recipients
        .iter()
        .map(|address| Recipient {
            path: ForwardPath::Mailbox(mailbox(address)),
            parameters: RcptParameters::default(),
        })
        .collect();
    let transaction = Transaction {
        reverse_path: ReversePath::Mailbox(mailbox("a@example.net")),
        parameters: MailParameters::default(),
        recipients,
        content: Survey::of(content.as_bytes()),
    };
    (transaction, content.to_owned())
}

fn settings() -> Settings {
    Settings { tls: TlsUse::Never, ..Settings::new("me.example") }
}

fn show(fate: &Fate) -> String {
    match fate {
        Fate::Accepted(reply) => format!("accepted {reply}"),
        Fate::Refused(reply) => format!("refused {reply}"),
        Fate::Unfit(reply) => format!("unfit {reply}"),
        Fate::Untried => "untried".into(),
        Fate::Lost { reply, uncertain: false } => format!("lost {reply}"),
        Fate::Lost { reply, uncertain: true } => format!("uncertain {reply}"),
    }
}

/// A driver that hands out transactions and content and writes down what came of them.
struct Play {
    client: Client,
    waiting: VecDeque<(Transaction, String)>,
    content: String,
    said: Vec<u8>,
    results: Vec<String>,
    piece: usize,
}

impl Play {
    fn new(settings: Settings, waiting: Vec<(Transaction, String)>, piece: usize) -> Self {
        let client = Client::new(settings);
        Self {
            client,
            waiting: waiting.into(),
            content: String::new(),
            said: Vec::new(),
            results: Vec::new(),
            piece,
        }
    }

    fn pump(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(octets) => self.said.extend(octets),
                Output::StartTls => {
                    self.results.push("tls".into());
                    self.client.handle_tls_established();
                }
                Output::Ready => self.begin_next(),
                Output::Content { offset, length } => {
                    let rest = &self.content.as_bytes()[usize::try_from(offset).unwrap()..];
                    let piece = rest[..length.min(self.piece)].to_vec();
                    self.client.handle_content(&piece);
                }
                Output::Ended(fates) => {
                    self.results.extend(fates.iter().map(show));
                    self.begin_next();
                }
                Output::Failed(failure) => {
                    self.results.push(format!("failed {:?} {}", failure.step, failure.reply));
                }
                Output::Close => self.results.push("close".into()),
            }
        }
    }

    fn begin_next(&mut self) {
        match self.waiting.pop_front() {
            Some((transaction, content)) if self.client.can_begin() => {
                self.content = content;
                self.client.begin(transaction);
            }
            _ => self.client.quit(),
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        for piece in octets.chunks(self.piece) {
            self.client.input().extend_from_slice(piece);
            self.client.handle_input();
            self.pump();
        }
    }
}

/// `\n` stands for CRLF, `<CR>` and `<LF>` for the bare octets.
fn wire(line: &str) -> String {
    line.replace("\\n", "\r\n").replace("<CR>", "\r").replace("<LF>", "\n")
}

/// `C:` is what the machine must say, `S:` what it hears; `EOF` and `TIMEOUT` end the connection.
fn check(settings: &Settings, messages: &[(Transaction, String)], script: &str, expected: &[&str]) {
    for piece in [1, 2, 3, 5, 7, 11, 64, 4096] {
        let mut play = Play::new(settings.clone(), messages.to_vec(), piece);
        play.pump();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(line) = line.strip_prefix("S: ") {
                play.hear(format!("{}\r\n", wire(line)).as_bytes());
            } else if let Some(line) = line.strip_prefix("C: ") {
                let line = format!("{}\r\n", wire(line));
                assert!(
                    play.said.starts_with(line.as_bytes()),
                    "expected {line:?}, said {:?} (pieces of {piece})",
                    String::from_utf8_lossy(&play.said)
                );
                play.said.drain(..line.len());
            } else {
                match line {
                    "EOF" => play.client.handle_eof(),
                    "TIMEOUT" => play.client.handle_timeout(),
                    _ => panic!("not a script line: {line}"),
                }
                play.pump();
            }
        }
        assert_eq!(String::from_utf8_lossy(&play.said), "", "said more (pieces of {piece})");
        assert_eq!(play.results, expected, "pieces of {piece}");
    }
}

#[test]
fn plain_transaction_waits_for_each_reply() {
    check(
        &settings(),
        &[message(&["b@example.org", "c@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250 mx
         C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 250 ok
         C: RCPT TO:<c@example.org>
         S: 550 5.1.1 no
         C: DATA
         S: 354 go
         C: Subject: hi\\n\\n..dot\\nend\\n.
         S: 250 2.0.0 taken
         C: QUIT
         S: 221 bye",
        &["accepted 250 2.0.0 taken", "refused 550 5.1.1 no", "close"],
    );
}

#[test]
fn pipelined_group_ends_with_data() {
    check(
        &settings(),
        &[message(&["b@example.org", "c@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250-PIPELINING\\n250 SIZE 1000
         C: MAIL FROM:<a@example.net> SIZE=26\\nRCPT TO:<b@example.org>\\nRCPT TO:<c@example.org>\\nDATA
         S: 250 ok\\n450 4.2.0 later\\n250 ok\\n354 go
         C: Subject: hi\\n\\n..dot\\nend\\n.
         S: 250 2.0.0 taken
         C: QUIT
         S: 221 bye",
        &["refused 450 4.2.0 later", "accepted 250 2.0.0 taken", "close"],
    );
}

#[test]
fn empty_content_follows_when_all_recipients_were_refused_and_data_was_taken() {
    check(
        &settings(),
        &[message(&["b@example.org"], CONTENT), message(&["c@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250 PIPELINING
         C: MAIL FROM:<a@example.net>\\nRCPT TO:<b@example.org>\\nDATA
         S: 250 ok\\n550 5.1.1 no\\n354 go
         C: .
         S: 554 5.5.1 no recipients
         C: MAIL FROM:<a@example.net>\\nRCPT TO:<c@example.org>\\nDATA
         S: 451 4.3.0 no\\n503 5.5.1 no mail\\n503 5.5.1 no rcpt
         C: QUIT
         S: 221 bye",
        &["refused 550 5.1.1 no", "refused 451 4.3.0 no", "close"],
    );
}

#[test]
fn reset_precedes_the_next_transaction_after_a_refused_one() {
    check(
        &settings(),
        &[message(&["b@example.org"], CONTENT), message(&["c@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250 mx
         C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 550 no
         C: RSET
         S: 250 ok
         C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<c@example.org>
         S: 250 ok
         C: DATA
         S: 354 go
         C: Subject: hi\\n\\n..dot\\nend\\n.
         S: 452 4.3.1 full
         C: QUIT
         S: 221 bye",
        &["refused 550 no", "refused 452 4.3.1 full", "close"],
    );
}

#[test]
fn chunks_are_counted_and_not_escaped() {
    let mut settings = settings();
    settings.limits.chunk = 21;
    check(
        &settings,
        &[message(&["b@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250-PIPELINING\\n250 CHUNKING
         C: MAIL FROM:<a@example.net>\\nRCPT TO:<b@example.org>
         S: 250 ok\\n250 ok
         C: BDAT 21\\nSubject: hi\\n\\n.dot
         S: 250 21 octets
         C: BDAT 5 LAST\\nend
         S: 250 2.0.0 taken
         C: QUIT
         S: 221 bye",
        &["accepted 250 2.0.0 taken", "close"],
    );
    check(
        &settings,
        &[message(&["b@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250 CHUNKING
         C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 250 ok
         C: BDAT 21\\nSubject: hi\\n\\n.dot
         S: 552 5.3.4 too much
         C: QUIT
         S: 221 bye",
        &["refused 552 5.3.4 too much", "close"],
    );
}

#[test]
fn binary_content_needs_binarymime_and_keeps_its_octets() {
    let (mut transaction, content) = message(&["b@example.org"], "A: b\r\n\r\nx\ny\rz\r\n");
    transaction.parameters.body = BodyType::BinaryMime;
    let binary = [(transaction, content)];
    check(
        &settings(),
        &binary,
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250-CHUNKING\\n250 BINARYMIME
         C: MAIL FROM:<a@example.net> BODY=BINARYMIME
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 250 ok
         C: BDAT 15 LAST\\nA: b\\n\\nx<LF>y<CR>z
         S: 250 2.0.0 taken
         C: QUIT
         S: 221 bye",
        &["accepted 250 2.0.0 taken", "close"],
    );
    check(
        &settings(),
        &binary,
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250 CHUNKING
         C: QUIT
         S: 221 bye",
        &["unfit 554 5.6.3 The content is binary, and the host does not offer BINARYMIME", "close"],
    );
}

/// The opening with these extensions, then what follows.
fn check_offer(message: &(Transaction, String), extensions: &str, script: &str, expected: &[&str]) {
    let script = format!(
        "S: 220 mx\nC: EHLO me.example\nS: 250-mx{extensions}\\n250 HELP\n{script}\nC: QUIT\nS: 221 bye"
    );
    let expected: Vec<&str> = expected.iter().copied().chain(["close"]).collect();
    check(&settings(), std::slice::from_ref(message), &script, &expected);
}

#[test]
fn a_host_gets_only_what_it_offers_to_take() {
    let eight_bit = message(&["b@example.org"], "A: b\r\n\r\né\r\n");
    check_offer(
        &eight_bit,
        "",
        "",
        &["unfit 554 5.6.3 The content has 8 bits, and the host does not offer 8BITMIME"],
    );
    check_offer(
        &eight_bit,
        "\\n250-8BITMIME",
        "C: MAIL FROM:<a@example.net> BODY=8BITMIME\nS: 451 no",
        &["refused 451 no"],
    );
    // RFC 5321 §2.3.8: an end of content that only the next server would see does not leave us, not
    // even by BDAT.
    let bare = message(&["b@example.org"], "A: b\r\n\r\nx\n.\nMAIL\r\n");
    for extensions in ["", "\\n250-CHUNKING"] {
        check_offer(
            &bare,
            extensions,
            "C: MAIL FROM:<a@example.net>
             S: 250 ok
             C: RCPT TO:<b@example.org>
             S: 250 ok
             C: DATA
             S: 354 go
             C: A: b\\n\\nx\\n..\\nMAIL\\n.
             S: 250 ok",
            &["accepted 250 ok"],
        );
    }
    let plain = message(&["b@example.org"], CONTENT);
    check_offer(
        &plain,
        "\\n250-SIZE 25",
        "",
        &["unfit 552 5.3.4 The message is larger than the host takes"],
    );
}

#[test]
fn internationalised_addresses_need_smtputf8_and_domains_do_not() {
    let mut international = message(&["jürgen@example.org", "b@bücher.example"], CONTENT);
    international.0.parameters.smtputf8 = true;
    check_offer(
        &international,
        "",
        "C: MAIL FROM:<a@example.net>\nS: 250 ok\nC: RCPT TO:<b@xn--bcher-kva.example>\nS: 550 no",
        &[
            "unfit 553 5.6.7 The address is internationalised, and the host does not offer SMTPUTF8",
            "refused 550 no",
        ],
    );
    check_offer(
        &international,
        "\\n250-SMTPUTF8",
        "C: MAIL FROM:<a@example.net> SMTPUTF8
         S: 250 ok
         C: RCPT TO:<jürgen@example.org>
         S: 550 no
         C: RCPT TO:<b@bücher.example>
         S: 550 no",
        &["refused 550 no", "refused 550 no"],
    );
    let mut header = message(&["b@example.org"], "Subject: é\r\n\r\n\r\n");
    header.0.parameters.smtputf8 = true;
    check_offer(
        &header,
        "\\n250-8BITMIME",
        "",
        &["unfit 550 5.6.7 The message is internationalised, and the host does not offer SMTPUTF8"],
    );
}

#[test]
fn dsn_parameters_go_only_to_hosts_that_offer_dsn() {
    let mut message = message(&["b@example.org"], CONTENT);
    message.0.parameters.ret = Some(Ret::Headers);
    message.0.parameters.envid = Some("a+b".into());
    message.0.recipients[0].parameters = RcptParameters {
        notify: Some(Notify { success: true, failure: true, delay: false }),
        orcpt: Some(OriginalRecipient {
            address_type: "rfc822".into(),
            address: "x+y@example.org".into(),
        }),
    };
    check_offer(
        &message,
        "\\n250-DSN",
        "C: MAIL FROM:<a@example.net> RET=HDRS ENVID=a+2Bb
         S: 250 ok
         C: RCPT TO:<b@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2By@example.org
         S: 550 no",
        &["refused 550 no"],
    );
    check_offer(
        &message,
        "",
        "C: MAIL FROM:<a@example.net>\nS: 250 ok\nC: RCPT TO:<b@example.org>\nS: 550 no",
        &["refused 550 no"],
    );
}

#[test]
fn recipients_beyond_the_limit_of_the_host_stay_untried() {
    let three = message(&["b@example.org", "c@example.org", "d@example.org"], CONTENT);
    check_offer(
        &three,
        "\\n250-LIMITS RCPTMAX=1",
        "C: MAIL FROM:<a@example.net>\nS: 250 ok\nC: RCPT TO:<b@example.org>\nS: 550 no",
        &["refused 550 no", "untried", "untried"],
    );
    check_offer(
        &three,
        "",
        "C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 250 ok
         C: RCPT TO:<c@example.org>
         S: 452 4.5.3 too many
         C: RCPT TO:<d@example.org>
         S: 552 too many
         C: DATA
         S: 354 go
         C: Subject: hi\\n\\n..dot\\nend\\n.
         S: 250 ok",
        &["accepted 250 ok", "untried", "untried"],
    );
}

#[test]
fn recipients_of_further_domains_stay_untried() {
    let three = message(&["b@example.org", "c@example.com", "d@example.org"], CONTENT);
    check_offer(
        &three,
        "\\n250-LIMITS RCPTDOMAINMAX=1",
        "C: MAIL FROM:<a@example.net>
         S: 250 ok
         C: RCPT TO:<b@example.org>
         S: 550 no
         C: RCPT TO:<d@example.org>
         S: 550 no",
        &["refused 550 no", "untried", "refused 550 no"],
    );
}

#[test]
fn lmtp_gives_each_recipient_its_own_reply() {
    let settings = Settings { dialect: Dialect::Lmtp, ..settings() };
    check(
        &settings,
        &[message(&["b@example.org", "c@example.org", "d@example.org"], CONTENT)],
        "S: 220 lmtp
         C: LHLO me.example
         S: 250-lmtp\\n250 PIPELINING
         C: MAIL FROM:<a@example.net>\\nRCPT TO:<b@example.org>\\nRCPT TO:<c@example.org>\\nRCPT TO:<d@example.org>\\nDATA
         S: 250 ok\\n250 ok\\n550 5.1.1 no\\n250 ok\\n354 go
         C: Subject: hi\\n\\n..dot\\nend\\n.
         S: 250 2.0.0 for b\\n452 4.2.2 full
         C: QUIT
         S: 221 bye",
        &["accepted 250 2.0.0 for b", "refused 550 5.1.1 no", "refused 452 4.2.2 full", "close"],
    );
    check(
        &settings,
        &[],
        "S: 220 lmtp\nC: LHLO me.example\nS: 500 what\nC: QUIT\nS: 221 bye",
        &["failed Hello 500 what", "close"],
    );
}

#[test]
fn helo_follows_a_refused_ehlo() {
    check(
        &settings(),
        &[message(&["b@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 502 what
         C: HELO me.example
         S: 250-mx\\n250 PIPELINING
         C: MAIL FROM:<a@example.net>
         S: 550 no
         C: QUIT
         S: 221 bye",
        &["refused 550 no", "close"],
    );
}

#[test]
fn greetings_that_refuse_are_passed_on() {
    let check = |script: &str, expected: &[&str]| check(&settings(), &[], script, expected);
    check("S: 421 4.3.2 later", &["failed Greeting 421 4.3.2 later", "close"]);
    check("S: 451 4.3.2 later\nC: QUIT\nS: 221 bye", &["failed Greeting 451 4.3.2 later", "close"]);
    check("S: 554 5.7.1 never\nC: QUIT\nEOF", &["failed Greeting 554 5.7.1 never", "close"]);
    check(
        "EOF",
        &[
            "failed Greeting 421 4.4.2 The connection was lost while waiting for the greeting",
            "close",
        ],
    );
    check(
        "TIMEOUT",
        &["failed Greeting 421 4.4.2 Timed out while waiting for the greeting", "close"],
    );
    check(
        "S: 250 what",
        &["failed Hello 421 4.5.0 The peer's reply 250 does not fit while saying hello", "close"],
    );
}

#[test]
fn starttls_forgets_what_was_learnt_and_what_was_injected() {
    let required = Settings { tls: TlsUse::Required, ..settings() };
    check(
        &required,
        &[message(&["b@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250-PIPELINING\\n250 STARTTLS
         C: STARTTLS
         S: 220 go
         C: EHLO me.example
         S: 250 mx
         C: MAIL FROM:<a@example.net>
         S: 550 no
         C: QUIT
         S: 221 bye",
        &["tls", "refused 550 no", "close"],
    );
    let mut client = Client::new(required);
    client
        .input()
        .extend_from_slice(b"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n250 injected\r\n250 ");
    client.handle_input();
    client.handle_tls_established();
    while client.poll_output().is_some() {}
    client.input().extend_from_slice(b"250 mx\r\n");
    client.handle_input();
    assert_eq!(client.poll_output(), Some(Output::Ready));
}

#[test]
fn refused_or_missing_tls_ends_the_session_only_where_it_is_required() {
    let required = Settings { tls: TlsUse::Required, ..settings() };
    let opportunistic = Settings { tls: TlsUse::Opportunistic, ..settings() };
    let without = "S: 220 mx\nC: EHLO me.example\nS: 250 mx\nC: QUIT\nS: 221 bye";
    let missing = "failed Tls 454 4.7.10 TLS is required, but the host does not offer it";
    check(&required, &[], without, &[missing, "close"]);
    check(&opportunistic, &[], without, &["close"]);
    let refused = "S: 220 mx\nC: EHLO me.example\nS: 250-mx\\n250 STARTTLS\nC: STARTTLS\nS: 454 4.7.0 no\nC: QUIT\nS: 221 bye";
    check(&required, &[], refused, &["failed Tls 454 4.7.0 no", "close"]);
    check(&opportunistic, &[], refused, &["close"]);
}

#[test]
fn credentials_are_said_by_plain_or_login_and_never_in_the_clear() {
    let credentials = Some(ClientCredentials { user: "bob".into(), password: "secret".into() });
    let clear = Settings { credentials, ..settings() };
    let allowed = Settings { auth_without_tls: true, ..clear.clone() };
    let opening =
        |auth: &str| format!("S: 220 mx\nC: EHLO me.example\nS: 250-mx\\n250 AUTH {auth}\n");
    let end = "C: QUIT\nS: 221 bye";
    check(
        &clear,
        &[],
        &format!("{}{end}", opening("PLAIN")),
        &["failed Auth 454 4.7.11 There is no TLS, so the password is not sent", "close"],
    );
    let plain = "C: AUTH PLAIN AGJvYgBzZWNyZXQ=\n";
    check(
        &allowed,
        &[],
        &format!("{}{plain}S: 235 2.7.0 ok\n{end}", opening("LOGIN PLAIN")),
        &["close"],
    );
    check(
        &allowed,
        &[],
        &format!("{}{plain}S: 535 5.7.8 no\n{end}", opening("PLAIN")),
        &["failed Auth 535 5.7.8 no", "close"],
    );
    let login = "C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: Ym9i\nS: 334 UGFzc3dvcmQ6\nC: c2VjcmV0\nS: 235 ok\n";
    check(&allowed, &[], &format!("{}{login}{end}", opening("LOGIN")), &["close"]);
    check(
        &allowed,
        &[],
        &format!("{}{end}", opening("XOAUTH2")),
        &["failed Auth 454 4.7.0 The host offers neither AUTH PLAIN nor AUTH LOGIN", "close"],
    );
    assert!(!format!("{allowed:?}").contains("secret"));
}

/// Everything up to the 354 of a pipelined transaction for one recipient.
const UP_TO_354: &str = "S: 220 mx
    C: EHLO me.example
    S: 250-mx\\n250 PIPELINING
    C: MAIL FROM:<a@example.net>\\nRCPT TO:<b@example.org>\\nDATA
    S: 250 ok\\n250 ok
    ";
const SENT: &str = "C: Subject: hi\\n\\n..dot\\nend\\n.\n";

#[test]
fn replies_that_do_not_fit_never_become_a_success() {
    let check = |script: &str, fate: &str| {
        check(
            &settings(),
            &[message(&["b@example.org"], CONTENT)],
            &format!("{UP_TO_354}{script}"),
            &[fate, "close"],
        );
    };
    let misfit = |code: u16, step: &str| {
        format!("lost 421 4.5.0 The peer's reply {code} does not fit while {step}")
    };
    // A reply too many shifts all that follow.
    check("S: 250 extra", &misfit(250, "sending the envelope"));
    check(
        &format!("S: 354 go\n{SENT}S: 354 go"),
        &format!("uncertain {}", &misfit(354, "waiting for the reply to the content")[5..]),
    );
    check(
        &format!("S: 354 go\n{SENT}S: 221 bye"),
        &format!("uncertain {}", &misfit(221, "waiting for the reply to the content")[5..]),
    );
    check(
        &format!("S: 354 go\n{SENT}EOF"),
        "uncertain 421 4.4.2 The connection was lost while waiting for the reply to the content",
    );
    check(
        &format!("S: 354 go\n{SENT}TIMEOUT"),
        "uncertain 421 4.4.2 Timed out while waiting for the reply to the content",
    );
    check(&format!("S: 354 go\n{SENT}S: 421 4.3.2 closing"), "lost 421 4.3.2 closing");
    check("S: 421 4.3.2 closing", "lost 421 4.3.2 closing");
    check("EOF", "lost 421 4.4.2 The connection was lost while sending the envelope");
}

#[test]
fn replies_that_make_no_sense_lose_the_connection() {
    let check = |script: &str, error: &str| {
        let fate = format!(
            "lost 421 4.5.0 The peer's reply makes no sense while sending the envelope: {error}"
        );
        check(
            &settings(),
            &[message(&["b@example.org"], CONTENT)],
            &format!("{UP_TO_354}{script}"),
            &[&fate, "close"],
        );
    };
    check("S: 250-one\\n550 two", "the lines of the reply have different codes");
    check("S: what", "the reply has no code");
    check("S: 100 what", "the reply has no code");
    check(&format!("S: {}", "250-x\\n".repeat(101)), "the reply has too many lines");
}

#[test]
fn a_reply_without_end_is_not_kept() {
    let mut client = Client::new(settings());
    for _ in 0..100 {
        client.input().extend_from_slice(&[b'2'; 1000]);
        client.handle_input();
    }
    assert!(!client.is_open());
    assert!(client.input().len() < 10_000);
}

#[test]
fn what_is_said_before_the_end_of_content_is_no_reply_to_it() {
    // The 250 comes in the same segment as the 354, before anything was sent.
    let check = |octets: &str, expected: &str| {
        let mut play = Play::new(settings(), vec![message(&["b@example.org"], CONTENT)], 4096);
        play.hear(b"220 mx\r\n");
        play.hear(b"250-mx\r\n250 PIPELINING\r\n");
        play.hear(format!("250 ok\r\n250 ok\r\n{octets}").as_bytes());
        assert_eq!(play.results[0], expected);
    };
    let misfit = "lost 421 4.5.0 The peer's reply 250 does not fit while sending the content";
    check("354 go\r\n250 2.0.0 taken\r\n", misfit);
    check("354 go\r\n250-half", "lost 421 4.5.0 The peer spoke without being asked");
    check("354 go\r\n552 5.3.4 too much\r\n", "refused 552 5.3.4 too much");
}

#[test]
fn many_recipients_are_named_in_a_window() {
    let recipients: Vec<String> = (0..150).map(|number| format!("r{number}@example.org")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut settings = settings();
    settings.limits.recipients = 1000;
    let mut play = Play::new(settings, vec![message(&recipients, CONTENT)], 4096);
    play.hear(b"220 mx\r\n");
    play.hear(b"250-mx\r\n250 PIPELINING\r\n");
    let lines = |play: &Play| play.said.iter().filter(|octet| **octet == b'\n').count() - 1;
    assert_eq!(lines(&play), 100); // MAIL and 99 RCPT wait
    play.hear("250 ok\r\n".repeat(52).as_bytes());
    assert_eq!(lines(&play), 152); // and now all, with DATA
}

#[test]
fn no_more_transactions_than_mailmax() {
    check(
        &settings(),
        &[message(&["b@example.org"], CONTENT), message(&["c@example.org"], CONTENT)],
        "S: 220 mx
         C: EHLO me.example
         S: 250-mx\\n250 LIMITS MAILMAX=1
         C: MAIL FROM:<a@example.net>
         S: 550 no
         C: QUIT
         S: 221 bye",
        &["refused 550 no", "close"],
    );
}

#[test]
fn timeouts_are_those_of_rfc_5321() {
    let minutes = |client: &Client| client.timeout().as_secs() / 60;
    let mut play = Play::new(settings(), vec![message(&["b@example.org"], CONTENT)], 4096);
    assert_eq!(minutes(&play.client), 5);
    play.hear(b"220 mx\r\n");
    assert_eq!(minutes(&play.client), 5);
    play.hear(b"250 mx\r\n");
    play.hear(b"250 ok\r\n250 ok\r\n");
    assert_eq!(minutes(&play.client), 2);
    play.client.input().extend_from_slice(b"354 go\r\n");
    play.client.handle_input();
    assert_eq!(minutes(&play.client), 3);
    play.pump();
    assert_eq!(minutes(&play.client), 10);
}

/// Whatever a host says: no panic, one fate for each recipient, and no success without a 25z reply
/// to the content.
#[test]
fn random_hosts_get_no_success_out_of_turn() {
    let words = [
        "250 ok", "354 go", "550 no", "450 no", "250-x", "221 bye", "421 bye", "220 x", "", "250",
        "\0\x7f", "503 what",
    ];
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |most: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % most as u64).unwrap()
    };
    for round in 0..10_000 {
        let mut play = Play::new(
            settings(),
            vec![message(&["b@example.org", "c@example.org"], CONTENT)],
            4096,
        );
        play.hear(b"220 mx\r\n");
        play.hear(if round % 2 == 0 {
            b"250-mx\r\n250 PIPELINING\r\n"
        } else {
            b"250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
        });
        for _ in 0..12 {
            let word = words[next(words.len())];
            let sent_all = play.said.ends_with(b"\r\n.\r\n")
                || play.said.ends_with(b"LAST\r\nSubject: hi\r\n\r\n.dot\r\nend\r\n");
            play.hear(format!("{word}\r\n").as_bytes());
            let accepted = play.results.iter().any(|result| result.starts_with("accepted"));
            assert!(
                !accepted || (sent_all && word.starts_with("250")),
                "{:?} after {word}",
                play.results
            );
            if accepted || !play.client.is_open() {
                break;
            }
        }
        play.client.handle_eof();
        play.pump();
        assert_eq!(
            play.results.iter().filter(|result| !result.starts_with("close")).count(),
            2,
            "{:?}",
            play.results
        );
    }
}
