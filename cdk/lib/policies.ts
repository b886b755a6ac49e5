/**
 * What each function may do: one list of statements per function, as in template.yaml, where the reasons stand beside the
 * actions. `test/highwater.test.ts` holds the two together.
 */
import * as iam from "aws-cdk-lib/aws-iam";

/** The ARNs that the statements are about. */
export interface Resources {
  /** Tables that are backed up. */
  readonly tables: string[];
  /** Their streams, the present one and any other. */
  readonly tableStreams: string[];
  /** The streams that are mapped. */
  readonly streams: string[];
  /** Tables that a restore may make and fill: one ARN, with wildcards. */
  readonly restoreTables: string;
  /** Tables that may be replicas: one ARN, with wildcards. */
  readonly replicaTables?: string;
  /** The role for replicas elsewhere. */
  readonly replicaRole?: string;
  /** What is kept of replicas beside the logs, as objects. */
  readonly replicas: string[];
  readonly controlTable: string;
  readonly bucket: string;
  /** Objects that may be read and written. */
  readonly objects: string;
  /** The change logs of the tables, as objects. */
  readonly logs: string[];
  /** The snapshots of the tables, as objects. */
  readonly snapshots: string[];
  /** The parts of all snapshots, as objects. */
  readonly parts: string;
  /** What Lambda had to discard, as objects. */
  readonly discarded: string;
  /** The error logs of DynamoDB's imports. */
  readonly importLogs: string;
  /** The key of the bucket. */
  readonly key?: string;
  /** A bucket elsewhere, and what may be read in it. */
  readonly elsewhere?: { readonly bucket: string; readonly objects: string; readonly key?: string };
  /** S3 in this region, through which keys are used. */
  readonly s3Service: string;
}

function allow(actions: string[], resources: string | string[], via?: string): iam.PolicyStatement {
  return new iam.PolicyStatement({
    actions,
    resources: Array.isArray(resources) ? resources : [resources],
    conditions: via === undefined ? undefined : { StringEquals: { "kms:ViaService": via } },
  });
}

