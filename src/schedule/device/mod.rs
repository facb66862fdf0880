//! What workers may run on: GPUs, shares of them, or cores of the CPU.
//!
//! | file | owns |
//! | --- | --- |
//! | [`gpus`] | GPUs as a driver shows them: the trait behind which the next two stand |
//! | [`nvml`] | the NVIDIA driver's management library |
//! | [`recording`] | a recording of it, for tests |
//! | [`visible`] | the user's choice: `CUDA_VISIBLE_DEVICES` |
//! | [`control_group`] | limits of the groups that this process is in |
//! | [`cpu`] | cores and memory |
//! | [`slots`] | the places for workers that all this makes |
//! | [`claims`] | what other programs like this one have taken already |
//! | [`memory`] | the host's memory, shared with them |
//! | [`lease`] | the right to run a worker on a GPU |
//! | [`keeper`] | the devices of one execution: leased, in use by others, lost |

pub mod claims;
pub mod control_group;
pub mod cpu;
pub mod gpus;
pub mod keeper;
pub mod lease;
pub mod memory;
pub mod nvml;
pub mod recording;
pub mod slots;
pub mod visible;

/// Bytes of the host's memory that stages may need together: all but a part for everything else.
pub fn memory_for_stages(total: u64) -> u64 {
    /// For the scheduler and the system.
    const RESERVE: u64 = 512 << 20;
    match total {
        // Unknown: nothing can be promised.
        0 => u64::MAX,
        total => total.saturating_sub(RESERVE.min(total / 10)),
    }
}

pub use slots::{DeviceChoice, DeviceError, GpuShare, Machine, Slot, SlotRequest, slots};
