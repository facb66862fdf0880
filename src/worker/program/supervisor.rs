//! The life of a program's stage: check its inputs, start it, take in what it reports, judge what it leaves.

use super::environment;
use super::guard::{End, Guard, Request};
use super::reports::{DEFAULT_SET, Measure, Reports};
use super::start::Start;
use super::watch::{CAP, Watch};
use crate::plan::inputs::{self, InputError};
use crate::rundir::event::{Event, EventKind, FailureClass};
use crate::rundir::layout::RunDir;
use crate::rundir::log::{self, EventLog, LogError};
use crate::rundir::stage::{CommandSpec, Launch, StageSpec};
use crate::spec::command::WEIGHTS;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why a program's stage can't be looked after. What the program itself does wrong is no error here: it is told in the
/// event log.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("can't read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} is of no program's stage")]
    NoProgram { path: String },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("can't prepare {path}: {source}")]
    Prepare { path: String, source: io::Error },
}

impl ProgramError {
    /// The class of the attempt that it ends.
    pub fn class(&self) -> FailureClass {
        let source = match self {
            ProgramError::NoProgram { .. } => return FailureClass::Bug,
            ProgramError::Log(error) => return error.class(),
            ProgramError::Read { source, .. } | ProgramError::Prepare { source, .. } => source,
        };
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureClass::DiskFull,
            _ => FailureClass::IoError,
        }
    }
}

/// Requests to a program that may come before it is started.
#[derive(Debug, Default)]
pub struct Control {
    guard: Mutex<Option<Arc<Guard>>>,
    stopped: AtomicBool,
    killed: AtomicBool,
    /// Time that the program has stood still, and since when it does.
    still: Mutex<(Duration, Option<Instant>)>,
    /// Signals to this process are requests, too.
    in_worker: bool,
}

impl Control {
    /// For a process that does nothing else: SIGTERM to it asks the program to stop.
    pub fn of_worker() -> Control {
        Control {
            in_worker: true,
            ..Control::default()
        }
    }

    /// Passes on what signals have asked for.
    fn look_at_signals(&self) {
        if self.in_worker && crate::worker::stop::requested() && !self.is_stopped() {
            self.request(Request::Terminate);
        }
    }

    /// Passes a request on, at once or when the program is started.
    pub fn request(&self, request: Request) {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Terminate => self.stopped.store(true, Ordering::Relaxed),
            Request::Kill => self.killed.store(true, Ordering::Relaxed),
            Request::Suspend | Request::Resume => {
                let mut still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
                let (time, since) = &mut *still;
                match request {
                    Request::Suspend => *since = since.or_else(|| Some(Instant::now())),
                    _ => *time += since.take().map_or(Duration::ZERO, |since| since.elapsed()),
                }
            }
        }
        if let Some(guard) = &*guard {
            guard.request(request);
        }
    }

    fn attach(&self, guard: &Arc<Guard>) {
        let mut own = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::Relaxed) {
            guard.request(Request::Terminate);
        }
        if self.killed.load(Ordering::Relaxed) {
            guard.request(Request::Kill);
        }
        *own = Some(Arc::clone(guard));
    }

    /// Time that the program has stood still.
    fn still(&self) -> Duration {
        self.still.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether the program was asked to leave.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.killed.load(Ordering::Relaxed)
    }
}

/// A program's stage, ready to be started.
#[derive(Debug)]
pub struct Program {
    dir: RunDir,
    spec: StageSpec,
    launch: Launch,
    program: CommandSpec,
    /// Once it runs.
    pid: AtomicU32,
    /// What has watched its reports: the system takes some 15 ms to end that, for which nobody need wait.
    watched: Mutex<Option<Watch>>,
    /// Until it reports something: where it goes on from as far as we know, if earlier attempts have come farther.
    resumes: Mutex<Option<u64>>,
}

/// How far earlier attempts have come, in steps.
#[derive(Debug, Clone, Default)]
struct Earlier {
    /// The last that was reported as a checkpoint.
    resumed: u64,
    /// The last that was reported.
    reached: u64,
    /// All of them, with their epochs.
    steps: Vec<(u64, u32)>,
}

