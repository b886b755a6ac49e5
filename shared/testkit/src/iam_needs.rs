//! Which permissions a call needs, by IAM's names.
//!
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html>,
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>. A call that is not known
//! is an error: a permission must not look needless because nobody knew what needs it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::wire_call::WireCall;

/// One permission that a call needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// `dynamodb:GetItem`.
    pub action: String,
    /// The ARN of what it is done to.
    pub resource: String,
    /// Condition keys that the call carries.
    pub context: BTreeMap<String, String>,
}

/// Where tables are: what the ARN of one begins with, `arn:aws:dynamodb:REGION:ACCOUNT:`.
pub type TablePlace = str;

/// What a call needs, given the status of its answer if there was one.
///
/// # Errors
/// What is not known about it.
pub fn needs(
    call: &WireCall,
    status: Option<u16>,
    place: &TablePlace,
) -> Result<Vec<Need>, String> {
    if call.is_dynamodb {
        of_dynamodb(call, place)
    } else {
        of_s3(call, status)
    }
}

fn need(action: &str, resource: &str) -> Need {
    Need {
        action: action.to_owned(),
        resource: resource.to_owned(),
        context: BTreeMap::new(),
    }
}

/// A request to DynamoDB that is taken apart.
struct Asked<'a> {
    call: &'a WireCall,
    place: &'a TablePlace,
    body: Value,
    action: String,
}

impl Asked<'_> {
    fn missing(&self, member: &str) -> String {
        let operation = &self.call.operation;
        format!("{operation} without {member}: {}", self.call.text())
    }

    fn text<'v>(&self, value: &'v Value, member: &str) -> Result<&'v str, String> {
        value[member].as_str().ok_or_else(|| self.missing(member))
    }

    /// The ARN of a table that is given by name or ARN.
    fn table(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        format!("{}table/{name}", self.place)
    }

    /// The table of the whole request.
    fn own_table(&self) -> Result<String, String> {
        Ok(self.table(self.text(&self.body, "TableName")?))
    }

    /// The operation on what a member of the request names by its ARN.
    fn on(&self, member: &str) -> Result<Vec<Need>, String> {
        let arn = self.text(&self.body, member)?;
        Ok(vec![need(&self.action, arn)])
    }

    fn create(&self) -> Result<Vec<Need>, String> {
        let table = self.own_table()?;
        let mut needs = vec![need(&self.action, &table)];
        // Tags that a table is made with are set in the caller's name, too.
        let tags = self.body["Tags"].as_array();
        if tags.is_some_and(|tags| !tags.is_empty()) {
            needs.push(need("dynamodb:TagResource", &table));
        }
        Ok(needs)
    }

    fn batch(&self) -> Result<Vec<Need>, String> {
        let tables = self.body["RequestItems"].as_object();
        let tables = tables.ok_or_else(|| self.missing("RequestItems"))?;
        let needs = tables.keys();
        Ok(needs
            .map(|name| need(&self.action, &self.table(name)))
            .collect())
    }

    fn transaction(&self) -> Result<Vec<Need>, String> {
        let items = self.body["TransactItems"].as_array();
        let items = items.ok_or_else(|| self.missing("TransactItems"))?;
        let mut needs = Vec::new();
        for (verb, item) in items.iter().filter_map(Value::as_object).flatten() {
            let action = of_transaction(verb).ok_or_else(|| format!("a transaction's {verb}"))?;
            needs.push(need(action, &self.table(self.text(item, "TableName")?)));
        }
        Ok(needs)
    }

    /// An iterator begins with its stream's ARN, the service's own as well as the local engine's.
    fn records(&self) -> Result<Vec<Need>, String> {
        let iterator = self.text(&self.body, "ShardIterator")?;
        let stream = iterator.split('|').next();
        let stream = stream.filter(|arn| arn.starts_with("arn:"));
        let stream = stream.ok_or_else(|| format!("an iterator without its stream: {iterator}"))?;
        Ok(vec![need(&self.action, stream)])
    }

    /// DynamoDB reads the bucket in the caller's name; its logs are not on the wire.
    /// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Requesting.html>
    fn import(&self) -> Result<Vec<Need>, String> {
        let source = &self.body["S3BucketSource"];
        let bucket = self.text(source, "S3Bucket")?;
        let prefix = source["S3KeyPrefix"].as_str().unwrap_or_default();
        let name = self.text(&self.body["TableCreationParameters"], "TableName")?;
        let mut list = need("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"));
        list.context
            .insert("s3:prefix".to_owned(), prefix.to_owned());
        Ok(vec![
            need(&self.action, &self.table(name)),
            need("s3:GetObject", &format!("arn:aws:s3:::{bucket}/{prefix}")),
            list,
        ])
    }
}

