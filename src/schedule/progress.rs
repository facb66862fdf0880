//! What the user sees while stages run, on stderr: bars on a terminal, lines elsewhere.
//!
//! Nothing here can make a run fail: what can't be written is lost.

use crate::rundir::event::{Event, EventKind};
use crate::schedule::core::{End, Failure};
use crate::schedule::eta::{self, Eta};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// One bar a worker and one for the whole.
    Bars,
    /// A line for each start and end.
    Lines,
    /// Nothing; the summary at the end lists what failed.
    Quiet,
}

impl Style {
    /// Quiet if asked for; bars where stderr is a terminal that can draw them.
    pub fn choose(quiet: bool) -> Style {
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        match quiet {
            true => Style::Quiet,
            false if std::io::stderr().is_terminal() && !dumb => Style::Bars,
            false => Style::Lines,
        }
    }
}

/// Lines a second that may tell of starts and ends; failures are always told.
const LINES_PER_SECOND: u32 = 20;

/// How often lines tell of the whole when nothing else is to be told.
const STATUS_EVERY: Duration = Duration::from_secs(30);

/// Shows the progress of one execution.
pub struct Progress {
    style: Style,
    labels: Vec<String>,
    slots: Vec<SlotView>,
    whole: ProgressBar,
    bars: MultiProgress,
    eta: Eta,
    began: Instant,
    total: usize,
    done: usize,
    failed: usize,
    blocked: usize,
    lines: Lines,
}

/// What is shown of a slot.
struct SlotView {
    name: String,
    /// The stage that runs or ran last in it.
    stage: Option<usize>,
    bar: Option<ProgressBar>,
    steps: u64,
    since: Instant,
    result: Option<String>,
}

/// Rate limit of lines.
struct Lines {
    second: Instant,
    in_second: u32,
    left_out: usize,
    last: Instant,
}

impl Progress {
    /// Of stages called `labels`, of which those that aren't `open` are done or given up already.
    pub fn new(
        style: Style,
        labels: Vec<String>,
        flops: impl IntoIterator<Item = f64>,
        open: impl Fn(usize) -> bool,
        done: usize,
        slots: impl IntoIterator<Item = String>,
    ) -> Progress {
        let now = Instant::now();
        let bars = MultiProgress::new();
        let whole = if style == Style::Bars {
            let bar = bars.add(ProgressBar::new(labels.len() as u64));
            bar.set_style(style_of("{bar:24.green} {pos}/{len} stages  {wide_msg}"));
            bar.set_position(done as u64);
            bar
        } else {
            ProgressBar::hidden()
        };
        let total = labels.len();
        Progress {
            style,
            eta: Eta::new(flops, open),
            labels: labels
                .into_iter()
                .map(|label| sanitise(&label, LABEL_WIDTH))
                .collect(),
            slots: slots
                .into_iter()
                .map(|name| SlotView {
                    name,
                    stage: None,
                    bar: None,
                    steps: 0,
                    since: now,
                    result: None,
                })
                .collect(),
            whole,
            bars,
            began: now,
            total,
            done,
            failed: 0,
            blocked: 0,
            lines: Lines {
                second: now,
                in_second: 0,
                left_out: 0,
                last: now,
            },
        }
    }

    /// A worker was started.
    pub fn started(&mut self, slot: usize, stage: usize) {
        let label = &self.labels[stage];
        let view = &mut self.slots[slot];
        view.stage = Some(stage);
        view.steps = 0;
        view.since = Instant::now();
        view.result = None;
        match self.style {
            Style::Bars => {
                let bar = self.bars.insert_before(&self.whole, ProgressBar::new(0));
                bar.set_style(style_of("{prefix:36!} {bar:20.cyan} {wide_msg}"));
                bar.set_prefix(label.clone());
                bar.set_message("starting");
                view.bar = Some(bar);
            }
            Style::Lines => {
                let line = format!("start  {label} on {}", view.name);
                self.say_limited(&line);
            }
            Style::Quiet => {}
        }
    }

