//! Processes and their host: who listens on a port, what a process has used (Linux `/proc`), signals, limits.
#![allow(clippy::disallowed_methods, reason = "env/ is where files are touched")]

use std::fs;
use std::io;
use std::path::Path;

/// Ticks of `/proc/PID/stat` per second; fixed by the kernel's interface on every Linux.
const TICKS_PER_SECOND: u64 = 100;
const LISTEN: &str = "0A";

/// What a process has used since it started, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its threads, dead ones included, in microseconds; grain 10 ms.
    pub cpu_us: u64,
    /// Bytes it caused to be written to the disk.
    pub written_bytes: u64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Times a thread of it, still alive, gave up or lost its core.
    pub context_switches: u64,
}

/// The usage of a process; an error if it is gone.
pub fn usage(process_id: u32) -> io::Result<Usage> {
    let folder = format!("/proc/{process_id}");
    let stat = fs::read_to_string(format!("{folder}/stat"))?;
    // The name in parentheses may hold anything; what follows it does not.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let io_text = fs::read_to_string(format!("{folder}/io"))?;
    let status = fs::read_to_string(format!("{folder}/status"))?;
    Ok(Usage {
        cpu_us: (field(11) + field(12)) * (1_000_000 / TICKS_PER_SECOND),
        written_bytes: named(&io_text, "write_bytes:"),
        resident_bytes: named(&status, "VmRSS:") * 1024,
        context_switches: switches(&folder)?,
    })
}

/// This process as Prometheus's libraries show one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OwnProcess {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// Since 1970.
    pub started_at_seconds: f64,
    pub open_files: u64,
    pub open_files_max: u64,
    pub threads: u64,
}

/// This process; what cannot be read is zero.
pub fn own() -> OwnProcess {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let booted_at = named(&fs::read_to_string("/proc/stat").unwrap_or_default(), "btime");
    let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND as f64;
    OwnProcess {
        cpu_seconds: seconds(field(11) + field(12)),
        resident_bytes: named(&status, "VmRSS:") * 1024,
        virtual_bytes: named(&status, "VmSize:") * 1024,
        started_at_seconds: booted_at as f64 + seconds(field(19)),
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        open_files_max: open_files_limit(),
        threads: named(&status, "Threads:"),
    }
}

fn switches(folder: &str) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("{folder}/task"))? {
        // A thread may end while we look.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
        sum += named(&status, "voluntary_ctxt_switches:") + named(&status, "nonvoluntary_ctxt_switches:");
    }
    Ok(sum)
}

/// The first number after a name at the start of a line.
fn named(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Whether a process is there and has not ended; one that nobody waited for has.
pub fn is_running(process_id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// The process that listens on a TCP port of this machine, if we may see it.
pub fn listener_of(port: u16) -> Option<u32> {
    let sockets: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|table| inode(table, port)).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(process_id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = |path: &Path| {
            fs::read_link(path).is_ok_and(|link| sockets.iter().any(|socket| link.to_str() == Some(socket)))
        };
        if files.flatten().any(|file| holds(&file.path())) {
            return Some(process_id);
        }
    }
    None
}

/// The listening socket of a port as the links in `/proc/PID/fd` name it.
fn inode(table: &str, port: u16) -> Option<String> {
    let wanted = format!(":{port:04X}");
    let text = fs::read_to_string(table).ok()?;
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTEN;
        is_it.then(|| format!("socket:[{}]", fields[9]))
    })
}

/// How many files this process may have open now.
pub fn open_files_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether this process can open no more files now.
pub fn is_out_of_files() -> bool {
    let too_many = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].map(|code| code.raw_os_error());
    let opened = fs::File::open("/dev/null");
    opened.is_err_and(|error| error.raw_os_error().is_some_and(|code| too_many.contains(&code)))
}

/// Lets this process open as many files as it may: a log of many segments needs them. Returns how many.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Refused, the limit stays what it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// How much address space this process may have (`ulimit -v`); `None` without a limit.
pub fn address_space_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// How much memory the control group of this process may have, or one of those around it; `None` without a limit.
pub fn group_memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest_limit(&groups, Path::new("/sys/fs/cgroup"))
}

