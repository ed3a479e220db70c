//! Three real nodes whose processes are killed, stopped and cut off.

mod all_kinds;
mod backup;
mod clock;
mod damage;
mod disk;
mod events;
mod files;
mod full_disk;
mod handles;
mod kills;
mod majority;
mod members;
mod old_folder;
mod panics;
mod planned_stop;
mod purge;
mod retention;
mod upgrade;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
