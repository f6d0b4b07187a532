//! Asks other programs for one line, such as their version.
//!
//! It never starts a program that keeps running.

use std::process::Command;

/// The first line that a program prints; nothing where there is no such program.
pub(crate) fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
