//! What a program reports: lines of JSON from any language, taken apart with care and made into events.
//!
//! The same bytes always make the same events, so that what a scheduler that died has not taken in yet can be made up
//! for ([`Reports`] starts again at the first byte, and its first events are skipped). Nothing that a program writes
//! can break anything: a line that isn't understood becomes a warning with its number, and lines, warnings and events
//! are bounded.

use crate::rundir::event::{EventKind, FailureClass};
use crate::spec::command::is_metric_name;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Longest line that is read, in bytes.
pub const MAX_LINE: usize = 64 << 10;

/// Most warnings that lines of one attempt make.
const MAX_WARNINGS: u32 = 50;

/// Most events that lines of one attempt make; there are evaluations beyond it, but no steps.
const MAX_EVENTS: u64 = 1_000_000;

/// Most metrics of one line, and most different ones of an attempt.
const MAX_METRICS: usize = 1_000;

/// Reads what the program of one attempt reports.
#[derive(Debug, Default)]
pub struct Reports {
    line: Vec<u8>,
    /// Number of the line that is being read, less one.
    lines: u64,
    /// The rest of a line that is too long is thrown away.
    skipping: bool,
    warnings: u32,
    events: u64,
    full: bool,
    odd_keys: BTreeSet<String>,
    step: u64,
    epoch: u32,
    /// Steps that earlier attempts have come to, with their epochs.
    earlier: Vec<(u64, u32)>,
    /// The last value of every metric.
    metrics: BTreeMap<Measure, Measured>,
    failed: bool,
}

/// A metric of an evaluation set at a resolution (0 where there is none).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Measure {
    pub set: String,
    pub resolution: u32,
    pub metric: String,
}

/// The last value of a metric, and when it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub value: f64,
    pub step: u64,
    pub epoch: u32,
    /// The program said that it is the result.
    pub last: bool,
}

/// The evaluation set that a program means where it names none.
pub const DEFAULT_SET: &str = "val";

impl Reports {
    /// Reports of an attempt that goes on from `step`, after others that have come to the steps and epochs `earlier`.
    pub fn going_on(earlier: Vec<(u64, u32)>, step: u64) -> Reports {
        let mut reports = Reports {
            earlier,
            ..Reports::default()
        };
        reports.go_on(step);
        reports
    }

    /// From here on it is `step` that the program has come to.
    fn go_on(&mut self, step: u64) {
        let reached = self.earlier.iter().filter(|(earlier, _)| *earlier <= step);
        let epoch = reached.max_by_key(|(step, _)| *step);
        (self.step, self.epoch) = (step, epoch.map_or(0, |(_, epoch)| *epoch));
    }