/// Of the groups in `/proc/PID/cgroup`, of version 2 or 1, mounted there.
fn smallest_limit(groups: &str, mounted: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (root, file) = match controllers {
            "" => (mounted.to_owned(), "memory.max"),
            "memory" => (mounted.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        for folder in root.join(group).ancestors().take_while(|folder| folder.starts_with(&root)) {
            let limit = fs::read_to_string(folder.join(file)).ok().and_then(|text| text.trim().parse::<u64>().ok());
            // Version 1 says a huge number for none.
            if let Some(limit) = limit.filter(|limit| *limit < 1 << 60) {
                least = Some(least.map_or(limit, |least| least.min(limit)));
            }
        }
    }
    least
}

/// Whether the system refuses this process more memory now.
pub fn is_out_of_memory() -> bool {
    last_words::is_out_of_memory()
}

/// From now on an abort for lack of memory, wherever it comes from, writes this line and ends the process with this code.
pub fn say_when_out_of_memory(line: &str, code: u8) {
    last_words::set(line, code);
}

/// Keeps the kernel from giving this process memory in pages of 2 MiB: it clears each whole, and what is freed
/// and taken again in small parts would be cleared again and again.
pub fn use_small_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// Starts this program again in the place of this process, with the same arguments and under the same id. Returns only if that
/// fails.
pub fn start_again() -> io::Error {
    use std::os::unix::process::CommandExt;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // As it was started, also if another file was put in its place since.
    std::process::Command::new("/proc/self/exe").arg0(name).args(arguments).exec()
}

/// A signal to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Stands still.
    Stop,
    /// Goes on.
    Continue,
    /// Ends in good order.
    Terminate,
    /// Ends at once.
    Kill,
}

/// Signals a process.
pub fn signal(process_id: u32, signal: Signal) -> io::Result<()> {
    use rustix::process::{Pid, Signal as Posix, kill_process};
    let signal = match signal {
        Signal::Stop => Posix::STOP,
        Signal::Continue => Posix::CONT,
        Signal::Terminate => Posix::TERM,
        Signal::Kill => Posix::KILL,
    };
    let process = i32::try_from(process_id).ok().and_then(Pid::from_raw);
    Ok(kill_process(process.ok_or(io::ErrorKind::InvalidInput)?, signal)?)
}

/// A file to be written at its end: a log of another process.
pub fn append_to(path: &Path) -> io::Result<fs::File> {
    fs::File::options().create(true).append(true).open(path)
}

/// The kernel and the number of cores, for reports.
pub fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}

/// The host's name as the shell tells it, or `localhost`.
pub fn host_name() -> String {
    std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_the_groups_around_a_process_counts() {
        let mounted = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = mounted.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("memory.max", "max\n");
        put("a/memory.max", "1000\n");
        put("a/b/memory.max", "max\n");
        put("c/memory.max", "max\n");
        put("memory/d/memory.limit_in_bytes", "2000\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let limit = |groups| smallest_limit(groups, mounted.path());
        assert_eq!(limit("0::/a/b\n"), Some(1000));
        assert_eq!([limit("0::/c\n"), limit("0::/\n"), limit("")], [None; 3]);
        assert_eq!(limit("4:cpu:/x\n3:memory:/d\n0::/c\n"), Some(2000));
    }

    #[test]
    fn this_process_is_found_by_its_port_and_has_used_something() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let me = std::process::id();
        assert_eq!(listener_of(listener.local_addr().unwrap().port()), Some(me));
        let usage = usage(me).unwrap();
        assert!(is_running(me) && !is_running(u32::MAX));
        assert!(usage.resident_bytes > 100_000, "{usage:?}");
        assert!(usage.context_switches > 0, "{usage:?}");
        let own = own();
        assert!(own.open_files > 2 && own.open_files_max >= own.open_files && own.threads > 1, "{own:?}");
        assert!(own.started_at_seconds > 1e9 && own.resident_bytes > 100_000, "{own:?}");
    }
}
