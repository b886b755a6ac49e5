//! What `template.yaml` must hold together: places of lists, inputs, names, rules of the bucket, and its handbook.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use async_trait::async_trait;
use highwater_asl::{Execution, Options, SkipPauses, StateMachine, TaskError, Tasks, walk};
use highwater_domain::ids::TableRef;
use highwater_domain::layout::Layout;
use highwater_domain::log_place::LogPlace;
use highwater_domain::restore_point::TablePlace;
use highwater_domain::stack::{StackTags, Workflow};
use highwater_lambda::LiveConfig;
use highwater_steps::request::BackupRequest;
use highwater_steps::restore_point::default_work;
use highwater_steps::restore_request::RestoreRequest;
use highwater_tests::checkout;
use highwater_tests::stack_template::{Place, StackTemplate};
use highwater_tests::yaml;
use serde_json::{Value, json};

/// How many tables and streams one stack takes.
const PLACES: usize = 5;

/// The template as it stands, functions and all.
pub fn document() -> Value {
    yaml::read(&checkout::text("template.yaml").unwrap()).unwrap()
}

/// The resources of one type: logical id and properties.
pub fn resources(kind: &str) -> Vec<(String, Value)> {
    let document = document();
    let all = document["Resources"].as_object().unwrap().iter();
    all.filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.clone(), resource["Properties"].clone()))
        .collect()
}

/// The template as it is deployed for these tables, with these parameters besides.
fn deployed(tables: &str, parameters: &[(&str, &str)]) -> StackTemplate {
    let place = Place {
        region: "eu-west-1".into(),
        account: "123456789012".into(),
        stack: "nightly".into(),
    };
    let text = checkout::text("template.yaml").unwrap();
    let mut template = StackTemplate::read(&text, place).unwrap();
    for (name, value) in [("TableNames", tables)].iter().chain(parameters) {
        template = template.with_parameter(name, value).unwrap();
    }
    template
        .with_name("SnapshotBucket", "made-bucket")
        .with_name("ControlTable", "made-control")
}

fn stream(table: &str) -> String {
    format!("arn:aws:dynamodb:eu-west-1:123456789012:table/{table}/stream/2026-01-14T10:02:11.204")
}

fn streams(tables: &[&str]) -> String {
    let arns: Vec<String> = tables.iter().map(|table| stream(table)).collect();
    arns.join(",")
}

const FIVE: &str = "orders,customers,invoices,stock,events";

/// Every text in a value, at any depth.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// The statements of everything that has policies, resolved: whose, and the statement.
fn statements(template: &StackTemplate) -> Vec<(String, Value)> {
    let kinds = ["AWS::Serverless::Function", "AWS::Serverless::StateMachine"];
    let mut all = Vec::new();
    for whose in template.resources(&kinds).unwrap() {
        let policies = template.property(&whose, "Policies").unwrap();
        for statement in policies[0]["Statement"].as_array().unwrap() {
            all.push((whose.clone(), statement.clone()));
        }
    }
    all
}

/// What keeps a stream's records from being lost stands in a few lines of the mappings.
#[test]
fn each_mapping_gives_every_record_and_tells_its_shard() {
    let mappings = resources("AWS::Lambda::EventSourceMapping");
    assert_eq!(mappings.len(), PLACES);
    for (name, mapping) in mappings {
        for (member, value, why) in [
            (
                "StartingPosition",
                json!("TRIM_HORIZON"),
                "LATEST loses records",
            ),
            (
                "ParallelizationFactor",
                json!(1),
                "lanes of a shard have no name",
            ),
            ("MaximumRetryAttempts", json!(-1), "no record is given up"),
            (
                "MaximumRecordAgeInSeconds",
                json!(-1),
                "no record is given up",
            ),
            (
                "BisectBatchOnFunctionError",
                json!(true),
                "one record must not hold up a thousand",
            ),
            (
                "FunctionResponseTypes",
                json!(["ReportBatchItemFailures"]),
                "a batch is taken in part",
            ),
            (
                "MetricsConfig",
                json!({"Metrics": ["EventCount"]}),
                "the alarm counts them",
            ),
        ] {
            assert_eq!(mapping[member], value, "{name} {member}: {why}");
        }
        let number = |member: &str| mapping[member].as_u64().unwrap();
        assert!(
            (1..=900).contains(&number("TumblingWindowInSeconds")),
            "only windows tell the shard"
        );
        assert!((1..=10_000).contains(&number("BatchSize")));
        assert_eq!(
            mapping["FilterCriteria"],
            Value::Null,
            "a filter passes records over"
        );
    }
}