    /// The worker said something.
    pub fn heard(&mut self, slot: usize, stage: usize, event: &Event) {
        let view = &mut self.slots[slot];
        let mut message = None;
        match &event.kind {
            EventKind::Started {
                resumed_step,
                total_steps,
                ..
            } => {
                view.steps = *total_steps;
                self.eta.resumed(stage, *resumed_step, *total_steps);
                if let Some(bar) = &view.bar {
                    bar.set_length(*total_steps);
                    bar.set_position(*resumed_step);
                }
            }
            EventKind::Step {
                step,
                epoch,
                loss,
                images_per_second,
                ..
            } => {
                self.eta.reached(stage, *step, view.steps);
                let mut text = format!("epoch {}", epoch + 1);
                // A program of the user's own may not say.
                if !loss.is_nan() {
                    text += &format!("  loss {loss:.4}");
                }
                if !images_per_second.is_nan() {
                    text += &format!("  {images_per_second:.0} img/s");
                }
                message = Some(text);
                if let Some(bar) = &view.bar {
                    bar.set_position(*step);
                }
            }
            EventKind::Epoch { step, .. } => {
                self.eta.reached(stage, *step, view.steps);
                if let Some(bar) = &view.bar {
                    bar.set_position(*step);
                }
            }
            EventKind::Evaluated {
                epoch,
                set,
                metrics,
                last,
                ..
            } => {
                if let Some((name, value)) = metrics
                    .get_key_value("top1")
                    .or_else(|| metrics.iter().next())
                {
                    let result = sanitise(&format!("{set} {name} {value:.2}"), LABEL_WIDTH);
                    message = Some(format!("epoch {}  {result}", epoch + 1));
                    if *last {
                        view.result = Some(result);
                    }
                }
            }
            EventKind::Warning { message } => {
                let line = format!(
                    "warning  {}: {}",
                    self.labels[stage],
                    sanitise(message, MESSAGE_WIDTH)
                );
                if self.style != Style::Quiet {
                    self.say_limited(&line);
                }
            }
            _ => {}
        }
        if let (Some(message), Some(bar)) = (message, &self.slots[slot].bar) {
            bar.set_message(message);
        }
        self.show_whole();
    }

