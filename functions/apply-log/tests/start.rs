//! The program itself, as cargo builds it. This test is also why `cargo test --workspace` builds it at
//! all: the end-to-end tests run it under a Runtime API.

use std::io;
use std::process::{Command, Output};

fn start(environment: &[(&str, &str)]) -> io::Result<Output> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_apply-log"));
    program.env_clear().envs(environment.iter().copied());
    program.output()
}

#[track_caller]
fn assert_refuses(ended: io::Result<Output>, variable: &str) {
    let Ok(ended) = ended else {
        unreachable!("the program is there, because cargo built it for this test")
    };
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains(variable), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn it_refuses_to_start_without_its_control_table_and_names_the_variable() {
    assert_refuses(start(&[]), "HIGHWATER_CONTROL_TABLE");
}

#[test]
fn it_refuses_to_start_without_a_destination_and_names_the_variable() {
    let account = [
        ("HIGHWATER_CONTROL_TABLE", "hw"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    assert_refuses(start(&account), "HIGHWATER_LOG_TO");
    let mut wrong = account.to_vec();
    wrong.push(("HIGHWATER_LOG_TO", "bucket/prefix"));
    assert_refuses(start(&wrong), "HIGHWATER_LOG_TO");
    let mut unclear = account.to_vec();
    unclear.push(("HIGHWATER_LOG_TO", "s3://bucket/prefix"));
    unclear.push(("HIGHWATER_REPLICAS", "perhaps"));
    assert_refuses(start(&unclear), "HIGHWATER_REPLICAS");
}
