//! What the user sees while stages run: here on stderr ([`view`]), and wherever somebody watches from
//! ([`hub`]). Both are told the same ([`news`]).

pub mod hub;
pub mod news;
mod text;
mod view;

pub use text::sanitise;
pub use view::{Style, View};

use crate::rundir::event::Event;
use crate::schedule::core::{End, Failure};
use crate::schedule::eta;
use hub::Hub;
use news::{Because, Began, Ended};
use std::time::Duration;
use text::MESSAGE_WIDTH;

/// Tells of the progress of one execution.
pub struct Progress {
    view: View,
    hub: Hub,
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
        let began = Began {
            open: (0..labels.len()).map(open).collect(),
            labels,
            flops: flops
                .into_iter()
                .map(|flops| if flops.is_finite() { flops } else { 0.0 })
                .collect(),
            done,
            slots: slots.into_iter().collect(),
            ..Began::default()
        };
        Progress {
            hub: Hub::new(began.clone()),
            view: View::new(style, began),
        }
    }

    /// What others who watch are told.
    pub fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// A worker was started.
    pub fn started(&mut self, slot: usize, stage: usize) {
        self.view.started(slot, stage);
        self.hub.started(slot, stage);
    }

    /// The worker said something.
    pub fn heard(&mut self, slot: usize, stage: usize, event: &Event) {
        self.view.heard(slot, stage, event);
        self.hub.heard(slot, stage, event);
    }

    /// The slot is free again.
    pub fn left(&mut self, slot: usize) {
        self.view.left(slot);
        self.hub.left(slot);
    }

    /// A stage has ended; `log` is where more can be read.
    pub fn ended(&mut self, stage: usize, end: &End, log: Option<&str>) {
        let end = Ended::from(end);
        self.view.ended(stage, &end, log);
        self.hub.ended(stage, &end, log);
    }

    /// A stage will be tried again.
    pub fn retrying(&mut self, stage: usize, failure: &Failure, after: Duration) {
        let text = format!(
            "again  {} in {}: {}: {}",
            self.view.label(stage),
            eta::show(after),
            failure.class.name(),
            sanitise(&failure.message, MESSAGE_WIDTH)
        );
        self.note(&text);
    }

    /// A stage that was done is to be done again, for `what` it has left.
    pub fn renewed(&mut self, stage: usize, what: &str) {
        let text = format!(
            "renew  {}: {}",
            self.view.label(stage),
            sanitise(what, MESSAGE_WIDTH)
        );
        self.note(&text);
        self.view.ended(stage, &Ended::Again, None);
        self.hub.ended(stage, &Ended::Again, None);
    }

    /// Something that concerns no single stage.
    pub fn note(&mut self, text: &str) {
        self.view.note(text);
        self.hub.said(text);
    }

    /// Tells whoever has asked why stages are as they are.
    pub fn why(&mut self, stages: Vec<Because>) {
        self.hub.why(stages);
    }

    /// Called now and then while workers run.
    pub fn tick(&mut self) {
        self.view.tick();
        self.hub.tick();
    }

    /// Takes the bars away.
    pub fn finish(&mut self) {
        self.view.finish();
    }
}
