//! The laws of [`Executions`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use highwater_domain::budget::Clock;
use highwater_domain::executions::{ExecutionState, ExecutionStatus, Executions, Start};
use highwater_domain::failure::FailureKind;
use highwater_domain::ids::UnixMillis;
use serde_json::Value;

use crate::fake_executions::{Failed, FakeExecutions, Run};

/// Whatever it is given, it gives back.
pub const ECHO: &str = "conformance-echo";
/// It fails with `Boom`.
pub const FAILS: &str = "conformance-fails";
/// It runs until it is stopped.
pub const WAITS: &str = "conformance-waits";

const TAGS: [(&str, &str); 2] = [("highwater:to", "s3://bkt/any prefix"), ("other", "")];

/// The machines that the laws need, in pages of two.
pub fn deploy(account: &FakeExecutions) {
    let echo: Run = Arc::new(|begun| Box::pin(async { Ok(begun.input) }));
    let fails: Run = Arc::new(|_| {
        Box::pin(async {
            Err(Failed {
                error: "Boom".into(),
                cause: "{\"errorMessage\":\"it broke\"}".into(),
            })
        })
    });
    let waits: Run = Arc::new(|_| Box::pin(std::future::pending::<Result<Value, Failed>>()));
    account.deploy(ECHO, &TAGS, echo);
    account.deploy(FAILS, &[], fails);
    account.deploy(WAITS, &[], Arc::clone(&waits));
    for other in 0..4 {
        account.deploy(
            &format!("conformance-other-{other}"),
            &[],
            Arc::clone(&waits),
        );
    }
    account.paged(2);
}

/// Runs every law on an account with the machines of [`deploy`]. `clock` is the account's.
pub async fn every_law(executions: &dyn Executions, clock: &dyn Clock) {
    machines_are_listed_page_by_page(executions).await;
    tags_come_back(executions).await;
    an_execution_keeps_its_moment_and_its_input(executions, clock).await;
    a_name_starts_one_execution(executions).await;
    a_failure_tells_its_name_and_cause(executions).await;
    what_is_stopped_is_not_at_work(executions).await;
    running_ones_are_listed_page_by_page(executions).await;
    what_is_not_there_is_told_so(executions).await;
}

async fn arn_of(executions: &dyn Executions, name: &str) -> String {
    let mut after = None;
    loop {
        let page = executions.machines(after.as_deref()).await.unwrap();
        if let Some(machine) = page.found.into_iter().find(|it| it.name == name) {
            return machine.arn;
        }
        after = page.next;
        assert_ne!(after, None, "{name} is not listed");
    }
}

async fn started(executions: &dyn Executions, machine: &str, name: &str, input: &str) -> String {
    match executions.start(machine, name, input).await.unwrap() {
        Start::Started { arn, .. } => arn,
        Start::NameTaken => panic!("{name} is new"),
    }
}

async fn state(executions: &dyn Executions, arn: &str) -> ExecutionState {
    executions
        .describe(arn)
        .await
        .unwrap()
        .expect("it was started")
}

