/**
 * Highwater as a construct: what template.yaml deploys, for any number of tables.
 *
 * The two are kept the same by a test (`test/highwater.test.ts`), which resolves both and compares functions, permissions,
 * mappings, schedules, alarms and rules of the bucket.
 */
import * as path from "node:path";
import { Arn, ArnFormat, Aws, Duration, RemovalPolicy, Stack, Tags } from "aws-cdk-lib";
import * as cloudwatch from "aws-cdk-lib/aws-cloudwatch";
import * as dynamodb from "aws-cdk-lib/aws-dynamodb";
import * as iam from "aws-cdk-lib/aws-iam";
import * as kms from "aws-cdk-lib/aws-kms";
import * as lambda from "aws-cdk-lib/aws-lambda";
import * as logs from "aws-cdk-lib/aws-logs";
import * as s3 from "aws-cdk-lib/aws-s3";
import * as scheduler from "aws-cdk-lib/aws-scheduler";
import * as targets from "aws-cdk-lib/aws-scheduler-targets";
import * as sns from "aws-cdk-lib/aws-sns";
import * as sfn from "aws-cdk-lib/aws-stepfunctions";
import { RustFunction } from "cargo-lambda-cdk";
import { Construct } from "constructs";
import { alarms, dashboard } from "./alarms";
import { policies, Resources } from "./policies";

/** A table to protect, in the stack's account and region. */
export interface ProtectedTable {
  readonly tableName: string;
  /**
   * The ARN of its stream, with the view NEW_AND_OLD_IMAGES.
   * @default - no change log, and no restore to a second
   */
  readonly streamArn?: string;
}

/** Backups elsewhere that restores may read besides this stack's own, in this region. */
export interface Elsewhere {
  /** `BUCKET/PREFIX`. */
  readonly location: string;
  /** The ARN of the KMS key that its objects are encrypted with. */
  readonly kmsKeyArn?: string;
}

/** What is deployed. Names and meanings are those of template.yaml's parameters. */
export interface HighwaterProps {
  /** The tables to back up; the functions may read no others. */
  readonly tables: ProtectedTable[];
  /**
   * What the state machines, logs and alarms are called after: `highwater start --stack` takes it.
   * @default - the stack's name; a second construct in a stack needs another one
   */
  readonly name?: string;
  /** @default - a bucket is made: versioned, encrypted, private, TLS only, kept when the stack goes */
  readonly bucket?: s3.IBucket;
  /** @default snapshots */
  readonly prefix?: string;
  /** The key of the bucket. @default - S3's own */
  readonly encryptionKey?: kms.IKey;
  /** After how many days snapshots are deleted; only in a bucket that is made here. @default - never */
  readonly snapshotRetentionDays?: number;
  /** Accounts that may read the bucket, if it is made here. @default - none */
  readonly readerAccounts?: string[];
  /** @default cron(0 3 * * ? *) */
  readonly scheduleExpression?: string;
  /** @default true */
  readonly scheduleEnabled?: boolean;
  /** Segments of a table that are scanned at once, 1 to 1000. @default 4 */
  readonly concurrency?: number;
  /** Read capacity units per second of a table's backup; 0 is unlimited. @default - as the request's default */
  readonly readCapacity?: number;
  /** Whether a scheduled backup fails rather than go without a handoff. @default false */
  readonly withStream?: boolean;
  /** @default 1769 */
  readonly scanSegmentMemory?: number;
  /** Names of the tables that a restore may make and fill. @default *-restored */
  readonly restoreTables?: string;
  /** @default - nowhere */
  readonly restoreFrom?: Elsewhere;
  /** Names of the tables in this account and region that may be replicas, with * as a wildcard. @default - none */
  readonly replicaTables?: string;
  /** The ARN of the role that is assumed for replicas in other accounts or regions. @default - none */
  readonly replicaRoleArn?: string;
  /** Seconds. @default 120 */
  readonly publicationDelay?: number;
  /** How long Lambda gathers records of a shard, 1 to 60 seconds. @default 5 */
  readonly batchingWindowSeconds?: number;
  /** Where alarms are sent to. @default - nowhere */
  readonly alarmTopic?: sns.ITopic;
  /** @default 1800 */
  readonly markLagAlarmSeconds?: number;
  /** How far a live replica may be behind its source, in seconds. @default 1800 */
  readonly replicaLagAlarmSeconds?: number;
  /** @default - one month */
  readonly logRetention?: logs.RetentionDays;
  /** @default arm64 */
  readonly architecture?: lambda.Architecture;
  /**
   * A folder with the built functions, `<folder>/<function>/bootstrap`, as `cargo lambda build` leaves them in target/lambda.
   * @default - they are built with cargo-lambda, which must be installed: Docker would see one folder of the workspace only
   */
  readonly lambdaDir?: string;
}