    /// Takes in what was written since, and returns what it says.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<EventKind> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.extend(&rest[..end], &mut events);
            self.end_line(&mut events);
            rest = &rest[end + 1..];
        }
        self.extend(rest, &mut events);
        events
    }

    /// The program has ended: a last line without an end is a line, too, if it is whole.
    pub fn finish(&mut self) -> Vec<EventKind> {
        let mut events = Vec::new();
        if !self.line.is_empty() && self.parse().is_ok() {
            self.end_line(&mut events);
        }
        events
    }

    /// Whether the program said itself that it has failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The last value of every metric.
    pub fn metrics(&self) -> &BTreeMap<Measure, Measured> {
        &self.metrics
    }

    /// Metrics of `metrics.json`, `{"accuracy": 91.2}` or `{"test": {"accuracy": 90.1}}`: the program's results. Returns
    /// what is wrong with it, if anything is.
    pub fn add_file(&mut self, bytes: &[u8]) -> Vec<EventKind> {
        let mut events = Vec::new();
        let warn = |what: String| EventKind::Warning {
            message: format!("metrics.json: {what}"),
        };
        let map = match parse(bytes) {
            Ok(Value::Object(map)) => map,
            Ok(_) => {
                events.push(warn("not a map of numbers".into()));
                return events;
            }
            Err(error) => {
                events.push(warn(error));
                return events;
            }
        };
        let mut add = |set: &str, name: &str, value: &Value, reports: &mut Reports| match (
            number(value),
            is_metric_name(name) && is_metric_name(set),
        ) {
            (Some(value), true) => {
                let (step, epoch) = (reports.step, reports.epoch);
                reports.measure(set, 0, name, value, (step, epoch, true));
            }
            _ => events.push(warn(format!("`{}` is no number", shown(name)))),
        };
        for (name, value) in map.iter().take(MAX_METRICS) {
            match value {
                Value::Object(own) => {
                    for (metric, value) in own.iter().take(MAX_METRICS) {
                        add(name, metric, value, self);
                    }
                }
                value => add(DEFAULT_SET, name, value, self),
            }
        }
        events.truncate(MAX_WARNINGS as usize);
        events
    }

    /// The results as evaluations that are the last, one a set and resolution; those that the program has called so
    /// itself are in its log.
    pub fn results(&self, from_file: bool) -> Vec<EventKind> {
        let mut results: Vec<EventKind> = Vec::new();
        let mut groups: BTreeMap<(&str, u32), Vec<(&Measure, &Measured)>> = BTreeMap::new();
        for (measure, measured) in &self.metrics {
            groups
                .entry((&measure.set, measure.resolution))
                .or_default()
                .push((measure, measured));
        }
        for ((set, resolution), group) in groups {
            if !from_file && group.iter().all(|(_, measured)| measured.last) {
                continue;
            }
            let newest = group.iter().map(|(_, m)| (m.step, m.epoch)).max();
            let (step, epoch) = newest.unwrap_or((self.step, self.epoch));
            results.push(EventKind::Evaluated {
                epoch,
                step,
                set: set.to_owned(),
                resolution,
                metrics: group
                    .iter()
                    .map(|(measure, measured)| (measure.metric.clone(), measured.value))
                    .collect(),
                last: true,
            });
        }
        // The usual set is the result: it comes last.
        results.sort_by_key(|event| match event {
            EventKind::Evaluated { set, .. } => set == DEFAULT_SET,
            _ => false,
        });
        results
    }

    /// The last step that was reported.
    pub fn step(&self) -> u64 {
        self.step
    }

    fn extend(&mut self, part: &[u8], events: &mut Vec<EventKind>) {
        if self.skipping {
            return;
        }
        if self.line.len() + part.len() > MAX_LINE {
            self.line.clear();
            self.skipping = true;
            self.warn(format!("longer than {MAX_LINE} bytes"), events);
            return;
        }
        self.line.extend_from_slice(part);
    }

    fn end_line(&mut self, events: &mut Vec<EventKind>) {
        if !self.skipping && !self.line.iter().all(u8::is_ascii_whitespace) {
            match self.parse().and_then(|map| self.event(&map, events)) {
                Ok(Some(event)) => self.push(event, events),
                Ok(None) => {}
                Err(what) => self.warn(what, events),
            }
        }
        self.skipping = false;
        self.line.clear();
        self.lines += 1;
    }

    fn push(&mut self, event: EventKind, events: &mut Vec<EventKind>) {
        if self.events >= MAX_EVENTS {
            if !self.full {
                self.full = true;
                events.push(EventKind::Warning {
                    message: format!(
                        "the program has reported {MAX_EVENTS} events: its steps are not kept from here on"
                    ),
                });
            }
            if matches!(
                event,
                EventKind::Step { .. } | EventKind::Warning { .. } | EventKind::Checkpointed { .. }
            ) {
                return;
            }
        }
        self.events += 1;
        events.push(event);
    }

    fn warn(&mut self, what: String, events: &mut Vec<EventKind>) {
        self.warnings += 1;
        let message = match self.warnings {
            0..MAX_WARNINGS => format!("report, line {}: {what}", self.lines + 1),
            MAX_WARNINGS => "more reports are not understood; they are not told of".to_owned(),
            _ => return,
        };
        events.push(EventKind::Warning { message });
    }

    fn parse(&self) -> Result<Map<String, Value>, String> {
        match parse(&self.line)? {
            Value::Object(map) => Ok(map),
            _ => Err("not a JSON object".to_owned()),
        }
    }

    /// The event of a line; `None` where it says nothing new.
    fn event(
        &mut self,
        map: &Map<String, Value>,
        events: &mut Vec<EventKind>,
    ) -> Result<Option<EventKind>, String> {
        let kind = map
            .get("kind")
            .and_then(Value::as_str)
            .ok_or("no `kind`")?
            .to_owned();
        let known: &[&str] = match kind.as_str() {
            "started" => &["resumed_step", "total_steps"],
            "step" => &[
                "step",
                "epoch",
                "loss",
                "lr",
                "grad_norm",
                "images_per_second",
                "samples_per_second",
            ],
            "epoch" => &["epoch", "step", "train_loss", "loss", "lr", "seconds"],
            "evaluated" => &["metrics", "epoch", "step", "set", "resolution", "last"],
            "checkpointed" => &["step", "file"],
            "warning" => &["message"],
            "resources" => &["peak_rss_bytes", "cpu_seconds", "wall_seconds", "images"],
            "failed" => &["class", "message"],
            "finished" => &["step"],
            unknown => {
                return Err(format!(
                    "unknown kind `{}`; known: started, step, epoch, evaluated, checkpointed, warning, failed, finished",
                    shown(unknown)
                ));
            }
        };
        // What everybody may say: the fields of every event.
        const COMMON: &[&str] = &["kind", "v", "seq", "time", "attempt"];
        for key in map.keys() {
            let key = key.as_str();
            if !known.contains(&key)
                && !COMMON.contains(&key)
                && self.odd_keys.len() < MAX_METRICS
                && self.odd_keys.insert(format!("{kind}.{key}"))
            {
                self.warn(
                    format!("`{kind}` has no `{}`: it is not kept", shown(key)),
                    events,
                );
            }
        }
        let float = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(f64::NAN),
            Some(value) => number(value).ok_or(format!("`{key}` is no number")),
        };
        let either = |one: &str, other: &str| match map.get(one) {
            None | Some(Value::Null) => float(other),
            Some(_) => float(one),
        };
        let text = |key: &str| {
            let text = map.get(key).and_then(Value::as_str).unwrap_or_default();
            text.chars().take(4096).collect::<String>()
        };
        let at = |reports: &Reports| -> Result<(u64, u32), String> {
            let step = whole(map, "step", MAX_STEP)?.unwrap_or(reports.step);
            let epoch = whole(map, "epoch", u64::from(u32::MAX))?;
            Ok((step, epoch.map_or(reports.epoch, |epoch| epoch as u32)))
        };
        let event = match kind.as_str() {
            "started" => {
                let resumed_step = whole(map, "resumed_step", MAX_STEP)?.unwrap_or(0);
                let total_steps = whole(map, "total_steps", MAX_STEP)?.unwrap_or(0);
                self.go_on(resumed_step);
                EventKind::Started {
                    host: crate::rundir::host::name(),
                    pid: 0,
                    device: String::new(),
                    program: String::new(),
                    resumed_step,
                    total_steps,
                }
            }
            "step" => {
                let step = whole(map, "step", MAX_STEP)?.ok_or("no `step`")?;
                let (_, epoch) = at(self)?;
                let event = EventKind::Step {
                    step,
                    epoch,
                    loss: float("loss")?,
                    lr: float("lr")?,
                    grad_norm: float("grad_norm")?,
                    images_per_second: either("images_per_second", "samples_per_second")?,
                };
                (self.step, self.epoch) = (step, epoch);
                event
            }
            "epoch" => {
                let epoch = whole(map, "epoch", u64::from(u32::MAX))?.ok_or("no `epoch`")? as u32;
                let (step, _) = at(self)?;
                let event = EventKind::Epoch {
                    epoch,
                    step,
                    train_loss: either("train_loss", "loss")?,
                    lr: float("lr")?,
                    seconds: float("seconds")?,
                };
                (self.step, self.epoch) = (step, epoch);
                event
            }
            "evaluated" => self.evaluated(map, at(self)?)?,
            "checkpointed" => EventKind::Checkpointed {
                step: at(self)?.0,
                file: text("file"),
            },
            "warning" => EventKind::Warning {
                message: text("message"),
            },
            "failed" => {
                let name = text("class");
                let class = FailureClass::ALL
                    .into_iter()
                    .find(|class| class.name() == name)
                    .ok_or(format!("unknown failure class `{}`", shown(&name)))?;
                self.failed = true;
                EventKind::Failed {
                    class,
                    message: text("message"),
                }
            }
            // Measured by us, and known by the exit.
            _ => return Ok(None),
        };
        Ok(Some(event))
    }

    fn evaluated(
        &mut self,
        map: &Map<String, Value>,
        (step, epoch): (u64, u32),
    ) -> Result<EventKind, String> {
        let metrics = map
            .get("metrics")
            .and_then(Value::as_object)
            .ok_or("no map `metrics`")?;
        let set = match map.get("set") {
            None => DEFAULT_SET,
            Some(set) => set
                .as_str()
                .filter(|set| is_metric_name(set))
                .ok_or("`set` is no short plain name")?,
        };
        let resolution = whole(map, "resolution", 1 << 20)?.unwrap_or(0) as u32;
        let last = match map.get("last") {
            None => false,
            Some(last) => last.as_bool().ok_or("`last` is not true or false")?,
        };
        if metrics.is_empty() || metrics.len() > MAX_METRICS {
            return Err(format!("`metrics` has {} entries", metrics.len()));
        }
        let mut values = BTreeMap::new();
        for (name, value) in metrics {
            let value = number(value).ok_or(format!("metric `{}` is no number", shown(name)))?;
            if !is_metric_name(name) {
                return Err(format!("`{}` is no name for a metric", shown(name)));
            }
            values.insert(name.clone(), value);
        }
        for (name, &value) in &values {
            self.measure(set, resolution, name, value, (step, epoch, last));
        }
        (self.step, self.epoch) = (step, epoch);
        Ok(EventKind::Evaluated {
            epoch,
            step,
            set: set.to_owned(),
            resolution,
            metrics: values,
            last,
        })
    }

    fn measure(
        &mut self,
        set: &str,
        resolution: u32,
        metric: &str,
        value: f64,
        (step, epoch, last): (u64, u32, bool),
    ) {
        let measure = Measure {
            set: set.to_owned(),
            resolution,
            metric: metric.to_owned(),
        };
        if self.metrics.len() < MAX_METRICS || self.metrics.contains_key(&measure) {
            let measured = Measured {
                value,
                step,
                epoch,
                last,
            };
            self.metrics.insert(measure, measured);
        }
    }
}