fn of_dynamodb(call: &WireCall, place: &TablePlace) -> Result<Vec<Need>, String> {
    let asked = Asked {
        call,
        place,
        body: call.json(),
        action: format!("dynamodb:{}", call.operation),
    };
    match call.operation.as_str() {
        "GetItem" | "PutItem" | "UpdateItem" | "DeleteItem" | "Query" | "Scan" => {
            let table = asked.own_table()?;
            let index = asked.body["IndexName"].as_str();
            let resource = index.map_or(table.clone(), |index| format!("{table}/index/{index}"));
            Ok(vec![need(&asked.action, &resource)])
        }
        "DescribeTable"
        | "DescribeTimeToLive"
        | "DescribeContinuousBackups"
        | "UpdateTable"
        | "UpdateTimeToLive"
        | "UpdateContinuousBackups"
        | "DeleteTable" => Ok(vec![need(&asked.action, &asked.own_table()?)]),
        "CreateTable" => asked.create(),
        "TagResource" | "UntagResource" | "ListTagsOfResource" => asked.on("ResourceArn"),
        "BatchWriteItem" | "BatchGetItem" => asked.batch(),
        "TransactWriteItems" | "TransactGetItems" => asked.transaction(),
        "DescribeStream" | "GetShardIterator" => asked.on("StreamArn"),
        "GetRecords" => asked.records(),
        "ImportTable" => asked.import(),
        "DescribeImport" => asked.on("ImportArn"),
        "ListStreams" | "ListTables" => Ok(vec![need(&asked.action, "*")]),
        other => Err(format!("nobody knows which permission {other} needs")),
    }
}

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html>
fn of_transaction(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "Put" => "dynamodb:PutItem",
        "Update" => "dynamodb:UpdateItem",
        "Delete" => "dynamodb:DeleteItem",
        "ConditionCheck" => "dynamodb:ConditionCheckItem",
        "Get" => "dynamodb:GetItem",
        _ => return None,
    })
}

