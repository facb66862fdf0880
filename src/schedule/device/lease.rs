//! The right to run a worker on a GPU: looked for before every start, since what else runs on it is not
//! ours to decide.

use super::claims::{Claim, Refused, claim};
use super::gpus::{GpuError, GpuProcess, Gpus, gib};
use super::{GpuShare, Slot};
use crate::schedule::process_tree;

/// The shares of GPUs, or of the host's memory, that a worker has; given back on drop.
#[derive(Debug, Default)]
pub struct Lease {
    claims: Vec<Claim>,
}

impl Lease {
    /// Both in one.
    pub fn and(mut self, other: Lease) -> Lease {
        self.claims.extend(other.claims);
        self
    }
}

impl From<Claim> for Lease {
    fn from(claim: Claim) -> Lease {
        Lease {
            claims: vec![claim],
        }
    }
}

/// Why a slot can't be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else is there; it may go.
    Busy(String),
    /// The GPU is gone.
    Lost { uuid: String, what: String },
}

/// Leases `slot`. `groups` are the process groups of our own workers: what they do on the GPU is known.
///
/// A GPU for one worker must be empty: no process computes on it, and hardly any memory is taken (the
/// driver's own, or what a killed process has yet to give back). Where the user said how much memory a
/// worker takes, that much must be free, whoever has the rest. Whoever only draws, as desktops do, is in
/// nobody's way.
pub fn lease(gpus: &dyn Gpus, slot: &Slot, groups: &[u32]) -> Result<Lease, Refusal> {
    let mut claims = Vec::new();
    for share in &slot.gpus {
        let state = gpus.state(&share.uuid).map_err(|error| match error {
            GpuError::Lost(what) => Refusal::Lost {
                uuid: share.uuid.clone(),
                what,
            },
            error => Refusal::Busy(error.to_string()),
        })?;
        claims.extend(claim_share(share, slot.is_share())?);
        let (ours, foreign): (Vec<&GpuProcess>, Vec<&GpuProcess>) = state
            .processes
            .iter()
            .filter(|process| !process.graphics)
            .partition(|process| is_ours(process.pid, groups));
        match share.memory {
            Some(needed) if state.free < needed => {
                return Err(Refusal::Busy(format!(
                    "{} of its memory are free, {} are asked for{}",
                    gib(state.free),
                    gib(needed),
                    by(&foreign)
                )));
            }
            Some(_) => {}
            None => alone(share, state.used, &ours, &foreign, groups.len())?,
        }
    }
    Ok(Lease { claims })
}

/// Most shares of a GPU that are looked for.
const MOST_SHARES: usize = 64;

/// Claims a share of a GPU, or all of it: nobody may have all of one that somebody has a share of. Each claims its own and
/// then looks for the other's, so that of two at once at least one sees that it isn't alone.
fn claim_share(share: &GpuShare, is_share: bool) -> Result<Vec<Claim>, Refusal> {
    let busy = || Refusal::Busy("another `ablate run` uses it".to_owned());
    let name = |share: &dyn std::fmt::Display, uuid: &str| format!("gpu/{uuid}/{share}");
    let mut claims = Vec::new();
    let mut own = vec![name(&share.share, &share.uuid)];
    let mut others = vec![name(&"whole", &share.uuid)];
    if !is_share {
        own.append(&mut others);
        let shares = (0..MOST_SHARES).filter(|other| *other != share.share);
        others = shares.map(|other| name(&other, &share.uuid)).collect();
    }
    for name in own {
        match claim_soon(&name) {
            Ok(claim) => claims.push(claim),
            Err(Refused::Taken) => return Err(busy()),
            Err(Refused::Unsupported) => return Ok(Vec::new()),
        }
    }
    match others
        .iter()
        .any(|name| claim_soon(name).err() == Some(Refused::Taken))
    {
        true => Err(busy()),
        false => Ok(claims),
    }
}

/// Claims `name`; who only looks has it for a moment.
fn claim_soon(name: &str) -> Result<Claim, Refused> {
    for _ in 0..3 {
        match claim(name) {
            Err(Refused::Taken) => std::thread::sleep(std::time::Duration::from_millis(1)),
            answer => return answer,
        }
    }
    Err(Refused::Taken)
}

/// Part of an empty GPU's memory that may be taken all the same.
const EMPTY: f64 = 0.1;

fn alone(
    share: &GpuShare,
    used: u64,
    ours: &[&GpuProcess],
    foreign: &[&GpuProcess],
    workers: usize,
) -> Result<(), Refusal> {
    // In a container the driver may tell process ids of the host, which we can't look up. As many as we
    // have workers there are taken for those.
    let unknown = foreign
        .iter()
        .filter(|process| group(process.pid).is_none())
        .count();
    let known = foreign.len() - unknown;
    if known > 0 || (unknown > 0 && unknown + ours.len() > workers) {
        return Err(Refusal::Busy(format!("it is in use{}", by(foreign))));
    }
    let limit = (share.total as f64 * EMPTY) as u64;
    if workers == 0 && share.total > 0 && used > limit {
        return Err(Refusal::Busy(format!(
            "{} of its memory are taken by nobody that the driver knows",
            gib(used)
        )));
    }
    Ok(())
}

/// ` by python (pid 7, 3.0 GiB) and 2 more`.
fn by(processes: &[&GpuProcess]) -> String {
    let Some(first) = processes.first() else {
        return String::new();
    };
    let more = match processes.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(" by {}{more}", describe(first))
}

/// `python (pid 7, 3.0 GiB)`.
pub fn describe(process: &GpuProcess) -> String {
    let name = process_name(process.pid).map_or(String::new(), |name| format!("{name} "));
    let memory = process
        .memory
        .map_or(String::new(), |bytes| format!(", {}", gib(bytes)));
    let (open, close) = if name.is_empty() {
        ("", "")
    } else {
        ("(", ")")
    };
    format!("{name}{open}pid {}{memory}{close}", process.pid)
}

