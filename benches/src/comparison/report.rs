//! The tables of a comparison, as Markdown: printed, and kept in `docs/BENCHMARKS.md`.

use std::fmt::Write as _;

use super::contenders::{Contender, Path, Role};
use super::figures::{Pair, Rounds, Spread};
use super::rounds::Outcome;
use super::targets::{Outcomes, Verdict, targets};
use crate::data_set::DataSet;

/// The heading of one path's tables.
#[must_use]
pub fn heading(path: Path) -> String {
    format!("### {}\n\nCPU seconds per {}.\n", path.title(), path.unit())
}

/// The table of one path and data set.
#[must_use]
pub fn table(path: Path, set: DataSet, outcome: &Outcome) -> String {
    let mut text = format!(
        "#### {set} items\n\n| | CPU s/GB | least to most | × its limit | × Highwater | s/GB | peak MB | stored % |\n|---|---|---|---|---|---|---|---|\n"
    );
    let contenders = Contender::on(path);
    for contender in contenders.clone() {
        if let Some(rounds) = outcome.of(contender) {
            text += &row(contender, rounds, outcome);
        }
    }
    for contender in contenders {
        let title = contender.title();
        if outcome.absent.contains(&contender) {
            let _ = writeln!(text, "| {title} | not installed | | | | | | |");
        } else if let Some(why) = outcome.failed.get(&contender) {
            let why = why.replace(['\n', '|'], " ");
            let _ = writeln!(text, "| {title} | failed: {why} | | | | | | |");
        }
    }
    if let Some(server) = server(outcome) {
        let _ = write!(text, "\n{server}\n");
    }
    text
}

fn row(contender: Contender, rounds: &Rounds, outcome: &Outcome) -> String {
    let over = |other: Contender| {
        let other = outcome.of(other)?;
        rounds.over(other).map(|ratio| number(ratio.median))
    };
    let cpu = rounds.cpu_per_gb();
    let limit = contender.limit().and_then(over).unwrap_or_default();
    let ours = contender.same_by_highwater().iter();
    let ours: Vec<String> = ours
        .filter(|ours| **ours != contender)
        .filter_map(|ours| over(*ours))
        .collect();
    let wall = Spread::of(rounds.0.iter().filter_map(Pair::wall_per_gb));
    format!(
        "| {} | {} | {} | {limit} | {} | {} | {} | {} |\n",
        contender.title(),
        cpu.map_or_else(String::new, |cpu| number(cpu.median)),
        cpu.map_or_else(String::new, |cpu| format!(
            "{} – {}",
            number(cpu.least),
            number(cpu.most)
        )),
        ours.join(" · "),
        wall.map_or_else(String::new, |wall| number(wall.median)),
        rounds
            .peak_bytes()
            .map_or_else(String::new, |peak| format!("{:.0}", peak / 1e6)),
        rounds
            .stored_share()
            .map_or_else(String::new, |share| format!("{:.1}", share * 100.0)),
    )
}

/// Three digits, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How fast the server is, beside the fastest that it serves: it must not be what is measured.
fn server(outcome: &Outcome) -> Option<String> {
    let wall = |rounds: &Rounds| {
        let walls = rounds.0.iter().filter_map(Pair::wall_per_gb);
        Spread::of(walls).map(|wall| wall.median)
    };
    let receive = outcome.of(Contender::Receive)?;
    let alone = wall(receive)?;
    let cpu = receive.0.iter().filter_map(Pair::server_cpu_per_gb);
    let cpu = Spread::of(cpu)?.median;
    let others = outcome.rounds.iter();
    let others = others.filter(|(contender, _)| **contender != Contender::Receive);
    let fastest = others.filter_map(|(contender, rounds)| Some((wall(rounds)?, contender)));
    let (fastest, who) = fastest.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!(
        "The server alone, one connection: {:.1} GB/s and {cpu:.2} CPU seconds per GB. The fastest beside it, {}: {:.2} GB/s.",
        1.0 / alone,
        who.title(),
        1.0 / fastest,
    ))
}

/// Every promise with its figure.
#[must_use]
pub fn verdicts(outcomes: &Outcomes) -> String {
    let mut text = String::from("| promise | measured | |\n|---|---|---|\n");
    for (path, set) in outcomes.keys() {
        for target in targets(*path, *set) {
            let (figure, word) = match target.judge(outcomes) {
                Some(Verdict::Passed(figure)) => (target.shown(figure), "passed"),
                Some(Verdict::Missed(figure)) => (target.shown(figure), "**missed**"),
                Some(Verdict::NobodyThere) => (String::new(), "nobody to measure against"),
                Some(Verdict::NoFigure) => (String::new(), "**no figure**"),
                None => continue,
            };
            let _ = writeln!(text, "| {path}, {target} | {figure} | {word} |");
        }
    }
    text
}

/// How many promises the figures break.
#[must_use]
pub fn missed(outcomes: &Outcomes) -> usize {
    let all = outcomes.keys().flat_map(|(path, set)| targets(*path, *set));
    let verdicts = all.filter_map(|target| target.judge(outcomes));
    verdicts.filter(|verdict| verdict.is_missed()).count()
}

/// Where Highwater does not win, as the figures have it.
#[must_use]
pub fn where_we_lose(outcomes: &Outcomes) -> String {
    let mut lines = Vec::new();
    for ((path, set), outcome) in outcomes {
        for target in targets(*path, *set) {
            if let Some(Verdict::Missed(figure)) = target.judge(outcomes) {
                let figure = target.shown(figure);
                lines.push(format!("- {path}, {target}: it is {figure}."));
            }
        }
        lines.extend(beaten(*path, *set, outcome));
    }
    if lines.is_empty() {
        lines.push("- In none of these rows.".to_owned());
    }
    lines.join("\n") + "\n"
}

/// Who needs less CPU or less memory than the row of Highwater that does the same. Limits always do.
fn beaten(path: Path, set: DataSet, outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    for (contender, rounds) in &outcome.rounds {
        if matches!(contender.role(), Role::Limit | Role::Highwater) {
            continue;
        }
        for ours in contender.same_by_highwater() {
            let Some(own) = outcome.of(*ours) else {
                continue;
            };
            let (who, we) = (contender.title(), ours.title());
            if let Some(ratio) = rounds.over(own).filter(|ratio| ratio.median < 1.0) {
                let share = number(ratio.median);
                lines.push(format!(
                    "- {path}, {set}: {who} needs {share} of the CPU of {we}."
                ));
            }
            if let (Some(theirs), Some(peak)) = (rounds.peak_bytes(), own.peak_bytes())
                && theirs < peak
            {
                let (theirs, peak) = (theirs / 1e6, peak / 1e6);
                lines.push(format!(
                    "- {path}, {set}: {who} needs {theirs:.0} MB of memory, {we} {peak:.0} MB."
                ));
            }
        }
    }
    lines
}
