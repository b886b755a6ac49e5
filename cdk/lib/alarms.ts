/** The alarms and the dashboard, as in template.yaml; what to do on each alarm is in docs/OPERATIONS.md. */
import { Duration } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import * as actions from "aws-cdk-lib/aws-cloudwatch-actions";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as sns from "aws-cdk-lib/aws-sns";
import * as sfn from "aws-cdk-lib/aws-stepfunctions";
import { Construct } from "constructs";

/** What is watched. */
export interface Watched {
  /** The name that everything is called after: the dimension `Stack` of the metrics. */
  readonly stack: string;
  readonly machines: Record<"backup" | "restore" | "start-backups", sfn.StateMachine>;
  readonly functions: Record<string, lambda.Function>;
  /** The control table's name. */
  readonly controlTable: string;
  /** Tables with a stream, and the mapping of each. */
  readonly streams: { readonly table: string; readonly mapping: string }[];
  readonly topic?: sns.ITopic;
  /** How far the last restorable second may lie back, in seconds. */
  readonly markLagSeconds: number;
  /** How far a live replica may be behind, in seconds; none where there are no replicas. */
  readonly replicaLagSeconds?: number;
}

const PERIOD = Duration.minutes(5);
const { BREACHING, IGNORE, NOT_BREACHING } = cloudwatch.TreatMissingData;

/** Makes the alarms. */
export function alarms(scope: Construct, watched: Watched): cloudwatch.Alarm[] {
  const made: cloudwatch.Alarm[] = [];
  const alarm = (
    name: string,
    metric: cloudwatch.IMetric,
    threshold: number,
    evaluationPeriods: number,
    treatMissingData: cloudwatch.TreatMissingData,
  ): void => {
    const one = new cloudwatch.Alarm(scope, `Alarm-${name}`, {
      alarmName: `${watched.stack}-${name}`,
      alarmDescription: "docs/OPERATIONS.md says what to do",
      metric,
      threshold,
      evaluationPeriods,
      treatMissingData,
      comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
    });
    if (watched.topic !== undefined) {
      one.addAlarmAction(new actions.SnsAction(watched.topic));
      one.addOkAction(new actions.SnsAction(watched.topic));
    }
    made.push(one);
  };
  const metric = (namespace: string, metricName: string, dimensionsMap: Record<string, string>, statistic: string) =>
    new cloudwatch.Metric({ namespace, metricName, dimensionsMap, statistic, period: PERIOD });

  for (const [name, machine] of Object.entries(watched.machines)) {
    const of = { StateMachineArn: machine.stateMachineArn };
    for (const [end, word] of [["Failed", "failed"], ["Aborted", "aborted"], ["TimedOut", "timed-out"]]) {
      alarm(`${name}-${word}`, metric("AWS/States", `Executions${end}`, of, "Sum"), 1, 1, NOT_BREACHING);
    }
  }
  for (const { table, mapping } of watched.streams) {
    const own = (name: string, statistic: string) =>
      metric("Highwater", name, { Stack: watched.stack, Table: table }, statistic);
    const discarded = "OnFailureDestinationDeliveredEventCount";
    alarm(`mark-lag-${table}`, own("MarkLag", "Maximum"), watched.markLagSeconds, 3, BREACHING);
    alarm(`unhealed-gaps-${table}`, own("UnhealedGaps", "Maximum"), 1, 1, IGNORE);
    alarm(`batch-failures-${table}`, own("BatchFailures", "Sum"), 1, 3, NOT_BREACHING);
    alarm(
      `discarded-records-${table}`,
      metric("AWS/Lambda", discarded, { EventSourceMappingUUID: mapping }, "Sum"),
      1,
      1,
      NOT_BREACHING,
    );
  }
  for (const { table } of watched.replicaLagSeconds === undefined ? [] : watched.streams) {
    const own = (name: string, statistic: string) =>
      metric("Highwater", name, { Stack: watched.stack, Table: table }, statistic);
    alarm(`replica-lag-${table}`, own("ReplicaLagSeconds", "Maximum"), watched.replicaLagSeconds ?? 0, 3, NOT_BREACHING);
    alarm(`replica-refused-${table}`, own("ReplicaRefused", "Sum"), 1, 1, NOT_BREACHING);
    alarm(`replica-failed-${table}`, own("ReplicasFailed", "Maximum"), 1, 1, NOT_BREACHING);
  }
  if (watched.streams.length > 0) {
    const consume = { FunctionName: watched.functions["consume-stream"].functionName };
    alarm("iterator-age", metric("AWS/Lambda", "IteratorAge", consume, "Maximum"), 3_600_000, 3, NOT_BREACHING);
  }
  for (const [folder, { functionName }] of Object.entries(watched.functions)) {
    const own = (name: string) => metric("AWS/Lambda", name, { FunctionName: functionName }, "Sum");
    alarm(`function-errors-${folder}`, own("Errors"), 1, 3, NOT_BREACHING);
    alarm(`function-throttles-${folder}`, own("Throttles"), 1, 3, NOT_BREACHING);
  }
  for (const way of ["Read", "Write"]) {
    const throttles = metric("AWS/DynamoDB", `${way}ThrottleEvents`, { TableName: watched.controlTable }, "Sum");
    alarm(`control-table-${way.toLowerCase()}-throttles`, throttles, 1, 3, NOT_BREACHING);
  }
  return made;
}