/// What a process calls itself, without what could steer a terminal.
pub fn process_name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().chars().filter(|c| !c.is_control()).collect())
}

/// Whether a process is one of our workers', in whatever group and session it is (ranks of a launcher have sessions of
/// their own).
fn is_ours(pid: u32, groups: &[u32]) -> bool {
    group(pid).is_some_and(|group| groups.contains(&group)) || process_tree::belongs(pid, groups)
}

/// The process group of a process, if there is such a process in our sight.
fn group(pid: u32) -> Option<u32> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|&pid| pid > 0)?;
    // SAFETY: a system call without memory.
    let group = unsafe { libc::getpgid(pid) };
    u32::try_from(group).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::device::gpus::{Driver, Gpu, GpuState, OnFault};

    /// One GPU of 80 GiB in one state.
    struct One(Result<GpuState, GpuError>);

    impl Gpus for One {
        fn driver(&self) -> Driver {
            Driver::default()
        }
        fn list(&self) -> Result<Vec<Gpu>, GpuError> {
            Ok(Vec::new())
        }
        fn state(&self, _: &str) -> Result<GpuState, GpuError> {
            self.0.clone()
        }
        fn check(&self, _: &str) -> Result<(), GpuError> {
            self.0.clone().map(drop)
        }
        fn watch(&self, _: &[String], _: OnFault) {}
    }

    const GIB: u64 = 1 << 30;

    fn state(used: u64, pids: &[u32]) -> One {
        One(Ok(GpuState {
            used: used * GIB,
            free: (80 - used) * GIB,
            processes: pids
                .iter()
                .map(|&pid| GpuProcess {
                    pid,
                    memory: Some(used * GIB),
                    graphics: false,
                })
                .collect(),
        }))
    }

    fn slot(name: &str, memory: Option<u64>) -> Slot {
        Slot {
            visible_gpu: Some(name.into()),
            gpus: vec![GpuShare {
                uuid: format!("GPU-lease-{name}-{}", std::process::id()),
                model: "H100".into(),
                driver: "1".into(),
                total: 80 * GIB,
                share: 0,
                shares: 1,
                memory,
            }],
            ..Slot::default()
        }
    }

    #[track_caller]
    fn busy(gpus: &One, slot: &Slot, groups: &[u32], part: &str) {
        match lease(gpus, slot, groups) {
            Err(Refusal::Busy(why)) => assert!(why.contains(part), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_gpu_must_be_empty() {
        let slot = slot("empty", None);
        let own = std::process::id();
        let own_group = group(own).unwrap();
        drop(lease(&state(1, &[]), &slot, &[]).unwrap());
        // This very process stands for a stranger, then for a worker of ours.
        busy(
            &state(1, &[own]),
            &slot,
            &[],
            &format!("pid {own}, 1.0 GiB"),
        );
        drop(lease(&state(30, &[own]), &slot, &[own_group]).unwrap());
        busy(
            &state(30, &[]),
            &slot,
            &[],
            "30.0 GiB of its memory are taken by nobody",
        );
        // Process ids of another namespace: as many as we have workers are ours.
        busy(&state(1, &[u32::MAX - 7]), &slot, &[], "pid 4294967288");
        drop(lease(&state(1, &[u32::MAX - 7]), &slot, &[1]).unwrap());
        busy(
            &state(1, &[u32::MAX - 7, u32::MAX - 8]),
            &slot,
            &[1],
            "and 1 more",
        );
        let mut desktop = state(2, &[own]);
        desktop.0.as_mut().unwrap().processes[0].graphics = true;
        drop(lease(&desktop, &slot, &[]).unwrap());
    }

    #[test]
    fn all_of_a_gpu_and_a_share_of_it_exclude_each_other() {
        let whole = slot("both", None);
        let mut share = slot("both", Some(10 * GIB));
        (share.gpus[0].share, share.gpus[0].shares) = (3, 4);
        let all = lease(&state(0, &[]), &whole, &[]).unwrap();
        busy(&state(0, &[]), &share, &[], "another `ablate run` uses it");
        drop(all);
        let part = lease(&state(0, &[]), &share, &[]).unwrap();
        busy(&state(0, &[]), &whole, &[], "another `ablate run` uses it");
        drop(part);
        lease(&state(0, &[]), &whole, &[]).unwrap();
    }

    #[test]
    fn a_share_must_fit() {
        let slot = slot("share", Some(10 * GIB));
        let stranger = std::process::id();
        drop(lease(&state(70, &[stranger]), &slot, &[]).unwrap());
        busy(
            &state(71, &[stranger]),
            &slot,
            &[],
            "9.0 GiB of its memory are free, 10.0 GiB are asked for by ",
        );
    }

    #[test]
    fn two_schedulers_never_lease_the_same_share() {
        let slot = slot("twice", None);
        let first = lease(&state(0, &[]), &slot, &[]).unwrap();
        busy(&state(0, &[]), &slot, &[], "another `ablate run`");
        drop(first);
        lease(&state(0, &[]), &slot, &[]).unwrap();
    }

    #[test]
    fn a_lost_gpu_is_told_apart() {
        let gone = One(Err(GpuError::Lost("off the bus".into())));
        assert!(matches!(
            lease(&gone, &slot("gone", None), &[]),
            Err(Refusal::Lost { what, .. }) if what == "off the bus"
        ));
        let mute = One(Err(GpuError::Driver("no answer".into())));
        busy(&mute, &slot("mute", None), &[], "no answer");
    }
}
