//! Medians, ratios and the page that is kept.

use std::fmt::Write as _;
use std::time::Duration;

use crate::extra::{Idle, Relayed};
use crate::growth::{Growth, Step};
use crate::peer::{Peer, Subject};
use crate::suite::{Cell, Run, Runs};

/// The median run by rate, with the medians of everything else.
pub(crate) fn median(runs: &[Run]) -> Option<Run> {
    if runs.is_empty() {
        return None;
    }
    let duration = |of: fn(&Run) -> Duration| {
        let mut all: Vec<Duration> = runs.iter().map(of).collect();
        all.sort();
        all[all.len() / 2]
    };
    let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    rates.sort_by(f64::total_cmp);
    Some(Run {
        rate: rates[rates.len() / 2],
        cpu: duration(|run| run.cpu),
        median: duration(|run| run.median),
        p99: duration(|run| run.p99),
        most: duration(|run| run.most),
        failed: runs.iter().map(|run| run.failed).sum(),
    })
}

/// A table for each cell: every subject, and how it compares with ours without policies.
pub(crate) fn tables(cells: &[Cell], subjects: &[Subject], runs: &Runs) -> String {
    let mut page = String::new();
    for cell in cells {
        let of =
            |subject: &Subject| runs.get(&(*cell, subject.clone())).and_then(|runs| median(runs));
        let ours = of(&Subject::new(Peer::Gatepost, 0));
        let _ = writeln!(page, "\n### {cell}\n");
        page += "| server | accepted/s | ours is | lowest to highest | CPU per message | p50 | p99 | longest | failed |\n";
        page += "|---|---|---|---|---|---|---|---|---|\n";
        for subject in subjects {
            let Some(run) = of(subject) else { continue };
            let ratio = ours.as_ref().map_or_else(String::new, |ours| times(ours.rate / run.rate));
            let rates =
                runs.get(&(*cell, subject.clone())).into_iter().flatten().map(|run| run.rate);
            let (low, high) = rates
                .fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(rate), high.max(rate)));
            let _ = writeln!(
                page,
                "| {} | {:.0} | {ratio} | {low:.0} to {high:.0} | {:.3} ms | {} | {} | {} | {} |",
                subject.name(),
                run.rate,
                run.cpu.as_secs_f64() * 1e3,
                millis(run.median),
                millis(run.p99),
                millis(run.most),
                run.failed,
            );
        }
    }
    page
}

/// What relaying costs.
pub(crate) fn relays(relayed: &[(Peer, Relayed)]) -> String {
    let mut page = String::from(
        "\n### Relayed to one next host, 1 KB, 20 sessions in\n\n\
         | server | relayed/s | CPU per message | drain after the last 250 | missing |\n|---|---|---|---|---|\n",
    );
    for (peer, one) in relayed {
        let _ = writeln!(
            page,
            "| {} | {:.0} | {:.3} ms | {} | {} |",
            peer.name(),
            one.rate,
            one.cpu.as_secs_f64() * 1e3,
            millis(one.drain),
            one.missing
        );
    }
    page
}

/// What Postfix's load generator says.
pub(crate) fn sources(rates: &[(Subject, f64)]) -> String {
    let mut page = String::from(
        "\n### The same by Postfix's `smtp-source -d -l 1024 -s 20`, its start included\n\n\
         | server | messages/s | ours is |\n|---|---|---|\n",
    );
    let ours =
        rates.iter().find(|(subject, _)| subject.peer == Peer::Gatepost).map(|(_, rate)| *rate);
    for (subject, rate) in rates {
        let ratio = ours.map_or_else(String::new, |ours| times(ours / rate));
        let _ = writeln!(page, "| {} | {rate:.0} | {ratio} |", subject.name());
    }
    page
}

/// How our cost grows.
pub(crate) fn growths(grown: &[Growth]) -> String {
    let mut page = String::from("\n## How the cost grows\n\n![CPU by what grows](growth.svg)\n");
    for growth in grown {
        let _ = writeln!(
            page,
            "\n| {} | accepted/s | CPU per message | p50 | p99 | memory at the end | failed |\n|---|---|---|---|---|---|---|",
            growth.name
        );
        for Step { size, run, memory } in &growth.steps {
            let _ = writeln!(
                page,
                "| {size} | {:.0} | {:.3} ms | {} | {} | {} MB | {} |",
                run.rate,
                run.cpu.as_secs_f64() * 1e3,
                millis(run.median),
                millis(run.p99),
                memory >> 20,
                run.failed
            );
        }
    }
    page
}

/// What idle sessions cost.
pub(crate) fn idles(idles: &[(Subject, Idle)]) -> String {
    let mut page = String::from(
        "\n### Memory of idle sessions, after EHLO\n\n| server | before | for each session |\n|---|---|---|\n",
    );
    for (subject, idle) in idles {
        let each: Vec<String> = idle
            .sessions
            .iter()
            .map(|(count, octets)| format!("{:.1} KB at {count}", octets / 1024.0))
            .collect();
        let base = idle.base as f64 / f64::from(1 << 20);
        let _ = writeln!(page, "| {} | {base:.0} MB | {} |", subject.name(), each.join(", "));
    }
    page
}

/// How long a start takes.
pub(crate) fn starts(starts: &[(Subject, Duration)]) -> String {
    let mut page =
        String::from("\n### From start to the first 220\n\n| server | time |\n|---|---|\n");
    for (subject, time) in starts {
        let _ = writeln!(page, "| {} | {} |", subject.name(), millis(*time));
    }
    page
}

/// Latency at rates that do not wait.
pub(crate) fn open_loads(loads: &[(Subject, Vec<(f64, Run)>)]) -> String {
    let mut page = String::from(
        "\n### Open load: messages come when they are due, 50 sessions, 1 KB\n\n\
         | server | due/s | accepted/s | p50 | p99 | longest |\n|---|---|---|---|---|---|\n",
    );
    for (subject, runs) in loads {
        for (rate, run) in runs {
            let _ = writeln!(
                page,
                "| {} | {rate:.0} | {:.0} | {} | {} | {} |",
                subject.name(),
                run.rate,
                millis(run.median),
                millis(run.p99),
                millis(run.most)
            );
        }
    }
    page
}

fn times(ratio: f64) -> String {
    if (ratio - 1.0).abs() < 1e-9 { "1".to_owned() } else { format!("{ratio:.2} times it") }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rate: f64, millis: u64) -> Run {
        let time = Duration::from_millis(millis);
        Run { rate, cpu: time, median: time, p99: time, most: time, failed: 1 }
    }

    #[test]
    fn the_median_of_each_column_stands_for_all_runs() {
        let all = median(&[run(3.0, 1), run(1.0, 2), run(2.0, 9)]).unwrap();
        assert_eq!((all.rate, all.p99, all.failed), (2.0, Duration::from_millis(2), 3));
        assert!(median(&[]).is_none());
    }
}
