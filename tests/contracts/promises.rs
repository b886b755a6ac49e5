//! `docs/SEMANTICS.md` and the tests that it names.

use std::collections::BTreeSet;
use std::fs;

use highwater_tests::checkout;
use highwater_tests::test_names::tests_in;

/// What stands in backticks and is the name of a test, or with `…` the beginning of some.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| {
        let plain = name.trim_end_matches('…');
        let is_name = plain
            .chars()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
        let words = plain.matches('_').count();
        is_name && (plain != *name || words >= 3)
    })
}

/// Where a promise stands: a paragraph that begins in bold, or a row of a table that does.
fn is_promise(paragraph: &str) -> bool {
    paragraph.starts_with("**") || paragraph.starts_with("| **")
}

/// Paragraphs, and rows of tables each by itself.
fn pieces(text: &str) -> Vec<&str> {
    let paragraphs = text.split("\n\n").map(str::trim);
    let pieces = paragraphs.flat_map(|it| {
        if it.starts_with('|') {
            it.lines().collect()
        } else {
            vec![it]
        }
    });
    pieces.collect()
}

#[test]
fn every_promise_names_tests_that_exist() {
    let sources = checkout::rust_files().unwrap();
    let sources: Vec<String> = sources
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let tests: BTreeSet<&str> = sources.iter().flat_map(|text| tests_in(text)).collect();
    assert!(tests.len() > 1000, "only {} tests were found", tests.len());
    let exists = |name: &str| match name.strip_suffix('…') {
        None => tests.contains(name),
        Some(beginning) => tests.iter().any(|test| test.starts_with(beginning)),
    };
    let text = checkout::text("docs/SEMANTICS.md").unwrap();
    let missing: Vec<&str> = named(&text).filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    let untested: Vec<&str> = pieces(&text)
        .into_iter()
        .filter(|piece| is_promise(piece) && named(piece).next().is_none())
        .collect();
    assert!(
        untested.is_empty(),
        "promises without a test: {untested:#?}"
    );
}

#[test]
fn promises_and_names_are_told_from_other_text() {
    let text = "`no_handoff` and `backup_start_time`: `case_31_…`, `a_line_of_many_words`, `--at`";
    let names: Vec<&str> = named(text).collect();
    assert_eq!(names, ["case_31_…", "a_line_of_many_words"]);
    let text = "**One.** More.\n\nOther.\n\n| a | b |\n|---|---|\n| **two** | b |";
    let promises: Vec<&str> = pieces(text)
        .into_iter()
        .filter(|it| is_promise(it))
        .collect();
    assert_eq!(promises, ["**One.** More.", "| **two** | b |"]);
}
