//! A recording of what the driver says about GPUs: a JSON file with the GPUs and a time line.
//!
//! ```json
//! {"driver": "580.65.06", "cuda": "13.0", "stand_in": "cpu",
//!  "gpus": [{"uuid": "GPU-5a", "name": "NVIDIA H100", "memory": 85899345920}],
//!  "timeline": [
//!    {"at": 0, "gpu": "GPU-5a", "used": 1073741824, "processes": [{"pid": 4711, "memory": 1073741824}]},
//!    {"at": 2.5, "gpu": "GPU-5a", "used": 0, "processes": [], "joules": 1250.5, "busy": 0.4},
//!    {"at": 9, "gpu": "GPU-5a", "xid": 79},
//!    {"at": 9, "gpu": "GPU-5a", "lost": true}]}
//! ```
//!
//! `at` counts seconds from the moment at which it is opened. The file is read again whenever something is
//! asked, so that a test can also write the next scene when it is time for it.

use super::gpus::{
    Driver, Gpu, GpuError, GpuFault, GpuProcess, GpuState, Gpus, OnFault, xid_fault,
};
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    driver: String,
    cuda: Option<String>,
    /// What workers compute on, since there are no GPUs.
    stand_in: Option<String>,
    gpus: Vec<ScriptedGpu>,
    #[serde(default)]
    timeline: Vec<Scene>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedGpu {
    uuid: String,
    name: String,
    pci: Option<String>,
    memory: u64,
    #[serde(default)]
    instances: Vec<ScriptedGpu>,
}

/// What changes at a moment; what isn't mentioned stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scene {
    at: f64,
    gpu: String,
    used: Option<u64>,
    processes: Option<Vec<ScriptedProcess>>,
    xid: Option<u64>,
    lost: Option<bool>,
    /// What the GPU's energy counter stands at.
    joules: Option<f64>,
    /// Share of the time in which it computes.
    busy: Option<f64>,
    /// What a health check complains of; empty: nothing any more.
    complaint: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptedProcess {
    pid: u32,
    memory: Option<u64>,
    #[serde(default)]
    graphics: bool,
}

/// A recording that plays since it was opened.
pub struct Recording {
    path: PathBuf,
    opened: Instant,
}

impl Recording {
    /// Opens the recording at `path`; an error if it can't be read.
    pub fn open(path: &Path) -> Result<Recording, GpuError> {
        let recording = Recording {
            path: path.to_owned(),
            opened: Instant::now(),
        };
        recording.script()?;
        Ok(recording)
    }

    fn script(&self) -> Result<Script, GpuError> {
        read(&self.path)
    }

    fn elapsed(&self) -> f64 {
        self.opened.elapsed().as_secs_f64()
    }
}

