//! Starts the log of this process: one formatter, stderr, and the thread of the file.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, reload};

use crate::env::disk::RealDisk;
use crate::logging::file::RotatingFile;
use crate::logging::queue::LineQueue;
use crate::logging::targets::shown;
use crate::logging::{level, thread};

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where log files are, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Made if it is not there.
    pub folder: PathBuf,
    /// A file of this size is followed by the next one.
    pub bytes_max: u64,
    /// So many are kept beside the one that is written.
    pub kept: u32,
}

/// A process that ends waits this long at most for its last lines to be in the file.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);

static TO_FILE: OnceLock<Arc<LineQueue>> = OnceLock::new();

/// Starts logging. To be called once.
pub fn start(level: Level, format: Format, files: Option<Files>) {
    let queue = Arc::new(LineQueue::default());
    let (filter, handle) = reload::Layer::new(shown(level));
    let lines = Lines { queue: files.is_some().then(|| queue.clone()) };
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => registry.with(fmt::layer().with_ansi(false).with_target(false).with_writer(lines)).try_init(),
        Format::Json => registry.with(fmt::layer().json().with_writer(lines)).try_init(),
    };
    // A second start fails, which only tests can bring about; the first one's lines go on.
    if started.is_err() {
        return;
    }
    level::control(handle, level, queue.clone());
    if files.is_some() {
        let _ = TO_FILE.set(queue.clone());
    }
    let file = files.map(|files| RotatingFile::new(Box::new(RealDisk), &files.folder, files.bytes_max, files.kept));
    let spawned = std::thread::Builder::new().name("log".to_owned()).spawn(move || thread::run(&queue, file));
    if let Err(error) = spawned {
        tracing::error!(%error, "log lines go to stderr only");
    }
}

/// Waits, but not long, until what was logged is in the file: before this process ends.
pub fn flush() {
    if let Some(queue) = TO_FILE.get() {
        queue.flush(LAST_LINES_WITHIN);
    }
}

/// Where formatted lines go.
struct Lines {
    queue: Option<Arc<LineQueue>>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Whoever reads stderr may be gone.
        let _ = io::stderr().write_all(line);
        if let Some(queue) = &self.queue {
            queue.put(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
