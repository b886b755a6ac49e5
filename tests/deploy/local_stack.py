"""Starts ministack with what it lacks of what template.yaml needs, so that it decides as AWS does.

Its conditions know only Ref, Equals and Select. Its IAM knows a request for a stream, or for a table by its ARN, only as one
for `*`, which no policy of ours allows. Its streams have a shard that was made in 1970, by its id, and whose records could
therefore be gone.

Run it with the Python of an environment that has ministack, in the place of the command `ministack`.
"""

import json
import time

from ministack import app
from ministack.core import iam_actions
from ministack.services import dynamodb_streams
from ministack.services.cloudformation import changesets, engine, handlers, stacks

DECIDING = {"Fn::Equals", "Fn::And", "Fn::Or", "Fn::Not", "Condition"}


def evaluate(template, params):
    """Every condition of a template, by name, with any function in the place of a value."""
    conditions = template.get("Conditions", {})
    decided = {}

    def decide(expression):
        (function, argument), = expression.items()
        if function == "Condition":
            if argument not in decided:
                decided[argument] = decide(conditions[argument])
            return decided[argument]
        if function == "Fn::Equals":
            one, other = (value(part) for part in argument)
            return str(one) == str(other)
        parts = [decide(part) for part in argument]
        return {"Fn::And": all, "Fn::Or": any, "Fn::Not": lambda it: not it[0]}[function](parts)

    def value(part):
        if isinstance(part, dict) and DECIDING & part.keys():
            return decide(part)
        return engine._resolve_refs(part, {}, params, decided, template.get("Mappings", {}), "", "")

    for name in conditions:
        decide({"Condition": name})
    return decided


def named_arn(body):
    """The ARN that a request of DynamoDB or its streams names itself, or whose iterator it holds; None if there is none."""
    try:
        request = json.loads(body or b"{}")
    except ValueError:
        return None
    iterator = dynamodb_streams._decode_iterator(str(request.get("ShardIterator", ""))) or {}
    return request.get("StreamArn") or request.get("ResourceArn") or iterator.get("arn")


def knowing_streams(extract):
    """The resource that a request is about, as IAM has to know it."""

    def extract_resource_arn(service, method, path, headers, body, *rest):
        named = named_arn(body) if service in ("dynamodb", "dynamodbstreams") else None
        return named or extract(service, method, path, headers, body, *rest)

    return extract_resource_arn


def main():
    iam_actions.extract_resource_arn = knowing_streams(iam_actions.extract_resource_arn)
    for module in (changesets, engine, handlers, stacks):
        module._evaluate_conditions = evaluate
    dynamodb_streams._DEFAULT_SHARD_ID = f"shardId-{int(time.time() * 1000):020}-00000001"
    # With TLS it would also take port 443, where it can.
    app._port_is_bindable = lambda *_: False
    app.main()


if __name__ == "__main__":
    main()
