/** The construct and template.yaml deploy the same: both are resolved for the same tables and compared. */
import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { test } from "node:test";
import { App, Stack } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import * as kms from "aws-cdk-lib/aws-kms";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as s3 from "aws-cdk-lib/aws-s3";
import * as sns from "aws-cdk-lib/aws-sns";
import { Highwater, HighwaterProps } from "../lib/highwater";
import { Deployed, read } from "./resolve";

const ROOT = path.resolve(__dirname, "..", "..", "..");
const SAM = read(fs.readFileSync(path.join(ROOT, "template.yaml"), "utf8"));
/** Without `.cargo`, which says how they are built. */
const FOLDERS = fs.readdirSync(path.join(ROOT, "functions")).filter((name) => !name.startsWith(".")).sort();

/** Empty files in the place of the functions: these tests are not about what is in them. */
const LAMBDA_DIR = fs.mkdtempSync(path.join(os.tmpdir(), "highwater-cdk-"));
for (const folder of FOLDERS) {
  fs.mkdirSync(path.join(LAMBDA_DIR, folder));
  fs.writeFileSync(path.join(LAMBDA_DIR, folder, "bootstrap"), "");
}
process.on("exit", () => fs.rmSync(LAMBDA_DIR, { recursive: true }));

const stream = (table: string) =>
  `arn:aws:dynamodb:eu-west-1:123456789012:table/${table}/stream/2026-01-14T10:02:11.204`;
const KEY = "arn:aws:kms:eu-west-1:123456789012:key/12345678-1234-1234-1234-123456789012";
const OTHER_KEY = "arn:aws:kms:eu-west-1:210987654321:key/87654321-4321-4321-4321-210987654321";
const ROLE = "arn:aws:iam::210987654321:role/replica";
const TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms";

interface Case {
  readonly title: string;
  readonly parameters: { [name: string]: string | string[] };
  readonly props: (stack: Stack) => HighwaterProps;
}

const CASES: Case[] = [
  { title: "one table", parameters: { TableNames: ["orders"] }, props: () => ({ tables: [{ tableName: "orders" }] }) },
  {
    title: "three tables, two of them with a stream, and all that can be asked for",
    parameters: {
      TableNames: ["orders", "customers", "stock"],
      StreamArns: [stream("orders"), stream("stock")],
      Prefix: "a/b",
      KmsKeyArn: KEY,
      SnapshotRetentionDays: "35",
      ReaderAccounts: ["210987654321"],
      ScheduleExpression: "rate(12 hours)",
      ScheduleState: "DISABLED",
      Concurrency: "60",
      ReadCapacity: "500",
      WithStream: "true",
      ScanSegmentMemory: "3008",
      RestoreTables: "drill-*",
      RestoreFrom: "theirs/backups",
      RestoreFromKmsKeyArn: OTHER_KEY,
      ReplicaTables: "*-replica",
      ReplicaRoleArn: ROLE,
      ReplicaLagAlarmSeconds: "1200",
      PublicationDelay: "60",
      BatchingWindowSeconds: "30",
      AlarmTopicArn: TOPIC,
      MarkLagAlarmSeconds: "900",
      Architecture: "x86_64",
    },
    props: (stack) => ({
      tables: [
        { tableName: "orders", streamArn: stream("orders") },
        { tableName: "customers" },
        { tableName: "stock", streamArn: stream("stock") },
      ],
      prefix: "a/b",
      encryptionKey: kms.Key.fromKeyArn(stack, "Key", KEY),
      snapshotRetentionDays: 35,
      readerAccounts: ["210987654321"],
      scheduleExpression: "rate(12 hours)",
      scheduleEnabled: false,
      concurrency: 60,
      readCapacity: 500,
      withStream: true,
      scanSegmentMemory: 3008,
      restoreTables: "drill-*",
      restoreFrom: { location: "theirs/backups", kmsKeyArn: OTHER_KEY },
      replicaTables: "*-replica",
      replicaRoleArn: ROLE,
      replicaLagAlarmSeconds: 1200,
      publicationDelay: 60,
      batchingWindowSeconds: 30,
      alarmTopic: sns.Topic.fromTopicArn(stack, "Topic", TOPIC),
      markLagAlarmSeconds: 900,
      architecture: lambda.Architecture.X86_64,
    }),
  },
  {
    title: "a bucket of theirs",
    parameters: { TableNames: ["orders"], StreamArns: [stream("orders")], BucketName: "theirs" },
    props: (stack) => ({
      tables: [{ tableName: "orders", streamArn: stream("orders") }],
      bucket: s3.Bucket.fromBucketName(stack, "Theirs", "theirs"),
    }),
  },
];

