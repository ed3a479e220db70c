//! Options that every command has, how their texts are read, and what they give the commands.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use crate::model::limits::{KEPT_MAX, KEPT_MIN};
use crate::model::{Millis, units};

use crate::client::name_server::{self, Answers};
use crate::client::{Address, Admin, ClientIdentity, Connection, Endpoints, Error, Tls};

use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::tls_options::TlsOptions;

const ENDPOINTS_DEFAULT: &str = "127.0.0.1:8081";
const GRPC_PORT: u16 = 8081;
const NAME_SERVER_PORT: u16 = 9876;
/// A name server is not waited for longer.
const NAME_SERVER_WITHIN: Duration = Duration::from_secs(1);
/// More than any message, and than a measured write of a disk.
const BYTE_COUNT_MAX: usize = 1 << 30;
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// More columns, where there are more
    Wide,
    /// One document with a schema field
    Json,
    /// One object a line
    Jsonl,
}

impl Format {
    /// Whether people read it.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Options before or after any command.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Nodes or name servers [env: RAFTMQ_ENDPOINTS, NAMESRV_ADDR] [default: 127.0.0.1:8081]
    #[arg(short = 'n', long, global = true, value_name = "ADDR[;ADDR]")]
    pub endpoints: Option<String>,
    /// How results are printed
    #[arg(short = 'o', long, global = true, value_enum, value_name = "FMT", default_value = "table")]
    pub output: Format,
    /// Per request, such as 5s or 500ms
    #[arg(long, global = true, value_name = "DUR", default_value = "5s", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub tls: TlsOptions,
    /// No progress, no talk
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say what is tried again and why
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// A length of time such as `5s`, `500ms`, `2m`, `1h`; more than zero, at most a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    match units::time(text, None).map(Duration::from) {
        Some(length) if !length.is_zero() && length <= DURATION_MAX => Ok(length),
        Some(_) => Err(format!("'{text}' is not between 1ms and 24h")),
        None => Err(format!("'{text}' is not a time such as 500ms, 5s, 2m or 1h")),
    }
}

/// How long messages are kept, such as `7d`, `36h`, `90s`; `default` is 0, which stands for as long as the log.
pub fn retention(text: &str) -> Result<Millis, String> {
    if text == "default" {
        return Ok(Millis(0));
    }
    match units::time(text, None) {
        Some(kept_for) if (KEPT_MIN..=KEPT_MAX).contains(&kept_for) => Ok(kept_for),
        Some(_) => Err(format!("'{text}' is not between {} and {}", KEPT_MIN.in_one_unit(), KEPT_MAX.in_one_unit())),
        None => Err(format!("'{text}' is not a time such as 90s, 2m, 36h or 7d, and not default")),
    }
}

/// A number of bytes such as `200`, `4KiB`, `1MiB`, from 1 on. What they are sizes of has bounds of its own.
pub fn byte_count(text: &str) -> Result<usize, String> {
    let bytes = units::size(text).ok_or_else(|| format!("'{text}' is not a size such as 200, 4KiB or 1MiB"))?;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| (1..=BYTE_COUNT_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("'{text}' is not between 1 and {}", units::size_text(BYTE_COUNT_MAX as u64)))
}

/// With `-v`, logs what the client does to stderr.
pub fn start_log(global: &Global) {
    if global.verbose {
        let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false);
        // Fails only if a log was started before, which then serves as well.
        let _ = log.with_max_level(tracing::Level::INFO).try_init();
    }
}

/// What the environment sets, if it is not empty.
fn of_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

impl Global {
    /// The addresses given, by the environment, or those of fast-try; of a name server, those of the nodes that it knows.
    pub fn endpoints(&self) -> Result<Endpoints, Failure> {
        let text = self.addresses();
        let given =
            Endpoints::parse(&text).map_err(|error| Failure::new(Exit::Usage, format!("endpoints: {error}")))?;
        // Name servers speak no TLS.
        if text.contains("https://") {
            return Ok(beside_name_servers(given));
        }
        let within = self.timeout.min(NAME_SERVER_WITHIN);
        // No name server has that port.
        for address in given.addresses().iter().filter(|address| address.port != GRPC_PORT) {
            match name_server::ask(address, within) {
                Answers::NameServer(groups) => return nodes_of(address, &groups),
                Answers::Other => return Ok(given),
                Answers::Nothing => {}
            }
        }
        if given.addresses().iter().any(|address| address.port == NAME_SERVER_PORT) && !self.quiet {
            eprintln!(
                "note: no name server answers on port {NAME_SERVER_PORT}; port {GRPC_PORT} of that host is tried too"
            );
        }
        Ok(beside_name_servers(given))
    }

