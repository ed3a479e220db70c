//! The thread that writes the log file, and lets a level of a while end.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::logging::file::RotatingFile;
use crate::logging::queue::LineQueue;
use crate::logging::targets::ANNOUNCEMENTS;
use crate::logging::{level, status};

/// A file that cannot be written is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// And reported as often.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Runs for as long as the process.
pub(super) fn run(queue: &LineQueue, file: Option<RotatingFile>) -> ! {
    if let Some(file) = &file {
        status::set(file.path(), None);
    }
    let mut writer = Writer { file, reported: None, dropped: 0 };
    loop {
        let taken = queue.take(level::fall_back());
        writer.dropped += taken.dropped;
        let mut left = &taken.bytes[..];
        // Meanwhile the queue fills, and what finds no room is counted.
        while let Err(written) = writer.write(left) {
            left = &left[written..];
            std::thread::sleep(RETRY_AFTER);
            level::fall_back();
        }
    }
}

struct Writer {
    file: Option<RotatingFile>,
    /// When it was last said that the file cannot be written.
    reported: Option<Instant>,
    /// Lines that were lost and are not reported yet.
    dropped: u64,
}

impl Writer {
    /// * Errors: how many bytes are written, if not all are.
    fn write(&mut self, lines: &[u8]) -> Result<(), usize> {
        let Some(file) = self.file.as_mut().filter(|_| !lines.is_empty()) else { return Ok(()) };
        let path = file.path();
        match file.write(lines) {
            Ok(()) => {
                let failed = self.reported.take().is_some();
                if failed {
                    status::set(path.clone(), None);
                }
                let dropped = std::mem::take(&mut self.dropped);
                if failed {
                    tracing::warn!(target: ANNOUNCEMENTS, dropped, file = %path.display(), "the log file is written again");
                } else if dropped > 0 {
                    tracing::warn!(target: ANNOUNCEMENTS, dropped, file = %path.display(), "more lines came than the log file took");
                }
                Ok(())
            }
            Err((written, error)) => {
                status::set(path.clone(), Some(error.to_string()));
                self.report(&path, &error);
                Err(written)
            }
        }
    }

    fn report(&mut self, path: &Path, error: &io::Error) {
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        tracing::warn!(
            target: ANNOUNCEMENTS,
            %error,
            file = %path.display(),
            "the log file cannot be written: lines go to stderr, and it is tried again every second"
        );
    }
}