/** The statements of each function, by its folder. */
export function policies(to: Resources): Record<string, iam.PolicyStatement[]> {
  const key = to.key === undefined ? [] : [allow(["kms:GenerateDataKey", "kms:Decrypt"], to.key, to.s3Service)];
  const list = allow(["s3:ListBucket"], to.bucket);
  const elsewhere: iam.PolicyStatement[] = [];
  if (to.elsewhere !== undefined) {
    elsewhere.push(allow(["s3:GetObject"], to.elsewhere.objects), allow(["s3:ListBucket"], to.elsewhere.bucket));
    if (to.elsewhere.key !== undefined) {
      elsewhere.push(allow(["kms:Decrypt"], to.elsewhere.key, to.s3Service));
    }
  }
  const role = to.replicaRole === undefined ? [] : [allow(["sts:AssumeRole"], to.replicaRole)];
  // A replica is loaded by a restore.
  const filled = to.replicaTables === undefined ? to.restoreTables : [to.restoreTables, to.replicaTables];
  const fences = `${to.replicaTables}-highwater-fences`;
  const hasReplicas = to.replicaTables !== undefined || to.replicaRole !== undefined;
  const readAndWrite = allow(["s3:PutObject", "s3:GetObject"], to.objects);
  const readWriteAndDelete = allow(["s3:PutObject", "s3:GetObject", "s3:DeleteObject"], to.objects);
  const settings = [
    "dynamodb:DescribeTable",
    "dynamodb:DescribeTimeToLive",
    "dynamodb:DescribeContinuousBackups",
    "dynamodb:ListTagsOfResource",
  ];
  return {
    "plan-backup": [
      allow([...settings, "dynamodb:UpdateTable"], to.tables),
      allow(["dynamodb:DescribeStream"], to.tableStreams),
      allow(
        ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
        to.controlTable,
      ),
      readWriteAndDelete,
      list,
      ...key,
    ],
    "scan-segment": [
      allow(["dynamodb:Scan", "dynamodb:DescribeTable"], to.tables),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"], to.controlTable),
      readAndWrite,
      list,
      ...key,
    ],
    "finalize-backup": [
      allow(["dynamodb:DescribeTable"], to.tables),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"], to.controlTable),
      readAndWrite,
      allow(["s3:DeleteObject"], to.parts),
      list,
      ...key,
    ],
    "plan-restore": [
      allow(
        [...settings, "dynamodb:CreateTable", "dynamodb:TagResource"],
        filled,
      ),
      allow(
        [
          "dynamodb:GetItem",
          "dynamodb:PutItem",
          "dynamodb:UpdateItem",
          "dynamodb:Query",
          "dynamodb:DeleteItem",
          "dynamodb:DescribeTable",
        ],
        to.controlTable,
      ),
      readWriteAndDelete,
      list,
      ...key,
      ...elsewhere,
      ...role,
    ],
    "scatter-log": [allow(["dynamodb:GetItem"], to.controlTable), readAndWrite, list, ...key, ...elsewhere],
    "fold-log": [allow(["dynamodb:GetItem"], to.controlTable), readAndWrite, list, ...key],
    "load-part": [
      allow(
        ["dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:DescribeTable", "dynamodb:ImportTable"],
        filled,
      ),
      allow(["dynamodb:DescribeImport"], `${to.restoreTables}/import/*`),
      ...(to.replicaTables === undefined ? [] : [allow(["dynamodb:DescribeImport"], `${to.replicaTables}/import/*`)]),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"], to.controlTable),
      readAndWrite,
      list,
      allow(
        [
          "logs:CreateLogGroup",
          "logs:CreateLogStream",
          "logs:DescribeLogGroups",
          "logs:DescribeLogStreams",
          "logs:PutLogEvents",
          "logs:PutRetentionPolicy",
        ],
        to.importLogs,
      ),
      ...key,
      ...elsewhere,
      ...role,
    ],
    "finalize-restore": [
      allow(
        [
          ...settings,
          "dynamodb:UpdateTable",
          "dynamodb:UpdateTimeToLive",
          "dynamodb:UpdateContinuousBackups",
          "dynamodb:TagResource",
          "dynamodb:UntagResource",
        ],
        filled,
      ),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"], to.controlTable),
      readWriteAndDelete,
      list,
      ...key,
      ...role,
    ],
    "consume-stream": [
      ...(to.streams.length === 0
        ? []
        : [
            allow(
              [
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
                "dynamodb:ListStreams",
              ],
              to.streams,
            ),
          ]),
      allow(["s3:PutObject", "s3:GetObject"], to.logs),
      allow(["s3:PutObject"], to.discarded),
      list,
      ...key,
      ...(hasReplicas
        ? [allow(["dynamodb:Query"], to.controlTable), allow(["s3:GetObject", "s3:PutObject"], to.replicas)]
        : []),
      ...(to.replicaTables === undefined
        ? []
        : [
            allow(["dynamodb:PutItem", "dynamodb:DeleteItem"], to.replicaTables),
            allow(["dynamodb:UpdateItem"], fences),
          ]),
      ...role,
    ],
    "audit-stream": [
      allow(["dynamodb:DescribeTable"], to.tables),
      allow(["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"], to.tableStreams),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"], to.controlTable),
      allow(["s3:PutObject", "s3:GetObject"], to.logs),
      allow(["s3:GetObject"], to.snapshots),
      list,
      ...key,
    ],
    "apply-log": [
      allow(["dynamodb:DescribeTable"], to.tables),
      ...(to.replicaTables === undefined
        ? []
        : [
            allow(
              ["dynamodb:DescribeTable", "dynamodb:PutItem", "dynamodb:DeleteItem", "dynamodb:BatchGetItem"],
              to.replicaTables,
            ),
            allow(["dynamodb:BatchGetItem", "dynamodb:UpdateItem"], fences),
          ]),
      allow(["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"], to.controlTable),
      allow(["s3:GetObject"], to.logs),
      allow(["s3:GetObject"], to.snapshots),
      allow(["s3:PutObject", "s3:GetObject"], to.replicas),
      list,
      ...key,
      ...role,
    ],
  };
}
