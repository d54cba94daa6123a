//! The date-time of RFC 5322 §3.3.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;

/// "Sat, 21 Nov 2026 22:00:00 +0000". Always UTC: a server's own zone is of no use to anybody else.
pub fn rfc5322(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).unwrap_or_default();
    let time = TimeZone::UTC.to_datetime(timestamp);
    let weekday = WEEKDAYS[time.weekday().to_monday_zero_offset() as usize % 7];
    let month = MONTHS[(time.month() as usize - 1) % 12];
    let (Ok(year @ 0..=9999), day) = (u16::try_from(time.year()), time.day() as u16) else {
        return EPOCH.to_owned();
    };
    // By hand, because it is written for each message: jiff's printer takes twenty times as long.
    let mut text = String::with_capacity(EPOCH.len() + 1);
    text.push_str(weekday);
    text.push_str(", ");
    push(&mut text, day, if day < 10 { 1 } else { 2 });
    text.push(' ');
    text.push_str(month);
    for (before, number, digits) in [
        (' ', year, 4),
        (' ', time.hour() as u16, 2),
        (':', time.minute() as u16, 2),
        (':', time.second() as u16, 2),
    ] {
        text.push(before);
        push(&mut text, number, digits);
    }
    // RFC 5322 §3.3: "+0000" is universal time, "-0000" would say that nothing is known of the local zone.
    text.push_str(" +0000");
    text
}

fn push(text: &mut String, number: u16, digits: u32) {
    for place in (0..digits).rev() {
        text.push(char::from(b'0' + (number / 10_u16.pow(place) % 10) as u8));
    }
}

/// Reads a date-time, obsolete forms (§4.3) and comments included.
pub fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    if text.len() > LONGEST {
        return None;
    }
    DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok().map(SystemTime::from)
}

/// No date-time needs more, comments included; what is longer is not looked at.
const LONGEST: usize = 256;

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// What stands for a time that cannot be written: years beyond 9999.
const EPOCH: &str = "Thu, 1 Jan 1970 00:00:00 +0000";

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn times_are_written_in_universal_time() {
        let check = |seconds, expected: &str| {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(rfc5322(time), expected);
            assert_eq!(parse(expected), Some(time));
        };
        check(0, "Thu, 1 Jan 1970 00:00:00 +0000");
        check(1_795_298_400, "Sat, 21 Nov 2026 22:00:00 +0000");
        check(951_868_799, "Tue, 29 Feb 2000 23:59:59 +0000");
        check(253_370_764_800, "Fri, 1 Jan 9999 00:00:00 +0000");
        assert_eq!(rfc5322(UNIX_EPOCH + Duration::from_secs(1 << 60)), EPOCH);
    }

    #[test]
    fn dates_of_other_servers_are_read() {
        let check = |text: &str, expected: Option<u64>| {
            let seconds =
                parse(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(seconds, expected, "{text}");
        };
        check("Fri, 21 Nov 1997 09:55:06 -0600", Some(880_127_706)); // RFC 5322 appendix A.1
        check("21 Nov 97 09:55:06 GMT", Some(880_106_106)); // §4.3
        check("Sat, 21 Nov 2026 22:00:00 +0000 (UTC)", Some(1_795_298_400));
        check("Mon, 21 Nov 2026 22:00 +0000", Some(1_795_298_400)); // a wrong weekday, no seconds
        check("yesterday", None);
        check("", None);
        check(&"(".repeat(1_000_000), None);
        check(&format!("Sat, 21 Nov 2026 22:00:00 +0000 {}", "(".repeat(200)), None);
    }

    #[test]
    fn there_was_time_before_1970() {
        assert!(parse("Thu, 13 Feb 1969 23:32:54 -0330").unwrap() < UNIX_EPOCH); // RFC 5322 appendix A.5
    }
}