fn of_s3(call: &WireCall, status: Option<u16>) -> Result<Vec<Need>, String> {
    let bucket = format!("arn:aws:s3:::{}", call.bucket);
    let object = |key: &str| format!("{bucket}/{key}");
    let mut needs = vec![match call.operation.as_str() {
        "GetObject" | "HeadObject" => match call.query("versionId") {
            Some(_) => need("s3:GetObjectVersion", &object(&call.key)),
            None => need("s3:GetObject", &object(&call.key)),
        },
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
            need("s3:PutObject", &object(&call.key))
        }
        "AbortMultipartUpload" => need("s3:AbortMultipartUpload", &object(&call.key)),
        "ListParts" => need("s3:ListMultipartUploadParts", &object(&call.key)),
        "DeleteObject" => need("s3:DeleteObject", &object(&call.key)),
        "DeleteObjects" => {
            let keys = keys_of(&call.text());
            return Ok(keys
                .iter()
                .map(|key| need("s3:DeleteObject", &object(key)))
                .collect());
        }
        "HeadBucket" => need("s3:ListBucket", &bucket),
        "ListObjectsV2" if call.query("list-type").as_deref() == Some("2") => {
            let mut list = need("s3:ListBucket", &bucket);
            let prefix = call.query("prefix").unwrap_or_default();
            list.context.insert("s3:prefix".to_owned(), prefix);
            list
        }
        other => {
            return Err(format!(
                "nobody knows which permission {other}?{} needs",
                call.query
            ));
        }
    }];
    // To those who may not list, S3 answers 403 for an object that is not there.
    let reads = matches!(call.operation.as_str(), "GetObject" | "HeadObject");
    if status == Some(404) && reads {
        needs.push(need("s3:ListBucket", &bucket));
    }
    for (header, action) in [
        ("if-match", "s3:GetObject"),
        ("x-amz-tagging", "s3:PutObjectTagging"),
        ("x-amz-acl", "s3:PutObjectAcl"),
    ] {
        if call.header(header).is_some() && call.operation == "PutObject" {
            needs.push(need(action, &object(&call.key)));
        }
    }
    match call.header("x-amz-copy-source") {
        Some(source) => Err(format!(
            "nobody knows which permissions a copy of {source} needs"
        )),
        None => Ok(needs),
    }
}

