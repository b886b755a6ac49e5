//! The functions' log: one JSON object per line, flat, with the ids of the invocation in each.
//!
//! A query needs no path into a nest of spans: `filter snapshot = "…" and level = "ERROR"`. Lambda passes such lines on as
//! they are where a function's log format is JSON, and reads their `level` and `timestamp`.
//! <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>

use std::fmt::{self, Debug};
use std::io::Write as _;

use highwater_domain::budget::Clock as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::ports::SystemClock;

/// Sends what is told from here on to standard output: lines that pass `filter`, and panics with them.
pub(crate) fn begin(filter: &str) {
    let (filter, wrong) = match read(filter) {
        Ok(filter) => (filter, None),
        Err(error) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    let lines = LogLines(std::io::stdout);
    let begun = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    if let Err(error) = begun {
        tracing::warn!(%error, "another log is in place");
    }
    if let Some(error) = wrong {
        tracing::error!(%error, "HIGHWATER_LOG is no filter, and `info` is taken for it");
    }
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "the program panicked"),
    ));
}

/// Reads levels of all targets and of single ones: `info,highwater_steps=debug`. Nothing else of `EnvFilter`'s syntax, for
/// whose regular expressions each cold start would pay.
fn read(filter: &str) -> Result<Targets, String> {
    let directives = filter.split(',').map(str::trim);
    let directives: Vec<&str> = directives.filter(|it| !it.is_empty()).collect();
    if let Some(other) = directives.iter().find(|it| it.contains(['[', '{'])) {
        return Err(format!(
            "{other}: lines are chosen by target and level only"
        ));
    }
    let targets = directives.join(",").parse::<Targets>();
    let targets = targets.map_err(|error| error.to_string())?;
    // One that names targets only would hide errors of all others, and the spans that carry the ids.
    Ok(match targets.default_level() {
        Some(_) => targets,
        None => targets.with_default(LevelFilter::ERROR),
    })
}

/// Writes events as lines.
pub(crate) struct LogLines<W>(pub(crate) W);

/// The fields of a span, or of a line.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, name: &str, value: Value) {
        // The Lambda runtime has spans of its own, in its own spelling.
        let name = match name {
            "requestId" => "request_id",
            "xrayTraceId" => "trace_id",
            other => other.strip_prefix("r#").unwrap_or(other),
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field.name(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.insert(field.name(), format!("{value:?}").into());
    }
}

impl<W> Debug for LogLines<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogLines")
    }
}

impl<S, W> Layer<S> for LogLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields::default();
        let spans = context.event_scope(event);
        for span in spans.into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.0.extend(fields.0.clone());
            }
        }
        // What is nearer says it better: an inner span over an outer one, the event over all.
        event.record(&mut line);
        let about = event.metadata();
        line.insert("level", about.level().as_str().into());
        line.insert("target", about.target().into());
        line.insert("timestamp", SystemClock.now().to_rfc3339().into());
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        // Where nobody reads the log there is nobody to tell.
        let _ = self.0.make_writer().write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, tell: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::registry()
            .with(read(filter).unwrap())
            .with(LogLines(move || writer.clone()));
        tracing::subscriber::with_default(log, tell);
        let bytes = kept.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_has_the_fields_of_all_spans_around_it_and_its_own_over_theirs() {
        let lines = logged("info", || {
            let runtime = tracing::info_span!("Lambda runtime invoke", requestId = "r-1");
            let _runtime = runtime.enter();
            let step =
                tracing::error_span!("invocation", segment = 3, table = tracing::field::Empty);
            let _step = step.enter();
            tracing::info!(a = 1, b = -1, c = 0.5, d = true, e = "text", "one\nline");
            step.record("table", "orders");
            step.record("table", "customers");
            tracing::warn!(segment = 4, error = ?Some("\"quoted\""), "two");
            tracing::debug!("not told");
        });
        let [one, two] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(one["message"], "one\nline");
        assert_eq!(
            (&one["request_id"], &one["segment"], &one["level"]),
            (&"r-1".into(), &3.into(), &"INFO".into())
        );
        assert_eq!(
            [&one["a"], &one["b"], &one["c"], &one["d"], &one["e"]],
            [
                &1.into(),
                &(-1).into(),
                &0.5.into(),
                &true.into(),
                &"text".into()
            ] as [&Value; 5]
        );
        assert_eq!(one.get("table"), None);
        assert!(one["timestamp"].as_str().unwrap().ends_with('Z'), "{one}");
        assert!(one["target"].as_str().unwrap().contains("log_lines"));
        assert_eq!(
            (&two["table"], &two["segment"]),
            (&"customers".into(), &4.into())
        );
        assert_eq!(two["error"], r#"Some("\"quoted\"")"#);
    }

    #[test]
    fn the_ids_are_there_at_every_level_and_under_every_filter() {
        for filter in [
            "error",
            "warn",
            "debug",
            "highwater_lambda=warn",
            "other=info",
        ] {
            let lines = logged(filter, || {
                let step = tracing::error_span!("invocation", request_id = "r-1");
                step.in_scope(|| tracing::error!("told"));
            });
            assert_eq!(lines.len(), 1, "{filter}");
            assert_eq!(lines[0]["request_id"], "r-1", "{filter}");
        }
        assert_eq!(logged("off", || tracing::error!("no")), [] as [Value; 0]);
    }

    #[test]
    fn a_filter_is_levels_of_all_targets_and_of_single_ones() {
        let enabled = |filter: &str, target: &str| {
            let filter = read(filter).unwrap();
            let mut levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN].into_iter();
            let most = levels.find(|level| filter.would_enable(target, level));
            most.unwrap_or(Level::ERROR)
        };
        for (filter, steps, others) in [
            ("", Level::ERROR, Level::ERROR),
            ("WARN", Level::WARN, Level::WARN),
            ("highwater_steps", Level::TRACE, Level::ERROR),
            ("highwater_steps=info", Level::INFO, Level::ERROR),
            (" warn , highwater_steps=debug ,", Level::DEBUG, Level::WARN),
            (
                "highwater_steps::scan_segment=trace,info",
                Level::INFO,
                Level::INFO,
            ),
        ] {
            assert_eq!(enabled(filter, "highwater_steps::pace"), steps, "{filter}");
            assert_eq!(enabled(filter, "hyper"), others, "{filter}");
        }
        for wrong in [
            "a=b=c",
            "a=loud",
            "info,[invocation]=debug",
            "a[{shard=1}]=info",
        ] {
            let said = read(wrong).unwrap_err();
            assert!(!said.is_empty(), "{wrong}");
        }
    }
}
