//! What no compiler holds together: names that are written in two files, arrows between crates, sizes.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "an integration test is tests all over, its shared parts included"
)]

mod contracts {
    mod architecture;
    mod error_names;
    mod function_names;
    mod metrics;
    mod payloads;
    mod permissions;
    mod promises;
    mod release_profile;
    mod sample_events;
    mod template;
}
