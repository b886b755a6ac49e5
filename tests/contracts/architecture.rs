//! The house as absences: who may not know whom, and which files must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use highwater_tests::checkout;

/// The names in one table of a manifest: `name.workspace = true`, `name = { … }`.
fn dependencies(manifest: &str, table: &str) -> BTreeSet<String> {
    let header = format!("[{table}]");
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            assert!(
                !line.starts_with(&format!("[{table}.")) && !line.contains(".dependencies"),
                "{line}: this test reads dependencies from one plain table"
            );
            inside = line == header;
        } else if let Some((name, _)) = line
            .split_once('=')
            .filter(|_| inside && !line.starts_with('#'))
        {
            let name = name.trim().trim_end_matches(".workspace");
            names.insert(name.to_owned());
        }
    }
    names
}

fn crates() -> BTreeMap<String, String> {
    let mut folders = vec!["cli".to_owned()];
    for parent in ["shared", "functions"] {
        let children = checkout::entries(parent).unwrap();
        folders.extend(
            children
                .into_iter()
                .map(|child| format!("{parent}/{child}")),
        );
    }
    let read = |folder: String| {
        let manifest = checkout::text(&format!("{folder}/Cargo.toml")).unwrap();
        (folder, manifest)
    };
    folders.into_iter().map(read).collect()
}

#[test]
fn only_kv_and_aws_name_an_aws_sdk() {
    for (folder, manifest) in crates() {
        let sdks: Vec<String> = dependencies(&manifest, "dependencies")
            .into_iter()
            .filter(|name| name.starts_with("aws-sdk-"))
            .collect();
        // testkit drives services in tests and is never shipped.
        let may = ["shared/kv", "shared/aws", "shared/testkit"].contains(&folder.as_str());
        assert_eq!(!sdks.is_empty(), may, "{folder}: {sdks:?}");
    }
}

#[test]
fn the_core_names_nothing_of_aws_and_the_steps_nothing_below_the_ports() {
    for (folder, manifest) in crates() {
        if !["shared/domain", "shared/steps", "shared/asl"].contains(&folder.as_str()) {
            continue;
        }
        let outside = dependencies(&manifest, "dependencies")
            .into_iter()
            .find(|name| {
                name.starts_with("aws-")
                    || name.contains("lambda")
                    || name == "serde_dynamo"
                    || name.starts_with("hyper")
            });
        assert_eq!(outside, None, "{folder}");
    }
    let domain = dependencies(&crates()["shared/domain"], "dependencies");
    assert!(!domain.contains("tokio"), "the core has no runtime");
}

#[test]
fn no_arrow_points_up() {
    let below: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("shared/domain", &[][..]),
        ("shared/kv", &[]),
        ("shared/lease", &["domain", "kv"]),
        ("shared/asl", &[]),
        ("shared/crc-fast", &[]),
        ("shared/steps", &["domain", "lease"]),
        ("shared/local", &["domain"]),
        // The simulator is a table of leases too, whose port fails as kv does.
        ("shared/testkit", &["domain", "kv", "lease"]),
        ("shared/aws", &["domain", "kv"]),
        ("shared/lambda", &["domain", "kv", "lease", "aws", "steps"]),
        ("shared/source", &["domain", "kv", "lease", "aws", "steps"]),
        (
            "cli",
            &["domain", "lease", "asl", "aws", "steps", "lambda", "local"],
        ),
    ]);
    for (folder, manifest) in crates() {
        let used = dependencies(&manifest, "dependencies");
        let used: BTreeSet<&str> = used
            .iter()
            .filter_map(|name| name.strip_prefix("highwater-"))
            .collect();
        let allowed = if folder.starts_with("functions/") {
            &["lambda", "steps"][..]
        } else {
            below
                .get(folder.as_str())
                .unwrap_or_else(|| panic!("{folder} has no floor in this house yet"))
        };
        let up: Vec<&&str> = used.iter().filter(|name| !allowed.contains(name)).collect();
        assert!(up.is_empty(), "{folder} must not know {up:?}");
    }
}

#[test]
fn a_function_depends_on_its_shell_its_step_and_the_runtime_only() {
    let expected = ["highwater-lambda", "highwater-steps", "tokio"].map(str::to_owned);
    for (folder, manifest) in crates() {
        if folder.starts_with("functions/") {
            assert_eq!(
                dependencies(&manifest, "dependencies"),
                BTreeSet::from(expected.clone()),
                "{folder}"
            );
        }
    }
}

/// A file of tests only: its length is the number of its cases.
fn is_tests_only(path: &Path) -> bool {
    let parts: Vec<_> = path
        .strip_prefix(checkout::path(""))
        .unwrap()
        .iter()
        .collect();
    let in_tests_folder = parts.iter().any(|part| *part == "tests")
        && !parts.starts_with(&["tests".as_ref(), "src".as_ref()]);
    in_tests_folder || path.file_name().is_some_and(|name| name == "tests.rs")
}

#[test]
fn no_file_is_longer_than_400_lines_before_its_tests() {
    let long: Vec<String> = checkout::rust_files()
        .unwrap()
        .into_iter()
        .filter(|path| !is_tests_only(path))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .count();
            (lines > 400).then(|| format!("{}: {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_file_or_module_has_a_name_that_says_nothing() {
    let says_nothing = |name: &str| {
        let words = [
            "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers",
        ];
        name.split('_').any(|word| words.contains(&word))
    };
    for path in checkout::rust_files().unwrap() {
        let named = path
            .strip_prefix(checkout::path(""))
            .unwrap()
            .with_extension("");
        for part in &named {
            assert!(!says_nothing(&part.to_string_lossy()), "{}", path.display());
        }
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            let words: Vec<&str> = line.trim_start().split([' ', ';', '{']).collect();
            let module = words
                .iter()
                .position(|word| *word == "mod")
                .filter(|at| *at <= 1);
            let name = module.and_then(|at| words.get(at + 1));
            assert!(
                !name.is_some_and(|name| says_nothing(name)),
                "{}: {line}",
                path.display()
            );
        }
    }
}