const ROOT = path.resolve(__dirname, "..", "..", "..");

interface FunctionSpec {
  readonly folder: string;
  readonly memory: number;
  readonly timeout: number;
}

/** `plan-backup` as `PlanBackup`. */
function pascal(folder: string): string {
  return folder.replace(/(^|-)([a-z])/g, (_all, _dash, letter: string) => letter.toUpperCase());
}

/** Continuous backups of DynamoDB tables, and restores to any second. */
export class Highwater extends Construct {
  /** Snapshots and change logs. */
  readonly bucket: s3.IBucket;
  /** Leases, marks and plans. */
  readonly controlTable: dynamodb.Table;
  /** The functions, by folder. */
  readonly functions: Record<string, lambda.Function> = {};
  /** Backs up one table. */
  readonly backupStateMachine: sfn.StateMachine;
  /** Restores one. */
  readonly restoreStateMachine: sfn.StateMachine;
  /** Starts the backups of all tables. */
  readonly startBackupsStateMachine: sfn.StateMachine;
  /** The alarms. */
  readonly alarms: cloudwatch.Alarm[];

  private readonly props: HighwaterProps;
  private readonly stackName: string;
  private readonly prefix: string;

  constructor(scope: Construct, id: string, props: HighwaterProps) {
    super(scope, id);
    if (props.tables.length === 0) {
      throw new Error(`${this.node.path}: no table to protect`);
    }
    if (props.bucket !== undefined && (props.snapshotRetentionDays ?? 0) > 0) {
      throw new Error(`${this.node.path}: snapshotRetentionDays makes a rule of a bucket that is made here, and ${props.bucket.bucketName} is not`);
    }
    this.props = props;
    this.stackName = props.name ?? Stack.of(this).stackName;
    this.prefix = props.prefix ?? "snapshots";
    this.bucket = props.bucket ?? this.makeBucket();
    this.controlTable = new dynamodb.Table(this, "ControlTable", {
      partitionKey: { name: "id", type: dynamodb.AttributeType.STRING },
      sortKey: { name: "name", type: dynamodb.AttributeType.STRING },
      billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
      timeToLiveAttribute: "expires",
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      deletionProtection: true,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    this.makeFunctions();
    const mapped = this.makeMappings();
    const backup = ["plan-backup", "scan-segment", "finalize-backup"];
    const restore = ["plan-restore", "scatter-log", "fold-log", "load-part", "finalize-restore"];
    this.backupStateMachine = this.makeWorkflow("backup", backup);
    this.restoreStateMachine = this.makeWorkflow("restore", restore);
    this.startBackupsStateMachine = this.makeMachine("start-backups", {
      BackupStateMachineArn: this.backupStateMachine.stateMachineArn,
    });
    this.startBackupsStateMachine.addToRolePolicy(
      new iam.PolicyStatement({ actions: ["states:StartExecution"], resources: [this.backupStateMachine.stateMachineArn] }),
    );
    this.makeSchedules();
    const watched = {
      stack: this.stackName,
      machines: {
        backup: this.backupStateMachine,
        restore: this.restoreStateMachine,
        "start-backups": this.startBackupsStateMachine,
      },
      functions: this.functions,
      controlTable: this.controlTable.tableName,
      streams: mapped,
      topic: props.alarmTopic,
      markLagSeconds: props.markLagAlarmSeconds ?? 1800,
      replicaLagSeconds: this.hasReplicas ? (props.replicaLagAlarmSeconds ?? 1800) : undefined,
    };
    this.alarms = alarms(this, watched);
    dashboard(this, watched);
  }

  private get hasReplicas(): boolean {
    return this.props.replicaTables !== undefined || this.props.replicaRoleArn !== undefined;
  }

  /** `s3://BUCKET/PREFIX`: where snapshots and change logs are. */
  get destination(): string {
    return `s3://${this.bucket.bucketName}/${this.prefix}`;
  }

  private makeBucket(): s3.Bucket {
    const { encryptionKey, snapshotRetentionDays, tables } = this.props;
    const folders = (name: string) => tables.map((table) => `${this.prefix}/${table.tableName}/${name}/`);
    const rules: s3.LifecycleRule[] = [
      { id: "abort-unfinished-uploads", abortIncompleteMultipartUploadAfter: Duration.days(7) },
      { id: "forget-old-versions", noncurrentVersionExpiration: Duration.days(30), expiredObjectDeleteMarker: true },
      ...folders("restores").map((prefix, index) => ({
        id: `expire-work-of-restores-${index + 1}`,
        prefix,
        expiration: Duration.days(30),
      })),
    ];
    // Snapshots, if they are to go at all, and never the log: a restore would not notice that a part of it is gone.
    if (snapshotRetentionDays !== undefined && snapshotRetentionDays > 0) {
      const expiration = Duration.days(snapshotRetentionDays);
      rules.push(
        ...folders("AWSDynamoDB").map((prefix, index) => ({ id: `expire-snapshots-${index + 1}`, prefix, expiration })),
      );
    }
    const bucket = new s3.Bucket(this, "SnapshotBucket", {
      versioned: true,
      encryption: encryptionKey === undefined ? s3.BucketEncryption.S3_MANAGED : s3.BucketEncryption.KMS,
      encryptionKey,
      bucketKeyEnabled: encryptionKey === undefined ? undefined : true,
      blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
      objectOwnership: s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
      enforceSSL: true,
      lifecycleRules: rules,
      removalPolicy: RemovalPolicy.RETAIN,
    });
    const readers = this.props.readerAccounts ?? [];
    if (readers.length > 0) {
      bucket.addToResourcePolicy(
        new iam.PolicyStatement({
          sid: "OtherAccountsRead",
          principals: readers.map((account) => new iam.AccountPrincipal(account)),
          actions: ["s3:GetObject", "s3:ListBucket"],
          resources: [bucket.bucketArn, bucket.arnForObjects(`${this.prefix}/*`)],
        }),
      );
    }
    return bucket;
  }

  private tableArn(name: string): string {
    return Stack.of(this).formatArn({ service: "dynamodb", resource: "table", resourceName: name });
  }

  private resources(): Resources {
    const { tables, bucket, encryptionKey, restoreFrom } = this.props;
    const names = tables.map((table) => table.tableName);
    const below = (folder: string) => names.map((name) => this.bucket.arnForObjects(`${this.prefix}/${name}/${folder}/*`));
    const s3Arn = (resource: string) =>
      Arn.format({ partition: Aws.PARTITION, service: "s3", account: "", region: "", resource });
    return {
      tables: names.map((name) => this.tableArn(name)),
      tableStreams: names.map((name) => this.tableArn(`${name}/stream/*`)),
      streams: tables.flatMap((table) => (table.streamArn === undefined ? [] : [table.streamArn])),
      restoreTables: this.tableArn(this.props.restoreTables ?? "*-restored"),
      replicaTables: this.props.replicaTables === undefined ? undefined : this.tableArn(this.props.replicaTables),
      replicaRole: this.props.replicaRoleArn,
      replicas: below("replicas"),
      controlTable: this.controlTable.tableArn,
      bucket: this.bucket.bucketArn,
      // Nothing but Highwater's is in a bucket that is made here.
      objects: this.bucket.arnForObjects(bucket === undefined ? "*" : `${this.prefix}/*`),
      parts: this.bucket.arnForObjects(`${bucket === undefined ? "" : `${this.prefix}/`}*/AWSDynamoDB/*/data/s*-p*`),
      logs: below("log"),
      snapshots: below("AWSDynamoDB"),
      discarded: this.bucket.arnForObjects("aws/lambda/*"),
      importLogs: Stack.of(this).formatArn({
        service: "logs",
        resource: "log-group",
        resourceName: "/aws-dynamodb/*",
        arnFormat: ArnFormat.COLON_RESOURCE_NAME,
      }),
      key: encryptionKey?.keyArn,
      elsewhere:
        restoreFrom === undefined
          ? undefined
          : {
              bucket: s3Arn(restoreFrom.location.split("/")[0]),
              objects: s3Arn(`${restoreFrom.location}/*`),
              key: restoreFrom.kmsKeyArn,
            },
      s3Service: `s3.${Aws.REGION}.amazonaws.com`,
    };
  }

  private makeFunctions(): void {
    const withStream = this.props.tables.filter((table) => table.streamArn !== undefined);
    const live = { HIGHWATER_LOG_TO: this.destination };
    const environments: Record<string, Record<string, string>> = {
      "consume-stream": { ...live, ...(this.hasReplicas ? { HIGHWATER_REPLICAS: "true" } : {}) },
      "audit-stream": {
        ...live,
        HIGHWATER_TABLES: withStream.map((table) => table.tableName).join(","),
        HIGHWATER_PUBLICATION_DELAY: String(this.props.publicationDelay ?? 120),
      },
      "apply-log": {
        ...live,
        HIGHWATER_TABLES: withStream.map((table) => String(table.streamArn).split("/stream/")[0]).join(","),
      },
    };
    // Sizes and times with their reasons are in template.yaml.
    const specs: FunctionSpec[] = [
      { folder: "plan-backup", memory: 256, timeout: 900 },
      { folder: "scan-segment", memory: this.props.scanSegmentMemory ?? 1769, timeout: 900 },
      { folder: "finalize-backup", memory: 1024, timeout: 900 },
      { folder: "plan-restore", memory: 512, timeout: 900 },
      { folder: "scatter-log", memory: 1769, timeout: 900 },
      { folder: "fold-log", memory: 1769, timeout: 900 },
      { folder: "load-part", memory: 1769, timeout: 900 },
      { folder: "finalize-restore", memory: 256, timeout: 900 },
      { folder: "consume-stream", memory: 512, timeout: 120 },
      { folder: "audit-stream", memory: 512, timeout: 280 },
      { folder: "apply-log", memory: 512, timeout: 120 },
    ];
    const statements = policies(this.resources());
    for (const spec of specs) {
      const made = this.makeFunction(spec, environments[spec.folder] ?? {});
      statements[spec.folder].forEach((statement) => made.addToRolePolicy(statement));
      this.functions[spec.folder] = made;
    }
  }

  private makeFunction({ folder, memory, timeout }: FunctionSpec, environment: Record<string, string>): lambda.Function {
    const architecture = this.props.architecture ?? lambda.Architecture.ARM_64;
    const options = {
      description: `Highwater: ${folder}`,
      architecture,
      memorySize: memory,
      timeout: Duration.seconds(timeout),
      // Of ConsumeStream's millions of invocations traces and platform logs would cost more than the work.
      tracing: folder === "consume-stream" ? lambda.Tracing.PASS_THROUGH : lambda.Tracing.ACTIVE,
      loggingFormat: lambda.LoggingFormat.JSON,
      systemLogLevelV2: folder === "consume-stream" ? lambda.SystemLogLevel.WARN : undefined,
      logGroup: this.logGroup(pascal(folder), `/highwater/${this.stackName}/${folder}`),
      environment: {
        HIGHWATER_CONTROL_TABLE: this.controlTable.tableName,
        HIGHWATER_STACK: this.stackName,
        ...environment,
      },
    };
    const id = `${pascal(folder)}Function`;
    if (this.props.lambdaDir !== undefined) {
      return new lambda.Function(this, id, {
        ...options,
        runtime: lambda.Runtime.PROVIDED_AL2023,
        handler: "bootstrap",
        code: lambda.Code.fromAsset(path.resolve(this.props.lambdaDir, folder)),
      });
    }
    return new RustFunction(this, id, {
      ...options,
      runtime: "provided.al2023",
      manifestPath: path.join(ROOT, "functions", folder, "Cargo.toml"),
    });
  }

  private logGroup(name: string, logGroupName: string): logs.LogGroup {
    return new logs.LogGroup(this, `${name}Logs`, {
      logGroupName,
      retention: this.props.logRetention ?? logs.RetentionDays.ONE_MONTH,
      removalPolicy: RemovalPolicy.DESTROY,
    });
  }

  /** A mapping for each stream: why it has these settings is in template.yaml. */
  private makeMappings(): { table: string; mapping: string }[] {
    const streams = this.props.tables.flatMap(({ tableName, streamArn }) =>
      streamArn === undefined ? [] : [{ tableName, streamArn }],
    );
    return streams.map(({ tableName, streamArn }) => {
      // Named after its table and not its place: of one function and one stream there may not be two, not even for a moment.
      const mapping = new lambda.CfnEventSourceMapping(this, `ConsumeStreamMapping-${tableName}`, {
        functionName: this.functions["consume-stream"].functionName,
        eventSourceArn: streamArn,
        startingPosition: "TRIM_HORIZON",
        batchSize: 1000,
        maximumBatchingWindowInSeconds: this.props.batchingWindowSeconds ?? 5,
        tumblingWindowInSeconds: 60,
        parallelizationFactor: 1,
        maximumRetryAttempts: -1,
        maximumRecordAgeInSeconds: -1,
        bisectBatchOnFunctionError: true,
        functionResponseTypes: ["ReportBatchItemFailures"],
        destinationConfig: { onFailure: { destination: this.bucket.bucketArn } },
        metricsConfig: { metrics: ["EventCount"] },
      });
      // Lambda tries the stream and the bucket with the function's role, when the mapping is made.
      mapping.node.addDependency(this.functions["consume-stream"].role!);
      return { table: tableName, mapping: mapping.ref };
    });
  }

  private makeMachine(name: string, definitionSubstitutions: Record<string, string>): sfn.StateMachine {
    const logGroup = this.logGroup(
      `${pascal(name)}StateMachine`,
      `/aws/vendedlogs/states/${this.stackName}-${name}`,
    );
    return new sfn.StateMachine(this, `${pascal(name)}StateMachine`, {
      stateMachineName: `${this.stackName}-${name}`,
      stateMachineType: sfn.StateMachineType.STANDARD,
      definitionBody: sfn.DefinitionBody.fromFile(path.join(ROOT, "statemachine", `${name}.asl.json`)),
      definitionSubstitutions,
      tracingEnabled: true,
      logs: { destination: logGroup, level: sfn.LogLevel.ERROR, includeExecutionData: true },
    });
  }

  /** A machine that calls functions, and starts itself for the branches of a distributed Map. */
  private makeWorkflow(name: string, folders: string[]): sfn.StateMachine {
    const called = folders.map((folder) => this.functions[folder]);
    const substitutions = folders.map((folder): [string, string] => [
      `${pascal(folder)}FunctionArn`,
      this.functions[folder].functionArn,
    ]);
    const machine = this.makeMachine(name, Object.fromEntries(substitutions));
    const arn = (resource: string, resourceName: string) =>
      Stack.of(this).formatArn({ service: "states", resource, resourceName, arnFormat: ArnFormat.COLON_RESOURCE_NAME });
    const own = `${this.stackName}-${name}`;
    for (const statement of [
      { actions: ["lambda:InvokeFunction"], resources: called.map((it) => it.functionArn) },
      // Its name is said, and not its ARN, which is not known before its role is.
      { actions: ["states:StartExecution"], resources: [arn("stateMachine", own)] },
      {
        actions: ["states:DescribeExecution", "states:StopExecution"],
        resources: [arn("execution", `${own}:*`), arn("execution", `${own}/*`)],
      },
    ]) {
      machine.addToRolePolicy(new iam.PolicyStatement(statement));
    }
    Tags.of(machine).add("highwater:to", this.destination);
    Tags.of(machine).add("highwater:control-table", this.controlTable.tableName);
    // A tag's value knows no comma.
    Tags.of(machine).add("highwater:tables", this.props.tables.map((table) => table.tableName).join(" "));
    return machine;
  }

  private makeSchedules(): void {
    const { props } = this;
    const input = {
      tables: props.tables.map((table) => table.tableName),
      to: this.destination,
      concurrency: props.concurrency ?? 4,
      read_capacity: props.readCapacity ?? null,
      with_stream: props.withStream ?? false,
    };
    new scheduler.Schedule(this, "Backups", {
      description: `Starts the Highwater backups of ${this.stackName}`,
      schedule: scheduler.ScheduleExpression.expression(props.scheduleExpression ?? "cron(0 3 * * ? *)"),
      enabled: props.scheduleEnabled ?? true,
      target: new targets.StepFunctionsStartExecution(this.startBackupsStateMachine, {
        input: scheduler.ScheduleTargetInput.fromObject(input),
        maxEventAge: Duration.hours(1),
        retryAttempts: 10,
      }),
    });
    new scheduler.Schedule(this, "Audits", {
      description: `Audits the change logs of ${this.stackName}`,
      schedule: scheduler.ScheduleExpression.expression("rate(5 minutes)"),
      enabled: props.tables.some((table) => table.streamArn !== undefined),
      target: new targets.LambdaInvoke(this.functions["audit-stream"], {
        input: scheduler.ScheduleTargetInput.fromObject({}),
        maxEventAge: Duration.minutes(5),
        retryAttempts: 2,
      }),
    });
    new scheduler.Schedule(this, "Replicas", {
      description: `Feeds the replicas of ${this.stackName}`,
      schedule: scheduler.ScheduleExpression.expression("rate(1 minute)"),
      enabled: this.hasReplicas && props.tables.some((table) => table.streamArn !== undefined),
      target: new targets.LambdaInvoke(this.functions["apply-log"], {
        input: scheduler.ScheduleTargetInput.fromObject({}),
        maxEventAge: Duration.minutes(1),
        retryAttempts: 0,
      }),
    });
  }
}
