//! What the control groups that this process is in let it have.

use std::path::{Path, PathBuf};

/// Least bytes of memory that the control group of this process or one above it allows; `None`: no limit is known. A
/// service (`systemd-run -p MemoryMax=`), a batch job (Slurm) or a user's session is limited somewhere below the root.
/// `root` is `/`, but for tests.
pub fn memory_limit(root: &Path) -> Option<u64> {
    Some(limiting_group(root)?.0)
}

/// The same, and the folder of the group that has that limit.
pub fn limiting_group(root: &Path) -> Option<(u64, PathBuf)> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mounted = root.join("sys/fs/cgroup");
    // In a container the group's own folder may be the root, whatever the kernel calls it.
    let mut places = vec![
        (mounted.clone(), PathBuf::new(), "memory.max"),
        (
            mounted.join("memory"),
            PathBuf::new(),
            "memory.limit_in_bytes",
        ),
    ];
    for line in groups.lines() {
        // `0::/path`, or `4:memory:/path` of version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = PathBuf::from(path.trim_start_matches('/'));
        if controllers.is_empty() {
            places.push((mounted.clone(), path, "memory.max"));
        } else if controllers.split(',').any(|name| name == "memory") {
            places.push((mounted.join("memory"), path, "memory.limit_in_bytes"));
        }
    }
    let mut least: Option<(u64, PathBuf)> = None;
    for (mounted, path, file) in places {
        for group in path.ancestors().map(|group| mounted.join(group)) {
            if let Some(limit) = read(&group.join(file))
                && least.as_ref().is_none_or(|(known, _)| limit < *known)
            {
                least = Some((limit, group));
            }
        }
    }
    least
}

/// The number in a file; `max` is none.
fn read(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_least_of_the_own_group_and_those_above_counts() {
        let limit = |files: &[(&str, &str)]| memory_limit(machine(files).path());
        assert_eq!(limit(&[]), None);
        let own = ("proc/self/cgroup", "0::/user.slice/job.scope\n");
        assert_eq!(limit(&[own]), None);
        let scope = "sys/fs/cgroup/user.slice/job.scope/memory.max";
        assert_eq!(limit(&[own, (scope, "max\n")]), None);
        let slice = ("sys/fs/cgroup/user.slice/memory.max", "5000\n");
        assert_eq!(limit(&[own, (scope, "max\n"), slice]), Some(5000));
        assert_eq!(limit(&[own, (scope, "3000\n"), slice]), Some(3000));
        assert_eq!(limit(&[own, (scope, "9000\n"), slice]), Some(5000));
        // A group beside it is no business of ours.
        let other = ("sys/fs/cgroup/other.slice/memory.max", "10\n");
        assert_eq!(limit(&[own, slice, other]), Some(5000));
        // A container that sees its own group as the root, under a name that isn't there.
        let seen = ("sys/fs/cgroup/memory.max", "700\n");
        let hidden = ("proc/self/cgroup", "0::/../../docker/abc\n");
        assert_eq!(limit(&[hidden, seen]), Some(700));
    }

    #[test]
    fn the_group_with_the_limit_is_told() {
        let own = ("proc/self/cgroup", "0::/a.slice/b.scope\n");
        let scope = ("sys/fs/cgroup/a.slice/b.scope/memory.max", "9000\n");
        let slice = ("sys/fs/cgroup/a.slice/memory.max", "5000\n");
        let folder = machine(&[own, scope, slice]);
        let group = folder.path().join("sys/fs/cgroup/a.slice");
        assert_eq!(limiting_group(folder.path()), Some((5000, group)));
    }

    #[test]
    fn groups_of_version_1_count() {
        let files = [
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/a\n4:memory:/slurm/job_7\n0::/x\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes",
                "4096\n",
            ),
        ];
        assert_eq!(memory_limit(machine(&files).path()), Some(4096));
    }
}
