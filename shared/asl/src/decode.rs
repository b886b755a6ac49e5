//! From the JSON of a definition to its typed form, field by field.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::definition::{
    Fail, Kind, Length, Outcome, Pass, Resource, State, StateMachine, Task, Text, Transition, Wait,
};
use crate::error::{DefinitionError, names};
use crate::fields::{Fields, TOP};
use crate::path::Path;
use crate::retry::{Catcher, Jitter, Retrier};
use crate::template::Template;

mod maps;
mod rules;

type Result<T> = std::result::Result<T, DefinitionError>;

/// Values for `${Name}`.
type Substitutions = BTreeMap<String, String>;

/// The whole definition.
pub fn definition(value: Value, substitutions: &Substitutions) -> Result<StateMachine> {
    let mut fields = Fields::new(TOP, "", value)?;
    fields.text("Comment")?;
    if let Some(version) = fields.text("Version")?
        && version != "1.0"
    {
        return Err(fields.unsupported("Version", "only 1.0 is known"));
    }
    query_language(&mut fields)?;
    let machine = states(&mut fields, substitutions)?;
    fields.finish()?;
    Ok(machine)
}

fn query_language(fields: &mut Fields) -> Result<()> {
    match fields.text("QueryLanguage")?.as_deref() {
        None | Some("JSONPath") => Ok(()),
        Some(other) => Err(fields.unsupported("QueryLanguage", format!("{other} is not JSONPath"))),
    }
}

fn states(fields: &mut Fields, substitutions: &Substitutions) -> Result<StateMachine> {
    let start_at = fields.required_text("StartAt")?;
    let Some(Value::Object(members)) = fields.value("States") else {
        return Err(fields.missing("States"));
    };
    let mut states = BTreeMap::new();
    for (name, value) in members {
        if name.is_empty() || name.chars().count() > 80 {
            return Err(fields.invalid("States", format!("{name:?} is not 1 to 80 letters long")));
        }
        let state = state(&name, value, substitutions)?;
        states.insert(name, state);
    }
    Ok(StateMachine { start_at, states })
}

fn state(name: &str, value: Value, substitutions: &Substitutions) -> Result<State> {
    let mut fields = Fields::new(name, "", value)?;
    let kind = fields.required_text("Type")?;
    let comment = fields.text("Comment")?;
    query_language(&mut fields)?;
    // A Fail state has neither: it passes nothing on, and its paths read the raw input.
    let (input_path, output_path) = if kind == "Fail" {
        (Some(Path::whole()), Some(Path::whole()))
    } else {
        (fields.filter("InputPath")?, fields.filter("OutputPath")?)
    };
    let kind = match kind.as_str() {
        "Task" => Kind::Task(task(&mut fields, substitutions)?),
        "Pass" => Kind::Pass(pass(&mut fields)?),
        "Choice" => Kind::Choice(rules::choice(&mut fields)?),
        "Map" => Kind::Map(maps::map(&mut fields, substitutions)?),
        "Wait" => Kind::Wait(wait(&mut fields)?),
        "Succeed" => Kind::Succeed,
        "Fail" => Kind::Fail(fail(&mut fields)?),
        other => return Err(fields.unsupported("Type", format!("{other} states are not known"))),
    };
    fields.finish()?;
    Ok(State {
        comment,
        input_path,
        output_path,
        kind,
    })
}

fn transition(fields: &mut Fields) -> Result<Transition> {
    match (fields.text("Next")?, fields.boolean("End")?) {
        (Some(next), None) => Ok(Transition::Next(next)),
        (None, Some(true)) => Ok(Transition::End),
        (None, None) => Err(fields.missing("Next")),
        _ => Err(fields.invalid("End", "a state has either Next or \"End\": true")),
    }
}

fn task(fields: &mut Fields, substitutions: &Substitutions) -> Result<Task> {
    let resource = fields.required_text("Resource")?;
    let resource = if resource == "arn:aws:states:::lambda:invoke" {
        lambda_invoke(fields, substitutions)?
    } else if resource == "arn:aws:states:::states:startExecution" {
        start_execution(fields, substitutions)?
    } else if resource.contains(":states:") {
        let reason =
            format!("{resource} is not lambda:invoke, states:startExecution nor a function");
        return Err(fields.unsupported("Resource", reason));
    } else {
        Resource::Function {
            function: substitute(fields, "Resource", &resource, substitutions)?,
            parameters: fields.template("Parameters")?,
        }
    };
    Ok(Task {
        resource,
        timeout: fields.seconds("TimeoutSeconds")?,
        outcome: outcome(fields)?,
    })
}