function synthesised(props: (stack: Stack) => HighwaterProps): Deployed {
  const stack = new Stack(new App(), "nightly");
  const given = props(stack);
  new Highwater(stack, "Highwater", { lambdaDir: LAMBDA_DIR, ...given });
  // The template knows a mapping by its place, and the construct by its table.
  const places = given.tables.filter((it) => it.streamArn !== undefined).map((it) => it.tableName.replace(/\W|_/g, ""));
  const rename = (id: string) =>
    id
      .replace(/^Highwater(.*?)[0-9A-F]{8}$/, "$1")
      .replace(/^(ConsumeStreamMapping)(.+)$/, (_all, kind, table) => `${kind}${places.indexOf(table) + 1}`);
  return new Deployed(Template.fromStack(stack).toJSON(), {}, rename);
}

const pairs = CASES.map((it) => ({ ...it, sam: new Deployed(SAM, it.parameters), cdk: synthesised(it.props) }));

function each(title: string, check: (sam: Deployed, cdk: Deployed) => void): void {
  for (const pair of pairs) {
    test(`${title}: ${pair.title}`, () => check(pair.sam, pair.cdk));
  }
}

/** Numbers as text, as a parameter gives them. */
const plain = (value: any) => JSON.parse(JSON.stringify(value), (_key, it) => (typeof it === "number" ? String(it) : it));

const list = (value: any): any[] => (Array.isArray(value) ? value : [value]);

/** Every permission as one line, so that it does not matter how they are gathered in statements. */
function permissions(statements: any[]): string[] {
  const lines = statements.flatMap((statement) => {
    assert.equal(statement.Effect, "Allow");
    return list(statement.Action).flatMap((action) =>
      list(statement.Resource).map((resource) => `${action} ${resource} ${JSON.stringify(statement.Condition ?? {})}`),
    );
  });
  return [...new Set(lines)].sort();
}

/** What SAM and CDK add by themselves for tracing and for a state machine's log. */
const OF_THE_TOOLS = /^(xray|logs:(Create|Get|Update|Delete|List)LogDeliver|logs:(PutResourcePolicy|Describe(ResourcePolicies|LogGroups)) \* )/;

/** The statements of a role of the construct, by the name of what assumes it. */
function roleStatements(cdk: Deployed, owner: string): any[] {
  const policies = [...cdk.resources("AWS::IAM::Policy").entries()];
  const own = policies.filter(([name]) => name.startsWith(`${owner}ServiceRole`) || name.startsWith(`${owner}Role`));
  assert.equal(own.length, 1, `${owner}: ${policies.map(([name]) => name)}`);
  return own[0][1].PolicyDocument.Statement;
}

