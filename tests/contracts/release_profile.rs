//! A panic must end an invocation and not its sandbox: releases unwind, whatever a build tool would have by default.

use std::fs;

use highwater_tests::checkout;

/// What cargo reads when it is called in a function's folder, as SAM, the CDK and cargo-lambda call it.
const FUNCTIONS: &str = "functions/.cargo/config.toml";

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
    for place in [
        ".cargo/config.toml",
        FUNCTIONS,
        "samconfig.toml",
        "template.yaml",
    ] {
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

#[test]
fn functions_are_built_for_size_and_what_runs_for_every_byte_for_speed() {
    let config = checkout::text(FUNCTIONS).unwrap();
    let release = table(&config, "profile.release");
    assert_eq!(release, ["lto = \"fat\"", "opt-level = \"z\""]);
    for hot in [
        "crc32fast",
        "highwater-domain",
        "md-5",
        "memchr",
        "ring",
        "serde_json",
        "sha2",
        "wide",
        "zlib-rs",
    ] {
        let name = format!("profile.release.package.{hot}");
        assert_eq!(table(&config, &name), ["opt-level = 3"], "{hot}");
    }
    // A name that no package has would be a warning of cargo's that nobody reads.
    let lock = checkout::text("Cargo.lock").unwrap();
    for header in config.lines().filter(|line| line.starts_with('[')) {
        let name = header.trim_matches(['[', ']']);
        let Some(package) = name.strip_prefix("profile.release.package.") else {
            assert!(["env", "profile.release"].contains(&name), "{name}");
            continue;
        };
        let named = format!("\nname = \"{package}\"\n");
        assert!(lock.contains(&named), "{package}");
    }
    // cargo-lambda-cdk builds in the folder of the manifest, as SAM does in that of `CodeUri`.
    let construct = checkout::text("cdk/lib/highwater.ts").unwrap();
    let built = "manifestPath: path.join(ROOT, \"functions\", folder, \"Cargo.toml\")";
    assert!(construct.contains(built));
    // The workspace's own settings count where these say nothing.
    let workspace = checkout::text("Cargo.toml").unwrap();
    assert!(table(&workspace, "profile.release").contains(&"strip = \"symbols\""));
}

#[test]
fn every_function_leaves_the_level_trace_out() {
    for function in checkout::entries("functions").unwrap() {
        let manifest = checkout::text(&format!("functions/{function}/Cargo.toml")).unwrap();
        let shell = "highwater-lambda = { workspace = true, features = [\"without-trace\"] }";
        assert!(manifest.lines().any(|line| line == shell), "{function}");
    }
}

#[test]
fn no_level_of_zstd_is_used_whose_compressor_the_functions_lack() {
    let config = checkout::text(FUNCTIONS).unwrap();
    assert_eq!(config.matches("-DZSTD_EXCLUDE_").count(), 7);
    let mut levels = 0;
    for path in checkout::rust_files().unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        let in_functions = path.starts_with(checkout::path("shared"));
        if !in_functions || !text.contains("zstd::") {
            continue;
        }
        for line in text.lines().filter(|line| line.contains("LEVEL: i32 =")) {
            assert!(line.ends_with("= 1;"), "{}: {line}", path.display());
            levels += 1;
        }
    }
    assert!(
        levels >= 3,
        "{levels} levels: this test looks for them no more"
    );
}