/** Makes the dashboard: searches find every table by itself. */
export function dashboard(scope: Construct, watched: Watched): cloudwatch.Dashboard {
  const search = (name: string, statistic: string) =>
    new cloudwatch.MathExpression({
      expression: `SEARCH('{Highwater,Stack,Table} Stack="${watched.stack}" MetricName="${name}"', '${statistic}', 300)`,
      label: name,
      period: PERIOD,
    });
  const graph = (title: string, names: string[], statistic = "Sum") =>
    new cloudwatch.GraphWidget({ title, width: 8, left: names.map((name) => search(name, statistic)) });
  const executions = Object.values(watched.machines).flatMap((machine) => [
    machine.metricSucceeded(),
    machine.metricFailed(),
    machine.metricTimedOut(),
    machine.metricAborted(),
  ]);
  const functions = Object.values(watched.functions);
  return new cloudwatch.Dashboard(scope, "Dashboard", {
    dashboardName: `${watched.stack}-highwater`,
    widgets: [
      [
        graph("Seconds from the last restorable second to now", ["MarkLag"], "Maximum"),
        graph("Losses in the change log that no backup has healed", ["UnhealedGaps"], "Maximum"),
        graph("Restorable until (seconds since 1970)", ["RestorableUntil"], "Maximum"),
      ],
      [
        graph("Backups and restores", ["BackupsCompleted", "BackupsFailed", "RestoresCompleted", "RestoresFailed"]),
        new cloudwatch.GraphWidget({ title: "Executions", width: 8, left: executions }),
        graph("Items of backups", ["ItemsRead", "ItemsWritten", "ItemsSkipped"]),
      ],
      [
        graph("Bytes and parts of backups", ["BytesWritten", "PartsWritten"]),
        graph("Capacity units, and throttles", ["ReadCapacity", "WriteCapacity", "Throttles"]),
        graph("Items of restores", ["RestoreItemsWritten", "RestoreItemsSkipped", "RestoreItemsRejected"]),
      ],
      [
        graph("Records of the streams", ["RecordsLogged", "RecordsBackfilled", "RecordsUnread", "BatchFailures"]),
        graph("Objects and bytes of the change logs", ["LogObjects", "LogBytes"]),
        new cloudwatch.GraphWidget({
          title: "How far behind the streams Lambda is (milliseconds)",
          width: 8,
          left: [watched.functions["consume-stream"].metric("IteratorAge", { statistic: "Maximum" })],
        }),
      ],
      [
        graph("How far behind the replicas are (seconds)", ["ReplicaLagSeconds"], "Maximum"),
        graph("Records of the replicas", ["ReplicaApplied", "ReplicaStale", "ReplicaRefused", "ReplicaDeferred"]),
        graph("Replicas that must be rebuilt", ["ReplicasFailed"], "Maximum"),
      ],
      [
        new cloudwatch.GraphWidget({ title: "Errors of the functions", width: 12, left: functions.map((it) => it.metricErrors()) }),
        new cloudwatch.GraphWidget({
          title: "Running at once",
          width: 12,
          left: functions.map((it) => it.metric("ConcurrentExecutions", { statistic: "Maximum" })),
        }),
      ],
    ],
  });
}
