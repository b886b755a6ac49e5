//! The program itself, as cargo builds it. This test is also why `cargo test --workspace` builds it at
//! all: the end-to-end tests run it under a Runtime API.

use std::process::Command;

#[test]
fn it_refuses_to_start_without_its_control_table_and_names_the_variable() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fold-log"));
    let ended = program.env_clear().output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("HIGHWATER_CONTROL_TABLE"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
