//! A control group of the test's own, where one can be made: that needs root.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Removed in the end.
pub struct ControlGroup {
    path: PathBuf,
    file: &'static str,
}

impl ControlGroup {
    /// One that limits bytes of memory.
    pub fn of_memory(bytes: u64) -> Option<ControlGroup> {
        let files = ["memory.limit_in_bytes", "memory.max"];
        ControlGroup::new("memory", files, &bytes.to_string())
    }

    /// One that limits processes and threads.
    pub fn of_processes() -> Option<ControlGroup> {
        ControlGroup::new("pids", ["pids.max", "pids.max"], "max")
    }

    /// `files`: that of version 1, that of version 2.
    fn new(controller: &str, files: [&'static str; 2], value: &str) -> Option<ControlGroup> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("ablate-test-{}-{count}", std::process::id());
        let roots = [
            Path::new("/sys/fs/cgroup").join(controller),
            PathBuf::from("/sys/fs/cgroup"),
        ];
        for (root, file) in roots.into_iter().zip(files) {
            let path = root.join(&name);
            if std::fs::create_dir(&path).is_err() {
                continue;
            }
            let group = ControlGroup { path, file };
            if std::fs::write(group.path.join(file), value).is_ok() {
                return Some(group);
            }
        }
        println!("not tested: no control group can be made here");
        None
    }

    /// Starts the command in it.
    pub fn hold(&self, command: &mut Command) {
        let procs = self.path.join("cgroup.procs");
        // SAFETY: before the program is executed nothing but a file is written.
        unsafe {
            command.pre_exec(move || std::fs::write(&procs, "0"));
        }
    }

    /// Another limit from now on.
    pub fn limit(&self, value: &str) {
        std::fs::write(self.path.join(self.file), value).unwrap();
    }

    /// The number in a file of it.
    pub fn number(&self, file: &str) -> u64 {
        let text = std::fs::read_to_string(self.path.join(file)).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Whatever was in it has just ended.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
