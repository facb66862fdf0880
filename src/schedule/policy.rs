//! What becomes of a failure: one table, one row per class, two for `out_of_memory`.

use crate::rundir::event::{FailureClass, Memory};
use std::time::Duration;

/// The policy of one failure class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How often a stage is tried again within one execution of the plan. A stage that has got further than
    /// ever before, as its checkpoints tell, starts counting anew.
    pub retries: u32,
    /// Retries more where the stage shares its device with others, who may have taken what it lacked.
    pub more_on_shares: u32,
    /// Pause before the first retry; it doubles with every further one.
    pub back_off: Duration,
    /// The circumstances were to blame rather than the stage: `ablate run` tries it again by itself.
    /// Otherwise only `--retry-failed` does.
    pub transient: bool,
    /// The device is not used again in this execution (where another one is left).
    pub closes_device: bool,
    /// One worker fewer shares the memory from here on.
    pub lowers_concurrency: bool,
    /// What the user can do about it.
    pub hint: &'static str,
}

/// Longest pause before a retry.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Policy {
    /// Pause before retry number `retry` (0: the first).
    pub fn pause(&self, retry: u32) -> Duration {
        let factor = 2u32.saturating_pow(retry.min(16));
        self.back_off.saturating_mul(factor).min(LONGEST_PAUSE)
    }
}

/// The policy of a failure of `class` with this message, which tells whose memory was full.
pub fn policy_of(class: FailureClass, message: &str) -> Policy {
    match class.memory(message) {
        Some(Memory::Device) => DEVICE_MEMORY,
        _ => policy(class),
    }
}

/// The memory of a GPU was full. The same step on the same GPU needs as much again, and nothing else can have
/// taken it where the stage has the GPU for itself.
const DEVICE_MEMORY: Policy = Policy {
    retries: 0,
    more_on_shares: 1,
    back_off: Duration::from_secs(2),
    transient: true,
    closes_device: false,
    lowers_concurrency: false,
    hint: "allow execution.out_of_memory: smaller_parts, raise train.accumulation, or let fewer workers share a GPU \
           (--slots-per-gpu, --gpu-memory)",
};

