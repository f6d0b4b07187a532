//! One process: starts it, reads its output, waits for it and stops it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The time limit for anything that should happen by itself. It is much longer than needed, because the machine may be
/// busy.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// The program `name` of this workspace, in the same build as the running test or program.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running test has a path");
    // Tests are in target/PROFILE/deps, programs in the directory above.
    let path = own.ancestors().find(|path| !path.ends_with("deps") && path.is_dir()).unwrap_or(&own).join(name);
    assert!(path.exists(), "{} is not built; run: cargo build --workspace", path.display());
    path
}

/// The example `name` of this package, which `cargo test` builds, and `cargo build --workspace --examples`.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let path = binary("ca-daemon").with_file_name("examples").join(name);
    assert!(path.exists(), "{} is not built; run: cargo build --workspace --examples", path.display());
    path
}

/// The result of a command that has ended.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Itself, if the exit code was 0.
    #[must_use]
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// The JSON document on standard output.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs a command to its end, without standard input.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command, and interrupts it (SIGINT) after this number of matching lines.
pub(crate) fn interrupt_when(command: &mut Command, is_one: impl Fn(&str) -> bool, count: usize) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut stdout, mut said) = (String::new(), 0);
    for line in BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines() {
        let line = line.expect("what it says is UTF-8");
        said += usize::from(is_one(&line));
        stdout = stdout + &line + "\n";
        if said == count {
            // One signal is enough; the rest of the output is read to its end.
            kill_process(Pid::from_child(&child), Signal::INT).expect("the process runs");
            said += 1;
        }
    }
    let output = child.wait_with_output().expect("it is our child");
    Output { status: output.status, stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Waits until `condition` returns a value.
pub fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A process that runs until it is stopped; killed when it goes out of scope.
#[derive(Debug)]
pub struct Process {
    child: Child,
    // Behind a mutex, so that threads can share a struct with processes.
    lines: Mutex<mpsc::Receiver<String>>,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its standard error goes to the end of the file `log`.
    #[must_use]
    pub fn start(program: impl AsRef<OsStr>, log: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        Self::launch(Command::new(program), log, configure)
    }

    /// The same with a program that has arguments already.
    #[must_use]
    pub fn launch(mut command: Command, log: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        let errors = File::options().create(true).append(true).open(log).expect("the log can be written");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        configure(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that the process never blocks on a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines: Mutex::new(lines), log: log.to_owned() }
    }

    /// The next line on its standard output.
    #[must_use]
    pub fn line(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line ({error}); its log:\n{}", self.log()))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same, as the operating system takes it.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process runs");
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.end_with(Signal::TERM)
    }

    /// Limits it to a tenth of the CPU time until `work` returns.
    pub fn slowed<T>(&self, work: impl FnOnce() -> T) -> T {
        // Dropped with the work, also where that panics.
        let (working, is_over) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                loop {
                    self.signal(Signal::STOP);
                    thread::sleep(Duration::from_millis(90));
                    self.signal(Signal::CONT);
                    if is_over.recv_timeout(Duration::from_millis(10)) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            });
            let _working = working;
            work()
        })
    }

    /// Sends a signal, and waits until it has ended.
    pub fn end_with(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait()
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        wait_until("the process ends", || self.child.try_wait().expect("it is our child"))
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        #[expect(clippy::print_stderr, reason = "a failed test shows what the processes said")]
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}
