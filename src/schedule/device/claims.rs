//! Claims on shares of this machine, so that programs that don't know each other don't take the same core
//! or the same part of a GPU.
//!
//! A claim is an abstract Unix socket (unix(7)): its name belongs to one process at a time, in the whole
//! network namespace, and the kernel gives it back when the process ends, however it does. No files, so
//! nothing is ever stale.

use super::Slot;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A claim; given back on drop.
#[derive(Debug)]
pub struct Claim {
    _socket: UnixDatagram,
}

/// Why a claim isn't to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another process has it, or another part of this one.
    Taken,
    /// There are no claims on this system.
    Unsupported,
}

/// Claims `name`.
pub fn claim(name: &str) -> Result<Claim, Refused> {
    let address = SocketAddr::from_abstract_name(format!("ablate/{name}"))
        .map_err(|_| Refused::Unsupported)?;
    match UnixDatagram::bind_addr(&address) {
        Ok(socket) => Ok(Claim { _socket: socket }),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Refused::Taken),
        Err(_) => Err(Refused::Unsupported),
    }
}

/// Replaces the cores that CPU slots are bound to by ones that no other program has claimed, in the order
/// of `preference`; a slot for which too few are left isn't bound. The claims last as long as they are kept.
pub fn bind_cores(slots: &mut [Slot], preference: &[usize]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut rest = preference.iter();
    for slot in slots.iter_mut().filter(|slot| !slot.cores.is_empty()) {
        let wanted = slot.cores.len();
        slot.cores.clear();
        while slot.cores.len() < wanted
            && let Some(&core) = rest.next()
        {
            if let Ok(claim) = claim(&format!("core/{core}")) {
                claims.push(claim);
                slot.cores.push(core);
            }
        }
        if slot.cores.len() < wanted {
            slot.cores.clear();
        }
        slot.cores.sort_unstable();
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_one_owner_at_a_time() {
        let name = format!("test/{}", std::process::id());
        let first = claim(&name).unwrap();
        assert_eq!(claim(&name).unwrap_err(), Refused::Taken);
        drop(first);
        claim(&name).unwrap();
    }

    #[test]
    fn two_programs_bind_themselves_to_different_cores() {
        // Cores that no machine has, so that nobody else claims them.
        let preference: Vec<usize> = (0..5).map(|core| core + 1_000_000).collect();
        let slot = |cores: usize| Slot {
            cores: (0..cores).collect(),
            ..Slot::default()
        };
        let mut first = [slot(2), slot(0), slot(1)];
        let kept = bind_cores(&mut first, &preference);
        assert_eq!(kept.len(), 3);
        assert_eq!(first[0].cores, [1_000_000, 1_000_001]);
        assert!(first[1].cores.is_empty(), "it wasn't to be bound");
        assert_eq!(first[2].cores, [1_000_002]);
        let mut second = [slot(1), slot(2)];
        let _second = bind_cores(&mut second, &preference);
        assert_eq!(second[0].cores, [1_000_003]);
        assert!(second[1].cores.is_empty(), "only one is left");
        drop(kept);
        let mut third = [slot(2)];
        let _third = bind_cores(&mut third, &preference);
        assert_eq!(third[0].cores, [1_000_000, 1_000_001]);
    }
}