/// Largest step: what the store's integers hold, and floats hold exactly.
const MAX_STEP: u64 = 1 << 53;

/// A whole number from 0 to `max`.
fn whole(map: &Map<String, Value>, key: &str, max: u64) -> Result<Option<u64>, String> {
    let value = match map.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let number = value
        .as_u64()
        .or_else(|| {
            let number = value.as_f64()?;
            (number >= 0.0 && number.fract() == 0.0 && number <= max as f64)
                .then_some(number as u64)
        })
        .filter(|&number| number <= max);
    number
        .map(Some)
        .ok_or_else(|| format!("`{key}` is no whole number from 0 to {max}"))
}

/// A number, or one of the words that stand for those that JSON can't hold.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "nan" => Some(f64::NAN),
            "inf" | "infinity" | "+inf" => Some(f64::INFINITY),
            "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// JSON, and the words that Python and JavaScript write for numbers that aren't finite.
fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 (byte {})", error.valid_up_to()))?;
    serde_json::from_str(text).or_else(|error| {
        let quoted = quote_words(text);
        match serde_json::from_str(&quoted) {
            Ok(value) if quoted != text => Ok(value),
            _ => Err(format!("not JSON: {error}")),
        }
    })
}

/// `NaN`, `Infinity` and `-Infinity` outside strings, with quotes around them.
fn quote_words(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let (mut rest, mut in_string, mut escaped) = (text, false, false);
    while let Some(c) = rest.chars().next() {
        if !in_string
            && let Some(word) = ["NaN", "-Infinity", "Infinity"]
                .into_iter()
                .find(|word| rest.starts_with(word))
        {
            quoted.push('"');
            quoted.push_str(word);
            quoted.push('"');
            rest = &rest[word.len()..];
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        quoted.push(c);
        rest = &rest[c.len_utf8()..];
    }
    quoted
}

/// A word of the program in a message.
fn shown(word: &str) -> String {
    let short: String = word
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(60)
        .collect();
    if short.len() < word.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests;
