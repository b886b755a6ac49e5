//! What a deployed program has told: its log's lines, and the metrics among them.
//!
//! The rules of a document are AWS's:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.
//! One process per function at a time: the lines of several would be cut into each other by their pipes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater_lambda::metrics::METRICS;
use highwater_testkit::runtime_api::Function;
use serde_json::Value;

use super::account::Account;

const STACK: &str = "backups";

/// Every unit that `CloudWatch` knows:
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html>.
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

pub fn watched(name: &str, mut environment: Vec<(String, String)>) -> Function {
    environment.push(("HIGHWATER_STACK".into(), STACK.into()));
    Account::function_with(name, environment)
}

/// What a function has written so far, line by line. A last line that is still on its way is none.
pub fn lines(function: &Function) -> Vec<Value> {
    assert!(function.starts() <= 1, "one process, or lines are mixed");
    let output = function.output();
    let whole = output.rfind('\n').map_or("", |end| &output[..end]);
    let parse = |line: &str| -> Value {
        let value = serde_json::from_str(line);
        value.unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    whole.lines().map(parse).collect()
}

/// Every line is what it should be, and lines of an invocation carry its id. The documents among them.
pub fn documents(function: &Function) -> Vec<Value> {
    let mut documents = Vec::new();
    for line in lines(function) {
        let members = line
            .as_object()
            .unwrap_or_else(|| panic!("no object: {line}"));
        for name in ["level", "timestamp"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
        let is_start = line["message"] == "starting";
        assert_eq!(line["request_id"].is_string(), !is_start, "{line}");
        if members.contains_key("_aws") {
            assert_valid(&line);
            documents.push(line);
        } else {
            assert!(line["message"].is_string() && line["target"].is_string());
        }
    }
    documents
}

#[track_caller]
fn assert_valid(document: &Value) {
    let about = &document["_aws"];
    assert!(about["Timestamp"].is_u64(), "{document}");
    let [directive] = &about["CloudWatchMetrics"].as_array().unwrap()[..] else {
        panic!("one directive: {document}");
    };
    assert_eq!(directive["Namespace"], "Highwater");
    let mut targets = BTreeSet::new();
    for dimensions in directive["Dimensions"].as_array().unwrap() {
        let dimensions = dimensions.as_array().unwrap();
        assert!(dimensions.len() <= 30, "{document}");
        for name in dimensions {
            let name = name.as_str().unwrap();
            let value = document[name].as_str().unwrap();
            assert!((1..=1024).contains(&value.len()), "{name}: {document}");
            assert!(targets.insert(name), "{name} twice: {document}");
        }
    }
    let definitions = directive["Metrics"].as_array().unwrap();
    assert!((1..=100).contains(&definitions.len()), "{document}");
    for definition in definitions {
        let name = definition["Name"].as_str().unwrap();
        assert!(targets.insert(name), "{name} twice: {document}");
        let known = METRICS.iter().find(|known| known.name == name);
        let known = known.unwrap_or_else(|| panic!("{name} is not in the list"));
        assert_eq!(definition["Unit"], known.unit.as_str(), "{name}");
        assert!(UNITS.contains(&known.unit.as_str()), "{name}");
        assert!(document[name].is_number(), "{name}: {document}");
    }
}

/// The sums of all documents, by metric.
pub fn sums(functions: &[&Function]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for document in functions.iter().flat_map(|it| documents(it)) {
        assert_eq!(document["Stack"], STACK, "{document}");
        for definition in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]
            .as_array()
            .unwrap()
        {
            let name = definition["Name"].as_str().unwrap();
            *sums.entry(name.to_owned()).or_default() += document[name].as_f64().unwrap();
        }
    }
    sums
}

/// Lines come over a pipe of their own, so that the answer may be there before them; but not for long.
pub async fn eventually<T>(check: impl Fn() -> Result<T, String>) -> T {
    let mut wrong = String::new();
    for _ in 0..100 {
        match check() {
            Ok(found) => return found,
            Err(reason) => wrong = reason,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{wrong}");
}

/// The functions' sums are these, and there is no other.
pub async fn assert_sums(functions: &[&Function], expected: &[(&str, f64)]) {
    let expected: BTreeMap<String, f64> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    eventually(|| {
        let sums = sums(functions);
        let same = sums.len() == expected.len()
            && sums.iter().zip(&expected).all(|(found, expected)| {
                found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6
            });
        same.then_some(())
            .ok_or_else(|| format!("told {sums:#?}\nexpected {expected:#?}"))
    })
    .await;
}

/// Every line of the function's invocations has these members.
pub fn assert_ids(function: &Function, ids: &[(&str, Value)]) {
    let lines = lines(function).into_iter();
    for line in lines.filter(|line| line["message"] != "starting") {
        for (name, value) in ids {
            assert_eq!(line[name], *value, "{line}");
        }
    }
}
