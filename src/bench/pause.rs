//! One side of a comparison stands still while the other is measured: what an idle server does meanwhile would be
//! counted against the other one.

use crate::bench::{Error, RunPlan};
use crate::env::process::{self, Signal};

/// Processes that stand still until this is dropped.
pub struct Paused(Vec<u32>);

impl Paused {
    /// The servers that a plan watches.
    ///
    /// * Errors: they are on another machine, or not ours to stop.
    pub fn servers(plan: &RunPlan) -> Result<Self, Error> {
        let servers = plan.servers()?;
        if servers.is_empty() {
            let text = "no process of this machine that we may see listens on one of the addresses to be paused";
            return Err(Error::Machine(text.to_owned()));
        }
        Self::processes(servers)
    }

    fn processes(ids: Vec<u32>) -> Result<Self, Error> {
        // From here on, those stopped before one that cannot be go on.
        let mut paused = Self(Vec::new());
        for id in ids {
            process::signal(id, Signal::Stop)
                .map_err(|error| Error::Machine(format!("process {id} cannot be paused: {error}")))?;
            paused.0.push(id);
        }
        Ok(paused)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for id in &self.0 {
            // It may have ended.
            let _ = process::signal(*id, Signal::Continue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until `/proc` says that a process is in this state.
    fn comes_to(id: u32, state: &str) {
        for _ in 0..500 {
            let stat = crate::env::disk::read_text(format!("/proc/{id}/stat").as_ref()).unwrap();
            if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("process {id} does not come to state {state}");
    }

    #[test]
    fn processes_stand_still_until_it_is_dropped_whatever_happens() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let paused = Paused::processes(vec![child.id()]).unwrap();
        comes_to(child.id(), "T");
        drop(paused);
        comes_to(child.id(), "S");
        let _paused = Paused::processes(vec![child.id()]).unwrap();
        comes_to(child.id(), "T");
        let refused = Paused::processes(vec![child.id(), i32::MAX as u32]).err().unwrap().to_string();
        assert!(refused.contains("2147483647 cannot be paused"), "{refused}");
        comes_to(child.id(), "S");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
