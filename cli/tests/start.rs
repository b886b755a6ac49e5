//! The program itself, as cargo builds it. This test is also why `cargo test --workspace` builds it at
//! all: the end-to-end tests run it.

use std::process::Command;

#[test]
fn it_says_which_version_it_is() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let ended = program.env_clear().arg("--version").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(
        said.trim_end(),
        concat!("highwater ", env!("CARGO_PKG_VERSION"))
    );
    assert!(ended.status.success());
}
