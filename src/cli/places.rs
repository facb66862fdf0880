//! Where `ablate run` may start workers.

use super::exit::Exit;
use super::planning::say;
use super::run::RunArgs;
use crate::plan::model::Plan;
use crate::schedule::device::claims::{Claim, bind_cores};
use crate::schedule::device::gpus::{self, Found, Gpus};
use crate::schedule::device::{self, DeviceChoice, DeviceError, Machine, Slot, SlotRequest};
use std::sync::Arc;

/// Slots, and what belongs to them.
pub struct Places {
    pub slots: Vec<Slot>,
    /// Who is asked about the slots' GPUs; `None` where nobody can be.
    pub gpus: Option<Arc<dyn Gpus>>,
    /// The cores that the slots are bound to are ours as long as this lives.
    _claims: Vec<Claim>,
}

impl Places {
    /// Finds them for `plans`; an exit if there are none as the user or the plans want them. `counted` asks the
    /// CUDA driver how many GPUs it sees; it is called only if nobody knows better.
    pub fn find(
        args: &RunArgs,
        plans: &[Plan],
        counted: impl FnOnce() -> usize,
    ) -> Result<Places, Exit> {
        let needs = Needs::of(plans);
        let cpu_only = needs.trainer && cfg!(not(feature = "cuda"));
        let failed = |error: &dyn std::fmt::Display| {
            say(format_args!("error: {error}"));
            Exit::Usage
        };
        let found = match args.device {
            DeviceChoice::Cpu => Found::Nothing("--device cpu".to_owned()),
            _ => gpus::find().map_err(|error| failed(&error))?,
        };
        let machine = Machine::discover(&found, || match args.device {
            DeviceChoice::Cpu => 0,
            _ => counted(),
        });
        for warning in &machine.warnings {
            say(format_args!("warning: {warning}"));
        }
        let request = SlotRequest {
            device: args.device,
            slots: args.slots,
            threads_per_slot: args.threads_per_slot,
            slots_per_gpu: args.slots_per_gpu,
            gpu_memory: args.gpu_memory,
            cpu_only,
        };
        let mut slots = device::slots(&machine, &request).map_err(|error| failed(&error))?;
        let on_gpus = slots.iter().any(Slot::is_gpu);
        if !on_gpus && !machine.gpus.is_empty() && args.device == DeviceChoice::Auto && !args.quiet
        {
            say(
                "the GPUs of this machine are not used: this program was built without the feature `cuda`",
            );
        }
        if let Some((stage, asked)) = needs.gpus {
            let mut gpus: Vec<&str> = slots
                .iter()
                .filter_map(|slot| slot.visible_gpu.as_deref())
                .collect();
            gpus.sort_unstable();
            gpus.dedup();
            let there = gpus.len();
            if there < asked {
                let error = DeviceError::TooFew {
                    stage,
                    asked,
                    there,
                };
                return Err(failed(&error));
            }
        }
        let claims = bind_cores(&mut slots, &machine.cpu.cores);
        let gpus = match found {
            Found::Gpus(gpus) if on_gpus => Some(gpus),
            _ => None,
        };
        Ok(Places {
            slots,
            gpus,
            _claims: claims,
        })
    }
}

/// What the stages of plans need.
struct Needs {
    /// Whether any is the built-in trainer's.
    trainer: bool,
    /// The program's stage that asks for most GPUs, and how many.
    gpus: Option<(String, usize)>,
}

impl Needs {
    fn of(plans: &[Plan]) -> Needs {
        let mut needs = Needs {
            trainer: false,
            gpus: None,
        };
        for plan in plans {
            for (index, stage) in plan.stages.iter().enumerate() {
                let Some(command) = plan.command(index as u32) else {
                    needs.trainer = true;
                    continue;
                };
                let asked = command.gpus.map_or(0, |gpus| gpus as usize);
                if asked > needs.gpus.as_ref().map_or(0, |(_, most)| *most) {
                    let names = &plan.experiment.stage_names;
                    let name = names.get(stage.name as usize).cloned();
                    needs.gpus = Some((name.unwrap_or_default(), asked));
                }
            }
        }
        needs
    }
}