#[test]
fn each_stream_has_a_mapping_of_its_own_that_leaves_what_it_gives_up_in_the_bucket() {
    for count in 0..=PLACES {
        let tables: Vec<&str> = FIVE.split(',').take(count).collect();
        let own = deployed(FIVE, &[("StreamArns", &streams(&tables))]);
        let theirs = deployed(
            FIVE,
            &[("StreamArns", &streams(&tables)), ("BucketName", "theirs")],
        );
        let mappings = own.resources(&["AWS::Lambda::EventSourceMapping"]).unwrap();
        let read: Vec<Value> = mappings
            .iter()
            .map(|name| own.property(name, "EventSourceArn").unwrap())
            .collect();
        let expected: Vec<String> = tables.iter().map(|table| stream(table)).collect();
        assert_eq!(read, expected);
        for mapping in mappings {
            let left = |template: &StackTemplate| {
                template.property(&mapping, "DestinationConfig").unwrap()["OnFailure"]["Destination"].clone()
            };
            assert_eq!(left(&own), "arn:aws:s3:::made-bucket");
            assert_eq!(left(&theirs), "arn:aws:s3:::theirs");
        }
    }
}

/// Were the others to move up, `CloudFormation` would make a second mapping of each before it deletes the first, which
/// Lambda refuses.
#[test]
fn a_stream_that_goes_leaves_its_place_empty() {
    let template = deployed(FIVE, &[("StreamArns", &format!(",{}", stream("stock")))]);
    let made = |kind: &str| template.resources(&[kind]).unwrap();
    assert_eq!(
        made("AWS::Lambda::EventSourceMapping"),
        ["ConsumeStreamMapping2"]
    );
    let alarms = made("AWS::CloudWatch::Alarm");
    assert!(alarms.contains(&"MarkLagAlarm2".to_owned()));
    assert!(alarms.contains(&"IteratorAgeAlarm".to_owned()));
    let events = template.property("AuditStreamFunction", "Events").unwrap();
    assert_eq!(events["Scheduled"]["Properties"]["State"], "ENABLED");
    let environment = template
        .property("AuditStreamFunction", "Environment")
        .unwrap();
    assert_eq!(environment["Variables"]["HIGHWATER_TABLES"], ",stock,,,");
    let all = statements(&template).into_iter();
    let mut read = all.filter(|(of, statement)| {
        of == "ConsumeStreamFunction"
            && texts(&statement["Action"]).contains(&"dynamodb:GetRecords".to_owned())
    });
    assert_eq!(
        texts(&read.next().unwrap().1["Resource"]),
        [stream("stock")]
    );
}

/// A sixth table or stream would be passed over: the stack then has something in it that cannot be made.
#[test]
fn a_sixth_is_not_passed_over_in_silence() {
    let guard = |tables: &str, streams: &str| {
        let template = deployed(tables, &[("StreamArns", streams)]);
        template
            .resources(&["AWS::CloudFormation::WaitCondition"])
            .unwrap()
    };
    let six: Vec<&str> = FIVE.split(',').chain(["sixth"]).collect();
    let five = streams(&six[..5]);
    assert_eq!(guard(FIVE, &five), [""; 0]);
    assert_eq!(guard("orders", ""), [""; 0]);
    for (tables, streams) in [(six.join(","), five), (FIVE.to_owned(), streams(&six))] {
        assert_eq!(guard(&tables, &streams), ["NoMoreThanFiveTablesAndStreams"]);
    }
}