    /// The slot is free again.
    pub fn left(&mut self, slot: usize) {
        if let Some(bar) = self.slots[slot].bar.take() {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }

    /// A stage has ended; `log` is where more can be read.
    pub fn ended(&mut self, stage: usize, end: &End, log: Option<&str>) {
        let label = self.labels[stage].clone();
        match end {
            End::Done => {
                self.done += 1;
                self.eta.finished(stage);
                let view = self.slots.iter().find(|view| view.stage == Some(stage));
                let (time, result) = view.map_or((String::new(), String::new()), |view| {
                    let result = view
                        .result
                        .as_ref()
                        .map_or(String::new(), |result| format!(", {result}"));
                    (format!(" in {}", eta::show(view.since.elapsed())), result)
                });
                if self.style == Style::Lines {
                    let line = format!(
                        "done   {label}{time}{result} ({} of {})",
                        self.done, self.total
                    );
                    self.say_limited(&line);
                }
            }
            End::Failed(failure) => {
                self.failed += 1;
                self.eta.dropped(stage);
                if self.style != Style::Quiet {
                    let log = log.map_or(String::new(), |log| format!("; log: {log}"));
                    self.say(&format!("failed {label}: {}{log}", describe(failure)));
                }
            }
            End::Blocked { .. } => {
                self.blocked += 1;
                self.eta.dropped(stage);
            }
            End::Left => self.eta.dropped(stage),
        }
        self.show_whole();
    }

    /// A stage will be tried again.
    pub fn retrying(&mut self, stage: usize, failure: &Failure, after: Duration) {
        if self.style != Style::Quiet {
            let label = &self.labels[stage];
            self.say(&format!(
                "again  {label} in {}: {}",
                eta::show(after),
                describe(failure)
            ));
        }
    }

    /// Something that concerns no single stage.
    pub fn note(&mut self, text: &str) {
        if self.style != Style::Quiet {
            self.say(text);
        }
    }

    /// Called now and then while workers run: lines tell of the whole when they were silent long.
    pub fn tick(&mut self) {
        if self.style == Style::Lines && self.lines.last.elapsed() >= STATUS_EVERY {
            let line = format!(
                "       {} of {} stages done{}",
                self.done,
                self.total,
                self.rest()
            );
            self.say(&line);
        }
    }

    /// Takes the bars away.
    pub fn finish(&mut self) {
        for slot in 0..self.slots.len() {
            self.left(slot);
        }
        self.whole.finish_and_clear();
        let _ = self.bars.clear();
        if self.lines.left_out > 0 {
            let line = format!(
                "       ({} lines left out)",
                std::mem::take(&mut self.lines.left_out)
            );
            self.say(&line);
        }
    }

    fn show_whole(&mut self) {
        if self.style == Style::Bars {
            self.whole
                .set_position((self.done + self.failed + self.blocked) as u64);
            self.whole
                .set_message(self.rest().trim_start_matches(", ").to_owned());
        }
    }

    /// Failures and the time left.
    fn rest(&self) -> String {
        let mut text = String::new();
        if self.failed > 0 {
            text += &format!(", {} failed", self.failed);
        }
        if self.blocked > 0 {
            text += &format!(", {} blocked", self.blocked);
        }
        if let Some(time) = self.eta.estimate(self.began.elapsed()) {
            text += &format!(", {} left", eta::show(time));
        }
        text
    }

    fn say_limited(&mut self, line: &str) {
        if self.lines.second.elapsed() >= Duration::from_secs(1) {
            self.lines.second = Instant::now();
            self.lines.in_second = 0;
            if self.lines.left_out > 0 {
                let left_out = std::mem::take(&mut self.lines.left_out);
                self.say(&format!("       ({left_out} lines left out)"));
            }
        }
        if self.lines.in_second < LINES_PER_SECOND {
            self.lines.in_second += 1;
            self.say(line);
        } else {
            self.lines.left_out += 1;
        }
    }

    fn say(&mut self, line: &str) {
        self.lines.last = Instant::now();
        if self.style == Style::Bars {
            let _ = self.bars.println(line);
        } else {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

/// A failure on one line.
fn describe(failure: &Failure) -> String {
    format!(
        "{}: {}",
        failure.class.name(),
        sanitise(&failure.message, MESSAGE_WIDTH)
    )
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants of this file, and a test parses them")
        .progress_chars("━╸─")
}

/// Longest label and message on a line, in characters.
const LABEL_WIDTH: usize = 80;
const MESSAGE_WIDTH: usize = 400;

/// `text` on one line of at most `width` characters, without what could steer a terminal: control
/// characters and those that change the direction of text are replaced.
pub fn sanitise(text: &str, width: usize) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut line: String = text.trim().chars().take(width + 1).map(harmless).collect();
    if let Some((cut, _)) = line.char_indices().nth(width) {
        line.truncate(cut);
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_steer_the_terminal() {
        assert_eq!(
            sanitise("a\x1b[2Jb\x07\u{202e}c\u{9b}", 80),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}"
        );
        assert_eq!(sanitise(" a\nb\tc ", 80), "a b c");
        assert_eq!(sanitise("abcdef", 6), "abcdef");
        assert_eq!(sanitise("abcdefg", 6), "abcde…");
        assert_eq!(sanitise(&"é".repeat(1000), 5), "éééé…");
    }

    #[test]
    fn templates_parse() {
        for template in [
            "{bar:24.green} {pos}/{len} stages  {wide_msg}",
            "{prefix:36!} {bar:20.cyan} {wide_msg}",
        ] {
            let _ = style_of(template);
        }
    }

    #[test]
    fn a_flood_of_lines_is_limited() {
        let labels: Vec<String> = (0..100).map(|stage| format!("stage {stage}")).collect();
        let mut progress = Progress::new(
            Style::Lines,
            labels,
            vec![1.0; 100],
            |_| true,
            0,
            ["cpu:0".to_owned()],
        );
        for stage in 0..100 {
            progress.started(0, stage);
            progress.ended(stage, &End::Done, None);
        }
        assert!(
            progress.lines.left_out >= 100,
            "{}",
            progress.lines.left_out
        );
        progress.finish();
        assert_eq!(progress.lines.left_out, 0);
        assert_eq!(progress.done, 100);
    }
}
