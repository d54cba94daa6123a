use super::*;

/// Plays events, one word each, and compares what came of them: `ok/N` a message taken with N
/// connections open, `strain` and `fail` of something that began just now, `late-strain` and
/// `late-fail` of something that began at the start, `fail+1` with another connection open,
/// `+N` seconds passing.
fn check(events: &str, expected: &str) {
    let limits = PaceLimits {
        most: 5,
        down_first: Duration::from_secs(60),
        down_longest: Duration::from_secs(300),
    };
    let start = Instant::now();
    let (mut pace, mut now) = (Pace::new(limits), start);
    for event in events.split_whitespace() {
        now += Duration::from_millis(1);
        match event {
            "strain" => pace.strained(now, now),
            "late-strain" => pace.strained(start, now),
            "fail" => pace.failed(0, now, now),
            "fail+1" => pace.failed(1, now, now),
            "late-fail" => pace.failed(0, start, now),
            "answer" => pace.answered(),
            _ => match event.split_once('/') {
                Some(("ok", open)) => pace.succeeded(open.parse().unwrap()),
                _ => now += Duration::from_secs(event[1..].parse().unwrap()),
            },
        }
    }
    let mut found = format!("{}", pace.allowed());
    if let Some(until) = pace.down_until(now) {
        found += &format!(" down {}", (until - now).as_secs());
    }
    if pace.failures() > 0 {
        found += &format!(" failures {}", pace.failures());
    }
    assert_eq!(found, expected, "{events}");
}

#[test]
fn it_begins_low_and_grows_by_one_in_a_round() {
    check("", "2");
    check("ok/2", "2");
    check("ok/2 ok/2", "3");
    check("ok/2 ok/2 ok/3 ok/3", "3");
    check("ok/2 ok/2 ok/3 ok/3 ok/3", "4");
    check("ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9 ok/9", "5");
    check("ok/1 ok/1 ok/1 ok/1", "2"); // not used up
}

#[test]
fn strain_halves_it_once_for_what_happened_together() {
    check("ok/2 ok/2 ok/3 ok/3 ok/3 strain", "2");
    check("ok/2 ok/2 ok/3 ok/3 ok/3 strain late-strain late-strain", "2");
    check("ok/2 ok/2 ok/3 ok/3 ok/3 strain strain", "1");
    check("strain strain strain", "1");
    check("strain ok/1", "1"); // two were too many a moment ago
    check("strain ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1", "2");
    check("strain ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/1 ok/2 ok/2", "3"); // forgotten
    check("ok/2 ok/2 ok/3 ok/3 ok/3 strain ok/2 ok/2 ok/3 ok/3 ok/3", "3"); // four were
    check("fail+1", "1");
}

#[test]
fn a_host_without_a_session_is_left_alone_longer_each_time() {
    check("fail", "1 down 60 failures 1");
    check("fail late-fail late-fail", "1 down 59 failures 1"); // one event
    check("fail +61", "1 failures 1");
    check("fail +61 fail", "1 down 120 failures 2");
    check("fail +61 fail +121 fail +241 fail", "1 down 300 failures 4");
    check("fail +61 fail +121 answer", "1");
    check("fail +61 ok/1", "2");
    check("fail +61 answer fail", "1 down 60 failures 1");
}

#[test]
fn leave_says_why_not() {
    let limits = PaceLimits {
        most: 5,
        down_first: Duration::from_secs(60),
        down_longest: Duration::from_secs(300),
    };
    let now = Instant::now();
    let mut pace = Pace::new(limits);
    assert_eq!(pace.leave(1, now), Leave::Granted);
    assert_eq!(pace.leave(2, now), Leave::Full);
    pace.failed(0, now, now);
    let until = now + Duration::from_secs(60);
    assert_eq!(pace.leave(0, now), Leave::Down(until));
    assert_eq!(pace.leave(0, until), Leave::Granted);
    assert_eq!(pace.leave(1, until), Leave::Probing);
    pace.succeeded(1);
    assert_eq!(pace.leave(2, until), Leave::Full);
    let one = Pace::new(PaceLimits { most: 1, ..limits });
    assert_eq!(one.leave(1, now), Leave::Full);
}
