//! A CloudFormation template as it would be deployed: parameters given, conditions decided, intrinsic functions resolved.
//!
//! Whatever is not understood is an error that names it: a test over a template must not pass because it looked away.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::yaml::{self, YamlError, members};

/// Why a template says nothing that could be tested.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// It is not YAML as it is understood here.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A part of it cannot be resolved.
    #[error("{0}")]
    Unresolved(String),
}

type Resolved<T> = Result<T, TemplateError>;

pub(crate) fn unresolved<T>(what: impl Into<String>) -> Resolved<T> {
    Err(TemplateError::Unresolved(what.into()))
}

/// Where a stack stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `AWS::Region`.
    pub region: String,
    /// `AWS::AccountId`.
    pub account: String,
    /// `AWS::StackName`.
    pub stack: String,
}

/// A template with its parameters.
#[derive(Clone, Debug)]
pub struct StackTemplate {
    document: Value,
    place: Place,
    parameters: BTreeMap<String, Value>,
    /// Names that resources have where they are, by logical id.
    names: BTreeMap<String, String>,
}

impl StackTemplate {
    /// Reads a template; its parameters have their defaults, and none where there is no default.
    pub fn read(text: &str, place: Place) -> Resolved<Self> {
        let document = yaml::read(text)?;
        let mut template = Self {
            document,
            place,
            parameters: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        let defaults: Vec<(String, Value)> = members(&template.document["Parameters"])
            .filter_map(|(name, it)| Some((name.clone(), it.get("Default")?.clone())))
            .collect();
        for (name, value) in defaults {
            let text = value.as_str().map(str::to_owned);
            template =
                template.with_parameter(&name, &text.unwrap_or_else(|| value.to_string()))?;
        }
        Ok(template)
    }

    /// Gives a parameter, as `--parameter-overrides` does.
    pub fn with_parameter(mut self, name: &str, text: &str) -> Resolved<Self> {
        let declared = &self.document["Parameters"][name];
        let value = match declared["Type"].as_str() {
            None => return unresolved(format!("there is no parameter {name}")),
            Some("CommaDelimitedList") => {
                // An empty text is a list of one empty text.
                text.split(',').map(|it| Value::from(it.trim())).collect()
            }
            Some(_) => Value::from(text),
        };
        self.parameters.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Gives the name that a resource has where it is.
    #[must_use]
    pub fn with_name(mut self, logical_id: &str, name: &str) -> Self {
        self.names.insert(logical_id.to_owned(), name.to_owned());
        self
    }

    /// Whether the template declares such a parameter.
    #[must_use]
    pub fn has_parameter(&self, name: &str) -> bool {
        self.document["Parameters"].get(name).is_some()
    }

    /// The template as it stands, with functions.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The same template after a change.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Value)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.document);
        changed
    }

    /// The logical ids of the resources of these types that are made under these parameters, in order.
    pub fn resources(&self, types: &[&str]) -> Resolved<Vec<String>> {
        let mut found = Vec::new();
        for (logical_id, resource) in members(&self.document["Resources"]) {
            let is_one = types.iter().any(|it| resource["Type"] == **it);
            if is_one && self.is_made(logical_id)? {
                found.push(logical_id.clone());
            }
        }
        Ok(found)
    }

    /// Whether a resource's condition holds.
    pub fn is_made(&self, logical_id: &str) -> Resolved<bool> {
        match self.document["Resources"][logical_id]["Condition"].as_str() {
            Some(condition) => self.condition(condition),
            None => Ok(true),
        }
    }

    /// A property of a resource, resolved; null if it has none.
    pub fn property(&self, logical_id: &str, name: &str) -> Resolved<Value> {
        let value = &self.document["Resources"][logical_id]["Properties"][name];
        Ok(self.resolve(value)?.unwrap_or_default())
    }

    /// The ARN of a resource.
    pub fn arn(&self, logical_id: &str) -> Resolved<String> {
        let Place {
            region, account, ..
        } = &self.place;
        let kind = self.document["Resources"][logical_id]["Type"].as_str();
        let name = self.name(logical_id)?;
        let service =
            |service: &str, rest: String| format!("arn:aws:{service}:{region}:{account}:{rest}");
        Ok(match kind.unwrap_or_default() {
            "AWS::Serverless::Function" | "AWS::Lambda::Function" => {
                service("lambda", format!("function:{name}"))
            }
            "AWS::Serverless::StateMachine" | "AWS::StepFunctions::StateMachine" => {
                service("states", format!("stateMachine:{name}"))
            }
            "AWS::DynamoDB::Table" => service("dynamodb", format!("table/{name}")),
            "AWS::S3::Bucket" => format!("arn:aws:s3:::{name}"),
            "AWS::Logs::LogGroup" => service("logs", format!("log-group:{name}:*")),
            "AWS::SNS::Topic" => service("sns", name),
            "AWS::SQS::Queue" => service("sqs", name),
            "AWS::KMS::Key" => service("kms", format!("key/{name}")),
            "AWS::IAM::Role" => format!("arn:aws:iam::{account}:role/{name}"),
            other => return unresolved(format!("{logical_id}: the ARN of a {other:?}")),
        })
    }

    /// The name that a resource has, or would have.
    fn name(&self, logical_id: &str) -> Resolved<String> {
        if let Some(name) = self.names.get(logical_id) {
            return Ok(name.clone());
        }
        let own = [
            "Name",
            "FunctionName",
            "StateMachineName",
            "TableName",
            "BucketName",
            "LogGroupName",
            "TopicName",
            "QueueName",
            "RoleName",
        ];
        for property in own {
            if let Value::String(name) = self.property(logical_id, property)? {
                return Ok(name);
            }
        }
        Ok(format!("{}-{logical_id}", self.place.stack))
    }

    /// A value with its functions resolved; `None` for what is to be left out (`AWS::NoValue`).
    pub fn resolve(&self, value: &Value) -> Resolved<Option<Value>> {
        match value {
            Value::Array(items) => {
                let mut resolved = Vec::with_capacity(items.len());
                for item in items {
                    resolved.extend(self.resolve(item)?);
                }
                Ok(Some(Value::Array(resolved)))
            }
            Value::Object(object) => {
                if let Some((name, argument)) = function(object) {
                    return self.call(name, argument);
                }
                let mut resolved = Map::new();
                for (name, value) in object {
                    if let Some(value) = self.resolve(value)? {
                        resolved.insert(name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(resolved)))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn call(&self, name: &str, argument: &Value) -> Resolved<Option<Value>> {
        let value = match (name, argument) {
            ("Ref", Value::String(of)) if of == "AWS::NoValue" => return Ok(None),
            ("Ref", Value::String(of)) => self.reference(of)?,
            ("Fn::If", Value::Array(parts)) => {
                let [Value::String(condition), yes, no] = parts.as_slice() else {
                    return unresolved(format!("Fn::If {argument}"));
                };
                let chosen = if self.condition(condition)? { yes } else { no };
                return self.resolve(chosen);
            }
            ("Fn::GetAtt", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(of), Value::String(attribute)] if attribute == "Arn" => {
                    Value::String(self.arn(of)?)
                }
                _ => return unresolved(format!("Fn::GetAtt {argument}")),
            },
            ("Fn::Sub", Value::String(text)) => Value::String(self.substituted(text, &Map::new())?),
            ("Fn::Sub", Value::Array(parts)) => match parts.as_slice() {
                [Value::String(text), Value::Object(own)] => {
                    Value::String(self.substituted(text, own)?)
                }
                _ => return unresolved(format!("Fn::Sub {argument}")),
            },
            ("Fn::Join", _) => self.join(argument)?,
            ("Fn::Split", _) => self.split(argument)?,
            ("Fn::Select", _) => self.select(argument)?,
            ("Fn::Equals" | "Fn::Not" | "Fn::And" | "Fn::Or" | "Condition", _) => {
                Value::Bool(self.decide(name, argument)?)
            }
            _ => return unresolved(format!("{name} is not understood: {argument}")),
        };
        Ok(Some(value))
    }

    /// What a `Ref` stands for.
    fn reference(&self, name: &str) -> Resolved<Value> {
        if let Some(value) = self.parameters.get(name) {
            return Ok(value.clone());
        }
        let place = &self.place;
        let pseudo = match name {
            "AWS::Partition" => "aws",
            "AWS::URLSuffix" => "amazonaws.com",
            "AWS::Region" => &place.region,
            "AWS::AccountId" => &place.account,
            "AWS::StackName" => &place.stack,
            _ => "",
        };
        if !pseudo.is_empty() {
            return Ok(pseudo.into());
        }
        let kind = self.document["Resources"][name]["Type"].as_str();
        match kind {
            None if self.has_parameter(name) => unresolved(format!("{name} has no value")),
            None => unresolved(format!("there is no {name} to refer to")),
            Some(
                "AWS::Serverless::StateMachine"
                | "AWS::StepFunctions::StateMachine"
                | "AWS::SNS::Topic",
            ) => self.arn(name).map(Value::String),
            Some(_) => self.name(name).map(Value::String),
        }
    }

    fn substituted(&self, text: &str, own: &Map<String, Value>) -> Resolved<String> {
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, behind)) = after.split_once('}') else {
                return unresolved(format!("Fn::Sub {text:?} ends in the middle"));
            };
            whole.push_str(before);
            rest = behind;
            if let Some(literal) = name.strip_prefix('!') {
                whole = format!("{whole}${{{literal}}}");
                continue;
            }
            let value = match (own.get(name), name.split_once('.')) {
                (Some(value), _) => self.resolve(value)?.unwrap_or_default(),
                (None, Some((of, "Arn"))) => Value::String(self.arn(of)?),
                (None, Some(_)) => return unresolved(format!("${{{name}}} in {text:?}")),
                (None, None) => self.reference(name)?,
            };
            whole.push_str(&as_text(&value).ok_or_else(|| {
                TemplateError::Unresolved(format!("${{{name}}} in {text:?} is no text: {value}"))
            })?);
        }
        Ok(whole + rest)
    }

    fn resolved(&self, value: &Value) -> Resolved<Value> {
        Ok(self.resolve(value)?.unwrap_or_default())
    }

    /// The argument of a function that takes two.
    fn pair<'v>(argument: &'v Value, name: &str) -> Resolved<(&'v Value, &'v Value)> {
        match argument.as_array().map(Vec::as_slice) {
            Some([one, other]) => Ok((one, other)),
            _ => unresolved(format!("{name} {argument}")),
        }
    }