fn lambda_invoke(fields: &mut Fields, substitutions: &Substitutions) -> Result<Resource> {
    let mut parameters = parameters(fields)?;
    let function = parameters.required_text("FunctionName")?;
    let function = substitute(&parameters, "FunctionName", &function, substitutions)?;
    let payload = body(&mut parameters, "Payload")?;
    parameters.finish()?;
    Ok(Resource::LambdaInvoke { function, payload })
}

fn start_execution(fields: &mut Fields, substitutions: &Substitutions) -> Result<Resource> {
    let mut parameters = parameters(fields)?;
    let machine = parameters.required_text("StateMachineArn")?;
    let machine = substitute(&parameters, "StateMachineArn", &machine, substitutions)?;
    let input = body(&mut parameters, "Input")?.ok_or_else(|| parameters.missing("Input"))?;
    parameters.finish()?;
    Ok(Resource::StartExecution { machine, input })
}

fn parameters(fields: &mut Fields) -> Result<Fields> {
    let name = "Parameters";
    let value = fields.value(name).ok_or_else(|| fields.missing(name))?;
    Fields::new(fields.state(), name, value)
}

/// What a call is given: a template, or the value at a path.
fn body(parameters: &mut Fields, field: &str) -> Result<Option<Template>> {
    let fixed = parameters.value(field);
    let path = parameters.path(&format!("{field}.$"))?;
    match (fixed, path) {
        (None, path) => Ok(path.map(Template::Path)),
        (Some(value), None) => Template::parse(&value)
            .map(Some)
            .map_err(|error| parameters.template_error(field, &error)),
        (Some(_), Some(_)) => {
            Err(parameters.invalid(field, "it is given twice, with `.$` and without"))
        }
    }
}

/// `text` with its `${Name}`s replaced. One that stands alone and has no value gives its own name.
fn substitute(
    fields: &Fields,
    field: &str,
    text: &str,
    substitutions: &Substitutions,
) -> Result<String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, tail)) = after.split_once('}') else {
            return Err(fields.invalid(field, "a `${` is never closed"));
        };
        replaced.push_str(before);
        match substitutions.get(name) {
            Some(value) => replaced.push_str(value),
            None if before.is_empty() && tail.is_empty() && replaced.is_empty() => {
                replaced.push_str(name);
            }
            None => return Err(fields.invalid(field, format!("no value is given for ${{{name}}}"))),
        }
        rest = tail;
    }
    replaced.push_str(rest);
    if replaced.is_empty() {
        return Err(fields.invalid(field, "it must name a function or a state machine"));
    }
    Ok(replaced)
}

fn outcome(fields: &mut Fields) -> Result<Outcome> {
    let selector = fields.template("ResultSelector")?;
    let result_path = fields.result_path()?;
    let retry = entries(fields, "Retry", retrier)?;
    check_wildcards(fields, "Retry", retry.iter().map(|retrier| &retrier.errors))?;
    let catch = entries(fields, "Catch", catcher)?;
    check_wildcards(fields, "Catch", catch.iter().map(|catcher| &catcher.errors))?;
    Ok(Outcome {
        selector,
        result_path,
        retry,
        catch,
        transition: transition(fields)?,
    })
}

fn entries<T>(
    fields: &mut Fields,
    field: &str,
    decode: impl Fn(&mut Fields) -> Result<T>,
) -> Result<Vec<T>> {
    fields
        .list(field)?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let place = fields.place(&format!("{field}[{index}]"));
            let mut entry = Fields::new(fields.state(), &place, value)?;
            let decoded = decode(&mut entry)?;
            entry.finish()?;
            Ok(decoded)
        })
        .collect()
}

