//! Three real nodes whose processes are killed, stopped and cut off.

mod all_kinds;
mod clock;
mod disk;
mod full_disk;
mod handles;
mod kills;
mod majority;
mod panics;
mod purge;
mod retention;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
