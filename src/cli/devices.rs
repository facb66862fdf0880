//! `ablate devices`: what `ablate run` would train on.

use super::exit::Exit;
use super::planning::say;
use crate::schedule::device::{self, DeviceChoice, Machine, SlotRequest};
use crate::train::device::cuda_device_count;
use std::io::Write;

/// Show the slots that `ablate run` would use by default; start nothing
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {}

/// Runs the command.
pub fn run(_: &DevicesArgs) -> Exit {
    let machine = Machine::discover(cuda_device_count());
    let request = SlotRequest {
        device: DeviceChoice::Auto,
        slots: None,
        threads_per_slot: None,
    };
    match device::slots(&machine, &request) {
        Ok(slots) => {
            let mut out = std::io::stdout().lock();
            for (index, slot) in slots.iter().enumerate() {
                // A closed pipe has read what it wanted.
                let cores: Vec<String> = slot.cores.iter().map(usize::to_string).collect();
                let bound = match &cores[..] {
                    [] => String::new(),
                    cores => format!(", bound to core {}", cores.join(", ")),
                };
                let threads = slot.threads;
                let _ = writeln!(
                    out,
                    "slot {index}: {}, {threads} thread(s){bound}",
                    slot.name
                );
            }
            if cfg!(not(feature = "cuda")) {
                say("this program was built without the feature `cuda`: GPUs are not looked for");
            }
            Exit::Done
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::Usage
        }
    }
}