fn read(path: &Path) -> Result<Script, GpuError> {
    let wrong = |error: &dyn std::fmt::Display| {
        GpuError::Driver(format!("recording {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

/// State of one GPU at a moment.
#[derive(Debug, Default)]
struct Now {
    used: u64,
    processes: Vec<GpuProcess>,
    lost: bool,
    joules: Option<f64>,
    busy: Option<f64>,
    complaint: String,
}

impl Script {
    fn memory(&self, uuid: &str) -> Option<u64> {
        self.gpus
            .iter()
            .flat_map(|gpu| std::iter::once(gpu).chain(&gpu.instances))
            .find(|gpu| gpu.uuid == uuid)
            .map(|gpu| gpu.memory)
    }

    fn now(&self, uuid: &str, elapsed: f64) -> Now {
        let mut now = Now::default();
        let past = |scene: &&Scene| scene.gpu == uuid && scene.at <= elapsed;
        for scene in self.timeline.iter().filter(past) {
            now.used = scene.used.unwrap_or(now.used);
            now.lost = scene.lost.unwrap_or(now.lost);
            now.joules = scene.joules.or(now.joules);
            now.busy = scene.busy.or(now.busy);
            if let Some(complaint) = &scene.complaint {
                now.complaint.clone_from(complaint);
            }
            if let Some(processes) = &scene.processes {
                now.processes = processes
                    .iter()
                    .map(|process| GpuProcess {
                        pid: process.pid,
                        memory: process.memory,
                        graphics: process.graphics,
                    })
                    .collect();
            }
        }
        now
    }
}

impl Gpus for Recording {
    fn driver(&self) -> Driver {
        self.script().map_or_else(
            |_| Driver::default(),
            |script| Driver {
                version: script.driver,
                cuda: script.cuda,
            },
        )
    }

    fn list(&self) -> Result<Vec<Gpu>, GpuError> {
        let script = self.script()?;
        let mut list = Vec::new();
        for (index, gpu) in script.gpus.into_iter().enumerate() {
            let whole = Gpu {
                uuid: gpu.uuid,
                name: gpu.name,
                index: index as u32,
                pci: gpu.pci,
                memory: gpu.memory,
                parent: None,
                divided: !gpu.instances.is_empty(),
            };
            list.push(whole.clone());
            list.extend(gpu.instances.into_iter().map(|instance| Gpu {
                uuid: instance.uuid,
                name: instance.name,
                memory: instance.memory,
                parent: Some(whole.uuid.clone()),
                divided: false,
                ..whole.clone()
            }));
        }
        Ok(list)
    }

    fn state(&self, uuid: &str) -> Result<GpuState, GpuError> {
        let script = self.script()?;
        let memory = script
            .memory(uuid)
            .ok_or_else(|| GpuError::Unknown(uuid.to_owned()))?;
        let now = script.now(uuid, self.elapsed());
        if now.lost {
            return Err(GpuError::Lost("it has fallen off the bus".to_owned()));
        }
        Ok(GpuState {
            used: now.used,
            free: memory.saturating_sub(now.used),
            processes: now.processes,
        })
    }

    fn check(&self, uuid: &str) -> Result<(), GpuError> {
        self.state(uuid)?;
        let complaint = self.script()?.now(uuid, self.elapsed()).complaint;
        match complaint.is_empty() {
            true => Ok(()),
            false => Err(GpuError::Lost(complaint)),
        }
    }

    fn energy(&self, uuid: &str) -> Option<f64> {
        let now = self.script().ok()?.now(uuid, self.elapsed());
        now.joules.filter(|_| !now.lost)
    }

    fn busy(&self, uuid: &str) -> Option<f64> {
        let now = self.script().ok()?.now(uuid, self.elapsed());
        now.busy.filter(|_| !now.lost)
    }

    fn watch(&self, uuids: &[String], tell: OnFault) {
        let (path, opened, uuids) = (self.path.clone(), self.opened, uuids.to_vec());
        let _ = std::thread::Builder::new()
            .name("gpu-faults".into())
            .spawn(move || {
                let mut told = HashSet::new();
                loop {
                    // Only here is a file looked at over and over; the driver pushes.
                    std::thread::sleep(Duration::from_millis(20));
                    let Ok(script) = read(&path) else {
                        continue;
                    };
                    let elapsed = opened.elapsed().as_secs_f64();
                    for (place, scene) in script.timeline.iter().enumerate() {
                        let what = match (scene.xid, scene.lost) {
                            (Some(xid), _) => xid_fault(xid),
                            (None, Some(true)) => Some("it has fallen off the bus".to_owned()),
                            _ => None,
                        };
                        if let Some(what) = what
                            && scene.at <= elapsed
                            && uuids.contains(&scene.gpu)
                            && told.insert((place, scene.gpu.clone()))
                        {
                            tell(GpuFault {
                                uuid: scene.gpu.clone(),
                                what,
                            });
                        }
                    }
                }
            });
    }

    fn stand_in(&self) -> Option<String> {
        self.script().ok()?.stand_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_recording_plays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpus.json");
        let scene = |text: &str| {
            let script = format!(
                r#"{{"driver": "1.2", "gpus": [{{"uuid": "GPU-a", "name": "A", "memory": 100,
                     "instances": [{{"uuid": "MIG-a0", "name": "A 1g", "memory": 40}}]}}],
                   "timeline": [{{"at": 0, "gpu": "MIG-a0", "used": 30, "processes": [{{"pid": 7}}]}}{text}]}}"#
            );
            std::fs::write(&path, script).unwrap();
        };
        scene("");
        let gpus = Recording::open(&path).unwrap();
        assert_eq!(gpus.driver().version, "1.2");
        let list = gpus.list().unwrap();
        assert!(list[0].divided && list[1].parent.as_deref() == Some("GPU-a"));
        let state = gpus.state("MIG-a0").unwrap();
        assert_eq!(
            (state.used, state.free, state.processes[0].pid),
            (30, 10, 7)
        );
        assert_eq!(
            gpus.state("GPU-x"),
            Err(GpuError::Unknown("GPU-x".to_owned()))
        );
        // What is to come isn't there yet.
        scene(r#", {"at": 1e9, "gpu": "MIG-a0", "lost": true}"#);
        assert_eq!(gpus.check("MIG-a0"), Ok(()));

        let (sender, faults) = mpsc::channel();
        gpus.watch(
            &["MIG-a0".to_owned()],
            Box::new(move |fault| sender.send(fault).unwrap()),
        );
        scene(
            r#", {"at": 0, "gpu": "MIG-a0", "xid": 31}, {"at": 0, "gpu": "GPU-a", "xid": 79},
               {"at": 0, "gpu": "MIG-a0", "xid": 48}, {"at": 0, "gpu": "MIG-a0", "lost": true}"#,
        );
        let what: Vec<String> = (0..2).map(|_| faults.recv().unwrap().what).collect();
        assert!(
            what[0].starts_with("XID 48") && what[1].contains("bus"),
            "{what:?}"
        );
        assert!(matches!(gpus.check("MIG-a0"), Err(GpuError::Lost(_))));
        std::fs::write(&path, "{").unwrap();
        assert!(Recording::open(&path).is_err());
    }
}
