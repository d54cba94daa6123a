use super::*;

fn check(text: &str, expected: Option<&str>) {
    let route = text.parse::<Route>();
    assert_eq!(route.as_ref().map(Route::to_string).ok().as_deref(), expected, "{text}");
    if let Ok(route) = route {
        assert_eq!(route.to_string().parse(), Ok(route), "{text}: what is written can be read");
    }
}

#[test]
fn a_route_has_one_textual_form() {
    check("mx:Example.NET", Some("mx:example.net"));
    check("mx:bücher.example", Some("mx:bücher.example"));
    check("mx:", None);
    check("mx:[192.0.2.1]", None); // an address has no MX records
    check("smtp:mail.example.net", Some("smtp:mail.example.net:25"));
    check("smtp:mail.example.net:2525", Some("smtp:mail.example.net:2525"));
    check("smtp:[192.0.2.1]:25", Some("smtp:[192.0.2.1]:25"));
    check("smtp:192.0.2.1", Some("smtp:[192.0.2.1]:25"));
    check("smtp:[IPv6:2001:db8::1]:26", Some("smtp:[IPv6:2001:db8::1]:26"));
    check("smtp:[2001:db8::1]:26", Some("smtp:[IPv6:2001:db8::1]:26"));
    check("smtp:[2001:db8::1]", Some("smtp:[IPv6:2001:db8::1]:25"));
    check("smtp:a.example;tls=require", Some("smtp:a.example:25;tls=require"));
    check(
        "smtp:a.example:587;tls=verify;auth=relay",
        Some("smtp:a.example:587;tls=verify;auth=relay"),
    );
    check("smtp:a.example;tls=maybe", None);
    check("smtp:a.example;auth=", None);
    check("smtp:a.example:0", None);
    check("smtp:a.example:70000", None);
    check("smtps:a.example", Some("smtps:a.example:465"));
    check("smtps:a.example:465;auth=x", Some("smtps:a.example:465;auth=x"));
    check("smtps:a.example;tls=require", None); // it has more already
    check("lmtp:/run/dovecot/lmtp", Some("lmtp:/run/dovecot/lmtp"));
    check("lmtp:127.0.0.1:24", Some("lmtp:[127.0.0.1]:24"));
    check("lmtp:localhost", Some("lmtp:localhost:24"));
    check("maildir:var/mail/example.test/alice", Some("maildir:var/mail/example.test/alice"));
    check("maildir:", None);
    check("list:team@example.test", Some("list:team@example.test"));
    check("list:team", None);
    check("uucp:a!b", None);
    check("", None);
}

#[test]
fn a_route_is_stored_as_its_text() {
    let route: Route = "smtp:a.example:25".parse().unwrap();
    let json = serde_json::to_string(&route).unwrap();
    assert_eq!(json, r#""smtp:a.example:25""#);
    assert_eq!(serde_json::from_str::<Route>(&json).unwrap(), route);
}