impl Earlier {
    /// What `events` tell of it.
    fn of<'e>(events: impl Iterator<Item = &'e EventKind>) -> Earlier {
        let mut earlier = Earlier::default();
        for kind in events {
            match kind {
                EventKind::Checkpointed { step, .. } => earlier.resumed = *step,
                EventKind::Step { step, epoch, .. }
                | EventKind::Epoch { step, epoch, .. }
                | EventKind::Evaluated { step, epoch, .. } => {
                    earlier.reached = earlier.reached.max(*step);
                    earlier.steps.push((*step, *epoch));
                }
                _ => {}
            }
        }
        earlier.reached = earlier.reached.max(earlier.resumed);
        earlier
    }
}

/// What a promise is compared with: the metric's name on the set that results are shown of; on another, which keeps no
/// promise, `set/metric`.
fn promised_name(measure: &Measure) -> String {
    match measure.set == DEFAULT_SET {
        true => measure.metric.clone(),
        false => format!("{}/{}", measure.set, measure.metric),
    }
}

/// Time after which reports that come without a pause are read.
const BREATH: Duration = Duration::from_millis(20);

/// Time between two looks at the reports where the system gives no notice of them.
const LOOK: Duration = Duration::from_millis(200);

impl Program {
    /// The program of the run directory `dir`.
    ///
    /// # Errors
    /// `stage.json` or `launch.json` can't be read, or is of another kind of stage.
    pub fn load(dir: RunDir) -> Result<Program, ProgramError> {
        fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ProgramError> {
            let failed = |source| ProgramError::Read {
                path: path.display().to_string(),
                source,
            };
            let bytes = std::fs::read(path).map_err(failed)?;
            serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
        }
        let spec: StageSpec = read(&dir.stage())?;
        let launch: Launch = read(&dir.launch())?;
        Program::of(dir, spec, launch)
    }

    /// The program of a stage.
    ///
    /// # Errors
    /// It is of another kind of stage.
    pub fn of(dir: RunDir, spec: StageSpec, launch: Launch) -> Result<Program, ProgramError> {
        let Some(program) = spec.command.clone().filter(|own| !own.argv.is_empty()) else {
            return Err(ProgramError::NoProgram {
                path: dir.stage().display().to_string(),
            });
        };
        Ok(Program {
            dir,
            spec,
            launch,
            program,
            pid: AtomicU32::new(0),
            watched: Mutex::default(),
            resumes: Mutex::default(),
        })
    }

    /// Its command line with its environment and folder. What concerns the device is for the caller to add.
    pub fn command(&self) -> Command {
        environment::command(&self.dir, &self.spec, &self.launch, &self.program)
    }

    /// Runs `command` to its end, in this thread; `output` is its log, and the cores that it is bound to. `started` is told
    /// the program's process once it runs; if it can't be started, or may not, the event log says why.
    ///
    /// # Errors
    /// The run directory can't be written; a program that runs is killed then.
    pub fn supervise(
        &self,
        command: &Command,
        output: (File, &[usize]),
        control: &Control,
        started: impl FnOnce(u32),
    ) -> Result<End, ProgramError> {
        let begun = Instant::now();
        // First, for it repairs what is read then.
        let mut log = EventLog::open(&self.dir.events(), self.launch.attempt)?;
        let (missed, earlier) = self.earlier()?;
        *self.resumes.lock().unwrap_or_else(PoisonError::into_inner) =
            (earlier.resumed < earlier.reached).then_some(earlier.resumed);
        for kind in missed {
            log.append(kind)?;
        }
        if let Err(error) = self.check_inputs() {
            return self.refuse(&mut log, FailureClass::Data, error.to_string());
        }
        let mut watch = self.prepare()?;
        let mut reports = Reports::going_on(earlier.steps, earlier.resumed);
        let start = Start::new(command, output.0, output.1);
        let guard = match start.and_then(|start| Guard::spawn(&start)) {
            Ok(guard) => Arc::new(guard),
            Err(error) => {
                let name = &self.program.argv[0];
                let class = match error.raw_os_error() {
                    // Short of processes, memory or descriptors, or the file is being written: in a moment it may go.
                    Some(
                        libc::EAGAIN
                        | libc::ENOMEM
                        | libc::EMFILE
                        | libc::ENFILE
                        | libc::ETXTBSY
                        | libc::EINTR,
                    )
                    | None => FailureClass::Killed,
                    Some(libc::EIO | libc::ESTALE) => FailureClass::IoError,
                    // It isn't there, isn't a program, isn't one of this machine, is given too much: as the file says it.
                    Some(_) => FailureClass::Config,
                };
                return self.refuse(&mut log, class, format!("can't start `{name}`: {error}"));
            }
        };
        control.attach(&guard);
        self.pid.store(guard.program(), Ordering::Relaxed);
        started(guard.program());
        let result = log
            .append(self.started(earlier.reached, 0))
            .map_err(ProgramError::from)
            .and_then(|_| self.listen(&guard, control, &mut watch, &mut reports, &mut log));
        if result.is_err() {
            guard.request(Request::Kill);
        }
        while !guard.wait(None, None) {}
        let end = guard.reap();
        result?;
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
        self.conclude(&mut log, &mut reports, control, end, begun.elapsed())?;
        Ok(end)
    }

