"""Restores a backup's parts as one does with boto3: lines to Python's types, and those to the table's batch_writer.

Prints how many items were written. Arguments: endpoint URL, bucket, prefix of the parts (gzip), table.
"""

import base64
import gzip
import json
import sys

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config


def binaries(value):
    """DynamoDB's JSON has binaries in base64; the deserializer wants bytes."""
    kind, inner = next(iter(value.items()))
    if kind == "B":
        return {"B": base64.b64decode(inner)}
    if kind == "BS":
        return {"BS": [base64.b64decode(one) for one in inner]}
    if kind == "L":
        return {"L": [binaries(one) for one in inner]}
    if kind == "M":
        return {"M": {name: binaries(one) for name, one in inner.items()}}
    return value


def main():
    endpoint_url, bucket, prefix, table = sys.argv[1:5]
    session = boto3.session.Session(
        region_name="us-east-1", aws_access_key_id="local", aws_secret_access_key="local"
    )
    addressing = Config(s3={"addressing_style": "path"})
    s3 = session.client("s3", endpoint_url=endpoint_url, config=addressing)
    target = session.resource("dynamodb", endpoint_url=endpoint_url).Table(table)
    read = TypeDeserializer().deserialize
    items = 0
    with target.batch_writer() as batch:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                for line in gzip.decompress(body).splitlines():
                    item = json.loads(line)["Item"]
                    batch.put_item(
                        Item={name: read(binaries(value)) for name, value in item.items()}
                    )
                    items += 1
    print(json.dumps({"items": items}))


main()