#[test]
fn the_tables_that_are_named_and_no_others_are_scanned_audited_and_logged() {
    for count in 1..=PLACES {
        let tables: Vec<&str> = FIVE.split(',').take(count).collect();
        let template = deployed(&tables.join(","), &[("StreamArns", &streams(&tables))]);
        for (whose, action, prefix, suffix) in [
            (
                "PlanBackupFunction",
                "dynamodb:DescribeTable",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/",
                "",
            ),
            (
                "ScanSegmentFunction",
                "dynamodb:Scan",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/",
                "",
            ),
            (
                "FinalizeBackupFunction",
                "dynamodb:DescribeTable",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/",
                "",
            ),
            (
                "AuditStreamFunction",
                "dynamodb:GetRecords",
                "arn:aws:dynamodb:eu-west-1:123456789012:table/",
                "/stream/*",
            ),
            (
                "ConsumeStreamFunction",
                "s3:PutObject",
                "arn:aws:s3:::made-bucket/snapshots/",
                "/log/*",
            ),
            (
                "AuditStreamFunction",
                "s3:PutObject",
                "arn:aws:s3:::made-bucket/snapshots/",
                "/log/*",
            ),
        ] {
            let of_action = statements(&template).into_iter().find(|(of, statement)| {
                of == whose && texts(&statement["Action"]).contains(&action.to_owned())
            });
            let expected: Vec<String> = tables
                .iter()
                .map(|table| format!("{prefix}{table}{suffix}"))
                .collect();
            assert_eq!(
                texts(&of_action.unwrap().1["Resource"]),
                expected,
                "{whose} {action}"
            );
        }
        let read = statements(&template).into_iter().find(|(of, statement)| {
            of == "ConsumeStreamFunction"
                && texts(&statement["Action"]).contains(&"dynamodb:GetRecords".to_owned())
        });
        let arns: Vec<String> = tables.iter().map(|table| stream(table)).collect();
        assert_eq!(
            texts(&read.unwrap().1["Resource"]),
            arns,
            "exactly the streams"
        );
    }
}