    fn addresses(&self) -> String {
        self.endpoints
            .clone()
            .or_else(|| of_environment("RAFTMQ_ENDPOINTS"))
            .or_else(|| of_environment("NAMESRV_ADDR"))
            .unwrap_or_else(|| ENDPOINTS_DEFAULT.to_owned())
    }

    /// How TLS is spoken, if it is asked for or the addresses say so.
    fn tls(&self) -> Result<Option<Tls>, Failure> {
        self.tls.read(self.addresses().contains("https://"), of_environment, crate::env::disk::read_text)
    }
}

/// What a command works with.
pub struct Context {
    /// The options.
    pub global: Global,
    /// Channels to the cluster.
    pub connection: Arc<Connection>,
    /// Administration of the cluster.
    pub admin: Admin,
}

impl Context {
    /// Reads the addresses; connects to nothing yet.
    pub fn new(global: Global) -> Result<Self, Failure> {
        let usage = |error| Failure::new(Exit::Usage, format!("endpoints: {error}"));
        let endpoints = global.endpoints()?;
        let identity = ClientIdentity {
            host: crate::env::host_name(),
            process_id: std::process::id(),
            unique: crate::env::rng::random_u64(),
            now: crate::env::clock::wall,
            tls: global.tls()?,
        };
        let connection = Arc::new(Connection::new(&endpoints, global.timeout, identity).map_err(usage)?);
        Ok(Self { global, admin: Admin::new(connection.clone()), connection })
    }

    /// Administration of one node and no other.
    pub fn admin_of(&self, address: &str) -> Result<Admin, Failure> {
        let usage = |error| Failure::new(Exit::Failed, format!("a node's address '{address}': {error}"));
        let endpoints = Endpoints::parse(address).map_err(usage)?;
        let identity = self.connection.identity().clone();
        let connection = Connection::new(&endpoints, self.global.timeout, identity).map_err(usage)?;
        Ok(Admin::new(Arc::new(connection)))
    }

    /// Says something to the person at the terminal, unless `-q` forbids it.
    pub fn say(&self, text: &str) {
        if !self.global.quiet {
            eprintln!("{text}");
        }
    }

    /// Whether progress may be drawn.
    pub fn has_progress(&self) -> bool {
        !self.global.quiet && std::io::stderr().is_terminal()
    }

    /// The failure for an error about `subject`; a missing topic gets the name of a similar one.
    pub async fn failure(&self, error: &Error, subject: Subject<'_>) -> Failure {
        let failure = Failure::of(error, subject);
        let Some(topic) = subject.topic().filter(|_| Failure::is_topic_missing(error)) else { return failure };
        let topics = self.admin.list_topics().await.unwrap_or_default();
        match similar(topic, topics.iter().map(|topic| topic.name.as_str())) {
            Some(name) => failure.remedy("similar:", name),
            None => failure,
        }
    }
}

/// The nodes that a name server knows, if they are of one group: commands are for one.
fn nodes_of(name_server: &Address, groups: &BTreeMap<String, Vec<Address>>) -> Result<Endpoints, Failure> {
    let list = |addresses: &[Address]| addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(";");
    match groups.iter().collect::<Vec<_>>().as_slice() {
        [(_, addresses)] => Endpoints::parse(&list(addresses))
            .map_err(|error| Failure::new(Exit::CannotConnect, format!("the nodes that {name_server} knows: {error}"))),
        [] => Err(Failure::new(Exit::CannotConnect, format!("the name server {name_server} knows no node"))
            .remedy("look:", "namesrvAddr in the nodes' files, and whether they run")),
        groups => {
            let what = format!("the name server {name_server} knows several groups, and a command is for one");
            let failure = Failure::new(Exit::Usage, what);
            Err(groups.iter().fold(failure, |failure, (name, addresses)| {
                failure.remedy(&format!("{name}:"), format!("raftmq -n '{}' ...", list(addresses)))
            }))
        }
    }
}