    /// What the last attempt has reported and nobody has taken in, for its scheduler died; and how far earlier attempts
    /// have come.
    fn earlier(&self) -> Result<(Vec<EventKind>, Earlier), ProgramError> {
        let Some(last) = self.launch.attempt.checked_sub(1).filter(|last| *last > 0) else {
            return Ok((Vec::new(), Earlier::default()));
        };
        let events = log::read(&self.dir.events())?;
        let missed = self.missed(last, &events);
        let earlier = Earlier::of(events.iter().map(|event| &event.kind).chain(&missed));
        Ok((missed, earlier))
    }

    /// Of the last attempt that has run the program: what it has reported and is in no event.
    fn missed(&self, last: u32, events: &[Event]) -> Vec<EventKind> {
        let read =
            |attempt: u32| Some((attempt, read_up_to(&self.dir.reports(attempt), CAP).ok()?));
        let Some((attempt, bytes)) = (1..=last).rev().find_map(read) else {
            return Vec::new();
        };
        let own = || events.iter().filter(|event| event.attempt == attempt);
        let ended = |event: &Event| {
            matches!(
                event.kind,
                EventKind::Resources { .. } | EventKind::Finished { .. }
            )
        };
        if own().any(ended) {
            return Vec::new();
        }
        let is_start = |kind: &EventKind| matches!(kind, EventKind::Started { .. });
        // What comes before its start is what that attempt has taken in of the one before it. Where there is no start,
        // its scheduler died before it could say so.
        let taken = own().skip_while(|event| !is_start(&event.kind)).chain(
            // Attempts that died while they took it in.
            events
                .iter()
                .filter(|event| event.attempt > attempt && event.attempt <= last),
        );
        let counts =
            |kind: &EventKind| !is_start(kind) && !matches!(kind, EventKind::Failed { .. });
        let taken = taken.filter(|event| counts(&event.kind)).count();
        let before = events.iter().filter(|event| event.attempt < attempt);
        let before = Earlier::of(before.map(|event| &event.kind));
        let mut all = Reports::going_on(before.steps, before.resumed).read(&bytes);
        // Neither its start nor its end is for this attempt to say again.
        all.retain(counts);
        all.split_off(taken.min(all.len()))
    }

    fn check_inputs(&self) -> Result<(), InputError> {
        let folder = self.launch.folder.as_deref().unwrap_or(Path::new("."));
        inputs::check(folder, &self.program.inputs)
    }

