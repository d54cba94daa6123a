//! A report as XML (RFC 9990 Appendix A).

use std::fmt::Display;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use super::{Published, Report, Row};

type Result = std::io::Result<()>;

impl Report {
    /// The report as an XML file.
    pub fn to_xml(&self) -> Vec<u8> {
        let mut out = Xml(Writer::new_with_indent(Vec::new(), b' ', 1));
        // Writing to memory does not fail.
        let _ = self.write(&mut out);
        out.0.into_inner()
    }

    fn write(&self, out: &mut Xml) -> Result {
        out.0.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let feedback = BytesStart::new("feedback").with_attributes([("xmlns", NAMESPACE)]);
        out.0.write_event(Event::Start(feedback))?;
        out.leaf("version", "1.0")?;
        out.group("report_metadata", |out| {
            out.leaf("org_name", &self.reporter)?;
            out.leaf("email", &self.email)?;
            out.leaf("report_id", &self.id)?;
            out.group("date_range", |out| {
                out.leaf("begin", self.begin)?;
                out.leaf("end", self.end)
            })?;
            for error in &self.errors {
                out.leaf("error", error)?;
            }
            out.leaf("generator", concat!("Gatepost ", env!("CARGO_PKG_VERSION")))
        })?;
        out.group("policy_published", |out| published(out, &self.published))?;
        for (row, count) in &self.rows {
            out.group("record", |out| record(out, row, *count))?;
        }
        out.0.write_event(Event::End(BytesEnd::new("feedback")))
    }
}

fn published(out: &mut Xml, published: &Published) -> Result {
    out.leaf("domain", &published.domain)?;
    out.optional("discovery_method", published.discovery.as_ref())?;
    out.leaf("p", &published.policy)?;
    out.optional("sp", published.subdomain_policy.as_ref())?;
    out.optional("np", published.nonexistent_policy.as_ref())?;
    out.optional("fo", published.failure_options.as_ref())?;
    out.optional("adkim", published.adkim.as_ref())?;
    out.optional("aspf", published.aspf.as_ref())?;
    out.optional("testing", published.testing.map(|testing| if testing { "y" } else { "n" }))
}

fn record(out: &mut Xml, row: &Row, count: u64) -> Result {
    let word = |aligned: bool| if aligned { "pass" } else { "fail" };
    out.group("row", |out| {
        out.leaf("source_ip", row.source)?;
        out.leaf("count", count)?;
        out.group("policy_evaluated", |out| {
            out.leaf("disposition", row.disposition.as_str())?;
            out.leaf("dkim", word(row.dkim_aligned))?;
            out.leaf("spf", word(row.spf_aligned))?;
            for reason in &row.reasons {
                out.group("reason", |out| {
                    out.leaf("type", &reason.kind)?;
                    let comment = Some(&reason.comment).filter(|comment| !comment.is_empty());
                    out.optional("comment", comment)
                })?;
            }
            Ok(())
        })
    })?;
    out.group("identifiers", |out| {
        out.leaf("header_from", &row.header_from)?;
        out.optional("envelope_from", row.envelope_from.as_ref())?;
        out.optional("envelope_to", row.envelope_to.as_ref())
    })?;
    out.group("auth_results", |out| {
        for signature in &row.dkim {
            out.group("dkim", |out| {
                out.leaf("domain", &signature.domain)?;
                out.leaf("selector", &signature.selector)?;
                out.leaf("result", &signature.result)
            })?;
        }
        let Some((domain, result)) = &row.spf else { return Ok(()) };
        out.group("spf", |out| {
            out.leaf("domain", domain)?;
            // RFC 9990 §3.1.1.13: only the reverse-path counts in DMARC.
            out.leaf("scope", "mfrom")?;
            out.leaf("result", result)
        })
    })
}

struct Xml(Writer<Vec<u8>>);

impl Xml {
    fn leaf(&mut self, name: &str, text: impl Display) -> Result {
        self.0.write_event(Event::Start(BytesStart::new(name)))?;
        // What XML 1.0 §2.2 has no way to write is left out; strangers choose some of these words.
        let text: String = text.to_string().chars().filter(|c| !c.is_control()).collect();
        self.0.write_event(Event::Text(BytesText::new(&text)))?;
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }

    fn optional(&mut self, name: &str, text: Option<impl Display>) -> Result {
        text.map_or(Ok(()), |text| self.leaf(name, text))
    }

    fn group(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> Result) -> Result {
        self.0.write_event(Event::Start(BytesStart::new(name)))?;
        inside(self)?;
        self.0.write_event(Event::End(BytesEnd::new(name)))
    }
}

/// RFC 9990 Appendix A.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:dmarc-2.0";