    fn join(&self, argument: &Value) -> Resolved<Value> {
        let (between, parts) = Self::pair(argument, "Fn::Join")?;
        let parts = self.resolved(parts)?;
        let texts = parts.as_array().map(|parts| parts.iter().map(as_text));
        let texts: Option<Vec<String>> = texts.and_then(Iterator::collect);
        match (between.as_str(), texts) {
            (Some(between), Some(texts)) => Ok(texts.join(between).into()),
            _ => unresolved(format!("Fn::Join {argument}")),
        }
    }

    fn split(&self, argument: &Value) -> Resolved<Value> {
        let (at, text) = Self::pair(argument, "Fn::Split")?;
        match (at.as_str(), as_text(&self.resolved(text)?)) {
            (Some(at), Some(text)) => Ok(text.split(at).map(Value::from).collect()),
            _ => unresolved(format!("Fn::Split {argument}")),
        }
    }

    fn select(&self, argument: &Value) -> Resolved<Value> {
        let (index, list) = Self::pair(argument, "Fn::Select")?;
        let index = as_text(&self.resolved(index)?).and_then(|text| text.parse::<usize>().ok());
        let list = self.resolved(list)?;
        match index.and_then(|index| list.get(index)) {
            Some(item) => Ok(item.clone()),
            None => unresolved(format!("Fn::Select {argument} of {list}")),
        }
    }