    /// The program's folder, and the file of its reports.
    fn prepare(&self) -> Result<Watch, ProgramError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| ProgramError::Prepare { path, source }
        };
        self.dir.tidy();
        let work = self.dir.work();
        std::fs::create_dir_all(&work).map_err(failed(&work))?;
        // What an earlier attempt has measured is no result of this one.
        let results = work.join(RESULTS);
        match std::fs::remove_file(&results) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&results)(error));
            }
            _ => {}
        }
        let reports = self.dir.reports(self.launch.attempt);
        Watch::create(&reports).map_err(failed(&reports))
    }

    fn started(&self, resumed_step: u64, total_steps: u64) -> EventKind {
        EventKind::Started {
            host: crate::rundir::host::name(),
            pid: self.pid.load(Ordering::Relaxed),
            device: self.launch.device.clone(),
            program: self.program.argv.join(" ").chars().take(200).collect(),
            resumed_step,
            total_steps,
        }
    }

    /// Says that the stage is not run.
    fn refuse(
        &self,
        log: &mut EventLog,
        class: FailureClass,
        message: String,
    ) -> Result<End, ProgramError> {
        log.append(EventKind::Failed { class, message })?;
        log.sync()?;
        Ok(End {
            code: Some(class.exit_code()),
            ..End::default()
        })
    }

    /// Takes in what the program reports until it has ended.
    fn listen(
        &self,
        guard: &Guard,
        control: &Control,
        watch: &mut Watch,
        reports: &mut Reports,
        log: &mut EventLog,
    ) -> Result<(), ProgramError> {
        let patience = match watch.notices() {
            Some(_) => None,
            None => Some(LOOK),
        };
        // A signal may come just before the wait, and not end it.
        let patience = patience.or(control.in_worker.then_some(Duration::from_secs(1)));
        loop {
            control.look_at_signals();
            let ended = guard.wait(watch.notices(), patience);
            watch.drain();
            self.take_in(watch, reports, log)?;
            // Reports that come without a pause are read some at a time.
            if ended || guard.wait(None, Some(BREATH)) {
                break;
            }
        }
        self.take_in(watch, reports, log)?;
        let last = reports.finish();
        self.append(last, log)
    }

    fn take_in(
        &self,
        watch: &mut Watch,
        reports: &mut Reports,
        log: &mut EventLog,
    ) -> Result<(), ProgramError> {
        loop {
            let was_full = watch.full;
            let bytes = watch.next().map_err(|source| ProgramError::Read {
                path: self.dir.reports(self.launch.attempt).display().to_string(),
                source,
            })?;
            if bytes.is_empty() {
                return Ok(());
            }
            let events = reports.read(&bytes);
            self.append(events, log)?;
            if watch.full && !was_full {
                let message = format!("reports beyond {CAP} bytes are not read");
                log.append(EventKind::Warning { message })?;
            }
        }
    }

    fn append(&self, events: Vec<EventKind>, log: &mut EventLog) -> Result<(), ProgramError> {
        for kind in events {
            // Where the program can go on from, the log must know of what came before.
            let durable = matches!(
                kind,
                EventKind::Checkpointed { .. } | EventKind::Evaluated { .. }
            );
            let kind = match kind {
                EventKind::Started {
                    resumed_step,
                    total_steps,
                    ..
                } => self.started(resumed_step, total_steps),
                kind => kind,
            };
            self.begin(Some(&kind), log)?;
            log.append(kind)?;
            if durable {
                log.sync()?;
            }
        }
        Ok(())
    }

    /// Says where the program goes on from, before its first report or the end: what came behind that counts no more.
    /// A program that says so itself knows best.
    fn begin(&self, report: Option<&EventKind>, log: &mut EventLog) -> Result<(), ProgramError> {
        let mut resumes = self.resumes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resumed) = resumes.take()
            && !matches!(report, Some(EventKind::Started { .. }))
        {
            log.append(self.started(resumed, 0))?;
        }
        Ok(())
    }

    /// Judges what the program has left, and says so.
    fn conclude(
        &self,
        log: &mut EventLog,
        reports: &mut Reports,
        control: &Control,
        end: End,
        wall: Duration,
    ) -> Result<(), ProgramError> {
        if end.code == Some(0) {
            self.begin(None, log)?;
        }
        let results = self.dir.work().join(RESULTS);
        let from_file = end.code == Some(0) && results.exists();
        let mut fault = None;
        if from_file {
            let warnings = match read_up_to(&results, RESULTS_CAP) {
                Ok(bytes) => reports.add_file(&bytes),
                Err(error) => vec![EventKind::Warning {
                    message: format!("metrics.json: {error}"),
                }],
            };
            for kind in warnings {
                if let EventKind::Warning { message } = &kind {
                    fault.get_or_insert_with(|| message.clone());
                }
                log.append(kind)?;
            }
        }
        if end.code == Some(0)
            && let Err(error) = self.check_inputs()
        {
            let message = format!("what the program has read may not be what was planned: {error}");
            log.append(EventKind::Warning { message })?;
        }
        control.look_at_signals();
        let stopped = control.is_stopped();
        let verdict = match end.code {
            Some(0) => self.verdict(reports, fault.as_deref()),
            _ => Ok(()),
        };
        // One that was asked to leave may do so well, in the middle of its work.
        let of_file = from_file && self.program.metrics.is_empty();
        let is_final = !stopped || of_file || self.has_last(reports);
        if end.code == Some(0) && verdict.is_ok() && is_final {
            for kind in reports.results(from_file) {
                log.append(kind)?;
            }
        }
        log.append(EventKind::Resources {
            peak_rss_bytes: end.peak_rss_bytes,
            cpu_seconds: end.cpu_seconds,
            wall_seconds: wall.saturating_sub(control.still()).as_secs_f64(),
            images: 0,
        })?;
        let failed = |class, message: String| Some(EventKind::Failed { class, message });
        let how = match (end.code, end.signal) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        };
        let last = match (end.code, verdict) {
            // It has said so itself.
            _ if reports.has_failed() => None,
            (Some(0), Ok(())) if is_final => Some(EventKind::Finished {
                step: reports.step(),
            }),
            // Whatever it makes of it: it was asked to leave before it was done.
            _ if stopped => failed(
                FailureClass::Killed,
                match end.code {
                    Some(0) => {
                        "asked to stop; the program left without saying that its results are the last".to_owned()
                    }
                    _ => format!("asked to stop; the program {how}"),
                },
            ),
            (Some(0), Err((class, message))) => failed(class, message),
            // The exit speaks for itself.
            _ => None,
        };
        let done = matches!(last, Some(EventKind::Finished { .. }));
        if let Some(kind) = last {
            log.append(kind)?;
        }
        log.sync()?;
        if done {
            // All of it is in the log. Where it can't be removed it does no harm.
            for attempt in 1..=self.launch.attempt {
                let _ = std::fs::remove_file(self.dir.reports(attempt));
            }
        }
        Ok(())
    }

    /// Whether the program has said of all that it promised that it is the result.
    fn has_last(&self, reports: &Reports) -> bool {
        let metrics = reports.metrics();
        let is_last = |name: &String| {
            metrics
                .iter()
                .any(|(measure, measured)| measured.last && promised_name(measure) == *name)
        };
        !self.program.metrics.is_empty() && self.program.metrics.iter().all(is_last)
    }

    /// Whether all that was promised is there; brings it to the disk. `fault`: what is wrong with `metrics.json`.
    fn verdict(
        &self,
        reports: &Reports,
        fault: Option<&str>,
    ) -> Result<(), (FailureClass, String)> {
        let found: Vec<String> = reports.metrics().keys().map(promised_name).collect();
        let missing: Vec<&str> = self
            .program
            .metrics
            .iter()
            .map(String::as_str)
            .filter(|name| !found.iter().any(|found| found == name))
            .collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let quoted = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        if !missing.is_empty() {
            let mut message = format!("exit code 0 without the promised {}", quoted(&missing));
            message.push_str(&match found.len() {
                0 => "; the program has reported no metric".to_owned(),
                1..=10 => format!("; it has reported {}", quoted(&found)),
                many => format!("; it has reported {many} others"),
            });
            if let Some(fault) = fault {
                message.push_str(&format!("; {fault}"));
            }
            return Err((FailureClass::Incomplete, message));
        }
        for (measure, measured) in reports.metrics() {
            if self.program.metrics.contains(&promised_name(measure)) && !measured.value.is_finite()
            {
                let message = format!("the promised `{}` is {}", measure.metric, measured.value);
                return Err((FailureClass::Diverged, message));
            }
        }
        for output in &self.program.outputs {
            let path = self.dir.work().join(output);
            self.keep(output, &path).map_err(|error| {
                let class = match error.kind() {
                    io::ErrorKind::NotFound => FailureClass::Incomplete,
                    io::ErrorKind::StorageFull => FailureClass::DiskFull,
                    _ => FailureClass::IoError,
                };
                let message =
                    format!("exit code 0 without the promised output `{output}`: {error}");
                (class, message)
            })?;
        }
        Ok(())
    }

    /// Brings an output to the disk; weights are put where children look for them.
    fn keep(&self, output: &str, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        if output != WEIGHTS {
            return Ok(());
        }
        let weights = self.dir.weights();
        let folder = self.dir.checkpoints();
        std::fs::create_dir_all(&folder)?;
        match std::fs::remove_file(&weights) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::hard_link(path, &weights).or_else(|_| std::fs::copy(path, &weights).map(drop))?;
        File::open(&folder)?.sync_all()
    }
}

/// The file that a program may leave its results in.
const RESULTS: &str = "metrics.json";

/// Largest such file.
const RESULTS_CAP: u64 = 1 << 20;

/// The bytes of a file, at most `cap`.
fn read_up_to(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)?.take(cap).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
