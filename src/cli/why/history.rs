//! The attempts that failed, and why each was followed by another.

use super::reason::{Facts, class_of};
use crate::cli::lookup::duration;
use crate::rundir::event::FailureClass;
use crate::schedule::policy::{LONGEST_PAUSE, policy};
use crate::store::rows::{AttemptRow, Status};

impl Facts {
    /// The attempts that failed, each with what followed. `told`: the last one is told already.
    pub(super) fn history(&self, told: bool) -> Vec<String> {
        let last = self.attempts.last().map_or(0, |last| last.attempt);
        self.attempts
            .iter()
            .enumerate()
            .filter(|(_, attempt)| attempt.status == Status::Failed)
            .filter(|(_, attempt)| !told || attempt.attempt != last)
            .map(|(at, attempt)| {
                let next = self.attempts.get(at + 1);
                format!(
                    "attempt {} on {} of {}: {}: {}{}",
                    attempt.attempt,
                    attempt.device,
                    attempt.host,
                    attempt.failure.as_deref().unwrap_or("failed"),
                    attempt.message.as_deref().unwrap_or("no cause is known"),
                    next.map_or(String::new(), |next| self.followed(attempt, next))
                )
            })
            .collect()
    }

    /// Why `attempt` was followed by `next`: every `ablate run` saves its plan before it does anything, so one
    /// without a plan in between was made by a run that was at work already.
    fn followed(&self, attempt: &AttemptRow, next: &AttemptRow) -> String {
        let ended = attempt.ended.unwrap_or(attempt.started);
        let mut plans = self.plans.iter();
        let between = plans.rfind(|plan| plan.saved > ended && plan.saved <= next.started);
        let class = class_of(attempt);
        let after = next.started - ended;
        let flag = "--retry-failed";
        if let Some(plan) = between {
            let words = plan.command_line.split_whitespace();
            let may_be_a_retry = class.is_some_and(|class| policy(class).retries > 0)
                && after <= LONGEST_PAUSE.as_secs_f64() + 1.0;
            return match words.into_iter().any(|word| word == flag) {
                true => format!("; tried again by a later `ablate run {flag}`"),
                // By that one, or by the one that was at it.
                false if may_be_a_retry => format!("; tried again after {}", duration(after)),
                false => "; tried again by a later `ablate run`".to_owned(),
            };
        }
        if class == Some(FailureClass::DeviceLost) && attempt.device != next.device {
            return format!("; moved to {}", next.device);
        }
        match class.map(policy) {
            Some(policy) if policy.transient => format!(
                "; tried again by an `ablate run` that was at work, after {}",
                duration(after)
            ),
            _ => format!("; tried again after {}", duration(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::why::reason::tests::{attempt, facts};
    use crate::rundir::event::FailureClass;
    use crate::store::SavedPlan;
    use crate::store::rows::Status;

    #[test]
    fn what_followed_a_failure_is_told_as_it_was() {
        let mut facts = facts();
        let mut list = Vec::new();
        for (number, class) in [
            (1, FailureClass::Killed),
            (2, FailureClass::Diverged),
            (3, FailureClass::Timeout),
            (4, FailureClass::DeviceLost),
        ] {
            let mut failed = attempt(number, Status::Failed, Some(class));
            failed.started = f64::from(number) * 100.0;
            failed.ended = Some(failed.started + 50.0);
            list.push(failed);
        }
        let mut last = attempt(5, Status::Done, None);
        last.started = 500.0;
        last.device = "cuda:1".to_owned();
        list.push(last);
        facts.attempts = list;
        let plan = |saved, command_line: &str| SavedPlan {
            saved,
            command_line: command_line.to_owned(),
        };
        facts.plans = vec![
            plan(90.0, "ablate run e.yaml"),
            plan(299.0, "ablate run e.yaml --retry-failed"),
            plan(380.0, "ablate run e.yaml"),
        ];
        let history = facts.history(false);
        let ends = [
            "; tried again by an `ablate run` that was at work, after 50 s",
            "; tried again by a later `ablate run --retry-failed`",
            "; tried again by a later `ablate run`",
            "; moved to cuda:1",
        ];
        assert_eq!(history.len(), 4);
        for (line, end) in history.iter().zip(ends) {
            assert!(line.ends_with(end), "{line}");
        }
        assert_eq!(facts.history(true).len(), 4, "the last one is done");
        // The pause before a retry was not over: it may have been either.
        facts.attempts[2].failure = Some("killed".to_owned());
        assert!(facts.history(false)[2].ends_with("; tried again after 50 s"));
    }
}
