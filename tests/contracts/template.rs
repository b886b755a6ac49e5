//! Reads `template.yaml` as far as these tests need it.

use highwater_tests::checkout;

/// The lines of one mapping of a YAML file, nested by their indentation. Lists, tags and folded texts
/// are lines like any other: whoever asks for a name must know that it is a member of a mapping.
pub struct Mapping(Vec<String>);

impl Mapping {
    pub fn template() -> Self {
        let text = checkout::text("template.yaml").unwrap();
        let lines = text.lines().filter(|line| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        Self(lines.map(str::to_owned).collect())
    }

    /// The members: name, what stands on the name's line, and what is nested below it.
    pub fn members(&self) -> Vec<(String, String, Self)> {
        let indentation = |line: &str| line.len() - line.trim_start().len();
        let own = self.0.first().map_or(0, |line| indentation(line));
        let mut members: Vec<(String, String, Self)> = Vec::new();
        for line in &self.0 {
            if indentation(line) > own {
                let (_, _, nested) = members.last_mut().expect("nothing is nested at first");
                nested.0.push(line.clone());
            } else if let Some((name, value)) = line.split_once(':') {
                let value = value.split(" #").next().unwrap_or_default();
                members.push((name.trim().into(), value.trim().into(), Self(Vec::new())));
            }
        }
        members
    }

    /// What is nested below a member that must be there.
    pub fn nested(&self, name: &str) -> Self {
        self.member(name).1
    }

    /// What stands on the line of a member that must be there.
    pub fn value(&self, name: &str) -> String {
        self.member(name).0
    }

    fn member(&self, name: &str) -> (String, Self) {
        let mut members = self.members().into_iter();
        let found = members.find(|(member, ..)| member == name);
        let (_, value, nested) = found.unwrap_or_else(|| panic!("no {name} in the template"));
        (value, nested)
    }

    /// The resources of one type: logical name and properties.
    pub fn resources(&self, resource_type: &str) -> Vec<(String, Self)> {
        let resources = self.nested("Resources").members().into_iter();
        resources
            .filter(|(_, _, resource)| resource.value("Type") == resource_type)
            .map(|(name, _, resource)| (name, resource.nested("Properties")))
            .collect()
    }
}

#[test]
fn the_reader_sees_the_template_as_it_is() {
    let template = Mapping::template();
    assert_eq!(
        template.value("Transform"),
        "AWS::Serverless-2016-10-31",
        "a value with colons"
    );
    let parameters = template.nested("Parameters");
    assert_eq!(parameters.nested("TableName").value("Type"), "String");
    let [(name, table)] = &template.resources("AWS::DynamoDB::Table")[..] else {
        panic!("one table");
    };
    assert_eq!(
        (name.as_str(), table.value("BillingMode").as_str()),
        ("ControlTable", "PAY_PER_REQUEST")
    );
}

/// What keeps a stream's records from being lost stands in a few lines of the mapping.
#[test]
fn the_mapping_gives_every_record_and_tells_its_shard() {
    let mappings = Mapping::template().resources("AWS::Lambda::EventSourceMapping");
    let [(_, mapping)] = &mappings[..] else {
        panic!("one mapping")
    };
    for (member, value, why) in [
        ("StartingPosition", "TRIM_HORIZON", "LATEST loses records"),
        (
            "ParallelizationFactor",
            "1",
            "lanes of a shard have no name",
        ),
        ("MaximumRetryAttempts", "-1", "no record is given up"),
        ("MaximumRecordAgeInSeconds", "-1", "no record is given up"),
        (
            "BisectBatchOnFunctionError",
            "true",
            "one record must not hold up a thousand",
        ),
    ] {
        assert_eq!(mapping.value(member), value, "{member}: {why}");
    }
    let number = |member: &str| mapping.value(member).parse::<u32>().unwrap();
    assert!(
        (1..=900).contains(&number("TumblingWindowInSeconds")),
        "only windows tell the shard"
    );
    assert!((1..=10_000).contains(&number("BatchSize")));
    let names: Vec<String> = mapping
        .members()
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    assert!(
        !names.contains(&"FilterCriteria".to_owned()),
        "a filter passes records over"
    );
    let text = checkout::text("template.yaml").unwrap();
    assert!(text.contains("        - ReportBatchItemFailures\n"));
    let failure = mapping.nested("DestinationConfig").nested("OnFailure");
    assert_eq!(failure.value("Destination"), "!GetAtt SnapshotBucket.Arn");
}

/// A function that is killed in the middle is no harm, but an audit that outlives its schedule runs beside the next.
#[test]
fn an_audit_is_over_before_the_next_begins() {
    let template = Mapping::template();
    let functions = template.resources("AWS::Serverless::Function");
    let (_, audit) = functions
        .iter()
        .find(|(name, _)| name == "AuditStreamFunction")
        .unwrap();
    let schedule = audit
        .nested("Events")
        .nested("Scheduled")
        .nested("Properties");
    assert_eq!(schedule.value("ScheduleExpression"), "rate(5 minutes)");
    let timeout: u32 = audit.value("Timeout").parse().unwrap();
    assert!(timeout < 5 * 60);
}

/// What a function of the live side reads of its environment is set, and nothing else is.
#[test]
fn the_live_functions_find_their_environment() {
    let template = Mapping::template();
    for (name, variables) in [
        ("ConsumeStreamFunction", &["HIGHWATER_LOG_TO"][..]),
        (
            "AuditStreamFunction",
            &[
                "HIGHWATER_LOG_TO",
                "HIGHWATER_TABLES",
                "HIGHWATER_PUBLICATION_DELAY",
            ],
        ),
    ] {
        let functions = template.resources("AWS::Serverless::Function");
        let (_, function) = functions.iter().find(|(found, _)| found == name).unwrap();
        let set = function.nested("Environment").nested("Variables").members();
        let set: Vec<String> = set.into_iter().map(|(variable, ..)| variable).collect();
        assert_eq!(set, variables, "{name}");
        let pairs = set.iter().map(|variable| match variable.as_str() {
            "HIGHWATER_LOG_TO" => (variable.clone(), "s3://bucket/live".to_owned()),
            "HIGHWATER_TABLES" => (variable.clone(), "orders".to_owned()),
            _ => (variable.clone(), "77".to_owned()),
        });
        let config = highwater_lambda::LiveConfig::from_pairs(pairs).unwrap();
        assert_eq!(config.log_to.to_string(), "s3://bucket/live");
        if set.len() > 1 {
            assert_eq!(
                (config.tables, config.publication_ms),
                (vec!["orders".to_owned()], 77_000)
            );
        }
    }
}