    /// Whether a condition of the template holds.
    pub fn condition(&self, name: &str) -> Resolved<bool> {
        match self.document["Conditions"].get(name) {
            Some(Value::Object(object)) => match function(object) {
                Some((function, argument)) => self.decide(function, argument),
                None => unresolved(format!("the condition {name} is no function")),
            },
            _ => unresolved(format!("there is no condition {name}")),
        }
    }

    fn decide(&self, function: &str, argument: &Value) -> Resolved<bool> {
        if let ("Condition", Value::String(name)) = (function, argument) {
            return self.condition(name);
        }
        let mut values = Vec::new();
        for part in argument.as_array().into_iter().flatten() {
            values.push(self.resolved(part)?);
        }
        let truths: Option<Vec<bool>> = values.iter().map(Value::as_bool).collect();
        match (function, values.as_slice(), truths.as_deref()) {
            ("Fn::Equals", [one, other], _) => Ok(as_text(one) == as_text(other)),
            ("Fn::Not", _, Some([truth])) => Ok(!truth),
            ("Fn::And", _, Some(truths)) => Ok(truths.iter().all(|it| *it)),
            ("Fn::Or", _, Some(truths)) => Ok(truths.iter().any(|it| *it)),
            _ => unresolved(format!("{function} {argument} decides nothing")),
        }
    }
}

