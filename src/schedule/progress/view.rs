//! Progress on stderr: bars on a terminal, lines elsewhere.
//!
//! Nothing here can make a run fail: what can't be written is lost.

use super::news::{Began, Ended, News};
use super::text::{LABEL_WIDTH, MESSAGE_WIDTH, sanitise};
use crate::rundir::event::{Event, EventKind};
use crate::schedule::clock::Stopwatch;
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
pub struct View {
    style: Style,
    labels: Vec<String>,
    slots: Vec<SlotView>,
    whole: ProgressBar,
    bars: MultiProgress,
    eta: Eta,
    began: Stopwatch,
    /// Time at work before this view began.
    before: Duration,
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
    since: Stopwatch,
    result: Option<String>,
}

/// Rate limit of lines.
struct Lines {
    second: Instant,
    in_second: u32,
    left_out: usize,
    last: Instant,
}

impl View {
    /// Of an execution that `began`, up to where it has come since.
    pub fn new(style: Style, began: Began) -> View {
        let now = Instant::now();
        let bars = MultiProgress::new();
        let whole = if style == Style::Bars {
            let bar = bars.add(ProgressBar::new(began.labels.len() as u64));
            bar.set_style(style_of("{bar:24.green} {pos}/{len} stages  {wide_msg}"));
            bar.set_position(began.done as u64);
            bar
        } else {
            ProgressBar::hidden()
        };
        let mut view = View {
            style,
            eta: Eta::new(began.flops, |stage| {
                began.open.get(stage).copied().unwrap_or(false)
            }),
            total: began.labels.len(),
            labels: began
                .labels
                .into_iter()
                .map(|label| sanitise(&label, LABEL_WIDTH))
                .collect(),
            slots: began
                .slots
                .into_iter()
                .map(|name| SlotView {
                    name: sanitise(&name, LABEL_WIDTH),
                    stage: None,
                    bar: None,
                    steps: 0,
                    since: Stopwatch::start(),
                    result: None,
                })
                .collect(),
            whole,
            bars,
            began: Stopwatch::start(),
            before: Duration::try_from_secs_f64(began.seconds).unwrap_or_default(),
            done: began.done,
            failed: 0,
            blocked: 0,
            lines: Lines {
                second: now,
                in_second: 0,
                left_out: 0,
                last: now,
            },
        };
        for (stage, end) in began.ended {
            view.count(stage, &end);
        }
        view.show_whole();
        view
    }

    /// Shows what has happened. News of stages or slots that there are not is no news.
    pub fn apply(&mut self, news: News) {
        let known =
            |stage: usize, slot: usize| stage < self.labels.len() && slot < self.slots.len();
        match news {
            News::Started { slot, stage } if known(stage, slot) => self.started(slot, stage),
            News::Heard { slot, stage, event } if known(stage, slot) => {
                self.heard(slot, stage, &event);
            }
            News::Left { slot } if known(0, slot) => self.left(slot),
            News::Ended { stage, end, log } if known(stage, 0) => {
                self.ended(stage, &end, log.as_deref());
            }
            News::Said { text } => self.note(&text),
            News::Tick => self.tick(),
            _ => {}
        }
    }

    /// What a stage is called.
    pub fn label(&self, stage: usize) -> &str {
        &self.labels[stage]
    }

    /// A worker was started.
    pub fn started(&mut self, slot: usize, stage: usize) {
        let label = &self.labels[stage];
        let view = &mut self.slots[slot];
        view.stage = Some(stage);
        view.steps = 0;
        view.since = Stopwatch::start();
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
    pub fn ended(&mut self, stage: usize, end: &Ended, log: Option<&str>) {
        let label = self.labels[stage].clone();
        self.count(stage, end);
        match end {
            Ended::Done => {
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
            Ended::Failed { class, message } if self.style != Style::Quiet => {
                let log = log.map_or(String::new(), |log| format!("; log: {log}"));
                let message = sanitise(message, MESSAGE_WIDTH);
                self.say(&format!("failed {label}: {}: {message}{log}", class.name()));
            }
            _ => {}
        }
        self.show_whole();
    }

    fn count(&mut self, stage: usize, end: &Ended) {
        match end {
            Ended::Done => {
                self.done += 1;
                self.eta.finished(stage);
                return;
            }
            Ended::Failed { .. } => self.failed += 1,
            Ended::Blocked => self.blocked += 1,
            Ended::Left => {}
            Ended::Again => {
                self.done = self.done.saturating_sub(1);
                self.eta.reopened(stage);
                return;
            }
        }
        self.eta.dropped(stage);
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
        if let Some(time) = self.eta.estimate(self.before + self.began.elapsed()) {
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

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants of this file, and a test parses them")
        .progress_chars("━╸─")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut view = View::new(
            Style::Lines,
            Began {
                labels: (0..100).map(|stage| format!("stage {stage}")).collect(),
                flops: vec![1.0; 100],
                open: vec![true; 100],
                slots: vec!["cpu:0".to_owned()],
                ..Began::default()
            },
        );
        for stage in 0..100 {
            view.started(0, stage);
            view.ended(stage, &Ended::Done, None);
        }
        assert!(view.lines.left_out >= 100, "{}", view.lines.left_out);
        view.finish();
        assert_eq!(view.lines.left_out, 0);
        assert_eq!(view.done, 100);
    }
}
