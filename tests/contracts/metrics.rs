//! One list of metrics: what the functions tell is what the handbook explains, and alarms and dashboard ask for nothing
//! else.

use std::collections::{BTreeMap, BTreeSet};

use highwater_lambda::metrics::{METRICS, NAMESPACE};
use highwater_tests::checkout;

/// The rows of `docs/OPERATIONS.md`, "Metrics": name, unit and meaning.
fn documented() -> Vec<[String; 3]> {
    let text = checkout::text("docs/OPERATIONS.md").unwrap();
    let (_, section) = text
        .split_once("\n## Metrics\n")
        .expect("a chapter of them");
    let section = section.split("\n#").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, unit, meaning, ..] = cells[..] else {
            panic!("name, unit, meaning: {row}");
        };
        [name.trim_matches('`'), unit, meaning].map(str::to_owned)
    })
    .collect()
}

#[test]
fn the_handbook_explains_every_metric_in_the_words_of_the_list() {
    let known: Vec<[String; 3]> = METRICS
        .iter()
        .map(|it| [it.name, it.unit.as_str(), it.meaning].map(str::to_owned))
        .collect();
    assert_eq!(documented(), known);
}

#[test]
fn alarms_and_dashboard_ask_for_metrics_that_somebody_tells() {
    let known: BTreeSet<&str> = METRICS.iter().map(|it| it.name).collect();
    let used = used(&checkout::text("template.yaml").unwrap());
    let unknown: Vec<&String> = used
        .iter()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "nobody tells {unknown:?}");
    for alarm in [
        "BatchFailures",
        "MarkLag",
        "UnhealedGaps",
        "ReplicaLagSeconds",
        "ReplicaRefused",
        "ReplicasFailed",
    ] {
        assert!(used.contains(alarm), "nobody is alarmed by {alarm}");
    }
}

/// The metrics of our namespace that a template names: in alarms, in their expressions, on dashboards.
fn used(template: &str) -> BTreeSet<String> {
    let mut used = in_mappings(template);
    used.extend(in_flow_mappings(template));
    used.extend(in_lists(template));
    used.extend(in_searches(template));
    used
}

/// A name in YAML or JSON, without what stands around it.
fn bare(text: &str) -> &str {
    text.trim_matches(|it: char| it.is_whitespace() || "\"'\\,[]".contains(it))
}

/// `Namespace: Highwater` with `MetricName` beside it.
fn in_mappings(template: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    // Of each depth the mapping that is open there.
    let mut open: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut close = |mapping: &BTreeMap<&str, &str>| {
        if mapping.get("Namespace") == Some(&NAMESPACE) {
            let name = mapping.get("MetricName");
            used.insert((*name.expect("a metric beside its namespace")).to_owned());
        }
    };
    for line in template.lines() {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut depth = line.len() - text.len();
        let entry = text.trim_start_matches("- ");
        let is_item = entry.len() < text.len();
        depth += text.len() - entry.len();
        let ended = open.split_off(&if is_item { depth } else { depth + 1 });
        ended.values().for_each(&mut close);
        if let Some((key, value)) = entry.split_once(':') {
            let mapping = open.entry(depth).or_default();
            mapping.insert(
                bare(key),
                bare(value.split(" #").next().unwrap_or_default()),
            );
        } else if "}])".contains(entry.trim_end_matches(',')) {
            open.split_off(&depth).values().for_each(&mut close);
        }
    }
    open.values().for_each(&mut close);
    used
}

/// `{ Namespace: Highwater, MetricName: MarkLag, … }`.
fn in_flow_mappings(template: &str) -> BTreeSet<String> {
    let mappings = template.split('{').skip(1).filter_map(|mapping| {
        let own = mapping.split('}').next().unwrap_or_default();
        let members: BTreeMap<&str, &str> = own
            .split(',')
            .filter_map(|member| member.split_once(':'))
            .map(|(key, value)| (bare(key), bare(value)))
            .collect();
        let is_ours = members.get("Namespace") == Some(&NAMESPACE);
        members.get("MetricName").filter(|_| is_ours).copied()
    });
    mappings.map(str::to_owned).collect()
}

