//! A `CreateTable` request in people's words.

use serde_json::Value;

use crate::create_request::IndexKind;
use crate::key::ScalarType;

/// The request in people's words: the table first, then a line per index.
pub(crate) fn describe(create: &Value) -> Vec<String> {
    let mut lines = vec![table_line(create)];
    for kind in IndexKind::ALL {
        for index in create[kind.member()].as_array().into_iter().flatten() {
            let name = index["IndexName"].as_str().unwrap_or("?");
            let keys = match kind {
                IndexKind::Vector => "a vector".to_owned(),
                _ => keys_in_words(&index["KeySchema"], create),
            };
            let throughput = throughput_in_words(index).map(|words| format!(", {words}"));
            lines.push(format!(
                "{} {name}: {keys}{}{}",
                kind.word(),
                projection_in_words(&index["Projection"]),
                throughput.unwrap_or_default()
            ));
        }
    }
    lines
}

fn table_line(create: &Value) -> String {
    let mut line = format!("table {}: ", create["TableName"].as_str().unwrap_or("?"));
    line += if create["BillingMode"] == "PROVISIONED" {
        "provisioned"
    } else {
        "on demand"
    };
    if let Some(words) = throughput_in_words(create) {
        line = format!("{line} ({words})");
    }
    line = format!(
        "{line}, key {}",
        keys_in_words(&create["KeySchema"], create)
    );
    if let Some(class) = create["TableClass"]
        .as_str()
        .filter(|class| *class != "STANDARD")
    {
        line = format!("{line}, class {class}");
    }
    if create["SSESpecification"].is_object() {
        let key = create["SSESpecification"]["KMSMasterKeyId"].as_str();
        line = format!(
            "{line}, encrypted with {}",
            key.unwrap_or("the account's KMS key")
        );
    }
    if let Some(view) = create["StreamSpecification"]["StreamViewType"].as_str() {
        line = format!("{line}, stream of {view}");
    }
    let tags = create["Tags"].as_array().map_or(0, Vec::len);
    match tags {
        0 => line,
        1 => format!("{line}, 1 tag"),
        _ => format!("{line}, {tags} tags"),
    }
}

fn keys_in_words(schema: &Value, create: &Value) -> String {
    let scalar_type = |name: &Value| {
        create["AttributeDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row["AttributeName"] == *name)
            .and_then(|row| serde_json::from_value(row["AttributeType"].clone()).ok())
            .map_or_else(|| "?".to_owned(), |known: ScalarType| format!("{known:?}"))
    };
    let keys = schema.as_array().into_iter().flatten().map(|row| {
        let name = &row["AttributeName"];
        format!("{} ({})", name.as_str().unwrap_or("?"), scalar_type(name))
    });
    keys.collect::<Vec<_>>().join(", ")
}

fn throughput_in_words(request: &Value) -> Option<String> {
    let units = &request["ProvisionedThroughput"];
    if units.is_object() {
        let (read, write) = (&units["ReadCapacityUnits"], &units["WriteCapacityUnits"]);
        return Some(format!("{read} read and {write} write units"));
    }
    let most = request["OnDemandThroughput"].as_object()?;
    let limits = most.iter().map(|(name, units)| {
        let what = if name == "MaxReadRequestUnits" {
            "read"
        } else {
            "write"
        };
        format!("at most {units} {what} units")
    });
    Some(limits.collect::<Vec<_>>().join(", "))
}

fn projection_in_words(projection: &Value) -> String {
    match projection["ProjectionType"].as_str() {
        Some("ALL") => ", all attributes".to_owned(),
        Some("KEYS_ONLY") => ", keys only".to_owned(),
        Some("INCLUDE") => {
            let names = projection["NonKeyAttributes"]
                .as_array()
                .into_iter()
                .flatten();
            let names: Vec<&str> = names.filter_map(Value::as_str).collect();
            format!(", with {}", names.join(", "))
        }
        _ => String::new(),
    }
}
