//! `ablate devices`: what is there to train on, and who uses it.

use super::exit::Exit;
use super::planning::say;
use super::size;
use crate::report::text::clean;
use crate::schedule::device::cpu::Cpu;
use crate::schedule::device::gpus::{self, Driver, Found, Gpu, GpuState, Gpus, gib};
use crate::schedule::device::lease::describe;
use crate::schedule::device::{self, DeviceChoice, DeviceError, Machine, Slot, SlotRequest};
use crate::schedule::progress::hub::Reach;
use crate::schedule::progress::news::Request;
use crate::store::Owner;
use crate::train::device::cuda_device_count;
use serde::Serialize;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Show GPUs, cores and memory, who uses them, and the slots that `ablate run` would have; start nothing
///
/// GPUs are what the NVIDIA driver tells of (no CUDA is needed for that). Those that CUDA_VISIBLE_DEVICES
/// hides are marked.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {
    /// How many slots each GPU would have
    #[arg(long, value_name = "N")]
    pub slots_per_gpu: Option<NonZeroUsize>,
    /// Memory of a GPU that a worker would take, such as 10GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub gpu_memory: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Check the health of each GPU, and let the `ablate run` at work on the store use those again that it
    /// had lost and that are well
    #[arg(long)]
    pub check: bool,
    /// Folder of the store, for --check
    #[arg(
        long,
        value_name = "DIR",
        env = "ABLATE_STORE",
        default_value = "ablate-store"
    )]
    pub store: PathBuf,
}

/// All that is shown.
#[derive(Serialize)]
struct Answer<'a> {
    cpu: &'a Cpu,
    driver: Option<Driver>,
    /// Why there is no driver.
    no_driver: Option<&'a str>,
    gpus: Vec<Shown<'a>>,
    slots: Vec<ShownSlot<'a>>,
    warnings: &'a [String],
}

/// A GPU.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    gpu: &'a Gpu,
    /// What `ablate run` calls it; nothing where it may not be used.
    slot: Option<String>,
    state: Option<GpuState>,
    /// Why it doesn't tell its state.
    error: Option<String>,
    /// What a health check says, where one was asked for.
    health: Option<String>,
}

/// A slot.
#[derive(Serialize)]
struct ShownSlot<'a> {
    name: &'a str,
    threads: usize,
    cores: &'a [usize],
    gpu: Option<&'a str>,
}

/// Runs the command.
pub fn run(args: &DevicesArgs) -> Exit {
    let found = match gpus::find() {
        Ok(found) => found,
        Err(error) => {
            say(format_args!("error: {error}"));
            return Exit::Usage;
        }
    };
    let machine = Machine::discover(&found, cuda_device_count);
    let request = SlotRequest {
        device: DeviceChoice::Auto,
        slots_per_gpu: args.slots_per_gpu,
        gpu_memory: args.gpu_memory,
        cpu_only: cfg!(not(feature = "cuda")),
        ..SlotRequest::default()
    };
    let slots = device::slots(&machine, &request);
    let answer = answer(args, &found, &machine, &slots);
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &answer)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&answer, &mut out)
    };
    if !args.json {
        machine
            .warnings
            .iter()
            .for_each(|warning| say(format_args!("warning: {warning}")));
    }
    match (written, &slots) {
        // A closed pipe has read what it wanted.
        (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(format_args!("error: can't write the answer: {error}"));
            Exit::Store
        }
        (_, Err(error)) => {
            say(format_args!("error: {error}"));
            Exit::Usage
        }
        _ if args.check => check(args, &answer),
        _ => Exit::Done,
    }
}

fn answer<'a>(
    args: &DevicesArgs,
    found: &'a Found,
    machine: &'a Machine,
    slots: &'a Result<Vec<Slot>, DeviceError>,
) -> Answer<'a> {
    let source = found.source();
    Answer {
        cpu: &machine.cpu,
        driver: source.map(|_| machine.driver.clone()),
        no_driver: match found {
            Found::Nothing(why) => Some(why),
            Found::Gpus(_) => None,
        },
        gpus: shown(args, source.map(|source| &**source), machine),
        slots: slots
            .iter()
            .flatten()
            .map(|slot| ShownSlot {
                name: &slot.name,
                threads: slot.threads,
                cores: &slot.cores,
                gpu: slot.visible_gpu.as_deref(),
            })
            .collect(),
        warnings: &machine.warnings,
    }
}

fn shown<'a>(
    args: &DevicesArgs,
    source: Option<&dyn Gpus>,
    machine: &'a Machine,
) -> Vec<Shown<'a>> {
    machine
        .all_gpus
        .iter()
        .map(|gpu| {
            let asked = source.map(|source| source.state(&gpu.uuid));
            let place = machine.gpus.iter().position(|own| own.uuid == gpu.uuid);
            let (state, error) = match asked {
                Some(Ok(state)) => (Some(state), None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, None),
            };
            let health = source.filter(|_| args.check && !gpu.divided).map(|source| {
                match source.check(&gpu.uuid) {
                    Ok(()) => "well".to_owned(),
                    Err(error) => error.to_string(),
                }
            });
            Shown {
                gpu,
                slot: place.map(|place| format!("cuda:{place}")),
                state,
                error,
                health,
            }
        })
        .collect()
}

