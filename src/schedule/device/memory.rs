//! The host's memory, as far as several `ablate run` of one machine share it: what the stages of each need is written
//! down where all of them see it.
//!
//! A stage's share is a [claim](super::claims) whose name says how many bytes it is of; `/proc/net/unix` lists the claims
//! of all processes in the network namespace. Like every claim it ends with its process.

use super::claims::{Claim, Refused, claim};
use super::gpus::gib;
use super::{control_group, cpu, memory_for_stages};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The memory that stages on this machine have together, whoever runs them.
#[derive(Debug)]
pub struct Pool {
    name: String,
    capacity: u64,
    /// Claims so far: no two have the same name.
    claims: u64,
}

/// There is no room for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Bytes that it needs.
    pub need: u64,
    /// Bytes that all others have; `None` where somebody else is just taking theirs.
    pub taken: Option<u64>,
    pub capacity: u64,
}

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.taken {
            Some(taken) => write!(
                f,
                "it needs {} of memory, and the stages that run on this machine, those of other `ablate run` among \
                 them, need {} of {}",
                gib(self.need),
                gib(taken),
                gib(self.capacity)
            ),
            None => f.write_str("another `ablate run` is taking its share of the memory"),
        }
    }
}

impl Pool {
    /// Those of the machine that this process is on: its own, and that of the control group whose limit is lower (a
    /// batch job's, a service's), whose stages share both.
    pub fn all() -> Vec<Pool> {
        let total = cpu::machine_memory();
        let mut pools = vec![Pool::new("memory", memory_for_stages(total))];
        if let Some((limit, group)) = control_group::limiting_group(Path::new("/"))
            && (total == 0 || limit < total)
            && let Ok(folder) = std::fs::metadata(group)
        {
            let name = format!("memory-{}", folder.ino());
            pools.push(Pool::new(&name, memory_for_stages(limit)));
        }
        pools
    }

    /// Of `capacity` bytes, known as `name` to everyone who shares it.
    pub fn new(name: &str, capacity: u64) -> Pool {
        Pool {
            name: name.to_owned(),
            capacity,
            claims: 0,
        }
    }

    /// Claims `need` bytes; no claim where there is nothing to claim or nobody can see it.
    ///
    /// # Errors
    /// Others have so much that there is no room for it. A stage that needs more than there is runs when nobody else
    /// has any.
    pub fn claim(&mut self, need: u64) -> Result<Option<Claim>, Short> {
        if need == 0 || self.capacity == u64::MAX {
            return Ok(None);
        }
        // One at a time looks and claims.
        let Some(_turn) = self.turn() else {
            return Err(Short {
                need,
                taken: None,
                capacity: self.capacity,
            });
        };
        let Some(taken) = self.taken() else {
            return Ok(None);
        };
        if taken > 0 && taken.saturating_add(need) > self.capacity {
            return Err(Short {
                need,
                taken: Some(taken),
                capacity: self.capacity,
            });
        }
        // A process in another container may have the same number.
        const TRIES: u32 = 1000;
        for _ in 0..TRIES {
            self.claims += 1;
            let own = format!(
                "{}/{need}/{}-{}",
                self.name,
                std::process::id(),
                self.claims
            );
            match claim(&own) {
                Ok(claim) => return Ok(Some(claim)),
                Err(Refused::Taken) => {}
                Err(Refused::Unsupported) => break,
            }
        }
        Ok(None)
    }

    fn turn(&self) -> Option<Option<Claim>> {
        /// Looking takes well under a millisecond.
        const TRIES: u32 = 20;
        for _ in 0..TRIES {
            match claim(&format!("{}-turn", self.name)) {
                Ok(turn) => return Some(Some(turn)),
                Err(Refused::Unsupported) => return Some(None),
                Err(Refused::Taken) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        None
    }

    /// Bytes that all have claimed; `None` if nobody says.
    fn taken(&self) -> Option<u64> {
        let list = std::fs::read("/proc/net/unix").ok()?;
        Some(sum(&String::from_utf8_lossy(&list), &self.name))
    }
}

/// Bytes that the claims on `pool` in a list of Unix sockets are of.
fn sum(list: &str, pool: &str) -> u64 {
    let prefix = format!("@ablate/{pool}/");
    list.lines()
        .filter_map(|line| {
            let (_, name) = line.split_once(&prefix)?;
            name.split_once('/')?.0.parse::<u64>().ok()
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn pool(name: &str) -> Pool {
        Pool::new(&format!("test-{name}-{}", std::process::id()), 8 * GIB)
    }

    #[test]
    fn claims_are_added_up_by_pool() {
        let list = "Num RefCount Protocol Flags Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00000000 0002 01 1 @ablate/memory/1024/7-1\n\
                    0000000000000000: 00000002 00000000 00000000 0002 01 2 @ablate/memory/76/9-4\n\
                    0000000000000000: 00000002 00000000 00000000 0002 01 3 @ablate/memory-turn\n\
                    0000000000000000: 00000002 00000000 00000000 0002 01 4 @ablate/other/5/7-1\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 5 /run/ablate/memory/9/1\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 6\n";
        assert_eq!(sum(list, "memory"), 1100);
        assert_eq!(sum(list, "nothing"), 0);
    }

    #[test]
    fn who_shares_a_machine_shares_its_memory() {
        let (mut here, mut there) = (pool("shared"), pool("shared"));
        let first = here.claim(5 * GIB).unwrap().unwrap();
        let refused = there.claim(4 * GIB).unwrap_err().to_string();
        assert!(refused.contains("it needs 4.0 GiB"), "{refused}");
        assert!(refused.contains("need 5.0 GiB of 8.0 GiB"), "{refused}");
        let _second = there.claim(3 * GIB).unwrap().unwrap();
        here.claim(1).unwrap_err();
        drop(first);
        let _third = here.claim(5 * GIB).unwrap().unwrap();
    }

    #[test]
    fn more_than_there_is_runs_alone() {
        let mut pool = pool("alone");
        let all = pool.claim(20 * GIB).unwrap().unwrap();
        pool.claim(1).unwrap_err();
        drop(all);
        let some = pool.claim(1).unwrap().unwrap();
        pool.claim(20 * GIB).unwrap_err();
        drop(some);
        pool.claim(20 * GIB).unwrap().unwrap();
    }

    #[test]
    fn what_needs_nothing_or_is_unknown_claims_nothing() {
        assert!(pool("nothing").claim(0).unwrap().is_none());
        assert!(Pool::new("any", u64::MAX).claim(GIB).unwrap().is_none());
    }
}