/// In a bucket that belongs to others, too, nothing is touched beyond the prefix.
#[test]
fn a_bucket_of_others_is_open_below_the_prefix_only() {
    let tables: Vec<&str> = FIVE.split(',').collect();
    let template = deployed(
        FIVE,
        &[
            ("BucketName", "theirs"),
            ("Prefix", "a/b"),
            ("StreamArns", &streams(&tables)),
        ],
    );
    for made in ["SnapshotBucket", "SnapshotBucketPolicy"] {
        assert!(!template.is_made(made).unwrap(), "{made}");
    }
    let mut seen = 0;
    for (whose, statement) in statements(&template) {
        for resource in texts(&statement["Resource"]) {
            let Some(object) = resource.strip_prefix("arn:aws:s3:::") else {
                continue;
            };
            seen += 1;
            let whole = object == "theirs" && texts(&statement["Action"]) == ["s3:ListBucket"];
            let discarded = object == "theirs/aws/lambda/*" && whose == "ConsumeStreamFunction";
            assert!(
                whole || discarded || object.starts_with("theirs/a/b/"),
                "{whose}: {object}"
            );
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn a_key_may_be_used_through_s3_by_every_function_and_only_where_there_is_one() {
    let arn = "arn:aws:kms:eu-west-1:123456789012:key/1234";
    let using = |template: &StackTemplate| {
        let all = statements(template).into_iter();
        let kms = all.filter(|(_, statement)| texts(&statement["Action"])[0].starts_with("kms:"));
        kms.map(|(whose, statement)| {
            assert_eq!(statement["Resource"], arn);
            assert_eq!(
                statement["Condition"]["StringEquals"]["kms:ViaService"],
                "s3.eu-west-1.amazonaws.com"
            );
            whose
        })
        .collect::<BTreeSet<String>>()
    };
    assert!(using(&deployed("orders", &[])).is_empty());
    let with_key = deployed("orders", &[("KmsKeyArn", arn)]);
    let functions: BTreeSet<String> = with_key
        .resources(&["AWS::Serverless::Function"])
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(using(&with_key), functions);
    let encryption = with_key
        .property("SnapshotBucket", "BucketEncryption")
        .unwrap();
    let rule = &encryption["ServerSideEncryptionConfiguration"][0];
    assert_eq!(rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"], arn);
    let elsewhere = deployed(
        "orders",
        &[("RestoreFrom", "theirs/p"), ("RestoreFromKmsKeyArn", arn)],
    );
    let readers = [
        "LoadPartFunction",
        "PlanRestoreFunction",
        "ScatterLogFunction",
    ];
    assert_eq!(using(&elsewhere), readers.map(str::to_owned).into());
}

/// The rules of the bucket delete snapshots and leftovers, and nothing that a restore needs besides.
#[test]
fn no_rule_of_the_bucket_touches_a_change_log() {
    let place = |table: &str| {
        TablePlace::of(
            &format!("s3://made-bucket/snapshots/{table}")
                .parse()
                .unwrap(),
        )
        .unwrap()
    };
    let restore = "01768385930622-efd1a093".parse().unwrap();
    for (days, tables) in [("0", "orders"), ("0", FIVE), ("35", "orders"), ("35", FIVE)] {
        let template = deployed(tables, &[("SnapshotRetentionDays", days)]);
        let rules = template
            .property("SnapshotBucket", "LifecycleConfiguration")
            .unwrap();
        let expired: Vec<String> = rules["Rules"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| !rule["ExpirationInDays"].is_null())
            .map(|rule| {
                assert_eq!(rule["Status"], "Enabled");
                rule["Prefix"].as_str().unwrap().to_owned()
            })
            .collect();
        let mut expected = Vec::new();
        for table in tables.split(',') {
            let work = default_work(&place(table), &restore);
            let (folder, _) = work.rsplit_once('/').unwrap();
            expected.push(format!(
                "{}/",
                folder.strip_prefix("s3://made-bucket/").unwrap()
            ));
        }
        for table in tables.split(',').filter(|_| days != "0") {
            expected.push(Layout::snapshots_of("snapshots", table));
        }
        let as_folders: Vec<String> = expected
            .iter()
            .map(|it| format!("{}/", it.trim_end_matches('/')))
            .collect();
        assert_eq!(expired, as_folders);
        for table in tables.split(',') {
            let log = LogPlace::new("snapshots", table).root();
            assert!(
                !expired
                    .iter()
                    .any(|prefix| log.starts_with(prefix.as_str())),
                "{log}"
            );
        }
    }
    let theirs = deployed(
        FIVE,
        &[("SnapshotRetentionDays", "35"), ("BucketName", "theirs")],
    );
    assert!(
        !theirs.condition("ExpiresSnapshots").unwrap(),
        "a bucket of yours has your own rules"
    );
}

/// A function that is killed in the middle is no harm, but an audit that outlives its schedule runs beside the next.
#[test]
fn an_audit_is_over_before_the_next_begins() {
    let functions = resources("AWS::Serverless::Function");
    let (_, audit) = functions
        .iter()
        .find(|(name, _)| name == "AuditStreamFunction")
        .unwrap();
    let schedule = &audit["Events"]["Scheduled"]["Properties"];
    assert_eq!(schedule["ScheduleExpression"], "rate(5 minutes)");
    assert!(audit["Timeout"].as_u64().unwrap() < 5 * 60);
    for (streams, state) in [
        (streams(&["orders"]), "ENABLED"),
        (String::new(), "DISABLED"),
    ] {
        let template = deployed("orders", &[("StreamArns", &streams)]);
        let events = template.property("AuditStreamFunction", "Events").unwrap();
        assert_eq!(events["Scheduled"]["Properties"]["State"], state);
        assert_eq!(
            events["Scheduled"]["Properties"]["Input"], "{}",
            "no table is named: all are meant"
        );
    }
}

/// Whoever has no replicas pays for none: no schedule, no alarm, no look at the control table, no permission.
#[test]
fn replicas_cost_nothing_where_there_are_none() {
    let role = "arn:aws:iam::210987654321:role/replica";
    let streams = streams(&["orders"]);
    for (parameters, has_any) in [
        (vec![], false),
        (vec![("ReplicaTables", "*-replica")], true),
        (vec![("ReplicaRoleArn", role)], true),
    ] {
        let mut parameters = parameters;
        parameters.push(("StreamArns", streams.as_str()));
        let template = deployed("orders", &parameters);
        let events = template.property("ApplyLogFunction", "Events").unwrap();
        let schedule = &events["Scheduled"]["Properties"];
        assert_eq!(schedule["ScheduleExpression"], "rate(1 minute)");
        assert_eq!(
            schedule["State"],
            if has_any { "ENABLED" } else { "DISABLED" }
        );
        let alarms = template.resources(&["AWS::CloudWatch::Alarm"]).unwrap();
        let of_replicas = [
            "ReplicaLagAlarm1",
            "ReplicaRefusedAlarm1",
            "ReplicaFailedAlarm1",
        ];
        for alarm in of_replicas {
            assert_eq!(alarms.contains(&alarm.to_owned()), has_any, "{alarm}");
        }
        assert!(
            !alarms.contains(&"ReplicaLagAlarm2".to_owned()),
            "there is one stream"
        );
        let environment = template
            .property("ConsumeStreamFunction", "Environment")
            .unwrap();
        let variable = &environment["Variables"]["HIGHWATER_REPLICAS"];
        assert_eq!(*variable == "true", has_any, "{variable}");
        let of_consume = statements(&template);
        let of_consume = of_consume
            .iter()
            .filter(|(of, _)| of == "ConsumeStreamFunction");
        let asks = of_consume
            .clone()
            .any(|(_, it)| texts(&it["Action"]).contains(&"dynamodb:Query".to_owned()));
        assert_eq!(asks, has_any);
        let assumed: Vec<String> = statements(&template)
            .iter()
            .filter(|(_, it)| texts(&it["Action"]).contains(&"sts:AssumeRole".to_owned()))
            .flat_map(|(_, it)| texts(&it["Resource"]))
            .collect();
        let with_role = parameters.contains(&("ReplicaRoleArn", role));
        assert_eq!(assumed, vec![role; if with_role { 5 } else { 0 }]);
    }
}

/// What a function of the live side reads of its environment is set, and says what was given.
#[test]
fn the_live_functions_find_their_environment() {
    for count in 0..=PLACES {
        let tables: Vec<&str> = FIVE.split(',').rev().take(count).collect();
        let template = deployed(
            FIVE,
            &[
                ("StreamArns", &streams(&tables)),
                ("PublicationDelay", "77"),
            ],
        );
        let environment = |function: &str| {
            let environment = template.property(function, "Environment").unwrap();
            let variables = environment["Variables"].as_object().unwrap().clone();
            let pairs = variables.into_iter();
            pairs.map(|(name, value)| {
                (
                    name,
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                )
            })
        };
        let audit = LiveConfig::from_pairs(environment("AuditStreamFunction")).unwrap();
        assert_eq!(audit.log_to.to_string(), "s3://made-bucket/snapshots");
        assert_eq!(audit.tables, tables, "those that have a stream");
        assert_eq!(audit.publication_ms, 77_000);
        let consume = LiveConfig::from_pairs(environment("ConsumeStreamFunction")).unwrap();
        assert_eq!(consume.log_to, audit.log_to);
        assert!(!consume.replicas, "nobody asks whether there are any");
        let apply = LiveConfig::from_pairs(environment("ApplyLogFunction")).unwrap();
        assert_eq!(apply.log_to, audit.log_to);
        let arn = |table: &&str| stream(table).split("/stream/").next().unwrap().to_owned();
        let arns: Vec<String> = tables.iter().map(arn).collect();
        assert_eq!(apply.tables, arns, "by their ARNs");
    }
    let document = document();
    let globals = &document["Globals"]["Function"]["Environment"]["Variables"];
    assert_eq!(
        *globals,
        json!({
            "HIGHWATER_CONTROL_TABLE": {"Ref": "ControlTable"}, "HIGHWATER_STACK": {"Ref": "AWS::StackName"}
        })
    );
}

/// Takes down what `StartBackups` would start.
#[derive(Default)]
struct Started(Mutex<Vec<Value>>);

#[async_trait]
impl Tasks for Started {
    async fn invoke(&self, function: &str, _: Value) -> Result<Value, TaskError> {
        panic!("StartBackups calls {function}")
    }

    async fn start_execution(&self, machine: &str, input: Value) -> Result<String, TaskError> {
        assert_eq!(machine, "BackupStateMachineArn");
        self.0.lock().unwrap().push(input);
        Ok("arn".into())
    }
}

/// What the schedule gives becomes, table by table, a request that PlanBackup takes.
#[tokio::test]
async fn the_schedule_asks_for_a_backup_of_every_table() {
    let text = checkout::text("statemachine/start-backups.asl.json").unwrap();
    let machine = StateMachine::parse(&text, &BTreeMap::new()).unwrap();
    for (tables, capacity, with_stream, units) in [
        ("orders", "", "false", None),
        (FIVE, "250", "true", Some(250.0)),
        (FIVE, "0", "false", Some(0.0)),
    ] {
        let template = deployed(
            tables,
            &[
                ("ReadCapacity", capacity),
                ("WithStream", with_stream),
                ("Concurrency", "9"),
            ],
        );
        let events = template
            .property("StartBackupsStateMachine", "Events")
            .unwrap();
        let input = events["Scheduled"]["Properties"]["Input"]
            .as_str()
            .unwrap()
            .to_owned();
        let told = template.document()["Outputs"]["StartBackupsInput"]["Value"].clone();
        assert_eq!(
            template.resolve(&told).unwrap().unwrap(),
            input,
            "the output tells it"
        );
        let started = Started::default();
        let options = Options {
            clock: std::sync::Arc::new(SkipPauses),
            ..Options::default()
        };
        let execution = Execution {
            id: "run".into(),
            start_time: "2026-01-14T10:18:50.622Z".into(),
        };
        let input = serde_json::from_str(&input).unwrap();
        walk(&machine, input, &execution, &started, &options)
            .await
            .unwrap();
        let requests = started.0.into_inner().unwrap();
        let expected: Vec<BackupRequest> = tables
            .split(',')
            .map(|table| BackupRequest {
                table: Some(table.parse().unwrap()),
                to: Some("s3://made-bucket/snapshots".into()),
                concurrency: Some(9),
                read_capacity: units,
                with_stream: with_stream == "true",
                ..BackupRequest::default()
            })
            .collect();
        let requests = requests.into_iter().map(serde_json::from_value);
        let requests: Vec<BackupRequest> = requests.collect::<Result<_, _>>().unwrap();
        assert_eq!(requests, expected);
        for request in requests {
            request.check().unwrap();
        }
    }
}

#[test]
fn the_restore_that_is_told_as_an_example_is_one() {
    let template = deployed("orders", &[]);
    let told = template.document()["Outputs"]["RestoreRequest"]["Value"].clone();
    let told = template.resolve(&told).unwrap().unwrap();
    let request: RestoreRequest = serde_json::from_str(told.as_str().unwrap()).unwrap();
    request.check().unwrap();
    let to = request.to.unwrap();
    let (stem, end) = ("orders", "-restored");
    assert_eq!(
        to.name(),
        format!("{stem}{end}"),
        "RestoreTables allows it by default"
    );
    let document = document();
    assert_eq!(
        document["Parameters"]["RestoreTables"]["Default"],
        format!("*{end}")
    );
}

/// `highwater start --stack` finds a stack by these.
#[test]
fn the_machines_have_the_names_and_tags_that_the_command_line_looks_for() {
    let template = deployed(FIVE, &[]);
    let stack = "nightly".parse().unwrap();
    for (machine, workflow) in [
        ("BackupStateMachine", Workflow::Backup),
        ("RestoreStateMachine", Workflow::Restore),
    ] {
        assert_eq!(
            template.property(machine, "Name").unwrap(),
            workflow.machine_name(&stack)
        );
        let tags = template.property(machine, "Tags").unwrap();
        let tags: BTreeMap<String, String> = serde_json::from_value(tags).unwrap();
        let read = StackTags::read(&tags).unwrap();
        assert_eq!(read.to.to_string(), "s3://made-bucket/snapshots");
        assert_eq!(read.control_table, "made-control");
        let names: Vec<&str> = read.tables.iter().map(TableRef::name).collect();
        assert_eq!(names.join(","), FIVE);
    }
}

/// A distributed Map is its own machine's execution, whose name the role must know before there is the machine.
#[test]
fn a_machine_with_children_may_start_itself_and_nothing_else() {
    let template = deployed("orders", &[]);
    let arn = |rest: &str| format!("arn:aws:states:eu-west-1:123456789012:{rest}");
    for (machine, name, others) in [
        ("BackupStateMachine", "nightly-backup", vec![]),
        ("RestoreStateMachine", "nightly-restore", vec![]),
        (
            "StartBackupsStateMachine",
            "nightly-start-backups",
            vec![arn("stateMachine:nightly-backup")],
        ),
    ] {
        let definition = template.property(machine, "DefinitionUri").unwrap();
        let has_children = checkout::text(definition.as_str().unwrap())
            .unwrap()
            .contains("DISTRIBUTED");
        let mut started = others;
        let mut watched = Vec::new();
        if has_children {
            started.push(arn(&format!("stateMachine:{name}")));
            watched = vec![
                arn(&format!("execution:{name}:*")),
                arn(&format!("execution:{name}/*")),
            ];
        }
        let of = |action: &str| {
            let all = statements(&template).into_iter();
            let own = all.filter(|(whose, statement)| {
                whose == machine && texts(&statement["Action"]).contains(&action.to_owned())
            });
            own.flat_map(|(_, statement)| texts(&statement["Resource"]))
                .collect::<Vec<String>>()
        };
        assert_eq!(of("states:StartExecution"), started, "{machine}");
        assert_eq!(of("states:StopExecution"), watched, "{machine}");
        assert_eq!(of("states:DescribeExecution"), watched, "{machine}");
    }
}

#[test]
fn every_log_is_made_with_its_retention() {
    let groups: BTreeMap<String, Value> = resources("AWS::Logs::LogGroup").into_iter().collect();
    let mut used = BTreeSet::new();
    for (name, function) in resources("AWS::Serverless::Function") {
        let group = function["LoggingConfig"]["LogGroup"]["Ref"].as_str();
        used.insert(
            group
                .unwrap_or_else(|| panic!("{name} logs where it likes"))
                .to_owned(),
        );
    }
    for (name, machine) in resources("AWS::Serverless::StateMachine") {
        let destination =
            &machine["Logging"]["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"];
        assert_eq!(machine["Tracing"]["Enabled"], true, "{name}");
        used.insert(destination["Fn::GetAtt"][0].as_str().unwrap().to_owned());
    }
    assert_eq!(used, groups.keys().cloned().collect());
    for (name, group) in groups {
        assert_eq!(
            group["RetentionInDays"],
            json!({"Ref": "LogRetentionDays"}),
            "{name}"
        );
    }
}

/// The alarms of one stack with two streams and replicas: logical id, and what `CloudWatch` calls it.
fn alarms() -> Vec<(String, String)> {
    let template = deployed(
        FIVE,
        &[
            ("StreamArns", &streams(&["orders", "stock"])),
            ("ReplicaTables", "*-replica"),
        ],
    );
    let alarms = template.resources(&["AWS::CloudWatch::Alarm"]).unwrap();
    let named = alarms.into_iter().map(|alarm| {
        let name = template.property(&alarm, "AlarmName").unwrap();
        (alarm, name.as_str().unwrap().to_owned())
    });
    named.collect()
}

#[test]
fn an_alarm_tells_somebody_and_knows_what_silence_means() {
    let topic = "arn:aws:sns:eu-west-1:123456789012:mine";
    let with_streams = streams(&["orders", "stock"]);
    for (parameters, actions) in [
        (&[][..], Value::Null),
        (
            &[("AlarmTopicArn", topic), ("AlarmEmail", "a@b.c")][..],
            json!([topic]),
        ),
        (
            &[("AlarmEmail", "a@b.c")][..],
            json!(["arn:aws:sns:eu-west-1:123456789012:nightly-AlarmTopic"]),
        ),
    ] {
        let mut all = vec![
            ("StreamArns", with_streams.as_str()),
            ("ReplicaTables", "*-replica"),
        ];
        all.extend(parameters);
        let template = deployed(FIVE, &all);
        for (alarm, _) in alarms() {
            for state in ["AlarmActions", "OKActions"] {
                assert_eq!(
                    template.property(&alarm, state).unwrap(),
                    actions,
                    "{alarm}"
                );
            }
            let missing = template.property(&alarm, "TreatMissingData").unwrap();
            let expected = match alarm.trim_end_matches(|it: char| it.is_ascii_digit()) {
                "MarkLagAlarm" => "breaching",
                "UnhealedGapsAlarm" => "ignore",
                _ => "notBreaching",
            };
            assert_eq!(missing, expected, "{alarm}");
        }
    }
}

#[test]
fn each_stream_has_its_alarms_under_its_tables_name() {
    let names: BTreeSet<String> = alarms().into_iter().map(|(_, name)| name).collect();
    for kind in [
        "mark-lag",
        "unhealed-gaps",
        "batch-failures",
        "discarded-records",
        "replica-lag",
        "replica-refused",
        "replica-failed",
    ] {
        for table in ["orders", "stock"] {
            assert!(
                names.contains(&format!("nightly-{kind}-{table}")),
                "{kind} {table}: {names:?}"
            );
        }
    }
    let template = deployed(
        FIVE,
        &[
            ("StreamArns", &streams(&["orders", "stock"])),
            ("ReplicaTables", "*-replica"),
        ],
    );
    for (kind, metric) in [
        ("ReplicaLagAlarm", "ReplicaLagSeconds"),
        ("ReplicaRefusedAlarm", "ReplicaRefused"),
        ("ReplicaFailedAlarm", "ReplicasFailed"),
        ("MarkLagAlarm", "MarkLag"),
        ("UnhealedGapsAlarm", "UnhealedGaps"),
        ("BatchFailuresAlarm", "BatchFailures"),
    ] {
        for (place, table) in [(1, "orders"), (2, "stock")] {
            let alarm = format!("{kind}{place}");
            let property = |name: &str| template.property(&alarm, name).unwrap();
            assert_eq!(property("Namespace"), highwater_lambda::metrics::NAMESPACE);
            assert_eq!(property("MetricName"), metric);
            let expected = json!([
                {"Name": highwater_lambda::metrics::STACK, "Value": "nightly"},
                {"Name": highwater_lambda::metrics::TABLE, "Value": table}
            ]);
            assert_eq!(property("Dimensions"), expected);
        }
    }
    let silent = deployed(FIVE, &[])
        .resources(&["AWS::CloudWatch::Alarm"])
        .unwrap();
    assert_eq!(
        silent.len(),
        33,
        "without a stream nothing is said of streams: {silent:?}"
    );
}

#[test]
fn the_dashboard_is_one() {
    let template = deployed(FIVE, &[]);
    let body = template.property("Dashboard", "DashboardBody").unwrap();
    let body: Value = serde_json::from_str(body.as_str().unwrap()).unwrap();
    let widgets = body["widgets"].as_array().unwrap();
    let mut corners = BTreeSet::new();
    for widget in widgets {
        assert!(
            corners.insert((widget["x"].as_u64(), widget["y"].as_u64())),
            "{widget}"
        );
        let metrics = widget["properties"]["metrics"].as_array().unwrap();
        assert!(
            !metrics.is_empty() && metrics.iter().all(Value::is_array),
            "{widget}"
        );
        for search in texts(&widget["properties"]["metrics"]) {
            if search.starts_with("SEARCH(") {
                assert!(
                    search.contains("Stack=\"nightly\""),
                    "{search}: of this stack only"
                );
            }
            assert!(!search.contains("${A"), "{search}");
        }
    }
    let text = body.to_string();
    for metric in highwater_lambda::metrics::METRICS {
        assert!(
            text.contains(&format!("\\\"{}\\\"", metric.name)),
            "{} is nowhere to be seen",
            metric.name
        );
    }
}

/// The handbook has a line for every parameter and for every alarm.
#[test]
fn the_handbook_tells_of_every_parameter_and_every_alarm() {
    let handbook = checkout::text("docs/OPERATIONS.md").unwrap();
    let document = document();
    for parameter in document["Parameters"].as_object().unwrap().keys() {
        assert!(
            handbook.contains(&format!("\n| `{parameter}` |")),
            "{parameter}"
        );
    }
    let headings: Vec<&str> = handbook
        .lines()
        .filter(|line| line.starts_with("### "))
        .collect();
    let functions = checkout::entries("functions").unwrap();
    let ends: Vec<String> = ["orders", "stock"]
        .map(str::to_owned)
        .into_iter()
        .chain(functions)
        .map(|end| format!("-{end}"))
        .collect();
    for (alarm, name) in alarms() {
        let name = name.strip_prefix("nightly-").unwrap();
        let kind = ends.iter().find_map(|end| name.strip_suffix(end.as_str()));
        let kind = format!("`{}`", kind.unwrap_or(name));
        let told = headings.iter().filter(|line| line.contains(&kind)).count();
        assert_eq!(told, 1, "{alarm}: sections about {kind}");
    }
    for (alarm, _) in resources("AWS::CloudWatch::Alarm") {
        let known = alarms().into_iter().any(|(known, _)| {
            let kind = |name: &str| {
                name.trim_end_matches(|it: char| it.is_ascii_digit())
                    .to_owned()
            };
            kind(&known) == kind(&alarm)
        });
        assert!(known, "{alarm} is an alarm that these tests do not see");
    }
}