async fn ended(executions: &dyn Executions, arn: &str) -> ExecutionState {
    for _ in 0..500 {
        let state = state(executions, arn).await;
        if state.status.has_ended() {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{arn} does not end");
}

/// Every machine is on one page.
pub async fn machines_are_listed_page_by_page(executions: &dyn Executions) {
    let (mut names, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = executions.machines(after.as_deref()).await.unwrap();
        names.extend(page.found.into_iter().map(|machine| machine.name));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let once: BTreeSet<&String> = names.iter().collect();
    assert_eq!(once.len(), names.len(), "a machine is listed twice");
    assert!(pages > 1, "the laws are for more than one page");
    for name in [ECHO, FAILS, WAITS] {
        assert!(names.iter().any(|it| it == name), "{name}: {names:?}");
    }
}

/// Tags come back as they were set, empty values included.
pub async fn tags_come_back(executions: &dyn Executions) {
    let tags = executions.tags(&arn_of(executions, ECHO).await).await;
    let expected = TAGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(tags.unwrap(), expected.into());
    let none = executions.tags(&arn_of(executions, WAITS).await).await;
    assert!(none.unwrap().is_empty());
}

/// The moment of the start is one, to the millisecond, whoever tells it: ids are made of it.
pub async fn an_execution_keeps_its_moment_and_its_input(
    executions: &dyn Executions,
    clock: &dyn Clock,
) {
    let machine = arn_of(executions, WAITS).await;
    let input = "{\"b\": 1.50,  \"a\": \"ü\"}";
    // Of many moments, some are not exact as binary fractions.
    for number in 0..20 {
        let name = format!("moment-{number}");
        let before = clock.now();
        let begun = executions.start(&machine, &name, input).await.unwrap();
        let after = clock.now();
        let Start::Started { arn, started_at } = begun else {
            panic!("{name} is new")
        };
        assert!((before..=after).contains(&started_at), "{started_at:?}");
        let state = state(executions, &arn).await;
        assert_eq!(state.started_at, started_at);
        assert_eq!(state.input.as_deref(), Some(input), "byte for byte");
        assert_eq!((state.name, state.machine_arn), (name, machine.clone()));
        assert_eq!(
            (state.status, state.stopped_at),
            (ExecutionStatus::Running, None)
        );
        executions.stop(&arn, "Done", "with it").await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// The same name and input find the same execution; with another input, or after its end, the name is taken.
pub async fn a_name_starts_one_execution(executions: &dyn Executions) {
    let machine = arn_of(executions, WAITS).await;
    let first = executions.start(&machine, "once", "{}").await.unwrap();
    let again = executions.start(&machine, "once", "{}").await.unwrap();
    assert_eq!(first, again);
    let other = executions.start(&machine, "once", "{\"a\":1}").await;
    assert_eq!(other.unwrap(), Start::NameTaken);
    let Start::Started { arn, .. } = first else {
        panic!("`once` is new")
    };
    executions.stop(&arn, "Done", "with it").await.unwrap();
    let late = executions.start(&machine, "once", "{}").await.unwrap();
    assert_eq!(late, Start::NameTaken);
    // Another machine has names of its own.
    let elsewhere = arn_of(executions, ECHO).await;
    let arn = started(executions, &elsewhere, "once", "{}").await;
    let state = ended(executions, &arn).await;
    assert_eq!(state.status, ExecutionStatus::Succeeded);
    assert_eq!((state.error, state.cause), (None, None));
    assert!(state.stopped_at.is_some_and(|at| at >= state.started_at));
}

/// Error and cause come back whole.
pub async fn a_failure_tells_its_name_and_cause(executions: &dyn Executions) {
    let machine = arn_of(executions, FAILS).await;
    let arn = started(executions, &machine, "broken", "{}").await;
    let state = ended(executions, &arn).await;
    assert_eq!(state.status, ExecutionStatus::Failed);
    assert_eq!(state.error.as_deref(), Some("Boom"));
    assert_eq!(
        state.cause.as_deref(),
        Some("{\"errorMessage\":\"it broke\"}")
    );
}

/// A stopped execution has ended, with what it was stopped by. To stop it again changes nothing.
pub async fn what_is_stopped_is_not_at_work(executions: &dyn Executions) {
    let machine = arn_of(executions, WAITS).await;
    let arn = started(executions, &machine, "stopped", "{}").await;
    executions.stop(&arn, "Enough", "of it").await.unwrap();
    let first = state(executions, &arn).await;
    assert_eq!(first.status, ExecutionStatus::Aborted);
    assert_eq!(first.error.as_deref(), Some("Enough"));
    assert_eq!(first.cause.as_deref(), Some("of it"));
    executions.stop(&arn, "Again", "and again").await.unwrap();
    assert_eq!(state(executions, &arn).await, first);
    let page = executions.running(&machine, None).await.unwrap();
    assert!(page.found.iter().all(|it| it.arn != arn), "{page:?}");
}

/// Those at work are each on one page, those of other machines on none.
pub async fn running_ones_are_listed_page_by_page(executions: &dyn Executions) {
    let machine = arn_of(executions, WAITS).await;
    let other = arn_of(executions, "conformance-other-0").await;
    let mut expected = BTreeSet::new();
    for number in 0..5 {
        let name = format!("listed-{number}");
        expected.insert(started(executions, &machine, &name, "{}").await);
        started(executions, &other, &name, "{}").await;
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = executions
            .running(&machine, after.as_deref())
            .await
            .unwrap();
        for it in page.found {
            assert_eq!(state(executions, &it.arn).await.started_at, it.started_at);
            assert!(it.arn.ends_with(&format!(":{}", it.name)), "{it:?}");
            found.push(it.arn);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(
        found.len(),
        expected.len(),
        "one is listed twice: {found:?}"
    );
    assert_eq!(found.into_iter().collect::<BTreeSet<String>>(), expected);
    for arn in &expected {
        executions.stop(arn, "Done", "with it").await.unwrap();
    }
}

/// What is not there is `None` to a description, and not found to everything else.
pub async fn what_is_not_there_is_told_so(executions: &dyn Executions) {
    let machine = arn_of(executions, WAITS).await;
    let execution = format!(
        "{}:nobody",
        machine.replace(":stateMachine:", ":execution:")
    );
    assert_eq!(executions.describe(&execution).await.unwrap(), None);
    let no_machine = machine.replace(WAITS, "conformance-nowhere");
    let kinds = [
        executions
            .stop(&execution, "a", "b")
            .await
            .unwrap_err()
            .kind,
        executions.tags(&no_machine).await.unwrap_err().kind,
        executions
            .start(&no_machine, "x", "{}")
            .await
            .unwrap_err()
            .kind,
        executions
            .running(&no_machine, None)
            .await
            .unwrap_err()
            .kind,
    ];
    assert_eq!(kinds, [FailureKind::NotFound; 4]);
    let no_json = executions.start(&machine, "no-json", "{").await;
    assert_eq!(no_json.unwrap_err().kind, FailureKind::Invalid);
}

/// The machine's own time, for accounts that live in real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> UnixMillis {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        UnixMillis(u64::try_from(since.as_millis()).expect("before the year 500 million"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_every_law() {
        let clock = Arc::new(WallClock);
        let account = FakeExecutions::new(clock.clone());
        deploy(&account);
        every_law(&account, clock.as_ref()).await;
    }
}
