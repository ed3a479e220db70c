//! The process of a name server, from its configuration to its end.

use std::sync::Arc;

use crate::config::NamesrvConfig;
use crate::edge::listener;
use crate::env::{host_name, process, runtime};
use crate::model::HostPort;
use crate::namesrv::NameServer;
use crate::server::Error;
use crate::server::security::security;
use crate::server::signals::Signals;

/// Serves until a signal ends it. `settings` is its configuration, as tools see it.
pub fn run_name_server(config: &NamesrvConfig, settings: String) -> Result<(), Error> {
    let _ = process::raise_open_files();
    let port = listener::bind(&config.bind_address, config.listen_port).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::PortInUse(error),
        _ => Error::System(error.to_string()),
    })?;
    let security = security(&config.tls, &host_name())?;
    let system = |error: std::io::Error| Error::System(error.to_string());
    let runtime = runtime::of_one_thread().map_err(system)?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(system)?;
        let server = NameServer::new(settings);
        let server = if config.shows_order { server.showing_order() } else { server };
        let server = server.speaking_tls(security.tls);
        let serving = Arc::new(server).serve(port);
        let listen = HostPort { host: config.bind_address.clone(), port: config.listen_port };
        tracing::info!(%listen, version = env!("CARGO_PKG_VERSION"), "ready: this name server waits for brokers and clients");
        tokio::select! {
            ended = serving => ended.map_err(system)?,
            stopped = signals.stop() => stopped.map_err(system)?,
        }
        // What it knows is in the brokers; connections end with the process, and all dial another one or this one anew.
        tracing::info!("stopped");
        Ok(())
    })
}
