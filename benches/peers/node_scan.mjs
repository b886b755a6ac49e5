// Exports a table as one does with the AWS SDK for JavaScript v3: four segments, items as JSON lines through gzip
// level 6. Prints how many items went through. Arguments: folder of node_modules, endpoint URL, table.

import { createRequire } from "node:module";
import { once } from "node:events";
import { Writable } from "node:stream";
import { createGzip } from "node:zlib";

const [modules, endpoint, table] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { DynamoDBClient, paginateScan } = require("@aws-sdk/client-dynamodb");

const SEGMENTS = 4;
const client = new DynamoDBClient({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId: "local", secretAccessKey: "local" },
});

// Binaries are the one type that JSON does not have.
const asText = (_, value) =>
  value instanceof Uint8Array ? Buffer.from(value).toString("base64") : value;

async function scan(segment) {
  let items = 0;
  let bytes = 0;
  let stored_bytes = 0;
  const gzip = createGzip({ level: 6 });
  const discarded = new Writable({
    write(chunk, _, done) {
      stored_bytes += chunk.length;
      done();
    },
  });
  gzip.pipe(discarded);
  const input = { TableName: table, Segment: segment, TotalSegments: SEGMENTS };
  for await (const page of paginateScan({ client }, input)) {
    let lines = "";
    for (const item of page.Items ?? []) {
      lines += JSON.stringify(item, asText) + "\n";
      items += 1;
    }
    const chunk = Buffer.from(lines);
    bytes += chunk.length - (page.Items ?? []).length;
    if (!gzip.write(chunk)) await once(gzip, "drain");
  }
  gzip.end();
  await once(discarded, "finish");
  return { items, bytes, stored_bytes };
}

const segments = await Promise.all([...Array(SEGMENTS).keys()].map(scan));
const sum = (name) => segments.reduce((total, one) => total + one[name], 0);
console.log(
  JSON.stringify({ items: sum("items"), bytes: sum("bytes"), stored_bytes: sum("stored_bytes") }),
);
