//! `raftmq bench picture`: reports side by side.

use crate::bench::picture;
use crate::bench::report::Report;
use crate::cli::bench::output::print;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::env::disk;

#[derive(Debug, Clone, clap::Args)]
pub struct PictureArgs {
    /// A label and a report
    #[arg(required = true, value_name = "LABEL=FILE")]
    reports: Vec<String>,
}

pub(super) fn run(args: &PictureArgs) -> Result<(), Failure> {
    let read = |text: &String| {
        let unusable = |why: &dyn std::fmt::Display| Failure::new(Exit::Usage, format!("'{text}': {why}"));
        let (label, path) = text.split_once('=').ok_or_else(|| unusable(&"is not LABEL=FILE"))?;
        let json = disk::read_text(path.as_ref()).map_err(|error| unusable(&error))?;
        let report: Report = serde_json::from_str(&json).map_err(|error| unusable(&error))?;
        Ok((label.to_owned(), report))
    };
    print(&picture::svg(&args.reports.iter().map(read).collect::<Result<Vec<_>, Failure>>()?))
}