each("the functions are the same", (sam, cdk) => {
  const globals = sam.section("Globals", "Function");
  const left = sam.resources("AWS::Serverless::Function");
  const right = cdk.resources("AWS::Lambda::Function");
  assert.deepEqual([...right.keys()].sort(), [...left.keys()].sort());
  for (const [name, theirs] of left) {
    const ours = right.get(name);
    const facts = (it: any, environment: any, tracing: any) => ({
      runtime: it.Runtime,
      handler: it.Handler,
      architectures: it.Architectures,
      memory: Number(it.MemorySize),
      timeout: Number(it.Timeout),
      environment: Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, String(value)])),
      tracing,
      log: it.LoggingConfig,
    });
    const variables = { ...globals.Environment.Variables, ...theirs.Environment?.Variables };
    // Places of the list that are empty stay as commas in the template, and the function passes them over.
    if (variables.HIGHWATER_TABLES !== undefined) {
      variables.HIGHWATER_TABLES = variables.HIGHWATER_TABLES.replace(/,+$/, "");
    }
    const logging = { ...globals.LoggingConfig, ...theirs.LoggingConfig };
    const expected = facts({ ...globals, ...theirs, LoggingConfig: logging }, variables, theirs.Tracing ?? globals.Tracing);
    assert.deepEqual(facts(ours, ours.Environment.Variables, ours.TracingConfig.Mode), expected, name);
  }
});

each("a function may do the same", (sam, cdk) => {
  for (const [name, theirs] of sam.resources("AWS::Serverless::Function")) {
    const ours = permissions(roleStatements(cdk, name)).filter((line) => !OF_THE_TOOLS.test(line));
    assert.deepEqual(ours, permissions(theirs.Policies[0].Statement), name);
  }
});

each("the state machines are the same, and may do the same", (sam, cdk) => {
  const right = cdk.resources("AWS::StepFunctions::StateMachine");
  for (const [name, theirs] of sam.resources("AWS::Serverless::StateMachine")) {
    const ours = right.get(name);
    assert.equal(ours.StateMachineName, theirs.Name);
    assert.equal(ours.StateMachineType, theirs.Type);
    assert.deepEqual(ours.DefinitionSubstitutions, theirs.DefinitionSubstitutions);
    assert.equal(ours.TracingConfiguration.Enabled, theirs.Tracing.Enabled);
    const { Level, IncludeExecutionData } = ours.LoggingConfiguration;
    assert.deepEqual([Level, IncludeExecutionData], [theirs.Logging.Level, theirs.Logging.IncludeExecutionData]);
    const tags = Object.fromEntries((ours.Tags ?? []).map((tag: any) => [tag.Key, tag.Value]));
    assert.deepEqual(tags, theirs.Tags ?? {}, name);
    const without = (statements: any[]) => permissions(statements).filter((line) => !OF_THE_TOOLS.test(line));
    assert.deepEqual(without(roleStatements(cdk, name)), without(theirs.Policies[0].Statement), name);
  }
  assert.equal(right.size, 3);
});

each("the mappings are the same", (sam, cdk) => {
  const type = "AWS::Lambda::EventSourceMapping";
  assert.deepEqual(plain(Object.fromEntries(cdk.resources(type))), plain(Object.fromEntries(sam.resources(type))));
});

each("the schedules are the same", (sam, cdk) => {
  const right = cdk.resources("AWS::Scheduler::Schedule");
  const pairsOfSchedules: [string, any][] = [
    ["Backups", sam.resources("AWS::Serverless::StateMachine").get("StartBackupsStateMachine")],
    ["Audits", sam.resources("AWS::Serverless::Function").get("AuditStreamFunction")],
    ["Replicas", sam.resources("AWS::Serverless::Function").get("ApplyLogFunction")],
  ];
  assert.equal(right.size, pairsOfSchedules.length);
  for (const [name, owner] of pairsOfSchedules) {
    const theirs = owner.Events.Scheduled.Properties;
    const ours = right.get(name);
    assert.equal(ours.ScheduleExpression, theirs.ScheduleExpression, name);
    assert.equal(ours.State, theirs.State, name);
    assert.deepEqual(JSON.parse(ours.Target.Input), JSON.parse(theirs.Input), name);
    assert.deepEqual(ours.Target.RetryPolicy, theirs.RetryPolicy, name);
  }
});

