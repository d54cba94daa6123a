//! Who gets a report: of those whom a record names the ones that want it (RFC 9990 §4).

use net::{DnsError, Kind, Record as DnsRecord, Resolver};

use crate::dmarc::{Alignment, Record, ReportAddress, Walker};
use crate::name;
use crate::verify::Discovery;

/// The addresses to which a report about `domain` may go, each with the octets that it may have there. An address outside
/// the organization counts only if its domain says so in the DNS: else everybody could send anybody our reports.
///
/// # Errors
/// When the DNS does not answer: then ask again later.
pub async fn destinations(
    resolver: &Resolver,
    discovery: Discovery,
    domain: &str,
    organization: &str,
    wanted: &[(String, Option<u64>)],
) -> Result<Vec<(String, Option<u64>)>, DnsError> {
    let walker = Walker::new(resolver, discovery);
    let mut found: Vec<(String, Option<u64>)> = Vec::new();
    for (uri, largest) in wanted {
        let Some((address, host)) = mailbox(uri) else { continue };
        let internal = walker.aligns(&host, "", organization, Alignment::Relaxed).await?;
        let allowed = if internal {
            vec![(address, *largest)]
        } else {
            external(resolver, domain, (&address, *largest), &host).await?
        };
        for one in allowed {
            if !found.iter().any(|(address, _)| *address == one.0) {
                found.push(one);
            }
        }
    }
    Ok(found)
}

/// RFC 9990 §4 steps 2 to 9.
async fn external(
    resolver: &Resolver,
    domain: &str,
    (address, largest): (&str, Option<u64>),
    host: &str,
) -> Result<Vec<(String, Option<u64>)>, DnsError> {
    let name = format!("{domain}._report._dmarc.{host}");
    // Step 4: of a name that is too long nothing is known.
    if name.len() > LONGEST_NAME {
        return Ok(Vec::new());
    }
    let answer = match resolver.lookup(&name, Kind::Txt).await {
        Ok(answer) => answer,
        Err(DnsError::Invalid(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let texts: Vec<&Vec<u8>> = answer
        .records
        .iter()
        .filter_map(|record| match record {
            DnsRecord::Txt(text) if Record::is_dmarc(text) => Some(text),
            _ => None,
        })
        .collect();
    // Step 9: another address at the same host may be named instead.
    let instead = texts.iter().filter_map(|text| Record::parse(text));
    let instead = instead.flat_map(|record| record.aggregate_reports);
    let instead: Vec<(String, Option<u64>)> = instead
        .filter_map(|ReportAddress { uri, largest }| {
            mailbox(&uri).filter(|(_, other)| other == host).map(|(address, _)| (address, largest))
        })
        .collect();
    Ok(match (texts.is_empty(), instead.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => vec![(address.to_owned(), largest)],
        (false, false) => instead,
    })
}

/// The address in a `mailto:` URI (RFC 6068 §2), and its domain. One address, no header fields.
fn mailbox(uri: &str) -> Option<(String, String)> {
    let (scheme, rest) = uri.split_once(':')?;
    let address = rest.split('?').next()?;
    let address = percent_decoded(address)?;
    let (local, domain) = address.rsplit_once('@')?;
    let host = name::canonical(domain)?;
    let plain =
        address.bytes().all(|octet| octet.is_ascii_graphic() && !b"<>,;\"\\".contains(&octet));
    let valid = scheme.eq_ignore_ascii_case("mailto") && plain && !local.is_empty();
    valid.then(|| (format!("{local}@{host}"), host))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            out.push(octet);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

/// RFC 1035 §2.3.4 without the length octets of the first label and the root.
const LONGEST_NAME: usize = 253;

#[cfg(test)]
mod tests {
    use net::Record;

    use super::*;
    use crate::corpora::{World, runtime};

    #[test]
    fn addresses_outside_must_want_reports() {
        let mut world = World::default();
        world.txt("example.org._report._dmarc.reports.example", "v=DMARC1;");
        world.txt(
            "example.org._report._dmarc.other.example",
            "v=DMARC1; rua=mailto:here@other.example,mailto:x@victim.example",
        );
        world.txt("example.org._report._dmarc.wrong.example", "v=spf1 -all");
        world.add("example.org._report._dmarc.a.example", Kind::A, Record::A([1, 2, 3, 4].into()));
        world.txt("_dmarc.example.org", "v=DMARC1; p=none");
        world.txt("_dmarc.apart.example.org", "v=DMARC1; p=none; psd=n");
        world.fail("example.org._report._dmarc.silent.example", None, "TIMEOUT");
        let ask = |wanted: &str| {
            let wanted = [(wanted.to_owned(), Some(7))];
            let resolver = world.resolver();
            let found =
                destinations(&resolver, Discovery::TreeWalk, "example.org", "example.org", &wanted);
            runtime().block_on(found)
        };
        let check = |wanted: &str, expected: &[(&str, Option<u64>)]| {
            let expected: Vec<_> =
                expected.iter().map(|(to, most)| ((*to).to_owned(), *most)).collect();
            assert_eq!(ask(wanted).unwrap(), expected, "{wanted}");
        };
        check("mailto:dmarc@example.org", &[("dmarc@example.org", Some(7))]);
        check("mailto:dmarc@mail.example.org", &[("dmarc@mail.example.org", Some(7))]);
        check("mailto:a@apart.example.org", &[]); // another organization, which says nothing
        check("mailto:a%2Bb@reports.example", &[("a+b@reports.example", Some(7))]);
        check("MAILTO:a@Reports.Example?subject=x", &[("a@reports.example", Some(7))]);
        check("mailto:a@other.example", &[("here@other.example", None)]); // RFC 9990 §4 step 9
        check("mailto:a@wrong.example", &[]);
        check("mailto:a@a.example", &[]);
        check("mailto:a@nobody.example", &[]);
        check("https://example.org/", &[]);
        check("mailto:a%0d%0ab@example.org", &[]);
        check("mailto:%f@example.org", &[]);
        assert!(ask("mailto:a@silent.example").is_err());
    }
}
