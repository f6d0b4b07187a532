//! Writes the manual pages of the three programs: `man DIRECTORY DATE`. One page for each command, named as `git-log`
//! is for `git log`.
//!
//! An example, so that no shipped program carries what writes them.

use std::{env, error::Error, fs, path::Path};

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let directory = arguments.next().ok_or("which directory?")?;
    let date = arguments.next().ok_or("which date? Such as 2026-11-24")?;
    fs::create_dir_all(&directory)?;
    for program in
        [ca_daemon::cli::command(), api_server::config::Arguments::command(), api_client::cli::Arguments::command()]
    {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        write(&program, Path::new(&directory), &date)?;
    }
    Ok(())
}

/// The page of a command, and those of the commands beneath it.
fn write(command: &Command, directory: &Path, date: &str) -> Result<(), Box<dyn Error>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let source = format!("{name} {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).title(name.to_uppercase()).date(date).source(source);
    let mut text = Vec::new();
    page.render(&mut text)?;
    // What the help has at its end: examples, and for a program its exit codes and environment.
    let text = String::from_utf8(text)?.replace("\n.SH EXTRA\nExamples:\n", "\n.SH EXAMPLES\n");
    let text = text.replace("\n.SH EXTRA\n", "\n.SH NOTES\n");
    fs::write(directory.join(format!("{name}.1")), text)?;
    command.get_subcommands().try_for_each(|command| write(command, directory, date))
}
