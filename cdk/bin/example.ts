#!/usr/bin/env node
/**
 * An app with one stack. The tables are given as context, the streams of those that are to be restorable to a second
 * behind them: `npx cdk deploy -c tables=orders,customers -c streams=arn:…`. For anything else, use the construct.
 */
import { App, CfnOutput, Stack } from "aws-cdk-lib";
import { Highwater, ProtectedTable } from "../lib/highwater";

const app = new App();
const list = (name: string): string[] => {
  const text: string | undefined = app.node.tryGetContext(name);
  return (text ?? "").split(",").filter((it) => it !== "");
};
const streams = new Map(list("streams").map((arn) => [arn.split("/")[1], arn]));
const names = list("tables");
const tables: ProtectedTable[] = (names.length === 0 ? ["orders"] : names).map((tableName) => ({
  tableName,
  streamArn: streams.get(tableName),
}));
for (const table of streams.keys()) {
  if (!tables.some((it) => it.tableName === table)) {
    throw new Error(`the stream of ${table} is given, and ${table} is none of the tables`);
  }
}

const stack = new Stack(app, "highwater", { env: { region: process.env.CDK_DEFAULT_REGION, account: process.env.CDK_DEFAULT_ACCOUNT } });
const highwater = new Highwater(stack, "Highwater", { tables, lambdaDir: app.node.tryGetContext("lambdaDir") });
new CfnOutput(stack, "Destination", { value: highwater.destination });
new CfnOutput(stack, "ControlTableName", { value: highwater.controlTable.tableName });
new CfnOutput(stack, "BackupStateMachineArn", { value: highwater.backupStateMachine.stateMachineArn });
new CfnOutput(stack, "RestoreStateMachineArn", { value: highwater.restoreStateMachine.stateMachineArn });
new CfnOutput(stack, "StartBackupsStateMachineArn", { value: highwater.startBackupsStateMachine.stateMachineArn });