/// The policy of `class`; of `out_of_memory`, where the machine's memory was full.
pub const fn policy(class: FailureClass) -> Policy {
    const NEVER: Policy = Policy {
        retries: 0,
        more_on_shares: 0,
        back_off: Duration::ZERO,
        transient: false,
        closes_device: false,
        lowers_concurrency: false,
        hint: "",
    };
    match class {
        FailureClass::Config => Policy {
            hint: "the configuration can't be trained as it is: change the experiment file",
            ..NEVER
        },
        FailureClass::Data => Policy {
            hint: "check the data set (--data NAME=PATH); then run again with --retry-failed",
            ..NEVER
        },
        FailureClass::OutOfMemory => Policy {
            retries: 1,
            back_off: Duration::from_secs(2),
            transient: true,
            lowers_concurrency: true,
            hint: "use fewer workers (--slots), or raise train.accumulation so that a step's parts are smaller",
            ..NEVER
        },
        FailureClass::Diverged => Policy {
            hint: "the loss is not finite: a lower optimizer.lr, a longer warmup or optimizer.max_grad_norm may help",
            ..NEVER
        },
        FailureClass::DeviceLost => Policy {
            retries: 2,
            back_off: Duration::from_secs(5),
            transient: true,
            closes_device: true,
            hint: "the device stopped answering: see the kernel's log (dmesg), then run again",
            ..NEVER
        },
        FailureClass::Killed => Policy {
            retries: 3,
            back_off: Duration::from_secs(1),
            transient: true,
            hint: "something outside ended the worker; it goes on from its last checkpoint when run again",
            ..NEVER
        },
        // Not in the same execution: every stop on time ends with a checkpoint, so it would never end.
        FailureClass::Timeout => Policy {
            transient: true,
            hint: "the attempt took longer than allowed (--timeout); it goes on from its last checkpoint when run \
                   again",
            ..NEVER
        },
        FailureClass::Hung => Policy {
            retries: 1,
            back_off: Duration::from_secs(5),
            transient: true,
            hint: "the worker stood still: its log ends with where it stood; a stuck device, driver or file system \
                   is the usual cause",
            ..NEVER
        },
        FailureClass::Incomplete => Policy {
            hint: "the program ended with exit code 0 but without what it promised: see its log and the metrics \
                   that the stage declares; then run again with --retry-failed",
            ..NEVER
        },
        FailureClass::DiskFull => Policy {
            retries: 3,
            back_off: Duration::from_secs(5),
            transient: true,
            hint: "free some space, then run again: it goes on from its last checkpoint",
            ..NEVER
        },
        FailureClass::IoError => Policy {
            retries: 1,
            back_off: Duration::from_secs(5),
            transient: true,
            hint: "the disk or the file system failed: see the kernel's log (dmesg), then run again",
            ..NEVER
        },
        FailureClass::Bug => Policy {
            hint: "a fault of the program, as its log shows (`ablate logs`): a command's own, or one to report. \
                   --retry-failed tries again",
            ..NEVER
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_tells_the_user_what_to_do() {
        for class in FailureClass::ALL {
            let policy = policy(class);
            assert_eq!(policy, policy_of(class, "no word of it"));
            assert!(!policy.hint.is_empty(), "{class:?}");
            assert!(
                policy.retries == 0 || policy.transient,
                "{class:?}: only the circumstances are retried"
            );
            assert!(
                policy.retries == 0 || !policy.back_off.is_zero(),
                "{class:?}"
            );
        }
    }

    #[test]
    fn the_message_tells_whose_memory_was_full() {
        let class = FailureClass::OutOfMemory;
        let gpu = policy_of(class, "the memory of cuda:0 is full: 3 GiB were asked for");
        let host = policy_of(class, "the machine's memory is full: ended by the kernel");
        assert_eq!((gpu.retries, gpu.more_on_shares), (0, 1));
        assert_eq!((host.retries, host.more_on_shares), (1, 0));
        assert!(host.lowers_concurrency && !gpu.lowers_concurrency);
        assert_ne!(gpu.hint, host.hint);
        assert_eq!(
            policy_of(FailureClass::Bug, "the memory of cuda:0 is full"),
            policy(FailureClass::Bug)
        );
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let policy = policy(FailureClass::Killed);
        assert_eq!(policy.pause(0), Duration::from_secs(1));
        assert_eq!(policy.pause(2), Duration::from_secs(4));
        assert_eq!(policy.pause(u32::MAX), LONGEST_PAUSE);
    }

    /// `docs/failures.md` shows the table as it is: every row, in this order, and no other.
    #[test]
    fn the_documentation_has_the_same_table() {
        let page = include_str!("../../docs/failures.md");
        let shown: Vec<&str> = page
            .lines()
            .skip_while(|line| !line.starts_with("| class | exit code |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let rows: Vec<String> = FailureClass::ALL
            .into_iter()
            .flat_map(|class| {
                let name = format!("`{}`", class.name());
                let of_gpu = (class == FailureClass::OutOfMemory)
                    .then(|| (class, format!("{name} of a GPU"), DEVICE_MEMORY));
                std::iter::once((class, name, policy(class))).chain(of_gpu)
            })
            .map(|(class, name, policy)| {
                let pause = match policy.back_off.as_secs() {
                    0 => String::new(),
                    seconds => format!("{seconds} s "),
                };
                let again = if policy.transient {
                    "yes"
                } else {
                    "with `--retry-failed`"
                };
                let retries = match policy.more_on_shares {
                    0 => policy.retries.to_string(),
                    more => format!(
                        "{}, on a share of it {}",
                        policy.retries,
                        policy.retries + more
                    ),
                };
                format!(
                    "| {name} | {} | {retries} | {pause}| {again} | {} |",
                    class.exit_code(),
                    policy.hint
                )
            })
            .collect();
        assert_eq!(
            shown,
            rows,
            "docs/failures.md should have\n{}",
            rows.join("\n")
        );
    }
}
