//! The last words of a process that gets no more memory: a line on stderr, and a code of its own.
//!
//! * Rust ends a process by `abort` when there is no memory: signal 6, which a shell shows as 134, with words that name no
//!   cause. A handler of that signal asks the system for memory, and if it gets none, it was that. An abort for any other
//!   reason stays what it is.
//! * C++ throws an exception. RocksDB is not written for that: on its way it meets locks that its own thread holds, and the
//!   process stands still for ever. So the process ends where C++ is refused memory, before anything is thrown.

use std::sync::OnceLock;

/// If so much is refused, memory is why the process was aborted: more than one allocation or the stack of a thread takes.
const PROBE_BYTES: usize = 64 << 20;
const STDERR: libc::c_int = 2;

struct LastWords {
    line: String,
    code: libc::c_int,
}

static LAST_WORDS: OnceLock<LastWords> = OnceLock::new();

/// From now on, lack of memory writes this line to stderr and ends the process with this code. The first call counts.
pub fn set(line: &str, code: u8) {
    if LAST_WORDS.set(LastWords { line: format!("{line}\n"), code: code.into() }).is_ok() {
        // SAFETY: the handler calls only what a handler may, and reads what is written before it is installed.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_abort as *const () as libc::sighandler_t;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGABRT, &raw const action, std::ptr::null_mut());
        }
    }
}

/// Whether the system would give this process some more memory now.
pub fn is_out_of_memory() -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory that nothing refers to, and that is given back at once.
    unsafe {
        let probe = libc::mmap(std::ptr::null_mut(), PROBE_BYTES, protection, flags, -1, 0);
        if probe == libc::MAP_FAILED {
            return true;
        }
        libc::munmap(probe, PROBE_BYTES);
    }
    false
}

/// Returns if memory is not why: then the abort goes on.
extern "C" fn on_abort(_signal: libc::c_int) {
    if is_out_of_memory() {
        end();
    }
}

/// What the library of C++ calls when an allocation is refused: its `std::get_new_handler`, by the name that it has on every
/// Linux. To set one with `std::set_new_handler` is not enough: mimalloc has a function of this name, which says that there is
/// none and hides the library's.
// SAFETY: the function has the type that C++ expects of this name.
#[unsafe(export_name = "_ZSt15get_new_handlerv")]
extern "C" fn get_new_handler() -> Option<extern "C" fn()> {
    LAST_WORDS.get().map(|_| end as extern "C" fn())
}

/// Returns only if nobody has set what to say.
extern "C" fn end() {
    let Some(LastWords { line, code }) = LAST_WORDS.get() else { return };
    // SAFETY: both may be called in a handler.
    unsafe {
        libc::write(STDERR, line.as_ptr().cast(), line.len());
        libc::_exit(*code);
    }
}
