//! Why a stage isn't running: what [`Core::handle`] decides, told without deciding anything.

use super::model::{Closing, Reason};
use super::{Canary, Core, Phase, State};

impl Reason {
    /// The name in the answers of `ablate why`.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::Runs => "runs",
            Reason::Ended => "ended",
            Reason::Elsewhere => "elsewhere",
            Reason::Parent { .. } => "parent",
            Reason::Pause { .. } => "pause",
            Reason::Closed(Closing::MaxFail(_)) => "max_fail",
            Reason::Closed(Closing::Budget) => "budget",
            Reason::Closed(Closing::Canary { .. }) => "canary_failed",
            Reason::Stopping => "stopping",
            Reason::OnHold => "disk",
            Reason::NoDevice => "no_device",
            Reason::TooFewDevices { .. } => "too_few_devices",
            Reason::Canary { .. } => "canary",
            Reason::Held { .. } => "device_in_use",
            Reason::Slots { .. } => "slots",
            Reason::Lowered { .. } => "lowered",
            Reason::Memory { .. } => "memory",
            Reason::Behind { .. } => "behind",
            Reason::Turn => "turn",
        }
    }
}

impl Core {
    /// Why the stage isn't running. Once all messages are dealt with a stage that is ready has an obstacle,
    /// for [`Core::handle`] would have started it.
    pub fn why(&self, stage: usize) -> Reason {
        match &self.states[stage] {
            State::Ended(_) => return Reason::Ended,
            State::Running { .. } => return Reason::Runs,
            State::Elsewhere => return Reason::Elsewhere,
            State::Waiting | State::Pausing | State::Ready => {}
        }
        match (self.phase, self.closed) {
            (Phase::New | Phase::Open, _) => {}
            (Phase::Closing, Some(cause)) | (_, Some(cause @ Closing::Budget)) => {
                return Reason::Closed(cause);
            }
            _ => return Reason::Stopping,
        }
        match (&self.states[stage], self.parents[stage]) {
            (State::Waiting, Some(parent)) => Reason::Parent { stage: parent },
            (State::Pausing, _) => Reason::Pause {
                retry: self.retries[stage],
            },
            _ => self.why_ready(stage),
        }
    }

    /// Stages that are ready and come before this one.
    pub fn ahead(&self, stage: usize) -> usize {
        self.in_line()
            .filter(|&other| self.queue.is_before(other, stage))
            .count()
    }

    fn why_ready(&self, stage: usize) -> Reason {
        let left = self.devices_left();
        if self.phase == Phase::New {
            return Reason::Turn;
        }
        if self.on_hold {
            return Reason::OnHold;
        }
        if left == 0 {
            return Reason::NoDevice;
        }
        if self.width(stage) > left {
            return Reason::TooFewDevices {
                wants: self.width(stage),
                left,
            };
        }
        let first = match self.canary {
            Canary::Chosen(canary) if canary != stage => return Reason::Canary { stage: canary },
            Canary::Chosen(_) => stage,
            // One is chosen when nothing runs any more.
            Canary::Wanted => match self.running_stages().first() {
                Some(&running) => return Reason::Canary { stage: running },
                None => stage,
            },
            Canary::Off => self.first_in_line().unwrap_or(stage),
        };
        match self.obstacle(first) {
            because if first == stage => because,
            // What keeps the first from starting, where it would keep this one, too.
            Reason::Slots { free: 0, .. } => Reason::Slots {
                wants: self.width(stage),
                free: 0,
            },
            because @ Reason::Lowered { .. } => because,
            because => Reason::Behind {
                stage: first,
                because: Box::new(because),
            },
        }
    }

    fn in_line(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.states.len())
            .filter(|&stage| self.states[stage] == State::Ready && !self.parked.contains(&stage))
    }

    fn first_in_line(&self) -> Option<usize> {
        self.in_line().reduce(|first, stage| {
            if self.queue.is_before(stage, first) {
                stage
            } else {
                first
            }
        })
    }
}
