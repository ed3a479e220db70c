//! `raftmq config`: check and show configurations without starting anything.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::exit::Exit;
use crate::cli::options::Format;
use crate::config::{self, ENVIRONMENT_PREFIX, Loaded, Sources};

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether files can be started with
    #[command(
        after_long_help = "Examples:\n  raftmq config check conf/dledger/broker-n0.conf\n  raftmq config check conf/dledger/*.conf"
    )]
    Check {
        /// Property files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show every value in force and where it comes from
    #[command(
        after_long_help = "Examples:\n  raftmq config show --effective -c conf/dledger/broker-n0.conf\n  raftmq config show --effective -D flushDiskType=ASYNC_FLUSH -o json"
    )]
    Show(ShowArgs),
}

/// See [`ConfigCommand::Show`].
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// All values, also those that were not set
    #[arg(long)]
    effective: bool,
    /// Property file
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Set a key, over file and environment
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = key_value)]
    define: Vec<(String, String)>,
}

/// Splits `key=value`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not like key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The keys set in the environment. Variables that are no text have nothing to do with this, or no key has such a value:
/// what cannot be read shows as U+FFFD and is refused where it matters.
fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os()
        .filter_map(|(name, value)| Some((text(name).strip_prefix(ENVIRONMENT_PREFIX)?.to_owned(), text(value))))
        .collect()
}

/// Reads a configuration; the error is ready to print.
pub(super) fn load(
    file: Option<&Path>,
    define: &[(String, String)],
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<Loaded, String> {
    let text = match file {
        Some(path) => {
            Some((path.display().to_string(), read(path).map_err(|error| format!("{}: {error}", path.display()))?))
        }
        None => None,
    };
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    config::load(&Sources { file, environment: environment(), flags: define.to_vec() })
        .map_err(|errors| errors.to_string())
}

/// Runs the command, printing to the given writers.
pub fn run(
    command: &ConfigCommand,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
    read: impl Fn(&Path) -> io::Result<String>,
) -> io::Result<Exit> {
    match command {
        ConfigCommand::Check { files } => {
            let mut exit = Exit::Ok;
            for file in files {
                match load(Some(file), &[], &read) {
                    Ok(loaded) => {
                        for warning in loaded.warnings {
                            writeln!(err, "warning: {warning}")?;
                        }
                        writeln!(out, "{}: ok", file.display())?;
                    }
                    Err(errors) => {
                        writeln!(err, "error: {errors}")?;
                        exit = Exit::Usage;
                    }
                }
            }
            Ok(exit)
        }
        ConfigCommand::Show(args) => match load(args.config.as_deref(), &args.define, read) {
            Ok(loaded) => {
                show(&loaded, args, format, out)?;
                Ok(Exit::Ok)
            }
            Err(errors) => {
                writeln!(err, "error: {errors}")?;
                Ok(Exit::Usage)
            }
        },
    }
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    value: &'a str,
    origin: String,
}

fn show(loaded: &Loaded, args: &ShowArgs, format: Format, out: &mut dyn Write) -> io::Result<()> {
    let is_shown = |value: &&config::Effective| args.effective || value.origin != config::Origin::Default;
    let rows: Vec<_> = loaded
        .effective
        .iter()
        .filter(is_shown)
        .map(|value| Row { key: value.key, value: &value.value, origin: value.origin.to_string() })
        .collect();
    match format {
        Format::Json => {
            let value = serde_json::json!({ "schema": "raftmq.config.v1", "values": rows });
            writeln!(out, "{}", serde_json::to_string_pretty(&value).map_err(io::Error::other)?)
        }
        Format::Jsonl => {
            for row in rows {
                writeln!(out, "{}", serde_json::to_string(&row).map_err(io::Error::other)?)?;
            }
            Ok(())
        }
        Format::Table | Format::Wide => {
            for row in rows {
                writeln!(out, "{:<28} {:<56} {}", row.key, row.value, row.origin)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let command = ConfigCommand::Check { files: vec!["a.conf".into()] };
        let exit = run(&command, Format::Table, &mut out, &mut err, |_| Ok(text.to_owned())).unwrap();
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_good_file_is_ok_and_a_bad_one_says_where() {
        assert_eq!(
            check("brokerName=a\n"),
            (
                Exit::Ok,
                "a.conf: ok\n".into(),
                "warning: one node only: nothing is replicated; list the members in dLegerPeers\n".into()
            )
        );
        let (exit, out, err) = check("brokerNam=a\n");
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err, "error: a.conf:1: unknown key 'brokerNam'; did you mean 'brokerName'?\n");
    }
}
