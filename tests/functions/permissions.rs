//! What the functions ask of AWS in whole runs, held against their policies in `template.yaml`: neither less nor more.

use std::collections::BTreeSet;
use std::time::Duration;

use highwater_local::StreamShape;
use highwater_testkit::recorded_needs::RecordedNeeds;
use highwater_tests::permissions::{Documented, findings, policy_of};
use highwater_tests::policy::{Policy, Request};
use highwater_tests::stack_template::{Place, StackTemplate};
use highwater_tests::{binaries, checkout};
use tokio::sync::OnceCell;

use super::account::{Account, BUCKET, PREFIX, TABLE};
use super::recorded_account::Recorded;
use super::recorded_restores::ELSEWHERE;
use super::{recorded_backups, recorded_log, recorded_replica, recorded_restores};

const KEY: &str = "arn:aws:kms:dynoxide:000000000000:key/1234";
const ROLE: &str = "arn:aws:iam::999999999999:role/replica";
const THEIR_KEY: &str = "arn:aws:kms:dynoxide:000000000000:key/5678";

/// Lambda reads the stream of a mapping in the function's name, and writes what it has to discard.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html#events-dynamodb-permissions>,
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-s3-destination.html>
const fn of_mapping(action: &'static str, resource: &'static str) -> Documented {
    Documented {
        whose: "ConsumeStreamFunction",
        action,
        resource,
        reason: "Lambda needs it for the mapping: it acts with the function's role",
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Requesting.html>
const fn of_import(action: &'static str) -> Documented {
    Documented {
        whose: "LoadPartFunction",
        action,
        resource: "arn:aws:logs:dynoxide:000000000000:log-group:/aws-dynamodb/*",
        reason: "DynamoDB's import writes its log of errors with the caller's role",
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html>
const fn of_key(action: &'static str) -> Documented {
    Documented {
        whose: "*Function",
        action,
        resource: KEY,
        reason: "S3 asks for it where the bucket's objects are encrypted with a key of the user's",
    }
}

const fn of_their_key(whose: &'static str) -> Documented {
    Documented {
        whose,
        resource: THEIR_KEY,
        ..of_key("kms:Decrypt")
    }
}

/// The embedded engines have no STS; that it is asked under our name is shown where its caller is tested, in `shared/aws`.
const fn of_role(whose: &'static str) -> Documented {
    Documented {
        whose,
        action: "sts:AssumeRole",
        resource: ROLE,
        reason: "a replica in another account or region is reached by this role",
    }
}

/// What the functions' policies need although no run can use it here.
const DOCUMENTED: [Documented; 24] = [
    of_mapping("dynamodb:DescribeStream", "*/stream/*"),
    of_mapping("dynamodb:GetRecords", "*/stream/*"),
    of_mapping("dynamodb:GetShardIterator", "*/stream/*"),
    of_mapping("dynamodb:ListStreams", "*/stream/*"),
    of_mapping("s3:PutObject", "*/aws/lambda/*"),
    of_mapping("s3:ListBucket", "arn:aws:s3:::highwater-snapshots"),
    of_import("logs:CreateLogGroup"),
    of_import("logs:CreateLogStream"),
    of_import("logs:DescribeLogGroups"),
    of_import("logs:DescribeLogStreams"),
    of_import("logs:PutLogEvents"),
    of_import("logs:PutRetentionPolicy"),
    of_key("kms:GenerateDataKey"),
    of_key("kms:Decrypt"),
    of_their_key("PlanRestoreFunction"),
    of_their_key("ScatterLogFunction"),
    of_their_key("LoadPartFunction"),
    Documented {
        whose: "LoadPartFunction",
        action: "dynamodb:DescribeImport",
        resource: "*-replica/import/*",
        reason: "a replica is loaded by DynamoDB's import where that is better, as any table is",
    },
    Documented {
        whose: "ApplyLogFunction",
        action: "dynamodb:BatchGetItem",
        resource: "*-replica",
        reason: "where the fences are attributes they are read with their items",
    },
    of_role("PlanRestoreFunction"),
    of_role("LoadPartFunction"),
    of_role("FinalizeRestoreFunction"),
    of_role("ConsumeStreamFunction"),
    of_role("ApplyLogFunction"),
];

async fn account() -> Recorded {
    let shape = StreamShape {
        lineages: 2,
        roll_after_records: 100,
        made_before: Duration::from_mins(1),
        ..StreamShape::default()
    };
    let recorded = Recorded::over(Account::with_streams(shape).await).await;
    recorded_backups::furnish(&recorded).await;
    recorded
}

/// Backups, the live side, restores.
async fn whole_life() -> RecordedNeeds {
    let recorded = account().await;
    let base = recorded_backups::run(&recorded).await;
    recorded_log::run(&recorded).await;
    recorded_restores::run(&recorded, &base).await;
    recorded_replica::run(&recorded).await;
    recorded.needs()
}

/// A gap in the log, and the backup that heals it.
async fn lost_records() -> RecordedNeeds {
    let recorded = account().await;
    recorded_backups::sealed(&recorded).await;
    recorded_log::lose(&recorded).await;
    recorded.needs()
}

async fn runs() -> RecordedNeeds {
    // All programs at once: whoever edits while they run does not change what is recorded.
    for function in checkout::entries("functions").unwrap() {
        let _ = binaries::path(&function);
    }
    let (one, other) = tokio::join!(whole_life(), lost_records());
    one.and(other)
}

/// Everything that the functions have asked for in all runs, which are made once.
async fn recorded() -> &'static RecordedNeeds {
    static RECORDED: OnceCell<RecordedNeeds> = OnceCell::const_new();
    RECORDED.get_or_init(|| Box::pin(runs())).await
}

/// The stack as it would be deployed for the runs: with everything that can be asked of it.
fn template(own_bucket: bool) -> StackTemplate {
    let place = Place {
        region: "dynoxide".into(),
        account: "000000000000".into(),
        stack: "highwater".into(),
    };
    let text = checkout::text("template.yaml").unwrap();
    let mut template = StackTemplate::read(&text, place).unwrap();
    let stream = format!(
        "arn:aws:dynamodb:dynoxide:000000000000:table/{TABLE}/stream/2026-01-14T10:02:11.204"
    );
    let elsewhere = format!("{ELSEWHERE}/{PREFIX}");
    for (name, value) in [
        ("TableNames", TABLE),
        ("StreamArns", &stream),
        ("Prefix", PREFIX),
        ("RestoreTables", "*-restored"),
        ("ReplicaTables", "*-replica"),
        ("ReplicaRoleArn", ROLE),
        ("KmsKeyArn", KEY),
        ("RestoreFrom", &elsewhere),
        ("RestoreFromKmsKeyArn", THEIR_KEY),
        ("BucketName", if own_bucket { BUCKET } else { "" }),
    ] {
        template = template.with_parameter(name, value).unwrap();
    }
    template
        .with_name("SnapshotBucket", BUCKET)
        .with_name("ControlTable", "highwater-control")
}

/// `scan-segment` as `ScanSegmentFunction`.
fn logical_id(function: &str) -> String {
    let words = function.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect::<String>() + "Function"
}

fn asked(needs: &RecordedNeeds, function: &str) -> BTreeSet<Request> {
    let needs = needs.needs[function].iter().map(|need| Request {
        action: need.action.clone(),
        resource: need.resource.clone(),
        context: need.context.clone(),
    });
    needs.collect()
}

fn policy(template: &StackTemplate, function: &str) -> Policy {
    policy_of(template, &logical_id(function)).unwrap_or_else(|error| panic!("{error}"))
}

/// Done-when 4: every function of the folder, in a bucket that the stack makes and in one of the user's.
#[tokio::test(flavor = "multi_thread")]
async fn every_policy_allows_what_its_function_asks_for_and_no_more() {
    let needs = recorded().await;
    assert_eq!(needs.unknown, BTreeSet::new());
    let functions = checkout::entries("functions").unwrap();
    let callers: BTreeSet<String> = needs.needs.keys().cloned().collect();
    assert_eq!(
        callers,
        functions.iter().cloned().collect(),
        "each function has asked for something"
    );
    let mut found = Vec::new();
    for own_bucket in [false, true] {
        let template = template(own_bucket);
        for function in &functions {
            let whose = logical_id(function);
            let of_function = findings(
                &whose,
                &policy(&template, function),
                &asked(needs, function),
                &DOCUMENTED,
            );
            found.extend(
                of_function
                    .into_iter()
                    .filter(|it| !found.contains(it))
                    .collect::<Vec<_>>(),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Whatever is taken from a function's policy, or added to it, is found.
#[tokio::test(flavor = "multi_thread")]
async fn one_permission_more_or_less_of_a_function_is_found() {
    let needs = recorded().await;
    let template = template(false);
    for function in checkout::entries("functions").unwrap() {
        let whose = logical_id(&function);
        let (exact, asked) = (policy(&template, &function), asked(needs, &function));
        let finds = |change: &dyn Fn(&mut Policy)| {
            let mut changed = exact.clone();
            change(&mut changed);
            findings(&whose, &changed, &asked, &DOCUMENTED)
        };
        assert_eq!(finds(&|_| {}), [""; 0]);
        for (place, statement) in exact.statements.iter().enumerate() {
            for (index, action) in statement.actions.iter().enumerate() {
                let found = finds(&|it| drop(it.statements[place].actions.remove(index)));
                assert!(
                    !found.is_empty(),
                    "{}: nobody misses {action}",
                    statement.place
                );
            }
            for more in ["dynamodb:DeleteTable", "s3:*", "iam:PassRole"] {
                let found = finds(&|it| it.statements[place].actions.push(more.into()));
                assert!(
                    found.iter().any(|it| it.contains(more)),
                    "{}: {more}",
                    statement.place
                );
            }
            let found =
                finds(&|it| it.statements[place].resources = vec!["arn:aws:s3:::other/*".into()]);
            assert!(!found.is_empty(), "{}: another resource", statement.place);
        }
    }
}
