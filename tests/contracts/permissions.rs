//! What the state machines may do is what their definitions name, and nothing is allowed that is written down elsewhere.
//! What the functions may do is held against whole runs: `tests/functions/permissions.rs`.

use std::collections::BTreeSet;

use highwater_tests::checkout;
use highwater_tests::machine_calls::asked_by;
use highwater_tests::permissions::{Documented, findings, policy_of};
use highwater_tests::policy::{Policy, Request, Statement};
use highwater_tests::stack_template::{Place, StackTemplate};
use serde_json::{Value, json};

const MACHINE: &str = "AWS::Serverless::StateMachine";
const FUNCTION: &str = "AWS::Serverless::Function";

const LOG_DELIVERY: &str =
    "Step Functions asks for it to deliver the machine's own log; these actions know no resources";
const BRANCHES: &str =
    "Step Functions asks for it where the branches of a Map are executions of their own";

const fn log_delivery(action: &'static str) -> Documented {
    Documented {
        whose: "*StateMachine",
        action,
        // One character: the star itself.
        resource: "?",
        reason: LOG_DELIVERY,
    }
}

const fn branches(whose: &'static str, action: &'static str, resource: &'static str) -> Documented {
    Documented {
        whose,
        action,
        resource,
        reason: BRANCHES,
    }
}

/// What the machines' roles need besides what their definitions name.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html>,
/// <https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html>
const DOCUMENTED: [Documented; 12] = [
    log_delivery("logs:CreateLogDelivery"),
    log_delivery("logs:GetLogDelivery"),
    log_delivery("logs:UpdateLogDelivery"),
    log_delivery("logs:DeleteLogDelivery"),
    log_delivery("logs:ListLogDeliveries"),
    log_delivery("logs:PutResourcePolicy"),
    log_delivery("logs:DescribeResourcePolicies"),
    log_delivery("logs:DescribeLogGroups"),
    branches(
        "BackupStateMachine",
        "states:DescribeExecution",
        "*:execution:hw-backup*",
    ),
    branches(
        "BackupStateMachine",
        "states:StopExecution",
        "*:execution:hw-backup*",
    ),
    branches(
        "RestoreStateMachine",
        "states:DescribeExecution",
        "*:execution:hw-restore*",
    ),
    branches(
        "RestoreStateMachine",
        "states:StopExecution",
        "*:execution:hw-restore*",
    ),
];

fn template() -> StackTemplate {
    let place = Place {
        region: "eu-north-1".into(),
        account: "123456789012".into(),
        stack: "hw".into(),
    };
    let text = checkout::text("template.yaml").unwrap();
    let template = StackTemplate::read(&text, place).unwrap();
    template
        .with_parameter("TableNames", "orders,customers")
        .unwrap()
}

fn asked(template: &StackTemplate, machine: &str) -> BTreeSet<Request> {
    asked_by(template, machine).unwrap_or_else(|error| panic!("{error}"))
}