fn print(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    let cpu = answer.cpu;
    let model = match cpu.name.is_empty() {
        true => "unknown model",
        false => &cpu.name,
    };
    let quota = match cpu.has_quota() {
        true => format!(" (of which {} at once)", cpu.parallelism),
        false => String::new(),
    };
    let cores = cpu.cores.len();
    writeln!(
        out,
        "cpu      {}: {cores} cores{quota}, {} of memory",
        clean(model),
        gib(cpu.memory)
    )?;
    match (&answer.driver, answer.no_driver) {
        (Some(driver), _) => {
            let cuda = driver
                .cuda
                .as_ref()
                .map_or(String::new(), |cuda| format!(", CUDA {}", clean(cuda)));
            writeln!(out, "driver   {}{cuda}", clean(&driver.version))?;
        }
        (None, Some(why)) => writeln!(out, "gpus     none: {}", clean(why))?,
        (None, None) => {}
    }
    for shown in &answer.gpus {
        print_gpu(shown, out)?;
    }
    for (index, slot) in answer.slots.iter().enumerate() {
        let cores: Vec<String> = slot.cores.iter().map(usize::to_string).collect();
        let bound = match &cores[..] {
            [] => String::new(),
            cores => format!(", bound to core {}", cores.join(", ")),
        };
        let gpu = slot
            .gpu
            .map_or(String::new(), |gpu| format!(", {}", clean(gpu)));
        writeln!(
            out,
            "slot {index}: {}, {} thread(s){bound}{gpu}",
            slot.name, slot.threads
        )?;
    }
    if cfg!(not(feature = "cuda")) && !answer.gpus.is_empty() {
        say(
            "this program was built without the feature `cuda`: the built-in trainer can't use these GPUs",
        );
    }
    Ok(())
}

fn print_gpu(shown: &Shown, out: &mut dyn Write) -> io::Result<()> {
    let gpu = shown.gpu;
    let part = match &gpu.parent {
        Some(parent) => format!(", a part of {}", clean(parent)),
        None => String::new(),
    };
    let pci = gpu
        .pci
        .as_ref()
        .filter(|_| gpu.parent.is_none())
        .map_or(String::new(), |pci| format!(", {}", clean(pci)));
    let hidden = match (&shown.slot, gpu.divided) {
        (None, true) => "; divided into instances".to_owned(),
        (None, false) => "; hidden by CUDA_VISIBLE_DEVICES".to_owned(),
        (Some(slot), _) => format!("; {slot}"),
    };
    writeln!(
        out,
        "gpu {}    {} {}{part}{pci}{hidden}",
        gpu.index,
        clean(&gpu.name),
        clean(&gpu.uuid),
    )?;
    match (&shown.state, &shown.error) {
        (Some(state), _) => {
            let users: Vec<String> = state.processes.iter().map(describe).collect();
            let users = match users.is_empty() {
                true => "nobody uses it".to_owned(),
                false => format!("used by {}", users.join(", ")),
            };
            writeln!(
                out,
                "         {} of {} free; {}",
                gib(state.free),
                gib(gpu.memory),
                clean(&users)
            )?;
        }
        (None, Some(error)) => writeln!(out, "         {}", clean(error))?,
        (None, None) => {}
    }
    if let Some(health) = &shown.health {
        writeln!(out, "         health: {}", clean(health))?;
    }
    Ok(())
}

/// Tells the schedulers of the store to look at what they have lost; says what is unwell.
fn check(args: &DevicesArgs, answer: &Answer) -> Exit {
    for owner in Owner::at_work(&args.store) {
        match ask(&args.store, &owner.id) {
            Ok(()) => say(format_args!(
                "pid {} looks at the GPUs that it had lost, and uses those again that are well",
                owner.pid
            )),
            Err(error) => say(format_args!(
                "warning: pid {} on host {} can't be told: {error}",
                owner.pid, owner.host
            )),
        }
    }
    let unwell = |shown: &&Shown| shown.health.as_ref().is_some_and(|health| health != "well");
    match answer.gpus.iter().any(|shown| unwell(&shown)) {
        true => Exit::Failed,
        false => Exit::Done,
    }
}

fn ask(store: &Path, id: &str) -> io::Result<()> {
    let reach = Reach::of(store)?;
    let mut stream = UnixStream::connect(reach.address(id))?;
    let mut line = serde_json::to_string(&Request::CheckDevices).map_err(io::Error::from)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}