each("the control table is the same", (sam, cdk) => {
  const [ours, theirs] = [cdk, sam].map((it) => it.resources("AWS::DynamoDB::Table").get("ControlTable"));
  assert.deepEqual(ours, theirs);
});

each("the bucket is the same, with the same rules", (sam, cdk) => {
  const [ours, theirs] = [cdk, sam].map((it) => it.resources("AWS::S3::Bucket"));
  assert.deepEqual([...ours.keys()], [...theirs.keys()]);
  for (const [name, bucket] of theirs) {
    assert.deepEqual(plain(ours.get(name)), plain(bucket), name);
    const policy = (it: Deployed) =>
      [...it.resources("AWS::S3::BucketPolicy").values()][0].PolicyDocument.Statement.map((statement: any) => ({
        effect: statement.Effect,
        // An account's number and its root are the same principal; so are "*" and {"AWS": "*"}.
        principals: list(statement.Principal.AWS ?? statement.Principal).map((it) =>
          String(it).replace(/^arn:aws:iam::(\d+):root$/, "$1"),
        ),
        actions: list(statement.Action).sort(),
        resources: list(statement.Resource).sort(),
        condition: statement.Condition,
      }));
    assert.deepEqual(policy(cdk), policy(sam));
  }
});

each("the alarms are the same", (sam, cdk) => {
  const facts = (it: Deployed) =>
    [...it.resources("AWS::CloudWatch::Alarm").values()]
      .map((alarm) => ({
        name: alarm.AlarmName,
        metric: [alarm.Namespace, alarm.MetricName, alarm.Statistic, alarm.Period, alarm.Dimensions],
        operator: alarm.ComparisonOperator,
        threshold: Number(alarm.Threshold),
        periods: alarm.EvaluationPeriods,
        missing: alarm.TreatMissingData,
        actions: alarm.AlarmActions ?? [],
        ok: alarm.OKActions ?? [],
      }))
      .sort((left, right) => left.name.localeCompare(right.name));
  assert.deepEqual(facts(cdk), facts(sam));
});

each("the dashboards show the same metrics", (sam, cdk) => {
  const shown = (it: Deployed) => {
    const dashboard = it.resources("AWS::CloudWatch::Dashboard").get("Dashboard");
    const names = JSON.stringify(JSON.parse(dashboard.DashboardBody)).matchAll(/MetricName=\\+"(\w+)\\+"/g);
    return [dashboard.DashboardName, ...new Set([...names].map((it) => it[1]))].sort();
  };
  assert.deepEqual(shown(cdk), shown(sam));
  assert.ok(shown(cdk).length > 20);
});

each("the logs are the same", (sam, cdk) => {
  const facts = (it: Deployed) =>
    [...it.resources("AWS::Logs::LogGroup").values()].map((group) => `${group.LogGroupName} ${group.RetentionInDays}`).sort();
  assert.deepEqual(facts(cdk), facts(sam));
});

test("more tables than a template's list has places are no matter", () => {
  const names = Array.from({ length: 12 }, (_, index) => `table-${index + 1}`);
  const cdk = synthesised(() => ({ tables: names.map((tableName) => ({ tableName, streamArn: stream(tableName) })) }));
  assert.equal(cdk.resources("AWS::Lambda::EventSourceMapping").size, 12);
  const scan = roleStatements(cdk, "ScanSegmentFunction").find((it) => list(it.Action).includes("dynamodb:Scan"));
  assert.equal(scan.Resource.length, 12);
});

test("what cannot be meant is refused", () => {
  assert.throws(() => synthesised(() => ({ tables: [] })), /no table to protect/);
  const rule = (stack: Stack) => ({
    tables: [{ tableName: "orders" }],
    bucket: s3.Bucket.fromBucketName(stack, "Theirs", "theirs"),
    snapshotRetentionDays: 7,
  });
  assert.throws(() => synthesised(rule), /theirs is not/);
});
