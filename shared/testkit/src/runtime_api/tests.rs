//! The test program is its own bootstrap: started with the right arguments, it runs [`bootstrap`]
//! alone, which speaks the Runtime API over plain sockets and does what each event tells it to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::api::API;
use super::*;

const LONG: Duration = Duration::from_mins(1);

fn function(environment: &[(&str, &str)]) -> Function {
    Function::new(FunctionSpec {
        name: "probe".into(),
        bootstrap: std::env::current_exe().unwrap(),
        arguments: "runtime_api::tests::bootstrap --exact --ignored --nocapture"
            .split(' ')
            .map(OsString::from)
            .collect(),
        memory_mb: 512,
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}

/// A connection to the Runtime API that asks one thing at a time.
struct Client {
    stream: TcpStream,
    host: String,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Client {
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {API}{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let headers: BTreeMap<String, String> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }
}

#[test]
#[ignore = "no test by itself: the others run it as their function, with --ignored --exact"]
fn bootstrap() {
    let Ok(host) = std::env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    let stream = TcpStream::connect(&host).unwrap();
    let mut client = Client { stream, host };
    if std::env::var("BROKEN").is_ok() {
        let error = r#"{"errorType":"Config","errorMessage":"BROKEN is set"}"#;
        client.ask("POST", "/init/error", error);
        return;
    }
    let mut served = 0;
    loop {
        let event = client.ask("GET", "/invocation/next", "");
        served += 1;
        let id = &event.headers["lambda-runtime-aws-request-id"];
        let payload: Value = serde_json::from_str(&event.body).unwrap();
        let (path, body) = match payload["do"].as_str().unwrap() {
            "echo" => ("response", payload.to_string()),
            "tell" => ("response", told(&event, served).to_string()),
            "fail" => (
                "error",
                r#"{"errorType":"Throttled","errorMessage":"slow down"}"#.into(),
            ),
            "babble" => ("response", "{".into()),
            "shout" => ("response", format!("\"{}\"", "x".repeat(PAYLOAD_BYTES))),
            "misaddress" => {
                let answer = client.ask("POST", "/invocation/nobody/response", "{}");
                ("response", answer.status.to_string())
            }
            "answer and leave" => {
                client.ask("POST", &format!("/invocation/{id}/response"), "1");
                return;
            }
            "leave" => return,
            "panic" => panic!("as told"),
            "hang" => {
                println!("hanging");
                std::thread::park();
                panic!("nobody unparks a hanging process");
            }
            other => panic!("{other:?} is not in the script"),
        };
        client.ask("POST", &format!("/invocation/{id}/{path}"), &body);
    }
}

fn told(event: &Answer, served: u32) -> Value {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    json!({"headers": event.headers, "environment": environment, "served": served})
}

#[tokio::test]
async fn an_answer_comes_back_and_the_process_stays_for_the_next_event() {
    let function = function(&[]);
    assert_eq!(function.starts(), 0);
    let payload = json!({"do": "echo", "text": "grün"});
    assert_eq!(function.invoke(payload.clone(), LONG).await, Ok(payload));
    let told = function.invoke(json!({"do": "tell"}), LONG).await.unwrap();
    assert_eq!(told["served"], 2);
    assert_eq!(function.starts(), 1);
    assert_eq!(function.processes().len(), 1);
}

#[tokio::test]
async fn the_event_carries_lambdas_headers_and_a_true_deadline() {
    let function = function(&[]);
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis()
    };
    let before = now();
    let told = function.invoke(json!({"do": "tell"}), LONG).await.unwrap();
    let after = now();
    let headers = &told["headers"];
    let deadline: u128 = headers["lambda-runtime-deadline-ms"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (before + 60_000..=after + 60_000).contains(&deadline),
        "{before} {deadline} {after}"
    );
    assert_eq!(
        headers["lambda-runtime-invoked-function-arn"],
        "arn:aws:lambda:us-east-1:123456789012:function:probe"
    );
    assert_eq!(
        headers["lambda-runtime-aws-request-id"]
            .as_str()
            .unwrap()
            .len(),
        36
    );
    assert!(
        headers["lambda-runtime-trace-id"]
            .as_str()
            .unwrap()
            .starts_with("Root=1-")
    );
}

#[tokio::test]
async fn the_process_has_lambdas_environment_and_what_it_is_given_and_no_more() {
    let function = function(&[
        ("HIGHWATER_CONTROL_TABLE", "hw"),
        ("AWS_REGION", "eu-west-1"),
    ]);
    let told = function.invoke(json!({"do": "tell"}), LONG).await.unwrap();
    let environment = &told["environment"];
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_NAME"], "probe");
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "512");
    assert_eq!(
        environment["AWS_LAMBDA_LOG_GROUP_NAME"],
        "/aws/lambda/probe"
    );
    assert_eq!(environment["HIGHWATER_CONTROL_TABLE"], "hw");
    assert_eq!(
        environment["AWS_REGION"], "eu-west-1",
        "what is given goes first"
    );
    assert!(
        environment.get("CARGO_MANIFEST_DIR").is_none(),
        "nothing is inherited"
    );
}

#[tokio::test]
async fn a_functions_own_error_keeps_its_name_and_the_process() {
    let function = function(&[]);
    let error = function
        .invoke(json!({"do": "fail"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error, FunctionError::new("Throttled", "slow down"));
    assert_eq!(
        error.body(),
        json!({"errorType": "Throttled", "errorMessage": "slow down"})
    );
    assert!(function.invoke(json!({"do": "echo"}), LONG).await.is_ok());
    assert_eq!(function.starts(), 1);
}

#[tokio::test]
async fn answers_that_lambda_would_not_take_are_errors() {
    let function = function(&[]);
    let error = function
        .invoke(json!({"do": "babble"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "Runtime.MarshalError");
    let status = function.invoke(json!({"do": "misaddress"}), LONG).await;
    assert_eq!(
        status,
        Ok(json!(400)),
        "an answer to nobody is refused, and the event still waits"
    );
    let error = function
        .invoke(json!({"do": "shout"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "Function.ResponseSizeTooLarge");
    let large = json!({"do": "echo", "text": "x".repeat(PAYLOAD_BYTES)});
    let error = function.invoke(large, LONG).await.unwrap_err();
    assert_eq!(error.error_type, "RequestEntityTooLarge");
}

#[tokio::test]
async fn a_process_that_overruns_its_time_is_killed_and_the_next_event_starts_another() {
    let function = function(&[]);
    function.invoke(json!({"do": "echo"}), LONG).await.unwrap();
    let [pid] = function.processes()[..] else {
        panic!("one process")
    };
    let limit = Duration::from_millis(50);
    let error = function
        .invoke(json!({"do": "hang"}), limit)
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "Sandbox.Timedout");
    assert!(
        error.message.ends_with("Task timed out after 0.05 seconds"),
        "{}",
        error.message
    );
    assert!(!alive(pid));
    assert!(function.invoke(json!({"do": "echo"}), LONG).await.is_ok());
    assert_eq!(function.starts(), 2);
}

#[tokio::test]
async fn a_process_that_ends_is_an_exit_error() {
    let function = function(&[]);
    let error = function
        .invoke(json!({"do": "panic"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "Runtime.ExitError");
    assert!(
        error.message.ends_with("exit status 101"),
        "{}",
        error.message
    );
    function.wrote("as told").await;
    let error = function
        .invoke(json!({"do": "leave"}), LONG)
        .await
        .unwrap_err();
    assert!(
        error.message.ends_with("without providing a reason"),
        "{}",
        error.message
    );
    assert!(function.invoke(json!({"do": "echo"}), LONG).await.is_ok());
    assert_eq!(function.starts(), 3);
}

#[tokio::test]
async fn an_idle_process_that_ended_costs_no_event() {
    let function = function(&[]);
    for _ in 0..3 {
        let answer = function
            .invoke(json!({"do": "answer and leave"}), LONG)
            .await;
        assert_eq!(answer, Ok(json!(1)));
    }
    assert_eq!(function.starts(), 3);
}

#[tokio::test]
async fn a_process_can_be_killed_at_any_point() {
    let function = function(&[]);
    let invocation = function.invoke(json!({"do": "hang"}), LONG);
    let killing = async {
        function.wrote("hanging").await;
        let [pid] = function.processes()[..] else {
            panic!("one process")
        };
        assert_eq!(function.kill().await, 1);
        assert!(!alive(pid));
    };
    let (ended, ()) = tokio::join!(invocation, killing);
    let error = ended.unwrap_err();
    assert_eq!(error.error_type, "Runtime.ExitError");
    assert!(
        error.message.ends_with("signal: killed"),
        "{}",
        error.message
    );
    assert!(function.invoke(json!({"do": "echo"}), LONG).await.is_ok());
    assert_eq!(function.kill().await, 1, "idle ones too");
    assert!(function.invoke(json!({"do": "echo"}), LONG).await.is_ok());
    assert_eq!(function.starts(), 3);
}

#[tokio::test]
async fn invocations_at_once_have_a_process_each() {
    let function = function(&[]);
    let hanging = async {
        tokio::select! {
            ended = function.invoke(json!({"do": "hang"}), LONG) => panic!("{ended:?}"),
            () = async {
                function.wrote("hanging").await;
                function.invoke(json!({"do": "echo"}), LONG).await.unwrap();
            } => {}
        }
    };
    hanging.await;
    assert_eq!(function.starts(), 2);
}

#[tokio::test]
async fn dropping_an_invocation_or_the_function_kills_its_processes() {
    let function = function(&[]);
    tokio::select! {
        ended = function.invoke(json!({"do": "hang"}), LONG) => panic!("{ended:?}"),
        () = function.wrote("hanging") => {}
    }
    assert!(function.processes().is_empty());
    function.invoke(json!({"do": "echo"}), LONG).await.unwrap();
    let [pid] = function.processes()[..] else {
        panic!("one process")
    };
    assert!(alive(pid));
    drop(function);
    while alive(pid) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_process_that_cannot_start_says_why() {
    let broken = function(&[("BROKEN", "1")]);
    let error = broken
        .invoke(json!({"do": "echo"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error, FunctionError::new("Config", "BROKEN is set"));
    let mut spec = broken.spec.clone();
    spec.bootstrap = PathBuf::from("/nowhere/bootstrap");
    let absent = Function::new(spec);
    let error = absent
        .invoke(json!({"do": "echo"}), LONG)
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "Runtime.InvalidEntrypoint");
    assert!(
        error.message.starts_with("/nowhere/bootstrap: "),
        "{}",
        error.message
    );
}

/// Whether a process runs: one that is dead and only waits to be reaped does not.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().unwrap_or_default();
        !state.starts_with(['Z', 'X'])
    })
}
