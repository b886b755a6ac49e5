"""Exports a table as one does with boto3: four threads, a segment each, items as JSON lines through gzip level 6.

Prints how many items went through. Arguments: endpoint URL, table.
"""

import base64
import gzip
import json
import sys
import threading

import boto3

SEGMENTS = 4


class Discarded:
    """A file that forgets, and counts."""

    def __init__(self):
        self.bytes = 0

    def write(self, piece):
        self.bytes += len(piece)
        return len(piece)

    def flush(self):
        pass


def as_text(value):
    """The one type that JSON does not have."""
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    raise TypeError(type(value))


def scan(endpoint_url, table, segment, results):
    client = boto3.session.Session().client(
        "dynamodb",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    items, plain, discarded = 0, 0, Discarded()
    with gzip.GzipFile(fileobj=discarded, mode="wb", compresslevel=6, mtime=0) as packed:
        pages = client.get_paginator("scan").paginate(
            TableName=table, Segment=segment, TotalSegments=SEGMENTS
        )
        for page in pages:
            for item in page["Items"]:
                line = json.dumps(item, default=as_text, separators=(",", ":"), ensure_ascii=False)
                line = line.encode()
                plain += len(line)
                packed.write(line + b"\n")
            items += len(page["Items"])
    results[segment] = (items, plain, discarded.bytes)


def main():
    endpoint_url, table = sys.argv[1:3]
    results = {}
    threads = [
        threading.Thread(target=scan, args=(endpoint_url, table, segment, results))
        for segment in range(SEGMENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A thread that failed has left nothing here.
    sums = [results[segment] for segment in range(SEGMENTS)]
    items, plain, stored = (sum(column) for column in zip(*sums))
    print(json.dumps({"items": items, "bytes": plain, "stored_bytes": stored}))


main()