/// The keys of a `DeleteObjects`.
fn keys_of(xml: &str) -> Vec<String> {
    let behind = xml.split("<Key>").skip(1);
    let keys = behind.filter_map(|text| text.split("</Key>").next());
    let plain = |text: &str| {
        let text = text
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"");
        text.replace("&apos;", "'").replace("&amp;", "&")
    };
    keys.map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire_call::tests::call;

    const PLACE: &str = "arn:aws:dynamodb:r:1:";

    /// Operation, body, permissions.
    const DYNAMODB: &[(&str, &str, &[&str])] = &[
        (
            "Scan",
            r#"{"TableName":"t"}"#,
            &["dynamodb:Scan arn:aws:dynamodb:r:1:table/t"],
        ),
        (
            "Query",
            r#"{"TableName":"t","IndexName":"i"}"#,
            &["dynamodb:Query arn:aws:dynamodb:r:1:table/t/index/i"],
        ),
        (
            "DescribeTable",
            r#"{"TableName":"arn:aws:dynamodb:x:2:table/t"}"#,
            &["dynamodb:DescribeTable arn:aws:dynamodb:x:2:table/t"],
        ),
        (
            "CreateTable",
            r#"{"TableName":"t","Tags":[{"Key":"a","Value":"b"}]}"#,
            &[
                "dynamodb:CreateTable arn:aws:dynamodb:r:1:table/t",
                "dynamodb:TagResource arn:aws:dynamodb:r:1:table/t",
            ],
        ),
        (
            "BatchWriteItem",
            r#"{"RequestItems":{"t":[]}}"#,
            &["dynamodb:BatchWriteItem arn:aws:dynamodb:r:1:table/t"],
        ),
        (
            "TransactWriteItems",
            r#"{"TransactItems":[{"Put":{"TableName":"t"}},{"ConditionCheck":{"TableName":"u"}}]}"#,
            &[
                "dynamodb:PutItem arn:aws:dynamodb:r:1:table/t",
                "dynamodb:ConditionCheckItem arn:aws:dynamodb:r:1:table/u",
            ],
        ),
        (
            "TagResource",
            r#"{"ResourceArn":"a"}"#,
            &["dynamodb:TagResource a"],
        ),
        (
            "GetRecords",
            r#"{"ShardIterator":"arn:s|1|x"}"#,
            &["dynamodb:GetRecords arn:s"],
        ),
        (
            "ImportTable",
            r#"{"S3BucketSource":{"S3Bucket":"b","S3KeyPrefix":"p/"},"TableCreationParameters":{"TableName":"t"}}"#,
            &[
                "dynamodb:ImportTable arn:aws:dynamodb:r:1:table/t",
                "s3:GetObject arn:aws:s3:::b/p/",
                "s3:ListBucket arn:aws:s3:::b p/",
            ],
        ),
    ];

    /// Method, path, status of the answer, permissions.
    const S3: &[(&str, &str, u16, &[&str])] = &[
        ("GET", "/b/k/l", 200, &["s3:GetObject arn:aws:s3:::b/k/l"]),
        (
            "HEAD",
            "/b/k",
            404,
            &[
                "s3:GetObject arn:aws:s3:::b/k",
                "s3:ListBucket arn:aws:s3:::b",
            ],
        ),
        (
            "GET",
            "/b/k?versionId=1",
            200,
            &["s3:GetObjectVersion arn:aws:s3:::b/k"],
        ),
        ("PUT", "/b/k", 412, &["s3:PutObject arn:aws:s3:::b/k"]),
        (
            "POST",
            "/b/k?uploads",
            200,
            &["s3:PutObject arn:aws:s3:::b/k"],
        ),
        (
            "DELETE",
            "/b/k?uploadId=x",
            204,
            &["s3:AbortMultipartUpload arn:aws:s3:::b/k"],
        ),
        (
            "GET",
            "/b?list-type=2&prefix=a%2Fb",
            200,
            &["s3:ListBucket arn:aws:s3:::b a/b"],
        ),
        ("HEAD", "/b", 404, &["s3:ListBucket arn:aws:s3:::b"]),
        (
            "POST",
            "/b?delete",
            200,
            &["s3:DeleteObject arn:aws:s3:::b/a&b"],
        ),
    ];

    fn dynamodb(operation: &str, body: &str) -> Result<Vec<String>, String> {
        let target = format!("DynamoDB_20120810.{operation}");
        let call = call("POST", "/", &[("x-amz-target", &target)], body);
        told(needs(&call, Some(200), PLACE))
    }

    fn told(needs: Result<Vec<Need>, String>) -> Result<Vec<String>, String> {
        let tell = |need: Need| {
            let prefix = need.context.get("s3:prefix").map(|it| format!(" {it}"));
            format!(
                "{} {}{}",
                need.action,
                need.resource,
                prefix.unwrap_or_default()
            )
        };
        Ok(needs?.into_iter().map(tell).collect())
    }

    #[test]
    fn calls_of_dynamodb_need_what_their_bodies_name() {
        for (operation, body, expected) in DYNAMODB {
            assert_eq!(dynamodb(operation, body).unwrap(), *expected, "{operation}");
        }
        assert!(
            dynamodb("ExecuteStatement", "{}")
                .unwrap_err()
                .contains("ExecuteStatement")
        );
        assert!(dynamodb("Scan", "{}").unwrap_err().contains("TableName"));
        assert!(dynamodb("GetRecords", r#"{"ShardIterator":"x"}"#).is_err());
    }

    #[test]
    fn calls_of_s3_need_what_their_paths_name() {
        let s3 = |method: &str, uri: &str, status: u16| {
            told(needs(
                &call(
                    method,
                    uri,
                    &[],
                    "<Delete><Object><Key>a&amp;b</Key></Object></Delete>",
                ),
                Some(status),
                PLACE,
            ))
        };
        for (method, uri, status, expected) in S3 {
            assert_eq!(
                s3(method, uri, *status).unwrap(),
                *expected,
                "{method} {uri}"
            );
        }
        assert!(s3("GET", "/b?versioning", 200).is_err());
        assert!(s3("PUT", "/b", 200).unwrap_err().contains("CreateBucket"));
        let tagged = call(
            "PUT",
            "/b/k",
            &[("x-amz-tagging", "a=b"), ("if-match", "x")],
            "",
        );
        assert_eq!(told(needs(&tagged, None, PLACE)).unwrap().len(), 3);
        let copy = call("PUT", "/b/k", &[("x-amz-copy-source", "c/k")], "");
        assert!(needs(&copy, None, PLACE).unwrap_err().contains("c/k"));
    }
}
