//! The program itself, as cargo builds it. This test is also why `cargo test --workspace` builds it at
//! all: the end-to-end tests run it under a Runtime API.

use std::process::Command;

fn refuses(environment: &[(&str, &str)], variable: &str) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_consume-stream"));
    program.env_clear().envs(environment.iter().copied());
    let ended = program.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(variable), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn it_refuses_to_start_without_its_control_table_and_names_the_variable() {
    refuses(&[], "HIGHWATER_CONTROL_TABLE");
}

#[test]
fn it_refuses_to_start_without_a_destination_and_names_the_variable() {
    let account = [
        ("HIGHWATER_CONTROL_TABLE", "hw"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    refuses(&account, "HIGHWATER_LOG_TO");
    let mut wrong = account.to_vec();
    wrong.push(("HIGHWATER_LOG_TO", "bucket/prefix"));
    refuses(&wrong, "HIGHWATER_LOG_TO");
}