/// The function that an object stands for, if it stands for one.
fn function(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut members = object.iter();
    let (name, argument) = members.next()?;
    let is_one =
        name == "Ref" || name.starts_with("Fn::") || (name == "Condition" && argument.is_string());
    (is_one && members.next().is_none()).then_some((name, argument))
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = r#"
Parameters:
  Names: { Type: CommaDelimitedList, Default: "orders,customers" }
  Bucket: { Type: String, Default: "" }
  Needed: { Type: String }
Conditions:
  Makes: !Equals [!Ref Bucket, ""]
  Both: !And [!Condition Makes, !Not [!Equals [!Ref AWS::Region, here]]]
Resources:
  Own:
    Type: AWS::S3::Bucket
    Condition: Makes
  Table:
    Type: AWS::DynamoDB::Table
    Properties: { TableName: !Sub "${AWS::StackName}-control" }
  Machine: { Type: AWS::Serverless::StateMachine }
  Policy:
    Type: X
    Properties:
      Tables: !Split
        - ","
        - !Sub
          - arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${Rest}
          - Rest: !Join [!Sub ",arn:aws:dynamodb:${AWS::Region}:1:table/", !Ref Names]
      Second: !Select [1, !Ref Names]
      Bucket: !If [Makes, !GetAtt Own.Arn, !Sub "arn:aws:s3:::${Bucket}"]
      Left: [!If [Makes, !Ref AWS::NoValue, x], y]
      Kept: !Sub "${!Literal} ${Table} ${Table.Arn} ${Machine}"
      Odd: !Base64 x
      Unset: !Ref Needed
"#;

    fn template() -> StackTemplate {
        let place = Place {
            region: "there".into(),
            account: "1".into(),
            stack: "hw".into(),
        };
        StackTemplate::read(TEXT, place).unwrap()
    }

    #[test]
    fn values_are_what_cloudformation_makes_of_them() {
        let property = |template: &StackTemplate, name| template.property("Policy", name).unwrap();
        // A separator is a text of the template in CloudFormation: this one cannot be joined.
        assert!(template().property("Policy", "Tables").is_err());
        let own = template();
        assert_eq!(property(&own, "Second"), "customers");
        assert_eq!(property(&own, "Bucket"), "arn:aws:s3:::hw-Own");
        assert_eq!(property(&own, "Left"), json!(["y"]));
        assert!(own.condition("Both").unwrap() && own.is_made("Own").unwrap());
        assert_eq!(
            property(&own, "Kept"),
            "${Literal} hw-control arn:aws:dynamodb:there:1:table/hw-control arn:aws:states:there:1:stateMachine:hw-Machine"
        );
        let given = own.with_parameter("Bucket", "mine").unwrap();
        assert_eq!(property(&given, "Bucket"), "arn:aws:s3:::mine");
        assert_eq!(property(&given, "Left"), json!(["x", "y"]));
        assert!(!given.is_made("Own").unwrap());
        let named = given.with_name("Table", "elsewhere");
        assert_eq!(
            named.arn("Table").unwrap(),
            "arn:aws:dynamodb:there:1:table/elsewhere"
        );
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let says = |name| template().property("Policy", name).unwrap_err().to_string();
        assert!(says("Odd").contains("Fn::Base64"));
        assert!(says("Unset").contains("Needed has no value"));
        assert!(template().with_parameter("Nobody", "x").is_err());
        assert!(template().condition("Nobody").is_err());
        assert!(template().arn("Policy").is_err());
    }
}