/// Adds the gRPC port of each host that was given with a name server's port.
fn beside_name_servers(endpoints: Endpoints) -> Endpoints {
    let hosts: Vec<Address> =
        endpoints.addresses().iter().filter(|address| address.port == NAME_SERVER_PORT).cloned().collect();
    hosts.into_iter().fold(endpoints, |endpoints, address| endpoints.with(Address { port: GRPC_PORT, ..address }))
}

/// The name most like `wanted`, if any is like it at all.
fn similar<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("24h"), Ok(DURATION_MAX));
        assert_eq!(duration("1d"), Ok(DURATION_MAX));
        for wrong in ["5", "", "s", "0s", "25h", "-1s", "1.5s", "18446744073709551615h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_retention_is_a_length_within_the_limits_or_default() {
        assert_eq!(retention("7d"), Ok(Millis::from_secs(7 * 24 * 3600)));
        assert_eq!(retention("1s"), Ok(KEPT_MIN));
        assert_eq!(retention("2147483647h"), Ok(KEPT_MAX));
        assert_eq!(retention("default"), Ok(Millis(0)));
        for (wrong, why) in [
            ("999ms", "'999ms' is not between 1s and 2147483647h"),
            ("0s", "'0s' is not between 1s and 2147483647h"),
            ("2147483648h", "'2147483648h' is not between 1s and 2147483647h"),
            ("7", "'7' is not a time such as 90s, 2m, 36h or 7d, and not default"),
            ("18446744073709551615d", "'18446744073709551615d' is not between 1s and 2147483647h"),
        ] {
            assert_eq!(retention(wrong), Err(why.to_owned()));
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit_and_mean_the_same_as_in_a_configuration() {
        assert_eq!(byte_count("200"), Ok(200));
        assert_eq!(["4KB", "4KiB", "4k"].map(|text| byte_count(text).unwrap()), [4096; 3]);
        assert_eq!(byte_count("1mib"), Ok(1024 * 1024));
        assert_eq!(byte_count("1GiB"), Ok(1 << 30));
        for (wrong, why) in [
            ("", "'' is not a size such as 200, 4KiB or 1MiB"),
            ("KB", "'KB' is not a size such as 200, 4KiB or 1MiB"),
            ("1.5KB", "'1.5KB' is not a size such as 200, 4KiB or 1MiB"),
            ("-1", "'-1' is not a size such as 200, 4KiB or 1MiB"),
            ("0", "'0' is not between 1 and 1GiB"),
            ("1025MiB", "'1025MiB' is not between 1 and 1GiB"),
        ] {
            assert_eq!(byte_count(wrong), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_name_server_s_address_leads_to_the_grpc_port() {
        let endpoints = |text: &str| beside_name_servers(Endpoints::parse(text).unwrap()).to_string();
        assert_eq!(endpoints("a:9876;b:9876"), "a:9876;b:9876;a:8081;b:8081");
        assert_eq!(endpoints("a:8081;a:9876"), "a:8081;a:9876");
    }

    #[test]
    fn the_nodes_of_one_group_are_taken_and_of_several_the_user_chooses() {
        let server = Address::parse("ns:9876").unwrap();
        let group = |name: &str, ports: [u16; 2]| {
            (name.to_owned(), ports.map(|port| Address { host: "h".into(), port }).to_vec())
        };
        let of = |groups: &[(String, Vec<Address>)]| nodes_of(&server, &groups.iter().cloned().collect());
        let one = group("a", [10911, 10921]);
        assert_eq!(of(std::slice::from_ref(&one)).unwrap().to_string(), "h:10911;h:10921");
        assert_eq!(of(&[]).unwrap_err().exit, Exit::CannotConnect);
        assert_eq!(of(&[one, group("b", [1, 2])]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_similar_name_is_found_and_an_unlike_one_is_not() {
        let names = ["orders", "demo", "payments"];
        assert_eq!(similar("order", names.into_iter()), Some("orders"));
        assert_eq!(similar("xyz", names.into_iter()), None);
    }
}
