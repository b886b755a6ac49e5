//! A panic must end an invocation and not its sandbox: releases unwind, whatever a build tool would have by default.

use highwater_tests::checkout;

/// The lines of one table of a manifest, without comments.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let header = format!("[{name}]");
    let mut lines = manifest.lines().map(str::trim);
    lines.find(|line| *line == header);
    let own = lines.take_while(|line| !line.starts_with('['));
    own.filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn a_release_unwinds_and_says_so_itself() {
    // A tool that sets `panic` where the manifest is silent leaves it alone where the manifest speaks.
    let workspace = checkout::text("Cargo.toml").unwrap();
    assert!(table(&workspace, "profile.release").contains(&"panic = \"unwind\""));
    let mut manifests = vec![("Cargo.toml".to_owned(), workspace)];
    for function in checkout::entries("functions").unwrap() {
        let path = format!("functions/{function}/Cargo.toml");
        let text = checkout::text(&path).unwrap();
        assert!(
            !text.contains("[profile"),
            "{path}: profiles are the workspace's"
        );
        manifests.push((path, text));
    }
    for place in [".cargo/config.toml", "samconfig.toml", "template.yaml"] {
        if let Ok(text) = checkout::text(place) {
            manifests.push((place.to_owned(), text));
        }
    }
    for (path, text) in manifests {
        for word in ["panic = \"abort\"", "panic=abort", "panic-abort"] {
            assert!(!text.contains(word), "{path}: {word}");
        }
    }
}