fn retrier(fields: &mut Fields) -> Result<Retrier> {
    fields.text("Comment")?;
    let errors = error_equals(fields)?;
    let interval = fields.seconds("IntervalSeconds")?;
    let interval = interval.unwrap_or(Duration::from_secs(1));
    let max_delay = fields.seconds("MaxDelaySeconds")?;
    if max_delay.is_some_and(|longest| longest <= interval) {
        return Err(fields.invalid("MaxDelaySeconds", "it must be above IntervalSeconds"));
    }
    let backoff_rate = match fields.value("BackoffRate") {
        None => 2.0,
        Some(value) => value
            .as_f64()
            .filter(|rate| *rate >= 1.0)
            .ok_or_else(|| fields.invalid("BackoffRate", "it must be a number from 1.0"))?,
    };
    let jitter = match fields.text("JitterStrategy")?.as_deref() {
        None | Some("NONE") => Jitter::None,
        Some("FULL") => Jitter::Full,
        Some(_) => return Err(fields.invalid("JitterStrategy", "it must be FULL or NONE")),
    };
    Ok(Retrier {
        errors,
        interval,
        max_attempts: fields.integer("MaxAttempts", 0)?.unwrap_or(3),
        backoff_rate,
        max_delay,
        jitter,
    })
}

fn catcher(fields: &mut Fields) -> Result<Catcher> {
    fields.text("Comment")?;
    Ok(Catcher {
        errors: error_equals(fields)?,
        result_path: fields.result_path()?,
        next: fields.required_text("Next")?,
    })
}

fn error_equals(fields: &mut Fields) -> Result<Vec<String>> {
    let field = "ErrorEquals";
    let errors = fields.list(field)?.ok_or_else(|| fields.missing(field))?;
    let errors: Vec<String> = errors
        .into_iter()
        .map(|error| match error {
            Value::String(name) if !name.is_empty() => Ok(name),
            _ => Err(fields.invalid(field, "every entry must be an error's name")),
        })
        .collect::<Result<_>>()?;
    if errors.is_empty() {
        return Err(fields.invalid(field, "it must name an error"));
    }
    Ok(errors)
}

/// `States.ALL` must stand alone in its entry, and its entry must be the last.
fn check_wildcards<'a>(
    fields: &Fields,
    field: &str,
    entries: impl ExactSizeIterator<Item = &'a Vec<String>>,
) -> Result<()> {
    let last = entries.len().saturating_sub(1);
    for (index, errors) in entries.enumerate() {
        let wild = errors.iter().any(|error| error == names::ALL);
        if wild && (errors.len() > 1 || index != last) {
            let field = format!("{field}[{index}].ErrorEquals");
            return Err(fields.invalid(&field, "States.ALL must stand alone, in the last entry"));
        }
    }
    Ok(())
}

fn pass(fields: &mut Fields) -> Result<Pass> {
    let pass = Pass {
        result: fields.value("Result"),
        parameters: fields.template("Parameters")?,
        result_path: fields.result_path()?,
        transition: transition(fields)?,
    };
    if pass.result.is_some() && pass.parameters.is_some() {
        return Err(fields.unsupported("Result", "a Pass state has Result or Parameters here"));
    }
    Ok(pass)
}

fn wait(fields: &mut Fields) -> Result<Wait> {
    let length = match (fields.integer("Seconds", 0)?, fields.path("SecondsPath")?) {
        (Some(_), Some(_)) => {
            return Err(fields.invalid("Seconds", "SecondsPath stands beside it"));
        }
        (Some(seconds), None) => Length::Fixed(Duration::from_secs(seconds.into())),
        (None, Some(path)) => Length::Path(path),
        (None, None) => return Err(fields.missing("Seconds")),
    };
    Ok(Wait {
        length,
        transition: transition(fields)?,
    })
}

fn fail(fields: &mut Fields) -> Result<Fail> {
    let error = text_or_path(fields, "Error")?.ok_or_else(|| fields.missing("Error"))?;
    let cause = text_or_path(fields, "Cause")?.unwrap_or_else(|| Text::Fixed(String::new()));
    Ok(Fail { error, cause })
}

fn text_or_path(fields: &mut Fields, field: &str) -> Result<Option<Text>> {
    let fixed = fields.text(field)?;
    let path = fields.path(&format!("{field}Path"))?;
    match (fixed, path) {
        (Some(_), Some(_)) => Err(fields.invalid(field, format!("{field}Path stands beside it"))),
        (Some(text), None) => Ok(Some(Text::Fixed(text))),
        (None, path) => Ok(path.map(Text::Path)),
    }
}