/// `["Highwater", "MarkLag", …]`, and `[".", "LogBytes", …]` behind it, in one line or in several.
fn in_lists(template: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut namespace = "";
    for list in template.split('[').skip(1) {
        let mut members = list
            .split(']')
            .next()
            .unwrap_or_default()
            .split(',')
            .map(bare);
        let (Some(first), Some(second)) = (members.next(), members.next()) else {
            continue;
        };
        if first != "." {
            namespace = first;
        }
        if namespace == NAMESPACE && second != "." {
            used.insert(second.to_owned());
        }
    }
    let lines: Vec<&str> = template.lines().map(str::trim).collect();
    for pair in lines.windows(2) {
        let [first, second] = pair else { continue };
        if first.starts_with('-')
            && bare(first.trim_start_matches(['-', ' '])) == NAMESPACE
            && let Some(second) = second.strip_prefix("- ")
        {
            used.insert(bare(second).to_owned());
        }
    }
    used
}

/// `SEARCH('{Highwater,Stack,Table} MetricName="MarkLag"', …)`.
fn in_searches(template: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for search in template.split("{Highwater,").skip(1) {
        let query = search.split('\'').next().unwrap_or_default();
        for named in query.split("MetricName=").skip(1) {
            let words = named.trim_start_matches('(').split([')', '}']).next();
            let words = words.unwrap_or_default().split_whitespace().map(bare);
            let is_name = |word: &&str| !word.is_empty() && !["OR", "AND"].contains(word);
            let of_one = if named.starts_with('(') {
                usize::MAX
            } else {
                1
            };
            used.extend(words.filter(is_name).take(of_one).map(str::to_owned));
        }
    }
    used
}

fn names(template: &str) -> Vec<String> {
    used(template).into_iter().collect()
}

#[test]
fn names_are_found_beside_their_namespace() {
    let alarm = "
Resources:
  Lag:
    Type: AWS::CloudWatch::Alarm
    Properties:
      MetricName: MarkLag # seconds
      Dimensions:
        - Name: Stack
          Value: !Ref AWS::StackName
      Namespace: Highwater
  Errors:
    Type: AWS::CloudWatch::Alarm
    Properties:
      Namespace: AWS/Lambda
      MetricName: Errors
  Gaps:
    Properties:
      Metrics:
        - Id: first
          MetricStat:
            Metric:
              Namespace: \"Highwater\"
              Dimensions: [{Name: Stack, Value: x}]
              MetricName: UnhealedGaps
        - Id: second
          MetricStat: {}
";
    assert_eq!(names(alarm), ["MarkLag", "UnhealedGaps"]);
    let json = r#"{
      "Properties": {
        "Namespace": "Highwater",
        "MetricName": "BatchFailures"
      }
    }"#;
    assert_eq!(names(json), ["BatchFailures"]);
    let flow = "
      - { Id: m1, MetricStat: { Stat: Sum, Metric: { Namespace: Highwater, MetricName: RecordsUnread, Dimensions: [{ Name: x, Value: y }] } } }
      - { Id: m2, MetricStat: { Stat: Sum, Metric: { Namespace: AWS/Lambda, MetricName: Errors } } }
";
    assert_eq!(names(flow), ["RecordsUnread"]);
    assert_eq!(
        names("Description: Highwater, a backup\nName: Highwater\n"),
        [""; 0]
    );
}

#[test]
fn names_are_found_in_lists_and_expressions() {
    let dashboard = r#"
      DashboardBody: !Sub |
        {"widgets": [{"properties": {"metrics": [
          ["Highwater", "ItemsRead", "Stack", "${AWS::StackName}"],
          [".", "ItemsWritten", ".", "."],
          [
            "Highwater",
            "LogBytes"
          ],
          ["AWS/Lambda", "Errors"], [".", "Throttled"],
          [{"expression": "SEARCH('{Highwater,Stack,Table} MetricName=\"MarkLag\" Stack=\"x\"', 'Maximum')"}],
          [{"expression": "SEARCH('{Highwater,Stack,Table} MetricName=(\"A\" OR \"B\")', 'Sum')"}]
        ]}}]}
"#;
    let expected = ["A", "B", "ItemsRead", "ItemsWritten", "LogBytes", "MarkLag"];
    assert_eq!(names(dashboard), expected);
    let block = "
      metrics:
        - - Highwater
          - PartsWritten
          - Stack
        - [Highwater, BytesWritten, Stack, x]
";
    assert_eq!(names(block), ["BytesWritten", "PartsWritten"]);
}