fn policy(template: &StackTemplate, whose: &str) -> Policy {
    policy_of(template, whose).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_machine_may_call_what_its_definition_names_and_no_more() {
    let template = template();
    let machines = template.resources(&[MACHINE]).unwrap();
    assert_eq!(
        machines.len(),
        checkout::entries("statemachine").unwrap().len()
    );
    for machine in machines {
        let asked = asked(&template, &machine);
        assert!(!asked.is_empty(), "{machine} calls nobody");
        let found = findings(&machine, &policy(&template, &machine), &asked, &DOCUMENTED);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// The backup's machine calls its three functions, and starts itself for its branches; the starter starts the backup.
#[test]
fn what_the_machines_ask_for_is_read_from_their_definitions() {
    let told = |machine: &str| -> Vec<String> {
        let asked = asked(&template(), machine).into_iter();
        asked
            .map(|it| format!("{} {}", it.action, it.resource))
            .collect()
    };
    let function = |name: &str| {
        format!(
            "lambda:InvokeFunction arn:aws:lambda:eu-north-1:123456789012:function:hw-{name}Function"
        )
    };
    let start = |name: &str| {
        format!(
            "states:StartExecution arn:aws:states:eu-north-1:123456789012:stateMachine:hw-{name}"
        )
    };
    assert_eq!(
        told("BackupStateMachine"),
        [
            function("FinalizeBackup"),
            function("PlanBackup"),
            function("ScanSegment"),
            start("backup")
        ]
    );
    let restore = [
        "FinalizeRestore",
        "FoldLog",
        "LoadPart",
        "PlanRestore",
        "ScatterLog",
    ];
    let restore: Vec<String> = restore
        .map(function)
        .into_iter()
        .chain([start("restore")])
        .collect();
    assert_eq!(told("RestoreStateMachine"), restore);
    assert_eq!(told("StartBackupsStateMachine"), [start("backup")]);
}

/// Whatever is taken from a machine's policy, or added to it, is found.
#[test]
fn one_permission_more_or_less_of_a_machine_is_found() {
    let template = template();
    for machine in template.resources(&[MACHINE]).unwrap() {
        let (whole, asked) = (policy(&template, &machine), asked(&template, &machine));
        let finds = |policy: &Policy| findings(&machine, policy, &asked, &DOCUMENTED);
        let mut tried = 0;
        for place in 0..whole.statements.len() {
            let mut change = |change: &mut dyn FnMut(&mut Statement), what: &str| {
                let mut changed = whole.clone();
                change(&mut changed.statements[place]);
                assert!(
                    !finds(&changed).is_empty(),
                    "{machine}, statement {place}: {what}"
                );
                tried += 1;
            };
            for action in 0..whole.statements[place].actions.len() {
                change(&mut |it| drop(it.actions.remove(action)), "an action less");
            }
            change(
                &mut |it| it.actions.push("lambda:UpdateFunctionCode".into()),
                "an action more",
            );
            change(&mut |it| it.actions = vec!["*".into()], "every action");
            if whole.statements[place].resources != ["*"] {
                change(&mut |it| it.resources = vec!["*".into()], "every resource");
            }
        }
        assert!(tried > 10, "{machine}: {tried}");
    }
}

/// No role, no connector and no managed policy gives anybody what these tests do not see. What SAM itself adds: writing to
/// the function's own log group and X-Ray, and for each schedule the right to start exactly its target.
#[test]
fn nothing_is_allowed_elsewhere_than_in_the_policies() {
    let template = template();
    let kinds = [
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::UserPolicy",
        "AWS::Serverless::Connector",
        "AWS::Lambda::Permission",
    ];
    assert_eq!(template.resources(&kinds).unwrap(), [""; 0]);
    let globals = &template.document()["Globals"]["Function"];
    for member in [
        "Policies",
        "Role",
        "VpcConfig",
        "FileSystemConfigs",
        "DeadLetterConfig",
    ] {
        assert_eq!(globals[member], Value::Null, "{member}");
    }
    for whose in template.resources(&[MACHINE, FUNCTION]).unwrap() {
        policy(&template, &whose);
        let events = template.property(&whose, "Events").unwrap();
        for (name, event) in events.as_object().into_iter().flatten() {
            assert_eq!(event["Type"], "ScheduleV2", "{whose} {name}");
            assert_eq!(
                event["Properties"]["RoleArn"],
                Value::Null,
                "{whose} {name}"
            );
        }
        for member in [
            "VpcConfig",
            "DeadLetterConfig",
            "EventInvokeConfig",
            "FunctionUrlConfig",
        ] {
            assert_eq!(
                template.property(&whose, member).unwrap(),
                Value::Null,
                "{whose}: {member}"
            );
        }
    }
}

#[test]
fn a_managed_policy_or_a_role_from_elsewhere_is_refused() {
    for (member, value) in [
        ("Policies", json!(["AWSLambdaDynamoDBExecutionRole"])),
        ("Role", json!("arn:aws:iam::123456789012:role/anybody")),
    ] {
        let changed = template().changed(|document| {
            document["Resources"]["ScanSegmentFunction"]["Properties"][member] = value.clone();
        });
        let refused = policy_of(&changed, "ScanSegmentFunction").unwrap_err();
        assert!(
            refused.to_string().contains("ScanSegmentFunction"),
            "{refused}"
        );
    }
}
