//! From observations to one report for each policy domain.

use std::collections::{BTreeMap, HashMap};

use super::{Observation, Published, Report, Row};

/// Adds observations up. What it holds is bounded: by domains, and by rows of each.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    domains: BTreeMap<String, Gathered>,
    /// Messages that are in no report, because there were too many domains.
    pub left_out: u64,
}

/// What was seen of one policy domain.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    published: Published,
    /// The organization of the domain.
    pub organization: String,
    /// Where reports go, and how many octets they may have there.
    pub to: Vec<(String, Option<u64>)>,
    rows: HashMap<Row, u64>,
    left_out: u64,
}

impl Collector {
    /// Adds one message.
    pub fn add(&mut self, seen: Observation) {
        if self.domains.len() >= MOST_DOMAINS && !self.domains.contains_key(&seen.published.domain)
        {
            self.left_out += 1;
            return;
        }
        let gathered = self.domains.entry(seen.published.domain.clone()).or_default();
        // RFC 9990 §3.3: of several policies in one span the last one is told.
        gathered.published = seen.published;
        gathered.organization = seen.organization;
        gathered.to = seen.to;
        if gathered.rows.len() >= MOST_ROWS && !gathered.rows.contains_key(&seen.row) {
            gathered.left_out += 1;
            return;
        }
        *gathered.rows.entry(seen.row).or_default() += 1;
    }

    /// The policy domains with what was seen of each.
    pub fn domains(&self) -> impl Iterator<Item = (&str, &Gathered)> {
        self.domains.iter().map(|(domain, gathered)| (domain.as_str(), gathered))
    }
}

impl Gathered {
    /// Messages that were seen.
    pub fn messages(&self) -> u64 {
        self.rows.values().sum::<u64>() + self.left_out
    }

    /// The report about it. `id` is the same each time that it is made of the same (RFC 9990 §3.5.2).
    pub fn report(&self, reporter: &str, email: &str, id: String, span: (u64, u64)) -> Report {
        let mut rows: Vec<(Row, u64)> =
            self.rows.iter().map(|(row, count)| (row.clone(), *count)).collect();
        // In an order, so that a report that is made again is the same.
        rows.sort_by(|(a, m), (b, n)| {
            (n, a.source, &a.header_from)
                .cmp(&(m, b.source, &b.header_from))
                .then_with(|| format!("{a:?}").cmp(&format!("{b:?}")))
        });
        let errors = (self.left_out > 0).then(|| {
            format!("{} messages are in no record: there were too many sources", self.left_out)
        });
        Report {
            reporter: reporter.to_owned(),
            email: email.to_owned(),
            id,
            begin: span.0,
            end: span.1,
            errors: errors.into_iter().collect(),
            published: self.published.clone(),
            rows,
        }
    }
}

/// As many domains are reported about in one span.
const MOST_DOMAINS: usize = 20_000;

/// As many different rows has a report: some megabytes, which compress to a hundredth.
const MOST_ROWS: usize = 10_000;
